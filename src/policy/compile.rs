//! Settings -> compiled rules, with all that is wrong in them.

use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use crate::policy::path::Run;
use crate::policy::{PolicyError, origin_fields};
use crate::settings;

/// Bytes that one compiled design exception may take.
const DESIGN_EXCEPTION_MAX_BYTES: usize = 1 << 20;

/// One of `[[site.ttl]]`, compiled.
#[derive(Clone, Debug)]
pub(super) struct Lifetime {
    /// `None`: every path.
    pub(super) path: Option<Run>,
    pub(super) status: u16,
    pub(super) value: Duration,
}

pub(super) fn bypass_paths(
    site: &settings::Site,
    magento: bool,
    errors: &mut Vec<PolicyError>,
) -> Vec<Run> {
    let own: &[&str] =
        if magento && !site.bypass_paths_as_vcl { &["/customer", "/checkout"] } else { &[] };
    let mut runs: Vec<Run> = own.iter().filter_map(|path| Run::new(path)).collect();
    for path in &site.bypass_paths {
        match Run::new(path) {
            Some(run) => runs.push(run),
            None => errors.push(PolicyError::Invalid {
                setting: "site.bypass_paths",
                value: path.clone(),
                allowed: "a path of whole segments, as in /sales/guest",
            }),
        }
    }
    runs
}

pub(super) fn design_exceptions(patterns: &[String], errors: &mut Vec<PolicyError>) -> Vec<Regex> {
    let mut compiled = Vec::with_capacity(patterns.len());
    for pattern in patterns {
        let regex = RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(DESIGN_EXCEPTION_MAX_BYTES)
            .dfa_size_limit(DESIGN_EXCEPTION_MAX_BYTES)
            .build();
        match regex {
            Ok(regex) => compiled.push(regex),
            Err(error) => errors.push(PolicyError::Regex {
                setting: "site.design_exceptions",
                value: pattern.clone(),
                reason: error.to_string(),
            }),
        }
    }
    compiled
}

pub(super) fn lifetimes(
    rules: &[settings::TtlRule],
    errors: &mut Vec<PolicyError>,
) -> Vec<Lifetime> {
    let mut compiled = Vec::with_capacity(rules.len());
    for rule in rules {
        let path = Run::new(&rule.path);
        if path.is_none() && !rule.path.is_empty() && rule.path != "/" {
            errors.push(PolicyError::Invalid {
                setting: "site.ttl.path",
                value: rule.path.clone(),
                allowed: "a path of whole segments, as in /blog; empty for every path",
            });
        }
        let status = rule.status.unwrap_or(200);
        // Partial and not-modified answers are no whole response, and a server's failure must not
        // outlive its cause.
        if !(200..500).contains(&status) || matches!(status, 206 | 304) {
            errors.push(PolicyError::Invalid {
                setting: "site.ttl.status",
                value: status.to_string(),
                allowed: "200 to 499 without 206 and 304",
            });
        }
        compiled.push(Lifetime { path, status, value: rule.ttl });
    }
    compiled
}

pub(super) fn check_headers(
    setting: &'static str,
    names: &[String],
    errors: &mut Vec<PolicyError>,
) {
    check_names(setting, names, errors);
    for name in names.iter().filter(|name| !origin_fields::is_configurable(name)) {
        errors.push(PolicyError::Invalid {
            setting,
            value: name.clone(),
            allowed: "a header without _ which is not one of the connection (Host, Connection, \
                      Transfer-Encoding...), a condition (If-*, Range, Cache-Control, \
                      Accept-Encoding...) or a forwarding header",
        });
    }
}

/// Names of headers and cookies are tokens (RFC 9110 5.6.2).
pub(super) fn check_names(setting: &'static str, names: &[String], errors: &mut Vec<PolicyError>) {
    for name in names {
        let token = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if name.is_empty() || !token {
            errors.push(PolicyError::Invalid {
                setting,
                value: name.clone(),
                allowed: "a name without spaces and separators",
            });
        }
    }
}
