use std::io::Read;

use super::*;
use crate::delivery::brotli::tests::unbrotli;
use crate::delivery::prepare;
use crate::store::{Include, Segment};

/// A stored response with all that [`Stored`] borrows from.
struct Page {
    status: StatusCode,
    head: StoredHead,
    body: StoredBody,
}

const TEXT_BYTES: usize = 6_000;

impl Page {
    fn new(segments: Vec<Segment>) -> Self {
        let mut fields = Fields::from([
            ("Content-Type", "text/html"),
            ("ETag", "\"a\""),
            ("Cache-Control", "public"),
            ("Content-Length", "1"),
        ]);
        let body = StoredBody::new(segments);
        prepare(&mut fields, &body);
        Self { status: StatusCode::OK, head: StoredHead::new(fields), body }
    }

    fn whole() -> Self {
        Self::new(vec![literal(&text())])
    }

    /// Kept in brotli besides.
    fn with_brotli(mut self) -> Self {
        let mut fields = self.head.to_fields();
        self.body.add_brotli(5, 1_024);
        prepare(&mut fields, &self.body);
        self.head = StoredHead::new(fields);
        self
    }

    fn with_menu() -> Self {
        let include = Segment::Include(Include::new("/m"));
        Self::new(vec![literal(&text()), include, literal(&text())])
    }

    fn stored(&self) -> Stored<'_> {
        Stored { status: self.status, head: &self.head, body: &self.body }
    }

    fn respond(&self, method: &Method, request: &Fields) -> Response {
        let request = RequestFacts { method, fields: request, ranges_max: 4 };
        let menu = Joined::from(Bytes::from("<menu>"));
        respond(self.stored(), request, [menu], |piece| piece.inflate().ok()).expect("sound")
    }

    fn get(&self, request: &Fields) -> Response {
        self.respond(&Method::GET, request)
    }
}

fn text() -> Bytes {
    Bytes::from("<p>a".repeat(TEXT_BYTES / 4))
}

fn literal(text: &[u8]) -> Segment {
    Segment::Literal(Encoded::from_identity(text, Some(6), 1_024))
}

fn gzip() -> Fields {
    Fields::from([("Accept-Encoding", "br, gzip")])
}

fn bytes_of(response: &Response) -> Vec<u8> {
    response.body.ready_parts().expect("it is in memory").concat()
}

fn gunzip(file: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::bufread::GzDecoder::new(file).read_to_end(&mut out).expect("sound");
    out
}

#[test]
fn a_client_that_takes_gzip_gets_what_was_compressed_when_storing() {
    let page = Page::whole();
    let response = page.get(&gzip());
    assert_eq!(response.fields, Fields::from([("Content-Encoding", "gzip")]));
    let sent = response.stored.as_ref().expect("stored");
    assert_eq!(sent.http1().as_ptr(), page.head.http1().as_ptr(), "nothing is copied");
    assert_eq!(gunzip(&bytes_of(&response)), text());
    let parts = response.body.ready_parts().expect("in memory");
    let kept = page.body.only().and_then(Encoded::gzip_file).expect("deflated");
    assert_eq!((parts.len(), parts[0].as_ptr()), (1, kept.as_ptr()));
}

#[test]
fn other_clients_get_the_bytes_themselves() {
    let response = Page::whole().get(&Fields::new());
    assert!(response.fields.is_empty());
    assert_eq!(bytes_of(&response), text());
    assert_eq!(response.body.len(), Some(TEXT_BYTES as u64));
}

#[test]
fn a_page_is_joined_with_its_menu_in_either_coding() {
    let expected = [&text()[..], b"<menu>", &text()[..]].concat();
    let page = Page::with_menu();
    assert_eq!(bytes_of(&page.get(&Fields::new())), expected);
    let response = page.get(&gzip());
    assert_eq!(response.fields, Fields::from([("Content-Encoding", "gzip")]));
    assert_eq!(gunzip(&bytes_of(&response)), expected);
    assert!(response.body.len().is_some());
}

#[test]
fn a_client_that_takes_brotli_gets_what_was_compressed_when_storing() {
    let page = Page::whole().with_brotli();
    let response = page.get(&gzip());
    assert_eq!(response.fields, Fields::from([("Content-Encoding", "br")]));
    assert_eq!(unbrotli(&bytes_of(&response)).expect("sound"), text());
    let parts = response.body.ready_parts().expect("in memory");
    let kept = page.body.only().and_then(Encoded::brotli_stream).expect("kept");
    assert_eq!((parts.len(), parts[0].as_ptr()), (1, kept.as_ptr()));
    let old = page.get(&Fields::from([("Accept-Encoding", "gzip")]));
    assert_eq!(gunzip(&bytes_of(&old)), text());
}

#[test]
fn a_page_is_joined_with_its_menu_in_brotli() {
    let expected = [&text()[..], b"<menu>", &text()[..]].concat();
    let response = Page::with_menu().with_brotli().get(&gzip());
    assert_eq!(response.fields, Fields::from([("Content-Encoding", "br")]));
    assert_eq!(unbrotli(&bytes_of(&response)).expect("sound"), expected);
}

#[test]
fn head_gets_the_fields_of_get_and_its_length_without_content() {
    let brotli = [Page::whole().with_brotli(), Page::with_menu().with_brotli()];
    for page in [Page::whole(), Page::with_menu()].into_iter().chain(brotli) {
        for request in [gzip(), Fields::new()] {
            let length = page.get(&request).body.len().expect("known").to_string();
            let response = page.respond(&Method::HEAD, &request);
            assert!(response.body.is_empty());
            assert_eq!(response.fields.first_str("content-length"), Some(&*length));
            let coded = request.contains("accept-encoding");
            assert_eq!(response.fields.contains("content-encoding"), coded);
        }
    }
}

#[test]
fn a_client_that_has_the_page_gets_304_without_content() {
    let page = Page::whole();
    for method in [Method::GET, Method::HEAD] {
        let mut request = gzip();
        request.push_static("If-None-Match", "\"a\"");
        let response = page.respond(&method, &request);
        assert_eq!(response.status, StatusCode::NOT_MODIFIED);
        assert!(response.body.is_empty());
        let expected = Fields::from([
            ("Cache-Control", "public"),
            ("Vary", "Accept-Encoding"),
            ("ETag", "W/\"a\""),
        ]);
        assert_eq!(response.all_fields().collect::<Fields>(), expected);
    }
}

#[test]
fn conditions_count_for_successes_alone() {
    let mut page = Page::whole();
    page.status = StatusCode::NOT_FOUND;
    let response = page.get(&Fields::from([("If-None-Match", "*")]));
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert!(!response.body.is_empty());
}

#[test]
fn a_response_without_content_is_delivered_so() {
    let mut page = Page::new(Vec::new());
    page.status = StatusCode::MOVED_PERMANENTLY;
    let response = page.get(&gzip());
    assert_eq!(response.status, StatusCode::MOVED_PERMANENTLY);
    assert!(response.body.is_empty() && response.fields.is_empty());
}

#[test]
fn damaged_bytes_are_an_error() {
    let page = Page::whole();
    let request = RequestFacts { method: &Method::GET, fields: &Fields::new(), ranges_max: 4 };
    let result = respond(page.stored(), request, [], |_| None);
    assert_eq!(result.err(), Some(DeliveryError::Damaged));
}

async fn compressed(method: Method, length: usize, request: &Fields) -> (Fields, Bytes) {
    let mut fields = Fields::from([("Content-Type", "text/html"), ("ETag", "\"a\"")]);
    fields.push_static("Content-Length", length.to_string());
    let content =
        if method == Method::HEAD { Bytes::new() } else { Bytes::from(vec![b'a'; length]) };
    let request = RequestFacts { method: &method, fields: request, ranges_max: 4 };
    let encoding = settings::Encoding::default();
    let body = compress(StatusCode::OK, &mut fields, content.into(), request, &encoding);
    (fields, body.collect(100_000).await.expect("whole"))
}

#[tokio::test]
async fn a_passed_response_is_compressed_for_those_who_take_it() {
    let expected = Fields::from([
        ("Content-Type", "text/html"),
        ("Vary", "Accept-Encoding"),
        ("ETag", "W/\"a\""),
        ("Content-Encoding", "gzip"),
    ]);
    let (fields, content) = compressed(Method::GET, 5_000, &gzip()).await;
    assert_eq!(fields, expected);
    assert_eq!(gunzip(&content), vec![b'a'; 5_000]);
    let (fields, content) = compressed(Method::HEAD, 5_000, &gzip()).await;
    assert_eq!(fields, expected);
    assert!(content.is_empty());
}

#[tokio::test]
async fn a_passed_response_stays_as_it_is_for_others_and_where_it_is_small() {
    let (fields, content) = compressed(Method::GET, 5_000, &Fields::new()).await;
    assert_eq!(content.len(), 5_000);
    assert_eq!(fields.first_str("vary"), Some("Accept-Encoding"));
    assert_eq!(fields.first_str("content-length"), Some("5000"));
    let (fields, content) = compressed(Method::GET, 50, &gzip()).await;
    assert_eq!(content.len(), 50);
    assert!(!fields.contains("vary") && !fields.contains("content-encoding"));
}
