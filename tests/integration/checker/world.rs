//! Three nodes, a Redis and a shop whose pages say which version was committed when they were rendered, or
//! when the block was built that they are rendered from.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::blocks::Php;
use super::history::{Place, Poll, Rules, Window};
use super::network::Network;
use super::{NODES, PATIENCE, blocks};
use crate::support::client::Client;
use crate::support::origin::{Origin, page};
use crate::support::parvis::{Builder, program};
use crate::support::process::{Process, free_port, wait_until};
use crate::support::redis::Redis;

/// What a run is made of.
pub struct Plan {
    /// The fault's name in the table.
    pub name: &'static str,
    pub pages: usize,
    /// The first pages take so long to render, now and then.
    pub slow_pages: usize,
    /// So long it takes to build a block.
    pub build: Duration,
    pub rules: Rules,
    /// `purge.echo` of the nodes; the rules' promise, where it is not switched off.
    pub echo: Duration,
    pub heartbeat: Duration,
    /// Do some purges come before their commit is visible?
    pub early: bool,
    pub writers: usize,
    /// Between two purges of one writer.
    pub write_pause: Duration,
    /// Between two reads of one reader.
    pub read_pause: Duration,
    /// Environment of the nodes, and of Redis.
    pub environment: Vec<(String, String)>,
    pub redis_environment: Vec<(String, String)>,
    pub redis_arguments: Vec<String>,
    pub binary: Option<PathBuf>,
    /// There is no fault, and the bounds of one do not hold.
    pub is_calm: bool,
    /// So many kinds of the fault follow each other; the long form has all.
    pub kinds: usize,
}

/// A shop, whose PHP runs on each node; the versions of its pages.
pub struct Shop {
    /// One for each node.
    pub origins: Vec<Origin>,
    versions: Arc<Vec<AtomicU64>>,
    pub renders: Arc<AtomicU64>,
    /// Pages that were rendered from a block.
    pub from_blocks: Arc<AtomicU64>,
}

/// PHP on one node.
struct Renderer {
    objects: PathBuf,
    committed: Arc<Vec<AtomicU64>>,
    renders: Arc<AtomicU64>,
    from_blocks: Arc<AtomicU64>,
    slow_pages: usize,
    slow_takes: Duration,
    build: Duration,
}

impl Renderer {
    fn answer(&self, target: &str, stream: &mut TcpStream) {
        let number = self.renders.fetch_add(1, Ordering::SeqCst);
        let page_of = |target: &str| target.strip_prefix("/page-")?.parse::<usize>().ok();
        let Some(at) = page_of(target) else {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 4\r\n\
                  Connection: close\r\n\r\nmine",
            );
            return;
        };
        let is_slow = at < self.slow_pages && number.is_multiple_of(3);
        let takes = if is_slow { self.slow_takes } else { Duration::ZERO };
        let version = if blocks::has(at) { self.of_block(at, takes) } else { None };
        let version = version.unwrap_or_else(|| {
            let version = self.version(at);
            std::thread::sleep(takes);
            version
        });
        let _ = stream.write_all(&page(&format!("{version} of a page"), &format!("cat_p_{at}")));
    }

    /// `None`: the node is not there, or ends, and its page with it.
    fn of_block(&self, page: usize, takes: Duration) -> Option<u64> {
        let mut php = Php::connect(&self.objects).ok()?;
        let version = php.block(page, || self.version(page), (takes, self.build)).ok()?;
        self.from_blocks.fetch_add(1, Ordering::SeqCst);
        Some(version)
    }

    fn version(&self, page: usize) -> u64 {
        self.committed[page].load(Ordering::SeqCst)
    }
}

impl Shop {
    /// `objects`: the sockets of the nodes' object caches.
    fn open(plan: &Plan, address: &str, objects: impl Iterator<Item = PathBuf>) -> Self {
        let versions: Arc<Vec<_>> = Arc::new((0..plan.pages).map(|_| AtomicU64::new(0)).collect());
        let (renders, from_blocks) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let origins = objects.map(|objects| {
            let renderer = Renderer {
                objects,
                committed: Arc::clone(&versions),
                renders: Arc::clone(&renders),
                from_blocks: Arc::clone(&from_blocks),
                slow_pages: plan.slow_pages,
                slow_takes: plan.rules.render_max,
                build: plan.build,
            };
            Origin::start_at(address, move |seen, stream| renderer.answer(&seen.target, stream))
        });
        let origins = origins.collect();
        Self { origins, versions, renders, from_blocks }
    }

    pub fn version(&self, page: usize) -> u64 {
        self.versions[page].load(Ordering::SeqCst)
    }

    /// What is rendered from now on shows it.
    pub fn commit(&self, page: usize, version: u64) {
        self.versions[page].store(version, Ordering::SeqCst);
    }

    pub fn renders(&self) -> u64 {
        self.renders.load(Ordering::SeqCst)
    }
}

/// The socket of the object cache of the node that has this directory.
fn objects(home: &Path) -> PathBuf {
    home.join("objects.sock")
}

/// A node of the fleet.
pub struct Node {
    pub at: usize,
    pub http: SocketAddr,
    control: SocketAddr,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    directory: tempfile::TempDir,
    process: Mutex<Option<Process>>,
    /// It does not answer, and is not to.
    pub is_away: AtomicBool,
    /// Writers leave it alone.
    pub is_quiet: AtomicBool,
}

impl Node {
    fn new(
        at: usize,
        plan: &Plan,
        (redis, redis_port, origin_port): (&str, u16, u16),
        network: Option<&Network>,
        directory: tempfile::TempDir,
    ) -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (own, origin, peer) = match network {
            None => (loopback, loopback, loopback),
            Some(_) => Network::addresses(at),
        };
        let (http, control) = ((own, free_port()).into(), (own, free_port()).into());
        let quoted = |text: &dyn std::fmt::Display| format!("\"{text}\"");
        let time = |time: Duration| format!("\"{}ms\"", time.as_millis());
        let rules = &plan.rules;
        let text = Builder::new()
            .with("listen.http", &format!("[\"{http}\"]"))
            .with("listen.control", &quoted(&control))
            .with("origin.http", &format!("\"{origin}:{origin_port}\""))
            .with("purge.allow", "[\"127.0.0.0/8\", \"10.0.0.0/8\"]")
            .with("purge.echo", &time(plan.echo))
            .with("redis.url", &format!("\"redis://{redis}:{redis_port}\""))
            .with("redis.reconnect_max", "\"300ms\"")
            .with("fleet.name", &format!("\"web-{}\"", at + 1))
            .with("fleet.journal_directory", &quoted(&directory.path().display()))
            .with("fleet.heartbeat", &time(plan.heartbeat))
            .with("fleet.proof_max", &time(rules.proof_max))
            .with("fleet.refill_trust", &time(rules.refill_trust))
            .with("fleet.strict", if rules.is_strict[at] { "true" } else { "false" })
            .with("fleet.listen", &format!("\"{peer}:{}\"", free_port()))
            .with("fleet.secret", "\"a secret of the fleet\"")
            .with("objects.listen", &format!("\"unix:{}\"", objects(directory.path()).display()))
            .with("fill.wait_timeout", "\"1min\"")
            .with("fill.leader_timeout", "\"1min\"")
            .with("lifecycle.threads", "1")
            .with("log.access", "\"off\"")
            .text();
        let config = directory.path().join("parvis.toml");
        std::fs::write(&config, text).expect("written");
        let mut command = network.map(|_| Network::prefix(at)).unwrap_or_default();
        let program = plan.binary.clone().unwrap_or_else(program);
        command.extend([program.display().to_string(), "run".to_owned(), "--config".to_owned()]);
        command.push(config.display().to_string());
        Self {
            at,
            http,
            control,
            command,
            environment: plan.environment.clone(),
            directory,
            process: Mutex::new(None),
            is_away: AtomicBool::new(false),
            is_quiet: AtomicBool::new(false),
        }
    }

    /// A request of PHP to its object cache.
    pub fn php(&self) -> std::io::Result<Php> {
        Php::connect(&objects(self.directory.path()))
    }

    /// Starts it, and waits until it answers.
    pub fn start(&self) {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).envs(self.environment.iter().cloned());
        let process = Process::start(&mut command, &self.directory.path().join("output"));
        *self.process.lock().expect("not poisoned") = Some(process);
        wait_until("a node", PATIENCE, || self.poll(Instant::now()).is_some());
        self.is_away.store(false, Ordering::SeqCst);
    }

    /// Ends it, as a crash does.
    pub fn kill(&self) {
        self.is_away.store(true, Ordering::SeqCst);
        let process = self.process.lock().expect("not poisoned").take();
        let mut process = process.expect("it runs");
        process.signal("KILL");
        process.wait(PATIENCE);
    }

    pub fn stop(&self) {
        self.is_quiet.store(true, Ordering::SeqCst);
        self.process.lock().expect("not poisoned").as_ref().expect("it runs").stop();
    }

    pub fn go_on(&self) {
        self.process.lock().expect("not poisoned").as_ref().expect("it runs").signal("CONT");
        self.is_quiet.store(false, Ordering::SeqCst);
    }

    /// Lets it go on, should it be stopped.
    pub fn wake(&self) {
        if let Some(process) = self.process.lock().expect("not poisoned").as_ref() {
            process.signal("CONT");
        }
    }

    /// What it says of itself; `None`: it does not answer.
    pub fn poll(&self, origin: Instant) -> Option<Poll> {
        let began = origin.elapsed();
        let mut client = Client::to(self.control, PATIENCE).ok()?;
        let request = b"GET /metrics HTTP/1.1\r\nHost: control\r\n\r\n";
        let text = client.exchange(request).ok()?.text();
        let is = |line: &str| text.lines().any(|other| other == line);
        let is_current = is("parvis_fleet_soft 0") && is("parvis_fleet_journal 0");
        let (ended, place) = (origin.elapsed(), Place::of(&text));
        Some(Poll { node: self.at, began, ended, is_current, place })
    }

    /// The epoch and the entry that each node has announced, as this one reads them in Redis.
    fn announced(&self) -> String {
        let text = Client::to(self.control, PATIENCE).and_then(|mut client| {
            client.exchange(b"GET /fleet HTTP/1.1\r\nHost: control\r\n\r\n")
        });
        let overview = text.ok().and_then(|reply| serde_json::from_str(&reply.text()).ok());
        let overview: serde_json::Value = overview.unwrap_or_default();
        let nodes = overview["nodes"].as_array().cloned().unwrap_or_default();
        let told = |node: &serde_json::Value| {
            format!("{} in epoch {} at {}", node["name"], node["epoch"], node["sequence"])
        };
        let nodes: Vec<_> = nodes.iter().map(told).collect();
        let error = overview["error"].as_str().unwrap_or_default();
        format!("{}{error}", nodes.join(", "))
    }

    pub fn said(&self) -> String {
        crate::support::process::log_text(&self.directory.path().join("output"))
    }
}

/// All of it, and what the run's threads tell each other.
pub struct World {
    pub plan: Plan,
    pub origin: Instant,
    pub shop: Shop,
    /// The first is the master.
    pub redis: Mutex<VecDeque<Redis>>,
    pub nodes: Vec<Node>,
    pub network: Option<Network>,
    pub windows: Mutex<Vec<Window>>,
    pub failures: Mutex<Vec<String>>,
    pub notes: Mutex<Vec<String>>,
    /// Where all nodes were in the log, from time to time.
    pub places: Mutex<Vec<String>>,
    pub is_over: AtomicBool,
    pub writes: AtomicBool,
    pub reads: AtomicU64,
}

impl World {
    /// Starts everything, and waits until each node knows the log's end.
    pub fn open(plan: Plan, network: Option<Network>) -> Self {
        let address = if network.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let homes = (0..NODES).map(|_| tempfile::tempdir().expect("a directory"));
        let homes: Vec<_> = homes.collect();
        let shop = Shop::open(&plan, address, homes.iter().map(|home| objects(home.path())));
        let mut arguments: Vec<&str> = plan.redis_arguments.iter().map(String::as_str).collect();
        if network.is_some() {
            arguments.extend(["--bind", address, "--protected-mode", "no"]);
        }
        let redis = Redis::in_environment(&arguments, &plan.redis_environment);
        let host = network.as_ref().map_or("127.0.0.1", |_| super::network::REDIS);
        let nodes = homes.into_iter().zip(&shop.origins).enumerate().map(|(at, (home, origin))| {
            Node::new(at, &plan, (host, redis.port, origin.port), network.as_ref(), home)
        });
        let nodes: Vec<_> = nodes.collect();
        let world = Self {
            plan,
            origin: Instant::now(),
            shop,
            redis: Mutex::new(VecDeque::from([redis])),
            nodes,
            network,
            windows: Mutex::default(),
            failures: Mutex::default(),
            notes: Mutex::default(),
            places: Mutex::default(),
            is_over: AtomicBool::new(false),
            writes: AtomicBool::new(true),
            reads: AtomicU64::new(0),
        };
        world.nodes.iter().for_each(Node::start);
        world.settle();
        world
    }

    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Waits until each node says that it knows the log's end and keeps no purges.
    pub fn settle(&self) {
        let is_current = |node: &Node| node.poll(self.origin).is_some_and(|poll| poll.is_current);
        let end = Instant::now() + PATIENCE;
        let mut in_a_row = 0;
        while in_a_row < 3 {
            in_a_row = if self.nodes.iter().all(is_current) { in_a_row + 1 } else { 0 };
            if Instant::now() > end {
                let said: Vec<_> = self.nodes.iter().map(Node::said).collect();
                let place = |node: &Node| match node.poll(self.origin).and_then(|poll| poll.place) {
                    Some(place) => format!("node {}: {place}", node.at),
                    None => format!("node {} does not answer", node.at),
                };
                let places: Vec<_> = self.nodes.iter().map(place).collect();
                let before = self.places.lock().expect("not poisoned").join("\n");
                panic!(
                    "the nodes do not become current again:\n{}\n{before}\n{}",
                    places.join("\n"),
                    said.join("\n\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Something that went wrong beside the versions.
    pub fn fail(&self, what: String) {
        let mut failures = self.failures.lock().expect("not poisoned");
        if failures.len() < 20 {
            failures.push(what);
        }
    }

    /// Notes in which epochs the nodes are; all of them have to answer.
    pub fn note_places(&self, when: &str) {
        let line = format!("{:?}, {when}: {}", self.now(), self.nodes[0].announced());
        self.places.lock().expect("not poisoned").push(line);
    }

    /// A figure for the table.
    pub fn note(&self, figure: String) {
        self.notes.lock().expect("not poisoned").push(figure);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Does something with the master.
    pub fn with_redis<T>(&self, action: impl FnOnce(&mut Redis) -> T) -> T {
        action(self.redis.lock().expect("not poisoned").front_mut().expect("a master"))
    }
}
