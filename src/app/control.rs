//! What the control API sees of a node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::control::{self, Departure, PurgeOrder, PurgeRefused, Purged, Scope};
use crate::fleet::{Overview, Wait};
use crate::lifecycle::Desk;
use crate::listener::Connections;
use crate::objects::Objects;
use crate::observe::Readiness;
use crate::pipeline::Node;
use crate::policy::{PurgeRequest, PurgeScope, parse_pattern, parse_pool};
use crate::sessions::figures::{SessionFigures, Source};
use crate::settings::Settings;
use crate::waiting_room;

/// A node, as the control API knows it.
pub(super) struct Controlled {
    pub(super) node: Node,
    pub(super) desk: Arc<Desk>,
    /// Those of the public listeners.
    pub(super) connections: Arc<Connections>,
    /// Where sessions pass through this server.
    pub(super) sessions: Option<Arc<dyn Source>>,
    /// Where this server keeps objects.
    pub(super) objects: Option<Arc<Objects>>,
}

impl Controlled {
    fn scope(&self, scope: Scope) -> Result<PurgeScope, PurgeRefused> {
        let rules = self.node.parts().rules.load();
        let regex_max_bytes = rules.settings.purge.regex_max_bytes;
        let refused =
            |refusal: crate::policy::PurgeRefusal| PurgeRefused::Pattern(refusal.to_string());
        match scope {
            Scope::All => Ok(PurgeScope::All),
            Scope::Tags(tags) => Ok(PurgeScope::Tags(tags)),
            Scope::Url { authority, target } => Ok(rules.policy.url_scope(&authority, &target)),
            Scope::Pattern(pattern) => parse_pattern(&pattern, regex_max_bytes).map_err(refused),
            Scope::Pool(pattern) => parse_pool(&pattern, regex_max_bytes).map_err(refused),
        }
    }
}

impl control::Node for Controlled {
    async fn purge(&self, order: PurgeOrder, wait: Wait) -> Result<Purged, PurgeRefused> {
        let request = PurgeRequest { scopes: vec![self.scope(order.scope)?], soft: order.soft };
        let answer = self.node.purge_everywhere(request, wait).await;
        let (purged, number) = (answer.purged.responses, answer.purged.number);
        Ok(Purged { purged, number, reach: answer.reach })
    }

    async fn fleet(&self) -> Option<Overview> {
        self.node.parts().fleet.overview().await
    }

    fn sessions(&self) -> Option<SessionFigures> {
        self.sessions.as_ref().map(|sessions| sessions.figures())
    }

    fn objects(&self) -> Option<Arc<Objects>> {
        self.objects.clone()
    }

    fn drain(&self) {
        self.desk.drain(&self.node.parts().readiness);
    }

    fn departure(&self) -> Departure {
        let settings = &self.node.parts().rules.load().settings;
        let lifecycle = &settings.lifecycle;
        let hands_on = self.node.parts().fleet.warm_figures().is_some();
        let leave_max = if hands_on { settings.fleet.warm.leave_max } else { Duration::ZERO };
        Departure {
            phase: self.node.parts().readiness.readiness().phase(),
            connections: self.connections.count(),
            at_most: lifecycle.drain.max(leave_max).saturating_add(lifecycle.deadline),
        }
    }

    fn maintenance(&self) -> Vec<&'static str> {
        self.node.parts().maintenance.causes()
    }

    fn set_maintenance(&self, is_on: bool) {
        self.node.parts().maintenance.set_by_command(is_on);
    }

    fn room(&self) -> waiting_room::Status {
        self.node.parts().room.status()
    }

    async fn switch_room(&self, is_on: Option<bool>) {
        self.node.parts().room.switch(is_on).await;
    }

    async fn clear_room(&self) {
        self.node.parts().room.clear().await;
    }

    fn restart(&self) -> Result<mpsc::Receiver<Bytes>, String> {
        self.desk.restart(&self.node.parts().readiness).map_err(|refused| refused.to_string())
    }

    fn readiness(&self) -> Readiness {
        self.node.parts().readiness.readiness()
    }

    fn metrics(&self, out: &mut String) {
        self.node.parts().observer.write_metrics(out);
    }

    fn stats(&self) -> serde_json::Value {
        self.node.parts().observer.stats()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.node.parts().rules.load().settings)
    }
}
