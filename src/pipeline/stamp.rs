//! What a response says of itself, and what is noted of it: one word for header, log and metric.

use std::fmt::Write as _;

use super::visit::Visit;
use super::{Fetch, Node, Outcome};
use crate::exchange::Response;
use crate::fields::Fields;
use crate::observe::{Observation, Verdict};
use crate::reason::Reason;
use crate::settings::DebugHeader;

impl Node {
    /// Adds the debugging fields and ties the log record to the end of the delivery.
    pub(super) fn stamp(
        &self,
        visit: &Visit,
        outcome: Outcome,
        mut observation: Observation,
    ) -> Response {
        let site = &visit.rules.settings.site;
        let wants_debug = match site.debug_header {
            DebugHeader::Always => true,
            DebugHeader::Developer => outcome.debug,
            DebugHeader::Never => false,
        };
        let status = site.cache_status.then(|| cache_status(&outcome)).flatten();
        let Outcome { mut response, verdict, reason, .. } = outcome;
        if let Some(status) = status {
            response.fields.push_static("Cache-Status", status);
        }
        if wants_debug {
            self.push_debug(&mut response.fields, verdict);
        }
        observation.answer(response.status, verdict, reason);
        if matches!(verdict, Verdict::Miss | Verdict::HitForMiss | Verdict::Pass) {
            observation.first_byte(self.parts.clock.now().since(visit.started));
        }
        response.completion = observation.into_completion();
        response
    }

    /// As `varnish7.vcl vcl_deliver`.
    fn push_debug(&self, fields: &mut Fields, verdict: Verdict) {
        let word = match verdict {
            Verdict::Hit | Verdict::Grace => "HIT",
            Verdict::Miss => "MISS",
            _ => "UNCACHEABLE",
        };
        fields.push_static("X-Magento-Cache-Debug", word);
        if verdict == Verdict::Grace {
            let healthy = self.parts.origin.health().healthy();
            let grace =
                if healthy { "normal(healthy server)" } else { "unlimited(unhealthy server)" };
            fields.push_static("Grace", grace);
        }
    }
}

/// RFC 9211, with our own word as `detail`; `None` for answers that are no cache's.
fn cache_status(outcome: &Outcome) -> Option<String> {
    let mut text = String::with_capacity(64);
    text.push_str("parvis; ");
    text.push_str(match (outcome.verdict, outcome.reason) {
        (Verdict::Hit | Verdict::Grace, _) => "hit",
        (Verdict::Pass, Some(Reason::Method)) => "fwd=method",
        (Verdict::Pass | Verdict::File, _) => "fwd=bypass",
        (Verdict::Miss, Some(Reason::Expired)) => "fwd=stale",
        (Verdict::Miss, Some(Reason::Forced)) => "fwd=request",
        (Verdict::Miss, _) => "fwd=uri-miss",
        (Verdict::HitForMiss | Verdict::Failed, _) => "fwd=miss",
        _ => return None,
    });
    if outcome.fetch == Fetch::Validated {
        text.push_str("; fwd-status=304");
    }
    if outcome.stored && outcome.verdict == Verdict::Miss {
        text.push_str("; stored");
    }
    if let Some(ttl) = outcome.ttl_seconds {
        let _ = write!(text, "; ttl={ttl}");
    }
    if let Some(reason) = outcome.reason {
        let _ = write!(text, "; detail={}", reason.as_str());
    } else if outcome.verdict == Verdict::Grace {
        text.push_str("; detail=grace");
    } else if outcome.fetch == Fetch::Collapsed {
        text.push_str("; detail=collapsed");
    }
    Some(text)
}
