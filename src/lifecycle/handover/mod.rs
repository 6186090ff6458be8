//! A restart without a gap: the process that serves starts its successor, passes it the listening
//! sockets, and leaves once the successor serves.
//!
//! The two speak over a socket pair which the successor inherits as its standard input, so nobody
//! else can take part, no path has to be agreed on, and each learns at once when the other has
//! gone. One message is one packet of JSON; a listening socket travels beside its message
//! (`SCM_RIGHTS`).
//!
//! | predecessor | | successor |
//! | --- | --- | --- |
//! | `Socket`, for each | -> | |
//! | `Sockets` | -> | reads its settings, opens what was not passed |
//! | | <- | `Prepared`, or `Failed` with the reason |
//! | `Pages`: from now on each purge is applied by both | -> | takes in what is stored, from the socket beside |
//! | | <- | `Filled`: all of it is there; after some time it is not waited for |
//! | `Clients`: where those come that the store of the sessions goes with | -> | |
//! | lets go of that store, while its clients wait | | |
//! | `Objects`: a copy, what clients do meanwhile, and an end after which nothing is done here | -> | takes in the object cache, from the socket beside |
//! | `Maintenance`, where a command has switched it on | -> | |
//! | `Room`, where a command has switched the waiting room | -> | |
//! | `Go`, once systemd knows the new main process | -> | accepts connections |
//! | passes the clients of the sessions on | -> | serves them |
//! | accepts no more, ends kept connections after their next response | <- | `Serving` |
//! | `Purge`, `Clean` | <-> | `Purge`, `Clean`: each applies the other's before it is answered |
//! | ends | | |

mod channel;
mod clients;
mod link;
mod predecessor;
mod successor;

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::keyspace::Clean;
use crate::policy::PurgeText;
pub use clients::{ClientsIn, ClientsOut};
pub use link::Link;
pub use predecessor::{Predecessor, Taken, Told, inherited, tell_failure};
pub use successor::{Gone, Launch, Successor};

/// Names the version of the messages to a successor; its presence says that standard input is the
/// channel.
const VARIABLE: &str = "PARVIS_TAKE_OVER";
const VERSION: &str = "1";

/// A listening socket and what it is for.
#[derive(Debug)]
pub struct Passed {
    /// The setting that it serves, such as `listen.http`.
    pub setting: String,
    /// Did the service manager open it? Then it stands in for the setting's addresses.
    pub activated: bool,
    /// It.
    pub socket: OwnedFd,
}

/// What the other process did, and this one is to do, too.
#[derive(Clone, Debug)]
pub enum Shared {
    /// A purge.
    Purge(PurgeText),
    /// A clean of the object cache.
    Clean(Clean),
}

/// What the two processes tell each other.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
enum Message {
    /// A listening socket, which comes beside it.
    Socket { setting: String, activated: bool },
    /// That were all sockets.
    Sockets { count: usize },
    /// The successor could serve now.
    Prepared,
    /// What is stored comes over the socket beside this.
    Pages,
    /// Clients come over the socket beside this, once the successor serves.
    Clients,
    /// All of it is in the successor's store, or can never be.
    Filled,
    /// What the object cache has, and what its clients do until `Go`, comes over the socket beside this.
    Objects,
    /// A command has switched maintenance on.
    Maintenance,
    /// A command has switched the waiting room.
    Room { is_on: bool },
    /// The successor is to serve.
    Go,
    /// The successor serves.
    Serving,
    /// The successor cannot start.
    Failed { reason: String },
    /// Purge this; nothing that it names may be served once it is confirmed.
    Purge { number: u64, purge: PurgeText },
    /// Clean this in the object cache, as [`Clean::encode`] says it; confirmed as a purge is.
    Clean { number: u64, clean: String },
    /// That was done.
    Purged { number: u64 },
    /// What a later version may say.
    #[serde(other)]
    Unknown,
}

/// Why a restart does not come about. The process that serves goes on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// What was to be started.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The channel between the two is broken.
    #[error("cannot speak with the other process: {0}")]
    Channel(#[from] io::Error),
    /// The successor said why it cannot start.
    #[error("the new process cannot start: {0}")]
    Failed(String),
    /// The successor ended without a word.
    #[error("the new process ended ({0}) before it served; the log has its messages")]
    Ended(ExitStatus),
    /// The successor took too long, and was ended.
    #[error(
        "the new process did not serve within {} s (lifecycle.restart_timeout) and was ended",
        .0.as_secs_f64()
    )]
    TimedOut(Duration),
    /// The process before this one is still there.
    #[error(
        "the process before this one still finishes what it has in flight, for longer than \
         lifecycle.restart_timeout ({} s)",
        .0.as_secs_f64()
    )]
    PredecessorLeft(Duration),
    /// The variable is set, but there is no channel.
    #[error("{VARIABLE} is set, but standard input is no channel to the process before this one")]
    NoChannel,
    /// Another version of the messages.
    #[error("the process before this one speaks version {0} of the handover, this one {VERSION}")]
    Version(String),
    /// The sockets never came.
    #[error("the process before this one passed no sockets")]
    NoSockets,
}
