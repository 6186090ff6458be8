//! `traffic.accounts_max` is a promise: limits that have seen ten million addresses take no more memory than at the start.
//!
//! A process of its own, with the allocator of the binary. Its sibling keeps the same accounts without the table, and shows
//! that this would be noticed. Also says what a request costs.

use std::collections::HashMap;
use std::time::Duration;

use parvis::clock::{Clock, Moment};
use parvis::settings::{LimitRule, Rate};
use parvis::traffic::limits::Limits;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ADDRESSES: u32 = 10_000_000;
const ACCOUNTS_MAX: usize = 100_000;

/// Bytes of an account, and what the allocator may keep beside all of them.
const ACCOUNT_BYTES: u64 = 16;
const BESIDE_BYTES: u64 = 2 << 20;

fn main() {
    let bound = ACCOUNTS_MAX as u64 * ACCOUNT_BYTES + BESIDE_BYTES;
    let limited = with_the_table();
    println!("{ADDRESSES} addresses: {} KiB more, of {} KiB", limited >> 10, bound >> 10);
    assert!(limited <= bound, "{limited} bytes are more than {bound}");
    let unlimited = without_it();
    println!("without the table: {} KiB more", unlimited >> 10);
    assert!(unlimited > bound, "a map without bound would not be noticed");
}

/// How much the process grew.
fn with_the_table() -> u64 {
    let before = resident_bytes();
    let limits = Limits::new(ACCOUNTS_MAX);
    let requests = Some(Rate { amount: 10, each: Duration::from_mins(1) });
    let limit = limits.limit("all", &LimitRule { requests, ..LimitRule::default() });
    let clock = Clock::system();
    let begun = clock.elapsed();
    for address in 0..ADDRESSES {
        // 100,000 new ones a second.
        let now = Moment::from_milliseconds(u64::from(address) / 100);
        let first = limits.take(&limit, limits.key(address), now);
        assert!(first.is_ok(), "the first request of an address");
    }
    let each = clock.elapsed().saturating_sub(begun) / ADDRESSES;
    println!("{} ns for each", each.as_nanos());
    let grown = resident_bytes().saturating_sub(before);
    // It is there until it was measured.
    assert!(limits.take(&limit, limits.key("another"), Moment::default()).is_ok());
    grown
}

fn without_it() -> u64 {
    let before = resident_bytes();
    let accounts: HashMap<u32, u64> = (0..ADDRESSES / 10).map(|address| (address, 0)).collect();
    let grown = resident_bytes().saturating_sub(before);
    assert_eq!(accounts.len(), ADDRESSES as usize / 10);
    grown
}

/// Bytes of this process that are in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4_096
}
