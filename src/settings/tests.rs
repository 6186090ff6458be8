//! Whole configurations.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Loads a file with that content.
fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    std::fs::write(&path, text).expect("writes");
    let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Settings::load(Some(&path), environment).map_err(|mistakes| {
        let prefix = format!("{}/", directory.path().display());
        mistakes.iter().map(|mistake| mistake.to_string().replace(&prefix, "")).collect()
    })
}

fn mistakes(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load(text, environment).expect_err("there are mistakes")
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(Settings::load(None, []), Ok(Settings::default()));
    assert_eq!(load("", &[("HOME", "/root"), ("PARVIS_PORT", "80")]), Ok(Settings::default()));
}

#[test]
fn every_kind_of_setting_is_read_from_the_file() {
    let settings = load(
        r#"
        [listen]
        http = ["127.0.0.1:80", "unix:/run/parvis.sock"]
        trusted = ["10.0.0.0/8", "192.0.2.1"]
        keep_alive = "2min"
        head_max = "32KiB"
        header_max = "8KiB"
        headers_max = 50

        [site]
        policy = "generic"
        hosts = ["Shop.example", "*.shop.example"]
        age = true
        design_exceptions = ["iPhone{1,2}"]

        [[site.ttl]]
        path = "/blog"
        ttl = "1h"

        [[site.ttl]]
        status = 404
        ttl = 0

        [origin]
        fastcgi = "unix:/run/php.sock"
        keep_alive = "1s"

        [origin.params."*"]
        MAGE_RUN_TYPE = "store"

        [origin.params."B2B.shop.example"]
        MAGE_RUN_CODE = "b2b"

        [store]
        memory = "1GiB"

        [health]
        probe = ""

        [log]
        access = "/var/log/parvis.log"
        "#,
        &[],
    )
    .expect("valid");
    assert_eq!(settings.listen.http[1], Endpoint::Unix("/run/parvis.sock".into()));
    assert!(settings.listen.trusted.contains([10, 1, 2, 3].into()));
    assert!(!settings.listen.trusted.contains([127, 0, 0, 1].into()));
    assert_eq!(settings.listen.keep_alive, Duration::from_mins(2));
    assert_eq!(settings.listen.head_max_bytes, 32 << 10);
    assert_eq!(settings.listen.headers_max, 50);
    assert_eq!(settings.site.policy, PolicyKind::Generic);
    assert_eq!(settings.site.hosts, ["shop.example", "*.shop.example"]);
    assert!(settings.site.age);
    let rule = |path: &str, status, seconds| TtlRule {
        path: path.to_owned(),
        status,
        ttl: Duration::from_secs(seconds),
    };
    assert_eq!(settings.site.ttl, [rule("/blog", None, 3_600), rule("", Some(404), 0)]);
    assert_eq!(settings.origin.fastcgi, Some(Endpoint::Unix("/run/php.sock".into())));
    assert_eq!(settings.origin.keep_alive, Some(Duration::from_secs(1)));
    assert_eq!(settings.origin.params["*"]["MAGE_RUN_TYPE"], "store");
    assert_eq!(settings.origin.params["b2b.shop.example"]["MAGE_RUN_CODE"], "b2b");
    assert_eq!(settings.store.memory_bytes, 1 << 30);
    assert_eq!(settings.health.probe, Some(String::new()));
    assert_eq!(settings.log.access, AccessLog::File("/var/log/parvis.log".into()));
}

#[test]
fn the_environment_wins_and_its_lists_are_separated_by_commas() {
    let settings = load(
        "[store]\nmemory = \"1GiB\"\n[origin]\nhttp = \"127.0.0.1:1\"\n",
        &[
            ("PARVIS__STORE__MEMORY", "2GiB"),
            ("PARVIS__LISTEN__HTTP", "127.0.0.1:80, [::1]:80"),
            ("PARVIS__LISTEN__HEADERS_MAX", "7"),
            ("PARVIS__SITE__AGE", "true"),
            ("PARVIS__PURGE__ALLOW", ""),
            ("PARVIS__ORIGIN__HTTP", ""),
        ],
    )
    .expect("valid");
    assert_eq!(settings.store.memory_bytes, 2 << 30);
    assert_eq!(settings.listen.http.len(), 2);
    assert_eq!(settings.listen.headers_max, 7);
    assert!(settings.site.age);
    assert!(!settings.purge.allow.contains([127, 0, 0, 1].into()));
    assert_eq!(settings.origin.http, None);
}

#[test]
fn all_mistakes_are_reported_at_once_with_place_key_value_and_what_is_allowed() {
    let mistakes = mistakes(
        "[store]\nmemory = \"lots\"\n\n[listen]\nheaders_max = 0\nhttp = [\"localhost:80\"]\n\
         unknown_methods = \"drop\"\n[site]\nage = \"yes\"\n",
        &[("PARVIS__STORE__GRACE", "5")],
    );
    assert_eq!(
        mistakes,
        [
            "parvis.toml:2: store.memory = \"lots\": not a size; \
             allowed: a number with B, KiB, MiB or GiB, from 0B to 16384GiB",
            "parvis.toml:5: listen.headers_max = 0: out of range; \
             allowed: a whole number from 1 to 10000",
            "parvis.toml:6: listen.http = \"localhost:80\": no address (names are not resolved); \
             allowed: an IP address with a port such as 127.0.0.1:80 or [::1]:80, or unix:/path",
            "parvis.toml:7: listen.unknown_methods = \"drop\": none of these words; \
             allowed: refuse, pass",
            "parvis.toml:9: site.age = \"yes\": neither; allowed: true or false",
            "PARVIS__STORE__GRACE: store.grace = \"5\": not a duration; \
             allowed: a number with ms, s, min, h or days, from 0s to 365days",
        ]
    );
}

#[test]
fn a_variable_that_is_written_as_a_list_of_the_file_is_told_how_it_is_written() {
    let http = |value: &str| mistakes("", &[("PARVIS__LISTEN__HTTP", value)]);
    let allowed =
        "allowed: an IP address with a port such as 127.0.0.1:80 or [::1]:80, or unix:/path";
    assert_eq!(
        http("[\"127.0.0.1:80\", '[::1]:80']"),
        [format!(
            "PARVIS__LISTEN__HTTP: listen.http = \"[\\\"127.0.0.1:80\\\", '[::1]:80']\": \
             in a variable commas alone separate the parts of a list: \
             PARVIS__LISTEN__HTTP=127.0.0.1:80,[::1]:80; {allowed}"
        )]
    );
    let named = http("[\"localhost:80\", \"127.0.0.1:80\"]");
    assert_eq!(named.len(), 1);
    assert!(named[0].contains(": PARVIS__LISTEN__HTTP=127.0.0.1:80; allowed: "), "{named:?}");
    let none = http("[\"localhost:80\"]");
    assert!(none[0].contains(": PARVIS__LISTEN__HTTP=one,another; allowed: "), "{none:?}");
    let secret = mistakes("", &[("PARVIS__TRAFFIC__EARLIER_SECRETS", "[\"hidden\"]")]);
    assert!(!secret.join("").contains("hidden"), "{secret:?}");
    assert_eq!(
        http("[::1]"),
        [format!(
            "PARVIS__LISTEN__HTTP: listen.http = \"[::1]\": no address (names are not resolved); {allowed}"
        )]
    );
}

#[test]
fn unknown_names_suggest_the_nearest_known_one() {
    let mistakes = mistakes(
        "memory = \"1GiB\"\n[stroe]\nmemory = \"1GiB\"\n[listen]\nkeepalive = \"1s\"\n\
         grace = \"1s\"\nwxyz = 1\n[esii]\n",
        &[
            ("PARVIS__STORE__MEMROY", "1GiB"),
            ("PARVIS__STORE", "x"),
            ("PARVIS_LISTEN_HEAD_MAX", "1KiB"),
            ("PARVIS_STORE__GRACE", "1s"),
            // A container's link.
            ("PARVIS_PORT_6081_TCP", "tcp://10.0.0.1:6081"),
            ("HOME", "/root"),
        ],
    );
    assert_eq!(
        mistakes,
        [
            "parvis.toml:1: memory: unknown key; did you mean store.memory?",
            "parvis.toml:2: [stroe]: unknown section; did you mean [store]?",
            "parvis.toml:5: listen.keepalive: unknown key; did you mean listen.keep_alive?",
            "parvis.toml:6: listen.grace: unknown key; did you mean store.grace?",
            "parvis.toml:7: listen.wxyz: unknown key",
            "parvis.toml:8: [esii]: unknown section; did you mean [esi]?",
            "PARVIS_LISTEN_HEAD_MAX: listen.head_max: unknown variable; \
             did you mean PARVIS__LISTEN__HEAD_MAX?",
            "PARVIS_STORE__GRACE: store.grace: unknown variable; did you mean PARVIS__STORE__GRACE?",
            "PARVIS__STORE: store: is a section; its keys are to be set, one by one",
            "PARVIS__STORE__MEMROY: store.memroy: unknown variable; \
             did you mean PARVIS__STORE__MEMORY?",
        ]
    );
}

#[test]
fn a_syntax_error_names_file_and_line_but_does_not_quote_it() {
    assert_eq!(
        mistakes("[control]\ntoken = \"sesame\" x\n", &[]),
        ["parvis.toml:2: not valid TOML: unexpected key or value, expected newline, `#`"]
    );
    let missing = Settings::load(Some(Path::new("/nowhere/parvis.toml")), []);
    assert_eq!(
        missing.expect_err("missing").to_string(),
        "/nowhere/parvis.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_token_shows_in_no_mistake_and_no_debug_output() {
    let wrong = [
        "[control]\ntoken = \"sesame open\"\n",
        "[control]\ntoken = [\"sesame\"]\n",
        "[control]\ntokken = \"sesame\"\n",
        "[listen]\ntoken = \"sesame\"\n",
        "[control]\ntoken = \"sesame\n",
        "[control]\ntoken = sesame\n",
        "[origin.params.\"*\"]\nKEY = \"sesame\\n\"\n",
    ];
    for text in wrong {
        let mistakes = mistakes(text, &[]).join("\n");
        assert!(!mistakes.contains("sesame"), "{mistakes}");
    }
    let variables =
        [("PARVIS__CONTROL__TOKEN", "sesame open"), ("PARVIS__CONTROL__TOKN", "sesame")];
    let mistakes = mistakes("", &variables);
    assert_eq!(mistakes.len(), 2);
    assert!(!mistakes.join("\n").contains("sesame"), "{mistakes:?}");
    let settings = load("[control]\ntoken = \"sesame\"\n", &[]).expect("valid");
    assert_eq!(settings.control.token, "sesame");
    assert!(!format!("{settings:?}").contains("sesame"));
}

#[test]
fn php_fpms_status_and_kept_connections_exclude_each_other() {
    let mistakes = mistakes(
        "[site]\npolicy = \"generic\"\n[origin]\nfastcgi = \"127.0.0.1:9000\"\nroot = \"/\"\n\
         status = \"/status\"\nkeep_alive = \"1s\"\n",
        &[],
    );
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("excludes origin.keep_alive"), "{mistakes:?}");
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let conflicts = mistakes(
        r#"
        [listen]
        http = ["127.0.0.1:80", "127.0.0.1:6082"]
        https = ["127.0.0.1:80"]
        [tls]
        key = "/key.pem"
        [origin]
        http = "127.0.0.1:1"
        fastcgi = "127.0.0.1:9000"
        [store]
        grace = "4days"
        [health]
        threshold = 11
        "#,
        &[],
    );
    let without_place: Vec<_> =
        conflicts.iter().map(|line| line.split_once(": ").expect("has a place").1).collect();
    assert_eq!(
        without_place,
        [
            "listen.http = [\"127.0.0.1:80\", \"127.0.0.1:6082\"]: 127.0.0.1:6082 stands in \
             listen.http and again in listen.control",
            "listen.https = [\"127.0.0.1:80\"]: 127.0.0.1:80 stands in listen.http and again in \
             listen.https",
            "listen.https = [\"127.0.0.1:80\"]: needs tls.certificate, which is not set",
            "origin.fastcgi = \"127.0.0.1:9000\": excludes origin.http, which is also set",
            "origin.fastcgi = \"127.0.0.1:9000\": needs origin.root, Magento's pub directory, which \
             is not set",
            "store.grace = \"4days\": store.keep (3days) is less than store.grace (4days)",
            "health.threshold = 11: health.threshold (11) is more than health.window (10)",
        ]
    );
}

#[test]
fn a_wrong_value_makes_no_conflict_with_the_default_that_took_its_place() {
    let mistakes = mistakes("[store]\nkeep = \"1 day\"\ngrace = \"9dayz\"\n", &[]);
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
}

#[test]
fn fastcgi_needs_a_root_in_the_magento_policy_alone() {
    let fastcgi = "[origin]\nfastcgi = \"127.0.0.1:9000\"\n";
    assert_eq!(
        mistakes(fastcgi, &[]),
        ["parvis.toml:2: origin.fastcgi = \"127.0.0.1:9000\": needs origin.root, Magento's pub \
          directory, which is not set"]
    );
    load(fastcgi, &[("PARVIS__SITE__POLICY", "generic")]).expect("valid");
    load(fastcgi, &[("PARVIS__ORIGIN__ROOT", "/var/www/pub")]).expect("valid");
}

#[test]
fn tls_files_come_in_pairs() {
    let mistakes = mistakes("[tls]\nkey = \"/key.pem\"\n", &[]);
    assert_eq!(
        mistakes,
        ["parvis.toml:2: tls.key = \"/key.pem\": needs tls.certificate, which is not set"]
    );
}

#[test]
fn an_address_that_another_one_takes_in_is_named() {
    let taken = "[listen]\nhttp = [\"0.0.0.0:80\", \"127.0.0.1:80\"]\n";
    assert_eq!(
        mistakes(taken, &[]),
        [
            "parvis.toml:2: listen.http = [\"0.0.0.0:80\", \"127.0.0.1:80\"]: 127.0.0.1:80 in listen.http \
          and 0.0.0.0:80 in listen.http are one: 0.0.0.0 and [::] are all addresses of this machine"
        ]
    );
    load("[listen]\nhttp = [\"0.0.0.0:80\", \"[::]:80\", \"[::1]:81\"]\n", &[]).expect("valid");
}

#[test]
fn settings_of_php_stand_in_one_parameter_by_lines() {
    let given = |name| {
        let text = format!("[origin.params.\"*\"]\n{name} = \"memory_limit=2G\\nprecision=17\"\n");
        load(&text, &[]).is_ok()
    };
    assert_eq!(
        [given("PHP_VALUE"), given("PHP_ADMIN_VALUE"), given("MAGE_MODE")],
        [true, true, false]
    );
}

#[test]
fn a_free_port_may_be_asked_for_several_times() {
    load("[listen]\nhttp = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n", &[]).expect("valid");
}

#[test]
fn ttl_rules_are_checked_one_by_one() {
    let mistakes = mistakes(
        "[[site.ttl]]\npath = \"blog\"\nttl = \"1h\"\n\n[[site.ttl]]\nstatus = 99\ntl = \"1s\"\n",
        &[("PARVIS__SITE__TTL__PATH", "/")],
    );
    assert_eq!(
        mistakes,
        [
            "parvis.toml:2: site.ttl#1.path = \"blog\": no path; \
             allowed: a path that begins with / and has no query, or nothing",
            "parvis.toml:5: site.ttl#2: has no ttl",
            "parvis.toml:6: site.ttl#2.status = 99: out of range; \
             allowed: a whole number from 200 to 499",
            "parvis.toml:7: site.ttl#2.tl: unknown key; did you mean ttl?",
            "PARVIS__SITE__TTL__PATH: site.ttl.path: can be set in the file alone",
        ]
    );
}

#[test]
fn a_ttl_rule_is_for_whole_responses() {
    let mistakes = mistakes("[[site.ttl]]\nstatus = 206\nttl = \"1s\"\n", &[]);
    assert_eq!(
        mistakes,
        ["parvis.toml:2: site.ttl#1.status = 206: no whole response; \
          allowed: a whole number from 200 to 499, but for 206 and 304"]
    );
}

#[test]
fn parameters_are_for_whole_hosts() {
    let mistakes = mistakes(
        "[origin.params.\"*.shop.example\"]\nA = \"1\"\n[origin.params.\"shop.example:80\"]\n\
         [origin.params.\"shop.example\"]\n\"A B\" = \"1\"\nC = 1\n",
        &[],
    );
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    assert!(mistakes[0].starts_with("parvis.toml:1: origin.params.*.shop.example: no host's"));
    assert!(mistakes[3].starts_with("parvis.toml:6: origin.params.shop.example.C: no FastCGI"));
}

#[test]
fn tables_are_set_in_the_file_alone() {
    let variables = [
        ("PARVIS__ORIGIN__PARAMS", "x"),
        ("PARVIS__ORIGIN__PARAMS__X__MAGE_RUN_CODE", "b2b"),
        ("PARVIS__SITE__DESIGN_EXCEPTIONS", "a{1,2}"),
        ("PARVIS__SITE__TTL", "1h"),
    ];
    let mistakes = mistakes("", &variables);
    assert_eq!(mistakes.len(), 4);
    assert!(mistakes.iter().all(|mistake| mistake.ends_with("can be set in the file alone")));
}

#[test]
fn two_variables_for_one_key_are_a_mistake() {
    let variables = [("PARVIS__STORE__MEMORY", "1GiB"), ("PARVIS__store__memory", "2GiB")];
    assert_eq!(
        mistakes("", &variables),
        ["PARVIS__store__memory: store.memory: PARVIS__STORE__MEMORY sets the same key"]
    );
}

#[test]
fn lists_are_bounded() {
    let hosts: Vec<String> = (0..1_001).map(|at| format!("\"h{at}.example\"")).collect();
    let mistakes = mistakes(&format!("[site]\nhosts = [{}]\n", hosts.join(",")), &[]);
    assert!(mistakes[0].starts_with("parvis.toml:2: site.hosts: has 1001; allowed: a list of"));
}

#[test]
fn mistakes_of_this_machine_are_reported_with_the_others() {
    let directory = tempfile::tempdir().expect("creates");
    let path = directory.path().join("parvis.toml");
    let text = "[listen]\nheaders_max = 0\nbody_directory = \"/nowhere\"\n";
    std::fs::write(&path, text).expect("writes");
    let mistakes = Settings::load_for_this_machine(Some(&path), []).expect_err("two");
    let lines: Vec<_> = mistakes
        .iter()
        .filter(|mistake| mistake.key != "store.memory")
        .map(ToString::to_string)
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].ends_with(
        "parvis.toml:3: listen.body_directory = \"/nowhere\": /nowhere: No such file or directory \
         (os error 2)"
    ));
}

#[test]
fn the_key_of_each_setting_is_listed_once() {
    let keys = Settings::keys();
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), keys.len());
    assert!(keys.contains(&"origin.params") && keys.contains(&"site.ttl"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_value_of_any_type_makes_the_loader_panic(
        at in 0_usize..200,
        value in prop_oneof![
            Just("-1"), Just("0"), Just("1.5"), Just("true"), Just("\"\""), Just("\"\\u0000\""),
            Just("[]"), Just("[[]]"), Just("{}"), Just("{ a = {} }"), Just("[{}, 1]"),
            Just("1979-05-27"), Just("9223372036854775807"), Just("nan"),
        ],
    ) {
        let keys = Settings::keys();
        let key = keys[at % keys.len()];
        let _ = load(&format!("{key} = {value}\n"), &[]);
    }

    #[test]
    fn no_file_and_no_variable_make_the_loader_panic(text: String, name: String, value: String) {
        let _ = load(&text, &[(&format!("PARVIS__{name}"), &value)]);
    }
}

#[test]
fn sessions_that_do_not_go_together_are_refused() {
    let conflicts = mistakes(
        "[listen]\ncontrol = \"127.0.0.1:6379\"\n[sessions]\nlisten = \"127.0.0.1:6379\"\n\
         database = 16\ntrunks = 3\ntrunks_max = 2\nbuffers_max = \"8MiB\"\ncookies = []\n",
        &[("PARVIS__SESSIONS__PASSWORD", "x")],
    );
    let wrong: Vec<_> =
        conflicts.iter().map(|line| line.split(": ").nth(1).expect("has a key")).collect();
    assert_eq!(
        wrong,
        [
            "sessions.listen = \"127.0.0.1:6379\"",
            "sessions.database = 16",
            "sessions.trunks = 3",
            "sessions.buffers_max = \"8MiB\"",
            "sessions.cookies = []",
        ]
    );
    let held = |hold: &str| format!("[sessions]\norphan_after = \"3s\"\nhold_max = \"{hold}\"\n");
    assert!(load(&held("4s"), &[]).is_ok() && load(&held("0s"), &[]).is_ok());
    let late = mistakes(&held("3s"), &[]);
    assert!(
        late[0].contains("sessions.orphan_after (3s) is not below sessions.hold_max (3s)"),
        "{late:?}"
    );
    assert_eq!(
        mistakes("[sessions]\nlisten = \"0.0.0.0:6379\"\n", &[]),
        [
            "parvis.toml:2: sessions.listen = \"0.0.0.0:6379\": other machines reach this address, and \
          sessions are for PHP on this one; allowed: unix:/path, or an address of this machine alone \
          with a port, such as 127.0.0.1:6379, or nothing"
        ]
    );
}
