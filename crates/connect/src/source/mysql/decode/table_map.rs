//! TABLE_MAP: what the log says about the columns of the rows that follow.
//!
//! Types and their lengths are always there. Signs, charsets, names, labels and the key follow as optional fields: with
//! `binlog_row_metadata = FULL` all of them, with MySQL's MINIMAL signs and charsets, with MariaDB's NO_LOG none.

use super::DecodeError;
use super::charset::{BINARY_COLLATION, Charset, of_collation};

/// Column type codes of the log.
pub(crate) mod code {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME: u8 = 11;
    pub(crate) const DATETIME: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const NEWDATE: u8 = 14;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP2: u8 = 17;
    pub(crate) const DATETIME2: u8 = 18;
    pub(crate) const TIME2: u8 = 19;
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const NEWDECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const TINY_BLOB: u8 = 249;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

/// The columns of a table as a TABLE_MAP event describes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableMap {
    /// Stands for this version of the table in the rows events of this binlog file.
    pub table_id: u64,
    pub database: String,
    pub table: String,
    /// Type codes. Where the log hides ENUM and SET behind STRING, the real one.
    pub column_types: Vec<u8>,
    /// Length information, meaning by type; zero where a type has none.
    pub column_meta: Vec<[u8; 2]>,
    /// Whether a column may be NULL.
    pub nullable: Vec<bool>,
    /// Sign per column, if the log tells; false for columns that are no numbers.
    pub unsigned: Option<Vec<bool>>,
    /// Collation number of each text, enum and set column, if the log tells.
    pub collations: Vec<Option<u64>>,
    /// Column names, if the log tells.
    pub names: Option<Vec<String>>,
    /// Labels of each enum and set column, in the column's charset, if the log tells.
    pub labels: Vec<Option<Vec<Vec<u8>>>>,
    /// Columns of the primary key, if there is one and the log tells.
    pub primary_key: Option<Vec<usize>>,
}

impl TableMap {
    /// Reads an event's payload: without the common header and without the checksum.
    pub fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        Self::read(payload).ok_or(DecodeError::Damaged("table map"))
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (table_id, rest) = little_endian(payload, 6)?;
        // Flags; nothing in them matters for decoding.
        let rest = rest.get(2..)?;
        let (database, rest) = name(rest)?;
        let (table, rest) = name(rest)?;
        let (columns, rest) = lenenc(rest)?;
        let columns = usize::try_from(columns).ok()?;
        let (types, rest) = rest.split_at_checked(columns)?;
        let (meta, rest) = field(rest)?;
        let (nulls, rest) = rest.split_at_checked(columns.div_ceil(8))?;
        let mut map = Self {
            table_id,
            database,
            table,
            column_types: types.to_vec(),
            nullable: (0..columns).map(|i| nulls[i / 8] >> (i % 8) & 1 == 1).collect(),
            collations: vec![None; columns],
            labels: vec![None; columns],
            ..Self::default()
        };
        map.read_meta(meta)?;
        map.read_optional(rest)?;
        Some(map)
    }

    fn read_meta(&mut self, mut meta: &[u8]) -> Option<()> {
        for kind in &mut self.column_types {
            let (bytes, rest) = meta.split_at_checked(meta_length(*kind)?)?;
            meta = rest;
            let mut pair = [0; 2];
            pair[..bytes.len()].copy_from_slice(bytes);
            if *kind == code::STRING {
                (*kind, pair) = real_string(pair);
            }
            self.column_meta.push(pair);
        }
        meta.is_empty().then_some(())
    }

    /// Reads the optional fields: type, length, content. Unknown ones are passed over.
    fn read_optional(&mut self, mut rest: &[u8]) -> Option<()> {
        while let Some((&kind, behind)) = rest.split_first() {
            let (content, behind) = field(behind)?;
            rest = behind;
            match kind {
                1 => self.read_signs(content),
                2 => self.read_collations(content, is_text, true)?,
                3 => self.read_collations(content, is_text, false)?,
                4 => self.names = Some(self.read_names(content)?),
                5 => self.read_labels(content, code::SET)?,
                6 => self.read_labels(content, code::ENUM)?,
                8 => self.primary_key = Some(read_key(content, false)?),
                9 => self.primary_key = Some(read_key(content, true)?),
                10 => self.read_collations(content, is_choice, true)?,
                11 => self.read_collations(content, is_choice, false)?,
                // Geometry types, visibility, vector dimensions: nothing that decoding needs.
                _ => {}
            }
        }
        Some(())
    }

    fn read_signs(&mut self, bits: &[u8]) {
        let mut number = 0;
        let signs = self.column_types.iter().map(|kind| {
            if !is_number(*kind) {
                return false;
            }
            let bit = bits.get(number / 8).is_some_and(|byte| byte << (number % 8) & 0x80 != 0);
            number += 1;
            bit
        });
        self.unsigned = Some(signs.collect());
    }

    /// Reads collations of the columns that `of` takes: a default with exceptions by number, or one for each.
    fn read_collations(&mut self, mut rest: &[u8], of: fn(u8) -> bool, with_default: bool) -> Option<()> {
        let mut numbers = Vec::new();
        while !rest.is_empty() {
            let (number, behind) = lenenc(rest)?;
            numbers.push(number);
            rest = behind;
        }
        let Some(columns) = self.counted(of, (!with_default).then_some(numbers.len())) else {
            return Some(());
        };
        if !with_default {
            columns.iter().zip(numbers).for_each(|(column, number)| self.collations[*column] = Some(number));
            return Some(());
        }
        let (default, exceptions) = numbers.split_first()?;
        columns.iter().for_each(|column| self.collations[*column] = Some(*default));
        for pair in exceptions.chunks(2) {
            let &[column, collation] = pair else { return None };
            self.collations[*columns.get(usize::try_from(column).ok()?)?] = Some(collation);
        }
        Some(())
    }

    /// The columns that a list of collations is about, `length` being the list's if it has one for each.
    ///
    /// MariaDB counts geometries among the texts and MySQL does not. Where that leaves two readings there is none, and
    /// the charsets of `information_schema` hold.
    fn counted(&self, of: fn(u8) -> bool, length: Option<usize>) -> Option<Vec<usize>> {
        let columns = |also: Option<u8>| {
            let kinds = self.column_types.iter().enumerate();
            kinds.filter(|(_, kind)| of(**kind) || also == Some(**kind)).map(|(i, _)| i).collect::<Vec<_>>()
        };
        let (narrow, wide) = (columns(None), columns(of(code::BLOB).then_some(code::GEOMETRY)));
        match length {
            Some(length) if length == narrow.len() => Some(narrow),
            Some(length) if length == wide.len() => Some(wide),
            None if narrow.len() == wide.len() => Some(narrow),
            _ => None,
        }
    }

    fn read_names(&self, mut rest: &[u8]) -> Option<Vec<String>> {
        let mut names = Vec::with_capacity(self.column_types.len());
        for _ in &self.column_types {
            let (name, behind) = field(rest)?;
            names.push(String::from_utf8_lossy(name).into_owned());
            rest = behind;
        }
        Some(names)
    }

    fn read_labels(&mut self, mut rest: &[u8], of: u8) -> Option<()> {
        for (kind, labels) in self.column_types.iter().zip(&mut self.labels).filter(|(kind, _)| **kind == of) {
            debug_assert_eq!(*kind, of);
            let (count, behind) = lenenc(rest)?;
            rest = behind;
            let mut found = Vec::new();
            for _ in 0..count {
                let (label, behind) = field(rest)?;
                found.push(label.to_vec());
                rest = behind;
            }
            *labels = Some(found);
        }
        Some(())
    }

    /// The charset that the log names for column `i`; `Some(None)`: bytes, no text.
    pub(crate) fn charset(&self, i: usize) -> Option<Option<Charset>> {
        match self.collations[i]? {
            BINARY_COLLATION => Some(None),
            collation => of_collation(collation).map(Some),
        }
    }

    /// Columns of MySQL's JSON type.
    pub(crate) fn json_columns(&self) -> usize {
        self.column_types.iter().filter(|kind| **kind == code::JSON).count()
    }
}

/// Bytes of length information per type; none for a type that nobody writes into a log.
fn meta_length(kind: u8) -> Option<usize> {
    Some(match kind {
        0..=3 | 6..=14 => 0,
        code::FLOAT | code::DOUBLE | code::TIMESTAMP2..=code::TIME2 => 1,
        code::VARCHAR | code::BIT | code::VARCHAR_COMPRESSED | code::NEWDECIMAL => 2,
        code::ENUM | code::SET | code::VAR_STRING | code::STRING => 2,
        code::BLOB_COMPRESSED | code::VECTOR | code::JSON | code::GEOMETRY => 1,
        code::TINY_BLOB..=code::BLOB => 1,
        _ => return None,
    })
}

/// The type behind STRING, and its length in bytes as a little-endian pair.
///
/// The first byte is the type, except that lengths beyond 255 have two of their bits, inverted, in it.
fn real_string(meta: [u8; 2]) -> (u8, [u8; 2]) {
    let [kind, length] = meta;
    if kind & 0x30 != 0x30 {
        return (kind | 0x30, [length, (kind & 0x30 ^ 0x30) >> 4]);
    }
    (kind, [length, 0])
}

fn is_number(kind: u8) -> bool {
    matches!(kind, code::TINY..=code::DOUBLE | code::LONGLONG | code::INT24 | code::YEAR | code::NEWDECIMAL)
}

/// What a list of collations counts as text: MySQL's vectors among it, which are bytes.
fn is_text(kind: u8) -> bool {
    matches!(
        kind,
        code::VARCHAR
            | code::VAR_STRING
            | code::STRING
            | code::BLOB
            | code::VARCHAR_COMPRESSED
            | code::BLOB_COMPRESSED
            | code::VECTOR
    )
}

fn is_choice(kind: u8) -> bool {
    matches!(kind, code::ENUM | code::SET)
}

/// The columns of a key; `with_prefix`: each followed by the length of its indexed prefix.
fn read_key(mut rest: &[u8], with_prefix: bool) -> Option<Vec<usize>> {
    let mut key = Vec::new();
    while !rest.is_empty() {
        let (column, behind) = lenenc(rest)?;
        key.push(usize::try_from(column).ok()?);
        rest = if with_prefix { lenenc(behind)?.1 } else { behind };
    }
    Some(key)
}

/// A name: length, bytes, a zero.
fn name(rest: &[u8]) -> Option<(String, &[u8])> {
    let (name, rest) = field(rest)?;
    Some((String::from_utf8_lossy(name).into_owned(), rest.get(1..)?))
}

/// Bytes behind their length.
fn field(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = lenenc(rest)?;
    rest.split_at_checked(usize::try_from(length).ok()?)
}

/// The protocol's integer of variable width, and what follows it.
pub(crate) fn lenenc(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        0xfc => little_endian(rest, 2),
        0xfd => little_endian(rest, 3),
        0xfe => little_endian(rest, 8),
        0xfb | 0xff => None,
        small => Some((u64::from(small), rest)),
    }
}

fn little_endian(bytes: &[u8], width: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(width)?;
    Some((number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
}
