//! `/dashboards`, `/dashboards/<name>`: tiles over SQL that move by themselves.

use std::cmp::Ordering;
use std::fmt::Write as _;

use askama::Template;

use super::{Frame, document};
use crate::chart::{Lines, bars_html, funnel_html, lines_html, unknown_lines_html};
use crate::dashboard::{Dashboard, Good, Tile, TileKind};
use crate::grid::Grid;
use crate::{Live, Panel, Trouble, escape, number, url};

/// The list of dashboards.
#[derive(Debug, Clone, Template)]
#[template(path = "dashboards.html")]
pub struct DashboardList {
    /// What stands around it.
    pub frame: Frame,
    /// All of them.
    pub dashboards: Vec<Dashboard>,
}

impl DashboardList {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    fn href(&self, dashboard: &Dashboard) -> String {
        format!("/dashboards/{}", url(&dashboard.name))
    }

    fn section(&self) -> &'static str {
        "dashboards"
    }

    fn title(&self) -> &'static str {
        "Dashboards"
    }

    fn events(&self) -> String {
        String::new()
    }
}

/// A filter, what can be chosen, and what is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilterChoice {
    /// The parameter's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The values to choose from; none means that any text may be given.
    pub values: Option<Vec<String>>,
    /// The chosen value, empty for none.
    pub chosen: String,
}

impl FilterChoice {
    fn is_chosen(&self, value: &str) -> bool {
        self.chosen == value
    }
}

/// What a tile's statements said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// Rows of its statement.
    pub grid: Grid,
    /// Value of the statement that `compare` is, if it is one.
    pub compared: Option<String>,
    /// What it was read from is not as it should be: out of date, say; none where nothing is to be said.
    pub stale: Option<Stale>,
}

/// What is said beside figures that are not what they should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stale {
    /// A line that has room on a tile: that they are out of date, and how old they are.
    pub line: String,
    /// All of it: of what, why, how old, and the next move.
    pub whole: String,
    /// The same without what of: tiles over other models have the same reason.
    pub why: String,
}

impl Answered {
    /// The answer of a tile. Not one without the columns that the tile names: another drawn in their place would be a
    /// wrong number.
    pub fn of(tile: &Tile, grid: Grid, compared: Option<String>) -> Panel<Self> {
        let names = tile.x.iter().chain(&tile.y).chain(&tile.y2).chain(&tile.columns);
        let missing: Vec<&str> = names.filter(|name| grid.column(name).is_none()).map(String::as_str).collect();
        let there = || grid.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
        if !missing.is_empty() {
            return Err(Trouble {
                message: format!("The answer has no column {}.", missing.join(", ")),
                hint: format!("It has: {}.", there()),
            });
        }
        if !matches!(tile.kind, TileKind::Line | TileKind::Bar | TileKind::Funnel) || grid.rows.is_empty() {
            return Ok(Self { grid, compared, stale: None });
        }
        let drawn = grid.drawn(tile.x.as_deref().and_then(|name| grid.column(name)).unwrap_or(0), &tile.y);
        let is_text = |at: &&usize| {
            !grid.is_of_numbers(**at) && grid.rows.iter().any(|row| row.get(**at).is_some_and(Option::is_some))
        };
        if let Some(text) = drawn.iter().find(is_text).and_then(|at| grid.columns.get(*at)) {
            return Err(Trouble {
                message: format!("Column {} is {}, and a {} draws numbers.", text.name, text.kind, tile.kind.word()),
                hint: "Say in y which columns are drawn, or make it a table.".to_owned(),
            });
        }
        if drawn.is_empty() {
            return Err(Trouble {
                message: format!(
                    "The answer has no column of numbers beside its labels, and a {} draws numbers.",
                    tile.kind.word()
                ),
                hint: format!("It has: {}. Say in x which of them the labels are.", there()),
            });
        }
        Ok(Self { grid, compared, stale: None })
    }
}

/// Where a tile's figures come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drill {
    /// The tables and models that its statement reads: names, and where their pages are.
    pub reads: Vec<(String, String)>,
    /// Its statement, with what is chosen in it.
    pub sql: String,
    /// Names of the filters that move it.
    pub moved_by: Vec<String>,
}

/// A dashboard.
#[derive(Debug, Clone, Template)]
#[template(path = "dashboard.html")]
pub struct DashboardPage {
    /// What stands around it.
    pub frame: Frame,
    /// What is shown.
    pub dashboard: Dashboard,
    /// Its filters.
    pub filters: Vec<FilterChoice>,
    /// The step at which all of them were answered.
    pub step: u64,
    /// An answer a tile.
    pub answers: Vec<Panel<Answered>>,
    /// Where each tile's figures come from.
    pub drills: Vec<Drill>,
}

impl DashboardPage {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    /// What moves: the step, and the content of each tile; of lines only the data.
    pub fn live(dashboard: &Dashboard, step: u64, answers: &[Panel<Answered>]) -> Live {
        let mut live = Live::new();
        live.insert("t/step".to_owned(), step.to_string());
        live.insert("t/stale".to_owned(), stale_count(answers));
        live.insert("h/stale".to_owned(), stale_reasons(dashboard, answers));
        for (at, (tile, answer)) in dashboard.tiles.iter().zip(answers).enumerate() {
            match answer {
                Ok(answered) if tile.kind == TileKind::Line => {
                    let lines = Lines::of_tile(&answered.grid, tile);
                    live.insert(format!("c/tile-{at}"), lines.json());
                    live.insert(format!("h/tile-{at}/rows"), answered.grid.html(&tile.title));
                    live.insert(format!("h/tile-{at}/trouble"), stale_html(answered));
                }
                // Lines that fail keep their picture, with the reason above it.
                Err(trouble) if tile.kind == TileKind::Line => {
                    live.insert(format!("h/tile-{at}/trouble"), trouble_html(trouble));
                }
                answer => {
                    live.insert(format!("h/tile-{at}"), content(tile, at, answer));
                }
            }
        }
        live
    }

    fn tiles(&self) -> Vec<(usize, &Tile, String, &Drill)> {
        let each = self.dashboard.tiles.iter().zip(&self.answers).zip(&self.drills).enumerate();
        each.map(|(at, ((tile, answer), drill))| (at, tile, content(tile, at, answer), drill)).collect()
    }

    /// How many tiles are not what they should be; nothing where none is.
    fn stale_count(&self) -> String {
        stale_count(&self.answers)
    }

    fn stale_reasons(&self) -> String {
        stale_reasons(&self.dashboard, &self.answers)
    }

    /// How many tiles a filter moves.
    fn reach(&self, filter: &FilterChoice) -> String {
        let moved = self.drills.iter().filter(|drill| drill.moved_by.contains(&filter.name)).count();
        match moved {
            0 => "moves no tile".to_owned(),
            all if all == self.drills.len() => "moves all tiles".to_owned(),
            some => format!("moves {some} of {} tiles", self.drills.len()),
        }
    }

    /// Which of the chosen filters a tile is moved by, and which it cannot show; nothing where none is chosen.
    fn filtered(&self, drill: &Drill) -> String {
        let chosen = || self.filters.iter().filter(|filter| !filter.chosen.is_empty());
        let by = |filter: &&FilterChoice| drill.moved_by.contains(&filter.name);
        let moved = chosen().filter(by).map(|filter| format!("{}: {}", filter.title, filter.chosen));
        let others = chosen().filter(|filter| !by(filter)).map(|filter| format!("not by {}", filter.title));
        moved.chain(others).collect::<Vec<_>>().join(", ")
    }

    fn is_unmoved(&self, drill: &Drill) -> bool {
        let mut chosen = self.filters.iter().filter(|filter| !filter.chosen.is_empty()).peekable();
        chosen.peek().is_some() && !chosen.any(|filter| drill.moved_by.contains(&filter.name))
    }

    fn rows_href(&self, drill: &Drill) -> String {
        format!("/console?sql={}", url(&drill.sql))
    }

    fn section(&self) -> &'static str {
        "dashboards"
    }

    fn title(&self) -> &str {
        &self.dashboard.title
    }

    fn events(&self) -> String {
        let chosen = self.filters.iter().filter(|filter| !filter.chosen.is_empty());
        let query: Vec<String> =
            chosen.map(|filter| format!("{}={}", url(&filter.name), url(&filter.chosen))).collect();
        format!("/events/dashboards/{}?{}", url(&self.dashboard.name), query.join("&"))
    }
}

/// A tile's inside.
fn content(tile: &Tile, at: usize, answer: &Panel<Answered>) -> String {
    if tile.kind == TileKind::Line {
        return line_html(tile, at, answer);
    }
    let answered = match answer {
        Ok(answered) => answered,
        Err(trouble) => return trouble_html(trouble),
    };
    let grid = &answered.grid;
    let inside = match tile.kind {
        TileKind::Number | TileKind::Line => number_html(tile, answered),
        TileKind::Bar => scrolled(tile, &bars_html(grid, tile), grid, seen_groups(tile, grid)),
        TileKind::Funnel => scrolled(tile, &funnel_html(grid, tile), grid, SEEN_ROWS),
        // That a table is cut it says itself.
        TileKind::Table => {
            let count = if grid.cut { String::new() } else { count_html(grid.rows.len(), false, SEEN_ROWS) };
            grid.select(&tile.columns).html(&tile.title) + &count
        }
    };
    stale_html(answered) + &inside
}

/// That what a tile shows is out of date, and how old; the reason where it is pointed at. Nothing where it is not.
fn stale_html(answered: &Answered) -> String {
    let text = |Stale { line, whole, .. }: &Stale| {
        format!("<p class=\"stale\" role=\"note\" title=\"{}\">{}</p>", escape(whole), escape(line))
    };
    answered.stale.as_ref().map(text).unwrap_or_default()
}

/// Those of the answers that are not what they should be, each with its number.
fn stale_answers(answers: &[Panel<Answered>]) -> impl Iterator<Item = (usize, &Stale)> {
    let each = answers.iter().enumerate();
    each.filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?.stale.as_ref()?)))
}

/// How many tiles say that they are not what they should be.
fn stale_count(answers: &[Panel<Answered>]) -> String {
    match (stale_answers(answers).count(), answers.len()) {
        (0, _) => String::new(),
        (count, all) if count == all => "Why these figures are not up to date".to_owned(),
        (1, _) => "Why one tile is not up to date".to_owned(),
        (count, all) => format!("Why {count} of {all} tiles are not up to date"),
    }
}

/// Why that is, each reason once, with the tiles that it is of.
fn stale_reasons(dashboard: &Dashboard, answers: &[Panel<Answered>]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (at, Stale { why, .. }) in stale_answers(answers) {
        let title = dashboard.tiles.get(at).map_or("", |tile| tile.title.as_str());
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, titles)) => titles.push(title),
            None => reasons.push((why.as_str(), vec![title])),
        }
    }
    let of = |titles: &[&str]| if titles.len() == answers.len() { "All tiles".to_owned() } else { titles.join(", ") };
    let each = reasons.iter().map(|(why, titles)| format!("<li>{}: {}</li>", escape(&of(titles)), escape(why)));
    each.collect()
}

/// A tile keeps its height however many rows there are.
fn scrolled(tile: &Tile, inside: &str, grid: &Grid, seen: usize) -> String {
    let label = escape(&tile.title);
    let region = format!("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\">{inside}</div>");
    region + &count_html(grid.rows.len(), grid.cut, seen)
}

/// Rows that are seen without scrolling.
const SEEN_ROWS: usize = 8;

/// Heights in pixels of a tile, of a group's label, and of each of its bars: so many groups are seen at once.
const TILE_HEIGHT: usize = 350;
const LABEL_HEIGHT: usize = 34;
const BAR_HEIGHT: usize = 24;

/// Rows of bars that are seen without scrolling: of several columns each has a bar for each of them.
fn seen_groups(tile: &Tile, grid: &Grid) -> usize {
    let label = tile.x.as_deref().and_then(|name| grid.column(name)).unwrap_or(0);
    match grid.drawn(label, &tile.y).len() {
        0 | 1 => SEEN_ROWS,
        bars => TILE_HEIGHT / (LABEL_HEIGHT + bars * BAR_HEIGHT),
    }
}

/// How many rows there are, below those that are seen; nothing where all are.
fn count_html(rows: usize, is_cut: bool, seen: usize) -> String {
    match is_cut {
        true => format!("<p class=\"quiet more\">The first {rows} rows.</p>"),
        false if rows > seen => format!("<p class=\"quiet more\">{rows} rows</p>"),
        false => String::new(),
    }
}

fn trouble_html(trouble: &Trouble) -> String {
    format!("<p class=\"trouble\">{}<br>{}</p>", escape(&trouble.message), escape(&trouble.hint))
}

/// Lines with their rows as text; the chart is there also while they fail, so that they appear when they come.
fn line_html(tile: &Tile, at: usize, answer: &Panel<Answered>) -> String {
    let key = format!("tile-{at}");
    let (trouble, chart, rows) = match answer {
        Ok(answered) => {
            let lines = Lines::of_tile(&answered.grid, tile);
            (stale_html(answered), lines_html(&lines, &key, &tile.title), answered.grid.html(&tile.title))
        }
        Err(trouble) => (trouble_html(trouble), unknown_lines_html(&key, &tile.title), String::new()),
    };
    format!(
        "<div data-live=\"h/{key}/trouble\">{trouble}</div>{chart}<details><summary>Rows of this chart</summary><div data-live=\"h/{key}/rows\">{rows}</div></details>"
    )
}

/// A tile's figure. A number is not broken: the longer it is, the smaller it stands; of one that is longer than any line its groups are kept.
fn large_html(text: &str, is_number: bool, exact: Option<&str>) -> String {
    let class = match (is_number, text.chars().count()) {
        (true, ..=14) => " figure",
        (true, ..=18) => " figure long",
        (true, ..=26) => " figure longer",
        (true, _) => " longer",
        (false, _) => "",
    };
    let text = escape(text);
    let text = if class == " longer" { text.replace(',', ",<wbr>") } else { text };
    format!("<p class=\"large{class}\"{}>{text}</p>", title_html(exact))
}

/// What is told where something is pointed at; nothing where that is nothing.
fn title_html(text: Option<&str>) -> String {
    text.map(|text| format!(" title=\"{}\"", escape(text))).unwrap_or_default()
}

fn number_html(tile: &Tile, answered: &Answered) -> String {
    let grid = &answered.grid;
    let shown = tile.y.first().and_then(|name| grid.column(name)).unwrap_or(0);
    let cell = |at: usize| grid.rows.first().and_then(|row| row.get(at)).cloned().flatten();
    let value = cell(shown);
    let text = value.as_deref().map_or_else(|| "–".to_owned(), |value| tile.text(value));
    let exact = value.as_deref().and_then(|value| tile.exact(value));
    let is_number = value.as_deref().is_some_and(|value| value.parse::<f64>().is_ok());
    let mut out = large_html(&text, is_number, exact.as_deref());
    if grid.rows.len() > 1 {
        let count = if grid.cut { format!("more than {}", grid.rows.len()) } else { grid.rows.len().to_string() };
        let _ = write!(out, "<p class=\"quiet more\">The first of {count} rows: a number is of one.</p>");
    }
    let Some(compare) = tile.compare.as_deref() else { return out };
    let column = grid.column(compare);
    let before = answered.compared.clone().or_else(|| column.and_then(cell));
    let name = match (tile.compare_title.as_str(), column) {
        ("", Some(_)) => compare.replace('_', " "),
        ("", None) => "before".to_owned(),
        (title, _) => title.to_owned(),
    };
    let parsed = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<f64>().ok());
    match (parsed(&value), parsed(&before)) {
        (Some(now), Some(then)) => {
            let (tone, sign) = match (now.total_cmp(&then), tile.good) {
                (Ordering::Greater, Good::Up) => ("better", "▲ "),
                (Ordering::Greater, Good::Down) => ("worse", "▲ "),
                (Ordering::Less, Good::Up) => ("worse", "▼ "),
                (Ordering::Less, Good::Down) => ("better", "▼ "),
                (Ordering::Greater, Good::Neither) => ("same", "▲ "),
                (Ordering::Less, Good::Neither) => ("same", "▼ "),
                (Ordering::Equal, _) => ("same", "= "),
            };
            // Of nothing there is no share: the change is all that there is now.
            let change = match then == 0.0 {
                true => tile.text(value.as_deref().unwrap_or_default()).trim_start_matches('−').to_owned(),
                false => number::percent((now - then).abs() / then.abs()),
            };
            let then = before.as_deref().unwrap_or_default();
            let _ = write!(
                out,
                "<p class=\"change {tone}\"><span>{sign}{}</span> <span class=\"quiet\"{}>{}: {}</span></p>",
                escape(&change),
                title_html(tile.exact(then).as_deref()),
                escape(&name),
                escape(&tile.text(then))
            );
        }
        _ if column.is_none() && answered.compared.is_none() => {
            let _ = write!(
                out,
                "<p class=\"change quiet\">The answer has no column “{}” to compare with.</p>",
                escape(compare)
            );
        }
        _ => {
            let _ = write!(out, "<p class=\"change quiet\">{}: –</p>", escape(&name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Column;

    fn answered(columns: &[&str], row: &[&str]) -> Panel<Answered> {
        let columns = columns.iter().map(|name| Column { name: (*name).to_owned(), kind: "bigint".to_owned() });
        let rows = vec![row.iter().map(|cell| Some((*cell).to_owned())).collect()];
        Ok(Answered { grid: Grid { columns: columns.collect(), rows, cut: false }, compared: None, stale: None })
    }

    #[test]
    fn a_number_says_how_it_changed() {
        let tile = Tile { compare: Some("yesterday".to_owned()), ..Tile::default() };
        let html = content(&tile, 0, &answered(&["gmv", "yesterday"], &["1500", "1000"]));
        assert!(html.contains("1,500") && html.contains("▲ 50.0 %") && html.contains("yesterday: 1,000"), "{html}");
        let html = content(&tile, 0, &answered(&["gmv"], &["1500"]));
        assert!(html.contains("1,500") && html.contains("no column “yesterday”"), "{html}");
    }

    #[test]
    fn a_change_from_nothing_is_told_by_its_amount() {
        let tile = Tile { compare: Some("before".to_owned()), currency: "EUR".to_owned(), ..Tile::default() };
        let change = |now: &str| {
            let html = content(&tile, 0, &answered(&["n", "before"], &[now, "0"]));
            between(&html, "<p class=\"change ", "</span>").to_owned()
        };
        assert_eq!(change("1500"), "better\"><span>▲ €1,500.00");
        assert_eq!(change("-3.5"), "worse\"><span>▼ €3.50");
        assert_eq!(change("0"), "same\"><span>= €0.00");
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map(|(inside, _)| inside).unwrap_or_default()
    }

    #[test]
    fn a_number_of_many_rows_says_that_it_is_the_first() {
        let mut answer = answered(&["n"], &["7"]).unwrap();
        answer.grid.rows.push(vec![Some("8".to_owned())]);
        let html = content(&Tile::default(), 0, &Ok(answer.clone()));
        assert!(html.contains(">7</p>") && html.contains("The first of 2 rows"), "{html}");
        answer.grid.cut = true;
        assert!(content(&Tile::default(), 0, &Ok(answer)).contains("The first of more than 2 rows"));
    }

    #[test]
    fn money_has_all_its_digits_where_it_is_pointed_at() {
        let tile = Tile { compare: Some("before".to_owned()), currency: "EUR".to_owned(), ..Tile::default() };
        let html = content(&tile, 0, &answered(&["n", "before"], &["16950281.7250", "1234.5678"]));
        assert!(html.contains("title=\"€16,950,281.7250\">€16,950,281.73</p>"), "{html}");
        assert!(html.contains("title=\"€1,234.5678\">before: €1,234.57</span>"), "{html}");
    }

    #[test]
    fn a_number_is_not_broken_and_a_text_is() {
        let large = |value: &str| content(&Tile::default(), 0, &answered(&["n"], &[value]));
        assert!(large("1500").contains("<p class=\"large figure\">1,500</p>"));
        assert!(large("-1234567890.55").contains("<p class=\"large figure long\">"));
        assert!(large("1234567890123456.55").contains("<p class=\"large figure longer\">"));
        assert!(large("123456789012345678901234567890").contains("<p class=\"large longer\">123,<wbr>456,"));
        assert!(large("1500 of them, as they say").contains("<p class=\"large\">"));
    }

    #[test]
    fn what_is_not_seen_at_once_is_counted() {
        let tile = |kind| Tile { kind, ..Tile::default() };
        let html = |kind, rows: usize, cut| {
            let columns = ["day", "n"].map(|name| Column { name: name.to_owned(), kind: "bigint".to_owned() }).to_vec();
            let rows = (0..rows).map(|n| vec![Some(n.to_string()); 2]).collect();
            let grid = Grid { columns, rows, cut };
            content(&tile(kind), 0, &Ok(Answered { grid, ..Answered::default() }))
        };
        for kind in [TileKind::Bar, TileKind::Funnel, TileKind::Table] {
            assert!(!html(kind, 8, false).contains("8 rows"));
            assert!(html(kind, 9, false).contains("</div><p class=\"quiet more\">9 rows</p>"));
            assert_eq!(html(kind, 200, true).matches("The first 200 rows.").count(), 1);
        }
    }

    #[test]
    fn a_tile_that_is_out_of_date_says_so_and_keeps_its_numbers() {
        for kind in [TileKind::Number, TileKind::Line, TileKind::Bar, TileKind::Table, TileKind::Funnel] {
            let tile = Tile { kind, x: Some("x".to_owned()), y: vec!["y".to_owned()], ..Tile::default() };
            let answer =
                answered(&["x", "y"], &["1", "7"]).map(|answered| Answered { stale: stale("<cut>"), ..answered });
            let html = content(&tile, 0, &answer);
            let note = "<p class=\"stale\" role=\"note\" title=\"public.trade is out of date: &lt;cut&gt;\">Out of date: true 4 min ago</p>";
            assert!(html.contains(note) && html.contains('7'), "{html}");
        }
    }

    fn stale(why: &str) -> Option<Stale> {
        let (line, whole) = ("Out of date: true 4 min ago".to_owned(), format!("public.trade is out of date: {why}"));
        Some(Stale { line, whole, why: why.to_owned() })
    }

    /// Each reason once, whatever many tiles it is of.
    #[test]
    fn why_tiles_are_out_of_date_is_told_once_a_page() {
        let tiles = ["A", "B", "C", "D"].map(|title| Tile { title: title.to_owned(), ..Tile::default() }).to_vec();
        let dashboard = Dashboard { tiles, ..Dashboard::default() };
        let of = |reasons: [Option<&str>; 4]| {
            let answer = |why: Option<&str>| {
                answered(&["n"], &["1"]).map(|answered| Answered { stale: why.and_then(stale), ..answered })
            };
            let live = DashboardPage::live(&dashboard, 7, &reasons.map(answer));
            (live["t/stale"].clone(), live["h/stale"].clone())
        };
        let told = |count: &str, reasons: &str| (count.to_owned(), reasons.to_owned());
        assert_eq!(of([None; 4]), told("", ""));
        assert_eq!(of([Some("x"); 4]), told("Why these figures are not up to date", "<li>All tiles: x</li>"));
        assert_eq!(
            of([Some("x"), None, Some("<y>"), Some("x")]),
            told("Why 3 of 4 tiles are not up to date", "<li>A, D: x</li><li>C: &lt;y&gt;</li>")
        );
    }

    #[test]
    fn a_tile_says_which_change_is_good() {
        let tone = |good, now: &str| {
            let tile = Tile { compare: Some("before".to_owned()), good, ..Tile::default() };
            let html = content(&tile, 0, &answered(&["n", "before"], &[now, "10"]));
            ["better", "worse", "same"]
                .into_iter()
                .find(|tone| html.contains(&format!("class=\"change {tone}\"")))
                .unwrap()
        };
        assert_eq!([Good::Up, Good::Down, Good::Neither].map(|good| tone(good, "12")), ["better", "worse", "same"]);
        assert_eq!([Good::Up, Good::Down, Good::Neither].map(|good| tone(good, "9")), ["worse", "better", "same"]);
        assert_eq!(tone(Good::Up, "10"), "same");
    }

    #[test]
    fn a_filter_says_what_it_moves() {
        let filter = |name: &str, chosen: &str| FilterChoice {
            name: name.to_owned(),
            title: name.to_owned(),
            values: None,
            chosen: chosen.to_owned(),
        };
        let drill = |moved_by: &[&str]| Drill {
            moved_by: moved_by.iter().map(|name| (*name).to_owned()).collect(),
            ..Drill::default()
        };
        let page = DashboardPage {
            frame: Frame::default(),
            dashboard: Dashboard::default(),
            filters: vec![filter("day", "2026-03-01"), filter("city", "")],
            step: 1,
            answers: Vec::new(),
            drills: vec![drill(&["day"]), drill(&["city"]), drill(&[])],
        };
        assert_eq!(page.reach(&page.filters[0]), "moves 1 of 3 tiles");
        assert_eq!(page.filtered(&page.drills[0]), "day: 2026-03-01");
        assert_eq!(page.filtered(&page.drills[1]), "not by day");
        assert!(!page.is_unmoved(&page.drills[0]) && page.is_unmoved(&page.drills[1]));
    }

    #[test]
    fn a_column_that_is_not_there_is_said() {
        let tile = Tile { kind: TileKind::Bar, y: vec!["revenu".to_owned()], ..Tile::default() };
        let grid = answered(&["day", "revenue"], &["1", "2"]).unwrap().grid;
        let html = content(&tile, 0, &Answered::of(&tile, grid, None));
        assert!(html.contains("no column revenu.") && html.contains("It has: day, revenue."), "{html}");
    }

    #[test]
    fn text_is_not_drawn() {
        let said = |kind, y: &[&str]| {
            let tile = Tile { kind, y: y.iter().map(|name| (*name).to_owned()).collect(), ..Tile::default() };
            let mut grid = answered(&["day", "note"], &["1", "much"]).unwrap().grid;
            grid.columns[1].kind = "text".to_owned();
            Answered::of(&tile, grid, None).map(|_| ()).map_err(|trouble| trouble.message)
        };
        for kind in [TileKind::Line, TileKind::Bar, TileKind::Funnel] {
            let word = kind.word();
            assert_eq!(said(kind, &["note"]), Err(format!("Column note is text, and a {word} draws numbers.")));
            let none = format!("The answer has no column of numbers beside its labels, and a {word} draws numbers.");
            assert_eq!(said(kind, &[]), Err(none));
        }
        assert_eq!([said(TileKind::Table, &[]), said(TileKind::Number, &["note"])], [Ok(()), Ok(())]);
    }

    #[test]
    fn lines_that_fail_keep_their_place() {
        let tile = Tile { kind: TileKind::Line, ..Tile::default() };
        let html = content(&tile, 3, &Err(Trouble { message: "<gone>".to_owned(), hint: String::new() }));
        assert!(html.contains("&lt;gone&gt;") && html.contains("data-live=\"c/tile-3\""), "{html}");
        // That there are no rows is not known.
        assert!(!html.contains("No rows."), "{html}");
    }

    #[test]
    fn lines_move_by_their_data_alone() {
        let tile = Tile { kind: TileKind::Line, ..Tile::default() };
        let dashboard = Dashboard { tiles: vec![tile], ..Dashboard::default() };
        let live = DashboardPage::live(&dashboard, 7, &[answered(&["x", "y"], &["1", "2"])]);
        assert_eq!(
            live.keys().collect::<Vec<_>>(),
            ["c/tile-0", "h/stale", "h/tile-0/rows", "h/tile-0/trouble", "t/stale", "t/step"]
        );
    }
}
