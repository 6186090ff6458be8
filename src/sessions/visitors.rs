//! What is known of visitors by their sessions' records, remembered for seconds. Ids are kept as keyed
//! hashes alone.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use moka::sync::Cache;
use tokio::sync::{OnceCell, Semaphore};

use super::record::{self, Bounds, Record};
use crate::settings;

/// What is known of who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// Nothing: the record could not be had in time, or not be read.
    Unknown,
    /// There is no such session, or nothing in it yet.
    New,
    /// What the record says.
    Known(Record),
}

/// The record's bytes; `None`: there is no such session. An error is anything that keeps it away.
pub type Data<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, Unavailable>> + Send + 'a>>;

/// The store could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of sessions cannot be asked")]
pub struct Unavailable;

/// Where records are.
pub trait Records: Send + Sync {
    /// The field `data` of the session of this id.
    fn data(&self, id: &[u8]) -> Data<'_>;
}

/// Visitors by session id. No hit asks: what is found here is for requests that go to PHP.
pub struct Visitors {
    records: Box<dyn Records>,
    /// One cell for each visitor, so that all who ask at once share one question.
    cells: Cache<[u8; 16], Arc<OnceCell<Visitor>>>,
    key: hmac::Key,
    wait: Duration,
    bounds: Bounds,
    /// Places for who is looked up to be counted.
    counting: Arc<Semaphore>,
    counts: [AtomicU64; Class::ALL.len()],
}

/// What kind of visitor a request is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nothing is known.
    Unknown,
    /// The session is none yet.
    New,
    /// A guest without a quote.
    Guest,
    /// A guest with a quote: something was in the cart.
    Cart,
    /// A customer who is logged in.
    Customer,
    /// A user of the administration.
    Admin,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::New, Self::Guest, Self::Cart, Self::Customer, Self::Admin];
}

impl Visitor {
    /// What kind of visitor it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Unknown => Class::Unknown,
            Self::New => Class::New,
            Self::Known(record) if record.admin => Class::Admin,
            Self::Known(record) if record.logged_in => Class::Customer,
            Self::Known(record) if record.quote => Class::Cart,
            Self::Known(_) => Class::Guest,
        }
    }
}

/// Visitors that are looked up at once to be counted; who is one more counts as unknown.
const COUNTING_MAX: usize = 64;
/// Letters of an id; PHP takes no longer ones.
const ID_LETTERS_MAX: usize = 256;

impl Visitors {
    /// With the bounds of these settings.
    pub fn new(settings: &settings::Sessions, records: Box<dyn Records>) -> Self {
        let visitors_max = u64::try_from(settings.visitors_max).unwrap_or(u64::MAX);
        let cells =
            Cache::builder().max_capacity(visitors_max).time_to_live(settings.visitor_ttl).build();
        Self {
            records,
            cells,
            key: hmac::Key::new(hmac::HMAC_SHA256, &crate::random::bytes::<32>()),
            wait: settings.visitor_wait,
            bounds: Bounds { content_max_bytes: settings.record_max_bytes, ..Bounds::default() },
            counting: Arc::new(Semaphore::new(COUNTING_MAX)),
            counts: Default::default(),
        }
    }

    /// Who has the session of this id. Waits for `sessions.visitor_wait` at most; what came of it is
    /// remembered for `sessions.visitor_ttl`, also that nothing did.
    pub async fn of(&self, id: &[u8]) -> Visitor {
        if id.is_empty() || id.len() > ID_LETTERS_MAX {
            return Visitor::New;
        }
        let cell = self.cells.get_with(self.hash(id), Arc::default);
        *cell.get_or_init(|| self.ask(id)).await
    }

    /// Who has the session of this id, where that was asked a moment ago. Waits for nothing.
    pub fn known(&self, id: &[u8]) -> Option<Visitor> {
        self.cells.get(&self.hash(id)).and_then(|cell| cell.get().copied())
    }

    /// Counts a request of this session's visitor, who is looked up beside it: the request does not wait.
    pub fn count(self: &Arc<Self>, id: &Bytes) {
        let known = self.known(id);
        match (known, Arc::clone(&self.counting).try_acquire_owned()) {
            (Some(visitor), _) => self.add(visitor.class()),
            (None, Err(_)) => self.add(Class::Unknown),
            (None, Ok(place)) => {
                let (visitors, id) = (Arc::clone(self), id.clone());
                tokio::spawn(async move {
                    let visitor = visitors.of(&id).await;
                    visitors.add(visitor.class());
                    drop(place);
                });
            }
        }
    }

    fn add(&self, class: Class) {
        self.counts[class as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were counted, by [`Class`].
    pub fn counted(&self, class: Class) -> u64 {
        self.counts[class as usize].load(Ordering::Relaxed)
    }

    async fn ask(&self, id: &[u8]) -> Visitor {
        match tokio::time::timeout(self.wait, self.records.data(id)).await {
            Ok(Ok(None)) => Visitor::New,
            Ok(Ok(Some(data))) => {
                record::read(&data, &self.bounds).map_or(Visitor::Unknown, Visitor::Known)
            }
            Ok(Err(Unavailable)) | Err(_) => Visitor::Unknown,
        }
    }

    fn hash(&self, id: &[u8]) -> [u8; 16] {
        let mut hash = [0; 16];
        hash.copy_from_slice(&hmac::sign(&self.key, id).as_ref()[..16]);
        hash
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const CUSTOMER: &[u8] = br#"customer_base|a:1:{s:11:"customer_id";s:1:"7";}"#;

    /// Answers after a pause, and counts.
    struct Store {
        asked: Arc<AtomicUsize>,
        pause: Duration,
        answer: Result<Option<Bytes>, Unavailable>,
    }

    impl Records for Store {
        fn data(&self, _id: &[u8]) -> Data<'_> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                tokio::time::sleep(self.pause).await;
                self.answer.clone()
            })
        }
    }

    fn visitors(
        pause: Duration,
        answer: Result<Option<Bytes>, Unavailable>,
        change: impl FnOnce(&mut settings::Sessions),
    ) -> (Visitors, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let store = Store { asked: Arc::clone(&asked), pause, answer };
        let mut settings = settings::Sessions::default();
        change(&mut settings);
        (Visitors::new(&settings, Box::new(store)), asked)
    }

    fn customer() -> Visitor {
        Visitor::Known(Record { logged_in: true, ..Record::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_at_once_share_one_question_and_later_ones_its_answer() {
        let data = Ok(Some(Bytes::from_static(CUSTOMER)));
        let (visitors, asked) = visitors(Duration::from_millis(10), data, |_| {});
        let (one, two) = tokio::join!(visitors.of(b"a"), visitors.of(b"a"));
        assert_eq!((one, two, visitors.of(b"a").await), (customer(), customer(), customer()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        visitors.of(b"b").await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_is_remembered_ends() {
        let change =
            |settings: &mut settings::Sessions| settings.visitor_ttl = Duration::from_millis(1);
        let (visitors, asked) = visitors(Duration::ZERO, Ok(None), change);
        assert_eq!(visitors.of(b"a").await, Visitor::New);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(visitors.of(b"a").await, Visitor::New);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_told_in_time_is_unknown() {
        let (slow, _) = visitors(Duration::from_secs(60), Ok(None), |_| {});
        assert_eq!(slow.of(b"a").await, Visitor::Unknown);
        let (away, asked) = visitors(Duration::ZERO, Err(Unavailable), |_| {});
        assert_eq!(
            (away.of(b"a").await, away.of(b"a").await),
            (Visitor::Unknown, Visitor::Unknown)
        );
        assert_eq!(asked.load(Ordering::Relaxed), 1, "a store that is away is not asked by each");
        let (odd, _) = visitors(Duration::ZERO, Ok(Some(Bytes::from_static(b"x"))), |_| {});
        assert_eq!(odd.of(b"a").await, Visitor::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_counted_by_who_they_are_of_and_a_flood_is_of_nobody_known() {
        let data = Ok(Some(Bytes::from_static(CUSTOMER)));
        let (visitors, asked) = visitors(Duration::from_millis(10), data, |_| {});
        let visitors = Arc::new(visitors);
        for number in 0..COUNTING_MAX + 3 {
            visitors.count(&Bytes::from(format!("id{number}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        visitors.count(&Bytes::from_static(b"id0"));
        assert_eq!(visitors.counted(Class::Customer), COUNTING_MAX as u64 + 1);
        assert_eq!(visitors.counted(Class::Unknown), 3);
        assert_eq!(asked.load(Ordering::Relaxed), COUNTING_MAX);
    }

    #[test]
    fn a_visitor_is_what_matters_most_of_what_the_record_says() {
        let of = |record| Visitor::Known(record).class();
        let quote = Record { quote: true, ..Record::default() };
        assert_eq!((of(Record::default()), of(quote)), (Class::Guest, Class::Cart));
        assert_eq!(of(Record { logged_in: true, ..quote }), Class::Customer);
        assert_eq!(of(Record { admin: true, ..quote }), Class::Admin);
    }

    #[tokio::test]
    async fn what_cannot_be_an_id_is_not_asked_for() {
        let (visitors, asked) = visitors(Duration::ZERO, Ok(None), |_| {});
        assert_eq!(visitors.of(b"").await, Visitor::New);
        assert_eq!(visitors.of(&[b'a'; 300]).await, Visitor::New);
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
