//! The sources that are followed: who commands them finds them here, and what a project that has changed wants of them is
//! told from what they do.
//!
//! New tables of a running source, and new connections with theirs, are followed without a restart, and tables that the
//! project has no more are let go. A connection or a table that is another one by the same name is taken up by a restart
//! alone: what is stored of it is of the old one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use connect::{Source, TablePlace};
use plan::TableName;
use project::ConnectionKind;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::planned::{ask, idle_filters, planned};
use super::{Command, Commanded, Kept, Line, Outlet, PlannedFeed, PlannedTable, follow};
use crate::pump::{Message, Request};
use crate::setup::Setup;
use crate::warehouse::{Described, Warehouse};

/// The sources that are followed.
pub struct Roster {
    outlet: Outlet,
    sources: Mutex<BTreeMap<String, Entry>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

struct Entry {
    kind: ConnectionKind,
    source: Arc<dyn Source>,
    line: Line,
    tables: BTreeMap<TableName, TablePlace>,
}

/// What a project wants followed that is not.
#[derive(Default)]
pub struct Wanted {
    /// New tables, by their sources, which may be new themselves.
    pub feeds: Vec<PlannedFeed>,
    /// What is there of them, and what is not.
    pub described: Described,
    /// Tables that are followed, and whose columns are to be read by another rule. They are among those of the feeds.
    pub changed: BTreeSet<TableName>,
    /// The same where the rule differs in what becomes of the table one day: nothing else is read of it now.
    pub ruled: BTreeSet<TableName>,
    /// In what words the rules differ, by table.
    pub rules: BTreeMap<TableName, Vec<String>>,
    /// Tables that are followed, and not wanted any more: their sources and names.
    pub gone: Vec<(String, TableName)>,
    /// What is taken up by a restart alone.
    pub restart: Vec<String>,
    /// What may be a mistake: filters that leave nothing out.
    pub warnings: Vec<String>,
}

impl Wanted {
    /// Why tables that are followed cannot be read by the rules that are wanted for them.
    pub fn unreadable(&self) -> Vec<String> {
        let absent = self.described.absent.iter().filter(|table| self.changed.contains(&table.name));
        absent.map(|table| format!("source table {} cannot be read so\n{}", table.name, table.reason)).collect()
    }

    /// The new tables.
    pub fn new_tables(&self) -> impl Iterator<Item = &PlannedTable> {
        let tables = self.feeds.iter().flat_map(|feed| &feed.tables);
        tables.filter(|table| !self.changed.contains(&table.name) && !self.ruled.contains(&table.name))
    }
}

const STOPPING: &str = "the instance is stopping";

/// Whether a connection of a project is the one that is followed under its name.
fn is_same(setup: &Setup, name: &str, entry: &Entry) -> bool {
    setup.project.connection(name).is_some_and(|now| now.kind == entry.kind)
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Roster {
    /// Follows the sources of a project from its start.
    pub fn start(feeds: Vec<PlannedFeed>, warehouse: &Warehouse, outlet: Outlet) -> Self {
        let roster = Self { outlet, sources: Mutex::default(), tasks: Mutex::default() };
        for feed in feeds {
            let entry = |line| Entry {
                kind: feed.kind.clone(),
                source: Arc::clone(&feed.source),
                line,
                tables: feed.tables.iter().map(|table| (table.name.clone(), table.place.clone())).collect(),
            };
            let name = feed.name.clone();
            let (kind, source, tables) = (feed.kind.clone(), Arc::clone(&feed.source), feed.tables.clone());
            let (task, line) =
                super::start(PlannedFeed { name: name.clone(), kind, source, tables }, warehouse, &roster.outlet);
            held(&roster.tasks).push(task);
            held(&roster.sources).insert(name, entry(line));
        }
        roster
    }

    /// Names of the sources.
    pub fn names(&self) -> Vec<String> {
        held(&self.sources).keys().cloned().collect()
    }

    /// Waits until the sources have ended. They are told so before.
    pub async fn ended(&self) {
        let tasks: Vec<JoinHandle<()>> = held(&self.tasks).drain(..).collect();
        for task in tasks {
            task.await.ok();
        }
    }

    /// Has a source do something. Errors: there is none of that name, or it cannot.
    pub async fn command(&self, source: &str, what: Commanded) -> anyhow::Result<Vec<String>> {
        let line = held(&self.sources).get(source).map(|entry| entry.line.clone());
        let Some(line) = line else {
            bail!("there is no source \"{source}\"\nHint: One of: {}.", self.names().join(", "));
        };
        let (answer, answered) = oneshot::channel();
        let ended = || match *self.outlet.stopped.borrow() {
            true => anyhow::anyhow!(STOPPING),
            false => anyhow::anyhow!(
                "source \"{source}\" has ended inside Tidemill: the log says where, please report it\n\
                 Hint: `tidemill apply` begins it again, and so does a restart; what is stored of it serves on."
            ),
        };
        line.send(Command { what, answer }).await.map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?.map_err(|reason| anyhow::anyhow!(reason))
    }

    /// What a project wants that is not followed, as its sources describe it. Nothing is done yet. Errors: a new connection
    /// with settings that its kind refuses, or with a secret that cannot be read.
    pub async fn wanted(&self, setup: &Setup) -> anyhow::Result<Wanted> {
        self.forget_ended();
        let mut wanted = Wanted::default();
        let (mut feeds, mut tables) = (Vec::new(), Vec::new());
        {
            let sources = held(&self.sources);
            for (name, entry) in sources.iter() {
                let now = setup.project.connection(name);
                match now {
                    // What it says now cannot be read: it is read as before.
                    None if setup.project.broken_connections.contains_key(name) => {}
                    None => wanted.restart.push(format!("connection {name} is gone")),
                    Some(now) if now.kind != entry.kind => wanted.restart.push(format!("connection {name} changed")),
                    Some(_) => {}
                }
            }
            let follows =
                |table: &TableName| sources.iter().find_map(|(name, entry)| Some((name, entry.tables.get(table)?)));
            for feed in setup.feeds()? {
                let name = &feed.connection.name;
                let running = sources.get(name);
                let is_same = running.is_none_or(|entry| entry.kind == feed.connection.kind);
                let (mut new, mut ruled) = (Vec::new(), Vec::new());
                for table in planned(&feed) {
                    let text = |what: &str| format!("source table {} {what}", table.name);
                    match follows(&table.name) {
                        Some((source, place)) if *source != *name || !place.is_of_one_table(&table.place) => {
                            tables.push(text("changed"))
                        }
                        Some((_, place)) if *place == table.place => {}
                        Some(_) if !is_same => tables.push(text("changed")),
                        Some((_, place)) => {
                            let (old, rule) = (&place.columns, &table.place.columns);
                            let mut differences = crate::filters::differences(old, rule);
                            if place.declared != table.place.declared {
                                differences.push("its declaration is another one".to_owned());
                            }
                            wanted.rules.insert(table.name.clone(), differences);
                            let is_read_so = place.reads_as(&table.place);
                            let of = if is_read_so { &mut wanted.ruled } else { &mut wanted.changed };
                            of.insert(table.name.clone());
                            if is_read_so { ruled.push(table) } else { new.push(table) }
                        }
                        None if !is_same => tables.push(text("is new")),
                        None => new.push(table),
                    }
                }
                if !new.is_empty() || !ruled.is_empty() {
                    feeds.push((feed.connection.clone(), running.map(|entry| Arc::clone(&entry.source)), new, ruled));
                }
            }
            let is_other = |name: &String, entry: &Entry| {
                !is_same(setup, name, entry) && !setup.project.broken_connections.contains_key(name)
            };
            for entry in sources.iter().filter(|(name, entry)| is_other(name, entry)).map(|(_, entry)| entry) {
                let gone = entry.tables.keys().filter(|table| !setup.has_table(table));
                tables.extend(gone.map(|table| format!("source table {table} is gone")));
            }
        }
        wanted.restart.append(&mut tables);
        wanted.gone = self.gone(setup);
        for (connection, running, mut tables, ruled) in feeds {
            let source = match running {
                Some(source) => source,
                None => crate::sources::open_by_and_by(&connection).await,
            };
            let name = connection.name.clone();
            if !tables.is_empty()
                && let Some(unanswered) = ask(&name, &*source, &mut tables, &mut wanted.described).await
            {
                tracing::warn!(source = %name, failure = %unanswered, "new tables cannot be asked for yet");
            }
            wanted.warnings.extend(idle_filters(&tables));
            tables.extend(ruled);
            wanted.feeds.push(PlannedFeed { name, kind: connection.kind, source, tables });
        }
        Ok(wanted)
    }

    /// Tables that are followed and that a project has no more: their sources and names. Not those of a connection that is
    /// another one by now.
    pub fn gone(&self, setup: &Setup) -> Vec<(String, TableName)> {
        let sources = held(&self.sources);
        let running = sources.iter().filter(|(name, entry)| is_same(setup, name, entry));
        let gone = running.flat_map(|(name, entry)| {
            let tables = entry.tables.keys().filter(|table| !setup.has_table(table));
            tables.map(|table| (name.clone(), table.clone()))
        });
        gone.collect()
    }

    /// Follows new tables: those that are there are taken up and begin to load, the others are looked for. A source that was followed
    /// at an earlier start goes on from where it stood, with what there is of its tables. Answers with what could not be followed, and
    /// why: that of one source stops no other one, and what is entered here is followed. Errors: the instance is stopping.
    pub async fn follow(&self, feeds: Vec<PlannedFeed>) -> anyhow::Result<Vec<String>> {
        let mut failed = Vec::new();
        for feed in feeds {
            let (name, tables) = (feed.name.clone(), feed.tables.iter().map(|table| table.name.to_string()));
            let tables = tables.collect::<Vec<_>>().join(", ");
            if let Err(error) = self.follow_feed(feed).await {
                if *self.outlet.stopped.borrow() {
                    return Err(error);
                }
                tracing::error!(source = %name, %tables, %error, "new tables are not followed");
                failed.push(format!("source \"{name}\": {tables} cannot be followed: {error}"));
            }
        }
        Ok(failed)
    }

    async fn follow_feed(&self, mut feed: PlannedFeed) -> anyhow::Result<()> {
        let place = |table: &PlannedTable| (table.name.clone(), table.place.clone());
        let is_running = held(&self.sources).contains_key(&feed.name);
        if !is_running {
            let number = self.register(&feed.name).await?;
            let Kept { resume, tables: mut kept, .. } = self.kept(&feed.name).await?;
            let (known, new): (Vec<_>, Vec<_>) =
                feed.tables.into_iter().partition(|table| kept.contains_key(&table.name));
            feed.tables = new;
            let tables = known.iter().map(place).collect();
            let with_known = |table: PlannedTable| {
                let known = kept.remove(&table.name);
                (table, known)
            };
            let known = known.into_iter().map(with_known).collect();
            let at_work = (feed.name.clone(), number);
            let (task, line) = follow(at_work, Arc::clone(&feed.source), known, resume, &self.outlet);
            held(&self.tasks).push(task);
            let entry = Entry { kind: feed.kind.clone(), source: Arc::clone(&feed.source), line, tables };
            held(&self.sources).insert(feed.name.clone(), entry);
        }
        let places: Vec<_> = feed.tables.iter().map(place).collect();
        if !feed.tables.is_empty() {
            self.command(&feed.name, Commanded::Follow(feed.tables)).await?;
        }
        if let Some(entry) = held(&self.sources).get_mut(&feed.name) {
            entry.tables.extend(places);
        }
        Ok(())
    }

    /// A source whose task has ended though nobody has stopped it is none that is followed: it is begun again like a new one.
    fn forget_ended(&self) {
        if !*self.outlet.stopped.borrow() {
            held(&self.sources).retain(|_, entry| !entry.line.is_closed());
        }
    }

    /// Follows tables no more. What was stored of them goes by itself when nothing reads it.
    pub async fn let_go(&self, gone: Vec<(String, TableName)>) -> anyhow::Result<()> {
        let mut by_source: BTreeMap<String, Vec<TableName>> = BTreeMap::new();
        for (source, table) in gone {
            by_source.entry(source).or_default().push(table);
        }
        for (source, tables) in by_source {
            if let Some(entry) = held(&self.sources).get_mut(&source) {
                entry.tables.retain(|name, _| !tables.contains(name));
            }
            // What has ended follows nothing.
            if let Err(error) = self.command(&source, Commanded::LetGo(tables.clone())).await
                && *self.outlet.stopped.borrow()
            {
                return Err(error);
            }
            // Of what was never stored nothing is left that could go by itself.
            let mut facts = self.outlet.status.facts();
            facts.tables.retain(|name, status| status.is_stored || !tables.contains(name));
        }
        Ok(())
    }

    async fn register(&self, source: &str) -> anyhow::Result<u32> {
        let (answer, answered) = oneshot::channel();
        let number = self.ask(Request::RegisterSource { source: source.to_owned(), answer }, answered).await?;
        number.map_err(|reason| anyhow::anyhow!(reason))
    }

    async fn kept(&self, source: &str) -> anyhow::Result<Kept> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Kept { source: source.to_owned(), answer }, answered).await
    }

    async fn ask<T>(&self, request: Request, answered: oneshot::Receiver<T>) -> anyhow::Result<T> {
        let stopping = || anyhow::anyhow!(STOPPING);
        self.outlet.inbox.send(Message::Ask(request)).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::clock::WallClock;
    use crate::follow::follower::tests::{Told, planned};
    use crate::status::Status;

    /// What cannot be followed stops no other source, and is followed by the next who asks for it.
    #[tokio::test]
    async fn a_source_that_ends_inside_stops_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = store::Store::open(folder.path(), store::Options::default()).unwrap();
        let (inbox, mut outbox) = mpsc::channel(8);
        let (stop, stopped) = watch::channel(false);
        let (status, clock) = (Status::new(store), Arc::new(WallClock));
        let outlet = Outlet { inbox, status, clock, stopped, marks: Arc::default() };
        let roster = Roster { outlet, sources: Mutex::default(), tasks: Mutex::default() };
        let pump = tokio::spawn(async move {
            let mut next = 3;
            while let Some(message) = outbox.recv().await {
                match message {
                    Message::Ask(Request::RegisterSource { answer, .. }) => answer.send(Ok(3)).unwrap(),
                    Message::Ask(Request::Kept { answer, .. }) => {
                        answer.send(Kept { number: 3, resume: None, tables: BTreeMap::new() }).unwrap();
                    }
                    Message::Ask(Request::TakeUp { answer, .. }) => {
                        next += 1;
                        answer.send(Ok(relation::TableId(next))).unwrap();
                    }
                    _ => {}
                }
            }
        });
        let feed = |name: &str, source: Told| PlannedFeed {
            name: name.to_owned(),
            kind: ConnectionKind::Other { kind: "told".to_owned(), settings: BTreeMap::new() },
            source: Arc::new(source),
            tables: vec![planned("orders")],
        };
        let names = |roster: &Roster| -> Vec<(String, usize)> {
            held(&roster.sources).iter().map(|(name, entry)| (name.clone(), entry.tables.len())).collect()
        };
        let failed = roster.follow(vec![feed("bad", Told::buggy()), feed("good", Told::default())]).await.unwrap();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(
            failed[0].starts_with("source \"bad\": shop.orders cannot be followed: source \"bad\" has ended"),
            "{failed:?}"
        );
        assert_eq!(names(&roster), [("bad".to_owned(), 0), ("good".to_owned(), 1)]);
        let told = roster.command("bad", Commanded::Pause).await.unwrap_err().to_string();
        assert!(told.contains("`tidemill apply` begins it again"), "{told}");
        roster.forget_ended();
        assert_eq!(names(&roster), [("good".to_owned(), 1)]);
        assert_eq!(roster.follow(vec![feed("bad", Told::default())]).await.unwrap(), Vec::<String>::new());
        assert_eq!(names(&roster), [("bad".to_owned(), 1), ("good".to_owned(), 1)]);
        stop.send_replace(true);
        roster.ended().await;
        drop(roster);
        pump.await.unwrap();
    }
}
