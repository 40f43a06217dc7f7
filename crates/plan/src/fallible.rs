//! Which expressions may fail on a row: a division by zero, a cast of a text, a number out of range.

use arrow::datatypes::DataType;
use datafusion_common::DFSchema;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use crate::alike::never_fails;

/// Digits of the widest decimals.
const DIGITS_MAX: u8 = 38;

/// Whether an expression may fail on some row: all but those that are known not to.
pub fn may_fail(expression: &Expr) -> bool {
    fails(expression, &|_| false)
}

/// The same where types are known: casts to wider numbers and sums that have room for every digit do not fail either.
pub fn may_fail_over(expression: &Expr, schema: &DFSchema) -> bool {
    fails(expression, &|part| has_room(part, schema))
}

fn fails(expression: &Expr, is_fine: &dyn Fn(&Expr) -> bool) -> bool {
    use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
    let own = match expression {
        Expr::BinaryExpr(binary) => {
            let fine = [And, Or, Eq, NotEq, Lt, LtEq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom].contains(&binary.op);
            !fine
        }
        // A literal's cast has been tried: literals get their types by casts.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => value.cast_to(cast.field.data_type()).is_err(),
            _ => true,
        },
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_) => false,
        other => !never_fails(other),
    };
    if own && !is_fine(expression) {
        return true;
    }
    let mut found = false;
    expression
        .apply_children(|child| {
            found |= fails(child, is_fine);
            Ok(TreeNodeRecursion::Continue)
        })
        .map_or(true, |_| found)
}

/// Whether a cast or a computation has room for whatever its operands are.
fn has_room(expression: &Expr, schema: &DFSchema) -> bool {
    use DataType::{
        Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    match expression {
        Expr::Cast(cast) => match (cast.expr.get_type(schema).ok(), cast.field.data_type()) {
            (Some(Int8 | UInt8), Int16 | Int32 | Int64 | Float32 | Float64) => true,
            (Some(Int16 | UInt16), Int32 | Int64 | Float32 | Float64) => true,
            (Some(Int32 | UInt32), Int64 | Float64) => true,
            (Some(Int64 | Float32), Float64) => true,
            (Some(Decimal128(digits, scale)), Decimal128(more, finer)) => {
                let whole = |digits: u8, scale: i8| i16::from(digits) - i16::from(scale);
                *finer >= scale && whole(*more, *finer) >= whole(digits, scale)
            }
            (Some(whole), Decimal128(digits, scale)) if whole.is_integer() => {
                digits_max(&whole).is_some_and(|most| i16::from(most) <= i16::from(*digits) - i16::from(*scale))
            }
            (Some(Utf8 | LargeUtf8 | Utf8View), Utf8 | LargeUtf8 | Utf8View) => true,
            (Some(from), to) => from == *to,
            (None, _) => false,
        },
        Expr::BinaryExpr(BinaryExpr { op: Operator::Plus | Operator::Minus | Operator::Multiply, .. }) => {
            match expression.get_type(schema) {
                Ok(Decimal128(digits, _)) => digits < DIGITS_MAX,
                Ok(Float32 | Float64) => true,
                _ => false,
            }
        }
        // A pattern that cannot be read fails on no row or on all.
        Expr::Like(like) => matches!(*like.pattern, Expr::Literal(..)),
        Expr::ScalarFunction(call) => TOTAL.contains(&call.name()) || crate::unreal::never_fails(call.name()),
        _ => false,
    }
}

/// Functions that have a result for every argument.
const TOTAL: [&str; 12] = [
    crate::zero::NAME,
    "coalesce",
    "or_null",
    "one_or_several",
    "nullif",
    "lower",
    "upper",
    "btrim",
    "ltrim",
    "rtrim",
    "character_length",
    "starts_with",
];

/// Digits of the widest integers of a type.
fn digits_max(whole: &DataType) -> Option<u8> {
    use DataType::{Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    Some(match whole {
        Int8 | UInt8 => 3,
        Int16 | UInt16 => 5,
        Int32 | UInt32 => 10,
        Int64 => 19,
        UInt64 => 20,
        _ => return None,
    })
}
