//! Addresses to listen on or connect to, and sets of networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

/// A socket: `127.0.0.1:80`, `[::1]:80` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.starts_with('/') {
                return Ok(Self::Unix(PathBuf::from(path)));
            }
            return Err("a Unix socket's path must be absolute, as in unix:/run/x.sock".to_owned());
        }
        text.parse()
            .map(Self::Tcp)
            .map_err(|_| "allowed: ADDRESS:PORT, [IPV6]:PORT or unix:/path".to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// A set of networks, such as `["127.0.0.0/8", "::1"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// This machine alone.
    pub fn loopback() -> Self {
        let v4 = IpNet::new_assert(IpAddr::from([127, 0, 0, 0]), 8);
        let v6 = IpNet::new_assert(IpAddr::from(std::net::Ipv6Addr::LOCALHOST), 128);
        Self(vec![v4, v6])
    }

    /// Is the address in one of the networks? IPv4 in IPv6 (`::ffff:a.b.c.d`) counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks, as they were given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &IpNet> {
        self.0.iter()
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str("nowhere");
        }
        for (at, network) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(formatter, "{separator}{network}")?;
        }
        Ok(())
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_what_it_writes() {
        for text in ["127.0.0.1:80", "[::1]:80", "unix:/run/x.sock"] {
            assert_eq!(text.parse::<Endpoint>().expect("valid").to_string(), text);
        }
        assert!("unix:relative".parse::<Endpoint>().is_err());
        assert!("localhost".parse::<Endpoint>().is_err());
    }

    #[test]
    fn mapped_addresses_count_as_ipv4() {
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().expect("valid");
        assert!(Networks::loopback().contains(mapped));
        assert!(!Networks::loopback().contains(IpAddr::from([10, 0, 0, 1])));
    }
}
