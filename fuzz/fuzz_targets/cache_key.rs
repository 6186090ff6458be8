//! Two requests: they share a key only where the origin would be asked the same, so that nobody's
//! response is given to others; and where nothing that counts differs they do share it.
//!
//! A byte that chooses the rules, then two requests with an empty line between them. A request is
//! lines: the host, the target, and fields as `Name: value`.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, Version};
use libfuzzer_sys::fuzz_target;
use parvis::body::Body;
use parvis::exchange::{Beside, Client, Connection, Peer, Request};
use parvis::fields::Fields;
use parvis::policy::{LookupPlan, Plan, Policy, PurgeScope, Purpose, client};
use parvis::settings::{AuthorizationRule, Networks, PolicyKind, Settings};

/// What a fill carries of its client without it being in the key: each has its reason in
/// `policy::origin_fields`.
const UNKEYED: [&str; 7] = [
    "authorization",
    "content-type",
    "cookie",
    "referer",
    "ssl-offloaded",
    "user-agent",
    "x-forwarded-for",
];

/// Parameters that are looked at one by one.
const PARAMETERS_MAX: usize = 16;

/// Rules with all that can enter a key; by three bits: generic or Magento, a trailing slash ignored
/// or not, Authorization passed or looked up.
static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let policy = |bits: u8| {
        let mut settings = Settings::default();
        let site = &mut settings.site;
        site.policy = if bits & 1 == 0 { PolicyKind::Magento } else { PolicyKind::Generic };
        site.ignore_trailing_slash = bits & 2 != 0;
        if bits & 4 != 0 {
            site.authorization = AuthorizationRule::AsVcl;
        }
        site.key_headers = vec!["X-Country".to_owned()];
        site.key_cookies = vec!["currency".to_owned()];
        site.strip_parameters = vec!["ref".to_owned(), "aff_*".to_owned()];
        Policy::new(&settings).expect("valid settings")
    };
    (0..8).map(policy).collect()
});

fn request(text: &[u8], tls: bool) -> Option<Request> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let authority = Bytes::copy_from_slice(lines.next()?);
    let target = Bytes::copy_from_slice(lines.next()?);
    let mut fields = Fields::new();
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        let value = value[1..].trim_ascii();
        fields.push(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }
    Some(Request {
        method: Method::GET,
        target,
        authority,
        version: Version::HTTP_11,
        fields,
        body: Body::empty(),
        beside: Beside::default(),
        connection: Connection {
            peer: Peer::Ip((Ipv4Addr::LOCALHOST, 5000).into()),
            local: Some((IpAddr::from([127, 0, 0, 1]), 80).into()),
            tls,
        },
    })
}

/// A request that is looked up.
struct Seen<'a> {
    policy: &'a Policy,
    request: Request,
    client: Client,
    plan: LookupPlan,
}

impl<'a> Seen<'a> {
    fn of(policy: &'a Policy, request: Request) -> Option<Self> {
        let client = client::resolve(&Networks::loopback(), &request);
        let Plan::Lookup(plan) = policy.plan(&request, &client) else { return None };
        Some(Self { policy, request, client, plan })
    }

    /// The same from this client with another target.
    fn with_target(&self, target: Bytes) -> Option<Self> {
        let Request { method, authority, version, fields, connection, .. } = &self.request;
        let request = Request {
            method: method.clone(),
            target,
            authority: authority.clone(),
            version: *version,
            fields: fields.clone(),
            body: Body::empty(),
            connection: connection.clone(),
            beside: Beside::default(),
        };
        Self::of(self.policy, request)
    }

    fn host(&self) -> Vec<u8> {
        let authority = &self.request.authority;
        let from = authority.iter().rposition(|&byte| byte == b']').unwrap_or(0);
        let port = authority[from..].iter().position(|&byte| byte == b':');
        authority[..port.map_or(authority.len(), |at| from + at)].to_ascii_lowercase()
    }

    /// What the origin gets for the store and what must be in the key.
    fn keyed_fields(&self) -> Vec<(Vec<u8>, Bytes)> {
        let Self { policy, request, client, plan } = self;
        let fields = policy.origin_request(request, client, &plan.target, Purpose::Fill);
        fields
            .iter()
            .filter(|field| !UNKEYED.iter().any(|name| field.is(name)))
            // A port of Host or of a trusted hop is the site's, and no client can choose it.
            .filter(|field| !field.is("host") && !field.is("x-forwarded-port"))
            .map(|field| (field.name.to_ascii_lowercase(), field.value.clone()))
            .collect()
    }

    fn cookie(&self, wanted: &[u8]) -> Option<Vec<u8>> {
        let lines: Vec<&[u8]> = self.request.fields.all("cookie").map(|line| &line[..]).collect();
        let all = lines.join(&b';');
        let pairs = all.split(|&byte| byte == b';').map(<[u8]>::trim_ascii_start);
        let value = |pair: &[u8]| match pair.strip_prefix(wanted)? {
            [] => Some(Vec::new()),
            [b'=', value @ ..] => Some(value.to_vec()),
            _ => None,
        };
        pairs.filter_map(value).next()
    }
}

/// Path and query with a trailing slash as the rules have it.
fn normal_target(target: &[u8], without_slash: bool) -> Vec<u8> {
    let end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    match path.strip_suffix(b"/") {
        Some(shorter) if without_slash && !shorter.is_empty() => [shorter, query].concat(),
        _ => target.to_vec(),
    }
}

fn assert_one(seen: &Seen<'_>) {
    let Seen { policy, request, plan, .. } = seen;
    assert!(plan.target.starts_with(b"/") && !plan.key.url().contains(&0));
    assert!(plan.key.as_bytes().starts_with(plan.key.url()));
    // What is stored is reached by a purge of its URL, as the client or the origin has it.
    for target in [&request.target, &plan.target] {
        match policy.url_scope(&request.authority, target) {
            PurgeScope::Url(url) => assert_eq!(url, plan.key.url()),
            other => panic!("{other:?}"),
        }
    }
    // What the origin is asked for has the same key.
    let again = seen.with_target(plan.target.clone()).expect("it is still looked up");
    assert_eq!((&again.plan.key, &again.plan.target), (&plan.key, &plan.target));
}

/// Parameters leave one by one, whatever stands beside them, and those of a name keep their order.
fn assert_parameters(seen: &Seen<'_>) {
    let split = |target: &[u8]| -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut parts = target.splitn(2, |&byte| byte == b'?');
        let path = parts.next().unwrap_or_default().to_vec();
        let query = parts.next();
        let parameters = query.into_iter().flat_map(|query| query.split(|&byte| byte == b'&'));
        (path, parameters.map(<[u8]>::to_vec).collect())
    };
    let (path, came) = split(&seen.request.target);
    let (kept_path, mut kept) = split(&seen.plan.target);
    assert_eq!(path, kept_path);
    let name = |parameter: &Vec<u8>| -> Vec<u8> {
        parameter.split(|&byte| byte == b'=').next().unwrap_or_default().to_vec()
    };
    if came.len() > PARAMETERS_MAX {
        return;
    }
    let mut expected = Vec::new();
    for parameter in came {
        let alone = [&path[..], b"?", &parameter].concat();
        let alone = seen.with_target(alone.into()).expect("it has less to be passed for");
        if alone.plan.target.contains(&b'?') {
            assert_eq!(split(&alone.plan.target).1, [&parameter[..]]);
            expected.push(parameter);
        }
    }
    // These sorts are stable: of one name both lists have the same in the same order.
    expected.sort_by_key(name);
    kept.sort_by_key(name);
    assert_eq!(kept, expected);
}

fuzz_target!(|input: &[u8]| {
    let Some((&bits, input)) = input.split_first() else { return };
    let policy = &POLICIES[usize::from(bits % 8)];
    let between = input.windows(2).position(|two| two == b"\n\n").unwrap_or(input.len());
    let (one, two) = input.split_at(between);
    let two = two.get(2..).unwrap_or_default();
    let seen = |text, tls: bool| request(text, tls).and_then(|request| Seen::of(policy, request));
    let Some(one) = seen(one, bits & 16 != 0) else { return };
    assert_one(&one);
    assert_parameters(&one);
    let Some(two) = seen(two, bits & 32 != 0) else { return };

    let targets = [&one, &two].map(|seen| normal_target(&seen.plan.target, bits & 2 != 0));
    let same_url = one.host() == two.host() && targets[0] == targets[1];
    assert_eq!(one.plan.key.url() == two.plan.key.url(), same_url);
    if one.plan.key == two.plan.key {
        assert!(same_url);
        assert_eq!(one.client.scheme, two.client.scheme);
        assert_eq!(one.plan.graphql_cache_id, two.plan.graphql_cache_id);
        // A cache id names the variant itself.
        if one.plan.graphql_cache_id.is_none() {
            assert_eq!(one.plan.magento_vary, two.plan.magento_vary);
        }
        assert_eq!(one.cookie(b"currency"), two.cookie(b"currency"));
        if bits & 1 == 0 {
            assert_eq!(one.keyed_fields(), two.keyed_fields());
        }
    } else {
        let same_fields = one.request.fields == two.request.fields;
        let no_ports =
            [&one, &two].iter().all(|seen| seen.request.authority.len() == seen.host().len());
        let same = same_url && same_fields && no_ports;
        assert!(!same || one.client.scheme != two.client.scheme, "nothing that counts differs");
    }
});
