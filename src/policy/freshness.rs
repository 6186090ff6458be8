//! How long a response is fresh (RFC 9111 4.2), given when it came.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::fields::Fields;
use crate::policy::cache_control::CacheControl;
use crate::settings::MalformedAge;

/// A lifetime that is guessed is a tenth of the time since the last change (RFC 9111 4.2.2), and
/// at most a day.
const HEURISTIC_DIVISOR: u32 = 10;
const HEURISTIC_MAX: Duration = Duration::from_hours(24);

/// The greatest Age that is believed, in seconds (RFC 9111 1.2.2).
const AGE_MAX: u64 = 1 << 31;

/// The lifetime that a shared cache is told (RFC 9111 4.2.1): `s-maxage`, `max-age`, or `Expires`
/// from `Date` on. `None`: the response does not say.
pub(super) fn explicit_lifetime(
    control: &CacheControl,
    fields: &Fields,
    received_at: SystemTime,
) -> Option<Duration> {
    control.s_maxage.or(control.max_age).or_else(|| {
        let mut lines = fields.all("expires");
        let expires = lines.next()?;
        // An invalid date means the past, `0` above all; so does a date given twice.
        let expires = date(expires).filter(|_| lines.next().is_none());
        let from = generated_at(fields, received_at);
        Some(expires.and_then(|at| at.duration_since(from).ok()).unwrap_or(Duration::ZERO))
    })
}

/// The lifetime that may be guessed where none is told: for statuses that RFC 9110 15.1 calls
/// heuristically cacheable, or with `public`, from Last-Modified.
pub(super) fn heuristic_lifetime(
    status: StatusCode,
    control: &CacheControl,
    fields: &Fields,
    received_at: SystemTime,
) -> Option<Duration> {
    let allowed =
        matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501);
    if !allowed && !control.public {
        return None;
    }
    let modified = date(fields.first("last-modified")?)?;
    let unchanged = generated_at(fields, received_at).duration_since(modified).ok()?;
    Some((unchanged / HEURISTIC_DIVISOR).min(HEURISTIC_MAX))
}

/// The Age the response says it has: the first of a list, and none where that is no number
/// (RFC 9111 5.1), or the greatest where such a field is not to be trusted.
pub(super) fn stated_age(fields: &Fields, malformed: MalformedAge) -> Duration {
    let Some(first) = fields.first("age") else { return Duration::ZERO };
    let is_one = fields.all("age").nth(1).is_none() && !first.contains(&b',');
    let age = first.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    let is_number = !age.is_empty() && age.iter().all(u8::is_ascii_digit);
    match malformed {
        MalformedAge::Stale if !is_one || !is_number => Duration::from_secs(AGE_MAX),
        MalformedAge::Ignore if !is_number => Duration::ZERO,
        _ => {
            let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(AGE_MAX);
            Duration::from_secs(age.iter().fold(0, add))
        }
    }
}

/// The age on arrival (RFC 9111 4.2.3): what the response says, or the time since its Date.
pub(super) fn age_on_arrival(
    fields: &Fields,
    malformed: MalformedAge,
    received_at: SystemTime,
) -> Duration {
    let apparent = received_at.duration_since(generated_at(fields, received_at));
    stated_age(fields, malformed).max(apparent.unwrap_or(Duration::ZERO))
}

/// Its Date. Without one it is the time at which it came (RFC 9110 6.6.1): PHP-FPM sends none.
pub(super) fn generated_at(fields: &Fields, received_at: SystemTime) -> SystemTime {
    fields.first("date").and_then(|value| date(value)).unwrap_or(received_at)
}

/// An HTTP date in any of its three forms (RFC 9110 5.6.7); in whatever case, and with the name of
/// any day of the week, since nothing follows from either.
pub(super) fn date(value: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(value).ok()?;
    httpdate::parse_http_date(text).ok().or_else(|| careless_date(text))
}

fn careless_date(text: &str) -> Option<SystemTime> {
    const DAYS: [&str; 7] =
        ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    if text.len() > DATE_BYTES_MAX {
        return None;
    }
    let end = text.find(|character: char| !character.is_ascii_alphabetic())?;
    let (day, rest) = text.split_at(end);
    let length_of = |name: &str| if day.len() == 3 { 3 } else { name.len() };
    if !DAYS.iter().any(|name| name[..length_of(name)].eq_ignore_ascii_case(day)) {
        return None;
    }
    let rest = in_proper_case(rest);
    DAYS.iter().find_map(|name| {
        httpdate::parse_http_date(&format!("{}{rest}", &name[..length_of(name)])).ok()
    })
}

/// Longer than any date.
const DATE_BYTES_MAX: usize = 40;

/// Words with a capital, and GMT.
fn in_proper_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        out.push(if in_word {
            character.to_ascii_lowercase()
        } else {
            character.to_ascii_uppercase()
        });
        in_word = character.is_ascii_alphabetic();
    }
    out.replace("Gmt", "GMT")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cache_control::parse;
    use std::time::UNIX_EPOCH;

    const DATE: &str = "Sun, 22 Nov 2026 19:28:33 GMT";

    fn noon() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    fn lifetime<const N: usize>(control: &str, fields: [(&'static str, &str); N]) -> Option<u64> {
        let fields = Fields::from(fields);
        explicit_lifetime(&parse(control.as_bytes()), &fields, noon()).map(|time| time.as_secs())
    }

    #[test]
    fn s_maxage_comes_before_max_age_and_that_before_expires() {
        let expires = [("Date", DATE), ("Expires", "Sun, 22 Nov 2026 19:29:33 GMT")];
        assert_eq!(lifetime("max-age=5, s-maxage=0", expires), Some(0));
        assert_eq!(lifetime("max-age=5", expires), Some(5));
        assert_eq!(lifetime("public", expires), Some(60));
        assert_eq!(lifetime("public", []), None);
    }

    #[test]
    fn expires_counts_from_date_or_from_the_arrival() {
        let later = httpdate::fmt_http_date(noon() + Duration::from_secs(90));
        assert_eq!(lifetime("", [("Expires", &later)]), Some(90));
        assert_eq!(lifetime("", [("Expires", DATE), ("Date", DATE)]), Some(0));
    }

    #[test]
    fn an_expires_that_is_no_date_is_the_past() {
        for wrong in ["0", "-1", "", "tomorrow"] {
            assert_eq!(lifetime("", [("Expires", wrong)]), Some(0), "{wrong}");
        }
        assert_eq!(lifetime("", [("Expires", DATE), ("Expires", DATE)]), Some(0));
    }

    #[test]
    fn a_date_in_another_case_or_with_another_day_of_the_week_is_read() {
        let expected = date(DATE.as_bytes());
        assert!(expected.is_some());
        for text in [
            "SUN, 22 nov 2026 19:28:33 gmt",
            "Mon, 22 Nov 2026 19:28:33 GMT",
            "sunday, 22-NOV-26 19:28:33 GMT",
            "Fri Nov 22 19:28:33 2026",
        ] {
            assert_eq!(date(text.as_bytes()), expected, "{text}");
        }
        for text in [
            "Sun, 22 Nov 2026 19:28:33 UTC",
            "Sun, 22 Nov 2026 9:28:33 GMT",
            "Son, 22 Nov 2026 19:28:33 GMT",
            "Sun 22 Nov 2026 19:28:33 GMT",
            "Sun,  22 Nov 2026 19:28:33 GMT",
            "\u{130}un, 22 Nov 2026 19:28:33 GMT",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_tenth_of_the_time_since_the_last_change_is_guessed_for_some_statuses() {
        let fields =
            Fields::from([("Date", DATE), ("Last-Modified", "Sun, 22 Nov 2026 19:26:53 GMT")]);
        let guess = |status, control: &str| {
            heuristic_lifetime(status, &parse(control.as_bytes()), &fields, noon())
        };
        assert_eq!(guess(StatusCode::OK, ""), Some(Duration::from_secs(10)));
        assert_eq!(guess(StatusCode::FOUND, ""), None);
        assert_eq!(guess(StatusCode::FOUND, "public"), Some(Duration::from_secs(10)));
        let old =
            Fields::from([("Date", DATE), ("Last-Modified", "Sun, 22 Nov 2015 19:26:53 GMT")]);
        let control = CacheControl::default();
        assert_eq!(heuristic_lifetime(StatusCode::OK, &control, &old, noon()), Some(HEURISTIC_MAX));
        assert_eq!(heuristic_lifetime(StatusCode::OK, &control, &Fields::new(), noon()), None);
    }

    #[test]
    fn an_age_is_what_is_said_or_the_time_since_date() {
        let age =
            |text: &str, malformed| stated_age(&Fields::from([("Age", text)]), malformed).as_secs();
        for (text, expected) in [
            ("5", 5),
            ("5, 9", 5),
            ("-5", 0),
            ("", 0),
            ("7.5", 0),
            ("99999999999999999999", AGE_MAX),
        ] {
            assert_eq!(age(text, MalformedAge::Ignore), expected, "{text}");
        }
        assert_eq!(age("5", MalformedAge::Stale), 5);
        for text in ["5, 9", "0, 0", "-5", "", "7.5"] {
            assert_eq!(age(text, MalformedAge::Stale), AGE_MAX, "{text}");
        }
        let two = Fields::from([("Age", "0"), ("age", "9")]);
        assert_eq!(stated_age(&two, MalformedAge::Ignore).as_secs(), 0);
        assert_eq!(stated_age(&two, MalformedAge::Stale).as_secs(), AGE_MAX);
        let age_on_arrival = |fields: &Fields, at| age_on_arrival(fields, MalformedAge::Ignore, at);
        let earlier = httpdate::fmt_http_date(noon() - Duration::from_secs(30));
        let fields = Fields::from([("Date", &*earlier), ("Age", "10")]);
        assert_eq!(age_on_arrival(&fields, noon()).as_secs(), 30);
        let fields = Fields::from([("Date", &*earlier), ("Age", "40")]);
        assert_eq!(age_on_arrival(&fields, noon()).as_secs(), 40);
    }
}
