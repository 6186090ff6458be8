//! What is right in a configuration, and may still not be meant: `check` says it, and goes on.

use std::time::Duration;

use crate::settings::{Endpoint, Origin, Settings};

/// One line each.
pub(super) fn concerns(settings: &Settings) -> Vec<String> {
    control(settings).into_iter().chain(origin(&settings.origin)).collect()
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
    let error = connect(&endpoint, origin.connect_timeout).err()?;
    Some(format!("{setting} = {endpoint} cannot be reached now: {error}"))
}

fn connect(endpoint: &Endpoint, timeout: Duration) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connecting = async {
        match endpoint {
            Endpoint::Tcp(address) => tokio::net::TcpStream::connect(address).await.map(drop),
            Endpoint::Unix(path) => tokio::net::UnixStream::connect(path).await.map(drop),
        }
    };
    let timed = runtime.block_on(async { tokio::time::timeout(timeout, connecting).await });
    timed.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
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
}
