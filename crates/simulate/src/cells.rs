//! Writes a row cell by cell, in the order of its columns, straight into the row encoding.

use relation::row::RowWriter;

use crate::NEVER;

/// The cells of a row that is being written.
pub(crate) struct Cells<'a> {
    row: RowWriter<'a>,
    next: usize,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(row: RowWriter<'a>) -> Self {
        Self { row, next: 0 }
    }

    #[inline]
    fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.row.fixed(self.next, bytes);
        self.next += 1;
        self
    }

    /// A bigint, or a decimal in its smallest unit.
    #[inline]
    pub(crate) fn number(&mut self, value: i64) -> &mut Self {
        self.fixed(&value.to_le_bytes())
    }

    /// A timestamp.
    #[inline]
    pub(crate) fn time(&mut self, at_us: i64) -> &mut Self {
        self.number(at_us)
    }

    /// A timestamp that is NULL until a moment has come.
    #[inline]
    pub(crate) fn time_if_come(&mut self, at_us: i64, now_us: i64) -> &mut Self {
        if at_us <= now_us && at_us != NEVER { self.time(at_us) } else { self.null() }
    }

    /// An integer; what does not fit is the largest.
    #[inline]
    pub(crate) fn integer(&mut self, value: i64) -> &mut Self {
        self.fixed(&i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes())
    }

    /// A smallint; what does not fit is the largest.
    #[inline]
    pub(crate) fn small(&mut self, value: i64) -> &mut Self {
        self.fixed(&i16::try_from(value).unwrap_or(i16::MAX).to_le_bytes())
    }

    #[inline]
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.row.variable(self.next, text.as_bytes());
        self.next += 1;
        self
    }

    /// A text put together from parts, without one in between.
    pub(crate) fn texts(&mut self, parts: &[&str]) -> &mut Self {
        self.row.variable_with(self.next, |out| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes())));
        self.next += 1;
        self
    }

    #[inline]
    pub(crate) fn null(&mut self) -> &mut Self {
        self.row.null(self.next);
        self.next += 1;
        self
    }
}

/// A number as text, without an allocation.
pub(crate) struct Digits {
    bytes: [u8; 20],
    from: usize,
}

impl Digits {
    pub(crate) fn of(number: i64) -> Self {
        let mut digits = Self { bytes: [b'0'; 20], from: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            digits.from -= 1;
            digits.bytes[digits.from] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 || digits.from == 0 {
                return digits;
            }
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.from..]).unwrap_or_default()
    }
}
