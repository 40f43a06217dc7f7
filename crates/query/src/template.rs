//! Optimised plans without a step, kept for statements to come.
//!
//! A template is a plan over stored tables of which only the step is open that it is read at, and the values of parameters. It
//! keeps no snapshot. Giving it both takes no planner; what the optimiser does with the values is done after that, by a few of
//! its rules ([`crate::runtime`]).

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _, TreeNodeRecursion};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, LogicalPlan, Operator, TableScan, TableSource, Volatility};
use relation::TableId;

use crate::error::Error;
use crate::planning::is_plain;
use crate::scan::StoredProvider;
use crate::session::Reads;
use crate::storage::{Storage, Visitor};

/// Bytes of a plan that is kept, as far as they are reckoned.
const PLAN_BYTES_MAX: usize = 512 << 10;
/// About what a node, a column of one and a part of an expression take.
const NODE_BYTES: usize = 512;
const COLUMN_BYTES: usize = 128;
const EXPR_BYTES: usize = 256;

/// An optimised plan that is read at no step yet.
#[derive(Debug)]
pub(crate) struct Template {
    plan: LogicalPlan,
    /// The columns of the answer.
    schema: SchemaRef,
    /// What its statement names.
    reads: Reads,
    /// Whether it has parameters.
    is_open: bool,
    /// Whether it is one SELECT of one relation.
    is_plain: bool,
    bytes: usize,
}

impl Template {
    /// None: it is not to be kept, since it is large or reads something else than stored tables.
    pub(crate) fn of(plan: &LogicalPlan, schema: &SchemaRef, reads: &Reads) -> Option<Self> {
        let size = Size::of(plan)?;
        let plan = over(plan.clone(), &(Arc::new(NoStep) as Arc<dyn Storage>), &[]).ok()?;
        let bytes = size.bytes + reads.len() * COLUMN_BYTES;
        let (schema, reads) = (Arc::clone(schema), Arc::clone(reads));
        let is_plain = is_plain(&plan);
        Some(Self { plan, schema, reads, is_open: size.is_open, is_plain, bytes })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(crate) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Whether it has parameters, whose values the optimiser has not seen.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the optimiser's rules need to go over it once ([`is_plain`]).
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The plan at a step, with values in the place of its parameters.
    pub(crate) fn at(&self, storage: &Arc<dyn Storage>, values: &[ScalarValue]) -> Result<LogicalPlan> {
        over(self.plan.clone(), storage, values)
    }
}

/// A plan whose stored tables are read of this storage, with these values of its parameters.
fn over(plan: LogicalPlan, storage: &Arc<dyn Storage>, values: &[ScalarValue]) -> Result<LogicalPlan> {
    let valued = |expr: Expr| match expr {
        Expr::Placeholder(placeholder) => match value_of(&placeholder, values) {
            Some(value) => Transformed::yes(Expr::Literal(value.clone(), None)),
            None => Transformed::no(Expr::Placeholder(placeholder)),
        },
        other => Transformed::no(other),
    };
    plan.transform_up_with_subqueries(|node| {
        let node = match node {
            LogicalPlan::TableScan(scan) => match stored(&scan.source) {
                Some(provider) => {
                    let source = provider_as_source(Arc::new(provider.at(Arc::clone(storage))));
                    Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan }))
                }
                None => Transformed::no(LogicalPlan::TableScan(scan)),
            },
            other => Transformed::no(other),
        };
        if values.is_empty() {
            return Ok(node);
        }
        node.transform_data(|node| node.map_expressions(|expr| expr.transform_up(|expr| Ok(valued(expr)))))
    })
    .data()
}

fn value_of<'a>(placeholder: &Placeholder, values: &'a [ScalarValue]) -> Option<&'a ScalarValue> {
    let number = placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?;
    values.get(number.checked_sub(1)?)
}

/// The stored table that a scan reads.
fn stored(source: &Arc<dyn TableSource>) -> Option<StoredProvider> {
    let provider = source_as_provider(source).ok()?;
    let provider: &dyn std::any::Any = provider.as_ref();
    provider.downcast_ref::<StoredProvider>().cloned()
}

/// What a plan takes in memory.
struct Size {
    bytes: usize,
    is_open: bool,
}

impl Size {
    /// None: it is not to be kept.
    fn of(plan: &LogicalPlan) -> Option<Self> {
        let mut size = Self { bytes: 0, is_open: false };
        let mut is_kept = true;
        let walked = plan.apply_with_subqueries(|node| {
            size.bytes += NODE_BYTES + node.schema().fields().len() * COLUMN_BYTES;
            let mut open = false;
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    size.bytes += match expr {
                        Expr::Literal(value, _) => EXPR_BYTES + value.size(),
                        _ => EXPR_BYTES,
                    };
                    open |= matches!(expr, Expr::Placeholder(_));
                    Ok(TreeNodeRecursion::Continue)
                })
            })?;
            size.is_open |= open;
            is_kept &= size.bytes <= PLAN_BYTES_MAX
                && match node {
                    LogicalPlan::TableScan(scan) => stored(&scan.source).is_some(),
                    LogicalPlan::Filter(_) | LogicalPlan::Join(_) | LogicalPlan::Limit(_) => true,
                    LogicalPlan::Explain(_) | LogicalPlan::Analyze(_) => false,
                    // Elsewhere an expression's text may be a column's name.
                    _ => !open,
                };
            Ok(if is_kept { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        (walked.is_ok() && is_kept).then_some(size)
    }
}

/// Whether a plan as it was written says the same whenever it is planned: nothing in it is of the time.
pub(crate) fn is_lasting(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            let is_of_time = |expr: &Expr| match expr {
                Expr::ScalarFunction(call) => call.func.signature().volatility == Volatility::Stable,
                Expr::ScalarVariable(..) => true,
                _ => false,
            };
            found |= expr.exists(|expr| Ok(is_of_time(expr)))?;
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(!found)
}

/// Whether an analysed plan has its parameters only where it depends on their types alone: as what a column is compared with, or
/// as a limit. Elsewhere a type, a name or a form may be that of a value.
pub(crate) fn is_by_types(plan: &LogicalPlan) -> Result<bool> {
    let mut is_so = true;
    plan.apply_with_subqueries(|node| {
        let is_limit = matches!(node, LogicalPlan::Limit(_));
        node.apply_expressions(|expr| {
            if is_limit && matches!(expr, Expr::Placeholder(_)) {
                return Ok(TreeNodeRecursion::Continue);
            }
            expr.apply(|expr| {
                is_so &= !matches!(expr, Expr::Placeholder(_));
                Ok(if is_comparison(expr) { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if is_so { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_so)
}

/// Whether a column is compared with parameters.
fn is_comparison(expr: &Expr) -> bool {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq | Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq,
            right,
        }) => is_column(left) && is_parameter(right) || is_parameter(left) && is_column(right),
        Expr::Between(Between { expr, low, high, .. }) => is_column(expr) && is_parameter(low) && is_parameter(high),
        _ => false,
    }
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        // Numbers are widened, whichever they are.
        Expr::Cast(cast) => cast.field.data_type().is_numeric() && matches!(cast.expr.as_ref(), Expr::Column(_)),
        _ => false,
    }
}

fn is_parameter(expr: &Expr) -> bool {
    let is_number =
        |placeholder: &Placeholder| placeholder.field.as_ref().is_some_and(|field| field.data_type().is_numeric());
    match expr {
        Expr::Placeholder(placeholder) => placeholder.field.is_some(),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Placeholder(placeholder) => cast.field.data_type().is_numeric() && is_number(placeholder),
            _ => false,
        },
        _ => false,
    }
}

/// Tables at no step, which a template stands on.
struct NoStep;

impl fmt::Debug for NoStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no step")
    }
}

impl NoStep {
    fn unread<T>() -> crate::Result<T> {
        Err(Error::internal("a plan is read at no step"))
    }
}

impl Storage for NoStep {
    fn step(&self) -> u64 {
        0
    }

    fn get(&self, _: TableId, _: &[u8], _: &mut dyn FnMut(&[u8])) -> crate::Result<()> {
        Self::unread()
    }

    fn visit(&self, _: TableId, _: Bound<&[u8]>, _: Bound<&[u8]>, _: Visitor<'_>) -> crate::Result<()> {
        Self::unread()
    }

    fn last_key(&self, _: TableId, _: Bound<&[u8]>, _: Bound<&[u8]>) -> crate::Result<Option<Vec<u8>>> {
        Self::unread()
    }
}
