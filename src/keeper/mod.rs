//! What is stored outlives its process: on disk over a stop and start, and on its way to the process
//! that takes over.
//!
//! All of it happens on threads that may block, beside the requests. What is asked for most goes first,
//! so that a bound leaves out the least. When what is read may be used stands in [`crate::snapshot`].

mod file;
mod handover;
mod objects;
mod progress;
mod restore;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::clock::Moment;
use crate::objects::Objects;
use crate::pipeline::Node;
use crate::settings::Settings;
use crate::snapshot::file::{Kept, Place, Written};
use crate::snapshot::{ECHOES_MAX_BYTES, Head, StoredResponse};
use crate::store::{FillMark, Walk};

pub use file::Found;
pub use handover::Receiving;
pub use objects::FoundObjects;

/// What is around the content of a page.
const AROUND_MAX_BYTES: u64 = 4 << 20;

/// Keeps what a node has stored; shared by `Arc`.
pub struct Keeper {
    node: Node,
    /// Of the node before anything was purged: what is read came in by then.
    mark: FillMark,
    place: Option<Place>,
    /// The object cache, if there is one.
    objects: Option<Arc<Objects>>,
    objects_place: Option<Place>,
    /// Held while the object cache is copied.
    copying: Mutex<()>,
    /// A copy of the object cache has to be made now.
    is_copy_wanted: AtomicBool,
    /// Held while a snapshot is written.
    writing: tokio::sync::Mutex<()>,
    /// The snapshot that is being written is not wanted any more.
    is_given_up: AtomicBool,
    /// Another process writes snapshots from now on.
    is_over: AtomicBool,
    shown: Mutex<Figures>,
}

/// What became of snapshots, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The last one that was written by this process, and when.
    pub last: Option<(Written, Moment)>,
    /// Times that one could not be written.
    pub failures: u64,
    /// Pages that came from a snapshot or from the process before this one.
    pub restored: u64,
}

/// How far what is read may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// As what is stored here: each purge since is known, or will be before it counts as proven.
    Stored,
    /// It may have been purged without anybody's knowing: stale at best.
    Stale,
}

impl Keeper {
    /// For a node that has stored and purged nothing yet.
    pub fn new(node: &Node) -> Self {
        let mark = node.parts().store.mark();
        let settings = Arc::clone(&node.parts().rules.load().settings);
        let directory = &settings.store.snapshot_directory;
        let place = |kept| {
            let is_set = !directory.as_os_str().is_empty();
            is_set.then(|| Place::new(directory, kept))
        };
        Self {
            node: node.clone(),
            mark,
            place: place(Kept::Pages),
            objects: None,
            objects_place: place(Kept::Objects),
            copying: Mutex::default(),
            is_copy_wanted: AtomicBool::new(false),
            writing: tokio::sync::Mutex::default(),
            is_given_up: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            shown: Mutex::default(),
        }
    }

    /// For statistics; `None`: no snapshots are kept, and nothing came from elsewhere.
    pub fn figures(&self) -> Option<Figures> {
        let figures = *self.shown.lock();
        (self.place.is_some() || figures.restored > 0).then_some(figures)
    }

    /// Another process has taken over and writes snapshots from now on; or no longer.
    pub fn stand_aside(&self, is_aside: bool) {
        self.is_over.store(is_aside, Ordering::SeqCst);
        self.is_given_up.store(is_aside, Ordering::SeqCst);
    }

    /// Goes on with the log where the other process was, and with the echoes that it still had to do.
    /// False: there is no log, or it had not found one.
    fn resume(&self, head: &Head) -> bool {
        let fleet = &self.node.parts().fleet;
        fleet.take_echoes(&head.echoes, self.settings().purge.regex_max_bytes);
        fleet.resume(&head.position)
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.node.parts().rules.load().settings)
    }

    fn keyspace(&self) -> u64 {
        self.node.parts().rules.load().policy.keyspace()
    }

    fn record_max_bytes(&self) -> usize {
        let record_max_bytes =
            self.settings().store.forms_max_bytes().saturating_add(AROUND_MAX_BYTES);
        usize::try_from(record_max_bytes).unwrap_or(usize::MAX)
    }

    /// Begins with what is kept now. The place in the log is asked for first: what is purged or cleaned from
    /// here on stands behind it, and what was before is gone from what is kept.
    fn head(&self, keyspace: u64, release: String, is_last: bool) -> Head {
        let parts = self.node.parts();
        let position = parts.fleet.position();
        let echoes = parts.fleet.pending_echoes(ECHOES_MAX_BYTES);
        let since = parts.clock.wall().duration_since(std::time::UNIX_EPOCH);
        let created_unix_seconds = since.unwrap_or_default().as_secs();
        Head { created_unix_seconds, keyspace, is_last, hits: 0, release, position, echoes }
    }

    /// The same of what is stored.
    fn begin(&self, release: String, is_last: bool) -> (Head, Walk) {
        let head = self.head(self.keyspace(), release, is_last);
        let walk = Walk::new(Arc::clone(&self.node.parts().store));
        (Head { hits: walk.hits(), ..head }, walk)
    }

    /// The responses of a walk, as long as `goes_on` says so.
    fn responses<'a>(
        &'a self,
        walk: Walk,
        mut goes_on: impl FnMut() -> bool + 'a,
    ) -> impl Iterator<Item = StoredResponse> + 'a {
        let stored = walk.take_while(move |_| goes_on());
        stored.filter_map(|stored| self.node.export(&stored))
    }
}
