//! `[traffic]`: what clients may do, and how much of it.

use std::fmt;
use std::time::Duration;

use super::reader::Reader;
use super::{Networks, syntax};

/// `[traffic]`
#[derive(Clone, PartialEq)]
pub struct Traffic {
    /// Are requests judged at all?
    pub on: bool,
    /// Do all rules count alone, and decide nothing?
    pub dry_run: bool,
    /// Clients that limits remember at once; bounds their memory.
    pub accounts_max: usize,
    /// Signs what clients keep; empty: the fleet's, or one that this node makes.
    pub secret: String,
    /// What these have signed is opened as well, while a secret is replaced.
    pub earlier_secrets: Vec<String>,
    /// Parameters of a query that filter nothing, so that they are no facets; a `*` at the end stands
    /// for any rest.
    pub facets_besides: Vec<String>,
    /// Do the default rules follow those that are given?
    pub defaults: bool,
    /// The rules; the first that decides counts.
    pub rules: Vec<TrafficRule>,
    /// Default rules that do not follow, since a given one takes their place.
    pub replaced: Vec<Replaced>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            on: true,
            dry_run: false,
            accounts_max: 100_000,
            secret: String::new(),
            earlier_secrets: Vec::new(),
            facets_besides: super::default_rules::FACETS_BESIDES.map(str::to_owned).to_vec(),
            defaults: false,
            rules: super::default_rules::default_rules(),
            replaced: Vec::new(),
        }
    }
}

/// Without the secrets.
impl fmt::Debug for Traffic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Traffic")
            .field("on", &self.on)
            .field("dry_run", &self.dry_run)
            .field("accounts_max", &self.accounts_max)
            .field("facets_besides", &self.facets_besides)
            .field("defaults", &self.defaults)
            .field("rules", &self.rules)
            .field("replaced", &self.replaced)
            .finish_non_exhaustive()
    }
}

/// One of `[[traffic.rule]]`. All that is given has to match; of each list one entry, of `headers` one of
/// each header.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficRule {
    /// Its name in log, header and metrics: lower case letters, digits and `-`.
    pub name: String,
    /// Networks of the client; empty: all.
    pub from: Networks,
    /// Who asks.
    pub who: Vec<WhoKind>,
    /// Methods.
    pub methods: Vec<String>,
    /// Hosts, without port and in lower case; `*.` in front stands for all below.
    pub hosts: Vec<String>,
    /// Paths by whole segments, and all below, in any case; a `*` at the end of a segment stands for any
    /// rest of it.
    pub paths: Vec<String>,
    /// Parameters of the query of which one is there; a `*` at the end stands for any rest.
    pub query: Vec<String>,
    /// There is a parameter that is none of these.
    pub query_besides: Vec<String>,
    /// At least so many facets: parameters with a value besides `traffic.facets_besides`, and of a list
    /// of values each.
    pub facets_min: Option<u32>,
    /// Bytes of the query.
    pub query_length_min: Option<u32>,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// What is done.
    pub action: Action,
    /// Does it count alone, and decide nothing?
    pub dry_run: bool,
}

impl TrafficRule {
    /// Is it a limit on PHP's time alone, for who brings certain cookies? These are looked for when PHP is to be asked.
    pub fn asks_late(&self) -> bool {
        let is_of_cookies = |kind: &WhoKind| match kind {
            WhoKind::NewVisitor
            | WhoKind::Session
            | WhoKind::Stranger
            | WhoKind::Customer
            | WhoKind::Passed => true,
            WhoKind::Browser
            | WhoKind::Bot
            | WhoKind::VerifiedBot
            | WhoKind::UnverifiedBot
            | WhoKind::Impostor => false,
        };
        let is_of_php = matches!(&self.action, Action::Limit(limit) if limit.requests.is_none());
        is_of_php && self.who.iter().any(is_of_cookies)
    }
}

/// A default rule whose place a given one takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The default rule's name.
    pub name: String,
    /// The given one's: the same, or that of one which decides on all that the default rule matches.
    pub by: String,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhoKind {
    /// Does not say that it is a bot.
    Browser,
    /// Says that it is a bot, whatever is known of it.
    Bot,
    /// A bot that is the one it says.
    VerifiedBot,
    /// A bot of which it is not known whether it is the one it says.
    UnverifiedBot,
    /// Says that it is a bot which it is not, by what that bot's operator says.
    Impostor,
    /// Has no session's cookie, and does not say that it is a bot.
    NewVisitor,
    /// Has a session's cookie.
    Session,
    /// Has the cookie of a session that is none, and does not say that it is a bot: known where sessions pass through
    /// this server, once PHP is to be asked.
    Stranger,
    /// Is logged in, by the record of the session: known where sessions pass through this server, of
    /// those who were there a moment ago.
    Customer,
    /// Has solved a challenge.
    Passed,
}

impl WhoKind {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::Browser,
        Self::Bot,
        Self::VerifiedBot,
        Self::UnverifiedBot,
        Self::Impostor,
        Self::NewVisitor,
        Self::Session,
        Self::Stranger,
        Self::Customer,
        Self::Passed,
    ];

    /// The word in settings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Bot => "bot",
            Self::VerifiedBot => "verified-bot",
            Self::UnverifiedBot => "unverified-bot",
            Self::Impostor => "impostor",
            Self::NewVisitor => "new-visitor",
            Self::Session => "session",
            Self::Stranger => "stranger",
            Self::Customer => "customer",
            Self::Passed => "passed",
        }
    }
}

/// One of a rule's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// In lower case.
    pub name: String,
    /// What is asked of it.
    pub wants: HeaderWants,
}

/// What a rule asks of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderWants {
    /// It is there.
    Present,
    /// It is not.
    Absent,
    /// Its value has this text, which is in lower case, in any case.
    Contains(String),
}

/// What a rule does.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Action {
    /// The request goes on, and no further rule is asked.
    Allow,
    /// It is counted.
    #[default]
    Log,
    /// It counts against a limit.
    Limit(LimitRule),
    /// It gets what is stored, fresh or stale, and never PHP.
    Stored,
    /// Its client has to solve a challenge first.
    Challenge,
    /// It is refused.
    Refuse,
}

impl Action {
    /// The word in settings.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Log => "log",
            Self::Limit(_) => "limit",
            Self::Stored => "stored",
            Self::Challenge => "challenge",
            Self::Refuse => "refuse",
        }
    }
}

/// How much is let through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LimitRule {
    /// Requests.
    pub requests: Option<Rate>,
    /// Requests that may come at once; `None`: as many as `requests` says.
    pub burst: Option<u32>,
    /// Milliseconds of PHP. As many as this says may be used at once.
    pub php: Option<Rate>,
    /// Who shares an account.
    pub per: Per,
    /// Is it counted in Redis, for all nodes together? For slow things: it is asked for what goes to PHP
    /// alone.
    pub fleet: bool,
    /// The form field that names an account, which has a limit of its own then.
    pub field: Option<String>,
    /// Form fields of which one has to be filled in; other requests are not counted. With the fleet alone.
    pub forms: Vec<String>,
    /// GraphQL mutations of which the content has to name one; other requests are not counted. With the fleet
    /// alone.
    pub operations: Vec<String>,
    /// What becomes of what is beyond it.
    pub beyond: Beyond,
}

/// What becomes of a request beyond a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Beyond {
    /// 429, with the time when to come again.
    #[default]
    Wait,
    /// A challenge; who has passed goes on to the next rule. Who cannot be shown one has an account of its own, and
    /// beyond that what is stored.
    Challenge,
    /// What is stored, fresh or stale; else 429.
    Stored,
}

/// Who shares the account of a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// An IPv4 address, or an IPv6 /64.
    #[default]
    Address,
    /// An IPv4 /24, or an IPv6 /48.
    Network,
    /// A session; who has none is not counted.
    Session,
    /// All of one kind of client.
    Class,
    /// All whom the rule matches.
    Rule,
}

/// So much in each such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests, or milliseconds.
    pub amount: u32,
    /// The time.
    pub each: Duration,
}

/// Secrets before the one that signs: each takes an HMAC more for whatever is forged.
pub const EARLIER_SECRETS_MAX: usize = 3;

pub(super) fn read(reader: &mut Reader, traffic: &mut Traffic) {
    reader.switch("traffic.on", &mut traffic.on);
    reader.switch("traffic.dry_run", &mut traffic.dry_run);
    reader.number("traffic.accounts_max", &mut traffic.accounts_max, 1_000..=10_000_000);
    reader.secret("traffic.secret", &mut traffic.secret, &super::peers::SECRET);
    reader.secrets("traffic.earlier_secrets", &mut traffic.earlier_secrets, &super::peers::SECRET);
    if traffic.earlier_secrets.len() > EARLIER_SECRETS_MAX {
        let text = format!("has more than {EARLIER_SECRETS_MAX} secrets, each of which is tried");
        reader.conflict(&["traffic.earlier_secrets"], text);
    }
    reader.list("traffic.facets_besides", &mut traffic.facets_besides, &syntax::PARAMETER);
    reader.switch("traffic.defaults", &mut traffic.defaults);
    reader.traffic_rules("traffic.rule", traffic);
}
