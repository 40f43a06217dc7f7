//! A column as `information_schema` describes it, and the type it has in the warehouse.

use relation::schema::Column;
use relation::{DataType, Schema};

use super::Unsupported;
use super::charset::{Charset, Unclear};
use super::temporal::Unreal;

/// A row of `information_schema.COLUMNS`, with the few facts that stand elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceColumn {
    /// `COLUMN_NAME`.
    pub name: String,
    /// `DATA_TYPE`: the bare type name.
    pub data_type: String,
    /// `COLUMN_TYPE`: with length, sign and labels, for instance `int(10) unsigned` or `enum('a','b')`.
    pub column_type: String,
    /// `CHARACTER_SET_NAME`, of text columns.
    pub charset: Option<String>,
    /// `COLLATION_NAME`, of text columns.
    pub collation: Option<String>,
    /// `IS_NULLABLE`.
    pub nullable: bool,
    /// MariaDB has no JSON type: a `longtext` with the check `json_valid(column)` is one.
    pub is_mariadb_json: bool,
    /// Position in the key that identifies a row, from 0; none for the other columns.
    pub key_position: Option<usize>,
    /// Why it is no column of the warehouse, and not read: `left out by …`.
    pub left_out: Option<String>,
    /// `EXTRA`: `auto_increment`, `VIRTUAL GENERATED`, `INVISIBLE`, …
    pub extra: String,
}

impl SourceColumn {
    /// Whether it is a column of the warehouse.
    pub fn is_stored(&self) -> bool {
        self.left_out.is_none() && !self.is_of_period()
    }

    /// Whether the type is declared without sign.
    fn is_unsigned(&self) -> bool {
        self.column_type.to_ascii_lowercase().split_whitespace().any(|word| word == "unsigned")
    }

    /// The numbers between the parentheses of the column type.
    fn arguments(&self) -> impl Iterator<Item = u32> + '_ {
        let inside =
            self.column_type.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
        inside.unwrap_or("").split(',').filter_map(|part| part.trim().parse().ok())
    }

    fn unsupported(&self, reason: String) -> Unsupported {
        Unsupported { column: self.name.clone(), reason }
    }
}

/// The warehouse's columns for a table of the source, in table order, with its key.
///
/// A column may be NULL here though it never is there where a value may have no counterpart (a zero date outside of the
/// key, the enum index 0). Errors: the first column that cannot be held.
pub fn relation_schema(columns: &[SourceColumn]) -> Result<Schema, Unsupported> {
    let columns: Vec<&SourceColumn> = columns.iter().filter(|column| column.is_stored()).collect();
    let mut out = Vec::with_capacity(columns.len());
    for column in &columns {
        let kind = Kind::of(column)?;
        let nullable = column.nullable || kind.may_become_null();
        out.push(Column { name: column.name.clone(), data_type: kind.data_type(), nullable });
    }
    let mut key: Vec<(usize, usize)> =
        columns.iter().enumerate().filter_map(|(i, column)| Some((column.key_position?, i))).collect();
    key.sort_unstable();
    Ok(Schema::new(out, key.into_iter().map(|(_, i)| i).collect()))
}

/// Why a column cannot be held, if it cannot.
pub(crate) fn unsupported(column: &SourceColumn) -> Option<Unsupported> {
    Kind::of(column).err()
}

/// What a column means, apart from how its bytes lie in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bits (8 to 64) and sign.
    Int {
        bits: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Bit,
    Year,
    Date {
        unreal: Unreal,
    },
    DateTime {
        digits: u8,
        unreal: Unreal,
    },
    Timestamp {
        digits: u8,
        unreal: Unreal,
    },
    Time {
        digits: u8,
    },
    Text(Charset, Unclear),
    /// MySQL's own type, binary in the log.
    Json,
    /// MariaDB's: text in the log.
    JsonText(Charset),
    /// Always of this length.
    Binary(usize),
    Blob,
    Enum(Vec<String>),
    Set(Vec<String>),
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
}

impl Kind {
    /// Reads the type of a column.
    pub(crate) fn of(column: &SourceColumn) -> Result<Self, Unsupported> {
        let unsigned = column.is_unsigned();
        let unreal = if column.key_position.is_some() { Unreal::Apart } else { Unreal::Null };
        let unclear = if column.key_position.is_some() { Unclear::Refused } else { Unclear::Shown };
        let digits = || column.arguments().next().and_then(|n| u8::try_from(n).ok()).filter(|n| *n <= 6).unwrap_or(0);
        Ok(match column.data_type.to_ascii_lowercase().as_str() {
            "tinyint" | "bool" | "boolean" => Self::Int { bits: 8, unsigned },
            "smallint" => Self::Int { bits: 16, unsigned },
            "mediumint" => Self::Int { bits: 24, unsigned },
            "int" | "integer" => Self::Int { bits: 32, unsigned },
            "bigint" => Self::Int { bits: 64, unsigned },
            "float" => Self::Float,
            "double" | "real" => Self::Double,
            "decimal" | "numeric" => {
                let mut arguments = column.arguments().map(|n| u8::try_from(n).unwrap_or(u8::MAX));
                let (precision, scale) = (arguments.next().unwrap_or(10), arguments.next().unwrap_or(0));
                if precision == 0 || precision > 65 || scale > precision {
                    return Err(column.unsupported(format!("{} is no decimal type of MySQL.", column.column_type)));
                }
                Self::Decimal { precision, scale }
            }
            "bit" => Self::Bit,
            "year" => Self::Year,
            "date" => Self::Date { unreal },
            "datetime" => Self::DateTime { digits: digits(), unreal },
            "timestamp" => Self::Timestamp { digits: digits(), unreal },
            "time" => Self::Time { digits: digits() },
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => match charset(column)? {
                charset if column.is_mariadb_json => Self::JsonText(charset),
                charset => Self::Text(charset, unclear),
            },
            "json" => Self::Json,
            "binary" => Self::Binary(column.arguments().next().unwrap_or(1) as usize),
            "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => Self::Blob,
            "enum" => Self::Enum(labels(column)?),
            "set" => Self::Set(labels(column)?),
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring" | "multipolygon"
            | "geometrycollection" | "geomcollection" => Self::Geometry,
            "vector" => Self::Vector,
            "uuid" => Self::Uuid,
            "inet4" => Self::Inet4,
            "inet6" => Self::Inet6,
            other => return Err(column.unsupported(format!("Type \"{other}\" is unknown."))),
        })
    }

    /// The type in the warehouse.
    pub(super) fn data_type(&self) -> DataType {
        match self {
            Self::Int { bits: 0..=8, .. } | Self::Int { bits: 9..=16, unsigned: false } => DataType::Int16,
            Self::Int { bits: 9..=16, .. } | Self::Int { bits: 17..=24, .. } | Self::Year => DataType::Int32,
            Self::Int { bits: 25..=32, unsigned: false } => DataType::Int32,
            Self::Int { bits: 25..=32, .. } | Self::Int { unsigned: false, .. } => DataType::Int64,
            Self::Int { .. } | Self::Bit => DataType::UInt64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal { precision, scale } => {
                DataType::Decimal { precision: *precision, scale: i8::try_from(*scale).unwrap_or(i8::MAX) }
            }
            Self::Date { .. } => DataType::Date,
            Self::DateTime { .. } => DataType::Timestamp,
            Self::Timestamp { .. } => DataType::TimestampTz,
            Self::Json | Self::JsonText(_) => DataType::Json,
            Self::Binary(_) | Self::Blob => DataType::Bytes,
            Self::Time { .. } | Self::Text(..) | Self::Enum(_) | Self::Set(_) | Self::Geometry | Self::Vector => {
                DataType::Text
            }
            Self::Uuid | Self::Inet4 | Self::Inet6 => DataType::Text,
        }
    }

    /// Whether a value that is not NULL at the source may have to be NULL here.
    fn may_become_null(&self) -> bool {
        match self {
            Self::Date { unreal } | Self::DateTime { unreal, .. } | Self::Timestamp { unreal, .. } => {
                *unreal == Unreal::Null
            }
            _ => matches!(self, Self::Enum(_)),
        }
    }
}

fn charset(column: &SourceColumn) -> Result<Charset, Unsupported> {
    // Without a charset of its own a text column would have to be read as one of many: better to say so.
    let Some(name) = column.charset.as_deref() else {
        return Err(column.unsupported("information_schema names no charset for it.".to_owned()));
    };
    Charset::named(name).ok_or_else(|| column.unsupported(format!("Charset \"{name}\" is unknown.")))
}

/// The labels of an enum or set: quoted, parted by commas, a quote inside doubled.
pub(crate) fn labels(column: &SourceColumn) -> Result<Vec<String>, Unsupported> {
    let broken = || column.unsupported(format!("Its labels cannot be read: {}", column.column_type));
    let (_, mut rest) = column.column_type.split_once('(').ok_or_else(broken)?;
    let mut out = Vec::new();
    loop {
        rest = rest.strip_prefix('\'').ok_or_else(broken)?;
        let mut label = String::new();
        loop {
            let (part, behind) = rest.split_once('\'').ok_or_else(broken)?;
            label.push_str(part);
            rest = behind;
            match rest.strip_prefix('\'') {
                Some(behind) => {
                    label.push('\'');
                    rest = behind;
                }
                None => break,
            }
        }
        out.push(label);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.starts_with(')') => return Ok(out),
            None => return Err(broken()),
        }
    }
}
