//! `[bots]`: who says that it is a bot, and who proves it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::syntax::{self, Syntax};

/// `[bots]`
#[derive(Clone, Debug, PartialEq)]
pub struct KnownBots {
    /// Files with names, ranges and hosts of bots, which add to those that Parvis has, or replace them.
    pub files: Vec<PathBuf>,
    /// Lists of ranges as operators publish them, each for one bot.
    pub ranges: Vec<RangesFile>,
    /// Between two looks at the files; zero: they are read at start and at a reload alone.
    pub look_every: Duration,
    /// Bytes of one of the files.
    pub file_max_bytes: u64,
    /// Names of bots, all together.
    pub agents_max: usize,
    /// Ranges of bots, all together.
    pub ranges_max: usize,
    /// After so long a list of ranges convicts nobody who is not in it.
    pub ranges_age_max: Duration,
    /// Is an address looked up whose bot can be proven by its host's name?
    pub look_up: bool,
    /// The DNS servers that are asked; empty: those of the system.
    pub resolvers: Vec<SocketAddr>,
    /// How long a look-up may take, with all its questions.
    pub timeout: Duration,
    /// Look-ups at once.
    pub in_flight_max: usize,
    /// Look-ups that wait.
    pub queue_max: usize,
    /// Addresses whose standing is remembered.
    pub remembered_max: usize,
    /// After so long what was proven is looked up again.
    pub proven_ttl: Duration,
    /// After so long an impostor is looked up again.
    pub impostor_ttl: Duration,
    /// After so long a look-up that failed is tried again.
    pub retry_after: Duration,
}

impl Default for KnownBots {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            ranges: Vec::new(),
            look_every: Duration::from_mins(1),
            file_max_bytes: 4 << 20,
            agents_max: 2_000,
            ranges_max: 100_000,
            ranges_age_max: Duration::from_hours(30 * 24),
            look_up: true,
            resolvers: Vec::new(),
            timeout: Duration::from_secs(5),
            in_flight_max: 16,
            queue_max: 1_000,
            remembered_max: 100_000,
            proven_ttl: Duration::from_hours(24),
            impostor_ttl: Duration::from_hours(6),
            retry_after: Duration::from_mins(1),
        }
    }
}

/// One of `bots.ranges`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangesFile {
    /// The bot's name in the data.
    pub bot: String,
    /// The file, JSON.
    pub path: PathBuf,
}

/// A file with data.
pub(super) const FILE: Syntax<PathBuf> =
    Syntax { allowed: "an absolute path", parse: |text| (syntax::DIRECTORY.parse)(text) };

/// A bot and the file with its ranges.
pub(super) const RANGES: Syntax<RangesFile> = Syntax {
    allowed: "a bot's name, = and an absolute path, as in googlebot=/var/lib/parvis/googlebot.json",
    parse: |text| {
        let (bot, path) = text.split_once('=').ok_or("no bot's name before a =")?;
        if bot.is_empty() {
            return Err("no bot's name before the =".to_owned());
        }
        Ok(RangesFile { bot: bot.to_owned(), path: (FILE.parse)(path)? })
    },
};

/// The port of DNS.
const DNS: u16 = 53;

/// A DNS server.
pub(super) const RESOLVER: Syntax<SocketAddr> = Syntax {
    allowed: "an IP address such as 10.0.0.2, or one with a port above 0 such as 10.0.0.2:53",
    parse: |text| {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, DNS));
        }
        let address: SocketAddr = text.parse().map_err(|_| "no address".to_owned())?;
        if address.port() == 0 { Err("no port to ask".to_owned()) } else { Ok(address) }
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ranges_names_its_bot() {
        let file = (RANGES.parse)("googlebot=/var/lib/x=y.json").expect("right");
        assert_eq!(file.bot, "googlebot");
        assert_eq!(file.path, PathBuf::from("/var/lib/x=y.json"));
        for wrong in ["/var/lib/x.json", "=/x.json", "googlebot=x.json", "googlebot="] {
            assert!((RANGES.parse)(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_resolver_has_the_port_of_dns_unless_it_names_one() {
        let parsed = |text| (RESOLVER.parse)(text).map(|address| address.to_string());
        assert_eq!(parsed("10.0.0.2"), Ok("10.0.0.2:53".to_owned()));
        assert_eq!(parsed("::1"), Ok("[::1]:53".to_owned()));
        assert_eq!(parsed("[::1]:5353"), Ok("[::1]:5353".to_owned()));
        assert!(parsed("10.0.0.2:0").is_err());
        assert!(parsed("resolver.example").is_err());
    }
}
