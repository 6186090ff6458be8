//! The documents say what the code does.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use parvis::reason::Reason;

#[test]
fn architecture_lists_each_reason() {
    let text = include_str!("../../ARCHITECTURE.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(text.contains(&row), "ARCHITECTURE.md does not explain {}", reason.as_str());
    }
}

#[test]
fn architecture_names_each_difference_that_the_corpus_test_allows() {
    let text = include_str!("../../ARCHITECTURE.md");
    for name in ["100-bogus-vary-cookie", "104-setup-404", "86-rest-product-admin"] {
        assert!(text.contains(name), "{name}");
    }
}

/// The documents, by their paths from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let within = |directory: &str| std::fs::read_dir(root.join(directory)).expect("readable");
    let paths = within(".").chain(within("docs")).map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("readable");
            (plain(path.strip_prefix(root).expect("below the root")), text)
        })
        .collect()
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// What a heading can be linked by: letters and digits in lower case, `-` for spaces.
fn anchors(text: &str) -> impl Iterator<Item = String> + '_ {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = |letter: &char| letter.is_alphanumeric() || "-_ ".contains(*letter);
        words.chars().filter(kept).collect::<String>().replace(' ', "-")
    })
}

/// Links of a document that lead to no file, or to no heading.
fn broken(path: &Path, text: &str, documents: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let links =
        text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
    links
        .filter(|link| !link.contains("://"))
        .filter(|link| {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = path.parent().unwrap_or(Path::new("")).join(file);
            let target = if file.is_empty() { path.to_owned() } else { plain(&beside) };
            let is_there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target).exists();
            let has_anchor = |text: &String| anchors(text).any(|heading| heading == anchor);
            !is_there || (!anchor.is_empty() && !documents.get(&target).is_some_and(has_anchor))
        })
        .map(|link| format!("{}: {link}", path.display()))
        .collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = documents();
    assert!(documents.len() > 10, "{:?}", documents.keys());
    let wrong: Vec<_> =
        documents.iter().flat_map(|(path, text)| broken(path, text, &documents)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let documents = documents();
    let of = |text: &str| broken(Path::new("docs/metrics.md"), text, &documents).len();
    assert_eq!(
        of("[a](../README.md#why) [b](traffic.md#limits) [c](https://shop.example/none)"),
        0
    );
    assert_eq!(of("[a](../README.md#nowhere) [b](nothing.md) [c](#nothing)"), 3);
}
