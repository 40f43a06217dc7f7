//! Reads the keys that the planner chose, decodes the columns that are asked for, a batch at a time.
//!
//! Point reads and short limited reads run where they are polled: they take microseconds. So does a read of what may be few rows, of a
//! small table or a part of the keys, until it has turned out to be many. Everything else runs on a blocking thread per partition, which
//! stays a few batches ahead of its reader and stops when the reader goes away.

use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Statistics, internal_err};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, Partitioning, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
    StatisticsArgs,
};
use futures::StreamExt as _;
use relation::{Layout, Rows};

use crate::catalog::{Form, StoredTable};
use crate::error::{Error, code};
use crate::scan::pushdown::{Access, KeyRange};
use crate::storage::Storage;

/// Batches that a partition reads ahead of its reader.
const BATCHES_AHEAD_MAX: usize = 2;
/// Rows that are read in less time than a thread takes to wake and to be heard.
const FEW_ROWS_MAX: usize = 256;
/// Bytes of encoded rows after which a batch is closed before it has its number of rows.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// The plan node that reads a stored table.
#[derive(Clone)]
pub(crate) struct StoredScan {
    reader: Reader,
    /// What each partition reads.
    partitions: Vec<Access>,
    rows: Option<u64>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What a partition needs to read by itself.
#[derive(Clone)]
struct Reader {
    table: Arc<StoredTable>,
    storage: Arc<dyn Storage>,
    layout: Arc<Layout>,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    batch_rows: usize,
    limit: Option<usize>,
}

impl fmt::Debug for StoredScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredScan").field("table", &self.reader.table.name).finish_non_exhaustive()
    }
}

impl StoredScan {
    /// A read of `columns` in batches of at most `batch_rows` rows.
    pub(crate) fn new(
        table: Arc<StoredTable>,
        storage: Arc<dyn Storage>,
        columns: Vec<usize>,
        partitions: Vec<Access>,
        batch_rows: usize,
        rows: Option<u64>,
    ) -> Result<Self> {
        let schema: SchemaRef = Arc::new(table.schema.to_arrow().project(&columns)?);
        let ordering = ordering(&table, &columns, &schema);
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), ordering),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let layout = Arc::new(Layout::new(table.schema.types()));
        let columns = columns.into();
        let reader = Reader { table, storage, layout, columns, schema, batch_rows, limit: None };
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { reader, partitions, rows, properties: Arc::new(properties), metrics })
    }

    /// The same, ending each partition after `limit` rows.
    pub(crate) fn limited(mut self, limit: Option<usize>) -> Self {
        self.reader.limit = limit;
        self
    }
}

impl StoredScan {
    /// Whether a read may be of few rows: the table has few, or only a part of its keys is read.
    fn may_be_few(&self, access: &Access) -> bool {
        let has_few = self.rows.is_some_and(|rows| rows <= FEW_ROWS_MAX as u64);
        has_few || self.partitions.len() == 1 && !access.is_all()
    }
}

/// The order in which rows come: that of the leading key columns, as far as they are read and bytes order like values.
fn ordering(table: &StoredTable, columns: &[usize], schema: &SchemaRef) -> Option<LexOrdering> {
    if table.form == Form::Bag {
        return None;
    }
    let options = SortOptions { descending: false, nulls_first: true };
    let read = table.schema.key.iter().map_while(|&key| {
        let data_type = table.schema.columns[key].data_type;
        let ordered = !data_type.is_variable() && !data_type.has_equal_forms();
        let at = columns.iter().position(|&column| column == key).filter(|_| ordered)?;
        Some(PhysicalSortExpr::new(Arc::new(Column::new(schema.field(at).name(), at)), options))
    });
    LexOrdering::new(read)
}

impl DisplayAs for StoredScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredScan: table={}, ", self.reader.table.name)?;
        match self.partitions.as_slice() {
            [Access::Points(keys)] => write!(f, "keys={}", keys.len())?,
            [all] if all.is_all() => f.write_str("all")?,
            [Access::Ranges(ranges)] => write!(f, "ranges={}", ranges.len())?,
            many => write!(f, "partitions={}", many.len())?,
        }
        let names: Vec<_> = self.reader.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, ", columns=[{}]", names.join(", "))?;
        self.reader.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }
}

impl ExecutionPlan for StoredScan {
    fn name(&self) -> &'static str {
        "StoredScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a stored table has no inputs") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let reader = self.reader.clone();
        let access = self.partitions[partition].clone();
        let stream = if reader.is_short(&access) {
            reader.here(access)
        } else if self.may_be_few(&access) {
            reader.here_if_few(access)
        } else {
            reader.on_thread(access)
        };
        let counted = stream.inspect(move |batch| {
            if let Ok(batch) = batch {
                metrics.output_rows().add(batch.num_rows());
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.reader.schema), counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let points = |access: &Access| match access {
            Access::Points(keys) => Some(keys.len()),
            Access::Ranges(_) => None,
        };
        let known = self.partitions.iter().map(points).sum::<Option<usize>>();
        let rows = known.or_else(|| usize::try_from(self.rows?).ok());
        let num_rows = rows.map_or(Precision::Absent, Precision::Inexact);
        Ok(Arc::new(Statistics { num_rows, ..Statistics::new_unknown(&self.reader.schema) }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.clone().limited(limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.reader.limit
    }
}

impl Reader {
    /// Whether it is over in less time than a thread takes to start.
    fn is_short(&self, access: &Access) -> bool {
        matches!(access, Access::Points(_)) || self.limit.is_some_and(|limit| limit <= self.batch_rows)
    }

    fn here(self, access: Access) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = futures::stream::once(async move {
            let mut batches = Vec::new();
            let read = self.read(&access, &mut |batch| {
                batches.push(Ok(batch));
                true
            });
            if let Err(error) = read {
                batches.push(Err(error.into_datafusion()));
            }
            futures::stream::iter(batches)
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.flatten()))
    }

    /// Here if these are few rows, else on a thread from the first of them on.
    fn here_if_few(self, access: Access) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let batches = futures::stream::once(async move {
            let few = match self.few(&access) {
                Ok(None) => return self.on_thread(access).right_stream(),
                Ok(Some(batches)) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error.into_datafusion())],
            };
            futures::stream::iter(few).left_stream()
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, batches.flatten()))
    }

    /// All rows if they are few and make one batch.
    fn few(&self, access: &Access) -> crate::Result<Option<Vec<RecordBatch>>> {
        let limit = Some(self.limit.map_or(FEW_ROWS_MAX + 1, |limit| limit.min(FEW_ROWS_MAX + 1)));
        let mut batches: Vec<RecordBatch> = Vec::new();
        Self { limit, ..self.clone() }.read(access, &mut |batch| {
            batches.push(batch);
            batches.len() == 1
        })?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        Ok((rows <= FEW_ROWS_MAX && batches.len() <= 1).then_some(batches))
    }

    fn on_thread(self, access: Access) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_AHEAD_MAX);
        let sender = builder.tx();
        builder.spawn_blocking(move || {
            self.read(&access, &mut |batch| sender.blocking_send(Ok(batch)).is_ok()).map_err(Error::into_datafusion)
        });
        builder.build()
    }

    /// Reads until the end, the limit, or until `emit` says that nobody listens any more.
    fn read(&self, access: &Access, emit: &mut dyn FnMut(RecordBatch) -> bool) -> crate::Result<()> {
        if self.limit == Some(0) {
            return Ok(());
        }
        let mut batch = Batch { reader: self, rows: Rows::new(), waiting: 0, emitted: 0, emit };
        match access {
            Access::Points(keys) => {
                for key in keys {
                    let mut found = Ok(ControlFlow::Continue(()));
                    self.storage.get(self.table.id, key, &mut |value| found = batch.entry(value))?;
                    if found?.is_break() {
                        return Ok(());
                    }
                }
            }
            Access::Ranges(ranges) => {
                for KeyRange { from, to } in ranges {
                    let mut broken = false;
                    let visitor: crate::storage::Visitor<'_> = &mut |_, value| {
                        let flow = batch.entry(value)?;
                        broken = flow.is_break();
                        Ok(flow)
                    };
                    self.storage.visit(self.table.id, as_slice(from), as_slice(to), visitor)?;
                    if broken {
                        return Ok(());
                    }
                }
            }
        }
        batch.flush().map(|_| ())
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Encoded rows on their way to becoming columns.
struct Batch<'a> {
    reader: &'a Reader,
    rows: Rows,
    /// Rows in this batch; more than in `rows` when no column is read.
    waiting: usize,
    emitted: usize,
    emit: &'a mut dyn FnMut(RecordBatch) -> bool,
}

impl Batch<'_> {
    fn entry(&mut self, value: &[u8]) -> crate::Result<ControlFlow<()>> {
        match self.reader.table.form {
            Form::Keyed => self.row(value),
            Form::Bag => {
                let (weight, row) = weighted(value, &self.reader.table)?;
                for _ in 0..weight {
                    if self.row(row)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
        }
    }

    fn row(&mut self, row: &[u8]) -> crate::Result<ControlFlow<()>> {
        if !self.reader.columns.is_empty() {
            self.rows.push(row);
        }
        self.waiting += 1;
        if self.reader.limit.is_some_and(|limit| self.emitted + self.waiting >= limit) {
            return self.flush().map(|_| ControlFlow::Break(()));
        }
        let full = self.waiting >= self.reader.batch_rows || self.rows.byte_len() >= BATCH_BYTES_MAX;
        if full { self.flush() } else { Ok(ControlFlow::Continue(())) }
    }

    fn flush(&mut self) -> crate::Result<ControlFlow<()>> {
        if self.waiting == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        let reader = self.reader;
        let decoded = if reader.columns.is_empty() {
            relation::columns::batch(&reader.schema, vec![], self.waiting)
        } else {
            let rows = (0..self.rows.len()).map(|i| self.rows.get(i));
            relation::columns::decode(rows, &reader.layout, &reader.columns, &reader.schema)
        };
        let batch = decoded.map_err(|error| damaged(&reader.table, &error.to_string()))?;
        self.emitted += self.waiting;
        self.waiting = 0;
        self.rows.truncate(0);
        Ok(if (self.emit)(batch) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

/// Splits a bag's value.
fn weighted<'a>(value: &'a [u8], table: &StoredTable) -> crate::Result<(i64, &'a [u8])> {
    let (weight, row) = value.split_first_chunk::<8>().ok_or_else(|| damaged(table, "no weight"))?;
    match i64::from_le_bytes(*weight) {
        weight if weight >= 0 => Ok((weight, row)),
        weight => Err(damaged(table, &format!("weight {weight}"))),
    }
}

fn damaged(table: &StoredTable, what: &str) -> Error {
    Error::new(code::IO, format!("table {} cannot be read: {what}", table.name))
        .hint("Stop Tidemill, move its data folder away, and start it: all is loaded and built anew.")
}
