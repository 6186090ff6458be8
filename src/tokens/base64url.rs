//! base64url without padding (RFC 4648 5): letters that need no escape in a cookie, a URL or a script.
//!
//! Each word says its bytes in one way alone: bits that no byte uses must be zero, or one token would have several
//! spellings.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What is no letter.
const NONE: u8 = 0xff;

/// The value of each byte as a letter.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < LETTERS.len() {
        values[LETTERS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The letters that so many bytes take.
pub const fn letters(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Writes bytes as letters.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(letters(bytes.len()));
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |at: usize| char::from(LETTERS[(bits >> (18 - 6 * at)) as usize & 63]);
        text.extend((0..=three.len()).map(letter));
    }
    text
}

/// Reads what [`encode`] writes, and nothing else. The caller bounds the text.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in text {
        let value = VALUES[usize::from(*letter)];
        if value == NONE {
            return None;
        }
        bits = (bits << 6 | u32::from(value)) & 0xfff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // Six bits that are left are a letter too many; two or four are the last byte's, and zero.
    let is_whole = count < 6 && bits & ((1 << count) - 1) == 0;
    is_whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_writes_the_vectors_of_the_rfc() {
        let vectors = [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(text.len(), letters(bytes.len()));
        }
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "-__-");
    }

    #[test]
    fn what_is_not_written_so_is_not_read() {
        for wrong in ["Z", "Zg=", "Zg==", "Zh", "Zm9", "Zm9vY", "+/+/", "Zm 9v", "Zm9v\n", "\u{ff}"]
        {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes: Vec<u8>) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), Some(bytes));
        }

        #[test]
        fn a_word_has_one_spelling(text in "[A-Za-z0-9_-]{0,12}") {
            if let Some(bytes) = decode(text.as_bytes()) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
