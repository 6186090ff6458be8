//! What is stored, on its way to the process that takes over.

use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::restore::Restored;
use super::{Keeper, Worth};
use crate::snapshot::{Fault, Pushed, Reader, Writer};

const BUFFER_BYTES: usize = 256 << 10;

/// What comes from the process that served until now.
#[derive(Debug)]
pub struct Receiving {
    reader: Reader<BufReader<UnixStream>>,
    /// Is it of use?
    is_wanted: bool,
}

impl Keeper {
    /// Gives what is stored to another process, hottest first; from before this on each purge must be
    /// applied there, too. Blocks; where the other does not read on for so long, it ends.
    pub fn send(&self, socket: UnixStream, patience: Duration) -> io::Result<u64> {
        socket.set_write_timeout(Some(patience))?;
        let (head, walk) = self.begin(String::new(), false);
        let out = BufWriter::with_capacity(BUFFER_BYTES, socket);
        let mut writer = Writer::begin(out, &head, u64::MAX, self.record_max_bytes())?;
        for response in self.responses(walk, || true) {
            if writer.push(&response)? == Pushed::Full {
                break;
            }
        }
        let (pages, bytes) = (writer.records(), writer.bytes());
        writer.finish()?.flush()?;
        tracing::info!(pages, bytes, "the new process has what is stored here");
        Ok(pages)
    }

    /// Reads the head of what another process sends, and from where on the log is to be read: to be called
    /// before the fleet is started, and on a thread that may block.
    ///
    /// # Errors
    /// [`Fault`]; where nothing comes for so long, too.
    pub fn begin_receiving(
        &self,
        socket: UnixStream,
        patience: Duration,
    ) -> Result<Receiving, Fault> {
        socket.set_read_timeout(Some(patience)).map_err(Fault::Io)?;
        let from = BufReader::with_capacity(BUFFER_BYTES, socket);
        let reader = Reader::open(from, self.record_max_bytes())?;
        let head = reader.head();
        let is_wanted = head.keyspace == self.keyspace();
        if is_wanted {
            self.resume(head);
        } else {
            tracing::warn!(
                "what the process before has stored is not used: what is part of a key is set \
                 otherwise now (site)"
            );
        }
        Ok(Receiving { reader, is_wanted })
    }

    /// Takes in what comes; blocks until all has.
    pub fn receive(&self, receiving: Receiving) {
        let Receiving { mut reader, is_wanted } = receiving;
        if !is_wanted {
            return;
        }
        let hits_before = reader.head().hits;
        let what = "pages come from the process before";
        let restored = self.restore(&mut reader, Worth::Stored, Duration::ZERO, what);
        let Restored { pages, hits, left_out, fault, seconds } = restored;
        tracing::info!(
            pages,
            left_out,
            hits_percent = (hits * 100).checked_div(hits_before),
            seconds,
            "what the process before has stored is here"
        );
        if let Some(fault) = fault {
            tracing::warn!(pages, "what the process before has stored came in part: {fault}");
        }
    }
}
