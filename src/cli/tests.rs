//! Whole commands, without a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use super::*;

/// What a command wrote and how it ended.
struct Ended {
    code: ExitCode,
    out: String,
    error: String,
}

impl Ended {
    fn is(&self, code: u8) -> bool {
        // ExitCode compares by no other means.
        format!("{:?}", self.code) == format!("{:?}", ExitCode::from(code))
    }
}

fn parvis(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let arguments = [&["parvis"], arguments].concat().into_iter().map(OsString::from);
    let environment =
        environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let (mut out, mut error) = (Vec::new(), Vec::new());
    let mut terminal = Terminal { out: &mut out, error: &mut error };
    let code = dispatch(
        arguments,
        environment,
        &mut terminal,
        |settings, path| {
            ExitCode::from(if path.is_some() { settings.listen.headers_max as u8 } else { 40 })
        },
        |options| ExitCode::from(options.port as u8),
    );
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ended { code, out: text(out), error: text(error) }
}

/// Takes one request with its body, answers it, and gives what it read.
fn answer_once(mut stream: impl Read + Write, answer: &str) -> String {
    let mut reader = BufReader::new(&mut stream);
    let mut request = String::new();
    let mut length = 0;
    while !request.ends_with("\r\n\r\n") {
        let start = request.len();
        if reader.read_line(&mut request).expect("reads") == 0 {
            break;
        }
        let line = request[start..].to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("reads");
    request.push_str(&String::from_utf8(body).expect("UTF-8"));
    stream.write_all(answer.as_bytes()).expect("writes");
    request
}

/// A control endpoint on loopback that answers one request.
fn control(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("bound").to_string();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepts");
        answer_once(stream, answer)
    });
    (address, thread)
}

const PURGED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n\
                      {\"purged\":12,\"number\":7,\"soft\":false}";

#[test]
fn help_and_version_are_no_errors_and_bad_usage_is_2() {
    let help = parvis(&["--help"], &[]);
    assert!(help.is(0) && help.out.contains("Examples:") && help.error.is_empty());
    let version = parvis(&["--version"], &[]);
    assert!(version.is(0));
    assert_eq!(version.out, format!("parvis {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = parvis(&[], &[]);
    assert!(nothing.is(2) && nothing.error.contains("Usage:"));
    assert!(parvis(&["purge"], &[]).is(2));
    let bare = parvis(&["check", "/etc/parvis.toml"], &[]);
    assert!(bare.is(2) && bare.error.contains("tip: a configuration is given as --config /etc/"));
}

#[test]
fn check_says_every_mistake_and_is_2() {
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, "[store]\nmemory = \"lots\"\ngraze = 1\n").expect("writes");
    let path = path.to_str().expect("UTF-8");
    let ended = parvis(&["check", "--config", path], &[("PARVIS__LISTEN__HEADERS_MAX", "0")]);
    assert!(ended.is(2) && ended.out.is_empty());
    assert_eq!(ended.error.lines().count(), 3, "{}", ended.error);
    assert!(ended.error.starts_with(&format!("{path}:2: store.memory = \"lots\": not a size;")));
    assert!(parvis(&["run", "--config", path], &[]).is(2));
}

#[test]
fn check_says_what_a_right_configuration_would_do() {
    let ended = parvis(&["check"], &[("PARVIS__STORE__MEMORY", "1MiB")]);
    assert!(ended.is(0), "{}", ended.error);
    assert!(ended.out.starts_with("No file was given: the environment is right."));
    assert!(ended.out.contains("\n  store    up to 1MiB in memory"));
}

#[test]
fn check_loads_certificate_and_key_as_run_does() {
    let directory = tempfile::tempdir().expect("creates");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("writes");
        path.to_str().expect("UTF-8").to_owned()
    };
    let key_pair = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(["a".to_owned()]).expect("names");
    let good = write("good.pem", &params.self_signed(&key_pair).expect("made").pem());
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = write("expired.pem", &params.self_signed(&key_pair).expect("made").pem());
    let key = write("key.pem", &key_pair.serialize_pem());
    let other = write("other.pem", &rcgen::KeyPair::generate().expect("a key").serialize_pem());
    let text = write("text.pem", "no PEM\n");
    let armour = |name: &str| {
        write(
            &format!("{}.pem", name.replace(' ', "-")),
            &format!("-----BEGIN {name}-----\nAAAA\n-----END {name}-----\n"),
        )
    };
    let (hollow, hollow_key) = (armour("CERTIFICATE"), armour("PRIVATE KEY"));
    let check = |certificate: &str, key: &str| {
        parvis(
            &["check"],
            &[
                ("PARVIS__LISTEN__HTTPS", "127.0.0.1:443"),
                ("PARVIS__TLS__CERTIFICATE", certificate),
                ("PARVIS__TLS__KEY", key),
            ],
        )
    };
    let sound = check(&good, &key);
    assert!(sound.is(0) && !sound.out.contains("Warning: tls"), "{}{}", sound.out, sound.error);
    let late = check(&expired, &key);
    let warning =
        format!("Warning: tls.certificate = {expired}: certificate 1 expired on Mon, 01 Jan 2001");
    assert!(late.is(0) && late.out.contains(&warning), "{}{}", late.out, late.error);
    for (certificate, key, named) in [
        (&text, &key, format!("tls.certificate = {text}: no certificate in it")),
        (&key, &key, format!("tls.certificate = {key}: no certificate in it")),
        (&good, &text, format!("tls.key = {text}: no private key in it")),
        (&good, &other, format!("tls.certificate = {good}, tls.key = {other}: ")),
        (&hollow, &key, format!("tls.certificate = {hollow}, tls.key = {key}: ")),
        (&good, &hollow_key, format!("tls.certificate = {good}, tls.key = {hollow_key}: ")),
    ] {
        let ended = check(certificate, key);
        assert!(ended.is(2) && ended.out.is_empty(), "{}", ended.out);
        assert!(ended.error.starts_with(&named), "{}", ended.error);
        assert_eq!(ended.error.lines().count(), 1, "{}", ended.error);
    }
}

#[test]
fn run_and_demo_are_handed_what_they_need() {
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, "[listen]\nheaders_max = 33\n[store]\nmemory = 0\n").expect("writes");
    let path = path.to_str().expect("UTF-8");
    assert!(parvis(&["run", "--config", path], &[]).is(33));
    assert!(parvis(&["run"], &[("PARVIS__STORE__MEMORY", "0")]).is(40));
    assert!(parvis(&["demo", "--port", "50"], &[]).is(50));
}

#[test]
fn a_purge_by_tags_says_what_it_reached() {
    let (address, thread) = control(PURGED);
    let arguments = ["purge", "--tag", "cat_p_1", "--tag", "cat_p_2", "--control", &address];
    let ended = parvis(&arguments, &[("PARVIS__CONTROL__TOKEN", "sesame")]);
    assert_eq!(ended.error, "");
    assert!(ended.is(0));
    assert_eq!(ended.out, "Purged: 12 responses (purge number 7).\n");
    let request = thread.join().expect("ends");
    assert!(request.starts_with("POST /purge HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: {address}\r\n")));
    assert!(request.contains("\r\nauthorization: Bearer sesame\r\n"));
    assert!(request.contains("\r\ncontent-type: application/json\r\n"));
    assert!(request.ends_with("\r\n\r\n{\"tags\":[\"cat_p_1\",\"cat_p_2\"],\"soft\":false}"));
}

#[test]
fn the_address_and_token_come_from_the_configuration_too() {
    let (address, thread) = control(PURGED);
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    let text = format!("[listen]\ncontrol = \"{address}\"\n[control]\ntoken = \"from.file\"\n");
    std::fs::write(&path, text).expect("writes");
    let path = path.to_str().expect("UTF-8");
    let ended = parvis(&["purge", "--all", "--soft", "--config", path, "--token", "given"], &[]);
    assert!(ended.is(0), "{}", ended.error);
    let request = thread.join().expect("ends");
    assert!(request.contains("Bearer given") && request.ends_with("{\"all\":true,\"soft\":true}"));
}

#[test]
fn a_refusal_is_1_and_names_address_and_reason() {
    let (address, thread) =
        control("HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nno token\n\x1b[0");
    let ended = parvis(&["purge", "--url", "/a", "--control", &address], &[]);
    assert!(ended.is(1) && ended.out.is_empty());
    let expected = format!(
        "parvis: {address} refused (401): no token; give it by --config FILE, PARVIS__CONTROL__TOKEN, or \
         --token\n"
    );
    assert_eq!(ended.error, expected);
    assert!(!thread.join().expect("ends").contains("authorization"));
    let (address, thread) = control(
        "HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{\"error\":\"no \\u001bredis\"}",
    );
    let ended = parvis(&["fleet", "--control", &address], &[]);
    assert_eq!(ended.error, format!("parvis: {address} refused (404): no redis\n"));
    thread.join().expect("ends");
}

#[test]
fn a_purge_says_where_it_waits_for_others_and_where_it_reached_nothing() {
    let (address, thread) = control(
        "HTTP/1.1 202 Accepted\r\nContent-Length: 56\r\n\r\n\
         {\"purged\":0,\"number\":7,\"soft\":false,\"reach\":\"journaled\"}",
    );
    let ended = parvis(&["purge", "--url", "https://shop.example/a", "--control", &address], &[]);
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(lines[0], "Purged: 0 responses (purge number 7).");
    assert!(
        lines[1].starts_with("Redis does not answer: the other servers follow"),
        "{}",
        ended.out
    );
    assert!(lines[2].starts_with("Nothing is stored under this URL."), "{}", ended.out);
    thread.join().expect("ends");
}

#[test]
fn stats_leave_out_counts_that_are_0_unless_all_are_asked_for() {
    const STATS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 53\r\n\r\n\
                         {\"origin\":{\"healthy\":0},\"purges\":{\"a_total\":0,\"b\":1}}";
    for (all, expected) in [
        (false, "origin.healthy  0\npurges.b        1\n1 counts are 0; --all shows them.\n"),
        (true, "origin.healthy  0\npurges.a_total  0\npurges.b        1\n"),
    ] {
        let (address, thread) = control(STATS);
        let mut arguments = vec!["stats", "--control", &address];
        arguments.extend(all.then_some("--all"));
        let ended = parvis(&arguments, &[]);
        assert_eq!((ended.out.as_str(), ended.error.as_str()), (expected, ""));
        thread.join().expect("ends");
    }
}

#[test]
fn a_server_that_cannot_be_reached_or_is_another_one_is_1() {
    let free = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("bound");
    let ended = parvis(&["stats", "--control", &free.to_string()], &[]);
    assert!(ended.is(1));
    let expected = format!("parvis: cannot reach {free}: Connection refused");
    assert!(ended.error.starts_with(&expected), "{}", ended.error);
    for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "SSH-2.0-OpenSSH\r\n", ""] {
        let (address, thread) = control(answer);
        let ended = parvis(&["stats", "--control", &address], &[]);
        assert!(ended.is(1), "{answer}");
        assert!(ended.error.contains(&address), "{}", ended.error);
        assert_eq!(ended.error.lines().count(), 1);
        thread.join().expect("ends");
    }
}

#[test]
fn stats_come_over_a_unix_socket_as_lines_or_json() {
    const STATS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                         1c\r\n{\"hits\":3,\"store\":{\"bytes\":1\r\n2\r\n}}\r\n0\r\n\r\n";
    let directory = tempfile::tempdir().expect("creates");
    for (json, expected) in [
        (false, "hits         3\nstore.bytes  1\n"),
        (true, "{\"hits\":3,\"store\":{\"bytes\":1}}\n"),
    ] {
        let path = directory.path().join(format!("{json}.sock"));
        let listener = UnixListener::bind(&path).expect("binds");
        let thread =
            std::thread::spawn(move || answer_once(listener.accept().expect("accepts").0, STATS));
        let control = format!("unix:{}", path.display());
        let mut arguments = vec!["stats", "--control", &control];
        arguments.extend(json.then_some("--json"));
        let ended = parvis(&arguments, &[]);
        assert_eq!(ended.error, "");
        assert_eq!(ended.out, expected);
        assert!(
            thread.join().expect("ends").starts_with("GET /stats HTTP/1.1\r\nhost: localhost\r\n")
        );
    }
}
