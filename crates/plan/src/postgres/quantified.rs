//! Values that are compared with the elements of an array: `x = any(tags)`, `n > all(array[1, 2])`.
//!
//! Law: ANY is the disjunction of the comparisons with the elements, and ALL their conjunction, by SQL's three values. So where no
//! element decides, one that is NULL, or a value that is, leaves it unknown; over no elements ANY is false and ALL is true, whatever the
//! value; and over an array that is NULL both are NULL. DataFusion compares with the least and the largest element instead.
//!
//! Of an array that is known when the statement is planned, `= any` and `<> all` are lists (`x in (…)`), which scans read by keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray};
use arrow::compute::kernels::cmp;
use arrow::compute::{take, unary};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, TimeUnit};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::expr::InList;
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::type_coercion::binary::comparison_coercion;
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion_functions::utils::make_scalar_function;
use datafusion_sql::sqlparser::ast::BinaryOperator;

use super::forms::is_text;
use super::types;

/// The comparisons by the names of the functions that make them.
const COMPARISONS: [Comparison; 12] = [
    Comparison { name: "eq_any", sign: "=", test: Test::Eq, of: Quantifier::Any },
    Comparison { name: "ne_any", sign: "<>", test: Test::NotEq, of: Quantifier::Any },
    Comparison { name: "lt_any", sign: "<", test: Test::Lt, of: Quantifier::Any },
    Comparison { name: "le_any", sign: "<=", test: Test::LtEq, of: Quantifier::Any },
    Comparison { name: "gt_any", sign: ">", test: Test::Gt, of: Quantifier::Any },
    Comparison { name: "ge_any", sign: ">=", test: Test::GtEq, of: Quantifier::Any },
    Comparison { name: "eq_all", sign: "=", test: Test::Eq, of: Quantifier::All },
    Comparison { name: "ne_all", sign: "<>", test: Test::NotEq, of: Quantifier::All },
    Comparison { name: "lt_all", sign: "<", test: Test::Lt, of: Quantifier::All },
    Comparison { name: "le_all", sign: "<=", test: Test::LtEq, of: Quantifier::All },
    Comparison { name: "gt_all", sign: ">", test: Test::Gt, of: Quantifier::All },
    Comparison { name: "ge_all", sign: ">=", test: Test::GtEq, of: Quantifier::All },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Comparison {
    name: &'static str,
    /// As PostgreSQL names the operator.
    sign: &'static str,
    test: Test,
    of: Quantifier,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Test {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Quantifier {
    Any,
    All,
}

/// The function of a comparison; none of what is no comparison.
pub(super) fn name_of(operator: &BinaryOperator, of: Quantifier) -> Option<&'static str> {
    let test = match operator {
        BinaryOperator::Eq => Test::Eq,
        BinaryOperator::NotEq => Test::NotEq,
        BinaryOperator::Lt => Test::Lt,
        BinaryOperator::LtEq => Test::LtEq,
        BinaryOperator::Gt => Test::Gt,
        BinaryOperator::GtEq => Test::GtEq,
        _ => return None,
    };
    COMPARISONS.iter().find(|known| known.test == test && known.of == of).map(|known| known.name)
}

/// The operator by which a function compares; none of other functions.
pub(crate) fn sign_of(function: &str) -> Option<&'static str> {
    COMPARISONS.iter().find(|known| known.name == function).map(|known| known.sign)
}

/// What is said of a value that is no array, and stands where one must.
pub(crate) const NO_ARRAY: &str = "op ANY/ALL (array) requires array on right side";

/// The type of an array's elements, whatever its dimensions.
pub(crate) fn element_of(list: &DataType) -> Option<&DataType> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) = list else {
        return None;
    };
    Some(element_of(item.data_type()).unwrap_or(item.data_type()))
}

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let made = |comparison: &Comparison| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Quantified { comparison: *comparison, signature }))
    };
    COMPARISONS.iter().map(made).collect()
}

/// A value and an array.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantified {
    comparison: Comparison,
    signature: Signature,
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        self.comparison.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [value, list] = arguments else { return plan_err!("{} takes a value and an array", self.name()) };
        // A text that stands in the statement is read as an array.
        if list.is_null() || is_text(list) {
            return Ok(vec![value.clone(), DataType::new_list(value.clone(), true)]);
        }
        let Some(element) = element_of(list) else {
            return plan_err!("{NO_ARRAY}");
        };
        match common(value, element) {
            Some(common) => Ok(vec![common.clone(), with_element(list, &common)]),
            None => plan_err!(
                "operator does not exist: {} {} {}",
                types::name(value),
                self.comparison.sign,
                types::name(element)
            ),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, true)))
    }

    fn simplify(&self, mut args: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let negated = match (self.comparison.test, self.comparison.of) {
            (Test::Eq, Quantifier::Any) => false,
            (Test::NotEq, Quantifier::All) => true,
            _ => return Ok(ExprSimplifyResult::Original(args)),
        };
        let [value, Expr::Literal(list, _)] = &mut args[..] else { return Ok(ExprSimplifyResult::Original(args)) };
        if list.is_null() {
            return Ok(ExprSimplifyResult::Simplified(lit(ScalarValue::Boolean(None))));
        }
        let Some(list) = elements(list)? else { return Ok(ExprSimplifyResult::Original(args)) };
        let made = match list.is_empty() {
            true => lit(negated),
            false => Expr::InList(InList { expr: Box::new(std::mem::take(value)), list, negated }),
        };
        Ok(ExprSimplifyResult::Simplified(made))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let comparison = self.comparison;
        let made = move |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [values, lists] = arrays else { return exec_err!("{} takes a value and an array", comparison.name) };
            Ok(Arc::new(compared(comparison, values, lists.as_list::<i32>())?))
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

/// The elements of an array of one dimension; none of what is another value.
fn elements(list: &ScalarValue) -> Result<Option<Vec<Expr>>> {
    let ScalarValue::List(_) = list else { return Ok(None) };
    let mut rows = ScalarValue::convert_array_to_scalar_vec(&list.to_array()?)?;
    let Some(row) = rows.pop().flatten().filter(|_| rows.is_empty()) else { return Ok(None) };
    let is_flat = !row.iter().any(|value| value.data_type().is_nested());
    Ok(is_flat.then(|| row.into_iter().map(|value| Expr::Literal(value, None)).collect()))
}

/// The type in which a value is compared with an element.
fn common(value: &DataType, element: &DataType) -> Option<DataType> {
    match (value, element) {
        (DataType::Null, other) | (other, DataType::Null) => Some(other.clone()),
        // Nanoseconds, which the planner would take, end in 2262.
        (DataType::Date32, DataType::Timestamp(_, zone)) | (DataType::Timestamp(_, zone), DataType::Date32) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        (value, element) => comparison_coercion(value, element),
    }
}

fn with_element(list: &DataType, element: &DataType) -> DataType {
    match list {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            DataType::new_list(with_element(item.data_type(), element), true)
        }
        _ => element.clone(),
    }
}

fn compared(comparison: Comparison, values: &ArrayRef, lists: &ListArray) -> Result<BooleanArray> {
    let (ends, elements) = flat(lists);
    let mut rows = Vec::with_capacity(elements.len());
    for (row, range) in ends.windows(2).enumerate() {
        let Ok(row) = i32::try_from(row) else { return exec_err!("a batch of more than 2147483647 rows") };
        rows.extend(std::iter::repeat_n(row, range[1] - range[0]));
    }
    let (values, elements) = (one_zero(&take(values, &Int32Array::from(rows), None)?), one_zero(&elements));
    let found = match comparison.test {
        Test::Eq => cmp::eq(&values, &elements),
        Test::NotEq => cmp::neq(&values, &elements),
        Test::Lt => cmp::lt(&values, &elements),
        Test::LtEq => cmp::lt_eq(&values, &elements),
        Test::Gt => cmp::gt(&values, &elements),
        Test::GtEq => cmp::gt_eq(&values, &elements),
    }?;
    let decisive = comparison.of == Quantifier::Any;
    let of_row = |(row, range): (usize, &[usize])| {
        if lists.is_null(row) {
            return None;
        }
        let mut is_unknown = false;
        for at in range[0]..range[1] {
            match found.is_valid(at) {
                true if found.value(at) == decisive => return Some(decisive),
                true => {}
                false => is_unknown = true,
            }
        }
        (!is_unknown).then_some(!decisive)
    };
    Ok(ends.windows(2).enumerate().map(of_row).collect())
}

/// The elements of arrays of whatever dimensions, one after another, and where those of each row begin; behind the last one, their end.
fn flat(lists: &ListArray) -> (Vec<usize>, ArrayRef) {
    let at = |offset: &i32| usize::try_from(*offset).unwrap_or(0);
    let mut ends: Vec<usize> = lists.value_offsets().iter().map(at).collect();
    let mut elements = ArrayRef::clone(lists.values());
    while let Some(inner) = ArrayRef::clone(&elements).as_list_opt::<i32>() {
        let offsets = inner.value_offsets();
        ends.iter_mut().for_each(|end| *end = offsets.get(*end).map_or(0, at));
        elements = ArrayRef::clone(inner.values());
    }
    let first = ends.first().copied().unwrap_or(0);
    let length = ends.last().copied().unwrap_or(0) - first;
    ends.iter_mut().for_each(|end| *end -= first);
    (ends, elements.slice(first, length))
}

/// Floats with one zero.
fn one_zero(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => Arc::new(unary::<_, _, Float32Type>(array.as_primitive::<Float32Type>(), |v| v + 0.0)),
        DataType::Float64 => Arc::new(unary::<_, _, Float64Type>(array.as_primitive::<Float64Type>(), |v| v + 0.0)),
        _ => ArrayRef::clone(array),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Builder, ListBuilder};

    use super::*;

    /// Arrays with the parts before and behind cut off, so that nothing begins at zero.
    fn lists(rows: &[Option<&[Option<i32>]>]) -> ListArray {
        let mut builder = ListBuilder::new(Int32Builder::new());
        builder.append_value([Some(7), None]);
        rows.iter().for_each(|row| builder.append_option(row.map(|row| row.iter().copied())));
        builder.append_value([Some(7)]);
        builder.finish().slice(1, rows.len())
    }

    fn answers(name: &str, value: Option<i32>, rows: &[Option<&[Option<i32>]>]) -> Vec<Option<bool>> {
        let comparison = COMPARISONS.iter().find(|known| known.name == name).unwrap();
        let values: ArrayRef = Arc::new(Int32Array::from(vec![value; rows.len()]));
        compared(*comparison, &values, &lists(rows)).unwrap().iter().collect()
    }

    #[test]
    fn what_no_element_decides_is_unknown_where_one_is_null() {
        let rows: [Option<&[Option<i32>]>; 4] = [Some(&[Some(1), None]), Some(&[Some(3), Some(5)]), Some(&[]), None];
        assert_eq!(answers("eq_any", Some(3), &rows), [None, Some(true), Some(false), None]);
        assert_eq!(answers("eq_any", Some(1), &rows), [Some(true), Some(false), Some(false), None]);
        assert_eq!(answers("eq_any", None, &rows), [None, None, Some(false), None]);
        assert_eq!(answers("ne_all", Some(3), &rows), [None, Some(false), Some(true), None]);
        assert_eq!(answers("ne_all", Some(1), &rows), [Some(false), Some(true), Some(true), None]);
        assert_eq!(answers("gt_any", Some(4), &rows), [Some(true), Some(true), Some(false), None]);
        assert_eq!(answers("gt_any", Some(1), &rows), [None, Some(false), Some(false), None]);
        assert_eq!(answers("le_all", Some(3), &rows), [Some(false), Some(true), Some(true), None]);
        assert_eq!(answers("ne_any", Some(3), &rows), [Some(true), Some(true), Some(false), None]);
        assert_eq!(answers("eq_all", Some(3), &rows), [Some(false), Some(false), Some(true), None]);
        assert_eq!(answers("eq_all", Some(1), &rows), [None, Some(false), Some(true), None]);
    }

    #[test]
    fn elements_of_all_dimensions_are_compared() {
        let mut builder = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        builder.append(false);
        builder.values().append_value([Some(1), Some(2)]);
        builder.values().append_value([Some(3), Some(4)]);
        builder.append(true);
        let values: ArrayRef = Arc::new(Int32Array::from(vec![4, 4]));
        let comparison = COMPARISONS.iter().find(|known| known.name == "eq_any").unwrap();
        let found = compared(*comparison, &values, &builder.finish()).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), [None, Some(true)]);
    }
}
