//! Snapshots on disk.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::progress::Progress;
use super::restore::Restored;
use super::{Keeper, Worth};
use crate::fleet::release;
use crate::settings::{PolicyKind, Settings};
use crate::snapshot::file::{Bounds, NotWritten, Place, Written};
use crate::snapshot::{Fault, Head, Reader};

/// A disk that does not say by then what is in a file holds no start.
pub(super) const OPENED_WITHIN: Duration = Duration::from_secs(5);

/// Between two snapshots at least, whatever the setting says.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A snapshot that may be read in.
#[derive(Debug)]
pub struct Found {
    reader: Reader<BufReader<File>>,
    worth: Worth,
    age: Duration,
}

/// Why a snapshot is of no use, though it is whole.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("it is of release {found:?}, and the release is {wanted:?}")]
    Release { found: String, wanted: String },
    #[error("what is part of a key was set otherwise then (site)")]
    Keyspace,
    #[error("this node is strict, and cannot know what was purged since")]
    Strict,
}

impl Keeper {
    /// Looks for a snapshot, and whether it may be used. To be called before anything is purged and
    /// before the fleet is started: it says from where on the log is to be read.
    pub async fn open(self: &Arc<Self>) -> Option<Found> {
        let place = self.place.clone()?;
        let keeper = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || keeper.find(&place));
        if let Ok(found) = tokio::time::timeout(OPENED_WITHIN, opened).await {
            return found.unwrap_or_default();
        }
        tracing::warn!("the snapshot cannot be opened in time: a cold start");
        None
    }

    fn find(&self, place: &Place) -> Option<Found> {
        let file = place.path();
        let is_told = self.tell_useless(place);
        let reader = match place.open(self.record_max_bytes()) {
            Ok(reader) => reader?,
            Err(Fault::Io(_)) if is_told => return None,
            Err(fault) => {
                tell_fault(place, &fault, None);
                return None;
            }
        };
        match self.judge(reader.head()) {
            Ok(worth) => {
                let age = self.age_of(reader.head());
                tracing::info!(file = %file.display(), ?age, ?worth, "a snapshot was found");
                Some(Found { reader, worth, age })
            }
            Err(useless) => {
                let file = file.display();
                tracing::warn!(%file, "the snapshot is not used: {useless}");
                None
            }
        }
    }

    /// Says at the start what would be known only at the stop, when it is too late. Was there anything to say?
    fn tell_useless(&self, place: &Place) -> bool {
        let Err(error) = place.check() else { return false };
        let settings = self.settings();
        let directory = settings.store.snapshot_directory.display();
        tracing::warn!(
            %directory,
            %error,
            "store.snapshot_directory cannot be written: pages and the object cache do not outlive this process, and \
             neither does what it signs for browsers, where no secret is set and none is kept there"
        );
        true
    }

    fn judge(&self, head: &Head) -> Result<Worth, Useless> {
        let (settings, fleet) = (self.settings(), &self.node.parts().fleet);
        let wanted = release_of(&settings);
        if head.release != wanted {
            return Err(Useless::Release { found: head.release.clone(), wanted });
        }
        if head.keyspace != self.keyspace() {
            return Err(Useless::Keyspace);
        }
        // The generic policy ends stored responses by unsafe requests, of which no log tells; and a
        // journal in memory alone has gone with purges that this snapshot may be older than.
        let journal = &settings.fleet.journal_directory;
        let all_is_logged = settings.site.policy == PolicyKind::Magento
            && (head.is_last || !journal.as_os_str().is_empty());
        let has_log = self.resume(head);
        match (has_log && all_is_logged, fleet.trust().is_strict()) {
            (true, _) => Ok(Worth::Stored),
            (false, false) => Ok(Worth::Stale),
            (false, true) => Err(Useless::Strict),
        }
    }

    /// For how long it lay around, by the wall clock: one that was set back lets pages live longer,
    /// and no purge is missed by that.
    fn age_of(&self, head: &Head) -> Duration {
        let now = self.node.parts().clock.wall().duration_since(std::time::UNIX_EPOCH);
        let created = Duration::from_secs(head.created_unix_seconds);
        now.unwrap_or_default().saturating_sub(created)
    }

    /// Reads a snapshot in, on a thread that may block, while the node serves.
    pub fn read_in(&self, found: Found) {
        let Found { mut reader, worth, age } = found;
        let restored = self.restore(&mut reader, worth, age, "the snapshot is read");
        let Restored { pages, left_out, seconds, .. } = restored;
        tracing::info!(pages, left_out, seconds, ?worth, "the snapshot is in the store");
        if let (Some(fault), Some(place)) = (restored.fault, &self.place) {
            tell_fault(place, &fault, Some(pages));
        }
    }

    /// Writes snapshots from time to time, for as long as it is polled.
    pub async fn write_often(self: Arc<Self>) {
        let interval = self.settings().store.snapshot_interval;
        if self.place.is_none() || interval.is_zero() {
            return;
        }
        let (mut before, mut objects_before) = (None, None);
        loop {
            tokio::time::sleep(interval.max(INTERVAL_MIN)).await;
            if self.is_over.load(Ordering::SeqCst) {
                continue;
            }
            // One after the other, so that the log is read on from nearly the same place for both.
            self.write_objects_again(&mut objects_before).await;
            let stats = self.node.parts().store.stats();
            // The same pages once more would wear out the disk for nothing.
            let now = (stats.insertions, stats.purges, stats.objects);
            if before == Some(now) || self.is_over.load(Ordering::SeqCst) {
                continue;
            }
            if self.write(false).await {
                before = Some(now);
            }
        }
    }

    /// Writes the last snapshot, and the object cache, when nothing is served any more, within `store.snapshot_timeout`.
    pub async fn write_last(self: &Arc<Self>) {
        if self.place.is_none() || self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        self.is_given_up.store(true, Ordering::SeqCst);
        // What is on the disk by then is renamed in a moment; a disk that hangs is not waited for.
        let patience = self.settings().store.snapshot_timeout.saturating_mul(2);
        let pages = tokio::time::timeout(patience, self.write(true));
        let (pages, ()) = tokio::join!(pages, self.write_objects_at_stop(patience));
        if pages.is_err() {
            tracing::warn!(
                "the disk does not take the last snapshot in time; the one before stays"
            );
        }
    }

    async fn write(self: &Arc<Self>, is_last: bool) -> bool {
        let Some(place) = self.place.clone() else { return false };
        let _writing = self.writing.lock().await;
        if is_last {
            self.is_given_up.store(false, Ordering::SeqCst);
        } else if self.is_over.load(Ordering::SeqCst) {
            return false;
        }
        let keeper = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || keeper.write_now(&place, is_last));
        let clock = &self.node.parts().clock;
        match written.await {
            Ok(Ok(written)) => {
                self.shown.lock().last = Some((written, clock.now()));
                true
            }
            Ok(Err(NotWritten::GivenUp)) | Err(_) => false,
            Ok(Err(error)) => {
                self.shown.lock().failures += 1;
                let directory = self.settings().store.snapshot_directory.clone();
                let directory = directory.display();
                tracing::warn!(%error, %directory, "no snapshot was written; the one before stays");
                false
            }
        }
    }

    fn write_now(&self, place: &Place, is_last: bool) -> Result<Written, NotWritten> {
        let (settings, clock) = (self.settings(), &self.node.parts().clock);
        let release = release_of(&settings);
        let (head, walk) = self.begin(release.clone(), is_last);
        let mut progress = Progress::new("a snapshot is written", clock);
        let until = clock.now().plus(settings.store.snapshot_timeout);
        let goes_on = || {
            progress.step();
            let in_time = !is_last || clock.now() < until;
            in_time && !self.is_given_up.load(Ordering::SeqCst)
        };
        let bounds = Bounds {
            bytes_max: settings.store.snapshot_max_bytes,
            record_max_bytes: self.record_max_bytes(),
            bytes_per_second: if is_last { 0 } else { settings.store.snapshot_rate_bytes },
        };
        // Pages of two releases are of no use to either.
        let is_wanted =
            || !self.is_given_up.load(Ordering::SeqCst) && release_of(&settings) == release;
        let began = clock.now();
        let written =
            place.write(&head, bounds, clock, self.responses(walk, goes_on), is_wanted)?;
        let Written { records, bytes, left_out } = written;
        let seconds = clock.now().since(began).as_secs_f64();
        tracing::info!(pages = records, bytes, left_out, seconds, "a snapshot was written");
        Ok(written)
    }
}

/// What is corrupt is not read again.
fn tell_fault(place: &Place, fault: &Fault, pages: Option<u64>) {
    let file = place.path();
    let (file, kept) = (file.display(), pages.unwrap_or(0));
    if matches!(fault, Fault::Version(_) | Fault::Io(_)) {
        tracing::warn!(%file, kept, "the snapshot cannot be used: {fault}");
        return;
    }
    match place.set_aside() {
        Ok(aside) => {
            let aside = aside.display();
            tracing::warn!(%file, kept, %aside, "the snapshot is corrupt: {fault}");
        }
        Err(error) => {
            tracing::warn!(%file, kept, %error, "the snapshot is corrupt: {fault}");
        }
    }
}

/// The release of the shop now; blocks.
pub(super) fn release_of(settings: &Settings) -> String {
    let file = &settings.fleet.release_file;
    if file.as_os_str().is_empty() { String::new() } else { release::read(file) }
}
