//! PURGE requests: Magento's pattern as exact tags, `.*` as everything, other patterns as regexes.

use bytes::Bytes;
use http::StatusCode;
use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::exchange::{Client, Request};
use crate::policy::Policy;
use crate::settings::{Purge, PurgeWithoutPattern};

/// Groups within groups of a regex.
const REGEX_NEST_MAX: u32 = 64;

/// What a PURGE asks for.
#[derive(Clone, Debug)]
pub struct PurgeRequest {
    /// What is purged: one scope, or two where tags and a pool are both named.
    pub scopes: Vec<PurgeScope>,
    /// Mark as stale instead of removing (`X-Magento-Purge-Soft: 1`).
    pub soft: bool,
}

/// Tags that a line of the log names.
const NAMED_TAGS_MAX: usize = 3;
/// Characters of each text in it.
const NAMED_CHARACTERS_MAX: usize = 100;

impl PurgeRequest {
    /// What it names, for the log: short, however much that is.
    pub fn summary(&self) -> String {
        let text = |bytes: &[u8]| -> String {
            String::from_utf8_lossy(bytes).chars().take(NAMED_CHARACTERS_MAX).collect()
        };
        let scope = |scope: &PurgeScope| match scope {
            PurgeScope::All => "everything".to_owned(),
            PurgeScope::Tags(tags) => {
                let named: Vec<_> = tags.iter().take(NAMED_TAGS_MAX).map(|tag| text(tag)).collect();
                let rest = tags.len().saturating_sub(named.len());
                let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
                format!("tags {}{more}", named.join(", "))
            }
            PurgeScope::TagsMatching(regex) => {
                format!("tags that match {}", text(regex.as_str().as_bytes()))
            }
            PurgeScope::Pool(regex) => format!("pool {}", text(regex.as_str().as_bytes())),
            PurgeScope::Url(url) => format!("URL {}", text(url)),
        };
        self.scopes.iter().map(scope).collect::<Vec<_>>().join("; ")
    }
}

/// Which stored responses are purged.
#[derive(Clone, Debug)]
pub enum PurgeScope {
    /// All of them.
    All,
    /// Those with one of these tags.
    Tags(Vec<Bytes>),
    /// Those whose tags, joined by commas, the regex matches somewhere.
    TagsMatching(Regex),
    /// Those whose `X-Pool` the regex matches somewhere.
    Pool(Regex),
    /// All variants of a URL: host and normalised target as in [`crate::policy::CacheKey::url`].
    Url(Vec<u8>),
}

/// A purge as it is told to another process: a purge of text alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct PurgeText {
    scopes: Vec<ScopeText>,
    soft: bool,
}

/// A scope; of tags and URLs each byte is one character, as in Latin-1, so that none is lost.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ScopeText {
    All,
    Tags(Vec<String>),
    TagsMatching(String),
    Pool(String),
    Url(String),
}

impl PurgeText {
    /// Of a purge.
    pub fn of(request: &PurgeRequest) -> Self {
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let scope = |scope: &PurgeScope| match scope {
            PurgeScope::All => ScopeText::All,
            PurgeScope::Tags(tags) => ScopeText::Tags(tags.iter().map(|tag| text(tag)).collect()),
            PurgeScope::TagsMatching(regex) => ScopeText::TagsMatching(regex.as_str().to_owned()),
            PurgeScope::Pool(regex) => ScopeText::Pool(regex.as_str().to_owned()),
            PurgeScope::Url(url) => ScopeText::Url(text(url)),
        };
        Self { scopes: request.scopes.iter().map(scope).collect(), soft: request.soft }
    }

    /// A purge of everything.
    pub fn all() -> Self {
        Self { scopes: vec![ScopeText::All], soft: false }
    }

    /// The purge that it tells of. A regex may take `regex_max_bytes` once compiled.
    pub fn request(&self, regex_max_bytes: usize) -> Result<PurgeRequest, PurgeRefusal> {
        let bytes = |text: &str| {
            let byte = |character: char| u8::try_from(u32::from(character));
            text.chars().map(byte).collect::<Result<Vec<u8>, _>>().map_err(|_| {
                PurgeRefusal::Pattern("a character of a tag or URL is no byte".to_owned())
            })
        };
        let regex = |text: &str| compile(text.as_bytes(), regex_max_bytes);
        let scope = |scope: &ScopeText| {
            Ok(match scope {
                ScopeText::All => PurgeScope::All,
                ScopeText::Tags(tags) => PurgeScope::Tags(
                    tags.iter().map(|tag| bytes(tag).map(Bytes::from)).collect::<Result<_, _>>()?,
                ),
                ScopeText::TagsMatching(pattern) => PurgeScope::TagsMatching(regex(pattern)?),
                ScopeText::Pool(pattern) => PurgeScope::Pool(regex(pattern)?),
                ScopeText::Url(url) => PurgeScope::Url(bytes(url)?),
            })
        };
        let scopes = self.scopes.iter().map(scope).collect::<Result<_, _>>()?;
        Ok(PurgeRequest { scopes, soft: self.soft })
    }
}

/// Why a PURGE is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeRefusal {
    /// Neither X-Magento-Tags-Pattern nor X-Pool.
    #[error("X-Magento-Tags-Pattern or X-Pool header required")]
    NoPattern,
    /// The pattern is no regex that this engine knows, or it is larger than
    /// `purge.regex_max_bytes` once compiled.
    #[error("the pattern is not accepted: {0}")]
    Pattern(String),
}

impl PurgeRefusal {
    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

/// May this client purge? Its resolved address counts, and it must not have come with forwarding
/// headers from a peer that is not trusted.
pub fn allowed(client: &Client, settings: &Purge) -> bool {
    !client.forged && settings.allow.contains(client.address)
}

/// Reads a PURGE. Several lines of a pattern purge what any of them matches.
pub(super) fn parse(policy: &Policy, request: &Request) -> Result<PurgeRequest, PurgeRefusal> {
    let fields = &request.fields;
    let regex_max_bytes = policy.purge.regex_max_bytes;
    let mut scopes = Vec::new();
    let patterns = filled(fields.all("x-magento-tags-pattern"));
    if !patterns.is_empty() {
        scopes.push(parse_patterns(&patterns, regex_max_bytes)?);
    }
    let pools = filled(fields.all("x-pool"));
    if !pools.is_empty() {
        scopes.push(PurgeScope::Pool(any_of(&pools, regex_max_bytes)?));
    }
    if scopes.is_empty() {
        match policy.purge.without_pattern {
            PurgeWithoutPattern::Refuse => return Err(PurgeRefusal::NoPattern),
            PurgeWithoutPattern::Url => {
                scopes.push(policy.url_scope(&request.authority, &request.target));
            }
        }
    }
    let soft = fields.first("x-magento-purge-soft").is_some_and(|value| value == "1");
    Ok(PurgeRequest { scopes, soft })
}

/// The lines that say something.
fn filled<'a>(lines: impl Iterator<Item = &'a Bytes>) -> Vec<&'a [u8]> {
    lines.map(|line| line.trim_ascii()).filter(|line| !line.is_empty()).collect()
}

/// Reads the lines of a pattern, of which there is at least one.
fn parse_patterns(lines: &[&[u8]], regex_max_bytes: usize) -> Result<PurgeScope, PurgeRefusal> {
    let mut tags = Vec::new();
    let mut everything = false;
    let mut exact = true;
    for line in lines {
        match parse_pattern(line, regex_max_bytes)? {
            PurgeScope::Tags(named) => tags.extend(named),
            PurgeScope::All => everything = true,
            _ => exact = false,
        }
    }
    if everything {
        Ok(PurgeScope::All)
    } else if exact {
        Ok(PurgeScope::Tags(tags))
    } else {
        any_of(lines, regex_max_bytes).map(PurgeScope::TagsMatching)
    }
}

/// A regex that matches what any of the lines matches. Each must be a regex by itself, and has a
/// group of its own: halves of a group in two lines do not become one, and a line's flags end with
/// it.
fn any_of(lines: &[&[u8]], regex_max_bytes: usize) -> Result<Regex, PurgeRefusal> {
    if let [line] = lines {
        return compile(line, regex_max_bytes);
    }
    let mut groups = Vec::with_capacity(lines.len());
    for line in lines {
        compile(line, regex_max_bytes)?;
        groups.push([b"(?:", *line, b")"].concat());
    }
    compile(&groups.join(&b'|'), regex_max_bytes)
}

/// Reads a value of X-Magento-Tags-Pattern: Magento's `((^|,)TAG(,|$))|...` as exact tags, `.*` as
/// everything, and what is neither as a regex that may take `regex_max_bytes` once compiled. The
/// engine's time is linear in what it searches.
pub fn parse_pattern(pattern: &[u8], regex_max_bytes: usize) -> Result<PurgeScope, PurgeRefusal> {
    let pattern = pattern.trim_ascii();
    if pattern.is_empty() {
        return Err(PurgeRefusal::NoPattern);
    }
    if pattern == b".*" {
        return Ok(PurgeScope::All);
    }
    match exact_tags(pattern) {
        Some(tags) => Ok(PurgeScope::Tags(tags)),
        None => compile(pattern, regex_max_bytes).map(PurgeScope::TagsMatching),
    }
}

/// A regex over the comma-joined tags, where the text is known to be one.
pub fn parse_tags_regex(regex: &[u8], regex_max_bytes: usize) -> Result<PurgeScope, PurgeRefusal> {
    compile(regex, regex_max_bytes).map(PurgeScope::TagsMatching)
}

/// Reads a value of X-Pool: a regex, as the VCL has it.
pub fn parse_pool(pattern: &[u8], regex_max_bytes: usize) -> Result<PurgeScope, PurgeRefusal> {
    compile(pattern, regex_max_bytes).map(PurgeScope::Pool)
}

/// The tags of a pattern which consists of nothing but Magento's wrappers; `None` for any other.
fn exact_tags(pattern: &[u8]) -> Option<Vec<Bytes>> {
    let mut tags = Vec::new();
    let mut rest = pattern;
    loop {
        // Magento puts parentheses around the wrapper; without them it means the same.
        let (inner, closing) = match rest.strip_prefix(b"((^|,)") {
            Some(inner) => (inner, &b"(,|$))"[..]),
            None => (rest.strip_prefix(b"(^|,)")?, &b"(,|$)"[..]),
        };
        let (tag, after) = literal(inner)?;
        tags.push(tag);
        rest = after.strip_prefix(closing)?;
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix(b"|")?;
    }
}

/// The literal text up to the next metacharacter of a regex, escapes undone, and what follows.
/// `None`: there is none, or it holds what no single tag can (separators) or an escape that is more
/// than a quoted punctuation mark.
fn literal(pattern: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut text = Vec::new();
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match byte {
            b'\\' => {
                let (&escaped, after) = after.split_first()?;
                if !escaped.is_ascii_punctuation() || b",<>".contains(&escaped) {
                    return None;
                }
                text.push(escaped);
                after
            }
            b',' | b' ' | b'\t' => return None,
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'.' | b'*' | b'+' | b'?' | b'|' | b'^'
            | b'$' => break,
            _ => {
                text.push(byte);
                after
            }
        };
    }
    (!text.is_empty()).then(|| (text.into(), rest))
}

fn compile(pattern: &[u8], regex_max_bytes: usize) -> Result<Regex, PurgeRefusal> {
    let pattern =
        std::str::from_utf8(pattern).map_err(|error| PurgeRefusal::Pattern(error.to_string()))?;
    RegexBuilder::new(pattern)
        .unicode(false)
        .nest_limit(REGEX_NEST_MAX)
        .size_limit(regex_max_bytes)
        .dfa_size_limit(regex_max_bytes)
        .build()
        .map_err(|error| PurgeRefusal::Pattern(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_told_to_another_process_is_the_same_purge() {
        let regex_max_bytes = 1 << 20;
        let regex = |text: &str| compile(text.as_bytes(), regex_max_bytes).expect("a regex");
        let all_bytes: Vec<u8> = (0..=255).collect();
        let request = PurgeRequest {
            scopes: vec![
                PurgeScope::All,
                PurgeScope::Tags(vec![Bytes::from("cat_p_1"), Bytes::from(all_bytes.clone())]),
                PurgeScope::TagsMatching(regex("cat_p_[0-9]+|\\xff")),
                PurgeScope::Pool(regex("^blue$")),
                PurgeScope::Url(all_bytes),
            ],
            soft: true,
        };
        let told = serde_json::to_string(&PurgeText::of(&request)).expect("text");
        let heard: PurgeText = serde_json::from_str(&told).expect("text");
        let heard = heard.request(regex_max_bytes).expect("a purge");
        assert_eq!(format!("{heard:?}"), format!("{request:?}"));
    }

    #[test]
    fn a_purge_is_named_shortly_in_the_log() {
        let regex = |text: &str| compile(text.as_bytes(), 1 << 20).expect("a regex");
        let tags = |count: usize| {
            PurgeScope::Tags((0..count).map(|at| Bytes::from(format!("cat_p_{at}"))).collect())
        };
        let named = |scopes| PurgeRequest { scopes, soft: false }.summary();
        assert_eq!(named(vec![PurgeScope::All]), "everything");
        assert_eq!(named(vec![tags(2)]), "tags cat_p_0, cat_p_1");
        assert_eq!(named(vec![tags(1_000)]), "tags cat_p_0, cat_p_1, cat_p_2 and 997 more");
        let both = vec![PurgeScope::TagsMatching(regex("x+")), PurgeScope::Pool(regex("^blue$"))];
        assert_eq!(named(both), "tags that match x+; pool ^blue$");
        assert_eq!(named(vec![PurgeScope::Url(vec![b'a'; 10_000])]).len(), "URL ".len() + 100);
    }

    #[test]
    fn what_is_no_purge_is_refused() {
        for text in [
            r#"{"scopes":[{"tags":["\u0100"]}],"soft":false}"#,
            r#"{"scopes":[{"pool":"("}],"soft":false}"#,
        ] {
            let heard: PurgeText = serde_json::from_str(text).expect("text");
            heard.request(1 << 20).expect_err("no byte, no regex");
        }
    }
}
