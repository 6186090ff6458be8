//! Who watches which keys, until a transaction.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Where a client learns that a key which it watches was changed. It is gone with its last owner.
pub(super) type Mark = Arc<AtomicBool>;

/// So many keys are there before it is looked which of them nobody watches any more.
const SWEEP_MIN: usize = 64;

/// The watched keys of a database.
#[derive(Debug, Default)]
pub(super) struct Watches {
    keys: HashMap<Box<[u8]>, Vec<Weak<AtomicBool>>>,
    sweep_at: usize,
}

impl Watches {
    pub fn add(&mut self, key: &[u8], mark: &Mark) {
        let watchers = self.keys.entry(key.into()).or_default();
        watchers.retain(|it| it.strong_count() > 0);
        watchers.push(Arc::downgrade(mark));
        if self.keys.len() > self.sweep_at.max(SWEEP_MIN) {
            self.keys.retain(|_, watchers| watchers.iter().any(|it| it.strong_count() > 0));
            self.sweep_at = self.keys.len() * 2;
        }
    }

    /// Tells who watches a key that it was changed.
    pub fn touch(&mut self, key: &[u8]) {
        if self.keys.is_empty() {
            return;
        }
        for mark in self.keys.remove(key).iter().flatten().filter_map(Weak::upgrade) {
            mark.store(true, Ordering::Relaxed);
        }
    }

    /// Tells who watches one of the keys that `is_changed` names.
    pub fn touch_all(&mut self, is_changed: impl Fn(&[u8]) -> bool) {
        let keys: Vec<Box<[u8]>> =
            self.keys.keys().filter(|key| is_changed(key)).cloned().collect();
        for key in keys {
            self.touch(&key);
        }
    }
}
