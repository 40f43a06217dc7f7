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
    /// Its text; empty where it has none.
    pub sql: String,
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
    /// A few rows.
    pub sample: Panel<Grid>,
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

    fn console_href(&self) -> String {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        format!("/console?sql={}", url(&format!("select * from {}.{}", quote(self.schema()), quote(self.name()))))
    }
}
