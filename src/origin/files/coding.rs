//! Which precompressed neighbours a client takes (RFC 9110 12.5.3).

use crate::fields::Fields;
use crate::fields::accept_encoding::{Offered, Variant, ranked};

/// A coding that a neighbour of a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Gzip,
}

impl Coding {
    /// The word in Content-Encoding, and in the entity tag of the neighbour.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// What the neighbour's name has at its end.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }
}

/// The codings a client prefers to none, best first. Without the field: none, since a client that
/// says nothing may be able to do nothing.
pub(super) fn accepted(fields: &Fields) -> impl Iterator<Item = Coding> + use<> {
    let neighbours = Offered { gzip: true, brotli: true, zstd: false };
    ranked(fields, neighbours).filter_map(|variant| match variant {
        Variant::Brotli => Some(Coding::Brotli),
        Variant::Gzip => Some(Coding::Gzip),
        Variant::Zstd | Variant::Identity => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str) -> Vec<&'static str> {
        accepted(&Fields::from([("Accept-Encoding", value)])).map(Coding::as_str).collect()
    }

    #[test]
    fn codings_are_ranked_by_weight_then_by_size() {
        assert_eq!(names("gzip, deflate, br"), ["br", "gzip"]);
        assert_eq!(names("gzip;q=1.0, br;q=0.9"), ["gzip", "br"]);
        assert_eq!(names("GZIP ; Q=0.001"), ["gzip"]);
        assert_eq!(names("x-gzip"), ["gzip"]);
        assert_eq!(names("*"), ["br", "gzip"]);
        assert_eq!(names("*;q=0.5, gzip"), ["gzip", "br"]);
    }

    #[test]
    fn what_is_refused_or_worse_than_identity_is_left_out() {
        assert!(names("").is_empty());
        assert!(names("identity").is_empty());
        assert!(names("gzip;q=0, br;q=0.000").is_empty());
        assert!(names("gzip;q=0.5, identity").is_empty());
        assert_eq!(names("*, br;q=0"), ["gzip"]);
        assert_eq!(names("gzip;q=0.5, identity;q=0.5"), ["gzip"]);
        assert!(accepted(&Fields::new()).next().is_none());
    }
}
