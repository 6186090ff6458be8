//! The arguments and what `--help` says of them.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::settings::Endpoint;

/// Where packages put the configuration.
const INSTALLED: &str = "/etc/parvis/parvis.toml";

const EXAMPLES: &str = "\
Examples:
  parvis demo
      See it work on this machine: open http://127.0.0.1:6081/ in a browser.
  parvis check --config /etc/parvis/parvis.toml
      Before a restart: is the configuration right, and what would it do?
  parvis explain --url 'https://shop.example/women.html?color=49' --from 192.0.2.1 --ua Mozilla/5.0
      What would become of this request by the rules of [traffic], and why?
  parvis run --config /etc/parvis/parvis.toml
      Serve. SIGTERM drains and ends, SIGHUP reads the configuration again.
  parvis purge --tag cat_p_42 --tag cat_c_7
      Drop every stored page that shows product 42 or category 7.
  parvis purge --url https://shop.example/sale.html --soft
      Go on serving the stored page while one fetch refreshes it.
  parvis stats
      Hits, misses and what is stored; with `--all` also what is 0.
  parvis fleet
      The servers of the shop: release, place in the log, load, hit ratio.
  parvis sessions
      Which pages hold a session's lock, and how many requests wait for one.
  parvis objects stats
      The object cache of PHP: memory, hits, keys by database; `objects top` and `objects get` show keys.
  parvis maintenance on
      While the shop is being worked on; `off` opens it again.
  parvis room on
      Before a launch: visitors wait, and come in one after another; `status` says how many wait.
  parvis restart --config /etc/parvis/parvis.toml
      A new process takes the sockets over, with the program and configuration that are there now.
  parvis drain
      Take this server out, and wait until it has finished what it has.

Settings come from the file, then from environment variables, which win:
  PARVIS__STORE__MEMORY=1GiB parvis run --config /etc/parvis/parvis.toml

Point Magento at it, so that it sends its purges:
  bin/magento setup:config:set --http-cache-hosts=127.0.0.1:6081

Exit status: 0 done; 1 the server refused or cannot be reached; 2 wrong arguments or configuration.";

const OBJECTS_EXAMPLES: &str = "\
Examples:
  parvis objects stats
      Is objects.memory enough? Where keys make room for others while hits fall, it is not.
  parvis objects top --database 1 --count 5
      What takes most, and which tags name most values.
  parvis objects get zc:k:69d_CONFIG --full
      One value with its type, time to live and tags. What is no text is printed as \\xNN, and taken so, too.

Magento's caches: database 0 has configuration, blocks and collections, as env.php says (`database`).
`top` and `get` show the shop's data, so they need control.token, or without one this machine.";

/// A caching reverse proxy which runs as a sidecar on every Magento 2 web server.
///
/// It takes the place of Varnish and nginx: stored pages leave from memory, misses go to PHP-FPM
/// or another HTTP server, and Magento purges by tag.
#[derive(Debug, Parser)]
#[command(name = "parvis", version, max_term_width = 100, after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve.
    Run(ConfigArguments),
    /// Say every mistake of a configuration, or what it would do.
    Check(CheckArguments),
    /// Say what becomes of a request by the rules of a configuration, and why.
    ///
    /// Each rule of [traffic] is gone through in order: which of its conditions does not hold, or what it says.
    /// Limits are shown and not counted. No server is asked: who is looked up in DNS counts as not looked up yet.
    Explain(ExplainArguments),
    /// Serve a small shop of our own, to see hits, misses and purges.
    Demo(DemoArguments),
    /// Drop stored responses.
    Purge(PurgeArguments),
    /// Show what the server has done and holds.
    ///
    /// Counts that are 0 are left out.
    Stats(FiguresArguments),
    /// Show the servers that share a log of purges, and how far each has read it.
    Fleet(StatsArguments),
    /// Show sessions on their way between PHP and Redis: waits, and which paths hold locks.
    ///
    /// Magento locks a session while it works on a request of it, and every other request of that visitor
    /// waits. The table says which pages hold locks now, and for how long; ids and content are never
    /// shown. Many tries that wait at one path are a visitor's many requests, or a slow page. Tries with
    /// the plain answer had waited `sessions.hold_max`, and went on as they would without Parvis.
    Sessions(StatsArguments),
    /// Show the object cache that PHP asks: numbers, the largest keys, one key.
    #[command(subcommand, after_long_help = OBJECTS_EXAMPLES)]
    Objects(ObjectsAsked),
    /// Switch maintenance: all but `maintenance.allow` get a page that says so.
    ///
    /// It lasts until it is switched off or the server stops; `parvis restart` keeps it. What is to outlast a
    /// stop is a file: `maintenance.flag`.
    Maintenance(MaintenanceArguments),
    /// Switch the waiting room, or show how many wait.
    ///
    /// With [redis] that holds for the whole fleet. It outlasts a restart; `auto` leaves it to `waiting_room.mode` and `times` again.
    Room(RoomArguments),
    /// Have a new process take over, without a gap; where it cannot, the old one goes on.
    Restart(SteerArguments),
    /// Take the server out as SIGTERM does, and wait for its end.
    Drain(SteerArguments),
}

#[derive(Args, Debug)]
pub(super) struct SteerArguments {
    #[command(flatten)]
    pub server: ControlArguments,
}

/// What `maintenance` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum MaintenanceOrder {
    /// Switch it on.
    On,
    /// Switch off what was switched on so.
    Off,
    /// Say whether it is on, and what says so.
    Status,
}

#[derive(Args, Debug)]
pub(super) struct MaintenanceArguments {
    #[arg(value_enum)]
    pub what: MaintenanceOrder,
    /// Print the server's JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

/// What `room` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RoomOrder {
    /// Have visitors wait.
    On,
    /// Let everybody in, whatever the settings say.
    Off,
    /// As the settings have it again.
    Auto,
    /// Say whether visitors wait, why, and how many.
    Status,
    /// Empty the line: who waits draws anew.
    Clear,
}

#[derive(Args, Debug)]
pub(super) struct RoomArguments {
    #[arg(value_enum)]
    pub what: RoomOrder,
    /// Print the server's JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The URL that is asked for, with http or https in front.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    pub from: std::net::IpAddr,
    /// Its User-Agent.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub ua: String,
    /// The method.
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A header of the request, as in "Cookie: PHPSESSID=x"; may be given again.
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct ConfigArguments {
    /// The configuration, a TOML file. Without it: /etc/parvis/parvis.toml where that is there, else the environment and the
    /// defaults alone.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArguments {
    /// The file that was given, or the one that is installed.
    pub fn path(&self) -> Option<PathBuf> {
        given_or_installed(self.config.as_ref(), Path::exists)
    }
}

fn given_or_installed(given: Option<&PathBuf>, counts: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    given.cloned().or_else(|| Some(PathBuf::from(INSTALLED)).filter(|path| counts(path)))
}

#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Show the default rules of [traffic], too, and not only the given ones.
    #[arg(long)]
    pub rules: bool,
}

#[derive(Args, Debug)]
pub(super) struct DemoArguments {
    /// The port on 127.0.0.1 to listen on; 0 takes a free one.
    #[arg(long, short, value_name = "PORT", default_value_t = 6081)]
    pub port: u16,
}

/// How to reach a server that runs.
#[derive(Args, Debug, Default)]
pub(super) struct ControlArguments {
    /// The server's control address: `127.0.0.1:6082` or `unix:/path`. Without it:
    /// `listen.control` of the configuration.
    #[arg(long, value_name = "ADDR")]
    pub control: Option<Endpoint>,
    /// The token of the control API. Other users of this machine see arguments, so better put it
    /// into `PARVIS__CONTROL__TOKEN` or the configuration.
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// The server's configuration, for its control address and token. Without it: /etc/parvis/parvis.toml where that can be
    /// read.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ControlArguments {
    /// The file that was given, or the one that is installed. Not everybody may read that.
    pub fn path(&self) -> Option<PathBuf> {
        given_or_installed(self.config.as_ref(), |path| std::fs::File::open(path).is_ok())
    }
}

#[derive(Args, Debug)]
pub(super) struct PurgeArguments {
    #[command(flatten)]
    pub what: PurgeWhat,
    /// Mark them as stale instead: still served while one fetch refreshes them.
    #[arg(long)]
    pub soft: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

/// Exactly one of them.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct PurgeWhat {
    /// Responses with this tag; may be repeated.
    #[arg(long, short, value_name = "TAG")]
    pub tag: Vec<String>,
    /// The response of this URL, with all its variants.
    #[arg(long, short, value_name = "URL")]
    pub url: Option<String>,
    /// Everything.
    #[arg(long)]
    pub all: bool,
}

#[derive(Args, Debug)]
pub(super) struct StatsArguments {
    /// As the server sends it, for programs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

#[derive(Args, Debug)]
pub(super) struct FiguresArguments {
    /// Counts that are 0, too.
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
    #[command(flatten)]
    pub shown: StatsArguments,
}

/// What of the object cache is shown.
#[derive(Debug, Subcommand)]
pub(super) enum ObjectsAsked {
    /// Memory, keys, hits, evictions and clients, with a row for each database that has keys.
    Stats(StatsArguments),
    /// The values that take most memory, and the sets with most members, which are the tags.
    ///
    /// All keys are looked at, in turns between which clients are served, so it may be called while the shop
    /// is busy. A value of some MB is read in whole by each request that asks for it; a tag that names
    /// almost all values cleans almost all.
    Top(ObjectsTop),
    /// One key: type, time to live, tags, and what stands under it.
    ///
    /// It does not count as used, nor as a hit. Values that Magento has compressed (gzip, zstd) are shown as
    /// what they are.
    Get(ObjectsGet),
}

#[derive(Args, Debug)]
pub(super) struct ObjectsTop {
    /// Only this database; without it all.
    #[arg(long, short, value_name = "NUMBER")]
    pub database: Option<u32>,
    /// Entries of each list, 1 to 1000.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
    pub count: u32,
    /// As the server sends it, for programs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

#[derive(Args, Debug)]
pub(super) struct ObjectsGet {
    /// The key as PHP names it, or as `top` prints it.
    pub key: String,
    /// Its database.
    #[arg(long, short, value_name = "NUMBER", default_value_t = 0)]
    pub database: u32,
    /// Up to 3 MiB of it instead of 2 KiB.
    #[arg(long)]
    pub full: bool,
    /// As the server sends it, for programs.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: ControlArguments,
}

impl ObjectsAsked {
    /// The server to ask.
    pub fn server(&mut self) -> ControlArguments {
        let server = match self {
            Self::Stats(of) => &mut of.server,
            Self::Top(of) => &mut of.server,
            Self::Get(of) => &mut of.server,
        };
        std::mem::take(server)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn error(arguments: &[&str]) -> ErrorKind {
        let arguments = [&["parvis"], arguments].concat();
        Arguments::try_parse_from(arguments).expect_err("refused").kind()
    }

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_purge_names_exactly_one_kind_of_thing() {
        assert_eq!(error(&["purge"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(error(&["purge", "--soft"]), ErrorKind::MissingRequiredArgument);
        assert_eq!(error(&["purge", "--all", "--tag", "a"]), ErrorKind::ArgumentConflict);
        let arguments = ["parvis", "purge", "--tag", "a", "--tag", "b", "--soft"];
        let parsed = Arguments::try_parse_from(arguments).expect("valid");
        let Command::Purge(purge) = parsed.command else { panic!("not a purge") };
        assert_eq!(purge.what.tag, ["a", "b"]);
        assert!(purge.soft);
    }

    #[test]
    fn a_wrong_address_or_port_is_bad_usage() {
        assert_eq!(error(&["stats", "--control", "localhost"]), ErrorKind::ValueValidation);
        assert_eq!(error(&["demo", "--port", "65536"]), ErrorKind::ValueValidation);
        assert_eq!(error(&["serve"]), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn help_shows_each_command_with_an_example() {
        let help = Arguments::command().render_long_help().to_string();
        for command in [
            "run", "check", "demo", "purge", "stats", "fleet", "sessions", "objects", "restart",
            "drain",
        ] {
            assert!(help.contains(&format!("\n  parvis {command}")), "{command}");
        }
        assert!(help.contains("PARVIS__STORE__MEMORY"));
    }
}
