//! Sets keys in the text of `edgecore.yaml` and leaves all else to the letter, comments among it.
//! The outcome is read again and compared with what it has to mean: where a line cannot be changed
//! or added without touching more, the file stays as it is.

use serde_json::{Map, Value};

use super::edgecore_yaml::spelling;
use super::{defaults, reader};

/// Returns the text with keys set, each given as `KEY=VALUE` with dots in the key.
///
/// # Errors
/// Which key cannot be set, and why.
pub(super) fn edited(text: &str, set: &[String]) -> Result<String, String> {
    let known = defaults::tree();
    set.iter().try_fold(text.to_owned(), |text, pair| {
        let wrong = || format!("'{pair}', expected KEY=VALUE");
        let (place, value) = pair.split_once('=').ok_or_else(wrong)?;
        set_one(&text, place, value, &known)
    })
}

fn set_one(text: &str, place: &str, value: &str, known: &Value) -> Result<String, String> {
    let mut tree = reader::parse(text).map_err(|error| error.to_string())?;
    let (keys, default) = spelled(&tree, known, place)?;
    let value = typed(default, value);
    let before = tree.clone();
    put(&mut tree, &keys, value.clone());
    if tree == before {
        return Ok(text.to_owned());
    }
    let lines = in_lines(text, &keys, &value);
    // A file that is JSON has no comments to keep.
    let json = serde_json::from_str::<Value>(text).ok().map(|_| tree.to_string());
    let is_right = |text: &String| reader::parse(text).is_ok_and(|read| read == tree);
    lines.into_iter().chain(json).find(is_right).ok_or_else(|| match in_braces(text, &keys) {
        Some(line) => format!(
            "{place} cannot be set: line {line} of the file is a table in braces, expected a line for each key"
        ),
        None => format!(
            "{place} cannot be set: it has no line of its own, nor has the table that it belongs to"
        ),
    })
}

/// Returns the number of the line, from 1, where one of the keys, or the file, has all its table in
/// braces.
fn in_braces(text: &str, keys: &[String]) -> Option<usize> {
    let begins = |line: &str| {
        let values =
            keys.iter().filter_map(|key| line.strip_prefix(key.as_str())?.strip_prefix(':'));
        values.chain([line]).any(|value| value.trim_start().starts_with('{'))
    };
    Some(text.lines().position(|line| begins(line.trim_start()))? + 1)
}

/// Finds the keys of a place as the file spells them, or else the defaults; and the default there.
fn spelled<'k>(
    tree: &Value,
    known: &'k Value,
    place: &str,
) -> Result<(Vec<String>, Option<&'k Value>), String> {
    let (mut own, mut default) = (Some(tree), Some(known));
    let mut keys = Vec::new();
    for key in place.split('.') {
        let table = |value: Option<&Value>| -> Map<String, Value> {
            value.and_then(Value::as_object).cloned().unwrap_or_default()
        };
        let by_default = default
            .and_then(Value::as_object)
            .and_then(|table| Some((spelling(table, key)?, table)))
            .and_then(|(name, table)| Some((name.clone(), table.get(&name)?)));
        // Below a default that is no table, keys are the operator's own.
        let is_own =
            default.is_none_or(|it| it.is_null() || it.as_object().is_some_and(Map::is_empty));
        if by_default.is_none() && !is_own {
            return Err(format!("{place} is unknown: there is no key '{key}'"));
        }
        let name = spelling(&table(own), key)
            .or_else(|| by_default.as_ref().map(|(name, _)| name.clone()))
            .unwrap_or_else(|| key.to_owned());
        own = own.and_then(|own| own.get(&name));
        default = by_default.map(|(_, value)| value);
        keys.push(name);
    }
    Ok((keys, default))
}

/// Reads a value: a text where the default is one, else JSON where it is some.
fn typed(default: Option<&Value>, text: &str) -> Value {
    match default {
        Some(Value::String(_)) => text.into(),
        Some(_) | None => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
    }
}

fn put(tree: &mut Value, keys: &[String], value: Value) {
    let mut at = tree;
    for key in keys {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[key.as_str()];
    }
    *at = value;
}

/// Returns the text with one line changed, or with lines added.
fn in_lines(text: &str, keys: &[String], value: &Value) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut begin, mut end, mut indent) = (0, lines.len(), 0);
    for (depth, key) in keys.iter().enumerate() {
        let block = lines.get(begin..end)?;
        indent = block.iter().find_map(|line| indent_of(line)).unwrap_or(indent);
        let found = block.iter().position(|line| {
            let rest = line.trim_start().strip_prefix(key.as_str());
            indent_of(line) == Some(indent) && rest.is_some_and(|rest| rest.starts_with(':'))
        });
        let Some(found) = found else {
            let added = added(keys.get(depth..)?, value, indent);
            lines.splice(begin..begin, added);
            return Some(lines.join("\n") + "\n");
        };
        let line = begin + found;
        let rest = lines.get(line + 1..end)?;
        let below = rest.iter().position(|line| indent_of(line).is_some_and(|it| it <= indent));
        (begin, end) = (line + 1, line + 1 + below.unwrap_or(rest.len()));
        if depth + 1 == keys.len() {
            let comment = lines.get(line)?.find(" #").map(|at| lines[line][at..].to_owned());
            let comment = comment.unwrap_or_default();
            lines[line] = format!("{}{key}: {value}{comment}", " ".repeat(indent));
            return Some(lines.join("\n") + "\n");
        }
        indent += 2;
    }
    None
}

/// Returns lines that stand for a value at the end of these keys.
fn added(keys: &[String], value: &Value, indent: usize) -> Vec<String> {
    let last = keys.len().saturating_sub(1);
    let line = |(depth, key): (usize, &String)| {
        let margin = " ".repeat(indent + 2 * depth);
        if depth == last { format!("{margin}{key}: {value}") } else { format!("{margin}{key}:") }
    };
    keys.iter().enumerate().map(line).collect()
}

/// Returns how far a line is indented; none for one that says nothing.
fn indent_of(line: &str) -> Option<usize> {
    let said = line.trim_start_matches(' ');
    let silent = said.is_empty() || said.starts_with('#') || said.starts_with("---");
    (!silent).then(|| line.len() - said.len())
}

#[cfg(test)]
mod tests;
