//! Cleans on their way to other nodes.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use crate::keyspace::Clean;

/// Where cleans go, in the order in which they were done, each before its command is answered. The future is
/// awaited before the reply is written; it waits for room in a queue alone.
pub type Tell = Arc<dyn Fn(Clean) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Who is told.
#[derive(Default)]
pub(super) struct Telling {
    tell: OnceLock<Tell>,
    /// One client's cleans are told before those of the next that cleaned.
    turn: tokio::sync::Mutex<()>,
}

impl Telling {
    pub fn begin(&self, tell: Tell) {
        // Who comes later is nobody: the app tells once.
        let _ = self.tell.set(tell);
    }

    /// Tells all of them. Called without a pause since they were done, so that turns are taken in order.
    pub async fn tell(&self, cleans: Vec<Clean>) {
        let Some(tell) = self.tell.get() else { return };
        let _turn = self.turn.lock().await;
        for clean in cleans {
            tell(clean).await;
        }
    }
}

impl fmt::Debug for Telling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Telling").finish_non_exhaustive()
    }
}
