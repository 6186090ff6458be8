//! Tags as the origin may write them, and the purges that find them.

use std::io::Write;
use std::time::Duration;

use super::support::Parvis;
use super::support::origin::Origin;
use super::support::process::wait_until;

/// Pages whose tag lines are named by the path.
fn tagged() -> Origin {
    Origin::start(|seen, stream| {
        let lines = match seen.target.as_str() {
            "/lines" => "X-Magento-Tags: cat_p_1\r\nX-Magento-Tags: cat_p_2,cms_b_3\r\n",
            "/separators" => "X-Magento-Tags: cat_p_1 cat_p_2\tcms_b_3\r\n",
            "/repeated" => "X-Magento-Tags: cat_p_1,cat_p_2,cat_p_1\r\nX-Magento-Tags: cat_p_2\r\n",
            "/empty" => "X-Magento-Tags: ,, ,cat_p_2,\r\nX-Magento-Tags:\r\n",
            _ => "X-Magento-Tags: cat_p_22,cat_p\r\n",
        };
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: public, s-maxage=600\r\n\
             {lines}Content-Length: 4\r\nConnection: close\r\n\r\npage"
        );
    })
}

const TARGETS: [&str; 5] = ["/lines", "/separators", "/repeated", "/empty", "/other"];

fn fill(parvis: &Parvis) {
    for target in TARGETS {
        parvis.get(target, &[]);
        wait_until(target, Duration::from_secs(5), || parvis.get(target, &[]).is_hit());
    }
}

#[test]
fn tags_over_several_lines_with_any_separator_repeated_or_empty_are_found_by_a_purge() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    fill(&parvis);
    let answer = parvis.purge_tag("cat_p_2");
    assert_eq!(answer.header("x-parvis-purged"), Some("4"));
    for target in TARGETS {
        assert_eq!(parvis.get(target, &[]).is_hit(), target == "/other", "{target}");
    }
}

#[test]
fn the_gauges_return_to_zero_however_the_tags_were_written_and_never_underflow() {
    let origin = tagged();
    let parvis = Parvis::before_http(origin.port).start();
    for _ in 0..3 {
        fill(&parvis);
        // A hit may come from a fetch that is about to be stored.
        let tags = || parvis.metric("parvis_store_tags ") == Some(5.0);
        wait_until("five tags", Duration::from_secs(5), tags);
        for tag in ["cat_p_1", "cat_p_2", "cat_p_2", "none", "cat_p_22", "cat_p"] {
            assert_eq!(parvis.purge_tag(tag).status, 200);
        }
        for gauge in ["parvis_store_objects ", "parvis_store_tags "] {
            assert_eq!(parvis.metric(gauge), Some(0.0), "{gauge}");
        }
    }
}
