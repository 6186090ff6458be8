//! Is this server to get requests, and if not, why?
//!
//! Whoever finds a fault of this server raises it here; the load balancer's health check and the
//! control listener show it. Faults that all servers share must not be raised, or a shared fault
//! would take every server away at once.

use std::collections::BTreeSet;

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
    /// It was told to stop.
    Draining = "draining" "The server was told to stop and waits for the load balancer to notice.",
    /// The origin's socket refuses connections: a fault of this server.
    OriginRefused = "origin-refused"
        "The origin's socket has refused connections for longer than health.refused.",
    /// Redis cannot be reached, and `redis.require` is set.
    RedisAway = "redis-away" "Redis cannot be reached, and redis.require says that it must.",
}

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
}

impl Readiness {
    /// The phase.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// May the load balancer send requests?
    pub fn ready(&self) -> bool {
        self.phase == Phase::Serving && self.faults.is_empty()
    }

    /// Why not.
    pub fn causes(&self) -> Vec<Cause> {
        let phase = match self.phase {
            Phase::Starting => Some(Cause::Starting),
            Phase::Serving => None,
            Phase::Draining | Phase::Stopping => Some(Cause::Draining),
        };
        phase.into_iter().chain(self.faults.iter().copied()).collect()
    }

    /// `{"ready":false,"causes":[{"cause":"origin-refused","why":"..."}]}`
    pub fn to_json(&self) -> serde_json::Value {
        let causes: Vec<_> = self
            .causes()
            .into_iter()
            .map(|cause| serde_json::json!({ "cause": cause.as_str(), "why": cause.why() }))
            .collect();
        serde_json::json!({ "ready": self.ready(), "causes": causes })
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
