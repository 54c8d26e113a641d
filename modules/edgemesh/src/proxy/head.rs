//! The head of a connection's first HTTP/1 request, looked at for one header. No IO.

/// The longest head that is looked at, in bytes.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// The longest method.
const MAX_METHOD: usize = 24;

/// What the beginning of a connection tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<'a> {
    /// More has to come.
    More,
    /// The header's value; nothing where there is no such header or this is not HTTP/1.
    Found(Option<&'a [u8]>),
}

/// Looks for a header, whose name is in any case.
pub(super) fn look<'a>(begin: &'a [u8], header: &str) -> Look<'a> {
    let method = begin.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let is_method = match begin.get(method) {
        Some(byte) => *byte == b' ' && method > 0,
        None => true,
    };
    if !is_method || method > MAX_METHOD {
        return Look::Found(None);
    }
    let end = begin.windows(4).position(|four| four == b"\r\n\r\n");
    let Some(end) = end.filter(|end| *end <= MAX_HEAD) else {
        return if begin.len() < MAX_HEAD { Look::More } else { Look::Found(None) };
    };
    let lines = begin[..end].split(|byte| *byte == b'\n').skip(1);
    let value = |line: &'a [u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let is_wanted = line[..colon].eq_ignore_ascii_case(header.as_bytes());
        is_wanted.then(|| line[colon + 1..].trim_ascii())
    };
    Look::Found(lines.filter_map(value).next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nHost: web\r\nX-User:  anna \r\n\r\nX-User: body\r\n\r\n";

    #[test]
    fn a_header_is_found_when_the_head_is_whole() {
        let end = REQUEST.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for length in 0..REQUEST.len() {
            let expected =
                if length < end { Look::More } else { Look::Found(Some(b"anna".as_slice())) };
            assert_eq!(look(&REQUEST[..length], "x-user"), expected, "{length} bytes");
        }
        assert_eq!(look(REQUEST, "host"), Look::Found(Some(b"web")));
        assert_eq!(look(REQUEST, "cookie"), Look::Found(None));
    }

    #[test]
    fn what_is_not_http_1_is_not_waited_for() {
        for begin in [b"\x16\x03\x01".as_slice(), b"hello", b" ", b"GET/", &[b'A'; 25]] {
            assert_eq!(look(begin, "x-user"), Look::Found(None));
        }
        assert_eq!(look(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "x-user"), Look::Found(None));
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        assert_eq!(look(&endless, "x-user"), Look::Found(None));
    }

    proptest! {
        #[test]
        fn rubbish_is_looked_at_without_harm(begin in prop::collection::vec(any::<u8>(), 0..64)) {
            look(&begin, "x-user");
            look(&[b"GET / HTTP/1.1\r\n", &begin[..], b"\r\n\r\n"].concat(), "x-user");
        }
    }
}
