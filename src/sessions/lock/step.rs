//! What is asked of the place where sessions are, and what it answers.

use std::pin::Pin;

use bytes::Bytes;

use crate::sessions::gateway::BackendError;

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A session's key, and the database it is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The database.
    pub database: u32,
    /// The key.
    pub key: Bytes,
}

/// Who asks: 16 letters that name a process, a colon, and a number of its own.
pub type Token = String;

/// One step, which nothing of another client comes between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take the lock, or stand in line for it.
    Take {
        /// Who.
        token: Token,
        /// The turn that an earlier try had; 0: none.
        turn: i64,
        /// How many may stand in line.
        waiters_max: usize,
    },
    /// Leave the line and do what Redis does: count up.
    Now {
        /// Who.
        token: Token,
    },
    /// The session was written with the lock set free, or is gone: call who is next.
    Release {
        /// Who had it.
        token: Token,
    },
    /// Set the lock free of who has gone, where owner and pid are those that were seen.
    Free {
        /// Who asks.
        token: Token,
        /// Who has it, as was seen; empty: nobody that is known.
        owner: Token,
        /// The pid as was seen; `None`: the one that was there when the owner took the lock.
        pid: Option<Bytes>,
    },
    /// Leave the line; what was taken without anybody's knowing is free again.
    Leave {
        /// Who.
        token: Token,
    },
    /// Say that the lock is this one's.
    Own {
        /// Who.
        token: Token,
        /// The pid that it has written.
        pid: Bytes,
        /// Did it break another's lock? Else it is told again: that may have been forgotten, and who
        /// waits may have seen its process silent.
        broke: bool,
    },
}

/// Who has a lock, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The token; empty: nobody that came through a gateway.
    pub owner: Token,
    /// Does its process hear us?
    pub owner_lives: bool,
    /// Has the owner written its pid? Else the pid is of who had the lock before, or nobody is known.
    pub is_signed: bool,
    /// When the owner last said that it has it, in microseconds or a count: what was silent twice has
    /// said so in between, and was not silent all the time.
    pub told: i64,
    /// The session's pid.
    pub pid: Bytes,
    /// It is free, and somebody else's turn.
    pub is_free: bool,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What `HINCRBY key lock 1` gave; 1: the lock is taken.
    Counted(i64),
    /// It stands in line.
    Waits {
        /// Its turn.
        turn: i64,
        /// For whom.
        seen: Seen,
    },
    /// Done.
    Done,
    /// It was set free.
    Freed,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The server answered with an error, in its words.
    #[error("the server refuses: {}", String::from_utf8_lossy(.0))]
    Refused(Bytes),
    /// It cannot be asked, or there is no answer.
    #[error(transparent)]
    Away(#[from] BackendError),
}

impl From<StoreError> for BackendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(words) => {
                Self::Refused(String::from_utf8_lossy(&words).into_owned())
            }
            StoreError::Away(error) => error,
        }
    }
}

/// Where sessions are.
pub trait LockStore: Send + Sync {
    /// Does a step.
    fn run<'a>(&'a self, place: &'a Place, step: &'a Step)
    -> Boxed<'a, Result<Answer, StoreError>>;

    /// `HINCRBY key lock 1` as it came, where a step cannot be done.
    fn count<'a>(&'a self, place: &'a Place) -> Boxed<'a, Result<i64, StoreError>>;

    /// Listens to what is told to a process.
    fn listen<'a>(&'a self, process: &'a str) -> Boxed<'a, Result<Box<dyn Hears>, StoreError>>;
}

/// What is told to this process.
pub trait Hears: Send {
    /// The next message; `None`: the connection was lost, and messages may have been.
    fn next(&mut self) -> Boxed<'_, Option<Bytes>>;
}
