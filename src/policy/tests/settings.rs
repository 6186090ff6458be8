//! Settings that cannot be compiled.

use std::time::Duration;

use super::strings;
use crate::policy::{Policy, PolicyError};
use crate::settings::{Settings, Site, TtlRule};

fn errors(change: impl FnOnce(&mut Site)) -> Vec<PolicyError> {
    let mut settings = Settings::default();
    change(&mut settings.site);
    Policy::new(&settings).expect_err("wrong settings")
}

#[test]
fn all_that_is_wrong_is_said_at_once_with_name_value_and_what_is_allowed() {
    let found = errors(|site| {
        site.hosts = strings(&["a:80"]);
        site.bypass_paths = strings(&["sales"]);
        site.strip_parameters = strings(&["*"]);
        site.design_exceptions = strings(&["("]);
        site.key_cookies = strings(&["a b"]);
        site.bypass_cookies = strings(&[""]);
        site.ttl = vec![TtlRule { path: "blog".to_owned(), status: None, ttl: Duration::ZERO }];
    });
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(text.len(), 7, "{text:?}");
    for setting in [
        "hosts",
        "bypass_paths",
        "strip_parameters",
        "design_exceptions",
        "key_cookies",
        "bypass_cookies",
        "ttl.path",
    ] {
        assert!(text.iter().any(|text| text.starts_with(&format!("site.{setting}:"))), "{setting}");
    }
    assert!(text[0].contains("\"a:80\"") && text[0].contains("allowed:"));
}

#[test]
fn a_header_on_which_the_cache_itself_acts_can_be_neither_keyed_nor_forwarded() {
    for name in [
        "Host",
        "connection",
        "Transfer-Encoding",
        "Content-Length",
        "Range",
        "If-None-Match",
        "Accept-Encoding",
        "Cache-Control",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Original-URL",
        "Proxy",
        "X_Under",
        "a b",
    ] {
        assert!(!errors(|site| site.key_headers = strings(&[name])).is_empty(), "{name}");
        assert!(!errors(|site| site.forward_headers = strings(&[name])).is_empty(), "{name}");
    }
}

#[test]
fn no_rule_gives_a_failure_or_a_part_a_lifetime() {
    for status in [100, 206, 304, 500, 503] {
        let ttl = Duration::from_secs(60);
        let rule = TtlRule { path: String::new(), status: Some(status), ttl };
        assert_eq!(errors(|site| site.ttl = vec![rule]).len(), 1, "{status}");
    }
}
