//! Handing out the rows of an outbox, from published snapshots: the engine goes on meanwhile.
//!
//! A reader goes round the marks in key order, portion by portion, or walks through everything where the outbox is being filled.
//! What it holds beside the stored facts is where it is in the round, and whether it may trust what is accepted: it may when it
//! has been through all marks once without losing an answer (doubt, in the module above).

use std::ops::Bound;
use std::sync::Arc;

use relation::{Layout, Schema, TableId, Value};
use store::{Scan, Slice, Snapshot, Store};

use super::facts::{Filled, Followed, Outbox, is_accepted, key_row_of, mark_of};
use super::leaving::Counted;
use super::status::Outboxes;
use super::told::{Delivered, Settled, Told, Verdict, Walked};
use super::unheard::Unheard;
use crate::error::Result;
use crate::input::Input;

/// Keys that one portion looks at, at most.
pub const LOOKED_AT_MAX: usize = 20_000;

/// How large a portion may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Items.
    pub rows: usize,
    /// Bytes of keys and rows; one item may be larger alone.
    pub bytes: usize,
    /// Keys that are looked at, also where most of them need not be sent; [`LOOKED_AT_MAX`] at most.
    pub looked_at: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 5_000, bytes: 8 << 20, looked_at: LOOKED_AT_MAX }
    }
}

/// What there is to be sent.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and a portion is what it is read for")]
pub enum Read {
    /// Send this, and settle it.
    Portion(Portion),
    /// Nothing is to be sent, but the engine is to take this; then read again.
    Settle(Input),
    /// The snapshot does not have yet what was settled last: read a newer one.
    Behind,
    /// All is delivered as of this snapshot.
    Nothing,
    /// There is nothing to follow: [`crate::Engine::outbox_waits`] says why.
    Unaimed,
    /// What it follows is not durable yet: read a newer snapshot.
    Unstored,
    /// It was paused, and why.
    Paused(String),
    /// There is no such outbox.
    Gone,
}

/// Rows to be sent: each key once, in their order.
#[derive(Debug)]
pub struct Portion {
    pub outbox: String,
    /// When the outbox was set up first, in microseconds since 1970.
    pub life: i64,
    /// How often the other side has lost what it had.
    pub generation: u64,
    /// Rises by one with every portion that is settled, as long as the outbox lives.
    pub sequence: u64,
    /// The step at which the rows are.
    pub step: u64,
    pub is_filling: bool,
    /// All columns of the relation, and which of them are its key.
    pub schema: Arc<Schema>,
    pub layout: Arc<Layout>,
    pub items: Vec<Item>,
    /// Bytes of keys and rows.
    pub bytes: usize,
    pub(super) followed: Followed,
    pub(super) scope: Scope,
    /// Number of the walk that was under way, or was the last one.
    pub(super) walk: u64,
    /// Keys that need not be sent.
    quiet: Vec<Settled>,
    /// Whether what is accepted is what the other side has.
    pub(super) is_sure: bool,
    /// What was out that nobody had heard of.
    pub(super) unheard: Unheard,
}

/// What is to be done with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As the relation has it stored: keys compare as their values do.
    pub key: Vec<u8>,
    /// The step that changed it last; none where a walk has come to it.
    pub step: Option<u64>,
    /// The row, encoded by the portion's layout; none: it is to be deleted.
    pub row: Option<Vec<u8>>,
    /// Whether the other side may have a row of this key, as far as it has answered.
    pub is_known: bool,
    /// Whether it may have one of which it has not answered.
    pub is_unheard: bool,
    fingerprint: [u8; 16],
    key_row: Option<Vec<u8>>,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The row is there, or the key is gone.
    Done,
    /// The other side does not take it: it is kept as refused until another row of the key is settled.
    Refused { reason: String },
    /// It was surely not applied: it is handed out again.
    Later,
    /// It may be applied or not: it is handed out again, whatever becomes of it.
    Unknown,
}

/// Where in the order of keys a portion lies.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) pending: TableId,
    /// With the portion of what is set up since then, and of the marks made until then, it is to be compared.
    pub(super) since: u64,
    pub(super) last: u64,
    pub(super) after: Vec<u8>,
    pub(super) through: Vec<u8>,
    /// Whether there is nothing behind it.
    pub(super) is_end: bool,
    /// Number of the walk, and the keys looked at.
    pub(super) walk: Option<(u64, u64)>,
}

/// Keys behind the walk's cursor of which a portion may be out, as many as one looks at at most. As long as what has changed is marked,
/// the walk itself comes to them again; before that ends, they are to be marked.
pub(crate) fn ahead_of_walk(outbox: &Outbox, filled: &Filled, snapshot: &Snapshot) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    let (Some(relation), Filled::Through(after)) = (outbox.relation, filled) else { return Ok(keys) };
    let mut sides = Sides::new(outbox, relation, snapshot, after)?;
    while let Some(key) = sides.key().filter(|_| keys.len() < LOOKED_AT_MAX) {
        // What is marked was not there when the portion was read, or need not be marked again.
        if sides.marks.of(&key).is_none() {
            keys.push(key.to_vec());
        }
        sides.pass(&key)?;
    }
    Ok(keys)
}

/// Hands out the rows of one outbox. It belongs to one task; a new one, and one that has lost an answer, is in doubt of what the
/// other side has of the marked keys, and sends these once more.
pub struct Reader {
    store: Store,
    pub(super) facts: TableId,
    pub(super) name: String,
    /// The incarnation and generation that it knows.
    pub(super) known: Option<(TableId, u64)>,
    /// Whether what is accepted is what the other side has.
    pub(super) is_sure: bool,
    /// How far it is in the round; none: at its beginning.
    pub(super) after: Option<Vec<u8>>,
    /// The keys of the portion that is out.
    pub(super) out: Unheard,
    /// The keys of those that were, and whose answers were lost, until it has been through all marks.
    pub(super) unheard: Unheard,
    /// Whether the other side has a portion as a whole, with its marker, or nothing of it.
    pub(super) is_sealed: bool,
    /// Number of the portion whose settlement is to be seen.
    pub(super) awaited: Option<u64>,
    /// The newest step that it has read.
    pub(super) seen: u64,
    /// How much is to go.
    pub(super) counted: Option<Counted>,
    /// What it stood on when what a person is asked for was counted anew last: marks, relation and step.
    pub(super) recounted: Option<(TableId, Option<TableId>, u64)>,
}

impl Reader {
    pub(crate) fn new(store: Store, facts: TableId, name: &str) -> Self {
        Self {
            store,
            facts,
            name: name.to_owned(),
            known: None,
            is_sure: false,
            after: None,
            out: Unheard::Nothing,
            // Of what was out before nothing is known.
            unheard: Unheard::ANY,
            is_sealed: false,
            awaited: None,
            seen: 0,
            counted: None,
            recounted: None,
        }
    }

    /// For another side that has a portion as a whole, with its marker, or nothing of it: the marker tells then what is there.
    pub fn sealed(self) -> Self {
        Self { is_sealed: true, ..self }
    }

    /// The outbox's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn outboxes(&self) -> Outboxes {
        Outboxes { facts: self.facts }
    }

    /// The portion that was handed out is not sent.
    pub(super) fn take_back(&mut self) {
        self.out = Unheard::Nothing;
    }

    /// The next rows to be sent. A portion that was handed out before and not settled counts as sent, with its answer lost.
    pub fn read(&mut self, snapshot: &Snapshot, limits: Limits) -> Result<Read> {
        // Of an older one it would not be told what is marked by now.
        if snapshot.step() < self.seen {
            return Ok(Read::Behind);
        }
        self.seen = snapshot.step();
        let Some(outbox) = Outbox::load(snapshot, self.facts, &self.name)? else { return Ok(Read::Gone) };
        let known = (outbox.pending, outbox.at.generation);
        let lost = std::mem::replace(&mut self.out, Unheard::Nothing);
        if lost != Unheard::Nothing || self.known != Some(known) {
            self.unheard.add(lost);
            self.doubt();
        }
        if self.known.is_some_and(|(pending, _)| pending != outbox.pending) {
            // What was settled was of another incarnation, and is not taken.
            self.awaited = None;
        }
        self.known = Some(known);
        if self.awaited.is_some_and(|sequence| outbox.at.sequence < sequence) {
            return Ok(Read::Behind);
        }
        self.awaited = None;
        if self.store.folded_step() < outbox.since {
            self.store.fold_soon();
            return Ok(Read::Unstored);
        }
        if let Some(reason) = outbox.paused() {
            // What a person lets go is known when it is resumed.
            self.counted = None;
            return Ok(Read::Paused(reason));
        }
        if outbox.relation.is_some() && outbox.at.filled == Filled::Whole && outbox.at.pending_rows == 0 {
            // A round without marks.
            self.end_round();
            self.counted = None;
            return Ok(Read::Nothing);
        }
        let Some(followed) = Followed::load(snapshot, &outbox)? else { return Ok(Read::Unaimed) };
        let gathered = match &outbox.at.filled {
            Filled::Through(after) => walk(&outbox, &followed, snapshot, limits, after.clone(), self.trust())?,
            Filled::Whole => match self.round(&outbox, &followed, snapshot, limits)? {
                Some(gathered) => gathered,
                None => return Ok(Read::Nothing),
            },
        };
        let portion = gathered.portion(&outbox, followed, snapshot, outbox.at.sequence + 1, self.trust());
        if portion.items.is_empty() {
            return Ok(Read::Settle(self.settle(portion, Vec::new(), 0)));
        }
        self.out = portion.scope.keys();
        Ok(Read::Portion(portion))
    }

    /// What became of a portion's items, in their order, as an input for [`crate::Engine::take`]; those without an outcome are of an unknown
    /// one. `at_us`: when that was, in microseconds since 1970.
    ///
    /// The next read answers [`Read::Behind`] until its snapshot has this.
    pub fn settle(&mut self, portion: Portion, outcomes: Vec<Outcome>, at_us: i64) -> Input {
        let Portion { items, followed, scope, mut quiet, generation, sequence, is_sure, unheard, .. } = portion;
        // With the end of a round all marks have been answered for.
        let is_heard = unheard == Unheard::Nothing || scope.walk.is_none() && scope.is_end;
        let has_sent = outcomes.contains(&Outcome::Done);
        let outcomes = outcomes.into_iter().chain(std::iter::repeat(Outcome::Unknown));
        let settled = items.into_iter().zip(outcomes).map(|(item, outcome)| item.settled(&followed, outcome, is_sure));
        quiet.extend(settled);
        self.out = Unheard::Nothing;
        self.awaited = Some(sequence);
        match (scope.walk, scope.is_end) {
            (Some(_), _) => self.after = None,
            (None, true) => self.end_round(),
            (None, false) => self.after = Some(scope.through.clone()),
        }
        let (pending, walked) = (scope.pending, scope.walked());
        self.told(Delivered { pending, generation, sequence, has_sent, is_heard, walked, at_us, settled: quiet })
    }

    pub(super) fn told(&self, delivered: Delivered) -> Input {
        Input::Outbox { name: self.name.clone(), told: Told::Delivered(delivered) }
    }

    /// What the other side has of marked keys is not known.
    pub(super) fn doubt(&mut self) {
        self.is_sure = false;
        self.after = None;
    }

    /// It has been through all marks, from the first one on.
    fn end_round(&mut self) {
        self.is_sure = true;
        self.unheard = Unheard::Nothing;
        self.after = None;
    }

    pub(super) fn trust(&self) -> Trust<'_> {
        Trust { is_sure: self.is_sure, unheard: &self.unheard }
    }

    /// The next marked keys of the round, or the first of the next one; none where there are none.
    fn round(
        &mut self,
        outbox: &Outbox,
        followed: &Followed,
        snapshot: &Snapshot,
        limits: Limits,
    ) -> Result<Option<Gathered>> {
        loop {
            let after = self.after.clone().unwrap_or_default();
            let gathered = marked(outbox, followed, snapshot, limits, after, self.trust())?;
            if gathered.looked_at > 0 {
                return Ok(Some(gathered));
            }
            let was_begun = self.after.is_some();
            self.end_round();
            if !was_begun {
                return Ok(None);
            }
        }
    }
}

/// The marked keys behind one; an empty one is before all.
pub(super) fn marked(
    outbox: &Outbox,
    followed: &Followed,
    snapshot: &Snapshot,
    limits: Limits,
    after: Vec<u8>,
    trust: Trust<'_>,
) -> Result<Gathered> {
    let mut gathered = Gathered::new(outbox, after, None);
    let mut marks = Ahead::new(snapshot, outbox.pending, &gathered.scope.after)?;
    let mut rows = Beside::new(snapshot, followed.id, outbox, &gathered.scope.after)?;
    let mut all_accepted = Beside::new(snapshot, outbox.accepted, outbox, &gathered.scope.after)?;
    while let Some((key, mark)) = &marks.next {
        let row = rows.of(key)?;
        if !gathered.has_room(limits, key, row.as_deref()) {
            gathered.scope.is_end = false;
            break;
        }
        let accepted = all_accepted.of(key)?;
        let found = Found { key, step: Some(mark_of(mark)?), row: row.as_deref(), accepted: accepted.as_deref() };
        gathered.add(outbox, followed, &found, trust)?;
        marks.advance()?;
    }
    Ok(gathered)
}

/// The keys of the walk behind one: rows, accepted ones and marked ones side by side.
pub(super) fn walk(
    outbox: &Outbox,
    followed: &Followed,
    snapshot: &Snapshot,
    limits: Limits,
    after: Vec<u8>,
    trust: Trust<'_>,
) -> Result<Gathered> {
    let mut gathered = Gathered::new(outbox, after, Some(outbox.at.walk));
    let mut sides = Sides::new(outbox, followed.id, snapshot, &gathered.scope.after)?;
    while let Some(key) = sides.key() {
        let row = sides.rows.of(&key);
        if !gathered.has_room(limits, &key, row) {
            gathered.scope.is_end = false;
            break;
        }
        let step = sides.marks.of(&key).map(mark_of).transpose()?;
        let found = Found { key: &key, step, row, accepted: sides.accepted.of(&key) };
        // What was never marked has not changed since it was sent, if it was.
        let trust = Trust { is_sure: trust.is_sure || step.is_none(), ..trust };
        gathered.add(outbox, followed, &found, trust)?;
        sides.pass(&key)?;
    }
    Ok(gathered)
}

/// A scan, and its next entry.
pub(super) struct Ahead {
    scan: Scan,
    pub(super) next: Option<(Slice, Slice)>,
}

impl Ahead {
    /// Behind a key; an empty one is before all.
    pub(super) fn new(snapshot: &Snapshot, table: TableId, after: &[u8]) -> Result<Self> {
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let mut ahead = Self { scan: snapshot.range(table, from, Bound::Unbounded), next: None };
        ahead.advance()?;
        Ok(ahead)
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        self.next = self.scan.next().transpose()?;
        Ok(())
    }

    /// The value of this key, where it is the next one.
    pub(super) fn of(&self, key: &[u8]) -> Option<&[u8]> {
        self.next.as_ref().filter(|(next, _)| **next == *key).map(|(_, value)| &**value)
    }
}

/// Where one of so many of the rows that are there is marked, they are gone through beside the marks: to look each up costs some ten times
/// as much as to pass one by.
const DENSE: u64 = 8;

/// What stands under marked keys in another table.
enum Beside<'a> {
    GoneThrough(Box<Ahead>),
    LookedUp(&'a Snapshot, TableId),
}

impl<'a> Beside<'a> {
    fn new(snapshot: &'a Snapshot, table: TableId, outbox: &Outbox, after: &[u8]) -> Result<Self> {
        match outbox.at.pending_rows.saturating_mul(DENSE) >= outbox.at.there {
            true => Ok(Self::GoneThrough(Box::new(Ahead::new(snapshot, table, after)?))),
            false => Ok(Self::LookedUp(snapshot, table)),
        }
    }

    /// Of a key that is behind those that were asked for before.
    fn of(&mut self, key: &[u8]) -> Result<Option<Slice>> {
        match self {
            Self::LookedUp(snapshot, table) => Ok(snapshot.get(*table, key)?),
            Self::GoneThrough(ahead) => {
                while ahead.next.as_ref().is_some_and(|(next, _)| **next < *key) {
                    ahead.advance()?;
                }
                Ok(ahead.next.as_ref().filter(|(next, _)| **next == *key).map(|(_, value)| value.clone()))
            }
        }
    }
}

/// What a walk goes through side by side.
pub(super) struct Sides {
    pub(super) rows: Ahead,
    pub(super) accepted: Ahead,
    pub(super) marks: Ahead,
}

impl Sides {
    pub(super) fn new(outbox: &Outbox, relation: TableId, snapshot: &Snapshot, after: &[u8]) -> Result<Self> {
        Ok(Self {
            rows: Ahead::new(snapshot, relation, after)?,
            accepted: Ahead::new(snapshot, outbox.accepted, after)?,
            marks: Ahead::new(snapshot, outbox.pending, after)?,
        })
    }

    /// The next key of any side.
    pub(super) fn key(&self) -> Option<Slice> {
        let next = [&self.rows, &self.accepted, &self.marks].into_iter().filter_map(|side| side.next.as_ref());
        next.map(|(key, _)| key).min_by(|a, b| (***a).cmp(&***b)).cloned()
    }

    pub(super) fn pass(&mut self, key: &[u8]) -> Result<()> {
        for side in [&mut self.rows, &mut self.accepted, &mut self.marks] {
            if side.of(key).is_some() {
                side.advance()?;
            }
        }
        Ok(())
    }
}

/// What there is of a key.
pub(super) struct Found<'a> {
    pub(super) key: &'a [u8],
    pub(super) step: Option<u64>,
    pub(super) row: Option<&'a [u8]>,
    pub(super) accepted: Option<&'a [u8]>,
}

/// How far what is accepted may be trusted.
#[derive(Clone, Copy)]
pub(super) struct Trust<'a> {
    /// The other side has what is accepted.
    pub(super) is_sure: bool,
    /// It may have rows of these keys beside.
    pub(super) unheard: &'a Unheard,
}

/// A portion that is being gathered.
pub(super) struct Gathered {
    pub(super) items: Vec<Item>,
    quiet: Vec<Settled>,
    /// Bytes of keys and rows of the items; of keys of the others.
    bytes: usize,
    quiet_bytes: usize,
    looked_at: usize,
    scope: Scope,
}

impl Gathered {
    fn new(outbox: &Outbox, after: Vec<u8>, walk: Option<u64>) -> Self {
        let scope = Scope {
            pending: outbox.pending,
            since: outbox.since,
            last: outbox.at.last,
            through: after.clone(),
            after,
            is_end: true,
            walk: walk.map(|number| (number, 0)),
        };
        Self { items: Vec::new(), quiet: Vec::new(), bytes: 0, quiet_bytes: 0, looked_at: 0, scope }
    }

    fn has_room(&self, limits: Limits, key: &[u8], row: Option<&[u8]>) -> bool {
        let bytes = self.bytes + self.quiet_bytes + key.len() + row.map_or(0, <[u8]>::len);
        let fits = bytes <= limits.bytes || self.items.is_empty() && self.quiet.is_empty();
        fits && self.items.len() < limits.rows.max(1) && self.looked_at < limits.looked_at.clamp(1, LOOKED_AT_MAX)
    }

    /// Takes a key in. Where what is accepted may be trusted, rows that are there already are passed over, and keys of which the
    /// other side never had a row.
    fn add(&mut self, outbox: &Outbox, followed: &Followed, found: &Found<'_>, trust: Trust<'_>) -> Result<()> {
        let Found { key, step, row, accepted } = *found;
        self.looked_at += 1;
        self.scope.through = key.to_vec();
        if let Some((_, keys)) = &mut self.scope.walk {
            *keys += 1;
        }
        let fingerprint = row.map(|row| followed.fingerprint(outbox, row));
        let is_there = match (&fingerprint, accepted) {
            (Some(fingerprint), Some(accepted)) => is_accepted(accepted, fingerprint),
            (None, None) => true,
            _ => false,
        };
        // Of what nobody has sent nothing is there, and a row of somebody else stays.
        let was_never_sent = accepted.is_none() && !trust.unheard.has(key);
        if is_there && (trust.is_sure || row.is_none() && was_never_sent) {
            if step.is_some() {
                self.add_quiet(key, step, Verdict::Same);
            }
            return Ok(());
        }
        let key_row = match row {
            Some(row) => followed.key_row(key, row)?,
            None => accepted.and_then(key_row_of).map(<[u8]>::to_vec),
        };
        if followed.key_values(key, row, key_row.as_deref()).is_none() {
            let reason = "its key is too long to be kept, and its row is gone".to_owned();
            self.add_quiet(key, step, Verdict::Refused { is_delete: true, reason, doubt: None });
            return Ok(());
        }
        self.bytes += key.len() + row.map_or(0, <[u8]>::len);
        self.items.push(Item {
            key: key.to_vec(),
            step,
            row: row.map(<[u8]>::to_vec),
            is_known: accepted.is_some(),
            is_unheard: accepted.is_none() && step.is_some() && trust.unheard.has(key),
            fingerprint: fingerprint.unwrap_or_default(),
            key_row,
        });
        Ok(())
    }

    /// The portion of what was gathered.
    pub(super) fn portion(
        self,
        outbox: &Outbox,
        followed: Followed,
        snapshot: &Snapshot,
        sequence: u64,
        trust: Trust<'_>,
    ) -> Portion {
        let Self { items, quiet, bytes, scope, .. } = self;
        Portion {
            outbox: outbox.definition.name.clone(),
            life: outbox.life,
            generation: outbox.at.generation,
            sequence,
            step: snapshot.step(),
            is_filling: scope.walk.is_some(),
            schema: Arc::clone(&followed.schema),
            layout: Arc::clone(&followed.layout),
            items,
            bytes,
            followed,
            scope,
            walk: outbox.at.walk,
            quiet,
            is_sure: trust.is_sure,
            unheard: trust.unheard.clone(),
        }
    }

    fn add_quiet(&mut self, key: &[u8], step: Option<u64>, verdict: Verdict) {
        self.quiet_bytes += key.len();
        self.quiet.push(Settled { key: key.to_vec(), step, verdict });
    }
}

impl Item {
    /// Whether the other side loses a row that it may have.
    pub(super) fn leaves(&self) -> bool {
        self.row.is_none() && (self.is_known || self.is_unheard)
    }

    /// What became of it. In doubt, an earlier row of the key may be there, whatever became of this one.
    fn settled(self, followed: &Followed, outcome: Outcome, is_sure: bool) -> Settled {
        let Self { key, step, row, fingerprint, key_row, .. } = self;
        debug_assert!(followed.key_values(&key, row.as_deref(), key_row.as_deref()).is_some());
        let verdict = match (outcome, row) {
            (Outcome::Done, Some(_)) => Verdict::Accepted { fingerprint, key_row },
            (Outcome::Done, None) => Verdict::Removed,
            (Outcome::Refused { reason }, row) => {
                let doubt = (!is_sure).then(|| key_row.unwrap_or_default());
                Verdict::Refused { is_delete: row.is_none(), reason, doubt }
            }
            (Outcome::Later, _) if is_sure => Verdict::Later,
            (Outcome::Later | Outcome::Unknown, _) => Verdict::Unknown { key_row },
        };
        Settled { key, step, verdict }
    }
}

impl Scope {
    /// The keys that are in it.
    pub(super) fn keys(&self) -> Unheard {
        Unheard::Between(self.after.clone(), Some(self.through.clone()))
    }

    pub(super) fn walked(&self) -> Option<Walked> {
        let (number, keys) = self.walk?;
        Some(Walked { number, through: self.through.clone(), is_done: self.is_end, keys })
    }
}

impl Portion {
    /// By what a portion of the same keys and of the same walk is told.
    pub(super) fn ground(&self) -> (TableId, u64) {
        (self.scope.pending, self.walk)
    }

    /// The row of an item by the relation's columns; none where it is to be deleted.
    pub fn values(&self, item: &Item) -> Option<Vec<Value>> {
        item.row.as_deref().map(|row| self.layout.values(row))
    }

    /// The values of an item's key, in the key's order.
    pub fn key_values(&self, item: &Item) -> Vec<Value> {
        // Of an item they are known.
        self.followed.key_values(&item.key, item.row.as_deref(), item.key_row.as_deref()).unwrap_or_default()
    }

    /// Of two portions of one life the one of the higher version has the newer rows, also where both are of one sequence, since
    /// the first of them was not answered.
    pub fn version(&self) -> u128 {
        u128::from(self.sequence) << 64 | u128::from(self.scope.last)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.name)
    }
}
