//! Who says that it is a bot is believed where its operator's DNS confirms it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parvis::clock::Clock;
use parvis::settings::KnownBots;
use parvis::traffic::bots::{Bot, Bots};
use tokio::runtime::Runtime;

use crate::support::Parvis;
use crate::support::dns::Dns;
use crate::support::process::wait_until;

const GOOGLEBOT: &[u8] =
    b"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

const RECORDS: [&str; 9] = [
    "--host-record=crawl-203-0-113-1.googlebot.com,203.0.113.1",
    "--host-record=crawl-v6.geo.googlebot.com,2001:db8::1",
    // Whoever has an address can give it any name.
    "--ptr-record=2.113.0.203.in-addr.arpa,crawl-203-0-113-1.googlebot.com",
    "--ptr-record=3.113.0.203.in-addr.arpa,crawl-203-0-113-3.googlebot.com",
    "--ptr-record=4.113.0.203.in-addr.arpa,host.example",
    "--host-record=host.example,203.0.113.4",
    // Of a name that was delegated, as networks below /24 are (RFC 2317).
    "--cname=5.113.0.203.in-addr.arpa,5.0-31.113.0.203.in-addr.arpa",
    "--ptr-record=5.0-31.113.0.203.in-addr.arpa,crawl-203-0-113-5.googlebot.com",
    "--address=/crawl-203-0-113-5.googlebot.com/203.0.113.5",
];

struct Server {
    bots: Arc<Bots>,
    clock: Clock,
    _runtime: Runtime,
}

impl Server {
    fn new(resolver: SocketAddr, settings: KnownBots) -> Self {
        let settings = KnownBots { resolvers: vec![resolver], ..settings };
        let clock = Clock::system();
        let bots =
            Arc::new(Bots::new(&settings, clock.clone()).expect("the shipped data are right"));
        let runtime = Runtime::new().expect("a runtime");
        runtime.spawn(Arc::clone(&bots).run());
        Self { bots, clock, _runtime: runtime }
    }

    fn googlebot_from(&self, address: &str) -> &'static str {
        let address: IpAddr = address.parse().expect("an address");
        match self.bots.of(GOOGLEBOT, address, self.clock.now()) {
            Bot::No => "no bot",
            Bot::Declared(_) => "declared",
            Bot::Verified(_) => "verified",
            Bot::Impostor(_) => "impostor",
        }
    }

    /// What it is once its look-up has ended.
    fn after_look_up(&self, address: &str) -> &'static str {
        let before = self.looked_up();
        assert_eq!(self.googlebot_from(address), "declared", "{address}: not before its look-up");
        wait_until("the look-up", Duration::from_secs(10), || self.looked_up() > before);
        self.googlebot_from(address)
    }

    fn looked_up(&self) -> u64 {
        let figures = self.bots.figures();
        figures.proven + figures.refuted + figures.unanswered
    }
}

#[test]
fn names_that_lead_back_to_their_addresses_prove_a_bot() {
    let dns = Dns::start(&RECORDS);
    let server = Server::new(dns.address(), KnownBots::default());
    assert_eq!(server.after_look_up("203.0.113.1"), "verified");
    assert_eq!(server.after_look_up("2001:db8::1"), "verified");
    assert_eq!(server.after_look_up("203.0.113.5"), "verified");
    assert_eq!(server.googlebot_from("::ffff:203.0.113.1"), "verified");
    assert_eq!(server.googlebot_from("66.249.66.1"), "verified", "by its range, which asks nobody");
    assert_eq!(dns.asked("PTR", "1.66.249.66.in-addr.arpa"), 0);
}

#[test]
fn other_names_and_names_that_lead_elsewhere_are_an_impostors() {
    let dns = Dns::start(&RECORDS);
    let server = Server::new(dns.address(), KnownBots::default());
    for (address, why) in [
        ("203.0.113.2", "the name is another address'"),
        ("203.0.113.3", "the name has no address"),
        ("203.0.113.4", "the name is nobody's"),
        ("203.0.113.9", "there is no name"),
        ("2001:db8::9", "there is no name"),
    ] {
        assert_eq!(server.after_look_up(address), "impostor", "{address}: {why}");
    }
}

#[test]
fn each_address_is_looked_up_once_whatever_the_answer() {
    let dns = Dns::start(&RECORDS);
    let server = Server::new(dns.address(), KnownBots::default());
    for address in ["203.0.113.1", "203.0.113.4"] {
        server.after_look_up(address);
        for _ in 0..100 {
            server.googlebot_from(address);
        }
    }
    assert_eq!(server.after_look_up("203.0.113.9"), "impostor", "the others would be before this");
    for name in ["1.113.0.203.in-addr.arpa", "4.113.0.203.in-addr.arpa"] {
        assert_eq!(dns.asked("PTR", name), 1, "{name}");
    }
}

#[test]
fn an_answer_is_asked_for_again_after_its_time() {
    let dns = Dns::start(&RECORDS);
    let settings = KnownBots { impostor_ttl: Duration::from_millis(1), ..KnownBots::default() };
    let server = Server::new(dns.address(), settings);
    server.after_look_up("203.0.113.4");
    wait_until("a second look-up", Duration::from_secs(10), || {
        server.googlebot_from("203.0.113.4");
        dns.asked("PTR", "4.113.0.203.in-addr.arpa") > 1
    });
}

#[test]
fn where_dns_is_down_nobody_is_convicted_and_the_proven_stay_so() {
    let mut dns = Dns::start(&RECORDS);
    let settings = KnownBots {
        timeout: Duration::from_millis(500),
        proven_ttl: Duration::from_secs(60),
        retry_after: Duration::from_millis(100),
        ..KnownBots::default()
    };
    let server = Server::new(dns.address(), settings);
    assert_eq!(server.after_look_up("203.0.113.1"), "verified");
    dns.kill();
    for address in ["203.0.113.2", "203.0.113.4", "203.0.113.9"] {
        assert_eq!(server.after_look_up(address), "declared", "{address}");
    }
    assert_eq!(server.googlebot_from("203.0.113.1"), "verified");
    assert_eq!(server.bots.figures().refuted, 0);
    dns.start_again();
    wait_until("the answer", Duration::from_secs(10), || {
        server.googlebot_from("203.0.113.4") == "impostor"
    });
}

#[test]
fn where_too_many_wait_bots_stay_declared_and_no_request_waits() {
    // It takes questions and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let settings = KnownBots {
        in_flight_max: 1,
        queue_max: 3,
        timeout: Duration::from_secs(600),
        ..KnownBots::default()
    };
    let server = Server::new(silent.local_addr().expect("bound"), settings);
    for number in 0..20 {
        let address = format!("203.0.{number}.1");
        assert_eq!(server.googlebot_from(&address), "declared");
    }
    // Beside those in the queue, one is under way and one waits for its place.
    let figures = server.bots.figures();
    assert!((15..=17).contains(&figures.unasked), "{figures:?}");
    assert!(figures.remembered <= 5, "{figures:?}");
    assert_eq!(server.googlebot_from("66.249.66.1"), "verified", "ranges need no queue");
}

#[test]
fn without_look_ups_the_same_bot_is_never_proven() {
    let dns = Dns::start(&RECORDS);
    let settings = KnownBots { look_up: false, ..KnownBots::default() };
    let server = Server::new(dns.address(), settings);
    for _ in 0..100 {
        assert_eq!(server.googlebot_from("203.0.113.1"), "declared");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((server.looked_up(), dns.asked("PTR", "1.113.0.203.in-addr.arpa")), (0, 0));
}

#[test]
fn a_broken_file_fails_the_check_and_leaves_a_server_with_the_last_good_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bots.toml");
    let good = "date = \"2026-11-28\"\n[[bot]]\nname = \"own\"\nkind = \"monitor\"\nagents = [\"ownprobe\"]\n";
    std::fs::write(&path, good).expect("written");
    let parvis = Parvis::before_http(1)
        .with("bots.files", &format!("[\"{}\"]", path.display()))
        .with("bots.look_every", "\"50ms\"")
        .start();
    let check = || {
        let config = parvis.config_path();
        let output = Command::new(env!("CARGO_BIN_EXE_parvis"))
            .args(["check", "--config"])
            .arg(config)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let known = parvis.metric("parvis_bots_known ").expect("a number");
    assert_eq!(parvis.metric("parvis_bots_files_wrong "), Some(0.0));
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("{known} known, of 2026-11-28, from 1 files")), "{said}");
    std::fs::write(&path, good.replace("monitor", "nothing")).expect("written");
    wait_until("the broken file to be noticed", Duration::from_secs(10), || {
        parvis.metric("parvis_bots_files_wrong ") == Some(1.0)
    });
    assert_eq!(parvis.metric("parvis_bots_known "), Some(known), "the last good one is in use");
    assert!(parvis.stderr().contains("the last good ones stay in use"), "{}", parvis.stderr());
    let (code, said) = check();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("bots.toml") && said.contains("nothing"), "{said}");
    std::fs::write(&path, good).expect("written");
    parvis.process.signal("HUP");
    wait_until("the good file to be read", Duration::from_secs(10), || {
        parvis.metric("parvis_bots_files_wrong ") == Some(0.0)
    });
}
