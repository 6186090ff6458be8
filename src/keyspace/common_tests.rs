//! Cleans of what several tags' sets have in common, as Magento cleans within a scope.

use super::Session;
use super::cleans_tests::Cache;

#[test]
fn a_clean_of_what_sets_have_in_common_takes_that_alone() {
    let mut cache = Cache::new();
    let mut session = Session::new(1);
    cache.say(&mut session, "EXISTS x");
    for (id, tags) in [("a", "X,S"), ("b", "X"), ("c", "S"), ("d", "X,S,Y")] {
        cache.say(&mut session, &format!("HMSET zc:k:{id} d {id} t {tags} m 1"));
        for tag in tags.split(',') {
            cache.say(&mut session, &format!("SADD zc:ti:{tag} {id}"));
        }
    }
    // Its tags do not name it yet.
    cache.say(&mut session, "HMSET zc:k:young d d t S,X m 1; HMSET zc:k:other d d t S,Y m 1");
    let mut late = Session::new(2);
    cache.say(&mut late, "EXISTS x");
    cache.clean("0 common zc:ti:S,zc:ti:X");
    for (id, is_there) in
        [("a", false), ("b", true), ("c", true), ("d", false), ("young", false), ("other", true)]
    {
        assert_eq!(cache.exists(&format!("zc:k:{id}")), is_there, "{id}");
    }
    assert_eq!(cache.say(&mut session, "SISMEMBER zc:ti:X a"), "0");
    assert_eq!(cache.say(&mut session, "SCARD zc:ti:S"), "1");
    // Of two as small as each other the first one stands for both, as the smallest does.
    cache.say(&mut late, "HMSET zc:k:e d d t X,S m 1");
    assert!(!cache.exists("zc:k:e"), "it is older than the clean");
    // Where this node does not know a set, the other one stands for it.
    cache.clean("0 common zc:ti:S,foreign");
    assert!(!cache.exists("zc:k:c") && cache.exists("zc:k:b"));
}

#[test]
fn a_clean_of_two_tags_spares_what_a_moment_ago_got_one_of_them() {
    let (mut cache, mut session) = (Cache::new(), Session::new(1));
    for (id, tags) in [("both", "X,S"), ("one", "X"), ("scope", "S"), ("more", "S")] {
        cache.say(&mut session, &format!("HMSET zc:k:{id} d {id} t {tags} m 1"));
        for tag in tags.split(',') {
            cache.say(&mut session, &format!("SADD zc:ti:{tag} {id}"));
        }
    }
    assert_eq!(cache.told_of("SINTER zc:ti:X zc:ti:S; UNLINK zc:k:both").len(), 1);
    assert!(cache.exists("zc:k:one") && cache.exists("zc:k:scope") && cache.exists("zc:k:more"));
}

/// The one that names it for another reason as well is fenced, too.
#[test]
fn what_was_made_of_a_value_between_look_and_deletion_is_not_kept_whatever_else_named_it() {
    let (mut cache, mut cleaner, mut reader) = (Cache::new(), Session::new(1), Session::new(2));
    cache.say(&mut cleaner, "HMSET zc:k:a d a t X m 1; SADD zc:ti:X a");
    cache.say(&mut cleaner, "SINTER zc:ti:X zc:ti:X; UNLINK zc:k:a");
    // Its old tag's set still names it.
    cache.say(&mut cleaner, "HMSET zc:k:a d a t Y m 1; SADD zc:ti:Y a b");
    cache.say(&mut cleaner, "SINTER zc:ti:Y zc:ti:Y");
    cache.say(&mut reader, "HGET zc:k:a d");
    cache.say(&mut cleaner, "UNLINK zc:k:a");
    cache.say(&mut reader, "HMSET zc:k:c d made-of-a t Y m 1; SADD zc:ti:Y c");
    assert!(!cache.exists("zc:k:c"));
}
