//! Accounts in a table of fixed size, whatever the number of clients.
//!
//! An account that is full again says nothing, so its place is free. Where a new one finds none, it takes the place of the one of
//! its set that will be full first: who has used up nearly nothing is forgotten before who is limited, so an attacker
//! with many addresses pushes out his own.

use parking_lot::Mutex;

/// Accounts among which a new one finds its place.
const WAYS: usize = 8;
/// Locks; a power of two. Cores meet at one rarely.
const SHARDS: usize = 256;

/// What an account is found by, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account(u64);

impl Account {
    /// From a well mixed number.
    pub(super) fn of(mixed: u64) -> Self {
        Self(mixed.max(1))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Whose it is; 0: nobody's.
    account: u64,
    /// When the account is full again, in nanoseconds of the clock.
    full_at: u64,
}

type Set = [Slot; WAYS];

/// The accounts.
pub(super) struct Table {
    shards: Box<[Mutex<Box<[Set]>>]>,
}

impl Table {
    /// Has room for so many accounts, and for a few more where that is no multiple of its parts.
    pub(super) fn new(accounts_max: usize) -> Self {
        let shards = SHARDS.min((accounts_max / (WAYS * 4)).next_power_of_two()).max(1);
        let sets = accounts_max.div_ceil(shards * WAYS).max(1);
        let shard = |_| Mutex::new(vec![Set::default(); sets].into_boxed_slice());
        Self { shards: (0..shards).map(shard).collect() }
    }

    /// Changes when an account is full again; it is opened where that is later than now.
    pub(super) fn with<T>(
        &self,
        account: Account,
        now: u64,
        change: impl FnOnce(&mut u64) -> T,
    ) -> T {
        self.in_set(account, |set| {
            if let Some(slot) = set.iter_mut().find(|slot| slot.account == account.0) {
                return change(&mut slot.full_at);
            }
            let mut full_at = 0;
            let result = change(&mut full_at);
            if full_at > now
                && let Some(slot) = set.iter_mut().min_by_key(|slot| slot.full_at)
            {
                *slot = Slot { account: account.0, full_at };
            }
            result
        })
    }

    /// When an account is full again; one that there is not is full.
    pub(super) fn full_at(&self, account: Account) -> u64 {
        self.in_set(account, |set| {
            set.iter().find(|slot| slot.account == account.0).map_or(0, |slot| slot.full_at)
        })
    }

    fn in_set<T>(&self, account: Account, look: impl FnOnce(&mut [Slot]) -> T) -> T {
        // Few bits say the shard, others the set.
        let shard = self.shards.get(account.0 as usize & (self.shards.len() - 1));
        let mut sets = match shard {
            Some(shard) => shard.lock(),
            None => return look(&mut []),
        };
        let count = sets.len() as u64;
        let set = (((account.0 >> 32) * count) >> 32) as usize;
        match sets.get_mut(set) {
            Some(set) => look(set),
            None => look(&mut []),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_large_as_was_said_whoever_comes() {
        for wanted in [1, 100, 1_000, 100_000] {
            let table = Table::new(wanted);
            let room: usize = table.shards.iter().map(|shard| shard.lock().len() * WAYS).sum();
            assert!(room >= wanted && room < wanted + WAYS * SHARDS, "{room} for {wanted}");
        }
    }

    #[test]
    fn who_will_be_full_first_gives_its_place_up() {
        let table = Table::new(1);
        let set = |account: u64, at: u64| {
            table.with(Account::of(account), 0, |full_at| *full_at = at);
        };
        (1..=8).for_each(|account| set(account, 100 + account));
        set(9, 50);
        assert_eq!(table.full_at(Account::of(1)), 0, "it was next to be full");
        assert_eq!(table.full_at(Account::of(9)), 50);
        assert_eq!(table.full_at(Account::of(2)), 102);
        set(10, 60);
        assert_eq!(table.full_at(Account::of(9)), 0, "newcomers push each other out");
        assert_eq!(table.full_at(Account::of(2)), 102);
    }

    #[test]
    fn an_account_that_is_full_takes_no_place() {
        let table = Table::new(1);
        table.with(Account::of(1), 10, |full_at| *full_at = 5);
        assert_eq!(table.full_at(Account::of(1)), 0);
    }
}
