//! Commands that ask: the running instance over its Postgres wire, a stopped one through its data folder.

use std::io::{IsTerminal as _, Read as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use serve::Reader as _;
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::{AsyncMessage, SimpleQueryMessage};

use super::failure::Rejected;
use super::{Context, Outcome, is_unheard, print};
use crate::ages::Ages;
use crate::clock::{Clock, WallClock};
use crate::delivery::figures;
use crate::grants::Grants;
use crate::instance::Addresses;
use crate::opening::{self, COMMAND_PATIENCE, Found};
use crate::output::{Form, Table};
use crate::pump::Pump;
use crate::reader::{InstanceReader, Lanes};
use crate::reason::Reason;
use crate::reconcile::book::Book;
use crate::setup::Setup;
use crate::status::{Facts, Status};
use crate::warehouse::{Described, Warehouse};

pub(super) async fn query(context: &Context, sql: Option<String>) -> anyhow::Result<Outcome> {
    let sql = &given(sql)?;
    if let Ok(statements) = query::parse(sql)
        && statements.len() != 1
    {
        let (message, hint) = match statements.len() {
            0 => ("there is no statement in it".to_owned(), "For instance `tidemill query 'select 1'`."),
            many => {
                (format!("`query` takes one statement, and these are {many}"), "Ask one after the other, or use psql.")
            }
        };
        bail!("{message}\nHint: {hint}");
    }
    let answer = ask(context, &found(context)?, sql).await?;
    answer.notices.iter().for_each(|notice| context.warn(&notice.to_string()));
    show(context, &answer);
    Ok(Outcome::Ok)
}

/// Bytes of a statement that is piped in.
const PIPED_MAX: u64 = 16 << 20;

/// The statement of the command line, or what is piped in.
fn given(sql: Option<String>) -> anyhow::Result<String> {
    let mut piped = String::new();
    match sql {
        Some(sql) if sql != "-" => return Ok(sql),
        None if std::io::stdin().is_terminal() => {}
        _ => {
            let read = std::io::stdin().take(PIPED_MAX + 1).read_to_string(&mut piped);
            read.context("cannot read what is piped in")?;
            if piped.len() as u64 > PIPED_MAX {
                bail!("what is piped in is longer than {} MiB", PIPED_MAX >> 20);
            }
        }
    }
    Ok(piped)
}

pub(super) async fn explain(context: &Context, model: &str) -> anyhow::Result<Outcome> {
    let answer = ask(context, &found(context)?, &format!("explain model {model}")).await?;
    let lines: Vec<&str> = answer.rows.iter().map(|row| row[0].as_deref().unwrap_or_default()).collect();
    match context.json {
        true => print(&serde_json::json!({"model": model, "flow": lines}).to_string()),
        false => lines.iter().for_each(|line| print(line)),
    }
    Ok(Outcome::Ok)
}

/// What to do where nothing runs.
const START: &str = "Start it with `tidemill up`.";

/// What `status` asks.
const STATUS: [(&str, &str); 6] = [
    ("project", "select state as project, message, detail, hint from tidemill.project"),
    ("sources", "select source, type, state, lag_seconds, position, message, detail, hint from tidemill.sources"),
    (
        "tables",
        "select schema, \"table\", state, rows, snapshot_rows, changes_total, lag_seconds, rejects, message, detail, hint \
         from tidemill.tables",
    ),
    (
        "models",
        "select schema, model, materialized, state, rows, changes_total, freshness_seconds, rejects, message, detail, hint \
         from tidemill.models where materialized <> 'view' or state <> 'live'",
    ),
    (
        "deliveries",
        "select sync, destination, model, state, backlog_rows, oldest_seconds, sent_total, rejected_total, message \
         from tidemill.deliveries",
    ),
    (
        "reconcile",
        "select schema, \"table\", state as compared, rows_only_kept, rows_only_expected, compared_from, comparing_rows, message \
         from tidemill.reconcile",
    ),
];

pub(super) async fn status(context: &Context) -> anyhow::Result<Outcome> {
    let tables = ask_all(context, &found(context)?, &STATUS.map(|(_, sql)| sql)).await?;
    let answers: Vec<_> = STATUS.iter().map(|(name, _)| *name).zip(tables).collect();
    print(&status_text(context, &answers));
    Ok(Outcome::Ok)
}

/// The status of the running instance every second, until it or the command is stopped: on a terminal in place, elsewhere
/// one after the other.
pub(super) async fn watch(context: &Context) -> anyhow::Result<Outcome> {
    let setup = found(context)?;
    let in_place = std::io::IsTerminal::is_terminal(&std::io::stdout()) && !context.json;
    let mut each = tokio::time::interval(std::time::Duration::from_secs(1));
    let interrupt = super::interrupted();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            () = &mut interrupt => return Ok(Outcome::Ok),
            _ = each.tick() => {}
        }
        let Some(addresses) = Addresses::read(&setup.data) else { bail!("nothing runs here\nHint: {START}") };
        let mut answers = Vec::new();
        for (name, sql) in STATUS {
            let Ok(answer) = ask_running(&addresses, sql).await else {
                bail!("nothing runs here any more\nHint: {START}")
            };
            answers.push((name, answer?));
        }
        let text = status_text(context, &answers);
        // To the corner, the new text, and nothing of the old one behind each line or below: no flicker.
        print(&if in_place { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text });
        if is_unheard() {
            return Ok(Outcome::Ok);
        }
    }
}

fn status_text(context: &Context, answers: &[(&str, Table)]) -> String {
    if context.json {
        let members: Vec<String> = answers.iter().map(|(name, table)| format!("\"{name}\":{}", table.json())).collect();
        return format!("{{{}}}", members.join(","));
    }
    // Where nothing was ever compared, or is delivered, there is nothing to be said of it.
    let is_shown = |name: &str, table: &Table| !["deliveries", "reconcile"].contains(&name) || !table.rows.is_empty();
    let shown = answers.iter().filter(|(name, table)| is_shown(name, table));
    shown.map(|(_, table)| format!("{}\n", table.explained())).collect::<Vec<_>>().join("\n")
}

/// The syncs of the instance, or one of them.
pub(super) async fn syncs(context: &Context, name: Option<&str>) -> anyhow::Result<Outcome> {
    let of = name.map(|name| format!(" where sync = '{}'", name.replace('\'', "''"))).unwrap_or_default();
    let sql = format!(
        "select sync, destination, model, state, backlog_rows, oldest_seconds, sent_total, rejected_total, step, message \
         from tidemill.deliveries{of}"
    );
    let answer = ask(context, &found(context)?, &sql).await?;
    if let (Some(name), true) = (name, answer.rows.is_empty()) {
        bail!("there is no sync \"{name}\"\nHint: `tidemill sync` lists those that there are.");
    }
    show(context, &answer);
    Ok(Outcome::Ok)
}

pub(super) async fn reconcile_models(context: &Context) -> anyhow::Result<Outcome> {
    let answer = ask(context, &found(context)?, "reconcile models").await?;
    let equal = |row: &Vec<Option<String>>| row[2].as_deref().map(|v| v.starts_with('t'));
    if context.json {
        print(&answer.json());
    } else {
        for row in &answer.rows {
            let cell = |i: usize| row[i].as_deref().unwrap_or_default();
            let word = match equal(row) {
                Some(true) => "equal",
                Some(false) => "DIFFERS",
                None => {
                    print(&format!("unknown  {}.{}  {}", cell(0), cell(1), cell(7)));
                    continue;
                }
            };
            let rows = if cell(3) == "1" { "row" } else { "rows" };
            print(&format!("{word:<8} {}.{}  {} {rows}, {} expected, {}", cell(0), cell(1), cell(3), cell(4), cell(7)));
            for (mark, i) in [("only kept", 5), ("only expected", 6)] {
                cell(i).lines().for_each(|line| print(&format!("         {mark}: {line}")));
            }
        }
    }
    Ok(if answer.rows.iter().all(|row| equal(row) == Some(true)) { Outcome::Ok } else { Outcome::Failed })
}

fn show(context: &Context, table: &Table) {
    if context.json { print(&table.json()) } else { print(&table.aligned()) }
}

/// The folder that is asked. An answer needs nothing else: a mistake in the project keeps nobody from reading what serves. Where there
/// is no project, it is the one demo that runs.
pub(super) fn found(context: &Context) -> anyhow::Result<Setup> {
    let setup = Setup::of_data(&context.global)?;
    if context.global.project.is_some() && !setup.folder.is_dir() {
        bail!("there is no folder {}", setup.folder.display());
    }
    if context.global.data.is_some() || setup.data.join("store").is_dir() || setup.is_project() {
        return Ok(setup);
    }
    let mut demos = crate::demo::running();
    match (demos.pop(), demos.is_empty()) {
        (None, _) => {
            let folder = std::path::absolute(&setup.folder).unwrap_or_else(|_| setup.folder.clone());
            bail!(
                "there is no project in {}\nHint: Run this in a dbt project (a folder with dbt_project.yml), or give one with \
                 --project; `tidemill init` makes one.",
                folder.display()
            )
        }
        (Some(data), true) => {
            context.progress(&format!("there is no project here: the demo that runs in {} is asked", data.display()));
            Ok(Setup { data, ..setup })
        }
        (Some(last), false) => {
            let folders: Vec<String> = demos.iter().chain([&last]).map(|data| data.display().to_string()).collect();
            bail!(
                "there is no project here, and more than one demo runs\nHint: Choose one with --data: {}.",
                folders.join(", ")
            )
        }
    }
}

pub(super) async fn ask(context: &Context, setup: &Setup, sql: &str) -> anyhow::Result<Table> {
    let answered = ask_all(context, setup, &[sql]).await?.pop();
    answered.context("there is no answer")
}

/// Asks one and the same for all of it: the running instance, else the data folder.
pub(super) async fn ask_all(context: &Context, setup: &Setup, questions: &[&str]) -> anyhow::Result<Vec<Table>> {
    let mut asked = Asked::of(context, setup);
    let answers = asked.all(questions).await;
    asked.close().await?;
    answers
}

/// Whoever answers for a folder: the running instance, else the folder itself, which is opened once however much is asked of it.
pub(super) struct Asked<'a> {
    context: &'a Context,
    setup: &'a Setup,
    running: Option<Addresses>,
    /// Something was answered: from then on nobody else is asked.
    is_known: bool,
    stopped: Option<Box<Stopped>>,
}

impl<'a> Asked<'a> {
    /// Nobody yet; who it is turns out with the first question.
    pub(super) fn of(context: &'a Context, setup: &'a Setup) -> Self {
        Self { context, setup, running: Addresses::read(&setup.data), is_known: false, stopped: None }
    }

    pub(super) async fn ask(&mut self, sql: &str) -> anyhow::Result<Table> {
        if let (Some(addresses), None) = (&self.running, &self.stopped) {
            match ask_running(addresses, sql).await {
                Ok(answer) => {
                    self.is_known = true;
                    return answer;
                }
                Err(error) if self.is_known => return Err(error),
                // An instance may have ended without taking its note along.
                Err(_) => {}
            }
        }
        let stopped = match self.stopped.take() {
            Some(stopped) => stopped,
            None => match Stopped::open(self.context, self.setup).await? {
                Ok(stopped) => Box::new(stopped),
                // It was starting.
                Err(addresses) => {
                    let answer = ask_running(&addresses, sql).await;
                    (self.running, self.is_known) = (Some(addresses), true);
                    return answer?;
                }
            },
        };
        read(&self.stopped.insert(stopped).reader, sql).await
    }

    /// The answers to all of it. Errors: one has none.
    pub(super) async fn all(&mut self, questions: &[&str]) -> anyhow::Result<Vec<Table>> {
        let mut answers = Vec::with_capacity(questions.len());
        for sql in questions {
            answers.push(self.ask(sql).await?);
        }
        Ok(answers)
    }

    /// Lets go of the folder, so that the next one can open it.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self.stopped {
            Some(stopped) => Ok(tokio::task::spawn_blocking(move || drop(stopped)).await?),
            None => Ok(()),
        }
    }
}

/// Asks the running instance, and no other.
pub(super) async fn ask_instance(setup: &Setup, sql: &str) -> anyhow::Result<Table> {
    match Addresses::read(&setup.data) {
        Some(addresses) => ask_running(&addresses, sql).await?,
        None => bail!("nothing runs here that could be asked"),
    }
}

/// The outer error: nobody answers at this address. The inner one: the statement failed.
pub(super) async fn ask_running(addresses: &Addresses, sql: &str) -> anyhow::Result<anyhow::Result<Table>> {
    let (host, port) = addresses.pg.rsplit_once(':').context("no address")?;
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port.parse()?).user(serve::OPERATOR).dbname("tidemill");
    if let Some(word) = &addresses.word {
        config.password(word);
    }
    let (client, mut connection) = config.connect(tokio_postgres::NoTls).await?;
    let driver = tokio::spawn(async move {
        let mut notices = Vec::new();
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
                let message = notice.message().to_owned();
                notices.push(Reason { message, detail: text(notice.detail()), hint: text(notice.hint()) });
            }
        }
        notices
    });
    // Whoever gives the command ends it.
    client.batch_execute("set statement_timeout = 0").await?;
    // What cannot be prepared says why when it is asked.
    let forms = match client.prepare(sql).await {
        Ok(prepared) => prepared.columns().iter().map(|column| Form::named(column.type_().name())).collect(),
        Err(_) => Vec::new(),
    };
    let answer = client.simple_query(sql).await;
    drop(client);
    let notices = driver.await.unwrap_or_default();
    Ok(answer.map(|messages| Table { notices, ..table_of(messages, forms) }).map_err(|error| {
        match error.as_db_error() {
            Some(said) => rejected(said, sql).into(),
            None => error.into(),
        }
    }))
}

fn rejected(said: &DbError, sql: &str) -> Rejected {
    let at = said.position().and_then(|position| match position {
        ErrorPosition::Original(at) => Some((sql.to_owned(), usize::try_from(*at).ok()?)),
        ErrorPosition::Internal { .. } => None,
    });
    Rejected {
        code: said.code().code().to_owned(),
        message: said.message().to_owned(),
        detail: said.detail().map(str::to_owned),
        hint: said.hint().map(str::to_owned),
        at,
    }
}

fn table_of(messages: Vec<SimpleQueryMessage>, forms: Vec<Form>) -> Table {
    let mut table = Table { forms, ..Table::default() };
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table.columns = columns.iter().map(|c| c.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                table.rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    table
}

/// A data folder that is only read.
struct Stopped {
    reader: InstanceReader,
    /// It has the warehouse, and does nothing with it.
    _pump: Pump,
}

impl Stopped {
    /// Opens the data folder, without sources or a project: what was durable when the instance stopped, as old as it is by now.
    /// Where an instance has started meanwhile, who is to be asked instead.
    async fn open(context: &Context, setup: &Setup) -> anyhow::Result<Result<Self, Addresses>> {
        if !setup.data.join("store").is_dir() {
            bail!("nothing runs here, and there is no data yet in {}\nHint: {START}", setup.data.display());
        }
        let runtime = tokio::runtime::Handle::current();
        let say = |text: &str| context.progress(text);
        let found = opening::found(setup, Described::default(), Arc::default(), COMMAND_PATIENCE, say);
        let warehouse = match found.await? {
            Found::Folder(warehouse) => *warehouse,
            Found::Instance(addresses) => return Ok(Err(addresses)),
        };
        let status = Status::new(warehouse.engine.store().clone());
        let clock: Arc<dyn Clock> = Arc::new(WallClock);
        note_stopped(&mut status.facts(), &warehouse, setup)?;
        figures::look_once(&status, warehouse.engine.outboxes())?;
        if let (true, Ok(project)) = (setup.is_project(), Setup::load(&context.global)) {
            status.facts().personal = crate::grants::declared(&project.project);
        }
        let reader = InstanceReader {
            status: Arc::clone(&status),
            queries: Arc::clone(&warehouse.queries),
            clock: Arc::clone(&clock),
            lanes: Lanes::new(1)?,
            grants: Arc::new(Grants::of(&setup.project, setup.half_read())),
        };
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let pump = Pump::new(warehouse, Arc::clone(&status), clock, stop, runtime);
        // What the project says by now is nobody's question.
        status.facts().pending = false;
        Ok(Ok(Self { reader, _pump: pump }))
    }
}

/// What was noted when the instance stopped: its sources are not read since then, and all that stands on them grows old.
fn note_stopped(facts: &mut Facts, warehouse: &Warehouse, setup: &Setup) -> anyhow::Result<()> {
    facts.reconciled = Book::read(&setup.data)?;
    facts.is_stopped = true;
    let engine = &warehouse.engine;
    let snapshot = engine.store().snapshot();
    for outbox in engine.outboxes().status(&snapshot)?.into_iter().filter(|outbox| !outbox.is_retired) {
        let delivery = facts.deliveries.entry(outbox.name.clone()).or_default();
        delivery.relation = Some(outbox.relation.clone());
        (delivery.step, delivery.outbox) = (snapshot.step(), Some(outbox));
        delivery.waits = Some("nothing runs here; `tidemill up` goes on".to_owned());
    }
    let sources: Vec<(u32, String)> = engine.sources().map(|(id, name)| (id, name.to_owned())).collect();
    let tables: Vec<_> = engine.tables().map(|table| table.name.clone()).collect();
    let models = warehouse.serving.models.iter().map(|model| &model.name);
    let names = sources.iter().map(|(_, name)| name.as_str());
    Ages::read(&setup.data).recall(facts, names, tables.iter(), models);
    for (id, name) in sources {
        let source = facts.sources.entry(name).or_default();
        "stopped".clone_into(&mut source.state);
        source.message = Reason::of("nothing runs here\nHint: `tidemill up` goes on.");
        source.position = engine.position(id).cloned().unwrap_or_default().0;
    }
    Ok(())
}

pub(super) async fn read(reader: &InstanceReader, sql: &str) -> anyhow::Result<Table> {
    let said = |error: serve::SqlError| Rejected {
        code: error.code.to_owned(),
        message: error.message,
        detail: error.detail,
        hint: error.hint,
        at: error.position.map(|at| (sql.to_owned(), at)),
    };
    let answer = reader.query(sql, &[], &serve::QueryContext::default()).await.map_err(said)?;
    let notices = answer.warning.map(|warning| {
        let serve::SqlError { message, detail, hint, .. } = warning.error;
        Reason { message, detail: detail.unwrap_or_default(), hint: hint.unwrap_or_default() }
    });
    let batches: Vec<_> = answer.stream.try_collect().await.map_err(said)?;
    Ok(Table { notices: notices.into_iter().collect(), ..Table::from_batches(&answer.schema, &batches)? })
}
