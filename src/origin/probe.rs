//! The active probe: asks the origin how it is, at a steady pace.

use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;

use super::OriginError;
use super::health::{Health, Sign};
use crate::clock::Clock;
use crate::settings;

/// What a probe asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The response to `health.probe`.
    Request,
    /// A connection, and nothing over it.
    Connection,
}

/// Probes until `stop` becomes true or its sender goes.
///
/// With `requests` each round is a [`Check::Request`]; it passes with 200. Where connections are
/// being refused a [`Check::Connection`] comes first (and, without `requests`, alone): a server
/// that is not ready gets no traffic from which it could learn that its origin is back.
pub async fn run<Fetch>(
    health: &Health,
    settings: &settings::Health,
    requests: bool,
    clock: &Clock,
    fetch: impl Fn(Check) -> Fetch,
    mut stop: watch::Receiver<bool>,
) where
    Fetch: Future<Output = Result<StatusCode, OriginError>>,
{
    let interval = settings.interval.max(Duration::from_millis(1));
    loop {
        let round = async {
            if health.refused_for(clock.now()).is_some() {
                check_connection(health, &fetch, settings.timeout).await;
            }
            if requests {
                let passed = check_request(&fetch, settings.timeout).await;
                health.note_probe(passed);
            }
            tokio::time::sleep(interval).await;
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return,
            () = round => {}
        }
    }
}

async fn check_connection<Fetch>(
    health: &Health,
    fetch: &impl Fn(Check) -> Fetch,
    timeout: Duration,
) where
    Fetch: Future<Output = Result<StatusCode, OriginError>>,
{
    let result = tokio::time::timeout(timeout, fetch(Check::Connection)).await;
    match result {
        Ok(Ok(_)) => health.note(Sign::Accepted),
        Ok(Err(OriginError::Refused { .. })) => health.note(Sign::Refused),
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn check_request<Fetch>(fetch: &impl Fn(Check) -> Fetch, timeout: Duration) -> bool
where
    Fetch: Future<Output = Result<StatusCode, OriginError>>,
{
    match tokio::time::timeout(timeout, fetch(Check::Request)).await {
        Ok(Ok(status)) => status == StatusCode::OK,
        Ok(Err(error)) => {
            tracing::debug!(%error, "the origin's probe failed");
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn refused() -> OriginError {
        let source = std::io::ErrorKind::ConnectionRefused.into();
        OriginError::Refused { endpoint: "unix:/x".to_owned(), source }
    }

    fn settings() -> settings::Health {
        let interval = Duration::from_millis(1);
        settings::Health { interval, ..settings::Health::default() }
    }

    #[tokio::test]
    async fn failing_probes_make_the_origin_sick_and_stop_ends_them() {
        let clock = Clock::manual();
        let health = Arc::new(Health::new(&settings(), clock.clone()));
        let (stop, stopped) = watch::channel(false);
        let probing = tokio::spawn({
            let health = Arc::clone(&health);
            async move {
                let fetch = |_| async { Ok(StatusCode::INTERNAL_SERVER_ERROR) };
                run(&health, &settings(), true, &clock, fetch, stopped).await;
            }
        });
        while health.healthy() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send(true).expect("still probing");
        probing.await.expect("ended");
    }

    #[tokio::test]
    async fn without_a_probe_path_a_refused_origin_is_still_seen_to_come_back() {
        let clock = Clock::manual();
        let health = Arc::new(Health::new(&settings(), clock.clone()));
        health.note(Sign::Refused);
        let listens = Arc::new(AtomicBool::new(false));
        let (_stop, stopped) = watch::channel(false);
        let probing = tokio::spawn({
            let (health, clock, listens) = (Arc::clone(&health), clock.clone(), listens.clone());
            async move {
                let fetch = |check| {
                    assert_eq!(check, Check::Connection);
                    let listens = listens.load(Ordering::SeqCst);
                    async move { if listens { Ok(StatusCode::OK) } else { Err(refused()) } }
                };
                run(&health, &settings(), false, &clock, fetch, stopped).await;
            }
        });
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(health.refused_for(clock.now()).is_some());
        listens.store(true, Ordering::SeqCst);
        while health.refused_for(clock.now()).is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        probing.abort();
    }

    #[tokio::test]
    async fn a_probe_that_hangs_has_failed() {
        let clock = Clock::manual();
        let timeout = Duration::from_millis(1);
        let settings = settings::Health { timeout, threshold: 10, ..settings() };
        let health = Health::new(&settings, clock.clone());
        let (_stop, stopped) = watch::channel(false);
        let hang = |_| std::future::pending();
        let probing = run(&health, &settings, true, &clock, hang, stopped);
        let sick = async {
            while health.healthy() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = probing => panic!("nobody stopped it"),
            () = sick => {}
        }
    }
}
