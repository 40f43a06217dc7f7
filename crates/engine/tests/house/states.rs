//! All states of an engine, by what they are of, in a form in which two that mean the same are equal.
//!
//! Compared is every entry, byte by byte, but for three things that are not part of what a state means: whether a bucket
//! is packed or spilled (`engine::buckets`), the step and the words with which a row was first rejected, and the numbers
//! of tables, in place of which stand the places of nodes.

use std::collections::BTreeMap;

use engine::Engine;
use engine::graph::Rule;
use relation::TableId;

/// Entries of each state, in order.
pub(crate) type States = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// The built states of an engine.
pub(crate) fn of(engine: &Engine) -> Result<States, String> {
    let snapshot = engine.store().snapshot();
    let entries = |table: TableId| -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
        let scan = snapshot.scan(table, &[]);
        scan.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(|e| e.to_string())).collect()
    };
    let mut found = States::new();
    let nodes = &engine.graph().nodes;
    for (i, node) in nodes.iter().enumerate() {
        let of_model = engine.models().get(node.origin.0).map_or("", |model| &model.name.name);
        let name = format!("{i:03} of {of_model}: {}", rule_name(&node.rule));
        if node.built && node.parked.is_none() {
            for (k, &state) in node.states.iter().enumerate() {
                let entries = entries(state)?;
                let entries = if matches!(node.rule, Rule::TopK(_)) { unpacked(entries)? } else { entries };
                found.insert(format!("{name} state {k}"), entries);
            }
            if let Rule::Sink { model } = node.rule {
                found.insert(format!("{name} rows"), entries(engine.models()[model].relation)?);
            }
        }
        for kept in node.arrangements.iter().filter(|kept| kept.built) {
            let keys = (&kept.arrangement.keys, kept.arrangement.keeps_nulls);
            found.insert(format!("{name} by {keys:?}"), unpacked(entries(kept.arrangement.buckets.table)?)?);
        }
    }
    let tables = engine.tables().map(|table| (&table.name, table.id));
    for (name, id) in tables.chain(engine.models().iter().map(|model| (&model.name, model.relation))) {
        for index in engine.relation(id).map_or(&[][..], |stored| &stored.indexes).iter().filter(|index| index.built) {
            let label = format!("index of {name} by {:?}", index.columns);
            found.insert(label, unpacked(entries(index.buckets.table)?)?);
        }
    }
    found.insert("rejects".to_owned(), rejects(engine)?);
    Ok(found)
}

fn rule_name(rule: &Rule) -> &'static str {
    match rule {
        Rule::Table { .. } => "table",
        Rule::Values => "values",
        Rule::Map(_) => "map",
        Rule::Join(_) => "join",
        Rule::Aggregate(_) => "aggregate",
        Rule::Union => "union",
        Rule::TopK(_) => "top-k",
        Rule::Sink { .. } => "sink",
    }
}

/// Entries of buckets, packed or spilled, under their join key and their own key.
fn unpacked(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let mut out = Vec::new();
    for (key, value) in entries {
        let (first, key) = key.split_first().ok_or("a bucket without a key")?;
        match (first, value.first()) {
            (0, Some(0)) => {
                let mut rest = &value[1..];
                let mut part = || -> Option<Vec<u8>> {
                    let (length, tail) = rest.split_first_chunk::<4>()?;
                    let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
                    rest = tail;
                    Some(part.to_vec())
                };
                while let Some(entry_key) = part() {
                    let value = part().ok_or("a bucket that cannot be read")?;
                    out.push(([key, &entry_key].concat(), value));
                }
            }
            (0, Some(1)) => {}
            (1, _) => out.push((key.to_vec(), value)),
            _ => return Err("a bucket of no known form".to_owned()),
        }
    }
    out.sort();
    Ok(out)
}

/// Rejected rows by the place of their node, and how often.
fn rejects(engine: &Engine) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let nodes = &engine.graph().nodes;
    let mut out = Vec::new();
    for entry in engine.store().snapshot().scan(engine.rejects_table(), &[]) {
        let (key, value) = entry.map_err(|e| e.to_string())?;
        let end = key.iter().position(|b| *b == 0).ok_or("a reject of no node")?;
        let Some(node) = nodes.iter().position(|node| node.identity.as_bytes() == &key[..end]) else { continue };
        let mut place = format!("{node:03}").into_bytes();
        place.extend_from_slice(&key[end..]);
        out.push((place, value.get(..8).ok_or("a reject without a count")?.to_vec()));
    }
    out.sort();
    Ok(out)
}

/// The first state in which two engines differ, in words; none where they agree.
pub(crate) fn difference(kept: &States, rebuilt: &States) -> Option<String> {
    for name in kept.keys().chain(rebuilt.keys()) {
        let (ours, theirs) = match (kept.get(name), rebuilt.get(name)) {
            (Some(ours), Some(theirs)) => (ours, theirs),
            (None, _) => return Some(format!("{name}: built anew alone")),
            (_, None) => return Some(format!("{name}: kept alone")),
        };
        if ours == theirs {
            continue;
        }
        let only = |a: &[(Vec<u8>, Vec<u8>)], b: &[(Vec<u8>, Vec<u8>)], sign: char| {
            let missing = a.iter().filter(|entry| !b.contains(entry)).take(5);
            missing.map(|(k, v)| format!("{sign} {} -> {}", shown(k), shown(v))).collect::<Vec<_>>()
        };
        let lines = [only(theirs, ours, '-'), only(ours, theirs, '+')].concat();
        return Some(format!("{name}: kept (+) against built anew (-):\n{}", lines.join("\n")));
    }
    None
}

fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(120)];
    let end = if cut.len() < bytes.len() { "…" } else { "" };
    format!("{}{end}", cut.escape_ascii())
}
