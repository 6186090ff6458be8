//! Replies of a FastCGI application that are late, wrong or cut, as a client sees them.

use std::time::Duration;

use super::support::client::Client;
use super::support::fastcgi::{
    Application, Asked, END_REQUEST, STDERR, STDOUT, end, record, record_of, reply, write,
};
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

const HEAD: &str = "Content-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
                    X-Magento-Tags: t\r\n";

fn whole(content: &str) -> Vec<u8> {
    reply(&format!("{HEAD}\r\n{content}"))
}

/// The first request for `/odd` gets these bytes and the end of the connection; each other one a
/// page that says which it is.
fn odd_first(odd: Vec<u8>) -> Application {
    let first = std::sync::atomic::AtomicBool::new(true);
    Application::start(move |asked: &Asked, stream| {
        if asked.names("/odd") && first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            write(stream, &odd);
            return false;
        }
        write(stream, &whole("good"));
        true
    })
}

fn ask(parvis: &Parvis, method: &str, target: &str) -> std::io::Result<Reply> {
    let mut client = Client::connect(parvis.port);
    client.send(format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n").as_bytes());
    client.read(method == "HEAD")
}

fn parvis(application: &Application) -> Parvis {
    Parvis::before_application(application).with("origin.retries", "0").start()
}

#[test]
fn a_reply_that_is_none_is_502_and_not_stored() {
    let text = |text: &str| record(STDOUT, text.as_bytes());
    let undecodable = record(END_REQUEST, &[0, 0]);
    let other = record_of(7, STDOUT, format!("{HEAD}\r\nodd").as_bytes(), 0);
    let none = record_of(0, STDOUT, format!("{HEAD}\r\nodd").as_bytes(), 0);
    let unknown = [record(99, b"what"), whole("odd")].concat();
    let cases = [
        ("an empty head", reply("\r\nodd")),
        ("no head at all", [record(STDOUT, b""), end(0)].concat()),
        ("no head end", [text(HEAD), end(0)].concat()),
        ("a connection that ends in the head", text("Content-Type: te")),
        ("a connection that ends at once", Vec::new()),
        ("CANT_MPX", end(1)),
        ("UNKNOWN_ROLE", end(3)),
        ("an END_REQUEST that is too short", undecodable),
        ("a record id that is unknown", other),
        ("a record id of 0", none),
        ("an unknown type", unknown),
        ("control characters", reply(&format!("X-A: a\u{1}b\r\n{HEAD}\r\nodd"))),
        ("two lengths", reply(&format!("Content-Length: 3\r\nContent-Length: 4\r\n{HEAD}\r\nodd"))),
    ];
    for (what, odd) in cases {
        let application = odd_first(odd);
        let parvis = parvis(&application);
        let first = ask(&parvis, "GET", "/odd").expect(what);
        assert_eq!(first.status, 502, "{what}");
        let second = ask(&parvis, "GET", "/odd").expect(what);
        assert_eq!((second.status, &*second.text()), (200, "good"), "{what}");
        assert!(!second.is_hit(), "{what} was stored");
    }
    let application = odd_first(end(2));
    let parvis = parvis(&application);
    assert_eq!(ask(&parvis, "GET", "/odd").expect("a reply").status, 503, "OVERLOADED");
}

#[test]
fn the_excess_over_content_length_is_cut_and_a_short_content_is_not_stored() {
    let excess = reply(&format!("Content-Length: 3\r\n{HEAD}\r\nodd<script>"));
    for kept in ["\"0s\"", "\"20s\""] {
        let (odd, next) = (excess.clone(), reply("Content-Type: text/plain\r\n\r\nnext"));
        let application = Application::start(move |asked: &Asked, stream| {
            write(stream, if asked.names("/odd") { &odd } else { &next });
            true
        });
        let parvis =
            Parvis::before_application(&application).with("origin.keep_alive", kept).start();
        for method in ["GET", "POST", "GET"] {
            let odd = ask(&parvis, method, "/odd").expect("a whole response");
            assert_eq!((odd.status, &*odd.text()), (200, "odd"));
            let next = ask(&parvis, "POST", "/next").expect("a whole response");
            assert_eq!((next.status, &*next.text()), (200, "next"), "{method}, {kept}");
        }
    }
    let short = reply(&format!("Content-Length: 30\r\n{HEAD}\r\nshort"));
    let application = odd_first(short);
    let parvis = parvis(&application);
    ask(&parvis, "GET", "/odd").expect_err("a short content passed for a whole one");
    let next = ask(&parvis, "GET", "/odd").expect("a whole response");
    assert!(next.text() == "good" && !next.is_hit());

    let nothing = reply(&format!("Content-Length: 0\r\n{HEAD}\r\nodd"));
    let application = odd_first(nothing);
    let parvis = self::parvis(&application);
    assert_eq!(ask(&parvis, "GET", "/odd").expect("a whole response").text(), "");
}

#[test]
fn a_reply_without_a_proper_end_breaks_off_and_is_not_stored() {
    let part = || record(STDOUT, format!("{HEAD}\r\n<html>").as_bytes());
    let failed = record(END_REQUEST, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let cases = [
        ("no END_REQUEST", part()),
        ("an empty STDOUT record alone", [part(), record(STDOUT, b"")].concat()),
        ("half an END_REQUEST", [part(), end(0)[..12].to_vec()].concat()),
        ("an application status", [part(), failed].concat()),
        ("CANT_MPX", [part(), end(1)].concat()),
        ("OVERLOADED", [part(), end(2)].concat()),
    ];
    for (what, odd) in cases {
        let application = odd_first(odd);
        let parvis = parvis(&application);
        assert!(ask(&parvis, "GET", "/odd").is_err(), "{what} passed for a whole response");
        let next = ask(&parvis, "GET", "/odd").expect("a whole response");
        assert!(next.text() == "good" && !next.is_hit(), "{what} was stored");
    }
    let application = odd_first([part(), end(0)].concat());
    let parvis = parvis(&application);
    assert_eq!(ask(&parvis, "GET", "/odd").expect("a whole response").text(), "<html>");
}

#[test]
fn what_php_leaves_unfinished_after_a_flush_is_stored_only_where_php_says_it_is_whole() {
    let php = Php::with_front_controller("dying.php", 2);
    let parvis = Parvis::before_php(&php).with("origin.retries", "0").start();
    for target in ["/?by=kill", "/?by=fatal&length", "/?by=exit&length", "/?by=memory&length"] {
        assert!(ask(&parvis, "GET", target).is_err(), "{target} passed for a whole response");
        let next = ask(&parvis, "GET", target).expect("a whole response");
        assert!(!next.is_hit() && next.text().ends_with("</html>"), "{target} was stored");
    }
    // PHP-FPM ends these replies as any other: nothing tells that something is missing.
    for target in ["/?by=fatal", "/?by=exit", "/?by=memory"] {
        let first = ask(&parvis, "GET", target).expect("a response with a proper end");
        assert_eq!((first.status, first.text().ends_with("</html>")), (200, false), "{target}");
    }
}

#[test]
fn head_with_and_without_a_body_from_php_then_get() {
    for kept in ["\"0s\"", "\"20s\""] {
        for head_content in ["", "a body that no HEAD has"] {
            let (head, real) = (reply(&format!("{HEAD}\r\n{head_content}")), whole("real"));
            let application = Application::start(move |asked: &Asked, stream| {
                let asked_head = asked.names("REQUEST_METHODHEAD");
                write(stream, if asked_head { &head } else { &real });
                true
            });
            let parvis =
                Parvis::before_application(&application).with("origin.keep_alive", kept).start();
            let mut client = Client::connect(parvis.port);
            for target in ["/customer/account/", "/page"] {
                for _ in 0..2 {
                    assert_eq!(client.ask("HEAD", target, &[], b"").status, 200);
                    let page = client.ask("GET", target, &[], b"");
                    assert_eq!((page.status, &*page.text()), (200, "real"), "{target}");
                }
            }
        }
    }
}

#[test]
fn stderr_padding_and_split_records_leave_the_page_whole() {
    let page = format!("{HEAD}\r\npage");
    let (first, rest) = page.as_bytes().split_at(20);
    let application = odd_first(
        [
            record_of(1, STDERR, &[b'e'; 9_000], 7),
            record_of(1, STDOUT, first, 255),
            record(STDERR, &[b'e'; 9_000]),
            record_of(1, STDOUT, rest, 1),
            record(STDOUT, b""),
            end(0),
            record(STDOUT, b"behind the end"),
        ]
        .concat(),
    );
    let parvis = parvis(&application);
    let page = ask(&parvis, "GET", "/odd").expect("a whole response");
    assert_eq!((page.status, &*page.text()), (200, "page"));
}

#[test]
fn what_php_writes_to_stderr_is_told_with_its_script_and_the_probe_is_named() {
    let missing = [record(STDERR, b"Primary script unknown"), whole("none")].concat();
    let application = odd_first(missing.clone());
    let probing = Parvis::before_application(&application).with("health.probe", "\"/odd\"").start();
    let is_told = |parvis: &Parvis, is_probe: bool| {
        let said = parvis.stderr();
        let line = said.lines().find(|line| line.contains("Primary script unknown"));
        line.is_some_and(|line| {
            line.contains("/index.php")
                && line.contains("/odd")
                && line.contains("health.probe asks for this path") == is_probe
        })
    };
    wait_until("the probe", Duration::from_secs(5), || is_told(&probing, true));
    let application = odd_first(missing);
    let parvis = parvis(&application);
    ask(&parvis, "GET", "/odd?q=hidden").expect("a response");
    wait_until("the script", Duration::from_secs(5), || is_told(&parvis, false));
    assert!(!parvis.stderr().contains("hidden"), "{}", parvis.stderr());
}

#[test]
fn forty_kb_of_response_head_pass() {
    let large = "x".repeat(40 << 10);
    let text = format!("X-Large: {large}\r\n{HEAD}\r\npage");
    let application = odd_first(reply(&text));
    let parvis = parvis(&application);
    let page = ask(&parvis, "GET", "/odd").expect("a whole response");
    assert_eq!(page.header("x-large").map(str::len), Some(40 << 10));
    wait_until("storing", Duration::from_secs(5), || {
        ask(&parvis, "GET", "/odd").expect("a response").is_hit()
    });
}

#[test]
fn exactly_one_empty_stdin_record_is_sent_also_for_an_empty_chunked_body() {
    let application = Application::start(|_, stream| {
        write(stream, &whole("good"));
        true
    });
    let parvis = parvis(&application);
    let mut client = Client::connect(parvis.port);
    client.ask("GET", "/a", &[], b"");
    client.ask("POST", "/a", &[], b"");
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    client.read(false).expect("a response");
    client.ask("POST", "/a", &[], &vec![b'x'; 200_000]);
    // What came after the empty record would have been read as a request of its own.
    let asked = application.asked();
    assert_eq!(asked.len(), 4);
    for empty in &asked[..3] {
        assert_eq!(empty.stdin_records, [0]);
    }
    let (last, full) = asked[3].stdin_records.split_last().expect("records");
    assert_eq!((*last, full.iter().sum::<usize>()), (0, 200_000));
    assert!(full.iter().all(|&length| length > 0 && length <= 65_535), "{full:?}");
}

#[test]
fn the_connection_is_closed_when_nobody_waits_any_more_for_an_uncacheable_reply() {
    let (closed, seen) = std::sync::mpsc::channel();
    let application = Application::start(move |_, stream| {
        let head = "Content-Type: text/html\r\nCache-Control: private\r\n\r\nfirst";
        write(stream, &record(STDOUT, head.as_bytes()));
        let end = std::io::Read::read(stream, &mut [0; 100]);
        let _ = closed.send(matches!(end, Ok(0) | Err(_)));
        false
    });
    let parvis = Parvis::before_application(&application)
        .with("origin.response_memory_max", "\"64KiB\"")
        .start();
    for request in ["GET /fill", "GET /customer/account/", "POST /pass"] {
        let mut client = Client::connect(parvis.port);
        client.send(format!("{request} HTTP/1.1\r\nHost: shop.test\r\n\r\n").as_bytes());
        client.read_head().expect("a head");
        drop(client);
        let gone = seen.recv_timeout(Duration::from_secs(5));
        assert_eq!(gone, Ok(true), "{request}: PHP goes on for nobody");
    }
}

#[test]
fn location_without_status_is_302_and_a_local_path_is_no_internal_redirect() {
    let application = odd_first(reply("Location: /customer/secret\r\n\r\n"));
    let parvis = parvis(&application);
    let redirect = ask(&parvis, "GET", "/odd").expect("a response");
    assert_eq!((redirect.status, redirect.header("location")), (302, Some("/customer/secret")));
    assert_eq!(application.asked().len(), 1);
}
