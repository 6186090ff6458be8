//! The metrics by name, and how they are written for Prometheus (text format 0.0.4).
//!
//! The format is a few lines of text; the counters behind it are this module's own, so a metrics
//! crate would have nothing left to do.

use std::fmt::{Display, Write};

use super::counters::{BOUNDS, CLASSES, ENDS, HistogramTotals, Totals};
use super::readings::{Labelled, Readings};
use super::record::Verdict;
use crate::reason::Reason;

/// A metric's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up alone.
    Counter,
    /// It goes up alone, is kept in milliseconds, and shown in seconds.
    Seconds,
    /// It goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// The word in the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter | Self::Seconds => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's description.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its label, where it has one.
    pub label: Option<&'static str>,
    /// What it says.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: Kind,
    label: Option<&'static str>,
    help: &'static str,
) -> Metric {
    Metric { name, kind, label, help }
}

const BUILD: Metric =
    metric("parvis_build_info", Kind::Gauge, Some("version"), "1, with the version as its label.");
const UPTIME: Metric =
    metric("parvis_uptime_seconds", Kind::Gauge, None, "Time since the process started.");
const READY: Metric =
    metric("parvis_ready", Kind::Gauge, None, "1 while the load balancer may send requests.");
const REQUESTS: Metric = metric(
    "parvis_requests_total",
    Kind::Counter,
    Some("verdict"),
    "Requests that have ended, by how they were answered.",
);
const REASONS: Metric = metric(
    "parvis_reasons_total",
    Kind::Counter,
    Some("reason"),
    "Requests that have ended, by why they were not answered from the store or not stored.",
);
const RESPONSES: Metric = metric(
    "parvis_responses_total",
    Kind::Counter,
    Some("status"),
    "Requests that have ended, by the class of the status.",
);
const DELIVERIES: Metric = metric(
    "parvis_deliveries_total",
    Kind::Counter,
    Some("end"),
    "Requests that have ended, by how the delivery ended.",
);
const SENT: Metric =
    metric("parvis_sent_body_bytes_total", Kind::Counter, None, "Content bytes sent to clients.");
const DURATION: Metric = metric(
    "parvis_request_duration_seconds",
    Kind::Histogram,
    Some("verdict"),
    "From the request's head to the end of its response.",
);
const FIRST_BYTE: Metric = metric(
    "parvis_origin_first_byte_seconds",
    Kind::Histogram,
    None,
    "From handing a request to the origin to the head of its response.",
);
const PURGES: Metric = metric("parvis_purges_total", Kind::Counter, None, "Purges carried out.");
const PURGED: Metric = metric(
    "parvis_purged_objects_total",
    Kind::Counter,
    None,
    "Stored responses that purges reached.",
);
const LINES: Metric =
    metric("parvis_access_log_lines_total", Kind::Counter, None, "Access log lines written.");
const LOST: Metric = metric(
    "parvis_access_log_lost_lines_total",
    Kind::Counter,
    None,
    "Access log lines lost, since the queue was full or writing failed.",
);

/// The metrics that this module keeps; [`Reading::ALL`] are the others.
pub const METRICS: &[Metric] = &[
    BUILD, UPTIME, READY, REQUESTS, REASONS, RESPONSES, DELIVERIES, SENT, DURATION, FIRST_BYTE,
    PURGES, PURGED, LINES, LOST,
];

/// Everything that is shown at one moment.
pub(super) struct Snapshot<'a> {
    pub(super) version: &'a str,
    pub(super) uptime_seconds: u64,
    pub(super) ready: bool,
    pub(super) totals: &'a Totals,
    pub(super) readings: &'a Readings,
    pub(super) purges: u64,
    pub(super) purged_objects: u64,
    pub(super) lines_written: u64,
    pub(super) lines_lost: u64,
}

/// Writes all metrics.
pub(super) fn write(out: &mut String, now: &Snapshot<'_>) {
    head(out, &BUILD);
    sample(out, BUILD.name, Some(("version", now.version)), 1);
    single(out, &UPTIME, now.uptime_seconds);
    single(out, &READY, u64::from(now.ready));
    write_requests(out, now.totals);
    single(out, &PURGES, now.purges);
    single(out, &PURGED, now.purged_objects);
    single(out, &LINES, now.lines_written);
    single(out, &LOST, now.lines_lost);
    for (reading, value) in now.readings.iter() {
        write_head(out, reading.name(), reading.kind(), reading.help());
        sample_of(out, reading.kind(), reading.name(), None, value);
    }
    for metric in Labelled::ALL {
        let mut samples = now.readings.labelled(*metric).peekable();
        if samples.peek().is_some() {
            write_head(out, metric.name(), metric.kind(), metric.help());
        }
        for (word, value) in samples {
            sample_of(out, metric.kind(), metric.name(), Some((metric.label(), word)), value);
        }
    }
}

fn write_requests(out: &mut String, totals: &Totals) {
    head(out, &REQUESTS);
    for verdict in Verdict::ALL {
        let label = Some(("verdict", verdict.as_str()));
        sample(out, REQUESTS.name, label, totals.requests(*verdict));
    }
    head(out, &REASONS);
    for reason in Reason::ALL {
        let label = Some(("reason", reason.as_str()));
        sample(out, REASONS.name, label, totals.reasons(*reason));
    }
    head(out, &RESPONSES);
    for (class, count) in CLASSES.iter().zip(totals.classes) {
        sample(out, RESPONSES.name, Some(("status", class)), count);
    }
    head(out, &DELIVERIES);
    for (end, count) in ENDS.iter().zip(totals.ends) {
        sample(out, DELIVERIES.name, Some(("end", end)), count);
    }
    single(out, &SENT, totals.sent_bytes);
    head(out, &DURATION);
    for (verdict, durations) in Verdict::ALL.iter().zip(&totals.durations) {
        histogram(out, &DURATION, Some(("verdict", verdict.as_str())), durations);
    }
    head(out, &FIRST_BYTE);
    histogram(out, &FIRST_BYTE, None, &totals.first_byte);
}

fn single(out: &mut String, metric: &Metric, value: u64) {
    head(out, metric);
    sample(out, metric.name, None, value);
}

fn head(out: &mut String, metric: &Metric) {
    write_head(out, metric.name, metric.kind, metric.help);
}

fn write_head(out: &mut String, name: &str, kind: Kind, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {}", kind.as_str()));
}

fn sample_of(out: &mut String, kind: Kind, name: &str, label: Option<(&str, &str)>, value: u64) {
    match kind {
        Kind::Seconds => {
            let seconds = format_args!("{}.{:03}", value / 1_000, value % 1_000).to_string();
            sample(out, name, label, seconds);
        }
        _ => sample(out, name, label, value),
    }
}

fn sample(out: &mut String, name: &str, label: Option<(&str, &str)>, value: impl Display) {
    match label {
        // Labels are words of our own, which need no escaping.
        Some((key, word)) => line(out, format_args!("{name}{{{key}=\"{word}\"}} {value}")),
        None => line(out, format_args!("{name} {value}")),
    }
}

fn histogram(
    out: &mut String,
    metric: &Metric,
    label: Option<(&str, &str)>,
    totals: &HistogramTotals,
) {
    let name = metric.name;
    let inner = label.map_or_else(String::new, |(key, word)| format!("{key}=\"{word}\","));
    let bounds = BOUNDS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
    let mut sum = 0;
    for (bound, count) in bounds.zip(totals.buckets) {
        sum += count;
        line(out, format_args!("{name}_bucket{{{inner}le=\"{bound}\"}} {sum}"));
    }
    let outer = label.map_or_else(String::new, |(key, word)| format!("{{{key}=\"{word}\"}}"));
    let (seconds, rest) =
        (totals.sum_nanoseconds / 1_000_000_000, totals.sum_nanoseconds % 1_000_000_000);
    line(out, format_args!("{name}_sum{outer} {seconds}.{rest:09}"));
    line(out, format_args!("{name}_count{outer} {sum}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::super::counters::Counters;
    use super::super::readings::Reading;
    use super::super::record::tests::record;
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// The document that lists the metrics, as `docs/metrics.md` has it.
    fn document() -> String {
        let mut out =
            String::from("| metric | type | label | what it says |\n| --- | --- | --- | --- |\n");
        for metric in METRICS {
            let label = metric.label.unwrap_or("");
            let kind = metric.kind.as_str();
            line(
                &mut out,
                format_args!("| `{}` | {kind} | {label} | {} |", metric.name, metric.help),
            );
        }
        for reading in Reading::ALL {
            let kind = reading.kind().as_str();
            line(
                &mut out,
                format_args!("| `{}` | {kind} |  | {} |", reading.name(), reading.help()),
            );
        }
        for reading in Labelled::ALL {
            let (kind, label) = (reading.kind().as_str(), reading.label());
            let (name, help) = (reading.name(), reading.help());
            line(&mut out, format_args!("| `{name}` | {kind} | {label} | {help} |"));
        }
        out
    }

    fn text() -> String {
        let counters = Counters::new(2);
        counters.count(&record());
        let mut readings = Readings::default();
        for reading in Reading::ALL {
            readings.set(*reading, 7_u64);
        }
        for reading in Labelled::ALL {
            readings.set_labelled(*reading, "some-word", 8_u64);
        }
        let mut out = String::new();
        write(
            &mut out,
            &Snapshot {
                version: "1.2.3",
                uptime_seconds: 9,
                ready: true,
                totals: &counters.totals(),
                readings: &readings,
                purges: 2,
                purged_objects: 3,
                lines_written: 4,
                lines_lost: 5,
            },
        );
        out
    }

    /// Reads the text format as strictly as it is specified and gives type and samples by name.
    fn parse(text: &str) -> HashMap<String, (String, Vec<(String, f64)>)> {
        let sample =
            regex::Regex::new(r#"^([a-z_]+)(\{(?:[a-z]+="[^"\\]*",?)*\})? ([0-9]+(?:\.[0-9]+)?)$"#)
                .expect("valid");
        let mut families: HashMap<String, (String, Vec<(String, f64)>)> = HashMap::new();
        let mut current = String::new();
        assert!(text.ends_with('\n'));
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("a help text");
                assert!(!words.is_empty());
                name.clone_into(&mut helped);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert_eq!(name, helped, "help comes first");
                name.clone_into(&mut current);
                let old = families.insert(current.clone(), (kind.to_owned(), Vec::new()));
                assert!(old.is_none(), "{name} comes twice");
            } else {
                let captures = sample.captures(line).unwrap_or_else(|| panic!("{line:?}"));
                let base = captures[1].strip_prefix(current.as_str()).expect("its own family");
                let kind = &families[&current].0;
                assert_eq!(kind == "histogram", !base.is_empty(), "{line}");
                let value = captures[3].parse().expect("a number");
                let key = line.rsplit_once(' ').expect("a value").0.to_owned();
                families.get_mut(&current).expect("known").1.push((key, value));
            }
        }
        families
    }

    #[test]
    fn the_metrics_parse_and_hold_what_was_counted() {
        let families = parse(&text());
        assert_eq!(families.len(), METRICS.len() + Reading::ALL.len() + Labelled::ALL.len());
        let value = |family: &str, key: &str| {
            let found = families[family].1.iter().find(|(name, _)| name == key);
            found.unwrap_or_else(|| panic!("{key}")).1.to_string()
        };
        let requests = "parvis_requests_total";
        assert_eq!(value(requests, "parvis_requests_total{verdict=\"hit\"}"), "1");
        assert_eq!(value(requests, "parvis_requests_total{verdict=\"miss\"}"), "0");
        assert_eq!(value("parvis_store_objects", "parvis_store_objects"), "7");
        let labelled = "parvis_admission_waiting";
        assert_eq!(value(labelled, "parvis_admission_waiting{class=\"some-word\"}"), "8");
        assert_eq!(value("parvis_build_info", "parvis_build_info{version=\"1.2.3\"}"), "1");
        let duration = "parvis_request_duration_seconds";
        let part = |part: &str| value(duration, &format!("{duration}_{part}"));
        assert_eq!(part("sum{verdict=\"hit\"}"), "0.001234");
        assert_eq!(part("count{verdict=\"hit\"}"), "1");
        assert_eq!(part("bucket{verdict=\"hit\",le=\"0.001\"}"), "0");
        assert_eq!(part("bucket{verdict=\"hit\",le=\"0.0025\"}"), "1");
        assert_eq!(part("bucket{verdict=\"hit\",le=\"+Inf\"}"), "1");
    }

    #[test]
    fn histogram_buckets_never_fall() {
        let families = parse(&text());
        for (kind, samples) in families.values() {
            let buckets = samples.iter().filter(|(key, _)| key.contains("_bucket"));
            let mut last: Option<(&str, f64)> = None;
            for (key, value) in buckets {
                assert_eq!(kind, "histogram");
                let series = key.split("le=").next().expect("a start");
                if let Some((before, lower)) = last
                    && before == series
                {
                    assert!(*value >= lower, "{key}");
                }
                last = Some((series, *value));
            }
        }
    }

    #[test]
    fn names_are_unique_follow_the_conventions_and_have_help() {
        let own = METRICS.iter().map(|metric| (metric.name, metric.kind, metric.help));
        let read = Reading::ALL.iter().map(|one| (one.name(), one.kind(), one.help()));
        let mut names = HashSet::new();
        let labelled = Labelled::ALL.iter().map(|one| (one.name(), one.kind(), one.help()));
        for (name, kind, help) in own.chain(read).chain(labelled) {
            assert!(names.insert(name), "{name} comes twice");
            assert!(name.starts_with("parvis_"), "{name}");
            assert_eq!(name.ends_with("_total"), kind.as_str() == "counter", "{name}");
            assert!(kind != Kind::Seconds || name.ends_with("_seconds_total"), "{name}");
            assert!(!name.contains("millisecond"), "{name}: seconds are Prometheus' unit");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}");
        }
    }

    #[test]
    fn the_document_lists_each_metric() {
        let document_on_disk = include_str!("../../docs/metrics.md");
        assert!(document_on_disk.contains(&document()), "docs/metrics.md wants:\n{}", document());
    }
}
