//! Pages and their fragments: ESI as a visitor and as the origin see it.

mod nestings;
mod slow;
mod wrong;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::support::origin::{Origin, Seen, page};
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

const GZIP: (&str, &str) = ("Accept-Encoding", "gzip");

/// Answers with what may be stored, under the tag `t`.
fn public(stream: &mut TcpStream, content: &str) {
    let _ = stream.write_all(&page(content, "t"));
}

/// Answers with what is for one visitor.
fn private(stream: &mut TcpStream, content: &str) {
    answer(stream, "200 OK", "Cache-Control: private\r\n", content.as_bytes());
}

fn answer(stream: &mut TcpStream, status: &str, lines: &str, content: &[u8]) {
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{lines}Connection: close\r\n\
         Content-Length: {}\r\n\r\n",
        content.len()
    );
    let _ = stream.write_all(content);
}

/// What a test opens when it has seen what it waited for.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock().expect("not poisoned") = open;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let open = self.open.lock().expect("not poisoned");
        let patience = Duration::from_secs(20);
        drop(self.changed.wait_timeout_while(open, patience, |open| !*open).expect("not poisoned"));
    }
}

/// Asks until the page is stored. (A hit may come from a fetch that is about to be stored.)
fn stored(parvis: &Parvis, target: &str) -> Reply {
    parvis.get(target, &[]);
    let is_done = || parvis.metric("parvis_fill_in_flight ") == Some(0.0);
    wait_until("storing", Duration::from_secs(10), is_done);
    let reply = parvis.get(target, &[]);
    assert!(reply.is_hit(), "{target}: {}", reply.cache_status());
    reply
}

#[test]
fn a_page_whose_fragments_are_stored_has_a_length_and_asks_for_nothing() {
    let origin = Origin::start(|seen, stream| match seen.target.as_str() {
        "/page" => public(stream, "a<esi:include src='/menu'/>b"),
        "/menu" => public(stream, "[<esi:include src='/inner'/>]"),
        _ => public(stream, "inner"),
    });
    let parvis = Parvis::before_http(origin.port).start();
    for target in ["/page", "/menu", "/inner"] {
        stored(&parvis, target);
    }
    for (headers, coding) in [(&[][..], None), (&[GZIP][..], Some("gzip"))] {
        let reply = parvis.get("/page", headers);
        assert_eq!(
            (reply.text().as_str(), reply.header("content-encoding")),
            ("a[inner]b", coding)
        );
        let length = reply.header("content-length").expect("its length is known");
        let head = parvis.ask("HEAD", "/page", headers, b"");
        assert_eq!(head.header("content-length"), Some(length));
    }
    assert_eq!(origin.count(), 3);
}

#[test]
fn a_head_fetches_no_fragment_and_tells_no_length() {
    let origin = Origin::start(|seen, stream| match seen.target.as_str() {
        "/page" => public(stream, "a<esi:include src='/own'/>b"),
        _ => private(stream, "own"),
    });
    for http2 in [false, true] {
        let parvis = Parvis::before_http(origin.port).start();
        let parvis = if http2 { parvis.over_http2() } else { parvis };
        let before = origin.seen().iter().filter(|seen| seen.target == "/own").count();
        // The first of them fills the store.
        wait_until("storing", Duration::from_secs(10), || {
            let head = parvis.ask("HEAD", "/page", &[], b"");
            assert_eq!((head.status, head.header("content-length")), (200, None));
            head.is_hit()
        });
        let after = origin.seen().iter().filter(|seen| seen.target == "/own").count();
        assert_eq!(before, after, "a fragment was fetched for a HEAD");
        assert_eq!(parvis.get("/page", &[]).text(), "aownb");
    }
}

#[test]
fn where_a_source_fails_its_alternative_is_taken_and_then_nothing() {
    let elsewhere = Origin::always(page("secret", "t"));
    let port = elsewhere.port;
    let hanging = Arc::new(Gate::default());
    let gate = Arc::clone(&hanging);
    let origin = Origin::start(move |seen, stream| match seen.target.as_str() {
        "/page" | "/passed" => {
            let mut content = String::new();
            for (number, (source, alternative)) in [
                ("/good", "/alt"),
                ("/error", "/alt"),
                ("/missing", "/alt"),
                ("/moved", "/alt"),
                ("/hanging", "/alt"),
                (&*format!("http://127.0.0.1:{port}/"), "/alt"),
                ("/cut", "/private"),
                ("/error", "/missing"),
                ("/error", &*format!("//127.0.0.1:{port}/")),
                ("/error", ""),
            ]
            .into_iter()
            .enumerate()
            {
                content.push_str(&format!(
                    "{number}<esi:include src='{source}' alt=\"{alternative}\"/>"
                ));
            }
            if seen.target == "/page" {
                public(stream, &content);
            } else {
                private(stream, &content);
            }
        }
        "/good" => public(stream, "good"),
        "/alt" => public(stream, "alt"),
        "/private" => private(stream, "own"),
        "/moved" => answer(stream, "302 Found", "Location: /good\r\n", b"moved"),
        "/missing" => answer(stream, "404 Not Found", "", b"missing"),
        "/hanging" => gate.pass(),
        "/cut" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
        }
        _ => answer(stream, "500 Internal Server Error", "", b"error"),
    });
    let parvis = Parvis::before_http(origin.port)
        .with("esi.timeout", "\"300ms\"")
        .with("origin.retries", "0")
        .start();
    for target in ["/page", "/page", "/passed"] {
        for headers in [&[][..], &[GZIP]] {
            let text = parvis.get(target, headers).text();
            assert_eq!(text, "0good1alt2alt3alt4alt5alt6own789", "{target} {headers:?}");
        }
    }
    hanging.set(true);
    assert_eq!(elsewhere.count(), 0, "a request left for another host");
}

/// What fails, and whether the tag says that it does not matter.
fn failing() -> Origin {
    Origin::start(|seen, stream| match seen.target.as_str() {
        "/first" => public(stream, "<esi:include src='/error'/>a"),
        "/refused-first" => public(stream, "<esi:include src='http://other.test/'/>b"),
        "/own-first" => private(stream, "<esi:include src='/error'/>a"),
        "/refused" => public(stream, "a<esi:include src='http://other.test/'/>b"),
        "/nested" => public(stream, "a<esi:include src='/menu' alt='/good'/>b"),
        "/menu" => public(stream, "[<esi:include src='/error'/>]"),
        "/later" => public(stream, "a<esi:include src='/error'/>b"),
        "/own" => private(stream, "a<esi:include src='/error'/>b"),
        "/continued" => public(stream, "a<esi:include src='/error' onerror='continue'/>b"),
        "/good" => public(stream, "good"),
        _ => answer(stream, "500 Internal Server Error", "", b"error"),
    })
}

#[test]
fn a_failing_fragment_fails_its_page_where_a_setting_says_so() {
    let origin = failing();
    let parvis = Parvis::before_http(origin.port)
        .with("esi.on_error", "\"fail\"")
        .with("origin.retries", "0")
        .start();
    // Missed, and stored.
    for _ in 0..6 {
        for target in ["/first", "/refused-first", "/own-first"] {
            let reply = parvis.get(target, &[GZIP]);
            assert_eq!(reply.status, 502, "{target}: nothing of it had left");
            assert!(reply.cache_status().contains("detail=fragment"), "{}", reply.cache_status());
            assert_eq!(reply.header("cache-control"), Some("no-store"));
        }
    }
    for (target, headers) in
        [("/later", &[][..]), ("/later", &[GZIP]), ("/own", &[]), ("/own", &[GZIP])]
    {
        let mut client = super::support::client::Client::connect(parvis.port);
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n{lines}\r\n").as_bytes());
        assert!(client.read(false).is_err(), "{target} {headers:?} looks whole");
    }
    assert_eq!(stored(&parvis, "/continued").text(), "ab");
    for _ in 0..3 {
        let text = parvis.get("/nested", &[]).text();
        assert_eq!(text, "agoodb", "a fragment that fails within fails the one around it");
    }
}

#[test]
fn a_failing_fragment_is_left_out_by_default() {
    let origin = failing();
    let parvis = Parvis::before_http(origin.port).with("origin.retries", "0").start();
    for (target, text) in [
        ("/first", "a"),
        ("/refused", "ab"),
        ("/nested", "a[]b"),
        ("/later", "ab"),
        ("/own", "ab"),
        ("/continued", "ab"),
    ] {
        for headers in [&[][..], &[GZIP], &[]] {
            let reply = parvis.get(target, headers);
            assert_eq!((reply.status, reply.text().as_str()), (200, text), "{target}");
        }
    }
}

#[test]
fn http_sources_on_an_https_page_are_answered_with_the_scheme_of_the_page() {
    let origin = Origin::start(|seen, stream| {
        let proto = seen.header("x-forwarded-proto").unwrap_or("none").to_owned();
        match seen.target.as_str() {
            "/page" => public(
                stream,
                "<esi:include src='http://shop.test/menu'/><esi:include src='http://SHOP.test:443/menu'/>",
            ),
            _ => public(stream, &format!("[{proto} {}]", seen.number)),
        }
    });
    let parvis =
        Parvis::before_http(origin.port).with("listen.trusted", "[\"127.0.0.1/32\"]").start();
    let https = [("X-Forwarded-Proto", "https")];
    wait_until("storing", Duration::from_secs(10), || parvis.get("/page", &https).is_hit());
    wait_until("one menu", Duration::from_secs(10), || parvis.get("/menu", &https).is_hit());
    let menu = parvis.get("/menu", &https).text();
    assert!(menu.starts_with("[https "), "{menu}");
    assert_eq!(parvis.get("/page", &https).text(), format!("{menu}{menu}"));
    assert!(!parvis.get("/menu", &[]).is_hit(), "http has a menu of its own");
}

#[test]
fn marketing_parameters_and_entities_of_a_source_are_those_of_a_request() {
    let origin = Origin::start(|seen, stream| match seen.target.as_str() {
        "/page" => public(
            stream,
            "<esi:include src='/menu?b=1&amp;utm_source=x&amp;a=2'/><esi:include src=\"/menu?a=2&#38;b=1&gclid=y\"/>",
        ),
        target => public(stream, &format!("[{target} {}]", seen.number)),
    });
    let parvis = Parvis::before_http(origin.port).start();
    let menu = stored(&parvis, "/menu?a=2&b=1").text();
    assert!(menu.starts_with("[/menu?a=2&b=1 "), "{menu}");
    assert_eq!(stored(&parvis, "/page").text(), format!("{menu}{menu}"));
    assert_eq!(origin.count(), 2);
}

#[test]
fn an_uncacheable_fragment_in_a_stored_page_is_fetched_for_each_visitor_with_that_visitors_cookies_never_coalesced()
 {
    let (inside, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Gate::default()));
    let (count, closed) = (Arc::clone(&inside), Arc::clone(&gate));
    let origin = Origin::start(move |seen: &Seen, stream| {
        if seen.target != "/own" {
            return public(stream, "a<esi:include src='/own'/>b");
        }
        count.fetch_add(1, Ordering::SeqCst);
        closed.pass();
        let cookie = seen.header("cookie").unwrap_or_default();
        let lines = "Cache-Control: private\r\nSet-Cookie: stolen=1\r\n";
        answer(stream, "200 OK", lines, format!("[{cookie}]").as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).start();
    gate.set(true);
    stored(&parvis, "/page");
    gate.set(false);
    inside.store(0, Ordering::SeqCst);
    let port = parvis.port;
    let visitors: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                let cookie = format!("visitor={number}");
                (super::support::get(port, "/page", &[("Cookie", &cookie)]), cookie)
            })
        })
        .collect();
    // None waits for the other's fetch.
    wait_until("four fetches", Duration::from_secs(10), || inside.load(Ordering::SeqCst) == 4);
    gate.set(true);
    for visitor in visitors {
        let (reply, cookie) = visitor.join().expect("no panic");
        assert_eq!(reply.text(), format!("a[{cookie}]b"));
        assert!(reply.is_hit(), "its fragment made the page uncacheable");
        assert!(reply.header("set-cookie").is_none(), "a fragment set a cookie");
    }
    let pages = origin.seen().iter().filter(|seen| seen.target == "/page").count();
    assert_eq!(pages, 1);
}

#[test]
fn a_purge_of_the_menus_tag_refreshes_the_menu_of_every_page_without_fetching_a_page() {
    const PAGES: usize = 20;
    let origin = Origin::start(|seen, stream| {
        if seen.target == "/menu" {
            let _ = stream.write_all(&page(&format!("menu {}", seen.number), "cat_c_1"));
        } else {
            public(stream, &format!("{}<esi:include src='/menu'/>", seen.target));
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    let count =
        |menu: bool| origin.seen().iter().filter(|seen| (seen.target == "/menu") == menu).count();
    for number in 0..PAGES {
        stored(&parvis, &format!("/{number}"));
    }
    stored(&parvis, "/menu");
    assert_eq!((count(false), count(true)), (PAGES, 1));
    assert_eq!(parvis.purge_tag("cat_c_1").status, 200);
    let menu = stored(&parvis, "/menu").text();
    for number in 0..PAGES {
        let reply = parvis.get(&format!("/{number}"), &[GZIP]);
        assert!(reply.is_hit());
        assert_eq!(reply.text(), format!("/{number}{menu}"));
    }
    assert_eq!((count(false), count(true)), (PAGES, 2));
}

#[test]
fn a_stale_fragment_is_served_within_its_grace_and_refreshed_behind_it() {
    let gate = Arc::new(Gate::default());
    let closed = Arc::clone(&gate);
    let origin = Origin::start(move |seen, stream| {
        if seen.target != "/menu" {
            return public(stream, "a<esi:include src='/menu'/>b");
        }
        if seen.number > 1 {
            closed.pass();
        }
        let text = String::from_utf8(page(&format!("{}", seen.number), "t")).expect("text");
        let _ = stream.write_all(text.replace("s-maxage=86400", "s-maxage=1").as_bytes());
    });
    let parvis = Parvis::before_http(origin.port).with("store.grace", "\"60s\"").start();
    wait_until("storing both", Duration::from_secs(10), || {
        parvis.get("/page", &[]).header("content-length").is_some()
    });
    // The refresh waits at the gate, so that whatever is served until then is the old menu.
    wait_until("a refresh", Duration::from_secs(10), || {
        let reply = parvis.get("/page", &[]);
        assert_eq!((reply.text().as_str(), reply.header("content-length")), ("a1b", Some("3")));
        origin.count() > 2
    });
    gate.set(true);
    wait_until("the new menu", Duration::from_secs(10), || {
        parvis.get("/page", &[]).text() != "a1b"
    });
}

#[test]
fn a_fragment_that_the_origin_coded_is_decoded_and_one_in_an_unknown_coding_is_left_out() {
    let coded = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).expect("compressed");
        encoder.finish().expect("compressed")
    };
    let origin = Origin::start(move |seen, stream| {
        let (kept, own) = (
            "Cache-Control: public, s-maxage=600\r\nX-Magento-Tags: t\r\nContent-Encoding: gzip\r\n",
            "Cache-Control: private\r\nContent-Encoding: gzip\r\n",
        );
        let unknown = "Cache-Control: private\r\nContent-Encoding: x-odd\r\n";
        let inner = coded(&format!("({}<esi:include src='/inner'/>)", seen.target));
        match seen.target.as_str() {
            "/page" => public(
                stream,
                "a<esi:include src='/kept'/>b<esi:include src='/own'/>c<esi:include src='/odd'/>d",
            ),
            "/kept" => answer(stream, "200 OK", kept, &inner),
            "/own" => answer(stream, "200 OK", own, &inner),
            "/odd" => answer(stream, "200 OK", unknown, b"\x00\x01"),
            _ => public(stream, "i"),
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    for _ in 0..3 {
        for headers in [&[][..], &[GZIP]] {
            assert_eq!(parvis.get("/page", headers).text(), "a(/kepti)b(/owni)cd");
        }
    }
    for (target, text) in [("/page", "a(/kepti)b(/owni)cd"), ("/kept", "(/kepti)")] {
        assert_eq!(stored(&parvis, target).text(), text);
    }
}
