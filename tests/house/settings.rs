//! `config/parvis.toml` is the reference of all settings: it must say what the code does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use parvis::settings::{Problem, Settings};

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/parvis.toml")
}

const TEXT: &str = include_str!("../../config/parvis.toml");

/// One line of TOML that sets something, by itself or in a comment.
struct Setting<'a> {
    section: String,
    key: &'a str,
    /// The line without its comment sign.
    toml: &'a str,
    is_example: bool,
}

/// The settings and examples of the reference; a commented line is an example if it reads
/// `# key = ...` or `# Example: key = ...`, and a commented header counts for the comments
/// below it.
fn settings(text: &str) -> Vec<Setting<'_>> {
    let is_key = |key: &str| {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut section = "";
    let mut commented_section = "";
    let mut settings = Vec::new();
    for line in text.lines() {
        let (toml, is_example) = match line.strip_prefix("# ") {
            Some(comment) => (comment.strip_prefix("Example: ").unwrap_or(comment), true),
            None => (line, false),
        };
        if toml.starts_with('[') && toml.ends_with(']') {
            let header = if is_example { &mut commented_section } else { &mut section };
            *header = toml;
        } else if !line.starts_with('#') {
            commented_section = "";
        }
        let Some((key, _)) = toml.split_once(" = ").filter(|(key, _)| is_key(key)) else {
            continue;
        };
        let is_table = is_example && !commented_section.is_empty();
        let section = if is_table { commented_section } else { section }.to_owned();
        settings.push(Setting { section, key, toml, is_example });
    }
    settings
}

#[test]
fn the_reference_equals_the_defaults_in_code() {
    let loaded =
        Settings::load(Some(&reference()), []).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded, Settings::default());
}

/// Settings that have no value, or one that depends on others, unless they are given one.
const UNSET: [&str; 14] = [
    "encoding.brotli",
    "encoding.gzip",
    "fleet.listen",
    "health.probe",
    "origin.fastcgi",
    "origin.http",
    "origin.keep_alive",
    "origin.params",
    "origin.status_listen",
    "redis.url",
    "sessions.url",
    "site.ttl",
    "tls.certificate",
    "tls.key",
];

#[test]
fn the_reference_shows_every_setting() {
    let mut shown = BTreeSet::new();
    for setting in settings(TEXT) {
        let section = setting.section.trim_matches(['[', ']']);
        // [[site.ttl]] and [origin.params."HOST"] are settings as a whole.
        let is_table = section.contains('.');
        let path = section.split(".\"").next().unwrap_or_default();
        let key = if is_table { path.to_owned() } else { format!("{path}.{}", setting.key) };
        // An example shows a setting only where there is no default to show.
        if !setting.is_example || UNSET.contains(&key.as_str()) {
            shown.insert(key);
        }
    }
    let known: BTreeSet<String> = Settings::keys().into_iter().map(str::to_owned).collect();
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "not in config/parvis.toml: {missing:?}");
    let unknown: Vec<_> = shown.difference(&known).collect();
    assert!(unknown.is_empty(), "in config/parvis.toml, but no settings: {unknown:?}");
}

#[test]
fn each_example_of_the_reference_is_accepted() {
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    let examples: Vec<_> =
        settings(TEXT).into_iter().filter(|setting| setting.is_example).collect();
    assert!(examples.len() > 20, "the examples are found");
    for example in examples {
        let ttl =
            if example.section == "[[site.ttl]]" && example.key != "ttl" { "ttl = 0" } else { "" };
        let toml = format!("{}\n{}\n{ttl}\n", example.section, example.toml);
        std::fs::write(&path, &toml).expect("writes");
        let Err(mistakes) = Settings::load(Some(&path), []) else { continue };
        // An example by itself may lack another setting that it needs.
        for mistake in &mistakes {
            assert!(matches!(mistake.problem, Problem::Conflict(_)), "{toml}{mistake}");
        }
    }
}

#[test]
fn the_reference_explains_every_setting() {
    let lines: Vec<&str> = TEXT.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let sets = line.split_once(" = ").is_some_and(|(key, _)| !key.starts_with('#'));
        // Settings that follow each other without a blank line share their explanation.
        let paragraph = lines[..at].iter().rev().take_while(|line| !line.is_empty());
        let is_explained = paragraph.filter(|line| line.starts_with("# ")).count() > 0;
        assert!(!sets || is_explained, "line {} is not explained: {line}", at + 1);
    }
}
