//! Decimals: MySQL's packed form, nine digits in four bytes, as the unscaled number of a row; and as text.

use relation::row::RowWriter;

/// Bytes of one to eight leftover digits.
const LEFTOVER_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
/// Powers of ten up to nine digits.
const POWERS: [u32; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];

/// How the digits of a `decimal(precision, scale)` lie in its bytes: first the leftover digits of the whole part, then
/// groups of nine, then the leftover digits of the fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DecimalForm {
    lead_digits: usize,
    groups: usize,
    tail_digits: usize,
    pub(crate) bytes: usize,
    /// Digits in all; decides how wide a number must be.
    precision: usize,
    scale: usize,
}

impl DecimalForm {
    /// The form of a type; `scale` is at most `precision`.
    pub(crate) fn new(precision: u8, scale: u8) -> Self {
        let (precision, scale) = (usize::from(precision), usize::from(scale));
        let whole = precision.saturating_sub(scale);
        let (lead_digits, tail_digits) = (whole % 9, scale % 9);
        let groups = whole / 9 + scale / 9;
        let bytes = LEFTOVER_BYTES[lead_digits] + groups * 4 + LEFTOVER_BYTES[tail_digits];
        Self { lead_digits, groups, tail_digits, bytes, precision, scale }
    }

    /// Calls `digits(value, power)` for each group, highest first; returns whether the number is negative.
    ///
    /// `bytes` has the length of the form. None where a group has more digits than its bytes may hold.
    #[inline]
    fn groups(&self, bytes: &[u8], mut digits: impl FnMut(u32, u32)) -> Option<bool> {
        let negative = bytes.first()? & 0x80 == 0;
        // A negative number is stored with all bits flipped, and the highest bit of all is flipped once more.
        let flip = if negative { 0xff } else { 0 };
        let mut at = 0;
        let mut first = 0x80;
        let mut group = |width: usize, count: usize| {
            let mut value = 0_u32;
            for byte in &bytes[at..at + width] {
                value = value << 8 | u32::from(byte ^ flip ^ first);
                first = 0;
            }
            at += width;
            digits(value, POWERS[count]);
            value < POWERS[count]
        };
        let mut valid = self.lead_digits == 0 || group(LEFTOVER_BYTES[self.lead_digits], self.lead_digits);
        for _ in 0..self.groups {
            valid &= group(4, 9);
        }
        valid &= self.tail_digits == 0 || group(LEFTOVER_BYTES[self.tail_digits], self.tail_digits);
        valid.then_some(negative)
    }

    /// The unscaled number, of up to 18 digits.
    #[inline]
    fn narrow(&self, bytes: &[u8]) -> Option<i64> {
        let mut sum = 0_i64;
        let negative =
            self.groups(bytes, |value, power| sum = sum.wrapping_mul(i64::from(power)).wrapping_add(i64::from(value)))?;
        Some(if negative { -sum } else { sum })
    }

    /// The unscaled number, of up to 38 digits.
    fn wide(&self, bytes: &[u8]) -> Option<i128> {
        let mut sum = 0_i128;
        let negative = self
            .groups(bytes, |value, power| sum = sum.wrapping_mul(i128::from(power)).wrapping_add(i128::from(value)))?;
        Some(if negative { -sum } else { sum })
    }

    /// The unscaled number of any precision.
    fn widest(&self, bytes: &[u8]) -> Option<Wide> {
        let mut sum = Wide::default();
        let negative = self.groups(bytes, |value, power| sum.multiply_add(power, value))?;
        Some(if negative { sum.negated() } else { sum })
    }

    /// Writes the number into column `i`, whose type has the same precision; none for digits that are none.
    #[inline]
    pub(super) fn write(&self, i: usize, bytes: &[u8], row: &mut RowWriter<'_>) -> Option<()> {
        match self.precision {
            0..=18 => row.fixed(i, &self.narrow(bytes)?.to_le_bytes()),
            19..=38 => row.fixed(i, &self.wide(bytes)?.to_le_bytes()),
            _ => row.fixed(i, &self.widest(bytes)?.to_le_bytes()),
        }
        Some(())
    }

    /// Appends the number's text with all digits of its scale; none where they are none.
    pub(crate) fn write_text(&self, bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        const DIGITS_MAX: usize = 90; // ten groups of nine
        let (mut digits, mut count) = ([b'0'; DIGITS_MAX], 0);
        let negative = self.groups(bytes.get(..self.bytes)?, |value, power| {
            let width = power.ilog10() as usize;
            let mut rest = value;
            for place in digits[count..count + width].iter_mut().rev() {
                *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
            count += width;
        })?;
        let (whole, fraction) = digits[..count].split_at_checked(count.checked_sub(self.scale)?)?;
        if negative {
            out.push(b'-');
        }
        match whole.iter().position(|digit| *digit != b'0') {
            Some(first) => out.extend_from_slice(&whole[first..]),
            None => out.push(b'0'),
        }
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        Some(())
    }

    /// The number as text with all digits of its scale.
    pub(crate) fn text(&self, bytes: &[u8]) -> Option<String> {
        let mut digits = String::new();
        let negative = self.groups(bytes.get(..self.bytes)?, |value, power| {
            let width = power.ilog10() as usize;
            digits.push_str(&format!("{value:0width$}"));
        })?;
        let whole = digits.len().checked_sub(self.scale)?;
        let (whole, fraction) = digits.split_at_checked(whole)?;
        let whole = whole.trim_start_matches('0');
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        Some(format!("{sign}{}{point}{fraction}", if whole.is_empty() { "0" } else { whole }))
    }
}

/// Writes a decimal that a query shows as text into column `i`, whose type has this precision and scale.
#[inline]
pub(super) fn write_decimal_text(
    i: usize,
    text: &[u8],
    precision: u8,
    scale: u8,
    row: &mut RowWriter<'_>,
) -> Option<()> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let whole = &digits[..point.unwrap_or(digits.len())];
    let leading = whole.iter().take_while(|byte| **byte == b'0').count();
    // Without a digit it is no number, and more of them than the type has would be wrapped.
    if digits.len() == usize::from(point.is_some())
        || whole.len() - leading > usize::from(precision.saturating_sub(scale))
    {
        return None;
    }
    match precision {
        0..=18 => {
            let mut sum = 0_i64;
            each_digit(digits, scale, |digit| sum = sum.wrapping_mul(10).wrapping_add(i64::from(digit)))?;
            row.fixed(i, &(if negative { -sum } else { sum }).to_le_bytes());
        }
        19..=38 => {
            let mut sum = 0_i128;
            each_digit(digits, scale, |digit| sum = sum.wrapping_mul(10).wrapping_add(i128::from(digit)))?;
            row.fixed(i, &(if negative { -sum } else { sum }).to_le_bytes());
        }
        _ => {
            let mut sum = Wide::default();
            each_digit(digits, scale, |digit| sum.multiply_add(10, u32::from(digit)))?;
            row.fixed(i, &(if negative { sum.negated() } else { sum }).to_le_bytes());
        }
    }
    Some(())
}

/// Calls `digit` for each digit, filling the fraction up to `scale`.
#[inline]
fn each_digit(text: &[u8], scale: u8, mut digit: impl FnMut(u8)) -> Option<()> {
    let mut missing = None;
    for &byte in text {
        match byte {
            b'0'..=b'9' => {
                digit(byte - b'0');
                if let Some(left) = missing {
                    missing = Some(u8::checked_sub(left, 1)?);
                }
            }
            b'.' if missing.is_none() => missing = Some(scale),
            _ => return None,
        }
    }
    (0..missing.unwrap_or(scale)).for_each(|_| digit(0));
    Some(())
}

/// A 256-bit integer, lowest limb first: what 65 digits need.
#[derive(Debug, Clone, Copy, Default)]
struct Wide([u64; 4]);

impl Wide {
    fn multiply_add(&mut self, factor: u32, add: u32) {
        let mut carry = u128::from(add);
        for limb in &mut self.0 {
            let sum = u128::from(*limb) * u128::from(factor) + carry;
            *limb = low(sum);
            carry = sum >> 64;
        }
    }

    fn negated(self) -> Self {
        let mut carry = true;
        Self(self.0.map(|limb| {
            let (out, overflow) = (!limb).overflowing_add(u64::from(carry));
            carry = overflow;
            out
        }))
    }

    fn to_le_bytes(self) -> [u8; 32] {
        let mut out = [0; 32];
        for (bytes, limb) in out.chunks_mut(8).zip(self.0) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        out
    }
}

/// The low half of a number.
#[expect(clippy::cast_possible_truncation, reason = "the carry keeps the high half")]
fn low(number: u128) -> u64 {
    number as u64
}
