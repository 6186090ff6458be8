//! Settings that do not go together.

use super::reader::Reader;
use super::units::{format_duration, format_size};
use super::{
    Bots, Endpoint, Fleet, Health, Listen, Objects, Origin, PolicyKind, Redis, RedisServer,
    Sessions, Settings, Store, Tls, traffic_rules,
};

/// Notes the settings that contradict each other.
pub(super) fn check(settings: &Settings, reader: &mut Reader) {
    listeners(settings, reader);
    tls(&settings.listen, &settings.tls, reader);
    origin(&settings.origin, settings.site.policy, reader);
    store(&settings.store, reader);
    health(&settings.health, reader);
    redis(&settings.redis, reader);
    fleet(&settings.fleet, reader);
    peers(settings, reader);
    sessions(&settings.sessions, reader);
    objects(&settings.objects, reader);
    traffic_rules::check_with_others(settings, reader);
}

fn listeners(settings: &Settings, reader: &mut Reader) {
    let listen = &settings.listen;
    let http = listen.http.iter().map(|endpoint| ("listen.http", endpoint));
    let https = listen.https.iter().map(|endpoint| ("listen.https", endpoint));
    let mut seen: Vec<(&str, &Endpoint)> = Vec::new();
    let sessions = settings.sessions.listen.iter().map(|endpoint| ("sessions.listen", endpoint));
    let objects = settings.objects.listen.iter().map(|endpoint| ("objects.listen", endpoint));
    let control = [("listen.control", &listen.control)];
    let all = http.chain(https).chain(control).chain(sessions).chain(objects);
    for (key, endpoint) in all {
        match seen.iter().find(|(_, other)| overlap(other, endpoint)) {
            Some((first, other)) if *other == endpoint => {
                let text = format!("{endpoint} stands in {first} and again in {key}");
                reader.conflict(&[key, first], text);
            }
            Some((first, other)) => {
                let text = format!(
                    "{endpoint} in {key} and {other} in {first} are one: 0.0.0.0 and [::] are all \
                     addresses of this machine"
                );
                reader.conflict(&[key, first], text);
            }
            None => seen.push((key, endpoint)),
        }
    }
}

/// Can only one of the two be listened on? IPv6 wildcards take IPv6 alone.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        // Port 0 stands for any free port, another one each time.
        (Endpoint::Tcp(one), Endpoint::Tcp(other)) => {
            let is_wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
            let is_near = one.is_ipv4() == other.is_ipv4() && is_wildcard;
            one.port() != 0 && one.port() == other.port() && (one.ip() == other.ip() || is_near)
        }
        _ => one == other,
    }
}

fn tls(listen: &Listen, tls: &Tls, reader: &mut Reader) {
    let is_set = |path: &std::path::Path| !path.as_os_str().is_empty();
    let (certificate, key) = (is_set(&tls.certificate), is_set(&tls.key));
    let is_used = !listen.https.is_empty();
    if !certificate && (is_used || key) {
        let text = "needs tls.certificate, which is not set".to_owned();
        reader.conflict(&["listen.https", "tls.key", "tls.certificate"], text);
    }
    if !key && (is_used || certificate) {
        let text = "needs tls.key, which is not set".to_owned();
        reader.conflict(&["listen.https", "tls.certificate", "tls.key"], text);
    }
}

fn origin(origin: &Origin, policy: PolicyKind, reader: &mut Reader) {
    if origin.status_listen.is_some() && origin.status.is_empty() {
        let text = "needs origin.status, the path to ask for there".to_owned();
        reader.conflict(&["origin.status_listen", "origin.status"], text);
    }
    if origin.fastcgi.is_some()
        && !origin.status.is_empty()
        && origin.keep_alive.is_some_and(|kept| !kept.is_zero())
    {
        let text =
            "excludes origin.keep_alive with origin.fastcgi: PHP-FPM counts the child of an idle \
                    connection as busy"
                .to_owned();
        reader.conflict(&["origin.status", "origin.keep_alive"], text);
    }
    if origin.fastcgi.is_none() {
        if !origin.status.is_empty() {
            let text = "needs origin.fastcgi: it is PHP-FPM's".to_owned();
            reader.conflict(&["origin.status", "origin.fastcgi"], text);
        }
        return;
    }
    if origin.http.is_some() {
        let text = "excludes origin.http, which is also set".to_owned();
        reader.conflict(&["origin.fastcgi", "origin.http"], text);
    }
    if policy == PolicyKind::Magento && origin.root.as_os_str().is_empty() {
        let text = "needs origin.root, Magento's pub directory, which is not set".to_owned();
        reader.conflict(&["origin.fastcgi", "origin.root", "site.policy"], text);
    }
}

fn store(store: &Store, reader: &mut Reader) {
    if store.keep < store.grace {
        let (keep, grace) = (format_duration(store.keep), format_duration(store.grace));
        let text = format!("store.keep ({keep}) is less than store.grace ({grace})");
        reader.conflict(&["store.keep", "store.grace"], text);
    }
}

fn health(health: &Health, reader: &mut Reader) {
    let (threshold, window) = (health.threshold, health.window);
    if threshold > window {
        let text = format!("health.threshold ({threshold}) is more than health.window ({window})");
        reader.conflict(&["health.threshold", "health.window"], text);
    }
}

fn redis(redis: &Redis, reader: &mut Reader) {
    if !redis.sentinels.is_empty() && redis.master.is_empty() {
        let text = "needs redis.master, what the sentinels call it, which is not set".to_owned();
        reader.conflict(&["redis.sentinels", "redis.master"], text);
    }
    let is_unix = |server: &RedisServer| matches!(server, RedisServer::Unix(_));
    if !redis.sentinels.is_empty() && redis.url.as_ref().is_some_and(|url| is_unix(&url.server)) {
        let text = "excludes a redis.url with a Unix socket".to_owned();
        reader.conflict(&["redis.sentinels", "redis.url"], text);
    }
    if !redis.authority.as_os_str().is_empty() && !redis.url.as_ref().is_some_and(|url| url.tls) {
        let text = "needs a redis.url that begins with rediss://".to_owned();
        reader.conflict(&["redis.authority", "redis.url"], text);
    }
}

fn fleet(fleet: &Fleet, reader: &mut Reader) {
    if fleet.proof_max < 2 * fleet.heartbeat {
        let (proof, heartbeat) =
            (format_duration(fleet.proof_max), format_duration(fleet.heartbeat));
        let text =
            format!("fleet.proof_max ({proof}) is less than two of fleet.heartbeat ({heartbeat})");
        reader.conflict(&["fleet.proof_max", "fleet.heartbeat"], text);
    }
}

fn peers(settings: &Settings, reader: &mut Reader) {
    let peers = &settings.fleet.peers;
    let files = [
        ("fleet.certificate", &peers.certificate),
        ("fleet.key", &peers.key),
        ("fleet.authority", &peers.authority),
    ];
    let (set, missing): (Vec<_>, Vec<_>) =
        files.iter().partition(|(_, path)| !path.as_os_str().is_empty());
    if let (Some((set, _)), Some((missing, _))) = (set.first(), missing.first()) {
        let text = format!("needs {missing} as well");
        reader.conflict(&[set, missing], text);
    }
    if peers.listen.is_none() {
        return;
    }
    if peers.secret.is_empty() && set.is_empty() {
        let text = "needs fleet.secret, or fleet.certificate, fleet.key and fleet.authority";
        reader.conflict(&["fleet.listen", "fleet.secret"], text.to_owned());
    }
    if !settings.redis.is_set() {
        let text = "needs redis.url, by which the nodes find each other".to_owned();
        reader.conflict(&["fleet.listen", "redis.url"], text);
    }
}

fn sessions(sessions: &Sessions, reader: &mut Reader) {
    if sessions.database >= sessions.databases {
        let text = format!(
            "sessions.database ({}) is none of the {} of sessions.databases, which begin at 0",
            sessions.database, sessions.databases
        );
        reader.conflict(&["sessions.database", "sessions.databases"], text);
    }
    if sessions.trunks_max < sessions.trunks {
        let text = format!(
            "sessions.trunks ({}) is more than sessions.trunks_max ({})",
            sessions.trunks, sessions.trunks_max
        );
        reader.conflict(&["sessions.trunks", "sessions.trunks_max"], text);
    }
    if sessions.buffers_max_bytes < sessions.request_max_bytes {
        let (all, one) = (sessions.buffers_max_bytes, sessions.request_max_bytes);
        let (all, one) = (format_size(all as u64), format_size(one as u64));
        let text =
            format!("sessions.buffers_max ({all}) is less than sessions.request_max ({one})");
        reader.conflict(&["sessions.buffers_max", "sessions.request_max"], text);
    }
    // Where nobody is held, PHP's tries follow each other soon enough.
    if !sessions.hold_max.is_zero() && sessions.orphan_after >= sessions.hold_max {
        let (orphan, hold) = (sessions.orphan_after, sessions.hold_max);
        let (orphan, hold) = (format_duration(orphan), format_duration(hold));
        let text =
            format!("sessions.orphan_after ({orphan}) is not below sessions.hold_max ({hold})");
        reader.conflict(&["sessions.orphan_after", "sessions.hold_max"], text);
    }
    if sessions.listen.is_none() && sessions.bots == Bots::None {
        let text = "needs sessions.listen, or PHP creates a session all the same".to_owned();
        reader.conflict(&["sessions.bots", "sessions.listen"], text);
    }
    if sessions.listen.is_some() && sessions.cookies.is_empty() {
        let text = "names no cookie, so that no request has a session".to_owned();
        reader.conflict(&["sessions.cookies", "sessions.listen"], text);
    }
}

fn objects(objects: &Objects, reader: &mut Reader) {
    let whole = |bytes: usize| format_size(bytes as u64);
    let (memory, buffers, request) =
        (objects.memory_bytes, objects.buffers_max_bytes, objects.request_max_bytes);
    if buffers < request {
        let text = format!(
            "objects.buffers_max ({}) is less than objects.request_max ({})",
            whole(buffers),
            whole(request)
        );
        reader.conflict(&["objects.buffers_max", "objects.request_max"], text);
    }
    if memory < request as u64 {
        let text = format!(
            "objects.memory ({}) is less than objects.request_max ({})",
            format_size(memory),
            whole(request)
        );
        reader.conflict(&["objects.memory", "objects.request_max"], text);
    }
}
