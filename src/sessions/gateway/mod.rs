//! The way between PHP and the Redis that has the sessions: a server that any client of Redis can
//! use, over few connections.

mod budget;
mod error;
mod line;
mod messages;
mod trunks;

pub use error::BackendError;
pub use messages::Messages;
pub use trunks::{TrunkFigures, Trunks};
