//! Budgets that nodes share, over a real Redis.

use std::sync::Arc;
use std::time::Duration;

use parvis::clock::{Clock, Moment};
use parvis::redis_pool;
use parvis::settings::{LimitRule, Rate};
use parvis::traffic::budgets::{Budgets, Figures, Holder, Taken, Taking};
use parvis::traffic::limits::{Limits, RetryAfter};
use tokio::runtime::Runtime;

use crate::support::process::wait_until;
use crate::support::redis::Redis;

const JANE: &[Holder<'_>] =
    &[Holder::Client(b"192.0.2.1"), Holder::Account(Some("jane@example.com"))];

/// A node whose clock is its own.
struct Node {
    budgets: Budgets,
    now: Moment,
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

impl Node {
    fn new(redis: Option<&Redis>, clock: u64) -> Self {
        let connected = redis.map(|redis| {
            let redis = redis_pool::Redis::new(&redis.settings(), &Clock::system());
            Arc::new(redis.expect("settings that can be used"))
        });
        let limits = Arc::new(Limits::new(1_000));
        let budgets = Budgets::new(connected, "parvis", b"a secret of the fleet", limits);
        Self { budgets, now: Moment::from_milliseconds(clock) }
    }

    async fn take_of(&self, rule: &LimitRule, holders: &[Holder<'_>]) -> Taken {
        self.take_beside(rule, holders, 2).await
    }

    /// As one of so many nodes.
    async fn take_beside(&self, rule: &LimitRule, holders: &[Holder<'_>], nodes: usize) -> Taken {
        let taken = self.take_all(&[("logins", rule, holders, true)], nodes).await;
        taken.into_iter().next().expect("of one budget")
    }

    /// Out of several budgets: names, rules, whose accounts, and whether each binds.
    async fn take_all(
        &self,
        all: &[(&str, &LimitRule, &[Holder<'_>], bool)],
        nodes: usize,
    ) -> Vec<Taken> {
        let budget = |name, rule| self.budgets.budget(name, rule).expect("requests are limited");
        let budgets: Vec<_> = all.iter().map(|(name, rule, ..)| budget(name, rule)).collect();
        let takings = all.iter().zip(&budgets).map(|((_, _, holders, binds), budget)| Taking {
            budget,
            holders: holders.to_vec(),
            count: 1,
            binds: *binds,
        });
        self.budgets.take(&takings.collect::<Vec<_>>(), nodes, self.now).await
    }

    async fn take(&self) -> Result<(), RetryAfter> {
        self.take_of(&a_minute(10), JANE).await
    }

    fn figures(&self) -> Figures {
        self.budgets.figures()
    }
}

fn rule(amount: u32, each: Duration) -> LimitRule {
    LimitRule { requests: Some(Rate { amount, each }), fleet: true, ..LimitRule::default() }
}

fn a_minute(amount: u32) -> LimitRule {
    rule(amount, Duration::from_mins(1))
}

/// Both nodes at once, a hundred times each; how many got through.
fn all_that_passes(nodes: [Node; 2]) -> usize {
    runtime().block_on(async {
        let attempts = nodes.map(|node| {
            tokio::spawn(async move {
                let mut passed = 0;
                for _ in 0..100 {
                    passed += usize::from(node.take().await.is_ok());
                }
                passed
            })
        });
        let mut passed = 0;
        for attempt in attempts {
            passed += attempt.await.expect("it ends");
        }
        passed
    })
}

#[test]
fn two_nodes_let_ten_a_minute_through_together_whatever_their_clocks_say() {
    let redis = Redis::start();
    let nodes = [Node::new(Some(&redis), 0), Node::new(Some(&redis), 3_600_000)];
    let passed = all_that_passes(nodes);
    assert!((10..=12).contains(&passed), "{passed} of 200");
}

#[test]
fn without_the_redis_two_nodes_would_let_more_through() {
    let passed = all_that_passes([Node::new(None, 0), Node::new(None, 3_600_000)]);
    // Each has half of the budget, which is the most that it may have without asking, so it takes the whole to see it.
    assert_eq!(passed, 10);
    let whole = |clock| {
        let node = Node::new(None, clock);
        runtime().block_on(async {
            let mut passed = 0;
            for _ in 0..100 {
                let taken = node.take_beside(&a_minute(10), JANE, 1).await;
                passed += usize::from(taken.is_ok());
            }
            passed
        })
    };
    let passed: usize = [0, 3_600_000].map(whole).iter().sum();
    assert!(!(10..=12).contains(&passed), "{passed} of 200");
}

#[test]
fn who_waits_as_long_as_was_said_gets_through() {
    let redis = Redis::start();
    let node = Node::new(Some(&redis), 0);
    runtime().block_on(async {
        let two = rule(2, Duration::from_secs(1));
        let mut waited = 0;
        for _ in 0..6 {
            if let Err(RetryAfter(wait)) = node.take_of(&two, JANE).await {
                assert!(wait <= Duration::from_secs(1), "{wait:?}");
                tokio::time::sleep(wait).await;
                waited += 1;
                assert_eq!(node.take_of(&two, JANE).await, Ok(()));
            }
        }
        assert!(waited > 0 || node.figures().refused == 0);
    });
    assert_eq!(node.figures().alone, 0);
}

#[test]
fn a_burst_is_smaller_than_what_a_minute_gives() {
    let redis = Redis::start();
    let node = Node::new(Some(&redis), 0);
    let rule = LimitRule { burst: Some(3), ..a_minute(10) };
    runtime().block_on(async {
        for _ in 0..3 {
            assert_eq!(node.take_of(&rule, JANE).await, Ok(()));
        }
        let RetryAfter(wait) = node.take_of(&rule, JANE).await.expect_err("the burst is used up");
        assert!(wait <= Duration::from_secs(18), "{wait:?}");
    });
}

#[test]
fn an_account_is_one_from_wherever_it_is_tried_and_a_refusal_takes_nothing() {
    let redis = Redis::start();
    let node = Node::new(Some(&redis), 0);
    let (account, other) = (Holder::Account(Some("jane")), Holder::Account(Some("joe")));
    runtime().block_on(async {
        for address in 0..10_u8 {
            let holders = [Holder::Client(&[address]), account];
            assert_eq!(node.take_of(&a_minute(10), &holders).await, Ok(()));
        }
        let address = [Holder::Client(b"new"), account];
        for _ in 0..20 {
            assert!(node.take_of(&a_minute(10), &address).await.is_err());
        }
        // The refusals were charged to nobody.
        for _ in 0..10 {
            let another = [Holder::Client(b"new"), other];
            assert_eq!(node.take_of(&a_minute(10), &another).await, Ok(()));
        }
        assert!(node.take_of(&a_minute(10), &[Holder::Client(b"new")]).await.is_err());
    });
}

#[test]
fn budgets_of_a_request_are_asked_at_once_and_none_is_spent_where_one_refuses() {
    let redis = Redis::start();
    let node = Node::new(Some(&redis), 0);
    let (three, one) = (a_minute(3), rule(1, Duration::from_mins(1)));
    let burst = LimitRule { burst: Some(2), ..a_minute(5) };
    let (session, address) = ([Holder::Client(b"s")], [Holder::Client(b"a")]);
    runtime().block_on(async {
        let mut all = [
            ("session", &three, JANE, true),
            ("address", &one, &address[..], true),
            ("burst", &burst, &session[..], true),
        ];
        let passes = |taken: Vec<Taken>| taken.iter().map(Result::is_ok).collect::<Vec<_>>();
        assert_eq!(passes(node.take_all(&all, 2).await), [true, true, true]);
        let evals = redis.ask(&["info", "commandstats"]);
        assert!(evals.contains("cmdstat_eval:calls=1,"), "{evals}");
        for _ in 0..10 {
            assert_eq!(passes(node.take_all(&all, 2).await), [true, false, true]);
        }
        // Whose rule does not bind is left out alone.
        all[1].3 = false;
        assert_eq!(passes(node.take_all(&all, 2).await), [true, false, true]);
        let last = node.take_all(&all, 2).await;
        assert_eq!(last[0], Ok(()), "two of three were spent");
        let RetryAfter(wait) = last[2].expect_err("both of the burst were spent");
        assert!(wait <= Duration::from_secs(24), "{wait:?}");
    });
    assert_eq!(node.figures(), Figures { asked: 13, alone: 0, refused: 12 });
}

#[test]
fn what_is_kept_in_redis_says_nobodys_name_is_bounded_and_expires() {
    let redis = Redis::start();
    let node = Node::new(Some(&redis), 0);
    runtime().block_on(async {
        for _ in 0..30 {
            let _refused_at_last = node.take().await;
        }
    });
    let keys = redis.ask(&["keys", "*"]);
    assert_eq!(keys.lines().count(), 2, "{keys}");
    for key in keys.lines() {
        let hash = key.strip_prefix("{parvis}:budget:").expect("the fleet's prefix");
        assert!(hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        assert_eq!(redis.ask(&["llen", key]), "10");
        let left: u64 = redis.ask(&["pttl", key]).parse().expect("it expires");
        assert!(left <= 60_000, "{left}");
    }
    let short = rule(10, Duration::from_millis(50));
    runtime().block_on(node.take_of(&short, JANE)).expect("a new one");
    wait_until("the short ones to expire", Duration::from_secs(10), || {
        redis.ask(&["dbsize"]) == "2"
    });
}

#[test]
fn while_redis_is_away_or_hangs_each_node_has_its_share() {
    let mut redis = Redis::start();
    let runtime = runtime();
    let nodes = [Node::new(Some(&redis), 0), Node::new(Some(&redis), 0)];
    let all = |node: &Node| {
        runtime.block_on(async {
            let mut passed = 0;
            for _ in 0..40 {
                passed += usize::from(node.take().await.is_ok());
            }
            passed
        })
    };
    assert_eq!(all(&nodes[0]) + all(&nodes[1]), 10);
    redis.stop();
    assert_eq!(nodes.each_ref().map(all), [5, 5], "half of the budget each");
    let alone = nodes.each_ref().map(|node| node.figures().alone);
    assert_eq!(alone, [40, 40]);
    redis.kill();
    assert_eq!(nodes.each_ref().map(all), [0, 0], "the shares are used up");
    redis.start_again();
    let asked = nodes[0].figures().asked;
    wait_until("the fleet to count again", Duration::from_secs(20), || {
        let _either = runtime.block_on(nodes[0].take());
        nodes[0].figures().asked > asked
    });
}
