//! Locks in a Redis: each step is one script there.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use bytes::{Bytes, BytesMut};

use super::step::{Answer, Boxed, Hears, LockStore, Place, Seen, Step, StoreError};
use crate::redis_pool::RedisError;
use crate::resp::{Value, write};
use crate::sessions::gateway::{BackendError, Messages, Trunks};

const SCRIPT: &str = include_str!("lock.lua");

/// Letters of a key's name that stand for the session: 128 bits of its hash, since a session's id gives
/// its visitor's rights to who reads it.
const NAME_BYTES: usize = 16;

/// Locks in a Redis.
pub struct Scripts {
    trunks: Trunks,
    /// What the keys beside sessions and the channels begin with.
    prefix: String,
    /// By what the Redis knows the script.
    name: String,
}

impl Scripts {
    /// `prefix`: that of the fleet, the same on all nodes.
    pub fn new(trunks: Trunks, prefix: &str) -> Self {
        let name = hexadecimal(digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes()).as_ref());
        Self { trunks, prefix: format!("{{{prefix}}}:lock"), name }
    }

    fn channels(&self) -> String {
        format!("{}:told:", self.prefix)
    }

    async fn evaluate(&self, place: &Place, step: &Step) -> Result<Value, StoreError> {
        let (name, script) = (self.name.as_bytes(), SCRIPT.as_bytes());
        let known = self.command(b"EVALSHA", name, place, step);
        match self.trunks.ask(place.database, known).await? {
            Value::Error(error) if error.starts_with(b"NOSCRIPT") => {
                let whole = self.command(b"EVAL", script, place, step);
                Ok(self.trunks.ask(place.database, whole).await?)
            }
            value => Ok(value),
        }
    }

    fn command(&self, verb: &[u8], script: &[u8], place: &Place, step: &Step) -> Bytes {
        let session = digest(&SHA256, &place.key);
        let session = hexadecimal(&session.as_ref()[..NAME_BYTES]);
        let line = format!("{}:line:{session}", self.prefix);
        let holder = format!("{}:holder:{session}", self.prefix);
        let channels = self.channels();
        let (turn, waiters_max);
        let mut arguments: Vec<&[u8]> =
            vec![verb, script, b"3", &place.key, line.as_bytes(), holder.as_bytes()];
        let (word, token) = match step {
            Step::Take { token, .. } => ("take", token),
            Step::Now { token } => ("now", token),
            Step::Release { token } => ("release", token),
            Step::Free { token, .. } => ("free", token),
            Step::Leave { token } => ("leave", token),
            Step::Own { token, .. } => ("own", token),
        };
        arguments.extend([word.as_bytes(), channels.as_bytes(), token.as_bytes()]);
        match step {
            Step::Take { turn: its, waiters_max: most, .. } => {
                (turn, waiters_max) = (its.to_string(), most.to_string());
                arguments.extend([turn.as_bytes(), waiters_max.as_bytes()]);
            }
            Step::Free { owner, pid, .. } => {
                let is_known: &[u8] = if pid.is_some() { b"1" } else { b"0" };
                let pid = pid.as_ref().map_or(&b""[..], |pid| pid);
                arguments.extend([owner.as_bytes(), pid, is_known]);
            }
            Step::Own { pid, broke, .. } => {
                arguments.extend([&pid[..], if *broke { b"1" } else { b"0" }]);
            }
            Step::Now { .. } | Step::Release { .. } | Step::Leave { .. } => {}
        }
        let mut out = BytesMut::new();
        write::command(&mut out, &arguments);
        out.freeze()
    }
}

impl LockStore for Scripts {
    fn run<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Boxed<'a, Result<Answer, StoreError>> {
        Box::pin(async move { answer(step, self.evaluate(place, step).await?) })
    }

    fn count<'a>(&'a self, place: &'a Place) -> Boxed<'a, Result<i64, StoreError>> {
        Box::pin(async move {
            let mut out = BytesMut::new();
            write::command(&mut out, &[b"HINCRBY", &place.key, b"lock", b"1"]);
            match self.trunks.ask(place.database, out.freeze()).await? {
                Value::Integer(number) => Ok(number),
                Value::Error(error) => Err(StoreError::Refused(error)),
                _ => Err(unexpected()),
            }
        })
    }

    fn listen<'a>(&'a self, process: &'a str) -> Boxed<'a, Result<Box<dyn Hears>, StoreError>> {
        Box::pin(async move {
            let channel = self.channels() + process;
            let messages = self.trunks.subscribe(&channel).await?;
            let hears: Box<dyn Hears> = Box::new(messages);
            Ok(hears)
        })
    }
}

impl Hears for Messages {
    fn next(&mut self) -> Boxed<'_, Option<Bytes>> {
        Box::pin(Self::next(self))
    }
}

fn answer(step: &Step, value: Value) -> Result<Answer, StoreError> {
    match (step, value) {
        (_, Value::Error(error)) => Err(StoreError::Refused(error)),
        (Step::Take { .. } | Step::Now { .. }, Value::Array(parts)) => match &parts[..] {
            [Value::Integer(1), Value::Integer(number)] => Ok(Answer::Counted(*number)),
            [
                Value::Integer(0),
                Value::Bulk(turn),
                Value::Bulk(owner),
                Value::Integer(lives),
                Value::Bulk(pid),
                Value::Integer(is_free),
                Value::Bulk(told),
                Value::Integer(is_signed),
            ] => {
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
                let number = |bytes| text(bytes).and_then(|digits| digits.parse().ok());
                let turn = number(turn).ok_or_else(unexpected)?;
                let told = number(told).ok_or_else(unexpected)?;
                let owner = text(owner).ok_or_else(unexpected)?;
                let (pid, owner_lives, is_free) = (pid.clone(), *lives == 1, *is_free == 1);
                let is_signed = *is_signed == 1;
                let seen = Seen { owner, owner_lives, is_signed, told, pid, is_free };
                Ok(Answer::Waits { turn, seen })
            }
            _ => Err(unexpected()),
        },
        (_, Value::Integer(1)) => Ok(Answer::Freed),
        (_, Value::Integer(_)) => Ok(Answer::Done),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> StoreError {
    StoreError::Away(BackendError::Lost(RedisError::Unexpected))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
