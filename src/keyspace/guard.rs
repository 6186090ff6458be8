//! What a client writes that is older than a clean is not kept: it is written, answered as always, and what
//! stood there before is put back, all before anybody else has a turn.

use super::coherence::{Coherence, TAGS, tags_of, with};
use super::own::Own;
use super::table::{Command, Flags};
use super::value::{Entry, Value};
use super::view::View;
use crate::resp::Request;

/// What becomes of what a command writes.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Keys whose value is not kept, with what stands there.
    back: Vec<(Box<[u8]>, Option<Entry>)>,
    /// The tag was cleaned whose set gets members.
    is_late_tag: bool,
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

/// Before a command; `None`: what it writes is nobody's concern.
pub(super) fn before(
    view: &mut View<'_>,
    own: &mut Own,
    command: &Command,
    request: &Request,
) -> Option<Guarded> {
    let coherence = view.keyspace.coherence.as_deref()?;
    if command.flags.contains(Flags::CLEANS) || command.keys.0 == 0 {
        return None;
    }
    let is_late = own.mark() < coherence.fence.last() && coherence.rules.is_fenced;
    if !is_late {
        return command.flags.contains(Flags::GROWS).then(Guarded::default);
    }
    if is_promise(command, request) {
        return None;
    }
    let mut guarded = Guarded::default();
    with(view, |coherence, view| {
        for key in targets(command, request) {
            guarded.judge(coherence, view, own, (command, request), key);
        }
    });
    Some(guarded)
}

/// After it.
pub(super) fn after(
    guarded: Guarded,
    view: &mut View<'_>,
    own: &mut Own,
    command: &Command,
    request: &Request,
) {
    with(view, |coherence, view| {
        if command.name == "sadd" {
            name_members(coherence, view, own, request, guarded.is_late_tag);
        } else if command.flags.contains(Flags::GROWS) {
            for key in targets(command, request) {
                if let Some(name) = coherence.is_young(view, key) {
                    own.wrote(name);
                }
            }
        }
        put_back(coherence, view, own, guarded.back);
    });
}

fn put_back(
    coherence: &mut Coherence,
    view: &mut View<'_>,
    own: &mut Own,
    back: Vec<(Box<[u8]>, Option<Entry>)>,
) {
    for (key, before) in back {
        coherence.unkept += 1;
        own.not_kept(coherence.fence.name(view.at, &key));
        match before {
            Some(entry) => view.put(&key, entry),
            None => drop(view.remove(&key)),
        }
    }
}

impl Guarded {
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
            self.is_late_tag = command.name == "sadd" && own.is_late(fence, at, name);
            return;
        }
        if rules.is_private(key) {
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
                Tags::Unknown if own.mark() < fence.last_of_tags() => own.doubt(at, key, name),
                Tags::Unknown | Tags::Well => {}
            }
        }
        if is_late {
            let before = view.entry(key).cloned();
            self.back.push((key.into(), before));
        }
    }
}

/// The tags of what is written under a key, from the command or from what it adds to.
fn tags(coherence: &Coherence, view: &View<'_>, own: &Own, request: &Request, key: &[u8]) -> Tags {
    let mut found = Tags::Well;
    for pair in &coherence.rules.tag_sets {
        let Some(value) = pair.of_value(key) else { continue };
        let is_hash = request.is("hset") || request.is("hmset");
        let told = (2..request.len().saturating_sub(1))
            .step_by(2)
            .find(|at| is_hash && request.arg(*at) == Some(TAGS));
        let told = told.and_then(|at| request.arg(at + 1));
        let there = match view.database_ref().entries.get(key).map(|entry| &entry.value) {
            Some(Value::Hash(fields)) if is_hash => tags_of(fields),
            _ => None,
        };
        let Some(tags) = told.or(there) else {
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
fn name_members(
    coherence: &mut Coherence,
    view: &mut View<'_>,
    own: &mut Own,
    request: &Request,
    is_late: bool,
) {
    if !is_late && !own.awaits_names() {
        return;
    }
    let set = request.arg(1).unwrap_or_default();
    let mut named = Vec::new();
    for pair in &coherence.rules.tag_sets {
        let Some(tag) = pair.of_set(set) else { continue };
        named.extend(request.args().skip(2).map(|member| pair.value(&tag, member)));
    }
    for key in named {
        let name = coherence.fence.name(view.at, &key);
        if !is_late {
            own.name(name);
            continue;
        }
        if !own.is_unkept(name) && !coherence.rules.is_private(&key) && view.remove(&key).is_some()
        {
            coherence.unkept += 1;
            own.not_kept(name);
        }
    }
}

/// What stands under the key of a value with known tags, where what the client writes there is not kept.
pub(super) fn before_save(
    view: &mut View<'_>,
    own: &Own,
    key: &[u8],
    sets: &[Vec<u8>],
) -> Option<Guarded> {
    let coherence = view.keyspace.coherence.as_deref()?;
    let (fence, at) = (&coherence.fence, view.at);
    if own.mark() >= fence.last() || !coherence.rules.is_fenced || coherence.rules.is_private(key) {
        return None;
    }
    let is_late = own.is_late(fence, at, fence.name(at, key))
        || sets.iter().any(|set| own.is_late(fence, at, fence.name(at, set)));
    is_late.then(|| {
        let before = view.entry(key).cloned();
        Guarded { back: vec![(key.into(), before)], is_late_tag: false }
    })
}

/// Puts it back.
pub(super) fn after_save(guarded: Option<Guarded>, view: &mut View<'_>, own: &mut Own) {
    if let Some(guarded) = guarded {
        with(view, |coherence, view| put_back(coherence, view, own, guarded.back));
    }
}

/// At the end of a client's turn: values whose tags were not known, and which none has named, are not kept.
pub(super) fn end_turn(view: &mut View<'_>, own: &mut Own) {
    let settled = own.take_settled();
    if !settled.is_empty() {
        with(view, |coherence, _| coherence.settle(&settled));
    }
    for (at, key) in own.take_unnamed() {
        let mut view = View { keyspace: view.keyspace, at, now_ms: view.now_ms };
        with(&mut view, |coherence, view| {
            if view.remove(&key).is_some() {
                coherence.unkept += 1;
                own.not_kept(coherence.fence.name(at, &key));
            }
        });
    }
}
