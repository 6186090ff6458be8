//! The files with data: names, hosts and ranges of bots as TOML, and lists of ranges as operators publish
//! them. Pure: text in, data out, or the first mistake.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use config::{Config, File, FileFormat};
use ipnet::IpNet;
use serde::Deserialize;

/// Bytes of a bot's name.
const NAME_MAX_BYTES: usize = 40;
/// Bytes of an operator's name.
const OPERATOR_MAX_BYTES: usize = 80;
/// Bytes of what is looked for in User-Agent; fewer than three would be in every browser's.
const AGENT_BYTES: std::ops::RangeInclusive<usize> = 3..=100;
/// Bytes of a host's name (RFC 1035 2.3.4).
const HOST_MAX_BYTES: usize = 253;
/// The widest ranges that an operator may have; wider ones are a slip that would prove everybody.
const PREFIX_MIN_V4: u8 = 8;
const PREFIX_MIN_V6: u8 = 16;
/// Bytes that are shown of an operator's own date.
const CREATED_MAX_BYTES: usize = 40;

/// What is wrong with a file, or with all of them together.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    /// It is no file.
    #[error("it is no file")]
    NoFile,
    /// It is too large.
    #[error("it is larger than bots.file_max, {0} bytes")]
    TooLarge(u64),
    /// It is not as its format is.
    #[error("{0}")]
    Format(String),
    /// Its date is none.
    #[error("date = {0:?} is no date such as 2026-01-31")]
    Date(String),
    /// A bot's data are wrong.
    #[error("bot {bot:?}: {what}")]
    Bot {
        /// Its name.
        bot: String,
        /// What is wrong.
        what: String,
    },
    /// A device's name is wrong.
    #[error("devices: {0}")]
    Device(String),
    /// A list of ranges has none.
    #[error("there is no range in prefixes")]
    NoRanges,
    /// A range is wrong.
    #[error("{0:?} is no range, or wider than any operator's")]
    Range(String),
    /// There is no bot of this name to have the ranges.
    #[error("there is no bot {0:?} in the data")]
    UnknownBot(String),
    /// All together are more than a bound allows.
    #[error("{0}")]
    TooMany(String),
}

/// What a bot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It builds the index of a search engine.
    SearchEngine,
    /// It collects for a model, or asks for one.
    Ai,
    /// It looks at pages for those who want to be found.
    Seo,
    /// It places or checks advertisements.
    Advertising,
    /// It looks whether the shop is up.
    Monitor,
    /// It shows a page where somebody shared its address.
    Preview,
    /// It reads feeds.
    Feed,
    /// It keeps pages for later.
    Archive,
    /// A program or library with which anybody asks for anything.
    Tool,
    /// Anything else that says so.
    Other,
}

impl Kind {
    /// Its word in data, rules and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SearchEngine => "search-engine",
            Self::Ai => "ai",
            Self::Seo => "seo",
            Self::Advertising => "advertising",
            Self::Monitor => "monitor",
            Self::Preview => "preview",
            Self::Feed => "feed",
            Self::Archive => "archive",
            Self::Tool => "tool",
            Self::Other => "other",
        }
    }
}

/// One file of names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Data {
    /// When its facts were true, as it says.
    pub date: SystemTime,
    /// The same as it is written.
    pub day: String,
    /// Does nothing count that stood before it?
    pub replaces: bool,
    /// Names of devices in which those of bots stand.
    pub devices: Vec<String>,
    /// The bots.
    pub bots: Vec<Entry>,
}

/// A bot as a file has it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The name by which rules and metrics know it.
    pub name: String,
    /// Whose it is; empty: nobody's in particular.
    #[serde(default)]
    pub operator: String,
    /// What it is for.
    pub kind: Kind,
    /// What its User-Agent contains one of.
    pub agents: Vec<String>,
    /// What the names of its hosts end with.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Do those names lead back to its addresses?
    #[serde(default = "yes")]
    pub hosts_resolve: bool,
    /// Where it asks from.
    #[serde(default)]
    pub ranges: Vec<IpNet>,
    /// Are these all?
    #[serde(default)]
    pub ranges_whole: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    date: String,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    bot: Vec<Entry>,
}

impl Data {
    /// Reads a file of names.
    ///
    /// # Errors
    /// [`DataError`]: the first mistake.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let whole: Whole = Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()
            .and_then(Config::try_deserialize)
            .map_err(|error| DataError::Format(error.to_string()))?;
        let date = date_of(&whole.date).ok_or_else(|| DataError::Date(whole.date.clone()))?;
        let mut bots = whole.bot;
        for bot in &mut bots {
            let name = bot.name.clone();
            check(bot).map_err(|what| DataError::Bot { bot: name, what })?;
        }
        for device in &whole.devices {
            check_agent(device).map_err(DataError::Device)?;
        }
        Ok(Self { date, day: whole.date, replaces: whole.replace, devices: whole.devices, bots })
    }
}

fn check(bot: &mut Entry) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if bot.name.is_empty() || bot.name.len() > NAME_MAX_BYTES || !bot.name.bytes().all(letter) {
        return Err("its name is not of 1 to 40 lower case letters, digits and -".to_owned());
    }
    if bot.operator.len() > OPERATOR_MAX_BYTES || bot.operator.contains(char::is_control) {
        return Err("its operator's name is too long, or has control characters".to_owned());
    }
    bot.agents.iter().try_for_each(|agent| check_agent(agent))?;
    for host in &mut bot.hosts {
        *host = host_of(host).ok_or_else(|| format!("{host:?} is no host's name"))?;
    }
    let too_wide = bot.ranges.iter().find(|range| !is_narrow(range));
    too_wide.map_or(Ok(()), |range| Err(format!("{range} is wider than any operator's range")))
}

fn check_agent(agent: &str) -> Result<(), String> {
    let text = Agent::of(agent).text;
    let is_shown = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if AGENT_BYTES.contains(&text.len()) && text.bytes().all(is_shown) {
        return Ok(());
    }
    Err(format!("{agent:?} is not of 3 to 100 letters, digits and signs"))
}

/// The end of hosts' names in lower case, without dots around it. One label alone would be a whole
/// top-level domain.
fn host_of(text: &str) -> Option<String> {
    let host = text.trim_matches('.').to_ascii_lowercase();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_letter);
    let is_host =
        host.len() <= HOST_MAX_BYTES && host.contains('.') && host.split('.').all(is_label);
    is_host.then_some(host)
}

fn is_narrow(range: &IpNet) -> bool {
    let least = match range {
        IpNet::V4(_) => PREFIX_MIN_V4,
        IpNet::V6(_) => PREFIX_MIN_V6,
    };
    range.prefix_len() >= least
}

/// What is looked for in User-Agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agent<'a> {
    /// The text, in any case.
    pub text: &'a str,
    /// Does no letter stand before it?
    pub begins_word: bool,
    /// Does no letter follow?
    pub ends_word: bool,
}

impl<'a> Agent<'a> {
    /// `<bot>`: a whole word; without the signs it may be part of one.
    pub fn of(agent: &'a str) -> Self {
        let (begins_word, text) =
            agent.strip_prefix('<').map_or((false, agent), |text| (true, text));
        let (ends_word, text) = text.strip_suffix('>').map_or((false, text), |text| (true, text));
        Self { text, begins_word, ends_word }
    }
}

/// A list of ranges that an operator publishes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Published {
    /// The ranges.
    pub ranges: Vec<IpNet>,
    /// When they are from, as the operator says.
    pub created: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    creation_time: String,
    prefixes: Vec<Prefix>,
}

/// Operators may say more of each, and may have kinds that are not known here.
#[derive(Deserialize)]
struct Prefix {
    #[serde(rename = "ipv4Prefix")]
    v4: Option<String>,
    #[serde(rename = "ipv6Prefix")]
    v6: Option<String>,
}

impl Published {
    /// Reads a list as Google, Bing, Apple and others publish it:
    /// `{"creationTime": "...", "prefixes": [{"ipv4Prefix": "192.0.2.0/24"}]}`.
    ///
    /// # Errors
    /// [`DataError`]: the first mistake.
    pub fn parse(text: &str) -> Result<Self, DataError> {
        let list: List =
            serde_json::from_str(text).map_err(|error| DataError::Format(error.to_string()))?;
        let mut ranges = Vec::with_capacity(list.prefixes.len());
        for text in list.prefixes.into_iter().flat_map(|prefix| [prefix.v4, prefix.v6]).flatten() {
            let range = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match range {
                Ok(range) if is_narrow(&range) => ranges.push(range),
                _ => return Err(DataError::Range(text)),
            }
        }
        if ranges.is_empty() {
            return Err(DataError::NoRanges);
        }
        let mut created = list.creation_time;
        created.retain(|letter| letter.is_ascii_graphic());
        created.truncate(CREATED_MAX_BYTES);
        Ok(Self { ranges, created })
    }
}

/// The begin of a day such as `2026-01-31`, UTC.
fn date_of(text: &str) -> Option<SystemTime> {
    let mut parts = text.splitn(3, '-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u64>().ok())?
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let february = if is_leap(year) { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if year < 1970 || day == 0 || day > *months.get(before)? {
        return None;
    }
    let of_years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = of_years + months[..before].iter().sum::<u64>() + day - 1;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bot: &str) -> Result<Data, DataError> {
        Data::parse(&format!("date = \"2026-11-28\"\n[[bot]]\n{bot}"))
    }

    #[test]
    fn a_bot_has_all_that_its_table_says() {
        let data =
            one("name = \"x-bot\"\noperator = \"X\"\nkind = \"seo\"\nagents = [\"XBot/\"]\n\
                        hosts = [\".Crawl.X.example.\"]\nhosts_resolve = false\n\
                        ranges = [\"192.0.2.0/24\", \"2001:db8::/32\"]\nranges_whole = true\n")
            .expect("right");
        let bot = &data.bots[0];
        assert_eq!((bot.name.as_str(), bot.operator.as_str(), bot.kind), ("x-bot", "X", Kind::Seo));
        assert_eq!(bot.hosts, ["crawl.x.example"]);
        assert_eq!(bot.ranges.len(), 2);
        assert!(bot.ranges_whole && !bot.hosts_resolve && !data.replaces);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_name_of_its_bot() {
        let right = "name = \"x\"\nkind = \"seo\"\nagents = [\"xbot\"]\n";
        assert!(one(right).is_ok());
        for (wrong, said) in [
            ("name = \"X\"\nkind = \"seo\"\nagents = []\n", "lower case"),
            ("name = \"x\"\nkind = \"seo\"\nagents = [\"<b>\"]\n", "3 to 100"),
            ("name = \"x\"\nkind = \"seo\"\nagents = [\"b\u{f6}t\"]\n", "3 to 100"),
            ("name = \"x\"\nkind = \"none\"\nagents = []\n", "none"),
            ("name = \"x\"\nagents = []\n", "kind"),
            ("name = \"x\"\nkind = \"seo\"\nagents = []\nhost = []\n", "host"),
            ("name = \"x\"\nkind = \"seo\"\nagents = []\nhosts = [\"com\"]\n", "no host"),
            ("name = \"x\"\nkind = \"seo\"\nagents = []\nhosts = [\"a..b\"]\n", "no host"),
            ("name = \"x\"\nkind = \"seo\"\nagents = []\nranges = [\"0.0.0.0/0\"]\n", "wider"),
            ("name = \"x\"\nkind = \"seo\"\nagents = []\nranges = [\"300.0.0.0/8\"]\n", "ranges"),
        ] {
            let error = one(wrong).expect_err(wrong).to_string();
            assert!(error.contains(said), "{wrong}: {error}");
        }
        assert!(Data::parse("date = \"2026-11-28\"\n[[bot").is_err());
        assert!(Data::parse("").is_err(), "a file has its date");
        assert!(Data::parse("date = \"2026-11-28\"\ndevices = [\"\"]\n").is_err());
    }

    #[test]
    fn an_operators_own_list_is_read() {
        let list = Published::parse(
            r#"{"creationTime": "2026-10-05T14:46:05.000000",
                "prefixes": [{"ipv6Prefix": "2001:db8::/64"}, {"ipv4Prefix": "192.0.2.0/27", "x": 1},
                             {"ipv4Prefix": "198.51.100.7"}, {"new": "kind"}]}"#,
        )
        .expect("right");
        assert_eq!(list.created, "2026-10-05T14:46:05.000000");
        let ranges: Vec<String> = list.ranges.iter().map(ToString::to_string).collect();
        assert_eq!(ranges, ["2001:db8::/64", "192.0.2.0/27", "198.51.100.7/32"]);
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"prefixes": []}"#,
            r#"{"prefixes": [{"ipv4Prefix": "192.0.2.0/33"}]}"#,
            r#"{"prefixes": [{"ipv4Prefix": "0.0.0.0/0"}]}"#,
            r#"{"prefixes": [{"ipv6Prefix": "::/0"}]}"#,
            r#"{"prefixes": [{"ipv4Prefix": 1}]}"#,
        ] {
            assert!(Published::parse(wrong).is_err(), "{wrong}");
        }
        let long = format!(
            r#"{{"creationTime": "{}", "prefixes": [{{"ipv4Prefix": "192.0.2.1"}}]}}"#,
            "ü9".repeat(99)
        );
        assert_eq!(Published::parse(&long).expect("right").created, "9".repeat(CREATED_MAX_BYTES));
    }

    #[test]
    fn a_date_is_a_day_there_is() {
        let seconds = |text: &str| {
            date_of(text)?.duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs())
        };
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2000-03-01"), Some(951_868_800));
        assert_eq!(seconds("2026-11-28"), Some(1_795_824_000));
        for wrong in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "1969-12-31",
            "26-01-01",
            "2026-1-1",
            "2026-01-01T",
            "+026-01-01",
            "",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn signs_around_a_name_make_it_a_word() {
        let agent = |text| {
            let Agent { text, begins_word, ends_word } = Agent::of(text);
            (text, begins_word, ends_word)
        };
        assert_eq!(agent("bot"), ("bot", false, false));
        assert_eq!(agent("bot>"), ("bot", false, true));
        assert_eq!(agent("<bot>"), ("bot", true, true));
    }
}
