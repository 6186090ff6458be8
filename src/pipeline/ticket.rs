//! What a request shows at the door of PHP: its class, and how many wait with it.

use std::sync::Arc;

use super::Node;
use super::fetch::Hints;
use super::visit::Visit;
use crate::admission::{Classified, Facts, Followers, Ticket};
use crate::exchange::split_target;
use crate::origin::OriginRequest;
use crate::policy;
use crate::sessions::visitors::Class;
use crate::settings::VisitorKind;

impl Node {
    /// The ticket of a request to the origin; whose hints nobody wants is waited for by nobody. Who asks is looked up where its class depends on that, for
    /// `sessions.visitor_wait` at most.
    pub(super) async fn ticket(
        &self,
        visit: &Visit,
        request: &OriginRequest,
        hints: Hints,
        followers: Option<Followers>,
    ) -> Ticket {
        let waited_milliseconds = Arc::clone(&visit.queued_milliseconds);
        let classes = self.parts.origin.admission().classes();
        let (path, query) = split_target(&request.target);
        let user_agent = visit.request.fields.first("User-Agent");
        let facts = Facts {
            method: &request.method,
            path,
            query,
            user_agent: user_agent.map_or(&[], |agent| &agent[..]),
            is_refresh: hints == Hints::Unwanted,
        };
        let class = match classes.of(&facts) {
            Classified::Is(class) => class,
            Classified::DependsOnVisitor => {
                classes.of_visitor(&facts, self.visitor_kind(visit, &request.target).await)
            }
        };
        Ticket { class: Some(class), followers, waited_milliseconds }
    }

    /// Who asks; `None`: that cannot be told.
    async fn visitor_kind(&self, visit: &Visit, target: &[u8]) -> Option<VisitorKind> {
        let visitors = self.parts.visitors.get()?;
        if !self.parts.origin.runs(target) {
            return None;
        }
        let cookies = &visit.rules.settings.sessions.cookies;
        let Some(session) = policy::session_of(&visit.request.fields, cookies) else {
            return Some(VisitorKind::New);
        };
        match visitors.of(&session).await.class() {
            Class::Unknown => None,
            Class::New => Some(VisitorKind::New),
            Class::Guest => Some(VisitorKind::Guest),
            Class::Cart => Some(VisitorKind::Cart),
            Class::Customer => Some(VisitorKind::Customer),
            Class::Admin => Some(VisitorKind::Admin),
        }
    }
}
