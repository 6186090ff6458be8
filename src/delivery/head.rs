//! Fields that say how content is coded.

use bytes::Bytes;
use http::StatusCode;

use crate::exchange::has_whole_content;
use crate::fields::Fields;
use crate::fields::accept_encoding::Offered;
use crate::fields::representation::describes_bytes;
use crate::store::{Encoded, StoredBody};

/// The coding of a response's content, as its Content-Encoding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// gzip, once.
    Gzip,
    /// br, once.
    Brotli,
    /// deflate, once.
    Deflate,
    /// zstd, once.
    Zstd,
    /// Another one, or several.
    Other,
}

/// How the content is coded (RFC 9110 8.4).
pub fn content_coding(fields: &Fields) -> Coding {
    let mut codings =
        fields.list("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let is = |coding: &[u8], name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
    match (codings.next(), codings.next()) {
        (None, _) => Coding::Identity,
        (Some(coding), None) if is(coding, "gzip") || is(coding, "x-gzip") => Coding::Gzip,
        (Some(coding), None) if is(coding, "br") => Coding::Brotli,
        (Some(coding), None) if is(coding, "deflate") => Coding::Deflate,
        (Some(coding), None) if is(coding, "zstd") => Coding::Zstd,
        _ => Coding::Other,
    }
}

/// Does it make sense, and is it allowed, to compress this response? Text, scripts, JSON, XML and
/// SVG, in whole, not coded yet, without `no-transform` (RFC 9111 5.2.2.6). Its length is looked
/// at by the caller.
pub fn compressible(status: StatusCode, fields: &Fields) -> bool {
    has_whole_content(status)
        && !fields.contains("content-encoding")
        && fields.first("content-type").is_some_and(|value| is_text(value))
        && !fields.list("cache-control").any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

/// Media types that gain by compressing. (`xml` somewhere in the type is not enough: office
/// documents have it there and are compressed.)
fn is_text(content_type: &[u8]) -> bool {
    const TYPES: [&[u8]; 7] = [
        b"application/javascript",
        b"application/x-javascript",
        b"application/ecmascript",
        b"application/json",
        b"application/xml",
        b"application/manifest+json",
        b"image/svg+xml",
    ];
    let end = memchr::memchr(b';', content_type).unwrap_or(content_type.len());
    let media_type = content_type[..end].trim_ascii();
    let starts = |start: &[u8]| {
        media_type.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start))
    };
    let ends = |end: &[u8]| {
        let from = media_type.len().checked_sub(end.len());
        from.is_some_and(|from| media_type[from..].eq_ignore_ascii_case(end))
    };
    starts(b"text/")
        || ends(b"+json")
        || ends(b"+xml")
        || TYPES.iter().any(|known| known.eq_ignore_ascii_case(media_type))
}

/// The compressed forms of a stored response.
pub(super) fn offered(body: &StoredBody) -> Offered {
    let of = |literal: &Encoded| Offered {
        gzip: literal.has_deflate(),
        brotli: literal.has_brotli(),
        zstd: literal.has_zstd(),
    };
    match body.only() {
        Some(only) => of(only),
        // What is joined cannot be zstd.
        None => Offered {
            gzip: body.literals().any(Encoded::has_deflate),
            brotli: body.literals().any(Encoded::has_brotli),
            zstd: false,
        },
    }
}

/// Does a stored response have compressed forms besides the bytes themselves?
pub fn has_variants(body: &StoredBody) -> bool {
    offered(body).any()
}

/// Makes a response ready to be delivered from the store, before its head is serialised: its
/// length goes, which each delivery says anew, `Vary: Accept-Encoding` and weak validators come
/// where it has compressed forms. A page with includes
/// loses its validators: they say nothing about the fragments. What has one form alone keeps all
/// that was said of it, a coding by the origin included.
pub fn prepare(fields: &mut Fields, body: &StoredBody) {
    fields.remove("content-length");
    if has_variants(body) {
        forget_bytes(fields);
        vary_by_encoding(fields);
        weaken_entity_tag(fields);
    }
    if body.has_includes() {
        forget_bytes(fields);
        for name in ["etag", "last-modified", "accept-ranges"] {
            fields.remove(name);
        }
    }
}

/// A coding was taken off: its name goes, and what was said about the bytes before.
pub fn forget_coding(fields: &mut Fields) {
    fields.remove("content-encoding");
    forget_bytes(fields);
    weaken_entity_tag(fields);
}

/// The content is gzip from here on: says so and takes off what was said about the bytes before.
pub fn use_gzip(fields: &mut Fields) {
    forget_bytes(fields);
    // Of what is compressed as it streams no part can be cut.
    fields.remove("accept-ranges");
    weaken_entity_tag(fields);
    fields.set("Content-Encoding", Bytes::from_static(b"gzip"));
}

/// Says once that the response depends on Accept-Encoding (RFC 9110 12.5.5).
pub fn vary_by_encoding(fields: &mut Fields) {
    let said = fields
        .list("vary")
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"));
    if !said {
        fields.push_static("Vary", Bytes::from_static(b"Accept-Encoding"));
    }
}

/// Takes off what holds for just the bytes that the origin sent: their length and digests.
fn forget_bytes(fields: &mut Fields) {
    fields.retain(|field| !describes_bytes(field));
}

/// Two codings of one response are not equal byte for byte, so that they may share a weak entity
/// tag alone (RFC 9110 8.8.3.3).
fn weaken_entity_tag(fields: &mut Fields) {
    let strong = fields.first("etag").filter(|tag| tag.starts_with(b"\""));
    if let Some(weak) = strong.map(|tag| [b"W/", &tag[..]].concat()) {
        fields.set("ETag", weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Include, Segment};

    #[test]
    fn text_is_compressed_and_nothing_that_is_compressed_already() {
        for (content_type, expected) in [
            ("text/html; charset=UTF-8", true),
            ("text/css", true),
            ("Application/JavaScript", true),
            ("text/javascript", true),
            ("application/json", true),
            ("application/problem+json;a=b", true),
            ("image/svg+xml", true),
            ("application/rss+xml", true),
            ("image/png", false),
            ("font/woff2", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", false),
            ("", false),
        ] {
            let fields = Fields::from([("Content-Type", content_type)]);
            assert_eq!(compressible(StatusCode::OK, &fields), expected, "{content_type}");
        }
        assert!(!compressible(StatusCode::OK, &Fields::new()));
    }

    #[test]
    fn what_is_coded_partial_or_not_to_be_changed_is_not_compressed() {
        let html = || Fields::from([("Content-Type", "text/html")]);
        assert!(compressible(StatusCode::NOT_FOUND, &html()));
        for status in [204, 205, 206, 304, 103] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(!compressible(status, &html()), "{status}");
        }
        let mut coded = html();
        coded.push_static("Content-Encoding", "br");
        assert!(!compressible(StatusCode::OK, &coded));
        let mut fixed = html();
        fixed.push_static("Cache-Control", "public, No-Transform");
        assert!(!compressible(StatusCode::OK, &fixed));
    }

    #[test]
    fn codings_are_told_apart() {
        for (value, expected) in [
            ("gzip", Coding::Gzip),
            ("X-GZip", Coding::Gzip),
            ("identity", Coding::Identity),
            ("identity, gzip", Coding::Gzip),
            ("", Coding::Identity),
            ("br", Coding::Brotli),
            ("Deflate", Coding::Deflate),
            ("zstd", Coding::Zstd),
            ("compress", Coding::Other),
            ("gzip, gzip", Coding::Other),
            ("gzip, br", Coding::Other),
        ] {
            let fields = Fields::from([("Content-Encoding", value)]);
            assert_eq!(content_coding(&fields), expected, "{value}");
        }
        assert_eq!(content_coding(&Fields::new()), Coding::Identity);
    }

    fn body(segments: Vec<Segment>) -> StoredBody {
        StoredBody::new(segments)
    }

    fn literal(level: Option<u32>) -> Segment {
        Segment::Literal(Encoded::from_identity("a".repeat(2_000).as_bytes(), level, 100))
    }

    #[test]
    fn a_response_with_two_variants_varies_and_has_a_weak_tag() {
        let origin = [
            ("ETag", "\"a\""),
            ("Last-Modified", "x"),
            ("Content-Length", "2000"),
            ("Accept-Ranges", "bytes"),
            ("vary", "Cookie, accept-encoding"),
        ];
        let mut fields = Fields::from(origin);
        let page = body(vec![literal(Some(6))]);
        prepare(&mut fields, &page);
        let expected = Fields::from([
            ("Last-Modified", "x"),
            ("Accept-Ranges", "bytes"),
            ("vary", origin[4].1),
            ("ETag", "W/\"a\""),
        ]);
        assert_eq!(fields, expected);
        let only = page.only().expect("one literal");
        assert!(only.has_deflate() && !only.has_brotli());
    }

    #[test]
    fn what_is_kept_in_brotli_is_ready_to_send() {
        let mut fields = Fields::from([("ETag", "\"a\"")]);
        let mut page = body(vec![literal(None)]);
        page.add_brotli(5, 100);
        prepare(&mut fields, &page);
        assert_eq!(fields, Fields::from([("Vary", "Accept-Encoding"), ("ETag", "W/\"a\"")]));
        let only = page.only().expect("one literal");
        assert!(!only.has_deflate() && only.has_brotli());
    }

    #[test]
    fn what_the_origin_coded_and_is_stored_so_keeps_its_fields() {
        let origin = [
            ("Content-Encoding", "br"),
            ("ETag", "\"a\""),
            ("Accept-Ranges", "bytes"),
            ("Repr-Digest", "x"),
        ];
        let mut fields = Fields::from(origin);
        fields.push_static("Content-Length", "2000");
        prepare(&mut fields, &body(vec![literal(None)]));
        assert_eq!(fields, Fields::from(origin));
    }

    #[test]
    fn what_is_decoded_keeps_nothing_that_was_said_about_the_coded_bytes() {
        let mut fields = Fields::from([
            ("Content-Encoding", "br"),
            ("Content-Length", "20"),
            ("Content-MD5", "x"),
            ("ETag", "\"a\""),
            ("Vary", "Accept-Encoding"),
        ]);
        forget_coding(&mut fields);
        assert_eq!(fields, Fields::from([("Vary", "Accept-Encoding"), ("ETag", "W/\"a\"")]));
    }

    #[test]
    fn a_response_with_one_variant_keeps_its_validators() {
        let mut fields = Fields::from([("ETag", "\"a\"")]);
        let page = body(vec![literal(None)]);
        prepare(&mut fields, &page);
        assert_eq!(fields, Fields::from([("ETag", "\"a\"")]));
    }

    #[test]
    fn a_page_with_includes_loses_its_validators() {
        let mut fields = Fields::from([("ETag", "\"a\""), ("Last-Modified", "x")]);
        let include = Segment::Include(Include::new("/m"));
        let page = body(vec![literal(Some(6)), include]);
        prepare(&mut fields, &page);
        assert_eq!(fields, Fields::from([("Vary", "Accept-Encoding")]));
    }

    #[test]
    fn vary_is_added_once() {
        for (before, lines) in [("Cookie", 2), ("Accept-encoding", 1), ("a, *", 1)] {
            let mut fields = Fields::from([("Vary", before)]);
            vary_by_encoding(&mut fields);
            vary_by_encoding(&mut fields);
            assert_eq!(fields.len(), lines, "{before}");
        }
    }

    #[test]
    fn gzip_replaces_what_was_said_about_the_bytes() {
        let mut fields =
            Fields::from([("ETag", "W/\"a\""), ("Content-Length", "5"), ("Digest", "x")]);
        use_gzip(&mut fields);
        let expected = Fields::from([("ETag", "W/\"a\""), ("Content-Encoding", "gzip")]);
        assert_eq!(fields, expected);
    }
}
