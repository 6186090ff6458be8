//! Appends purges to the log, in their order, and keeps them while that cannot be done.
//!
//! One task writes, so that what waits in the journal goes first. Nobody waits for a connection to
//! be made here: where none stands, a purge is kept, and the beat connects again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::link::{Appended, Job, Link, token};
use super::log::{Journal, JournalError, Kept, Token};
use super::stream::{Append, appended_of};
use crate::redis_pool::RedisError;

/// Purges that are appended at once.
const TOGETHER_MAX: usize = 64;

/// Appends until nobody can send any more.
pub(super) async fn run(link: Arc<Link>) {
    let Some(mut queue) = link.queue.lock().take() else { return };
    let mut writer = Writer::open(link).await;
    loop {
        let mut jobs = Vec::new();
        tokio::select! {
            biased;
            count = queue.recv_many(&mut jobs, TOGETHER_MAX) => {
                if count == 0 {
                    return;
                }
                writer.write(jobs).await;
            }
            () = writer.link.deliver.notified() => writer.adopt().await,
        }
        writer.deliver(&mut queue).await;
    }
}

struct Writer {
    link: Arc<Link>,
    journal: Arc<Mutex<Journal>>,
    /// The process that this one takes over from still has the file.
    is_taken: bool,
}

impl Writer {
    async fn open(link: Arc<Link>) -> Self {
        let journal = Arc::new(Mutex::new(Journal::in_memory(link.settings.journal_max_bytes)));
        let mut writer = Self { link, journal, is_taken: true };
        writer.adopt().await;
        if writer.is_taken {
            tracing::info!("another process has the journal; this one waits for its end");
        }
        writer.show();
        writer
    }

    /// Takes the journal's file, with what is in it, as soon as no other process of this node has
    /// it; until then purges are kept in memory.
    async fn adopt(&mut self) {
        if !self.is_taken {
            return;
        }
        let opening = Arc::clone(&self.link);
        let opened = tokio::task::spawn_blocking(move || open_journal(&opening)).await;
        let Ok(Some((journal, is_whole))) = opened else { return };
        self.is_taken = false;
        // The process that kept them had applied them, and this one has not: what it has stored since
        // its start may be older than they are, and their echoes went with that process.
        for kept in journal.oldest(usize::MAX) {
            self.link.applier.purge(&kept.order);
        }
        self.link.is_journal_done.store(is_whole, Ordering::Release);
        if !journal.is_empty() {
            tracing::info!(
                purges = journal.len(),
                "purges from before the start wait in the journal"
            );
        }
        let in_memory = std::mem::replace(&mut *self.journal.lock(), journal);
        let waiting = in_memory.oldest(usize::MAX);
        if !waiting.is_empty() {
            self.on_disk(move |journal| journal.push(waiting, token()).map(drop)).await;
        }
        self.show();
    }

    /// Appends them, or keeps them.
    async fn write(&mut self, jobs: Vec<Job>) {
        let jobs = joined(jobs);
        self.link.appending(jobs.iter().map(|job| (job.name, &job.order)));
        if !self.journal.lock().is_empty() {
            return self.keep(jobs).await;
        }
        let entries: Vec<_> =
            jobs.iter().map(|job| (job.name, &job.order, job.is_awaited)).collect();
        let mut places = self.append(&entries).await.into_iter();
        let mut rest = Vec::new();
        for job in jobs {
            match places.next() {
                // What comes behind one that failed is kept too, or it would overtake it.
                Some(place) if rest.is_empty() => {
                    drop(job.unlogged);
                    if let Some(answer) = job.answer {
                        let _ = answer.send(Appended::Logged(place.0, place.1));
                    }
                }
                _ => rest.push(job),
            }
        }
        if !rest.is_empty() {
            self.keep(rest).await;
        }
    }

    /// Appends entries; gives the places of the first ones, as many as there were before the first
    /// failure.
    async fn append(&self, entries: &[(Token, &super::log::Order, bool)]) -> Vec<(Token, u64)> {
        let link = &self.link;
        let commands: Vec<_> = entries
            .iter()
            .map(|&(name, order, is_awaited)| {
                let append = Append { name, node: &link.name, order, is_awaited };
                link.keys.append(&append, token(), link.settings.log_max)
            })
            .collect();
        let replies = match link.redis.ask_all_if_connected(&commands).await {
            Ok(replies) => replies,
            Err(error) => {
                if error != RedisError::Away {
                    tracing::debug!(%error, "purges could not be appended");
                }
                return Vec::new();
            }
        };
        let places: Vec<_> = replies.iter().map_while(appended_of).collect();
        for (&(name, ..), &place) in entries.iter().zip(&places) {
            link.appended(name, place);
        }
        places
    }

    async fn keep(&mut self, jobs: Vec<Job>) {
        self.adopt().await;
        let kept: Vec<_> =
            jobs.iter().map(|job| Kept { name: job.name, order: job.order.clone() }).collect();
        self.on_disk(move |journal| {
            if journal.is_empty() {
                tracing::warn!("the log cannot be reached: purges are kept in the journal");
            }
            let overflowed = journal.push(kept, token())?;
            if overflowed {
                tracing::warn!(
                    "the journal is full (fleet.journal_max): in place of the purges in it, \
                     everything tagged will be stale on all nodes"
                );
            }
            Ok(())
        })
        .await;
        for Job { answer, unlogged, told, .. } in jobs {
            drop((unlogged, told));
            if let Some(answer) = answer {
                let _ = answer.send(Appended::Journaled);
            }
        }
    }

    /// Sends what waits in the journal, as far as Redis takes it; new purges queue up behind it.
    async fn deliver(&mut self, queue: &mut mpsc::Receiver<Job>) {
        let mut sent = 0;
        loop {
            let oldest = self.journal.lock().oldest(TOGETHER_MAX);
            if oldest.is_empty() {
                break;
            }
            let entries: Vec<_> =
                oldest.iter().map(|kept| (kept.name, &kept.order, false)).collect();
            self.link.appending(oldest.iter().map(|kept| (kept.name, &kept.order)));
            let delivered = self.append(&entries).await.len();
            self.on_disk(move |journal| journal.delivered(delivered)).await;
            sent += delivered;
            if delivered < oldest.len() {
                return;
            }
            let mut jobs = Vec::new();
            while jobs.len() < TOGETHER_MAX
                && let Ok(job) = queue.try_recv()
            {
                jobs.push(job);
            }
            if !jobs.is_empty() {
                self.write(jobs).await;
            }
        }
        if sent > 0 {
            tracing::info!(purges = sent, "the purges of the journal are in the log");
        }
    }

    /// Changes the journal off the threads that serve requests.
    async fn on_disk(
        &self,
        change: impl FnOnce(&mut Journal) -> Result<(), JournalError> + Send + 'static,
    ) {
        let journal = Arc::clone(&self.journal);
        let changed = tokio::task::spawn_blocking(move || change(&mut journal.lock())).await;
        if let Ok(Err(error)) = changed {
            tracing::error!(%error, "the journal is kept in memory from now on");
        }
        self.show();
    }

    fn show(&self) {
        let journal = self.journal.lock();
        self.link.journal.store(journal.len(), Ordering::Relaxed);
        self.link.journal_bytes.store(journal.bytes(), Ordering::Relaxed);
    }
}

/// Cleans that were told one after the other are one entry, so that thousands in a second neither fill the
/// log nor drive purges out of what is appended again after a failover.
fn joined(jobs: Vec<Job>) -> Vec<Job> {
    let mut joined: Vec<Job> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let is_in = joined.last_mut().is_some_and(|last| {
            last.told.is_some() && job.told.is_some() && last.order.take_in(&job.order)
        });
        if !is_in {
            joined.push(job);
        }
    }
    joined
}

/// The journal, and whether it has all that was in it. `None`: another process has it.
fn open_journal(link: &Link) -> Option<(Journal, bool)> {
    let settings = &link.settings;
    let (directory, bytes_max) = (&settings.journal_directory, settings.journal_max_bytes);
    if directory == Path::new("") {
        return Some((Journal::in_memory(bytes_max), true));
    }
    match Journal::open(directory, &link.name, bytes_max, link.regex_max_bytes, token()) {
        Ok(journal) => Some((journal, true)),
        Err(JournalError::Taken { .. }) => None,
        Err(error) => {
            tracing::warn!(
                %error,
                "fleet.journal_directory cannot be used: purges that come while Redis is away are \
                 lost by a restart"
            );
            Some((Journal::in_memory(bytes_max), false))
        }
    }
}
