//! GraphQL requests: which fields their documents ask for, and how often.
//!
//! No parser, only what a lexer sees (GraphQL, October 2021, section 2): a name in a selection set that is neither an alias nor a
//! directive is a field, wherever it stands, under whichever alias, also within a fragment. So a document carries out
//! no field more often than it is found here. What is no GraphQL is said to be none, and its words are counted.

use std::ops::Range;

use serde_json::Value as Json;

/// Fields that are counted of one operation; no budget holds more.
pub(super) const COUNT_MAX: usize = 1_000;

/// The documents of a request, and where in them names of fields stand.
pub(super) struct Documents(Vec<(String, Vec<Range<usize>>)>);

impl Documents {
    /// Of a request as Magento reads it, whatever its type, or of a list of such. `None`: it is none, or cannot be told.
    pub(super) fn of(content: &[u8]) -> Option<Self> {
        let json = serde_json::from_slice::<Json>(content).ok()?;
        let requests = match json {
            Json::Array(requests) => requests,
            request => vec![request],
        };
        let document = |request: Json| match request {
            Json::Object(mut members) => match members.remove("query") {
                Some(Json::String(text)) => fields(&text).map(|fields| (text, fields)),
                _ => None,
            },
            _ => None,
        };
        let documents: Option<Vec<_>> = requests.into_iter().map(document).collect();
        documents.filter(|documents| !documents.is_empty()).map(Self)
    }

    /// How often they ask for one of these fields.
    pub(super) fn count(&self, names: &[String]) -> usize {
        let is_one = |name: &str| names.iter().any(|own| own == name);
        let asked = self
            .0
            .iter()
            .flat_map(|(text, fields)| fields.iter().filter_map(|field| text.get(field.clone())));
        asked.filter(|name| is_one(name)).count()
    }
}

/// Where names of fields stand; `None`: it is no GraphQL.
fn fields(text: &str) -> Option<Vec<Range<usize>>> {
    let bytes = text.as_bytes();
    let (mut at, mut fields) = (0, Vec::new());
    // How deep it is in selection sets, and in arguments, whose objects have braces, too.
    let (mut selections, mut arguments) = (0_usize, 0_usize);
    let mut before = b' ';
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        let length = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += rest.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(rest.len());
                continue;
            }
            b'"' => string_length(rest)?,
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => {
                let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_';
                let length = rest.iter().take_while(is_part).count();
                if selections > 0 && arguments == 0 && before != b'@' {
                    fields.push(at..at + length);
                }
                length
            }
            _ => 1,
        };
        match byte {
            b'{' if arguments == 0 => selections += 1,
            b'}' if arguments == 0 => selections = selections.checked_sub(1)?,
            b'(' => arguments += 1,
            b')' => arguments = arguments.checked_sub(1)?,
            // What stood before it is an alias.
            b':' if selections > 0 && arguments == 0 => {
                fields.pop()?;
            }
            _ if byte.is_ascii_graphic() => {}
            // A mark of the byte order may stand anywhere.
            0xef | 0xbb | 0xbf => {}
            _ => return None,
        }
        before = byte;
        at += length;
    }
    let is_whole = selections == 0 && arguments == 0;
    is_whole.then_some(fields)
}

/// Bytes of a string at the beginning of a text, with its quotes; `None`: it does not end.
fn string_length(text: &[u8]) -> Option<usize> {
    const BLOCK: &[u8] = b"\"\"\"";
    let is_block = text.starts_with(BLOCK);
    let mut at = if is_block { BLOCK.len() } else { 1 };
    loop {
        let rest = text.get(at..)?;
        match rest.first()? {
            b'\\' if is_block => at += if rest[1..].starts_with(BLOCK) { 4 } else { 1 },
            b'\\' => at += 2,
            b'"' if !is_block => return Some(at + 1),
            b'"' if rest.starts_with(BLOCK) => return Some(at + BLOCK.len()),
            b'\r' | b'\n' if !is_block => return None,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Option<Vec<&str>> {
        fields(text).map(|fields| fields.into_iter().map(|field| &text[field]).collect())
    }

    fn count(content: &str) -> Option<usize> {
        let documents = Documents::of(content.as_bytes())?;
        Some(
            documents.count(&["placeOrder".to_owned(), "setPaymentMethodAndPlaceOrder".to_owned()]),
        )
    }

    #[test]
    fn fields_are_the_names_in_selection_sets() {
        for (text, fields) in [
            ("", &[][..]),
            ("{a b,c}", &["a", "b", "c"]),
            ("mutation placeOrder($placeOrder: Int = 1) @b { c }", &["c"]),
            ("{ a : placeOrder (x: {placeOrder: placeOrder}) { n } }", &["placeOrder", "n"]),
            ("{ placeOrder: other }", &["other"]),
            ("{ a @include(if: true) b @placeOrder c }", &["a", "b", "c"]),
            ("{ a # placeOrder }\n b }", &["a", "b"]),
            (
                "{ a(x: \"placeOrder } \\\" {\", y: \"\"\"a \\\"\"\" placeOrder \" \"\"\") b }",
                &["a", "b"],
            ),
            ("{ a(x: \"\") b(y: \"\"\"\"\"\") c }", &["a", "b", "c"]),
            ("{ ... on A { b } ...C } fragment C on D { e }", &["on", "A", "b", "C", "e"]),
            ("{a(x:-1.5e3,y:[1,{z:$v}],w:E)b}", &["a", "b"]),
            ("\u{feff}{a}", &["a"]),
        ] {
            assert_eq!(names(text).as_deref(), Some(fields), "{text}");
        }
        for text in
            ["}", "{ a) }", "{ a(x: \"b) }", "{ \u{e4} }", "{ : a }", "{ a(x: \"\n\") }", "{ \0 }"]
        {
            assert_eq!(names(text), None, "{text}");
        }
    }

    #[test]
    fn each_alias_counts_and_nothing_else_does() {
        for (content, expected) in [
            (r#"{"query":"mutation{a:placeOrder(i:1){n} b:placeOrder(i:2){n}}"}"#, Some(2)),
            (
                r#"{"query":"{x} mutation M{y{z} ...F} fragment F on Mutation{placeOrder}"}"#,
                Some(1),
            ),
            (r#"{"query":"mutation{pl\u0061ceOrder}","operationName":"placeOrder"}"#, Some(1)),
            (r#"{"query":"{a}","query":"mutation{placeOrder}"}"#, Some(1)),
            (r#"{"query":"{replaceOrder(placeOrder:1)}","variables":{"a":"placeOrder"}}"#, Some(0)),
            (r#"[{"query":"mutation{placeOrder}"},{"query":"mutation{placeOrder}"}]"#, Some(2)),
            (r#"{"query":7}"#, None),
            (r#"{"id":"placeOrder"}"#, None),
            ("[]", None),
            ("placeOrder", None),
        ] {
            assert_eq!(count(content), expected, "{content}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            let _ = fields(&text);
        }

        #[test]
        fn any_words_of_graphql_are_read(words in prop::collection::vec("[{}():@#\"$a\\\\\n.]|\"\"\"| |on", 0..40)) {
            let text = words.concat();
            for field in fields(&text).unwrap_or_default() {
                prop_assert!(!text[field].is_empty());
            }
        }

        /// Whatever stands between them.
        #[test]
        fn as_many_count_as_are_asked_for(
            parts in prop::collection::vec((0_usize..7, "[a-z]{1,4}"), 0..20),
        ) {
            let mut text = "mutation placeOrder($placeOrder: String = \"placeOrder\") {".to_owned();
            let mut expected = 0;
            for (kind, word) in &parts {
                let (part, count) = match kind {
                    0 => (format!("{word}: placeOrder(input: {{a: \"{word}\"}}) {{ n }}"), 1),
                    1 => ("placeOrder".to_owned(), 1),
                    2 => (format!("# placeOrder {word}\n"), 0),
                    3 => (format!("{word}(placeOrder: \"\"\"placeOrder \" {word}\"\"\")"), 0),
                    4 => (format!("placeOrder: {word}"), 0),
                    5 => (format!("... on Mutation {{ x{word}: placeOrder }}"), 1),
                    _ => (format!("{word} @placeOrder(if: $placeOrder)"), 0),
                };
                text.push_str(&part);
                text.push(' ');
                expected += count;
            }
            text.push('}');
            let content = serde_json::json!({ "query": text, "operationName": "placeOrder" });
            prop_assert_eq!(count(&content.to_string()), Some(expected));
        }
    }
}
