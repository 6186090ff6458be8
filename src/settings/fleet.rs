//! `[redis]` and `[fleet]`: what makes one cache of many servers.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::peers::Peers;
use super::syntax::{self, Syntax};
use super::warm::Warm;

/// `[redis]`: the server that the fleet shares.
#[derive(Clone, PartialEq)]
pub struct Redis {
    /// Where it is; `None` and no sentinels: there is none, and this is a single node.
    pub url: Option<RedisUrl>,
    /// Sentinels, which know the address of the master; the url's address is not asked then.
    pub sentinels: Vec<HostPort>,
    /// What the sentinels call the master.
    pub master: String,
    /// User at the sentinels; empty: none.
    pub sentinel_user: String,
    /// Password at the sentinels; empty: none.
    pub sentinel_password: String,
    /// ACL user; empty: the url's, or Redis' own default user.
    pub user: String,
    /// Its password; empty: the url's, or none.
    pub password: String,
    /// PEM file with the certificates of the authorities that are believed; empty: those of this
    /// system.
    pub authority: PathBuf,
    /// To connect, with TLS and authentication.
    pub connect_timeout: Duration,
    /// For one command.
    pub timeout: Duration,
    /// The longest pause between two tries to connect.
    pub reconnect_max: Duration,
    /// Not ready without it.
    pub require: bool,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            sentinels: Vec::new(),
            master: String::new(),
            sentinel_user: String::new(),
            sentinel_password: String::new(),
            user: String::new(),
            password: String::new(),
            authority: PathBuf::new(),
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            reconnect_max: Duration::from_secs(2),
            require: false,
        }
    }
}

impl Redis {
    /// Is there a Redis at all?
    pub fn is_set(&self) -> bool {
        self.url.is_some() || !self.sentinels.is_empty()
    }

    /// The user to log in as; empty: Redis' default user.
    pub fn user(&self) -> &str {
        let of_url = || self.url.as_ref().map_or("", |url| &url.user);
        if self.user.is_empty() { of_url() } else { &self.user }
    }

    /// The password; empty: none.
    pub fn password(&self) -> &str {
        let of_url = || self.url.as_ref().map_or("", |url| &url.password);
        if self.password.is_empty() { of_url() } else { &self.password }
    }
}

/// Without the passwords.
impl fmt::Debug for Redis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Redis")
            .field("url", &self.url)
            .field("sentinels", &self.sentinels)
            .field("master", &self.master)
            .field("user", &self.user)
            .field("authority", &self.authority)
            .field("require", &self.require)
            .finish_non_exhaustive()
    }
}

/// `redis.url`
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// Where.
    pub server: RedisServer,
    /// Is it `rediss://`?
    pub tls: bool,
    /// The user in the url; empty: none.
    pub user: String,
    /// The password in the url; empty: none.
    pub password: String,
    /// The number of the database.
    pub database: u32,
}

/// The address in a url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServer {
    /// A host and port.
    Tcp(HostPort),
    /// A Unix socket's path.
    Unix(PathBuf),
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

/// Without user and password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            RedisServer::Tcp(address) => {
                let scheme = if self.tls { "rediss" } else { "redis" };
                write!(formatter, "{scheme}://{address}/{}", self.database)
            }
            RedisServer::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A Redis url.
pub(super) const REDIS_URL: Syntax<RedisUrl> = Syntax {
    allowed: "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], the same with rediss:// for TLS, or \
              unix:///path",
    parse: redis_url,
};

/// The address of a sentinel.
pub(super) const SENTINEL: Syntax<HostPort> = Syntax {
    allowed: "HOST:PORT, or HOST for port 26379",
    parse: |text| host_port(text, SENTINEL_PORT),
};

/// A word without white space, or nothing.
pub(super) const WORD_OR_EMPTY: Syntax<String> = Syntax {
    allowed: "printable ASCII without spaces, at most 255 bytes; or nothing",
    parse: |text| {
        if text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(text.to_owned())
        } else {
            Err("has other characters, or is too long".to_owned())
        }
    },
};

/// Letters that are no pattern and no separator in a key of Redis or the name of a file.
pub(super) const NAME_OR_EMPTY: Syntax<String> =
    Syntax { allowed: "letters, digits and -._ (at most 100); or nothing", parse: name };

/// The same, and not nothing.
pub(super) const NAME: Syntax<String> = Syntax {
    allowed: "letters, digits and -._ (1 to 100)",
    parse: |text| if text.is_empty() { Err("is empty".to_owned()) } else { name(text) },
};

/// A password: anything, since no mistake shows it.
pub(super) const PASSWORD: Syntax<String> =
    Syntax { allowed: "any text", parse: |text| Ok(text.to_owned()) };

fn name(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if text.len() <= 100 && text.bytes().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("has other letters, or is too long".to_owned())
    }
}

fn redis_url(text: &str) -> Result<RedisUrl, String> {
    for scheme in ["unix://", "redis+unix://"] {
        if let Some(path) = text.strip_prefix(scheme) {
            return unix_url(path);
        }
    }
    let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err("has none of the schemes".to_owned()),
    };
    if rest.contains(['?', '#']) {
        return Err("has parameters, which are settings of their own here".to_owned());
    }
    // A password may contain an @ that nobody encoded; a host never does.
    let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let (address, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    Ok(RedisUrl {
        server: RedisServer::Tcp(host_port(address, REDIS_PORT)?),
        tls,
        user: decoded(user)?,
        password: decoded(password)?,
        database: database_of(database)?,
    })
}

fn unix_url(rest: &str) -> Result<RedisUrl, String> {
    let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let path = (syntax::DIRECTORY.parse)(path)?;
    let mut url = RedisUrl {
        server: RedisServer::Unix(path),
        tls: false,
        user: String::new(),
        password: String::new(),
        database: 0,
    };
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("db", number)) => url.database = database_of(number)?,
            Some(("user", user)) => url.user = decoded(user)?,
            Some(("pass", password)) => url.password = decoded(password)?,
            _ => return Err("has a parameter other than db, user and pass".to_owned()),
        }
    }
    Ok(url)
}

fn database_of(text: &str) -> Result<u32, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| "its database is no number".to_owned())
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| "is not UTF-8".to_owned())
}

fn host_port(text: &str, default_port: u16) -> Result<HostPort, String> {
    let is_bare_v6 = text.matches(':').count() > 1 && !text.starts_with('[');
    if is_bare_v6 {
        return Err("an IPv6 address stands in [ and ]".to_owned());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port.map(str::parse) {
        None => default_port,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err("its port is none".to_owned()),
    };
    let host = syntax::exact_host(host)?;
    Ok(HostPort { host: host.trim_matches(['[', ']']).to_owned(), port })
}

/// `[fleet]`: the log of purges that all servers of a shop share, and who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// This node's name; empty: the host's.
    pub name: String,
    /// What the keys in Redis begin with: one for each shop.
    pub prefix: String,
    /// The file that names the release; empty: none.
    pub release_file: PathBuf,
    /// Between two looks at the end of the log; each also announces this node.
    pub heartbeat: Duration,
    /// How long such a look counts; then this node is soft. Its announcement expires as late.
    pub proof_max: Duration,
    /// While soft: how long a response is trusted that was fetched anew.
    pub refill_trust: Duration,
    /// While soft: the share of `origin.concurrency_max` that refreshes may take, in percent.
    pub refresh_share_percent: usize,
    /// While soft: fetch before answering, and answer 503 where that fails.
    pub strict: bool,
    /// The longest time that `X-Parvis-Wait: fleet` waits.
    pub wait_max: Duration,
    /// Entries of the log that Redis keeps, about.
    pub log_max: usize,
    /// Purges that wait to be written to the log.
    pub queue_max: usize,
    /// The directory of the journal; empty: it is kept in memory alone.
    pub journal_directory: PathBuf,
    /// Bytes of purges that the journal keeps while Redis is away.
    pub journal_max_bytes: u64,
    /// Own entries that are appended again after a failover.
    pub recent_max: usize,
    /// How old they may be.
    pub recent_age: Duration,
    /// What nodes say to each other directly.
    pub peers: Peers,
    /// Nodes that come and go.
    pub warm: Warm,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            name: String::new(),
            prefix: "parvis".to_owned(),
            release_file: PathBuf::new(),
            heartbeat: Duration::from_secs(1),
            proof_max: Duration::from_secs(5),
            refill_trust: Duration::from_secs(30),
            refresh_share_percent: 30,
            strict: false,
            wait_max: Duration::from_millis(500),
            log_max: 100_000,
            queue_max: 10_000,
            journal_directory: PathBuf::from("/var/lib/parvis"),
            journal_max_bytes: 16 << 20,
            recent_max: 1_000,
            recent_age: Duration::from_mins(10),
            peers: Peers::default(),
            warm: Warm::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RedisUrl {
        (REDIS_URL.parse)(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_url_has_a_host_and_may_have_login_port_and_database() {
        let plain = url("redis://127.0.0.1");
        assert_eq!(plain.to_string(), "redis://127.0.0.1:6379/0");
        let full = url("rediss://parvis:p%40ss%3a@redis.shop.example:6380/3");
        assert!(full.tls);
        assert_eq!((full.user.as_str(), full.password.as_str()), ("parvis", "p@ss:"));
        assert_eq!(full.to_string(), "rediss://redis.shop.example:6380/3");
        assert_eq!(url("redis://:a@b@[::1]:7").password, "a@b");
        assert_eq!(url("redis://[::1]:7").to_string(), "redis://[::1]:7/0");
        let socket = url("redis+unix:///run/redis.sock?db=2&pass=x");
        assert_eq!(socket.server, RedisServer::Unix("/run/redis.sock".into()));
        assert_eq!((socket.database, socket.password.as_str()), (2, "x"));
        assert_eq!(url("unix:///run/redis.sock").database, 0);
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for wrong in [
            "",
            "127.0.0.1:6379",
            "http://a",
            "redis://",
            "redis://a:0",
            "redis://a:x",
            "redis://a/x",
            "redis://::1",
            "redis://a?b=c",
            "unix://run/a",
            "unix:///a?x=1",
        ] {
            assert!((REDIS_URL.parse)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        let redis = Redis {
            url: Some(url("redis://u:hidden1@h")),
            password: "hidden2".to_owned(),
            sentinel_password: "hidden3".to_owned(),
            ..Redis::default()
        };
        assert!(!format!("{redis:?} {}", url("redis://u:hidden1@h")).contains("hidden"));
    }

    #[test]
    fn a_sentinel_has_a_port_of_its_own() {
        let sentinel = |text| (SENTINEL.parse)(text).map(|address: HostPort| address.to_string());
        assert_eq!(sentinel("10.0.0.1"), Ok("10.0.0.1:26379".to_owned()));
        assert_eq!(sentinel("a:1"), Ok("a:1".to_owned()));
    }
}
