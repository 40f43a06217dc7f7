//! From a source's batches to the inputs of a step.
//!
//! While a table is loading, the before-images of the log are not trusted: a row may have changed between the snapshot's
//! start and the reading of its chunk. Every change, and every chunk row, is then normalised against the stored row as of
//! the change before it: an insert or update is −stored +after, a deletion −stored. The normalised pairs go to the log.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use relation::{SourceBatch, TableChanges, TableId};

use crate::engine::{Engine, Load};
use crate::error::Result;
use crate::operator::States;
use crate::stored::Stored;

/// Rows as they are after the changes seen so far in this step, by key; none: deleted.
struct Present<'a> {
    stored: &'a Stored,
    states: States<'a>,
    changed: HashMap<Vec<u8>, Option<Vec<u8>>, FixedState>,
}

impl Present<'_> {
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.changed.get(key) {
            return Ok(row.clone());
        }
        Ok(self.states.get_seldom(self.stored.id, key)?.map(|row| row.to_vec()))
    }

    fn apply(&mut self, row: &[u8], weight: i8, out: &mut TableChanges) -> Result<()> {
        let mut key = Vec::with_capacity(48);
        self.stored.push_key(row, &mut key);
        if let Some(before) = self.row(&key)? {
            out.push(&before, -1);
        }
        let after = (weight > 0).then(|| row.to_vec());
        if let Some(after) = &after {
            out.push(after, 1);
        }
        self.changed.insert(key, after);
        Ok(())
    }
}

impl Engine {
    /// Normalises what loading tables bring, turns truncations into deletions, and drops what belongs to no table.
    pub(crate) fn normalise(&self, batch: &mut SourceBatch, states: States<'_>) -> Result<()> {
        batch.tables.retain(|(id, _)| self.follows(*id));
        batch.chunks.retain(|chunk| self.follows(chunk.table));
        for (id, changes) in &mut batch.tables {
            let loading = self.is_loading(*id);
            if changes.truncated {
                *changes = self.emptied(*id, changes, states)?;
            }
            if loading {
                *changes = self.upserts(*id, changes, &[], states)?;
            }
        }
        for i in 0..batch.chunks.len() {
            let id = batch.chunks[i].table;
            let mut changes = std::mem::take(batch.table(id));
            let chunk = &mut batch.chunks[i];
            let rows = std::mem::take(&mut chunk.rows);
            if self.relations[&id].is_keyed() {
                let loaded: Vec<&[u8]> = rows.iter().collect();
                let more = self.upserts(id, &changes, &loaded, states)?;
                changes = more;
            } else {
                rows.iter().for_each(|row| changes.push(row, 1));
            }
            *batch.table(id) = changes;
        }
        Ok(())
    }

    fn follows(&self, id: TableId) -> bool {
        self.tables.get(&id).is_some_and(|table| !matches!(table.load, Load::Parked { .. }))
    }

    /// Whether what is stored of a table may lack rows that the log speaks of.
    fn is_loading(&self, id: TableId) -> bool {
        let table = self.tables.get(&id);
        table.is_some_and(|t| matches!(t.load, Load::Loading { .. } | Load::Partial)) && self.relations[&id].is_keyed()
    }

    /// Changes, then chunk rows, against what is stored. Changes that are normalised already come out as they are.
    fn upserts(
        &self,
        id: TableId,
        changes: &TableChanges,
        loaded: &[&[u8]],
        states: States<'_>,
    ) -> Result<TableChanges> {
        let changed = HashMap::with_capacity_and_hasher(changes.rows.len() + loaded.len(), FixedState::default());
        let mut present = Present { stored: &self.relations[&id], states, changed };
        let mut out = TableChanges::default();
        for (row, &weight) in changes.rows.iter().zip(&changes.weights) {
            present.apply(row, weight, &mut out)?;
        }
        for row in loaded {
            present.apply(row, 1, &mut out)?;
        }
        Ok(out)
    }

    /// All stored rows deleted, then the changes after the truncation.
    fn emptied(&self, id: TableId, changes: &TableChanges, states: States<'_>) -> Result<TableChanges> {
        let stored = &self.relations[&id];
        let mut out = TableChanges::default();
        for entry in states.snapshot.scan(id, &[]) {
            let (_, value) = entry?;
            let (row, weight) = stored.row_of(&value)?;
            (0..weight).for_each(|_| out.push(row, -1));
        }
        out.rows.append(&changes.rows);
        out.weights.extend_from_slice(&changes.weights);
        Ok(out)
    }
}
