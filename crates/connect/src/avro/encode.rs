//! The primitives in which a value is written.

use relation::value::I256Bytes;

/// A whole number of 32 or 64 bits, which are written alike.
pub(crate) fn push_long(out: &mut Vec<u8>, number: i64) {
    let mut zigzag = (number << 1 ^ number >> 63).cast_unsigned();
    while zigzag > 0x7f {
        out.push((zigzag & 0x7f).to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

/// See [`push_long`].
pub(crate) fn push_int(out: &mut Vec<u8>, number: i32) {
    push_long(out, i64::from(number));
}

pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(bytes);
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    push_bytes(out, text.as_bytes());
}

/// The bytes of a decimal's number: as few as say it, the first ones first.
pub(crate) fn unscaled(number: I256Bytes) -> Vec<u8> {
    let mut bytes: Vec<u8> = number.0.into_iter().rev().collect();
    let is_negative = bytes[0] & 0x80 != 0;
    let filler = if is_negative { 0xff } else { 0 };
    let says_no_more = |pair: &[u8]| pair[0] == filler && (pair[1] & 0x80 != 0) == is_negative;
    let needless = bytes.windows(2).take_while(|pair| says_no_more(pair)).count();
    bytes.drain(..needless);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_specification_has_them() {
        let longs: &[(i64, &[u8])] = &[
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (-2, &[3]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ];
        for (number, bytes) in longs {
            let mut out = Vec::new();
            push_long(&mut out, *number);
            assert_eq!(out, *bytes, "{number}");
        }
        let decimals: &[(i128, &[u8])] =
            &[(0, &[0]), (-1, &[0xff]), (127, &[0x7f]), (128, &[0, 0x80]), (-128, &[0x80]), (-129, &[0xff, 0x7f])];
        for (number, bytes) in decimals {
            assert_eq!(unscaled(I256Bytes::from_i128(*number)), *bytes, "{number}");
        }
    }
}
