//! What rules say of a request.

use std::sync::Arc;
use std::time::Duration;

use super::matching::Set;
use crate::reason::Reason;

/// What the rules said of a request before anything was asked.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Rules that match it, up to the one that decided.
    pub(super) matched: Set,
    /// Of them those to ask again before PHP is.
    pub(super) before_php: Set,
    /// Of these those that are to find out only then who asks, and may not match.
    pub(super) late: Set,
    /// It gets what is stored, and never PHP.
    pub(super) stored: Option<No>,
    /// It goes no further.
    pub(super) no: Option<No>,
}

impl Judged {
    /// Why it goes no further.
    pub fn no(&self) -> Option<&No> {
        self.no.as_ref()
    }

    /// Is nothing to be asked again before PHP is?
    pub fn goes_anywhere(&self) -> bool {
        self.before_php.is_empty() && self.stored.is_none()
    }

    /// Does no rule match it, whoever asks?
    pub fn has_matched_none(&self) -> bool {
        self.matched.is_empty() && self.late.is_empty()
    }
}

/// A rule's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct No {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What its client gets.
    pub denial: Denial,
    /// Was PHP's time used up, and not the number of requests?
    pub is_of_php: bool,
}

/// What a client gets in place of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// 403
    Refused,
    /// 429, and when to come again.
    Wait(Duration),
    /// A challenge.
    Challenge,
    /// What is stored; else 429, and when to come again, where that is known.
    Stored(Option<Duration>),
}

impl No {
    /// The word for log, metric and header.
    pub fn reason(&self) -> Reason {
        match self.denial {
            Denial::Refused => Reason::RuleRefused,
            Denial::Challenge => Reason::Challenge,
            Denial::Wait(_) | Denial::Stored(_) if self.is_of_php => Reason::RulePhp,
            Denial::Wait(_) => Reason::RuleLimited,
            Denial::Stored(_) => Reason::RuleStored,
        }
    }
}
