//! A real DNS server (dnsmasq) with the names and addresses of a test.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::process::{Process, free_port, log_text, program, wait_until};

/// A server that ends with the test.
pub struct Dns {
    pub port: u16,
    directory: tempfile::TempDir,
    process: Option<Process>,
    records: Vec<String>,
}

impl Dns {
    /// With options such as `--host-record=NAME,ADDRESS`; all other names and addresses have none.
    pub fn start(records: &[&str]) -> Self {
        let records = records.iter().map(|&record| record.to_owned()).collect();
        let directory = tempfile::tempdir().expect("a directory");
        let mut dns = Self { port: free_port(), directory, process: None, records };
        dns.start_again();
        dns
    }

    /// Starts it at the same port.
    pub fn start_again(&mut self) {
        let port = format!("--port={}", self.port);
        let mut command = Command::new(program("dnsmasq"));
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user="])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--no-resolv", "--no-hosts"])
            .args(["--local=/#/", "--log-queries", "--log-facility=-", port.as_str()])
            .args(&self.records);
        self.process = Some(Process::start(&mut command, &self.log_path()));
        wait_until("the DNS server", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Ends it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// As `bots.resolvers` has it.
    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// How often something was asked for: `PTR`, `A` or `AAAA`, and the name.
    pub fn asked(&self, kind: &str, what: &str) -> usize {
        let line = format!("query[{kind}] {what} from");
        log_text(&self.log_path()).matches(&line).count()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("dnsmasq.log")
    }
}
