//! The listeners of a process.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::AppError;
use super::objects::ObjectsServer;
use super::sessions::SessionServer;
use crate::clock::Clock;
use crate::exchange::Handler;
use crate::lifecycle::handover::Passed;
use crate::lifecycle::{Activated, Socket};
use crate::listener::{self, BoundListener, Limits, ListenError, Shutdown, TlsError, TlsServer};
use crate::settings::{Endpoint, Listen, Settings, Tls};

/// Open sockets.
pub struct Doors {
    http: Vec<Door>,
    https: Vec<Door>,
    control: Vec<Door>,
    sessions: Vec<Door>,
    objects: Vec<Door>,
    /// The certificate in use, where there are TLS listeners.
    pub tls: Option<Arc<TlsServer>>,
    limits: Arc<Limits>,
}

struct Door {
    listener: BoundListener,
    /// The service manager opened it, so it stands in for what the setting names.
    activated: bool,
}

/// Opens all listeners; those that a service manager passed are taken as they are.
pub fn open(settings: &Settings, activated: Activated) -> Result<Doors, AppError> {
    let listen = &settings.listen;
    let control: Vec<_> = activated.control.into_iter().collect();
    let sessions: Vec<_> = activated.sessions.into_iter().collect();
    let mut sockets = Vec::new();
    for (setting, passed) in
        [(HTTP, activated.http), (HTTPS, activated.https), (CONTROL, control), (SESSIONS, sessions)]
    {
        for socket in passed {
            let adopted = match socket {
                Socket::Tcp(socket) => BoundListener::from_tcp(socket),
                Socket::Unix(socket) => BoundListener::from_unix(socket),
            };
            let listener = adopted.map_err(|source| ListenError::Adopt { setting, source })?;
            sockets.push((setting.to_owned(), Door { listener, activated: true }));
        }
    }
    open_with(settings, listen, sockets)
}

const HTTP: &str = "listen.http";
const HTTPS: &str = "listen.https";
const CONTROL: &str = "listen.control";
const SESSIONS: &str = "sessions.listen";
const OBJECTS: &str = "objects.listen";
/// For the others the directory decides who gets to a Unix socket.
const EVERYBODY: u32 = 0o666;

/// Opens all listeners for which there is no socket yet; sockets for which there is no use are
/// closed.
fn open_with(
    settings: &Settings,
    listen: &Listen,
    mut sockets: Vec<(String, Door)>,
) -> Result<Doors, AppError> {
    let control = std::slice::from_ref(&listen.control);
    let http = passed_or_bound(&mut sockets, HTTP, &listen.http, EVERYBODY)?;
    let https = passed_or_bound(&mut sockets, HTTPS, &listen.https, EVERYBODY)?;
    let control = passed_or_bound(&mut sockets, CONTROL, control, EVERYBODY)?;
    let (sessions, mode) = (settings.sessions.listen.as_slice(), settings.sessions.mode.0);
    let sessions = passed_or_bound(&mut sockets, SESSIONS, sessions, mode)?;
    let (objects, mode) = (settings.objects.listen.as_slice(), settings.objects.mode.0);
    let objects = passed_or_bound(&mut sockets, OBJECTS, objects, mode)?;
    let tls = if https.is_empty() {
        None
    } else {
        Some(Arc::new(TlsServer::new(certificate(&settings.tls, Clock::system().wall())?)))
    };
    let limits = Arc::new(Limits::from(listen));
    Ok(Doors { http, https, control, sessions, objects, tls, limits })
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
    sockets: &mut Vec<(String, Door)>,
    setting: &'static str,
    endpoints: &[Endpoint],
    unix_mode: u32,
) -> Result<Vec<Door>, ListenError> {
    let activated = |(of, door): &mut (String, Door)| of == setting && door.activated;
    let doors: Vec<_> = sockets.extract_if(.., activated).map(|(_, door)| door).collect();
    if !doors.is_empty() {
        return Ok(doors);
    }
    let mut doors = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let fits = |(of, door): &(String, Door)| {
            !door.activated && stands_for(door.listener.endpoint(), endpoint, of == setting)
        };
        if let Some(place) = sockets.iter().position(fits) {
            doors.push(sockets.swap_remove(place).1);
        } else {
            let listener = listener::bind_one(setting, endpoint, unix_mode)?;
            doors.push(Door { listener, activated: false });
        }
    }
    Ok(doors)
}

/// Is a socket at `local` what `wanted` names? Of the same setting it may stand for any free port.
fn stands_for(local: &Endpoint, wanted: &Endpoint, same_setting: bool) -> bool {
    match (local, wanted) {
        (Endpoint::Tcp(local), Endpoint::Tcp(wanted)) => {
            local == wanted || same_setting && wanted.port() == 0 && local.ip() == wanted.ip()
        }
        (local, wanted) => local == wanted,
    }
}

impl Doors {
    /// What bounds the clients of all listeners.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.limits
    }

    /// Takes the sockets over that another process listens on, and opens what is missing.
    pub fn take_over(settings: &Settings, passed: Vec<Passed>) -> Result<Self, AppError> {
        let mut sockets = Vec::with_capacity(passed.len());
        for Passed { setting, activated, socket } in passed {
            match BoundListener::from_descriptor(socket) {
                Ok(listener) => sockets.push((setting, Door { listener, activated })),
                Err(error) => {
                    tracing::warn!(setting, %error, "a socket that was passed is of no use");
                }
            }
        }
        open_with(settings, &settings.listen, sockets)
    }

    /// All sockets, for another process.
    pub fn descriptors(&self) -> std::io::Result<Vec<Passed>> {
        let all = [
            (HTTP, &self.http),
            (HTTPS, &self.https),
            (CONTROL, &self.control),
            (SESSIONS, &self.sessions),
            (OBJECTS, &self.objects),
        ];
        let passed = |setting: &str, door: &Door| {
            let socket = door.listener.descriptor()?;
            Ok(Passed { setting: setting.to_owned(), activated: door.activated, socket })
        };
        all.into_iter()
            .flat_map(|(setting, doors)| doors.iter().map(move |door| passed(setting, door)))
            .collect()
    }

    /// Where cleartext HTTP is listened for; real ports where 0 was asked for.
    pub fn http(&self) -> impl Iterator<Item = &Endpoint> {
        self.http.iter().map(|door| door.listener.endpoint())
    }

    /// Where the control API is listened for.
    pub fn control(&self) -> impl Iterator<Item = &Endpoint> {
        self.control.iter().map(|door| door.listener.endpoint())
    }

    /// Where sessions are listened for.
    pub fn sessions(&self) -> impl Iterator<Item = &Endpoint> {
        self.sessions.iter().map(|door| door.listener.endpoint())
    }

    /// Serves clients of the sessions.
    pub(super) fn serve_sessions(&self, server: &Arc<SessionServer>) -> Result<(), ListenError> {
        for door in &self.sessions {
            let listener = door.listener.try_clone();
            let adopt = |source| ListenError::Adopt { setting: SESSIONS, source };
            server.serve(listener.map_err(adopt)?);
        }
        Ok(())
    }

    /// Serves clients of the object cache.
    pub(super) fn serve_objects(
        &self,
        server: &ObjectsServer,
        shutdown: &Shutdown,
    ) -> Result<(), ListenError> {
        for door in &self.objects {
            let listener = door.listener.try_clone();
            let adopt = |source| ListenError::Adopt { setting: OBJECTS, source };
            server.serve(listener.map_err(adopt)?, shutdown.clone());
        }
        Ok(())
    }

    /// Serves the public listeners with `public`, which end at `shutdown`, and the control
    /// listener with `control`, which ends later, so that its state can be seen while it drains.
    pub fn serve<P: Handler, C: Handler>(
        &self,
        (public, shutdown): (P, &Shutdown),
        (control, control_shutdown): (C, &Shutdown),
    ) -> Result<(), ListenError> {
        let public = Arc::new(public);
        for door in &self.http {
            spawn(door, HTTP, None, Arc::clone(&public), &self.limits, shutdown)?;
        }
        for door in &self.https {
            spawn(door, HTTPS, self.tls.clone(), Arc::clone(&public), &self.limits, shutdown)?;
        }
        let control = Arc::new(control);
        for door in &self.control {
            let limits = control_limits();
            spawn(door, CONTROL, None, Arc::clone(&control), &limits, control_shutdown)?;
        }
        Ok(())
    }
}

/// Those of the control listener are the defaults: it must answer while the door is full.
fn control_limits() -> Arc<Limits> {
    Arc::new(Limits::from(&Listen::default()))
}

/// Serves on a handle of its own, so that the socket can still be passed on.
fn spawn<H: Handler>(
    door: &Door,
    setting: &'static str,
    tls: Option<Arc<TlsServer>>,
    handler: Arc<H>,
    limits: &Arc<Limits>,
    shutdown: &Shutdown,
) -> Result<(), ListenError> {
    let listener = door.listener.try_clone();
    let listener = listener.map_err(|source| ListenError::Adopt { setting, source })?;
    let (limits, shutdown) = (Arc::clone(limits), shutdown.clone());
    tokio::spawn(async move {
        let endpoint = listener.endpoint().clone();
        tracing::info!(%endpoint, tls = tls.is_some(), "listening");
        if let Err(error) = listener::serve(listener, tls, handler, limits, shutdown).await {
            tracing::error!(%endpoint, %error, "a listener has failed");
        }
    });
    Ok(())
}
