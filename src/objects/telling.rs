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

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::clock::Clock;
    use crate::objects::{Objects, Stay};
    use crate::settings::{self, Endpoint};

    #[tokio::test]
    async fn a_clean_is_told_before_its_command_is_answered() {
        let objects = Arc::new(Objects::new(&settings::Objects::default(), Clock::manual(), 1));
        let (told, gate) =
            (Arc::<Mutex<Vec<Clean>>>::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let (noted, held) = (Arc::clone(&told), Arc::clone(&gate));
        objects.tell_cleans(Arc::new(move |clean| {
            noted.lock().push(clean);
            let held = Arc::clone(&held);
            Box::pin(async move { held.acquire_owned().await.expect("open").forget() })
        }));
        let (mut client, server) = tokio::io::duplex(4_096);
        let serving = Arc::clone(&objects);
        let endpoint = Endpoint::Unix("/nowhere".into());
        let connection = async move { serving.serve(server, || Stay::Here, &endpoint).await };
        let ended = tokio::spawn(connection);
        client.write_all(b"SET a 1\r\nDEL a\r\nFLUSHDB\r\n").await.expect("sent");
        while told.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // It was done, and nobody has heard of it: its flush stands for the key.
        assert_eq!(*told.lock(), [Clean::Database(0)]);
        assert_eq!(objects.figures().keyspace.keys, 0);
        gate.add_permits(1);
        let mut replies = [0; 14];
        client.read_exact(&mut replies).await.expect("replies");
        assert_eq!(&replies, b"+OK\r\n:1\r\n+OK\r\n");
        drop(client);
        ended.await.expect("ended");
    }
}
