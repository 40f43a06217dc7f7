//! Functions of arrays that DataFusion has not, or types otherwise.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_functions::utils::make_scalar_function;

use super::types;

/// The array itself, and an empty one in place of NULL: what the rows of a query are as an array.
pub(super) fn array_or_empty() -> Arc<ScalarUDF> {
    of(Work::OrEmpty)
}

/// `[1:3][1:2]`: the bounds of an array's dimensions.
pub(super) fn array_dims() -> Arc<ScalarUDF> {
    of(Work::Dimensions)
}

fn of(work: Work) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(OfList { work, signature: Signature::user_defined(Volatility::Immutable) }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    OrEmpty,
    Dimensions,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfList {
    work: Work,
    signature: Signature,
}

impl ScalarUDFImpl for OfList {
    fn name(&self) -> &str {
        match self.work {
            Work::OrEmpty => "array_or_empty",
            Work::Dimensions => "array_dims",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [list @ DataType::List(_)] => Ok(vec![list.clone()]),
            _ => {
                let names: Vec<String> = arguments.iter().map(types::name).collect();
                plan_err!("function {}({}) does not exist", self.name(), names.join(", "))
            }
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (self.work, arguments) {
            (Work::OrEmpty, [list]) => list.clone(),
            _ => DataType::Utf8,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let data_types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let nullable = self.work == Work::Dimensions;
        Ok(Arc::new(Field::new(self.name(), self.return_type(&data_types)?, nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let made = |arrays: &[ArrayRef]| -> Result<ArrayRef> {
            let [array] = arrays else { return exec_err!("{} takes one array", self.name()) };
            let lists = array.as_list::<i32>();
            match self.work {
                Work::OrEmpty => or_empty(lists),
                Work::Dimensions => {
                    Ok(Arc::new((0..lists.len()).map(|row| dimensions(lists, row)).collect::<StringArray>()))
                }
            }
        };
        make_scalar_function(made, vec![])(&args.args)
    }
}

fn or_empty(lists: &ListArray) -> Result<ArrayRef> {
    if lists.null_count() == 0 {
        return Ok(Arc::new(lists.clone()));
    }
    let DataType::List(item) = lists.data_type() else { return exec_err!("{} is no array", lists.data_type()) };
    let rows: Vec<ArrayRef> = lists.iter().flatten().collect();
    let lengths = lists.iter().map(|list| list.map_or(0, |list| list.len()));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let parts: Vec<&dyn Array> = rows.iter().map(AsRef::as_ref).collect();
    let values = match &parts[..] {
        [] => arrow::array::new_empty_array(item.data_type()),
        parts => arrow::compute::concat(parts)?,
    };
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, values, None)?))
}

/// None of an array that is NULL or empty.
fn dimensions(lists: &ListArray, row: usize) -> Option<String> {
    if lists.is_null(row) || lists.value(row).is_empty() {
        return None;
    }
    let mut text = String::new();
    let mut list = lists.value(row);
    loop {
        text += &format!("[1:{}]", list.len());
        list = match list.as_list_opt::<i32>() {
            Some(inner) if !inner.is_empty() => inner.value(0),
            _ => return Some(text),
        };
    }
}
