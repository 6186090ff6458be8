//! What a changed configuration changes in a running server.

use std::fmt::Display;

use crate::settings::Settings;

/// The outcome of comparing two configurations.
#[derive(Clone, Debug, PartialEq)]
pub struct ReloadPlan {
    /// What is in force from now on: the new settings, with the old values where a change needs a
    /// restart.
    pub settings: Settings,
    /// Sections and settings that change now. Files that settings name (TLS) are read again in any
    /// case: their content may have changed.
    pub applied: Vec<&'static str>,
    /// Settings that changed in the file and keep their old value until a restart.
    pub needs_restart: Vec<&'static str>,
}

impl ReloadPlan {
    /// What changes now, in words.
    fn changed(&self) -> String {
        match (self.applied.as_slice(), self.needs_restart.as_slice()) {
            ([], []) => "nothing".to_owned(),
            ([], _) => "nothing until a restart".to_owned(),
            (applied, _) => applied.join(", "),
        }
    }
}

/// Keeps the old value of each of these settings and notes where the new one differs.
macro_rules! keep {
    ($old:ident, $settings:ident, $kept:ident, $($section:ident: $($key:ident),+;)+) => {$($(
        if $settings.$section.$key != $old.$section.$key {
            $settings.$section.$key.clone_from(&$old.$section.$key);
            $kept.push(key(concat!(stringify!($section), ".", stringify!($key))));
        }
    )+)+};
}

/// Keeps the whole section, for settings which [`keep`] does not name one by one.
macro_rules! keep_sections {
    ($old:ident, $settings:ident, $kept:ident, $($section:ident),+) => {$(
        if $settings.$section != $old.$section {
            $settings.$section.clone_from(&$old.$section);
            $kept.push(stringify!($section));
        }
    )+};
}

/// Notes the sections that differ.
macro_rules! differing {
    ($old:ident, $settings:ident, $($section:ident),+) => {
        [$(($settings.$section != $old.$section, stringify!($section))),+]
    };
}

/// What changes from `old` to `new`, and what needs a restart: sockets, the memory of the store,
/// threads and the connections to the origin are set up once.
pub fn plan(old: &Settings, new: &Settings) -> ReloadPlan {
    let mut settings = new.clone();
    let needs_restart = keep_what_needs_a_restart(old, &mut settings);
    let mut applied: Vec<_> = differing!(
        old,
        settings,
        tls,
        site,
        bots,
        traffic,
        error_pages,
        maintenance,
        challenge,
        waiting_room,
        store,
        fill,
        esi,
        encoding,
        purge,
        health,
        control,
        admission
    )
    .into_iter()
    .filter_map(|(differs, section)| differs.then_some(section))
    .collect();
    // The rest of these sections needs a restart, so they are named by what can differ.
    if settings.log != old.log {
        applied.push("log.level");
    }
    if settings.lifecycle != old.lifecycle {
        applied.push("lifecycle");
    }
    ReloadPlan { settings, applied, needs_restart }
}

fn keep_what_needs_a_restart(old: &Settings, settings: &mut Settings) -> Vec<&'static str> {
    let mut kept = Vec::new();
    keep!(old, settings, kept,
        listen: http, https, control, trusted, keep_alive, header_timeout, body_timeout,
            write_timeout, rate_min_bytes, connections_max, connections_per_address_max,
            request_line_max_bytes,
            header_max_bytes, head_max_bytes, headers_max, body_max_bytes, body_memory_max_bytes,
            bodies_memory_max_bytes, body_directory, http2_streams_max, interim_responses_max, upgrades_max,
            upgrade_idle_timeout, http2_resets_max, http2_control_max,
            http2_fields_memory_max_bytes, http2_stall_timeout, unknown_methods;
        origin: http, fastcgi, root, php_root, links, params, concurrency_max, status,
            status_listen, status_interval, queue_max, queue_timeout, keep_alive, connect_timeout, first_byte_timeout, between_bytes_timeout,
            head_max_bytes, response_memory_max_bytes, retries;
        traffic: accounts_max, secret, earlier_secrets;
        bots: resolvers, in_flight_max, queue_max, remembered_max;
        files: threads, deadline, precompressed, static_max_age, media_max_age;
        store: memory_bytes, tags_max, purged_tags_max, snapshot_directory, snapshot_interval;
        purge: echo, echoes_max;
        log: access, format, queue_max, shorten_addresses;
        lifecycle: threads;
    );
    keep_sections!(old, settings, kept, listen, origin, files, redis, fleet, sessions);
    kept
}

/// The key as the configuration has it: its unit stands in the value there.
fn key(field: &'static str) -> &'static str {
    field.strip_suffix("_bytes").unwrap_or(field)
}

/// Judges a configuration that was read again and logs the outcome. `None`: it is wrong, and the
/// old one stays in force.
pub fn accept<E: Display>(old: &Settings, read: Result<Settings, E>) -> Option<ReloadPlan> {
    let new = match read {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "the new configuration is wrong; the old one stays in force");
            return None;
        }
    };
    let plan = plan(old, &new);
    if !plan.needs_restart.is_empty() {
        tracing::warn!(
            settings = plan.needs_restart.join(", "),
            "these settings keep their old value until a restart"
        );
    }
    let changed = plan.changed();
    tracing::info!(changed, "the configuration was read again");
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::AccessFormat;
    use std::time::Duration;

    #[test]
    fn an_equal_configuration_changes_nothing() {
        let old = Settings::default();
        let plan = plan(&old, &old);
        assert_eq!(
            plan,
            ReloadPlan { settings: old, applied: Vec::new(), needs_restart: Vec::new() }
        );
        assert_eq!(plan.changed(), "nothing");
        let waiting = ReloadPlan { needs_restart: vec!["listen.http"], ..plan };
        assert_eq!(waiting.changed(), "nothing until a restart");
    }

    #[test]
    fn what_can_be_applied_is_applied_and_the_rest_is_named_and_kept() {
        let old = Settings::default();
        let mut new = old.clone();
        new.site.hosts = vec!["shop.example".to_owned()];
        new.site.bypass_cookies = vec!["preview".to_owned()];
        new.store.grace = Duration::ZERO;
        new.store.memory_bytes = 1;
        new.log.level = "debug".to_owned();
        new.log.format = AccessFormat::Combined;
        new.lifecycle.drain = Duration::ZERO;
        new.lifecycle.threads = 7;
        new.listen.http.clear();
        new.origin.head_max_bytes = 1;
        new.control.token = "secret".to_owned();
        let plan = plan(&old, &new);
        assert_eq!(plan.changed(), "site, store, control, log.level, lifecycle");
        assert_eq!(plan.applied, ["site", "store", "control", "log.level", "lifecycle"]);
        assert_eq!(
            plan.needs_restart,
            ["listen.http", "origin.head_max", "store.memory", "log.format", "lifecycle.threads"]
        );
        let mut expected = new;
        expected.listen = old.listen.clone();
        expected.origin = old.origin.clone();
        expected.store.memory_bytes = old.store.memory_bytes;
        expected.log.format = old.log.format;
        expected.lifecycle.threads = old.lifecycle.threads;
        assert_eq!(plan.settings, expected);
    }

    #[test]
    fn a_wrong_configuration_leaves_the_old_one_in_force() {
        assert_eq!(accept(&Settings::default(), Err("site.hosts: no")), None);
        let new = Settings { site: crate::settings::Site::default(), ..Settings::default() };
        let plan = accept::<String>(&Settings::default(), Ok(new)).expect("right");
        assert_eq!(plan.settings, Settings::default());
    }
}
