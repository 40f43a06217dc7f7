//! `extract`, `date_part` and `numeric`: functions whose type depends on what they are given.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Builder, Float64Builder, ListArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

use super::arithmetic::{DIGITS_MAX, as_decimal};
use super::calendar::{DAY, INFINITY, MINUS_INFINITY, infinite};
use super::forms::decimals_of;
use super::times::{Part, field, field_scale};

/// Digits that a field of a time may have.
const FIELD_DIGITS: u8 = 20;
/// Digits behind the point of what says nothing of them: a float, or a text that stands in a column.
const UNKNOWN_SCALE: i8 = 10;

/// `extract(field from time)`, a numeric with as many digits behind the point as the field has.
pub(crate) fn extract() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Extract { name: "extract", signature }))
}

/// `date_part(field, time)`, the same as a float.
pub(crate) fn date_part() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Extract { name: "date_part", signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extract {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Extract {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [_, value] = arguments else { return plan_err!("{} takes a field and a time", self.name) };
        let value = match value {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            // A day has no part of a second.
            DataType::Date32 => DataType::Date32,
            DataType::Date64 | DataType::Null | DataType::Utf8 => DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
            DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            other => return plan_err!("function {}(text, {}) does not exist", self.name, super::types::name(other)),
        };
        Ok(vec![DataType::Utf8, value])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.name {
            "extract" => DataType::Decimal128(FIELD_DIGITS, 6),
            _ => DataType::Float64,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let is_day = args.arg_fields.get(1).is_some_and(|field| *field.data_type() == DataType::Date32);
        let scale = match args.scalar_arguments.first() {
            Some(Some(ScalarValue::Utf8(Some(field)))) if is_day && field.eq_ignore_ascii_case("epoch") => 0,
            Some(Some(ScalarValue::Utf8(Some(field)))) => field_scale(field),
            _ => 6,
        };
        let made = match self.name {
            "extract" => DataType::Decimal128(FIELD_DIGITS, scale),
            _ => DataType::Float64,
        };
        // A timestamp may be one of never.
        let never = |field: &FieldRef| matches!(field.data_type(), DataType::Timestamp(..) | DataType::Date32);
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable() || never(field));
        Ok(Arc::new(Field::new(self.name, made, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = |arrays: &[ArrayRef]| {
            let [names, values] = arrays else { return exec_err!("{} takes a field and a time", self.name) };
            // `date_part` of a day is that of its midnight.
            if self.name == "extract" || *values.data_type() != DataType::Date32 {
                are_fields(names, values.data_type())?;
            }
            parts(names, values, args.return_field.data_type(), values.len())
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

/// Fields of a calendar, and those of days and seconds that other types have, too.
const OF_CALENDAR: [&str; 9] =
    ["dow", "isodow", "doy", "week", "weeks", "isoyear", "julian", "timezone_hour", "timezone_minute"];
const OF_DAYS: [&str; 15] = [
    "year",
    "years",
    "month",
    "months",
    "mon",
    "quarter",
    "qtr",
    "decade",
    "decades",
    "century",
    "centuries",
    "millennium",
    "millennia",
    "day",
    "days",
];
const OF_SECONDS: [&str; 7] = ["hour", "hours", "minute", "minutes", "second", "seconds", "timezone"];

/// Errors: a field that PostgreSQL knows, and values of this type have not.
fn are_fields(names: &ArrayRef, of: &DataType) -> Result<()> {
    let is_lacking = |name: &str| {
        let calendar = OF_CALENDAR.contains(&name);
        let zone = name.starts_with("timezone");
        match of {
            DataType::Timestamp(_, None) => zone,
            DataType::Date32 => {
                zone || OF_SECONDS.contains(&name) || name.starts_with("millisecond") || name.starts_with("microsecond")
            }
            DataType::Time64(_) => zone || calendar || OF_DAYS.contains(&name),
            DataType::Interval(_) => zone || calendar,
            _ => false,
        }
    };
    match names.as_string::<i32>().iter().flatten().find(|name| is_lacking(&name.to_ascii_lowercase())) {
        Some(name) => exec_err!("unit \"{name}\" not supported for type {}", super::types::name(of)),
        None => Ok(()),
    }
}

/// The fields of times. A timestamp of never has none; its epoch is infinite too, where the type has room for that.
fn parts(names: &ArrayRef, values: &ArrayRef, wanted: &DataType, rows: usize) -> Result<ArrayRef> {
    let names = names.as_string::<i32>();
    let never = |row: usize| match values.data_type() {
        DataType::Date32 => {
            let day = i64::from(values.as_primitive::<Date32Type>().value(row));
            relation::unreal::is_day(day).then_some(MINUS_INFINITY)
        }
        DataType::Timestamp(..) => infinite(values.as_primitive::<TimestampMicrosecondType>().value(row)),
        _ => None,
    };
    let part = |row: usize| -> Result<Option<(i128, i8)>> {
        if names.is_null(row) || values.is_null(row) || never(row).is_some() {
            return Ok(None);
        }
        let part = match values.data_type() {
            DataType::Date32 => {
                let day = i64::from(values.as_primitive::<Date32Type>().value(row));
                let Some(midnight) = day.checked_mul(DAY) else { return exec_err!("date out of range") };
                Part::Timestamp(midnight)
            }
            DataType::Timestamp(..) => Part::Timestamp(values.as_primitive::<TimestampMicrosecondType>().value(row)),
            DataType::Time64(_) => Part::Time(values.as_primitive::<Time64MicrosecondType>().value(row)),
            DataType::Interval(_) => Part::Interval(values.as_primitive::<IntervalMonthDayNanoType>().value(row)),
            other => return exec_err!("{} has no fields", super::types::name(other)),
        };
        Ok(Some((field(names.value(row), &part)?, field_scale(names.value(row)))))
    };
    if let DataType::Decimal128(precision, scale) = wanted {
        let mut out = Decimal128Builder::with_capacity(rows);
        for row in 0..rows {
            let digits = part(row)?.map(|(digits, own)| super::arithmetic::rescaled(digits, own, *scale));
            match digits {
                None => out.append_null(),
                Some(Some(digits)) => out.append_value(digits),
                Some(None) => return exec_err!("a field of a time is out of range"),
            }
        }
        return Ok(Arc::new(out.finish().with_precision_and_scale(*precision, *scale)?));
    }
    let mut out = Float64Builder::with_capacity(rows);
    for row in 0..rows {
        #[expect(clippy::cast_precision_loss, reason = "date_part gives a float")]
        let value = part(row)?.map(|(digits, scale)| digits as f64 / 10_f64.powi(i32::from(scale)));
        let has_epoch = names.is_valid(row) && values.is_valid(row) && names.value(row).eq_ignore_ascii_case("epoch");
        let value = match never(row).filter(|_| has_epoch) {
            Some(INFINITY) => Some(f64::INFINITY),
            Some(_) => Some(f64::NEG_INFINITY),
            None => value,
        };
        out.append_option(value);
    }
    Ok(Arc::new(out.finish()))
}

/// `numeric(value)`: a number as a decimal of its own digits, and an array of numbers as one of such.
pub(crate) fn numeric() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Numeric { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Numeric {
    signature: Signature,
}

impl ScalarUDFImpl for Numeric {
    fn name(&self) -> &str {
        "numeric"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [DataType::Null] => Ok(vec![DataType::Decimal128(DIGITS_MAX, 0)]),
            [value] if value.is_numeric() || *value == DataType::Utf8 => Ok(vec![value.clone()]),
            [DataType::List(item)] => {
                let element = self.coerce_types(std::slice::from_ref(item.data_type()))?;
                Ok(element.into_iter().map(|element| DataType::new_list(element, true)).collect())
            }
            [other] => plan_err!("cannot cast type {} to numeric", super::types::name(other)),
            _ => plan_err!("numeric takes one value"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [DataType::Decimal256(precision, scale)] => DataType::Decimal256(*precision, *scale),
            [DataType::List(item)] => {
                DataType::new_list(self.return_type(std::slice::from_ref(item.data_type()))?, true)
            }
            [value] => as_decimal(value).unwrap_or(DataType::Decimal128(DIGITS_MAX, UNKNOWN_SCALE)),
            _ => return plan_err!("numeric takes one value"),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let wanted = args.return_field.data_type();
        let made = |arrays: &[ArrayRef]| match arrays {
            [array] => as_numeric(array, wanted),
            _ => exec_err!("numeric takes one value"),
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn as_numeric(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    if let (Some(lists), DataType::List(item)) = (array.as_list_opt::<i32>(), wanted) {
        let elements = as_numeric(lists.values(), item.data_type())?;
        let made = ListArray::try_new(Arc::clone(item), lists.offsets().clone(), elements, lists.nulls().cloned())?;
        return Ok(Arc::new(made));
    }
    match array.as_string_opt::<i32>() {
        Some(texts) => decimals_of(texts, wanted),
        None => cast_with_options(array, wanted, &CastOptions { safe: false, ..CastOptions::default() })
            .or_else(|_| exec_err!("numeric field overflow: a number is out of range")),
    }
}
