//! The records of sessions, for this server's own look-ups.

use bytes::{Bytes, BytesMut};

use super::Backend;
use crate::resp::{Value, write};
use crate::sessions::visitors::{Data, Records, Unavailable};
use crate::settings::Sessions;

/// Records where the sessions are.
pub struct StoredRecords {
    backend: Backend,
    /// `sessions.database`
    database: u32,
    /// `sessions.key_prefix`
    key_prefix: Vec<u8>,
}

impl StoredRecords {
    /// Those of this backend.
    pub fn new(backend: Backend, sessions: &Sessions) -> Self {
        let key_prefix = sessions.key_prefix.clone().into_bytes();
        Self { backend, database: sessions.database, key_prefix }
    }

    async fn ask(&self, command: Bytes) -> Result<Option<Bytes>, Unavailable> {
        let value = match &self.backend {
            Backend::Central(trunks) => trunks.ask(self.database, command).await,
            Backend::Embedded(embedded) => Ok(embedded.ask(self.database, &command)),
        };
        match value {
            Ok(Value::Bulk(data)) => Ok(Some(data)),
            Ok(Value::Null) => Ok(None),
            Ok(_) | Err(_) => Err(Unavailable),
        }
    }
}

impl Records for StoredRecords {
    fn data(&self, id: &[u8]) -> Data<'_> {
        let mut command = BytesMut::new();
        let key = [&self.key_prefix[..], id].concat();
        write::command(&mut command, &[b"HGET", &key, b"data"]);
        Box::pin(self.ask(command.freeze()))
    }
}
