//! The `Date` field, formatted once a second and thread.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::Clock;

/// The first second of the year 10000, which the format cannot express.
const SECONDS_MAX: u64 = 253_402_300_800;
/// Bytes of an IMF-fixdate (RFC 9110 5.6.7).
const DATE_BYTES: usize = 29;

thread_local! {
    static LAST: RefCell<(u64, Vec<u8>)> = const { RefCell::new((u64::MAX, Vec::new())) };
}

/// Calls `then` with the current date.
pub(super) fn with_date<T>(clock: &Clock, then: impl FnOnce(&[u8]) -> T) -> T {
    let now = clock.wall_roughly();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, text)| {
        if *last != second {
            *last = second;
            format(now, second, text);
        }
        then(text)
    })
}

fn format(now: SystemTime, second: u64, text: &mut Vec<u8>) {
    text.clear();
    text.reserve(DATE_BYTES);
    if now >= UNIX_EPOCH && second < SECONDS_MAX {
        // Writing to a Vec cannot fail.
        let _ = write!(text, "{}", httpdate::HttpDate::from(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_the_wall_clocks_second() {
        let clock = Clock::system();
        let text = with_date(&clock, |date| String::from_utf8(date.to_vec()).expect("ASCII"));
        assert_eq!(text.len(), DATE_BYTES);
        let parsed = httpdate::parse_http_date(&text).expect("a date");
        let behind = clock.wall().duration_since(parsed).expect("not ahead");
        assert!(behind.as_secs() <= 2);
    }
}
