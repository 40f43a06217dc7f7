//! A flow as people read it: by the names of SQL, the output first.
//!
//! [`Flow`]'s own form is for tests: it names columns by their places, as operators do.

use arrow::datatypes::DataType as Arrow;
use datafusion_common::tree_node::{Transformed, TreeNode as _};
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{Expr, Operator, binary_expr, cast};
use relation::Schema;
use relation::key::Order;

use crate::flow::{Aggregate, Flow, JoinKind, Node, NodeId, Op};
use crate::postgres::texts::{quoted_literal, quoted_name};
use crate::postgres::types::in_sql;

/// Letters of a column that has no name of its own, and is called by what it is made of.
const LETTERS_MAX: usize = 80;

/// The flow as lines of a tree: what each step does, with the columns it yields. A step that is read twice is written out where it
/// is first met and goes by its number after that.
pub fn explained(flow: &Flow) -> Vec<String> {
    let mut lines = Vec::new();
    let explained = Explained { flow, names: Names::of(flow) };
    explained.explain(flow.output, 0, &mut vec![false; flow.nodes.len()], &mut lines);
    lines
}

/// A flow, and what its columns are called.
struct Explained<'a> {
    flow: &'a Flow,
    names: Names,
}

impl Explained<'_> {
    fn explain(&self, id: NodeId, depth: usize, printed: &mut [bool], lines: &mut Vec<String>) {
        let (node, indent) = (self.flow.node(id), "  ".repeat(depth));
        if printed[id.0] {
            lines.push(format!("{indent}#{} (above)", id.0));
            return;
        }
        printed[id.0] = true;
        lines.push(format!("{indent}#{} {}", id.0, self.step(id, node)));
        lines.push(format!("{indent}   → {}", columns(&node.schema, self.names.of_node(id))));
        node.inputs.iter().for_each(|input| self.explain(*input, depth + 1, printed, lines));
    }

    fn step(&self, id: NodeId, node: &Node) -> String {
        let input = |at: usize| node.inputs.get(at).map(|id| self.names.of_node(*id)).unwrap_or_default();
        let first = input(0);
        match &node.op {
            Op::Table { table, .. } => format!("read {}.{}", quoted_name(&table.schema), quoted_name(&table.name)),
            Op::Values { rows } => format!("{} constant rows", rows.len()),
            Op::Map { filter, outputs } => map(filter.as_ref(), outputs, first, self.names.of_node(id)),
            Op::Join { kind, left_keys, right_keys, residual } => {
                let right = input(1);
                let of = |side: &str, name: &String| format!("{side}.{name}");
                let equal = left_keys.iter().zip(right_keys).filter_map(|(l, r)| {
                    Some(format!("{} = {}", of("left", first.get(*l)?), of("right", right.get(*r)?)))
                });
                let both = first.iter().map(|name| of("left", name)).chain(right.iter().map(|name| of("right", name)));
                let both: Vec<String> = both.collect();
                let conditions: Vec<String> = equal.chain(residual.iter().map(|expr| shown(expr, &both))).collect();
                let on =
                    if conditions.is_empty() { String::new() } else { format!(" on {}", conditions.join(" and ")) };
                format!("{}{on}", join(*kind))
            }
            Op::Aggregate { group, aggregates } => aggregate(group, aggregates, first),
            Op::Unnest { lists, outer } => {
                let outer = if *outer { ", rows without elements once" } else { "" };
                format!("unnest {}{outer}", listed(first, lists))
            }
            Op::Union => "union all".to_owned(),
            Op::TopK { partition, order, offset, limit, numbered } => {
                let after = if *offset > 0 { format!(" after {offset}") } else { String::new() };
                let per =
                    if partition.is_empty() { String::new() } else { format!(" per {}", listed(first, partition)) };
                let order: Vec<String> =
                    order.iter().filter_map(|(at, order)| Some(ordered(first.get(*at)?, *order))).collect();
                let numbered = if *numbered { ", numbered" } else { "" };
                format!("first {limit} rows{after}{per} by {}{numbered}", order.join(", "))
            }
        }
    }
}

/// What the columns of each node are called: by the names of SQL where there are such, or else by what they are made of.
struct Names(Vec<Vec<String>>);

impl Names {
    fn of(flow: &Flow) -> Self {
        let mut all = Self(Vec::with_capacity(flow.nodes.len()));
        // Inputs stand before their readers.
        for (at, node) in flow.nodes.iter().enumerate() {
            let made = made_of(node, &all);
            let is_output = NodeId(at) == flow.output;
            let of_column = |column: usize| {
                let known = name(&node.schema, column, is_output);
                let made = || Some(shortened(made.get(column)?)).filter(|made| !made.is_empty());
                known.or_else(made).unwrap_or_else(|| format!("column {}", column + 1))
            };
            all.0.push((0..node.schema.columns.len()).map(of_column).collect());
        }
        all
    }

    fn of_node(&self, id: NodeId) -> &[String] {
        self.0.get(id.0).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What the columns of a node are made of, by the names of its inputs.
fn made_of(node: &Node, names: &Names) -> Vec<String> {
    let input = |at: usize| node.inputs.get(at).map(|id| names.of_node(*id)).unwrap_or_default();
    let first = input(0);
    match &node.op {
        Op::Table { .. } | Op::Values { .. } => Vec::new(),
        Op::Map { outputs, .. } => outputs.iter().map(|expr| shown(expr, first)).collect(),
        Op::Join { kind: JoinKind::Inner | JoinKind::Left, .. } => [first, input(1)].concat(),
        Op::Join { .. } | Op::Unnest { .. } | Op::Union => first.to_vec(),
        Op::Aggregate { group, aggregates } => {
            let groups = group.iter().map(|at| first.get(*at).cloned().unwrap_or_default());
            groups.chain(aggregates.iter().map(|one| aggregated(one, first))).collect()
        }
        Op::TopK { .. } => first.iter().cloned().chain(["row_number()".to_owned()]).collect(),
    }
}

/// The name that SQL has for a column. None where the planner has called it by what it is made of, or by a word of its own; but not
/// of what comes out, whose names are those of the model.
fn name(schema: &Schema, at: usize, is_output: bool) -> Option<String> {
    let name = schema.columns.get(at)?.name.as_str();
    // A column that is computed below goes by the table that it comes of.
    let is_plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let is_of_sql = name.split('.').all(is_plain) && !name.starts_with("__");
    if is_output {
        return Some(quoted_name(name));
    }
    let last = name.rsplit('.').next().filter(|_| is_of_sql)?;
    let alike = schema.columns.iter().filter(|other| other.name.rsplit('.').next() == Some(last)).count();
    let parts: Vec<String> =
        if alike == 1 { vec![last] } else { name.split('.').collect() }.into_iter().map(quoted_name).collect();
    Some(parts.join("."))
}

/// What a column is made of, cut where that is long.
fn shortened(made: &str) -> String {
    match made.char_indices().nth(LETTERS_MAX) {
        Some((end, _)) => format!("{}…", made.get(..end).unwrap_or_default().trim_end()),
        None => made.to_owned(),
    }
}

/// `day date, revenue decimal(20,2); one row per day`
fn columns(schema: &Schema, names: &[String]) -> String {
    let typed = names.iter().zip(&schema.columns);
    let all: Vec<String> = typed.map(|(name, column)| format!("{name} {}", column.data_type)).collect();
    match schema.key.is_empty() {
        true => all.join(", "),
        false => format!("{}; one row per {}", all.join(", "), listed(names, &schema.key)),
    }
}

fn listed(names: &[String], places: &[usize]) -> String {
    let names: Vec<&str> = places.iter().filter_map(|at| names.get(*at).map(String::as_str)).collect();
    names.join(", ")
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

fn aggregate(group: &[usize], aggregates: &[Aggregate], input: &[String]) -> String {
    let computed: Vec<String> = aggregates.iter().map(|one| aggregated(one, input)).collect();
    let by = listed(input, group);
    match (group.is_empty(), computed.is_empty()) {
        (_, true) => format!("distinct {by}"),
        (true, false) => format!("aggregate {}", computed.join(", ")),
        (false, false) => format!("aggregate {} by {by}", computed.join(", ")),
    }
}

fn aggregated(aggregate: &Aggregate, input: &[String]) -> String {
    let function = format!("{:?}", aggregate.function);
    let mut function_name = String::new();
    for c in function.chars() {
        if c.is_uppercase() && !function_name.is_empty() {
            function_name.push('_');
        }
        function_name.extend(c.to_lowercase());
    }
    let name = |at: usize| input.get(at).cloned().unwrap_or_default();
    let distinct = if aggregate.distinct { "distinct " } else { "" };
    let argument = aggregate.argument.map_or_else(|| "*".to_owned(), name);
    let filter = aggregate.filter.map(|at| format!(" filter (where {})", name(at))).unwrap_or_default();
    format!("{function_name}({distinct}{argument}){filter}")
}

/// What a map computes. Columns that only pass are not worth a word, unless they get another name.
fn map(filter: Option<&Expr>, outputs: &[Expr], input: &[String], output: &[String]) -> String {
    let mut computed = Vec::new();
    for (expr, name) in outputs.iter().zip(output) {
        let text = shown(expr, input);
        match (shortened(&text) == *name, matches!(expr, Expr::Column(_))) {
            (true, true) => {}
            (true, false) => computed.push(text),
            (false, _) => computed.push(format!("{text} as {name}")),
        }
    }
    let condition = filter.map(|filter| format!("where {}", shown(filter, input)));
    let what = match computed.is_empty() {
        true => condition.is_none().then(|| "choose columns".to_owned()),
        false => Some(format!("compute {}", computed.join(", "))),
    };
    what.into_iter().chain(condition).collect::<Vec<_>>().join(" ")
}

/// An expression with its columns by name, in the words of SQL.
fn shown(expr: &Expr, names: &[String]) -> String {
    let is_alone = matches!(expr, Expr::Column(_));
    let named = expr.clone().transform(|expr| {
        Ok(match expr {
            Expr::Column(column) => {
                match column.name.strip_prefix('c').and_then(|at| names.get(at.parse::<usize>().ok()?)) {
                    Some(name) => {
                        let name = if is_alone { name.clone() } else { operand(name) };
                        Transformed::yes(Expr::Column(Column::new_unqualified(name)))
                    }
                    None => Transformed::no(Expr::Column(column)),
                }
            }
            Expr::Literal(value, metadata) => match literal(&value) {
                Some(text) => Transformed::yes(Expr::Column(Column::new_unqualified(text))),
                None => Transformed::no(Expr::Literal(value, metadata)),
            },
            Expr::ScalarFunction(call) => match written(&call) {
                Some(written) => Transformed::yes(written),
                None => Transformed::no(Expr::ScalarFunction(call)),
            },
            other => Transformed::no(other),
        })
    });
    let text = in_sql(&named.map_or_else(|_| expr.to_string(), |named| named.data.to_string()));
    // The planner puts the members of a list into brackets of their own.
    let mut parts = text.split("IN ([");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, rest| format!("{text}IN ({}", rest.replacen("])", ")", 1)))
}

/// A value as SQL writes it; none of one that has no text.
fn literal(value: &ScalarValue) -> Option<String> {
    if value.is_null() {
        return Some("NULL".to_owned());
    }
    let ScalarValue::Utf8(Some(text)) = value.cast_to(&Arrow::Utf8).ok()? else { return None };
    Some(match value.data_type() {
        Arrow::Boolean => text,
        number if number.is_numeric() => text,
        Arrow::Interval(_) => format!("interval {}", quoted_literal(&text)),
        _ => quoted_literal(&text),
    })
}

/// What a column is called where it stands in an expression: what is made with an operator is put into brackets.
fn operand(name: &str) -> String {
    let mut depth = 0_usize;
    let is_open = name.chars().any(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ' ' && depth == 0
    });
    if is_open && !name.starts_with('"') { format!("({name})") } else { name.to_owned() }
}

/// How SQL writes what a function of the planner's own does; none of any other function.
fn written(call: &ScalarFunction) -> Option<Expr> {
    let name = call.name();
    match call.args.as_slice() {
        [left, right] => {
            let operator = match name {
                "checked_plus" | "time_plus" => Operator::Plus,
                "checked_minus" | "time_minus" => Operator::Minus,
                "checked_times" | "time_times" => Operator::Multiply,
                "float_quotient" | "time_over" => Operator::Divide,
                _ if name.starts_with("quotient_") => Operator::Divide,
                _ if name.starts_with("product_") => Operator::Multiply,
                _ => return None,
            };
            Some(binary_expr(left.clone(), operator, right.clone()))
        }
        [value] => {
            let to = match name {
                // They make values of one sort alike, and are nothing that anybody has written.
                "one_zero" | "in_utc" | "sort_key" | "whole_key" => return Some(value.clone()),
                _ if name.starts_with("of_whole_key as ") => return Some(value.clone()),
                "day_of" => Arrow::Date32,
                "to_text" => Arrow::Utf8,
                _ => name.strip_prefix("from_text as ")?.parse().ok()?,
            };
            Some(cast(value.clone(), to))
        }
        _ => None,
    }
}
