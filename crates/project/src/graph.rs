//! The order of models: each behind what it depends on, and the cycles that have no such order.

use std::collections::{BTreeMap, BTreeSet};

/// Names and the names they depend on.
pub(crate) type Edges = BTreeMap<String, Vec<String>>;

/// An order in which each name follows its dependencies; names on a cycle or behind one are left out.
/// Among names that could come next the alphabet decides, so that the order is always the same.
pub(crate) fn order(edges: &Edges) -> Vec<String> {
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, needs) in edges {
        let needs: BTreeSet<&String> = needs.iter().filter(|need| edges.contains_key(*need)).collect();
        missing.insert(name, needs.len());
        for need in needs {
            readers.entry(need).or_default().push(name);
        }
    }
    let mut ready: BTreeSet<&str> = missing.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
    let mut order = Vec::new();
    while let Some(next) = ready.pop_first() {
        order.push(next.to_owned());
        for reader in readers.get(next).into_iter().flatten() {
            let Some(count) = missing.get_mut(reader) else { continue };
            *count -= 1;
            if *count == 0 {
                ready.insert(reader);
            }
        }
    }
    order
}

/// One cycle for each knot of names that depend on one another, beginning with its smallest name.
pub(crate) fn cycles(edges: &Edges) -> Vec<Vec<String>> {
    let mut cycles = Vec::new();
    // What has a place in the order is on no cycle; only the rest, nearly always nothing, is searched.
    let ordered = order(edges);
    let mut seen: BTreeSet<&str> = ordered.iter().map(String::as_str).collect();
    for name in edges.keys() {
        if seen.contains(name.as_str()) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(edges, name) {
            seen.extend(knot(edges, name));
            cycles.push(cycle);
        }
    }
    cycles
}

/// The shortest way from a name back to itself.
fn shortest_cycle(edges: &Edges, start: &str) -> Option<Vec<String>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut frontier = vec![start];
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for name in frontier {
            for need in edges.get(name).into_iter().flatten() {
                if need == start {
                    return Some(path(&came_from, start, name));
                }
                if edges.contains_key(need) && !came_from.contains_key(need.as_str()) {
                    came_from.insert(need, name);
                    next.push(need.as_str());
                }
            }
        }
        frontier = next;
    }
    None
}

fn path(came_from: &BTreeMap<&str, &str>, start: &str, end: &str) -> Vec<String> {
    let mut path = vec![start.to_owned(), end.to_owned()];
    let mut at = end;
    while at != start {
        let Some(previous) = came_from.get(at) else { break };
        at = previous;
        path.push(at.to_owned());
    }
    if end == start {
        path.pop();
        path.push(start.to_owned());
    }
    path.reverse();
    path
}

/// All names that a name reaches and that reach it.
fn knot<'a>(edges: &'a Edges, name: &'a str) -> BTreeSet<&'a str> {
    let below = reached(edges, name);
    below.into_iter().filter(|other| reached(edges, other).contains(name)).collect()
}

fn reached<'a>(edges: &'a Edges, name: &str) -> BTreeSet<&'a str> {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = edges.get(name).into_iter().flatten().map(String::as_str).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(edges.get(next).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}
