//! Purges as the API takes them: JSON of our own, and Magento's PURGE.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;

use crate::exchange::Request;
use crate::fields::Fields;
use crate::fleet::{Reach, Wait};
use crate::settings::PurgeWithoutPattern;

/// What is to be purged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeOrder {
    /// What.
    pub scope: Scope,
    /// Mark it stale instead of removing it.
    pub soft: bool,
}

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    All,
    /// What carries one of these tags.
    Tags(Vec<Bytes>),
    /// All variants of a URL.
    Url {
        /// Host and port as they were named.
        authority: Bytes,
        /// Path and query, raw.
        target: Bytes,
    },
    /// What a pattern over the comma-joined tags matches, as in `X-Magento-Tags-Pattern`.
    Pattern(Bytes),
    /// What was stored with an `X-Pool` that this pattern matches.
    Pool(Bytes),
}

/// What a purge reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Stored responses.
    pub purged: u64,
    /// The purge's number.
    pub number: u64,
    /// How far it got in the fleet.
    pub reach: Reach,
}

/// Why a purge is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeRefused {
    /// The pattern is none, or is too large; says which.
    #[error("{0}")]
    Pattern(String),
}

/// The JSON of `POST /purge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    tags: Option<Vec<String>>,
    url: Option<String>,
    all: Option<bool>,
    pattern: Option<String>,
    #[serde(default)]
    soft: bool,
}

impl PurgeOrder {
    /// Reads the JSON; the error says what is wrong with it.
    pub(super) fn from_json(content: &[u8]) -> Result<Self, String> {
        // The derived reader would also take the values as a list, in an order nobody knows.
        if content.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
            return Err("the JSON is no object such as {\"tags\":[\"cat_p_1\"]}".to_owned());
        }
        let json: Json = serde_json::from_slice(content)
            .map_err(|error| format!("the JSON is wrong: {error}"))?;
        let scope = match (json.tags, json.url, json.all, json.pattern) {
            (Some(tags), None, None, None) => tags_scope(tags)?,
            (None, Some(url), None, None) => url_scope(&url)?,
            (None, None, Some(true), None) => Scope::All,
            (None, None, Some(false), None) => {
                return Err("\"all\" must be true".to_owned());
            }
            (None, None, None, Some(pattern)) if pattern.is_empty() => {
                return Err("\"pattern\" is empty".to_owned());
            }
            (None, None, None, Some(pattern)) => Scope::Pattern(pattern.into()),
            _ => return Err("name one of \"tags\", \"url\", \"all\", \"pattern\"".to_owned()),
        };
        Ok(Self { scope, soft: json.soft })
    }

    /// Reads a PURGE as Magento's VCL does: a pattern, a pool, or both; `X-Magento-Purge-Soft: 1` of
    /// elgentos' VCL marks stale.
    pub(super) fn from_magento(
        request: &Request,
        without_pattern: PurgeWithoutPattern,
    ) -> Result<Vec<Self>, String> {
        let soft = request.fields.first("X-Magento-Purge-Soft").is_some_and(|value| value == "1");
        let filled = |name| request.fields.all(name).filter(|value| !value.is_empty()).cloned();
        let patterns = filled("X-Magento-Tags-Pattern").map(Scope::Pattern);
        let pools = filled("X-Pool").map(Scope::Pool);
        let mut scopes: Vec<_> = patterns.chain(pools).collect();
        if scopes.is_empty() {
            scopes.push(match without_pattern {
                PurgeWithoutPattern::Refuse => {
                    return Err("X-Magento-Tags-Pattern or X-Pool is missing".to_owned());
                }
                PurgeWithoutPattern::Url => Scope::Url {
                    authority: request.authority.clone(),
                    target: request.target.clone(),
                },
            });
        }
        Ok(scopes.into_iter().map(|scope| Self { scope, soft }).collect())
    }
}

fn tags_scope(tags: Vec<String>) -> Result<Scope, String> {
    if tags.is_empty() {
        return Err("\"tags\" is empty".to_owned());
    }
    // X-Magento-Tags separates tags by these, so a tag with one of them would reach nothing.
    let separator = |character: char| character == ',' || character.is_ascii_whitespace();
    if let Some(place) = tags.iter().position(|tag| tag.is_empty() || tag.contains(separator)) {
        return Err(format!("tags[{place}] is no tag: it is empty or has a comma or white space"));
    }
    Ok(Scope::Tags(tags.into_iter().map(Bytes::from).collect()))
}

fn url_scope(url: &str) -> Result<Scope, String> {
    let wrong = |what: &str| format!("\"url\" must be as in https://shop.example/path: {what}");
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it has no scheme http or https"));
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(Scope::Url {
            authority: Bytes::copy_from_slice(authority.as_str().as_bytes()),
            target: uri.path_and_query().map_or_else(
                || Bytes::from_static(b"/"),
                |target| target.as_str().to_owned().into(),
            ),
        }),
        _ => Err(wrong("it has no host, or a user")),
    }
}

/// `X-Parvis-Wait: fleet`
pub(super) fn wait_of(fields: &Fields) -> Wait {
    match fields.first("X-Parvis-Wait") {
        Some(value) if value == "fleet" => Wait::Fleet,
        _ => Wait::Log,
    }
}

/// Is the content declared as JSON? A page in an admin's browser can send other types to this machine
/// without asking first, but not this one (Fetch, "CORS-safelisted request-header").
pub(super) fn is_json(fields: &Fields) -> bool {
    let Some(value) = fields.first("Content-Type") else { return false };
    let media_type = value.split(|&byte| byte == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
