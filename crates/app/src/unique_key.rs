//! `unique_key` of incremental models: what dbt does by it, and Tidemill does not.
//!
//! dbt adds what a run computes to what is there, and by `unique_key` the newest row of a key takes the place of the one before it.
//! Tidemill has no runs: a model is the whole answer of its text at each moment, and where that has several rows of a key all of them are
//! served. So it is told where a key is not proven to be one; where it is, both say the same.

use plan::TableName;
use project::{Diagnostic, Materialized, Model};

use crate::definition::PlannedModel;
use crate::setup::Setup;

/// Columns that a hint lists.
const LISTED_MAX: usize = 20;

/// What is to be said of the keys of a project's incremental models, as far as these can be planned.
pub fn findings(setup: &Setup, planned: &[PlannedModel]) -> Vec<Diagnostic> {
    let incremental = setup.project.models.iter().filter(|model| model.materialized == Materialized::Incremental);
    let found = incremental.filter(|model| !model.unique_key.is_empty()).flat_map(|model| {
        let name = TableName::new(&model.schema, &model.alias);
        let planned = planned.iter().find(|planned| planned.name == name);
        planned.map_or_else(Vec::new, |planned| of_model(model, planned))
    });
    found.collect()
}

fn of_model(model: &Model, planned: &PlannedModel) -> Vec<Diagnostic> {
    let schema = &planned.planned.schema;
    let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
    let (mut columns, mut has_expression, mut found) = (Vec::new(), false, Vec::new());
    for written in model.unique_key.iter().flat_map(|written| parts(written)) {
        let Some(name) = column_of(written) else {
            has_expression = true;
            continue;
        };
        match names.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            Some(column) => columns.push(column),
            None => found.push(unknown(model, name, &names)),
        }
    }
    if found.is_empty() && !engine::is_unique_by(&planned.planned.flow, columns) {
        found.push(not_unique(model, has_expression));
    }
    found
}

/// dbt hands the text on as SQL, so a comma parts columns in it; not where it is an expression.
fn parts(written: &str) -> Vec<&str> {
    match written.contains('(') {
        true => vec![written],
        false => written.split(',').map(str::trim).collect(),
    }
}

/// The column that a part of a key names; none where it is an expression.
fn column_of(written: &str) -> Option<&str> {
    let quoted = ['"', '`'].into_iter().find_map(|quote| written.strip_prefix(quote)?.strip_suffix(quote));
    let is_name = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_');
    quoted.or_else(|| Some(written).filter(is_name))
}

fn finding(model: &Model, message: String) -> Diagnostic {
    Diagnostic { alone: true, ..Diagnostic::error(model.unique_key_place.clone(), message) }
}

fn unknown(model: &Model, name: &str, names: &[&str]) -> Diagnostic {
    let finding =
        finding(model, format!("model `{}` has no column `{name}`, which its `unique_key` names", model.name));
    match project::closest(name, names.iter().copied()) {
        Some(meant) => finding.hint(format!("Did you mean `{meant}`?")),
        None if names.len() <= LISTED_MAX => finding.hint(format!("It has: {}.", names.join(", "))),
        None => finding,
    }
}

fn not_unique(model: &Model, has_expression: bool) -> Diagnostic {
    let key = model.unique_key.join(", ");
    let message = match has_expression {
        true => format!("`unique_key` of model `{}` is no list of columns: it has no effect", model.name),
        false => format!("`unique_key` of model `{}` has no effect: several rows may have one ({key})", model.name),
    };
    let finding = Diagnostic { severity: project::Severity::Warning, ..finding(model, message) };
    finding.detail("dbt keeps the row of the newest run; here all rows of the model's answer are served.").hint(
        "Say in SQL which row is meant: `row_number() over (partition by … order by … desc) = 1` of a subquery, or a GROUP BY.",
    )
}

#[cfg(test)]
mod tests {
    use super::{column_of, parts};

    #[test]
    fn a_key_is_columns_or_an_expression() {
        assert_eq!(parts("shop_id, id"), ["shop_id", "id"]);
        assert_eq!(parts("concat(a, b)"), ["concat(a, b)"]);
        assert_eq!(
            ["id", "\"Id\"", "`id`", "a || b", "lower(a)", ""].map(column_of),
            [Some("id"), Some("Id"), Some("id"), None, None, None]
        );
    }
}
