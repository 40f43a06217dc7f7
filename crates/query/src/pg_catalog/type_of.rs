//! `pg_typeof(x)`: the type of an expression as a regtype, whose value nobody looks at.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use relation::schema::TYPE_NAME;

use crate::pg_catalog::registered::type_oid;

/// The function.
pub(crate) fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(TypeOf { signature: Signature::any(1, Volatility::Stable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let field = Field::new(self.name(), DataType::Int32, true);
        Ok(Arc::new(field.with_metadata([(TYPE_NAME.to_owned(), "regtype".to_owned())].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let oid = args.arg_fields.first().and_then(|field| {
            let name = field.metadata().get(TYPE_NAME).cloned();
            type_oid(&name.unwrap_or_else(|| plan::sql_type(field.data_type())))
        });
        Ok(ColumnarValue::Scalar(ScalarValue::Int32(oid)))
    }
}
