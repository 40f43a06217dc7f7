//! Which layer a node is in: right of all that it reads in its band, and right of all bands before.
//!
//! A layer of very many nodes would be a thread: it is spread over several, as long as all of them stand where one would.

use std::collections::BTreeMap;

/// The edges without those that close a cycle, found by walking in depth.
pub(super) fn without_cycles(nodes: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for (from, to) in edges {
        next[*from].push(*to);
    }
    let mut marks = vec![Mark::New; nodes];
    let mut kept = Vec::with_capacity(edges.len());
    for start in 0..nodes {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // A walk of its own: a graph may be deeper than the stack.
        let mut walk = vec![(start, 0)];
        while let Some((node, at)) = walk.last_mut() {
            let Some(to) = next[*node].get(*at).copied() else {
                marks[*node] = Mark::Done;
                walk.pop();
                continue;
            };
            *at += 1;
            if marks[to] != Mark::Open {
                kept.push((*node, to));
            }
            if marks[to] == Mark::New {
                marks[to] = Mark::Open;
                walk.push((to, 0));
            }
        }
    }
    kept
}

/// The layer of each node, from 0, by the band of each; the edges have no cycle.
pub(super) fn layers(bands: &[usize], edges: &[(usize, usize)]) -> Vec<usize> {
    let within: Vec<(usize, usize)> = edges.iter().copied().filter(|(from, to)| bands[*from] == bands[*to]).collect();
    let own = spread(bands, &longest(bands.len(), &within));
    let mut wide: BTreeMap<usize, usize> = BTreeMap::new();
    for (band, layer) in bands.iter().zip(&own) {
        let width = wide.entry(*band).or_default();
        *width = (*width).max(layer + 1);
    }
    let mut next = 0;
    for first in wide.values_mut() {
        next += std::mem::replace(first, next);
    }
    bands.iter().zip(own).map(|(band, layer)| wide[band] + layer).collect()
}

/// Nodes of a layer that are never spread.
const ROWS_MIN: f64 = 16.0;

/// The layers within each band, where none has many more nodes than a drawing of this size has room for rows.
fn spread(bands: &[usize], layers: &[usize]) -> Vec<usize> {
    let rows_max = (bands.len() as f64 * 1.25).sqrt().max(ROWS_MIN).ceil();
    let mut sizes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for place in bands.iter().copied().zip(layers.iter().copied()) {
        *sizes.entry(place).or_default() += 1;
    }
    // Of each layer the first one that it is spread over, how many nodes go into one, and how many are placed.
    let mut spreads: BTreeMap<(usize, usize), (usize, usize, usize)> = BTreeMap::new();
    let (mut last, mut next) = (None, 0);
    for ((band, layer), size) in sizes {
        if last != Some(band) {
            (last, next) = (Some(band), 0);
        }
        let parts = (1_usize..).find(|parts| size as f64 / *parts as f64 <= rows_max).unwrap_or(1);
        spreads.insert((band, layer), (next, size.div_ceil(parts), 0));
        next += parts;
    }
    let place = |(band, layer): (&usize, &usize)| {
        let (first, rows, placed) = spreads.entry((*band, *layer)).or_insert((0, 1, 0));
        let own = *first + *placed / *rows;
        *placed += 1;
        own
    };
    bands.iter().zip(layers).map(place).collect()
}

/// Edges of the longest way to each node.
pub(super) fn longest(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut waiting = vec![0_usize; nodes];
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); nodes];
    for (from, to) in edges {
        waiting[*to] += 1;
        next[*from].push(*to);
    }
    let mut layers = vec![0; nodes];
    let mut ready: Vec<usize> = (0..nodes).filter(|n| waiting[*n] == 0).collect();
    while let Some(node) = ready.pop() {
        for to in &next[node] {
            layers[*to] = layers[*to].max(layers[node] + 1);
            waiting[*to] -= 1;
            if waiting[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_very_many_nodes_is_spread() {
        // Forty over one, and one over all of these.
        let edges: Vec<(usize, usize)> = (1..41).flat_map(|node| [(0, node), (node, 41)]).collect();
        let layers = layers(&[0; 42], &edges);
        assert_eq!((layers[0], layers[41]), (0, 4));
        let rows = |layer: usize| layers.iter().filter(|own| **own == layer).count();
        assert_eq!([1, 2, 3].map(rows), [14, 14, 12]);
    }
}
