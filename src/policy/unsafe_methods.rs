//! What a request that may have changed something makes invalid (RFC 9111 4.4).

use std::time::SystemTime;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::body::Body;
use crate::exchange::{Beside, Client, Request, split_target};
use crate::fields::Fields;
use crate::policy::{Judgement, LookupPlan, OriginHead, Plan, Policy, PurgeScope, Storable};
use crate::settings::PolicyKind;

impl Policy {
    /// The URLs whose stored responses end with this response: the request's own, and of the same
    /// origin what Location and Content-Location name. None for a safe method or a failure, and none
    /// in the Magento policy: there a change says itself by tag what it changed, and anybody could
    /// send a POST to every page to have it rendered anew.
    pub fn invalidated(
        &self,
        request: &Request,
        client: &Client,
        status: StatusCode,
        response: &Fields,
    ) -> Vec<PurgeScope> {
        let succeeded = status.is_success() || status.is_redirection();
        if self.site.policy == PolicyKind::Magento || is_safe(&request.method) || !succeeded {
            return Vec::new();
        }
        let mut targets = vec![request.target.clone()];
        for name in ["location", "content-location"] {
            let named = response.first(name);
            targets.extend(named.and_then(|value| same_origin_target(value, request, client)));
        }
        targets.iter().map(|target| self.url_scope(&request.authority, target)).collect()
    }
}

impl Policy {
    /// May the response to this POST answer a GET of its URL? Its Content-Location has to say that
    /// it is what a GET would get, and it has to be fresh for a time that it tells (RFC 9110
    /// 9.3.3). Gives the plan of that GET.
    pub fn content_of_post(
        &self,
        request: &Request,
        client: &Client,
        head: &OriginHead,
        received_at: SystemTime,
    ) -> Option<(LookupPlan, Storable)> {
        if self.site.policy == PolicyKind::Magento || request.method != Method::POST {
            return None;
        }
        let named = same_origin_target(head.fields.first("content-location")?, request, client)?;
        if named != request.target || head.status != StatusCode::OK {
            return None;
        }
        let mut fields = request.fields.clone();
        fields.retain(|field| !CONTENT.iter().any(|name| field.is(name)));
        let get = Request {
            method: Method::GET,
            target: request.target.clone(),
            authority: request.authority.clone(),
            version: request.version,
            fields,
            body: Body::empty(),
            connection: request.connection.clone(),
            beside: Beside::default(),
        };
        let Plan::Lookup(plan) = self.plan(&get, client) else { return None };
        let Judgement::Store(storable) = self.judge(&plan, head, received_at) else { return None };
        let is_told = head.fields.contains("expires") || head.fields.contains("cache-control");
        (is_told && !storable.ttl().is_zero()).then_some((plan, storable))
    }
}

/// What a request with content says, and its equal without content does not.
const CONTENT: [&str; 5] =
    ["content-length", "content-type", "content-encoding", "transfer-encoding", "range"];

/// The methods that ask for nothing to be changed (RFC 9110 9.2.1).
fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// The target that a URI reference names, where it is one of the request's own origin.
pub(super) fn same_origin_target(
    reference: &[u8],
    request: &Request,
    client: &Client,
) -> Option<Bytes> {
    let end = memchr::memchr(b'#', reference).unwrap_or(reference.len());
    let reference = &reference[..end];
    let after_scheme = match memchr::memmem::find(reference, b"://") {
        Some(at) if is_scheme(&reference[..at]) => {
            let own = client.scheme.as_str().as_bytes();
            reference[..at].eq_ignore_ascii_case(own).then_some(&reference[at + 3..])?
        }
        _ => match reference.strip_prefix(b"//") {
            Some(rest) => rest,
            None => return Some(relative(reference, &request.target)),
        },
    };
    let at = after_scheme.iter().position(|byte| b"/?".contains(byte));
    let (authority, target) = after_scheme.split_at(at.unwrap_or(after_scheme.len()));
    authority.eq_ignore_ascii_case(&request.authority).then(|| match target.first() {
        Some(b'/') => Bytes::copy_from_slice(target),
        _ => Bytes::from([b"/", target].concat()),
    })
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
}

/// A reference without an authority, resolved against a target (RFC 3986 5.2).
fn relative(reference: &[u8], base: &[u8]) -> Bytes {
    let (path, _) = split_target(base);
    match reference.first() {
        None => Bytes::copy_from_slice(base),
        Some(b'/') => without_dots(reference),
        Some(b'?') => Bytes::from([path, reference].concat()),
        Some(_) => {
            let directory = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
            without_dots(&[&path[..directory], reference].concat())
        }
    }
}

/// Without `.` and `..` segments (RFC 3986 5.2.4).
fn without_dots(target: &[u8]) -> Bytes {
    let (path, query) = split_target(target);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut out = vec![b'/'];
    out.extend_from_slice(&kept.join(&b'/'));
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::{get, resolve};

    fn target(reference: &str) -> Option<String> {
        let request = get("/a/b?c", []);
        let target = same_origin_target(reference.as_bytes(), &request, &resolve(&request));
        target.map(|target| String::from_utf8_lossy(&target).into_owned())
    }

    #[test]
    fn references_are_resolved_within_the_origin() {
        for (reference, expected) in [
            ("", "/a/b?c"),
            ("/x?y#z", "/x?y"),
            ("x", "/a/x"),
            ("?d", "/a/b?d"),
            ("../x/./y", "/x/y"),
            ("../..", "/"),
            ("//shop.test/x", "/x"),
            ("HTTP://SHOP.test", "/"),
            ("http://shop.test?q", "/?q"),
        ] {
            assert_eq!(target(reference).as_deref(), Some(expected), "{reference}");
        }
    }

    #[test]
    fn another_origin_is_none_of_ours() {
        for reference in [
            "//other.example/x",
            "https://shop.test/x",
            "http://shop.test:81/",
            "http://u@shop.test/",
        ] {
            assert_eq!(target(reference), None, "{reference}");
        }
    }
}
