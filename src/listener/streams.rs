//! Accepting for protocols that are none of this module's.

use std::pin::pin;
use std::sync::Arc;

use super::accept::{Reserve, is_shortage};
use super::connections::{Connections, Event, Shutdown};
use super::limits::Limits;
use super::socket::{Accepted, BoundListener, ListenError};
use crate::clock::Clock;
use crate::settings::Listen;

/// Accepts on one socket until `shutdown` says otherwise, and runs what `serve` makes of each
/// connection as a task. One more than `connections_max` is told `full` and closed. Returns when no
/// further connection is taken; those that are open go on, see [`Shutdown::all_gone`].
pub async fn serve_streams<R: Future<Output = ()> + Send + 'static>(
    listener: BoundListener,
    connections_max: usize,
    full: &'static [u8],
    shutdown: Shutdown,
    serve: impl Fn(Accepted) -> R,
) -> Result<(), ListenError> {
    let acceptor = listener.register()?;
    let mut reserve = Reserve::new(Clock::system());
    let (connections, limits) = (Arc::clone(shutdown.connections()), limits());
    let _accepting = connections.accept();
    let mut stopping = pin!(connections.stopping());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                start(accepted, (connections_max, &limits), full, &connections, &serve);
            }
            Err(error) if is_shortage(&error) => {
                connections.note(Event::AcceptError);
                reserve.shed(&acceptor, &error).await;
            }
            // The client has gone while it waited.
            Err(_) => {}
        }
    }
}

/// Serves a connection that was accepted elsewhere as one of [`serve_streams`].
pub fn serve_stream<R: Future<Output = ()> + Send + 'static>(
    accepted: Accepted,
    connections_max: usize,
    full: &'static [u8],
    shutdown: &Shutdown,
    serve: impl FnOnce(Accepted) -> R,
) {
    start(accepted, (connections_max, &limits()), full, shutdown.connections(), serve);
}

/// All come from this machine, which the defaults trust.
fn limits() -> Limits {
    Limits::from(&Listen::default())
}

fn start<R: Future<Output = ()> + Send + 'static>(
    accepted: Accepted,
    (connections_max, limits): (usize, &Limits),
    full: &'static [u8],
    connections: &Arc<Connections>,
    serve: impl FnOnce(Accepted) -> R,
) {
    match connections.admit(accepted.peer(), connections_max, limits) {
        Ok(slot) => {
            tokio::spawn(slot.run(Box::pin(serve(accepted))));
        }
        Err(_full) => accepted.refuse(full),
    }
}
