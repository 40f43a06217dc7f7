//! `to_char` as PostgreSQL writes times ([`time`]) and numbers ([`number`]): by its templates, not by those of `strftime`.
//!
//! A template is read once per batch where it is a literal. What of PostgreSQL's templates is not written here is refused by
//! name, never passed on as text.

pub(crate) mod number;
mod time;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion_functions::utils::make_scalar_function;

use crate::sql_type;

/// The name under which SQL knows the function.
pub(crate) const NAME: &str = "to_char";

/// The function.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(ToChar { signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    signature: Signature,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = arguments else { return plan_err!("to_char takes a value and a template") };
        let value = match value {
            DataType::Null | DataType::Date32 | DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            DataType::Interval(_) | DataType::Duration(_) => DataType::Interval(IntervalUnit::MonthDayNano),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
            DataType::Decimal128(digits, scale) => DataType::Decimal128(*digits, *scale),
            whole if whole.is_integer() => DataType::Decimal128(20, 0),
            other => return plan_err!("to_char of {} is not supported: take a time or a number", sql_type(other)),
        };
        Ok(vec![value, DataType::Utf8])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literal = match args.args.get(1) {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(template))) => Some(template.clone()),
            _ => None,
        };
        let made = |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [values, templates] = arrays else { return exec_err!("to_char takes a value and a template") };
            Ok(Arc::new(match &literal {
                Some(None) => StringArray::new_null(values.len()),
                Some(Some(template)) => {
                    let writer = Writer::of(values.data_type(), template)?;
                    written(values, |_| Ok(Some(&writer)))?
                }
                None => each(values, templates.as_string::<i32>())?,
            }))
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

/// A template that was read.
enum Writer {
    Time(Vec<time::Part>),
    Number(number::Template),
}

impl Writer {
    fn of(data_type: &DataType, template: &str) -> Result<Self> {
        match data_type {
            DataType::Timestamp(..) => Ok(Self::Time(time::parts(template)?)),
            DataType::Interval(_) => Ok(Self::Time(time::parts_of_interval(template)?)),
            _ => Ok(Self::Number(number::Template::of(template)?)),
        }
    }
}

fn each(values: &ArrayRef, templates: &StringArray) -> Result<StringArray> {
    let writers = templates.iter().map(|t| t.map(|t| Writer::of(values.data_type(), t)).transpose());
    let writers = writers.collect::<Result<Vec<_>>>()?;
    written(values, |row| Ok(writers.get(row).and_then(Option::as_ref)))
}

fn written<'w>(values: &ArrayRef, writer: impl Fn(usize) -> Result<Option<&'w Writer>>) -> Result<StringArray> {
    let mut out = StringBuilder::new();
    let mut text = String::new();
    for row in 0..values.len() {
        let Some(writer) = writer(row)?.filter(|_| values.is_valid(row)) else {
            out.append_null();
            continue;
        };
        text.clear();
        match (writer, values.data_type()) {
            (Writer::Time(parts), DataType::Timestamp(_, zone)) => {
                let us = values.as_primitive::<TimestampMicrosecondType>().value(row);
                time::write(parts, us, zone.is_some(), &mut text);
            }
            (Writer::Time(parts), DataType::Interval(IntervalUnit::MonthDayNano)) => {
                let value = values.as_primitive::<IntervalMonthDayNanoType>().value(row);
                time::write_interval(parts, value, &mut text);
            }
            (Writer::Number(template), DataType::Decimal128(_, scale)) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                template.write(number::Digits::of_decimal(value, *scale, template.places()), &mut text);
            }
            (Writer::Number(template), DataType::Float64) => {
                let value = values.as_primitive::<Float64Type>().value(row);
                template.write(number::Digits::of_float(value, template.places())?, &mut text);
            }
            (_, other) => return exec_err!("to_char of {} is not supported", sql_type(other)),
        }
        out.append_value(&text);
    }
    Ok(out.finish())
}
