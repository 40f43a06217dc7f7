//! Rows by their whole key, without planning each time that one is asked for.
//!
//! What a statement means is the planner's word alone. A form of statements ([`crate::form`]) is planned once, with its literals as
//! parameters; if the optimised plan is columns of one stored table under one equality for each column of its key, it is kept
//! as a [`Point`] ([`crate::known`]). The next statement of that form reads the key.
//! Whatever is not as plain goes the general way: other conditions, values that the key's types cannot hold exactly, NULL, texts so
//! long that keys cut them. So do views of roles, whose conditions stand behind a barrier.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use relation::Layout;

use crate::catalog::StoredTable;
use crate::error::{Error, Result, code};
use crate::scan::{StoredProvider, pushdown};
use crate::session::Reads;
use crate::storage::Storage;

/// A read of one row of a table by its key.
#[derive(Debug)]
pub(crate) struct Point {
    table: Arc<StoredTable>,
    layout: Layout,
    /// Columns of the table that are answered.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// What its statement names.
    reads: Reads,
    /// For each column of the key the parameter that it equals, from 0.
    key: Vec<usize>,
}

impl Point {
    /// What an optimised plan reads, if it is a point; its answer has these columns.
    pub(crate) fn of(plan: &LogicalPlan, answer: &SchemaRef, reads: &Reads) -> Option<Self> {
        let Read { table, columns, equalities } = Read::of(plan)?;
        let schema = &table.schema;
        let of_column = |column: &usize| {
            let mut found = equalities.iter().filter(|(of, _)| of == column);
            found.next().map(|(_, parameter)| *parameter)
        };
        let key: Vec<usize> = schema.key.iter().map(of_column).collect::<Option<_>>()?;
        let has_same_types = columns.len() == answer.fields().len()
            && columns
                .iter()
                .zip(answer.fields())
                .all(|(&column, field)| schema.columns[column].data_type.to_arrow() == *field.data_type());
        // A second equality of a column, or one of another column, is a condition more.
        let is_point = !key.is_empty() && key.len() == equalities.len() && !columns.is_empty() && has_same_types;
        let layout = Layout::new(schema.types());
        let (answer, reads) = (Arc::clone(answer), Arc::clone(reads));
        is_point.then_some(Self { table, layout, columns, schema: answer, reads, key })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The row with this key, if there is one. None: what the values equal is not said by a key alone.
    pub(crate) fn read(&self, storage: &dyn Storage, parameters: &[&ScalarValue]) -> Result<Option<Vec<RecordBatch>>> {
        let values: Option<Vec<&ScalarValue>> = self.key.iter().map(|&at| parameters.get(at).copied()).collect();
        let Some(key) = values.and_then(|values| pushdown::whole_key(&self.table.schema, &values)) else {
            return Ok(None);
        };
        let mut found = Vec::new();
        let mut failed = None;
        storage.get(self.table.id, &key, &mut |row| match relation::columns::decode(
            std::iter::once(row),
            &self.layout,
            &self.columns,
            &self.schema,
        ) {
            Ok(batch) => found.push(batch),
            Err(error) => failed = Some(error),
        })?;
        match failed {
            None => Ok(Some(found)),
            Some(error) => Err(Error::new(code::IO, format!("table {} cannot be read: {error}", self.table.name))),
        }
    }
}

/// Columns of a stored table under equalities with parameters.
struct Read {
    table: Arc<StoredTable>,
    /// Of the table, in the order of the plan's columns.
    columns: Vec<usize>,
    /// Columns of the table, and the parameters that they equal, from 0.
    equalities: Vec<(usize, usize)>,
}

impl Read {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source).ok()?;
                let provider: &dyn std::any::Any = provider.as_ref();
                let table = provider.downcast_ref::<StoredProvider>()?.keyed()?;
                let all = || (0..table.schema.columns.len()).collect();
                let columns: Vec<usize> = scan.projection.clone().unwrap_or_else(all);
                let whole = DFSchema::try_from(table.schema.to_arrow()).ok()?;
                let mut read = Self { table: Arc::clone(table), columns: all(), equalities: Vec::new() };
                scan.filters.iter().try_for_each(|filter| read.narrow(&unqualified(filter), &whole))?;
                read.columns = columns;
                (scan.fetch != Some(0)).then_some(read)
            }
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let mut read = Self::of(&filter.input)?;
                read.narrow(&filter.predicate, filter.input.schema())?;
                Some(read)
            }
            LogicalPlan::Projection(projection) => {
                let read = Self::of(&projection.input)?;
                let column = |expr: &Expr| {
                    let at = projection.input.schema().index_of_column(named(expr)?).ok()?;
                    read.columns.get(at).copied()
                };
                let columns = projection.expr.iter().map(column).collect::<Option<_>>()?;
                Some(Self { columns, ..read })
            }
            LogicalPlan::Limit(limit) => {
                let is_all = rows(limit.skip.as_deref()) == Some(0) && rows(limit.fetch.as_deref())? > 0;
                if is_all { Self::of(&limit.input) } else { None }
            }
            _ => None,
        }
    }

    /// None: the condition is more than equalities with parameters.
    fn narrow(&mut self, condition: &Expr, schema: &DFSchema) -> Option<()> {
        for part in split_conjunction(condition) {
            let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = part else { return None };
            let equality = equality(left, right, schema).or_else(|| equality(right, left, schema));
            let (column, parameter) = equality?;
            self.equalities.push((*self.columns.get(column)?, parameter));
        }
        Some(())
    }
}

/// The number that a LIMIT or an OFFSET says; 0 where it says nothing.
fn rows(expr: Option<&Expr>) -> Option<i64> {
    match expr {
        None => Some(0),
        Some(Expr::Literal(ScalarValue::Int64(rows), _)) => *rows,
        Some(_) => None,
    }
}

/// A filter of a scan names columns with or without the table.
fn unqualified(filter: &Expr) -> Expr {
    use datafusion::common::tree_node::{Transformed, TreeNode as _};
    let plain = filter.clone().transform(|expr| match expr {
        Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
        other => Ok(Transformed::no(other)),
    });
    plain.map_or_else(|_| filter.clone(), |plain| plain.data)
}

/// The column that an expression is, under whatever name.
fn named(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => named(&alias.expr),
        _ => None,
    }
}

/// The column's place in the schema, and the parameter that it equals.
fn equality(column: &Expr, value: &Expr, schema: &DFSchema) -> Option<(usize, usize)> {
    let (column, as_type) = match column {
        Expr::Column(column) => (column, None),
        // All of a smaller integer's values are values of the larger one.
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Column(column) => (column, Some(cast.field.data_type())),
            _ => return None,
        },
        _ => return None,
    };
    let at = schema.index_of_column(column).ok()?;
    let own = schema.field(at).data_type();
    if as_type.is_some_and(|wider| !(own.is_signed_integer() && wider.is_signed_integer())) {
        return None;
    }
    let placeholder = match value {
        Expr::Placeholder(placeholder) => placeholder,
        // What it is cast to is held exactly, or it is not read by key.
        Expr::Cast(cast) if cast.field.data_type() == as_type.unwrap_or(own) && own.is_numeric() => {
            match cast.expr.as_ref() {
                Expr::Placeholder(placeholder) => placeholder,
                _ => return None,
            }
        }
        _ => return None,
    };
    let number = placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?;
    Some((at, number.checked_sub(1)?))
}
