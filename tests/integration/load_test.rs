//! The load test (`tests/load`) as somebody who runs it sees it: its command, its figures, its report in a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::demo::browser::Driver;
use crate::support::process::wait_until;

/// Of each server; a queue by class besides in front of which there is Parvis.
const CHARTS: [&str; 5] = ["throughput", "latency", "errors", "php", "cpu"];
const COMPARED: [&str; 4] =
    ["compared-percentiles", "compared-checkout", "compared-useful", "compared-errors"];

/// Runs the quick form of a scenario in front of Parvis and nginx; results and report are left in the directory.
fn run(scenario: &str, directory: &Path) -> Value {
    let results = directory.join("load.json");
    let output = Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/load"))
        .args([scenario, "--quick", "--servers", "parvis,nginx"])
        .args(["--parvis", env!("CARGO_BIN_EXE_parvis")])
        .arg("--results")
        .arg(&results)
        .arg("--report")
        .arg(directory.join("load.html"))
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("phase overload"), "progress is told: {said}");
    assert!(said.contains("| Parvis | "), "a table is printed: {said}");
    let text = std::fs::read_to_string(results).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_quick_run_measures_both_servers_and_its_report_shows_all_charts() {
    let directory = tempfile::tempdir().expect("a directory");
    let results = run("overload", directory.path());
    let runs = &results["scenarios"]["overload"]["runs"];
    for server in ["parvis", "nginx"] {
        let run = &runs[server];
        for phase in run["phases"].as_array().expect("phases") {
            assert!(phase["groups"]["hit"]["count"].as_u64() > Some(0), "{server}: {phase}");
            let errors = phase["errors"].to_string();
            assert!(!errors.contains("another's"), "visitors are mixed up: {server}: {errors}");
        }
        assert_eq!(run["warm"]["failed"], 0, "{server}");
        assert!(run["phases"][2]["php_ms"].as_u64() > Some(0), "PHP works in the overload");
        assert!(run["watch"].as_array().expect("rows").len() > 8, "{server}");
    }

    let driver = Driver::start();
    let browser = driver.browser();
    browser.open(&format!("file://{}", directory.path().join("load.html").display()));
    wait_until("the page", Duration::from_secs(60), || {
        browser.run("return document.readyState;") == "complete"
    });
    for server in ["parvis", "nginx"] {
        for chart in CHARTS {
            let drawn = browser.run(&format!(
                "return Array.from(document.querySelectorAll('[data-server={server}] [data-chart={chart}]'), \
                 figure => figure.querySelector('svg').getBoundingClientRect().height > 50 \
                 && figure.querySelector('figcaption').textContent !== '').join();"
            ));
            assert_eq!(drawn, "true", "{server}: {chart}");
        }
        let lines = format!(
            "return document.querySelectorAll('[data-server={server}] [data-chart=throughput] path.line').length;"
        );
        assert!(browser.run(&lines).as_u64() >= Some(4), "hits, misses, files, carts: {server}");
    }
    for chart in COMPARED {
        let count = format!("return document.querySelectorAll('[data-chart={chart}] svg').length;");
        assert_eq!(browser.run(&count), 1, "{chart}");
    }
    let both = "return Array.from(document.querySelectorAll('[data-chart=compared-useful] .legend span'), \
        name => name.textContent).join();";
    assert_eq!(browser.run(both), "Parvis,nginx");
    let broken = "return Array.from(document.querySelectorAll('path'), path => path.getAttribute('d'))\
        .filter(way => /NaN|undefined|Infinity/.test(way)).length;";
    assert_eq!(browser.run(broken), 0, "each line is drawn");
    let foreign = "return performance.getEntriesByType('resource').length;";
    assert_eq!(browser.run(foreign), 0, "nothing from elsewhere");
    browser.becomes_a_phone(360, 740);
    let width = "return document.documentElement.scrollWidth;";
    assert_eq!(browser.run(width), 360, "nothing is wider");
}
