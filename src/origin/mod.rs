//! Where misses go: [`OriginRequest`] -> [`OriginResponse`], over FastCGI or HTTP.

mod connection;
mod decoder;
mod failures;
pub mod fastcgi;
pub mod files;
mod head;
pub mod health;
pub mod http;
pub mod mime;
mod pool;
pub mod probe;
mod sending;
pub mod shop;
pub mod status;
#[cfg(test)]
mod testing;
mod transfer;
mod upstream;
pub mod web_root;

use std::sync::Arc;

use ::http::{Method, StatusCode};
use bytes::Bytes;

use self::failures::Failures;
use self::health::{Health, Sign};
use crate::admission::{Admission, Refused, Ticket};
use crate::body::{Body, Spooled};
use crate::clock::Clock;
use crate::exchange::{Beside, Client, Tunnel};
use crate::fields::Fields;
use crate::reason::Reason;
use crate::settings::{self, PolicyKind, Settings};

/// A request as the origin gets it. Fields are final: hop-by-hop fields are gone, forwarding
/// fields rebuilt.
#[derive(Clone, Debug)]
pub struct OriginRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Bytes,
    /// Host and port as the client named them.
    pub authority: Bytes,
    /// The fields, Host included.
    pub fields: Fields,
    /// The content, taken in whole, so that it can be sent again.
    pub body: Spooled,
    /// Who asks.
    pub client: Client,
    /// What the client's connection takes besides the response.
    pub beside: Beside,
    /// Is it for a file that is there, and for nothing that PHP would make? An HTTP origin gets it all the same.
    pub files_alone: bool,
    /// What it shows at the door of PHP.
    pub ticket: Ticket,
}

/// A response as it arrives. Hop-by-hop fields are gone; Content-Length is what the origin said
/// and `body` ends with an error where that was not true.
#[derive(Debug)]
pub struct OriginResponse {
    /// The status.
    pub status: StatusCode,
    /// The fields in order and case.
    pub fields: Fields,
    /// The content.
    pub body: Body,
    /// Who made it.
    pub provenance: Provenance,
}

/// Who made a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// PHP, or the HTTP server that is the origin.
    Application,
    /// This server: a file of the web root, or why there is none.
    Disk,
}

/// What an origin makes of a request to switch protocols (RFC 9110 7.8).
#[derive(Debug)]
pub enum Switched {
    /// 101: the connection speaks another protocol from here on.
    Tunnel {
        /// The end-to-end fields of the 101.
        fields: Fields,
        /// The connection.
        tunnel: Tunnel,
    },
    /// It stays with HTTP.
    Response(OriginResponse),
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Nobody listens.
    #[error("cannot connect to {endpoint}: {source}")]
    Refused {
        /// Where.
        endpoint: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// There was no place for the request.
    #[error(transparent)]
    Busy(#[from] Refused),
    /// It is not asked while the shop is being worked on.
    #[error("the shop is being worked on, and PHP is not asked")]
    Closed,
    /// The application says that it is overloaded.
    #[error("the application says that it is overloaded")]
    Overloaded,
    /// It was too slow.
    #[error("timed out: {stage}")]
    TimedOut {
        /// Which wait ended.
        stage: &'static str,
    },
    /// It answered something that is no response.
    #[error("malformed response: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The connection broke.
    #[error("the connection broke: {source}")]
    Lost {
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be served; that says nothing about PHP.
    #[error(transparent)]
    File(#[from] files::FileError),
}

impl OriginError {
    /// The word for header, log and metric.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } => Reason::OriginRefused,
            Self::Busy(refused) => refused.reason(),
            Self::Closed => Reason::Maintenance,
            Self::Overloaded => Reason::OriginBusy,
            Self::TimedOut { .. } => Reason::OriginTimeout,
            Self::Malformed { .. } => Reason::OriginMalformed,
            Self::Lost { .. } => Reason::OriginLost,
            Self::File(error) => error.reason(),
        }
    }

    /// The status for the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy(_) | Self::Closed | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Refused { .. } | Self::Malformed { .. } | Self::Lost { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::File(error) => error.status(),
        }
    }
}

/// The origin of the settings, with what is known of its health.
#[derive(Debug)]
pub struct Origin {
    backend: Backend,
    admission: Arc<Admission>,
    health: Arc<Health>,
    failures: Failures,
    status: Option<status::Watch>,
}

/// What speaks to the origin.
#[derive(Debug)]
pub enum Backend {
    /// An HTTP/1.1 server.
    Http(http::Client),
    /// PHP-FPM, with the script that answers.
    FastCgi {
        /// The connection to it.
        client: fastcgi::Client,
        /// The front controller.
        script: fastcgi::Script,
    },
    /// PHP-FPM and the files beside it, in a Magento web root.
    Shop(shop::Shop),
}

impl Origin {
    /// The origin of `settings.origin`: FastCGI where that is set (with files and routes in the
    /// Magento policy, the front controller alone in the generic one), else HTTP.
    ///
    /// # Errors
    /// [`OriginError::File`] where the web root cannot be opened.
    pub fn new(settings: &Settings, clock: &Clock) -> Result<Self, OriginError> {
        let admission = Admission::new(settings, clock);
        let health = Health::new(&settings.health, clock.clone());
        let door = Arc::clone(&admission);
        let backend = if let Some(endpoint) = settings.origin.fastcgi.clone() {
            let client = fastcgi::Client::new(endpoint, settings, door, clock);
            match settings.site.policy {
                PolicyKind::Magento => Backend::Shop(shop::Shop::new(settings, client, clock)?),
                PolicyKind::Generic => {
                    let script = fastcgi::Script::front_controller(&settings.origin);
                    Backend::FastCgi { client, script }
                }
            }
        } else {
            let endpoint = settings.origin.http.clone();
            let endpoint = endpoint.unwrap_or_else(settings::Origin::default_http);
            Backend::Http(http::Client::new(endpoint, settings, door, clock))
        };
        let failures = Failures::new(clock.clone());
        let status = status::Watch::of(&settings.origin);
        Ok(Self { backend, admission, health: Arc::new(health), failures, status })
    }

    /// Sends a request and reads the head of the response; notes what that says about the
    /// origin's health. Dropping the future ends the request.
    pub async fn fetch(&self, request: &OriginRequest) -> Result<OriginResponse, OriginError> {
        let outcome = match &self.backend {
            Backend::Http(client) => client.fetch(request).await,
            Backend::FastCgi { client, script } => client.fetch(request, script).await,
            Backend::Shop(shop) => shop.fetch(request).await,
        };
        self.health.note(Sign::of(&outcome));
        outcome.inspect_err(|error| {
            if !matches!(error, OriginError::Closed) {
                self.failures.note(error);
            }
        })
    }

    /// Does a request for this go to the application, as far as its path says? Else it is for a file.
    pub fn runs(&self, target: &[u8]) -> bool {
        match &self.backend {
            Backend::Http(_) | Backend::FastCgi { .. } => true,
            Backend::Shop(shop) => shop.runs(target),
        }
    }

    /// Can connections to it leave HTTP?
    pub fn can_switch(&self) -> bool {
        matches!(self.backend, Backend::Http(_))
    }

    /// As [`Origin::fetch`], and offers the origin the protocols of `request.beside.upgrade`. Only
    /// an HTTP origin can switch; another answers as ever.
    pub async fn switch(&self, request: &OriginRequest) -> Result<Switched, OriginError> {
        let Backend::Http(client) = &self.backend else {
            return self.fetch(request).await.map(Switched::Response);
        };
        let outcome = client.switch(request).await;
        if let Err(error) = &outcome {
            self.failures.note(error);
        }
        outcome
    }

    /// Does the origin accept connections? For [`probe::Check::Connection`].
    pub async fn try_connect(&self) -> Result<(), OriginError> {
        match &self.backend {
            Backend::Http(client) => client.try_connect().await,
            Backend::FastCgi { client, .. } => client.try_connect().await,
            Backend::Shop(shop) => shop.client().try_connect().await,
        }
    }

    /// What is known of its health.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// What stood in the way of files; `None` where it serves none.
    pub fn file_counts(&self) -> Option<files::FileCounts> {
        match &self.backend {
            Backend::Shop(shop) => Some(shop.file_counts()),
            Backend::Http(_) | Backend::FastCgi { .. } => None,
        }
    }

    /// What is known by PHP-FPM's own status; `None`: it is not asked.
    pub fn status(&self) -> Option<&status::Watch> {
        self.status.as_ref()
    }

    /// Its places and its queue.
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }
}

/// May a request be sent again when it is not known what became of it? Only methods which ask for
/// nothing to be changed; PUT and DELETE are idempotent on paper and not in every shop's module.
fn is_repeatable(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}
