//! Values from texts and texts from values, as PostgreSQL reads and writes them.
//!
//! A cast between a text and anything else, written by hand or made by the agreement on types, is one of ours: Arrow's own
//! reads and writes other forms (`T` between day and time, no `t` and `f`), and takes what is no number for NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float32Array,
    Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, StringBuilder,
    Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, IntervalMonthDayNanoType, IntervalUnit,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, i256,
};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, exec_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

use super::{calendar, operators, types};

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

/// The same for an expression that stands alone.
pub fn formed_alone(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(expr.transform_up(|part| formed(part, schema))?.data)
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if matches!(plan, LogicalPlan::TableScan(_)) {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let made = expr.transform_up(|part| formed(part, &schema))?;
        Ok(made.update_data(|expr| name.restore(expr)))
    })
}

fn formed(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    // What is written never fails.
    if let Expr::TryCast(cast) = &expr
        && is_text(cast.field.data_type())
        && cast.expr.get_type(schema).is_ok_and(|from| writes(&from))
    {
        return Ok(Transformed::yes(called(ToText::udf(), cast.expr.as_ref().clone())));
    }
    let Expr::Cast(cast) = &expr else { return Ok(Transformed::no(expr)) };
    let Ok((_, from)) = cast.expr.to_field(schema) else { return Ok(Transformed::no(expr)) };
    let to = cast.field.data_type();
    if matches!(from.data_type(), DataType::Null) {
        return Ok(Transformed::no(expr));
    }
    let inner = || cast.expr.as_ref().clone();
    let made = match (is_text(from.data_type()), is_text(to)) {
        (true, true) => match (types::own_name(&cast.field), types::own_name(&from)) {
            (Some(types::JSON), Some(types::JSON | types::JSONB)) => None,
            (Some(types::JSONB), Some(types::JSONB)) => None,
            (Some(types::JSON), _) => operators::call("json", [inner()]),
            (Some(types::JSONB), _) => operators::call("jsonb", [inner()]),
            _ => None,
        },
        (true, false) if reads(to) => Some(called(FromText::of(to.clone()), inner())),
        (false, true) if writes(from.data_type()) => Some(called(ToText::udf(), inner())),
        _ => None,
    };
    Ok(made.map_or_else(|| Transformed::no(expr.clone()), Transformed::yes))
}

/// The plan, if each text that is written in it as a value of another type can be read as one. PostgreSQL reads them when it
/// plans, wherever they stand.
pub(crate) fn literals_read(plan: LogicalPlan) -> Result<LogicalPlan> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                read(part)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(plan)
}

fn read(expr: &Expr) -> Result<()> {
    let Expr::ScalarFunction(call) = expr else { return Ok(()) };
    let [Expr::Literal(value, _)] = &call.args[..] else { return Ok(()) };
    let reads_text =
        call.func.inner().downcast_ref::<FromText>().is_some() || ["json", "jsonb", "uuid"].contains(&call.func.name());
    if !reads_text || value.is_null() || !is_text(&value.data_type()) {
        return Ok(());
    }
    let fields: Vec<FieldRef> = vec![Arc::new(Field::new("text", value.data_type(), true))];
    let return_field =
        call.func.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &[Some(value)] })?;
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Scalar(value.clone())],
        arg_fields: fields,
        number_rows: 1,
        return_field,
        config_options: Arc::new(ConfigOptions::default()),
    };
    call.func.invoke_with_args(args).map(drop)
}

pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Types that a text is read as.
fn reads(data_type: &DataType) -> bool {
    match data_type {
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Decimal256(..)
        | DataType::Binary
        | DataType::Date32
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(TimeUnit::Microsecond, _)
        | DataType::Interval(IntervalUnit::MonthDayNano) => true,
        DataType::List(item) => is_text(item.data_type()) || reads(item.data_type()),
        _ => false,
    }
}

/// Types whose texts Arrow writes otherwise.
fn writes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32
        | DataType::Float64
        | DataType::Binary
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Interval(_)
        | DataType::Duration(_) => true,
        DataType::List(item) => !item.data_type().is_nested() || writes(item.data_type()),
        _ => false,
    }
}

fn called(function: impl Into<ScalarUDF>, argument: Expr) -> Expr {
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function.into()), vec![argument]))
}

/// A text as a value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FromText {
    /// Says the type too, since a name must say all that a function does.
    name: String,
    to: DataType,
    signature: Signature,
}

impl FromText {
    fn of(to: DataType) -> ScalarUDF {
        let name = format!("from_text as {to}");
        ScalarUDF::new_from_impl(Self { name, to, signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        Ok(vec![DataType::Utf8; arguments.len()])
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(&self.name, self.to.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = |arrays: &[ArrayRef]| {
            let [array] = arrays else { return exec_err!("a cast takes one value") };
            match array.as_string_opt::<i32>() {
                Some(texts) => from_text(texts, &self.to),
                None => from_text(arrow_cast(array, &DataType::Utf8)?.as_string::<i32>(), &self.to),
            }
        };
        make_scalar_function(values, vec![])(&args.args)
    }
}

/// A value as its text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToText {
    signature: Signature,
}

impl ToText {
    fn udf() -> ScalarUDF {
        ScalarUDF::new_from_impl(Self { signature: Signature::any(1, Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for ToText {
    fn name(&self) -> &str {
        "to_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let texts = |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [array] = arrays else { return exec_err!("a cast takes one value") };
            Ok(Arc::new(to_text(array)?))
        };
        make_scalar_function(texts, vec![])(&args.args)
    }
}

fn each<T>(texts: &StringArray, read: impl Fn(&str) -> Result<T>) -> impl Iterator<Item = Result<Option<T>>> {
    texts.iter().map(|text| text.map(&read).transpose()).collect::<Vec<_>>().into_iter()
}

/// The values of texts.
fn from_text(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    Ok(match to {
        DataType::Utf8 => Arc::new(texts.clone()),
        DataType::Boolean => Arc::new(each(texts, boolean).collect::<Result<BooleanArray>>()?),
        DataType::Int16 => Arc::new(each(texts, |t| integer::<i16>(t, "smallint")).collect::<Result<Int16Array>>()?),
        DataType::Int32 => Arc::new(each(texts, |t| integer::<i32>(t, "integer")).collect::<Result<Int32Array>>()?),
        DataType::Int64 => Arc::new(each(texts, |t| integer::<i64>(t, "bigint")).collect::<Result<Int64Array>>()?),
        DataType::UInt64 => Arc::new(each(texts, |t| integer::<u64>(t, "numeric")).collect::<Result<UInt64Array>>()?),
        DataType::Float32 => {
            #[expect(clippy::cast_possible_truncation, reason = "a text is read to the nearest float")]
            let narrow = |value: f64| value as f32;
            Arc::new(each(texts, |t| float(t, "real").map(narrow)).collect::<Result<Float32Array>>()?)
        }
        DataType::Float64 => Arc::new(each(texts, |t| float(t, "double precision")).collect::<Result<Float64Array>>()?),
        DataType::Decimal128(precision, scale) => {
            let made = each(texts, |t| {
                let value = decimal(t, *scale)?;
                match value.to_i128().filter(|value| fits(i256::from_i128(*value), *precision)) {
                    Some(value) => Ok(value),
                    None => {
                        exec_err!("numeric field overflow: \"{t}\" is out of range for numeric({precision},{scale})")
                    }
                }
            });
            let made = made.collect::<Result<Decimal128Array>>()?;
            Arc::new(made.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Decimal256(precision, scale) => {
            let made = each(texts, |t| {
                let value = decimal(t, *scale)?;
                match fits(value, *precision) {
                    true => Ok(value),
                    false => {
                        exec_err!("numeric field overflow: \"{t}\" is out of range for numeric({precision},{scale})")
                    }
                }
            });
            let made = made.collect::<Result<Decimal256Array>>()?;
            Arc::new(made.with_precision_and_scale(*precision, *scale)?)
        }
        DataType::Binary => {
            let mut out = BinaryBuilder::new();
            for text in texts {
                match text {
                    Some(text) => out.append_value(bytes(text)?),
                    None => out.append_null(),
                }
            }
            Arc::new(out.finish())
        }
        DataType::Date32 => Arc::new(each(texts, calendar::parse_date).collect::<Result<Date32Array>>()?),
        DataType::Time64(TimeUnit::Microsecond) => {
            Arc::new(each(texts, calendar::parse_time).collect::<Result<Time64MicrosecondArray>>()?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Arc::new(each(texts, calendar::parse_timestamp).collect::<Result<TimestampMicrosecondArray>>()?)
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => {
            let made = each(texts, calendar::parse_timestamptz).collect::<Result<TimestampMicrosecondArray>>()?;
            Arc::new(made.with_timezone(Arc::clone(zone)))
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            Arc::new(each(texts, calendar::parse_interval).collect::<Result<IntervalMonthDayNanoArray>>()?)
        }
        DataType::List(item) => lists(texts, item)?,
        other => return exec_err!("a text cannot be read as {}", types::name(other)),
    })
}

/// Errors: a text of the statement is no value of the type that it stands for.
pub(crate) fn is_read_as(text: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Decimal128(..) | DataType::Decimal256(..) => match digits(text) {
            Some(_) => Ok(()),
            None => decimal(text, 0).map(drop),
        },
        // Numbers of MySQL's that PostgreSQL knows as numerics.
        DataType::UInt64 => Ok(()),
        // Words that are read by the clock.
        DataType::Date32 | DataType::Timestamp(..)
            if ["now", "today", "tomorrow", "yesterday"].contains(&text.trim().to_ascii_lowercase().as_str()) =>
        {
            Ok(())
        }
        other if reads(other) => from_text(&StringArray::from(vec![text]), other).map(drop),
        _ => Ok(()),
    }
}

fn fits(value: i256, precision: u8) -> bool {
    let limit = i256::from_i128(10).checked_pow(u32::from(precision));
    limit.is_none_or(|limit| value.wrapping_abs() < limit)
}

fn boolean(text: &str) -> Result<bool> {
    let word = text.trim().to_ascii_lowercase();
    let begins = |whole: &str, least: usize| word.len() >= least && whole.starts_with(&word);
    if begins("true", 1) || begins("yes", 1) || word == "on" || word == "1" {
        Ok(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || word == "0" {
        Ok(false)
    } else {
        exec_err!("invalid input syntax for type boolean: \"{text}\"")
    }
}

fn integer<T: std::str::FromStr>(text: &str, name: &str) -> Result<T> {
    let digits = text.trim();
    if let Ok(value) = digits.parse() {
        return Ok(value);
    }
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return exec_err!("value \"{text}\" is out of range for type {name}");
    }
    exec_err!("invalid input syntax for type {name}: \"{text}\"")
}

fn float(text: &str, name: &str) -> Result<f64> {
    let word = text.trim();
    let lower = word.to_ascii_lowercase();
    let value = match lower.trim_start_matches(['+', '-']) {
        "infinity" | "inf" => Some(if lower.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        "nan" => Some(f64::NAN),
        plain if plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => word.parse::<f64>().ok(),
        _ => None,
    };
    match value {
        Some(value) if value.is_infinite() && !lower.contains("inf") => {
            exec_err!("\"{text}\" is out of range for type {name}")
        }
        Some(value) => Ok(value),
        None => exec_err!("invalid input syntax for type {name}: \"{text}\""),
    }
}

/// The digits of a number at a scale, a half away from zero.
fn decimal(text: &str, scale: i8) -> Result<i256> {
    let Some((negative, digits, of_text)) = digits(text) else {
        let word = text.trim().trim_start_matches(['+', '-']).to_ascii_lowercase();
        if matches!(word.as_str(), "nan" | "infinity" | "inf") {
            return exec_err!("a numeric that is {} is not supported", text.trim());
        }
        return exec_err!("invalid input syntax for type numeric: \"{text}\"");
    };
    let shift = i64::from(scale) - of_text;
    let made = match usize::try_from(shift) {
        Ok(zeros) if digits.len().saturating_add(zeros) <= 76 => {
            i256::from_string(&format!("0{digits}{}", "0".repeat(zeros)))
        }
        Ok(_) => None,
        Err(_) => {
            let cut = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
            let whole = digits.len().saturating_sub(cut);
            let kept = digits.get(..whole).unwrap_or_default();
            let up = cut <= digits.len() && digits.get(whole..).is_some_and(|rest| rest.starts_with(|c| c >= '5'));
            let kept = if kept.is_empty() { Some(i256::ZERO) } else { i256::from_string(kept) };
            kept.and_then(|kept| kept.checked_add(if up { i256::ONE } else { i256::ZERO }))
        }
    };
    match made {
        Some(value) if negative => Ok(value.wrapping_neg()),
        Some(value) => Ok(value),
        None => exec_err!("numeric field overflow: \"{text}\" is out of range"),
    }
}

/// A sign, digits without the point, and how many of them stand behind it.
pub(crate) fn digits(text: &str) -> Option<(bool, String, i64)> {
    let text = text.trim();
    let negative = text.starts_with('-');
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = i64::try_from(fraction.len()).ok()? - i64::from(exponent);
    let digits = digits.trim_start_matches('0');
    Some((negative, digits.to_owned(), scale))
}

/// `\xdeadbeef`, or text with `\\` and `\ooo`.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>> {
    let wrong = || exec_err!("invalid input syntax for type bytea");
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        if !digits.len().is_multiple_of(2) {
            return exec_err!("invalid hexadecimal data: odd number of digits");
        }
        let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let pairs = digits.chunks_exact(2).map(|pair| match (value(pair[0]), value(pair[1])) {
            (Some(high), Some(low)) => Ok(high * 16 + low),
            _ => exec_err!("invalid hexadecimal digit"),
        });
        return pairs.collect();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        match (first, behind) {
            (b'\\', [b'\\', behind @ ..]) => {
                out.push(b'\\');
                rest = behind;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = behind;
            }
            (b'\\', _) => return wrong(),
            (byte, _) => out.push(*byte),
        }
    }
    Ok(out)
}

/// The arrays that texts like `{1,2,NULL}` stand for.
fn lists(texts: &StringArray, item: &FieldRef) -> Result<ArrayRef> {
    let mut elements: Vec<Option<String>> = Vec::new();
    let mut lengths = Vec::with_capacity(texts.len());
    let mut valid = Vec::with_capacity(texts.len());
    let nested = match item.data_type() {
        DataType::List(_) => Elements::Arrays,
        _ => Elements::Values,
    };
    for text in texts {
        let before = elements.len();
        if let Some(text) = text {
            list_elements(text, nested, &mut elements)?;
        }
        lengths.push(elements.len() - before);
        valid.push(text.is_some());
    }
    let elements: StringArray = elements.into_iter().collect();
    let values = from_text(&elements, item.data_type())?;
    if let Some(arrays) = values.as_list_opt::<i32>() {
        are_alike(texts, &lengths, arrays)?;
    }
    let nulls = NullBuffer::from(valid);
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, Some(nulls))?))
}

/// Arrays within an array have one length. Errors: they have not.
fn are_alike(texts: &StringArray, lengths: &[usize], arrays: &ListArray) -> Result<()> {
    let mut from = 0;
    for (text, length) in texts.iter().zip(lengths) {
        let mut within = (from..from + length).map(|at| arrays.is_valid(at).then(|| arrays.value_length(at)));
        let first = within.next();
        if first.is_some_and(|first| first.is_none() || within.any(|other| other != first)) {
            return exec_err!("malformed array literal: \"{}\"", text.unwrap_or_default());
        }
        from += length;
    }
    Ok(())
}

/// The elements of a text like `{a,b}`.
pub(crate) fn list_of(text: &str) -> Result<Vec<Option<String>>> {
    let mut elements = Vec::new();
    list_elements(text, Elements::Values, &mut elements)?;
    Ok(elements)
}

/// How many dimensions the array has that a text stands for.
pub(crate) fn dimensions_of(text: &str) -> usize {
    let opened = text.trim_start().chars().take_while(|c| *c == '{' || c.is_whitespace());
    opened.filter(|c| *c == '{').count().max(1)
}

/// What the elements of an array are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Elements {
    Values,
    Arrays,
}

/// The text of an array up to the bracket that ends it; none where there is none.
fn balanced(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<String> {
    let (mut taken, mut depth, mut is_quoted) = (String::new(), 0_usize, false);
    loop {
        let c = chars.next()?;
        taken.push(c);
        match c {
            '\\' => taken.extend(chars.next()),
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(taken);
                }
            }
            _ => {}
        }
    }
}

fn list_elements(text: &str, of: Elements, out: &mut Vec<Option<String>>) -> Result<()> {
    let wrong = || exec_err!("malformed array literal: \"{text}\"");
    let Some(inner) = text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else { return wrong() };
    if inner.trim().is_empty() {
        return Ok(());
    }
    let mut chars = inner.chars().peekable();
    loop {
        let mut element = String::new();
        let mut quoted = false;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek() == Some(&'{') {
            match of {
                Elements::Arrays => {
                    let Some(array) = balanced(&mut chars) else { return wrong() };
                    element = array;
                }
                // How many dimensions there are is known of constants alone.
                Elements::Values if balanced(&mut chars).is_some() => {
                    return exec_err!("a text as an array of more dimensions is not supported: \"{text}\"");
                }
                Elements::Values => return wrong(),
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else if chars.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match chars.next() {
                    Some('"') => break,
                    Some('\\') => element.extend(chars.next()),
                    Some(c) => element.push(c),
                    None => return wrong(),
                }
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '}' | '"' => return wrong(),
                    '\\' => element.extend(chars.next()),
                    c => element.push(c),
                }
            }
            element.truncate(element.trim_end().len());
            if element.is_empty() {
                return wrong();
            }
        }
        let is_null = !quoted && element.eq_ignore_ascii_case("null");
        out.push((!is_null).then_some(element));
        match chars.next() {
            None => return Ok(()),
            Some(',') => {}
            Some(_) => return wrong(),
        }
    }
}

/// The texts of values.
pub(crate) fn to_text(array: &ArrayRef) -> Result<StringArray> {
    fn made<T>(values: impl Iterator<Item = Option<T>>, write: impl Fn(T) -> String) -> StringArray {
        let mut out = StringBuilder::new();
        values.for_each(|value| out.append_option(value.map(&write)));
        out.finish()
    }
    Ok(match array.data_type() {
        DataType::Boolean => made(array.as_boolean().iter(), |value| value.to_string()),
        DataType::Float32 => made(array.as_primitive::<Float32Type>().iter(), |value| {
            float_text(f64::from(value), &format!("{value:e}"), 6)
        }),
        DataType::Float64 => {
            made(array.as_primitive::<Float64Type>().iter(), |value| float_text(value, &format!("{value:e}"), 15))
        }
        DataType::Binary => made(array.as_binary::<i32>().iter(), bytes_text),
        DataType::Date32 => {
            made(array.as_primitive::<Date32Type>().iter(), |days| calendar::date_text(i64::from(days)))
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            made(array.as_primitive::<Time64MicrosecondType>().iter(), calendar::time_text)
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let zoned = zone.is_some();
            made(array.as_primitive::<TimestampMicrosecondType>().iter(), |at| calendar::timestamp_text(at, zoned))
        }
        DataType::Timestamp(_, zone) => {
            to_text(&arrow_cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?)?
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            made(array.as_primitive::<IntervalMonthDayNanoType>().iter(), calendar::interval_text)
        }
        DataType::Interval(_) | DataType::Duration(_) => {
            to_text(&arrow_cast(array, &DataType::Interval(IntervalUnit::MonthDayNano))?)?
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let elements = to_text(lists.values())?;
            let mut out = StringBuilder::new();
            for row in 0..lists.len() {
                if lists.is_null(row) {
                    out.append_null();
                    continue;
                }
                let (from, to) = (lists.value_offsets()[row], lists.value_offsets()[row + 1]);
                let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
                let texts: Vec<String> = range
                    .map(|at| match () {
                        () if elements.is_null(at) => "NULL".to_owned(),
                        () if lists.value_type().is_nested() => elements.value(at).to_owned(),
                        () => element_text(elements.value(at)),
                    })
                    .collect();
                out.append_value(format!("{{{}}}", texts.join(",")));
            }
            out.finish()
        }
        DataType::Utf8 => array.as_string::<i32>().clone(),
        _ => arrow_cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

fn element_text(text: &str) -> String {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_whitespace();
    if text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special) {
        return format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    }
    text.to_owned()
}

fn bytes_text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// The shortest digits that give the same float again; `scientific` is Rust's `{:e}` of it. Numbers of more than
/// `digits_max` digits before the point, and those below 0.0001, get an exponent.
fn float_text(value: f64, scientific: &str, digits_max: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..digits_max).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let digits: String = digits.chars().filter(|c| *c != '.').collect();
    match usize::try_from(exponent) {
        Ok(exponent) => {
            let point = (exponent + 1).min(digits.len());
            let (whole, fraction) = digits.split_at_checked(point).unwrap_or((&digits, ""));
            let zeros = "0".repeat(exponent + 1 - point);
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{sign}{whole}{zeros}{point}{fraction}")
        }
        Err(_) => {
            let zeros = "0".repeat(usize::try_from(-exponent - 1).unwrap_or_default());
            format!("{sign}0.{zeros}{digits}")
        }
    }
}

/// The numbers of texts, as decimals of a type.
pub(crate) fn decimals_of(texts: &StringArray, to: &DataType) -> Result<ArrayRef> {
    from_text(texts, to)
}
