//! What a client made of older data than was cleaned since is answered as always, and not kept.

use parvis::resp::Value;

use super::scripts::SAVE;
use super::{Connection, Kept};

const CLEAN: &str = "321be2370adbc52c83c52a33b72921111a989a6d";

fn ok() -> Value {
    Value::Simple("OK".into())
}

/// As PHP begins: it asks for something that is not there.
fn begin(kept: &Kept) -> Connection {
    let mut connection = kept.connect();
    assert_eq!(connection.say("HGET zc:k:none d"), Value::Null);
    connection
}

fn save(connection: &mut Connection, id: &str, tag: &str) {
    assert_eq!(connection.say(&format!("HMSET zc:k:{id} d {id} t {tag} m 1 i 0")), ok());
    connection.say(&format!("SADD zc:tags {tag}"));
    connection.say(&format!("SADD zc:ti:{tag} {id}"));
}

fn is_there(connection: &mut Connection, key: &str) -> bool {
    connection.say(&format!("EXISTS {key}")) == Value::Integer(1)
}

#[test]
fn a_value_that_was_begun_before_a_clean_of_its_tag_is_not_kept() {
    let kept = Kept::start(&[]);
    let (mut old, mut cleaner) = (begin(&kept), begin(&kept));
    save(&mut cleaner, "a", "X");
    assert_eq!(cleaner.say("SINTER zc:ti:X zc:ti:X"), Value::Array(vec![Value::Bulk("a".into())]));
    assert_eq!(cleaner.say("UNLINK zc:k:a"), Value::Integer(1));
    save(&mut old, "a", "X");
    assert_eq!(old.say("HGET zc:k:a t"), Value::Bulk("X".into()), "it finds what it wrote");
    save(&mut old, "b", "Y");
    let script =
        format!("EVALSHA {SAVE} 1 X zc:k: d t m i zc:tags zc:ti: zc:ids c data X 1 0 60 0");
    assert_eq!(old.say(&script), Value::Bulk("".into()));
    let mut new = begin(&kept);
    assert!(!is_there(&mut new, "zc:k:a") && !is_there(&mut new, "zc:k:c"));
    assert!(is_there(&mut new, "zc:k:b"), "its tag was not cleaned");
    save(&mut new, "a", "X");
    assert!(is_there(&mut new, "zc:k:a"), "who began later is kept");
    assert!(kept.metric("unkept_total") >= 2.0);
    // By script, and where nothing has the tag here.
    let script = format!("EVALSHA {CLEAN} 1 X zc:ti: zc:k: zc:tags zc:ids 0 5000");
    for (clean, tag) in [(script.as_str(), "X"), ("SINTER zc:ti:Q zc:ti:MAGE", "Q")] {
        let mut old = begin(&kept);
        cleaner.say(clean);
        save(&mut old, "a", tag);
        assert!(!is_there(&mut begin(&kept), "zc:k:a"), "{clean}");
    }
}

#[test]
fn a_flush_holds_for_who_began_before_but_for_who_does_it() {
    let kept = Kept::start(&[]);
    let (mut old, mut flusher) = (begin(&kept), begin(&kept));
    assert_eq!(flusher.say("FLUSHDB"), ok());
    save(&mut old, "old", "X");
    save(&mut flusher, "own", "X");
    assert_eq!(old.say("SET lock me NX"), ok());
    assert!(!is_there(&mut old, "zc:k:old"));
    assert!(is_there(&mut old, "zc:k:own") && is_there(&mut old, "lock"));
    assert!(kept.metric("cleans_total") >= 1.0);
}

#[test]
fn a_connection_that_paused_begins_anew() {
    let kept = Kept::start(&[("objects.pause", "\"50ms\"")]);
    let (mut old, mut cleaner) = (begin(&kept), begin(&kept));
    cleaner.say("DEL zc:ti:X");
    std::thread::sleep(std::time::Duration::from_millis(200));
    save(&mut old, "a", "X");
    assert!(is_there(&mut old, "zc:k:a"));
}
