//! Child processes that end with the test, and ports that are free.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A child process; killed (it alone, by its id) when dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = std::fs::File::create(log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, as `kill -NAME` takes it.
    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Stops it, and waits until none of its threads runs: on a busy machine that takes a while.
    pub fn stop(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.id());
        let is_stopped = |task: std::fs::DirEntry| {
            let state = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // Behind the name, which stands in parentheses.
            state.rsplit(") ").next().is_none_or(|rest| rest.starts_with('T'))
        };
        wait_until("it to stop", Duration::from_secs(20), || {
            let tasks = std::fs::read_dir(&tasks).expect("it lives");
            tasks.filter_map(Result::ok).all(is_stopped)
        });
    }

    /// Its exit code, if it ends in time.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return Some(status.code().unwrap_or(-1));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // PHP-FPM and nginx take their children with them on TERM, but not on KILL.
        self.signal("TERM");
        if self.wait(Duration::from_secs(3)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal to one process.
pub fn signal(id: u32, name: &str) {
    let _ = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(id.to_string())
        .stderr(Stdio::null())
        .status();
}

/// A port of loopback that was free a moment ago, and that this process has not been given before:
/// the system may hand out the same one twice in a row.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if GIVEN.lock().expect("not poisoned").insert(port) {
            return port;
        }
    }
}

/// A machine that is shared with others may stand still for seconds, which is nobody's mistake here.
const PATIENCE_MIN: Duration = Duration::from_secs(30);

/// Waits until `ready` says yes: as long as `patience`, and half a minute at least.
pub fn wait_until(what: &str, patience: Duration, mut ready: impl FnMut() -> bool) {
    let patience = patience.max(PATIENCE_MIN);
    let end = Instant::now() + patience;
    while !ready() {
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The path of a program, with `/usr/sbin` looked at too.
pub fn program(prefix: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(prefix))
        })
        .collect();
    found.sort();
    found
        .into_iter()
        .next_back()
        .unwrap_or_else(|| panic!("{prefix}: not installed; tests/run installs it"))
}

/// The text of a log file.
pub fn log_text(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    text
}
