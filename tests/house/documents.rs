//! The documents say what the code does.

use parvis::reason::Reason;

#[test]
fn architecture_lists_each_reason() {
    let text = include_str!("../../ARCHITECTURE.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(text.contains(&row), "ARCHITECTURE.md does not explain {}", reason.as_str());
    }
}

#[test]
fn architecture_names_each_difference_that_the_corpus_test_allows() {
    let text = include_str!("../../ARCHITECTURE.md");
    for name in ["100-bogus-vary-cookie", "104-setup-404", "86-rest-product-admin"] {
        assert!(text.contains(name), "{name}");
    }
}
