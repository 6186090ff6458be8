//! A request's turn in its session, before it goes to PHP.
//!
//! Who passes, or fetches for itself alone, waits in line. A fill that others may join does not: it is
//! given up, its request waits before those of the visitor alone, and who followed it looks again. So
//! nobody waits behind another's session. A refresh that nobody waits for does not begin.
//!
//! A fragment is part of its page, which may be under way in the same session: it does not wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;

use super::Node;
use super::visit::Visit;
use crate::exchange::split_target;
use crate::fields::Fields;
use crate::origin::{OriginError, OriginRequest, OriginResponse};
use crate::policy::{self, LookupPlan};
use crate::reason::Reason;
use crate::sessions::gate::{Gate, Kind, Pass, Refused};

/// How a request comes to its turn.
pub(super) enum Turn {
    /// By waiting.
    InLine(Kind),
    /// At once or not at all.
    IfFree,
    /// It has waited.
    Has(Pass),
}

impl Turn {
    /// A fill has waited for its turn, or takes none that it would have to wait for.
    pub(super) fn of_fill(pass: Option<Pass>) -> Self {
        pass.map_or(Self::IfFree, Self::Has)
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum NotFetched {
    /// The origin gave none.
    Origin(OriginError),
    /// Its turn did not come.
    Refused(Refused),
    /// It is not its turn, and it did not wait for it.
    MustWait,
}

impl NotFetched {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Origin(error) => error.reason(),
            Self::Refused(_) | Self::MustWait => Reason::SessionBusy,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Origin(error) => error.status(),
            Self::Refused(Refused::Full) => StatusCode::TOO_MANY_REQUESTS,
            Self::Refused(Refused::TooLong) | Self::MustWait => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Node {
    /// Asks the origin when it is the request's turn. The turn ends with the response. It is held while the
    /// request waits for a place in PHP, where whoever waits behind it makes it as urgent as they are.
    pub(super) async fn fetch_in_turn(
        &self,
        visit: &Visit,
        mut request: OriginRequest,
        turn: Turn,
    ) -> Result<OriginResponse, NotFetched> {
        let session = self.session(visit, &request.fields, &request.target);
        if let (Some((_, session)), Some(visitors)) = (&session, self.parts.visitors.get()) {
            visitors.count(session);
        }
        let pass = match (turn, session) {
            (Turn::Has(pass), _) => Some(pass),
            (_, None) => None,
            (Turn::InLine(kind), Some((gate, session))) => {
                let urgency = self.urgency(&request.ticket);
                Some(self.wait_in_line(visit, gate, &session, (kind, urgency)).await?)
            }
            (Turn::IfFree, Some((gate, session))) => {
                Some(gate.try_enter(&session).ok_or(NotFetched::MustWait)?)
            }
        };
        request.ticket.turn = pass.as_ref().map(Pass::turn);
        let charging = self.charging(visit);
        let mut response = self.parts.origin.fetch(&request).await.map_err(NotFetched::Origin)?;
        drop(charging);
        if let Some(pass) = pass {
            response.body = response.body.holding(pass);
        }
        Ok(response)
    }

    /// Waits for the turn of a request that is to fetch what may be stored.
    pub(super) async fn turn_of_fill(
        &self,
        visit: &Visit,
        plan: &LookupPlan,
        kind: Kind,
    ) -> Result<Option<Pass>, NotFetched> {
        let request = &visit.request;
        let Some((gate, session)) = self.session(visit, &request.fields, &request.target) else {
            return Ok(None);
        };
        let urgency = self.wants(visit, plan);
        self.wait_in_line(visit, gate, &session, (kind, urgency)).await.map(Some)
    }

    async fn wait_in_line(
        &self,
        visit: &Visit,
        gate: &Arc<Gate>,
        session: &[u8],
        (kind, urgency): (Kind, usize),
    ) -> Result<Pass, NotFetched> {
        let began = self.parts.clock.now();
        let entered = gate.enter(session, kind, urgency).await;
        let waited = self.parts.clock.now().since(began).as_millis();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        visit.queued_milliseconds.fetch_add(waited, Ordering::Relaxed);
        entered.map_err(NotFetched::Refused)
    }

    /// The session whose lock PHP will take for a request with these fields.
    fn session(
        &self,
        visit: &Visit,
        fields: &Fields,
        target: &[u8],
    ) -> Option<(&Arc<Gate>, Bytes)> {
        let gate = self.parts.session_gate.as_ref()?;
        let settings = &visit.rules.settings.sessions;
        let (path, _) = split_target(target);
        let takes_none = |prefix: &String| {
            path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        };
        if visit.nesting.is_fragment() || settings.lockless_paths.iter().any(takes_none) {
            return None;
        }
        let session = policy::session_of(fields, &settings.cookies)?;
        self.parts.origin.runs(target).then_some((gate, session))
    }
}
