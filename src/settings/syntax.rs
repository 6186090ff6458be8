//! What single values look like: hosts, paths, names, addresses.

use std::net::IpAddr;
use std::path::PathBuf;

use http::HeaderName;
use ipnet::IpNet;
use regex::bytes::RegexBuilder;

use super::{AccessLog, Endpoint};

/// How a text becomes a value.
pub(super) struct Syntax<T> {
    /// The words after "allowed:".
    pub allowed: &'static str,
    /// The value, or what is wrong with the text.
    pub parse: fn(&str) -> Result<T, String>,
}

/// Bytes of a Unix socket's path that the kernel takes, without the NUL at its end.
const UNIX_PATH_MAX_BYTES: usize = 107;

/// Bytes of a regular expression once it is compiled.
const REGEX_MAX_BYTES: usize = 1 << 20;

/// Somewhere to listen.
pub(super) const LISTENER: Syntax<Endpoint> = Syntax {
    allowed: "an IP address with a port such as 127.0.0.1:80 or [::1]:80, or unix:/path",
    parse: endpoint,
};

/// Somewhere to connect to.
pub(super) const PEER: Syntax<Endpoint> = Syntax {
    allowed: "an IP address with a port above 0 such as 127.0.0.1:8080, or unix:/path",
    parse: |text| match endpoint(text)? {
        Endpoint::Tcp(address) if address.port() == 0 => Err("no port to connect to".to_owned()),
        endpoint => Ok(endpoint),
    },
};

/// A network, or one address.
pub(super) const NETWORK: Syntax<IpNet> =
    Syntax { allowed: "networks such as 10.0.0.0/8, or addresses", parse: network };

/// A host that is served; comes out in lower case, as hosts compare (RFC 9110 4.2.3).
pub(super) const HOST: Syntax<String> = Syntax {
    allowed: "a host without port such as shop.example, *.shop.example, 192.0.2.1 or [2001:db8::1]",
    parse: host,
};

/// A path in a URL.
pub(super) const URL_PATH: Syntax<String> =
    Syntax { allowed: "a path that begins with / and has no query", parse: url_path };

/// Whole segments of a path in a URL.
pub(super) const SEGMENTS: Syntax<String> = Syntax {
    allowed: "a path of whole segments, as in /sales/guest, without a query",
    parse: |text| match url_path(text)? {
        path if path.bytes().all(|byte| byte == b'/') => Err("it would be every path".to_owned()),
        path => Ok(path),
    },
};

/// A path in a URL, or nothing.
pub(super) const URL_PATH_OR_EMPTY: Syntax<String> = Syntax {
    allowed: "a path that begins with / and has no query, or nothing",
    parse: |text| if text.is_empty() { Ok(String::new()) } else { url_path(text) },
};

/// A file or directory, or nothing.
pub(super) const FILE_PATH: Syntax<PathBuf> =
    Syntax { allowed: "an absolute path, or nothing", parse: file_path_or_empty };

/// A directory, and not nothing.
pub(super) const DIRECTORY: Syntax<PathBuf> =
    Syntax { allowed: "an absolute path", parse: file_path };

/// A cookie's name, a token (RFC 6265 4.1.1).
pub(super) const COOKIE: Syntax<String> = Syntax {
    allowed: "a cookie's name: letters, digits and !#$%&'*+-.^_`|~",
    parse: |text| if is_token(text) { Ok(text.to_owned()) } else { Err("no token".to_owned()) },
};

/// A request header that may be part of the key, or go to PHP with a request whose response all
/// visitors share.
pub(super) const SHARED_HEADER: Syntax<String> = Syntax {
    allowed: "a header without _ that is not Cookie, Authorization, a condition (If-*, Range, \
              Cache-Control...), a forwarding or a connection header",
    parse: header,
};

/// A query parameter's name, with a `*` at its end for any rest.
pub(super) const PARAMETER: Syntax<String> =
    Syntax { allowed: "a parameter's name, with * at its end alone", parse: parameter };

/// A regular expression.
pub(super) const REGEX: Syntax<String> = Syntax {
    allowed: "a regular expression without look-around and back-references",
    parse: regex,
};

/// A bearer token (RFC 6750 2.1), or nothing.
pub(super) const TOKEN: Syntax<String> = Syntax {
    allowed: "letters, digits and -._~+/, with = at the end alone; or nothing",
    parse: |text| {
        let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let body = text.trim_end_matches('=');
        if body.bytes().all(symbol) && (text.is_empty() || !body.is_empty()) {
            Ok(text.to_owned())
        } else {
            Err("not a bearer token".to_owned())
        }
    },
};

/// A filter for log messages.
pub(super) const LOG_LEVEL: Syntax<String> = Syntax {
    allowed: "off, error, warn, info, debug or trace, and target=level for parts of the program, \
              separated by commas",
    parse: log_level,
};

/// Where the access log goes.
pub(super) const ACCESS_LOG: Syntax<AccessLog> = Syntax {
    allowed: "off, stdout or an absolute path",
    parse: |text| match text {
        "off" => Ok(AccessLog::Off),
        "stdout" => Ok(AccessLog::Stdout),
        path => file_path(path).map(AccessLog::File),
    },
};

fn endpoint(text: &str) -> Result<Endpoint, String> {
    match text.parse() {
        Ok(Endpoint::Unix(path)) if path.as_os_str().len() > UNIX_PATH_MAX_BYTES => {
            Err(format!("a Unix socket's path has at most {UNIX_PATH_MAX_BYTES} bytes"))
        }
        Ok(Endpoint::Unix(path)) if path.as_os_str().as_encoded_bytes().contains(&0) => {
            Err("a path has no NUL".to_owned())
        }
        Ok(endpoint) => Ok(endpoint),
        Err(_) => Err("no address (names are not resolved)".to_owned()),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| "no network".to_owned())?;
    // 10.1.2.3/8 could mean that address or all of 10.0.0.0/8.
    if network.addr() != network.network() {
        return Err(format!("has bits behind its prefix; did you mean {}?", network.trunc()));
    }
    Ok(network)
}

fn host(text: &str) -> Result<String, String> {
    // The domain that a wildcard stands below, or the host itself.
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.len() < text.len() && name.starts_with('[') {
        return Err("nothing is below an address".to_owned());
    }
    exact_host(name).map(|_| text.to_ascii_lowercase())
}

pub(super) fn exact_host(text: &str) -> Result<String, String> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    if is_name || bracketed.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("no host".to_owned())
    }
}

fn url_path(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    if text.starts_with('/') && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("no path".to_owned())
    }
}

fn file_path_or_empty(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Ok(PathBuf::new()) } else { file_path(text) }
}

fn file_path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        // It would depend on the directory the process happens to be started in.
        return Err("not absolute".to_owned());
    }
    if text.contains('\0') {
        return Err("a path has no NUL".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn is_token(text: &str) -> bool {
    let symbol = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(symbol)
}

/// Headers that frame a message, name its hops or another URL, carry a credential, or make a
/// response partial. Forwarding one of them with a fill would store for all what is one visitor's,
/// or no whole response.
const NEVER_SHARED: [&str; 31] = [
    "accept-encoding",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "pragma",
    "proxy",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

fn header(text: &str) -> Result<String, String> {
    if HeaderName::from_bytes(text.as_bytes()).is_err() {
        return Err("no header's name".to_owned());
    }
    if text.contains('_') {
        // PHP cannot tell it from the header with - in its place.
        return Err("has a _".to_owned());
    }
    if NEVER_SHARED.iter().any(|name| name.eq_ignore_ascii_case(text)) {
        return Err("not for requests whose response is shared".to_owned());
    }
    Ok(text.to_owned())
}

fn regex(text: &str) -> Result<String, String> {
    // As the rules compile it: a User-Agent is bytes.
    let compiled = RegexBuilder::new(text).unicode(false).size_limit(REGEX_MAX_BYTES).build();
    match compiled {
        Ok(_) => Ok(text.to_owned()),
        Err(regex::Error::CompiledTooBig(_)) => Err("too large once compiled".to_owned()),
        // The error's other lines quote the expression, which is shown already.
        Err(error) => Err(error.to_string().lines().last().unwrap_or_default().trim().to_owned()),
    }
}

fn parameter(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if name.is_empty() {
        return Err("it would drop every parameter".to_owned());
    }
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"&=#?*".contains(&byte);
    if name.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("no parameter's name".to_owned())
    }
}

fn log_level(text: &str) -> Result<String, String> {
    let is_level = |word: &str| {
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|level| level.eq_ignore_ascii_case(word))
    };
    let is_target = |target: &str| {
        !target.is_empty()
            && target.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    let is_directive = |directive: &str| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    };
    if text.split(',').all(is_directive) {
        Ok(text.to_owned())
    } else {
        Err("no log level".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is<T>(syntax: &Syntax<T>, text: &str) -> bool {
        (syntax.parse)(text).is_ok()
    }

    #[test]
    fn hosts_have_no_port_and_lose_their_case() {
        assert_eq!((HOST.parse)("Shop.Example"), Ok("shop.example".to_owned()));
        for right in ["*.shop.example", "localhost", "192.0.2.1", "[2001:db8::1]", "a_b.example"] {
            assert!(is(&HOST, right), "{right}");
        }
        for wrong in
            ["", "*", "*.", "a..b", "shop.example:80", "http://a", "a/b", "::1", "a.*.b", "*.[::1]"]
        {
            assert!(!is(&HOST, wrong), "{wrong}");
        }
    }

    #[test]
    fn networks_have_no_bits_behind_their_prefix() {
        assert!(is(&NETWORK, "10.0.0.0/8") && is(&NETWORK, "::1") && is(&NETWORK, "192.0.2.1"));
        let wrong = (NETWORK.parse)("10.1.2.3/8").expect_err("ambiguous");
        assert!(wrong.contains("did you mean 10.0.0.0/8?"), "{wrong}");
        assert!(!is(&NETWORK, "10.0.0.0/33") && !is(&NETWORK, "example.com"));
    }

    #[test]
    fn addresses_are_numbers_and_a_peer_has_a_port() {
        assert!(is(&LISTENER, "127.0.0.1:0") && !is(&PEER, "127.0.0.1:0"));
        assert!(is(&PEER, "unix:/run/php.sock") && !is(&PEER, "unix:run/php.sock"));
        assert!(!is(&LISTENER, "localhost:80") && !is(&LISTENER, ":80") && !is(&LISTENER, ""));
        assert!(!is(&LISTENER, &format!("unix:/{}", "x".repeat(UNIX_PATH_MAX_BYTES))));
    }

    #[test]
    fn headers_that_belong_to_one_visitor_or_hop_are_not_shared() {
        assert!(is(&SHARED_HEADER, "Accept-Language") && is(&SHARED_HEADER, "X-Custom"));
        for wrong in
            ["Cookie", "authorization", "Range", "X-Forwarded-For", "TE", "", "a b", "a_b", "ä"]
        {
            assert!(!is(&SHARED_HEADER, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_bypass_path_has_a_segment() {
        assert!(is(&SEGMENTS, "/sales/guest") && is(&URL_PATH, "/"));
        assert!(!is(&SEGMENTS, "/") && !is(&SEGMENTS, "sales") && !is(&SEGMENTS, "/a?b"));
    }

    #[test]
    fn a_parameter_may_end_with_a_star_but_is_not_one() {
        assert!(is(&PARAMETER, "utm_*") && is(&PARAMETER, "gclid"));
        for wrong in ["*", "", "a=b", "a&b", "a*b", "a b"] {
            assert!(!is(&PARAMETER, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_mistyped_log_level_is_no_target() {
        assert!(is(&LOG_LEVEL, "info") && is(&LOG_LEVEL, "warn,hyper::proto=trace"));
        assert!(!is(&LOG_LEVEL, "inof") && !is(&LOG_LEVEL, "") && !is(&LOG_LEVEL, "info,"));
    }

    #[test]
    fn a_regex_says_what_is_wrong_with_it() {
        assert!(is(&REGEX, "(?i)iphone|android"));
        assert_eq!((REGEX.parse)("a("), Err("error: unclosed group".to_owned()));
        assert!(!is(&REGEX, r"(a)\1") && !is(&REGEX, r"\w{1000}{1000}"));
    }

    #[test]
    fn the_access_log_is_a_known_word_or_an_absolute_path() {
        assert_eq!((ACCESS_LOG.parse)("/a"), Ok(AccessLog::File(PathBuf::from("/a"))));
        assert!(!is(&ACCESS_LOG, "sdtout") && !is(&ACCESS_LOG, ""));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_syntax_panic(text: String) {
            let _ = (is(&LISTENER, &text), is(&PEER, &text), is(&NETWORK, &text));
            let _ = (is(&HOST, &text), is(&URL_PATH, &text), is(&COOKIE, &text));
            let _ = (is(&SHARED_HEADER, &text), is(&PARAMETER, &text), is(&REGEX, &text));
            let _ = (is(&TOKEN, &text), is(&LOG_LEVEL, &text), is(&ACCESS_LOG, &text));
        }
    }
}
