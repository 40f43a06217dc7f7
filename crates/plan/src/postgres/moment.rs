//! `now()`: the time of the statement, an instant of microseconds.
//!
//! DataFusion's has nanoseconds, and so would what it is compared with: a timestamp beyond 2262, as it stands for the end of what is
//! valid still, had no room.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The function.
pub(crate) fn function() -> Arc<ScalarUDF> {
    let aliases = vec!["current_timestamp".to_owned()];
    Arc::new(ScalarUDF::new_from_impl(Now { signature: Signature::nullary(Volatility::Stable), aliases }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    signature: Signature,
    aliases: Vec<String>,
}

fn zone() -> Arc<str> {
    Arc::from("UTC")
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some(zone())))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    /// It is the same wherever it stands in a statement.
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(begun) = info.query_execution_start_time() else { return Ok(ExprSimplifyResult::Original(args)) };
        let now = ScalarValue::TimestampMicrosecond(Some(begun.timestamp_micros()), Some(zone()));
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(now, None)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("now() is known when a statement is planned")
    }
}
