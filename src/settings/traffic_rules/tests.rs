//! Rules that are read, and rules that can never match.

use super::*;
use crate::settings::Settings;

fn load(text: &str) -> Result<Settings, Vec<String>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    Settings::load(Some(file.path()), [])
        .map_err(|mistakes| mistakes.iter().map(|one| one.problem.to_string()).collect())
}

fn mistakes(text: &str) -> Vec<String> {
    load(text).err().unwrap_or_default()
}

fn rule(name: &str, rest: &str) -> String {
    let does = if rest.contains("do =") { "" } else { "do = \"allow\"\n" };
    format!("[[traffic.rule]]\nname = \"{name}\"\n{does}{rest}\n")
}

#[test]
fn the_default_rules_are_in_order() {
    let mut reader = Reader::default();
    reader.check_rules("traffic.rule", &default_rules::default_rules());
    assert_eq!(reader.mistakes, []);
}

#[test]
fn a_rule_is_read_whole() {
    let settings = load(
        "[[traffic.rule]]\nname = \"facets\"\ndo = \"limit\"\nfrom = [\"192.0.2.0/24\", \"::1\"]\n\
         who = [\"unverified-bot\", \"passed\"]\nmethods = [\"GET\"]\nhosts = [\"Shop.example\"]\n\
         paths = [\"/a/*\"]\nquery = [\"color\"]\nquery_besides = [\"p\"]\nfacets_min = 3\n\
         query_length_min = 10\nheaders = [\"Accept\", \"!Cookie\", \"User-Agent: Some, Text\"]\n\
         requests = \"1/1s\"\nburst = 10\nphp = \"200ms/1s\"\nper = \"network\"\n\
         beyond = \"challenge\"\ndry_run = true\n",
    )
    .expect("valid");
    let [rule] = &settings.traffic.rules[..] else { panic!("one rule") };
    assert_eq!(rule.from.iter().count(), 2);
    assert_eq!(rule.who, [WhoKind::UnverifiedBot, WhoKind::Passed]);
    assert_eq!(rule.hosts, ["shop.example"]);
    assert_eq!((rule.facets_min, rule.query_length_min), (Some(3), Some(10)));
    let wants: Vec<_> =
        rule.headers.iter().map(|one| (one.name.as_str(), one.wants.clone())).collect();
    let text = HeaderWants::Contains("some, text".to_owned());
    assert_eq!(
        wants,
        [("accept", HeaderWants::Present), ("cookie", HeaderWants::Absent), ("user-agent", text)]
    );
    let second = Duration::from_secs(1);
    let limit = LimitRule {
        requests: Some(Rate { amount: 1, each: second }),
        burst: Some(10),
        php: Some(Rate { amount: 200, each: second }),
        per: Per::Network,
        beyond: Beyond::Challenge,
        ..LimitRule::default()
    };
    assert_eq!(rule.action, Action::Limit(limit));
    assert!(rule.dry_run);
}

#[test]
fn rules_that_are_given_replace_the_default_ones_or_stand_before_them() {
    let own = rule("own", "paths = [\"/x\"]");
    assert_eq!(load(&own).expect("valid").traffic.rules.len(), 1);
    let both = load(&format!("[traffic]\ndefaults = true\n{own}")).expect("valid");
    assert_eq!(both.traffic.rules[0].name, "own");
    assert_eq!(both.traffic.rules[1..], default_rules::default_rules());
    assert_eq!(load("[traffic]\nrule = []\n").expect("valid").traffic.rules, []);
}

#[test]
fn a_given_rule_takes_the_place_of_default_ones_that_it_hides_or_has_the_name_of() {
    let replaced = |own: &str| {
        let settings = load(&format!("[traffic]\ndefaults = true\n{own}")).expect("valid");
        let traffic = settings.traffic;
        let defaults = default_rules::default_rules().len();
        assert_eq!(traffic.rules.len(), 1 + defaults - traffic.replaced.len());
        assert_eq!(traffic.rules[0].name, traffic.replaced[0].by);
        traffic.replaced.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    let refuse = "do = \"refuse\"\nwho = [\"impostor\"]";
    assert_eq!(replaced(&rule("no-impostors", refuse)), ["impostors"]);
    assert_eq!(
        replaced(&rule("search", "who = [\"verified-bot\"]")),
        ["verified-facets", "bots-crawl"]
    );
    assert_eq!(
        replaced(&rule("systems", "paths = [\"/rest\", \"/soap\", \"/*\"]"))[..1],
        ["logins-network"]
    );
    assert_eq!(replaced(&rule("apis", "paths = [\"/rest/V1/products\"]")), ["apis"]);
    let twice = rule("a", "paths = [\"/x\"]") + &rule("a", "paths = [\"/y\"]");
    let found = mistakes(&format!("[traffic]\ndefaults = true\n{twice}"));
    assert_eq!(found.len(), 1, "the given ones are checked: {found:?}");
}

#[test]
fn a_rule_hidden_by_one_that_has_decided_is_a_mistake_that_names_both() {
    let hides = [
        ("", "paths = [\"/x\"]"),
        ("paths = [\"/CHECKOUT\"]", "paths = [\"/checkout/cart\", \"/checkout/x\"]"),
        ("paths = [\"/rest\"]", "paths = [\"/rest/*/V1\"]\nmethods = [\"POST\"]"),
        ("from = [\"10.0.0.0/8\"]", "from = [\"10.1.0.0/16\", \"10.2.0.1\"]"),
        ("who = [\"bot\"]", "who = [\"verified-bot\", \"impostor\"]"),
        ("who = [\"browser\", \"bot\"]", "who = [\"customer\"]"),
        ("who = [\"session\"]", "who = [\"customer\", \"session\"]"),
        (
            "who = [\"browser\"]",
            "do = \"limit\"\nphp = \"1s/10s\"\nwho = [\"new-visitor\", \"stranger\"]",
        ),
        ("who = [\"browser\"]", "who = [\"new-visitor\"]"),
        ("hosts = [\"*.shop.example\"]", "hosts = [\"a.shop.example\", \"*.b.shop.example\"]"),
        ("query = [\"colo*\"]", "query = [\"color\", \"colour\"]\nmethods = [\"GET\"]"),
        ("facets_min = 2", "facets_min = 3"),
        ("query_length_min = 9", "query_length_min = 10\nwho = [\"bot\"]"),
        ("headers = [\"accept\"]", "headers = [\"accept: text/html\", \"cookie\"]"),
        ("headers = [\"user-agent: bot\"]", "headers = [\"user-agent: googlebot\"]"),
        (
            "do = \"refuse\"\nmethods = [\"PUT\"]",
            "do = \"limit\"\nphp = \"1s/10s\"\nmethods = [\"PUT\"]",
        ),
        ("do = \"stored\"\nmethods = [\"GET\"]", "do = \"challenge\"\nmethods = [\"GET\"]"),
    ];
    for (first, second) in hides {
        let text = rule("first", first) + &rule("second", second);
        let found = mistakes(&text);
        let named = found.iter().filter(|one| one.contains("second") && one.contains("first"));
        assert_eq!(named.count(), 1, "{first} {second} {found:?}");
    }
}

#[test]
fn what_a_rule_leaves_over_is_for_the_next() {
    let leaves = [
        ("paths = [\"/x\"]", ""),
        ("do = \"log\"", "paths = [\"/x\"]"),
        ("do = \"limit\"\nrequests = \"1/1s\"", "paths = [\"/x\"]"),
        ("do = \"challenge\"", "paths = [\"/x\"]"),
        ("do = \"refuse\"\ndry_run = true", "paths = [\"/x\"]"),
        ("who = [\"verified-bot\"]", "who = [\"bot\"]"),
        ("who = [\"new-visitor\", \"session\"]", "who = [\"bot\"]"),
        ("hosts = [\"*.shop.example\"]", "hosts = [\"shop.example\"]"),
        ("headers = [\"accept\", \"cookie\"]", "headers = [\"accept\"]"),
        ("headers = [\"!accept\"]", "headers = [\"accept\"]"),
        ("from = [\"10.1.0.0/16\"]", "from = [\"10.0.0.0/8\"]"),
        ("facets_min = 3", "facets_min = 2"),
    ];
    for (first, second) in leaves {
        let text = rule("first", first) + &rule("second", second);
        assert_eq!(mistakes(&text), [""; 0], "{first} {second}");
    }
}

#[test]
fn rules_that_cannot_match_or_make_no_sense_are_mistakes() {
    let wrong = [
        (rule("a", "paths = [\"/Index.php/checkout\"]"), "can never match: paths"),
        (rule("a", "do = \"challenge\"\nwho = [\"verified-bot\", \"passed\"]"), "can never match"),
        (rule("a", "headers = [\"accept\", \"!accept\"]"), "takes accept where it is there"),
        (rule("a", "query_length_min = 1000000"), "request_line_max"),
        (rule("a", "facets_min = 1000\n[listen]\nrequest_line_max = \"1KiB\""), "request_line_max"),
        (rule("a", "who = [\"customer\"]"), "sessions.listen"),
        (rule("a", "do = \"limit\"\nphp = \"1s/10s\"\nwho = [\"stranger\"]"), "sessions.listen"),
        (rule("a", "who = [\"stranger\"]"), "limits on php alone"),
        (rule("a", "hosts = [\"x.example\"]\n[site]\nhosts = [\"shop.example\"]"), "site.hosts"),
        (rule("a", "methods = [\"GET\"]") + &rule("a", ""), "another rule's"),
        (rule("A", ""), "no name"),
        (rule("a", "who = [\"bots\"]"), "nobody of that name"),
        (rule("a", "headers = [\"a b\"]"), "no header's name"),
        (rule("a", "headers = [\"a: \"]"), "no text"),
        (rule("a", "do = \"limit\""), "a limit needs requests or php"),
        (rule("a", "do = \"limit\"\nphp = \"1s/10s\"\nburst = 1"), "burst is of requests"),
        (rule("a", "do = \"limit\"\nphp = \"1s/10s\"\nfleet = true"), "each node's own"),
        (rule("a", "do = \"limit\"\nrequests = \"1/1s\"\nfield = \"x\""), "field needs fleet"),
        (rule("a", "do = \"limit\"\nrequests = \"0/1s\""), "out of range"),
        (rule("a", "do = \"limit\"\nrequests = \"1/1ms\""), "no time of 100ms"),
        (rule("a", "do = \"limit\"\nrequests = \"1s\""), "no number and time"),
        (rule("a", "do = \"limit\"\nphp = \"1/1s\""), "no time of PHP"),
        (rule("a", "requests = \"1/1s\""), "are for do = \"limit\" alone"),
        ("[[traffic.rule]]\nname = \"a\"\n".to_owned(), "has no do"),
        ("[traffic]\nsecret = \"short\"\n".to_owned(), "too short"),
    ];
    for (text, expected) in wrong {
        let found = mistakes(&text);
        assert!(found.iter().any(|one| one.contains(expected)), "{text} {found:?}");
    }
}

#[test]
fn the_secret_is_shown_to_nobody() {
    let settings = load("[traffic]\nsecret = \"0123456789abcdef\"\n").expect("valid");
    assert!(!format!("{settings:?}").contains("0123456789abcdef"));
    assert_eq!(settings.traffic.secret, "0123456789abcdef");
}
