//! A request that offers to leave HTTP on its connection (RFC 9110 7.8).

use std::sync::Arc;

use http::StatusCode;

use super::answer::origin_failure;
use super::fetch::Hints;
use super::visit::Visit;
use super::{Node, Outcome};
use crate::body::{Body, Spooled};
use crate::exchange::Response;
use crate::observe::Verdict;
use crate::origin::Switched;
use crate::policy::{Plan, Purpose};
use crate::reason::Reason;

/// Is the request to be asked for at the origin with its offer? What is refused, a purge or the
/// health check is answered here as ever.
pub(super) fn is_offered(node: &Node, visit: &Visit, plan: &Plan) -> bool {
    visit.request.beside.upgrade.is_some()
        && matches!(plan, Plan::Lookup(_) | Plan::Pass(_))
        && node.parts.origin.can_switch()
}

impl Node {
    /// Passes the request with its offer. After the origin's 101 the listener joins the two
    /// connections; any other answer is a response as to every pass.
    pub(super) async fn switch(&self, visit: &Arc<Visit>) -> Outcome {
        let (method, target) = (visit.request.method.clone(), &visit.request.target);
        let mut request = visit.for_origin(method, target, Purpose::Pass, Spooled::default());
        request.ticket = self.ticket(visit, &request, Hints::ToClient).await;
        let charging = self.charging(visit);
        let switched = self.parts.origin.switch(&request).await;
        drop(charging);
        match switched {
            Ok(Switched::Response(response)) => {
                self.deliver_private(visit, response, Verdict::Pass, Reason::Upgrade).await
            }
            Ok(Switched::Tunnel { mut fields, tunnel }) => {
                let hidden = visit.rules.policy.hidden_fields();
                fields.retain(|field| !hidden.iter().any(|name| field.is(name)));
                let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS, Body::empty());
                response.fields = fields;
                response.tunnel = Some(tunnel);
                Outcome::new(response, Verdict::Pass, Some(Reason::Upgrade))
            }
            Err(error) => origin_failure(&error),
        }
    }
}
