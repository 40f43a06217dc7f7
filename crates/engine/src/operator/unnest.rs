//! Rows out of arrays: each row as often as its longest array has elements, with these in the place of the arrays.
//!
//! Law: linear. Δ out is what Δ in yields, a row's rows with its weight, so nothing is kept. An array that is NULL has no
//! elements; of several the shorter ones end in NULLs. How many rows there may be of one is bounded by what makes the
//! array: an array is a value that a row has room for.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use query::expression::typed;
use relation::Delta;
use store::Writes;

use super::rule::{Around, Inputs, Rule, Ruled};
use crate::build::Builder;
use crate::error::{Error, Result};
use crate::graph::{Node, NodeIndex};
use crate::pour::Portion;

/// Rows out of the arrays in these columns.
pub(crate) struct Unnest {
    pub(crate) lists: Vec<usize>,
    /// Whether rows without elements come too.
    pub(crate) outer: bool,
}

impl Unnest {
    /// The rows of rows, in the columns of a schema.
    fn unnested(&self, delta: &Delta, schema: &SchemaRef) -> Result<Delta> {
        let lists = self.lists.iter().map(|&at| self.list(delta, at)).collect::<Result<Vec<_>>>()?;
        let mut sources: Vec<u32> = Vec::new();
        let mut elements: Vec<Vec<Option<u32>>> = vec![Vec::new(); lists.len()];
        for row in 0..delta.len() {
            let ranges: Vec<_> = lists.iter().map(|list| range(list, row)).collect();
            let longest = ranges.iter().map(ExactSizeIterator::len).max().unwrap_or(0).max(usize::from(self.outer));
            sources.extend(std::iter::repeat_n(row as u32, longest));
            for (positions, range) in elements.iter_mut().zip(ranges) {
                let missing = longest - range.len();
                positions.extend(range.map(Some).chain(std::iter::repeat_n(None, missing)));
            }
        }
        if u32::try_from(sources.len()).is_err() {
            return Err(relation::Error::Overflow("rows of a delta").into());
        }
        let weights: Vec<i64> = sources.iter().map(|&row| delta.weights[row as usize]).collect();
        let sources = UInt32Array::from(sources);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(delta.batch.num_columns());
        for (at, column) in delta.batch.columns().iter().enumerate() {
            let array = match self.lists.iter().position(|&list| list == at) {
                None => take(column, &sources, None)?,
                Some(i) => take(lists[i].values(), &UInt32Array::from(std::mem::take(&mut elements[i])), None)?,
            };
            arrays.push(typed(array, schema.field(at).data_type()).map_err(|e| Error::Query(e.to_string()))?);
        }
        Ok(Delta::new(relation::columns::batch(schema, arrays, weights.len())?, weights))
    }

    fn list<'d>(&self, delta: &'d Delta, at: usize) -> Result<&'d ListArray> {
        let list = delta.batch.column(at).as_list_opt::<i32>();
        list.ok_or_else(|| Error::Broken { node: "unnest".to_owned(), what: "a column is no array" })
    }
}

/// The positions of a row's elements.
fn range(list: &ListArray, row: usize) -> std::ops::Range<u32> {
    if list.is_null(row) {
        return 0..0;
    }
    let at = |i: usize| list.value_offsets()[i].cast_unsigned();
    at(row)..at(row + 1)
}

impl Rule for Unnest {
    fn word(&self) -> &'static str {
        "unnest"
    }

    fn apply(&self, node: &Node, inputs: &Inputs<'_>, _: Around<'_>, _: &mut Writes) -> Result<Ruled> {
        let [Some(delta)] = inputs else { return Ok(Delta::empty(&node.arrow).into()) };
        Ok(self.unnested(delta, &node.arrow)?.into())
    }

    fn pour(&self, _: NodeIndex, node: &Node, builder: &mut Builder, each: &mut Portion<'_>) -> Result<()> {
        let arrow = Arc::clone(&node.arrow);
        builder.pour_node(node.inputs[0], &mut |builder, delta| each(builder, self.unnested(&delta, &arrow)?))
    }
}
