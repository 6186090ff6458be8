use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { includes_max: 4, tag_max_bytes: 200 };

fn parse(pieces: &[&[u8]], limits: Limits) -> (Vec<Event>, usize) {
    let mut parser = Parser::new(limits);
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(&Bytes::copy_from_slice(piece), &mut events);
        assert!(parser.held.len() <= limits.tag_max_bytes.max(13), "what is held is bounded");
    }
    parser.end(&mut events);
    (merge(events), parser.includes_dropped())
}

fn merge(events: Vec<Event>) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    for event in events {
        match (merged.last_mut(), event) {
            (Some(Event::Literal(before)), Event::Literal(bytes)) => {
                *before = [&before[..], &bytes[..]].concat().into();
            }
            (_, event) => merged.push(event),
        }
    }
    merged
}

/// The events as text, includes as `{source}`.
fn shown(text: &str) -> String {
    shown_within(text, LIMITS)
}

fn shown_within(text: &str, limits: Limits) -> String {
    let (events, _) = parse(&[text.as_bytes()], limits);
    events
        .iter()
        .map(|event| match event {
            Event::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Event::Include(include) => {
                format!("{{{}}}", String::from_utf8_lossy(&include.source))
            }
        })
        .collect()
}

#[test]
fn includes_are_found_in_all_their_forms() {
    assert_eq!(shown(r#"a<esi:include src="/m" />b"#), "a{/m}b");
    assert_eq!(shown(r"a<esi:include src='/m'/>b"), "a{/m}b");
    assert_eq!(shown(r#"a<esi:include src="/m"></esi:include >b"#), "a{/m}b");
    assert_eq!(shown(r#"a<esi:include src="/m">b"#), "a{/m}b");
    assert_eq!(
        shown("a<esi:include\n\talt='x'\r\n src = \"/m?a=1&amp;b=>2\"\n/>b"),
        "a{/m?a=1&b=>2}b"
    );
    assert_eq!(
        shown(r#"<script>"<esi:include src="/m"/>"</script>"#),
        r#"<script>"{/m}"</script>"#
    );
    assert_eq!(shown(r#"<<esi:include src="/m"/>>"#), "<{/m}>");
}

#[test]
fn the_tag_that_magento_writes_is_found() {
    let source = "http://shop.test/page_cache/block/esi/blocks/%5B%22catalog.topnav%22%5D/handles/\
                  WyJkZWZhdWx0IiwiY21zX3BhZ2VfdmlldyJd/";
    let page = format!("<div class=\"nav\"><esi:include src=\"{source}\" /></div>");
    assert_eq!(shown(&page), format!("<div class=\"nav\">{{{source}}}</div>"));
}

#[test]
fn removed_comment_and_wrapped_parts_are_what_esi_says() {
    assert_eq!(shown(r#"a<esi:remove> <esi:include src="/m"/> <b> </esi:remove>c"#), "ac");
    assert_eq!(shown("a<esi:remove/>b"), "ab");
    assert_eq!(shown("a<esi:remove>b"), "a");
    assert_eq!(shown("a<esi:comment text='x > y'/>b<esi:comment text=''></esi:comment>c"), "abc");
    assert_eq!(shown(r#"a<!--esi <esi:include src="/m"/>-->b<!-- c -->"#), "a {/m}b<!-- c -->");
    assert_eq!(shown("<!--esi -- - --->b-->"), " -- - -b-->");
    assert_eq!(shown("<!--esi <esi:include -->b"), " <esi:include b");
    assert_eq!(shown("<!--esi <esi:remove>--></esi:remove>-->b"), " b");
}

#[test]
fn what_is_malformed_passes_as_text() {
    for text in [
        "<esi:include src=/m/>",
        "<esi:include src=\"\"/>",
        "<esi:include/>",
        "<esi:included src=\"/m\"/>",
        "<ESI:include src=\"/m\"/>",
        "<esi:include src=\"/m",
        "<esi:include src=\"/m\"",
        "<esi:vars>x</esi:vars>",
        "</esi:include>",
        "</esi:remove>",
        "<!--esix--><!--es-->-->",
        "<esi:in<b>",
        "<",
        "<!--esi",
        "--",
    ] {
        assert_eq!(shown(text), text);
    }
    assert_eq!(shown("<esi:include src=\"<esi:include src='/m'/>"), "<esi:include src=\"{/m}");
}

#[test]
fn a_tag_longer_than_its_bound_is_text() {
    let tag = format!("<esi:include src=\"/{}\"/>", "x".repeat(60));
    let limits = Limits { includes_max: 4, tag_max_bytes: tag.len() };
    assert!(shown_within(&tag, limits).starts_with('{'));
    let limits = Limits { tag_max_bytes: tag.len() - 1, ..limits };
    assert_eq!(shown_within(&tag, limits), tag);
}

#[test]
fn includes_beyond_the_bound_leave_nothing_and_are_counted() {
    let text = "<esi:include src='/m'/>-".repeat(6);
    let (events, dropped) = parse(&[text.as_bytes()], LIMITS);
    assert_eq!(dropped, 2);
    let includes = events.iter().filter(|event| matches!(event, Event::Include(_))).count();
    assert_eq!(includes, 4);
    assert_eq!(shown(&text), "{/m}-{/m}-{/m}-{/m}---");
}

#[test]
fn literals_are_slices_of_the_piece() {
    let piece = Bytes::from("<p>a</p><esi:include src='/m'/><p>");
    let mut events = Vec::new();
    Parser::new(LIMITS).feed(&piece, &mut events);
    let Some(Event::Literal(first)) = events.first() else { panic!("a literal comes first") };
    assert_eq!(first.as_ptr(), piece.as_ptr());
    assert_eq!(events.len(), 3);
}

/// Pieces of ESI and of what looks like it.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "<esi:include src='/m'/>",
        "<esi:include src=\"/a?b&amp;c\" ></esi:include>",
        "<esi:include ",
        "src='/x' ",
        "/>",
        ">",
        "<esi:remove>",
        "</esi:remove>",
        "<esi:comment text='t'/>",
        "<esi:comment>",
        "</esi:comment>",
        "</esi:include>",
        "<!--esi ",
        "<!--",
        "-->",
        "-",
        "<",
        "</",
        "e",
        "'",
        "\"",
        " text ",
        "\n",
        "0123456789012345678901234567890123456789",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        text in soup(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let whole = parse(&[&text], LIMITS);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        prop_assert_eq!(&parse(&bytes, LIMITS), &whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        prop_assert_eq!(&parse(&pieces, LIMITS), &whole);
    }

    #[test]
    fn text_without_esi_passes_unchanged(text in "[a-z <>/!\\-\"'=]{0,200}") {
        prop_assert_eq!(shown(&text), text);
    }
}
