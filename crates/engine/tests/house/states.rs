//! All states of an engine, by what they are of, in a form in which two that mean the same are equal; buckets keep their law.
//!
//! Compared is every entry, byte by byte, but for two things that are not part of what a state means: the step in which a
//! row was first rejected, and the numbers of tables, in place of which stand the places of nodes.

use std::collections::BTreeMap;

use engine::buckets::BUCKET_BYTES_MAX;
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
            StateForm::Buckets => checked(entries)?,
            StateForm::Rejects => undated(entries)?,
        };
        found.insert(state.place, entries);
    }
    Ok(found)
}

/// Whether buckets keep their law: entries in order, packed if and only if they fit, and a spilled one knows its size.
fn checked(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let mut spilled: BTreeMap<&[u8], u64> = BTreeMap::new();
    for (key, value) in &entries {
        match (key.split_first(), value.split_first()) {
            (Some((0, _)), Some((0, packed))) => {
                let keys = packed_keys(packed).ok_or("a bucket that cannot be read")?;
                let is_ordered = keys.windows(2).all(|pair| pair[0] < pair[1]);
                if !is_ordered || keys.is_empty() || value.len() > BUCKET_BYTES_MAX {
                    return Err(format!("a packed bucket breaks its law: {}", shown(key)));
                }
            }
            (Some((0, key)), Some((1, size))) => {
                let size = size.try_into().map(u64::from_le_bytes).map_err(|_| "a size that cannot be read")?;
                if size <= BUCKET_BYTES_MAX as u64 {
                    return Err(format!("a bucket is spilled that fits: {}", shown(key)));
                }
                spilled.insert(key, size - 1);
            }
            (Some((1, _)), _) => {}
            _ => return Err("a bucket of no known form".to_owned()),
        }
    }
    for (key, value) in &entries {
        let Some((1, key)) = key.split_first() else { continue };
        // Of the keys that it begins with, its own: a key's encoding is no prefix of another's.
        let (own, left) = spilled.range_mut(..=key).next_back().ok_or("an entry of no bucket")?;
        let entry = key.strip_prefix(*own).ok_or("an entry of no bucket")?;
        let bytes = (entry.len() + value.len() + 8) as u64;
        *left = left.checked_sub(bytes).ok_or("a spilled bucket is larger than it says")?;
    }
    match spilled.iter().find(|(_, left)| **left != 0) {
        Some((key, _)) => Err(format!("a spilled bucket is smaller than it says: {}", shown(key))),
        None => Ok(entries),
    }
}

/// The keys of packed entries.
fn packed_keys(mut packed: &[u8]) -> Option<Vec<&[u8]>> {
    let mut part = || -> Option<&[u8]> {
        let (length, tail) = packed.split_first_chunk::<4>()?;
        let (part, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        packed = tail;
        Some(part)
    };
    let mut keys = Vec::new();
    while let Some(key) = part() {
        part()?;
        keys.push(key);
    }
    packed.is_empty().then_some(keys)
}

/// Rejected rows without the step of their first failure: it is another one in a rebuild.
fn undated(entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<Vec<(Vec<u8>, Vec<u8>)>, String> {
    let undated = entries.into_iter().map(|(key, mut value)| {
        if value.len() < 16 {
            return Err("a reject without a count and a step".to_owned());
        }
        value.drain(8..16);
        Ok((key, value))
    });
    undated.collect()
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
