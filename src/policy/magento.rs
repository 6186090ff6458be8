//! `policy = "magento"`: what Magento's VCL does, and where it is known to be weak, better.

mod judge;
mod plan;
mod vary_cookie;

pub(super) use judge::{is_of_one_visitor, storable};
pub(super) use plan::{Area, is_static_file, plan};

/// The cookie in which Magento puts a hash of everything a page depends on besides its URL.
pub(super) const VARY_COOKIE: &[u8] = b"X-Magento-Vary";
