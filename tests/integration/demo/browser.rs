//! Headless Chromium over `WebDriver` (W3C), as far as the tests need it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::process::{Process, log_text, program, wait_until};

/// Starting a browser is the slowest step.
const PATIENCE: Duration = Duration::from_secs(120);
const STARTS_MAX: usize = 5;

/// The key under which `WebDriver` names an element (its 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A chromedriver, which starts browsers; ends with the test.
pub struct Driver {
    port: u16,
    _process: Process,
    directory: tempfile::TempDir,
}

/// A browser with a profile, and so cookies, of its own; ends when dropped.
pub struct Browser<'a> {
    driver: &'a Driver,
    session: String,
}

impl Driver {
    /// On a port that it chooses itself: one that is free over IPv4. Where somebody has it over IPv6 it ends.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("chromedriver.log");
        for _ in 0..STARTS_MAX {
            let mut process =
                Process::start(Command::new(program("chromedriver")).arg("--port=0"), &log);
            let port = || -> Option<u16> {
                let text = log_text(&log);
                let (_, rest) = text.split_once("started successfully on port ")?;
                rest.split_once('.')?.0.parse().ok()
            };
            wait_until("chromedriver", PATIENCE, || port().is_some() || process.has_ended());
            if let Some(port) = port() {
                return Self { port, _process: process, directory };
            }
        }
        panic!("chromedriver does not start: {}", log_text(&log));
    }

    /// Starts a browser.
    pub fn browser(&self) -> Browser<'_> {
        let profile = tempfile::tempdir_in(self.directory.path()).expect("a directory").keep();
        let profile = format!("--user-data-dir={}", profile.display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--window-size=1280,900",
            &profile,
        ];
        let options = json!({ "goog:chromeOptions": { "args": arguments } });
        let wanted = json!({ "capabilities": { "alwaysMatch": options } });
        let answer = self.ask("POST", "/session", &wanted);
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        Browser { driver: self, session }
    }

    /// One command; the value it answers with.
    fn ask(&self, method: &str, path: &str, content: &Value) -> Value {
        let content = if method == "POST" { content.to_string() } else { String::new() };
        let host = format!("127.0.0.1:{}", self.port);
        let mut client = Client::connect(self.port);
        client.stream().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let headers = [("Host", host.as_str()), ("Content-Type", "application/json")];
        let reply = client.ask(method, path, &headers, content.as_bytes());
        let text = reply.text();
        assert_eq!(reply.status, 200, "{method} {path}: {text}");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["value"].take()
    }
}

impl Browser<'_> {
    /// Opens a page and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Runs the body of a function; what it returns, or what the promise resolves to.
    pub fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Clicks what an `XPath` finds, as a person would: it must be there and not covered.
    pub fn click(&self, xpath: &str) {
        let found = self.ask("POST", "/element", &json!({ "using": "xpath", "value": xpath }));
        let element = found[ELEMENT].as_str().expect("an element");
        self.ask("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Runs a script in each page from now on, before the page's own.
    pub fn runs_before_each_page(&self, script: &str) {
        let command = json!({
            "cmd": "Page.addScriptToEvaluateOnNewDocument", "params": { "source": script }
        });
        self.ask("POST", "/goog/cdp/execute", &command);
    }

    /// Says from now on that it is this one: a headless one is a bot by its name.
    pub fn calls_itself(&self, user_agent: &str) {
        let command = json!({
            "cmd": "Network.setUserAgentOverride", "params": { "userAgent": user_agent }
        });
        self.ask("POST", "/goog/cdp/execute", &command);
    }

    /// Draws as a phone of that size does.
    pub fn becomes_a_phone(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        let command = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics });
        self.ask("POST", "/goog/cdp/execute", &command);
    }

    fn ask(&self, method: &str, path: &str, content: &Value) -> Value {
        self.driver.ask(method, &format!("/session/{}{path}", self.session), content)
    }
}

impl Drop for Browser<'_> {
    /// Ends the browser as well as it can: a test that fails already must not fail twice.
    fn drop(&mut self) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.driver.port)) else { return };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let request =
            format!("DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", self.session);
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read(&mut [0]);
    }
}
