//! Puts what is read into the store.

use std::io::Read;
use std::time::Duration;

use super::progress::Progress;
use super::{Keeper, Worth};
use crate::pipeline::NotImported;
use crate::snapshot::{Fault, Reader, StoredResponse};
use crate::store::NotRestored;

/// When so many in a row found no room, the store is full.
const FULL_IN_A_ROW_MAX: u32 = 100;

/// What became of what was read.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Pages that are stored now.
    pub(super) pages: u64,
    /// Their hits of about the last hour.
    pub(super) hits: u64,
    /// Pages that were purged meanwhile, kept no longer, or known better here.
    pub(super) left_out: u64,
    /// Why reading ended early.
    pub(super) fault: Option<Fault>,
    pub(super) seconds: f64,
}

impl Keeper {
    /// Reads to the end, or until the store is full. `age`: for how long it lay around.
    pub(super) fn restore<R: Read>(
        &self,
        reader: &mut Reader<R>,
        worth: Worth,
        age: Duration,
        what: &'static str,
    ) -> Restored {
        let mut restored = Restored::default();
        let mut progress = Progress::new(what, &self.node.parts().clock);
        let mut full_in_a_row = 0;
        for next in reader {
            progress.step();
            let response = match next {
                Ok(response) => response,
                Err(fault) => {
                    restored.fault = Some(fault);
                    break;
                }
            };
            let hits = response.hits;
            let stored = worth.of(response, age).map(|it| self.node.import(self.mark, it));
            if let Some(Ok(_)) = stored {
                restored.pages += 1;
                restored.hits += hits;
                self.shown.lock().restored += 1;
            } else {
                restored.left_out += 1;
            }
            let is_full = matches!(stored, Some(Err(NotImported::Store(NotRestored::Full))));
            full_in_a_row = if is_full { full_in_a_row + 1 } else { 0 };
            if full_in_a_row == FULL_IN_A_ROW_MAX {
                break;
            }
        }
        restored.seconds = progress.elapsed().as_secs_f64();
        restored
    }
}

impl Worth {
    /// The response so much later. `None`: it is kept no longer.
    fn of(self, response: StoredResponse, age: Duration) -> Option<StoredResponse> {
        let response = response.aged_by(age)?;
        Some(match self {
            Self::Stored => response,
            Self::Stale => StoredResponse { ttl: Duration::ZERO, ..response },
        })
    }
}
