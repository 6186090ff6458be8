//! A stored page that leaves while some of its fragments are still fetched.

use bytes::{Bytes, BytesMut};

use super::head;
use super::joined::Joined;
use super::joined_framing::{BrotliFraming, Framing, GzipFraming, IdentityFraming};
use super::respond::assemble;
use super::{DeliveryError, RequestFacts, Stored};
use crate::body::{Body, BodyError, BodySender, Closed, channel};
use crate::exchange::Response;
use crate::fields::accept_encoding::{Offered, Variant, choose};
use crate::store::Encoded;

/// Gives the bytes of a piece that is kept compressed alone; `None` where it is damaged.
pub type PieceReader = Box<dyn Fn(&Encoded) -> Option<Bytes> + Send>;

/// Parts of at most so many bytes together leave as one piece: the head of a file and a short
/// literal are not worth a chunk each.
const MERGED_MAX_BYTES: usize = 4 << 10;

/// As [`super::respond`], for a page whose content is not all known yet: its head, without a length,
/// and what takes the content in the order of the page. Where no content is sent (HEAD) there is
/// nothing to take it, and nothing needs to be fetched. A page with includes has no validators. `buffer_max_bytes` may wait for the
/// client.
pub fn stream_joined<'a>(
    stored: impl Into<Stored<'a>>,
    request: RequestFacts<'_>,
    identity: PieceReader,
    buffer_max_bytes: usize,
) -> (Response, Option<JoinedSender>) {
    let stored = stored.into();
    // Frames of zstd refer back, so that a page with includes has no such form.
    let offered = Offered { zstd: false, ..head::offered(stored.body) };
    let variant = choose(request.fields, offered);
    if request.method == http::Method::HEAD {
        return (assemble(stored, variant, Body::empty()), None);
    }
    let framing: Box<dyn Framing + Send> = match variant {
        Variant::Identity | Variant::Zstd => Box::new(IdentityFraming(identity)),
        Variant::Gzip => Box::<GzipFraming>::default(),
        Variant::Brotli => Box::new(BrotliFraming(identity)),
    };
    let (sender, body) = channel(buffer_max_bytes, None);
    let sender = JoinedSender { framing, began: false, sender };
    (assemble(stored, variant, body), Some(sender))
}

/// Takes the content of a page piece by piece. Dropping it breaks the content off.
pub struct JoinedSender {
    framing: Box<dyn Framing + Send>,
    began: bool,
    sender: BodySender,
}

/// Nothing more is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The client has gone.
    #[error(transparent)]
    Gone(#[from] Closed),
    /// A piece cannot be read.
    #[error(transparent)]
    Damaged(#[from] DeliveryError),
}

impl JoinedSender {
    /// What comes next; it leaves at once, as far as the client takes it.
    pub async fn send(&mut self, next: &Joined) -> Result<(), Stopped> {
        let mut parts = Vec::with_capacity(next.pieces().len() + 1);
        self.begin(&mut parts);
        for piece in next.pieces() {
            if let Err(error) = self.framing.piece(piece, &mut parts) {
                tracing::error!(%error, "a stored page is broken off");
                return Err(error.into());
            }
        }
        Ok(self.send_parts(parts).await?)
    }

    /// The content is complete.
    pub async fn finish(mut self) {
        let mut parts = Vec::new();
        self.begin(&mut parts);
        self.framing.tail(&mut parts);
        if self.send_parts(parts).await.is_ok() {
            self.sender.finish();
        }
    }

    /// The content is broken off: it never has its proper end.
    pub fn abort(self) {
        self.sender.abort(BodyError::Truncated);
    }

    /// Resolves when the client has gone.
    pub async fn closed(&mut self) {
        self.sender.closed().await;
    }

    fn begin(&mut self, parts: &mut Vec<Bytes>) {
        if !std::mem::replace(&mut self.began, true) {
            self.framing.head(parts);
        }
    }

    async fn send_parts(&mut self, parts: Vec<Bytes>) -> Result<(), Closed> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if parts.len() > 1 && bytes <= MERGED_MAX_BYTES {
            let mut merged = BytesMut::with_capacity(bytes);
            for part in &parts {
                merged.extend_from_slice(part);
            }
            return self.sender.send(merged.freeze()).await;
        }
        for part in parts {
            self.sender.send(part).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::{Method, StatusCode};

    use super::*;
    use crate::exchange::StoredHead;
    use crate::fields::Fields;
    use crate::store::{Forms, Include, Segment, StoredBody};

    fn page() -> (StoredHead, StoredBody) {
        let literal = |text: &[u8]| Segment::Literal(Encoded::from_identity(text, Some(6), 0));
        let long = "before ".repeat(2_000);
        let include = Segment::Include(Include::new("/m"));
        let segments = [literal(long.as_bytes()), include, literal(b"after")];
        let head = StoredHead::new(Fields::from([("Content-Type", "text/html")]));
        (head, StoredBody::new(segments))
    }

    fn streamed(method: &Method, coding: &'static str) -> (Response, Option<JoinedSender>) {
        let (head, body) = page();
        let fields = Fields::from([("Accept-Encoding", coding)]);
        let stored = Stored { status: StatusCode::OK, head: &head, body: &body };
        let request = RequestFacts { method, fields: &fields, ranges_max: 8 };
        stream_joined(stored, request, Box::new(|piece| piece.inflate().ok()), 1 << 16)
    }

    fn literal(at: usize) -> Joined {
        Joined::from(page().1.literal(at).expect("a literal").clone())
    }

    /// All that can be made of the bytes so far.
    fn readable(gzip: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let _ = flate2::read::GzDecoder::new(gzip).read_to_end(&mut out);
        out
    }

    #[tokio::test]
    async fn what_is_known_can_be_read_before_the_rest_comes() {
        for coding in ["gzip", "identity"] {
            let (response, sender) = streamed(&Method::GET, coding);
            let (mut body, mut sender) = (response.body, sender.expect("content is sent"));
            assert_eq!(body.len(), None);
            sender.send(&literal(0)).await.expect("open");
            let mut bytes = Vec::new();
            let before = "before ".repeat(2_000);
            let read =
                |bytes: &[u8]| if coding == "gzip" { readable(bytes) } else { bytes.to_vec() };
            while read(&bytes) != before.as_bytes() {
                bytes.extend_from_slice(&body.next().await.expect("more").expect("sound"));
            }
            sender.send(&Joined::from(Bytes::from("menu"))).await.expect("open");
            sender.send(&Joined::default()).await.expect("open");
            sender.send(&literal(2)).await.expect("open");
            sender.finish().await;
            bytes.extend_from_slice(&body.collect(1_000).await.expect("whole"));
            assert_eq!(read(&bytes), format!("{before}menuafter").as_bytes());
            if coding == "gzip" {
                let mut out = Vec::new();
                let mut whole = flate2::bufread::GzDecoder::new(&bytes[..]);
                whole.read_to_end(&mut out).expect("a whole file");
            }
        }
    }

    #[tokio::test]
    async fn an_empty_page_is_a_whole_file_too() {
        let (response, sender) = streamed(&Method::GET, "gzip");
        sender.expect("content is sent").finish().await;
        let file = response.body.collect(100).await.expect("whole");
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut out).expect("a whole file");
        assert!(out.is_empty());
    }

    #[tokio::test]
    async fn a_page_that_is_broken_off_has_no_proper_end() {
        for aborted in [true, false] {
            let (response, sender) = streamed(&Method::GET, "identity");
            let mut sender = sender.expect("content is sent");
            sender.send(&literal(2)).await.expect("open");
            if aborted {
                sender.abort();
            } else {
                drop(sender);
            }
            assert_eq!(response.body.collect(100).await, Err(BodyError::Truncated));
        }
    }

    #[tokio::test]
    async fn a_damaged_piece_and_a_client_that_has_gone_end_it() {
        let lost = Encoded::of_forms(Forms::default(), 0, 1);
        let (response, sender) = streamed(&Method::GET, "gzip");
        let mut sender = sender.expect("content is sent");
        let damaged = sender.send(&Joined::from(lost)).await;
        assert_eq!(damaged, Err(Stopped::Damaged(DeliveryError::Damaged)));
        drop(response);
        sender.closed().await;
        assert_eq!(sender.send(&literal(0)).await, Err(Stopped::Gone(Closed)));
    }

    #[test]
    fn a_head_alone_takes_no_content_and_tells_no_length() {
        let (response, sender) = streamed(&Method::HEAD, "gzip");
        assert!(sender.is_none() && !response.fields.contains("content-length"));
        assert_eq!(response.fields.first("content-encoding").map(|it| &it[..]), Some(&b"gzip"[..]));
    }
}
