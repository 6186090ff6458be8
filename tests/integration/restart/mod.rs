//! A new process takes over without a gap: nothing is refused, nothing is cut, nothing stale comes
//! back; and where it cannot, the old one goes on.

mod faults;
mod fleet;
mod load;
mod maintenance;
mod pages;
mod purges;
mod snapshot;
mod sockets;

use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use super::support::Parvis;
use super::support::process::{self, wait_until};

/// The processes that took over; they are no children of this one.
pub struct Successors(Vec<u32>);

impl Successors {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Restarts by the command, and gives the new process' id.
    pub fn restart(&mut self, parvis: &Parvis) -> u32 {
        let output = restart(parvis);
        let said = text(&output);
        assert!(output.status.success(), "{said}{}", parvis.stderr());
        let id = said
            .split("Restarted: process ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no process in {said}"));
        self.0.push(id);
        id
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        for id in &self.0 {
            process::signal(*id, "TERM");
        }
        let mut looks = 0;
        while self.0.iter().any(|id| is_alive(*id)) && looks < 300 {
            thread::sleep(Duration::from_millis(10));
            looks += 1;
        }
        for id in self.0.iter().filter(|id| is_alive(**id)) {
            process::signal(*id, "KILL");
        }
    }
}

/// Does it run? One that has ended and waits to be asked for its status does not.
fn is_alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

/// A restart that comes to nothing; what the command said.
pub fn try_restart(parvis: &Parvis) -> String {
    let output = restart(parvis);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

/// The command, as an operator gives it.
fn restart(parvis: &Parvis) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parvis"))
        .args(["restart", "--control", &format!("127.0.0.1:{}", parvis.control)])
        .output()
        .expect("it runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Waits until the first process has ended, and wants it to have ended well.
pub fn first_ends(parvis: &mut Parvis) {
    let code = parvis.process.wait(Duration::from_secs(20));
    assert_eq!(code, Some(0), "{}", parvis.stderr());
}

fn count(parvis: &Parvis, path: &str) -> usize {
    let mut lines = 0;
    wait_until("the log", Duration::from_secs(5), || {
        lines = parvis.access_log().lines().filter(|line| line.contains(path)).count();
        lines > 0
    });
    lines
}
