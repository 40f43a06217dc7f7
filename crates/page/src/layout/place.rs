//! Heights: each place is drawn to the mean of its neighbours, and a layer keeps its order and its distances.

use super::{Place, Sizes};

/// Between the bends of two edges.
const BEND_GAP: f64 = 5.0;

/// Rounds there and back.
const ROUNDS: usize = 10;

/// The middle of each place.
pub(super) fn middles(places: &[Place], rows: &[Vec<usize>], links: &[(usize, usize)], sizes: &Sizes) -> Vec<f64> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); places.len()];
    for (from, to) in links {
        after[*from].push(*to);
        before[*to].push(*from);
    }
    let mut middles = vec![0.0; places.len()];
    for row in rows {
        settle(row, &vec![0.0; row.len()], places, sizes, &mut middles);
    }
    for round in 0..ROUNDS {
        let forth = round % 2 == 0;
        let near = if forth { &before } else { &after };
        let pull = |layer: usize, middles: &mut Vec<f64>| {
            let wanted: Vec<f64> =
                rows[layer].iter().map(|place| mean(&near[*place], middles[*place], middles)).collect();
            settle(&rows[layer], &wanted, places, sizes, middles);
        };
        match forth {
            true => (0..rows.len()).for_each(|layer| pull(layer, &mut middles)),
            false => (0..rows.len()).rev().for_each(|layer| pull(layer, &mut middles)),
        }
    }
    middles
}

fn mean(near: &[usize], own: f64, middles: &[f64]) -> f64 {
    match near.len() {
        0 => own,
        count => near.iter().map(|place| middles[*place]).sum::<f64>() / count as f64,
    }
}

/// Puts a row as near as possible to what is wanted: least squares under the order, by pooling neighbours that would
/// come too close.
fn settle(row: &[usize], wanted: &[f64], places: &[Place], sizes: &Sizes, middles: &mut [f64]) {
    let half =
        |place: usize| if places[place].is_node { (sizes.height + sizes.node_gap) / 2.0 } else { BEND_GAP / 2.0 };
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(row.len());
    for (i, place) in row.iter().enumerate() {
        if i > 0 {
            offset += half(row[i - 1]) + half(*place);
        }
        offsets.push(offset);
    }
    // Blocks that move as one: sum of wishes, members.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wanted.iter().zip(&offsets) {
        blocks.push((wish - offset, 1));
        while let [.., (above, m), (below, n)] = blocks.as_slice()
            && above / *m as f64 > below / *n as f64
        {
            let merged = (above + below, m + n);
            blocks.truncate(blocks.len() - 2);
            blocks.push(merged);
        }
    }
    let starts = blocks.iter().flat_map(|(sum, count)| std::iter::repeat_n(sum / *count as f64, *count));
    for ((place, offset), start) in row.iter().zip(&offsets).zip(starts) {
        middles[*place] = start + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { height: 40.0, layer_gap: 50.0, node_gap: 10.0, margin: 0.0 };

    #[test]
    fn a_node_stands_in_the_middle_of_what_it_reads() {
        let places: Vec<Place> = [0, 0, 1].map(|layer| Place { layer, is_node: true }).to_vec();
        let middles = middles(&places, &[vec![0, 1], vec![2]], &[(0, 2), (1, 2)], &SIZES);
        assert!((middles[2] - (middles[0] + middles[1]) / 2.0).abs() < 0.01, "{middles:?}");
        assert!(middles[1] - middles[0] >= 50.0);
    }

    #[test]
    fn two_that_want_one_place_stand_beside_it() {
        let places: Vec<Place> = [0, 0].map(|layer| Place { layer, is_node: true }).to_vec();
        let mut middles = vec![0.0; 2];
        settle(&[0, 1], &[100.0, 100.0], &places, &SIZES, &mut middles);
        assert_eq!(middles, [75.0, 125.0]);
    }
}
