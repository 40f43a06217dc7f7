//! All states of an engine, by what they are of, in a form in which two that mean the same are equal.
//!
//! Compared is every entry, byte by byte, but for three things that are not part of what a state means: whether a bucket
//! is packed or spilled (`engine::buckets`), the step and the words with which a row was first rejected, and the numbers
//! of tables, in place of which stand the places of nodes.

use std::collections::BTreeMap;

use engine::{Engine, StateForm};

/// Entries of each state, in order.
pub(crate) type States = BTreeMap<String, Vec<(Vec<u8>, Vec<u8>)>>;

/// The built states of an engine.
pub(crate) fn of(engine: &Engine) -> Result<States, String> {
    let snapshot = engine.store().snapshot();
    let mut found = States::new();
    for state in engine.states_kept() {
        let scan = snapshot.scan(state.table, &[]);
        let entries = scan.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(|e| e.to_string()));
        let entries = entries.collect::<Result<Vec<_>, String>>()?;
        let entries = match state.form {
            StateForm::Plain => entries,
            StateForm::Buckets => unpacked(entries)?,
            StateForm::Rejects => counted(entries)?,
        };
        found.insert(state.place, entries);
    }
    Ok(found)
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

/// Rejected rows, and how often.
fn counted(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let counted = entries.into_iter().map(|(key, value)| {
        let count = value.get(..8).ok_or("a reject without a count")?.to_vec();
        Ok((key, count))
    });
    counted.collect()
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
