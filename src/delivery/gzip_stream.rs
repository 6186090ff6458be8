//! Compressing while streaming.

use std::future::poll_fn;
use std::task::Poll;

use bytes::{BufMut, Bytes};
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::body::{Body, BodyError, BodySender, channel};
use crate::store::GZIP_HEAD;

/// Bytes that are compressed at a time: a fraction of a millisecond, after which the thread is
/// given to others.
const STEP_BYTES: usize = 16 << 10;

/// Compresses content as it arrives into one gzip file. Where the source pauses, everything that
/// came so far leaves. An error of the source passes through, so that broken content never has
/// the proper end of a file; its trailers follow. Nothing more is read once the client has gone.
///
/// `level` is 1 to 9; `buffer_max_bytes` may wait for the client. Needs a tokio runtime: the work
/// is done by a task of its own.
pub fn gzip_stream(body: Body, level: u32, buffer_max_bytes: usize) -> Body {
    let (sender, coded) = channel(buffer_max_bytes, None);
    tokio::spawn(run(body, Compressor::new(level), sender));
    coded
}

async fn run(mut body: Body, mut compressor: Compressor, mut sender: BodySender) {
    loop {
        let piece = match poll_fn(|context| Poll::Ready(body.poll_next(context))).await {
            Poll::Ready(piece) => piece,
            Poll::Pending => {
                let Ok(flushed) = compressor.flush() else {
                    return sender.abort(BodyError::Malformed);
                };
                if sender.send(flushed).await.is_err() {
                    return;
                }
                tokio::select! {
                    piece = body.next() => piece,
                    () = sender.closed() => return,
                }
            }
        };
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return sender.abort(error),
            None => break,
        };
        for step in piece.chunks(STEP_BYTES) {
            if compressor.write(step).is_err() {
                return sender.abort(BodyError::Malformed);
            }
            if compressor.out.len() >= STEP_BYTES && sender.send(compressor.take()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    match compressor.finish() {
        Ok(rest) => {
            if sender.send(rest).await.is_ok() {
                sender.finish_with(body.take_trailers_for_other_bytes());
            }
        }
        Err(Failed) => sender.abort(BodyError::Malformed),
    }
}

/// The compressor refused its input, which it never does in a sound state.
struct Failed;

struct Compressor {
    deflate: Compress,
    checksum: Hasher,
    /// What has not left yet.
    out: Vec<u8>,
    /// Is there input which the compressor may hold back?
    holding: bool,
}

impl Compressor {
    fn new(level: u32) -> Self {
        let deflate = Compress::new(Compression::new(level), false);
        Self { deflate, checksum: Hasher::new(), out: GZIP_HEAD.to_vec(), holding: false }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        self.checksum.update(bytes);
        self.holding = true;
        self.run(bytes, FlushCompress::None)
    }

    /// Everything that was written so far.
    fn flush(&mut self) -> Result<Bytes, Failed> {
        if std::mem::take(&mut self.holding) {
            self.run(&[], FlushCompress::Sync)?;
        }
        Ok(self.take())
    }

    fn finish(mut self) -> Result<Bytes, Failed> {
        self.run(&[], FlushCompress::Finish)?;
        let identity_bytes = self.checksum.total_len();
        self.out.put_u32_le(self.checksum.finalize());
        self.out.put_u32_le(identity_bytes as u32);
        Ok(self.out.into())
    }

    fn run(&mut self, bytes: &[u8], flush: FlushCompress) -> Result<(), Failed> {
        let start = self.deflate.total_in();
        loop {
            // The compressor is done with a step when it leaves room.
            self.out.reserve(STEP_BYTES / 4);
            let taken = (self.deflate.total_in() - start) as usize;
            let rest = bytes.get(taken..).unwrap_or_default();
            let status = self.deflate.compress_vec(rest, &mut self.out, flush);
            let taken = (self.deflate.total_in() - start) as usize;
            match status {
                Err(_) => return Err(Failed),
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(Status::Ok | Status::BufError) => {}
            }
            let room = self.out.len() < self.out.capacity();
            if taken == bytes.len() && room && !matches!(flush, FlushCompress::Finish) {
                return Ok(());
            }
        }
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.out).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn gunzip(file: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut decoder = flate2::bufread::GzDecoder::new(file);
        decoder.read_to_end(&mut out)?;
        assert!(decoder.into_inner().is_empty(), "nothing follows the end");
        Ok(out)
    }

    /// What a reader can make of the beginning of a file.
    fn readable(start: &[u8]) -> Vec<u8> {
        let mut inflater = flate2::Decompress::new(false);
        let mut out = Vec::with_capacity(100_000);
        let deflated = &start[GZIP_HEAD.len()..];
        inflater.decompress_vec(deflated, &mut out, flate2::FlushDecompress::Sync).expect("sound");
        out
    }

    /// The next piece, without waiting for ever for what does not leave.
    async fn more(coded: &mut Body) -> Bytes {
        let next = tokio::time::timeout(std::time::Duration::from_secs(5), coded.next()).await;
        next.expect("it leaves at once").expect("more").expect("sound")
    }

    #[tokio::test]
    async fn what_came_before_a_pause_leaves_at_once() {
        let (mut sender, body) = channel(100, None);
        let mut coded = gzip_stream(body, 6, 1 << 16);
        let mut file = Vec::new();
        for (piece, so_far) in [("first", "first"), (" second", "first second")] {
            sender.send(Bytes::from(piece)).await.expect("open");
            while !file.starts_with(&GZIP_HEAD) || readable(&file) != so_far.as_bytes() {
                file.extend_from_slice(&more(&mut coded).await);
            }
        }
        sender.finish();
        file.extend_from_slice(&coded.collect(100).await.expect("whole"));
        assert_eq!(gunzip(&file).expect("sound"), b"first second");
    }

    #[tokio::test]
    async fn a_truncated_reply_has_no_proper_end() {
        let (mut sender, body) = channel(100, None);
        let mut coded = gzip_stream(body, 6, 1 << 16);
        sender.send(Bytes::from("some text")).await.expect("open");
        drop(sender);
        let mut file = Vec::new();
        let error = loop {
            match coded.next().await {
                Some(Ok(piece)) => file.extend_from_slice(&piece),
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        assert_eq!(error, Some(BodyError::Truncated));
        assert!(file.is_empty() || gunzip(&file).is_err());
    }

    #[tokio::test]
    async fn nothing_is_read_for_a_client_that_has_gone() {
        let (mut sender, body) = channel(1, None);
        drop(gzip_stream(body, 6, 10));
        sender.closed().await;
        assert!(sender.is_closed());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]
        #[test]
        fn any_pieces_make_one_file(
            pieces in prop::collection::vec(
                (any::<[u8; 4]>(), 0usize..20_000, any::<bool>()), 0..6),
            level in 1u32..10,
        ) {
            let pieces: Vec<Bytes> = pieces
                .into_iter()
                .map(|(seed, length, noise)| {
                    let byte = |at: usize| {
                        let mixed = at.wrapping_mul(0x9E37_79B9).rotate_left(7);
                        if noise { seed[at % 4] ^ (mixed >> 9) as u8 } else { seed[at % 4] }
                    };
                    (0..length).map(byte).collect()
                })
                .collect();
            let expected = pieces.concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("built");
            let coded = runtime.block_on(async {
                gzip_stream(Body::parts(pieces), level, 1 << 10).collect(1 << 20).await
            });
            prop_assert_eq!(gunzip(&coded.expect("whole")).expect("sound"), expected);
        }
    }
}
