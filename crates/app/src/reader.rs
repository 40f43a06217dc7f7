//! Answers the Postgres wire and HTTP: each statement over the newest step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use plan::TableName;
use query::{Answered, Asked, Executor, Reads, Watch};
use serve::{
    About, Answer, Description, Health, Lane, OnStale, Param, Pin, QueryContext, Reader, Role, SqlError, Warning,
};

use crate::clock::Clock;
use crate::data_tests::{self, Test, Tested};
use crate::definition::PlannedModel;
use crate::grants::{Begun, Grants};
use crate::reason::Reason;
use crate::reconcile::models as reconcile;
use crate::status::{Doubt, Stale, Status, View};

/// Reads what the pump published.
pub struct InstanceReader {
    pub status: Arc<Status>,
    pub queries: Arc<query::Runtime>,
    pub clock: Arc<dyn Clock>,
    pub lanes: Lanes,
    /// What roles may read.
    pub grants: Arc<Grants>,
}

/// Threads for what is asked: none of them does anything else, and what one lane runs holds up no other.
pub struct Lanes {
    statements: Arc<Executor>,
    page: Arc<Executor>,
}

/// Panels of the page that are computed at a time, each in a few milliseconds.
const PANELS: usize = 2;

impl Lanes {
    /// Threads for so many statements of clients at a time, and for the page. Errors: the system gives none.
    pub fn new(statements: usize) -> query::Result<Self> {
        Ok(Self { statements: Executor::new("statement", statements)?, page: Executor::new("panel", PANELS)? })
    }

    fn of(&self, lane: Lane) -> &Executor {
        match lane {
            Lane::Statements => &self.statements,
            Lane::Page => &self.page,
        }
    }
}

#[async_trait]
impl Reader for InstanceReader {
    fn pin(&self) -> Pin {
        let view = self.status.view();
        Pin::new(view.snapshot.step(), view)
    }

    async fn query(&self, sql: &str, params: &[Param], context: &QueryContext) -> Result<Answer, SqlError> {
        match own_statement(sql) {
            Some(_) if context.role != Role::Owner => return Err(owners_alone()),
            Some(Own::ReconcileModels) => return self.reconcile().await,
            Some(Own::ExplainModel(name)) => return self.explain(&name),
            Some(Own::Test(wanted)) => return self.test(wanted).await,
            None => {}
        }
        let watch = Watch::new();
        // Before the step that is read: what has caught up since may not have at that step.
        let stale = self.status.stale();
        let (session, begun) = self.session(context, &stale).await?;
        let session = session.with_watch(Arc::clone(&watch));
        let step = session.step();
        let parameters = params.iter().map(|p| query::parameter(&p.0)).collect::<query::Result<Vec<_>>>();
        let parameters = parameters.map_err(|e| sql_error(e, sql))?;
        let warning =
            |reads: &Reads| self.warning(&stale, reads, context).or_else(|| suspicion(sql).map(Warning::of_statement));
        let asking = match session.asked(sql, &parameters).map_err(|e| sql_error(e, sql))? {
            Asked::Row(answer) => {
                let warning = warning(&answer.reads);
                let stream = answer.stream.map(|batch| batch.map_err(|e| sql_error(e.into(), "")));
                return Ok(Answer { schema: answer.schema, stream: stream.boxed(), step, warning });
            }
            Asked::Statement(asking) => asking,
        };
        let text: Arc<str> = sql.into();
        let work = {
            let text = Arc::clone(&text);
            async move {
                let (answer, lesson) = session.answer_first(&text, asking, &parameters).await?;
                Ok((answer, lesson.map(|lesson| move || session.learn(&lesson))))
            }
        };
        let answer = self.lanes.of(context.lane).answer(&watch, work).await;
        let Answered { schema, reads, batches } = answer.map_err(|e| sql_error(e, sql))?;
        let grants = Arc::clone(&self.grants);
        let stream = batches.map(move |batch| {
            begun.as_ref().map_or(Ok(()), |begun| grants.holds(begun))?;
            batch.map_err(|e| sql_error(e, &text))
        });
        Ok(Answer { schema, stream: stream.boxed(), step, warning: warning(&reads) })
    }

    async fn describe(
        &self,
        sql: &str,
        hints: &[Option<DataType>],
        context: &QueryContext,
    ) -> Result<Description, SqlError> {
        match own_statement(sql) {
            Some(_) if context.role != Role::Owner => return Err(owners_alone()),
            Some(Own::ReconcileModels) => {
                return Ok(Description { parameters: Vec::new(), columns: reconcile_schema() });
            }
            Some(Own::ExplainModel(_)) => return Ok(Description { parameters: Vec::new(), columns: explain_schema() }),
            Some(Own::Test(_)) => return Ok(Description { parameters: Vec::new(), columns: test_schema() }),
            None => {}
        }
        let watch = Watch::new();
        let (session, _) = self.session(context, &self.status.stale()).await?;
        let described = match session.described(sql, hints) {
            Some(described) => described,
            None => {
                let (text, hints) = (sql.to_owned(), hints.to_vec());
                let work = async move { session.describe_text(&text, &hints) };
                self.lanes.of(context.lane).run(&watch, work).await.map_err(|e| sql_error(e, sql))?
            }
        };
        Ok(Description { parameters: described.parameters, columns: described.schema })
    }

    fn grants(&self, role: &Role) -> u64 {
        match role {
            Role::Owner => 0,
            Role::Named(_) => self.grants.version(),
        }
    }

    fn health(&self) -> Health {
        let (facts, now) = (self.status.facts(), self.clock.now_us());
        let is_well = facts.troubles(now).is_empty();
        let message = match (facts.started && !facts.ready, facts.under_way()) {
            (false, _) => facts.message(now).line(),
            (true, loading) if loading.is_empty() => format!("nothing was loaded yet; {}", facts.message(now).line()),
            // What is built is said with what is loaded.
            (true, loading) => {
                let troubles = Reason::joined(facts.troubles(now));
                let said = if troubles.is_empty() { String::new() } else { format!("; {}", troubles.line()) };
                format!("not all was loaded yet: {loading}{said}")
            }
        };
        Health { started: facts.started, ready: facts.ready, is_well, message }
    }

    fn metrics(&self) -> String {
        serve::metrics::render(&crate::metrics::of(&self.status, self.clock.now_us()))
    }
}

impl InstanceReader {
    /// A session of whoever asks, and by which grants, where not all is theirs; `stale` is of before its step. Errors: the role is
    /// not known.
    async fn session(
        &self,
        context: &QueryContext,
        stale: &Stale,
    ) -> Result<(query::Session, Option<Begun>), SqlError> {
        let pinned = context.at.as_ref().and_then(Pin::held::<View>).cloned();
        let View { catalog, models, snapshot } = pinned.unwrap_or_else(|| self.status.view());
        let (catalog, begun) = match &context.role {
            Role::Owner => (catalog, None),
            Role::Named(name) => {
                let (view, begun) = match self.grants.known_view(&catalog, name)? {
                    Some(known) => known,
                    None => self.view_of(name, catalog, models, &snapshot).await?,
                };
                (view, Some(begun))
            }
        };
        let session = query::Session::new(snapshot, catalog, Arc::clone(&self.queries));
        let path = &context.search_path;
        let session = if path.is_empty() { session } else { session.with_search_path(path.clone()) };
        let session = match context.on_stale {
            OnStale::Warn | OnStale::Serve => session,
            OnStale::Error => session.without(self.refused(stale, &context.role)),
        };
        let mut identity = query::Identity { pid: context.pid, ..query::Identity::default() };
        // Over HTTP nobody names a database.
        if !context.user.is_empty() {
            identity.user.clone_from(&context.user);
        }
        if !context.database.is_empty() {
            identity.database.clone_from(&context.database);
        }
        Ok((session.with_identity(identity), begun))
    }

    /// The catalogue as a role sees it, made on a thread that holds nobody else up. It is made to its end also where nobody waits
    /// for it any more: the next one finds it.
    async fn view_of(
        &self,
        role: &str,
        catalog: Arc<query::Catalog>,
        models: Arc<Vec<PlannedModel>>,
        snapshot: &store::Snapshot,
    ) -> Result<(Arc<query::Catalog>, Begun), SqlError> {
        let (grants, queries) = (Arc::clone(&self.grants), Arc::clone(&self.queries));
        let (role, snapshot) = (role.to_owned(), snapshot.clone());
        let making = tokio::task::spawn_blocking(move || {
            let owner = || query::Session::new(snapshot.clone(), Arc::clone(&catalog), Arc::clone(&queries));
            grants.view((&catalog, models.as_slice()), &owner, &role)
        });
        making.await.unwrap_or_else(|error| match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(SqlError::new("57P01", "terminating statement due to administrator command")),
        })
    }

    /// What is out of date, as whoever must not read it is told. The reason may name what a role does not read.
    fn refused(&self, stale: &Stale, role: &Role) -> BTreeMap<TableName, query::Error> {
        let now = self.clock.now_us();
        let told = |(name, doubt): (TableName, Doubt)| {
            let reason = told_to(role, &format!("{name} is out of date"), &doubt.reason).and(&doubt.aged(now)).hinting(
                "SET tidemill.on_stale = serve reads what there is; states are in tidemill.tables and tidemill.sources.",
            );
            (name, query::Error::new("55000", reason.message).detail(reason.detail).hint(reason.hint))
        };
        stale.old.iter().map(|(name, doubt)| told((name.clone(), doubt.clone()))).collect()
    }

    /// What is said beside the answer to a statement that reads what is out of date. The reason may name what a role does not read.
    fn warning(&self, stale: &Stale, reads: &Reads, context: &QueryContext) -> Option<Warning> {
        if context.on_stale != OnStale::Warn || stale.is_empty() {
            return None;
        }
        let told = stale.told(reads.iter(), self.clock.now_us())?;
        let about = if told.age.is_some() { About::Age(told.age_us) } else { About::Held };
        let reason = told_to(&context.role, &told.what, &told.why).and(&told.age.unwrap_or_default());
        let why = reason.message.strip_prefix(&told.what).unwrap_or_default().trim_start_matches(": ").to_owned();
        let mut error = SqlError::new("01000", reason.message);
        error.detail = Some(reason.detail).filter(|detail| !detail.is_empty());
        error.hint = Some(reason.hint).filter(|hint| !hint.is_empty());
        Some(Warning { error, why, about })
    }

    async fn reconcile(&self) -> Result<Answer, SqlError> {
        let View { catalog, models, snapshot } = self.status.view();
        let step = snapshot.step();
        let queries = Arc::clone(&self.queries);
        let work = async move { Ok(reconcile::models(catalog, snapshot, queries, &models).await) };
        let (stale, now) = (self.status.stale(), self.clock.now_us());
        let mut compared = self.lanes.statements.run(&Watch::new(), work).await.map_err(|e| sql_error(e, ""))?;
        compared.extend(self.not_kept(&compared));
        let rows = |get: fn(&query::Difference) -> u64| -> ArrayRef {
            let counts = compared.iter().map(|c| c.difference.as_ref().and_then(|d| i64::try_from(get(d)).ok()));
            Arc::new(Int64Array::from_iter(counts))
        };
        let shown = |get: fn(&query::Difference) -> &Vec<String>| -> ArrayRef {
            let texts =
                compared.iter().map(|c| c.difference.as_ref().map(|d| get(d).join("\n")).filter(|t| !t.is_empty()));
            Arc::new(StringArray::from_iter(texts))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(compared.iter().map(|c| &c.schema))),
            Arc::new(StringArray::from_iter_values(compared.iter().map(|c| &c.model))),
            Arc::new(BooleanArray::from_iter(compared.iter().map(reconcile::Compared::is_equal))),
            rows(|d| d.rows_left),
            rows(|d| d.rows_right),
            shown(|d| &d.only_left),
            shown(|d| &d.only_right),
            Arc::new(StringArray::from_iter_values(compared.iter().map(|c| told_of(c, &stale, now)))),
        ];
        one_batch(reconcile_schema(), columns, step)
    }

    /// The models of which there is nothing to be compared, beside those that were.
    fn not_kept(&self, compared: &[reconcile::Compared]) -> Vec<reconcile::Compared> {
        let is_compared = |name: &TableName| compared.iter().any(|c| c.schema == name.schema && c.model == name.name);
        let facts = self.status.facts();
        let unkept = |state: &str| matches!(state, "parked" | "failed" | "building");
        let missing = facts.models.iter().filter(|(name, model)| unkept(&model.state) && !is_compared(name));
        let unknown = missing.map(|(name, model)| {
            let told = model.told().message;
            let colon = if told.is_empty() { "" } else { ": " };
            reconcile::unknown(name, format!("it is {}{colon}{told}", model.state))
        });
        unknown.collect()
    }

    /// Runs the data tests of what is in place at one step, all of them or those of these ids, and notes what came of them.
    async fn test(&self, wanted: Option<BTreeSet<String>>) -> Result<Answer, SqlError> {
        let View { catalog, snapshot, .. } = self.status.view();
        let step = snapshot.step();
        let declared = Test::all(self.status.facts().documented.values());
        let is_wanted = |test: &&Test| wanted.as_ref().is_none_or(|ids| ids.contains(&test.id()));
        let tests: Vec<Test> = declared.iter().filter(is_wanted).cloned().collect();
        let (queries, watch) = (Arc::clone(&self.queries), Watch::new());
        let watched = Arc::clone(&watch);
        let work = async move {
            let mut ran = Vec::with_capacity(tests.len());
            for test in tests {
                let session = query::Session::new(snapshot.clone(), Arc::clone(&catalog), Arc::clone(&queries));
                let tested = test.run(&session.with_watch(Arc::clone(&watched))).await;
                ran.push((test, tested));
            }
            Ok(ran)
        };
        let ran: Vec<(Test, Tested)> = self.lanes.statements.run(&watch, work).await.map_err(|e| sql_error(e, ""))?;
        let (stale, now) = (self.status.stale(), self.clock.now_us());
        let mut facts = self.status.facts();
        facts.tested.note(&ran, &declared, step, now);
        let since: Vec<Option<i64>> = ran.iter().map(|(test, _)| facts.tested.of(test)?.since_us).collect();
        drop(facts);
        let told = |(test, tested): &(Test, Tested)| {
            // Of what has no answer it does not matter how old that would be.
            let old = stale.told(std::iter::once(&test.node), now).filter(|_| tested.verdict.is_answer());
            let old = old.map(|told| told.why.and(&told.age.unwrap_or_default()).behind(&format!("{}: ", told.what)));
            Reason::joined([tested.reason.clone()].into_iter().chain(old))
        };
        let told: Vec<Reason> = ran.iter().map(told).collect();
        let text = |get: fn(&Test) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(ran.iter().map(|(test, _)| get(test))))
        };
        let part = |get: fn(&Reason) -> &String| -> ArrayRef {
            Arc::new(StringArray::from_iter(
                told.iter().map(|reason| Some(get(reason)).filter(|text| !text.is_empty())),
            ))
        };
        let columns: Vec<ArrayRef> = vec![
            text(|test| &test.node.schema),
            text(|test| &test.node.name),
            text(|test| &test.declared.name),
            text(|test| &test.declared.column),
            text(|test| &test.declared.severity),
            Arc::new(StringArray::from_iter_values(ran.iter().map(|(_, tested)| tested.verdict.word()))),
            Arc::new(Int64Array::from_iter(ran.iter().map(|(_, tested)| tested.failures))),
            Arc::new(TimestampMicrosecondArray::from(since).with_timezone("UTC")),
            part(|reason| &reason.message),
            part(|reason| &reason.detail),
            part(|reason| &reason.hint),
            text(|test| &test.declared.sql),
        ];
        one_batch(test_schema(), columns, step)
    }

    fn explain(&self, name: &str) -> Result<Answer, SqlError> {
        let View { catalog, models, .. } = self.status.view();
        let is_it = |of: &TableName| of.name == name || of.to_string() == name;
        let lines = match models.iter().find(|model| is_it(&model.name)) {
            Some(model) => {
                let head = format!("{}: kept up to date row by row ({})", model.name, model.materialized);
                let facts = self.status.facts();
                // What is shown is what serves, which may not be what the project says.
                let held =
                    facts.models.get(&model.name).and_then(|status| status.held.clone().or(status.over_held.clone()));
                let told = held.map(|reason| reason.line());
                drop(facts);
                [vec![head], told.into_iter().collect(), plan::explained(&model.planned.flow)].concat()
            }
            None => {
                let view = catalog.names().find(|of| is_it(of) && catalog.view(of).is_some());
                let sql = view.and_then(|view| Some((view, catalog.view(view)?)));
                let (view, sql) = sql.ok_or_else(|| self.not_explained(name, &is_it))?;
                self.explained_view(view, sql)
            }
        };
        one_batch(explain_schema(), vec![Arc::new(StringArray::from(lines))], 0)
    }

    /// A view keeps nothing: what it reads, and its text.
    fn explained_view(&self, view: &TableName, sql: &str) -> Vec<String> {
        let facts = self.status.facts();
        let reads = facts.lineage.iter().filter(|(_, reader)| reader == view).map(|(below, _)| below.to_string());
        let reads: Vec<String> = reads.collect();
        let mut lines = vec![format!("{view}: a view, answered anew by each statement that reads it")];
        if !reads.is_empty() {
            lines.push(format!("reads {}", reads.join(", ")));
        }
        lines.extend(sql.lines().map(|line| format!("   {line}").trim_end().to_owned()));
        lines
    }

    /// Why there is nothing to explain under a name.
    fn not_explained(&self, name: &str, is_it: &dyn Fn(&TableName) -> bool) -> SqlError {
        let facts = self.status.facts();
        let stopped = facts.models.iter().chain(&facts.views).find(|(of, _)| is_it(of));
        if let Some((of, model)) = stopped {
            // Where it is live, it cannot be shown all the same: it is put in place just now.
            let reason = model.message.clone().behind(&format!("model {of} is {}: ", model.state));
            let mut error = SqlError::new("55000", reason.message.trim_end_matches(": ").to_owned());
            error.detail = Some(reason.detail).filter(|detail| !detail.is_empty());
            error.hint = Some(reason.hint).filter(|hint| !hint.is_empty());
            return error;
        }
        if facts.tables.keys().any(is_it) {
            return SqlError::new("42809", format!("\"{name}\" is a source table, not a model"))
                .hint("It is as its source has it: tidemill.tables says how it is.");
        }
        let missing = SqlError::new("42P01", format!("model \"{name}\" does not exist"));
        let known: Vec<String> = facts.models.keys().chain(facts.views.keys()).map(ToString::to_string).collect();
        match known.len() {
            0 => missing,
            1..=EXPLAINED_MAX => missing.hint(format!("There are: {}.", known.join(", "))),
            _ => missing.hint("tidemill.models lists them."),
        }
    }
}

/// What is said of something to whoever asks: only an owner is told why, which may name what others do not read.
fn told_to(role: &Role, what: &str, why: &Reason) -> Reason {
    match role {
        Role::Owner => why.clone().behind(&format!("{what}: ")),
        Role::Named(_) => Reason::of(what),
    }
}

/// What a statement says that can be meant, and hardly is.
fn suspicion(sql: &str) -> Option<SqlError> {
    let told = plan::suspicions(sql).into_iter().next()?;
    let mut warning = SqlError::new("01000", told.message);
    (warning.detail, warning.hint) = (Some(told.detail), Some(told.hint));
    Some(warning)
}

/// How a model compares, and that both it and what it is compared with are old, where they are.
fn told_of(compared: &reconcile::Compared, stale: &Stale, now_us: i64) -> String {
    let name = TableName::new(&compared.schema, &compared.model);
    // Of what has no answer it does not matter how old that would be.
    let is_answer = compared.difference.is_some();
    let told = stale.told(std::iter::once(&name), now_us).filter(|_| is_answer).map(|told| match told.age {
        Some(age) => format!("; as old as its tables: {}", told.why.and(&age).line()),
        None => format!("; {}", told.why.line()),
    });
    format!("{}{}", compared.message, told.unwrap_or_default())
}

/// Models that a hint lists.
const EXPLAINED_MAX: usize = 20;

/// What is upkeep's own is told with values of all tables.
fn owners_alone() -> SqlError {
    SqlError::new("42501", "permission denied for this statement").hint("A user of the role owner can give it.")
}

/// Statements that are not SQL's own, for the command line and for psql alike.
enum Own {
    ReconcileModels,
    ExplainModel(String),
    /// Of these ids; none for all.
    Test(Option<BTreeSet<String>>),
}

fn own_statement(sql: &str) -> Option<Own> {
    if let Some(wanted) = data_tests::wanted(sql) {
        return Some(Own::Test(wanted));
    }
    // One word more than such a statement has: a text may have millions.
    let words: Vec<&str> = sql.trim().trim_end_matches(';').split_whitespace().take(4).collect();
    match words.as_slice() {
        [a, b] if a.eq_ignore_ascii_case("reconcile") && b.eq_ignore_ascii_case("models") => Some(Own::ReconcileModels),
        [a, b, name] if a.eq_ignore_ascii_case("explain") && b.eq_ignore_ascii_case("model") => {
            Some(Own::ExplainModel(name.replace('"', "")))
        }
        _ => None,
    }
}

fn reconcile_schema() -> arrow::datatypes::SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let count = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        text("schema"),
        text("model"),
        Field::new("equal", DataType::Boolean, true),
        count("rows"),
        count("rows_expected"),
        text("only_kept"),
        text("only_expected"),
        text("message"),
    ]))
}

fn test_schema() -> arrow::datatypes::SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        text("schema"),
        text("model"),
        text("test"),
        text("column"),
        text("severity"),
        text("state"),
        Field::new("failures", DataType::Int64, true),
        Field::new("since", DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))), true),
        text("message"),
        text("detail"),
        text("hint"),
        text("sql"),
    ]))
}

fn explain_schema() -> arrow::datatypes::SchemaRef {
    Arc::new(Schema::new(vec![Field::new("flow", DataType::Utf8, true)]))
}

fn one_batch(schema: arrow::datatypes::SchemaRef, columns: Vec<ArrayRef>, step: u64) -> Result<Answer, SqlError> {
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), columns).map_err(|e| SqlError::new("XX000", e.to_string()))?;
    Ok(Answer { schema, stream: stream::iter([Ok(batch)]).boxed(), step, warning: None })
}

/// An error of a query in the words of the wire.
pub fn sql_error(error: query::Error, sql: &str) -> SqlError {
    let position = error.position.and_then(|(line, column)| character(sql, line, column));
    let position = position.or_else(|| named(sql, &error.message));
    SqlError { code: error.code, message: error.message, detail: error.detail, hint: error.hint, position }
}

/// Where the statement has the name that a message quotes: the planner does not say where it read it.
pub(crate) fn named(sql: &str, message: &str) -> Option<usize> {
    let quoted = message.split('"').nth(1)?;
    // Of a qualified name the last part is written in any case.
    let name = quoted.rsplit('.').next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
    let text = sql.to_ascii_lowercase();
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let found = text.match_indices(&name).find(|(at, _)| {
        let before = text.get(..*at).and_then(|before| before.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    });
    found.and_then(|(at, _)| Some(text.get(..at)?.chars().count() + 1))
}

/// The character number, from 1, of a line and column.
fn character(sql: &str, line: u64, column: u64) -> Option<usize> {
    let before = usize::try_from(line.checked_sub(1)?).ok()?;
    // Beyond the last line there is no character.
    sql.split('\n').nth(before)?;
    let skipped: usize = sql.split('\n').take(before).map(|line| line.chars().count() + 1).sum();
    Some(skipped + usize::try_from(column).ok()?)
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_name_is_found_where_it_stands_alone() {
        let missing = "column \"day\" does not exist";
        assert_eq!(named("select today, DAY from t", missing), Some(15));
        assert_eq!(named("select o.day from t", missing), Some(10));
        assert_eq!(named("select today from t", missing), None);
        assert_eq!(named("select 1", "division by zero"), None);
        assert_eq!(named("select * from public.nowhere", "relation \"public.nowhere\" does not exist"), Some(22));
    }
}
