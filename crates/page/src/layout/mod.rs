//! Places the nodes of a directed graph in layers, left to right (after Sugiyama, Tagawa and Toda).
//!
//! Four steps: edges that close a cycle are left out, every node goes one layer right of all it reads in its own band and
//! right of all bands before, long edges get a bend in each layer between, layers are sorted until few edges cross, and last
//! every node is drawn to the middle of its neighbours as far as its own neighbours in the layer let it. All of it is a
//! function of the input's order: the same graph is drawn the same way each time.

mod order;
mod place;
mod rank;

use std::collections::BTreeMap;

/// Sizes that a drawing is made with, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Height of a node.
    pub height: f64,
    /// From a layer's right side to the next one's left.
    pub layer_gap: f64,
    /// Between two nodes of a layer.
    pub node_gap: f64,
    /// Around everything.
    pub margin: f64,
}

/// A node that is to be placed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Body {
    /// Its width; a layer is as wide as its widest node.
    pub width: f64,
    /// Number of the band it stands in: bands follow one another from left to right.
    pub band: usize,
}

/// Where a band is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Band {
    /// Its number.
    pub band: usize,
    /// Left side of its first layer.
    pub left: f64,
    /// Right side of its last one.
    pub right: f64,
}

/// Where things are.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    /// Left top corner of each node, by its number.
    pub corners: Vec<(f64, f64)>,
    /// Of each edge given, the points it passes: right side of its start, a point a layer between, left side of its end.
    pub paths: Vec<Vec<(f64, f64)>>,
    /// The bands that have nodes, left to right.
    pub bands: Vec<Band>,
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

/// How many edges the longest way to each node has; edges that close a cycle, or that name no node, are left out.
pub fn depths(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    rank::longest(nodes, &rank::without_cycles(nodes, &known(nodes, edges)))
}

/// Edges between two nodes that are there.
fn known(nodes: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    edges.iter().copied().filter(|(from, to)| *from < nodes && *to < nodes && from != to).collect()
}

/// Draws a graph. Edges that name no node, and those from a node to itself, are drawn as nothing.
pub fn draw(bodies: &[Body], edges: &[(usize, usize)], sizes: &Sizes) -> Drawing {
    let nodes = bodies.len();
    let forward = rank::without_cycles(nodes, &known(nodes, edges));
    let bands: Vec<usize> = bodies.iter().map(|body| body.band).collect();
    let layers = rank::layers(&bands, &forward);
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
    finish(bodies, &places, &chains, &middles, sizes)
}

fn finish(bodies: &[Body], places: &[Place], chains: &[Vec<usize>], middles: &[f64], sizes: &Sizes) -> Drawing {
    let sides = sides(bodies, places, sizes);
    let extent = |place: usize| if places[place].is_node { sizes.height / 2.0 } else { 0.0 };
    let top = (0..places.len()).map(|p| middles[p] - extent(p)).fold(f64::INFINITY, f64::min);
    let bottom = (0..places.len()).map(|p| middles[p] + extent(p)).fold(f64::NEG_INFINITY, f64::max);
    let (top, bottom) = if places.is_empty() { (0.0, 0.0) } else { (top, bottom) };
    let middle = |place: usize| (middles[place] - top + sizes.margin).round();
    let corners = (0..bodies.len()).map(|n| (sides[places[n].layer].0, middle(n) - sizes.height / 2.0)).collect();
    let paths = chains.iter().map(|chain| {
        let last = chain.len().saturating_sub(1);
        let points = chain.iter().enumerate().flat_map(|(i, place)| {
            let ((left, right), y) = (sides[places[*place].layer], middle(*place));
            match i {
                0 => vec![(left + bodies[*place].width, y)],
                i if i == last => vec![(left, y)],
                // A bend passes straight through the layer's whole width.
                _ => vec![(left, y), (right, y)],
            }
        });
        points.collect()
    });
    let right = sides.last().map_or(sizes.margin, |(_, right)| *right);
    Drawing {
        corners,
        paths: paths.collect(),
        bands: bands(bodies, places, &sides),
        width: right + sizes.margin,
        height: (bottom - top + 2.0 * sizes.margin).round(),
    }
}

/// Left and right side of each layer.
fn sides(bodies: &[Body], places: &[Place], sizes: &Sizes) -> Vec<(f64, f64)> {
    let layers = places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
    let mut widths = vec![0.0_f64; layers];
    for (body, place) in bodies.iter().zip(places) {
        widths[place.layer] = widths[place.layer].max(body.width);
    }
    let mut left = sizes.margin;
    let side = widths.into_iter().map(|width| {
        let own = (left, left + width);
        left += width + sizes.layer_gap;
        own
    });
    side.collect()
}

fn bands(bodies: &[Body], places: &[Place], sides: &[(f64, f64)]) -> Vec<Band> {
    let mut found: BTreeMap<usize, Band> = BTreeMap::new();
    for (body, place) in bodies.iter().zip(places) {
        let (left, right) = sides[place.layer];
        let band = found.entry(body.band).or_insert(Band { band: body.band, left, right });
        (band.left, band.right) = (band.left.min(left), band.right.max(right));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { height: 40.0, layer_gap: 50.0, node_gap: 10.0, margin: 5.0 };
    const WIDTH: f64 = 100.0;

    fn bodies(count: usize) -> Vec<Body> {
        vec![Body { width: WIDTH, band: 0 }; count]
    }

    #[test]
    fn an_edge_always_leads_to_the_right() {
        let edges = [(0, 1), (1, 2), (0, 2), (3, 2), (2, 4), (3, 4)];
        let drawing = draw(&bodies(5), &edges, &SIZES);
        for (from, to) in edges {
            assert!(drawing.corners[from].0 + WIDTH < drawing.corners[to].0, "{from} → {to}");
        }
    }

    #[test]
    fn nodes_never_lie_over_one_another() {
        let edges: Vec<(usize, usize)> = (1..80).map(|n| (n * 7 % n, n)).collect();
        let corners = draw(&bodies(80), &edges, &SIZES).corners;
        for (a, (ax, ay)) in corners.iter().enumerate() {
            for (b, (bx, by)) in corners.iter().enumerate().filter(|(b, _)| *b != a) {
                assert!((ax - bx).abs() >= WIDTH || (ay - by).abs() >= SIZES.height, "{a} lies over {b}");
            }
        }
    }

    #[test]
    fn everything_is_within_the_drawing() {
        let drawing = draw(&bodies(4), &[(0, 1), (1, 2), (0, 2), (0, 3)], &SIZES);
        for (x, y) in &drawing.corners {
            assert!(*x >= SIZES.margin && *y >= SIZES.margin);
            assert!(x + WIDTH + SIZES.margin <= drawing.width);
            assert!(y + SIZES.height + SIZES.margin <= drawing.height);
        }
    }

    #[test]
    fn a_cycle_is_drawn_all_the_same() {
        let drawing = draw(&bodies(3), &[(0, 1), (1, 2), (2, 0), (1, 1), (0, 9)], &SIZES);
        assert_eq!(drawing.corners.len(), 3);
        assert_eq!(drawing.paths[2].len(), 2, "the edge that closes the cycle goes straight");
        assert!(drawing.paths[3].is_empty() && drawing.paths[4].is_empty());
    }

    #[test]
    fn a_chain_lies_on_one_line() {
        let drawing = draw(&bodies(3), &[(0, 1), (1, 2)], &SIZES);
        assert_eq!(drawing.corners[0].1, drawing.corners[1].1);
        assert_eq!(drawing.corners[1].1, drawing.corners[2].1);
    }

    #[test]
    fn bands_follow_one_another() {
        // Node 3 reads a source directly, and stands with its own band all the same.
        let bands = [0, 1, 1, 2, 2];
        let bodies: Vec<Body> = bands.map(|band| Body { width: WIDTH + 10.0 * band as f64, band }).to_vec();
        let drawing = draw(&bodies, &[(0, 1), (1, 2), (0, 3), (2, 4), (4, 1)], &SIZES);
        let lefts: Vec<f64> = drawing.corners.iter().map(|(x, _)| *x).collect();
        assert_eq!(lefts, [5.0, 155.0, 315.0, 475.0, 475.0]);
        let sides: Vec<(usize, f64, f64)> = drawing.bands.iter().map(|b| (b.band, b.left, b.right)).collect();
        assert_eq!(sides, [(0, 5.0, 105.0), (1, 155.0, 425.0), (2, 475.0, 595.0)]);
        assert_eq!(drawing.width, 600.0);
    }

    #[test]
    fn nothing_is_a_drawing_too() {
        let drawing = draw(&bodies(0), &[], &SIZES);
        assert!(drawing.corners.is_empty() && drawing.height == 10.0);
    }

    #[test]
    fn the_same_graph_is_drawn_the_same_way() {
        let edges: Vec<(usize, usize)> = (1..300).flat_map(|n| [(n / 3, n), (n / 2, n)]).collect();
        assert_eq!(draw(&bodies(300), &edges, &SIZES), draw(&bodies(300), &edges, &SIZES));
    }
}
