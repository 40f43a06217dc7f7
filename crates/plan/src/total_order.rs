//! Floats in an order that tells all of them apart.
//!
//! To SQL, −0.0 and 0.0 are equal, and so they are in the keys of our states; to Arrow's sort they are not. Where they are
//! the last difference between two rows, as among the ties of a LIMIT, both must still choose the same row. So a float that
//! breaks ties is ordered by a whole number made of its bits, in which −0.0 comes before 0.0.

use std::sync::{Arc, LazyLock};

use arrow::compute::unary;
use arrow::datatypes::{DataType, Int64Type};
use datafusion_expr::{Expr, ScalarUDF};

use crate::float_function::float_function;

/// The name under which plans show the function.
const NAME: &str = "total_order";

/// The place of a float in the total order of IEEE 754.
pub(crate) fn total_order(float: Expr) -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        float_function(
            NAME,
            Some(DataType::Int64),
            |reals| Arc::new(unary::<_, _, Int64Type>(reals, |real| place(f64::from(real)))),
            |doubles| Arc::new(unary::<_, _, Int64Type>(doubles, place)),
        )
    });
    FUNCTION.call(vec![float])
}

/// The bits as a number; those of a negative float are turned, so that greater ones come first.
fn place(float: f64) -> i64 {
    let bits = float.to_bits().cast_signed();
    bits ^ (((bits >> 63).cast_unsigned() >> 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn places_are_in_order() {
        let floats = [f64::NEG_INFINITY, -2.5, -1e-310, -0.0, 0.0, 1e-310, 1.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|pair| place(pair[0]) < place(pair[1])));
    }
}
