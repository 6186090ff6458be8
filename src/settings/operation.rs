//! `[health]`, `[control]`, `[log]` and `[lifecycle]`: how a process is watched, steered and ended.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{PolicyKind, Settings};

/// `[health]`
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Answered on the public listener, for the load balancer.
    pub path: String,
    /// The origin's check; `None`: `/health_check.php` in the Magento policy, none in the
    /// generic one. Empty: none.
    pub probe: Option<String>,
    /// Between two probes.
    pub interval: Duration,
    /// For one probe.
    pub timeout: Duration,
    /// Probes that are looked at.
    pub window: usize,
    /// Of them, how many must have passed.
    pub threshold: usize,
    /// The origin's socket refusing for this long makes this server not ready.
    pub refused: Duration,
}

impl Settings {
    /// The path of the probe: `health.probe`, or what the policy has for it; empty: none.
    pub fn probe(&self) -> &str {
        self.health.probe.as_deref().unwrap_or(match self.site.policy {
            PolicyKind::Magento => "/health_check.php",
            PolicyKind::Generic => "",
        })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: "/.parvis/ready".to_owned(),
            probe: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            window: 10,
            threshold: 5,
            refused: Duration::from_secs(10),
        }
    }
}

/// `[control]`
#[derive(Clone, Default, PartialEq)]
pub struct Control {
    /// Bearer token of the purge API; empty: only `purge.allow` may use it.
    pub token: String,
}

/// Without the token.
impl fmt::Debug for Control {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_empty() { "unset" } else { "hidden" };
        formatter.debug_struct("Control").field("token", &format_args!("{token}")).finish()
    }
}

/// `[log]`
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Least level of the messages on stderr, as `tracing` filters take it.
    pub level: String,
    /// Where the access log goes.
    pub access: AccessLog,
    /// Its format.
    pub format: AccessFormat,
    /// Lines that may wait to be written; more are dropped and counted.
    pub queue_max: usize,
    /// Log IPv4 addresses as /24 and IPv6 as /48.
    pub shorten_addresses: bool,
}

/// `log.access`
#[derive(Clone, Debug, PartialEq)]
pub enum AccessLog {
    /// None.
    Off,
    /// Standard output.
    Stdout,
    /// A file, opened again at SIGHUP.
    File(PathBuf),
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// The combined log format.
    Combined,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            access: AccessLog::Stdout,
            format: AccessFormat::Json,
            queue_max: 65_536,
            shorten_addresses: false,
        }
    }
}

/// `[lifecycle]`
#[derive(Clone, Debug, PartialEq)]
pub struct Lifecycle {
    /// Worker threads; 0: one per core this process may use.
    pub threads: usize,
    /// After SIGTERM: how long to go on serving while reporting "not ready" (the load balancer's
    /// deregistration delay).
    pub drain: Duration,
    /// Then: how long requests in flight may take.
    pub deadline: Duration,
    /// How long a new process may take until it serves in place of this one.
    pub restart_timeout: Duration,
    /// How much of that it may wait for what this one has stored.
    pub restart_fill: Duration,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            threads: 0,
            drain: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            restart_timeout: Duration::from_secs(60),
            restart_fill: Duration::from_secs(15),
        }
    }
}
