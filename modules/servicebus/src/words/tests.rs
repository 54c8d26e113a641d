//! Requests and answers, as KubeEdge writes them.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn read(resource: &str, content: &str) -> Result<Call, Reply> {
    let content = Content::from_raw(Bytes::copy_from_slice(content.as_bytes()));
    call(&Resource::Text(resource.into()), &content)
}

#[test]
fn a_call_as_recorded_is_understood() {
    let content = r#"{"header":{"Accept":["*/*"]},"body":"ZnJvbSBj","method":"POST","url":""}"#;
    let call = read("6666:/target", content).unwrap();
    let headers = Headers::from([("Accept".to_owned(), vec!["*/*".to_owned()])]);
    let expected = Call {
        port: 6666,
        path: "/target".to_owned(),
        method: "POST".to_owned(),
        headers,
        body: b"from c".to_vec(),
    };
    assert_eq!(call, expected);
    assert_eq!(read("1:/", r#"{"body":null,"header":null}"#).unwrap().method, "GET");
}

#[test]
fn what_is_no_call_is_answered_with_its_fault() {
    for resource in ["", "80", "80:/a:b", ":/x", "0:/x", "65536:/x", "80:x", "80:@evil/", "80:/a b"]
    {
        let reply = read(resource, "{}").unwrap_err();
        assert_eq!(reply.status, 400, "{resource}");
        let said = format!("the format of resource {resource} is incorrect");
        assert_eq!(reply.body, said.as_bytes());
    }
    for content in ["null", "7", r#"{"body":"%"}"#, r#"{"header":7}"#, "{"] {
        let reply = read("80:/x", content).unwrap_err();
        assert_eq!(reply.body, b"error to parse http request", "{content}");
    }
}

#[test]
fn a_reply_has_the_routers_shape() {
    let content = Reply::error(404, "error to call service").content();
    let expected = r#"{"header":{"Server":["kubeedge-edgecore"]},"status_code":404,"body":"ZXJyb3IgdG8gY2FsbCBzZXJ2aWNl"}"#;
    assert_eq!(*content.raw(), expected);
}

#[test]
fn applications_ask_as_with_go() {
    let target = |body: &str| request(body.as_bytes()).map(|it| it.target);
    let full = r#"{"method":"POST","targetURL":"http://x","payload":{"a":1}}"#;
    assert_eq!(target(full).unwrap(), "http://x");
    assert_eq!(target(r#"{"TARGETurl":"http://x"}"#).unwrap(), "http://x");
    assert_eq!(target("{}").unwrap(), "");
    for bad in ["", "[]", "7", r#"{"targetURL":7}"#, r#"{"method":[]}"#] {
        assert_eq!(target(bad), None, "{bad}");
    }
}

#[test]
fn a_rule_ends_by_the_spelling_that_cloudcore_uses() {
    assert!(spellings("http:/x/y").contains(&"http://x/y".to_owned()));
    assert_eq!(spellings("http://x/y"), ["http://x/y"]);
}

proptest! {
    #[test]
    fn rubbish_is_no_crash(resource in ".{0,40}", content in ".{0,80}") {
        let _either = read(&resource, &content);
        let _either = request(content.as_bytes());
        let _some = spellings(&resource);
    }
}
