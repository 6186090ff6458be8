//! Bounded concurrency: as many requests in an origin as it has workers, the others in one queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::OriginError;
use crate::settings;

/// The door of an origin.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    concurrency_max: usize,
    queue_max: usize,
    queue_timeout: Duration,
}

/// A place in the origin; dropping it lets the next one in.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Gate {
    /// A gate with `origin.concurrency_max` places.
    pub fn new(settings: &settings::Origin) -> Arc<Self> {
        let places = settings.concurrency_max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            concurrency_max: settings.concurrency_max,
            queue_max: settings.queue_max,
            queue_timeout: settings.queue_timeout,
        })
    }

    /// A place, at once or in the order of arrival. [`OriginError::Busy`] when the queue is full
    /// or `origin.queue_timeout` is over.
    pub async fn enter(&self) -> Result<Place, OriginError> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let _waiting = Waiting::join(self).ok_or_else(|| self.busy())?;
        let place = Arc::clone(&self.places).acquire_owned();
        match tokio::time::timeout(self.queue_timeout, place).await {
            Ok(Ok(permit)) => Ok(Place { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(self.busy()),
        }
    }

    /// The error for who finds no place.
    pub fn busy(&self) -> OriginError {
        OriginError::Busy { concurrency_max: self.concurrency_max, queue_max: self.queue_max }
    }

    /// Requests in the origin.
    pub fn in_use(&self) -> usize {
        self.concurrency_max.saturating_sub(self.places.available_permits())
    }

    /// Requests that wait for a place.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A seat in the queue, left on drop: a client that goes away gives its seat up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(gate: &'a Gate) -> Option<Self> {
        let join = |waiting: usize| (waiting < gate.queue_max).then_some(waiting + 1);
        gate.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join).ok()?;
        Some(Self(&gate.waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(concurrency_max: usize, queue_max: usize, queue_timeout: Duration) -> Arc<Gate> {
        let settings = settings::Origin {
            concurrency_max,
            queue_max,
            queue_timeout,
            ..settings::Origin::default()
        };
        Gate::new(&settings)
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_and_who_finds_the_queue_full_is_refused() {
        let gate = gate(1, 1, Duration::from_secs(9));
        let place = gate.enter().await.expect("free");
        let waiter = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter().await.map(drop) }
        });
        while gate.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.enter().await, Err(OriginError::Busy { .. })));
        assert_eq!((gate.in_use(), gate.waiting()), (1, 1));
        drop(place);
        waiter.await.expect("joined").expect("a place");
        assert_eq!((gate.in_use(), gate.waiting()), (0, 0));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_time_in_the_queue() {
        let gate = gate(1, 1, Duration::from_millis(5));
        let _place = gate.enter().await.expect("free");
        assert!(matches!(gate.enter().await, Err(OriginError::Busy { .. })));
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_gives_its_seat_up() {
        let gate = gate(1, 1, Duration::from_secs(9));
        let _place = gate.enter().await.expect("free");
        let gone = tokio::time::timeout(Duration::from_millis(5), gate.enter()).await;
        assert!(gone.is_err());
        assert_eq!(gate.waiting(), 0);
    }
}
