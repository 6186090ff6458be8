//! Locks of sessions that this node keeps itself: the state machine beside the keyspace.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::step::{Answer, Boxed, Hears, LockStore, Place, Step, StoreError};
use super::table::{Fields, Table, Told};
use crate::clock::Clock;
use crate::resp::{Request, Value};
use crate::sessions::embedded::Embedded;

/// Messages that wait to be heard; beyond it who is to hear them looks anew at everything.
const MESSAGES_MAX: usize = 1_024;

/// Locks in the embedded store.
pub struct Kept {
    embedded: Arc<Embedded>,
    clock: Clock,
    table: Mutex<Table>,
    heard_by: Mutex<HashMap<String, mpsc::Sender<Bytes>>>,
}

impl Kept {
    /// Beside this store.
    pub fn new(embedded: Arc<Embedded>, clock: &Clock) -> Self {
        let since = clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Turns are times, as they are in a Redis: who waited with the process before comes first.
        let first_turn = i64::try_from(since.as_micros()).unwrap_or_default();
        let (table, heard_by) = (Mutex::new(Table::after(first_turn)), Mutex::default());
        Self { embedded, clock: clock.clone(), table, heard_by }
    }

    fn tell(&self, told: &Told) -> bool {
        let mut heard_by = self.heard_by.lock();
        let Some(process) = process_of(told.token()) else { return false };
        let Some(heard) = heard_by.get(process) else { return false };
        let is_heard = heard.try_send(told.message()).is_ok();
        if !is_heard {
            heard_by.remove(process);
        }
        is_heard
    }

    fn lives(&self, token: &str) -> bool {
        let heard_by = self.heard_by.lock();
        process_of(token).and_then(|its| heard_by.get(its)).is_some_and(|heard| !heard.is_closed())
    }
}

fn process_of(token: &str) -> Option<&str> {
    token.split_once(':').map(|(process, _)| process)
}

impl LockStore for Kept {
    fn run<'a>(
        &'a self,
        place: &'a Place,
        step: &'a Step,
    ) -> Boxed<'a, Result<Answer, StoreError>> {
        let answer = self.embedded.together(place.database, |ask| {
            let mut hash = Hash { ask, key: &place.key };
            let (tell, lives) = (|told: Told| self.tell(&told), |token: &str| self.lives(token));
            self.table.lock().run((place, step), &mut hash, self.clock.now(), tell, lives)
        });
        Box::pin(std::future::ready(answer))
    }

    fn count<'a>(&'a self, place: &'a Place) -> Boxed<'a, Result<i64, StoreError>> {
        let count =
            self.embedded.together(place.database, |ask| Hash { ask, key: &place.key }.count());
        Box::pin(std::future::ready(count))
    }

    fn listen<'a>(&'a self, process: &'a str) -> Boxed<'a, Result<Box<dyn Hears>, StoreError>> {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        self.heard_by.lock().insert(process.to_owned(), sender);
        let hears: Box<dyn Hears> = Box::new(Ear(receiver));
        Box::pin(std::future::ready(Ok(hears)))
    }
}

struct Ear(mpsc::Receiver<Bytes>);

impl Hears for Ear {
    fn next(&mut self) -> Boxed<'_, Option<Bytes>> {
        Box::pin(self.0.recv())
    }
}

/// A session's hash.
struct Hash<'a> {
    ask: &'a mut dyn FnMut(&Request) -> Value,
    key: &'a [u8],
}

impl Hash<'_> {
    fn ask(&mut self, name: &[u8], arguments: &[&[u8]]) -> Result<Value, StoreError> {
        let mut command = vec![name, self.key];
        command.extend_from_slice(arguments);
        match (self.ask)(&Request::pack(&command)) {
            Value::Error(words) => Err(StoreError::Refused(words)),
            value => Ok(value),
        }
    }
}

impl Fields for Hash<'_> {
    type Error = StoreError;

    fn lock(&mut self) -> Result<Option<i64>, StoreError> {
        match self.ask(b"HGET", &[b"lock"])? {
            Value::Bulk(text) => Ok(crate::resp::integer(&text)),
            _ => Ok(Some(0)),
        }
    }

    fn pid(&mut self) -> Result<Bytes, StoreError> {
        match self.ask(b"HGET", &[b"pid"])? {
            Value::Bulk(pid) => Ok(pid),
            _ => Ok(Bytes::new()),
        }
    }

    fn count(&mut self) -> Result<i64, StoreError> {
        match self.ask(b"HINCRBY", &[b"lock", b"1"])? {
            Value::Integer(number) => Ok(number),
            _ => Err(StoreError::Refused(Bytes::from_static(b"ERR the session store is closed"))),
        }
    }

    fn set_free(&mut self) -> Result<(), StoreError> {
        self.ask(b"HSET", &[b"lock", b"0"]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::keyspace;
    use crate::sessions::lock::{Bounds, Locks, Standing, Written};
    use crate::settings;

    static KEY: Bytes = Bytes::from_static(b"sess_a");

    fn node(directory: &tempfile::TempDir) -> (Arc<Embedded>, Arc<Locks>) {
        node_with(directory, |kept| Arc::new(kept))
    }

    fn node_with(
        directory: &tempfile::TempDir,
        store: impl FnOnce(Kept) -> Arc<dyn LockStore>,
    ) -> (Arc<Embedded>, Arc<Locks>) {
        let clock = Clock::system();
        let path = directory.path().join("journal");
        let embedded = Embedded::open(&path, keyspace::Bounds::default(), &clock).expect("opened");
        let (kept, bounds) =
            (Kept::new(Arc::clone(&embedded), &clock), Bounds::of(&settings::Sessions::default()));
        let hosts = Box::new(|_: &str| Standing::Other);
        let locks =
            Locks::new(store(kept), bounds, "this-process----".to_owned(), hosts, None, &clock);
        (embedded, locks)
    }

    fn ask(embedded: &Embedded, command: &[&[u8]]) -> Value {
        embedded.ask(2, Request::pack(command).raw())
    }

    #[tokio::test]
    async fn a_waiter_is_called_when_the_lock_is_free() {
        let directory = tempfile::tempdir().expect("a directory");
        let (embedded, locks) = node(&directory);
        let (mut first, mut second) = (locks.client(None), locks.client(None));
        assert_eq!(first.take(2, &KEY).await, Ok(1));
        let free = async {
            while locks.figures().waited == 0 || !locks.hears() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ask(&embedded, &[b"HMSET", &KEY, b"data", b"x", b"lock", b"0"]);
            first.wrote(2, &KEY, Written { lock: Some(0), ..Written::default() });
        };
        let (taken, ()) = tokio::join!(second.take(2, &KEY), free);
        assert_eq!(taken, Ok(1));
        assert_eq!(locks.figures().unanswered, 0);
        drop(second);
        while locks.figures().freed == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&embedded, &[b"HGET", &KEY, b"lock"]), Value::Bulk("0".into()));
    }

    /// A store in which it takes a while to say whose a lock is.
    struct Late(Kept);

    impl LockStore for Late {
        fn run<'a>(
            &'a self,
            place: &'a Place,
            step: &'a Step,
        ) -> Boxed<'a, Result<Answer, StoreError>> {
            Box::pin(async move {
                if matches!(step, Step::Own { .. }) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                self.0.run(place, step).await
            })
        }

        fn count<'a>(&'a self, place: &'a Place) -> Boxed<'a, Result<i64, StoreError>> {
            self.0.count(place)
        }

        fn listen<'a>(&'a self, process: &'a str) -> Boxed<'a, Result<Box<dyn Hears>, StoreError>> {
            self.0.listen(process)
        }
    }

    #[tokio::test]
    async fn who_breaks_a_lock_and_goes_at_once_leaves_it_free() {
        let directory = tempfile::tempdir().expect("a directory");
        let (embedded, locks) = node_with(&directory, |kept| Arc::new(Late(kept)));
        let (mut first, mut second) = (locks.client(None), locks.client(None));
        assert_eq!(first.take(2, &KEY).await, Ok(1));
        // By PHP's own rule, after its tries.
        ask(&embedded, &[b"HMSET", &KEY, b"pid", b"web|2", b"lock", b"1"]);
        let (pid, lock) = (Some("web|2".into()), Some(1));
        second.wrote(2, &KEY, Written { pid, lock, deleted: false });
        drop(second);
        locks.settled().await;
        assert_eq!(ask(&embedded, &[b"HGET", &KEY, b"lock"]), Value::Bulk("0".into()));
        assert_eq!(locks.figures().freed, 1);
    }

    #[tokio::test]
    async fn a_lock_and_a_wait_for_it_go_on_in_another_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let (embedded, locks) = node(&directory);
        let (mut holder, mut waiter) = (locks.client(None), locks.client(None));
        assert_eq!(holder.take(2, &KEY).await, Ok(1));
        ask(&embedded, &[b"HMSET", &KEY, b"pid", b"web|1", b"lock", b"1"]);
        let (pid, lock) = (Some("web|1".into()), Some(1));
        holder.wrote(2, &KEY, Written { pid, lock, deleted: false });
        let stopped = tokio::time::timeout(Duration::from_millis(30), waiter.take(2, &KEY)).await;
        assert!(stopped.is_err(), "it waits");
        let (of_holder, of_waiter) = (holder.carry(), waiter.carry());
        drop((holder, waiter));
        locks.settled().await;
        assert_eq!(
            locks.figures(),
            crate::sessions::lock::Figures {
                taken: 1,
                waited: 1,
                ..crate::sessions::lock::Figures::default()
            }
        );
        embedded.close();
        let (embedded, there) = node(&directory);
        let (mut holder, mut waiter) = (there.client(None), there.client(None));
        waiter.resume(of_waiter);
        holder.resume(of_holder);
        assert!(holder.holds_any());
        let taken = async { waiter.take(2, &KEY).await };
        let gone = async {
            while there.figures().waited == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(holder);
        };
        assert_eq!(tokio::join!(taken, gone).0, Ok(1), "it was freed for who has gone");
        assert_eq!(there.figures().freed, 1);
        drop(embedded);
    }

    #[tokio::test]
    async fn what_is_no_session_is_answered_in_the_words_of_redis() {
        let directory = tempfile::tempdir().expect("a directory");
        let (embedded, locks) = node(&directory);
        ask(&embedded, &[b"SET", &KEY, b"x"]);
        let told = locks.client(None).take(2, &KEY).await.expect_err("it is no hash");
        assert!(told.to_string().starts_with("WRONGTYPE"), "{told}");
    }
}
