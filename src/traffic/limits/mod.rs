//! Limits of one node: so many requests, and so many milliseconds of PHP, for each account.
//!
//! Each account is one number, the time when it will be full again (the theoretical arrival time of the generic
//! cell rate algorithm, ITU-T I.371). What is taken moves it on, what is beyond a burst is refused. PHP's time is known only
//! when it has been spent: a request is let through while anything is left, lays down what one took of late, and gets
//! that back for what it took, which may bring the account into debt, up to a bound. Without the deposit all that come
//! while the first ones are at work would be let through.
//!
//! The accounts of all rules are in one [`table`] of fixed size.

mod table;

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;
use crate::settings::{LimitRule, Rate};
use table::{Account, Table};

/// An account owes at most so many times what it may use at once.
const DEBTS_MAX: u64 = 10;

/// What PHP is taken to need for a request before it is known.
const TYPICAL_MILLISECONDS: u64 = 100;

/// When something will be left again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// As `Retry-After` says it: whole seconds, and one at least.
    pub fn seconds(self) -> u64 {
        let up = u64::from(self.0.subsec_nanos() > 0);
        (self.0.as_secs() + up).max(1)
    }
}

/// The accounts of all rules.
pub struct Limits {
    table: Table,
    /// Keyed at random: nobody can look for addresses that share a place.
    hasher: RandomState,
}

/// What a rule limits, ready to be asked for.
#[derive(Clone, Debug)]
pub struct Limit {
    requests: Option<Bucket>,
    php: Option<Bucket>,
    typical: Arc<Typical>,
}

impl Limit {
    /// What a request takes of PHP's time, by those of late; nothing where that is not limited.
    pub fn typical(&self) -> Duration {
        self.php.map_or(Duration::ZERO, |_| self.typical.get())
    }
}

/// Milliseconds of PHP that a request took of late.
#[derive(Debug)]
pub struct Typical(AtomicU64);

impl Default for Typical {
    fn default() -> Self {
        Self(AtomicU64::new(TYPICAL_MILLISECONDS))
    }
}

impl Typical {
    /// What one takes.
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// One took so much.
    pub fn took(&self, time: Duration) {
        let typical = self.0.load(Ordering::Relaxed);
        // What two threads add at once may be lost: it is a rough mean of many.
        let mean = (typical.saturating_mul(7).saturating_add(milliseconds(time))) / 8;
        self.0.store(mean, Ordering::Relaxed);
    }
}

/// An account is such a bucket; tokens run into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Tells the accounts of rules apart. A rule whose name and limit stay keeps its accounts over a reload.
    seed: u64,
    /// Nanoseconds until one token has come.
    cost: u64,
    /// Nanoseconds until it is full.
    depth: u64,
}

impl Bucket {
    fn new(seed: u64, rate: Rate, burst: u32) -> Self {
        let each = u64::try_from(rate.each.as_nanos()).unwrap_or(u64::MAX);
        let cost = (each / u64::from(rate.amount.max(1))).max(1);
        Self { seed, cost, depth: cost.saturating_mul(u64::from(burst.max(1))) }
    }

    /// When an account is full again that is at `full_at` by now, with so many more taken out of it.
    #[inline]
    fn with_more(self, full_at: u64, count: u32, now: u64) -> Result<u64, RetryAfter> {
        let next = full_at.max(now).saturating_add(self.cost.saturating_mul(u64::from(count)));
        let owed = next - now;
        if owed > self.depth {
            return Err(RetryAfter(Duration::from_nanos(owed - self.depth)));
        }
        Ok(next)
    }
}

impl Limits {
    /// Remembers at most `accounts_max` accounts; each takes 16 bytes, used or not.
    pub fn new(accounts_max: usize) -> Self {
        Self { table: Table::new(accounts_max), hasher: RandomState::new() }
    }

    /// The limit of a rule.
    pub fn limit(&self, name: &str, rule: &LimitRule) -> Limit {
        let of = |kind: &str, rate: Rate, burst: u32| {
            let seed = self.hasher.hash_one((name, kind, rate.amount, rate.each, burst));
            Bucket::new(seed, rate, burst)
        };
        let requests =
            rule.requests.map(|rate| of("requests", rate, rule.burst.unwrap_or(rate.amount)));
        let php = rule.php.map(|rate| of("php", rate, rate.amount));
        Limit { requests, php, typical: Arc::default() }
    }

    /// What an account is found by: who shares it, in any form.
    pub fn key(&self, who: impl Hash) -> u64 {
        self.hasher.hash_one(who)
    }

    /// Takes one request out of the account of `key`.
    ///
    /// # Errors
    /// Nothing is left, and nothing is taken.
    #[inline]
    pub fn take(&self, limit: &Limit, key: u64, now: Moment) -> Result<(), RetryAfter> {
        self.take_some(limit, key, 1, now)
    }

    /// Takes so many out of the account of `key`.
    ///
    /// # Errors
    /// So many are not left, and nothing is taken.
    #[inline]
    pub fn take_some(
        &self,
        limit: &Limit,
        key: u64,
        count: u32,
        now: Moment,
    ) -> Result<(), RetryAfter> {
        let Some(bucket) = limit.requests else { return Ok(()) };
        let now = nanoseconds(now);
        self.table.with(account(bucket, key), now, |full_at| {
            *full_at = bucket.with_more(*full_at, count, now)?;
            Ok(())
        })
    }

    /// Could so many be taken? Takes none.
    ///
    /// # Errors
    /// So many are not left.
    pub fn left(&self, limit: &Limit, key: u64, count: u32, now: Moment) -> Result<(), RetryAfter> {
        let Some(bucket) = limit.requests else { return Ok(()) };
        let full_at = self.table.full_at(account(bucket, key));
        bucket.with_more(full_at, count, nanoseconds(now)).map(|_| ())
    }

    /// Is any of PHP's time left?
    ///
    /// # Errors
    /// None is.
    pub fn php_left(&self, limit: &Limit, key: u64, now: Moment) -> Result<(), RetryAfter> {
        let Some(bucket) = limit.php else { return Ok(()) };
        let now = nanoseconds(now);
        let owed = self.table.full_at(account(bucket, key)).saturating_sub(now);
        if owed < bucket.depth {
            return Ok(());
        }
        // Until a whole millisecond of PHP is there.
        Err(RetryAfter(Duration::from_nanos(owed - bucket.depth + bucket.cost)))
    }

    /// Lays down so much of PHP's time for a request that begins.
    pub fn deposit_php(&self, limit: &Limit, key: u64, deposit: Duration, now: Moment) {
        self.move_php(limit, key, (Duration::ZERO, deposit), now);
    }

    /// Charges what PHP took for a request, and gives its deposit back.
    pub fn charge_php(
        &self,
        limit: &Limit,
        key: u64,
        (took, deposit): (Duration, Duration),
        now: Moment,
    ) {
        let took = took.max(Duration::from_millis(1));
        limit.typical.took(took);
        self.move_php(limit, key, (deposit, took), now);
    }

    fn move_php(&self, limit: &Limit, key: u64, (back, out): (Duration, Duration), now: Moment) {
        let Some(bucket) = limit.php else { return };
        let now = nanoseconds(now);
        let of = |time: Duration| bucket.cost.saturating_mul(milliseconds(time));
        let most = now.saturating_add(bucket.depth.saturating_mul(DEBTS_MAX));
        self.table.with(account(bucket, key), now, |full_at| {
            let next = (*full_at).saturating_sub(of(back)).max(now).saturating_add(of(out));
            *full_at = next.min(most);
        });
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn account(bucket: Bucket, key: u64) -> Account {
    // Both are well mixed already.
    Account::of(bucket.seed ^ key.rotate_left(32))
}

fn nanoseconds(now: Moment) -> u64 {
    now.milliseconds().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn requests(amount: u32, each: u64, burst: u32) -> LimitRule {
        let rate = Rate { amount, each: Duration::from_secs(each) };
        LimitRule { requests: Some(rate), burst: Some(burst), ..LimitRule::default() }
    }

    fn php(amount: u32, each: u64) -> LimitRule {
        let rate = Rate { amount, each: Duration::from_secs(each) };
        LimitRule { php: Some(rate), ..LimitRule::default() }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    #[test]
    fn a_burst_passes_and_then_as_many_as_the_rate_says() {
        let limits = Limits::new(1_000);
        let limit = limits.limit("facets", &requests(10, 60, 3));
        let passed = |now| (0..20).filter(|_| limits.take(&limit, 7, at(now)).is_ok()).count();
        assert_eq!(passed(1_000), 3);
        assert_eq!(limits.take(&limit, 7, at(1_000)), Err(RetryAfter(Duration::from_secs(6))));
        assert_eq!(passed(6_999), 0);
        assert_eq!(passed(7_000), 1);
        assert_eq!(passed(60_000), 3, "no more than the burst is saved up");
        assert_eq!(limits.take(&limit, 8, at(60_000)), Ok(()), "another's account is another");
    }

    #[test]
    fn what_php_took_is_owed() {
        let limits = Limits::new(1_000);
        let limit = limits.limit("facets", &php(200, 1));
        let now = at(5_000);
        assert_eq!(limits.php_left(&limit, 7, now), Ok(()));
        limits.charge_php(&limit, 7, (Duration::from_millis(199), Duration::ZERO), now);
        assert_eq!(limits.php_left(&limit, 7, now), Ok(()));
        limits.charge_php(&limit, 7, (Duration::from_millis(401), Duration::ZERO), now);
        let wait = limits.php_left(&limit, 7, now).expect_err("600 of 200 are spent");
        assert_eq!(wait.0, Duration::from_millis(2_005));
        assert!(limits.php_left(&limit, 7, at(6_999)).is_err());
        assert_eq!(limits.php_left(&limit, 7, at(7_005)), Ok(()));
        limits.charge_php(&limit, 7, (Duration::from_hours(5), Duration::ZERO), at(8_000));
        assert_eq!(limits.php_left(&limit, 7, at(17_005)), Ok(()), "a debt has a bound");
    }

    #[test]
    fn the_accounts_of_rules_are_apart_and_outlast_a_reload_that_does_not_change_them() {
        let limits = Limits::new(1_000);
        let rule = requests(1, 60, 1);
        let (one, other) = (limits.limit("one", &rule), limits.limit("other", &rule));
        assert_eq!(limits.take(&one, 7, at(0)), Ok(()));
        assert_eq!(limits.take(&other, 7, at(0)), Ok(()));
        assert!(limits.take(&limits.limit("one", &rule), 7, at(0)).is_err());
        assert_eq!(limits.take(&limits.limit("one", &requests(2, 60, 1)), 7, at(0)), Ok(()));
    }

    #[test]
    fn a_limited_client_stays_limited_in_a_flood_of_others() {
        let limits = Limits::new(10_000);
        let limit = limits.limit("all", &requests(10, 10, 10));
        let limited = limits.key("192.0.2.1");
        (0..10).for_each(|_| limits.take(&limit, limited, at(1)).expect("a burst"));
        let mut passed = 0;
        for other in 0..1_000_000_u64 {
            // 200,000 others a second; each of them once.
            let now = at(1 + other / 200);
            limits.take(&limit, limits.key(other), now).expect("the first one of an address");
            if other % 1_000 == 0 && limits.take(&limit, limited, now).is_ok() {
                passed += 1;
            }
        }
        assert!((4..=6).contains(&passed), "five seconds, one a second, but {passed} passed");
    }

    #[test]
    fn retry_after_is_in_whole_seconds() {
        for (milliseconds, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (60_000, 60)] {
            assert_eq!(RetryAfter(Duration::from_millis(milliseconds)).seconds(), seconds);
        }
    }

    proptest! {
        /// Beside a model that keeps a bucket of tokens for each client, in a map without bound.
        #[test]
        fn it_does_what_buckets_of_tokens_do(
            steps in prop::collection::vec((0_u64..5, 0_u64..3_000), 1..300),
            amount in 1_u32..20, each in 1_u64..60, burst in 1_u32..20,
        ) {
            let limits = Limits::new(1_000);
            let limit = limits.limit("rule", &requests(amount, each, burst));
            let cost = each * 1_000_000_000 / u64::from(amount);
            let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
            let mut now = 0;
            for (client, later) in steps {
                now += later;
                let full = cost * u64::from(burst);
                let (saved, since) = model.entry(client).or_insert((full, 0));
                *saved = (*saved + (now - *since) * 1_000_000).min(full);
                *since = now;
                let passes = *saved >= cost;
                if passes {
                    *saved -= cost;
                }
                let result = limits.take(&limit, limits.key(client), at(now));
                prop_assert_eq!(result.is_ok(), passes);
                if let Err(RetryAfter(wait)) = result {
                    prop_assert_eq!(wait.as_nanos(), u128::from(cost - *saved));
                }
            }
        }
    }
}
