//! A client that is stopped and goes on elsewhere, also amid its wait for a lock.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::client::{Client, Closed, End, READ_BYTES, UNCOUNTED_BYTES};
use crate::resp::{Request, write};
use crate::sessions::carried::{Carried, Octets};
use crate::sessions::embedded::EmbeddedSession;
use crate::sessions::lock::LockClient;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// A try for the lock of a session, which waits for its turn. A client that leaves meanwhile ends it.
    pub(super) async fn take_lock(&mut self, request: &Request, key: &Bytes) -> Result<(), End> {
        self.flush().await?;
        // Who waits for long is to have what was answered before.
        self.write_out().await?;
        let Some(locks) = &mut self.locks else { return Ok(()) };
        let counted = {
            let take = locks.take(self.manners.database, key);
            tokio::pin!(take);
            loop {
                self.input.reserve(READ_BYTES);
                let hears = self.input.len() < UNCOUNTED_BYTES;
                tokio::select! {
                    biased;
                    counted = &mut take => break Some(counted),
                    () = self.call.comes() => break None,
                    said = self.stream.read_buf(&mut self.input), if hears => {
                        if !said.is_ok_and(|bytes| bytes > 0) {
                            return Err(Closed);
                        }
                    }
                }
            }
        };
        match counted {
            None => {
                // It asks again where it goes on.
                let said = self.input.split();
                self.input.extend_from_slice(request.raw());
                self.input.unsplit(said);
                return Err(End::Stopped);
            }
            Some(Ok(number)) => write::integer(&mut self.out, number),
            Some(Err(error)) => {
                self.gateway.counts.failed.fetch_add(1, Ordering::Relaxed);
                error.write(&mut self.out);
            }
        }
        Ok(())
    }

    /// What is to be known of it where it goes on; then this one has nothing any more.
    pub(super) fn carry(mut self) -> Carried {
        let begun = self.inside.as_ref().map(EmbeddedSession::begun).unwrap_or_default();
        Carried {
            is_in: self.manners.is_in,
            input: Octets(self.input.split().freeze()),
            begun: begun.into_iter().map(|request| Octets(request.raw().clone())).collect(),
            locks: self.locks.as_mut().map(LockClient::carry).unwrap_or_default(),
        }
    }

    /// Goes on as a client that was stopped elsewhere.
    pub(super) fn resume(&mut self, carried: Carried) {
        self.manners.is_in |= carried.is_in;
        self.input.extend_from_slice(&carried.input.0);
        if let Some(inside) = &mut self.inside {
            inside.resume(carried.begun.iter().map(|request| &request.0[..]));
            self.manners.database = u32::try_from(inside.database()).unwrap_or_default();
            self.manners.protocol = inside.protocol();
            self.manners.name = Bytes::copy_from_slice(inside.name());
        }
        if let Some(locks) = &mut self.locks {
            locks.resume(carried.locks);
        }
    }
}
