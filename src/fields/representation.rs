//! Fields that hold for just the bytes they came with.

use super::Field;

/// Does it say something of just these bytes: their length, or a digest (RFC 9110 8.6, RFC 9530,
/// RFC 3230, RFC 1864)? It goes where other bytes take their place.
pub fn describes_bytes(field: &Field) -> bool {
    const NAMES: [&str; 5] =
        ["content-length", "content-digest", "repr-digest", "digest", "content-md5"];
    NAMES.iter().any(|name| field.is(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

    #[test]
    fn lengths_and_digests_are_of_the_bytes_and_validators_and_types_are_not() {
        let described =
            |name: &'static str| Fields::from([(name, "x")]).iter().all(describes_bytes);
        for name in ["Content-Length", "content-digest", "Repr-Digest", "Digest", "Content-MD5"] {
            assert!(described(name), "{name}");
        }
        for name in ["ETag", "Content-Type", "Want-Repr-Digest", "Server-Timing"] {
            assert!(!described(name), "{name}");
        }
    }
}
