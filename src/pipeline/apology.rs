//! What a client gets in place of a response, and the shop that is being worked on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::visit::Visit;
use super::{Outcome, Rules};
use crate::body::Body;
use crate::error_pages::{Facts, Kind};
use crate::exchange::Client;
use crate::observe::Verdict;
use crate::policy::Plan;
use crate::reason::Reason;

/// Is the shop being worked on?
#[derive(Debug, Default)]
pub struct Maintenance {
    /// One of the three below.
    is_on: AtomicBool,
    by_settings: AtomicBool,
    by_command: AtomicBool,
    by_flag: AtomicBool,
}

impl Maintenance {
    /// As the settings have it.
    pub fn new(by_settings: bool) -> Self {
        let maintenance = Self::default();
        maintenance.set_by_settings(by_settings);
        maintenance
    }

    /// Is it?
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// `maintenance.on`
    pub fn set_by_settings(&self, is_on: bool) {
        self.by_settings.store(is_on, Ordering::Relaxed);
        self.sum_up();
    }

    /// `parvis maintenance`
    pub fn set_by_command(&self, is_on: bool) {
        self.by_command.store(is_on, Ordering::Relaxed);
        self.sum_up();
    }

    /// Has the command switched it on?
    pub fn is_by_command(&self) -> bool {
        self.by_command.load(Ordering::Relaxed)
    }

    fn set_by_flag(&self, is_on: bool) {
        self.by_flag.store(is_on, Ordering::Relaxed);
        self.sum_up();
    }

    /// Looks for `maintenance.flag`; empty: there is none.
    pub fn look_for(&self, flag: &Path) {
        self.set_by_flag(!flag.as_os_str().is_empty() && flag.exists());
    }

    /// What has switched it on.
    pub fn causes(&self) -> Vec<&'static str> {
        let causes = [
            (&self.by_settings, "maintenance.on"),
            (&self.by_command, "command"),
            (&self.by_flag, "maintenance.flag"),
        ];
        let on = causes.into_iter().filter(|(is_on, _)| is_on.load(Ordering::Relaxed));
        on.map(|(_, cause)| cause).collect()
    }

    fn sum_up(&self) {
        let is_on = !self.causes().is_empty();
        if self.is_on.swap(is_on, Ordering::Relaxed) != is_on {
            tracing::warn!(is_on, "maintenance");
        }
    }

    /// Does a client get files, and nothing that PHP would have to make?
    pub(super) fn leaves_files_alone(&self, visit: &Visit, reason: Reason) -> bool {
        self.is_on() && reason == Reason::StaticFile && !is_allowed(&visit.rules, &visit.client)
    }

    /// The plan of a request while the shop is being worked on.
    pub(super) fn plan(rules: &Rules, client: &Client, plan: Plan) -> Plan {
        match plan {
            Plan::Lookup(_) | Plan::Pass(_) => {
                // A load balancer that heard of it by its check would take all nodes away, and this page with them.
                let is_own = matches!(plan, Plan::Pass(Reason::StaticFile | Reason::HealthCheck));
                let passes = is_own || is_allowed(rules, client);
                if passes { plan } else { Plan::Maintenance }
            }
            Plan::Purge | Plan::Health | Plan::Maintenance | Plan::Refuse(_) => plan,
        }
    }
}

/// Does a client get the shop while it is being worked on? Who is behind a hop that is not trusted may be anybody.
fn is_allowed(rules: &Rules, client: &Client) -> bool {
    rules.settings.maintenance.allow.contains(client.address) && !client.forged
}

/// Puts a page in place of the plain text of a failure, where the client takes one.
pub(super) fn apologise(visit: &Visit, outcome: &mut Outcome) {
    let (status, reason) = (outcome.response.status, outcome.reason);
    let (Verdict::Failed | Verdict::Refused, Some(kind)) =
        (outcome.verdict, Kind::of(status, reason))
    else {
        return;
    };
    let settings = &visit.rules.settings;
    let fields = &mut outcome.response.fields;
    let retry_after = match kind {
        Kind::Unavailable => Some(settings.error_pages.retry_after),
        Kind::Maintenance => Some(settings.maintenance.retry_after),
        Kind::BadGateway | Kind::Timeout | Kind::Forbidden | Kind::TooMany => None,
    };
    if let Some(after) = retry_after {
        fields.set("Retry-After", after.as_secs().to_string());
    }
    let retry_after_seconds = fields.first_str("Retry-After").and_then(|text| text.parse().ok());
    let host = visit.request.authority.split(|byte| *byte == b':').next().unwrap_or_default();
    let facts = Facts { status, reason, retry_after_seconds };
    let page = visit.rules.pages.page(kind, host, &visit.request.fields, facts);
    if let Some(page) = page {
        fields.set("Content-Type", page.content_type);
        fields.push_static(
            "Vary",
            "Accept, Accept-Language, Content-Type, Sec-Fetch-Dest, X-Requested-With",
        );
        if let Some(language) = page.language {
            fields.push_static("Content-Language", language);
        }
        outcome.response.body = Body::from(page.content);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_on_while_one_of_three_says_so() {
        let maintenance = Maintenance::new(false);
        assert!(!maintenance.is_on());
        maintenance.set_by_flag(true);
        maintenance.set_by_command(true);
        maintenance.set_by_flag(false);
        assert!(maintenance.is_on());
        assert_eq!(maintenance.causes(), ["command"]);
        maintenance.set_by_command(false);
        assert!(!maintenance.is_on());
        assert!(Maintenance::new(true).is_on());
    }
}
