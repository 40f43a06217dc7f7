//! Dashboards as data: tiles over SQL, and filters that give their statements parameters.

/// A page of tiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// Its name, a part of its address.
    pub name: String,
    /// What people call it.
    pub title: String,
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
    /// How it is shown.
    pub kind: TileKind,
    /// Where it comes from.
    pub sql: String,
    /// Column of the horizontal axis, or of the labels; the first one if not said.
    pub x: Option<String>,
    /// Columns drawn; all but `x` if none is said.
    pub y: Vec<String>,
    /// What a number is compared with: a column of the answer, or a statement of its own.
    pub compare: Option<String>,
    /// How numbers are written.
    pub format: Format,
    /// Columns of a table; all of them if none is said.
    pub columns: Vec<String>,
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
    fn money_keeps_its_digits() {
        assert_eq!(Format::Number.text("12345678901234567890.10"), "12,345,678,901,234,567,890.10");
        assert_eq!(Format::Percent.text("0.42"), "42.0 %");
        assert_eq!(Format::Bytes.text("none"), "none");
    }
}
