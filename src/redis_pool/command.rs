//! Commands and replies, in words of our own: nobody else knows the crate behind them.

use redis::Value;

use super::RedisError;

/// A command with its arguments.
#[derive(Clone)]
pub struct Command(redis::Cmd);

impl Command {
    /// A command by its name.
    pub fn new(name: &str) -> Self {
        Self(redis::cmd(name))
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.0.arg(argument.as_ref());
        self
    }

    /// With a number as one more argument.
    #[must_use]
    pub fn number(self, number: impl std::fmt::Display) -> Self {
        self.arg(number.to_string())
    }

    pub(super) fn packed(&self) -> &redis::Cmd {
        &self.0
    }
}

/// What Redis answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Integer(i64),
    /// Bytes, or a status.
    Bytes(Vec<u8>),
    /// Several.
    List(Vec<Self>),
    /// An error of this command.
    Error(String),
}

impl Reply {
    pub(super) fn of(value: Value) -> Self {
        match value {
            Value::Int(number) => Self::Integer(number),
            Value::BulkString(bytes) => Self::Bytes(bytes),
            Value::SimpleString(text) => Self::Bytes(text.into_bytes()),
            Value::Okay => Self::Bytes(b"OK".to_vec()),
            Value::Array(values) | Value::Set(values) => {
                Self::List(values.into_iter().map(Self::of).collect())
            }
            Value::ServerError(error) => {
                Self::Error(format!("{} {}", error.code(), error.details().unwrap_or("")))
            }
            // Nil; RESP2, which is what we speak, has no others.
            _ => Self::Nil,
        }
    }

    pub(super) fn into_result(self) -> Result<Self, RedisError> {
        match self {
            Self::Error(what) => Err(RedisError::Refused(what)),
            reply => Ok(reply),
        }
    }

    pub(super) fn error(&self) -> Option<RedisError> {
        match self {
            Self::Error(what) => Some(RedisError::Refused(what.clone())),
            _ => None,
        }
    }

    /// The bytes, if it is some.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes as text, if it is some.
    pub fn text(&self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The number; scripts give numbers in hashes as text.
    pub fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The elements, if there are some.
    pub fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }
}

/// Several commands that are sent at once. Each has its own answer or error.
pub(super) fn pipeline(commands: &[Command]) -> redis::Pipeline {
    let mut pipeline = redis::Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command.0.clone());
    }
    pipeline.ignore_errors();
    pipeline
}

/// An error of the crate.
pub(super) fn error_of(error: &redis::RedisError) -> RedisError {
    let is_of_server =
        matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension);
    if is_of_server {
        let detail = error.detail().unwrap_or("");
        return RedisError::Refused(format!("{} {detail}", error.code().unwrap_or("ERR")));
    }
    RedisError::Broken(error.to_string())
}
