//! What a project wants delivered: its syncs, each with what it follows and where it goes, as far as the files alone tell.

use std::collections::{BTreeMap, BTreeSet};

use connect::destination::{At, DestinationKind, KINDS, Place, Problem, Target, kind_of};
use connect::{Failure, Settings};
use engine::outbox::Definition;
use plan::TableName;
use project::{Connection, Dependency, Diagnostic, OnLeave, Project, Sync};
use relation::{Column, DataType, Schema};

use crate::setup::Setup;
use crate::sources;

/// The syncs of a project.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    pub syncs: Vec<WantedSync>,
    /// Files of syncs that cannot be understood.
    pub broken: Vec<Broken>,
}

/// A sync.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedSync {
    pub sync: Sync,
    /// The model or table that it follows.
    pub relation: TableName,
    /// The settings of its destination; or why there is none.
    pub settings: Result<Settings, String>,
    /// Where its rows go, as far as it can be told without asking.
    pub place: Option<Place>,
}

/// A file of `syncs/` with a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file's name without its ending: most are named as their sync.
    pub name: String,
    /// The mistake, with its place.
    pub message: String,
}

impl Wanted {
    /// Those of a project.
    pub fn of(setup: &Setup) -> Self {
        let project = &setup.project;
        let syncs = project.syncs.iter().filter_map(|sync| {
            let relation = relation(project, sync)?;
            let settings = settings_of(project, sync);
            let place = settings.as_ref().ok().and_then(|of| kind_of(&of.kind)?.place(of, &sync.to));
            Some(WantedSync { sync: sync.clone(), relation, settings, place })
        });
        let mut broken: BTreeMap<&str, Broken> = BTreeMap::new();
        for finding in setup.errors().filter(|finding| project::is_of_syncs(&finding.place)) {
            broken.entry(&finding.place.file).or_insert_with(|| Broken {
                name: stem(&finding.place.file),
                message: format!("{}: {}", finding.place, told(finding)),
            });
        }
        Self { syncs: syncs.collect(), broken: broken.into_values().collect() }
    }

    /// What is wrong with syncs whose target is another one's, by their names: they would write over each other's rows, and delete them. Who
    /// has delivered to a target already keeps it; where nobody has, it is of the first. One of which it is not known where it
    /// delivers, since its file or connection has a mistake, keeps the one where it did, and so do those that are `unsettled`. Places that
    /// cannot be told apart without asking are not found out.
    pub(crate) fn taken(&self, held: &Places, unsettled: &BTreeSet<&str>) -> BTreeMap<&str, Failure> {
        let mut found = BTreeMap::new();
        for (at, sync) in self.syncs.iter().enumerate() {
            let Some(place) = &sync.place else { continue };
            if held.get(sync.name()).is_none_or(|known| !is_of(place, *known)) {
                let mut others = held.iter().filter(|(name, known)| {
                    name.as_str() != sync.name() && is_of(place, **known) && self.keeps(name, place, unsettled)
                });
                if let Some((name, _)) = others.next() {
                    found.insert(
                        sync.name(),
                        kept(sync, name, place, self.broken.first().filter(|_| self.sync(name).is_none())),
                    );
                    continue;
                }
            }
            let same = || self.syncs.iter().enumerate().filter(|(_, other)| other.place.as_ref() == Some(place));
            let claim = |of: &WantedSync| held.get(of.name()).map_or(Claim::None, |known| Claim::of(place, *known));
            let best = same().map(|(_, other)| claim(other)).max();
            let holder = same().find(|(_, other)| Some(claim(other)) == best);
            if let Some((_, holder)) = holder.filter(|(holder, _)| *holder != at) {
                found.insert(sync.name(), taken(sync, holder, place));
            }
        }
        found
    }

    /// Whether a sync that has delivered to a place keeps it though it does not say so now.
    fn keeps(&self, name: &str, place: &Place, unsettled: &BTreeSet<&str>) -> bool {
        match self.sync(name) {
            Some(sync) => match &sync.place {
                Some(now) => now != place && unsettled.contains(name),
                None => true,
            },
            // A file that cannot be read may name it.
            None => !self.broken.is_empty(),
        }
    }

    /// The sync of a name.
    pub fn sync(&self, name: &str) -> Option<&WantedSync> {
        self.syncs.iter().find(|of| of.sync.name == name)
    }
}

/// Where syncs have delivered to, by their names.
pub(crate) type Places = BTreeMap<String, engine::outbox::Place>;

/// Whether a place is the one that was delivered to. Of some that were noted long ago it is not known what held them.
fn is_of(place: &Place, known: engine::outbox::Place) -> bool {
    known.place == place.number() && (known.within == 0 || known.within == place.number_within())
}

/// What somebody has of a place that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    None,
    /// A place of this name within something of another one: its connection has been given another host.
    Elsewhere,
    /// It has delivered there.
    There,
}

impl Claim {
    fn of(place: &Place, known: engine::outbox::Place) -> Self {
        match known.place == place.number() {
            true if is_of(place, known) => Self::There,
            true => Self::Elsewhere,
            false => Self::None,
        }
    }
}

/// A target as it is written.
fn written(of: &WantedSync, place: &Place) -> String {
    let text = of.sync.to.get(place.what).filter(|_| place.what == "table").and_then(serde_json::Value::as_str);
    format!("\"{}\" of \"{}\"", text.unwrap_or(&place.name), of.sync.destination)
}

/// Why a sync does not deliver to a target that one with a mistake keeps.
fn kept(sync: &WantedSync, holder: &str, place: &Place, broken: Option<&Broken>) -> Failure {
    let of_file = broken.map(|broken| format!(" A file cannot be read: {}.", broken.message.trim_end_matches('.')));
    Failure {
        message: format!("{} {} is the target of sync \"{holder}\"", place.what, written(sync, place)),
        detail: format!(
            "That one has a mistake, and keeps what it has delivered there until it is mended.{}",
            of_file.unwrap_or_default()
        ),
        hint: format!("Mend \"{holder}\", or remove it, and apply then."),
    }
}

/// Why a sync does not deliver to a target that is another one's.
fn taken(sync: &WantedSync, holder: &WantedSync, place: &Place) -> Failure {
    let (here, there) = (written(sync, place), written(holder, place));
    let mut detail = "Of two syncs to one target one alone delivers: the other would write over its rows.".to_owned();
    if here != there {
        detail.push_str(&format!(" There it is written {there}."));
    }
    Failure {
        message: format!("{} {here} is the target of sync \"{}\"", place.what, holder.name()),
        detail,
        hint: "Give it a target of its own, or have one model with all that goes there.".to_owned(),
    }
}

impl WantedSync {
    /// By this it is known.
    pub fn name(&self) -> &str {
        &self.sync.name
    }

    /// The kind of its destination.
    pub fn kind(&self) -> Option<&'static dyn DestinationKind> {
        kind_of(&self.settings.as_ref().ok()?.kind)
    }

    /// What it delivers of a relation of this schema. Errors: what is wrong with it, as far as that can be told without reaching for
    /// anybody.
    pub fn target(&self, schema: &Schema) -> Result<Target, Vec<Problem>> {
        let sync = &self.sync;
        let mapping = connect::destination::Mapping::of(schema, &sync.matched, sync.fields.as_deref())?;
        let deletes = sync.on_leave == OnLeave::Delete;
        let target = Target { sync: sync.name.clone(), to: sync.to.clone(), mapping, deletes };
        let mut found = self.kind().map(|kind| kind.check(&target)).unwrap_or_default();
        if let (Some(kind), Ok(settings)) = (self.kind(), &self.settings) {
            found.extend(kind.lacks(settings, &target));
        }
        if found.is_empty() { Ok(target) } else { Err(found) }
    }

    /// What is wrong with it over a relation of these columns of which the key is not known: nothing that depends on the key.
    pub(crate) fn problems_but_for_key(&self, columns: &Schema) -> Vec<Problem> {
        let named = self.sync.matched.iter().filter_map(|(_, column)| columns.position(column));
        let key: Vec<usize> = match self.sync.matched.is_empty() {
            true => (0..columns.columns.len()).collect(),
            false => named.collect(),
        };
        // Where no column of `match` is there, each of them is told all the same.
        let key = if key.is_empty() { vec![0] } else { key };
        let problems = self.target(&Schema::new(columns.columns.clone(), key)).err().unwrap_or_default();
        let is_of_key = |problem: &Problem| match &problem.at {
            At::Sync => true,
            At::Match(_) => !problem.message.starts_with("there is no column"),
            At::To(_) | At::Field(_) => false,
        };
        problems.into_iter().filter(|problem| !is_of_key(problem)).collect()
    }

    /// What is wrong with what it says of its destination, whatever the columns are that it follows.
    pub(crate) fn problems_of_file(&self) -> Vec<Problem> {
        let sync = &self.sync;
        let named = sync.matched.iter().chain(sync.fields.iter().flatten()).map(|(_, column)| column.clone());
        // Whatever may be meant as a column is one.
        let texts = sync.to.values().filter_map(serde_json::Value::as_str);
        let in_texts = texts.flat_map(|text| {
            let held = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            held.chain([text]).map(str::to_owned).collect::<Vec<_>>()
        });
        let names: BTreeSet<String> = named.chain(in_texts).chain(["id".to_owned()]).collect();
        let columns: Vec<_> = names.into_iter().map(|name| Column::new(name, DataType::Int64)).collect();
        let problems = self.problems_but_for_key(&Schema::new(columns, Vec::new()));
        problems.into_iter().filter(|problem| matches!(problem.at, At::To(_))).collect()
    }

    /// The outbox that hands out what it delivers.
    pub fn outbox(&self, target: &Target) -> Definition {
        Definition {
            name: self.sync.name.clone(),
            relation: self.relation.clone(),
            columns: target.mapping.columns(),
            mapping: target.identity(),
            place: self.place.as_ref().map_or(0, Place::number),
            within: self.place.as_ref().map_or(0, Place::number_within),
            pending_bytes_max: Definition::PENDING_BYTES_MAX,
        }
    }
}

/// A finding as a message of one line, without its place.
fn told(finding: &Diagnostic) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    in_one_line(&Failure { message: finding.message.clone(), detail: part(&finding.detail), hint: part(&finding.hint) })
}

/// The file's name without folders and ending.
fn stem(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned()
}

/// What a sync follows, by the name under which it is read.
fn relation(project: &Project, sync: &Sync) -> Option<TableName> {
    match &sync.of {
        Dependency::Source { source, table } => Some(TableName::new(source, table)),
        Dependency::Model(name) => {
            let model = project.model(name).map(|model| TableName::new(&model.schema, &model.alias));
            let parked = || project.parked.iter().find(|parked| parked.model == *name);
            model.or_else(|| parked().map(|parked| TableName::new(&parked.schema, &parked.alias)))
        }
    }
}

/// The settings of a sync's destination. Errors: in one line, why nothing can be delivered there.
fn settings_of(project: &Project, sync: &Sync) -> Result<Settings, String> {
    let Some(connection) = project.connection(&sync.destination) else {
        return Err(format!("connection \"{}\" cannot be read: `tidemill check` says why", sync.destination));
    };
    settings(connection).map_err(|failure| in_one_line(&failure))
}

/// The settings of a connection that can be delivered to.
pub(crate) fn settings(connection: &Connection) -> Result<Settings, Failure> {
    let settings = sources::settings(connection);
    let Some(kind) = kind_of(&settings.kind) else {
        let known: Vec<&str> = KINDS.iter().flat_map(|kind| kind.types()).copied().collect();
        return Err(Failure {
            message: format!(
                "connection \"{}\" is of the type `{}`, to which nothing can be delivered yet",
                connection.name, settings.kind
            ),
            detail: String::new(),
            hint: format!("One of: {}.", known.join(", ")),
        });
    };
    kind.check_settings(&settings).map(|()| settings)
}

/// A failure as a message of one line.
pub(crate) fn in_one_line(failure: &Failure) -> String {
    let parts = [&failure.message, &failure.detail, &failure.hint];
    let ended = |part: &&String| match part.ends_with(['.', '!', '?', ':', ';']) {
        true => (*part).clone(),
        false => format!("{part}."),
    };
    let parts: Vec<String> = parts.iter().filter(|part| !part.is_empty()).map(ended).collect();
    let text = parts.join(" ").replace('\n', " ");
    if parts.len() == 1 { text.trim_end_matches('.').to_owned() } else { text }
}

/// What comes, goes and is another, a line each.
pub fn differences(old: &Wanted, new: &Wanted) -> Vec<String> {
    let mut lines = Vec::new();
    for sync in &new.syncs {
        match old.sync(sync.name()) {
            None => lines.push(format!("+ sync {}", sync.name())),
            Some(known) if !is_same(known, sync) => lines.push(format!("~ sync {}", sync.name())),
            Some(_) => {}
        }
    }
    // One that is not named any more is meant by a file with a mistake, maybe: it stays.
    if new.broken.is_empty() {
        let gone = old.syncs.iter().filter(|sync| new.sync(sync.name()).is_none());
        lines.extend(gone.map(|sync| format!("- sync {}", sync.name())));
    }
    lines
}

/// Whether two say the same, wherever it is written.
fn is_same(one: &WantedSync, other: &WantedSync) -> bool {
    let said = |of: &WantedSync| {
        let sync = of.sync.clone();
        (of.relation.clone(), of.settings.clone(), sync.to, sync.matched, sync.fields, sync.on_leave, sync.removals)
    };
    said(one) == said(other) && one.sync.destination == other.sync.destination
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn wanted(files: &[(&str, &str)]) -> Wanted {
        let base = [
            ("dbt_project.yml", "name: shop\nprofile: shop\n"),
            ("models/sources.yml", "sources:\n  - name: shop\n    tables: [{name: users}]\n"),
            (
                "connections.yml",
                "shop: {type: simulator}\nsite: {type: postgres, host: 127.0.0.1, user: u, database: d}\n\
                 site_too: {type: postgres, host: localhost, port: 5432, user: v, database: d}\n\
                 cache: {type: redis, host: h}\nbus: {type: kafka, brokers: h}\nlake: {type: file, path: /data}\nlost: {type: postgres, hots: h}\n",
            ),
        ];
        let mut all = project::Files::default();
        for (path, text) in base.iter().chain(files) {
            all.insert(*path, *text);
        }
        Wanted::of(&Setup::from_files(PathBuf::from("p"), &all, &project::Options::default(), None))
    }

    fn sync(name: &str, to: &str) -> (String, String) {
        (
            format!("syncs/{name}.yml"),
            format!("sync: {name}\ntable: shop.users\nto: {{destination: {to}, table: {name}}}\n"),
        )
    }

    fn of(syncs: &[(String, String)]) -> Wanted {
        let files: Vec<(&str, &str)> = syncs.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        wanted(&files)
    }

    #[test]
    fn why_nothing_can_be_delivered_is_told_in_one_line() {
        let wanted = of(&[sync("a", "site"), sync("b", "lake"), sync("c", "lost"), sync("d", "shop")]);
        let told = |name: &str| wanted.sync(name).and_then(|of| of.settings.clone().err());
        assert_eq!(told("a"), None);
        let no_kind = "connection \"lake\" is of the type `file`, to which nothing can be delivered yet. One of: ";
        assert!(told("b").unwrap_or_default().starts_with(no_kind), "{:?}", told("b"));
        assert!(told("c").unwrap_or_default().contains("hots"), "{:?}", told("c"));
        assert!(told("d").unwrap_or_default().contains("simulator"), "{:?}", told("d"));
        assert_eq!(wanted.sync("a").map(|of| of.relation.to_string()).as_deref(), Some("shop.users"));
    }

    #[test]
    fn one_target_is_of_one_sync() {
        let to = |name: &str, to: &str| {
            (format!("syncs/{name}.yml"), format!("sync: {name}\ntable: shop.users\nto: {{destination: {to}}}\n"))
        };
        let wanted = of(&[
            to("a", "site, table: t"),
            to("b", "site, table: u"),
            to("c", "site_too, table: public.t, create: true"),
            to("d", "cache, key: 'user:{id}'"),
            to("e", "cache, key: 'user:{user_id}', as: json"),
            to("f", "cache, key: 'users', as: set, member: '{id}'"),
            to("g", "cache, key: 'users', as: set, member: 'of:{id}'"),
            to("h", "bus, topic: users"),
            to("i", "bus, topic: users, format: debezium, table: shop.users"),
            to("j", "bus, topic: users, format: maxwell, table: shop.users"),
        ]);
        let told = |held: &[&str]| -> Vec<String> {
            let place = |name: &&str| Some((String::from(*name), known_of(wanted.sync(name)?.place.as_ref()?)));
            let taken = wanted.taken(&held.iter().filter_map(place).collect(), &BTreeSet::new());
            taken.into_iter().map(|(name, failure)| format!("{name}: {}", in_one_line(&failure))).collect()
        };
        let rest = "Of two syncs to one target one alone delivers: the other would write over its rows.";
        let hint = "Give it a target of its own, or have one model with all that goes there.";
        let key = format!("e: key \"user:{{}}\" of \"cache\" is the target of sync \"d\". {rest} {hint}");
        // In Maxwell's words keys have the name of a table: those of two are apart.
        let topic = format!("i: topic \"users\" of \"bus\" is the target of sync \"h\". {rest} {hint}");
        assert_eq!(
            told(&[]),
            [
                format!(
                    "c: table \"public.t\" of \"site_too\" is the target of sync \"a\". {rest} There it is written \"t\" of \
                     \"site\". {hint}"
                ),
                key.clone(),
                topic.clone()
            ]
        );
        // Whoever delivers there already goes on, and whichever comes first of two that do.
        let running = told(&["b", "c", "d", "e"]);
        assert!(running[0].starts_with("a: table \"t\" of \"site\" is the target of sync \"c\". "), "{running:?}");
        assert_eq!(running[1..], [key, topic]);
    }

    fn known_of(place: &Place) -> engine::outbox::Place {
        engine::outbox::Place { within: place.number_within(), place: place.number() }
    }

    /// Who has a mistake keeps what it has delivered, whatever the mistake is in; who has gone does not.
    #[test]
    fn a_sync_with_a_mistake_keeps_its_target() {
        let to = |name: &str, to: &str| {
            (format!("syncs/{name}.yml"), format!("sync: {name}\ntable: shop.users\nto: {{destination: {to}}}\n"))
        };
        let place = |to_site: &str| of(&[to("x", to_site)]).syncs[0].place.as_ref().map(known_of).unwrap();
        let held: Places = [("b".to_owned(), place("site, table: t"))].into();
        let told = |others: &[(String, String)], unsettled: &[&str]| -> Vec<String> {
            let mut files = vec![to("a", "site_too, table: t"), to("z", "site, table: z")];
            files.extend(others.iter().cloned());
            let wanted = of(&files);
            let taken = wanted.taken(&held, &unsettled.iter().copied().collect());
            taken.into_iter().map(|(name, failure)| format!("{name}: {}", failure.message)).collect()
        };
        let kept = ["a: table \"t\" of \"site_too\" is the target of sync \"b\""];
        assert_eq!(told(&[], &[]), Vec::<String>::new(), "it has gone");
        assert_eq!(told(&[to("b", "site, table: t, crate: true")], &[]), kept, "another part of its target");
        assert_eq!(told(&[to("b", "site, tabel: t")], &[]), kept, "its target cannot be told");
        assert_eq!(told(&[to("b", "lost, table: t")], &[]), kept, "its connection has a mistake");
        assert_eq!(told(&[("syncs/b.yml".to_owned(), "sync: b\nmodus: x\n".to_owned())], &[]), kept, "its file");
        assert_eq!(told(&[("syncs/c.yml".to_owned(), "sync: [\n".to_owned())], &[]), kept, "any file");
        // It goes elsewhere, and with a mistake it has not gone yet.
        assert_eq!(told(&[to("b", "site, table: u")], &[]), Vec::<String>::new());
        assert_eq!(told(&[to("b", "site, table: u")], &["b"]), kept);
        assert_eq!(told(&[to("b", "site, table: u")], &["a"]), Vec::<String>::new());
    }

    /// Of two that want one target who delivers to this server has it, before who delivered to a table of that name elsewhere.
    #[test]
    fn targets_of_two_servers_are_two() {
        let to = |name: &str| {
            (
                format!("syncs/{name}.yml"),
                format!("sync: {name}\ntable: shop.users\nto: {{destination: site, table: t}}\n"),
            )
        };
        let wanted = of(&[to("a"), to("b")]);
        let here = wanted.syncs[0].place.as_ref().map(known_of).unwrap();
        let told = |held: &[(&str, engine::outbox::Place)]| -> Vec<String> {
            let held = held.iter().map(|(name, place)| ((*name).to_owned(), *place)).collect();
            wanted.taken(&held, &BTreeSet::new()).into_keys().map(str::to_owned).collect()
        };
        let elsewhere = engine::outbox::Place { within: here.within + 1, ..here };
        assert_eq!(told(&[]), ["b"]);
        assert_eq!(told(&[("b", here)]), ["a"]);
        assert_eq!(told(&[("a", elsewhere), ("b", here)]), ["a"]);
        // Its connection was given another host: it goes there before one that is new.
        assert_eq!(told(&[("b", elsewhere)]), ["a"]);
        assert_eq!(told(&[("b", engine::outbox::Place { within: 0, ..here })]), ["a"]);
    }

    /// Every setting of a connection that can be delivered to has its row in docs/settings.md.
    #[test]
    fn settings_of_destinations_are_told() {
        const DOCS: &str = include_str!("../../../../docs/settings.md");
        for word in KINDS.iter().flat_map(|kind| kind.types()) {
            let values = [("zzz".to_owned(), serde_json::Value::from(1))].into();
            let settings = Settings { connection: "c".to_owned(), kind: (*word).to_owned(), values };
            let refused = kind_of(word).unwrap().check_settings(&settings).unwrap_err();
            let known = refused.hint.strip_prefix("Known are: ").and_then(|known| known.strip_suffix('.')).unwrap();
            let is_head = |line: &&str| line.starts_with("| key of ") && line.contains(&format!("`{word}`"));
            let rows: Vec<&str> =
                DOCS.lines().skip_while(|line| !is_head(line)).take_while(|line| line.starts_with('|')).collect();
            for key in known.split(", ") {
                let is_told = rows.iter().any(|row| row.starts_with(&format!("| `{key}` | ")));
                assert!(is_told, "{word} has no row for {key}: {rows:?}");
            }
        }
    }

    #[test]
    fn a_file_with_a_mistake_is_known_by_its_name_and_takes_nothing_away() {
        let old = of(&[sync("a", "site"), sync("b", "site")]);
        let mut files = vec![sync("a", "site"), sync("c", "site")];
        files[0].1.push_str("mode: mirror\n");
        files.push(("syncs/b.yml".to_owned(), format!("{}modus: mirror\n", sync("b", "site").1)));
        let new = of(&files);
        assert_eq!(new.broken.len(), 1, "{new:?}");
        assert_eq!(new.broken[0].name, "b");
        assert!(new.broken[0].message.starts_with("syncs/b.yml:4:1: "), "{:?}", new.broken[0]);
        assert_eq!(differences(&old, &new), ["~ sync a", "+ sync c"]);
        files.pop();
        assert_eq!(differences(&old, &of(&files)), ["~ sync a", "+ sync c", "- sync b"]);
        assert_eq!(differences(&old, &old), Vec::<String>::new());
    }
}
