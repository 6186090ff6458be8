//! `check`, `purge` and `stats`.

use std::fmt::Write;
use std::path::Path;

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::PurgeWhat;
use super::client::{Server, ServerError};
use super::printable::printable;
use crate::settings::{
    AccessLog, Endpoint, Origin, PolicyKind, Redis, Settings, format_duration, format_size,
    memory_limit_bytes,
};

/// What a configuration would do, for `check`.
pub(super) fn summary(settings: &Settings) -> String {
    let site = &settings.site;
    let policy = match site.policy {
        PolicyKind::Magento => "magento: the rules of Magento's VCL",
        PolicyKind::Generic => "generic: RFC 9111 alone",
    };
    let hosts = if site.hosts.is_empty() { "all".to_owned() } else { site.hosts.join(", ") };
    let (grace, keep) = (settings.store.grace, settings.store.keep);
    let stale = format!(
        "for {} while a refresh is under way, for {} while the origin is sick",
        format_duration(grace),
        format_duration(keep)
    );
    let rows = [
        ("http", addresses(&settings.listen.http)),
        ("https", addresses(&settings.listen.https)),
        ("control", settings.listen.control.to_string()),
        ("origin", origin(&settings.origin)),
        ("policy", policy.to_owned()),
        ("hosts", hosts),
        ("store", store(settings.store.memory_bytes)),
        ("stale", stale),
        ("kept", kept(&settings.store.snapshot_directory)),
        ("purge", format!("allowed from {}", settings.purge.allow)),
        ("fleet", fleet(settings)),
        ("sessions", sessions(settings)),
        ("objects", objects(settings)),
        ("log", access_log(&settings.log.access)),
    ];
    rows.iter().fold(String::new(), |text, (name, value)| text + &row(name, value))
}

/// One line of it.
pub(super) fn row(name: &str, value: &str) -> String {
    format!("  {name:<8} {value}\n")
}

fn addresses(endpoints: &[Endpoint]) -> String {
    if endpoints.is_empty() {
        return "none".to_owned();
    }
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    endpoints.join(", ")
}

fn origin(origin: &Origin) -> String {
    let place = match (&origin.fastcgi, &origin.http) {
        (Some(endpoint), _) => format!("FastCGI at {endpoint}, root {}", origin.root.display()),
        (None, Some(endpoint)) => format!("HTTP at {endpoint}"),
        (None, None) => format!("HTTP at {}", Origin::default_http()),
    };
    format!("{place}; {} requests at once, {} waiting", origin.concurrency_max, origin.queue_max)
}

fn sessions(settings: &Settings) -> String {
    let sessions = &settings.sessions;
    let Some(listen) = &sessions.listen else {
        return "none: PHP keeps them without this server, since no sessions.listen is set"
            .to_owned();
    };
    let place = match settings.sessions_redis() {
        Some(redis) => redis_place(&redis),
        None if sessions.journal.as_os_str().is_empty() => "kept in memory alone".to_owned(),
        None => format!("kept here, journal {}", sessions.journal.display()),
    };
    format!("{listen}; {place}")
}

fn objects(settings: &Settings) -> String {
    let objects = &settings.objects;
    objects.listen.as_ref().map_or_else(
        || {
            "none: PHP keeps its object cache without this server, since no objects.listen is set"
                .to_owned()
        },
        |listen| format!("{listen}; up to {} in memory", format_size(objects.memory_bytes)),
    )
}

fn fleet(settings: &Settings) -> String {
    let redis = &settings.redis;
    if !redis.is_set() {
        return "none: a single node, since no [redis] is set".to_owned();
    }
    let prefix = &settings.fleet.prefix;
    format!("{}, keys {{{prefix}}}:*", redis_place(redis))
}

fn kept(directory: &Path) -> String {
    if directory.as_os_str().is_empty() {
        return "nothing over a stop, since no store.snapshot_directory is set".to_owned();
    }
    format!("over a stop, in {}", directory.display())
}

fn access_log(log: &AccessLog) -> String {
    match log {
        AccessLog::Off => "no requests".to_owned(),
        AccessLog::Stdout => "requests on standard output".to_owned(),
        AccessLog::File(path) => format!("requests in {}", path.display()),
    }
}

fn redis_place(redis: &Redis) -> String {
    match (&redis.url, redis.sentinels.as_slice()) {
        (Some(url), []) => url.to_string(),
        (_, sentinels) => format!("{} by {} sentinels", redis.master, sentinels.len()),
    }
}

fn store(memory_bytes: u64) -> String {
    if memory_bytes == 0 {
        return "nothing is stored".to_owned();
    }
    let limit = memory_limit_bytes().map_or_else(
        || "how much there is cannot be read".to_owned(),
        |bytes| format!("this process can have {}MiB, less what PHP and others take", bytes >> 20),
    );
    format!("up to {} in memory; {limit}", format_size(memory_bytes))
}

/// The body of `POST /purge`.
#[derive(Debug, Serialize)]
struct PurgeRequest<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    all: bool,
    soft: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The answer to it.
#[derive(Debug, Deserialize)]
struct PurgeAnswer {
    /// Responses it reached.
    purged: u64,
    /// Its place in the order of purges.
    number: u64,
    soft: bool,
    /// Whom it has reached; nothing where there is nobody else.
    #[serde(default)]
    reach: String,
}

/// Purges, and says what that did.
pub(super) fn purge(server: &Server, what: &PurgeWhat, soft: bool) -> Result<String, ServerError> {
    let url = what.url.as_deref();
    let request = PurgeRequest { tags: &what.tag, url, all: what.all, soft };
    let body = serde_json::to_vec(&request).map_err(|error| server.foreign(&error))?;
    let answer = server.ask(Method::POST, "/purge", Bytes::from(body))?;
    let answer: PurgeAnswer =
        serde_json::from_slice(&answer).map_err(|error| server.foreign(&error))?;
    let done = if answer.soft { "Marked as stale" } else { "Purged" };
    let noun = if answer.purged == 1 { "response" } else { "responses" };
    let mut said = format!("{done}: {} {noun} (purge number {}).\n", answer.purged, answer.number);
    if answer.reach == "journaled" {
        said.push_str("Redis does not answer: the other servers follow when it is back.\n");
    }
    if answer.purged == 0 && url.is_some() {
        said.push_str(
            "Nothing is stored under this URL. Scheme, host and port count as visitors send them; \
             parameters that are taken out (utm_...) do not.\n",
        );
    }
    Ok(said)
}

/// The server's figures: as they came, or one line each, those that count nothing yet only with `all`.
pub(super) fn stats(server: &Server, json: bool, all: bool) -> Result<String, ServerError> {
    let answer = server.ask(Method::GET, "/stats", Bytes::new())?;
    let figures: Value = serde_json::from_slice(&answer).map_err(|error| server.foreign(&error))?;
    if json {
        return Ok(format!("{figures}\n"));
    }
    let mut lines = Vec::new();
    flatten(String::new(), &figures, &mut lines);
    let found = lines.len();
    let is_nothing = |value: &Value| value.as_f64() == Some(0.0);
    lines.retain(|(name, value)| all || !is_nothing(value) || !is_count(name));
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<width$}  {}", readable(name, value));
        text
    });
    if lines.len() < found {
        let _ = writeln!(text, "{} counts are 0; --all shows them.", found - lines.len());
    }
    Ok(text)
}

/// Does 0 only say that something has not happened? Of what is counted since the start, and of what each
/// class, rule, verdict or reason has a line for.
fn is_count(name: &str) -> bool {
    name.contains("_total") || name.split('.').count() > 2
}

/// Nested objects become dotted names. JSON bounds the depth of what it reads.
fn flatten<'a>(name: String, value: &'a Value, lines: &mut Vec<(String, &'a Value)>) {
    let within = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(within(key), value, lines);
            }
        }
        value => lines.push((name, value)),
    }
}

/// A figure for people. No control character of a text reaches the terminal.
fn readable(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(parts) if parts.is_empty() => "none".to_owned(),
        Value::Array(parts) => {
            let parts: Vec<String> = parts.iter().map(|part| readable(name, part)).collect();
            parts.join(", ")
        }
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            if name.ends_with("ratio") {
                format!("{:.1} %", number * 100.0)
            } else {
                // A millisecond is the least that is counted.
                format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
            }
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Networks;

    #[test]
    fn the_summary_names_listeners_origin_policy_and_memory() {
        let mut settings = Settings::default();
        settings.listen.https = vec![Endpoint::Unix("/run/x.sock".into())];
        settings.purge.allow = Networks::default();
        let text = summary(&settings);
        for line in [
            "  http     127.0.0.1:6081\n",
            "  https    unix:/run/x.sock\n",
            "  control  127.0.0.1:6082\n",
            "  origin   HTTP at 127.0.0.1:8080; 32 requests at once, 1000 waiting\n",
            "  policy   magento: the rules of Magento's VCL\n",
            "  store    up to 512MiB in memory; this process ",
            "  stale    for 5min while a refresh is under way, for 3days while the origin is sick\n",
            "  purge    allowed from nowhere\n",
            "  fleet    none: a single node, since no [redis] is set\n",
            "  kept     nothing over a stop, since no store.snapshot_directory is set\n",
            "  sessions none: PHP keeps them without this server, since no sessions.listen is set\n",
            "  objects  none: PHP keeps its object cache without this server, since no objects.listen",
            "  log      requests on standard output\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
        settings.store.memory_bytes = 0;
        settings.origin.fastcgi = Some(Endpoint::Unix("/run/php.sock".into()));
        settings.origin.root = "/var/www/pub".into();
        let text = summary(&settings);
        assert!(text.contains("FastCGI at unix:/run/php.sock, root /var/www/pub; 32 requests"));
        assert!(text.contains("nothing is stored"));
        settings.sessions.listen = Some(Endpoint::Unix("/run/s.sock".into()));
        settings.objects.listen = Some(Endpoint::Unix("/run/o.sock".into()));
        let text = summary(&settings);
        let own = "unix:/run/s.sock; kept here, journal /var/lib/parvis/sessions.journal\n";
        assert!(text.contains(own), "{text}");
        assert!(text.contains("unix:/run/o.sock; up to 256MiB in memory\n"), "{text}");
    }

    #[test]
    fn a_purge_is_sent_as_the_control_api_reads_it() {
        let json = |tags: &[String], url, all| {
            let request = PurgeRequest { tags, url, all, soft: false };
            serde_json::to_string(&request).expect("serialises")
        };
        assert_eq!(json(&["a".to_owned()], None, false), r#"{"tags":["a"],"soft":false}"#);
        assert_eq!(json(&[], Some("/p"), false), r#"{"url":"/p","soft":false}"#);
        assert_eq!(json(&[], None, true), r#"{"all":true,"soft":false}"#);
    }

    #[test]
    fn what_0_says_nothing_of_is_a_count() {
        for name in ["store.evictions_total", "admission.waiting.cart", "requests.reasons.cold"] {
            assert!(is_count(name), "{name}");
        }
        for name in ["origin.healthy", "origin.queued", "fleet.connected", "hit_ratio"] {
            assert!(!is_count(name), "{name}");
        }
    }

    #[test]
    fn nested_figures_become_dotted_names() {
        let figures = serde_json::json!({"store": {"entries": 3, "tags": {"max": 1}}, "up": true});
        let mut lines = Vec::new();
        flatten(String::new(), &figures, &mut lines);
        let lines: Vec<_> =
            lines.iter().map(|(name, value)| (name.as_str(), value.to_string())).collect();
        let expected = [("store.entries", "3"), ("store.tags.max", "1"), ("up", "true")];
        assert_eq!(lines, expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn figures_are_written_for_people() {
        use serde_json::json;
        for (name, value, expected) in [
            ("hit_ratio", json!(null), "none"),
            ("hit_ratio", json!(0.235_294_117_647_058_8), "23.5 %"),
            ("hit_ratio", json!(1.0), "100.0 %"),
            ("fleet.lag_seconds", json!(1.5), "1.5"),
            ("fleet.lag_seconds", json!(0.0), "0"),
            ("store.bytes", json!(100), "100"),
            ("readiness.causes", json!([]), "none"),
            ("readiness.causes", json!(["warming", "redis-away"]), "warming, redis-away"),
            ("version", json!("0.1.0\u{1b}"), "0.1.0?"),
            ("up", json!(true), "true"),
        ] {
            assert_eq!(readable(name, &value), expected);
        }
    }
}
