//! Sets.

use super::super::command::{Call, Done};
use super::super::dense::Dense;
use super::super::error::Error;
use super::super::looks::Look;
use super::super::value::Set;
use crate::resp::{self, write};

pub fn sadd(call: &mut Call<'_>) -> Done {
    let new = call.args(2);
    let added = call.view.change_set(call.arg(1), |members| {
        let added = new.filter(|member| members.insert(member, ()).is_none()).count();
        (added > 0, added)
    })?;
    call.count(added);
    Ok(())
}

pub fn srem(call: &mut Call<'_>) -> Done {
    let key = call.arg(1);
    let unwanted: Vec<&[u8]> =
        call.args(2).filter(|member| !call.spares_member(key, member)).collect();
    let mut removed = 0;
    if call.view.set(key)?.is_some() {
        removed = call.view.change_set(key, |members| {
            let removed = unwanted.iter().filter(|it| members.remove(it).is_some()).count();
            (removed > 0, removed)
        })?;
    }
    if removed > 0 {
        call.tell_part(&[b"SREM", key], &unwanted);
    }
    call.count(removed);
    Ok(())
}

pub fn smembers(call: &mut Call<'_>) -> Done {
    let protocol = call.protocol();
    let members = call.view.set(call.arg(1))?;
    write::set(call.out, protocol, members.map_or(0, Dense::len));
    for (member, ()) in members.iter().flat_map(|members| members.iter()) {
        write::bulk(call.out, member);
    }
    let finds = members.is_some();
    call.looks(&[call.arg(1)], Look::Members, finds);
    Ok(())
}

pub fn sismember(call: &mut Call<'_>) -> Done {
    let member = call.arg(2);
    let is_in = call.view.set(call.arg(1))?.is_some_and(|members| members.contains(member));
    call.flag(is_in);
    Ok(())
}

pub fn smismember(call: &mut Call<'_>) -> Done {
    let wanted = call.args(2);
    let members = call.view.set(call.arg(1))?;
    write::array(call.out, wanted.len());
    for member in wanted {
        let is_in = members.is_some_and(|members| members.contains(member));
        write::integer(call.out, i64::from(is_in));
    }
    Ok(())
}

pub fn scard(call: &mut Call<'_>) -> Done {
    let number = call.view.set(call.arg(1))?.map_or(0, Dense::len);
    if number == 0 {
        call.looks(&[call.arg(1)], Look::Members, false);
    }
    call.count(number);
    Ok(())
}

pub fn smove(call: &mut Call<'_>) -> Done {
    let (from, to, member) = (call.arg(1), call.arg(2), call.arg(3));
    if !call.view.contains(from) {
        call.flag(false);
        return Ok(());
    }
    let is_in = call.view.set(from)?.is_some_and(|members| members.contains(member));
    call.view.set(to)?;
    if is_in && from != to {
        call.view.change_set(from, |members| (true, members.remove(member)))?;
        call.view.change_set(to, |members| (members.insert(member, ()).is_none(), ()))?;
    }
    call.flag(is_in);
    Ok(())
}

/// What is done with several sets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// The sets of these keys, where there is one.
fn check_sets(call: &mut Call<'_>, keys: &[&[u8]]) -> Done {
    for key in keys {
        call.view.set(key)?;
    }
    Ok(())
}

fn combine(call: &mut Call<'_>, keys: &[&[u8]], operation: Operation) -> Result<Set, Error> {
    check_sets(call, keys)?;
    let mut result = Dense::default();
    let sets: Vec<Option<&Set>> = keys.iter().map(|key| call.view.peek_set(key)).collect();
    match operation {
        Operation::Union => {
            for (member, ()) in sets.iter().flatten().flat_map(|members| members.iter()) {
                result.insert(member, ());
            }
        }
        Operation::Intersection => intersect(&sets, |member| {
            result.insert(member, ());
            true
        }),
        Operation::Difference => {
            let first = sets.first().copied().flatten();
            for (member, ()) in first.iter().flat_map(|members| members.iter()) {
                if !sets[1..].iter().flatten().any(|members| members.contains(member)) {
                    result.insert(member, ());
                }
            }
        }
    }
    Ok(result)
}

/// Gives what is in all sets, until `take` says that it is enough.
fn intersect(sets: &[Option<&Set>], mut take: impl FnMut(&[u8]) -> bool) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    sets.sort_by_key(|members| members.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    for (member, ()) in smallest.iter() {
        if others.iter().all(|members| members.contains(member)) && !take(member) {
            return;
        }
    }
}

fn reply(call: &mut Call<'_>, operation: Operation) -> Done {
    let keys: Vec<&[u8]> = call.args(1).collect();
    let members = combine(call, &keys, operation)?;
    write::set(call.out, call.client.protocol, members.len());
    for (member, ()) in members.iter() {
        write::bulk(call.out, member);
    }
    let finds = !members.is_empty();
    match operation {
        Operation::Union => call.looks(&keys, Look::Union, finds),
        Operation::Intersection => call.looks(&keys, Look::Intersection, finds),
        Operation::Difference => {}
    }
    Ok(())
}

fn store(call: &mut Call<'_>, operation: Operation) -> Done {
    let keys: Vec<&[u8]> = call.args(2).collect();
    let members = combine(call, &keys, operation)?;
    let number = members.len();
    call.view.put_set(call.arg(1), members);
    call.count(number);
    Ok(())
}

pub fn sunion(call: &mut Call<'_>) -> Done {
    reply(call, Operation::Union)
}

pub fn sinter(call: &mut Call<'_>) -> Done {
    reply(call, Operation::Intersection)
}

pub fn sdiff(call: &mut Call<'_>) -> Done {
    reply(call, Operation::Difference)
}

pub fn sunionstore(call: &mut Call<'_>) -> Done {
    store(call, Operation::Union)
}

pub fn sinterstore(call: &mut Call<'_>) -> Done {
    store(call, Operation::Intersection)
}

pub fn sdiffstore(call: &mut Call<'_>) -> Done {
    store(call, Operation::Difference)
}

pub fn sintercard(call: &mut Call<'_>) -> Done {
    let wrong = Error::fixed("ERR numkeys should be greater than 0");
    let number = resp::integer(call.arg(1)).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number > 0).ok_or(wrong)?;
    if number > call.len() - 2 {
        return Err(Error::fixed("ERR Number of keys can't be greater than number of args"));
    }
    let (mut limit, mut at) = (0, 2 + number);
    while at < call.len() {
        if !call.is(at, "LIMIT") || at + 1 == call.len() {
            return Err(Error::SYNTAX);
        }
        let said = resp::integer(call.arg(at + 1)).and_then(|said| usize::try_from(said).ok());
        limit = said.ok_or(Error::fixed("ERR LIMIT can't be negative"))?;
        at += 2;
    }
    let keys: Vec<&[u8]> = call.args(2).take(number).collect();
    check_sets(call, &keys)?;
    let sets: Vec<Option<&Set>> = keys.iter().map(|key| call.view.peek_set(key)).collect();
    let mut found = 0;
    intersect(&sets, |_| {
        found += 1;
        found != limit
    });
    call.count(found);
    Ok(())
}

/// A number of elements, which may be negative where they may be repeated.
pub fn signed_count(call: &Call<'_>, at: usize) -> Result<i64, Error> {
    let count = call.number(at)?;
    if count == i64::MIN { Err(Error::OUT_OF_RANGE) } else { Ok(count) }
}

/// Random places in a row of `number`: as many as `count` says, each once, or with repetition where it is
/// negative.
pub fn range_to(call: &mut Call<'_>, number: usize, count: i64) -> Result<Vec<usize>, Error> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if number == 0 {
        return Ok(Vec::new());
    }
    if count < 0 {
        if wanted > call.view.keyspace.bounds.repeated_max {
            return Err(Error::OUT_OF_RANGE);
        }
        return Ok((0..wanted).map(|_| call.view.keyspace.random_below(number)).collect());
    }
    let mut places: Vec<usize> = (0..number).collect();
    let wanted = wanted.min(number);
    if wanted < number {
        for at in 0..wanted {
            let other = at + call.view.keyspace.random_below(number - at);
            places.swap(at, other);
        }
        places.truncate(wanted);
    }
    Ok(places)
}

pub fn srandmember(call: &mut Call<'_>) -> Done {
    let (key, protocol) = (call.arg(1), call.protocol());
    if call.len() > 3 {
        return Err(Error::SYNTAX);
    }
    if call.len() == 2 {
        let number = call.view.set(key)?.map_or(0, Dense::len);
        let place = call.view.keyspace.random_below(number);
        match call.view.set(key)?.and_then(|members| members.at(place)) {
            Some((member, ())) => write::bulk(call.out, member),
            None => write::null(call.out, protocol),
        }
        return Ok(());
    }
    let count = signed_count(call, 2)?;
    let number = call.view.set(key)?.map_or(0, Dense::len);
    let places = range_to(call, number, count)?;
    write::array(call.out, places.len());
    for place in places {
        call.check_reply()?;
        let Some((member, ())) = call.view.peek_set(key).and_then(|members| members.at(place))
        else {
            break;
        };
        write::bulk(call.out, member);
    }
    Ok(())
}

pub fn spop(call: &mut Call<'_>) -> Done {
    let key = call.arg(1);
    if call.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let mut wanted = 1;
    if call.len() == 3 {
        let wrong = Error::fixed("ERR value is out of range, must be positive");
        wanted = usize::try_from(call.number(2)?).map_err(|_| wrong)?;
    }
    let number = call.view.set(key)?.map_or(0, Dense::len);
    let taken = wanted.min(number);
    if call.len() == 3 {
        write::set(call.out, call.client.protocol, taken);
    } else if taken == 0 {
        call.null();
    }
    if taken == 0 {
        return Ok(());
    }
    let mut popped = Vec::with_capacity(taken);
    for left in (number - taken + 1..=number).rev() {
        let place = call.view.keyspace.random_below(left);
        let take = |members: &mut Set| (true, members.remove_at(place.min(members.len() - 1)).0);
        popped.push(call.view.change_set(key, take)?);
    }
    for member in &popped {
        write::bulk(call.out, member);
    }
    let members = popped.iter().map(|member| &**member);
    let told: Vec<&[u8]> = [&b"SREM"[..], key].into_iter().chain(members).collect();
    call.tell(&told);
    Ok(())
}
