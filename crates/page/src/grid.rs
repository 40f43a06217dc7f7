//! Rows as a table: what an answer of SQL looks like on a page.

use std::fmt::Write as _;

use crate::{escape, number};

/// What stands for a value that is not there.
pub const NULL: &str = "<span class=\"null\">null</span>";

/// A column and its type, as SQL names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type: `bigint`, `numeric(10,2)`, …
    pub kind: String,
}

impl Column {
    /// Whether its values are numbers, and therefore stand at the right.
    pub fn is_number(&self) -> bool {
        let kind = self.kind.as_str();
        ["smallint", "integer", "bigint", "bigint unsigned", "real", "double precision"].contains(&kind)
            || kind.starts_with("numeric")
    }

    /// Whether its numbers are names of things, whose digits are not grouped: `id`, `order_id`, `year`, …
    pub fn is_identifier(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let last = name.rsplit('_').next().unwrap_or_default();
        ["id", "no", "number", "code", "key", "year", "port", "step"].contains(&last)
    }
}

/// Columns and rows of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// What the columns are.
    pub columns: Vec<Column>,
    /// The rows, a text or NULL a column.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether rows were left out behind the last one.
    pub cut: bool,
}

impl Grid {
    /// Number of a column, by name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// A cell by row and column's name; none also where there is no such column.
    pub fn text(&self, row: usize, name: &str) -> Option<&str> {
        self.rows.get(row)?.get(self.column(name)?)?.as_deref()
    }

    /// The same as a number.
    pub fn number(&self, row: usize, name: &str) -> Option<f64> {
        self.text(row, name)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The same as a whole number.
    pub fn count(&self, row: usize, name: &str) -> Option<i64> {
        self.text(row, name)?.parse().ok()
    }

    /// Whether all values of a column are numbers: of a column of another type that one has to look at its rows for.
    pub fn is_of_numbers(&self, column: usize) -> bool {
        let cells = || self.rows.iter().filter_map(|row| row.get(column)?.as_deref());
        let is_number = |text: &str| text.parse::<f64>().is_ok();
        self.columns.get(column).is_some_and(Column::is_number) || (cells().next().is_some() && cells().all(is_number))
    }

    /// The columns that are drawn over a label or an axis: those that are named, or else all of numbers but that one.
    pub fn drawn(&self, x: usize, y: &[String]) -> Vec<usize> {
        match y {
            [] => (0..self.columns.len()).filter(|column| *column != x && self.is_of_numbers(*column)).collect(),
            names => names.iter().filter_map(|name| self.column(name)).collect(),
        }
    }

    /// Only these columns, in this order; all of them where none is named. Names that are not there are left out.
    #[must_use]
    pub fn select(&self, names: &[String]) -> Self {
        if names.is_empty() {
            return self.clone();
        }
        let at: Vec<usize> = names.iter().filter_map(|name| self.column(name)).collect();
        let pick = |row: &Vec<Option<String>>| at.iter().map(|at| row.get(*at).cloned().flatten()).collect();
        Self {
            columns: at.iter().map(|at| self.columns[*at].clone()).collect(),
            rows: self.rows.iter().map(pick).collect(),
            cut: self.cut,
        }
    }

    /// The table as HTML, with a caption for those who do not see what it stands under.
    pub fn html(&self, caption: &str) -> String {
        let mut out = String::from("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"");
        let _ =
            write!(out, "{}\"><table class=\"grid\"><caption class=\"away\">{0}</caption><thead><tr>", escape(caption));
        for column in &self.columns {
            let side = side(column);
            let _ =
                write!(out, "<th scope=\"col\"{side} title=\"{}\">{}</th>", escape(&column.kind), escape(&column.name));
        }
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (column, cell) in self.columns.iter().zip(row) {
                let _ = match cell {
                    None => write!(out, "<td{}>{NULL}</td>", side(column)),
                    Some(text) if column.is_number() && !column.is_identifier() => {
                        write!(out, "<td{}>{}</td>", side(column), escape(&number::grouped(text)))
                    }
                    Some(text) => write!(out, "<td{}>{}</td>", side(column), escape(text)),
                };
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>");
        if self.rows.is_empty() {
            out.push_str("<p class=\"quiet\">No rows.</p>");
        } else if self.cut {
            let _ = write!(out, "<p class=\"quiet\">The first {} rows.</p>", self.rows.len());
        }
        out
    }
}

fn side(column: &Column) -> &'static str {
    if column.is_number() { " class=\"number\"" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cell_holds_is_text() {
        let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned() };
        let grid = Grid {
            columns: vec![column("<b>", "text"), column("n", "bigint")],
            rows: vec![vec![Some("<script>".to_owned()), Some("12345".to_owned())], vec![None, None]],
            cut: false,
        };
        let html = grid.html("a \"caption\"");
        assert!(!html.contains("<script>") && !html.contains("<b>") && html.contains("&lt;script&gt;"), "{html}");
        assert!(html.contains("<td class=\"number\">12,345</td>") && html.contains("a &quot;caption&quot;"), "{html}");
        assert_eq!(grid.select(&["n".to_owned(), "x".to_owned()]).columns.len(), 1);
        assert_eq!(grid.count(0, "n"), Some(12_345));
    }

    #[test]
    fn the_digits_of_an_identifier_are_not_grouped() {
        let column = |name: &str| Column { name: name.to_owned(), kind: "bigint".to_owned() };
        let row = vec![Some("12345".to_owned()); 3];
        let grid = Grid { columns: ["order_id", "orders", "paid"].map(column).to_vec(), rows: vec![row], cut: false };
        let html = grid.html("");
        assert!(html.contains("<tr><td class=\"number\">12345</td><td class=\"number\">12,345</td><td class=\"number\">12,345</td></tr>"), "{html}");
    }
}
