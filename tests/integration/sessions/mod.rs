//! Sessions that pass through Parvis.

mod lock;
mod trunks;
