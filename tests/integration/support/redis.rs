//! A real Redis on a port or socket of its own.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parvis::resp::{ReplyLimits, ReplyState, read_reply};
use parvis::settings::{self, RedisServer, RedisUrl};

use super::process::{Process, free_port, program, wait_until};

/// A server that ends with the test.
pub struct Redis {
    pub port: u16,
    process: Option<Process>,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    tls: bool,
    password: Option<String>,
}

impl Redis {
    /// With nothing but defaults, and nothing on disk.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With more arguments, as `--requirepass x`.
    pub fn with(arguments: &[&str]) -> Self {
        Self::prepared(|_| arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }

    /// With more arguments and variables of the environment.
    pub fn in_environment(arguments: &[&str], environment: &[(String, String)]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::made(|_| arguments, environment)
    }

    /// With arguments that name files in its directory.
    pub fn prepared(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        Self::made(arguments, &[])
    }

    fn made(
        arguments: impl FnOnce(&Path) -> Vec<String>,
        environment: &[(String, String)],
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let arguments = arguments(directory.path());
        let tls = arguments.iter().any(|argument| argument == "--tls-port");
        let password = arguments.iter().position(|argument| argument == "--requirepass");
        let password = password.map(|at| arguments[at + 1].clone());
        let port = free_port();
        let environment = environment.to_vec();
        let mut redis =
            Self { port, process: None, directory, arguments, environment, tls, password };
        redis.start_again();
        redis
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// How a node reaches it over its socket.
    pub fn settings(&self) -> settings::Redis {
        settings::Redis {
            url: Some(RedisUrl {
                server: RedisServer::Unix(self.socket()),
                tls: false,
                user: String::new(),
                password: String::new(),
                database: 0,
            }),
            ..settings::Redis::default()
        }
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// Starts it at the same port; what it kept on disk is there again.
    pub fn start_again(&mut self) {
        self.begin_again(&[]);
        wait_until("Redis", Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() && !self.is_loading()
        });
    }

    /// Starts it with more arguments, and does not wait until it has loaded what it kept.
    pub fn begin_again(&mut self, more: &[&str]) {
        let mut command = Command::new(program("redis-server"));
        let port = self.port.to_string();
        let (plain, tls) = if self.tls { ("0", port.as_str()) } else { (port.as_str(), "0") };
        command.args(["--bind", "127.0.0.1", "--port", plain, "--save", "", "--dir"]);
        command.arg(self.directory.path()).arg("--unixsocket").arg(self.socket());
        for argument in &self.arguments {
            command.arg(if argument == "TLS-PORT" { tls } else { argument });
        }
        command.args(more).envs(self.environment.iter().cloned());
        let log = self.directory.path().join("redis.log");
        self.process = Some(Process::start(&mut command, &log));
    }

    pub fn is_loading(&self) -> bool {
        self.raw(&["ping"]) != "PONG"
    }

    /// From now on it listens at another port, as one that takes another's place.
    pub fn move_to(&mut self, port: u16) {
        self.ask(&["config", "set", "port", &port.to_string()]);
        self.port = port;
    }

    /// Ends it, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal("KILL");
            process.wait(Duration::from_secs(5));
        }
    }

    pub fn stop(&self) {
        self.process.as_ref().expect("it runs").stop();
    }

    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// What `redis-cli` says.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let answer = self.raw(arguments);
        assert!(!answer.starts_with("ERR"), "{arguments:?}: {answer}");
        answer
    }

    fn raw(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("redis-cli"));
        command.arg("-s").arg(self.socket()).arg("--no-auth-warning");
        if let Some(password) = &self.password {
            command.args(["-a", password]);
        }
        let output = command
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("redis-cli, of redis-tools");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What the entries of the log ask for, in their order.
    pub fn orders(&self) -> Vec<String> {
        let entries = self.ask(&["xrange", "{parvis}:log", "-", "+"]);
        let lines: Vec<&str> = entries.lines().collect();
        let orders = lines.windows(2).filter(|pair| pair[0] == "order");
        orders.map(|pair| pair[1].trim_end().to_owned()).collect()
    }
}

/// What a reply of a test may have.
const LIMITS: ReplyLimits = ReplyLimits {
    line_max_bytes: 1 << 20,
    bulk_max_bytes: 64 << 20,
    elements_max: 1 << 20,
    reply_max_bytes: 256 << 20,
};

/// Replies as they come from a server.
#[derive(Default)]
pub struct Replies {
    buffer: BytesMut,
    state: ReplyState,
}

impl Replies {
    /// The next one, as it came; `None`: the connection was closed. What is no reply fails the test.
    pub fn next(&mut self, from: &mut impl Read) -> io::Result<Option<Bytes>> {
        loop {
            let reply = read_reply(&mut self.buffer, &LIMITS, &mut self.state).expect("a reply");
            if let Some(reply) = reply {
                return Ok(Some(reply.bytes));
            }
            let mut piece = [0; 16 << 10];
            match from.read(&mut piece)? {
                0 => return Ok(None),
                count => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }
}
