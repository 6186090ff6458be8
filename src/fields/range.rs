//! Range (RFC 9110 14.1 and 14.2).

use std::ops::Range;

use super::Fields;

/// What a Range field makes of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// 200: all of it. There is no Range, or it is to be ignored.
    Whole,
    /// 206: these bytes, in the order they were asked for. None is empty, overlaps another or
    /// touches it.
    Parts(Vec<Range<u64>>),
    /// 416: the content has none of the bytes.
    Unsatisfiable,
}

/// What one range asks for.
#[derive(Clone, Copy)]
enum ByteRange {
    From { first: u64, last: Option<u64> },
    Suffix { bytes: u64 },
}

/// Reads the Range of a request for content of `length` bytes. Other units, malformed fields, two
/// lines and more than `ranges_max` ranges are ignored, as RFC 9110 14.2 allows: each range more
/// costs a part of the answer, and nobody in earnest asks for many.
pub fn requested(fields: &Fields, length: u64, ranges_max: usize) -> Ranges {
    let mut lines = fields.all("range");
    match (lines.next(), lines.next()) {
        (Some(line), None) => parse(line, length, ranges_max).unwrap_or(Ranges::Whole),
        // Two lines of a field that allows one say nothing that could be relied on.
        _ => Ranges::Whole,
    }
}

fn parse(line: &[u8], length: u64, ranges_max: usize) -> Option<Ranges> {
    let (unit, set) = line.split_at_checked(6)?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let specifiers = set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let mut parts = Vec::new();
    let mut count = 0;
    // A list may have empty elements (RFC 9110 5.6.1.2).
    for specifier in specifiers.filter(|specifier| !specifier.is_empty()) {
        count += 1;
        if count > ranges_max {
            return None;
        }
        match satisfied(byte_range(specifier)?, length) {
            // An empty content has no part that Content-Range could name.
            Some(part) if part.is_empty() => return None,
            Some(part) => coalesce(&mut parts, part),
            None => {}
        }
    }
    match (count, parts.is_empty()) {
        (0, _) => None,
        (_, true) => Some(Ranges::Unsatisfiable),
        (_, false) => Some(Ranges::Parts(parts)),
    }
}

/// `None`: nothing of the content is in it.
fn satisfied(range: ByteRange, length: u64) -> Option<Range<u64>> {
    match range {
        ByteRange::From { first, last } if first < length => {
            Some(first..last.map_or(length, |last| last.saturating_add(1).min(length)))
        }
        ByteRange::From { .. } | ByteRange::Suffix { bytes: 0 } => None,
        ByteRange::Suffix { bytes } => Some(length.saturating_sub(bytes)..length),
    }
}

/// Adds a part, as one with those that it overlaps or touches (RFC 9110 15.3.7.2): no byte is
/// sent twice.
fn coalesce(parts: &mut Vec<Range<u64>>, mut part: Range<u64>) {
    let mut place = parts.len();
    // What grew may reach a part that was looked at before.
    while let Some(at) =
        parts.iter().position(|known| known.start <= part.end && part.start <= known.end)
    {
        let known = parts.remove(at);
        part = known.start.min(part.start)..known.end.max(part.end);
        place = place.min(at);
    }
    parts.insert(place.min(parts.len()), part);
}

/// `None` where it is malformed.
fn byte_range(specifier: &[u8]) -> Option<ByteRange> {
    let dash = memchr::memchr(b'-', specifier)?;
    let (first, last) = (&specifier[..dash], &specifier[dash + 1..]);
    if first.is_empty() {
        return number(last).map(|bytes| ByteRange::Suffix { bytes });
    }
    let first = number(first)?;
    if last.is_empty() {
        return Some(ByteRange::From { first, last: None });
    }
    let last = number(last)?;
    (first <= last).then_some(ByteRange::From { first, last: Some(last) })
}

/// Digits alone; more than fit count as the largest number.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add =
        |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(range: &str, length: u64) -> Ranges {
        requested(&Fields::from([("Range", range)]), length, 4)
    }

    fn parts<const N: usize>(parts: [(u64, u64); N]) -> Ranges {
        Ranges::Parts(parts.into_iter().map(|(start, end)| start..end).collect())
    }

    #[test]
    fn one_range_is_a_part() {
        for (range, expected) in [
            ("bytes=0-99", parts([(0, 100)])),
            ("Bytes=0-0", parts([(0, 1)])),
            ("bytes= 0-0 ", parts([(0, 1)])),
            ("bytes=999-", parts([(999, 1_000)])),
            ("bytes=500-99999999999999999999999", parts([(500, 1_000)])),
            ("bytes=-1", parts([(999, 1_000)])),
            ("bytes=-5000", parts([(0, 1_000)])),
            ("bytes=1000-", Ranges::Unsatisfiable),
            ("bytes=1000-1001", Ranges::Unsatisfiable),
            ("bytes=-0", Ranges::Unsatisfiable),
        ] {
            assert_eq!(of(range, 1_000), expected, "{range}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_and_those_that_meet_become_one() {
        for (range, expected) in [
            ("bytes=0-1,3-4", parts([(0, 2), (3, 5)])),
            ("bytes=500-599, 0-9", parts([(500, 600), (0, 10)])),
            ("bytes=0-1,,2-4 , ,", parts([(0, 5)])),
            ("bytes=0-4,3-8", parts([(0, 9)])),
            ("bytes=0-1,5-6,2-4", parts([(0, 7)])),
            ("bytes=20-29,0-1,10-11,0-25", parts([(0, 30)])),
            ("bytes=0-,-1", parts([(0, 1_000)])),
            ("bytes=2000-,0-1", parts([(0, 2)])),
            ("bytes=2000-,-0", Ranges::Unsatisfiable),
        ] {
            assert_eq!(of(range, 1_000), expected, "{range}");
        }
    }

    #[test]
    fn nonsense_other_units_and_too_many_ranges_get_the_whole() {
        for range in [
            "bytes=5-1",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=0-1,x",
            "bytes=0-1 3-4",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes",
            "",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=0x1-2",
            "bytes 0-1",
            "bytes=0-1,3-4,6-7,9-10,12-13",
        ] {
            assert_eq!(of(range, 1_000), Ranges::Whole, "{range}");
        }
        let two = Fields::from([("Range", "bytes=0-1"), ("Range", "bytes=2-3")]);
        assert_eq!(requested(&two, 1_000, 4), Ranges::Whole);
        assert_eq!(requested(&Fields::new(), 1_000, 4), Ranges::Whole);
        let one = Fields::from([("Range", "bytes=0-1")]);
        assert_eq!(requested(&one, 1_000, 0), Ranges::Whole);
    }

    #[test]
    fn empty_content_is_sent_whole_or_not_at_all() {
        assert_eq!(of("bytes=-5", 0), Ranges::Whole);
        assert_eq!(of("bytes=0-", 0), Ranges::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn parts_are_the_bytes_that_were_asked_for(
            asked in prop::collection::vec((0u64..60, prop::option::of(0u64..60)), 1..5),
            length in 1u64..50,
        ) {
            let specifiers: Vec<String> = asked
                .iter()
                .map(|(first, more)| match more {
                    Some(more) => format!("{first}-{}", first + more),
                    None => format!("-{first}"),
                })
                .collect();
            let wanted = |byte: u64| asked.iter().any(|(first, more)| match more {
                Some(more) => (*first..=first + more).contains(&byte),
                None => byte + first >= length,
            });
            let expected: Vec<bool> = (0..length).map(wanted).collect();
            match of(&format!("bytes={}", specifiers.join(",")), length) {
                Ranges::Parts(parts) => {
                    let mut sent = vec![0; length as usize];
                    for part in &parts {
                        prop_assert!(part.start < part.end && part.end <= length);
                        (part.start..part.end).for_each(|byte| sent[byte as usize] += 1);
                    }
                    let expected: Vec<i32> = expected.into_iter().map(i32::from).collect();
                    prop_assert_eq!(sent, expected);
                }
                Ranges::Unsatisfiable => prop_assert!(!expected.contains(&true)),
                Ranges::Whole => prop_assert!(false, "they are well formed"),
            }
        }

        #[test]
        fn a_part_is_never_empty_and_never_past_the_end(
            range in "bytes=[0-9]{0,22}-[0-9]{0,22}(,[0-9]{0,3}-[0-9]{0,3})?", length: u64,
        ) {
            if let Ranges::Parts(parts) = of(&range, length) {
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
            }
        }
    }
}
