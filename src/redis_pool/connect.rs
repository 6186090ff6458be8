//! How a connection is made: straight, or to the master that a sentinel names.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::command::error_of;
use super::raw::{Raw, SetUpError};
use super::{RedisError, Stream, stream};
use crate::resp::{Protocol, Value};
use crate::settings::{self, HostPort, RedisServer};

/// A user and password; empty ones are not sent.
#[derive(Clone)]
struct Login {
    user: String,
    password: String,
}

/// Where Redis is, and how to get there.
pub(super) struct Target {
    server: RedisServer,
    database: u32,
    login: Login,
    sentinels: Vec<HostPort>,
    master: String,
    sentinel_login: Login,
    tls: Option<TlsConnector>,
    timeout: Duration,
}

/// A connection whose answers are told apart, and the task that does that, which ends with it.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) connection: MultiplexedConnection,
    _driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Target {
    pub(super) fn new(settings: &settings::Redis) -> Result<Self, RedisError> {
        let url = settings.url.as_ref();
        let nowhere = || RedisServer::Tcp(HostPort { host: String::new(), port: 0 });
        Ok(Self {
            server: url.map_or_else(nowhere, |url| url.server.clone()),
            database: url.map_or(0, |url| url.database),
            login: Login {
                user: settings.user().to_owned(),
                password: settings.password().to_owned(),
            },
            sentinels: settings.sentinels.clone(),
            master: settings.master.clone(),
            sentinel_login: Login {
                user: settings.sentinel_user.clone(),
                password: settings.sentinel_password.clone(),
            },
            tls: stream::connector(settings)?,
            timeout: settings.connect_timeout,
        })
    }

    pub(super) fn address(&self) -> String {
        if !self.sentinels.is_empty() {
            return format!("{} by its sentinels", self.master);
        }
        address_of(&self.server)
    }

    /// A new connection to the database of the settings, whose answers are told apart.
    pub(super) async fn connect(&self) -> Result<Shared, RedisError> {
        let stream = self.dial(self.database, Protocol::Resp2).await?.stream;
        // It is logged in: the crate has nothing to send.
        let info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        // Who asks says how long an answer may take.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| error_of(&error))?;
        let driver = Arc::new(Driver(tokio::spawn(driver)));
        Ok(Shared { connection, _driver: driver })
    }

    /// A new connection, logged in.
    pub(super) async fn dial(&self, database: u32, protocol: Protocol) -> Result<Raw, RedisError> {
        if self.sentinels.is_empty() {
            return self.open(&self.server, &self.login, database, protocol).await;
        }
        let mut what = String::new();
        for sentinel in &self.sentinels {
            match self.by_sentinel(sentinel, database, protocol).await {
                Ok(connection) => return Ok(connection),
                Err(login @ RedisError::Login { .. }) => return Err(login),
                Err(error) => what = error.to_string(),
            }
        }
        let (asked, master) = (self.sentinels.len(), self.master.clone());
        Err(RedisError::NoMaster { asked, master, what })
    }

    async fn by_sentinel(
        &self,
        sentinel: &HostPort,
        database: u32,
        protocol: Protocol,
    ) -> Result<Raw, RedisError> {
        let place = RedisServer::Tcp(sentinel.clone());
        let mut link = self.open(&place, &self.sentinel_login, 0, Protocol::Resp2).await?;
        let question = [b"SENTINEL", &b"get-master-addr-by-name"[..], self.master.as_bytes()];
        let master = match self.within(link.ask(&question)).await? {
            Value::Array(address) => server_of(&address).ok_or(RedisError::Unexpected)?,
            Value::Error(what) => {
                return Err(RedisError::Refused(String::from_utf8_lossy(&what).into_owned()));
            }
            _ => return Err(RedisError::Refused(format!("{sentinel} does not know it"))),
        };
        let mut connection = self.open(&master, &self.login, database, protocol).await?;
        // A sentinel may not have heard of a failover yet.
        let role = self.within(connection.ask(&[b"ROLE"])).await?;
        match role {
            Value::Array(role) if role.first().is_some_and(is_master) => Ok(connection),
            Value::Error(what) => {
                Err(RedisError::Refused(String::from_utf8_lossy(&what).into_owned()))
            }
            _ => Err(RedisError::Refused(format!("what {sentinel} names is no master"))),
        }
    }

    async fn within<T>(
        &self,
        what: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        let timed_out = |_| RedisError::TimedOut(self.timeout);
        tokio::time::timeout(self.timeout, what).await.map_err(timed_out)?
    }

    async fn open(
        &self,
        server: &RedisServer,
        login: &Login,
        database: u32,
        protocol: Protocol,
    ) -> Result<Raw, RedisError> {
        let address = address_of(server);
        let failed = |what: String| RedisError::Connect { address: address.clone(), what };
        let made = async {
            let stream = Stream::open(server, self.tls.as_ref()).await;
            let mut raw = Raw::new(stream.map_err(|error| failed(error.to_string()))?);
            let login = (login.user.as_str(), login.password.as_str());
            raw.set_up(login, database, protocol).await.map_err(|error| match error {
                SetUpError::Login(what) => RedisError::Login { address: address.clone(), what },
                // The server is there, and will not do it; unless it says to come again.
                SetUpError::Refused(what) if is_lasting(&what) => RedisError::Refused(what),
                SetUpError::Refused(what) | SetUpError::Lost(RedisError::Broken(what)) => {
                    failed(what)
                }
                SetUpError::Lost(error) => error,
            })?;
            Ok(raw)
        };
        match tokio::time::timeout(self.timeout, made).await {
            Ok(made) => made,
            Err(_elapsed) => Err(failed(format!("no connection within {:?}", self.timeout))),
        }
    }
}

/// Will a server that refuses to select a database or to speak a version of the protocol with these
/// words do so again?
fn is_lasting(what: &str) -> bool {
    !["LOADING", "MASTERDOWN", "ERR max number"].iter().any(|passing| what.starts_with(passing))
}

fn address_of(server: &RedisServer) -> String {
    match server {
        RedisServer::Tcp(address) => address.to_string(),
        RedisServer::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn is_master(role: &Value) -> bool {
    matches!(role, Value::Bulk(role) | Value::Simple(role) if role == "master")
}

/// The address as a sentinel names it: host and port.
fn server_of(address: &[Value]) -> Option<RedisServer> {
    let [Value::Bulk(host), Value::Bulk(port)] = address else { return None };
    let host = std::str::from_utf8(host).ok()?.to_owned();
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(RedisServer::Tcp(HostPort { host, port }))
}
