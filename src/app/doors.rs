//! The listeners of a process.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::AppError;
use crate::clock::Clock;
use crate::exchange::Handler;
use crate::lifecycle::{Activated, Socket};
use crate::listener::{self, BoundListener, Limits, ListenError, Shutdown, TlsError, TlsServer};
use crate::settings::{Endpoint, Listen, Settings, Tls};

/// Open sockets, not yet served.
pub struct Doors {
    http: Vec<BoundListener>,
    https: Vec<BoundListener>,
    control: Vec<BoundListener>,
    /// The certificate in use, where there are TLS listeners.
    pub tls: Option<Arc<TlsServer>>,
    limits: Arc<Limits>,
}

/// Opens all listeners; those that a service manager passed are taken as they are.
pub fn open(settings: &Settings, activated: Activated) -> Result<Doors, AppError> {
    let listen = &settings.listen;
    let tls = if listen.https.is_empty() && activated.https.is_empty() {
        None
    } else {
        Some(Arc::new(TlsServer::new(certificate(&settings.tls, Clock::system().wall())?)))
    };
    let control = std::slice::from_ref(&listen.control);
    Ok(Doors {
        http: passed_or_bound(activated.http, "listen.http", &listen.http)?,
        https: passed_or_bound(activated.https, "listen.https", &listen.https)?,
        control: passed_or_bound(
            activated.control.into_iter().collect(),
            "listen.control",
            control,
        )?,
        tls,
        limits: Arc::new(Limits::from(listen)),
    })
}

/// The certificate and key that the settings name; says what clients will not like about them now.
pub(super) fn certificate(tls: &Tls, now: SystemTime) -> Result<Arc<ServerConfig>, TlsError> {
    let loaded = listener::tls::load(&tls.certificate, &tls.key)?;
    for concern in loaded.concerns(now) {
        tracing::warn!("{concern}");
    }
    Ok(loaded.config)
}

fn passed_or_bound(
    passed: Vec<Socket>,
    setting: &'static str,
    endpoints: &[Endpoint],
) -> Result<Vec<BoundListener>, ListenError> {
    if passed.is_empty() {
        return listener::bind(setting, endpoints);
    }
    passed.into_iter().map(|socket| adopt(setting, socket)).collect()
}

fn adopt(setting: &'static str, socket: Socket) -> Result<BoundListener, ListenError> {
    let adopted = match socket {
        Socket::Tcp(socket) => BoundListener::from_tcp(socket),
        Socket::Unix(socket) => BoundListener::from_unix(socket),
    };
    adopted.map_err(|source| ListenError::Adopt { setting, source })
}

impl Doors {
    /// What bounds the clients of all listeners.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Where cleartext HTTP is listened for; real ports where 0 was asked for.
    pub fn http(&self) -> impl Iterator<Item = &Endpoint> {
        self.http.iter().map(BoundListener::endpoint)
    }

    /// Where the control API is listened for.
    pub fn control(&self) -> impl Iterator<Item = &Endpoint> {
        self.control.iter().map(BoundListener::endpoint)
    }

    /// Serves the public listeners with `public`, which end at `shutdown`, and the control
    /// listener with `control`, which goes on until the process ends, so that its state can be
    /// seen while it drains.
    pub fn serve<P: Handler, C: Handler>(self, public: P, control: C, shutdown: &Shutdown) {
        let public = Arc::new(public);
        for door in self.http {
            spawn(door, None, Arc::clone(&public), &self.limits, shutdown.clone());
        }
        for door in self.https {
            spawn(door, self.tls.clone(), Arc::clone(&public), &self.limits, shutdown.clone());
        }
        let control = Arc::new(control);
        for door in self.control {
            spawn(door, None, Arc::clone(&control), &control_limits(), Shutdown::new());
        }
    }
}

/// Those of the control listener are the defaults: it must answer while the door is full.
fn control_limits() -> Arc<Limits> {
    Arc::new(Limits::from(&Listen::default()))
}

fn spawn<H: Handler>(
    door: BoundListener,
    tls: Option<Arc<TlsServer>>,
    handler: Arc<H>,
    limits: &Arc<Limits>,
    shutdown: Shutdown,
) {
    let limits = Arc::clone(limits);
    tokio::spawn(async move {
        let endpoint = door.endpoint().clone();
        tracing::info!(%endpoint, tls = tls.is_some(), "listening");
        if let Err(error) = listener::serve(door, tls, handler, limits, shutdown).await {
            tracing::error!(%endpoint, %error, "a listener has failed");
        }
    });
}
