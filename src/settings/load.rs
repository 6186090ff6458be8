//! Reads all settings.
//!
//! To add a setting: give its struct in `mod.rs` a field with a default, read it below in one line
//! under its section's name with its bounds, and show it in `config/parvis.toml` with its default
//! and the reason for it. A test finds a setting that is missing there. A setting that depends on
//! another one gets its check in `cross_checks.rs`.
//!
//! The key is the field's name without its unit, which the value carries.

use std::path::Path;
use std::time::Duration;

use super::mistake::Mistakes;
use super::reader::Reader;
use super::sources::Sources;
use super::{
    Admission, Control, Encoding, ErrorPages, Esi, Files, Fill, Fleet, Health, KnownBots,
    Lifecycle, Listen, Log, Maintenance, Objects, Origin, Peers, PolicyKind, Purge, Redis,
    Sessions, Settings, Site, Store, Tls, Warm, bots, challenge, cross_checks, fleet, machine,
    objects, sessions, syntax, traffic, waiting_room,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const ZERO: Duration = Duration::ZERO;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const TEN_MINUTES: Duration = Duration::from_mins(10);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);

impl Settings {
    /// Reads the file, then the environment, whose `PARVIS__SECTION__KEY` wins; what neither
    /// says has its default. Fails with every mistake there is.
    ///
    /// Reads nothing else of the machine: see [`Settings::load_for_this_machine`].
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let (settings, reader) = read(file, environment);
        reader.finish().map(|()| settings)
    }

    /// As [`Settings::load`], and also checks that this machine has the files and the memory that
    /// the settings name; what it lacks is reported together with the other mistakes.
    pub fn load_for_this_machine(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Mistakes> {
        let (settings, mut reader) = read(file, environment);
        machine::check(&settings, machine::memory_limit_bytes(), &mut reader);
        reader.finish().map(|()| settings)
    }

    /// Checks that this machine has the files and directories that the settings name. The
    /// mistakes do not know where the settings came from.
    pub fn verify_files(&self) -> Result<(), Mistakes> {
        let mut reader = Reader::default();
        machine::check_files(self, &mut reader);
        reader.finish()
    }

    /// Every key that can be set, such as `store.memory`.
    pub fn keys() -> Vec<&'static str> {
        let (_, reader) = read(None, []);
        reader.known().to_vec()
    }
}

fn read(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Settings, Reader) {
    let mut mistakes = Vec::new();
    let sources = Sources::read(file, environment, &mut mistakes);
    let mut reader = Reader::new(sources, mistakes);
    let mut policy = PolicyKind::Magento;
    reader.word("site.policy", &mut policy);
    let mut settings = Settings::defaults_of(policy);
    listen(&mut reader, &mut settings.listen);
    tls(&mut reader, &mut settings.tls);
    site(&mut reader, &mut settings.site);
    origin(&mut reader, &mut settings.origin);
    admission(&mut reader, &mut settings.admission);
    traffic::read(&mut reader, &mut settings.traffic);
    self::bots(&mut reader, &mut settings.bots);
    error_pages(&mut reader, &mut settings.error_pages);
    maintenance(&mut reader, &mut settings.maintenance);
    challenge::read(&mut reader, &mut settings.challenge);
    waiting_room::read(&mut reader, &mut settings.waiting_room);
    files(&mut reader, &mut settings.files);
    store(&mut reader, &mut settings.store);
    fill(&mut reader, &mut settings.fill);
    esi(&mut reader, &mut settings.esi);
    encoding(&mut reader, &mut settings.encoding);
    purge(&mut reader, &mut settings.purge);
    redis(&mut reader, &mut settings.redis);
    self::fleet(&mut reader, &mut settings.fleet);
    self::sessions(&mut reader, &mut settings.sessions);
    self::objects(&mut reader, &mut settings.objects);
    health(&mut reader, &mut settings.health);
    control(&mut reader, &mut settings.control);
    log(&mut reader, &mut settings.log);
    lifecycle(&mut reader, &mut settings.lifecycle);
    reader.refuse_unknown();
    cross_checks::check(&settings, &mut reader);
    (settings, reader)
}

fn listen(reader: &mut Reader, listen: &mut Listen) {
    reader.list("listen.http", &mut listen.http, &syntax::LISTENER);
    reader.list("listen.https", &mut listen.https, &syntax::LISTENER);
    reader.text("listen.control", &mut listen.control, &syntax::LISTENER);
    reader.list("listen.trusted", &mut listen.trusted, &syntax::NETWORK);
    reader.duration("listen.keep_alive", &mut listen.keep_alive, SECOND..=HOUR);
    reader.duration("listen.header_timeout", &mut listen.header_timeout, MILLISECOND..=TEN_MINUTES);
    reader.duration("listen.body_timeout", &mut listen.body_timeout, MILLISECOND..=HOUR);
    reader.duration("listen.write_timeout", &mut listen.write_timeout, MILLISECOND..=HOUR);
    reader.size("listen.rate_min", &mut listen.rate_min_bytes, 0..=MIB);
    reader.number("listen.connections_max", &mut listen.connections_max, 1..=1_000_000);
    let per_address = &mut listen.connections_per_address_max;
    reader.number("listen.connections_per_address_max", per_address, 1..=1_000_000);
    reader.size("listen.request_line_max", &mut listen.request_line_max_bytes, 256..=MIB);
    reader.size("listen.header_max", &mut listen.header_max_bytes, 256..=MIB);
    reader.size("listen.head_max", &mut listen.head_max_bytes, KIB..=4 * MIB);
    reader.number("listen.headers_max", &mut listen.headers_max, 1..=10_000);
    reader.size("listen.body_max", &mut listen.body_max_bytes, 0..=1_024 * GIB);
    reader.size("listen.body_memory_max", &mut listen.body_memory_max_bytes, 0..=GIB);
    let bodies_memory = &mut listen.bodies_memory_max_bytes;
    reader.size("listen.bodies_memory_max", bodies_memory, 0..=1_024 * GIB);
    reader.text("listen.body_directory", &mut listen.body_directory, &syntax::FILE_PATH);
    reader.number("listen.http2_streams_max", &mut listen.http2_streams_max, 1..=10_000);
    reader.number("listen.interim_responses_max", &mut listen.interim_responses_max, 0..=100);
    reader.number("listen.upgrades_max", &mut listen.upgrades_max, 0..=1_000_000);
    let idle = &mut listen.upgrade_idle_timeout;
    reader.duration("listen.upgrade_idle_timeout", idle, MILLISECOND..=DAY);
    reader.number("listen.http2_resets_max", &mut listen.http2_resets_max, 1..=1_000_000);
    reader.number("listen.http2_control_max", &mut listen.http2_control_max, 100..=100_000_000);
    let fields_memory = &mut listen.http2_fields_memory_max_bytes;
    reader.size("listen.http2_fields_memory_max", fields_memory, KIB..=GIB);
    reader.duration(
        "listen.http2_stall_timeout",
        &mut listen.http2_stall_timeout,
        MILLISECOND..=HOUR,
    );
    reader.size("listen.sendfile_memory", &mut listen.sendfile_memory_bytes, 0..=1_024 * GIB);
    reader.word("listen.unknown_methods", &mut listen.unknown_methods);
}

fn tls(reader: &mut Reader, tls: &mut Tls) {
    reader.text("tls.certificate", &mut tls.certificate, &syntax::FILE_PATH);
    reader.text("tls.key", &mut tls.key, &syntax::FILE_PATH);
}

fn site(reader: &mut Reader, site: &mut Site) {
    reader.list("site.hosts", &mut site.hosts, &syntax::HOST);
    reader.list("site.bypass_paths", &mut site.bypass_paths, &syntax::SEGMENTS);
    reader.switch("site.bypass_paths_as_vcl", &mut site.bypass_paths_as_vcl);
    reader.list("site.bypass_cookies", &mut site.bypass_cookies, &syntax::COOKIE);
    reader.list("site.key_cookies", &mut site.key_cookies, &syntax::COOKIE);
    reader.list("site.key_headers", &mut site.key_headers, &syntax::SHARED_HEADER);
    reader.list("site.strip_parameters", &mut site.strip_parameters, &syntax::PARAMETER);
    reader.list("site.forward_headers", &mut site.forward_headers, &syntax::SHARED_HEADER);
    reader.list_in_file("site.design_exceptions", &mut site.design_exceptions, &syntax::REGEX);
    reader.ttl_rules("site.ttl", &mut site.ttl);
    reader.switch("site.ignore_trailing_slash", &mut site.ignore_trailing_slash);
    reader.duration("site.untagged_ttl_max", &mut site.untagged_ttl_max, ZERO..=YEAR);
    reader.switch("site.store_not_found", &mut site.store_not_found);
    reader.duration("site.hit_for_miss", &mut site.hit_for_miss, ZERO..=YEAR);
    reader.duration("site.hit_for_miss_private", &mut site.hit_for_miss_private, ZERO..=YEAR);
    reader.word("site.authorization", &mut site.authorization);
    reader.switch("site.cookies_to_fetcher", &mut site.cookies_to_fetcher);
    reader.word("site.browser_cache", &mut site.browser_cache);
    reader.switch("site.age", &mut site.age);
    reader.word("site.malformed_age", &mut site.malformed_age);
    reader.word("site.debug_header", &mut site.debug_header);
    reader.switch("site.cache_status", &mut site.cache_status);
}

fn origin(reader: &mut Reader, origin: &mut Origin) {
    reader.unset_if_empty("origin.http", &mut origin.http, &syntax::PEER);
    reader.unset_if_empty("origin.fastcgi", &mut origin.fastcgi, &syntax::PEER);
    reader.text("origin.root", &mut origin.root, &syntax::FILE_PATH);
    reader.text("origin.php_root", &mut origin.php_root, &syntax::FILE_PATH);
    reader.list("origin.links", &mut origin.links, &syntax::DIRECTORY);
    reader.params("origin.params", &mut origin.params);
    reader.number("origin.concurrency_max", &mut origin.concurrency_max, 1..=10_000);
    reader.text("origin.status", &mut origin.status, &syntax::URL_PATH_OR_EMPTY);
    reader.unset_if_empty("origin.status_listen", &mut origin.status_listen, &syntax::PEER);
    let interval = &mut origin.status_interval;
    reader.duration("origin.status_interval", interval, Duration::from_millis(100)..=HOUR);
    reader.number("origin.queue_max", &mut origin.queue_max, 0..=1_000_000);
    reader.duration("origin.queue_timeout", &mut origin.queue_timeout, ZERO..=HOUR);
    reader.optional_duration("origin.keep_alive", &mut origin.keep_alive, ZERO..=HOUR);
    reader.duration(
        "origin.connect_timeout",
        &mut origin.connect_timeout,
        MILLISECOND..=TEN_MINUTES,
    );
    reader.duration("origin.first_byte_timeout", &mut origin.first_byte_timeout, MILLISECOND..=DAY);
    let between_bytes = &mut origin.between_bytes_timeout;
    reader.duration("origin.between_bytes_timeout", between_bytes, MILLISECOND..=DAY);
    reader.size("origin.head_max", &mut origin.head_max_bytes, KIB..=16 * MIB);
    let response_memory = &mut origin.response_memory_max_bytes;
    reader.size("origin.response_memory_max", response_memory, KIB..=GIB);
    reader.number("origin.retries", &mut origin.retries, 0..=10);
}

fn admission(reader: &mut Reader, admission: &mut Admission) {
    reader.switch("admission.adaptive", &mut admission.adaptive);
    reader.number("admission.limit_min", &mut admission.limit_min, 1..=10_000);
    let slowdown = &mut admission.slowdown_max_percent;
    reader.number("admission.slowdown_max_percent", slowdown, 120..=1_000);
    reader.duration("admission.lifo_after", &mut admission.lifo_after, ZERO..=HOUR);
    reader.number("admission.retry_percent", &mut admission.retry_percent, 0..=100);
    reader.admission_classes("admission.class", &mut admission.classes);
}

fn bots(reader: &mut Reader, settings: &mut KnownBots) {
    reader.list("bots.files", &mut settings.files, &bots::FILE);
    reader.list("bots.ranges", &mut settings.ranges, &bots::RANGES);
    reader.duration("bots.look_every", &mut settings.look_every, ZERO..=DAY);
    reader.size("bots.file_max", &mut settings.file_max_bytes, KIB..=64 * MIB);
    reader.number("bots.agents_max", &mut settings.agents_max, 1..=20_000);
    reader.number("bots.ranges_max", &mut settings.ranges_max, 1..=1_000_000);
    reader.duration("bots.ranges_age_max", &mut settings.ranges_age_max, ZERO..=10 * YEAR);
    reader.switch("bots.look_up", &mut settings.look_up);
    reader.list("bots.resolvers", &mut settings.resolvers, &bots::RESOLVER);
    reader.duration("bots.timeout", &mut settings.timeout, 10 * MILLISECOND..=TEN_MINUTES);
    reader.number("bots.in_flight_max", &mut settings.in_flight_max, 1..=1_000);
    reader.number("bots.queue_max", &mut settings.queue_max, 1..=1_000_000);
    reader.number("bots.remembered_max", &mut settings.remembered_max, 1_000..=10_000_000);
    reader.duration("bots.proven_ttl", &mut settings.proven_ttl, SECOND..=YEAR);
    reader.duration("bots.impostor_ttl", &mut settings.impostor_ttl, SECOND..=YEAR);
    reader.duration("bots.retry_after", &mut settings.retry_after, 100 * MILLISECOND..=DAY);
}

fn error_pages(reader: &mut Reader, pages: &mut ErrorPages) {
    reader.text("error_pages.directory", &mut pages.directory, &syntax::FILE_PATH);
    reader.size("error_pages.page_max", &mut pages.page_max_bytes, KIB..=16 * MIB);
    reader.number("error_pages.pages_max", &mut pages.pages_max, 1..=10_000);
    reader.duration("error_pages.retry_after", &mut pages.retry_after, SECOND..=DAY);
}

fn maintenance(reader: &mut Reader, maintenance: &mut Maintenance) {
    reader.switch("maintenance.on", &mut maintenance.on);
    reader.text("maintenance.flag", &mut maintenance.flag, &syntax::FILE_PATH);
    reader.list("maintenance.allow", &mut maintenance.allow, &syntax::NETWORK);
    reader.duration("maintenance.retry_after", &mut maintenance.retry_after, SECOND..=DAY);
}

fn files(reader: &mut Reader, files: &mut Files) {
    reader.number("files.threads", &mut files.threads, 1..=1_024);
    reader.number("files.queue_max", &mut files.queue_max, 0..=1_000_000);
    reader.duration("files.deadline", &mut files.deadline, MILLISECOND..=TEN_MINUTES);
    reader.duration("files.page_deadline", &mut files.page_deadline, MILLISECOND..=TEN_MINUTES);
    reader.size("files.memory_max", &mut files.memory_max_bytes, 256 * KIB..=64 * GIB);
    reader.switch("files.precompressed", &mut files.precompressed);
    reader.duration("files.static_max_age", &mut files.static_max_age, ZERO..=10 * YEAR);
    reader.duration("files.media_max_age", &mut files.media_max_age, ZERO..=10 * YEAR);
}

fn store(reader: &mut Reader, store: &mut Store) {
    reader.size("store.memory", &mut store.memory_bytes, 0..=16 * 1_024 * GIB);
    reader.size("store.object_max", &mut store.object_max_bytes, KIB..=GIB);
    reader.duration("store.grace", &mut store.grace, ZERO..=YEAR);
    reader.duration("store.keep", &mut store.keep, ZERO..=YEAR);
    reader.number("store.tags_max", &mut store.tags_max, 1..=1_000_000);
    reader.number("store.purged_tags_max", &mut store.purged_tags_max, 1..=10_000_000);
    reader.number("store.purged_patterns_max", &mut store.purged_patterns_max, 1..=1_000);
    reader.number("store.ranges_max", &mut store.ranges_max, 0..=1_000);
    reader.text("store.snapshot_directory", &mut store.snapshot_directory, &syntax::FILE_PATH);
    reader.duration("store.snapshot_interval", &mut store.snapshot_interval, ZERO..=DAY);
    reader.size("store.snapshot_max", &mut store.snapshot_max_bytes, MIB..=16 * 1_024 * GIB);
    reader.size("store.snapshot_rate", &mut store.snapshot_rate_bytes, MIB..=64 * GIB);
    reader.duration("store.snapshot_timeout", &mut store.snapshot_timeout, SECOND..=HOUR);
}

fn fill(reader: &mut Reader, fill: &mut Fill) {
    reader.duration("fill.leader_timeout", &mut fill.leader_timeout, MILLISECOND..=HOUR);
    reader.duration("fill.wait_timeout", &mut fill.wait_timeout, MILLISECOND..=HOUR);
    reader.duration("fill.stale_after", &mut fill.stale_after, ZERO..=HOUR);
    reader.number("fill.waiters_max", &mut fill.waiters_max, 0..=1_000_000);
    reader.number("fill.refreshes_max", &mut fill.refreshes_max, 1..=10_000);
    reader.duration("fill.refresh_pause", &mut fill.refresh_pause, ZERO..=HOUR);
}

fn esi(reader: &mut Reader, esi: &mut Esi) {
    reader.switch("esi.enabled", &mut esi.enabled);
    reader.number("esi.depth_max", &mut esi.depth_max, 1..=16);
    reader.number("esi.includes_max", &mut esi.includes_max, 1..=1_000);
    reader.number("esi.total_max", &mut esi.total_max, 1..=10_000);
    reader.number("esi.concurrency_max", &mut esi.concurrency_max, 1..=1_000);
    reader.duration("esi.timeout", &mut esi.timeout, MILLISECOND..=HOUR);
    reader.word("esi.on_error", &mut esi.on_error);
    reader.size("esi.tag_max", &mut esi.tag_max_bytes, 64..=MIB);
    reader.size("esi.remove_max", &mut esi.remove_max_bytes, 0..=16 * MIB);
}

fn encoding(reader: &mut Reader, encoding: &mut Encoding) {
    reader.switch("encoding.gzip", &mut encoding.gzip);
    encoding.brotli = encoding.gzip;
    reader.number("encoding.gzip_level", &mut encoding.gzip_level, 1..=9);
    reader.switch("encoding.brotli", &mut encoding.brotli);
    reader.number("encoding.brotli_level", &mut encoding.brotli_level, 2..=11);
    reader.switch("encoding.zstd", &mut encoding.zstd);
    reader.number("encoding.zstd_level", &mut encoding.zstd_level, 1..=19);
    reader.size("encoding.min", &mut encoding.min_bytes, 0..=GIB);
    reader.number("encoding.ratio_max", &mut encoding.ratio_max, 1..=100_000);
    reader.size("encoding.buffer_max", &mut encoding.buffer_max_bytes, KIB..=GIB);
}

fn purge(reader: &mut Reader, purge: &mut Purge) {
    reader.list("purge.allow", &mut purge.allow, &syntax::NETWORK);
    reader.word("purge.without_pattern", &mut purge.without_pattern);
    reader.size("purge.regex_max", &mut purge.regex_max_bytes, KIB..=64 * MIB);
    reader.duration("purge.echo", &mut purge.echo, ZERO..=HOUR);
    reader.number("purge.echoes_max", &mut purge.echoes_max, 1..=10_000_000);
}

fn redis(reader: &mut Reader, redis: &mut Redis) {
    reader.secret_unset_if_empty("redis.url", &mut redis.url, &fleet::REDIS_URL);
    reader.list("redis.sentinels", &mut redis.sentinels, &fleet::SENTINEL);
    reader.text("redis.master", &mut redis.master, &fleet::WORD_OR_EMPTY);
    reader.text("redis.sentinel_user", &mut redis.sentinel_user, &fleet::WORD_OR_EMPTY);
    reader.secret("redis.sentinel_password", &mut redis.sentinel_password, &fleet::PASSWORD);
    reader.text("redis.user", &mut redis.user, &fleet::WORD_OR_EMPTY);
    reader.secret("redis.password", &mut redis.password, &fleet::PASSWORD);
    reader.text("redis.authority", &mut redis.authority, &syntax::FILE_PATH);
    reader.duration("redis.connect_timeout", &mut redis.connect_timeout, MILLISECOND..=TEN_MINUTES);
    reader.duration("redis.timeout", &mut redis.timeout, MILLISECOND..=TEN_MINUTES);
    reader.duration("redis.reconnect_max", &mut redis.reconnect_max, 10 * MILLISECOND..=HOUR);
    reader.switch("redis.require", &mut redis.require);
}

fn fleet(reader: &mut Reader, settings: &mut Fleet) {
    reader.text("fleet.name", &mut settings.name, &fleet::NAME_OR_EMPTY);
    reader.text("fleet.prefix", &mut settings.prefix, &fleet::NAME);
    reader.text("fleet.release_file", &mut settings.release_file, &syntax::FILE_PATH);
    reader.duration("fleet.heartbeat", &mut settings.heartbeat, 10 * MILLISECOND..=HOUR);
    reader.duration("fleet.proof_max", &mut settings.proof_max, 100 * MILLISECOND..=HOUR);
    reader.duration("fleet.refill_trust", &mut settings.refill_trust, ZERO..=DAY);
    reader.number("fleet.refresh_share", &mut settings.refresh_share_percent, 1..=100);
    reader.switch("fleet.strict", &mut settings.strict);
    reader.duration("fleet.wait_max", &mut settings.wait_max, ZERO..=TEN_MINUTES);
    reader.number("fleet.log_max", &mut settings.log_max, 100..=100_000_000);
    reader.number("fleet.queue_max", &mut settings.queue_max, 1..=1_000_000);
    reader.text("fleet.journal_directory", &mut settings.journal_directory, &syntax::FILE_PATH);
    reader.size("fleet.journal_max", &mut settings.journal_max_bytes, 64 * KIB..=16 * GIB);
    reader.number("fleet.recent_max", &mut settings.recent_max, 0..=1_000_000);
    reader.duration("fleet.recent_age", &mut settings.recent_age, SECOND..=DAY);
    self::peers(reader, &mut settings.peers);
    self::warm(reader, &mut settings.warm);
}

fn warm(reader: &mut Reader, warm: &mut Warm) {
    reader.duration("fleet.join_wait", &mut warm.join_wait, ZERO..=HOUR);
    reader.duration("fleet.warm_max", &mut warm.warm_max, ZERO..=HOUR);
    reader.number("fleet.warm_share", &mut warm.share_percent, 1..=100);
    reader.size("fleet.warm_rate", &mut warm.rate_bytes, 64 * KIB..=16 * GIB);
    reader.number("fleet.warm_pages_max", &mut warm.pages_max, 1..=1_000_000);
    reader.number("fleet.warm_peers_max", &mut warm.peers_max, 1..=100);
    reader.number("fleet.warm_streams_max", &mut warm.streams_max, 1..=100);
    reader.duration("fleet.leave_max", &mut warm.leave_max, ZERO..=HOUR);
    reader.size("fleet.leave_bytes_max", &mut warm.leave_max_bytes, 0..=1_024 * GIB);
    reader.number("fleet.out_share", &mut warm.out_share_percent, 1..=100);
}

fn peers(reader: &mut Reader, peers: &mut Peers) {
    reader.unset_if_empty("fleet.listen", &mut peers.listen, &super::peers::ADDRESS);
    reader.secret("fleet.secret", &mut peers.secret, &super::peers::SECRET);
    reader.text("fleet.certificate", &mut peers.certificate, &syntax::FILE_PATH);
    reader.text("fleet.key", &mut peers.key, &syntax::FILE_PATH);
    reader.text("fleet.authority", &mut peers.authority, &syntax::FILE_PATH);
    reader.duration("fleet.owner_wait", &mut peers.owner_wait, MILLISECOND..=TEN_MINUTES);
    reader.duration(
        "fleet.owner_silence",
        &mut peers.owner_silence,
        10 * MILLISECOND..=TEN_MINUTES,
    );
    reader.duration("fleet.owner_pause", &mut peers.owner_pause, ZERO..=HOUR);
    reader.number("fleet.connections_max", &mut peers.connections_max, 1..=100_000);
    reader.number("fleet.requests_max", &mut peers.requests_max, 1..=100_000);
}

fn sessions(reader: &mut Reader, settings: &mut Sessions) {
    reader.unset_if_empty("sessions.listen", &mut settings.listen, &sessions::LISTEN);
    reader.text("sessions.mode", &mut settings.mode, &sessions::MODE);
    reader.secret("sessions.password", &mut settings.password, &fleet::PASSWORD);
    reader.secret_unset_if_empty("sessions.url", &mut settings.url, &fleet::REDIS_URL);
    reader.text("sessions.master", &mut settings.master, &fleet::WORD_OR_EMPTY);
    reader.number("sessions.database", &mut settings.database, 0..=9_999);
    reader.number("sessions.databases", &mut settings.databases, 1..=10_000);
    reader.duration("sessions.timeout", &mut settings.timeout, 10 * MILLISECOND..=TEN_MINUTES);
    reader.duration("sessions.failover_wait", &mut settings.failover_wait, ZERO..=TEN_MINUTES);
    reader.number("sessions.trunks", &mut settings.trunks, 1..=64);
    reader.number("sessions.trunks_max", &mut settings.trunks_max, 1..=10_000);
    reader.number("sessions.pinned_max", &mut settings.pinned_max, 1..=100_000);
    reader.number("sessions.clients_max", &mut settings.clients_max, 1..=1_000_000);
    reader.duration("sessions.idle_timeout", &mut settings.idle_timeout, ZERO..=DAY);
    reader.duration("sessions.write_timeout", &mut settings.write_timeout, SECOND..=HOUR);
    reader.size("sessions.request_max", &mut settings.request_max_bytes, 64 * KIB..=512 * MIB);
    reader.number("sessions.arguments_max", &mut settings.arguments_max, 100..=1_048_576);
    reader.size("sessions.reply_max", &mut settings.reply_max_bytes, 64 * KIB..=4 * GIB);
    reader.number("sessions.pipeline_max", &mut settings.pipeline_max, 1..=1_000_000);
    reader.size("sessions.buffers_max", &mut settings.buffers_max_bytes, MIB..=1_024 * GIB);
    reader.text("sessions.key_prefix", &mut settings.key_prefix, &sessions::KEY_PREFIX);
    reader.duration("sessions.wait_max", &mut settings.wait_max, ZERO..=TEN_MINUTES);
    reader.duration("sessions.hold_max", &mut settings.hold_max, ZERO..=TEN_MINUTES);
    reader.number("sessions.waiters_max", &mut settings.waiters_max, 1..=100_000);
    reader.duration("sessions.orphan_after", &mut settings.orphan_after, SECOND..=TEN_MINUTES);
    reader.list("sessions.cookies", &mut settings.cookies, &syntax::COOKIE);
    reader.number("sessions.queue_max", &mut settings.queue_max, 0..=100_000);
    reader.duration("sessions.queue_wait", &mut settings.queue_wait, ZERO..=HOUR);
    reader.duration("sessions.lockless_after", &mut settings.lockless_after, MILLISECOND..=HOUR);
    reader.list("sessions.lockless_paths", &mut settings.lockless_paths, &syntax::SEGMENTS);
    reader.word("sessions.fill_cookie", &mut settings.fill_cookie);
    reader.word("sessions.bots", &mut settings.bots);
    reader.list("sessions.bot_agents", &mut settings.bot_agents, &sessions::AGENT);
    reader.duration("sessions.visitor_ttl", &mut settings.visitor_ttl, MILLISECOND..=TEN_MINUTES);
    reader.duration("sessions.visitor_wait", &mut settings.visitor_wait, MILLISECOND..=60 * SECOND);
    reader.number("sessions.visitors_max", &mut settings.visitors_max, 1..=10_000_000);
    reader.size("sessions.record_max", &mut settings.record_max_bytes, 4 * KIB..=64 * MIB);
    reader.text("sessions.journal", &mut settings.journal, &syntax::FILE_PATH);
    reader.size("sessions.memory", &mut settings.memory_bytes, MIB..=1_024 * GIB);
}

fn objects(reader: &mut Reader, settings: &mut Objects) {
    reader.unset_if_empty("objects.listen", &mut settings.listen, &objects::LISTEN);
    reader.text("objects.mode", &mut settings.mode, &sessions::MODE);
    reader.size("objects.memory", &mut settings.memory_bytes, MIB..=1_024 * GIB);
    reader.number("objects.databases", &mut settings.databases, 1..=10_000);
    reader.number("objects.clients_max", &mut settings.clients_max, 1..=1_000_000);
    reader.duration("objects.idle_timeout", &mut settings.idle_timeout, ZERO..=DAY);
    reader.duration("objects.write_timeout", &mut settings.write_timeout, SECOND..=HOUR);
    reader.size("objects.request_max", &mut settings.request_max_bytes, 64 * KIB..=512 * MIB);
    reader.number("objects.arguments_max", &mut settings.arguments_max, 100..=1_048_576);
    reader.size("objects.buffers_max", &mut settings.buffers_max_bytes, MIB..=1_024 * GIB);
    reader.list("objects.tag_sets", &mut settings.tag_sets, &objects::TAG_SETS);
    reader.list("objects.local", &mut settings.local, &objects::KEYS);
    reader.list("objects.indexes", &mut settings.indexes, &objects::KEYS);
    reader.list("objects.messages", &mut settings.messages, &objects::KEYS);
    let timeout = MILLISECOND..=60 * SECOND;
    reader.duration("objects.messages_timeout", &mut settings.messages_timeout, timeout);
    reader.duration("objects.pause", &mut settings.pause, 10 * MILLISECOND..=HOUR);
    reader.duration("objects.work_max", &mut settings.work_max, SECOND..=DAY);
    reader.number("objects.cleans_max", &mut settings.cleans_max, 16..=100_000_000);
    reader.size("objects.clean_max", &mut settings.clean_max_bytes, KIB..=GIB);
}

fn health(reader: &mut Reader, health: &mut Health) {
    reader.text("health.path", &mut health.path, &syntax::URL_PATH);
    reader.optional_text("health.probe", &mut health.probe, &syntax::URL_PATH_OR_EMPTY);
    reader.duration("health.interval", &mut health.interval, 10 * MILLISECOND..=HOUR);
    reader.duration("health.timeout", &mut health.timeout, MILLISECOND..=TEN_MINUTES);
    reader.number("health.window", &mut health.window, 1..=1_000);
    reader.number("health.threshold", &mut health.threshold, 1..=1_000);
    reader.duration("health.refused", &mut health.refused, ZERO..=HOUR);
}

fn control(reader: &mut Reader, control: &mut Control) {
    reader.secret("control.token", &mut control.token, &syntax::TOKEN);
}

fn log(reader: &mut Reader, log: &mut Log) {
    reader.text("log.level", &mut log.level, &syntax::LOG_LEVEL);
    reader.text("log.access", &mut log.access, &syntax::ACCESS_LOG);
    reader.word("log.format", &mut log.format);
    reader.number("log.queue_max", &mut log.queue_max, 1..=10_000_000);
    reader.switch("log.shorten_addresses", &mut log.shorten_addresses);
}

fn lifecycle(reader: &mut Reader, lifecycle: &mut Lifecycle) {
    reader.number("lifecycle.threads", &mut lifecycle.threads, 0..=1_024);
    reader.duration("lifecycle.drain", &mut lifecycle.drain, ZERO..=HOUR);
    reader.duration("lifecycle.deadline", &mut lifecycle.deadline, ZERO..=DAY);
    let restart_timeout = &mut lifecycle.restart_timeout;
    reader.duration("lifecycle.restart_timeout", restart_timeout, SECOND..=HOUR);
    reader.duration("lifecycle.restart_fill", &mut lifecycle.restart_fill, ZERO..=HOUR);
}
