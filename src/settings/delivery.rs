//! `[esi]` and `[encoding]`: what is made of a response on its way out.

use std::time::Duration;

/// `[esi]`
#[derive(Clone, Debug, PartialEq)]
pub struct Esi {
    /// Take includes apart and join them.
    pub enabled: bool,
    /// Fragments within fragments.
    pub depth_max: usize,
    /// Includes of one response.
    pub includes_max: usize,
    /// Includes of one page and of all fragments within it.
    pub total_max: usize,
    /// Fragments of one response that are fetched at the same time.
    pub concurrency_max: usize,
    /// For one source of a fragment, content included; beyond it the source has failed.
    pub timeout: Duration,
    /// What becomes of a page when a fragment fails.
    pub on_error: FragmentError,
    /// Bytes of one ESI tag; what is longer is left out.
    pub tag_max_bytes: usize,
    /// Bytes within one `<esi:remove>`; a longer one counts as never ended.
    pub remove_max_bytes: usize,
}

/// `esi.on_error`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FragmentError {
    /// The page goes on without the fragment.
    Continue,
    /// The page fails.
    Fail,
}

impl Default for Esi {
    fn default() -> Self {
        Self {
            enabled: true,
            depth_max: 3,
            includes_max: 32,
            total_max: 64,
            concurrency_max: 8,
            timeout: Duration::from_secs(30),
            on_error: FragmentError::Continue,
            tag_max_bytes: 8 << 10,
            remove_max_bytes: 64 << 10,
        }
    }
}

/// `[encoding]`
#[derive(Clone, Debug, PartialEq)]
pub struct Encoding {
    /// Compress text with gzip. Unless it is set: in the Magento policy, not in the generic one.
    pub gzip: bool,
    /// 1 to 9.
    pub gzip_level: u32,
    /// Keep stored text in brotli as well. Unless it is set: as `gzip`.
    pub brotli: bool,
    /// 2 to 11.
    pub brotli_level: u32,
    /// Keep stored text without includes in zstd as well.
    pub zstd: bool,
    /// 1 to 19.
    pub zstd_level: u32,
    /// Bytes below which nothing is compressed.
    pub min_bytes: u64,
    /// Largest ratio of decoded to encoded bytes that is accepted from an origin.
    pub ratio_max: u64,
    /// Bytes of a streamed response that may wait between joining or coding it and its client.
    pub buffer_max_bytes: usize,
}

impl Default for Encoding {
    fn default() -> Self {
        Self {
            gzip: true,
            gzip_level: 6,
            brotli: true,
            brotli_level: 5,
            zstd: false,
            zstd_level: 6,
            min_bytes: 1_024,
            ratio_max: 100,
            buffer_max_bytes: 64 << 10,
        }
    }
}
