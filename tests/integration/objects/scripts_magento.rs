//! The scripts of Magento's backend over Symfony's do what they do at redis-server, where Lua scripts of our own
//! say what that is.

use parvis::resp::Value;

use super::{Chance, Connection, Kept};
use crate::keyspace::compare::{Compare, are_equal};
use crate::support::redis::Redis;

/// How a script says where values and their tags stand.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    /// As 2.4.9, which looks for values where none stand. Here they are found, so that other nodes are no better off.
    Of249,
    Nothing,
    Values,
    All,
}

const CLEANS: [(&str, Says); 5] = [
    ("9a421fa1aee8672289d0afa662be6f9c2fbe6e40", Says::Of249),
    ("a4f3a8c941c4bcccd5d398ded61292cf7b9e45ca", Says::Nothing),
    ("7fe6c265605850907fdff5caacf540b3869f90dc", Says::Values),
    ("22cba9766d14efafdc13d536604de6210075f528", Says::All),
    ("3718a4ed457296abe63e096890eff92093c0ed17", Says::All),
];
const CLEANS_OF_SCOPE: [(&str, Says); 4] = [
    ("ba9a0c694c782bb1a8f0e0b21fbc73e284d1ba5a", Says::Of249),
    ("89dadabf514f9b465ed7eb4b25ffb12ba84a8bf7", Says::Nothing),
    ("447708840ed150d0e8ea735c9a4d4fd33c5c8165", Says::Values),
    ("4426fc241b2d844cc4c2776f7ff67b8341bf9f4d", Says::All),
];
const NAME: &str = "95bbb2ec0b24a459d03267f7c68333bf85bcd4e9";
const FORGET: &str = "24db9536a772654e5e7be093101476d0fff83d05";
const FORGET_DELETED: &str = "1f5f19c9994c8577e22e0a69ae0565f6c58c6922";
const UNLOCK: &str = "d02e481a9c91ceec59c5822a58a49d5d5d7ac80b";
const EMPTY: &str = "2842452a6dc48198721c180402d465eb568ace07";
const COLLECT: &str = "b7e5e6a8c5af00ca38891bf2684cbd0c4175291f";

/// Before it stand `from`, where the arguments after the namespace (and the scope) begin, and the arguments.
const CLEAN_LUA: &str =
    "local scope = SCOPED and redis.call('SMEMBERS', ARGV[1] .. ARGV[2] .. ARGV[3])
local sets, found = {}, {}
for at, tag in ipairs(KEYS) do sets[at] = ARGV[1] .. ARGV[2] .. tag end
for _, id in ipairs(redis.call('SUNION', unpack(sets))) do
    local is_in = not SCOPED
    if SCOPED then
        for _, member in ipairs(scope) do is_in = is_in or member == id end
    end
    if is_in then table.insert(found, id) end
end
local values, tags_of, all = ARGV[2] .. ':', 'cache:id_tags:' .. ARGV[2], 'cache:all_ids'
if SAYS == 'values' then values = ARGV[4] end
if SAYS == 'all' then
    local at = SCOPED and 4 or 3
    values, tags_of, all = ARGV[at], ARGV[at + 1] .. ARGV[2], ARGV[at + 2]
end
for _, id in ipairs(found) do
    redis.call('DEL', values .. id)
    if SAYS == '249' then
        redis.call('DEL', ARGV[2] .. id)
    else
        for _, tag in ipairs(redis.call('SMEMBERS', tags_of .. id)) do
            redis.call('SREM', ARGV[1] .. ARGV[2] .. tag, id)
        end
        redis.call('DEL', tags_of .. id)
        redis.call('SREM', all, id)
    end
    if SAYS == 'all' then
        for _, set in ipairs(sets) do redis.call('SREM', set, id) end
        if SCOPED then redis.call('SREM', ARGV[1] .. ARGV[2] .. ARGV[3], id) end
    end
end
return #found";

const NAME_LUA: &str = "if redis.call('EXISTS', ARGV[1]) == 0 then return 0 end
local prefix, wanted = ARGV[4] .. ARGV[5], {}
for at = 7, #ARGV do wanted[ARGV[at]] = true end
for _, tag in ipairs(redis.call('SMEMBERS', ARGV[6])) do
    if not wanted[tag] then redis.call('SREM', prefix .. tag, ARGV[2]) end
end
redis.call('SADD', ARGV[3], ARGV[2])
redis.call('DEL', ARGV[6])
for at = 7, #ARGV do
    redis.call('SADD', prefix .. ARGV[at], ARGV[2])
    redis.call('SADD', ARGV[6], ARGV[at])
end
return 1";

const FORGET_LUA: &str = "local gone = 0
for at = 4, #ARGV do
    if redis.call('EXISTS', ARGV[3] .. ARGV[at]) == 0 then
        local tags = 'cache:id_tags:' .. ARGV[2] .. ARGV[at]
        for _, tag in ipairs(redis.call('SMEMBERS', tags)) do
            redis.call('SREM', ARGV[1] .. ARGV[2] .. tag, ARGV[at])
        end
        redis.call('DEL', tags)
        redis.call('SREM', 'cache:all_ids', ARGV[at])
        gone = gone + 1
    end
end
return gone";

const FORGET_DELETED_LUA: &str = "local tags_end = 4 + ARGV[4]
for at, value in ipairs(KEYS) do
    if redis.call('EXISTS', value) == 0 then
        local id = ARGV[tags_end + at]
        local named = redis.call('SMEMBERS', ARGV[2] .. id)
        for other = 5, tags_end do table.insert(named, ARGV[other]) end
        for _, tag in ipairs(named) do redis.call('SREM', ARGV[1] .. tag, id) end
        redis.call('SREM', ARGV[3], id)
        redis.call('DEL', ARGV[2] .. id)
    end
end
return 1";

const UNLOCK_LUA: &str =
    "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0";

const EMPTY_LUA: &str = "local gone = 0
for at = 1, 2 do
    for _, key in ipairs(redis.call('KEYS', KEYS[at])) do gone = gone + redis.call('DEL', key) end
end
return gone + redis.call('DEL', KEYS[3])";

struct Both {
    ours: Connection,
    theirs: Connection,
    compared: Compare,
}

impl Both {
    fn start(kept: &Kept, redis: &Redis) -> Self {
        let theirs = Connection::to(&redis.socket());
        Self { ours: kept.connect(), theirs, compared: Compare::Unordered }
    }

    fn run(&mut self, sha1: &str, lua: &str, keys: &[&str], arguments: &[&str]) -> Value {
        let number = keys.len().to_string();
        let rest = || std::iter::once(&*number).chain(keys.iter().chain(arguments).copied());
        let ours: Vec<&str> = ["EVALSHA", sha1].into_iter().chain(rest()).collect();
        let theirs: Vec<&str> = ["EVAL", lua].into_iter().chain(rest()).collect();
        let (ours, theirs) = (self.ours.ask(&ours), self.theirs.ask(&theirs));
        assert!(
            are_equal(self.compared, &ours, &theirs),
            "{sha1} {keys:?} {arguments:?}\n{ours:?}\n{theirs:?}"
        );
        ours
    }

    fn say(&mut self, command: &str) {
        let (ours, theirs) = (self.ours.say(command), self.theirs.say(command));
        assert!(are_equal(self.compared, &ours, &theirs), "{command}\n{ours:?}\n{theirs:?}");
    }

    fn clean(&mut self, (sha1, says): (&str, Says), tags: &[&str], scope: Option<&str>) {
        let told = match says {
            Says::Of249 => "249",
            Says::Nothing => "nothing",
            Says::Values => "values",
            Says::All => "all",
        };
        let lua = CLEAN_LUA.replace("SCOPED", if scope.is_some() { "true" } else { "false" });
        let mut arguments = vec!["cache:tags:", "abc_"];
        arguments.push(scope.unwrap_or("100"));
        match says {
            Says::Of249 | Says::Nothing => {}
            Says::Values => arguments.push("abc_:"),
            Says::All => {
                if scope.is_none() {
                    arguments.pop();
                }
                arguments.extend(["abc_:", "cache:id_tags:", "cache:all_ids", "5000"]);
            }
        }
        self.run(sha1, &lua.replace("SAYS", &format!("'{told}'")), tags, &arguments);
    }
}

/// Some values, of which the first one was deleted, which a tag names whatever its own set says; those that are there
/// stay as they are.
fn forget_deleted(both: &mut Both, chance: &mut Chance, tags: &[&str]) {
    let ids: Vec<_> = (0..=chance.below(4)).map(|_| format!("ID{}", chance.below(40))).collect();
    let keys: Vec<_> = ids.iter().map(|id| format!("abc_:{id}")).collect();
    both.say(&format!("DEL {}", keys[0]));
    for tag in tags.iter().take(1) {
        both.say(&format!("SADD cache:tags:abc_{tag} {}", ids[0]));
    }
    let number = tags.len().to_string();
    let places = ["cache:tags:abc_", "cache:id_tags:abc_", "cache:all_ids", &number];
    let ids = ids.iter().map(String::as_str);
    let arguments: Vec<&str> = places.into_iter().chain(tags.iter().copied()).chain(ids).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    both.run(FORGET_DELETED, FORGET_DELETED_LUA, &keys, &arguments);
}

fn tags(chance: &mut Chance) -> Vec<String> {
    let number = 1 + chance.below(3);
    (0..number).map(|_| format!("T{}", chance.below(10))).collect()
}

fn step(both: &mut Both, chance: &mut Chance) {
    let id = format!("ID{}", chance.below(40));
    let (key, tags_of) = (format!("abc_:{id}"), format!("cache:id_tags:abc_{id}"));
    let tags = tags(chance);
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let scope = format!("T{}", chance.below(10));
    match chance.below(14) {
        0..5 => {
            if chance.below(5) > 0 {
                // Each is another request's: a value whose tags come later is not kept after a clean.
                both.say("SELECT 0");
                both.say(&format!("SET {key} data EX 1000"));
            }
            let mut arguments =
                vec![&key[..], &id, "cache:all_ids", "cache:tags:", "abc_", &tags_of];
            arguments.extend(&tags);
            both.run(NAME, NAME_LUA, &[], &arguments);
        }
        5 => both.clean(CLEANS[chance.below(5)], &tags, None),
        6 => both.clean(CLEANS_OF_SCOPE[chance.below(4)], &tags, Some(&scope)),
        7..10 => {
            both.say(&format!("DEL {key}"));
            let other = format!("ID{}", chance.below(40));
            both.run(FORGET, FORGET_LUA, &[], &["cache:tags:", "abc_", "abc_:", &id, &other]);
        }
        10 => {
            both.say(&format!("SET cache:regen_lock:{id} {scope} NX EX 100"));
            both.run(UNLOCK, UNLOCK_LUA, &[&format!("cache:regen_lock:{id}")], &["T1"]);
        }
        11 => forget_deleted(both, chance, &tags),
        12 => forget_deleted(both, chance, &[]),
        _ if chance.below(20) == 0 => {
            let patterns = ["cache:tags:abc_*", "cache:id_tags:abc_*", "cache:all_ids"];
            both.run(EMPTY, EMPTY_LUA, &patterns, &["1000"]);
        }
        _ => both.say("SADD cache:tags:abc_T3 ID-without-a-value"),
    }
}

#[test]
fn scripts_of_magento_over_symfony_do_what_they_do_at_redis() {
    let (kept, redis) = (Kept::start(&[]), Redis::start());
    let mut both = Both::start(&kept, &redis);
    let mut chance = Chance(0x0bad_cafe);
    for round in 0..3_000 {
        step(&mut both, &mut chance);
        if round % 250 == 249 {
            // A look at sets before a deletion would be a clean.
            assert_eq!(kept.connect().contents(), both.theirs.contents(), "{round}");
        }
    }
}

#[test]
fn wrong_types_and_words_are_refused_as_redis_refuses_them() {
    let kept = Kept::start(&[]);
    let mut php = kept.connect();
    php.say("SET cache:tags:abc_T x");
    php.say("SADD set member");
    let (clean, scope) = (CLEANS[2].0, CLEANS_OF_SCOPE[2].0);
    let cases = [
        (format!("EVALSHA {clean} 1 T cache:tags: abc_ 100 abc_:"), "WRONGTYPE "),
        (format!("EVALSHA {scope} 1 T cache:tags: abc_ S abc_:"), "WRONGTYPE "),
        (format!("EVALSHA {UNLOCK} 1 set owner"), "WRONGTYPE "),
        (format!("EVALSHA {clean} 0 cache:tags: abc_ 100 abc_:"), "ERR The script takes more "),
        (format!("EVALSHA {clean} 1 T cache:tags: abc_ 100"), "ERR The script takes more "),
        (format!("EVALSHA {NAME} 0 k id all p n"), "ERR The script takes more "),
        (format!("EVALSHA {FORGET} 0 p n"), "ERR The script takes more "),
        (format!("EVALSHA {FORGET_DELETED} 1 k p r all"), "ERR The script takes more "),
        (format!("EVALSHA {FORGET_DELETED} 1 k p r all 1 T"), "ERR The script takes more "),
        (format!("EVALSHA {FORGET_DELETED} 1 k p r all 3 T id"), "ERR The script takes more "),
        (format!("EVALSHA {FORGET_DELETED} 1 k p r all -1 id"), "ERR value is not an integer"),
        (format!("EVALSHA {FORGET_DELETED} 1 k cache:tags:abc_ r all 1 T id"), "WRONGTYPE "),
        (format!("EVALSHA {COLLECT} 2 p* t 0 0"), "ERR syntax error"),
        (format!("EVALSHA {COLLECT} 2 p* t 10 x"), "ERR invalid cursor"),
        (format!("EVALSHA {EMPTY} 3 a* b* c 0"), "ERR syntax error"),
        (format!("EVALSHA {NAME} -1"), "ERR Number of keys can't be negative"),
    ];
    for (command, want) in cases {
        let Value::Error(said) = php.say(&command) else { panic!("{command}") };
        assert!(said.starts_with(want.as_bytes()), "{command}: {}", said.escape_ascii());
    }
}

#[test]
fn a_search_for_what_has_ended_walks_over_all_keys_and_finds_nothing() {
    let kept = Kept::start(&[]);
    let mut php = kept.connect();
    for id in 0..25 {
        php.say(&format!("SET abc_:{id} x"));
    }
    let (mut cursor, mut turns) = ("0".to_owned(), 0);
    loop {
        let said = php.say(&format!("EVALSHA {COLLECT} 2 abc_* cache:tags:abc_ 10 {cursor}"));
        let Value::Array(parts) = said else { panic!("{said:?}") };
        let [Value::Bulk(next), Value::Integer(0)] = &parts[..] else { panic!("{parts:?}") };
        (cursor, turns) = (String::from_utf8_lossy(next).into_owned(), turns + 1);
        if cursor == "0" {
            break;
        }
    }
    assert_eq!((turns, php.say("DBSIZE")), (3, Value::Integer(25)));
}
