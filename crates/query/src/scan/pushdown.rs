//! From conditions to keys: equalities on leading key columns become point reads or prefixes, a comparison on the next
//! one bounds them.
//!
//! What is found here only narrows the read. Every condition is evaluated again on the rows, so a bound may be too wide
//! and never too narrow: a literal that the column's type cannot hold exactly is left alone, and so are floats, whose
//! key order differs from SQL's at zero and NaN.

use std::cmp::Ordering;
use std::ops::Bound;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use relation::key::{KEY_BYTES, KeyEncoder, LONG_PART};
use relation::{DataType, Schema};

/// Reads by prefix or point at most this many; beyond it, what leads them is scanned.
const PREFIXES_MAX: usize = 1000;

/// Bytes of one column's part of a key: a text whose zero bytes are all escaped, its marks and a hash.
const COLUMN_BYTES_MAX: usize = 1 + 2 * LONG_PART + 2 + 16;

/// The part of a table's keys that a read touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// These whole keys, in order.
    Points(Vec<Vec<u8>>),
    /// These ranges, in order, none overlapping another.
    Ranges(Vec<KeyRange>),
}

/// Keys between two bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Bound<Vec<u8>>,
    pub(crate) to: Bound<Vec<u8>>,
}

impl Access {
    /// The whole table.
    pub(crate) fn all() -> Self {
        Self::Ranges(vec![KeyRange { from: Bound::Unbounded, to: Bound::Unbounded }])
    }

    /// Whether it is the whole table.
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::all()
    }
}

/// What conditions say about one key column.
#[derive(Debug, Default)]
struct Limits {
    /// Encoded values that it must be one of, sorted.
    one_of: Option<Vec<Vec<u8>>>,
    /// Encoded value, and whether it is itself included.
    low: Option<(Vec<u8>, bool)>,
    high: Option<(Vec<u8>, bool)>,
}

impl Limits {
    fn is_free(&self) -> bool {
        self.one_of.is_none() && self.low.is_none() && self.high.is_none()
    }
}

/// The keys that can satisfy all conditions.
pub(crate) fn access(schema: &Schema, filters: &[Expr]) -> Access {
    let mut prefixes = vec![Vec::new()];
    for (position, &column) in schema.key.iter().enumerate() {
        // Behind so many bytes a key may be cut: what it holds there is a hash.
        if prefixes.iter().any(|prefix| prefix.len() + COLUMN_BYTES_MAX > KEY_BYTES) {
            return Access::Ranges(bounded(&prefixes, &Limits::default()));
        }
        let limits = limits_of(schema, column, filters);
        match limits.one_of {
            Some(values) if prefixes.len() * values.len() <= PREFIXES_MAX => prefixes = product(&prefixes, &values),
            _ if limits.low.is_some() || limits.high.is_some() => return Access::Ranges(bounded(&prefixes, &limits)),
            _ if position == 0 => return Access::all(),
            _ => return Access::Ranges(bounded(&prefixes, &Limits::default())),
        }
    }
    if schema.key.is_empty() { Access::all() } else { Access::Points(prefixes) }
}

/// The key whose columns have these values; none where it does not say all of them, or no key is equal to them.
pub(crate) fn whole_key(schema: &Schema, values: &[&ScalarValue]) -> Option<Vec<u8>> {
    let mut key = Vec::new();
    for (&column, value) in schema.key.iter().zip(values) {
        let data_type = schema.columns[column].data_type;
        let is_cut = key.len() + COLUMN_BYTES_MAX > KEY_BYTES || data_type.is_variable() && is_long(value);
        if is_cut || data_type.has_equal_forms() {
            return None;
        }
        key.append(&mut encode(data_type, value)?);
    }
    (values.len() == schema.key.len()).then_some(key)
}

/// Whether a condition narrows the read of some key column.
pub(crate) fn is_useful(schema: &Schema, filter: &Expr) -> bool {
    schema.key.iter().any(|&column| !limits_of(schema, column, std::slice::from_ref(filter)).is_free())
}

fn product(prefixes: &[Vec<u8>], values: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::with_capacity(prefixes.len() * values.len());
    for prefix in prefixes {
        out.extend(values.iter().map(|value| [prefix.as_slice(), value.as_slice()].concat()));
    }
    out.sort_unstable();
    out
}

fn bounded(prefixes: &[Vec<u8>], limits: &Limits) -> Vec<KeyRange> {
    let range = |prefix: &Vec<u8>| {
        let joined = |value: &Vec<u8>| [prefix.as_slice(), value.as_slice()].concat();
        let from = match &limits.low {
            Some((value, true)) => Bound::Included(joined(value)),
            Some((value, false)) => after_prefix(joined(value)),
            None => Bound::Included(prefix.clone()),
        };
        let to = match &limits.high {
            Some((value, true)) => before(after_prefix(joined(value))),
            Some((value, false)) => Bound::Excluded(joined(value)),
            None => before(after_prefix(prefix.clone())),
        };
        KeyRange { from, to }
    };
    prefixes.iter().map(range).filter(|range| !is_empty(range)).collect()
}

fn is_empty(range: &KeyRange) -> bool {
    match (&range.from, &range.to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from.cmp(to) != Ordering::Less
        }
        _ => false,
    }
}

/// The least key that is behind all keys with this prefix.
fn after_prefix(mut prefix: Vec<u8>) -> Bound<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return Bound::Included(prefix);
        }
    }
    Bound::Unbounded
}

fn before(bound: Bound<Vec<u8>>) -> Bound<Vec<u8>> {
    match bound {
        Bound::Included(key) => Bound::Excluded(key),
        other => other,
    }
}

fn limits_of(schema: &Schema, column: usize, filters: &[Expr]) -> Limits {
    let mut limits = Limits::default();
    let data_type = schema.columns[column].data_type;
    if matches!(data_type, DataType::Float32 | DataType::Float64) {
        return limits;
    }
    for filter in filters {
        narrow(&mut limits, data_type, &schema.columns[column].name, filter);
    }
    limits
}

fn narrow(limits: &mut Limits, data_type: DataType, name: &str, filter: &Expr) {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            narrow(limits, data_type, name, left);
            narrow(limits, data_type, name, right);
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let both = any_of(data_type, name, left).zip(any_of(data_type, name, right));
            if let Some((left, right)) = both {
                limit_to(limits, [left, right].concat());
            }
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let Some((op, value)) = comparison(name, left, *op, right) {
                compare(limits, data_type, op, value);
            }
        }
        Expr::Column(_) | Expr::Not(_) | Expr::InList(_) => {
            if let Some(values) = any_of(data_type, name, filter) {
                limit_to(limits, values);
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_column(expr, name) => {
            if let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low.as_ref(), high.as_ref()) {
                compare(limits, data_type, Operator::GtEq, low);
                compare(limits, data_type, Operator::LtEq, high);
            }
        }
        _ => {}
    }
}

/// `column op literal`, also where it is written the other way round.
fn comparison<'a>(name: &str, left: &'a Expr, op: Operator, right: &'a Expr) -> Option<(Operator, &'a ScalarValue)> {
    match (left, right) {
        (column, Expr::Literal(value, _)) if is_column(column, name) => Some((op, value)),
        (Expr::Literal(value, _), column) if is_column(column, name) => Some((op.swap()?, value)),
        _ => None,
    }
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.name == name)
}

/// The values that a disjunction of equalities admits.
fn any_of(data_type: DataType, name: &str, filter: &Expr) -> Option<Vec<Vec<u8>>> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            Some([any_of(data_type, name, left)?, any_of(data_type, name, right)?].concat())
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match comparison(name, left, *op, right)? {
            (Operator::Eq, value) => Some(vec![encode(data_type, value)?]),
            _ => None,
        },
        column if is_column(column, name) => Some(vec![encode(data_type, &ScalarValue::from(true))?]),
        Expr::Not(inner) if is_column(inner, name) => Some(vec![encode(data_type, &ScalarValue::from(false))?]),
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr, name) => {
            let values = list.iter().map(|item| match item {
                Expr::Literal(value, _) => encode(data_type, value),
                _ => None,
            });
            values.collect()
        }
        _ => None,
    }
}

fn limit_to(limits: &mut Limits, mut values: Vec<Vec<u8>>) {
    values.sort_unstable();
    values.dedup();
    match &mut limits.one_of {
        Some(known) => known.retain(|value| values.contains(value)),
        None => limits.one_of = Some(values),
    }
}

fn compare(limits: &mut Limits, data_type: DataType, op: Operator, value: &ScalarValue) {
    let Some(key) = encode(data_type, value) else { return };
    match op {
        Operator::Eq => limit_to(limits, vec![key]),
        Operator::Gt | Operator::GtEq if is_ordered(data_type, value) => {
            let bound = (key, op == Operator::GtEq);
            if limits.low.as_ref().is_none_or(|known| known.0 < bound.0) {
                limits.low = Some(bound);
            }
        }
        Operator::Lt | Operator::LtEq if is_ordered(data_type, value) => {
            let bound = (key, op == Operator::LtEq);
            if limits.high.as_ref().is_none_or(|known| known.0 > bound.0) {
                limits.high = Some(bound);
            }
        }
        _ => {}
    }
}

/// Whether keys around this value lie in SQL's order: the tail of a long text is a hash.
fn is_ordered(data_type: DataType, value: &ScalarValue) -> bool {
    !data_type.is_variable() || !is_long(value)
}

/// Whether a key has only a part of it, and a hash.
fn is_long(value: &ScalarValue) -> bool {
    let length = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            text.len()
        }
        ScalarValue::Binary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => bytes.len(),
        _ => 0,
    };
    length >= LONG_PART
}

/// The key part of a value; none where the column's type cannot hold it exactly, and for NULL, which equals nothing.
fn encode(data_type: DataType, value: &ScalarValue) -> Option<Vec<u8>> {
    if value.is_null() {
        return None;
    }
    let held = value.cast_to(&data_type.to_arrow()).ok()?;
    if held.is_null() || held.cast_to(&value.data_type()).ok()? != *value {
        return None;
    }
    let encoder = KeyEncoder::new(vec![(held.to_array().ok()?, data_type)]);
    let mut key = Vec::new();
    encoder.push(0, &mut key);
    Some(key)
}
