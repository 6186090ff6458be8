//! One response as bytes. What is read is written again as the same bytes.

use std::time::Duration;

use bytes::{Buf, Bytes};

use super::{Literal, Segment, StoredResponse, Variant};

/// A sum of these is the record's byte of flags.
const STALE_IF_DISCONNECTED: u8 = 1;
const DEBUG: u8 = 2;
const CONTINUES: u8 = 1;

const LITERAL: u8 = 0;
const INCLUDE: u8 = 1;

/// Appends a response. Fails where a part has more bytes than 32 bits can count.
pub fn write(response: &StoredResponse, out: &mut Vec<u8>) -> Result<(), &'static str> {
    put(out, &response.key)?;
    out.extend_from_slice(&response.status.to_le_bytes());
    let stale = u8::from(response.stale_if_disconnected) * STALE_IF_DISCONNECTED;
    out.push(stale + u8::from(response.debug) * DEBUG);
    out.push(response.marks);
    out.extend_from_slice(&response.hits.to_le_bytes());
    for duration in [
        response.ttl,
        response.stale_for,
        response.grace,
        response.keep,
        response.stale_if_error,
        response.age,
    ] {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        out.extend_from_slice(&milliseconds.to_le_bytes());
    }
    put(out, &response.head)?;
    put_option(out, response.validation.as_ref())?;
    put_list(out, &response.tags)?;
    put_option(out, response.pool.as_ref())?;
    out.push(u8::from(response.variant.is_some()));
    if let Some(Variant { primary, vary, by_language }) = &response.variant {
        put(out, primary)?;
        put_list(out, vary)?;
        put_option(out, by_language.as_ref())?;
    }
    put_length(out, response.segments.len())?;
    response.segments.iter().try_for_each(|segment| put_segment(out, segment))
}

fn put_segment(out: &mut Vec<u8>, segment: &Segment) -> Result<(), &'static str> {
    match segment {
        Segment::Literal(literal) => {
            out.push(LITERAL);
            out.extend_from_slice(&literal.identity_bytes.to_le_bytes());
            out.extend_from_slice(&literal.crc32.to_le_bytes());
            for form in [&literal.identity, &literal.deflate, &literal.brotli, &literal.zstd] {
                put_option(out, form.as_ref())?;
            }
            Ok(())
        }
        Segment::Include { source, alternative, continues } => {
            out.push(INCLUDE);
            out.push(u8::from(*continues) * CONTINUES);
            put(out, source)?;
            put_option(out, alternative.as_ref())
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), &'static str> {
    let length = u32::try_from(length).map_err(|_| "a part is too large")?;
    out.extend_from_slice(&length.to_le_bytes());
    Ok(())
}

fn put(out: &mut Vec<u8>, bytes: &Bytes) -> Result<(), &'static str> {
    put_length(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_option(out: &mut Vec<u8>, bytes: Option<&Bytes>) -> Result<(), &'static str> {
    out.push(u8::from(bytes.is_some()));
    bytes.map_or(Ok(()), |bytes| put(out, bytes))
}

fn put_list(out: &mut Vec<u8>, list: &[Bytes]) -> Result<(), &'static str> {
    put_length(out, list.len())?;
    list.iter().try_for_each(|bytes| put(out, bytes))
}

/// Reads a response from the whole content of a record; its parts are slices of that. The error
/// says what is wrong.
pub fn read(content: Bytes) -> Result<StoredResponse, &'static str> {
    let mut rest = Rest(content);
    let key = rest.bytes()?;
    let status = rest.number(Bytes::get_u16_le)?;
    let flags = rest.flags(STALE_IF_DISCONNECTED + DEBUG)?;
    let marks = rest.number(Bytes::get_u8)?;
    let hits = rest.number(Bytes::get_u64_le)?;
    let mut duration = || rest.number(Bytes::get_u64_le).map(Duration::from_millis);
    let (ttl, stale_for, grace) = (duration()?, duration()?, duration()?);
    let (keep, stale_if_error, age) = (duration()?, duration()?, duration()?);
    let (head, validation) = (rest.bytes()?, rest.option()?);
    let (tags, pool) = (rest.list(Rest::bytes)?, rest.option()?);
    let variant = if rest.flags(1)? == 1 {
        let (primary, vary) = (rest.bytes()?, rest.list(Rest::bytes)?);
        Some(Variant { primary, vary, by_language: rest.option()? })
    } else {
        None
    };
    let segments = rest.list(Rest::segment)?;
    if !rest.0.is_empty() {
        return Err("something follows its end");
    }
    let stale_if_disconnected = flags & STALE_IF_DISCONNECTED != 0;
    let debug = flags & DEBUG != 0;
    Ok(StoredResponse {
        key,
        status,
        head,
        validation,
        segments,
        tags,
        pool,
        ttl,
        stale_for,
        grace,
        keep,
        stale_if_error,
        stale_if_disconnected,
        age,
        debug,
        hits,
        marks,
        variant,
    })
}

/// What has not been read yet.
struct Rest(Bytes);

impl Rest {
    fn number<T>(&mut self, take: impl Fn(&mut Bytes) -> T) -> Result<T, &'static str> {
        if self.0.len() < size_of::<T>() {
            return Err("a number is cut off");
        }
        Ok(take(&mut self.0))
    }

    /// A byte that has none but these bits.
    fn flags(&mut self, known: u8) -> Result<u8, &'static str> {
        let flags = self.number(Bytes::get_u8)?;
        if flags & !known == 0 { Ok(flags) } else { Err("a flag is unknown") }
    }

    fn bytes(&mut self) -> Result<Bytes, &'static str> {
        let length = self.number(Bytes::get_u32_le)? as usize;
        if length > self.0.len() {
            return Err("a part is longer than the record");
        }
        Ok(self.0.split_to(length))
    }

    fn option(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.flags(1)? == 1 { self.bytes().map(Some) } else { Ok(None) }
    }

    fn list<T>(
        &mut self,
        item: impl Fn(&mut Self) -> Result<T, &'static str>,
    ) -> Result<Vec<T>, &'static str> {
        // The number is not believed: each item takes some of the record's bytes, or reading ends.
        let number = self.number(Bytes::get_u32_le)?;
        let mut list = Vec::new();
        for _ in 0..number {
            list.push(item(self)?);
        }
        Ok(list)
    }

    fn segment(&mut self) -> Result<Segment, &'static str> {
        match self.number(Bytes::get_u8)? {
            LITERAL => {
                let identity_bytes = self.number(Bytes::get_u64_le)?;
                let crc32 = self.number(Bytes::get_u32_le)?;
                let (identity, deflate) = (self.option()?, self.option()?);
                let (brotli, zstd) = (self.option()?, self.option()?);
                if identity.as_ref().is_some_and(|bytes| bytes.len() as u64 != identity_bytes) {
                    return Err("a literal is not as long as it says");
                }
                let literal = Literal { identity_bytes, crc32, identity, deflate, brotli, zstd };
                Ok(Segment::Literal(literal))
            }
            INCLUDE => {
                let continues = self.flags(CONTINUES)? == CONTINUES;
                let source = self.bytes()?;
                Ok(Segment::Include { source, alternative: self.option()?, continues })
            }
            _ => Err("a segment is of an unknown kind"),
        }
    }
}
