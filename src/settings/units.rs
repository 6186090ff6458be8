//! Sizes and durations as people write them: `512MiB`, `75s`, `3days`.
//!
//! Units are always written: a bare `512` could be bytes or megabytes, `75` seconds or
//! milliseconds, and a wrong guess shows under load only. Zero needs no unit. Decimal units such as
//! `MB` are refused, since half of the world reads them as powers of two.

use std::time::Duration;

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Milliseconds per unit. The first name of a unit is the one that is written.
const DURATION_UNITS: [(&[&str], u64); 5] = [
    (&["days", "day", "d"], 86_400_000),
    (&["h"], 3_600_000),
    (&["min", "m"], 60_000),
    (&["s"], 1_000),
    (&["ms"], 1),
];

/// The words after "allowed:" for a size.
pub(super) const SIZE_ALLOWED: &str = "a number with B, KiB, MiB or GiB";

/// The words after "allowed:" for a duration.
pub(super) const DURATION_ALLOWED: &str = "a number with ms, s, min, h or days";

/// The bytes of a size such as `512MiB`; `None` if it is none or does not fit.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit_bytes = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => *bytes,
        None if unit.is_empty() && number == 0 => 1,
        None => return None,
    };
    number.checked_mul(unit_bytes)
}

/// Writes a size in the largest unit that takes it whole; [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let unit = SIZE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit_bytes) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit_bytes)
}

/// A duration such as `150ms`, `75s` or `3days`, in whole milliseconds; `None` if it is none or
/// does not fit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = match DURATION_UNITS.iter().find(|(names, _)| names.contains(&unit)) {
        Some((_, milliseconds)) => *milliseconds,
        None if unit.is_empty() && number == 0 => 1,
        None => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// Writes a duration in the largest unit that takes it whole, without what is below a
/// millisecond; [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    for (names, unit) in DURATION_UNITS {
        if milliseconds.is_multiple_of(unit) {
            let number = milliseconds / unit;
            let name = if names[0] == "days" && number == 1 { "day" } else { names[0] };
            return format!("{number}{name}");
        }
    }
    format!("{milliseconds}ms")
}

/// Digits and what follows them, with at most one space between.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_need_a_binary_unit_unless_they_are_zero() {
        assert_eq!(parse_size("512MiB"), Some(512 << 20));
        assert_eq!(parse_size("16 KiB"), Some(16 << 10));
        assert_eq!(parse_size("0"), Some(0));
        for wrong in ["", "512", "512MB", "512mib", "MiB", "-1B", "1.5GiB", "1  B", "1B ", "1BB"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_size("99999999999GiB"), None);
        assert_eq!(parse_size("99999999999999999999999B"), None);
    }

    #[test]
    fn durations_need_a_unit_unless_they_are_zero() {
        assert_eq!(parse_duration("75s"), Some(Duration::from_secs(75)));
        assert_eq!(parse_duration("3days"), Some(Duration::from_hours(72)));
        assert_eq!(parse_duration("1day"), parse_duration("24h"));
        assert_eq!(parse_duration("150 ms"), Some(Duration::from_millis(150)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for wrong in ["", "75", "s", "-1s", "1.5s", "1h30min", "1 month", "1S", "١s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
        assert_eq!(parse_duration("18446744073709551615days"), None);
    }

    #[test]
    fn the_largest_whole_unit_is_written() {
        assert_eq!(format_size(512 << 20), "512MiB");
        assert_eq!(format_size(1_536), "1536B");
        assert_eq!(format_size(0), "0B");
        assert_eq!(format_duration(Duration::from_hours(24)), "1day");
        assert_eq!(format_duration(Duration::from_mins(5)), "5min");
        assert_eq!(format_duration(Duration::from_millis(1_500)), "1500ms");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn a_size_reads_back_as_it_was_written(bytes: u64) {
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn a_round_size_reads_back_as_it_was_written(number in 0_u64..1 << 30, unit in 0_usize..4) {
            let bytes = number * SIZE_UNITS[unit].1;
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn a_duration_reads_back_as_it_was_written(milliseconds: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn a_round_duration_reads_back_as_it_was_written(number: u32, unit in 0_usize..5) {
            let duration = Duration::from_millis(u64::from(number) * DURATION_UNITS[unit].1);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text: String) {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }

        #[test]
        fn no_number_and_word_make_the_parsers_panic(text in "[0-9]{0,25} ?[a-zA-Z]{0,4}") {
            let _ = parse_size(&text);
            let _ = parse_duration(&text);
        }
    }
}
