//! Taking off the coding of an origin that compresses unasked.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use crate::body::{Body, BodyError, BodySender, channel};

/// Coded bytes that are taken in at a time; at the worst ratio of deflate (1 : 1,032) they are
/// 4 MiB, which is looked at piece by piece.
const STEP_BYTES: usize = 4 << 10;

/// Up to here the ratio does not matter: little content cannot do harm, and a few lines of white
/// space compress better than any ratio allows.
const RATIO_FREE_BYTES: u64 = 64 << 10;

/// Inflates a gzip file (RFC 1952, of one or more members) while it streams. The content ends with
/// an error where it is malformed, cut off, decodes to more than `ratio_max` times its coded bytes
/// (beyond the first 64 KiB), or to more than `max_bytes`. `buffer_max_bytes` may wait for the reader.
///
/// Needs a tokio runtime: the work is done by a task of its own.
pub fn inflate_stream(body: Body, ratio_max: u64, max_bytes: u64, buffer_max_bytes: usize) -> Body {
    let (sender, identity) = channel(buffer_max_bytes, None);
    tokio::spawn(run(body, Inflater::new(ratio_max, max_bytes), sender));
    identity
}

/// As [`inflate_stream`], taking in everything.
pub async fn inflate_bounded(
    mut body: Body,
    ratio_max: u64,
    max_bytes: u64,
) -> Result<Bytes, BodyError> {
    let mut inflater = Inflater::new(ratio_max, max_bytes);
    while let Some(piece) = body.next().await.transpose()? {
        for step in piece.chunks(STEP_BYTES) {
            inflater.write(step)?;
            tokio::task::yield_now().await;
        }
    }
    inflater.finish()
}

async fn run(mut body: Body, mut inflater: Inflater, mut sender: BodySender) {
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
            if let Err(error) = inflater.write(step) {
                return sender.abort(error);
            }
            if sender.send(inflater.take()).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
    match inflater.finish() {
        Ok(rest) => {
            if sender.send(rest).await.is_ok() {
                sender.finish();
            }
        }
        Err(error) => sender.abort(error),
    }
}

struct Inflater {
    decoder: MultiGzDecoder<Bounded>,
    coded_bytes: u64,
    ratio_max: u64,
    max_bytes: u64,
}

impl Inflater {
    fn new(ratio_max: u64, max_bytes: u64) -> Self {
        let decoder = MultiGzDecoder::new(Bounded::default());
        Self { decoder, coded_bytes: 0, ratio_max, max_bytes }
    }

    fn write(&mut self, coded: &[u8]) -> Result<(), BodyError> {
        self.coded_bytes += coded.len() as u64;
        let by_ratio = self.coded_bytes.saturating_mul(self.ratio_max).max(RATIO_FREE_BYTES);
        self.decoder.get_mut().max_bytes = by_ratio.min(self.max_bytes);
        self.decoder.write_all(coded).and_then(|()| self.decoder.flush()).map_err(|_| self.error())
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.decoder.get_mut().out).into()
    }

    /// The rest. No coded bytes at all are no content.
    fn finish(mut self) -> Result<Bytes, BodyError> {
        if self.coded_bytes > 0 {
            self.decoder.try_finish().map_err(|_| self.error())?;
        }
        Ok(self.take())
    }

    fn error(&self) -> BodyError {
        let sink = self.decoder.get_ref();
        if sink.exceeded {
            BodyError::TooLarge { limit: sink.max_bytes }
        } else {
            BodyError::Malformed
        }
    }
}

/// Takes decoded bytes up to a bound.
#[derive(Default)]
struct Bounded {
    out: Vec<u8>,
    bytes: u64,
    max_bytes: u64,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        self.exceeded |= self.bytes > self.max_bytes;
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
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(9));
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn pieces(file: &[u8], bytes: usize) -> Body {
        Body::parts(file.chunks(bytes).map(Bytes::copy_from_slice).collect::<Vec<_>>())
    }

    /// Both ways, which have to agree.
    async fn inflate(file: &[u8], ratio_max: u64, max_bytes: u64) -> Result<Bytes, BodyError> {
        let streamed = inflate_stream(pieces(file, 7), ratio_max, max_bytes, 100);
        let streamed = streamed.collect(u64::MAX).await;
        let whole = inflate_bounded(pieces(file, 1 << 20), ratio_max, max_bytes).await;
        assert_eq!(streamed.as_ref().ok(), whole.as_ref().ok());
        whole
    }

    #[tokio::test]
    async fn a_file_of_one_or_more_members_is_inflated() {
        let text = b"some text ".repeat(500);
        let mut file = gzip(&text);
        assert_eq!(inflate(&file, 100, 5_000).await.as_deref(), Ok(&text[..]));
        file.extend(gzip(b"and more"));
        let both = [&text[..], b"and more"].concat();
        assert_eq!(inflate(&file, 100, 10_000).await, Ok(Bytes::from(both)));
        assert_eq!(inflate(&[], 100, 10).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_bomb_is_stopped_by_its_ratio() {
        let file = gzip(&vec![0; 10 << 20]);
        let stopped = inflate(&file, 100, u64::MAX).await;
        assert!(matches!(stopped, Err(BodyError::TooLarge { .. })));
        assert!(inflate(&file, 1_100, u64::MAX).await.is_ok());
        let small = gzip(&vec![0; 64 << 10]);
        assert!(inflate(&small, 1, u64::MAX).await.is_ok());
    }

    #[tokio::test]
    async fn content_larger_than_its_bound_is_refused() {
        let file = gzip(&[b'a'; 1_000]);
        let stopped = inflate(&file, 100, 999).await;
        assert_eq!(stopped, Err(BodyError::TooLarge { limit: 999 }));
        assert!(inflate(&file, 100, 1_000).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_cut_off_or_damaged_is_an_error() {
        let file = gzip(&b"some text ".repeat(500));
        for end in [1, 9, 10, 11, file.len() - 9, file.len() - 8, file.len() - 1] {
            assert_eq!(
                inflate(&file[..end], 100, 10_000).await,
                Err(BodyError::Malformed),
                "{end}"
            );
        }
        let mut damaged = file.clone();
        let checksum = file.len() - 8;
        damaged[checksum] ^= 1;
        assert_eq!(inflate(&damaged, 100, 10_000).await, Err(BodyError::Malformed));
        assert_eq!(inflate(b"<html>", 100, 10_000).await, Err(BodyError::Malformed));
        let mut longer = file;
        longer.extend(b"garbage");
        assert_eq!(inflate(&longer, 100, 10_000).await, Err(BodyError::Malformed));
    }

    #[tokio::test]
    async fn an_error_of_the_source_passes_through() {
        let (mut sender, body) = channel(100, None);
        let identity = inflate_stream(body, 100, 100, 100);
        sender.send(Bytes::from(gzip(b"text"))).await.expect("open");
        drop(sender);
        assert_eq!(identity.collect(100).await, Err(BodyError::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            headed in any::<bool>(),
        ) {
            let mut file = if headed { super::super::gzip::HEAD.to_vec() } else { Vec::new() };
            file.extend(bytes);
            let mut inflater = Inflater::new(100, 1_000);
            if inflater.write(&file).is_ok() {
                let _ = inflater.finish();
            }
        }
    }
}
