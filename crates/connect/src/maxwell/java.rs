//! What Java makes of numbers and of texts: the way Maxwell prints them, and by which it chooses partitions.
//!
//! Digits are the shortest that read back the same, as Java's are from version 19 on; before, a few doubles had one digit more
//! or less.

/// Java's `String.hashCode`: over the UTF-16 units of a text.
pub(crate) fn hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Murmur3 of 32 bits (x86), over bytes.
pub(crate) fn murmur3(bytes: &[u8], seed: u32) -> i32 {
    const FIRST: u32 = 0xcc9e_2d51;
    const SECOND: u32 = 0x1b87_3593;
    let mixed = |block: u32| block.wrapping_mul(FIRST).rotate_left(15).wrapping_mul(SECOND);
    let (blocks, tail) = bytes.as_chunks::<4>();
    let mut hash = blocks.iter().fold(seed, |hash, block| {
        (hash ^ mixed(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    if !tail.is_empty() {
        hash ^= mixed(tail.iter().rev().fold(0, |block, byte| block << 8 | u32::from(*byte)));
    }
    hash ^= u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    (hash ^ hash >> 16).cast_signed()
}

/// The partition of a hash, of so many: Java's `Math.abs(hash % partitions)`.
pub(crate) fn partition(hash: i32, partitions: i32) -> i32 {
    hash.checked_rem(partitions).unwrap_or(0).abs()
}

/// Appends a double as Java's `Double.toString` does.
pub(crate) fn write_double(number: f64, out: &mut Vec<u8>) {
    write_scientific(&format!("{number:e}"), out);
}

/// Appends a float as Java's `Float.toString` does.
pub(crate) fn write_float(number: f32, out: &mut Vec<u8>) {
    write_scientific(&format!("{number:e}"), out);
}

/// `1.5e7` as Java has it: plain from 0.001 to 10,000,000, with a digit behind the point in any case.
fn write_scientific(scientific: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = parts(scientific, out);
    if mantissa == "0" {
        return out.extend_from_slice(b"0.0");
    }
    if (-3..7).contains(&exponent) {
        return write_plain(&mantissa, exponent, out);
    }
    let (first, rest) = mantissa.split_at(1);
    let rest = if rest.is_empty() { "0" } else { rest };
    out.extend_from_slice(format!("{first}.{rest}E{exponent}").as_bytes());
}

/// The digits and the exponent of the first one; writes the sign.
fn parts(scientific: &str, out: &mut Vec<u8>) -> (String, i32) {
    let unsigned = match scientific.strip_prefix('-') {
        None => scientific,
        Some(unsigned) => {
            out.push(b'-');
            unsigned
        }
    };
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    (mantissa.replace('.', ""), exponent.parse().unwrap_or(0))
}

fn write_plain(digits: &str, exponent: i32, out: &mut Vec<u8>) {
    match usize::try_from(exponent) {
        Err(_) => {
            out.extend_from_slice(b"0.");
            (1..exponent.unsigned_abs()).for_each(|_| out.push(b'0'));
            out.extend_from_slice(digits.as_bytes());
        }
        Ok(exponent) => {
            let whole = exponent + 1;
            let (head, tail) = digits.split_at(whole.min(digits.len()));
            out.extend_from_slice(head.as_bytes());
            (digits.len()..whole).for_each(|_| out.push(b'0'));
            out.push(b'.');
            out.extend_from_slice(if tail.is_empty() { b"0" } else { tail.as_bytes() });
        }
    }
}

/// Appends a double in the shortest form that reads back the same: plain for moderate exponents, `1e-7` beyond.
pub(crate) fn write_shortest(number: f64, out: &mut Vec<u8>) {
    write_moderate(&format!("{number:e}"), out);
}

/// The same of a float.
pub(crate) fn write_shortest_float(number: f32, out: &mut Vec<u8>) {
    write_moderate(&format!("{number:e}"), out);
}

fn write_moderate(scientific: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = parts(scientific, out);
    if mantissa == "0" {
        return out.extend_from_slice(b"0.0");
    }
    if (-6..21).contains(&exponent) {
        return write_plain(&mantissa, exponent, out);
    }
    let (first, rest) = mantissa.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    out.extend_from_slice(format!("{first}{point}{rest}e{exponent}").as_bytes());
}

/// Appends all digits of a double's exact value, without an exponent.
pub(crate) fn write_expanded(number: f64, out: &mut Vec<u8>) {
    /// No double has more places.
    const PLACES_MAX: usize = 1_074;
    let text = format!("{number:.PLACES_MAX$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    out.extend_from_slice(text.as_bytes());
}

/// Appends a plain decimal number as Java's `BigDecimal.toString` does: with an exponent where it is below a millionth.
pub(crate) fn write_decimal(plain: &[u8], out: &mut Vec<u8>) {
    let (sign, unsigned) = match plain.strip_prefix(b"-") {
        Some(unsigned) => (&b"-"[..], unsigned),
        None => (&b""[..], plain),
    };
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let scale = point.map_or(0, |at| unsigned.len() - at - 1);
    let digits: Vec<u8> = unsigned.iter().copied().filter(|byte| *byte != b'.').collect();
    let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len().saturating_sub(1));
    let digits = &digits[first..];
    let (count, scale) = (i64::try_from(digits.len()).unwrap_or(0), i64::try_from(scale).unwrap_or(0));
    let exponent = count - 1 - scale;
    if exponent >= -6 {
        return out.extend_from_slice(plain);
    }
    out.extend_from_slice(sign);
    out.extend_from_slice(&digits[..1]);
    if digits.len() > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..]);
    }
    out.extend_from_slice(format!("E{exponent}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hashes_are_those_of_java() {
        assert_eq!(hash_code(""), 0);
        assert_eq!(hash_code("shop"), 3_529_462);
        // Beyond 32 bits, and two units for one character.
        assert_eq!(hash_code("polygenelubricants"), i32::MIN);
        assert_eq!(hash_code("😀"), 0xd83d_i32 * 31 + 0xde00);
        assert_eq!(partition(i32::MIN, 3), 2);
        assert_eq!(partition(-7, 4), 3);
        // The reference implementation's own vectors, and bytes of a tail.
        assert_eq!(murmur3(b"", 0), 0);
        assert_eq!(murmur3(b"", 1).cast_unsigned(), 0x514e_28b7);
        assert_eq!(murmur3(b"test", 0).cast_unsigned(), 0xba6b_d213);
        assert_eq!(murmur3(b"Hello, world!", 0).cast_unsigned(), 0xc036_3e43);
    }

    #[test]
    fn numbers_are_those_of_java() {
        for (number, java, shortest) in [
            (1.5, "1.5", "1.5"),
            (100.0, "100.0", "100.0"),
            (0.001, "0.001", "0.001"),
            (1e7, "1.0E7", "10000000.0"),
            (1e-4, "1.0E-4", "0.0001"),
            (1.25e-7, "1.25E-7", "1.25e-7"),
            (-12_345_678.5, "-1.23456785E7", "-12345678.5"),
            (1e300, "1.0E300", "1e300"),
            (0.0, "0.0", "0.0"),
            (-0.0, "-0.0", "-0.0"),
        ] {
            assert_eq!(text(|out| write_double(number, out)), java);
            assert_eq!(text(|out| write_shortest(number, out)), shortest);
        }
        assert_eq!(text(|out| write_float(0.1, out)), "0.1");
        assert_eq!(text(|out| write_shortest_float(3.4e38, out)), "3.4e38");
        assert_eq!(text(|out| write_expanded(0.5, out)), "0.5");
        assert_eq!(text(|out| write_expanded(100.0, out)), "100");
        assert!(text(|out| write_expanded(1e-7, out)).starts_with("0.00000009999999999999999547"));
    }

    #[test]
    fn decimals_are_those_of_java() {
        for (plain, java) in [
            ("19.9900", "19.9900"),
            ("0.0000000000", "0E-10"),
            ("0.0000001000", "1.000E-7"),
            ("0.000001", "0.000001"),
            ("-0.00000012", "-1.2E-7"),
            ("0", "0"),
            ("-3", "-3"),
        ] {
            assert_eq!(text(|out| write_decimal(plain.as_bytes(), out)), java);
        }
    }
}
