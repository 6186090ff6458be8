//! Constructs and wires the parts of a process, and holds no logic of its own.

mod background;
mod control;
mod doors;
mod kept_objects;
mod objects;
mod restart;
mod server;
mod sessions;
mod wiring;

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::error_pages::ErrorPagesError;
use crate::fleet::FleetError;
use crate::lifecycle::handover::{HandoverError, Taken, inherited, tell_failure};
use crate::lifecycle::{self, Activated, LifecycleError};
use crate::listener::{ListenError, TlsError};
use crate::observe::{ObserveError, start_tracing};
use crate::origin::OriginError;
use crate::policy::PolicyError;
use crate::redis_pool::RedisError;
use crate::sessions::embedded::OpenError;
use crate::settings::{AccessLog, Settings};
use crate::traffic::bots::DataError;

pub use doors::{Doors, open};
pub use server::Server;
pub use wiring::{build_node, register_readings};

/// Why a process cannot start; one line each.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificate or key are of no use.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The rules cannot be compiled.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Policy(Vec<PolicyError>),
    /// The shop's error pages cannot be used.
    #[error("error_pages.directory: {0}")]
    ErrorPages(#[from] ErrorPagesError),
    /// The data of bots that this program has cannot be used.
    #[error("bots: {0}")]
    Bots(#[from] DataError),
    /// The web root cannot be used.
    #[error("origin.root: {0}")]
    Origin(#[from] OriginError),
    /// The settings of Redis or of the other nodes are of no use.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The settings of the sessions' Redis are of no use.
    #[error("sessions: {0}")]
    Sessions(#[from] RedisError),
    /// The journal of the sessions cannot be used.
    #[error("sessions.journal: {0}")]
    Journal(#[from] OpenError),
    /// The access log or the messages cannot be set up.
    #[error(transparent)]
    Observe(#[from] ObserveError),
    /// Signals or passed sockets.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// This process was to take over from another.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The runtime cannot be started.
    #[error("cannot start threads: {0}")]
    Runtime(std::io::Error),
}

/// Runs a node until it is told to stop. 0: it stopped in order; 2: it could not start.
pub fn run(settings: Settings, file: Option<PathBuf>) -> ExitCode {
    match start(settings, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell_failure(&error.to_string());
            eprintln!("parvis: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(settings: Settings, file: Option<PathBuf>) -> Result<(), AppError> {
    let predecessor = inherited()?;
    // Before any thread exists: it takes variables out of the environment.
    let activated = match predecessor {
        Some(_) => Activated::default(),
        None => lifecycle::take_sockets(&settings.listen)?,
    };
    let level = start_tracing(&settings.log.level)?;
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let config = file.as_ref().map_or_else(|| "none".into(), |path| path.to_string_lossy());
    tracing::info!(version, process, %config, "parvis starts");
    if settings.log.access == AccessLog::Stdout && lifecycle::stdout_is_the_journal() {
        tracing::warn!(
            "the access log goes to the journal, which by default drops all lines of a service beyond some \
             hundred a second, these too: log.access = \"/var/log/parvis/access.log\""
        );
    }
    raise_descriptor_limit();
    let runtime = runtime(settings.lifecycle.threads)?;
    runtime.block_on(async {
        let server = match predecessor {
            Some(socket) => {
                let taken = Taken::receive(socket).await?;
                Server::take_over(taken, settings, Some(level), file).await?
            }
            None => Server::open(settings, activated, Some(level), file).await?,
        };
        server.run_until_told().await
    })?;
    tracing::info!(process, "parvis has stopped");
    // Whatever still blocks on a file system must not hold the exit.
    runtime.shutdown_background();
    Ok(())
}

/// A runtime with one worker per core that this process may use, unless `threads` says otherwise.
/// Where that is one, it has nobody to share work with, and saves what sharing costs.
pub fn runtime(threads: usize) -> Result<tokio::runtime::Runtime, AppError> {
    let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = if threads > 0 { threads } else { cores() };
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder
        .worker_threads(threads)
        .enable_all()
        .thread_name("parvis")
        .build()
        .map_err(AppError::Runtime)
}

/// No sockets from a service manager.
pub fn no_activated_sockets() -> Activated {
    Activated::default()
}

/// Each connection needs a descriptor: uses what the system allows this process.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays as it was");
        }
    }
}
