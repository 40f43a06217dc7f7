//! The store as a `BTreeMap`: what every read is compared with.

use std::collections::BTreeMap;

use store::{Snapshot, TableId, Writes};

/// One write of a step, as text: also what the tests log, so that replay is the same code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Put(u32, Vec<u8>, Vec<u8>),
    Delete(u32, Vec<u8>),
    Drop(u32),
}

pub(crate) type Entries = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

/// All states that the store ever had, by step.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    pub(crate) states: BTreeMap<u64, Entries>,
}

impl Model {
    pub(crate) fn at(&self, step: u64) -> Entries {
        self.states.range(..=step).next_back().map(|(_, entries)| entries.clone()).unwrap_or_default()
    }

    pub(crate) fn apply(&mut self, step: u64, ops: &[Op]) {
        let mut entries = self.at(step);
        for op in ops {
            match op {
                Op::Put(table, key, value) => {
                    entries.insert((*table, key.clone()), value.clone());
                }
                Op::Delete(table, key) => {
                    entries.remove(&(*table, key.clone()));
                }
                Op::Drop(table) => entries.retain(|(t, _), _| t != table),
            }
        }
        self.states.insert(step, entries);
    }
}

pub(crate) fn writes(ops: &[Op]) -> Writes {
    let mut writes = Writes::new();
    for op in ops {
        match op {
            Op::Put(table, key, value) => writes.put(TableId(*table), key, value),
            Op::Delete(table, key) => writes.delete(TableId(*table), key),
            Op::Drop(table) => writes.drop_table(TableId(*table)),
        }
    }
    writes
}

/// Compares the tables of a snapshot with the model, both ways, entry by entry.
pub(crate) fn compare(snapshot: &Snapshot, expected: &Entries, tables: &[u32]) -> Result<(), String> {
    for table in tables {
        let want: Vec<(Vec<u8>, Vec<u8>)> = expected
            .range((*table, Vec::new())..)
            .take_while(|((t, _), _)| t == table)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        let read = |scan: store::Scan| {
            scan.map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| e.to_string())
        };
        let got = read(snapshot.scan(TableId(*table), &[]))?;
        if got != want {
            return Err(difference(*table, snapshot.step(), &got, &want));
        }
        let mut reversed = read(snapshot.scan_rev(TableId(*table), &[]))?;
        reversed.reverse();
        if reversed != want {
            return Err(format!("in reverse: {}", difference(*table, snapshot.step(), &reversed, &want)));
        }
        for (key, value) in want.iter().step_by(1 + want.len() / 50) {
            let got = snapshot.get(TableId(*table), key).map_err(|e| e.to_string())?;
            if got.as_deref() != Some(&**value) {
                return Err(format!("t{table} {key:?}: get says {got:?}"));
            }
        }
    }
    Ok(())
}

fn difference(table: u32, step: u64, got: &[(Vec<u8>, Vec<u8>)], want: &[(Vec<u8>, Vec<u8>)]) -> String {
    let first = got.iter().zip(want).position(|(a, b)| a != b).unwrap_or(got.len().min(want.len()));
    format!(
        "t{table} at step {step}: {} entries, expected {}; first difference at {first}: {:?}, expected {:?}",
        got.len(),
        want.len(),
        got.get(first),
        want.get(first)
    )
}

/// Ops as lines, and back.
pub(crate) fn to_text(ops: &[Op]) -> String {
    let mut out = String::new();
    for op in ops {
        match op {
            Op::Put(t, k, v) => out += &format!("put {t} {} {}\n", word(k), v.escape_ascii()),
            Op::Delete(t, k) => out += &format!("delete {t} {}\n", word(k)),
            Op::Drop(t) => out += &format!("drop {t}\n"),
        }
    }
    out
}

/// A key as a word; the empty one is `~`.
fn word(key: &[u8]) -> String {
    if key.is_empty() { "~".to_owned() } else { key.escape_ascii().to_string() }
}

pub(crate) fn from_text(text: &str) -> Result<Vec<Op>, String> {
    let mut ops = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = |word: &str| if word == "~" { Vec::new() } else { word.as_bytes().to_vec() };
        let table = |word: &str| word.parse::<u32>().map_err(|e| format!("{line}: {e}"));
        match words[..] {
            ["put", t, k, v] => ops.push(Op::Put(table(t)?, key(k), v.into())),
            ["put", t, k] => ops.push(Op::Put(table(t)?, key(k), Vec::new())),
            ["delete", t, k] => ops.push(Op::Delete(table(t)?, key(k))),
            ["drop", t] => ops.push(Op::Drop(table(t)?)),
            ["fill", t, from, to, v] => {
                for i in table(from)?..table(to)? {
                    ops.push(Op::Put(table(t)?, format!("k{i:06}").into(), format!("{v}{i}").into()));
                }
            }
            _ => return Err(format!("cannot read \"{line}\"")),
        }
    }
    Ok(ops)
}
