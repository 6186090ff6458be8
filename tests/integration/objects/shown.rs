//! `parvis objects`: what an operator sees of the cache.

use std::process::{Command, Output};

use super::Kept;
use crate::support::Parvis;

fn objects(parvis: &Parvis, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_parvis"))
        .arg("objects")
        .args(arguments)
        .args(["--control", &format!("127.0.0.1:{}", parvis.control)])
        .output()
        .expect("it runs")
}

fn said(parvis: &Parvis, arguments: &[&str]) -> String {
    let output = objects(parvis, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn refused(parvis: &Parvis, arguments: &[&str]) -> String {
    let output = objects(parvis, arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn filled() -> Kept {
    let kept = Kept::start(&[]);
    let mut connection = kept.connect();
    connection.say("SELECT 1");
    for at in 0..50 {
        let value = "x".repeat(at * 100);
        connection.ask(&["HMSET", &format!("zc:k:{at}"), "d", &value, "t", "CAT,FPC"]);
        connection.say(&format!("SADD zc:ti:FPC {at}"));
    }
    connection.say("EXPIRE zc:k:3 1000");
    connection.say("SADD zc:ti:CAT 1");
    connection.ask(&[&b"SET"[..], b"odd\n\xff key", b"\x1b[2Jvalue"]);
    connection.say("HGET zc:k:1 d");
    connection.say("HGET zc:k:none d");
    kept
}

#[test]
fn numbers_are_shown_as_a_whole_and_by_database() {
    let kept = filled();
    let text = said(&kept.parvis, &["stats"]);
    assert!(text.contains("1 found what they asked for, 1 did not: 50.0 % hits."), "{text}");
    let row: Vec<&str> = text.lines().last().expect("a row").split_whitespace().collect();
    assert_eq!(row[..4], ["1", "53", "2", "1"], "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&said(&kept.parvis, &["stats", "--json"])).expect("JSON");
    assert_eq!((&json["databases"][0]["keys"], &json["clients"]), (&53.into(), &0.into()));
}

#[test]
fn what_takes_most_is_listed_and_a_key_is_shown_as_it_was_listed() {
    let kept = filled();
    let text = said(&kept.parvis, &["top", "--count", "2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("LARGEST VALUES") && lines.len() == 6, "{text}");
    assert!(lines[1].ends_with("zc:k:49") && lines[2].ends_with("zc:k:48"), "{text}");
    assert!(lines[4].ends_with("zc:ti:FPC") && lines[5].ends_with("zc:ti:CAT"), "{text}");
    assert_eq!(said(&kept.parvis, &["top", "-d", "0"]), "Nothing is kept.\n");
    let text = said(&kept.parvis, &["top", "-d", "1", "-n", "1000"]);
    assert!(text.contains(r"odd\n\xff key"), "{text}");
    let text = said(&kept.parvis, &["get", r"odd\n\xff key", "-d", "1"]);
    assert!(text.contains("type      string, 9 bytes\n"), "{text}");
    assert!(text.ends_with("\\u{1b}[2Jvalue\n"), "{text}");
    let text = said(&kept.parvis, &["get", "zc:k:49", "-d", "1"]);
    assert!(text.contains("type      hash, 2 fields\n") && text.contains("--full"), "{text}");
    let text = said(&kept.parvis, &["get", "zc:k:3", "-d", "1", "--full"]);
    assert!(text.contains("tags      CAT,FPC\n") && text.contains(&"x".repeat(300)), "{text}");
    assert!(text.contains("ttl       9") && !text.contains("--full"), "{text}");
    // None of that was a look of PHP's.
    assert!(said(&kept.parvis, &["stats"]).contains("1 found what they asked for, 1 did not"));
}

#[test]
fn what_cannot_be_shown_says_why() {
    let kept = filled();
    let text = refused(&kept.parvis, &["get", "zc:k:3"]);
    let words = "there is no key zc:k:3 in database 0; there is one in database 1";
    assert!(text.contains(words), "{text}");
    let text = refused(&kept.parvis, &["top", "-d", "16"]);
    assert!(text.contains("there is no database 16: objects.databases says 0 to 15"), "{text}");
    let without = Parvis::before_http(1).start();
    let text = refused(&without, &["stats"]);
    assert!(text.contains("objects.listen is not set"), "{text}");
}
