//! The asset graph: sources, their tables, the models over them, and where syncs deliver to; with how each is.

mod layers;
mod node;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use crate::layout::{self, Body, Sizes};
use crate::{Live, escape};

use layers::Layer;
pub use node::{Node, NodeKind, Tone, layer_of, sync_id};

/// Nodes drawn without anything picked; of more only what is next to the sources.
pub const SHOWN_MAX: usize = 600;

const SIZES: Sizes = Sizes { height: 68.0, layer_gap: 54.0, node_gap: 14.0, margin: 16.0 };

/// Width of a node whose name is short, and what each letter of a longer one takes.
const WIDTH: f64 = 196.0;
const LETTER: f64 = 7.7;
const BESIDE_NAME: f64 = 34.0;
/// What a node takes more whose ends are round.
const ROUND: f64 = 34.0;

/// Room above the nodes for the names of layers.
const HEAD: f64 = 30.0;

/// The layer of sources and their tables; it comes first.
pub const SOURCE_LAYER: &str = "source";

/// The layer of syncs; it comes last.
pub const DESTINATION_LAYER: &str = "destinations";

/// Things and what reads what.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// The nodes; each `id` once.
    pub nodes: Vec<Node>,
    /// From what is read to what reads it, by `id`.
    pub edges: Vec<(String, String)>,
}

impl Graph {
    /// The node of an `id`, or the first with this name in any schema, or the sync of this name.
    pub fn find(&self, id: &str) -> Option<&Node> {
        let named = |node: &&Node| node.id.split_once('.').is_some_and(|(_, name)| name == id);
        let is_sync = |node: &&Node| node.kind == NodeKind::Sync && node.name() == id;
        let nodes = || self.nodes.iter();
        nodes().find(|node| node.id == id).or_else(|| nodes().find(named)).or_else(|| nodes().find(is_sync))
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

    /// The layers from left to right: none before what it reads, as far as that can be, sources first and destinations last.
    pub fn layers(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.nodes.iter().map(|node| node.layer.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let of: Vec<usize> =
            self.nodes.iter().map(|node| names.binary_search(&node.layer.as_str()).unwrap_or_default()).collect();
        let edges = self.numbered();
        let mut between: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (from, to) in &edges {
            if let (Some(from), Some(to)) = (of.get(*from), of.get(*to))
                && from != to
            {
                *between.entry((*from, *to)).or_default() += 1;
            }
        }
        let mut depths = vec![(0, 0); names.len()];
        for (layer, depth) in of.iter().zip(layout::depths(self.nodes.len(), &edges)) {
            let (sum, count) = &mut depths[*layer];
            (*sum, *count) = (*sum + depth, *count + 1);
        }
        let means = depths.into_iter().map(|(sum, count)| sum as f64 / f64::from(count.max(1)));
        let found: Vec<Layer<'_>> = names.iter().zip(means).map(|(name, depth)| Layer { name, depth }).collect();
        layers::ordered(&found, &between).into_iter().map(|layer| names[layer]).collect()
    }

    /// The nodes of a layer.
    pub fn of_layer(&self, layer: &str) -> Vec<&Node> {
        self.nodes.iter().filter(|node| node.layer == layer).collect()
    }

    /// The words of all states.
    pub fn states(&self) -> BTreeSet<&str> {
        self.nodes.iter().map(|node| node.state.as_str()).filter(|state| !state.is_empty()).collect()
    }

    /// All tags.
    pub fn tags(&self) -> BTreeSet<&str> {
        self.nodes.iter().flat_map(|node| node.tags.iter().map(String::as_str)).collect()
    }

    /// The edges by the numbers of their ends; where there is no such node, a number that no node has.
    fn numbered(&self) -> Vec<(usize, usize)> {
        let at: BTreeMap<&str, usize> = self.nodes.iter().enumerate().map(|(i, node)| (node.id.as_str(), i)).collect();
        let number = |id: &String| at.get(id.as_str()).copied().unwrap_or(usize::MAX);
        self.edges.iter().map(|(from, to)| (number(from), number(to))).collect()
    }

    /// What moves: state and figures of each node; of a view the state alone.
    pub fn live(&self) -> Live {
        let mut live = Live::new();
        for node in &self.nodes {
            let id = &node.id;
            live.insert(format!("s/{id}"), format!("{} {}", node.tone().word(), node.word()));
            live.extend(node.figures().into_iter().map(|(_, key, text)| (format!("t/{id}/{key}"), text)));
        }
        live
    }

    /// Left sides of the nodes as they are drawn.
    #[cfg(test)]
    fn lefts(&self) -> Vec<f64> {
        let drawing = layout::draw(&self.bodies(&self.layers()), &self.numbered(), &SIZES);
        drawing.corners.iter().map(|(left, _)| *left).collect()
    }

    /// How wide each node is, and in which band it stands.
    fn bodies(&self, layers: &[&str]) -> Vec<Body> {
        let round = |node: &Node| if node.kind == NodeKind::Sync { ROUND } else { 0.0 };
        let body = |node: &Node| Body {
            width: ((node.name().chars().count() as f64 * LETTER + BESIDE_NAME).max(WIDTH) + round(node)).round(),
            band: layers.iter().position(|layer| *layer == node.layer).unwrap_or(0),
        };
        self.nodes.iter().map(body).collect()
    }

    /// The picture.
    pub fn svg(&self, picked: Option<&str>) -> String {
        let layers = self.layers();
        let bodies = self.bodies(&layers);
        let edges = self.numbered();
        let drawing = layout::draw(&bodies, &edges, &SIZES);
        let (width, height) = (drawing.width, drawing.height + HEAD);
        let mut out = format!(
            "<svg class=\"graph\" viewBox=\"0 {} {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"group\" aria-label=\"Graph of {} nodes\">",
            -HEAD,
            self.nodes.len()
        );
        out.push_str("<g class=\"bands\" aria-hidden=\"true\">");
        for band in &drawing.bands {
            let name = layers.get(band.band).copied().unwrap_or_default();
            let _ = write!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"12\"/><text x=\"{}\" y=\"-8\">{}</text>",
                band.left - 10.0,
                4.0 - HEAD,
                band.right - band.left + 20.0,
                height - 8.0,
                band.left,
                escape(name)
            );
        }
        out.push_str("</g><g class=\"edges\" aria-hidden=\"true\">");
        for ((from, to), path) in edges.iter().zip(&drawing.paths).filter(|(_, path)| path.len() > 1) {
            let _ = write!(out, "<path data-from=\"{from}\" data-to=\"{to}\" d=\"{}\"/>", curve(path));
        }
        out.push_str("</g>");
        for ((node, corner), body) in self.nodes.iter().zip(&drawing.corners).zip(&bodies) {
            draw_node(&mut out, node, *corner, body.width, picked == Some(node.id.as_str()));
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

fn draw_node(out: &mut String, node: &Node, (x, y): (f64, f64), width: f64, picked: bool) {
    let id = escape(&node.id);
    let (tone, word) = (node.tone().word(), escape(&node.word()));
    let class = match (picked, node.is_view()) {
        (true, true) => "node picked view",
        (true, false) => "node picked",
        (false, true) => "node view",
        (false, false) => "node",
    };
    let right = width - 11.0;
    // What leaves the warehouse is round.
    let (radius, edge) = match node.kind {
        NodeKind::Sync => (34, ""),
        _ => (10, "<rect class=\"edge\" width=\"4\" height=\"44\" y=\"12\" rx=\"2\"/>"),
    };
    let _ = write!(
        out,
        "<a class=\"{class} {kind}\" href=\"{href}\" data-node=\"{id}\" data-tone=\"{tone}\" data-layer=\"{layer}\" data-tags=\"{tags}\"{words} transform=\"translate({x} {y})\"><title>{shown} {id}: {message}</title>\
         <rect class=\"card\" width=\"{width}\" height=\"68\" rx=\"{radius}\"/>{edge}\
         <text class=\"name\" x=\"16\" y=\"25\">{name}</text><text class=\"kind\" x=\"{right}\" y=\"42\">{shown}</text>\
         <circle class=\"dot\" cx=\"20\" cy=\"38\" r=\"3.5\"/><text class=\"word\" x=\"29\" y=\"42\" data-live=\"s/{id}\">{word}</text>",
        kind = node.kind.word(),
        shown = escape(node.kind_text()),
        href = escape(&node.href()),
        layer = escape(&node.layer),
        tags = escape(&node.tags_text()),
        words = match node.kind {
            // By these it is found as well.
            NodeKind::Sync => format!(" data-words=\"{} {}\"", escape(node.kind_text()), escape(&node.destination)),
            _ => String::new(),
        },
        message = escape(&node.title()),
        name = escape(node.name()),
    );
    let figures = node.figures();
    if figures.is_empty() {
        out.push_str("<text class=\"figure asked\" x=\"16\" y=\"58\">asked anew by each reader</text></a>");
        return;
    }
    for ((_, key, text), x) in figures.iter().zip([74.0, (74.0 + right) / 2.0 + 4.0, right]) {
        let text = escape(text);
        let _ = write!(out, "<text class=\"figure\" x=\"{x}\" y=\"58\" data-live=\"t/{id}/{key}\">{text}</text>");
    }
    out.push_str("</a>");
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
    fn very_many_models_show_what_is_next_to_the_sources() {
        let tree = |count: usize| {
            let names: Vec<String> = (0..count).map(|n| format!("s.m{n}")).collect();
            let edges: Vec<(&str, &str)> = (1..count).map(|n| (names[n / 2].as_str(), names[n].as_str())).collect();
            let mut all = graph(&edges);
            all.nodes[0].kind = NodeKind::Source;
            all
        };
        assert_eq!(tree(300).shown(None, 2).nodes.len(), 300);
        let shown = tree(2_000).shown(None, 2);
        assert!(shown.nodes.len() > 1 && shown.nodes.len() <= 2 * SHOWN_MAX, "{}", shown.nodes.len());
        assert_eq!(tree(300).shown(Some("s.m299"), 2).nodes.len(), 3);
    }

    #[test]
    fn layers_stand_in_the_order_of_what_reads_what() {
        let mut all =
            graph(&[("shop", "shop.a"), ("shop.a", "s.ods_a"), ("s.ods_a", "s.dws_a"), ("shop.a", "s.dws_b")]);
        for node in &mut all.nodes {
            node.layer = match node.name().split_once('_') {
                Some((layer, _)) => layer.to_owned(),
                None => SOURCE_LAYER.to_owned(),
            };
        }
        assert_eq!(all.layers(), ["source", "ods", "dws"]);
        let svg = all.svg(None);
        let at = |name: &str| svg.find(&format!("\">{name}</text>")).unwrap();
        assert!(at("source") < at("ods") && at("ods") < at("dws"), "{svg}");
    }

    #[test]
    fn a_view_is_drawn_without_figures_and_a_long_name_whole() {
        let name = "s.a_name_that_is_longer_than_a_card_would_be_wide";
        let mut all = graph(&[("s.a", name)]);
        all.nodes[1].materialized = "view".to_owned();
        let svg = all.svg(None);
        assert!(svg.contains(">a_name_that_is_longer_than_a_card_would_be_wide</text>"), "{svg}");
        assert!(svg.contains("class=\"node view model\"") && !svg.contains(&format!("t/{name}/rows")), "{svg}");
        assert!(!all.live().contains_key(&format!("t/{name}/lag")));
    }

    /// A sync stands at the rim whatever it follows, in a form of its own, and its figures are those of what waits and goes.
    #[test]
    fn destinations_come_last_and_are_round() {
        let mut all = graph(&[("shop", "shop.a"), ("shop.a", "s.b"), ("s.b", "s.c"), ("shop.a", "sync out")]);
        for node in &mut all.nodes {
            node.layer = match node.id.as_str() {
                "shop" | "shop.a" => SOURCE_LAYER.to_owned(),
                "sync out" => DESTINATION_LAYER.to_owned(),
                _ => "models".to_owned(),
            };
        }
        let sync = all.nodes.iter_mut().find(|node| node.id == "sync out").unwrap();
        (sync.kind, sync.system, sync.destination) = (NodeKind::Sync, "Redis".to_owned(), "cache".to_owned());
        (sync.rows, sync.rate, sync.lag_seconds) = (Some(3), Some(2.0), Some(0.5));
        assert_eq!(all.layers(), ["source", "models", "destinations"]);
        let svg = all.svg(None);
        assert!(svg.contains("class=\"node sync\" href=\"/syncs/out\" data-node=\"sync out\""), "{svg}");
        assert!(svg.contains("data-words=\"Redis cache\"") && svg.contains("rx=\"34\"/><text class=\"name\""), "{svg}");
        assert!(svg.contains(">out</text>") && svg.contains("data-live=\"t/sync out/lag\">500 ms</text>"), "{svg}");
        assert_eq!(all.find("out").map(|node| node.id.as_str()), Some("sync out"));
        assert_eq!(all.neighbours("shop.a", true).len(), 2);
        assert_eq!(all.live().get("t/sync out/error").map(String::as_str), Some("–"));
    }
}
