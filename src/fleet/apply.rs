//! Purges on their way into the store, and cleans on theirs into the object cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Bell;
use super::echo::{Due, Echoes};
use super::log::{Cause, Order};
use super::trust::Trust;
use crate::clock::{Clock, Moment};
use crate::keyspace::Clean;
use crate::observe::Observer;
use crate::policy::{PurgeRequest, PurgeScope};
use crate::settings;
use crate::store::{Purged, Store};

/// What this node keeps for PHP beside the pages, which the same log keeps right.
pub trait Values: Send + Sync {
    /// Does a clean of another node, or one once more. When it returns nobody reads what was cleaned, and
    /// what was built from before it is not kept.
    fn clean(&self, clean: &Clean);

    /// The same for all there is: cleans were missed, nobody knows which.
    fn cleans_were_missed(&self);
}

/// What became of cleans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanFigures {
    /// Of this node's clients.
    pub told: u64,
    /// Of other nodes.
    pub applied: u64,
    /// Done once more.
    pub echoed: u64,
    /// Times that all values went, since cleans may have been missed.
    pub missed: u64,
}

/// Counts them.
#[derive(Debug, Default)]
struct CleanCounters {
    told: AtomicU64,
    applied: AtomicU64,
    echoed: AtomicU64,
    missed: AtomicU64,
}

/// Applies orders, and remembers to apply them again.
pub(super) struct Applier {
    store: Arc<Store>,
    /// `None`: no object cache is kept here.
    values: Option<Arc<dyn Values>>,
    cleans: CleanCounters,
    observer: Arc<Observer>,
    clock: Clock,
    pub(super) trust: Trust,
    echoes: Mutex<Echoes>,
    /// Rung when the next echo is another one.
    echo_noted: Bell,
}

impl Applier {
    pub(super) fn new(
        (store, values): (Arc<Store>, Option<Arc<dyn Values>>),
        observer: Arc<Observer>,
        clock: &Clock,
        trust: Trust,
        settings: &settings::Purge,
    ) -> Self {
        let echoes = Mutex::new(Echoes::new(settings.echo, settings.echoes_max));
        let (clock, cleans) = (clock.clone(), CleanCounters::default());
        Self { store, values, cleans, observer, clock, trust, echoes, echo_noted: Bell::new() }
    }

    /// Does what an order asks for, and remembers it for its echo.
    pub(super) fn purge(&self, order: &Order) -> Purged {
        let purged = self.apply(order);
        match order {
            Order::Objects(clean) => {
                self.cleans.applied.fetch_add(1, Ordering::Relaxed);
                self.note_clean(clean);
            }
            Order::Purge { .. } | Order::Soften => {
                self.note_echo(|echoes, now| echoes.note(order, now));
            }
        }
        purged
    }

    /// Does all that a purge asks for, counts it and says so.
    pub(super) fn purge_all(&self, request: &PurgeRequest) -> Purged {
        let mut purged = Purged::default();
        for order in orders(request) {
            let one = self.purge(&order);
            purged = Purged { number: one.number, responses: purged.responses + one.responses };
        }
        self.count(purged.responses);
        let (soft, what) = (request.soft, request.summary());
        tracing::info!(number = purged.number, responses = purged.responses, soft, ?what, "purged");
        purged
    }

    /// A clean by a client of this node, which is done.
    pub(super) fn told(&self, clean: &Clean) {
        self.cleans.told.fetch_add(1, Ordering::Relaxed);
        self.note_clean(clean);
    }

    /// Remembers a clean of keys for its echo. A flush has none: nothing that Magento commits is told by one,
    /// and a cache that fills would be emptied once more when PHP has most to do.
    fn note_clean(&self, clean: &Clean) {
        if self.values.is_some() && matches!(clean, Clean::Keys { .. } | Clean::Common { .. }) {
            let order = Order::Objects(clean.clone());
            self.note_echo(|echoes, now| echoes.note(&order, now));
        }
    }

    /// Remembers to purge after this time, though not now.
    pub(super) fn note_echo_after(&self, order: &Order, after: Duration) {
        self.note_echo(|echoes, now| echoes.note_after(order, after, now));
    }

    fn note_echo(&self, note: impl FnOnce(&mut Echoes, Moment)) {
        let mut echoes = self.echoes.lock();
        let before = echoes.next();
        note(&mut echoes, self.clock.now());
        if echoes.next() != before {
            self.echo_noted.notify_one();
        }
    }

    /// How what has one of these tags, or this URL, will be purged again shortly.
    pub(super) fn echo_of(&self, tags: &[Bytes], url: &[u8]) -> Due {
        self.echoes.lock().of(tags, url, self.clock.now())
    }

    /// The cleans and purges that are still to be applied again, within so many bytes and four for each; else
    /// that all values go, or that everything goes stale then.
    pub(super) fn pending_echoes(&self, bytes_max: usize) -> Vec<Bytes> {
        let pending: Vec<Order> = self.echoes.lock().pending().collect();
        let is_clean = |order: &Order| matches!(order, Order::Objects(_));
        let (cleans, purges): (Vec<_>, Vec<_>) = pending.into_iter().partition(is_clean);
        let written = |orders: &[Order]| -> Vec<Bytes> {
            orders.iter().map(|order| order.encode().into()).collect()
        };
        let bytes = |written: &[Bytes]| written.iter().map(|order| order.len() + 4).sum::<usize>();
        let (mut cleans, mut purges) = (written(&cleans), written(&purges));
        if bytes(&cleans) > bytes_max / 2 {
            cleans = written(&[Order::Objects(Clean::Everything)]);
        }
        if bytes(&cleans) + bytes(&purges) > bytes_max {
            purges = written(&[Order::Soften]);
        }
        [cleans, purges].concat()
    }

    /// What was to be applied again where what is stored comes from. What it names did not come, and what is
    /// rendered or built from now on may still show what was before.
    pub(super) fn take_echo(&self, order: &Order) {
        match order {
            Order::Soften | Order::Objects(Clean::Everything | Clean::Database(_)) => {
                self.note_echo(|echoes, now| echoes.note(order, now));
            }
            Order::Purge { .. } | Order::Objects(_) => drop(self.purge(order)),
        }
    }

    /// What became of cleans; `None`: no object cache is kept here.
    pub(super) fn clean_figures(&self) -> Option<CleanFigures> {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let CleanCounters { told, applied, echoed, missed } = &self.cleans;
        let (told, applied) = (of(told), of(applied));
        let figures = CleanFigures { told, applied, echoed: of(echoed), missed: of(missed) };
        self.values.as_ref().map(|_| figures)
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Counts a purge.
    pub(super) fn count(&self, responses: u64) {
        self.observer.record_purge(responses);
    }

    /// Everything tagged is stale from now on, and once more later: what was missed may have been
    /// sent before its transaction was visible, too.
    pub(super) fn soften(&self, cause: Cause) {
        let softened = self.purge(&Order::Soften);
        let responses = softened.responses;
        if cause == Cause::Started {
            tracing::info!(responses, "everything tagged is stale: {}", cause.why());
        } else {
            tracing::warn!(responses, "everything tagged is stale: {}", cause.why());
        }
    }

    /// How long it is until the next echo; `None`: there is none.
    fn next_echo(&self) -> Option<Duration> {
        self.echoes.lock().next().map(|due| due.since(self.clock.now()))
    }

    /// Applies again what is due.
    pub(super) fn apply_echoes(&self) {
        let now = self.clock.now();
        let due = self.echoes.lock().due(now);
        for order in due {
            let purged = match &order {
                Order::Objects(clean) => {
                    self.cleans.echoed.fetch_add(1, Ordering::Relaxed);
                    self.clean(clean);
                    continue;
                }
                // Of pages alone: where values go with them, that stands before it.
                Order::Soften => self.soften_pages(),
                Order::Purge { .. } => self.apply(&order),
            };
            tracing::debug!(responses = purged.responses, "purged again");
        }
        self.echoes.lock().done(now);
    }

    fn apply(&self, order: &Order) -> Purged {
        let store = &self.store;
        match order {
            // Values first: pages are rendered from them.
            Order::Soften => {
                self.forget_values();
                self.soften_pages()
            }
            Order::Objects(clean) => {
                self.clean(clean);
                Purged::default()
            }
            Order::Purge { scope, soft } => match scope {
                PurgeScope::All => store.purge_all(*soft),
                PurgeScope::Tags(tags) => store.purge_tags(tags, *soft),
                PurgeScope::TagsMatching(regex) => store.purge_tags_matching(regex, *soft),
                PurgeScope::Pool(regex) => store.purge_pools_matching(regex, *soft),
                PurgeScope::Url(url) => store.purge_url(url, *soft),
            },
        }
    }

    fn soften_pages(&self) -> Purged {
        let softened = self.store.soften_tagged();
        self.trust.soften(self.clock.now());
        softened
    }

    fn clean(&self, clean: &Clean) {
        if let Some(values) = &self.values {
            values.clean(clean);
        }
    }

    fn forget_values(&self) {
        if let Some(values) = &self.values {
            self.cleans.missed.fetch_add(1, Ordering::Relaxed);
            values.cleans_were_missed();
        }
    }
}

/// What a purge asks for, one by one.
pub(super) fn orders(request: &PurgeRequest) -> impl Iterator<Item = Order> + '_ {
    let soft = request.soft;
    request.scopes.iter().map(move |scope| Order::Purge { scope: scope.clone(), soft })
}

/// Applies purges again when their time has come.
pub(super) async fn run_echoes(applier: Arc<Applier>) {
    loop {
        let noted = applier.echo_noted.notified();
        match applier.next_echo() {
            None => noted.await,
            Some(pause) => {
                tokio::select! {
                    () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
                    () = noted => continue,
                }
                let applier = Arc::clone(&applier);
                // A regex over all that is stored takes its time.
                drop(tokio::task::spawn_blocking(move || applier.apply_echoes()).await);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::State;

    /// Says what was done to it.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Values for Told {
        fn clean(&self, clean: &Clean) {
            self.0.lock().push(String::from_utf8(clean.encode()).expect("text"));
        }

        fn cleans_were_missed(&self) {
            self.0.lock().push("missed".to_owned());
        }
    }

    struct Parts {
        clock: Clock,
        told: Arc<Told>,
        applier: Applier,
    }

    impl Parts {
        fn new() -> Self {
            let (clock, told) = (Clock::manual(), Arc::new(Told::default()));
            let store = Arc::new(Store::new(&settings::Store::default(), clock.clone()));
            let state = Arc::new(State::new());
            let access = settings::AccessLog::Off;
            let log = settings::Log { access, ..settings::Log::default() };
            let observer = Observer::new(&clock, &log, state);
            let values = Arc::clone(&told) as Arc<dyn Values>;
            let purge = settings::Purge {
                echo: Duration::from_secs(2),
                echoes_max: 10,
                ..settings::Purge::default()
            };
            let observer = Arc::new(observer.expect("an observer"));
            let applier =
                Applier::new((store, Some(values)), observer, &clock, Trust::alone(), &purge);
            Self { clock, told, applier }
        }

        fn echo(&self) -> Vec<String> {
            self.clock.advance(Duration::from_secs(3));
            self.applier.apply_echoes();
            self.said()
        }

        fn said(&self) -> Vec<String> {
            std::mem::take(&mut *self.told.0.lock())
        }
    }

    fn keys(key: &str) -> Clean {
        Clean::Keys { database: 0, keys: vec![Bytes::from(key.to_owned())] }
    }

    #[test]
    fn a_clean_of_keys_is_done_again_and_a_flush_is_not() {
        let parts = Parts::new();
        parts.applier.purge(&Order::Objects(keys("a")));
        parts.applier.purge(&Order::Objects(Clean::Database(1)));
        // A client of this node has done it already.
        parts.applier.told(&keys("b"));
        parts.applier.told(&Clean::Everything);
        assert_eq!(parts.said(), ["0 keys a", "1 flush"]);
        assert_eq!(parts.echo(), ["0 keys a,b"]);
        assert_eq!(parts.echo(), [""; 0]);
        let want = CleanFigures { told: 2, applied: 2, echoed: 1, missed: 0 };
        assert_eq!(parts.applier.clean_figures(), Some(want));
    }

    #[test]
    fn what_softens_the_pages_empties_the_values_and_does_so_again() {
        let parts = Parts::new();
        parts.applier.told(&keys("a"));
        parts.applier.soften(Cause::Gap);
        assert_eq!(parts.said(), ["missed"]);
        assert_eq!(parts.echo(), ["all flush"]);
        let missed = |figures: CleanFigures| figures.missed;
        assert_eq!(parts.applier.clean_figures().map(missed), Some(1));
    }

    #[test]
    fn what_is_to_be_done_again_goes_to_another_process_within_its_bound() {
        let (old, new) = (Parts::new(), Parts::new());
        old.applier.told(&keys("a"));
        old.applier.told(&keys("b"));
        let take = |parts: &Parts, echoes: &[Bytes]| {
            for echo in echoes {
                parts.applier.take_echo(&Order::decode(echo, 1 << 16).expect("an order"));
            }
        };
        let pending = old.applier.pending_echoes(1_000);
        assert_eq!(pending, ["1 hard objects 0 keys a,b"]);
        take(&new, &pending);
        assert_eq!(new.said(), ["0 keys a,b"]);
        assert_eq!(new.echo(), ["0 keys a,b"]);
        let pending = old.applier.pending_echoes(50);
        assert_eq!(pending, ["1 hard objects all flush"]);
        take(&new, &pending);
        assert_eq!(new.said(), [""; 0]);
        assert_eq!(new.echo(), ["all flush"]);
    }
}
