//! Sockets to handler: HTTP/1.1 of our own, HTTP/2, TLS.
//!
//! [`bind`] opens sockets, [`serve`] accepts on one of them and runs each connection as a task.
//! A connection knows no URLs: it turns bytes into an [`exchange::Request`](crate::exchange),
//! hands it to a [`Handler`](crate::exchange::Handler), and turns the response into bytes.

mod accept;
mod connections;
mod copies;
mod date;
mod door;
pub mod http1;
mod http2;
mod limits;
mod pace;
mod refused;
mod socket;
mod streams;
pub mod tls;
mod validity;
mod watchdog;

pub use accept::{serve, serve_pipe};
pub use connections::{Connections, Counts, Shutdown, Stage};
pub use limits::{HeadLimits, Limits};
pub use socket::{Accepted, BoundListener, ListenError, bind, bind_one};
pub use streams::{serve_stream, serve_streams};
pub use tls::{TlsError, TlsServer};
