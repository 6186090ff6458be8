//! The real resolver.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData};

use super::look_up::{NoAnswer, Resolver};
use crate::settings::KnownBots;

/// Records of one answer that are looked at.
const RECORDS_MAX: usize = 64;

/// Asks the DNS servers of the settings, or of the system.
#[derive(Debug)]
pub(super) struct Dns(TokioResolver);

/// The system does not say which servers to ask.
#[derive(Debug, thiserror::Error)]
#[error("no DNS server to ask: {0}")]
pub(super) struct NoServer(NetError);

impl Dns {
    /// Reads `/etc/resolv.conf` where the settings name no server.
    ///
    /// # Errors
    /// [`NoServer`]
    pub fn new(settings: &KnownBots) -> Result<Self, NoServer> {
        let mut builder = if settings.resolvers.is_empty() {
            TokioResolver::builder_tokio().map_err(NoServer)?
        } else {
            let mut config = ResolverConfig::default();
            for address in &settings.resolvers {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                config.add_name_server(server);
            }
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // A share of it, so that there is time for a second question and a second server.
        options.timeout = settings.timeout / 4;
        options.attempts = 1;
        // Names are taken from DNS, where the operator has them, and what is found is remembered elsewhere.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        options.max_active_requests = settings.in_flight_max;
        builder.build().map(Self).map_err(NoServer)
    }
}

impl Resolver for Dns {
    async fn names(&self, address: IpAddr) -> Result<Vec<String>, NoAnswer> {
        let found = answers(self.0.reverse_lookup(address).await)?;
        let name = |record: RData| match record {
            RData::PTR(name) => Some(name.0.to_ascii().trim_end_matches('.').to_owned()),
            _ => None,
        };
        Ok(found.into_iter().filter_map(name).collect())
    }

    async fn addresses(&self, name: &str, like: IpAddr) -> Result<Vec<IpAddr>, NoAnswer> {
        // With the dot at its end no search domain is tried.
        let Ok(name) = Name::from_ascii(format!("{name}.")) else { return Ok(Vec::new()) };
        let found = match like {
            IpAddr::V4(_) => answers(self.0.ipv4_lookup(name).await)?,
            IpAddr::V6(_) => answers(self.0.ipv6_lookup(name).await)?,
        };
        let address = |record: RData| match record {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(address).collect())
    }
}

/// The records of an answer; none where the servers say that there are none.
fn answers(outcome: Result<Lookup, NetError>) -> Result<Vec<RData>, NoAnswer> {
    match outcome {
        Ok(lookup) => {
            let records = lookup.answers().iter().take(RECORDS_MAX);
            Ok(records.map(|record| record.data.clone()).collect())
        }
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => {
            tracing::debug!(%error, "DNS did not answer about a bot's address");
            Err(NoAnswer)
        }
    }
}
