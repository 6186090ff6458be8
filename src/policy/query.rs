//! The raw query: which parameters leave it, and its sorted form.
//!
//! Nothing is decoded: the key is made of the bytes that came, and the origin gets the form that
//! is in the key, so that both see the same parameters (CVE-2021-23336). `&` alone separates, as
//! in PHP.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::policy::PolicyError;

/// Magento's marketing parameters (`Identifier::getMarketingParameterPatterns`), sorted.
const MARKETING_NAMES: [&[u8]; 32] = [
    b"ScCid",
    b"_branch_match_id",
    b"_ga",
    b"_gl",
    b"_ke",
    b"_kx",
    b"campid",
    b"ceneo_cid",
    b"clickId",
    b"cof",
    b"customid",
    b"cx",
    b"dclid",
    b"dm_i",
    b"ef_id",
    b"epik",
    b"fbclid",
    b"gbraid",
    b"gclid",
    b"gclsrc",
    b"igshid",
    b"msclkid",
    b"pcrid",
    b"redirect_log_mongo_id",
    b"redirect_mongo_id",
    b"s_kwcid",
    b"sb_referer_host",
    b"siteurl",
    b"srsltid",
    b"tduid",
    b"wbraid",
    b"zanpid",
];

/// Those of which any name with this beginning is one.
const MARKETING_PREFIXES: [&[u8]; 12] = [
    b"_bta_", b"gad_", b"gdf", b"hsa_", b"matomo_", b"mc_", b"mtm_", b"piwik_", b"pk_", b"snrai_",
    b"trk_", b"utm_",
];

/// What happens to parameters on their way into key and request.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters {
    magento: bool,
    names: Vec<Box<[u8]>>,
    prefixes: Vec<Box<[u8]>>,
}

impl Parameters {
    /// `magento`: sort, and strip Magento's marketing parameters and empty ones. `configured`:
    /// `site.strip_parameters`, which leave in any case.
    pub(super) fn new(magento: bool, configured: &[String], errors: &mut Vec<PolicyError>) -> Self {
        let mut parameters = Self { magento, ..Self::default() };
        for parameter in configured {
            let prefix = parameter.strip_suffix('*');
            let name = prefix.unwrap_or(parameter);
            if name.is_empty() || name.contains(['*', '&', '=', '#']) {
                errors.push(PolicyError::Invalid {
                    setting: "site.strip_parameters",
                    value: parameter.clone(),
                    allowed: "a parameter's name, with * at its end for any rest",
                });
                continue;
            }
            let list =
                if prefix.is_some() { &mut parameters.prefixes } else { &mut parameters.names };
            list.push(name.as_bytes().into());
        }
        parameters
    }

    /// Drops what is stripped. For Magento it also drops empty parameters and sorts by name;
    /// parameters of one name keep their order: in PHP the last one wins, and `a[]` builds a list
    /// in the order of the query.
    pub(super) fn canonical<'a>(&self, query: &'a [u8]) -> Canonical<'a> {
        let keeps = |parameter: &[u8]| !self.strips(parameter);
        let parameters = || query.split(|&byte| byte == b'&');
        if parameters().all(keeps) && (!self.magento || parameters().is_sorted_by_key(name)) {
            return Canonical::AsItCame;
        }
        let mut kept: Vec<&[u8]> = parameters().filter(|parameter| keeps(parameter)).collect();
        if self.magento {
            kept.sort_by_key(|parameter| name(parameter));
        }
        Canonical::Changed(kept)
    }

    pub(super) fn strips(&self, parameter: &[u8]) -> bool {
        let name = name(parameter);
        (self.magento && (parameter.is_empty() || is_marketing(name)))
            || self.names.iter().any(|one| **one == *name)
            || self.prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

fn is_marketing(name: &[u8]) -> bool {
    MARKETING_NAMES.binary_search(&name).is_ok()
        || MARKETING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        // `mk???`: three letters after mk.
        || matches!(name, [b'm', b'k', rest @ ..]
            if rest.len() == 3 && rest.iter().all(u8::is_ascii_lowercase))
}

/// The name of a raw parameter.
fn name(parameter: &[u8]) -> &[u8] {
    &parameter[..memchr::memchr(b'=', parameter).unwrap_or(parameter.len())]
}

/// A query in its canonical form.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Canonical<'a> {
    /// It is in that form already.
    AsItCame,
    /// The parameters that are left, in order; none: there is no query.
    Changed(Vec<&'a [u8]>),
}

/// Does the query carry a session id, as PHP reads names: decoded, and with `.`, a space and `[`
/// read as `_`?
pub(super) fn has_session_id(query: &[u8]) -> bool {
    query.split(|&byte| byte == b'&').any(|parameter| {
        let raw = name(parameter);
        // The longest of the names in full percent encoding.
        if raw.len() > 3 * 32 {
            return false;
        }
        let plain = raw.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let name: Cow<'_, [u8]> = if plain { raw.into() } else { php_name(raw).into() };
        [&b"SID"[..], b"PHPSESSID", b"___SID"].contains(&&*name)
    })
}

fn php_name(raw: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = raw.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    let decoded: Vec<u8> = percent_decode(&spaced).collect();
    // A name ends at a NUL, and what follows a bracket is the index of an array.
    let end = decoded.iter().position(|&byte| byte == 0).unwrap_or(decoded.len());
    let name = decoded[..end].trim_ascii_start();
    name.iter().map(|&byte| if b" .[".contains(&byte) { b'_' } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn magento() -> Parameters {
        Parameters::new(true, &[], &mut Vec::new())
    }

    fn text(query: &str, parameters: &Parameters) -> String {
        match parameters.canonical(query.as_bytes()) {
            Canonical::AsItCame => query.to_owned(),
            Canonical::Changed(kept) => {
                String::from_utf8(kept.join(&b'&')).expect("pieces of a string")
            }
        }
    }

    #[test]
    fn the_names_are_sorted_for_the_search() {
        assert!(MARKETING_NAMES.is_sorted());
    }

    #[test]
    fn tracking_parameters_leave_whatever_their_values_are() {
        let cases = [
            ("gclid=a~b&p=2", "p=2"),
            ("gclid=", ""),
            ("gclid", ""),
            ("p=2&gclid=", "p=2"),
            ("xgclid=1", "xgclid=1"),
            ("gclidx=1", "gclidx=1"),
            ("p=2&", "p=2"),
            ("&&p=2&&q", "p=2&q"),
            ("utm_source=a%20b&utm_medium=c", ""),
            ("_bta_tid=1&_gl=1&gad_source=2&gdfms=3&hsa_acc=4&mc_cid=5", ""),
            ("mkcid=1&mkwid=2&mkABC=3&mkabcd=4", "mkABC=3&mkabcd=4"),
            ("mtm_a=1&matomo_b=2&pk_c=3&piwik_d=4&snrai_e=5&trk_f=6", ""),
            ("ScCid=1&sccid=2", "sccid=2"),
            ("%67clid=1", "%67clid=1"),
        ];
        for (query, expected) in cases {
            assert_eq!(text(query, &magento()), expected, "{query}");
        }
    }

    #[test]
    fn the_query_is_sorted_by_name_and_parameters_of_one_name_keep_their_order() {
        assert_eq!(text("b=1&a[]=2&a[]=1&a=3", &magento()), "a=3&a[]=2&a[]=1&b=1");
        assert_eq!(magento().canonical(b"a=2&a=1&b"), Canonical::AsItCame);
    }

    #[test]
    fn configured_parameters_leave_by_name_and_by_prefix() {
        let configured = ["ref".to_owned(), "aff_*".to_owned()];
        let generic = Parameters::new(false, &configured, &mut Vec::new());
        assert_eq!(text("ref=1&refx=2&aff_a=3&aff=4&gclid=5", &generic), "refx=2&aff=4&gclid=5");
        assert_eq!(text("b&&a&", &generic), "b&&a&");
        for wrong in ["", "*", "a*b", "a=b"] {
            let mut errors = Vec::new();
            Parameters::new(false, &[wrong.to_owned()], &mut errors);
            assert_eq!(errors.len(), 1, "{wrong}");
        }
    }

    #[test]
    fn a_session_id_in_the_url_is_found_however_php_spells_it() {
        for query in ["SID=1", "a=1&PHPSESSID=2", "___SID=U", "%53ID=1", "_._SID=1", "+SID=1"] {
            assert!(has_session_id(query.as_bytes()), "{query}");
        }
        for query in ["", "sid=1", "XSID=1", "a=SID", "SIDE=1", "q=%53ID"] {
            assert!(!has_session_id(query.as_bytes()), "{query}");
        }
    }

    proptest! {
        #[test]
        fn stripping_and_sorting_is_idempotent_and_stable(query in "[a-c&=]{0,16}|(utm_x|p|q|gclid)(=[0-9])?(&(utm_x|p|q|gclid)(=[0-9])?){0,6}") {
            let once = text(&query, &magento());
            prop_assert_eq!(text(&once, &magento()), once.clone());
            let names: Vec<_> = once.split('&').map(|one| name(one.as_bytes()).to_vec()).collect();
            prop_assert!(names.is_sorted());
            // Parameters of one name are still in the order in which they came.
            for wanted in names.iter().filter(|name| !name.is_empty()) {
                let of = |query: &str| -> Vec<String> {
                    query
                        .split('&')
                        .filter(|one| name(one.as_bytes()) == &wanted[..])
                        .map(str::to_owned)
                        .collect()
                };
                prop_assert_eq!(of(&query), of(&once));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(query in prop::collection::vec(any::<u8>(), 0..64)) {
            magento().canonical(&query);
            has_session_id(&query);
        }
    }
}
