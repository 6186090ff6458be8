//! The table of commands: names, how many arguments they take, and what they do.

use super::command::{Call, Done};
use super::commands::{
    connection, expiry, hashes, keys, numbers, scan, scripts, server, sets, strings,
};
use super::error::Error;
use crate::resp::Request;

/// What kind of command it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// It reads, or does nothing with keys.
    pub const READS: Self = Self(0);
    /// It changes keys.
    pub const WRITES: Self = Self(1);
    /// It may take more memory, so that it is refused where there is none.
    pub const GROWS: Self = Self(2 | Self::WRITES.0);
    /// It is done at once in a transaction, too.
    pub const AT_ONCE: Self = Self(4);
    /// It is refused in a transaction.
    pub const NEVER_QUEUED: Self = Self(8);
    /// Its first argument names the command.
    pub const CONTAINER: Self = Self(16);
    /// It takes keys away, so that other nodes hear of it.
    pub const CLEANS: Self = Self(32 | Self::WRITES.0);
    /// Its reply says what is kept, as to who takes a lock or counts.
    pub const PROMISES: Self = Self(64 | Self::GROWS.0);

    /// What it leaves of a key depends on other keys, or databases.
    pub const DRAWS: Self = Self(128 | Self::WRITES.0);

    /// It adds members to a set, which may be a tag's: it names values, and makes none.
    pub const NAMES: Self = Self(256 | Self::GROWS.0);

    /// Who asks for the list of all tags and then says nothing but these, and CLEANS, collects garbage: it looks which
    /// of the values that tags name are gone, takes their names out, and deletes what is empty.
    pub const COLLECTS: Self = Self(512);

    /// Some of it in a row, of tags' sets and with nothing between, may be one clean.
    pub const ROWS: Self = Self(1024);

    const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A command.
#[derive(Debug)]
pub(super) struct Command {
    /// In lower case; a command of a container has the container's name and a bar before it.
    pub name: &'static str,
    /// How many arguments it takes, the name included; negative: so many or more.
    pub arity: i32,
    pub flags: Flags,
    /// Where its keys stand: the first, the last (negative: from the end), and the distance.
    pub keys: (i32, i32, i32),
    pub run: fn(&mut Call<'_>) -> Done,
    /// It is one of a container.
    is_part: bool,
}

impl Command {
    /// Does it take so many arguments?
    pub fn takes(&self, arguments: usize) -> bool {
        let arguments = i32::try_from(arguments).unwrap_or(i32::MAX);
        if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity }
    }
}

const fn of(
    name: &'static str,
    arity: i32,
    flags: Flags,
    keys: (i32, i32, i32),
    run: fn(&mut Call<'_>) -> Done,
) -> Command {
    let (bytes, mut at, mut is_part) = (name.as_bytes(), 0, false);
    while at < bytes.len() {
        is_part |= bytes[at] == b'|';
        at += 1;
    }
    Command { name, arity, flags, keys, run, is_part }
}

const READS: Flags = Flags::READS;
const WRITES: Flags = Flags::WRITES;
const GROWS: Flags = Flags::GROWS;
const CLEANS: Flags = Flags::CLEANS;
const PROMISES: Flags = Flags::PROMISES;
const AT_ONCE: Flags = Flags::AT_ONCE;
const DRAWS: Flags = Flags::DRAWS;
const NAMES: Flags = Flags::NAMES;
const COLLECTS: Flags = Flags::COLLECTS;
const NO_KEY: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);
const TWO: (i32, i32, i32) = (1, 2, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);

/// All commands, sorted by name.
pub(super) static COMMANDS: &[Command] = &[
    of("append", 3, GROWS, ONE, strings::append),
    of("auth", -2, READS, NO_KEY, connection::auth),
    of("client", -2, Flags::CONTAINER, NO_KEY, server::container),
    of("client|getname", 2, READS, NO_KEY, connection::client_getname),
    of("client|id", 2, READS, NO_KEY, connection::client_id),
    of("client|info", 2, READS, NO_KEY, connection::client_info),
    of("client|list", -2, READS, NO_KEY, connection::client_info),
    of("client|no-evict", 3, READS, NO_KEY, connection::client_switch),
    of("client|no-touch", 3, READS, NO_KEY, connection::client_switch),
    of("client|reply", 3, READS, NO_KEY, connection::client_reply),
    of("client|setinfo", 4, READS, NO_KEY, connection::client_setinfo),
    of("client|setname", 3, READS, NO_KEY, connection::client_setname),
    of("command", -1, Flags::CONTAINER, NO_KEY, server::command),
    of("command|count", 2, READS, NO_KEY, server::command_count),
    of("command|docs", -2, READS, NO_KEY, server::command_docs),
    of("command|info", -2, READS, NO_KEY, server::command_info),
    of("command|list", 2, READS, NO_KEY, server::command_list),
    of("config", -2, Flags::CONTAINER, NO_KEY, server::container),
    of("config|get", -3, READS, NO_KEY, server::config_get),
    of("copy", -3, GROWS.and(DRAWS), TWO, keys::copy),
    of("dbsize", 1, READS, NO_KEY, keys::dbsize),
    of("decr", 2, PROMISES, ONE, numbers::decr),
    of("decrby", 3, PROMISES, ONE, numbers::decrby),
    of("del", -2, CLEANS, ALL, keys::del),
    of("discard", 1, AT_ONCE, NO_KEY, connection::discard),
    of("echo", 2, READS, NO_KEY, connection::echo),
    of("eval", -3, GROWS, NO_KEY, scripts::eval),
    of("evalsha", -3, GROWS, NO_KEY, scripts::evalsha),
    of("exec", 1, AT_ONCE.and(COLLECTS), NO_KEY, connection::exec),
    of("exists", -2, COLLECTS, ALL, keys::exists),
    of("expire", -3, WRITES, ONE, expiry::expire),
    of("expireat", -3, WRITES, ONE, expiry::expireat),
    of("expiretime", 2, READS, ONE, expiry::expiretime),
    of("flushall", -1, CLEANS, NO_KEY, keys::flushall),
    of("flushdb", -1, CLEANS, NO_KEY, keys::flushdb),
    of("get", 2, READS, ONE, strings::get),
    of("getdel", 2, CLEANS, ONE, strings::getdel),
    of("getex", -2, WRITES, ONE, strings::getex),
    of("getrange", 4, READS, ONE, strings::getrange),
    of("getset", 3, GROWS, ONE, strings::getset),
    of("hdel", -3, WRITES, ONE, hashes::hdel),
    of("hello", -1, READS, NO_KEY, connection::hello),
    of("hexists", 3, READS, ONE, hashes::hexists),
    of("hget", 3, READS, ONE, hashes::hget),
    of("hgetall", 2, READS, ONE, hashes::hgetall),
    of("hincrby", 4, PROMISES, ONE, numbers::hincrby),
    of("hincrbyfloat", 4, PROMISES, ONE, numbers::hincrbyfloat),
    of("hkeys", 2, READS, ONE, hashes::hkeys),
    of("hlen", 2, READS, ONE, hashes::hlen),
    of("hmget", -3, READS, ONE, hashes::hmget),
    of("hmset", -4, GROWS, ONE, hashes::hmset),
    of("hrandfield", -2, READS, ONE, hashes::hrandfield),
    of("hscan", -3, READS, ONE, scan::hscan),
    of("hset", -4, GROWS, ONE, hashes::hset),
    of("hsetnx", 4, PROMISES, ONE, hashes::hsetnx),
    of("hstrlen", 3, READS, ONE, hashes::hstrlen),
    of("hvals", 2, READS, ONE, hashes::hvals),
    of("incr", 2, PROMISES, ONE, numbers::incr),
    of("incrby", 3, PROMISES, ONE, numbers::incrby),
    of("incrbyfloat", 3, PROMISES, ONE, numbers::incrbyfloat),
    of("info", -1, READS, NO_KEY, server::info),
    of("keys", 2, READS, NO_KEY, scan::keys),
    of("mget", -2, READS, ALL, strings::mget),
    of("mset", -3, GROWS, PAIRS, strings::mset),
    of("msetnx", -3, PROMISES, PAIRS, strings::msetnx),
    of("multi", 1, AT_ONCE, NO_KEY, connection::multi),
    of("parvis.began", 1, READS, NO_KEY, connection::began),
    of("parvis.own", 2, WRITES, ONE, keys::own),
    of("persist", 2, WRITES, ONE, expiry::persist),
    of("pexpire", -3, WRITES, ONE, expiry::pexpire),
    of("pexpireat", -3, WRITES, ONE, expiry::pexpireat),
    of("pexpiretime", 2, READS, ONE, expiry::pexpiretime),
    of("ping", -1, READS, NO_KEY, connection::ping),
    of("psetex", 4, GROWS, ONE, strings::psetex),
    of("pttl", 2, READS, ONE, expiry::pttl),
    of("quit", -1, AT_ONCE, NO_KEY, connection::quit),
    of("randomkey", 1, READS, NO_KEY, keys::randomkey),
    of("rename", 3, DRAWS, TWO, keys::rename),
    of("renamenx", 3, DRAWS, TWO, keys::renamenx),
    of("reset", 1, AT_ONCE, NO_KEY, connection::reset),
    of("sadd", -3, NAMES, ONE, sets::sadd),
    of("scan", -2, READS, NO_KEY, scan::scan),
    of("scard", 2, READS, ONE, sets::scard),
    of("script", -2, Flags::CONTAINER, NO_KEY, server::container),
    of("script|exists", -3, READS, NO_KEY, scripts::script_exists),
    of("script|flush", -2, READS, NO_KEY, scripts::script_flush),
    of("script|load", 3, READS, NO_KEY, scripts::script_load),
    of("sdiff", -2, READS, ALL, sets::sdiff),
    of("sdiffstore", -3, GROWS.and(DRAWS), ALL, sets::sdiffstore),
    of("select", 2, READS, NO_KEY, connection::select),
    of("set", -3, GROWS, ONE, strings::set),
    of("setex", 4, GROWS, ONE, strings::setex),
    of("setnx", 3, PROMISES, ONE, strings::setnx),
    of("setrange", 4, GROWS, ONE, strings::setrange),
    of("sinter", -2, READS, ALL, sets::sinter),
    of("sintercard", -3, READS, NO_KEY, sets::sintercard),
    of("sinterstore", -3, GROWS.and(DRAWS), ALL, sets::sinterstore),
    of("sismember", 3, READS, ONE, sets::sismember),
    of("smembers", 2, COLLECTS.and(Flags::ROWS), ONE, sets::smembers),
    of("smismember", -3, READS, ONE, sets::smismember),
    of("smove", 4, DRAWS, TWO, sets::smove),
    of("spop", -2, WRITES, ONE, sets::spop),
    of("srandmember", -2, READS, ONE, sets::srandmember),
    of("srem", -3, WRITES.and(COLLECTS), ONE, sets::srem),
    of("sscan", -3, READS, ONE, scan::sscan),
    of("strlen", 2, READS, ONE, strings::strlen),
    of("sunion", -2, READS, ALL, sets::sunion),
    of("sunionstore", -3, GROWS.and(DRAWS), ALL, sets::sunionstore),
    of("swapdb", 3, CLEANS.and(DRAWS), NO_KEY, keys::swapdb),
    of("time", 1, READS, NO_KEY, server::time),
    of("touch", -2, READS, ALL, keys::touch),
    of("ttl", 2, READS, ONE, expiry::ttl),
    of("type", 2, READS, ONE, keys::kind),
    of("unlink", -2, CLEANS, ALL, keys::del),
    of("unwatch", 1, READS, NO_KEY, connection::unwatch),
    of("watch", -2, AT_ONCE, ALL, connection::watch),
];

/// No name is longer.
const NAME_MAX_BYTES: usize = 20;

/// Places of the index; four times as many as there are commands, so that most have one of their own.
const PLACES: usize = 512;
/// No command.
const NOBODY: u8 = u8::MAX;

/// Where a name, in lower case, is looked for first.
const fn place_of(lower: &[u8]) -> usize {
    let (mut hash, mut at) = (lower.len(), 0);
    while at < lower.len() {
        hash = hash.wrapping_mul(31).wrapping_add(lower[at] as usize);
        at += 1;
    }
    (hash ^ hash >> 9) % PLACES
}

/// Which command stands where; one whose place is taken stands in the next free one.
static INDEX: [u8; PLACES] = {
    let (mut index, mut at) = ([NOBODY; PLACES], 0);
    while at < COMMANDS.len() {
        let mut place = place_of(COMMANDS[at].name.as_bytes());
        while index[place] != NOBODY {
            place = (place + 1) % PLACES;
        }
        index[place] = at as u8;
        at += 1;
    }
    index
};

/// The command of that name. It is looked for with each command, so that a search by halves would be seen.
pub(super) fn named(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_MAX_BYTES];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let mut place = place_of(lower);
    loop {
        let command = COMMANDS.get(INDEX[place] as usize)?;
        if command.name.as_bytes() == lower {
            return Some(command);
        }
        place = (place + 1) % PLACES;
    }
}

/// The command that a request is.
pub(super) fn find(request: &Request) -> Result<&'static Command, Error> {
    let name = request.arg(0).unwrap_or_default();
    let Some(command) = named(name).filter(|command| !command.is_part) else {
        return Err(unknown(request));
    };
    match request.arg(1) {
        Some(second) if command.flags.contains(Flags::CONTAINER) => {
            let whole = [command.name.as_bytes(), b"|", second].concat();
            named(&whole).ok_or_else(|| unknown_within(command.name, second))
        }
        _ => Ok(command),
    }
}

/// So much of a name, and of the arguments, is told.
const TOLD_MAX_BYTES: usize = 128;

/// As C prints a string: up to a NUL, and no longer than `max`.
fn told(text: &[u8], max: usize) -> &[u8] {
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    &text[..end.min(max)]
}

fn unknown(request: &Request) -> Error {
    let mut arguments = Vec::new();
    for argument in request.args().skip(1) {
        if arguments.len() >= TOLD_MAX_BYTES {
            break;
        }
        let left = TOLD_MAX_BYTES - arguments.len();
        arguments.push(b'\'');
        arguments.extend_from_slice(told(argument, left));
        arguments.extend_from_slice(b"' ");
    }
    let name = told(request.arg(0).unwrap_or_default(), TOLD_MAX_BYTES);
    Error::text(
        [b"ERR unknown command '", name, b"', with args beginning with: ", &arguments].concat(),
    )
}

fn unknown_within(container: &str, name: &[u8]) -> Error {
    let container = container.to_ascii_uppercase();
    let name = told(name, TOLD_MAX_BYTES);
    Error::text(
        [b"ERR unknown subcommand '", name, b"'. Try ", container.as_bytes(), b" HELP."].concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_names_fit() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for command in COMMANDS {
            assert!(command.name.len() <= NAME_MAX_BYTES, "{}", command.name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            assert!(std::ptr::eq(named(command.name.as_bytes()).expect("found"), command));
        }
    }
}
