//! The system tables as what the page shows. Columns that an instance does not have are shown as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use page::chart::Lines;
use page::graph::{SOURCE_LAYER, layer_of};
use page::view::{
    LatencyRow, NodeColumn, NodePage, NodeTest, Origin, Source, SourcePage, SourceTable, System, Touch, TraceStep,
    newest_first,
};
use page::{Graph, Grid, Live, Node, NodeKind, Panel, Trouble, number};
use serde_json::Value as Json;

use super::ask::{panel, sentences};
use super::{frame, syncs};
use crate::service::Service;

/// Rows of a system table that a page reads.
const ROWS_MAX: usize = 10_000;

/// Rejected rows shown.
const REJECTS_MAX: usize = 200;

/// Changes that a trace looks at, and of these it shows the newest steps.
const CHANGES_MAX: usize = 1_000;
const STEPS_MAX: usize = 50;

/// Rejected rows that a node's own page shows.
const NODE_REJECTS_MAX: usize = 20;

/// A relation's columns with their exact types and what is said of them, by its schema and name.
const COLUMNS: &str = "select a.attname as name, format_type(a.atttypid, a.atttypmod) as kind, a.attnotnull as is_filled, col_description(a.attrelid, a.attnum) as description from pg_catalog.pg_attribute as a inner join pg_catalog.pg_class as c on c.oid = a.attrelid inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2 and a.attnum > 0 order by a.attnum";
const KEY: &str = "select column_name from information_schema.key_column_usage where table_schema = $1 and table_name = $2 and constraint_name = $2 || '_pkey' order by ordinal_position";
const MADE_OF: &str =
    "select \"column\", upstream, upstream_column from tidemill.column_lineage where schema = $1 and model = $2";
const TESTS: &str =
    "select test, \"column\", severity, sql, state, failures, since from tidemill.tests where node = $1";

const LAST_STEPS: &str = "select * from tidemill.steps order by step desc limit 20";

pub(super) fn owned(grid: &Grid, row: usize, name: &str) -> String {
    grid.text(row, name).unwrap_or_default().to_owned()
}

/// Why something is as it is, sentence behind sentence.
fn told(grid: &Grid, row: usize) -> String {
    sentences(["message", "detail", "hint"].map(|part| grid.text(row, part).unwrap_or_default()))
}

fn id_of(grid: &Grid, row: usize, name: &str) -> String {
    format!("{}.{}", grid.text(row, "schema").unwrap_or_default(), grid.text(row, name).unwrap_or_default())
}

/// The row of each node.
fn by_node(grid: &Grid) -> BTreeMap<&str, usize> {
    (0..grid.rows.len()).filter_map(|row| Some((grid.text(row, "node")?, row))).collect()
}

/// The tags of a row, which stand in one text.
fn tags(grid: &Grid, row: usize) -> Vec<String> {
    let tags = grid.text(row, "tags").unwrap_or_default().split(", ");
    tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// Sources, tables, models, syncs, and what reads what.
pub(super) async fn graph(service: &Arc<Service>) -> Panel<Graph> {
    let all = |sql: &'static str| panel(service, sql, &[], ROWS_MAX);
    let (sources, tables, models, lineage, rejects, history, deliveries) = futures::join!(
        all("select * from tidemill.sources"),
        all("select * from tidemill.tables"),
        all("select * from tidemill.models"),
        all("select upstream, downstream from tidemill.lineage"),
        all("select node, count(*) as rejects from tidemill.rejects group by node"),
        all(
            "select node, last_value(changes_per_second order by \"at\") as rate, last_value(lag_seconds order by \"at\") as lag from tidemill.history group by node"
        ),
        all(syncs::DELIVERIES),
    );
    let (sources, tables, models) = (sources?, tables?, models?);
    // Without these there is still a graph; they are told in the log.
    let (lineage, rejects, history) =
        (lineage.unwrap_or_default(), rejects.unwrap_or_default(), history.unwrap_or_default());
    let deliveries = deliveries.unwrap_or_default();
    let (rejects_of, history_of) = (by_node(&rejects), by_node(&history));
    let finish = |mut node: Node| {
        node.rejects = rejects_of.get(node.id.as_str()).and_then(|row| rejects.count(*row, "rejects")).unwrap_or(0);
        if let Some(row) = history_of.get(node.id.as_str()).copied() {
            node.rate = history.number(row, "rate");
            node.lag_seconds = history.number(row, "lag").or(node.lag_seconds);
        }
        node
    };
    let node = |grid: &Grid, row, kind, id, lag| Node {
        id,
        kind,
        state: owned(grid, row, "state"),
        rows: grid.count(row, "rows"),
        rate: grid.number(row, "changes_per_second"),
        lag_seconds: grid.number(row, lag),
        message: told(grid, row),
        layer: SOURCE_LAYER.to_owned(),
        materialized: owned(grid, row, "materialized"),
        tags: tags(grid, row),
        last_error: owned(grid, row, "last_error"),
        ..Node::default()
    };
    let mut found = Graph::default();
    for row in 0..sources.rows.len() {
        let id = owned(&sources, row, "source");
        found.nodes.push(finish(node(&sources, row, NodeKind::Source, id, "lag_seconds")));
    }
    for row in 0..tables.rows.len() {
        let id = id_of(&tables, row, "table");
        found.edges.push((owned(&tables, row, "source"), id.clone()));
        found.nodes.push(finish(node(&tables, row, NodeKind::Table, id, "lag_seconds")));
    }
    for row in 0..models.rows.len() {
        let id = id_of(&models, row, "model");
        let layer =
            layer_of(models.text(row, "path").unwrap_or_default(), models.text(row, "model").unwrap_or_default());
        found.nodes.push(finish(Node { layer, ..node(&models, row, NodeKind::Model, id, "freshness_seconds") }));
    }
    // Lineage also names what has no state of its own, such as views.
    let mut known: BTreeSet<String> = found.nodes.iter().map(|node| node.id.clone()).collect();
    for row in 0..lineage.rows.len() {
        let ends = (owned(&lineage, row, "upstream"), owned(&lineage, row, "downstream"));
        for id in [&ends.0, &ends.1] {
            if known.insert(id.clone()) {
                let name = id.split_once('.').map_or(id.as_str(), |(_, name)| name);
                let (layer, view) = (layer_of("", name), "view".to_owned());
                let node = Node { id: id.clone(), state: view.clone(), materialized: view, layer, ..Node::default() };
                found.nodes.push(finish(node));
            }
        }
        found.edges.push(ends);
    }
    for row in 0..deliveries.rows.len() {
        let node = syncs::node(&deliveries, row);
        found.edges.extend(deliveries.text(row, "model").map(|model| (model.to_owned(), node.id.clone())));
        found.nodes.push(node);
    }
    Ok(found)
}

/// A node's page; none if there is no such node.
pub(super) async fn node(service: &Arc<Service>, kind: NodeKind, schema: &str, name: &str) -> Panel<Option<NodePage>> {
    let Some(mut page) = brief(service, kind, schema, name).await? else { return Ok(None) };
    let id = page.node.id.clone();
    let ids = [Some(id.as_str())];
    let names = [Some(schema), Some(name)];
    let (columns, key, made_of, tests, latency, rejects) = futures::join!(
        panel(service, COLUMNS, &names, ROWS_MAX),
        panel(service, KEY, &names, ROWS_MAX),
        panel(service, MADE_OF, &names, ROWS_MAX),
        panel(service, TESTS, &ids, ROWS_MAX),
        panel(service, "select * from tidemill.latency where node = $1", &ids, ROWS_MAX),
        panel(
            service,
            "select * from tidemill.rejects where node = $1 order by first_at desc nulls last limit 1000",
            &ids,
            NODE_REJECTS_MAX
        ),
    );
    // These are not for everybody: without them the page has a little less.
    let (key, made_of, tests) = (key.unwrap_or_default(), made_of.unwrap_or_default(), tests.unwrap_or_default());
    page.key = (0..key.rows.len()).map(|row| owned(&key, row, "column_name")).collect();
    let origins = origins(&made_of);
    page.columns = columns.map(|grid| {
        let column = |row| {
            let name = owned(&grid, row, "name");
            NodeColumn {
                kind: owned(&grid, row, "kind"),
                nullable: match grid.text(row, "is_filled") {
                    Some("true") => "never".to_owned(),
                    Some(_) => "possible".to_owned(),
                    None => String::new(),
                },
                description: owned(&grid, row, "description"),
                made_of: origins.get(name.as_str()).cloned().unwrap_or_default(),
                name,
            }
        };
        (0..grid.rows.len()).map(column).collect()
    });
    page.order = newest_first(page.columns.as_deref().unwrap_or_default(), &page.key);
    page.tests = (0..tests.rows.len())
        .map(|row| NodeTest {
            name: owned(&tests, row, "test"),
            column: owned(&tests, row, "column"),
            severity: owned(&tests, row, "severity"),
            sql: owned(&tests, row, "sql"),
            state: owned(&tests, row, "state"),
            failures: tests.count(row, "failures"),
            since: owned(&tests, row, "since"),
        })
        .collect();
    page.latency = latency.map(|grid| {
        let row = |row| LatencyRow {
            stage: owned(&grid, row, "stage"),
            p50_ms: grid.number(row, "p50_ms").unwrap_or(0.0),
            p99_ms: grid.number(row, "p99_ms").unwrap_or(0.0),
            max_ms: grid.number(row, "max_ms").unwrap_or(0.0),
            count: grid.count(row, "count").unwrap_or(0),
        };
        (0..grid.rows.len()).map(row).collect()
    });
    for origin in page.columns.iter_mut().flatten().flat_map(|column| &mut column.made_of) {
        if let Some(node) = page.upstream.iter().find(|node| node.id == origin.node) {
            origin.href = node.href();
        }
    }
    page.rejects = rejects;
    Ok(Some(page))
}

/// What each column is made of. Where that is no neighbour, its page is that of a model.
fn origins(grid: &Grid) -> BTreeMap<&str, Vec<Origin>> {
    let mut found: BTreeMap<&str, Vec<Origin>> = BTreeMap::new();
    for row in 0..grid.rows.len() {
        let node = owned(grid, row, "upstream");
        let href = Node { id: node.clone(), ..Node::default() }.href();
        let origin = Origin { node, href, column: owned(grid, row, "upstream_column") };
        found.entry(grid.text(row, "column").unwrap_or_default()).or_default().push(origin);
    }
    found
}

/// What moves on a node's page.
pub(super) async fn node_live(service: &Arc<Service>, kind: NodeKind, schema: &str, name: &str) -> Live {
    let page = brief(service, kind, schema, name).await;
    page.ok().flatten().map(|page| page.live()).unwrap_or_default()
}

/// A node, its neighbours and its own row; the other panels are empty.
async fn brief(service: &Arc<Service>, kind: NodeKind, schema: &str, name: &str) -> Panel<Option<NodePage>> {
    let id = format!("{schema}.{name}");
    let own = match kind {
        NodeKind::Model => "select * from tidemill.models where schema = $1 and model = $2",
        _ => "select * from tidemill.tables where schema = $1 and \"table\" = $2",
    };
    let history = "select \"at\", lag_seconds from tidemill.history where node = $1 order by \"at\"";
    let names = [Some(schema), Some(name)];
    let ids = [Some(id.as_str())];
    let (graph, own, history) =
        futures::join!(graph(service), panel(service, own, &names, 1), panel(service, history, &ids, ROWS_MAX),);
    let graph = graph?;
    let Some(node) = graph.nodes.iter().find(|node| node.id == id && node.kind == kind) else { return Ok(None) };
    let own = own.unwrap_or_default();
    let cloned = |nodes: Vec<&Node>| nodes.into_iter().cloned().collect();
    let detail = if kind == NodeKind::Model { "materialized" } else { "source" };
    Ok(Some(NodePage {
        frame: frame(service),
        node: node.clone(),
        detail: owned(&own, 0, detail),
        description: owned(&own, 0, "description"),
        path: owned(&own, 0, "path"),
        sql: owned(&own, 0, "sql"),
        written: owned(&own, 0, "written"),
        owner: owned(&own, 0, "owner"),
        key: Vec::new(),
        order: Vec::new(),
        tests: Vec::new(),
        state_bytes: own.count(0, "state_bytes"),
        changes_total: own.count(0, "changes_total"),
        columns: Ok(Vec::new()),
        upstream: cloned(graph.neighbours(&id, false)),
        downstream: cloned(graph.neighbours(&id, true)),
        history: history.map(|grid| {
            let mut lines = Lines::of(&grid, Some("at"), &["lag_seconds".to_owned()]);
            lines.series.iter_mut().for_each(|series| "Seconds".clone_into(&mut series.name));
            lines
        }),
        latency: Ok(Vec::new()),
        rejects: Ok(Grid::default()),
    }))
}

/// Sources with their tables.
pub(super) async fn sources(service: &Arc<Service>) -> Panel<Vec<Source>> {
    let (sources, tables) = futures::join!(
        panel(service, "select * from tidemill.sources", &[], ROWS_MAX),
        panel(service, "select * from tidemill.tables", &[], ROWS_MAX),
    );
    let (sources, tables) = (sources?, tables?);
    let mut by_source: BTreeMap<String, Vec<SourceTable>> = BTreeMap::new();
    for row in 0..tables.rows.len() {
        by_source.entry(owned(&tables, row, "source")).or_default().push(SourceTable {
            schema: owned(&tables, row, "schema"),
            name: owned(&tables, row, "table"),
            state: owned(&tables, row, "state"),
            rows: tables.count(row, "rows"),
            snapshot_rows: tables.count(row, "snapshot_rows").unwrap_or(0),
            snapshot_rows_total: tables.count(row, "snapshot_rows_total").unwrap_or(0),
            lag_seconds: tables.number(row, "lag_seconds"),
            changes_total: tables.count(row, "changes_total").unwrap_or(0),
            message: told(&tables, row),
        });
    }
    let source = |row| Source {
        name: owned(&sources, row, "source"),
        kind: owned(&sources, row, "type"),
        state: owned(&sources, row, "state"),
        position: owned(&sources, row, "position"),
        lag_seconds: sources.number(row, "lag_seconds"),
        lag_bytes: sources.count(row, "lag_bytes"),
        message: told(&sources, row),
        rate: sources.number(row, "changes_per_second"),
        address: owned(&sources, row, "address"),
        declared_at: owned(&sources, row, "declared_at"),
        last_commit_at: owned(&sources, row, "last_commit_at"),
        last_error: owned(&sources, row, "last_error"),
        last_error_at: owned(&sources, row, "last_error_at"),
        tables: by_source.remove(sources.text(row, "source").unwrap_or_default()).unwrap_or_default(),
    };
    Ok((0..sources.rows.len()).map(source).collect())
}

/// The page of a source; none if there is no such source.
pub(super) async fn source(service: &Arc<Service>, name: &str) -> Panel<Option<SourcePage>> {
    let namesake = "select sync from tidemill.deliveries where sync = $1";
    let names = [Some(name)];
    let (all, syncs) = futures::join!(sources(service), panel(service, namesake, &names, 1));
    let Some(source) = all?.into_iter().find(|source| source.name == name) else { return Ok(None) };
    let has_namesake = syncs.is_ok_and(|grid| !grid.rows.is_empty());
    Ok(Some(SourcePage { frame: frame(service), source, has_namesake }))
}

/// Counts by node, and the newest rejected rows, of one node if it is named.
pub(super) async fn rejects(service: &Arc<Service>, node: &str) -> (Panel<Grid>, Panel<Grid>) {
    let counts =
        "select node, reason, count(*) as \"rows\" from tidemill.rejects group by node, reason order by 3 desc, 1, 2";
    let (all, one) = (
        "select * from tidemill.rejects order by first_at desc nulls last limit 1000",
        "select * from tidemill.rejects where node = $1 order by first_at desc nulls last limit 1000",
    );
    let ids = [Some(node)];
    let (sql, values): (&str, &[Option<&str>]) = if node.is_empty() { (all, &[]) } else { (one, &ids) };
    futures::join!(panel(service, counts, &[], REJECTS_MAX), panel(service, sql, values, REJECTS_MAX))
}

/// The recent steps in which a value appears, newest first, and whether there were more.
///
/// Rows that have the value as a whole field are shown; only where there is none, those whose fields hold it.
pub(super) async fn trace(service: &Arc<Service>, query: &str) -> Result<(Vec<TraceStep>, bool), Trouble> {
    if query.is_empty() {
        return Ok((Vec::new(), false));
    }
    let sql = "select step, \"at\", node, weight, \"row\" from tidemill.step_changes where strpos(lower(\"row\"), lower($1)) > 0 order by step desc";
    let values = [Some(query)];
    let (changes, graph) = futures::join!(panel(service, sql, &values, CHANGES_MAX), graph(service));
    let (changes, graph) = (changes?, graph.unwrap_or_default());
    let mut rows: Vec<(usize, Touch)> = Vec::new();
    for row in 0..changes.rows.len() {
        let id = owned(&changes, row, "node");
        let href = graph.find(&id).map_or_else(|| format!("/?node={}", page::url(&id)), Node::href);
        let fields = fields(changes.text(row, "row").unwrap_or_default(), query);
        let weight = changes.count(row, "weight").unwrap_or(0);
        rows.push((row, Touch { node: id, href, weight, fields }));
    }
    let exact = |touch: &Touch| touch.fields.iter().any(|field| field.2);
    if rows.iter().any(|(_, touch)| exact(touch)) {
        rows.retain(|(_, touch)| exact(touch));
    }
    let mut steps: Vec<TraceStep> = Vec::new();
    let mut cut = changes.cut;
    for (row, touch) in rows {
        let step = changes.count(row, "step").unwrap_or(0);
        if steps.last().is_none_or(|last| last.step != step) {
            if steps.len() == STEPS_MAX {
                cut = true;
                break;
            }
            steps.push(TraceStep { step, at: owned(&changes, row, "at"), touches: Vec::new() });
        }
        if let Some(last) = steps.last_mut() {
            last.touches.push(touch);
        }
    }
    // Tables before models, and what went before what came.
    let kind = |touch: &Touch| graph.find(&touch.node).map_or(NodeKind::Model, |node| node.kind);
    for step in &mut steps {
        step.touches.sort_by(|a, b| (kind(a), &a.node, a.weight).cmp(&(kind(b), &b.node, b.weight)));
    }
    Ok((steps, cut))
}

/// Columns of a row in JSON, and whether a value is the one searched.
fn fields(row: &str, query: &str) -> Vec<(String, String, bool)> {
    let text = |value: &Json| match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match serde_json::from_str::<Json>(row) {
        Ok(Json::Object(fields)) => fields
            .iter()
            .map(|(name, value)| {
                let value = text(value);
                let hit = value.eq_ignore_ascii_case(query);
                (name.clone(), value, hit)
            })
            .collect(),
        _ => vec![("row".to_owned(), row.to_owned(), false)],
    }
}

/// The last steps; their times of each stage are left to SQL.
async fn last_steps(service: &Arc<Service>) -> Panel<Grid> {
    let columns = ["step", "at", "rows", "transactions", "took_ms"].map(str::to_owned);
    panel(service, LAST_STEPS, &[], ROWS_MAX).await.map(|grid| grid.select(&columns))
}

/// The page of the process.
pub(super) async fn system(service: &Arc<Service>) -> System {
    let (settings, steps, figures) = futures::join!(
        panel(service, "select * from tidemill.settings", &[], ROWS_MAX),
        last_steps(service),
        figures(service),
    );
    System { frame: frame(service), pg: service.site.pg.clone(), figures, settings, steps }
}

/// What moves on it.
pub(super) async fn system_live(service: &Arc<Service>) -> Live {
    let (steps, figures) = futures::join!(last_steps(service), figures(service));
    System::live(&figures, &steps)
}

/// The instance's gauges without labels, which are those of the whole process, and what its models keep.
async fn figures(service: &Arc<Service>) -> Vec<(String, String, String)> {
    let kept = "select sum(state_bytes) as bytes, count(*) as models from tidemill.models";
    let kept = panel(service, kept, &[], 1).await.unwrap_or_default();
    let mut figures: Vec<(String, String, String)> = Vec::new();
    let mut add = |name: &str, key: &str, text: String| figures.push((name.to_owned(), key.to_owned(), text));
    if let Some(models) = kept.count(0, "models") {
        add("Models", "models", number::count(models));
    }
    if let Some(bytes) = kept.number(0, "bytes") {
        add("Kept for models", "state_bytes", number::bytes(bytes));
    }
    let metrics = service.metrics();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.split_once(' ') else { continue };
        let Some(name) = key.strip_prefix("tidemill_").filter(|name| !name.contains('{')) else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, text) = match name.rsplit_once('_') {
            Some((name, "bytes")) => (name, number::bytes(value)),
            Some((name, "seconds")) => (name, number::seconds(value)),
            _ => (name, number::grouped(&format!("{value}"))),
        };
        let words = name.replace('_', " ");
        let mut letters = words.chars();
        let title: String = letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect();
        add(&title, key, text);
    }
    figures
}
