//! What would change if a project were applied: models, columns, what is built anew and what that costs.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use relation::Schema;

use crate::definition::{Definition, PlannedModel};

/// Rows that a build reads in a second, about, for estimates: measured on two cores beside running steps.
const BUILD_ROWS_PER_SECOND: i64 = 300_000;

/// How one model would change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelChange {
    pub model: String,
    pub what: What,
    /// `+ name type`, `- name type`, `~ name type to type`.
    pub columns: Vec<String>,
    /// Rows that it has now; none for a new one.
    pub rows: Option<i64>,
    /// Rows of the tables that it is built of.
    pub reads_rows: i64,
    /// Models that it changes with, where its own text is as it was.
    pub because_of: Vec<String>,
    /// Rows that would come and go, where they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<RowsChanged>,
    /// Why they were not, where they should have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_counted: Option<String>,
}

/// Rows of a model that would come and go; one that changes does both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct RowsChanged {
    pub come: i64,
    pub go: i64,
}

/// What happens to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Added,
    Changed,
    Removed,
}

/// All that would change.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Changes {
    pub models: Vec<ModelChange>,
    /// Views that come, go or read otherwise.
    pub views: Vec<String>,
    /// Those of them that come, and those that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub new_views: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_views: Vec<String>,
    /// Models that stay, with all that is kept of them.
    pub unchanged: usize,
    /// Models that cannot be kept now, and why: the others are put in place all the same.
    pub waiting: Vec<String>,
    /// Models that would serve on in the text that they have, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// What is taken up by a restart alone.
    pub restart: Vec<String>,
    /// Roles and personal columns that would be others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Dashboards that would come, go or be others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dashboards: Vec<String>,
    /// The same of syncs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub syncs: Vec<String>,
    /// About how long it takes until the new models are in place.
    pub seconds: i64,
    /// Source tables that would be followed, and that would be dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub new_tables: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone_tables: Vec<String>,
    /// Source tables that would be loaded anew with other columns, and which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_tables: Vec<String>,
    /// What is wrong with the project, each at its place: where there are no changes, nothing of it can be applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Changes {
    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        let tables = [&self.new_tables, &self.gone_tables, &self.changed_tables, &self.roles];
        let has_tables = tables.into_iter().chain([&self.dashboards, &self.syncs]).any(|of| !of.is_empty());
        self.models.is_empty() && self.views.is_empty() && self.restart.is_empty() && !has_tables
    }

    /// Whether all that the project says would be in place.
    pub fn is_whole(&self) -> bool {
        [&self.errors, &self.held, &self.waiting].iter().all(|of| of.is_empty())
    }

    /// What applying `new` would do to what serves; models over `reloaded` tables are built anew.
    pub fn between(
        (serving, old): (&Definition, &[PlannedModel]),
        (wanted, new): (&Definition, &[PlannedModel]),
        rows: &BTreeMap<TableName, i64>,
        reloaded: &BTreeSet<TableName>,
    ) -> Self {
        let mut changes = Self::default();
        let find = |name: &TableName| old.iter().find(|model| model.name == *name);
        let own: BTreeSet<TableName> = new
            .iter()
            .filter(|model| {
                let is_over_reloaded = model.planned.flow.tables().iter().any(|table| reloaded.contains(table));
                is_over_reloaded || find(&model.name).is_none_or(|old| is_other(old, model))
            })
            .map(|model| model.name.clone())
            .collect();
        let rebuilt = wanted.readers_of(own.iter().cloned());
        let was_view = |name: &TableName| serving.views().any(|(view, _)| view == *name);
        for model in new {
            if !rebuilt.contains(&model.name) {
                changes.unchanged += 1;
                continue;
            }
            let before = find(&model.name);
            let text = wanted.models.iter().find(|text| text.table_name() == model.name);
            let upstream = text.into_iter().flat_map(|text| text.upstream());
            let because_of = upstream.filter(|name| rebuilt.contains(name)).map(|name| name.to_string());
            changes.models.push(ModelChange {
                model: model.name.to_string(),
                what: if before.is_some() || was_view(&model.name) { What::Changed } else { What::Added },
                columns: before.map_or_else(Vec::new, |old| columns(&old.planned.schema, &model.planned.schema)),
                rows: before.map(|old| rows.get(&old.name).copied().unwrap_or(0)),
                reads_rows: model.planned.flow.tables().iter().filter_map(|name| rows.get(name)).sum(),
                because_of: if own.contains(&model.name) { Vec::new() } else { because_of.collect() },
                counted: None,
                not_counted: None,
            });
        }
        // One that is a view from now on is told with the views.
        let is_view = |name: &TableName| wanted.views().any(|(view, _)| view == *name);
        for model in old.iter().filter(|old| !is_view(&old.name) && !new.iter().any(|new| new.name == old.name)) {
            changes.models.push(ModelChange {
                model: model.name.to_string(),
                what: What::Removed,
                columns: Vec::new(),
                rows: rows.get(&model.name).copied(),
                reads_rows: 0,
                because_of: Vec::new(),
                counted: None,
                not_counted: None,
            });
        }
        changes.note_views(serving, wanted, new);
        let read: i64 = changes.models.iter().map(|change| change.reads_rows).sum();
        changes.seconds = (read + BUILD_ROWS_PER_SECOND - 1) / BUILD_ROWS_PER_SECOND;
        changes
    }
}

impl Changes {
    /// A view that becomes a kept model is told with those, and a kept model that becomes a view is another view.
    fn note_views(&mut self, serving: &Definition, wanted: &Definition, kept: &[PlannedModel]) {
        let old: BTreeMap<TableName, &str> = serving.views().collect();
        let new: BTreeMap<TableName, &str> = wanted.views().collect();
        let was_model = |name: &TableName| serving.models.iter().any(|text| text.table_name() == *name);
        for name in new.iter().filter(|(name, sql)| old.get(*name) != Some(*sql)).map(|(name, _)| name) {
            self.views.push(name.to_string());
            if !was_model(name) {
                self.new_views.push(name.to_string());
            }
        }
        for name in old.keys().filter(|name| !new.contains_key(*name) && !kept.iter().any(|model| model.name == **name))
        {
            self.views.push(name.to_string());
            self.gone_views.push(name.to_string());
        }
    }
}

/// Whether a model's rows, or the names of its columns, are others than before.
fn is_other(old: &PlannedModel, new: &PlannedModel) -> bool {
    fn identity(model: &PlannedModel) -> &str {
        &model.planned.flow.node(model.planned.flow.output).identity
    }
    fn names(model: &PlannedModel) -> impl Iterator<Item = &String> {
        model.planned.schema.columns.iter().map(|column| &column.name)
    }
    identity(old) != identity(new) || !names(old).eq(names(new))
}

/// What comes, goes and becomes another in a table's columns, a line each.
pub fn columns(old: &Schema, new: &Schema) -> Vec<String> {
    let mut lines = Vec::new();
    for column in &old.columns {
        match new.columns.iter().find(|c| c.name == column.name) {
            None => lines.push(format!("- {} {}", column.name, column.data_type)),
            Some(now) if now.data_type != column.data_type => {
                lines.push(format!("~ {} {} to {}", column.name, column.data_type, now.data_type));
            }
            Some(_) => {}
        }
    }
    let added = new.columns.iter().filter(|column| !old.columns.iter().any(|c| c.name == column.name));
    lines.extend(added.map(|column| format!("+ {} {}", column.name, column.data_type)));
    lines
}
