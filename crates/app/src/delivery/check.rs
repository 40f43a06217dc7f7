//! What is wrong with syncs, at their places, as far as that can be told without reaching for anybody.

use std::collections::BTreeSet;

use connect::Failure;
use connect::destination::{At, Problem};
use plan::TableName;
use project::{Diagnostic, Place, Severity, Sync, SyncPart};
use relation::Schema;

use super::wanted::settings;
use super::{Places, Wanted, WantedSync};
use crate::known::Known;
use crate::setup::Setup;
use crate::warehouse::Contents;

/// What is wrong with the syncs of a project over what can be kept of its models. Those of which it is not known what they follow
/// are told with the reason. `held`: where syncs deliver already ([`Wanted::taken`]).
pub(crate) fn findings(
    setup: &Setup,
    known: &Known,
    contents: &Contents,
    held: &Places,
    mut unknown: impl FnMut(&WantedSync, String),
) -> Vec<Diagnostic> {
    let mut found = connections(setup);
    let wanted = Wanted::of(setup);
    let mut taken = wanted.taken(held, &BTreeSet::new());
    // What is wrong with a connection is told by then.
    for sync in wanted.syncs.iter().filter(|sync| sync.settings.is_ok()) {
        if let Some(Failure { message, detail, hint }) = taken.remove(sync.name()) {
            let place = sync.sync.place_of(&SyncPart::AllTo).clone();
            found.push(parts(Diagnostic::error(place, message), detail, hint));
            continue;
        }
        let is_declared = known.declared.contains(&sync.relation);
        let declared = || {
            let table = &sync.relation;
            format!("The columns of {table} are known as they are declared: `tidemill check --online` asks the source.")
        };
        let told = |problem: Problem| {
            let of_column = !matches!(problem.at, At::To(_));
            let found = finding(&sync.sync, problem);
            match is_declared && of_column {
                true if known.may_have_more(&sync.relation) => {
                    Diagnostic { severity: Severity::Warning, ..found }.detail(declared())
                }
                true => found.detail(declared()),
                false => found,
            }
        };
        match followed(sync, known, contents) {
            Followed::Columns(schema) => {
                let problems = sync.target(&schema).err().unwrap_or_default();
                found.extend(problems.into_iter().map(told));
            }
            Followed::Keyless { columns, reason } => {
                found.extend(sync.problems_but_for_key(&columns).into_iter().map(told));
                unknown(sync, reason);
            }
            Followed::Unknown(reason) => {
                let problems = sync.problems_of_file();
                found.extend(problems.into_iter().map(|problem| finding(&sync.sync, problem)));
                unknown(sync, reason);
            }
        }
    }
    found
}

/// The same over tables that are all known.
pub(crate) fn findings_over(
    setup: &Setup,
    tables: &[(TableName, Schema)],
    contents: &Contents,
    held: &Places,
) -> Vec<Diagnostic> {
    let known = Known { tables: tables.to_vec(), ..Known::default() };
    findings(setup, &known, contents, held, |_, _| ())
}

/// What a sync follows, as far as it is known.
pub(crate) enum Followed {
    Columns(Schema),
    /// Its columns are known, and why it is not known which of them are its key.
    Keyless {
        columns: Schema,
        reason: String,
    },
    /// Why it is not known.
    Unknown(String),
}

/// What a sync follows, of what can be kept over the tables that are known.
pub(crate) fn followed(sync: &WantedSync, known: &Known, contents: &Contents) -> Followed {
    let name = &sync.relation;
    let planned = contents.models.iter().find(|model| model.name == *name).map(|model| &model.planned.schema);
    let schema = planned.or_else(|| known.tables.iter().find(|(table, _)| table == name).map(|(_, schema)| schema));
    let Some(schema) = schema else {
        let waiting = contents.waiting.iter().find(|(model, _)| model == name).map(|(_, reason)| reason.as_str());
        let absent = known.absent.iter().find(|table| table.name == *name).map(|table| table.reason.as_str());
        let reason = waiting.or(absent).unwrap_or("it cannot be planned");
        return Followed::Unknown(format!("{name}: {reason}"));
    };
    // Of a table that is declared without its key nobody knows what is unique in it, or in what is made of it.
    let keyless = known.keyless.iter().find(|table| {
        let readers = contents.wanted.readers_of(std::iter::once((*table).clone()));
        *table == name || readers.contains(name)
    });
    match keyless.filter(|_| schema.key.is_empty()) {
        Some(table) => {
            Followed::Keyless { columns: schema.clone(), reason: format!("the key of {table} is not known") }
        }
        None => Followed::Columns(schema.clone()),
    }
}

/// Where a part of a sync is written that a problem is about.
pub(crate) fn place_of<'a>(sync: &'a Sync, at: &At) -> &'a Place {
    match at {
        At::Sync => &sync.place,
        At::To(key) => sync.place_of(&SyncPart::To(key.clone())),
        At::Field(target) => sync.place_of(&SyncPart::Field(target.clone())),
        At::Match(target) => sync.place_of(&SyncPart::Match(target.clone())),
    }
}

/// A problem of a sync, at its place.
fn finding(sync: &Sync, problem: Problem) -> Diagnostic {
    let Problem { at, message, detail, hint } = problem;
    parts(Diagnostic::error(place_of(sync, &at).clone(), message), detail, hint)
}

fn parts(finding: Diagnostic, detail: String, hint: String) -> Diagnostic {
    let finding = if detail.is_empty() { finding } else { finding.detail(detail) };
    if hint.is_empty() { finding } else { finding.hint(hint) }
}

/// What is wrong with the connections that syncs deliver to: each is told once, where it is declared; that nothing can be delivered to
/// one of its type is told where a sync says so.
fn connections(setup: &Setup) -> Vec<Diagnostic> {
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for sync in &setup.project.syncs {
        let Some(connection) = setup.project.connection(&sync.destination) else { continue };
        let Err(failure) = settings(connection) else { continue };
        let is_of_type = connect::destination::kind_of(crate::sources::type_of(connection)).is_some();
        let place = if is_of_type { &connection.place } else { sync.place_of(&SyncPart::AllTo) };
        if told.insert(place.clone()) {
            let error = Diagnostic::error(place.clone(), failure.message);
            found.push(parts(error, failure.detail, failure.hint));
        }
    }
    found
}
