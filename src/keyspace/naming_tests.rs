//! Values whose tags come after them, by SADD: from when on all of them are known.

use super::Session;
use super::cleans_tests::Cache;

#[test]
fn a_value_whose_tags_come_later_is_kept_once_they_name_it_in_one_turn() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.say(&mut session, "GET x");
    cache.clean("0 keys cache:tags:abc_X");
    cache.say(&mut session, "SETEX abc_:a 60 v");
    assert!(!cache.exists("abc_:a"), "nobody knows which tags it has");
    assert_eq!(cache.say(&mut session, "GET abc_:a"), "v", "but for itself");
    cache.say(&mut session, "SETEX abc_:b 60 v; SADD cache:tags:abc_Y b");
    assert!(cache.exists("abc_:b"));
    cache.say(
        &mut session,
        "MULTI; SETEX abc_:c 60 v; SADD cache:tags:abc_Y c; SADD cache:tags:abc_X c; EXEC",
    );
    assert!(!cache.exists("abc_:c"));
    // A clean between the value and its tags takes it.
    let mut other = Session::new(2);
    cache.say(&mut other, "SETEX abc_:d 60 v");
    cache.clean("0 keys cache:tags:abc_Z");
    assert!(!cache.exists("abc_:d"));
}

/// A value and its tag, each in a turn of its own, as what is larger than a buffer comes.
fn save_in_turns(cache: &mut Cache, session: &mut Session, id: &str) {
    cache.say(session, &format!("SETEX abc_:{id} 60 v"));
    cache.say(session, &format!("SADD cache:tags:abc_Y {id}"));
}

#[test]
fn a_value_that_its_tags_have_named_outlives_the_clean_of_another_tag_once_no_more_can_come() {
    type Ends = fn(&mut Cache, &mut Session);
    let ends: [(&str, Ends); 4] = [
        ("it says something else", |cache, session| drop(cache.say(session, "GET x"))),
        ("it has gone", |cache, session| session.end(&mut cache.keyspace, 1_000)),
        ("it begins anew", |cache, session| drop(cache.say(session, "SELECT 0"))),
        ("it pauses", |cache, session| drop(cache.say_at(session, 5_000, "GET x"))),
    ];
    for (what, end) in ends {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        save_in_turns(&mut cache, &mut session, "a");
        end(&mut cache, &mut session);
        cache.clean("0 keys cache:tags:abc_Z");
        assert!(cache.exists("abc_:a"), "{what}");
        cache.clean("0 keys cache:tags:abc_Y");
        assert!(!cache.exists("abc_:a"), "{what}");
    }
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    save_in_turns(&mut cache, &mut session, "a");
    cache.clean("0 keys cache:tags:abc_Z");
    assert!(!cache.exists("abc_:a"), "another tag may be on its way");
}

#[test]
fn a_value_that_no_tag_named_goes_with_a_clean_though_its_client_has_gone() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.say(&mut session, "SETEX abc_:a 60 v");
    session.end(&mut cache.keyspace, 1_000);
    cache.clean("0 keys cache:tags:abc_Z");
    assert!(!cache.exists("abc_:a"));
}

#[test]
fn a_new_beginning_amid_a_turn_rescues_no_value_that_may_be_older_than_a_clean() {
    let mut cache = Cache::new();
    for (commands, is_kept) in [
        ("SETEX abc_:a 60 v; SADD cache:tags:abc_Y a", true),
        ("SETEX abc_:a 60 v; SELECT 0; SADD cache:tags:abc_X a", false),
        ("SETEX abc_:a 60 v; SELECT 0", false),
    ] {
        let mut session = Session::new(1);
        cache.say(&mut session, "DEL abc_:a");
        cache.clean("0 keys cache:tags:abc_X");
        cache.say(&mut session, commands);
        assert_eq!(cache.exists("abc_:a"), is_kept, "{commands}");
    }
}

#[test]
fn a_value_that_a_pipeline_named_and_forgot_is_settled_as_well() {
    for first in ["GET x", "EXISTS x", "SELECT 0"] {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        cache.say(&mut session, first);
        cache.say(&mut session, "SETEX abc_:a 60 v");
        let pipeline = "SADD cache:all_ids a; SADD cache:tags:abc_T a; DEL cache:id_tags:abc_a";
        cache.say(&mut session, &format!("{pipeline}; SADD cache:id_tags:abc_a T"));
        cache.say(&mut session, "SELECT 0");
        cache.say(&mut Session::new(2), "SMEMBERS cache:tags:abc_UNRELATED");
        assert!(cache.exists("abc_:a"), "{first}");
    }
}

#[test]
fn who_cleans_a_tag_itself_goes_on_with_values_whose_tags_come_later() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.say(&mut session, "EXISTS x");
    cache.say(&mut session, "SMEMBERS cache:tags:abc_X");
    save_in_turns(&mut cache, &mut session, "a");
    assert!(cache.exists("abc_:a"));
    cache.say(&mut session, "SINTER cache:tags:abc_X cache:tags:abc_Z");
    save_in_turns(&mut cache, &mut session, "b");
    assert!(cache.exists("abc_:b"));
    // Between two of its own another has cleaned.
    cache.clean("0 keys cache:tags:abc_X");
    cache.say(&mut session, "SMEMBERS cache:tags:abc_X");
    save_in_turns(&mut cache, &mut session, "c");
    assert!(!cache.exists("abc_:c"));
}

#[test]
fn who_asks_by_mget_finds_what_it_wrote_and_was_not_kept() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.say(&mut session, "EXISTS x");
    cache.clean("0 keys cache:tags:abc_X");
    cache.say(&mut session, "SETEX abc_:a 60 v");
    assert!(!cache.exists("abc_:a"));
    assert!(cache.say(&mut session, "MGET abc_:a").contains('v'));
    assert_eq!(cache.say(&mut session, "EXISTS abc_:a"), "1");
    assert!(!cache.say(&mut Session::new(2), "MGET abc_:a").contains('v'));
}
