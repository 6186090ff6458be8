//! Purges that are applied again a short while later: Magento may send one before its transaction
//! is visible, and what was rendered in between shows the old state. So it is with cleans of keys in the
//! object cache: what was built in between is the old state. They go before the pages that were purged
//! at that time, which are rendered from them.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::log::Order;
use crate::clock::Moment;
use crate::keyspace::Clean;
use crate::policy::PurgeScope;

/// Purges that come within this time are applied again together.
const TOGETHER: Duration = Duration::from_millis(100);

/// A key counts once more for each so many of its bytes.
const LONG_KEY_BYTES: usize = 256;

/// What is to be applied again, oldest first.
#[derive(Debug)]
pub(super) struct Echoes {
    after: Duration,
    max: usize,
    count: usize,
    /// Keys of the object cache, which have a bound of their own.
    keys_count: usize,
    groups: VecDeque<Group>,
}

/// How something will be purged again shortly, and after what time for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Not at all.
    Nothing,
    /// It will be marked stale.
    Soft(Duration),
    /// It will be gone.
    Hard(Duration),
}

#[derive(Debug)]
struct Group {
    due: Moment,
    /// Keys of the object cache, by their database.
    keys: BTreeMap<u32, BTreeSet<Bytes>>,
    /// Sets of tags, for what they have in common.
    common: BTreeSet<(u32, Vec<Bytes>)>,
    keys_count: usize,
    /// There was no room for them, or nobody knows which: all databases instead.
    all_values: bool,
    hard: BTreeSet<Bytes>,
    soft: BTreeSet<Bytes>,
    others: Vec<Order>,
    /// There was no room: everything tagged instead.
    everything: bool,
}

impl Echoes {
    /// Echoes after `purge.echo`; zero: none.
    pub(super) fn new(after: Duration, max: usize) -> Self {
        Self { after, max, count: 0, keys_count: 0, groups: VecDeque::new() }
    }

    /// A purge was applied.
    pub(super) fn note(&mut self, order: &Order, now: Moment) {
        self.note_after(order, self.after, now);
    }

    /// A purge was applied by another node, which will apply it again after this time; so will this
    /// one.
    pub(super) fn note_after(&mut self, order: &Order, after: Duration, now: Moment) {
        if self.after.is_zero() {
            return;
        }
        // Later than now in any case: what is due may be under way already.
        let earliest = now.plus(after);
        let at = self.groups.partition_point(|group| group.due <= earliest);
        let latest = earliest.plus(TOGETHER);
        if self.groups.get(at).is_none_or(|group| group.due > latest) {
            self.groups.insert(at, Group::new(latest));
        }
        self.add(at, order);
    }

    fn add(&mut self, at: usize, order: &Order) {
        let Some(group) = self.groups.get_mut(at) else { return };
        match order {
            Order::Objects(clean) => {
                self.keys_count += match clean {
                    Clean::Keys { database, keys } => group.add_keys(*database, keys),
                    Clean::Common { database, sets } => group.add_common(*database, sets),
                    Clean::Everything | Clean::Database(_) => {
                        self.keys_count -= group.take_all_values();
                        return;
                    }
                };
                if self.keys_count > self.max {
                    self.keys_count -= group.take_all_values();
                }
                return;
            }
            // Cleans were missed with the purges.
            Order::Soften => self.keys_count -= group.take_all_values(),
            Order::Purge { .. } => {}
        }
        if group.everything {
            return;
        }
        let before = group.len();
        match order {
            Order::Purge { scope: PurgeScope::Tags(tags), soft } => {
                let set = if *soft { &mut group.soft } else { &mut group.hard };
                set.extend(tags.iter().cloned());
            }
            other => group.others.push(other.clone()),
        }
        self.count += group.len() - before;
        if self.count > self.max {
            self.count -= group.len();
            group.hard.clear();
            group.soft.clear();
            group.others.clear();
            group.everything = true;
        }
    }

    /// What will be due, oldest first.
    pub(super) fn pending(&self) -> impl Iterator<Item = Order> + '_ {
        self.groups.iter().flat_map(Group::orders)
    }

    /// What is due now. It counts as due until it was applied ([`Echoes::done`]), so that nobody is
    /// told in between that there is nothing to come.
    pub(super) fn due(&self, now: Moment) -> Vec<Order> {
        let due = self.groups.iter().take_while(|group| group.due <= now);
        let orders: Vec<Order> = due.flat_map(Group::orders).collect();
        if orders.is_empty() {
            return orders;
        }
        // What was cleaned before a page was purged may be of the next group, where another's time was
        // shorter: it goes first, and once more in its own.
        let soon = self.groups.iter().skip_while(|group| group.due <= now);
        let soon = soon.take_while(|group| group.due <= now.plus(TOGETHER));
        soon.flat_map(Group::cleans).chain(orders).collect()
    }

    /// What was due at that moment has been applied.
    pub(super) fn done(&mut self, now: Moment) {
        while let Some(group) = self.groups.pop_front_if(|group| group.due <= now) {
            self.count -= group.len();
            self.keys_count -= group.keys_count;
        }
    }

    /// How what has one of these tags, or this URL, will be purged again. Patterns of pools count as
    /// naming everything. Where several are to come, the hardest of them at the time of the first: who
    /// fetches it again then, asks again.
    pub(super) fn of(&self, tags: &[Bytes], url: &[u8], now: Moment) -> Due {
        let joined = OnceCell::new();
        let joined = || joined.get_or_init(|| tags.join(&b','));
        // `None`: not at all; or is it hard?
        let of_order = |order: &Order| match order {
            Order::Soften => Some(false),
            Order::Objects(_) => None,
            Order::Purge { scope: PurgeScope::Url(named), .. } if named != url => None,
            Order::Purge { scope: PurgeScope::TagsMatching(regex), .. }
                if !regex.is_match(joined()) =>
            {
                None
            }
            Order::Purge { soft, .. } => Some(!*soft),
        };
        let of_group = |group: &Group| {
            let is_hard = tags.iter().any(|tag| group.hard.contains(tag));
            let is_soft = group.everything || tags.iter().any(|tag| group.soft.contains(tag));
            let of_tags = (is_hard || is_soft).then_some(is_hard);
            group.others.iter().map(of_order).fold(of_tags, Option::max)
        };
        let groups = self.groups.iter().filter_map(|group| Some((group.due, of_group(group)?)));
        let first = groups.reduce(|(due, one), (_, other)| (due, one || other));
        match first {
            None => Due::Nothing,
            Some((due, false)) => Due::Soft(due.since(now)),
            Some((due, true)) => Due::Hard(due.since(now)),
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.groups.front().map(|group| group.due)
    }
}

/// How often a key counts.
fn count_of(key: &Bytes) -> usize {
    1 + key.len() / LONG_KEY_BYTES
}

impl Group {
    fn new(due: Moment) -> Self {
        Self {
            due,
            keys: BTreeMap::new(),
            common: BTreeSet::new(),
            keys_count: 0,
            all_values: false,
            hard: BTreeSet::new(),
            soft: BTreeSet::new(),
            others: Vec::new(),
            everything: false,
        }
    }

    /// How many more there are to be counted.
    fn add_keys(&mut self, database: u32, keys: &[Bytes]) -> usize {
        if self.all_values {
            return 0;
        }
        let own = self.keys.entry(database).or_default();
        let new = keys.iter().filter(|key| own.insert((*key).clone()));
        let added = new.map(count_of).sum();
        self.keys_count += added;
        added
    }

    /// Likewise.
    fn add_common(&mut self, database: u32, sets: &[Bytes]) -> usize {
        if self.all_values || !self.common.insert((database, sets.to_vec())) {
            return 0;
        }
        let added = sets.iter().map(count_of).sum();
        self.keys_count += added;
        added
    }

    /// Instead of single keys; how many are no longer counted.
    fn take_all_values(&mut self) -> usize {
        self.all_values = true;
        self.keys.clear();
        self.common.clear();
        std::mem::take(&mut self.keys_count)
    }

    fn cleans(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        orders.extend(self.all_values.then_some(Order::Objects(Clean::Everything)));
        for (&database, keys) in &self.keys {
            let keys = keys.iter().cloned().collect();
            orders.extend(Order::of_clean(Clean::Keys { database, keys }));
        }
        for (database, sets) in self.common.iter().cloned() {
            orders.extend(Order::of_clean(Clean::Common { database, sets }));
        }
        orders
    }

    /// Cleans first. That all values go is said beside [`Order::Soften`], which is of pages alone here.
    fn orders(&self) -> Vec<Order> {
        let mut orders = self.cleans();
        for (tags, soft) in [(&self.hard, false), (&self.soft, true)] {
            if !tags.is_empty() {
                let scope = PurgeScope::Tags(tags.iter().cloned().collect());
                orders.push(Order::Purge { scope, soft });
            }
        }
        orders.extend(self.others.iter().cloned());
        orders.extend(self.everything.then_some(Order::Soften));
        orders
    }

    fn len(&self) -> usize {
        self.hard.len() + self.soft.len() + self.others.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(name: &str) -> Order {
        let scope = PurgeScope::Tags(vec![name.to_owned().into()]);
        Order::Purge { scope, soft: false }
    }

    fn at(milliseconds: u64) -> Moment {
        Moment::from_milliseconds(milliseconds)
    }

    fn texts(orders: &[Order]) -> Vec<String> {
        orders.iter().map(|order| String::from_utf8_lossy(&order.encode()).into_owned()).collect()
    }

    #[test]
    fn a_purge_is_due_again_after_its_time_and_once() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        echoes.note(&tags("a"), at(1_000));
        echoes.note(&tags("b"), at(1_050));
        echoes.note(&tags("a"), at(1_099));
        echoes.note(&tags("c"), at(1_100));
        assert!(echoes.due(at(2_999)).is_empty(), "never before its time");
        assert_eq!(echoes.next(), Some(at(3_100)));
        assert_eq!(texts(&echoes.due(at(3_100))), ["1 hard tags a,b"]);
        assert_eq!(echoes.of(&["a".into()], b"", at(3_100)), Due::Hard(Duration::ZERO));
        echoes.done(at(3_100));
        assert_eq!(echoes.of(&["a".into()], b"", at(3_100)), Due::Nothing);
        assert_eq!(texts(&echoes.due(at(9_000))), ["1 hard tags c"]);
        echoes.done(at(9_000));
        assert_eq!((echoes.next(), echoes.count), (None, 0));
    }

    #[test]
    fn what_finds_no_room_becomes_everything() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 2);
        for name in ["a", "b", "c", "d"] {
            echoes.note(&tags(name), at(0));
        }
        assert_eq!(texts(&echoes.due(at(5_000))), ["1 soft lost "]);
        echoes.done(at(5_000));
        assert_eq!(echoes.count, 0);
    }

    #[test]
    fn what_is_due_is_known_by_tag_and_url() {
        let of = |echoes: &Echoes, tag: &str, url: &str| {
            echoes.of(&[tag.to_owned().into()], url.as_bytes(), at(300))
        };
        let (soft, hard) = (Due::Soft, Due::Hard);
        let first = Duration::from_millis(1_800);
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        assert_eq!(of(&echoes, "a", "u"), Due::Nothing);
        echoes.note(&tags("a"), at(0));
        let url = Order::Purge { scope: PurgeScope::Url(b"u".to_vec()), soft: true };
        echoes.note(&url, at(0));
        assert_eq!(of(&echoes, "a", "u"), hard(first));
        assert_eq!(of(&echoes, "b", "u"), soft(first));
        assert_eq!(of(&echoes, "b", "v"), Due::Nothing);
        let regex = regex::bytes::Regex::new("(^|,)c").expect("a regex");
        let matching = Order::Purge { scope: PurgeScope::TagsMatching(regex), soft: false };
        echoes.note(&matching, at(0));
        assert_eq!(of(&echoes, "c_1", "v"), hard(first));
        assert_eq!(of(&echoes, "b", "v"), Due::Nothing);
        echoes.note(&Order::Soften, at(200));
        assert_eq!(of(&echoes, "b", "v"), soft(Duration::from_secs(2)));
        echoes.note(&Order::Purge { scope: PurgeScope::All, soft: false }, at(200));
        assert_eq!(of(&echoes, "b", "v"), hard(Duration::from_secs(2)));
        assert_eq!(of(&echoes, "b", "u"), hard(first), "the hardest, when the first one comes");
        echoes.done(at(9_000));
        assert_eq!(of(&echoes, "a", "u"), Due::Nothing);
    }

    #[test]
    fn what_another_node_purges_again_is_purged_here_then_and_in_few_groups() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 10_000);
        echoes.note(&tags("a"), at(1_000));
        for number in 0..500 {
            echoes.note_after(&tags("b"), Duration::from_millis(300), at(1_000 + number));
        }
        assert_eq!(echoes.groups.len(), 1 + 5);
        assert_eq!(echoes.next(), Some(at(1_400)), "before what came earlier");
        assert_eq!(texts(&echoes.due(at(1_400))), ["1 hard tags b"]);
        // One that has a longer time puts off nothing that comes here.
        echoes.note_after(&tags("c"), Duration::from_secs(60), at(1_600));
        echoes.note(&tags("d"), at(1_700));
        assert_eq!(
            echoes.of(&["d".into()], b"", at(1_700)),
            Due::Hard(Duration::from_millis(2_100))
        );
        assert!(echoes.groups.iter().is_sorted_by_key(|group| group.due));
    }

    fn keys(database: u32, keys: &[&str]) -> Order {
        let keys = keys.iter().map(|key| Bytes::from((*key).to_owned())).collect();
        Order::Objects(Clean::Keys { database, keys })
    }

    #[test]
    fn a_clean_is_done_again_before_the_pages_that_were_purged_after_it() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        echoes.note(&tags("a"), at(0));
        echoes.note(&keys(1, &["zc:ti:A", "zc:k:a"]), at(99));
        echoes.note(&keys(0, &["x"]), at(99));
        echoes.note(&tags("b"), at(99));
        let want =
            ["1 hard objects 0 keys x", "1 hard objects 1 keys zc:k:a,zc:ti:A", "1 hard tags a,b"];
        assert_eq!(texts(&echoes.due(at(2_100))), want);
        assert_eq!(echoes.of(&["zc:k:a".into()], b"", at(100)), Due::Nothing);
        echoes.done(at(2_100));
        assert_eq!((echoes.count, echoes.keys_count), (0, 0));
    }

    #[test]
    fn a_clean_of_what_sets_have_in_common_is_done_again_once_and_counts() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 4);
        let common = |sets: &[&str]| {
            let sets = sets.iter().map(|set| Bytes::from((*set).to_owned())).collect();
            Order::Objects(Clean::Common { database: 0, sets })
        };
        echoes.note(&common(&["A", "S"]), at(0));
        echoes.note(&common(&["A", "S"]), at(0));
        echoes.note(&common(&["B", "S"]), at(0));
        let want = ["1 hard objects 0 common A,S", "1 hard objects 0 common B,S"];
        assert_eq!(
            (texts(&echoes.due(at(2_100))), echoes.keys_count),
            (want.map(str::to_owned).into(), 4)
        );
        echoes.note(&common(&["C", "S"]), at(0));
        assert_eq!(texts(&echoes.due(at(2_100))), ["1 hard objects all flush"]);
        echoes.done(at(2_100));
        assert_eq!(echoes.keys_count, 0);
    }

    #[test]
    fn a_clean_is_done_again_before_pages_whose_time_is_shorter() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 10);
        echoes.note(&keys(0, &["zc:ti:A"]), at(0));
        echoes.note_after(&keys(0, &["other"]), Duration::from_millis(1_970), at(0));
        echoes.note(&tags("a"), at(30));
        let due = texts(&echoes.due(at(2_070)));
        assert_eq!(due[0], "1 hard objects 0 keys zc:ti:A");
        assert_eq!(due.last().map(String::as_str), Some("1 hard tags a"));
        echoes.done(at(2_070));
        assert_eq!(texts(&echoes.due(at(2_100))), ["1 hard objects 0 keys zc:ti:A"]);
    }

    #[test]
    fn cleans_that_find_no_room_become_one_of_everything_and_leave_the_pages_alone() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 3);
        echoes.note(&tags("a"), at(0));
        for name in ["a", "a", "b", "c", "d", "e"] {
            echoes.note(&keys(0, &[name]), at(0));
        }
        assert_eq!(texts(&echoes.due(at(3_000))), ["1 hard objects all flush", "1 hard tags a"]);
        echoes.done(at(3_000));
        assert_eq!((echoes.count, echoes.keys_count), (0, 0));
        echoes.note(&keys(0, &[&"long".repeat(300)]), at(4_000));
        assert_eq!(texts(&echoes.due(at(7_000))), ["1 hard objects all flush"]);
    }

    #[test]
    fn too_many_pages_do_not_clean_values_and_missed_purges_do() {
        let mut echoes = Echoes::new(Duration::from_secs(2), 1);
        echoes.note(&tags("a"), at(0));
        echoes.note(&tags("b"), at(0));
        assert_eq!(texts(&echoes.due(at(3_000))), ["1 soft lost "]);
        echoes.done(at(3_000));
        echoes.note(&keys(0, &["x"]), at(4_000));
        echoes.note(&Order::Soften, at(4_000));
        echoes.note(&keys(0, &["y"]), at(4_000));
        assert_eq!(texts(&echoes.due(at(7_000))), ["1 hard objects all flush", "1 soft lost "]);
    }

    #[test]
    fn without_a_time_nothing_is_remembered() {
        let mut echoes = Echoes::new(Duration::ZERO, 2);
        echoes.note(&tags("a"), at(0));
        assert_eq!(echoes.next(), None);
    }
}
