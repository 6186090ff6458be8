//! The channel while both processes run: messages of the handover, and purges either way.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::Message;
use super::channel::{self, Channel};
use crate::pipeline::Sharer;
use crate::policy::{PurgeRequest, PurgeText};

/// How long the answer to a purge waits for the other process.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(1);
/// Purges whose confirmation is waited for; more are not waited for.
const WAITING_MAX: usize = 1_024;

/// What is said of the handover, and what comes beside it.
pub(super) type Event = (Message, Option<OwnedFd>);

/// A handle on the other process.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    number: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
}

impl Link {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, number: AtomicU64::new(0), waiting: Mutex::default() }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes in what the other process says until it has gone: purges are applied and confirmed,
    /// the rest goes to `events`.
    pub(super) async fn run(&self, apply: impl Fn(&PurgeText), events: mpsc::Sender<Event>) {
        loop {
            match self.channel.receive().await {
                Ok(Some((Message::Purge { number, purge }, _))) => {
                    apply(&purge);
                    // Where it cannot be said, the other end has gone.
                    let _ = self.channel.send(&Message::Purged { number }, None).await;
                }
                Ok(Some((Message::Purged { number }, _))) => {
                    if let Some(waiting) = self.waiting.lock().remove(&number) {
                        let _ = waiting.send(());
                    }
                }
                Ok(Some(event)) => {
                    // Of these there are few, and who no longer listens has heard enough.
                    let _ = events.try_send(event);
                }
                Ok(None) => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
                    ) =>
                {
                    tracing::warn!(%error, "the other process says what cannot be read");
                }
                Err(error) => {
                    tracing::warn!(%error, "the other process cannot be heard any more");
                    break;
                }
            }
        }
        // Nobody will confirm any more.
        self.waiting.lock().clear();
    }

    async fn share(&self, request: &PurgeRequest) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let message = |request| Message::Purge { number, purge: PurgeText::of(request) };
        let mut message = message(request);
        if channel::packet(&message).is_err() {
            // It names more than a packet holds: purging all is right, too.
            message = Message::Purge { number, purge: PurgeText::all() };
        }
        let (confirm, confirmed) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() < WAITING_MAX {
                waiting.insert(number, confirm);
            }
        }
        let exchange = async {
            if self.channel.send(&message, None).await.is_ok() {
                // An error says that the other process has gone, and its store with it.
                let _ = confirmed.await;
            }
        };
        if tokio::time::timeout(CONFIRMED_WITHIN, exchange).await.is_err() {
            tracing::warn!(number, "the other process has not confirmed a purge in time");
        }
        self.waiting.lock().remove(&number);
    }
}

impl Sharer for Link {
    fn share<'a>(
        &'a self,
        request: &'a PurgeRequest,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.share(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PurgeScope;
    use std::sync::Arc;

    fn links() -> (Arc<Link>, Arc<Link>) {
        let (ours, theirs) = channel::pair().expect("a pair");
        let theirs = Channel::new(theirs).expect("registered");
        (Arc::new(Link::new(ours)), Arc::new(Link::new(theirs)))
    }

    /// Runs a link; gives the scopes of the purges that it was to apply.
    fn run(link: &Arc<Link>) -> Arc<Mutex<Vec<String>>> {
        let applied = Arc::new(Mutex::new(Vec::new()));
        let (link, seen) = (Arc::clone(link), Arc::clone(&applied));
        let (events, _) = mpsc::channel(1);
        tokio::spawn(async move {
            let apply = |purge: &PurgeText| {
                let request = purge.request(1 << 20).expect("it can be read");
                seen.lock().push(format!("{:?}", request.scopes));
            };
            link.run(apply, events).await;
        });
        applied
    }

    fn tags(tag: impl Into<bytes::Bytes>) -> PurgeRequest {
        PurgeRequest { scopes: vec![PurgeScope::Tags(vec![tag.into()])], soft: false }
    }

    #[tokio::test]
    async fn a_shared_purge_has_been_applied_by_the_other_when_it_is_answered() {
        let (ours, theirs) = links();
        let (here, there) = (run(&ours), run(&theirs));
        ours.share(&tags("cat_p_1")).await;
        assert_eq!(*there.lock(), [r#"[Tags([b"cat_p_1"])]"#]);
        theirs.share(&tags("cat_p_2")).await;
        assert_eq!(*here.lock(), [r#"[Tags([b"cat_p_2"])]"#]);
        assert!(ours.waiting.lock().is_empty() && theirs.waiting.lock().is_empty());
    }

    #[tokio::test]
    async fn a_purge_larger_than_a_packet_purges_all() {
        let (ours, theirs) = links();
        let (_here, there) = (run(&ours), run(&theirs));
        ours.share(&tags(vec![b'x'; channel::PACKET_MAX_BYTES])).await;
        assert_eq!(*there.lock(), ["[All]"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_gone_or_hangs_holds_no_purge_for_long() {
        let (ours, theirs) = links();
        let _here = run(&ours);
        let hung = tokio::time::Instant::now();
        ours.share(&tags("a")).await;
        assert!(hung.elapsed() <= CONFIRMED_WITHIN * 2);
        drop(theirs);
        let gone = tokio::time::Instant::now();
        ours.share(&tags("a")).await;
        assert!(gone.elapsed() < CONFIRMED_WITHIN);
    }
}
