//! The recorded traffic of a store: what Varnish with Magento's VCL made of each request, and what
//! these rules make of it.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

use super::request;
use crate::body::Body;
use crate::exchange::Request;
use crate::fields::Fields;
use crate::policy::{Delivery, Judgement, OriginHead, Plan, Policy, PurgeScope, client, freshness};
use crate::reason::Reason;
use crate::settings::{Networks, Settings};

/// Where these rules differ from Varnish, each with its reason.
const DIFFERENCES: [(&str, &str, &str); 3] = [
    (
        "100-bogus-vary-cookie",
        "uncacheable: magento-vary",
        "the response deletes the cookie: it is the guest's page and not that of the bogus value",
    ),
    (
        "104-setup-404",
        "uncacheable: no-lifetime",
        "a response that says nothing about its lifetime is not stored; Varnish gives it 120 s",
    ),
    (
        "86-rest-product-admin",
        "pass: authorization",
        "a shared cache passes Authorization (RFC 9111 3.5)",
    ),
];

fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/corpus/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the corpus");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn fields(message: &Value) -> Fields {
    let mut fields = Fields::new();
    for line in message["headers"].as_array().expect("headers") {
        let text = |at: usize| Bytes::from(line[at].as_str().expect("a string").to_owned());
        fields.push(text(0), text(1));
    }
    fields
}

fn recorded_request(exchange: &Value) -> Request {
    let recorded = &exchange["request"];
    let text = |name: &str| recorded[name].as_str().expect("a string");
    let mut request = request(text("method"), text("target"), fields(recorded));
    if let Some(length) = request.fields.first_str("content-length") {
        request.body = Body::from(Bytes::from(vec![b'x'; length.parse().expect("a length")]));
    }
    request
}

fn recorded_head(exchange: &Value) -> OriginHead {
    let status = exchange["response"]["status"].as_u64().expect("a status");
    OriginHead {
        status: StatusCode::from_u16(u16::try_from(status).expect("a status")).expect("a status"),
        fields: fields(&exchange["response"]),
    }
}

fn policy() -> Policy {
    Policy::new(&Settings::default()).expect("the defaults")
}

/// Our verdict, as the table of differences writes it.
fn verdict(policy: &Policy, exchange: &Value) -> String {
    let request = recorded_request(exchange);
    let client = client::resolve(&Networks::loopback(), &request);
    match policy.plan(&request, &client) {
        Plan::Pass(reason) => format!("pass: {}", reason.as_str()),
        Plan::Lookup(plan) => {
            assert!(!plan.force, "a stranger forces nothing");
            let head = recorded_head(exchange);
            let now = freshness::generated_at(&head.fields, UNIX_EPOCH);
            match policy.judge(&plan, &head, now) {
                Judgement::Store(_) => "store".to_owned(),
                Judgement::Uncacheable { reason, .. } => {
                    format!("uncacheable: {}", reason.as_str())
                }
            }
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn each_recorded_request_gets_varnishs_verdict_or_stands_in_the_table_of_differences() {
    let policy = policy();
    let mut different = Vec::new();
    for exchange in lines("http.jsonl") {
        let name = exchange["name"].as_str().expect("a name").to_owned();
        let ours = verdict(&policy, &exchange);
        for sent in ["first", "second"] {
            let theirs = exchange["varnish"][sent].as_str().expect("a verdict");
            let expected = match theirs {
                "hit" | "miss" => "store",
                "miss-uncacheable" => "uncacheable",
                "pass-uncacheable" => "pass",
                other => panic!("an unknown verdict: {other}"),
            };
            if ours.split(':').next() != Some(expected) {
                different.push((name.clone(), ours.clone()));
            }
        }
    }
    different.dedup();
    let expected: Vec<_> = DIFFERENCES
        .iter()
        .map(|(name, ours, _)| ((*name).to_owned(), (*ours).to_owned()))
        .collect();
    assert_eq!(different, expected);
}

#[test]
fn in_other_states_of_the_store_no_error_is_stored_and_no_page_that_magento_holds_back() {
    let policy = policy();
    for exchange in lines("http-states.jsonl") {
        let name = exchange["name"].as_str().expect("a name");
        let ours = verdict(&policy, &exchange);
        let expected = match name {
            "01-warm" | "11-fpc-disabled-esi" | "25-session-redis-down-home" => "store",
            name if name.contains("developer-mode") => "store",
            name if name.contains("health") => "pass: health-check",
            name if name.contains("maintenance") || name.contains("down") => "uncacheable: status",
            _ => "uncacheable: no-store",
        };
        assert_eq!(ours, expected, "{name}");
    }
}

#[test]
fn what_is_stored_has_magentos_lifetime_and_tags() {
    let policy = policy();
    let exchanges = lines("http.jsonl");
    let category = exchanges.iter().find(|one| one["name"] == "07-category").expect("recorded");
    let request = recorded_request(category);
    let client = client::resolve(&Networks::loopback(), &request);
    let Plan::Lookup(plan) = policy.plan(&request, &client) else { panic!("looked up") };
    let head = recorded_head(category);
    let Judgement::Store(storable) = policy.judge(&plan, &head, UNIX_EPOCH) else {
        panic!("stored")
    };
    assert_eq!(storable.ttl(), Duration::from_hours(24));
    assert_eq!(storable.tags()[..3], ["store", "cms_b", "cat_c_3"]);
    assert!(!storable.debug() && storable.vary().is_none());
}

/// The VCL sends its one Cache-Control with everything but static files and `private`. Here an
/// answer that already forbids to reuse it keeps its own words; nothing else differs.
#[test]
fn the_client_gets_varnishs_cache_control_or_the_origins_own_where_that_forbids_as_well() {
    let policy = policy();
    for exchange in lines("http.jsonl") {
        let name = exchange["name"].as_str().expect("a name");
        let head = recorded_head(&exchange);
        let delivery = match verdict(&policy, &exchange).as_str() {
            "store" => Delivery::Stored,
            "pass: static-file" => Delivery::of_pass(Reason::StaticFile),
            _ => Delivery::Uncached,
        };
        let delivered = policy.delivered(delivery, head.fields.clone());
        let joined = |fields: &Fields| -> String {
            let lines: Vec<_> = fields
                .all("cache-control")
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            lines.join(", ")
        };
        let ours = joined(&delivered);
        let theirs = exchange["varnish"]["cache_control_to_client"].as_str().expect("a value");
        let own = joined(&head.fields);
        let forbidding = own.contains("no-store") && ours == own;
        // Varnish answered a range of a static file with the field left out of the recording.
        let unrecorded = name == "38-static-css-range";
        assert!(ours == theirs || forbidding || unrecorded, "{name}: {ours} against {theirs}");
        for gone in ["x-magento-tags", "x-powered-by", "server", "x-magento-debug"] {
            assert!(!delivered.contains(gone), "{name}: {gone}");
        }
        let cookies = |fields: &Fields| fields.all("set-cookie").count();
        let expected = if delivery == Delivery::Stored { 0 } else { cookies(&head.fields) };
        assert_eq!(cookies(&delivered), expected, "{name}");
    }
}

#[test]
fn each_recorded_purge_is_exact_tags_or_everything() {
    let policy = policy();
    let mut everything = 0;
    for purge in lines("purges.jsonl") {
        let raw = purge["raw"].as_str().expect("a request");
        let mut head = Fields::new();
        for line in raw.lines().skip(1).take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a header");
            head.push(Bytes::from(name.to_owned()), Bytes::from(value.to_owned()));
        }
        let request = request("PURGE", "/", head);
        let client = client::resolve(&Networks::loopback(), &request);
        assert_eq!(policy.plan(&request, &client), Plan::Purge);
        let asked = policy.purge_request(&request).expect("a purge");
        assert!(!asked.soft);
        match &asked.scopes[..] {
            [PurgeScope::All] => everything += 1,
            [PurgeScope::Tags(tags)] => {
                // Nothing is lost: the wrapper around each tag gives the pattern again.
                let wrapped: Vec<String> = tags
                    .iter()
                    .map(|tag| format!("((^|,){}(,|$))", String::from_utf8_lossy(tag)))
                    .collect();
                let pattern = request.fields.first_str("x-magento-tags-pattern");
                assert_eq!(Some(&*wrapped.join("|")), pattern);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(everything > 0);
}
