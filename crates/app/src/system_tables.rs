//! The tables of the schema `tidemill`: the instance's own facts, for SQL.

mod deliveries;
mod rejects;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use plan::TableName;
use query::{VirtualRows, VirtualTable};
use serve::metrics::{Kind, Metric, Value};

use crate::audit::Entry;
use crate::clock::Clock;
use crate::column_lineage::{self, MadeOf};
use crate::data_tests::{Noted, Test};
use crate::documentation::{Declared, Documented};
use crate::history::Sample;
use crate::reason::Reason;
use crate::recent::{RecentChange, RecentStep};
use crate::reconcile::source::Compared;
use crate::rejected;
use crate::status::{Facts, SourceStatus, Status, TableStatus};

/// A column of a system table.
enum Column {
    Text(Vec<Option<String>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    /// Microseconds since 1970 UTC.
    Time(Vec<Option<i64>>),
}

type Columns = Vec<(&'static str, Column)>;

/// The schema of all system tables.
pub const SCHEMA: &str = "tidemill";

/// Tables that are a function of the facts and the time.
const OF_FACTS: [(&str, fn(&Facts, i64) -> Columns); 14] = [
    ("project", project),
    ("sources", sources),
    ("tables", tables),
    ("models", models),
    ("latency", latency),
    ("deliveries", deliveries::deliveries),
    ("delivery_log", deliveries::log),
    ("syncs", deliveries::syncs),
    ("steps", steps),
    ("lineage", lineage),
    ("tests", tests),
    ("reconcile", reconcile),
    ("reconcile_runs", reconcile_runs),
    ("settings", settings),
];

/// Adds all system tables to a catalogue, without a row: for who plans over them.
pub fn add_shapes(catalog: &mut query::Catalog) {
    let of_facts = OF_FACTS.iter().map(|(name, columns)| (*name, columns(&Facts::default(), 0)));
    let others = [
        ("rejects", rejects::columns(&[])),
        ("test_failures", test_failures(&[])),
        ("step_changes", step_changes(&[])),
        ("history", history(&[])),
        ("metrics", metrics(&[])),
        ("audit", audit(&[])),
        ("column_lineage", made_of(&[])),
    ];
    for (name, columns) in of_facts.chain(others) {
        let schema = schema_of(&columns);
        let empty = RecordBatch::new_empty(Arc::clone(&schema));
        let rows = VirtualRows::Whole(Arc::new(move || empty.clone()));
        catalog.add_virtual(VirtualTable { name: TableName::new(SCHEMA, name), schema, rows });
    }
}

/// Adds all system tables to a catalogue.
pub fn add(catalog: &mut query::Catalog, status: &Arc<Status>, clock: &Arc<dyn Clock>) {
    for (name, columns) in OF_FACTS {
        let clock = Arc::clone(clock);
        let schema = schema_of(&columns(&Facts::default(), 0));
        add_one(catalog, name, schema, status, move |status| columns(&status.facts(), clock.now_us()));
    }
    // What is long is copied first and written out without the facts: the pump waits for them.
    catalog.add_virtual(rejects::table(status));
    add_one(catalog, "test_failures", schema_of(&test_failures(&[])), status, |status| {
        let catalog = status.view().catalog;
        let failing = failing_rows(&status.facts(), &catalog);
        test_failures(&failing)
    });
    add_one(catalog, "step_changes", schema_of(&step_changes(&[])), status, |status| {
        let steps = status.facts().recent.steps().cloned().collect::<Vec<_>>();
        step_changes(&steps)
    });
    add_one(catalog, "history", schema_of(&history(&[])), status, |status| {
        let samples = status.facts().history.samples();
        history(&samples)
    });
    add_one(catalog, "audit", schema_of(&audit(&[])), status, |status| audit(&status.audited()));
    add_one(catalog, "column_lineage", schema_of(&made_of(&[])), status, |status| {
        let view = status.view();
        made_of(&column_lineage::of(&view.models, &view.catalog))
    });
    let clock = Arc::clone(clock);
    add_one(catalog, "metrics", schema_of(&metrics(&[])), status, move |status| {
        metrics(&crate::metrics::of(status, clock.now_us()))
    });
}

/// The status has the catalogue, so the catalogue does not keep the status: neither would ever go, nor let go of the folder. Whoever
/// still has the catalogue when the instance has ended finds nothing.
fn add_one(
    catalog: &mut query::Catalog,
    name: &str,
    schema: SchemaRef,
    status: &Arc<Status>,
    columns: impl Fn(&Status) -> Columns + Send + Sync + 'static,
) {
    let (batch_schema, status) = (Arc::clone(&schema), Arc::downgrade(status));
    let rows = move || match status.upgrade() {
        Some(status) => batch(&batch_schema, columns(&status)),
        None => RecordBatch::new_empty(Arc::clone(&batch_schema)),
    };
    catalog.add_virtual(VirtualTable {
        name: TableName::new(SCHEMA, name),
        schema,
        rows: VirtualRows::Whole(Arc::new(rows)),
    });
}

fn schema_of(columns: &Columns) -> SchemaRef {
    let fields = columns.iter().map(|(name, column)| {
        let data_type = match column {
            Column::Text(_) => DataType::Utf8,
            Column::Int(_) => DataType::Int64,
            Column::Float(_) => DataType::Float64,
            Column::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
        };
        Field::new(*name, data_type, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn batch(schema: &SchemaRef, columns: Columns) -> RecordBatch {
    let arrays = columns.into_iter().map(|(_, column)| -> ArrayRef {
        match column {
            Column::Text(values) => Arc::new(StringArray::from(values)),
            Column::Int(values) => Arc::new(Int64Array::from(values)),
            Column::Float(values) => Arc::new(Float64Array::from(values)),
            Column::Time(values) => Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")),
        }
    });
    let arrays: Vec<ArrayRef> = arrays.collect();
    RecordBatch::try_new(Arc::clone(schema), arrays).unwrap_or_else(|_| RecordBatch::new_empty(Arc::clone(schema)))
}

fn text<T>(rows: &[T], get: impl Fn(&T) -> &str) -> Column {
    Column::Text(rows.iter().map(|row| Some(get(row).to_owned())).collect())
}

fn count<T>(rows: &[T], get: impl Fn(&T) -> u64) -> Column {
    Column::Int(rows.iter().map(|row| i64::try_from(get(row)).ok()).collect())
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

/// One row: whether what the project says is in place, and why not.
fn project(facts: &Facts, now: i64) -> Columns {
    let state = match (facts.started, facts.pending, facts.not_applied.is_empty()) {
        (false, ..) if facts.is_stopped => "stopped",
        (false, ..) => "starting",
        (true, true, _) => "building",
        (true, false, true) if facts.held.is_empty() => "applied",
        (true, false, true) => "applied in part",
        (true, false, false) => "not applied",
    };
    let text = |text: &str| Column::Text(vec![Some(text.to_owned())]);
    let told = [facts.message(now)];
    vec![("state", text(state)), messages(&told), details(&told), hints(&told)]
}

/// Why something is as it is, in three columns: what is not said is NULL beside a message, which may be empty.
fn messages(reasons: &[Reason]) -> (&'static str, Column) {
    ("message", text(reasons, |reason| &reason.message))
}

fn details(reasons: &[Reason]) -> (&'static str, Column) {
    ("detail", said_or_null(reasons, |reason| &reason.detail))
}

fn hints(reasons: &[Reason]) -> (&'static str, Column) {
    ("hint", said_or_null(reasons, |reason| &reason.hint))
}

fn said_or_null(reasons: &[Reason], part: fn(&Reason) -> &String) -> Column {
    Column::Text(reasons.iter().map(|reason| Some(part(reason).clone()).filter(|text| !text.is_empty())).collect())
}

fn sources(facts: &Facts, now: i64) -> Columns {
    let rows: Vec<_> = facts.sources.iter().collect();
    let states: Vec<_> = facts.sources.values().map(|source| facts.source_state(source, now)).collect();
    let told = |((_, source), (_, told)): (&(&String, &SourceStatus), &(&str, Reason))| {
        Reason::joined([told.clone()].into_iter().chain(source.fading(now).map(Reason::from)))
    };
    let told: Vec<Reason> = rows.iter().zip(&states).map(told).collect();
    let pace = |source: &str| -> f64 {
        let tables = facts.tables.iter().filter(|(_, table)| table.source == source);
        tables.map(|(name, _)| facts.history.pace(name)).sum()
    };
    let place = |of: &BTreeMap<String, String>| {
        Column::Text(rows.iter().map(|r| of.get(r.0).filter(|text| !text.is_empty()).cloned()).collect())
    };
    let error = |r: &(&String, &SourceStatus)| r.1.last_error.clone();
    vec![
        ("source", text(&rows, |r| r.0)),
        ("type", text(&rows, |r| &r.1.kind)),
        ("state", text(&states, |r| r.0)),
        // Where what is visible ends.
        ("position", text(&rows, |r| &r.1.position)),
        ("lag_seconds", Column::Float(rows.iter().map(|r| Some(seconds(facts.source_lag_us(r.1, now)))).collect())),
        // From there to the end of the server's log, as it was when it last said it.
        ("lag_bytes", Column::Int(rows.iter().map(|r| r.1.lag_bytes).collect())),
        ("last_commit_at", Column::Time(rows.iter().map(|r| r.1.last_commit_us).collect())),
        messages(&told),
        details(&told),
        hints(&told),
        // Of all its tables, of late.
        ("changes_per_second", Column::Float(rows.iter().map(|r| Some(pace(r.0))).collect())),
        // Why it stalled when it did so last, which may be over; NULL where it has not since the start.
        ("last_error", Column::Text(rows.iter().map(|r| error(r).map(|(_, message)| message)).collect())),
        ("last_error_at", Column::Time(rows.iter().map(|r| error(r).map(|(at_us, _)| at_us)).collect())),
        // Where its connection leads, without what is secret, and where it is declared.
        ("address", place(&facts.addresses)),
        ("declared_at", place(&facts.declared_at)),
    ]
}

fn tables(facts: &Facts, now: i64) -> Columns {
    let rows: Vec<_> = facts.tables.iter().collect();
    let states: Vec<_> = facts.tables.values().map(|table| facts.table_state(table, now)).collect();
    let told: Vec<Reason> = states.iter().map(|(_, told)| told.clone()).collect();
    let stale = facts.stale_tables(now);
    vec![
        ("source", text(&rows, |r| &r.1.source)),
        ("schema", text(&rows, |r| &r.0.schema)),
        ("table", text(&rows, |r| &r.0.name)),
        ("state", text(&states, |r| r.0)),
        ("rows", Column::Int(rows.iter().map(|r| Some(r.1.rows)).collect())),
        ("snapshot_rows", count(&rows, |r| r.1.snapshot_rows)),
        ("snapshot_rows_total", count(&rows, |r| r.1.snapshot_rows_total)),
        ("changes_total", count(&rows, |r| r.1.changes_total)),
        ("last_commit_at", Column::Time(rows.iter().map(|r| r.1.last_commit_us).collect())),
        ("lag_seconds", Column::Float(rows.iter().map(|r| Some(seconds(facts.table_lag_us(r.1, now)))).collect())),
        // Of the table's changes that were read and are not visible yet. How much of what its source has not read is the
        // table's nobody knows: that is in the source's alone.
        ("lag_bytes", count(&rows, |r| r.1.untaken_bytes)),
        // Rows that its source could not decode: they are in tidemill.rejects.
        ("rejects", count(&rows, |r| r.1.rejects)),
        messages(&told),
        details(&told),
        hints(&told),
        // Since when it is out of date; NULL where it is not, or that is not known.
        ("stale_since", Column::Time(rows.iter().map(|r| stale.get(r.0).and_then(|doubt| doubt.since_us)).collect())),
        // Columns that it has at its source and that are not read, each with the reason.
        ("left_out", Column::Text(rows.iter().map(|r| left_out(r.1)).collect())),
        ("description", said(facts, &rows, |of| of.description.clone().unwrap_or_default())),
        ("tags", said(facts, &rows, |of| of.tags.join(", "))),
        ("owner", said(facts, &rows, |of| of.owner.clone())),
    ]
}

/// What the project says of each table or model; empty where it says nothing.
fn said<T>(facts: &Facts, rows: &[(&TableName, T)], get: impl Fn(&Documented) -> String) -> Column {
    Column::Text(rows.iter().map(|(name, _)| Some(facts.documented.get(*name).map(&get).unwrap_or_default())).collect())
}

fn left_out(table: &TableStatus) -> Option<String> {
    let of = table.left_out.iter().map(|of| format!("{}: {}", of.column, of.reason));
    (!table.left_out.is_empty()).then(|| of.collect::<Vec<_>>().join("; "))
}

fn models(facts: &Facts, now: i64) -> Columns {
    let rows: Vec<_> = facts.models.iter().chain(&facts.views).collect();
    let told: Vec<Reason> = rows.iter().map(|r| r.1.told()).collect();
    vec![
        ("schema", text(&rows, |r| &r.0.schema)),
        ("model", text(&rows, |r| &r.0.name)),
        ("materialized", text(&rows, |r| &r.1.materialized)),
        ("state", text(&rows, |r| r.1.word())),
        ("rows", Column::Int(rows.iter().map(|r| Some(r.1.rows).filter(|_| r.1.materialized != "view")).collect())),
        ("changes_total", count(&rows, |r| r.1.changes_total)),
        ("freshness_seconds", Column::Float(rows.iter().map(|r| r.1.age_us(now).map(seconds)).collect())),
        ("state_bytes", Column::Int(rows.iter().map(|r| r.1.state_bytes).collect())),
        // Rows that it lacks, in it or below it, because an expression failed on them: they are in tidemill.rejects.
        ("rejects", count(&rows, |r| r.1.rejects)),
        messages(&told),
        details(&told),
        hints(&told),
        // Since when it is out of date; NULL where it is not, or that is not known.
        ("stale_since", Column::Time(rows.iter().map(|r| r.1.stale_since_us()).collect())),
        ("sql", text(&rows, |r| &r.1.sql)),
        ("path", text(&rows, |r| &r.1.path)),
        ("description", text(&rows, |r| &r.1.description)),
        ("tags", said(facts, &rows, |of| of.tags.join(", "))),
        ("owner", said(facts, &rows, |of| of.owner.clone())),
        // As its file has it, before Jinja.
        ("written", text(&rows, |r| &r.1.written)),
    ]
}

/// The tests that the project declares, each with a statement of its failing rows where one is known, and with what came of it when it
/// was run last.
fn tests(facts: &Facts, _now: i64) -> Columns {
    let tests = Test::all(facts.documented.values());
    let rows: Vec<(&Test, Option<&Noted>)> = tests.iter().map(|test| (test, facts.tested.of(test))).collect();
    let told: Vec<Reason> =
        rows.iter().map(|r| r.1.map(|noted| noted.tested.reason.clone()).unwrap_or_default()).collect();
    let declared = |get: fn(&Declared) -> &str| text(&rows, move |r| get(&r.0.declared));
    vec![
        ("node", Column::Text(rows.iter().map(|r| Some(r.0.node.to_string())).collect())),
        ("schema", text(&rows, |r| &r.0.node.schema)),
        ("model", text(&rows, |r| &r.0.node.name)),
        ("test", declared(|of| &of.name)),
        ("column", declared(|of| &of.column)),
        ("severity", declared(|of| &of.severity)),
        // NULL as long as it was not run.
        ("state", Column::Text(rows.iter().map(|r| Some(r.1?.tested.verdict.word().to_owned())).collect())),
        ("failures", Column::Int(rows.iter().map(|r| r.1?.tested.failures).collect())),
        // Since when it is known to fail; NULL where it does not.
        ("since", Column::Time(rows.iter().map(|r| r.1?.since_us).collect())),
        ("tested_at", Column::Time(rows.iter().map(|r| Some(r.1?.at_us)).collect())),
        ("step", Column::Int(rows.iter().map(|r| i64::try_from(r.1?.step).ok()).collect())),
        messages(&told),
        details(&told),
        hints(&told),
        ("sql", declared(|of| &of.sql)),
        // Where it is a statement of its own; empty of what YAML declares.
        ("path", declared(|of| &of.path)),
    ]
}

/// A failing row of a test.
struct FailingRow {
    test: Test,
    row: String,
    at_us: i64,
}

/// The first failing rows of each test, as of when it was run last.
fn failing_rows(facts: &Facts, catalog: &query::Catalog) -> Vec<FailingRow> {
    let rows = Test::all(facts.documented.values()).into_iter().flat_map(|test| {
        let noted = facts.tested.of(&test).cloned();
        let (at_us, rows) = noted.map(|noted| (noted.at_us, noted.tested.rows)).unwrap_or_default();
        let node = test.node.to_string();
        let shown = rows.into_iter().map(|row| rejected::shown_row(&node, &row, facts, catalog));
        shown.map(|row| FailingRow { test: test.clone(), row, at_us }).collect::<Vec<_>>()
    });
    rows.collect()
}

fn test_failures(rows: &[FailingRow]) -> Columns {
    vec![
        ("node", Column::Text(rows.iter().map(|r| Some(r.test.node.to_string())).collect())),
        ("schema", text(rows, |r| &r.test.node.schema)),
        ("model", text(rows, |r| &r.test.node.name)),
        ("test", text(rows, |r| &r.test.declared.name)),
        ("column", text(rows, |r| &r.test.declared.column)),
        ("row", text(rows, |r| &r.row)),
        ("tested_at", Column::Time(rows.iter().map(|r| Some(r.at_us)).collect())),
    ]
}

/// Of which columns those of models and views are made.
fn made_of(rows: &[MadeOf]) -> Columns {
    vec![
        ("schema", text(rows, |r| &r.of.schema)),
        ("model", text(rows, |r| &r.of.name)),
        ("column", text(rows, |r| &r.column)),
        ("upstream", Column::Text(rows.iter().map(|r| Some(r.upstream.to_string())).collect())),
        ("upstream_column", text(rows, |r| &r.upstream_column)),
    ]
}

fn latency(facts: &Facts, _now: i64) -> Columns {
    // What was not measured took no time.
    let rows: Vec<_> = facts.latency.iter().filter(|(_, histogram)| histogram.count() > 0).collect();
    vec![
        ("node", Column::Text(rows.iter().map(|r| Some(r.0.0.to_string())).collect())),
        ("stage", text(&rows, |r| r.0.1.word())),
        ("p50_ms", Column::Float(rows.iter().map(|r| Some(r.1.quantile_ms(0.5))).collect())),
        ("p99_ms", Column::Float(rows.iter().map(|r| Some(r.1.quantile_ms(0.99))).collect())),
        ("max_ms", Column::Float(rows.iter().map(|r| Some(r.1.max_ms())).collect())),
        ("count", count(&rows, |r| r.1.count())),
    ]
}

fn steps(facts: &Facts, _now: i64) -> Columns {
    let rows: Vec<_> = facts.recent.steps().collect();
    let time = |get: fn(&RecentStep) -> Option<i64>| Column::Time(rows.iter().map(|r| get(r)).collect());
    vec![
        ("step", count(&rows, |r| r.step)),
        ("at", time(|r| Some(r.visible_us))),
        ("rows", count(&rows, |r| r.rows)),
        ("transactions", count(&rows, |r| r.transactions)),
        ("took_ms", Column::Float(rows.iter().map(|r| Some((r.visible_us - r.begun_us) as f64 / 1e3)).collect())),
        ("commit_at", time(|r| r.commit_us)),
        ("read_at", time(|r| r.read_us)),
        ("durable_at", time(|r| Some(r.durable_us))),
        ("visible_at", time(|r| Some(r.visible_us))),
    ]
}

/// The first changed rows of each table and model, by step.
fn step_changes(steps: &[Arc<RecentStep>]) -> Columns {
    let changes = steps.iter().flat_map(|step| step.changes.iter().map(move |change| (step, change)));
    let rows: Vec<(&Arc<RecentStep>, &RecentChange, i64, String)> = changes
        .flat_map(|(step, change)| change.json().into_iter().map(move |(weight, row)| (step, change, weight, row)))
        .collect();
    vec![
        ("step", count(&rows, |r| r.0.step)),
        ("at", Column::Time(rows.iter().map(|r| Some(r.0.visible_us)).collect())),
        ("node", Column::Text(rows.iter().map(|r| Some(r.1.node.to_string())).collect())),
        ("weight", Column::Int(rows.iter().map(|r| Some(r.2)).collect())),
        ("row", text(&rows, |r| &r.3)),
    ]
}

fn lineage(facts: &Facts, _now: i64) -> Columns {
    let names = |get: fn(&(TableName, TableName)) -> &TableName| {
        Column::Text(facts.lineage.iter().map(|edge| Some(get(edge).to_string())).collect())
    };
    vec![("upstream", names(|edge| &edge.0)), ("downstream", names(|edge| &edge.1))]
}

/// The last comparison of each source table with its source, and how far the present one is.
fn reconcile(facts: &Facts, _now: i64) -> Columns {
    let mut rows = Vec::new();
    for (source, of) in &facts.reconciled.sources {
        let mut under_way = of.unfinished.as_ref().and_then(crate::reconcile::book::Unfinished::progress);
        for (name, compared) in &of.tables {
            let comparing = under_way.take_if(|(table, _)| table == name).map(|(_, rows)| rows);
            rows.push((compared.clone(), compared.word(), comparing));
        }
        if let Some((name, so_far)) = under_way {
            let (schema, table) = name.split_once('.').unwrap_or(("", &name));
            let named = Compared {
                source: source.clone(),
                schema: schema.to_owned(),
                table: table.to_owned(),
                ..Compared::default()
            };
            rows.push((named, "comparing", Some(so_far)));
        }
    }
    let int = |get: fn(&Compared) -> Option<i64>| Column::Int(rows.iter().map(|r| get(&r.0)).collect());
    let known = |count: Option<u64>| count.and_then(|count| i64::try_from(count).ok());
    let time = |get: fn(&Compared) -> Option<i64>| Column::Time(rows.iter().map(|r| get(&r.0)).collect());
    vec![
        ("source", text(&rows, |r| &r.0.source)),
        ("schema", text(&rows, |r| &r.0.schema)),
        ("table", text(&rows, |r| &r.0.table)),
        ("state", text(&rows, |r| r.1)),
        ("rows", int(|c| c.equal.map(|_| c.rows))),
        ("rows_expected", int(|c| c.equal.map(|_| c.rows_expected))),
        ("rows_only_kept", Column::Int(rows.iter().map(|r| known(r.0.rows_only_kept)).collect())),
        ("rows_only_expected", Column::Int(rows.iter().map(|r| known(r.0.rows_only_expected)).collect())),
        // Its portions are each of a moment of their own: the oldest, and the newest with its place in the log and our step.
        ("compared_from", time(|c| c.compared_from_us)),
        ("compared_at", time(|c| c.compared_us)),
        ("position", text(&rows, |r| &r.0.position)),
        ("step", int(|c| c.equal.and_then(|_| i64::try_from(c.step).ok()))),
        // Rows of the source that the present comparison has behind it; NULL where none is in the table's middle.
        ("comparing_rows", Column::Int(rows.iter().map(|r| r.2).collect())),
        ("message", text(&rows, |r| &r.0.message)),
    ]
}

/// Comparisons with sources that have ended.
fn reconcile_runs(facts: &Facts, _now: i64) -> Columns {
    let of_source = facts.reconciled.sources.iter();
    let rows: Vec<_> = of_source.flat_map(|(source, of)| of.runs.iter().map(move |run| (source, run))).collect();
    vec![
        ("source", text(&rows, |r| r.0)),
        ("by", text(&rows, |r| r.1.by.word())),
        ("begun_at", Column::Time(rows.iter().map(|r| Some(r.1.begun_us)).collect())),
        ("ended_at", Column::Time(rows.iter().map(|r| Some(r.1.ended_us)).collect())),
        ("tables_equal", count(&rows, |r| r.1.equal)),
        ("tables_differing", count(&rows, |r| r.1.differing.len() as u64)),
        ("tables_unknown", count(&rows, |r| r.1.unknown)),
        ("rows", Column::Int(rows.iter().map(|r| Some(r.1.rows)).collect())),
        ("differing", Column::Text(rows.iter().map(|r| Some(r.1.differing.join(", "))).collect())),
    ]
}

fn history(nodes: &[(TableName, Vec<Sample>)]) -> Columns {
    let rows: Vec<_> = nodes.iter().flat_map(|(name, samples)| samples.iter().map(move |s| (name, s))).collect();
    vec![
        ("node", Column::Text(rows.iter().map(|r| Some(r.0.to_string())).collect())),
        ("at", Column::Time(rows.iter().map(|r| Some(r.1.at_us)).collect())),
        ("rows", Column::Int(rows.iter().map(|r| Some(r.1.rows)).collect())),
        ("changes_per_second", Column::Float(rows.iter().map(|r| Some(r.1.changes_per_second)).collect())),
        ("lag_seconds", Column::Float(rows.iter().map(|r| r.1.lag_seconds).collect())),
    ]
}

fn audit(entries: &[Entry]) -> Columns {
    let text =
        |get: fn(&Entry) -> &String| Column::Text(entries.iter().map(|entry| Some(get(entry).clone())).collect());
    vec![
        ("at", Column::Time(entries.iter().map(|entry| Some(entry.at)).collect())),
        ("what", text(|entry| &entry.what)),
        ("user", text(|entry| &entry.user)),
        ("address", text(|entry| &entry.address)),
        ("by", text(|entry| &entry.by)),
    ]
}

/// What `/metrics` says of the instance, but for the histograms: those are `latency`.
fn metrics(metrics: &[Metric]) -> Columns {
    let value = |metric: &Metric| match &metric.value {
        Value::Integer(count) => Some(*count as f64),
        Value::Number(number) => Some(*number),
        Value::Histogram(_) => None,
    };
    let rows: Vec<(&Metric, f64)> = metrics.iter().filter_map(|metric| Some((metric, value(metric)?))).collect();
    let labels = |metric: &Metric| {
        let each = metric.labels.iter().map(|(name, value)| format!("{name}={value}"));
        Some(each.collect::<Vec<_>>().join(", "))
    };
    let kind = |metric: &Metric| if matches!(metric.kind, Kind::Counter) { "counter" } else { "gauge" };
    vec![
        ("metric", text(&rows, |r| &r.0.name)),
        ("labels", Column::Text(rows.iter().map(|r| labels(r.0)).collect())),
        ("kind", text(&rows, |r| kind(r.0))),
        ("value", Column::Float(rows.iter().map(|r| Some(r.1)).collect())),
        ("help", text(&rows, |r| &r.0.help)),
    ]
}

fn settings(facts: &Facts, _now: i64) -> Columns {
    let rows: Vec<_> = facts.settings.iter().collect();
    vec![("name", text(&rows, |r| &r.0)), ("value", text(&rows, |r| &r.1)), ("description", text(&rows, |r| &r.2))]
}
