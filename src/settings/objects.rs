//! `[objects]`: the object cache of the shop, which PHP asks for in the protocol of Redis.

use std::time::Duration;

use super::Endpoint;
use super::sessions::Mode;
use super::syntax::{self, Syntax};

/// `[objects]`: what this server keeps for PHP's object cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Objects {
    /// Where PHP connects to; `None`: this server keeps no objects.
    pub listen: Option<Endpoint>,
    /// The access mode of a Unix socket in `listen`.
    pub mode: Mode,
    /// Bytes that all databases may take together.
    pub memory_bytes: u64,
    /// Databases that clients may select.
    pub databases: u32,
    /// Clients at once.
    pub clients_max: usize,
    /// How long a client may say nothing; zero: for ever.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of its replies.
    pub write_timeout: Duration,
    /// Bytes of one command.
    pub request_max_bytes: usize,
    /// Arguments of one command.
    pub arguments_max: usize,
    /// Bytes of commands that have not come whole, of all clients together.
    pub buffers_max_bytes: usize,
}

impl Default for Objects {
    fn default() -> Self {
        Self {
            listen: None,
            mode: Mode(0o660),
            memory_bytes: 256 << 20,
            databases: 16,
            clients_max: 2_000,
            idle_timeout: Duration::ZERO,
            write_timeout: Duration::from_mins(1),
            request_max_bytes: 64 << 20,
            arguments_max: 1_048_576,
            buffers_max_bytes: 256 << 20,
        }
    }
}

/// `objects.listen`. Who reaches it decides what PHP renders, so it is for this machine.
pub(super) const LISTEN: Syntax<Endpoint> = Syntax {
    allowed: "unix:/path, or an address of this machine alone with a port, such as 127.0.0.1:6380",
    parse: |text| match (syntax::LISTENER.parse)(text)? {
        Endpoint::Tcp(address) if !address.ip().to_canonical().is_loopback() => {
            Err("other machines reach this address, and objects are for PHP on this one".to_owned())
        }
        endpoint => Ok(endpoint),
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_for_this_machine_alone() {
        for good in ["unix:/run/parvis/objects.sock", "127.0.0.1:6380", "[::1]:6380"] {
            assert!((LISTEN.parse)(good).is_ok(), "{good}");
        }
        for wrong in ["0.0.0.0:6380", "[::]:6380", "10.0.0.7:6380", "unix:run", "localhost:6380"] {
            assert!((LISTEN.parse)(wrong).is_err(), "{wrong}");
        }
    }
}
