//! A stored response on its way out: 200, 206, 304, HEAD, in the encoding the client takes; and the
//! coding of what is streamed past the store, or comes coded from the origin.

mod brotli;
mod conditional;
mod decode;
mod decoder;
mod gzip;
mod gzip_stream;
mod head;
mod inflate;
mod joined;
mod joined_brotli;
mod joined_framing;
mod joined_stream;
mod ranged;
mod respond;
mod unzstd;

pub use conditional::not_modified;
pub use decode::{Decoded, decode};
pub use decoder::DecodeLimits;
pub use gzip_stream::gzip_stream;
pub use head::{
    Coding, compressible, content_coding, forget_coding, has_variants, prepare, use_gzip,
    vary_by_encoding,
};
pub use joined::{Joined, join};
pub use joined_stream::{JoinedSender, PieceReader, stream_joined};
pub use respond::{RequestFacts, Stored, compress, respond, without_content};

/// A stored response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Its bytes do not inflate to what they were made of.
    #[error("a stored response is damaged")]
    Damaged,
}
