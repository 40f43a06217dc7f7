//! Splits a range of keys into parts of about the same size, so that threads can read them side by side.
//!
//! Where the parts end is guessed: keys are taken to be spread evenly between the first and the last. A wrong guess
//! costs balance, never rows.

use std::ops::{Bound, ControlFlow};

use relation::TableId;

use crate::error::Result;
use crate::scan::pushdown::KeyRange;
use crate::storage::Storage;

/// Tables of fewer rows are read by one thread.
pub(crate) const SPLIT_ROWS_MIN: u64 = 50_000;

/// The parts of a range, in key order; one where it cannot be split.
pub(crate) fn split(storage: &dyn Storage, table: TableId, range: &KeyRange, parts: usize) -> Result<Vec<KeyRange>> {
    let (from, to) = (slice(&range.from), slice(&range.to));
    let mut first = None;
    storage.visit(table, from, to, &mut |key, _| {
        first = Some(key.to_vec());
        Ok(ControlFlow::Break(()))
    })?;
    let (Some(first), Some(last)) = (first, storage.last_key(table, from, to)?) else { return Ok(vec![range.clone()]) };
    let mut out = Vec::with_capacity(parts);
    let mut start = range.from.clone();
    for end in boundaries(&first, &last, parts) {
        out.push(KeyRange { from: start, to: Bound::Excluded(end.clone()) });
        start = Bound::Included(end);
    }
    out.push(KeyRange { from: start, to: range.to.clone() });
    Ok(out)
}

fn slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// Keys strictly between two keys, at even distances, each once.
fn boundaries(first: &[u8], last: &[u8], parts: usize) -> Vec<Vec<u8>> {
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |key: &[u8]| {
        let mut bytes = [0; 8];
        for (byte, &from) in bytes.iter_mut().zip(&key[common..]) {
            *byte = from;
        }
        u64::from_be_bytes(bytes)
    };
    let (low, high) = (u128::from(number(first)), u128::from(number(last)));
    let mut out: Vec<Vec<u8>> = Vec::new();
    for part in 1..parts as u128 {
        let at = low + (high - low) * part / parts as u128;
        let bytes = u64::try_from(at).unwrap_or(u64::MAX).to_be_bytes();
        let key = [&first[..common], &bytes].concat();
        let rises = out.last().is_none_or(|before| *before < key);
        if rises && key.as_slice() > first && key.as_slice() <= last {
            out.push(key);
        }
    }
    out
}
