//! Which precompressed neighbours a client takes (RFC 9110 12.5.3).

use crate::fields::Fields;
use crate::fields::weight::{WEIGHT_MAX, weight};

/// Elements of Accept-Encoding that are looked at; browsers send four.
const ELEMENTS_MAX: usize = 32;

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
    let mut weights = Weights::default();
    for element in fields.list("accept-encoding").take(ELEMENTS_MAX) {
        weights.read(element);
    }
    let gzip = weights.gzip.or(weights.any).unwrap_or(0);
    let brotli = weights.brotli.or(weights.any).unwrap_or(0);
    let identity = weights.identity.unwrap_or(0);
    let mut ranked = [(brotli, Coding::Brotli), (gzip, Coding::Gzip)];
    // Stable: of equal weights the smaller coding goes first.
    ranked.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let wanted = ranked.into_iter().filter(move |(weight, _)| *weight > 0 && *weight >= identity);
    wanted.map(|(_, coding)| coding)
}

/// Weights in thousandths.
#[derive(Default)]
struct Weights {
    brotli: Option<u16>,
    gzip: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn read(&mut self, element: &[u8]) {
        let mut parts = element.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let coding = parts.next().unwrap_or_default();
        let Some(weight) = parts.next().map_or(Some(WEIGHT_MAX), weight) else {
            return;
        };
        let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        let slot = if is("br") {
            &mut self.brotli
        } else if is("gzip") || is("x-gzip") {
            &mut self.gzip
        } else if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.any
        } else {
            return;
        };
        *slot = Some(weight);
    }
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

    #[test]
    fn a_weight_that_is_none_takes_its_element_out() {
        for bad in ["q", "q=", "q=2", "q=1.1", "q=0.1234", "q=0,5x", "q=-1", "v=1", "q=0.x"] {
            assert_eq!(names(&format!("gzip;{bad}, br")), ["br"], "{bad}");
        }
    }
}
