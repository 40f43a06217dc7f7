//! Aggregates of ordered sets, `… WITHIN GROUP (ORDER BY x)`, as PostgreSQL has them: `percentile_cont` of numbers and
//! intervals, `percentile_disc` and `mode` of anything. DataFusion's `percentile_cont` rounds to a millionth of the
//! distance, and the others it has not.
//!
//! All values of a group are kept until it is answered. What the planner writes is `f(x, fraction)` with the order of x.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{SortOptions, concat, filter, is_not_null, sort_to_indices, take};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, IntervalMonthDayNanoType, IntervalUnit};
use datafusion_common::utils::SingleRowListArrayBuilder;
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::postgres::times;
use crate::postgres::types;

/// The functions.
pub(crate) fn functions() -> [Arc<AggregateUDF>; 3] {
    [Answer::Between, Answer::OneOf, Answer::Commonest].map(|answer| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::new_from_impl(OrderedSet { answer, signature }))
    })
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    /// The value at a fraction of the way, between two of them where it lies there.
    Between,
    /// The first value that so large a fraction is not behind.
    OneOf,
    /// The commonest, the first of those in the order.
    Commonest,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OrderedSet {
    answer: Answer,
    signature: Signature,
}

fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

impl OrderedSet {
    fn unknown<T>(&self, arguments: &[DataType]) -> Result<T> {
        let names: Vec<String> = arguments.iter().rev().map(types::name).collect();
        plan_err!("function {}({}) does not exist", self.name(), names.join(", "))
    }
}

impl AggregateUDFImpl for OrderedSet {
    fn name(&self) -> &str {
        match self.answer {
            Answer::Between => "percentile_cont",
            Answer::OneOf => "percentile_disc",
            Answer::Commonest => "mode",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let value = |own: &DataType| match self.answer {
            Answer::Between if is_interval(own) => Ok(DataType::Interval(IntervalUnit::MonthDayNano)),
            Answer::Between if own.is_numeric() || own.is_null() => Ok(DataType::Float64),
            Answer::Between => self.unknown(arguments),
            _ => Ok(own.clone()),
        };
        let fraction = |own: &DataType| match own {
            number if number.is_numeric() || number.is_null() => Ok(DataType::Float64),
            DataType::List(item) if item.data_type().is_numeric() => Ok(list_of(DataType::Float64)),
            _ => self.unknown(arguments),
        };
        match (self.answer, arguments) {
            (Answer::Commonest, [own]) => Ok(vec![value(own)?]),
            (Answer::Between | Answer::OneOf, [own, by]) => Ok(vec![value(own)?, fraction(by)?]),
            _ => self.unknown(arguments),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [own, DataType::List(_)] => list_of(own.clone()),
            [own, ..] => own.clone(),
            [] => return self.unknown(arguments),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        let Some(value) = args.input_fields.first() else { return internal_err!("no value to order") };
        let mut fields = vec![field("values", list_of(value.data_type().clone()))];
        fields.extend(args.input_fields.get(1).map(|fraction| field("fraction", fraction.data_type().clone())));
        Ok(fields)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{}(DISTINCT …) is not supported", self.name());
        }
        let Some(value) = args.expr_fields.first() else { return internal_err!("no value to order") };
        let descending = args.order_bys.first().is_some_and(|by| by.options.descending);
        Ok(Box::new(Values {
            answer: self.answer,
            data_type: value.data_type().clone(),
            by: args.expr_fields.get(1).map(|field| field.data_type().clone()),
            descending,
            parts: Vec::new(),
            fraction: None,
        }))
    }
}

/// One group.
#[derive(Debug)]
struct Values {
    answer: Answer,
    data_type: DataType,
    /// The type of the fraction, where there is one.
    by: Option<DataType>,
    descending: bool,
    /// Values, none of which is NULL.
    parts: Vec<ArrayRef>,
    /// The same for all rows; none before the first.
    fraction: Option<ScalarValue>,
}

impl Values {
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let values = filter(values, &is_not_null(values)?)?;
        if !values.is_empty() {
            self.parts.push(values);
        }
        Ok(())
    }

    fn none(&self) -> Result<ScalarValue> {
        match &self.by {
            Some(DataType::List(_)) => ScalarValue::try_from(&list_of(self.data_type.clone())),
            _ => ScalarValue::try_from(&self.data_type),
        }
    }

    fn sorted(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
        let all = concat(&parts)?;
        let options = SortOptions { descending: self.descending, nulls_first: false };
        Ok(take(&all, &sort_to_indices(&all, Some(options), None)?, None)?)
    }

    fn at(&self, sorted: &ArrayRef, fraction: f64) -> Result<ScalarValue> {
        if !(0.0..=1.0).contains(&fraction) {
            return exec_err!("value out of range: percentile value {fraction} is not between 0 and 1");
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place among rows of memory, from none to all"
        )]
        let (first, rest) = match self.answer {
            Answer::Between => {
                let place = fraction * (sorted.len() - 1) as f64;
                (place.floor() as usize, place - place.floor())
            }
            _ => (((fraction * sorted.len() as f64).ceil() as usize).saturating_sub(1), 0.0),
        };
        let low = ScalarValue::try_from_array(sorted, first)?;
        if rest == 0.0 {
            return Ok(low);
        }
        if is_interval(&self.data_type) {
            let values = sorted.as_primitive::<IntervalMonthDayNanoType>();
            let made = times::between_two(values.value(first), values.value(first + 1), rest)?;
            return Ok(ScalarValue::IntervalMonthDayNano(Some(made)));
        }
        let values = sorted.as_primitive::<Float64Type>();
        let (low, high) = (values.value(first), values.value(first + 1));
        Ok(ScalarValue::Float64(Some(low + rest * (high - low))))
    }

    /// The commonest value of those in their order.
    fn commonest(sorted: &ArrayRef) -> Result<ScalarValue> {
        let ranges = arrow::compute::partition(std::slice::from_ref(sorted))?.ranges();
        let longest = ranges.iter().rev().max_by_key(|range| range.len());
        match longest {
            Some(range) => ScalarValue::try_from_array(sorted, range.start),
            None => internal_err!("no values"),
        }
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if let Some(fractions) = values.get(1)
            && self.fraction.is_none()
            && !fractions.is_empty()
        {
            self.fraction = Some(ScalarValue::try_from_array(fractions, 0)?);
        }
        self.add(&values[0])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.parts.is_empty() {
            return self.none();
        }
        let sorted = self.sorted()?;
        match &self.fraction {
            None if self.answer == Answer::Commonest => Self::commonest(&sorted),
            Some(ScalarValue::Float64(Some(fraction))) => self.at(&sorted, *fraction),
            Some(ScalarValue::List(fractions)) if fractions.is_valid(0) => {
                let fractions = fractions.value(0);
                let at = |fraction: Option<f64>| match fraction {
                    Some(fraction) => self.at(&sorted, fraction),
                    None => ScalarValue::try_from(&self.data_type),
                };
                let made: Vec<ScalarValue> =
                    fractions.as_primitive::<Float64Type>().iter().map(at).collect::<Result<_>>()?;
                Ok(ScalarValue::List(ScalarValue::new_list_nullable(&made, &self.data_type)))
            }
            _ => self.none(),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.parts.iter().map(|part| part.get_array_memory_size()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = match &self.parts[..] {
            [] => arrow::array::new_empty_array(&self.data_type),
            parts => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<&dyn Array>>())?,
        };
        let mut state = vec![SingleRowListArrayBuilder::new(values).build_list_scalar()];
        if let Some(by) = &self.by {
            state.push(self.fraction.clone().map_or_else(|| ScalarValue::try_from(by), Ok)?);
        }
        Ok(state)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        if let Some(fractions) = states.get(1)
            && self.fraction.as_ref().is_none_or(ScalarValue::is_null)
            && let Some(row) = (0..fractions.len()).find(|row| fractions.is_valid(*row))
        {
            self.fraction = Some(ScalarValue::try_from_array(fractions, row)?);
        }
        states[0].as_list::<i32>().iter().flatten().try_for_each(|values| self.add(&values))
    }
}
