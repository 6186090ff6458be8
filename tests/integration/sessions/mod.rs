//! Sessions that pass through Parvis.

mod trunks;
