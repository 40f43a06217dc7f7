//! Which casts there are: PostgreSQL's `pg_cast`, as far as both types are known here.
//!
//! Every type becomes a text and a text becomes every type, by what is written and read. Beyond that there is a cast where the table
//! says so, and between arrays where there is one between their elements. DataFusion casts more (`1::date` is a day after 1970), which hid
//! mistakes. One cast is MySQL's: a `tinyint(1)` is a flag where it is asked to be.

use arrow::datatypes::{DataType, Field};
use datafusion_common::{DFSchema, Result, plan_err};
use datafusion_expr::expr::Cast;
use datafusion_expr::{Expr, ExprSchemable};

use super::forms::is_text;
use super::quantified::element_of;
use super::types;

/// Types as far as casts tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    SmallInt,
    Integer,
    BigInt,
    Numeric,
    Float,
    Text,
    Json,
    Jsonb,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    /// What is a text alone: records, uuids.
    Written,
}

/// Per kind, what it is cast to beside itself and texts.
const CASTS: [(Kind, &[Kind]); 13] = {
    use Kind::{
        BigInt, Date, Flag, Float, Integer, Interval, Json, Jsonb, Numeric, SmallInt, Time, Timestamp, TimestampTz,
    };
    [
        (Flag, &[Integer]),
        // To a flag as a courtesy: MySQL's flags are of this type, `tinyint(1)`.
        (SmallInt, &[Flag, Integer, BigInt, Numeric, Float]),
        (Integer, &[Flag, SmallInt, BigInt, Numeric, Float]),
        (BigInt, &[SmallInt, Integer, Numeric, Float]),
        (Numeric, &[SmallInt, Integer, BigInt, Float]),
        (Float, &[SmallInt, Integer, BigInt, Numeric]),
        (Json, &[Jsonb]),
        (Jsonb, &[Json, Flag, SmallInt, Integer, BigInt, Numeric, Float]),
        (Date, &[Timestamp, TimestampTz]),
        (Time, &[Interval]),
        (Timestamp, &[Date, Time, TimestampTz]),
        (TimestampTz, &[Date, Time, Timestamp]),
        (Interval, &[Time]),
    ]
};

impl Kind {
    /// None of arrays, of what is unknown, and of what PostgreSQL has not.
    fn of(field: &Field) -> Option<Self> {
        Some(match field.data_type() {
            DataType::Boolean => Self::Flag,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => match types::own_name(field) {
                // Oids and their like.
                Some(_) => return None,
                None => Self::Integer,
            },
            DataType::Int64 | DataType::UInt32 => Self::BigInt,
            DataType::UInt64 => Self::Numeric,
            decimal if decimal.is_decimal() => Self::Numeric,
            float if float.is_floating() => Self::Float,
            text if is_text(text) => match types::own_name(field) {
                Some(types::JSON) => Self::Json,
                Some(types::JSONB) => Self::Jsonb,
                Some(types::RECORD | types::UUID) => Self::Written,
                _ => Self::Text,
            },
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Self::Bytes,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            _ => return None,
        })
    }

    fn is_cast_to(self, other: Self) -> bool {
        let listed = || CASTS.iter().any(|(from, to)| *from == self && to.contains(&other));
        self == other || self == Self::Text || other == Self::Text || listed()
    }
}

/// Errors: there is no such cast.
pub(crate) fn castable(cast: &Cast, schema: &DFSchema) -> Result<()> {
    // A value of no type yet is of the one that is asked for.
    if matches!(cast.expr.as_ref(), Expr::Placeholder(_)) {
        return Ok(());
    }
    let Ok((_, from)) = cast.expr.to_field(schema) else { return Ok(()) };
    let from = match is_plain_text(&cast.expr) {
        true => Field::new("", DataType::Utf8, true),
        false => from.as_ref().clone(),
    };
    match is_cast(&from, &cast.field) {
        true => Ok(()),
        false => plan_err!("cannot cast type {} to {}", name(&from), name(&cast.field)),
    }
}

/// What is written instead of a cast that there is none of, as [`castable`] tells it; none of other texts.
pub(crate) fn instead_of_cast(told: &str) -> Option<&'static str> {
    let (from, to) = told.strip_prefix("cannot cast type ")?.split_once(" to ")?;
    let is_number = matches!(from, "smallint" | "integer" | "bigint" | "numeric" | "real" | "double precision");
    let is_moment = to == "date" || to.starts_with("timestamp");
    match (from, to) {
        (_, "boolean") if is_number => Some("Compare it: x <> 0."),
        ("boolean", _) => Some("Cast it to integer first: x::integer."),
        ("json", _) => Some("Take its text first: x #>> '{}', or x ->> 'name'."),
        _ if is_number && is_moment => Some("Seconds since 1970 are a moment by to_timestamp(x)."),
        _ if is_number && to == "interval" => Some("Multiply: x * interval '1 second'."),
        _ => None,
    }
}

/// Whether a value was made a text: its field still says which it was.
pub(crate) fn is_plain_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast(cast) if is_text(cast.field.data_type()) && types::own_name(&cast.field).is_none())
}

fn is_cast(from: &Field, to: &Field) -> bool {
    let is_array = |field: &Field| element_of(field.data_type()).is_some();
    match (is_array(from), is_array(to)) {
        (true, true) => match (element_of(from.data_type()), element_of(to.data_type())) {
            (Some(from), Some(to)) => is_cast(&Field::new("", from.clone(), true), &Field::new("", to.clone(), true)),
            _ => true,
        },
        // An array is written and read as a text; a value alone is no array.
        (true, false) => Kind::of(to).is_none_or(|to| to == Kind::Text),
        (false, true) => Kind::of(from).is_none_or(|from| from == Kind::Text),
        (false, false) => match (Kind::of(from), Kind::of(to)) {
            (Some(from), Some(to)) => from.is_cast_to(to),
            _ => true,
        },
    }
}

/// The name of a type that people are told.
fn name(field: &Field) -> String {
    match types::own_name(field) {
        Some(own @ (types::JSON | types::JSONB | types::RECORD | types::UUID)) => own.to_owned(),
        _ => types::name(field.data_type()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> Field {
        let (named, data_type) = match name {
            "boolean" => (None, DataType::Boolean),
            "smallint" => (None, DataType::Int16),
            "integer" => (None, DataType::Int32),
            "bigint" => (None, DataType::Int64),
            "numeric" => (None, DataType::Decimal128(10, 2)),
            "real" => (None, DataType::Float32),
            "text" => (None, DataType::Utf8),
            "json" => (Some(types::JSON), DataType::Utf8),
            "jsonb" => (Some(types::JSONB), DataType::Utf8),
            "bytea" => (None, DataType::Binary),
            "date" => (None, DataType::Date32),
            "time" => (None, DataType::Time64(arrow::datatypes::TimeUnit::Microsecond)),
            "timestamp" => (None, DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None)),
            "interval" => (None, DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano)),
            "integer[]" => (None, DataType::new_list(DataType::Int32, true)),
            "numeric[]" => (None, DataType::new_list(DataType::Decimal128(10, 2), true)),
            "date[]" => (None, DataType::new_list(DataType::Date32, true)),
            other => panic!("no type {other}"),
        };
        let field = Field::new("", data_type, true);
        named.map_or(field.clone(), |named| types::named(field, named))
    }

    #[test]
    fn casts_are_those_that_postgresql_has() {
        let is = |from: &str, to: &str| is_cast(&field(from), &field(to));
        let there = [
            ("integer", "boolean"),
            ("smallint", "boolean"),
            ("boolean", "integer"),
            ("smallint", "numeric"),
            ("real", "integer"),
            ("date", "timestamp"),
            ("timestamp", "time"),
            ("time", "interval"),
            ("interval", "time"),
            ("jsonb", "numeric"),
            ("json", "jsonb"),
            ("integer[]", "numeric[]"),
            ("integer[]", "text"),
            ("text", "date[]"),
            ("bytea", "text"),
            ("text", "json"),
        ];
        for (from, to) in there {
            assert!(is(from, to), "{from} to {to}");
        }
        let missing = [
            ("integer", "date"),
            ("date", "integer"),
            ("bigint", "boolean"),
            ("boolean", "numeric"),
            ("numeric", "boolean"),
            ("date", "time"),
            ("time", "timestamp"),
            ("interval", "timestamp"),
            ("timestamp", "interval"),
            ("integer", "interval"),
            ("json", "integer"),
            ("integer", "jsonb"),
            ("jsonb", "date"),
            ("integer", "bytea"),
            ("integer", "integer[]"),
            ("integer[]", "integer"),
            ("integer[]", "date[]"),
            ("integer[]", "json"),
        ];
        for (from, to) in missing {
            assert!(!is(from, to), "{from} to {to}");
        }
    }
}
