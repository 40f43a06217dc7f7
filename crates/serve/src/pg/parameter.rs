//! Values that a client sends, in text or binary, as Arrow values of one element.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BinaryArray, BooleanArray, Date32Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use bytes::Buf;
use pgwire::api::Type;
use relation::schema::TYPE_NAME;

use super::frame::utf8;
use super::session::Parameter;
use crate::reader::{Param, SqlError};
use crate::value::{calendar, cast, numeric};

/// Most elements of an array; a false count fails before it costs memory.
const ELEMENTS_MAX: usize = 1 << 20;
/// Elements that are put together at once. Until then each is an array of its own, which takes many times its value.
const ELEMENTS_AT_ONCE: usize = 1 << 10;

/// The value of a parameter.
///
/// It keeps the type that the client declared: a cast to what the reader expects could change it. Only where the
/// client left the type to us, or declared text, it becomes what is expected.
pub(super) fn decode(parameter: &Parameter, binary: bool, bytes: Option<&[u8]>) -> Result<Param, SqlError> {
    let texty = natural(&parameter.wire) == DataType::Utf8;
    let expected = parameter.expected.as_ref().filter(|_| !parameter.declared || texty);
    let array = match bytes {
        None => {
            let natural = natural(&parameter.wire);
            return Ok(Param(new_null_array(expected.map_or(&natural, |expected| expected.data_type()), 1)));
        }
        Some(bytes) if binary => from_binary(&parameter.wire, bytes)?,
        Some(bytes) => {
            // Text is read as what is expected, also where the client called it text.
            let wire = match expected {
                Some(expected) if texty => super::types::column(expected).0,
                _ => parameter.wire.clone(),
            };
            from_text(&wire, &utf8(bytes)?)?
        }
    };
    match expected {
        Some(expected) if !takes_all_digits(expected) => to_type(array, expected.data_type()),
        _ => Ok(Param(array)),
    }
}

/// A value that the reader computed, as the parameter's own type.
pub(super) fn converted(parameter: &Parameter, value: Param) -> Result<Param, SqlError> {
    let keeps = match &parameter.expected {
        Some(expected) if !parameter.declared => takes_all_digits(expected),
        _ => parameter.wire == Type::NUMERIC,
    };
    if keeps {
        return match value.0.as_string_opt::<i32>().filter(|text| text.is_valid(0)) {
            Some(text) => Ok(Param(numeric::from_text(text.value(0))?)),
            None => Ok(value),
        };
    }
    let natural = natural(&parameter.wire);
    to_type(value.0, parameter.expected.as_ref().map_or(&natural, |expected| expected.data_type()))
}

fn to_type(array: ArrayRef, wanted: &DataType) -> Result<Param, SqlError> {
    Ok(Param(if array.data_type() == wanted { array } else { cast(&array, wanted)? }))
}

/// Whether what is expected is a numeric without a scale: each value has its own digits there.
pub(super) fn takes_all_digits(expected: &Field) -> bool {
    expected.metadata().get(TYPE_NAME).is_some_and(|name| name == "numeric")
}

/// A parameter whose type the client left to us: as the reader expects it, else `fallback`.
pub(super) fn left_open(expected: Option<&FieldRef>, fallback: Type) -> Parameter {
    let expected = expected.filter(|expected| *expected.data_type() != DataType::Null).cloned();
    let wire = expected.as_ref().map_or(fallback, |expected| super::types::column(expected).0);
    Parameter { wire, declared: false, expected }
}

/// A value whose type nobody declared: what is expected, else `fallback`.
pub(crate) fn undeclared(fallback: Type, expected: Option<&FieldRef>, text: Option<&str>) -> Result<Param, SqlError> {
    decode(&left_open(expected, fallback), false, text.map(str::as_bytes))
}

/// What the reader is told of a type that the client declared. Text is not: many drivers declare it for everything.
pub(super) fn hint(wire: &Type) -> Option<DataType> {
    Some(natural(wire)).filter(|natural| *natural != DataType::Utf8)
}

/// The Arrow type of a Postgres type's values; numerics bring their own scale, this one is for their NULLs.
fn natural(wire: &Type) -> DataType {
    match *wire {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => DataType::Decimal128(38, 10),
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        ref other => match element(other) {
            Some(element) => DataType::new_list(natural(&element), true),
            None => DataType::Utf8,
        },
    }
}

fn from_text(wire: &Type, text: &str) -> Result<ArrayRef, SqlError> {
    let wrong = || SqlError::new("22P02", format!("invalid input syntax for type {}: \"{text}\"", wire.name()));
    if let Some(element) = element(wire) {
        let items =
            array_items(text).ok_or_else(|| SqlError::new("22P02", format!("malformed array literal: \"{text}\"")))?;
        let values = items.iter().map(|item| item.as_ref().map(|item| from_text(&element, item)).transpose());
        return list(&element, values);
    }
    let trimmed = text.trim();
    Ok(match *wire {
        Type::BOOL => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Arc::new(BooleanArray::from(vec![true])),
            "f" | "false" | "n" | "no" | "off" | "0" => Arc::new(BooleanArray::from(vec![false])),
            _ => return Err(wrong()),
        },
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => {
            let value: i64 = trimmed.parse().map_err(|_| wrong())?;
            cast(&(Arc::new(Int64Array::from(vec![value])) as ArrayRef), &natural(wire))?
        }
        Type::FLOAT4 => Arc::new(Float32Array::from(vec![trimmed.parse::<f32>().map_err(|_| wrong())?])),
        Type::FLOAT8 => Arc::new(Float64Array::from(vec![trimmed.parse::<f64>().map_err(|_| wrong())?])),
        Type::NUMERIC => numeric::from_text(text)?,
        Type::BYTEA => Arc::new(BinaryArray::from(vec![bytea(text).ok_or_else(wrong)?.as_slice()])),
        _ => {
            let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
            match natural(wire) {
                DataType::Utf8 => array,
                temporal => cast(&array, &temporal).map_err(|_| SqlError { code: "22007", ..wrong() })?,
            }
        }
    })
}

/// `\x0aff`, or bytes as they are.
fn bytea(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else { return Some(text.as_bytes().to_vec()) };
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Elements of `{1,NULL,"a b"}`, of one dimension.
fn array_items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut items = Vec::new();
    let mut chars = inner.chars();
    let mut more = !inner.trim().is_empty();
    while more {
        let item;
        (item, more) = array_item(&mut chars)?;
        items.push(item);
        if items.len() > ELEMENTS_MAX {
            return None;
        }
    }
    Some(items)
}

/// The next element, and whether another follows.
fn array_item(chars: &mut std::str::Chars<'_>) -> Option<(Option<String>, bool)> {
    let (mut item, mut quoted, mut inside) = (String::new(), false, false);
    let more = loop {
        match chars.next() {
            Some('\\') => item.push(chars.next()?),
            Some('"') => {
                // Blanks around quotes are not of the element.
                if !quoted {
                    item.clear();
                }
                (quoted, inside) = (true, !inside);
            }
            Some(',') if !inside => break true,
            Some('{' | '}') if !inside => return None,
            None if inside => return None,
            None => break false,
            Some(c) if quoted && !inside && c.is_whitespace() => {}
            Some(c) => item.push(c),
        }
    };
    if quoted {
        return Some((Some(item), more));
    }
    let plain = item.trim();
    Some(((!plain.eq_ignore_ascii_case("null")).then(|| plain.to_owned()), more))
}

fn from_binary(wire: &Type, bytes: &[u8]) -> Result<ArrayRef, SqlError> {
    let wrong = || SqlError::new("22P03", format!("incorrect binary data format for type {}", wire.name()));
    if let Some(element) = element(wire) {
        return array_from_binary(&element, bytes, wrong);
    }
    let mut rest = bytes;
    let array: ArrayRef = match *wire {
        Type::NUMERIC => return numeric::from_binary(bytes),
        Type::BYTEA => return Ok(Arc::new(BinaryArray::from(vec![bytes]))),
        Type::BOOL => Arc::new(BooleanArray::from(vec![rest.try_get_u8().map_err(|_| wrong())? != 0])),
        Type::INT2 => Arc::new(Int16Array::from(vec![rest.try_get_i16().map_err(|_| wrong())?])),
        Type::INT4 => Arc::new(Int32Array::from(vec![rest.try_get_i32().map_err(|_| wrong())?])),
        Type::INT8 => Arc::new(Int64Array::from(vec![rest.try_get_i64().map_err(|_| wrong())?])),
        Type::OID => Arc::new(Int64Array::from(vec![i64::from(rest.try_get_u32().map_err(|_| wrong())?)])),
        Type::FLOAT4 => Arc::new(Float32Array::from(vec![rest.try_get_f32().map_err(|_| wrong())?])),
        Type::FLOAT8 => Arc::new(Float64Array::from(vec![rest.try_get_f64().map_err(|_| wrong())?])),
        Type::DATE => {
            let days = rest.try_get_i32().ok().and_then(calendar::date_from_binary).ok_or_else(wrong)?;
            Arc::new(Date32Array::from(vec![days]))
        }
        Type::TIME => Arc::new(Time64MicrosecondArray::from(vec![rest.try_get_i64().map_err(|_| wrong())?])),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let us = rest.try_get_i64().ok().and_then(calendar::timestamp_from_binary).ok_or_else(wrong)?;
            let array = TimestampMicrosecondArray::from(vec![us]);
            let zone = (*wire == Type::TIMESTAMPTZ).then(|| Arc::from("UTC"));
            Arc::new(array.with_timezone_opt::<Arc<str>>(zone))
        }
        Type::INTERVAL => interval(&mut rest).ok_or_else(wrong)?,
        Type::UUID => return Ok(Arc::new(StringArray::from(vec![uuid(bytes).ok_or_else(wrong)?]))),
        // A version byte precedes the text.
        Type::JSONB => {
            return Ok(Arc::new(StringArray::from(vec![utf8(bytes.get(1..).unwrap_or_default())?])));
        }
        _ => return Ok(Arc::new(StringArray::from(vec![utf8(bytes)?]))),
    };
    if rest.is_empty() { Ok(array) } else { Err(wrong()) }
}

fn interval(rest: &mut &[u8]) -> Option<ArrayRef> {
    let us = rest.try_get_i64().ok()?;
    let days = rest.try_get_i32().ok()?;
    let months = rest.try_get_i32().ok()?;
    let value = IntervalMonthDayNano::new(months, days, us.checked_mul(1_000)?);
    Some(Arc::new(IntervalMonthDayNanoArray::from(vec![value])))
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let value = u128::from_be_bytes(bytes.try_into().ok()?);
    let hex = format!("{value:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default();
    Some(format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)))
}

/// Errors: the bytes are no array of one dimension.
fn array_from_binary(element: &Type, mut bytes: &[u8], wrong: impl Fn() -> SqlError) -> Result<ArrayRef, SqlError> {
    let head = array_head(&mut bytes).filter(|head| head.dimensions <= 1 && head.count <= ELEMENTS_MAX);
    let head = head.ok_or_else(&wrong)?;
    let sent = Type::from_oid(head.element).unwrap_or_else(|| element.clone());
    // An element that is an array itself would nest as deep as the message is long; PostgreSQL knows none.
    if self::element(&sent).is_some() {
        return Err(wrong());
    }
    let values = (0..head.count).map(|_| {
        let len = bytes.try_get_i32().map_err(|_| wrong())?;
        if len == -1 {
            return Ok(None);
        }
        let split = usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len));
        let (value, rest) = split.ok_or_else(&wrong)?;
        bytes = rest;
        from_binary(&sent, value).map(Some)
    });
    list(&sent, values)
}

/// What an array in binary begins with.
struct ArrayHead {
    dimensions: i32,
    element: u32,
    count: usize,
}

fn array_head(bytes: &mut &[u8]) -> Option<ArrayHead> {
    let dimensions = bytes.try_get_i32().ok()?;
    let _nulls = bytes.try_get_i32().ok()?;
    let element = bytes.try_get_u32().ok()?;
    let mut count = 0;
    if dimensions != 0 {
        count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
        let _lower = bytes.try_get_i32().ok()?;
    }
    Some(ArrayHead { dimensions, element, count })
}

/// One list of these values.
fn list(
    element: &Type,
    values: impl Iterator<Item = Result<Option<ArrayRef>, SqlError>>,
) -> Result<ArrayRef, SqlError> {
    let (mut parts, mut waiting) = (Vec::new(), Vec::new());
    for value in values {
        waiting.push(value?);
        if waiting.len() == ELEMENTS_AT_ONCE {
            parts.push(Some(joined(element, std::mem::take(&mut waiting))?));
        }
    }
    parts.push(Some(joined(element, waiting)?));
    let values = joined(element, parts)?;
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    Ok(Arc::new(ListArray::new(field, OffsetBuffer::from_lengths([values.len()]), values, None)))
}

/// One array of these, numerics at the largest of their scales.
fn joined(element: &Type, values: Vec<Option<ArrayRef>>) -> Result<ArrayRef, SqlError> {
    let scale = |array: &ArrayRef| match array.data_type() {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => Some(*scale),
        _ => None,
    };
    let scale_max = values.iter().flatten().filter(|array| !array.is_empty()).filter_map(scale).max();
    let item = scale_max.map_or_else(|| natural(element), |scale| DataType::Decimal128(38, scale));
    let cells = values.into_iter().map(|value| match value {
        Some(value) => cast(&value, &item),
        None => Ok(new_null_array(&item, 1)),
    });
    let cells = cells.collect::<Result<Vec<_>, _>>()?;
    let cells: Vec<&dyn Array> = cells.iter().map(AsRef::as_ref).collect();
    if cells.is_empty() {
        return Ok(new_null_array(&item, 0));
    }
    arrow::compute::concat(&cells).map_err(|e| SqlError::internal(e.to_string()))
}

/// Array types and their elements.
const ARRAYS: [(Type, Type); 22] = [
    (Type::BOOL_ARRAY, Type::BOOL),
    (Type::INT2_ARRAY, Type::INT2),
    (Type::INT4_ARRAY, Type::INT4),
    (Type::INT8_ARRAY, Type::INT8),
    (Type::OID_ARRAY, Type::OID),
    (Type::FLOAT4_ARRAY, Type::FLOAT4),
    (Type::FLOAT8_ARRAY, Type::FLOAT8),
    (Type::NUMERIC_ARRAY, Type::NUMERIC),
    (Type::TEXT_ARRAY, Type::TEXT),
    (Type::VARCHAR_ARRAY, Type::VARCHAR),
    (Type::BPCHAR_ARRAY, Type::BPCHAR),
    (Type::NAME_ARRAY, Type::NAME),
    (Type::CHAR_ARRAY, Type::CHAR),
    (Type::JSON_ARRAY, Type::JSON),
    (Type::JSONB_ARRAY, Type::JSONB),
    (Type::UUID_ARRAY, Type::UUID),
    (Type::BYTEA_ARRAY, Type::BYTEA),
    (Type::DATE_ARRAY, Type::DATE),
    (Type::TIME_ARRAY, Type::TIME),
    (Type::INTERVAL_ARRAY, Type::INTERVAL),
    (Type::TIMESTAMP_ARRAY, Type::TIMESTAMP),
    (Type::TIMESTAMPTZ_ARRAY, Type::TIMESTAMPTZ),
];

/// The element of an array type.
pub(super) fn element(wire: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(array, _)| array == wire).map(|(_, element)| element.clone())
}

/// The array type of an element.
pub(super) fn array_of(element: &Type) -> Option<Type> {
    ARRAYS.iter().find(|(_, known)| known == element).map(|(array, _)| array.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An array in binary of one element, which is said to be an array again, and so on.
    fn nested(levels: u32) -> Vec<u8> {
        const HEAD: u32 = 24;
        let mut bytes = Vec::new();
        for level in 0..levels {
            for word in [1, 0, Type::INT8_ARRAY.oid(), 1, 1, (levels - 1 - level) * HEAD + 12] {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
        [0, 0, Type::INT8.oid()].iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        bytes
    }

    #[test]
    fn arrays_of_arrays_are_refused_however_deep_they_are() {
        assert!(from_binary(&Type::INT8_ARRAY, &nested(0)).is_ok());
        for levels in [1, 2, 500_000] {
            let refused = from_binary(&Type::INT8_ARRAY, &nested(levels)).unwrap_err();
            assert_eq!(refused.code, "22P03", "{levels} levels");
        }
    }

    #[test]
    fn many_elements_are_one_array() {
        let count = i64::try_from(3 * ELEMENTS_AT_ONCE).unwrap() + 1;
        let text = (0..count).map(|i| format!("{i}.{}", i % 7)).collect::<Vec<_>>().join(",");
        let array = from_text(&Type::NUMERIC_ARRAY, &format!("{{{text},NULL,0.125}}")).unwrap();
        let values = array.as_list::<i32>().value(0);
        assert_eq!((values.len(), values.null_count()), (usize::try_from(count).unwrap() + 2, 1));
        assert_eq!(*values.data_type(), DataType::Decimal128(38, 3));
        let too_many = format!("{{{}}}", vec!["1"; ELEMENTS_MAX + 1].join(","));
        assert_eq!(from_text(&Type::INT4_ARRAY, &too_many).unwrap_err().code, "22P02");
    }
}
