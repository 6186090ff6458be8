//! The content of a stored response.

use bytes::Bytes;

use super::encoded::Encoded;
use super::weight::{allocation_bytes, shared_bytes};

/// Literals and includes, in order. A page without includes is one literal, which takes no list.
#[derive(Clone, Debug)]
pub struct StoredBody(Segments);

#[derive(Clone, Debug)]
enum Segments {
    One(Encoded),
    Any(Box<[Segment]>),
}

impl StoredBody {
    /// Content of these segments.
    pub fn new(segments: impl Into<Vec<Segment>>) -> Self {
        let mut segments = segments.into();
        Self(match (segments.pop(), segments.is_empty()) {
            (Some(Segment::Literal(only)), true) => Segments::One(only),
            (last, _) => {
                segments.extend(last);
                Segments::Any(segments.into())
            }
        })
    }

    /// The segments in order.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = Piece<'_>> + Clone {
        let (one, any) = match &self.0 {
            Segments::One(only) => (Some(only), &[][..]),
            Segments::Any(segments) => (None, &segments[..]),
        };
        Pieces { one, any: any.iter() }
    }

    /// The literals in order.
    pub fn literals(&self) -> impl Iterator<Item = &Encoded> + Clone {
        self.pieces().filter_map(Piece::literal)
    }

    /// The literal in one place among the segments.
    pub fn literal(&self, place: usize) -> Option<&Encoded> {
        self.pieces().nth(place).and_then(Piece::literal)
    }

    /// The literal that is all of it.
    pub fn only(&self) -> Option<&Encoded> {
        match &self.0 {
            Segments::One(only) => Some(only),
            Segments::Any(_) => None,
        }
    }

    /// Is something to be joined in?
    pub fn has_includes(&self) -> bool {
        self.pieces().any(|piece| matches!(piece, Piece::Include(_)))
    }

    /// Is there nothing in it?
    pub fn is_empty(&self) -> bool {
        self.pieces().len() == 0
    }

    /// The same with other literals, made from these.
    pub(super) fn map(self, mut literal: impl FnMut(Encoded) -> Encoded) -> Self {
        Self(match self.0 {
            Segments::One(only) => Segments::One(literal(only)),
            Segments::Any(segments) => {
                let segments = segments.into_iter().map(|segment| match segment {
                    Segment::Literal(encoded) => Segment::Literal(literal(encoded)),
                    Segment::Include(include) => Segment::Include(include),
                });
                Segments::Any(segments.collect())
            }
        })
    }

    /// The same without slices of what else would be kept for them: of the page's own bytes.
    pub(super) fn compact(mut self) -> Self {
        if let Segments::Any(segments) = &mut self.0 {
            for segment in segments {
                if let Segment::Include(Include { source, alternative, .. }) = segment {
                    *source = Bytes::copy_from_slice(source);
                    *alternative = alternative.as_deref().map(Bytes::copy_from_slice);
                }
            }
        }
        self
    }

    /// Bytes of memory besides its own size.
    pub(super) fn bytes(&self) -> usize {
        let list = match &self.0 {
            Segments::One(_) => 0,
            Segments::Any(segments) => allocation_bytes(size_of_val(&segments[..])),
        };
        let pieces = self.pieces().map(|piece| match piece {
            Piece::Literal(encoded) => shared_bytes(encoded.buffer()),
            Piece::Include(include) => {
                shared_bytes(&include.source) + include.alternative.as_ref().map_or(0, shared_bytes)
            }
        });
        list + pieces.sum::<usize>()
    }
}

impl Default for StoredBody {
    fn default() -> Self {
        Self(Segments::Any(Box::default()))
    }
}

struct Pieces<'a> {
    one: Option<&'a Encoded>,
    any: std::slice::Iter<'a, Segment>,
}

impl Clone for Pieces<'_> {
    fn clone(&self) -> Self {
        Self { one: self.one, any: self.any.clone() }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        match self.one.take() {
            Some(only) => Some(Piece::Literal(only)),
            None => self.any.next().map(Segment::as_piece),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let length = usize::from(self.one.is_some()) + self.any.len();
        (length, Some(length))
    }
}

impl ExactSizeIterator for Pieces<'_> {}

/// A piece of content that is to be stored.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes.
    Literal(Encoded),
    /// Another response that is joined in here.
    Include(Include),
}

impl Segment {
    fn as_piece(&self) -> Piece<'_> {
        match self {
            Self::Literal(encoded) => Piece::Literal(encoded),
            Self::Include(include) => Piece::Include(include),
        }
    }
}

/// A piece of stored content.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Bytes.
    Literal(&'a Encoded),
    /// Another response that is joined in here.
    Include(&'a Include),
}

impl<'a> Piece<'a> {
    /// Its bytes, if it is some.
    pub fn literal(self) -> Option<&'a Encoded> {
        match self {
            Self::Literal(encoded) => Some(encoded),
            Self::Include(_) => None,
        }
    }
}

/// `<esi:include src="..." alt="..." onerror="continue"/>`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// The source as it stood in the page, entities decoded.
    pub source: Bytes,
    /// What is tried where the source fails.
    pub alternative: Option<Bytes>,
    /// `onerror="continue"`: where both fail, the page goes on without, whatever the settings say.
    pub continues: bool,
}

impl Include {
    /// An include of this source alone.
    pub fn new(source: impl Into<Bytes>) -> Self {
        Self { source: source.into(), ..Self::default() }
    }
}
