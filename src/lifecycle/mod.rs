//! From start to stop: phases, signals, reload, socket activation and the service manager.
//!
//! | event | what happens |
//! | --- | --- |
//! | start | sockets are bound or taken over, then the phase is `Serving` and systemd hears `READY=1` |
//! | SIGHUP | the configuration is read again; access log and TLS files are opened again |
//! | SIGUSR2, `POST /restart` | a new process is started and takes the sockets over ([`handover`]); where it cannot, this one goes on |
//! | SIGTERM, SIGINT, `POST /drain` | not ready at once; requests are served for `lifecycle.drain`, and pages are handed on; then no connection is accepted and what is in flight has `lifecycle.deadline` |
//! | a second one | hurries: the wait for the load balancer ends, or what is in flight is given up |

mod activation;
mod desk;
pub mod handover;
mod reload;
mod run;
mod service_manager;
mod signals;

use std::io;

pub use crate::observe::{Cause, Phase, Readiness, State};
pub use activation::{Activated, Socket, take_sockets};
pub use desk::{Desk, RestartRefused};
pub use reload::{ReloadPlan, accept, plan};
pub use run::{Outcome, Service, Timing, run};
pub use service_manager::{Notice, stdout_is_the_journal, tell_service_manager, watchdog_interval};
pub use signals::{Signal, signals};

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// No handler for signals can be set up.
    #[error("cannot listen to signals: {source}")]
    Signals {
        /// What the system said.
        source: io::Error,
    },
    /// The service manager passed something that is no listening stream socket.
    #[error("socket {number} that the service manager passed is of no use: {source}")]
    Socket {
        /// Its number, from 0.
        number: usize,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A socket's name says nothing about its use.
    #[error(
        "the service manager passed a socket named {name:?}; allowed for FileDescriptorName= are \
         http, https and control"
    )]
    SocketName {
        /// The name.
        name: String,
    },
    /// Sockets without names do not fit the addresses that the configuration lists.
    #[error(
        "the service manager passed {passed} sockets without names; allowed are as many as \
         listen.http has addresses ({http}), with those of listen.https ({https}) after them, and \
         with the one of listen.control at the end; or name them by FileDescriptorName="
    )]
    SocketCount {
        /// Sockets that were passed.
        passed: usize,
        /// Addresses of `listen.http`.
        http: usize,
        /// Addresses of `listen.https`.
        https: usize,
    },
    /// Two sockets where one is served.
    #[error("the service manager passed {passed} sockets named {name}; one is allowed")]
    SeveralSockets {
        /// `control` or `sessions`.
        name: &'static str,
        /// How many.
        passed: usize,
    },
}
