//! Dashboards as data: tiles over SQL, and filters that give their statements parameters.

use crate::{currency, number};

/// A page of tiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// Its name, a part of its address.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// What it is about.
    pub description: String,
    /// What can be chosen above the tiles.
    pub filters: Vec<Filter>,
    /// The tiles, in order.
    pub tiles: Vec<Tile>,
}

/// A choice; tiles refer to it as `:name`, which is NULL where nothing is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The parameter's name.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// A statement whose first column has the values to choose from; without one any text may be given.
    pub sql: Option<String>,
}

/// One figure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tile {
    /// What it shows.
    pub title: String,
    /// What that means, in a sentence.
    pub description: String,
    /// How it is shown.
    pub kind: TileKind,
    /// Where it comes from.
    pub sql: String,
    /// Column of the horizontal axis, or of the labels; the first one if not said.
    pub x: Option<String>,
    /// Columns drawn; if none is said all of numbers but `x`, of a number tile the first one.
    pub y: Vec<String>,
    /// Columns drawn over an axis of their own, at the right.
    pub y2: Vec<String>,
    /// What it is compared with: a column of the answer, or for a number a statement of its own.
    pub compare: Option<String>,
    /// What people call that.
    pub compare_title: String,
    /// Which change is a good one.
    pub good: Good,
    /// Whether the last point of a line is of a time that is not over yet.
    pub unfinished: bool,
    /// How numbers are written.
    pub format: Format,
    /// What is counted: it stands behind numbers.
    pub unit: String,
    /// The code of a currency, `CNY`: its sign stands before numbers.
    pub currency: String,
    /// Columns of a table; all of them if none is said.
    pub columns: Vec<String>,
}

impl Tile {
    /// A value as it is shown, with its currency and unit: money with the digits of its currency. What is no number stays as it is.
    pub fn text(&self, value: &str) -> String {
        match self.money_digits() {
            Some(digits) => self.around(value, &number::grouped(&number::rounded(value, digits))),
            None => self.around(value, &self.format.text(value)),
        }
    }

    /// The same with all its digits, where [`Self::text`] leaves some out; none where it does not.
    pub fn exact(&self, value: &str) -> Option<String> {
        let digits = match self.format {
            Format::Integer => 0,
            _ => self.money_digits()?,
        };
        let (_, part) = value.split_once('.')?;
        (part.trim_end_matches('0').len() > digits).then(|| self.around(value, &number::grouped(value)))
    }

    /// Digits behind the point of each amount; none of what is no money, or has a format of its own.
    pub fn money_digits(&self) -> Option<usize> {
        (!self.currency.is_empty() && self.format == Format::Number).then(|| currency::digits(&self.currency))
    }

    /// A number's text with what stands before and behind it.
    fn around(&self, value: &str, text: &str) -> String {
        if value.parse::<f64>().is_err() {
            return text.to_owned();
        }
        match text.strip_prefix('−') {
            Some(rest) => format!("−{}{rest}{}", self.prefix(), self.suffix()),
            None => format!("{}{text}{}", self.prefix(), self.suffix()),
        }
    }

    /// What stands before a number.
    pub fn prefix(&self) -> String {
        currency::sign(&self.currency)
    }

    /// What stands behind a number.
    pub fn suffix(&self) -> String {
        if self.unit.is_empty() { String::new() } else { format!("\u{a0}{}", self.unit) }
    }
}

/// Which change of a figure is a good one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Good {
    /// To have more.
    #[default]
    Up,
    /// To have less, as of refunds.
    Down,
    /// Neither.
    Neither,
}

impl Good {
    /// What a word means.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "up" => Self::Up,
            "down" => Self::Down,
            "neither" => Self::Neither,
            _ => return None,
        })
    }
}

/// How a tile is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TileKind {
    /// One large number.
    #[default]
    Number,
    /// Lines over time or another number.
    Line,
    /// For each row a bar a column.
    Bar,
    /// The rows.
    Table,
    /// Bars with the share that each step keeps.
    Funnel,
}

impl TileKind {
    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "number" => Self::Number,
            "line" => Self::Line,
            "bar" => Self::Bar,
            "table" => Self::Table,
            "funnel" => Self::Funnel,
            _ => return None,
        })
    }

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

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// Digits grouped, all of them.
    #[default]
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

impl Format {
    /// The format of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "number" => Self::Number,
            "integer" => Self::Integer,
            "percent" => Self::Percent,
            "bytes" => Self::Bytes,
            "seconds" => Self::Seconds,
            _ => return None,
        })
    }

    /// A value as it is shown; what is no number stays as it is.
    pub fn text(self, value: &str) -> String {
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
        match (self, number) {
            (Self::Number, _) | (_, None) => number::grouped(value),
            // A float of another notation is no text of digits.
            (Self::Integer, Some(number)) if value.contains(['e', 'E']) => number::grouped(&format!("{number:.0}")),
            (Self::Integer, _) => number::grouped(&number::rounded(value, 0)),
            (Self::Percent, Some(number)) => number::percent(number),
            (Self::Bytes, Some(number)) => number::bytes(number),
            (Self::Seconds, Some(number)) => number::seconds(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_kinds_belong_together() {
        for word in ["number", "line", "bar", "table", "funnel"] {
            assert_eq!(TileKind::from_word(word).map(TileKind::word), Some(word));
        }
        assert_eq!(TileKind::from_word("pie"), None);
    }

    #[test]
    fn units_stand_beside_numbers() {
        let tile = |currency: &str, unit: &str| Tile {
            currency: currency.to_owned(),
            unit: unit.to_owned(),
            ..Tile::default()
        };
        assert_eq!(tile("CNY", "").text("-1234.50"), "−¥1,234.50");
        assert_eq!(tile("CHF", "").text("5"), "CHF\u{a0}5.00");
        assert_eq!(tile("", "orders").text("1234"), "1,234\u{a0}orders");
        assert_eq!(tile("EUR", "").text("none"), "none");
    }

    #[test]
    fn money_has_the_digits_of_its_currency() {
        let tile = |code: &str| Tile { currency: code.to_owned(), ..Tile::default() };
        let both = |code: &str, value: &str| (tile(code).text(value), tile(code).exact(value));
        let exact = |text: &str, exact: &str| (text.to_owned(), Some(exact.to_owned()));
        assert_eq!(both("EUR", "16950281.7250"), exact("€16,950,281.73", "€16,950,281.7250"));
        assert_eq!(both("EUR", "1234.5"), ("€1,234.50".to_owned(), None));
        assert_eq!(both("CHF", "18317426.652"), exact("CHF\u{a0}18,317,426.65", "CHF\u{a0}18,317,426.652"));
        assert_eq!(both("JPY", "-1234.56"), exact("−¥1,235", "−¥1,234.56"));
        assert_eq!(both("KWD", "1.2"), ("KWD\u{a0}1.200".to_owned(), None));
        let whole = Tile { format: Format::Integer, ..tile("EUR") };
        assert_eq!((whole.text("1234.5"), whole.exact("1234.5")), exact("€1,235", "€1,234.5"));
        assert_eq!([tile("").exact("1.5"), tile("EUR").exact("1.2300"), tile("EUR").exact("none")], [None, None, None]);
    }

    #[test]
    fn other_numbers_keep_their_digits() {
        assert_eq!(Format::Number.text("12345678901234567890.10"), "12,345,678,901,234,567,890.10");
        assert_eq!(Format::Percent.text("0.42"), "42.0 %");
        assert_eq!(Format::Bytes.text("none"), "none");
    }
}
