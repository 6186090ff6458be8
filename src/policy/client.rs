//! Who sent a request: the forwarding headers of trusted hops, read once and in one place.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::exchange::{Client, Peer, Request, Scheme};
use crate::fields::Fields;
use crate::settings::Networks;

/// Hops of X-Forwarded-For that are read at most; a chain of trusted proxies is shorter.
const HOPS_MAX: usize = 32;

/// Headers that say who the client is; from a peer that is not trusted they are forged.
const FORWARDING: [&str; 7] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "forwarded",
    "x-real-ip",
    "ssl-offloaded",
];

/// Resolves the client.
///
/// X-Forwarded-For is read from the right, where each hop appends the address it saw, and only as
/// long as the address before was one of `trusted`; the first other address is the client, and
/// what stands further left is dropped as hearsay. A load balancer may write a port after the
/// address (ALB's `xff_client_port`), with brackets around IPv6. An element that is no address
/// ends the walk.
///
/// Of several values of X-Forwarded-Proto and -Port the last counts: it is the one the direct peer
/// wrote (ALB replaces both headers; a proxy that appends leaves what the client had sent on the
/// left). `https` means port 443 unless X-Forwarded-Port says otherwise, `http` means 80. Without
/// X-Forwarded-Proto a trusted `Ssl-Offloaded: 1` means https as well.
pub fn resolve(trusted: &Networks, request: &Request) -> Client {
    let connection = &request.connection;
    let peer = connection.peer.address();
    let trusted_peer = trusted.contains(peer);
    let peer_port = match connection.peer {
        Peer::Ip(address) => address.port(),
        Peer::Unix => 0,
    };
    let own_scheme = if connection.tls { Scheme::Https } else { Scheme::Http };
    let own_port = connection.local.map_or(default_port(own_scheme), |local| local.port());
    // One look at the names: most requests carry none of them.
    let forwarding = request.fields.iter().any(|field| {
        matches!(field.name.len(), 9 | 13 | 15..=17) && FORWARDING.iter().any(|name| field.is(name))
    });
    let mut client = Client {
        address: peer,
        port: peer_port,
        scheme: own_scheme,
        server_port: own_port,
        trusted_peer,
        forged: forwarding && !trusted_peer,
        hops: Vec::new(),
    };
    if !(forwarding && trusted_peer) {
        return client;
    }
    for address in addresses_from_the_right(&request.fields) {
        if client.hops.len() == HOPS_MAX || !trusted.contains(client.address) {
            break;
        }
        client.hops.push(client.address);
        client.address = address;
        client.port = 0;
    }
    client.hops.reverse();
    if let Some(scheme) = forwarded_scheme(&request.fields) {
        client.scheme = scheme;
        client.server_port = default_port(scheme);
    }
    if let Some(port) = forwarded_port(&request.fields) {
        client.server_port = port;
    }
    client
}

/// For whom the client says that it asks, where it is not trusted with that: the next element of X-Forwarded-For.
pub fn hearsay(request: &Request, client: &Client) -> Option<IpAddr> {
    addresses_from_the_right(&request.fields).nth(client.hops.len())
}

/// The port that a URL of this scheme need not name.
pub(super) const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// The addresses of X-Forwarded-For over all its lines, the nearest first, up to the first element
/// that is no address.
fn addresses_from_the_right(fields: &Fields) -> impl Iterator<Item = IpAddr> {
    // Lines are few (the listener bounds them); only their order has to be turned round.
    let mut lines: Vec<&Bytes> = fields.all("x-forwarded-for").collect();
    lines.reverse();
    lines
        .into_iter()
        .flat_map(|line| line.rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
        .map_while(address)
}

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`, also in quotes.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element).ok()?.trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()?;
    Some(address.to_canonical())
}

fn forwarded_scheme(fields: &Fields) -> Option<Scheme> {
    let Some(word) = fields.list("x-forwarded-proto").last() else {
        let offloaded = fields.list("ssl-offloaded").last()?;
        let yes = [&b"1"[..], b"on", b"true", b"https"];
        return yes.iter().any(|yes| offloaded.eq_ignore_ascii_case(yes)).then_some(Scheme::Https);
    };
    if word.eq_ignore_ascii_case(b"https") {
        Some(Scheme::Https)
    } else if word.eq_ignore_ascii_case(b"http") {
        Some(Scheme::Http)
    } else {
        None
    }
}

fn forwarded_port(fields: &Fields) -> Option<u16> {
    let digits = fields.list("x-forwarded-port").last()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|&port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::get;
    use proptest::prelude::*;

    fn trusted() -> Networks {
        ["127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32"]
            .iter()
            .map(|network| network.parse().expect("a network"))
            .collect()
    }

    fn from<const N: usize>(peer: &str, fields: [(&'static str, &str); N]) -> Client {
        let mut request = get("/", fields);
        request.connection.peer = Peer::Ip(peer.parse().expect("an address"));
        request.connection.local = Some(SocketAddr::from(([10, 0, 0, 9], 6081)));
        resolve(&trusted(), &request)
    }

    #[test]
    fn who_is_named_by_a_client_is_hearsay() {
        let heard = |peer: &str, value: &str| {
            let mut request = get("/", [("X-Forwarded-For", value)]);
            request.connection.peer =
                Peer::Ip(SocketAddr::new(peer.parse().expect("an address"), 1));
            let client = resolve(&trusted(), &request);
            hearsay(&request, &client).map(|address| address.to_string())
        };
        assert_eq!(heard("203.0.113.1", "192.0.2.1, 192.0.2.2").as_deref(), Some("192.0.2.2"));
        assert_eq!(heard("127.0.0.1", "192.0.2.1, 203.0.113.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(heard("127.0.0.1", "203.0.113.1"), None);
        assert_eq!(heard("203.0.113.1", "unknown"), None);
    }

    #[test]
    fn without_forwarding_headers_the_peer_is_the_client() {
        let client = from("192.0.2.1:5000", []);
        assert_eq!((client.address, client.port), (IpAddr::from([192, 0, 2, 1]), 5000));
        assert_eq!((client.scheme, client.server_port), (Scheme::Http, 6081));
        assert_eq!(client.forwarded_for(), "192.0.2.1");
        assert!(!client.forged && !client.trusted_peer);
    }

    #[test]
    fn the_first_address_from_the_right_that_is_not_trusted_is_the_client() {
        let client = from(
            "10.0.0.1:1",
            [("X-Forwarded-For", "6.6.6.6, 192.0.2.7"), ("x-forwarded-for", "10.0.0.2:4711")],
        );
        assert_eq!(client.address, IpAddr::from([192, 0, 2, 7]));
        assert_eq!(client.port, 0);
        assert_eq!(client.forwarded_for(), "192.0.2.7, 10.0.0.2, 10.0.0.1");
        assert!(client.trusted_peer && !client.forged);
    }

    #[test]
    fn a_chain_of_trusted_hops_alone_ends_at_its_left() {
        let client = from("10.0.0.1:1", [("X-Forwarded-For", "10.0.0.3, 10.0.0.2")]);
        assert_eq!(client.address, IpAddr::from([10, 0, 0, 3]));
    }

    #[test]
    fn an_element_that_is_no_address_ends_the_walk() {
        let client = from("10.0.0.1:1", [("X-Forwarded-For", "192.0.2.7, unknown, 10.0.0.2")]);
        assert_eq!(client.address, IpAddr::from([10, 0, 0, 2]));
        assert_eq!(client.forwarded_for(), "10.0.0.2, 10.0.0.1");
    }

    #[test]
    fn addresses_may_carry_ports_brackets_and_quotes() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
        ] {
            assert_eq!(address(text.as_bytes()), expected.parse().ok(), "{text}");
        }
        assert_eq!(address(b"unknown"), None);
        assert_eq!(address(b"_hidden"), None);
        assert_eq!(address(b"\xff"), None);
    }

    #[test]
    fn forwarding_headers_from_a_peer_that_is_not_trusted_are_forged_and_have_no_effect() {
        for name in FORWARDING {
            let client = from("192.0.2.1:5000", [(name, "1"), ("X-Forwarded-Proto", "https")]);
            assert!(client.forged, "{name}");
            assert_eq!(client.scheme, Scheme::Http);
            assert_eq!(client.server_port, 6081);
            assert_eq!(client.forwarded_for(), "192.0.2.1");
        }
        for name in FORWARDING {
            assert!(from("192.0.2.1:5000", [(name, "x")]).forged, "{name}");
            assert!(!from("10.0.0.1:5000", [(name, "x")]).forged, "{name}");
        }
    }

    #[test]
    fn behind_a_trusted_https_the_port_is_443_unless_it_is_named() {
        let https = from("10.0.0.1:1", [("X-Forwarded-Proto", "HTTPS")]);
        assert_eq!((https.scheme, https.server_port), (Scheme::Https, 443));
        let named =
            from("10.0.0.1:1", [("X-Forwarded-Proto", "https"), ("X-Forwarded-Port", "8443")]);
        assert_eq!(named.server_port, 8443);
        let http = from("10.0.0.1:1", [("X-Forwarded-Proto", "http")]);
        assert_eq!((http.scheme, http.server_port), (Scheme::Http, 80));
        let offloaded = from("10.0.0.1:1", [("Ssl-Offloaded", "1")]);
        assert_eq!((offloaded.scheme, offloaded.server_port), (Scheme::Https, 443));
    }

    #[test]
    fn of_several_protocols_and_ports_the_last_counts_and_nonsense_none() {
        let last =
            from("10.0.0.1:1", [("X-Forwarded-Proto", "http, https"), ("X-Forwarded-Port", "1,2")]);
        assert_eq!((last.scheme, last.server_port), (Scheme::Https, 2));
        for port in ["0", "65536", "+80", "", "x"] {
            let odd =
                from("10.0.0.1:1", [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Port", port)]);
            assert_eq!((odd.scheme, odd.server_port), (Scheme::Http, 6081), "{port}");
        }
    }

    #[test]
    fn a_unix_socket_counts_as_loopback() {
        let mut request = get("/", [("X-Forwarded-For", "192.0.2.7")]);
        request.connection.peer = Peer::Unix;
        request.connection.local = None;
        let client = resolve(&Networks::loopback(), &request);
        assert_eq!(client.address, IpAddr::from([192, 0, 2, 7]));
        assert_eq!(client.server_port, 80);
    }

    #[test]
    fn a_long_chain_costs_no_more_than_its_bound() {
        let chain = vec!["10.0.0.5"; 1_000].join(",");
        let client = from("10.0.0.1:1", [("X-Forwarded-For", &chain)]);
        assert_eq!(client.address, IpAddr::from([10, 0, 0, 5]));
        assert_eq!(client.forwarded_for().split(|&byte| byte == b',').count(), HOPS_MAX + 1);
    }

    proptest! {
        #[test]
        fn a_stranger_cannot_change_who_he_is(value in "[ -~]{0,40}") {
            let plain = from("192.0.2.1:5000", []);
            let with = from("192.0.2.1:5000", [("X-Forwarded-For", value.as_str())]);
            prop_assert_eq!(Client { forged: true, ..plain }, with);
        }
    }
}
