use proptest::prelude::*;

use super::*;

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=----WebKitFormBoundaryx1";

fn of(content_type: &str, content: &[u8]) -> Named {
    account("login[username]", Some(content_type.as_bytes()), content)
}

fn named(account: &str) -> Named {
    Named::Account(account.to_owned())
}

/// What a browser sends.
fn multipart(fields: &[(&str, &str)]) -> String {
    let parts = fields.iter().map(|(name, value)| {
        format!(
            "------WebKitFormBoundaryx1\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    });
    parts.collect::<String>() + "------WebKitFormBoundaryx1--\r\n"
}

#[test]
fn a_login_names_its_account() {
    let login =
        b"form_key=x&login%5Busername%5D=+Jane%2Bshop%40example.com%20&login%5Bpassword%5D=y&send=";
    assert_eq!(of(FORM, login), named("jane+shop@example.com"));
    assert_eq!(
        of("Application/X-WWW-form-urlencoded;charset=utf-8", login),
        named("jane+shop@example.com")
    );
    let fields =
        [("form_key", "x"), ("login[username]", "JANE@example.com\t"), ("login[password]", "y")];
    assert_eq!(of(MULTIPART, multipart(&fields).as_bytes()), named("jane@example.com"));
    let rest = br#"{"username": "Jane@example.com", "password": "y"}"#;
    assert_eq!(
        account("username", Some(b"application/json; charset=utf-8"), rest),
        named("jane@example.com")
    );
    let nested = br#"{"login": {"username": "Jane"}}"#;
    assert_eq!(of("application/json", nested), named("jane"));
}

#[test]
fn content_without_the_field_is_about_nobody() {
    for content in [
        "",
        "a=b",
        "login=x",
        "login%5Busername%5D=",
        "login[username]=+%00",
        "login[username][]=x",
    ] {
        assert_eq!(of(FORM, content.as_bytes()), Named::Nobody, "{content}");
    }
    assert_eq!(of(MULTIPART, multipart(&[("other", "x")]).as_bytes()), Named::Nobody);
    assert_eq!(of("application/json", b"{}"), Named::Nobody);
    assert_eq!(of("application/json", br#"{"login": {"username": null}}"#), Named::Nobody);
    assert_eq!(account("x", None, b""), Named::Nobody);
}

#[test]
fn of_several_values_the_one_counts_that_php_has() {
    for content in [
        "login[username]=other&login[username]=jane",
        "login[username]=other&+login[username]x=jane",
        "login[username]=other&login%5busername%5d%00=jane",
        "login[username]=jane&login[username=other&login[user.name]=other",
        "login[username]=jane&&&login.username=other",
    ] {
        assert_eq!(of(FORM, content.as_bytes()), named("jane"), "{content}");
    }
    let twice = multipart(&[("login[username]", "other"), (" login[username]x", "jane")]);
    assert_eq!(of(MULTIPART, twice.as_bytes()), named("jane"));
    let json = br#"{"login": {"username": "other", "username": "jane"}}"#;
    assert_eq!(of("application/json", json), named("jane"));
}

#[test]
fn what_two_readers_may_read_in_two_ways_is_unreadable() {
    for (content_type, content) in [
        ("text/xml", "<login/>"),
        ("", "login[username]=jane"),
        ("application/json", "{\"login\": "),
        ("application/json", "{\"login\": {\"username\": 17}}"),
        (FORM, "login[username]=j%C3%A4ne"),
        (FORM, "login[username]=ja%00ne"),
        (FORM, "login[username]=%ff"),
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=a; boundary=b", "--a--"),
        ("multipart/form-data; boundary=a", "preamble\r\n--a--"),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--a--rest",
        ),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\n--a--",
        ),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1\r\n--ab--",
        ),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n--a--",
        ),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\"; name=\"y\"\r\n\r\n1\r\n--a--",
        ),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\\\"\"\r\n\r\n1\r\n--a--",
        ),
        ("multipart/form-data; boundary=a", "--a\r\n\r\n1\r\n--a--"),
        (
            "multipart/form-data; boundary=a",
            "--a\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n1",
        ),
    ] {
        assert_eq!(
            of(content_type, content.as_bytes()),
            Named::Unreadable,
            "{content_type}: {content}"
        );
    }
}

#[test]
fn more_than_is_read_is_unreadable() {
    let many = "a=b&".repeat(FIELDS_MAX) + "login[username]=jane";
    assert_eq!(of(FORM, many.as_bytes()), Named::Unreadable);
    let few = "a=b&".repeat(FIELDS_MAX - 1) + "login[username]=jane";
    assert_eq!(of(FORM, few.as_bytes()), named("jane"));
    let fields = vec![("a", "b"); FIELDS_MAX + 1];
    assert_eq!(of(MULTIPART, multipart(&fields).as_bytes()), Named::Unreadable);
    let large = format!("a={}&login[username]=jane", "x".repeat(CONTENT_MAX_BYTES));
    assert_eq!(of(FORM, large.as_bytes()), Named::Unreadable);
}

#[test]
fn a_file_is_passed_over() {
    let text = "--a\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\
                \x01\r\n\x02\r\n--a\r\ncontent-disposition: form-data; name=\"login[username]\"\r\n\r\njane\r\n--a--\r\n";
    assert_eq!(of("multipart/form-data; boundary=\"a\"", text.as_bytes()), named("jane"));
}

#[test]
fn nobody_reads_an_account_out_of_a_message() {
    assert_eq!(format!("{:?}", named("jane")), "Account");
}

proptest! {
    #[test]
    fn anything_is_read(content: Vec<u8>, kind in 0_usize..4) {
        let kind = [FORM, "multipart/form-data; boundary=a", "application/json", "x"][kind];
        let _ = of(kind, &content);
    }

    /// However a browser writes it, and whatever else is in the form.
    #[test]
    fn all_ways_to_send_an_account_name_the_same(
        account in "[a-z0-9.+@ -]{0,30}",
        others in prop::collection::vec(("[a-z]{1,5}", "[a-zA-Z0-9 \r\n-]{0,20}"), 0..5),
        at in 0_usize..5,
    ) {
        let mut fields: Vec<(&str, &str)> =
            others.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let upper = account.to_uppercase();
        fields.insert(at.min(fields.len()), ("login[username]", &upper));
        let escaped = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        let form: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{}={}", escaped(name), escaped(value)))
            .collect();
        let trimmed = account.trim();
        let expected = if trimmed.is_empty() { Named::Nobody } else { named(trimmed) };
        prop_assert_eq!(of(FORM, form.join("&").as_bytes()), expected.clone());
        prop_assert_eq!(of(MULTIPART, multipart(&fields).as_bytes()), expected.clone());
        let json = serde_json::json!({ "login": { "username": upper } }).to_string();
        prop_assert_eq!(of("application/json", json.as_bytes()), expected);
    }
}
