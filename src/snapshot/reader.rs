//! Reads a snapshot as a stream.

use std::io::{self, Read};

use bytes::{Buf, Bytes};

use super::{
    BLOCK_HEAD_BYTES, CHECKSUM_BYTES, COMMANDS, ECHOES_MAX_BYTES, END, Fault, HEAD, Head, MAGIC,
    RECORD, StoredResponse, TEXT_MAX_BYTES, VERSION, checksum, record,
};

/// Bytes of a head: three numbers, a flag, lengths, texts.
const HEAD_MAX_BYTES: usize = 40 + 2 * TEXT_MAX_BYTES + ECHOES_MAX_BYTES;
/// Bytes of an end: the number of records.
const END_BYTES: usize = 8;
/// A record's buffer grows by so much at a time, so that a wrong length takes no memory for what
/// never comes.
const GROWTH_BYTES: usize = 1 << 20;

/// Gives a snapshot's responses one by one.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    head: Head,
    record: u64,
    record_max_bytes: usize,
    is_over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the head. A record of more than `record_max_bytes` is refused.
    pub fn open(mut from: R, record_max_bytes: usize) -> Result<Self, Fault> {
        let mut magic = [0; MAGIC.len()];
        let mut version = [0; size_of_val(&VERSION)];
        fill(&mut from, &mut magic, 0)?;
        if magic != *MAGIC {
            return Err(Fault::NoSnapshot);
        }
        fill(&mut from, &mut version, 0)?;
        let version = u16::from_le_bytes(version);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        let mut reader =
            Self { from, head: Head::default(), record: 0, record_max_bytes, is_over: false };
        let (kind, content) = reader.block()?;
        if kind != HEAD {
            return Err(reader.malformed("the head is missing"));
        }
        reader.head = head(content).ok_or_else(|| reader.malformed("the head is wrong"))?;
        Ok(reader)
    }

    /// What it is.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Responses read so far.
    pub fn records(&self) -> u64 {
        self.record
    }

    fn read(&mut self) -> Result<Option<StoredResponse>, Fault> {
        let (kind, content) = self.block()?;
        match kind {
            RECORD => {
                let response = record::read(content).map_err(|what| self.malformed(what))?;
                self.record += 1;
                Ok(Some(response))
            }
            END => self.end(content).map(|()| None),
            COMMANDS => Err(self.malformed("it has commands, and no response")),
            _ => Err(self.malformed("there are two heads")),
        }
    }

    fn end(&self, mut content: Bytes) -> Result<(), Fault> {
        match content.get_u64_le() {
            said if said == self.record => Ok(()),
            said => Err(Fault::Count { read: self.record, said }),
        }
    }

    /// The next commands of a snapshot of the object cache; `None`: those were all.
    pub fn commands(&mut self) -> Result<Option<Bytes>, Fault> {
        let (kind, content) = self.block()?;
        match kind {
            COMMANDS => {
                self.record += 1;
                Ok(Some(content))
            }
            END => self.end(content).map(|()| None),
            RECORD => Err(self.malformed("it has a response, and no commands")),
            _ => Err(self.malformed("there are two heads")),
        }
    }

    /// Kind and content of the next block, whose checksum fits.
    fn block(&mut self) -> Result<(u8, Bytes), Fault> {
        let mut head = [0; BLOCK_HEAD_BYTES];
        fill(&mut self.from, &mut head, self.record)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        let fits = match kind {
            HEAD => length <= HEAD_MAX_BYTES,
            RECORD | COMMANDS => length <= self.record_max_bytes,
            END => length == END_BYTES,
            _ => return Err(self.malformed("its kind is unknown")),
        };
        if !fits {
            return Err(Fault::TooLarge { record: self.record, bytes: length as u64 });
        }
        let mut content = Vec::new();
        while content.len() < length {
            let begin = content.len();
            content.resize(length.min(begin + GROWTH_BYTES), 0);
            fill(&mut self.from, &mut content[begin..], self.record)?;
        }
        let mut sum = [0; CHECKSUM_BYTES];
        fill(&mut self.from, &mut sum, self.record)?;
        if sum != checksum(head, &content) {
            return Err(Fault::Checksum(self.record));
        }
        Ok((kind, content.into()))
    }

    fn malformed(&self, what: &'static str) -> Fault {
        Fault::Malformed { record: self.record, what }
    }
}

/// The responses in order, and a fault where reading ends before the end.
impl<R: Read> Iterator for Reader<R> {
    type Item = Result<StoredResponse, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read();
        self.is_over = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8], record: u64) -> Result<(), Fault> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Fault::Short(record),
        _ => Fault::Io(error),
    })
}

fn head(mut content: Bytes) -> Option<Head> {
    let created_unix_seconds = content.try_get_u64_le().ok()?;
    let (keyspace, hits) = (content.try_get_u64_le().ok()?, content.try_get_u64_le().ok()?);
    let is_last = match content.try_get_u8().ok()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    let mut bytes = || {
        let length = content.try_get_u32_le().ok()? as usize;
        (length <= content.len()).then(|| content.split_to(length))
    };
    let text = |bytes: Bytes| String::from_utf8(bytes.into()).ok();
    let (release, position) = (text(bytes()?)?, text(bytes()?)?);
    let mut echoes = Vec::new();
    while !content.is_empty() {
        let length = content.try_get_u32_le().ok()? as usize;
        echoes.push((length <= content.len()).then(|| content.split_to(length))?);
    }
    Some(Head { created_unix_seconds, keyspace, is_last, hits, release, position, echoes })
}
