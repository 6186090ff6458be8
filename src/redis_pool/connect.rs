//! How a connection is made: straight, or to the master that a sentinel names.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, TlsCertificates,
};

use super::command::{Command, Reply, error_of};
use super::{Link, RedisError};
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
    tls: bool,
    database: u32,
    login: Login,
    sentinels: Vec<HostPort>,
    master: String,
    sentinel_login: Login,
    /// PEM, read at start.
    authority: Option<Vec<u8>>,
    timeout: Duration,
}

impl Target {
    pub(super) fn new(settings: &settings::Redis) -> Result<Self, RedisError> {
        let authority = if settings.authority.as_os_str().is_empty() {
            None
        } else {
            Some(std::fs::read(&settings.authority).map_err(|error| {
                RedisError::Authority(format!("{}: {error}", settings.authority.display()))
            })?)
        };
        let url = settings.url.as_ref();
        let nowhere = || RedisServer::Tcp(HostPort { host: String::new(), port: 0 });
        Ok(Self {
            server: url.map_or_else(nowhere, |url| url.server.clone()),
            tls: url.is_some_and(|url| url.tls),
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
            authority,
            timeout: settings.connect_timeout,
        })
    }

    pub(super) fn address(&self) -> String {
        if !self.sentinels.is_empty() {
            return format!("{} by its sentinels", self.master);
        }
        match &self.server {
            RedisServer::Tcp(address) => address.to_string(),
            RedisServer::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// A new connection, logged in.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        if self.sentinels.is_empty() {
            return self.open(&self.server, &self.login, self.database).await;
        }
        let mut what = String::new();
        for sentinel in &self.sentinels {
            match self.by_sentinel(sentinel).await {
                Ok(connection) => return Ok(connection),
                Err(login @ RedisError::Login { .. }) => return Err(login),
                Err(error) => what = error.to_string(),
            }
        }
        let (asked, master) = (self.sentinels.len(), self.master.clone());
        Err(RedisError::NoMaster { asked, master, what })
    }

    async fn by_sentinel(&self, sentinel: &HostPort) -> Result<MultiplexedConnection, RedisError> {
        let place = RedisServer::Tcp(sentinel.clone());
        let mut link = Link { connection: self.open(&place, &self.sentinel_login, 0).await? };
        let question = Command::new("SENTINEL").arg("get-master-addr-by-name").arg(&self.master);
        let answer = link.ask(&question, self.timeout).await?;
        let Some([host, port]) = answer.list() else {
            return Err(RedisError::Refused(format!("{sentinel} does not know it")));
        };
        let (host, port) = (host.text(), port.integer().and_then(|port| u16::try_from(port).ok()));
        let (Some(host), Some(port)) = (host, port) else { return Err(RedisError::Unexpected) };
        let master = RedisServer::Tcp(HostPort { host, port });
        let connection = self.open(&master, &self.login, self.database).await?;
        // A sentinel may not have heard of a failover yet.
        let mut link = Link { connection: connection.clone() };
        let role = link.ask(&Command::new("ROLE"), self.timeout).await?;
        let role = role.list().and_then(|role| role.first()).and_then(Reply::text);
        match role.as_deref() {
            Some("master") => Ok(connection),
            _ => Err(RedisError::Refused(format!("what {sentinel} names is no master"))),
        }
    }

    async fn open(
        &self,
        server: &RedisServer,
        login: &Login,
        database: u32,
    ) -> Result<MultiplexedConnection, RedisError> {
        let address = match server {
            RedisServer::Tcp(address) => address.to_string(),
            RedisServer::Unix(path) => format!("unix:{}", path.display()),
        };
        let failed = |what: String| RedisError::Connect { address: address.clone(), what };
        let client = self.client(server, login, database).map_err(|e| failed(e.to_string()))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        let made = client.get_multiplexed_async_connection_with_config(&config);
        match tokio::time::timeout(self.timeout, made).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                let is_login = error.kind() == redis::ErrorKind::AuthenticationFailed
                    || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"));
                match (is_login, error_of(&error)) {
                    (true, error) => {
                        let what = match error {
                            RedisError::Refused(what) | RedisError::Broken(what) => what,
                            other => other.to_string(),
                        };
                        Err(RedisError::Login { address, what })
                    }
                    (false, RedisError::Broken(what) | RedisError::Refused(what)) => {
                        Err(failed(what))
                    }
                    (false, other) => Err(other),
                }
            }
            Err(_elapsed) => Err(failed(format!("no connection within {:?}", self.timeout))),
        }
    }

    fn client(
        &self,
        server: &RedisServer,
        login: &Login,
        database: u32,
    ) -> redis::RedisResult<Client> {
        let address = match server {
            RedisServer::Unix(path) => ConnectionAddr::Unix(path.clone()),
            RedisServer::Tcp(HostPort { host, port }) if self.tls => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
            RedisServer::Tcp(HostPort { host, port }) => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name()
            .set_db(i64::from(database));
        if !login.user.is_empty() {
            info = info.set_username(&login.user);
        }
        if !login.password.is_empty() {
            info = info.set_password(&login.password);
        }
        let uses_tls = matches!(address, ConnectionAddr::TcpTls { .. });
        let info = address
            .into_connection_info()?
            .set_redis_settings(info)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        if uses_tls && let Some(authority) = &self.authority {
            let root_cert = Some(authority.clone());
            return Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert });
        }
        Client::open(info)
    }
}
