//! Why a command has no reply from the Redis behind, and what its client is told.

use bytes::BytesMut;

use crate::redis_pool::RedisError;
use crate::resp::{ProtocolError, write};

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// No connection came about within `sessions.failover_wait`. The command was not sent.
    #[error("Redis cannot be reached: {0}")]
    Away(RedisError),
    /// The connection broke, or was silent for too long, behind the command.
    #[error("the connection to Redis was lost, and the command may have been carried out: {0}")]
    Lost(RedisError),
    /// The server refuses the database, the version of the protocol or the login.
    #[error("{0}")]
    Refused(String),
    /// A bound of `[sessions]` is reached. The command was not sent.
    #[error("{0} is reached")]
    Full(&'static str),
    /// The reply is larger than `sessions.reply_max` or what `sessions.buffers_max` leaves.
    #[error("the reply is larger than {0}")]
    TooLarge(&'static str),
    /// What came is no reply.
    #[error("Redis answers something that is no reply: {0}")]
    Malformed(ProtocolError),
}

impl BackendError {
    /// Writes it as an error reply. Redis' own words stay as they are.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Refused(what) => write::error(out, what.as_bytes()),
            other => write::error(out, format!("ERR parvis: {other}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_whether_the_command_may_have_been_carried_out() {
        let written = |error: BackendError| {
            let mut out = BytesMut::new();
            error.write(&mut out);
            String::from_utf8(out.to_vec()).expect("text")
        };
        assert_eq!(
            written(BackendError::Lost(RedisError::Broken("a\r\nb".to_owned()))),
            "-ERR parvis: the connection to Redis was lost, and the command may have been carried \
             out: the connection broke: a  b\r\n"
        );
        assert_eq!(
            written(BackendError::Full("sessions.pinned_max")),
            "-ERR parvis: sessions.pinned_max is reached\r\n"
        );
        let refused = BackendError::Refused("ERR DB index is out of range".to_owned());
        assert_eq!(written(refused), "-ERR DB index is out of range\r\n");
    }
}
