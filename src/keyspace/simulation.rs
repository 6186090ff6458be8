//! Clients of a cache under made-up interleavings: they read the database of a shop, render, and write what
//! they made with its tags, while they and other nodes clean. Nothing that is readable may be older than the
//! last clean of one of its tags.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::value::Value as Stored;
use super::{Bounds, Clean, Keyspace, Rules, Session, TagSets};
use crate::random::chance::Chance;
use crate::resp::{Request, Value, decode};

const ENTITIES: usize = 5;
const WORKERS: usize = 6;
const CLEAN: &str = "321be2370adbc52c83c52a33b72921111a989a6d";
const SAVE: &str = "1aa53383846dbeb66b01e7f17908449a96ddf717";

/// How a client keeps values and tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `Cm_Cache_Backend_Redis`, by commands.
    Commands,
    /// The same, by its scripts.
    Scripts,
    /// Symfony's: a string, and sets that name it later.
    Strings,
    /// Without tags.
    Plain,
}

impl Layout {
    fn key(self, id: usize) -> String {
        match self {
            Self::Commands | Self::Scripts => format!("zc:k:{id}"),
            Self::Strings => format!("abc_:{id}"),
            Self::Plain => format!("plain{id}"),
        }
    }

    fn set(self, tag: usize) -> String {
        if self == Self::Strings {
            format!("cache:tags:abc_E{tag}")
        } else {
            format!("zc:ti:E{tag}")
        }
    }
}

/// What a value was made of: entities and their versions.
type Made = BTreeMap<usize, u64>;

fn text(writer: usize, made: &Made) -> String {
    let parts: Vec<String> = made.iter().map(|(at, version)| format!("{at}={version}")).collect();
    format!("{writer};{}", parts.join("|"))
}

fn made_of(text: &str) -> Made {
    let (_, parts) = text.split_once(';').unwrap_or_default();
    let parts = parts.split('|').filter_map(|part| part.split_once('='));
    parts.map(|(at, version)| (at.parse().unwrap(), version.parse().unwrap())).collect()
}

enum Stage {
    Idle,
    /// The first command of its work was sent.
    Begun,
    Made(Made),
    /// Turns that are left, the key, and what is written there.
    Writing(VecDeque<Vec<String>>, String, String, Made),
    /// Turns that are left of a clean, of an entity up to a version.
    Cleaning(VecDeque<Vec<String>>, usize, u64),
}

struct Worker {
    session: Session,
    /// Its own time: a pause is that of one client.
    monotonic_ms: u64,
    layout: Layout,
    stage: Stage,
}

struct World {
    keyspace: Keyspace,
    versions: [u64; ENTITIES],
    /// Up to which version each entity was cleaned of the values with tags, and of those without.
    tagged: [u64; ENTITIES],
    plain: [u64; ENTITIES],
    chance: Chance,
    written: usize,
    kept: usize,
    removed: usize,
}

impl World {
    fn new(seed: u64, is_fenced: bool, cleans_max: usize) -> Self {
        let pair = |set, value, list| TagSets::parse(set, value, list).unwrap();
        let mut keyspace = Keyspace::new(Bounds::default(), seed);
        keyspace.keep_coherent(Rules {
            tag_sets: vec![
                pair("zc:ti:*", "zc:k:*", Some("zc:tags")),
                pair("cache:tags:???_*", "???_:*", None),
            ],
            private: Vec::new(),
            indexes: Vec::new(),
            cleans_max,
            told_max_bytes: 1 << 20,
            pause_ms: 1_000,
            renew_ms: 1_000_000,
            is_fenced,
        });
        Self {
            keyspace,
            versions: [1; ENTITIES],
            tagged: [0; ENTITIES],
            plain: [0; ENTITIES],
            chance: Chance::of(seed),
            written: 0,
            kept: 0,
            removed: 0,
        }
    }

    /// One turn of a client.
    fn turn(&mut self, worker: &mut Worker, commands: &[String]) -> Vec<Value> {
        let session = &mut worker.session;
        session.begin_turn(&self.keyspace, worker.monotonic_ms);
        let mut replies = Vec::new();
        for command in commands {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let mut out = BytesMut::new();
            session.execute(&mut self.keyspace, &Request::pack(&words), 1_000, &mut out);
            let reply = decode(&out).expect("a reply");
            assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
            replies.push(reply);
        }
        session.end_turn(&mut self.keyspace, 1_000);
        replies
    }

    fn value(&self, key: &str) -> Option<String> {
        let entry = self.keyspace.databases[0].entries.get(key.as_bytes())?;
        let text = match &entry.value {
            Stored::String(text) => text.clone(),
            Stored::Hash(fields) => fields.get(b"d")?.to_vec(),
            Stored::Set(_) => return None,
        };
        String::from_utf8(text).ok()
    }

    /// A value that is older than a clean.
    fn violation(&self) -> Option<String> {
        let keys = self.keyspace.databases[0].entries.iter().map(|(key, _)| key);
        for key in keys.map(|key| String::from_utf8(key.to_vec()).unwrap()) {
            let Some(text) = self.value(&key) else { continue };
            let bound = if key.starts_with("plain") { &self.plain } else { &self.tagged };
            for (at, version) in made_of(&text) {
                if version < bound[at] {
                    return Some(format!(
                        "{key} has {text}, but {at} was cleaned at {}",
                        bound[at]
                    ));
                }
            }
        }
        None
    }

    fn step(&mut self, worker: &mut Worker) {
        match std::mem::replace(&mut worker.stage, Stage::Idle) {
            Stage::Idle => self.begin(worker),
            Stage::Begun => worker.stage = Stage::Made(self.read(worker)),
            Stage::Made(made) => self.write(worker, made),
            Stage::Writing(mut turns, key, text, made) => {
                if let Some(turn) = turns.pop_front() {
                    self.turn(worker, &turn);
                    worker.stage = Stage::Writing(turns, key, text, made);
                } else {
                    self.finish(worker.layout, &key, &text, &made);
                    self.look_after_save(worker, &key, &text, &made);
                }
            }
            Stage::Cleaning(turns, at, version) => self.go_on_cleaning(worker, turns, at, version),
        }
    }

    fn begin(&mut self, worker: &mut Worker) {
        match self.chance.below(5) {
            0 => worker.session = Session::new(1),
            1 => worker.monotonic_ms += 1_000,
            2 => drop(self.turn(worker, &["ECHO alive".to_owned()])),
            // It goes on without a pause: its mark stays.
            _ => {}
        }
        let layouts = [Layout::Commands, Layout::Scripts, Layout::Strings, Layout::Plain];
        worker.layout = layouts[self.chance.below(4)];
        if self.chance.below(4) == 0 {
            self.clean(worker);
        } else {
            self.turn(worker, &["EXISTS x".to_owned()]);
            worker.stage = Stage::Begun;
        }
    }

    /// What a client renders of: the database, and perhaps what is cached.
    fn read(&mut self, worker: &mut Worker) -> Made {
        if worker.layout == Layout::Plain {
            let at = self.chance.below(ENTITIES);
            return Made::from([(at, self.versions[at])]);
        }
        let mut made = Made::new();
        for _ in 0..=self.chance.below(2) {
            let at = self.chance.below(ENTITIES);
            made.insert(at, self.versions[at]);
        }
        // Of the same cache: another has tags of its own, which are cleaned at another time.
        let other = worker.layout.key(self.chance.below(6));
        if let Some(text) = self.value(&other).filter(|_| self.chance.below(2) == 0) {
            self.turn(worker, &[format!("EXISTS {other}")]);
            for (at, version) in made_of(&text) {
                let own = made.entry(at).or_insert(version);
                *own = (*own).min(version);
            }
        }
        made
    }

    fn write(&mut self, worker: &mut Worker, made: Made) {
        self.written += 1;
        let (layout, text) = (worker.layout, text(self.written, &made));
        let id = if layout == Layout::Plain {
            made.keys().next().copied().unwrap_or(0)
        } else {
            self.chance.below(6)
        };
        let key = layout.key(id);
        let tags: Vec<String> = made.keys().map(|tag| format!("E{tag}")).collect();
        let adds = made.keys().map(|tag| format!("SADD {} {id}", layout.set(*tag)));
        let commands: Vec<String> = match layout {
            Layout::Commands => {
                let save = format!("HMSET {key} d {text} t {},MAGE m 1 i 0", tags.join(","));
                let list = format!("SADD zc:tags {} MAGE", tags.join(" "));
                let adds =
                    adds.chain([format!("SADD zc:ti:MAGE {id}"), format!("EXPIRE {key} 600")]);
                [save, list].into_iter().chain(adds).collect()
            }
            Layout::Scripts => vec![format!(
                "EVALSHA {SAVE} {} {} MAGE zc:k: d t m i zc:tags zc:ti: zc:ids {id} {text} {},MAGE 1 0 600 0",
                tags.len() + 1,
                tags.join(" "),
                tags.join(",")
            )],
            Layout::Strings => {
                std::iter::once(format!("SETEX {key} 600 {text}")).chain(adds).collect()
            }
            Layout::Plain => vec![format!("SET {key} {text}")],
        };
        let turns = self.turns(commands);
        worker.stage = Stage::Writing(turns, key, text, made);
    }

    /// All at once, in a transaction, or one by one.
    fn turns(&mut self, commands: Vec<String>) -> VecDeque<Vec<String>> {
        match self.chance.below(3) {
            0 => [commands].into(),
            1 => {
                let all = std::iter::once("MULTI".to_owned()).chain(commands);
                [all.chain(["EXEC".to_owned()]).collect()].into()
            }
            _ => commands.into_iter().map(|command| vec![command]).collect(),
        }
    }

    /// What is kept is named by its tags.
    fn finish(&mut self, layout: Layout, key: &str, text: &str, made: &Made) {
        if self.value(key).as_deref() != Some(text) {
            return;
        }
        self.kept += 1;
        if layout == Layout::Plain {
            return;
        }
        let id = key.rsplit(':').next().unwrap();
        for tag in made.keys() {
            let set = self.keyspace.databases[0].entries.get(layout.set(*tag).as_bytes());
            let names = set.is_some_and(|entry| match &entry.value {
                Stored::Set(members) => members.contains(id.as_bytes()),
                _ => false,
            });
            assert!(names, "{key} is not in {}", layout.set(*tag));
        }
    }

    /// As `Zend_Cache_Core` does: what it does not find again it removes.
    fn look_after_save(&mut self, worker: &mut Worker, key: &str, text: &str, made: &Made) {
        let is_looked_at = matches!(worker.layout, Layout::Commands | Layout::Scripts);
        if !is_looked_at || self.chance.below(4) == 0 {
            return;
        }
        let replies = self.turn(worker, &[format!("HGET {key} d")]);
        if replies == [Value::Bulk(text.to_owned().into())] {
            return;
        }
        self.removed += 1;
        self.turn(worker, &[format!("HGET {key} t")]);
        let id = key.rsplit(':').next().unwrap();
        let takes = made.keys().map(|tag| format!("SREM {} {id}", worker.layout.set(*tag)));
        let removes =
            ["MULTI".to_owned(), format!("UNLINK {key}"), format!("SREM zc:ti:MAGE {id}")];
        let commands: Vec<String> = removes.into_iter().chain(takes).collect();
        self.turn(worker, &[&commands[..], &["EXEC".to_owned()]].concat());
    }

    /// The database is changed, then its values are cleaned.
    fn clean(&mut self, worker: &mut Worker) {
        let at = self.chance.below(ENTITIES);
        self.versions[at] += 1;
        let version = self.versions[at];
        let both = [Layout::Commands.set(at), Layout::Strings.set(at)];
        let say = |command: String| vec![command];
        let turns = match self.chance.below(9) {
            0 => both.into_iter().map(|set| say(format!("DEL {set}"))).collect(),
            1 => both.into_iter().map(|set| say(format!("SMEMBERS {set}"))).collect(),
            2 => {
                let [one, other] = both;
                [say(format!("SINTER {one} zc:ti:MAGE")), say(format!("SUNION {other} {other}"))]
                    .into()
            }
            3 => {
                let script = format!("EVALSHA {CLEAN} 1 E{at} zc:ti: zc:k: zc:tags zc:ids 0 5000");
                [say(script), say(format!("SCARD {}", both[1]))].into()
            }
            4 => [say("FLUSHDB".to_owned())].into(),
            5 => [say(format!("DEL plain{at}"))].into(),
            other => return self.clean_elsewhere(other, at),
        };
        worker.stage = Stage::Cleaning(turns, at, version);
    }

    /// Another node cleans.
    fn clean_elsewhere(&mut self, how: usize, at: usize) {
        let keys = |keys: Vec<String>| Clean::Keys {
            database: 0,
            keys: keys.into_iter().map(Bytes::from).collect(),
        };
        let clean = match how {
            6 => {
                keys(vec![Layout::Commands.set(at), Layout::Strings.set(at), format!("plain{at}")])
            }
            7 => keys(vec![format!("plain{at}")]),
            _ => [Clean::Everything, Clean::Database(0)][self.chance.below(2)].clone(),
        };
        self.keyspace.clean(&clean, 1_000);
        match how {
            6 => (self.tagged[at], self.plain[at]) = (self.versions[at], self.versions[at]),
            7 => self.plain[at] = self.versions[at],
            _ => (self.tagged, self.plain) = (self.versions, self.versions),
        }
    }

    fn go_on_cleaning(
        &mut self,
        worker: &mut Worker,
        mut turns: VecDeque<Vec<String>>,
        at: usize,
        version: u64,
    ) {
        let Some(turn) = turns.pop_front() else {
            self.tagged[at] = self.tagged[at].max(version);
            return;
        };
        let before = self.versions;
        let replies = self.turn(worker, &turn);
        if turn[0] == "FLUSHDB" {
            (self.tagged, self.plain) = (before, before);
            return;
        }
        if turn[0].starts_with("DEL plain") {
            self.plain[at] = self.plain[at].max(version);
            return;
        }
        // Who looks at a tag deletes what it names, or learns that there is nothing.
        let set = turn[0].split(' ').nth(1).unwrap_or_default().to_owned();
        let prefix = if set.starts_with("zc:") { "zc:k:" } else { "abc_:" };
        let looks =
            ["SMEMBERS", "SINTER", "SUNION", "SCARD"].iter().any(|it| turn[0].starts_with(it));
        match &replies[0] {
            Value::Array(ids) if looks && !ids.is_empty() => {
                let id = |id: &Value| match id {
                    Value::Bulk(id) => format!("{prefix}{}", String::from_utf8_lossy(id)),
                    other => panic!("{other:?}"),
                };
                let keys: Vec<String> = ids.iter().map(id).collect();
                if turn[0].starts_with("SMEMBERS") {
                    turns.push_front(vec![format!("DEL {set}")]);
                }
                turns.push_front(vec![format!("UNLINK {}", keys.join(" "))]);
            }
            Value::Integer(number) if looks && *number > 0 => {
                turns.push_front(vec![format!("SMEMBERS {set}")]);
            }
            _ => {}
        }
        worker.stage = Stage::Cleaning(turns, at, version);
    }
}

/// Plays so many steps; the first violation.
fn play(seed: u64, steps: usize, is_fenced: bool, cleans_max: usize) -> (Option<String>, World) {
    let mut world = World::new(seed, is_fenced, cleans_max);
    let worker = |_| Worker {
        session: Session::new(1),
        monotonic_ms: 0,
        layout: Layout::Plain,
        stage: Stage::Idle,
    };
    let mut workers: Vec<Worker> = (0..WORKERS).map(worker).collect();
    for _ in 0..steps {
        let at = world.chance.below(WORKERS);
        world.step(&mut workers[at]);
        if let Some(violation) = world.violation() {
            return (Some(violation), world);
        }
    }
    (None, world)
}

#[test]
fn nothing_readable_is_older_than_a_clean_of_its_tags() {
    for seed in 1..=60 {
        let (violation, world) = play(seed, 2_500, true, 1_000);
        assert_eq!(violation, None, "seed {seed}");
        let (kept, written) = (world.kept, world.written);
        assert!(kept * 10 > written, "seed {seed}: of {written} values {kept} were kept");
        let unkept = world.keyspace.figures().unkept;
        assert!(unkept > 20, "seed {seed}: {unkept}");
        assert!(world.removed > 0, "seed {seed}: nobody missed what it wrote");
    }
}

#[test]
fn the_same_holds_where_cleans_are_forgotten() {
    for seed in 1..=20 {
        let (violation, world) = play(seed, 2_500, true, 3);
        assert_eq!(violation, None, "seed {seed}");
        assert!(world.kept > 0);
    }
}

#[test]
fn without_the_fence_something_older_is_readable() {
    let noticed = (1..=20).filter(|seed| play(*seed, 2_500, false, 1_000).0.is_some()).count();
    assert!(noticed > 15, "{noticed} of 20");
}
