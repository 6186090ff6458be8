//! What a visitor sees who waits: one document without a script and without anything from elsewhere, which loads itself again.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::Standing;
use super::words::{self, Words};
use crate::body::Body;
use crate::error_pages::{self, ErrorPages, FRAMES, OWN_STYLE, Template, source_of};
use crate::exchange::{Request, Response};

const STYLE: &str = include_str!("page.css");

/// The status of the page. The field gives 200, 429 or 503. With 200 a cache in front, the worker of a shop's own app or a search engine
/// might keep it for the page that was asked for, and 429 says that it is its reader's fault.
const STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

/// Where the visitor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the line.
    InLine,
    /// Not even there: it is full.
    Outside,
}

/// The page for a request. `chance`: any number; pages that were given at the same moment do not all come back at the same.
pub fn page(
    standing: &Standing,
    place: Where,
    request: &Request,
    pages: &ErrorPages,
    chance: u64,
) -> Response {
    let languages = error_pages::languages(&request.fields);
    let words = words::of(&languages);
    let host = request.authority.split(|byte| *byte == b':').next().unwrap_or_default();
    let seconds = seconds(standing.refresh, chance);
    let again = refresh(seconds, &request.target);
    let own = pages.template(Template::Waiting, host, &languages);
    let (content, policy) = match own {
        Some((before, after)) => (
            [before, &again, &part(standing, place, words), after].concat(),
            format!("default-src 'none'; {OWN_STYLE}; {FRAMES}"),
        ),
        None => (built_in(standing, place, words, &again), policy()),
    };
    let mut response = Response::new(STATUS, Body::from(Bytes::from(content)));
    let fields = &mut response.fields;
    fields.push_static("Content-Type", "text/html; charset=utf-8");
    if own.is_none() {
        fields.push_static("Content-Language", words.language);
    }
    fields.push_static("Content-Security-Policy", policy);
    fields.push_static("Cache-Control", "no-store");
    fields.push_static("X-Robots-Tag", "noindex");
    fields.push_static("Retry-After", seconds.to_string());
    if let Some(cookie) = &standing.cookie {
        fields.push_static("Set-Cookie", cookie.clone());
    }
    response
}

/// Of the built-in page.
fn policy() -> String {
    let style = source_of(STYLE);
    format!("default-src 'none'; style-src {style}; form-action 'none'; {FRAMES}")
}

/// Up to a fifth sooner than set, and never later: who is not seen for long has left.
fn seconds(refresh: Duration, chance: u64) -> u64 {
    let seconds = refresh.as_secs().max(1);
    seconds - chance % (seconds / 5 + 1)
}

/// Works within the body as well, where a page of the shop has its place for it. The address is named, without the part behind `#`: with
/// one, Chromium would only move to that part.
fn refresh(seconds: u64, target: &[u8]) -> String {
    // Two slashes would lead to another host.
    let target = if target.starts_with(b"//") { b"/" } else { target };
    let target = String::from_utf8_lossy(target);
    let target = target.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    format!("<meta http-equiv=\"refresh\" content=\"{seconds};url={target}\">")
}

fn built_in(standing: &Standing, place: Where, words: &Words, again: &str) -> String {
    [
        "<!DOCTYPE html>\n<html lang=\"",
        words.language,
        "\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\">",
        again,
        "<title>",
        words.title,
        "</title><style>",
        STYLE,
        "</style></head>\n<body><main><h1>",
        words.title,
        "</h1>\n",
        &part(standing, place, words),
        "</main></body>\n</html>\n",
    ]
    .concat()
}

/// How the visitor stands.
fn part(standing: &Standing, place: Where, words: &Words) -> String {
    let mut out =
        format!("<div id=\"parvis\" lang=\"{}\">\n<p>{}</p>\n", words.language, words.why);
    let stands = match (place, standing.ahead) {
        (Where::Outside, _) => words.no_place.to_owned(),
        (Where::InLine, None) => words.kept.to_owned(),
        (Where::InLine, Some(0)) => words.next.to_owned(),
        (Where::InLine, Some(1)) => words.one_ahead.to_owned(),
        (Where::InLine, Some(ahead)) => words.ahead.replace("{}", &ahead.to_string()),
    };
    let _ = write!(out, "<div role=\"status\">\n<p><strong>{stands}</strong></p>\n");
    let wait = standing.wait.filter(|_| place == Where::InLine);
    if let Some(wait) = wait {
        let wait = match wait.as_secs() {
            0..60 => words.soon.to_owned(),
            60..90 => words.minute.to_owned(),
            seconds => words.minutes.replace("{}", &seconds.div_ceil(60).to_string()),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "<p>{wait}</p>");
    }
    let _ = write!(
        out,
        "</div>\n<p>{}</p>\n<p><small>{}</small></p>\n</div>\n",
        words.stay, words.cookies
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(ahead: Option<u64>, wait: Option<u64>) -> Standing {
        let (wait, refresh) = (wait.map(Duration::from_secs), Duration::from_secs(15));
        Standing { ahead, wait, cookie: None, refresh }
    }

    #[test]
    fn it_says_who_is_ahead_and_for_how_long() {
        let words = words::of(&[]);
        let said = |ahead, wait| part(&standing(ahead, wait), Where::InLine, words);
        assert!(said(Some(1_234), Some(200)).contains("1234 visitors are ahead"));
        assert!(said(Some(1_234), Some(200)).contains("about 4 minutes"));
        assert!(said(Some(1), Some(70)).contains("1 visitor is"));
        assert!(said(Some(0), Some(3)).contains("less than a minute"));
        assert!(said(Some(0), None).contains("You are next"));
        assert!(said(None, None).contains("is kept"));
        let outside = part(&standing(Some(9), Some(70)), Where::Outside, words);
        assert!(outside.contains("is full") && !outside.contains("minute"), "{outside}");
    }

    #[test]
    fn it_needs_no_script_and_nothing_from_elsewhere() {
        let page = built_in(&standing(Some(5), Some(60)), Where::InLine, words::of(&[]), "");
        for word in ["<script", "src=", "href=", "@import", "url(", "http:", "<!--"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.len() < 4_000, "{} bytes", page.len());
    }

    #[test]
    fn it_loads_the_same_page_of_the_same_host_and_is_no_way_for_markup() {
        let page = |target: &str| refresh(15, target.as_bytes());
        assert_eq!(page("/a?b=1"), "<meta http-equiv=\"refresh\" content=\"15;url=/a?b=1\">");
        assert!(page("//evil.test/x").ends_with(";url=/\">"));
        assert!(page("/?a=\"><script>&b").ends_with(";url=/?a=&quot;>&lt;script>&amp;b\">"));
    }

    #[test]
    fn it_comes_back_in_time_and_not_with_all_others() {
        let of = |refresh, chance| seconds(Duration::from_secs(refresh), chance);
        let all: std::collections::BTreeSet<u64> = (0..100).map(|chance| of(15, chance)).collect();
        assert_eq!(all, (12..=15).collect());
        assert_eq!((of(1, 7), of(0, 7)), (1, 1));
    }
}
