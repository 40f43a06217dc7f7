//! Rows out of arrays: an operator of its own, for what it yields of a row is all that the row says.

use datafusion_common::NullHandling;
use datafusion_expr::logical_plan::Unnest;
use relation::{Column, DataType};

use super::{Lowering, Result};
use crate::flow::{NodeId, Op};
use crate::postgres::types;
use crate::refusal::Refusal;
use crate::unique::Facts;

impl Lowering<'_> {
    pub(super) fn unnest(&mut self, unnest: &Unnest) -> Result<NodeId> {
        let input = self.plan(&unnest.input)?;
        let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(at, _)| *at).collect();
        let is_plain = unnest.list_type_columns.iter().all(|(_, list)| list.depth == 1);
        let is_once = lists.iter().enumerate().all(|(i, at)| !lists[..i].contains(at));
        let outer = match unnest.options.null_handling {
            NullHandling::Drop => Some(false),
            NullHandling::PreserveAndExpandEmpty => Some(true),
            NullHandling::Preserve => None,
        };
        let is_of_lists = unnest.struct_type_columns.is_empty() && is_plain && is_once;
        let Some(outer) = outer.filter(|_| is_of_lists) else {
            let detail = "Rows out of records, or out of arrays within arrays, are not supported yet.";
            return Err(Refusal::cannot_keep(detail).with_hint("Unnest one level at a time.").at(self.sql, "unnest"));
        };
        let element = |(at, column): (usize, &Column)| match (lists.contains(&at), column.data_type) {
            (false, _) => Ok(column.clone()),
            (true, DataType::Array(element)) => {
                Ok(Column { name: column.name.clone(), data_type: *element, nullable: true })
            }
            (true, _) => {
                let planned = types::name(unnest.input.schema().field(at).data_type());
                Err(Refusal::cannot_keep(format!("unnest() of {planned}, which is no array.")).at(self.sql, "unnest"))
            }
        };
        let columns = self.columns(input).iter().enumerate().map(element).collect::<Result<Vec<_>>>()?;
        let facts = Facts::new(columns.len(), None);
        let node = self.add(Op::Unnest { lists, outer }, vec![input], columns, facts);
        Ok(self.choose(node, &unnest.dependency_indices))
    }
}
