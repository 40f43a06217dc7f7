//! Places the nodes of a directed graph in layers, left to right (after Sugiyama, Tagawa and Toda).
//!
//! Four steps: edges that close a cycle are left out, every node goes one layer right of all it reads, long edges get a
//! bend in each layer between, layers are sorted until few edges cross, and last every node is drawn to the middle of its
//! neighbours as far as its own neighbours in the layer let it. All of it is a function of the input's order: the same
//! graph is drawn the same way each time.

mod order;
mod place;
mod rank;

/// Sizes that a drawing is made with, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Width of a node.
    pub width: f64,
    /// Height of a node.
    pub height: f64,
    /// From a layer's right side to the next one's left.
    pub layer_gap: f64,
    /// Between two nodes of a layer.
    pub node_gap: f64,
    /// Around everything.
    pub margin: f64,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Left top corner of each node, by its number.
    pub corners: Vec<(f64, f64)>,
    /// Of each edge given, the points it passes: right side of its start, a point a layer between, left side of its end.
    pub paths: Vec<Vec<(f64, f64)>>,
    /// Width of it all.
    pub width: f64,
    /// Height of it all.
    pub height: f64,
}

/// A node, or the bend of a long edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    layer: usize,
    /// Whether it is a node; a bend takes less room.
    is_node: bool,
}

/// Draws a graph of `nodes` nodes. Edges that name no node, and those from a node to itself, are drawn as nothing.
pub fn draw(nodes: usize, edges: &[(usize, usize)], sizes: &Sizes) -> Drawing {
    let known: Vec<(usize, usize)> =
        edges.iter().copied().filter(|(from, to)| *from < nodes && *to < nodes && from != to).collect();
    let forward = rank::without_cycles(nodes, &known);
    let layers = rank::layers(nodes, &forward);
    let mut places: Vec<Place> = layers.iter().map(|layer| Place { layer: *layer, is_node: true }).collect();

    // Chains of places: an edge's start, its bends, its end. An edge against the flow goes straight.
    let mut chains: Vec<Vec<usize>> = Vec::with_capacity(edges.len());
    let mut links: Vec<(usize, usize)> = Vec::new();
    for (from, to) in edges.iter().copied() {
        if from >= nodes || to >= nodes || from == to {
            chains.push(Vec::new());
            continue;
        }
        let mut chain = vec![from];
        for layer in layers[from] + 1..layers[to] {
            chain.push(places.len());
            places.push(Place { layer, is_node: false });
        }
        chain.push(to);
        if layers[from] < layers[to] {
            links.extend(chain.windows(2).map(|pair| (pair[0], pair[1])));
        }
        chains.push(chain);
    }
    let rows = order::sorted(&places, &links);
    let middles = place::middles(&places, &rows, &links, sizes);
    finish(nodes, &places, &chains, &middles, sizes)
}

fn finish(nodes: usize, places: &[Place], chains: &[Vec<usize>], middles: &[f64], sizes: &Sizes) -> Drawing {
    let extent = |place: usize| if places[place].is_node { sizes.height / 2.0 } else { 0.0 };
    let top = (0..places.len()).map(|p| middles[p] - extent(p)).fold(f64::INFINITY, f64::min);
    let bottom = (0..places.len()).map(|p| middles[p] + extent(p)).fold(f64::NEG_INFINITY, f64::max);
    let (top, bottom) = if places.is_empty() { (0.0, 0.0) } else { (top, bottom) };
    let left = |layer: usize| sizes.margin + layer as f64 * (sizes.width + sizes.layer_gap);
    let middle = |place: usize| (middles[place] - top + sizes.margin).round();
    let corners = (0..nodes).map(|n| (left(places[n].layer), middle(n) - sizes.height / 2.0)).collect();
    let paths = chains.iter().map(|chain| {
        let last = chain.len().saturating_sub(1);
        let points = chain.iter().enumerate().flat_map(|(i, place)| {
            let (x, y) = (left(places[*place].layer), middle(*place));
            match i {
                0 => vec![(x + sizes.width, y)],
                i if i == last => vec![(x, y)],
                // A bend passes straight through the layer's whole width.
                _ => vec![(x, y), (x + sizes.width, y)],
            }
        });
        points.collect()
    });
    let layers = places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
    let width = left(layers) - sizes.layer_gap + sizes.margin;
    Drawing {
        corners,
        paths: paths.collect(),
        width: width.max(2.0 * sizes.margin),
        height: (bottom - top + 2.0 * sizes.margin).round(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { width: 100.0, height: 40.0, layer_gap: 50.0, node_gap: 10.0, margin: 5.0 };

    #[test]
    fn an_edge_always_leads_to_the_right() {
        let edges = [(0, 1), (1, 2), (0, 2), (3, 2), (2, 4), (3, 4)];
        let drawing = draw(5, &edges, &SIZES);
        for (from, to) in edges {
            assert!(drawing.corners[from].0 + SIZES.width < drawing.corners[to].0, "{from} → {to}");
        }
    }

    #[test]
    fn nodes_never_lie_over_one_another() {
        let edges: Vec<(usize, usize)> = (1..80).map(|n| (n * 7 % n, n)).collect();
        let corners = draw(80, &edges, &SIZES).corners;
        for (a, (ax, ay)) in corners.iter().enumerate() {
            for (b, (bx, by)) in corners.iter().enumerate().filter(|(b, _)| *b != a) {
                assert!((ax - bx).abs() >= SIZES.width || (ay - by).abs() >= SIZES.height, "{a} lies over {b}");
            }
        }
    }

    #[test]
    fn everything_is_within_the_drawing() {
        let drawing = draw(4, &[(0, 1), (1, 2), (0, 2), (0, 3)], &SIZES);
        for (x, y) in &drawing.corners {
            assert!(*x >= SIZES.margin && *y >= SIZES.margin);
            assert!(x + SIZES.width + SIZES.margin <= drawing.width);
            assert!(y + SIZES.height + SIZES.margin <= drawing.height);
        }
    }

    #[test]
    fn a_cycle_is_drawn_all_the_same() {
        let drawing = draw(3, &[(0, 1), (1, 2), (2, 0), (1, 1), (0, 9)], &SIZES);
        assert_eq!(drawing.corners.len(), 3);
        assert_eq!(drawing.paths[2].len(), 2, "the edge that closes the cycle goes straight");
        assert!(drawing.paths[3].is_empty() && drawing.paths[4].is_empty());
    }

    #[test]
    fn a_chain_lies_on_one_line() {
        let drawing = draw(3, &[(0, 1), (1, 2)], &SIZES);
        assert_eq!(drawing.corners[0].1, drawing.corners[1].1);
        assert_eq!(drawing.corners[1].1, drawing.corners[2].1);
    }

    #[test]
    fn nothing_is_a_drawing_too() {
        let drawing = draw(0, &[], &SIZES);
        assert!(drawing.corners.is_empty() && drawing.height == 10.0);
    }

    #[test]
    fn the_same_graph_is_drawn_the_same_way() {
        let edges: Vec<(usize, usize)> = (1..300).flat_map(|n| [(n / 3, n), (n / 2, n)]).collect();
        assert_eq!(draw(300, &edges, &SIZES), draw(300, &edges, &SIZES));
    }
}
