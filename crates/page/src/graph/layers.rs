//! The order of a graph's layers, left to right.
//!
//! The law: where what the layers read of one another allows an order in which no edge runs backwards, the order is one; edges run
//! backwards only between layers that read one another in a circle. Among orders that are equally good the names decide
//! (`staging` before `dwd` before `dws` before `ads`), then how far from the sources a layer's nodes are, then the alphabet. A layer whose
//! name says nothing stands right behind those that it reads.

use std::collections::BTreeMap;

use super::{DESTINATION_LAYER, SOURCE_LAYER};

/// Words of layers in the order in which a warehouse has them; those of one row stand side by side.
const ORDER: [&[&str]; 7] = [
    &["raw", "landing", "bronze", "seeds"],
    &["ods", "stg", "staging", "base"],
    &["int", "intermediate", "silver"],
    &["dwd", "dim", "dims", "fct", "fact", "facts", "core"],
    &["dws"],
    &["dm", "mart", "marts", "gold"],
    &["ads", "reports", "reporting"],
];

/// A layer, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layer<'a> {
    pub(super) name: &'a str,
    /// Mean number of edges on the longest ways to its nodes.
    pub(super) depth: f64,
}

/// The layers in their order, as their numbers; of two layers it is said how many edges lead from the first to the second.
pub(super) fn ordered(layers: &[Layer<'_>], edges: &BTreeMap<(usize, usize), usize>) -> Vec<usize> {
    let mut order = Order { layers, edges, ranks: vec![None; layers.len()], placed: Vec::with_capacity(layers.len()) };
    let mut left: Vec<usize> = (0..layers.len()).collect();
    while let Some(next) = order.next(&left) {
        order.place(next);
        left.retain(|layer| *layer != next);
    }
    order.placed
}

struct Order<'a> {
    layers: &'a [Layer<'a>],
    edges: &'a BTreeMap<(usize, usize), usize>,
    /// Of each layer that is placed how far right its name stands, or the names of those that it reads.
    ranks: Vec<Option<usize>>,
    placed: Vec<usize>,
}

impl Order<'_> {
    /// Which of those that are left comes next: one that reads none of the others, or else one of a circle that reads nothing outside of it.
    fn next(&self, left: &[usize]) -> Option<usize> {
        let is_free = |layer: &&usize| !self.read(**layer).any(|(from, _)| left.contains(&from));
        let free: Vec<usize> = left.iter().filter(is_free).copied().collect();
        if !free.is_empty() {
            return free.into_iter().min_by(|a, b| self.by_name(*a, *b));
        }
        let circle = self.circle(left);
        // Of a circle the one that is read most by the others, and reads least of them.
        let lost = |layer: usize| {
            let ends = |of: fn(usize, usize) -> (usize, usize)| {
                let count = |other: &usize| self.edges.get(&of(*other, layer)).copied().unwrap_or(0);
                circle.iter().map(count).sum::<usize>() as f64
            };
            ends(|other, layer| (other, layer)) - ends(|other, layer| (layer, other))
        };
        circle.iter().copied().min_by(|a, b| lost(*a).total_cmp(&lost(*b)).then_with(|| self.by_name(*a, *b)))
    }

    /// The layers of a circle that no other one of those that are left leads to: where everything is read by something, there is one.
    fn circle(&self, left: &[usize]) -> Vec<usize> {
        let above = |start: usize| {
            let mut seen = vec![start];
            let mut at = 0;
            while let Some(layer) = seen.get(at).copied() {
                let more = self.read(layer).map(|(from, _)| from).filter(|from| left.contains(from));
                for from in more.collect::<Vec<_>>() {
                    if !seen.contains(&from) {
                        seen.push(from);
                    }
                }
                at += 1;
            }
            seen
        };
        // What has the fewest above it is above all of these.
        left.iter().map(|layer| above(*layer)).min_by_key(Vec::len).unwrap_or_default()
    }

    fn place(&mut self, layer: usize) {
        self.ranks[layer] = Some(self.rank(layer));
        self.placed.push(layer);
    }

    fn by_name(&self, a: usize, b: usize) -> std::cmp::Ordering {
        let (left, right) = (&self.layers[a], &self.layers[b]);
        let ranks = self.rank(a).cmp(&self.rank(b));
        ranks.then(left.depth.total_cmp(&right.depth)).then_with(|| left.name.cmp(right.name))
    }

    /// How far right its name stands; of a name that says nothing, right behind the layers that it reads.
    fn rank(&self, layer: usize) -> usize {
        named(self.layers[layer].name).unwrap_or_else(|| {
            let behind = self.read(layer).filter_map(|(from, _)| self.ranks[from]).max();
            behind.map_or(1, |rank| rank | 1)
        })
    }

    /// The layers that a layer reads, and by how many edges.
    fn read(&self, layer: usize) -> impl Iterator<Item = (usize, usize)> {
        let ends = self.edges.iter().filter(move |((_, to), _)| *to == layer);
        ends.map(|((from, _), count)| (*from, *count))
    }
}

/// Where a name stands, in even numbers: between them is room for names that say nothing. `02_dws_trade` is one of `dws`.
fn named(name: &str) -> Option<usize> {
    match name {
        SOURCE_LAYER => return Some(0),
        DESTINATION_LAYER => return Some(2 * ORDER.len() + 2),
        _ => {}
    }
    let lower = name.to_ascii_lowercase();
    let word = lower.split(|c: char| !c.is_ascii_alphabetic()).find(|word| !word.is_empty())?;
    ORDER.iter().position(|words| words.contains(&word)).map(|at| 2 * at + 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::graph::{Graph, Node};

    /// A graph by its edges between nodes that are called `layer/name`.
    fn graph(edges: &[(&str, &str)]) -> Graph {
        let ids: BTreeSet<&str> = edges.iter().flat_map(|(from, to)| [*from, *to]).collect();
        let node = |id: &&str| Node {
            id: (*id).to_owned(),
            layer: id.split_once('/').map(|(layer, _)| layer.to_owned()).unwrap_or_default(),
            ..Node::default()
        };
        let edges = edges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
        Graph { nodes: ids.iter().map(node).collect(), edges: edges.collect() }
    }

    /// Few deep models of a late layer beside many shallow ones: the mean of the ways to its nodes says nothing.
    #[test]
    fn what_reads_what_decides() {
        let all = graph(&[
            ("source/t", "staging/stg"),
            ("staging/stg", "dws/a"),
            ("dws/a", "dws/b"),
            ("dws/a", "ads/b"),
            ("staging/stg", "ads/c"),
            ("staging/stg", "ads/d"),
        ]);
        assert_eq!(all.layers(), ["source", "staging", "dws", "ads"]);
    }

    #[test]
    fn names_decide_where_nothing_is_read() {
        let all = graph(&[
            ("source/t", "ads/a"),
            ("source/t", "stg/a"),
            ("stg/a", "int/a"),
            ("int/a", "dws/a"),
            ("source/t", "02_dwd/a"),
            ("dws/a", "money/a"),
            ("money/a", "destinations/out"),
        ]);
        assert_eq!(all.layers(), ["source", "stg", "int", "02_dwd", "dws", "money", "ads", "destinations"]);
    }

    /// The names are wrong, and the edges are right.
    #[test]
    fn edges_are_above_names() {
        let all = graph(&[("source/t", "ads/a"), ("ads/a", "stg/a"), ("stg/a", "raw/a"), ("raw/a", "source2/a")]);
        assert_eq!(all.layers(), ["source", "ads", "stg", "raw", "source2"]);
    }

    #[test]
    fn of_a_circle_few_edges_run_backwards() {
        let all = graph(&[
            ("source/t", "x/a"),
            ("x/a", "y/a"),
            ("x/b", "y/b"),
            ("y/a", "x/c"),
            ("y/a", "z/a"),
            ("y/a", "destinations/out"),
        ]);
        assert_eq!(all.layers(), ["source", "x", "y", "z", "destinations"]);
    }

    const NAMES: [&str; 10] = ["source", "staging", "ods", "dwd", "dws", "ads", "marts", "trade", "a", "destinations"];

    /// Edges between the nodes of layers, three nodes each.
    fn edges() -> impl Strategy<Value = Vec<((usize, usize), (usize, usize))>> {
        let node = || (0..NAMES.len(), 0..3_usize);
        prop::collection::vec((node(), node()), 0..40)
    }

    fn id((layer, node): (usize, usize)) -> String {
        format!("{}/{node}", NAMES[layer])
    }

    fn places(all: &Graph) -> BTreeMap<String, usize> {
        all.layers().into_iter().enumerate().map(|(at, layer)| (layer.to_owned(), at)).collect()
    }

    proptest! {
        /// Models in layers of any names, each of which reads only layers before it: no edge runs backwards, and none is drawn so.
        #[test]
        fn no_edge_of_layered_models_runs_backwards(
            edges in edges(),
            names in Just((0..NAMES.len()).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            // An edge within a layer leads to a later node of it.
            let forward = edges.into_iter().filter(|(from, to)| from != to).map(|(from, to)| if from < to { (from, to) } else { (to, from) });
            let named = forward.map(|((a, m), (b, n))| (id((names[a], m)), id((names[b], n)))).collect::<Vec<_>>();
            let all = graph(&named.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect::<Vec<_>>());
            let at = places(&all);
            let layer = |id: &str| at[id.split_once('/').unwrap().0];
            for (from, to) in &named {
                prop_assert!(layer(from) <= layer(to), "{from} → {to} in {:?}", all.layers());
            }
            let lefts = all.lefts();
            for (from, to) in all.numbered() {
                prop_assert!(lefts[from] < lefts[to], "{} → {}", all.nodes[from].id, all.nodes[to].id);
            }
        }

        /// Of any graph an edge runs backwards only where its layers read one another in a circle.
        #[test]
        fn only_edges_of_circles_run_backwards(edges in edges()) {
            let named = edges.iter().map(|(from, to)| (id(*from), id(*to))).collect::<Vec<_>>();
            let all = graph(&named.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect::<Vec<_>>());
            let at = places(&all);
            let leads = |start: usize, end: usize| {
                let (mut seen, mut next) = (BTreeSet::from([start]), vec![start]);
                while let Some(layer) = next.pop() {
                    for ((from, _), (to, _)) in &edges {
                        if *from == layer && seen.insert(*to) {
                            next.push(*to);
                        }
                    }
                }
                seen.contains(&end)
            };
            for ((from, _), (to, _)) in &edges {
                prop_assert!(at[NAMES[*from]] <= at[NAMES[*to]] || leads(*to, *from), "{} → {}", NAMES[*from], NAMES[*to]);
            }
        }
    }
}
