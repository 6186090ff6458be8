//! Numbers with a fraction as redis-server reckons them, which is C's `long double` of x86: 64 bits of
//! mantissa, and 17 digits behind the point where one is shown. An `f64` would show other digits.
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "numbers of bits are small")]

use std::cmp::Ordering;

/// redis-server's buffer for such a number.
const TEXT_MAX_BYTES: usize = 5 * 1024;
/// Digits behind the point.
const DECIMALS: usize = 17;
const MANTISSA_BITS: usize = 64;
/// Beyond, the number is infinite.
const EXPONENT_MAX: i64 = 16_384 - 64;
/// What has more digits before the point is infinite.
const MAGNITUDE_MAX: i64 = 4_933;
/// What is below ten to this is something, but where it does not stand alone nothing, since 64 bits do not
/// reach from a digit that is shown to it.
const MAGNITUDE_SHOWN: i64 = -40;
/// What is not below ten to this is something.
const MAGNITUDE_MIN: i64 = -4_950;
/// The digits of half of the least number, 2 to the -16,446, up to which it is nothing.
const NOTHING: &[u8] = b"182259976594123730";
/// More digits behind the point tell at most that it is a little more: between two numbers of 64 bits that are
/// not below `MAGNITUDE_SHOWN` there are fewer.
const FRACTION_MAX: i64 = 300;
/// Digits that one step reckons with.
const STEP_DIGITS: usize = 9;

/// A whole number of any size, in parts of 32 bits, the lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Big(Vec<u32>);

impl Big {
    fn from(number: u64) -> Self {
        let mut big = Self(vec![number as u32, (number >> 32) as u32]);
        big.trim();
        big
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn bits(&self) -> usize {
        self.0.last().map_or(0, |top| self.0.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for part in &mut self.0 {
            let product = u64::from(*part) * u64::from(factor) + carry;
            *part = product as u32;
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Divides, and gives the remainder.
    fn divide(&mut self, divisor: u32) -> u32 {
        let mut rest = 0_u64;
        for part in self.0.iter_mut().rev() {
            let dividend = rest << 32 | u64::from(*part);
            *part = (dividend / u64::from(divisor)) as u32;
            rest = dividend % u64::from(divisor);
        }
        self.trim();
        rest as u32
    }

    fn shift_left(&mut self, bits: usize) {
        if self.is_zero() {
            return;
        }
        let (parts, bits) = (bits / 32, bits % 32);
        if bits > 0 {
            self.multiply_add(1 << bits, 0);
        }
        self.0.splice(0..0, std::iter::repeat_n(0, parts));
    }

    fn bit(&self, at: usize) -> bool {
        self.0.get(at / 32).is_some_and(|part| part >> (at % 32) & 1 == 1)
    }

    fn any_below(&self, bit: usize) -> bool {
        (0..bit.min(self.bits())).any(|at| self.bit(at))
    }

    /// Without its lowest bits, rounded to the nearest, and to the even one between two. `more`: it is a
    /// little more than it says.
    fn rounded(&self, bits: usize, more: bool) -> Self {
        let mut shifted = Self(self.0.get(bits / 32..).unwrap_or_default().to_vec());
        let rest = bits % 32;
        if rest > 0 {
            let mut above = 0;
            for part in shifted.0.iter_mut().rev() {
                let whole = u64::from(above) << 32 | u64::from(*part);
                above = *part;
                *part = (whole >> rest) as u32;
            }
        }
        shifted.trim();
        let is_half = bits > 0 && self.bit(bits - 1);
        if is_half && (more || self.any_below(bits - 1) || shifted.bit(0)) {
            shifted.add(&Self::from(1));
        }
        shifted
    }

    fn add(&mut self, other: &Self) {
        let mut carry = 0_u64;
        for at in 0..self.0.len().max(other.0.len()) {
            if at == self.0.len() {
                self.0.push(0);
            }
            let sum =
                u64::from(self.0[at]) + u64::from(other.0.get(at).copied().unwrap_or(0)) + carry;
            self.0[at] = sum as u32;
            carry = sum >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    /// Takes off what is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = 0_i64;
        for at in 0..self.0.len() {
            let own = i64::from(self.0[at]) - borrow;
            let difference = own - i64::from(other.0.get(at).copied().unwrap_or(0));
            borrow = i64::from(difference < 0);
            self.0[at] = (difference & 0xffff_ffff) as u32;
        }
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        let length = self.0.len().cmp(&other.0.len());
        length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    fn low_64(&self) -> u64 {
        let part = |at: usize| u64::from(self.0.get(at).copied().unwrap_or(0));
        part(1) << 32 | part(0)
    }
}

/// A finite number: mantissa times two to the exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i64,
}

/// What a text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Finite(LongDouble),
    Infinite,
}

impl LongDouble {
    const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0 };
    /// Stands for all that are too small to be shown.
    const TINY: Self = Self { negative: false, mantissa: 1 << 63, exponent: -263 };

    /// The nearest number; `None`: it is infinite.
    fn nearest(negative: bool, big: &Big, exponent: i64, more: bool) -> Option<Self> {
        let cut = big.bits().saturating_sub(MANTISSA_BITS);
        let mut rounded = big.rounded(cut, more);
        let mut exponent = exponent + cut as i64;
        if rounded.bits() > MANTISSA_BITS {
            rounded = rounded.rounded(1, false);
            exponent += 1;
        }
        let highest = exponent + rounded.bits() as i64 - MANTISSA_BITS as i64;
        let mantissa = rounded.low_64();
        (highest <= EXPONENT_MAX).then_some(Self { negative, mantissa, exponent })
    }

    /// The sum; `None`: it is infinite.
    pub fn plus(self, other: Self) -> Option<Self> {
        if self.mantissa == 0 {
            return Some(other);
        }
        if other.mantissa == 0 {
            return Some(self);
        }
        let lowest = self.exponent.min(other.exponent);
        let aligned = |number: Self| {
            let mut big = Big::from(number.mantissa);
            big.shift_left((number.exponent - lowest) as usize);
            big
        };
        let (mut own, mut its) = (aligned(self), aligned(other));
        if self.negative == other.negative {
            own.add(&its);
            return Self::nearest(self.negative, &own, lowest, false);
        }
        match own.compare(&its) {
            Ordering::Equal => Some(Self::ZERO),
            Ordering::Greater => {
                own.subtract(&its);
                Self::nearest(self.negative, &own, lowest, false)
            }
            Ordering::Less => {
                its.subtract(&own);
                Self::nearest(other.negative, &its, lowest, false)
            }
        }
    }

    /// With up to 17 digits behind the point, and no zeros at the end.
    pub fn text(self) -> String {
        let mut big = Big::from(self.mantissa);
        big.multiply_add(1_000_000_000, 0);
        big.multiply_add(100_000_000, 0);
        if self.exponent >= 0 {
            big.shift_left(self.exponent as usize);
        } else {
            big = big.rounded(self.exponent.unsigned_abs() as usize, false);
        }
        let mut parts = Vec::new();
        while !big.is_zero() {
            parts.push(format!("{:09}", big.divide(1_000_000_000)));
        }
        let digits: String = parts.into_iter().rev().collect();
        let digits = digits.trim_start_matches('0');
        let digits = format!("{digits:0>width$}", width = DECIMALS + 1);
        let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        let sign = if self.negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
        format!("{sign}{whole}{point}{fraction}")
    }
}

/// The number that a text is: digits with a point and a power of ten, or a word for infinity. C's
/// hexadecimal numbers are not taken.
pub(super) fn parse(text: &[u8]) -> Option<Number> {
    if text.is_empty() || text.len() >= TEXT_MAX_BYTES {
        return None;
    }
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Some(Number::Infinite);
    }
    let digits_of = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = &rest[..digits_of(rest)];
    let mut rest = &rest[whole.len()..];
    let mut fraction: &[u8] = b"";
    if let [b'.', after @ ..] = rest {
        fraction = &after[..digits_of(after)];
        rest = &after[fraction.len()..];
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut power = match rest {
        [] => 0,
        [b'e' | b'E', exponent @ ..] => exponent_of(exponent)?,
        _ => return None,
    };
    power -= fraction.len() as i64;
    let digits = whole.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    let digits: Vec<u8> = digits.copied().collect();
    if digits.is_empty() {
        return Some(Number::Finite(LongDouble { negative, ..LongDouble::ZERO }));
    }
    scale(negative, &digits, power).map(Number::Finite)
}

/// A power of ten as it is written; one that is too long is as good as the largest.
fn exponent_of(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0_i64, |size, digit| {
        (size * 10 + i64::from(digit - b'0')).min(TEXT_MAX_BYTES as i64 * 4)
    });
    Some(if negative { -size } else { size })
}

/// Digits, of which the first is not 0, times a power of ten; `None`: too large, or too small. That is known
/// before anything is reckoned: a few bytes can say a power whose digits take long.
fn scale(negative: bool, digits: &[u8], power: i64) -> Option<LongDouble> {
    let magnitude = digits.len() as i64 + power;
    if magnitude > MAGNITUDE_MAX {
        return None;
    }
    if magnitude <= MAGNITUDE_SHOWN {
        let is_something =
            magnitude > MAGNITUDE_MIN || magnitude == MAGNITUDE_MIN && digits > NOTHING;
        return is_something.then_some(LongDouble { negative, ..LongDouble::TINY });
    }
    let dropped = (-power - FRACTION_MAX).clamp(0, digits.len() as i64);
    let (digits, rest) = digits.split_at(digits.len() - dropped as usize);
    let power = power + dropped;
    let mut more = rest.iter().any(|digit| *digit != b'0');
    let mut big = Big::default();
    for digits in digits.chunks(STEP_DIGITS) {
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        big.multiply_add(ten_to(digits.len()), number);
    }
    let mut exponent = 0;
    let mut left = power.unsigned_abs() as usize;
    if power < 0 {
        // So many bits that 66 are left at least when it was divided.
        let bits = left * 10 / 3 + MANTISSA_BITS + 3;
        big.shift_left(bits);
        exponent = -(bits as i64);
    }
    while left > 0 {
        let step = left.min(STEP_DIGITS);
        if power < 0 {
            more |= big.divide(ten_to(step)) != 0;
        } else {
            big.multiply_add(ten_to(step), 0);
        }
        left -= step;
    }
    LongDouble::nearest(negative, &big, exponent, more)
}

/// A power of ten up to that of a step.
fn ten_to(digits: usize) -> u32 {
    (0..digits).fold(1, |power, _| power * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let (Some(Number::Finite(a)), Some(Number::Finite(b))) =
            (parse(a.as_bytes()), parse(b.as_bytes()))
        else {
            panic!("{a} {b}");
        };
        a.plus(b).expect("finite").text()
    }

    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        // As redis-server 7.0 answers INCRBYFLOAT.
        assert_eq!(sum("3.0", "1.1"), "4.1");
        assert_eq!(sum("10.5", "0.1"), "10.6");
        assert_eq!(sum("5.0e3", "2.0e2"), "5200");
        assert_eq!(sum("1", "-1"), "0");
        assert_eq!(sum("0.1", "-0.3"), "-0.2");
        assert_eq!(sum("-0.0", "0"), "0");
        assert_eq!(sum("18446744073709551616", "1"), "18446744073709551616");
        assert_eq!(sum("1e-20", "0"), "0");
        assert_eq!(sum(".5", "1."), "1.5");
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in
            ["", "-", ".", "1x", " 1", "1 ", "e1", "1e", "nan", "0x1", "1e99999", "1e-99999"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        // The bounds are those of redis-server 7.0, as all in these tests.
        for (is_number, text) in [
            (true, "1.1897314953572317e4932"),
            (false, "1.2e4932"),
            (false, "1e4933"),
            (false, "1e19999"),
            (true, "1e-4933"),
            (true, "-3.6e-4951"),
            (true, "1.9e-4951"),
            (true, "190e-4953"),
            (false, "1.8e-4951"),
            (false, "1e-4951"),
            (false, "-1e-4999"),
            (false, "1e-19999"),
            (true, "0e99999"),
        ] {
            assert_eq!(parse(text.as_bytes()).is_some(), is_number, "{text}");
        }
        assert_eq!(parse(b"-INF"), Some(Number::Infinite));
        assert!(matches!(parse(b"1e4000"), Some(Number::Finite(_))));
    }

    #[test]
    fn many_digits_count_and_what_is_too_small_to_be_shown_does_not() {
        let zeros = |number: usize| "0".repeat(number);
        assert_eq!(sum(&format!("0.{}1e4000", zeros(3_999)), "1"), "2");
        assert_eq!(sum(&format!("1{}e-4000", zeros(4_000)), "0.5"), "1.5");
        // Between 2^64 and the next number, 2^64 + 2: the half is even, a little more is not.
        assert_eq!(sum("18446744073709551617", "0"), "18446744073709551616");
        let more = format!("18446744073709551617.{}1", zeros(4_000));
        assert_eq!(sum(&more, "0"), "18446744073709551618");
        for tiny in ["1e-41", "1e-300", "1e-4950", "-1e-4950"] {
            assert_eq!(sum("5e-18", tiny), sum("5e-18", "0"), "{tiny}");
            assert_eq!(sum("1", tiny), "1");
            assert_eq!(sum(tiny, tiny), "0");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "times of one process are compared")]
    fn a_power_that_is_out_of_range_takes_no_time() {
        let took = |text: &[u8]| {
            let begins = std::time::Instant::now();
            for _ in 0..1_000 {
                std::hint::black_box(parse(std::hint::black_box(text)));
            }
            begins.elapsed()
        };
        let ordinary = took(b"1.25e-9");
        for text in ["1e-19999", "1e19999", "1e-4952", "1e-4900"] {
            let own = took(text.as_bytes());
            assert!(own < ordinary * 100, "{text} {own:?}, else {ordinary:?}");
        }
    }
}
