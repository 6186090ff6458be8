//! What is measured: histograms of latency by phase, kind of request and verdict; errors by kind; and rows for each second.
//!
//! A latency counts from the time at which the request was to be sent, not from when this thread came round to it, so that a
//! generator that is late does not hide what visitors would have waited.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::answer::Verdict;

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 600_000_000;
/// Significant digits.
const DIGITS: u8 = 3;
/// Percentiles that the results have.
const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];

/// What sums up many kinds of requests in the rows of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A page that was stored.
    Hit,
    /// A page that PHP had to render.
    Miss,
    /// Static and media files.
    File,
    /// Cart, account, private sections.
    Private,
    /// Checkout.
    Checkout,
    /// Anything that bots ask for.
    Bot,
}

impl Group {
    /// As the results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::File => "file",
            Self::Private => "private",
            Self::Checkout => "checkout",
            Self::Bot => "bot",
        }
    }

    fn of(kind: &str, verdict: Option<Verdict>) -> Self {
        match kind {
            "facet" | "crawler" | "abuse" | "goodbot" => Self::Bot,
            "checkout" | "estimate" | "address" | "payment" | "success" => Self::Checkout,
            "static" | "image" => Self::File,
            "section" | "add" | "cart" | "totals" | "login" | "account" | "orders" => Self::Private,
            _ if matches!(verdict, Some(Verdict::Hit | Verdict::Stale)) => Self::Hit,
            _ => Self::Miss,
        }
    }
}

/// What became of a request.
pub struct Sample {
    /// The phase in which it was to be sent; None: it does not count.
    pub phase: Option<usize>,
    /// The page or call.
    pub kind: &'static str,
    /// How the cache answered, and for how many milliseconds PHP worked; or what was wrong.
    pub result: Result<(Verdict, u32), String>,
    /// From when it was to be sent to the end of its answer.
    pub latency: Duration,
    /// When it ended, from the beginning of the run.
    pub end: Duration,
}

/// One row.
#[derive(Default)]
struct Second {
    groups: BTreeMap<Group, Histogram<u32>>,
    errors: BTreeMap<String, u64>,
    /// Errors of each group: an overload is to hit some of them alone.
    failed: BTreeMap<Group, u64>,
    php_answers: u64,
    php_ms: u64,
}

type Counted = BTreeMap<String, u64>;

/// What PHP did for answers that came.
#[derive(Default)]
struct Worked {
    answers: u64,
    ms: u64,
    /// Of these, by group.
    of_groups: BTreeMap<Group, u64>,
}

/// All figures of a run.
#[derive(Default)]
pub struct Figures {
    latencies: BTreeMap<(usize, &'static str, Verdict), Histogram<u64>>,
    grouped: BTreeMap<(usize, Group), Histogram<u64>>,
    errors: BTreeMap<(usize, &'static str), Counted>,
    php: BTreeMap<usize, Worked>,
    current: Second,
    second: u64,
    rows: Vec<Value>,
    lag: Option<Histogram<u64>>,
    /// Answers and errors so far.
    pub totals: (u64, u64),
    /// Errors so far, by kind.
    pub all_errors: Counted,
}

fn histogram<T: hdrhistogram::Counter>(digits: u8) -> Option<Histogram<T>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, digits).ok()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).min(LATENCY_MAX_US)
}

impl Figures {
    /// Counts a request.
    pub fn record(&mut self, sample: Sample) {
        self.roll(sample.end.as_secs());
        let latency = micros(sample.latency);
        let verdict = sample.result.as_ref().ok().map(|(verdict, _)| *verdict);
        let group = Group::of(sample.kind, verdict);
        match sample.result {
            Ok((verdict, php_ms)) => {
                self.totals.0 += 1;
                let row = self.current.groups.entry(group);
                if let Some(made) = histogram(2) {
                    row.or_insert(made).saturating_record(latency);
                }
                let asked_php = matches!(verdict, Verdict::Fill | Verdict::Pass) && php_ms > 0;
                if asked_php {
                    self.current.php_answers += 1;
                    self.current.php_ms += u64::from(php_ms);
                }
                let Some(phase) = sample.phase else { return };
                if asked_php {
                    let php = self.php.entry(phase).or_default();
                    php.answers += 1;
                    php.ms += u64::from(php_ms);
                    *php.of_groups.entry(group).or_default() += u64::from(php_ms);
                }
                if !self.latencies.contains_key(&(phase, sample.kind, verdict))
                    && let Some(made) = histogram(DIGITS)
                {
                    self.latencies.insert((phase, sample.kind, verdict), made);
                }
                if !self.grouped.contains_key(&(phase, group))
                    && let Some(made) = histogram(DIGITS)
                {
                    self.grouped.insert((phase, group), made);
                }
                if let Some(known) = self.latencies.get_mut(&(phase, sample.kind, verdict)) {
                    known.saturating_record(latency);
                }
                if let Some(known) = self.grouped.get_mut(&(phase, group)) {
                    known.saturating_record(latency);
                }
            }
            Err(what) => {
                self.totals.1 += 1;
                *self.all_errors.entry(what.clone()).or_default() += 1;
                *self.current.failed.entry(group).or_default() += 1;
                *self.current.errors.entry(what.clone()).or_default() += 1;
                if let Some(phase) = sample.phase {
                    *self
                        .errors
                        .entry((phase, sample.kind))
                        .or_default()
                        .entry(what)
                        .or_default() += 1;
                }
            }
        }
    }

    /// How late this thread sent what was to be sent at a time of its own choice.
    pub fn late(&mut self, by: Duration) {
        if self.lag.is_none() {
            self.lag = histogram(DIGITS);
        }
        if let Some(lag) = &mut self.lag {
            lag.saturating_record(micros(by).max(1));
        }
    }

    /// Closes the rows of the seconds before this one.
    pub fn roll(&mut self, second: u64) {
        while self.second < second {
            let row = std::mem::take(&mut self.current);
            let groups: serde_json::Map<String, Value> = row
                .groups
                .iter()
                .map(|(group, times)| {
                    let at = |percent| times.value_at_percentile(percent);
                    (group.name().to_owned(), json!([times.len(), at(50.0), at(95.0), at(99.0)]))
                })
                .collect();
            let failed: BTreeMap<&str, u64> =
                row.failed.iter().map(|(group, count)| (group.name(), *count)).collect();
            self.rows.push(json!({
                "groups": groups, "errors": row.errors, "failed": failed, "php_answers": row.php_answers, "php_ms": row.php_ms,
            }));
            self.second += 1;
        }
    }

    /// Everything, for the results.
    pub fn results(&mut self, phases: &[String]) -> Value {
        self.roll(self.second + 1);
        let told = phases.iter().enumerate().map(|(phase, name)| {
            let kinds: Vec<Value> = self.latencies.iter().filter(|((of, ..), _)| *of == phase).map(|((_, kind, verdict), times)| {
                json!({ "kind": kind, "verdict": verdict.name(), "times": summary(times) })
            }).collect();
            let groups: BTreeMap<&str, Value> = self.grouped.iter().filter(|((of, _), _)| *of == phase)
                .map(|((_, group), times)| (group.name(), summary(times))).collect();
            let errors: BTreeMap<&str, &Counted> =
                self.errors.iter().filter(|((of, _), _)| *of == phase).map(|((_, kind), counts)| (*kind, counts)).collect();
            let nothing = Worked::default();
            let php = self.php.get(&phase).unwrap_or(&nothing);
            let of_groups: BTreeMap<&str, u64> = php.of_groups.iter().map(|(group, ms)| (group.name(), *ms)).collect();
            json!({ "name": name, "kinds": kinds, "groups": groups, "errors": errors, "php_answers": php.answers, "php_ms": php.ms, "php_ms_of": of_groups })
        });
        let told: Vec<Value> = told.collect();
        json!({ "phases": told, "seconds": self.rows, "lag": self.lag.as_ref().map(summary) })
    }
}

/// Count, mean and percentiles in microseconds.
fn summary(times: &Histogram<u64>) -> Value {
    let percentiles: BTreeMap<String, u64> = PERCENTILES
        .iter()
        .map(|percent| (format!("p{percent}"), times.value_at_percentile(*percent)))
        .collect();
    json!({ "count": times.len(), "mean": times.mean(), "percentiles": percentiles })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(
        kind: &'static str,
        result: Result<(Verdict, u32), String>,
        ms: u64,
        end: u64,
    ) -> Sample {
        let (latency, end) = (Duration::from_millis(ms), Duration::from_millis(end));
        Sample { phase: Some(0), kind, result, latency, end }
    }

    #[test]
    fn hits_and_what_php_did_are_told_apart() {
        let mut figures = Figures::default();
        for ms in 1..=100 {
            figures.record(sample("home", Ok((Verdict::Hit, 150)), ms, 10));
        }
        figures.record(sample("cart", Ok((Verdict::Pass, 200)), 250, 1_500));
        figures.record(sample("cart", Err("status 503".to_owned()), 5, 1_600));
        let told = figures.results(&["all".to_owned()]);
        let phase = &told["phases"][0];
        assert_eq!((&phase["php_answers"], &phase["php_ms"]), (&json!(1), &json!(200)));
        assert_eq!(phase["php_ms_of"], json!({ "private": 200 }));
        assert_eq!(phase["errors"]["cart"]["status 503"], 1);
        let hits = &phase["groups"]["hit"];
        assert_eq!(hits["count"], 100);
        let median = hits["percentiles"]["p50"].as_u64().unwrap();
        assert!((49_900..=50_100).contains(&median), "{median}");
        assert_eq!(told["seconds"].as_array().unwrap().len(), 2);
        assert_eq!(told["seconds"][1]["failed"]["private"], 1);
        assert_eq!(figures.totals, (101, 1));
    }
}
