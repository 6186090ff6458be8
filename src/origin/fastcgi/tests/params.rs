use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;

use super::*;
use crate::body::Spooled;
use crate::exchange::Scheme;
use crate::fields::Fields;
use crate::origin::OriginRequest;
use crate::origin::fastcgi::Script;
use crate::origin::fastcgi::params::ParamRules;
use crate::origin::fastcgi::record::{write_params, write_stdin, write_stdin_end};
use crate::origin::testing::{request, settings};

fn sent(request: &OriginRequest, script: &Script) -> Vec<(String, String)> {
    sent_with(&settings(), request, script)
}

fn sent_with(
    settings: &crate::settings::Settings,
    request: &OriginRequest,
    script: &Script,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    write_params(&mut out, &ParamRules::new(settings).build(request, script));
    sent_params(&out)
}

fn value<'a>(params: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = params.iter().filter(|(known, _)| known == name).map(|(_, value)| &value[..]);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} is sent once");
    value
}

fn with_fields<const N: usize>(fields: [(&'static str, &str); N]) -> Vec<(String, String)> {
    let request = OriginRequest { fields: Fields::from(fields), ..request(Method::GET, "/") };
    sent(&request, &Script::default())
}

/// What differs from nginx: its own name, and a field of the client's hop, which ends here.
const DIFFERENT: [&str; 2] = ["SERVER_SOFTWARE", "HTTP_CONNECTION"];

#[test]
fn the_parameters_are_those_nginx_sends_in_its_order() {
    let recorded: Vec<serde_json::Value> =
        serde_json::from_slice(&corpus("params.json")).expect("JSON");
    assert_eq!(recorded.len(), 20);
    // nginx sends the name that its server block has, we the host, unless configuration says so.
    let mut settings = settings();
    let server_name = BTreeMap::from([("SERVER_NAME".to_owned(), "shop.test".to_owned())]);
    settings.origin.params = BTreeMap::from([("*".to_owned(), server_name)]);
    for case in &recorded {
        let pairs: Vec<(String, String)> =
            serde_json::from_value(case["params"].clone()).expect("pairs");
        let (request, script) = rebuild(&pairs);
        let mut ours = sent_with(&settings, &request, &script);
        let mut theirs = pairs;
        for params in [&mut ours, &mut theirs] {
            params.retain(|(name, _)| !DIFFERENT.contains(&&name[..]));
        }
        assert_eq!(ours, theirs, "{}", case["name"]);
    }
}

/// The request that nginx made the recorded parameters from.
fn rebuild(pairs: &[(String, String)]) -> (OriginRequest, Script) {
    let get = |name| value(pairs, name).unwrap_or_default().to_owned();
    let method = Method::from_bytes(get("REQUEST_METHOD").as_bytes()).expect("a method");
    let mut request = request(method, &get("REQUEST_URI"));
    request.authority = get("HTTP_HOST").into();
    request.client.address = get("REMOTE_ADDR").parse().expect("an address");
    request.client.port = get("REMOTE_PORT").parse().expect("a port");
    request.client.server_port = get("SERVER_PORT").parse().expect("a port");
    let fields = pairs.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("HTTP_")?.replace('_', "-");
        Some(crate::fields::Field { name: name.into(), value: value.clone().into() })
    });
    request.fields = fields.collect();
    let length = get("CONTENT_LENGTH").parse().unwrap_or(0);
    request.body = Spooled::from(Bytes::from(vec![b'x'; length]));
    let script = Script {
        filename: get("SCRIPT_FILENAME"),
        name: get("SCRIPT_NAME"),
        path_info: String::new(),
        document_root: get("DOCUMENT_ROOT"),
        params: pairs.iter().filter(|(name, _)| name.starts_with("PHP_")).cloned().collect(),
    };
    (request, script)
}

#[test]
fn behind_https_php_gets_https_on_and_port_443() {
    let plain = sent(&request(Method::GET, "/"), &Script::default());
    assert_eq!(value(&plain, "HTTPS"), None);
    let mut request = request(Method::GET, "/");
    request.client.scheme = Scheme::Https;
    request.client.server_port = 443;
    let params = sent(&request, &Script::default());
    assert_eq!(value(&params, "HTTPS"), Some("on"));
    assert_eq!(value(&params, "SERVER_PORT"), Some("443"));
    assert_eq!(value(&params, "REQUEST_SCHEME"), Some("https"));
    assert_eq!(value(&params, "REMOTE_ADDR"), Some("192.0.2.7"));
}

#[test]
fn repeated_headers_are_merged_cookie_with_semicolons_and_others_with_commas() {
    let params = with_fields([
        ("Cookie", "a=1"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("cookie", "b=2"),
        ("x-forwarded-for", "192.0.2.2"),
    ]);
    assert_eq!(value(&params, "HTTP_COOKIE"), Some("a=1; b=2"));
    assert_eq!(value(&params, "HTTP_X_FORWARDED_FOR"), Some("192.0.2.1, 192.0.2.2"));
}

#[test]
fn if_modified_since_and_if_unmodified_since_are_kept_on_passes() {
    let date = "Sun, 22 Nov 2026 20:20:09 GMT";
    let params = with_fields([("If-Modified-Since", date), ("If-Unmodified-Since", date)]);
    assert_eq!(value(&params, "HTTP_IF_MODIFIED_SINCE"), Some(date));
    assert_eq!(value(&params, "HTTP_IF_UNMODIFIED_SINCE"), Some(date));
}

#[test]
fn a_configured_parameter_beats_a_clients_header() {
    let mut settings = settings();
    let table = |pairs: [(&str, &str); 2]| {
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        BTreeMap::from(pairs)
    };
    settings.origin.params = BTreeMap::from([
        ("*".to_owned(), table([("MAGE_RUN_CODE", "base"), ("HTTP_X_MODE", "all")])),
        ("Shop.Test".to_owned(), table([("MAGE_RUN_CODE", "shop"), ("SERVER_NAME", "other")])),
    ]);
    let mut request = request(Method::GET, "/");
    request.authority = "SHOP.test:8080".into();
    request.fields = Fields::from([("X-Mode", "evil"), ("x-mode", "twice"), ("X-Y", "1")]);
    let params = sent_with(&settings, &request, &Script::default());
    assert_eq!(value(&params, "MAGE_RUN_CODE"), Some("shop"), "the host's own first");
    assert_eq!(value(&params, "HTTP_X_MODE"), Some("all"));
    assert_eq!(value(&params, "SERVER_NAME"), Some("other"));
    assert_eq!(value(&params, "HTTP_X_Y"), Some("1"));
    request.authority = "elsewhere.test".into();
    let params = sent_with(&settings, &request, &Script::default());
    assert_eq!(value(&params, "MAGE_RUN_CODE"), Some("base"));
}

#[test]
fn no_header_becomes_http_proxy_or_overwrites_another_variable() {
    let params = with_fields([
        ("Proxy", "http://evil.test/"),
        ("X_Forwarded_For", "203.0.113.9"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X.Forwarded.For", "203.0.113.9"),
        ("Transfer-Encoding", "chunked"),
        ("Script-Filename", "/etc/passwd"),
    ]);
    assert_eq!(value(&params, "HTTP_PROXY"), None);
    assert_eq!(value(&params, "HTTP_X_FORWARDED_FOR"), Some("192.0.2.7"));
    assert_eq!(value(&params, "HTTP_TRANSFER_ENCODING"), None);
    assert_eq!(value(&params, "SCRIPT_FILENAME"), Some(""));
    assert_eq!(value(&params, "HTTP_SCRIPT_FILENAME"), Some("/etc/passwd"));
}

#[test]
fn the_length_is_that_of_what_was_taken_in() {
    let mut chunked = request(Method::PUT, "/");
    chunked.body = Spooled::from(Bytes::from("abc"));
    let params = sent(&chunked, &Script::default());
    assert_eq!(value(&params, "CONTENT_LENGTH"), Some("3"));
    assert_eq!(value(&params, "HTTP_CONTENT_LENGTH"), Some("3"));
    chunked.fields = Fields::from([("Content-Length", "99"), ("Content-Length", "98")]);
    let params = sent(&chunked, &Script::default());
    assert_eq!(value(&params, "HTTP_CONTENT_LENGTH"), Some("3"));
}

#[test]
fn path_info_is_sent_where_there_is_some() {
    let script = Script {
        name: "/errors/report.php".to_owned(),
        path_info: "/x".to_owned(),
        ..Script::default()
    };
    let params = sent(&request(Method::GET, "/errors/report.php/x"), &script);
    assert_eq!(value(&params, "PATH_INFO"), Some("/x"));
    assert_eq!(value(&params, "DOCUMENT_URI"), Some("/errors/report.php/x"));
}

#[test]
fn a_pair_is_never_spread_over_two_records() {
    let pairs: Vec<_> = (0..40).map(|at| (vec![b'n', at], vec![b'v'; 4_000])).collect();
    let mut out = Vec::new();
    write_params(&mut out, &pairs);
    let sizes: Vec<usize> = records(&out).iter().map(|(_, content)| content.len()).collect();
    assert_eq!(sizes.last(), Some(&0));
    assert!(sizes.len() > 3 && sizes.iter().all(|size| *size <= 65_535));
    assert_eq!(sent_params(&out).len(), 40);
}

#[test]
fn content_goes_out_in_records_of_at_most_65535_bytes_and_one_empty_one() {
    let content: Vec<u8> = (0..200_001_u32).map(|at| at as u8).collect();
    let mut out = Vec::new();
    write_stdin(&mut out, &content);
    write_stdin(&mut out, b"");
    write_stdin_end(&mut out);
    assert_eq!(out.len() % 8, 0, "padded to multiples of eight");
    let (sent, sizes) = stdin(&out);
    assert_eq!(sent, content);
    assert!(sizes.iter().all(|size| *size <= 65_535));
    assert_eq!(sizes.iter().filter(|size| **size == 0).count(), 1);
}
