//! The finished models: in order, ephemeral ones inlined, and parked what cannot be had.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Place};
use crate::drafts::{Draft, Loader};
use crate::ephemeral::{Mapped, inject};
use crate::graph;
use crate::model::{Dependency, Materialized, Model, Parked};
use crate::properties::Patch;
use crate::role::marks;

impl Loader<'_> {
    /// Orders the models, inlines the ephemeral ones, and parks what cannot be had. One that only reads what is parked has its
    /// text: it may be kept over an older version of that.
    pub(crate) fn finish(&mut self, drafts: Vec<Draft<'_>>) {
        let edges: graph::Edges = drafts.iter().map(|draft| (draft.name.clone(), referred_models(draft))).collect();
        let by_name: BTreeMap<&str, &Draft<'_>> = drafts.iter().map(|draft| (draft.name.as_str(), draft)).collect();
        for cycle in graph::cycles(&edges) {
            let Some(draft) = cycle.first().and_then(|name| by_name.get(name.as_str())) else {
                continue;
            };
            let place =
                cycle.get(1).map_or_else(|| Place::file(draft.file), |next| self.place_of_ref(draft.file, next));
            let error =
                Diagnostic::error(place, format!("models depend on each other in a circle: {}", cycle.join(" -> ")));
            self.found.push(error.hint("Take one of these references out."));
        }
        let mut done: BTreeSet<String> = BTreeSet::new();
        for name in graph::order(&edges) {
            let Some(draft) = by_name.get(name.as_str()) else { continue };
            let is_inlined = |need: &&String| {
                by_name.get(need.as_str()).is_some_and(|needed| needed.materialized == Materialized::Ephemeral)
            };
            let mut inlined = edges.get(&name).into_iter().flatten().filter(is_inlined);
            let is_whole = inlined.all(|need| done.contains(need));
            let Some(text) = draft.text.as_ref().filter(|_| is_whole) else { continue };
            let model = self.model(draft, text, &by_name);
            self.project.models.push(model);
            done.insert(name);
        }
        for draft in drafts.iter().filter(|draft| !done.contains(&draft.name)) {
            let broken = edges.get(&draft.name).into_iter().flatten().find(|need| !done.contains(*need));
            let reason = match broken {
                Some(need) if draft.text.is_some() => format!("it depends on `{need}`"),
                _ => "its text could not be made".to_owned(),
            };
            let patch = self.properties.models.get(&draft.name);
            let mistake = match broken {
                Some(need) if draft.text.is_some() => root(need, &by_name, &edges, &done),
                _ => draft.mistake.clone(),
            };
            self.project.parked.push(Parked {
                model: draft.name.clone(),
                schema: draft.relation.schema.clone(),
                alias: draft.relation.name.clone(),
                materialized: draft.materialized,
                file: draft.file.to_owned(),
                reason,
                mistake,
                personal: patch.map(|patch| marks(&patch.columns)).unwrap_or_default(),
                description: patch.and_then(|patch| patch.description.clone()),
                columns: patch.map(|patch| patch.columns.clone()).unwrap_or_default(),
                tests: patch.map(|patch| patch.tests.clone()).unwrap_or_default(),
            });
        }
    }

    fn model(&self, draft: &Draft<'_>, text: &Mapped, drafts: &BTreeMap<&str, &Draft<'_>>) -> Model {
        let mut ctes = Vec::new();
        let mut reads = Vec::new();
        inlined(draft, drafts, &mut ctes, &mut reads);
        let texts = ctes.iter().filter_map(|d| Some((d.name.as_str(), d.text.as_ref()?))).collect::<Vec<_>>();
        let Mapped { text: sql, map: spans } = inject(text, &texts);
        let patch = self.properties.models.get(&draft.name);
        let config = &draft.config;
        let meta = config.get("meta").and_then(Json::as_object).cloned().unwrap_or_default();
        Model {
            name: draft.name.clone(),
            schema: draft.relation.schema.clone(),
            alias: draft.relation.name.clone(),
            materialized: draft.materialized,
            file: draft.file.to_owned(),
            fqn: draft.fqn.clone(),
            sql,
            spans,
            depends_on: draft.references.clone(),
            reads,
            description: patch.and_then(|patch: &Patch| patch.description.clone()),
            columns: patch.map(|patch| patch.columns.clone()).unwrap_or_default(),
            tests: patch.map(|patch| patch.tests.clone()).unwrap_or_default(),
            tags: config.texts("tags"),
            meta: meta.into_iter().collect(),
            unique_key: config.texts("unique_key"),
            unique_key_place: config.place("unique_key").cloned().unwrap_or_else(|| Place::file(draft.file)),
            config: config.values().clone(),
        }
    }

    fn place_of_ref(&self, file: &str, name: &str) -> Place {
        let text = self.files.get(file).unwrap_or_default();
        let quoted = ['\'', '"'].into_iter().find_map(|q| text.find(&format!("{q}{name}{q}")));
        quoted.map_or_else(|| Place::file(file), |offset| Place::at(file, text, offset))
    }
}

/// The mistake for which there is nothing of a model: its own, or one of what it needs, however far below.
fn root(
    name: &str,
    by_name: &BTreeMap<&str, &Draft<'_>>,
    edges: &graph::Edges,
    done: &BTreeSet<String>,
) -> Option<Diagnostic> {
    let (mut open, mut seen) = (vec![name.to_owned()], BTreeSet::new());
    while let Some(name) = open.pop().filter(|name| seen.insert(name.clone())) {
        if let Some(mistake) = by_name.get(name.as_str()).and_then(|draft| draft.mistake.clone()) {
            return Some(mistake);
        }
        open.extend(edges.get(&name).into_iter().flatten().filter(|need| !done.contains(*need)).cloned());
    }
    None
}

fn referred_models(draft: &Draft<'_>) -> Vec<String> {
    let models = draft.references.iter().filter_map(|reference| match reference {
        Dependency::Model(name) => Some(name.clone()),
        Dependency::Source { .. } => None,
    });
    models.collect()
}

/// The ephemeral models that a text needs, each behind those it needs itself, and what is read in the end.
fn inlined<'d, 'a>(
    draft: &Draft<'a>,
    drafts: &BTreeMap<&str, &'d Draft<'a>>,
    ctes: &mut Vec<&'d Draft<'a>>,
    reads: &mut Vec<Dependency>,
) {
    for reference in &draft.references {
        let ephemeral = match reference {
            Dependency::Model(name) => drafts.get(name.as_str()).filter(|d| d.materialized == Materialized::Ephemeral),
            Dependency::Source { .. } => None,
        };
        match ephemeral {
            Some(other) if ctes.iter().any(|cte| cte.name == other.name) => {}
            Some(other) => {
                inlined(other, drafts, ctes, reads);
                ctes.push(other);
            }
            None if reads.contains(reference) => {}
            None => reads.push(reference.clone()),
        }
    }
}
