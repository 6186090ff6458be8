//! A network of the test's own: this process in one namespace, each node in another, and between them
//! a clean link for visitors and the origin, and a wire for Redis and the other nodes that loses and
//! delays packets.
//!
//! The wire is a pair of veth devices with netem where the kernel has it, and `wire.py` between two
//! TUN devices where it has not: in both cases the kernel's own TCP waits and sends again. The
//! namespaces have no names outside, and end with their processes.

use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use super::NODES;

/// Redis' address behind the wires.
pub const REDIS: &str = "10.2.0.1";
const INSIDE: &str = "PARVIS_CHECKER_INSIDE";

/// What [`Network::build`] is to be allowed.
const PROBE: &str = "mount -t tmpfs none /run && ip link set lo up && ip netns add probe && {
    tc qdisc add dev lo root netem delay 1ms 2>/dev/null || command python3 -c '' 3<>/dev/net/tun; }";

/// What the wires do, in percent and milliseconds.
#[derive(Clone, Copy, Default)]
pub struct Trouble {
    pub loss_to_node: u32,
    pub loss_from_node: u32,
    /// Each way.
    pub delay: u32,
}

enum Wire {
    Netem,
    Program { child: Child, input: Mutex<ChildStdin> },
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Self::Program { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The namespaces of the nodes.
pub struct Network {
    wires: Vec<Wire>,
}

/// Why a case is left out.
pub struct Skipped(pub String);

/// Runs a test of this binary again in namespaces of its own, and gives its output; `None`: this is that
/// run.
pub fn inside(test: &str) -> Result<Option<String>, Skipped> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(None);
    }
    let unshare = ["--net", "--mount", "--propagation", "private"];
    let as_root: &[&str] = if is_root() { &[] } else { &["--map-root-user"] };
    let may =
        Command::new("unshare").args(as_root).args(unshare).args(["sh", "-c", PROBE]).output();
    match may {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Skipped(format!("no right to make network namespaces: {why}")));
        }
        Err(error) => return Err(Skipped(format!("unshare: {error}"))),
    }
    let output = Command::new("unshare")
        .args(as_root)
        .args(unshare)
        .arg(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare, of util-linux");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(Some(said))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

impl Network {
    /// In the namespaces that [`inside`] has made.
    pub fn build() -> Self {
        run("mount -t tmpfs none /run");
        run("ip link set lo up");
        run(&format!("ip addr add {REDIS}/32 dev lo"));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("it forwards");
        let has_netem = Command::new("tc")
            .args(["qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
            .output()
            .is_ok_and(|output| output.status.success());
        if has_netem {
            run("tc qdisc del dev lo root");
        }
        Self { wires: (1..=NODES).map(|number| Self::connect(number, has_netem)).collect() }
    }

    fn connect(number: usize, has_netem: bool) -> Wire {
        let space = format!("web{number}");
        run(&format!("ip netns add {space}"));
        run(&format!("ip -n {space} link set lo up"));
        run(&format!("ip link add clean{number} type veth peer name clean netns {space}"));
        let wire = if has_netem {
            run(&format!("ip link add near{number} type veth peer name far{number} netns {space}"));
            Wire::Netem
        } else {
            Self::start_program(number, &space)
        };
        for (net, near, far) in [
            (1, format!("clean{number}"), "clean".to_owned()),
            (2, format!("near{number}"), format!("far{number}")),
        ] {
            run(&format!("ip addr add 10.{net}.{number}.1/24 dev {near}"));
            run(&format!("ip link set {near} up"));
            run(&format!("ip -n {space} addr add 10.{net}.{number}.2/24 dev {far}"));
            run(&format!("ip -n {space} link set {far} up"));
        }
        run(&format!("ip -n {space} route add 10.2.0.0/16 via 10.2.{number}.1"));
        wire
    }

    fn start_program(number: usize, space: &str) -> Wire {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/integration/checker/wire.py");
        let mut child = Command::new("python3")
            .args([script, &format!("near{number}"), &format!("far{number}"), space])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let input = Mutex::new(child.stdin.take().expect("its input"));
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        output.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "the wire does not begin");
        Wire::Program { child, input }
    }

    /// By what packets are lost and delayed.
    pub fn means(&self) -> &'static str {
        match self.wires[0] {
            Wire::Netem => "netem",
            Wire::Program { .. } => "a program between TUN devices; this kernel has no netem",
        }
    }

    /// The addresses of a node: its own, that of its origin, and its own for the other nodes.
    pub fn addresses(at: usize) -> (IpAddr, IpAddr, IpAddr) {
        let address = |net, host| IpAddr::from([10, net, at as u8 + 1, host]);
        (address(1, 2), address(1, 1), address(2, 2))
    }

    /// What starts a program where a node is.
    pub fn prefix(at: usize) -> Vec<String> {
        let space = format!("web{}", at + 1);
        ["ip", "netns", "exec", &space].map(str::to_owned).into()
    }

    /// From now on a node's wire does this.
    pub fn trouble(&self, at: usize, trouble: Trouble) {
        let Trouble { loss_to_node: to, loss_from_node: from, delay } = trouble;
        match &self.wires[at] {
            Wire::Program { input, .. } => {
                let mut input = input.lock().expect("not poisoned");
                let line = format!("{to} {from} {delay} {delay}\n");
                input.write_all(line.as_bytes()).expect("the wire lives");
            }
            Wire::Netem => {
                let number = at + 1;
                let netem = |loss| format!("root netem loss {loss}% delay {delay}ms limit 100000");
                run(&format!("tc qdisc replace dev near{number} {}", netem(to)));
                let far = format!("tc qdisc replace dev far{number} {}", netem(from));
                run(&format!("ip netns exec web{number} {far}"));
            }
        }
    }

    /// Resets the connections of a node to Redis and to the others.
    pub fn reset(at: usize) {
        run(&format!("ip netns exec web{} ss -K -H -t dst 10.2.0.0/16", at + 1));
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().expect("a word")).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}
