//! Any response comes back as it was; whatever happens to the bytes, what is read before the fault
//! was written.

use super::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const RECORD_MAX_BYTES: usize = 1 << 16;

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

fn head() -> Head {
    let (release, position) = ("1700".to_owned(), "12-0".to_owned());
    let echoes = vec![Bytes::from("1 hard tags a"), Bytes::new()];
    Head { created_unix_seconds: 7, keyspace: 9, is_last: true, hits: 3, release, position, echoes }
}

fn written(responses: &[StoredResponse]) -> Vec<u8> {
    let mut writer =
        Writer::begin(Vec::new(), &head(), u64::MAX, RECORD_MAX_BYTES).expect("memory");
    for response in responses {
        assert_eq!(writer.push(response).expect("memory"), Pushed::Written);
    }
    writer.finish().expect("memory")
}

/// What can be read, and the fault that ended it.
fn read(bytes: &[u8]) -> (Vec<StoredResponse>, Option<Fault>) {
    let mut reader = match Reader::open(bytes, RECORD_MAX_BYTES) {
        Ok(reader) => reader,
        Err(fault) => return (Vec::new(), Some(fault)),
    };
    let (mut responses, mut fault) = (Vec::new(), None);
    for next in &mut reader {
        match next {
            Ok(response) => responses.push(response),
            Err(error) => fault = Some(error),
        }
    }
    assert!(reader.next().is_none(), "it stays ended");
    (responses, fault)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read(responses in vec(response(), 0..6)) {
        let bytes = written(&responses);
        let (read, fault) = read(&bytes);
        prop_assert!(fault.is_none(), "{:?}", fault);
        prop_assert_eq!(read, responses);
    }

    #[test]
    fn a_file_that_is_cut_off_gives_what_was_whole(
        responses in vec(response(), 0..4),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = written(&responses);
        let (read, fault) = read(&bytes[..at.index(bytes.len())]);
        prop_assert!(matches!(fault, Some(Fault::Short(_))), "{:?}", fault);
        prop_assert_eq!(&read[..], &responses[..read.len()]);
    }

    #[test]
    fn a_byte_that_has_changed_is_noticed(
        responses in vec(response(), 1..4),
        at in any::<prop::sample::Index>(),
        change in 1_u8..,
    ) {
        let mut bytes = written(&responses);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let (read, fault) = read(&bytes);
        prop_assert!(fault.is_some());
        prop_assert_eq!(&read[..], &responses[..read.len()]);
    }

    #[test]
    fn any_bytes_are_no_record_or_the_one_that_is_written_so(content in vec(any::<u8>(), 0..200)) {
        if let Ok(response) = record::read(content.clone().into()) {
            let mut again = Vec::new();
            record::write(&response, &mut again).expect("small");
            prop_assert_eq!(again, content);
        }
    }
}

#[test]
fn each_fault_has_its_reason() {
    let whole = written(&[StoredResponse::default(), StoredResponse::default()]);
    let fault = |bytes: &[u8]| read(bytes).1.expect("a fault").to_string();
    assert_eq!(fault(b"PARVISSX........"), "it is no snapshot");
    let mut later = whole.clone();
    later[8] = 2;
    assert_eq!(fault(&later), "it is of version 2; this program reads version 1");
    assert_eq!(*Reader::open(&whole[..], 1).expect("opened").head(), head());
    assert_eq!(fault(&whole[..whole.len() - 1]), "it ends in record 2, before its end");
    let record = written(&[StoredResponse::default()]).len() - written(&[]).len();
    let end = written(&[]).len() - written_head();
    // The second record is left out.
    let first = whole.len() - end - record;
    let short = [&whole[..first], &whole[whole.len() - end..]].concat();
    assert_eq!(fault(&short), "it has 1 records, and its end says 2");
    let tight = Reader::open(&whole[..], 10).expect("opened").next().expect("one");
    assert!(matches!(tight, Err(Fault::TooLarge { record: 0, .. })), "{tight:?}");
    // A length of 4 GiB takes no memory for what never comes.
    let mut long = whole[..written_head()].to_vec();
    long.extend_from_slice(&[RECORD, 255, 255, 255, 255, 1, 2, 3]);
    let reader = Reader::open(&long[..], usize::MAX).expect("opened");
    assert!(matches!(reader.last(), Some(Err(Fault::Short(0)))));
}

fn written_head() -> usize {
    let writer = Writer::begin(Vec::new(), &head(), u64::MAX, 1).expect("memory");
    usize::try_from(writer.bytes()).expect("small")
}

#[test]
fn what_does_not_fit_is_left_out_and_the_rest_is_whole() {
    let small = StoredResponse::default();
    let large = StoredResponse { head: Bytes::from(vec![0; 2_000]), ..small.clone() };
    let one = written(std::slice::from_ref(&small)).len() as u64;
    let mut writer = Writer::begin(Vec::new(), &head(), one, 1_000).expect("memory");
    assert_eq!(writer.push(&large).expect("memory"), Pushed::TooLarge);
    assert_eq!(writer.push(&small).expect("memory"), Pushed::Written);
    assert_eq!(writer.push(&small).expect("memory"), Pushed::Full);
    let bytes = writer.finish().expect("memory");
    assert_eq!(bytes.len() as u64, one);
    assert_eq!(read(&bytes).0, [small]);
}

#[test]
fn a_response_ages_and_is_gone_past_its_keep() {
    let seconds = Duration::from_secs;
    let fresh = StoredResponse { ttl: seconds(10), keep: seconds(5), ..StoredResponse::default() };
    let younger = fresh.clone().aged_by(seconds(4)).expect("fresh");
    assert_eq!((younger.ttl, younger.stale_for, younger.age), (seconds(6), seconds(0), seconds(4)));
    let stale = younger.aged_by(seconds(8)).expect("kept");
    assert_eq!((stale.ttl, stale.stale_for, stale.age), (seconds(0), seconds(2), seconds(12)));
    assert!(stale.aged_by(seconds(3)).is_none());
    assert!(fresh.aged_by(Duration::MAX).is_none());
}
