//! `[waiting_room]`: where visitors wait while the shop is full.

use std::time::Duration;

use super::Rate;
use super::admission::{ADMIN_PATHS, CALLBACK_PATHS, CART_PATHS, CHECKOUT_PATHS};
use super::reader::Reader;
use super::syntax::{self, Syntax};
use super::traffic_rules;
use super::words::Word;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// `[waiting_room]`
#[derive(Clone, Debug, PartialEq)]
pub struct WaitingRoom {
    /// When visitors wait.
    pub mode: RoomMode,
    /// When they do in any case.
    pub times: Vec<Span>,
    /// Visitors who are in the shop at once, of all nodes together; 0: as many as come.
    pub visitors_max: u64,
    /// How many are let in, by all nodes together.
    pub admit: Rate,
    /// How long after PHP was asked last a visitor counts as being in the shop.
    pub idle: Duration,
    /// How long a place is kept for who may come in.
    pub hold: Duration,
    /// Between two looks of who waits.
    pub refresh: Duration,
    /// With `auto`: for how long more must have come than PHP can take.
    pub after: Duration,
    /// With `auto`: for how long it must have been quiet.
    pub calm: Duration,
    /// Who gets what is stored does not wait for it.
    pub hits: bool,
    /// The paths of the pages before which visitors wait; empty: all.
    pub paths: Vec<String>,
    /// Those before which nobody ever waits.
    pub free_paths: Vec<String>,
    /// Visitors who wait at once, of all nodes together.
    pub waiting_max: u64,
}

impl Default for WaitingRoom {
    fn default() -> Self {
        Self {
            mode: RoomMode::Off,
            times: Vec::new(),
            visitors_max: 0,
            admit: Rate { amount: 600, each: MINUTE },
            idle: Duration::from_mins(10),
            hold: Duration::from_mins(5),
            refresh: Duration::from_secs(15),
            after: Duration::from_secs(30),
            calm: Duration::from_mins(2),
            hits: true,
            paths: Vec::new(),
            free_paths: free_paths(),
            waiting_max: 1_000_000,
        }
    }
}

impl WaitingRoom {
    /// Who was not seen for so long has left: three looks, and a second on their way.
    pub fn absent(&self) -> Duration {
        self.refresh.saturating_mul(3).saturating_add(SECOND)
    }
}

/// Where orders are placed and paid for, where machines ask, and where the shop's own people work.
fn free_paths() -> Vec<String> {
    let apis = ["/rest", "/soap", "/graphql", "/*/graphql"];
    let lists: [&[&str]; 5] = [&CALLBACK_PATHS, &CART_PATHS, &CHECKOUT_PATHS, &ADMIN_PATHS, &apis];
    lists.concat().into_iter().map(str::to_owned).collect()
}

/// `waiting_room.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoomMode {
    /// By hand, and at the times that are set.
    #[default]
    Off,
    /// As soon as more come than PHP can take, too.
    Auto,
    /// Always.
    On,
}

impl Word for RoomMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("auto", Self::Auto), ("on", Self::On)];
}

/// From one time to another, in seconds of Unix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first second.
    pub from_unix: u64,
    /// The first one after it.
    pub until_unix: u64,
}

impl Span {
    /// Is it within?
    pub fn contains(self, unix_seconds: u64) -> bool {
        (self.from_unix..self.until_unix).contains(&unix_seconds)
    }
}

const TIMES: Syntax<Span> = Syntax {
    allowed: "FROM/UNTIL in UTC, such as 2026-11-27T08:00:00Z/2026-11-27T12:00:00Z",
    parse: |text| {
        let span = text.split_once('/').and_then(|(from, until)| {
            Some(Span { from_unix: unix_seconds(from)?, until_unix: unix_seconds(until)? })
        });
        match span {
            Some(span) if span.from_unix >= span.until_unix => {
                Err("it ends before it begins".to_owned())
            }
            Some(span) => Ok(span),
            None => Err("no such times".to_owned()),
        }
    },
};

/// A time as RFC 3339 5.6 writes it, in UTC and whole seconds. Earlier ones than 1970 are none.
fn unix_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between: char, widths: [usize; 3]| {
        let parts: Vec<&str> = text.split(between).collect();
        let [first, second, third] = <[&str; 3]>::try_from(parts).ok()?;
        let number = |part: &str, width: usize| {
            let is_one = part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
            is_one.then(|| part.parse::<u64>().ok())?
        };
        let [one, two, three] = widths;
        Some([number(first, one)?, number(second, two)?, number(third, three)?])
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let days_of = |year: u64, month: u64| match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_time = hour < 24 && minute < 60 && second < 60;
    let is_date =
        year >= 1970 && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    if !is_time || !is_date {
        return None;
    }
    let years: u64 = (1970..year).map(|year| 365 + u64::from(is_leap(year))).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    Some((((years + months + day - 1) * 24 + hour) * 60 + minute) * 60 + second)
}

pub(super) fn read(reader: &mut Reader, room: &mut WaitingRoom) {
    reader.word("waiting_room.mode", &mut room.mode);
    reader.list("waiting_room.times", &mut room.times, &TIMES);
    reader.number("waiting_room.visitors_max", &mut room.visitors_max, 0..=100_000_000);
    reader.text("waiting_room.admit", &mut room.admit, &traffic_rules::REQUESTS);
    reader.duration("waiting_room.idle", &mut room.idle, MINUTE..=DAY);
    reader.duration("waiting_room.hold", &mut room.hold, SECOND..=HOUR);
    reader.duration("waiting_room.refresh", &mut room.refresh, SECOND..=10 * MINUTE);
    reader.duration("waiting_room.after", &mut room.after, SECOND..=HOUR);
    reader.duration("waiting_room.calm", &mut room.calm, SECOND..=DAY);
    reader.switch("waiting_room.hits", &mut room.hits);
    reader.list("waiting_room.paths", &mut room.paths, &syntax::SEGMENTS);
    reader.list("waiting_room.free_paths", &mut room.free_paths, &syntax::SEGMENTS);
    reader.number("waiting_room.waiting_max", &mut room.waiting_max, 1..=10_000_000);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-11-27T08:00:00Z", 1_795_766_400),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            assert_eq!(unix_seconds(text), Some(seconds), "{text}");
        }
        for wrong in [
            "",
            "2026-11-27",
            "2026-11-27T08:00:00",
            "2026-11-27T08:00:00+01:00",
            "2026-02-29T08:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-27T08:00:00.5Z",
            "2026-11-27-01T08:00:00Z",
        ] {
            assert_eq!(unix_seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_span_has_its_first_second_and_not_its_last() {
        let span = (TIMES.parse)("2026-11-27T08:00:00Z/2026-11-27T12:00:00Z").expect("times");
        let within = [1_795_766_399, 1_795_766_400, 1_795_780_799, 1_795_780_800];
        assert_eq!(within.map(|at| span.contains(at)), [false, true, true, false]);
        assert!((TIMES.parse)("2026-11-27T08:00:00Z/2026-11-27T08:00:00Z").is_err());
        assert!((TIMES.parse)("2026-11-27T08:00:00Z").is_err());
    }
}
