//! deflate as a coding of content.

use std::io::{self, Write};

use flate2::{Decompress, FlushDecompress, Status};

use super::decoder::{BUFFER_BYTES, Bounded, Decode};

/// deflate (RFC 9110 8.4.1.2): in the frame of zlib, or without, as some send it.
pub(super) struct Inflate {
    /// Known once the first byte has come.
    state: Option<Decompress>,
    ended: bool,
    buffer: Vec<u8>,
    sink: Bounded,
}

impl Inflate {
    pub(super) fn new(sink: Bounded) -> Self {
        Self { state: None, ended: false, buffer: vec![0; BUFFER_BYTES], sink }
    }
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
