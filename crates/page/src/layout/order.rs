//! The order within each layer: sweeps by barycentre, of which the one with the fewest crossings is kept.

use super::Place;

/// Sweeps there and back; more than these improve little.
const SWEEPS: usize = 12;

/// Places by layer, top to bottom.
pub(super) fn sorted(places: &[Place], links: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let layers = places.iter().map(|place| place.layer + 1).max().unwrap_or(0);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); layers];
    for (at, place) in places.iter().enumerate() {
        rows[place.layer].push(at);
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    for (from, to) in links {
        after[*from].push(*to);
        before[*to].push(*from);
    }
    let mut best = rows.clone();
    let mut fewest = crossings(&rows, &after, places.len());
    for sweep in 0..SWEEPS {
        if fewest == 0 {
            break;
        }
        if sweep % 2 == 0 {
            (1..layers).for_each(|layer| sort(&mut rows, layer, layer - 1, &before, places.len()));
        } else {
            (1..layers).rev().for_each(|layer| sort(&mut rows, layer - 1, layer, &after, places.len()));
        }
        let count = crossings(&rows, &after, places.len());
        if count < fewest {
            fewest = count;
            best.clone_from(&rows);
        }
    }
    best
}

/// Sorts a layer by the mean position of each place's neighbours in the fixed layer.
fn sort(rows: &mut [Vec<usize>], layer: usize, fixed: usize, neighbours: &[Vec<usize>], count: usize) {
    let at = positions(&rows[fixed], count);
    let mut weighed: Vec<(f64, usize)> = rows[layer]
        .iter()
        .enumerate()
        .map(|(own, place)| {
            let near = &neighbours[*place];
            // Without neighbours a place stays where it is.
            let mean = match near.len() {
                0 => own as f64,
                n => near.iter().map(|other| at[*other] as f64).sum::<f64>() / n as f64,
            };
            (mean, *place)
        })
        .collect();
    weighed.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows[layer] = weighed.into_iter().map(|(_, place)| place).collect();
}

fn positions(row: &[usize], count: usize) -> Vec<usize> {
    let mut at = vec![0; count];
    row.iter().enumerate().for_each(|(position, place)| at[*place] = position);
    at
}

/// Pairs of links that cross, counted with a Fenwick tree over the right layer.
fn crossings(rows: &[Vec<usize>], after: &[Vec<usize>], count: usize) -> usize {
    let mut total = 0;
    for pair in rows.windows(2) {
        let at = positions(&pair[1], count);
        let mut tree = vec![0_usize; pair[1].len() + 1];
        let mut seen = 0;
        for place in &pair[0] {
            let mut ends: Vec<usize> = after[*place].iter().map(|end| at[*end]).collect();
            ends.sort_unstable();
            // Links that came before and end below cross this one; those of one place do not cross each other.
            total += ends.iter().map(|end| seen - sum(&tree, end + 1)).sum::<usize>();
            for end in &ends {
                add(&mut tree, end + 1);
                seen += 1;
            }
        }
    }
    total
}

fn sum(tree: &[usize], mut at: usize) -> usize {
    let mut total = 0;
    while at > 0 {
        total += tree[at];
        at &= at - 1;
    }
    total
}

fn add(tree: &mut [usize], mut at: usize) {
    while at < tree.len() {
        tree[at] += 1;
        at += at & at.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_layers() -> Vec<Place> {
        (0..6).map(|n| Place { layer: n / 3, is_node: true }).collect()
    }

    #[test]
    fn crossings_are_undone() {
        let links = [(0, 5), (1, 4), (2, 3)];
        let rows = sorted(&two_layers(), &links);
        let mut after = vec![Vec::new(); 6];
        links.iter().for_each(|(from, to)| after[*from].push(*to));
        assert_eq!(crossings(&rows, &after, 6), 0, "{rows:?}");
    }

    #[test]
    fn crossings_are_counted() {
        let rows = vec![vec![0, 1, 2], vec![3, 4, 5]];
        let mut after = vec![Vec::new(); 6];
        for (from, to) in [(0, 5), (1, 4), (2, 3), (0, 3)] {
            after[from].push(to);
        }
        assert_eq!(crossings(&rows, &after, 6), 3);
    }
}
