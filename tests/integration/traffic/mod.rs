//! What clients may do, and how much of it.

mod accounts;
mod alike;
mod bots;
mod budgets;
mod defaults;
mod explain;
mod graphql;
mod limits;
mod passes;
mod php_fleet;
mod php_time;
mod refusals;
mod scripts;
mod stored;
mod strangers;

use std::time::Duration;

use super::support::parvis::Builder;
use super::support::process::wait_until;
use super::support::{Parvis, Reply};

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const BROWSER: (&str, &str) =
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0");

/// A rule of a test.
fn rule(name: &str, rest: &str) -> String {
    format!("[[traffic.rule]]\nname = \"{name}\"\n{rest}\n")
}

/// As it is, and with the rules switched off.
fn on_and_off(builder: impl Fn() -> Builder) -> [Parvis; 2] {
    [builder().start(), builder().with("traffic.on", "false").start()]
}

/// Asked for until it is stored, by somebody whom no rule of a test is about.
fn store(parvis: &Parvis, target: &str) {
    let is_hit =
        || parvis.get(target, &[HTML, BROWSER, ("X-Forwarded-For", "203.0.113.9")]).is_hit();
    wait_until("it is stored", Duration::from_secs(10), is_hit);
}

/// Asked for by the client of this address.
fn from(parvis: &Parvis, address: &str, target: &str) -> Reply {
    parvis.get(target, &[HTML, BROWSER, ("X-Forwarded-For", address)])
}
