//! Rows of a table as it is, as rows of the table as it was declared (`on_change: map`).
//!
//! The law: a declared column has the value of the column of its name, as its declared type; NULL where the table has no such
//! column any more. A value that is none of the declared type makes the row a bad one: it is not rounded, cut or wrapped. Columns
//! of the key keep their types, since a row is known by them. Where the table is as declared there is no mapping at all.

use relation::row::RowWriter;
use relation::value::{civil_from_days, days_from_civil};
use relation::{DataType, Layout, Schema, TableChanges, Value};

use super::rows::{Decoded, Rejected, RowsKind};

/// From the columns of now to those that are declared.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    from: Layout,
    to: Schema,
    layout: Layout,
    /// Per declared column, the one of now.
    sources: Vec<Option<usize>>,
}

/// A value that is none of its declared type: the place of its column among the declared ones.
pub(super) struct Unfit(pub(super) usize);

pub(super) const UNFIT: &str = "It is no value of the declared type.";

impl Mapping {
    /// None where nothing has to be done. Errors: the key is another one, as a sentence.
    pub(super) fn new(from: &Schema, to: &Schema) -> Result<Option<Self>, String> {
        let place = |name: &String| from.columns.iter().position(|column| column.name == *name);
        let sources: Vec<Option<usize>> = to.columns.iter().map(|column| place(&column.name)).collect();
        let is_key = to.key.iter().map(|&at| sources[at]).eq(from.key.iter().map(|&at| Some(at)));
        let has_its_types =
            |&at: &usize| sources[at].is_some_and(|source| from.columns[source].data_type == to.columns[at].data_type);
        if !is_key || !to.key.iter().all(has_its_types) {
            return Err("Its key is another one than declared.".to_owned());
        }
        if from.types() == to.types() && sources.iter().enumerate().all(|(at, source)| *source == Some(at)) {
            return Ok(None);
        }
        let (from, layout) = (Layout::new(from.types()), Layout::new(to.types()));
        Ok(Some(Self { from, to: to.clone(), layout, sources }))
    }

    /// The columns of the rows that it writes.
    pub(super) fn schema(&self) -> &Schema {
        &self.to
    }

    /// Their layout.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes a row; after an error it must be abandoned.
    pub(super) fn write(&self, row: &[u8], out: &mut RowWriter<'_>) -> Result<(), Unfit> {
        (0..self.sources.len()).try_for_each(|at| self.write_column(at, row, out))
    }

    /// The same with NULL where a value does not fit.
    fn write_what_fits(&self, row: &[u8], out: &mut RowWriter<'_>) {
        for at in 0..self.sources.len() {
            if self.write_column(at, row, out).is_err() {
                out.null(at);
            }
        }
    }

    fn write_column(&self, at: usize, row: &[u8], out: &mut RowWriter<'_>) -> Result<(), Unfit> {
        let Some(source) = self.sources[at].filter(|&source| !self.from.is_null(row, source)) else {
            out.null(at);
            return Ok(());
        };
        let (from, to) = (self.from.types()[source], self.layout.types()[at]);
        match (from == to, to.is_variable()) {
            (true, true) => out.variable(at, self.from.bytes(row, source)),
            (true, false) => out.fixed(at, self.from.bytes(row, source)),
            (false, _) => {
                let value = cast(self.from.value(row, source), to).ok_or(Unfit(at))?;
                out.value(at, &value).map_err(|_| Unfit(at))?;
            }
        }
        Ok(())
    }

    /// Maps the changes of an event onto the end of others. Those that do not fit are rejected: a row before the change that
    /// does not fit was never taken, and the one after stays; a row that goes is told by its key, for an older one may be there.
    pub(super) fn changes(&self, kind: RowsKind, from: &TableChanges, decoded: &mut Decoded, out: &mut TableChanges) {
        let mut at = 0;
        while at < from.rows.len() {
            let is_pair = kind == RowsKind::Update && from.weights[at] < 0 && from.weights.get(at + 1) == Some(&1);
            let count = if is_pair { 2 } else { 1 };
            let start = out.rows.len();
            let unfit: Vec<Option<usize>> = (at..at + count).map(|i| self.push(from, i, out)).collect();
            if let Some(column) = unfit.iter().flatten().next() {
                let last = from.rows.get(at + count - 1);
                let mut key = Vec::new();
                if !self.to.key.is_empty() {
                    let of_source: Vec<usize> = self.to.key.iter().filter_map(|&key| self.sources[key]).collect();
                    relation::key::push_row(&mut key, &self.from, last, &of_source);
                }
                // Without a key nobody knows that the row before was never taken.
                let keeps_after = is_pair && unfit[1].is_none() && !key.is_empty();
                let after = keeps_after.then(|| out.rows.get(out.rows.len() - 1).to_vec());
                out.rows.truncate(start);
                out.weights.truncate(start);
                match after {
                    Some(after) => out.push(&after, 1),
                    None if kind == RowsKind::Delete && !key.is_empty() => {
                        self.write_what_fits(last, &mut out.rows.start_row(&self.layout));
                        out.rows.finish_row();
                        out.weights.push(-1);
                    }
                    None => decoded.changes = decoded.changes.saturating_sub(1),
                }
                let (column, reason) = (self.to.columns[*column].name.clone(), UNFIT.to_owned());
                decoded.rejected.push(Rejected { raw: last.to_vec(), key, column, reason });
            }
            at += count;
        }
    }

    /// Pushes a row; the place of the column that does not fit, if there is one.
    fn push(&self, from: &TableChanges, i: usize, out: &mut TableChanges) -> Option<usize> {
        let written = self.write(from.rows.get(i), &mut out.rows.start_row(&self.layout));
        match written {
            Ok(()) => {
                out.rows.finish_row();
                out.weights.push(from.weights[i]);
                None
            }
            Err(Unfit(column)) => {
                out.rows.abandon_row();
                Some(column)
            }
        }
    }
}

/// A value as one of another type: what it is written as has to be read as that type, without a loss.
fn cast(value: Value, to: DataType) -> Option<Value> {
    let text = match value {
        Value::Text(text) => text,
        Value::Bytes(_) => return None,
        other => other.to_string(),
    };
    match to {
        DataType::Text => Some(Value::Text(text)),
        DataType::Json => serde_json::from_str::<serde_json::Value>(&text).is_ok().then_some(Value::Text(text)),
        // Nothing but bytes is bytes.
        DataType::Bytes => None,
        DataType::Date => {
            let day = text.strip_suffix(" 00:00:00").unwrap_or(&text);
            is_of_calendar(day).then(|| Value::parse(to, day).ok()).flatten()
        }
        DataType::Time => is_of_clock(&text).then(|| Value::parse(to, &text).ok()).flatten(),
        DataType::Timestamp | DataType::TimestampTz => {
            let (day, clock) = text.split_once([' ', 'T']).unwrap_or((&text, "00:00:00"));
            let is_moment = is_of_calendar(day) && is_of_clock(clock);
            is_moment.then(|| Value::parse(to, &format!("{day} {clock}")).ok()).flatten()
        }
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 => {
            // A decimal without a fraction is a whole number.
            let whole = match text.split_once('.') {
                Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => whole,
                Some(_) => return None,
                None => &text,
            };
            Value::parse(to, whole).ok().filter(|value| !value.is_null())
        }
        // A whole number beyond the digits of a float would be another one.
        DataType::Float32 | DataType::Float64 if text.parse::<i128>().is_ok_and(|whole| !is_float(whole, to)) => None,
        _ => Value::parse(to, &text).ok().filter(|value| !value.is_null() && has_room(value, to)),
    }
}

/// Whether a float of a type is exactly this number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "it is seen whether something was lost"
)]
fn is_float(whole: i128, to: DataType) -> bool {
    match to {
        DataType::Float32 => whole as f32 as i128 == whole,
        _ => whole as f64 as i128 == whole,
    }
}

/// Whether a text is a day that a calendar has.
fn is_of_calendar(text: &str) -> bool {
    let mut parts = text.splitn(3, '-').map(str::parse::<u32>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let day_of = (i64::from(year), month, day);
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && civil_from_days(days_from_civil(day_of.0, day_of.1, day_of.2)) == day_of
}

/// Whether a text is a time of a day.
fn is_of_clock(text: &str) -> bool {
    let (clock, _) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.splitn(3, ':').map(str::parse::<u32>);
    let (hours, minutes) = (parts.next(), parts.next());
    let seconds = parts.next().unwrap_or(Ok(0));
    matches!((hours, minutes, seconds), (Some(Ok(0..=23)), Some(Ok(0..=59)), Ok(0..=59)))
}

/// Whether a number of a type's kind is one of the type: within its digits, and not rounded by it.
fn has_room(value: &Value, to: DataType) -> bool {
    match (value, to) {
        (Value::Decimal(unscaled, _), DataType::Decimal { precision, .. }) => {
            10_u128.checked_pow(u32::from(precision)).is_none_or(|limit| unscaled.unsigned_abs() < limit)
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is seen whether something was lost")]
        (Value::Float(number), DataType::Float32) => f64::from(*number as f32) == *number,
        _ => true,
    }
}
