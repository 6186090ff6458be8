//! A module uses only modules of lower levels, never sideways; the table is that of `src/lib.rs`.

use super::sources;

const LEVELS: &[&[&str]] = &[
    &["settings", "clock", "body", "fields", "exchange", "reason", "random", "unix_stream"],
    &["policy", "snapshot", "resp", "tokens"],
    &["store", "observe", "redis_pool", "keyspace", "admission", "error_pages"],
    &[
        "fill",
        "fleet",
        "origin",
        "esi",
        "delivery",
        "sessions",
        "objects",
        "traffic",
        "waiting_room",
    ],
    &["pipeline"],
    &["listener", "control", "lifecycle", "keeper"],
    &["app", "cli", "demo", "main"],
];

/// Level 0 is one floor of primitives which may stand on each other, in this order.
const GROUND: &[&str] =
    &["unix_stream", "clock", "random", "fields", "reason", "body", "settings", "exchange"];

fn level(module: &str) -> Option<usize> {
    LEVELS.iter().position(|modules| modules.contains(&module))
}

fn may_use(module: &str, other: &str) -> bool {
    match (level(module), level(other)) {
        (Some(0), Some(0)) => {
            let place = |name| GROUND.iter().position(|module| *module == name);
            place(other) < place(module)
        }
        // The top floor wires everything, and its parts call each other.
        (Some(6), Some(_)) => true,
        (Some(own), Some(its)) => its < own,
        _ => false,
    }
}

/// The modules that a line of code names after `crate::`.
fn named(line: &str) -> Vec<String> {
    const ROOT: &str = "crate::";
    let mut found = Vec::new();
    for (at, _) in line.match_indices(ROOT) {
        let rest = &line[at + ROOT.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let group = group.split('}').next().unwrap_or_default();
            found.extend(group.split(',').map(|part| first_name(part.trim())));
        } else {
            found.push(first_name(rest));
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn a_module_uses_only_modules_of_lower_levels() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let user = source.module();
        if user == "lib" {
            continue;
        }
        assert!(
            level(&user).is_some(),
            "{user} has no level: add it to src/lib.rs and to this test"
        );
        for (number, line) in source.code_lines() {
            for used in named(line) {
                if used != user && !may_use(&user, &used) {
                    wrong.push(format!("{}:{number}: {user} uses {used}", source.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rule_would_notice_a_breach() {
    assert!(may_use("pipeline", "store"));
    assert!(!may_use("store", "pipeline"));
    assert!(!may_use("origin", "fill"), "sideways");
    assert_eq!(named("use crate::{esi, store::Entry};"), ["esi", "store"]);
    assert_eq!(named("let x = crate::policy::CacheKey::new();"), ["policy"]);
}
