//! Functions that can make much out of little, with a bound on what they make.
//!
//! Operators ask the query's budget before they grow; functions do not know it. What the functions below would make is reckoned
//! from their arguments, and refused before it is made where it is too much for one batch ([`watch::make()`]). They are put in
//! the place of the registry's once types are agreed on ([`Bounded`]), so that names, types and meaning stay theirs. A constant
//! that is large by itself is counted as often as there are rows to hold it ([`Constants`]).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array};
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, IntervalMonthDayNanoType};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::{AnalyzerRule, OptimizerConfig, OptimizerRule};

use crate::error::Error;
use crate::watch;

/// Bytes that a function may make at once without being looked at more closely.
const AT_ONCE_BYTES: u64 = 8 << 20;
/// Bytes that a piece of a batch may come to, where the batch is computed piece by piece.
const PIECE_BYTES: u64 = 32 << 20;
/// A constant is large from so many bytes on.
const CONSTANT_BYTES: usize = 16 << 10;
/// Steps that one comparison of two values may take, where each part of one is compared with each of the other.
const COMPARISON_STEPS_MAX: u64 = 100_000_000;
/// So many of them take as long as a byte that is made.
const STEPS_OF_A_BYTE: u64 = 8;
/// Reading a byte of a pattern takes as long as so many bytes that are made.
const BYTES_OF_A_PATTERN: u64 = 4_096;
/// Letters that may be trimmed away: what stands there to be trimmed is a few, and each is looked for among them.
const TRIMMED_BYTES: u64 = 1_000;

/// Puts the bounded functions in their places.
#[derive(Debug)]
pub(crate) struct Bounded;

impl AnalyzerRule for Bounded {
    fn name(&self) -> &str {
        "bounded"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| with_expressions(node, bounded)).data()
    }
}

/// The node with its expressions changed from the inside out, under the names they had.
fn with_expressions(node: LogicalPlan, change: fn(Expr) -> Transformed<Expr>) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let name = names.save(&expr);
        let changed = expr.transform_up(|expr| Ok(change(expr)))?;
        Ok(if changed.transformed { Transformed::yes(name.restore(changed.data)) } else { changed })
    })
}

fn bounded(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(call) => match Growth::of(call.func.name()) {
            Some(growth) if !call.func.inner().is::<BoundedFunction>() => {
                let function = BoundedFunction { inner: Arc::clone(&call.func), growth };
                let func = Arc::new(ScalarUDF::new_from_impl(function));
                Transformed::yes(Expr::ScalarFunction(ScalarFunction { func, args: call.args }))
            }
            _ => Transformed::no(Expr::ScalarFunction(call)),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
            let function = ScalarUDF::new_from_impl(TextConcat { signature: Signature::any(2, Volatility::Immutable) });
            Transformed::yes(function.call(vec![*left, *right]))
        }
        other => Transformed::no(other),
    }
}

/// Whether a function may make values many times as large as its arguments.
pub(crate) fn makes_much(function: &ScalarUDF) -> bool {
    let function: &dyn std::any::Any = function.inner().as_ref();
    function.downcast_ref::<BoundedFunction>().is_some_and(|function| function.growth.is_manifold())
}

/// How much a function makes of its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// The first, as often as the second says.
    Repeated,
    /// As many characters as the second says.
    Padded,
    /// The first, with the third in the place of what is found of the second.
    Replaced,
    /// The same by a pattern.
    Rewritten,
    /// A pattern that is another one in each row takes long to be read.
    Compiled,
    /// Each element that the arguments count.
    Series,
    /// As many elements as the second says.
    Resized,
    /// All of the arguments together.
    Joined,
    /// Not its value is large, but the way there: each character is compared with each.
    Compared,
    /// The same of elements.
    Matched,
    /// The same of the letters of a text and those that are trimmed away.
    Trimmed,
    /// A text is looked for in another, in a time of both together ([`positions`]).
    Sought,
}

impl Growth {
    fn of(function: &str) -> Option<Self> {
        Some(match function {
            "repeat" | "array_repeat" => Self::Repeated,
            "lpad" | "rpad" => Self::Padded,
            "replace" | "array_to_string" => Self::Replaced,
            "regexp_replace" => Self::Rewritten,
            "regexp_like"
            | "regexp_match"
            | "regexp_all_matches"
            | "regexp_split_to_array"
            | "regexp_count"
            | "regexp_substr"
            | "similar_to"
            | "jsonb_path_exists"
            | "jsonb_path_match"
            | "jsonb_path_match_opr"
            | "jsonb_path_query_array"
            | "jsonb_path_query_first"
            | "json_path_values" => Self::Compiled,
            "range" | "generate_series" => Self::Series,
            "array_resize" => Self::Resized,
            "concat" | "concat_ws" | "array_concat" | "array_append" | "array_prepend" | "overlay" => Self::Joined,
            "levenshtein" => Self::Compared,
            "array_has_all" | "array_has_any" => Self::Matched,
            "btrim" | "ltrim" | "rtrim" => Self::Trimmed,
            "strpos" => Self::Sought,
            _ => return None,
        })
    }

    /// Whether what it makes may be many times as large as its arguments.
    fn is_manifold(self) -> bool {
        matches!(self, Self::Repeated | Self::Padded | Self::Replaced | Self::Rewritten | Self::Series | Self::Resized)
    }

    /// Bytes per row that come of it, at most.
    fn bytes(self, args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
        let size = |at: usize| args.get(at).map_or_else(|| Ok(vec![0; rows]), |arg| sizes(arg, rows));
        let count = |at: usize| args.get(at).map_or_else(|| Ok(vec![0; rows]), |arg| counts(arg, rows));
        let both = |a: Vec<u64>, b: Vec<u64>, f: fn(u64, u64) -> u64| -> Vec<u64> {
            a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect()
        };
        Ok(match self {
            Self::Repeated => both(size(0)?, count(1)?, u64::saturating_mul),
            Self::Padded => {
                let fill = if args.get(2).is_some_and(|fill| !is_ascii(fill)) { 4 } else { 1 };
                count(1)?.into_iter().map(|count| count.saturating_mul(fill)).collect()
            }
            Self::Replaced | Self::Rewritten => {
                let put = if args.len() > 2 { size(2)? } else { size(1)? };
                let made =
                    both(size(0)?, put, |text, put| text.saturating_add(text.saturating_add(1).saturating_mul(put)));
                if self == Self::Replaced { made } else { both(made, patterns(args, rows)?, u64::saturating_add) }
            }
            Self::Compiled => patterns(args, rows)?,
            Self::Series => series(args, rows)?,
            Self::Resized => count(1)?.into_iter().map(|count| count.saturating_mul(ELEMENT_BYTES)).collect(),
            Self::Joined => {
                let mut sum = vec![0_u64; rows];
                for at in 0..args.len() {
                    sum = both(sum, size(at)?, u64::saturating_add);
                }
                sum
            }
            Self::Compared => {
                let hint = "Compare the beginnings of the texts: left(text, 1000).";
                compared(
                    "levenshtein has texts that are too long",
                    hint,
                    both(size(0)?, size(1)?, u64::saturating_mul),
                )?
            }
            Self::Matched => {
                let elements = |at: usize| args.get(at).map_or_else(|| Ok(vec![0; rows]), |arg| lengths(arg, rows));
                let steps = both(elements(0)?, elements(1)?, u64::saturating_mul);
                compared("arrays that are compared are too long", "Unnest them, and join their elements.", steps)?
            }
            Self::Trimmed if args.len() > 1 => {
                let steps = |text: u64, of: u64| if of > TRIMMED_BYTES { text.saturating_mul(of) } else { 0 };
                let hint = "Name each letter that is trimmed once.";
                compared("too many letters are trimmed", hint, both(size(0)?, size(1)?, steps))?
            }
            Self::Trimmed | Self::Sought => vec![0; rows],
        })
    }
}

/// Steps per row as bytes, for the pieces that a batch is computed in. Errors: one row takes too many.
fn compared(message: &str, hint: &str, steps: Vec<u64>) -> Result<Vec<u64>> {
    if steps.iter().any(|steps| *steps > COMPARISON_STEPS_MAX) {
        return Err(Error::new(crate::error::code::LIMIT_EXCEEDED, message).hint(hint).into_datafusion());
    }
    Ok(steps.into_iter().map(|steps| steps / STEPS_OF_A_BYTE).collect())
}

/// What it takes to read each row's pattern, as bytes: one that stands in the statement is read once.
fn patterns(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    match args.get(1) {
        Some(pattern @ ColumnarValue::Array(_)) => {
            let of = |size: u64| size.saturating_mul(BYTES_OF_A_PATTERN).min(PIECE_BYTES);
            Ok(sizes(pattern, rows)?.into_iter().map(of).collect())
        }
        _ => Ok(vec![0; rows]),
    }
}

/// Elements of each row's list.
fn lengths(arg: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    let (array, is_one) = match arg {
        ColumnarValue::Array(array) => (Arc::clone(array), false),
        ColumnarValue::Scalar(value) => (value.to_array()?, true),
    };
    // What is no list, or of a fixed size, is not looked at more closely.
    let Some(lists) = array.as_list_opt::<i32>() else { return Ok(vec![0; rows]) };
    let length = |row: usize| u64::try_from(lists.value_length(row)).unwrap_or(0);
    if is_one { Ok(vec![length(0); rows]) } else { Ok((0..lists.len()).map(length).collect()) }
}

/// About what an element of a list takes.
const ELEMENT_BYTES: u64 = 16;

/// Bytes of each row's value.
fn sizes(arg: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    let array = match arg {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(value) => {
            let text = value.try_as_str().flatten().map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX));
            return Ok(vec![text.map_or_else(|| size(&value.to_array()?), Ok)?; rows]);
        }
    };
    let (width, len) = (|bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX), array.len());
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().map(|text| width(text.map_or(0, str::len))).collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().map(|text| width(text.map_or(0, str::len))).collect(),
        DataType::Utf8View => array.as_string_view().iter().map(|text| width(text.map_or(0, str::len))).collect(),
        data_type if data_type.primitive_width().is_some() => vec![ELEMENT_BYTES; len],
        _ => (0..len).map(|row| size(&array.slice(row, 1))).collect::<Result<_>>()?,
    })
}

fn size(array: &ArrayRef) -> Result<u64> {
    let bytes = array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size());
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX).max(ELEMENT_BYTES))
}

/// Each row's number; what is negative or NULL counts nothing.
fn counts(arg: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    let whole = whole_numbers(arg, rows)?;
    Ok(whole.into_iter().map(|number| u64::try_from(number.unwrap_or(0)).unwrap_or(0)).collect())
}

fn whole_numbers(arg: &ColumnarValue, rows: usize) -> Result<Vec<Option<i64>>> {
    let (array, is_one) = match arg {
        ColumnarValue::Array(array) => (Arc::clone(array), false),
        ColumnarValue::Scalar(value) => (value.to_array()?, true),
    };
    let numbers = cast(&array, &DataType::Int64)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    if is_one {
        return Ok(vec![numbers.iter().next().flatten(); rows]);
    }
    Ok(numbers.iter().collect())
}

fn is_ascii(arg: &ColumnarValue) -> bool {
    match arg {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text))) => text.is_ascii(),
        _ => false,
    }
}

/// Bytes of the series from a start to an end; a series of times goes on by an interval.
fn series(args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
    let (from, to, by) = match args {
        [to] => (None, to, None),
        [from, to] => (Some(from), to, None),
        [from, to, by, ..] => (Some(from), to, Some(by)),
        [] => return Ok(vec![0; rows]),
    };
    if to.data_type() == DataType::Null {
        return Ok(vec![0; rows]);
    }
    let to_numbers = whole_numbers(to, rows)?;
    let from_numbers = from.map_or_else(|| Ok(vec![Some(0); rows]), |from| whole_numbers(from, rows))?;
    let steps = match by {
        None => vec![Some(1); rows],
        Some(by) if matches!(by.data_type(), DataType::Interval(_)) => units(by, &to.data_type(), rows)?,
        Some(by) => whole_numbers(by, rows)?,
    };
    let each = from_numbers.into_iter().zip(to_numbers).zip(steps);
    Ok(each
        .map(|((from, to), by)| match (from, to, by) {
            (Some(from), Some(to), Some(by)) => {
                let steps = from.abs_diff(to) / by.unsigned_abs().max(1);
                steps.saturating_add(1).saturating_mul(ELEMENT_BYTES)
            }
            _ => 0,
        })
        .collect())
}

/// Intervals in units of a type of times, rounded down to at least one.
fn units(by: &ColumnarValue, times: &DataType, rows: usize) -> Result<Vec<Option<i64>>> {
    use arrow::datatypes::{IntervalUnit, TimeUnit};
    const DAY_NANOS: i128 = 86_400_000_000_000;
    let nanos = match times {
        DataType::Date32 => DAY_NANOS,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        _ => 1,
    };
    let array = cast(&by.to_array(rows)?, &DataType::Interval(IntervalUnit::MonthDayNano))?;
    let intervals = array.as_primitive::<IntervalMonthDayNanoType>();
    let whole = |value: <IntervalMonthDayNanoType as arrow::datatypes::ArrowPrimitiveType>::Native| {
        let days = i128::from(value.months) * 28 + i128::from(value.days);
        let all = (days * DAY_NANOS + i128::from(value.nanoseconds)).abs() / nanos;
        i64::try_from(all.max(1)).unwrap_or(i64::MAX)
    };
    Ok(intervals.iter().map(|value| value.map(whole)).collect())
}

/// A function of the registry that makes no more than it may.
#[derive(Debug)]
struct BoundedFunction {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl PartialEq for BoundedFunction {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for BoundedFunction {}

impl Hash for BoundedFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for BoundedFunction {
    plan::as_inner!(name, aliases, signature);

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.inner().schema_name(args)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.inner().is_strict()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(types)
    }

    /// What it would be made simpler to has no bound: it stays as it is.
    fn simplify(&self, args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        watch::look()?;
        let are_one = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if are_one { 1 } else { args.number_rows };
        if self.growth == Growth::Sought {
            let found = positions(&args, rows)?;
            return match are_one {
                true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)),
                false => Ok(ColumnarValue::Array(found)),
            };
        }
        let bytes = self.growth.bytes(&args.args, rows)?;
        let all = bytes.iter().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        if all <= AT_ONCE_BYTES || are_one {
            watch::make(self.name(), usize::try_from(all).unwrap_or(usize::MAX))?;
            return self.inner.invoke_with_args(args);
        }
        let mut made = Vec::new();
        let mut from = 0;
        for (rows, most) in pieces(&bytes) {
            if rows == 1 && most > PIECE_BYTES {
                watch::make(self.name(), usize::try_from(most).unwrap_or(usize::MAX))?;
            }
            let piece = self.inner.invoke_with_args(piece(&args, from, rows))?.into_array(rows)?;
            watch::make(self.name(), piece.get_array_memory_size())?;
            made.push(piece);
            from += rows;
        }
        let made: Vec<&dyn arrow::array::Array> = made.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&made)?))
    }
}

/// Where the second text stands in the first, in letters from 1; 0 where it does not. DataFusion compares each letter with each.
fn positions(args: &ScalarFunctionArgs, rows: usize) -> Result<ArrayRef> {
    let [text, sought] = args.args.as_slice() else { return internal_err!("strpos takes two texts") };
    let texts = |arg: &ColumnarValue| {
        let is_one = matches!(arg, ColumnarValue::Scalar(_));
        let array = cast(&arg.to_array(if is_one { 1 } else { rows })?, &DataType::LargeUtf8)?;
        Ok::<_, datafusion::error::DataFusionError>((array, is_one))
    };
    let ((text, one_text), (sought, one_sought)) = (texts(text)?, texts(sought)?);
    let (text, sought) = (text.as_string::<i64>(), sought.as_string::<i64>());
    let at = |is_one: bool, row: usize| if is_one { 0 } else { row };
    let mut found: Vec<Option<i64>> = Vec::with_capacity(rows);
    for row in 0..rows {
        let (in_text, in_sought) = (at(one_text, row), at(one_sought, row));
        if text.is_null(in_text) || sought.is_null(in_sought) {
            found.push(None);
            continue;
        }
        let whole = text.value(in_text);
        if whole.len() > LONG_TEXT {
            watch::look()?;
        }
        let before = whole.find(sought.value(in_sought)).and_then(|at| whole.get(..at));
        found.push(Some(before.map_or(0, |before| i64::try_from(before.chars().count() + 1).unwrap_or(i64::MAX))));
    }
    Ok(cast(&Int64Array::from(found), args.return_field.data_type())?)
}

/// Bytes of a text that takes longer to be looked through than somebody who waits is to be asked for.
const LONG_TEXT: usize = 64 << 10;

/// Numbers of rows that come to a piece, with what they come to at most.
fn pieces(bytes: &[u64]) -> Vec<(usize, u64)> {
    let mut out = Vec::new();
    let (mut rows, mut sum) = (0, 0_u64);
    for bytes in bytes {
        if rows > 0 && sum.saturating_add(*bytes) > PIECE_BYTES {
            out.push((rows, sum));
            (rows, sum) = (0, 0);
        }
        rows += 1;
        sum = sum.saturating_add(*bytes);
    }
    out.push((rows, sum));
    out
}

/// The arguments of some rows.
fn piece(args: &ScalarFunctionArgs, from: usize, rows: usize) -> ScalarFunctionArgs {
    let each = args.args.iter().map(|arg| match arg {
        ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    });
    ScalarFunctionArgs {
        args: each.collect(),
        arg_fields: args.arg_fields.clone(),
        number_rows: rows,
        return_field: Arc::clone(&args.return_field),
        config_options: Arc::clone(&args.config_options),
    }
}

/// `||` of two texts, whose types have been made one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TextConcat {
    signature: Signature,
}

impl ScalarUDFImpl for TextConcat {
    fn name(&self) -> &str {
        "||"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [left, right] = args else { return internal_err!("|| has two sides") };
        Ok(format!("{} || {}", left.schema_name(), right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [left, right] if left == right => Ok(left.clone()),
            _ => internal_err!("|| has two sides of one type"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let are_one = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if are_one { 1 } else { args.number_rows };
        let all = Growth::Joined.bytes(&args.args, rows)?.into_iter().fold(0, u64::saturating_add);
        watch::make("||", usize::try_from(all).unwrap_or(usize::MAX))?;
        let [left, right] = args.args.as_slice() else { return internal_err!("|| has two sides") };
        let joined = concat_elements_dyn(&left.to_array(rows)?, &right.to_array(rows)?)?;
        if are_one {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&joined, 0)?));
        }
        Ok(ColumnarValue::Array(joined))
    }
}

/// Large constants are counted where they become columns.
///
/// The rule stands behind all that computes constants. Conditions are left alone: they only look at theirs.
#[derive(Debug)]
pub(crate) struct Constants;

impl OptimizerRule for Constants {
    fn name(&self) -> &str {
        "constants"
    }

    fn apply_order(&self) -> Option<datafusion::optimizer::optimizer::ApplyOrder> {
        Some(datafusion::optimizer::optimizer::ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Sort(_) => {
                with_expressions(plan, constant)
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

fn constant(expr: Expr) -> Transformed<Expr> {
    match expr {
        Expr::Literal(value, metadata) if value.size() >= CONSTANT_BYTES => {
            drop(metadata);
            let function = Constant { value, signature: Signature::nullary(Volatility::Volatile) };
            Transformed::yes(ScalarUDF::new_from_impl(function).call(Vec::new()))
        }
        other => Transformed::no(other),
    }
}

/// A constant as a function of nothing: told how many rows it is for, it is one value still.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    value: ScalarValue,
    signature: Signature,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.value.data_type(), self.value.is_null())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        watch::make("a constant", self.value.size().saturating_mul(args.number_rows))?;
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}
