//! What serves is not taken away because its new text cannot be kept: that model is *held*, in the text that serves, and all else
//! of the project goes on.
//!
//! What is held may need what it reads as it was: then that is held with it. Where no older text helps either, as where a table
//! below has other columns, the model waits like any that never served.

use std::collections::{BTreeMap, BTreeSet};

use plan::TableName;
use relation::Schema;

use crate::definition::{Definition, ModelText};
use crate::warehouse::{AbsentTable, Keepable, keepable};

/// What a definition is proposed beside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What serves.
    pub serving: Definition,
    /// Models that are planned and could not be built, and why.
    pub failing: Vec<(TableName, String)>,
}

/// Why models serve in their older texts, by their names.
type Held = BTreeMap<TableName, String>;

/// What can be kept of a definition beside what serves. The refusals are of the texts that are wanted.
pub fn keepable_beside(
    wanted: &Definition,
    beside: &Standing,
    tables: &[(TableName, Schema)],
    absent: &[AbsentTable],
) -> Keepable {
    let serving = &beside.serving;
    let mut found = keepable(wanted, tables, absent);
    let mut held = held_from_the_start(wanted, beside);
    if held.is_empty() && lost(&found, serving).is_empty() {
        return found;
    }
    let refused = std::mem::take(&mut found.refused);
    loop {
        let text = with_held(wanted, &held, serving);
        found = keepable(&text, tables, absent);
        let more = to_be_held(&found, &text, &held, serving);
        if more.is_empty() {
            break;
        }
        held.extend(more);
    }
    let contents = &mut found.contents;
    let is_other = |name: &TableName| match (wanted.text(name), serving.text(name)) {
        (Some(new), Some(old)) => !new.is_same(old),
        // It is in no text of the project: its file cannot be read.
        (None, _) => true,
        (Some(_), None) => false,
    };
    let waits = |name: &TableName| contents.waiting.iter().any(|(waiting, _)| waiting == name);
    contents.held = held.into_iter().filter(|(name, _)| is_other(name) && !waits(name)).collect();
    contents.wanted = wanted.clone();
    Keepable { refused, ..found }
}

/// Models that serve and would not, and why.
fn lost(found: &Keepable, serving: &Definition) -> Vec<(TableName, String)> {
    found.contents.waiting.iter().filter(|(name, _)| serving.text(name).is_some()).cloned().collect()
}

/// Models whose new texts are known not to be kept: they could not be built, have no text, or their settings cannot be read.
fn held_from_the_start(wanted: &Definition, beside: &Standing) -> Held {
    let mut held: Held = beside.failing.iter().cloned().collect();
    for old in &beside.serving.models {
        let name = old.table_name();
        let broken = wanted.models.iter().find(|new| is_of_file(old, new) && new.broken.is_some());
        let moved = wanted.models.iter().find(|new| old.file == new.file && !is_kept_alike(old, new));
        let reason = match (broken, moved) {
            (Some(broken), _) => broken.broken.clone().unwrap_or_default(),
            (None, Some(_)) if !wanted.half_read.is_empty() => wanted.half_read.clone(),
            (None, _) => continue,
        };
        held.entry(name).or_insert(reason);
    }
    held.retain(|name, _| beside.serving.text(name).is_some());
    held
}

/// Whether what serves came out of the file, or folder, of a text that is wanted.
fn is_of_file(old: &ModelText, new: &ModelText) -> bool {
    old.file == new.file || old.file.strip_prefix(&new.file).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether two texts of a file are kept in one way, under one name.
fn is_kept_alike(old: &ModelText, new: &ModelText) -> bool {
    (&old.schema, &old.name, &old.materialized) == (&new.schema, &new.name, &new.materialized)
}

/// A definition with the older texts of what is held, each behind what it reads.
fn with_held<'a>(wanted: &'a Definition, held: &Held, serving: &'a Definition) -> Definition {
    let older: Vec<&ModelText> = serving.models.iter().filter(|text| held.contains_key(&text.table_name())).collect();
    let in_place = |new: &'a ModelText| {
        let named = older.iter().copied().find(|old| old.table_name() == new.table_name());
        let is_gone = || new.broken.is_some() && older.iter().any(|old| is_of_file(old, new));
        named.or_else(|| (!is_gone()).then_some(new))
    };
    let mut left: Vec<&ModelText> = wanted.models.iter().filter_map(in_place).collect();
    let is_there = |old: &&ModelText| left.iter().any(|text| text.table_name() == old.table_name());
    let beside: Vec<&ModelText> = older.iter().copied().filter(|old| !is_there(old)).collect();
    left.extend(beside);
    let names: BTreeSet<TableName> = left.iter().map(|text| text.table_name()).collect();
    let (mut models, mut placed): (Vec<ModelText>, BTreeSet<TableName>) = (Vec::new(), BTreeSet::new());
    loop {
        let is_ready = |text: &&ModelText| text.upstream().all(|name| placed.contains(&name) || !names.contains(&name));
        let Some(at) = left.iter().position(is_ready) else { break };
        let text = left.remove(at);
        placed.insert(text.table_name());
        models.push(text.clone());
    }
    // A newer and an older text that read each other: one of them will be refused.
    models.extend(left.into_iter().cloned());
    let mut search_path = wanted.search_path.clone();
    search_path.extend(serving.search_path.iter().filter(|schema| !wanted.search_path.contains(schema)).cloned());
    Definition { models, search_path, half_read: String::new(), documentation: wanted.documentation.clone() }
}

/// What is to be held beside what is: models that would be lost, those first whose own texts are at fault; and where an older text
/// is at fault, what it reads as it was.
fn to_be_held(found: &Keepable, text: &Definition, held: &Held, serving: &Definition) -> Held {
    let lost = lost(found, serving);
    let is_at_fault = |name: &TableName| {
        found.refused.iter().any(|(refused, _)| refused == name)
            || text.text(name).is_some_and(|text| text.broken.is_some())
    };
    let (at_fault, others): (Vec<_>, Vec<_>) = lost.into_iter().partition(|(name, _)| is_at_fault(name));
    let mut more = Held::new();
    for (name, reason) in if at_fault.is_empty() { others } else { at_fault } {
        if !held.contains_key(&name) {
            more.insert(name, reason);
            continue;
        }
        let older = serving.text(&name).into_iter().flat_map(ModelText::upstream);
        for upstream in older.filter(|upstream| serving.text(upstream).is_some() && !held.contains_key(upstream)) {
            more.entry(upstream).or_insert_with(|| format!("model {name} reads it as it was: {reason}"));
        }
    }
    more
}

#[cfg(test)]
mod tests {
    use relation::{Column, DataType};

    use super::*;

    fn text(name: &str, sql: &str, reads: &[&str]) -> ModelText {
        ModelText {
            schema: "public".to_owned(),
            name: name.to_owned(),
            materialized: "table".to_owned(),
            is_view: false,
            sql: sql.to_owned(),
            written: crate::definition::Written::default(),
            file: format!("models/{name}.sql"),
            description: String::new(),
            reads: reads.iter().map(|read| ("public".to_owned(), (*read).to_owned())).collect(),
            broken: None,
            origin: crate::definition::Origin::default(),
        }
    }

    fn definition(models: Vec<ModelText>) -> Definition {
        Definition {
            models,
            search_path: vec!["public".to_owned()],
            half_read: String::new(),
            documentation: Vec::new(),
        }
    }

    /// What is kept of a wanted definition beside one that serves: each model with its text, and what is held.
    fn kept(wanted: &Definition, serving: &Definition) -> (Vec<(String, String)>, Vec<String>) {
        let schema = Schema::new(vec![Column::new("id", DataType::Int64)], vec![0]);
        let tables = [(TableName::new("public", "t"), schema)];
        let beside = Standing { serving: serving.clone(), failing: Vec::new() };
        let found = keepable_beside(wanted, &beside, &tables, &[]).contents;
        let models = found.definition.models.iter().map(|text| (text.name.clone(), text.sql.clone()));
        (models.collect(), found.held.into_iter().map(|(name, _)| name.name).collect())
    }

    fn pairs(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        texts.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect()
    }

    #[test]
    fn a_model_that_cannot_be_planned_serves_on_and_others_change() {
        let serving = definition(vec![text("a", "select id from t", &[]), text("b", "select id from a", &["a"])]);
        let wanted =
            definition(vec![text("a", "select nothing from t", &[]), text("b", "select id + 1 as id from a", &["a"])]);
        let models = pairs(&[("b", "select id + 1 as id from a"), ("a", "select id from t")]);
        let (mut kept_models, held) = kept(&wanted, &serving);
        kept_models.sort();
        let mut models = models;
        models.sort();
        assert_eq!((kept_models, held), (models, vec!["a".to_owned()]));
    }

    /// The reader of a renamed column serves on, and so does what it reads; what reads neither changes.
    #[test]
    fn what_a_held_model_reads_is_held_with_it() {
        let serving = definition(vec![
            text("a", "select id from t", &[]),
            text("b", "select id from a", &["a"]),
            text("c", "select id from t", &[]),
        ]);
        let wanted = definition(vec![
            text("a", "select id as number from t", &[]),
            text("b", "select id from a", &["a"]),
            text("c", "select id + 2 as id from t", &[]),
        ]);
        let (mut models, held) = kept(&wanted, &serving);
        models.sort();
        let wanted_models =
            pairs(&[("a", "select id from t"), ("b", "select id from a"), ("c", "select id + 2 as id from t")]);
        assert_eq!((models, held), (wanted_models, vec!["a".to_owned()]));
    }

    /// It is gone from the project, and what reads it is broken: both serve on.
    #[test]
    fn what_is_gone_and_still_read_serves_on() {
        let serving = definition(vec![text("a", "select id from t", &[]), text("b", "select id from a", &["a"])]);
        let broken = ModelText { broken: Some("there is no model `a`".to_owned()), ..text("b", "", &[]) };
        let (models, held) = kept(&definition(vec![broken]), &serving);
        let wanted = pairs(&[("a", "select id from t"), ("b", "select id from a")]);
        assert_eq!((models, held), (wanted, vec!["a".to_owned(), "b".to_owned()]));
    }

    /// A file that cannot be read may keep its models otherwise: they stay as they are.
    #[test]
    fn settings_that_cannot_be_read_change_nothing_that_serves() {
        let serving = definition(vec![text("a", "select id from t", &[])]);
        let view = ModelText { is_view: true, materialized: "view".to_owned(), ..text("a", "select id from t", &[]) };
        let wanted = Definition { half_read: "models/a.yml cannot be read".to_owned(), ..definition(vec![view]) };
        let (models, held) = kept(&wanted, &serving);
        assert_eq!((models, held), (pairs(&[("a", "select id from t")]), vec!["a".to_owned()]));
    }

    #[test]
    fn a_model_that_never_served_waits_with_its_readers() {
        let serving = definition(vec![text("c", "select id from t", &[])]);
        let wanted = definition(vec![
            text("a", "select nothing from t", &[]),
            text("b", "select id from a", &["a"]),
            text("c", "select id from t", &[]),
        ]);
        let (models, held) = kept(&wanted, &serving);
        assert_eq!((models, held), (pairs(&[("c", "select id from t")]), Vec::new()));
    }
}
