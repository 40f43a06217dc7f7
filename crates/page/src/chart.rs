//! Figures of rows: bars and funnels as SVG with their values in text, lines as data for the vendored uPlot.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::dashboard::Tile;
use crate::escape;
use crate::grid::{Grid, NULL};

/// One line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// A value for each place; none where a gap is.
    pub values: Vec<Option<f64>>,
    /// Whether it belongs to the axis at the right.
    pub is_second: bool,
    /// Whether it is what the others are compared with.
    pub is_before: bool,
}

/// Lines over one axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lines {
    /// Places on the axis: seconds since 1970, numbers, or 0, 1, 2, … where the axis has names.
    pub x: Vec<f64>,
    /// Whether these are instants.
    pub is_time: bool,
    /// Whether these instants came with a time zone: others are shown as they stand, as one clock reads them.
    pub is_zoned: bool,
    /// Names on the axis; empty where it has numbers.
    pub names: Vec<String>,
    /// The lines.
    pub series: Vec<Series>,
    /// Whether the last place is of a time that is not over.
    pub is_open: bool,
    /// What stands before and behind values.
    pub around: (String, String),
    /// Digits behind the point of values that are money.
    pub money_digits: Option<usize>,
}

impl Lines {
    /// The lines of an answer: `x` and `y` are columns' names, see [`crate::Tile`].
    pub fn of(grid: &Grid, x: Option<&str>, y: &[String]) -> Self {
        let at = x.and_then(|name| grid.column(name)).unwrap_or(0);
        let cell = |row: &Vec<Option<String>>, at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let axis: Vec<String> = grid.rows.iter().map(|row| cell(row, at)).collect();
        let label = |row: &Vec<Option<String>>| label(row.get(at).and_then(Option::as_deref)).0.to_owned();
        let instants: Option<Vec<f64>> = axis.iter().map(|text| instant(text)).collect();
        let numbers: Option<Vec<f64>> = axis.iter().map(|text| text.parse().ok()).collect();
        let is_time = instants.is_some() && !axis.is_empty();
        let has_zone = |text: &String| text.get(10..).is_some_and(|time| time.contains(['+', '-', 'Z']));
        let is_zoned = is_time && axis.iter().any(has_zone);
        let names =
            if instants.is_none() && numbers.is_none() { grid.rows.iter().map(label).collect() } else { Vec::new() };
        let x = instants.or(numbers).unwrap_or_else(|| (0..axis.len()).map(|n| n as f64).collect());
        let drawn = grid.drawn(at, y);
        let series = drawn.iter().map(|column| {
            let values = grid.rows.iter().map(|row| cell(row, *column).parse().ok());
            Series { name: grid.columns[*column].name.clone(), values: values.collect(), ..Series::default() }
        });
        let lines = Self { x, is_time, is_zoned, names, series: series.collect(), ..Self::default() };
        lines.in_order()
    }

    /// The lines of a tile: also those of its second axis, and the one it is compared with.
    pub fn of_tile(grid: &Grid, tile: &Tile) -> Self {
        let x = tile.x.as_deref();
        let compare = tile.compare.iter().filter(|name| grid.column(name).is_some());
        let mut y = tile.y.clone();
        if !y.is_empty() {
            y.extend(tile.y2.iter().chain(compare.clone()).filter(|name| !tile.y.contains(name)).cloned());
        }
        let mut lines = Self::of(grid, x, &y);
        for series in &mut lines.series {
            series.is_second = tile.y2.contains(&series.name);
            if compare.clone().any(|name| *name == series.name) {
                series.is_before = true;
                if !tile.compare_title.is_empty() {
                    series.name.clone_from(&tile.compare_title);
                }
            }
        }
        lines.is_open = tile.unfinished && lines.x.len() > 1;
        lines.around = (tile.prefix(), tile.suffix());
        lines.money_digits = tile.money_digits();
        lines
    }

    /// uPlot wants the axis to ascend; rows may come in any order.
    fn in_order(self) -> Self {
        if !self.names.is_empty() || self.x.is_sorted() {
            return self;
        }
        let mut order: Vec<usize> = (0..self.x.len()).collect();
        order.sort_by(|a, b| self.x[*a].total_cmp(&self.x[*b]));
        let series = self.series.iter().map(|series| {
            let values = order.iter().map(|i| series.values[*i]).collect();
            Series { values, ..series.clone() }
        });
        Self { x: order.iter().map(|i| self.x[*i]).collect(), series: series.collect(), ..self }
    }

    /// What the page's script draws from.
    pub fn json(&self) -> String {
        let series = self.series.iter().map(|series| {
            let mut own = json!({"name": series.name, "values": series.values});
            for (key, is) in [("second", series.is_second), ("before", series.is_before)] {
                if is {
                    own[key] = true.into();
                }
            }
            own
        });
        let series: Vec<Json> = series.collect();
        let mut all = json!({"x": self.x, "time": self.is_time, "names": self.names, "series": series});
        for (key, is) in [("zoned", self.is_zoned), ("open", self.is_open)] {
            if is {
                all[key] = true.into();
            }
        }
        for (key, text) in [("prefix", &self.around.0), ("suffix", &self.around.1)] {
            if !text.is_empty() {
                all[key] = text.as_str().into();
            }
        }
        if let Some(digits) = self.money_digits {
            all["digits"] = digits.into();
        }
        all.to_string()
    }

    /// Why there is nothing to draw; none where there is something.
    pub fn nothing(&self) -> Option<&'static str> {
        let is_drawn = |series: &Series| series.values.iter().any(Option::is_some);
        match self.x.is_empty() {
            true => Some("No rows."),
            false => (!self.series.iter().any(is_drawn)).then_some("No values."),
        }
    }

    /// The lines in a sentence, for those who do not see them.
    pub fn sentence(&self) -> String {
        let each = self.series.iter().map(|Series { name, values, .. }| {
            let known = || values.iter().flatten().copied();
            match (known().next_back(), known().reduce(f64::min), known().reduce(f64::max)) {
                (Some(last), Some(least), Some(most)) => {
                    let text = crate::number::short;
                    format!("{name}: last {}, least {}, most {}", text(last), text(least), text(most))
                }
                _ => format!("{name}: no values"),
            }
        });
        let open = if self.is_open { ". The last point is not over yet" } else { "" };
        format!("{} points. {}{open}", self.x.len(), each.collect::<Vec<_>>().join(". "))
    }
}

/// A chart's place: the script draws the lines into it; the sentence stands for them. Where there is nothing to draw, it says so.
pub fn lines_html(lines: &Lines, key: &str, title: &str) -> String {
    let nothing = lines.nothing().map(|why| format!("<p class=\"quiet\">{why}</p>")).unwrap_or_default();
    place_html(lines, key, title, &nothing)
}

/// The same for lines that are not known: why that is stands elsewhere.
pub fn unknown_lines_html(key: &str, title: &str) -> String {
    place_html(&Lines::default(), key, title, "")
}

fn place_html(lines: &Lines, key: &str, title: &str, inside: &str) -> String {
    let names = lines.series.iter().map(|series| (series.name.as_str(), series.is_before));
    let label = escape(&format!("{title}. {}", lines.sentence()));
    format!(
        "{}<div class=\"chart{}\" role=\"img\" aria-label=\"{label}\" data-live=\"c/{}\" data-chart=\"{}\">{inside}</div>",
        legend(names),
        if lines.nothing().is_some() { " nothing" } else { "" },
        escape(key),
        escape(&lines.json())
    )
}

/// Which colour is which series; whether one is what the others are compared with.
fn legend<'a>(series: impl Iterator<Item = (&'a str, bool)>) -> String {
    let mut out = String::from("<ul class=\"legend\" aria-hidden=\"true\">");
    for (i, (name, is_before)) in series.enumerate() {
        let before = if is_before { " before" } else { "" };
        let _ = write!(out, "<li class=\"series-{}{before}\">{}</li>", i % COLOURS, escape(name));
    }
    out + "</ul>"
}

/// Colours of the style sheet.
const COLOURS: usize = 6;

/// For each row a bar a column, with the value beside it; of several columns a legend says which is which.
pub fn bars_html(grid: &Grid, tile: &Tile) -> String {
    let label = tile.x.as_deref().and_then(|name| grid.column(name)).unwrap_or(0);
    let drawn = grid.drawn(label, &tile.y);
    if grid.rows.is_empty() {
        return "<p class=\"quiet\">No rows.</p>".to_owned();
    }
    let cell = |row: &'_ [Option<String>], at: usize| row.get(at).cloned().flatten();
    let scale =
        Scale::of(grid.rows.iter().flat_map(|row| drawn.iter().map(move |at| length(cell(row, *at).as_deref()))));
    if let [only] = drawn[..] {
        let each = grid.rows.iter().map(|row| {
            let value = cell(row, only);
            let text = value_html(tile, value.as_deref(), "");
            bar_html(&label_html(cell(row, label).as_deref()), &text, &scale, length(value.as_deref()))
        });
        return format!("<ol class=\"bars\">{}</ol>", each.collect::<String>());
    }
    let mut out = legend(drawn.iter().map(|at| (grid.columns[*at].name.as_str(), false)));
    out.push_str("<ol class=\"bars grouped\">");
    for row in &grid.rows {
        let _ = write!(out, "<li><span class=\"label\">{}</span><ul>", label_html(cell(row, label).as_deref()));
        for (series, at) in drawn.iter().enumerate() {
            let value = cell(row, *at);
            let _ = write!(
                out,
                "<li class=\"series-{}\">{}<span class=\"value\"><span class=\"away\">{}: </span>{}</span></li>",
                series % COLOURS,
                scale.svg(length(value.as_deref())),
                escape(&grid.columns[*at].name),
                value_html(tile, value.as_deref(), "")
            );
        }
        out.push_str("</ul></li>");
    }
    out + "</ol>"
}

/// Bars of steps, each with what it keeps of the first and of the one before.
pub fn funnel_html(grid: &Grid, tile: &Tile) -> String {
    let label = tile.x.as_deref().and_then(|name| grid.column(name)).unwrap_or(0);
    let drawn = grid.drawn(label, &tile.y).first().copied();
    if grid.rows.is_empty() {
        return "<p class=\"quiet\">No rows.</p>".to_owned();
    }
    let cell = |row: usize, at: Option<usize>| grid.rows[row].get(at?).cloned().flatten();
    let lengths: Vec<f64> = (0..grid.rows.len()).map(|row| length(cell(row, drawn).as_deref())).collect();
    let scale = Scale::of(lengths.iter().copied());
    let share =
        |part: f64, whole: f64| if whole > 0.0 { crate::number::percent(part / whole) } else { "–".to_owned() };
    let kept = |row: usize| match row.checked_sub(1) {
        None => String::new(),
        Some(before) => format!(
            " · {} of all, {} of the step before",
            share(lengths[row], lengths[0]),
            share(lengths[row], lengths[before])
        ),
    };
    let each = (0..grid.rows.len()).map(|row| {
        let text = value_html(tile, cell(row, drawn).as_deref(), &kept(row));
        bar_html(&label_html(cell(row, Some(label)).as_deref()), &text, &scale, lengths[row])
    });
    format!("<ol class=\"bars\">{}</ol>", each.collect::<String>())
}

/// A value as a length; what is no number has none.
fn length(value: Option<&str>) -> f64 {
    value.and_then(|text| text.parse().ok()).filter(|length: &f64| length.is_finite()).unwrap_or(0.0)
}

/// What stands for a label, and whether it stands for one that is not there: NULL and a text without letters are no blanks.
fn label(text: Option<&str>) -> (&str, bool) {
    match text {
        None => ("null", true),
        Some(text) if text.trim().is_empty() => ("empty", true),
        Some(text) => (text, false),
    }
}

fn label_html(text: Option<&str>) -> String {
    match label(text) {
        (stands, true) => format!("<span class=\"null\">{stands}</span>"),
        (text, false) => escape(text),
    }
}

/// A value's text; all of its digits where it is pointed at.
fn value_html(tile: &Tile, value: Option<&str>, behind: &str) -> String {
    let Some(value) = value else { return format!("{NULL}{}", escape(behind)) };
    let text = escape(&(tile.text(value) + behind));
    match tile.exact(value) {
        Some(exact) => format!("<span title=\"{}\">{text}</span>", escape(&exact)),
        None => text,
    }
}

fn bar_html(label: &str, value: &str, scale: &Scale, length: f64) -> String {
    let svg = scale.svg(length);
    format!("<li><span class=\"label\">{label}</span><span class=\"value\">{value}</span>{svg}</li>")
}

/// How long bars are: those of negative values lead to the left of zero.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    fn of(lengths: impl Iterator<Item = f64>) -> Self {
        let none = Self { least: 0.0, most: 0.0 };
        lengths.fold(none, |Self { least, most }, length| Self { least: least.min(length), most: most.max(length) })
    }

    /// Where a value is between 0 and 100.
    fn at(&self, length: f64) -> f64 {
        // Halves, or the difference of two that are very large is none.
        let all = self.most / 2.0 - self.least / 2.0;
        if all > 0.0 { ((length / 2.0 - self.least / 2.0) / all * 100.0).clamp(0.0, 100.0) } else { 0.0 }
    }

    fn svg(&self, length: f64) -> String {
        let (zero, end) = (self.at(0.0), self.at(length));
        let mut out = String::from(
            "<svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"6\"/>",
        );
        let left = if self.least < 0.0 { format!(" x=\"{:.1}\"", zero.min(end)) } else { String::new() };
        let _ = write!(out, "<rect class=\"bar\"{left} width=\"{:.1}\" height=\"6\"/>", (end - zero).abs());
        if self.least < 0.0 {
            let _ = write!(
                out,
                "<rect class=\"zero\" x=\"{:.1}\" width=\"0.4\" height=\"6\"/>",
                (zero - 0.2).clamp(0.0, 99.6)
            );
        }
        out + "</svg>"
    }
}

/// Seconds since 1970 of `2026-03-01`, `2026-03-01T10:00`, `2026-03-01 10:00:00.5+00:00`; a time without zone is taken as UTC.
pub fn instant(text: &str) -> Option<f64> {
    let (date, time) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let mut next = |length: usize| parts.next().filter(|part| part.len() == length)?.parse::<i64>().ok();
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of the proleptic Gregorian calendar; March is the first month, so that a leap day is the last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = match time.strip_prefix(['T', ' ']) {
        None if time.is_empty() => 0.0,
        None => return None,
        Some(time) => {
            let zone = time.find(['+', '-', 'Z']);
            let (clock, zone) = zone.map_or((time, ""), |at| time.split_at(at));
            clock_seconds(clock)? - offset(zone)?
        }
    };
    Some(days as f64 * 86_400.0 + seconds)
}

fn clock_seconds(clock: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut unit = 3_600.0;
    for part in clock.split(':') {
        total += part.parse::<f64>().ok()? * unit;
        unit /= 60.0;
    }
    Some(total)
}

fn offset(zone: &str) -> Option<f64> {
    match zone.strip_prefix('+') {
        Some(east) => clock_seconds(east),
        None if zone.is_empty() || zone == "Z" => Some(0.0),
        None => clock_seconds(zone.strip_prefix('-')?).map(|west| -west),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Column;

    fn grid(columns: &[(&str, &str)], rows: &[&[&str]]) -> Grid {
        let columns = columns.iter().map(|(name, kind)| Column { name: (*name).to_owned(), kind: (*kind).to_owned() });
        let rows = rows.iter().map(|row| row.iter().map(|cell| Some((*cell).to_owned())).collect());
        Grid { columns: columns.collect(), rows: rows.collect(), cut: false }
    }

    #[test]
    fn instants_are_read() {
        assert_eq!(instant("1970-01-01"), Some(0.0));
        assert_eq!(instant("2000-03-01T00:00:00"), Some(951_868_800.0));
        assert_eq!(instant("2026-03-01 10:00:00.5+00:00"), Some(1_772_359_200.5));
        assert_eq!(instant("2026-03-01T10:00:00+08:00"), Some(1_772_330_400.0));
        assert_eq!(instant("2026-03-01x"), None);
        assert_eq!(instant("somewhere else"), None);
        assert_eq!(instant("12"), None);
    }

    #[test]
    fn times_with_a_zone_are_told_from_others() {
        let is_zoned = |at: &str| {
            let rows: &[&[&str]] = &[&[at, "1"]];
            Lines::of(&grid(&[("at", "timestamp"), ("n", "bigint")], rows), None, &[]).is_zoned
        };
        assert_eq!(["2026-03-01", "2026-03-01 10:00:00", "2026-03-01 10:00:00+00"].map(is_zoned), [false, false, true]);
    }

    #[test]
    fn lines_ascend_and_a_gap_stays_one() {
        let rows: &[&[&str]] = &[&["2026-01-02", "5"], &["2026-01-01", "x"]];
        let lines = Lines::of(&grid(&[("day", "date"), ("n", "bigint")], rows), Some("day"), &[]);
        assert!(lines.is_time && lines.x.is_sorted());
        let series: Vec<_> = lines.series.iter().map(|series| (series.name.as_str(), series.values.clone())).collect();
        assert_eq!(series, [("n", vec![None, Some(5.0)])]);
        assert_eq!(lines.sentence(), "2 points. n: last 5, least 5, most 5");
    }

    #[test]
    fn a_tile_says_which_lines_have_their_own_axis_and_which_is_the_one_before() {
        let columns =
            [("hour", "timestamp"), ("gmv", "numeric(12,2)"), ("orders", "bigint"), ("gmv_before", "numeric(12,2)")];
        let rows: &[&[&str]] = &[&["2026-01-01T10:00", "5", "1", "4"], &["2026-01-01T11:00", "7", "2", "6"]];
        let tile = Tile {
            y: vec!["gmv".to_owned()],
            y2: vec!["orders".to_owned()],
            compare: Some("gmv_before".to_owned()),
            compare_title: "a day before".to_owned(),
            currency: "CNY".to_owned(),
            unfinished: true,
            ..Tile::default()
        };
        let json = Lines::of_tile(&grid(&columns, rows), &tile).json();
        let read: Json = serde_json::from_str(&json).unwrap();
        assert_eq!(read["open"], true);
        assert_eq!(read["prefix"], "¥");
        let series: Vec<_> =
            read["series"].as_array().unwrap().iter().map(|s| (&s["name"], &s["second"], &s["before"])).collect();
        let (yes, no) = (&Json::Bool(true), &Json::Null);
        assert_eq!(series, [(&json!("gmv"), no, no), (&json!("orders"), yes, no), (&json!("a day before"), no, yes)]);
    }

    #[test]
    fn names_stay_in_their_order() {
        let lines =
            Lines::of(&grid(&[("city", "text"), ("n", "bigint")], &[&["Wuhan", "1"], &["Bern", "2"]]), None, &[]);
        assert_eq!((lines.names, lines.x), (vec!["Wuhan".to_owned(), "Bern".to_owned()], vec![0.0, 1.0]));
    }

    fn bar(y: &[&str], currency: &str) -> Tile {
        Tile { y: y.iter().map(|name| (*name).to_owned()).collect(), currency: currency.to_owned(), ..Tile::default() }
    }

    #[test]
    fn bars_of_several_columns_stand_in_groups() {
        let columns = [("city", "text"), ("note", "text"), ("one", "bigint"), ("two", "bigint")];
        let rows = grid(&columns, &[&["Bern", "a", "1", "10"], &["Wuhan", "b", "5", "0"]]);
        let of = |html: &str, what: &str| html.matches(what).count();
        // All columns of numbers where none is named, those that are named in their own order.
        for (tile, first, second) in [(bar(&[], ""), "one", "two"), (bar(&["two", "one"], ""), "two", "one")] {
            let html = bars_html(&rows, &tile);
            let legend = format!("<li class=\"series-0\">{first}</li><li class=\"series-1\">{second}</li></ul>");
            assert!(html.contains(&legend), "{html}");
            assert_eq!((of(&html, "class=\"bar\""), of(&html, "class=\"label\"")), (4, 2), "{html}");
            assert!(html.contains("<span class=\"away\">two: </span>10</span>"), "{html}");
        }
        // One scale for all of them.
        let html = bars_html(&rows, &bar(&[], ""));
        assert!(html.contains("width=\"10.0\"") && html.contains("width=\"100.0\""), "{html}");
        assert!(!bars_html(&rows, &bar(&["one"], "")).contains("legend"));
    }

    #[test]
    fn no_label_is_blank_and_no_value_is_without_a_bar() {
        let mut rows = grid(&[("city", "text"), ("n", "numeric(9,4)")], &[&["", "-1.2345"], &["x", "3"], &["y", "0"]]);
        rows.rows[1] = vec![None, Some("3".to_owned())];
        rows.rows[2][1] = None;
        let html = bars_html(&rows, &bar(&[], "EUR"));
        assert!(
            html.contains("<span class=\"null\">empty</span>") && html.contains("<span class=\"null\">null</span>")
        );
        assert!(html.contains("<span title=\"−€1.2345\">−€1.23</span>"), "{html}");
        let zero = 1.2345 / 4.2345 * 100.0;
        assert!(html.contains(&format!("x=\"0.0\" width=\"{zero:.1}\"")), "{html}");
        assert!(html.contains(&format!("x=\"{zero:.1}\" width=\"{:.1}\"", 100.0 - zero)), "{html}");
        assert!(html.contains(&format!("<span class=\"value\">{NULL}</span>")), "{html}");
    }

    #[test]
    fn lines_without_anything_say_so() {
        let columns = [("day", "date"), ("n", "bigint")];
        let why = |rows: &[&[&str]]| Lines::of(&grid(&columns, rows), None, &[]).nothing();
        assert_eq!(why(&[]), Some("No rows."));
        assert_eq!(why(&[&["2026-01-01", "none"]]), Some("No values."));
        assert_eq!(why(&[&["2026-01-01", "1"]]), None);
    }

    #[test]
    fn a_funnel_says_what_each_step_keeps() {
        let steps =
            grid(&[("step", "text"), ("n", "bigint")], &[&["seen", "1000"], &["cart", "250"], &["paid", "125"]]);
        let html = funnel_html(&steps, &Tile::default());
        assert!(html.contains("125 · 12.5 % of all, 50.0 % of the step before"), "{html}");
        assert!(html.contains("width=\"12.5\""), "{html}");
    }
}
