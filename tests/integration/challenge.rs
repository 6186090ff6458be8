//! The challenge, as browsers and machines meet it.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use parvis::tokens::{Purpose, Signer};

use super::demo::browser::{Browser, Driver};
use super::support::Parvis;
use super::support::client::Reply;
use super::support::origin::{Origin, Seen};
use super::support::parvis::Builder;
use super::support::process::wait_until;
use super::support::redis::Redis;

/// A browser that shares two slow cores with other tests takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

const SECRET: &str = "a secret of all nodes";

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

/// Pages below /women/ are for who has passed.
const RULES: &str =
    "[[traffic.rule]]\nname = \"puzzle\"\ndo = \"challenge\"\npaths = [\"/women\"]\n";

/// A shop that says which cookies and which content it got.
fn shop() -> Origin {
    Origin::start(|seen: &Seen, stream| {
        let cookies = seen.header("cookie").unwrap_or_default();
        let content = match (seen.method.as_str(), seen.target.as_str()) {
            ("GET", "/cart") => {
                "<h1>Cart</h1><form method=post action=/women/note><input name=note>\
                <button>Send</button></form>"
                    .to_owned()
            }
            ("POST", _) => {
                format!("<h1>Saved</h1><p id=note>{}</p>", String::from_utf8_lossy(&seen.body))
            }
            _ => format!("<h1>Dresses</h1><p id=cookies>{cookies}</p>"),
        };
        let cart = if seen.target == "/cart" {
            "Set-Cookie: PHPSESSID=a-full-cart; Path=/\r\n"
        } else {
            ""
        };
        let length = content.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\n{cart}\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{content}"
        );
    })
}

fn parvis(origin: &Origin, difficulty: u8) -> Builder {
    Parvis::before_http(origin.port)
        .with("traffic.secret", &format!("\"{SECRET}\""))
        .with("challenge.difficulty", &difficulty.to_string())
        .with_toml(RULES)
}

fn url(parvis: &Parvis, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", parvis.port)
}

fn heading(browser: &Browser<'_>) -> String {
    let script = "const h1 = document.querySelector('h1'); return h1 ? h1.textContent : '';";
    browser.run(script).as_str().unwrap_or_default().to_owned()
}

fn waits_for(browser: &Browser<'_>, title: &str) {
    wait_until(title, PATIENCE, || heading(browser) == title);
}

fn says(browser: &Browser<'_>) -> String {
    let script = "const says = document.querySelector('[role=status]'); return says ? says.textContent : '';";
    browser.run(script).as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_browser_solves_the_puzzle_once_and_keeps_its_cart() {
    let (origin, driver) = (shop(), Driver::start());
    let parvis = parvis(&origin, 12).start();
    let browser = driver.browser();
    browser.open(&url(&parvis, "/cart"));
    browser.open(&url(&parvis, "/women/dresses.html?color=12#first"));
    waits_for(&browser, "Dresses");
    assert_eq!(browser.run("return location.hash;"), "#first");
    let cookies = browser.run("return document.getElementById('cookies').textContent;");
    assert!(cookies.as_str().expect("a text").contains("PHPSESSID=a-full-cart"), "{cookies}");
    let challenged = || parvis.access_log().matches("\"challenge\"").count();
    let before = challenged();
    browser.open(&url(&parvis, "/women/skirts.html"));
    assert_eq!(heading(&browser), "Dresses", "at once");
    assert_eq!(challenged(), before, "once is enough");
    // Chromium asks for an icon by itself.
    let others = "return performance.getEntriesByType('resource').map(entry => entry.name)\
                  .filter(name => !name.endsWith('/favicon.ico')).join(' ');";
    assert_eq!(browser.run(others), "");
}

#[test]
fn a_browser_without_workers_solves_it_in_slices() {
    let (origin, driver) = (shop(), Driver::start());
    let parvis = parvis(&origin, 12).start();
    let browser = driver.browser();
    browser.runs_before_each_page("delete window.Worker;");
    browser.open(&url(&parvis, "/women/dresses.html"));
    waits_for(&browser, "Dresses");
    assert_eq!(browser.run("return typeof Worker;"), "undefined");
}

#[test]
fn a_form_that_is_challenged_says_so_and_is_not_lost() {
    let (origin, driver) = (shop(), Driver::start());
    let parvis = parvis(&origin, 10).start();
    let browser = driver.browser();
    browser.open(&url(&parvis, "/cart"));
    browser.run("document.querySelector('input').value = 'gift wrap, please';");
    browser.click("//button");
    wait_until("the word", PATIENCE, || says(&browser).contains("has not reached the shop"));
    assert!(origin.seen().iter().all(|seen| seen.method == "GET"));
    browser.click("//button[normalize-space()='Go back']");
    waits_for(&browser, "Cart");
    let kept = browser.run("return document.querySelector('input').value;");
    assert_eq!(kept, "gift wrap, please");
    browser.click("//button");
    waits_for(&browser, "Saved");
    let note = browser.run("return document.getElementById('note').textContent;");
    assert_eq!(note, "note=gift+wrap%2C+please");
}

#[test]
fn a_browser_without_cookies_is_told_so_and_does_not_load_for_ever() {
    let (origin, driver) = (shop(), Driver::start());
    let parvis = parvis(&origin, 8).start();
    let browser = driver.browser();
    browser.runs_before_each_page(
        "Object.defineProperty(document, 'cookie', { get: () => '', set: () => {} });",
    );
    browser.open(&url(&parvis, "/women/dresses.html"));
    wait_until("the word", PATIENCE, || says(&browser).contains("keeps no cookies"));
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_pass_that_is_not_taken_does_not_load_for_ever() {
    let (origin, driver) = (shop(), Driver::start());
    let parvis = parvis(&origin, 4).start();
    let browser = driver.browser();
    // The page sees its cookie, and no request brings it, as behind nodes that have no secret in common.
    browser.runs_before_each_page(
        "let jar = ''; Object.defineProperty(document, 'cookie', \
         { get: () => jar, set: cookie => { jar = cookie.split(';')[0]; } });",
    );
    browser.open(&url(&parvis, "/women/dresses.html"));
    wait_until("the word", PATIENCE, || says(&browser).contains("did not accept"));
    let pages = parvis.access_log().lines().filter(|line| line.contains("dresses")).count();
    assert_eq!((pages, origin.count()), (6, 0));
}

fn worked(signer: &Signer, purpose: Purpose, unix_seconds: u64) -> String {
    worked_from([127, 0, 0], signer, purpose, unix_seconds)
}

/// What a machine of this network brings that has done the work on a puzzle of its own making, of this purpose.
pub fn worked_from(
    [a, b, c]: [u8; 3],
    signer: &Signer,
    purpose: Purpose,
    unix_seconds: u64,
) -> String {
    let mut payload = vec![4];
    payload.extend(u32::try_from(unix_seconds).expect("it fits").to_be_bytes());
    payload.extend([24, a, b, c, 0]);
    let puzzle = signer.sign(purpose, &payload);
    let passes = (0_u64..).map(|nonce| format!("{puzzle}.{nonce}"));
    let mut enough = passes.filter(|pass| digest(&SHA256, pass.as_bytes()).as_ref()[0] < 16);
    enough.next().expect("there is one")
}

fn asks(parvis: &Parvis, pass: &str) -> Reply {
    parvis.get("/women/dresses.html", &[HTML, ("Cookie", &format!("parvis_pass={pass}"))])
}

pub fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

#[test]
fn a_forged_pass_is_refused() {
    let origin = shop();
    let parvis = parvis(&origin, 4).start();
    let (ours, theirs) = (Signer::new(SECRET.as_bytes()), Signer::new(b"a guess"));
    let now = unix_seconds();
    assert_eq!(asks(&parvis, &worked(&ours, Purpose::Challenge, now)).status, 200, "a real one");
    for (what, pass) in [
        ("another secret", worked(&theirs, Purpose::Challenge, now)),
        ("another purpose", worked(&ours, Purpose::Admitted, now)),
        ("too old", worked(&ours, Purpose::Challenge, now - 25 * 3_600)),
        ("of the future", worked(&ours, Purpose::Challenge, now + 3_600)),
        ("nothing", String::new()),
    ] {
        let reply = asks(&parvis, &pass);
        assert_eq!(
            (reply.status, reply.header("cache-control")),
            (429, Some("no-store")),
            "{what}"
        );
    }
    let elsewhere = worked(&ours, Purpose::Challenge, now);
    let cookie = format!("parvis_pass={elsewhere}");
    let headers = [HTML, ("X-Forwarded-For", "192.0.2.7"), ("Cookie", &cookie)];
    assert_eq!(parvis.get("/women/dresses.html", &headers).status, 429, "another network");
}

#[test]
fn a_pass_outlives_the_secret_that_signed_it_while_that_is_an_earlier_one() {
    let origin = shop();
    let of = |earlier: &str| {
        let builder = parvis(&origin, 4).with("traffic.secret", "\"the secret of today\"");
        let parvis = builder.with("traffic.earlier_secrets", earlier).start();
        [SECRET, "the secret of today"].map(|secret| {
            let signer = Signer::new(secret.as_bytes());
            asks(&parvis, &worked(&signer, Purpose::Challenge, unix_seconds())).status
        })
    };
    assert_eq!(of(&format!("[\"{SECRET}\"]")), [200, 200]);
    assert_eq!(of("[]"), [429, 200]);
}

#[test]
fn a_node_that_shares_redis_and_no_secret_says_so_at_its_start() {
    let (origin, redis) = (shop(), Redis::start());
    let said = |builder: Builder| {
        let parvis = builder.with("redis.url", &format!("\"{}\"", redis.url())).start();
        wait_until("its start", PATIENCE, || parvis.stderr().contains("signs what clients keep"));
        parvis.stderr().contains("neither traffic.secret nor fleet.secret is set")
    };
    let plain = || Parvis::before_http(origin.port);
    assert!(said(plain()));
    assert!(!said(plain().with("traffic.secret", &format!("\"{SECRET}\""))));
    assert!(!said(plain().with("fleet.secret", &format!("\"{SECRET}\""))));
}

#[test]
fn without_its_seal_a_forged_pass_would_be_taken() {
    let Some(binary) = std::env::var_os("PARVIS_FAULTY_BINARY") else {
        println!("left out: PARVIS_FAULTY_BINARY names no binary of the feature `faulty`");
        return;
    };
    let origin = shop();
    let parvis = parvis(&origin, 4).faulty(binary.into(), "seals").start();
    let forged = worked(&Signer::new(b"a guess"), Purpose::Challenge, unix_seconds());
    assert_eq!(asks(&parvis, &forged).status, 200);
}

#[test]
fn scripts_get_json_in_place_of_a_page() {
    let origin = shop();
    let parvis = parvis(&origin, 4).start();
    let script = parvis.get("/women/dresses.html", &[("X-Requested-With", "XMLHttpRequest")]);
    assert_eq!((script.status, script.header("content-type")), (429, Some("application/json")));
    assert!(script.text().contains("\"reason\":\"challenge\""), "{}", script.text());
    assert_eq!(parvis.get("/cart", &[HTML]).status, 200, "another path");
    let page = parvis.get("/women/dresses.html", &[HTML, ("Accept-Language", "nl")]);
    assert!(page.text().contains("<noscript><p>Om u van een machine"), "{}", page.text());
    assert_eq!(page.header("content-language"), Some("nl"));
}

/// Runs a script with the page's miner before it in Node.
fn node(script: &str) -> String {
    let miner = include_str!("../../src/traffic/challenge/miner.js");
    let ran =
        Command::new("node").arg("-e").arg(format!("{miner}{script}")).output().expect("node");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8")
}

#[test]
fn the_pages_sha_256_is_sha_256() {
    // Of each length up to three blocks, so that all ways to pad are met, and of FIPS 180-4's examples.
    let hashes = node(
        "const sha = sha256(), out = new Int32Array(8);
         const print = bytes => {
           const room = new Uint8Array(512).fill(255);
           room.set(bytes);
           sha.hash(room, sha.pad(room, bytes.length), out);
           console.log(Array.from(out, word => (word >>> 0).toString(16).padStart(8, '0')).join(''));
         };
         for (let length = 0; length < 200; length++) {
           print(Uint8Array.from({ length }, (_, at) => at * 7 + length & 255));
         }
         print(Buffer.from('abc'));
         print(Buffer.from('abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq'));",
    );
    let hashes: Vec<&str> = hashes.lines().collect();
    let hex = |bytes: &[u8]| -> String {
        digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    for (length, hash) in hashes[..200].iter().enumerate() {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        assert_eq!(*hash, hex(&bytes), "{length}");
    }
    assert_eq!(hashes[200], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(hashes[201], "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

#[test]
fn the_pages_miner_finds_the_first_number_that_will_do() {
    let found = node(
        "for (const puzzle of ['x', 'y'.repeat(35), 'z'.repeat(54), 'w'.repeat(64), 'v'.repeat(130)]) {
           const tries = miner(puzzle, 12);
           let nonce = null;
           while (nonce === null) nonce = tries(100);
           console.log(puzzle + '.' + nonce);
         }",
    );
    for pass in found.lines() {
        let (puzzle, nonce) = pass.split_once('.').expect("a nonce");
        let will_do = |nonce: &u64| {
            let hash = digest(&SHA256, format!("{puzzle}.{nonce}").as_bytes());
            hash.as_ref()[0] == 0 && hash.as_ref()[1] < 16
        };
        let first = (0..1_000_000).find(will_do).expect("there is one");
        assert_eq!(nonce, first.to_string(), "{puzzle}");
    }
    assert_eq!(found.lines().count(), 5);
}
