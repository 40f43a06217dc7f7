//! Models that change while others are kept: the version that serves, the one that is coming, and the one before.
//!
//! A version is a list of models. Its new ones are set up beside those that serve ([`Engine::propose`]), built while the
//! steps go on, and kept by them from then on. When all are there the version is put in place between two steps
//! ([`Engine::swap`]): the names mean its models from then on, all at once. The version before is kept as well, so that going
//! back ([`Engine::rollback`]) is a matter of names again; it goes when the next version is put in place. Models, and nodes of
//! models, that are equal in two versions are the same ones, with the same states.
//!
//! Where a table's columns have changed, a version is proposed over the incarnations that are coming ([`crate::incarnations`]).
//! It is ready when these are loaded, and they are put in place with it; what served before cannot be gone back to then, as
//! its tables are gone. A load that does not get on need not be waited for ([`Engine::propose_without`]): the version stands on the
//! incarnation that serves then, and the other one goes on to come.
//!
//! A version carries a label: its definition in the words of whoever proposed it, kept with the facts, so that after a restart
//! what served serves again, whatever the project says by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use plan::TableName;
use relation::TableId;
use store::{Kind, Writes};

use crate::build::Missing;
use crate::engine::{Engine, Model, ModelDefinition, ModelState};
use crate::error::{Error, Result};
use crate::graph::{NodeIndex, Surroundings, model_relation};
use crate::load::Load;
use crate::network::{Network, edit};
use crate::outbox::Outbox;
use crate::states::{BUILDING, BUILT, StateCatalog};
use crate::step::parked_key;
use crate::stored::Stored;

/// Models that belong together, each after those it reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Version {
    label: Vec<u8>,
    models: Vec<usize>,
    /// Incarnations that take the places of those that serve when this version does.
    tables: Vec<TableId>,
    /// Tables whose loads it does not wait for.
    unwaited: BTreeSet<TableId>,
}

/// The versions that are kept.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    serving: Version,
    coming: Option<Version>,
    before: Option<Version>,
}

impl Versions {
    /// Whether the version that is coming stands on this incarnation.
    pub(crate) fn coming_over(&self, table: TableId) -> bool {
        self.coming.as_ref().is_some_and(|version| version.tables.contains(&table))
    }
}

/// Models that could not be set up, and why; the others are kept.
pub type Refused = Vec<(TableName, Error)>;

/// How a version that was proposed is getting on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coming {
    /// Nothing was proposed, or it is in place.
    Nothing,
    /// Some of its models are not built yet, or of its tables not loaded: how many, of how many.
    Building { left: usize, of: usize },
    /// It can be put in place. Models of it that have never served may have failed, or wait: they do so in their places.
    Ready,
    /// Models that serve and cannot be built as they are wanted, and why: put in place it would take them away.
    Failed(Vec<(TableName, String)>),
}

/// What proposed models come to, compared with those that serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Models that are not there yet.
    pub added: Vec<TableName>,
    /// Models whose rows come of another definition, their own or one below them.
    pub changed: Vec<TableName>,
    /// Models that are no longer wanted.
    pub removed: Vec<TableName>,
    /// Models that stay as they are, with all their states.
    pub kept: Vec<TableName>,
}

const AGAIN: &[u8] = b"again\0";
const SERVING: &[u8] = b"version\0serving";
const BEFORE: &[u8] = b"version\0before";

impl Engine {
    /// The models to keep from the start, each after those it reads. States whose identity is known are kept, others will be
    /// built; states that no version has any more are dropped by [`Engine::recover`].
    ///
    /// A model that cannot be set up is answered with its error; the others are kept.
    pub fn set_models(&mut self, definitions: Vec<ModelDefinition>) -> Result<Refused> {
        self.set_version(definitions, Vec::new())
    }

    /// As [`Engine::set_models`], with the version's label.
    pub fn set_version(&mut self, definitions: Vec<ModelDefinition>, label: Vec<u8>) -> Result<Refused> {
        let (models, refused) = self.add_models(definitions, &[]);
        if !label.is_empty() {
            self.setup.put(self.facts, SERVING, &label);
        }
        self.versions.serving = Version { label, models, ..Version::default() };
        edit(&mut self.network).graph.refresh_active();
        Ok(refused)
    }

    /// The version before the one that serves, as it was when this folder was left: call between [`Engine::set_version`] and
    /// [`Engine::recover`]. What of it cannot be set up is not kept.
    pub fn set_before(&mut self, definitions: Vec<ModelDefinition>, label: Vec<u8>) {
        let (models, refused) = self.add_models(definitions, &[]);
        if refused.is_empty() {
            self.versions.before = Some(Version { label, models, ..Version::default() });
        } else {
            self.setup.delete(self.facts, BEFORE);
        }
        edit(&mut self.network).graph.refresh_active();
    }

    /// Sets up a version beside the one that serves, over the tables as they will be ([`Engine::tables_to_come`]). An earlier
    /// one that was coming is given up.
    pub fn propose(&mut self, definitions: Vec<ModelDefinition>, label: Vec<u8>) -> Result<(Difference, Refused)> {
        self.propose_without(definitions, label, BTreeSet::new())
    }

    /// As [`Engine::propose`], but over those that serve of these tables, whose loads it does not wait for. A model that never
    /// served, and stands on one that was never whole, takes its place as it is.
    pub fn propose_without(
        &mut self,
        definitions: Vec<ModelDefinition>,
        label: Vec<u8>,
        unwaited: BTreeSet<TableId>,
    ) -> Result<(Difference, Refused)> {
        self.versions.coming = None;
        let coming = self.network.tables.values().filter(|table| table.is_coming && !unwaited.contains(&table.id));
        let tables: Vec<TableId> = coming.map(|table| table.id).collect();
        let (models, refused) = self.add_models(definitions, &tables);
        let difference = self.difference(&models);
        self.versions.coming = Some(Version { label, models, tables, unwaited });
        self.drop_unwanted();
        self.refresh_models();
        edit(&mut self.network).graph.refresh_active();
        Ok((difference, refused))
    }

    /// Gives up the version that is coming.
    pub fn withdraw(&mut self) {
        self.versions.coming = None;
        self.drop_unwanted();
    }

    fn difference(&self, models: &[usize]) -> Difference {
        let mut difference = Difference::default();
        let name = |number: &usize| self.network.models[*number].name.clone();
        let serving = &self.versions.serving.models;
        for number in models {
            if serving.contains(number) {
                difference.kept.push(name(number));
            } else if serving.iter().any(|old| name(old) == name(number)) {
                difference.changed.push(name(number));
            } else {
                difference.added.push(name(number));
            }
        }
        let is_gone = |old: &&usize| !models.iter().any(|new| name(new) == name(old));
        difference.removed = serving.iter().filter(is_gone).map(name).collect();
        difference
    }

    /// How the proposed version is getting on.
    pub fn coming(&self) -> Coming {
        let Some(version) = &self.versions.coming else { return Coming::Nothing };
        // A model that serves already may be as ill in the new version as it is in the old one.
        let new = version.models.iter().filter(|number| !self.versions.serving.models.contains(number));
        let new: Vec<&Model> = new.map(|&number| &self.network.models[number]).collect();
        let serves = |name: &TableName| {
            let mut serving = self.versions.serving.models.iter().map(|&number| &self.network.models[number]);
            serving.any(|model| model.name == *name && model.state == ModelState::Live)
        };
        let failed = new.iter().filter_map(|model| match &model.state {
            ModelState::Parked { reason } | ModelState::Failed { reason } | ModelState::Waiting { reason }
                if serves(&model.name) =>
            {
                Some((model.name.clone(), reason.clone()))
            }
            _ => None,
        });
        let tables: Vec<_> = version.tables.iter().filter_map(|id| self.network.tables.get(id)).collect();
        let parked = tables.iter().filter_map(|table| match &table.load {
            Load::Parked { reason, .. } => Some((table.name.clone(), reason.clone())),
            _ => None,
        });
        let failed: Vec<_> = failed.chain(parked).collect();
        if !failed.is_empty() {
            return Coming::Failed(failed);
        }
        let is_waited_for = |model: &&&Model| {
            let mut missing = self.network.missing(model.sink).into_iter();
            let stands_on = |part| matches!(part, Missing::Table(table) if version.unwaited.contains(&table));
            model.state == ModelState::Building && (serves(&model.name) || !missing.any(stands_on))
        };
        let unbuilt = new.iter().filter(is_waited_for).count();
        match unbuilt + tables.iter().filter(|table| !table.load.is_done()).count() {
            0 => Coming::Ready,
            left => Coming::Building { left, of: new.len() + tables.len() },
        }
    }

    /// Puts the proposed version in place, and the incarnations that it was proposed over; false if there is none, or one of
    /// these is not loaded.
    pub fn swap(&mut self) -> Result<bool> {
        // What a chain has still to run belongs to the version that serves when it ends.
        self.settle()?;
        let is_loaded = |id: &TableId| self.network.tables.get(id).is_some_and(|table| table.load.is_done());
        let coming = self.versions.coming.take_if(|coming| coming.tables.iter().all(is_loaded));
        let Some(mut coming) = coming else { return Ok(false) };
        let tables = std::mem::take(&mut coming.tables);
        let old = std::mem::replace(&mut self.versions.serving, coming);
        // What stood on the old incarnations cannot be gone back to.
        self.versions.before = tables.is_empty().then_some(old);
        self.drop_unwanted();
        self.put_in_place(&tables)?;
        self.aim_outboxes();
        self.write_versions()?;
        self.store_aims()?;
        Ok(true)
    }

    /// Puts the version before in place again; false if there is none. The one that served is kept as the one before.
    pub fn rollback(&mut self) -> Result<bool> {
        self.settle()?;
        let Some(before) = self.versions.before.take() else { return Ok(false) };
        self.versions.coming = None;
        let old = std::mem::replace(&mut self.versions.serving, before);
        self.versions.before = Some(old);
        self.drop_unwanted();
        self.aim_outboxes();
        self.write_versions()?;
        self.store_aims()?;
        Ok(true)
    }

    /// Whether there is a version to go back to.
    pub fn has_before(&self) -> bool {
        self.versions.before.is_some()
    }

    /// Gives the version that serves another label: one that says the same in other words.
    pub fn relabel(&mut self, label: Vec<u8>) -> Result<()> {
        self.versions.serving.label = label;
        self.write_versions()
    }

    /// Tables that are read by the models that serve or are coming, or by those of the version before as well.
    pub(crate) fn tables_read(&self, with_before: bool) -> BTreeSet<TableName> {
        let before = self.versions.before.as_ref().filter(|_| with_before);
        let versions = [Some(&self.versions.serving), self.versions.coming.as_ref(), before];
        let models = versions.into_iter().flatten().flat_map(|version| &version.models);
        models.flat_map(|&number| self.network.models[number].flow.tables().into_iter().cloned()).collect()
    }

    /// There is nothing to go back to any more.
    pub(crate) fn forget_before(&mut self) {
        self.versions.before = None;
        self.drop_unwanted();
    }

    pub(crate) fn write_versions(&mut self) -> Result<()> {
        let mut writes = Writes::new();
        writes.put(self.facts, SERVING, &self.versions.serving.label);
        match &self.versions.before {
            Some(before) => writes.put(self.facts, BEFORE, &before.label),
            None => writes.delete(self.facts, BEFORE),
        }
        // As the names that they are of are others by now, they are kept until the store has them.
        self.defer(writes);
        self.commit_unlogged(Writes::new())
    }

    /// The label of the version that serves, as it was when this folder was left; none in a new one.
    pub fn serving_label(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.store.working().get(self.facts, SERVING)?.map(|label| label.to_vec()))
    }

    /// The label of the version before it.
    pub fn before_label(&self) -> Result<Option<Vec<u8>>> {
        Ok(self.store.working().get(self.facts, BEFORE)?.map(|label| label.to_vec()))
    }

    /// The models that serve, in the order of their dependence.
    pub fn models(&self) -> Vec<&Model> {
        self.versions.serving.models.iter().map(|&number| &self.network.models[number]).collect()
    }

    /// Numbers of all models that are kept: those that serve first.
    pub(crate) fn kept_models(&self) -> Vec<usize> {
        let versions = [Some(&self.versions.serving), self.versions.coming.as_ref(), self.versions.before.as_ref()];
        let mut numbers: Vec<usize> = Vec::new();
        for number in versions.into_iter().flatten().flat_map(|version| version.models.iter().copied()) {
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    }

    /// Begins parked nodes again: new nodes with new states take the places of those that failed and of all that reads
    /// them, and are built like any others. Answers with whether there were any.
    pub fn heal(&mut self) -> Result<bool> {
        let mut writes = Writes::new();
        let parked: Vec<NodeIndex> = self.parked_roots();
        let failed = self.kept_models().into_iter();
        let failed: Vec<usize> = failed.filter(|&number| self.network.models[number].has_failed()).collect();
        if parked.is_empty() && failed.is_empty() {
            return Ok(false);
        }
        for number in failed {
            edit(&mut self.network).models[number].state = ModelState::Building;
        }
        for node in parked {
            let identity = self.network.graph.nodes[node].base.clone();
            let times = self.again.entry(identity.clone()).or_insert(0);
            *times += 1;
            writes.put(self.facts, &[AGAIN, identity.as_bytes()].concat(), &times.to_le_bytes());
            writes.delete(self.facts, &parked_key(&self.network.graph.nodes[node].identity));
        }
        self.defer(writes);
        let versions = std::mem::take(&mut self.versions);
        self.versions = Versions {
            serving: self.begun_again(versions.serving),
            coming: versions.coming.map(|version| self.begun_again(version)),
            before: versions.before.map(|version| self.begun_again(version)),
        };
        self.drop_unwanted();
        self.refresh_models();
        edit(&mut self.network).graph.refresh_active();
        Ok(true)
    }

    /// Why nodes are parked, and which: those that failed themselves.
    fn parked_roots(&self) -> Vec<NodeIndex> {
        let nodes = &self.network.graph.nodes;
        let is_root = |node: &crate::graph::Node| {
            node.wanted && node.parked.is_some() && node.inputs.iter().all(|&input| nodes[input].parked.is_none())
        };
        (0..nodes.len()).filter(|&index| is_root(&nodes[index])).collect()
    }

    fn begun_again(&mut self, version: Version) -> Version {
        let definitions = version.models.iter().map(|&number| self.network.models[number].definition()).collect();
        let (models, _) = self.add_models(definitions, &version.tables);
        Version { models, ..version }
    }

    /// The versions' facts of a folder.
    pub(crate) fn load_versions(&mut self) -> Result<()> {
        for entry in self.store.working().scan(self.facts, AGAIN) {
            let (key, times) = entry?;
            let times = (*times).try_into().map_err(|_| Error::Broken {
                node: "facts".to_owned(),
                what: "how often a node was begun again cannot be read",
            })?;
            let identity = String::from_utf8_lossy(&key[AGAIN.len()..]).into_owned();
            self.again.insert(identity, u64::from_le_bytes(times));
        }
        Ok(())
    }

    /// Models of definitions, in their order, over the tables that serve and, before those, these that are coming: models that
    /// are known already, by all that they stand on, are the same ones.
    fn add_models(&mut self, definitions: Vec<ModelDefinition>, coming: &[TableId]) -> (Vec<usize>, Refused) {
        let mut writes = Writes::new();
        let mut models = Vec::new();
        let mut refused = Vec::new();
        for definition in definitions {
            let name = definition.name.clone();
            match self.add_model(definition, &models, coming, &mut writes) {
                Ok(number) => models.push(number),
                Err(error) => refused.push((name, error)),
            }
        }
        self.defer(writes);
        (models, refused)
    }

    fn add_model(
        &mut self,
        definition: ModelDefinition,
        beside: &[usize],
        coming: &[TableId],
        writes: &mut Writes,
    ) -> Result<usize> {
        let network = edit(&mut self.network);
        let name = definition.name.clone();
        let number = network.models.len();
        let names: BTreeMap<TableName, (TableId, Option<NodeIndex>)> = definition
            .flow
            .tables()
            .into_iter()
            .filter_map(|table| Some((table.clone(), network.resolve(table, beside, coming)?)))
            .collect();
        let resolve = |wanted: &TableName| names.get(wanted).copied();
        let mut states = StateCatalog { catalog: &mut self.catalog, writes, wanted: BTreeSet::new() };
        let mut around = Surroundings {
            relations: &mut network.relations,
            resolve: &resolve,
            states: &mut states,
            again: &self.again,
        };
        let placed = network.graph.add(number, &name, &definition.flow, &mut around)?;
        let output = placed[definition.flow.output.0];
        // What the columns are called is of the model alone: the nodes below know them by their places.
        let columns: Vec<&str> = definition.schema.columns.iter().map(|column| column.name.as_str()).collect();
        let base = format!("model {name} {columns:?} {}", network.graph.nodes[output].identity);
        let identity = match self.again.get(&base) {
            Some(times) => format!("{base} again {times}"),
            None => base.clone(),
        };
        let known = self.catalog.by_identity(&identity).map(|entry| (entry.id, entry.detail == BUILT));
        let set_up = known.and_then(|(id, _)| {
            let is_it = |model: &Model| model.relation == id && network.graph.nodes[model.sink].wanted;
            network.models.iter().position(is_it)
        });
        if let Some(number) = set_up {
            return Ok(number);
        }
        let schema = model_relation(&definition.schema);
        let (relation, built) = known.unwrap_or_else(|| {
            let label = format!("{}\0{}", name.schema, name.name);
            (self.catalog.allocate(writes, Kind::Model, &label, &identity, &schema, BUILDING), false)
        });
        network.relations.insert(relation, Stored::new(relation, schema));
        let sink = network.graph.add_sink(number, &name, output, definition.flow.output, relation);
        network.graph.nodes[sink].base = base;
        network.graph.nodes[sink].built = built;
        let ancestors = network.graph.ancestors(sink);
        let tables = ancestors.iter().flat_map(|&node| network.graph.nodes[node].asked.iter().copied()).collect();
        network.models.push(Model {
            name,
            flow: Arc::new(definition.flow),
            schema: definition.schema,
            relation,
            state: ModelState::Building,
            sink,
            placed,
            tables,
        });
        self.refresh_model(number);
        Ok(number)
    }

    /// Drops what no kept model stands on: nodes, states, relations.
    pub(crate) fn drop_unwanted(&mut self) {
        let kept = self.kept_models();
        let network = edit(&mut self.network);
        let wanted: BTreeSet<TableId> =
            kept.iter().flat_map(|&number| network.models[number].tables.iter().copied()).collect();
        let nodes: BTreeSet<NodeIndex> =
            kept.iter().flat_map(|&number| network.graph.ancestors(network.models[number].sink)).collect();
        network.graph.keep(&nodes, &wanted);
        for stored in network.relations.values_mut() {
            stored.indexes.retain(|index| wanted.contains(&index.buckets.table));
        }
        let marks = network.tables.values().filter_map(|table| table.marks);
        let own = marks.chain(self.fresh_marks.values().copied()).chain([self.facts, self.rejects]);
        let own: BTreeSet<TableId> = own.chain(self.outboxes.values().flat_map(Outbox::states)).collect();
        let is_garbage = |entry: &&store::catalog::Entry| {
            let is_derived = matches!(entry.kind, Kind::State | Kind::Model | Kind::Index | Kind::Rejects);
            is_derived && !own.contains(&entry.id) && !wanted.contains(&entry.id)
        };
        let garbage: Vec<TableId> = self.catalog.entries().filter(is_garbage).map(|entry| entry.id).collect();
        let mut writes = Writes::new();
        for &id in &garbage {
            self.catalog.remove(&mut writes, id);
            network.relations.remove(&id);
        }
        self.defer(writes);
        self.leave_relations(&garbage);
    }

    /// What every kept model is doing.
    pub(crate) fn refresh_models(&mut self) {
        self.kept_models().into_iter().for_each(|number| self.refresh_model(number));
    }

    /// A model is live when everything it stands on is built, which it only is when its tables have been complete: that one of
    /// them is loaded again does not change that.
    pub(crate) fn refresh_model(&mut self, number: usize) {
        let model = &self.network.models[number];
        if matches!(model.state, ModelState::Parked { .. } | ModelState::Failed { .. }) {
            return;
        }
        let mut missing = self.network.missing(model.sink).into_iter();
        let live = self.network.graph.nodes[model.sink].built && missing.all(|part| matches!(part, Missing::Table(_)));
        let state = match live {
            true => ModelState::Live,
            false => {
                self.network.waits_for(number).map_or(ModelState::Building, |reason| ModelState::Waiting { reason })
            }
        };
        if model.state != state {
            edit(&mut self.network).models[number].state = state;
        }
    }
}

impl Network {
    /// What a model that is not built waits for in vain, each thing with its reason; none where there is nothing of the kind.
    fn waits_for(&self, number: usize) -> Option<String> {
        let mut reasons: Vec<String> = Vec::new();
        for node in self.graph.ancestors(self.models[number].sink) {
            let rule = &self.graph.nodes[node].rule;
            let table = rule.table().and_then(|(relation, _)| self.tables.get(&relation));
            let unloaded = table.and_then(|table| Some((table, table.load.unloaded()?)));
            reasons.extend(unloaded.map(|(table, why)| format!("table {} was never loaded: {why}", table.name)));
            let below = rule.sink().filter(|below| *below != number).map(|below| &self.models[below]);
            reasons.extend(below.and_then(|model| match &model.state {
                ModelState::Parked { reason } => Some(format!("model {} is parked: {reason}", model.name)),
                ModelState::Failed { reason } => Some(format!("model {} could not be built: {reason}", model.name)),
                ModelState::Building | ModelState::Waiting { .. } | ModelState::Live => None,
            }));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl Model {
    fn has_failed(&self) -> bool {
        matches!(self.state, ModelState::Failed { .. })
    }

    fn definition(&self) -> ModelDefinition {
        ModelDefinition { name: self.name.clone(), flow: (*self.flow).clone(), schema: self.schema.clone() }
    }
}
