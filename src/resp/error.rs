//! What is wrong with bytes, in redis-server's words.

use bytes::BytesMut;

use super::write;

/// Bytes that are no RESP, or more of it than is taken. The connection ends with it: where the next
/// request or reply begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// `*` without a number, with one that is too large, or a line that does not end with CR LF.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// `$` without a number, with a negative one or one that is too large, or a bulk that is not
    /// followed by CR LF.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// An argument that does not begin with `$`.
    #[error("Protocol error: expected '$', got '{}'", .0.escape_ascii())]
    ExpectedBulk(u8),
    /// The line with the number of arguments does not end.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkCountTooLong,
    /// The line with the length of an argument does not end.
    #[error("Protocol error: too big bulk count string")]
    BulkCountTooLong,
    /// A command on a line that is too long.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// A command on a line, with a quote that is not closed or has something behind it.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// A whole request that is too large; redis-server closes the connection without a word.
    #[error("Protocol error: too big request")]
    RequestTooLarge,
    /// A reply that is too large, or has too many elements.
    #[error("Protocol error: too big reply")]
    ReplyTooLarge,
    /// A reply that nests too deep.
    #[error("Protocol error: too deep reply")]
    ReplyTooDeep,
    /// A reply whose length is not told at its beginning, which no Redis sends.
    #[error("Protocol error: streamed reply")]
    Streamed,
    /// Bytes that are no reply.
    #[error("Protocol error: malformed reply")]
    MalformedReply,
}

impl ProtocolError {
    /// Writes the error as redis-server answers it, before it closes the connection.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::ExpectedBulk(byte) => {
                let mut text = b"ERR Protocol error: expected '$', got '?'".to_vec();
                let at = text.len() - 2;
                text[at] = *byte;
                write::error(out, &text);
            }
            other => write::error(out, format!("ERR {other}").as_bytes()),
        }
    }
}
