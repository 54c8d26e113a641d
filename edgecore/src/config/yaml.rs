//! Reads YAML into JSON values, within bounds: a configuration is small, whoever wrote it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

/// The greatest file in bytes. KubeEdge's with every default written out has 6 KiB.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads a file; none when it is not there.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub(crate) fn read(path: &Path) -> Result<Option<Value>, String> {
    let name = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {name}: {error}")),
    };
    let mut text = String::new();
    let read = file.take(MAX_FILE + 1).read_to_string(&mut text);
    let bytes = read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes as u64 > MAX_FILE {
        return Err(format!("{name} is over {MAX_FILE} bytes, expected a configuration"));
    }
    parse(&text).map(Some).map_err(|error| format!("{name}: {error}"))
}

/// Parses one document.
///
/// # Errors
/// What is wrong with it, and where, in one line.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_documents: 1,
            max_nodes: 50_000,
            max_events: 100_000,
            max_anchors: 100,
            max_aliases: 1000,
            max_total_scalar_bytes: 1024 * 1024,
        },
        with_snippet: false,
    };
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_yaml_and_nothing_is_a_document() {
        assert_eq!(
            parse("{\"a\": {\"b\": [1, \"x\", true, null]}}"),
            Ok(json!({"a": {"b": [1, "x", true, null]}}))
        );
        assert_eq!(parse("# nothing\n---\n").unwrap_or(Value::Null), Value::Null);
        assert_eq!(parse(""), Ok(Value::Null));
    }

    #[test]
    fn broken_and_boundless_documents_are_refused_in_one_line() {
        let deep = "[".repeat(1000);
        let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: &d [*c,*c]\n".to_owned()
            + &(0..20).map(|n| format!("k{n}: [*d,*d,*d,*d,*d,*d,*d,*d]\n")).collect::<String>()
            + &(0..200).map(|n| format!("z{n}: [*d,*d,*d,*d,*d,*d,*d,*d]\n")).collect::<String>();
        for text in ["a: [1", "a: 1\na: 2", "a: b: c", "\u{0}", &deep, &bomb] {
            let error = parse(text).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{text:.20}: {error}");
        }
    }
}
