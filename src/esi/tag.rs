//! The inside of one tag.

use bytes::Bytes;
use memchr::memchr;

/// What the attributes of a tag say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    /// `src`, entities decoded.
    pub(super) source: Option<Bytes>,
    /// Does the tag end itself (`/>`)?
    pub(super) empty: bool,
}

/// Reads what stands between the name of a tag and its `>`; `None` where it is not well-formed:
/// a value without quotes, an attribute twice (XML 1.0 3.1).
pub(super) fn attributes(inside: &[u8]) -> Option<Attributes> {
    let mut rest = inside.trim_ascii();
    let empty = rest.last() == Some(&b'/');
    if empty {
        rest = rest[..rest.len() - 1].trim_ascii_end();
    }
    let mut seen: Vec<&[u8]> = Vec::new();
    let mut source = None;
    while !rest.is_empty() {
        let equals = memchr(b'=', rest)?;
        let name = rest[..equals].trim_ascii();
        let value = rest[equals + 1..].trim_ascii_start();
        let quote = *value.first().filter(|quote| matches!(quote, b'"' | b'\''))?;
        let end = memchr(quote, &value[1..])? + 1;
        if name.is_empty() || !name.iter().all(|&byte| is_name(byte)) || seen.contains(&name) {
            return None;
        }
        if name == b"src" {
            source = Some(decode_entities(&value[1..end]));
        }
        seen.push(name);
        rest = &value[end + 1..];
        // XML asks for white space between attributes.
        if !rest.is_empty() && !rest[0].is_ascii_whitespace() {
            return None;
        }
        rest = rest.trim_ascii_start();
        if seen.len() > ATTRIBUTES_MAX {
            return None;
        }
    }
    Some(Attributes { source, empty })
}

/// More attributes than any ESI element has; it keeps the search for repeated ones cheap.
const ATTRIBUTES_MAX: usize = 16;

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':' | b'.')
}

/// The five entities of XML; others stay as they are.
const ENTITIES: [(&[u8], u8); 5] =
    [(b"&amp;", b'&'), (b"&lt;", b'<'), (b"&gt;", b'>'), (b"&quot;", b'"'), (b"&apos;", b'\'')];

fn decode_entities(value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'&', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let entity = ENTITIES.iter().find(|(name, _)| rest.starts_with(name));
        let (taken, byte) = entity.map_or((1, b'&'), |(name, byte)| (name.len(), *byte));
        out.push(byte);
        rest = &rest[taken..];
    }
    out.extend_from_slice(rest);
    Bytes::from(out.into_boxed_slice())
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
        assert_eq!(attributes(b"/"), Some(Attributes { source: None, empty: true }));
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
        ] {
            assert_eq!(attributes(inside.as_bytes()), None, "{inside}");
        }
    }
}
