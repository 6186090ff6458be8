//! Whose session PHP gets.

use http::StatusCode;

use super::{get, lookup, request};
use crate::fields::Fields;
use crate::policy::Policy;
use crate::reason::Reason;
use crate::settings::{self, Endpoint, Settings};

/// The rules with sessions that pass through this server, and some settings changed.
fn policy(change: impl FnOnce(&mut Settings)) -> Policy {
    let mut settings = Settings::default();
    settings.sessions.listen = Some(Endpoint::Unix("/run/parvis/session.sock".into()));
    change(&mut settings);
    Policy::new(&settings).expect("valid settings")
}

fn fills_without(policy: &Policy, fields: Fields) -> bool {
    let request = request("GET", "/page", fields);
    policy.fills_without_session(&request, &lookup(policy, &request))
}

#[test]
fn a_guests_fill_goes_without_the_session() {
    let policy = policy(|_| {});
    for cookies in ["PHPSESSID=1", "a=b; PHPSESSID=1", "a=b", "PHPSESSID_x=1"] {
        assert!(fills_without(&policy, Fields::from([("Cookie", cookies)])), "{cookies}");
    }
    assert!(fills_without(&policy, Fields::new()));
}

#[test]
fn what_needs_the_session_keeps_it() {
    let policy = policy(|_| {});
    for cookies in ["X-Magento-Vary=a; PHPSESSID=1", "admin=1", "admin=1; PHPSESSID=1"] {
        assert!(!fills_without(&policy, Fields::from([("Cookie", cookies)])), "{cookies}");
    }
    let id = [("Cookie", "PHPSESSID=1"), ("X-Magento-Cache-Id", "a")];
    let graphql = get("/graphql?query=x", id);
    assert!(!policy.fills_without_session(&graphql, &lookup(&policy, &graphql)));
}

#[test]
fn settings_say_whether_fills_keep_the_session() {
    let own = || Fields::from([("Cookie", "PHPSESSID=1")]);
    let keep = policy(|settings| settings.sessions.fill_cookie = settings::FillCookie::Keep);
    assert!(!fills_without(&keep, own()));
    let keyed = policy(|settings| settings.site.key_cookies = vec!["PHPSESSID".to_owned()]);
    assert!(!fills_without(&keyed, own()), "what is in the key must reach PHP");
    let plain = policy(|settings| settings.sessions.listen = None);
    assert!(fills_without(&plain, own()));
    assert!(!fills_without(&plain, Fields::new()), "there is nothing to give in place of none");
}

#[test]
fn the_session_is_replaced_and_no_other_cookie_is_touched() {
    let policy = policy(|_| {});
    let mut fields = Fields::from([
        ("Cookie", "a=1; PHPSESSID=own; form_key=k;b"),
        ("cookie", "admin=x; PHPSESSID=second"),
    ]);
    policy.replace_session(&mut fields, Some("new"));
    let line = fields.first_str("cookie").map(str::to_owned);
    assert_eq!(line.as_deref(), Some("PHPSESSID=new; a=1; form_key=k; b="));
    policy.replace_session(&mut fields, None);
    assert_eq!(fields.first_str("cookie"), Some("a=1; form_key=k; b="));
    let mut fields = Fields::from([("Cookie", "PHPSESSID=own")]);
    policy.replace_session(&mut fields, None);
    assert!(fields.is_empty());
}

#[test]
fn the_cookies_of_sessions_are_dropped_and_no_others() {
    let mut fields = Fields::from([
        ("Set-Cookie", "PHPSESSID=1; path=/"),
        ("set-cookie", "form_key=2"),
        ("Set-Cookie", " admin =1"),
        ("X", "PHPSESSID=1"),
    ]);
    policy(|_| {}).drop_session_cookies(&mut fields);
    let kept: Vec<&[u8]> = fields.iter().map(|field| &field.value[..]).collect();
    assert_eq!(kept, [&b"form_key=2"[..], b"PHPSESSID=1"]);
}

/// What the data of bots would say.
fn has_bot(agent: &[u8]) -> bool {
    let agent = String::from_utf8_lossy(agent).to_lowercase();
    agent.contains("bot") || agent.contains("crawler")
}

#[test]
fn what_the_settings_add_names_a_bot_as_well() {
    let policy = policy(|settings| settings.sessions.bot_agents = vec!["ourprobe".to_owned()]);
    let is_bot = |agent: &str| {
        let fields = Fields::from([("User-Agent", agent)]);
        policy.is_declared_bot(&request("GET", "/", fields), has_bot)
    };
    assert!(is_bot("OurProbe/1.0") && is_bot("a crawler") && !is_bot("Firefox"));
}

#[test]
fn a_bot_is_one_that_says_so_and_has_no_session() {
    let policy = policy(|settings| settings.sessions.bots = settings::Bots::None);
    let is_bot = |method, agent: &str, cookies: &str| {
        let fields = Fields::from([("User-Agent", agent), ("Cookie", cookies)]);
        policy.is_sessionless_bot(&request(method, "/", fields), has_bot)
    };
    assert!(is_bot("GET", "Mozilla/5.0 (compatible; bingBOT/2.0)", ""));
    assert!(is_bot("HEAD", "some-crawler", "a=1"));
    assert!(!is_bot("POST", "some-crawler", ""));
    assert!(!is_bot("GET", "some-crawler", "PHPSESSID=1"));
    assert!(!is_bot("GET", "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0", ""));
    assert!(!policy.is_sessionless_bot(&get("/", []), has_bot));
}

#[test]
fn who_declares_a_bot_is_told_whatever_bots_get_and_not_by_the_name_of_a_browser_with_a_session() {
    let policy = policy(|_| {});
    let is_bot = |method, cookies: &str| {
        let agent = "Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20)";
        let fields = Fields::from([("User-Agent", agent), ("Cookie", cookies)]);
        policy.is_declared_bot(&request(method, "/", fields), has_bot)
    };
    assert!(is_bot("GET", "form_key=1") && is_bot("POST", ""));
    assert!(!is_bot("GET", "form_key=1; PHPSESSID=x") && !is_bot("GET", "admin=x"));
}

#[test]
fn without_a_store_of_ones_own_bots_get_sessions_as_everybody() {
    let agent = [("User-Agent", "some-crawler")];
    let plain = policy(|settings| {
        settings.sessions.bots = settings::Bots::None;
        settings.sessions.listen = None;
    });
    assert!(!plain.is_sessionless_bot(&get("/", agent), has_bot));
    assert!(!policy(|_| {}).is_sessionless_bot(&get("/", agent), has_bot));
}

#[test]
fn an_error_or_a_size_is_no_sign_of_a_visitors_own_page() {
    let policy = policy(|_| {});
    assert!(policy.may_be_of_visitor(StatusCode::OK, Reason::Private));
    assert!(policy.may_be_of_visitor(StatusCode::FOUND, Reason::NoStore));
    assert!(!policy.may_be_of_visitor(StatusCode::NOT_FOUND, Reason::Status));
    assert!(!policy.may_be_of_visitor(StatusCode::BAD_GATEWAY, Reason::NoStore));
    assert!(!policy.may_be_of_visitor(StatusCode::OK, Reason::TooLarge));
}
