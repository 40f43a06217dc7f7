//! What the pump notes of itself, for system tables, metrics and the page.
//!
//! Most comes with a step ([`Pump::note_step`]); figures that do not are read every second ([`Pump::refresh_figures`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use connect::{SourceEvent, SourceState};
use engine::{Input, Load, ModelState};
use plan::TableName;
use relation::TableId;

use super::Pump;
use super::seen::{Seen, StepLatency, Times};
use crate::backlog;
use crate::clock::Clock as _;
use crate::reason::Reason;
use crate::recent::{RecentChange, RecentStep};
use crate::stale::AGAIN;
use crate::status::{Doubt, Facts, ModelStatus, Noticed, REJECTS_MAX, TableStatus, is_stopped_state};
use crate::system_tables;
use crate::warehouse::{Contents, Warehouse};

impl Pump {
    pub(super) fn publish(&mut self) {
        self.served = self.warehouse.engine.models().into_iter().map(|model| model.relation).collect();
        let mut catalog = self.warehouse.readable();
        for (name, error) in self.warehouse.unreadable() {
            catalog.add_unavailable(name, error);
        }
        system_tables::add(&mut catalog, &self.status, &self.clock);
        self.status.publish(catalog, Arc::clone(&self.warehouse.serving.models));
        // Who is told that something is live finds it.
        self.refresh_figures();
    }

    pub(super) fn note_started(&self) {
        let mut facts = self.status.facts();
        facts.started = true;
        facts.was_loaded = self.warehouse.engine.tables().any(|table| table.load.was_whole());
        drop(facts);
        self.status.spread(self.clock.now_us());
    }

    /// What a source says beside its batches: what of it is an input, and what is only told.
    pub(super) fn note_event(&mut self, source: u32, event: SourceEvent) -> Option<Input> {
        let name = self.source_names.get(&source).cloned().unwrap_or_default();
        match event {
            SourceEvent::Batch(batch) => return Some(Input::Rows(source, batch)),
            SourceEvent::State(state, message) => {
                if matches!(state, SourceState::Stalled | SourceState::Paused) {
                    // Nothing is tried meanwhile, and then it is said anew.
                    let engine = &self.warehouse.engine;
                    self.delays.retain(|table, _| engine.table(*table).is_some_and(|table| table.source != source));
                }
                let now = self.clock.now_us();
                self.status.facts().sources.entry(name).or_default().go_to(&state.to_string(), message, now);
                // What stands on it is told at once.
                self.refresh_figures();
            }
            SourceEvent::Failed(failure) => {
                tracing::error!(source = %name, detail = %failure.detail, hint = %failure.hint, "{}", failure.message);
                let now = self.clock.now_us();
                let mut facts = self.status.facts();
                let declared =
                    facts.declared_at.get(&name).map(|place| format!("Connection \"{name}\" is declared in {place}."));
                let reason = Reason::from(&failure).and(&declared.unwrap_or_default());
                facts.sources.entry(name).or_default().go_to("stalled", reason, now);
                drop(facts);
                self.status.spread(now);
            }
            SourceEvent::Delayed { table, reason } => {
                let said = Reason::of(&reason).line();
                tracing::warn!(source = %name, table = %self.table_name(table), reason = %said, "a load does not get on");
                self.delays.insert(table, reason);
                // Who waits for it is told at once.
                self.refresh_figures();
            }
            SourceEvent::Reload { table, reason } => {
                self.delays.remove(&table);
                // What was loaded before is no part of this load.
                if let Some(status) = self.status.facts().tables.get_mut(&self.table_name(table)) {
                    status.snapshot_rows = 0;
                }
                tracing::warn!(source = %name, table = %self.table_name(table), reason = %reason, "loading a table again");
                return Some(Input::Reload { table, reason, at_us: self.clock.now_us() });
            }
            // For who starts the source.
            SourceEvent::Learned { .. } => {}
            SourceEvent::Altered { table, statement } => {
                self.delays.remove(&table);
                let table_name = self.table_name(table);
                tracing::warn!(source = %name, table = %table_name, %statement, "its columns are others now");
                self.warehouse.altered.insert(table_name, statement.clone());
                return Some(Input::Altered { table, reason: statement, at_us: self.clock.now_us() });
            }
            SourceEvent::Parked { table, reason } => {
                self.delays.remove(&table);
                tracing::warn!(source = %name, table = %self.table_name(table), reason = %Reason::of(&reason).line(), "table parked");
                return Some(Input::Park { table, reason });
            }
        }
        None
    }

    /// The models and views there are, and who reads whom: of what serves, and of what is wanted but waits.
    pub(super) fn note_contents(&mut self) {
        let serving = &self.warehouse.serving;
        let mut facts = self.status.facts();
        facts.lineage.clear();
        let documented = serving.definition.documentation.iter();
        facts.documented = documented.map(|of| (TableName::new(&of.schema, &of.name), of.clone())).collect();
        // Of one that changes from one to the other, or is both for a while, each place is its own.
        let (mut names, mut models, mut views) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut note = |facts: &mut Facts, text: &crate::definition::ModelText| {
            note_text(facts, text);
            let of = if text.is_view { &mut views } else { &mut models };
            of.insert(text.table_name());
        };
        for text in serving.texts() {
            note(&mut facts, text);
            names.insert(text.table_name());
        }
        // A name that is said to be known is found here before it serves. A view that comes is there at once.
        let next = self.warehouse.next().into_iter().flat_map(|next| next.texts().map(move |text| (next, text)));
        for (next, text) in next {
            let name = text.table_name();
            let waits = || next.waiting.iter().any(|(waiting, _)| *waiting == name);
            if !names.contains(&name) && (!text.is_view || waits()) {
                note(&mut facts, text);
                names.insert(name);
            }
        }
        facts.models.retain(|name, _| models.contains(name));
        facts.views.retain(|name, _| views.contains(name));
        let mut edges = facts.lineage.clone();
        // A table may be named without `source` or `ref`.
        for model in serving.models.iter() {
            edges.extend(model.planned.flow.tables().into_iter().map(|table| (table.clone(), model.name.clone())));
        }
        let numbers = self.warehouse.engine.tables().map(|table| (table.name.clone(), table.source));
        self.sources_of = below(numbers, &edges);
        let names = self.warehouse.engine.tables().map(|table| (table.name.clone(), table.name.clone()));
        facts.tables_of = below(names, &edges);
        drop(facts);
        self.note_states();
    }

    /// What each model and view is by now, for everybody who reads.
    pub(super) fn note_states(&self) {
        let now = self.clock.now_us();
        let mut facts = self.status.facts();
        self.work_out(&mut facts, now);
        drop(facts);
        self.status.spread(now);
    }

    /// Works out what each model and view is, and why: by the engine where it keeps it, or else by what waits. Nowhere else is that
    /// said, so that what is said of a model does not depend on what was noted last. How old what it shows is, [`Facts::spread`] says.
    fn work_out(&self, facts: &mut Facts, now: i64) {
        let Warehouse { engine, serving, coming, .. } = &self.warehouse;
        // What is coming may mend what is held, or hold more.
        let to_be = coming.as_ref().map_or(serving, |(coming, _)| coming);
        let held: BTreeMap<&TableName, Reason> =
            to_be.held.iter().map(|(name, reason)| (name, Reason::of(reason))).collect();
        facts.held = held.iter().map(|(name, reason)| ((*name).clone(), reason.clone())).collect();
        let unread: BTreeMap<TableName, Doubt> = facts
            .tables
            .iter()
            .filter_map(|(name, table)| Some((name.clone(), facts.unread(&table.source, now)?)))
            .collect();
        let unloaded: BTreeMap<TableName, &'static str> = engine
            .tables()
            .filter(|table| !table.load.was_whole())
            .map(|table| (table.name.clone(), load_word(&table.load)))
            .collect();
        let kept: BTreeMap<&TableName, (&ModelState, TableId)> =
            engine.models().into_iter().map(|model| (&model.name, (&model.state, model.relation))).collect();
        let waiting = |of: &Contents, name: &TableName| {
            of.waiting.iter().find(|(waiting, _)| waiting == name).map(|(_, reason)| Reason::of(reason))
        };
        let next = self.warehouse.next();
        // Of what does not serve, what is to come tells.
        let waits = |name: &TableName| {
            let of_next = || next.filter(|_| serving.definition.text(name).is_none());
            waiting(serving, name).or_else(|| waiting(of_next()?, name))
        };
        let Facts { models, views, tables, tables_of, lineage, started, .. } = facts;
        for (name, status) in models.iter_mut() {
            let kept = kept.get(name);
            // Whoever is told that it is live is told how many rows it has.
            if let Some((_, relation)) = kept {
                status.rows = engine.row_count(*relation);
            }
            let (state, message) = match kept.map(|(state, _)| *state) {
                Some(ModelState::Building) => {
                    ("building", loads_waited_for(tables_of.get(name), &unloaded, &unread, tables))
                }
                Some(ModelState::Live) => ("live", Reason::default()),
                Some(ModelState::Waiting { reason } | ModelState::Parked { reason }) => ("parked", Reason::of(reason)),
                Some(ModelState::Failed { reason }) => ("failed", Reason::of(reason)),
                None => waits(name).map_or(("building", Reason::default()), |reason| ("parked", reason)),
            };
            tell_parked(*started, name, &status.state, state, &message);
            state.clone_into(&mut status.state);
            (status.message, status.held) = (message, held.get(name).cloned().map(held_back));
        }
        for (name, status) in views.iter_mut() {
            let (state, message) = match waits(name) {
                Some(reason) => ("parked", reason),
                None => view_state(name, lineage, models, tables, &unloaded),
            };
            tell_parked(*started, name, &status.state, state, &message);
            state.clone_into(&mut status.state);
            (status.message, status.held) = (message, held.get(name).cloned().map(held_back));
        }
    }

    /// What is about to be taken: until it is visible its sources fall behind.
    pub(super) fn note_untaken(&self, seen: &Seen) {
        let mut facts = self.status.facts();
        for (source, oldest) in &seen.oldest {
            if let Some(status) = self.source_names.get(source).and_then(|name| facts.sources.get_mut(name)) {
                status.untaken_us = Some(*oldest);
            }
        }
        for (table, bytes) in &seen.bytes {
            let Some(known) = self.warehouse.engine.table(*table) else { continue };
            if let Some(status) = facts.tables.get_mut(&known.name) {
                status.untaken_bytes = *bytes;
                status.backlog_bytes = status.backlog_bytes.saturating_add(*bytes);
            }
        }
    }

    /// It is visible, or was nothing.
    pub(super) fn note_taken(&self, seen: &Seen) {
        let mut facts = self.status.facts();
        for source in seen.oldest.keys() {
            if let Some(status) = self.source_names.get(source).and_then(|name| facts.sources.get_mut(name)) {
                status.untaken_us = None;
            }
        }
        for table in seen.bytes.keys() {
            let Some(known) = self.warehouse.engine.table(*table) else { continue };
            if let Some(status) = facts.tables.get_mut(&known.name) {
                status.untaken_bytes = 0;
            }
        }
    }

    pub(super) fn table_name(&self, id: TableId) -> TableName {
        self.warehouse.engine.table(id).map_or_else(|| TableName::new("", id.to_string()), |t| t.name.clone())
    }

    pub(super) fn note_step(
        &mut self,
        seen: &Seen,
        report: &mut engine::StepReport,
        rows: usize,
        begun: i64,
        visible: i64,
    ) {
        seen.chunks.keys().for_each(|table| drop(self.delays.remove(table)));
        report.relations.retain(|change| !change.is_model || self.served.contains(&change.id));
        let changes = self.recent_changes(report);
        let engine = &self.warehouse.engine;
        let mut facts = self.status.facts();
        let durable = begun + i64::try_from(report.durable_us).unwrap_or(0);
        let newest = seen.marks.iter().max_by_key(|mark| (mark.commit, mark.read)).copied();
        facts.recent.push(Arc::new(RecentStep {
            step: report.step,
            rows: rows as u64,
            transactions: seen.marks.len() as u64,
            commit_us: newest.map(|mark| mark.commit),
            read_us: newest.map(|mark| mark.read),
            begun_us: begun,
            durable_us: durable.min(visible),
            visible_us: visible,
            position: seen.position(&self.source_names),
            changes,
        }));
        let times = Times { durable, visible };
        for (source, position) in &seen.positions {
            let name = self.source_names.get(source).cloned().unwrap_or_default();
            let status = facts.sources.entry(name).or_default();
            status.position.clone_from(position);
            let marks = seen.marks.iter().filter(|mark| mark.source == *source);
            if let Some(newest) = marks.map(|mark| mark.commit).max() {
                status.last_commit_us = Some(newest);
                status.lag_us = (visible - newest).max(0);
                status.visible_us = Some(visible);
            }
        }
        let names = self.source_names.iter();
        let flow_since: BTreeMap<u32, i64> =
            names.filter_map(|(id, name)| Some((*id, facts.sources.get(name)?.flows_since_us?))).collect();
        // Tables and models over the same sources have the same latencies.
        let mut latencies: BTreeMap<&BTreeSet<u32>, StepLatency> = BTreeMap::new();
        for change in &report.relations {
            let rows = engine.row_count(change.id);
            let changed = change.inserted.max(change.deleted);
            let sources = self.sources_of.get(&change.name).unwrap_or(&NO_SOURCES);
            let latency =
                latencies.entry(sources).or_insert_with(|| StepLatency::of(&seen.marks, sources, &flow_since, times));
            let newest = latency.newest;
            if change.is_model {
                let model = facts.models.entry(change.name.clone()).or_default();
                model.rows = rows;
                model.changes_total += changed;
                model.last_commit_us = newest.or(model.last_commit_us);
                model.lag_us = newest.map_or(model.lag_us, |newest| (visible - newest).max(0));
                model.visible_us = newest.map(|_| visible).or(model.visible_us);
            } else {
                let table = facts.tables.entry(change.name.clone()).or_default();
                table.rows = rows;
                table.changes_total += changed;
                table.last_commit_us = newest.or(table.last_commit_us);
                table.lag_us = newest.map_or(table.lag_us, |newest| (visible - newest).max(0));
                table.visible_us = newest.map(|_| visible).or(table.visible_us);
            }
            for (stage, tally) in latency.stages().into_iter().filter(|(_, tally)| !tally.is_empty()) {
                facts.latency.entry((change.name.clone(), stage)).or_default().merge(tally);
            }
        }
        for id in seen.chunks.keys() {
            self.note_load(&mut facts, *id, seen.chunks[id]);
        }
        facts.sample(visible);
    }

    fn recent_changes(&mut self, report: &mut engine::StepReport) -> Vec<RecentChange> {
        let mut changes = Vec::with_capacity(report.relations.len());
        for change in &mut report.relations {
            let Some(stored) = self.warehouse.engine.relation(change.id) else { continue };
            // A relation of other columns has another number, so what is known of one stays true.
            let schema = self.schemas.entry(change.id).or_insert_with(|| Arc::new(stored.schema.clone()));
            changes.push(RecentChange {
                node: change.name.clone(),
                inserted: change.inserted,
                deleted: change.deleted,
                schema: Arc::clone(schema),
                rows: std::mem::take(&mut change.rows),
                weights: std::mem::take(&mut change.weights),
            });
        }
        changes
    }

    fn note_load(&self, facts: &mut Facts, id: TableId, loaded: (u64, u64)) {
        let Some(table) = self.warehouse.engine.table(id) else { return };
        let status = facts.tables.entry(table.name.clone()).or_default();
        status.snapshot_rows += loaded.0;
        status.snapshot_rows_total = loaded.1.max(status.snapshot_rows);
        status.state = load_word(&table.load).to_owned();
    }

    /// Figures that do not come with a step.
    pub(super) fn refresh_figures(&mut self) {
        let now = self.clock.now_us();
        self.refreshed_us = self.uptime.now_us();
        let engine = &self.warehouse.engine;
        // Read before the facts are taken: who shows them should not wait for the store.
        let lacking = engine.reject_counts(REJECTS_MAX).unwrap_or_default();
        let mut guard = self.status.facts();
        let facts = &mut *guard;
        let delayed = engine.tables_to_come().filter_map(|table| Some((&table.name, self.delays.get(&table.id)?)));
        let delayed: BTreeMap<&TableName, &String> = delayed.collect();
        // In `tidemill.rejects` those of what is to take a table's place stand under its name as well.
        let coming = engine.tables_to_come().filter(|table| table.is_coming);
        let coming: BTreeMap<&TableName, u64> =
            coming.map(|table| (&table.name, engine.reject_count(table.id))).collect();
        for table in engine.tables() {
            let status = facts.tables.entry(table.name.clone()).or_default();
            status.source = self.source_names.get(&table.source).cloned().unwrap_or_default();
            status.rows = engine.row_count(table.id);
            status.rejects = engine.reject_count(table.id) + coming.get(&table.name).copied().unwrap_or(0);
            status.is_stored = true;
            let was_parked = status.state == "parked";
            status.state = load_word(&table.load).to_owned();
            status.was_whole = table.load.was_whole();
            let known = status.doubted_since_us;
            (status.message, status.doubted_since_us) = doubt_of(&table.load);
            status.is_unasked = false;
            let delay = delayed.get(&table.name).map(|reason| Reason::of(reason));
            status.is_delayed = delay.is_some();
            status.message = Reason::joined([std::mem::take(&mut status.message)].into_iter().chain(delay));
            if status.state == "parked" {
                // At a start it was parked before: since when is noted beside what is stored, or not known.
                let is_old = was_parked || !facts.started;
                status.doubted_since_us = if is_old { known } else { Some(now) };
            }
        }
        for alarm in backlog::look(facts, now) {
            let table = alarm.table.map_or_else(|| "unknown".to_owned(), |table| table.to_string());
            tracing::warn!(source = %alarm.source, %table, "{}", alarm.message);
        }
        for model in engine.models() {
            let status = facts.models.entry(model.name.clone()).or_default();
            status.rejects = lacking.of_models.get(&model.name).copied().unwrap_or(0);
        }
        self.work_out(facts, now);
        facts.rejected.reader = Some(engine.reject_reader());
        facts.rejected.outboxes = Some(engine.outboxes());
        facts.rejected.of_models = lacking.all;
        note_failed(facts, lacking.failed_in, now);
        facts.sample(now);
        drop(guard);
        self.note_waits();
        self.status.spread(now);
    }
}

/// Notes when rows failed. Of a model's reject the engine knows the step alone: when that became visible, and where its sources were then,
/// is known for as long as the step is remembered, and from then on. One that a build has found is as of when it was noticed, and what is
/// found at a start was there before: since when, nobody knows any more.
fn note_failed(facts: &mut Facts, failed_in: BTreeSet<(String, u64)>, now_us: i64) {
    let mut known = std::mem::take(&mut facts.rejected.failed_in);
    let noticed = |place: &(String, u64)| match facts.recent.of(place.1) {
        Some(step) => Noticed { position: step.position.clone(), at_us: step.visible_us },
        None if facts.started => Noticed { position: sources_of(facts, &place.0), at_us: now_us },
        None => Noticed::default(),
    };
    let all = failed_in.into_iter().map(|place| {
        let at = known.remove(&place).unwrap_or_else(|| noticed(&place));
        (place, at)
    });
    facts.rejected.failed_in = all.collect();
}

/// Where the sources are that a table or model stands on, for people.
fn sources_of(facts: &Facts, node: &str) -> String {
    let below = facts.tables_of.iter().find(|(name, _)| name.to_string() == node).map(|(_, tables)| tables);
    let names: BTreeSet<&str> =
        below.into_iter().flatten().filter_map(|table| Some(facts.tables.get(table)?.source.as_str())).collect();
    let positions: Vec<(&str, &str)> = names
        .into_iter()
        .filter_map(|name| Some((name, facts.sources.get(name)?.position.as_str())))
        .filter(|(_, position)| !position.is_empty())
        .collect();
    match positions[..] {
        [(_, alone)] => alone.to_owned(),
        _ => positions.iter().map(|(name, position)| format!("{name}: {position}")).collect::<Vec<_>>().join("; "),
    }
}

/// The tables that a model which is not built waits for; empty where its turn to be built comes.
fn loads_waited_for(
    tables: Option<&BTreeSet<TableName>>,
    unloaded: &BTreeMap<TableName, &'static str>,
    unread: &BTreeMap<TableName, Doubt>,
    all: &BTreeMap<TableName, TableStatus>,
) -> Reason {
    let loading: Vec<&TableName> = tables.into_iter().flatten().filter(|name| unloaded.contains_key(*name)).collect();
    let named = loading.iter().map(|name| match all.get(*name).filter(|table| table.is_delayed) {
        Some(table) => table.message.clone().behind(&format!("table {name} is being loaded: ")),
        None => Reason::of(&format!("table {name} is being loaded")),
    });
    let mut parts: Vec<Reason> = named.collect();
    parts.extend(loading.iter().filter_map(|name| unread.get(*name)).map(|doubt| doubt.reason.clone()));
    // Tables of one source have one reason.
    parts.dedup();
    Reason::joined(parts)
}

/// A model or view that is parked while the instance runs is in the log, whatever parks it: a row, a table of other columns, a table
/// that is gone.
fn tell_parked(is_started: bool, model: &TableName, before: &str, state: &str, reason: &Reason) {
    let is_known = !before.is_empty() && before != state;
    if is_started && state == "parked" && is_known {
        tracing::warn!(%model, reason = %reason.line(), "model parked");
    }
}

/// Whether a view can be read, and why not: it is asked anew each time, so it is what the worst below it is.
fn view_state(
    view: &TableName,
    lineage: &[(TableName, TableName)],
    models: &BTreeMap<TableName, ModelStatus>,
    tables: &BTreeMap<TableName, TableStatus>,
    unloaded: &BTreeMap<TableName, &'static str>,
) -> (&'static str, Reason) {
    let (mut open, mut seen) = (vec![view], BTreeSet::new());
    let mut waits = None;
    while let Some(reader) = open.pop() {
        for (below, _) in lineage.iter().filter(|(_, of)| of == reader) {
            match (models.get(below), unloaded.get(below)) {
                (Some(model), _) if is_stopped_state(&model.state) => {
                    return ("parked", model.message.clone().behind(&format!("model {below} is {}: ", model.state)));
                }
                (_, Some(&"parked")) => {
                    let why = tables.get(below).map(|table| table.message.clone()).unwrap_or_default();
                    return ("parked", why.behind(&format!("table {below} is parked: ")));
                }
                (Some(model), _) if model.state == "building" => {
                    waits.get_or_insert_with(|| format!("model {below} is being built"));
                }
                (_, Some(_)) => {
                    waits.get_or_insert_with(|| format!("table {below} is being loaded"));
                }
                // What a model stands on is the model's own to say.
                (Some(_), None) => {}
                (None, None) if seen.insert(below) => open.push(below),
                (None, None) => {}
            }
        }
    }
    match waits {
        Some(reason) => ("building", Reason::of(&reason)),
        None => ("live", Reason::default()),
    }
}

/// What is said of a model that serves in an older text, by the reason why the new one does not.
fn held_back(reason: Reason) -> Reason {
    reason.behind("it serves in its older text, and the new one is not in place: ")
}

/// What a model or view is in the words of its project.
fn note_text(facts: &mut Facts, text: &crate::definition::ModelText) {
    let name = text.table_name();
    let of = if text.is_view { &mut facts.views } else { &mut facts.models };
    let status = of.entry(name.clone()).or_default();
    status.materialized.clone_from(&text.materialized);
    status.sql.clone_from(&text.sql);
    status.path.clone_from(&text.file);
    status.written.clone_from(&text.written.0);
    status.description.clone_from(&text.description);
    facts.lineage.extend(text.upstream().map(|upstream| (upstream, name.clone())));
}

/// Why a table's content is in doubt, and since when that is known; the time is 0 where it began while nothing ran.
fn doubt_of(load: &Load) -> (Reason, Option<i64>) {
    match load {
        Load::Loading { .. } | Load::Complete | Load::Partial => (Reason::default(), None),
        Load::Parked { reason, whole: true } => (Reason::of(reason), None),
        Load::Parked { reason, whole: false } => (Reason::of(reason).behind("never loaded: "), None),
        Load::Reloading { again, .. } | Load::Sweeping { again, .. } => {
            (Reason::of(&again.reason).behind(AGAIN), Some(again.since_us))
        }
        Load::Altered { reason, since_us, .. } => {
            let message = format!("as it was before {reason}; it is loaded anew with its columns of now");
            (Reason::of(&message), Some(*since_us).filter(|since| *since > 0))
        }
    }
}

fn load_word(load: &Load) -> &'static str {
    match load {
        Load::Loading { .. } => "snapshot",
        Load::Reloading { .. } | Load::Sweeping { .. } => "resnapshot",
        Load::Altered { .. } => "altered",
        Load::Complete | Load::Partial => "streaming",
        Load::Parked { .. } => "parked",
    }
}

static NO_SOURCES: BTreeSet<u32> = BTreeSet::new();

/// What there is below each node, however far: at first what is given, then by way of the edges.
fn below<T: Ord + Clone>(
    given: impl Iterator<Item = (TableName, T)>,
    edges: &[(TableName, TableName)],
) -> BTreeMap<TableName, BTreeSet<T>> {
    let mut found: BTreeMap<TableName, BTreeSet<T>> = BTreeMap::new();
    for (name, of) in given {
        found.entry(name).or_default().insert(of);
    }
    // As often as the longest way is long: readers may stand before what they read.
    loop {
        let mut grew = false;
        for (upstream, downstream) in edges {
            let above = found.get(upstream).cloned().unwrap_or_default();
            let known = found.entry(downstream.clone()).or_default();
            let before = known.len();
            known.extend(above);
            grew |= known.len() > before;
        }
        if !grew {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a person may meet as a state is explained, with the next step.
    #[test]
    fn every_state_of_a_table_or_source_is_in_the_docs() {
        let docs = include_str!("../../../../docs/sources.md");
        let reason = String::new;
        let again = engine::Again { reason: reason(), since_us: 0, since_step: 0, whole: true };
        let loads = [
            Load::Loading { cursor: None },
            Load::Reloading { cursor: None, again: again.clone() },
            Load::Sweeping { after: None, again },
            Load::Complete,
            Load::Partial,
            Load::Parked { reason: reason(), whole: true },
            Load::Altered { reason: reason(), since_us: 0, whole: true },
        ];
        // As it is while its source is not read.
        for word in loads.iter().map(load_word).chain(["stalled", "paused", "connecting", "behind", "stopped"]) {
            assert!(docs.contains(&format!("\n| `{word}` | ")), "{word} has no line of its own");
        }
        for state in [
            SourceState::Connecting,
            SourceState::Snapshot,
            SourceState::Streaming,
            SourceState::Stalled,
            SourceState::Paused,
        ] {
            assert!(docs.contains(&format!("`{state}`")), "{state}");
        }
        for word in ["mixed", "stale", "held"] {
            assert!(docs.contains(&format!("A model is `{word}`")), "{word}");
        }
    }
}
