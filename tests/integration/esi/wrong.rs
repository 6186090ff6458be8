//! Pages whose ESI is wrong.

use super::super::support::Parvis;
use super::super::support::origin::Origin;
use super::{GZIP, private, public, stored};

const MISTAKES: &str = "parvis_esi_mistakes_total ";

#[test]
fn what_is_wrong_is_left_out_counted_and_said_once_per_page() {
    let wrong = [
        ("<esi:include src=/m/>", ""),
        ("<esi:include src=''/>", ""),
        ("<esi:vars>$(QUERY_STRING)</esi:vars>", "$(QUERY_STRING)"),
        ("<esi:include src='http://other.test/'/>", ""),
        ("<esi:include src='/m#x'/>", ""),
        (
            "<script>if (a<esi:b) { c('<esi:include') }</script>",
            "<script>if (a<esi:b) { c('<esi:include') }</script>",
        ),
        ("<esi:remove>shown", "shown"),
    ];
    let content: String = wrong.iter().map(|(tag, _)| *tag).collect();
    let left: String = wrong.iter().map(|(_, left)| *left).collect();
    let page = content.clone();
    let origin = Origin::start(move |seen, stream| {
        if seen.target.starts_with("/passed") {
            private(stream, &page);
        } else {
            public(stream, &page);
        }
    });
    let parvis = Parvis::before_http(origin.port).start();
    assert_eq!(parvis.metric(MISTAKES), Some(0.0));
    assert_eq!(parvis.get("/page", &[]).text(), left);
    // Two for the pair of vars, and one for each other.
    assert_eq!(parvis.metric(MISTAKES), Some(7.0));
    assert_eq!(stored(&parvis, "/page").text(), left);
    for target in ["/page", "/passed", "/passed?x", "/passed?y"] {
        for headers in [&[][..], &[GZIP]] {
            assert_eq!(parvis.get(target, headers).text(), left, "{target}");
        }
    }
    assert!(parvis.metric(MISTAKES) > Some(7.0));
    let said =
        parvis.stderr().lines().filter(|line| line.contains("ESI of a page is wrong")).count();
    assert_eq!(said, 2, "{}", parvis.stderr());
}

#[test]
fn a_tag_that_is_too_long_and_includes_beyond_the_bound_are_left_out() {
    let long = "x".repeat(9_000);
    let content = format!(
        "a<esi:include src='/{long}'/>b<p>{}<esi:include src='/m'/>",
        "<esi:include src='/m'/>".repeat(2)
    );
    let origin = Origin::start(move |seen, stream| match seen.target.as_str() {
        "/page" => public(stream, &content),
        _ => public(stream, "[m]"),
    });
    let parvis = Parvis::before_http(origin.port).with("esi.includes_max", "2").start();
    assert_eq!(parvis.get("/page", &[]).text(), "ab<p>[m][m]");
    assert_eq!(stored(&parvis, "/page").text(), "ab<p>[m][m]");
    assert_eq!(parvis.metric(MISTAKES).map(|count| count >= 2.0), Some(true));
}
