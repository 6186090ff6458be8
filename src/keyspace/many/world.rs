//! Two nodes of a fleet whose clients save and clean, step by step; after each of them what is there is compared with what is to
//! be there.

use bytes::{Bytes, BytesMut};

use super::super::{Bounds, Clean, Copying, Eviction, Keyspace, Rules, Session, TagSets};
use super::model::{self, Cleaned, Found, Held, LIST, Layout, Model};
use super::{How, IDS, Saves, Setting, Step, Way};
use crate::resp::{Limits, ReadState, Request, Value, decode, read_request};

const SAVE: &str = "1aa53383846dbeb66b01e7f17908449a96ddf717";
const CLEAN: &str = "321be2370adbc52c83c52a33b72921111a989a6d";
const INVALIDATE: &str = "43d401bd2bd0ad864c3ca221512cda1b6215ec23";
const COLLECT: &str = "0a71531291ec58a1b116d9787370b9179808a633";

/// So many values are saved in one turn of a pipeline.
const PIPELINE: usize = 20;
/// What is known of values that were written a moment ago may take so much more after a write.
const YOUNG_MAX_BYTES: usize = 64 << 10;
/// So many parts of a copy are made between two steps, each of so many bytes.
const PARTS: usize = 3;
const PART_BYTES: usize = 100_000;
/// Longer than values are young.
const AGE_MS: i64 = 11_000;

const LIMITS: Limits = Limits {
    inline_max_bytes: 64 << 10,
    bulk_max_bytes: 1 << 20,
    arguments_max: 1 << 20,
    request_max_bytes: 8 << 20,
};

/// A copy that is made while clients go on.
struct Copy {
    copying: Copying,
    again: Keyspace,
    player: Session,
}

/// A node, and what is to be there.
pub struct Node {
    pub keyspace: Keyspace,
    model: Model,
    /// Clients that have read at a moment, and save later what they made of it.
    late: Option<(Session, u64)>,
    copy: Option<Copy>,
    is_calm: bool,
}

/// Both nodes.
pub struct World {
    pub nodes: [Node; 2],
    setting: Setting,
    at: u64,
    now_ms: i64,
    cleaned: Cleaned,
    /// Values of these tags may go beside those that are cleaned, where they are young.
    may_go: Option<(Layout, u8)>,
}

fn keyspace(memory_max_bytes: usize, eviction: Eviction) -> Keyspace {
    Keyspace::new(Bounds { databases: 2, memory_max_bytes, eviction, ..Bounds::default() }, 5)
}

impl Node {
    fn new(setting: &Setting) -> Self {
        let pair = |set, value, list| TagSets::parse(set, value, list).expect("patterns");
        let mut keyspace = keyspace(setting.memory_max_bytes, Eviction::LeastRecentlyUsed);
        keyspace.keep_coherent(Rules {
            tag_sets: vec![
                pair("zc:ti:*", "zc:k:*", Some(LIST)),
                pair("cache:tags:???_*", "???_:*", None),
            ],
            private: Vec::new(),
            indexes: Vec::new(),
            cleans_max: setting.cleans_max,
            told_max_bytes: 1 << 20,
            pause_ms: 1_000,
            renew_ms: 1_000_000,
            is_fenced: setting.is_fenced,
        });
        let is_calm = setting.is_calm;
        Self { keyspace, model: Model::default(), late: None, copy: None, is_calm }
    }

    /// One turn of a client, whose own time stands still: it never pauses.
    fn turn(&mut self, session: &mut Session, now_ms: i64, commands: &[String]) -> Vec<Value> {
        session.begin_turn(&self.keyspace, 0);
        let mut replies = Vec::new();
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let mut out = BytesMut::new();
            session.execute(&mut self.keyspace, &Request::pack(&words), now_ms, &mut out);
            let reply = decode(&out).expect("a reply");
            assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
            replies.push(reply);
        }
        session.end_turn(&mut self.keyspace, now_ms);
        replies
    }

    fn ask(&mut self, session: &mut Session, now_ms: i64, command: String) -> Value {
        self.turn(session, now_ms, &[command]).pop().expect("a reply")
    }

    /// Deletes values in several commands; how many there were.
    fn unlink(&mut self, session: &mut Session, now_ms: i64, keys: &[String], chunk: usize) -> i64 {
        let mut removed = 0;
        for keys in keys.chunks(chunk) {
            match self.ask(session, now_ms, format!("UNLINK {}", keys.join(" "))) {
                Value::Integer(number) => removed += number,
                other => panic!("{other:?}"),
            }
        }
        removed
    }

    /// The commands that save a value, as the backends do it.
    fn saving(&self, saves: &Saves, id: &str, text: &str) -> Vec<String> {
        let Saves { layout, way, tags, seconds, .. } = *saves;
        let key = layout.key(id);
        let old = self.model.values.get(&key).map_or(0, |held| held.tags);
        let names = model::names(tags);
        let (several, all) = (names.join(" "), names.join(","));
        let adds = layout.sets(tags).into_iter().map(|set| format!("SADD {set} {id}"));
        let takes = layout.sets(old & !tags).into_iter().map(|set| format!("SREM {set} {id}"));
        let first = match (layout, way) {
            (Layout::Strings, _) => vec![format!("SETEX {key} {seconds} {text}")],
            (Layout::Hashes, Way::Script) => {
                let script = format!(
                    "EVALSHA {SAVE} {} {several} zc:k: d t m i {LIST} zc:ti: zc:ids {id} {text} {all} 1 0 {seconds} 0",
                    names.len()
                );
                return std::iter::once(script).chain(takes).collect();
            }
            (Layout::Hashes, _) => vec![
                format!("HMSET {key} d {text} t {all} m 1 i 0"),
                format!("SADD {LIST} {several}"),
                format!("EXPIRE {key} {seconds}"),
            ],
        };
        first.into_iter().chain(adds).chain(takes).collect()
    }

    /// A client saves what it made of what it read at a moment, now.
    fn save(&mut self, session: &mut Session, now_ms: i64, saves: &Saves, (made, now): (u64, u64)) {
        let ids: Vec<String> =
            (0..saves.count).map(|at| ((saves.from + at) % IDS).to_string()).collect();
        let text = model::text(made, saves.tags, now, saves.bytes);
        let at_once = if saves.way == Way::Pipeline { PIPELINE } else { 1 };
        for ids in ids.chunks(at_once) {
            let mut commands: Vec<String> =
                ids.iter().flat_map(|id| self.saving(saves, id, &text)).collect();
            if saves.way == Way::Transaction {
                commands.insert(0, "MULTI".to_owned());
                commands.push("EXEC".to_owned());
            }
            self.turn(session, now_ms, &commands);
            for id in ids {
                let end_ms = now_ms + i64::from(saves.seconds) * 1_000;
                let (layout, tags) = (saves.layout, saves.tags);
                self.model.save(id, Held { layout, text: text.clone(), tags, end_ms });
            }
        }
    }

    /// The same, where it may be older than a clean: what was kept of it is looked up.
    fn save_late(&mut self, session: &mut Session, now_ms: i64, saves: &Saves, made: (u64, u64)) {
        let before = self.model.clone();
        self.save(session, now_ms, saves, made);
        let found = Found::of(&self.keyspace, now_ms);
        for id in (0..saves.count).map(|at| ((saves.from + at) % IDS).to_string()) {
            let key = saves.layout.key(&id);
            let (new, old) = (self.model.values.get(&key), before.values.get(&key));
            let there = found.values.get(&key);
            match old.filter(|old| new.map(|new| &new.text) != there && there == Some(&old.text)) {
                Some(old) => drop(self.model.values.insert(key, old.clone())),
                None if there.is_none() => drop(self.model.values.remove(&key)),
                None => {}
            }
        }
        // Whether a set names what was not kept is all the same, as long as it names what there is.
        self.model.sets = found.sets;
    }

    /// What a client cleans by tags.
    fn clean_tags(
        &mut self,
        (how, layout, tags, chunk): (How, Layout, u8, usize),
        now_ms: i64,
    ) -> Result<(), String> {
        let mut session = Session::new(1);
        let sets = layout.sets(tags);
        let is_calm = self.is_calm;
        let tell = |wanted: usize, removed: i64| {
            // Of what is young the first of several commands may take what the next ones name.
            let is_it = |removed| removed == wanted || !is_calm && removed < wanted;
            let is_well = usize::try_from(removed).is_ok_and(is_it);
            if is_well { Ok(()) } else { Err(format!("{removed} of {wanted} values were deleted")) }
        };
        match how {
            How::Intersection | How::Together => {
                let ids = self.model.ids(&sets, true);
                if how == How::Intersection {
                    let said = self.ask(&mut session, now_ms, format!("SINTER {}", sets.join(" ")));
                    assert_eq!(members(&said), ids, "{sets:?}");
                } else {
                    let looks = sets.iter().map(|set| format!("SMEMBERS {set}"));
                    self.turn(&mut session, now_ms, &looks.collect::<Vec<_>>());
                }
                let keys: Vec<String> = ids.iter().map(|id| layout.key(id)).collect();
                let removed = self.unlink(&mut session, now_ms, &keys, chunk);
                return tell(self.model.remove(layout, ids.iter()), removed);
            }
            How::Union => {
                let ids = self.model.ids(&sets, false);
                let said = self.ask(&mut session, now_ms, format!("SUNION {}", sets.join(" ")));
                assert_eq!(members(&said), ids, "{sets:?}");
                let mut commands = vec!["MULTI".to_owned()];
                let keys: Vec<String> = ids.iter().map(|id| layout.key(id)).collect();
                commands
                    .extend(keys.chunks(chunk).map(|keys| format!("UNLINK {}", keys.join(" "))));
                commands.push(format!("UNLINK {}", sets.join(" ")));
                if layout == Layout::Hashes {
                    commands.push(format!("SREM {LIST} {}", model::names(tags).join(" ")));
                }
                commands.push("EXEC".to_owned());
                self.turn(&mut session, now_ms, &commands);
            }
            How::Members => {
                for set in &sets {
                    let ids = self.model.ids(std::slice::from_ref(set), true);
                    let said = self.ask(&mut session, now_ms, format!("SMEMBERS {set}"));
                    assert_eq!(members(&said), ids, "{set}");
                    let keys: Vec<String> = ids.iter().map(|id| layout.key(id)).collect();
                    let removed = self.unlink(&mut session, now_ms, &keys, chunk);
                    tell(self.model.remove(layout, ids.iter()), removed)?;
                    // A set that is not there is the clean by itself.
                    if !ids.is_empty() {
                        self.ask(&mut session, now_ms, format!("DEL {set}"));
                    }
                    self.model.clean_tag(set, false);
                }
            }
            How::Script if layout == Layout::Hashes => {
                let (number, names) = (sets.len(), model::names(tags).join(" "));
                let script =
                    format!("EVALSHA {CLEAN} {number} {names} zc:ti: zc:k: {LIST} zc:ids 0 5000");
                self.ask(&mut session, now_ms, script);
            }
            How::Script => {
                for set in &sets {
                    self.ask(&mut session, now_ms, format!("EVALSHA {INVALIDATE} 1 {set} abc_:"));
                }
            }
            How::Sets => drop(self.ask(&mut session, now_ms, format!("DEL {}", sets.join(" ")))),
        }
        for set in &sets {
            self.model.clean_tag(set, matches!(how, How::Union | How::Script));
        }
        Ok(())
    }

    /// Takes the names of what is gone out of the tags' sets, as a backend does now and then.
    fn collect(&mut self, tags: u8, now_ms: i64) {
        let (sets, names) = (Layout::Hashes.sets(tags), model::names(tags));
        let said = names.join(" ");
        let script =
            format!("EVALSHA {COLLECT} {} {said} zc:k: {LIST} zc:ids zc:ti: 0", sets.len());
        self.ask(&mut Session::new(1), now_ms, script);
        let there = Found::of(&self.keyspace, now_ms).values;
        for (set, name) in sets.iter().zip(names) {
            let ids = self.model.ids(std::slice::from_ref(set), true);
            for id in ids.iter().filter(|id| !there.contains_key(&Layout::Hashes.key(id))) {
                self.model.take_out(set, id);
            }
            if !self.model.sets.contains_key(set) {
                self.model.take_out(LIST, name);
            }
        }
    }

    fn begin_copy(&mut self) {
        if self.copy.is_none() {
            let copying = self.keyspace.begin_copy();
            let again = keyspace(usize::MAX, Eviction::Refuse);
            self.copy = Some(Copy { copying, again, player: Session::new(1) });
        }
    }

    /// Goes on with the copy; once it is over it must be what the databases are.
    fn go_on_copying(&mut self, now_ms: i64) -> Result<(), String> {
        let Some(mut copy) = self.copy.take() else { return Ok(()) };
        let Copy { copying, again, player } = &mut copy;
        for _ in 0..PARTS {
            let part = self.keyspace.copy_part(copying, now_ms, PART_BYTES);
            let part = part.map_err(|it| it.to_string())?;
            play(again, player, &part.done);
            play(again, player, &part.copied);
        }
        if !copying.is_over() {
            self.copy = Some(copy);
            return Ok(());
        }
        // Nothing is young any more, of which it would be unknown whether more tags are to come.
        let later_ms = now_ms + AGE_MS;
        let last = self.keyspace.end_of_copy(copying, later_ms, PART_BYTES);
        let last = last.map_err(|it| it.to_string())?;
        play(again, player, &last.done);
        play(again, player, &last.copied);
        self.keyspace.end_copy();
        let is_same = Found::of(again, later_ms) == Found::of(&self.keyspace, later_ms);
        if is_same { Ok(()) } else { Err("the copy is not what it is a copy of".to_owned()) }
    }
}

fn play(again: &mut Keyspace, player: &mut Session, bytes: &Bytes) {
    let (mut bytes, mut state) = (BytesMut::from(&bytes[..]), ReadState::default());
    while let Some(told) = read_request(&mut bytes, &LIMITS, &mut state).expect("ours") {
        let mut out = BytesMut::new();
        player.execute(again, &told, 0, &mut out);
        assert_ne!(out[0], b'-', "{told:?}: {out:?}");
    }
}

fn members(reply: &Value) -> std::collections::BTreeSet<String> {
    let Value::Array(members) = reply else { panic!("{reply:?}") };
    let text = |member: &Value| match member {
        Value::Bulk(text) => String::from_utf8(text.to_vec()).expect("text"),
        other => panic!("{other:?}"),
    };
    members.iter().map(text).collect()
}

impl World {
    /// Both are empty.
    pub fn new(setting: Setting) -> Self {
        let nodes = [Node::new(&setting), Node::new(&setting)];
        let (cleaned, may_go) = (Cleaned::default(), None);
        Self { nodes, setting, at: 0, now_ms: 1_000_000, cleaned, may_go }
    }

    /// One step on a node; what the others hear of it they do at once.
    pub fn step(&mut self, (node, step): &(usize, Step)) -> Result<(), String> {
        self.at += 1;
        self.now_ms += if self.setting.is_calm { AGE_MS } else { 10 };
        let before = [0, 1].map(|at| self.nodes[at].keyspace.figures());
        for node in &mut self.nodes {
            node.model.end(self.now_ms);
        }
        self.may_go = None;
        self.act(*node, step)?;
        let told = self.nodes[*node].keyspace.take_cleans();
        if matches!(step, Step::Save(_) | Step::SaveLate(_) | Step::Collect(_)) && !told.is_empty()
        {
            return Err(format!("{step:?} is told as a clean: {told:?}"));
        }
        let other = &mut self.nodes[1 - node];
        for clean in told.iter().filter(|_| self.setting.tells) {
            let clean = Clean::decode(&clean.encode()).expect("its own text");
            other.keyspace.clean(&clean, self.now_ms);
            other.model.clean(&clean);
        }
        if !other.keyspace.take_cleans().is_empty() {
            return Err("what another node cleans is told on".to_owned());
        }
        for at in [0, 1] {
            self.check(at, before[at].evicted, before[at].resets)?;
            let now_ms = self.now_ms;
            self.nodes[at].go_on_copying(now_ms)?;
        }
        Ok(())
    }

    fn act(&mut self, at: usize, step: &Step) -> Result<(), String> {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[at];
        match step {
            Step::Save(saves) => {
                node.save(&mut Session::new(1), now_ms, saves, (self.at, self.at));
                let (bytes, bound) = (node.keyspace.memory_bytes(), self.setting.memory_max_bytes);
                if bytes > bound + YOUNG_MAX_BYTES {
                    return Err(format!("{bytes} bytes after a write, and {bound} are the bound"));
                }
            }
            Step::Read => {
                let mut session = Session::new(1);
                node.ask(&mut session, now_ms, "EXISTS x".to_owned());
                node.late = Some((session, self.at));
            }
            Step::SaveLate(saves) => {
                if let Some((mut session, made)) = node.late.take() {
                    node.save_late(&mut session, now_ms, saves, (made, self.at));
                    node.late = Some((session, made));
                }
            }
            Step::Clean(how, layout, tags, chunk) => {
                node.clean_tags((*how, *layout, *tags, *chunk), now_ms)?;
                self.may_go = Some((*layout, *tags));
                if matches!(how, How::Intersection | How::Together) {
                    self.cleaned.tags(*layout, *tags, self.at);
                } else {
                    for tag in model::each(*tags) {
                        self.cleaned.tags(*layout, tag, self.at);
                    }
                }
            }
            Step::CleanKeys(layout, from, count) => {
                let ids: Vec<String> =
                    (0..*count).map(|at| ((from + at) % IDS).to_string()).collect();
                let keys: Vec<String> = ids.iter().map(|id| layout.key(id)).collect();
                node.ask(&mut Session::new(1), now_ms, format!("UNLINK {}", keys.join(" ")));
                node.model.remove(*layout, ids.iter());
                for key in keys {
                    self.cleaned.key(key, self.at);
                }
            }
            Step::CleanElsewhere(layout, tags) => self.clean_elsewhere(*layout, *tags),
            Step::Flush(command) => {
                node.ask(&mut Session::new(1), now_ms, (*command).to_owned());
                node.model = Model::default();
                self.cleaned.all(self.at);
            }
            Step::Free(bytes) => {
                let (before, is_some) =
                    (node.keyspace.memory_bytes(), !node.keyspace.garbage.is_empty());
                let freed = node.keyspace.take_freed(*bytes);
                if freed.is_some() != is_some || node.keyspace.memory_bytes() > before {
                    return Err(format!("{before} bytes, then {}", node.keyspace.memory_bytes()));
                }
            }
            Step::Expire(most) => drop(node.keyspace.expire(now_ms, *most)),
            Step::Collect(tags) => node.collect(*tags, now_ms),
            Step::Copy => node.begin_copy(),
        }
        Ok(())
    }

    /// A third node has cleaned tags, and both hear of it.
    fn clean_elsewhere(&mut self, layout: Layout, tags: u8) {
        let keys = layout.sets(tags).into_iter().map(Bytes::from).collect();
        let clean = Clean::Keys { database: 0, keys };
        for node in &mut self.nodes {
            node.keyspace.clean(&clean, self.now_ms);
            node.model.clean(&clean);
        }
        self.may_go = Some((layout, tags));
        for tag in model::each(tags) {
            self.cleaned.tags(layout, tag, self.at);
        }
    }

    /// Is there what is to be there, and is it counted?
    fn check(&mut self, at: usize, evicted: u64, resets: u64) -> Result<(), String> {
        let node = &mut self.nodes[at];
        let (found, figures) = (Found::of(&node.keyspace, self.now_ms), node.keyspace.figures());
        self.cleaned.outlived_by(&found)?;
        found.all_are_named()?;
        let (may_go, is_calm) = (self.may_go, self.setting.is_calm);
        // Of Symfony's nobody knows whether more tags are to come.
        let may_go = |held: &Held| {
            may_go.is_some_and(|(layout, tags)| {
                let is_one = layout == Layout::Strings || held.tags & tags != 0;
                !is_calm && layout == held.layout && is_one
            })
        };
        let gone = node
            .model
            .values
            .iter()
            .filter(|(key, held)| !found.values.contains_key(*key) && !may_go(held));
        let (gone, given_up) = (gone.count() as u64, figures.evicted - evicted);
        if gone > given_up {
            return Err(format!("{gone} values are gone, and {given_up} were given up"));
        }
        node.model.values.retain(|key, _| found.values.contains_key(key));
        if figures.resets > resets {
            node.model.sets.retain(|set, members| {
                let there = found.sets.get(set);
                members.retain(|member| there.is_some_and(|there| there.contains(member)));
                !members.is_empty()
            });
        }
        node.model.is(&found)?;
        model::recount_all(&node.keyspace)
    }

    /// When all is cleaned and freed, nothing is counted but what is known of cleans.
    pub fn end(&mut self) -> Result<(), String> {
        let all = (1 << 6) - 1;
        for node in &mut self.nodes {
            for layout in [Layout::Hashes, Layout::Strings] {
                node.clean_tags((How::Script, layout, all, 1), self.now_ms)?;
            }
            if !node.keyspace.is_empty() {
                return Err(format!("{:?} is left", Found::of(&node.keyspace, 0).sets));
            }
            let before = node.keyspace.memory_bytes();
            while node.keyspace.take_freed(10_000).is_some() {
                if node.keyspace.memory_bytes() > before {
                    return Err("more is counted after some was freed".to_owned());
                }
            }
            let cleans = node.keyspace.coherence.as_ref().map_or(0, |coherence| coherence.bytes());
            if node.keyspace.memory_bytes() != cleans {
                let bytes = node.keyspace.memory_bytes();
                return Err(format!("{bytes} bytes are counted of nothing, {cleans} of cleans"));
            }
        }
        Ok(())
    }
}
