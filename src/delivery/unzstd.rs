//! Taking off zstd.

use std::io::{self, Write};

use zstd::stream::raw::{DParameter, Operation};

use super::decoder::{BUFFER_BYTES, Bounded, Decode};

/// zstd (RFC 8878), of one or more frames.
pub(super) struct Unzstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Does a frame lack its end?
    open: bool,
    buffer: Vec<u8>,
    sink: Bounded,
}

/// 8 MiB, as a power of two: content for clients needs no larger window (RFC 9659 3).
const ZSTD_WINDOW_BITS: u32 = 23;

impl Unzstd {
    pub(super) fn new(sink: Bounded) -> io::Result<Self> {
        let mut decoder = zstd::stream::raw::Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_BITS))?;
        Ok(Self { decoder, open: false, buffer: vec![0; BUFFER_BYTES], sink })
    }
}

impl Write for Unzstd {
    fn write(&mut self, coded: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let status = self.decoder.run_on_buffers(&coded[taken..], &mut self.buffer)?;
            taken += status.bytes_read;
            self.sink.write_all(&self.buffer[..status.bytes_written])?;
            self.open = status.remaining > 0;
            // At the end of a frame nothing is held back.
            if taken == coded.len() && (!self.open || status.bytes_written < self.buffer.len()) {
                return Ok(taken);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decode for Unzstd {
    fn sink(&mut self) -> &mut Bounded {
        &mut self.sink
    }

    fn end(&mut self) -> io::Result<()> {
        if self.open { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
