//! A stored table at one step, for DataFusion's planner.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Constraint, Constraints, Statistics};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use plan::TableName;

use crate::catalog::{Form, StoredTable};
use crate::error::Error;
use crate::scan::exec::StoredScan;
use crate::scan::pushdown::{self, Access};
use crate::scan::split::{SPLIT_ROWS_MIN, split};
use crate::storage::Storage;

/// Reads of one table at one step.
#[derive(Clone)]
pub(crate) struct StoredProvider {
    table: Arc<StoredTable>,
    storage: Arc<dyn Storage>,
    schema: SchemaRef,
    constraints: Constraints,
    rows: Option<u64>,
}

impl fmt::Debug for StoredProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredProvider({} at step {})", self.table.name, self.storage.step())
    }
}

impl StoredProvider {
    /// The table as it is in `storage`; `rows` is a hint of how many it has.
    pub(crate) fn new(table: Arc<StoredTable>, storage: Arc<dyn Storage>, rows: Option<u64>) -> Self {
        let schema = table.schema.to_arrow();
        let constraints = constraints(&table);
        Self { table, storage, schema, constraints, rows }
    }

    /// The same table as it is in another storage.
    pub(crate) fn at(&self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self.clone() }
    }

    /// The table, if its rows lie under their keys.
    pub(crate) fn keyed(&self) -> Option<&Arc<StoredTable>> {
        (self.table.form == Form::Keyed).then_some(&self.table)
    }

    /// The table's name.
    pub(crate) fn name(&self) -> &TableName {
        &self.table.name
    }

    /// About how many rows a read with these conditions looks at; none where that is not known.
    pub(crate) fn rows_of(&self, filters: &[Expr]) -> Option<u64> {
        match self.access(filters) {
            Access::Points(keys) => u64::try_from(keys.len()).ok(),
            Access::Ranges(_) => self.rows,
        }
    }

    fn access(&self, filters: &[Expr]) -> Access {
        match self.table.form {
            Form::Keyed => pushdown::access(&self.table.schema, filters),
            Form::Bag => Access::all(),
        }
    }
}

impl StoredProvider {
    /// What each thread reads: parts of a large range, everything else on one.
    fn partitions(&self, access: Access, threads: usize) -> Result<Vec<Access>, Error> {
        let large = self.rows.is_some_and(|rows| rows >= SPLIT_ROWS_MIN);
        let range = match &access {
            Access::Ranges(ranges) if ranges.len() == 1 && large && threads > 1 => &ranges[0],
            _ => return Ok(vec![access]),
        };
        let parts = split(self.storage.as_ref(), self.table.id, range, threads)?;
        Ok(parts.into_iter().map(|part| Access::Ranges(vec![part])).collect())
    }
}

/// A key lets `GROUP BY key` select the row's other columns. A nullable one is no primary key to DataFusion.
fn constraints(table: &StoredTable) -> Constraints {
    let key = &table.schema.key;
    if key.is_empty() || table.form == Form::Bag {
        return Constraints::default();
    }
    let nullable = key.iter().any(|&column| table.schema.columns[column].nullable);
    let constraint = if nullable { Constraint::Unique(key.clone()) } else { Constraint::PrimaryKey(key.clone()) };
    Constraints::new_unverified(vec![constraint])
}

#[async_trait]
impl TableProvider for StoredProvider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.rows?).ok()?;
        Some(Statistics { num_rows: Precision::Inexact(rows), ..Statistics::new_unknown(&self.schema) })
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let useful = |filter: &&Expr| {
            if self.table.form == Form::Keyed && pushdown::is_useful(&self.table.schema, filter) {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(useful).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let threads = if limit.is_none() { state.config().target_partitions() } else { 1 };
        let partitions = self.partitions(self.access(filters), threads).map_err(Error::into_datafusion)?;
        let batch_rows = state.config().batch_size();
        let scan = StoredScan::new(
            Arc::clone(&self.table),
            Arc::clone(&self.storage),
            columns,
            partitions,
            batch_rows,
            self.rows,
        )?;
        Ok(Arc::new(scan.limited(limit)))
    }
}
