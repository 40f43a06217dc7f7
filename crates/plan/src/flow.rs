//! `Flow`: a model as operators that can be kept true under change.
//!
//! A flow is a DAG of nodes in topological order, inputs before readers. Every node yields a relation: the columns of
//! its [`Node::schema`], whose `key` names columns that identify a row of it, where the plan can prove that (empty: a
//! bag). Operators other than [`Op::Map`] see plain columns by position; all computing of values is in maps, whose
//! expressions name column `i` of their input `c{i}` ([`column_name`]).
//!
//! A flow says *what* is kept, not how: which index or table answers a join's look-ups is the engine's to decide.

use std::fmt;

use datafusion_expr::Expr;
use relation::key::Order;
use relation::{DataType, Schema, Value};

/// The name under which expressions of a map refer to column `i` of the input.
pub fn column_name(i: usize) -> String {
    format!("c{i}")
}

/// Position of a node in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A table or a kept model by its qualified name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    /// The table `name` in `schema`.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// Operators of one model, inputs before readers.
#[derive(Debug, Clone)]
pub struct Flow {
    pub nodes: Vec<Node>,
    /// The node whose rows are the model's.
    pub output: NodeId,
}

/// One operator with what it yields.
#[derive(Debug, Clone)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<NodeId>,
    /// Columns with the names a user would know them by; `key` as far as it can be proven.
    pub schema: Schema,
    /// Hash of the operator, its schema and the identities of its inputs (a Merkle hash, hex): equal sub-plans of
    /// different models are one node, and the state of a node is found again by it after a restart.
    pub identity: String,
}

/// What a node does. Columns are positions in the input (of a join: of each side).
#[derive(Debug, Clone)]
pub enum Op {
    /// Some columns of a stored table or a kept model.
    Table { table: TableName, columns: Vec<usize> },
    /// Constant rows, one each.
    Values { rows: Vec<Vec<Value>> },
    /// Rows for which `filter` is true, then `outputs` computed of them. Linear.
    Map { filter: Option<Expr>, outputs: Vec<Expr> },
    /// Rows of the left input (inputs 0) with those of the right (input 1) that have equal keys. NULL equals nothing.
    ///
    /// Output columns: left then right, for semi and anti joins the left ones alone. `residual` is a further condition
    /// over left then right columns (`c0…`); on a left join it is part of the match, not a filter afterwards. Without
    /// keys every pair is compared: the planner admits that only where one side is a single row.
    Join { kind: JoinKind, left_keys: Vec<usize>, right_keys: Vec<usize>, residual: Option<Expr> },
    /// One row per distinct value of the group columns (NULLs are one group); without group columns always one row.
    /// Output columns: the group columns, then the aggregates. No aggregates: DISTINCT.
    Aggregate { group: Vec<usize>, aggregates: Vec<Aggregate> },
    /// Each row as often as the longest of its arrays in these columns has elements, with the elements in the place of the
    /// arrays, and NULL where there are fewer; with `outer` a row without elements comes once, with NULLs. Linear.
    Unnest { lists: Vec<usize>, outer: bool },
    /// All rows of all inputs, whose columns have the same types.
    Union,
    /// The rows numbered `offset + 1` to `offset + limit` of each partition in this order. The order is total: the
    /// planner appended a key of the input or all its columns. With `numbered`, the number (from 1, a `bigint unsigned`
    /// column) is the last output column.
    TopK { partition: Vec<usize>, order: Vec<(usize, Order)>, offset: u64, limit: u64, numbered: bool },
}

/// Which rows of a join come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    Inner,
    /// And the left rows without a match, padded with NULLs.
    Left,
    /// Left rows with a match, once.
    Semi,
    /// Left rows without a match.
    Anti,
    /// `NOT IN`: left rows are out if any right key is NULL, or their own is while the right side has rows.
    NullAwareAnti,
}

/// One aggregate of a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aggregate {
    pub function: AggregateFunction,
    /// The argument column; none for `count(*)`.
    pub argument: Option<usize>,
    /// `FILTER (WHERE …)`: a boolean column; rows where it is not true do not count.
    pub filter: Option<usize>,
    /// Over distinct values of the argument.
    pub distinct: bool,
    /// Type of the result, as DataFusion's own function has it.
    pub output: DataType,
}

/// The aggregates that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// Rows, or non-null values of the argument.
    Count,
    Sum,
    /// Of decimals (as DataFusion scales them) or of `Float64`.
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
}

impl Flow {
    /// A node by id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The stored tables and kept models that it reads, each once.
    pub fn tables(&self) -> Vec<&TableName> {
        let mut names: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| match &node.op {
                Op::Table { table, .. } => Some(table),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// A tree, the output first; a node read twice is printed where it is first met and named after that.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = vec![false; self.nodes.len()];
        self.print(f, self.output, 0, &mut printed)
    }
}

impl Flow {
    fn print(&self, f: &mut fmt::Formatter<'_>, id: NodeId, depth: usize, printed: &mut [bool]) -> fmt::Result {
        let node = self.node(id);
        let indent = "  ".repeat(depth);
        if printed[id.0] {
            return writeln!(f, "{indent}#{} (above)", id.0);
        }
        printed[id.0] = true;
        writeln!(f, "{indent}#{} {} -> ({})", id.0, node.op, node.schema)?;
        node.inputs.iter().try_for_each(|&input| self.print(f, input, depth + 1, printed))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table { table, columns } => write!(f, "table {table} {}", positions(columns)),
            Self::Values { rows } => write!(f, "values {} rows", rows.len()),
            Self::Map { filter, outputs } => {
                let outputs: Vec<_> = outputs.iter().map(ToString::to_string).collect();
                write!(f, "map [{}]", outputs.join(", "))?;
                filter.as_ref().map_or(Ok(()), |condition| write!(f, " where {condition}"))
            }
            Self::Join { kind, left_keys, right_keys, residual } => {
                write!(f, "{kind:?} join {} = {}", positions(left_keys), positions(right_keys))?;
                residual.as_ref().map_or(Ok(()), |condition| write!(f, " and {condition}"))
            }
            Self::Aggregate { group, aggregates } => {
                let aggregates: Vec<_> = aggregates.iter().map(ToString::to_string).collect();
                write!(f, "aggregate by {} [{}]", positions(group), aggregates.join(", "))
            }
            Self::Unnest { lists, outer } => {
                let outer = if *outer { "outer " } else { "" };
                write!(f, "{outer}unnest {}", positions(lists))
            }
            Self::Union => f.write_str("union all"),
            Self::TopK { partition, order, offset, limit, numbered } => {
                write!(f, "top {limit}")?;
                if *offset > 0 {
                    write!(f, " after {offset}")?;
                }
                write!(f, " by {} order [", positions(partition))?;
                for (i, (column, order)) in order.iter().enumerate() {
                    let separator = if i == 0 { "" } else { ", " };
                    let direction = if order.descending { " desc" } else { "" };
                    let nulls = if order.nulls_first { " nulls first" } else { "" };
                    write!(f, "{separator}c{column}{direction}{nulls}")?;
                }
                f.write_str(if *numbered { "] numbered" } else { "]" })
            }
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{:?}", self.function).to_ascii_lowercase();
        let distinct = if self.distinct { "distinct " } else { "" };
        let argument = self.argument.map_or_else(|| "*".to_owned(), column_name);
        write!(f, "{name}({distinct}{argument})")?;
        self.filter.map_or(Ok(()), |column| write!(f, " filter c{column}"))
    }
}

fn positions(columns: &[usize]) -> String {
    let names: Vec<_> = columns.iter().map(|&c| column_name(c)).collect();
    format!("[{}]", names.join(", "))
}
