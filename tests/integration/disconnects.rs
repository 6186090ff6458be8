//! Clients that leave in the middle of anything: the next request gets what it asked for.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::Client;
use super::support::h2::H2;
use super::support::process::wait_until;

/// An origin that keeps its connections, and says in each reply which request it answers. The
/// head comes after a while, the content in two halves.
fn kept_origin() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while answer(&mut reader).is_some() {}
            });
        }
    });
    port
}

fn answer(reader: &mut BufReader<TcpStream>) -> Option<()> {
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).ok().filter(|&bytes| bytes > 0)?;
    let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    let mut chunked = false;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field).ok().filter(|&bytes| bytes > 0)?;
        let field = field.trim_end().to_ascii_lowercase();
        if let Some(value) = field.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        chunked |= field.starts_with("transfer-encoding");
        if field.is_empty() {
            break;
        }
    }
    assert!(!chunked, "content is sent with its length");
    let mut content = vec![0; length];
    reader.read_exact(&mut content).ok()?;
    let (method, target) = (&words[0], &words[1]);
    let pause = if target.contains("slow") { 120 } else { 0 };
    thread::sleep(Duration::from_millis(pause));
    let control = if target.starts_with("/stored") || target.starts_with("/page") {
        "public, s-maxage=600"
    } else {
        "private, no-store"
    };
    let include =
        if target.starts_with("/page") { "<esi:include src=\"/block-slow\"/>" } else { "" };
    let text = format!(
        "{method} {target} {} {include}{}",
        String::from_utf8_lossy(&content),
        ".".repeat(30_000)
    );
    let stream = reader.get_mut();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: {control}\r\nX-Magento-Tags: t\r\n\
         Content-Length: {}\r\n\r\n",
        text.len()
    );
    let (first, second) = text.split_at(15_000);
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(first.as_bytes()).ok()?;
    thread::sleep(Duration::from_millis(pause));
    stream.write_all(second.as_bytes()).ok()
}

fn started() -> Parvis {
    Parvis::before_http(kept_origin())
        .with("origin.keep_alive", "\"20s\"")
        .with("origin.concurrency_max", "2")
        .with("encoding.gzip", "false")
        .start()
}

/// Three more requests, on connections that were kept if any were.
fn next_are_right(parvis: &Parvis, what: &str) {
    for number in 0..3 {
        let target = format!("/next/{number}");
        let get = parvis.get(&target, &[]).text();
        assert!(get.starts_with(&format!("GET {target}  .")), "{what}: {}", &get[..60]);
        assert_eq!(get.len(), 30_000 + target.len() + 6, "{what}");
        let post = parvis.ask("POST", &target, &[], b"content").text();
        assert!(post.starts_with(&format!("POST {target} content .")), "{what}: {}", &post[..60]);
    }
}

fn leave_after(parvis: &Parvis, bytes: &[u8], pause: Duration) {
    let mut client = Client::connect(parvis.port);
    client.send(bytes);
    thread::sleep(pause);
}

#[test]
fn a_client_may_leave_in_each_phase_and_the_next_request_is_right() {
    let parvis = started();
    let millis = Duration::from_millis;
    leave_after(&parvis, b"GET /half-a-head HTTP/1.1\r\nHost: sh", millis(20));
    next_are_right(&parvis, "in the head");
    let post = b"POST /x HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 100\r\n\r\nhalf";
    leave_after(&parvis, post, millis(20));
    next_are_right(&parvis, "in the content");
    let post = b"POST /x HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal";
    leave_after(&parvis, post, millis(20));
    next_are_right(&parvis, "in a chunk");
    // 60 ms: before the response's head. 180 ms: in the middle of its content.
    for pause in [60, 180] {
        for (number, path) in
            ["/slow", "/customer/slow", "/stored-slow", "/page-slow"].iter().enumerate()
        {
            let get = format!("GET {path}?p={pause} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
            leave_after(&parvis, get.as_bytes(), millis(pause));
            next_are_right(&parvis, &format!("{path} after {pause} ms"));
            let post = format!(
                "POST {path}?p={pause} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\n\r\n{number}"
            );
            leave_after(&parvis, post.as_bytes(), millis(pause));
            next_are_right(&parvis, &format!("POST {path} after {pause} ms"));
        }
    }
    for path in ["/stored-slow?p=60", "/stored-slow?p=180"] {
        let reply = parvis.get(path, &[]);
        assert!(
            reply.is_hit() || reply.is_collapsed(),
            "a fill goes on without its leader: {path}"
        );
        assert!(reply.text().starts_with(&format!("GET {path} ")));
    }
}

#[test]
fn followers_and_readers_of_fragments_may_leave_too() {
    let parvis = started();
    let port = parvis.port;
    let stays = thread::spawn(move || super::support::get(port, "/page-slow?f", &[]).text());
    for pause in [30, 60, 120, 180, 240] {
        let get = b"GET /page-slow?f HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        leave_after(&parvis, get, Duration::from_millis(pause));
    }
    let page = stays.join().expect("no panic");
    assert!(page.starts_with("GET /page-slow?f  GET /block-slow  ."), "{}", &page[..80]);
    assert_eq!(page.len(), 30_000 * 2 + "GET /page-slow?f  GET /block-slow  ".len());
    next_are_right(&parvis, "after followers left");
}

#[test]
fn a_stream_may_be_reset_in_each_phase_and_the_others_are_right() {
    let parvis = started();
    let mut client = H2::connect(parvis.port);
    for pause in [10, 60, 180, 300] {
        for path in ["/slow", "/customer/slow", "/stored-slow", "/page-slow"] {
            let target = format!("{path}?p={pause}");
            client.cancel(&target, &[], Duration::from_millis(pause));
            next_are_right(&parvis, &format!("{target} reset"));
        }
    }
}

#[test]
fn nothing_is_left_over_of_clients_that_left() {
    let parvis = started();
    for number in 0..30 {
        for path in ["/slow", "/customer/slow", "/stored-slow", "/page-slow"] {
            let get = format!("GET {path}?n={number} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
            leave_after(&parvis, get.as_bytes(), Duration::from_millis(number % 7));
        }
    }
    let gauges = [
        "parvis_origin_in_use ",
        "parvis_origin_queued ",
        "parvis_fill_in_flight ",
        "parvis_fill_waiters ",
    ];
    wait_until("an idle node", Duration::from_secs(20), || {
        gauges.iter().all(|gauge| parvis.metric(gauge).expect("a gauge") == 0.0)
    });
    next_are_right(&parvis, "after all have left");
}
