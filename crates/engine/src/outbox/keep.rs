//! Keeping outboxes: what steps mark, what they are told, and which relation each follows.
//!
//! Marks are derived of what a step writes ([`Engine::keep_outboxes`]), so that no way of changing a relation can forget them. What
//! an input tells goes before the marks of its step: an outcome is of an earlier change.

use std::collections::BTreeMap;

use plan::TableName;
use relation::{DataType, Schema, TableId};
use store::{Kind, Slice, Writes};

use super::facts::{self, At, Consent, Filled, Outbox, Refusal, key_of, mark_of};
use super::read::ahead_of_walk;
use super::status::Outboxes;
use super::told::{Asked, Delivered, Settled, Told, Verdict};
use super::{Definition, Place, Reader};
use crate::engine::{Engine, ModelState};
use crate::error::Result;
use crate::operator::States;
use crate::states::BUILT;
use crate::step::Moves;
use crate::stored::Stored;

/// Refused rows that are marked again in one step; where there are more, a walk goes through all rows.
const RETRIED_MAX: u64 = 10_000;

/// Bytes that a mark takes beside its key.
const MARK_BYTES: u64 = 8;

impl Engine {
    /// Sets up outboxes, new ones or known by their names; those that are not named stay as they are. Call it after
    /// [`Engine::recover`] and after each apply. `now_us` is the life of new ones.
    ///
    /// A known one whose columns or mapping are others goes through all rows, and so does one that was retired; one whose place is another
    /// knows nothing of what is there. Which relation each follows is found anew at every
    /// change of versions, and when a model becomes live; until it is folded, nothing is handed out on it.
    pub fn attach_outboxes(&mut self, definitions: Vec<Definition>, now_us: i64) -> Result<()> {
        self.settle()?;
        let mut paused = BTreeMap::new();
        for (name, by) in self.overtaken(&definitions) {
            paused.extend(self.outboxes.get(&name).and_then(Outbox::paused_by_hand).map(|reason| (by, reason)));
            self.detach_outbox(&name)?;
        }
        for definition in definitions {
            let name = definition.name.clone();
            match self.outboxes.get(&name).map(|outbox| outbox.definition.clone()) {
                Some(known) if known == definition => {}
                Some(known) => self.redefine(&known, definition),
                None => {
                    let [pending, accepted, refused] = self.outbox_states(&name);
                    let (key, relation, since, at) = (Vec::new(), None, 0, At::default());
                    let (is_moved, life) = (false, now_us);
                    let outbox =
                        Outbox { definition, pending, accepted, refused, key, relation, is_moved, life, since, at };
                    self.outboxes.insert(name.clone(), outbox);
                    self.write_outbox(&name);
                }
            }
        }
        for (name, reason) in paused {
            self.pause_successor(&name, reason);
        }
        self.aim_outboxes();
        self.store_aims()
    }

    /// Retired outboxes at whose places others deliver from now on, and which ones: what they know of these is true no longer.
    fn overtaken(&self, wanted: &[Definition]) -> Vec<(String, String)> {
        let retired = self.outboxes.values().filter(|outbox| outbox.is_retired()).map(|outbox| &outbox.definition);
        let taken = retired.filter_map(|known| {
            let by = wanted.iter().find(|of| of.is_at(known) && of.name != known.name)?;
            Some((known.name.clone(), by.name.clone()))
        });
        taken.collect()
    }

    /// Whoever delivers in the place of one that a person has paused does not begin before that person says so.
    fn pause_successor(&mut self, name: &str, reason: String) {
        let begun = self.outboxes.get_mut(name).filter(|outbox| outbox.at.sequence == 0);
        let Some(outbox) = begun.filter(|outbox| outbox.at.paused.is_none()) else { return };
        outbox.at.paused = Some(reason);
        self.write_outbox(name);
    }

    fn redefine(&mut self, known: &Definition, wanted: Definition) {
        let name = &known.name;
        if known.relation != wanted.relation {
            // Its rows are not what is wanted now.
            self.leave(name);
        }
        let is_elsewhere = known.place != 0 && known.place != wanted.place;
        if is_elsewhere {
            self.begin_from_nothing(name);
        }
        let is_moved = known.is_elsewhere_within(&wanted);
        let is_mapped_anew = is_elsewhere || known.columns != wanted.columns || known.mapping != wanted.mapping;
        if is_mapped_anew {
            self.mark_ahead(name);
        }
        if let Some(outbox) = self.outboxes.get_mut(name) {
            outbox.definition = wanted;
            outbox.is_moved |= is_moved && outbox.at.sequence > 0;
            if is_mapped_anew {
                outbox.at.walk_again();
            }
        }
        self.write_outbox(name);
    }

    /// What holds an outbox's place, and has another name than before, is the one that it was ([`super::Resumed::Moved`]).
    pub fn outbox_is_there(&mut self, name: &str) -> Result<()> {
        self.settle()?;
        let Some(outbox) = self.outboxes.get_mut(name).filter(|outbox| outbox.is_moved) else { return Ok(()) };
        outbox.is_moved = false;
        self.write_outbox(name);
        self.store_aims()
    }

    /// It is another one ([`super::Resumed::Elsewhere`]): nothing is there of what was delivered.
    pub fn outbox_is_elsewhere(&mut self, name: &str) -> Result<()> {
        self.settle()?;
        if !self.outboxes.get(name).is_some_and(|outbox| outbox.is_moved) {
            return Ok(());
        }
        self.begin_from_nothing(name);
        if let Some(outbox) = self.outboxes.get_mut(name) {
            outbox.at.walk_again();
        }
        self.write_outbox(name);
        self.aim_outboxes();
        self.store_aims()
    }

    /// Lets go of an outbox that is wanted no more: it follows nothing, and hands out nothing. What it has delivered stays known until it is
    /// wanted again ([`Engine::attach_outboxes`]), and so does that a person has paused it. Where it has delivered nothing it is forgotten; so it
    /// is where another one delivers at its place already, which is paused then if it has not begun.
    /// False: there is none of this name.
    pub fn retire_outbox(&mut self, name: &str) -> Result<bool> {
        self.settle()?;
        if self.outboxes.get(name).is_none_or(Outbox::is_retired) {
            return Ok(false);
        }
        let paused = self.outboxes.get(name).and_then(Outbox::paused_by_hand);
        if let Some(successor) = self.successor_of(name) {
            self.detach_outbox(name)?;
            if let Some(reason) = paused {
                self.pause_successor(&successor, reason);
                self.store_aims()?;
            }
            return Ok(true);
        }
        self.leave(name);
        let Some(outbox) = self.outboxes.get_mut(name) else { return Ok(false) };
        if outbox.at.there == 0 && outbox.at.pending_rows == 0 && paused.is_none() {
            return self.detach_outbox(name);
        }
        outbox.definition.relation = TableName::new("", "");
        let at = &mut outbox.at;
        // What a guard has asked is counted anew when it is wanted again.
        (at.paused, at.is_full, at.surplus) = (paused, false, at.pending_bytes);
        at.walk_again();
        self.write_outbox(name);
        self.store_aims()?;
        Ok(true)
    }

    /// Another one that is wanted and delivers at its place, as after a sync was given another name.
    fn successor_of(&self, name: &str) -> Option<String> {
        let known = &self.outboxes.get(name)?.definition;
        let mut others = self.outboxes.values().filter(|other| !other.is_retired()).map(|other| &other.definition);
        others.find(|other| other.name != name && other.is_at(known)).map(|other| other.name.clone())
    }

    /// Forgets an outbox, with all that it knows of the other side. False: there is none of this name.
    pub fn detach_outbox(&mut self, name: &str) -> Result<bool> {
        self.settle()?;
        let Some(outbox) = self.outboxes.remove(name) else { return Ok(false) };
        let mut writes = Writes::new();
        outbox.write_removal(self.facts, &mut writes);
        outbox.states().into_iter().for_each(|state| self.catalog.remove(&mut writes, state));
        self.defer(writes);
        self.commit_unlogged(Writes::new())?;
        Ok(true)
    }

    /// The names of all outboxes but retired ones.
    pub fn outbox_names(&self) -> Vec<String> {
        self.outboxes.values().filter(|outbox| !outbox.is_retired()).map(|of| of.definition.name.clone()).collect()
    }

    /// The places of all outboxes but retired ones, by their names.
    pub fn outbox_places(&self) -> BTreeMap<String, Place> {
        let wanted = self.outboxes.values().filter(|outbox| !outbox.is_retired()).map(|outbox| &outbox.definition);
        wanted.map(|of| (of.name.clone(), Place { within: of.within, place: of.place })).collect()
    }

    /// What outboxes wait for that are given nothing new, by their names: a model that is not live, a table that is not whole, a
    /// name of neither, a column or key that it lacks.
    pub fn outbox_waits(&self) -> BTreeMap<String, String> {
        let waits = self.outboxes.values().filter(|outbox| !outbox.is_retired()).filter_map(|outbox| {
            let reason = self.followed_by(&outbox.definition).err()?;
            Some((outbox.definition.name.clone(), reason))
        });
        waits.collect()
    }

    /// What hands out the rows of an outbox; none of an unknown name. An outbox has one at a time.
    pub fn outbox_reader(&self, name: &str) -> Option<Reader> {
        self.outboxes.contains_key(name).then(|| Reader::new(self.store.clone(), self.facts, name))
    }

    /// What is known of outboxes, to be read from snapshots.
    pub fn outboxes(&self) -> Outboxes {
        Outboxes { facts: self.facts }
    }

    /// The outboxes of a folder.
    pub(crate) fn load_outboxes(&mut self) -> Result<()> {
        let outboxes = Outbox::load_all(&self.store.working(), self.facts)?;
        self.outboxes = outboxes.into_iter().map(|outbox| (outbox.definition.name.clone(), outbox)).collect();
        Ok(())
    }

    fn outbox_states(&mut self, name: &str) -> [TableId; 3] {
        let mut writes = Writes::new();
        let states = ["pending", "accepted", "refused"].map(|word| {
            let label = format!("outbox {name} {word}");
            self.catalog.allocate(&mut writes, Kind::State, &label, &label, &Schema::default(), BUILT)
        });
        self.defer(writes);
        states
    }

    /// Sets aside the set-up of an outbox: the next commit, which is of the next step, takes it along.
    fn write_outbox(&mut self, name: &str) {
        let since = self.step + 1;
        let Some(outbox) = self.outboxes.get_mut(name) else { return };
        (outbox.since, self.has_aimed) = (since, true);
        let mut writes = Writes::new();
        outbox.write(self.facts, &mut writes);
        self.defer(writes);
    }

    /// Outboxes follow what serves under their names from here on. Not before the log's tail is replayed: it tells of what they
    /// followed until then.
    pub(crate) fn aim_outboxes(&mut self) {
        if !self.recovered || self.outboxes.is_empty() {
            return;
        }
        let aims = self.outboxes.iter().filter_map(|(name, outbox)| {
            let stored = self.followed_by(&outbox.definition).ok()?;
            (outbox.relation != Some(stored.id)).then(|| (name.clone(), stored.id, key_of(&stored.schema)))
        });
        for (name, relation, key) in aims.collect::<Vec<_>>() {
            self.aim(&name, relation, key);
        }
    }

    /// Commits what was set aside of outboxes, and has it folded: nothing is handed out before.
    pub(crate) fn store_aims(&mut self) -> Result<()> {
        if self.has_aimed {
            self.commit_unlogged(Writes::new())?;
            self.has_aimed = false;
            self.store.fold_soon();
        }
        Ok(())
    }

    /// An outbox follows another relation: one walk tells the difference. Where keys are of other columns, what it knows of the
    /// other side is of keys that mean nothing here, so it begins from nothing.
    fn aim(&mut self, name: &str, relation: TableId, key: Vec<(String, DataType)>) {
        let known = self.outboxes.get(name).map(|outbox| &outbox.key);
        if known.is_some_and(|of_before| *of_before != key && !of_before.is_empty()) {
            self.begin_from_nothing(name);
        }
        self.leave(name);
        if let Some(outbox) = self.outboxes.get_mut(name) {
            (outbox.relation, outbox.key) = (Some(relation), key);
            outbox.at.walk_again();
        }
        self.write_outbox(name);
    }

    /// What an outbox knows of the other side means nothing any more.
    fn begin_from_nothing(&mut self, name: &str) {
        let Some(states) = self.outboxes.get(name).map(Outbox::states) else { return };
        let mut writes = Writes::new();
        states.into_iter().for_each(|state| self.catalog.remove(&mut writes, state));
        self.defer(writes);
        let [pending, accepted, refused] = self.outbox_states(name);
        if let Some(outbox) = self.outboxes.get_mut(name) {
            (outbox.pending, outbox.accepted, outbox.refused) = (pending, accepted, refused);
            (outbox.relation, outbox.is_moved) = (None, false);
            let at = &mut outbox.at;
            (at.pending_rows, at.pending_bytes, at.refused_rows, at.surplus) = (0, 0, 0, 0);
            (at.generation, at.sent, at.is_full, at.there) = (at.generation + 1, 0, false, 0);
        }
    }

    /// These relations are dropped: whoever followed one of them follows nothing, from the same commit on.
    pub(crate) fn leave_relations(&mut self, gone: &[TableId]) {
        let is_gone = |outbox: &&Outbox| outbox.relation.is_some_and(|relation| gone.contains(&relation));
        let left: Vec<String> =
            self.outboxes.values().filter(is_gone).map(|outbox| outbox.definition.name.clone()).collect();
        for name in left {
            self.leave(&name);
            self.write_outbox(&name);
        }
    }

    /// An outbox does not follow its relation any more.
    fn leave(&mut self, name: &str) {
        self.mark_ahead(name);
        if let Some(outbox) = self.outboxes.get_mut(name) {
            outbox.relation = None;
        }
    }

    /// Marks what may be out of a walk that ends here unfinished: it would not be known again.
    fn mark_ahead(&mut self, name: &str) {
        let Some(outbox) = self.outboxes.get(name) else { return };
        let mut at = outbox.at.clone();
        if outbox.relation.is_some() {
            let snapshot = self.store.working();
            let mut writes = Writes::new();
            let (states, setup, step) = (self.states(&snapshot), &self.setup, self.step + 1);
            let mut keeper = Keeper { outbox, at: &mut at, states, setup, step, writes: &mut writes };
            let marked = ahead_of_walk(outbox, &outbox.at.filled, &snapshot)
                .and_then(|keys| keys.iter().try_for_each(|key| keeper.mark(key)));
            match marked {
                Ok(()) => self.defer(writes),
                // It cannot be read: then nothing that is known of the other side is taken for true.
                Err(_) => at = At { generation: outbox.at.generation + 1, sent: 0, ..outbox.at.clone() },
            }
        }
        if let Some(outbox) = self.outboxes.get_mut(name) {
            outbox.at = at;
        }
    }

    /// What serves under the name that an outbox is to follow; or why there is nothing to follow.
    fn followed_by(&self, wanted: &Definition) -> std::result::Result<&Stored, String> {
        let name = &wanted.relation;
        let model = self.models().into_iter().find(|model| model.name == *name);
        let table = self.tables().find(|table| table.name == *name);
        let relation = match (model, table) {
            (Some(model), _) => match &model.state {
                ModelState::Live => model.relation,
                ModelState::Building => return Err(format!("model {name} is being built")),
                ModelState::Waiting { reason } | ModelState::Parked { reason } => {
                    return Err(format!("model {name} is parked: {reason}"));
                }
                ModelState::Failed { reason } => return Err(format!("model {name} could not be built: {reason}")),
            },
            (None, Some(table)) if table.load.was_whole() => table.id,
            (None, Some(table)) => {
                return Err(match table.load.unloaded() {
                    Some(reason) => format!("table {name} is parked and was never loaded: {reason}"),
                    None => format!("table {name} is being loaded"),
                });
            }
            (None, None) => return Err(format!("there is no model or table {name}")),
        };
        let Some(stored) = self.network.relations.get(&relation) else {
            return Err(format!("there is no model or table {name}"));
        };
        if !stored.is_keyed() {
            return Err(format!("{name} has no unique key by which its rows could be delivered"));
        }
        match wanted.columns.iter().find(|column| stored.schema.position(column).is_none()) {
            Some(column) => Err(format!("{name} has no column {column}")),
            None => Ok(stored),
        }
    }

    /// What a step does to outboxes: first what its inputs told them, then the marks of all keys that it writes.
    pub(crate) fn keep_outboxes(
        &self,
        told: Vec<(String, Told)>,
        written: &Writes,
        states: States<'_>,
        step: u64,
        moves: &mut Moves,
        writes: &mut Writes,
    ) -> Result<()> {
        for (name, told) in told {
            // Of one that was detached since.
            let Some(outbox) = self.outboxes.get(&name) else { continue };
            let at = moves.outboxes.entry(name).or_insert_with(|| outbox.at.clone());
            Keeper { outbox, at, states, setup: &self.setup, step, writes: &mut *writes }.take(told)?;
        }
        for outbox in self.outboxes.values() {
            let Some(relation) = outbox.relation else { continue };
            let mut keys = written.keys(relation).peekable();
            if keys.peek().is_none() {
                continue;
            }
            let at = moves.outboxes.entry(outbox.definition.name.clone()).or_insert_with(|| outbox.at.clone());
            Keeper { outbox, at, states, setup: &self.setup, step, writes: &mut *writes }.mark_all(keys)?;
        }
        Ok(())
    }

    /// These outboxes are as a step has left them.
    pub(crate) fn adopt_outboxes(&mut self, moved: BTreeMap<String, At>) {
        for (name, at) in moved {
            if let Some(outbox) = self.outboxes.get_mut(&name) {
                outbox.at = at;
            }
        }
    }
}

/// One outbox in one step.
struct Keeper<'a> {
    outbox: &'a Outbox,
    at: &'a mut At,
    /// As they were before the step.
    states: States<'a>,
    /// What waits to be committed before it.
    setup: &'a Writes,
    step: u64,
    writes: &'a mut Writes,
}

impl Keeper<'_> {
    fn take(mut self, told: Told) -> Result<()> {
        self.at.last = self.step;
        match told {
            Told::Delivered(delivered) => self.delivered(delivered)?,
            Told::Pause { reason, asked: None } => {
                (self.at.paused, self.at.asked) = (Some(reason), Consent::default());
            }
            Told::Pause { reason, asked: Some(asked) } => self.ask(reason, asked),
            Told::Recount { was, now } => self.recount(&was, now),
            Told::Resume => {
                if self.at.paused.take().is_some() {
                    self.at.agreed = std::mem::take(&mut self.at.asked);
                }
                if std::mem::take(&mut self.at.is_full) {
                    self.at.surplus = self.at.pending_bytes;
                    self.at.walk_again();
                }
            }
            Told::Refill { lost } => {
                if lost {
                    (self.at.generation, self.at.sent) = (self.at.generation + 1, 0);
                }
                self.at.walk_again();
            }
            Told::Retry => self.retry()?,
        }
        Ok(())
    }

    /// Waits for a person to let deletes go, if it is still these that are to go.
    fn ask(&mut self, reason: String, asked: Asked) {
        if self.is_as_counted(&asked) && self.at.paused.is_none() {
            self.at.paused = Some(reason);
            self.at.asked = Consent { rows: asked.rows, step: asked.step };
        }
    }

    fn is_as_counted(&self, asked: &Asked) -> bool {
        asked.pending == self.outbox.pending && asked.walk == self.at.walk
    }

    /// Waits for a person to let fewer deletes go than it was to, or no longer. What a person has said meanwhile holds.
    fn recount(&mut self, was: &str, now: Option<(String, Asked)>) {
        // Of another walk it tells nothing: it is counted anew, and stays paused until then.
        let is_as_counted = |(_, asked): &(String, Asked)| self.is_as_counted(asked);
        if self.at.paused.as_deref() != Some(was) || !now.as_ref().is_none_or(is_as_counted) {
            return;
        }
        (self.at.paused, self.at.asked) = (None, Consent::default());
        if let Some((reason, asked)) = now {
            self.ask(reason, asked);
        }
    }

    /// Marks all keys that a step writes. The marks of one step may go beyond the bound: it is a step's work at most.
    fn mark_all<'k>(mut self, keys: impl Iterator<Item = &'k [u8]>) -> Result<()> {
        if self.at.is_full {
            self.at.gap = self.step;
            return Ok(());
        }
        for key in keys {
            self.mark(key)?;
        }
        if self.at.pending_bytes > self.outbox.definition.pending_bytes_max.saturating_add(self.at.surplus) {
            (self.at.is_full, self.at.gap) = (true, self.step);
            for key in ahead_of_walk(self.outbox, &self.at.filled, self.states.snapshot)? {
                self.mark(&key)?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, key: &[u8]) -> Result<()> {
        let is_new = self.kept(self.outbox.pending, key)?.is_none();
        self.writes.put(self.outbox.pending, key, &self.step.to_be_bytes());
        self.at.last = self.step;
        if is_new {
            self.at.pending_rows += 1;
            self.at.pending_bytes += key.len() as u64 + MARK_BYTES;
        }
        Ok(())
    }

    /// The step of a key's mark.
    fn marked(&self, key: &[u8]) -> Result<Option<u64>> {
        self.kept(self.outbox.pending, key)?.as_deref().map(mark_of).transpose()
    }

    /// What is kept of a key after what was written so far.
    fn kept(&self, table: TableId, key: &[u8]) -> Result<Option<Slice>> {
        match self.writes.get(table, key).or_else(|| self.setup.get(table, key)) {
            Some(written) => Ok(written.map(Slice::from)),
            None => self.states.get_seldom(table, key),
        }
    }

    fn unmark(&mut self, settled: &Settled) -> Result<()> {
        if settled.step.is_some() && self.marked(&settled.key)? == settled.step {
            self.writes.delete(self.outbox.pending, &settled.key);
            self.at.pending_rows = self.at.pending_rows.saturating_sub(1);
            let bytes = settled.key.len() as u64 + MARK_BYTES;
            self.at.pending_bytes = self.at.pending_bytes.saturating_sub(bytes);
            self.at.surplus = self.at.surplus.min(self.at.pending_bytes);
        }
        Ok(())
    }

    fn delivered(&mut self, delivered: Delivered) -> Result<()> {
        // Told twice, or of keys that mean nothing any more.
        if delivered.pending != self.outbox.pending || delivered.sequence != self.at.sequence + 1 {
            return Ok(());
        }
        self.at.sequence = delivered.sequence;
        // Of another generation it tells of what is lost by now.
        if delivered.has_sent && delivered.generation == self.at.generation {
            self.at.sent = delivered.sequence;
        }
        if delivered.is_heard {
            self.at.heard = delivered.sequence;
        }
        for settled in &delivered.settled {
            self.settle(settled, delivered.at_us)?;
        }
        if let Some(walked) = delivered.walked.filter(|walked| walked.number == self.at.walk) {
            self.at.walked += walked.keys;
            self.at.filled = if walked.is_done { Filled::Whole } else { Filled::Through(walked.through) };
        }
        if self.at.filled == Filled::Whole && self.at.pending_rows == 0 {
            // All that was let go has gone, or has come back: what goes later is asked for anew.
            self.at.agreed = Consent::default();
        }
        Ok(())
    }

    /// The other side may have a row of this key.
    fn accept(&mut self, key: &[u8], accepted: &[u8]) -> Result<()> {
        if self.kept(self.outbox.accepted, key)?.is_none() {
            self.at.there += 1;
        }
        self.writes.put(self.outbox.accepted, key, accepted);
        Ok(())
    }

    /// A delete was let go: it counts once, whatever became of it.
    fn use_consent(&mut self, key: &[u8]) -> Result<bool> {
        let was_there = self.kept(self.outbox.accepted, key)?.is_some();
        self.at.agreed.rows = self.at.agreed.rows.saturating_sub(u64::from(was_there));
        Ok(was_there)
    }

    fn settle(&mut self, settled: &Settled, at_us: i64) -> Result<()> {
        let key = settled.key.as_slice();
        match &settled.verdict {
            Verdict::Accepted { fingerprint, key_row } => {
                self.accept(key, &facts::accepted(fingerprint, key_row.as_deref()))?;
                self.at.accepted_total += 1;
                self.forget_refused(key)?;
                self.unmark(settled)
            }
            Verdict::Removed => {
                if self.use_consent(key)? {
                    self.at.there = self.at.there.saturating_sub(1);
                }
                self.writes.delete(self.outbox.accepted, key);
                self.at.removed_total += 1;
                self.forget_refused(key)?;
                self.unmark(settled)
            }
            Verdict::Same => {
                self.forget_refused(key)?;
                self.unmark(settled)
            }
            Verdict::Refused { is_delete, reason, doubt } => {
                if *is_delete {
                    self.use_consent(key)?;
                }
                if let Some(key_row) = doubt {
                    self.accept(key, &facts::accepted(&facts::UNKNOWN, Some(key_row)))?;
                }
                if !self.is_refused(key)? {
                    self.at.refused_rows += 1;
                }
                let refusal = Refusal { at_us, is_delete: *is_delete, reason: reason.as_bytes() };
                self.writes.put(self.outbox.refused, key, &refusal.to_bytes());
                self.at.refused_total += 1;
                self.unmark(settled)
            }
            Verdict::Unknown { key_row } => {
                self.accept(key, &facts::accepted(&facts::UNKNOWN, key_row.as_deref()))?;
                self.stay(key)
            }
            Verdict::Later => self.stay(key),
        }
    }

    /// A key that a walk has passed, and is to be sent still.
    fn stay(&mut self, key: &[u8]) -> Result<()> {
        if self.marked(key)?.is_none() { self.mark(key) } else { Ok(()) }
    }

    fn is_refused(&self, key: &[u8]) -> Result<bool> {
        Ok(self.at.refused_rows > 0 && self.kept(self.outbox.refused, key)?.is_some())
    }

    fn forget_refused(&mut self, key: &[u8]) -> Result<()> {
        if self.is_refused(key)? {
            self.writes.delete(self.outbox.refused, key);
            self.at.refused_rows = self.at.refused_rows.saturating_sub(1);
        }
        Ok(())
    }

    /// Marks what was refused.
    fn retry(&mut self) -> Result<()> {
        if self.at.refused_rows > RETRIED_MAX {
            self.at.walk_again();
            return Ok(());
        }
        for entry in self.states.snapshot.scan(self.outbox.refused, &[]) {
            let key = entry?.0;
            // What was settled by the same step's inputs is no more refused.
            if self.is_refused(&key)? {
                self.mark(&key)?;
            }
        }
        Ok(())
    }
}
