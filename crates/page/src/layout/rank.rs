//! Which layer a node is in: one right of all that it reads.

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

/// The layer of each node, from 0; the edges have no cycle.
pub(super) fn layers(nodes: usize, edges: &[(usize, usize)]) -> Vec<usize> {
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
