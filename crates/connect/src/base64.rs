//! Bytes in the letters of RFC 4648, with padding.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Writes bytes in letters.
pub(crate) fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    for part in bytes.chunks(3) {
        let byte = |i: usize| u32::from(part.get(i).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let letter = LETTERS[usize::try_from(number >> (18 - 6 * i) & 63).unwrap_or(0)];
            out.push(if i <= part.len() { letter } else { b'=' });
        }
    }
}

/// Bytes as a text of their letters.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    push(&mut out, bytes);
    out.into_iter().map(char::from).collect()
}

/// The bytes of a text of letters, padded; none where it has anything else in it.
pub(crate) fn read(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0);
    for digit in digits.bytes() {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits).to_le_bytes()[0]);
            held &= (1 << bits) - 1;
        }
    }
    // What is left over are zeros, as many as the padding says.
    (padding <= 2 && held == 0 && usize::try_from(bits).ok()? == 2 * padding).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        let pairs: &[(&[u8], &str)] =
            &[(b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (&[251, 255, 191], "+/+/")];
        for (bytes, letters) in pairs {
            assert_eq!(text(bytes), *letters);
            assert_eq!(read(letters).as_deref(), Some(*bytes));
        }
        for bad in ["Zg=", "Zg", "Zh==", "Zm8==", "Z m8", "===="] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
