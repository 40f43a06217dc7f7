//! Fixed binary values that have a textual form of their own: MariaDB's `uuid`, `inet4` and `inet6`, and vectors.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A UUID in lower case with its dashes.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

/// An IPv4 address.
pub(crate) fn inet4(bytes: [u8; 4]) -> String {
    Ipv4Addr::from(bytes).to_string()
}

/// An IPv6 address, as MariaDB shows it: the old compatible form `::1.2.3.4` keeps its dots.
pub(crate) fn inet6(bytes: [u8; 16]) -> String {
    let address = Ipv6Addr::from(bytes);
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => {
            let [.., a, b, c, d] = bytes;
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => address.to_string(),
    }
}

/// A vector of single-precision numbers: `[1.0,2.5]`. None where the bytes are no whole numbers.
pub(crate) fn vector(bytes: &[u8]) -> Option<String> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return None;
    }
    let mut out = String::from("[");
    for (i, number) in numbers.iter().enumerate() {
        let separator = if i == 0 { "" } else { "," };
        out.push_str(&format!("{separator}{:?}", f32::from_le_bytes(*number)));
    }
    out.push(']');
    Some(out)
}
