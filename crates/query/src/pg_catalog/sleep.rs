//! `pg_sleep`, by which clients try what happens to a statement that takes long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array as _, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use relation::schema::TYPE_NAME;

use crate::watch;

/// How long it sleeps before it looks whether its statement has been ended.
const SLICE: Duration = Duration::from_millis(10);

/// The function.
pub(crate) fn function() -> ScalarUDF {
    // Not known before: it is computed when the statement runs, for each row.
    let signature = Signature::coercible(vec![seconds()], Volatility::Volatile);
    ScalarUDF::new_from_impl(Sleep { signature })
}

fn seconds() -> datafusion::logical_expr::Coercion {
    use datafusion::common::types::{NativeType, logical_float64};
    use datafusion::logical_expr::{Coercion, TypeSignatureClass};
    let double = TypeSignatureClass::Native(logical_float64());
    Coercion::new_implicit(double, vec![TypeSignatureClass::Numeric], NativeType::Float64)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sleep {
    signature: Signature,
}

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = Field::new(self.name(), DataType::Utf8, true);
        Ok(Arc::new(field.with_metadata([(TYPE_NAME.to_owned(), "void".to_owned())].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let given: Option<&ArrayRef> = arrays.first();
        let at = |row: usize| given.map(|seconds| row.min(seconds.len().saturating_sub(1)));
        let mut texts = Vec::with_capacity(args.number_rows);
        for row in 0..args.number_rows {
            let seconds = given.zip(at(row)).filter(|(seconds, at)| seconds.is_valid(*at));
            let seconds = seconds.map(|(seconds, at)| seconds.as_primitive::<Float64Type>().value(at));
            if let Some(seconds) = seconds {
                sleep(seconds)?;
            }
            texts.push(seconds.map(|_| ""));
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(texts))))
    }
}

/// Sleeps. Errors: the statement has been ended meanwhile.
#[expect(clippy::disallowed_methods, reason = "the statement asks for time to pass, on a thread of its own")]
fn sleep(seconds: f64) -> Result<()> {
    // Longer than any statement runs.
    let length = Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).unwrap_or_default();
    let begun = Instant::now();
    loop {
        watch::look()?;
        match length.checked_sub(begun.elapsed()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(SLICE)),
            _ => return Ok(()),
        }
    }
}
