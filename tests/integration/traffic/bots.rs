//! Rules tell bots that their operators' DNS proves from impostors, and from those of whom nothing is known.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::dns::Dns;
use super::super::support::origin::{Origin, page};
use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use super::{HTML, from, on_and_off, rule};

const GOOGLEBOT: (&str, &str) =
    ("User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)");

const RECORDS: [&str; 4] = [
    "--host-record=crawl-203-0-113-1.googlebot.com,203.0.113.1",
    "--host-record=crawl-v6.googlebot.com,2001:db8::1",
    "--ptr-record=2.113.0.203.in-addr.arpa,crawl-203-0-113-1.googlebot.com",
    "--host-record=host.example,203.0.113.4",
];

fn shop(origin: &Origin, dns: &Dns) -> Builder {
    Parvis::before_http(origin.port)
        .with("site.debug_header", "\"always\"")
        .with("bots.resolvers", &format!("[\"{}\"]", dns.address()))
        .with("bots.timeout", "\"500ms\"")
        .with_toml(&rule("impostors", "do = \"refuse\"\nwho = [\"impostor\"]"))
        .with_toml(&rule("unproven", "do = \"refuse\"\nwho = [\"unverified-bot\"]"))
        .with_toml(&rule("proven", "do = \"allow\"\nwho = [\"verified-bot\"]"))
        .with_toml(&rule("rest", "do = \"refuse\"\nwho = [\"bot\"]"))
}

/// The status, and the rule that gave it where it refuses.
fn googlebot_from(parvis: &Parvis, address: &str) -> (u16, Option<String>) {
    let reply = parvis.get("/x", &[HTML, GOOGLEBOT, ("X-Forwarded-For", address)]);
    (reply.status, reply.header("x-parvis-rule").map(str::to_owned))
}

fn looked_up(parvis: &Parvis) -> f64 {
    let names = [
        "parvis_bots_proven_total ",
        "parvis_bots_refuted_total ",
        "parvis_bots_unanswered_total ",
    ];
    names.iter().filter_map(|name| parvis.metric(name)).sum()
}

/// Before its look-up nobody knows; after it, it is what this returns.
fn after_look_up(parvis: &Parvis, address: &str) -> (u16, Option<String>) {
    let before = looked_up(parvis);
    assert_eq!(googlebot_from(parvis, address), (403, Some("unproven".to_owned())), "{address}");
    wait_until("the look-up", Duration::from_secs(10), || looked_up(parvis) > before);
    googlebot_from(parvis, address)
}

#[test]
fn a_proven_bot_gets_in_and_an_impostor_does_not() {
    let (origin, dns) = (Origin::always(page("page", "cat_p_1")), Dns::start(&RECORDS));
    let [on, off] = on_and_off(|| shop(&origin, &dns));
    for address in ["203.0.113.1", "2001:db8::1"] {
        assert_eq!(after_look_up(&on, address).0, 200, "{address}");
    }
    for address in ["203.0.113.2", "203.0.113.4", "203.0.113.9"] {
        let refused = (403, Some("impostors".to_owned()));
        assert_eq!(after_look_up(&on, address), refused, "{address}");
        assert_eq!(googlebot_from(&off, address).0, 200, "{address}: without the rules");
    }
    assert_eq!(googlebot_from(&on, "66.249.66.1").0, 200, "its range is known");
    assert_eq!(from(&on, "203.0.113.4", "/x").status, 200, "a browser is asked for nothing");
}

#[test]
fn where_dns_is_down_no_bot_is_an_impostor() {
    let (origin, mut dns) = (Origin::always(page("page", "cat_p_1")), Dns::start(&RECORDS));
    let parvis = shop(&origin, &dns).start();
    dns.kill();
    let unproven = (403, Some("unproven".to_owned()));
    assert_eq!(after_look_up(&parvis, "203.0.113.4"), unproven);
    assert_eq!(googlebot_from(&parvis, "66.249.66.1").0, 200);
}
