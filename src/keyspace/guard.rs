//! What a client writes that is older than a clean is not kept: it is written, answered as always, and what
//! stood there before is put back, all before anybody else has a turn. [`before`] and [`after`] stand around each
//! command; what else the fence needs to know of it is learned there, too.

use super::coherence::{Coherence, with};
use super::layout::{TAGS, tags_of};
use super::own::{Own, Shadow};
use super::table::{Command, Flags};
use super::value::{Entry, Value};
use super::view::View;
use crate::resp::Request;

/// What is known before a command for after it.
#[derive(Debug)]
pub(super) enum Guarded {
    /// Nobody wants a coherent cache.
    Free,
    /// What it writes stays as it is.
    Kept,
    /// It is looked at what it wrote.
    Watched(Watched),
    /// It is done with what its client alone sees, instead of what stands there.
    Shown(Box<Shown>),
}

/// What becomes of what a command writes.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Keys whose value is not kept, with what stands there. Where nobody knows what was cleaned since the client began,
    /// that may be older than what it writes, and goes as well.
    back: Vec<(Box<[u8]>, Option<Entry>)>,
    /// The tag was cleaned whose set gets members.
    is_late_tag: bool,
}

/// A client's own value, and what stands under its key for the others.
#[derive(Debug)]
pub(super) struct Shown {
    shadow: Shadow,
    stands: Option<Entry>,
}

/// How a value's tags stand to the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tags {
    /// One was cleaned.
    Late,
    /// None was, or it has none.
    Well,
    /// They come later.
    Unknown,
}

/// The keys whose values a command makes or changes.
fn targets<'a>(command: &Command, request: &'a Request) -> impl Iterator<Item = &'a [u8]> {
    let arg = |at: usize| request.arg(at).unwrap_or_default();
    let (from, step, number) = match command.name {
        "mset" => (1, 2, request.len() / 2),
        "copy" | "rename" | "renamenx" => (2, 1, 1),
        _ => (1, 1, 1),
    };
    (0..number).map(move |at| arg(from + at * step))
}

/// Does its reply say what is kept? Locks and counters are no copies of anything.
fn is_promise(command: &Command, request: &Request) -> bool {
    command.flags.contains(Flags::PROMISES)
        || command.name == "set"
            && request.args().skip(3).any(|word| word.eq_ignore_ascii_case(b"NX"))
}

fn is_any_late(view: &View<'_>, own: &Own) -> bool {
    own.mark() < view.keyspace.last_clean()
}

/// Before a command.
pub(super) fn before(
    view: &mut View<'_>,
    own: &mut Own,
    command: &Command,
    request: &Request,
) -> Guarded {
    if view.keyspace.coherence.is_none() {
        return Guarded::Free;
    }
    if own.may_miss()
        && let Some(shown) = show(view, own, command, request)
    {
        return Guarded::Shown(Box::new(shown));
    }
    if !command.flags.contains(Flags::WRITES) {
        return Guarded::Kept;
    }
    match watch(view, own, command, request) {
        Some(watched) => Guarded::Watched(watched),
        None => Guarded::Kept,
    }
}

/// After it; `is_done`: it was not refused.
pub(super) fn after(
    guarded: Guarded,
    view: &mut View<'_>,
    own: &mut Own,
    (command, request): (&Command, &Request),
    is_done: bool,
) {
    let is_shown = matches!(guarded, Guarded::Shown(_));
    match guarded {
        Guarded::Free => return,
        Guarded::Kept => {}
        Guarded::Watched(watched) => {
            view.portraying(|view| watched.settle(view, own, (command, request), is_done));
        }
        Guarded::Shown(shown) => view.portraying(|view| hide(*shown, view, own)),
    }
    let (writes, cleans) =
        (command.flags.contains(Flags::WRITES), command.flags.contains(Flags::CLEANS));
    if cleans {
        own.deleted();
    } else if writes && !is_shown {
        own.misses_nothing();
    } else if !is_shown && own.may_miss() {
        reads(view, own, command, request);
    }
    if !cleans && !command.flags.contains(Flags::COLLECTS) {
        own.looks.stops_collecting();
    }
    if !command.flags.contains(Flags::ROWS) {
        own.looks.ends_row();
    }
}

/// While a client's command is done, what it wrote under the key and was not kept stands there for it: who
/// reads back what it wrote finds it.
fn show(view: &mut View<'_>, own: &mut Own, command: &Command, request: &Request) -> Option<Shown> {
    if command.flags.contains(Flags::CLEANS) {
        return None;
    }
    let mut shadow = own.take_shadow(view.at, one_key(command, request)?)?;
    // A lock is everybody's, and what it writes after it began anew is kept.
    let writes = command.flags.contains(Flags::WRITES);
    if writes && (is_promise(command, request) || !is_any_late(view, own)) {
        return None;
    }
    let entry = std::mem::replace(&mut shadow.entry, Entry::new(Value::String(Vec::new()), None));
    let stands = view.swap(&shadow.key, Some(entry));
    Some(Shown { shadow, stands })
}

/// What stands there for the others, again.
fn hide(shown: Shown, view: &mut View<'_>, own: &mut Own) {
    let Shown { mut shadow, stands } = shown;
    if let Some(entry) = view.swap(&shadow.key, stands) {
        shadow.entry = entry;
        own.shade(shadow);
    }
}

/// A client has read a key, which is not what it wrote there.
fn reads(view: &View<'_>, own: &mut Own, command: &Command, request: &Request) {
    let Some(coherence) = &view.keyspace.coherence else { return };
    if let Some(key) = one_key(command, request) {
        let is_there = view.database_ref().entries.contains(key);
        own.reads(coherence.fence.name(view.at, key), is_there);
    } else if command.keys.0 != 0 {
        // It asks for something else.
        own.misses_nothing();
    }
}

/// The key of a command that names one alone, as MGET may.
fn one_key<'a>(command: &Command, request: &'a Request) -> Option<&'a [u8]> {
    let is_one = match command.keys {
        (1, 1, 1) => true,
        (1, -1, 1) => request.len() == 2,
        _ => false,
    };
    request.arg(1).filter(|_| is_one)
}

/// Before a write; `None`: what it writes is nobody's concern.
fn watch(
    view: &mut View<'_>,
    own: &mut Own,
    command: &Command,
    request: &Request,
) -> Option<Watched> {
    let coherence = view.keyspace.coherence.as_deref()?;
    if command.flags.contains(Flags::CLEANS) || command.keys.0 == 0 {
        return None;
    }
    let is_late = own.mark() < coherence.fence.last() && coherence.rules.is_fenced;
    if !is_late {
        let names = command.flags.contains(Flags::NAMES);
        let concerns =
            if names { own.awaits_names() } else { command.flags.contains(Flags::GROWS) };
        return concerns.then(Watched::default);
    }
    if is_promise(command, request) {
        return None;
    }
    let mut watched = Watched::default();
    with(view, |coherence, view| {
        for key in targets(command, request) {
            watched.judge(coherence, view, own, (command, request), key);
        }
    });
    Some(watched)
}

fn put_back(
    coherence: &mut Coherence,
    view: &mut View<'_>,
    own: &mut Own,
    back: Vec<(Box<[u8]>, Option<Entry>)>,
    makes: bool,
) {
    for (key, before) in back {
        // What it did to another's is not its own.
        let written = view.swap(&key, before).filter(|_| makes);
        view.changed(&key);
        not_kept(coherence, view.at, own, (key, written));
    }
}

/// What was written is not there any more, but for its writer.
fn not_kept(
    coherence: &mut Coherence,
    database: usize,
    own: &mut Own,
    (key, written): (Box<[u8]>, Option<Entry>),
) {
    coherence.unkept += 1;
    let name = coherence.fence.name(database, &key);
    own.not_kept(name);
    if let Some(entry) = written {
        own.shade(Shadow { database, key, name, entry });
    }
}

impl Watched {
    /// Once the command is done.
    fn settle(
        self,
        view: &mut View<'_>,
        own: &mut Own,
        (command, request): (&Command, &Request),
        is_done: bool,
    ) {
        with(view, |coherence, view| {
            let makes = command.flags.contains(Flags::GROWS);
            if command.flags.contains(Flags::NAMES) {
                let named = (request.arg(1).unwrap_or_default(), request.args().skip(2));
                name_members(coherence, view, own, named, self.is_late_tag);
            } else if makes && is_done {
                for key in targets(command, request) {
                    wrote(coherence, view, own, request, key);
                }
            }
            put_back(coherence, view, own, self.back, makes);
        });
    }

    fn judge(
        &mut self,
        coherence: &Coherence,
        view: &mut View<'_>,
        own: &mut Own,
        (command, request): (&Command, &Request),
        key: &[u8],
    ) {
        let (fence, rules, at) = (&coherence.fence, &coherence.rules, view.at);
        let name = fence.name(at, key);
        if rules.is_tag(key) {
            self.is_late_tag = command.flags.contains(Flags::NAMES) && own.is_late(fence, at, name);
            return;
        }
        if rules.is_private(key) {
            return;
        }
        let is_unknown = own.knows_nothing(fence);
        if is_unknown && command.flags.contains(Flags::NAMES) {
            // A set may be the tag of a layout that nobody has told: without a name in it a value outlives its clean.
            return;
        }
        let makes = command.flags.contains(Flags::GROWS) || command.name.starts_with("rename");
        let mut is_late = own.is_unkept(name);
        if makes && !is_late {
            is_late = own.is_late(fence, at, name);
        }
        if makes && !is_late {
            match tags(coherence, view, own, request, key) {
                Tags::Late => is_late = true,
                Tags::Unknown if own.is_any_tag_late(fence.last_of_tags()) => {
                    is_late = !own.doubt(at, key, name);
                }
                Tags::Unknown | Tags::Well => {}
            }
        }
        if is_late {
            let before = if is_unknown && makes { None } else { view.entry(key).cloned() };
            self.back.push((key.into(), before));
        }
    }
}

/// A value was written which tags may name.
fn wrote(coherence: &mut Coherence, view: &View<'_>, own: &mut Own, request: &Request, key: &[u8]) {
    if !coherence.rules.is_tagged(key) {
        return;
    }
    let name = coherence.fence.name(view.at, key);
    own.writes(name);
    let is_known = told_tags(request).is_some() || {
        let Some(entry) = view.database_ref().entries.get(key) else { return };
        tags_of(entry).is_some()
    };
    coherence.young.add(name, view.at, key, is_known, view.now_ms);
    if !is_known {
        own.wrote(name);
    }
}

/// The tags that a command writes into a hash.
fn told_tags(request: &Request) -> Option<&[u8]> {
    if !request.is("hset") && !request.is("hmset") {
        return None;
    }
    let told = (2..request.len().saturating_sub(1)).step_by(2);
    told.into_iter().find(|at| request.arg(*at) == Some(TAGS)).and_then(|at| request.arg(at + 1))
}

/// The tags of what is written under a key, from the command or from what it adds to.
fn tags(coherence: &Coherence, view: &View<'_>, own: &Own, request: &Request, key: &[u8]) -> Tags {
    let mut found = Tags::Well;
    for pair in &coherence.rules.tag_sets {
        let Some(value) = pair.of_value(key) else { continue };
        let is_hash = request.is("hset") || request.is("hmset");
        let there = || view.database_ref().entries.get(key).filter(|_| is_hash).and_then(tags_of);
        let Some(tags) = told_tags(request).or_else(there) else {
            found = Tags::Unknown;
            continue;
        };
        let fence = &coherence.fence;
        let mut tags = tags.split(|byte| *byte == b',').filter(|tag| !tag.is_empty());
        let is_late =
            |tag| own.is_late(fence, view.at, fence.name(view.at, &pair.set(&value, tag)));
        if tags.any(is_late) {
            return Tags::Late;
        }
    }
    found
}

/// A tag's set has got members: where that tag was cleaned since the client began, what they name goes, but
/// for what another has written after the client's own was not kept.
fn name_members<'m>(
    coherence: &mut Coherence,
    view: &mut View<'_>,
    own: &mut Own,
    (set, members): (&[u8], impl Iterator<Item = &'m [u8]> + Clone),
    is_late: bool,
) {
    if !is_late && !own.awaits_names() {
        return;
    }
    let mut named = Vec::new();
    for pair in &coherence.rules.tag_sets {
        let Some(tag) = pair.of_set(set) else { continue };
        named.extend(members.clone().map(|member| pair.value(&tag, member)));
    }
    for key in named {
        let name = coherence.fence.name(view.at, &key);
        if !is_late {
            own.name(name);
            continue;
        }
        if own.is_unkept(name) || coherence.rules.is_private(&key) {
            continue;
        }
        if let Some(written) = view.remove(&key) {
            not_kept(coherence, view.at, own, (key.into(), Some(written)));
        }
    }
}

/// A script has added members to a set, which may be a tag's.
pub(super) fn after_naming(view: &mut View<'_>, own: &mut Own, set: &[u8], members: &[&[u8]]) {
    view.portraying(|view| {
        with(view, |coherence, view| {
            let (fence, at) = (&coherence.fence, view.at);
            let is_late = coherence.rules.is_fenced
                && coherence.rules.is_tag(set)
                && own.is_late(fence, at, fence.name(at, set));
            name_members(coherence, view, own, (set, members.iter().copied()), is_late);
        });
    });
}

/// A script has named a value by all tags that it has.
pub(super) fn after_all_names(view: &mut View<'_>, own: &mut Own, key: &[u8]) {
    with(view, |coherence, view| {
        let name = coherence.fence.name(view.at, key);
        own.settle(name);
        coherence.young.settle(&[name]);
    });
}

/// What stands under the key of a value with known tags, where what the client writes there is not kept.
pub(super) fn before_save(
    view: &mut View<'_>,
    own: &Own,
    key: &[u8],
    sets: &[Vec<u8>],
) -> Option<Watched> {
    let coherence = view.keyspace.coherence.as_deref()?;
    let (fence, at) = (&coherence.fence, view.at);
    if own.mark() >= fence.last() || !coherence.rules.is_fenced || coherence.rules.is_private(key) {
        return None;
    }
    let is_late = own.is_late(fence, at, fence.name(at, key))
        || sets.iter().any(|set| own.is_late(fence, at, fence.name(at, set)));
    let is_unknown = own.knows_nothing(fence);
    is_late.then(|| {
        let before = if is_unknown { None } else { view.entry(key).cloned() };
        Watched { back: vec![(key.into(), before)], is_late_tag: false }
    })
}

/// Puts it back.
pub(super) fn after_save(watched: Option<Watched>, view: &mut View<'_>, own: &mut Own) {
    let Some(watched) = watched else { return };
    view.portraying(|view| {
        with(view, |coherence, view| put_back(coherence, view, own, watched.back, true));
    });
}

/// At the end of a client's turn: values whose tags were not known, and which none has named, are not kept.
pub(super) fn end_turn(view: &mut View<'_>, own: &mut Own) {
    let settled = own.take_settled();
    if !settled.is_empty() {
        with(view, |coherence, _| coherence.young.settle(&settled));
    }
    for (at, key) in own.take_unnamed() {
        let mut view = View { keyspace: view.keyspace, at, now_ms: view.now_ms };
        with(&mut view, |coherence, view| {
            if let Some(written) = view.remove(&key) {
                not_kept(coherence, at, own, (key, Some(written)));
            }
        });
    }
}
