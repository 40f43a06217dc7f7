//! A flow as people read it: by the names of SQL, the output first.
//!
//! [`Flow`]'s own form is for tests: it names columns by their places, as operators do.

use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_expr::Expr;
use relation::Schema;
use relation::key::Order;

use crate::flow::{Aggregate, Flow, JoinKind, Node, NodeId, Op};
use crate::postgres::texts::quoted_name;
use crate::postgres::types::in_sql;

/// The flow as lines of a tree: what each step does, with the columns it yields. A step that is read twice is written out where it
/// is first met and goes by its number after that.
pub fn explained(flow: &Flow) -> Vec<String> {
    let mut lines = Vec::new();
    explain(flow, flow.output, 0, &mut vec![false; flow.nodes.len()], &mut lines);
    lines
}

fn explain(flow: &Flow, id: NodeId, depth: usize, printed: &mut [bool], lines: &mut Vec<String>) {
    let (node, indent) = (flow.node(id), "  ".repeat(depth));
    if printed[id.0] {
        lines.push(format!("{indent}#{} (above)", id.0));
        return;
    }
    printed[id.0] = true;
    lines.push(format!("{indent}#{} {}", id.0, step(flow, node)));
    lines.push(format!("{indent}   → {}", columns(&node.schema)));
    node.inputs.iter().for_each(|input| explain(flow, *input, depth + 1, printed, lines));
}

/// `day date, revenue decimal(20,2); one row per day`
fn columns(schema: &Schema) -> String {
    let named = schema.columns.iter().enumerate();
    let all: Vec<String> = named.map(|(at, column)| format!("{} {}", name(schema, at), column.data_type)).collect();
    match schema.key.is_empty() {
        true => all.join(", "),
        false => format!("{}; one row per {}", all.join(", "), names(schema, &schema.key).join(", ")),
    }
}

fn name(schema: &Schema, at: usize) -> String {
    let Some(column) = schema.columns.get(at) else { return format!("column {}", at + 1) };
    // The planner calls what is computed below by the table that it comes of.
    let last = column.name.rsplit('.').next().unwrap_or(&column.name);
    let alike = schema.columns.iter().filter(|other| other.name.rsplit('.').next() == Some(last)).count();
    quoted_name(if alike == 1 && !last.is_empty() { last } else { &column.name })
}

fn names(schema: &Schema, places: &[usize]) -> Vec<String> {
    places.iter().map(|at| name(schema, *at)).collect()
}

fn step(flow: &Flow, node: &Node) -> String {
    let input = |at: usize| node.inputs.get(at).map(|id| &flow.node(*id).schema);
    let empty = Schema::new(Vec::new(), Vec::new());
    let first = input(0).unwrap_or(&empty);
    match &node.op {
        Op::Table { table, .. } => format!("read {}.{}", quoted_name(&table.schema), quoted_name(&table.name)),
        Op::Values { rows } => format!("{} constant rows", rows.len()),
        Op::Map { filter, outputs } => map(filter.as_ref(), outputs, first, &node.schema),
        Op::Join { kind, left_keys, right_keys, residual } => {
            let right = input(1).unwrap_or(&empty);
            let equal = left_keys.iter().zip(right_keys).map(|(l, r)| {
                let (l, r) = (name(first, *l), name(right, *r));
                format!("left.{l} = right.{r}")
            });
            let both: Vec<String> = names(first, &all(first))
                .into_iter()
                .map(|name| format!("left.{name}"))
                .chain(names(right, &all(right)).into_iter().map(|name| format!("right.{name}")))
                .collect();
            let conditions: Vec<String> = equal.chain(residual.iter().map(|expr| shown(expr, &both))).collect();
            let on = if conditions.is_empty() { String::new() } else { format!(" on {}", conditions.join(" and ")) };
            format!("{}{on}", join(*kind))
        }
        Op::Aggregate { group, aggregates } => aggregate(group, aggregates, first),
        Op::Unnest { lists, outer } => {
            let outer = if *outer { ", rows without elements once" } else { "" };
            format!("unnest {}{outer}", names(first, lists).join(", "))
        }
        Op::Union => "union all".to_owned(),
        Op::TopK { partition, order, offset, limit, numbered } => {
            let after = if *offset > 0 { format!(" after {offset}") } else { String::new() };
            let per = if partition.is_empty() {
                String::new()
            } else {
                format!(" per {}", names(first, partition).join(", "))
            };
            let order: Vec<String> = order.iter().map(|(at, order)| ordered(&name(first, *at), *order)).collect();
            let numbered = if *numbered { ", numbered" } else { "" };
            format!("first {limit} rows{after}{per} by {}{numbered}", order.join(", "))
        }
    }
}

fn all(schema: &Schema) -> Vec<usize> {
    (0..schema.columns.len()).collect()
}

fn join(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "join",
        JoinKind::Left => "left join",
        JoinKind::Semi => "keep rows with a match (EXISTS, IN)",
        JoinKind::Anti => "keep rows without a match (NOT EXISTS)",
        JoinKind::NullAwareAnti => "keep rows without a match (NOT IN)",
    }
}

fn ordered(name: &str, order: Order) -> String {
    let direction = if order.descending { " desc" } else { "" };
    // As SQL takes it where nothing is said.
    let nulls = match (order.nulls_first, order.descending) {
        (true, false) => " nulls first",
        (false, true) => " nulls last",
        _ => "",
    };
    format!("{name}{direction}{nulls}")
}

fn aggregate(group: &[usize], aggregates: &[Aggregate], input: &Schema) -> String {
    let computed: Vec<String> = aggregates.iter().map(|one| aggregated(one, input)).collect();
    let by = names(input, group).join(", ");
    match (group.is_empty(), computed.is_empty()) {
        (_, true) => format!("distinct {by}"),
        (true, false) => format!("aggregate {}", computed.join(", ")),
        (false, false) => format!("aggregate {} by {by}", computed.join(", ")),
    }
}

fn aggregated(aggregate: &Aggregate, input: &Schema) -> String {
    let function = format!("{:?}", aggregate.function);
    let mut function_name = String::new();
    for c in function.chars() {
        if c.is_uppercase() && !function_name.is_empty() {
            function_name.push('_');
        }
        function_name.extend(c.to_lowercase());
    }
    let distinct = if aggregate.distinct { "distinct " } else { "" };
    let argument = aggregate.argument.map_or_else(|| "*".to_owned(), |at| name(input, at));
    let filter = aggregate.filter.map(|at| format!(" filter (where {})", name(input, at))).unwrap_or_default();
    format!("{function_name}({distinct}{argument}){filter}")
}

/// What a map computes. Columns that only pass are not worth a word, unless they get another name.
fn map(filter: Option<&Expr>, outputs: &[Expr], input: &Schema, output: &Schema) -> String {
    let inputs = names(input, &all(input));
    let mut computed = Vec::new();
    for (at, expr) in outputs.iter().enumerate() {
        let (text, name) = (shown(expr, &inputs), name(output, at));
        if text != name {
            computed.push(format!("{text} as {name}"));
        }
    }
    let condition = filter.map(|filter| format!("where {}", shown(filter, &inputs)));
    let what = match computed.is_empty() {
        true => condition.is_none().then(|| "choose columns".to_owned()),
        false => Some(format!("compute {}", computed.join(", "))),
    };
    what.into_iter().chain(condition).collect::<Vec<_>>().join(" ")
}

/// An expression with its columns by name.
fn shown(expr: &Expr, names: &[String]) -> String {
    let named = expr.clone().transform(|expr| {
        Ok(match &expr {
            Expr::Column(column) => match column.name.strip_prefix('c').and_then(|at| at.parse::<usize>().ok()) {
                Some(at) if at < names.len() => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(names[at].clone())))
                }
                _ => Transformed::no(expr),
            },
            _ => Transformed::no(expr),
        })
    });
    in_sql(&named.map_or_else(|_| expr.to_string(), |named| named.data.to_string()))
}
