//! Where clients are served: by a gateway of this process, for a moment by nobody, or by another process
//! that takes over.
//!
//! A store that one process at a time has is handed over so: the clients are stopped between two commands
//! ([`Lobby::empty`]), then the store is closed, the other process opens it, and each client goes there with
//! what was known of it ([`Carried`]). What they send meanwhile waits in their sockets. Where nothing comes
//! of it they go on here.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::{From, Gateway};
use crate::sessions::carried::Carried;

/// How long clients may take to stop. A command is not waited for that long; a client that takes no
/// replies stops later, and does nothing in between.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum State {
    /// Nobody is served.
    Closed,
    Here(Arc<Gateway>),
    /// Another process may be about to.
    Waits,
    Elsewhere,
}

/// It.
pub struct Lobby {
    state: watch::Sender<State>,
    /// Clients that are served here.
    served: watch::Sender<usize>,
}

/// Tells a client of a gateway when it is to stop.
pub(super) struct Call {
    state: watch::Receiver<State>,
    gateway: Arc<Gateway>,
}

impl Default for Lobby {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::Closed), served: watch::Sender::new(0) }
    }
}

impl Lobby {
    /// Clients are served by this one from now on.
    pub fn open(&self, gateway: Arc<Gateway>) {
        self.state.send_replace(State::Here(gateway));
    }

    /// Nobody is served any more.
    pub fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// What serves; `None`: nothing does.
    pub fn gateway(&self) -> Option<Arc<Gateway>> {
        match &*self.state.borrow() {
            State::Here(gateway) => Some(Arc::clone(gateway)),
            State::Closed | State::Waits | State::Elsewhere => None,
        }
    }

    /// Clients wait, for a gateway or for another process.
    pub fn hold(&self) {
        self.state.send_replace(State::Waits);
    }

    /// Has all clients stop after the command that they are at, and wait. When this returns no command is
    /// done any more.
    pub async fn empty(&self) {
        self.hold();
        let mut served = self.served.subscribe();
        let stopped = served.wait_for(|served| *served == 0);
        if tokio::time::timeout(STOPPED_WITHIN, stopped).await.is_err() {
            tracing::warn!(
                "some clients of the sessions do not take their replies, and come later"
            );
        }
    }

    /// All clients go to another process from now on.
    pub fn leave(&self) {
        self.state.send_replace(State::Elsewhere);
    }

    /// Serves a client until it leaves, or is to go to another process: then its state is given.
    /// `closing` says that this process ends.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        from: &From,
        mut carried: Option<Carried>,
        closing: impl Fn() -> bool,
    ) -> Option<Carried> {
        let mut state = self.state.subscribe();
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Here(gateway) => {
                    let _served = Served::begin(&self.served);
                    let call = Call { state: state.clone(), gateway: Arc::clone(&gateway) };
                    carried =
                        Some(gateway.serve(&mut *stream, from, carried, call, &closing).await?);
                }
                State::Waits => state.changed().await.ok()?,
                State::Elsewhere => return Some(carried.unwrap_or_default()),
                State::Closed => return None,
            }
        }
    }

    /// For a client that the other process does not take: waits until it is served here, though not for long.
    /// False: it is not.
    pub async fn comes_back(&self, patience: Duration) -> bool {
        let mut state = self.state.subscribe();
        let back = state.wait_for(|state| matches!(state, State::Here(_)));
        matches!(tokio::time::timeout(patience, back).await, Ok(Ok(_)))
    }
}

impl Call {
    /// Is the client to stop?
    pub fn has_come(&self) -> bool {
        !is_by(&self.state.borrow(), &self.gateway)
    }

    /// Resolves when it is.
    pub async fn comes(&mut self) {
        let gateway = &self.gateway;
        // Where nobody can say so any more, all ends.
        let _ = self.state.wait_for(|state| !is_by(state, gateway)).await;
    }
}

fn is_by(state: &State, gateway: &Arc<Gateway>) -> bool {
    matches!(state, State::Here(serves) if Arc::ptr_eq(serves, gateway))
}

/// Counts a client that is served.
struct Served<'a>(&'a watch::Sender<usize>);

impl<'a> Served<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
