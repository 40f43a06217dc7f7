//! The key encoding: bytes that compare as the values do.
//!
//! ```text
//! per column   0x00 NULL (0xff where NULLs come last) | 0x01 value
//! integers     big endian, sign bit flipped           floats   order-preserving bits, −0.0 as 0.0, one NaN
//! text, bytes  0x00 escaped as 0x00 0xff, ended by 0x00 0x00
//!              longer than LONG_PART: its first LONG_PART bytes, 0x00 0x01, a 128-bit hash of all of it
//! intervals    the span by which they are compared: 128 bits, big endian, sign bit flipped
//! arrays       as bytes, in the form of a sort key: per element 0x01 and the element, 0x02 for NULL, which is the
//!              greatest; ended by 0x00. Of several dimensions: all their elements, then how many each array has
//! descending   all bytes of the column inverted
//! whole key    longer than KEY_BYTES: its first KEY_BYTES bytes, a 128-bit hash of all of it
//! ```
//!
//! Text compares by bytes, as SQL does here everywhere. Keys of several columns are the concatenation, so a prefix of
//! columns is a prefix of bytes. No key over the same columns is the beginning of another, so what follows a key can be
//! told from it.
//!
//! Equal values have equal keys, so that the key of a float, of an interval or of an array may stand for values of several
//! forms; [`whole_keys`] tell these apart, and give the values back.
//!
//! A key that had to be cut stands for its values and does not hold them: [`read_row`] refuses it, and what must be in
//! order among values that agree where the key was cut ([`ordered_bytes`]) is compared by the values ([`compare`]).

use std::borrow::Cow;
use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Decimal256Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt64Type,
};

use crate::columns::{RowEncoder, decode};
use crate::interval::Interval;
use crate::row::{Layout, RowWriter, Rows, array};
use crate::schema::DataType;
use crate::{Error, Result};

/// Bytes of a text or binary value that stay ordered in a key.
pub const LONG_PART: usize = 1024;

/// Bytes of a key of several columns that stay as they are. A state's key is made of two such at most, and the store
/// takes 64 KiB.
pub const KEY_BYTES: usize = 16 * 1024;

/// Bytes of the hash at the end of what was cut.
const HASH_BYTES: usize = 16;

/// How a column of a key is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    pub descending: bool,
    pub nulls_first: bool,
}

impl Order {
    /// Ascending, NULLs first: the order of keys that only need to be found again.
    pub const PLAIN: Self = Self { descending: false, nulls_first: true };

    fn null(self) -> u8 {
        if self.nulls_first { 0 } else { 0xff }
    }
}

/// Appends column `i` of an encoded row to a key.
#[inline]
pub fn push_column(out: &mut Vec<u8>, layout: &Layout, row: &[u8], i: usize) {
    if layout.is_null(row, i) {
        out.push(0);
        return;
    }
    out.push(1);
    push_bytes(out, layout, i, layout.bytes(row, i));
}

/// The key of an encoded row over the given columns, appended to `out`.
pub fn push_row(out: &mut Vec<u8>, layout: &Layout, row: &[u8], columns: &[usize]) {
    let start = out.len();
    for &i in columns {
        push_column(out, layout, row, i);
    }
    bound(out, start);
}

/// Appends column `i` of an encoded row, ordered.
fn push_ordered(out: &mut Vec<u8>, layout: &Layout, row: &[u8], i: usize, order: Order) {
    if layout.is_null(row, i) {
        out.push(order.null());
        return;
    }
    let start = out.len() + 1;
    push_column(out, layout, row, i);
    if order.descending {
        invert(&mut out[start..]);
    }
}

/// Cuts the key that begins at `start` if it is too long.
#[inline]
fn bound(out: &mut Vec<u8>, start: usize) {
    if out.len() - start > KEY_BYTES {
        let hash = hash128(&out[start..]);
        out.truncate(start + KEY_BYTES);
        out.extend_from_slice(&hash);
    }
}

fn invert(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|b| *b = !*b);
}

/// Whether a row is what [`read_row`] makes of its key over all columns, `key_bytes` long: nothing in it was cut, no float
/// has bits that its key does not keep, and there is no interval and no array, of which a key does not say the form.
pub fn holds_row(layout: &Layout, row: &[u8], key_bytes: usize) -> bool {
    let is_kept = |i: usize| match layout.types()[i] {
        _ if layout.is_null(row, i) => true,
        DataType::Float32 => {
            let value = f32::from_le_bytes(array(layout.bytes(row, i)));
            value.to_bits() == canonical_f32(value).to_bits()
        }
        DataType::Float64 => {
            let value = f64::from_le_bytes(array(layout.bytes(row, i)));
            value.to_bits() == canonical_f64(value).to_bits()
        }
        DataType::Interval | DataType::Array(_) => false,
        _ => !is_long(layout, row, i),
    };
    key_bytes <= KEY_BYTES && (0..layout.types().len()).all(is_kept)
}

/// The one of all equal floats that a key keeps: 0.0 for −0.0, and one NaN.
pub fn canonical_f64(value: f64) -> f64 {
    if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f64::NAN
    } else {
        value
    }
}

/// As [`canonical_f64`].
pub fn canonical_f32(value: f32) -> f32 {
    if value == 0.0 {
        0.0
    } else if value.is_nan() {
        f32::NAN
    } else {
        value
    }
}

fn is_long(layout: &Layout, row: &[u8], i: usize) -> bool {
    layout.types()[i].is_variable() && !layout.is_null(row, i) && compared(layout, row, i).len() > LONG_PART
}

/// The bytes by which a variable column is compared, before it is cut.
fn compared<'a>(layout: &Layout, row: &'a [u8], i: usize) -> Cow<'a, [u8]> {
    match layout.types()[i] {
        DataType::Array(_) => {
            let mut key = Vec::new();
            push_sort_key(&mut key, layout, i, layout.bytes(row, i));
            Cow::Owned(key)
        }
        _ => Cow::Borrowed(layout.bytes(row, i)),
    }
}

/// How many bytes of a row's key, `key_bytes` long, are in the order of its columns; none where all of them are.
///
/// Keys that agree in so many bytes lie side by side, and their rows are in order only by [`compare`].
pub fn ordered_bytes(layout: &Layout, row: &[u8], columns: &[(usize, Order)], key_bytes: usize) -> Option<usize> {
    let long = columns.iter().position(|&(i, _)| is_long(layout, row, i));
    let of_text = long.map(|at| {
        let mut key = Vec::new();
        columns[..=at].iter().for_each(|&(i, order)| push_ordered(&mut key, layout, row, i, order));
        key.len() - HASH_BYTES
    });
    let of_whole = (key_bytes > KEY_BYTES).then_some(KEY_BYTES);
    of_text.into_iter().chain(of_whole).min()
}

/// The order of two rows by all of their values, also where keys are cut.
pub fn compare(layout: &Layout, a: &[u8], b: &[u8], columns: &[(usize, Order)]) -> Ordering {
    let of_column = |&(i, order): &(usize, Order)| {
        let is_plain_text = layout.types()[i].is_variable() && !layout.is_null(a, i) && !layout.is_null(b, i);
        if is_plain_text {
            let ordering = compared(layout, a, i).cmp(&compared(layout, b, i));
            return if order.descending { ordering.reverse() } else { ordering };
        }
        let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
        push_ordered(&mut of_a, layout, a, i, order);
        push_ordered(&mut of_b, layout, b, i, order);
        of_a.cmp(&of_b)
    };
    columns.iter().map(of_column).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// Appends one non-null value of column `i` given by its row bytes.
fn push_bytes(out: &mut Vec<u8>, layout: &Layout, i: usize, bytes: &[u8]) {
    match layout.types()[i] {
        DataType::Text | DataType::Json | DataType::Bytes => push_text(out, bytes),
        DataType::Array(_) => {
            let mut key = Vec::new();
            push_sort_key(&mut key, layout, i, bytes);
            push_text(out, &key);
        }
        _ => push_sort_key(out, layout, i, bytes),
    }
}

/// Appends the sort key of one non-null value of column `i` given by its row bytes: as a key has it, but whole.
///
/// No sort key of a column is the beginning of another.
fn push_sort_key(out: &mut Vec<u8>, layout: &Layout, i: usize, bytes: &[u8]) {
    match layout.types()[i] {
        DataType::Bool => out.push(bytes[0]),
        DataType::Int16 => push_int::<2>(out, i16::from_le_bytes(array(bytes)).to_be_bytes()),
        DataType::Int32 | DataType::Date => push_int::<4>(out, i32::from_le_bytes(array(bytes)).to_be_bytes()),
        DataType::Int64 | DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
            push_int::<8>(out, i64::from_le_bytes(array(bytes)).to_be_bytes());
        }
        DataType::UInt64 => out.extend_from_slice(&u64::from_le_bytes(array(bytes)).to_be_bytes()),
        DataType::Float32 => push_f32(out, f32::from_le_bytes(array(bytes))),
        DataType::Float64 => push_f64(out, f64::from_le_bytes(array(bytes))),
        DataType::Decimal { .. } => push_reversed(out, bytes),
        DataType::Interval => push_int::<16>(out, Interval::from_bytes(bytes).span().to_be_bytes()),
        DataType::Text | DataType::Json | DataType::Bytes => {
            push_escaped(out, bytes);
            out.extend_from_slice(&[0, 0]);
        }
        DataType::Array(element) => {
            let Some(items) = layout.items(i) else { return };
            let mut lengths = Vec::new();
            push_elements(out, items, bytes, &mut lengths);
            out.push(LAST_ELEMENT);
            if element.dimensions() > 0 {
                out.extend_from_slice(&lengths);
            }
        }
    }
}

/// Marks of elements. A shorter array is before a longer one that begins with it, and NULL is the greatest element.
const LAST_ELEMENT: u8 = 0;
const ELEMENT: u8 = 1;
const NULL_ELEMENT: u8 = 2;
/// The length of an array that is NULL within another.
const NO_LENGTH: u32 = u32::MAX;

/// Appends the elements of an array, those of arrays within it in their places; how many each has goes to `lengths`.
fn push_elements(out: &mut Vec<u8>, items: &Layout, bytes: &[u8], lengths: &mut Vec<u8>) {
    let at = lengths.len();
    lengths.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for row in items.rows_of(bytes) {
        count = count.saturating_add(1);
        match (items.items(0), items.is_null(row, 0)) {
            (Some(inner), false) => push_elements(out, inner, items.bytes(row, 0), lengths),
            (Some(_), true) => lengths.extend_from_slice(&NO_LENGTH.to_be_bytes()),
            (None, true) => out.push(NULL_ELEMENT),
            (None, false) => {
                out.push(ELEMENT);
                push_sort_key(out, items, 0, items.bytes(row, 0));
            }
        }
    }
    lengths[at..at + 4].copy_from_slice(&count.to_be_bytes());
}

#[inline]
fn push_int<const N: usize>(out: &mut Vec<u8>, mut big_endian: [u8; N]) {
    big_endian[0] ^= 0x80;
    out.extend_from_slice(&big_endian);
}

/// A little-endian two's complement number of any width.
fn push_reversed(out: &mut Vec<u8>, little_endian: &[u8]) {
    let start = out.len();
    out.extend(little_endian.iter().rev());
    out[start] ^= 0x80;
}

fn push_f64(out: &mut Vec<u8>, value: f64) {
    let bits = canonical_f64(value).to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | (1 << 63) };
    out.extend_from_slice(&ordered.to_be_bytes());
}

fn push_f32(out: &mut Vec<u8>, value: f32) {
    let bits = canonical_f32(value).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | (1 << 31) };
    out.extend_from_slice(&ordered.to_be_bytes());
}

#[inline]
fn push_text(out: &mut Vec<u8>, bytes: &[u8]) {
    push_escaped(out, &bytes[..bytes.len().min(LONG_PART)]);
    if bytes.len() > LONG_PART {
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&hash128(bytes));
    } else {
        out.extend_from_slice(&[0, 0]);
    }
}

#[inline]
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.contains(&0) {
        return out.extend_from_slice(bytes);
    }
    for &b in bytes {
        out.push(b);
        if b == 0 {
            out.push(0xff);
        }
    }
}

/// Makes the row of a key over all columns of a layout, plainly ordered: the reverse of [`push_row`], but that a float's
/// −0.0 comes back as 0.0. Errors: the key is none of this layout, it was cut ([`LONG_PART`], [`KEY_BYTES`]), or it is of an
/// interval or an array.
pub fn read_row(key: &[u8], layout: &Layout, rows: &mut Rows) -> Result<()> {
    if key.len() > KEY_BYTES {
        return Err(Error::Damaged("a key does not hold its row"));
    }
    let mut writer = rows.start_row(layout);
    let mut rest = key;
    let mut complete = true;
    for i in 0..layout.types().len() {
        let read = read_column(rest, layout.types()[i], &mut writer, i);
        complete = read.is_some();
        let Some(after) = read else { break };
        rest = after;
    }
    if complete && rest.is_empty() {
        rows.finish_row();
        return Ok(());
    }
    rows.abandon_row();
    Err(Error::Damaged("a key does not hold its row"))
}

/// Reads one column, and answers with what follows it.
fn read_column<'k>(key: &'k [u8], data_type: DataType, out: &mut RowWriter<'_>, i: usize) -> Option<&'k [u8]> {
    let (&present, rest) = key.split_first()?;
    if present == 0 {
        out.null(i);
        return Some(rest);
    }
    if matches!(data_type, DataType::Interval | DataType::Array(_)) {
        return None;
    }
    if data_type.is_variable() {
        return read_text(rest, out, i);
    }
    let width = data_type.fixed_width();
    let (bytes, rest) = rest.split_at_checked(width)?;
    let mut little_endian = [0; 32];
    let fixed = little_endian.get_mut(..width)?;
    fixed.copy_from_slice(bytes);
    match data_type {
        DataType::Bool | DataType::UInt64 => {}
        // A negative float has all its bits inverted, another one its sign.
        DataType::Float32 | DataType::Float64 if fixed[0] & 0x80 == 0 => fixed.iter_mut().for_each(|b| *b = !*b),
        _ => fixed[0] ^= 0x80,
    }
    fixed.reverse();
    out.fixed(i, fixed);
    Some(rest)
}

fn read_text<'k>(key: &'k [u8], out: &mut RowWriter<'_>, i: usize) -> Option<&'k [u8]> {
    let mut text = Vec::new();
    let mut rest = key;
    loop {
        let end = rest.iter().position(|&b| b == 0)?;
        text.extend_from_slice(&rest[..end]);
        let mark = *rest.get(end + 1)?;
        rest = &rest[end + 2..];
        match mark {
            0xff => text.push(0),
            0 => {
                out.variable(i, &text);
                return Some(rest);
            }
            _ => return None,
        }
    }
}

/// A 128-bit FNV-1a hash (Fowler, Noll, Vo): fixed for ever, since it is on disk.
pub fn hash128(bytes: &[u8]) -> [u8; 16] {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for &b in bytes {
        hash ^= u128::from(b);
        hash = hash.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    hash.to_be_bytes()
}

/// Encodes keys from Arrow columns, row by row.
pub struct KeyEncoder {
    columns: Vec<KeyColumn>,
}

struct KeyColumn {
    array: ArrayRef,
    data_type: DataType,
    order: Order,
}

impl KeyEncoder {
    /// Keys over these columns, all ordered plainly. The arrays have the Arrow types of ours.
    pub fn new(columns: Vec<(ArrayRef, DataType)>) -> Self {
        Self::ordered(columns.into_iter().map(|(a, t)| (a, t, Order::PLAIN)).collect())
    }

    /// Keys over these columns, each with its order.
    pub fn ordered(columns: Vec<(ArrayRef, DataType, Order)>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .map(|(array, data_type, order)| KeyColumn { array, data_type, order })
                .collect(),
        }
    }

    /// Whether some key column of a row is NULL: such a key matches nothing in a join.
    pub fn has_null(&self, row: usize) -> bool {
        self.columns.iter().any(|c| c.array.is_null(row))
    }

    /// Appends the key of a row.
    pub fn push(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        for column in &self.columns {
            column.push(row, out);
        }
        bound(out, start);
    }
}

impl KeyColumn {
    fn push(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        if self.array.is_null(row) {
            out.push(self.order.null());
            return;
        }
        out.push(1);
        self.push_value(row, out);
        if self.order.descending {
            invert(&mut out[start + 1..]);
        }
    }

    #[inline]
    fn push_value(&self, row: usize, out: &mut Vec<u8>) {
        let a = &self.array;
        match self.data_type {
            DataType::Bool => {
                let bools: &BooleanArray = a.as_boolean();
                out.push(u8::from(bools.value(row)));
            }
            DataType::Int16 => push_int(out, primitive::<Int16Type>(a).value(row).to_be_bytes()),
            DataType::Int32 => push_int(out, primitive::<Int32Type>(a).value(row).to_be_bytes()),
            DataType::Date => push_int(out, primitive::<Date32Type>(a).value(row).to_be_bytes()),
            DataType::Int64 => push_int(out, primitive::<Int64Type>(a).value(row).to_be_bytes()),
            DataType::Time => push_int(out, primitive::<Time64MicrosecondType>(a).value(row).to_be_bytes()),
            DataType::Timestamp | DataType::TimestampTz => {
                push_int(out, primitive::<TimestampMicrosecondType>(a).value(row).to_be_bytes());
            }
            DataType::UInt64 => out.extend_from_slice(&primitive::<UInt64Type>(a).value(row).to_be_bytes()),
            DataType::Float32 => push_f32(out, primitive::<Float32Type>(a).value(row)),
            DataType::Float64 => push_f64(out, primitive::<Float64Type>(a).value(row)),
            #[expect(clippy::cast_possible_truncation, reason = "at most 18 digits fit 64 bits")]
            DataType::Decimal { precision: 0..=18, .. } => {
                push_int(out, (primitive::<Decimal128Type>(a).value(row) as i64).to_be_bytes());
            }
            DataType::Decimal { precision: 19..=38, .. } => {
                push_int(out, primitive::<Decimal128Type>(a).value(row).to_be_bytes());
            }
            DataType::Decimal { .. } => {
                push_reversed(out, &primitive::<Decimal256Type>(a).value(row).to_le_bytes());
            }
            DataType::Text | DataType::Json => push_text(out, a.as_string::<i32>().value(row).as_bytes()),
            DataType::Bytes => push_text(out, a.as_binary::<i32>().value(row)),
            DataType::Interval => {
                let value = primitive::<IntervalMonthDayNanoType>(a).value(row);
                push_int(out, Interval::from_arrow(value).span().to_be_bytes());
            }
            DataType::Array(_) => push_text(out, &sort_key_at(a, self.data_type, row)),
        }
    }
}

/// The sort key of an array's value that is not NULL.
fn sort_key_at(values: &ArrayRef, data_type: DataType, row: usize) -> Vec<u8> {
    let layout = Layout::new(vec![data_type]);
    let mut key = Vec::new();
    let mut bytes = Vec::new();
    // Only a decimal beyond its type could not be encoded, and Arrow holds none such in a column of ours.
    if RowEncoder::new(layout.clone(), vec![ArrayRef::clone(values)]).push(row, &mut bytes).is_ok() {
        push_sort_key(&mut key, &layout, 0, layout.bytes(&bytes, 0));
    }
    key
}

/// Per value of a column the bytes by which it is compared: equal values have equal ones, and a greater one greater ones. NULL
/// stays NULL. The array has the Arrow type of ours.
pub fn sort_keys(values: &ArrayRef, data_type: DataType) -> Result<BinaryArray> {
    keys(values, data_type, |_, _| {})
}

/// Per value of a column bytes that are ordered as [`sort_keys`] are, and among equal values by their form: a value is found in
/// them again ([`of_whole_keys`]).
///
/// ```text
/// sort key, the bytes of the value in a row, their number (u32, big endian)
/// ```
pub fn whole_keys(values: &ArrayRef, data_type: DataType) -> Result<BinaryArray> {
    keys(values, data_type, |out, bytes| {
        out.extend_from_slice(bytes);
        // A row is part of a batch, and a batch is limited to 4 GiB.
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    })
}

fn keys(values: &ArrayRef, data_type: DataType, more: fn(&mut Vec<u8>, &[u8])) -> Result<BinaryArray> {
    let layout = Layout::new(vec![data_type]);
    let encoder = RowEncoder::new(layout.clone(), vec![ArrayRef::clone(values)]);
    let mut out = BinaryBuilder::with_capacity(values.len(), values.len() * 16);
    let (mut key, mut row) = (Vec::new(), Vec::new());
    let mut total = 0_usize;
    for at in 0..values.len() {
        if values.is_null(at) {
            out.append_null();
            continue;
        }
        key.clear();
        row.clear();
        encoder.push(at, &mut row)?;
        let bytes = layout.bytes(&row, 0);
        push_sort_key(&mut key, &layout, 0, bytes);
        more(&mut key, bytes);
        total += key.len();
        if i32::try_from(total).is_err() {
            return Err(Error::Overflow("keys of a batch"));
        }
        out.append_value(&key);
    }
    Ok(out.finish())
}

/// The values of [`whole_keys`]. Errors: bytes that are none of this type.
pub fn of_whole_keys(keys: &BinaryArray, data_type: DataType) -> Result<ArrayRef> {
    const DAMAGED: Error = Error::Damaged("a key does not hold its value");
    let layout = Layout::new(vec![data_type]);
    let mut rows = Rows::with_capacity(keys.len(), keys.values().len());
    for key in keys {
        let mut writer = rows.start_row(&layout);
        match key {
            None => writer.null(0),
            Some(key) => {
                let (rest, length) = key.split_last_chunk::<4>().ok_or(DAMAGED)?;
                let length = u32::from_be_bytes(*length) as usize;
                let at = rest.len().checked_sub(length).ok_or(DAMAGED)?;
                let bytes = &rest[at..];
                match data_type.is_variable() {
                    true => writer.variable(0, bytes),
                    false if bytes.len() == data_type.fixed_width() => writer.fixed(0, bytes),
                    false => return Err(DAMAGED),
                }
            }
        }
        rows.finish_row();
        layout.check(rows.get(rows.len() - 1))?;
    }
    let column = crate::Column::new("value", data_type);
    let schema = crate::Schema::new(vec![column], vec![]).to_arrow();
    Ok(ArrayRef::clone(decode(rows.iter(), &layout, &[0], &schema)?.column(0)))
}

#[inline]
fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> &PrimitiveArray<T> {
    array.as_primitive::<T>()
}
