//! `/models/<schema>/<name>` and `/tables/<schema>/<name>`: everything about one node.

use askama::Template;

use super::{Frame, document};
use crate::chart::{Lines, lines_html};
use crate::graph::{Node, NodeKind};
use crate::grid::Grid;
use crate::{Live, Panel, number, url};

/// A column of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Whether it may be NULL, if that is known.
    pub nullable: String,
    /// What the project says that it holds.
    pub description: String,
    /// Which columns its values come from.
    pub made_of: Vec<Origin>,
}

/// A column that another one is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// `schema.name` of the table or model.
    pub node: String,
    /// Where its page is.
    pub href: String,
    /// The column's name.
    pub column: String,
}

/// A test that the project declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeTest {
    /// Its name, with its arguments.
    pub name: String,
    /// The column it is about, if it is about one.
    pub column: String,
    /// What a failing row means: `error` or `warn`.
    pub severity: String,
    /// A statement of the failing rows; empty where the test cannot be asked for by one.
    pub sql: String,
    /// What came of it when it was run last: `pass`, `warn`, `fail`, `error`; empty as long as it was not.
    pub state: String,
    /// How many failures it had.
    pub failures: Option<i64>,
    /// Since when it is known to fail.
    pub since: String,
}

impl NodeTest {
    fn tone(&self) -> &'static str {
        match self.state.as_str() {
            "pass" => "good",
            "warn" => "warn",
            "fail" | "error" => "bad",
            _ => "quiet",
        }
    }

    fn told(&self) -> String {
        match self.state.as_str() {
            _ if self.sql.is_empty() => "not known here".to_owned(),
            "pass" => "held when it was run".to_owned(),
            "warn" | "fail" => match self.failures {
                Some(1) => format!("1 failure, since {}", self.since),
                failures => format!("{} failures, since {}", failures.unwrap_or(0), self.since),
            },
            "error" => "had no answer when it was run".to_owned(),
            _ => "not run yet".to_owned(),
        }
    }

    fn console_href(&self) -> String {
        format!("/console?sql={}", url(&self.sql))
    }
}

/// How long one stage takes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyRow {
    /// The stage: `commit_visible` and so on.
    pub stage: String,
    /// Half of the changes take less, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100 take less, milliseconds.
    pub p99_ms: f64,
    /// The slowest, milliseconds.
    pub max_ms: f64,
    /// How many were measured.
    pub count: i64,
}

impl LatencyRow {
    fn stage_text(&self) -> String {
        self.stage.replace('_', " → ")
    }

    fn ms(&self, value: &f64) -> String {
        number::milliseconds(*value)
    }

    fn count_text(&self) -> String {
        number::count(self.count)
    }
}

/// One table or model.
#[derive(Debug, Clone, Template)]
#[template(path = "node.html")]
pub struct NodePage {
    /// What stands around it.
    pub frame: Frame,
    /// How it is.
    pub node: Node,
    /// What it is kept as, or the source it is read from.
    pub detail: String,
    /// What the project says of it.
    pub description: String,
    /// The file it is written in.
    pub path: String,
    /// Its text after Jinja; empty where it has none.
    pub sql: String,
    /// Its text as the file has it; empty where that is not known.
    pub written: String,
    /// Who answers for it.
    pub owner: String,
    /// The columns that identify a row.
    pub key: Vec<String>,
    /// The columns by which its rows are shown, the largest first.
    pub order: Vec<String>,
    /// Its tests.
    pub tests: Vec<NodeTest>,
    /// Bytes of state kept for it.
    pub state_bytes: Option<i64>,
    /// Changed rows since the start.
    pub changes_total: Option<i64>,
    /// Its columns.
    pub columns: Panel<Vec<NodeColumn>>,
    /// What it reads.
    pub upstream: Vec<Node>,
    /// What reads it.
    pub downstream: Vec<Node>,
    /// Lag over the last minutes.
    pub history: Panel<Lines>,
    /// Times by stage.
    pub latency: Panel<Vec<LatencyRow>>,
    /// Rows it could not take.
    pub rejects: Panel<Grid>,
}

impl NodePage {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves: its own figures and the latency's lines.
    pub fn live(&self) -> Live {
        let mut live = crate::Graph { nodes: vec![self.node.clone()], edges: Vec::new() }.live();
        live.insert(format!("t/{}/message", self.node.id), self.node.message.clone());
        if self.node.is_view() {
            return live;
        }
        live.insert(format!("t/{}/rows", self.node.id), self.rows_text());
        live.insert(format!("t/{}/changes", self.node.id), self.changes_text());
        if let Ok(history) = &self.history {
            live.insert("c/history".to_owned(), history.json());
        }
        live
    }

    fn section(&self) -> &'static str {
        "graph"
    }

    fn title(&self) -> &str {
        &self.node.id
    }

    fn events(&self) -> String {
        format!("/events{}", self.node.href())
    }

    fn is_model(&self) -> bool {
        self.node.kind == NodeKind::Model
    }

    fn schema(&self) -> &str {
        self.node.id.split_once('.').map_or("", |(schema, _)| schema)
    }

    fn name(&self) -> &str {
        self.node.id.split_once('.').map_or(&self.node.id, |(_, name)| name)
    }

    fn rows_text(&self) -> String {
        self.node.rows.map_or_else(|| "–".to_owned(), number::count)
    }

    fn changes_text(&self) -> String {
        self.changes_total.map_or_else(|| "–".to_owned(), number::count)
    }

    fn bytes_text(&self) -> String {
        self.state_bytes.map_or_else(|| "–".to_owned(), |bytes| number::bytes(bytes as f64))
    }

    fn chart(&self, lines: &Lines) -> String {
        lines_html(lines, "history", &format!("Lag of {} in seconds", self.node.id))
    }

    fn is_key(&self, column: &str) -> bool {
        self.key.iter().any(|name| name == column)
    }

    fn order_text(&self) -> String {
        match self.order.as_slice() {
            [] => "In no order: there is no key and no time among the columns.".to_owned(),
            columns => format!("The newest first, by {}.", columns.join(", ")),
        }
    }

    fn column_names(&self) -> Vec<String> {
        let columns = self.columns.as_deref().unwrap_or_default();
        columns.iter().map(|column| column.name.clone()).collect()
    }

    /// Names for the script.
    fn json(&self, names: &[String]) -> String {
        serde_json::json!(names).to_string()
    }

    /// Its name as SQL reads it.
    fn quoted(&self) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("{}.{}", quote(self.schema()), quote(self.name()))
    }

    fn console_href(&self) -> String {
        format!("/console?sql={}", url(&format!("select * from {}", self.quoted())))
    }
}

/// The columns by which the newest rows come first: of the key, times before what they only tell apart; without a key, the
/// first time there is.
pub fn newest_first(columns: &[NodeColumn], key: &[String]) -> Vec<String> {
    let is_time = |column: &&NodeColumn| column.kind == "date" || column.kind.starts_with("timestamp");
    let of_key = || key.iter().filter_map(|name| columns.iter().find(|column| column.name == *name));
    let (times, others): (Vec<&NodeColumn>, Vec<&NodeColumn>) = of_key().partition(is_time);
    let chosen: Vec<&NodeColumn> = match key {
        [] => columns.iter().find(is_time).into_iter().collect(),
        _ => times.into_iter().chain(others).collect(),
    };
    chosen.into_iter().map(|column| column.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_rows_come_first() {
        let column = |(name, kind): (&str, &str)| NodeColumn {
            name: name.to_owned(),
            kind: kind.to_owned(),
            ..NodeColumn::default()
        };
        let columns = [("shop", "bigint"), ("day", "date"), ("at", "timestamp without time zone")].map(column);
        let order =
            |key: &[&str]| newest_first(&columns, &key.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(order(&["shop", "day"]), ["day", "shop"]);
        assert_eq!(order(&["shop"]), ["shop"]);
        assert_eq!(order(&[]), ["day"]);
        assert!(newest_first(&columns[..1], &[]).is_empty());
    }
}
