//! The rules, as pure functions: request -> [`Plan`], response -> [`Judgement`].
//!
//! Nothing here does I/O, awaits or reads a clock. [`Policy`] holds the settings in compiled form;
//! `magento` and `generic` hold the two sets of rules, the other submodules what both use.

pub mod cache_control;
mod cache_key;
pub mod client;
mod compile;
pub mod completion;
mod cookies;
mod delivered;
mod error;
mod freshness;
mod generic;
mod host;
mod magento;
pub mod matching;
mod origin_fields;
mod path;
mod peer_fields;
mod plan;
pub mod purge;
mod query;
mod seen;
mod session;
mod tags;
mod targeted;
#[cfg(test)]
mod tests;
mod unsafe_methods;
pub mod validation;
mod vary;

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::{Method, StatusCode};
use regex::bytes::Regex;

use crate::exchange::{Client, Request, split_target};
use crate::fields::Fields;
use crate::reason::Reason;
use crate::settings::{self, PolicyKind, Settings, UnknownMethods};

pub use cache_key::CacheKey;
pub use cookies::session_of;
pub use error::PolicyError;
pub use peer_fields::PeerRequest;
pub use plan::{Delivery, Judgement, LookupPlan, OriginHead, Plan, Purpose, Refusal, Storable};
pub use purge::{
    PurgeRefusal, PurgeRequest, PurgeScope, PurgeText, parse_pattern, parse_pool, parse_tags_regex,
};
pub use vary::{Vary, favourite_language, language_of};

use cache_key::{KeyBuilder, Part};
use compile::Lifetime;
use host::Hosts;
use path::Run;
use query::{Canonical, Parameters};
use seen::Seen;
use session::Sessions;

/// The rules of a site, compiled from its settings.
#[derive(Clone, Debug)]
pub struct Policy {
    site: settings::Site,
    purge: settings::Purge,
    health_path: String,
    unknown_methods: UnknownMethods,
    store_on: bool,
    /// Pages come from PHP in identity, since they are taken apart or compressed here.
    identity_pages: bool,
    tags_max: usize,
    /// `store.grace`
    grace: Duration,
    /// `store.keep`
    keep: Duration,
    hosts: Hosts,
    bypass_paths: Vec<Run>,
    parameters: Parameters,
    design_exceptions: Vec<Regex>,
    lifetimes: Vec<Lifetime>,
    sessions: Sessions,
}

/// What a plan is made for.
struct Subject<'a> {
    request: &'a Request,
    /// The request's own, or that of a fragment of its page.
    target: &'a Bytes,
    path: &'a [u8],
    query: Option<&'a [u8]>,
    client: &'a Client,
    seen: Seen<'a>,
}

impl<'a> Subject<'a> {
    fn new(request: &'a Request, target: &'a Bytes, client: &'a Client, seen: Seen<'a>) -> Self {
        let (path, query) = split_target(target);
        Self { request, target, path, query, client, seen }
    }
}

impl Policy {
    /// Compiles the settings; says all that is wrong with them.
    pub fn new(settings: &Settings) -> Result<Self, Vec<PolicyError>> {
        let site = &settings.site;
        let magento = site.policy == PolicyKind::Magento;
        let mut errors = Vec::new();
        let policy = Self {
            purge: settings.purge.clone(),
            health_path: settings.health.path.clone(),
            unknown_methods: settings.listen.unknown_methods,
            store_on: settings.store.memory_bytes > 0,
            identity_pages: (magento && settings.esi.enabled)
                || settings.encoding.gzip
                || settings.encoding.brotli
                || settings.encoding.zstd,
            tags_max: settings.store.tags_max,
            grace: settings.store.grace,
            keep: settings.store.keep,
            hosts: Hosts::new(&site.hosts, &mut errors),
            bypass_paths: compile::bypass_paths(site, magento, &mut errors),
            parameters: Parameters::new(magento, &site.strip_parameters, &mut errors),
            design_exceptions: compile::design_exceptions(&site.design_exceptions, &mut errors),
            lifetimes: compile::lifetimes(&site.ttl, &mut errors),
            sessions: Sessions::new(settings),
            site: site.clone(),
        };
        compile::check_headers("site.key_headers", &site.key_headers, &mut errors);
        compile::check_headers("site.forward_headers", &site.forward_headers, &mut errors);
        compile::check_names("site.key_cookies", &site.key_cookies, &mut errors);
        compile::check_names("site.bypass_cookies", &site.bypass_cookies, &mut errors);
        if errors.is_empty() { Ok(policy) } else { Err(errors) }
    }

    /// What to do with a request.
    pub fn plan(&self, request: &Request, client: &Client) -> Plan {
        let seen = Seen::of(request);
        self.plan_subject(&Subject::new(request, &request.target, client, seen))
    }

    /// What to do about a fragment of the page that was asked for: a GET for `target` with the
    /// fields of that request, but for its Range.
    pub fn plan_fragment(&self, request: &Request, target: &Bytes, client: &Client) -> Plan {
        let seen = Seen { range: None, ..Seen::of(request) };
        self.plan_subject(&Subject::new(request, target, client, seen))
    }

    fn plan_subject(&self, subject: &Subject<'_>) -> Plan {
        if let Some(plan) = self.plan_before_the_site(subject) {
            return plan;
        }
        if !self.hosts.serve(subject.seen.host) {
            return Plan::Refuse(Refusal::MisdirectedHost);
        }
        let method = &subject.request.method;
        if !is_known(method) && self.unknown_methods == UnknownMethods::Refuse {
            return Plan::Refuse(Refusal::UnknownMethod);
        }
        if method != Method::GET && method != Method::HEAD {
            return Plan::Pass(Reason::Method);
        }
        match self.site.policy {
            PolicyKind::Magento => magento::plan(self, subject),
            PolicyKind::Generic => generic::plan(self, subject),
        }
    }

    /// May the response to a lookup be stored? `received_at` is the wall clock when its head came:
    /// it stands in for a missing Date, and in the generic policy gives the age (RFC 9111 4.2.3).
    pub fn judge(
        &self,
        plan: &LookupPlan,
        head: &OriginHead,
        received_at: SystemTime,
    ) -> Judgement {
        let storable = match self.site.policy {
            PolicyKind::Magento => magento::storable(self, plan, head, received_at),
            PolicyKind::Generic => generic::storable(self, plan, head, received_at),
        };
        match storable {
            Ok(storable) => Judgement::Store(storable),
            Err(reason) => {
                let remember = self.remembered(plan, reason);
                Judgement::Uncacheable { reason, remember }
            }
        }
    }

    /// The fields that the origin gets, Host included. A Content-Length is only what the client
    /// said: the origin's connection frames the content anew.
    ///
    /// `target` is what the origin is asked for: the plan's for a fill, the request's for a pass.
    /// Use [`Purpose::Fill`] wherever the response may be stored or shared.
    pub fn origin_request(
        &self,
        request: &Request,
        client: &Client,
        target: &Bytes,
        purpose: Purpose,
    ) -> Fields {
        origin_fields::build(self, request, client, target, purpose)
    }

    /// The request as another node gets it, which renders a page for this one. `None`: it cannot be
    /// asked for elsewhere.
    pub fn peer_request(
        &self,
        request: &Request,
        client: &Client,
        target: &Bytes,
    ) -> Option<PeerRequest> {
        peer_fields::build(self, request, client, target)
    }

    /// The fields that a client gets of what the origin sent.
    pub fn delivered(&self, delivery: Delivery, fields: Fields) -> Fields {
        match self.site.policy {
            PolicyKind::Magento => delivered::magento(&self.site, delivery, fields),
            PolicyKind::Generic => delivered::generic(delivery, fields),
        }
    }

    /// The names of fields that no client gets, of whatever response.
    pub fn hidden_fields(&self) -> &'static [&'static str] {
        match self.site.policy {
            PolicyKind::Magento => delivered::REMOVED.as_slice(),
            PolicyKind::Generic => &[],
        }
    }

    /// May this response be looked through for ESI includes? Magento's VCL looks through every
    /// text; by the generic policy the origin must have asked for it
    /// (`Surrogate-Control: content="ESI/1.0"`, W3C Edge Architecture 2.2).
    pub fn takes_esi(&self, fields: &Fields) -> bool {
        match self.site.policy {
            PolicyKind::Magento => true,
            PolicyKind::Generic => fields
                .all("surrogate-control")
                .any(|value| memchr::memmem::find(value, b"ESI/1.0").is_some()),
        }
    }

    /// The Set-Cookie lines of a response that was stored, for the one client whose request
    /// fetched it; none unless `site.cookies_to_fetcher` says so.
    pub fn fetcher_cookies(&self, fields: &Fields) -> Fields {
        if !self.site.cookies_to_fetcher {
            return Fields::new();
        }
        fields.iter().filter(|field| field.is("set-cookie")).cloned().collect()
    }

    /// May this client purge, or force a fetch? By its resolved address, and never with forwarding
    /// headers from a peer that is not trusted.
    pub fn may_purge(&self, client: &Client) -> bool {
        purge::allowed(client, &self.purge)
    }

    /// What a PURGE request asks for.
    pub fn purge_request(&self, request: &Request) -> Result<PurgeRequest, PurgeRefusal> {
        purge::parse(self, request)
    }

    /// All variants of one URL: `authority` as in Host, `target` in origin form. They are
    /// normalised as a request's are.
    pub fn url_scope(&self, authority: &[u8], target: &[u8]) -> PurgeScope {
        let (host, _) = host::split_authority(authority);
        let target = self.canonical_target(&Bytes::copy_from_slice(target));
        PurgeScope::Url(self.url(host, &target, 0))
    }

    /// Is a parameter of this name dropped from the query?
    pub fn strips(&self, name: &[u8]) -> bool {
        self.parameters.strips(name)
    }

    /// The target without stripped parameters, in the form that enters the key.
    fn canonical_target(&self, target: &Bytes) -> Bytes {
        let (path, Some(query)) = split_target(target) else {
            return target.clone();
        };
        let Canonical::Changed(kept) = self.parameters.canonical(query) else {
            return target.clone();
        };
        let mut changed = Vec::with_capacity(target.len());
        changed.extend_from_slice(path);
        let mut separator = b'?';
        for parameter in kept {
            changed.push(separator);
            changed.extend_from_slice(parameter);
            separator = b'&';
        }
        changed.into()
    }

    /// Host and target as [`CacheKey::url`] has them, in a buffer with room for `spare` more bytes.
    /// The port is no part of it: a purge by URL reaches all ports and schemes.
    fn url(&self, host: &[u8], canonical_target: &[u8], spare: usize) -> Vec<u8> {
        let mut url = Vec::with_capacity(host.len() + canonical_target.len() + spare);
        url.extend(host.iter().map(u8::to_ascii_lowercase));
        let (path, query) = split_target(canonical_target);
        match path.strip_suffix(b"/") {
            Some(shorter) if self.site.ignore_trailing_slash && !shorter.is_empty() => {
                url.extend_from_slice(shorter);
            }
            _ => url.extend_from_slice(path),
        }
        if let Some(query) = query {
            url.push(b'?');
            url.extend_from_slice(query);
        }
        url
    }

    /// An allowed client asks for a fetch which replaces what is stored. A stranger's no-cache has
    /// no effect, or it would be a way to overload PHP.
    fn forces(&self, seen: &Seen<'_>, client: &Client) -> bool {
        seen.asks_for_no_cache && self.may_purge(client)
    }

    /// What keys mean under these rules, in short: parts of a key stand for settings by their number,
    /// so that under other settings a key may be somebody else's.
    pub fn keyspace(&self) -> u64 {
        let settings::Site { policy, key_cookies, key_headers, design_exceptions, .. } = &self.site;
        let rules = format!("{:?}", (policy, key_cookies, key_headers, design_exceptions));
        let sum = digest(&SHA256, rules.as_bytes());
        sum.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Appends what `site` adds to every key.
    fn push_configured_parts(&self, key: &mut KeyBuilder, request: &Request, seen: &Seen<'_>) {
        if let Some(user_agent) = seen.user_agent {
            let matching = self.design_exceptions.iter().position(|one| one.is_match(user_agent));
            if let Some(number) = matching {
                key.push_numbered(Part::Design, number, b"");
            }
        }
        for (number, wanted) in self.site.key_cookies.iter().enumerate() {
            let mut pairs = cookies::pairs(&request.fields);
            if let Some((_, value)) = pairs.find(|(name, _)| *name == wanted.as_bytes()) {
                key.push_numbered(Part::Cookie, number, value);
            }
        }
        for (number, wanted) in self.site.key_headers.iter().enumerate() {
            for value in request.fields.all(wanted) {
                key.push_numbered(Part::Header, number, value);
            }
        }
    }

    /// The lifetime that `site.ttl` gives to a path and status.
    fn configured_lifetime(&self, target: &[u8], status: StatusCode) -> Option<Duration> {
        let (path, _) = split_target(target);
        self.lifetimes
            .iter()
            .find(|rule| {
                rule.status == status.as_u16()
                    && rule.path.as_ref().is_none_or(|prefix| prefix.begins(path))
            })
            .map(|rule| rule.value)
    }

    /// Does each key tell requests with different values of this header apart? The scheme is in
    /// each key, and the User-Agent as far as design exceptions tell apart.
    fn is_in_each_key(&self, name: &[u8]) -> bool {
        let is = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
        is("x-forwarded-proto")
            || (is("user-agent") && !self.design_exceptions.is_empty())
            || self.site.key_headers.iter().any(|own| is(own))
    }

    /// How long it is remembered that a key's response is uncacheable for this reason.
    pub fn remembered(&self, plan: &LookupPlan, reason: Reason) -> Duration {
        match reason {
            _ if magento::is_of_one_visitor(plan, reason) => Duration::ZERO,
            Reason::Private => self.site.hit_for_miss_private,
            _ => self.site.hit_for_miss,
        }
    }

    fn carries_bypass_cookie(&self, request: &Request) -> bool {
        let names = &self.site.bypass_cookies;
        !names.is_empty()
            && cookies::pairs(&request.fields)
                .any(|(name, _)| names.iter().any(|own| own.as_bytes() == name))
    }

    /// The plans that need no site: refused methods, PURGE, and the load balancer's check (both
    /// come with any Host).
    fn plan_before_the_site(&self, subject: &Subject<'_>) -> Option<Plan> {
        match &subject.request.method {
            &Method::CONNECT | &Method::TRACE => Some(Plan::Refuse(Refusal::MethodNotAllowed)),
            method if method.as_str() == "PURGE" => Some(Plan::Purge),
            &Method::GET | &Method::HEAD => {
                let health_path = self.health_path.as_bytes();
                let asked = !health_path.is_empty() && subject.path == health_path;
                asked.then_some(Plan::Health)
            }
            _ => None,
        }
    }
}

/// Can the content be taken apart, and is that allowed (RFC 9111 5.2.2.6)? One coding can be taken
/// off, of those that are known.
fn check_coding(fields: &Fields) -> Result<(), Reason> {
    const KNOWN: [&[u8]; 5] = [b"gzip", b"x-gzip", b"br", b"deflate", b"zstd"];
    let mut codings =
        fields.list("content-encoding").filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let is_known = |coding: &[u8]| KNOWN.iter().any(|known| coding.eq_ignore_ascii_case(known));
    let is_fixed =
        || fields.list("cache-control").any(|word| word.eq_ignore_ascii_case(b"no-transform"));
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if is_known(coding) && !is_fixed() => Ok(()),
        _ => Err(Reason::ContentEncoding),
    }
}

/// The methods that RFC 9110 and PATCH (RFC 5789) define.
fn is_known(method: &Method) -> bool {
    [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ]
    .contains(method)
}
