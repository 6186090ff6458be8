//! Randomness as a value: the only place that reads it.

#[cfg(test)]
pub mod chance;

use std::hash::{BuildHasher, RandomState};

/// Random bytes of the kernel; nobody can guess them.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())
        {
            Ok(count) if count > 0 => filled += count,
            // A kernel without the call: the standard library keyed its hashes at start all the
            // same, and each of these states has a key of its own.
            _ => {
                for (place, byte) in buffer.iter_mut().enumerate().skip(filled) {
                    *byte = RandomState::new().hash_one(place).to_le_bytes()[0];
                }
                filled = N;
            }
        }
    }
    buffer
}

/// A number of the kernel.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_differ() {
        let numbers: std::collections::HashSet<u64> = (0..100).map(|_| super::number()).collect();
        assert_eq!(numbers.len(), 100);
    }
}
