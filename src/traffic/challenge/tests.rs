use std::time::Duration;

use http::Version;
use proptest::prelude::*;

use super::*;
use crate::exchange::{Beside, Connection, Peer};

const NOW: u64 = 1_800_000_000;
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

fn settings() -> settings::Challenge {
    settings::Challenge { difficulty: 6, ..settings::Challenge::default() }
}

fn challenge_of(settings: &settings::Challenge, secret: &[u8]) -> Challenge {
    Challenge::new(settings, Arc::new(Signer::new(secret)), Arc::default())
}

fn challenge() -> Challenge {
    challenge_of(&settings(), b"a secret of the fleet")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn request<const N: usize>(method: Method, fields: [(&'static str, &str); N]) -> Request {
    Request {
        method,
        target: "/women.html?color=12".into(),
        authority: "shop.test:8080".into(),
        version: Version::HTTP_11,
        fields: Fields::from(fields),
        body: Body::empty(),
        beside: Beside::default(),
        connection: Connection {
            peer: Peer::Ip(([192, 0, 2, 7], 5000).into()),
            local: None,
            tls: false,
        },
    }
}

async fn text(response: Response) -> String {
    let content = response.body.collect(1 << 20).await.expect("content");
    String::from_utf8(content.to_vec()).expect("UTF-8")
}

/// The page that a browser at this address is given.
async fn page(challenge: &Challenge, from: &str, at: u64) -> String {
    text(challenge.page(&request(Method::GET, [HTML]), address(from), at)).await
}

/// What a browser would bring back of a page.
fn solved(page: &str) -> String {
    let attribute = |name: &str| {
        let (_, rest) = page.split_once(&format!(" {name}=\"")).expect("the attribute");
        rest.split_once('"').expect("its end").0.to_owned()
    };
    let (puzzle, bits) = (attribute("data-puzzle"), attribute("data-bits"));
    let bits = bits.parse::<u32>().expect("a number");
    let passes = (0_u64..).map(|nonce| format!("{puzzle}.{nonce}"));
    let mut enough = passes.filter(|pass| puzzle::zero_bits(pass.as_bytes()) >= bits);
    enough.next().expect("there is one")
}

fn brings(cookie: &str) -> Fields {
    Fields::from([("Cookie", &*format!("PHPSESSID=abc; {COOKIE}={cookie}; x=y"))])
}

#[tokio::test]
async fn who_has_solved_the_puzzle_has_passed_on_each_node_with_the_secret() {
    let (challenge, other) = (challenge(), challenge());
    let pass = solved(&page(&challenge, "192.0.2.7", NOW).await);
    for node in [&challenge, &other] {
        assert!(node.passed(&brings(&pass), address("192.0.2.7"), NOW + 1));
        assert!(node.passed(&brings(&pass), address("192.0.2.99"), NOW + 1), "the same network");
        assert!(!node.passed(&brings(&pass), address("192.0.3.7"), NOW + 1), "another network");
        assert!(!node.passed(&brings(&pass), address("2001:db8::1"), NOW + 1), "another family");
        assert!(!node.passed(&Fields::new(), address("192.0.2.7"), NOW + 1));
    }
    let stranger = challenge_of(&settings(), b"another secret");
    assert!(!stranger.passed(&brings(&pass), address("192.0.2.7"), NOW + 1));
}

#[tokio::test]
async fn a_pass_counts_for_its_time_and_not_from_the_future() {
    let challenge = challenge();
    let pass = brings(&solved(&page(&challenge, "2001:db8:1:2::3", NOW).await));
    let passed = |at| challenge.passed(&pass, address("2001:db8:1:9::1"), at);
    let day = Duration::from_hours(24).as_secs();
    assert!(passed(NOW) && passed(NOW + day) && !passed(NOW + day + 1));
    assert!(passed(NOW - CLOCK_SKEW_SECONDS), "the other node's clock is a little ahead");
    assert!(!passed(NOW - CLOCK_SKEW_SECONDS - 1) && !passed(0) && !passed(u64::MAX));
}

#[tokio::test]
async fn too_little_work_and_work_on_something_else_is_none() {
    let challenge = challenge();
    let pass = solved(&page(&challenge, "192.0.2.7", NOW).await);
    let (puzzle, _) = pass.split_once('.').expect("a nonce");
    let passed = |cookie: &str| challenge.passed(&brings(cookie), address("192.0.2.7"), NOW);
    let lazy = (0_u64..).map(|nonce| format!("{puzzle}.{nonce}"));
    let lazy = lazy.into_iter().find(|pass| puzzle::zero_bits(pass.as_bytes()) < 6);
    assert!(!passed(&lazy.expect("most are")));
    assert!(!passed(puzzle) && !passed(&format!("{puzzle}.")) && !passed(""));
    // A puzzle that the browser has made for itself, with work.
    let forged = Puzzle {
        difficulty: 6,
        unix_seconds: u32::try_from(NOW).expect("it fits"),
        network: challenge.network(address("192.0.2.7")),
    };
    let signed = |purpose, secret: &[u8]| {
        let token = Signer::new(secret).sign(purpose, &forged.payload());
        let tried = (0_u64..).map(|nonce| format!("{token}.{nonce}"));
        tried.into_iter().find(|pass| puzzle::zero_bits(pass.as_bytes()) >= 6).expect("one")
    };
    assert!(passed(&signed(Purpose::Challenge, b"a secret of the fleet")), "the right one");
    let made_up = signed(Purpose::Challenge, b"another secret");
    assert!(!passed(&made_up), "a forged one");
    let demand = challenge.demand(address("192.0.2.7"), NOW);
    let pass = Pass::parse(made_up.as_bytes()).expect("a pass");
    assert!(pass.meets(&demand), "but for its signature it would do");
    assert!(
        !passed(&signed(Purpose::WaitingPlace, b"a secret of the fleet")),
        "of the waiting room"
    );
}

#[tokio::test]
async fn a_harder_puzzle_counts_and_an_easier_one_does_not() {
    let pass = brings(&solved(&page(&challenge(), "192.0.2.7", NOW).await));
    let passed = |difficulty| {
        let settings = settings::Challenge { difficulty, ..settings() };
        challenge_of(&settings, b"a secret of the fleet").passed(&pass, address("192.0.2.7"), NOW)
    };
    assert!(passed(5) && passed(6) && !passed(7));
}

#[tokio::test]
async fn a_browser_keeps_the_passes_of_a_few_networks() {
    let challenge = challenge();
    let mut passes = Vec::new();
    for network in 0..5 {
        passes.push(solved(&page(&challenge, &format!("192.0.{network}.1"), NOW).await));
    }
    let all = brings(&passes.join("~"));
    let counts = |network| challenge.passed(&all, address(&format!("192.0.{network}.2")), NOW);
    assert!((0..4).all(counts));
    assert!(!counts(4), "no more are looked at");
    let behind_noise = brings(&format!("~.~x.1~{}", passes[0]));
    assert!(challenge.passed(&behind_noise, address("192.0.0.2"), NOW));
}

#[tokio::test]
async fn the_page_speaks_the_visitors_language_and_is_nobody_elses() {
    let challenge = challenge();
    let german = request(Method::GET, [HTML, ("Accept-Language", "de-AT,de;q=0.9")]);
    let response = challenge.page(&german, address("192.0.2.7"), NOW);
    assert_eq!(response.status, StatusCode::TOO_MANY_REQUESTS);
    let field = |name| response.fields.first_str(name).unwrap_or_default().to_owned();
    assert_eq!(
        (field("Content-Language"), field("Cache-Control")),
        ("de".into(), "no-store".into())
    );
    assert!(field("Content-Security-Policy").starts_with("default-src 'none'"));
    let content = text(response).await;
    assert!(
        content.contains("<html lang=\"de\">") && content.contains("<noscript><p>Um Sie"),
        "{content}"
    );
    assert!(content.contains("role=\"status\"") && !content.contains(" data-sent "), "{content}");
    let form = challenge.page(&request(Method::POST, [HTML]), address("192.0.2.7"), NOW);
    assert!(text(form).await.contains(" data-sent "), "a form is not lost silently");
}

#[tokio::test]
async fn scripts_get_json_and_others_a_line() {
    let challenge = challenge();
    let answer = |fields: [(&'static str, &str); 2]| {
        challenge.page(&request(Method::GET, fields), address("192.0.2.7"), NOW)
    };
    let script = answer([("Accept", "*/*"), ("X-Requested-With", "XMLHttpRequest")]);
    assert_eq!(script.fields.first_str("Content-Type"), Some("application/json"));
    assert_eq!(script.fields.first_str("Cache-Control"), Some("no-store"));
    let json: serde_json::Value = serde_json::from_str(&text(script).await).expect("JSON");
    assert_eq!((json["status"].as_u64(), json["reason"].as_str()), (Some(429), Some("challenge")));
    let image = answer([("Accept", "image/avif,*/*"), ("Sec-Fetch-Dest", "image")]);
    assert!(text(image).await.starts_with("429 "));
}

#[test]
fn a_page_is_for_who_goes_to_a_page() {
    let can = |method: Method, fields: &[(&'static str, &'static str)]| {
        let mut asked = request(method, [HTML]);
        for (name, value) in fields {
            asked.fields.set(name, *value);
        }
        Challenge::can_show(&asked)
    };
    let navigation = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];
    assert!(can(Method::GET, &navigation) && can(Method::POST, &navigation));
    assert!(can(Method::GET, &[]) && can(Method::HEAD, &[]), "an older browser, or plain http");
    assert!(can(Method::GET, &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe")]));
    assert!(!can(Method::PUT, &navigation) && !can(Method::OPTIONS, &[]));
    for not in [
        ("Sec-Fetch-Mode", "cors"),
        ("Sec-Fetch-Dest", "empty"),
        ("Sec-Fetch-Dest", "image"),
        ("X-Requested-With", "XMLHttpRequest"),
        ("Content-Type", "application/json"),
        ("Accept", "*/*"),
        ("Accept", "application/json"),
    ] {
        assert!(!can(Method::GET, &[not]), "{not:?}");
    }
}

proptest! {
    #[test]
    fn no_changed_pass_counts(at: prop::sample::Index, to in "[ -~]") {
        let challenge = challenge();
        let puzzle = Puzzle {
            difficulty: 6,
            unix_seconds: u32::try_from(NOW).expect("it fits"),
            network: challenge.network(address("192.0.2.7")),
        };
        let token = challenge.signer.sign(Purpose::Challenge, &puzzle.payload());
        let passes = (0_u64..).map(|nonce| format!("{token}.{nonce}"));
        let mut passes = passes.filter(|pass| puzzle::zero_bits(pass.as_bytes()) >= 6);
        let pass = passes.next().expect("there is one");
        let at = at.index(token.len());
        let mut changed = pass.clone();
        changed.replace_range(at..=at, &to);
        let passed = challenge.passed(&brings(&changed), address("192.0.2.7"), NOW);
        prop_assert_eq!(passed, changed == pass);
    }

    #[test]
    fn no_cookie_makes_it_panic_or_passes(cookie in "[A-Za-z0-9_.~-]{0,200}") {
        prop_assert!(!challenge().passed(&brings(&cookie), address("192.0.2.7"), NOW));
    }
}
