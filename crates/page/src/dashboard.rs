//! Dashboards as data: tiles over SQL, and filters that give their statements parameters.

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
    /// Columns drawn; all but `x` if none is said.
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
    /// A value as it is shown, with its currency and unit; what is no number stays as it is.
    pub fn text(&self, value: &str) -> String {
        let text = self.format.text(value);
        if value.parse::<f64>().is_err() {
            return text;
        }
        match text.strip_prefix('−') {
            Some(rest) => format!("−{}{rest}{}", self.prefix(), self.suffix()),
            None => format!("{}{text}{}", self.prefix(), self.suffix()),
        }
    }

    /// What stands before a number.
    pub fn prefix(&self) -> String {
        match self.currency.as_str() {
            "" => String::new(),
            "CNY" | "JPY" => "¥".to_owned(),
            "EUR" => "€".to_owned(),
            "GBP" => "£".to_owned(),
            "INR" => "₹".to_owned(),
            "KRW" => "₩".to_owned(),
            "USD" => "$".to_owned(),
            code => format!("{code}\u{a0}"),
        }
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
    /// A bar for each row.
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
            (Self::Number, _) | (_, None) => crate::number::grouped(value),
            (Self::Integer, Some(number)) => crate::number::grouped(&format!("{number:.0}")),
            (Self::Percent, Some(number)) => crate::number::percent(number),
            (Self::Bytes, Some(number)) => crate::number::bytes(number),
            (Self::Seconds, Some(number)) => crate::number::seconds(number),
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
        assert_eq!(tile("CHF", "").text("5"), "CHF\u{a0}5");
        assert_eq!(tile("", "orders").text("1234"), "1,234\u{a0}orders");
        assert_eq!(tile("EUR", "").text("none"), "none");
    }

    #[test]
    fn money_keeps_its_digits() {
        assert_eq!(Format::Number.text("12345678901234567890.10"), "12,345,678,901,234,567,890.10");
        assert_eq!(Format::Percent.text("0.42"), "42.0 %");
        assert_eq!(Format::Bytes.text("none"), "none");
    }
}
