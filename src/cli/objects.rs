//! `objects`: the object cache of PHP as numbers, its largest keys, and one key.

use std::fmt::Write;

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::arguments::{ObjectsAsked, ObjectsGet, ObjectsTop};
use super::client::{Server, ServerError};
use crate::objects::figures::{KeyContent, KeyOverview, LargestKeys, Overview, Part, meant};
use crate::settings::format_size;

/// Letters of a key that a table has; `--json` has all.
const KEY_LETTERS_MAX: usize = 60;

/// What was asked for, as text.
pub(super) fn objects(server: &Server, asked: &ObjectsAsked) -> Result<String, ServerError> {
    match asked {
        ObjectsAsked::Stats(of) => server.told((Method::GET, "/objects", ""), of.json, stats),
        ObjectsAsked::Top(of) => server.told((Method::GET, &top_path(of), ""), of.json, top),
        ObjectsAsked::Get(of) => server.told((Method::GET, &key_path(of), ""), of.json, key),
    }
}

fn top_path(of: &ObjectsTop) -> String {
    let database = of.database.map(|number| format!("&database={number}"));
    format!("/objects/top?count={}{}", of.count, database.unwrap_or_default())
}

fn key_path(of: &ObjectsGet) -> String {
    let key = meant(&of.key);
    let key = percent_encode(&key, NON_ALPHANUMERIC);
    let full = if of.full { "&full" } else { "" };
    format!("/objects/key?database={}&key={key}{full}", of.database)
}

/// With at most one digit behind the point.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => {
            let tenths = bytes / (unit / 10).max(1);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

fn percent(part: u64, whole: u64) -> String {
    part.saturating_mul(1_000).checked_div(whole).map_or_else(
        || "-".to_owned(),
        |per_mille| format!("{}.{} %", per_mille / 10, per_mille % 10),
    )
}

fn stats(all: &Overview) -> String {
    let mut text = String::new();
    let mut line = |line: String| text.extend([line.as_str(), "\n"]);
    line(format!(
        "Memory: {} of {} ({}), of which {} are sets, the tags.",
        size(all.bytes),
        format_size(all.limit_bytes),
        percent(all.bytes, all.limit_bytes),
        size(all.sets_bytes)
    ));
    line(format!(
        "Reads: {} found what they asked for, {} did not: {} hits.",
        all.hits,
        all.misses,
        percent(all.hits, all.hits.saturating_add(all.misses))
    ));
    line(format!(
        "Keys: {}; since the start {} ended by their time, {} made room for others, {} databases \
         began anew for their sets.",
        all.keys, all.expired, all.evictions, all.resets
    ));
    line(format!(
        "Clients: {} now, {} connections since the start, {} ended for what they sent; {} commands.",
        all.clients, all.connections, all.refused, all.commands
    ));
    if !all.databases.is_empty() {
        line(format!(
            "{:>8}  {:>10}  {:>10}  {:>10}  {:>12}  {:>12}",
            "DATABASE", "KEYS", "SETS", "WITH TTL", "MEMORY", "OF SETS"
        ));
    }
    for it in &all.databases {
        let (bytes, sets_bytes) = (size(it.bytes), size(it.sets_bytes));
        line(format!(
            "{:>8}  {:>10}  {:>10}  {:>10}  {bytes:>12}  {sets_bytes:>12}",
            it.database, it.keys, it.sets, it.expiring
        ));
    }
    text
}

fn top(largest: &LargestKeys) -> String {
    let values = table("LARGEST VALUES", &largest.values);
    let sets = table("SETS WITH MOST MEMBERS", &largest.sets);
    if values.is_empty() && sets.is_empty() {
        "Nothing is kept.\n".to_owned()
    } else {
        values + &sets
    }
}

fn table(title: &str, keys: &[KeyOverview]) -> String {
    let mut text = String::new();
    if keys.is_empty() {
        return text;
    }
    let _ =
        writeln!(text, "{:>12}  {:>9}  {:>10}  {:>2}  {title}", "MEMORY", "LENGTH", "TTL", "DB");
    for it in keys {
        let bytes = size(it.bytes);
        let ttl = it.ttl_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds} s"));
        let mut key: String = it.key.chars().take(KEY_LETTERS_MAX).collect();
        if key.len() < it.key.len() {
            key.push('…');
        }
        let _ =
            writeln!(text, "{bytes:>12}  {:>9}  {ttl:>10}  {:>2}  {key}", it.length, it.database);
    }
    text
}

fn key(content: &KeyContent) -> String {
    let it = &content.overview;
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<9} {value}");
    };
    let noun = match it.kind.as_str() {
        "hash" => "fields",
        "set" => "members",
        _ => "bytes",
    };
    row("key", &it.key);
    row("database", &it.database.to_string());
    row("type", &format!("{}, {} {noun}", it.kind, it.length));
    let ttl = it.ttl_seconds.map(|seconds| format!("{seconds} s"));
    row("ttl", ttl.as_deref().unwrap_or("none, it does not end"));
    row("memory", &size(it.bytes));
    if let Some(tags) = tags(content) {
        row("tags", if tags.is_empty() { "none" } else { tags });
    }
    for part in &content.parts {
        let field = part.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
        let packed = part.compression.as_ref().map(|name| format!("({name}) "));
        let _ = writeln!(text, "{field}{}{}", packed.unwrap_or_default(), part.text);
    }
    if content.is_cut {
        text.push_str("... and more; --full shows up to 3 MiB.\n");
    }
    text
}

/// Those that `Cm_Cache_Backend_Redis` keeps beside a value.
fn tags(content: &KeyContent) -> Option<&str> {
    let of = |name: &str| {
        let is_it = |part: &&Part| part.field.as_deref() == Some(name);
        content.parts.iter().find(is_it)
    };
    of("d")?;
    of("t").map(|part| part.text.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::ControlArguments;
    use crate::objects::figures::{DatabaseOverview, shown};

    fn key_of(kind: &str, key: &str) -> KeyOverview {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        KeyOverview { kind, key, bytes: 1_300_000, length: 4, ttl_seconds: Some(61), database: 3 }
    }

    #[test]
    fn the_figures_are_sentences_and_a_row_for_each_database() {
        let database = DatabaseOverview { database: 1, keys: 40, sets: 7, ..Default::default() };
        let all = Overview {
            bytes: 3 << 20,
            limit_bytes: 256 << 20,
            hits: 997,
            misses: 3,
            databases: vec![database],
            ..Overview::default()
        };
        let text = stats(&all);
        assert!(text.starts_with("Memory: 3.0 MiB of 256MiB (1.1 %)"), "{text}");
        assert!(text.contains("997 found what they asked for, 3 did not: 99.7 % hits."), "{text}");
        let last = text.lines().last().expect("a row");
        assert!(last.starts_with("       1          40           7"), "{text}");
        assert!(stats(&Overview::default()).contains("0 did not: - hits"));
    }

    #[test]
    fn the_largest_keys_are_two_tables() {
        let largest = LargestKeys {
            values: vec![key_of("hash", &"k".repeat(200))],
            sets: vec![KeyOverview { ttl_seconds: None, ..key_of("set", "zc:tags") }],
        };
        let text = top(&largest);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].ends_with("LARGEST VALUES") && lines[2].ends_with("SETS WITH MOST MEMBERS")
        );
        assert!(lines[1].contains("1.2 MiB          4        61 s   3  kkk"), "{text}");
        assert!(lines[1].ends_with("k…") && lines[1].chars().count() < 110, "{text}");
        assert!(lines[3].contains("    -   3  zc:tags"), "{text}");
        assert_eq!(top(&LargestKeys::default()), "Nothing is kept.\n");
    }

    #[test]
    fn a_key_is_shown_with_its_tags_and_says_where_it_is_cut() {
        let part = |field: &str, text: &str| Part {
            field: Some(field.to_owned()),
            text: text.to_owned(),
            compression: (field == "d").then(|| "gz".to_owned()),
        };
        let parts = vec![part("d", "<div>"), part("t", "CAT_P_1,FPC")];
        let content = KeyContent { overview: key_of("hash", "zc:k:A"), parts, is_cut: true };
        let text = key(&content);
        for line in [
            "key       zc:k:A\n",
            "type      hash, 4 fields\n",
            "ttl       61 s\n",
            "tags      CAT_P_1,FPC\n",
            "d: (gz) <div>\n",
            "--full",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_key_is_asked_for_as_it_was_printed() {
        let asked = |key: &str, full| {
            let key = key.to_owned();
            let (database, json, server) = (2, false, ControlArguments::default());
            key_path(&ObjectsGet { key, database, full, json, server })
        };
        assert_eq!(asked("zc:k:A", false), "/objects/key?database=2&key=zc%3Ak%3AA");
        let bytes = b"a \xff&\n";
        assert_eq!(asked(&shown(bytes), true), "/objects/key?database=2&key=a%20%FF%26%0A&full");
    }
}
