//! Hosts: which are served, and how one enters the key.

use crate::policy::PolicyError;

/// Splits an authority into host and port; the port is absent where it is empty.
pub(super) fn split_authority(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    // A colon within brackets belongs to an IPv6 address.
    let after_brackets = memchr::memrchr(b']', authority).map_or(0, |at| at + 1);
    match memchr::memchr(b':', &authority[after_brackets..]) {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            (host, Some(&port[1..]).filter(|port| !port.is_empty()))
        }
        None => (authority, None),
    }
}

/// Can this host be part of a key? The listener has checked its syntax; here counts only that
/// nothing in it can be taken for the path, the query or the end of the URL.
pub(super) fn may_be_keyed(host: &[u8]) -> bool {
    host.iter().all(|&byte| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte))
}

/// `site.hosts`, compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Vec<Pattern>);

#[derive(Clone, Debug)]
enum Pattern {
    Exact(Box<[u8]>),
    /// `.example.com`, for whatever ends so.
    Below(Box<[u8]>),
}

impl Hosts {
    pub(super) fn new(hosts: &[String], errors: &mut Vec<PolicyError>) -> Self {
        let mut patterns = Vec::with_capacity(hosts.len());
        for host in hosts {
            let name = host.strip_prefix('*').unwrap_or(host);
            let wildcard = name.len() < host.len();
            let proper = if wildcard { name.len() > 1 && name.starts_with('.') } else { true };
            if name.is_empty() || !proper || name.contains('*') || !names_a_host(name) {
                errors.push(PolicyError::Invalid {
                    setting: "site.hosts",
                    value: host.clone(),
                    allowed: "a host without port, or *.DOMAIN for all hosts below it",
                });
                continue;
            }
            let name = name.to_ascii_lowercase().into_bytes().into_boxed_slice();
            patterns.push(if wildcard { Pattern::Below(name) } else { Pattern::Exact(name) });
        }
        Self(patterns)
    }

    /// Is a host without port served? Where none is named all are.
    pub(super) fn serve(&self, host: &[u8]) -> bool {
        self.0.is_empty()
            || self.0.iter().any(|pattern| match pattern {
                Pattern::Exact(name) => host.eq_ignore_ascii_case(name),
                Pattern::Below(suffix) => {
                    host.len() > suffix.len()
                        && host[host.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
                }
            })
    }
}

fn names_a_host(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ipv6 = bytes.starts_with(b"[") && bytes.ends_with(b"]");
    may_be_keyed(bytes) && (ipv6 || !bytes.contains(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(names: &[&str]) -> Hosts {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut errors = Vec::new();
        let hosts = Hosts::new(&names, &mut errors);
        assert_eq!(errors, []);
        hosts
    }

    #[test]
    fn the_port_leaves_the_host() {
        let cases: [(&str, &str, Option<&str>); 6] = [
            ("shop.test", "shop.test", None),
            ("shop.test:80", "shop.test", Some("80")),
            ("shop.test:", "shop.test", None),
            ("[::1]", "[::1]", None),
            ("[::1]:8080", "[::1]", Some("8080")),
            ("", "", None),
        ];
        for (authority, host, port) in cases {
            let expected = (host.as_bytes(), port.map(str::as_bytes));
            assert_eq!(split_authority(authority.as_bytes()), expected, "{authority}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_the_hosts_below_a_domain_and_not_for_the_domain() {
        let hosts = hosts(&["Shop.test", "*.example.com"]);
        for served in ["shop.test", "SHOP.TEST", "a.example.com", "a.b.example.com"] {
            assert!(hosts.serve(served.as_bytes()), "{served}");
        }
        for refused in ["example.com", "aexample.com", "shop.test.evil", "", ".example.com"] {
            assert!(!hosts.serve(refused.as_bytes()), "{refused}");
        }
        assert!(Hosts::default().serve(b"any"));
    }

    #[test]
    fn a_host_pattern_that_cannot_match_is_refused_with_what_is_allowed() {
        for wrong in ["", "*", "*.", "a*.b", "shop.test:80", "http://shop.test", "*shop.test"] {
            let mut errors = Vec::new();
            Hosts::new(&[wrong.to_owned()], &mut errors);
            assert_eq!(errors.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_host_that_could_look_like_a_path_is_not_keyed() {
        assert!(may_be_keyed(b"shop.test"));
        for host in [&b"shop.test/x"[..], b"a?b", b"a\0", b"a b", b"u@h", b"\xff"] {
            assert!(!may_be_keyed(host));
        }
    }
}
