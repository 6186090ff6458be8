//! The scripts of Magento's own backend over Symfony's (2.4.9 and later, and Mage-OS). A value is a string under
//! `NAMESPACE:ID`. Sets name it by its tags, one set has its tags, and one has all ids.

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::garbage::AT_ONCE_MAX_KEYS;
use super::super::guard;
use super::super::value::Set;
use super::scan;
use super::scripts::{self, Words};
use crate::resp::{self, write};

/// Where the tags of a value stand, and all ids, for scripts that are not told.
const TAGS_OF_VALUE: &[u8] = b"cache:id_tags:";
const ALL_IDS: &[u8] = b"cache:all_ids";

type Ids = Vec<Box<[u8]>>;

/// Where a version's values and sets stand.
struct Places<'a> {
    /// Of a tag's set, before the namespace.
    tag: &'a [u8],
    namespace: &'a [u8],
    /// Before an id, one after another: the keys that it may stand for.
    values: Vec<Vec<u8>>,
    /// Before an id: the set of its tags; and the set of all ids. `None`: the version leaves them as they are.
    index: Option<(Vec<u8>, &'a [u8])>,
    /// A clean takes ids out of the tags' sets that it was asked for, too.
    leaves_sets: bool,
}

impl<'a> Places<'a> {
    fn of(words: &Words<'a>) -> Self {
        let namespace = words.arg(2);
        Self {
            tag: words.arg(1),
            namespace,
            values: vec![[namespace, b":"].concat()],
            index: Some(([TAGS_OF_VALUE, namespace].concat(), ALL_IDS)),
            leaves_sets: false,
        }
    }

    /// That of 2.4.9 deletes the id behind the namespace, where no value stands. What it is to clean goes here, as it
    /// does on other nodes.
    fn of_249(words: &Words<'a>) -> Self {
        let places = Self::of(words);
        let values = vec![places.namespace.to_vec(), places.values.concat()];
        Self { values, index: None, ..places }
    }

    /// An argument says what stands before an id.
    fn told(words: &Words<'a>) -> Self {
        Self { values: vec![words.arg(4).to_vec()], ..Self::of(words) }
    }

    /// Three arguments say where all stands.
    fn whole(words: &Words<'a>, from: usize) -> Self {
        let (values, tags, all_ids) = (words.arg(from), words.arg(from + 1), words.arg(from + 2));
        let index = Some(([tags, words.arg(2)].concat(), all_ids));
        Self { values: vec![values.to_vec()], index, leaves_sets: true, ..Self::of(words) }
    }

    fn set(&self, tag: &[u8]) -> Vec<u8> {
        [self.tag, self.namespace, tag].concat()
    }
}

pub fn clean_of_249(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::of_249(words), None)
}

pub fn clean(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::of(words), None)
}

pub fn clean_told(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::told(words), None)
}

pub fn clean_whole(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::whole(words, 3), None)
}

pub fn clean_scope_of_249(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::of_249(words), Some(words.arg(3)))
}

pub fn clean_scope(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::of(words), Some(words.arg(3)))
}

pub fn clean_scope_told(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::told(words), Some(words.arg(3)))
}

pub fn clean_scope_whole(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    clean_any(call, words, &Places::whole(words, 4), Some(words.arg(3)))
}

/// KEYS: tags. ARGV: prefix of a tag's set, namespace, and more by version. Deletes what has any of the tags and,
/// where there is one, the scope's. Other nodes are told the tags: that of a scope has all values of a kind.
fn clean_any(
    call: &mut Call<'_>,
    words: &Words<'_>,
    places: &Places<'_>,
    scope: Option<&[u8]>,
) -> Done {
    let sets: Vec<Vec<u8>> = words.keys.iter().map(|tag| places.set(tag)).collect();
    let mut sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    let scope = scope.map(|tag| places.set(tag));
    let ids = ids_of(call, &sets, scope.as_deref())?;
    match scope {
        Some(_) => call.cleans_in_part(&sets),
        None => call.cleans_tags(&sets),
    }
    forget(call, places, &ids)?;
    call.count(ids.len());
    if !places.leaves_sets || ids.is_empty() {
        return Ok(());
    }
    let Some(scope) = &scope else {
        for set in sets {
            call.step_delete(set);
        }
        return Ok(());
    };
    sets.push(scope);
    let ids: Vec<&[u8]> = ids.iter().map(|id| &**id).collect();
    for set in sets {
        call.step_take_out(set, &ids)?;
    }
    Ok(())
}

/// The ids in any of some sets, and in that of a scope.
fn ids_of(call: &mut Call<'_>, sets: &[&[u8]], scope: Option<&[u8]>) -> Result<Ids, Error> {
    let mut found = Set::default();
    for set in sets {
        for (id, ()) in call.view.set(set)?.into_iter().flat_map(Set::iter) {
            found.insert(id, ());
        }
    }
    let scope = match scope {
        Some(scope) if !found.is_empty() => match call.view.set(scope)? {
            Some(members) => Some(members),
            None => return Ok(Vec::new()),
        },
        _ => None,
    };
    let is_in = |id: &[u8]| scope.is_none_or(|members| members.contains(id));
    Ok(found.iter().map(|(id, ())| id).filter(|id| is_in(id)).map(Box::from).collect())
}

/// Values go, and all that says of them which tags they have.
fn forget(call: &mut Call<'_>, places: &Places<'_>, ids: &[Box<[u8]>]) -> Done {
    let are_many = ids.len() > AT_ONCE_MAX_KEYS;
    for id in ids {
        for before in &places.values {
            call.step_delete_of(&[before, &**id].concat(), are_many);
        }
        if let Some((tags, all_ids)) = &places.index {
            forget_tags(call, (places.tag, places.namespace), &[tags, &**id].concat(), id)?;
            call.step_take_out(all_ids, &[id])?;
        }
    }
    Ok(())
}

/// Takes an id out of the sets of its tags, and forgets which these are.
fn forget_tags(
    call: &mut Call<'_>,
    (tag, namespace): (&[u8], &[u8]),
    tags: &[u8],
    id: &[u8],
) -> Done {
    for name in call.step_members(tags)? {
        call.step_take_out(&[tag, namespace, &name].concat(), &[id])?;
    }
    call.step_delete(tags);
    Ok(())
}

/// ARGV: key of a value, its id, the set of all ids, prefix of a tag's set, namespace, the set of its tags; tags. A value
/// that is there gets these tags instead of those it had.
pub fn name(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let (id, all_ids, of_value) = (words.arg(2), words.arg(3), words.arg(6));
    let is_there = call.view.contains(words.arg(1));
    call.flag(is_there);
    // Where the client's own was not kept it is another's, which has tags of its own.
    if !is_there || call.is_unkept(words.arg(1)) {
        return Ok(());
    }
    let set = |tag: &[u8]| [words.arg(4), words.arg(5), tag].concat();
    let tags = &words.arguments[6..];
    for old in call.step_members(of_value)? {
        if !tags.contains(&&*old) {
            call.step_take_out(&set(&old), &[id])?;
        }
    }
    call.step_add(all_ids, &[id])?;
    call.step_delete(of_value);
    for tag in tags {
        let set = set(tag);
        call.step_add(&set, &[id])?;
        guard::after_naming(&mut call.view, &mut call.client.own, &set, &[id]);
        call.step_add(of_value, &[tag])?;
    }
    guard::after_all_names(&mut call.view, &mut call.client.own, words.arg(1));
    Ok(())
}

/// ARGV: prefix of a tag's set, namespace, prefix of keys; ids. Those whose value is gone are taken out of their tags'
/// sets: nothing is cleaned by that.
pub fn forget_if_gone(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let places = (words.arg(1), words.arg(2));
    let mut forgotten = 0;
    for id in &words.arguments[3..] {
        if call.view.contains(&words.join(3, id)) {
            continue;
        }
        forget_tags(call, places, &[TAGS_OF_VALUE, places.1, id].concat(), id)?;
        call.step_take_out(ALL_IDS, &[id])?;
        forgotten += 1;
    }
    call.count(forgotten);
    Ok(())
}

/// KEYS: values. ARGV: prefix of a tag's set, prefix of the sets that have a value's tags, the set of all ids, how many
/// tags come next; tags; the values' ids. Those whose value is gone are taken out of these tags' sets, too, which a
/// clean before has told: nothing is cleaned by that.
pub fn forget_deleted(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let number = resp::integer(words.arg(4)).and_then(|number| usize::try_from(number).ok());
    let number = number.ok_or(Error::NOT_AN_INTEGER)?;
    let rest = words.arguments.get(4..).unwrap_or_default();
    let (tags, ids) = rest.split_at_checked(number).ok_or(scripts::TOO_FEW)?;
    if ids.len() < words.keys.len() {
        return Err(scripts::TOO_FEW);
    }
    let all = words.keys.iter().zip(ids);
    let gone: Vec<&[u8]> =
        all.filter(|(key, _)| !call.view.contains(key)).map(|(_, id)| *id).collect();
    for id in &gone {
        forget_tags(call, (words.arg(1), b""), &words.join(2, id), id)?;
    }
    for tag in tags {
        call.step_take_out(&words.join(1, tag), &gone)?;
    }
    call.step_take_out(words.arg(3), &gone)?;
    call.integer(1);
    Ok(())
}

/// KEYS: a lock. ARGV: whose it is. Lets it go, if it is still theirs.
pub fn unlock(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let key = words.key(1);
    let is_theirs = call.view.string(key)?.is_some_and(|owner| owner == words.arg(1));
    if is_theirs {
        let left = call.deletes(&[key]);
        call.step_delete(key);
        call.remove_left(&left);
    }
    call.flag(is_theirs);
    Ok(())
}

/// KEYS: patterns of the sets of tags and of those that have a value's tags, the set of all ids. ARGV: keys at once.
/// Magento is about to delete all values that this node has, and so other nodes empty the database.
pub fn empty(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    if resp::integer(words.arg(1)).is_some_and(|at_once| at_once < 1) {
        return Err(Error::SYNTAX);
    }
    call.flushes(&[call.view.at]);
    let mut deleted = 0;
    for pattern in [words.key(1), words.key(2)] {
        let found = scan::matching(call, pattern);
        let are_many = found.len() > AT_ONCE_MAX_KEYS;
        deleted += found.len();
        for key in found {
            call.step_delete_of(&key, are_many);
        }
    }
    deleted += usize::from(call.view.contains(words.key(3)));
    call.step_delete(words.key(3));
    call.count(deleted);
    Ok(())
}

/// KEYS: pattern of keys, prefix of tags' sets. ARGV: keys at once, cursor. Looks for keys that have ended among those
/// that are there, where none has.
pub fn collect(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let at_once = resp::integer(words.arg(1)).and_then(|at_once| usize::try_from(at_once).ok());
    let at_once = at_once.filter(|at_once| *at_once > 0).ok_or(Error::SYNTAX)?;
    let next = scan::next_cursor(call, call.len() - words.arguments.len() + 1, at_once)?;
    write::array(call.out, 2);
    call.bulk(next.to_string().as_bytes());
    call.count(0);
    Ok(())
}
