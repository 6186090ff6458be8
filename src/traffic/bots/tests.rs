//! The parts together: names, ranges, look-ups without a network, and files.

use std::fs;
use std::path::Path;

use super::look_up::NoAnswer;
use super::look_up::tests::ByHand;
use super::*;
use crate::settings::RangesFile;

const GOOGLEBOT: &str = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; Googlebot/2.1; \
     +http://www.google.com/bot.html) Chrome/130.0.0.0 Safari/537.36";

fn bots(settings: &KnownBots) -> Arc<Bots> {
    Arc::new(Bots::new(settings, Clock::manual()).expect("the shipped data are right"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// `NAME STANDING`
fn said(bots: &Bots, agent: &str, from: &str) -> String {
    match bots.of(agent.as_bytes(), address(from), bots.clock.now()) {
        Bot::No => "no".to_owned(),
        Bot::Declared(id) => format!("{} declared", id.name()),
        Bot::Verified(id) => format!("{} verified", id.name()),
        Bot::Impostor(id) => format!("{} impostor", id.name()),
    }
}

#[test]
fn the_shipped_data_are_right_and_known() {
    let bots = bots(&KnownBots::default());
    assert_eq!(bots.mistakes(), []);
    let known = bots.figures().known;
    assert!(known > 100, "{known}");
    assert!(bots.summary().contains("of 2026-"), "{}", bots.summary());
}

#[test]
fn browsers_are_no_bots() {
    let bots = bots(&KnownBots::default());
    for browser in [
        "",
        "-",
        "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
         Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Linux; Android 10; CUBOT KINGKONG 5 Pro) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/110.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 9; Cubot_X19) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/74.0.3729.157 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) \
         SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
         Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/470.0.0.38.107;FBDV/iPhone15,2]",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
         Gecko) Mobile/15E148 [Pinterest/iOS]",
        "Mozilla/5.0 (Linux; arm_64; Android 13) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/124.0.0.0 YaBrowser/24.6.0.0 YaApp_Android/24.60 YandexSearch/24.60 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; U; Android 13; Redmi K60 Build/TKQ1) Chrome/123.0 XiaoMi/MiuiBrowser/18.3",
        "MagentoShopApp/4.2 (iPhone; iOS 18.1) CFNetwork/1568.200.51 Darwin/24.1.0",
        "okhttp/4.12.0",
        "PayPal IPN ( https://www.paypal.com/ipn )",
        "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Adyen HttpClient 1.0",
        "Mollie HTTP client/1.0",
    ] {
        assert_eq!(said(&bots, browser, "192.0.2.1"), "no", "{browser}");
    }
}

#[test]
fn bots_are_known_by_their_names() {
    let bots = bots(&KnownBots { look_up: false, ..KnownBots::default() });
    for (agent, name, kind) in [
        (GOOGLEBOT, "googlebot", Kind::SearchEngine),
        ("AdsBot-Google (+http://www.google.com/adsbot.html)", "google-special", Kind::Advertising),
        (
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; \
             +http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36",
            "bingbot",
            Kind::SearchEngine,
        ),
        (
            "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
            "yandex",
            Kind::SearchEngine,
        ),
        (
            "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
            "ahrefsbot",
            Kind::Seo,
        ),
        (
            "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko); compatible; GPTBot/1.2; \
             +https://openai.com/gptbot",
            "gptbot",
            Kind::Ai,
        ),
        ("ELB-HealthChecker/2.0", "aws-load-balancer", Kind::Monitor),
        (
            "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
            "facebook",
            Kind::Preview,
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) \
             Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0",
            "imessage",
            Kind::Preview,
        ),
        (
            "Feedly/1.0 (+http://www.feedly.com/fetcher.html; like FeedFetcher-Google)",
            "feedly",
            Kind::Feed,
        ),
        ("curl/8.14.1", "curl", Kind::Tool),
        ("python-requests/2.32.3", "python", Kind::Tool),
        ("SomethingNew-Bot/0.1 (+https://new.example/bot)", "unnamed", Kind::Other),
        ("MyCrawler", "unnamed", Kind::Other),
    ] {
        let bot = bots.of(agent.as_bytes(), address("192.0.2.1"), Moment::default());
        let id = bot.id().unwrap_or_else(|| panic!("{agent} is known"));
        assert_eq!((id.name(), id.kind()), (name, kind), "{agent}");
        assert!(bots.names_one(agent.as_bytes()));
    }
}

#[test]
fn ranges_prove_at_once_in_both_families() {
    let bots = bots(&KnownBots { look_up: false, ..KnownBots::default() });
    for inside in ["66.249.66.1", "::ffff:66.249.66.1", "2001:4860:4801:10::5"] {
        assert_eq!(said(&bots, GOOGLEBOT, inside), "googlebot verified", "{inside}");
    }
    assert_eq!(said(&bots, GOOGLEBOT, "192.0.2.1"), "googlebot declared");
    let impostor = said(&bots, "GPTBot/1.2", "192.0.2.1");
    assert_ne!(impostor, "gptbot verified");
}

/// Answers after each question was counted, and never if it is told so.
struct Slow {
    by_hand: ByHand,
    hangs: bool,
}

impl Resolver for Slow {
    async fn names(&self, address: IpAddr) -> Result<Vec<String>, NoAnswer> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.by_hand.names(address).await
    }

    async fn addresses(&self, name: &str, like: IpAddr) -> Result<Vec<IpAddr>, NoAnswer> {
        self.by_hand.addresses(name, like).await
    }
}

fn start(bots: &Arc<Bots>, resolver: impl Resolver) {
    tokio::spawn(Arc::clone(bots).run_with(resolver));
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn hosts_names_prove_or_refute_in_the_background() {
    let bots = bots(&KnownBots::default());
    start(
        &bots,
        ByHand::new(&[
            "192.0.2.1 crawl-192-0-2-1.googlebot.com",
            "crawl-192-0-2-1.googlebot.com 192.0.2.1",
            "192.0.3.2 crawl-192-0-2-1.googlebot.com",
            "192.0.4.3 host.example",
            "2001:db8::1 crawl-v6.googlebot.com",
            "crawl-v6.googlebot.com 2001:db8::1",
        ]),
    );
    let all = ["192.0.2.1", "192.0.3.2", "192.0.4.3", "192.0.5.4", "2001:db8::1"];
    for from in all {
        assert_eq!(said(&bots, GOOGLEBOT, from), "googlebot declared", "{from}");
    }
    settle().await;
    let after =
        all.map(|from| said(&bots, GOOGLEBOT, from).split_once(' ').expect("two").1.to_owned());
    assert_eq!(after, ["verified", "impostor", "impostor", "declared", "verified"]);
    let figures = bots.figures();
    assert_eq!((figures.proven, figures.refuted, figures.unanswered), (2, 2, 1));
    assert_eq!((figures.remembered, figures.waiting, figures.unasked), (5, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_hangs_is_given_up_and_convicts_nobody() {
    let settings = KnownBots { in_flight_max: 2, queue_max: 3, ..KnownBots::default() };
    let bots = bots(&settings);
    start(&bots, Slow { by_hand: ByHand::default(), hangs: true });
    for from in 0..8_u32 {
        let from = IpAddr::V4((0xc000_0200 + (from << 8)).into());
        bots.of(GOOGLEBOT.as_bytes(), from, bots.clock.now());
        settle().await;
    }
    let figures = bots.figures();
    // Two are under way, one waits for its turn, three for that.
    assert_eq!((figures.waiting, figures.unasked), (2 + 3, 2), "{figures:?}");
    tokio::time::sleep(settings.timeout * 10).await;
    let figures = bots.figures();
    assert_eq!((figures.waiting, figures.unanswered), (0, 6), "{figures:?}");
    assert_eq!(said(&bots, GOOGLEBOT, "192.0.2.0"), "googlebot declared");
}

#[test]
fn without_look_ups_nothing_is_queued() {
    let bots = bots(&KnownBots { look_up: false, ..KnownBots::default() });
    assert_eq!(said(&bots, GOOGLEBOT, "192.0.2.1"), "googlebot declared");
    assert_eq!(bots.figures().waiting, 0);
}

#[test]
fn an_address_of_ones_own_network_says_nothing_of_who_asks() {
    let bots = bots(&KnownBots::default());
    let local = [
        "127.0.0.1",
        "10.0.0.9",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.0.1",
        "100.64.0.1",
        "100.127.255.255",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.9",
    ];
    for from in local {
        assert_eq!(said(&bots, GOOGLEBOT, from), "googlebot declared", "{from}");
    }
    assert_eq!(bots.figures().waiting, 0, "nobody is asked about them");
    for from in ["100.63.255.255", "100.128.0.0", "172.32.0.1", "2001:db8::1"] {
        said(&bots, GOOGLEBOT, from);
    }
    assert_eq!(bots.figures().waiting, 4);
}

fn write(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("writes");
    path
}

const OWN: &str = "date = \"2026-11-01\"\n[[bot]]\nname = \"own\"\nkind = \"monitor\"\n\
                   agents = [\"ownprobe/\"]\nranges = [\"192.0.2.0/24\"]\n";

#[test]
fn a_file_is_read_again_when_it_changes_and_the_last_good_one_stays() {
    let directory = tempfile::tempdir().expect("creates");
    let path = write(directory.path(), "own.toml", OWN);
    let settings = KnownBots { files: vec![path.clone()], ..KnownBots::default() };
    let bots = bots(&settings);
    assert_eq!(said(&bots, "OwnProbe/1", "192.0.2.1"), "own verified");
    for broken in ["date = ", "", &"x".repeat(5 << 20)] {
        fs::write(&path, broken).expect("writes");
        bots.look_at_files();
        assert_eq!(said(&bots, "OwnProbe/1", "192.0.2.1"), "own verified", "the last good one");
        assert_eq!(bots.figures().files_wrong, 1);
        assert_eq!(bots.mistakes()[0].path.as_ref(), Some(&path));
    }
    fs::remove_file(&path).expect("removes");
    bots.look_at_files();
    assert_eq!((bots.figures().files_wrong, bots.mistakes().len()), (1, 1));
    assert_eq!(said(&bots, "OwnProbe/1", "192.0.2.1"), "own verified");
    fs::write(&path, OWN.replace("192.0.2.0", "198.51.100.0")).expect("writes");
    bots.look_at_files();
    assert_eq!(bots.mistakes(), []);
    assert_eq!(said(&bots, "OwnProbe/1", "192.0.2.1"), "own declared");
    assert_eq!(said(&bots, "OwnProbe/1", "198.51.100.1"), "own verified");
}

#[test]
fn a_file_that_was_never_good_leaves_the_shipped_data() {
    let directory = tempfile::tempdir().expect("creates");
    let settings = KnownBots {
        files: vec![directory.path().join("missing.toml"), directory.path().to_owned()],
        ..KnownBots::default()
    };
    let bots = bots(&settings);
    assert_eq!(bots.mistakes().len(), 2);
    assert!(bots.mistakes()[1].to_string().contains("no file"), "{:?}", bots.mistakes());
    assert_eq!(said(&bots, GOOGLEBOT, "66.249.66.1"), "googlebot verified");
    bots.renew(&KnownBots { files: Vec::new(), ..settings });
    bots.read_files();
    assert_eq!(bots.mistakes(), [], "it is not asked for any more");
}

#[test]
fn an_operators_list_proves_and_convicts_while_it_is_new() {
    let directory = tempfile::tempdir().expect("creates");
    let list = r#"{"creationTime": "x", "prefixes": [{"ipv4Prefix": "192.0.2.0/24"}]}"#;
    let path = write(directory.path(), "gptbot.json", list);
    let ranges = |bot: &str| vec![RangesFile { bot: bot.to_owned(), path: path.clone() }];
    let settings = KnownBots { ranges: ranges("gptbot"), ..KnownBots::default() };
    let bots = bots(&settings);
    assert_eq!(said(&bots, "GPTBot/1.2", "192.0.2.1"), "gptbot verified");
    assert_eq!(said(&bots, "GPTBot/1.2", "203.0.113.1"), "gptbot impostor");
    bots.clock.advance(settings.ranges_age_max);
    assert_eq!(said(&bots, "GPTBot/1.2", "203.0.113.1"), "gptbot declared", "it has grown old");
    assert_eq!(said(&bots, "GPTBot/1.2", "192.0.2.1"), "gptbot verified");
    bots.renew(&KnownBots { ranges: ranges("gptbto"), ..settings.clone() });
    bots.read_files();
    let mistakes = bots.mistakes();
    assert!(mistakes[0].to_string().contains("\"gptbto\""), "{mistakes:?}");
    bots.renew(&settings);
    bots.read_files();
    assert_eq!(bots.mistakes(), []);
}

#[test]
fn data_that_are_too_many_leave_those_in_use() {
    let directory = tempfile::tempdir().expect("creates");
    let path = write(directory.path(), "own.toml", OWN);
    let files = |files| KnownBots { files, agents_max: 400, ..KnownBots::default() };
    let bots = bots(&files(vec![path.clone()]));
    assert_eq!(bots.mistakes(), []);
    let agents: Vec<String> = (0..400).map(|at| format!("\"agent{at}/\"")).collect();
    let many = OWN.replace("\"ownprobe/\"", &agents.join(", "));
    fs::write(&path, many).expect("writes");
    bots.look_at_files();
    assert!(bots.mistakes()[0].to_string().contains("bots.agents_max"), "{:?}", bots.mistakes());
    assert_eq!(said(&bots, "OwnProbe/1", "192.0.2.1"), "own verified");
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_from_time_to_time() {
    let directory = tempfile::tempdir().expect("creates");
    let path = write(directory.path(), "own.toml", OWN);
    let bots = bots(&KnownBots { files: vec![path.clone()], ..KnownBots::default() });
    start(&bots, Nobody);
    settle().await;
    fs::write(&path, OWN.replace("ownprobe/", "otherprobe/")).expect("writes");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        if said(&bots, "OtherProbe/1", "192.0.2.1") == "own verified" {
            return;
        }
    }
    panic!("the file was not read again");
}
