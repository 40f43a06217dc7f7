//! What a project declares of its sources and does not have read: tables and columns, by the filter of their connection and by
//! the `meta` of the table.
//!
//! A table that is left out is as one that is not declared: no model may read it. Columns are named by patterns, which the
//! source goes by ([`connect::ColumnRule`]): a column that comes later is left out as well.

use connect::source::is_match;
use connect::{ColumnRule, OnChange, OnUnsupported};
use plan::TableName;
use project::{Connection, ConnectionKind, Dependency, Diagnostic, Pattern, Place, Project, SourceTable};

/// Why a declared table is not read, as a clause; none where it is.
pub fn table_left_out(project: &Project, table: &SourceTable) -> Option<String> {
    let connection = project.connection(&table.connection)?;
    let filter = &connection.filter;
    if let Some(pattern) = filter.exclude.iter().find(|pattern| is_of(pattern, connection, table)) {
        return Some(format!("it is left out by the filter `{}` ({})", pattern.text, pattern.place));
    }
    let first = filter.include.first()?;
    let is_included = filter.include.iter().any(|pattern| is_of(pattern, connection, table));
    (!is_included)
        .then(|| format!("the filter of connection {} does not include it ({})", connection.name, first.place))
}

/// What is read of a table's columns.
pub fn rule(connection: &Connection, table: &SourceTable) -> ColumnRule {
    let of_filter = connection.filter.columns.iter().filter(|pattern| is_of(pattern, connection, table));
    let as_pattern = |pattern: &Pattern| connect::Pattern {
        column: pattern.column.clone(),
        text: pattern.text.clone(),
        place: pattern.place.to_string(),
    };
    let mut left_out: Vec<connect::Pattern> = of_filter.chain(&table.left_out).map(as_pattern).collect();
    left_out.sort();
    left_out.dedup();
    let on_unsupported = match table.meta.get("on_unsupported").is_some_and(|policy| policy == "leave_out") {
        true => OnUnsupported::LeaveOut,
        false => OnUnsupported::Park,
    };
    let on_change = match table.meta.get("on_change").and_then(serde_json::Value::as_str) {
        Some("map") => OnChange::Map(table.columns.iter().map(|column| column.name.clone()).collect()),
        Some("park") => OnChange::Park,
        _ => OnChange::Apply,
    };
    ColumnRule { left_out, on_unsupported, on_change }
}

/// In what words two rules for one table differ, as people read it.
pub fn differences(old: &ColumnRule, new: &ColumnRule) -> Vec<String> {
    let mut found = Vec::new();
    match (&old.on_change, &new.on_change) {
        (before, now) if before == now => {}
        (OnChange::Map(_), OnChange::Map(_)) => found.push("the columns that it declares are others".to_owned()),
        (before, now) => found.push(format!("on_change: {now} (was {before})")),
    }
    if old.on_unsupported != new.on_unsupported {
        found.push(format!("on_unsupported: {} (was {})", new.on_unsupported, old.on_unsupported));
    }
    for (mark, some, others) in [("-", old, new), ("+", new, old)] {
        let only = some.left_out.iter().filter(|pattern| !others.left_out.contains(pattern));
        found.extend(only.map(|pattern| format!("{mark} filter `{}`", pattern.text)));
    }
    found
}

/// Why a column of a table of this name is not read; none where nothing leaves it out.
pub fn column_left_out(project: &Project, table: &TableName, column: &str) -> Option<String> {
    let table = project.sources.iter().find(|of| of.source == table.schema && of.name == table.name)?;
    let rule = rule(project.connection(&table.connection)?, table);
    rule.pattern_of(column).map(connect::Pattern::reason)
}

/// What is wrong with filters, as far as that can be said without their sources.
pub fn findings(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for connection in &project.connections {
        let filter = &connection.filter;
        for pattern in filter.include.iter().chain(&filter.exclude).chain(&filter.columns) {
            let mut of_connection = project.sources.iter().filter(|table| table.connection == connection.name);
            if !of_connection.any(|table| is_of(pattern, connection, table)) {
                let message = format!("the filter `{}` names no table that is declared", pattern.text);
                let hint = "Write the names of the server, with the database where it is not the connection's own.";
                found.push(Diagnostic::warning(pattern.place.clone(), message).hint(hint));
            }
        }
    }
    for table in project.sources.iter().filter(|table| is_not_filtered(project, table)) {
        let message = format!("columns of {}.{} cannot be left out", table.source, table.name);
        let place = table.left_out.first().map_or_else(|| table.place.clone(), |pattern| pattern.place.clone());
        let detail = format!("Connection {} is of a type that reads whole rows.", table.connection);
        found.push(Diagnostic::error(place, message).detail(detail));
    }
    for table in &project.sources {
        let Some(why) = table_left_out(project, table) else { continue };
        let reads = |read: &Dependency| matches!(read, Dependency::Source { source, table: name } if *source == table.source && *name == table.name);
        for model in project.models.iter().filter(|model| model.reads.iter().any(reads)) {
            let message = format!("model \"{}\" reads {}.{}, which is not read", model.name, table.source, table.name);
            let error = Diagnostic::error(Place::file(&model.file), message).detail(format!("As to the table: {why}."));
            found.push(error.hint("Take the table out of the filter, or disable the model."));
        }
    }
    found
}

/// Whether columns of a table are to be left out, and its connection reads whole rows.
pub fn is_not_filtered(project: &Project, table: &SourceTable) -> bool {
    let is_filtered = |connection: &Connection| matches!(connection.kind, ConnectionKind::Mysql { .. });
    !table.left_out.is_empty()
        && project.connection(&table.connection).is_some_and(|connection| !is_filtered(connection))
}

/// Whether a pattern names a table.
fn is_of(pattern: &Pattern, connection: &Connection, table: &SourceTable) -> bool {
    let database = table.schema.as_deref().unwrap_or_default();
    let of_database = match &pattern.database {
        Some(wanted) => is_match(wanted, database),
        None => connection.database() == Some(database),
    };
    of_database && is_match(&pattern.table, &table.identifier)
}
