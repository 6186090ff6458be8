//! The ways in which a record may be packed: a mark of four bytes says which.

use std::borrow::Cow;
use std::io::Read;

use super::{Bounds, Unreadable, lzf};

/// Bytes that a zstd frame may look back, as a power of two.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The plain record. What has no mark is plain already.
pub(super) fn unpack<'a>(data: &'a [u8], bounds: &Bounds) -> Result<Cow<'a, [u8]>, Unreadable> {
    let Some((mark, packed)) = data.split_at_checked(4) else {
        return Ok(Cow::Borrowed(data));
    };
    let most = bounds.content_max_bytes.min(packed.len().saturating_mul(bounds.ratio_max));
    let content = match mark {
        b":gz:" => read(flate2::read::ZlibDecoder::new(packed), most)?,
        b":zs:" => zstd(packed, most)?,
        b":lz:" => lzf::unpack(packed, most).ok_or(Unreadable::Packed)?,
        b":l4:" => lz4(packed, most)?,
        b":sn:" => snappy(packed, most)?,
        _ if data.len() > bounds.content_max_bytes => return Err(Unreadable::TooLarge),
        [b':', _, _, b':'] => return Err(Unreadable::Packed),
        _ => return Ok(Cow::Borrowed(data)),
    };
    Ok(Cow::Owned(content))
}

fn read(packed: impl Read, most: usize) -> Result<Vec<u8>, Unreadable> {
    let mut content = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    packed.take(limit).read_to_end(&mut content).map_err(|_| Unreadable::Packed)?;
    if content.len() > most { Err(Unreadable::TooLarge) } else { Ok(content) }
}

fn zstd(packed: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| Unreadable::Packed)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| Unreadable::Packed)?;
    read(decoder, most)
}

/// PHP's lz4 puts the length before the block, as 32 bits in little endian.
fn lz4(packed: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
    let (length, block) = packed.split_first_chunk::<4>().ok_or(Unreadable::Packed)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Unreadable::TooLarge)?;
    if length > most {
        return Err(Unreadable::TooLarge);
    }
    let mut content = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut content) {
        Ok(written) if written == length => Ok(content),
        _ => Err(Unreadable::Packed),
    }
}

fn snappy(packed: &[u8], most: usize) -> Result<Vec<u8>, Unreadable> {
    let length = snap::raw::decompress_len(packed).map_err(|_| Unreadable::Packed)?;
    if length > most {
        return Err(Unreadable::TooLarge);
    }
    snap::raw::Decoder::new().decompress_vec(packed).map_err(|_| Unreadable::Packed)
}
