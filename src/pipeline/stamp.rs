//! What a response says of itself, and what is noted of it: one word for header, log and metric.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::visit::Visit;
use super::{Fetch, Node, Outcome};
use crate::exchange::Response;
use crate::fields::Fields;
use crate::observe::{Observation, Verdict};
use crate::reason::Reason;
use crate::settings::{DebugHeader, Site};

impl Node {
    /// Adds the debugging fields and ties the log record to the end of the delivery.
    pub(super) fn stamp(
        &self,
        visit: &Visit,
        mut outcome: Outcome,
        mut observation: Observation,
    ) -> Response {
        let site = &visit.rules.settings.site;
        self.dress(site, &mut outcome);
        let wants_debug = wants_debug(site, &outcome);
        let Outcome { mut response, verdict, reason, rule, .. } = outcome;
        observation.answer(response.status, verdict, reason);
        if let Some(rule) = rule {
            observation.rule(rule);
        }
        if matches!(verdict, Verdict::Miss | Verdict::HitForMiss | Verdict::Pass) {
            observation.first_byte(self.parts.clock.now().since(visit.started));
        }
        let queued = visit.queued_milliseconds.load(Ordering::Relaxed);
        if queued > 0 {
            observation.queued(Duration::from_millis(queued));
        }
        if let Some(class) = visit.class() {
            if wants_debug {
                response.fields.push_static("X-Parvis-Class", class.as_bytes().to_vec());
            }
            observation.class(Arc::clone(class));
        }
        response.completion = observation.into_completion();
        response
    }

    /// Adds the debugging fields.
    pub(super) fn dress(&self, site: &Site, outcome: &mut Outcome) {
        if site.cache_status
            && let Some(status) = cache_status(outcome)
        {
            outcome.response.fields.push_static("Cache-Status", status);
        }
        if wants_debug(site, outcome) {
            self.push_debug(&mut outcome.response.fields, outcome.verdict);
            if let Some(rule) = &outcome.rule {
                outcome.response.fields.push_static("X-Parvis-Rule", rule.to_string());
            }
        }
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

/// Does the client get the debugging fields?
fn wants_debug(site: &Site, outcome: &Outcome) -> bool {
    match site.debug_header {
        DebugHeader::Always => true,
        DebugHeader::Developer => outcome.debug,
        DebugHeader::Never => false,
    }
}

/// RFC 9211, with our own word as `detail`; `None` for answers that are no cache's.
fn cache_status(outcome: &Outcome) -> Option<String> {
    let answer = match (outcome.verdict, outcome.reason) {
        (Verdict::Hit | Verdict::Grace, _) => "parvis; hit",
        (Verdict::Pass, Some(Reason::Method)) => "parvis; fwd=method",
        (Verdict::Pass | Verdict::File, _) => "parvis; fwd=bypass",
        (Verdict::Miss, Some(Reason::Expired)) => "parvis; fwd=stale",
        (Verdict::Miss, Some(Reason::Forced)) => "parvis; fwd=request",
        (Verdict::Miss, _) => "parvis; fwd=uri-miss",
        (Verdict::HitForMiss | Verdict::Failed, _) => "parvis; fwd=miss",
        // Neither a hit nor forwarded.
        (Verdict::Refused, Some(Reason::Waiting)) => "parvis",
        (Verdict::Refused, Some(reason)) if reason.is_of_rule() => "parvis",
        _ => return None,
    };
    let validated = if outcome.fetch == Fetch::Validated { "; fwd-status=304" } else { "" };
    let is_being_stored = outcome.stored && outcome.verdict == Verdict::Miss;
    let stored = if is_being_stored { "; stored" } else { "" };
    let mut digits = itoa::Buffer::new();
    let ttl = match outcome.ttl_seconds {
        Some(ttl) => ["; ttl=", digits.format(ttl)],
        None => [""; 2],
    };
    let detail = match (outcome.reason, outcome.verdict, outcome.fetch) {
        (Some(reason), ..) => ["; detail=", reason.as_str()],
        (None, Verdict::Grace, _) => ["; detail=", "grace"],
        (None, _, Fetch::Collapsed) => ["; detail=", "collapsed"],
        _ => [""; 2],
    };
    // In one allocation of the right size.
    Some([answer, validated, stored, ttl[0], ttl[1], detail[0], detail[1]].concat())
}
