//! Idle connections to one origin: at most so many, for so long.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::connection::Connection;
use crate::clock::{Clock, Moment};

/// Idle connections; the newest is used first, so that the others can age and go.
#[derive(Debug)]
pub(super) struct Pool {
    keep_alive: Duration,
    idle_max: usize,
    clock: Clock,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<(Connection, Moment)>,
    has_reaper: bool,
}

impl Pool {
    /// Keeps up to `idle_max` connections for `keep_alive`; zero keeps none.
    pub(super) fn new(keep_alive: Duration, idle_max: usize, clock: &Clock) -> Arc<Self> {
        let clock = clock.clone();
        Arc::new(Self { keep_alive, idle_max, clock, idle: Mutex::default() })
    }

    /// Are connections kept at all?
    pub(super) fn keeps(&self) -> bool {
        !self.keep_alive.is_zero()
    }

    /// An idle connection that is still open and silent.
    pub(super) fn take(&self) -> Option<Connection> {
        let now = self.clock.now();
        loop {
            let (connection, since) = self.idle.lock().connections.pop()?;
            if now.since(since) < self.keep_alive && connection.is_idle() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last exchange is whole.
    pub(super) fn put(self: &Arc<Self>, connection: Connection) {
        if !self.keeps() {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.connections.len() >= self.idle_max {
            return;
        }
        idle.connections.push((connection, self.clock.now()));
        if !std::mem::replace(&mut idle.has_reaper, true) {
            drop(idle);
            tokio::spawn(reap(Arc::downgrade(self), self.keep_alive));
        }
    }

    /// Closes what is too old; says how long until the next one is, `None` if there is none.
    fn expire(&self) -> Option<Duration> {
        let now = self.clock.now();
        let mut idle = self.idle.lock();
        idle.connections.retain(|(_, since)| now.since(*since) < self.keep_alive);
        let oldest = idle.connections.first().map(|(_, since)| *since);
        idle.has_reaper = oldest.is_some();
        oldest.map(|since| self.keep_alive.saturating_sub(now.since(since)))
    }
}

/// Closes connections when their time is over, also when no request comes any more: an idle
/// FastCGI connection pins a PHP child.
async fn reap(pool: Weak<Pool>, mut pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        match pool.expire() {
            Some(next) => pause = next.max(Duration::from_millis(10)),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unix_stream::UnixStream;
    use tokio::io::AsyncWriteExt;
    use tokio::net;

    fn pair() -> (Connection, net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
        theirs.set_nonblocking(true).expect("set");
        let theirs = net::UnixStream::from_std(theirs).expect("watched");
        (Connection::Unix(UnixStream::new(ours.into()).expect("watched")), theirs)
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_its_time_is_over() {
        let clock = Clock::manual();
        let pool = Pool::new(Duration::from_secs(1), 2, &clock);
        let (connection, _theirs) = pair();
        pool.put(connection);
        clock.advance(Duration::from_millis(999));
        let connection = pool.take().expect("still young");
        pool.put(connection);
        clock.advance(Duration::from_secs(1));
        assert!(pool.take().is_none());
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_or_spoke_is_not_used_again() {
        let clock = Clock::manual();
        let pool = Pool::new(Duration::from_secs(1), 2, &clock);
        let (closed, theirs) = pair();
        drop(theirs);
        pool.put(closed);
        let (spoke, mut theirs) = pair();
        theirs.write_all(b"x").await.expect("written");
        pool.put(spoke);
        tokio::task::yield_now().await;
        assert!(pool.take().is_none());
    }

    #[tokio::test]
    async fn no_more_are_kept_than_the_bound_and_none_without_keep_alive() {
        let clock = Clock::manual();
        let pool = Pool::new(Duration::from_secs(1), 1, &clock);
        let never = Pool::new(Duration::ZERO, 1, &clock);
        let ((first, _a), (second, _b), (third, _c)) = (pair(), pair(), pair());
        pool.put(first);
        pool.put(second);
        never.put(third);
        assert!(pool.take().is_some());
        assert!(pool.take().is_none());
        assert!(never.take().is_none());
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_when_no_request_comes_any_more() {
        use tokio::io::AsyncReadExt;
        let pool = Pool::new(Duration::from_millis(20), 1, &Clock::system());
        let (connection, mut theirs) = pair();
        pool.put(connection);
        assert_eq!(theirs.read(&mut [0; 8]).await.expect("readable"), 0);
        assert!(pool.take().is_none());
    }
}
