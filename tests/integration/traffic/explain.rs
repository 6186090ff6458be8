//! `parvis explain` and `parvis check` say what rules do.

use std::process::{Command, Output};

use super::super::support::parvis::program;
use super::rule;

fn parvis(arguments: &[&str], toml: &str) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, toml).expect("written");
    Command::new(program()).args(arguments).arg("--config").arg(path).output().expect("it runs")
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn explain_goes_through_the_rules_up_to_the_one_that_decides() {
    let rules = rule("office", "do = \"allow\"\nfrom = [\"198.51.100.0/24\"]")
        + &rule("slow", "do = \"limit\"\nrequests = \"10/1min\"\nper = \"network\"")
        + &rule("tried", "do = \"refuse\"\ndry_run = true")
        + &rule("deep", "do = \"challenge\"\nwho = [\"browser\"]\nfacets_min = 2")
        + &rule("rest", "do = \"log\"");
    let url = "https://shop.example/women.html?color=49&size=1";
    let output = parvis(
        &["explain", "--url", url, "--from", "192.0.2.1", "--ua", "Mozilla/5.0 Firefox"],
        &rules,
    );
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for expected in [
        "From: 192.0.2.1, does not say that it is a bot, without a session",
        "Query: 2 facets",
        "  office: no (from)",
        "  slow: yes: 10 requests in 1min for a network; beyond: 429",
        "  tried: yes: 403, counted alone (dry run)",
        "  deep: yes: a challenge first",
        "The rule deep decides: a challenge first.",
    ] {
        assert!(text.contains(expected), "{expected} is missing in:\n{text}");
    }
    assert!(!text.contains("rest:"), "{text}");
    let office = said(&parvis(&["explain", "--url", url, "--from", "198.51.100.7"], &rules));
    assert!(office.contains("The rule office decides"), "{office}");
    let wrong = parvis(&["explain", "--url", "shop.example"], &rules);
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
}

#[test]
fn explain_says_what_the_server_does() {
    let rules = rule("refused", "do = \"refuse\"\nheaders = [\"User-Agent: badbot\"]")
        + &rule(
            "bots",
            "do = \"limit\"\nrequests = \"1/1h\"\nwho = [\"bot\"]\nper = \"class\"\nbeyond = \"challenge\"",
        )
        + &rule("address", "do = \"limit\"\nrequests = \"1/1h\"")
        + &rule("session", "do = \"limit\"\nrequests = \"1/1h\"\nper = \"session\"");
    let explain = |url: &str, more: &[&str]| {
        let url = format!("https://shop.example{url}");
        said(&parvis(&[&["explain", "--url", &url], more].concat(), &rules))
    };
    let health = explain("/health_check.php", &[]);
    assert!(health.contains("is not judged") && !health.contains("address:"), "{health}");
    let given = explain("/", &["--from", "192.0.2.1", "--header", "User-Agent: a badbot/1.0"]);
    assert!(given.contains("From: 192.0.2.1, a bot, not verified (DNS"), "{given}");
    assert!(given.contains("The rule refused decides"), "{given}");
    let google = ["--from", "66.249.66.1", "--ua", "Googlebot/2.1"];
    let verified = explain("/", &google);
    assert!(
        verified.contains("beyond: a challenge; verified bots, and who has passed, go on"),
        "{verified}"
    );
    assert!(verified.contains("beyond: 429; not counted: there is no session"), "{verified}");
    let proxy = explain("/", &["--from", "127.0.0.1"]);
    assert!(proxy.contains("not counted: the address is a proxy's"), "{proxy}");
}

#[test]
fn check_shows_the_rules_and_names_a_hidden_one_with_the_one_that_hides_it() {
    let shown = said(&parvis(&["check"], &rule("deep", "do = \"challenge\"\nfacets_min = 2")));
    assert!(shown.contains("deep: a challenge first"), "{shown}");
    let both = rule("deep", "do = \"challenge\"\nfacets_min = 2") + "[traffic]\ndefaults = true\n";
    let shown = said(&parvis(&["check"], &both));
    assert!(shown.contains("deep: ") && shown.contains("1 given before"), "{shown}");
    assert!(!shown.contains("logins-network:") && shown.contains("check --rules"), "{shown}");
    let all = said(&parvis(&["check", "--rules"], &both));
    assert!(all.contains("deep: ") && all.contains("logins-network: "), "{all}");
    let hidden = rule("all", "do = \"refuse\"\npaths = [\"/x\"]")
        + &rule("never", "do = \"allow\"\npaths = [\"/x/y\"]");
    let output = parvis(&["check"], &hidden);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("never") && text.contains("the rule all before it"), "{text}");
}
