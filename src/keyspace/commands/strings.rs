//! Strings.

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::value::Value;
use super::expiry::{Unit, deadline};
use crate::resp::write;

/// What GET says of a key, as a part of other commands.
fn reply_value(call: &mut Call<'_>, key: &[u8]) -> Done {
    let protocol = call.protocol();
    match call.view.string(key)? {
        Some(text) => write::bulk(call.out, text),
        None => write::null(call.out, protocol),
    }
    Ok(())
}

pub fn get(call: &mut Call<'_>) -> Done {
    reply_value(call, call.arg(1))
}

/// Options that SET and GETEX have in common.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command")]
struct Options {
    only_new: bool,
    only_old: bool,
    gives_old: bool,
    keeps_end: bool,
    persists: bool,
    /// The unit, and which argument has the number.
    end: Option<(Unit, usize)>,
}

fn options(call: &Call<'_>, from: usize, is_set: bool) -> Result<Options, Error> {
    let mut options = Options::default();
    let mut at = from;
    while at < call.len() {
        let units = [
            ("EX", Unit::Seconds),
            ("PX", Unit::Milliseconds),
            ("EXAT", Unit::SecondsSince1970),
            ("PXAT", Unit::MillisecondsSince1970),
        ];
        let unit = units.iter().find(|(word, _)| call.is(at, word)).map(|(_, unit)| *unit);
        // The same one again is taken, and the last one counts.
        let fits = |unit: &Unit| options.end.is_none_or(|(own, _)| own == *unit);
        let unit = unit.filter(|unit| fits(unit) && !options.keeps_end && !options.persists);
        if is_set && call.is(at, "NX") && !options.only_old {
            options.only_new = true;
        } else if is_set && call.is(at, "XX") && !options.only_new {
            options.only_old = true;
        } else if is_set && call.is(at, "GET") {
            options.gives_old = true;
        } else if is_set && call.is(at, "KEEPTTL") && options.end.is_none() {
            options.keeps_end = true;
        } else if !is_set && call.is(at, "PERSIST") && options.end.is_none() {
            options.persists = true;
        } else if let Some(unit) = unit.filter(|_| at + 1 < call.len()) {
            options.end = Some((unit, at + 1));
            at += 1;
        } else {
            return Err(Error::SYNTAX);
        }
        at += 1;
    }
    Ok(options)
}

/// When a key ends, as the options say.
fn end(call: &Call<'_>, options: &Options) -> Result<Option<i64>, Error> {
    options.end.map(|(unit, at)| deadline(call, at, unit, true)).transpose()
}

/// Puts a string under a key, and tells it with an absolute time.
fn put(call: &mut Call<'_>, key: &[u8], text: &[u8], end: Option<i64>) {
    call.view.put_string(key, text.to_vec(), end);
    match end {
        Some(end) => call.tell(&[b"SET", key, text, b"PXAT", end.to_string().as_bytes()]),
        None => call.tell(&[b"SET", key, text]),
    }
}

/// What is put only where nothing stands is a lock, and told as one.
fn keep_own(call: &mut Call<'_>, key: &[u8]) {
    call.view.keep_own(key);
    call.tell_own(key);
}

pub fn set(call: &mut Call<'_>) -> Done {
    let (key, text) = (call.arg(1), call.arg(2));
    let options = options(call, 3, true)?;
    let mut end = end(call, &options)?;
    if options.gives_old {
        reply_value(call, key)?;
    }
    let old = call.view.entry(key).map(|entry| entry.expires_ms);
    if options.only_new && old.is_some() || options.only_old && old.is_none() {
        if !options.gives_old {
            call.null();
        }
        return Ok(());
    }
    if options.keeps_end {
        end = old.flatten();
    }
    put(call, key, text, end);
    if options.only_new {
        keep_own(call, key);
    }
    if !options.gives_old {
        call.ok();
    }
    Ok(())
}

fn set_for(call: &mut Call<'_>, unit: Unit) -> Done {
    let end = deadline(call, 2, unit, true)?;
    put(call, call.arg(1), call.arg(3), Some(end));
    call.ok();
    Ok(())
}

pub fn setex(call: &mut Call<'_>) -> Done {
    set_for(call, Unit::Seconds)
}

pub fn psetex(call: &mut Call<'_>) -> Done {
    set_for(call, Unit::Milliseconds)
}

pub fn setnx(call: &mut Call<'_>) -> Done {
    let is_new = call.view.entry(call.arg(1)).is_none();
    if is_new {
        put(call, call.arg(1), call.arg(2), None);
        keep_own(call, call.arg(1));
    }
    call.flag(is_new);
    Ok(())
}

pub fn getset(call: &mut Call<'_>) -> Done {
    reply_value(call, call.arg(1))?;
    put(call, call.arg(1), call.arg(2), None);
    Ok(())
}

pub fn getdel(call: &mut Call<'_>) -> Done {
    reply_value(call, call.arg(1))?;
    call.deletes(&[call.arg(1)]);
    call.view.remove(call.arg(1));
    Ok(())
}

pub fn getex(call: &mut Call<'_>) -> Done {
    let key = call.arg(1);
    let options = options(call, 2, false)?;
    let Some(entry) = call.view.entry(key) else {
        call.null();
        return Ok(());
    };
    let ends = entry.expires_ms.is_some();
    call.view.string(key)?;
    let end = end(call, &options)?;
    reply_value(call, key)?;
    match end {
        Some(end) if end <= call.view.now_ms => {
            call.view.remove(key);
            call.tell(&[b"DEL", key]);
        }
        Some(end) => {
            call.view.set_end(key, Some(end));
            call.tell(&[b"PEXPIREAT", key, end.to_string().as_bytes()]);
        }
        None if options.persists && ends => {
            call.view.set_end(key, None);
            call.tell(&[b"PERSIST", key]);
        }
        None => {}
    }
    Ok(())
}

pub fn mget(call: &mut Call<'_>) -> Done {
    let protocol = call.protocol();
    write::array(call.out, call.len() - 1);
    for key in call.args(1) {
        match call.view.entry(key).map(|entry| &entry.value) {
            Some(Value::String(text)) => write::bulk(call.out, text),
            _ => write::null(call.out, protocol),
        }
        call.check_reply()?;
    }
    Ok(())
}

/// Keys and values by turns.
fn set_pairs(call: &mut Call<'_>, only_new: bool) -> Result<bool, Error> {
    if call.len().is_multiple_of(2) {
        return Err(Error::arity(call.command.name));
    }
    if only_new && call.args(1).step_by(2).any(|key| call.view.entry(key).is_some()) {
        return Ok(false);
    }
    for at in (1..call.len()).step_by(2) {
        call.view.put_string(call.arg(at), call.arg(at + 1).to_vec(), None);
        if only_new {
            call.view.keep_own(call.arg(at));
        }
    }
    Ok(true)
}

pub fn mset(call: &mut Call<'_>) -> Done {
    set_pairs(call, false)?;
    call.ok();
    Ok(())
}

pub fn msetnx(call: &mut Call<'_>) -> Done {
    let is_set = set_pairs(call, true)?;
    call.flag(is_set);
    Ok(())
}

pub fn strlen(call: &mut Call<'_>) -> Done {
    let length = call.view.string(call.arg(1))?.map_or(0, Vec::len);
    call.count(length);
    Ok(())
}

/// Is a string of that length allowed?
fn check_length(call: &Call<'_>, length: usize) -> Done {
    if length > call.view.keyspace.bounds.string_max_bytes { Err(Error::TOO_LONG) } else { Ok(()) }
}

pub fn append(call: &mut Call<'_>) -> Done {
    let (key, more) = (call.arg(1), call.arg(2));
    let length = call.view.string(key)?.map_or(0, Vec::len);
    check_length(call, length.saturating_add(more.len()))?;
    let length = call.view.change_string(key, |text| {
        text.extend_from_slice(more);
        text.len()
    })?;
    call.count(length);
    Ok(())
}

pub fn getrange(call: &mut Call<'_>) -> Done {
    let (start, end) = (call.number(2)?, call.number(3)?);
    let text = call.view.string(call.arg(1))?.map_or(&[][..], Vec::as_slice);
    let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
    let is_backwards = start < 0 && end < 0 && start > end;
    let place = |at: i64| if at < 0 { (length + at.max(-length)).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    let part = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if !is_backwards && start <= end => &text[start..=end],
        _ => &[],
    };
    write::bulk(call.out, part);
    Ok(())
}

pub fn setrange(call: &mut Call<'_>) -> Done {
    let (key, part) = (call.arg(1), call.arg(3));
    let offset = call.number(2)?;
    let offset = usize::try_from(offset).map_err(|_| Error::fixed("ERR offset is out of range"))?;
    let length = call.view.string(key)?.map_or(0, Vec::len);
    if part.is_empty() {
        call.count(length);
        return Ok(());
    }
    let end = offset.saturating_add(part.len());
    check_length(call, end)?;
    let length = call.view.change_string(key, |text| {
        if text.len() < end {
            text.resize(end, 0);
        }
        text[offset..end].copy_from_slice(part);
        text.len()
    })?;
    call.count(length);
    Ok(())
}
