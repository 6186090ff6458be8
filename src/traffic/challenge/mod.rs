//! Proof of work: a page whose script solves a small puzzle before the shop works for a browser.
//!
//! Nothing is kept here of who was given a puzzle or has solved it. The puzzle is a signed token (network of the client, time,
//! difficulty), and the browser brings back `PUZZLE.NONCE` in a cookie, on any node that has the secret; to check it takes
//! an HMAC and a SHA-256. Work has its price for machines alone in great numbers: it keeps out those that run no
//! script, and makes those that do pay for each network they come from. It says nothing about who is a human.

mod page;
mod puzzle;
mod words;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};

use crate::body::Body;
use crate::error_pages::{self, ErrorPages, Facts, Template};
use crate::exchange::{Request, Response};
use crate::fields::Fields;
use crate::policy;
use crate::reason::Reason;
use crate::settings;
use crate::tokens::{Purpose, Signer};
use page::Page;
use puzzle::{Demand, Network, Pass, Prefixes, Puzzle};

/// The cookie with the passes of a browser, the newest first.
pub const COOKIE: &str = "parvis_pass";

/// Passes of one browser that are looked at: one for each network that it goes to and fro between, such as Wi-Fi and mobile, each
/// with IPv4 and IPv6. The page keeps as many.
const PASSES_MAX: usize = 4;

/// Between passes: a letter that a cookie may have, and a pass has not.
const BETWEEN: u8 = b'~';

/// How far the clock of another node may be ahead.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// The status of the page. 403 is as common in the field, but takes a page out of an index where a crawler gets it that
/// nobody has verified yet; 429 says that it is a matter of how much is asked.
const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;

/// Gives puzzles, and knows who has solved one.
pub struct Challenge {
    settings: settings::Challenge,
    signer: Arc<Signer>,
    pages: Arc<ErrorPages>,
    page: Page,
    /// In the form in which cookies are looked for.
    cookies: [String; 1],
}

impl Challenge {
    /// With the signer of the fleet and the shop's own pages.
    pub fn new(
        settings: &settings::Challenge,
        signer: Arc<Signer>,
        pages: Arc<ErrorPages>,
    ) -> Self {
        Self {
            page: Page::new(&settings.contact),
            settings: settings.clone(),
            signer,
            pages,
            cookies: [COOKIE.to_owned()],
        }
    }

    /// Has this browser solved a puzzle that counts for this address at this time? Whatever is wrong with what it brings counts as
    /// nothing. Without the cookie this costs a look at the names of the fields.
    pub fn passed(&self, fields: &Fields, address: IpAddr, unix_seconds: u64) -> bool {
        let Some(cookie) = policy::session_of(fields, &self.cookies) else { return false };
        let demand = self.demand(address, unix_seconds);
        let texts = cookie.split(|byte| *byte == BETWEEN).take(PASSES_MAX);
        texts.filter_map(Pass::parse).any(|pass| {
            pass.meets(&demand) && self.signer.open(Purpose::Challenge, pass.puzzle).is_some()
        })
    }

    /// Could a page that runs a script be the answer? A visitor goes to a page, and no script, style or image asks. Browsers say so
    /// (Fetch Metadata) but for older ones and over plain http, where `Accept` tells.
    pub fn can_show(request: &Request) -> bool {
        let fields = &request.fields;
        let has = |name, words: &[&[u8]]| match fields.first(name) {
            Some(value) => words.iter().any(|word| value.eq_ignore_ascii_case(word)),
            None => true,
        };
        matches!(request.method, Method::GET | Method::HEAD | Method::POST)
            && has("Sec-Fetch-Mode", &[b"navigate"])
            && has("Sec-Fetch-Dest", &[b"document", b"iframe", b"frame"])
            && error_pages::takes_html(fields)
            && !error_pages::takes_json(fields)
    }

    /// The answer to a request that is challenged: the page with a puzzle for this address, or for who cannot show it why there is none, as
    /// JSON where a script asks.
    pub fn page(&self, request: &Request, address: IpAddr, unix_seconds: u64) -> Response {
        let mut response = if Self::can_show(request) {
            self.puzzle_page(request, address, unix_seconds)
        } else if error_pages::takes_json(&request.fields) {
            let facts = Facts {
                status: STATUS,
                reason: Some(Reason::Challenge),
                retry_after_seconds: None,
            };
            let page = error_pages::json(facts);
            let mut response = Response::new(STATUS, Body::from(page.content));
            response.fields.push_static("Content-Type", page.content_type);
            response
        } else {
            Response::text(STATUS, "429 A browser has to solve a challenge first\n")
        };
        response.fields.push_static("Cache-Control", "no-store");
        response
    }

    fn puzzle_page(&self, request: &Request, address: IpAddr, unix_seconds: u64) -> Response {
        let difficulty = self.settings.difficulty;
        let puzzle = Puzzle {
            difficulty,
            unix_seconds: u32::try_from(unix_seconds).unwrap_or(u32::MAX),
            network: self.network(address),
        };
        let languages = error_pages::languages(&request.fields);
        let facts = page::Facts {
            puzzle: &self.signer.sign(Purpose::Challenge, &puzzle.payload()),
            difficulty,
            valid_seconds: self.settings.valid.as_secs(),
            is_form: request.method == Method::POST,
            words: words::of(&languages),
        };
        let host = request.authority.split(|byte| *byte == b':').next().unwrap_or_default();
        let own = self.pages.template(Template::Challenge, host, &languages);
        let is_own = own.is_some();
        let (content, policy) = match own {
            Some((before, after)) => self.page.own(before, after, &facts),
            None => self.page.built_in(&facts),
        };
        let mut response = Response::new(STATUS, Body::from(Bytes::from(content)));
        let fields = &mut response.fields;
        fields.push_static("Content-Type", "text/html; charset=utf-8");
        if !is_own {
            fields.push_static("Content-Language", facts.words.language);
        }
        fields.push_static("Content-Security-Policy", policy);
        response
    }

    fn demand(&self, address: IpAddr, unix_seconds: u64) -> Demand {
        Demand {
            difficulty: self.settings.difficulty,
            network: self.network(address),
            since_unix_seconds: unix_seconds.saturating_sub(self.settings.valid.as_secs()),
            until_unix_seconds: unix_seconds.saturating_add(CLOCK_SKEW_SECONDS),
        }
    }

    fn network(&self, address: IpAddr) -> Network {
        let prefixes =
            Prefixes { ipv4: self.settings.ipv4_prefix, ipv6: self.settings.ipv6_prefix };
        Network::of(address, prefixes)
    }
}

#[cfg(test)]
mod tests;
