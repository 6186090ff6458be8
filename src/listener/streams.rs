//! Accepting for protocols that are none of this module's.

use std::pin::pin;
use std::sync::Arc;

use super::accept::{Reserve, is_shortage};
use super::connections::{Event, Shutdown};
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
    let connections = Arc::clone(shutdown.connections());
    // All come from this machine, which the defaults trust.
    let limits = Limits::from(&Listen::default());
    let _accepting = connections.accept();
    let mut stopping = pin!(connections.stopping());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => match connections.admit(accepted.peer(), connections_max, &limits) {
                Ok(slot) => {
                    tokio::spawn(slot.run(Box::pin(serve(accepted))));
                }
                Err(_full) => accepted.refuse(full),
            },
            Err(error) if is_shortage(&error) => {
                connections.note(Event::AcceptError);
                reserve.shed(&acceptor, &error).await;
            }
            // The client has gone while it waited.
            Err(_) => {}
        }
    }
}
