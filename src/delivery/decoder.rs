//! Codings, taken off bytes as they come.

use std::io::{self, Write};

use brotli_decompressor::{BrotliDecoderParameter, DecompressorWriter};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;

use super::head::Coding;
use super::inflate::Inflate;
use super::unzstd::Unzstd;
use crate::body::BodyError;
use crate::settings;

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

/// Takes one coding off bytes as they come, within limits.
pub(super) struct Decoder {
    coding: Box<dyn Decode>,
    coded_bytes: u64,
    limits: DecodeLimits,
}

impl Decoder {
    /// `None`: the coding is none that can be taken off.
    pub(super) fn new(coding: Coding, limits: DecodeLimits) -> Option<Self> {
        let sink = Bounded::default();
        let coding: Box<dyn Decode> = match coding {
            Coding::Gzip => Box::new(MultiGzDecoder::new(sink)),
            Coding::Deflate => Box::new(Inflate::new(sink)),
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

    pub(super) fn write(&mut self, coded: &[u8]) -> Result<(), BodyError> {
        self.coded_bytes += coded.len() as u64;
        let by_ratio = self.coded_bytes.saturating_mul(self.limits.ratio_max);
        let bytes_max = by_ratio.max(RATIO_FREE_BYTES).min(self.limits.bytes_max);
        self.coding.sink().bytes_max = bytes_max;
        let written = self.coding.write_all(coded).and_then(|()| self.coding.flush());
        written.map_err(|_| self.error())
    }

    pub(super) fn has_output(&mut self) -> bool {
        self.output_bytes() > 0
    }

    pub(super) fn output_bytes(&mut self) -> usize {
        self.coding.sink().out.len()
    }

    pub(super) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.coding.sink().out).into()
    }

    /// The rest. No coded bytes at all are no content.
    pub(super) fn finish(mut self) -> Result<Bytes, BodyError> {
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
pub(super) mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    pub(in crate::delivery) const CODINGS: [Coding; 4] =
        [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    pub(in crate::delivery) fn coded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
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

    pub(in crate::delivery) fn limits(ratio_max: u64, bytes_max: u64) -> DecodeLimits {
        DecodeLimits { ratio_max, bytes_max, buffer_max_bytes: 100 }
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
