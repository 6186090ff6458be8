//! The command line and the configuration.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Output};
use std::time::Duration;

use super::support::Parvis;
use super::support::origin::{Origin, page};
use super::support::process::{Process, log_text, wait_until};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn parvis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parvis")).args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn checked(toml: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, toml).expect("written");
    let output = parvis(&["check", "--config", path.to_str().expect("text")]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn check_says_every_mistake_at_once_with_key_value_and_what_is_allowed() {
    let (code, said) = checked(
        "[store]\nmemroy = \"1GiB\"\nmemory = \"lots\"\n[listen]\nhttp = [\"nowhere\"]\nheaders_max = -1\n\
         [site]\npolicy = \"wordpress\"\n[nonsense]\na = 1\n",
    );
    assert_eq!(code, Some(2), "{said}");
    for expected in [
        "memroy",
        "did you mean",
        "memory",
        "lots",
        "nowhere",
        "headers_max",
        "wordpress",
        "magento",
        "generic",
        "nonsense",
        "parvis.toml",
    ] {
        assert!(said.contains(expected), "{expected} is missing in:\n{said}");
    }
    assert!(said.lines().filter(|line| line.contains("parvis.toml")).count() >= 6, "{said}");
}

#[test]
fn check_accepts_the_example_configuration() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/parvis.toml");
    let output = parvis(&["check", "--config", example]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_toml_error_names_file_and_line() {
    let (code, said) = checked("[store]\nmemory = \n");
    assert_eq!(code, Some(2));
    assert!(said.contains("parvis.toml") && said.contains('2'), "{said}");
}

#[test]
fn the_environment_comes_after_the_file_and_its_mistakes_name_the_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_parvis"))
        .arg("check")
        .env("PARVIS__STORE__MEMORY", "much")
        .output()
        .expect("it runs");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("PARVIS__STORE__MEMORY"), "{said}");
}

#[test]
fn a_port_in_use_a_missing_certificate_and_an_unreadable_root_are_one_clear_line_and_exit_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for (toml, names) in [
        (format!("[listen]\nhttp = [\"127.0.0.1:{port}\"]\ncontrol = \"127.0.0.1:0\"\n"), port.to_string()),
        (
            "[listen]\nhttps = [\"127.0.0.1:0\"]\n[tls]\ncertificate = \"/nowhere/c.pem\"\nkey = \"/nowhere/k.pem\"\n".to_owned(),
            "/nowhere/c.pem".to_owned(),
        ),
        (
            "[origin]\nfastcgi = \"unix:/run/none.sock\"\nroot = \"/nowhere/pub\"\n".to_owned(),
            "/nowhere/pub".to_owned(),
        ),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("parvis.toml");
        std::fs::write(&path, &toml).expect("written");
        let output = parvis(&["run", "--config", path.to_str().expect("text")]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{toml}{said}");
        assert!(said.contains(&names), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// What a node says until it listens, whose stdout and stderr are the journal's or only a file.
fn started_in_the_journal(is_journal: bool) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("output");
    let file = std::fs::File::create(&log).expect("made").metadata().expect("its inode");
    let inode = if is_journal { file.ino() } else { file.ino() + 1 };
    let mut command = Command::new(env!("CARGO_BIN_EXE_parvis"));
    command
        .arg("run")
        .env("JOURNAL_STREAM", format!("{}:{inode}", file.dev()))
        .env("PARVIS__LISTEN__HTTP", "127.0.0.1:0")
        .env("PARVIS__LISTEN__CONTROL", "127.0.0.1:0")
        .env("PARVIS__FLEET__JOURNAL_DIRECTORY", "");
    let _process = Process::start(&mut command, &log);
    wait_until("it listens", Duration::from_secs(20), || log_text(&log).contains("listening"));
    log_text(&log)
}

#[test]
fn an_access_log_that_goes_to_the_journal_is_warned_of() {
    let line = "the access log goes to the journal";
    assert!(started_in_the_journal(true).contains(line));
    assert!(!started_in_the_journal(false).contains(line));
}

#[test]
fn help_teaches_each_command() {
    let help = text(&parvis(&["--help"]).stdout);
    for word in ["run", "check", "demo", "purge", "stats", "restart", "drain"] {
        assert!(help.contains(word), "{help}");
        assert!(parvis(&[word, "--help"]).status.success());
    }
    assert_eq!(parvis(&["fly"]).status.code(), Some(2));
}

#[test]
fn purge_and_stats_speak_to_a_running_node() {
    let origin = Origin::always(page("content", "cat_p_1"));
    let node = Parvis::before_http(origin.port).start();
    let control = format!("127.0.0.1:{}", node.control);
    let store = || {
        node.get("/p", &[]);
        wait_until("storing", std::time::Duration::from_secs(5), || node.get("/p", &[]).is_hit());
    };
    for selection in [vec!["--tag", "cat_p_1"], vec!["--url", "http://shop.test/p"], vec!["--all"]]
    {
        store();
        let mut arguments = vec!["purge", "--control", &control];
        arguments.extend(&selection);
        let output = parvis(&arguments);
        assert!(output.status.success(), "{selection:?}: {}", text(&output.stderr));
        assert!(!node.get("/p", &[]).is_hit(), "{selection:?}");
    }
    let stats = parvis(&["stats", "--control", &control]);
    assert!(stats.status.success());
    assert!(text(&stats.stdout).contains("hit"), "{}", text(&stats.stdout));
    let json = parvis(&["stats", "--json", "--control", &control]);
    assert!(serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok());
    let nobody = parvis(&["stats", "--control", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("127.0.0.1:1"));
}

#[test]
fn the_purge_api_wants_its_token() {
    let origin = Origin::always(page("content", "cat_p_1"));
    let node = Parvis::before_http(origin.port).with("control.token", "\"right\"").start();
    let ask = |token: &str| {
        let header = format!("Bearer {token}");
        super::support::request(
            node.control,
            "POST",
            "/purge",
            &[("Authorization", &header), JSON],
            b"{\"all\":true}",
        )
        .status
    };
    assert_eq!(ask("wrong"), 401);
    assert_eq!(
        super::support::request(node.control, "POST", "/purge", &[JSON], b"{\"all\":true}").status,
        401
    );
    assert_eq!(ask("right"), 200);
}
