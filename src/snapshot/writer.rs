//! Writes a snapshot as a stream.

use std::io::{self, Write};

use super::{
    BLOCK_HEAD_BYTES, CHECKSUM_BYTES, COMMANDS, ECHOES_MAX_BYTES, END, HEAD, Head, MAGIC, RECORD,
    StoredResponse, TEXT_MAX_BYTES, VERSION, checksum, record,
};

/// Bytes of the end.
const END_BYTES: u64 = (BLOCK_HEAD_BYTES + 8 + CHECKSUM_BYTES) as u64;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was written.
    Written,
    /// It is larger than a record may be, and was left out.
    TooLarge,
    /// With it the snapshot would be larger than it may be: it was left out. A smaller one may
    /// still find room.
    Full,
}

/// Writes records between a head and an end.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
    records: u64,
    bytes: u64,
    bytes_max: u64,
    record_max_bytes: usize,
}

impl<W: Write> Writer<W> {
    /// Writes the head. The whole will take at most `bytes_max` bytes, if that is enough for head
    /// and end, and a record's content at most `record_max_bytes`.
    pub fn begin(
        mut out: W,
        head: &Head,
        bytes_max: u64,
        record_max_bytes: usize,
    ) -> io::Result<Self> {
        let echoes_bytes: usize = head.echoes.iter().map(|echo| echo.len() + 4).sum();
        if head.release.len() > TEXT_MAX_BYTES
            || head.position.len() > TEXT_MAX_BYTES
            || echoes_bytes > ECHOES_MAX_BYTES
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let bytes = (MAGIC.len() + size_of_val(&VERSION)) as u64;
        let buffer = Vec::new();
        let mut writer = Self { out, buffer, records: 0, bytes, bytes_max, record_max_bytes };
        writer.begin_block(HEAD);
        for number in [head.created_unix_seconds, head.keyspace, head.hits] {
            writer.buffer.extend_from_slice(&number.to_le_bytes());
        }
        writer.buffer.push(u8::from(head.is_last));
        let texts = [head.release.as_bytes(), head.position.as_bytes()];
        for text in texts.into_iter().chain(head.echoes.iter().map(|echo| &echo[..])) {
            writer.buffer.extend_from_slice(&(text.len() as u32).to_le_bytes());
            writer.buffer.extend_from_slice(text);
        }
        writer.end_block()?;
        Ok(writer)
    }

    /// Writes a record, if it has room.
    pub fn push(&mut self, response: &StoredResponse) -> io::Result<Pushed> {
        self.begin_block(RECORD);
        let written = record::write(response, &mut self.buffer);
        let content_bytes = self.buffer.len() - BLOCK_HEAD_BYTES;
        if written.is_err() || content_bytes > self.record_max_bytes.min(u32::MAX as usize) {
            self.buffer = Vec::new();
            return Ok(Pushed::TooLarge);
        }
        self.push_block()
    }

    /// Writes commands, in as many blocks as they take. What has no room is left out, and what was written is of
    /// no use then.
    pub fn push_commands(&mut self, commands: &[u8]) -> io::Result<Pushed> {
        for piece in commands.chunks(self.record_max_bytes.clamp(1, u32::MAX as usize)) {
            self.begin_block(COMMANDS);
            self.buffer.extend_from_slice(piece);
            if self.push_block()? == Pushed::Full {
                return Ok(Pushed::Full);
            }
        }
        Ok(Pushed::Written)
    }

    fn push_block(&mut self) -> io::Result<Pushed> {
        let block_bytes = (self.buffer.len() + CHECKSUM_BYTES) as u64;
        if self.bytes.saturating_add(block_bytes).saturating_add(END_BYTES) > self.bytes_max {
            return Ok(Pushed::Full);
        }
        self.end_block()?;
        self.records += 1;
        Ok(Pushed::Written)
    }

    /// Writes the end; gives back where it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        let records = self.records;
        self.begin_block(END);
        self.buffer.extend_from_slice(&records.to_le_bytes());
        self.end_block()?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Hands on what was written so far, where somebody reads along.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn begin_block(&mut self, kind: u8) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[kind, 0, 0, 0, 0]);
    }

    fn end_block(&mut self) -> io::Result<()> {
        let (head, content) = self.buffer.split_at_mut(BLOCK_HEAD_BYTES);
        let length = u32::try_from(content.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        head[1..].copy_from_slice(&length.to_le_bytes());
        let mut fixed = [0; BLOCK_HEAD_BYTES];
        fixed.copy_from_slice(head);
        let sum = checksum(fixed, content);
        self.buffer.extend_from_slice(&sum);
        self.out.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        Ok(())
    }
}
