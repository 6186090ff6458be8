//! What Magento's backend over Symfony's does is noticed as the clean that it is, and what it saves is named.

use super::Session;
use super::cleans_tests::Cache;

const CLEAN: &str = "7fe6c265605850907fdff5caacf540b3869f90dc";
const CLEAN_OF_249: &str = "9a421fa1aee8672289d0afa662be6f9c2fbe6e40";
const CLEAN_SCOPE: &str = "447708840ed150d0e8ea735c9a4d4fd33c5c8165";
const NAME: &str = "95bbb2ec0b24a459d03267f7c68333bf85bcd4e9";
const FORGET: &str = "24db9536a772654e5e7be093101476d0fff83d05";
const FORGET_DELETED: &str = "1f5f19c9994c8577e22e0a69ae0565f6c58c6922";
const UNLOCK: &str = "d02e481a9c91ceec59c5822a58a49d5d5d7ac80b";
const EMPTY: &str = "2842452a6dc48198721c180402d465eb568ace07";

fn naming(id: &str, tags: &str) -> String {
    format!(
        "EVALSHA {NAME} 0 abc_:{id} {id} cache:all_ids cache:tags: abc_ cache:id_tags:abc_{id} {tags}"
    )
}

/// As Magento saves: the value in one turn, its tags in the next one.
fn save(cache: &mut Cache, session: &mut Session, id: &str, tags: &str) {
    cache.say(session, &format!("SETEX abc_:{id} 100 data"));
    cache.say(session, &naming(id, tags));
}

#[test]
fn cleans_by_script_tell_the_tags_and_take_what_has_them() {
    for (script, last) in [(CLEAN, "abc_:"), (CLEAN_OF_249, "")] {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        save(&mut cache, &mut session, "a", "X Y");
        save(&mut cache, &mut session, "b", "Z");
        let clean = format!("EVALSHA {script} 2 X W cache:tags: abc_ 100 {last}");
        let told = cache.told_of(clean.trim_end());
        assert_eq!(told, ["0 keys cache:tags:abc_X,cache:tags:abc_W"]);
        assert!(!cache.exists("abc_:a") && cache.exists("abc_:b"));
    }
    // Within a scope, of which another node may have what this one has not.
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    save(&mut cache, &mut session, "a", "X S");
    save(&mut cache, &mut session, "b", "X");
    let clean = |tag: &str| format!("EVALSHA {CLEAN_SCOPE} 1 {tag} cache:tags: abc_ S abc_:");
    for tag in ["X", "none"] {
        let told = cache.told_of(&clean(tag));
        assert_eq!(told, [format!("0 keys cache:tags:abc_{tag}")]);
    }
    assert!(!cache.exists("abc_:a") && cache.exists("abc_:b"));
    assert_eq!(cache.say(&mut session, "EXISTS cache:id_tags:abc_a"), "0");
    assert_eq!(cache.say(&mut session, "SCARD cache:all_ids"), "1");
}

#[test]
fn who_forgets_what_is_gone_or_lets_a_lock_go_cleans_nothing() {
    let none: [&str; 0] = [];
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    save(&mut cache, &mut session, "a", "X");
    save(&mut cache, &mut session, "b", "X");
    cache.told_of("DEL abc_:a");
    assert_eq!(cache.told_of(&format!("EVALSHA {FORGET} 0 cache:tags: abc_ abc_: a b")), none);
    assert_eq!(cache.say(&mut session, "SCARD cache:tags:abc_X"), "1");
    let lock = "SET cache:regen_lock:abc_a owner NX EX 10";
    let unlock = |owner: &str| format!("EVALSHA {UNLOCK} 1 cache:regen_lock:abc_a {owner}");
    assert_eq!(cache.told_of(&format!("{lock}; {}", unlock("other"))), none);
    assert!(cache.exists("cache:regen_lock:abc_a"));
    assert_eq!(cache.told_of(&unlock("owner")), none);
    assert!(!cache.exists("cache:regen_lock:abc_a"));
}

/// As Mage-OS does behind each clean: what it deleted is taken out of the sets of the tags that it cleaned, too.
fn forget_deleted(tags: &[&str], ids: &[&str]) -> String {
    let keys: Vec<_> = ids.iter().map(|id| format!("abc_:{id}")).collect();
    let words = [&[&*tags.len().to_string()], tags, ids].concat().join(" ");
    let number = ids.len();
    format!(
        "EVALSHA {FORGET_DELETED} {number} {} cache:tags:abc_ cache:id_tags:abc_ cache:all_ids {words}",
        keys.join(" ")
    )
}

#[test]
fn who_forgets_what_a_clean_deleted_tells_no_more_than_that_clean() {
    let none: [&str; 0] = [];
    let filled = || {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        save(&mut cache, &mut session, "a", "X Y");
        save(&mut cache, &mut session, "b", "X");
        save(&mut cache, &mut session, "c", "Z");
        cache
    };
    // Of one tag, of several, and in parts, as it is done with more ids than fit one.
    let (a, b) = (forget_deleted(&["X"], &["a"]), forget_deleted(&["X"], &["b"]));
    let one = format!(
        "SMEMBERS cache:tags:abc_X; UNLINK abc_:a abc_:b; {}",
        forget_deleted(&["X"], &["a", "b"])
    );
    let parts = format!("SMEMBERS cache:tags:abc_X; UNLINK abc_:a; {a}; UNLINK abc_:b; {b}");
    let several =
        one.replace("SMEMBERS cache:tags:abc_X", "SUNION cache:tags:abc_X cache:tags:abc_W");
    for (commands, told) in [
        (&one, "0 keys cache:tags:abc_X"),
        (&parts, "0 keys cache:tags:abc_X"),
        (&several, "0 keys cache:tags:abc_X,cache:tags:abc_W"),
    ] {
        let mut cache = filled();
        assert_eq!(cache.told_of(commands), [told], "{commands}");
        let mut session = Session::new(1);
        for gone in ["abc_:a", "cache:tags:abc_X", "cache:tags:abc_Y", "cache:id_tags:abc_a"] {
            assert!(!cache.exists(gone), "{gone} {commands}");
        }
        assert_eq!(cache.say(&mut session, "SCARD cache:all_ids"), "1", "{commands}");
    }
    // Alone it cleans nothing, be it the last of a tag or of all: who saves such a value meanwhile has it kept.
    let (mut cache, mut late) = (filled(), Session::new(2));
    cache.say(&mut late, "EXISTS x");
    cache.say(&mut Session::new(1), "EXPIREAT abc_:a 1; EXPIREAT abc_:b 1; EXPIREAT abc_:c 1");
    cache.told();
    assert_eq!(cache.told_of(&forget_deleted(&["Z"], &["a", "b", "c"])), none);
    assert!(!cache.exists("cache:all_ids") && !cache.exists("cache:tags:abc_Z"));
    save(&mut cache, &mut late, "c", "Z");
    assert!(cache.exists("abc_:c"));
    // What another has saved in between stays, with its tags.
    assert_eq!(cache.told_of(&forget_deleted(&["Z"], &["c"])), none);
    assert_eq!(cache.say(&mut late, "SCARD cache:tags:abc_Z"), "1");
}

#[test]
fn who_deletes_the_list_of_all_values_empties_the_cache_of_other_nodes() {
    let script =
        format!("EVALSHA {EMPTY} 3 cache:tags:abc_* cache:id_tags:abc_* cache:all_ids 1000");
    // With nothing here to delete, too.
    for command in ["DEL cache:all_ids", "UNLINK cache:all_ids:abc_", &script] {
        let (mut cache, mut other) = (Cache::new(), Session::new(2));
        let mut session = Session::new(1);
        cache.say(&mut other, "EXISTS x");
        save(&mut cache, &mut session, "a", "X");
        assert_eq!(cache.told_of(command), ["0 flush"], "{command}");
        // Who began before has nothing kept.
        save(&mut cache, &mut other, "late", "X");
        assert!(!cache.exists("abc_:late"), "{command}");
    }
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    save(&mut cache, &mut session, "a", "X");
    // The last one leaves the list, which goes with it.
    let none: [&str; 0] = [];
    assert_eq!(cache.told_of("SREM cache:all_ids a"), none);
}

#[test]
fn sets_read_one_after_another_that_share_nothing_are_a_clean_of_what_others_have_in_all() {
    let looks = "SMEMBERS cache:tags:abc_X; SMEMBERS cache:tags:abc_S";
    let with = |saved: &[(&str, &str)], commands: &str| {
        let (mut cache, mut session) = (Cache::new(), Session::new(1));
        for (id, tags) in saved {
            save(&mut cache, &mut session, id, tags);
        }
        cache.told_of(commands)
    };
    let apart = [("a", "X"), ("b", "S"), ("c", "S")];
    assert_eq!(with(&apart, looks), ["0 common cache:tags:abc_S,cache:tags:abc_X"]);
    let none: [&str; 0] = [];
    // What they share is deleted next, and told then.
    let shared = [("a", "X"), ("b", "S"), ("c", "S X")];
    assert_eq!(with(&shared, looks), none);
    let clean = format!("{looks}; UNLINK abc_:c");
    assert_eq!(with(&shared, &clean).len(), 1);
    // Who asks for something else in between reads.
    let reads = looks.replace("; ", "; EXISTS x; ");
    assert_eq!(with(&apart, &reads), none);
    let reads = looks.replace("; ", "; SMEMBERS cache:id_tags:abc_a; ");
    assert_eq!(with(&apart, &reads), none);
    assert_eq!(with(&apart, "SMEMBERS cache:tags:abc_X; SMEMBERS cache:tags:abc_X"), none);
    assert_eq!(with(&apart, "SMEMBERS cache:tags:abc_X; SSCAN cache:tags:abc_S 0"), none);
    // Sets of two caches share nothing, ever.
    let other = "SADD zc:ti:S b; SMEMBERS cache:tags:abc_X; SMEMBERS zc:ti:S";
    assert_eq!(with(&apart, other), none);
}

#[test]
fn who_walks_over_all_sets_cleans_no_more_of_them_than_a_clean_names() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    for at in 0..30 {
        save(&mut cache, &mut session, &format!("id{at}"), &format!("T{at}"));
    }
    let looks: Vec<_> = (0..30).map(|at| format!("SMEMBERS cache:tags:abc_T{at}")).collect();
    let told = cache.told_of(&looks.join("; ")).concat();
    let told: Vec<_> =
        (0..30).filter(|at| format!("{told},").contains(&format!("_T{at},"))).collect();
    assert!(told.iter().all(|at| *at < 7), "{told:?}");
}

#[test]
fn a_value_is_kept_until_a_tag_is_cleaned_and_then_from_the_next_beginning_on() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.say(&mut session, "EXISTS x");
    save(&mut cache, &mut session, "a", "X");
    assert!(cache.exists("abc_:a"));
    cache.clean("0 keys cache:tags:abc_other");
    save(&mut cache, &mut session, "b", "X");
    assert!(!cache.exists("abc_:b"));
    cache.say(&mut session, "SELECT 0");
    save(&mut cache, &mut session, "b", "X");
    assert!(cache.exists("abc_:b"));
}

#[test]
fn a_script_that_names_keeps_to_the_fence() {
    // A clean between a value and its tags takes it.
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    cache.say(&mut session, "SETEX abc_:a 100 data");
    cache.clean("0 keys cache:tags:abc_X");
    assert_eq!(cache.say(&mut session, &naming("a", "X")), "0");
    // In the turn of the value: it is kept where none of its tags was cleaned.
    for (tags, is_kept) in [("X Y", false), ("Y", true)] {
        let mut late = Session::new(1);
        cache.say(&mut late, "EXISTS x");
        cache.clean("0 keys cache:tags:abc_X");
        cache.say(&mut late, &format!("SETEX abc_:b 100 data; {}", naming("b", tags)));
        assert_eq!(cache.exists("abc_:b"), is_kept, "{tags}");
    }
    // What another has written there keeps the tags that it has.
    let (mut late, mut other) = (Session::new(1), Session::new(2));
    cache.say(&mut late, "EXISTS x");
    cache.clean("0 keys cache:tags:abc_X");
    cache.say(&mut late, "SETEX abc_:c 100 old");
    cache.say(&mut other, "EXISTS x");
    save(&mut cache, &mut other, "c", "X Z");
    cache.say(&mut late, &naming("c", "W"));
    for (tag, is_named) in [("X", "1"), ("Z", "1"), ("W", "0")] {
        let asked = format!("SISMEMBER cache:tags:abc_{tag} c");
        assert_eq!(cache.say(&mut other, &asked), is_named, "{tag}");
    }
}

#[test]
fn what_a_script_did_and_was_not_kept_is_not_in_a_copy() {
    let save = "EVALSHA 1aa53383846dbeb66b01e7f17908449a96ddf717 1 X zc:k: d t m i zc:tags zc:ti: zc:ids \
                a old X 1 0 100 0";
    // A script that saves and names, and one that names what was saved before it in the same turn.
    let named = format!("SETEX abc_:a 100 old; {}", naming("a", "X"));
    for (set, commands, key) in
        [("zc:ti:X", save, "zc:k:a"), ("cache:tags:abc_X", &named, "abc_:a")]
    {
        let (mut cache, mut late) = (Cache::new(), Session::new(1));
        cache.say(&mut late, "EXISTS x");
        cache.clean(&format!("0 keys {set}"));
        let mut copying = cache.keyspace.begin_copy();
        while !copying.is_over() {
            cache.keyspace.copy_part(&mut copying, 1_000, 1 << 20).unwrap();
        }
        cache.say(&mut late, commands);
        assert!(!cache.exists(key));
        let part = cache.keyspace.copy_part(&mut copying, 1_000, 1 << 20).unwrap();
        let done = String::from_utf8_lossy(&part.done).replace("\r\n", " ");
        let (last_set, last_gone) =
            (done.rfind("old"), done.rfind(&format!("DEL ${} {key}", key.len())));
        assert!(last_gone > last_set && last_set.is_some(), "{done}");
    }
}
