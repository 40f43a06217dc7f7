//! Errors as a Postgres client expects them: a SQLSTATE code, a message, and where it helps a detail and a hint.
//!
//! DataFusion reports what went wrong inside; this file says it in the words and codes that drivers and people know.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// SQLSTATE codes that answers carry.
pub mod code {
    pub const SYNTAX: &str = "42601";
    pub const UNKNOWN_TABLE: &str = "42P01";
    pub const UNKNOWN_SCHEMA: &str = "3F000";
    pub const UNKNOWN_NAME: &str = "42704";
    pub const UNKNOWN_COLUMN: &str = "42703";
    pub const AMBIGUOUS_COLUMN: &str = "42702";
    pub const UNKNOWN_FUNCTION: &str = "42883";
    pub const DATATYPE_MISMATCH: &str = "42804";
    pub const GROUPING: &str = "42803";
    pub const SYNTAX_OR_RULE: &str = "42000";
    pub const READ_ONLY: &str = "25006";
    pub const LIMIT_EXCEEDED: &str = "54000";
    pub const TOO_COMPLEX: &str = "54001";
    pub const TOO_MANY: &str = "53300";
    pub const SHUTDOWN: &str = "57P01";
    pub const OUT_OF_MEMORY: &str = "53200";
    pub const CANCELLED: &str = "57014";
    pub const NOT_GRANTED: &str = "42501";
    pub const NOT_READY: &str = "55000";
    pub const NOT_SUPPORTED: &str = "0A000";
    pub const WRONG_OBJECT: &str = "42809";
    pub const DATA: &str = "22000";
    pub const DIVISION_BY_ZERO: &str = "22012";
    pub const OUT_OF_RANGE: &str = "22003";
    pub const INVALID_TEXT: &str = "22P02";
    pub const INVALID_DATETIME: &str = "22007";
    pub const DATETIME_OVERFLOW: &str = "22008";
    pub const CARDINALITY: &str = "21000";
    pub const INVALID_PATTERN: &str = "2201B";
    pub const INVALID_PARAMETER: &str = "22023";
    pub const PARAMETER: &str = "08P01";
    pub const INTERNAL: &str = "XX000";
    pub const IO: &str = "58030";
}

/// What a query that cannot be answered yields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// SQLSTATE, five characters.
    pub code: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Line and column (from 1) in the text of the query, where known.
    pub position: Option<(u64, u64)>,
}

/// Shorthand of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a code with a message.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// The same with a detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a hint: the reader's next move.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The client asked to stop the query.
    pub fn cancelled() -> Self {
        Self::new(code::CANCELLED, "canceling statement due to user request")
    }

    /// What is asked for is known and cannot be read yet (`model x is being built`).
    pub fn not_ready(message: impl Into<String>) -> Self {
        Self::new(code::NOT_READY, message)
    }

    /// A bug of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(code::INTERNAL, message)
    }

    /// Wraps it for the way through DataFusion; [`Error::from`] unwraps it at the other end.
    pub(crate) fn into_datafusion(self) -> DataFusionError {
        DataFusionError::External(Box::new(self))
    }
}

impl From<relation::Error> for Error {
    fn from(error: relation::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        from_datafusion(&error)
    }
}

fn from_datafusion(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => from_datafusion(inner),
        DataFusionError::Shared(inner) => from_datafusion(inner),
        DataFusionError::Collection(errors) => {
            errors.first().map_or_else(|| Error::internal("a query failed without a reason"), from_datafusion)
        }
        DataFusionError::External(inner) => from_external(inner.as_ref()),
        DataFusionError::SQL(error, _) => syntax(error),
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ResourcesExhausted(text) => out_of_memory(text),
        DataFusionError::NotImplemented(text) | DataFusionError::Internal(text) if plan::shows_insides(text) => {
            plan::reworded(text).map_or_else(|| Error::internal(plan::in_sql(text)), told)
        }
        DataFusionError::NotImplemented(text) => match plan::reworded(text) {
            Some(reworded) => told(reworded),
            None => Error::new(code::NOT_SUPPORTED, format!("not supported: {}", plan::in_sql(&first_line(text)))),
        },
        DataFusionError::Plan(text) => plan(text),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::IoError(error) => Error::new(code::IO, error.to_string()),
        other => Error::internal(plan::in_sql(&other.strip_backtrace())),
    }
}

/// An error with what is written instead of what it refuses for its types.
fn with_instead(error: Error) -> Error {
    match plan::instead_of_types(&error.message) {
        Some(instead) => error.hint(instead),
        None => error,
    }
}

fn told(reworded: plan::Reworded) -> Error {
    let error = Error::new(reworded.code, reworded.message);
    if reworded.hint.is_empty() { with_instead(error) } else { error.hint(reworded.hint) }
}

fn from_external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return ours.clone();
    }
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return from_datafusion(inner);
    }
    if let Some(inner) = error.downcast_ref::<ArrowError>() {
        return arrow(inner);
    }
    Error::internal(error.to_string())
}

/// `Expected: X, found: Y at Line: 1, Column: 8` in Postgres' words.
pub(crate) fn syntax(error: &ParserError) -> Error {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let (text, position) = split_position(text);
    // The parser shows a token as it keeps it.
    let word =
        text.split_once("No infix parser for token Word(Word { value: \"").and_then(|(_, rest)| rest.split('"').next());
    let text = &word.map_or_else(|| text.to_owned(), |word| format!("Expected: an operator, found: {word}"));
    let mut out = match text.split_once(", found: ") {
        Some((_, found)) if found.eq_ignore_ascii_case("exclude") => Error::new(code::NOT_SUPPORTED, plan::NO_EXCLUDE),
        Some((_, "EOF")) => Error::new(code::SYNTAX, "syntax error at end of input").detail(format!("{text}.")),
        Some((_, found)) => {
            Error::new(code::SYNTAX, format!("syntax error at or near \"{found}\"")).detail(format!("{text}."))
        }
        None => Error::new(code::SYNTAX, format!("syntax error: {text}")),
    };
    out.position = position;
    out
}

fn split_position(text: &str) -> (&str, Option<(u64, u64)>) {
    let Some((head, at)) = text.rsplit_once(" at Line: ") else { return (text, None) };
    let mut numbers = at.split(", Column: ").map(|n| n.trim().parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(line), Some(column)) => (head, Some((line, column))),
        _ => (text, None),
    }
}

fn schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => unknown_column(field, valid_fields),
        SchemaError::AmbiguousReference { field } => {
            Error::new(code::AMBIGUOUS_COLUMN, format!("column reference \"{}\" is ambiguous", field.name))
                .hint("Write it with its table: table.column.")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::new(code::AMBIGUOUS_COLUMN, format!("column \"{name}\" is specified more than once"))
                .hint("Give one of them another name: AS.")
        }
    }
}

fn unknown_column(field: &Column, valid: &[Column]) -> Error {
    if let Some(reworded) = plan::refused_name(&field.name) {
        return told(reworded);
    }
    if let Some(table) = &field.relation
        && !valid.is_empty()
        // A subquery that has been made a join is of no table that was written.
        && !valid.iter().any(|known| known.relation.as_ref().is_some_and(|of| of.table().starts_with("__")))
        && valid.iter().all(|known| known.relation.as_ref().is_none_or(|of| of.table() != table.table()))
    {
        let missing = format!("missing FROM-clause entry for table \"{}\"", table.table());
        return Error::new(code::UNKNOWN_TABLE, missing);
    }
    let missing = Error::new(code::UNKNOWN_COLUMN, format!("column \"{}\" does not exist", field.flat_name()));
    let names: Vec<&str> = valid.iter().map(|column| column.name.as_str()).collect();
    match closest(&field.name, &names) {
        Some(at) => missing.hint(format!("Perhaps you meant to reference the column \"{}\".", valid[at].flat_name())),
        None if valid.is_empty() || valid.len() > 20 => missing,
        None => missing.hint(format!("There are: {}.", names.join(", "))),
    }
}

fn arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(code::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(_) => Error::new(code::OUT_OF_RANGE, "value out of range"),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => invalid_text(text),
        ArrowError::ExternalError(inner) => from_external(inner.as_ref()),
        ArrowError::MemoryError(text) => out_of_memory(text),
        ArrowError::InvalidArgumentError(text) if text.contains("too large to store in a Decimal") => {
            Error::new(code::OUT_OF_RANGE, format!("numeric field overflow: {}", plan::in_sql(text)))
        }
        ArrowError::ComputeError(text) if text.to_ascii_lowercase().contains("overflow") => {
            Error::new(code::OUT_OF_RANGE, format!("value out of range: {}", plan::in_sql(text)))
        }
        other => Error::new(code::DATA, plan::in_sql(&other.to_string())),
    }
}

/// `Cannot cast string 'abc' to value of Int32 type`, `Can't cast value 70000 to type Int16`, and what else does not read.
fn invalid_text(text: &str) -> Error {
    if let Some((value, arrow)) =
        text.strip_prefix("Cannot cast string '").and_then(|rest| rest.rsplit_once("' to value of "))
    {
        let data_type = plan::in_sql(arrow.trim_end_matches(" type"));
        return Error::new(code::INVALID_TEXT, format!("invalid input syntax for type {data_type}: \"{value}\""));
    }
    if let Some((_, arrow)) = text.strip_prefix("Can't cast value ").and_then(|rest| rest.rsplit_once(" to type ")) {
        return Error::new(code::OUT_OF_RANGE, format!("{} out of range", plan::in_sql(arrow)));
    }
    if let Some((value, _)) =
        text.strip_prefix("Error parsing timestamp from '").and_then(|rest| rest.rsplit_once("': "))
    {
        return Error::new(code::INVALID_DATETIME, format!("invalid input syntax for type timestamp: \"{value}\""));
    }
    if text.contains("verflow") || text.contains("out of range") {
        return Error::new(code::OUT_OF_RANGE, plan::in_sql(text));
    }
    Error::new(code::INVALID_TEXT, plan::in_sql(text))
}

fn out_of_memory(text: &str) -> Error {
    Error::new(code::OUT_OF_MEMORY, "out of memory: the query needs more than queries may use")
        .detail(format!("{}.", first_line(text).trim_end_matches('.')))
        .hint("Narrow it with WHERE, aggregate before joining, or raise `memory` in profiles.yml.")
}

fn plan(text: &str) -> Error {
    if let Some((_, own)) = text.split_once(plan::COERCION) {
        return plan(plan::of_types(text).unwrap_or(own));
    }
    let line = first_line(text);
    if let Some(rest) = line.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or(rest);
        if plan::functions().window.contains_key(name) {
            return Error::new("42809", format!("window function {name} requires an OVER clause"));
        }
        if let Some(instead) = plan::instead_of_lacking(name) {
            return Error::new(code::NOT_SUPPORTED, format!("function {name} is not supported")).hint(instead);
        }
        let missing = Error::new(code::UNKNOWN_FUNCTION, format!("function {name} does not exist"));
        if let Some(instead) = plan::instead_of_function(name).or_else(|| plan::instead_of_call(name)) {
            return missing.hint(instead);
        }
        let suggestion = text.split("Did you mean '").nth(1).and_then(|s| s.split('\'').next());
        return match suggestion.filter(|other| closest(name, &[*other]).is_some()) {
            Some(other) => missing.hint(format!("Perhaps you meant {other}.")),
            None => missing,
        };
    }
    if let Some((_, call)) = line.split_once("No function matches the given name and argument types '") {
        let call = call.split('\'').next().unwrap_or(call);
        let missing = with_instead(Error::new(code::UNKNOWN_FUNCTION, plan::no_such(&plan::in_sql(call))));
        return match missing.hint {
            Some(_) => missing,
            None => missing.hint("No function of that name takes these types. Cast the arguments."),
        };
    }
    if let Some((_, rest)) = line.split_once("Projections require unique expression names but the expression \"") {
        let column = rest.split('"').next().unwrap_or(rest);
        let name = column.rsplit_once(" AS ").map_or(column, |(_, alias)| alias);
        return Error::new(code::AMBIGUOUS_COLUMN, format!("column \"{name}\" is specified more than once"))
            .hint("Give one of them another name: AS.");
    }
    if let Some((before, _)) = line.split_once("\" must appear in the GROUP BY") {
        let column = before.rsplit('"').next().unwrap_or_default();
        let text = "must appear in the GROUP BY clause or be used in an aggregate function";
        return Error::new(code::GROUPING, format!("column \"{column}\" {text}"));
    }
    if let Some(reworded) = plan::reworded(&line) {
        return told(reworded);
    }
    let lower = line.to_ascii_lowercase();
    let code = if let Some(code) = of_statement(&line) {
        code
    } else if lower.contains("placeholder") || lower.contains("parameter") {
        code::PARAMETER
    } else if lower.contains("function") {
        code::UNKNOWN_FUNCTION
    } else if ["coerc", "cast", "comparison", "data type", "types"].iter().any(|word| lower.contains(word)) {
        code::DATATYPE_MISMATCH
    } else {
        code::SYNTAX_OR_RULE
    };
    with_instead(Error::new(code, plan::in_sql(&line)))
}

/// The code of what the planner says of a statement's parts.
fn of_statement(line: &str) -> Option<&'static str> {
    let found = |parts: &[&str]| parts.iter().any(|part| line.contains(part));
    Some(match line {
        _ if line.contains("Source table contains") => "42P10",
        _ if found(&["The subquery should only return one column", "SELECT * with no tables specified"]) => {
            code::SYNTAX
        }
        _ if line.starts_with("LIMIT must be >=") => "2201W",
        _ if line.starts_with("OFFSET must be >=") => "2201X",
        _ if found(&[
            "must be boolean type",
            "filter with non-boolean predicate",
            "requires a boolean expression",
            "for logical boolean operation",
            "must be type boolean",
            "cannot be matched",
        ]) =>
        {
            code::DATATYPE_MISMATCH
        }
        _ if found(&["operator does not exist", "unnest() can only be applied"]) => code::UNKNOWN_FUNCTION,
        _ if line.starts_with("cannot cast type ") => "42846",
        _ if line.contains("requires array on right side") => "42809",
        _ if line.starts_with("WITH query name") => "42712",
        _ if line.starts_with("Invalid window frame") => "42P20",
        _ if line.starts_with("Invalid qualifier") => code::UNKNOWN_TABLE,
        _ if found(&["Aggregate functions are not allowed", "Aggregate function calls cannot be nested"]) => {
            code::GROUPING
        }
        _ if found(&["Decimal(precision", "no built-in encoding"]) => code::INVALID_PARAMETER,
        _ => return None,
    })
}

fn execution(text: &str) -> Error {
    if let Some((_, own)) = text.split_once(plan::COERCION) {
        return plan(plan::of_types(text).unwrap_or(own));
    }
    let line = first_line(text);
    let lower = line.to_ascii_lowercase();
    let code = if lower.contains("divide by zero") || lower.contains("division by zero") {
        return Error::new(code::DIVISION_BY_ZERO, "division by zero");
    } else if line.starts_with("step can't be 0") {
        return Error::new(code::INVALID_PARAMETER, "step size cannot equal zero");
    } else if line.starts_with("Scalar subquery returned more than one row") {
        return Error::new(code::CARDINALITY, plan::SEVERAL_ROWS);
    } else if let Some(code) = of_value(&line) {
        code
    } else if lower.contains("overflow") || lower.contains("out of range") {
        code::OUT_OF_RANGE
    } else if lower.contains("parsing") || lower.contains("cast") {
        code::INVALID_TEXT
    } else {
        code::DATA
    };
    Error::new(code, plan::in_sql(&line))
}

/// What functions say of an argument that they cannot have.
const IMPOSSIBLE: [&str; 21] = [
    "character number must be positive",
    "arguments for format()",
    "format() type specifier",
    "invalid regular expression option",
    "does not support the \"global\" option",
    "invalid value for parameter",
    "new bit must be",
    "cannot cast jsonb ",
    "field position must not be zero",
    "cannot get array length of",
    "cannot extract elements from",
    "cannot deconstruct",
    "cannot set path in scalar",
    "cannot replace existing key",
    "argument list must have even number",
    "cannot be null",
    "Failed to decode value",
    "invalid hexadecimal",
    "step size cannot equal zero",
    "length for type must be",
    "invalid Unicode scalar value",
];

/// The code of what our own functions say of a value.
fn of_value(line: &str) -> Option<&'static str> {
    let of_time = ["date:", "timestamp", "time:", "interval:"];
    if let Some(rest) = line.strip_prefix("invalid input syntax for type ") {
        let is_time = of_time.iter().any(|name| rest.starts_with(name));
        return Some(if is_time { code::INVALID_DATETIME } else { code::INVALID_TEXT });
    }
    Some(match line {
        _ if line.starts_with("malformed array literal") => code::INVALID_TEXT,
        _ if line.contains(" not supported") => code::NOT_SUPPORTED,
        _ if line.starts_with("timestamps cannot be binned") => code::NOT_SUPPORTED,
        _ if line.starts_with("null character not") || line.starts_with("requested character") => code::LIMIT_EXCEEDED,
        _ if line.starts_with("input is out of range") => code::OUT_OF_RANGE,
        _ if line.starts_with("index ") && line.contains("out of valid range") => "2202E",
        _ if line.starts_with("interval field value out of range") => "22015",
        _ if line.contains("field value out of range") => code::DATETIME_OVERFLOW,
        _ if line.contains("negative substring length") || line.starts_with("overlay start position") => "22011",
        _ if line.starts_with("lower bound cannot equal") || line.starts_with("count must be greater") => "2201G",
        _ if line.starts_with("NTILE requires") => "22014",
        _ if line.starts_with("factorial of") => code::OUT_OF_RANGE,
        _ if IMPOSSIBLE.iter().any(|part| line.contains(part)) => code::INVALID_PARAMETER,
        _ if line.starts_with("timestamp out of range") || line.starts_with("date out of range") => {
            code::DATETIME_OVERFLOW
        }
        _ if line.starts_with("interval out of range") => code::DATETIME_OVERFLOW,
        _ if line.contains("a date that no calendar has") => code::DATETIME_OVERFLOW,
        _ if line.starts_with("invalid value \"") => code::INVALID_DATETIME,
        _ if line.starts_with("invalid regular expression") => code::INVALID_PATTERN,
        _ if line.starts_with("invalid byte sequence") => "22021",
        _ if line.starts_with("encoding \"") => code::NOT_SUPPORTED,
        _ if line.starts_with("could not find jsonpath variable") => code::UNKNOWN_NAME,
        _ if line.starts_with("thresholds array") => "22004",
        _ if line.starts_with("time zone \"") || line.starts_with("unit \"") => code::INVALID_PARAMETER,
        _ if line.starts_with(plan::SEVERAL_ROWS) => code::CARDINALITY,
        _ if line.starts_with("cannot take square root") || line.contains(" power ") => "2201F",
        _ if line.starts_with("cannot take logarithm") => "2201E",
        _ if line.starts_with("out of memory: ") => code::OUT_OF_MEMORY,
        _ => return None,
    })
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").trim().to_owned()
}

/// Position of the name most like `wanted`; none when nothing is alike (more than a third of its letters differ).
pub(crate) fn closest(wanted: &str, names: &[&str]) -> Option<usize> {
    let wanted = wanted.to_lowercase();
    let best = names.iter().enumerate().map(|(i, name)| (distance(&wanted, &name.to_lowercase()), i)).min()?;
    (best.0 <= wanted.chars().count().div_ceil(3)).then_some(best.1)
}

/// Levenshtein's distance, in letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
