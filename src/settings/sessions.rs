//! `[sessions]`: the sessions of a shop, which PHP reads and writes through this server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::fleet::RedisUrl;
use super::syntax::{self, Syntax};
use super::{Endpoint, Redis, Settings};

/// `[sessions]`
#[derive(Clone, PartialEq)]
pub struct Sessions {
    /// Where PHP connects to; `None`: sessions do not pass through this server.
    pub listen: Option<Endpoint>,
    /// The access mode of a Unix socket in `listen`.
    pub mode: Mode,
    /// What clients log in with; empty: what the Redis behind wants.
    pub password: String,
    /// The Redis that has the sessions; `None`: that of `[redis]`.
    pub url: Option<RedisUrl>,
    /// What `redis.sentinels` call that Redis' master; empty: `redis.master`, or, with `url`,
    /// no sentinel is asked.
    pub master: String,
    /// The database that Magento keeps its sessions in, for what this server itself looks up.
    pub database: u32,
    /// Databases that clients may select: numbers below this.
    pub databases: u32,
    /// For one command; beyond it the connection to the Redis counts as lost.
    pub timeout: Duration,
    /// How long after the Redis was lost a command waits for it before it gets an error.
    pub failover_wait: Duration,
    /// Shared connections to the Redis for each database and protocol version in use.
    pub trunks: usize,
    /// Shared connections to the Redis in all.
    pub trunks_max: usize,
    /// Connections to the Redis at once that one client has for itself.
    pub pinned_max: usize,
    /// Clients at once.
    pub clients_max: usize,
    /// How long a client may say nothing; zero: for ever.
    pub idle_timeout: Duration,
    /// The longest time that a client may take nothing of its replies.
    pub write_timeout: Duration,
    /// Bytes of one command.
    pub request_max_bytes: usize,
    /// Arguments of one command.
    pub arguments_max: usize,
    /// Bytes of one reply.
    pub reply_max_bytes: usize,
    /// Commands of one client that are under way, or queued in its transaction.
    pub pipeline_max: usize,
    /// Bytes of commands and replies that are under way, of all clients together.
    pub buffers_max_bytes: usize,
    /// What the key of a session begins with.
    pub key_prefix: String,
    /// How long one try for a session's lock is held until it gets the plain answer.
    pub wait_max: Duration,
    /// How long all tries of one waiter are held in total.
    pub hold_max: Duration,
    /// Tries for the lock of one session that are held at once.
    pub waiters_max: usize,
    /// After this a lock counts as left behind whose server, or client here, is gone.
    pub orphan_after: Duration,
    /// The cookies that name a session; the first that a request has counts.
    pub cookies: Vec<String>,
    /// Requests of one session that wait before PHP.
    pub queue_max: usize,
    /// How long a request waits there.
    pub queue_wait: Duration,
    /// A request that has not taken its session's lock by then no longer holds the next one back.
    pub lockless_after: Duration,
    /// Paths whose requests never wait for their session.
    pub lockless_paths: Vec<String>,
    /// The session cookie of a request without `X-Magento-Vary` whose response all visitors share.
    pub fill_cookie: FillCookie,
    /// What becomes of the session of a declared bot.
    pub bots: Bots,
    /// Who is one besides those of the data of bots: texts in `User-Agent`, in lower case.
    pub bot_agents: Vec<String>,
    /// How long it is remembered what a session's record says of its visitor.
    pub visitor_ttl: Duration,
    /// How long a record is waited for; beyond it the visitor is unknown.
    pub visitor_wait: Duration,
    /// Visitors that are remembered at once.
    pub visitors_max: usize,
    /// Bytes of a record, once it is unpacked, that are read.
    pub record_max_bytes: usize,
    /// The file in which the embedded store keeps what it was told.
    pub journal: PathBuf,
    /// Bytes that the embedded store takes.
    pub memory_bytes: u64,
}

/// `sessions.fill_cookie`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillCookie {
    /// PHP does not get it for a page that all visitors were seen to share.
    Known,
    /// PHP does not get it for any page that all may share, until it proves to be one visitor's.
    Drop,
    /// PHP gets it.
    Keep,
}

/// `sessions.bots`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bots {
    /// They get one as everybody.
    Session,
    /// None is created.
    None,
}

/// The access mode of a Unix socket, such as 0o660.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

impl Default for Sessions {
    fn default() -> Self {
        Self {
            listen: None,
            mode: Mode(0o660),
            password: String::new(),
            url: None,
            master: String::new(),
            database: 2,
            databases: 16,
            timeout: Duration::from_secs(2),
            failover_wait: Duration::from_secs(10),
            trunks: 1,
            trunks_max: 64,
            pinned_max: 64,
            clients_max: 2_000,
            idle_timeout: Duration::ZERO,
            write_timeout: Duration::from_mins(1),
            request_max_bytes: 16 << 20,
            arguments_max: 100_000,
            reply_max_bytes: 64 << 20,
            pipeline_max: 1_000,
            buffers_max_bytes: 256 << 20,
            key_prefix: "sess_".to_owned(),
            wait_max: Duration::from_secs(2),
            hold_max: Duration::from_secs(3),
            waiters_max: 32,
            orphan_after: Duration::from_secs(2),
            cookies: vec!["admin".to_owned(), "PHPSESSID".to_owned()],
            queue_max: 32,
            queue_wait: Duration::from_secs(30),
            lockless_after: Duration::from_secs(1),
            lockless_paths: Vec::new(),
            fill_cookie: FillCookie::Known,
            bots: Bots::Session,
            bot_agents: Vec::new(),
            visitor_ttl: Duration::from_secs(5),
            visitor_wait: Duration::from_millis(50),
            visitors_max: 10_000,
            record_max_bytes: 1 << 20,
            journal: PathBuf::from("/var/lib/parvis/sessions.journal"),
            memory_bytes: 256 << 20,
        }
    }
}

impl Settings {
    /// The Redis that has the sessions, with what `[redis]` says of all servers; `None`: there is
    /// none, and this node keeps them itself.
    ///
    /// A url of its own brings its own user and password. Its sentinels are those of `[redis]`,
    /// and are asked only where `sessions.master` names another master.
    pub fn sessions_redis(&self) -> Option<Redis> {
        let sessions = &self.sessions;
        let mut redis = self.redis.clone();
        if let Some(url) = &sessions.url {
            redis.url = Some(url.clone());
            redis.user = String::new();
            redis.password = String::new();
            if sessions.master.is_empty() {
                redis.sentinels = Vec::new();
            }
        }
        if !sessions.master.is_empty() {
            redis.master.clone_from(&sessions.master);
        }
        redis.timeout = sessions.timeout;
        redis.is_set().then_some(redis)
    }
}

/// Without the passwords.
impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sessions")
            .field("listen", &self.listen)
            .field("url", &self.url)
            .field("master", &self.master)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// `sessions.listen`. Who reaches it reads every visitor's session, so it is for this machine.
pub(super) const LISTEN: Syntax<Endpoint> = Syntax {
    allowed: "unix:/path, or an address of this machine alone with a port, such as 127.0.0.1:6379",
    parse: |text| match (syntax::LISTENER.parse)(text)? {
        Endpoint::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            Err("other machines reach this address, and sessions are for PHP on this one"
                .to_owned())
        }
        endpoint => Ok(endpoint),
    },
};

/// `sessions.mode`
pub(super) const MODE: Syntax<Mode> = Syntax {
    allowed: "an octal mode from \"0600\" to \"0666\" that gives rights to read and write alone",
    parse: |text| match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o666 == 0 && mode & 0o600 == 0o600 => Ok(Mode(mode)),
        Ok(_) => Err("no mode of a socket that this server can serve".to_owned()),
        Err(_) => Err("no octal number".to_owned()),
    },
};

/// `sessions.key_prefix`
pub(super) const KEY_PREFIX: Syntax<String> = Syntax {
    allowed: "letters, digits and -._: (1 to 100)",
    parse: |text| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if (1..=100).contains(&text.len()) && text.bytes().all(letter) {
            Ok(text.to_owned())
        } else {
            Err("empty, too long, or with other letters".to_owned())
        }
    },
};

/// A text in `User-Agent`.
pub(super) const AGENT: Syntax<String> = Syntax {
    allowed: "a text of 3 to 100 printable ASCII characters",
    parse: |text| {
        let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if (3..=100).contains(&text.trim().len()) && text.bytes().all(printable) {
            Ok(text.to_ascii_lowercase())
        } else {
            Err("too short to tell bots from browsers, too long, or with other letters".to_owned())
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{HostPort, RedisServer};

    #[test]
    fn sessions_are_for_this_machine_alone() {
        for good in
            ["unix:/run/parvis/session.sock", "127.0.0.1:6379", "127.0.0.53:1", "[::1]:6379"]
        {
            assert!((LISTEN.parse)(good).is_ok(), "{good}");
        }
        for wrong in ["0.0.0.0:6379", "[::]:6379", "10.0.0.7:6379", "unix:run", "localhost:6379"] {
            assert!((LISTEN.parse)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mode_lets_this_server_in_and_nobody_execute() {
        assert_eq!((MODE.parse)("0660"), Ok(Mode(0o660)));
        assert_eq!((MODE.parse)("600"), Ok(Mode(0o600)));
        for wrong in ["", "0770", "0060", "07777", "9", "rw-rw----"] {
            assert!((MODE.parse)(wrong).is_err(), "{wrong}");
        }
    }

    fn url(host: &str) -> RedisUrl {
        RedisUrl {
            server: RedisServer::Tcp(HostPort { host: host.to_owned(), port: 6379 }),
            tls: true,
            user: String::new(),
            password: "hidden".to_owned(),
            database: 0,
        }
    }

    #[test]
    fn the_redis_of_the_sessions_is_that_of_the_fleet_unless_it_has_an_address() {
        let mut settings = Settings::default();
        assert!(settings.sessions_redis().is_none());
        settings.redis.url = Some(url("shared"));
        settings.redis.password = "x".to_owned();
        let redis = settings.sessions_redis().expect("that of the fleet");
        assert_eq!((redis.url, redis.password.as_str()), (Some(url("shared")), "x"));
        settings.sessions.url = Some(url("own"));
        settings.redis.sentinels = vec![HostPort { host: "s".to_owned(), port: 1 }];
        let redis = settings.sessions_redis().expect("its own");
        assert_eq!(redis.password(), "hidden");
        assert!(redis.sentinels.is_empty(), "they name another master");
        settings.sessions.master = "sessions".to_owned();
        let redis = settings.sessions_redis().expect("its own");
        assert_eq!((redis.sentinels.len(), redis.master.as_str()), (1, "sessions"));
        assert!(!format!("{:?}", settings.sessions).contains("hidden"));
    }
}
