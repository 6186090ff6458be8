//! What a response tells this cache in particular (RFC 9213, W3C Edge Architecture 1.0).

use std::time::Duration;

use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::fields::Fields;
use crate::policy::cache_control::{CacheControl, DELTA_SECONDS_MAX, Extent};

/// The header that speaks to shared caches next to the origin (RFC 9213 3).
const TARGETED: &str = "cdn-cache-control";

/// The directives that count for this cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directions {
    /// The directives.
    pub(super) control: CacheControl,
    /// They were for this cache alone, so that neither Cache-Control nor Expires counts
    /// (RFC 9213 2.2).
    pub(super) targeted: bool,
}

impl Directions {
    /// CDN-Cache-Control before Surrogate-Control before Cache-Control. What is no valid
    /// Structured Field, or has no member that can be understood, is as if it were not there.
    pub(super) fn of(fields: &Fields) -> Self {
        let told = cdn_cache_control(fields).or_else(|| surrogate_control(fields));
        let targeted = told.is_some();
        Self { control: told.unwrap_or_else(|| CacheControl::of(fields)), targeted }
    }
}

fn surrogate_control(fields: &Fields) -> Option<CacheControl> {
    let control = CacheControl::of_surrogate(fields)?;
    // `content="ESI/1.0"` alone says nothing about storing.
    let speaks = control.max_age.is_some() || control.no_store;
    speaks.then_some(control)
}

fn cdn_cache_control(fields: &Fields) -> Option<CacheControl> {
    let mut value: Vec<u8> = Vec::new();
    for line in fields.all(TARGETED) {
        if !value.is_empty() {
            value.extend_from_slice(b", ");
        }
        value.extend_from_slice(line);
    }
    let dictionary: Dictionary = Parser::new(&value).parse().ok()?;
    let mut control = CacheControl::default();
    let mut understood = false;
    for (name, entry) in &dictionary {
        let ListEntry::Item(item) = entry else { continue };
        understood |= take(&mut control, name.as_str(), &item.bare_item);
    }
    understood.then_some(control)
}

/// Reads one member; false: it is unknown, or its value has another type than it must have, so
/// that it is ignored (RFC 9213 2.1).
fn take(control: &mut CacheControl, name: &str, value: &BareItem) -> bool {
    let seconds = match value {
        BareItem::Integer(number) => u64::try_from(i64::from(*number)).ok(),
        _ => None,
    };
    let seconds = seconds.map(|seconds| Duration::from_secs(seconds.min(DELTA_SECONDS_MAX)));
    let is_set = *value == BareItem::Boolean(true);
    match (name, seconds, is_set) {
        ("max-age", Some(seconds), _) => control.max_age = Some(seconds),
        ("s-maxage", Some(seconds), _) => control.s_maxage = Some(seconds),
        ("stale-while-revalidate", Some(seconds), _) => {
            control.stale_while_revalidate = Some(seconds);
        }
        ("stale-if-error", Some(seconds), _) => control.stale_if_error = Some(seconds),
        ("no-store", _, true) => control.no_store = true,
        ("no-cache", _, true) => control.no_cache = Extent::Whole,
        ("private", _, true) => control.private = Extent::Whole,
        ("public", _, true) => control.public = true,
        ("must-revalidate", _, true) => control.must_revalidate = true,
        ("proxy-revalidate", _, true) => control.proxy_revalidate = true,
        ("must-understand", _, true) => control.must_understand = true,
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Option<CacheControl> {
        cdn_cache_control(&Fields::from([("CDN-Cache-Control", line)]))
    }

    #[test]
    fn what_is_for_shared_caches_counts_alone() {
        let fields = Fields::from([
            ("Cache-Control", "no-store"),
            ("Surrogate-Control", "max-age=5"),
            ("CDN-Cache-Control", "max-age=600"),
            ("cdn-cache-control", "stale-if-error=60"),
        ]);
        let directions = Directions::of(&fields);
        assert!(directions.targeted && !directions.control.no_store);
        assert_eq!(directions.control.max_age, Some(Duration::from_mins(10)));
        assert_eq!(directions.control.stale_if_error, Some(Duration::from_mins(1)));
        let fields =
            Fields::from([("Cache-Control", "no-store"), ("Surrogate-Control", "max-age=5")]);
        assert_eq!(Directions::of(&fields).control.max_age, Some(Duration::from_secs(5)));
        let fields = Fields::from([
            ("Cache-Control", "no-store"),
            ("Surrogate-Control", "content=\"ESI/1.0\""),
        ]);
        assert!(Directions::of(&fields).control.no_store);
    }

    #[test]
    fn what_is_no_structured_field_is_ignored() {
        for line in ["max-age=10000, &&&&&", "max-age =1", "MaX-aGe=3600", "", "max-age=1s"] {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn a_member_of_another_type_is_ignored() {
        for line in
            ["max-age=\"10\"", "max-age=10.5", "max-age=-1", "no-store=?0", "max-age=(1 2)", "x"]
        {
            assert_eq!(told(line), None, "{line}");
        }
        let control = told("max-age=\"10\", no-cache").expect("one is understood");
        assert_eq!((control.max_age, control.no_cache), (None, Extent::Whole));
    }

    #[test]
    fn a_lifetime_beyond_the_greatest_is_the_greatest() {
        let control = told("max-age=99999999999, private;x=1").expect("understood");
        assert_eq!(control.max_age, Some(Duration::from_secs(DELTA_SECONDS_MAX)));
        assert_eq!(control.private, Extent::Whole);
    }
}
