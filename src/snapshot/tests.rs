//! Any response comes back as it was, and nothing less than all of it.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn duration() -> impl Strategy<Value = Duration> {
    prop_oneof![0..100_000_u64, Just(u64::MAX)].prop_map(Duration::from_millis)
}

fn segment() -> impl Strategy<Value = Segment> {
    let form = || option::of(bytes());
    let literal = (form(), form(), form(), form(), any::<(u32, u32)>()).prop_map(
        |(identity, deflate, brotli, zstd, (crc32, longer))| {
            let known = identity.as_ref().map(|bytes| bytes.len() as u64);
            let identity_bytes = known.unwrap_or(u64::from(longer));
            Segment::Literal(Literal { identity_bytes, crc32, identity, deflate, brotli, zstd })
        },
    );
    let include = (bytes(), form(), any::<bool>()).prop_map(|(source, alternative, continues)| {
        Segment::Include { source, alternative, continues }
    });
    prop_oneof![literal, include]
}

fn response() -> impl Strategy<Value = StoredResponse> {
    let variant = (bytes(), vec(bytes(), 0..3), option::of(bytes()))
        .prop_map(|(primary, vary, by_language)| Variant { primary, vary, by_language });
    let texts = (bytes(), bytes(), option::of(bytes()), option::of(bytes()));
    let lists = (vec(segment(), 0..4), vec(bytes(), 0..4), option::of(variant));
    let numbers = any::<(u16, u64, u8, bool, bool)>();
    (texts, lists, numbers, proptest::array::uniform6(duration())).prop_map(
        |((key, head, validation, pool), (segments, tags, variant), numbers, durations)| {
            let (status, hits, marks, stale_if_disconnected, debug) = numbers;
            let [ttl, stale_for, grace, keep, stale_if_error, age] = durations;
            StoredResponse {
                key,
                status,
                head,
                validation,
                segments,
                tags,
                pool,
                ttl,
                stale_for,
                grace,
                keep,
                stale_if_error,
                stale_if_disconnected,
                age,
                debug,
                hits,
                marks,
                variant,
            }
        },
    )
}

#[test]
fn a_response_grows_older_until_it_is_kept_no_longer() {
    let seconds = Duration::from_secs;
    let response = StoredResponse {
        ttl: seconds(10),
        keep: seconds(20),
        age: seconds(3),
        ..Default::default()
    };
    let later = response.clone().aged_by(seconds(4)).expect("kept");
    assert_eq!((later.ttl, later.stale_for, later.age), (seconds(6), seconds(0), seconds(7)));
    let later = later.aged_by(seconds(7)).expect("kept");
    assert_eq!((later.ttl, later.stale_for, later.age), (seconds(0), seconds(1), seconds(14)));
    assert!(later.clone().aged_by(seconds(18)).is_some());
    assert!(later.aged_by(seconds(19)).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(response in response()) {
        let mut bytes = Vec::new();
        record::write(&response, &mut bytes).expect("small");
        prop_assert_eq!(record::read(bytes.into()), Ok(response));
    }

    #[test]
    fn what_is_cut_off_is_no_response(response in response(), at in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        record::write(&response, &mut bytes).expect("small");
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(record::read(bytes.into()).is_err());
    }
}
