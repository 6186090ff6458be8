//! What the control API sees of a node.

use std::sync::Arc;

use crate::control::{self, PurgeOrder, PurgeRefused, Purged, Scope};
use crate::fleet::{Overview, Wait};
use crate::observe::Readiness;
use crate::pipeline::Node;
use crate::policy::{PurgeRequest, PurgeScope, parse_pattern, parse_pool};
use crate::settings::Settings;

/// A node, as the control API knows it.
pub(super) struct Controlled(pub(super) Node);

impl Controlled {
    fn scope(&self, scope: Scope) -> Result<PurgeScope, PurgeRefused> {
        let rules = self.0.parts().rules.load();
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
        let answer = self.0.parts().fleet.purge(&request, wait).await;
        let (purged, number) = (answer.purged.responses, answer.purged.number);
        Ok(Purged { purged, number, reach: answer.reach })
    }

    async fn fleet(&self) -> Option<Overview> {
        self.0.parts().fleet.overview().await
    }

    fn readiness(&self) -> Readiness {
        self.0.parts().readiness.readiness()
    }

    fn metrics(&self, out: &mut String) {
        self.0.parts().observer.write_metrics(out);
    }

    fn stats(&self) -> serde_json::Value {
        self.0.parts().observer.stats()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.0.parts().rules.load().settings)
    }
}
