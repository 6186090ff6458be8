//! Responses split at their includes before storing, joined before delivery.
//!
//! What of ESI (W3C note "ESI Language Specification 1.0") is understood: `<esi:include>` with `src`,
//! `alt` and `onerror`, `<esi:remove>`, `<esi:comment>` and `<!--esi ... -->`. ESI is textual: HTML is
//! not parsed, so that an include within a script or an attribute is found as well. What is wrong is
//! left out and counted ([`Mistake`]).

mod in_order;
mod mistakes;
mod parser;
mod resolve;
mod split;
mod stream;
mod tag;

use http::StatusCode;

pub use in_order::InOrder;
pub use mistakes::{Mistake, MistakeLog, Mistakes};
pub use parser::{Event, Parser};
pub use resolve::{PageUrl, Refused, resolve};
pub use split::{Split, split, whole};
pub use stream::{FragmentFailed, Listeners, StreamLimits, at_once, stream};

use crate::exchange::has_whole_content;
use crate::settings;

/// Bounds of what is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Includes of one response; further ones leave nothing behind.
    pub includes_max: usize,
    /// Bytes of one tag; what is longer is left out.
    pub tag_max_bytes: usize,
    /// Bytes within one `<esi:remove>`; a longer one counts as never ended.
    pub remove_max_bytes: usize,
}

impl From<&settings::Esi> for Limits {
    fn from(esi: &settings::Esi) -> Self {
        Self {
            includes_max: esi.includes_max,
            tag_max_bytes: esi.tag_max_bytes,
            remove_max_bytes: esi.remove_max_bytes,
        }
    }
}

/// Is content of this type looked through for includes? Text alone, as Magento's VCL does, and
/// only where it is the whole of it (a part of a page cannot be taken apart).
pub fn applies(content_type: Option<&[u8]>, status: StatusCode) -> bool {
    let text = content_type
        .and_then(|content_type| content_type.trim_ascii_start().get(..5))
        .is_some_and(|start| start.eq_ignore_ascii_case(b"text/"));
    has_whole_content(status) && text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_looked_through_and_nothing_else() {
        let applies = |value: &'static str, status: u16| {
            applies(Some(value.as_bytes()), StatusCode::from_u16(status).expect("a status"))
        };
        assert!(applies("text/html; charset=UTF-8", 200));
        assert!(applies("Text/Plain", 404));
        assert!(!applies("application/json", 200));
        assert!(!applies("text", 200));
        assert!(!applies("text/html", 206));
        assert!(!applies("text/html", 304));
        assert!(!super::applies(None, StatusCode::OK));
    }
}
