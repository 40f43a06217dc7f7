//! CSV fields: quoted where they must be, so that NULL and the empty text stay different.

use bytes::{BufMut, BytesMut};

/// Writes a field that is not NULL; `null` is how NULLs look here (unquoted).
pub(crate) fn field(out: &mut BytesMut, text: &[u8], delimiter: u8, null: &str) {
    let special = |b: &u8| matches!(b, b'"' | b'\n' | b'\r') || *b == delimiter;
    let edge = text.first() == Some(&b' ') || text.last() == Some(&b' ');
    // `\.` alone on a line ends the data for old readers of COPY.
    if text != null.as_bytes() && !edge && text != b"\\." && !text.iter().any(special) {
        return out.put_slice(text);
    }
    out.put_u8(b'"');
    for byte in text {
        if *byte == b'"' {
            out.put_u8(b'"');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}
