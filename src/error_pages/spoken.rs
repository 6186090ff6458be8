//! What small pages have in common that stand in for the shop's: those of errors, the challenge, the waiting room.

use aws_lc_rs::digest::{SHA256, digest};

use crate::tokens::base64url;

/// What a shop's own page may have beside what this server puts into it: styles, images and fonts of the shop (CSP 3).
pub const OWN_STYLE: &str = "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; form-action 'self'";

/// Who may put it into a frame, and nothing else: what is the same for all (CSP 3).
pub const FRAMES: &str = "base-uri 'none'; frame-ancestors 'self'";

/// Words in one language.
pub trait Spoken {
    /// Which.
    fn language(&self) -> &'static str;
}

/// The words in the first of a client's languages that there is; else the first.
pub fn in_language<'a, W: Spoken>(all: &'a [W; 6], languages: &[String]) -> &'a W {
    let of = |language: &String| all.iter().find(|words| words.language() == language);
    let [english, ..] = all;
    languages.iter().find_map(of).unwrap_or(english)
}

/// A text in a page as a source in its policy (CSP 3, 2.3.1): base64 with the letters and the padding that all browsers take.
pub fn source_of(text: &str) -> String {
    let hash = base64url::encode(digest(&SHA256, text.as_bytes()).as_ref());
    format!("'sha256-{}='", hash.replace('-', "+").replace('_', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_known_by_its_hash_in_the_letters_of_rfc_4648() {
        assert_eq!(source_of("abc"), "'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='");
    }
}
