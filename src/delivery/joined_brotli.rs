//! A page and its fragments as one brotli stream, without compressing anything again.

use bytes::Bytes;

use super::joined::Joined;
use super::joined_framing::BrotliFraming;
use super::{DeliveryError, brotli};
use crate::body::Body;
use crate::store::{BROTLI_HEAD, BROTLI_TAIL, Encoded};

impl Joined {
    /// The content as a brotli stream of known length (RFC 7932): the kept meta-blocks one after
    /// another. Pieces that are not kept in brotli become uncompressed meta-blocks; `identity`
    /// inflates them, or knows their bytes already; `None` where they are damaged.
    pub fn brotli(
        &self,
        identity: impl Fn(&Encoded) -> Option<Bytes>,
    ) -> Result<Body, DeliveryError> {
        self.framed(&mut BrotliFraming(identity))
    }

    /// Length of [`Joined::brotli`].
    pub fn brotli_bytes(&self) -> u64 {
        let frame = (BROTLI_HEAD.len() + BROTLI_TAIL.len()) as u64;
        let pieces = self.pieces.iter().map(|piece| match piece.forms().brotli {
            Some(blocks) => blocks.len() as u64,
            None => brotli::uncompressed_bytes(piece.identity_bytes()),
        });
        frame + pieces.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::brotli::tests::unbrotli;
    use super::super::join;
    use super::*;
    use crate::store::{Include, Segment, StoredBody};

    fn page(segments: Vec<Segment>) -> StoredBody {
        let mut body = StoredBody::new(segments);
        body.add_brotli(5, 64);
        body
    }

    fn literal(text: &str) -> Segment {
        Segment::Literal(Encoded::from_identity(text.as_bytes(), Some(6), 64))
    }

    fn include() -> Segment {
        Segment::Include(Include::new("/menu"))
    }

    #[test]
    fn a_page_is_joined_with_fragments_that_are_kept_in_any_form() {
        let (top, item) = ("<html>of the page".repeat(300), "<li>of the menu</li>".repeat(4_000));
        let menu = join(&page(vec![literal(&item)]), []);
        let deflated = join(&StoredBody::new([literal(&item)]), []);
        let fetched = Joined::from(Bytes::from("<p>"));
        let page = page(vec![literal(&top), include(), literal("-"), include(), include()]);
        let joined = join(&page, [menu, deflated, fetched]);
        let stream = joined.brotli(|piece| piece.inflate().ok()).expect("sound");
        assert_eq!(stream.len(), Some(joined.brotli_bytes()));
        let stream = stream.ready_parts().expect("in memory").concat();
        let expected = format!("{top}{item}-{item}<p>");
        assert_eq!(unbrotli(&stream).expect("sound"), expected.as_bytes());
    }

    #[test]
    fn a_piece_that_cannot_be_read_is_an_error() {
        let deflated = join(&StoredBody::new([literal(&"a".repeat(5_000))]), []);
        assert_eq!(deflated.brotli(|_| None).err(), Some(DeliveryError::Damaged));
    }
}
