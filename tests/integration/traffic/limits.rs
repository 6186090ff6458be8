//! So many requests of an address, a network, a session, and no more.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::origin::{Origin, page};
use super::super::support::process::wait_until;
use super::{BROWSER, HTML, from, on_and_off, rule};

#[test]
fn an_address_gets_its_burst_and_then_429_with_the_time_to_come_again() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\nburst = 3\npaths = [\"/x\"]";
    let [on, off] = on_and_off(|| Parvis::before_http(origin.port).with_toml(&rule("slow", limit)));
    let passed = |parvis: &Parvis, address: &str| {
        (0..6).filter(|_| from(parvis, address, "/x").status == 200).count()
    };
    assert_eq!(passed(&on, "192.0.2.1"), 3, "hits count, too");
    let reply = from(&on, "192.0.2.1", "/x");
    assert_eq!(reply.status, 429);
    let again: u64 =
        reply.header("retry-after").and_then(|text| text.parse().ok()).expect("a time");
    assert!((3_000..=3_600).contains(&again), "{again}");
    assert!(reply.text().contains("A little slower"), "{}", reply.text());
    assert_eq!(from(&on, "192.0.2.1", "/y").status, 200, "the rule is for /x");
    assert_eq!(passed(&on, "192.0.2.2"), 3, "a neighbour has an account of its own");
    assert_eq!(passed(&on, "2001:db8::1"), 3);
    assert_eq!(from(&on, "2001:db8::2", "/x").status, 429, "a /64 is one client");
    assert_eq!(passed(&off, "192.0.2.1"), 6, "without the rules");
}

#[test]
fn networks_and_sessions_have_accounts_of_their_own() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let of = |per: &str, path: &str| {
        format!("do = \"limit\"\nrequests = \"2/1h\"\nper = \"{per}\"\npaths = [\"{path}\"]")
    };
    let parvis = Parvis::before_http(origin.port)
        .with_toml(&rule("network", &of("network", "/n")))
        .with_toml(&rule("session", &of("session", "/s")))
        .start();
    for address in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(from(&parvis, address, "/n").status, 200);
    }
    assert_eq!(from(&parvis, "192.0.2.3", "/n").status, 429);
    assert_eq!(from(&parvis, "192.0.3.3", "/n").status, 200);
    let session = |id: &str| {
        let cookie = format!("PHPSESSID={id}");
        parvis.get("/s", &[HTML, BROWSER, ("Cookie", &cookie)]).status
    };
    assert_eq!([session("a"), session("a"), session("a")], [200, 200, 429]);
    assert_eq!(session("b"), 200);
}

#[test]
fn what_is_beyond_may_be_challenged() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\nper = \"network\"\nbeyond = \"challenge\"\nfacets_min = 2";
    let parvis = Parvis::before_http(origin.port).with_toml(&rule("facets", limit)).start();
    assert_eq!(from(&parvis, "192.0.2.1", "/x?color=1&size=2").status, 200);
    let challenged = from(&parvis, "192.0.2.2", "/x?color=1&size=3");
    assert_eq!(challenged.status, 429);
    assert!(challenged.text().contains("data-puzzle"), "{}", challenged.text());
    assert_eq!(challenged.cache_status(), "parvis; detail=challenge");
    assert_eq!(from(&parvis, "192.0.2.2", "/x?color=1&p=3").status, 200);
}

#[test]
fn behind_a_proxy_that_is_not_trusted_nobody_is_limited_by_its_address() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\npaths = [\"/x\"]";
    let parvis = Parvis::before_http(origin.port)
        .with("listen.trusted", "[]")
        .with_toml(&rule("slow", limit))
        .start();
    let ask = |fields: &[(&str, &str)]| parvis.get("/x", fields).status;
    assert_eq!([(); 3].map(|()| ask(&[("X-Forwarded-For", "192.0.2.1")])), [200; 3]);
    assert_eq!([(); 3].map(|()| ask(&[])), [200; 3], "a proxy of this machine that names nobody");
}

#[test]
fn an_address_that_is_trusted_to_name_clients_is_none_itself() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\npaths = [\"/x\"]";
    let parvis = Parvis::before_http(origin.port)
        .with("listen.trusted", "[\"127.0.0.0/8\", \"198.51.100.0/24\"]")
        .with_toml(&rule("slow", limit))
        .start();
    let of = |chain: &str| [(); 3].map(|()| from(&parvis, chain, "/x").status);
    assert_eq!(of("198.51.100.7"), [200; 3], "a CDN that says nobody's name");
    assert_eq!(of("192.0.2.1, 198.51.100.7"), [200, 429, 429]);
    assert_eq!(of("192.0.2.2, 198.51.100.7"), [200, 429, 429]);
}

#[test]
fn where_a_limited_address_names_many_others_the_log_says_so_once() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"1/1h\"\npaths = [\"/x\"]";
    let parvis = Parvis::before_http(origin.port).with_toml(&rule("slow", limit)).start();
    let said = || parvis.stderr().matches("add its networks").count();
    for _ in 0..40 {
        from(&parvis, "192.0.2.9, 203.0.113.2", "/x");
    }
    assert_eq!(said(), 0, "one client");
    for client in 1..40 {
        from(&parvis, &format!("192.0.2.{client}, 203.0.113.1"), "/x");
    }
    wait_until("the warning", Duration::from_secs(10), || said() == 1);
    assert!(parvis.stderr().contains("203.0.113.1"), "{}", parvis.stderr());
}
