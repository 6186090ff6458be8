//! A Parvis process under test.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::client::{self, Reply};
use super::process::{Process, free_port, log_text};

/// Builds the configuration of a process: `Parvis::before("127.0.0.1:1234").with(...).start()`.
pub struct Builder {
    toml: Vec<(String, String)>,
    tail: String,
    descriptors_max: Option<u32>,
    /// Another program, and what its environment names as switched off.
    faulty: Option<(PathBuf, String)>,
}

/// A running process with its ports.
pub struct Parvis {
    pub port: u16,
    pub control: u16,
    pub process: Process,
    pub directory: tempfile::TempDir,
    http2: bool,
}

impl Parvis {
    /// In front of an HTTP origin.
    pub fn before_http(port: u16) -> Builder {
        Builder::new().with("origin.http", &format!("\"127.0.0.1:{port}\""))
    }

    /// In front of PHP-FPM.
    pub fn before_php(php: &super::php::Php) -> Builder {
        Builder::new()
            .with("origin.fastcgi", &format!("\"unix:{}\"", php.socket().display()))
            .with("origin.root", &format!("\"{}\"", php.root().display()))
    }

    /// In front of an application that a test plays.
    pub fn before_application(application: &super::fastcgi::Application) -> Builder {
        Builder::new()
            .with("origin.fastcgi", &format!("\"unix:{}\"", application.socket().display()))
            .with("origin.root", &format!("\"{}\"", application.root().display()))
    }

    /// In front of PHP whose scripts have knobs in the query, which rules would take for filters.
    pub fn before_php_with_knobs(php: &super::php::Php) -> Builder {
        Self::before_php(php).with("traffic.on", "false")
    }

    /// From now on it is asked over HTTP/2.
    pub fn over_http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    pub fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", target, headers, b"")
    }

    pub fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let request = if self.http2 { super::h2::request } else { client::request };
        request(self.port, method, target, headers, body)
    }

    /// A PURGE of one tag, as Magento sends it.
    pub fn purge_tag(&self, tag: &str) -> Reply {
        let pattern = format!("((^|,){tag}(,|$))");
        self.ask("PURGE", "/", &[("X-Magento-Tags-Pattern", &pattern)], b"")
    }

    pub fn metric(&self, line_start: &str) -> Option<f64> {
        let text = client::get(self.control, "/metrics", &[]).text();
        let line = text.lines().find(|line| line.starts_with(line_start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub fn stderr(&self) -> String {
        log_text(&self.directory.path().join("output"))
    }

    pub fn access_log(&self) -> String {
        log_text(&self.directory.path().join("access.log"))
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.path().join("parvis.toml")
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let text =
            std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).expect("alive");
        let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
        pages * 4096
    }
}

impl Builder {
    pub fn new() -> Self {
        let mut builder =
            Self { toml: Vec::new(), tail: String::new(), descriptors_max: None, faulty: None };
        for (key, value) in [
            ("health.probe", "\"\""),
            ("store.memory", "\"64MiB\""),
            // What a test stores after a purge is to stay.
            ("purge.echo", "0"),
            ("lifecycle.drain", "\"0s\""),
            ("lifecycle.deadline", "\"5s\""),
        ] {
            builder = builder.with(key, value);
        }
        builder
    }

    /// Sets `section.key` to a TOML value.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.toml.retain(|(known, _)| known != key);
        self.toml.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Appends TOML as it is, for tables of tables.
    pub fn with_toml(mut self, text: &str) -> Self {
        self.tail.push_str(text);
        self.tail.push('\n');
        self
    }

    /// It may open so many descriptors.
    pub fn with_descriptors(mut self, most: u32) -> Self {
        self.descriptors_max = Some(most);
        self
    }

    /// Runs a binary of the feature `faulty` without a mechanism.
    pub fn faulty(mut self, binary: PathBuf, without: &str) -> Self {
        self.faulty = Some((binary, without.to_owned()));
        self
    }

    /// Starts, and waits until it answers.
    pub fn start(self) -> Parvis {
        self.start_at(free_port())
    }

    /// Starts with `listen.http` at this port, unless that is set, and waits until it answers there.
    pub fn start_at(self, port: u16) -> Parvis {
        let directory = tempfile::tempdir().expect("a directory");
        let control = free_port();
        let builder = self
            .with("listen.control", &format!("\"127.0.0.1:{control}\""))
            .with_default("listen.http", &format!("[\"127.0.0.1:{port}\"]"))
            .with_default(
                "log.access",
                &format!("\"{}\"", directory.path().join("access.log").display()),
            );
        let config = directory.path().join("parvis.toml");
        std::fs::write(&config, builder.text()).expect("written");
        let mut command = match &builder.faulty {
            Some((binary, without)) => {
                let mut command = Command::new(binary);
                command.env("PARVIS_WITHOUT", without);
                command
            }
            None => command(builder.descriptors_max),
        };
        command.arg("run").arg("--config").arg(&config);
        let process = Process::start(&mut command, &directory.path().join("output"));
        let mut parvis = Parvis { port, control, process, directory, http2: false };
        parvis.wait_until_live();
        parvis
    }

    fn with_default(self, key: &str, value: &str) -> Self {
        if self.toml.iter().any(|(known, _)| known == key) { self } else { self.with(key, value) }
    }

    /// The configuration file.
    pub fn text(&self) -> String {
        let mut sections: Vec<&str> =
            self.toml.iter().filter_map(|(key, _)| Some(key.split_once('.')?.0)).collect();
        sections.sort_unstable();
        sections.dedup();
        let mut text = String::new();
        for section in sections {
            text.push_str(&format!("[{section}]\n"));
            for (key, value) in &self.toml {
                if let Some((of, name)) = key.split_once('.')
                    && of == section
                {
                    text.push_str(&format!("{name} = {value}\n"));
                }
            }
        }
        text + &self.tail
    }
}

/// Runs the program, with fewer descriptors than this process has.
fn command(descriptors_max: Option<u32>) -> Command {
    let Some(most) = descriptors_max else { return Command::new(program()) };
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {most} && exec \"$0\" \"$@\"")).arg(program());
    command
}

/// The binary of this build, or that of `PARVIS_BINARY`: figures of a release are taken so.
pub fn program() -> PathBuf {
    let of_build = || PathBuf::from(env!("CARGO_BIN_EXE_parvis"));
    std::env::var_os("PARVIS_BINARY").map_or_else(of_build, PathBuf::from)
}

impl Parvis {
    fn is_starting(&self) -> bool {
        super::get(self.control, "/ready", &[]).text().contains("\"starting\"")
    }

    fn wait_until_live(&mut self) {
        let end = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            assert!(!self.process.has_ended(), "it ended at start:\n{}", self.stderr());
            let answers = |port| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            // Between the first connection and the last step of its start it says so.
            if answers(self.control) && answers(self.port) && !self.is_starting() {
                return;
            }
            assert!(std::time::Instant::now() < end, "it does not answer:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
