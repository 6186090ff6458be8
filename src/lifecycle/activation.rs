//! Sockets that the service manager bound for us (systemd's socket activation, `sd_listen_fds(3)`).

use std::io;
use std::os::fd::AsFd;

use listenfd::ListenFd;

use super::LifecycleError;
use crate::settings::Listen;

/// A listening socket, already non-blocking.
#[derive(Debug)]
pub enum Socket {
    /// Over TCP.
    Tcp(std::net::TcpListener),
    /// At a path.
    Unix(std::os::unix::net::UnixListener),
}

/// The sockets by their use. Where a use has sockets, they stand in for the addresses that the
/// configuration lists for it, and nothing is to be bound.
#[derive(Debug, Default)]
pub struct Activated {
    /// For `listen.http`.
    pub http: Vec<Socket>,
    /// For `listen.https`.
    pub https: Vec<Socket>,
    /// For `listen.control`.
    pub control: Option<Socket>,
    /// For `sessions.listen`.
    pub sessions: Option<Socket>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Http,
    Https,
    Control,
    Sessions,
}

/// Takes the sockets over. Their use comes from their names (`FileDescriptorName=` http, https, control
/// or sessions); without such names from their order: those of `listen.http`, then `listen.https`,
/// then `listen.control`, a use in whole or not at all.
///
/// It removes the variables `LISTEN_FDS` and `LISTEN_PID` from the environment, so it must be called
/// before there are other threads.
pub fn take_sockets(listen: &Listen) -> Result<Activated, LifecycleError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let mut activated = Activated::default();
    for (number, role) in roles(&names, passed.len(), listen)?.into_iter().enumerate() {
        let socket = take(&mut passed, number)
            .map_err(|source| LifecycleError::Socket { number, source })?;
        match role {
            Role::Http => activated.http.push(socket),
            Role::Https => activated.https.push(socket),
            Role::Control => activated.control = Some(socket),
            Role::Sessions => activated.sessions = Some(socket),
        }
    }
    Ok(activated)
}

fn take(passed: &mut ListenFd, number: usize) -> io::Result<Socket> {
    if let Ok(Some(listener)) = passed.take_tcp_listener(number) {
        listener.set_nonblocking(true)?;
        close_on_exec(&listener)?;
        return Ok(Socket::Tcp(listener));
    }
    match passed.take_unix_listener(number)? {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            close_on_exec(&listener)?;
            Ok(Socket::Unix(listener))
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Systemd passes sockets that every program started from here would inherit. Who is to take over
/// gets them by a message.
fn close_on_exec(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?)
}

fn roles(names: &str, passed: usize, listen: &Listen) -> Result<Vec<Role>, LifecycleError> {
    let names: Vec<&str> = names.split(':').take(passed).collect();
    if names.len() == passed && names.iter().any(|name| role(name).is_some()) {
        return named(&names);
    }
    let order: Vec<_> = std::iter::repeat_n(Role::Http, listen.http.len())
        .chain(std::iter::repeat_n(Role::Https, listen.https.len()))
        .chain([Role::Control])
        .collect();
    let whole = order.get(passed).is_none_or(|next| passed == 0 || order[passed - 1] != *next);
    if passed > order.len() || !whole {
        let (http, https) = (listen.http.len(), listen.https.len());
        return Err(LifecycleError::SocketCount { passed, http, https });
    }
    Ok(order.into_iter().take(passed).collect())
}

fn named(names: &[&str]) -> Result<Vec<Role>, LifecycleError> {
    let unknown = |name: &str| LifecycleError::SocketName { name: name.to_owned() };
    let roles: Vec<_> = names
        .iter()
        .map(|name| role(name).ok_or_else(|| unknown(name)))
        .collect::<Result<_, _>>()?;
    for (single, name) in [(Role::Control, "control"), (Role::Sessions, "sessions")] {
        let passed = roles.iter().filter(|role| **role == single).count();
        if passed > 1 {
            return Err(LifecycleError::SeveralSockets { name, passed });
        }
    }
    Ok(roles)
}

fn role(name: &str) -> Option<Role> {
    match name {
        "http" => Some(Role::Http),
        "https" => Some(Role::Https),
        "control" => Some(Role::Control),
        "sessions" => Some(Role::Sessions),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Endpoint;
    use std::io::Write;

    fn listen(http: usize, https: usize) -> Listen {
        let endpoints = |count| (0..count).map(|_| "127.0.0.1:0".parse::<Endpoint>());
        Listen {
            http: endpoints(http).collect::<Result<_, _>>().expect("valid"),
            https: endpoints(https).collect::<Result<_, _>>().expect("valid"),
            ..Listen::default()
        }
    }

    #[test]
    fn names_say_what_a_socket_is_for() {
        let roles = roles("control:https:http:http", 4, &listen(1, 0)).expect("valid");
        assert_eq!(roles, [Role::Control, Role::Https, Role::Http, Role::Http]);
    }

    #[test]
    fn without_names_the_order_says_it() {
        for names in ["", "parvis.socket:parvis.socket:parvis.socket:parvis.socket", "unknown"] {
            assert_eq!(roles(names, 0, &listen(2, 1)).expect("valid"), []);
            assert_eq!(roles(names, 2, &listen(2, 1)).expect("valid"), [Role::Http, Role::Http]);
            let all = [Role::Http, Role::Http, Role::Https, Role::Control];
            assert_eq!(roles(names, 4, &listen(2, 1)).expect("valid"), all);
        }
        assert_eq!(roles("", 2, &listen(1, 0)).expect("valid"), [Role::Http, Role::Control]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_says_what_is_allowed() {
        let error = roles("", 1, &listen(2, 1)).expect_err("half of listen.http").to_string();
        assert!(error.contains("passed 1 sockets") && error.contains("(2)"), "{error}");
        roles("", 5, &listen(2, 1)).expect_err("too many");
        let error = roles("http:htps", 2, &listen(1, 0)).expect_err("a name").to_string();
        assert!(error.contains("htps") && error.contains("http, https and control"), "{error}");
        roles("control:control", 2, &listen(1, 0)).expect_err("two for control");
    }

    /// Runs [`greet_from_the_passed_socket`] as a process that inherits `listener` as systemd would
    /// pass it, and gives what it says to a client.
    fn greeting(listener: std::os::fd::OwnedFd, connect: impl FnOnce() -> String) -> String {
        let script = "exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=control; \
                      exec \"$0\" --exact --ignored \"$1\"";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().expect("this test"))
            .arg("lifecycle::activation::tests::greet_from_the_passed_socket")
            .stdin(listener)
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("sh");
        let text = connect();
        assert!(child.wait().expect("ended").success());
        text
    }

    #[test]
    #[ignore = "the tests below run it as a process of its own"]
    fn greet_from_the_passed_socket() {
        let activated = take_sockets(&Listen::default()).expect("sockets");
        assert!(activated.http.is_empty() && activated.https.is_empty());
        match activated.control.expect("the one named control") {
            Socket::Tcp(listener) => {
                listener.set_nonblocking(false).expect("a socket");
                listener.accept().expect("a client").0.write_all(b"tcp").expect("written");
            }
            Socket::Unix(listener) => {
                listener.set_nonblocking(false).expect("a socket");
                listener.accept().expect("a client").0.write_all(b"unix").expect("written");
            }
        }
    }

    #[test]
    fn a_passed_tcp_socket_is_taken_over() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let text = greeting(listener.into(), || {
            let stream = std::net::TcpStream::connect(address).expect("connected");
            std::io::read_to_string(stream).expect("read")
        });
        assert_eq!(text, "tcp");
    }

    #[test]
    fn a_passed_unix_socket_is_taken_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let text = greeting(listener.into(), || {
            let stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
            std::io::read_to_string(stream).expect("read")
        });
        assert_eq!(text, "unix");
    }
}
