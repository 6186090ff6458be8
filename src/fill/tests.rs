//! What leaders and followers may rely on.

use super::*;
use crate::body::BodyError;
use crate::clock::Clock;
use crate::fields::Fields;
use crate::policy::{CacheKey, Storable};
use crate::reason::Reason;
use crate::store::Store;
use bytes::Bytes;
use http::StatusCode;

const LIMITS: JoinLimits = JoinLimits { leader_timeout: Duration::from_secs(30), waiters_max: 2 };
const WAIT: Duration = Duration::from_millis(200);

fn mark() -> FillMark {
    Store::new(&crate::settings::Store::default(), Clock::manual()).mark()
}

fn key() -> CacheKey {
    CacheKey::for_tests(b"shop.test/p", b"")
}

fn join(flights: &Arc<Flights>, seconds: u64) -> Joined {
    let now = Moment::from_milliseconds(seconds * 1_000);
    flights.join(&key(), mark(), now, LIMITS, |_| false)
}

fn lead(flights: &Arc<Flights>) -> FillPermit {
    match join(flights, 0) {
        Joined::Lead(permit) => permit,
        Joined::Follow(_) | Joined::Full => panic!("somebody leads already"),
    }
}

fn follow(flights: &Arc<Flights>) -> FillWait {
    match join(flights, 0) {
        Joined::Follow(wait) => wait,
        Joined::Lead(_) | Joined::Full => panic!("not a follower"),
    }
}

fn share(permit: FillPermit) -> FillSharing {
    let storable = Storable::for_tests(Duration::from_secs(60));
    let (status, fields, key) = (StatusCode::OK, Fields::new(), key());
    let head = SharedHead { status, fields, takes_esi: false, storable, key };
    permit.share(head, None)
}

#[test]
fn what_php_took_for_another_node_is_told_to_one_that_waits() {
    let flights = Arc::new(Flights::default());
    let permit = lead(&flights);
    let (first, second) = (follow(&flights), follow(&flights));
    assert_eq!(first.take_bill(), 0, "it is led for a client of this node");
    let bill = Bill::default();
    permit.bill_to(&bill);
    bill.store(300, std::sync::atomic::Ordering::Relaxed);
    assert_eq!((first.take_bill(), second.take_bill()), (300, 0));
    assert_eq!(bill.load(std::sync::atomic::Ordering::Relaxed), 0, "nor to whom it was led for");
}

#[tokio::test]
async fn followers_stream_what_the_leader_fetches_as_it_arrives() {
    let flights = Arc::new(Flights::default());
    let permit = lead(&flights);
    let wait = follow(&flights);
    let waiting = tokio::spawn(async move { wait.outcome(WAIT).await });
    let sharing = share(permit);
    sharing.push(Bytes::from("first "));
    let Outcome::Shared(shared) = waiting.await.expect("joined") else { panic!("not shared") };
    let mut body = shared.body();
    assert_eq!(body.next().await, Some(Ok(Bytes::from("first "))));
    sharing.push(Bytes::from("second"));
    let permit = sharing.finish();
    assert_eq!(body.next().await, Some(Ok(Bytes::from("second"))));
    assert_eq!(body.next().await, None);
    assert_eq!(flights.len(), 1, "joinable until it is stored");
    drop(permit);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_response_found_uncacheable_releases_the_waiters_at_once() {
    let flights = Arc::new(Flights::default());
    let permit = lead(&flights);
    let waiting = follow(&flights);
    permit.release(Release::Uncacheable(Reason::Private));
    let outcome = waiting.outcome(WAIT).await;
    assert!(matches!(outcome, Outcome::Released(Release::Uncacheable(Reason::Private))));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_lost_leader_frees_its_followers() {
    let flights = Arc::new(Flights::default());
    let permit = lead(&flights);
    let waiting = follow(&flights);
    drop(permit);
    let outcome = waiting.outcome(WAIT).await;
    let Outcome::Released(Release::Failed { reason, .. }) = outcome else { panic!("not failed") };
    assert_eq!(reason, Reason::FillAbandoned);
}

#[tokio::test]
async fn a_leader_lost_in_the_middle_truncates_what_followers_read() {
    let flights = Arc::new(Flights::default());
    let sharing = share(lead(&flights));
    let Outcome::Shared(shared) = follow(&flights).outcome(WAIT).await else {
        panic!("not shared")
    };
    sharing.push(Bytes::from("half"));
    drop(sharing);
    assert_eq!(shared.body().collect(99).await, Err(BodyError::Truncated));
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_leader_that_hangs_is_superseded_and_its_landing_leaves_the_newer_flight() {
    let flights = Arc::new(Flights::default());
    let hung = lead(&flights);
    assert!(matches!(join(&flights, 29), Joined::Follow(_)));
    let Joined::Lead(newer) = join(&flights, 30) else { panic!("not superseded") };
    hung.release(Release::Uncacheable(Reason::Private));
    assert_eq!(flights.len(), 1);
    drop(newer);
    assert!(flights.is_empty());
}

#[tokio::test]
async fn a_request_after_a_purge_never_joins_an_older_flight() {
    let flights = Arc::new(Flights::default());
    let _older = lead(&flights);
    let joined = flights.join(&key(), mark(), Moment::default(), LIMITS, |_| true);
    assert!(matches!(joined, Joined::Lead(_)));
}

#[tokio::test]
async fn the_number_of_waiters_is_bounded_and_places_are_given_back() {
    let flights = Arc::new(Flights::default());
    let _permit = lead(&flights);
    let first = follow(&flights);
    let _second = follow(&flights);
    assert!(matches!(join(&flights, 0), Joined::Full));
    drop(first);
    assert!(matches!(join(&flights, 0), Joined::Follow(_)));
}

#[tokio::test]
async fn a_wait_ends_at_its_timeout() {
    let flights = Arc::new(Flights::default());
    let _permit = lead(&flights);
    let outcome = follow(&flights).outcome(Duration::from_millis(5)).await;
    assert!(matches!(outcome, Outcome::TimedOut));
}

#[tokio::test]
async fn a_fetch_after_hit_for_miss_cannot_be_joined() {
    let flights = Arc::new(Flights::default());
    let permit = lead(&flights);
    assert!(permit.can_be_joined());
    assert!(!flights.alone(&key(), mark(), Moment::default()).can_be_joined());
}

#[tokio::test]
async fn a_flight_is_joined_under_the_key_that_its_response_is_stored_under_too() {
    let flights = Arc::new(Flights::default());
    let mut permit = lead(&flights);
    let variant = CacheKey::for_tests(b"shop.test/p", b"variant");
    permit.stand_for(&variant);
    let joined = flights.join(&variant, mark(), Moment::default(), LIMITS, |_| false);
    assert!(matches!(joined, Joined::Follow(_)));
    assert_eq!((flights.len(), flights.waiters()), (1, 1), "it is one");
    drop(permit);
    let joined = flights.join(&variant, mark(), Moment::default(), LIMITS, |_| false);
    let Joined::Lead(newer) = joined else { panic!("it has landed") };
    let mut permit = lead(&flights);
    permit.stand_for(&variant);
    drop(permit);
    assert!(newer.can_be_joined(), "another's flight stays");
}
