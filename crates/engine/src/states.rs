//! Which state lives under which table id: states by the persistent identity of what they hold.

use std::collections::BTreeSet;

use relation::{Schema, TableId};
use store::{Catalog, Kind, Writes};

/// A state that is complete up to the folded step says so in its catalogue entry; one that does not is begun again.
pub(crate) const BUILT: &str = "built";
const BUILDING: &str = "building";
/// What the bytes of states mean. It is part of their identity: states of another meaning are not found again, so they
/// are dropped and built anew from the tables.
const MEANING: &str = "3";

/// States of the models that are being set up.
pub(crate) struct StateCatalog<'a> {
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) writes: &'a mut Writes,
    /// Identities asked for: all others are garbage.
    pub(crate) wanted: &'a mut BTreeSet<TableId>,
}

impl StateCatalog<'_> {
    /// The state of an identity, and whether it is built.
    pub(crate) fn state(&mut self, identity: &str) -> (TableId, bool) {
        let identity = &format!("{MEANING} {identity}");
        let known = self.catalog.by_identity(identity).filter(|entry| entry.kind == Kind::State);
        let (id, built) = match known {
            Some(entry) => (entry.id, entry.detail == BUILT),
            None => {
                let schema = Schema::default();
                (self.catalog.allocate(self.writes, Kind::State, identity, identity, &schema, BUILDING), false)
            }
        };
        self.wanted.insert(id);
        (id, built)
    }
}
