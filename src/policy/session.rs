//! Whose session PHP gets for a request, where its response is nobody's own.
//!
//! A page that all visitors share is rendered as a guest sees it. With the session of the one who
//! happens to ask first, it would have to wait for the lock of that session, and others with it. So PHP
//! gets such a request without the visitor's session, and if the response turns out to be for
//! one visitor after all, is asked again with it.

use http::{Method, StatusCode};

use super::matching::AnyText;
use super::{LookupPlan, Policy, cookies};
use crate::exchange::Request;
use crate::fields::Fields;
use crate::reason::Reason;
use crate::settings::{self, PolicyKind};

/// What of `[sessions]` the rules need.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    cookies: Vec<String>,
    fills_without: bool,
    refuses_bots: bool,
    bot_agents: AnyText,
    /// Can PHP be given a session that keeps nothing?
    has_throwaway: bool,
}

impl Sessions {
    pub(super) fn new(settings: &settings::Settings) -> Self {
        let sessions = &settings.sessions;
        let magento = settings.site.policy == PolicyKind::Magento;
        let has_throwaway = sessions.listen.is_some();
        // What is in the key must reach PHP.
        let keyed = sessions.cookies.iter().any(|name| settings.site.key_cookies.contains(name));
        Self {
            cookies: sessions.cookies.clone(),
            fills_without: magento && !keyed && sessions.fill_cookie != settings::FillCookie::Keep,
            refuses_bots: has_throwaway && sessions.bots == settings::Bots::None,
            bot_agents: AnyText::new(&sessions.bot_agents),
            has_throwaway,
        }
    }

    /// The cookie of the storefront's sessions.
    fn storefront(&self) -> Option<&String> {
        self.cookies.last()
    }

    /// The name of the cookie that names the request's session.
    fn named_by(&self, request: &Request) -> Option<&String> {
        let has =
            |name: &&String| cookies::pairs(&request.fields).any(|(own, _)| own == name.as_bytes());
        self.cookies.iter().find(has)
    }

    fn names_a_session(&self, name: &[u8]) -> bool {
        self.cookies.iter().any(|own| own.as_bytes() == name)
    }
}

impl Policy {
    /// May a fill for this request go to PHP without the visitor's session? Not with an
    /// X-Magento-Vary, whose variant PHP can render by the session alone, nor with a session of the
    /// administration, whose pages nobody shares.
    pub fn fills_without_session(&self, request: &Request, plan: &LookupPlan) -> bool {
        let sessions = &self.sessions;
        let is_guests = plan.magento_vary.is_empty()
            && plan.graphql_cache_id.is_none()
            && !plan.authorized
            && plan.range.is_none();
        if !sessions.fills_without || !is_guests {
            return false;
        }
        match sessions.named_by(request) {
            None => sessions.has_throwaway,
            some => some == sessions.storefront(),
        }
    }

    /// Does it say that it is a bot's, and name no session? Who has one is a visitor: some browsers' names
    /// look like a bot's. `names_one`: whether a User-Agent has a bot's name, by the data of bots; what
    /// `sessions.bot_agents` adds counts as well.
    pub fn is_declared_bot(
        &self,
        request: &Request,
        names_one: impl FnOnce(&[u8]) -> bool,
    ) -> bool {
        let Some(agent) = request.fields.first("user-agent") else { return false };
        self.sessions.named_by(request).is_none()
            && (self.sessions.bot_agents.is_in(agent) || names_one(agent))
    }

    /// Is it a declared bot's, for which no session is to be created? Whoever gets one by a POST is
    /// treated as a visitor, too.
    pub fn is_sessionless_bot(
        &self,
        request: &Request,
        names_one: impl FnOnce(&[u8]) -> bool,
    ) -> bool {
        self.sessions.refuses_bots
            && matches!(request.method, Method::GET | Method::HEAD)
            && self.is_declared_bot(request, names_one)
    }

    /// Was it refused to be shared for something that the visitor's session may decide?
    pub fn may_be_of_visitor(&self, status: StatusCode, reason: Reason) -> bool {
        let by_session = matches!(
            reason,
            Reason::Private
                | Reason::NoStore
                | Reason::NoCache
                | Reason::NoLifetime
                | Reason::MagentoVary
                | Reason::Status
        );
        by_session && status.as_u16() < 400
    }

    /// Takes the visitor's session out of what PHP gets, and puts this id in its place.
    pub fn replace_session(&self, fields: &mut Fields, id: Option<&str>) {
        let sessions = &self.sessions;
        let mut line = Vec::new();
        let mut push = |name: &[u8], value: &[u8]| {
            if !line.is_empty() {
                line.extend_from_slice(b"; ");
            }
            line.extend_from_slice(name);
            line.push(b'=');
            line.extend_from_slice(value);
        };
        if let (Some(id), Some(name)) = (id, sessions.storefront()) {
            push(name.as_bytes(), id.as_bytes());
        }
        for (name, value) in cookies::pairs(fields) {
            if !sessions.names_a_session(name) {
                push(name, value);
            }
        }
        fields.remove("cookie");
        if !line.is_empty() {
            fields.push_static("Cookie", line);
        }
    }

    /// Takes the cookies of sessions out of what a client gets.
    pub fn drop_session_cookies(&self, fields: &mut Fields) {
        let sets_session = |line: &[u8]| {
            let name = line.split(|byte| *byte == b'=').next().unwrap_or_default();
            self.sessions.names_a_session(name.trim_ascii())
        };
        fields.retain(|field| !field.is("set-cookie") || !sets_session(&field.value));
    }
}
