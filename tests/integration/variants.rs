//! Several stored responses for one URL: Vary (RFC 9111 4.1).

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use super::support::client::Client;
use super::support::origin::{Origin, Seen};
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

/// An origin whose response names the values it was selected by. The path is its Vary (`+` for a
/// new line, `_` for a space), or `/none`.
fn varying() -> Origin {
    Origin::start(|seen, stream| {
        let names = seen.target.trim_start_matches('/').split('?').next().unwrap_or_default();
        let mut head = String::from("Content-Type: text/html\r\nCache-Control: max-age=600\r\n");
        if names != "none" {
            for line in names.split('+') {
                head.push_str(&format!("Vary: {}\r\n", line.replace('_', " ")));
            }
        }
        let content = format!("{} {}", selected(seen), seen.number);
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\n{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{content}"
        );
    })
}

fn selected(seen: &Seen) -> String {
    let values: Vec<_> = seen.headers.iter().filter(|(name, _)| name.starts_with("X-")).collect();
    let own = values.iter().filter(|(name, _)| !name.starts_with("X-Forwarded"));
    own.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn generic(origin: &Origin) -> Parvis {
    Parvis::before_http(origin.port).with("site.policy", "\"generic\"").start()
}

fn stored(parvis: &Parvis, target: &str, headers: &[(&str, &str)]) -> Reply {
    let first = parvis.get(target, headers);
    wait_until("storing", Duration::from_secs(5), || parvis.get(target, headers).is_hit());
    first
}

#[test]
fn requests_that_differ_in_a_selecting_header_get_their_own_variant() {
    let origin = varying();
    let parvis = generic(&origin);
    let one = stored(&parvis, "/X-A", &[("X-A", "1"), ("X-B", "1")]);
    let two = stored(&parvis, "/X-A", &[("X-A", "2")]);
    let none = stored(&parvis, "/X-A", &[]);
    assert_ne!(one.text(), two.text());
    assert_eq!(parvis.get("/X-A", &[("X-A", "1"), ("X-B", "2")]).text(), one.text());
    assert_eq!(parvis.get("/X-A", &[("X-A", "2")]).text(), two.text());
    assert_eq!(parvis.get("/X-A", &[]).text(), none.text());
    assert_eq!(origin.count(), 3);
}

#[test]
fn vary_with_empty_names_and_on_several_lines_is_one_list() {
    let origin = varying();
    let parvis = generic(&origin);
    for target in ["/,,_X-A_,", "/,,X-A,", "/X-A+X-B"] {
        let one = stored(&parvis, target, &[("X-A", "1"), ("X-B", "1")]);
        let two = stored(&parvis, target, &[("X-A", "2"), ("X-B", "1")]);
        assert_ne!(one.text(), two.text(), "{target}");
        assert_eq!(parvis.get(target, &[("X-B", "1"), ("X-A", "1")]).text(), one.text());
    }
}

#[test]
fn a_reply_without_vary_replaces_all_variants() {
    let origin = Origin::start(|seen, stream| {
        let vary = if seen.number < 2 { "Vary: X-A\r\n" } else { "" };
        let control = if seen.number == 2 { "max-age=1" } else { "max-age=600" };
        let content = format!("version {}", seen.number);
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: {control}\r\n{vary}Content-Length: {length}\r\n\
             Connection: close\r\n\r\n{content}"
        );
    });
    let parvis = generic(&origin);
    stored(&parvis, "/p", &[("X-A", "1")]);
    stored(&parvis, "/p", &[("X-A", "2")]);
    assert_eq!(stored(&parvis, "/p", &[("X-A", "3")]).text(), "version 2");
    for value in ["1", "2", "3", "4"] {
        assert_eq!(parvis.get("/p", &[("X-A", value)]).text(), "version 2", "X-A: {value}");
    }
    thread::sleep(Duration::from_millis(1100));
    // Nor do they come back once it has expired.
    assert_eq!(parvis.get("/p", &[("X-A", "1")]).text(), "version 3");
}

#[test]
fn a_purge_of_the_url_reaches_all_variants() {
    let origin = varying();
    let parvis = generic(&origin);
    for value in ["1", "2"] {
        stored(&parvis, "/X-A", &[("X-A", value)]);
    }
    let scope = r#"{"url":"http://shop.test/X-A"}"#;
    let reply = super::support::request(
        parvis.control,
        "POST",
        "/purge",
        &[("Content-Type", "application/json")],
        scope.as_bytes(),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    for value in ["1", "2"] {
        assert!(!parvis.get("/X-A", &[("X-A", value)]).is_hit());
    }
}

#[test]
fn a_million_values_keep_no_more_than_32_variants_of_a_url() {
    let origin = varying();
    let parvis = generic(&origin);
    for value in 0..100 {
        stored(&parvis, "/X-A", &[("X-A", &value.to_string())]);
    }
    let objects = parvis.metric("parvis_store_objects").expect("a gauge");
    assert!(objects <= 32.0, "{objects} variants");
    assert!(parvis.get("/X-A", &[("X-A", "99")]).is_hit());
    assert!(!parvis.get("/X-A", &[("X-A", "0")]).is_hit());
}

#[test]
fn those_who_wait_for_another_variant_fetch_their_own_once() {
    let renders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&renders);
    let origin = Origin::start(move |seen, stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(400));
        let content = selected(seen);
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nVary: X-A\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{content}"
        );
    });
    let parvis = generic(&origin);
    let (port, barrier) = (parvis.port, Arc::new(Barrier::new(20)));
    let threads: Vec<_> = (0..20)
        .map(|number| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let value = (number % 2).to_string();
                let mut client = Client::connect(port);
                barrier.wait();
                (client.ask("GET", "/p", &[("X-A", &value)], b"").text(), value)
            })
        })
        .collect();
    for thread in threads {
        let (text, value) = thread.join().expect("a reply");
        assert_eq!(text, format!("X-A={value}"), "never another's variant");
    }
    assert!(renders.load(Ordering::SeqCst) <= 3, "one fetch for each variant, and no herd");
}

#[test]
fn the_magento_policy_tells_browsers_apart_where_the_page_says_so() {
    let origin = Origin::start(|seen, stream| {
        let content = seen.header("user-agent").unwrap_or("none").to_owned();
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
             X-Magento-Tags: t\r\nVary: User-Agent\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n\
             {content}"
        );
    });
    let parvis = Parvis::before_http(origin.port).start();
    for agent in ["one", "two"] {
        stored(&parvis, "/p", &[("User-Agent", agent)]);
    }
    assert_eq!(parvis.get("/p", &[("User-Agent", "one")]).text(), "one");
    assert_eq!(parvis.get("/p", &[("User-Agent", "two")]).text(), "two");
    assert_eq!(origin.count(), 2);
    parvis.purge_tag("t");
    assert!(!parvis.get("/p", &[("User-Agent", "one")]).is_hit());
}

#[test]
fn who_asks_for_a_first_variant_while_it_arrives_shares_its_fetch() {
    let (more, wanted) = channel::<()>();
    let wanted = Mutex::new(wanted);
    let origin = Origin::start(move |_, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: max-age=600\r\n\
             Vary: X-A\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf"
        );
        let _ = wanted.lock().unwrap().recv_timeout(Duration::from_secs(10));
        let _ = write!(stream, "half");
    });
    let parvis = generic(&origin);
    let ask = || {
        let mut client = Client::connect(parvis.port);
        client.send(b"GET /p HTTP/1.1\r\nHost: shop.test\r\nX-A: 1\r\n\r\n");
        let head = client.read_head().expect("a head");
        (client, head)
    };
    let (_first, head) = ask();
    assert!(!head.is_hit());
    let (_second, head) = ask();
    assert!(head.is_collapsed(), "{}", head.cache_status());
    drop(more);
    wait_until("storing", Duration::from_secs(5), || {
        parvis.get("/p", &[("X-A", "1")]).cache_status().contains("hit; ttl")
    });
    assert_eq!(origin.count(), 1);
}

#[test]
fn vary_that_changed_is_still_right_after_a_restart() {
    let names = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&names);
    let origin = Origin::start(move |seen, stream| {
        let vary = ["X-A", "X-B"][told.load(Ordering::SeqCst)];
        let content = format!("{vary} {}", selected(seen));
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nVary: {vary}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{content}"
        );
    });
    let check = |parvis: &Parvis| {
        // What the first list selected may go on; whatever is given was selected for the request.
        for (a, b) in [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")] {
            let text = parvis.get("/p", &[("X-A", a), ("X-B", b)]).text();
            let (by, selected) = text.split_once(' ').expect("two words");
            let wanted = if by == "X-A" { format!("X-A={a}") } else { format!("X-B={b}") };
            assert!(selected.split(',').any(|pair| pair == wanted), "{text} for {a} {b}");
        }
    };
    let parvis = generic(&origin);
    stored(&parvis, "/p", &[("X-A", "1"), ("X-B", "1")]);
    names.store(1, Ordering::SeqCst);
    stored(&parvis, "/p", &[("X-A", "2"), ("X-B", "1")]);
    stored(&parvis, "/p", &[("X-A", "2"), ("X-B", "2")]);
    check(&parvis);
    drop(parvis);
    let parvis = generic(&origin);
    stored(&parvis, "/p", &[("X-A", "2"), ("X-B", "1")]);
    check(&parvis);
}
