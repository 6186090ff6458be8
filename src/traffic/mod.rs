//! What a client may do, decided for each request.

pub mod challenge;
