//! What the other modules tell, and what is shown of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Version};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::ObserveError;
use super::access_log::AccessLog;
use super::counters::{Counters, Totals, shard_count};
use super::metrics::{self, Kind, Snapshot};
use super::readiness::State;
use super::readings::{Labelled, Readings};
use super::record::{Record, Verdict};
use crate::clock::Clock;
use crate::exchange::{Client, Completion, Delivered, Request, Scheme};
use crate::reason::Reason;
use crate::settings;

const VERSION: &str = env!("CARGO_PKG_VERSION");

type Source = Box<dyn Fn(&mut Readings) + Send + Sync>;

/// Counts, logs and shows.
pub struct Observer {
    clock: Clock,
    started: Duration,
    counters: Counters,
    purges: AtomicU64,
    purged_objects: AtomicU64,
    access_log: Option<AccessLog>,
    sources: Mutex<Vec<Source>>,
    state: Arc<State>,
}

/// As people and programs read it: times are kept in milliseconds.
fn figure(kind: Kind, value: u64) -> Value {
    match kind {
        Kind::Seconds => Duration::from_millis(value).as_secs_f64().into(),
        _ => value.into(),
    }
}

impl Observer {
    /// Opens the access log and starts its writer.
    pub fn new(
        clock: &Clock,
        log: &settings::Log,
        state: Arc<State>,
    ) -> Result<Self, ObserveError> {
        Ok(Self {
            clock: clock.clone(),
            started: clock.elapsed(),
            counters: Counters::new(shard_count()),
            purges: AtomicU64::new(0),
            purged_objects: AtomicU64::new(0),
            access_log: AccessLog::open(log, clock)?,
            sources: Mutex::new(Vec::new()),
            state,
        })
    }

    /// A request is under way. `began`: when its head had been read, since the clock's origin.
    pub fn begin(
        self: &Arc<Self>,
        request: &Request,
        client: &Client,
        began: Duration,
    ) -> Observation {
        Observation {
            began,
            request: Kept::of(request, client),
            answer: Answer::default(),
            observer: Arc::clone(self),
        }
    }

    /// A request that was answered at once has ended: counts and logs it without having kept
    /// anything of it. `began`: when its head had been read, since the clock's origin.
    pub fn note(
        &self,
        request: &Request,
        (client, scheme): (IpAddr, Scheme),
        began: Duration,
        answer: &Answer,
    ) {
        let [mut user_agent, mut referer] = [&b""[..]; 2];
        for field in &request.fields {
            match field.name.len() {
                10 if field.is("user-agent") && user_agent.is_empty() => user_agent = &field.value,
                7 if field.is("referer") && referer.is_empty() => referer = &field.value,
                _ => {}
            }
        }
        let asked = Asked {
            client,
            scheme,
            version: request.version,
            method: request.method.as_str().as_bytes(),
            authority: &request.authority,
            target: &request.target,
            user_agent,
            referer,
            class: "",
        };
        self.record(&asked, began, answer);
    }

    /// Counts and logs a request that has ended.
    fn record(&self, asked: &Asked<'_>, began: Duration, answer: &Answer) {
        let ended = self.clock.elapsed();
        let &Asked { client, scheme, version, method, authority, target, .. } = asked;
        let &Asked { user_agent, referer, class, .. } = asked;
        let &Answer { first_byte, queued, status, verdict, reason, ref rule, delivered } = answer;
        let record = Record {
            ended: self.clock.wall_roughly(),
            duration: ended.saturating_sub(began),
            first_byte,
            queued,
            client,
            scheme,
            version,
            method,
            authority,
            target,
            user_agent,
            referer,
            class,
            status,
            verdict,
            reason,
            rule: rule.as_deref(),
            delivered,
        };
        self.counters.count(&record);
        if let Some(access_log) = &self.access_log {
            access_log.push(&record, ended);
        }
    }

    /// Counts a purge which reached `objects` stored responses.
    pub fn record_purge(&self, objects: u64) {
        self.purges.fetch_add(1, Ordering::Relaxed);
        self.purged_objects.fetch_add(objects, Ordering::Relaxed);
    }

    /// Has `source` asked each time somebody looks at the metrics.
    pub fn register(&self, source: impl Fn(&mut Readings) + Send + Sync + 'static) {
        self.sources.lock().push(Box::new(source));
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        self.counters.totals()
    }

    /// Is this server ready? The state that lifecycle and probes keep.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Appends the metrics in Prometheus' text format; its media type is
    /// `text/plain; version=0.0.4; charset=utf-8`.
    pub fn write_metrics(&self, out: &mut String) {
        metrics::write(
            out,
            &Snapshot {
                version: VERSION,
                uptime_seconds: self.uptime().as_secs(),
                ready: self.state.ready(),
                totals: &self.totals(),
                readings: &self.readings(),
                purges: self.purges.load(Ordering::Relaxed),
                purged_objects: self.purged_objects.load(Ordering::Relaxed),
                lines_written: self.access_log.as_ref().map_or(0, AccessLog::written),
                lines_lost: self.access_log.as_ref().map_or(0, AccessLog::lost),
            },
        );
    }

    /// The statistics as JSON, for people. Reasons that never came up are left out.
    pub fn stats(&self) -> Value {
        let totals = self.totals();
        let mut stats = Map::new();
        let readings = self.readings();
        for (reading, value) in readings.iter() {
            let (group, key) = reading.place();
            let group = stats.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(group) = group {
                group.insert(key.to_owned(), figure(reading.kind(), value));
            }
        }
        for metric in Labelled::ALL {
            let (group, key) = metric.place();
            let values: Map<_, _> = readings
                .labelled(*metric)
                .map(|(word, value)| (word.to_owned(), figure(metric.kind(), value)))
                .collect();
            if values.is_empty() {
                continue;
            }
            let group = stats.entry(group).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(group) = group {
                group.insert(key.to_owned(), Value::Object(values));
            }
        }
        let verdicts: Map<_, _> = Verdict::ALL
            .iter()
            .map(|verdict| (verdict.as_str().to_owned(), totals.requests(*verdict).into()))
            .collect();
        let reasons: Map<_, _> = Reason::ALL
            .iter()
            .map(|reason| (reason.as_str().to_owned(), totals.reasons(*reason)))
            .filter(|(_, count)| *count > 0)
            .map(|(word, count)| (word, count.into()))
            .collect();
        stats.insert("version".to_owned(), VERSION.into());
        stats.insert("uptime_seconds".to_owned(), self.uptime().as_secs().into());
        stats.insert("readiness".to_owned(), self.state.readiness().to_json());
        stats.insert("hit_ratio".to_owned(), totals.hit_ratio().into());
        stats.insert(
            "requests".to_owned(),
            json!({ "total": totals.all_requests(), "verdicts": verdicts, "reasons": reasons }),
        );
        stats.insert("sent_body_bytes".to_owned(), totals.sent_bytes().into());
        stats.insert(
            "purges".to_owned(),
            json!({
                "total": self.purges.load(Ordering::Relaxed),
                "objects": self.purged_objects.load(Ordering::Relaxed),
            }),
        );
        Value::Object(stats)
    }

    /// Has the access log's file opened again, for log rotation: rename it, then call this.
    pub fn reopen_log(&self) {
        if let Some(access_log) = &self.access_log {
            access_log.reopen();
        }
    }

    /// Writes out the access log; says whether that was done within `deadline`. Blocks.
    pub fn close_log(&self, deadline: Duration) -> bool {
        self.access_log.as_ref().is_none_or(|access_log| access_log.close(deadline))
    }

    fn uptime(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    fn readings(&self) -> Readings {
        let mut readings = Readings::default();
        for source in self.sources.lock().iter() {
            source(&mut readings);
        }
        readings
    }
}

/// What is noted of a request.
struct Asked<'a> {
    client: IpAddr,
    scheme: Scheme,
    version: Version,
    method: &'a [u8],
    authority: &'a [u8],
    target: &'a [u8],
    user_agent: &'a [u8],
    referer: &'a [u8],
    class: &'a str,
}

/// What is kept of a request that waits for its answer.
struct Kept {
    client: IpAddr,
    scheme: Scheme,
    version: Version,
    method: Method,
    authority: Bytes,
    target: Bytes,
    user_agent: Bytes,
    referer: Bytes,
    class: Option<Arc<str>>,
}

impl Kept {
    fn of(request: &Request, client: &Client) -> Self {
        let first = |name| request.fields.first(name).cloned().unwrap_or_default();
        Self {
            client: client.address,
            scheme: client.scheme,
            version: request.version,
            method: request.method.clone(),
            authority: request.authority.clone(),
            target: request.target.clone(),
            user_agent: first("User-Agent"),
            referer: first("Referer"),
            class: None,
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            client: self.client,
            scheme: self.scheme,
            version: self.version,
            method: self.method.as_str().as_bytes(),
            authority: &self.authority,
            target: &self.target,
            user_agent: &self.user_agent,
            referer: &self.referer,
            class: self.class.as_deref().unwrap_or_default(),
        }
    }
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// From handing it to the origin until the response's head, where the origin was asked.
    pub first_byte: Option<Duration>,
    /// How long it waited for its turn in its session, where it did.
    pub queued: Option<Duration>,
    /// The status of the response.
    pub status: StatusCode,
    /// How it was answered.
    pub verdict: Verdict,
    /// Why not from the store.
    pub reason: Option<Reason>,
    /// The rule of `[traffic]` that said no.
    pub rule: Option<Arc<str>>,
    /// How the delivery ended.
    pub delivered: Delivered,
}

impl Default for Answer {
    /// Until an answer is known a request counts as [`Verdict::Gone`], with nginx's status 499
    /// ("client closed request").
    fn default() -> Self {
        Self {
            first_byte: None,
            queued: None,
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            verdict: Verdict::Gone,
            reason: None,
            rule: None,
            delivered: Delivered::ClientGone { body_bytes: 0 },
        }
    }
}

/// A request under way. Dropping it records it as it stands: a client that left before there was
/// an answer.
pub struct Observation {
    observer: Arc<Observer>,
    request: Kept,
    answer: Answer,
    began: Duration,
}

impl Observation {
    /// How the request is answered.
    pub fn answer(&mut self, status: StatusCode, verdict: Verdict, reason: Option<Reason>) {
        self.answer.status = status;
        self.answer.verdict = verdict;
        self.answer.reason = reason;
    }

    /// The rule that said no.
    pub fn rule(&mut self, rule: Arc<str>) {
        self.answer.rule = Some(rule);
    }

    /// How long the origin took to the head of its response.
    pub fn first_byte(&mut self, after: Duration) {
        self.answer.first_byte = Some(after);
    }

    /// How long it waited for its turn in its session.
    pub fn queued(&mut self, wait: Duration) {
        self.answer.queued = Some(wait);
    }

    /// The class in which it asked for a place in PHP.
    pub fn class(&mut self, class: Arc<str>) {
        self.request.class = Some(class);
    }

    /// The response has left, or cannot leave.
    pub fn finish(mut self, delivered: Delivered) {
        self.answer.delivered = delivered;
    }

    /// Finishes when the response does.
    pub fn into_completion(self) -> Completion {
        Completion::new(move |delivered| self.finish(delivered))
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.observer.record(&self.request.asked(), self.began, &self.answer);
    }
}

#[cfg(test)]
mod tests {
    use super::super::readiness::{Cause, Phase};
    use super::super::readings::Reading;
    use super::*;
    use crate::body::Body;
    use crate::exchange::{Beside, Connection, Peer};
    use crate::fields::Fields;

    fn observer(access: settings::AccessLog) -> (Clock, Arc<Observer>) {
        let clock = Clock::manual();
        let log = settings::Log { access, ..settings::Log::default() };
        let observer = Observer::new(&clock, &log, Arc::default()).expect("opened");
        (clock, Arc::new(observer))
    }

    fn request() -> (Request, Client) {
        let request = Request {
            method: Method::GET,
            target: Bytes::from("/p"),
            authority: Bytes::from("shop.example"),
            version: Version::HTTP_2,
            fields: Fields::from([
                ("user-agent", "agent/1"),
                ("Cookie", "PHPSESSID=s3cr3t"),
                ("Authorization", "Bearer s3cr3t"),
            ]),
            body: Body::empty(),
            connection: Connection { peer: Peer::Unix, local: None, tls: false },
            beside: Beside::default(),
        };
        let client = Client {
            address: IpAddr::from([192, 0, 2, 1]),
            port: 0,
            scheme: Scheme::Https,
            server_port: 443,
            trusted_peer: true,
            forged: false,
            hops: Vec::new(),
        };
        (request, client)
    }

    #[test]
    fn a_request_is_recorded_once_when_its_response_has_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("access.log");
        let (clock, observer) = observer(settings::AccessLog::File(path.clone()));
        let (request, client) = request();
        let mut observation = observer.begin(&request, &client, observer.clock.elapsed());
        observation.answer(StatusCode::OK, Verdict::Miss, Some(Reason::Cold));
        observation.first_byte(Duration::from_millis(30));
        let completion = observation.into_completion();
        clock.advance(Duration::from_millis(40));
        assert_eq!(observer.totals().all_requests(), 0, "not before");
        completion.finish(Delivered::Whole { body_bytes: 9 });
        let totals = observer.totals();
        assert_eq!((totals.requests(Verdict::Miss), totals.all_requests()), (1, 1));
        assert_eq!((totals.reasons(Reason::Cold), totals.sent_bytes()), (1, 9));
        assert!(observer.close_log(Duration::from_secs(20)));
        let text = std::fs::read_to_string(path).expect("readable");
        let line: Value = serde_json::from_str(&text).expect("one line");
        assert_eq!(line["duration_seconds"], 0.04);
        assert_eq!(line["first_byte_seconds"], 0.03);
        assert_eq!(line["user_agent"], "agent/1");
        assert!(!text.contains("s3cr3t"), "cookies and tokens are not logged");
    }

    #[test]
    fn a_request_that_is_dropped_counts_as_gone() {
        let (_, observer) = observer(settings::AccessLog::Off);
        let (request, client) = request();
        drop(observer.begin(&request, &client, observer.clock.elapsed()));
        assert_eq!(observer.totals().requests(Verdict::Gone), 1);
        let mut observation = observer.begin(&request, &client, observer.clock.elapsed());
        observation.answer(StatusCode::OK, Verdict::Hit, None);
        drop(observation.into_completion());
        assert_eq!(observer.totals().requests(Verdict::Hit), 1);
        assert_eq!(observer.totals().ends, [0, 2, 0]);
    }

    #[test]
    fn statistics_and_metrics_show_what_others_registered() {
        let (clock, observer) = observer(settings::AccessLog::Off);
        observer.register(|readings| readings.set(Reading::StoreObjects, 12_u64));
        observer.register(|readings| readings.set(Reading::OriginHealthy, true));
        observer.record_purge(3);
        observer.state().enter(Phase::Serving);
        observer.state().raise(Cause::OriginRefused);
        clock.advance(Duration::from_secs(61));
        let stats = observer.stats();
        assert_eq!(stats["store"]["objects"], 12);
        assert_eq!(stats["origin"]["healthy"], 1);
        assert_eq!(stats["uptime_seconds"], 61);
        assert_eq!(stats["purges"], json!({ "total": 1, "objects": 3 }));
        assert_eq!(stats["readiness"]["causes"][0]["cause"], "origin-refused");
        assert_eq!(stats["hit_ratio"], Value::Null);
        assert_eq!(stats["version"], VERSION);
        let mut text = String::new();
        observer.write_metrics(&mut text);
        for line in ["parvis_store_objects 12\n", "parvis_purges_total 1\n", "parvis_ready 0\n"] {
            assert!(text.contains(line), "{line}");
        }
        assert!(!text.contains("parvis_store_tags"), "what nobody set is not shown");
    }
}
