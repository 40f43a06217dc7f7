//! Dates that no calendar has ([`relation::unreal`]) in SQL: each is PostgreSQL's `-infinity`.
//!
//! Days that stand for such dates are of no year that a function knows, so it would fail on them or take them for days of
//! a year long ago. Functions of our own ([`crate::postgres`]) know them. For the others, after the agreement on types,
//! wherever a date or a timestamp is cast or taken apart it goes through a function of this module, in the one plan that
//! build, upkeep, recomputation and queries share:
//!
//! | expression | with `-infinity` |
//! | --- | --- |
//! | `x::text` | `-infinity`, which is also read |
//! | `x ± interval`, `date_trunc`, `date_bin`, `at time zone` | `-infinity`, the first of them, so that they are one group |
//! | `timestamp::date`, `timestamp::timestamptz` | the same date |
//! | `date_part('epoch', …)` | `-Infinity`; other parts are NULL, as `extract`, `to_char` and `x::time` are |
//! | `x - y`, casts to numbers, all other functions of times | an error, which sets a model's row aside |
//!
//! Comparisons, groups, `min` and `max` need nothing: such dates are before all others.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Date32Type, Field, FieldRef, TimeUnit, TimestampMicrosecondType};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, cast,
};
use datafusion_functions::utils::make_scalar_function;
use relation::unreal;

const DAY_US: i64 = 86_400_000_000;

/// The analyser's rule; it stands after the agreement on types.
pub(crate) fn analysed(plan: LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let inputs = plan.inputs();
    let schema = if inputs.is_empty() { plan.schema().as_ref().clone() } else { merge_schema(&inputs) };
    // An order has no names.
    let names = (!matches!(plan, LogicalPlan::Sort(_))).then(|| NamePreserver::new(&plan));
    let made = plan.map_expressions(|expr| {
        let name = names.as_ref().map(|names| names.save(&expr));
        let made = expr.transform_up(|part| rewritten(part, &schema))?;
        Ok(match name {
            Some(name) if made.transformed => made.update_data(|expr| name.restore(expr)),
            _ => made,
        })
    })?;
    if made.transformed { made.map_data(LogicalPlan::recompute_schema) } else { Ok(made) }
}

/// What has become of an expression.
enum Change {
    Nothing,
    Made,
    /// It is this.
    Is(Expr),
}

/// One expression whose parts are right already.
fn rewritten(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let change = match &mut expr {
        Expr::Cast(to) => of_cast(&mut to.expr, to.field.data_type(), schema, Change::fails)?,
        Expr::TryCast(to) => of_cast(&mut to.expr, to.field.data_type(), schema, |expr, _| Change::null(expr))?,
        Expr::ScalarFunction(call) => of_function(call, schema),
        _ => Change::Nothing,
    };
    Ok(match change {
        Change::Nothing => Transformed::no(expr),
        Change::Made => Transformed::yes(expr),
        Change::Is(other) => Transformed::yes(other),
    })
}

impl Change {
    /// Puts NULL in place of such dates.
    fn null(expr: &mut Expr) -> Self {
        *expr = called(Work::RealOrNull, vec![std::mem::take(expr)]);
        Self::Made
    }

    /// Lets such dates fail.
    fn fails(expr: &mut Expr, schema: &DFSchema) -> Self {
        if !may_be_unreal(expr, schema) {
            return Self::Nothing;
        }
        *expr = called(Work::Real, vec![std::mem::take(expr)]);
        Self::Made
    }

    fn or(self, other: Self) -> Self {
        if matches!(self, Self::Nothing) { other } else { self }
    }
}

/// A cast from a date or a timestamp; `otherwise` is what becomes of one that has no answer.
fn of_cast(
    from: &mut Expr,
    to: &DataType,
    schema: &DFSchema,
    otherwise: impl Fn(&mut Expr, &DFSchema) -> Change,
) -> Result<Change> {
    use DataType::{Date32, LargeUtf8, Time32, Time64, Timestamp, Utf8, Utf8View};
    if !may_be_unreal(from, schema) {
        return Ok(Change::Nothing);
    }
    let in_utc = |zone: &Option<Arc<str>>| zone.as_deref().is_none_or(|zone| matches!(zone, "UTC" | "+00:00"));
    Ok(match (from.get_type(schema)?, to) {
        // The functions that write texts know them.
        (_, Utf8 | LargeUtf8 | Utf8View) => Change::Nothing,
        (Timestamp(_, zone), Date32) if in_utc(&zone) => Change::Is(called(Work::Day, vec![std::mem::take(from)])),
        (Date32, Timestamp(TimeUnit::Microsecond, None)) => Change::Nothing,
        (Date32, Timestamp(TimeUnit::Microsecond, Some(zone))) if &**zone == "UTC" => {
            let midnight = cast(std::mem::take(from), Timestamp(TimeUnit::Microsecond, None));
            Change::Is(called(Work::InUtc, vec![midnight]))
        }
        (Timestamp(_, None), Timestamp(TimeUnit::Microsecond, Some(zone))) if &**zone == "UTC" => {
            Change::Is(called(Work::InUtc, vec![std::mem::take(from)]))
        }
        (Timestamp(_, own), Timestamp(TimeUnit::Microsecond, zone)) if in_utc(&own) && in_utc(zone) => Change::Nothing,
        (own, to) if own == *to => Change::Nothing,
        (_, Time32(_) | Time64(_)) => Change::null(from),
        _ => otherwise(from, schema),
    })
}

fn of_function(call: &mut ScalarFunction, schema: &DFSchema) -> Change {
    match (call.func.name(), &mut call.args[..]) {
        (crate::to_char::NAME, [value, ..]) if may_be_unreal(value, schema) => Change::null(value),
        (name, args) if RECKONING.contains(&name) => {
            args.iter_mut().map(|arg| Change::fails(arg, schema)).fold(Change::Nothing, Change::or)
        }
        _ => Change::Nothing,
    }
}

/// Functions that reckon with times and have no answer for `-infinity`.
const RECKONING: [&str; 10] = [
    "arrow_cast",
    "arrow_try_cast",
    "generate_series",
    "range",
    "to_local_time",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
];

/// The types that such dates may be of: those that a table keeps.
fn is_moment(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, _)))
}

fn may_be_unreal(expr: &Expr, schema: &DFSchema) -> bool {
    !is_real(expr) && is_moment(expr, schema)
}

/// Whether it is known to be no such date: a literal, or through one of the functions already.
fn is_real(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => is_real(&alias.expr),
        Expr::Cast(cast) => is_real(&cast.expr),
        Expr::Literal(ScalarValue::Date32(Some(day)), _) => !unreal::is_day(i64::from(*day)),
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), _), _) => !unreal::is_instant(*us),
        Expr::Literal(..) => true,
        Expr::ScalarFunction(call) => [Work::RealOrNull.name(), Work::Real.name()].contains(&call.name()),
        _ => false,
    }
}

/// Whether a call of this module's functions never fails on a row.
pub(crate) fn never_fails(name: &str) -> bool {
    [Work::RealOrNull, Work::Day, Work::InUtc].iter().any(|work| work.name() == name)
}

/// What a function does with a date or a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// `x`, or NULL in place of such a date.
    RealOrNull,
    /// `x`; such a date is an error.
    Real,
    /// The date of a timestamp.
    Day,
    /// A timestamp as the same one in UTC.
    InUtc,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::RealOrNull => "real_or_null",
            Self::Real => "real",
            Self::Day => "day_of",
            Self::InUtc => "in_utc",
        }
    }
}

fn called(work: Work, args: Vec<Expr>) -> Expr {
    static FUNCTIONS: LazyLock<[(Work, Arc<ScalarUDF>); 4]> =
        LazyLock::new(|| [Work::RealOrNull, Work::Real, Work::Day, Work::InUtc].map(|work| (work, function(work))));
    let known = FUNCTIONS.iter().find(|(of, _)| *of == work).map(|(_, function)| Arc::clone(function));
    Expr::ScalarFunction(ScalarFunction::new_udf(known.unwrap_or_else(|| function(work)), args))
}

fn function(work: Work) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Function { work, signature: Signature::any(1, Volatility::Immutable) }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    work: Work,
    signature: Signature,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.work.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.work, arguments) {
            (Work::Day, [_]) => Ok(DataType::Date32),
            (Work::InUtc, [_]) => Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))),
            (_, [first, ..]) => Ok(first.clone()),
            _ => exec_err!("{} takes an argument", self.name()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let source = args.arg_fields.last().is_none_or(|source| source.is_nullable());
        let nullable = match self.work {
            Work::RealOrNull => true,
            Work::Real | Work::Day | Work::InUtc => source,
        };
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = |arrays: &[ArrayRef]| {
            let [array] = arrays else { return exec_err!("{} takes other arguments", self.name()) };
            match self.work {
                Work::Day => day_of(array),
                Work::InUtc => in_utc(array),
                Work::Real => match unreal(array)? {
                    None => Ok(Arc::clone(array)),
                    Some(_) => refused(),
                },
                Work::RealOrNull => match unreal(array)? {
                    None => Ok(Arc::clone(array)),
                    Some(unreal) => Ok(nullif(array, &unreal)?),
                },
            }
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

/// Which rows hold such dates; none if no row does.
fn unreal(array: &ArrayRef) -> Result<Option<BooleanArray>> {
    /// Most batches have none, which is seen without a branch per row.
    fn of<T: Copy>(values: &[T], holds: impl Fn(T) -> bool) -> Option<BooleanArray> {
        if !values.iter().fold(false, |found, value| found | holds(*value)) {
            return None;
        }
        Some(BooleanArray::from(values.iter().map(|value| holds(*value)).collect::<Vec<_>>()))
    }
    let found = match array.data_type() {
        DataType::Date32 => of(array.as_primitive::<Date32Type>().values(), |day| unreal::DAYS.contains(&day)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of(array.as_primitive::<TimestampMicrosecondType>().values(), unreal::is_instant)
        }
        DataType::Null => None,
        other => return exec_err!("{} has no dates", crate::sql_type(other)),
    };
    // What lies below a NULL is no value.
    Ok(found
        .map(|found| match array.nulls() {
            None => found,
            Some(nulls) => BooleanArray::new(found.values() & nulls.inner(), None),
        })
        .filter(|found| found.true_count() > 0))
}

/// The error of what has no answer for such a date.
pub(crate) fn refused<T>() -> Result<T> {
    exec_err!("-infinity, a date that no calendar has, cannot be reckoned with: leave it out (where x > '0001-01-01')")
}

fn in_utc(array: &ArrayRef) -> Result<ArrayRef> {
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(timestamps) => Ok(Arc::new(timestamps.clone().with_timezone("UTC"))),
        None => exec_err!("{} is no timestamp", crate::sql_type(array.data_type())),
    }
}

fn day_of(array: &ArrayRef) -> Result<ArrayRef> {
    let DataType::Timestamp(TimeUnit::Microsecond, _) = array.data_type() else {
        return exec_err!("{} has no day", crate::sql_type(array.data_type()));
    };
    let day = |us: i64| {
        i32::try_from(us.div_euclid(DAY_US))
            .map_err(|e| -> DataFusionError { exec_datafusion_err!("{us} has no day: {e}") })
    };
    let days = array.as_primitive::<TimestampMicrosecondType>().try_unary::<_, Date32Type, _>(day)?;
    Ok(Arc::new(days))
}
