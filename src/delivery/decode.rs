//! Taking off the coding of an origin that compresses unasked.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;

use super::decoder::{DecodeLimits, Decoder};
use super::head::Coding;
use crate::body::{Body, BodyError, BodySender, channel};
use crate::fields::Fields;

/// Coded bytes that are taken in at a time; at the worst ratio of deflate (1 : 1,032) they are
/// 4 MiB, which is looked at piece by piece.
const STEP_BYTES: usize = 4 << 10;

/// What came of the attempt to take off a coding.
#[derive(Debug)]
pub enum Decoded {
    /// The content itself. Where it is too large, or turns out later to be malformed or cut off, it
    /// ends with an error.
    Identity(Body),
    /// The bytes as they came, whole: what they begin with is not what the coding says.
    Coded(Body),
}

/// Takes a coding off content while it streams. It waits for the first decoded bytes, and looks at
/// what else has come by then, so that content which is not coded as it says can be given back.
/// After that nothing is kept: the reader may have sent it on.
///
/// Needs a tokio runtime: the work is done by a task of its own.
pub async fn decode(mut body: Body, coding: Coding, limits: DecodeLimits) -> Decoded {
    let Some(mut decoder) = Decoder::new(coding, limits) else {
        return Decoded::Coded(body);
    };
    let length = body.len();
    let (mut seen, mut seen_bytes) = (Vec::new(), 0);
    let failed = loop {
        let arrived = match poll_fn(|context| Poll::Ready(body.poll_next(context))).await {
            Poll::Ready(piece) => piece,
            Poll::Pending if decoder.has_output() => break None,
            Poll::Pending => body.next().await,
        };
        let piece = match arrived {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => break Some(error),
            None => {
                return match decoder.finish() {
                    Ok(content) => {
                        let trailers = body.take_trailers_for_other_bytes();
                        Decoded::Identity(whole(content, trailers).await)
                    }
                    Err(BodyError::Malformed) => {
                        let buffer = limits.buffer_max_bytes;
                        Decoded::Coded(given_back(seen, body, length, buffer))
                    }
                    Err(error) => Decoded::Identity(broken(error)),
                };
            }
        };
        seen_bytes += piece.len();
        seen.push(piece.clone());
        match write_in_steps(&mut decoder, &piece).await {
            Ok(()) => {}
            Err(BodyError::Malformed) => {
                return Decoded::Coded(given_back(seen, body, length, limits.buffer_max_bytes));
            }
            // A bomb is not handed on to clients.
            Err(error) => return Decoded::Identity(broken(error)),
        }
        if seen_bytes.max(decoder.output_bytes()) >= limits.buffer_max_bytes {
            break None;
        }
    };
    let (sender, identity) = channel(limits.buffer_max_bytes, None);
    tokio::spawn(run(body, decoder, failed, sender));
    Decoded::Identity(identity)
}

/// Content of which nothing is to be had.
fn broken(error: BodyError) -> Body {
    let (sender, body) = channel(1, None);
    sender.abort(error);
    body
}

/// Content that has come to its end already, and what follows it.
async fn whole(content: Bytes, trailers: Fields) -> Body {
    if trailers.is_empty() {
        return content.into();
    }
    let (mut sender, body) = channel(content.len(), None);
    if sender.send(content).await.is_ok() {
        sender.finish_with(trailers);
    }
    body
}

/// What was looked at, and what follows it.
fn given_back(seen: Vec<Bytes>, mut rest: Body, length: Option<u64>, buffer: usize) -> Body {
    let (mut sender, body) = channel(buffer, length);
    tokio::spawn(async move {
        for piece in seen {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
        while let Some(piece) = rest.next().await {
            let sent = match piece {
                Ok(piece) => sender.send(piece).await,
                Err(error) => return sender.abort(error),
            };
            if sent.is_err() {
                return;
            }
        }
        sender.finish_with(rest.take_trailers());
    });
    body
}

/// Sends on what is decoded already, and decodes the rest; `failed`: there is none, but an error.
async fn run(
    mut body: Body,
    mut decoder: Decoder,
    failed: Option<BodyError>,
    mut sender: BodySender,
) {
    if sender.send(decoder.take()).await.is_err() {
        return;
    }
    if let Some(error) = failed {
        return sender.abort(error);
    }
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = sender.closed() => return,
        };
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return sender.abort(error),
            None => break,
        };
        for step in piece.chunks(STEP_BYTES) {
            if let Err(error) = decoder.write(step) {
                return sender.abort(error);
            }
            if sender.send(decoder.take()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    match decoder.finish() {
        Ok(rest) => {
            if sender.send(rest).await.is_ok() {
                sender.finish_with(body.take_trailers_for_other_bytes());
            }
        }
        Err(error) => sender.abort(error),
    }
}

/// Decodes in steps, after each of which the thread is given to others.
async fn write_in_steps(decoder: &mut Decoder, coded: &[u8]) -> Result<(), BodyError> {
    for step in coded.chunks(STEP_BYTES) {
        decoder.write(step)?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;

    use super::super::decoder::tests::{CODINGS, coded, limits};
    use super::*;

    fn pieces(file: &[u8], bytes: usize) -> Body {
        Body::parts(file.chunks(bytes).map(Bytes::copy_from_slice).collect::<Vec<_>>())
    }

    /// What comes out; where the bytes are given back, they have to be all of them.
    async fn decoded(
        file: &[u8],
        coding: Coding,
        limits: DecodeLimits,
    ) -> Result<Bytes, BodyError> {
        let mut results = Vec::new();
        for piece in [7, 1 << 20] {
            results.push(match decode(pieces(file, piece), coding, limits).await {
                Decoded::Identity(body) => body.collect(u64::MAX).await,
                Decoded::Coded(body) => {
                    assert_eq!(body.collect(u64::MAX).await.as_deref(), Ok(file));
                    Err(BodyError::Malformed)
                }
            });
        }
        assert_eq!(results[0].as_ref().ok(), results[1].as_ref().ok(), "any split is the same");
        results.remove(0)
    }

    #[tokio::test]
    async fn each_coding_is_taken_off() {
        let text = b"some text ".repeat(500);
        for coding in CODINGS {
            let file = coded(coding, &text);
            assert_eq!(decoded(&file, coding, limits(100, 5_000)).await.as_deref(), Ok(&text[..]));
            assert_eq!(decoded(&[], coding, limits(100, 10)).await, Ok(Bytes::new()));
            let empty = coded(coding, b"");
            assert_eq!(decoded(&empty, coding, limits(100, 10)).await, Ok(Bytes::new()));
        }
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::new(6));
        raw.write_all(&text).expect("in memory");
        let raw = raw.finish().expect("in memory");
        let inflated = decoded(&raw, Coding::Deflate, limits(100, 5_000)).await;
        assert_eq!(inflated.as_deref(), Ok(&text[..]));
    }

    #[tokio::test]
    async fn a_gzip_file_may_have_several_members() {
        let mut file = coded(Coding::Gzip, b"one");
        file.extend(coded(Coding::Gzip, b" and more"));
        let both = decoded(&file, Coding::Gzip, limits(100, 10_000)).await;
        assert_eq!(both, Ok(Bytes::from("one and more")));
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_by_its_ratio() {
        for coding in CODINGS {
            let file = coded(coding, &vec![0; 10 << 20]);
            let stopped = decode(pieces(&file, 1 << 20), coding, limits(100, u64::MAX)).await;
            let Decoded::Identity(body) = stopped else { panic!("{coding:?}: it is handed on") };
            let stopped = body.collect(u64::MAX).await;
            assert!(matches!(stopped, Err(BodyError::TooLarge { .. })), "{coding:?}");
            let text = vec![0; 64 << 10];
            let small = coded(coding, &text);
            assert_eq!(decoded(&small, coding, limits(1, u64::MAX)).await, Ok(text.into()));
        }
        let file = coded(Coding::Gzip, &vec![0; 10 << 20]);
        assert!(decoded(&file, Coding::Gzip, limits(1_100, u64::MAX)).await.is_ok());
    }

    #[tokio::test]
    async fn content_larger_than_its_bound_is_refused() {
        for coding in CODINGS {
            let file = coded(coding, &[b'a'; 1_000]);
            assert!(decoded(&file, coding, limits(100, 999)).await.is_err(), "{coding:?}");
            assert!(decoded(&file, coding, limits(100, 1_000)).await.is_ok(), "{coding:?}");
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_or_damaged_is_an_error() {
        let noise: Vec<u8> =
            (0..3_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for coding in CODINGS {
            let file = coded(coding, &noise);
            for end in [1, 2, 100, file.len() / 2, file.len() - 4, file.len() - 1] {
                let cut = decoded(&file[..end], coding, limits(100, 10_000)).await;
                assert!(cut.is_err(), "{coding:?} {end}");
            }
            let mut longer = file.clone();
            longer.extend(b"garbage");
            assert!(decoded(&longer, coding, limits(100, 10_000)).await.is_err(), "{coding:?}");
            assert!(decoded(b"<html>", coding, limits(100, 10_000)).await.is_err(), "{coding:?}");
        }
        let mut damaged = coded(Coding::Gzip, &noise);
        let checksum = damaged.len() - 8;
        damaged[checksum] ^= 1;
        assert!(decoded(&damaged, Coding::Gzip, limits(100, 10_000)).await.is_err());
    }

    #[tokio::test]
    async fn what_is_not_coded_as_it_says_is_given_back_whole() {
        let page = b"<html>".repeat(1_000);
        for coding in CODINGS {
            for piece in [7, 5_000, 10_000] {
                let given_back = decode(pieces(&page, piece), coding, limits(100, 10_000)).await;
                let Decoded::Coded(body) = given_back else { panic!("{coding:?} {piece}") };
                assert_eq!(body.len(), Some(6_000));
                assert_eq!(body.collect(10_000).await.as_deref(), Ok(&page[..]));
            }
        }
    }

    #[tokio::test]
    async fn an_error_after_the_first_bytes_breaks_the_content() {
        let (mut sender, body) = channel(1 << 20, None);
        let file = coded(Coding::Gzip, &b"some text ".repeat(500));
        sender.send(Bytes::from(file[..file.len() - 9].to_vec())).await.expect("open");
        let Decoded::Identity(mut identity) = decode(body, Coding::Gzip, limits(100, 10_000)).await
        else {
            panic!("it begins as gzip")
        };
        assert!(
            matches!(identity.next().await, Some(Ok(piece)) if piece.starts_with(b"some text"))
        );
        sender.send(Bytes::from_static(b"garbage that is no checksum")).await.expect("open");
        sender.finish();
        while let Some(piece) = identity.next().await {
            if piece.is_err() {
                return;
            }
        }
        panic!("it must not look whole");
    }

    #[tokio::test]
    async fn an_error_of_the_source_passes_through() {
        let (mut sender, body) = channel(100, None);
        sender.send(Bytes::from(coded(Coding::Gzip, b"text"))).await.expect("open");
        drop(sender);
        match decode(body, Coding::Gzip, limits(100, 100)).await {
            Decoded::Identity(body) => {
                assert_eq!(body.collect(100).await, Err(BodyError::Truncated));
            }
            Decoded::Coded(_) => panic!("it is sound as far as it came"),
        }
    }

    #[tokio::test]
    async fn another_coding_stays_on() {
        let body = Body::from(Bytes::from_static(b"any"));
        let decoded = decode(body, Coding::Other, limits(100, 100)).await;
        assert!(matches!(decoded, Decoded::Coded(_)));
    }
}
