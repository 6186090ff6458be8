//! What a visitor sees where there is no response: the shop's own pages, or built-in ones in the visitor's
//! language, and JSON for scripts.
//!
//! The shop's own are files that are read as a whole at start and at SIGHUP, so that none of them is missing, slow or
//! half written when it is needed.

mod built_in;
mod spoken;

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::StatusCode;

use crate::fields::{Fields, weight};
use crate::reason::Reason;
use crate::settings;

pub use spoken::{FRAMES, OWN_STYLE, Spoken, in_language, source_of};

/// Languages of a client that are looked at; browsers name five.
const LANGUAGES_MAX: usize = 16;

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 502
    BadGateway,
    /// 503
    Unavailable,
    /// 504
    Timeout,
    /// 503, on purpose.
    Maintenance,
    /// 403
    Forbidden,
    /// 429
    TooMany,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::BadGateway,
        Self::Unavailable,
        Self::Timeout,
        Self::Maintenance,
        Self::Forbidden,
        Self::TooMany,
    ];

    /// The page for a failure; `None`: there is none for this status.
    pub fn of(status: StatusCode, reason: Option<Reason>) -> Option<Self> {
        match status {
            _ if reason == Some(Reason::Maintenance) => Some(Self::Maintenance),
            // They have pages of their own.
            _ if matches!(reason, Some(Reason::Challenge | Reason::Waiting)) => None,
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            StatusCode::TOO_MANY_REQUESTS => Some(Self::TooMany),
            StatusCode::BAD_GATEWAY => Some(Self::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::Timeout),
            _ => None,
        }
    }

    /// What its file's name begins with.
    const fn name(self) -> &'static str {
        match self {
            Self::BadGateway => "502",
            Self::Unavailable => "503",
            Self::Timeout => "504",
            Self::Maintenance => "maintenance",
            Self::Forbidden => "403",
            Self::TooMany => "429",
        }
    }
}

/// A page of the shop with a place that another part of Parvis fills in, for each request anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// What solves a challenge.
    Challenge,
    /// Where a visitor stands in the waiting room.
    Waiting,
}

impl Template {
    const ALL: [Self; 2] = [Self::Challenge, Self::Waiting];

    /// What stands in the file for what is filled in.
    pub const PLACE: &str = "<!-- parvis -->";

    /// What its file's name begins with.
    const fn name(self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Waiting => "waiting",
        }
    }
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum For {
    Kind(Kind),
    Template(Template),
}

impl For {
    fn of(name: &str) -> Option<Self> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).map(Self::Kind);
        let is_template = |template: &Template| template.name() == name;
        kind.or_else(|| Template::ALL.into_iter().find(is_template).map(Self::Template))
    }
}

/// Why the pages cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ErrorPagesError {
    /// One cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One is too large.
    #[error("{path} is larger than error_pages.page_max, {bytes_max} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        bytes_max: u64,
    },
    /// There are too many.
    #[error("{path} has more than {pages_max} pages (error_pages.pages_max)")]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// The bound.
        pages_max: usize,
    },
    /// A file's name says nothing.
    #[error(
        "{0} is none of 403, 429, 502, 503, 504, maintenance, challenge and waiting, with .html or .LANGUAGE.html"
    )]
    Name(PathBuf),
    /// There is nowhere to put what belongs into it.
    #[error("{0} has no {PLACE}, or is not in UTF-8", PLACE = Template::PLACE)]
    Place(PathBuf),
}

/// Which page: the host, empty for all; what for; the language, empty for all.
type Which = (String, For, String);

/// The shop's own pages.
#[derive(Debug, Default)]
pub struct ErrorPages(HashMap<Which, Bytes>);

/// A page that is ready to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub content_type: &'static str,
    /// Its language, where it is known.
    pub language: Option<&'static str>,
    /// The content.
    pub content: Bytes,
}

impl ErrorPages {
    /// Reads `error_pages.directory`: pages for all hosts in it, and those of one in a directory of
    /// its name.
    ///
    /// # Errors
    /// [`ErrorPagesError`]
    pub fn load(settings: &settings::ErrorPages) -> Result<Self, ErrorPagesError> {
        let mut pages = Self::default();
        if settings.directory.as_os_str().is_empty() {
            return Ok(pages);
        }
        for path in entries(&settings.directory)? {
            if path.is_dir() {
                let host = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
                for page in entries(&path)? {
                    pages.read(settings, host.clone().unwrap_or_default(), page)?;
                }
            } else {
                pages.read(settings, String::new(), path)?;
            }
        }
        Ok(pages)
    }

    fn read(
        &mut self,
        settings: &settings::ErrorPages,
        host: String,
        path: PathBuf,
    ) -> Result<(), ErrorPagesError> {
        let Some((purpose, language)) = purpose_of(&path) else {
            return Err(ErrorPagesError::Name(path));
        };
        if self.0.len() >= settings.pages_max {
            let (path, pages_max) = (settings.directory.clone(), settings.pages_max);
            return Err(ErrorPagesError::TooMany { path, pages_max });
        }
        let bytes_max = settings.page_max_bytes;
        let mut content = Vec::new();
        let read = fs::File::open(&path)
            .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut content));
        match read {
            Err(source) => Err(ErrorPagesError::Unreadable { path, source }),
            Ok(_) if content.len() as u64 > bytes_max => {
                Err(ErrorPagesError::TooLarge { path, bytes_max })
            }
            Ok(_) if matches!(purpose, For::Template(_)) && halves(&content).is_none() => {
                Err(ErrorPagesError::Place(path))
            }
            Ok(_) => {
                self.0.insert((host, purpose, language), content.into());
                Ok(())
            }
        }
    }

    /// The page for a client that asked this host with these fields; `None`: a plain text will do, since
    /// it takes neither HTML nor JSON by name.
    pub fn page(&self, kind: Kind, host: &[u8], request: &Fields, facts: Facts) -> Option<Page> {
        if takes_json(request) {
            return Some(json(facts));
        }
        if !takes_html(request) {
            return None;
        }
        let languages = languages(request);
        let (content_type, language) = ("text/html; charset=utf-8", None);
        let content = match self.own(For::Kind(kind), host, &languages) {
            Some(own) => own.clone(),
            None => return Some(built_in::page(kind, &languages)),
        };
        Some(Page { content_type, language, content })
    }

    /// The shop's own page for this host in the first of these languages that there is: what stands before and
    /// behind the place that is to be filled in.
    pub fn template(
        &self,
        template: Template,
        host: &[u8],
        languages: &[String],
    ) -> Option<(&str, &str)> {
        halves(self.own(For::Template(template), host, languages)?)
    }

    /// Of the host before that of all, and in the client's language before that of all.
    fn own(&self, purpose: For, host: &[u8], languages: &[String]) -> Option<&Bytes> {
        if self.0.is_empty() {
            return None;
        }
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        [host, String::new()].into_iter().find_map(|host| {
            let of = |language: &str| self.0.get(&(host.clone(), purpose, language.to_owned()));
            languages.iter().find_map(|language| of(language)).or_else(|| of(""))
        })
    }
}

/// What scripts are told.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// The status.
    pub status: StatusCode,
    /// Why.
    pub reason: Option<Reason>,
    /// When to come again.
    pub retry_after_seconds: Option<u64>,
}

/// What scripts are told in place of a page.
pub fn json(facts: Facts) -> Page {
    let Facts { status, reason, retry_after_seconds } = facts;
    let content = serde_json::json!({
        "status": status.as_u16(),
        "reason": reason.map(Reason::as_str),
        "message": status.canonical_reason(),
        "retry_after_seconds": retry_after_seconds,
    });
    let content = (content.to_string() + "\n").into();
    Page { content_type: "application/json", language: None, content }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ErrorPagesError> {
    let unreadable = |source| ErrorPagesError::Unreadable { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // What editors and version control leave beside.
        if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// `503.html` or `503.de.html`.
fn purpose_of(path: &Path) -> Option<(For, String)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".html")?;
    let (name, language) = name.split_once('.').unwrap_or((name, ""));
    let purpose = For::of(name)?;
    let letters = language.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    letters.then(|| (purpose, language.to_ascii_lowercase()))
}

/// What stands before and behind the place of a template.
fn halves(content: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(content).ok()?.split_once(Template::PLACE)
}

/// A script asks, and not a visitor.
pub fn takes_json(request: &Fields) -> bool {
    let by_script = request
        .first("X-Requested-With")
        .is_some_and(|value| value.eq_ignore_ascii_case(b"XMLHttpRequest"));
    // Scripts that call fetch() accept anything; browsers say that the response is no page.
    let is_fetched = request.first("Sec-Fetch-Dest").is_some_and(|value| &value[..] == b"empty");
    let sends_json = request.first("Content-Type").is_some_and(|value| {
        let name = value.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"application/json")
    });
    let takes_only_json = takes(request, b"application/json") && !takes_html(request);
    by_script || is_fetched || sends_json || takes_only_json
}

/// The client takes HTML by name.
pub fn takes_html(request: &Fields) -> bool {
    takes(request, b"text/html")
}

fn takes(request: &Fields, media_type: &[u8]) -> bool {
    request.list("Accept").any(|element| {
        let name = element.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(media_type)
    })
}

/// The languages of a client, the liked ones first, each followed by what it is a kind of (`de-at`, `de`).
pub fn languages(request: &Fields) -> Vec<String> {
    let mut all: Vec<(u16, String)> = Vec::new();
    for element in request.list("Accept-Language").take(LANGUAGES_MAX) {
        let mut parts = element.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        let weight = parts.next().and_then(weight::weight).unwrap_or(weight::WEIGHT_MAX);
        if weight > 0 {
            all.push((weight, String::from_utf8_lossy(&name).into_owned()));
        }
    }
    // Of equal ones the first that was named.
    all.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    let kinds = |name: String| match name.split_once('-') {
        Some((kind, _)) => vec![name.clone(), kind.to_owned()],
        None => vec![name],
    };
    all.into_iter().flat_map(|(_, name)| kinds(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: Some(Reason::QueueTimeout),
        retry_after_seconds: Some(5),
    };

    fn fields(accept: &str, language: &str) -> Fields {
        Fields::from([("Accept", accept), ("Accept-Language", language)])
    }

    fn text(pages: &ErrorPages, host: &str, request: &Fields) -> String {
        let page = pages.page(Kind::Unavailable, host.as_bytes(), request, FACTS).expect("a page");
        String::from_utf8_lossy(&page.content).into_owned()
    }

    #[test]
    fn the_shops_own_page_is_that_of_host_and_language() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("written");
        };
        for name in ["503.html", "503.de.html", "b2b.example/503.html", "maintenance.html"] {
            write(name, name);
        }
        let settings = settings::ErrorPages {
            directory: directory.path().to_owned(),
            ..settings::ErrorPages::default()
        };
        let pages = ErrorPages::load(&settings).expect("readable");
        let of = |host, language| text(&pages, host, &fields("text/html", language));
        assert_eq!(of("shop.example", "en"), "503.html");
        assert_eq!(of("shop.example", "fr;q=0.5, de-AT"), "503.de.html");
        assert_eq!(of("B2B.example", "de"), "b2b.example/503.html");
        let german = fields("text/html", "de");
        let other = pages.page(Kind::Timeout, b"shop.example", &german, FACTS).expect("built in");
        assert_eq!(other.language, Some("de"));
        write("wrong.html", "");
        assert!(matches!(ErrorPages::load(&settings), Err(ErrorPagesError::Name(_))));
        fs::remove_file(directory.path().join("wrong.html")).expect("removed");
        let small = settings::ErrorPages { page_max_bytes: 3, ..settings.clone() };
        assert!(matches!(ErrorPages::load(&small), Err(ErrorPagesError::TooLarge { .. })));
        let few = settings::ErrorPages { pages_max: 2, ..settings };
        assert!(matches!(ErrorPages::load(&few), Err(ErrorPagesError::TooMany { .. })));
    }

    #[test]
    fn a_template_has_a_place_that_is_filled_in() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &[u8]| {
            fs::write(directory.path().join(name), text).expect("written");
        };
        let settings = settings::ErrorPages {
            directory: directory.path().to_owned(),
            ..settings::ErrorPages::default()
        };
        write("challenge.html", b"<p>before<!-- parvis --><p>behind");
        write("challenge.de.html", b"<p>davor<!-- parvis -->");
        let pages = ErrorPages::load(&settings).expect("readable");
        let of = |languages: &[String]| pages.template(Template::Challenge, b"x", languages);
        assert_eq!(of(&[]), Some(("<p>before", "<p>behind")));
        assert_eq!(of(&["de".to_owned()]), Some(("<p>davor", "")));
        assert_eq!(ErrorPages::default().template(Template::Challenge, b"x", &[]), None);
        for wrong in [&b"<p>no place"[..], b"\xff<!-- parvis -->"] {
            write("challenge.html", wrong);
            let loaded = ErrorPages::load(&settings);
            assert!(matches!(loaded, Err(ErrorPagesError::Place(_))), "{loaded:?}");
        }
    }

    #[test]
    fn scripts_get_json_and_who_takes_no_html_a_plain_text() {
        let pages = ErrorPages::default();
        for by in [("Sec-Fetch-Dest", "empty"), ("Content-Type", "application/json; charset=utf-8")]
        {
            assert!(takes_json(&Fields::from([("Accept", "*/*"), by])), "{by:?}");
        }
        assert!(!takes_json(&Fields::from([("Accept", "*/*"), ("Sec-Fetch-Dest", "document")])));
        let script = Fields::from([("Accept", "*/*"), ("X-Requested-With", "XMLHttpRequest")]);
        for request in [script, fields("application/json, text/javascript, */*", "")] {
            let page = pages.page(Kind::Unavailable, b"x", &request, FACTS).expect("a page");
            assert_eq!(page.content_type, "application/json");
            let json: serde_json::Value = serde_json::from_slice(&page.content).expect("JSON");
            assert_eq!(json["reason"], "queue-timeout");
            assert_eq!(json["retry_after_seconds"], 5);
        }
        assert_eq!(pages.page(Kind::Unavailable, b"x", &fields("image/*", ""), FACTS), None);
        assert_eq!(pages.page(Kind::Unavailable, b"x", &Fields::new(), FACTS), None);
    }

    #[test]
    fn the_built_in_page_speaks_the_visitors_language() {
        let pages = ErrorPages::default();
        for (language, lang) in
            [("de-CH,de;q=0.9,en;q=0.8", "de"), ("xx, it;q=0.1", "it"), ("", "en"), ("zh", "en")]
        {
            for kind in Kind::ALL {
                let request = fields("text/html,*/*;q=0.8", language);
                let page = pages.page(kind, b"x", &request, FACTS).expect("a page");
                assert_eq!(page.language, Some(lang));
                let content = String::from_utf8_lossy(&page.content).into_owned();
                assert!(content.contains(&format!("<html lang=\"{lang}\">")), "{content}");
            }
        }
    }
}
