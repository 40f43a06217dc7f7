//! Tables that are computed when they are read, as DataFusion scans them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::catalog::{Batches, VirtualRows, VirtualTable};
use crate::error::Error;

/// A system table to be scanned.
pub(crate) fn provider(table: &VirtualTable) -> Result<Arc<dyn TableProvider>> {
    let schema = Arc::clone(&table.schema);
    Ok(match &table.rows {
        VirtualRows::Whole(rows) => Arc::new(MemTable::try_new(schema, vec![vec![rows()]])?),
        VirtualRows::Batches(batches) => {
            let read = Read { schema: Arc::clone(&schema), batches: Arc::clone(batches) };
            Arc::new(StreamingTable::try_new(schema, vec![Arc::new(read)])?)
        }
    })
}

/// A table that is read batch by batch.
struct Read {
    schema: SchemaRef,
    batches: Arc<dyn Fn() -> Batches + Send + Sync>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").finish_non_exhaustive()
    }
}

impl PartitionStream for Read {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _ctx: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = (self.batches)().map(|batch| batch.map_err(Error::into_datafusion));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), futures::stream::iter(batches)))
    }
}
