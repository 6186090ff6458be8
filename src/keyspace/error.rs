//! Why a command was not done, in redis-server's words.

use std::borrow::Cow;

/// An error as its client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Error(pub Cow<'static, [u8]>);

impl Error {
    pub const WRONG_TYPE: Self =
        Self::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const NOT_AN_INTEGER: Self = Self::fixed("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: Self = Self::fixed("ERR value is not a valid float");
    pub const SYNTAX: Self = Self::fixed("ERR syntax error");
    pub const OUT_OF_RANGE: Self = Self::fixed("ERR value is out of range");
    pub const OVERFLOW: Self = Self::fixed("ERR increment or decrement would overflow");
    pub const NAN: Self = Self::fixed("ERR increment would produce NaN or Infinity");
    pub const NO_SUCH_KEY: Self = Self::fixed("ERR no such key");
    pub const DATABASE: Self = Self::fixed("ERR DB index is out of range");
    pub const TOO_LONG: Self =
        Self::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    pub const REPLY: Self = Self::fixed("ERR reply is too large");
    pub const MEMORY: Self = Self::fixed("OOM command not allowed when used memory > 'maxmemory'.");

    pub const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    pub fn text(text: impl Into<Vec<u8>>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    pub fn arity(command: &str) -> Self {
        Self::text(format!("ERR wrong number of arguments for '{command}' command"))
    }

    pub fn expire_time(command: &str) -> Self {
        Self::text(format!("ERR invalid expire time in '{command}' command"))
    }
}
