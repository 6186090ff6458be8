//! Random nestings of fragments, joined by Parvis and by a naive model.

use std::sync::Arc;
use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::chance::Chance;
use super::super::support::client::Client;
use super::super::support::h2::{H2, Length};
use super::super::support::origin::Origin;
use super::super::support::process::wait_until;
use super::{GZIP, answer, private, public};

const SHOPS: u64 = 200;
const NODES: usize = 8;
const DEPTH_MAX: usize = 3;

enum Kind {
    Public,
    Private,
    Failing,
}

/// A part of a document.
enum Part {
    Text(String),
    Removed(String),
    Include { node: usize, alternative: Option<usize>, continues: bool, spelling: usize },
}

struct Document {
    kind: Kind,
    parts: Vec<Part>,
}

/// Pages that include each other, themselves too.
struct Shop {
    number: u64,
    documents: Vec<Document>,
}

impl Shop {
    fn new(number: u64) -> Self {
        let mut numbers = Chance::of(number);
        let documents = (0..NODES)
            .map(|node| {
                let kind = match numbers.below(6) {
                    _ if node == 0 => {
                        if number.is_multiple_of(5) {
                            Kind::Private
                        } else {
                            Kind::Public
                        }
                    }
                    0 => Kind::Failing,
                    1 | 2 => Kind::Private,
                    _ => Kind::Public,
                };
                let parts = (0..numbers.below(7)).map(|_| part(&mut numbers)).collect();
                Document { kind, parts }
            })
            .collect();
        Self { number, documents }
    }

    fn target(&self, node: usize) -> String {
        format!("/{}/{node}", self.number)
    }

    /// A document as the origin sends it.
    fn written(&self, node: usize) -> String {
        self.documents[node].parts.iter().map(|part| self.part_written(part)).collect()
    }

    fn part_written(&self, part: &Part) -> String {
        let (node, alternative, continues, spelling) = match part {
            Part::Text(text) => return text.clone(),
            Part::Removed(text) => return format!("<esi:remove>{text}</esi:remove>"),
            Part::Include { node, alternative, continues, spelling } => {
                (*node, alternative, *continues, *spelling)
            }
        };
        let source = match spelling % 3 {
            0 => self.target(node),
            1 => format!("http://shop.test{}?utm_source=x", self.target(node)),
            _ => format!("../{}/{node}", self.number),
        };
        let mut attributes = format!(" src=\"{source}\"");
        if let Some(node) = alternative {
            attributes.push_str(&format!("\n alt='{}'", self.target(*node)));
        }
        if continues {
            attributes.push_str(" onerror='continue'");
        }
        match spelling % 4 {
            0 => format!("<esi:include{attributes}/>"),
            1 => format!("<esi:include{attributes}></esi:include>"),
            2 => format!("<!--esi <esi:include{attributes} />-->"),
            _ => format!("<esi:comment text='>'/><esi:include{attributes} />"),
        }
    }

    /// What a client is to get, without any cleverness; `None`: it fails.
    fn joined(&self, node: usize, depth: usize) -> Option<String> {
        let document = &self.documents[node];
        if matches!(document.kind, Kind::Failing) {
            return None;
        }
        let mut text = String::new();
        for part in &document.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Removed(_) => {}
                Part::Include { spelling, .. } if spelling % 4 == 2 && depth >= DEPTH_MAX => {
                    text.push(' ');
                }
                Part::Include { node, alternative, spelling, .. } => {
                    if spelling % 4 == 2 {
                        text.push(' ');
                    }
                    if depth >= DEPTH_MAX {
                        continue;
                    }
                    let fragment = self.joined(*node, depth + 1);
                    let other = |node: usize| self.joined(node, depth + 1);
                    text.push_str(
                        &fragment.or_else(|| alternative.and_then(other)).unwrap_or_default(),
                    );
                }
            }
        }
        Some(text)
    }
}

fn part(numbers: &mut Chance) -> Part {
    let words = ["<p>", "text ", "-->", "<", "é", "</p>\n", "<!-- x -->", "&amp;"];
    match numbers.below(8) {
        0 => Part::Removed("<b>gone</b>".to_owned()),
        1 => Part::Text("long ".repeat(numbers.below(4_000))),
        2 | 3 => {
            Part::Text((0..numbers.below(20)).map(|_| words[numbers.below(words.len())]).collect())
        }
        _ => Part::Include {
            node: numbers.below(NODES),
            alternative: (numbers.below(3) == 0).then(|| numbers.below(NODES)),
            continues: numbers.below(4) == 0,
            spelling: numbers.below(12),
        },
    }
}

fn shops() -> Arc<Vec<Shop>> {
    Arc::new((0..SHOPS).map(Shop::new).collect())
}

fn origin(shops: &Arc<Vec<Shop>>) -> Origin {
    let shops = Arc::clone(shops);
    Origin::start(move |seen, stream| {
        let mut words =
            seen.target[1..].split('/').map(|word| word.parse::<usize>().expect("a number"));
        let shop: &Shop = &shops[words.next().expect("a shop")];
        let node: usize = words.next().expect("a document");
        match shop.documents[node].kind {
            Kind::Public => public(stream, &shop.written(node)),
            Kind::Private => private(stream, &shop.written(node)),
            Kind::Failing => answer(stream, "500 Internal Server Error", "", b"error"),
        }
    })
}

#[test]
fn two_hundred_random_nestings_are_joined_as_a_naive_model_joins_them() {
    let shops = shops();
    let origin = origin(&shops);
    let parvis = Parvis::before_http(origin.port)
        .with("esi.total_max", "10000")
        .with("origin.retries", "0")
        .with("origin.queue_max", "10000")
        .start();
    let (mut http1, mut http2) = (Client::connect(parvis.port), H2::connect(parvis.port));
    for shop in shops.iter() {
        let (target, expected) = (shop.target(0), shop.joined(0, 0).expect("it never fails"));
        let mut asks = 0;
        let mut ask = |gzip: bool| {
            let headers = if gzip { &[GZIP][..] } else { &[] };
            asks += 1;
            let reply = if asks % 2 == shop.number % 2 {
                http1.ask("GET", &target, headers, b"")
            } else {
                http2.ask("GET", &target, headers, b"", Length::Told)
            };
            assert_eq!(reply.text(), expected, "{target}, gzip: {gzip}");
            reply.is_hit()
        };
        // Each coding over each protocol, missed, while it is stored, and stored.
        for gzip in [shop.number.is_multiple_of(3), true, true, false, false] {
            ask(gzip);
        }
        if matches!(shop.documents[0].kind, Kind::Public) {
            wait_until("storing", Duration::from_secs(10), || ask(true));
            for gzip in [true, false, false] {
                ask(gzip);
            }
        }
    }
}

#[test]
fn the_model_sees_a_wrong_joining() {
    let shop = Shop::new(1);
    let joined = |number| Shop::new(number).joined(0, 0).expect("it never fails");
    assert_eq!(shop.joined(0, 0), Some(joined(1)));
    let different: std::collections::BTreeSet<_> = (0..SHOPS).map(joined).collect();
    assert!(different.len() > 100, "the nestings differ");
    let nested = (0..SHOPS).map(Shop::new).filter(|shop| {
        shop.joined(0, 0) != shop.joined(0, DEPTH_MAX) && shop.joined(0, 0) != shop.joined(0, 1)
    });
    assert!(nested.count() > 50, "they are deep enough to matter");
}
