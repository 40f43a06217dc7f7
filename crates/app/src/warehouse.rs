//! The store, the engine over it, and the project's models planned and set up in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use connect::ColumnRule;
use engine::{Difference, Engine, ModelDefinition, Settings};
use plan::TableName;
use project::Diagnostic;
use relation::{Schema, TableId};

use crate::beside::Beside;
use crate::definition::{Altered, Definition, Kept, ModelText, PlannedModel};
use crate::documentation::Documented;
use crate::setup::Setup;

/// A table as the source describes it, under the name that the project gives it.
#[derive(Debug, Clone)]
pub struct SourceTable {
    pub source: String,
    pub name: TableName,
    pub schema: Schema,
    /// What is read of its columns.
    pub rule: ColumnRule,
}

/// A table that the project has and its source has not.
#[derive(Debug, Clone)]
pub struct AbsentTable {
    pub source: String,
    pub name: TableName,
    /// As people read it.
    pub reason: String,
}

/// The project's tables as their sources have them now.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Of a source that cannot be asked, none.
    pub tables: Vec<SourceTable>,
    /// About how many rows they have there.
    pub rows: Vec<(TableName, u64)>,
    pub absent: Vec<AbsentTable>,
}

/// Changed rows of a table or model that are remembered of a step, for who wants to follow one order.
const REPORT_ROWS_MAX: usize = 50;

/// Everything that is kept.
pub struct Warehouse {
    pub engine: Engine,
    pub queries: Arc<query::Runtime>,
    /// What serves.
    pub serving: Contents,
    /// What is being built to take its place, and what that comes to.
    pub coming: Option<(Contents, Difference)>,
    /// What can be gone back to.
    pub before: Option<Contents>,
    /// What the project said at the start, where that is not what served when the folder was left.
    outdated: Option<Proposal>,
    /// What the project said at the start, as long as it could not be put in place: it is tried again when a table comes.
    stalled: Option<(Definition, BTreeSet<TableName>)>,
    /// What made the columns of tables others than they were, as the source said it.
    pub altered: BTreeMap<TableName, String>,
    /// Tables that were not there at the start and were never known.
    pub absent: Vec<AbsentTable>,
    /// Models that the project had at the start and that could not be planned.
    pub refused: Vec<(TableName, plan::Refusal)>,
    /// The project says what a rollback has given up: it is not taken until it says something else, or is applied.
    pub is_held_back: bool,
    /// Builds run there; it ends with the warehouse.
    _beside: Beside,
}

/// A definition, planned.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// All that was asked for.
    pub wanted: Definition,
    /// What of it can be kept.
    pub definition: Definition,
    pub models: Arc<Vec<PlannedModel>>,
    /// Models and views of it that cannot be kept now, and why: over an absent table, or not to be planned.
    pub waiting: Vec<(TableName, String)>,
    /// What a rollback to this gave up.
    pub rolled_back: Option<Definition>,
    /// Tables that its project has no more: when it serves they go.
    pub unwanted: BTreeSet<TableName>,
    /// By what statements tables came to have other columns, where models wait for that.
    pub altered: Vec<Altered>,
}

impl Contents {
    /// What was kept when a folder was left, planned again; what cannot be planned any more waits.
    fn of_stored(stored: Kept, tables: &[(TableName, Schema)]) -> Self {
        let Kept { definition, rolled_back, altered } = stored;
        let plans = definition.plan(tables);
        let waiting = plans.refused.iter().map(|(name, refusal)| (name.clone(), said(refusal))).collect();
        Self {
            wanted: definition.clone(),
            definition,
            models: Arc::new(plans.models),
            waiting,
            rolled_back,
            altered,
            ..Self::default()
        }
    }

    /// As the engine keeps it.
    fn label(&self) -> anyhow::Result<Vec<u8>> {
        let (definition, rolled_back, altered) = (&self.definition, &self.rolled_back, &self.altered);
        Kept { definition: definition.clone(), rolled_back: rolled_back.clone(), altered: altered.clone() }.to_bytes()
    }

    fn definitions(&self) -> Vec<ModelDefinition> {
        let models = self.models.iter().map(|model| ModelDefinition {
            name: model.name.clone(),
            flow: model.planned.flow.clone(),
            schema: model.planned.schema.clone(),
        });
        models.collect()
    }

    fn keeps(&self, name: &TableName) -> bool {
        self.models.iter().any(|model| model.name == *name) || self.definition.views().any(|(view, _)| view == *name)
    }
}

/// What a definition comes to over the tables there are.
#[derive(Debug)]
pub struct Keepable {
    pub contents: Contents,
    /// Models that cannot be planned.
    pub refused: Vec<(TableName, plan::Refusal)>,
}

/// A definition planned over tables, by whoever has the time: the pump takes it over as it is, if the tables are still these.
#[derive(Debug)]
pub struct Proposal {
    pub keepable: Keepable,
    tables: Vec<(TableName, Schema)>,
    absent: Vec<AbsentTable>,
}

impl Proposal {
    /// Plans a definition.
    pub fn of(wanted: &Definition, tables: Vec<(TableName, Schema)>, absent: Vec<AbsentTable>) -> Self {
        Self { keepable: keepable(wanted, &tables, &absent), tables, absent }
    }

    /// The same, with tables that are stored and no more wanted: it was planned without them.
    pub fn without_tables(mut self, unwanted: BTreeSet<TableName>) -> Self {
        self.keepable.contents.unwanted = unwanted;
        self
    }
}

/// What became of a proposal.
#[derive(Debug)]
pub enum Proposed {
    /// It is built by and by.
    Coming(Difference),
    /// It says what serves already, maybe in other words: it is in place.
    InPlace(Difference),
    /// It cannot be put in place without taking away what serves, or at all, and why.
    Refused(Vec<String>),
}

impl Warehouse {
    /// Opens the store of a project and sets up its tables and models; the log's tail is replayed.
    ///
    /// What served when the folder was left serves again. What the project says now is built beside it, if that is something
    /// else ([`Warehouse::propose_outdated`]), and no rollback has given up just this. In a new folder it is what serves
    /// from the start.
    ///
    /// Tables of a source that cannot be asked are as they were. A table that is not there, and was never known, is left out
    /// with all models over it; a model that cannot be planned with all over it. Both are in [`Contents::waiting`].
    pub fn open(setup: &Setup, described: &Described) -> anyhow::Result<Self> {
        let memory = setup.project.profile.memory.unwrap_or_else(default_memory);
        std::fs::create_dir_all(&setup.data)
            .with_context(|| format!("cannot make the data folder {}", setup.data.display()))?;
        let store = store::Store::open(&setup.data.join("store"), store_options(memory))?;
        let query_settings = query::Settings {
            memory_bytes: usize::try_from(memory / 4).unwrap_or(usize::MAX),
            ..query::Settings::default()
        };
        let queries = query::Runtime::new(&query_settings)?;
        let workers = setup.project.profile.workers.unwrap_or_else(default_workers);
        let beside = Beside::new()?;
        let settings = Settings { report_rows_max: REPORT_ROWS_MAX, ..Settings::new(workers, beside.handle()) };
        let mut engine = Engine::open(store, Arc::clone(&queries), settings)?;
        for table in &described.absent {
            engine.register_source(&table.source)?;
        }
        for table in &described.tables {
            let source = engine.register_source(&table.source)?;
            let known = engine.tables_to_come().find(|known| known.name == table.name && known.source == source);
            let known = known.and_then(|known| engine.relation(known.id));
            if !known.is_some_and(|known| table.rule.keeps(&known.schema, &table.schema)) {
                engine.register_table(source, &table.name, &table.schema)?;
            }
        }
        let (known, coming) = (schemas(&engine), schemas_to_come(&engine));
        let is_known = |name: &TableName| known.iter().any(|(known, _)| known == name);
        let absent: Vec<AbsentTable> = described.absent.iter().filter(|t| !is_known(&t.name)).cloned().collect();
        let stored = engine.serving_label()?.map(|label| Kept::from_bytes(&label)).transpose()?;
        let altered = stored.iter().flat_map(|stored| &stored.altered);
        let altered: BTreeMap<_, _> = altered.map(|of| (of.table_name(), of.statement.clone())).collect();
        let on_disk = Definition::of(setup);
        let given_up = stored.as_ref().filter(|stored| stored.rolled_back.as_ref() == Some(&on_disk));
        let is_held_back = given_up.is_some();
        let wanted = given_up.map_or(&on_disk, |stored| &stored.definition);
        // What is served of an older project may read what the project has no more.
        let unwanted: BTreeSet<TableName> = match is_held_back {
            true => BTreeSet::new(),
            false => coming.iter().map(|(name, _)| name).filter(|name| !setup.has_table(name)).cloned().collect(),
        };
        let coming = without(coming, &unwanted);
        let mut new = Proposal::of(wanted, coming, absent.clone()).without_tables(unwanted);
        let unplanned = if is_held_back { Vec::new() } else { new.keepable.refused.clone() };
        new.keepable.contents.rolled_back = is_held_back.then_some(on_disk);
        let is_altering = engine.tables_to_come().any(|table| table.is_coming);
        let (mut serving, outdated) = match stored {
            Some(stored) if is_altering || stored.definition != new.keepable.contents.definition => {
                let serving = Contents::of_stored(stored, &known);
                for (model, reason) in &serving.waiting {
                    tracing::warn!(%model, %reason, "cannot be kept any more");
                }
                (serving, Some(new))
            }
            Some(_) | None => (new.keepable.contents, None),
        };
        tell_altered(&altered, &mut serving);
        let refused = engine.set_version(serving.definitions(), serving.label()?)?;
        serving.waiting.extend(refused.into_iter().map(|(name, error)| (name, error.to_string())));
        let before = match engine.before_label()?.map(|label| Kept::from_bytes(&label)).transpose()? {
            Some(kept) => {
                let contents = Contents::of_stored(kept, &known);
                // Half of it would be nothing to go back to.
                let is_whole = contents.waiting.is_empty();
                if is_whole {
                    engine.set_before(contents.definitions(), contents.label()?);
                }
                is_whole.then_some(contents)
            }
            None => None,
        };
        let replayed = engine.recover()?;
        tracing::info!(steps = replayed, "log replayed");
        Ok(Self {
            engine,
            queries,
            serving,
            coming: None,
            before,
            outdated,
            stalled: None,
            altered,
            absent,
            refused: unplanned,
            is_held_back,
            _beside: beside,
        })
    }

    /// Whether the project says something else than what serves, as far as that can be kept.
    pub fn is_outdated(&self) -> bool {
        self.outdated.is_some()
    }

    /// Proposes what the project said at the start, where that is not what serves.
    pub fn propose_outdated(&mut self) -> anyhow::Result<Option<Proposed>> {
        let Some(proposal) = self.outdated.take() else { return Ok(None) };
        let contents = &proposal.keepable.contents;
        self.stalled = Some((contents.wanted.clone(), contents.unwanted.clone()));
        self.propose(proposal).map(Some)
    }

    /// Whether tables with other columns wait to be put in place, and nothing is proposed over them.
    pub fn is_stranded(&self) -> bool {
        self.coming.is_none() && self.engine.tables_to_come().any(|table| table.is_coming)
    }

    /// Proposes again what is wanted, over the tables there are by now.
    pub fn propose_again(&mut self) -> anyhow::Result<Proposed> {
        let serving = &self.serving;
        let (wanted, rolled_back, unwanted) = match (&self.coming, &self.stalled) {
            (Some((coming, _)), _) => (&coming.wanted, coming.rolled_back.clone(), &coming.unwanted),
            (None, Some((stalled, unwanted))) => (stalled, None, unwanted),
            (None, None) => (&serving.wanted, serving.rolled_back.clone(), &serving.unwanted),
        };
        let tables = without(schemas_to_come(&self.engine), unwanted);
        let mut proposal = Proposal::of(wanted, tables, self.absent.clone()).without_tables(unwanted.clone());
        proposal.keepable.contents.rolled_back = rolled_back;
        self.propose(proposal)
    }

    /// Sets up what can be kept of a definition beside what serves: it is built by and by. What was coming is given up.
    ///
    /// What serves is not taken away because its new text cannot be kept: then the whole is refused. Where a table has other
    /// columns now, though, what cannot be kept over these goes: it would show for ever what was.
    pub fn propose(&mut self, proposal: Proposal) -> anyhow::Result<Proposed> {
        let tables = without(schemas_to_come(&self.engine), &proposal.keepable.contents.unwanted);
        let is_altering = self.engine.tables_to_come().any(|table| table.is_coming);
        let proposal = match proposal.tables == tables {
            true => proposal,
            false => {
                let is_new = |table: &AbsentTable| !tables.iter().any(|(known, _)| *known == table.name);
                let absent = proposal.absent.into_iter().filter(is_new).collect();
                let old = proposal.keepable.contents;
                let mut again = Proposal::of(&old.wanted, tables, absent).without_tables(old.unwanted);
                again.keepable.contents.rolled_back = old.rolled_back;
                again
            }
        };
        let Proposal { absent, keepable, .. } = proposal;
        let mut new = keepable.contents;
        tell_altered(&self.altered, &mut new);
        let text = |(name, reason): &(TableName, String)| format!("{name}: {reason}");
        let taken_away: Vec<String> =
            new.waiting.iter().filter(|(name, _)| self.serving.keeps(name)).map(text).collect();
        if !taken_away.is_empty() && !is_altering {
            return Ok(Proposed::Refused(taken_away));
        }
        self.withdraw();
        let label = new.label()?;
        let (difference, refused) = self.engine.propose(new.definitions(), label.clone())?;
        if !refused.is_empty() {
            self.engine.withdraw();
            return Ok(Proposed::Refused(refused.iter().map(|(name, error)| format!("{name}: {error}")).collect()));
        }
        self.absent = absent;
        let is_same = difference.added.is_empty() && difference.changed.is_empty() && difference.removed.is_empty();
        if is_same
            && !is_altering
            && new.definition.views().eq(self.serving.definition.views())
            && new.definition.search_path == self.serving.definition.search_path
        {
            // What can be gone back to stays: nothing was changed.
            self.engine.withdraw();
            if label != self.serving.label()? {
                self.engine.relabel(label)?;
            }
            self.serving = new;
            self.stalled = None;
            self.is_held_back = self.serving.rolled_back.is_some();
            return Ok(Proposed::InPlace(difference));
        }
        self.coming = Some((new, difference.clone()));
        Ok(Proposed::Coming(difference))
    }

    /// Puts what was proposed in place. Call it when [`engine::Coming`] says that it is ready.
    pub fn swap(&mut self) -> anyhow::Result<()> {
        if self.engine.swap()?
            && let Some((coming, _)) = self.coming.take()
        {
            let before = std::mem::replace(&mut self.serving, coming);
            // What stood on tables that are gone cannot be gone back to.
            self.before = self.engine.has_before().then_some(before);
            self.stalled = None;
            self.is_held_back = self.serving.rolled_back.is_some();
        }
        Ok(())
    }

    /// Gives up what was proposed.
    pub fn withdraw(&mut self) {
        if self.coming.take().is_some() {
            self.engine.withdraw();
        }
    }

    /// Gives up what was proposed for good: no start takes it again while the project says just this. False if there is nothing.
    pub fn give_up_coming(&mut self) -> anyhow::Result<bool> {
        let Some((coming, _)) = self.coming.take() else { return Ok(false) };
        self.engine.withdraw();
        self.stalled = None;
        self.hold_back(Some(coming.wanted))?;
        Ok(true)
    }

    /// Goes back to what served before; false if there is nothing. What is given up is not taken again by a start while the
    /// project says just this; going back to what a rollback gave up gives up nothing.
    pub fn rollback(&mut self) -> anyhow::Result<bool> {
        if !self.engine.rollback()? {
            return Ok(false);
        }
        self.coming = None;
        self.stalled = None;
        if let Some(before) = self.before.take() {
            let given_up = std::mem::replace(&mut self.serving, before);
            let is_undone = given_up.rolled_back.as_ref() == Some(&self.serving.wanted);
            // What was given up before it was in place is newer still.
            let newest = given_up.rolled_back.clone().unwrap_or_else(|| given_up.wanted.clone());
            self.before = Some(given_up);
            self.hold_back((!is_undone).then_some(newest))?;
        }
        Ok(true)
    }

    fn hold_back(&mut self, given_up: Option<Definition>) -> anyhow::Result<()> {
        self.is_held_back = given_up.is_some();
        self.serving.rolled_back = given_up;
        Ok(self.engine.relabel(self.serving.label()?)?)
    }

    /// What the project said at the start is not tried again: something newer was asked for.
    pub fn forget_stalled(&mut self) {
        self.stalled = None;
    }

    /// What is coming is wanted once more, maybe with other models that wait.
    pub fn wanted_again(&mut self, proposal: Proposal) {
        self.absent = proposal.absent;
        let mut new = proposal.keepable.contents;
        tell_altered(&self.altered, &mut new);
        if let Some((coming, _)) = &mut self.coming {
            (coming.wanted, coming.waiting, coming.unwanted) = (new.wanted, new.waiting, new.unwanted);
        }
    }

    /// Registers a table that has come while the warehouse runs, to be loaded from the start or only followed. The log may
    /// name it when the store is folded.
    pub fn take_up(&mut self, source: &str, name: &TableName, schema: &Schema, loads: bool) -> anyhow::Result<TableId> {
        let number = self.engine.register_source(source)?;
        let id = self.engine.register_table(number, name, schema)?;
        self.serving.unwanted.remove(name);
        if let Some((coming, _)) = &mut self.coming {
            coming.unwanted.remove(name);
        }
        if !loads {
            self.engine.follow_without_load(id);
        }
        self.engine.registered_step()?;
        self.absent.retain(|table| table.name != *name);
        Ok(id)
    }

    /// The number of a source that has come while the warehouse runs. The log may name it when the store is folded.
    pub fn register_source(&mut self, source: &str) -> anyhow::Result<u32> {
        let number = self.engine.register_source(source)?;
        self.engine.registered_step()?;
        Ok(number)
    }

    /// Drops tables that the project has no more, and what served before where it stands on them. Answers which; those that
    /// something reads that serves, or is coming, stay.
    pub fn drop_unwanted_tables(&mut self) -> anyhow::Result<Vec<TableName>> {
        if self.coming.is_some() || self.serving.unwanted.is_empty() {
            return Ok(Vec::new());
        }
        let dropped = self.engine.drop_tables(&self.serving.unwanted)?;
        if !self.engine.has_before() {
            self.before = None;
        }
        self.serving.unwanted.retain(|name| !dropped.contains(name));
        self.altered.retain(|name, _| !dropped.contains(name));
        Ok(dropped)
    }

    /// What is to take the place of what serves: what is coming, or is still to be proposed.
    pub fn next(&self) -> Option<&Contents> {
        let outdated = || self.outdated.as_ref().map(|proposal| &proposal.keepable.contents);
        self.coming.as_ref().map(|(coming, _)| coming).or_else(outdated)
    }

    /// Models and views that are wanted and wait.
    pub fn waiting(&self) -> Vec<ModelText> {
        let coming = self.coming.as_ref().map(|(coming, _)| coming);
        let waiting = [Some(&self.serving), coming].into_iter().flatten().flat_map(|contents| {
            let waits = |text: &&ModelText| contents.waiting.iter().any(|(name, _)| *name == text.table_name());
            contents.wanted.models.iter().filter(waits).cloned()
        });
        waiting.collect()
    }

    /// What queries may read now, without the system tables.
    pub fn readable(&self) -> query::Catalog {
        let mut catalog = self.engine.readable(self.serving.definition.search_path.clone());
        for (name, sql) in self.serving.definition.views() {
            catalog.add_view(name, sql.to_owned());
        }
        for (name, said) in self.serving.definition.documentation.iter().map(Documented::shown) {
            catalog.document(name, said);
        }
        catalog
    }

    /// What is known and cannot be read yet, and what to tell whoever reads it: models that wait, those that are coming, and
    /// tables that are not there.
    pub fn unreadable(&self) -> Vec<(TableName, String)> {
        let mut found = Vec::new();
        let mut add = |name: &TableName, message: String| {
            let is_served =
                self.serving.keeps(name) && !self.serving.waiting.iter().any(|(waiting, _)| waiting == name);
            let is_said = found.iter().any(|(known, _)| known == name);
            if !is_served && !is_said {
                found.push((name.clone(), message));
            }
        };
        let coming = self.coming.as_ref().map(|(coming, _)| coming);
        for new in coming.into_iter().chain(self.outdated.as_ref().map(|proposal| &proposal.keepable.contents)) {
            for text in &new.definition.models {
                add(&text.table_name(), format!("model \"{}\" is being built", text.name));
            }
        }
        for (name, reason) in &self.serving.waiting {
            add(name, format!("model \"{}\" is parked: {reason}", name.name));
        }
        for table in &self.absent {
            add(&table.name, format!("table {} is parked: {}", table.name, table.reason));
        }
        found
    }

    /// The tables that a source feeds, with the names they have in the project.
    pub fn tables_of(&self, source: &str) -> BTreeMap<TableName, TableId> {
        let id = self.engine.source(source);
        let tables = self.engine.tables_to_come().filter(|t| Some(t.source) == id);
        tables.map(|t| (t.name.clone(), t.id)).collect()
    }
}

/// What waits because a table has other columns now says by what statement.
fn tell_altered(altered: &BTreeMap<TableName, String>, contents: &mut Contents) {
    contents.altered.clear();
    for (table, statement) in altered {
        let readers = contents.wanted.readers_of(std::iter::once(table.clone()));
        let mut is_told = false;
        for (_, reason) in contents.waiting.iter_mut().filter(|(name, _)| readers.contains(name)) {
            reason.push_str(&format!(" Table {table} was altered: {statement}"));
            is_told = true;
        }
        if is_told {
            let (schema, table) = (table.schema.clone(), table.name.clone());
            contents.altered.push(Altered { schema, table, statement: statement.clone() });
        }
    }
}

/// The tables of an engine.
pub fn schemas(engine: &Engine) -> Vec<(TableName, Schema)> {
    engine.tables().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect()
}

/// The tables of an engine as they will be when those with other columns have taken the places of those that serve.
pub fn schemas_to_come(engine: &Engine) -> Vec<(TableName, Schema)> {
    engine.tables_to_come().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect()
}

/// Tables without these.
pub fn without(mut tables: Vec<(TableName, Schema)>, left_out: &BTreeSet<TableName>) -> Vec<(TableName, Schema)> {
    tables.retain(|(name, _)| !left_out.contains(name));
    tables
}

/// What cannot be planned of a project and did not wait as it is written already: what waits is not asked to be mended at each
/// change of something else.
pub fn newly_refused(
    refused: Vec<(TableName, plan::Refusal)>,
    wanted: &Definition,
    waiting: &[ModelText],
) -> Vec<(TableName, plan::Refusal)> {
    let text = |name: &TableName| wanted.models.iter().find(|text| text.table_name() == *name);
    let is_known = |name: &TableName| {
        text(name).is_some_and(|new| waiting.iter().any(|old| old.table_name() == *name && old.sql == new.sql))
    };
    refused.into_iter().filter(|(name, _)| !is_known(name)).collect()
}

/// What can be kept of a definition.
pub fn keepable(wanted: &Definition, tables: &[(TableName, Schema)], absent: &[AbsentTable]) -> Keepable {
    let mut waiting: Vec<(TableName, String)> = Vec::new();
    for table in absent {
        for name in wanted.readers_of(std::iter::once(table.name.clone())) {
            if name != table.name && !waiting.iter().any(|(known, _)| *known == name) {
                waiting.push((name, table.reason.clone()));
            }
        }
    }
    let left_out = waiting.iter().map(|(name, _)| name.clone()).collect();
    let readable = wanted.without(&left_out);
    let mut plans = readable.plan(tables);
    for (view, refusal) in crate::views::refused(&readable, tables, &plans.models) {
        // One over what cannot be kept would only say so again.
        if !readable.readers_of(plans.refused.iter().map(|(name, _)| name.clone())).contains(&view) {
            plans.refused.push((view, refusal));
        }
    }
    for (name, refusal) in &plans.refused {
        for reader in wanted.readers_of(std::iter::once(name.clone())) {
            let reason = match reader == *name {
                true => said(refusal),
                false => format!("model {name}, which it reads, cannot be planned"),
            };
            if !waiting.iter().any(|(known, _)| *known == reader) {
                waiting.push((reader, reason));
            }
        }
    }
    let left_out = waiting.iter().map(|(name, _)| name.clone()).collect();
    let definition = wanted.without(&left_out);
    // One that can be planned may still stand on a view that cannot be read.
    plans.models.retain(|model| !left_out.contains(&model.name));
    let models = Arc::new(plans.models);
    let contents = Contents { wanted: wanted.clone(), definition, models, waiting, ..Contents::default() };
    Keepable { contents, refused: plans.refused }
}

fn said(refusal: &plan::Refusal) -> String {
    let parts = [&refusal.message, &refusal.detail, &refusal.hint];
    parts.iter().filter(|part| !part.is_empty()).map(|part| part.as_str()).collect::<Vec<_>>().join(" ")
}

/// What of a project cannot be planned, each at its place.
pub fn findings(setup: &Setup, refused: &[(TableName, plan::Refusal)]) -> Vec<Diagnostic> {
    let found = refused.iter().filter_map(|(name, refusal)| {
        let model = setup.project.models.iter().find(|m| TableName::new(&m.schema, &m.alias) == *name)?;
        Some(left_out(setup, model, refusal).unwrap_or_else(|| finding(model, refusal)))
    });
    found.collect()
}

/// What is said of a model that names a column which a filter leaves out; none where it is something else.
fn left_out(setup: &Setup, model: &project::Model, refusal: &plan::Refusal) -> Option<Diagnostic> {
    let column = refusal.message.strip_prefix("column \"")?.strip_suffix("\" does not exist")?;
    let column = column.rsplit('.').next()?;
    let reason = model.reads.iter().find_map(|read| match read {
        project::Dependency::Source { source, table } => {
            let table = TableName::new(source, table);
            Some((crate::filters::column_left_out(&setup.project, &table, column)?, table))
        }
        project::Dependency::Model(_) => None,
    });
    let (reason, table) = reason?;
    let refusal = plan::Refusal {
        detail: format!("Column \"{column}\" of {table} is {reason}."),
        hint: "Take it out of the filter, or out of the model.".to_owned(),
        ..refusal.clone()
    };
    Some(finding(model, &refusal))
}

fn finding(model: &project::Model, refusal: &plan::Refusal) -> Diagnostic {
    let place = refusal.line.and_then(|(line, column)| model.spans.locate_line(&model.sql, line, column));
    let place = place.unwrap_or_else(|| project::Place::file(&model.file));
    let mut finding = Diagnostic::error(place, format!("model \"{}\": {}", model.name, refusal.message));
    if !refusal.detail.is_empty() {
        finding = finding.detail(refusal.detail.clone());
    }
    if refusal.hint.is_empty() { finding } else { finding.hint(refusal.hint.clone()) }
}

/// How the store shares a memory budget: overlay, hot rows, block cache and the filter over all keys; the rest is for queries and the system.
pub fn store_options(memory: u64) -> store::Options {
    store::Options {
        overlay_bytes: (memory / 8).clamp(64 << 20, 256 << 20),
        hot_bytes: (memory / 16).clamp(32 << 20, 512 << 20),
        cache_bytes: (memory / 8).clamp(32 << 20, 512 << 20),
        filter_bytes: (memory / 32).clamp(16 << 20, 512 << 20),
        ..store::Options::default()
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Half of the machine's memory, and 2 GiB where the system does not say.
pub fn default_memory() -> u64 {
    let total = read_meminfo(Path::new("/proc/meminfo"));
    total.map_or(2 << 30, |bytes| bytes / 2)
}

fn read_meminfo(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// A table that is not there takes the models over it along, and no others; those are planned.
    #[test]
    fn models_over_a_table_that_is_not_there_wait_and_all_others_are_planned() {
        let options = project::Options::default();
        let setup = Setup::from_files(PathBuf::from("demo"), &crate::demo::files(), &options, None);
        let simulator = crate::demo::Simulator::new(&project::SimulatedShop::default());
        let (mut tables, mut absent) = (Vec::new(), Vec::new());
        for table in &setup.project.sources {
            let name = TableName::new(&table.source, &table.name);
            if table.identifier == "refunds" {
                let reason = "it is not there".to_owned();
                absent.push(AbsentTable { source: table.connection.clone(), name, reason });
                continue;
            }
            tables.push((name, simulator.schema(&table.identifier).unwrap()));
        }
        assert_eq!(absent.len(), 1);
        let Keepable { contents, refused } = keepable(&Definition::of(&setup), &tables, &absent);
        let (planned, waiting) = (contents.models, contents.waiting);
        assert_eq!(refused.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(waiting.iter().all(|(_, reason)| reason == "it is not there"));
        let kept: Vec<TableName> = setup.kept_models().map(|m| TableName::new(&m.schema, &m.alias)).collect();
        let missing = kept.iter().filter(|name| !planned.iter().any(|model| model.name == **name));
        let waits = kept.iter().filter(|name| waiting.iter().any(|(waiting, _)| waiting == *name));
        assert!(missing.eq(waits), "{waiting:?}");
        // The one that reads it, and one that reads that.
        assert!(waiting.len() > 1 && waiting.len() < kept.len(), "{waiting:?}");
    }
}
