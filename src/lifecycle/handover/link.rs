//! The channel while both processes run: messages of the handover, purges and cleans either way.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::channel::{self, Channel};
use super::{Message, Shared};
use crate::keyspace::Clean;
use crate::pipeline::Sharer;
use crate::policy::{PurgeRequest, PurgeText};

/// How long the answer to a purge or a clean waits for the other process.
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
    /// The other process did not confirm a clean. It may be of a version that knows none; each client of the
    /// object cache would wait for it again and again.
    knows_no_cleans: AtomicBool,
}

impl Link {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            number: AtomicU64::new(0),
            waiting: Mutex::default(),
            knows_no_cleans: AtomicBool::new(false),
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Takes in what the other process says until it has gone: purges are applied and confirmed,
    /// the rest goes to `events`.
    pub(super) async fn run(&self, apply: impl Fn(Shared), events: mpsc::Sender<Event>) {
        loop {
            match self.channel.receive().await {
                Ok(Some((Message::Purge { number, purge }, _))) => {
                    apply(Shared::Purge(purge));
                    self.confirm(number).await;
                }
                Ok(Some((Message::Clean { number, clean }, _))) => {
                    // What a later version may say is something, nobody knows what.
                    let clean = Clean::decode(clean.as_bytes()).unwrap_or(Clean::Everything);
                    apply(Shared::Clean(clean));
                    self.confirm(number).await;
                }
                Ok(Some((Message::Purged { number }, _))) => {
                    match self.waiting.lock().remove(&number) {
                        Some(waiting) => drop(waiting.send(())),
                        // Nobody waits any more: it was late, and does know them.
                        None => self.knows_no_cleans.store(false, Ordering::Relaxed),
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

    async fn confirm(&self, number: u64) {
        // Where it cannot be said, the other end has gone.
        let _ = self.channel.send(&Message::Purged { number }, None).await;
    }

    async fn share(&self, request: &PurgeRequest) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let message = |request| Message::Purge { number, purge: PurgeText::of(request) };
        let mut message = message(request);
        if channel::packet(&message).is_err() {
            // It names more than a packet holds: purging all is right, too.
            message = Message::Purge { number, purge: PurgeText::all() };
        }
        if !self.have_done(number, &message).await {
            tracing::warn!(number, "the other process has not confirmed a purge in time");
        }
    }

    async fn share_clean(&self, clean: &Clean) {
        if self.knows_no_cleans.load(Ordering::Relaxed) {
            return;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let text = |clean: &Clean| String::from_utf8_lossy(&clean.encode()).into_owned();
        let mut message = Message::Clean { number, clean: text(clean) };
        if channel::packet(&message).is_err() {
            message = Message::Clean { number, clean: text(&Clean::Everything) };
        }
        if !self.have_done(number, &message).await {
            self.knows_no_cleans.store(true, Ordering::Relaxed);
            tracing::warn!(number, "the other process does not confirm cleans of the object cache");
        }
    }

    /// Tells the other process, and waits for a while until it has done so; false: it does not say.
    async fn have_done(&self, number: u64, message: &Message) -> bool {
        let (confirm, confirmed) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() < WAITING_MAX {
                waiting.insert(number, confirm);
            }
        }
        let exchange = async {
            if self.channel.send(message, None).await.is_ok() {
                // An error says that the other process has gone, and its store with it.
                let _ = confirmed.await;
            }
        };
        let is_confirmed = tokio::time::timeout(CONFIRMED_WITHIN, exchange).await.is_ok();
        self.waiting.lock().remove(&number);
        is_confirmed
    }
}

impl Sharer for Link {
    fn share<'a>(
        &'a self,
        request: &'a PurgeRequest,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.share(request))
    }

    fn share_clean<'a>(
        &'a self,
        clean: &'a Clean,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.share_clean(clean))
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
            let apply = |shared: Shared| {
                let said = match shared {
                    Shared::Purge(purge) => {
                        let request = purge.request(1 << 20).expect("it can be read");
                        format!("{:?}", request.scopes)
                    }
                    Shared::Clean(clean) => String::from_utf8(clean.encode()).expect("text"),
                };
                seen.lock().push(said);
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

    #[tokio::test]
    async fn a_clean_has_been_done_by_the_other_when_it_is_answered_and_a_huge_one_is_of_everything()
     {
        let (ours, theirs) = links();
        let (_here, there) = (run(&ours), run(&theirs));
        let of = |key: bytes::Bytes| Clean::Keys { database: 1, keys: vec![key] };
        ours.share_clean(&of("zc:ti:A".into())).await;
        ours.share_clean(&of(vec![b'x'; channel::PACKET_MAX_BYTES].into())).await;
        assert_eq!(*there.lock(), ["1 keys zc:ti:A", "all flush"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_confirms_no_clean_is_told_of_no_other() {
        let (ours, theirs) = links();
        let _here = run(&ours);
        ours.share_clean(&Clean::Everything).await;
        let told = tokio::time::Instant::now();
        ours.share_clean(&Clean::Everything).await;
        assert!(told.elapsed() < CONFIRMED_WITHIN / 2);
        drop(theirs);
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
