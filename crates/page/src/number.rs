//! Numbers for people: grouped digits, short forms of fixed width, durations, bytes.
//!
//! Decimals come and stay as text: a digit of money is never lost to a float.

/// A count with its digits grouped: `1,234,567`.
pub fn count(value: i64) -> String {
    grouped(&value.to_string())
}

/// A decimal's text with the digits before its point grouped; any other text as it is.
pub fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("−", rest));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |at| digits.split_at(at));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(rest.trim_start_matches('.')) {
        return text.to_owned();
    }
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// A decimal's text with so many digits behind its point, rounded away from zero at the half as PostgreSQL rounds a numeric; any other
/// text as it is. Digits that lack are zeros.
pub fn rounded(text: &str, digits: usize) -> String {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut all: Vec<u8> = whole.bytes().chain(part.bytes().chain(std::iter::repeat(b'0')).take(digits)).collect();
    if part.as_bytes().get(digits).is_some_and(|next| *next >= b'5') {
        let nines = all.iter().rev().take_while(|digit| **digit == b'9').count();
        let kept = all.len() - nines;
        all[kept..].fill(b'0');
        match kept.checked_sub(1) {
            Some(last) => all[last] += 1,
            None => all.insert(0, b'1'),
        }
    }
    let is_zero = all.iter().all(|digit| *digit == b'0');
    let point = all.len() - digits;
    let mut out = if is_zero { String::new() } else { sign.to_owned() };
    for (at, digit) in all.into_iter().enumerate() {
        if at == point {
            out.push('.');
        }
        out.push(char::from(digit));
    }
    out
}

/// Three digits and a unit at most: `999`, `12.3 k`, `4.56 M`.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let (divisor, unit) = match size {
        s if s < 1e3 => (1.0, ""),
        s if s < 1e6 => (1e3, " k"),
        s if s < 1e9 => (1e6, " M"),
        s if s < 1e12 => (1e9, " G"),
        _ => (1e12, " T"),
    };
    format!("{}{unit}", digits(value / divisor))
}

/// Three significant digits, without trailing zeros after the point.
fn digits(value: f64) -> String {
    let text = match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Changes per second.
pub fn rate(value: f64) -> String {
    if value > 0.0 && value < 0.1 { "<0.1/s".to_owned() } else { format!("{}/s", short((value * 10.0).round() / 10.0)) }
}

/// A duration: `2.6 ms`, `85 ms`, `4.2 s`, `12 min`, `5.1 h`, `3.4 d`.
pub fn seconds(value: f64) -> String {
    match value.max(0.0) {
        0.0 => "0 s".to_owned(),
        v if v < 0.000_01 => "<0.01 ms".to_owned(),
        v if v < 0.999_5 => format!("{} ms", digits(v * 1e3)),
        v if v < 60.0 => format!("{v:.1} s"),
        v if v < 3_600.0 => format!("{:.0} min", v / 60.0),
        v if v < 86_400.0 => format!("{:.1} h", v / 3_600.0),
        v => format!("{:.1} d", v / 86_400.0),
    }
}

/// Milliseconds, of which little ones keep their digits: `0.42 ms`, `3.1 ms`, `1.20 s`.
pub fn milliseconds(value: f64) -> String {
    match value {
        v if v < 1_000.0 => format!("{} ms", digits(v)),
        v => seconds(v / 1e3),
    }
}

/// Bytes in powers of 1024: `1.5 GiB`.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value.abs() < 1024.0 {
            return format!("{} {unit}", digits(value));
        }
        value /= 1024.0;
    }
    format!("{} TiB", digits(value))
}

/// A share of one as per cent: `42.0 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_and_kept() {
        assert_eq!(grouped("1234567890123456789.10"), "1,234,567,890,123,456,789.10");
        assert_eq!(grouped("-1000"), "−1,000");
        assert_eq!(grouped("12a"), "12a");
        assert_eq!(grouped(""), "");
        assert_eq!(count(999), "999");
    }

    #[test]
    fn decimals_are_rounded_as_postgresql_rounds_them() {
        let cases = [
            ("16950281.7250", 2, "16950281.73"),
            ("1234.5", 2, "1234.50"),
            ("18317426.652", 0, "18317427"),
            ("-2.5", 0, "-3"),
            ("9.999", 2, "10.00"),
            ("-0.004", 2, "0.00"),
            ("7", 3, "7.000"),
            ("0.1234567890123456789012345", 4, "0.1235"),
            ("1e30", 2, "1e30"),
            ("none", 2, "none"),
        ];
        for (text, digits, expected) in cases {
            assert_eq!(rounded(text, digits), expected, "{text} with {digits}");
        }
    }

    #[test]
    fn short_forms_have_three_digits() {
        assert_eq!(
            [0.0, 7.0, 999.0, 1_000.0, 12_345.0, 4_560_000.0].map(short),
            ["0", "7", "999", "1 k", "12.3 k", "4.56 M"]
        );
        assert_eq!([0.0, 0.04, 0.5, 1_500.0].map(rate), ["0/s", "<0.1/s", "0.5/s", "1.5 k/s"]);
        assert_eq!([0.0, 0.085, 4.2, 720.0, 18_360.0].map(seconds), ["0 s", "85 ms", "4.2 s", "12 min", "5.1 h"]);
        assert_eq!([0.002_6, 0.000_42, 0.000_001, 0.999_9].map(seconds), ["2.6 ms", "0.42 ms", "<0.01 ms", "1.0 s"]);
        assert_eq!([0.0, 1536.0, 5e9].map(bytes), ["0 B", "1.5 KiB", "4.66 GiB"]);
        assert_eq!([0.42, 3.1, 1_200.0].map(milliseconds), ["0.42 ms", "3.1 ms", "1.2 s"]);
    }
}
