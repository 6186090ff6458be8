//! From start to stop: draining, reload, sockets that systemd opened.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::origin::{Origin, page};
use super::support::process::{Process, free_port, wait_until};
use super::support::{Parvis, get, request};

fn slow(pause: Duration) -> Origin {
    Origin::start(move |_, stream| {
        thread::sleep(pause);
        let _ = stream.write_all(&page("done", "t"));
    })
}

#[test]
fn sigterm_makes_it_not_ready_at_once_serves_on_and_exits_0_with_nothing_lost() {
    let origin = slow(Duration::from_millis(800));
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"1s\"").start();
    let port = parvis.port;
    let is_ready = || get(port, "/.parvis/ready", &[]).status == 200;
    wait_until("ready", Duration::from_secs(5), is_ready);
    let early = thread::spawn(move || get(port, "/early", &[]));
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    parvis.process.signal("TERM");
    wait_until("not ready", Duration::from_millis(900), || {
        get(port, "/.parvis/ready", &[]).status == 503
            && get(parvis.control, "/ready", &[]).status == 503
    });
    assert_eq!(get(port, "/late", &[]).status, 200, "requests are served while it drains");
    assert_eq!(early.join().expect("a reply").text(), "done");
    assert_eq!(parvis.process.wait(Duration::from_secs(8)), Some(0));
}

#[test]
fn a_drain_over_the_control_api_goes_as_sigterm_does_and_asked_twice_it_hurries_nothing() {
    let origin = slow(Duration::from_millis(800));
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"2s\"").start();
    let (port, control) = (parvis.port, parvis.control);
    let began = Instant::now();
    for _ in 0..2 {
        let told = request(control, "POST", "/drain", &[], b"");
        assert_eq!(told.status, 202, "{}", told.text());
    }
    wait_until("not ready", Duration::from_millis(1_500), || {
        get(port, "/.parvis/ready", &[]).status == 503
    });
    let far = get(control, "/drain", &[]).text();
    assert!(far.contains("\"phase\":\"draining\"") && far.contains("\"connections\":"), "{far}");
    assert_eq!(get(port, "/late", &[]).text(), "done", "requests are served while it drains");
    assert_eq!(parvis.process.wait(Duration::from_secs(8)), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2), "the second order hurried it");
}

#[test]
fn parvis_drain_says_how_far_it_is_and_ends_when_the_server_has() {
    let origin = slow(Duration::from_millis(2_500));
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"1s\"").start();
    let (port, control) = (parvis.port, format!("127.0.0.1:{}", parvis.control));
    let drain = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
        command.args(["drain", "--control", &control]).output().expect("it runs")
    };
    let flight = thread::spawn(move || get(port, "/p", &[]));
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    let output = drain();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for line in ["Told to end", "Not ready, and serving on", "Accepts no more", "It has ended."] {
        assert!(said.contains(line), "{line:?} is not in\n{said}");
    }
    assert_eq!(flight.join().expect("a reply").text(), "done");
    assert_eq!(parvis.process.wait(Duration::from_secs(5)), Some(0));
    assert_eq!(drain().status.code(), Some(1), "nobody is there");
}

#[test]
fn a_request_in_flight_is_finished_after_the_drain() {
    let origin = slow(Duration::from_millis(1500));
    let mut parvis = Parvis::before_http(origin.port).with("lifecycle.drain", "\"200ms\"").start();
    let port = parvis.port;
    let request = thread::spawn(move || get(port, "/p", &[]));
    wait_until("the fetch", Duration::from_secs(5), || origin.count() == 1);
    parvis.process.signal("TERM");
    assert_eq!(request.join().expect("a reply").text(), "done");
    assert_eq!(parvis.process.wait(Duration::from_secs(8)), Some(0));
}

#[test]
fn an_idle_connection_does_not_hold_the_stop() {
    let origin = slow(Duration::ZERO);
    let mut parvis = Parvis::before_http(origin.port).start();
    let mut idle = Client::connect(parvis.port);
    assert_eq!(idle.ask("GET", "/p", &[], b"").status, 200);
    let began = Instant::now();
    parvis.process.signal("TERM");
    assert_eq!(parvis.process.wait(Duration::from_secs(4)), Some(0));
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn sighup_reloads_what_can_be_reloaded_and_a_wrong_configuration_leaves_the_old_one() {
    let origin = slow(Duration::ZERO);
    let parvis = Parvis::before_http(origin.port).start();
    let header = |wanted: &str| {
        parvis.get("/p", &[]).header("x-magento-cache-debug").is_some() == (wanted == "there")
    };
    assert!(header("absent"));
    let before = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let after = format!("{before}\n[site]\ndebug_header = \"always\"\n");
    std::fs::write(parvis.config_path(), after).expect("written");
    parvis.process.signal("HUP");
    wait_until("the reload", Duration::from_secs(5), || header("there"));
    std::fs::write(parvis.config_path(), "[site]\npolicy = \"wordpress\"\n").expect("written");
    parvis.process.signal("HUP");
    wait_until("the refusal", Duration::from_secs(5), || parvis.stderr().contains("wordpress"));
    assert!(header("there"), "the configuration in force was lost");
}

#[test]
fn sighup_reopens_the_access_log_and_loses_no_line() {
    let origin = slow(Duration::ZERO);
    let parvis = Parvis::before_http(origin.port).start();
    let log = parvis.directory.path().join("access.log");
    let moved = parvis.directory.path().join("access.log.1");
    for number in 0..20 {
        parvis.get(&format!("/before/{number}"), &[]);
    }
    std::fs::rename(&log, &moved).expect("moved");
    parvis.process.signal("HUP");
    wait_until("the new log", Duration::from_secs(5), || log.exists());
    for number in 0..20 {
        parvis.get(&format!("/after/{number}"), &[]);
    }
    let lines = || {
        let both = [&log, &moved].map(|path| std::fs::read_to_string(path).unwrap_or_default());
        both.concat()
            .lines()
            .filter(|line| line.contains("/before/") || line.contains("/after/"))
            .count()
    };
    wait_until("every line", Duration::from_secs(5), || lines() == 40);
}

#[test]
fn it_tells_systemd_when_it_is_ready_and_when_it_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let (port, control) = (free_port(), free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
    command
        .arg("run")
        .env("NOTIFY_SOCKET", directory.path().join("notify"))
        .env("PARVIS__LISTEN__HTTP", format!("127.0.0.1:{port}"))
        .env("PARVIS__LISTEN__CONTROL", format!("127.0.0.1:{control}"))
        .env("PARVIS__HEALTH__PROBE", "")
        .env("PARVIS__LIFECYCLE__DRAIN", "0s");
    let mut process = Process::start(&mut command, &directory.path().join("output"));
    let told = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    while !told().contains("READY=1") {}
    assert_eq!(get(port, "/.parvis/ready", &[]).status, 200);
    process.signal("TERM");
    while !told().contains("STOPPING=1") {}
    assert_eq!(process.wait(Duration::from_secs(8)), Some(0));
}

#[test]
fn it_takes_sockets_that_were_opened_for_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let directory = tempfile::tempdir().expect("a directory");
    // The shell gives the socket the number 3 and its own process id to the child, as systemd does.
    let script = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {} run",
        listener.as_raw_fd(),
        env!("CARGO_BIN_EXE_parvis")
    );
    keep_over_exec(&listener);
    let mut command = Command::new("bash");
    command
        .args(["-c", &script])
        .env("PARVIS__LISTEN__HTTP", format!("127.0.0.1:{port}"))
        .env("PARVIS__LISTEN__CONTROL", format!("127.0.0.1:{}", free_port()))
        .env("PARVIS__HEALTH__PROBE", "")
        .env("PARVIS__LIFECYCLE__DRAIN", "0s");
    let mut process = Process::start(&mut command, &directory.path().join("output"));
    // The first connections wait in the socket's queue until the process has started.
    wait_until("ready", Duration::from_secs(10), || get(port, "/.parvis/ready", &[]).status == 200);
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(8)), Some(0));
}

fn keep_over_exec(socket: &std::net::TcpListener) {
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).expect("a flag");
}

#[test]
fn a_refusing_php_socket_makes_it_not_ready_and_a_failing_health_check_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    // Bound by nobody who listens, so that no other test is given the port.
    let refusing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let refusing = refusing.expect("a socket");
    refusing.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bound");
    let address = refusing.local_addr().ok().and_then(|address| address.as_socket());
    let nobody = address.expect("an address").port();
    let parvis = Parvis::before_http(nobody)
        .with("health.probe", "\"/health_check.php\"")
        .with("health.interval", "\"100ms\"")
        .with("health.timeout", "\"100ms\"")
        .with("health.refused", "\"500ms\"")
        .start();
    wait_until("not ready", Duration::from_secs(5), || {
        parvis.get("/.parvis/ready", &[]).status == 503
    });
    let why = get(parvis.control, "/ready", &[]);
    assert_eq!(why.status, 503);
    assert!(why.text().contains("refused"), "{}", why.text());
    assert_eq!(get(parvis.control, "/live", &[]).status, 200);
    drop(directory);
    let failing =
        Origin::always("HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let parvis = Parvis::before_http(failing.port)
        .with("health.probe", "\"/health_check.php\"")
        .with("health.interval", "\"100ms\"")
        .with("health.refused", "\"500ms\"")
        .start();
    // As many as would take out a server whose socket refuses, and more.
    wait_until("the health check to fail", Duration::from_secs(20), || failing.count() >= 15);
    assert_eq!(parvis.get("/.parvis/ready", &[]).status, 200, "all servers share that fault");
}
