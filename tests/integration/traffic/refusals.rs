//! A rule refuses, with its name in log, header and metric.

use std::time::Duration;

use super::super::support::Parvis;
use super::super::support::origin::{Origin, page};
use super::super::support::parvis::Builder;
use super::super::support::process::wait_until;
use super::{BROWSER, HTML, from, on_and_off, rule, store};

fn shop(origin: &Origin) -> Builder {
    Parvis::before_http(origin.port)
        .with("site.debug_header", "\"always\"")
        .with_toml(&rule("partner", "do = \"allow\"\nfrom = [\"198.51.100.7\"]"))
        .with_toml(&rule("seen", "do = \"log\"\npaths = [\"/x\"]"))
        .with_toml(&rule("tried", "do = \"refuse\"\npaths = [\"/x\"]\ndry_run = true"))
        .with_toml(&rule("closed", "do = \"refuse\"\nfrom = [\"198.51.100.0/24\"]"))
}

#[test]
fn a_refused_client_gets_403_whatever_is_stored_and_the_log_names_the_rule() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let [on, off] = on_and_off(|| shop(&origin));
    store(&on, "/x");
    assert!(from(&on, "192.0.2.1", "/x").is_hit());
    let seen = on.metric("parvis_traffic_rule_matched_total{rule=\"seen\"}").expect("a count");
    let asked = origin.count();
    let refused = from(&on, "198.51.100.8", "/x");
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("This is not possible"), "a page: {}", refused.text());
    assert_eq!(refused.cache_status(), "parvis; detail=rule-refused");
    assert_eq!(refused.header("x-parvis-rule"), Some("closed"));
    assert_eq!(on.ask("POST", "/y", &[("X-Forwarded-For", "198.51.100.8")], b"a=1").status, 403);
    assert_eq!(origin.count(), asked, "nobody was asked");
    assert_eq!(from(&on, "198.51.100.7", "/x").status, 200, "the rule before it lets it through");
    let logged = || {
        let log = on.access_log();
        log.contains("\"reason\":\"rule-refused\",\"rule\":\"closed\"")
    };
    wait_until("the line", Duration::from_secs(5), logged);
    let metric = |name: &str, rule: &str| {
        on.metric(&format!("parvis_traffic_rule_{name}_total{{rule=\"{rule}\"}}"))
    };
    assert_eq!(metric("decided", "closed"), Some(2.0));
    assert_eq!(metric("decided", "partner"), Some(1.0));
    assert_eq!(metric("matched", "seen"), Some(seen + 1.0));
    assert_eq!(
        (metric("dry_run", "tried"), metric("decided", "tried")),
        (Some(seen + 1.0), Some(0.0))
    );
    assert_eq!(from(&off, "198.51.100.8", "/x").status, 200, "without the rules");
}

#[test]
fn scripts_get_json_and_http2_gets_the_same() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = shop(&origin).start().over_http2();
    let script = [HTML, BROWSER, ("X-Requested-With", "XMLHttpRequest")];
    let reply = parvis.get("/x", &[&script[..], &[("X-Forwarded-For", "198.51.100.8")]].concat());
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("\"reason\":\"rule-refused\""), "{}", reply.text());
    assert_eq!(from(&parvis, "192.0.2.1", "/x").status, 200);
}

#[test]
fn purges_health_checks_and_who_works_on_the_shop_are_not_judged() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let parvis = Parvis::before_http(origin.port)
        .with("maintenance.allow", "[\"203.0.113.0/24\"]")
        .with_toml(&rule("none", "do = \"refuse\""))
        .start();
    assert_eq!(from(&parvis, "192.0.2.1", "/x").status, 403);
    assert_eq!(from(&parvis, "203.0.113.5", "/x").status, 200);
    assert_eq!(parvis.purge_tag("cat_p_1").status, 200);
    assert_eq!(parvis.get("/.parvis/ready", &[]).status, 200);
    assert_eq!(parvis.get("/health_check.php", &[]).status, 200);
}

#[test]
fn a_reload_changes_rules_and_keeps_what_they_counted() {
    let origin = Origin::always(page("page", "cat_p_1"));
    let limit = "do = \"limit\"\nrequests = \"2/1day\"";
    let parvis = Parvis::before_http(origin.port).with_toml(&rule("two", limit)).start();
    assert_eq!(from(&parvis, "192.0.2.1", "/x").status, 200);
    let text = std::fs::read_to_string(parvis.config_path()).expect("readable");
    let closed = rule("closed", "do = \"refuse\"\npaths = [\"/closed\"]");
    std::fs::write(parvis.config_path(), text + &closed).expect("written");
    parvis.process.signal("HUP");
    let is_closed = || from(&parvis, "192.0.2.9", "/closed").status == 403;
    wait_until("the new rule", Duration::from_secs(10), is_closed);
    assert_eq!(from(&parvis, "192.0.2.1", "/x").status, 200);
    assert_eq!(from(&parvis, "192.0.2.1", "/x").status, 429, "the account is the old one");
    assert!(parvis.metric("parvis_traffic_rule_matched_total{rule=\"two\"}") >= Some(4.0));
}
