//! What a node and the others of its fleet say to each other directly: the keys of `[fleet]` that
//! concern pages.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::syntax::Syntax;

/// The part of `[fleet]` that is about pages.
#[derive(Clone, PartialEq)]
pub struct Peers {
    /// Where the other nodes reach this one; `None`: pages are neither asked for nor given.
    pub listen: Option<SocketAddr>,
    /// What all nodes know and nobody else; empty: certificates alone.
    pub secret: String,
    /// PEM file with this node's certificate, and those between it and the authority; empty: none.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// PEM file with the authority of all nodes' certificates.
    pub authority: PathBuf,
    /// How long a page's owner may take to say that it works on it.
    pub owner_wait: Duration,
    /// How long it may then be silent.
    pub owner_silence: Duration,
    /// How long a node is not asked after it has been too slow or away.
    pub owner_pause: Duration,
    /// Connections of other nodes.
    pub connections_max: usize,
    /// Pages that are asked for by other nodes at once.
    pub requests_max: usize,
}

impl Default for Peers {
    fn default() -> Self {
        Self {
            listen: None,
            secret: String::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            authority: PathBuf::new(),
            owner_wait: Duration::from_millis(150),
            owner_silence: Duration::from_secs(1),
            owner_pause: Duration::from_secs(5),
            connections_max: 256,
            requests_max: 256,
        }
    }
}

impl Peers {
    /// Do certificates prove who a node is?
    pub fn has_certificate(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

/// Without the secret.
impl fmt::Debug for Peers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Peers")
            .field("listen", &self.listen)
            .field("certificate", &self.certificate)
            .field("owner_wait", &self.owner_wait)
            .finish_non_exhaustive()
    }
}

/// Where other nodes connect to.
pub(super) const ADDRESS: Syntax<SocketAddr> = Syntax {
    allowed: "an IP address of this server with a port, such as 10.0.0.7:6083",
    parse: |text| {
        let address: SocketAddr = text.parse().map_err(|_| "no address".to_owned())?;
        if address.ip().is_unspecified() {
            return Err("the other nodes are told this address, and cannot reach it".to_owned());
        }
        if address.port() == 0 { Err("no port to connect to".to_owned()) } else { Ok(address) }
    },
};

/// Characters of a secret that nobody guesses.
const SECRET_MIN: usize = 16;

/// `fleet.secret`
pub(super) const SECRET: Syntax<String> = Syntax {
    allowed: "at least 16 characters, or nothing",
    parse: |text| match text.chars().count() {
        0 | SECRET_MIN.. => Ok(text.to_owned()),
        _ => Err("is too short".to_owned()),
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_others_can_reach() {
        assert!((ADDRESS.parse)("10.0.0.7:6083").is_ok() && (ADDRESS.parse)("[fd00::7]:1").is_ok());
        for wrong in ["", "10.0.0.7", "0.0.0.0:6083", "[::]:6083", "10.0.0.7:0", "web-1:6083"] {
            assert!((ADDRESS.parse)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_none_is_shown() {
        assert!((SECRET.parse)("").is_ok() && (SECRET.parse)("0123456789abcdef").is_ok());
        assert!((SECRET.parse)("0123456789abcde").is_err());
        let peers = Peers { secret: "hidden".to_owned(), ..Peers::default() };
        assert!(!format!("{peers:?}").contains("hidden"));
    }
}
