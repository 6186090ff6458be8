//! Numbers that are counted up and down, in strings and in hashes.

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::float::{self, LongDouble, Number};
use crate::resp;

/// Is what stands there a counter, or nothing?
fn is_own(call: &Call<'_>, key: &[u8]) -> bool {
    call.view.keyspace.databases[call.view.at].entries.get(key).is_none_or(|entry| entry.is_own)
}

/// Counts a string's number up.
fn count(call: &mut Call<'_>, by: i64) -> Done {
    let key = call.arg(1);
    let old = match call.view.string(key)? {
        Some(text) => resp::integer(text).ok_or(Error::NOT_AN_INTEGER)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(Error::OVERFLOW)?;
    let mut buffer = itoa::Buffer::new();
    replace(call, key, buffer.format(new).as_bytes())?;
    call.integer(new);
    Ok(())
}

/// Puts another text in a string's place; when it ends stays.
fn replace(call: &mut Call<'_>, key: &[u8], new: &[u8]) -> Done {
    let is_own = is_own(call, key);
    call.view.change_string(key, |text| {
        text.clear();
        text.extend_from_slice(new);
    })?;
    if is_own {
        call.view.keep_own(key);
    }
    Ok(())
}

/// Puts another text in a field's place.
fn replace_field(call: &mut Call<'_>, key: &[u8], field: &[u8], text: &[u8]) -> Done {
    let is_own = is_own(call, key);
    call.view.change_hash(key, |fields| (true, fields.insert(field, text.into())))?;
    if is_own {
        call.view.keep_own(key);
    }
    Ok(())
}

pub fn incr(call: &mut Call<'_>) -> Done {
    count(call, 1)
}

pub fn decr(call: &mut Call<'_>) -> Done {
    count(call, -1)
}

pub fn incrby(call: &mut Call<'_>) -> Done {
    count(call, call.number(2)?)
}

pub fn decrby(call: &mut Call<'_>) -> Done {
    let by = call.number(2)?.checked_neg();
    count(call, by.ok_or(Error::fixed("ERR decrement would overflow"))?)
}

fn finite(text: &[u8], no_number: Error, infinite: Error) -> Result<LongDouble, Error> {
    match float::parse(text) {
        Some(Number::Finite(number)) => Ok(number),
        Some(Number::Infinite) => Err(infinite),
        None => Err(no_number),
    }
}

pub fn incrbyfloat(call: &mut Call<'_>) -> Done {
    let key = call.arg(1);
    let old = call.view.string(key)?.map_or(&b"0"[..], Vec::as_slice);
    // Both must be numbers before either may be infinite.
    let old = float::parse(old).ok_or(Error::NOT_A_FLOAT)?;
    let by = finite(call.arg(2), Error::NOT_A_FLOAT, Error::NAN)?;
    let Number::Finite(old) = old else { return Err(Error::NAN) };
    let new = old.plus(by).ok_or(Error::NAN)?.text();
    replace(call, key, new.as_bytes())?;
    call.tell(&[b"SET", key, new.as_bytes(), b"KEEPTTL"]);
    call.tell_own(key);
    call.bulk(new.as_bytes());
    Ok(())
}

pub fn hincrby(call: &mut Call<'_>) -> Done {
    let (key, field) = (call.arg(1), call.arg(2));
    let by = call.number(3)?;
    let old = match call.view.hash(key)?.and_then(|fields| fields.get(field)) {
        Some(text) => {
            resp::integer(text).ok_or(Error::fixed("ERR hash value is not an integer"))?
        }
        None => 0,
    };
    let new = old.checked_add(by).ok_or(Error::OVERFLOW)?;
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(new).as_bytes();
    replace_field(call, key, field, text)?;
    call.integer(new);
    Ok(())
}

pub fn hincrbyfloat(call: &mut Call<'_>) -> Done {
    let (key, field) = (call.arg(1), call.arg(2));
    let infinite = Error::fixed("ERR value is NaN or Infinity");
    let by = finite(call.arg(3), Error::NOT_A_FLOAT, infinite)?;
    let old = match call.view.hash(key)?.and_then(|fields| fields.get(field)) {
        Some(text) => finite(text, Error::fixed("ERR hash value is not a float"), Error::NAN)?,
        None => finite(b"0", Error::NOT_A_FLOAT, Error::NAN)?,
    };
    let new = old.plus(by).ok_or(Error::NAN)?.text();
    let text = new.as_bytes();
    replace_field(call, key, field, text)?;
    call.tell(&[b"HSET", key, field, text]);
    call.tell_own(key);
    call.bulk(text);
    Ok(())
}
