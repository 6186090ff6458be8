//! Sessions that pass through Parvis.

mod lock;
mod orphans;
mod trunks;
