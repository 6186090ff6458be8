//! The records of a real store, and what is wrong in all ways.

use std::io::Write;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// Every record of the corpus: how it was packed, whose it is, and the record.
fn recorded() -> Vec<(String, String, Vec<u8>)> {
    let mut all = Vec::new();
    for packed in ["none", "gzip", "lzf", "snappy"] {
        let path = format!(
            "{}/tests/corpus/sessions/records-{packed}-2048.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (name, session) in file["records"].as_object().unwrap() {
            for record in session["record"].as_array().into_iter().flatten() {
                let fields = &record["fields"];
                let data = match (fields["data"].as_str(), fields["data_b64"].as_str()) {
                    (Some(plain), _) => plain.as_bytes().to_vec(),
                    (None, Some(text)) => unbase64(text),
                    (None, None) => continue,
                };
                all.push((packed.to_owned(), name.clone(), data));
            }
        }
    }
    all
}

fn unbase64(text: &str) -> Vec<u8> {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.trim_end_matches('=').bytes().flat_map(|letter| {
        let value = letters.iter().position(|other| *other == letter).unwrap();
        (0..6).rev().map(move |bit| (value >> bit) & 1)
    });
    let bits: Vec<usize> = bits.collect();
    let byte = |bits: &[usize]| bits.iter().fold(0, |byte, bit| byte * 2 + bit);
    bits.chunks_exact(8).map(|bits| u8::try_from(byte(bits)).unwrap()).collect()
}

fn plain(name: &str) -> Vec<u8> {
    recorded().into_iter().find(|(packed, own, _)| packed == "none" && own == name).unwrap().2
}

fn guest() -> Record {
    Record::default()
}

fn what(data: &[u8]) -> Result<Record, Unreadable> {
    read(data, &Bounds::default())
}

#[test]
fn every_recorded_session_says_whose_it_is() {
    let mut seen = 0;
    for (packed, name, data) in recorded() {
        let customer = Record { logged_in: true, customer_group: Some(1), ..guest() };
        let expected = match name.as_str() {
            "guest with cart (3 items)" | "guest with cart at checkout" => {
                Record { quote: true, ..guest() }
            }
            "customer right after login" | "customer browsing" => {
                Record { quote: true, ..customer }
            }
            "admin logged in, product grid" => Record { admin: true, ..guest() },
            _ => guest(),
        };
        assert_eq!(what(&data), Ok(expected), "{packed}: {name}");
        seen += 1;
    }
    assert!(seen >= 40, "{seen} records");
}

#[test]
fn the_three_ways_to_pack_of_the_corpus_are_there() {
    for mark in [b":gz:", b":lz:", b":sn:"] {
        assert!(recorded().iter().any(|(_, _, data)| data.starts_with(mark)), "{mark:?}");
    }
}

fn packed(plain: &[u8]) -> Vec<Vec<u8>> {
    let mut zlib = flate2::write::ZlibEncoder::new(b":gz:".to_vec(), flate2::Compression::fast());
    zlib.write_all(plain).unwrap();
    let mut lz4 = b":l4:".to_vec();
    lz4.extend_from_slice(&u32::try_from(plain.len()).unwrap().to_le_bytes());
    lz4.extend_from_slice(&lz4_flex::block::compress(plain));
    let snappy = snap::raw::Encoder::new().compress_vec(plain).unwrap();
    let zstd = zstd::stream::encode_all(plain, 3).unwrap();
    let mut lzf = b":lz:".to_vec();
    for run in plain.chunks(32) {
        lzf.push(u8::try_from(run.len() - 1).unwrap());
        lzf.extend_from_slice(run);
    }
    vec![
        zlib.finish().unwrap(),
        lz4,
        [&b":sn:"[..], &snappy].concat(),
        [&b":zs:"[..], &zstd].concat(),
        lzf,
    ]
}

#[test]
fn each_way_to_pack_gives_the_same() {
    let plain = plain("customer browsing");
    for packed in packed(&plain) {
        assert_eq!(what(&packed), what(&plain), "{:?}", &packed[..4]);
        assert!(what(&packed).unwrap().logged_in);
    }
}

#[test]
fn what_is_packed_is_bounded_before_it_is_unpacked() {
    let large = format!("x|s:300000:\"{}\";", "a".repeat(300_000));
    let few = Bounds { content_max_bytes: 100_000, ratio_max: usize::MAX, ..Bounds::default() };
    let bomb = Bounds { ratio_max: 10, ..Bounds::default() };
    for packed in packed(large.as_bytes()) {
        assert!(read(&packed, &few).is_err(), "{:?}", &packed[..4]);
        let expands = packed.len() * 10 < large.len();
        assert_eq!(read(&packed, &bomb).is_err(), expands, "{:?}", &packed[..4]);
    }
    assert_eq!(read(large.as_bytes(), &few), Err(Unreadable::TooLarge));
}

#[test]
fn a_truncated_record_is_unreadable() {
    let (_, _, whole) = recorded().into_iter().find(|(packed, ..)| packed == "gzip").unwrap();
    for packed in packed(&plain("customer browsing")).into_iter().chain([whole]) {
        for cut in [5, packed.len() / 2, packed.len() - 1] {
            let record = what(&packed[..cut]);
            assert!(record.is_err() || record == Ok(guest()), "{:?} {cut}", &packed[..4]);
        }
    }
}

#[test]
fn a_session_that_is_one_array_is_read_too() {
    let one = br#"a:2:{s:13:"customer_base";a:2:{s:11:"customer_id";i:5;s:17:"customer_group_id";i:3;}i:0;N;}"#;
    let expected = Record { logged_in: true, customer_group: Some(3), ..guest() };
    assert_eq!(what(one), Ok(expected));
    assert_eq!(what(b"a:0:{}"), Ok(guest()));
    assert_eq!(what(b"a:0:{}x"), Err(Unreadable::Malformed));
}

#[test]
fn all_kinds_of_values_are_stepped_over() {
    let values = br#"a|b:1;b|d:-1.5E+20;c|i:-7;d|N;e|O:1:"X":1:{s:1:"y";a:1:{i:0;R:2;}}f|C:1:"Y":5:{}}}}}}g|E:5:"A:One";!gone|h|s:3:"|;}";checkout|a:1:{s:10:"quote_id_1";i:9;}"#;
    assert_eq!(what(values), Ok(Record { quote: true, ..guest() }));
    assert_eq!(what(b""), Ok(guest()));
}

#[test]
fn of_several_websites_the_one_with_a_login_counts() {
    let two = br#"customer_a|a:2:{s:11:"customer_id";s:1:"4";s:17:"customer_group_id";s:1:"2";}customer_b|a:2:{s:11:"customer_id";N;s:17:"customer_group_id";N;}"#;
    assert_eq!(what(two), Ok(Record { logged_in: true, customer_group: Some(2), ..guest() }));
}

#[test]
fn what_cannot_be_told_is_unreadable_and_never_a_guess() {
    for unclear in [
        &br#"customer_base|a:1:{s:11:"customer_id";R:1;}"#[..],
        br#"customer_base|a:1:{s:11:"customer_id";s:1:"x";}"#,
        b"name",
        b"x|",
        b"x|s:5:\"abc\";",
        b"x|s:-1:\"\";",
        b"x|a:2:{i:0;N;}",
        b"x|a:99999999999:{",
        b"x|i:99999999999999999999;",
        b"x|O:1:\"X\":1:{N;N;}",
        b":xx:abc",
        b":gz:abc",
        b":l4:abc",
        b":l4:\xff\xff\xff\xff",
    ] {
        assert!(what(unclear).is_err(), "{}", String::from_utf8_lossy(unclear));
    }
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let deep = |levels: usize| format!("x|{}N;{}", "a:1:{i:0;".repeat(levels), "}".repeat(levels));
    assert_eq!(what(deep(60).as_bytes()), Ok(guest()));
    assert_eq!(what(deep(100_000).as_bytes()), Err(Unreadable::TooLarge));
    let many = format!("x|a:60000:{{{}}}", "i:0;N;".repeat(60_000));
    assert_eq!(what(many.as_bytes()), Err(Unreadable::TooLarge));
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(data in proptest::collection::vec(any::<u8>(), 0..400), mark in 0_usize..6) {
        let mark = [&b""[..], b":gz:", b":lz:", b":l4:", b":sn:", b":zs:"][mark];
        let _ = what(&[mark, &data].concat());
    }

    #[test]
    fn one_wrong_byte_is_never_too_much(at in 0_usize..4_000, byte: u8, which in 0_usize..40) {
        let (_, _, mut data) = recorded().swap_remove(which);
        let at = at % data.len();
        data[at] = byte;
        let _ = what(&data);
    }
}
