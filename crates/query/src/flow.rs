//! A [`Flow`] as a DataFusion plan: how a state is built, and what its upkeep must agree with.
//!
//! Every node becomes a sub-plan whose columns are `c0`, `c1`, … in the types of the node's own schema. A node that is
//! read twice is planned twice; the optimiser sees one query.

use std::sync::Arc;

use arrow::datatypes::{DataType as Arrow, Schema as ArrowSchema};
use datafusion::catalog::MemTable;
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{
    Column, DFSchema, JoinConstraint, JoinType, NullEquality, NullHandling, TableReference, UnnestOptions,
};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as PlannerResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::expr::{AggregateFunction as Call, Sort, WindowFunction};
use datafusion::logical_expr::logical_plan::{Aggregate as Grouping, Join, SubqueryAlias, Union, Window};
use datafusion::logical_expr::{
    Expr, ExprFunctionExt as _, Extension, LogicalPlan, LogicalPlanBuilder, Projection, TableSource,
    WindowFunctionDefinition, cast, col, lit,
};
use plan::{Aggregate, AggregateFunction, Flow, JoinKind, Node, NodeId, Op, TableName, column_name};
use relation::key::Order;
use relation::{DataType, Layout, Rows, Schema, Value};

use crate::error::{Error, Result, code};
use crate::isolate::{IsolatedMap, Reject, isolated_condition};

/// What happens to a row on which an expression of a map fails, and to a pair on which the condition of a join does.
#[derive(Clone, Default)]
pub enum Isolation {
    /// The whole query fails, as in Postgres.
    #[default]
    Query,
    /// The row is left out and handed to this function, once per occurrence.
    Rows(Arc<dyn Fn(Reject) + Send + Sync>),
}

/// Where the rows of a table come from.
pub type Tables<'a> = &'a dyn Fn(&TableName) -> Result<Arc<dyn TableSource>>;

/// The plan of one node.
pub fn flow_to_logical(flow: &Flow, node: NodeId, isolation: &Isolation, tables: Tables<'_>) -> Result<LogicalPlan> {
    Converter { flow, isolation, tables }.node(node)
}

struct Converter<'a> {
    flow: &'a Flow,
    isolation: &'a Isolation,
    tables: Tables<'a>,
}

impl Converter<'_> {
    fn node(&self, id: NodeId) -> Result<LogicalPlan> {
        let node = self.flow.node(id);
        let inputs = node.inputs.iter().map(|&input| self.node(input)).collect::<Result<Vec<_>>>()?;
        let mut inputs = inputs.into_iter();
        let mut input = || inputs.next().ok_or_else(|| Error::internal(format!("node {} lacks an input", id.0)));
        let plan = match &node.op {
            Op::Table { table, columns } => scan(
                TableReference::partial(table.schema.as_str(), table.name.as_str()),
                (self.tables)(table)?,
                columns,
            )?,
            Op::Values { rows } => values(&node.schema, rows)?,
            Op::Map { filter, outputs } => self.map(id, node, input()?, filter.as_ref(), outputs)?,
            Op::Join { kind, left_keys, right_keys, residual } => {
                let (left, right) = (input()?, input()?);
                let condition = residual.as_ref().map(|residual| self.condition(id, node, residual)).transpose()?;
                Sides { left, right, left_keys, right_keys, condition }.join(*kind)?
            }
            Op::Aggregate { group, aggregates } => aggregate(input()?, group, aggregates)?,
            Op::Unnest { lists, outer } => {
                let columns = lists.iter().map(|&at| Column::from_name(column_name(at))).collect();
                let empty = if *outer { NullHandling::PreserveAndExpandEmpty } else { NullHandling::Drop };
                let options = UnnestOptions::new().with_null_handling(empty);
                LogicalPlanBuilder::from(input()?).unnest_columns_with_options(columns, options)?.build()?
            }
            Op::Union => LogicalPlan::Union(Union::try_new(inputs.map(Arc::new).collect())?),
            Op::TopK { partition, order, offset, limit, numbered } => {
                top(input()?, partition, order, *offset, *limit, *numbered)?
            }
        };
        Ok(typed(plan, &node.schema)?)
    }

    fn map(
        &self,
        id: NodeId,
        node: &Node,
        input: LogicalPlan,
        filter: Option<&Expr>,
        outputs: &[Expr],
    ) -> Result<LogicalPlan> {
        if let Isolation::Rows(report) = self.isolation {
            let types = self.types(node);
            let map = IsolatedMap::new(id, input, &types, (filter, outputs), &node.schema, Arc::clone(report))?;
            return Ok(LogicalPlan::Extension(Extension { node: Arc::new(map) }));
        }
        let mut builder = LogicalPlanBuilder::from(input);
        if let Some(filter) = filter {
            builder = builder.filter(filter.clone())?;
        }
        let named = outputs.iter().enumerate().map(|(i, output)| output.clone().alias(column_name(i)));
        Ok(builder.project(named.collect::<Vec<_>>())?.build()?)
    }

    /// The condition of a join in terms of its two sides; isolated where it may fail.
    fn condition(&self, id: NodeId, node: &Node, residual: &Expr) -> Result<Expr> {
        let width = node.inputs.first().map_or(0, |&left| self.flow.node(left).schema.columns.len());
        let Isolation::Rows(report) = self.isolation else { return Ok(over_both(residual, width)?) };
        if !plan::may_fail(residual) {
            return Ok(over_both(residual, width)?);
        }
        let types = self.types(node);
        let columns = (0..types.len()).map(|i| of_side(i, width)).collect();
        Ok(isolated_condition(id, residual, &types, columns, Arc::clone(report))?)
    }

    /// The columns of all inputs of a node.
    fn types(&self, node: &Node) -> Vec<DataType> {
        node.inputs.iter().flat_map(|&input| self.flow.node(input).schema.types()).collect()
    }
}

/// The plan with its columns called `c0`, `c1`, … and cast to the node's types, where they are not so already.
fn typed(plan: LogicalPlan, schema: &Schema) -> PlannerResult<LogicalPlan> {
    let fields = Arc::clone(plan.schema());
    let fits = |(i, (qualifier, field)): (usize, (Option<&TableReference>, &arrow::datatypes::FieldRef))| {
        qualifier.is_none()
            && *field.name() == column_name(i)
            && *field.data_type() == schema.columns[i].data_type.to_arrow()
    };
    if fields.fields().len() == schema.columns.len() && fields.iter().enumerate().all(fits) {
        return Ok(plan);
    }
    let columns = fields.iter().zip(&schema.columns).enumerate().map(|(i, ((qualifier, field), column))| {
        let value = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let target = column.data_type.to_arrow();
        let value = if *field.data_type() == target { value } else { cast(value, target) };
        value.alias(column_name(i))
    });
    Ok(LogicalPlan::Projection(Projection::try_new(columns.collect(), Arc::new(plan))?))
}

fn scan(name: TableReference, source: Arc<dyn TableSource>, columns: &[usize]) -> Result<LogicalPlan> {
    // The same column may be asked for twice; a scan lists each once.
    let mut distinct: Vec<usize> = columns.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let schema = source.schema();
    let scan = LogicalPlanBuilder::scan(name.clone(), source, Some(distinct))?;
    let named = columns
        .iter()
        .enumerate()
        .map(|(i, &at)| Expr::Column(Column::new(Some(name.clone()), schema.field(at).name())).alias(column_name(i)));
    Ok(scan.project(named.collect::<Vec<_>>())?.build()?)
}

fn values(schema: &Schema, rows: &[Vec<Value>]) -> Result<LogicalPlan> {
    let layout = Layout::new(schema.types());
    let mut encoded = Rows::new();
    for row in rows {
        encoded.push_values(&layout, row)?;
    }
    let names = schema.columns.iter().enumerate();
    let fields =
        names.map(|(i, column)| arrow::datatypes::Field::new(column_name(i), column.data_type.to_arrow(), true));
    let arrow = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    let columns: Vec<usize> = (0..schema.columns.len()).collect();
    let batch = relation::columns::decode((0..encoded.len()).map(|i| encoded.get(i)), &layout, &columns, &arrow)?;
    let table = MemTable::try_new(arrow, vec![vec![batch]])?;
    scan(TableReference::bare("values"), provider_as_source(Arc::new(table)), &columns)
}

/// Both inputs of a join.
struct Sides<'a> {
    left: LogicalPlan,
    right: LogicalPlan,
    left_keys: &'a [usize],
    right_keys: &'a [usize],
    /// Beyond the keys, in terms of the two sides.
    condition: Option<Expr>,
}

/// Qualifiers of the two sides.
const LEFT: &str = "l";
const RIGHT: &str = "r";

impl Sides<'_> {
    fn join(self, kind: JoinKind) -> Result<LogicalPlan> {
        let joined = match kind {
            JoinKind::Inner => self.plain(JoinType::Inner)?,
            JoinKind::Left => self.plain(JoinType::Left)?,
            JoinKind::Semi => self.plain(JoinType::LeftSemi)?,
            JoinKind::Anti => self.plain(JoinType::LeftAnti)?,
            JoinKind::NullAwareAnti => self.null_aware_anti()?,
        };
        Ok(joined)
    }

    fn plain(self, join_type: JoinType) -> PlannerResult<LogicalPlan> {
        let on = self.left_keys.iter().zip(self.right_keys).map(|(&l, &r)| (left(l), right(r)));
        let on = on.collect();
        let null_equality = NullEquality::NullEqualsNothing;
        let (l, r) = (aliased(self.left, LEFT)?, aliased(self.right, RIGHT)?);
        let join = Join::try_new(l, r, on, self.condition, join_type, JoinConstraint::On, null_equality, false)?;
        Ok(LogicalPlan::Join(join))
    }

    /// `NOT IN`: a left row stays if no right row makes the comparison true or unknown.
    ///
    /// With one key and nothing else that is: no match, and either there is no right row at all, or neither its own key
    /// nor any of the right is NULL. Otherwise the comparison is a condition, tried on every pair.
    fn null_aware_anti(self) -> Result<LogicalPlan> {
        let (&[left_key], &[right_key], None) = (self.left_keys, self.right_keys, &self.condition) else {
            return Ok(self.not_false_anti()?);
        };
        let key = col(column_name(right_key));
        let counts = vec![count(lit(1_i64)).alias("rows"), count(key).alias("known")];
        let counts = LogicalPlanBuilder::from(self.right.clone()).aggregate(Vec::<Expr>::new(), counts)?.build()?;
        let width = self.left.schema().fields().len();
        let unmatched = self.plain(JoinType::LeftAnti)?;
        let empty = col("rows").eq(lit(0_i64));
        let certain = left(left_key).is_not_null().and(col("rows").eq(col("known")));
        let kept = LogicalPlanBuilder::from(unmatched).cross_join(counts)?.filter(empty.or(certain))?;
        Ok(kept.project((0..width).map(left).collect::<Vec<_>>())?.build()?)
    }

    fn not_false_anti(self) -> PlannerResult<LogicalPlan> {
        let mut condition = lit(true);
        for (&l, &r) in self.left_keys.iter().zip(self.right_keys) {
            condition = condition.and(left(l).eq(right(r)));
        }
        let mut filter = condition.is_not_false();
        if let Some(more) = self.condition {
            filter = filter.and(more);
        }
        let (l, r) = (aliased(self.left, LEFT)?, aliased(self.right, RIGHT)?);
        let (none, equality) = (Vec::new(), NullEquality::NullEqualsNothing);
        let join = Join::try_new(l, r, none, Some(filter), JoinType::LeftAnti, JoinConstraint::On, equality, false)?;
        Ok(LogicalPlan::Join(join))
    }
}

/// A condition over left then right columns, in terms of the two sides.
fn over_both(condition: &Expr, width: usize) -> PlannerResult<Expr> {
    let rewritten = condition.clone().transform_up(|expr| match expr {
        Expr::Column(column) => {
            let position = column.name.strip_prefix('c').and_then(|number| number.parse::<usize>().ok());
            Ok(match position {
                Some(i) => Transformed::yes(of_side(i, width)),
                None => Transformed::no(Expr::Column(column)),
            })
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(rewritten.data)
}

/// A column by its place among the left columns and then the right ones.
fn of_side(i: usize, width: usize) -> Expr {
    i.checked_sub(width).map_or_else(|| left(i), right)
}

fn aliased(plan: LogicalPlan, name: &str) -> PlannerResult<Arc<LogicalPlan>> {
    Ok(Arc::new(LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(plan), name)?)))
}

fn left(i: usize) -> Expr {
    Expr::Column(Column::new(Some(LEFT), column_name(i)))
}

fn right(i: usize) -> Expr {
    Expr::Column(Column::new(Some(RIGHT), column_name(i)))
}

fn aggregate(input: LogicalPlan, group: &[usize], aggregates: &[Aggregate]) -> Result<LogicalPlan> {
    let schema = Arc::clone(input.schema());
    let groups = group.iter().map(|&column| col(column_name(column))).collect();
    let calls =
        aggregates.iter().enumerate().map(|(i, aggregate)| Ok(call(&schema, aggregate)?.alias(format!("a{i}"))));
    let calls = calls.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Aggregate(Grouping::try_new(Arc::new(input), groups, calls)?))
}

fn call(schema: &DFSchema, aggregate: &Aggregate) -> Result<Expr> {
    let name = match aggregate.function {
        AggregateFunction::Count => "count",
        AggregateFunction::Sum => "sum",
        AggregateFunction::Avg => "avg",
        AggregateFunction::Min => "min",
        AggregateFunction::Max => "max",
        AggregateFunction::BoolAnd => "bool_and",
        AggregateFunction::BoolOr => "bool_or",
    };
    let function = plan::functions().aggregate.get(name);
    let function =
        function.ok_or_else(|| Error::new(code::UNKNOWN_FUNCTION, format!("function {name} does not exist")))?;
    let argument = aggregate.argument.map_or_else(|| lit(1_i64), |column| summand(schema, aggregate, column));
    let filter = aggregate.filter.map(|column| Box::new(col(column_name(column))));
    let call = Call::new_udf(Arc::clone(function), vec![argument], aggregate.distinct, filter, vec![], None);
    Ok(Expr::AggregateFunction(call))
}

/// The argument column. Sums of narrow integers and floats are made of their wide kind, as the planner's coercion has it.
fn summand(schema: &DFSchema, aggregate: &Aggregate, column: usize) -> Expr {
    let value = col(column_name(column));
    let narrow = schema.field(column).data_type();
    let sums = matches!(aggregate.function, AggregateFunction::Sum | AggregateFunction::Avg);
    match narrow {
        Arrow::Int16 | Arrow::Int32 if sums => cast(value, Arrow::Int64),
        Arrow::Float32 if sums => cast(value, Arrow::Float64),
        _ => value,
    }
}

fn top(
    input: LogicalPlan,
    partition: &[usize],
    order: &[(usize, Order)],
    offset: u64,
    limit: u64,
    numbered: bool,
) -> Result<LogicalPlan> {
    let width = input.schema().fields().len();
    let function = plan::functions().window.get("row_number");
    let function = function.ok_or_else(|| Error::new(code::UNKNOWN_FUNCTION, "function row_number does not exist"))?;
    let order =
        order.iter().map(|(column, order)| Sort::new(col(column_name(*column)), !order.descending, order.nulls_first));
    let call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(Arc::clone(function)), vec![]);
    let number = Expr::from(call).partition_by(partition.iter().map(|&column| col(column_name(column))).collect());
    // A partition by a key has one row, which needs no order.
    let order: Vec<_> = order.collect();
    let number = if order.is_empty() { number } else { number.order_by(order) };
    let number = number.build()?.alias("number");
    let window = LogicalPlan::Window(Window::try_new(vec![number], Arc::new(input))?);
    let first = col("number").gt(lit(offset));
    let last = col("number").lt_eq(lit(offset.saturating_add(limit)));
    let kept = LogicalPlanBuilder::from(window).filter(first.and(last))?;
    let mut columns: Vec<Expr> = (0..width).map(|i| col(column_name(i))).collect();
    if numbered {
        columns.push(col("number").alias(column_name(width)));
    }
    Ok(kept.project(columns)?.build()?)
}
