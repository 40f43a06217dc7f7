//! Column types, columns and schemas.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType as Arrow, Field, IntervalUnit, Schema as ArrowSchema, SchemaRef, TimeUnit};

use crate::{Error, Result};

/// Identifies a relation (table, index or state) in the store and the log. Never reused: an incarnation number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// The key of a field's metadata under which the name of its type stands, where Arrow has no type of its own for it.
pub const TYPE_NAME: &str = "tidemill.type";
/// The key under which Arrow's own extension types stand.
pub const EXTENSION: &str = "ARROW:extension:name";
/// The name of [`DataType::Json`].
pub const JSON: &str = "json";

/// The types a column can have.
///
/// Each has exactly one Arrow type ([`DataType::to_arrow`]); other Arrow types are widened on the way in
/// ([`DataType::from_arrow`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataType {
    Bool,
    Int16,
    Int32,
    Int64,
    UInt64,
    Float32,
    Float64,
    /// Precision 1 to 76; up to 18 digits take 8 bytes in a row, up to 38 take 16, beyond 32.
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    /// Text that is a JSON document.
    Json,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since midnight.
    Time,
    /// Microseconds since 1970-01-01, without zone.
    Timestamp,
    /// Microseconds since 1970-01-01 UTC.
    TimestampTz,
    /// Months, days and microseconds, as PostgreSQL has them: compared with months of 30 days and days of 24 hours, so
    /// that equal ones may be of other parts.
    Interval,
    /// Values of one type, or NULLs, in a row; one of several dimensions is an array of arrays.
    ///
    /// Made by [`DataType::array`].
    Array(&'static DataType),
}

/// The Arrow type of an oid that is shown as a name: both, under the name of its type (`regclass`).
pub fn registered_type(name: &str) -> Arrow {
    let named = [(TYPE_NAME.to_owned(), name.to_owned())];
    let oid = Field::new("oid", Arrow::Int32, true).with_metadata(named.into());
    Arrow::Struct(vec![oid, Field::new("name", Arrow::Utf8, true)].into())
}

/// The name of the type of oids that are shown as names, if it is one ([`registered_type`]).
pub fn registered_name(arrow: &Arrow) -> Option<&str> {
    let Arrow::Struct(fields) = arrow else { return None };
    match &fields[..] {
        [oid, name] if *name.data_type() == Arrow::Utf8 => oid.metadata().get(TYPE_NAME).map(String::as_str),
        _ => None,
    }
}

/// PostgreSQL's arrays have no more dimensions.
pub const DIMENSIONS_MAX: usize = 6;

impl DataType {
    /// Arrays of this type. Errors: more than [`DIMENSIONS_MAX`] dimensions.
    ///
    /// Types are few (digits and scales of decimals, six dimensions), so each that was ever asked for is kept.
    pub fn array(self) -> Result<Self> {
        static ELEMENTS: Mutex<BTreeSet<&'static DataType>> = Mutex::new(BTreeSet::new());
        if self.dimensions() >= DIMENSIONS_MAX {
            return Err(Error::UnsupportedType(format!("{self}[]")));
        }
        let mut elements = ELEMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = elements.get(&self) {
            return Ok(Self::Array(known));
        }
        let element: &'static Self = Box::leak(Box::new(self));
        elements.insert(element);
        Ok(Self::Array(element))
    }

    /// Dimensions of an array, 0 of anything else.
    pub fn dimensions(self) -> usize {
        match self {
            Self::Array(element) => 1 + element.dimensions(),
            _ => 0,
        }
    }

    /// Whether values of other bytes may be equal: floats (−0.0 and 0.0), intervals, and arrays of these.
    pub fn has_equal_forms(self) -> bool {
        match self {
            Self::Float32 | Self::Float64 | Self::Interval => true,
            Self::Array(element) => element.has_equal_forms(),
            _ => false,
        }
    }

    /// The Arrow type of a column of this type.
    pub fn to_arrow(self) -> Arrow {
        match self {
            Self::Bool => Arrow::Boolean,
            Self::Int16 => Arrow::Int16,
            Self::Int32 => Arrow::Int32,
            Self::Int64 => Arrow::Int64,
            Self::UInt64 => Arrow::UInt64,
            Self::Float32 => Arrow::Float32,
            Self::Float64 => Arrow::Float64,
            Self::Decimal { precision, scale } if precision <= 38 => Arrow::Decimal128(precision, scale),
            Self::Decimal { precision, scale } => Arrow::Decimal256(precision, scale),
            Self::Text | Self::Json => Arrow::Utf8,
            Self::Bytes => Arrow::Binary,
            Self::Date => Arrow::Date32,
            Self::Time => Arrow::Time64(TimeUnit::Microsecond),
            Self::Timestamp => Arrow::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => Arrow::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Self::Interval => Arrow::Interval(IntervalUnit::MonthDayNano),
            Self::Array(element) => Arrow::List(Self::item(*element)),
        }
    }

    /// The field of an Arrow list of this type.
    pub(crate) fn item(self) -> Arc<Field> {
        Arc::new(Field::new_list_field(self.to_arrow(), true))
    }

    /// A field of this type's Arrow type under the name of the type, where Arrow has no type of its own for it.
    pub fn named(self, field: Field) -> Field {
        match self {
            Self::Json => {
                let name = [(TYPE_NAME.to_owned(), JSON.to_owned()), (EXTENSION.to_owned(), "arrow.json".to_owned())];
                field.with_metadata(name.into())
            }
            _ => field,
        }
    }

    /// The narrowest of our types that holds every value of an Arrow type.
    ///
    /// Timestamps and intervals finer than a microsecond are cut to it. Errors: rows, maps, lists of them.
    pub fn from_arrow(arrow: &Arrow) -> Result<Self> {
        Ok(match arrow {
            Arrow::Boolean => Self::Bool,
            Arrow::Int8 | Arrow::Int16 | Arrow::UInt8 => Self::Int16,
            Arrow::Int32 | Arrow::UInt16 => Self::Int32,
            Arrow::Int64 | Arrow::UInt32 => Self::Int64,
            Arrow::UInt64 => Self::UInt64,
            Arrow::Float16 | Arrow::Float32 => Self::Float32,
            Arrow::Float64 => Self::Float64,
            Arrow::Decimal32(precision, scale)
            | Arrow::Decimal64(precision, scale)
            | Arrow::Decimal128(precision, scale)
            | Arrow::Decimal256(precision, scale) => Self::Decimal { precision: *precision, scale: *scale },
            Arrow::Utf8 | Arrow::LargeUtf8 | Arrow::Utf8View | Arrow::Null => Self::Text,
            Arrow::Binary | Arrow::LargeBinary | Arrow::BinaryView | Arrow::FixedSizeBinary(_) => Self::Bytes,
            Arrow::Date32 | Arrow::Date64 => Self::Date,
            Arrow::Time32(_) | Arrow::Time64(_) => Self::Time,
            Arrow::Timestamp(_, None) => Self::Timestamp,
            Arrow::Timestamp(_, Some(_)) => Self::TimestampTz,
            Arrow::Interval(_) | Arrow::Duration(_) => Self::Interval,
            Arrow::List(item) | Arrow::LargeList(item) | Arrow::FixedSizeList(item, _) => {
                Self::from_arrow(item.data_type())?.array()?
            }
            Arrow::Dictionary(_, values) => Self::from_arrow(values)?,
            other => return Err(Error::UnsupportedType(other.to_string())),
        })
    }

    /// Bytes in the fixed part of a row; variable types hold a 4-byte end offset there.
    pub fn fixed_width(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Int16 => 2,
            Self::Int32 | Self::Float32 | Self::Date => 4,
            Self::Text | Self::Json | Self::Bytes | Self::Array(_) => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 | Self::Time | Self::Timestamp | Self::TimestampTz => 8,
            Self::Decimal { precision: 0..=18, .. } => 8,
            Self::Decimal { precision: 19..=38, .. } | Self::Interval => 16,
            Self::Decimal { .. } => 32,
        }
    }

    /// Whether values lie in the variable part of a row.
    pub fn is_variable(self) -> bool {
        matches!(self, Self::Text | Self::Json | Self::Bytes | Self::Array(_))
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("boolean"),
            Self::Int16 => f.write_str("smallint"),
            Self::Int32 => f.write_str("integer"),
            Self::Int64 => f.write_str("bigint"),
            Self::UInt64 => f.write_str("bigint unsigned"),
            Self::Float32 => f.write_str("real"),
            Self::Float64 => f.write_str("double"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Text => f.write_str("text"),
            Self::Json => f.write_str("json"),
            Self::Bytes => f.write_str("bytea"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampTz => f.write_str("timestamptz"),
            Self::Interval => f.write_str("interval"),
            Self::Array(element) => write!(f, "{element}[]"),
        }
    }
}

impl FromStr for DataType {
    type Err = Error;

    /// Reads what [`fmt::Display`] writes, and the common aliases (`int`, `varchar`, `float8`, …).
    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some(element) = lower.strip_suffix("[]") {
            // No deeper than arrays are: a name made of brackets alone must not take the stack.
            let is_deep = lower.len() - lower.trim_end_matches("[]").len() > 2 * DIMENSIONS_MAX;
            return if is_deep {
                Err(Error::UnsupportedType(text.to_owned()))
            } else {
                element.parse::<Self>()?.array()
            };
        }
        let (base, arguments) = match lower.split_once('(') {
            Some((base, rest)) => (base.trim(), rest.trim_end_matches(')')),
            None => (lower.as_str(), ""),
        };
        Ok(match base {
            "boolean" | "bool" => Self::Bool,
            "smallint" | "int2" => Self::Int16,
            "integer" | "int" | "int4" => Self::Int32,
            "bigint" | "int8" => Self::Int64,
            "bigint unsigned" => Self::UInt64,
            "real" | "float4" | "float" => Self::Float32,
            "double" | "double precision" | "float8" => Self::Float64,
            "decimal" | "numeric" => {
                let mut parts = arguments.split(',').map(str::trim);
                let precision = parts.next().and_then(|p| p.parse().ok()).unwrap_or(38);
                let scale = parts.next().and_then(|s| s.parse().ok()).unwrap_or(0);
                Self::Decimal { precision, scale }
            }
            "text" | "varchar" | "char" | "string" => Self::Text,
            "json" => Self::Json,
            "bytea" | "bytes" | "blob" => Self::Bytes,
            "date" => Self::Date,
            "time" => Self::Time,
            "timestamp" | "datetime" => Self::Timestamp,
            "timestamptz" => Self::TimestampTz,
            "interval" => Self::Interval,
            _ => return Err(Error::UnsupportedType(text.to_owned())),
        })
    }
}

/// A named, typed column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    pub data_type: DataType,
    pub nullable: bool,
}

impl Column {
    /// A nullable column.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: true }
    }
}

/// The columns of a relation, and which of them identify a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Schema {
    pub columns: Vec<Column>,
    /// Positions of the key columns, in key order. Empty: a bag, where equal rows may occur more than once.
    pub key: Vec<usize>,
}

impl Schema {
    /// A schema of the given columns; `key` holds positions of columns.
    pub fn new(columns: Vec<Column>, key: Vec<usize>) -> Self {
        debug_assert!(key.iter().all(|&k| k < columns.len()));
        Self { columns, key }
    }

    /// Types in column order.
    pub fn types(&self) -> Vec<DataType> {
        self.columns.iter().map(|c| c.data_type).collect()
    }

    /// Position of a column by its exact name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The schema as Arrow sees it.
    pub fn to_arrow(&self) -> SchemaRef {
        let fields =
            self.columns.iter().map(|c| c.data_type.named(Field::new(&c.name, c.data_type.to_arrow(), c.nullable)));
        Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
    }
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, column) in self.columns.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", column.name, column.data_type)?;
        }
        if !self.key.is_empty() {
            let names: Vec<_> = self.key.iter().map(|&k| self.columns[k].name.as_str()).collect();
            write!(f, ", primary key ({})", names.join(", "))?;
        }
        Ok(())
    }
}
