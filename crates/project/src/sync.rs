//! `syncs/*.yml`: which model or table goes to which destination, by which key.
//!
//! What a destination wants of `to` is not known here, nor which columns a model has: whoever knows both says what is wrong with
//! them, at the places that are kept with them ([`Sync::place_of`]).

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::declared::{Names, parsed, yaml_files};
use crate::diagnostic::{Diagnostic, Place, Severity, closest, did_you_mean};
use crate::files::Files;
use crate::jinja::YamlJinja;
use crate::model::{Dependency, Project};
use crate::yaml::{Data, Node, Reader};

/// Where syncs are.
pub(crate) const FOLDER: &str = "syncs/";
pub(crate) const KEYS: &[&str] =
    &["sync", "description", "model", "table", "to", "match", "mode", "fields", "when", "on_leave", "guards"];
pub(crate) const GUARD_KEYS: &[&str] = &["removals"];

/// Of a hundred rows, how many may go before somebody is asked, where nothing else is said.
const REMOVALS_PERCENT: u8 = 20;

/// Whether a place is in a file of syncs.
pub fn is_of_syncs(place: &Place) -> bool {
    place.file.starts_with(FOLDER)
}

/// One file of `syncs/`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// The model or source table whose rows it delivers.
    pub of: Dependency,
    /// The connection that it delivers to.
    pub destination: String,
    /// The other keys of `to`: the destination's own.
    pub to: BTreeMap<String, Json>,
    /// Target's names and columns by which a row is found there; empty: the key's columns under their own names.
    pub matched: Vec<(String, String)>,
    /// Target's names and columns that are delivered beside these; none: all others under their own names.
    pub fields: Option<Vec<(String, String)>>,
    /// What becomes over there of a row that leaves.
    pub on_leave: OnLeave,
    /// How many rows may go at once before somebody is asked.
    pub removals: Removals,
    /// Where it is declared.
    pub place: Place,
    places: BTreeMap<SyncPart, Place>,
}

/// What becomes over there of a row that leaves the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLeave {
    /// It stays as it was.
    #[default]
    Nothing,
    /// It is deleted, if it was delivered.
    Delete,
}

/// A bound of what may go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removals {
    /// Of a hundred rows that are there, from 0 to 100.
    Percent(u8),
    /// Rows.
    Rows(u64),
}

impl Default for Removals {
    fn default() -> Self {
        Self::Percent(REMOVALS_PERCENT)
    }
}

/// A part of a sync's file that a finding may be about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncPart {
    /// A key of `to`.
    To(String),
    /// `to` as a whole.
    AllTo,
    /// An entry of `match`, by the target's name.
    Match(String),
    /// `match` as a whole.
    AllMatch,
    /// An entry of `fields`, by the target's name.
    Field(String),
    /// `fields` as a whole.
    AllFields,
    /// What names the model or table.
    Of,
}

impl Sync {
    /// Where a part is written; of one that is not, where that stands of which it would be a part.
    pub fn place_of(&self, part: &SyncPart) -> &Place {
        let whole = match part {
            SyncPart::To(_) => &SyncPart::AllTo,
            SyncPart::Match(_) => &SyncPart::AllMatch,
            SyncPart::Field(_) => &SyncPart::AllFields,
            other => other,
        };
        self.places.get(part).or_else(|| self.places.get(whole)).unwrap_or(&self.place)
    }
}

/// Reads all files of the folder.
pub(crate) fn read(files: &Files, jinja: &YamlJinja, project: &Project, found: &mut Vec<Diagnostic>) -> Vec<Sync> {
    let mut syncs: Vec<Sync> = Vec::new();
    let mut names = Names::default();
    for (file, text) in yaml_files(files, FOLDER) {
        let Some(mut node) = parsed(file, text, found) else { continue };
        jinja.render(&mut node, file, &[], found);
        let before = found.len();
        let sync = sync(&mut Reader { file, found }, &node, project);
        // What is half understood is not delivered.
        let Some(sync) = sync.filter(|_| !found[before..].iter().any(Diagnostic::is_error)) else { continue };
        if names.take("sync", &sync.name, &sync.place, found) {
            syncs.push(sync);
        }
    }
    syncs
}

/// What a file says; none where it is empty or something needed lacks.
fn sync(reader: &mut Reader<'_>, node: &Node, project: &Project) -> Option<Sync> {
    if node.is_null() || !reader.expect_map(node, "a sync") {
        return None;
    }
    reader.check_keys(node, "a sync", KEYS, Severity::Error);
    let mut places = BTreeMap::new();
    let name = reader.name(node, "sync", "the file");
    let description = reader.text(node, "description").unwrap_or_default();
    let of = of(reader, node, project, &mut places);
    let to = to(reader, node, project, &mut places);
    let matched = pairs(reader, node, "match", SyncPart::AllMatch, SyncPart::Match, &mut places).unwrap_or_default();
    let fields = pairs(reader, node, "fields", SyncPart::AllFields, SyncPart::Field, &mut places);
    let on_leave = on_leave(reader, node);
    when(reader, node);
    let removals = removals(reader, node);
    let name = name?;
    let named = node.get("sync").unwrap_or(node);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if !is_name || name.len() > 100 {
        let error = reader.error(named, format!("`{name}` is no name for a sync"));
        error.hint = Some("Up to 100 letters, digits, `_` and `-`; say the rest in `description`.".to_owned());
        return None;
    }
    let place = named.place(reader.file);
    let (destination, to) = to?;
    Some(Sync { name, description, of: of?, destination, to, matched, fields, on_leave, removals, place, places })
}

/// The model or table.
fn of(
    reader: &mut Reader<'_>,
    node: &Node,
    project: &Project,
    places: &mut BTreeMap<SyncPart, Place>,
) -> Option<Dependency> {
    let (model, table) = (reader.text(node, "model"), reader.text(node, "table"));
    let at = node.get("model").or_else(|| node.get("table")).unwrap_or(node);
    places.insert(SyncPart::Of, at.place(reader.file));
    match (model, table) {
        (Some(_), Some(_)) => {
            let at = node.get("table").unwrap_or(node);
            reader.error(at, "a sync delivers a `model` or a `table`, not both");
            None
        }
        (Some(name), None) => of_model(reader, at, project, name),
        (None, Some(name)) => of_table(reader, at, project, &name),
        (None, None) => {
            if ["model", "table"].iter().all(|key| node.get(key).is_none_or(Node::is_null)) {
                reader.error(node, "the file names no `model` and no `table`");
            }
            None
        }
    }
}

fn of_model(reader: &mut Reader<'_>, at: &Node, project: &Project, name: String) -> Option<Dependency> {
    let parked = project.parked.iter().find(|parked| parked.model == name);
    let model = project.model(&name);
    let materialized = model.map(|model| model.materialized).or(parked.map(|parked| parked.materialized));
    match materialized {
        Some(kept) if kept.is_kept() => Some(Dependency::Model(name)),
        Some(other) => {
            let error = reader.error(at, format!("model `{name}` has no rows that are kept: it is {}", other.word()));
            error.hint = Some("Keep them: `{{ config(materialized='table') }}`.".to_owned());
            None
        }
        None => {
            let names = project.models.iter().map(|model| model.name.as_str());
            let hint = did_you_mean(&name, names);
            reader.error(at, format!("there is no model `{name}`")).hint = hint;
            None
        }
    }
}

fn of_table(reader: &mut Reader<'_>, at: &Node, project: &Project, text: &str) -> Option<Dependency> {
    let Some((source, table)) = text.split_once('.') else {
        let error = reader.error(at, format!("`{text}` is no table of a source"));
        error.hint = Some("Write `source.table`.".to_owned());
        return None;
    };
    let is_declared = project.sources.iter().any(|of| of.source == source && of.name == table)
        || project.unread.iter().any(|of| of.source == source && of.name == table);
    if !is_declared {
        let names: Vec<String> = project.sources.iter().map(|of| format!("{}.{}", of.source, of.name)).collect();
        let hint = did_you_mean(text, names.iter().map(String::as_str));
        reader.error(at, format!("there is no source table `{text}`")).hint = hint;
        return None;
    }
    Some(Dependency::Source { source: source.to_owned(), table: table.to_owned() })
}

/// The destination, and what else `to` says.
fn to(
    reader: &mut Reader<'_>,
    node: &Node,
    project: &Project,
    places: &mut BTreeMap<SyncPart, Place>,
) -> Option<(String, BTreeMap<String, Json>)> {
    let Some(to) = node.get("to").filter(|to| !to.is_null()) else {
        reader.error(node, "the file has no `to`").hint = Some("Write `to: {destination: CONNECTION, …}`.".to_owned());
        return None;
    };
    if !reader.expect_map(to, "`to`") {
        return None;
    }
    places.insert(SyncPart::AllTo, to.place(reader.file));
    let mut settings = BTreeMap::new();
    for (key, value) in to.pairs().iter().filter(|(key, _)| key.text != "destination") {
        places.insert(SyncPart::To(key.text.clone()), key.place(reader.file));
        settings.insert(key.text.clone(), value.json());
    }
    let destination = reader.name(to, "destination", "`to`")?;
    let is_broken = project.broken_connections.contains_key(&destination);
    if project.connection(&destination).is_none() && !is_broken {
        let names = project.connections.iter().map(|connection| connection.name.as_str());
        let hint =
            did_you_mean(&destination, names).unwrap_or_else(|| format!("Add `{destination}:` to connections.yml."));
        let at = to.get("destination").unwrap_or(to);
        reader.error(at, format!("there is no connection `{destination}`")).hint = Some(hint);
        return None;
    }
    Some((destination, settings))
}

/// `{target: column}`, or a list of columns that go under their own names; none where the key is not there.
fn pairs(
    reader: &mut Reader<'_>,
    node: &Node,
    key: &str,
    whole: SyncPart,
    part: fn(String) -> SyncPart,
    places: &mut BTreeMap<SyncPart, Place>,
) -> Option<Vec<(String, String)>> {
    let value = node.get(key).filter(|value| !value.is_null())?;
    places.insert(whole, value.place(reader.file));
    let mut found = Vec::new();
    match &value.data {
        Data::Map(pairs) => {
            for (target, column) in pairs {
                places.insert(part(target.text.clone()), target.place(reader.file));
                match column.text() {
                    Some(column) => found.push((target.text.clone(), column.to_owned())),
                    None => {
                        let message = format!("`{}` of `{key}` should be the name of a column", target.text);
                        reader.error(column, message);
                    }
                }
            }
        }
        Data::List(_) | Data::Text(_) => {
            for column in reader.texts(node, key) {
                places.insert(part(column.clone()), value.place(reader.file));
                found.push((column.clone(), column));
            }
        }
        Data::Null | Data::Other(..) => {
            let error = reader.error(value, format!("`{key}` should be a mapping of target's names to columns"));
            error.hint = Some(format!("Write `{key}: {{target: column}}`."));
        }
    }
    if found.is_empty() && key == "fields" {
        // Nothing beside what rows are found by: that is a wish as well.
        return Some(found);
    }
    Some(found)
}

/// What `mode` and `on_leave` say together.
fn on_leave(reader: &mut Reader<'_>, node: &Node) -> OnLeave {
    let mode = reader.text(node, "mode").unwrap_or_else(|| "upsert".to_owned());
    let at = |key: &str| node.get(key).unwrap_or(node);
    const LATER: [&str; 3] = ["update_only", "create_only", "append"];
    let is_mirror = match mode.as_str() {
        "upsert" => false,
        "mirror" => true,
        later if LATER.contains(&later) => {
            let error = reader.error(at("mode"), format!("`mode: {later}` is not there yet"));
            error.hint = Some("There are upsert and mirror.".to_owned());
            return OnLeave::Nothing;
        }
        unknown => {
            let hint = match closest(unknown, ["upsert", "mirror"].into_iter().chain(LATER)) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => "One of: upsert, mirror.".to_owned(),
            };
            reader.error(at("mode"), format!("unknown `mode` of a sync: `{unknown}`")).hint = Some(hint);
            return OnLeave::Nothing;
        }
    };
    match (reader.text(node, "on_leave").as_deref(), is_mirror) {
        (None, true) | (Some("delete"), _) => OnLeave::Delete,
        (None | Some("nothing"), false) => OnLeave::Nothing,
        (Some("nothing"), true) => {
            let error = reader.error(at("on_leave"), "`mode: mirror` deletes what leaves");
            error.hint = Some("Leave it out, or use `mode: upsert`.".to_owned());
            OnLeave::Nothing
        }
        (Some(later @ ("clear" | "archive")), _) => {
            let error = reader.error(at("on_leave"), format!("`on_leave: {later}` is not there yet"));
            error.hint = Some("There are nothing and delete.".to_owned());
            OnLeave::Nothing
        }
        (Some(unknown), _) => {
            let hint = match closest(unknown, ["nothing", "delete", "clear", "archive"]) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => "One of: nothing, delete.".to_owned(),
            };
            reader.error(at("on_leave"), format!("unknown `on_leave` of a sync: `{unknown}`")).hint = Some(hint);
            OnLeave::Nothing
        }
    }
}

/// A sync follows its model; other times are not there yet.
fn when(reader: &mut Reader<'_>, node: &Node) {
    let Some(when) = node.get("when").filter(|when| !when.is_null() && when.text() != Some("live")) else { return };
    let is_later = when.pairs().iter().any(|(key, _)| ["every", "cron", "job"].contains(&key.text.as_str()));
    let error = match is_later {
        true => reader.error(when, "a sync at times of its own is not there yet"),
        false => reader.error(when, "`when` is not understood"),
    };
    error.hint = Some("`when: live`, which is the default, delivers each change at once.".to_owned());
}

/// `{removals: 20%}` or `{removals: 500}`.
fn removals(reader: &mut Reader<'_>, node: &Node) -> Removals {
    let Some(guards) = node.get("guards").filter(|guards| !guards.is_null()) else { return Removals::default() };
    if !reader.expect_map(guards, "`guards`") {
        return Removals::default();
    }
    reader.check_keys(guards, "`guards` of a sync", GUARD_KEYS, Severity::Error);
    let Some(text) = reader.text(guards, "removals") else { return Removals::default() };
    let read = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().filter(|percent| *percent <= 100).map(Removals::Percent),
        None => text.trim().parse().ok().map(Removals::Rows),
    };
    if read.is_none() {
        let at = guards.get("removals").unwrap_or(guards);
        let error = reader.error(at, format!("`removals` should be a share or a number of rows, not `{text}`"));
        error.hint = Some("Write `removals: 20%` or `removals: 500`.".to_owned());
    }
    read.unwrap_or_default()
}
