//! ESI: a page may be anything and come in any pieces. The same is found however it is cut, what is
//! wrong is counted and takes no markup with it, and neither a source nor what stands in for it
//! leads to another host or out of one request line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parvis::esi::{Event, Limits, Mistake, Mistakes, PageUrl, Parser, resolve, split};
use parvis::store::{Include, Piece};

const LIMITS: Limits = Limits { includes_max: 8, tag_max_bytes: 256, remove_max_bytes: 64 };

/// An include, or literal bytes without their boundaries.
#[derive(Debug, PartialEq)]
enum Found {
    Literal(Vec<u8>),
    Include(Include),
}

impl Found {
    fn literal(&self) -> &[u8] {
        match self {
            Self::Literal(bytes) => bytes,
            Self::Include(_) => &[],
        }
    }
}

fn count(page: &[u8], wanted: &[u8]) -> usize {
    page.windows(wanted.len()).filter(|window| *window == wanted).count()
}

fn parse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Found>, Mistakes) {
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
            (_, Event::Include(include)) => found.push(Found::Include(include)),
        }
    }
    (found, parser.mistakes())
}

fuzz_target!(|input: &[u8]| {
    let Some((&cut, page)) = input.split_first() else { return };
    let whole = parse(std::iter::once(page));
    assert_eq!(parse(page.chunks(usize::from(cut) % 32 + 1)), whole);

    let (found, mistakes) = whole;
    let includes = found.iter().filter(|one| matches!(one, Found::Include(_))).count();
    assert!(includes <= LIMITS.includes_max);
    assert_eq!(mistakes.first.is_some(), mistakes.count > 0);
    if mistakes.first == Some(Mistake::TooManyIncludes) {
        assert_eq!(includes, LIMITS.includes_max);
    }
    // Nothing is made up, and a page without ESI leaves as it came.
    let literals: Vec<u8> = found.iter().flat_map(Found::literal).copied().collect();
    let openers = [&b"<esi:"[..], b"</esi:", b"<!--esi"];
    let openers: usize = openers.iter().map(|opener| count(page, opener)).sum();
    assert!(literals.len() <= page.len());
    assert!(mistakes.count <= openers as u64 + 1);
    if openers == 0 {
        assert_eq!((&literals[..], includes), (page, 0));
    }
    // A tag, be it right or wrong, ends before the next one begins.
    if count(page, b"<esi:remove") == 0 {
        assert!(count(&literals, b"<") + openers >= count(page, b"<"));
    }

    let url = PageUrl { authority: b"shop.test", target: b"/men/shirts.html?p=2" };
    for include in &found {
        let Found::Include(include) = include else { continue };
        assert!(!include.source.is_empty());
        for source in [Some(&include.source), include.alternative.as_ref()].into_iter().flatten() {
            if let Ok(target) = resolve(source, url) {
                assert!(target.starts_with(b"/") && !target.starts_with(b"//"));
                assert!(target.iter().all(u8::is_ascii_graphic));
            }
        }
    }

    let stored = split(&page.to_vec().into(), LIMITS, Some(1), 64);
    assert_eq!(stored.mistakes, mistakes);
    let stored = stored.body;
    assert_eq!(stored.pieces().len(), found.len());
    for (piece, found) in stored.pieces().zip(&found) {
        match (piece, found) {
            (Piece::Literal(literal), Found::Literal(bytes)) => {
                assert_eq!(literal.inflate().ok().as_deref(), Some(&bytes[..]));
            }
            (Piece::Include(include), Found::Include(found)) => assert_eq!(include, found),
            _ => panic!("the store's segments differ from what was found"),
        }
    }
});
