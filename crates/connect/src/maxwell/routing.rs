//! Where a message goes in Kafka: its key, its topic, and by what its partition is chosen.

use super::java;
use super::shape::{Image, Shape};
use super::value::{Style, write_text};

/// By what partitions are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionBy {
    #[default]
    Database,
    Table,
    PrimaryKey,
    TransactionId,
    ThreadId,
    Column,
    Random,
}

impl PartitionBy {
    /// By the word that `producer_partition_by` has.
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "database" => Self::Database,
            "table" => Self::Table,
            "primary_key" => Self::PrimaryKey,
            "transaction_id" => Self::TransactionId,
            "thread_id" => Self::ThreadId,
            "column" => Self::Column,
            "random" => Self::Random,
            _ => return None,
        })
    }
}

/// How a partition's number comes of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PartitionHash {
    /// Java's `String.hashCode`.
    #[default]
    Default,
    Murmur3,
}

impl PartitionHash {
    pub(crate) fn of(self, text: &str) -> i32 {
        const SEED: u32 = 25_342;
        match self {
            Self::Default => java::hash_code(text),
            Self::Murmur3 => java::murmur3(text.as_bytes(), SEED),
        }
    }
}

/// What keys look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyFormat {
    #[default]
    Hash,
    Array,
}

/// Settings of keys, topics and partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    pub key_format: KeyFormat,
    pub by: PartitionBy,
    pub columns: Vec<String>,
    /// Where a table has none of the columns.
    pub fallback: PartitionBy,
    pub hash: PartitionHash,
    /// With the placeholders `%{database}`, `%{table}` and `%{type}`.
    pub topic: String,
    /// Of definitions; none: as rows.
    pub ddl_topic: Option<String>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            key_format: KeyFormat::default(),
            by: PartitionBy::default(),
            columns: Vec::new(),
            fallback: PartitionBy::default(),
            hash: PartitionHash::default(),
            topic: "maxwell".to_owned(),
            ddl_topic: None,
        }
    }
}

/// What is known of a row's transaction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Surroundings {
    pub(crate) thread_id: Option<u32>,
    /// Counts rows, for what is chosen at random.
    pub(crate) number: u64,
}

impl Routing {
    /// Whether the partition depends on the transaction's number, which its end tells.
    pub(crate) fn is_by_transaction(&self) -> bool {
        self.by == PartitionBy::TransactionId
    }

    /// The hash by which a row's partition is chosen.
    pub(crate) fn hash_of_row(&self, shape: &Shape, image: &Image<'_>, around: Surroundings) -> i32 {
        let text = match self.by {
            PartitionBy::Column => self.columns_text(shape, image, around),
            by => Self::text(by, shape, image, around),
        };
        self.hash.of(&text)
    }

    /// That of a transaction's number.
    pub(crate) fn hash_of_transaction(&self, xid: Option<u64>) -> i32 {
        self.hash.of(&xid.map_or_else(|| "null".to_owned(), |xid| xid.to_string()))
    }

    /// That of a definition.
    pub(crate) fn hash_of_definition(&self, database: &str, table: Option<&str>) -> i32 {
        let by_table = self.by == PartitionBy::Table;
        self.hash.of(table.filter(|_| by_table).unwrap_or(database))
    }

    fn text(by: PartitionBy, shape: &Shape, image: &Image<'_>, around: Surroundings) -> String {
        match by {
            PartitionBy::Database | PartitionBy::Column | PartitionBy::TransactionId => shape.database.clone(),
            PartitionBy::Table => shape.table.clone(),
            PartitionBy::ThreadId => around.thread_id.map_or_else(|| "null".to_owned(), |id| id.to_string()),
            PartitionBy::Random => format!("{}", around.number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            PartitionBy::PrimaryKey if shape.key.is_empty() => format!("{}{}", shape.database, shape.table),
            PartitionBy::PrimaryKey => {
                let values: Vec<String> =
                    shape.key.iter().filter_map(|&at| image.java_text(shape, at).flatten()).collect();
                if values.is_empty() { "None".to_owned() } else { values.concat() }
            }
        }
    }

    fn columns_text(&self, shape: &Shape, image: &Image<'_>, around: Surroundings) -> String {
        let place = |name: &String| shape.columns.iter().position(|column| column.name == *name);
        let values = self.columns.iter().filter_map(place).filter_map(|at| image.java_text(shape, at).flatten());
        let text: String = values.collect();
        if text.is_empty() { Self::text(self.fallback, shape, image, around) } else { text }
    }

    /// Appends a row's key.
    pub(crate) fn write_key(&self, shape: &Shape, image: &Image<'_>, number: u64, style: Style, out: &mut Vec<u8>) {
        match self.key_format {
            KeyFormat::Hash => {
                out.extend_from_slice(b"{\"database\":");
                write_text(&shape.database, out);
                out.extend_from_slice(b",\"table\":");
                write_text(&shape.table, out);
                if shape.key.is_empty() {
                    out.extend_from_slice(b",\"_uuid\":");
                    write_text(&random_uuid(number), out);
                }
                for &at in &shape.key {
                    out.push(b',');
                    write_text(&format!("pk.{}", shape.columns[at].name.to_lowercase()), out);
                    out.push(b':');
                    image.write(shape, at, style, out);
                }
                out.push(b'}');
            }
            KeyFormat::Array => {
                out.push(b'[');
                write_text(&shape.database, out);
                out.push(b',');
                write_text(&shape.table, out);
                out.extend_from_slice(b",[");
                for (i, &at) in shape.key.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b",{" } else { b"{" });
                    write_text(&shape.columns[at].name, out);
                    out.push(b':');
                    image.write(shape, at, style, out);
                    out.push(b'}');
                }
                if shape.key.is_empty() {
                    out.extend_from_slice(b"{\"_uuid\":");
                    write_text(&random_uuid(number), out);
                    out.push(b'}');
                }
                out.extend_from_slice(b"]]");
            }
        }
    }

    /// The key and the hash of a bootstrap's message, by the names of a key's columns and their JSON, and by what Java makes of columns'
    /// values.
    pub(crate) fn of_bootstrap(
        &self,
        database: &str,
        table: &str,
        key: &[(&str, &[u8])],
        text_of: &dyn Fn(&str) -> Option<String>,
        number: u64,
    ) -> (Vec<u8>, i32) {
        let mut out = Vec::new();
        let is_hash = self.key_format == KeyFormat::Hash;
        out.extend_from_slice(if is_hash { b"{\"database\":" } else { b"[" });
        write_text(database, &mut out);
        out.extend_from_slice(if is_hash { b",\"table\":" } else { b"," });
        write_text(table, &mut out);
        let uuid = format!("\"{}\"", random_uuid(number));
        let whole: Vec<(String, &[u8])> = match key {
            [] => vec![("_uuid".to_owned(), uuid.as_bytes())],
            key if is_hash => key.iter().map(|(name, value)| (format!("pk.{}", name.to_lowercase()), *value)).collect(),
            key => key.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        };
        if !is_hash {
            out.extend_from_slice(b",[");
        }
        for (i, (name, value)) in whole.iter().enumerate() {
            match (is_hash, i) {
                (true, _) => out.push(b','),
                (false, 0) => out.push(b'{'),
                (false, _) => out.extend_from_slice(b",{"),
            }
            write_text(name, &mut out);
            out.push(b':');
            out.extend_from_slice(value);
            if !is_hash {
                out.push(b'}');
            }
        }
        out.extend_from_slice(if is_hash { b"}" } else { b"]]" });
        let text = |by| match by {
            PartitionBy::Table => table.to_owned(),
            PartitionBy::PrimaryKey if !key.is_empty() => key.iter().filter_map(|(name, _)| text_of(name)).collect(),
            PartitionBy::PrimaryKey => format!("{database}{table}"),
            PartitionBy::Random => number.to_string(),
            PartitionBy::TransactionId | PartitionBy::ThreadId => "null".to_owned(),
            PartitionBy::Database | PartitionBy::Column => database.to_owned(),
        };
        let of_columns: String = match self.by {
            PartitionBy::Column => self.columns.iter().filter_map(|name| text_of(name)).collect(),
            by => text(by),
        };
        let chosen = if of_columns.is_empty() { text(self.fallback) } else { of_columns };
        (out, self.hash.of(&chosen))
    }

    /// The topic of a row or a definition.
    pub(crate) fn topic(&self, template: &str, database: &str, table: &str, kind: &str) -> String {
        template.replace("%{database}", database).replace("%{table}", table).replace("%{type}", kind)
    }
}

/// A UUID of version 4 that nobody else has: of the time, of this process and of a number that it counts.
pub(crate) fn random_uuid(number: u64) -> String {
    let seed = format!("{} {} {number}", crate::source::now_us(), std::process::id());
    let mut bytes = relation::key::hash128(seed.as_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
