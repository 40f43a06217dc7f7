//! Expressions of a map, evaluated on batches by DataFusion's physical expressions.
//!
//! One evaluator serves builds and upkeep, at every batch size, so both agree by construction; the queries of builds
//! compile and evaluate by the same functions ([`query::expression`]). A batch that fails is
//! halved until the failing rows stand alone: they come back as [`Failure`]s, the others as the answer.

#![expect(clippy::cast_possible_truncation, reason = "positions of rows in a batch, which holds fewer than 4 Gi")]

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use plan::may_fail;
use query::expression::{compiled, mask, typed, value};
use relation::{DataType, Delta};

use crate::error::{Error, Result};

/// A row for which an expression failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Position in the input batch.
    pub row: u32,
    /// What the expression said.
    pub error: query::Error,
}

/// What a map makes of a batch.
pub struct Mapped {
    pub batch: RecordBatch,
    /// Input positions of the output rows; none: all, in order.
    pub kept: Option<Vec<u32>>,
    pub failures: Vec<Failure>,
}

impl Mapped {
    /// The output with the weights that its rows had in the input.
    pub fn weighted(self, weights: &[i64]) -> Delta {
        let weights = match self.kept {
            None => weights.to_vec(),
            Some(kept) => kept.iter().map(|&row| weights[row as usize]).collect(),
        };
        Delta::new(self.batch, weights)
    }
}

/// A compiled map: filter, then outputs.
pub struct MapProgram {
    filter: Option<Arc<dyn PhysicalExpr>>,
    outputs: Vec<Output>,
    schema: SchemaRef,
    is_fallible: bool,
}

enum Output {
    Column(usize),
    Computed(Arc<dyn PhysicalExpr>),
}

/// A condition over columns `c0…`, compiled.
pub struct Condition(Arc<dyn PhysicalExpr>);

impl Condition {
    /// Compiles a boolean expression over columns of these types.
    pub fn new(expression: &Expr, input: &[DataType]) -> Result<Self> {
        Ok(Self(compile(expression, input)?))
    }

    /// The columns that it reads, in order.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = collect_columns(&self.0).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        columns
    }

    /// Positions of the rows for which it is true. Rows where it fails do not hold and are reported.
    pub fn select(&self, batch: &RecordBatch) -> (Vec<u32>, Vec<Failure>) {
        let mut holds = Vec::new();
        let mut failures = Vec::new();
        each_part(
            batch,
            0,
            &mut |part, from| {
                let mask = mask(&self.0, part)?;
                holds.extend(
                    (0..part.num_rows()).filter(|&i| mask.is_valid(i) && mask.value(i)).map(|i| from + i as u32),
                );
                Ok(())
            },
            &mut failures,
        );
        (holds, failures)
    }
}

impl MapProgram {
    /// Compiles the expressions over input columns `c0…` of the given types, for outputs of the given types.
    pub fn new(filter: Option<&Expr>, outputs: &[Expr], input: &[DataType], output: &relation::Schema) -> Result<Self> {
        let is_fallible = filter.into_iter().chain(outputs).any(may_fail);
        let filter = filter.map(|expression| compile(expression, input)).transpose()?;
        let outputs = outputs
            .iter()
            .map(|expression| match plain_column(expression) {
                Some(column) => Ok(Output::Column(column)),
                None => compile(expression, input).map(Output::Computed),
            })
            .collect::<Result<_>>()?;
        Ok(Self { filter, outputs, schema: arrow_schema(output), is_fallible })
    }

    /// Per output the input column that it passes through unchanged.
    pub fn columns(&self) -> Vec<Option<usize>> {
        let passed = self.outputs.iter().map(|output| match output {
            Output::Column(i) => Some(*i),
            Output::Computed(_) => None,
        });
        passed.collect()
    }

    /// Whether there may be rows for which it fails.
    pub fn is_fallible(&self) -> bool {
        self.is_fallible
    }

    /// Evaluates a batch.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Mapped> {
        let mut parts = Vec::new();
        let mut kept: Option<Vec<u32>> = None;
        let mut failures = Vec::new();
        each_part(
            batch,
            0,
            &mut |part, from| {
                let (rows, filtered) = match &self.filter {
                    None => (None, part.clone()),
                    Some(filter) => {
                        let mask = mask(filter, part)?;
                        let rows: Vec<u32> = (0..part.num_rows())
                            .filter(|&i| mask.is_valid(i) && mask.value(i))
                            .map(|i| i as u32)
                            .collect();
                        if rows.is_empty() {
                            kept.get_or_insert_default();
                            return Ok(());
                        }
                        if rows.len() == part.num_rows() {
                            (None, part.clone())
                        } else {
                            let taken = relation::columns::taken(part, &rows)
                                .map_err(|e| datafusion_common::DataFusionError::External(Box::new(e)))?;
                            (Some(rows), taken)
                        }
                    }
                };
                let output = self.project(&filtered)?;
                if rows.is_some() || from > 0 || part.num_rows() < batch.num_rows() {
                    let positions: Vec<u32> = rows.unwrap_or_else(|| (0..part.num_rows() as u32).collect());
                    kept.get_or_insert_default().extend(positions.iter().map(|r| from + r));
                }
                parts.push(output);
                Ok(())
            },
            &mut failures,
        );
        if !failures.is_empty() {
            kept.get_or_insert_default();
        }
        let batch = if parts.len() == 1 { parts.remove(0) } else { concat_batches(&self.schema, &parts)? };
        Ok(Mapped { batch, kept, failures })
    }

    fn project(&self, batch: &RecordBatch) -> datafusion_common::Result<RecordBatch> {
        let arrays = self.outputs.iter().zip(self.schema.fields()).map(|(output, field)| match output {
            Output::Column(i) => typed(Arc::clone(batch.column(*i)), field.data_type()),
            Output::Computed(expression) => value(expression, batch, field.data_type()),
        });
        let arrays = arrays.collect::<datafusion_common::Result<Vec<_>>>()?;
        relation::columns::batch(&self.schema, arrays, batch.num_rows())
            .map_err(|e| datafusion_common::DataFusionError::External(Box::new(e)))
    }
}

/// The Arrow schema of a relation between operators: every column nullable, so that batches of all origins fit.
pub fn arrow_schema(schema: &relation::Schema) -> SchemaRef {
    let fields = schema.columns.iter().map(|c| Field::new(&c.name, c.data_type.to_arrow(), true));
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

/// The input column that an expression passes through unchanged.
pub fn plain_column(expression: &Expr) -> Option<usize> {
    match expression {
        Expr::Column(column) => column.name.strip_prefix('c')?.parse().ok(),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}

fn compile(expression: &Expr, input: &[DataType]) -> Result<Arc<dyn PhysicalExpr>> {
    compiled(expression, input).map_err(|error| Error::Expression {
        expression: expression.to_string(),
        reason: query::Error::from(error).message,
    })
}

/// Applies `evaluate` to the batch, or, where that fails, to its halves, down to the rows that fail alone.
fn each_part(
    batch: &RecordBatch,
    from: u32,
    evaluate: &mut dyn FnMut(&RecordBatch, u32) -> datafusion_common::Result<()>,
    failures: &mut Vec<Failure>,
) {
    let rows = batch.num_rows();
    // An expression may fail without any row: then it fails for none.
    if rows == 0 {
        return;
    }
    let Err(error) = evaluate(batch, from) else { return };
    if rows <= 1 {
        failures.push(Failure { row: from, error: error.into() });
        return;
    }
    let half = rows / 2;
    each_part(&batch.slice(0, half), from, evaluate, failures);
    each_part(&batch.slice(half, rows - half), from + half as u32, evaluate, failures);
}
