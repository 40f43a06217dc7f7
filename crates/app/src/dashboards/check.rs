//! The statements of dashboards: each is described over what the project's models would be, with nothing in them.

use arrow::datatypes::{Field, SchemaRef};
use plan::TableName;
use project::{Dashboard, DashboardTile, Diagnostic, Place, TileKind};
use query::Session;
use relation::Schema;

use crate::deep::deep;
use crate::setup::Setup;
use crate::views;
use crate::warehouse::{AbsentTable, Contents};

/// What a statement comes to.
enum Described {
    Columns(SchemaRef),
    /// It reads what is not known.
    Unknown(String),
    Wrong(Diagnostic),
}

/// What is wrong with dashboards over tables of these columns and what can be kept of the project's models; `unchecked` is told what
/// reads something that is not known, and what that is.
pub fn findings(
    setup: &Setup,
    tables: &[(TableName, Schema)],
    contents: &Contents,
    absent: &[AbsentTable],
    mut unchecked: impl FnMut(String, String),
) -> Vec<Diagnostic> {
    if setup.project.dashboards.is_empty() {
        return Vec::new();
    }
    let unreadable = absent
        .iter()
        .map(|table| (table.name.clone(), query::Error::not_ready(format!("{}: {}", table.name, table.reason))));
    let waiting = contents
        .waiting
        .iter()
        .map(|(name, _)| (name.clone(), query::Error::not_ready(format!("model {name} could not be checked"))));
    let unreadable = unreadable.chain(waiting).collect();
    let Ok(session) = views::surface(&contents.definition, tables, &contents.models, unreadable) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for dashboard in &setup.project.dashboards {
        let text = std::fs::read_to_string(setup.folder.join(&dashboard.place.file)).unwrap_or_default();
        let of = Of { session: &session, dashboard, text: &text };
        of.check(&mut found, &mut unchecked);
    }
    found
}

/// A dashboard that is checked.
struct Of<'a> {
    session: &'a Session,
    dashboard: &'a Dashboard,
    /// Its file.
    text: &'a str,
}

impl Of<'_> {
    fn check(&self, found: &mut Vec<Diagnostic>, unchecked: &mut dyn FnMut(String, String)) {
        let name = &self.dashboard.name;
        for filter in &self.dashboard.filters {
            let Some(sql) = &filter.sql else { continue };
            let what = format!("filter \"{}\"", filter.name);
            match self.described(sql, &filter.place, &what) {
                Described::Columns(_) => {}
                Described::Unknown(reason) => unchecked(format!("dashboard {name}, {what}"), reason),
                Described::Wrong(finding) => found.push(finding),
            }
        }
        for tile in &self.dashboard.tiles {
            let what = format!("tile \"{}\"", tile.title);
            let columns = match self.described(&tile.sql, &tile.place, &what) {
                Described::Columns(columns) => columns,
                Described::Unknown(reason) => {
                    unchecked(format!("dashboard {name}, {what}"), reason);
                    continue;
                }
                Described::Wrong(finding) => {
                    found.push(finding);
                    continue;
                }
            };
            let compare = tile.compare.as_deref();
            if let Some(sql) = compare.filter(|compare| serve::is_statement(compare))
                && let Described::Wrong(finding) =
                    self.described(sql, &tile.compare_place, &format!("compare of {what}"))
            {
                found.push(finding);
            }
            let compared = compare.filter(|compare| !serve::is_statement(compare));
            let named = [("x", tile.x.as_deref()), ("compare", compared)];
            let named = named.into_iter().filter_map(|(key, column)| Some((key, column?)));
            let listed = tile.y.iter().map(|y| ("y", y.as_str())).chain(tile.y2.iter().map(|y| ("y2", y.as_str())));
            let named = named.chain(tile.columns.iter().map(|c| ("columns", c.as_str())));
            let missing: Vec<Diagnostic> = named
                .chain(listed)
                .filter_map(|(key, column)| missing(&what, key, column, &columns, &tile.place))
                .collect();
            if missing.is_empty() {
                found.extend(undrawable(&what, tile, &columns));
                found.extend(self.many(&what, tile));
            }
            found.extend(missing);
        }
    }

    /// That a number is of a statement which may answer many rows, as far as its text says so.
    fn many(&self, what: &str, tile: &DashboardTile) -> Option<Diagnostic> {
        let asked = serve::parameterised(&tile.sql, &self.filters());
        let statements = if tile.kind == TileKind::Number { query::parse(&asked).ok()? } else { return None };
        let why = statements.first()?.many_rows()?;
        let message = format!("{what}: a number shows the first row, and its statement {why}");
        let hint = "Say which row: by `where`, or by `order by` and `limit 1`; `kind: table` shows all.";
        Some(Diagnostic::warning(tile.place.clone(), message).hint(hint))
    }

    fn filters(&self) -> Vec<serve::Filter> {
        self.dashboard.filters.iter().map(crate::dashboards::filter).collect()
    }

    fn described(&self, sql: &str, place: &Place, what: &str) -> Described {
        let filters = self.filters();
        let asked = serve::parameterised(sql, &filters);
        let wrong = |message: &str| Diagnostic::error(place.clone(), format!("{what}: {message}"));
        if let Some(name) = serve::unknown_filter(&asked) {
            let names: Vec<&str> = filters.iter().map(|filter| filter.name.as_str()).collect();
            let hint = match names.is_empty() {
                true => "Declare it under `filters:`.".to_owned(),
                false => format!("There are: {}.", names.join(", ")),
            };
            return Described::Wrong(wrong(&format!("there is no filter `{name}`")).hint(hint));
        }
        if query::parse(&asked).is_ok_and(|statements| statements.len() != 1) {
            return Described::Wrong(wrong("it should be one SELECT"));
        }
        match deep(|| self.session.describe_text(&asked, &[])) {
            Ok(description) => Described::Columns(description.schema),
            // The only error of this code here is ours.
            Err(error) if error.code == NOT_READY => Described::Unknown(error.message),
            Err(error) => {
                let refusal = views::refusal(error, &asked);
                let line = refusal.line.filter(|_| asked == sql);
                let at = line.and_then(|(line, column)| place_in(self.text, place, sql, line, column));
                let mut finding =
                    Diagnostic::error(at.unwrap_or_else(|| place.clone()), format!("{what}: {}", refusal.message));
                if !refusal.detail.is_empty() {
                    finding = finding.detail(refusal.detail);
                }
                Described::Wrong(if refusal.hint.is_empty() { finding } else { finding.hint(refusal.hint) })
            }
        }
    }
}

/// SQLSTATE of what is known and cannot be read.
const NOT_READY: &str = "55000";

/// What is said of a column that a tile names and its statement does not answer.
fn missing(what: &str, key: &str, column: &str, columns: &SchemaRef, place: &Place) -> Option<Diagnostic> {
    if columns.fields().iter().any(|field| field.name() == column) {
        return None;
    }
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let message = format!("{what}: its statement has no column `{column}`, which `{key}` names");
    Some(Diagnostic::error(place.clone(), message).hint(format!("It has: {}.", names.join(", "))))
}

/// What is said of a tile that draws numbers and has others to draw.
fn undrawable(what: &str, tile: &DashboardTile, columns: &SchemaRef) -> Vec<Diagnostic> {
    if !matches!(tile.kind, TileKind::Line | TileKind::Bar | TileKind::Funnel) {
        return Vec::new();
    }
    let kind = tile.kind.word();
    // A column of nothing but NULL is of any type.
    let is_number = |field: &Field| field.data_type().is_numeric() || field.data_type().is_null();
    let named = |names: &[String]| {
        let fields = columns.fields().iter().filter(|field| names.contains(field.name()) && !is_number(field));
        fields.map(|field| field.name().clone()).collect::<Vec<_>>()
    };
    let wrong = named(&tile.y).into_iter().map(|column| ("y", column));
    let wrong = wrong.chain(named(&tile.y2).into_iter().map(|column| ("y2", column)));
    let mut found: Vec<Diagnostic> = wrong
        .map(|(key, column)| {
            let place = if key == "y" { &tile.y_place } else { &tile.place };
            let message = format!("{what}: column `{column}`, which `{key}` names, is no number, and a tile of kind `{kind}` draws numbers");
            Diagnostic::error(place.clone(), message).hint("Cast it in the statement, or make it a table.")
        })
        .collect();
    let first = columns.fields().first().map(|field| field.name().as_str());
    let x = tile.x.as_deref().or(first);
    if found.is_empty()
        && tile.y.is_empty()
        && !columns.fields().iter().any(|field| Some(field.name().as_str()) != x && is_number(field))
    {
        let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        let message = format!(
            "{what}: its statement has no column of numbers beside its labels, and a tile of kind `{kind}` draws numbers"
        );
        let hint = format!("It has: {}. `x` says which of them the labels are.", names.join(", "));
        found.push(Diagnostic::error(tile.place.clone(), message).hint(hint));
    }
    found
}

/// Where a place of a statement is in the YAML that it stands in; none where its line is written otherwise there.
fn place_in(text: &str, statement: &Place, sql: &str, line: usize, column: usize) -> Option<Place> {
    let written = sql.lines().nth(line.checked_sub(1)?)?;
    let (trimmed, indent) = (written.trim(), written.chars().take_while(|c| c.is_whitespace()).count());
    if trimmed.is_empty() {
        return None;
    }
    // A value may begin on the line of its key or below it.
    let below = text.lines().enumerate().skip(statement.line.checked_sub(1)? + line - 1);
    let (at, found) = below.take(2).find_map(|(at, text)| Some((at, (text, text.find(trimmed)?))))?;
    let before = found.0.get(..found.1)?.chars().count();
    Some(Place::new(&statement.file, at + 1, before + column.saturating_sub(indent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statements_place_is_found_in_its_file() {
        let text = "tiles:\n  - {title: A, sql: \"select a, b from t\"}\n  - title: B\n    sql: |\n      select\n        b\n      from t\n";
        let at = |place: &Place, sql: &str, line, column| {
            place_in(text, place, sql, line, column).map(|place| (place.line, place.column))
        };
        let inline = Place::new("d.yml", 2, 21);
        assert_eq!(at(&inline, "select a, b from t", 1, 11), Some((2, 32)));
        let block = Place::new("d.yml", 5, 7);
        assert_eq!(at(&block, "select\n  b\nfrom t", 2, 3), Some((6, 9)));
        assert_eq!(at(&block, "select c", 1, 8), None);
    }
}
