//! What is right in a configuration, and may still not be meant: `check` says it, and goes on.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::settings::{Endpoint, HostPort, Origin, Redis, RedisServer, Settings, why_not_writable};

/// One line each.
pub(super) fn concerns(settings: &Settings) -> Vec<String> {
    let alone = control(settings).into_iter().chain(origin(&settings.origin));
    alone.chain(redis(&settings.redis)).chain(sockets(settings)).chain(kept(settings)).collect()
}

/// The service makes its own directory in `/run` when it starts, so it is no mistake.
fn sockets(settings: &Settings) -> Vec<String> {
    let listen = &settings.listen;
    let alone = [
        ("listen.control", Some(&listen.control)),
        ("sessions.listen", settings.sessions.listen.as_ref()),
        ("objects.listen", settings.objects.listen.as_ref()),
    ];
    let alone = alone.into_iter().filter_map(|(setting, endpoint)| Some((setting, endpoint?)));
    let http = listen.http.iter().map(|endpoint| ("listen.http", endpoint));
    let https = listen.https.iter().map(|endpoint| ("listen.https", endpoint));
    let missing = |(setting, endpoint): (&str, &Endpoint)| {
        let Endpoint::Unix(path) = endpoint else { return None };
        let directory = path.parent().filter(|directory| !directory.is_dir())?;
        let directory = directory.display();
        Some(format!("{setting} = {endpoint}: there is no directory {directory} now"))
    };
    alone.chain(http).chain(https).filter_map(missing).collect()
}

/// It serves without what outlives a stop, too.
fn kept(settings: &Settings) -> Option<String> {
    let directory = &settings.store.snapshot_directory;
    if directory.as_os_str().is_empty() {
        return None;
    }
    let why = why_not_writable(directory)?;
    let directory = directory.display();
    Some(format!("store.snapshot_directory = {directory}: {why}; pages would not outlive a stop"))
}

/// It serves without it, too.
fn redis(redis: &Redis) -> Option<String> {
    let url = redis.url.as_ref().filter(|_| redis.sentinels.is_empty())?;
    let error = connect(redis.connect_timeout, async {
        match &url.server {
            RedisServer::Tcp(HostPort { host, port }) => tcp((host.as_str(), *port)).await,
            RedisServer::Unix(path) => unix(path).await,
        }
    });
    Some(format!("redis.url = {url} cannot be reached now: {}", error.err()?))
}

fn control(settings: &Settings) -> Option<String> {
    let listen = &settings.listen.control;
    let is_here = match listen {
        Endpoint::Tcp(address) => address.ip().is_loopback(),
        Endpoint::Unix(_) => true,
    };
    (!is_here && settings.control.token.is_empty()).then(|| {
        format!(
            "listen.control = {listen} can be reached from other machines, and control.token is empty: who \
             gets there sees metrics and nodes, and purges where purge.allow has the address"
        )
    })
}

/// Does somebody answer where misses go? PHP-FPM may start later, so it is no mistake.
fn origin(origin: &Origin) -> Option<String> {
    let (setting, endpoint) = match (&origin.fastcgi, &origin.http) {
        (Some(endpoint), _) => ("origin.fastcgi", endpoint.clone()),
        (None, Some(endpoint)) => ("origin.http", endpoint.clone()),
        (None, None) => ("origin.http", Origin::default_http()),
    };
    let error = connect(origin.connect_timeout, async {
        match &endpoint {
            Endpoint::Tcp(address) => tcp(*address).await,
            Endpoint::Unix(path) => unix(path).await,
        }
    });
    Some(format!("{setting} = {endpoint} cannot be reached now: {}", error.err()?))
}

async fn tcp(place: impl tokio::net::ToSocketAddrs) -> io::Result<()> {
    tokio::net::TcpStream::connect(place).await.map(drop)
}

async fn unix(path: &Path) -> io::Result<()> {
    tokio::net::UnixStream::connect(path).await.map(drop)
}

fn connect(timeout: Duration, connecting: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let timed = runtime.block_on(async { tokio::time::timeout(timeout, connecting).await });
    // Who asks for a name may wait longer.
    runtime.shutdown_background();
    timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_listener_for_all_is_named_unless_it_asks_for_a_token() {
        let mut settings = Settings::default();
        assert_eq!(control(&settings), None);
        settings.listen.control = Endpoint::Tcp(([10, 0, 0, 7], 6_082).into());
        assert!(
            control(&settings).expect("open").starts_with("listen.control = 10.0.0.7:6082 can be")
        );
        settings.control.token = "sesame".to_owned();
        assert_eq!(control(&settings), None);
        settings.control.token.clear();
        settings.listen.control = Endpoint::Unix("/run/parvis/control.sock".into());
        assert_eq!(control(&settings), None);
    }

    #[test]
    fn an_origin_that_nobody_listens_for_is_named() {
        let directory = tempfile::tempdir().expect("creates");
        let path = directory.path().join("php.sock");
        let settings = Origin { fastcgi: Some(Endpoint::Unix(path.clone())), ..Origin::default() };
        let said = origin(&settings).expect("nobody is there");
        let expected =
            format!("origin.fastcgi = unix:{} cannot be reached now: No such", path.display());
        assert!(said.starts_with(&expected), "{said}");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        assert_eq!(origin(&settings), None);
    }
    #[test]
    fn a_redis_that_is_away_is_named_without_its_password() {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
            listener.local_addr().expect("has one").port()
        };
        let url = format!("redis://:sesame@127.0.0.1:{port}");
        let settings = Settings::load(None, [("PARVIS__REDIS__URL".to_owned(), url)]);
        let said = redis(&settings.expect("valid").redis).expect("nobody is there");
        let expected = format!("redis.url = redis://127.0.0.1:{port}/0 cannot be reached now: ");
        assert!(said.starts_with(&expected), "{said}");
    }

    #[test]
    fn directories_of_sockets_and_of_pages_that_are_not_there_are_named() {
        let mut settings = Settings::default();
        assert_eq!((sockets(&settings), kept(&settings)), (Vec::new(), None));
        settings.sessions.listen = Some(Endpoint::Unix("/nowhere/session.sock".into()));
        settings.store.snapshot_directory = "/nowhere".into();
        let said =
            "sessions.listen = unix:/nowhere/session.sock: there is no directory /nowhere now";
        assert_eq!(sockets(&settings), [said]);
        let said = kept(&settings).expect("not there");
        assert!(said.starts_with("store.snapshot_directory = /nowhere: No such file"), "{said}");
    }
}
