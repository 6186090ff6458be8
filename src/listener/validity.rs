//! From when until when a certificate is valid: as much of X.509 (RFC 5280 4.1) as it takes to
//! know that. rustls looks at it for its peers' certificates alone.

use std::time::{Duration, SystemTime};

/// Tags of DER (X.690 8.1.2).
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, in which the version stands where it is another than 1.
const VERSION: u8 = 0xa0;

const SECONDS_OF_A_DAY: u64 = 86_400;

/// The time in which a certificate is valid, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Validity {
    /// That of a certificate in DER; `None` where it is none, or one from before 1970.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Elements(Elements(certificate).next(SEQUENCE)?);
        let mut to_be_signed = Elements(certificate.next(SEQUENCE)?);
        // Version, serial number, algorithm and issuer come before it.
        let _ = to_be_signed.next(VERSION);
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            to_be_signed.next(tag)?;
        }
        let mut times = Elements(to_be_signed.next(SEQUENCE)?);
        Some(Self { not_before: times.time()?, not_after: times.time()? })
    }
}

/// Elements of DER, one behind the other.
struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    /// The content of the next one if it has this tag; else it stays where it is.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&first, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first().filter(|_| first == tag)?;
        // From 128 on the first byte says how many bytes the length has.
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                (bytes.iter().fold(0, |all, &byte| all << 8 | usize::from(byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// A time in one of the two forms that RFC 5280 4.1.2.5 allows, both in UTC with seconds.
    fn time(&mut self) -> Option<SystemTime> {
        if let Some(text) = self.next(UTC_TIME) {
            let year = number(text.get(..2)?)?;
            let century = if year < 50 { 2_000 } else { 1_900 };
            return seconds(century + year, text.get(2..)?);
        }
        let text = self.next(GENERALIZED_TIME)?;
        seconds(number(text.get(..4)?)?, text.get(4..)?)
    }
}

/// The time of a year and `MMDDHHMMSSZ`.
fn seconds(year: u64, rest: &[u8]) -> Option<SystemTime> {
    let digits = rest.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let mut pairs = digits.chunks(2).map(number);
    let mut next = || pairs.next().flatten();
    let (month, day) = (next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    let exists = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !exists || minute > 59 || second > 60 {
        return None;
    }
    let days = days_before_month(year, month) + day - 1;
    let seconds = days * SECONDS_OF_A_DAY + hour * 3_600 + minute * 60 + second;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days from 1970 to the first of a month, by the Gregorian calendar.
fn days_before_month(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    // The leap day of the year itself lies behind January and February.
    let last_year = if month > 2 { year } else { year - 1 };
    let in_year = BEFORE.get((month - 1) as usize).copied().unwrap_or_default();
    (year - 1970) * 365 + leap_days(last_year) - leap_days(1969) + in_year
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |all, digit| {
        digit.is_ascii_digit().then(|| all * 10 + u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(not_before: (i32, u8, u8), not_after: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("names");
        params.not_before = rcgen::date_time_ymd(not_before.0, not_before.1, not_before.2);
        params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, not_after.2);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("made").der().to_vec()
    }

    #[test]
    fn both_ends_are_read_in_either_form_of_time() {
        for (ends, told) in [
            (
                [(1970, 1, 2), (1999, 12, 31)],
                ["Fri, 02 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 1999 00:00:00 GMT"],
            ),
            (
                [(2000, 2, 29), (2049, 3, 1)],
                ["Tue, 29 Feb 2000 00:00:00 GMT", "Mon, 01 Mar 2049 00:00:00 GMT"],
            ),
            (
                [(2050, 1, 1), (2400, 2, 29)],
                ["Sat, 01 Jan 2050 00:00:00 GMT", "Tue, 29 Feb 2400 00:00:00 GMT"],
            ),
        ] {
            let validity = Validity::of(&made(ends[0], ends[1])).expect("a certificate");
            let [from, to] = [validity.not_before, validity.not_after].map(httpdate::fmt_http_date);
            assert_eq!([&*from, &*to], told);
        }
    }

    #[test]
    fn times_that_are_none_are_not_read() {
        for text in
            ["9913010000Z", "990100000000Z", "990101240000Z", "990101000000", "99010100000xZ", ""]
        {
            let element = [&[UTC_TIME, text.len() as u8], text.as_bytes()].concat();
            assert_eq!(Elements(&element).time(), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn each_day_is_the_calendars(days in 0u64..2_000_000, second in 0u64..86_400) {
            let time = SystemTime::UNIX_EPOCH
                + Duration::from_secs(days * SECONDS_OF_A_DAY + second);
            let text = humantime(time);
            let element = [&[GENERALIZED_TIME, text.len() as u8], text.as_bytes()].concat();
            prop_assert_eq!(Elements(&element).time(), Some(time));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Validity::of(&bytes);
            let mut broken = made((2020, 1, 1), (2030, 1, 1));
            for (at, byte) in bytes.iter().enumerate() {
                let place = at * 7 % broken.len();
                broken[place] ^= byte;
            }
            let _ = Validity::of(&broken);
        }
    }

    /// `YYYYMMDDHHMMSSZ`, by another's calendar.
    fn humantime(time: SystemTime) -> String {
        let text = httpdate::fmt_http_date(time);
        let words: Vec<&str> = text.split([' ', ':']).collect();
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let month = months.find(words[2]).expect("a month") / 3 + 1;
        format!("{}{month:02}{}{}{}{}Z", words[3], words[1], words[4], words[5], words[6])
    }
}
