//! Which requests a budget counts, where its rule says so by what they bring.

use super::{CONTENT_MAX_BYTES, Named, account, essence};
use crate::policy::matching::AnyText;
use crate::settings::LimitRule;

/// What has to stand in the content of requests that are counted.
#[derive(Clone, Debug)]
pub struct Contents {
    forms: Vec<String>,
    operations: AnyText,
}

impl Contents {
    /// Of a rule; `None`: it counts whatever is brought.
    pub fn of(rule: &LimitRule) -> Option<Self> {
        let counts_all = rule.forms.is_empty() && rule.operations.is_empty();
        (!counts_all).then(|| Self {
            forms: rule.forms.clone(),
            operations: AnyText::words(&rule.operations),
        })
    }

    /// Is such a request counted? `content`: all of it; `None`: it cannot be read, or is longer than
    /// [`CONTENT_MAX_BYTES`]. What cannot be read is counted, but for an upload: those of a shop's staff are many and long.
    pub fn are_in(&self, content_type: Option<&[u8]>, content: Option<&[u8]>) -> bool {
        let content = content.filter(|content| content.len() <= CONTENT_MAX_BYTES);
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
        self.forms.iter().any(fills)
            || (!self.operations.is_none() && content.is_none_or(|content| self.names(content)))
    }

    /// Does a GraphQL request name an operation? Nobody writes letters as JSON's escapes but to hide them.
    fn names(&self, content: &[u8]) -> bool {
        self.operations.is_in(content) || has_escaped_letters(content)
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
        assert!(!is_in(
            "{\"query\":\"{replaceOrder products(search:\\\"M\\u00fcller \\u003c\\\")}\"}"
        ));
        assert!(!is_in(""));
        assert!(contents.are_in(JSON, None));
        assert!(Contents::of(&LimitRule::default()).is_none());
    }
}
