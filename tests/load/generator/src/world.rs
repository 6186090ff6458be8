//! What all visitors and bots of a run share, on the one thread that they all run on.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::{Head, Verdict};
use crate::calls::Call;
use crate::client::{Client, Fault};
use crate::figures::{Figures, Sample};
use crate::plan::Plan;

/// Who leaves while waiting counts as an error from this wait on; below, the run's own end is to blame.
const LEFT_WAITING: Duration = Duration::from_secs(1);

/// Load that is wanted now; who stands above it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Levels {
    /// Visitors at once.
    pub users: f64,
    /// Sessions in a second.
    pub buyers: f64,
    /// Sessions in a second of those who only look round.
    pub browsers: f64,
}

/// The run.
pub struct World {
    /// What is to be done.
    pub plan: Plan,
    /// What was measured.
    pub figures: RefCell<Figures>,
    /// When the first phase began.
    pub began: Instant,
    /// The load that is wanted.
    pub levels: watch::Sender<Levels>,
    /// Visitors that are there.
    pub users: Cell<usize>,
    /// Sessions that have begun, and those that have come to their end.
    pub sessions: Cell<(u64, u64)>,
    /// Sessions and bots' requests that did not begin, since a bound of the plan was reached.
    pub unsent: Cell<(u64, u64)>,
    sources: Cell<usize>,
    /// Begin, begin of what counts, and end of each phase, from the beginning of the run.
    times: Vec<(Duration, Duration, Duration)>,
}

/// One request that is under way.
#[derive(Clone, Copy)]
pub struct Asking {
    /// The page or call.
    pub kind: &'static str,
    /// When it was to be sent.
    pub due: Instant,
}

impl World {
    /// A run that begins now.
    pub fn new(plan: Plan) -> Self {
        let mut begin = Duration::ZERO;
        let times = plan.phases.iter().map(|phase| {
            let (start, length) = (begin, Duration::from_secs_f64(phase.seconds));
            begin += length;
            (start, start + Duration::from_secs_f64(phase.settle_seconds), begin)
        });
        Self {
            times: times.collect(),
            plan,
            figures: RefCell::default(),
            began: Instant::now(),
            levels: watch::channel(Levels::default()).0,
            users: Cell::new(0),
            sessions: Cell::default(),
            unsent: Cell::default(),
            sources: Cell::new(0),
        }
    }

    /// A client with the next of the addresses of this machine.
    pub fn client(&self) -> Client {
        let next = self.sources.get();
        self.sources.set(next.wrapping_add(1));
        let source: IpAddr = self.plan.sources[next % self.plan.sources.len()];
        Client::new(self.plan.target, source)
    }

    /// The phase in which what is to be sent at that time counts.
    fn phase(&self, due: Instant) -> Option<usize> {
        let at = due.saturating_duration_since(self.began);
        self.times.iter().position(|(_, counts, end)| (*counts..*end).contains(&at))
    }

    /// Counts what became of a request.
    pub fn record(&self, asking: Asking, result: Result<(Verdict, u32), String>) {
        let now = Instant::now();
        self.figures.borrow_mut().record(Sample {
            phase: self.phase(asking.due),
            kind: asking.kind,
            result,
            latency: now.saturating_duration_since(asking.due),
            end: now.saturating_duration_since(self.began),
        });
    }

    /// Counts a request whose visitor left before it was answered, if that took long.
    pub fn record_left(&self, asking: Asking) {
        if asking.due.elapsed() >= LEFT_WAITING {
            self.record(asking, Err("left waiting".to_owned()));
        }
    }

    /// How late this thread is with what was due.
    pub fn late(&self, due: Instant) {
        self.figures.borrow_mut().late(due.elapsed());
    }

    /// The patience of visitors.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.plan.patience_ms)
    }
}

/// Whether the answer is what was asked for: the error's kind, or how the cache and PHP answered.
pub fn judge(
    call: &Call,
    session: Option<&str>,
    answer: &Result<Head, Fault>,
) -> Result<(Verdict, u32), String> {
    let head = answer.as_ref().map_err(|fault| fault.name().to_owned())?;
    if head.status >= 400 || head.status < 200 {
        return Err(format!("status {}", head.status));
    }
    // Another's cart would show that a cache mixed visitors up.
    if let (Some(own), Some(told)) = (session, head.session.as_deref())
        && own != told
    {
        return Err("another's session".to_owned());
    }
    let path = call.target.split('?').next();
    if head.path.is_some() && head.path.as_deref() != path {
        return Err("another page".to_owned());
    }
    if matches!(call.kind, "checkout" | "success") && head.status != 200 {
        return Err("turned away".to_owned());
    }
    Ok((head.verdict, head.php_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::read_head;

    fn call(kind: &'static str, target: &str) -> Call {
        Call { kind, target: target.to_owned(), post: None, script: false }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as a client gives it")]
    fn answer(status: u16, fields: &str) -> Result<Head, Fault> {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: 0\r\n\r\n");
        Ok(read_head(text.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn another_visitors_or_another_page_is_an_error() {
        let cart = call("cart", "/checkout/cart/");
        let own = answer(200, "X-Load-For: me\r\nX-Load-Ms: 200\r\n");
        assert_eq!(judge(&cart, Some("me"), &own), Ok((Verdict::Unsaid, 200)));
        assert_eq!(judge(&cart, Some("you"), &own), Err("another's session".to_owned()));
        let page = answer(200, "X-Load-Path: /a.html\r\n");
        assert!(judge(&call("product", "/a.html?utm_source=x"), None, &page).is_ok());
        assert_eq!(judge(&call("product", "/b.html"), None, &page), Err("another page".to_owned()));
        assert_eq!(judge(&cart, None, &answer(503, "")), Err("status 503".to_owned()));
        assert_eq!(
            judge(&call("checkout", "/checkout/"), None, &answer(302, "")),
            Err("turned away".to_owned())
        );
        assert_eq!(judge(&cart, None, &Err(Fault::Timeout)), Err("timeout".to_owned()));
    }
}
