//! The inside of one tag.

use bytes::Bytes;
use memchr::memchr;

/// What the attributes of a tag say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// `src`, entities decoded.
    pub(super) source: Option<Bytes>,
    /// `alt`, entities decoded.
    pub(super) alternative: Option<Bytes>,
    /// `onerror="continue"`
    pub(super) continues: bool,
    /// Does the tag end itself (`/>`)?
    pub(super) empty: bool,
}

/// Reads what stands between the name of a tag and its `>`; `None` where it is not well-formed:
/// a value without quotes, an attribute twice (XML 1.0 3.1).
pub(super) fn attributes(inside: &[u8]) -> Option<Attributes> {
    let mut rest = inside;
    let mut found = Attributes { source: None, alternative: None, continues: false, empty: false };
    let mut seen: Vec<&[u8]> = Vec::new();
    loop {
        let (attribute, after) = match next(rest) {
            Next::Attribute { attribute, rest } => (attribute, rest),
            Next::End { empty } => return Some(Attributes { empty, ..found }),
            Next::Malformed => return None,
        };
        if seen.contains(&attribute.name) || seen.len() >= ATTRIBUTES_MAX {
            return None;
        }
        match attribute.name {
            b"src" => found.source = Some(decode_references(attribute.value)),
            b"alt" => found.alternative = Some(decode_references(attribute.value)),
            b"onerror" => found.continues = attribute.value == b"continue",
            _ => {}
        }
        seen.push(attribute.name);
        rest = after;
    }
}

/// How many bytes of what stands behind the name of a tag are well-formed attributes: that much of
/// a tag which is never closed is left out, and what follows is text.
pub(super) fn well_formed_bytes(inside: &[u8]) -> usize {
    let mut rest = inside;
    while let Next::Attribute { rest: after, .. } = next(rest) {
        rest = after;
    }
    let space = rest.len() - rest.trim_ascii_start().len();
    inside.len() - rest.len() + space
}

/// More attributes than any ESI element has; it keeps the search for repeated ones cheap.
const ATTRIBUTES_MAX: usize = 16;

struct Attribute<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

enum Next<'a> {
    Attribute { attribute: Attribute<'a>, rest: &'a [u8] },
    End { empty: bool },
    Malformed,
}

/// The next attribute: white space, a name, `=`, a value in quotes.
fn next(inside: &[u8]) -> Next<'_> {
    let start = inside.trim_ascii_start();
    match start.trim_ascii_end() {
        [] => return Next::End { empty: false },
        [b'/'] => return Next::End { empty: true },
        _ => {}
    }
    let attribute = || {
        let is_apart = start.len() < inside.len();
        let equals = memchr(b'=', start).filter(|_| is_apart)?;
        let name = start[..equals].trim_ascii_end();
        let value = start[equals + 1..].trim_ascii_start();
        let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
        let end = memchr(quote, &value[1..])? + 1;
        let is_name = !name.is_empty() && name.iter().all(|&byte| is_name_byte(byte));
        let attribute = Attribute { name, value: &value[1..end] };
        is_name.then_some(Next::Attribute { attribute, rest: &value[end + 1..] })
    };
    attribute().unwrap_or(Next::Malformed)
}

/// A byte of an attribute's name.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
}

/// The five entities of XML; others stay as they are.
const ENTITIES: [(&[u8], u8); 5] =
    [(b"&amp;", b'&'), (b"&lt;", b'<'), (b"&gt;", b'>'), (b"&quot;", b'"'), (b"&apos;", b'\'')];

/// Digits of a character reference that is looked at, `x` and leading zeros included.
const REFERENCE_DIGITS_MAX: usize = 6;

/// Decodes the entities of XML and references to ASCII characters (XML 1.0 4.1), once: PHP's
/// escaping writes `&#039;` and `&#x2F;`.
fn decode_references(value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'&', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let entity = ENTITIES.iter().find(|(name, _)| rest.starts_with(name));
        let known = entity.map(|(name, byte)| (name.len(), *byte)).or_else(|| character(rest));
        let (taken, byte) = known.unwrap_or((1, b'&'));
        out.push(byte);
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
    Bytes::from(out.into_boxed_slice())
}

/// `&#NN;` or `&#xNN;` at the start: its bytes, and the character where it is ASCII.
fn character(text: &[u8]) -> Option<(usize, u8)> {
    let digits = text.strip_prefix(b"&#")?;
    let end = digits.iter().take(REFERENCE_DIGITS_MAX + 1).position(|&byte| byte == b';')?;
    let digits = std::str::from_utf8(&digits[..end]).ok()?;
    // A sign is no digit, though Rust's reader takes one.
    let number = match digits.strip_prefix('x') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()?
        }
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    let byte = u8::try_from(number).ok().filter(u8::is_ascii)?;
    Some((b"&#".len() + end + 1, byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(inside: &str) -> Option<String> {
        let source = attributes(inside.as_bytes())?.source?;
        Some(String::from_utf8_lossy(&source).into_owned())
    }

    #[test]
    fn attributes_come_in_any_order_and_either_quotes() {
        assert_eq!(source(r#" src="/a" /"#).as_deref(), Some("/a"));
        assert_eq!(source(" alt='x'\n\tsrc = '/a\"b'").as_deref(), Some("/a\"b"));
        assert_eq!(
            source(r#"  onerror="continue" src="/a?b=1&amp;c=2""#).as_deref(),
            Some("/a?b=1&c=2")
        );
        assert_eq!(
            source(r#" src="&lt;&gt;&quot;&apos;&amp;amp;&copy;&" "#).as_deref(),
            Some("<>\"'&amp;&copy;&")
        );
        assert_eq!(source(r#" src="a/b/"/"#).as_deref(), Some("a/b/"));
        let empty = attributes(b"/").expect("well-formed");
        assert_eq!((empty.source, empty.empty), (None, true));
    }

    #[test]
    fn an_alternative_and_what_to_do_on_errors_are_read() {
        let read = attributes(br#" src="/a" alt="/b?c&amp;d" onerror="continue" /"#);
        let read = read.expect("well-formed");
        assert_eq!(read.alternative.as_deref(), Some(&b"/b?c&d"[..]));
        assert!(read.continues && read.empty);
        let other = attributes(br#" src="/a" onerror="stop""#).expect("well-formed");
        assert!(!other.continues && other.alternative.is_none());
    }

    #[test]
    fn references_to_ascii_characters_are_decoded_once() {
        for (written, read) in [
            ("/a&#x2F;b&#039;&#38;amp;", "/a/b'&amp;"),
            ("/&#x26;#x26;", "/&#x26;"),
            (
                "/&#1234;&#x;&#;&#+38;&#x+26;&#0000038;&#38",
                "/&#1234;&#x;&#;&#+38;&#x+26;&#0000038;&#38",
            ),
        ] {
            assert_eq!(
                source(&format!(" src='{}'", written.replace('\'', "&apos;"))).as_deref(),
                Some(read)
            );
        }
    }

    #[test]
    fn what_is_not_well_formed_is_no_tag() {
        for inside in [
            r" src=/a",
            r#" src="/a"#,
            r#" src="/a" src="/b""#,
            r#" ="/a""#,
            r#" src="/a"alt="b""#,
            r#" s?c="/a""#,
            r" src",
            r#" src="/a" --"#,
            r#"/src="/a""#,
        ] {
            assert_eq!(attributes(inside.as_bytes()), None, "{inside}");
        }
    }

    #[test]
    fn what_is_well_formed_of_a_tag_that_is_never_closed_is_known() {
        for (inside, well_formed) in [
            (r#" src="/a" text"#, r#" src="/a" "#),
            (r#" src="/a text"#, " "),
            ("  text", "  "),
            (r#" a="1" b='2'"#, r#" a="1" b='2'"#),
            ("/", ""),
        ] {
            assert_eq!(well_formed_bytes(inside.as_bytes()), well_formed.len(), "{inside}");
        }
    }
}
