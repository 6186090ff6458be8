//! The words of the settings that are one of a few.

use super::{
    AccessFormat, AuthorizationRule, Bots, BrowserCache, DebugHeader, FillCookie, FragmentError,
    MalformedAge, PolicyKind, PurgeWithoutPattern, UnknownMethods,
};

/// A setting whose value is one of a few words.
pub(super) trait Word: Copy + 'static {
    /// Each word and what it stands for.
    const WORDS: &'static [(&'static str, Self)];
}

impl Word for UnknownMethods {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("pass", Self::Pass)];
}

impl Word for PolicyKind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("magento", Self::Magento), ("generic", Self::Generic)];
}

impl Word for AuthorizationRule {
    const WORDS: &'static [(&'static str, Self)] = &[("pass", Self::Pass), ("as-vcl", Self::AsVcl)];
}

impl Word for BrowserCache {
    const WORDS: &'static [(&'static str, Self)] =
        &[("no-store", Self::NoStore), ("revalidate", Self::Revalidate), ("origin", Self::Origin)];
}

impl Word for MalformedAge {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("stale", Self::Stale)];
}

impl Word for DebugHeader {
    const WORDS: &'static [(&'static str, Self)] =
        &[("developer", Self::Developer), ("always", Self::Always), ("never", Self::Never)];
}

impl Word for PurgeWithoutPattern {
    const WORDS: &'static [(&'static str, Self)] = &[("refuse", Self::Refuse), ("url", Self::Url)];
}

impl Word for FragmentError {
    const WORDS: &'static [(&'static str, Self)] =
        &[("continue", Self::Continue), ("fail", Self::Fail)];
}

impl Word for FillCookie {
    const WORDS: &'static [(&'static str, Self)] =
        &[("known", Self::Known), ("drop", Self::Drop), ("keep", Self::Keep)];
}

impl Word for Bots {
    const WORDS: &'static [(&'static str, Self)] =
        &[("session", Self::Session), ("none", Self::None)];
}

impl Word for AccessFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("json", Self::Json), ("combined", Self::Combined)];
}

/// What a word stands for.
pub(super) fn from_word<T: Word>(text: &str) -> Option<T> {
    T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

/// The words, for "allowed:".
pub(super) fn words_allowed<T: Word>() -> String {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}
