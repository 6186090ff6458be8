//! Taking a whole response apart for storing.

use bytes::{BufMut, Bytes};

use super::{Event, Limits, Mistakes, Parser};
use crate::store::{Encoded, Forms, Segment, StoredBody};

/// A response taken apart.
#[derive(Clone, Debug)]
pub struct Split {
    /// Its segments.
    pub body: StoredBody,
    /// What was wrong in it, and left out.
    pub mistakes: Mistakes,
}

/// Takes a response apart at its includes, and compresses what lies between with `gzip_level`
/// (1 to 9, `None`: not at all); one literal where there is no include. Without includes a
/// response of less than `min_bytes` bytes is not compressed. The literals do not hold on to
/// `body`. It costs a compression of the whole: do it away from the threads that answer hits.
pub fn split(body: &Bytes, limits: Limits, gzip_level: Option<u32>, min_bytes: u64) -> Split {
    let mut events = Vec::new();
    let mut parser = Parser::new(limits);
    parser.feed(body, &mut events);
    parser.end(&mut events);
    let mistakes = parser.mistakes();
    if !events.iter().any(|event| matches!(event, Event::Include(_))) {
        let mut literals = events.into_iter().filter_map(Event::literal).collect();
        let body = merge(&mut literals).unwrap_or_default();
        return Split { body: whole(&body, gzip_level, min_bytes), mistakes };
    }
    let encode = |literal: Bytes| Segment::Literal(encode_part(&literal, gzip_level));
    let mut segments = Vec::new();
    let mut literals = Vec::new();
    for event in events {
        match event {
            Event::Literal(bytes) => literals.push(bytes),
            Event::Include(include) => {
                segments.extend(merge(&mut literals).map(encode));
                segments.push(Segment::Include(include));
            }
        }
    }
    segments.extend(merge(&mut literals).map(encode));
    Split { body: StoredBody::new(segments), mistakes }
}

/// A response that is not looked through, as one literal; compressed with `gzip_level` (1 to 9,
/// `None`: not at all) where it has at least `min_bytes` bytes.
pub fn whole(body: &[u8], gzip_level: Option<u32>, min_bytes: u64) -> StoredBody {
    if body.is_empty() {
        return StoredBody::default();
    }
    let literal = Segment::Literal(Encoded::from_identity(body, gzip_level, min_bytes));
    StoredBody::new([literal])
}

/// Neighbouring literals as one.
fn merge(literals: &mut Vec<Bytes>) -> Option<Bytes> {
    let merged = match &literals[..] {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(Bytes::from(several.concat())),
    };
    literals.clear();
    merged
}

/// A part of a page with includes is compressed however small it is, since the page may be large
/// with what is joined in. Where that gains nothing it becomes a stored block (RFC 1951 3.2.4), so
/// that the parts of a page can be put one after another as they are.
fn encode_part(bytes: &[u8], gzip_level: Option<u32>) -> Encoded {
    let encoded = Encoded::from_identity(bytes, gzip_level, 0);
    let (Some(_), false, Ok(length)) =
        (gzip_level, encoded.has_deflate(), u16::try_from(bytes.len()))
    else {
        return encoded;
    };
    let mut block = Vec::with_capacity(bytes.len() + 5);
    // Not the last block, and stored; then the length and its complement.
    block.put_u8(0);
    block.put_u16_le(length);
    block.put_u16_le(!length);
    block.put_slice(bytes);
    let forms = Forms { deflate: Some(&block), ..encoded.forms() };
    Encoded::of_forms(forms, encoded.crc32(), encoded.identity_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Include, Piece};

    const LIMITS: Limits = Limits { includes_max: 4, tag_max_bytes: 200, remove_max_bytes: 100 };

    fn literals(split: &Split) -> Vec<&Encoded> {
        split.body.literals().collect()
    }

    #[test]
    fn a_page_without_includes_is_one_literal() {
        let page = Bytes::from("<p>text</p>".repeat(1_000));
        let split = split(&page, LIMITS, Some(6), 1_024);
        let [literal] = literals(&split)[..] else { panic!("one literal") };
        assert_eq!(literal.inflate(), Ok(page));
        assert!(literal.has_deflate() && !literal.has_identity());
    }

    #[test]
    fn a_small_page_without_includes_stays_as_it_is() {
        let page = Bytes::from("<p>text</p>".repeat(20));
        let split = split(&page, LIMITS, Some(6), 1_024);
        let [literal] = literals(&split)[..] else { panic!("one literal") };
        assert_eq!(literal.identity(), Some(page));
        assert!(!literal.has_deflate());
    }

    #[test]
    fn nothing_is_an_empty_list() {
        let split = split(&Bytes::new(), LIMITS, Some(6), 1_024);
        assert!(split.body.is_empty());
    }

    #[test]
    fn a_page_is_cut_at_its_includes_and_each_part_can_be_sent_compressed() {
        let page = format!("a<esi:include src='/m'/>{}<esi:include src='/n'/>", "b".repeat(5_000));
        let split = split(&page.into(), LIMITS, Some(6), 1_024);
        let pieces: Vec<_> = split.body.pieces().collect();
        let [
            Piece::Literal(first),
            Piece::Include(menu),
            Piece::Literal(second),
            Piece::Include(_),
        ] = pieces[..]
        else {
            panic!("four segments")
        };
        assert_eq!(*menu, Include::new("/m"));
        assert_eq!(first.forms().deflate, Some(&[0, 1, 0, 0xfe, 0xff, b'a'][..]));
        assert_eq!(second.inflate(), Ok(Bytes::from("b".repeat(5_000))));
        assert!(second.has_deflate());
    }

    #[test]
    fn nothing_is_compressed_where_gzip_is_off() {
        let page = format!("a<esi:include src='/m'/>{}", "b".repeat(5_000));
        let split = split(&page.into(), LIMITS, None, 1_024);
        assert!(literals(&split).iter().all(|literal| !literal.has_deflate()));
    }

    #[test]
    fn literals_do_not_hold_on_to_the_page() {
        let page = Bytes::from("0123456789<esi:include src='/m'/>");
        let split = split(&page, LIMITS, Some(6), 1_024);
        let identity = literals(&split)[0].identity().expect("it is small");
        let within = page.as_ptr_range();
        assert!(!within.contains(&identity.as_ptr()));
    }

    #[test]
    fn includes_that_are_dropped_count_as_mistakes() {
        let page = Bytes::from("<esi:include src='/m'/>".repeat(6));
        let split = split(&page, LIMITS, Some(6), 1_024);
        assert_eq!((split.body.pieces().len(), split.mistakes.count), (4, 2));
    }
}
