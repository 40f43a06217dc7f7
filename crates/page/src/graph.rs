//! The asset graph: sources, their tables, the models over them; with how each is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use crate::layout::{self, Sizes};
use crate::{Live, escape, number, url};

/// Nodes drawn without anything picked; above that the picture says nothing any more.
pub const SHOWN_MAX: usize = 60;

const SIZES: Sizes = Sizes { width: 204.0, height: 68.0, layer_gap: 42.0, node_gap: 16.0, margin: 12.0 };

/// Letters of a name that fit a node.
const NAME_LETTERS: usize = 21;

/// How something is, as a colour; a word always stands beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing is known.
    #[default]
    Quiet,
    /// All is well.
    Good,
    /// On its way.
    Busy,
    /// Look at it.
    Warn,
    /// Broken.
    Bad,
}

impl Tone {
    /// The tone of a state's word, of sources, tables and models alike.
    pub fn of(state: &str) -> Self {
        match state {
            "live" | "streaming" | "ready" => Self::Good,
            "building" | "snapshot" | "connecting" | "starting" | "waiting" => Self::Busy,
            "stalled" | "paused" | "stopped" | "behind" | "resnapshot" | "altered" | "stale" | "mixed" | "held"
            | "degraded" => Self::Warn,
            "failed" | "parked" => Self::Bad,
            _ => Self::Quiet,
        }
    }

    /// Its word in the style sheet.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeKind {
    /// A connection that is read.
    Source,
    /// A table of a source.
    Table,
    /// A model.
    #[default]
    Model,
}

impl NodeKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Table => "table",
            Self::Model => "model",
        }
    }
}

/// One thing and how it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// `schema.name`; a source's name alone.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// Its state's word.
    pub state: String,
    /// Rows it holds.
    pub rows: Option<i64>,
    /// Changes a second of late.
    pub rate: Option<f64>,
    /// Behind the source, seconds.
    pub lag_seconds: Option<f64>,
    /// Rows it could not take.
    pub rejects: i64,
    /// What it says of itself.
    pub message: String,
}

impl Node {
    /// Its colour: that of the state, and at least a warning where rows were rejected.
    pub fn tone(&self) -> Tone {
        let tone = Tone::of(&self.state);
        if self.rejects > 0 { tone.max(Tone::Warn) } else { tone }
    }

    /// Its state in words.
    pub fn word(&self) -> String {
        let state = if self.state.is_empty() { "unknown" } else { &self.state };
        match self.rejects {
            0 => state.to_owned(),
            1 => format!("{state}, 1 reject"),
            n => format!("{state}, {} rejects", number::short(n as f64)),
        }
    }

    /// Where its page is.
    pub fn href(&self) -> String {
        let page = match self.kind {
            NodeKind::Source => return format!("/sources#source-{}", url(&self.id)),
            NodeKind::Table => "tables",
            NodeKind::Model => "models",
        };
        let (schema, name) = self.id.split_once('.').unwrap_or(("", &self.id));
        format!("/{page}/{}/{}", url(schema), url(name))
    }

    /// Where the graph around it is.
    pub fn around(&self) -> String {
        format!("/?node={}", url(&self.id))
    }

    /// Its rows in short.
    pub fn rows_text(&self) -> String {
        self.rows.map_or_else(|| "–".to_owned(), |rows| number::short(rows as f64))
    }

    /// Its rate in short.
    pub fn rate_text(&self) -> String {
        self.rate.map_or_else(|| "–".to_owned(), number::rate)
    }

    /// Its lag in short.
    pub fn lag_text(&self) -> String {
        self.lag_seconds.map_or_else(|| "–".to_owned(), number::seconds)
    }
}

/// Things and what reads what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The nodes; each `id` once.
    pub nodes: Vec<Node>,
    /// From what is read to what reads it, by `id`.
    pub edges: Vec<(String, String)>,
}

impl Graph {
    /// The node of an `id`, or the first with this name in any schema.
    pub fn find(&self, id: &str) -> Option<&Node> {
        let named = |node: &&Node| node.id.split_once('.').is_some_and(|(_, name)| name == id);
        self.nodes.iter().find(|node| node.id == id).or_else(|| self.nodes.iter().find(named))
    }

    /// What is at most `hops` edges up or down of the starts; up and down are never mixed on one way.
    #[must_use]
    pub fn around(&self, starts: &[&str], hops: usize) -> Self {
        let mut near: BTreeSet<&str> = BTreeSet::new();
        for forth in [true, false] {
            let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (from, to) in &self.edges {
                let (from, to) = if forth { (from, to) } else { (to, from) };
                next.entry(from).or_default().push(to);
            }
            let mut seen: BTreeSet<&str> = starts.iter().copied().collect();
            let mut queue: VecDeque<(&str, usize)> = starts.iter().map(|start| (*start, 0)).collect();
            while let Some((id, far)) = queue.pop_front() {
                for to in next.get(id).into_iter().flatten().filter(|_| far < hops) {
                    if seen.insert(to) {
                        queue.push_back((to, far + 1));
                    }
                }
            }
            near.extend(seen);
        }
        let nodes: Vec<Node> = self.nodes.iter().filter(|node| near.contains(node.id.as_str())).cloned().collect();
        let both = |edge: &&(String, String)| near.contains(edge.0.as_str()) && near.contains(edge.1.as_str());
        Self { nodes, edges: self.edges.iter().filter(both).cloned().collect() }
    }

    /// Whatever reads a node directly, or is read by it.
    pub fn neighbours(&self, id: &str, downstream: bool) -> Vec<&Node> {
        let ends = self.edges.iter().filter_map(|(from, to)| match downstream {
            true => (from == id).then_some(to),
            false => (to == id).then_some(from),
        });
        ends.filter_map(|id| self.nodes.iter().find(|node| node.id == *id)).collect()
    }

    /// The part that a page shows: around a pick, else everything, else what is next to the sources.
    pub fn shown(&self, pick: Option<&str>, hops: usize) -> Self {
        match pick.and_then(|pick| self.find(pick)) {
            Some(node) => self.around(&[&node.id], hops),
            None if self.nodes.len() <= SHOWN_MAX => self.clone(),
            None => {
                let first = self.nodes.iter().filter(|node| node.kind == NodeKind::Source);
                let sources: Vec<&str> = first.map(|node| node.id.as_str()).collect();
                let mut near = self.around(&sources, hops);
                if near.nodes.len() > 2 * SHOWN_MAX {
                    near = self.around(&sources, 1);
                }
                near
            }
        }
    }

    /// What moves: state, rows, rate and lag of each node.
    pub fn live(&self) -> Live {
        let mut live = Live::new();
        for node in &self.nodes {
            let id = &node.id;
            live.insert(format!("s/{id}"), format!("{} {}", node.tone().word(), node.word()));
            live.insert(format!("t/{id}/rows"), node.rows_text());
            live.insert(format!("t/{id}/rate"), node.rate_text());
            live.insert(format!("t/{id}/lag"), node.lag_text());
        }
        live
    }

    /// The picture.
    pub fn svg(&self, picked: Option<&str>) -> String {
        let at: BTreeMap<&str, usize> = self.nodes.iter().enumerate().map(|(i, node)| (node.id.as_str(), i)).collect();
        let ends = |(from, to): &(String, String)| {
            let number = |id: &String| at.get(id.as_str()).copied().unwrap_or(usize::MAX);
            (number(from), number(to))
        };
        let edges: Vec<(usize, usize)> = self.edges.iter().map(ends).collect();
        let drawing = layout::draw(self.nodes.len(), &edges, &SIZES);
        let (width, height) = (drawing.width, drawing.height);
        let mut out = format!(
            "<svg class=\"graph\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" aria-label=\"Graph of {} nodes\">",
            self.nodes.len()
        );
        out.push_str("<g class=\"edges\" aria-hidden=\"true\">");
        for ((from, to), path) in self.edges.iter().zip(&drawing.paths).filter(|(_, path)| path.len() > 1) {
            let _ =
                write!(out, "<path data-from=\"{}\" data-to=\"{}\" d=\"{}\"/>", escape(from), escape(to), curve(path));
        }
        out.push_str("</g>");
        for (node, corner) in self.nodes.iter().zip(&drawing.corners) {
            draw_node(&mut out, node, *corner, picked == Some(node.id.as_str()));
        }
        out + "</svg>"
    }
}

/// A path through points, level at each.
fn curve(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    let mut before: Option<(f64, f64)> = None;
    for (x, y) in points.iter().copied() {
        let _ = match before {
            None => write!(out, "M{x} {y}"),
            Some((_, y0)) if y0 == y => write!(out, "L{x} {y}"),
            Some((x0, y0)) => {
                let middle = f64::midpoint(x0, x);
                write!(out, "C{middle} {y0} {middle} {y} {x} {y}")
            }
        };
        before = Some((x, y));
    }
    out
}

fn draw_node(out: &mut String, node: &Node, (x, y): (f64, f64), picked: bool) {
    let id = escape(&node.id);
    let name = node.id.split_once('.').map_or(node.id.as_str(), |(_, name)| name);
    let shown = match name.chars().count() > NAME_LETTERS {
        true => name.chars().take(NAME_LETTERS - 1).chain(['…']).collect(),
        false => name.to_owned(),
    };
    let (tone, word) = (node.tone().word(), escape(&node.word()));
    let class = if picked { "node picked" } else { "node" };
    let _ = write!(
        out,
        "<a class=\"{class} {kind}\" href=\"{href}\" data-node=\"{id}\" data-tone=\"{tone}\" transform=\"translate({x} {y})\"><title>{kind} {id}: {message}</title>\
         <rect class=\"card\" width=\"204\" height=\"68\" rx=\"10\"/><rect class=\"edge\" width=\"4\" height=\"44\" x=\"0\" y=\"12\" rx=\"2\"/>\
         <text class=\"name\" x=\"16\" y=\"25\">{name}</text><text class=\"kind\" x=\"193\" y=\"42\">{kind}</text>",
        kind = node.kind.word(),
        href = escape(&node.href()),
        message = if node.message.is_empty() { word.clone() } else { escape(&node.message) },
        name = escape(&shown),
    );
    let _ = write!(
        out,
        "<circle class=\"dot\" cx=\"20\" cy=\"38\" r=\"3.5\"/><text class=\"word\" x=\"29\" y=\"42\" data-live=\"s/{id}\">{word}</text>\
         <text class=\"figure\" x=\"70\" y=\"57\" data-live=\"t/{id}/rows\">{rows}</text><text class=\"figure\" x=\"136\" y=\"57\" data-live=\"t/{id}/rate\">{rate}</text>\
         <text class=\"figure\" x=\"193\" y=\"57\" data-live=\"t/{id}/lag\">{lag}</text></a>",
        rows = node.rows_text(),
        rate = escape(&node.rate_text()),
        lag = node.lag_text(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let ids: BTreeSet<&str> = edges.iter().flat_map(|(from, to)| [*from, *to]).collect();
        let node = |id: &&str| Node { id: (*id).to_owned(), state: "live".to_owned(), ..Node::default() };
        let edges = edges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
        Graph { nodes: ids.iter().map(node).collect(), edges: edges.collect() }
    }

    #[test]
    fn around_a_node_are_its_own_ways_only() {
        let all = graph(&[("s.a", "s.b"), ("s.b", "s.c"), ("s.c", "s.d"), ("s.a", "s.side"), ("s.x", "s.c")]);
        let ids = |graph: Graph| graph.nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(all.around(&["s.b"], 1)), ["s.a", "s.b", "s.c"]);
        assert_eq!(ids(all.around(&["s.b"], 2)), ["s.a", "s.b", "s.c", "s.d"]);
        assert_eq!(ids(all.shown(Some("c"), 1)), ["s.b", "s.c", "s.d", "s.x"]);
        assert_eq!(ids(all.shown(Some("unknown"), 1)).len(), 6);
    }

    #[test]
    fn names_are_escaped_in_the_picture() {
        let mut all = graph(&[("s.a", "s.<b>\"")]);
        all.nodes[0].message = "<script>".to_owned();
        let svg = all.svg(None);
        assert!(!svg.contains("<b>") && !svg.contains("<script>"), "{svg}");
        assert!(svg.contains("href=\"/models/s/%3Cb%3E%22\""), "{svg}");
    }

    #[test]
    fn rejects_are_a_warning_at_least() {
        let node = |state: &str, rejects| Node { state: state.to_owned(), rejects, ..Node::default() };
        assert_eq!(
            [node("live", 0), node("live", 2), node("failed", 1)].map(|n| n.tone()),
            [Tone::Good, Tone::Warn, Tone::Bad]
        );
        assert_eq!(node("live", 2).word(), "live, 2 rejects");
    }

    #[test]
    fn three_hundred_models_show_what_is_next_to_the_sources() {
        let names: Vec<String> = (0..300).map(|n| format!("s.m{n}")).collect();
        let edges: Vec<(&str, &str)> = (1..300).map(|n| (names[n / 2].as_str(), names[n].as_str())).collect();
        let mut all = graph(&edges);
        all.nodes[0].kind = NodeKind::Source;
        let shown = all.shown(None, 2);
        assert!(shown.nodes.len() > 1 && shown.nodes.len() <= 2 * SHOWN_MAX, "{}", shown.nodes.len());
        assert_eq!(all.shown(Some("s.m299"), 2).nodes.len(), 3);
    }
}
