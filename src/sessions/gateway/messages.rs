//! News of a channel.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error::BackendError;
use crate::redis_pool::{RedisError, Stream};
use crate::resp::{ReplyLimits, ReplyState, Value, decode, read_reply, write};

/// Silences after which a connection counts as lost; after each the server is asked whether it is
/// there.
const SILENCES_MAX: u32 = 3;

/// The messages of one channel, on a connection of its own.
pub struct Messages {
    stream: Stream,
    input: BytesMut,
    state: ReplyState,
    limits: ReplyLimits,
    silence: Duration,
}

impl Messages {
    pub(super) async fn subscribe(
        stream: Stream,
        channel: &str,
        limits: ReplyLimits,
        silence: Duration,
    ) -> Result<Self, BackendError> {
        let (input, state) = (BytesMut::new(), ReplyState::default());
        let mut messages = Self { stream, input, state, limits, silence };
        messages.say(&[b"SUBSCRIBE", channel.as_bytes()]).await?;
        let confirmed = tokio::time::timeout(silence, messages.read()).await;
        match confirmed.map_err(|_| BackendError::Lost(RedisError::TimedOut(silence)))?? {
            Value::Error(what) => {
                Err(BackendError::Refused(String::from_utf8_lossy(&what).into_owned()))
            }
            _ => Ok(messages),
        }
    }

    /// The next message. `None`: the connection is lost, and with it perhaps messages; subscribe
    /// again, and look anew at what they would have said.
    pub async fn next(&mut self) -> Option<Bytes> {
        let mut silences = 0;
        loop {
            match tokio::time::timeout(self.silence, self.read()).await {
                Ok(Ok(value)) => {
                    silences = 0;
                    if let Some(message) = message(value) {
                        return Some(message);
                    }
                }
                Ok(Err(_)) => return None,
                // Reading can be given up and begun again: what came is kept.
                Err(_elapsed) => {
                    silences += 1;
                    if silences >= SILENCES_MAX || self.say(&[b"PING"]).await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    async fn say(&mut self, arguments: &[&[u8]]) -> Result<(), BackendError> {
        let mut command = BytesMut::new();
        write::command(&mut command, arguments);
        let sent = async {
            self.stream.write_all(&command).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(self.silence, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BackendError::Lost(RedisError::Broken(error.to_string()))),
            Err(_elapsed) => Err(BackendError::Lost(RedisError::TimedOut(self.silence))),
        }
    }

    async fn read(&mut self) -> Result<Value, BackendError> {
        loop {
            let read = read_reply(&mut self.input, &self.limits, &mut self.state);
            if let Some(reply) = read.map_err(BackendError::Malformed)? {
                return decode(&reply.bytes).map_err(BackendError::Malformed);
            }
            let broken = |what: String| BackendError::Lost(RedisError::Broken(what));
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) => return Err(broken("closed by the server".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(broken(error.to_string())),
            }
        }
    }
}

/// The text of `message CHANNEL TEXT`.
fn message(value: Value) -> Option<Bytes> {
    let (Value::Array(parts) | Value::Push(parts)) = value else { return None };
    match <[Value; 3]>::try_from(parts).ok()? {
        [Value::Bulk(kind), _, Value::Bulk(text)] if kind == "message" => Some(text),
        _ => None,
    }
}
