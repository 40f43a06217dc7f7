//! The store, the engine over it, and the project's models planned and set up in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use connect::ColumnRule;
use engine::operator::Bounds;
use engine::{Difference, Engine, ModelDefinition, Settings};
use plan::TableName;
use project::Diagnostic;
use relation::{Schema, TableId};

use crate::beside::{Threads, behind_the_steps};
use crate::definition::{Altered, Definition, Kept, ModelText, PlannedModel};
use crate::documentation::Documented;
use crate::hold::{Standing, keepable_beside};
use crate::opening::Progress;
use crate::reason::Reason;
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
    /// As text: see [`Reason`].
    pub reason: String,
    /// Its source could not be asked for it yet: that is the source's trouble, and may be over at any time.
    pub is_unasked: bool,
}

/// The project's tables as their sources have them now.
#[derive(Debug, Clone, Default)]
pub struct Described {
    /// Of a source that cannot be asked, none.
    pub tables: Vec<SourceTable>,
    /// About how many rows they have there.
    pub rows: Vec<(TableName, u64)>,
    pub absent: Vec<AbsentTable>,
    /// Why tables that the project does not have, as far as it can be read, are not followed; none where nothing is.
    pub unfollowed: Option<String>,
}

/// How long a start waits for room on a full disk before it tries again.
const ROOM_WAIT: std::time::Duration = std::time::Duration::from_secs(5);
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
    /// Tables that are loaded for the first time, or with other columns, and whose loads do not get on, and why: nothing waits for
    /// them ([`Warehouse::go_without`]).
    late: BTreeMap<TableName, String>,
    /// Those over whose columns of before is proposed: late ones, and what goes together with them.
    left: BTreeSet<TableName>,
    /// Tables that were not there at the start and were never known.
    pub absent: Vec<AbsentTable>,
    /// Models that the project had at the start and that could not be planned.
    pub refused: Vec<(TableName, plan::Refusal)>,
    /// The project says what a rollback has given up: it is not taken until it says something else, or is applied.
    pub is_held_back: bool,
    /// Builds run there; it ends with the warehouse.
    _beside: Threads,
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
    /// Models and views that are kept in the text that served before, and why ([`crate::hold`]).
    pub held: Vec<(TableName, String)>,
    /// Models that could not be built in the text that is wanted, and why.
    pub failing: Vec<(TableName, String)>,
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
        let told = |(name, refusal): &(TableName, plan::Refusal)| {
            (name.clone(), definition.text(name).map(|text| text.told(refusal)).unwrap_or_default())
        };
        let waiting = plans.refused.iter().map(told).collect();
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

    /// What of it can be read.
    pub fn serves(&self) -> Definition {
        let waiting: BTreeSet<TableName> = self.waiting.iter().map(|(name, _)| name.clone()).collect();
        self.definition.without(&waiting)
    }

    /// Tables that something of it reads.
    fn reads(&self) -> impl Iterator<Item = TableName> {
        let of_models = self.models.iter().flat_map(|model| model.planned.flow.tables().into_iter().cloned());
        of_models.chain(self.definition.models.iter().flat_map(ModelText::upstream))
    }

    /// The models and views that people know it by: those that serve, as they do, and those that are wanted and wait.
    pub fn texts(&self) -> impl Iterator<Item = &ModelText> {
        let waits = |text: &&ModelText| {
            let name = text.table_name();
            self.definition.text(&name).is_none() && self.waiting.iter().any(|(waiting, _)| *waiting == name)
        };
        self.definition.models.iter().chain(self.wanted.models.iter().filter(waits))
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

/// A definition planned over tables, by whoever has the time: the pump takes it over as it is, if the tables are still these, and
/// what serves is too.
#[derive(Debug)]
pub struct Proposal {
    pub keepable: Keepable,
    beside: Standing,
    tables: Vec<(TableName, Schema)>,
    absent: Vec<AbsentTable>,
    /// Tables that are stored and no more wanted.
    unwanted: BTreeSet<TableName>,
}

impl Proposal {
    /// Plans a definition beside what serves. Tables that are no more wanted are done without, but for those that something reads
    /// which serves on.
    pub fn of(
        wanted: &Definition,
        beside: Standing,
        tables: Vec<(TableName, Schema)>,
        absent: Vec<AbsentTable>,
        unwanted: BTreeSet<TableName>,
    ) -> Self {
        let few = without(tables.clone(), &unwanted);
        let mut keepable = keepable_beside(wanted, &beside, &few, &absent);
        keepable.contents.unwanted.clone_from(&unwanted);
        let waiting = keepable.contents.waiting.iter();
        let lost: Vec<_> = waiting.filter(|(name, _)| beside.serving.text(name).is_some()).cloned().collect();
        if !lost.is_empty() && !unwanted.is_empty() {
            let refused = keepable.refused;
            keepable = Keepable { refused, ..keepable_beside(wanted, &beside, &tables, &absent) };
            let contents = &mut keepable.contents;
            let read: BTreeSet<TableName> = contents.reads().collect();
            contents.unwanted = unwanted.iter().filter(|name| !read.contains(*name)).cloned().collect();
            let is_said = |held: &[(TableName, String)], name: &TableName| held.iter().any(|(known, _)| known == name);
            let lost: Vec<_> = lost.into_iter().filter(|(name, _)| !is_said(&contents.held, name)).collect();
            contents.held.extend(lost);
        }
        keepable.contents.failing.clone_from(&beside.failing);
        Self { keepable, beside, tables, absent, unwanted }
    }
}

/// Where a rollback went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WentBack {
    ToBefore,
    /// What the rollback before had given up: there are two versions at most.
    ToWhatWasGivenUp,
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
        Self::open_telling(setup, described, &Progress::default())
    }

    /// The same, telling how far it is.
    pub fn open_telling(setup: &Setup, described: &Described, progress: &Progress) -> anyhow::Result<Self> {
        let memory = setup.project.profile.memory.unwrap_or_else(default_memory);
        std::fs::create_dir_all(&setup.data).with_context(|| {
            format!("cannot make the data folder {}: name one that can be written with --data", setup.data.display())
        })?;
        close_to_others(&setup.data);
        let store = store::Store::open(&setup.data.join("store"), store_options(memory))?;
        let query_settings = query::Settings {
            memory_bytes: usize::try_from(memory / 4).unwrap_or(usize::MAX),
            ..query::Settings::default()
        };
        let queries = query::Runtime::new(&query_settings)?;
        let workers = setup.project.profile.workers.unwrap_or_else(default_workers);
        let beside = Threads::beside()?;
        let settings = Settings::new(workers, beside.handle());
        // Never less than rows of the largest documents need.
        let bytes = usize::try_from(memory / 4).unwrap_or(usize::MAX).max(settings.bounds.bytes);
        let bounds = Bounds { bytes, ..settings.bounds };
        let settings = Settings { report_rows_max: REPORT_ROWS_MAX, bounds, ..settings };
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
        let absent = described.absent.iter().cloned().chain(setup.unread_tables());
        let absent: Vec<AbsentTable> = absent.filter(|table| !is_known(&table.name)).collect();
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
        let serving = stored.as_ref().map(|stored| stored.definition.clone()).unwrap_or_default();
        let standing = Standing { serving, failing: Vec::new() };
        let mut new = Proposal::of(wanted, standing, coming, absent.clone(), unwanted);
        let unplanned = if is_held_back { Vec::new() } else { new.keepable.refused.clone() };
        new.keepable.contents.rolled_back = is_held_back.then_some(on_disk);
        let is_altering = engine.tables_to_come().any(|table| table.is_coming);
        let (mut serving, outdated) = match stored {
            Some(stored) if is_altering || stored.definition != new.keepable.contents.definition => {
                let serving = Contents::of_stored(stored, &known);
                for (model, reason) in &serving.waiting {
                    tracing::warn!(%model, reason = %Reason::of(reason).line(), "cannot be kept any more");
                }
                (serving, Some(new))
            }
            Some(_) | None => (new.keepable.contents, None),
        };
        tell_altered(&altered, &Contents::default(), &mut serving);
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
        let replayed = engine.recover_telling(|read, of| progress.replayed(read, of))?;
        tracing::info!(steps = replayed, "log replayed");
        let mut parkings = match &described.unfollowed {
            Some(reason) => park_unfollowed(&engine, setup, reason),
            None => Vec::new(),
        };
        loop {
            match engine.take(&mut parkings) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(engine::Error::Store(error)) if error.is_disk_full() => {
                    tracing::error!(%error, hint = error.hint(), "the start waits until there is room");
                    engine.store().wait_for_space(ROOM_WAIT)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self {
            engine,
            queries,
            serving,
            coming: None,
            before,
            outdated,
            stalled: None,
            altered,
            late: BTreeMap::new(),
            left: BTreeSet::new(),
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
        self.coming.is_none() && self.is_altering(&self.left)
    }

    /// Whether tables but these are to be put in place with other columns.
    fn is_altering(&self, left: &BTreeSet<TableName>) -> bool {
        self.engine.tables_to_come().any(|table| table.is_coming && !left.contains(&table.name))
    }

    /// Whether there are loads that nothing waits for.
    pub fn goes_without(&self) -> bool {
        !self.late.is_empty()
    }

    /// Notes which loads do not get on, of those that something may wait for, by `told`; one that was noted is until it has come
    /// to its end. Answers whether these are others than before: then what is wanted is to be proposed again.
    pub fn go_without(&mut self, told: &BTreeMap<TableId, String>) -> bool {
        let is_open = |table: &&engine::SourceTable| match table.is_coming {
            true => !table.load.is_done() && table.load.is_followed(),
            false => !table.load.was_whole() && table.load.is_followed(),
        };
        let open = self.engine.tables_to_come().filter(is_open);
        let late: BTreeMap<TableName, String> = open
            .filter_map(|table| {
                let reason = told.get(&table.id).or_else(|| self.late.get(&table.name))?;
                Some((table.name.clone(), reason.clone()))
            })
            .collect();
        let is_other = !late.keys().eq(self.late.keys());
        self.late = late;
        is_other
    }

    /// Proposes again what is wanted, over the tables there are by now.
    pub fn propose_again(&mut self) -> anyhow::Result<Proposed> {
        let serving = &self.serving;
        let (wanted, rolled_back, unwanted) = match (&self.coming, &self.stalled) {
            (Some((coming, _)), _) => (&coming.wanted, coming.rolled_back.clone(), &coming.unwanted),
            (None, Some((stalled, unwanted))) => (stalled, None, unwanted),
            (None, None) => (&serving.wanted, serving.rolled_back.clone(), &serving.unwanted),
        };
        let (wanted, unwanted, beside) = (wanted.clone(), unwanted.clone(), self.beside(Vec::new()));
        let tables = schemas_over(&self.engine, &self.late_altered());
        let mut proposal = Proposal::of(&wanted, beside, tables, self.absent.clone(), unwanted);
        proposal.keepable.contents.rolled_back = rolled_back;
        self.propose(proposal)
    }

    /// Proposes what is coming again, but for models that could not be built: these serve on as they are. Where they do not serve,
    /// or fail so as well, all is refused.
    pub fn propose_without(&mut self, failed: Vec<(TableName, String)>) -> anyhow::Result<Proposed> {
        let Some((coming, _)) = &self.coming else { return Ok(Proposed::Refused(told(&failed))) };
        let is_new = |(name, _): &(TableName, String)| {
            self.serving.keeps(name) && !coming.failing.iter().any(|(known, _)| known == name)
        };
        if !failed.iter().any(is_new) {
            return Ok(Proposed::Refused(told(&failed)));
        }
        let (wanted, unwanted, rolled_back) =
            (coming.wanted.clone(), coming.unwanted.clone(), coming.rolled_back.clone());
        let failing: Vec<_> = coming.failing.iter().cloned().chain(failed).collect();
        let (beside, tables) = (self.beside(failing), schemas_over(&self.engine, &self.left));
        let mut proposal = Proposal::of(&wanted, beside, tables, self.absent.clone(), unwanted);
        proposal.keepable.contents.rolled_back = rolled_back;
        self.propose(proposal)
    }

    /// What serves, beside which something is proposed.
    pub fn beside(&self, failing: Vec<(TableName, String)>) -> Standing {
        Standing { serving: self.serving.serves(), failing }
    }

    /// Sets up what can be kept of a definition beside what serves: it is built by and by. What was coming is given up.
    ///
    /// What serves is not taken away because its new text cannot be kept: it is held in the text that serves. Where that is not
    /// possible the whole is refused. Where a table has other columns now, though, what cannot be kept over these goes: it would
    /// show for ever what was.
    pub fn propose(&mut self, proposal: Proposal) -> anyhow::Result<Proposed> {
        let mut left = self.late_altered();
        let mut proposal = self.as_of_now(proposal, &left);
        let (is_altering, taken_away) = loop {
            let new = &proposal.keepable.contents;
            let taken_away = new.waiting.iter().filter(|(name, _)| self.serving.keeps(name)).cloned();
            let taken_away: Vec<(TableName, String)> = taken_away.collect();
            let bound = self.bound(&taken_away, &new.wanted, &left);
            if bound.is_empty() {
                break (self.is_altering(&left), taken_away);
            }
            left.extend(bound);
            proposal = self.as_of_now(proposal, &left);
        };
        let Proposal { absent, keepable, .. } = proposal;
        let mut new = keepable.contents;
        tell_altered(&self.altered, &self.serving, &mut new);
        if !taken_away.is_empty() && !is_altering {
            return Ok(Proposed::Refused(told(&taken_away)));
        }
        // The engine gives up what was coming when it has the new models: those that are in both keep what was built of them.
        self.coming = None;
        let label = new.label()?;
        let unwaited = self.unwaited(&left);
        self.left = left;
        let (difference, refused) = self.engine.propose_without(new.definitions(), label.clone(), unwaited)?;
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

    /// Tables with other columns that nothing waits for.
    fn late_altered(&self) -> BTreeSet<TableName> {
        let coming = self.engine.tables_to_come().filter(|table| table.is_coming);
        coming.filter(|table| self.late.contains_key(&table.name)).map(|table| table.name.clone()).collect()
    }

    /// A proposal over the tables that there are now, but for the columns of these that they are to have, and beside what serves now.
    /// A model that serves and whose new text reads a table that is late serves on in its older text.
    fn as_of_now(&self, proposal: Proposal, left: &BTreeSet<TableName>) -> Proposal {
        let tables = schemas_over(&self.engine, left);
        let mut beside = self.beside(proposal.beside.failing.clone());
        for (name, reason) in self.waits_for_loads(&proposal.keepable.contents.wanted) {
            if !beside.failing.iter().any(|(known, _)| *known == name) {
                beside.failing.push((name, reason));
            }
        }
        if proposal.tables == tables && proposal.beside == beside {
            return proposal;
        }
        let is_new = |table: &AbsentTable| !tables.iter().any(|(known, _)| *known == table.name);
        let absent = proposal.absent.into_iter().filter(is_new).collect();
        let old = proposal.keepable.contents;
        let mut again = Proposal::of(&old.wanted, beside, tables, absent, proposal.unwanted);
        again.keepable.contents.rolled_back = old.rolled_back;
        again
    }

    /// Models that serve and could not be built as they are wanted, since the first load of a table does not get on.
    fn waits_for_loads(&self, wanted: &Definition) -> Vec<(TableName, String)> {
        let altered = self.late_altered();
        let live = self.engine.models().into_iter().filter(|model| model.state == engine::ModelState::Live);
        let live: BTreeSet<TableName> = live.map(|model| model.name.clone()).collect();
        let mut found = Vec::new();
        for (table, reason) in self.late.iter().filter(|(table, _)| !altered.contains(*table)) {
            let readers = wanted.readers_of(std::iter::once(table.clone()));
            let reason = format!("table {table} was never loaded: {reason}");
            found.extend(readers.intersection(&live).map(|name| (name.clone(), reason.clone())));
        }
        found
    }

    /// Tables that go together with those that are left as they are: models that serve would be lost over the columns of now of the
    /// ones and those of before of the others.
    fn bound(
        &self,
        taken_away: &[(TableName, String)],
        wanted: &Definition,
        left: &BTreeSet<TableName>,
    ) -> BTreeSet<TableName> {
        if left.is_empty() || taken_away.is_empty() {
            return BTreeSet::new();
        }
        let serving = self.serving.serves();
        let reads = |model: &TableName, table: &TableName| {
            let is_reader = |of: &Definition| of.readers_of(std::iter::once(table.clone())).contains(model);
            is_reader(wanted) || is_reader(&serving)
        };
        let coming = self.engine.tables_to_come().filter(|table| table.is_coming && !left.contains(&table.name));
        let coming: Vec<TableName> = coming.map(|table| table.name.clone()).collect();
        let stuck = taken_away.iter().filter(|(model, _)| left.iter().any(|table| reads(model, table)));
        stuck.flat_map(|(model, _)| coming.iter().filter(|table| reads(model, table)).cloned()).collect()
    }

    /// The tables whose loads a version does not wait for.
    fn unwaited(&self, left: &BTreeSet<TableName>) -> BTreeSet<TableId> {
        let tables = self.engine.tables_to_come();
        tables.filter(|of| left.contains(&of.name) || self.late.contains_key(&of.name)).map(|of| of.id).collect()
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
            self.forget_settled();
        }
        Ok(())
    }

    /// What was altered and is in place by now, with nothing that waits for it, is no reason of anything that comes.
    fn forget_settled(&mut self) {
        let (engine, told) = (&self.engine, &self.serving.altered);
        self.altered.retain(|name, _| {
            let is_coming = engine.tables_to_come().any(|table| table.is_coming && table.name == *name);
            is_coming || told.iter().any(|of| of.table_name() == *name)
        });
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

    /// Goes back to what served before; none if there is nothing. What is given up is not taken again by a start while the
    /// project says just this; going back to what a rollback gave up gives up nothing.
    pub fn rollback(&mut self) -> anyhow::Result<Option<WentBack>> {
        if !self.engine.rollback()? {
            return Ok(None);
        }
        let mut went = WentBack::ToBefore;
        self.coming = None;
        self.stalled = None;
        if let Some(before) = self.before.take() {
            let given_up = std::mem::replace(&mut self.serving, before);
            let is_undone = given_up.rolled_back.as_ref() == Some(&self.serving.wanted);
            // What was given up before it was in place is newer still.
            let newest = given_up.rolled_back.clone().unwrap_or_else(|| given_up.wanted.clone());
            self.before = Some(given_up);
            self.hold_back((!is_undone).then_some(newest))?;
            if is_undone {
                went = WentBack::ToWhatWasGivenUp;
            }
        }
        Ok(Some(went))
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
        tell_altered(&self.altered, &self.serving, &mut new);
        if let Some((coming, _)) = &mut self.coming {
            (coming.wanted, coming.waiting, coming.held) = (new.wanted, new.waiting, new.held);
            coming.unwanted = new.unwanted;
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
        for table in self.engine.tables() {
            if let engine::Load::Parked { reason, whole: false } = &table.load {
                let name = &table.name;
                let reason = Reason::of(reason).behind(&format!("table {name} is parked and was never loaded: "));
                let reason = reason.hinting(&format!(
                    "`tidemill doctor` says what its source needs, `tidemill resnapshot {name}` loads it; its state is in tidemill.tables."
                ));
                catalog.add_unavailable(name.clone(), not_ready(reason));
            }
        }
        for (name, said) in self.serving.definition.documentation.iter().map(Documented::shown) {
            catalog.document(name, said);
        }
        catalog
    }

    /// What is known and cannot be read yet, and what to tell whoever reads it: models that wait, those that are coming, and
    /// tables that are not there.
    pub fn unreadable(&self) -> Vec<(TableName, query::Error)> {
        let mut found = Vec::new();
        let mut say = |name: &TableName, reason: Reason, hint: &str| {
            let is_served =
                self.serving.keeps(name) && !self.serving.waiting.iter().any(|(waiting, _)| waiting == name);
            let is_said = found.iter().any(|(known, _)| known == name);
            if !is_served && !is_said {
                found.push((name.clone(), not_ready(reason.hinting(hint))));
            }
        };
        let mut add = |name: &TableName, reason: Reason| say(name, reason, "Its state is in tidemill.models.");
        let coming = self.coming.as_ref().map(|(coming, _)| coming);
        for new in coming.into_iter().chain(self.outdated.as_ref().map(|proposal| &proposal.keepable.contents)) {
            for text in &new.definition.models {
                add(&text.table_name(), Reason::from(format!("model \"{}\" is being built", text.name)));
            }
        }
        for (name, reason) in &self.serving.waiting {
            add(name, Reason::of(reason).behind(&format!("model \"{}\" is parked: ", name.name)));
        }
        for table in &self.absent {
            let reason = Reason::of(&table.reason).behind(&format!("table {} is parked: ", table.name));
            say(&table.name, reason, "Its state is in tidemill.tables.");
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

/// What is told whoever reads what cannot be read yet.
fn not_ready(reason: Reason) -> query::Error {
    let error = query::Error::not_ready(reason.message).hint(reason.hint);
    if reason.detail.is_empty() { error } else { error.detail(reason.detail) }
}

/// Models and why something is so of them, a text each.
pub fn told(of: &[(TableName, String)]) -> Vec<String> {
    of.iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
}

/// Why a table is not followed that something still reads.
pub const NOT_DECLARED: &str =
    "no source of the project has it any more, so it is not followed: declare it again, or change what reads it";

/// Tables that the project does not have, or of which it cannot be read how they are read: their sources go on without them, so
/// that their content is in doubt from now on, also where they are declared again. A source whose connection has a mistake does not
/// go on: what there is of it is what it was.
fn park_unfollowed(engine: &Engine, setup: &Setup, reason: &str) -> Vec<engine::Input> {
    let broken = &setup.project.broken_connections;
    let still: BTreeSet<u32> = broken.keys().filter_map(|source| engine.source(source)).collect();
    let goes_on = |table: &&engine::SourceTable| !still.contains(&table.source) && !setup.reads_table(&table.name);
    let unfollowed = engine.tables_to_come().filter(goes_on);
    let is_followed = |table: &&engine::SourceTable| table.load.is_followed();
    unfollowed
        .filter(is_followed)
        .map(|table| engine::Input::Park { table: table.id, reason: reason.to_owned() })
        .collect()
}

/// What waits because a table has other columns now says by what statement. What has waited before, for the same reason, says what
/// it said then: tables that were altered since are no cause of it.
fn tell_altered(altered: &BTreeMap<TableName, String>, before: &Contents, contents: &mut Contents) {
    let mut told: BTreeMap<TableName, String> = BTreeMap::new();
    let readers: Vec<(&TableName, &String, BTreeSet<TableName>)> = altered
        .iter()
        .map(|(table, statement)| (table, statement, contents.wanted.readers_of(std::iter::once(table.clone()))))
        .collect();
    let wanted = &contents.wanted;
    for (name, text) in &mut contents.waiting {
        let mut reason = Reason::of(text);
        let said = before.waiting.iter().find(|(waited, _)| waited == name).map(|(_, said)| Reason::of(said));
        // For the same reason: by then no more was said of it than what was altered.
        let said = said.filter(|said| {
            (&said.message, &said.hint) == (&reason.message, &reason.hint) && said.detail.starts_with(&reason.detail)
        });
        for (table, statement, _) in readers.iter().filter(|(_, _, readers)| readers.contains(name)) {
            let line = format!("Table {table} was altered: {statement}");
            let is_why = match &said {
                Some(said) => said.detail.contains(&line),
                None => is_of_statement(&reason.message, statement) || is_of_tables(name, &reason, before, wanted),
            };
            if !is_why {
                continue;
            }
            reason = reason.and(&line);
            told.insert((*table).clone(), (*statement).clone());
        }
        *text = reason.to_string();
    }
    let of = |(table, statement): (TableName, String)| Altered { schema: table.schema, table: table.name, statement };
    contents.altered = told.into_iter().map(of).collect();
}

/// Whether a name that a message quotes stands in a statement too.
fn is_of_statement(message: &str, statement: &str) -> bool {
    let names = message.split('"').skip(1).step_by(2).filter_map(|name| name.rsplit('.').next());
    let is_in = |name: &str| {
        let words = statement.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
        !name.is_empty() && words.into_iter().any(|word| word.eq_ignore_ascii_case(name))
    };
    names.into_iter().any(is_in)
}

/// Whether a model waits for what has become of its tables: it cannot be planned, and says what it said before, as does all that it reads.
fn is_of_tables(name: &TableName, reason: &Reason, before: &Contents, wanted: &Definition) -> bool {
    let is_as_before = |text: &ModelText| {
        let name = text.table_name();
        let known = before.wanted.text(&name).or_else(|| before.definition.text(&name));
        known.is_some_and(|known| known.is_same(text))
    };
    let (mut left, mut seen) = (vec![name.clone()], BTreeSet::new());
    while let Some(name) = left.pop() {
        let Some(text) = wanted.text(&name).filter(|_| seen.insert(name.clone())) else { continue };
        if !is_as_before(text) {
            return false;
        }
        left.extend(text.upstream());
    }
    // A table that cannot be read is told without a place.
    reason.message.contains(".sql:")
}

/// The tables of an engine.
pub fn schemas(engine: &Engine) -> Vec<(TableName, Schema)> {
    engine.tables().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect()
}

/// The tables of an engine as they will be when those with other columns have taken the places of those that serve.
pub fn schemas_to_come(engine: &Engine) -> Vec<(TableName, Schema)> {
    engine.tables_to_come().filter_map(|t| Some((t.name.clone(), engine.relation(t.id)?.schema.clone()))).collect()
}

/// As [`schemas_to_come`], but for these tables, which are as they serve.
fn schemas_over(engine: &Engine, left: &BTreeSet<TableName>) -> Vec<(TableName, Schema)> {
    let serving = schemas(engine);
    let as_it_serves =
        |name: &TableName| serving.iter().find(|(known, _)| known == name && left.contains(name)).cloned();
    schemas_to_come(engine).into_iter().map(|table| as_it_serves(&table.0).unwrap_or(table)).collect()
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
    for text in &wanted.models {
        text.broken.iter().for_each(|why| wait(wanted, &text.table_name(), why, &mut waiting));
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
        let why = wanted.text(name).map(|text| text.told(refusal)).unwrap_or_default();
        wait(wanted, name, &why, &mut waiting);
    }
    let left_out = waiting.iter().map(|(name, _)| name.clone()).collect();
    let definition = wanted.without(&left_out);
    // One that can be planned may still stand on a view that cannot be read.
    plans.models.retain(|model| !left_out.contains(&model.name));
    let models = Arc::new(plans.models);
    let contents = Contents { wanted: wanted.clone(), definition, models, waiting, ..Contents::default() };
    Keepable { contents, refused: plans.refused }
}

/// Notes of a model why it waits, and of its readers that they wait for it.
fn wait(wanted: &Definition, name: &TableName, why: &str, waiting: &mut Vec<(TableName, String)>) {
    for reader in wanted.readers_of(std::iter::once(name.clone())) {
        let reason = match reader == *name {
            true => why.to_owned(),
            false => format!("model {name}, which it reads, cannot be kept: {why}"),
        };
        if !waiting.iter().any(|(known, _)| *known == reader) {
            waiting.push((reader, reason));
        }
    }
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

/// A data folder that others may look into is closed to them: one that was made by an older Tidemill, or by hand. One that is not ours
/// to change stays as it is.
fn close_to_others(data: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(about) = std::fs::metadata(data) else { return };
    let mode = about.permissions().mode();
    if mode & 0o077 != 0 {
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(mode & !0o077)).ok();
    }
}

/// How the store shares a memory budget: overlay, hot rows, block cache and the filter over all keys; the rest is for queries and the system.
pub fn store_options(memory: u64) -> store::Options {
    store::Options {
        overlay_bytes: (memory / 8).clamp(64 << 20, 256 << 20),
        hot_bytes: (memory / 16).clamp(32 << 20, 512 << 20),
        cache_bytes: (memory / 8).clamp(32 << 20, 512 << 20),
        filter_bytes: (memory / 32).clamp(16 << 20, 512 << 20),
        behind: behind_the_steps,
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
                absent.push(AbsentTable { source: table.connection.clone(), name, reason, is_unasked: false });
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
