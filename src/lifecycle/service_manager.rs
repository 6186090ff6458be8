//! What systemd is told (`sd_notify(3)`); without systemd nobody listens and nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// A message to the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Serving; also the end of a reload.
    Ready,
    /// Reading the configuration again.
    Reloading,
    /// Told to stop: serving on until the load balancer has noticed.
    Draining,
    /// No longer accepting; finishing what is in flight.
    Finishing,
    /// Still alive.
    Watchdog,
    /// This process is the main one from now on.
    MainProcess(u32),
}

/// Sends it. That it cannot be sent is no reason to stop serving; it is logged.
pub fn tell_service_manager(notice: Notice) {
    let sent = match notice {
        Notice::Ready => sd_notify::notify(&[NotifyState::Ready, NotifyState::Status("Serving")]),
        // With Type=notify-reload systemd wants to know when this began.
        Notice::Reloading => NotifyState::monotonic_usec_now().and_then(|since| {
            let status = NotifyState::Status("Reading the configuration again");
            sd_notify::notify(&[NotifyState::Reloading, since, status])
        }),
        Notice::Draining => sd_notify::notify(&[
            NotifyState::Stopping,
            NotifyState::Status("Waiting for the load balancer to notice"),
        ]),
        Notice::Finishing => {
            sd_notify::notify(&[NotifyState::Status("Finishing what is in flight")])
        }
        Notice::Watchdog => sd_notify::notify(&[NotifyState::Watchdog]),
        Notice::MainProcess(process) => sd_notify::notify(&[NotifyState::MainPid(process)]),
    };
    if let Err(error) = sent {
        tracing::warn!(?notice, %error, "cannot tell the service manager");
    }
}

/// How often the service manager wants to hear [`Notice::Watchdog`] at least (`WatchdogSec=`).
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// Does what is written to stdout go to systemd's journal?
pub fn stdout_is_the_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    // A process that was started by another one may have the variable and another stdout.
    rustix::fs::fstat(std::io::stdout())
        .is_ok_and(|stat| named.to_str() == Some(&format!("{}:{}", stat.st_dev, stat.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    #[ignore = "the test below runs it as a process of its own"]
    fn tell_everything() {
        for notice in [
            Notice::Ready,
            Notice::Reloading,
            Notice::Draining,
            Notice::Finishing,
            Notice::Watchdog,
            Notice::MainProcess(7),
        ] {
            tell_service_manager(notice);
        }
        assert_eq!(watchdog_interval(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn systemd_hears_each_notice_in_its_own_words() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("bound");
        manager.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let status = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--ignored"])
            .arg("lifecycle::service_manager::tests::tell_everything")
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .stdout(std::process::Stdio::null())
            .status()
            .expect("run");
        assert!(status.success());
        let mut buffer = [0; 1_024];
        let mut hear = || {
            let length = manager.recv(&mut buffer).expect("a notice");
            String::from_utf8(buffer[..length].to_vec()).expect("text")
        };
        assert!(hear().starts_with("READY=1\n"));
        let reloading = hear();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert!(hear().starts_with("STOPPING=1\n"));
        assert!(hear().starts_with("STATUS=Finishing"));
        assert_eq!(hear(), "WATCHDOG=1\n");
        assert_eq!(hear(), "MAINPID=7\n");
    }

    #[test]
    fn without_systemd_nothing_happens() {
        tell_service_manager(Notice::Ready);
        assert_eq!(watchdog_interval(), None);
    }
}
