//! Reads a tree of values key by key and remembers everything that is wrong with it, so that the
//! operator hears of all errors at once.

use serde_json::{Map, Value};

/// All that is wrong, one line each: path, value, and what was expected.
pub(crate) type Errors = Vec<String>;

/// One mapping of a file. Keys that nobody took are unknown.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    path: String,
    keys: Map<String, Value>,
    taken: Vec<&'static str>,
    errors: &'a mut Errors,
}

impl<'a> Section<'a> {
    /// Takes a file's whole document. `name` is the file's.
    pub(crate) fn of(name: &str, document: Value, errors: &'a mut Errors) -> Self {
        let mut root =
            Self { path: format!("{name}: "), keys: Map::new(), taken: Vec::new(), errors };
        root.keys = root.mapping("the document", document);
        root
    }

    /// Takes a value apart that has to be a mapping; nothing is an empty one.
    fn mapping(&mut self, key: &str, value: Value) -> Map<String, Value> {
        match value {
            Value::Object(keys) => keys,
            Value::Null => Map::new(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.wrong(key, &show(&value), "a mapping of keys to values");
                Map::new()
            }
        }
    }

    /// Takes a key's value, if it is there and not null, and reads it. What cannot be read becomes
    /// an error that says what was `expected`.
    pub(crate) fn take<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.taken.push(key);
        let value = self.keys.remove(key).filter(|value| !value.is_null())?;
        let read = read(&value);
        if read.is_none() {
            self.wrong(key, &show(&value), expected);
        }
        read
    }

    /// Takes a key whose value is a mapping of its own; one that is missing is empty.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'_> {
        self.taken.push(key);
        let value = self.keys.remove(key).unwrap_or(Value::Null);
        let keys = self.mapping(key, value);
        let path = format!("{}{key}.", self.path);
        Section { path, keys, taken: Vec::new(), errors: self.errors }
    }

    /// Remembers that a value is wrong.
    pub(crate) fn wrong(&mut self, key: &str, value: &str, expected: &str) {
        let path = &self.path;
        self.errors.push(format!("{path}{key} is {value}, expected {expected}"));
    }

    /// Ends the section: keys that are left are errors.
    pub(crate) fn finish(self) {
        let expected = self.taken.join(", ");
        for key in self.keys.keys() {
            let path = &self.path;
            self.errors.push(format!("{path}{key} is unknown, expected one of {expected}"));
        }
    }
}

/// Shows a value as it was typed, within bounds.
pub(crate) fn show(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
