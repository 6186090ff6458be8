//! A page and its fragments as one content, without compressing anything again.

use bytes::Bytes;

use super::joined_framing::{Framing, GzipFraming, IdentityFraming};
use super::{DeliveryError, gzip};
use crate::body::Body;
use crate::store::{Encoded, GZIP_HEAD, GZIP_TAIL_BYTES, Piece, StoredBody};

/// Stored pieces in the order in which they leave. Cheap to make: the bytes are shared.
#[derive(Clone, Debug, Default)]
pub struct Joined {
    pub(super) pieces: Vec<Encoded>,
}

/// Puts the fragments of a page in the places of its includes, in order; an include without a
/// fragment leaves nothing behind. A fragment may be joined itself. The caller bounds the depth.
pub fn join(page: &StoredBody, fragments: impl IntoIterator<Item = Joined>) -> Joined {
    let mut fragments = fragments.into_iter();
    let mut pieces = Vec::with_capacity(page.pieces().len());
    for piece in page.pieces() {
        match piece {
            Piece::Literal(literal) => pieces.push(literal.clone()),
            Piece::Include(_) => pieces.extend(fragments.next().unwrap_or_default().pieces),
        }
    }
    Joined { pieces }
}

impl Joined {
    /// The content as a gzip file of known length (RFC 1952): the deflate streams one after
    /// another, with the checksum made from theirs. Pieces that are not deflated become stored
    /// blocks.
    pub fn gzip(&self) -> Result<Body, DeliveryError> {
        self.framed(&mut GzipFraming::default())
    }

    /// The content as it is. `identity` inflates a piece, or knows its bytes already; `None` where
    /// it is damaged.
    pub fn identity(
        &self,
        identity: impl Fn(&Encoded) -> Option<Bytes>,
    ) -> Result<Body, DeliveryError> {
        self.framed(&mut IdentityFraming(identity))
    }

    /// All of the content at once.
    pub(super) fn framed(&self, framing: &mut impl Framing) -> Result<Body, DeliveryError> {
        let mut parts = Vec::with_capacity(self.pieces.len() + 2);
        framing.head(&mut parts);
        for piece in &self.pieces {
            framing.piece(piece, &mut parts)?;
        }
        framing.tail(&mut parts);
        Ok(Body::parts(parts))
    }

    /// Its pieces in order.
    pub(super) fn pieces(&self) -> &[Encoded] {
        &self.pieces
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Length of [`Joined::gzip`].
    pub fn gzip_bytes(&self) -> u64 {
        let frame = (GZIP_HEAD.len() + GZIP_TAIL_BYTES) as u64;
        let pieces = self.pieces.iter().map(|piece| match piece.forms().deflate {
            Some(deflate) => deflate.len() as u64,
            None => gzip::stored_blocks_bytes(piece.identity_bytes()),
        });
        frame + pieces.sum::<u64>()
    }

    /// Length of [`Joined::identity`].
    pub fn identity_bytes(&self) -> u64 {
        self.pieces.iter().map(Encoded::identity_bytes).sum()
    }
}

/// The bytes of one piece.
pub(super) fn own_bytes(
    piece: &Encoded,
    identity: impl Fn(&Encoded) -> Option<Bytes>,
) -> Result<Bytes, DeliveryError> {
    piece.identity().or_else(|| identity(piece)).ok_or(DeliveryError::Damaged)
}

/// A literal of a page.
impl From<Encoded> for Joined {
    fn from(literal: Encoded) -> Self {
        Self { pieces: vec![literal] }
    }
}

/// A fragment that is not stored.
impl From<Bytes> for Joined {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            return Self::default();
        }
        Self { pieces: vec![Encoded::plain(bytes)] }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;
    use crate::store::{Forms, Include, Segment};

    fn gunzip(file: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(file);
        decoder.read_to_end(&mut out)?;
        assert!(decoder.into_inner().is_empty(), "nothing follows the end");
        Ok(out)
    }

    fn bytes_of(body: &Body) -> Vec<u8> {
        body.ready_parts().expect("it is in memory").concat()
    }

    fn inflate(piece: &Encoded) -> Option<Bytes> {
        piece.inflate().ok()
    }

    fn literal(text: &[u8], level: Option<u32>) -> Segment {
        Segment::Literal(Encoded::from_identity(text, level, 64))
    }

    fn include() -> Segment {
        Segment::Include(Include::new("/menu"))
    }

    fn page(segments: Vec<Segment>) -> StoredBody {
        StoredBody::new(segments)
    }

    /// A page with a menu that has a fragment in itself; one include has no fragment.
    fn nested() -> (Joined, String) {
        let (top, item) = ("<html>".repeat(300), "<li>".repeat(50_000));
        let menu = page(vec![literal(b"<ul>", Some(6)), include(), literal(b"</ul>", None)]);
        let menu = join(&menu, [Joined::from(Bytes::from(item.clone()))]);
        let page = page(vec![
            literal(top.as_bytes(), Some(6)),
            include(),
            literal(b"<p>", None),
            include(),
        ]);
        (join(&page, [menu]), format!("{top}<ul>{item}</ul><p>"))
    }

    #[test]
    fn fragments_stand_in_the_places_of_their_includes() {
        let (joined, expected) = nested();
        let identity = joined.identity(inflate).expect("sound");
        assert_eq!(bytes_of(&identity), expected.as_bytes());
        let gzip = joined.gzip().expect("sound");
        assert_eq!(gunzip(&bytes_of(&gzip)).expect("sound"), expected.as_bytes());
        assert_eq!(gzip.len(), Some(joined.gzip_bytes()));
        assert_eq!(identity.len(), Some(joined.identity_bytes()));
    }

    #[test]
    fn the_gunzip_of_this_machine_takes_a_joined_page() {
        let (joined, expected) = nested();
        let file = bytes_of(&joined.gzip().expect("sound"));
        let mut gunzip = Command::new("gunzip")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("gunzip is part of every Debian");
        let mut input = gunzip.stdin.take().expect("it is piped");
        let writer = std::thread::spawn(move || input.write_all(&file));
        let output = gunzip.wait_with_output().expect("it ends");
        writer.join().expect("joined").expect("it reads everything");
        assert!(output.status.success());
        assert_eq!(output.stdout, expected.as_bytes());
    }

    #[test]
    fn nothing_is_a_gzip_file_too() {
        let file = bytes_of(&Joined::default().gzip().expect("sound"));
        assert_eq!(gunzip(&file).expect("sound"), b"");
    }

    #[test]
    fn a_wrong_checksum_is_seen_by_the_reader() {
        let mut joined = nested().0;
        let piece = &mut joined.pieces[1];
        *piece = Encoded::of_forms(piece.forms(), piece.crc32() ^ 1, piece.identity_bytes());
        assert!(gunzip(&bytes_of(&joined.gzip().expect("framed"))).is_err());
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_an_error() {
        let deflated = page(vec![literal(&[b'a'; 5_000], Some(6))]);
        let joined = join(&deflated, []);
        assert_eq!(joined.identity(|_| None).err(), Some(DeliveryError::Damaged));
        let mut lost = joined;
        lost.pieces[0] = Encoded::of_forms(Forms::default(), 0, 5_000);
        assert_eq!(lost.gzip().err(), Some(DeliveryError::Damaged));
    }

    fn piece() -> impl Strategy<Value = (Vec<u8>, Option<u32>, bool)> {
        let bytes = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            prop::collection::vec(prop::sample::select(b"ab<>".to_vec()), 0..3_000),
            (0u8..4, 65_000usize..140_000).prop_map(|(byte, length)| vec![byte; length]),
        ];
        (bytes, prop::option::of(1u32..10), any::<bool>())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn joining_is_concatenation_for_any_pieces(
            pieces in prop::collection::vec(piece(), 0..6),
        ) {
            let expected: Vec<u8> =
                pieces.iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
            let mut fragments = Vec::new();
            let segments = pieces.iter().map(|(bytes, level, is_fragment)| {
                let literal = literal(bytes, *level);
                if *is_fragment {
                    fragments.push(join(&page(vec![literal]), []));
                    return include();
                }
                literal
            });
            let segments = segments.collect();
            let joined = join(&page(segments), fragments);
            let gzip = joined.gzip().expect("sound");
            prop_assert_eq!(gzip.len(), Some(joined.gzip_bytes()));
            prop_assert_eq!(gunzip(&bytes_of(&gzip)).expect("sound"), expected.clone());
            let identity = joined.identity(inflate).expect("sound");
            prop_assert_eq!(bytes_of(&identity), expected);
        }
    }
}
