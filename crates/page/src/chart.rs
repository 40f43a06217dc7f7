//! Figures of rows: bars and funnels as SVG with their values in text, lines as data for the vendored uPlot.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::dashboard::Tile;
use crate::escape;
use crate::grid::Grid;

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
}

impl Lines {
    /// The lines of an answer: `x` and `y` are columns' names, see [`crate::Tile`].
    pub fn of(grid: &Grid, x: Option<&str>, y: &[String]) -> Self {
        let at = x.and_then(|name| grid.column(name)).unwrap_or(0);
        let cell = |row: &Vec<Option<String>>, at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        let axis: Vec<String> = grid.rows.iter().map(|row| cell(row, at)).collect();
        let instants: Option<Vec<f64>> = axis.iter().map(|text| instant(text)).collect();
        let numbers: Option<Vec<f64>> = axis.iter().map(|text| text.parse().ok()).collect();
        let is_time = instants.is_some() && !axis.is_empty();
        let has_zone = |text: &String| text.get(10..).is_some_and(|time| time.contains(['+', '-', 'Z']));
        let is_zoned = is_time && axis.iter().any(has_zone);
        let names = if instants.is_none() && numbers.is_none() { axis.clone() } else { Vec::new() };
        let x = instants.or(numbers).unwrap_or_else(|| (0..axis.len()).map(|n| n as f64).collect());
        let drawn: Vec<usize> = match y {
            [] => (0..grid.columns.len()).filter(|column| *column != at).collect(),
            names => names.iter().filter_map(|name| grid.column(name)).collect(),
        };
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
        all.to_string()
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

/// A chart's place: the script draws the lines into it; the sentence stands for them.
pub fn lines_html(lines: &Lines, key: &str, title: &str) -> String {
    let mut out = String::from("<ul class=\"legend\" aria-hidden=\"true\">");
    for (i, series) in lines.series.iter().enumerate() {
        let before = if series.is_before { " before" } else { "" };
        let _ = write!(out, "<li class=\"series-{}{before}\">{}</li>", i % 6, escape(&series.name));
    }
    let label = escape(&format!("{title}. {}", lines.sentence()));
    let _ = write!(
        out,
        "</ul><div class=\"chart\" role=\"img\" aria-label=\"{label}\" data-live=\"c/{}\" data-chart=\"{}\"></div>",
        escape(key),
        escape(&lines.json())
    );
    out
}

/// A bar for each row; the value stands beside it.
pub fn bars_html(grid: &Grid, tile: &Tile) -> String {
    let rows = labelled(grid, tile.x.as_deref(), &tile.y);
    let most = rows.iter().map(|(_, value, _)| *value).fold(0.0, f64::max);
    list(&rows, most, |row| tile.text(&rows[row].2))
}

/// Bars of steps, each with what it keeps of the first and of the one before.
pub fn funnel_html(grid: &Grid, tile: &Tile) -> String {
    let rows = labelled(grid, tile.x.as_deref(), &tile.y);
    let first = rows.first().map_or(0.0, |row| row.1);
    let share =
        |part: f64, whole: f64| if whole > 0.0 { crate::number::percent(part / whole) } else { "–".to_owned() };
    list(&rows, rows.iter().map(|row| row.1).fold(0.0, f64::max), |at| {
        let value = tile.text(&rows[at].2);
        match at.checked_sub(1) {
            None => value,
            Some(before) => format!(
                "{value} · {} of all, {} of the step before",
                share(rows[at].1, first),
                share(rows[at].1, rows[before].1)
            ),
        }
    })
}

/// Label, value as a length, value as it came.
fn labelled(grid: &Grid, x: Option<&str>, y: &[String]) -> Vec<(String, f64, String)> {
    let label = x.and_then(|name| grid.column(name)).unwrap_or(0);
    let value = y.first().and_then(|name| grid.column(name)).unwrap_or_else(|| usize::from(label == 0));
    let cell = |row: &Vec<Option<String>>, at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let each = grid.rows.iter().map(|row| {
        let text = cell(row, value);
        (cell(row, label), text.parse().unwrap_or(0.0), text)
    });
    each.collect()
}

fn list(rows: &[(String, f64, String)], most: f64, value: impl Fn(usize) -> String) -> String {
    if rows.is_empty() {
        return "<p class=\"quiet\">No rows.</p>".to_owned();
    }
    let mut out = String::from("<ol class=\"bars\">");
    for (at, (label, length, _)) in rows.iter().enumerate() {
        let width = if most > 0.0 { (length / most * 100.0).clamp(0.0, 100.0) } else { 0.0 };
        let _ = write!(
            out,
            "<li><span class=\"label\">{}</span><span class=\"value\">{}</span><svg viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"track\" width=\"100\" height=\"6\"/><rect class=\"bar\" width=\"{width:.1}\" height=\"6\"/></svg></li>",
            escape(label),
            escape(&value(at)),
        );
    }
    out + "</ol>"
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

    #[test]
    fn a_funnel_says_what_each_step_keeps() {
        let steps =
            grid(&[("step", "text"), ("n", "bigint")], &[&["seen", "1000"], &["cart", "250"], &["paid", "125"]]);
        let html = funnel_html(&steps, &Tile::default());
        assert!(html.contains("125 · 12.5 % of all, 50.0 % of the step before"), "{html}");
        assert!(html.contains("width=\"12.5\""), "{html}");
    }
}
