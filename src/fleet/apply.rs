//! Purges on their way into the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Bell;
use super::echo::{Due, Echoes};
use super::log::{Cause, Order};
use super::trust::Trust;
use crate::clock::{Clock, Moment};
use crate::observe::Observer;
use crate::policy::PurgeScope;
use crate::settings;
use crate::store::{Purged, Store};

/// Applies orders, and remembers to apply them again.
pub(super) struct Applier {
    store: Arc<Store>,
    observer: Arc<Observer>,
    clock: Clock,
    pub(super) trust: Trust,
    echoes: Mutex<Echoes>,
    /// Rung when the next echo is another one.
    pub(super) echo_noted: Bell,
}

impl Applier {
    pub(super) fn new(
        store: Arc<Store>,
        observer: Arc<Observer>,
        clock: &Clock,
        trust: Trust,
        settings: &settings::Purge,
    ) -> Self {
        let echoes = Mutex::new(Echoes::new(settings.echo, settings.echoes_max));
        let clock = clock.clone();
        Self { store, observer, clock, trust, echoes, echo_noted: Bell::new() }
    }

    /// Does what an order asks for, and remembers it for its echo.
    pub(super) fn purge(&self, order: &Order) -> Purged {
        let purged = self.apply(order);
        self.note_echo(|echoes, now| echoes.note(order, now));
        purged
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

    /// The purges that are still to be applied again, within so many bytes and four for each; else that
    /// everything goes stale then.
    pub(super) fn pending_echoes(&self, bytes_max: usize) -> Vec<Bytes> {
        let pending = self.echoes.lock();
        let orders: Vec<Bytes> = pending.pending().map(|order| order.encode().into()).collect();
        let bytes: usize = orders.iter().map(|order| order.len() + 4).sum();
        if bytes > bytes_max { vec![Order::Soften.encode().into()] } else { orders }
    }

    /// A purge that was to be applied again where what is stored comes from. What it names did not come,
    /// and what is rendered from now on may still show what was before.
    pub(super) fn take_echo(&self, order: &Order) {
        match order {
            Order::Soften => self.note_echo(|echoes, now| echoes.note(order, now)),
            Order::Purge { .. } => drop(self.purge(order)),
        }
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
    pub(super) fn next_echo(&self) -> Option<Duration> {
        self.echoes.lock().next().map(|due| due.since(self.clock.now()))
    }

    /// Applies again what is due.
    pub(super) fn apply_echoes(&self) {
        let now = self.clock.now();
        let due = self.echoes.lock().due(now);
        for order in due {
            let purged = self.apply(&order);
            tracing::debug!(responses = purged.responses, "purged again");
        }
        self.echoes.lock().done(now);
    }

    fn apply(&self, order: &Order) -> Purged {
        let store = &self.store;
        match order {
            Order::Soften => {
                let softened = store.soften_tagged();
                self.trust.soften(self.clock.now());
                softened
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
}
