//! The decode plan of one version of a table: one reader per column, made from the log's description and the registry's.
//!
//! What the log says about its own bytes is the truth: types and lengths always, signs, charsets and labels where it
//! tells them. The registry (`information_schema`) completes it. Where the two contradict each other in a way that
//! changes a row's meaning, there is no plan, and the table waits until its columns were read again.

use relation::{Layout, Schema};

use super::charset::{Charset, Unclear};
use super::column::{Kind, SourceColumn, relation_schema};
use super::mapping::Mapping;
use super::number::DecimalForm;
use super::period;
use super::slots::{self, Slots, Span};
use super::table_map::{TableMap, code};
use super::temporal::Unreal;
use super::{Mismatch, Unsupported};

/// How to decode the rows of one version of a table.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) layout: Layout,
    pub(crate) reads: Vec<Read>,
    pub(super) names: Vec<String>,
    /// Columns of MySQL's JSON type, which partial updates count.
    pub(super) json_columns: usize,
    /// Where the columns go, where not each has its own place in the row.
    pub(super) slots: Option<Slots>,
    schema: Schema,
    /// Of a table that keeps other columns than it has.
    pub(super) mapping: Option<Mapping>,
}

/// How one column's bytes are read. Widths and prefixes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read {
    I8,
    U8,
    I16,
    U16,
    I24,
    U24,
    I32,
    U32,
    I64,
    U64,
    F32,
    F64,
    Decimal(DecimalForm),
    Bit {
        width: usize,
    },
    Year,
    Date {
        unreal: Unreal,
    },
    DateTime {
        digits: u8,
        unreal: Unreal,
    },
    OldDateTime {
        unreal: Unreal,
    },
    Timestamp {
        digits: u8,
        unreal: Unreal,
    },
    OldTimestamp {
        unreal: Unreal,
    },
    Time {
        digits: u8,
    },
    OldTime,
    Enum {
        width: usize,
        labels: Vec<String>,
    },
    Set {
        width: usize,
        labels: Vec<String>,
    },
    /// When a version of a row began or ended: no value, but so many bytes.
    Bound {
        width: usize,
    },
    /// Left out: no value.
    Passed {
        span: Span,
        is_json: bool,
    },
    Utf8 {
        prefix: usize,
    },
    Variable {
        prefix: usize,
        content: Content,
    },
    /// A column of MariaDB that is stored compressed.
    Compressed {
        prefix: usize,
        content: Content,
    },
}

/// What the bytes of a column of variable length are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Text(Charset, Unclear),
    Bytes,
    /// Trailing zeros are cut off in the log and put back up to this length.
    Padded(usize),
    Json,
    Geometry,
    Vector,
    Uuid,
    Inet4,
    Inet6,
}

impl Plan {
    /// Makes the plan for the rows behind a table map, `columns` being what `information_schema` tells.
    pub fn new(map: &TableMap, columns: &[SourceColumn]) -> Result<Self, Mismatch> {
        let mismatch = |reason: String| Mismatch { table: format!("{}.{}", map.database, map.table), reason };
        if map.column_types.len() != columns.len() {
            let (log, registry) = (map.column_types.len(), columns.len());
            return Err(mismatch(format!("The log has {log} columns, information_schema {registry}.")));
        }
        check_key(map, columns).map_err(mismatch)?;
        let schema = relation_schema(columns).map_err(|e| mismatch(unsupported(&e)))?;
        let slots = Slots::of(columns);
        let mut reads = Vec::with_capacity(columns.len());
        for (i, column) in columns.iter().enumerate() {
            let named = |reason: String| mismatch(format!("Column \"{}\" {reason}.", column.name));
            let slot = slots.as_ref().map_or(Some(i), |slots| slots.slot(i));
            let read = match slot {
                Some(slot) => read_of(map, i, column, schema.columns[slot].nullable),
                None if column.is_of_period() => bound_of(map, i, column),
                None => passed_of(map, i, column),
            };
            reads.push(read.map_err(named)?);
        }
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Ok(Self {
            layout: Layout::new(schema.types()),
            reads,
            names,
            json_columns: map.json_columns(),
            slots,
            schema,
            mapping: None,
        })
    }

    /// The place in the row of a column of the log.
    #[inline]
    pub(super) fn slot(&self, column: usize) -> Option<usize> {
        self.slots.as_ref().map_or(Some(column), |slots| slots.slot(column))
    }

    /// The plan whose rows have these columns, as their table keeps them.
    pub fn mapped(mut self, declared: &Schema) -> Result<Self, Mismatch> {
        let mismatch = |reason| Mismatch { table: String::new(), reason };
        self.mapping = Mapping::new(&self.schema, declared).map_err(mismatch)?;
        Ok(self)
    }

    /// The columns that the log's rows have.
    pub(super) fn own_schema(&self) -> &Schema {
        &self.schema
    }

    /// The columns of the rows it writes.
    pub fn schema(&self) -> &Schema {
        self.mapping.as_ref().map_or(&self.schema, Mapping::schema)
    }

    /// The layout of the rows it writes.
    pub fn layout(&self) -> &Layout {
        self.mapping.as_ref().map_or(&self.layout, Mapping::layout)
    }
}

fn unsupported(error: &Unsupported) -> String {
    format!("Column \"{}\": {}", error.column, error.reason)
}

/// Where the log tells the primary key, it must be the registry's.
fn check_key(map: &TableMap, columns: &[SourceColumn]) -> Result<(), String> {
    let Some(logged) = &map.primary_key else { return Ok(()) };
    // The end of a version is part of a versioned table's keys, since there are several of one row.
    let is_of_row = |i: &usize| !columns.get(*i).is_some_and(SourceColumn::is_of_period);
    let mut known: Vec<_> = columns.iter().enumerate().filter_map(|(i, c)| Some((c.key_position?, i))).collect();
    known.sort_unstable();
    if known.iter().map(|(_, i)| i).filter(|i| is_of_row(i)).eq(logged.iter().filter(|i| is_of_row(i))) {
        return Ok(());
    }
    let names: Vec<_> = logged.iter().filter_map(|i| columns.get(*i)).map(|c| c.name.as_str()).collect();
    Err(format!("Its primary key is now ({}).", names.join(", ")))
}

/// The reader of a column that tells when a version of a row began or ended.
fn bound_of(map: &TableMap, i: usize, column: &SourceColumn) -> Result<Read, String> {
    if let Some(name) = map.names.as_ref().map(|names| &names[i]).filter(|name| **name != column.name) {
        return Err(format!("is called \"{name}\" in the log"));
    }
    period::bound(map.column_types[i], map.column_meta[i])
        .ok_or_else(|| format!("is of type {} in the log, and tells the {}", type_name(map, i), column.data_type))
}

/// The reader of a column that is left out.
fn passed_of(map: &TableMap, i: usize, column: &SourceColumn) -> Result<Read, String> {
    if let Some(name) = map.names.as_ref().map(|names| &names[i]).filter(|name| **name != column.name) {
        return Err(format!("is called \"{name}\" in the log"));
    }
    slots::passed(map.column_types[i], map.column_meta[i], column)
        .ok_or_else(|| format!("is of type {} in the log, whose length it does not tell", type_name(map, i)))
}

/// The reader of column `i`, or how the log and the registry differ about it.
fn read_of(map: &TableMap, i: usize, column: &SourceColumn, nullable: bool) -> Result<Read, String> {
    if let Some(name) = map.names.as_ref().map(|names| &names[i]).filter(|name| **name != column.name) {
        return Err(format!("is called \"{name}\" in the log"));
    }
    if map.nullable[i] && !nullable {
        return Err("may be NULL in the log".to_owned());
    }
    let registered = Kind::of(column).map_err(|e| unsupported(&e))?;
    let kind = logged_kind(map, i, registered.clone());
    let (registered, logged) = (registered.data_type(), kind.data_type());
    if registered != logged {
        return Err(format!("is {logged} in the log, {registered} in information_schema"));
    }
    let old = matches!(map.column_types[i], code::DATETIME | code::TIMESTAMP | code::TIME);
    let same_name = type_name(map, i) == column.data_type.to_ascii_lowercase();
    wire(map.column_types[i], map.column_meta[i], kind).ok_or_else(|| match old && same_name {
        true => "is stored in MariaDB's format of before 10.1, whose width the log does not tell; \
                 ALTER TABLE … FORCE rewrites it"
            .to_owned(),
        false => format!("is of type {} in the log, {} in information_schema", type_name(map, i), column.column_type),
    })
}

/// The column's meaning with everything that the log knows better.
fn logged_kind(map: &TableMap, i: usize, registered: Kind) -> Kind {
    let sign = map.unsigned.as_ref().map(|signs| signs[i]);
    match (registered, map.charset(i)) {
        (Kind::Int { bits, unsigned }, _) => Kind::Int { bits, unsigned: sign.unwrap_or(unsigned) },
        (Kind::Text(..), Some(None)) => Kind::Blob,
        (Kind::Text(_, unclear), Some(Some(charset))) => Kind::Text(charset, unclear),
        (Kind::JsonText(_), Some(Some(charset))) => Kind::JsonText(charset),
        (Kind::Binary(_) | Kind::Blob, Some(Some(charset))) => Kind::Text(charset, Unclear::Shown),
        (Kind::Enum(labels), charset) => Kind::Enum(logged_labels(map, i, charset).unwrap_or(labels)),
        (Kind::Set(labels), charset) => Kind::Set(logged_labels(map, i, charset).unwrap_or(labels)),
        (Kind::Decimal { .. }, _) if map.column_types[i] == code::NEWDECIMAL => {
            let [precision, scale] = map.column_meta[i];
            Kind::Decimal { precision, scale }
        }
        (registered, _) => registered,
    }
}

/// Labels as the log has them; they are in the column's charset.
fn logged_labels(map: &TableMap, i: usize, charset: Option<Option<Charset>>) -> Option<Vec<String>> {
    let charset = charset.flatten()?;
    Some(map.labels[i].as_ref()?.iter().map(|label| charset.text(label)).collect())
}

/// The reader for a type of the log and a meaning; none where they do not fit.
fn wire(kind: u8, meta: [u8; 2], meaning: Kind) -> Option<Read> {
    let digits = meta[0].min(6);
    let length = usize::from(u16::from_le_bytes(meta));
    Some(match (meaning, kind) {
        (Kind::Int { bits: 8, unsigned: false }, code::TINY) => Read::I8,
        (Kind::Int { bits: 8, .. }, code::TINY) => Read::U8,
        (Kind::Int { bits: 16, unsigned: false }, code::SHORT) => Read::I16,
        (Kind::Int { bits: 16, .. }, code::SHORT) => Read::U16,
        (Kind::Int { bits: 24, unsigned: false }, code::INT24) => Read::I24,
        (Kind::Int { bits: 24, .. }, code::INT24) => Read::U24,
        (Kind::Int { bits: 32, unsigned: false }, code::LONG) => Read::I32,
        (Kind::Int { bits: 32, .. }, code::LONG) => Read::U32,
        (Kind::Int { bits: 64, unsigned: false }, code::LONGLONG) => Read::I64,
        (Kind::Int { bits: 64, .. }, code::LONGLONG) => Read::U64,
        (Kind::Float, code::FLOAT) => Read::F32,
        (Kind::Double, code::DOUBLE) => Read::F64,
        (Kind::Decimal { precision, scale }, code::NEWDECIMAL) => Read::Decimal(DecimalForm::new(precision, scale)),
        (Kind::Bit, code::BIT) => Read::Bit { width: usize::from(meta[1]) + usize::from(meta[0] > 0) },
        (Kind::Year, code::YEAR) => Read::Year,
        (Kind::Date { unreal }, code::DATE | code::NEWDATE) => Read::Date { unreal },
        (Kind::DateTime { unreal, .. }, code::DATETIME2) => Read::DateTime { digits, unreal },
        // With digits the old type code is MariaDB's own format of 5.3, whose width the log does not tell.
        (Kind::DateTime { digits: 0, unreal }, code::DATETIME) => Read::OldDateTime { unreal },
        (Kind::Timestamp { unreal, .. }, code::TIMESTAMP2) => Read::Timestamp { digits, unreal },
        (Kind::Timestamp { digits: 0, unreal }, code::TIMESTAMP) => Read::OldTimestamp { unreal },
        (Kind::Time { .. }, code::TIME2) => Read::Time { digits },
        (Kind::Time { digits: 0 }, code::TIME) => Read::OldTime,
        (Kind::Enum(labels), code::ENUM) => Read::Enum { width: length.clamp(1, 2), labels },
        (Kind::Set(labels), code::SET) => Read::Set { width: length.clamp(1, 8), labels },
        (meaning, kind) => return variable(kind, length, meaning),
    })
}

/// The reader for a type of variable length.
fn variable(kind: u8, length: usize, meaning: Kind) -> Option<Read> {
    let fixed = kind == code::STRING;
    let content = match (meaning, kind) {
        (Kind::Json, code::JSON) => Content::Json,
        (Kind::Geometry, code::GEOMETRY) => Content::Geometry,
        (Kind::Vector, code::VECTOR) => Content::Vector,
        (_, code::JSON | code::GEOMETRY | code::VECTOR) => return None,
        (Kind::Text(charset, unclear), _) => Content::Text(charset, unclear),
        (Kind::JsonText(charset), _) => Content::Text(charset, Unclear::Shown),
        (Kind::Binary(_), _) if fixed => Content::Padded(length),
        (Kind::Uuid, _) if fixed && length == 16 => Content::Uuid,
        (Kind::Inet4, _) if fixed && length == 4 => Content::Inet4,
        (Kind::Inet6, _) if fixed && length == 16 => Content::Inet6,
        (Kind::Blob, _) if !fixed => Content::Bytes,
        // MariaDB keeps vectors in a column of bytes.
        (Kind::Vector, _) if !fixed => Content::Vector,
        _ => return None,
    };
    let prefix = match kind {
        code::STRING | code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => 1 + usize::from(length > 255),
        code::TINY_BLOB..=code::BLOB | code::BLOB_COMPRESSED | code::JSON | code::GEOMETRY | code::VECTOR => {
            length & 0xff
        }
        _ => return None,
    };
    if !(1..=4).contains(&prefix) {
        return None;
    }
    Some(match content {
        content if matches!(kind, code::VARCHAR_COMPRESSED | code::BLOB_COMPRESSED) => {
            Read::Compressed { prefix, content }
        }
        Content::Text(charset, Unclear::Shown) if charset.is_utf8() => Read::Utf8 { prefix },
        content => Read::Variable { prefix, content },
    })
}

/// A type of the log in SQL's words.
fn type_name(map: &TableMap, i: usize) -> String {
    let meta = map.column_meta[i];
    let name = match map.column_types[i] {
        code::TINY => "tinyint",
        code::SHORT => "smallint",
        code::LONG => "int",
        code::FLOAT => "float",
        code::DOUBLE => "double",
        code::TIMESTAMP | code::TIMESTAMP2 => "timestamp",
        code::LONGLONG => "bigint",
        code::INT24 => "mediumint",
        code::DATE | code::NEWDATE => "date",
        code::TIME | code::TIME2 => "time",
        code::DATETIME | code::DATETIME2 => "datetime",
        code::YEAR => "year",
        code::BIT => "bit",
        code::VECTOR => "vector",
        code::JSON => "json",
        code::NEWDECIMAL => return format!("decimal({},{})", meta[0], meta[1]),
        code::ENUM => "enum",
        code::SET => "set",
        code::GEOMETRY => "geometry",
        code::STRING => return format!("char or binary of {} bytes", u16::from_le_bytes(meta)),
        code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => {
            return format!("varchar or varbinary of {} bytes", u16::from_le_bytes(meta));
        }
        code::TINY_BLOB..=code::BLOB | code::BLOB_COMPRESSED => "text or blob",
        other => return format!("number {other}"),
    };
    name.to_owned()
}
