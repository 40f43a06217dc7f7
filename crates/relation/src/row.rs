//! The row encoding: a compact tuple in which a column is reached without decoding the others.
//!
//! ```text
//! null bitmap   ceil(n / 8) bytes, bit i of byte i/8 set: column i is NULL
//! fixed part    per column DataType::fixed_width bytes, little endian; zero where NULL;
//!               variable columns hold the end of their bytes within the variable part (u32)
//! variable part the bytes of the variable columns, in column order
//!
//! interval      months (i32), days (i32), microseconds (i64)
//! array         one row of a single column per element, one behind the other: each says where it ends
//! ```
//!
//! The encoding is canonical: identical rows have equal bytes (floats keep their bits, intervals their parts).

use std::sync::Arc;

use crate::schema::DataType;
use crate::value::{I256Bytes, Interval, Value};
use crate::{Error, Result};

/// Where each column of a row lies: computed once per schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    types: Vec<DataType>,
    offsets: Vec<u32>,
    /// For a variable column: the fixed-part offset of the variable column before it.
    previous: Vec<Option<u32>>,
    /// For an array: the layout of its elements, rows of a single column.
    items: Vec<Option<Arc<Layout>>>,
    fixed_end: usize,
}

impl Layout {
    /// The layout of rows of these types.
    pub fn new(types: Vec<DataType>) -> Self {
        let mut at = types.len().div_ceil(8);
        let mut offsets = Vec::with_capacity(types.len());
        let mut previous = Vec::with_capacity(types.len());
        let mut last_variable = None;
        for data_type in &types {
            let offset = u32::try_from(at).unwrap_or(u32::MAX);
            offsets.push(offset);
            previous.push(last_variable);
            if data_type.is_variable() {
                last_variable = Some(offset);
            }
            at += data_type.fixed_width();
        }
        let item = |data_type: &DataType| match data_type {
            DataType::Array(element) => Some(Arc::new(Self::new(vec![**element]))),
            _ => None,
        };
        let items = types.iter().map(item).collect();
        Self { types, offsets, previous, items, fixed_end: at }
    }

    /// The layout of the elements of column `i`, if it is an array: rows of a single column.
    pub(crate) fn items(&self, i: usize) -> Option<&Arc<Self>> {
        self.items.get(i)?.as_ref()
    }

    /// The rows of a single column that lie one behind the other in the bytes of an array. An end where bytes are none of
    /// this layout: [`Layout::check`] finds that.
    pub(crate) fn rows_of<'a>(&self, mut bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        let (fixed_end, end_at) =
            (self.fixed_end, self.types.first().filter(|t| t.is_variable()).map(|_| self.offset(0)));
        std::iter::from_fn(move || {
            if bytes.len() < fixed_end {
                return None;
            }
            let variable = end_at.map_or(0, |at| read_u32(bytes, at) as usize);
            let (row, rest) = bytes.split_at_checked(fixed_end.checked_add(variable)?)?;
            bytes = rest;
            Some(row)
        })
    }

    /// Types in column order.
    pub fn types(&self) -> &[DataType] {
        &self.types
    }

    /// Whether column `i` of the row is NULL.
    #[inline]
    pub fn is_null(&self, row: &[u8], i: usize) -> bool {
        row[i / 8] & (1 << (i % 8)) != 0
    }

    /// The bytes of column `i`, meaningless where it is NULL: the fixed bytes, or the variable ones.
    #[inline]
    pub fn bytes<'a>(&self, row: &'a [u8], i: usize) -> &'a [u8] {
        let at = self.offsets[i] as usize;
        if !self.types[i].is_variable() {
            return &row[at..at + self.types[i].fixed_width()];
        }
        let end = self.fixed_end + read_u32(row, at) as usize;
        let start = match self.previous[i] {
            Some(before) => self.fixed_end + read_u32(row, before as usize) as usize,
            None => self.fixed_end,
        };
        &row[start..end]
    }

    /// Checks that bytes from outside are a row of this layout, so that [`Layout::bytes`] cannot fail on them.
    pub fn check(&self, row: &[u8]) -> Result<()> {
        if row.len() < self.fixed_end {
            return Err(Error::Damaged("row shorter than its fixed part"));
        }
        let mut end = 0;
        for (i, data_type) in self.types.iter().enumerate() {
            if data_type.is_variable() {
                let next = read_u32(row, self.offsets[i] as usize) as usize;
                if next < end {
                    return Err(Error::Damaged("offsets of a row go backwards"));
                }
                end = next;
                if matches!(data_type, DataType::Text | DataType::Json)
                    && row.len() >= self.fixed_end + end
                    && std::str::from_utf8(self.bytes(row, i)).is_err()
                {
                    return Err(Error::Damaged("text is not UTF-8"));
                }
                if let Some(items) = self.items(i)
                    && row.len() >= self.fixed_end + end
                {
                    items.check_all(self.bytes(row, i))?;
                }
            }
        }
        if row.len() != self.fixed_end + end {
            return Err(Error::Damaged("row length does not match its offsets"));
        }
        Ok(())
    }

    /// Checks the elements of an array.
    fn check_all(&self, bytes: &[u8]) -> Result<()> {
        let mut length = 0;
        for row in self.rows_of(bytes) {
            self.check(row)?;
            length += row.len();
        }
        if length == bytes.len() { Ok(()) } else { Err(Error::Damaged("an array does not end with an element")) }
    }

    /// Column `i` as a value.
    pub fn value(&self, row: &[u8], i: usize) -> Value {
        if self.is_null(row, i) {
            return Value::Null;
        }
        let bytes = self.bytes(row, i);
        match self.types[i] {
            DataType::Bool => Value::Bool(bytes[0] != 0),
            DataType::Int16 => Value::Int(i64::from(i16::from_le_bytes(array(bytes)))),
            DataType::Int32 => Value::Int(i64::from(i32::from_le_bytes(array(bytes)))),
            DataType::Int64 => Value::Int(i64::from_le_bytes(array(bytes))),
            DataType::UInt64 => Value::UInt(u64::from_le_bytes(array(bytes))),
            DataType::Float32 => Value::real(f32::from_le_bytes(array(bytes))),
            DataType::Float64 => Value::Float(f64::from_le_bytes(array(bytes))),
            DataType::Decimal { precision: 0..=18, scale } => {
                Value::Decimal(i128::from(i64::from_le_bytes(array(bytes))), scale)
            }
            DataType::Decimal { precision: 19..=38, scale } => Value::Decimal(i128::from_le_bytes(array(bytes)), scale),
            DataType::Decimal { scale, .. } => Value::BigDecimal(I256Bytes(array(bytes)), scale),
            // Text was checked when it was written or read from disk; a lossy copy beats a panic.
            DataType::Text | DataType::Json => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
            DataType::Bytes => Value::Bytes(bytes.to_vec()),
            DataType::Date => Value::Date(i32::from_le_bytes(array(bytes))),
            DataType::Time => Value::Time(i64::from_le_bytes(array(bytes))),
            DataType::Timestamp => Value::Timestamp(i64::from_le_bytes(array(bytes))),
            DataType::TimestampTz => Value::TimestampTz(i64::from_le_bytes(array(bytes))),
            DataType::Interval => Value::Interval(Interval::from_bytes(bytes)),
            DataType::Array(_) => {
                let items = self.items(i).into_iter();
                Value::Array(items.flat_map(|items| items.rows_of(bytes).map(|row| items.value(row, 0))).collect())
            }
        }
    }

    /// All columns as values.
    pub fn values(&self, row: &[u8]) -> Vec<Value> {
        (0..self.types.len()).map(|i| self.value(row, i)).collect()
    }

    pub(crate) fn offset(&self, i: usize) -> usize {
        self.offsets[i] as usize
    }
}

/// Copies a slice of known length into an array.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

#[inline]
pub(crate) fn read_u32(row: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(&row[at..at + 4]))
}

/// Many encoded rows in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Rows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Room for `rows` rows of `bytes` bytes in all.
    pub fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(rows) }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all rows together.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The encoded row `i`.
    #[inline]
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Appends an encoded row.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.end_row();
    }

    /// Appends a row of values; they must fit the layout's types.
    pub fn push_values(&mut self, layout: &Layout, values: &[Value]) -> Result<()> {
        let mut writer = RowWriter::new(layout, &mut self.bytes);
        for (i, value) in values.iter().enumerate() {
            writer.value(i, value)?;
        }
        self.end_row();
        Ok(())
    }

    /// Writes the next row column by column. Call [`Rows::finish_row`] after the last one, or [`Rows::abandon_row`].
    pub fn start_row<'a>(&'a mut self, layout: &'a Layout) -> RowWriter<'a> {
        RowWriter::new(layout, &mut self.bytes)
    }

    /// Ends the row begun by [`Rows::start_row`].
    pub fn finish_row(&mut self) {
        self.end_row();
    }

    /// Drops what was written since the last finished row.
    pub fn abandon_row(&mut self) {
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0) as usize);
    }

    /// Drops all rows from position `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.abandon_row();
    }

    /// Appends all rows of another.
    pub fn append(&mut self, other: &Self) {
        let base = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.extend(other.ends.iter().map(|end| base + end));
        assert!(u32::try_from(self.bytes.len()).is_ok(), "a batch of rows is limited to 4 GiB");
    }

    /// The whole buffer and the end of each row: for writing to disk.
    pub fn parts(&self) -> (&[u8], &[u32]) {
        (&self.bytes, &self.ends)
    }

    /// The reverse of [`Rows::parts`].
    pub fn from_parts(bytes: Vec<u8>, ends: Vec<u32>) -> Result<Self> {
        let sorted = ends.windows(2).all(|w| w[0] <= w[1]);
        if !sorted || ends.last().copied().unwrap_or(0) as usize != bytes.len() {
            return Err(Error::Damaged("row ends do not match the buffer"));
        }
        Ok(Self { bytes, ends })
    }

    fn end_row(&mut self) {
        let end = u32::try_from(self.bytes.len());
        assert!(end.is_ok(), "a batch of rows is limited to 4 GiB");
        self.ends.push(end.unwrap_or(u32::MAX));
    }
}

/// Writes one row, each column once, in column order.
pub struct RowWriter<'a> {
    layout: &'a Layout,
    out: &'a mut Vec<u8>,
    start: usize,
    next: usize,
}

impl<'a> RowWriter<'a> {
    /// Starts a row at the end of `out`.
    pub fn new(layout: &'a Layout, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.resize(start + layout.fixed_end, 0);
        Self { layout, out, start, next: 0 }
    }

    /// Column `i` is NULL.
    #[inline]
    pub fn null(&mut self, i: usize) {
        self.out[self.start + i / 8] |= 1 << (i % 8);
        self.variable_end(i);
    }

    /// Column `i`, of a fixed type, as its little-endian bytes.
    #[inline]
    pub fn fixed(&mut self, i: usize, bytes: &[u8]) {
        self.order(i);
        let at = self.start + self.layout.offset(i);
        debug_assert_eq!(bytes.len(), self.layout.types[i].fixed_width());
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Column `i`, of a variable type.
    #[inline]
    pub fn variable(&mut self, i: usize, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.variable_end(i);
    }

    /// Column `i`, variable, written by the caller straight into the buffer.
    pub fn variable_with(&mut self, i: usize, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.out);
        self.variable_end(i);
    }

    /// Column `i`, an array of so many elements, each written by the caller as column 0 of a row. Errors: those of `write`.
    pub fn elements(
        &mut self,
        i: usize,
        count: usize,
        mut write: impl FnMut(&mut RowWriter<'_>, usize) -> Result<()>,
    ) -> Result<()> {
        let layout = self.layout;
        let Some(items) = layout.items(i) else { return Err(Error::Damaged("elements of what is no array")) };
        for at in 0..count {
            write(&mut RowWriter::new(items, self.out), at)?;
        }
        self.variable_end(i);
        Ok(())
    }

    /// A decimal's unscaled number, at the column's own scale.
    pub fn decimal(&mut self, i: usize, unscaled: i128) -> Result<()> {
        match self.layout.types[i].fixed_width() {
            8 => {
                let narrow = i64::try_from(unscaled).map_err(|_| Error::Overflow("decimal"))?;
                self.fixed(i, &narrow.to_le_bytes());
            }
            16 => self.fixed(i, &unscaled.to_le_bytes()),
            _ => self.fixed(i, &I256Bytes::from_i128(unscaled).0),
        }
        Ok(())
    }

    /// Column `i` from a value of a fitting kind.
    pub fn value(&mut self, i: usize, value: &Value) -> Result<()> {
        let data_type = self.layout.types[i];
        let mismatch = || Error::Parse { data_type, text: value.to_string() };
        let narrow = |_| Error::Overflow("integer");
        match (data_type, value) {
            (_, Value::Null) => self.null(i),
            (DataType::Bool, Value::Bool(b)) => self.fixed(i, &[u8::from(*b)]),
            (DataType::Int16, Value::Int(v)) => self.fixed(i, &i16::try_from(*v).map_err(narrow)?.to_le_bytes()),
            (DataType::Int32, Value::Int(v)) => self.fixed(i, &i32::try_from(*v).map_err(narrow)?.to_le_bytes()),
            (DataType::Int64, Value::Int(v)) => self.fixed(i, &v.to_le_bytes()),
            (DataType::UInt64, Value::UInt(v)) => self.fixed(i, &v.to_le_bytes()),
            #[expect(clippy::cast_possible_truncation, reason = "a real column holds single precision")]
            (DataType::Float32, Value::Float(v)) => self.fixed(i, &(*v as f32).to_le_bytes()),
            (DataType::Float64, Value::Float(v)) => self.fixed(i, &v.to_le_bytes()),
            (DataType::Decimal { scale, .. }, Value::Decimal(v, s)) if scale == *s => self.decimal(i, *v)?,
            (DataType::Decimal { precision: 39.., scale }, Value::BigDecimal(v, s)) if scale == *s => {
                self.fixed(i, &v.0);
            }
            (DataType::Text | DataType::Json, Value::Text(s)) => self.variable(i, s.as_bytes()),
            (DataType::Bytes, Value::Bytes(b)) => self.variable(i, b),
            (DataType::Date, Value::Date(v)) => self.fixed(i, &v.to_le_bytes()),
            (DataType::Time, Value::Time(v))
            | (DataType::Timestamp, Value::Timestamp(v))
            | (DataType::TimestampTz, Value::TimestampTz(v)) => self.fixed(i, &v.to_le_bytes()),
            (DataType::Interval, Value::Interval(v)) => self.fixed(i, &v.to_bytes()),
            (DataType::Array(_), Value::Array(values)) => {
                self.elements(i, values.len(), |writer, at| writer.value(0, &values[at]))?;
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }

    #[inline]
    fn order(&mut self, i: usize) {
        debug_assert!(i >= self.next, "columns of a row are written in order");
        self.next = i + 1;
    }

    #[inline]
    fn variable_end(&mut self, i: usize) {
        self.order(i);
        if self.layout.types[i].is_variable() {
            let end = self.out.len() - self.start - self.layout.fixed_end;
            let at = self.start + self.layout.offset(i);
            // A row is part of a batch, and a batch is limited to 4 GiB.
            let end = u32::try_from(end).unwrap_or(u32::MAX);
            self.out[at..at + 4].copy_from_slice(&end.to_le_bytes());
        }
    }
}
