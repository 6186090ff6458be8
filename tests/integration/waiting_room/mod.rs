//! The waiting room, as visitors, machines and operators meet it, over a real PHP-FPM and a real Redis.

mod alone;
mod browser;
mod machines;
mod opening;
mod places;
mod staying;
mod visitors;

use std::process::Command;
use std::time::Duration;

use super::support::Parvis;
use super::support::client::Reply;
use super::support::parvis::{Builder, program};
use super::support::php::Php;
use super::support::process::wait_until;
use super::support::redis::Redis;

/// A machine that is shared with others takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "a secret of all nodes";

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const FIREFOX: (&str, &str) = ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0");

/// Nobody is let in.
const NOBODY: &str = "\"1/1day\"";
/// Whoever waits is.
const EVERYBODY: &str = "\"1000/1s\"";

/// PHP and Redis, and the nodes before them.
struct Shop {
    redis: Redis,
    php: Php,
}

impl Shop {
    fn start() -> Self {
        let redis = Redis::start();
        let store = format!("unix:{}/sessions.sock", redis.directory().display());
        Self { php: Php::with_shop(&store, 4), redis }
    }

    fn sessions(&self) -> String {
        format!("unix:{}/sessions.sock", self.redis.directory().display())
    }

    /// A node through which the sessions pass, where everybody waits.
    fn node(&self) -> Builder {
        self.another("web-1").with("sessions.listen", &format!("\"{}\"", self.sessions()))
    }

    /// Another node of the fleet; the sessions pass through the first.
    fn another(&self, name: &str) -> Builder {
        waiting(Parvis::before_php(&self.php))
            .with("redis.url", &format!("\"{}\"", self.redis.url()))
            .with("fleet.name", &format!("\"{name}\""))
            .with("fleet.journal_directory", "\"\"")
    }
}

/// With a waiting room in which everybody waits.
fn waiting(builder: Builder) -> Builder {
    builder
        .with("traffic.secret", &format!("\"{SECRET}\""))
        .with("waiting_room.mode", "\"on\"")
        .with("waiting_room.admit", NOBODY)
        .with("waiting_room.refresh", "\"10s\"")
}

/// A visitor's browser, which keeps cookies.
#[derive(Clone, Default)]
struct Visitor {
    cookies: Vec<(String, String)>,
}

impl Visitor {
    /// One that brings these.
    fn with(cookies: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { cookies: cookies.iter().map(own).collect() }
    }

    fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Goes to a page.
    fn opens(&mut self, parvis: &Parvis, target: &str) -> Reply {
        self.asks(parvis, "GET", target, &[HTML])
    }

    fn asks(
        &mut self,
        parvis: &Parvis,
        method: &str,
        target: &str,
        more: &[(&str, &str)],
    ) -> Reply {
        let pairs: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let jar = pairs.join("; ");
        let mut headers = vec![FIREFOX];
        headers.extend(more);
        if !jar.is_empty() {
            headers.push(("Cookie", jar.as_str()));
        }
        let reply = parvis.ask(method, target, &headers, b"");
        for set in reply.all("set-cookie") {
            let pair = set.split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("a value");
            self.cookies.retain(|(own, _)| own != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        reply
    }
}

/// The page of the waiting room, and no place of another page.
fn waits(reply: &Reply) -> bool {
    let is_page = reply.status == 503 && reply.text().contains("http-equiv=\"refresh\"");
    assert_eq!(is_page, reply.cache_status().contains("detail=waiting"), "{reply:?}");
    is_page
}

/// Changes a setting in the file, and has it read.
fn set(parvis: &Parvis, key: &str, value: &str) {
    let path = parvis.config_path();
    let text = std::fs::read_to_string(&path).expect("the file");
    let start = format!("{key} = ");
    let line = text.lines().find(|line| line.starts_with(&start)).expect(key);
    std::fs::write(&path, text.replace(line, &format!("{start}{value}"))).expect("written");
    parvis.process.signal("HUP");
}

/// What `parvis room` says.
fn room(parvis: &Parvis, order: &[&str]) -> String {
    let ran = Command::new(program())
        .arg("room")
        .args(order)
        .args(["--control", &format!("127.0.0.1:{}", parvis.control)])
        .output()
        .expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Waits until somebody without a place waits, or does not.
fn wait_until_newcomers(what: &str, parvis: &Parvis, wait: bool) {
    wait_until(what, PATIENCE, || {
        let reply = Visitor::default().opens(parvis, "/");
        std::thread::sleep(Duration::from_millis(100));
        waits(&reply) == wait
    });
}
