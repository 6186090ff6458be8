//! Walks over keys, fields and members, and what matches a pattern.
//!
//! A cursor says how many entries of the row are left; the walk goes from the back (see `dense`).

use bytes::BytesMut;

use super::super::command::{Call, Done};
use super::super::dense::{Dense, Heap};
use super::super::error::Error;
use super::super::glob;
use super::super::looks::Look;
use crate::resp::write;

/// As many as redis-server looks at where COUNT does not say it.
const COUNT: usize = 10;

pub fn keys(call: &mut Call<'_>) -> Done {
    let (pattern, now_ms) = (call.arg(1), call.view.now_ms);
    let entries = &call.view.database().entries;
    let is_shown = |key: &[u8]| glob::matches(pattern, key, false);
    let living = entries.iter().filter(|(_, entry)| !entry.is_expired(now_ms));
    let found: Vec<&[u8]> = living.map(|(key, _)| key).filter(|key| is_shown(key)).collect();
    write::array(call.out, found.len());
    for key in found {
        write::bulk(call.out, key);
    }
    Ok(())
}

struct Walk<'a> {
    cursor: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    count: usize,
}

impl Walk<'_> {
    fn shows(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name, false))
    }

    /// Which places of a row it looks at now.
    fn places(&self, row: usize) -> std::ops::Range<usize> {
        let from = if self.cursor == 0 { row } else { self.cursor.min(row) };
        from.saturating_sub(self.count)..from
    }
}

/// A cursor as C reads a number: nothing at all is 0, and what is negative comes round.
fn cursor(call: &Call<'_>, at: usize) -> Result<usize, Error> {
    let (negative, digits) = match call.arg(at) {
        [b'-', digits @ ..] if !digits.is_empty() => (true, digits),
        [b'+', digits @ ..] if !digits.is_empty() => (false, digits),
        digits => (false, digits),
    };
    let step = |number: usize, digit: &u8| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    let number = digits.iter().try_fold(0, step).ok_or(Error::fixed("ERR invalid cursor"))?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

fn walk<'a>(
    call: &Call<'a>,
    cursor: usize,
    from: usize,
    has_kind: bool,
) -> Result<Walk<'a>, Error> {
    let mut walk = Walk { cursor, pattern: None, kind: None, count: COUNT };
    for at in (from..call.len()).step_by(2) {
        if at + 1 == call.len() {
            return Err(Error::SYNTAX);
        }
        if call.is(at, "COUNT") {
            let count = call.number(at + 1)?;
            let count = usize::try_from(count).ok().filter(|count| *count > 0);
            walk.count = count.ok_or(Error::SYNTAX)?;
        } else if call.is(at, "MATCH") {
            walk.pattern = Some(call.arg(at + 1));
        } else if call.is(at, "TYPE") && has_kind {
            walk.kind = Some(call.arg(at + 1));
        } else {
            return Err(Error::SYNTAX);
        }
    }
    Ok(walk)
}

fn reply(out: &mut BytesMut, next: usize, words: &[&[u8]]) {
    write::array(out, 2);
    write::bulk(out, next.to_string().as_bytes());
    write::array(out, words.len());
    for word in words {
        write::bulk(out, word);
    }
}

pub fn scan(call: &mut Call<'_>) -> Done {
    let cursor = cursor(call, 1)?;
    let walk = walk(call, cursor, 2, true)?;
    let now_ms = call.view.now_ms;
    let entries = &call.view.keyspace.databases[call.view.at].entries;
    let places = walk.places(entries.len());
    let next = places.start;
    let of_kind =
        |kind: &str| walk.kind.is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind.as_bytes()));
    let found = places.filter_map(|place| entries.at(place)).filter(|(key, entry)| {
        !entry.is_expired(now_ms) && of_kind(entry.value.kind()) && walk.shows(key)
    });
    let found: Vec<&[u8]> = found.map(|(key, _)| key).collect();
    reply(call.out, next, &found);
    Ok(())
}

/// The cursor behind a part of a walk over all keys, which begins at the one that an argument says.
pub fn next_cursor(call: &Call<'_>, at: usize, count: usize) -> Result<usize, Error> {
    let walk = Walk { cursor: cursor(call, at)?, pattern: None, kind: None, count };
    Ok(walk.places(call.view.database_ref().entries.len()).start)
}

/// The keys that match a pattern.
pub fn matching(call: &Call<'_>, pattern: &[u8]) -> Vec<Box<[u8]>> {
    let (entries, now_ms) = (&call.view.database_ref().entries, call.view.now_ms);
    let living = entries.iter().filter(|(_, entry)| !entry.is_expired(now_ms));
    let found = living.filter(|(key, _)| glob::matches(pattern, key, false));
    found.map(|(key, _)| key.into()).collect()
}

/// The part of a row that a walk looks at now, and the cursor behind it.
fn part<'a, V: Heap>(
    walk: &'a Walk<'_>,
    row: &'a Dense<V>,
) -> (usize, impl Iterator<Item = (&'a [u8], &'a V)>) {
    let places = walk.places(row.len());
    let next = places.start;
    let entries = places.filter_map(|place| row.at(place));
    (next, entries.filter(|(name, _)| walk.shows(name)))
}

pub fn hscan(call: &mut Call<'_>) -> Done {
    let (key, cursor) = (call.arg(1), cursor(call, 2)?);
    if call.view.hash(key)?.is_none() {
        reply(call.out, 0, &[]);
        return Ok(());
    }
    let walk = walk(call, cursor, 3, false)?;
    let Some(fields) = call.view.hash(key)? else { return Ok(()) };
    let (next, found) = part(&walk, fields);
    let words: Vec<&[u8]> = found.flat_map(|(field, value)| [field, &**value]).collect();
    reply(call.out, next, &words);
    Ok(())
}

pub fn sscan(call: &mut Call<'_>) -> Done {
    let (key, cursor) = (call.arg(1), cursor(call, 2)?);
    let is_there = call.view.set(key)?.is_some();
    if cursor == 0 {
        // Who walks over one set after another collects garbage.
        call.client.own.looks.ends_row();
        call.looks(&[key], Look::Members, is_there);
    }
    if !is_there {
        reply(call.out, 0, &[]);
        return Ok(());
    }
    let walk = walk(call, cursor, 3, false)?;
    let Some(members) = call.view.set(key)? else { return Ok(()) };
    let (next, found) = part(&walk, members);
    let words: Vec<&[u8]> = found.map(|(member, ())| member).collect();
    reply(call.out, next, &words);
    Ok(())
}
