//! The four forms of a request target (RFC 9112 3.2) and the authority they belong to.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{Method, Version};

use crate::listener::http1::Refused;

/// Bytes of a host without its port; DNS allows no more (RFC 1035 2.3.4).
const HOST_MAX_BYTES: usize = 255;

/// Splits a target into what is asked for and the authority that is asked.
pub(super) fn resolve(
    method: &Method,
    target: Bytes,
    host: Option<&Bytes>,
    version: Version,
) -> Result<(Bytes, Bytes), Refused> {
    if let Some(host) = host
        && !is_authority(host)
    {
        return Err(Refused::HostMalformed);
    }
    if host.is_none() && version == Version::HTTP_11 {
        return Err(Refused::HostMissing);
    }
    let authority = || host.cloned().unwrap_or_default();
    if *method == Method::CONNECT {
        let has_port = memchr::memrchr(b':', &target).is_some_and(|at| target[at..].len() > 1);
        if !is_authority(&target) || !has_port || target.ends_with(b"]") {
            return Err(Refused::Target);
        }
        return same(host, &target).map(|()| (target.clone(), target));
    }
    match target[0] {
        b'/' => Ok((target, authority())),
        b'*' if target.len() == 1 && *method == Method::OPTIONS => Ok((target, authority())),
        _ => absolute(method, &target, host),
    }
}

/// `http://authority/path?query`.
fn absolute(
    method: &Method,
    target: &Bytes,
    host: Option<&Bytes>,
) -> Result<(Bytes, Bytes), Refused> {
    let scheme_end = memchr::memchr(b':', target).ok_or(Refused::Target)?;
    let scheme = &target[..scheme_end];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Refused::Target);
    }
    if !target[scheme_end + 1..].starts_with(b"//") {
        return Err(Refused::Target);
    }
    let start = scheme_end + 3;
    let end = memchr::memchr2(b'/', b'?', &target[start..]).map_or(target.len(), |at| start + at);
    let authority = target.slice(start..end);
    if !is_authority(&authority) {
        return Err(Refused::HostMalformed);
    }
    same(host, &authority)?;
    let rest = match target.get(end) {
        Some(b'/') => target.slice(end..),
        Some(_) => [b"/", &target[end..]].concat().into(),
        // RFC 9112 3.2.4: an empty path of OPTIONS is the asterisk form.
        None if *method == Method::OPTIONS => Bytes::from_static(b"*"),
        None => Bytes::from_static(b"/"),
    };
    Ok((rest, authority))
}

fn same(host: Option<&Bytes>, authority: &[u8]) -> Result<(), Refused> {
    match host {
        Some(host) if !host.eq_ignore_ascii_case(authority) => Err(Refused::HostMismatch),
        _ => Ok(()),
    }
}

/// A byte that a target may hold: visible ASCII but for `#`, and bytes from 0x80 up.
pub(in crate::listener) const fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && byte != b'#'
}

/// Is this `host` or `host:port`? A host is a name of letters, digits, `-`, `.` and `_`, or an
/// IPv6 address in brackets; a port is 1 to 65535.
pub fn is_authority(authority: &[u8]) -> bool {
    let (host_is_valid, rest) = if let Some(after) = authority.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', after) else {
            return false;
        };
        let address = std::str::from_utf8(&after[..end]).ok();
        let is_address = address.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok());
        (is_address, &after[end + 1..])
    } else {
        let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
        let host = &authority[..end];
        let is_name = !host.is_empty()
            && host.len() <= HOST_MAX_BYTES
            && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte));
        (is_name, &authority[end..])
    };
    host_is_valid && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(port: &[u8]) -> bool {
    // Five digits fit without overflow.
    if port.is_empty() || port.len() > 5 || !port.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let number = port.iter().fold(0, |number, byte| number * 10 + u32::from(byte - b'0'));
    (1..=65_535).contains(&number)
}
