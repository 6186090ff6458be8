use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { includes_max: 4, tag_max_bytes: 200, remove_max_bytes: 100 };

fn parse(pieces: &[&[u8]], limits: Limits) -> (Vec<Event>, Mistakes) {
    let mut parser = Parser::new(limits);
    let mut events = Vec::new();
    for piece in pieces {
        parser.feed(&Bytes::copy_from_slice(piece), &mut events);
        assert!(parser.held.len() <= limits.tag_max_bytes.max(13), "what is held is bounded");
        let removed = parser.removed.as_ref().map_or(0, Vec::len);
        assert!(removed <= limits.remove_max_bytes, "what is removed is bounded");
    }
    parser.end(&mut events);
    (merge(events), parser.mistakes())
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
    assert_eq!(shown("a<esi:comment text='x > y'/>b<esi:comment text=''></esi:comment>c"), "abc");
    assert_eq!(shown(r#"a<!--esi <esi:include src="/m"/>-->b<!-- c -->"#), "a {/m}b<!-- c -->");
    assert_eq!(shown("<!--esi -- - --->b-->"), " -- - -b-->");
    assert_eq!(shown("<!--esi <esi:remove>--></esi:remove>-->b"), " b");
}

#[test]
fn alternatives_and_what_to_do_on_errors_are_read() {
    let tag = r#"<esi:include src="/a" alt="/b?c&amp;d" onerror="continue"/>"#;
    let (events, mistakes) = parse(&[tag.as_bytes()], LIMITS);
    let alternative = Some(Bytes::from("/b?c&d"));
    let include = Include { source: Bytes::from("/a"), alternative, continues: true };
    assert_eq!(events, [Event::Include(include)]);
    assert_eq!(mistakes, Mistakes::default());
    let (events, _) = parse(&[br#"<esi:include src="/a" alt="" onerror="x"/>"#], LIMITS);
    assert_eq!(events, [Event::Include(Include::new("/a"))]);
}

#[test]
fn what_is_no_tag_passes_as_text() {
    for text in [
        "if (a<esi:includeX) { b } else if (a <esi:b && c > d)",
        "'<esi:include' + x + '</esi:include'",
        "<esi:> <esi:/> </esi:> <esi: include src='/m'/> <esi:1/>",
        "<ESI:include src=\"/m\"/>",
        "<!--esix--><!--es-->-->",
        "<esi:in<b>",
        "<esi:include",
        "<",
        "<!--esi",
        "--",
    ] {
        let shown_text = text.replace("<esi:b && c >", "");
        let count = u64::from(shown_text != text);
        assert_eq!((shown(text), mistakes(text).count), (shown_text, count), "{text}");
    }
}

fn mistakes(text: &str) -> Mistakes {
    parse(&[text.as_bytes()], LIMITS).1
}

/// What is left of wrong ESI, and what the mistake was.
#[test]
fn a_wrong_tag_is_left_out_and_counted_and_swallows_nothing() {
    use Mistake::{Malformed, NoSource, TooLong, Unclosed, UnexpectedEnd, UnknownElement};
    let long = "x".repeat(250);
    for (text, left, mistake) in [
        ("a<esi:include src=/m/>b", "ab", Malformed),
        ("a<esi:include src='/m' src='/n'/>b", "ab", Malformed),
        ("a<esi:include src='/m/>b", "ab", Malformed),
        ("a</esi:include x>b", "ab", Malformed),
        // In quotes or not: the first `>` ends what is wrong.
        ("a<esi:include src=x y='b>c' />d", "ac' />d", Malformed),
        ("a<esi:include src=\"\"/>b", "ab", NoSource),
        ("a<esi:include/>b", "ab", NoSource),
        ("a<esi:vars>$(X)</esi:vars>b", "a$(X)b", UnknownElement),
        ("a<esi:choose ><esi:when test='1>0'>b</esi:when></esi:choose>", "ab", UnknownElement),
        ("a</esi:include>b", "ab", UnexpectedEnd),
        ("a</esi:remove>b", "ab", UnexpectedEnd),
        // What is never closed is left out as far as it is well-formed.
        ("a<esi:include src='/m' b<p>", "ab<p>", Unclosed),
        ("a<esi:include src='/m' ", "a", Unclosed),
        ("a<esi:include src='/m b", "asrc='/m b", Unclosed),
        ("'<esi:include src='; f(1)</script>", "'src='; f(1)</script>", Unclosed),
        ("<esi:include src=\"<esi:include src='/m'/>", "src=\"{/m}", Unclosed),
        ("<!-- <esi:include src=x -->b", "<!-- src=x -->b", Malformed),
        ("<!-- <esi:include src='/m' -->b<p>", "<!-- -->b<p>", Malformed),
        ("<!--esi <esi:include -->b-->", " b-->", Malformed),
        ("<!--esi b", " b", Unclosed),
        // What is too long goes up to its end, wherever that is.
        (&format!("a<esi:include src='/{long}'/>b"), "ab", TooLong),
        (&format!("a<esi:include src='/{long}<b>"), "a<b>", TooLong),
        (&format!("a<esi:include src='/{long}-->b"), "a-->b", TooLong),
        (&format!("a<esi:include src='/>{long}'/>b"), &format!("a{long}'/>b"), TooLong),
    ] {
        let found = mistakes(text);
        assert_eq!(shown(text), left, "{text}");
        assert_eq!(found.first, Some(mistake), "{text}");
    }
    assert_eq!(shown("<!--esi <esi:a--><b>"), " <esi:a<b>");
}

#[test]
fn a_remove_without_its_end_shows_what_is_in_it_and_no_further_one_is_believed() {
    assert_eq!(shown("a<esi:remove>b<esi:include src='/m'/>"), "ab{/m}");
    assert_eq!(shown("a<esi:remove>b</esi:remove x>c"), "abc");
    let long = "x".repeat(101);
    let text = format!("a<esi:remove>{long}</esi:remove>b<esi:remove>c</esi:remove>d");
    assert_eq!(shown(&text), format!("a{long}bcd"));
    assert_eq!(mistakes(&text).first, Some(Mistake::Unclosed));
    let text = format!("a<esi:remove>{}</esi:remove>b", &long[1..]);
    assert_eq!((shown(&text).as_str(), mistakes(&text).count), ("ab", 0));
}

#[test]
fn a_tag_longer_than_its_bound_is_a_mistake() {
    let tag = format!("<esi:include src=\"/{}\"/>", "x".repeat(60));
    let limits = Limits { tag_max_bytes: tag.len(), ..LIMITS };
    assert!(shown_within(&tag, limits).starts_with('{'));
    let limits = Limits { tag_max_bytes: tag.len() - 1, ..limits };
    assert_eq!(shown_within(&tag, limits), "");
}

#[test]
fn includes_beyond_the_bound_leave_nothing_and_are_counted() {
    let text = "<esi:include src='/m'/>-".repeat(6);
    let (events, mistakes) = parse(&[text.as_bytes()], LIMITS);
    assert_eq!((mistakes.first, mistakes.count), (Some(Mistake::TooManyIncludes), 2));
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
        "<esi:vars>",
        "</esi:remove x>",
        "<esi:b",
        "src='/x' ",
        "alt=\"/y\" ",
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
    fn no_markup_is_lost_but_in_what_is_removed(text in soup()) {
        let text = String::from_utf8_lossy(&text).replace("<esi:remove", "<esi:vars");
        let openers: usize =
            ["<esi:", "</esi:", "<!--esi"].iter().map(|opener| text.matches(opener).count()).sum();
        let (events, found) = parse(&[text.as_bytes()], LIMITS);
        let literals = events.into_iter().filter_map(Event::literal);
        let left: usize =
            literals.map(|it| String::from_utf8_lossy(&it).matches('<').count()).sum();
        let all = text.matches('<').count();
        prop_assert!(left <= all && all <= left + openers, "{all} {left} {openers}");
        prop_assert!(found.count as usize <= openers + 1);
    }

    #[test]
    fn text_without_esi_passes_unchanged(text in "[a-z <>/!\\-\"'=]{0,200}") {
        prop_assert_eq!(shown(&text), text);
    }
}
