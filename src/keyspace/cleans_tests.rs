//! What is noticed as a clean, what of it is told, and whose writes are kept after it.

use bytes::BytesMut;

use super::{Clean, Keyspace, Rules, Session, TagSets};
use crate::keyspace::{Bounds, Eviction};
use crate::resp::{Request, Value, decode};

const CLEAN: &str = "321be2370adbc52c83c52a33b72921111a989a6d";
const SAVE: &str = "1aa53383846dbeb66b01e7f17908449a96ddf717";
const INVALIDATE: &str = "43d401bd2bd0ad864c3ca221512cda1b6215ec23";

pub(super) struct Cache {
    pub keyspace: Keyspace,
    told_max_bytes: usize,
}

impl Cache {
    fn with(told_max_bytes: usize) -> Self {
        let eviction = Eviction::LeastRecentlyUsed;
        let mut keyspace = Keyspace::new(Bounds { eviction, ..Bounds::default() }, 1);
        let pair = |set, value, list| TagSets::parse(set, value, list).unwrap();
        keyspace.keep_coherent(Rules {
            tag_sets: vec![
                pair("zc:ti:*", "zc:k:*", Some("zc:tags")),
                pair("cache:tags:???_*", "???_:*", None),
            ],
            private: vec![
                "*locked_record_info_*".into(),
                "cache:id_tags:*".into(),
                "cache:all_ids*".into(),
            ],
            indexes: vec!["cache:all_ids*".into()],
            cleans_max: 1_000,
            told_max_bytes,
            pause_ms: 1_000,
            renew_ms: 60_000,
            is_fenced: true,
        });
        Self { keyspace, told_max_bytes }
    }

    pub fn new() -> Self {
        Self::with(1 << 20)
    }

    /// Commands in one turn, with `;` between them; the last reply.
    pub fn say(&mut self, session: &mut Session, commands: &str) -> String {
        self.say_at(session, 0, commands)
    }

    pub fn say_at(&mut self, session: &mut Session, monotonic_ms: u64, commands: &str) -> String {
        session.begin_turn(&self.keyspace, monotonic_ms);
        let mut shown = String::new();
        for command in commands.split("; ") {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let mut out = BytesMut::new();
            session.execute(&mut self.keyspace, &Request::pack(&words), 1_000, &mut out);
            let reply = decode(&out).expect("a reply");
            assert!(!matches!(reply, Value::Error(_)), "{command}: {reply:?}");
            shown = match reply {
                Value::Integer(number) => number.to_string(),
                Value::Simple(text) | Value::Bulk(text) => {
                    String::from_utf8_lossy(&text).into_owned()
                }
                Value::Null => "nil".to_owned(),
                other => format!("{other:?}"),
            };
        }
        session.end_turn(&mut self.keyspace, 1_000);
        shown
    }

    /// What is told, as text.
    pub fn told(&mut self) -> Vec<String> {
        let cleans = self.keyspace.take_cleans().into_iter();
        cleans.map(|clean| String::from_utf8(clean.encode()).unwrap()).collect()
    }

    /// What a new client says, and what is told of it.
    pub fn told_of(&mut self, commands: &str) -> Vec<String> {
        self.say(&mut Session::new(1), commands);
        self.told()
    }

    fn save(&mut self, session: &mut Session, id: &str, tag: &str) {
        let save = format!("HMSET zc:k:{id} d {id} t {tag},MAGE m 1; SADD zc:tags {tag} MAGE");
        self.say(session, &format!("{save}; SADD zc:ti:{tag} {id}; SADD zc:ti:MAGE {id}"));
    }

    pub fn clean(&mut self, text: &str) {
        self.keyspace.clean(&Clean::decode(text.as_bytes()).unwrap(), 1_000);
    }

    pub fn exists(&mut self, key: &str) -> bool {
        self.say(&mut Session::new(9), &format!("EXISTS {key}")) == "1"
    }
}

#[test]
fn flushes_and_deletions_are_told() {
    let mut cache = Cache::new();
    let none: [&str; 0] = [];
    assert_eq!(cache.told_of("FLUSHDB"), ["0 flush"]);
    assert_eq!(cache.told_of("FLUSHALL"), ["all flush"]);
    assert_eq!(cache.told_of("SELECT 3; FLUSHDB ASYNC"), ["3 flush"]);
    assert_eq!(cache.told_of("SWAPDB 1 2"), ["1 flush", "2 flush"]);
    assert_eq!(cache.told_of("SET a 1; DEL a b; UNLINK c"), ["0 keys a,b", "0 keys c"]);
    assert_eq!(cache.told_of("SET a 1; GETDEL a"), ["0 keys a"]);
    assert_eq!(cache.told_of("MULTI; DEL a; FLUSHDB; DEL b; EXEC"), ["0 flush"]);
    assert_eq!(cache.told_of("MULTI; DEL a; DISCARD"), none);
    // What ends, is taken out of a set, or written anew is no clean.
    let others = "SET a 1 PX 1; SADD s m n; SREM s m; SPOP s; SET a 2; RENAME a b; EXPIRE b -1";
    assert_eq!(cache.told_of(others), none);
    // Locks and counters are nobody else's business, nor are the keys that the settings name.
    assert_eq!(cache.told_of("SET lock me NX EX 9; DEL lock; INCR n; DEL n"), none);
    assert_eq!(
        cache.told_of("SETNX lock me; UNLINK lock; HINCRBY h n 1; GETDEL no"),
        ["0 keys no"]
    );
    assert_eq!(cache.told_of("DEL zc:k:1_LOCKED_RECORD_INFO_X"), none);
}

#[test]
fn a_clean_by_tag_is_told_as_the_tag_whatever_is_deleted_here() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    for id in ["a", "b"] {
        cache.save(&mut session, id, "X");
        cache.save(&mut session, &format!("{id}{id}"), "Y");
    }
    assert!(cache.told().is_empty());
    // As Magento does it with a scope: the intersection, then its members.
    cache.say(&mut session, "SINTER zc:ti:X zc:ti:MAGE");
    assert_eq!(cache.told(), ["0 common zc:ti:MAGE,zc:ti:X"]);
    assert_eq!(cache.say(&mut session, "UNLINK zc:k:a zc:k:b"), "2");
    assert!(cache.told().is_empty());
    // It finds nothing that is here with both, and another node may have it.
    assert_eq!(cache.told_of("SUNION zc:ti:Y zc:ti:NONE"), ["0 keys zc:ti:Y,zc:ti:NONE"]);
    // The set goes between the look and the deletion.
    cache.save(&mut session, "c", "Z");
    cache.say(&mut session, "SMEMBERS zc:ti:Z");
    cache.clean("0 keys zc:ti:Z");
    cache.say(&mut session, "UNLINK zc:k:c");
    assert_eq!(cache.told(), ["0 keys zc:ti:Z"]);
    // Where nothing has the tag here, other nodes may have something.
    assert_eq!(cache.told_of("SINTER zc:ti:NONE zc:ti:MAGE"), ["0 common zc:ti:MAGE,zc:ti:NONE"]);
    assert_eq!(cache.told_of("SMEMBERS cache:tags:abc_N"), ["0 keys cache:tags:abc_N"]);
    assert_eq!(cache.told_of("SCARD cache:tags:abc_N"), ["0 keys cache:tags:abc_N"]);
    // Of any of the tags: the union, what it names, then the sets.
    let union =
        "SUNION zc:ti:Y zc:ti:NONE; MULTI; DEL zc:k:aa zc:k:bb; DEL zc:ti:Y zc:ti:NONE; EXEC";
    let told = cache.told_of(union);
    assert_eq!(told.concat(), "0 keys zc:ti:Y,zc:ti:NONE0 keys zc:ti:Y,zc:ti:NONE");
    // A key that no tag names goes by its name.
    cache.save(&mut session, "a", "X");
    let told = cache.told_of("SMEMBERS zc:ti:X; DEL zc:k:a other");
    assert_eq!(told, ["0 keys zc:ti:X,other"]);
    assert_eq!(
        cache.told_of("SADD zc:ti:Z z; RENAME zc:ti:Z tmp; DEL tmp"),
        ["0 keys zc:ti:Z", "0 keys tmp"]
    );
}

#[test]
fn a_clean_that_a_copy_came_in_between_of_is_told_again() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.save(&mut session, "a", "X");
    cache.save(&mut session, "b", "X");
    cache.say(&mut session, "SUNION zc:ti:X zc:ti:Y");
    assert_eq!(cache.told(), ["0 keys zc:ti:X,zc:ti:Y"]);
    cache.say(&mut session, "UNLINK zc:k:a");
    assert_eq!(cache.told(), [""; 0]);
    // It has `b`, and who reads on behind what was told above would not hear of it.
    cache.keyspace.begin_copy();
    cache.keyspace.end_copy();
    cache.say(&mut session, "UNLINK zc:k:b");
    assert_eq!(cache.told(), ["0 keys zc:ti:X,zc:ti:Y"]);
}

#[test]
fn each_of_several_tags_that_name_the_same_is_told() {
    for cleans in [
        &[
            "SMEMBERS zc:ti:X; UNLINK zc:k:a; DEL zc:ti:X",
            "SMEMBERS zc:ti:Y; UNLINK zc:k:a; DEL zc:ti:Y",
        ][..],
        &["SMEMBERS zc:ti:X; SMEMBERS zc:ti:Y; UNLINK zc:k:a; DEL zc:ti:X zc:ti:Y"],
    ] {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        cache.say(&mut session, "SADD zc:ti:X a; SADD zc:ti:Y a; HMSET zc:k:a d 1 t X,Y");
        for turn in cleans {
            cache.say(&mut session, turn);
        }
        let told = cache.told().join(" ");
        assert!(told.contains("zc:ti:X") && told.contains("zc:ti:Y"), "{cleans:?}: {told}");
    }
    // A set that went may have named anything, and what is there says more.
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.save(&mut session, "a", "X");
    cache.save(&mut session, "b", "Y");
    cache.say(&mut session, "SMEMBERS zc:ti:X; EXISTS x; SMEMBERS zc:ti:Y");
    cache.clean("0 keys zc:ti:X");
    cache.say(&mut session, "UNLINK zc:k:b");
    assert_eq!(cache.told(), ["0 keys zc:ti:Y"]);
}

#[test]
fn a_large_clean_whose_set_went_between_look_and_deletion_is_told_as_the_tag() {
    for members in [10, 5_000] {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        let ids: Vec<String> = (0..members).map(|at| at.to_string()).collect();
        cache.say(&mut session, &format!("SADD zc:ti:Z {}", ids.join(" ")));
        cache.say(&mut session, "SMEMBERS zc:ti:Z");
        cache.clean("0 keys zc:ti:Z");
        cache.say(&mut session, &format!("UNLINK zc:k:{}", ids.join(" zc:k:")));
        assert_eq!(cache.told(), ["0 keys zc:ti:Z"], "{members}");
    }
}

#[test]
fn what_a_deletion_spares_stays_in_a_copy_too() {
    for (deletes, told) in [
        ("SREM zc:ti:X a b", ["SREM", "zc:ti:X", "b"].as_slice()),
        ("HGET zc:k:a d; UNLINK zc:k:a zc:k:b", ["DEL", "zc:k:b"].as_slice()),
    ] {
        let (mut cache, mut old, mut new) = (Cache::new(), Session::new(1), Session::new(2));
        cache.say(&mut old, "GET x");
        cache.clean("0 keys zc:ti:X");
        cache.save(&mut new, "b", "X");
        // Too large to be kept for its writer alone.
        let value = "s".repeat(5 << 20);
        cache.say(&mut old, &format!("HMSET zc:k:a d {value} t X; SADD zc:ti:X a"));
        cache.save(&mut new, "a", "X");
        let mut copying = cache.keyspace.begin_copy();
        while !copying.is_over() {
            cache.keyspace.copy_part(&mut copying, 1_000, 1 << 20).unwrap();
        }
        cache.say(&mut old, deletes);
        assert!(cache.exists("zc:k:a"), "{deletes}");
        assert_eq!(cache.say(&mut new, "SISMEMBER zc:ti:X a"), "1", "{deletes}");
        let done = cache.keyspace.copy_part(&mut copying, 1_000, 1 << 20).unwrap().done;
        let told: Vec<&[u8]> = told.iter().map(|word| word.as_bytes()).collect();
        assert!(done.ends_with(Request::pack(&told).raw()), "{done:?}");
    }
}

#[test]
fn scripts_that_clean_tell_the_tags_and_where_nothing_leads_to_them_the_database() {
    let mut cache = Cache::new();
    let save = format!("EVALSHA {SAVE} 1 X zc:k: d t m i zc:tags zc:ti: zc:ids a data X 1 0 60 0");
    let clean = format!("EVALSHA {CLEAN} 2 X Y zc:ti: zc:k: zc:tags zc:ids 0 5000");
    assert_eq!(cache.told_of(&format!("{save}; {clean}")), ["0 keys zc:ti:X,zc:ti:Y"]);
    assert!(!cache.exists("zc:k:a"));
    let invalidate = format!("EVALSHA {INVALIDATE} 1 set p:");
    let told = cache.told_of(&format!("SET p:a 1; SADD set a; {invalidate}"));
    assert_eq!(told, ["0 flush"]);
    assert_eq!(cache.keyspace.take_unknown_set().as_deref(), Some(&b"set"[..]));
    assert_eq!(cache.keyspace.take_unknown_set(), None);
}

#[test]
fn who_collects_garbage_cleans_nothing() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.save(&mut session, "gone", "X");
    cache.say(&mut session, "PEXPIREAT zc:k:gone 1");
    let none: [&str; 0] = [];
    assert_eq!(
        cache.told_of("SMEMBERS zc:ti:X; EXISTS zc:k:gone; DEL zc:ti:X; SREM zc:tags X"),
        none
    );
    // Nor does who looks at all tags, of which some name nothing any more.
    cache.save(&mut session, "last", "L");
    cache.say(&mut session, "DEL zc:k:last; SREM zc:ti:L last");
    cache.told();
    assert_eq!(cache.told_of("SMEMBERS zc:tags; SMEMBERS zc:ti:L; DEL zc:ti:L"), none);
    let later = "SMEMBERS zc:tags; GET x; SMEMBERS zc:ti:L";
    assert_eq!(cache.told_of(later), ["0 keys zc:ti:L"]);
    // The same for what is there is a clean.
    cache.save(&mut session, "there", "X");
    assert_eq!(cache.told_of("SMEMBERS zc:ti:X; DEL zc:ti:X"), ["0 keys zc:ti:X"]);
    assert!(!cache.exists("zc:k:there"), "nothing would name it any more");
}

#[test]
fn many_keys_are_told_in_parts_and_too_many_as_their_database() {
    let mut cache = Cache::new();
    let many = |number: usize| {
        let keys: Vec<String> = (0..number).map(|at| format!("zc:k:some-long-name-{at}")).collect();
        format!("DEL {}", keys.join(" "))
    };
    let told = cache.told_of(&many(10_000));
    assert!(told.len() > 2 && told.iter().all(|text| text.len() < 66_000), "{}", told.len());
    let mut cache = Cache::with(10_000);
    assert_eq!(cache.told_max_bytes, 10_000);
    assert_eq!(cache.told_of(&format!("{}; DEL x", many(1_000))), ["0 flush"]);
}

#[test]
fn a_clean_of_another_node_takes_what_the_tag_names_here() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.save(&mut session, "a", "X");
    cache.save(&mut session, "b", "Y");
    cache.say(
        &mut session,
        "SETEX abc_:i 60 v; SADD cache:tags:abc_X i; SET lock me NX; SET plain v",
    );
    cache.clean("0 keys zc:ti:X,cache:tags:abc_X,lock,plain,zc:k:none");
    for (key, is_there) in
        [("zc:k:a", false), ("zc:ti:X", false), ("abc_:i", false), ("plain", false)]
    {
        assert_eq!(cache.exists(key), is_there, "{key}");
    }
    assert!(cache.exists("zc:k:b") && cache.exists("lock"));
    assert_eq!(cache.say(&mut session, "SISMEMBER zc:tags X"), "0");
    assert!(cache.told().is_empty(), "it is not told on");
    cache.clean("1 flush");
    assert!(cache.exists("zc:k:b"));
    cache.clean("7000 flush");
    cache.keyspace.cleans_were_missed();
    assert_eq!(cache.keyspace.len(0), 0);
}

#[test]
fn what_is_older_than_a_clean_is_answered_and_not_kept() {
    let mut cache = Cache::new();
    let (mut old, mut new) = (Session::new(1), Session::new(2));
    cache.say(&mut old, "GET x");
    cache.clean("0 keys zc:ti:X,key");
    cache.say(&mut new, "GET x");
    cache.save(&mut new, "a", "X");
    assert_eq!(cache.say(&mut old, "HMSET zc:k:a d stale t X,MAGE"), "OK");
    assert_eq!(cache.say(&mut old, "SADD zc:ti:X a; EXPIRE zc:k:a 5; TTL zc:k:a"), "5");
    assert_eq!(cache.say(&mut old, "HGET zc:k:a d"), "stale", "it finds what it wrote");
    assert_eq!(cache.say(&mut new, "HGET zc:k:a d"), "a", "what is newer stays");
    assert_eq!(cache.say(&mut new, "TTL zc:k:a"), "-1");
    assert_eq!(cache.say(&mut old, "SET key stale"), "OK");
    assert_eq!(cache.say(&mut old, "APPEND key more"), "9");
    assert!(!cache.exists("key"));
    // Other tags and keys are none of its business.
    cache.save(&mut old, "b", "Y");
    cache.say(&mut old, "SET other v");
    assert!(cache.exists("zc:k:b") && cache.exists("other"));
    // Locks and counters are kept whatever was cleaned.
    cache.clean("0 flush");
    assert_eq!(
        cache.say(&mut old, "SET lock me NX; INCR n; SETNX m v; SET zc:k:1_locked_record_info_a l"),
        "OK"
    );
    for key in ["lock", "n", "m", "zc:k:1_locked_record_info_a"] {
        assert!(cache.exists(key), "{key}");
    }
    assert!(cache.keyspace.figures().unkept >= 2);
}

#[test]
fn a_new_beginning_is_a_pause_a_reset_or_a_look_whether_the_connection_stands() {
    for begins in ["", "RESET", "HELLO 3", "ECHO x", "SELECT 0"] {
        let mut cache = Cache::new();
        let mut session = Session::new(1);
        cache.say(&mut session, "GET x");
        cache.clean("0 flush");
        cache.say(&mut session, "SET k v");
        assert!(!cache.exists("k"));
        if !begins.is_empty() {
            cache.say(&mut session, begins);
        }
        cache.say_at(&mut session, if begins.is_empty() { 1_000 } else { 10 }, "SET k v");
        assert!(cache.exists("k"), "{begins}");
    }
    // A transaction goes on over a pause.
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.say(&mut session, "MULTI");
    cache.clean("0 flush");
    cache.say_at(&mut session, 2_000, "SET k v");
    cache.say_at(&mut session, 4_000, "EXEC");
    assert!(!cache.exists("k"));
    // Who never pauses begins anew all the same, but not before its time.
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.say(&mut session, "GET x");
    cache.clean("0 flush");
    let kept = (1..=250_u64).find(|at| {
        cache.say_at(&mut session, at * 500, "SET k v");
        cache.exists("k")
    });
    assert!(kept.is_some_and(|at| (120..=245).contains(&at)), "{kept:?}");
}

#[test]
fn who_began_with_another_process_has_nothing_kept_until_it_begins_anew() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.say(&mut session, "PARVIS.BEGAN; SET k v");
    cache.save(&mut session, "a", "X");
    assert!(!cache.exists("k") && !cache.exists("zc:k:a"));
    cache.say(&mut session, "SELECT 0; SET k v");
    assert!(cache.exists("k"));
}

#[test]
fn who_cleans_goes_on_but_not_past_the_clean_of_another() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.save(&mut session, "a", "X");
    cache.say(&mut session, "SET lock me; DEL lock; SET lock again");
    assert!(cache.exists("lock"));
    cache.say(&mut session, "SINTER zc:ti:X zc:ti:MAGE; UNLINK zc:k:a");
    cache.save(&mut session, "a", "X");
    assert!(cache.exists("zc:k:a"));
    cache.say(&mut session, "FLUSHDB");
    cache.save(&mut session, "b", "Y");
    assert!(cache.exists("zc:k:b"));
    // What another cleaned before is not forgiven for a clean of one's own.
    for (theirs, own) in
        [("0 flush", "FLUSHDB"), ("0 keys zc:ti:X", "DEL zc:ti:X"), ("0 keys lock", "DEL lock")]
    {
        cache.clean(theirs);
        cache.say(&mut session, own);
        cache.save(&mut session, "a", "X");
        cache.say(&mut session, "SET lock me");
        assert!(!cache.exists("zc:k:a"), "{theirs}");
    }
    assert!(!cache.exists("lock"));
    cache.save(&mut session, "a", "Y");
    assert!(!cache.exists("zc:k:a"), "it was not kept, so nothing is added to it");
}

/// As `Cm_Cache_Backend_Redis` saves and `Zend_Cache_Core` looks whether it did: each line is a turn. Was the value
/// taken out again?
fn save_and_look(cache: &mut Cache, session: &mut Session, id: &str, data: &str) -> bool {
    begin_save(cache, session, id, data);
    look_after_save(cache, session, id, data)
}

fn begin_save(cache: &mut Cache, session: &mut Session, id: &str, data: &str) {
    cache.say(session, &format!("HGET zc:k:{id} t"));
    cache.say(
        session,
        &format!(
            "HMSET zc:k:{id} d {data} t X,MAGE m 1 i 0; SADD zc:tags X MAGE; SADD zc:ti:X {id}; \
             SADD zc:ti:MAGE {id}; EXPIRE zc:k:{id} 600"
        ),
    );
}

fn look_after_save(cache: &mut Cache, session: &mut Session, id: &str, data: &str) -> bool {
    if cache.say(session, &format!("HGET zc:k:{id} d")) == data {
        return false;
    }
    cache.say(session, &format!("HGET zc:k:{id} t"));
    cache.say(session, "MULTI");
    for command in
        [format!("UNLINK zc:k:{id}"), format!("SREM zc:ti:X {id}"), format!("SREM zc:ti:MAGE {id}")]
    {
        cache.say(session, &command);
    }
    cache.say(session, "EXEC");
    true
}

#[test]
fn who_reads_back_what_was_not_kept_finds_it_and_cleans_nothing() {
    let mut cache = Cache::new();
    let mut builders: Vec<Session> = (0..8).map(Session::new).collect();
    for builder in &mut builders {
        cache.say(builder, "GET x");
    }
    cache.clean("0 keys zc:ti:X");
    let mut fresh = Session::new(9);
    cache.say(&mut fresh, "GET x");
    for (at, builder) in builders.iter_mut().enumerate() {
        assert!(!save_and_look(&mut cache, builder, "a", &format!("stale{at}")));
        assert!(!cache.exists("zc:k:a"));
    }
    assert!(cache.told().is_empty());
    // The first that began after the clean, whatever the others do before and after.
    assert!(!save_and_look(&mut cache, &mut fresh, "a", "fresh"));
    for builder in &mut builders {
        assert!(!save_and_look(&mut cache, builder, "a", "stale"));
    }
    assert_eq!(cache.say(&mut Session::new(9), "HGET zc:k:a d"), "fresh");
    assert_eq!(cache.say(&mut Session::new(9), "SISMEMBER zc:ti:X a"), "1");
    assert!(cache.told().is_empty());
    // With the next value that it writes it reads what the others do.
    cache.save(&mut builders[0], "other", "Y");
    assert_eq!(cache.say(&mut builders[0], "HGET zc:k:a d"), "fresh");
}

#[test]
fn who_deletes_what_it_wrote_and_does_not_find_again_cleans_nothing() {
    let mut cache = Cache::new();
    let (mut old, mut new) = (Session::new(1), Session::new(2));
    cache.say(&mut old, "GET x");
    cache.clean("0 keys zc:ti:X");
    cache.say(&mut new, "GET x");
    // Too large to be kept for its writer alone, so that it finds another's, and takes that for its own.
    begin_save(&mut cache, &mut new, "a", "fresh");
    assert!(save_and_look(&mut cache, &mut old, "a", &"s".repeat(5 << 20)));
    assert!(cache.told().is_empty());
    assert_eq!(cache.say(&mut new, "HGET zc:k:a d"), "fresh");
    assert_eq!(cache.say(&mut new, "SISMEMBER zc:ti:X a"), "1");
    // A clean comes between what is kept and the look at it.
    let mut last = Session::new(3);
    cache.say(&mut last, "GET x");
    begin_save(&mut cache, &mut new, "b", "soon");
    cache.clean("0 keys zc:ti:X");
    let mut next = Session::new(4);
    cache.say(&mut next, "GET x");
    assert!(look_after_save(&mut cache, &mut new, "b", "soon"));
    assert!(cache.told().is_empty());
    assert!(!save_and_look(&mut cache, &mut next, "b", "next"));
    assert_eq!(cache.say(&mut Session::new(9), "HGET zc:k:b d"), "next");
    // Who deletes what it found, or looks for something else in between, cleans.
    assert_eq!(cache.say(&mut next, "UNLINK zc:k:b"), "1");
    assert_eq!(cache.told(), ["0 keys zc:k:b"]);
    begin_save(&mut cache, &mut next, "c", "more");
    cache.clean("0 keys zc:k:c");
    cache.say(&mut next, "HGET zc:k:c d; HGET zc:k:other d; UNLINK zc:k:c");
    assert_eq!(cache.told(), ["0 keys zc:k:c"]);
}
