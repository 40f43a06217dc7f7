//! `_pg_expandarray`: the values of an array with their numbers, as PostgreSQL's `information_schema` has it.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int32Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// A list of values as a list of pairs: `x` a value, `n` its number from 1.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expanded {
    signature: Signature,
}

impl Expanded {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

fn pair(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("x", value.clone(), true), Field::new("n", DataType::Int32, true)])
}

impl ScalarUDFImpl for Expanded {
    fn name(&self) -> &'static str {
        "pg_expanded_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match types {
            [DataType::List(item)] => Ok(DataType::new_list(DataType::Struct(pair(item.data_type())), true)),
            _ => internal_err!("_pg_expandarray takes an array"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let Some(list) = arrays.first().and_then(|array| array.as_list_opt::<i32>()) else {
            return internal_err!("_pg_expandarray takes an array");
        };
        let mut numbers = vec![0; list.values().len()];
        for ends in list.offsets().windows(2) {
            for (number, at) in (1..).zip(ends[0]..ends[1]) {
                if let Some(cell) = usize::try_from(at).ok().and_then(|at| numbers.get_mut(at)) {
                    *cell = number;
                }
            }
        }
        let fields = pair(list.values().data_type());
        let columns: Vec<ArrayRef> = vec![Arc::clone(list.values()), Arc::new(Int32Array::from(numbers))];
        let pairs = StructArray::try_new(fields.clone(), columns, None)?;
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        let expanded = ListArray::try_new(item, list.offsets().clone(), Arc::new(pairs), list.nulls().cloned())?;
        Ok(ColumnarValue::Array(Arc::new(expanded)))
    }
}
