//! Of which columns those of models and views are made: what `tidemill.column_lineage` shows.
//!
//! A view is looked through, so that the columns named are those of tables and kept models. Of a view that only a query can answer,
//! nothing is said.

use plan::TableName;
use query::{Catalog, Origins};

use crate::deep::deep;
use crate::definition::{Names, PlannedModel};

/// A column, and one that its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeOf {
    pub of: TableName,
    pub column: String,
    pub upstream: TableName,
    pub upstream_column: String,
}

/// All of it, of the models that serve and the views beside them.
pub fn of(models: &[PlannedModel], catalog: &Catalog) -> Vec<MadeOf> {
    deep(|| {
        let mut found = Vec::new();
        for model in models {
            note(&mut found, &model.name, &model.planned);
        }
        let names = Names::of(catalog);
        for (name, sql) in catalog.names().filter_map(|name| Some((name, catalog.view(name)?))) {
            if let Ok(planned) = plan::plan_model(sql, &names) {
                note(&mut found, name, &planned);
            }
        }
        found
    })
}

fn note(found: &mut Vec<MadeOf>, of: &TableName, planned: &plan::Planned) {
    let origins: Vec<Origins> = query::origins(&planned.logical).unwrap_or_default();
    for (column, origins) in planned.schema.columns.iter().zip(origins) {
        found.extend(origins.into_iter().map(|(upstream, upstream_column)| MadeOf {
            of: of.clone(),
            column: column.name.clone(),
            upstream,
            upstream_column,
        }));
    }
}
