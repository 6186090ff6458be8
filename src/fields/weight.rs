//! Weights in lists of what a client takes (RFC 9110 12.4.2).

/// The weight of what is not given one, in thousandths.
pub const WEIGHT_MAX: u16 = 1_000;

/// `q=0.5` as 500, with white space where it may stand; `None`: it is no weight.
pub fn weight(parameter: &[u8]) -> Option<u16> {
    let (b'q' | b'Q', rest) = parameter.trim_ascii().split_first()? else { return None };
    let value = rest.trim_ascii().strip_prefix(b"=")?.trim_ascii();
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] => (whole, digits),
        _ => return None,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let places = digits.iter().zip([100, 10, 1]);
    let fraction: u16 = places.map(|(digit, place)| u16::from(digit - b'0') * place).sum();
    Some(u16::from(whole - b'0') * WEIGHT_MAX + fraction).filter(|&weight| weight <= WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_and_nothing_else() {
        for (text, expected) in
            [("q=1", 1_000), ("Q=0.5", 500), (" q = 0.001 ", 1), ("q=1.000", 1_000), ("q=0.", 0)]
        {
            assert_eq!(weight(text.as_bytes()), Some(expected), "{text}");
        }
        for text in ["", "q", "q=", "q=2", "q=1.1", "q=1.001", "q=0.1234", "q=-1", "v=1", "q=1e-1"]
        {
            assert_eq!(weight(text.as_bytes()), None, "{text}");
        }
    }
}
