//! The units as a real systemd runs them: the first process of namespaces that the test made, over
//! directories that it sees alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::support::process::{Process, log_text, wait_until};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// What `unshare` is to make.
const NAMESPACES: [&str; 8] =
    ["--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup"];

/// Units of systemd's own that ours name.
const TARGETS: [&str; 7] = [
    "basic.target",
    "sysinit.target",
    "sockets.target",
    "network-online.target",
    "network.target",
    "shutdown.target",
    "umount.target",
];

/// What is written stays in memory: programs, configuration, state and logs of this systemd alone.
const START: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/over/bin /run/over/bin-work /run/over/etc /run/over/etc-work
cp "$PROGRAM" /run/over/bin/parvis
chmod 755 /run/over/bin/parvis
mkdir /run/over/etc/parvis
cp "$DIRECTORY/parvis.toml" /run/over/etc/parvis/
mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=/run/over/bin,workdir=/run/over/bin-work /usr/bin
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/over/etc,workdir=/run/over/etc-work /etc
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /var/log
ip link set lo up
exec env -i PATH="$PATH" SYSTEMD_UNIT_PATH="$DIRECTORY/units" container=other \
    /lib/systemd/systemd --system --unit=parvis.service --log-target=null
"#;

const CONFIGURATION: &str = r#"
[listen]
control = "127.0.0.1:6082"

[site]
policy = "generic"

[origin]
http = "127.0.0.1:8080"

[lifecycle]
drain = "0"
"#;

const ORIGIN: &str = "[Service]\nExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 8080\n\
                      WorkingDirectory=/usr/share/common-licenses\n";

struct Systemd {
    /// systemd's own process is the child of this one, and ends with it.
    unshare: Process,
    log: PathBuf,
    _directory: tempfile::TempDir,
}

impl Systemd {
    /// `None`: this machine has none, or does not let us make namespaces.
    fn start() -> Option<Self> {
        let allowed = Command::new("unshare")
            .args(NAMESPACES)
            .args(["sh", "-c", "mount --make-rprivate / && mount -t tmpfs tmpfs /run"])
            .output()
            .is_ok_and(|output| output.status.success());
        if !allowed || !Path::new(SYSTEMD).exists() {
            eprintln!("skipped: the units under a real systemd (no right to make namespaces)");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let units = directory.path().join("units");
        fs::create_dir(&units).expect("a directory for units");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
        for unit in ["parvis.service", "parvis.socket", "parvis-restart.service"] {
            fs::copy(ours.join(unit), units.join(unit)).expect("a unit of ours");
        }
        for target in TARGETS {
            fs::copy(Path::new("/lib/systemd/system").join(target), units.join(target))
                .expect("a unit of systemd's");
        }
        fs::write(units.join("origin.service"), ORIGIN).expect("a unit");
        fs::write(directory.path().join("parvis.toml"), CONFIGURATION).expect("a file");
        let log = directory.path().join("systemd.log");
        let mut command = Command::new("unshare");
        command.args(NAMESPACES).args(["sh", "-c", START]);
        command.env("DIRECTORY", directory.path()).env("PROGRAM", env!("CARGO_BIN_EXE_parvis"));
        let unshare = Process::start(&mut command, &log);
        Some(Self { unshare, log, _directory: directory })
    }

    /// Runs a command in its namespaces. `None`: they are not there yet.
    fn run(&self, command: &[&str]) -> Option<Output> {
        let id = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let first = children.split_whitespace().next()?;
        let enter = ["--target", first, "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup"];
        Command::new("timeout").arg("60").arg("nsenter").args(enter).args(command).output().ok()
    }

    /// What a command says; it must succeed.
    fn ask(&self, command: &[&str]) -> String {
        let output = self.run(command).expect("systemd runs");
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {text} {errors} {}", log_text(&self.log));
        text
    }

    fn property(&self, unit: &str, name: &str) -> String {
        self.ask(&["systemctl", "show", "--value", "--property", name, unit])
    }

    fn page(&self) -> String {
        self.ask(&["curl", "-sSf", "http://127.0.0.1:6081/BSD"])
    }
}

impl Drop for Systemd {
    /// With the units go their control groups.
    fn drop(&mut self) {
        let units = ["parvis.socket", "parvis.service", "origin.service"];
        self.run(&[&["systemctl", "stop"], &units[..]].concat());
    }
}

#[test]
fn the_units_start_reload_restart_and_stop_it_and_hold_its_socket() {
    let Some(systemd) = Systemd::start() else { return };
    wait_until("systemd", Duration::from_secs(30), || {
        let state = systemd.run(&["systemctl", "is-active", "parvis.service"]);
        state.is_some_and(|output| output.stdout.starts_with(b"active"))
    });
    systemd.ask(&["systemctl", "start", "origin.service"]);
    wait_until("the origin", Duration::from_secs(20), || {
        let answer = systemd.run(&["curl", "-sf", "http://127.0.0.1:8080/BSD"]);
        answer.is_some_and(|output| output.status.success())
    });
    assert!(systemd.page().contains("REGENTS"));
    assert_eq!(systemd.property("parvis.service", "StatusText"), "Serving");
    let first = systemd.property("parvis.service", "MainPID");

    systemd.ask(&["systemctl", "reload", "parvis.service"]);
    assert_eq!(systemd.property("parvis.service", "MainPID"), first);

    systemd.ask(&["systemctl", "start", "parvis-restart.service"]);
    let second = systemd.property("parvis.service", "MainPID");
    assert_ne!(second, first, "systemd follows the process that took over");
    assert!(systemd.page().contains("REGENTS"));
    wait_until("the end of the first process", Duration::from_secs(20), || {
        systemd
            .run(&["test", "-e", &format!("/proc/{first}")])
            .is_some_and(|it| !it.status.success())
    });
    assert_eq!(systemd.property("parvis.service", "ActiveState"), "active");

    systemd.ask(&["systemctl", "stop", "parvis.service"]);
    assert_eq!(systemd.property("parvis.service", "Result"), "success");
    assert_eq!(systemd.property("parvis.service", "NRestarts"), "0");

    // The socket starts it with the first connection, which waits.
    systemd.ask(&["systemctl", "start", "parvis.socket"]);
    assert!(systemd.page().contains("REGENTS"));
    assert_eq!(systemd.property("parvis.service", "ActiveState"), "active");
}
