//! A node that a test plays: it announces itself, is asked, answers when and what the test says,
//! and asks.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use parvis::fleet::Due;
use parvis::fleet::log::Token;
use parvis::fleet::peer::message::{Answer, Arriving, Ask, Lent, Question, answer_head};
use parvis::fleet::peer::seal::{Sealed, Secret, Subject};
use parvis::fleet::peer::warm_message::{Hottest, HottestAsk, TakeAsk};
use parvis::snapshot::{Literal, Segment, StoredResponse, record};
use tokio::runtime::Runtime;

use super::{PATIENCE, SECRET};
use crate::support::Parvis;
use crate::support::client::Reply;
use crate::support::process::{free_port, wait_until};
use crate::support::redis::Redis;

/// An owner; asked things wait to be answered.
pub struct Played {
    asked: Receiver<Asked>,
    _runtime: Runtime,
}

/// A question that waits.
pub struct Asked<Q = Ask> {
    pub ask: Q,
    seal: [u8; 32],
    answer: Sender<Bytes>,
}

/// A node from which another takes pages in advance. It lists what it is told to.
pub struct Giver {
    pub asked: Receiver<Asked<TakeAsk>>,
    _runtime: Runtime,
}

impl Giver {
    /// Announces itself, before anybody is there.
    pub fn with(list: Hottest, redis: &Redis) -> Self {
        let (port, runtime, (asked, receiver)) = (free_port(), runtime(), channel());
        let list = Hottest::encode(&Ok(list));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("bound");
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (asked, list) = (asked.clone(), list.clone());
                    tokio::spawn(welcome(stream, move |path, content, seal, answer| {
                        match path {
                            HottestAsk::PATH => {
                                let _ = answer.send(sealed(&list, seal, SECRET));
                            }
                            TakeAsk::PATH => {
                                let ask = TakeAsk::decode(content).expect("a question");
                                let _ = asked.send(Asked { ask, seal, answer });
                            }
                            // A page that it owns: it has none.
                            _ => {}
                        }
                    }));
                }
            });
        });
        announce(port, redis);
        Self { asked: receiver, _runtime: runtime }
    }
}

impl Played {
    /// Announces itself, and waits until the node has seen it.
    pub fn beside(node: &Parvis, redis: &Redis) -> Self {
        let (port, runtime, (asked, receiver)) = (free_port(), runtime(), channel());
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("bound");
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let asked = asked.clone();
                    tokio::spawn(welcome(stream, move |path, content, seal, answer| {
                        // It says nothing to nodes that come and go.
                        if path == Ask::PATH {
                            let ask = Ask::decode(content).expect("a question");
                            let _ = asked.send(Asked { ask, seal, answer });
                        }
                    }));
                }
            });
        });
        announce(port, redis);
        wait_until("the played node", PATIENCE, || node.metric("parvis_peers_known ") == Some(1.0));
        Self { asked: receiver, _runtime: runtime }
    }

    /// Asks for pages at the node until this one is asked for one; then does what the test says with
    /// the question. Gives the page's target and the answer that the client got.
    pub fn when_asked(
        &self,
        node: &Parvis,
        prefix: &str,
        then: impl FnOnce(&str, Asked),
    ) -> (String, Reply) {
        std::thread::scope(|scope| {
            for number in 0..1_000 {
                let target = format!("/{prefix}-{number}");
                let page = target.clone();
                let asking = scope.spawn(move || node.get(&page, &[]));
                let asked = loop {
                    if let Ok(asked) = self.asked.recv_timeout(Duration::from_millis(10)) {
                        break Some(asked);
                    }
                    if asking.is_finished() {
                        break None;
                    }
                };
                if let Some(asked) = asked {
                    then(&target, asked);
                    return (target, asking.join().expect("asked"));
                }
                asking.join().expect("asked");
            }
            panic!("a node that owns nothing")
        })
    }
}

impl Asked {
    /// A page with that content, whose tag is its path.
    pub fn page(&self, content: &'static str) -> Answer {
        let tag = self.ask.target.slice(1..);
        let literal = Literal {
            identity_bytes: content.len() as u64,
            crc32: crc32fast::hash(content.as_bytes()),
            identity: Some(Bytes::from_static(content.as_bytes())),
            ..Literal::default()
        };
        let response = StoredResponse {
            key: self.ask.key.clone(),
            status: 200,
            head: Bytes::from_static(b"Content-Type: text/html\r\n"),
            segments: vec![Segment::Literal(literal)],
            tags: vec![tag],
            ttl: Duration::from_secs(3_600),
            keep: Duration::from_secs(3_600),
            ..StoredResponse::default()
        };
        let mut out = Vec::new();
        record::write(&response, &mut out).expect("small enough");
        Answer::Page { record: out.into(), echo: Due::Nothing }
    }

    /// Answers, sealed with that secret.
    pub fn answer(self, answer: &Answer, secret: &str) {
        let lent = Lent { answer: answer.clone(), php: Duration::ZERO };
        self.answer_with(&lent.encode(), secret);
    }
}

impl<Q> Asked<Q> {
    pub fn answer_with(self, content: &Bytes, secret: &str) {
        let _ = self.answer.send(sealed(content, self.seal, secret));
    }
}

fn sealed(content: &Bytes, seal: [u8; 32], secret: &str) -> Bytes {
    let seal = Secret::new(secret).answer(&seal, content);
    [&answer_head(content, &seal)[..], content].concat().into()
}

fn announce(port: u16, redis: &Redis) {
    let member = parvis::fleet::Member {
        name: "played".to_owned(),
        peer: format!("127.0.0.1:{port}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..parvis::fleet::Member::default()
    };
    let member = serde_json::to_string(&member).expect("JSON");
    redis.ask(&["set", "{parvis}:node:played", &member]);
    redis.ask(&["sadd", "{parvis}:nodes", "played"]);
}

/// One whose tasks run while the test does something else.
fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("a runtime")
}

/// Answers as `take` says, which gets path, content and seal of each question, and where the answer
/// goes.
async fn welcome(
    stream: tokio::net::TcpStream,
    take: impl Fn(&str, Bytes, [u8; 32], Sender<Bytes>) + Clone + Send + 'static,
) {
    let challenge = Token::new([5; 16]);
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if request.uri().path() == "/challenge" {
            let response = Response::builder().status(401);
            let response = response.header("parvis-challenge", challenge.to_string());
            let _ = respond.send_response(response.body(()).expect("a response"), true);
            continue;
        }
        let take = take.clone();
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let sealed = request.headers()["parvis-seal"].as_bytes();
            let seal = Sealed::parse(sealed).expect("a seal").seal;
            let mut body = request.into_body();
            let mut content = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                content.extend_from_slice(&piece);
            }
            let mut send = respond.send_response(Response::new(()), false).expect("sent");
            let (answer, answered) = channel();
            take(&path, content.into(), seal, answer);
            let answered = tokio::task::spawn_blocking(move || answered.recv());
            if let Ok(Ok(content)) = answered.await {
                let _ = send.send_data(content, true);
            }
        });
    }
}

/// Asks a node something, as another one does.
pub fn ask<Q: Question>(port: u16, question: &Q) -> Q::Answer {
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("open");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request =
            |method, path| Request::builder().method(method).uri(format!("http://a{path}"));
        let mut sender = sender.ready().await.expect("open");
        let first = request(Method::GET, "/challenge").body(()).expect("a request");
        let (response, _) = sender.send_request(first, true).expect("sent");
        let response = response.await.expect("an answer");
        let challenge = Token::parse(response.headers()["parvis-challenge"].as_bytes());
        let (content, secret) = (question.encode(), Secret::new(SECRET));
        let challenge = challenge.expect("a challenge");
        let subject = Subject { challenge, method: "POST", path: Q::PATH, content: &content };
        let sealed = secret.seal(subject, 1, Token::new([6; 16]));
        let second = request(Method::POST, Q::PATH).header("parvis-seal", &sealed.to_value()[..]);
        let mut sender = sender.ready().await.expect("open");
        let second = second.body(()).expect("a request");
        let (response, mut send) = sender.send_request(second, false).expect("sent");
        send.send_data(content, true).expect("sent");
        let response = response.await.expect("an answer");
        assert_eq!(response.status(), 200);
        let (mut body, mut arriving) = (response.into_body(), Arriving::new(1 << 20));
        while let Some(piece) = body.data().await {
            arriving.push(&piece.expect("whole")).expect("short enough");
        }
        let (seal, content) = arriving.whole().expect("whole");
        assert!(secret.is_answer(&sealed.seal, &content, &seal));
        Q::answer(content).expect("an answer")
    })
}
