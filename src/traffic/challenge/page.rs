//! The page that solves the puzzle: one document, without anything from elsewhere.

use std::fmt::Write as _;

use bytes::Bytes;

use super::words::Words;
use crate::error_pages::{FRAMES, OWN_STYLE, source_of};

const MINER: &str = include_str!("miner.js");
const PAGE: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// What is the same in all pages.
pub(super) struct Page {
    script: String,
    style: String,
    /// `Content-Security-Policy` of the built-in page.
    policy: Bytes,
    /// That of a page of the shop, which may have styles and images of the shop.
    own_policy: Bytes,
    /// A link to whoever can help; empty: there is none.
    contact: String,
}

/// What differs from page to page.
pub(super) struct Facts<'a> {
    /// The signed puzzle.
    pub puzzle: &'a str,
    /// Zero bits that it asks for.
    pub difficulty: u8,
    /// For how long the browser keeps the pass.
    pub valid_seconds: u64,
    /// A form was sent, which has come to nobody.
    pub is_form: bool,
    /// The words.
    pub words: &'static Words,
}

impl Page {
    pub(super) fn new(contact: &str) -> Self {
        let script = without_comments(MINER) + &without_comments(PAGE);
        let style = without_comments(STYLE);
        let scripts = format!("script-src {}; worker-src blob:", source_of(&script));
        let policy = format!(
            "default-src 'none'; {scripts}; style-src {}; form-action 'none'; {FRAMES}",
            source_of(&style)
        );
        let own_policy = format!("default-src 'none'; {scripts}; {OWN_STYLE}; {FRAMES}");
        let shown = contact.split_once(':').map_or("", |(scheme, rest)| match scheme {
            "mailto" | "tel" => rest,
            _ => contact,
        });
        let contact = match contact {
            "" => String::new(),
            link => format!("<a href=\"{}\">{}</a>", escaped(link), escaped(shown)),
        };
        Self { script, style, policy: policy.into(), own_policy: own_policy.into(), contact }
    }

    /// The built-in page.
    pub(super) fn built_in(&self, facts: &Facts<'_>) -> (String, Bytes) {
        let Words { language, title, .. } = facts.words;
        let mut page = String::with_capacity(self.script.len() + self.style.len() + 2_048);
        page.push_str("<!DOCTYPE html>\n<html lang=\"");
        for part in [
            language,
            "\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <meta name=\"robots\" content=\"noindex\"><title>",
            title,
            "</title><style>",
            &self.style,
            "</style></head>\n<body><main><h1>",
            title,
            "</h1>\n",
        ] {
            page.push_str(part);
        }
        self.push_part(facts, &mut page);
        page.push_str("</main></body>\n</html>\n");
        (page, self.policy.clone())
    }

    /// A page of the shop: what is before and behind the place for the challenge.
    pub(super) fn own(&self, before: &str, after: &str, facts: &Facts<'_>) -> (String, Bytes) {
        let mut page =
            String::with_capacity(before.len() + after.len() + self.script.len() + 2_048);
        page.push_str(before);
        self.push_part(facts, &mut page);
        page.push_str(after);
        (page, self.own_policy.clone())
    }

    /// What solves the puzzle, and says how that goes.
    fn push_part(&self, facts: &Facts<'_>, out: &mut String) {
        let Facts { puzzle, difficulty, valid_seconds, is_form, words } = facts;
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "<div id=\"parvis\" lang=\"{}\" data-puzzle=\"{puzzle}\" data-bits=\"{difficulty}\" \
             data-seconds=\"{valid_seconds}\"{}",
            words.language,
            if *is_form { " data-sent" } else { "" },
        );
        for (name, text) in [
            ("working", words.working),
            ("slow", words.slow),
            ("done", words.done),
            ("cookies", words.cookies),
            ("stuck", words.stuck),
            ("form", words.form),
            ("again", words.again),
            ("back", words.back),
        ] {
            let _ = write!(out, " data-{name}=\"{text}\"");
        }
        for part in [
            ">\n<p role=\"status\"></p>\n<noscript><p>",
            words.script,
            "</p></noscript>\n<p><progress max=\"1\" value=\"0\" aria-label=\"",
            words.title,
            "\" hidden></progress></p>\n<p><button type=\"button\" hidden></button></p>\n",
        ] {
            out.push_str(part);
        }
        if !self.contact.is_empty() {
            for part in ["<p><small>", words.contact, " ", &self.contact, "</small></p>\n"] {
                out.push_str(part);
            }
        }
        for part in ["<script>", &self.script, "</script>\n</div>\n"] {
            out.push_str(part);
        }
    }
}

/// Without indentation and lines of comments, which are for who reads the source.
fn without_comments(source: &str) -> String {
    let lines = source.lines().map(str::trim_start);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Text as text of HTML, within quotes as well.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    fn facts() -> Facts<'static> {
        Facts {
            puzzle: "PUZZLE",
            difficulty: 18,
            valid_seconds: 86_400,
            is_form: false,
            words: words::of(&[]),
        }
    }

    fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
        let (_, rest) = text.split_once(before).expect(before);
        rest.split_once(after).expect(after).0
    }

    #[test]
    fn the_policy_allows_this_script_and_style_and_nothing_else() {
        let (page, policy) = Page::new("").built_in(&facts());
        let policy = String::from_utf8_lossy(&policy).into_owned();
        let script = between(&page, "<script>", "</script>");
        assert!(policy.contains(&format!("script-src {};", source_of(script))), "{policy}");
        let style = between(&page, "<style>", "</style>");
        assert!(policy.contains(&format!("style-src {};", source_of(style))), "{policy}");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_is_small() {
        let (page, _) = Page::new("").built_in(&facts());
        for word in ["src=", "href=", "@import", "url(", "http:", "fetch(", "<!--", "eval"] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("</script").count(), 1);
        assert!(page.len() < 12_000, "{} bytes", page.len());
    }

    #[test]
    fn a_contact_is_a_link_in_words() {
        let of = |contact| Page::new(contact).built_in(&facts()).0;
        assert!(
            of("mailto:help@shop.test")
                .contains("<a href=\"mailto:help@shop.test\">help@shop.test</a>")
        );
        assert!(
            of("https://help.test/?a=1&b")
                .contains("<a href=\"https://help.test/?a=1&amp;b\">https://help.test/")
        );
        assert!(!of("").contains("<small>"));
    }

    #[test]
    fn the_shops_own_page_has_its_own_head() {
        let own = Page::new("");
        let (page, policy) = own.own("<title>ours</title>", "<p>behind", &facts());
        assert!(page.starts_with("<title>ours</title><div id=\"parvis\""), "{page}");
        assert!(page.ends_with("</div>\n<p>behind"), "{page}");
        let policy = String::from_utf8_lossy(&policy).into_owned();
        assert!(
            policy.contains("img-src 'self'") && policy.contains(&source_of(&own.script)),
            "{policy}"
        );
    }
}
