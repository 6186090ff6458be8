//! What stands under a key.

use std::cell::Cell;

use super::dense::{Dense, Heap, allocated};

/// Field and value.
pub(super) type Hash = Dense<Box<[u8]>>;
/// Members.
pub(super) type Set = Dense<()>;

#[derive(Clone, Debug)]
pub(super) enum Value {
    String(Vec<u8>),
    Hash(Box<Hash>),
    Set(Box<Set>),
}

impl Value {
    /// As TYPE says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
        }
    }
}

impl Heap for Value {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::String(text) => allocated(text.capacity()),
            Self::Hash(fields) => allocated(size_of::<Hash>()) + fields.bytes(),
            Self::Set(members) => allocated(size_of::<Set>()) + members.bytes(),
        }
    }
}

/// A value, and when it ends.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub value: Value,
    /// Milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When it was used last: how many commands there had been.
    pub used: Cell<u32>,
    /// It is a lock or a counter, no copy of anything: no other node's business.
    pub is_own: bool,
}

impl Entry {
    pub fn new(value: Value, expires_ms: Option<i64>) -> Self {
        Self { value, expires_ms, used: Cell::default(), is_own: false }
    }

    /// Is it gone at that time?
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|end| now_ms > end)
    }
}

impl Heap for Entry {
    fn heap_bytes(&self) -> usize {
        self.value.heap_bytes()
    }
}
