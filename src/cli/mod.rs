//! The command line: `run`, `check`, `explain`, `demo`, `purge`, `stats`, `fleet`, `sessions`, `objects`, `maintenance`, `room`,
//! `restart` and `drain`.

mod arguments;
mod client;
mod commands;
mod concerns;
mod explain;
mod fleet;
mod objects;
mod printable;
mod room;
mod sessions;
mod steer;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::clock::Clock;
use crate::lifecycle::handover;
use crate::listener::{self, TlsError};
use crate::policy::{Policy, PolicyError};
use crate::settings::{Mistakes, Settings, Tls, process_environment};
use crate::traffic::bots::Bots;
use arguments::{Arguments, Command, ControlArguments};
use client::{Server, ServerError};

/// The server refused or cannot be reached.
const REFUSED: u8 = 1;

/// Wrong arguments or a wrong configuration.
const MISUSED: u8 = 2;

/// What `demo` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoOptions {
    /// The port on loopback to listen on; 0: any free one.
    pub port: u16,
}

/// Reads this process' arguments and does what they say; `run` and `demo` serve.
///
/// `run` gets settings that fit this machine, and the file they came from, to read it again at
/// SIGHUP. Exit status: 0 done, 1 the server refused or cannot be reached, 2 wrong arguments or
/// configuration.
pub fn main(
    run: impl FnOnce(Settings, Option<PathBuf>) -> ExitCode,
    demo: impl FnOnce(DemoOptions) -> ExitCode,
) -> ExitCode {
    let environment = process_environment().collect();
    let mut terminal = Terminal { out: &mut std::io::stdout(), error: &mut std::io::stderr() };
    dispatch(std::env::args_os(), environment, &mut terminal, run, demo)
}

/// Where a command writes to. What cannot be written, to a closed pipe say, is nobody's loss.
struct Terminal<'a> {
    out: &'a mut dyn Write,
    error: &'a mut dyn Write,
}

impl Terminal<'_> {
    fn say(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn complain(&mut self, text: impl std::fmt::Display) {
        let _ = writeln!(self.error, "{text}");
    }
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Misconfigured(#[from] Mistakes),
    #[error("{}", lines(.0))]
    Unruly(Vec<PolicyError>),
    #[error(transparent)]
    Insecure(#[from] TlsError),
    #[error("{0}")]
    Unknowing(String),
    #[error("parvis: {0}")]
    Refused(#[from] ServerError),
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Misconfigured(_) | Self::Unruly(_) | Self::Insecure(_) | Self::Unknowing(_) => {
                ExitCode::from(MISUSED)
            }
            Self::Refused(_) => ExitCode::from(REFUSED),
        }
    }
}

fn dispatch(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(String, String)>,
    terminal: &mut Terminal<'_>,
    run: impl FnOnce(Settings, Option<PathBuf>) -> ExitCode,
    demo: impl FnOnce(DemoOptions) -> ExitCode,
) -> ExitCode {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(help_or_error) => return print_usage(&help_or_error, terminal),
    };
    let said = match command {
        Command::Demo(arguments) => return demo(DemoOptions { port: arguments.port }),
        Command::Run(arguments) => match load(arguments.path().as_deref(), environment) {
            Ok(settings) => return run(settings, arguments.path()),
            Err(error) => {
                // It may have been started to take over.
                handover::tell_failure(&error.to_string());
                Err(error)
            }
        },
        Command::Check(arguments) => check(&arguments, environment),
        Command::Explain(arguments) => load(arguments.config.path().as_deref(), environment)
            .and_then(|settings| explain::explain(&settings, &arguments)),
        Command::Purge(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(commands::purge(&server, &arguments.what, arguments.soft)?)),
        Command::Stats(arguments) => server(arguments.shown.server, environment)
            .and_then(|server| Ok(commands::stats(&server, arguments.shown.json, arguments.all)?)),
        Command::Fleet(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(fleet::fleet(&server, arguments.json)?)),
        Command::Sessions(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(sessions::sessions(&server, arguments.json)?)),
        Command::Objects(mut asked) => server(asked.server(), environment)
            .and_then(|server| Ok(objects::objects(&server, &asked)?)),
        Command::Maintenance(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(steer::maintenance(&server, arguments.what, arguments.json)?)),
        Command::Room(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(room::room(&server, arguments.what, arguments.json)?)),
        Command::Restart(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(steer::restart(&server, &mut |text| terminal.say(text))?)),
        Command::Drain(arguments) => server(arguments.server, environment)
            .and_then(|server| Ok(steer::drain(&server, &mut |text| terminal.say(text))?)),
    };
    match said {
        Ok(text) => {
            terminal.say(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            terminal.complain(&error);
            error.exit_code()
        }
    }
}

/// `--help` and `--version` come this way too, and are no errors.
fn print_usage(help_or_error: &clap::Error, terminal: &mut Terminal<'_>) -> ExitCode {
    if help_or_error.use_stderr() {
        terminal.complain(help_or_error.render().to_string().trim_end());
        if let Some(file) = file_without_option(help_or_error) {
            terminal.complain(format!("\ntip: a configuration is given as --config {file}"));
        }
        ExitCode::from(MISUSED)
    } else {
        terminal.say(&help_or_error.render().to_string());
        ExitCode::SUCCESS
    }
}

/// The argument that nobody expected, where it looks like a configuration.
fn file_without_option(error: &clap::Error) -> Option<&str> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_toml = Path::new(argument).extension().is_some_and(|ending| ending == "toml");
    (is_toml && !argument.starts_with('-')).then_some(argument)
}

/// Settings that fit this machine, and whose rules compile.
fn load(
    config: Option<&Path>,
    environment: Vec<(String, String)>,
) -> Result<Settings, CommandError> {
    let settings = Settings::load_for_this_machine(config, environment)?;
    Policy::new(&settings).map(|_| settings).map_err(CommandError::Unruly)
}

fn lines(errors: &[PolicyError]) -> String {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("\n")
}

fn check(
    arguments: &arguments::CheckArguments,
    environment: Vec<(String, String)>,
) -> Result<String, CommandError> {
    let config = arguments.config.path();
    let settings = load(config.as_deref(), environment)?;
    let name = config.map_or_else(
        || "No file was given: the environment".to_owned(),
        |path| path.display().to_string(),
    );
    let mut concerns = certificate_concerns(&settings.tls)?;
    for concern in concerns::concerns(&settings) {
        concerns = concerns + "Warning: " + &concern + "\n";
    }
    let summary = commands::summary(&settings)
        + &commands::row("bots", &bots(&settings)?)
        + &commands::row("traffic", &explain::summary(&settings.traffic, arguments.rules));
    Ok(format!("{name} is right. With it, parvis run would use:\n{summary}{concerns}"))
}

/// Reads the data of bots as `run` does, which goes on with the last good ones where they are wrong.
fn bots(settings: &Settings) -> Result<String, CommandError> {
    let bots = Bots::new(&settings.bots, Clock::system())
        .map_err(|error| CommandError::Unknowing(format!("bots: {error}")))?;
    let mistakes: Vec<String> =
        bots.mistakes().iter().map(|mistake| format!("bots: {mistake}")).collect();
    if mistakes.is_empty() {
        Ok(bots.summary())
    } else {
        Err(CommandError::Unknowing(mistakes.join("\n")))
    }
}

/// Loads the certificate as `run` does, and says what clients will not like about it now.
fn certificate_concerns(tls: &Tls) -> Result<String, TlsError> {
    if tls.certificate.as_os_str().is_empty() {
        return Ok(String::new());
    }
    let loaded = listener::tls::load(&tls.certificate, &tls.key)?;
    let concerns = loaded.concerns(Clock::system().wall());
    Ok(concerns.iter().fold(String::new(), |text, concern| text + "Warning: " + concern + "\n"))
}

/// The server to speak to. Arguments win over the environment, and that over the file.
fn server(
    arguments: ControlArguments,
    environment: Vec<(String, String)>,
) -> Result<Server, CommandError> {
    let settings = Settings::load(arguments.path().as_deref(), environment)?;
    Ok(Server {
        endpoint: arguments.control.unwrap_or(settings.listen.control),
        token: arguments.token.unwrap_or(settings.control.token),
    })
}
