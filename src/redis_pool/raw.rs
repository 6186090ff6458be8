//! A connection on which the bytes are somebody else's: logged in, and then left alone.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::connect::Target;
use super::{Backoff, RedisError, Stream};
use crate::resp::{self, Protocol, ReplyLimits, ReplyState, Value};
use crate::settings;

/// What an answer to this module's own questions takes at most.
const LIMITS: ReplyLimits = ReplyLimits {
    line_max_bytes: 64 << 10,
    bulk_max_bytes: 64 << 10,
    elements_max: 10_000,
    reply_max_bytes: 1 << 20,
};

/// Makes connections to one Redis, or to the master that its sentinels name at that moment.
pub struct Dialer {
    target: Target,
    timeout: Duration,
    reconnect_max: Duration,
}

impl Dialer {
    /// # Errors
    /// [`RedisError::Authority`]
    pub fn new(settings: &settings::Redis) -> Result<Self, RedisError> {
        Ok(Self {
            target: Target::new(settings)?,
            timeout: settings.timeout,
            reconnect_max: settings.reconnect_max,
        })
    }

    /// Where it is, without user and password.
    pub fn address(&self) -> String {
        self.target.address()
    }

    /// For a single command.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Pauses between tries.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.reconnect_max)
    }

    /// A connection that is logged in, has selected that database and speaks that version of the
    /// protocol. Nothing of it has been read that was not asked for.
    pub async fn dial(&self, database: u32, protocol: Protocol) -> Result<Stream, RedisError> {
        self.target.dial(database, protocol).await.map(|raw| raw.stream)
    }
}

/// A connection that is asked one question after the other.
pub(super) struct Raw {
    pub(super) stream: Stream,
    buffer: BytesMut,
}

impl Raw {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Sends a command and waits for its answer, which may be an error of the server's.
    pub(super) async fn ask(&mut self, arguments: &[&[u8]]) -> Result<Value, RedisError> {
        let mut command = BytesMut::new();
        resp::write::command(&mut command, arguments);
        let broken = |error: std::io::Error| RedisError::Broken(error.to_string());
        self.stream.write_all(&command).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        let mut state = ReplyState::default();
        loop {
            match resp::read_reply(&mut self.buffer, &LIMITS, &mut state) {
                Err(error) => return Err(RedisError::Broken(error.to_string())),
                // Nobody has asked a second question, so nothing may follow.
                Ok(Some(_)) if !self.buffer.is_empty() => return Err(RedisError::Unexpected),
                Ok(Some(reply)) => {
                    let decoded = resp::decode(&reply.bytes);
                    return decoded.map_err(|error| RedisError::Broken(error.to_string()));
                }
                Ok(None) => {}
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Err(RedisError::Broken("closed by the server".to_owned()));
            }
        }
    }

    /// Logs in, and selects; an error of the server's ends the connection.
    pub(super) async fn set_up(
        &mut self,
        (user, password): (&str, &str),
        database: u32,
        protocol: Protocol,
    ) -> Result<(), SetUpError> {
        // Redis before version 6 knows no users, and no HELLO.
        let login: Vec<&[u8]> = match (user, password) {
            ("", "") => Vec::new(),
            ("", password) => vec![b"AUTH", password.as_bytes()],
            (user, password) => vec![b"AUTH", user.as_bytes(), password.as_bytes()],
        };
        if !login.is_empty() {
            self.set(&login).await.map_err(|error| match error {
                SetUpError::Refused(what) => SetUpError::Login(what),
                other => other,
            })?;
        }
        if protocol == Protocol::Resp3 {
            self.set(&[b"HELLO", b"3"]).await?;
        }
        if database > 0 {
            self.set(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok(())
    }

    async fn set(&mut self, arguments: &[&[u8]]) -> Result<(), SetUpError> {
        match self.ask(arguments).await? {
            Value::Error(what) => {
                let what = String::from_utf8_lossy(&what).into_owned();
                let is_login = what.starts_with("NOAUTH") || what.starts_with("WRONGPASS");
                Err(if is_login { SetUpError::Login(what) } else { SetUpError::Refused(what) })
            }
            _ => Ok(()),
        }
    }
}

/// Why a connection could not be set up.
pub(super) enum SetUpError {
    /// User or password are wrong, or missing.
    Login(String),
    /// The server answered with another error.
    Refused(String),
    /// The connection is of no more use.
    Lost(RedisError),
}

impl From<RedisError> for SetUpError {
    fn from(error: RedisError) -> Self {
        Self::Lost(error)
    }
}
