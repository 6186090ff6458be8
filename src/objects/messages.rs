//! Keys that are messages between the servers of a shop. They go through the central Redis: before commands
//! that touch one it is fetched from there into this server's own databases, and what they changed of it is
//! there before they are answered. So all commands can be used on them, in transactions and scripts, too.
//!
//! What is kept in Redis under `PREFIX:objects:DATABASE:KEY` are the commands that make the key what it is.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::Objects;
use crate::clock::{Clock, Moment};
use crate::keyspace::{self, Keyspace, Session};
use crate::redis_pool::{Command, Redis, Reply};
use crate::resp::{ReadState, Request, read_request};
use crate::settings;

/// Longer words are no keys of messages.
const KEY_MAX_BYTES: usize = 1_024;
/// So many messages are fetched for one turn; others are as this server has them.
const KEYS_MAX: usize = 1_000;
/// After Redis did not answer in time it is not waited for so long.
const AWAY: Duration = Duration::from_secs(1);

/// Where messages are, and which keys they have.
pub(super) struct Messages {
    redis: Redis,
    prefix: String,
    patterns: Vec<Pattern>,
    timeout: Duration,
    clock: Clock,
    away_until: AtomicU64,
    failures: AtomicU64,
    is_away: AtomicBool,
}

/// A message's key, and the database it is in.
pub(super) type Key = (usize, Bytes);

/// What a message was before commands that touch it.
pub(super) struct Touched {
    keys: Vec<(Key, BytesMut)>,
}

/// A pattern of keys, and the longest text in it that stands as it is, by which most keys are told apart at
/// once.
struct Pattern {
    glob: Vec<u8>,
    text: Vec<u8>,
    /// For each byte how far the search may go on where it stands under the text's last one.
    skip: Box<[usize; 256]>,
}

impl Pattern {
    fn new(glob: &str) -> Self {
        let special = |byte: &u8| b"*?[]\\".contains(byte);
        // A class may stand for any byte: what is in one is no text.
        let literal = if glob.contains('[') { "" } else { glob };
        let parts = literal.as_bytes().split(special);
        let text = parts.max_by_key(|part| part.len()).unwrap_or_default().to_ascii_lowercase();
        let mut skip = Box::new([text.len().max(1); 256]);
        for (at, byte) in text.iter().enumerate().take(text.len().saturating_sub(1)) {
            skip[usize::from(*byte)] = text.len() - 1 - at;
        }
        Self { glob: glob.as_bytes().to_vec(), text, skip }
    }

    fn may_match(&self, key: &[u8]) -> bool {
        let length = self.text.len();
        let mut at = 0;
        while length > 0 && at + length <= key.len() {
            let part = &key[at..at + length];
            if part.eq_ignore_ascii_case(&self.text) {
                return true;
            }
            at += self.skip[usize::from(part[length - 1].to_ascii_lowercase())];
        }
        length == 0
    }

    fn matches(&self, key: &[u8]) -> bool {
        key.len() <= KEY_MAX_BYTES
            && self.may_match(key)
            && keyspace::matches(&self.glob, key, true)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Messages").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Messages {
    fn is_message(&self, key: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(key))
    }

    /// The messages that these commands touch.
    pub fn touched(&self, session: &Session, requests: &[Request]) -> Vec<Key> {
        let (mut keys, mut database) = (Vec::new(), session.database());
        for request in requests {
            if request.is("select") {
                let number = request.arg(1).and_then(|text| std::str::from_utf8(text).ok());
                database = number.and_then(|text| text.parse().ok()).unwrap_or(database);
            }
            self.add(request, database, &mut keys);
        }
        keys
    }

    fn add(&self, request: &Request, database: usize, keys: &mut Vec<Key>) {
        let mut add = |key: &[u8]| {
            let key = (database, Bytes::copy_from_slice(key));
            if keys.len() < KEYS_MAX && !keys.contains(&key) {
                keys.push(key);
            }
        };
        let Some(first) = request.arg(1) else { return };
        if self.is_message(first) {
            add(first);
        }
        let is_any = |names: &[&str]| names.iter().any(|name| request.is(name));
        if request.len() < 3 {
            return;
        }
        if is_any(&["eval", "evalsha"]) {
            // The scripts that are known have the prefix of keys first, and ids behind it.
            let number = request.arg(2).and_then(|text| std::str::from_utf8(text).ok());
            let number = number.and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
            let prefix = request.arg(number.saturating_add(3)).unwrap_or_default();
            for word in request.args().skip(3) {
                if self.is_message(word) {
                    add(word);
                    add(&[prefix, word].concat());
                }
            }
        } else if is_any(&["del", "unlink", "exists", "mget", "mset", "touch", "rename", "copy"]) {
            request.args().skip(2).filter(|word| self.is_message(word)).for_each(add);
        }
    }

    fn name(&self, (database, key): &Key) -> Vec<u8> {
        [format!("{{{}}}:objects:{database}:", self.prefix).as_bytes(), key].concat()
    }

    /// Asks Redis, if it is there and answers in time.
    async fn ask(&self, commands: &[Command]) -> Option<Vec<Reply>> {
        let now = self.clock.now().milliseconds();
        if now < self.away_until.load(Ordering::Relaxed) {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let replies = match timeout(self.timeout, self.redis.ask_all(commands)).await {
            Ok(Ok(replies)) if !replies.iter().any(|it| matches!(it, Reply::Error(_))) => {
                if self.is_away.swap(false, Ordering::Relaxed) {
                    tracing::info!("messages of the object cache go through Redis again");
                }
                return Some(replies);
            }
            Ok(Ok(_)) => "it refuses".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let until = Moment::from_milliseconds(now).plus(AWAY);
                self.away_until.store(until.milliseconds(), Ordering::Relaxed);
                format!("no answer within {:?}", self.timeout)
            }
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!("messages of the object cache stay on this server: {replies}");
        }
        None
    }
}

impl Objects {
    /// Messages go through a Redis, with this prefix of their keys. Called once, before the first client.
    pub fn send_messages(&self, settings: &settings::Objects, redis: Redis, prefix: &str) {
        if settings.messages.is_empty() {
            return;
        }
        let messages = Messages {
            redis,
            prefix: prefix.to_owned(),
            patterns: settings.messages.iter().map(|glob| Pattern::new(glob)).collect(),
            timeout: settings.messages_timeout,
            clock: self.clock.clone(),
            away_until: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
        };
        // Who comes later is nobody: the app calls it once.
        let _ = self.messages.set(messages);
    }

    pub(super) fn message_failures(&self) -> u64 {
        self.messages.get().map_or(0, |messages| messages.failures.load(Ordering::Relaxed))
    }

    /// Fetches messages into this server's databases.
    pub(super) async fn fetch_messages(&self, keys: Vec<Key>) -> Option<Touched> {
        let messages = self.messages.get().filter(|_| !keys.is_empty())?;
        let ask = |key| Command::new("GET").arg(messages.name(key));
        let replies = messages.ask(&keys.iter().map(ask).collect::<Vec<_>>()).await;
        let now_ms = self.now_ms();
        let mut keyspace = self.keyspace.lock();
        if let Some(replies) = replies {
            for (key, reply) in keys.iter().zip(&replies) {
                let commands = reply.bytes().unwrap_or_default();
                let is_there = keyspace.end_of(key.0, &key.1).is_some();
                // What has not changed is left alone: its client may watch it.
                if (is_there || !commands.is_empty()) && portrait(&keyspace, key) != commands {
                    self.make(&mut keyspace, key, commands, now_ms);
                }
            }
        }
        let before = keys.into_iter().map(|key| {
            let is = portrait(&keyspace, &key);
            (key, is)
        });
        Some(Touched { keys: before.collect() })
    }

    /// Makes a key what commands say that it is; without any it is not there.
    fn make(&self, keyspace: &mut Keyspace, (at, key): &Key, commands: &[u8], now_ms: i64) {
        let mut session = Session::new(0);
        let mut said = BytesMut::from(commands);
        let mut out = BytesMut::new();
        if commands.is_empty() {
            let database = at.to_string();
            for words in [[&b"SELECT"[..], database.as_bytes()], [b"DEL", key]] {
                session.execute(keyspace, &Request::pack(&words), now_ms, &mut out);
            }
            return;
        }
        let mut state = ReadState::default();
        while let Ok(Some(request)) = read_request(&mut said, &self.limits, &mut state) {
            out.clear();
            session.execute(keyspace, &request, now_ms, &mut out);
        }
    }

    /// Sends messages that were changed since they were fetched.
    pub(super) async fn send_changed(&self, touched: &mut Touched) {
        let Some(messages) = self.messages.get() else { return };
        let mut commands = Vec::new();
        {
            let (keyspace, now_ms) = (self.keyspace.lock(), self.now_ms());
            for (key, before) in &mut touched.keys {
                let is = portrait(&keyspace, key);
                if is == *before {
                    continue;
                }
                let name = messages.name(key);
                commands.push(match keyspace.end_of(key.0, &key.1) {
                    None => Command::new("DEL").arg(name),
                    Some(None) => Command::new("SET").arg(name).arg(&is),
                    Some(Some(end)) => {
                        let left = end.saturating_sub(now_ms).max(1);
                        Command::new("SET").arg(name).arg(&is).arg("PX").number(left)
                    }
                });
                *before = is;
            }
        }
        if !commands.is_empty() {
            messages.ask(&commands).await;
        }
    }
}

fn portrait(keyspace: &Keyspace, (at, key): &Key) -> BytesMut {
    let mut out = BytesMut::new();
    keyspace.portrait_of(*at, key, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_messages_are_found_in_any_case_and_others_are_told_apart() {
        let pattern = Pattern::new("*notification_update_customer_session_*");
        let good = [
            "zc:k:982_NOTIFICATION_UPDATE_CUSTOMER_SESSION_7",
            "notification_update_customer_session_",
            "n_notification_update_customer_session_notification",
        ];
        for key in good {
            assert!(pattern.matches(key.as_bytes()), "{key}");
        }
        let wrong = ["", "notification", "zc:k:982_NOTIFICATION_UPDATE_CUSTOMER_SESSIOM_7"];
        for key in wrong {
            assert!(!pattern.matches(key.as_bytes()), "{key}");
        }
        assert!(Pattern::new("a?c*[xy]").matches(b"ABCDY"));
        assert!(!Pattern::new("a?c*[xy]").matches(b"ABCDZ"));
        assert!(Pattern::new("m*").matches(b"Mx") && !Pattern::new("m*").matches(b"xM"));
    }
}
