//! Parts of a stored response (RFC 9110 14, RFC 9111 3.3).

use std::ops::Range;

use bytes::Bytes;
use http::{Method, StatusCode};
use memchr::memmem;

use super::conditional::allows_range;
use super::joined::own_bytes;
use super::respond::{RequestFacts, Stored};
use super::{DeliveryError, head};
use crate::body::Body;
use crate::exchange::Response;
use crate::fields::Fields;
use crate::fields::accept_encoding::refuses_identity;
use crate::fields::range::{Ranges, requested};
use crate::store::Encoded;

/// Names that are tried for the boundary of a multipart answer.
const BOUNDARIES_MAX: u32 = 16;

/// What describes just the bytes of a whole message.
const OF_WHOLE: [&str; 2] = ["content-md5", "content-digest"];

/// Answers a request for ranges: 206 or 416; `None` where the whole is to be sent. Parts are cut
/// from the bytes themselves, as slices; of what the origin coded, from the bytes as it sent them. A
/// page with includes has no parts: its length is another each time. To be asked after the
/// conditions (RFC 9110 13.2.2).
pub(super) fn respond(
    stored: Stored<'_>,
    request: RequestFacts<'_>,
    identity: impl Fn(&Encoded) -> Option<Bytes>,
) -> Result<Option<Response>, DeliveryError> {
    let Some(content) = stored.body.only() else { return Ok(None) };
    let applies = request.method == Method::GET
        && stored.status == StatusCode::OK
        && allows_range(request.fields, stored.head)
        // The range would be one of the form that is chosen, and of others there are none.
        && !(head::has_variants(stored.body) && refuses_identity(request.fields));
    if !applies {
        return Ok(None);
    }
    let length = content.identity_bytes();
    let parts = match requested(request.fields, length, request.ranges_max) {
        Ranges::Whole => return Ok(None),
        Ranges::Unsatisfiable => return Ok(Some(unsatisfiable(length))),
        Ranges::Parts(parts) => parts,
    };
    let bytes = own_bytes(content, &identity)?;
    let slices: Option<Vec<Part>> = parts.iter().map(|part| Part::of(&bytes, part)).collect();
    match &*slices.ok_or(DeliveryError::Damaged)? {
        [one] => Ok(Some(single(stored, one, length))),
        several => Ok(multipart(stored, several, content)),
    }
}

/// A range and its bytes.
struct Part {
    range: Range<u64>,
    bytes: Bytes,
}

impl Part {
    /// `None`: the content is shorter than it should be.
    fn of(content: &Bytes, range: &Range<u64>) -> Option<Self> {
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        let bytes = (end <= content.len()).then(|| content.slice(start..end))?;
        Some(Self { range: range.clone(), bytes })
    }

    fn content_range(&self, length: u64) -> String {
        format!("bytes {}-{}/{length}", self.range.start, self.range.end - 1)
    }
}

/// 206 with one part (RFC 9110 15.3.7.1).
fn single(stored: Stored<'_>, part: &Part, length: u64) -> Response {
    let mut fields = described(stored, &OF_WHOLE);
    fields.push_static("Content-Range", part.content_range(length));
    partial(fields, part.bytes.clone().into())
}

/// 206 with several parts (RFC 9110 15.3.7.2); `None` where no boundary is found that the content
/// does not hold.
fn multipart(stored: Stored<'_>, parts: &[Part], content: &Encoded) -> Option<Response> {
    let length = content.identity_bytes();
    let boundary = (0..BOUNDARIES_MAX)
        .map(|number| format!("part-{:08x}-{length:x}-{number:x}", content.crc32()))
        .find(|name| {
            parts.iter().all(|part| memmem::find(&part.bytes, name.as_bytes()).is_none())
        })?;
    let content_type = stored.head.first("content-type");
    let mut body = Vec::with_capacity(parts.len() * 2 + 1);
    for part in parts {
        let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
        if let Some(content_type) = content_type {
            head.extend_from_slice(&[b"Content-Type: ", content_type, b"\r\n"].concat());
        }
        let range = part.content_range(length);
        head.extend_from_slice(format!("Content-Range: {range}\r\n\r\n").as_bytes());
        body.extend([head.into(), part.bytes.clone()]);
    }
    body.push(format!("\r\n--{boundary}--\r\n").into());
    let mut fields = described(stored, &["content-type", OF_WHOLE[0], OF_WHOLE[1]]);
    fields.push_static("Content-Type", format!("multipart/byteranges; boundary={boundary}"));
    Some(partial(fields, Body::parts(body)))
}

/// The fields of the stored response, but for some.
fn described(stored: Stored<'_>, without: &[&str]) -> Fields {
    let fields = stored.head.fields();
    fields.filter(|field| !without.iter().any(|name| field.is(name))).collect()
}

fn partial(fields: Fields, body: Body) -> Response {
    let mut response = Response::new(StatusCode::PARTIAL_CONTENT, body);
    response.fields = fields;
    response
}

/// 416 (RFC 9110 15.5.17).
fn unsatisfiable(length: u64) -> Response {
    let mut response = Response::new(StatusCode::RANGE_NOT_SATISFIABLE, Body::empty());
    response.fields.push_static("Content-Range", format!("bytes */{length}"));
    response
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::delivery::prepare;
    use crate::exchange::StoredHead;
    use crate::store::{Forms, Include, Segment, StoredBody};

    struct Page {
        status: StatusCode,
        head: StoredHead,
        body: StoredBody,
    }

    const TEXT: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";

    impl Page {
        fn new(segments: Vec<Segment>) -> Self {
            let mut fields = Fields::from([
                ("Content-Type", "text/plain"),
                ("ETag", "\"a\""),
                ("Content-Digest", "x"),
                ("Accept-Ranges", "bytes"),
            ]);
            let body = StoredBody::new(segments);
            prepare(&mut fields, &body);
            Self { status: StatusCode::OK, head: StoredHead::new(fields), body }
        }

        fn plain() -> Self {
            Self::new(vec![Segment::Literal(Encoded::plain(Bytes::from_static(TEXT)))])
        }

        fn compressed(text: &[u8]) -> Self {
            Self::new(vec![Segment::Literal(Encoded::from_identity(text, Some(6), 0))])
        }

        fn ask(&self, method: &Method, request: &Fields) -> Response {
            let request = RequestFacts { method, fields: request, ranges_max: 3 };
            let stored = Stored { status: self.status, head: &self.head, body: &self.body };
            let fragment = crate::delivery::Joined::default();
            super::super::respond(stored, request, [fragment], |piece| piece.inflate().ok())
                .expect("sound")
        }

        fn get<const N: usize>(&self, request: [(&'static str, &str); N]) -> Response {
            self.ask(&Method::GET, &Fields::from(request))
        }
    }

    fn content(response: &Response) -> Vec<u8> {
        response.body.ready_parts().expect("in memory").concat()
    }

    #[test]
    fn one_range_is_a_slice_of_what_is_stored() {
        let page = Page::plain();
        let response = page.get([("Range", "bytes=10-12")]);
        assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
        let expected = Fields::from([
            ("Content-Type", "text/plain"),
            ("ETag", "\"a\""),
            ("Accept-Ranges", "bytes"),
            ("Content-Range", "bytes 10-12/36"),
        ]);
        assert_eq!(response.fields, expected);
        assert_eq!(content(&response), b"abc");
        let parts = response.body.ready_parts().expect("in memory");
        assert_eq!(parts[0].as_ptr(), TEXT[10..].as_ptr(), "nothing is copied");
    }

    #[test]
    fn several_ranges_are_a_multipart_answer() {
        let response = Page::plain().get([("Range", "bytes=0-1,-2")]);
        assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
        assert!(!response.fields.contains("content-range"));
        let content_type = response.fields.first_str("content-type").expect("a type");
        let boundary =
            content_type.strip_prefix("multipart/byteranges; boundary=").expect("multipart");
        let part = |range, bytes| {
            format!(
                "\r\n--{boundary}\r\nContent-Type: text/plain\r\n\
                 Content-Range: bytes {range}/36\r\n\r\n{bytes}"
            )
        };
        let (first, last) = (part("0-1", "01"), part("34-35", "yz"));
        let expected = format!("{first}{last}\r\n--{boundary}--\r\n");
        assert_eq!(String::from_utf8_lossy(&content(&response)), expected);
    }

    #[test]
    fn a_boundary_is_never_in_the_content() {
        let name = |text: &[u8]| format!("part-{:08x}-{:x}-0", crc32fast::hash(text), text.len());
        // Content that holds a boundary of its own checksum is hard to make: say another one.
        let mut text = vec![b'x'; 60];
        text.extend_from_slice(b"part-00000000-54-0");
        text.resize(0x54, b'x');
        let mut page = Page::plain();
        let forms = Forms { identity: Some(&text), ..Forms::default() };
        let literal = Encoded::of_forms(forms, 0, text.len() as u64);
        assert_ne!(name(&text), "part-00000000-54-0");
        page.body = StoredBody::new([Segment::Literal(literal)]);
        let response = page.get([("Range", "bytes=0-1,50-")]);
        let content_type = response.fields.first_str("content-type").expect("a type");
        assert!(content_type.ends_with("boundary=part-00000000-54-1"), "{content_type}");
    }

    #[test]
    fn a_range_beyond_the_content_is_416_with_its_length() {
        let response = Page::plain().get([("Range", "bytes=36-")]);
        assert_eq!(response.status, StatusCode::RANGE_NOT_SATISFIABLE);
        assert_eq!(response.fields, Fields::from([("Content-Range", "bytes */36")]));
        assert!(response.body.is_empty() && response.stored.is_none());
    }

    #[test]
    fn a_compressed_page_is_cut_from_its_bytes_themselves() {
        let text = "<p>text</p>".repeat(500);
        let page = Page::compressed(text.as_bytes());
        let both = [("Range", "bytes=3-6"), ("Accept-Encoding", "gzip")];
        let response = page.get(both);
        assert_eq!(response.status, StatusCode::PARTIAL_CONTENT);
        assert!(!response.fields.contains("content-encoding"));
        assert_eq!(response.fields.first_str("etag"), Some("W/\"a\""));
        assert_eq!(content(&response), b"text");
        let refused = [("Range", "bytes=3-6"), ("Accept-Encoding", "gzip, identity;q=0")];
        assert_eq!(page.get(refused).status, StatusCode::OK);
        // Its tag is weak, since there are two forms.
        for tag in ["\"a\"", "W/\"a\""] {
            let response = page.get([("Range", "bytes=3-6"), ("If-Range", tag)]);
            assert_eq!(response.status, StatusCode::OK, "{tag}");
        }
    }

    #[test]
    fn the_conditions_come_first() {
        let page = Page::plain();
        for (condition, value, status) in [
            ("If-None-Match", "\"a\"", 304),
            ("If-None-Match", "\"b\"", 206),
            ("If-Match", "\"a\"", 206),
            ("If-Match", "\"b\"", 412),
            ("If-Range", "\"a\"", 206),
            ("If-Range", "\"b\"", 200),
        ] {
            let response = page.get([("Range", "bytes=0-1"), (condition, value)]);
            assert_eq!(response.status.as_u16(), status, "{condition}: {value}");
        }
        let beyond = [("Range", "bytes=99-"), ("If-Range", "\"b\"")];
        assert_eq!(page.get(beyond).status, StatusCode::OK);
    }

    #[test]
    fn range_is_left_aside_where_it_means_nothing() {
        let range = Fields::from([("Range", "bytes=0-1")]);
        let page = Page::plain();
        assert_eq!(page.ask(&Method::HEAD, &range).status, StatusCode::OK);
        let many = Fields::from([("Range", "bytes=0-1,3-4,6-7,9-10")]);
        assert_eq!(page.ask(&Method::GET, &many).status, StatusCode::OK);
        let include = Segment::Include(Include::new("/m"));
        let joined = Page::new(vec![Segment::Literal(Encoded::plain(TEXT.into())), include]);
        assert_eq!(joined.ask(&Method::GET, &range).status, StatusCode::OK);
        assert!(joined.head.first("accept-ranges").is_none());
        let missing = Page { status: StatusCode::NOT_FOUND, ..Page::plain() };
        assert_eq!(missing.ask(&Method::GET, &range).status, StatusCode::NOT_FOUND);
        let empty = Page::new(Vec::new());
        assert_eq!(empty.ask(&Method::GET, &range).status, StatusCode::OK);
    }

    proptest! {
        #[test]
        fn the_parts_of_an_answer_are_parts_of_the_content(first in 0u64..50, more in 0u64..50) {
            let response = Page::plain().get([("Range", &*format!("bytes={first}-{}", first + more))]);
            let expected: Vec<u8> =
                TEXT.iter().skip(first as usize).take(more as usize + 1).copied().collect();
            prop_assert_eq!(content(&response), expected);
        }
    }
}
