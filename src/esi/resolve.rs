//! The source of an include -> the target of a request to the own host.

use bytes::Bytes;
use memchr::memchr;

/// The page an include stands in.
#[derive(Clone, Copy, Debug)]
pub struct PageUrl<'a> {
    /// Its host, with or without a port.
    pub authority: &'a [u8],
    /// Its path and query in origin form.
    pub target: &'a [u8],
}

impl<'a> PageUrl<'a> {
    /// Its path, without the query.
    pub fn path(&self) -> &'a [u8] {
        split(self.target).0
    }
}

/// Why an include is not fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is nothing in it.
    #[error("a source is empty")]
    Empty,
    /// White space, control characters or backslashes, on which two readers may disagree.
    #[error("a source has characters that no URL has")]
    Character,
    /// Neither http nor https.
    #[error("a source has a scheme other than http and https")]
    Scheme,
    /// It carries a user name or password.
    #[error("a source carries user information")]
    UserInformation,
    /// It names another host than the page's.
    #[error("a source is on another host")]
    OtherHost,
    /// It names a port that is neither the page's nor the default of http or https.
    #[error("a source is on another port")]
    OtherPort,
    /// It names a place within a response.
    #[error("a source has a fragment identifier")]
    FragmentIdentifier,
}

/// Resolves the source of an include (RFC 3986 5.2) to the origin-form target of a request to the
/// page's own host. It is answered with the page's own scheme and port, and never leaves this process
/// by that URL: Magento writes http for https and leaves a port as it is, so that `http://host:443/`
/// on an https page is its own host.
pub fn resolve(source: &[u8], page: PageUrl<'_>) -> Result<Bytes, Refused> {
    if source.is_empty() {
        return Err(Refused::Empty);
    }
    if source.iter().any(|&byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
        return Err(Refused::Character);
    }
    if memchr(b'#', source).is_some() {
        return Err(Refused::FragmentIdentifier);
    }
    let reference = without_scheme(source)?;
    if let Some(reference) = reference.strip_prefix(b"//") {
        let end = reference.iter().position(|byte| matches!(byte, b'/' | b'?'));
        let (authority, path) = reference.split_at(end.unwrap_or(reference.len()));
        if memchr(b'@', authority).is_some() {
            return Err(Refused::UserInformation);
        }
        let (host, port) = host_and_port(authority).ok_or(Refused::OtherHost)?;
        let (own_host, own_port) = host_and_port(page.authority).ok_or(Refused::OtherHost)?;
        if host.is_empty() || !own_host.eq_ignore_ascii_case(host) {
            return Err(Refused::OtherHost);
        }
        if port != own_port && !matches!(port, b"" | b"80" | b"443") {
            return Err(Refused::OtherPort);
        }
        return Ok(target(&[path]));
    }
    let (page_path, _) = split(page.target);
    let directory = page_path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    Ok(match reference[0] {
        b'/' => target(&[reference]),
        b'?' => target(&[page_path, reference]),
        _ => target(&[&page_path[..directory], reference]),
    })
}

/// Takes `http:` and `https:` off where an authority follows; other schemes are refused.
fn without_scheme(source: &[u8]) -> Result<&[u8], Refused> {
    let end = source.iter().position(|byte| matches!(byte, b':' | b'/' | b'?'));
    let Some(colon) = end.filter(|&end| source[end] == b':') else { return Ok(source) };
    let (scheme, rest) = (&source[..colon], &source[colon + 1..]);
    let web = scheme.eq_ignore_ascii_case(b"http") || scheme.eq_ignore_ascii_case(b"https");
    if web && rest.starts_with(b"//") { Ok(rest) } else { Err(Refused::Scheme) }
}

/// Host and digits of the port of an authority without user information; `None` where the port is no
/// number.
fn host_and_port(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let host_bytes = if authority.first() == Some(&b'[') {
        memchr(b']', authority)? + 1
    } else {
        memchr(b':', authority).unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(host_bytes);
    match port {
        [] => Some((host, b"")),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => Some((host, digits)),
        _ => None,
    }
}

fn split(target: &[u8]) -> (&[u8], &[u8]) {
    target.split_at(memchr(b'?', target).unwrap_or(target.len()))
}

/// Puts path and query together: a slash in front, dot segments out, bytes beyond ASCII encoded
/// (RFC 3987 3.1).
fn target(parts: &[&[u8]]) -> Bytes {
    let joined = parts.concat();
    let (path, query) = split(&joined);
    let mut out = without_dot_segments(path);
    out.extend_from_slice(query);
    if out.is_ascii() {
        return Bytes::from(out.into_boxed_slice());
    }
    percent_encoding::percent_encode(&out, percent_encoding::CONTROLS).to_string().into()
}

/// RFC 3986 5.2.4. Empty segments go too where they would make the path begin with `//`, which
/// some readers take for an authority.
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len() + 1);
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let mut segments = path.split(|&byte| byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    let parent = out.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    out.truncate(parent);
                }
                if last {
                    out.push(b'/');
                }
            }
            b"" if out.is_empty() && !last => {}
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: PageUrl<'_> =
        PageUrl { authority: b"shop.test:8443", target: b"/men/shirts.html?p=2" };

    fn resolved(source: &str) -> Result<String, Refused> {
        resolve(source.as_bytes(), PAGE).map(|target| String::from_utf8_lossy(&target).into_owned())
    }

    #[test]
    fn sources_of_the_own_host_become_targets() {
        let menu = "/page_cache/block/esi/blocks/%5B%22catalog.topnav%22%5D/handles/WyJ%3D%3D/";
        for (source, expected) in [
            (&*format!("http://shop.test{menu}"), menu),
            ("https://SHOP.test:443/a?b=//c", "/a?b=//c"),
            ("http://shop.test:443/a", "/a"),
            ("http://shop.test:8443/a", "/a"),
            ("http://shop.test/a?utm_source=x&b", "/a?utm_source=x&b"),
            ("HTTP://shop.test", "/"),
            ("http://shop.test:?a", "/?a"),
            ("//shop.test/a", "/a"),
            ("/a/./b/../c/?x=../y", "/a/c/?x=../y"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/.//evil.test/a", "/evil.test/a"),
            ("menu.php?a=b:c", "/men/menu.php?a=b:c"),
            ("../menu", "/menu"),
            ("./", "/men/"),
            ("?p=3", "/men/shirts.html?p=3"),
            ("/ü", "/%C3%BC"),
        ] {
            assert_eq!(resolved(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (source, expected) in [
            ("", Refused::Empty),
            ("http://evil.test/", Refused::OtherHost),
            ("//evil.test/a", Refused::OtherHost),
            ("http://shop.test.evil.test/", Refused::OtherHost),
            ("http://shop.test:80x/", Refused::OtherHost),
            ("http://shop.test:8080/", Refused::OtherPort),
            ("//shop.test:22/", Refused::OtherPort),
            ("http:///a", Refused::OtherHost),
            ("http://[::1]/", Refused::OtherHost),
            ("http://shop.test@evil.test/", Refused::UserInformation),
            ("http://user:x@shop.test/", Refused::UserInformation),
            ("file:///etc/passwd", Refused::Scheme),
            ("javascript:alert(1)", Refused::Scheme),
            ("http:a", Refused::Scheme),
            ("http:/a", Refused::Scheme),
            ("/a#b", Refused::FragmentIdentifier),
            ("/a b", Refused::Character),
            ("/a\r\nHost: x", Refused::Character),
            ("\t/a", Refused::Character),
            ("/\0", Refused::Character),
            ("http:\\\\evil.test\\", Refused::Character),
        ] {
            assert_eq!(resolved(source), Err(expected), "{source:?}");
        }
    }

    #[test]
    fn a_page_without_a_host_has_no_absolute_sources() {
        let page = PageUrl { authority: b"", target: b"/" };
        assert_eq!(resolve(b"http://shop.test/", page), Err(Refused::OtherHost));
        assert_eq!(resolve(b"http:///", page), Err(Refused::OtherHost));
        let page = PageUrl { authority: b"[::1]:80", target: b"/" };
        assert_eq!(resolve(b"http://[::1]/a", page).as_deref(), Ok(&b"/a"[..]));
    }

    proptest! {
        #[test]
        fn a_target_begins_with_one_slash_and_has_no_control_characters(
            source in prop::collection::vec(
                prop::sample::select(b"ht:/p.?a#@\\ \xff\n".to_vec()), 0..30),
            path in "/[a./]{0,10}",
        ) {
            let page = PageUrl { authority: b"p", target: path.as_bytes() };
            if let Ok(target) = resolve(&source, page) {
                prop_assert!(target.starts_with(b"/") && !target.starts_with(b"//"));
                prop_assert!(target.iter().all(u8::is_ascii_graphic));
                let (path, _) = split(&target);
                let dots = |segment: &[u8]| segment == b"." || segment == b"..";
                prop_assert!(!path.split(|&byte| byte == b'/').any(dots));
            }
        }
    }
}
