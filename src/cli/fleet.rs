//! `fleet`: who shares the log, as a table.

use std::fmt::Write;

use http::Method;
use serde::Deserialize;

use super::client::{Server, ServerError};
use super::printable::printable;
use crate::fleet::{Member, Stand};

/// What of the answer is shown.
#[derive(Deserialize)]
struct Overview {
    name: String,
    redis: String,
    connected: bool,
    soft: bool,
    sequence: u64,
    error: Option<String>,
    nodes: Vec<Member>,
}

/// The fleet as the server sees it: as JSON, or as a table.
pub(super) fn fleet(server: &Server, json: bool) -> Result<String, ServerError> {
    server.told((Method::GET, "/fleet", ""), json, table)
}

const COLUMNS: usize = 10;

const HEAD: [&str; COLUMNS] =
    ["NODE", "ADDRESS", "VERSION", "RELEASE", "READY", "POSITION", "LAG", "STATE", "LOAD", "HITS"];

fn table(overview: &Overview) -> String {
    let mut rows = Vec::new();
    // A head over nothing looks as if nobody were there.
    if !overview.nodes.is_empty() {
        rows.push(HEAD.map(str::to_owned));
    }
    rows.extend(overview.nodes.iter().map(|member| row(member, overview)));
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let state = if overview.connected { "answers" } else { "does not answer" };
    let end = if overview.soft {
        format!("where the log ends is not known here (at {} or later)", overview.sequence)
    } else {
        format!("the log ends at {}", overview.sequence)
    };
    let (name, redis) = (printable(&overview.name), printable(&overview.redis));
    let _ = writeln!(text, "Seen from {name}: Redis at {redis} {state}; {end}.");
    if let Some(error) = &overview.error {
        let _ = writeln!(text, "The other nodes are not known: {}.", printable(error));
    }
    text
}

fn row(member: &Member, overview: &Overview) -> [String; COLUMNS] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    let state = match (member.soft, member.journal) {
        (false, 0) => "current".to_owned(),
        (true, 0) => "soft".to_owned(),
        (false, waiting) => format!("current, {waiting} in the journal"),
        (true, waiting) => format!("soft, {waiting} in the journal"),
    };
    let stand = match (member.stand, member.warm_percent) {
        (Stand::Joining, Some(percent)) => format!("joining, {percent} % warm"),
        (stand, _) => stand.as_str().to_owned(),
    };
    [
        printable(&member.name),
        or_dash(&member.address),
        or_dash(&member.version),
        or_dash(&member.release),
        stand,
        member.sequence.to_string(),
        overview.sequence.saturating_sub(member.sequence).to_string(),
        state,
        format!("{} %", member.load_percent),
        member.hit_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_node_with_its_lag_and_no_control_characters() {
        let member = |name: &str, sequence, soft| Member {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            release: "17".to_owned(),
            sequence,
            soft,
            ..Member::default()
        };
        let joining = Member {
            stand: Stand::Joining,
            warm_percent: Some(40),
            ..member("web\u{1b}[2", 4, true)
        };
        let overview = Overview {
            name: "web-1".to_owned(),
            redis: "127.0.0.1:6379".to_owned(),
            connected: true,
            soft: false,
            sequence: 9,
            error: None,
            nodes: vec![member("web-1", 9, false), joining],
        };
        let text = table(&overview);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("NODE") && lines[0].ends_with("HITS"), "{text}");
        assert!(lines[1].contains("web-1") && lines[1].contains("current"), "{text}");
        assert!(lines[1].contains("  ready ") && lines[2].contains("joining, 40 % warm"), "{text}");
        assert!(lines[2].contains("web?[2") && lines[2].contains("  5    "), "{text}");
        assert!(lines[3].contains("the log ends at 9"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn without_redis_it_says_what_is_not_known_and_shows_no_empty_table() {
        let overview = Overview {
            name: "web-1".to_owned(),
            redis: "127.0.0.1:6379".to_owned(),
            connected: false,
            soft: true,
            sequence: 0,
            error: Some("Connection refused".to_owned()),
            nodes: Vec::new(),
        };
        assert_eq!(
            table(&overview),
            "Seen from web-1: Redis at 127.0.0.1:6379 does not answer; \
             where the log ends is not known here (at 0 or later).\n\
             The other nodes are not known: Connection refused.\n"
        );
    }
}
