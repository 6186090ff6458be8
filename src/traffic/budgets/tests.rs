use proptest::prelude::*;

use super::*;

fn rule(amount: u32, seconds: u64) -> LimitRule {
    let rate = Rate { amount, each: Duration::from_secs(seconds) };
    LimitRule { requests: Some(rate), fleet: true, ..LimitRule::default() }
}

fn budgets(secret: &[u8]) -> Budgets {
    Budgets::new(None, "parvis", secret, Arc::new(Limits::new(1_000)))
}

fn at(milliseconds: u64) -> Moment {
    Moment::from_milliseconds(milliseconds)
}

/// Out of one budget, which binds.
async fn take(
    budgets: &Budgets,
    budget: &Budget,
    holders: &[Holder<'_>],
    nodes: usize,
    now: Moment,
) -> Taken {
    let taking = Taking { budget, holders: holders.to_vec(), count: 1, binds: true };
    budgets.take(&[taking], nodes, now).await.pop().expect("of one budget")
}

const JANE: Holder<'_> = Holder::Account(Some("jane@example.com"));

#[tokio::test]
async fn without_a_fleet_a_node_counts_for_itself() {
    let budgets = budgets(b"");
    let logins = budgets.budget("logins", &rule(3, 60)).expect("requests");
    let holders = [Holder::Client(b"192.0.2.1"), JANE];
    for _ in 0..3 {
        assert_eq!(take(&budgets, &logins, &holders, 1, at(0)).await, Ok(()));
    }
    let again = take(&budgets, &logins, &holders, 1, at(0)).await;
    assert_eq!(again, Err(RetryAfter(Duration::from_secs(20))));
    let elsewhere = [Holder::Client(b"192.0.2.2"), JANE];
    assert!(
        take(&budgets, &logins, &elsewhere, 1, at(0)).await.is_err(),
        "the account is the same"
    );
    assert_eq!(budgets.figures(), Figures { asked: 0, alone: 5, refused: 2 });
}

#[tokio::test]
async fn nodes_that_count_for_themselves_share_the_rate() {
    let budgets = budgets(b"");
    let logins = budgets.budget("logins", &rule(10, 60)).expect("requests");
    let mut passed = 0;
    for second in 0..=600 {
        passed += u32::from(take(&budgets, &logins, &[JANE], 4, at(second * 1_000)).await.is_ok());
    }
    // Of 100 that the rate gives in these ten minutes one of four nodes lets 25 through, and its burst.
    assert_eq!(passed, 25 + 2);
}

#[tokio::test]
async fn nothing_is_taken_anywhere_where_one_that_binds_has_nothing_left() {
    let budgets = budgets(b"");
    let session = budgets.budget("session", &rule(2, 60)).expect("requests");
    let address = budgets.budget("address", &rule(1, 60)).expect("requests");
    let of = |binds| {
        let (budgets, session, address) = (&budgets, &session, &address);
        async move {
            let all = [
                Taking {
                    budget: session,
                    holders: vec![Holder::Client(b"s"), JANE],
                    count: 1,
                    binds: true,
                },
                Taking { budget: address, holders: vec![Holder::Client(b"a")], count: 1, binds },
            ];
            let taken = budgets.take(&all, 1, at(0)).await;
            taken.iter().map(Result::is_ok).collect::<Vec<_>>()
        }
    };
    assert_eq!(of(true).await, [true, true]);
    for _ in 0..9 {
        assert_eq!(of(true).await, [true, false], "the session has one left, and keeps it");
    }
    assert_eq!(of(false).await, [true, false], "who goes on beyond the other spends it");
    assert_eq!(of(false).await, [false, false]);
    assert_eq!(budgets.figures(), Figures { asked: 0, alone: 12, refused: 11 });
}

#[tokio::test]
async fn several_are_taken_at_once_or_none() {
    let budgets = budgets(b"");
    let coupons = budgets.budget("coupons", &rule(5, 60)).expect("requests");
    let take = async |count| {
        let taking = Taking { budget: &coupons, holders: vec![JANE], count, binds: true };
        budgets.take(&[taking], 1, at(0)).await.pop().expect("of one budget").is_ok()
    };
    assert!(!take(6).await, "more than there ever are");
    assert!(take(4).await);
    assert!(!take(2).await);
    assert!(take(1).await);
    assert!(!take(1).await);
}

#[test]
fn a_limit_of_php_alone_is_no_budget() {
    let rate = Rate { amount: 100, each: Duration::from_secs(1) };
    let php = LimitRule { php: Some(rate), ..LimitRule::default() };
    assert!(budgets(b"").budget("php", &php).is_none());
}

#[test]
fn accounts_are_apart_by_rule_limit_kind_and_secret() {
    let name = |secret: &[u8], rule_name: &str, amount: u32, holder: Holder<'_>| {
        let budgets = budgets(secret);
        let budget = budgets.budget(rule_name, &rule(amount, 60)).expect("requests");
        budgets.name(&budget, holder)
    };
    let first = name(b"secret", "logins", 10, Holder::Client(b"jane"));
    assert!(first.starts_with("{parvis}:budget:") && first.len() == 16 + 2 * NAME_BYTES, "{first}");
    assert_eq!(first, name(b"secret", "logins", 10, Holder::Client(b"jane")));
    for other in [
        name(b"other", "logins", 10, Holder::Client(b"jane")),
        name(b"secret", "coupons", 10, Holder::Client(b"jane")),
        name(b"secret", "logins", 11, Holder::Client(b"jane")),
        name(b"secret", "logins", 10, Holder::Account(Some("jane"))),
        name(b"secret", "logins", 10, Holder::Client(b"")),
        name(b"secret", "logins", 10, Holder::Account(Some(""))),
        name(b"secret", "logins", 10, Holder::Account(None)),
    ] {
        assert_ne!(other, first);
    }
}

proptest! {
    /// Names do not say whose they are.
    #[test]
    fn no_key_has_the_account_in_it(account in "[a-z]{8,20}") {
        let budgets = budgets(b"secret");
        let budget = budgets.budget("logins", &rule(1, 1)).expect("requests");
        prop_assert!(!budgets.name(&budget, Holder::Account(Some(&account))).contains(&account));
    }
}
