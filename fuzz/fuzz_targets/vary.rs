//! A Vary and two requests: they select the same variant only where what it names agrees, in a loose
//! reading; and always where it is the same to the byte, whatever else the requests say.
//!
//! Three parts with `|` between them: lines of Vary, and the fields of two requests (NUL ends a line too).
#![no_main]

use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use libfuzzer_sys::fuzz_target;
use parvis::body::Body;
use parvis::exchange::{Beside, Connection, Peer, Request};
use parvis::fields::Fields;
use parvis::policy::{
    Judgement, LookupPlan, OriginHead, Plan, Policy, Vary, client, favourite_language,
};
use parvis::settings::{Networks, PolicyKind, Settings};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::new(&Settings::defaults_of(PolicyKind::Generic)).expect("valid settings")
});

static PLAN: LazyLock<LookupPlan> = LazyLock::new(|| {
    let request = Request {
        method: Method::GET,
        target: Bytes::from_static(b"/"),
        authority: Bytes::from_static(b"shop.test"),
        version: Version::HTTP_11,
        fields: Fields::new(),
        body: Body::empty(),
        connection: Connection { peer: Peer::Unix, local: None, tls: false },
        beside: Beside::default(),
    };
    let client = client::resolve(&Networks::loopback(), &request);
    match POLICY.plan(&request, &client) {
        Plan::Lookup(plan) => plan,
        other => panic!("not looked up: {other:?}"),
    }
});

fn vary(lines: &[u8]) -> Option<Vary> {
    let mut fields = Fields::from([("Cache-Control", "max-age=60")]);
    for line in lines.split(|&byte| byte == b'\n') {
        fields.push_static("Vary", Bytes::copy_from_slice(line.trim_ascii()));
    }
    let head = OriginHead { status: StatusCode::OK, fields };
    match POLICY.judge(&PLAN, &head, UNIX_EPOCH) {
        Judgement::Store(storable) => storable.vary().cloned(),
        Judgement::Uncacheable { .. } => None,
    }
}

fn fields(lines: &[u8]) -> Fields {
    let mut fields = Fields::new();
    for line in lines.split(|&byte| byte == b'\n') {
        if let Some(colon) = line.iter().position(|&byte| byte == b':') {
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            fields.push(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
        }
    }
    fields
}

fn values(fields: &Fields, name: &[u8]) -> Vec<Bytes> {
    let lines = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    lines.map(|field| field.value.clone()).collect()
}

/// What the lines say to a careless reader: the words without weights, in any order.
fn loose(values: &[Bytes]) -> Option<Vec<Vec<u8>>> {
    if values.is_empty() {
        return None;
    }
    let whole = values.join(&b","[..]).to_ascii_lowercase();
    let words = whole.split(|&byte| byte == b',').map(|element| {
        let word = element.split(|&byte| byte == b';').next().unwrap_or_default();
        word.iter().copied().filter(|byte| !b" \t".contains(byte)).collect::<Vec<u8>>()
    });
    let mut words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.sort();
    words.dedup();
    Some(words)
}

fuzz_target!(|input: &[u8]| {
    let text = input.iter().map(|&byte| if byte == 0 { b'\n' } else { byte }).collect::<Vec<_>>();
    let mut parts = text.splitn(3, |&byte| byte == b'|');
    let (Some(named), Some(one), Some(other)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    let (one, other) = (fields(one), fields(other));
    let Some(vary) = vary(named) else { return };
    let (primary, unlisted) = (&PLAN.key, "x-not-in-any-seed");
    let key = vary.key(primary, &one);
    assert_eq!(key.url(), primary.url());
    assert_ne!(&key, primary);
    let same = key == vary.key(primary, &other);
    let names: Vec<_> = vary.names().map(<[u8]>::to_vec).collect();
    let to_the_byte = names.iter().all(|name| values(&one, name) == values(&other, name));
    let loosely =
        names.iter().all(|name| loose(&values(&one, name)) == loose(&values(&other, name)));
    assert!(same || !to_the_byte, "the same request selects another variant");
    assert!(!same || loosely, "two requests that differ share a variant");
    if !names.iter().any(|name| name == unlisted.as_bytes()) {
        let mut more = one.clone();
        more.push_static(unlisted, "1");
        assert_eq!(vary.key(primary, &more), key);
    }
    if let Some(language) = favourite_language(&one) {
        let by_language = vary.key_by_language(primary, &one, &language);
        assert_ne!(by_language, Some(key), "a language is no value");
    }
});
