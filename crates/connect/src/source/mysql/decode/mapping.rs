//! Rows of a table as it is, as rows of the table as it was declared (`on_change: map`).
//!
//! The law: a declared column has the value of the column of its name, in whatever case of letters, as its declared type; NULL where the table has no such
//! column any more. A value that is none of the declared type makes the row a bad one: it is not rounded, cut or wrapped. Columns
//! of the key keep their types, since a row is known by them. Where the table is as declared there is no mapping at all.

use relation::key::hash128;
use relation::row::RowWriter;
use relation::value::{civil_from_days, days_from_civil};
use relation::{DataType, Entry, Layout, Schema, TableChanges, Unread, Value};

use super::rows::BadValue;
use crate::source::is_same_column;

/// From the columns of now to those that are declared.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    from: Layout,
    /// Names of the columns of now.
    names: Vec<String>,
    to: Schema,
    layout: Layout,
    /// Per declared column, the one of now.
    sources: Vec<Option<usize>>,
}

/// A value that is none of its declared type: the place of its column among the declared ones.
struct Unfit(usize);

const UNFIT: &str = "It is no value of the declared type.";
/// Bytes of a rejected row that are shown.
const SHOWN_BYTES_MAX: usize = 1 << 10;

impl Mapping {
    /// None where nothing has to be done. Errors: the key is another one, as a sentence.
    pub(super) fn new(from: &Schema, to: &Schema) -> Result<Option<Self>, String> {
        let place = |name: &String| from.columns.iter().position(|column| is_same_column(&column.name, name));
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
        let names = from.columns.iter().map(|column| column.name.clone()).collect();
        let (from, layout) = (Layout::new(from.types()), Layout::new(to.types()));
        Ok(Some(Self { from, names, to: to.clone(), layout, sources }))
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
    pub(super) fn write(&self, row: &[u8], out: &mut RowWriter<'_>) -> Result<(), BadValue> {
        self.write_columns(row, out).map_err(|Unfit(at)| BadValue { image: hash128(row), ..self.fault(at, row) })
    }

    fn write_columns(&self, row: &[u8], out: &mut RowWriter<'_>) -> Result<(), Unfit> {
        (0..self.sources.len()).try_for_each(|at| self.write_column(at, row, out))
    }

    /// What is said of a declared column of a row of now that has no value of its type.
    #[cold]
    fn fault(&self, at: usize, row: &[u8]) -> BadValue {
        let value = match self.sources[at].map(|source| self.from.value(row, source)) {
            None => String::new(),
            Some(Value::Text(text)) => BadValue::shown_text(&text),
            Some(Value::Bytes(bytes)) => BadValue::shown_bytes(&bytes),
            Some(other) => other.to_string(),
        };
        let column = &self.to.columns[at];
        BadValue { column: column.name.clone(), data_type: column.data_type, value, reason: UNFIT, image: [0; 16] }
    }

    /// A row of now as JSON, cut where it is long.
    #[cold]
    fn shown(&self, row: &[u8]) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let cell = |value: &Value| match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::UInt(_) => value.to_string(),
            other => quoted(&other.to_string()),
        };
        let values = self.from.values(row);
        let cells: Vec<String> =
            self.names.iter().zip(&values).map(|(name, value)| format!("{}:{}", quoted(name), cell(value))).collect();
        let mut text = format!("{{{}}}", cells.join(","));
        if text.len() > SHOWN_BYTES_MAX {
            text.truncate(text.floor_char_boundary(SHOWN_BYTES_MAX));
            text.push('…');
        }
        text
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
                let value = cast(self.from.value(row, source), from, to).ok_or(Unfit(at))?;
                out.value(at, &value).map_err(|_| Unfit(at))?;
            }
        }
        Ok(())
    }

    /// Maps the changes of an event onto the end of others. A row that does not fit cannot be read; it is known by its key, or
    /// by its bytes as they are now.
    pub(super) fn changes(&self, from: &TableChanges, out: &mut TableChanges) {
        for entry in from.entries() {
            let Entry::Row(row, weight) = entry else {
                out.push_entry(entry);
                continue;
            };
            match self.write_columns(row, &mut out.rows.start_row(&self.layout)) {
                Ok(()) => {
                    out.rows.finish_row();
                    out.weights.push(weight);
                }
                Err(Unfit(column)) => {
                    out.rows.abandon_row();
                    out.push_unread(&self.unread(column, row, weight), weight);
                }
            }
        }
    }

    #[cold]
    fn unread(&self, column: usize, row: &[u8], weight: i8) -> Unread {
        let mut key = Vec::new();
        if !self.to.key.is_empty() {
            let of_source: Vec<usize> = self.to.key.iter().filter_map(|&key| self.sources[key]).collect();
            relation::key::push_row(&mut key, &self.from, row, &of_source);
        }
        let (shown, reason) = match weight {
            // Nobody is shown what goes.
            ..0 => Default::default(),
            _ => (self.shown(row), self.fault(column, row).to_string()),
        };
        Unread { key, image: hash128(row), row: shown, reason, ..Unread::default() }
    }
}

/// A value as one of another type: what it is written as has to be read as that type, without a loss.
fn cast(value: Value, from: DataType, to: DataType) -> Option<Value> {
    let text = match (value, to) {
        (Value::Bytes(_), _) => return None,
        (Value::Float(number), DataType::Float32 | DataType::Float64) => {
            return is_float(number, to).then_some(Value::Float(number));
        }
        // As short as it is told from other floats, which is how the server writes it.
        #[expect(clippy::cast_possible_truncation, reason = "it was made from a float: nothing is lost")]
        (Value::Float(number), _) if from == DataType::Float32 => (number as f32).to_string(),
        (Value::Text(text), _) => text,
        (other, _) => other.to_string(),
    };
    match to {
        DataType::Text => Some(Value::Text(text)),
        DataType::Json => serde_json::from_str::<serde_json::Value>(&text).is_ok().then_some(Value::Text(text)),
        // Nothing but bytes is bytes, and no source has the others.
        DataType::Bytes | DataType::Interval | DataType::Array(_) => None,
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
        DataType::Float32 | DataType::Float64 => float(&text, to),
        DataType::Bool | DataType::Decimal { .. } => {
            Value::parse(to, &text).ok().filter(|value| !value.is_null() && has_room(value, to))
        }
    }
}

/// The float of a type whose digits are those of a text. What it could not be told from another number by would be lost.
fn float(text: &str, to: DataType) -> Option<Value> {
    let (number, shown) = match to {
        DataType::Float32 => text.parse::<f32>().map(|number| (f64::from(number), number.to_string())).ok()?,
        _ => text.parse::<f64>().map(|number| (number, number.to_string())).ok()?,
    };
    (number.is_finite() && digits(text)? == digits(&shown)?).then_some(Value::Float(number))
}

/// The digits of a number, from the first to the last that is not 0, with its sign and the power of ten of the last; none
/// where the text is no number.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let kept = all.trim_end_matches('0');
    let power = power
        .checked_sub(i64::try_from(fraction.len()).ok()?)?
        .checked_add(i64::try_from(all.len() - kept.len()).ok()?)?;
    let significant = kept.trim_start_matches('0').to_owned();
    Some(if significant.is_empty() { (false, significant, 0) } else { (is_negative, significant, power) })
}

/// Whether a number is exactly one of a float type.
#[expect(clippy::cast_possible_truncation, reason = "it is seen whether something was lost")]
fn is_float(number: f64, to: DataType) -> bool {
    to == DataType::Float64 || f64::from(number as f32) == number
}

/// Whether a text is a day that a calendar has. Years have four digits: which century is meant by fewer, the text does not say.
fn is_of_calendar(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let year = parts.next().filter(|year| year.len() == 4).and_then(whole);
    let mut two = || parts.next().and_then(whole);
    let (Some(year), Some(month), Some(day)) = (year, two(), two()) else { return false };
    let day_of = (i64::from(year), month, day);
    (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && civil_from_days(days_from_civil(day_of.0, day_of.1, day_of.2)) == day_of
}

/// Whether a text is a time of a day, with six digits behind the point at most.
fn is_of_clock(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.splitn(3, ':').map(whole);
    let (hours, minutes) = (parts.next().flatten(), parts.next().flatten());
    let seconds = parts.next().unwrap_or(Some(0));
    matches!((hours, minutes, seconds), (Some(0..=23), Some(0..=59), Some(0..=59)))
        && fraction.len() <= 6
        && whole(fraction).is_some()
}

/// A number of digits alone: a sign has no place within a date or a time.
fn whole(text: &str) -> Option<u32> {
    if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Whether a decimal is one of a type: within its digits.
fn has_room(value: &Value, to: DataType) -> bool {
    let DataType::Decimal { precision, .. } = to else { return true };
    let digits = match value {
        Value::Decimal(unscaled, _) => unscaled.unsigned_abs().to_string(),
        Value::BigDecimal(unscaled, _) => unscaled.to_arrow().to_string(),
        _ => return true,
    };
    digits.trim_start_matches('-').len() <= usize::from(precision)
}
