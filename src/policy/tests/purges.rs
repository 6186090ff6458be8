//! PURGE requests.

use bytes::Bytes;
use proptest::prelude::*;
use regex::bytes::Regex;

use super::{from_loopback, get, magento, request, resolve};
use crate::fields::Fields;
use crate::policy::purge::{allowed, parse_pattern};
use crate::policy::{Policy, PurgeRefusal, PurgeRequest, PurgeScope};
use crate::settings::{Purge, PurgeWithoutPattern, Settings};

const REGEX_MAX_BYTES: usize = 1 << 20;

fn asked<const N: usize>(
    policy: &Policy,
    fields: [(&'static str, &str); N],
) -> Result<PurgeRequest, PurgeRefusal> {
    policy.purge_request(&request("PURGE", "/p?utm_x=1", Fields::from(fields)))
}

fn tags(pattern: &str) -> Option<Vec<Bytes>> {
    match parse_pattern(pattern.as_bytes(), REGEX_MAX_BYTES) {
        Ok(PurgeScope::Tags(tags)) => Some(tags),
        _ => None,
    }
}

#[test]
fn magentos_wrapper_is_read_as_exact_tags() {
    assert_eq!(tags("((^|,)cat_p_1(,|$))").expect("exact"), ["cat_p_1"]);
    assert_eq!(tags("((^|,)a(,|$))|((^|,)b-c(,|$))").expect("exact"), ["a", "b-c"]);
    assert_eq!(tags("(^|,)a(,|$)|((^|,)b(,|$))").expect("exact"), ["a", "b"]);
    assert_eq!(tags(r"((^|,)a\.b\\c(,|$))").expect("exact"), [r"a.b\c"]);
}

#[test]
fn what_is_more_than_literal_tags_is_a_regex() {
    for pattern in [
        "((^|,)cat_p_.(,|$))",
        "((^|,)a(,|$))|b",
        "((^|,)a|b(,|$))",
        r"((^|,)\d(,|$))",
        "((^|,)(,|$))",
        "((^|,)a,b(,|$))",
        "cat_p",
        "^store",
        ".+",
    ] {
        let scope = parse_pattern(pattern.as_bytes(), REGEX_MAX_BYTES).expect("a regex");
        assert!(matches!(scope, PurgeScope::TagsMatching(_)), "{pattern}");
    }
    let all = parse_pattern(b" .* ", REGEX_MAX_BYTES).expect("everything");
    assert!(matches!(all, PurgeScope::All));
}

#[test]
fn a_regex_that_is_wrong_or_too_large_is_refused() {
    for pattern in ["(", "a(?=b)", r"(a)\1", "((a{1000}){1000}){1000}", "\u{fffd}("] {
        let refusal = parse_pattern(pattern.as_bytes(), REGEX_MAX_BYTES).expect_err("refused");
        assert!(matches!(refusal, PurgeRefusal::Pattern(_)), "{pattern}");
        assert_eq!(refusal.status(), 400);
    }
    let refusal = parse_pattern(b"\xff.", REGEX_MAX_BYTES).expect_err("refused");
    assert!(matches!(refusal, PurgeRefusal::Pattern(_)));
    let deep = "(".repeat(8_000) + &")".repeat(8_000);
    assert!(parse_pattern(deep.as_bytes(), REGEX_MAX_BYTES).is_err());
}

#[test]
fn a_purge_without_a_pattern_is_refused_or_purges_the_url_where_a_setting_says_so() {
    let refusal = asked(&magento(), [("X-Magento-Tags-Pattern", " ")]).expect_err("refused");
    assert_eq!((&refusal, refusal.status().as_u16()), (&PurgeRefusal::NoPattern, 400));
    let mut settings = Settings::default();
    settings.purge.without_pattern = PurgeWithoutPattern::Url;
    let policy = Policy::new(&settings).expect("valid");
    let purge = asked(&policy, []).expect("a purge");
    assert!(matches!(&purge.scopes[..], [PurgeScope::Url(url)] if url == b"shop.test/p"));
}

#[test]
fn repeated_pattern_lines_purge_what_any_of_them_names() {
    let pattern = |pattern| ("X-Magento-Tags-Pattern", pattern);
    let both = [pattern("((^|,)a(,|$))"), pattern("((^|,)b(,|$))")];
    let purge = asked(&magento(), both).expect("a purge");
    assert!(matches!(&purge.scopes[..], [PurgeScope::Tags(tags)] if tags == &["a", "b"]));
    let mixed = asked(&magento(), [pattern("((^|,)a(,|$))"), pattern("b.")]).expect("a purge");
    let [PurgeScope::TagsMatching(regex)] = &mixed.scopes[..] else { panic!("a regex") };
    assert!(regex.is_match(b"x,a") && regex.is_match(b"bc") && !regex.is_match(b"xa"));
}

#[test]
fn each_pattern_line_is_read_by_itself() {
    for name in ["X-Magento-Tags-Pattern", "X-Pool"] {
        let halves = asked(&magento(), [(name, "(a"), (name, "b)")]).expect_err("refused");
        assert!(matches!(halves, PurgeRefusal::Pattern(_)), "{name}");
        let flags = asked(&magento(), [(name, "(?i)a"), (name, "b")]).expect("a purge");
        let [PurgeScope::TagsMatching(regex) | PurgeScope::Pool(regex)] = &flags.scopes[..] else {
            panic!("one regex")
        };
        assert!(regex.is_match(b"A") && regex.is_match(b"b") && !regex.is_match(b"B"), "{name}");
    }
    let pattern = |pattern| ("X-Magento-Tags-Pattern", pattern);
    let everything = asked(&magento(), [pattern("^a"), pattern(".*")]).expect("a purge");
    assert!(matches!(everything.scopes[..], [PurgeScope::All]));
}

#[test]
fn a_pool_is_matched_as_a_regex_and_goes_together_with_tags() {
    let fields = [("X-Pool", "blue|green"), ("X-Magento-Tags-Pattern", ".*")];
    let purge = asked(&magento(), fields).expect("a purge");
    let [PurgeScope::All, PurgeScope::Pool(pool)] = &purge.scopes[..] else { panic!("both") };
    assert!(pool.is_match(b"green-2") && !pool.is_match(b"red"));
}

#[test]
fn a_soft_purge_says_so() {
    let soft = |value| {
        let fields = [("X-Magento-Tags-Pattern", ".*"), ("X-Magento-Purge-Soft", value)];
        asked(&magento(), fields).expect("a purge").soft
    };
    assert!(soft("1") && !soft("0") && !soft(""));
}

#[test]
fn only_a_resolved_client_of_the_list_may_purge_and_never_with_forged_headers() {
    let settings = Purge::default();
    assert!(!allowed(&resolve(&get("/", [])), &settings));
    assert!(allowed(&resolve(&from_loopback(get("/", []))), &settings));
    let through_a_hop = from_loopback(get("/", [("X-Forwarded-For", "192.0.2.7")]));
    assert!(!allowed(&resolve(&through_a_hop), &settings));
    let forged = get("/", [("X-Forwarded-For", "127.0.0.1")]);
    assert!(!allowed(&resolve(&forged), &settings));
    let anybody = Purge { allow: "0.0.0.0/0".parse().into_iter().collect(), ..settings };
    assert!(allowed(&resolve(&get("/", [])), &anybody));
    assert!(!allowed(&resolve(&forged), &anybody));
}

proptest! {
    #[test]
    fn exact_tags_purge_what_the_regex_would(
        named in prop::collection::vec((any::<bool>(), r"[ab-]{1,2}|a\\\.b|a\\-|[ab.]{1,2}"), 1..4),
        tags_of_page in prop::collection::vec("[ab.-]{1,3}", 0..4),
    ) {
        let wrapped: Vec<_> = named
            .iter()
            .map(|(outer, tag)| {
                let inner = format!("(^|,){tag}(,|$)");
                if *outer { format!("({inner})") } else { inner }
            })
            .collect();
        let pattern = wrapped.join("|");
        let regex = Regex::new(&pattern).expect("Magento's wrapper is a regex");
        let matched = regex.is_match(tags_of_page.join(",").as_bytes());
        match tags(&pattern) {
            Some(exact) => {
                let purged = tags_of_page.iter().any(|tag| exact.iter().any(|one| one == tag));
                prop_assert_eq!(purged, matched, "{}", pattern);
            }
            None => prop_assert!(pattern.replace(r"\.", "").contains('.'), "{}", pattern),
        }
    }

    #[test]
    fn magentos_wrapper_around_any_plain_tags_gives_them_back(
        wanted in prop::collection::vec("[a-zA-Z0-9_-]{1,12}", 1..40),
    ) {
        let wrapped: Vec<_> = wanted.iter().map(|tag| format!("((^|,){tag}(,|$))")).collect();
        let exact = tags(&wrapped.join("|")).expect("exact tags");
        prop_assert!(exact.iter().eq(wanted.iter()));
    }

    #[test]
    fn no_bytes_make_it_panic(pattern in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse_pattern(&pattern, 1 << 16);
    }
}
