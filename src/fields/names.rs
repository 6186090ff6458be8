//! Names as they are nearly always spelled.
//!
//! A name that is a slice of its head's buffer counts a reference there and gives it back, which
//! costs more than to find it here.

use bytes::Bytes;

/// What browsers, load balancers and PHP send, in their spelling.
const NAMES: [&str; 64] = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Age",
    "Authorization",
    "Cache-Control",
    "Connection",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Security-Policy",
    "Content-Security-Policy-Report-Only",
    "Content-Type",
    "Cookie",
    "DNT",
    "Date",
    "ETag",
    "Expires",
    "Forwarded",
    "Host",
    "If-Modified-Since",
    "If-None-Match",
    "Keep-Alive",
    "Last-Modified",
    "Link",
    "Location",
    "Origin",
    "Pragma",
    "Priority",
    "Range",
    "Referer",
    "Referrer-Policy",
    "Sec-Fetch-Dest",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Site",
    "Sec-Fetch-User",
    "Sec-GPC",
    "Server",
    "Set-Cookie",
    "Strict-Transport-Security",
    "TE",
    "Transfer-Encoding",
    "Upgrade-Insecure-Requests",
    "User-Agent",
    "Vary",
    "Via",
    "X-Amzn-Trace-Id",
    "X-Content-Type-Options",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Proto",
    "X-Frame-Options",
    "X-Magento-Cache-Debug",
    "X-Magento-Cache-Id",
    "X-Magento-Debug",
    "X-Magento-Tags",
    "X-Powered-By",
    "X-Real-IP",
    "X-Requested-With",
    "X-UA-Compatible",
    "X-XSS-Protection",
    "sec-ch-ua",
    "sec-ch-ua-platform",
];

/// Places in the table. A name has one place, and may lose it to another.
const PLACES: usize = 256;

static TABLE: [&str; PLACES] = {
    let (mut table, mut next) = ([""; PLACES], 0);
    while next < NAMES.len() {
        table[place(NAMES[next].as_bytes())] = NAMES[next];
        next += 1;
    }
    table
};

/// The name as one that needs no buffer, where it is spelled as usual.
pub fn well_known(name: &[u8]) -> Option<Bytes> {
    let known = TABLE[place(name)];
    (known.as_bytes() == name && !name.is_empty()).then(|| Bytes::from_static(known.as_bytes()))
}

/// Where a name stands: its length, its first byte and its last two tell these names apart.
const fn place(name: &[u8]) -> usize {
    let length = name.len();
    if length == 0 {
        return 0;
    }
    let (first, last) = (name[0], name[length - 1]);
    let before_last = name[length.saturating_sub(2)];
    let mixed =
        length * 119 + first as usize * 243 + before_last as usize * 40 + last as usize * 163;
    mixed % PLACES
}

/// A list of names, in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    names: &'static [&'static str],
    /// A bit for each length that one of them has: rules out nearly all comparisons.
    lengths: u64,
}

impl Names {
    /// The names of this list, of less than 64 bytes each.
    pub const fn new(names: &'static [&'static str]) -> Self {
        let (mut lengths, mut next) = (0, 0);
        while next < names.len() {
            lengths |= 1 << names[next].len();
            next += 1;
        }
        Self { names, lengths }
    }

    /// Is this one of them, without regard to case?
    pub fn have(&self, name: &[u8]) -> bool {
        name.len() < 64
            && self.lengths >> name.len() & 1 == 1
            && self.names.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }

    /// All of them.
    pub const fn as_slice(&self) -> &'static [&'static str] {
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_place_of_its_own_and_no_other_spelling_is_taken_for_it() {
        for name in NAMES {
            assert_eq!(well_known(name.as_bytes()).as_deref(), Some(name.as_bytes()), "{name}");
            assert_eq!(well_known(name.to_ascii_uppercase().as_bytes()).is_some(), {
                name == name.to_ascii_uppercase()
            });
        }
        for other in ["", "x", "Hos", "Hostt", "X-Anything"] {
            assert_eq!(well_known(other.as_bytes()), None, "{other}");
        }
    }
    #[test]
    fn a_list_has_its_names_in_any_case_and_no_others() {
        let names = Names::new(&["te", "keep-alive"]);
        assert!(names.have(b"TE") && names.have(b"Keep-Alive"));
        for other in [&b""[..], b"t", b"tx", b"keep-aliv", &[b'a'; 64], &[b'a'; 66]] {
            assert!(!names.have(other));
        }
    }
}
