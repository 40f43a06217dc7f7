//! The log between two places: what brings our rows to the place at which the source was read.
//!
//! It is read once more, beside the one that is followed, in batches of one transaction, so that one of them ends where the
//! gap ends.

use std::time::Duration;

use connect::{FollowedTable, Limits, Source, SourceEvent, SourceState};
use relation::{Entry, Position, SourceBatch, TableId};
use store::Snapshot;
use tokio::sync::mpsc;

use super::source::{Ours, failed};

/// How often the instance is looked at until it has seen what the source was read at.
const LOOK: Duration = Duration::from_millis(20);
/// Looks without any progress after which nobody waits any longer: a minute.
const LOOKS_MAX: u32 = 3_000;
/// Bytes of a transaction in parts that are held until its end is known.
const HELD_BYTES_MAX: usize = 256 << 20;

/// Two places of a log, and how our rows come from the one to the other.
pub(super) struct Gap {
    pub(super) from: Position,
    pub(super) to: Position,
    /// 1: changes in between are added to ours; −1: they are taken from them.
    pub(super) sign: i64,
}

/// A step of ours whose place in the log is known, and the way from it to the place at which the source is read.
pub(super) async fn ours_near(source: &dyn Source, ours: &Ours, place: &Position) -> anyhow::Result<(Snapshot, Gap)> {
    let mut seen = None;
    let mut looks = 0;
    loop {
        let snapshot = (ours.view)();
        let at = ours.positions.at(&snapshot, ours.number)?;
        let Some(at) = at else { anyhow::bail!("source \"{}\" has brought nothing yet", ours.source) };
        if source.reached(&at, place).map_err(failed)? {
            return Ok((snapshot, Gap { from: place.clone(), to: at, sign: -1 }));
        }
        if !ours.is_running {
            return Ok((snapshot, Gap { from: at, to: place.clone(), sign: 1 }));
        }
        looks = if seen.as_ref() == Some(&at) { looks + 1 } else { 0 };
        if looks > LOOKS_MAX {
            anyhow::bail!(
                "source \"{}\" does not get on: it stands at {at}\nHint: See its state with `tidemill status`.",
                ours.source
            );
        }
        seen = Some(at);
        tokio::time::sleep(LOOK).await;
    }
}

pub(super) enum Between<'a> {
    Row(TableId, &'a [u8], i64),
    /// Something else than rows has happened to a table.
    Trouble(TableId, String),
    /// A row came or went that cannot be read: it is none of those that are compared.
    Unreadable,
}

/// The changes of a log between two places.
pub(super) async fn between(
    source: &dyn Source,
    tables: &[FollowedTable],
    gap: &Gap,
    each: &mut (dyn FnMut(Between<'_>) + Send),
) -> anyhow::Result<()> {
    if source.reached(&gap.from, &gap.to).map_err(failed)? {
        return Ok(());
    }
    // Batches of one transaction, so that one of them ends where the gap ends.
    let limits = Limits { transactions_max: 1, ..Limits::default() };
    let (mut events, control) = source.start(tables.to_vec(), Some(gap.from.clone()), limits);
    let reached = |current: &Position, target: &Position| source.reached(current, target).map_err(failed);
    let told = tell_until(&mut events, &gap.to, reached, each).await;
    control.stop().await;
    told
}

/// Tells what a log's events bring up to a place, which is the end of a transaction.
async fn tell_until(
    events: &mut mpsc::Receiver<SourceEvent>,
    place: &Position,
    reached: impl Fn(&Position, &Position) -> anyhow::Result<bool>,
    each: &mut (dyn FnMut(Between<'_>) + Send),
) -> anyhow::Result<()> {
    let mut parts: Vec<SourceBatch> = Vec::new();
    let mut bytes = 0;
    loop {
        let Some(event) = events.recv().await else { anyhow::bail!("the log could not be read again") };
        match event {
            SourceEvent::Batch(batch) => {
                if batch.part.is_none_or(|part| part.is_first()) {
                    parts.clear();
                    bytes = 0;
                }
                bytes += batch.bytes();
                let is_whole = batch.part.is_none_or(|part| part.is_last);
                let end = batch.position.clone();
                parts.push(batch);
                if bytes > HELD_BYTES_MAX {
                    for (table, _) in parts.drain(..).flat_map(|part| part.tables) {
                        let reason = "a transaction too large to be held came meanwhile: compare it once more";
                        each(Between::Trouble(table, reason.to_owned()));
                    }
                }
                // Where a transaction ends is known with its last part, and one behind the place is none of ours.
                if is_whole && !reached(place, &end)? {
                    return Ok(());
                }
                if is_whole {
                    parts.drain(..).for_each(|part| tell(&part, each));
                    if reached(&end, place)? {
                        return Ok(());
                    }
                }
            }
            SourceEvent::Parked { table, reason }
            | SourceEvent::Reload { table, reason }
            | SourceEvent::Altered { table, statement: reason } => each(Between::Trouble(table, reason)),
            SourceEvent::State(SourceState::Stalled, message) => {
                anyhow::bail!("the source's log cannot be read: {message}\nHint: Compare once more when it can.")
            }
            SourceEvent::Failed(failure) => return Err(failed(failure)),
            SourceEvent::State(..) | SourceEvent::Learned { .. } | SourceEvent::Delayed { .. } => {}
        }
    }
}

fn tell(batch: &SourceBatch, each: &mut (dyn FnMut(Between<'_>) + Send)) {
    for (id, changes) in &batch.tables {
        if changes.truncated {
            each(Between::Trouble(*id, "it was emptied meanwhile: compare it once more".to_owned()));
        }
        for entry in changes.entries() {
            match entry {
                Entry::Row(row, weight) => each(Between::Row(*id, row, i64::from(weight))),
                Entry::Unread(..) => each(Between::Unreadable),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use relation::{Rows, TableChanges, TransactionPart};

    use super::*;

    fn row(byte: u8, position: &str, part: Option<(u32, bool)>) -> SourceEvent {
        let mut rows = Rows::new();
        rows.push(&[byte]);
        let changes = TableChanges { rows, weights: vec![1], truncated: false, by_key: false };
        SourceEvent::Batch(SourceBatch {
            tables: vec![(TableId(1), changes)],
            position: Position(position.to_owned()),
            part: part.map(|(number, is_last)| TransactionPart { number, is_last }),
            ..SourceBatch::default()
        })
    }

    /// What is told of these events up to the place 5, and how that ended. Positions are digits.
    async fn told(said: Vec<SourceEvent>) -> (Vec<u8>, Result<(), String>) {
        let (sender, mut events) = mpsc::channel(said.len().max(1));
        for event in said {
            sender.send(event).await.unwrap();
        }
        drop(sender);
        let mut bytes = Vec::new();
        let mut each = |change: Between<'_>| match change {
            Between::Row(_, row, _) => bytes.extend_from_slice(row),
            Between::Trouble(_, reason) => bytes.extend_from_slice(reason.as_bytes()),
            Between::Unreadable => {}
        };
        let place = Position("5".to_owned());
        let ended = tell_until(&mut events, &place, |current, target| Ok(current >= target), &mut each).await;
        let ended = ended.map_err(|error| error.to_string());
        (bytes, ended)
    }

    #[tokio::test]
    async fn a_transaction_counts_if_it_ends_up_to_the_place() {
        let up_to = vec![row(1, "3", None), row(2, "5", None), row(3, "6", None)];
        assert_eq!(told(up_to).await, (vec![1, 2], Ok(())));
        let past = vec![row(1, "3", None), row(3, "6", None)];
        assert_eq!(told(past).await, (vec![1], Ok(())));
    }

    #[tokio::test]
    async fn parts_count_with_their_last_one_and_void_ones_do_not() {
        let (first, second) = (Some((1, false)), Some((2, true)));
        let whole = vec![row(1, "", first), row(2, "", first), row(3, "5", second)];
        assert_eq!(told(whole).await, (vec![2, 3], Ok(())));
        let rolled_back = vec![row(1, "", first), row(2, "5", None)];
        assert_eq!(told(rolled_back).await, (vec![2], Ok(())));
        let past = vec![row(1, "", first), row(2, "6", second)];
        assert_eq!(told(past).await, (vec![], Ok(())));
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_is_not_waited_for() {
        let stalled = SourceEvent::State(SourceState::Stalled, "it was purged".to_owned());
        let (bytes, ended) = told(vec![row(1, "3", None), stalled]).await;
        assert_eq!(bytes, [1]);
        assert!(ended.unwrap_err().contains("it was purged"));
        let (_, ended) = told(vec![row(1, "3", None)]).await;
        assert_eq!(ended.unwrap_err(), "the log could not be read again");
    }
}
