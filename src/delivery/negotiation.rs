//! Accept-Encoding (RFC 9110 12.5.3).

use crate::fields::Fields;

/// Weights in thousandths.
const WEIGHT_MAX: u16 = 1_000;

/// Is gzip what the client takes, and likes no less than the bytes themselves? Without the field
/// the bytes themselves are sent: such a client is likely to know nothing else.
pub fn accepts_gzip(request: &Fields) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for element in request.list("accept-encoding") {
        let mut parts = element.splitn(2, |&byte| byte == b';');
        let coding = parts.next().unwrap_or_default().trim_ascii();
        let weight = parts.next().map_or(WEIGHT_MAX, weight);
        let slot = if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
        {
            &mut gzip
        } else if coding == b"*" {
            &mut any
        } else if coding.eq_ignore_ascii_case(b"identity") {
            &mut identity
        } else {
            continue;
        };
        *slot = Some(slot.map_or(weight, |before: u16| before.max(weight)));
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

/// `q=0.5` as 500; what is no weight counts as zero, so that nothing is sent on a guess.
fn weight(parameters: &[u8]) -> u16 {
    let parameters = parameters.trim_ascii();
    let Some((b'q' | b'Q', rest)) = parameters.split_first() else { return 0 };
    let Some(value) = rest.trim_ascii().strip_prefix(b"=") else { return 0 };
    let value = value.trim_ascii();
    let (whole, digits) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', digits @ ..] => (whole, digits),
        _ => return 0,
    };
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let scale = [100, 10, 1];
    let fraction: u16 =
        digits.iter().zip(scale).map(|(digit, scale)| u16::from(digit - b'0') * scale).sum();
    (u16::from(whole - b'0') * WEIGHT_MAX + fraction).min(WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it_and_like_it_no_less() {
        for (field, expected) in [
            ("gzip", true),
            ("GZip, deflate, br", true),
            ("deflate, x-gzip", true),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", true),
            ("*", true),
            ("gzip;q=0.001", true),
            ("gzip;q=1.000", true),
            ("gzip ; q = 0.5", true),
            ("gzip;Q=0.5", true),
            ("identity;q=0, gzip;q=0.5", true),
            ("identity, gzip", true),
            ("gzip;q=0.5, *;q=0", true),
            ("", false),
            (",", false),
            ("br", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("identity;q=0", false),
            ("identity, gzip;q=0.5", false),
            ("gzip;q=x", false),
            ("gzip;q=2", false),
            ("gzip;q=0.1234", false),
            ("gzip;q=-1", false),
            ("gzip;", false),
            ("gzipped", false),
        ] {
            let request = Fields::from([("Accept-Encoding", field)]);
            assert_eq!(accepts_gzip(&request), expected, "{field:?}");
        }
        assert!(!accepts_gzip(&Fields::new()));
        let two = Fields::from([("Accept-Encoding", "br"), ("accept-encoding", "gzip")]);
        assert!(accepts_gzip(&two));
    }
}
