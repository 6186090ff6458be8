//! Bytes as they are kept: the forms of a literal in one buffer.

use std::ops::Range;

use bytes::Bytes;

/// Before a deflate stream in a gzip file: deflate, no flags, no time, operating system unknown
/// (RFC 1952 2.3).
pub const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Bytes of what [`gzip_tail`] makes.
pub const GZIP_TAIL_BYTES: usize = 10;

/// What ends a gzip file of `identity_bytes` bytes with this checksum: a final, empty block with
/// fixed codes (RFC 1951 3.2.6), the checksum and the length modulo 2^32.
pub fn gzip_tail(crc32: u32, identity_bytes: u64) -> [u8; GZIP_TAIL_BYTES] {
    let mut tail = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    tail[2..6].copy_from_slice(&crc32.to_le_bytes());
    tail[6..].copy_from_slice(&(identity_bytes as u32).to_le_bytes());
    tail
}

/// The window of the brotli streams that are kept, as a power of two (RFC 7932 9.1).
pub const BROTLI_WINDOW_BITS: u8 = 22;

/// What a brotli stream begins with: its window, and an empty metadata block up to a byte boundary.
///
/// From the lowest bit: 1 and WBITS - 17 in three bits; ISLAST 0, MNIBBLES 0 (as 3), a reserved 0,
/// MSKIPBYTES 0; padding.
pub const BROTLI_HEAD: [u8; 2] = [1 | (BROTLI_WINDOW_BITS - 17) << 1 | 0b0110 << 4, 0];

/// What ends a brotli stream: ISLAST and ISLASTEMPTY.
pub const BROTLI_TAIL: [u8; 1] = [3];

/// Bytes as they are kept: in several forms, one after another in one buffer, each ready to send.
///
/// Text is kept as a gzip file around a raw deflate stream (RFC 1951) of whole blocks which ends on a byte
/// boundary and is not final, so that such streams can be put one after another behind one gzip
/// header, and ended by an empty final block and the combined checksum: a joined page leaves
/// compressed without being compressed again. The same holds for brotli, which needs no checksum.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// A gzip file, a brotli stream, a zstd frame, the bytes themselves: what is kept of these.
    bytes: Bytes,
    identity_bytes: u64,
    crc32: u32,
    gzip_bytes: u32,
    brotli_bytes: u32,
    zstd_bytes: u32,
}

/// The forms in which bytes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms<'a> {
    /// The bytes themselves; absent where `deflate` is kept instead and they are large.
    pub identity: Option<&'a [u8]>,
    /// The deflate stream, absent where compressing gained nothing.
    pub deflate: Option<&'a [u8]>,
    /// Whole meta-blocks of a brotli stream (RFC 7932 9.2) with a window of
    /// [`BROTLI_WINDOW_BITS`], which end on a byte boundary, refer to nothing before them
    /// and are not the last; absent where that gains nothing.
    pub brotli: Option<&'a [u8]>,
    /// A zstd frame. It cannot be joined: only of what is all of a response.
    pub zstd: Option<&'a [u8]>,
}

impl Encoded {
    /// Keeps these forms of `identity_bytes` bytes whose CRC-32 (RFC 1952 8) is given. What
    /// is kept is a copy.
    pub fn of_forms(forms: Forms<'_>, crc32: u32, identity_bytes: u64) -> Self {
        // The table of forms has 32 bits for each; the store takes nothing that is larger.
        let fits = |form: &&[u8]| u32::try_from(form.len() + FRAME_BYTES_MAX).is_ok();
        let [deflate, brotli, zstd] =
            [forms.deflate, forms.brotli, forms.zstd].map(|form| form.filter(fits));
        let tail = gzip_tail(crc32, identity_bytes);
        let gzip = framed(&GZIP_HEAD, deflate, &tail);
        let stream = framed(&BROTLI_HEAD, brotli, &BROTLI_TAIL);
        let [gzip_bytes, brotli_bytes] =
            [gzip, stream].map(|file| file.iter().map(|part| part.len() as u32).sum());
        let zstd = zstd.unwrap_or_default();
        let plain = forms.identity.unwrap_or_default();
        // The vector is of exactly that size.
        let bytes = [&gzip[..], &stream, &[zstd, plain]].concat().concat();
        let (bytes, zstd_bytes) = (Bytes::from(bytes), zstd.len() as u32);
        Self { bytes, identity_bytes, crc32, gzip_bytes, brotli_bytes, zstd_bytes }
    }

    /// Content that is kept as it is, without a copy.
    pub fn plain(identity: Bytes) -> Self {
        let (crc32, identity_bytes) = (crc32fast::hash(&identity), identity.len() as u64);
        let (gzip_bytes, brotli_bytes, zstd_bytes) = (0, 0, 0);
        Self { bytes: identity, identity_bytes, crc32, gzip_bytes, brotli_bytes, zstd_bytes }
    }

    /// CRC-32 (RFC 1952 8) of the bytes themselves.
    pub fn crc32(&self) -> u32 {
        self.crc32
    }

    /// Number of the bytes themselves.
    pub fn identity_bytes(&self) -> u64 {
        self.identity_bytes
    }

    /// What is kept, to be looked at.
    pub fn forms(&self) -> Forms<'_> {
        let inner = |file: Range<usize>, head: &[u8], tail_bytes: usize| {
            let inner = file.start + head.len()..file.end.checked_sub(tail_bytes)?;
            self.bytes.get(inner)
        };
        let [gzip, brotli, zstd, identity] = self.ranges();
        Forms {
            identity: self.has_identity().then(|| &self.bytes[identity]),
            deflate: inner(gzip, &GZIP_HEAD, GZIP_TAIL_BYTES),
            brotli: inner(brotli, &BROTLI_HEAD, BROTLI_TAIL.len()),
            zstd: self.has_zstd().then(|| &self.bytes[zstd]),
        }
    }

    /// The bytes themselves, where they are kept.
    pub fn identity(&self) -> Option<Bytes> {
        self.has_identity().then(|| self.bytes.slice(self.ranges()[3].clone()))
    }

    /// The deflate stream, where it is kept.
    pub fn deflate(&self) -> Option<Bytes> {
        let end = (self.gzip_bytes as usize).checked_sub(GZIP_TAIL_BYTES)?;
        Some(self.bytes.slice(GZIP_HEAD.len()..end))
    }

    /// A whole gzip file, where the deflate stream is kept.
    pub fn gzip_file(&self) -> Option<Bytes> {
        self.has_deflate().then(|| self.bytes.slice(..self.gzip_bytes as usize))
    }

    /// The brotli meta-blocks, where they are kept.
    pub fn brotli(&self) -> Option<Bytes> {
        self.forms().brotli.map(|blocks| self.bytes.slice_ref(blocks))
    }

    /// A whole brotli stream, where the meta-blocks are kept.
    pub fn brotli_stream(&self) -> Option<Bytes> {
        self.has_brotli().then(|| self.bytes.slice(self.ranges()[1].clone()))
    }

    /// The zstd frame, where it is kept.
    pub fn zstd_frame(&self) -> Option<Bytes> {
        self.has_zstd().then(|| self.bytes.slice(self.ranges()[2].clone()))
    }

    /// Are the bytes themselves kept?
    pub fn has_identity(&self) -> bool {
        self.identity_bytes == 0 || self.ranges()[3].end > self.ranges()[3].start
    }

    /// Is the deflate stream kept?
    pub fn has_deflate(&self) -> bool {
        self.gzip_bytes > 0
    }

    /// Are the brotli meta-blocks kept?
    pub fn has_brotli(&self) -> bool {
        self.brotli_bytes > 0
    }

    /// Is a zstd frame kept?
    pub fn has_zstd(&self) -> bool {
        self.zstd_bytes > 0
    }

    /// Is it not only equal, but the same, or a clone?
    pub fn is(&self, other: &Self) -> bool {
        self.bytes.as_ptr() == other.bytes.as_ptr()
    }

    /// The same with these forms.
    pub(super) fn with(&self, forms: Forms<'_>) -> Self {
        Self::of_forms(forms, self.crc32, self.identity_bytes)
    }

    /// What holds all forms.
    pub(super) fn buffer(&self) -> &Bytes {
        &self.bytes
    }

    /// Where gzip file, brotli stream, zstd frame and the bytes themselves stand.
    fn ranges(&self) -> [Range<usize>; 4] {
        let gzip = self.gzip_bytes as usize;
        let brotli = gzip + self.brotli_bytes as usize;
        let zstd = brotli + self.zstd_bytes as usize;
        [0..gzip, gzip..brotli, brotli..zstd, zstd..self.bytes.len()]
    }
}

/// The bytes that stand around a form at most.
const FRAME_BYTES_MAX: usize = GZIP_HEAD.len() + GZIP_TAIL_BYTES;

/// A form between head and tail; nothing without a form.
fn framed<'a>(head: &'a [u8], form: Option<&'a [u8]>, tail: &'a [u8]) -> [&'a [u8]; 3] {
    form.map_or([&[]; 3], |form| [head, form, tail])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 1..20))
    }

    proptest! {
        #[test]
        fn each_form_is_found_whatever_else_is_kept(
            identity in form(), deflate in form(), brotli in form(), zstd in form(),
        ) {
            let forms = Forms {
                identity: identity.as_deref(),
                deflate: deflate.as_deref(),
                brotli: brotli.as_deref(),
                zstd: zstd.as_deref(),
            };
            let encoded = Encoded::of_forms(forms, 7, 9);
            prop_assert_eq!(encoded.forms(), forms);
            let has = [encoded.has_identity(), encoded.has_deflate(), encoded.has_brotli()];
            prop_assert_eq!(has, [identity.is_some(), deflate.is_some(), brotli.is_some()]);
            prop_assert_eq!(encoded.identity().map(Vec::from), identity);
            prop_assert_eq!(encoded.deflate().map(Vec::from), deflate.clone());
            prop_assert_eq!(encoded.brotli().map(Vec::from), brotli.clone());
            prop_assert_eq!(encoded.zstd_frame().map(Vec::from), zstd);
            let file = |it: &Vec<u8>| [&GZIP_HEAD[..], it, &gzip_tail(7, 9)].concat();
            prop_assert_eq!(encoded.gzip_file().map(Vec::from), deflate.as_ref().map(file));
            let stream = |it: &Vec<u8>| [&BROTLI_HEAD[..], it, &BROTLI_TAIL].concat();
            prop_assert_eq!(encoded.brotli_stream().map(Vec::from), brotli.as_ref().map(stream));
        }
    }

    #[test]
    fn nothing_is_kept_as_it_is() {
        let nothing = Encoded::plain(Bytes::new());
        assert_eq!(nothing.identity(), Some(Bytes::new()));
        assert_eq!(nothing.forms(), Forms { identity: Some(&[]), ..Forms::default() });
    }
}
