//! A stored response on its way out: 200, 304, HEAD, in the encoding the client takes; and the
//! coding of what is streamed past the store.

mod conditional;
mod gzip;
mod gzip_stream;
mod head;
mod inflate;
mod joined;
mod negotiation;
mod respond;

pub use conditional::not_modified;
pub use gzip_stream::gzip_stream;
pub use head::{Coding, compressible, content_coding, prepare, use_gzip, vary_by_encoding};
pub use inflate::{inflate_bounded, inflate_stream};
pub use joined::{Joined, join};
pub use negotiation::accepts_gzip;
pub use respond::{RequestFacts, Stored, compress, respond};

/// A stored response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Its bytes do not inflate to what they were made of.
    #[error("a stored response is damaged")]
    Damaged,
}
