//! The messages of D-Bus, in this host's own byte order: both ends are on it.

use super::Target;

/// The longest message that is taken, in bytes; those that are waited for have some hundred.
const MAX: usize = 1 << 20;

/// The bytes of a head before its fields.
const HEAD: usize = 16;

/// The mark of this host's byte order.
const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Answer,
    Error,
    Signal,
}

/// A message that came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) member: String,
    pub(super) error: String,
    /// The serial of the call that it answers; 0 for none.
    pub(super) answers: u32,
    pub(super) body: Vec<u8>,
    /// Its own serial.
    #[cfg(test)]
    pub(super) serial: u32,
}

/// The arguments of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(super) signature: String,
    pub(super) bytes: Vec<u8>,
}

fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    pad(bytes, 4);
    bytes.extend(number.to_ne_bytes());
}

/// Counts bytes; what is sent from here is short.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_u32(bytes, count(text.len()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    bytes.extend(signature.as_bytes());
    bytes.push(0);
}

/// Writes an array: its length, and from the first item on what `items` writes.
fn put_array(bytes: &mut Vec<u8>, align: usize, items: impl FnOnce(&mut Vec<u8>)) {
    put_u32(bytes, 0);
    let place = bytes.len() - 4;
    pad(bytes, align);
    let begin = bytes.len();
    items(bytes);
    let length = count(bytes.len() - begin);
    bytes[place..place + 4].copy_from_slice(&length.to_ne_bytes());
}

impl Body {
    /// Adds a text.
    pub(crate) fn text(&mut self, text: &str) {
        self.signature.push('s');
        put_text(&mut self.bytes, text);
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: i32) {
        self.signature.push('i');
        pad(&mut self.bytes, 4);
        self.bytes.extend(number.to_ne_bytes());
    }
}

/// Writes a call.
pub(super) fn call(serial: u32, target: Target, method: &str, body: &Body) -> Vec<u8> {
    let Target { peer, object, interface } = target;
    let fields = [
        (1, "o", object),
        (2, "s", interface),
        (3, "s", method),
        (6, "s", peer),
        (8, "g", body.signature.as_str()),
    ];
    message_of(1, serial, &fields, None, &body.bytes)
}

/// Writes a message of a kind with fields of its head; `answers` is the serial of the call answered.
pub(super) fn message_of(
    kind: u8,
    serial: u32,
    fields: &[(u8, &str, &str)],
    answers: Option<u32>,
    body: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![ORDER, kind, 0, 1];
    put_u32(&mut bytes, count(body.len()));
    put_u32(&mut bytes, serial);
    put_array(&mut bytes, 8, |bytes| {
        for (code, signature, text) in fields.iter().filter(|(.., text)| !text.is_empty()) {
            pad(bytes, 8);
            bytes.push(*code);
            put_signature(bytes, signature);
            match *signature {
                "g" => put_signature(bytes, text),
                _ => put_text(bytes, text),
            }
        }
        if let Some(answers) = answers {
            pad(bytes, 8);
            bytes.push(5);
            put_signature(bytes, "u");
            put_u32(bytes, answers);
        }
    });
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

/// Returns how long the message is that begins here; nothing as long as that cannot be known.
///
/// # Errors
/// When it is none that is taken.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, String> {
    if bytes.len() < HEAD {
        return Ok(None);
    }
    if bytes[0] != ORDER || bytes[3] != 1 {
        return Err(format!("a message of another order or version came: {:?}", &bytes[..4]));
    }
    let number = |at: usize| Cursor { bytes, at }.number().map(|it| it as usize);
    let lengths = number(4).zip(number(12)).filter(|(body, fields)| body.max(fields) < &MAX);
    let (body, fields) =
        lengths.ok_or_else(|| format!("a message of more than {MAX} bytes came"))?;
    Ok(Some(HEAD + fields.next_multiple_of(8) + body))
}

/// Reads a whole message.
///
/// # Errors
/// When it is none.
pub(super) fn message(bytes: &[u8]) -> Result<Message, String> {
    let broken = || "a message came that cannot be read".to_owned();
    let kind = match bytes[1] {
        1 => Kind::Call,
        2 => Kind::Answer,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return Err(broken()),
    };
    let end = HEAD + Cursor { bytes, at: 12 }.number().ok_or_else(broken)? as usize;
    let body = bytes.get(end.next_multiple_of(8)..).ok_or_else(broken)?.to_vec();
    let mut message = Message {
        kind,
        member: String::new(),
        error: String::new(),
        answers: 0,
        body,
        #[cfg(test)]
        serial: Cursor { bytes, at: 8 }.number().unwrap_or_default(),
    };
    let mut cursor = Cursor { bytes: &bytes[..end], at: HEAD };
    while cursor.at < end {
        cursor.align(8);
        let code = cursor.byte().ok_or_else(broken)?;
        match cursor.signature().ok_or_else(broken)?.as_str() {
            "s" | "o" => {
                let text = cursor.text().ok_or_else(broken)?;
                match code {
                    3 => message.member = text,
                    4 => message.error = text,
                    _ => {}
                }
            }
            "u" => {
                let number = cursor.number().ok_or_else(broken)?;
                message.answers = if code == 5 { number } else { message.answers };
            }
            "g" => drop(cursor.signature().ok_or_else(broken)?),
            _ => return Err(broken()),
        }
    }
    Ok(message)
}

/// Reads values one after the other; nothing where there is no such value.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    const fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|it| it[0])
    }

    /// Reads 32 bits.
    pub(crate) fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// Reads 64 bits.
    pub(crate) fn long(&mut self) -> Option<u64> {
        self.align(8);
        self.take(8)?.try_into().ok().map(u64::from_ne_bytes)
    }

    /// Reads a text.
    pub(crate) fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }

    /// Reads the type of what follows.
    pub(crate) fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }
}
