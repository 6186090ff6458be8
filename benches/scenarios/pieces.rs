//! The steps of a hit, one by one.

use std::hint::black_box;

use bytes::Bytes;
use http::{Method, StatusCode};
use parvis::clock::Clock;
use parvis::delivery::{RequestFacts, Stored, join, prepare, respond};
use parvis::esi::{Limits as EsiLimits, split};
use parvis::exchange::{Response, StoredHead};
use parvis::fields::Fields;
use parvis::listener::Limits;
use parvis::listener::http1::head::{Scanner, parse};
use parvis::policy::{Plan, Policy, client};
use parvis::settings::{self, Settings};
use parvis::store::{Found, Store, StoredBody};

use super::Operation;
use super::shop::{Kind, PAGE_BYTES, browser_fields, html, request, request_bytes};
use super::stored::{key, mixed_tags, own_tag, response};

/// Of a shop's settings, the defaults.
pub const ESI_LIMITS: EsiLimits =
    EsiLimits { includes_max: 32, tag_max_bytes: 8 << 10, remove_max_bytes: 64 << 10 };

/// Stored responses among which one is looked up.
const STORED: usize = 2_000;

/// Tags of a stored response.
const TAGS: usize = 10;

/// Different tags that responses share.
const SHARED_TAGS: usize = 1_000;

/// Responses that one purge reaches.
const PURGED: usize = 10;

pub fn http1_head() -> Operation {
    let bytes = Bytes::from(request_bytes(Kind::Page.target(), &[]));
    let limits = Limits::from(&settings::Listen::default());
    Box::new(move || {
        let length = Scanner::default().advance(black_box(&bytes), &limits.head);
        let length = length.expect("well-formed").expect("whole");
        black_box(parse(&bytes.slice(..length)).expect("well-formed"));
    })
}

pub fn policy_plan() -> Operation {
    plan_of(Kind::Page.target())
}

pub fn policy_plan_of_query() -> Operation {
    plan_of("/category-1.html?product_list_order=price&utm_source=mail&p=2&gclid=EAIaIQob&color=49")
}

fn plan_of(target: &str) -> Operation {
    let settings = Settings::default();
    let policy = Policy::new(&settings).expect("settings are right");
    let request = request(target);
    Box::new(move || {
        let client = client::resolve(&settings.listen.trusted, black_box(&request));
        let plan = policy.plan(&request, &client);
        assert!(matches!(black_box(plan), Plan::Lookup(_)));
    })
}

pub fn look_up() -> Operation {
    let (store, clock) = filled_store();
    let keys: Vec<_> = (0..1_024).map(key).collect();
    let mut next = 0;
    Box::new(move || {
        next = (next + 1) % keys.len();
        let found = store.lookup(black_box(&keys[next]), clock.now());
        assert!(matches!(found, Found::Fresh(_)));
    })
}

/// Stores what replaces nothing and purges it by one tag that all of it carries.
pub fn store_and_purge() -> Operation {
    let (store, _) = filled_store();
    let tag = Bytes::from_static(b"purged");
    Box::new(move || {
        for number in STORED..STORED + PURGED {
            let mut tags = mixed_tags(number, TAGS, SHARED_TAGS);
            tags.push(tag.clone());
            let stored = store.insert(store.mark(), response(number, tags));
            assert!(stored.is_ok());
        }
        let purged = store.purge_tags(std::slice::from_ref(&tag), false);
        assert_eq!(purged.responses, PURGED as u64);
    })
}

fn filled_store() -> (Store, Clock) {
    let clock = Clock::system();
    let store = Store::new(&settings::Store::default(), clock.clone());
    for number in 0..STORED {
        let _ = store.insert(store.mark(), response(number, mixed_tags(number, TAGS, SHARED_TAGS)));
    }
    store.maintain();
    assert_eq!(store.purge_tags(&[own_tag(STORED)], false).responses, 0);
    (store, clock)
}

/// A stored page.
struct Page {
    head: StoredHead,
    body: StoredBody,
}

impl Page {
    fn new(content: String) -> Self {
        let mut fields = Fields::from([
            ("Content-Type", "text/html; charset=UTF-8"),
            ("Cache-Control", "no-store, no-cache, must-revalidate, max-age=0"),
            ("ETag", "W/\"recorded\""),
        ]);
        let body = split(&Bytes::from(content), ESI_LIMITS, Some(6), 1_024).body;
        prepare(&mut fields, &body);
        Self { head: StoredHead::new(fields), body }
    }

    fn stored(&self) -> Stored<'_> {
        Stored { status: StatusCode::OK, head: &self.head, body: &self.body }
    }

    fn respond(&self, fields: &Fields, menu: Option<&Self>) -> Response {
        let request = RequestFacts { method: &Method::GET, fields, ranges_max: 16 };
        let menu = menu.map(|menu| join(&menu.body, []));
        let respond =
            respond(black_box(self.stored()), request, menu, |piece| piece.inflate().ok());
        respond.expect("the page is whole")
    }
}

pub fn deliver_gzip() -> Operation {
    deliver(&[("Accept-Encoding", "gzip, deflate")], StatusCode::OK)
}

pub fn deliver_not_modified() -> Operation {
    deliver(&[("If-None-Match", "W/\"recorded\"")], StatusCode::NOT_MODIFIED)
}

/// To a client without gzip the page goes as it was, inflated on the way.
pub fn deliver_identity() -> Operation {
    deliver(&[("Accept-Encoding", "identity")], StatusCode::OK)
}

fn deliver(more: &[(&str, &str)], status: StatusCode) -> Operation {
    let page = Page::new(html(PAGE_BYTES, false));
    let fields = browser_fields(more);
    Box::new(move || {
        let response = page.respond(&fields, None);
        assert_eq!(response.status, status);
        black_box(response);
    })
}

pub fn join_esi() -> Operation {
    let (page, menu) = (Page::new(html(PAGE_BYTES, true)), Page::new(html(5_232, false)));
    let fields = browser_fields(&[("Accept-Encoding", "gzip, deflate")]);
    Box::new(move || {
        black_box(page.respond(&fields, Some(&menu)));
    })
}
