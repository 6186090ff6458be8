//! Pages with includes, and their fragments, that the origin sent coded.

use super::{PUBLIC, before, brotli, generic, gzip, send, stored, text, zlib};
use crate::support::Parvis;
use crate::support::client::Client;
use crate::support::origin::Origin;

fn by(policy: &str, port: u16) -> Parvis {
    before(port).with("site.policy", &format!("\"{policy}\"")).start()
}

#[test]
fn a_fragment_that_came_coded_is_decoded_before_it_stands_in_a_page() {
    let origin = Origin::start(|seen, stream| {
        let coded = "Content-Encoding: gzip\r\n";
        match seen.target.as_str() {
            "/kept" => send(stream, &format!("{PUBLIC}{coded}"), &gzip(b"<nav>")),
            "/own" => {
                let fields = format!("Cache-Control: no-store\r\n{coded}");
                send(stream, &fields, &gzip(b"<nav>"));
            }
            _ => {
                let page = b"<a><esi:include src=\"/kept\"/><b><esi:include src=\"/own\"/><c>";
                let fields = format!("{PUBLIC}Surrogate-Control: content=\"ESI/1.0\"\r\n");
                send(stream, &fields, page);
            }
        }
    });
    for http2 in [false, true] {
        let mut parvis = generic(origin.port).start();
        if http2 {
            parvis = parvis.over_http2();
        }
        let whole = "<a><nav><b><nav><c>";
        assert_eq!(parvis.get("/page", &[]).text(), whole, "as it streams");
        stored(&parvis, "/kept", &[]);
        assert_eq!(stored(&parvis, "/page", &[]).text(), whole);
    }
}

/// A page with an include in each coding, as a response that is stored and as one that is not; what
/// stands below `/broken/` is not coded as it says.
fn coded_pages(control: &'static str) -> Origin {
    Origin::start(move |seen, stream| {
        let content = format!("<a><esi:include src=\"/menu\"/><b>{}", text());
        let (directory, coding) = seen.target[1..].split_once('/').unwrap_or_default();
        let coded = match coding {
            _ if directory == "broken" => content.into_bytes(),
            "gzip" => gzip(content.as_bytes()),
            "br" => brotli(content.as_bytes()),
            "deflate" => zlib(content.as_bytes()),
            _ => return send(stream, PUBLIC, b"<nav>"),
        };
        let kept = if directory == "own" { "Cache-Control: private\r\n" } else { PUBLIC };
        let fields =
            format!("{kept}{control}Content-Encoding: {coding}\r\nETag: \"a\"\r\nDigest: x\r\n");
        send(stream, &fields, &coded);
    })
}

#[test]
fn a_page_that_came_coded_is_searched_for_includes_in_both_policies() {
    const ESI: &str = "Surrogate-Control: content=\"ESI/1.0\"\r\n";
    let whole = format!("<a><nav><b>{}", text());
    for (policy, control) in [("generic", ESI), ("magento", ""), ("magento", ESI)] {
        let origin = coded_pages(control);
        let parvis = by(policy, origin.port);
        for coding in ["gzip", "br", "deflate"] {
            let (kept, own) = (format!("/kept/{coding}"), format!("/own/{coding}"));
            for accepted in ["gzip, br", ""] {
                let headers = [("Accept-Encoding", accepted)];
                for reply in [
                    parvis.get(&kept, &headers),
                    stored(&parvis, &kept, &headers),
                    parvis.get(&own, &headers),
                    parvis.ask("POST", &own, &headers, b""),
                ] {
                    assert_eq!(reply.text(), whole, "{policy}, {coding}, {accepted}");
                    assert_eq!(reply.header("digest"), None);
                    assert_ne!(reply.header("etag"), Some("\"a\""));
                }
            }
        }
    }
}

#[test]
fn without_surrogate_control_the_generic_policy_leaves_a_coded_page_as_it_came() {
    let origin = coded_pages("");
    let parvis = generic(origin.port).start();
    for target in ["/kept/gzip", "/own/gzip"] {
        let reply = parvis.get(target, &[("Accept-Encoding", "gzip")]);
        assert!(reply.text().contains("<esi:include"), "{target}");
        assert_eq!((reply.header("digest"), reply.header("etag")), (Some("x"), Some("\"a\"")));
    }
}

#[test]
fn a_page_with_includes_that_is_not_coded_as_it_says_is_passed_on_as_it_came_and_not_stored() {
    let origin = coded_pages("Surrogate-Control: content=\"ESI/1.0\"\r\n");
    for policy in ["generic", "magento"] {
        let parvis = by(policy, origin.port);
        for (method, target) in
            [("GET", "/broken/gzip"), ("GET", "/broken/gzip"), ("POST", "/broken/br")]
        {
            let before = origin.count();
            let reply = parvis.ask(method, target, &[("Accept-Encoding", "gzip")], b"");
            assert_eq!(reply.status, 200);
            assert!(reply.body.starts_with(b"<a><esi:include"), "{policy} {method}");
            assert!(target.ends_with(reply.header("content-encoding").expect("a coding")));
            assert_eq!(origin.count(), before + 1, "{policy} {method}: it was stored");
        }
    }
}

#[test]
fn a_bomb_with_includes_is_broken_off() {
    let origin = Origin::start(|seen, stream| {
        let bomb = gzip(&vec![b' '; 20 << 20]);
        let kept = if seen.target == "/own" { "Cache-Control: private\r\n" } else { PUBLIC };
        let esi = "Surrogate-Control: content=\"ESI/1.0\"\r\nContent-Encoding: gzip\r\n";
        send(stream, &format!("{kept}{esi}"), &bomb);
    });
    let parvis = generic(origin.port).start();
    for target in ["/kept", "/own", "/kept"] {
        let mut client = Client::connect(parvis.port);
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n").as_bytes());
        assert!(client.read(false).is_err(), "{target}");
    }
    assert_eq!(origin.count(), 3, "nothing of it is stored");
}
