//! Arrays as the catalogue has them: `_pg_expandarray`, the values of an array with their numbers, as PostgreSQL's
//! `information_schema` has it; and `array_agg`, whose array is one of oids, names or documents where its values are.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int32Array, ListArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{ScalarValue, internal_err};
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, GroupsAccumulator, ReversedUDAF, ScalarFunctionArgs,
    ScalarUDFImpl, Signature, Volatility,
};
use relation::schema::TYPE_NAME;

/// `array_agg` of a named type's values is an array of that type, which is called as in `pg_type`: `_oid` of `oid`.
pub(crate) fn of_named_types(function: &Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    match function.name() {
        "array_agg" => Arc::new(AggregateUDF::new_from_impl(ArrayAgg { inner: Arc::clone(function) })),
        _ => Arc::clone(function),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArrayAgg {
    inner: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for ArrayAgg {
    plan::as_inner!(name, aliases, signature);

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let field = self.inner.return_field(arguments)?;
        let element = arguments.first().and_then(|argument| argument.metadata().get(TYPE_NAME));
        Ok(match element {
            Some(element) => {
                let named = [(TYPE_NAME.to_owned(), format!("_{element}"))];
                Arc::new(field.as_ref().clone().with_metadata(named.into()))
            }
            None => field,
        })
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.accumulator(args)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn with_beneficial_ordering(self: Arc<Self>, is_ordered: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let inner = Arc::clone(self.inner.inner()).with_beneficial_ordering(is_ordered)?;
        Ok(inner.map(|inner| -> Arc<dyn AggregateUDFImpl> {
            Arc::new(Self { inner: Arc::new(AggregateUDF::new_from_shared_impl(inner)) })
        }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.inner.reverse_udf() {
            ReversedUDAF::Reversed(function) => ReversedUDAF::Reversed(of_named_types(&function)),
            other => other,
        }
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }
}

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
