//! Scripts of PHP's cache backends, which are known by their SHA1 and done natively. There is no Lua:
//! other scripts are refused.

use aws_lc_rs::digest;

use super::super::command::{Call, Done};
use super::super::error::Error;
use super::super::garbage::AT_ONCE_MAX_KEYS;
use super::super::guard;
use super::super::value::{Entry, Set, Value};
use super::magento;
use crate::resp::{self, write};

/// One that is done here.
struct Script {
    /// Of its text, in lower case.
    sha1: &'static str,
    /// Keys and arguments that it needs.
    takes: (usize, usize),
    run: fn(&mut Call<'_>, &Words<'_>) -> Done,
}

const fn of(
    sha1: &'static str,
    takes: (usize, usize),
    run: fn(&mut Call<'_>, &Words<'_>) -> Done,
) -> Script {
    Script { sha1, takes, run }
}

/// The texts of one script differ by version, in a flag for other servers, or in DEL for UNLINK.
const SCRIPTS: &[Script] = &[
    // Cm_Cache_Backend_Redis: save, clean by any of the tags, collect what has ended.
    of("1aa53383846dbeb66b01e7f17908449a96ddf717", (0, 15), save),
    of("1617c9fb2bda7d790bb1aaa320c1099d81825e64", (0, 15), save),
    of("321be2370adbc52c83c52a33b72921111a989a6d", (0, 6), clean),
    of("39383dcf36d2e71364a666b2a806bc8219cd332d", (0, 6), clean),
    of("a6d92d0d20e5c8fa3d1a4cf7417191b66676ce43", (0, 6), clean),
    of("42ab2fe548aee5ff540123687a2c39a38b54e4a2", (0, 5), clean_sets),
    of("1dc59e493285befe678c480c8f10f1a7cc352c71", (1, 4), clean_sets),
    of("0a71531291ec58a1b116d9787370b9179808a633", (0, 5), collect),
    of("6990147f5d1999b936dac3b6f7e5d2071908bcf3", (0, 5), collect),
    of("c00416b970f1aa6363b44965d4cf60ee99a6f065", (0, 5), collect),
    of("9af41155cf293a95fd1a39368fecfbe408362380", (3, 2), forget_if_gone),
    // Symfony's RedisTagAwareAdapter: delete and tell the tags, invalidate a tag.
    of("04907746998413a590f8f9d3fa941875bd85c6a8", (1, 0), delete_and_tell_tags),
    of("b4f1922be1c7597e8a68729541840ea1c72f190f", (1, 0), delete_and_tell_tags),
    of("43d401bd2bd0ad864c3ca221512cda1b6215ec23", (1, 1), invalidate),
    of("cea3ea3b59f1b3411febbbeb5f94de8a695cec73", (1, 1), invalidate),
    // Magento's own over Symfony's: clean by any of the tags, the same within a scope; as 2.4.9 has it, as two later
    // versions have it, and as Mage-OS has it.
    of("9a421fa1aee8672289d0afa662be6f9c2fbe6e40", (1, 3), magento::clean_of_249),
    of("a4f3a8c941c4bcccd5d398ded61292cf7b9e45ca", (1, 3), magento::clean),
    of("7fe6c265605850907fdff5caacf540b3869f90dc", (1, 4), magento::clean_told),
    of("22cba9766d14efafdc13d536604de6210075f528", (1, 5), magento::clean_whole),
    of("3718a4ed457296abe63e096890eff92093c0ed17", (1, 5), magento::clean_whole),
    of("ba9a0c694c782bb1a8f0e0b21fbc73e284d1ba5a", (1, 3), magento::clean_scope_of_249),
    of("89dadabf514f9b465ed7eb4b25ffb12ba84a8bf7", (1, 3), magento::clean_scope),
    of("447708840ed150d0e8ea735c9a4d4fd33c5c8165", (1, 4), magento::clean_scope_told),
    of("4426fc241b2d844cc4c2776f7ff67b8341bf9f4d", (1, 6), magento::clean_scope_whole),
    // Name a value that was saved, forget those that are gone, and those that were deleted, let go a lock, empty the
    // cache, look for what has ended.
    of("95bbb2ec0b24a459d03267f7c68333bf85bcd4e9", (0, 6), magento::name),
    of("24db9536a772654e5e7be093101476d0fff83d05", (0, 3), magento::forget_if_gone),
    of("1f5f19c9994c8577e22e0a69ae0565f6c58c6922", (0, 4), magento::forget_deleted),
    of("d02e481a9c91ceec59c5822a58a49d5d5d7ac80b", (1, 1), magento::unlock),
    of("2842452a6dc48198721c180402d465eb568ace07", (3, 0), magento::empty),
    of("b7e5e6a8c5af00ca38891bf2684cbd0c4175291f", (2, 2), magento::collect),
    // It returns 1: is there Lua?
    of("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", (0, 0), is_there_lua),
];

/// Where Lua would find nil.
pub(super) const TOO_FEW: Error = Error::fixed("ERR The script takes more keys or arguments");

/// What a script is called with.
pub(super) struct Words<'a> {
    pub keys: Vec<&'a [u8]>,
    pub arguments: Vec<&'a [u8]>,
}

impl<'a> Words<'a> {
    /// KEYS, counted from 1 as Lua does; that they are there was checked.
    pub fn key(&self, number: usize) -> &'a [u8] {
        self.keys.get(number - 1).copied().unwrap_or_default()
    }

    /// ARGV, counted from 1.
    pub fn arg(&self, number: usize) -> &'a [u8] {
        self.arguments.get(number - 1).copied().unwrap_or_default()
    }

    /// An argument with a name behind it.
    pub fn join(&self, number: usize, name: &[u8]) -> Vec<u8> {
        [self.arg(number), name].concat()
    }
}

pub fn eval(call: &mut Call<'_>) -> Done {
    match known(&sha1(call.arg(1))) {
        Some(script) => run(call, script),
        None => Err(refuse(call, &sha1(call.arg(1)))),
    }
}

pub fn evalsha(call: &mut Call<'_>) -> Done {
    match known(call.arg(1)) {
        Some(script) => run(call, script),
        // Who hears this sends the script itself, and hears why that is not run.
        None => Err(Error::fixed("NOSCRIPT No matching script. Please use EVAL.")),
    }
}

pub fn script_load(call: &mut Call<'_>) -> Done {
    let sha1 = sha1(call.arg(2));
    if known(&sha1).is_none() {
        return Err(refuse(call, &sha1));
    }
    call.bulk(&sha1);
    Ok(())
}

pub fn script_exists(call: &mut Call<'_>) -> Done {
    write::array(call.out, call.len() - 2);
    for sha1 in call.args(2) {
        call.flag(known(sha1).is_some());
    }
    Ok(())
}

/// There is nothing to forget.
pub fn script_flush(call: &mut Call<'_>) -> Done {
    let is_well = match call.len() {
        2 => true,
        3 => call.is(2, "SYNC") || call.is(2, "ASYNC"),
        _ => false,
    };
    if !is_well {
        return Err(Error::fixed("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    call.ok();
    Ok(())
}

/// Whose script is refused may take that for done (Magento 2.4.9 its cleans): so it is noted, for a log.
fn refuse(call: &mut Call<'_>, sha1: &[u8]) -> Error {
    let keyspace = &mut *call.view.keyspace;
    keyspace.refused_scripts += 1;
    keyspace.refused_script.get_or_insert_with(|| sha1.into());
    REFUSAL
}

/// What php-redis answers an error of ERR with is false, and an exception to one of its own kind. Magento takes
/// the former for done, and does without scripts after the latter.
const REFUSAL: Error = Error::fixed(
    "NOLUA This server has no Lua, and this script is none of Magento's that it knows (use_lua)",
);

/// Magento asks before it cleans by script. Once one was refused it had better do all with commands.
fn is_there_lua(call: &mut Call<'_>, _: &Words<'_>) -> Done {
    if call.view.keyspace.refused_scripts > 0 {
        return Err(REFUSAL);
    }
    call.integer(1);
    Ok(())
}

fn known(sha1: &[u8]) -> Option<&'static Script> {
    SCRIPTS.iter().find(|script| script.sha1.as_bytes().eq_ignore_ascii_case(sha1))
}

/// In hexadecimal digits. It names a script, and guards nothing.
fn sha1(text: &[u8]) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text);
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    digest.as_ref().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn run(call: &mut Call<'_>, script: &'static Script) -> Done {
    let number = call.number(2)?;
    let Ok(number) = usize::try_from(number) else {
        return Err(Error::fixed("ERR Number of keys can't be negative"));
    };
    if number > call.len() - 3 {
        return Err(Error::fixed("ERR Number of keys can't be greater than number of args"));
    }
    let keys: Vec<&[u8]> = call.args(3).take(number).collect();
    let words = Words { keys, arguments: call.args(3 + number).collect() };
    if words.keys.len() < script.takes.0 || words.arguments.len() < script.takes.1 {
        return Err(TOO_FEW);
    }
    // Told step by step: what a script does depends on the time.
    call.is_told = true;
    (script.run)(call, &words)
}

/// The steps that scripts consist of; each does a command, and tells it.
impl Call<'_> {
    pub(super) fn step_add(&mut self, set: &[u8], members: &[&[u8]]) -> Done {
        let added = self.view.change_set(set, |own| {
            let new = members.iter().filter(|member| own.insert(member, ()).is_none()).count();
            (new > 0, new)
        })?;
        if added > 0 {
            let words: Vec<&[u8]> =
                [b"SADD", set].into_iter().chain(members.iter().copied()).collect();
            self.tell(&words);
        }
        Ok(())
    }

    pub(super) fn step_take_out(&mut self, set: &[u8], members: &[&[u8]]) -> Done {
        if members.is_empty() || self.view.set(set)?.is_none() {
            return Ok(());
        }
        let removed = self.view.change_set(set, |own| {
            let gone = members.iter().filter(|member| own.remove(member).is_some()).count();
            (gone > 0, gone)
        })?;
        if removed > 0 {
            let words: Vec<&[u8]> =
                [b"SREM", set].into_iter().chain(members.iter().copied()).collect();
            self.tell(&words);
        }
        Ok(())
    }

    pub(super) fn step_delete(&mut self, key: &[u8]) {
        self.step_delete_of(key, false);
    }

    /// Deletes a key, whose memory is freed later where `is_one_of_many`.
    pub(super) fn step_delete_of(&mut self, key: &[u8], is_one_of_many: bool) {
        if self.view.remove_one_of(key, is_one_of_many) {
            self.tell(&[b"DEL", key]);
        }
    }

    pub(super) fn step_members(&mut self, set: &[u8]) -> Result<Vec<Box<[u8]>>, Error> {
        let members = self.view.set(set)?.into_iter().flat_map(Set::iter);
        Ok(members.map(|(member, ())| member.into()).collect())
    }
}

/// KEYS: tags. ARGV: prefix of keys; the fields for data, tags, time, and whether it never ends; the set of
/// all tags, the prefix of a tag's set, the set of all ids; id, data, tags, time, never ends (0 or 1),
/// seconds; whether the set of all ids is kept. Gives the tags that the id had.
fn save(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let key = words.join(1, words.arg(9));
    let sets: Vec<Vec<u8>> = words.keys.iter().map(|tag| words.join(7, tag)).collect();
    let guarded = guard::before_save(&mut call.view, &call.client.own, &key, &sets);
    let done = save_all(call, words, &key, &sets);
    guard::after_save(guarded, &mut call.view, &mut call.client.own);
    done
}

fn save_all(call: &mut Call<'_>, words: &Words<'_>, key: &[u8], sets: &[Vec<u8>]) -> Done {
    let id = words.arg(9);
    let before = call.view.hash(key)?.and_then(|fields| fields.get(words.arg(3)));
    let before = before.map(|tags| tags.to_vec()).unwrap_or_default();
    let never_ends = words.arg(13) != b"0";
    let lifetime = if never_ends { None } else { Some(seconds(words.arg(14))?) };
    let fields = (2..=5).map(|at| (words.arg(at), words.arg(at + 8)));
    call.view.change_hash(key, |own| {
        for (field, value) in fields.clone() {
            own.write(field, value);
        }
        (true, ())
    })?;
    let told: Vec<&[u8]> =
        [b"HSET", key].into_iter().chain(fields.flat_map(|(a, b)| [a, b])).collect();
    call.tell(&told);
    match lifetime {
        None => {}
        Some(lifetime) if lifetime <= 0 => call.step_delete(key),
        Some(lifetime) => {
            let end = lifetime.saturating_mul(1_000).saturating_add(call.view.now_ms);
            call.view.set_end(key, Some(end));
            call.tell(&[b"PEXPIREAT", key, end.to_string().as_bytes()]);
        }
    }
    if !words.keys.is_empty() {
        call.step_add(words.arg(6), &words.keys)?;
    }
    for set in sets {
        call.step_add(set, &[id])?;
    }
    if words.arg(15) == b"1" {
        call.step_add(words.arg(8), &[id])?;
    }
    call.bulk(&before);
    Ok(())
}

fn seconds(text: &[u8]) -> Result<i64, Error> {
    let seconds = resp::integer(text).ok_or(Error::NOT_AN_INTEGER)?;
    if seconds.checked_mul(1_000).is_none() {
        return Err(Error::expire_time("expire"));
    }
    Ok(seconds)
}

/// KEYS: tags. ARGV: prefix of a tag's set, prefix of keys, the set of all tags, the set of all ids, whether
/// that is kept, tags at once (here all).
fn clean(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let all_ids = (words.arg(5) == b"1").then(|| words.arg(4));
    let sets: Vec<Vec<u8>> = words.keys.iter().map(|tag| words.join(1, tag)).collect();
    let sets: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    clean_sets_of(call, &sets, words.arg(2), all_ids)?;
    call.step_take_out(words.arg(3), &words.keys)?;
    call.integer(1);
    Ok(())
}

/// The older form of it. KEYS: sets of tags. ARGV: prefix of keys, the set of all tags, the set of all ids,
/// whether that is kept, perhaps tags at once.
fn clean_sets(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let all_ids = (words.arg(4) == b"1").then(|| words.arg(3));
    clean_sets_of(call, &words.keys, words.arg(1), all_ids)?;
    call.step_take_out(words.arg(2), &words.keys)?;
    call.integer(1);
    Ok(())
}

/// Deletes the keys whose ids are in sets, and the sets.
fn clean_sets_of(
    call: &mut Call<'_>,
    sets: &[&[u8]],
    prefix: &[u8],
    all_ids: Option<&[u8]>,
) -> Done {
    call.cleans_tags(sets);
    for set in sets {
        clean_set(call, set, prefix, all_ids)?;
    }
    Ok(())
}

/// Deletes the keys whose ids are in a set, and the set.
fn clean_set(call: &mut Call<'_>, set: &[u8], prefix: &[u8], all_ids: Option<&[u8]>) -> Done {
    let are_many = call.view.set(set)?.is_some_and(|own| own.len() > AT_ONCE_MAX_KEYS);
    if !are_many {
        let ids = call.step_members(set)?;
        for id in &ids {
            call.step_delete(&[prefix, id].concat());
        }
        take_out_ids(call, all_ids, ids.iter().map(|id| &**id))?;
        call.step_delete(set);
        return Ok(());
    }
    // Everybody waits until they are gone: what they take is freed later, and nothing is copied.
    let Some(Entry { value: Value::Set(ids), .. }) = call.view.remove(set) else { return Ok(()) };
    call.tell(&[b"DEL", set]);
    let mut key = prefix.to_vec();
    for (id, ()) in ids.iter() {
        key.truncate(prefix.len());
        key.extend_from_slice(id);
        if call.view.discard(&key) {
            call.tell(&[b"DEL", &key]);
        }
    }
    let done = take_out_ids(call, all_ids, ids.iter().map(|(id, ())| id));
    call.view.keyspace.free_later(*ids);
    done
}

/// Takes ids out of the set of all, where that is kept.
fn take_out_ids<'i>(
    call: &mut Call<'_>,
    all_ids: Option<&[u8]>,
    ids: impl Iterator<Item = &'i [u8]>,
) -> Done {
    let Some(all_ids) = all_ids else { return Ok(()) };
    let ids: Vec<&[u8]> = ids.collect();
    call.step_take_out(all_ids, &ids)
}

/// KEYS: tags. ARGV: prefix of keys, the set of all tags, the set of all ids, prefix of a tag's set, whether
/// the set of all ids is kept. Takes ids out of the tags' sets whose keys are gone.
fn collect(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let keeps_ids = words.arg(5) == b"1";
    for tag in &words.keys {
        let set = words.join(4, tag);
        let (mut gone, mut are_left) = (Vec::new(), false);
        for id in call.step_members(&set)? {
            if call.view.contains(&words.join(1, &id)) {
                are_left = true;
            } else {
                gone.push(id);
            }
        }
        let gone: Vec<&[u8]> = gone.iter().map(|id| &**id).collect();
        call.step_take_out(&set, &gone)?;
        if keeps_ids {
            call.step_take_out(words.arg(3), &gone)?;
        }
        if !are_left {
            call.step_delete(&set);
            call.step_take_out(words.arg(2), &[tag])?;
        }
    }
    call.integer(1);
    Ok(())
}

/// KEYS: a key, its tag's set, the set of all ids. ARGV: the key's id, whether the set of all ids is kept.
fn forget_if_gone(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let is_there = call.view.contains(words.key(1));
    if !is_there {
        call.step_take_out(words.key(2), &[words.arg(1)])?;
        if words.arg(2) == b"1" {
            call.step_take_out(words.key(3), &[words.arg(1)])?;
        }
    }
    call.flag(is_there);
    Ok(())
}

/// KEYS: an item. Its value begins with the tags, where it has some: a mark, and their length at a fixed
/// place (Symfony's `TagAwareMarshaller`).
fn delete_and_tell_tags(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let key = words.key(1);
    call.deletes(&[key]);
    let tags = call.view.string(key)?.and_then(|value| tags_of(value)).unwrap_or_default().to_vec();
    call.step_delete(key);
    call.bulk(&tags);
    Ok(())
}

fn tags_of(value: &[u8]) -> Option<&[u8]> {
    // Lua counts from 1.
    let is_tagged = value.len() > 13 && value[0] == 0x9d && value[5] == 0 && value[9] == 0x5f;
    let length = u32::from_be_bytes([0, *value.get(10)?, *value.get(11)?, *value.get(12)?]);
    let rest = value.get(13..)?;
    is_tagged.then(|| &rest[..rest.len().min(length as usize)])
}

/// KEYS: a tag's set. ARGV: prefix of items. Deletes the items and the set. Those that other servers of a
/// cluster have would be told: here there are none.
fn invalidate(call: &mut Call<'_>, words: &Words<'_>) -> Done {
    let set = words.key(1);
    clean_sets_of(call, &[set], words.arg(1), None)?;
    call.step_delete(&[b"{", set, b"}", set].concat());
    write::array(call.out, 2);
    call.bulk(b"0");
    write::array(call.out, 0);
    Ok(())
}
