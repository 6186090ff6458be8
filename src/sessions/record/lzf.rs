//! `LibLZF`'s format, as PHP's lzf has it: runs of bytes, and copies of what was written before.

/// Unpacks into at most `content_max_bytes`; `None` where it is damaged or larger.
pub(super) fn unpack(packed: &[u8], content_max_bytes: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> =
        Vec::with_capacity(content_max_bytes.min(packed.len().saturating_mul(4)));
    let mut left = packed;
    while let Some((&control, rest)) = left.split_first() {
        let control = usize::from(control);
        if control < 32 {
            let run = rest.get(..=control)?;
            left = &rest[run.len()..];
            out.extend_from_slice(run);
        } else {
            let mut length = (control >> 5) + 2;
            let mut rest = rest;
            if length == 9 {
                length += usize::from(*rest.first()?);
                rest = &rest[1..];
            }
            let distance = ((control & 31) << 8) + usize::from(*rest.first()?) + 1;
            left = &rest[1..];
            let start = out.len().checked_sub(distance)?;
            // What is copied may be what is being written.
            for at in start..start + length {
                out.push(out[at]);
            }
        }
        if out.len() > content_max_bytes {
            return None;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_copies_give_what_was_packed() {
        assert_eq!(unpack(b"", 10).unwrap(), b"");
        assert_eq!(unpack(b"\x02abc", 10).unwrap(), b"abc");
        // Four bytes from three before, which overlap what they write.
        assert_eq!(unpack(b"\x02abc\x40\x02", 10).unwrap(), b"abcabca");
        // The long form: 7 + 2 + 4 bytes.
        assert_eq!(unpack(b"\x00a\xe0\x04\x00", 20).unwrap(), b"a".repeat(14));
    }

    #[test]
    fn damage_and_excess_are_refused() {
        for damaged in [
            &b"\x05abc"[..],
            b"\x40\x00",
            b"\x00a\x40\x01",
            b"\x00a\x40",
            b"\x00a\xe0",
            b"\x00a\xe0\x01",
        ] {
            assert_eq!(unpack(damaged, 100), None, "{damaged:?}");
        }
        assert_eq!(unpack(b"\x00a\xe0\xff\x00", 100), None);
    }
}
