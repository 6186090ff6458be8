use proptest::prelude::*;

use super::*;

fn text() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

proptest! {
    #[test]
    fn what_is_asked_reads_back_as_it_was_written(
        texts in prop::collection::vec(text(), 4),
        fields in prop::collection::vec((text(), text()), 0..5),
        server_port: u16, sequence: u64, flags: [bool; 4],
        wanted in prop::option::of(
            ("[a-z][a-z0-9-]{0,39}|", any::<u16>(), any::<bool>(), any::<bool>())
        ),
    ) {
        let mut list = Fields::new();
        for (name, value) in fields {
            list.push(name, value);
        }
        let ask = Ask {
            key: texts[0].clone(),
            target: texts[1].clone(),
            authority: texts[2].clone(),
            release: texts[3].clone(),
            scheme: if flags[0] { Scheme::Https } else { Scheme::Http },
            server_port,
            is_fragment: flags[1],
            may_render: flags[2],
            takes_stale: flags[3],
            place: Position { epoch: Token::new([7; 16]), sequence, entry: Some(Token::new([8; 16])) },
            wanted: wanted.map(|(class, followers, is_refresh, asks_php)| Wanted {
                class: class.into(), followers, is_refresh, asks_php,
            }),
            fields: list,
        };
        prop_assert_eq!(Ask::decode(ask.encode()), Some(ask));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(content: Vec<u8>) {
        let content = Bytes::from(content);
        let _ = (Ask::decode(content.clone()), Lent::decode(content));
    }

    #[test]
    fn an_answer_arrives_in_any_pieces(
        content: Vec<u8>, size in 1..50_usize, working in 0..5_usize,
    ) {
        let mut sent = vec![WORKING; working];
        sent.extend_from_slice(&answer_head(&content, &[9; 32]));
        sent.extend_from_slice(&content);
        let mut arriving = Arriving::new(content.len());
        for piece in sent.chunks(size) {
            prop_assert_eq!(arriving.push(piece), Ok(()));
        }
        prop_assert_eq!(arriving.whole(), Some(([9; 32], Bytes::from(content))));
    }
}

#[test]
fn how_urgently_it_is_wanted_is_a_field_like_others_to_who_does_not_know_it() {
    let wanted = Wanted { class: "pages".into(), followers: 3, is_refresh: true, asks_php: true };
    assert_eq!(wanted.to_value(), b"pages 3 refresh php");
    let later = Bytes::from_static(b"pages 3 soon refresh php");
    assert_eq!(Wanted::from_value(&later), Some(wanted));
    let long = [&[b'x'; CLASS_MAX_BYTES + 1][..], b" 1"].concat();
    for other in [&b""[..], b"pages", b"pages x", b"pages 65536", &long] {
        assert_eq!(Wanted::from_value(&Bytes::copy_from_slice(other)), None, "{other:?}");
    }
}

#[test]
fn each_answer_reads_back_as_it_was_written() {
    let record = Bytes::from_static(b"record");
    let mut answers = vec![
        Answer::Page { record: record.clone(), echo: Due::Nothing },
        Answer::Page { record: record.clone(), echo: Due::Soft(Duration::ZERO) },
        Answer::Page { record, echo: Due::Hard(Duration::from_millis(1_234)) },
    ];
    answers.extend(Reason::ALL.iter().map(|reason| Answer::Uncacheable(*reason)));
    answers.extend(Why::ALL.map(Answer::Nothing));
    for answer in answers {
        for php in [Duration::ZERO, Duration::from_millis(1_234)] {
            let lent = Lent { answer: answer.clone(), php };
            assert_eq!(Lent::decode(lent.encode()), Some(lent));
        }
    }
    let busy = Lent { answer: Answer::Nothing(Why::Busy), php: Duration::ZERO };
    let more = [&busy.encode()[..], b"more"].concat();
    assert_eq!(Lent::decode(more.into()), None);
}

#[test]
fn what_php_took_stands_before_what_nodes_that_do_not_know_of_it_can_read() {
    let lent = |php| Lent { answer: Answer::Nothing(Why::Failed), php }.encode();
    let plain = lent(Duration::ZERO);
    assert_eq!(plain[..], [NOTHING, Why::Failed as u8]);
    let told = lent(Duration::from_millis(300));
    assert_eq!(told[..], [&[TOOK, 44, 1, 0, 0][..], &plain].concat());
    assert_eq!(Lent::decode([&told[..TOOK_BYTES], &told].concat().into()), None, "once");
}

#[test]
fn an_answer_that_is_cut_or_too_long_is_none() {
    let sent = [&answer_head(b"content", &[9; 32])[..], b"conten"].concat();
    let mut arriving = Arriving::new(7);
    arriving.push(&sent).expect("short enough");
    assert_eq!(arriving.whole(), None);
    let mut arriving = Arriving::new(5);
    assert_eq!(arriving.push(&sent), Err(TooLong));
}
