//! Accept-Encoding (RFC 9110 12.5.3).

use super::Fields;
use super::weight::{WEIGHT_MAX, weight};

/// Codings that are looked at; browsers name four. Who names more gets the bytes themselves.
const CODINGS_MAX: usize = 32;

/// A form in which content can leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// The bytes themselves.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// br (RFC 7932).
    Brotli,
    /// zstd (RFC 8878).
    Zstd,
}

/// The forms that there are, besides the bytes themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// gzip.
    pub gzip: bool,
    /// br.
    pub brotli: bool,
    /// zstd.
    pub zstd: bool,
}

impl Offered {
    /// Is there a choice?
    pub const fn any(self) -> bool {
        self.gzip || self.brotli || self.zstd
    }
}

/// The form that the client likes best of what is offered; of equal weights the smaller one: br,
/// zstd, gzip, the bytes themselves.
///
/// Without the field the bytes themselves are sent: such a client is likely to know nothing else.
/// They are sent as well where nothing on offer is acceptable, since a client can do more with them
/// than with a 406.
pub fn choose(request: &Fields, offered: Offered) -> Variant {
    if offered.any() { Weights::of(request).choose(offered) } else { Variant::Identity }
}

/// All forms that [`choose`] would take one after the other, if those before were not there after
/// all; what the client likes less than the bytes themselves is left out, and so are these.
pub fn ranked(request: &Fields, mut offered: Offered) -> impl Iterator<Item = Variant> + use<> {
    let weights = Weights::of(request);
    std::iter::from_fn(move || {
        let best = weights.choose(offered);
        match best {
            Variant::Identity => return None,
            Variant::Gzip => offered.gzip = false,
            Variant::Brotli => offered.brotli = false,
            Variant::Zstd => offered.zstd = false,
        }
        Some(best)
    })
}

/// Does the client refuse the bytes themselves (`identity;q=0`, or `*;q=0` without it)?
pub fn refuses_identity(request: &Fields) -> bool {
    let weights = Weights::of(request);
    weights.identity.or(weights.any) == Some(0)
}

/// What a client said of each coding.
#[derive(Clone, Copy, Default)]
struct Weights {
    gzip: Option<u16>,
    brotli: Option<u16>,
    zstd: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn of(request: &Fields) -> Self {
        let mut weights = Self::default();
        for (count, element) in request.list("accept-encoding").enumerate() {
            if count == CODINGS_MAX {
                return Self::default();
            }
            weights.read(element);
        }
        weights
    }

    fn read(&mut self, element: &[u8]) {
        let (coding, weight) = match memchr::memchr(b';', element) {
            // What is no weight counts as zero, so that nothing is sent on a guess.
            Some(at) => (element[..at].trim_ascii_end(), weight(&element[at + 1..]).unwrap_or(0)),
            None => (element, WEIGHT_MAX),
        };
        let is = |name: &str| coding.eq_ignore_ascii_case(name.as_bytes());
        let slot = if is("gzip") || is("x-gzip") {
            &mut self.gzip
        } else if is("br") {
            &mut self.brotli
        } else if is("zstd") {
            &mut self.zstd
        } else if coding == b"*" {
            &mut self.any
        } else if is("identity") {
            &mut self.identity
        } else {
            return;
        };
        *slot = Some(slot.map_or(weight, |before| before.max(weight)));
    }

    fn choose(self, offered: Offered) -> Variant {
        // What is not named has the weight of `*`; the bytes themselves are acceptable without
        // being named, but no more liked than any coding that is.
        let mut best = (Variant::Identity, self.identity.or(self.any).unwrap_or(0));
        let codings = [
            (offered.gzip, Variant::Gzip, self.gzip),
            (offered.zstd, Variant::Zstd, self.zstd),
            (offered.brotli, Variant::Brotli, self.brotli),
        ];
        for (offered, variant, weight) in codings {
            let weight = weight.or(self.any).unwrap_or(0);
            if offered && weight > 0 && weight >= best.1 {
                best = (variant, weight);
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: Offered = Offered { gzip: true, brotli: true, zstd: false };
    const GZIP: Offered = Offered { gzip: true, brotli: false, zstd: false };

    fn accepting(field: &str) -> Fields {
        Fields::from([("Accept-Encoding", field)])
    }

    #[test]
    fn gzip_is_sent_to_those_who_take_it_and_like_it_no_less() {
        for (field, expected) in [
            ("gzip", true),
            ("GZip, deflate, br", true),
            ("deflate, x-gzip", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("*", true),
            ("gzip;q=0.001", true),
            ("gzip;q=1.000", true),
            ("gzip ; q = 0.5", true),
            ("gzip;Q=0.5", true),
            ("identity;q=0, gzip;q=0.5", true),
            ("identity, gzip", true),
            ("gzip;q=0.5, *;q=0", true),
            ("", false),
            (",", false),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity;q=0", false),
            ("identity, gzip;q=0.5", false),
            ("gzip;q=0.5, *;q=0.8", false),
            ("gzip;q=x", false),
            ("gzip;q=2", false),
            ("gzip;q=0.1234", false),
            ("gzip;q=-1", false),
            ("gzip;", false),
            ("gzip;level=9", false),
            ("gzipped", false),
        ] {
            let expected = if expected { Variant::Gzip } else { Variant::Identity };
            assert_eq!(choose(&accepting(field), GZIP), expected, "{field:?}");
        }
        let two = Fields::from([("Accept-Encoding", "br"), ("accept-encoding", "gzip")]);
        assert_eq!(choose(&two, GZIP), Variant::Gzip);
    }

    #[test]
    fn the_highest_weight_wins_and_then_the_smaller_form() {
        for (field, expected) in [
            ("gzip, deflate, br, zstd", Variant::Brotli),
            ("br, gzip", Variant::Brotli),
            ("gzip;q=0.9, br;q=0.8", Variant::Gzip),
            ("gzip;q=0.8, br;q=0.9", Variant::Brotli),
            ("gzip", Variant::Gzip),
            ("*", Variant::Brotli),
            ("br;q=0, *", Variant::Gzip),
            ("*;q=0.5, identity", Variant::Identity),
            ("identity;q=0.5, br;q=0.5", Variant::Brotli),
            ("br;q=0, gzip;q=0", Variant::Identity),
            ("zstd", Variant::Identity),
        ] {
            assert_eq!(choose(&accepting(field), BOTH), expected, "{field}");
        }
    }

    #[test]
    fn zstd_is_between_brotli_and_gzip() {
        let all = Offered { zstd: true, ..BOTH };
        for (field, expected) in [
            ("gzip, deflate, br, zstd", Variant::Brotli),
            ("gzip, zstd", Variant::Zstd),
            ("zstd;q=0.9, gzip", Variant::Gzip),
            ("br;q=0.9, zstd", Variant::Zstd),
            ("br;q=0, *", Variant::Zstd),
        ] {
            assert_eq!(choose(&accepting(field), all), expected, "{field}");
        }
    }

    #[test]
    fn all_that_is_liked_is_ranked_and_nothing_that_is_not() {
        use Variant::{Brotli, Gzip, Zstd};
        let all = Offered { zstd: true, ..BOTH };
        for (field, expected) in [
            ("gzip, deflate, br, zstd", &[Brotli, Zstd, Gzip][..]),
            ("gzip, br;q=0.9", &[Gzip, Brotli]),
            ("*;q=0.5, gzip", &[Gzip, Brotli, Zstd]),
            ("*, br;q=0", &[Zstd, Gzip]),
            ("gzip;q=0.5, identity, br", &[Brotli]),
            ("identity", &[]),
            ("", &[]),
        ] {
            assert_eq!(ranked(&accepting(field), all).collect::<Vec<_>>(), expected, "{field}");
        }
        assert!(ranked(&accepting("gzip, br"), Offered::default()).next().is_none());
    }

    #[test]
    fn an_empty_and_a_missing_field_get_the_bytes_themselves() {
        assert_eq!(choose(&Fields::new(), BOTH), Variant::Identity);
        assert_eq!(choose(&accepting(""), BOTH), Variant::Identity);
        assert_eq!(choose(&accepting(" , "), BOTH), Variant::Identity);
    }

    #[test]
    fn too_many_codings_get_the_bytes_themselves() {
        let many = |count: usize| format!("{}br", "x,".repeat(count));
        assert_eq!(choose(&accepting(&many(CODINGS_MAX - 1)), BOTH), Variant::Brotli);
        assert_eq!(choose(&accepting(&many(CODINGS_MAX)), BOTH), Variant::Identity);
    }

    #[test]
    fn the_bytes_themselves_can_be_refused() {
        for (field, expected) in [
            ("identity;q=0", true),
            ("*;q=0", true),
            ("gzip, *;q=0", true),
            ("identity;q=0.1, *;q=0", false),
            ("gzip", false),
            ("", false),
        ] {
            assert_eq!(refuses_identity(&accepting(field)), expected, "{field}");
        }
        assert!(!refuses_identity(&Fields::new()));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_offered_and_not_refused(
            field in "((br|gzip|identity|\\*|x)(;q=(0|1|0\\.[0-9]{1,4}))?,?){0,5}",
            gzip: bool,
            brotli: bool,
        ) {
            let request = accepting(&field);
            let offered = Offered { gzip, brotli, zstd: brotli };
            match choose(&request, offered) {
                Variant::Identity => {}
                Variant::Gzip => prop_assert!(gzip && Weights::of(&request).gzip != Some(0)),
                Variant::Zstd => prop_assert!(brotli && Weights::of(&request).zstd != Some(0)),
                Variant::Brotli => prop_assert!(brotli && Weights::of(&request).brotli != Some(0)),
            }
        }
    }
}
