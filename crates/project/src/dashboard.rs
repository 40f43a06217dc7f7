//! `dashboards/*.yml`: tiles over SQL, and filters that give their statements parameters.
//!
//! Statements are rendered as models are: `ref`, `source`, variables and macros. What they mean is not known here: they run when
//! somebody looks.

use std::sync::Arc;

use crate::declared::{Names, parsed, yaml_files};
use crate::diagnostic::{Diagnostic, Place, Severity, closest};
use crate::files::Files;
use crate::jinja::scope::World;
use crate::jinja::tags::has_jinja;
use crate::jinja::{Engine, YamlJinja};
use crate::model::Dependency;
use crate::yaml::{Data, Node, Reader};

/// Where dashboards are.
pub(crate) const FOLDER: &str = "dashboards/";
pub(crate) const KEYS: &[&str] = &["dashboard", "title", "description", "filters", "tiles"];
pub(crate) const FILTER_KEYS: &[&str] = &["name", "title", "sql"];
pub(crate) const TILE_KEYS: &[&str] = &[
    "title",
    "description",
    "kind",
    "sql",
    "x",
    "y",
    "y2",
    "compare",
    "compare_title",
    "good",
    "unfinished",
    "format",
    "unit",
    "currency",
    "columns",
];
/// Keys whose values are statements.
const STATEMENTS: &[&str] = &["sql", "compare"];

/// Whether a place is in a file of dashboards.
pub fn is_of_dashboards(place: &Place) -> bool {
    place.file.starts_with(FOLDER)
}

/// One file of `dashboards/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// Its name: letters, digits, `_` and `-`; a part of its address.
    pub name: String,
    /// What people call it; the name if it is not said.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// What can be chosen above the tiles.
    pub filters: Vec<DashboardFilter>,
    /// The tiles, in order.
    pub tiles: Vec<DashboardTile>,
    /// Where it is declared.
    pub place: Place,
}

/// A choice; statements of tiles refer to it as `:name`, which is NULL where nothing is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardFilter {
    /// The parameter's name: letters, digits and `_`.
    pub name: String,
    /// What people call it; the name if it is not said.
    pub title: String,
    /// A statement whose first column has the values to choose from.
    pub sql: Option<String>,
    /// Where the statement is, or the filter.
    pub place: Place,
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DashboardTile {
    /// What it shows.
    pub title: String,
    /// What that means.
    pub description: String,
    /// How it is shown.
    pub kind: TileKind,
    /// Where it comes from.
    pub sql: String,
    /// Column of the horizontal axis, or of the labels.
    pub x: Option<String>,
    /// Columns drawn.
    pub y: Vec<String>,
    /// Columns drawn over an axis of their own.
    pub y2: Vec<String>,
    /// What it is compared with: a column of the answer, or for a number a statement.
    pub compare: Option<String>,
    /// What people call that.
    pub compare_title: String,
    /// Which change is a good one.
    pub good: Option<TileGood>,
    /// Whether the last point of a line is of a time that is not over.
    pub unfinished: bool,
    /// How numbers are written.
    pub format: Option<TileFormat>,
    /// What is counted.
    pub unit: String,
    /// The code of a currency, such as `CNY`.
    pub currency: String,
    /// Columns of a table.
    pub columns: Vec<String>,
    /// Where the statement is.
    pub place: Place,
    /// Where `compare` is, or the statement.
    pub compare_place: Place,
    /// Where `y` is, or the statement.
    pub y_place: Place,
}

/// How a tile is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileKind {
    /// One large number.
    Number,
    /// Lines over time or another number.
    Line,
    /// A bar for each row.
    Bar,
    /// The rows.
    Table,
    /// Bars with the share that each step keeps.
    Funnel,
}

impl TileKind {
    const ALL: [Self; 5] = [Self::Number, Self::Line, Self::Bar, Self::Table, Self::Funnel];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Line => "line",
            Self::Bar => "bar",
            Self::Table => "table",
            Self::Funnel => "funnel",
        }
    }
}

/// Which change of a figure is a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileGood {
    /// To have more.
    Up,
    /// To have less.
    Down,
    /// Neither.
    Neither,
}

impl TileGood {
    const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Neither];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Neither => "neither",
        }
    }
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileFormat {
    /// Digits grouped, all of them.
    Number,
    /// Digits grouped, rounded to whole ones.
    Integer,
    /// A share of one as per cent.
    Percent,
    /// Bytes with a unit.
    Bytes,
    /// Seconds with a unit.
    Seconds,
}

impl TileFormat {
    const ALL: [Self; 5] = [Self::Number, Self::Integer, Self::Percent, Self::Bytes, Self::Seconds];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Percent => "percent",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
        }
    }
}

/// What statements are rendered with.
pub(crate) struct Statements<'a, 'e> {
    pub(crate) engine: &'a Engine<'e>,
    pub(crate) world: &'a Arc<World>,
    /// Whether the model of a name has no table that could be read.
    pub(crate) is_ephemeral: &'a dyn Fn(&str) -> bool,
}

impl Statements<'_, '_> {
    /// Renders the statements of a tree in place; one with a mistake becomes none, and nothing more is said of it.
    fn render(&self, node: &mut Node, file: &str, found: &mut Vec<Diagnostic>) {
        match &mut node.data {
            Data::List(items) => items.iter_mut().for_each(|item| self.render(item, file, found)),
            Data::Map(pairs) => {
                for (key, value) in pairs {
                    match value.text().map(str::to_owned) {
                        Some(text) if STATEMENTS.contains(&key.text.as_str()) && has_jinja(&text) => {
                            let place = value.place(file);
                            value.data = Data::Text(self.rendered(&text, &place, found));
                        }
                        Some(_) => {}
                        None => self.render(value, file, found),
                    }
                }
            }
            Data::Null | Data::Text(_) | Data::Other(..) => {}
        }
    }

    /// The text of a statement; empty where there is a mistake in it.
    fn rendered(&self, text: &str, place: &Place, found: &mut Vec<Diagnostic>) -> String {
        let statement = self.engine.statement(self.world, text);
        found.extend(statement.mistakes.into_iter().map(|mistake| Diagnostic { place: place.clone(), ..mistake }));
        for reference in &statement.references {
            if let Dependency::Model(name) = reference
                && (self.is_ephemeral)(name)
            {
                let error =
                    Diagnostic::error(place.clone(), format!("model `{name}` is ephemeral: nobody can read it"));
                found.push(error.hint("Make it a view: `{{ config(materialized='view') }}`."));
                return String::new();
            }
        }
        statement.text.unwrap_or_default()
    }
}

/// Reads all files of the folder.
pub(crate) fn read(
    files: &Files,
    jinja: &YamlJinja,
    statements: &Statements<'_, '_>,
    found: &mut Vec<Diagnostic>,
) -> Vec<Dashboard> {
    let mut dashboards: Vec<Dashboard> = Vec::new();
    let mut names = Names::default();
    for (file, text) in yaml_files(files, FOLDER) {
        let Some(mut node) = parsed(file, text, found) else { continue };
        jinja.render(&mut node, file, STATEMENTS, found);
        statements.render(&mut node, file, found);
        let Some(dashboard) = dashboard(&mut Reader { file, found }, &node) else { continue };
        if names.take("dashboard", &dashboard.name, &dashboard.place, found) {
            dashboards.push(dashboard);
        }
    }
    dashboards
}

/// What a file says; none where it is empty or has no usable name.
fn dashboard(reader: &mut Reader<'_>, node: &Node) -> Option<Dashboard> {
    if node.is_null() || !reader.expect_map(node, "a dashboard") {
        return None;
    }
    reader.check_keys(node, "a dashboard", KEYS, Severity::Error);
    let name = reader.name(node, "dashboard", "the file");
    let title = reader.text(node, "title");
    let description = reader.text(node, "description").unwrap_or_default();
    let filters = reader.items(node, "filters").iter().filter_map(|item| filter(reader, item)).collect();
    let tiles = reader.items(node, "tiles").iter().filter_map(|item| tile(reader, item)).collect();
    let name = name?;
    let named = node.get("dashboard").unwrap_or(node);
    if !is_name(&name, "_-") {
        let error = reader.error(named, format!("`{name}` is no name for a dashboard"));
        error.hint =
            Some("It is a part of an address: letters, digits, `_` and `-`; say the rest in `title`.".to_owned());
        return None;
    }
    let place = named.place(reader.file);
    Some(Dashboard { title: title.unwrap_or_else(|| name.clone()), name, description, filters, tiles, place })
}

fn filter(reader: &mut Reader<'_>, node: &Node) -> Option<DashboardFilter> {
    if !reader.expect_map(node, "a filter") {
        return None;
    }
    reader.check_keys(node, "a filter", FILTER_KEYS, Severity::Error);
    let (title, sql) = (reader.text(node, "title"), reader.text(node, "sql"));
    let name = reader.name(node, "name", "the filter")?;
    if !is_name(&name, "_") {
        let error = reader.error(node.get("name").unwrap_or(node), format!("`{name}` is no name for a filter"));
        error.hint = Some("Statements refer to it as `:name`: letters, digits and `_`.".to_owned());
        return None;
    }
    let place = node.get("sql").unwrap_or(node).place(reader.file);
    Some(DashboardFilter { title: title.unwrap_or_else(|| name.clone()), name, sql, place })
}

fn tile(reader: &mut Reader<'_>, node: &Node) -> Option<DashboardTile> {
    if !reader.expect_map(node, "a tile") {
        return None;
    }
    reader.check_keys(node, "a tile", TILE_KEYS, Severity::Error);
    let title = reader.name(node, "title", "the tile");
    let sql = reader.name(node, "sql", "the tile");
    let kind = reader.name(node, "kind", "the tile");
    let kind = kind.and_then(|word| one_of(reader, node, "kind", &word, &TileKind::ALL.map(|k| (k.word(), k))));
    let format = reader.text(node, "format");
    let format = format.and_then(|word| one_of(reader, node, "format", &word, &TileFormat::ALL.map(|f| (f.word(), f))));
    let good = reader.text(node, "good");
    let good = good.and_then(|word| one_of(reader, node, "good", &word, &TileGood::ALL.map(|g| (g.word(), g))));
    let currency = reader.text(node, "currency").unwrap_or_default();
    let is_code = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
    if !(currency.is_empty() || is_code) {
        let error = reader.error(node.get("currency").unwrap_or(node), format!("`{currency}` is no currency"));
        error.hint = Some("Its code has three letters: CNY, EUR, USD.".to_owned());
    }
    let place = node.get("sql").unwrap_or(node).place(reader.file);
    let sql = sql.filter(|sql| !sql.trim().is_empty());
    // Of one that is not there, or could not be rendered, it is said already.
    if sql.is_none() && !reader.found.iter().any(|finding| finding.place == place) {
        reader.error(node.get("sql").unwrap_or(node), "the `sql` of the tile is empty");
    }
    let place_of = |key: &str| node.get(key).map_or_else(|| place.clone(), |value| value.place(reader.file));
    let (compare_place, y_place) = (place_of("compare"), place_of("y"));
    let y = reader.texts(node, "y");
    if let Some(kind) = kind {
        check_keys_of(reader, node, kind, &y);
    }
    Some(DashboardTile {
        description: reader.text(node, "description").unwrap_or_default(),
        x: reader.text(node, "x"),
        y,
        y2: reader.texts(node, "y2"),
        compare: reader.text(node, "compare"),
        compare_title: reader.text(node, "compare_title").unwrap_or_default(),
        good,
        unfinished: reader.boolean(node, "unfinished").unwrap_or(false),
        format,
        unit: reader.text(node, "unit").unwrap_or_default(),
        currency,
        columns: reader.texts(node, "columns"),
        title: title?,
        kind: kind?,
        sql: sql?,
        place,
        compare_place,
        y_place,
    })
}

/// Keys of a tile that not every kind has, and the kinds that have them.
const KEYS_OF: &[(&str, &[TileKind])] = &[
    ("x", &[TileKind::Line, TileKind::Bar, TileKind::Funnel]),
    ("y", &[TileKind::Number, TileKind::Line, TileKind::Bar, TileKind::Funnel]),
    ("y2", &[TileKind::Line]),
    ("compare", &[TileKind::Number, TileKind::Line]),
    ("compare_title", &[TileKind::Number, TileKind::Line]),
    ("good", &[TileKind::Number]),
    ("unfinished", &[TileKind::Line]),
    ("format", &[TileKind::Number, TileKind::Bar, TileKind::Funnel]),
    ("currency", &[TileKind::Number, TileKind::Line, TileKind::Bar, TileKind::Funnel]),
    ("unit", &[TileKind::Number, TileKind::Line, TileKind::Bar, TileKind::Funnel]),
    ("columns", &[TileKind::Table]),
];

/// What a tile says and its kind cannot show: that would be left out without a word.
fn check_keys_of(reader: &mut Reader<'_>, node: &Node, kind: TileKind, y: &[String]) {
    let word = kind.word();
    for (key, kinds) in KEYS_OF {
        let Some(value) = node.get(key).filter(|value| !value.is_null() && !kinds.contains(&kind)) else { continue };
        let of: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
        let warning =
            Diagnostic::warning(value.place(reader.file), format!("`{key}` says nothing of a tile of kind `{word}`"));
        reader.found.push(warning.hint(format!("It is of: {}.", of.join(", "))));
    }
    if let (TileKind::Number | TileKind::Funnel, [_, _, ..], Some(value)) = (kind, y, node.get("y")) {
        let error = reader.error(value, format!("a tile of kind `{word}` shows one column, and `y` names {}", y.len()));
        let instead = match kind {
            TileKind::Funnel => "`kind: bar` draws several.",
            _ => "Make a tile of each, or a table.",
        };
        error.hint = Some(instead.to_owned());
    }
}

/// The value that a word stands for; an unknown word is an error with the one that may be meant.
fn one_of<T: Copy>(reader: &mut Reader<'_>, node: &Node, key: &str, word: &str, known: &[(&str, T)]) -> Option<T> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == word) {
        return Some(*value);
    }
    let words = || known.iter().map(|(name, _)| *name);
    let hint = match closest(word, words()) {
        Some(meant) => format!("Did you mean `{meant}`?"),
        None => format!("One of: {}.", words().collect::<Vec<_>>().join(", ")),
    };
    reader.error(node.get(key).unwrap_or(node), format!("unknown `{key}` of a tile: `{word}`")).hint = Some(hint);
    None
}

fn is_name(name: &str, others: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}
