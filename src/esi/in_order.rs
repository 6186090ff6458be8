//! Work that is done at the same time, and whose results are wanted in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures of which some run at the same time, each as a task of its own, so that a slow reader of
/// the results delays none of them. Dropping it ends those that run. Needs a tokio runtime.
pub struct InOrder<T> {
    at_once_max: usize,
    running: VecDeque<Running<T>>,
    waiting: VecDeque<Boxed<T>>,
}

struct Running<T>(JoinHandle<T>);

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + 'static> InOrder<T> {
    /// At most `at_once_max` run at the same time, those counted that are done and not taken.
    pub fn new(at_once_max: usize) -> Self {
        Self { at_once_max: at_once_max.max(1), running: VecDeque::new(), waiting: VecDeque::new() }
    }

    /// Starts one, or has it wait for its turn.
    pub fn push(&mut self, future: impl Future<Output = T> + Send + 'static) {
        self.waiting.push_back(Box::pin(future));
        self.start();
    }

    /// The next result, in the order of [`InOrder::push`]; `None` for one that was lost (it
    /// panicked), and where there is none. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let Some(first) = self.running.front_mut() else { return Poll::Ready(None) };
        let Poll::Ready(result) = Pin::new(&mut first.0).poll(context) else {
            return Poll::Pending;
        };
        self.running.pop_front();
        self.start();
        Poll::Ready(result.ok())
    }

    fn start(&mut self) {
        while self.running.len() < self.at_once_max
            && let Some(future) = self.waiting.pop_front()
        {
            self.running.push_back(Running(tokio::spawn(future)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Notify, oneshot};

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_whichever_is_done_first() {
        let mut work = InOrder::new(3);
        let second = Arc::new(Notify::new());
        let wait = Arc::clone(&second);
        work.push(async move {
            wait.notified().await;
            1
        });
        work.push(async move {
            second.notify_one();
            2
        });
        work.push(async { panic!("lost") });
        work.push(async { 4 });
        let results = [work.next().await, work.next().await, work.next().await, work.next().await];
        assert_eq!(results, [Some(1), Some(2), None, Some(4)]);
        assert_eq!(work.next().await, None);
    }

    #[tokio::test]
    async fn no_more_run_at_once_than_the_bound() {
        let running = Arc::new(AtomicUsize::new(0));
        let mut work = InOrder::new(3);
        for _ in 0..10 {
            let running = Arc::clone(&running);
            work.push(async move {
                running.fetch_add(1, Ordering::SeqCst);
            });
        }
        for taken in 0..10 {
            assert_eq!(work.next().await, Some(()));
            assert!(running.load(Ordering::SeqCst) <= taken + 4);
        }
    }

    #[tokio::test]
    async fn dropping_it_ends_what_runs() {
        let (held, dropped) = oneshot::channel::<()>();
        let mut work = InOrder::new(1);
        work.push(async move {
            let _held = held;
            pending::<()>().await;
        });
        drop(work);
        assert!(dropped.await.is_err());
    }
}
