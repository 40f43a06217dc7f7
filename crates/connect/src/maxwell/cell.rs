//! Values as a query shows them, printed as those of the log are: what is bootstrapped equals what is streamed.

use crate::source::mysql::log::parts::{Kind, geometry, temporal, word};

use super::java;
use super::value::{
    DAY_US, Fault, Style, sliced_time, write_bits, write_bytes, write_date, write_inlined, write_of_charset, write_set,
    write_text, write_time, write_unsigned, write_utf8,
};

/// Appends the JSON of a cell that is not NULL, as [`expression`](crate::source::mysql::log::parts::expression) selects it.
pub(crate) fn write(kind: &Kind, cell: &[u8], style: Style, out: &mut Vec<u8>) -> Result<(), Fault> {
    match kind {
        // The server shows them as they are printed.
        Kind::Int { .. } => out.extend_from_slice(cell),
        Kind::Year => match number(cell)? {
            0 if style.compat => write_unsigned(1900, out),
            year => write_unsigned(year, out),
        },
        Kind::Float => {
            let number = narrowed(double(cell)?);
            if style.compat { java::write_float(number, out) } else { java::write_shortest_float(number, out) }
        }
        Kind::Double => {
            let number = double(cell)?;
            if style.compat { java::write_double(number, out) } else { java::write_shortest(number, out) }
        }
        Kind::Decimal { .. } if style.compat => java::write_decimal(cell, out),
        Kind::Decimal { .. } => out.extend_from_slice(cell),
        Kind::Bit => write_bits(cell, style, out),
        Kind::Date { .. } => {
            let parts = temporal::parse(cell).ok_or("It is no date.")?;
            write_date(&parts, None, style, out)?;
        }
        Kind::DateTime { digits, .. } | Kind::Timestamp { digits, .. } => {
            let parts = temporal::parse(cell).ok_or("It is no date.")?;
            write_date(&parts, Some(*digits), style, out)?;
        }
        Kind::Time { digits } => {
            let micros = temporal::parse_time(cell).ok_or("It is no time.")?;
            let micros = if style.compat { in_a_day(micros, *digits)? } else { micros };
            write_time(micros, *digits, out)?;
        }
        Kind::Text(charset, _) if charset.is_utf8() => write_utf8(cell, out),
        Kind::JsonText(charset) if charset.is_utf8() => write_inlined(cell, out),
        Kind::Text(charset, _) => write_of_charset(*charset, false, cell, style, out),
        Kind::JsonText(charset) => write_of_charset(*charset, true, cell, style, out),
        Kind::Json => write_compact(cell, out),
        Kind::Uuid | Kind::Inet4 | Kind::Inet6 => write_utf8(cell, out),
        // The log has them without the zeros at their end.
        Kind::Binary(_) => {
            let end = cell.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            write_bytes(&cell[..end], out);
        }
        Kind::Blob => write_bytes(cell, out),
        Kind::Enum(labels) => match number(cell)?.checked_sub(1) {
            None => out.extend_from_slice(b"null"),
            Some(index) => {
                let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
                write_text(label.ok_or("Its number is beyond the labels of the enum.")?, out);
            }
        },
        Kind::Set(labels) => write_set(number(cell)?, labels, out)?,
        Kind::Geometry => {
            out.push(b'"');
            geometry::write(cell, out).ok_or("Its bytes are no geometry.")?;
            out.push(b'"');
        }
        Kind::Vector => out.extend_from_slice(word::vector(cell).ok_or("Its bytes are no vector.")?.as_bytes()),
    }
    Ok(())
}

/// A time as who passes over its sign reads it in the log.
fn in_a_day(micros: i64, digits: u8) -> Result<i64, Fault> {
    if micros >= 0 {
        return Ok(micros % DAY_US);
    }
    let magnitude = micros.unsigned_abs();
    let (seconds, fraction) = (magnitude / 1_000_000, magnitude % 1_000_000);
    let packed = ((seconds / 3600) << 12) | ((seconds / 60 % 60) << 6) | (seconds % 60);
    let (divisor, bits) = match digits {
        0 => (1_000_000, 0),
        1 | 2 => (10_000, 8),
        3 | 4 => (100, 16),
        _ => (1, 24),
    };
    let stored = (0x80_0000_u64 << bits).wrapping_sub((packed << bits) | (fraction / divisor));
    let bytes = stored.to_be_bytes();
    let width = 3 + bits / 8;
    sliced_time(&bytes[bytes.len() - width..], digits)
}

/// A document without the white space that the server puts between its parts.
fn write_compact(json: &[u8], out: &mut Vec<u8>) {
    let (mut is_text, mut escaped) = (false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if is_text => escaped = true,
            b'"' => is_text = !is_text,
            b' ' if !is_text => continue,
            _ => {}
        }
        out.push(byte);
    }
}

fn number(cell: &[u8]) -> Result<u64, Fault> {
    std::str::from_utf8(cell).ok().and_then(|text| text.parse().ok()).ok_or("It is no number.")
}

fn double(cell: &[u8]) -> Result<f64, Fault> {
    std::str::from_utf8(cell).ok().and_then(|text| text.parse().ok()).ok_or("It is no number.")
}

#[expect(clippy::cast_possible_truncation, reason = "the double was made from a float: nothing is lost")]
fn narrowed(number: f64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(kind: &Kind, cell: &str, compat: bool) -> String {
        let mut out = Vec::new();
        write(kind, cell.as_bytes(), Style { compat, ..Style::default() }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_printed_as_the_log_is() {
        let time = |digits| Kind::Time { digits };
        assert_eq!(printed(&time(0), "-00:00:01", false), "\"-00:00:01\"");
        assert_eq!(printed(&time(0), "-00:00:01", true), "\"16:04:03\"");
        assert_eq!(printed(&time(0), "838:59:59", true), "\"22:59:59\"");
        assert_eq!(printed(&time(3), "12:23:33.345", true), "\"12:23:33.345\"");
        assert_eq!(printed(&Kind::Json, r#"{"a b": [1, 2], "c": "x, \" y"}"#, false), r#"{"a b":[1,2],"c":"x, \" y"}"#);
        assert_eq!(printed(&Kind::Binary(4), "a\0\0\0", false), "\"YQ==\"");
        assert_eq!(printed(&Kind::Decimal { precision: 9, scale: 8 }, "0.00000010", true), "1.0E-7");
        assert_eq!(printed(&Kind::Year, "0000", true), "1900");
    }
}
