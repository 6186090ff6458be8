//! What each command means for a connection that others share.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::resp::Request;

/// What is to be done with a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It leaves its connection as it was and does not wait, so it may go over a shared one.
    Shared {
        /// It changes nothing, so it may be sent again when its reply was lost.
        reads: bool,
    },
    /// It may wait for others, or is not known here: over a connection of its own.
    Alone {
        /// It may wait for as long as it says.
        waits: bool,
        /// The connection is as before when it has been answered.
        clean: bool,
    },
    /// From here on the connection is told what happens to keys.
    Watch,
    /// A transaction begins.
    Multi,
    /// It ends.
    Exec,
    /// From here on the server speaks when it likes.
    Listen,
    /// The connection itself is meant, so this server answers.
    Own(Own),
    /// It would hurt others, or administers the server.
    Refused(&'static str),
}

/// Commands that this server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Auth,
    Client,
    Hello,
    Quit,
    Reset,
    Select,
    /// In one of its kinds, from who is not subscribed.
    Unsubscribe,
}

/// Commands that read data, or what the server says of itself.
const READS: &str = "\
    bitcount bitfield_ro bitpos command dbsize dump echo eval_ro evalsha_ro exists \
    expiretime fcall_ro geodist geohash geopos georadius_ro georadiusbymember_ro geosearch \
    get getbit getrange hexists hexpiretime hget hgetall hkeys hlen hmget hpexpiretime hpttl \
    hrandfield hscan hstrlen httl hvals info keys lastsave lcs lindex llen lolwut lpos \
    lrange memory mget object pexpiretime pfcount ping pttl pubsub randomkey role scan scard \
    sdiff sinter sintercard sismember smembers smismember sort_ro srandmember sscan strlen \
    substr sunion time ttl type xinfo xlen xpending xrange xread xrevrange zcard zcount \
    zdiff zinter zintercard zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore \
    zrank zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion";

/// Commands that change data.
const WRITES: &str = "\
    append bitfield bitop copy decr decrby del eval evalsha expire expireat fcall flushdb \
    function geoadd georadius georadiusbymember geosearchstore getdel getex getset hdel \
    hexpire hexpireat hgetdel hgetex hincrby hincrbyfloat hmset hpersist hpexpire hpexpireat \
    hset hsetex hsetnx incr incrby incrbyfloat linsert lmove lmpop lpop lpush lpushx lrem \
    lset ltrim move mset msetnx persist pexpire pexpireat pfadd pfmerge psetex publish \
    rename renamenx restore rpop rpoplpush rpush rpushx sadd script sdiffstore set setbit \
    setex setnx setrange sinterstore smove sort spop spublish srem sunionstore touch unlink \
    unwatch xack xackdel xadd xautoclaim xclaim xdel xdelex xgroup xreadgroup xsetid xtrim \
    zadd zdiffstore zincrby zinterstore zmpop zpopmax zpopmin zrangestore zrem \
    zremrangebylex zremrangebyrank zremrangebyscore zunionstore";

/// Commands that wait until somebody else does something.
const WAITS: &str = "\
    blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin wait waitaof";

const ADMINISTRATION: &str = "administers the server, which clients here may not";
const OTHERS: &str = "concerns connections that all clients share";

/// Commands that are for the server's own administrator, or for other servers.
const REFUSED: &str = "\
    acl asking bgrewriteaof bgsave cluster config debug failover latency migrate module \
    psync readonly readwrite replconf replicaof restore-asking save shutdown slaveof slowlog \
    sync";

/// What each name in these lists means.
static KNOWN: LazyLock<HashMap<&'static str, Class>> = LazyLock::new(|| {
    let lists = [
        (READS, Class::Shared { reads: true }),
        (WRITES, Class::Shared { reads: false }),
        (WAITS, Class::Alone { waits: true, clean: true }),
        (REFUSED, Class::Refused(ADMINISTRATION)),
    ];
    let of = |(names, class): (&'static str, Class)| {
        names.split_ascii_whitespace().map(move |name| (name, class))
    };
    lists.into_iter().flat_map(of).collect()
});

/// More than the longest name.
const NAME_MAX_BYTES: usize = 24;

/// What a command is.
pub(super) fn class(request: &Request) -> Class {
    let mut lower = [0; NAME_MAX_BYTES];
    let name = request.arg(0).unwrap_or_default();
    let Some(lower) = lower.get_mut(..name.len()) else { return UNKNOWN };
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let Ok(name) = std::str::from_utf8(lower) else { return UNKNOWN };
    match name {
        "xread" | "xreadgroup" if says(request, "block") => {
            Class::Alone { waits: true, clean: true }
        }
        "script" | "function" => script(request),
        _ => KNOWN.get(name).copied().unwrap_or_else(|| of_connection(name, request)),
    }
}

/// A connection on which something unknown was done is not used again.
const UNKNOWN: Class = Class::Alone { waits: false, clean: false };

fn of_connection(name: &str, request: &Request) -> Class {
    // One with an argument too many is refused by the server, and changes nothing.
    let bare = request.len() == 1;
    match name {
        "watch" => Class::Watch,
        "multi" if bare => Class::Multi,
        "exec" | "discard" if bare => Class::Exec,
        "multi" | "exec" | "discard" => Class::Shared { reads: false },
        "subscribe" | "psubscribe" | "ssubscribe" | "monitor" => Class::Listen,
        "auth" => Class::Own(Own::Auth),
        "client" => Class::Own(Own::Client),
        "hello" => Class::Own(Own::Hello),
        "quit" => Class::Own(Own::Quit),
        "reset" => Class::Own(Own::Reset),
        "select" => Class::Own(Own::Select),
        "unsubscribe" | "punsubscribe" | "sunsubscribe" => Class::Own(Own::Unsubscribe),
        "flushall" | "swapdb" => Class::Refused(
            "concerns the databases of others, too; FLUSHDB empties the one that is selected",
        ),
        _ => UNKNOWN,
    }
}

/// Scripts may be loaded, but not ended: it may be somebody else's that runs.
fn script(request: &Request) -> Class {
    let is = |name: &str| request.arg(1).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()));
    if is("kill") || is("debug") { Class::Refused(OTHERS) } else { Class::Shared { reads: false } }
}

/// Does one of the arguments say so?
fn says(request: &Request, word: &str) -> bool {
    request.args().skip(1).any(|argument| argument.eq_ignore_ascii_case(word.as_bytes()))
}

/// What a client that listens may say.
pub(super) fn may_say_while_listening(request: &Request) -> bool {
    const WORDS: [&str; 7] = [
        "subscribe",
        "psubscribe",
        "ssubscribe",
        "unsubscribe",
        "punsubscribe",
        "sunsubscribe",
        "ping",
    ];
    WORDS.iter().any(|word| request.is(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Class {
        let arguments: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        class(&Request::pack(&arguments))
    }

    #[test]
    fn no_name_stands_in_two_lists() {
        let names = [READS, WRITES, WAITS, REFUSED].map(|list| list.split_ascii_whitespace());
        let names: Vec<_> = names.into_iter().flatten().collect();
        assert_eq!(names.len(), KNOWN.len());
        assert!(names.iter().all(|name| name.len() <= NAME_MAX_BYTES));
    }

    #[test]
    fn what_changes_a_connection_or_waits_never_goes_over_a_shared_one() {
        for text in [
            "SELECT 1",
            "multi",
            "EXEC",
            "DISCARD",
            "Watch a",
            "SUBSCRIBE a",
            "MONITOR",
            "HELLO 3",
            "AUTH x",
            "CLIENT REPLY OFF",
            "CLIENT TRACKING ON",
            "QUIT",
            "RESET",
            "BLPOP a 0",
            "XREAD block 0 STREAMS a 0",
            "WAIT 1 0",
            "READONLY",
            "ASKING",
            "SHUTDOWN",
            "SCRIPT KILL",
            "SCRIPT DEBUG YES",
            "FLUSHALL",
            "SYNC",
            "NEWINREDIS9 a",
            "DEBUG SLEEP 1",
        ] {
            assert!(!matches!(of(text), Class::Shared { .. }), "{text}");
        }
    }

    #[test]
    fn what_sessions_are_made_of_goes_over_a_shared_one() {
        for text in [
            "HINCRBY a lock 1",
            "hmset a b c",
            "EXPIRE a 1",
            "UNLINK a",
            "MULTI x",
            "SCRIPT LOAD x",
        ] {
            assert_eq!(of(text), Class::Shared { reads: false }, "{text}");
        }
        for text in ["HMGET a data", "HGET a pid", "PING", "TTL a", "XREAD STREAMS a 0"] {
            assert_eq!(of(text), Class::Shared { reads: true }, "{text}");
        }
    }
}
