//! Which protocols a client offers to switch to (RFC 9110 7.8).

use bytes::Bytes;

use super::is_token_byte;
use crate::fields::Fields;

/// The protocols of all Upgrade fields, if `Connection` names the field and each is well-formed.
/// HTTP/2 is none of them: nobody speaks it so any more (RFC 9113 3.1), and its connection would
/// carry requests past every rule here.
pub(super) fn offered(fields: &Fields) -> Option<Bytes> {
    let is_upgrade = |option: &[u8]| option.eq_ignore_ascii_case(b"upgrade");
    if !fields.list("connection").any(is_upgrade) || !fields.list("upgrade").all(is_protocol) {
        return None;
    }
    let protocols: Vec<&[u8]> =
        fields.list("upgrade").filter(|protocol| !is_http(protocol)).collect();
    (!protocols.is_empty()).then(|| protocols.join(&b", "[..]).into())
}

/// `name` or `name/version`, both tokens.
fn is_protocol(protocol: &[u8]) -> bool {
    let mut parts = protocol.split(|&byte| byte == b'/');
    let is_token = |part: &[u8]| !part.is_empty() && part.iter().copied().all(is_token_byte);
    parts.next().is_some_and(is_token)
        && parts.next().is_none_or(is_token)
        && parts.next().is_none()
}

/// Any version of HTTP itself, TLS within the connection (RFC 2817) included.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(connection: &str, upgrade: &str) -> Option<Bytes> {
        offered(&Fields::from([("Connection", connection), ("Upgrade", upgrade)]))
    }

    #[test]
    fn what_is_offered_is_named_by_connection_and_is_no_http() {
        assert_eq!(offer("keep-alive, Upgrade", "websocket"), Some("websocket".into()));
        assert_eq!(offer("upgrade", "a/1 ,b,, h2c"), Some("a/1, b".into()));
        for (connection, upgrade) in [
            ("keep-alive", "websocket"),
            ("upgrade", "h2c"),
            ("upgrade", "HTTP/2.0"),
            ("upgrade", "TLS/1.2"),
            ("upgrade", ""),
            ("upgrade", ","),
            ("upgrade", "web socket"),
            ("upgrade", "a/b/c"),
            ("upgrade", "/1"),
            ("upgrade", "\"websocket\""),
        ] {
            assert_eq!(offer(connection, upgrade), None, "{connection} {upgrade}");
        }
    }
}
