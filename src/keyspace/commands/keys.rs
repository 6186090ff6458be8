//! Keys, whatever stands under them, and whole databases.

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::garbage::AT_ONCE_MAX_KEYS;
use super::super::view::View;
use crate::resp::{self, write};

pub fn del(call: &mut Call<'_>) -> Done {
    let keys: Vec<&[u8]> = call.args(1).collect();
    let left = call.deletes(&keys);
    let are_many = keys.len() > AT_ONCE_MAX_KEYS;
    let wanted: Vec<&[u8]> = keys.iter().copied().filter(|key| !call.spares(key)).collect();
    let removed = wanted.iter().filter(|key| call.view.remove_one_of(key, are_many)).count();
    if removed > 0 {
        call.tell_part(&[b"DEL"], &wanted);
    }
    call.remove_left(&left);
    call.count(removed);
    Ok(())
}

pub fn exists(call: &mut Call<'_>) -> Done {
    let there = call.args(1).filter(|key| call.view.contains(key)).count();
    call.count(there);
    Ok(())
}

pub fn touch(call: &mut Call<'_>) -> Done {
    let there = call.args(1).filter(|key| call.view.entry(key).is_some()).count();
    call.count(there);
    Ok(())
}

pub fn kind(call: &mut Call<'_>) -> Done {
    let kind = call.view.peek(call.arg(1)).map_or("none", |entry| entry.value.kind());
    write::simple(call.out, kind);
    Ok(())
}

/// Moves an entry; false: there is one in its new place, and it may not be replaced.
fn move_entry(call: &mut Call<'_>, may_replace: bool) -> Result<bool, Error> {
    let (from, to) = (call.arg(1), call.arg(2));
    if !call.view.contains(from) {
        return Err(Error::NO_SUCH_KEY);
    }
    if from == to {
        return Ok(may_replace);
    }
    if !may_replace && call.view.contains(to) {
        return Ok(false);
    }
    call.moves(from);
    if let Some(entry) = call.view.remove(from) {
        call.view.remove(to);
        call.view.put(to, entry);
    }
    Ok(true)
}

pub fn rename(call: &mut Call<'_>) -> Done {
    move_entry(call, true)?;
    call.ok();
    Ok(())
}

pub fn renamenx(call: &mut Call<'_>) -> Done {
    let is_moved = move_entry(call, false)?;
    call.flag(is_moved);
    Ok(())
}

/// The number of a database that an argument says.
pub fn database(call: &Call<'_>, at: usize) -> Result<usize, Error> {
    let number = call.number(at)?;
    if i32::try_from(number).is_err() {
        let (low, high) = (i32::MIN, i32::MAX);
        let text = format!("ERR value is out of range, value must between {low} and {high}");
        return Err(Error::text(text));
    }
    let databases = call.view.keyspace.databases.len();
    let number = usize::try_from(number).ok().filter(|number| *number < databases);
    number.ok_or(Error::DATABASE)
}

pub fn copy(call: &mut Call<'_>) -> Done {
    let (from, to) = (call.arg(1), call.arg(2));
    let (mut may_replace, mut target) = (false, call.view.at);
    let mut at = 3;
    while at < call.len() {
        if call.is(at, "REPLACE") {
            may_replace = true;
        } else if call.is(at, "DB") && at + 1 < call.len() {
            target = database(call, at + 1)?;
            at += 1;
        } else {
            return Err(Error::SYNTAX);
        }
        at += 1;
    }
    if target == call.view.at && from == to {
        return Err(Error::fixed("ERR source and destination objects are the same"));
    }
    let Some(entry) = call.view.entry(from).cloned() else {
        call.flag(false);
        return Ok(());
    };
    let now_ms = call.view.now_ms;
    let mut view = View { keyspace: call.view.keyspace, at: target, now_ms };
    let is_there = view.contains(to);
    let is_copied = may_replace || !is_there;
    if is_copied {
        view.remove(to);
        view.put(to, entry);
    }
    call.flag(is_copied);
    Ok(())
}

pub fn randomkey(call: &mut Call<'_>) -> Done {
    loop {
        let number = call.view.database().entries.len();
        let place = call.view.keyspace.random_below(number);
        let entries = &call.view.database().entries;
        let Some(key) = entries.at(place).map(|(key, _)| key.to_vec()) else {
            call.null();
            return Ok(());
        };
        // One that has ended is removed, so that this comes to an end, too.
        if call.view.contains(&key) {
            call.bulk(&key);
            return Ok(());
        }
    }
}

pub fn dbsize(call: &mut Call<'_>) -> Done {
    let number = call.view.database().entries.len();
    call.count(number);
    Ok(())
}

/// Both ways of flushing are done at once.
fn check_way(call: &Call<'_>) -> Done {
    let is_known =
        call.len() == 1 || call.len() == 2 && (call.is(1, "ASYNC") || call.is(1, "SYNC"));
    if is_known { Ok(()) } else { Err(Error::SYNTAX) }
}

pub fn flushdb(call: &mut Call<'_>) -> Done {
    check_way(call)?;
    call.flushes(&[call.view.at]);
    call.view.flush();
    call.ok();
    Ok(())
}

pub fn flushall(call: &mut Call<'_>) -> Done {
    check_way(call)?;
    call.flushes_everything();
    let now_ms = call.view.now_ms;
    for at in 0..call.view.keyspace.databases.len() {
        View { keyspace: call.view.keyspace, at, now_ms }.flush();
    }
    call.ok();
    Ok(())
}

pub fn swapdb(call: &mut Call<'_>) -> Done {
    let number = |at: usize, text| {
        let number = resp::integer(call.arg(at)).ok_or(Error::fixed(text))?;
        Ok(number)
    };
    let (first, second) =
        (number(1, "ERR invalid first DB index")?, number(2, "ERR invalid second DB index")?);
    let databases = &mut call.view.keyspace.databases;
    let place = |number: i64| usize::try_from(number).ok().filter(|it| *it < databases.len());
    let (Some(first), Some(second)) = (place(first), place(second)) else {
        return Err(Error::DATABASE);
    };
    if let Ok([one, other]) = databases.get_disjoint_mut([first, second]) {
        // Who watches a key watches it in the database of that number.
        std::mem::swap(&mut one.entries, &mut other.entries);
        std::mem::swap(&mut one.expiring, &mut other.expiring);
        std::mem::swap(&mut one.sets, &mut other.sets);
        std::mem::swap(&mut one.unsearched, &mut other.unsearched);
        for database in [&mut *one, &mut *other] {
            database.watches.touch_all(|_| true);
        }
    }
    call.view.keyspace.changed_everything();
    call.flushes(&[first, second]);
    call.ok();
    Ok(())
}

/// A lock or a counter, as another process had it.
pub fn own(call: &mut Call<'_>) -> Done {
    call.view.keep_own(call.arg(1));
    call.ok();
    Ok(())
}
