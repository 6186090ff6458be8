//! Taking off the coding of an origin that compresses unasked.

use std::future::poll_fn;
use std::io::{self, Write};
use std::task::Poll;

use brotli_decompressor::{BrotliDecoderParameter, DecompressorWriter};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};

use super::head::Coding;
use super::unzstd::Unzstd;
use crate::body::{Body, BodyError, BodySender, channel};
use crate::settings;

/// Coded bytes that are taken in at a time; at the worst ratio of deflate (1 : 1,032) they are
/// 4 MiB, which is looked at piece by piece.
const STEP_BYTES: usize = 4 << 10;

/// Up to here the ratio does not matter: little content cannot do harm, and a few lines of white
/// space compress better than any ratio allows.
const RATIO_FREE_BYTES: u64 = 64 << 10;

/// Decoded bytes that are looked at at a time.
pub(super) const BUFFER_BYTES: usize = 16 << 10;

/// How much decoding may make of content.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// Times its coded bytes, beyond the first 64 KiB.
    pub ratio_max: u64,
    /// Bytes at most.
    pub bytes_max: u64,
    /// Bytes that may wait for the reader, and coded bytes that are kept to be given back.
    pub buffer_max_bytes: usize,
}

impl DecodeLimits {
    /// Those for what an origin sends.
    pub fn of(settings: &settings::Settings) -> Self {
        let encoding = &settings.encoding;
        Self {
            ratio_max: encoding.ratio_max,
            bytes_max: settings.store.object_max_bytes,
            buffer_max_bytes: encoding.buffer_max_bytes,
        }
    }
}

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
                    Ok(content) => Decoded::Identity(content.into()),
                    Err(BodyError::Malformed) => Decoded::Coded(Body::parts(seen)),
                    Err(error) => Decoded::Identity(broken(error)),
                };
            }
        };
        seen_bytes += piece.len();
        seen.push(piece.clone());
        match decoder.write_in_steps(&piece).await {
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
        sender.finish();
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
                sender.finish();
            }
        }
        Err(error) => sender.abort(error),
    }
}

/// One coding, taken off into a [`Bounded`].
pub(super) trait Decode: Write + Send {
    fn sink(&mut self) -> &mut Bounded;
    /// Fails where the end has not come yet.
    fn end(&mut self) -> io::Result<()>;
}

impl Decode for MultiGzDecoder<Bounded> {
    fn sink(&mut self) -> &mut Bounded {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl Decode for DecompressorWriter<Bounded> {
    fn sink(&mut self) -> &mut Bounded {
        self.get_mut()
    }

    fn end(&mut self) -> io::Result<()> {
        self.close()
    }
}

/// deflate (RFC 9110 8.4.1.2): in the frame of zlib, or without, as some send it.
struct Inflate {
    /// Known once the first byte has come.
    state: Option<Decompress>,
    ended: bool,
    buffer: Vec<u8>,
    sink: Bounded,
}

impl Write for Inflate {
    fn write(&mut self, coded: &[u8]) -> io::Result<usize> {
        let Some(first) = coded.first() else { return Ok(0) };
        if self.ended {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // zlib begins with its method, 8, in four bits; in raw deflate these would be a stored
        // block with padding that is not zero.
        let state = self.state.get_or_insert_with(|| Decompress::new(first & 0x0f == 8));
        let start = state.total_in();
        loop {
            let (taken, out) = ((state.total_in() - start) as usize, state.total_out());
            let status = state
                .decompress(&coded[taken..], &mut self.buffer, FlushDecompress::None)
                .map_err(io::Error::other)?;
            let (taken, made) =
                ((state.total_in() - start) as usize, (state.total_out() - out) as usize);
            self.sink.write_all(&self.buffer[..made])?;
            self.ended = status == Status::StreamEnd;
            if self.ended || (taken == coded.len() && made < self.buffer.len()) {
                return Ok(taken);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decode for Inflate {
    fn sink(&mut self) -> &mut Bounded {
        &mut self.sink
    }

    fn end(&mut self) -> io::Result<()> {
        if self.ended { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

struct Decoder {
    coding: Box<dyn Decode>,
    coded_bytes: u64,
    limits: DecodeLimits,
}

impl Decoder {
    /// `None`: the coding is none that can be taken off.
    fn new(coding: Coding, limits: DecodeLimits) -> Option<Self> {
        let sink = Bounded::default();
        let coding: Box<dyn Decode> = match coding {
            Coding::Gzip => Box::new(MultiGzDecoder::new(sink)),
            Coding::Deflate => {
                let buffer = vec![0; BUFFER_BYTES];
                Box::new(Inflate { state: None, ended: false, buffer, sink })
            }
            Coding::Brotli => {
                let mut decoder = DecompressorWriter::new(sink, BUFFER_BYTES);
                // Windows beyond 16 MiB are no part of RFC 7932.
                decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                Box::new(decoder)
            }
            Coding::Zstd => Box::new(Unzstd::new(sink).ok()?),
            Coding::Identity | Coding::Other => return None,
        };
        Some(Self { coding, coded_bytes: 0, limits })
    }

    async fn write_in_steps(&mut self, coded: &[u8]) -> Result<(), BodyError> {
        for step in coded.chunks(STEP_BYTES) {
            self.write(step)?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn write(&mut self, coded: &[u8]) -> Result<(), BodyError> {
        self.coded_bytes += coded.len() as u64;
        let by_ratio = self.coded_bytes.saturating_mul(self.limits.ratio_max);
        let bytes_max = by_ratio.max(RATIO_FREE_BYTES).min(self.limits.bytes_max);
        self.coding.sink().bytes_max = bytes_max;
        let written = self.coding.write_all(coded).and_then(|()| self.coding.flush());
        written.map_err(|_| self.error())
    }

    fn has_output(&mut self) -> bool {
        self.output_bytes() > 0
    }

    fn output_bytes(&mut self) -> usize {
        self.coding.sink().out.len()
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.coding.sink().out).into()
    }

    /// The rest. No coded bytes at all are no content.
    fn finish(mut self) -> Result<Bytes, BodyError> {
        if self.coded_bytes > 0 {
            self.coding.end().map_err(|_| self.error())?;
        }
        Ok(self.take())
    }

    fn error(&mut self) -> BodyError {
        let sink = self.coding.sink();
        if sink.exceeded {
            BodyError::TooLarge { limit: sink.bytes_max }
        } else {
            BodyError::Malformed
        }
    }
}

/// Takes decoded bytes up to a bound.
#[derive(Default)]
pub(super) struct Bounded {
    out: Vec<u8>,
    bytes: u64,
    bytes_max: u64,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.exceeded |= self.bytes > self.bytes_max;
        if self.exceeded {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    fn coded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let level = Compression::new(9);
        let finished = match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes).and_then(|()| encoder.finish())
            }
            Coding::Zstd => zstd::stream::encode_all(bytes, 6),
            _ => {
                let mut out = Vec::new();
                let params = brotli::enc::BrotliEncoderParams::default();
                brotli::BrotliCompress(&mut &bytes[..], &mut out, &params).map(|_| out)
            }
        };
        finished.expect("in memory")
    }

    fn limits(ratio_max: u64, bytes_max: u64) -> DecodeLimits {
        DecodeLimits { ratio_max, bytes_max, buffer_max_bytes: 100 }
    }

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

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            headed in any::<bool>(),
        ) {
            for coding in CODINGS {
                let mut file = if headed { coded(coding, b"x")[..2].to_vec() } else { Vec::new() };
                file.extend(&bytes);
                let mut decoder = Decoder::new(coding, limits(100, 1_000)).expect("known");
                if decoder.write(&file).is_ok() {
                    let _ = decoder.finish();
                }
            }
        }
    }
}
