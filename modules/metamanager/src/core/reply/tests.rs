//! What is found in answers, and what is not taken for an object.

use super::*;

fn read(text: &str) -> Reply {
    Reply::read(&Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn objects_are_found_bare_and_in_the_envelope() {
    let object = r#"{"metadata":{"name":"c"}}"#;
    assert_eq!(read(object), Reply::Object(object.into()));
    assert_eq!(read(&format!(r#"{{"Object":{object},"Err":null}}"#)), Reply::Object(object.into()));
    assert_eq!(read(&format!(r#"{{"Object":{object}}}"#)), Reply::Object(object.into()));
    let zero = format!(r#"{{"Object":{object},"Err":{{"ErrStatus":{{"metadata":{{}}}}}}}}"#);
    assert_eq!(read(&zero), Reply::Object(object.into()));
}

#[test]
fn errors_are_never_taken_for_objects() {
    let status = r#"{"metadata":{},"status":"Failure","reason":"NotFound","code":404}"#;
    assert_eq!(read(&format!(r#"{{"ErrStatus":{status}}}"#)), Reply::NotFound);
    let wrapped = format!(r#"{{"Object":{{}},"Err":{{"ErrStatus":{status}}}}}"#);
    assert_eq!(read(&wrapped), Reply::NotFound);
    for text in [
        "{}",
        r#"{"Err":{}}"#,
        r#"{"Object":{"metadata":{}},"Err":{}}"#,
        r#"{"ErrStatus":{}}"#,
        r#"{"Object":null,"Err":{"ErrStatus":{"code":500}}}"#,
    ] {
        assert_eq!(read(text), Reply::Failed, "{text}");
    }
}

#[test]
fn anything_else_is_nobodys_object() {
    for text in [
        "",
        "null",
        "7",
        "[{\"metadata\":{}}]",
        "\"OK\"",
        "{",
        r#"{"Object":7,"Err":null}"#,
        r#"{"Object":{},"Err":null}"#,
        r#"{"Err":7,"metadata":{}}"#,
    ] {
        assert_eq!(read(text), Reply::Other, "{text}");
    }
}
