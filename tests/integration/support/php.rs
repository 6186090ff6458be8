//! A real PHP-FPM of the test's own, with a web root of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{Process, log_text, program, wait_until};

/// PHP-FPM and its web root; both end with the test.
pub struct Php {
    directory: tempfile::TempDir,
    process: Option<Process>,
    children: usize,
    environment: String,
}

impl Php {
    /// With the script that answers requests from the corpus as its front controller.
    pub fn with_corpus() -> Self {
        Self::with_front_controller("replay.php", 8)
    }

    /// With a page that has a session in this store, as Magento's have; see `tests/php/session.php`.
    pub fn with_sessions(store: &str, children: usize) -> Self {
        Self::made("session.php", children, format!("env[SESSION_STORE] = {store}\n"))
    }

    /// With the shop of `tests/php/room.php` and sessions in this store.
    pub fn with_shop(store: &str, children: usize) -> Self {
        Self::made("room.php", children, format!("env[SESSION_STORE] = {store}\n"))
    }

    /// With `tests/php/NAME` as `pub/index.php` and so many children.
    pub fn with_front_controller(name: &str, children: usize) -> Self {
        Self::made(name, children, String::new())
    }

    fn made(name: &str, children: usize, environment: String) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("pub");
        std::fs::create_dir_all(root.join("static/frontend")).expect("directories");
        std::fs::create_dir_all(root.join("media/catalog")).expect("directories");
        let source = format!("{}/tests/php/{name}", env!("CARGO_MANIFEST_DIR"));
        for script in ["index.php", "get.php", "static.php", "health_check.php"] {
            std::fs::copy(&source, root.join(script)).expect("the script");
        }
        let mut php = Self { directory, process: None, children, environment };
        php.start();
        php
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("pub")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("php.sock")
    }

    /// What PHP-FPM and its workers complained of.
    pub fn log(&self) -> String {
        log_text(&self.directory.path().join("error.log"))
    }

    /// A file in the web root.
    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, content).expect("written");
    }

    /// Starts it (again).
    pub fn start(&mut self) {
        let path = self.directory.path();
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
        let config = format!(
            "[global]\npid = {path}/php.pid\nerror_log = {path}/error.log\ndaemonize = no\n\
             [www]\nlisten = {path}/php.sock\nlisten.mode = 0666\nlisten.backlog = 511\npm = static\n\
             pm.max_children = {children}\npm.status_path = /status\ncatch_workers_output = yes\n\
             clear_env = no\nenv[PARVIS_CORPUS] = {corpus}\nenv[PARVIS_STATE] = {path}\n{environment}{user}",
            path = path.display(),
            children = self.children,
            environment = self.environment,
            user = user_lines(),
        );
        let file = path.join("php-fpm.conf");
        std::fs::write(&file, config).expect("written");
        let mut command = Command::new(program("php-fpm"));
        command.arg("-F").arg("-y").arg(&file).args(["-d", "session.auto_start=0"]);
        if is_root() {
            command.arg("-R");
        }
        self.process = Some(Process::start(&mut command, &path.join("output")));
        let socket = self.socket();
        wait_until("PHP-FPM", Duration::from_secs(10), || is_listening(&socket));
    }

    /// Ends it at once, children too, as `kill -9` of the whole group would.
    pub fn kill(&mut self) {
        if let Some(process) = &self.process {
            let children = children_of(process.id());
            process.signal("KILL");
            for child in children {
                super::process::signal(child, "KILL");
            }
        }
        self.process = None;
    }

    /// The workers' process ids.
    pub fn workers(&self) -> Vec<u32> {
        self.process.as_ref().map(|process| children_of(process.id())).unwrap_or_default()
    }
}

fn is_listening(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self")
        .is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

fn user_lines() -> &'static str {
    if is_root() { "user = root\ngroup = root\n" } else { "" }
}

fn children_of(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}
