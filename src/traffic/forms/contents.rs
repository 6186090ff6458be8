//! Which requests a budget counts, where its rule says so by what they bring.

use std::cell::OnceCell;

use super::graphql::{COUNT_MAX, Documents};
use super::{CONTENT_MAX_BYTES, Named, account, essence};
use crate::policy::matching::AnyText;
use crate::settings::LimitRule;

/// What has to stand in the content of requests that are counted.
#[derive(Clone, Debug)]
pub struct Contents {
    forms: Vec<String>,
    operations: Vec<String>,
    /// Finds one of them, also where the `n` of an escaped line break stands before it.
    words: AnyText,
}

/// The content of a request, which is taken apart once for all rules that ask what it brings.
pub struct Reading<'a> {
    content_type: Option<&'a [u8]>,
    /// All of it; `None`: it cannot be read, or is longer than [`CONTENT_MAX_BYTES`].
    content: Option<&'a [u8]>,
    documents: OnceCell<Option<Documents>>,
}

impl<'a> Reading<'a> {
    /// `content`: all of it; `None`: it cannot be read.
    pub fn new(content_type: Option<&'a [u8]>, content: Option<&'a [u8]>) -> Self {
        let content = content.filter(|content| content.len() <= CONTENT_MAX_BYTES);
        Self { content_type, content, documents: OnceCell::new() }
    }

    /// The account that a field of it names.
    pub fn account(&self, field: &str) -> Named {
        self.content.map_or(Named::Unreadable, |content| account(field, self.content_type, content))
    }
}

impl Contents {
    /// Of a rule; `None`: it counts whatever is brought.
    pub fn of(rule: &LimitRule) -> Option<Self> {
        let counts_all = rule.forms.is_empty() && rule.operations.is_empty();
        (!counts_all).then(|| Self {
            forms: rule.forms.clone(),
            operations: rule.operations.clone(),
            words: AnyText::new(&rule.operations),
        })
    }

    /// For how many such a request counts: for each operation that it asks for. What cannot be read counts once, but for an
    /// upload: those of a shop's staff are many and long.
    pub fn count_in(&self, reading: &Reading<'_>) -> u32 {
        let Reading { content_type, content, .. } = *reading;
        let fills = |field: &String| match essence(content_type).as_slice() {
            b"application/x-www-form-urlencoded" => {
                content.is_none_or(|content| is_filled(field, content_type, content))
            }
            b"multipart/form-data" => {
                content.is_some_and(|content| is_filled(field, content_type, content))
            }
            // PHP makes no form of anything else.
            _ => false,
        };
        let operations = match content {
            _ if self.operations.is_empty() => 0,
            Some(content) => self.operations_in(content, &reading.documents),
            None => 1,
        };
        let filled = usize::from(self.forms.iter().any(fills));
        u32::try_from(operations.max(filled)).unwrap_or(u32::MAX)
    }

    /// How often a GraphQL request asks for one of the operations; of what is none its words count. Nobody writes letters as
    /// JSON's escapes but to hide them.
    fn operations_in(&self, content: &[u8], documents: &OnceCell<Option<Documents>>) -> usize {
        let hides = has_escaped_letters(content);
        if !hides && !self.words.is_in(content) {
            return 0;
        }
        let count = match documents.get_or_init(|| Documents::of(content)) {
            Some(documents) => documents.count(&self.operations),
            None => self.words.count(content).max(usize::from(hides)),
        };
        count.min(COUNT_MAX)
    }
}

fn is_filled(field: &str, content_type: Option<&[u8]>, content: &[u8]) -> bool {
    account(field, content_type, content) != Named::Nobody
}

/// `\u0040` to `\u007f`: letters and `_`, without which there is no name.
fn has_escaped_letters(content: &[u8]) -> bool {
    let escapes = memchr::memmem::find_iter(content, b"\\u00");
    let mut digits = escapes.filter_map(|at| content.get(at + 4).copied());
    digits.any(|digit| (b'4'..=b'7').contains(&digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Option<&[u8]> = Some(b"application/x-www-form-urlencoded; charset=utf-8");
    const JSON: Option<&[u8]> = Some(b"application/json");
    const UPLOAD: Option<&[u8]> = Some(b"multipart/form-data; boundary=x");

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    impl Contents {
        fn are_in(&self, content_type: Option<&[u8]>, content: Option<&[u8]>) -> bool {
            self.count_in(&Reading::new(content_type, content)) > 0
        }
    }

    #[test]
    fn a_form_is_counted_where_the_field_is_filled_in() {
        let rule = LimitRule { forms: texts(&["login[username]"]), ..LimitRule::default() };
        let contents = Contents::of(&rule).expect("asks for something");
        for (content_type, content) in [
            (FORM, &b"a=1&login[username]=admin&login[password]=x"[..]),
            (FORM, b"login%5Busername%5D=admin"),
            (FORM, b"+login[username]x=admin"),
            (
                UPLOAD,
                b"--x\r\nContent-Disposition: form-data; name=\"login[username]\"\r\n\r\nadmin\r\n--x--\r\n",
            ),
        ] {
            assert!(contents.are_in(content_type, Some(content)), "{}", content.escape_ascii());
        }
        for (content_type, content) in [
            (FORM, &b"a=1&login[usernames]=admin"[..]),
            (FORM, b"login[username]="),
            (FORM, b""),
            (JSON, b"{\"login[username]\":1}"),
            (None, b"login[username]=admin"),
        ] {
            assert!(!contents.are_in(content_type, Some(content)), "{}", content.escape_ascii());
        }
        assert!(contents.are_in(FORM, None), "what is too long may hide it");
        assert!(!contents.are_in(UPLOAD, None), "but for uploads");
    }

    #[test]
    fn graphql_is_counted_where_it_names_the_operation() {
        let rule = LimitRule { operations: texts(&["placeOrder"]), ..LimitRule::default() };
        let contents = Contents::of(&rule).expect("asks for something");
        let is_in = |content: &str| contents.are_in(JSON, Some(content.as_bytes()));
        assert!(is_in("{\"query\":\"mutation{a:placeOrder(input:{cart_id:1}){order{n}}}\"}"));
        assert!(is_in("{\"query\":\"mutation{pl\\u0061ceOrder}\"}"), "hidden");
        assert!(is_in("{\"query\":\"mutation{\\nplaceOrder}\"}"), "behind a line break");
        assert!(!is_in(
            "{\"query\":\"{replaceOrder products(search:\\\"M\\u00fcller \\u003c\\\")}\"}"
        ));
        assert!(!is_in(""));
        assert!(
            !is_in("{\"query\":\"{a}\",\"variables\":{\"b\":\"placeOrder\"}}"),
            "not asked for"
        );
        let count =
            |content: &str| contents.count_in(&Reading::new(JSON, Some(content.as_bytes())));
        assert_eq!(count("{\"query\":\"mutation{a:placeOrder b:placeOrder c:d}\"}"), 2);
        assert_eq!(
            count("{\"query\":\"mutation{a:placeOrder b:placeOrder"),
            2,
            "no JSON: by its words"
        );
        let many = "placeOrder ".repeat(4_000);
        assert_eq!(count(&format!("{{\"query\":\"{{{many}}}\"}}")), 1_000);
        assert!(contents.are_in(JSON, None));
        assert!(Contents::of(&LimitRule::default()).is_none());
    }
    proptest::proptest! {
        /// Whatever stands before it, broken or whole.
        #[test]
        fn one_operation_more_counts_as_one_more(
            words in proptest::collection::vec(
                "[{}():@#\"$a\\\\\n.]|\"\"\"| |placeOrder|a: placeOrder",
                0..40,
            ),
        ) {
            let rule = LimitRule { operations: texts(&["placeOrder"]), ..LimitRule::default() };
            let contents = Contents::of(&rule).expect("asks for something");
            let count = |document: &str| {
                let content = serde_json::json!({ "query": document }).to_string();
                contents.count_in(&Reading::new(JSON, Some(content.as_bytes())))
            };
            let document = words.concat();
            let more = count(&format!("{document}\n{{x:placeOrder}}"));
            proptest::prop_assert_eq!(more, count(&document) + 1);
        }
    }
}
