//! Whole hits: the bytes of a request go into the listener, those of the response come out.
//! Between them is all that a shop has on: policy, store, access log, metrics.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parvis::app::build_node;
use parvis::listener::{Limits, serve_pipe};
use parvis::observe::State;
use parvis::pipeline::Node;
use parvis::settings::{
    AccessLog, Action, Endpoint, HeaderMatch, HeaderWants, Origin, Settings, TrafficRule, WhoKind,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::Runtime;

use super::Operation;
use super::shop::{Kind, origin_response, request_bytes};

/// Room for a whole response, so that it leaves in one write.
const PIPE_BYTES: usize = 1 << 20;

/// How often it is looked whether what was fetched is stored.
const TRIES_MAX: usize = 1_000;

/// How long the lines that are still queued may take at the end.
const LOG_DEADLINE: Duration = Duration::from_secs(60);

pub fn page_gzip() -> Operation {
    hit(Kind::Page, &[("Accept-Encoding", "gzip, deflate")])
}

/// The same with rules of `[traffic]`: none, and a hundred, each of which the request might match.
pub fn page_without_rules() -> Operation {
    hit_with(Kind::Page, &BROWSER, |settings| settings.traffic.on = false)
}

pub fn page_with_100_rules() -> Operation {
    hit_with(Kind::Page, &BROWSER, |settings| settings.traffic.rules = hundred_rules())
}

pub fn page_with_menu_gzip() -> Operation {
    hit(Kind::PageWithMenu, &[("Accept-Encoding", "gzip, deflate")])
}

pub fn page_not_modified() -> Operation {
    hit(Kind::Page, &[("If-None-Match", "W/\"recorded\"")])
}

pub fn file_1_kib() -> Operation {
    hit(Kind::File, &[])
}

/// What a browser says of itself.
const BROWSER: [(&str, &str); 4] = [
    ("Accept-Encoding", "gzip, deflate"),
    ("Accept-Language", "de-DE,de;q=0.9,en;q=0.7"),
    (
        "Cookie",
        "form_key=abcdefgh; PHPSESSID=0123456789abcdef0123456789; private_content_version=1",
    ),
    (
        "User-Agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/141.0.0.0 Safari/537.36",
    ),
];

/// Rules as a shop collects them: networks, paths, crawlers' names, parameters, kinds of clients. Some match each
/// hit, and count; none decides.
fn hundred_rules() -> Vec<TrafficRule> {
    let header = |wants| vec![HeaderMatch { name: "user-agent".to_owned(), wants }];
    (0..100_u8)
        .map(|number| {
            let mut rule = TrafficRule {
                name: format!("rule-{number}"),
                action: Action::Refuse,
                ..TrafficRule::default()
            };
            match number % 10 {
                0..3 => {
                    let nets = (0..8).map(|net| IpNet::from(IpAddr::from([10, number, net, 1])));
                    rule.from = nets.collect();
                }
                3..6 => {
                    rule.paths = vec![format!("/part-{number}/x"), format!("/*/part-{number}*")];
                }
                6 => rule.headers = header(HeaderWants::Contains(format!("crawler-{number}"))),
                7 => rule.query = vec![format!("parameter_{number}")],
                8 => rule.who = vec![WhoKind::Impostor],
                _ => (rule.who, rule.action) = (vec![WhoKind::Session], Action::Log),
            }
            rule
        })
        .collect()
}

/// A node behind a pipe, with one runtime for both ends.
pub(super) struct Visitor {
    runtime: Runtime,
    node: Node,
    pipe: DuplexStream,
}

impl Visitor {
    pub(super) fn new(origin: Origin) -> Self {
        Self::with(Settings { origin, ..Settings::default() })
    }

    fn with(settings: Settings) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let node = runtime.block_on(async { node(settings) });
        let (pipe, far_end) = tokio::io::duplex(PIPE_BYTES);
        let limits = Arc::new(Limits::from(&parvis::settings::Listen::default()));
        runtime.spawn(serve_pipe(far_end, Arc::new(node.clone()), limits));
        Self { runtime, node, pipe }
    }

    /// Asks and gives back the whole response.
    pub(super) fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let Self { runtime, pipe, .. } = self;
        runtime.block_on(async {
            pipe.write_all(request).await.expect("the listener reads");
            let mut response = Vec::new();
            while !is_whole(&response) {
                let read = pipe.read_buf(&mut response).await.expect("the listener writes");
                assert!(read > 0, "the listener has closed");
            }
            response
        })
    }

    /// What is fetched is compressed and stored after the response has left.
    fn wait_until_stored(&self, objects: u64) {
        let store = &self.node.parts().store;
        let stored = self.runtime.block_on(async {
            for _ in 0..TRIES_MAX {
                if store.stats().objects >= objects {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            store.stats().objects
        });
        assert_eq!(stored, objects, "it is stored in time");
    }

    /// Asks and reads a whole response, of that many bytes or up to the end of its chunks.
    pub(super) fn repeat_whole(&mut self, request: &[u8], bytes: usize, response: &mut Vec<u8>) {
        let Self { runtime, pipe, .. } = self;
        response.clear();
        runtime.block_on(async {
            pipe.write_all(request).await.expect("the listener reads");
            while response.len() < bytes && !response.ends_with(b"\r\n0\r\n\r\n") {
                let read = pipe.read_buf(response).await.expect("the listener writes");
                assert!(read > 0, "the listener has closed");
            }
        });
    }

    /// Asks and reads as many bytes as are expected.
    fn repeat(&mut self, request: &[u8], response: &mut [u8]) {
        let Self { runtime, pipe, .. } = self;
        runtime.block_on(async {
            pipe.write_all(request).await.expect("the listener reads");
            pipe.read_exact(response).await.expect("the listener writes");
        });
    }
}

impl Drop for Visitor {
    /// Lines that are still queued are part of what hits cost.
    fn drop(&mut self) {
        assert!(self.node.parts().observer.close_log(LOG_DEADLINE), "all lines are written");
    }
}

/// A visitor who asks again and again for what is stored.
fn hit(kind: Kind, fields: &[(&str, &str)]) -> Operation {
    hit_with(kind, fields, |_| {})
}

/// The same with settings of its own.
fn hit_with(kind: Kind, fields: &[(&str, &str)], change: impl FnOnce(&mut Settings)) -> Operation {
    let origin = Origin { http: Some(Endpoint::Tcp(start_origin())), ..Origin::default() };
    let mut settings = Settings { origin, ..Settings::default() };
    change(&mut settings);
    let mut visitor = Visitor::with(settings);
    let request = request_bytes(kind.target(), fields);
    visitor.ask(&request);
    visitor.wait_until_stored(if kind == Kind::PageWithMenu { 2 } else { 1 });
    let first = visitor.ask(&request);
    assert!(memchr::memmem::find(&first, b"parvis; hit").is_some());
    let mut response = vec![0; first.len()];
    Box::new(move || {
        visitor.repeat(&request, &mut response);
        assert!(response[..12] == first[..12] && response.ends_with(&first[first.len() - 4..]));
    })
}

/// Has all of a response come?
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(response, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&response[..end]).to_lowercase();
    if head.contains("transfer-encoding: chunked") {
        return response.ends_with(b"\r\n0\r\n\r\n");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    response.len() == end + 4 + length
}

/// A node as a shop has it, with its access log on.
fn node(mut settings: Settings) -> Node {
    settings.log.access = AccessLog::File("/dev/null".into());
    build_node(settings, Arc::new(State::new()), None).expect("settings are right")
}

/// An origin on the loopback, for the first visit.
fn start_origin() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.expect("a connection"));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        let mut buffer = [0; 4_096];
        let read = stream.read(&mut buffer).expect("a request");
        if read == 0 {
            return;
        }
        head.extend_from_slice(&buffer[..read]);
    }
    let text = String::from_utf8(head).expect("ASCII");
    let target = text.split(' ').nth(1).expect("a request line");
    stream.write_all(&origin_response(target)).expect("it is read");
}
