//! The log as it stands in Redis: keys, scripts, and how replies are read.
//!
//! `{PREFIX}:log` is a stream whose ids are the sequence; `{PREFIX}:head` is a hash with its epoch, its
//! last sequence and its last entry's name. The braces keep all keys in one slot of a cluster. Each
//! script first makes sure that the two belong together; where they do not, as after one of them
//! was deleted or set by hand, a new epoch begins.

use super::log::{Entry, Order, Position, Token, Unreadable};
use crate::redis_pool::{Command, Reply};

const HEAD: &str = "\
local function head(fresh)
  local head = redis.call('HMGET', KEYS[1], 'epoch', 'sequence', 'entry')
  local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if head[1] and head[2] and head[3] and (not last or last[1] == head[2] .. '-0') then
    return head
  end
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', fresh, 'sequence', 0, 'entry', '')
  return {fresh, '0', ''}
end
";

/// INCR and XADD in one step. HINCRBY comes first: where Redis has no memory left it fails before
/// anything is written.
const APPEND: &str = "\
local head = head(ARGV[1])
local sequence = redis.call('HINCRBY', KEYS[1], 'sequence', 1)
redis.call('HSET', KEYS[1], 'entry', ARGV[2])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], sequence .. '-0', 'epoch', head[1],
  'entry', ARGV[2], 'before', head[3], 'node', ARGV[3], 'wait', ARGV[6], 'order', ARGV[4])
return {head[1], sequence}
";

/// Announces a node and tells the log's end. That it writes is meant: a replica, a master that was
/// demoted and one without memory refuse it, and none of them can prove anything.
const BEAT: &str = "\
local head = head(ARGV[2])
local before = redis.call('GET', KEYS[4])
if ARGV[4] ~= '' then
  redis.call('SET', KEYS[4], ARGV[4], 'PX', ARGV[5])
  redis.call('SADD', KEYS[3], ARGV[3])
end
return {ARGV[1], head[1], head[2], head[3], before}
";

const MEMBERS: &str = "\
local found = {}
for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local member = redis.call('GET', ARGV[1] .. name)
  if member then
    found[#found + 1] = member
  else
    redis.call('SREM', KEYS[1], name)
  end
end
return found
";

/// Entries that are read at once.
const ENTRIES_MAX: usize = 512;

/// The keys of a shop.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    head: String,
    log: String,
    nodes: String,
    node: String,
}

/// The answer to a beat.
#[derive(Debug)]
pub(super) struct Beat {
    pub(super) token: Token,
    pub(super) end: Position,
    /// What the node of this name had announced last.
    pub(super) before: Option<Vec<u8>>,
}

/// An entry, and what its reader does besides applying it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) entry: Entry,
    /// Why it cannot be read.
    pub(super) unreadable: Option<Unreadable>,
    /// Somebody waits for this node's having applied it.
    pub(super) is_awaited: bool,
}

/// What of an entry goes into the log.
pub(super) struct Append<'a> {
    pub(super) name: Token,
    pub(super) node: &'a str,
    pub(super) order: &'a Order,
    pub(super) is_awaited: bool,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let key = |name: &str| format!("{{{prefix}}}:{name}");
        Self { head: key("head"), log: key("log"), nodes: key("nodes"), node: key("node:") }
    }

    pub(super) fn append(&self, entry: &Append<'_>, fresh: Token, log_max: usize) -> Command {
        let wait = if entry.is_awaited { "1" } else { "0" };
        script(APPEND, &[&self.head, &self.log])
            .arg(fresh.to_string())
            .arg(entry.name.to_string())
            .arg(entry.node)
            .arg(entry.order.encode())
            .number(log_max)
            .arg(wait)
    }

    pub(super) fn beat(
        &self,
        (token, fresh): (Token, Token),
        (name, announced): (&str, &str),
        expiry_milliseconds: u128,
    ) -> Command {
        let own = format!("{}{name}", self.node);
        script(BEAT, &[&self.head, &self.log, &self.nodes, &own])
            .arg(token.to_string())
            .arg(fresh.to_string())
            .arg(name)
            .arg(announced)
            .number(expiry_milliseconds)
    }

    pub(super) fn members(&self) -> Command {
        script(MEMBERS, &[&self.nodes]).arg(&self.node)
    }

    /// Waits up to so long for entries behind a sequence.
    pub(super) fn read(&self, behind: u64, block_milliseconds: u128) -> Command {
        Command::new("XREAD")
            .arg("COUNT")
            .number(ENTRIES_MAX)
            .arg("BLOCK")
            .number(block_milliseconds)
            .arg("STREAMS")
            .arg(&self.log)
            .arg(format!("{behind}-0"))
    }

    /// Takes a node that stops out of the list.
    pub(super) fn leave(&self, name: &str) -> Command {
        Command::new("DEL").arg(format!("{}{name}", self.node))
    }
}

fn script(text: &str, keys: &[&str]) -> Command {
    let command = Command::new("EVAL").arg(format!("{HEAD}{text}")).number(keys.len());
    keys.iter().fold(command, Command::arg)
}

/// `None`: the reply is none of this script's.
pub(super) fn beat_of(reply: &Reply) -> Option<Beat> {
    let [token, epoch, sequence, entry, before] = reply.list()? else { return None };
    let position = Position {
        epoch: Token::parse(epoch.bytes()?)?,
        sequence: sequence.integer()?,
        entry: Token::parse(entry.bytes()?),
    };
    let before = before.bytes().map(<[u8]>::to_vec);
    Some(Beat { token: Token::parse(token.bytes()?)?, end: position, before })
}

/// Epoch and sequence of an append.
pub(super) fn appended_of(reply: &Reply) -> Option<(Token, u64)> {
    let [epoch, sequence] = reply.list()? else { return None };
    Some((Token::parse(epoch.bytes()?)?, sequence.integer()?))
}

/// The entries of `XREAD`; `None`: the reply is none of one stream.
pub(super) fn entries_of(reply: &Reply, regex_max_bytes: usize) -> Option<Vec<Read>> {
    if *reply == Reply::Nil {
        return Some(Vec::new());
    }
    let [stream] = reply.list()? else { return None };
    let [_, entries] = stream.list()? else { return None };
    entries.list()?.iter().map(|entry| entry_of(entry, regex_max_bytes)).collect()
}

fn entry_of(reply: &Reply, regex_max_bytes: usize) -> Option<Read> {
    let [id, fields] = reply.list()? else { return None };
    let id = id.text()?;
    let sequence = id.split('-').next()?.parse().ok()?;
    let fields = fields.list()?;
    let field = |name: &str| {
        let pair = fields.chunks_exact(2).find(|pair| pair[0].bytes() == Some(name.as_bytes()));
        pair.and_then(|pair| pair[1].bytes())
    };
    let token = |name| field(name).and_then(Token::parse);
    let order = Order::decode(field("order").unwrap_or_default(), regex_max_bytes);
    let (order, unreadable) = match order {
        Ok(order) => (Some(order), None),
        Err(error) => (None, Some(error)),
    };
    // Without an epoch it belongs to none that is known, which counts as a new one.
    let epoch = token("epoch").unwrap_or(Token::new([0; 16]));
    let position = Position { epoch, sequence, entry: token("entry") };
    let entry = Entry { position, before: token("before"), order };
    Some(Read { entry, unreadable, is_awaited: field("wait") == Some(b"1") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.into())
    }

    #[test]
    fn an_entry_is_read_with_its_place_in_the_chain() {
        let (epoch, name, before) = (Token::new([1; 16]), Token::new([2; 16]), Token::new([3; 16]));
        let texts = [
            ("epoch", epoch.to_string()),
            ("entry", name.to_string()),
            ("before", before.to_string()),
            ("node", "web-1".to_owned()),
            ("wait", "1".to_owned()),
            ("order", "1 hard all ".to_owned()),
        ];
        let fields = texts.iter().flat_map(|(name, value)| [bytes(name), bytes(value)]).collect();
        let entry = Reply::List(vec![bytes("7-0"), Reply::List(fields)]);
        let stream = Reply::List(vec![bytes("{parvis}:log"), Reply::List(vec![entry])]);
        let read = entries_of(&Reply::List(vec![stream]), 1 << 16).expect("entries");
        assert_eq!(read[0].entry.position, Position { epoch, sequence: 7, entry: Some(name) });
        assert_eq!(read[0].entry.before, Some(before));
        assert!(read[0].is_awaited && read[0].unreadable.is_none());
        assert!(entries_of(&Reply::Nil, 1).is_some_and(|entries| entries.is_empty()));
    }

    #[test]
    fn an_entry_of_somebody_else_is_unreadable_and_not_nothing() {
        let entry = Reply::List(vec![bytes("7-1"), Reply::List(vec![bytes("a"), bytes("b")])]);
        let read = entry_of(&entry, 1 << 16).expect("an entry");
        assert_eq!(read.unreadable, Some(Unreadable::Unknown));
        assert!(entry_of(&Reply::Nil, 1).is_none());
    }
}
