//! What a request shows at the door of PHP.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::ClassId;

/// What a request shows at the door.
#[derive(Clone, Default)]
pub struct Ticket {
    /// Its class; `None`: the last one.
    pub class: Option<ClassId>,
    /// Who waits with it.
    pub followers: Option<Followers>,
    /// How urgent it is to them ([`super::Classes::urgency`]): who follows lifts the seat to its own class.
    pub urgency: Option<Followers>,
    /// Its turn in its session, where it has one.
    pub turn: Option<Arc<dyn Turn>>,
    /// Where the milliseconds are added for which it has waited.
    pub waited_milliseconds: Arc<AtomicU64>,
}

impl Ticket {
    /// How urgent it is to who waits with it, and to who waits behind it in its session.
    pub(super) fn urgency(&self) -> usize {
        let followers = self.urgency.as_ref().map_or(usize::MAX, |urgency| urgency());
        let behind = self.turn.as_ref().map_or(usize::MAX, |turn| turn.urgency());
        followers.min(behind)
    }

    /// Resolves when somebody comes to wait behind it.
    pub(super) async fn joined(&self) {
        match &self.turn {
            Some(turn) => turn.joined().await,
            None => std::future::pending().await,
        }
    }

    /// It has a place in PHP.
    pub(super) fn goes(&self) {
        if let Some(turn) = &self.turn {
            turn.goes();
        }
    }
}

/// The turn that a request has in its session while it waits for a place in PHP. Others of that session wait
/// behind it, in their order, whatever their class: so it waits as the most urgent of them would.
pub trait Turn: Send + Sync {
    /// How urgent it is to who waits behind it ([`super::Classes::urgency`]).
    fn urgency(&self) -> usize;

    /// Resolves when one more may wait behind it. One that comes between two looks may be missed.
    fn joined(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// It goes to PHP.
    fn goes(&self);
}

/// Says how many wait with a request, or how urgent it is to them.
pub type Followers = Arc<dyn Fn() -> usize + Send + Sync>;

impl std::fmt::Debug for Ticket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Ticket").field("class", &self.class).finish_non_exhaustive()
    }
}
