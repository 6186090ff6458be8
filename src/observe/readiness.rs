//! Is this server to get requests, and if not, why?
//!
//! Whoever finds a fault of this server raises it here; the load balancer's health check and the
//! control listener show it. Faults that all servers share must not be raised, or a shared fault
//! would take every server away at once.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::sync::watch;

macro_rules! causes {
    ($($(#[doc = $doc:expr])+ $variant:ident = $word:literal $why:literal,)+) => {
        /// Why a server is not ready.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Cause {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// A sentence for who looks into it.
            pub const fn why(self) -> &'static str {
                match self { $(Self::$variant => $why),+ }
            }
        }
    };
}

causes! {
    /// It has not begun to serve.
    Starting = "starting" "The server is starting.",
    /// It does not know the log's end yet.
    LogUnknown = "log-unknown"
        "The server starts, and does not know yet where the log of purges ends.",
    /// It takes pages from the other nodes.
    Warming = "warming"
        "The server starts, and takes the pages that are asked for most from the other nodes.",
    /// It was told to stop.
    Draining = "draining" "The server was told to stop and waits for the load balancer to notice.",
    /// The origin's socket refuses connections: a fault of this server.
    OriginRefused = "origin-refused"
        "The origin's socket has refused connections for longer than health.refused.",
    /// Redis cannot be reached, and `redis.require` is set.
    RedisAway = "redis-away" "Redis cannot be reached, and redis.require says that it must.",
}

impl Cause {
    /// Is it a fault of this server which others may have at the same time, so that it may leave it
    /// ready ([`State::excuse`])?
    pub const fn is_bounded(self) -> bool {
        matches!(self, Self::OriginRefused)
    }

    /// Does it belong to the start, and go by itself?
    pub const fn is_of_start(self) -> bool {
        matches!(self, Self::LogUnknown | Self::Warming)
    }
}

/// Why a server with a fault is ready all the same.
const EXCUSE: &str =
    "The server stays ready, since more of the nodes than fleet.out_share would be not ready.";

/// Where a server stands between start and stop; it only goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not serving yet.
    #[default]
    Starting,
    /// Serving.
    Serving,
    /// Serving, but told to stop.
    Draining,
    /// No longer accepting connections.
    Stopping,
}

/// The answer at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    phase: Phase,
    faults: BTreeSet<Cause>,
    is_excused: bool,
}

impl Readiness {
    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// May the load balancer send requests?
    pub fn ready(&self) -> bool {
        self.phase == Phase::Serving && self.faults.iter().all(|fault| self.excuses(*fault))
    }

    /// Faults that leave it ready, since too many others have one.
    pub fn excused(&self) -> impl Iterator<Item = Cause> + '_ {
        self.faults.iter().copied().filter(|fault| self.excuses(*fault))
    }

    /// Is there a fault that others may have too?
    pub fn has_bounded_fault(&self) -> bool {
        self.faults.iter().any(|fault| fault.is_bounded())
    }

    fn excuses(&self, fault: Cause) -> bool {
        self.is_excused && fault.is_bounded()
    }

    /// One line: `ready`, or why not.
    pub fn to_line(&self) -> String {
        let words = |causes: &mut dyn Iterator<Item = Cause>| {
            causes.map(Cause::as_str).collect::<Vec<_>>().join(", ")
        };
        let excused = words(&mut self.excused());
        match (self.ready(), excused.as_str()) {
            (true, "") => "ready".to_owned(),
            (true, excused) => format!("ready, in spite of {excused}: too many would be not ready"),
            (false, _) => format!("not ready: {}", words(&mut self.causes().into_iter())),
        }
    }

    /// Why not.
    pub fn causes(&self) -> Vec<Cause> {
        let phase = match self.phase {
            Phase::Starting => Some(Cause::Starting),
            Phase::Serving => None,
            Phase::Draining | Phase::Stopping => Some(Cause::Draining),
        };
        let faults = self.faults.iter().copied().filter(|fault| !self.excuses(*fault));
        phase.into_iter().chain(faults).collect()
    }

    /// `{"ready":false,"causes":[{"cause":"origin-refused","why":"..."}]}`, and what is there beside:
    /// `"excused":[...],"excuse":"..."`
    pub fn to_json(&self) -> serde_json::Value {
        let list = |causes: &mut dyn Iterator<Item = Cause>| {
            let one = |cause: Cause| json!({ "cause": cause.as_str(), "why": cause.why() });
            causes.map(one).collect::<Vec<_>>()
        };
        let causes = list(&mut self.causes().into_iter());
        let mut json = json!({ "ready": self.ready(), "causes": causes });
        let excused = list(&mut self.excused());
        if !excused.is_empty() {
            json["excused"] = excused.into();
            json["excuse"] = EXCUSE.into();
        }
        json
    }
}

/// The state that all parts of a server share.
#[derive(Debug, Default)]
pub struct State(watch::Sender<Readiness>);

impl State {
    /// A server that starts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a phase; going back is ignored.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|readiness| {
            let forward = phase > readiness.phase;
            if forward {
                readiness.phase = phase;
            }
            forward
        });
    }

    /// Raises a fault of this server, and says whether it is new.
    pub fn raise(&self, fault: Cause) -> bool {
        self.0.send_if_modified(|readiness| readiness.faults.insert(fault))
    }

    /// The fault is gone; says whether it was there.
    pub fn clear(&self, fault: Cause) -> bool {
        self.0.send_if_modified(|readiness| readiness.faults.remove(&fault))
    }

    /// From now on faults that others may have too leave it ready, or no longer; says whether that
    /// is new.
    pub fn excuse(&self, is_excused: bool) -> bool {
        self.0.send_if_modified(|readiness| {
            std::mem::replace(&mut readiness.is_excused, is_excused) != is_excused
        })
    }

    /// How it stands.
    pub fn readiness(&self) -> Readiness {
        self.0.borrow().clone()
    }

    /// Is it ready? As [`State::readiness`], without a copy.
    pub fn ready(&self) -> bool {
        self.0.borrow().ready()
    }

    /// Tells of changes.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_ready_only_while_it_serves_without_a_fault() {
        let state = State::new();
        assert_eq!(state.readiness().causes(), [Cause::Starting]);
        state.enter(Phase::Serving);
        assert!(state.ready());
        assert!(state.raise(Cause::OriginRefused));
        assert!(!state.raise(Cause::OriginRefused), "it is not new");
        assert!(!state.ready());
        assert!(state.clear(Cause::OriginRefused));
        assert!(state.ready());
        state.enter(Phase::Draining);
        state.enter(Phase::Serving);
        assert_eq!(state.readiness().causes(), [Cause::Draining], "it never goes back");
    }

    #[test]
    fn the_json_says_why() {
        let state = State::new();
        state.enter(Phase::Serving);
        assert_eq!(state.readiness().to_json().to_string(), r#"{"causes":[],"ready":true}"#);
        state.raise(Cause::OriginRefused);
        let json = state.readiness().to_json();
        assert_eq!(json["causes"][0]["cause"], "origin-refused");
        assert!(json["causes"][0]["why"].as_str().is_some_and(|why| why.ends_with('.')));
    }

    #[test]
    fn an_excused_fault_leaves_it_ready_and_is_told() {
        let state = State::new();
        state.enter(Phase::Serving);
        state.raise(Cause::OriginRefused);
        assert_eq!(state.readiness().to_line(), "not ready: origin-refused");
        assert!(state.excuse(true) && !state.excuse(true));
        assert!(state.ready());
        assert_eq!(state.readiness().causes(), []);
        let line = state.readiness().to_line();
        assert!(line.starts_with("ready, in spite of origin-refused"), "{line}");
        let json = state.readiness().to_json();
        assert_eq!(json["excused"][0]["cause"], "origin-refused");
        assert!(json["excuse"].as_str().is_some_and(|excuse| excuse.ends_with('.')));
        state.raise(Cause::Warming);
        assert_eq!(state.readiness().to_line(), "not ready: warming", "that is no fault");
        state.clear(Cause::Warming);
        state.enter(Phase::Draining);
        assert!(!state.ready(), "an order is none either");
    }

    #[tokio::test]
    async fn watchers_learn_of_changes_alone() {
        let state = State::new();
        let mut watch = state.watch();
        state.enter(Phase::Serving);
        watch.changed().await.expect("open");
        assert!(watch.borrow_and_update().ready());
        state.enter(Phase::Serving);
        assert!(!watch.has_changed().expect("open"));
    }
}
