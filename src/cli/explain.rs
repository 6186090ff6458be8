//! `explain`: what becomes of a request by the rules of `[traffic]`, and why. And what `check` says of these.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Version};

use super::CommandError;
use super::arguments::ExplainArguments;
use crate::body::Body;
use crate::clock::{Clock, Moment};
use crate::error_pages::ErrorPages;
use crate::exchange::{Beside, Client, Connection, Peer, Request, Scheme};
use crate::fields::Fields;
use crate::policy::{self, Plan, Policy};
use crate::settings::{self, Action, Beyond, LimitRule, Per, Rate, Settings, format_duration};
use crate::tokens::Signer;
use crate::traffic::bots::{Bot, Bots};
use crate::traffic::challenge::Challenge;
use crate::traffic::{Asked, Declared, Knows, Rules};

/// What is known of who asks without a server.
struct Who<'a> {
    bot: Bot,
    settings: &'a Settings,
    policy: &'a Policy,
    challenge: Challenge,
    request: &'a Request,
    client: &'a Client,
}

impl Knows for Who<'_> {
    fn declared(&self) -> Declared {
        match self.bot {
            Bot::No => Declared::Browser,
            Bot::Declared(_) => Declared::Unverified,
            Bot::Verified(_) => Declared::Verified,
            Bot::Impostor(_) => Declared::Impostor,
        }
    }

    fn session(&self) -> Option<Bytes> {
        policy::session_of(&self.request.fields, &self.settings.sessions.cookies)
    }

    fn is_stranger(&self, _: &[u8]) -> bool {
        false
    }

    fn is_customer(&self, _: &[u8]) -> bool {
        false
    }

    fn has_passed(&self) -> bool {
        let since = Clock::system().wall().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        self.challenge.passed(&self.request.fields, self.client.address, seconds)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.settings.listen.trusted.contains(address)
    }

    fn strips(&self, parameter: &[u8]) -> bool {
        self.policy.strips(parameter)
    }
}

fn wrong(what: &str) -> CommandError {
    CommandError::Unknowing(format!("parvis explain: {what}"))
}

fn request_of(arguments: &ExplainArguments) -> Result<(Request, Scheme), CommandError> {
    let (scheme, rest) = match arguments.url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        _ => return Err(wrong("--url begins with http:// or https://")),
    };
    let path_at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(path_at);
    let target = target.split('#').next().unwrap_or_default();
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let method: Method = arguments.method.parse().map_err(|_| wrong("--method is no method"))?;
    let mut fields = Fields::new();
    if !arguments.ua.is_empty() {
        fields.push("User-Agent", arguments.ua.clone());
    }
    for header in &arguments.header {
        let (name, value) =
            header.split_once(':').ok_or_else(|| wrong("--header is no \"name: value\""))?;
        fields.push(name.trim().to_owned(), value.trim().to_owned());
    }
    let request = Request {
        method,
        target: target.into(),
        authority: authority.to_owned().into(),
        version: Version::HTTP_11,
        fields,
        body: Body::empty(),
        connection: Connection { peer: Peer::Unix, local: None, tls: false },
        beside: Beside::default(),
    };
    Ok((request, scheme))
}

/// Goes through all rules with one request.
pub(super) fn explain(
    settings: &Settings,
    arguments: &ExplainArguments,
) -> Result<String, CommandError> {
    let (request, scheme) = request_of(arguments)?;
    let server_port = if scheme == Scheme::Https { 443 } else { 80 };
    let address = arguments.from.to_canonical();
    let hops = Vec::new();
    let client =
        Client { address, port: 0, scheme, server_port, trusted_peer: true, forged: false, hops };
    let policy = Policy::new(settings).map_err(CommandError::Unruly)?;
    let bots = Bots::new(&settings.bots, Clock::system())
        .map_err(|error| CommandError::Unknowing(format!("bots: {error}")))?;
    // As the server reads it: of several the first counts, and --ua stands before --header.
    let user_agent = request.fields.first("User-Agent").map_or(&b""[..], |agent| &agent[..]);
    let bot = bots.of(user_agent, address, Moment::default());
    // What a node has made for itself is not read: it may be another's file.
    let secrets = [&settings.traffic.secret, &settings.fleet.peers.secret];
    let secret = secrets.into_iter().find(|secret| !secret.is_empty());
    let signer = Signer::new(secret.map_or(&[], |secret| secret.as_bytes()));
    let earlier = &settings.traffic.earlier_secrets;
    let signer =
        earlier.iter().fold(signer, |signer, earlier| signer.also_opens(earlier.as_bytes()));
    let pages = std::sync::Arc::new(ErrorPages::default());
    let challenge = Challenge::new(&settings.challenge, std::sync::Arc::new(signer), pages);
    let plan = policy.plan(&request, &client);
    let who = Who { bot, settings, policy: &policy, challenge, request: &request, client: &client };
    let rules = Rules::new(&settings.traffic, None);
    let asked = Asked::new(&request, &client, &who);
    let mut text =
        format!("Plan: {}\nFrom: {address}, {}\n", plan_of(&plan), who_of(&asked, &who.bot));
    if asked.query.is_some() {
        let _ = writeln!(text, "Query: {} facets", rules.facets(&asked));
    }
    if !settings.traffic.on {
        text.push_str("traffic.on is false: no rule is asked.\n");
        return Ok(text);
    }
    if !plan.is_judged() {
        text.push_str("Such a request is not judged.\n");
        return Ok(text);
    }
    if settings.maintenance.allow.contains(address) {
        text.push_str("maintenance.allow has the address: it is not judged.\n");
        return Ok(text);
    }
    walk(&rules, &asked, &mut text);
    Ok(text)
}

/// Each rule up to the one that decides.
fn walk(rules: &Rules, asked: &Asked<'_>, text: &mut String) {
    for (place, rule) in rules.iter().enumerate() {
        let name = &rule.name;
        if let Some(condition) = rules.misses(place, asked) {
            let _ = writeln!(text, "  {name}: no ({condition})");
            continue;
        }
        let what = action(&rule.own.action);
        let dry = if rule.is_dry { ", counted alone (dry run)" } else { "" };
        let more = beside(&rule.own.action, asked);
        let _ = writeln!(text, "  {name}: yes: {what}{dry}{more}");
        let decides = match &rule.own.action {
            Action::Allow | Action::Refuse | Action::Stored => true,
            Action::Challenge => !asked.needs_no_challenge(),
            Action::Log | Action::Limit(_) => false,
        };
        if decides && !rule.is_dry {
            let _ = writeln!(text, "The rule {name} decides: {what}.");
            return;
        }
    }
    text.push_str(
        "No rule decides: it goes on, as long as the limits above have something left.\n",
    );
}

/// What of this request makes a rule do something else.
fn beside(action: &Action, asked: &Asked<'_>) -> &'static str {
    let is_challenge = match action {
        Action::Challenge => true,
        Action::Limit(limit) => {
            if matches!(limit.per, Per::Address | Per::Network) && asked.is_proxys() {
                return "; not counted: the address is a proxy's, and stands for many";
            }
            if limit.per == Per::Session && asked.session().is_none() {
                return "; not counted: there is no session";
            }
            limit.beyond == Beyond::Challenge
        }
        Action::Allow | Action::Log | Action::Stored | Action::Refuse => false,
    };
    if is_challenge && asked.needs_no_challenge() {
        return "; verified bots, and who has passed, go on";
    }
    ""
}

fn plan_of(plan: &Plan) -> String {
    match plan {
        Plan::Lookup(_) => "what is stored, else PHP".to_owned(),
        Plan::Pass(reason) => format!("PHP or a file ({})", reason.as_str()),
        Plan::Purge => "a purge".to_owned(),
        Plan::Health => "the health check".to_owned(),
        Plan::Maintenance => "the page of the maintenance".to_owned(),
        Plan::Refuse(refusal) => format!("refused ({refusal:?})"),
    }
}

fn who_of(asked: &Asked<'_>, bot: &Bot) -> String {
    let name = bot.id().map(|id| format!(" ({})", id.name())).unwrap_or_default();
    let declared = match asked.declared() {
        Declared::Browser => "does not say that it is a bot",
        Declared::Unverified => "a bot, not verified (DNS, which proves some, is not asked here)",
        Declared::Verified => "a verified bot",
        Declared::Impostor => "an impostor",
    };
    let session = if asked.session().is_some() { "with a session" } else { "without a session" };
    let passed = if asked.has_passed() { ", has passed a challenge" } else { "" };
    format!("{declared}{name}, {session}{passed}")
}

/// What a rule does, in words.
fn action(action: &Action) -> String {
    match action {
        Action::Allow => "it goes on, and no further rule is asked".to_owned(),
        Action::Log => "it is counted".to_owned(),
        Action::Limit(limit) => self::limit(limit),
        Action::Stored => "what is stored, and never PHP; else 429".to_owned(),
        Action::Challenge => "a challenge first".to_owned(),
        Action::Refuse => "403".to_owned(),
    }
}

fn limit(limit: &LimitRule) -> String {
    let mut parts = Vec::new();
    if let Some(Rate { amount, each }) = &limit.requests {
        parts.push(format!("{amount} requests in {}", format_duration(*each)));
    }
    if let Some(php) = &limit.php {
        let amount = format_duration(Duration::from_millis(u64::from(php.amount)));
        parts.push(format!("{amount} of PHP in {}", format_duration(php.each)));
    }
    let per = match limit.per {
        Per::Address => "an address",
        Per::Network => "a network",
        Per::Session => "a session",
        Per::Class => "a kind of client",
        Per::Rule => "all",
    };
    let fleet = if limit.fleet { " in the fleet" } else { "" };
    let beyond = match limit.beyond {
        Beyond::Wait => "429",
        Beyond::Challenge => "a challenge",
        Beyond::Stored => "what is stored, else 429",
    };
    format!("{} for {per}{fleet}; beyond: {beyond}", parts.join(" and "))
}

/// The rules as `check` shows them: the given ones, and the default ones where they are asked for.
pub(super) fn summary(traffic: &settings::Traffic, with_defaults: bool) -> String {
    if !traffic.on {
        return "judged by no rule".to_owned();
    }
    let mut defaults = settings::Traffic::default().rules;
    if with_defaults {
        defaults.clear();
    }
    let (hidden, shown): (Vec<_>, Vec<_>) =
        traffic.rules.iter().partition(|rule| defaults.contains(rule));
    let dry = |is_dry: bool| if is_dry || traffic.dry_run { " (dry run)" } else { "" };
    let (dry_all, said) = (dry(false), "parvis check --rules shows them");
    let mut lines = vec![match (shown.len(), hidden.len()) {
        (0, 0) => "no rules".to_owned(),
        (0, hidden) => format!("{hidden} default rules{dry_all}; {said}"),
        (shown, 0) => format!("{shown} rules, in this order"),
        (shown, hidden) => format!("{shown} given before {hidden} default rules{dry_all}; {said}"),
    }];
    for rule in shown {
        lines.push(format!("{}: {}{}", rule.name, action(&rule.action), dry(rule.dry_run)));
    }
    for one in &traffic.replaced {
        lines
            .push(format!("the default rule {} is left out: {} takes its place", one.name, one.by));
    }
    lines.join("\n           ")
}
