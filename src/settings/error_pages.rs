//! `[error_pages]` and `[maintenance]`: what visitors see where there is no response.

use std::path::PathBuf;
use std::time::Duration;

use super::Networks;

/// `[error_pages]`
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorPages {
    /// Where the shop's own pages are; empty: the built-in ones.
    pub directory: PathBuf,
    /// Bytes of one page.
    pub page_max_bytes: u64,
    /// Pages in all.
    pub pages_max: usize,
    /// What clients are told with 503: when to come again.
    pub retry_after: Duration,
}

impl Default for ErrorPages {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            page_max_bytes: 256 << 10,
            pages_max: 200,
            retry_after: Duration::from_secs(5),
        }
    }
}

/// `[maintenance]`
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// Is it on, whatever else says?
    pub on: bool,
    /// It is on while this file is there; empty: none.
    pub flag: PathBuf,
    /// Who gets the shop all the same.
    pub allow: Networks,
    /// What clients are told: when to come again.
    pub retry_after: Duration,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            on: false,
            flag: PathBuf::new(),
            allow: Networks::default(),
            retry_after: Duration::from_mins(1),
        }
    }
}
