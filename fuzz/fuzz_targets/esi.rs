//! ESI: a page may be anything and come in any pieces. The same is found however it is cut, and a
//! source never leads to another host or out of one request line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::esi::{Event, Limits, PageUrl, Parser, resolve, split};
use parvis::store::Segment;

const LIMITS: Limits = Limits { includes_max: 8, tag_max_bytes: 256 };

/// An include's source, or literal bytes without their boundaries.
#[derive(Debug, PartialEq)]
enum Found {
    Literal(Vec<u8>),
    Include(Vec<u8>),
}

impl Found {
    fn literal_bytes(&self) -> usize {
        match self {
            Self::Literal(bytes) => bytes.len(),
            Self::Include(_) => 0,
        }
    }
}

fn contains(page: &[u8], wanted: &[u8]) -> bool {
    page.windows(wanted.len()).any(|window| window == wanted)
}

fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Found>, usize) {
    let mut parser = Parser::new(LIMITS);
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(&piece.to_vec().into(), &mut events);
    }
    parser.end(&mut events);
    let mut found: Vec<Found> = Vec::new();
    for event in events {
        match (found.last_mut(), event) {
            (Some(Found::Literal(before)), Event::Literal(bytes)) => before.extend(&bytes[..]),
            (_, Event::Literal(bytes)) => found.push(Found::Literal(bytes.to_vec())),
            (_, Event::Include(include)) => found.push(Found::Include(include.source.to_vec())),
        }
    }
    (found, parser.includes_dropped())
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, page)) = input.split_first() else { return };
    let whole = parse(std::iter::once(page));
    assert_eq!(parse(page.chunks(usize::from(cut) % 32 + 1)), whole);

    let (found, dropped) = whole;
    let includes = found.iter().filter(|one| matches!(one, Found::Include(_))).count();
    assert!(includes <= LIMITS.includes_max);
    assert!(dropped == 0 || includes == LIMITS.includes_max);
    // Nothing is made up, and a page without ESI leaves as it came.
    let literal_bytes: usize = found.iter().map(Found::literal_bytes).sum();
    assert!(literal_bytes <= page.len());
    if ![&b"<esi:"[..], b"<!--esi"].iter().any(|opener| contains(page, opener)) {
        assert_eq!((literal_bytes, includes), (page.len(), 0));
    }

    let url = PageUrl { authority: b"shop.test", target: b"/men/shirts.html?p=2" };
    for include in &found {
        let Found::Include(source) = include else { continue };
        if let Ok(target) = resolve(source, url) {
            assert!(target.starts_with(b"/") && !target.starts_with(b"//"));
            assert!(target.iter().all(u8::is_ascii_graphic));
        }
    }

    let stored = split(&page.to_vec().into(), LIMITS, Some(1), 64).body;
    assert_eq!(stored.segments.len(), found.len());
    for (segment, found) in stored.segments.iter().zip(&found) {
        match (segment, found) {
            (Segment::Literal(literal), Found::Literal(bytes)) => {
                assert_eq!(literal.inflate().ok().as_deref(), Some(&bytes[..]));
            }
            (Segment::Include(include), Found::Include(source)) => {
                assert_eq!(include.source, source[..]);
            }
            _ => panic!("the store's segments differ from what was found"),
        }
    }
});
