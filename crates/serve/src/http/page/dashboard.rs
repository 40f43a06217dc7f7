//! Dashboards: the statements of tiles with the filters' values in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use page::view::{Answered, DashboardPage, Drill, FilterChoice};
use page::{Dashboard, Filter, Graph, Live, Panel, Tile, TileKind};

use super::ask::{panel, panel_at};
use super::{frame, read};
use crate::reader::QueryContext;
use crate::service::{Service, guarded};
use crate::sql::relations;

/// Points of a line, and rows of what a tile shows otherwise.
const POINTS_MAX: usize = 5_000;
const ROWS_MAX: usize = 200;

/// Values that a filter offers.
const CHOICES_MAX: usize = 500;

/// SQLSTATEs of what is not there for whoever asks.
const NOT_THERE: [&str; 4] = ["42P01", "42703", "42501", "3F000"];

/// A dashboard as those see it who do not read all that it shows: tiles over anything else are not there, nor is a dashboard of
/// such tiles alone.
pub(super) async fn readable(service: &Arc<Service>, dashboard: &Dashboard) -> Option<Dashboard> {
    let is_there = |sql: String| async move {
        let described = guarded(service.reader.describe(&sql, &[], &QueryContext::default())).await;
        !described.is_err_and(|error| NOT_THERE.contains(&error.code))
    };
    let words = BTreeMap::new();
    let bound = |sql: &str| bind(sql, &dashboard.filters, &words).0;
    let mut seen = Dashboard { tiles: Vec::new(), filters: Vec::new(), ..dashboard.clone() };
    for tile in &dashboard.tiles {
        let compare = tile.compare.as_deref().filter(|compare| is_statement(compare));
        if is_there(bound(&tile.sql)).await && (compare.is_none() || is_there(bound(compare.unwrap_or_default())).await)
        {
            seen.tiles.push(tile.clone());
        }
    }
    for filter in &dashboard.filters {
        // One whose values cannot be read takes any text.
        let sql = match &filter.sql {
            Some(sql) if is_there(sql.clone()).await => Some(sql.clone()),
            _ => None,
        };
        seen.filters.push(Filter { sql, ..filter.clone() });
    }
    (!seen.tiles.is_empty()).then_some(seen)
}

/// The page of a dashboard.
pub(super) async fn page(
    service: &Arc<Service>,
    dashboard: &Dashboard,
    words: &BTreeMap<String, String>,
) -> DashboardPage {
    let choices = join_all(dashboard.filters.iter().map(|filter| choice(service, filter, words)));
    let (filters, (step, answers), graph) =
        futures::join!(choices, answers(service, dashboard, words), read::graph(service));
    // Without the graph nothing is said of where figures come from.
    let graph = graph.unwrap_or_default();
    let drills = dashboard.tiles.iter().map(|tile| drill(tile, &dashboard.filters, words, &graph)).collect();
    DashboardPage { frame: frame(service), dashboard: dashboard.clone(), filters, step, answers, drills }
}

/// Where a tile's figures come from.
fn drill(tile: &Tile, filters: &[Filter], words: &BTreeMap<String, String>, graph: &Graph) -> Drill {
    let mut reads: Vec<(String, String)> = Vec::new();
    for name in relations(&tile.sql) {
        let found = graph.find(&name).map(|node| (node.name().to_owned(), node.href()));
        reads.extend(found.filter(|found| !reads.contains(found)));
    }
    let literal = |name: &str| match words.get(name).filter(|text| !text.is_empty()) {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => "null".to_owned(),
    };
    let mut moved_by: Vec<String> = Vec::new();
    let sql = rewritten(&tile.sql, filters, |name| {
        if !moved_by.iter().any(|known| known == name) {
            moved_by.push(name.to_owned());
        }
        literal(name)
    });
    Drill { reads, sql, moved_by }
}

/// What moves on it.
pub(super) async fn live(service: &Arc<Service>, dashboard: &Dashboard, words: &BTreeMap<String, String>) -> Live {
    let (step, answers) = answers(service, dashboard, words).await;
    DashboardPage::live(dashboard, step, &answers)
}

async fn choice(service: &Arc<Service>, filter: &Filter, words: &BTreeMap<String, String>) -> FilterChoice {
    let values = match &filter.sql {
        None => None,
        // A filter whose statement fails takes any text.
        Some(sql) => panel(service, sql, &[], CHOICES_MAX).await.ok().map(|grid| {
            let firsts = grid.rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
            firsts.collect()
        }),
    };
    let title = if filter.title.is_empty() { filter.name.clone() } else { filter.title.clone() };
    let chosen = words.get(&filter.name).cloned().unwrap_or_default();
    FilterChoice { name: filter.name.clone(), title, values, chosen }
}

/// The answers of all tiles, at one step.
async fn answers(
    service: &Arc<Service>,
    dashboard: &Dashboard,
    words: &BTreeMap<String, String>,
) -> (u64, Vec<Panel<Answered>>) {
    let pin = service.reader.pin();
    let step = pin.step;
    let context = QueryContext { at: Some(pin), ..QueryContext::default() };
    let tiles = dashboard.tiles.iter().map(|tile| answer(service, dashboard, tile, words, &context));
    (step, join_all(tiles).await)
}

async fn answer(
    service: &Arc<Service>,
    dashboard: &Dashboard,
    tile: &Tile,
    words: &BTreeMap<String, String>,
    context: &QueryContext,
) -> Panel<Answered> {
    let rows_max = if tile.kind == TileKind::Line { POINTS_MAX } else { ROWS_MAX };
    let (sql, values) = bind(&tile.sql, &dashboard.filters, words);
    let (grid, stale) = panel_at(service, &sql, &values, rows_max, context).await?;
    let compared = match tile.compare.as_deref().filter(|compare| is_statement(compare)) {
        None => None,
        Some(compare) => {
            let (sql, values) = bind(compare, &dashboard.filters, words);
            let (grid, _) = panel_at(service, &sql, &values, 1, context).await?;
            Some(grid.rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default())
        }
    };
    Answered::of(tile, grid, compared).map(|answered| Answered { stale, ..answered })
}

/// A statement of a dashboard as it is asked: with parameters where it names filters.
pub fn parameterised(sql: &str, filters: &[Filter]) -> String {
    bind(sql, filters, &BTreeMap::new()).0
}

/// Whether a text of `compare` is a statement, and not the name of a column.
pub fn is_statement(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    ["select", "with"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// Writes `$1`, `$2`, … for `:name` of a filter, and says which values they are; an empty choice is NULL.
///
/// Values never become a part of the statement's text.
fn bind<'a>(sql: &str, filters: &[Filter], words: &'a BTreeMap<String, String>) -> (String, Vec<Option<&'a str>>) {
    let mut used: Vec<String> = Vec::new();
    let out = rewritten(sql, filters, |name| {
        let at = used.iter().position(|known| known == name).unwrap_or_else(|| {
            used.push(name.to_owned());
            used.len() - 1
        });
        format!("${}", at + 1)
    });
    let value = |name: &String| words.get(name).map(String::as_str).filter(|text| !text.is_empty());
    (out, used.iter().map(value).collect())
}

/// A statement with something else for each `:name` of a filter. Texts, quoted names, comments and casts (`::`) stay as they are.
fn rewritten(sql: &str, filters: &[Filter], mut instead: impl FnMut(&str) -> String) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(c) = rest.chars().next() {
        let skipped = match c {
            ':' if !rest.starts_with("::") => {
                let named = filters.iter().find(|filter| rest.get(1..).is_some_and(|rest| begins(rest, &filter.name)));
                if let Some(filter) = named {
                    out.push_str(&instead(&filter.name));
                    rest = rest.get(1 + filter.name.len()..).unwrap_or_default();
                    continue;
                }
                1
            }
            c => skipped(rest, c),
        };
        let (piece, after) = rest.split_at(skipped);
        out.push_str(piece);
        rest = after;
    }
    out
}

/// Bytes of what begins a text with this letter and names no filter: a text, a name in quotes, a comment, a cast, or the letter.
fn skipped(rest: &str, c: char) -> usize {
    match c {
        '\'' | '"' => 1 + rest.get(1..).and_then(|inside| inside.find(c)).map_or(rest.len() - 1, |end| end + 1),
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
        ':' if rest.starts_with("::") => 2,
        c => c.len_utf8(),
    }
}

/// The first `:name` of a statement whose filters are parameters already: no filter has this name.
pub fn unknown_filter(sql: &str) -> Option<&str> {
    let mut rest = sql;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        if c == ':' && !rest.starts_with("::") {
            let name = rest.get(1..)?;
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            // A slice of an array has numbers, and something before it.
            if name.starts_with(|c: char| c.is_alphabetic()) && !before.is_alphanumeric() {
                return name.get(..end);
            }
        }
        before = c;
        rest = rest.get(skipped(rest, c)..)?;
    }
    None
}

/// Whether a text begins with this name and not with a longer one.
fn begins(text: &str, name: &str) -> bool {
    let longer = |rest: &str| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    !name.is_empty() && text.strip_prefix(name).is_some_and(|rest| !longer(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(sql: &str) -> (String, Vec<Option<String>>) {
        let filter = |name: &str| Filter { name: name.to_owned(), ..Filter::default() };
        let words = [("city".to_owned(), "Bern'; drop".to_owned())].into();
        let (sql, values) = bind(sql, &[filter("city"), filter("day")], &words);
        (sql, values.iter().map(|value| value.map(str::to_owned)).collect())
    }

    #[test]
    fn values_are_bound_and_never_written() {
        let (sql, values) = bound("select 1 where :city is null or city = :city and day = :day");
        assert_eq!(sql, "select 1 where $1 is null or city = $1 and day = $2");
        assert_eq!(values, [Some("Bern'; drop".to_owned()), None]);
    }

    #[test]
    fn a_tile_says_where_its_figures_come_from() {
        let filter = |name: &str| Filter { name: name.to_owned(), ..Filter::default() };
        let node = |id: &str| page::Node { id: id.to_owned(), ..page::Node::default() };
        let graph = Graph { nodes: vec![node("public.trade"), node("shop.orders")], edges: Vec::new() };
        let tile = Tile {
            sql: "select * from trade as t, nothing join shop.orders on true where city = :city or :city is null"
                .to_owned(),
            ..Tile::default()
        };
        let words = [("city".to_owned(), "L'Aquila".to_owned())].into();
        let found = drill(&tile, &[filter("city"), filter("day")], &words, &graph);
        let names: Vec<&str> = found.reads.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["trade", "orders"]);
        assert_eq!(found.moved_by, ["city"]);
        assert!(found.sql.ends_with("where city = 'L''Aquila' or 'L''Aquila' is null"), "{}", found.sql);
    }

    #[test]
    fn what_only_looks_like_a_filter_stays() {
        for sql in
            ["select ':city', \":city\" -- :city", "select /* :city */ a::city, :citys, ':cit''y :city'", "select '"]
        {
            assert_eq!(bound(sql), (sql.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn a_filter_that_is_not_there_is_found() {
        assert_eq!(unknown_filter("select ':a', x::text -- :b\n where :land is null"), Some("land"));
        assert_eq!(unknown_filter("select a[1:2], '12:30'::time, $1 /* :c */"), None);
    }

    #[test]
    fn statements_are_told_from_columns() {
        assert!(is_statement("  SELECT 1") && is_statement("with a as (select 1) select * from a"));
        assert!(!is_statement("yesterday") && !is_statement("selected"));
    }
}
