//! Who waits before the shop while it is full, and what that one gets.
//!
//! Asked where a request needs PHP, and before its limits are: who looks again and again uses nothing up. With
//! `waiting_room.hits = false` that is before all pages.

use std::time::Duration;

use http::{Method, StatusCode};

use super::visit::Visit;
use super::{Node, Outcome};
use crate::error_pages;
use crate::exchange::{Response, Scheme, split_target};
use crate::observe::Verdict;
use crate::policy;
use crate::policy::matching::{PathPattern, Segments};
use crate::random;
use crate::reason::Reason;
use crate::settings::{self, VisitorKind};
use crate::traffic::bots::Bot;
use crate::traffic::challenge::Challenge;
use crate::waiting_room::page::{self, Where};
use crate::waiting_room::{Answer, Holds};

/// What Magento keeps in the browser of who has done something in the shop.
const MAGENTO_COOKIES: [&str; 2] = ["private_content_version", "section_data_ids"];

/// A machine comes again after so long at the earliest.
const MACHINES_WAIT: Duration = Duration::from_mins(1);

/// Before which paths visitors wait.
pub struct RoomPaths {
    /// Empty: before all.
    paths: Vec<PathPattern>,
    /// And never before these.
    free: Vec<PathPattern>,
    /// In the form in which cookies are looked for.
    magento_cookies: [String; 2],
}

impl RoomPaths {
    /// Those of the settings.
    pub fn new(settings: &settings::WaitingRoom) -> Self {
        Self {
            paths: PathPattern::all(&settings.paths),
            free: PathPattern::all(&settings.free_paths),
            magento_cookies: MAGENTO_COOKIES.map(str::to_owned),
        }
    }

    fn have(&self, target: &[u8]) -> bool {
        let (path, _) = split_target(target);
        let segments = Segments::of(path);
        let is_one = |paths: &[PathPattern]| paths.iter().any(|path| segments.are_within(path));
        (self.paths.is_empty() || is_one(&self.paths)) && !is_one(&self.free)
    }
}

impl Node {
    /// Do visitors wait for what is stored, too?
    pub(super) fn keeps_hits_back(&self) -> bool {
        self.parts.room.is_on() && !self.parts.room.settings().hits
    }

    /// The page of the waiting room, or the word to a bot that it may come later; `None`: the request goes on.
    pub(super) async fn waits(&self, visit: &Visit) -> Option<Outcome> {
        let room = &self.parts.room;
        if !room.is_on() || visit.nesting.is_fragment() {
            return None;
        }
        let place = match room.judge(&visit.request.fields, self.unix_seconds()) {
            Holds::Admitted { renew } => {
                if let Some(cookie) = renew {
                    visit.keep_cookie(cookie);
                }
                return None;
            }
            Holds::Place(place) => Some(place),
            Holds::Nothing => None,
        };
        if !self.is_concerned(visit) {
            return None;
        }
        if self.is_bot(visit) {
            return Some(come_again(room.settings().refresh));
        }
        if !Challenge::can_show(&visit.request) || self.is_at_home(visit).await {
            return None;
        }
        match room.ask(place).await {
            Answer::Enter { cookie } => {
                visit.keep_cookie(cookie);
                None
            }
            Answer::Wait(mut standing) => {
                let is_in_line = place.is_some() || standing.cookie.is_some();
                let place = if is_in_line { Where::InLine } else { Where::Outside };
                standing.cookie = standing.cookie.map(|cookie| secured(visit, cookie));
                let (request, pages) = (&visit.request, &visit.rules.pages);
                let page = page::page(&standing, place, request, pages, random::number());
                Some(Outcome::new(page, Verdict::Refused, Some(Reason::Waiting)))
            }
        }
    }

    /// Is it for a page that the room is for, and not of the shop's own people? Forms, scripts and what a page consists of never wait.
    fn is_concerned(&self, visit: &Visit) -> bool {
        let Visit { request, client, rules, .. } = visit;
        let is_own = rules.settings.maintenance.allow.contains(client.address) && !client.forged;
        matches!(request.method, Method::GET | Method::HEAD)
            && !is_own
            && !error_pages::takes_json(&request.fields)
            && self.parts.origin.runs(&request.target)
            && rules.room_paths.have(&request.target)
    }

    /// Who has a cart or is a customer is in the shop. While sessions do not pass through this server, and where nothing is known of
    /// one, that shows by what Magento keeps in the browser alone.
    async fn is_at_home(&self, visit: &Visit) -> bool {
        let (fields, rules) = (&visit.request.fields, &visit.rules);
        let has = |cookies: &[String]| policy::session_of(fields, cookies).is_some();
        if !has(&rules.settings.sessions.cookies) {
            return false;
        }
        match self.visitor_kind(visit, &visit.request.target).await {
            Some(VisitorKind::Cart | VisitorKind::Customer | VisitorKind::Admin) => true,
            Some(VisitorKind::New | VisitorKind::Guest) => false,
            None => has(&rules.room_paths.magento_cookies),
        }
    }

    fn is_bot(&self, visit: &Visit) -> bool {
        let bot = self.bot_of(&visit.request, &visit.client, self.parts.clock.now());
        !matches!(bot, Bot::No)
    }
}

/// Gives the visitor the way in, or more time there, with a response that somebody worked for.
pub(super) fn keep_in(visit: &Visit, outcome: &mut Outcome) {
    let Some(cookie) = visit.kept_cookie() else { return };
    let fields = &mut outcome.response.fields;
    // What else is in it may be for all, the cookie is not.
    let is_private = fields.list("Cache-Control").any(|directive| {
        [&b"no-store"[..], b"private"].iter().any(|own| directive.eq_ignore_ascii_case(own))
    });
    if !is_private {
        fields.set("Cache-Control", "private, no-store");
    }
    fields.push_static("Set-Cookie", secured(visit, cookie.to_owned()));
}

fn secured(visit: &Visit, cookie: String) -> String {
    if visit.client.scheme == Scheme::Https { cookie + "; Secure" } else { cookie }
}

/// A place in the line is of no use to a machine.
fn come_again(refresh: Duration) -> Outcome {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = Response::text(status, "503 The shop is full. Please come again later.\n");
    response.fields.push_static("Cache-Control", "no-store");
    let after = refresh.max(MACHINES_WAIT).as_secs();
    response.fields.push_static("Retry-After", after.to_string());
    Outcome::new(response, Verdict::Refused, Some(Reason::Waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_wait_before_some_paths_and_never_before_the_checkout() {
        let all = RoomPaths::new(&settings::WaitingRoom::default());
        for target in ["/", "/women.html?p=2", "/catalogsearch/result?q=x", "/checkouts.html"] {
            assert!(all.have(target.as_bytes()), "{target}");
        }
        for target in ["/checkout/", "/de/checkout/cart/", "/paypal/ipn", "/admin_x/", "/rest/V1/x"]
        {
            assert!(!all.have(target.as_bytes()), "{target}");
        }
        let one = settings::WaitingRoom {
            paths: vec!["/limited".to_owned()],
            ..settings::WaitingRoom::default()
        };
        let one = RoomPaths::new(&one);
        assert!(one.have(b"/limited/shoe.html") && !one.have(b"/women.html"));
    }
}
