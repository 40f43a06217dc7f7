//! Which columns are personal: those that the YAML calls so, and those that are made of them.
//!
//! What the YAML says of a column itself counts first: `personal: false` of a model's column ends it there, and it is said of
//! those that show nothing of a person any more. What a model or view is made of is told by its plan (`query::origins`); where
//! that cannot be told, all of it is personal.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use project::Marks;
use query::{Catalog, Origins, Session};

use crate::definition::PlannedModel;
use crate::system_tables;

/// Columns of system tables that hold values of other tables' rows: where anything is personal, so are they, and what is made
/// of them.
const OF_ROWS: [(&str, &[&str]); 2] = [("rejects", &["reason", "key", "row"]), ("step_changes", &["row"])];

/// The personal columns of all that is read, in lower case: YAML writes names as it likes.
#[derive(Debug, Default)]
pub(super) struct Personal {
    columns: BTreeMap<TableName, BTreeSet<String>>,
    /// Columns of views.
    views: BTreeMap<TableName, Vec<String>>,
    /// Models and views of which it is not known what they are made of.
    unknown: BTreeSet<TableName>,
    none: BTreeSet<String>,
}

/// Columns of a model or view, and what each is made of; none where that is not known.
type Made = Option<Vec<(String, Origins)>>;

impl Personal {
    pub(super) fn of(
        marks: &BTreeMap<(String, String), Marks>,
        catalog: &Catalog,
        models: &[PlannedModel],
        owner: &dyn Fn() -> Session,
    ) -> Self {
        let mut personal = Self::default();
        if !marks.values().any(|marks| marks.values().any(|personal| *personal)) {
            return personal;
        }
        let mut made = BTreeMap::new();
        for model in models {
            made.insert(model.name.clone(), of_model(model));
        }
        let session = owner();
        for name in catalog.names().filter(|name| catalog.view(name).is_some()) {
            let origins = catalog.view(name).and_then(|sql| session.origins(sql).ok());
            if let Some(columns) = &origins {
                personal.views.insert(name.clone(), columns.iter().map(|(column, _)| column.clone()).collect());
            }
            made.insert(name.clone(), origins);
        }
        let mut marks = lowered(marks);
        for (table, columns) in OF_ROWS {
            let all = columns.iter().map(|column| ((*column).to_owned(), true));
            marks.entry(TableName::new(system_tables::SCHEMA, table)).or_default().extend(all);
        }
        let mut search = Search { marks, catalog, made: &made, found: BTreeMap::new(), open: BTreeSet::new() };
        let named = catalog.names().cloned().chain(made.keys().cloned());
        for name in named.collect::<BTreeSet<_>>() {
            search.columns(&name);
        }
        personal.columns = search.found;
        personal.unknown = made.iter().filter(|(_, made)| made.is_none()).map(|(name, _)| name.clone()).collect();
        personal
    }

    /// The personal columns of a table, model or view.
    pub(super) fn columns(&self, name: &TableName) -> &BTreeSet<String> {
        self.columns.get(name).unwrap_or(&self.none)
    }

    /// Whether it cannot be told which columns of a view are personal: then none of it is granted.
    pub(super) fn is_unknown_view(&self, name: &TableName, catalog: &Catalog) -> bool {
        self.unknown.contains(name) && catalog.view(name).is_some()
    }

    /// All columns of a view; none where they are not known.
    pub(super) fn columns_of_view(&self, name: &TableName) -> Option<&[String]> {
        self.views.get(name).map(Vec::as_slice)
    }
}

fn of_model(model: &PlannedModel) -> Made {
    let origins = query::origins(&model.planned.logical).ok()?;
    Some(model.planned.schema.columns.iter().map(|column| column.name.clone()).zip(origins).collect())
}

fn lowered(marks: &BTreeMap<(String, String), Marks>) -> BTreeMap<TableName, Marks> {
    let lower = |marks: &Marks| {
        let mut lower = Marks::new();
        for (column, personal) in marks {
            // Of two that are written alike the stricter one counts.
            *lower.entry(column.to_lowercase()).or_default() |= personal;
        }
        lower
    };
    marks.iter().map(|((schema, name), marks)| (TableName::new(schema, name), lower(marks))).collect()
}

struct Search<'a> {
    marks: BTreeMap<TableName, Marks>,
    catalog: &'a Catalog,
    made: &'a BTreeMap<TableName, Made>,
    found: BTreeMap<TableName, BTreeSet<String>>,
    /// What is being looked for, from the top down.
    open: BTreeSet<TableName>,
}

impl Search<'_> {
    /// The personal columns of a table, model or view.
    fn columns(&mut self, name: &TableName) -> &BTreeSet<String> {
        if !self.found.contains_key(name) && self.open.insert(name.clone()) {
            let columns = self.looked_up(name);
            self.open.remove(name);
            self.found.insert(name.clone(), columns);
        }
        self.found.entry(name.clone()).or_default()
    }

    fn looked_up(&mut self, name: &TableName) -> BTreeSet<String> {
        let marks = self.marks.get(name).cloned().unwrap_or_default();
        let mut personal: BTreeSet<String> =
            marks.iter().filter(|(_, personal)| **personal).map(|(column, _)| column.clone()).collect();
        let said = |column: &str| marks.contains_key(column);
        let made = self.made;
        match made.get(name) {
            None => {}
            Some(Some(columns)) => {
                for (column, origins) in columns {
                    let column = column.to_lowercase();
                    let is_of = |(table, of): &(TableName, String)| self.columns(table).contains(&of.to_lowercase());
                    if !said(&column) && origins.iter().any(is_of) {
                        personal.insert(column);
                    }
                }
            }
            Some(None) => {
                let stored = self.catalog.table(name).into_iter().flat_map(|table| &table.schema.columns);
                personal.extend(stored.map(|column| column.name.to_lowercase()).filter(|column| !said(column)));
            }
        }
        personal
    }
}
