//! Hashes.

use super::super::command::{Call, Done};
use super::super::dense::Dense;
use super::super::error::Error;
use super::sets::{range_to, signed_count};
use crate::resp::{Protocol, write};

/// Sets fields, and says how many are new.
fn set_fields(call: &mut Call<'_>) -> Result<usize, Error> {
    if !call.len().is_multiple_of(2) {
        return Err(Error::arity(call.command.name));
    }
    let request = call.request;
    let word = |at: usize| request.arg(at).unwrap_or_default();
    call.view.change_hash(call.arg(1), |fields| {
        let mut new = 0;
        for at in (2..request.len()).step_by(2) {
            new += usize::from(fields.write(word(at), word(at + 1)));
        }
        (true, new)
    })
}

pub fn hset(call: &mut Call<'_>) -> Done {
    let new = set_fields(call)?;
    call.count(new);
    Ok(())
}

pub fn hmset(call: &mut Call<'_>) -> Done {
    set_fields(call)?;
    call.ok();
    Ok(())
}

pub fn hsetnx(call: &mut Call<'_>) -> Done {
    let (key, field, value) = (call.arg(1), call.arg(2), call.arg(3));
    let is_new = call.view.hash(key)?.is_none_or(|fields| !fields.contains(field));
    if is_new {
        call.view.change_hash(key, |fields| (true, fields.insert(field, value.into())))?;
    }
    call.flag(is_new);
    Ok(())
}

pub fn hget(call: &mut Call<'_>) -> Done {
    let protocol = call.protocol();
    match call.view.hash(call.arg(1))?.and_then(|fields| fields.get(call.request.arg(2)?)) {
        Some(value) => write::bulk(call.out, value),
        None => write::null(call.out, protocol),
    }
    Ok(())
}

pub fn hmget(call: &mut Call<'_>) -> Done {
    let (key, protocol, wanted) = (call.arg(1), call.protocol(), call.args(2));
    call.view.hash(key)?;
    write::array(call.out, wanted.len());
    for field in wanted {
        call.check_reply()?;
        let fields = call.view.peek_hash(key);
        match fields.and_then(|fields| fields.get(field)) {
            Some(value) => write::bulk(call.out, value),
            None => write::null(call.out, protocol),
        }
    }
    Ok(())
}

pub fn hgetall(call: &mut Call<'_>) -> Done {
    let protocol = call.protocol();
    let fields = call.view.hash(call.arg(1))?;
    write::map(call.out, protocol, fields.map_or(0, Dense::len));
    for (field, value) in fields.iter().flat_map(|fields| fields.iter()) {
        write::bulk(call.out, field);
        write::bulk(call.out, value);
    }
    Ok(())
}

pub fn hkeys(call: &mut Call<'_>) -> Done {
    let fields = call.view.hash(call.arg(1))?;
    write::array(call.out, fields.map_or(0, Dense::len));
    for (field, _) in fields.iter().flat_map(|fields| fields.iter()) {
        write::bulk(call.out, field);
    }
    Ok(())
}

pub fn hvals(call: &mut Call<'_>) -> Done {
    let fields = call.view.hash(call.arg(1))?;
    write::array(call.out, fields.map_or(0, Dense::len));
    for (_, value) in fields.iter().flat_map(|fields| fields.iter()) {
        write::bulk(call.out, value);
    }
    Ok(())
}

pub fn hdel(call: &mut Call<'_>) -> Done {
    let (key, unwanted) = (call.arg(1), call.args(2));
    let mut removed = 0;
    if call.view.hash(key)?.is_some() {
        removed = call.view.change_hash(key, |fields| {
            let removed = unwanted.filter(|field| fields.remove(field).is_some()).count();
            (removed > 0, removed)
        })?;
    }
    call.count(removed);
    Ok(())
}

pub fn hexists(call: &mut Call<'_>) -> Done {
    let field = call.arg(2);
    let is_there = call.view.hash(call.arg(1))?.is_some_and(|fields| fields.contains(field));
    call.flag(is_there);
    Ok(())
}

pub fn hlen(call: &mut Call<'_>) -> Done {
    let number = call.view.hash(call.arg(1))?.map_or(0, Dense::len);
    call.count(number);
    Ok(())
}

pub fn hstrlen(call: &mut Call<'_>) -> Done {
    let field = call.arg(2);
    let value = call.view.hash(call.arg(1))?.and_then(|fields| fields.get(field));
    let length = value.map_or(0, |value| value.len());
    call.count(length);
    Ok(())
}

pub fn hrandfield(call: &mut Call<'_>) -> Done {
    let (key, protocol) = (call.arg(1), call.protocol());
    if call.len() == 2 {
        let number = call.view.hash(key)?.map_or(0, Dense::len);
        let place = call.view.keyspace.random_below(number);
        match call.view.hash(key)?.and_then(|fields| fields.at(place)) {
            Some((field, _)) => write::bulk(call.out, field),
            None => write::null(call.out, protocol),
        }
        return Ok(());
    }
    let count = signed_count(call, 2)?;
    if call.len() > 4 || call.len() == 4 && !call.is(3, "WITHVALUES") {
        return Err(Error::SYNTAX);
    }
    let with_values = call.len() == 4;
    if with_values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(Error::OUT_OF_RANGE);
    }
    let number = call.view.hash(key)?.map_or(0, Dense::len);
    let places = range_to(call, number, count)?;
    let doubled = with_values && protocol == Protocol::Resp2;
    write::array(call.out, places.len() * if doubled { 2 } else { 1 });
    for place in places {
        call.check_reply()?;
        let fields = call.view.peek_hash(key);
        let Some((field, value)) = fields.and_then(|fields| fields.at(place)) else { break };
        if with_values && protocol == Protocol::Resp3 {
            write::array(call.out, 2);
        }
        write::bulk(call.out, field);
        if with_values {
            write::bulk(call.out, value);
        }
    }
    Ok(())
}
