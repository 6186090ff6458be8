//! When keys end.

use super::super::command::{Call, Done};
use super::super::error::Error;

/// How a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    SecondsSince1970,
    MillisecondsSince1970,
}

/// The time that an argument says, in milliseconds since 1970.
pub fn deadline(
    call: &Call<'_>,
    at: usize,
    unit: Unit,
    must_be_positive: bool,
) -> Result<i64, Error> {
    let number = call.number(at)?;
    let invalid = || Error::expire_time(call.command.name);
    if must_be_positive && number <= 0 {
        return Err(invalid());
    }
    let milliseconds = match unit {
        Unit::Seconds | Unit::SecondsSince1970 => number.checked_mul(1_000).ok_or_else(invalid)?,
        Unit::Milliseconds | Unit::MillisecondsSince1970 => number,
    };
    match unit {
        Unit::Seconds | Unit::Milliseconds => {
            milliseconds.checked_add(call.view.now_ms).ok_or_else(invalid)
        }
        Unit::SecondsSince1970 | Unit::MillisecondsSince1970 => Ok(milliseconds),
    }
}

/// Under which conditions a time is taken.
#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command")]
struct Conditions {
    none_yet: bool,
    one_already: bool,
    later: bool,
    sooner: bool,
}

fn conditions(call: &Call<'_>) -> Result<Conditions, Error> {
    let mut conditions = Conditions::default();
    for at in 3..call.len() {
        if call.is(at, "NX") {
            conditions.none_yet = true;
        } else if call.is(at, "XX") {
            conditions.one_already = true;
        } else if call.is(at, "GT") {
            conditions.later = true;
        } else if call.is(at, "LT") {
            conditions.sooner = true;
        } else {
            return Err(Error::text([b"ERR Unsupported option ", call.arg(at)].concat()));
        }
    }
    let Conditions { none_yet, one_already, later, sooner } = conditions;
    if none_yet && (one_already || later || sooner) {
        let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(Error::fixed(text));
    }
    if later && sooner {
        return Err(Error::fixed("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(conditions)
}

impl Conditions {
    /// Is the new time taken in place of what there is?
    fn allow(self, own: Option<i64>, new: i64) -> bool {
        !(self.none_yet && own.is_some()
            || self.one_already && own.is_none()
            || self.later && own.is_none_or(|own| new <= own)
            || self.sooner && own.is_some_and(|own| new >= own))
    }
}

fn set(call: &mut Call<'_>, unit: Unit) -> Done {
    let key = call.arg(1);
    let conditions = conditions(call)?;
    let end = deadline(call, 2, unit, false)?;
    let own = call.view.entry(key).map(|entry| entry.expires_ms);
    let is_taken = own.is_some_and(|own| conditions.allow(own, end));
    if is_taken && end <= call.view.now_ms {
        call.view.remove(key);
        call.tell(&[b"DEL", key]);
    } else if is_taken {
        call.view.set_end(key, Some(end));
        call.tell(&[b"PEXPIREAT", key, end.to_string().as_bytes()]);
    }
    call.flag(is_taken);
    Ok(())
}

pub fn expire(call: &mut Call<'_>) -> Done {
    set(call, Unit::Seconds)
}

pub fn pexpire(call: &mut Call<'_>) -> Done {
    set(call, Unit::Milliseconds)
}

pub fn expireat(call: &mut Call<'_>) -> Done {
    set(call, Unit::SecondsSince1970)
}

pub fn pexpireat(call: &mut Call<'_>) -> Done {
    set(call, Unit::MillisecondsSince1970)
}

pub fn persist(call: &mut Call<'_>) -> Done {
    let key = call.arg(1);
    let ends = call.view.entry(key).is_some_and(|entry| entry.expires_ms.is_some());
    if ends {
        call.view.set_end(key, None);
    }
    call.flag(ends);
    Ok(())
}

/// Half a second is rounded up, as redis-server does.
fn seconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_add(500) / 1_000
}

/// Tells when a key ends: -2 where there is no key, -1 where it does not end.
fn tell(call: &mut Call<'_>, shown: impl FnOnce(i64, i64) -> i64) -> Done {
    let now_ms = call.view.now_ms;
    let number = match call.view.peek(call.arg(1)).map(|entry| entry.expires_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(end)) => shown(end, now_ms),
    };
    call.integer(number);
    Ok(())
}

pub fn ttl(call: &mut Call<'_>) -> Done {
    tell(call, |end, now| seconds(end.saturating_sub(now).max(0)))
}

pub fn pttl(call: &mut Call<'_>) -> Done {
    tell(call, |end, now| end.saturating_sub(now).max(0))
}

pub fn expiretime(call: &mut Call<'_>) -> Done {
    tell(call, |end, _| seconds(end))
}

pub fn pexpiretime(call: &mut Call<'_>) -> Done {
    tell(call, |end, _| end)
}
