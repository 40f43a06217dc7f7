//! Which state lives under which table id: states by the persistent identity of what they hold.

use std::collections::BTreeSet;

use relation::{Schema, TableId};
use store::{Catalog, Kind, Writes};

use crate::engine::Engine;

/// A state that is complete up to the folded step says so in its catalogue entry; one that does not is begun again.
pub(crate) const BUILT: &str = "built";
pub(crate) const BUILDING: &str = "building";
/// What the bytes of states mean. It is part of their identity: states of another meaning are not found again, so they
/// are dropped and built anew from the tables.
pub(crate) const MEANING: &str = "3";

/// A state that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptState {
    /// Of which node it is, by the node's place among those that are kept, and what it is: the same for the same models
    /// over the same tables.
    pub place: String,
    pub table: TableId,
    pub form: StateForm,
}

/// What the entries of a state are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateForm {
    Plain,
    /// [`crate::buckets`].
    Buckets,
    /// Rejected rows, counted.
    Rejects,
}

/// States of the models that are being set up.
pub(crate) struct StateCatalog<'a> {
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) writes: &'a mut Writes,
    /// What was asked for since somebody last took this.
    pub(crate) wanted: BTreeSet<TableId>,
}

impl StateCatalog<'_> {
    /// The state of an identity, and whether it is built.
    pub(crate) fn state(&mut self, identity: &str) -> (TableId, bool) {
        self.of_kind(Kind::State, identity)
    }

    /// The state of rows that an operator could not take, and whether it holds all of them.
    pub(crate) fn rejects(&mut self, identity: &str) -> (TableId, bool) {
        self.of_kind(Kind::Rejects, identity)
    }

    /// Notes that a state that is known already is needed.
    pub(crate) fn want(&mut self, id: TableId) {
        self.wanted.insert(id);
    }

    fn of_kind(&mut self, kind: Kind, identity: &str) -> (TableId, bool) {
        let identity = &format!("{MEANING} {identity}");
        let known = self.catalog.by_identity(identity).filter(|entry| entry.kind == kind);
        let (id, built) = match known {
            Some(entry) => (entry.id, entry.detail == BUILT),
            None => {
                let schema = Schema::default();
                (self.catalog.allocate(self.writes, kind, identity, identity, &schema, BUILDING), false)
            }
        };
        self.wanted.insert(id);
        (id, built)
    }
}

impl Engine {
    /// All states that are kept now, models' rows among them.
    pub fn states_kept(&self) -> Vec<KeptState> {
        let mut states = Vec::new();
        let nodes = self.network.graph.nodes.iter().filter(|node| node.wanted && node.parked.is_none());
        let mut relations = BTreeSet::new();
        for (i, node) in nodes.enumerate() {
            let mut add = |what: String, table: TableId, form: StateForm| {
                states.push(KeptState { place: format!("{i:03} {} {what}", node.rule.word()), table, form });
            };
            if node.built {
                let form = if node.rule.is_in_buckets() { StateForm::Buckets } else { StateForm::Plain };
                node.states.iter().enumerate().for_each(|(k, &table)| add(format!("state {k}"), table, form));
            }
            if let (Some(table), true) = (node.rejects, node.rejects_built) {
                add("rejects".to_owned(), table, StateForm::Rejects);
            }
            for kept in node.arrangements.iter().filter(|kept| kept.built) {
                let keys = (&kept.arrangement.keys, kept.arrangement.keeps_nulls);
                add(format!("by {keys:?}"), kept.arrangement.buckets.table, StateForm::Buckets);
            }
            let Some((relation, _)) = node.rule.table().filter(|(relation, _)| relations.insert(*relation)) else {
                continue;
            };
            for index in self.network.relations[&relation].indexes.iter().filter(|index| index.built) {
                add(format!("index by {:?}", index.columns), index.buckets.table, StateForm::Buckets);
            }
        }
        states
    }
}
