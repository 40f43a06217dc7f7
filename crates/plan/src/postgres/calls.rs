//! Functions of SQL that are computed row by row: what they take, what they give, and nothing about Arrow.
//!
//! A function has overloads ([`Overload`]), one per list of argument types; the one that costs the fewest conversions is
//! taken, as PostgreSQL does. NULL in gives NULL out unless an overload says that it takes NULLs. A result of a batch has
//! a bound in bytes, since one row may ask for any length.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder,
    IntervalMonthDayNanoBuilder, ListBuilder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float64Type, Int32Type, Int64Type, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;
use regex::Regex;

use super::regexps::Options;
use super::types;

/// Bytes that the results of one batch may take.
const BATCH_BYTES_MAX: usize = 1 << 28;
/// Compiled patterns that a batch keeps.
const PATTERNS_MAX: usize = 64;
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A type of an argument or a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Bool,
    Int4,
    Int8,
    Float,
    Text,
    /// A JSON text of the type that the first argument has: json or jsonb.
    Json,
    /// A JSON text of type jsonb.
    Jsonb,
    Bytes,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Texts,
    /// Arrays of texts.
    TextLists,
    /// A text of type varchar, or char.
    Varchar,
    Char,
    /// A text of type `"char"`.
    OneChar,
    /// The one text of a uuid, of type uuid.
    Uuid,
}

impl Kind {
    fn arrow(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int4 => DataType::Int32,
            Self::Int8 => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text | Self::Json | Self::Jsonb | Self::Varchar | Self::Char | Self::OneChar | Self::Uuid => {
                DataType::Utf8
            }
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            Self::TextLists => DataType::List(Arc::new(Field::new_list_field(Self::Texts.arrow(), true))),
        }
    }

    /// Whether values of a type are of this kind as they are. No type is made for the comparison: it is asked per batch.
    fn is(self, from: &DataType) -> bool {
        match self {
            Self::Bool => matches!(from, DataType::Boolean),
            Self::Int4 => matches!(from, DataType::Int32),
            Self::Int8 => matches!(from, DataType::Int64),
            Self::Float => matches!(from, DataType::Float64),
            Self::Text | Self::Json | Self::Jsonb | Self::Varchar | Self::Char | Self::OneChar | Self::Uuid => {
                matches!(from, DataType::Utf8)
            }
            Self::Bytes => matches!(from, DataType::Binary),
            Self::Date => matches!(from, DataType::Date32),
            Self::Time => matches!(from, DataType::Time64(TimeUnit::Microsecond)),
            Self::Timestamp => matches!(from, DataType::Timestamp(TimeUnit::Microsecond, None)),
            Self::TimestampTz => matches!(from, DataType::Timestamp(TimeUnit::Microsecond, Some(_))),
            Self::Interval => matches!(from, DataType::Interval(IntervalUnit::MonthDayNano)),
            Self::Texts => matches!(from, DataType::List(item) if matches!(item.data_type(), DataType::Utf8)),
            Self::TextLists => matches!(from, DataType::List(item) if Self::Texts.is(item.data_type())),
        }
    }

    /// What it costs to make this of a type; none where it cannot be.
    fn cost(self, from: &DataType) -> Option<u32> {
        use DataType::{Date32, Duration, Float16, Float32, Float64, Int64, Interval, Null, Timestamp, UInt32, Utf8};
        if self.is(from) {
            return Some(0);
        }
        match (self, from) {
            (_, Null) => Some(1),
            (Self::Text | Self::Json | Self::Jsonb, DataType::Utf8View | DataType::LargeUtf8) => Some(0),
            (Self::Bytes, DataType::BinaryView | DataType::LargeBinary) => Some(0),
            (Self::Interval, Interval(_) | Duration(_)) => Some(0),
            (Self::Timestamp, Timestamp(_, None)) | (Self::TimestampTz, Timestamp(_, Some(_))) => Some(0),
            (Self::Time, DataType::Time32(_) | DataType::Time64(_)) => Some(0),
            (Self::Texts, DataType::List(item)) if *item.data_type() == Utf8 || item.data_type().is_null() => Some(0),
            (Self::Int4, DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16) => Some(1),
            // A literal that was not written by hand is of 64 bits.
            (Self::Int4, Int64) => Some(9),
            (Self::Int8, other) if other.is_integer() => Some(2),
            (Self::Float, Float16 | Float32) => Some(1),
            (Self::Float, other) if other.is_integer() || other.is_decimal() => Some(3),
            (Self::TimestampTz, Date32) => Some(2),
            (Self::Timestamp, Date32) => Some(3),
            (Self::TimestampTz, Timestamp(_, None)) => Some(4),
            (Self::Texts | Self::TextLists | Self::Bool, Utf8) => None,
            (_, Utf8) => Some(8),
            (Self::Int4, UInt32 | Float64) => None,
            _ => None,
        }
    }
}

/// One way to call a function.
pub(crate) struct Overload {
    pub(crate) takes: &'static [Kind],
    /// How many of the last arguments may be left out.
    pub(crate) optional: usize,
    /// Whether the last type may be repeated.
    pub(crate) repeats: bool,
    /// Whether NULL arguments give NULL without a call.
    pub(crate) strict: bool,
    pub(crate) gives: Kind,
    pub(crate) run: Run,
}

/// Computes one row.
pub(crate) type Run = fn(&Row<'_>, &mut Out) -> Result<()>;

/// An overload of fixed arguments, none of which may be NULL.
pub(crate) const fn over(takes: &'static [Kind], gives: Kind, run: Run) -> Overload {
    Overload { takes, optional: 0, repeats: false, strict: true, gives, run }
}

/// The same with arguments at the end that may be left out.
pub(crate) const fn with_optional(takes: &'static [Kind], optional: usize, gives: Kind, run: Run) -> Overload {
    Overload { takes, optional, repeats: false, strict: true, gives, run }
}

impl Overload {
    fn kind(&self, at: usize) -> Option<Kind> {
        self.takes.get(at).or_else(|| self.takes.last().filter(|_| self.repeats)).copied()
    }

    fn cost(&self, arguments: &[DataType]) -> Option<u32> {
        let least = self.takes.len() - self.optional;
        if arguments.len() < least || (arguments.len() > self.takes.len() && !self.repeats) {
            return None;
        }
        arguments.iter().enumerate().map(|(at, argument)| self.kind(at)?.cost(argument)).sum()
    }
}

/// A function by its name.
pub(crate) struct Function {
    name: &'static str,
    overloads: &'static [Overload],
    signature: Signature,
}

/// The function of these overloads.
pub(crate) fn function(name: &'static str, overloads: &'static [Overload]) -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::new_from_impl(Function { name, overloads, signature }))
}

impl Function {
    fn chosen(&self, arguments: &[DataType]) -> Result<&'static Overload> {
        let costs = self.overloads.iter().filter_map(|overload| Some((overload.cost(arguments)?, overload)));
        let least = costs.min_by_key(|(cost, _)| *cost);
        let Some((_, overload)) = least else {
            let types: Vec<String> = arguments.iter().map(types::name).collect();
            // The cast is a call of it.
            if let ("numeric" | "uuid", [own]) = (self.name, &types[..]) {
                return plan_err!("cannot cast type {own} to {}", self.name);
            }
            return plan_err!("function {}({}) does not exist", self.name, types.join(", "));
        };
        Ok(overload)
    }

    fn of_rows(&self, arrays: &[ArrayRef], args: &ScalarFunctionArgs) -> Result<ArrayRef> {
        let arrays = arrays.iter().map(|array| plain(Arc::clone(array))).collect::<Result<Vec<ArrayRef>>>()?;
        // Without arguments it is a constant.
        let rows = arrays.first().map_or(1, |array| array.len());
        let types: Vec<DataType> = arrays.iter().map(|array| array.data_type().clone()).collect();
        let overload = self.chosen(&types)?;
        let jsonb = args.return_field.metadata().get(types::KEY).is_some_and(|name| name == types::JSONB);
        let patterns = RefCell::default();
        let own = |field: &FieldRef| types::own_name(field) == Some(types::JSONB);
        let documents: Vec<bool> = args.arg_fields.iter().map(own).collect();
        let mut out = Out::of(overload.gives, rows);
        for row in 0..rows {
            if overload.strict && arrays.iter().any(|array| array.is_null(row)) {
                out.null();
                continue;
            }
            (overload.run)(&Row { arrays: &arrays, row, patterns: &patterns, documents: &documents, jsonb }, &mut out)?;
            if out.bytes > BATCH_BYTES_MAX {
                return exec_err!("out of memory: {}() makes a result that is too large", self.name);
            }
        }
        Ok(out.finish())
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.name).finish_non_exhaustive()
    }
}

/// There is one function of a name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let overload = self.chosen(arguments)?;
        let kinds = (0..arguments.len()).filter_map(|at| overload.kind(at));
        Ok(kinds.map(Kind::arrow).collect())
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.chosen(arguments)?.gives.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let arguments: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let overload = self.chosen(&arguments)?;
        let nullable =
            !overload.strict || args.arg_fields.iter().any(|field| field.is_nullable()) || may_be_null(self.name);
        let field = Field::new(self.name, overload.gives.arrow(), nullable);
        Ok(Arc::new(match overload.gives {
            Kind::Jsonb => types::named(field, types::JSONB),
            Kind::Varchar => types::named(field, types::VARCHAR),
            Kind::Char => types::named(field, types::CHAR),
            Kind::OneChar => types::named(field, types::ONE_CHAR),
            Kind::Uuid => types::named(field, types::UUID),
            Kind::Json => match args.arg_fields.first().and_then(|first| types::own_name(first)) {
                Some(types::JSONB) => types::named(field, types::JSONB),
                _ => types::named(field, types::JSON),
            },
            _ => field,
        }))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(|arrays| self.of_rows(arrays, &args), vec![])(&args.args)
    }
}

/// Texts in the one layout that rows are read in.
fn plain(array: ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Utf8View | DataType::LargeUtf8 => Ok(arrow::compute::cast(&array, &DataType::Utf8)?),
        DataType::BinaryView | DataType::LargeBinary => Ok(arrow::compute::cast(&array, &DataType::Binary)?),
        _ => Ok(array),
    }
}

/// Functions that may give NULL though no argument is NULL.
fn may_be_null(name: &str) -> bool {
    name.contains("path")
        || matches!(name, "json_get" | "json_get_text" | "substring" | "substr" | "regexp_match" | "regexp_substr")
}

/// The arguments of one row.
pub(crate) struct Row<'a> {
    arrays: &'a [ArrayRef],
    row: usize,
    patterns: &'a RefCell<BTreeMap<(String, Options), Regex>>,
    /// Which arguments are jsonb.
    documents: &'a [bool],
    /// Whether the result is a jsonb.
    pub(crate) jsonb: bool,
}

impl<'a> Row<'a> {
    /// Whether an argument is a jsonb.
    pub(crate) fn is_jsonb(&self, at: usize) -> bool {
        self.documents.get(at).copied().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.arrays.len()
    }

    /// Whether an argument was given, and is not NULL.
    pub(crate) fn has(&self, at: usize) -> bool {
        self.arrays.get(at).is_some_and(|array| array.is_valid(self.row))
    }

    pub(crate) fn text(&self, at: usize) -> &'a str {
        match self.arrays[at].as_string_opt::<i32>() {
            Some(texts) => texts.value(self.row),
            None => "",
        }
    }

    pub(crate) fn bytes(&self, at: usize) -> &'a [u8] {
        self.arrays[at].as_binary::<i32>().value(self.row)
    }

    pub(crate) fn int(&self, at: usize) -> i64 {
        let array = &self.arrays[at];
        match array.data_type() {
            DataType::Int32 => i64::from(array.as_primitive::<Int32Type>().value(self.row)),
            _ => array.as_primitive::<Int64Type>().value(self.row),
        }
    }

    pub(crate) fn float(&self, at: usize) -> f64 {
        self.arrays[at].as_primitive::<Float64Type>().value(self.row)
    }

    /// Days since 1970-01-01.
    pub(crate) fn date(&self, at: usize) -> i32 {
        self.arrays[at].as_primitive::<Date32Type>().value(self.row)
    }

    /// Microseconds of a timestamp, with zone or without.
    pub(crate) fn micros(&self, at: usize) -> i64 {
        self.arrays[at].as_primitive::<TimestampMicrosecondType>().value(self.row)
    }

    /// Microseconds since midnight.
    pub(crate) fn time(&self, at: usize) -> i64 {
        self.arrays[at].as_primitive::<Time64MicrosecondType>().value(self.row)
    }

    pub(crate) fn interval(&self, at: usize) -> IntervalMonthDayNano {
        self.arrays[at].as_primitive::<IntervalMonthDayNanoType>().value(self.row)
    }

    pub(crate) fn bool(&self, at: usize) -> bool {
        self.arrays[at].as_boolean().value(self.row)
    }

    /// Whether an argument is an array.
    pub(crate) fn is_list(&self, at: usize) -> bool {
        matches!(self.arrays[at].data_type(), DataType::List(_))
    }

    /// The texts of an array; none for a NULL element.
    pub(crate) fn texts(&self, at: usize) -> Vec<Option<String>> {
        let list = self.arrays[at].as_list::<i32>().value(self.row);
        match list.as_string_opt::<i32>() {
            Some(texts) => texts.iter().map(|text| text.map(str::to_owned)).collect(),
            None => vec![None; list.len()],
        }
    }

    /// The compiled pattern, kept for the other rows of the batch.
    pub(crate) fn pattern(
        &self,
        pattern: &str,
        options: Options,
        translated: impl Fn(&str) -> String,
    ) -> Result<Regex> {
        let key = (pattern.to_owned(), options);
        if let Some(known) = self.patterns.borrow().get(&key) {
            return Ok(known.clone());
        }
        let built = regex::RegexBuilder::new(&translated(pattern))
            .case_insensitive(options.ignores_case)
            // A dot is any character in PostgreSQL, the end of a line too.
            .dot_matches_new_line(!options.keeps_to_lines)
            .multi_line(options.has_line_ends)
            .ignore_whitespace(options.is_spaced)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        let Ok(built) = built else { return exec_err!("invalid regular expression: {pattern}") };
        let mut patterns = self.patterns.borrow_mut();
        if patterns.len() >= PATTERNS_MAX {
            patterns.clear();
        }
        patterns.insert(key, built.clone());
        Ok(built)
    }
}

/// Where results go.
pub(crate) struct Out {
    builder: Builder,
    bytes: usize,
}

enum Builder {
    Bool(BooleanBuilder),
    Int4(Int32Builder),
    Int8(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder, bool),
    Interval(IntervalMonthDayNanoBuilder),
    Texts(ListBuilder<StringBuilder>),
    TextLists(ListBuilder<ListBuilder<StringBuilder>>),
}

impl Out {
    fn of(kind: Kind, rows: usize) -> Self {
        let builder = match kind {
            Kind::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Int4 => Builder::Int4(Int32Builder::with_capacity(rows)),
            Kind::Int8 => Builder::Int8(Int64Builder::with_capacity(rows)),
            Kind::Float => Builder::Float(Float64Builder::with_capacity(rows)),
            Kind::Text | Kind::Json | Kind::Jsonb | Kind::Varchar | Kind::Char | Kind::OneChar | Kind::Uuid => {
                Builder::Text(StringBuilder::new())
            }
            Kind::Bytes => Builder::Bytes(BinaryBuilder::new()),
            Kind::Date => Builder::Date(Date32Builder::with_capacity(rows)),
            Kind::Time => Builder::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            Kind::Timestamp => Builder::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows), false),
            Kind::TimestampTz => Builder::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows), true),
            Kind::Interval => Builder::Interval(IntervalMonthDayNanoBuilder::with_capacity(rows)),
            Kind::Texts => Builder::Texts(ListBuilder::new(StringBuilder::new())),
            Kind::TextLists => Builder::TextLists(ListBuilder::new(ListBuilder::new(StringBuilder::new()))),
        };
        Self { builder, bytes: 0 }
    }

    pub(crate) fn null(&mut self) {
        match &mut self.builder {
            Builder::Bool(b) => b.append_null(),
            Builder::Int4(b) => b.append_null(),
            Builder::Int8(b) => b.append_null(),
            Builder::Float(b) => b.append_null(),
            Builder::Text(b) => b.append_null(),
            Builder::Bytes(b) => b.append_null(),
            Builder::Date(b) => b.append_null(),
            Builder::Time(b) => b.append_null(),
            Builder::Timestamp(b, _) => b.append_null(),
            Builder::Interval(b) => b.append_null(),
            Builder::Texts(b) => b.append_null(),
            Builder::TextLists(b) => b.append_null(),
        }
    }

    pub(crate) fn bool(&mut self, value: bool) -> Result<()> {
        match &mut self.builder {
            Builder::Bool(b) => b.append_value(value),
            _ => return self.wrong(),
        }
        Ok(())
    }

    /// An integer of four or eight bytes, a date, a time or a timestamp by its number.
    pub(crate) fn int(&mut self, value: i64) -> Result<()> {
        let narrow = i32::try_from(value);
        match (&mut self.builder, narrow) {
            (Builder::Int4(b), Ok(value)) => b.append_value(value),
            (Builder::Int4(_), Err(_)) => return exec_err!("integer out of range"),
            (Builder::Date(b), Ok(value)) => b.append_value(value),
            (Builder::Date(_), Err(_)) => return exec_err!("date out of range"),
            (Builder::Int8(b), _) => b.append_value(value),
            (Builder::Time(b), _) => b.append_value(value),
            (Builder::Timestamp(b, _), _) => b.append_value(value),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn float(&mut self, value: f64) -> Result<()> {
        match &mut self.builder {
            Builder::Float(b) => b.append_value(value),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn text(&mut self, value: &str) -> Result<()> {
        self.bytes = self.bytes.saturating_add(value.len());
        match &mut self.builder {
            // Beyond the bound nothing is kept: the caller fails the batch.
            Builder::Text(b) => b.append_value(if self.bytes > BATCH_BYTES_MAX { "" } else { value }),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn some_text(&mut self, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => self.text(value),
            None => {
                self.null();
                Ok(())
            }
        }
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) -> Result<()> {
        self.bytes = self.bytes.saturating_add(value.len());
        match &mut self.builder {
            Builder::Bytes(b) => b.append_value(if self.bytes > BATCH_BYTES_MAX { &[] } else { value }),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn interval(&mut self, value: IntervalMonthDayNano) -> Result<()> {
        match &mut self.builder {
            Builder::Interval(b) => b.append_value(value),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn texts(&mut self, values: &[Option<&str>]) -> Result<()> {
        self.bytes = values.iter().flatten().fold(self.bytes, |sum, text| sum.saturating_add(text.len() + 4));
        match &mut self.builder {
            Builder::Texts(b) if self.bytes > BATCH_BYTES_MAX => b.append_value(std::iter::empty::<Option<&str>>()),
            Builder::Texts(b) => b.append_value(values.iter().copied()),
            _ => return self.wrong(),
        }
        Ok(())
    }

    pub(crate) fn text_lists(&mut self, lists: &[Vec<Option<&str>>]) -> Result<()> {
        let texts = lists.iter().flatten().flatten();
        self.bytes = texts.fold(self.bytes, |sum, text| sum.saturating_add(text.len() + 8));
        let Builder::TextLists(b) = &mut self.builder else { return self.wrong() };
        if self.bytes <= BATCH_BYTES_MAX {
            lists.iter().for_each(|list| b.values().append_value(list.iter().copied()));
        }
        b.append(true);
        Ok(())
    }

    fn wrong(&self) -> Result<()> {
        exec_err!("a function gave a value of another type than its own")
    }

    fn finish(self) -> ArrayRef {
        match self.builder {
            Builder::Bool(mut b) => Arc::new(b.finish()),
            Builder::Int4(mut b) => Arc::new(b.finish()),
            Builder::Int8(mut b) => Arc::new(b.finish()),
            Builder::Float(mut b) => Arc::new(b.finish()),
            Builder::Text(mut b) => Arc::new(b.finish()),
            Builder::Bytes(mut b) => Arc::new(b.finish()),
            Builder::Date(mut b) => Arc::new(b.finish()),
            Builder::Time(mut b) => Arc::new(b.finish()),
            Builder::Timestamp(mut b, false) => Arc::new(b.finish()),
            Builder::Timestamp(mut b, true) => Arc::new(b.finish().with_timezone("UTC")),
            Builder::Interval(mut b) => Arc::new(b.finish()),
            Builder::Texts(mut b) => Arc::new(b.finish()),
            Builder::TextLists(mut b) => Arc::new(b.finish()),
        }
    }
}
