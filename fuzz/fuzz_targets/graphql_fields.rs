//! How often a GraphQL document of any text asks for an operation.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use parvis::settings::LimitRule;
use parvis::traffic::forms::{CONTENT_MAX_BYTES, Contents, Reading};

const OPERATION: &str = "placeOrder";

/// As JSON has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            // Four digits of which none is a letter's.
            '\0'..' ' => {
                let _ = write!(quoted, "\\u{:04x}", letter as u32);
            }
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}

fuzz_target!(|document: &str| {
    let rule = LimitRule { operations: vec![OPERATION.to_owned()], ..LimitRule::default() };
    let contents = Contents::of(&rule).expect("it asks for something");
    let count = |document: &str| {
        let content = format!("{{\"query\":{}}}", quoted(document));
        let content = content.as_bytes();
        assert!(content.len() <= CONTENT_MAX_BYTES || document.len() > 10_000);
        contents.count_in(&Reading::new(None, Some(content)))
    };
    let _ = contents.count_in(&Reading::new(None, Some(document.as_bytes())));
    // What looks like an escaped letter counts, should it be no GraphQL.
    if document.len() > 10_000 || document.contains("\\u00") {
        return;
    }
    let words = document.to_ascii_lowercase().matches("placeorder").count();
    let own = count(document);
    assert!(own as usize <= words, "{own} of {words}");
    // Whatever stands before it, one more counts as one more, under any alias.
    let more = count(&format!("{document}\n{{x:placeOrder}}"));
    assert_eq!(more, (own + 1).min(1_000));
});
