//! What rows become: the words of `to`, and the messages that are made of a row.

use relation::{DataType, Layout};

use crate::base64;
use crate::destination::kind::At;
use crate::destination::text::{self, push_json_column, push_json_text, put};
use crate::destination::{Field, Item, MARKERS, Mapping, Problem, Refusal, Target};

use super::avro::{self, Ids, Schemas};

/// The keys of `to`.
pub(super) const KEYS: [&str; 7] = ["topic", "format", "delivery", "create", "partitions", "replication", "table"];
const TEXTS: [&str; 4] = ["topic", "format", "delivery", "table"];
const SWITCHES: [&str; 1] = ["create"];
const NUMBERS: [&str; 2] = ["partitions", "replication"];
/// The longest name of a topic.
const NAME_MAX: usize = 249;
/// What the broker chooses: its own default.
const CHOSEN: i32 = -1;

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Its columns as an object.
    Json,
    /// In an envelope, as Debezium writes changes.
    Debezium,
    /// As Maxwell writes changes.
    Maxwell,
    /// By schemas that a registry has.
    Avro,
}

/// How a topic is made where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) partitions: i32,
    pub(super) replication: i32,
}

impl Made {
    /// One partition, and the broker chooses the rest.
    pub(super) const SINGLE: Self = Self { partitions: 1, replication: CHOSEN };
}

/// What a target says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) topic: String,
    /// Whether a portion and its mark are one transaction.
    pub(super) is_exact: bool,
    /// Whether the topic is made where there is none, and how.
    pub(super) made: Option<Made>,
    /// The schemas of its messages, where it is Avro.
    pub(super) avro: Option<Schemas>,
    format: Format,
    words: Words,
}

/// What is the same in all messages of a form, as they have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    /// What a key begins with.
    key: Vec<u8>,
    /// The names of the key's columns, and of all, each with its colon.
    key_names: Vec<Vec<u8>>,
    names: Vec<Vec<u8>>,
    /// What messages say of what they are of: its database and table, and in Debezium's who has sent them.
    of: Vec<u8>,
}

impl Words {
    fn of(format: Format, mapping: &Mapping, sync: &str, database: &str, table: &str) -> Self {
        let text = |text: &str| {
            let mut out = Vec::new();
            push_json_text(&mut out, text);
            out
        };
        let name = |name: &str| [text(name), b":".to_vec()].concat();
        let key_name = |field: &Field| match format {
            Format::Maxwell => name(&format!("pk.{}", field.target.to_lowercase())),
            Format::Json | Format::Debezium | Format::Avro => name(&field.target),
        };
        let of_table = [b"\"database\":", &text(database)[..], b",\"table\":", &text(table)].concat();
        let (key, of) = match format {
            Format::Json | Format::Avro => (b"{".to_vec(), Vec::new()),
            Format::Debezium => {
                let of = [
                    b",\"source\":{\"connector\":\"tidemill\",\"name\":",
                    &text(sync)[..],
                    b",\"db\":",
                    &text(database),
                    b",\"table\":",
                    &text(table),
                ];
                (b"{".to_vec(), of.concat())
            }
            Format::Maxwell => ([b"{", &of_table[..]].concat(), of_table),
        };
        let names = mapping.fields().iter().map(|field| name(&field.target)).collect();
        Self { key, key_names: mapping.key_fields().map(key_name).collect(), names, of }
    }
}

/// The messages of one item: a key with a value, or without one, which says that nothing is under the key any more. It is
/// written anew for each item, in the same memory.
#[derive(Debug, Default)]
pub(super) struct Messages {
    key: Vec<u8>,
    value: Vec<u8>,
    has_value: bool,
    /// Behind it the topic is to forget the key.
    forgets: bool,
}

impl Messages {
    /// In their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let value = self.has_value.then_some(&self.value[..]);
        std::iter::once((&self.key[..], value)).chain(self.forgets.then_some((&self.key[..], None)))
    }
}

impl Form {
    /// What a target says. Errors: all problems.
    pub(super) fn of(target: &Target) -> Result<Self, Vec<Problem>> {
        let mut found = target.problems_of(&TEXTS, &SWITCHES, &NUMBERS);
        if !found.is_empty() {
            return Err(found);
        }
        let topic = topic(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let format = format(target).map_err(|problem| found.push(problem)).unwrap_or(Format::Json);
        let is_exact = is_exact(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let made = made(target).map_err(|problem| found.push(problem)).unwrap_or_default();
        let (database, table) =
            table(target, &topic, format).map_err(|problem| found.push(problem)).unwrap_or_default();
        found.extend(target.unfit_keys());
        let schemas = (format == Format::Avro).then(|| Schemas::of(&target.mapping, &topic)).transpose();
        let avro = schemas.map_err(|problems| found.extend(problems)).unwrap_or_default();
        match found.is_empty() {
            true => {
                let words = Words::of(format, &target.mapping, &target.sync, &database, &table);
                Ok(Self { topic, is_exact, made, avro, format, words })
            }
            false => Err(found),
        }
    }

    /// Writes the messages for an item whose key has no NULL. The time is in milliseconds since 1970, and `ids` are those of its
    /// schemas, where it has some. Errors: there are none for it.
    pub(super) fn write(
        &self,
        mapping: &Mapping,
        item: Item<'_>,
        now_ms: i64,
        ids: Ids,
        out: &mut Messages,
    ) -> Result<(), Refusal> {
        let is_delete = matches!(item, Item::Delete(_));
        (out.has_value, out.forgets) = (!is_delete, false);
        out.key.clear();
        out.value.clear();
        if self.avro.is_some() {
            out.key = avro::key(mapping, item, ids)?;
            if let Item::Upsert(row) = item {
                out.value = avro::value(mapping, row, ids)?;
            }
            return Ok(());
        }
        self.push_key(&mut out.key, mapping, item)?;
        let value = &mut out.value;
        match self.format {
            // Those of Avro are made elsewhere.
            Format::Json | Format::Avro if is_delete => {}
            Format::Json | Format::Avro => self.push_columns(value, mapping, item)?,
            Format::Debezium => {
                let op = if is_delete { "d" } else { "c" };
                if is_delete {
                    value.extend_from_slice(b"{\"before\":");
                    self.push_columns(value, mapping, item)?;
                    value.extend_from_slice(b",\"after\":null");
                } else {
                    value.extend_from_slice(b"{\"before\":null,\"after\":");
                    self.push_columns(value, mapping, item)?;
                }
                value.extend_from_slice(&self.words.of);
                put(value, format_args!(",\"ts_ms\":{now_ms}}},\"op\":\"{op}\",\"ts_ms\":{now_ms}}}"));
                // It tells what has become of a row, and then has the topic forget its key.
                (out.has_value, out.forgets) = (true, is_delete);
            }
            Format::Maxwell => {
                let kind = if is_delete { "delete" } else { "insert" };
                value.push(b'{');
                value.extend_from_slice(&self.words.of);
                let seconds = now_ms.div_euclid(1_000);
                put(value, format_args!(",\"type\":\"{kind}\",\"ts\":{seconds},\"data\":"));
                self.push_columns(value, mapping, item)?;
                value.push(b'}');
                out.has_value = true;
            }
        }
        Ok(())
    }

    /// The key of an item: an object of what identifies its row.
    fn push_key(&self, out: &mut Vec<u8>, mapping: &Mapping, item: Item<'_>) -> Result<(), Refusal> {
        out.extend_from_slice(&self.words.key);
        for (i, name) in self.words.key_names.iter().enumerate() {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            let (layout, row, at) = mapping.key_place(item, i);
            self.push_value(out, layout, row, at)?;
        }
        out.push(b'}');
        Ok(())
    }

    /// What is known of a row as an object: all that is delivered, or its key where it leaves.
    fn push_columns(&self, out: &mut Vec<u8>, mapping: &Mapping, item: Item<'_>) -> Result<(), Refusal> {
        let mut before = b'{';
        let mut push = |at_field: usize, layout: &Layout, row: &[u8], at: usize| {
            out.push(std::mem::replace(&mut before, b','));
            out.extend_from_slice(&self.words.names[at_field]);
            self.push_value(out, layout, row, at)
        };
        match item {
            Item::Upsert(row) => {
                let mut fields = mapping.fields().iter().enumerate();
                fields.try_for_each(|(i, field)| push(i, mapping.layout(), row, field.at))?;
            }
            Item::Delete(_) => {
                let mut fields = mapping.key().iter().enumerate();
                fields.try_for_each(|(i, at_field)| {
                    let (layout, row, at) = mapping.key_place(item, i);
                    push(*at_field, layout, row, at)
                })?;
            }
        }
        if before == b'{' {
            out.push(before);
        }
        out.push(b'}');
        Ok(())
    }

    /// Numbers with all their digits, documents as they are, everything else as a text. In Maxwell's messages truth is 1 or 0, and times
    /// are MySQL's, in UTC; there and in Debezium's bytes are in base64.
    fn push_value(&self, out: &mut Vec<u8>, layout: &Layout, row: &[u8], at: usize) -> Result<(), Refusal> {
        let is_maxwell = self.format == Format::Maxwell;
        match layout.types()[at] {
            _ if layout.is_null(row, at) => out.extend_from_slice(b"null"),
            DataType::Bytes if self.format != Format::Json => {
                out.push(b'"');
                base64::push(out, layout.bytes(row, at));
                out.push(b'"');
            }
            DataType::Bool if is_maxwell => text::push(out, layout, row, at, text::Words::Mysql)?,
            DataType::Date | DataType::Timestamp | DataType::TimestampTz if is_maxwell => {
                out.push(b'"');
                text::push(out, layout, row, at, text::Words::Mysql)?;
                out.push(b'"');
            }
            _ => push_json_column(out, layout, row, at),
        }
        Ok(())
    }
}

fn problem(at: &str, message: impl Into<String>) -> Problem {
    Problem::new(At::To(at.to_owned()), message)
}

/// Whether a topic can have a name.
fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(is_letter) && text != "." && text != ".."
}

fn topic(target: &Target) -> Result<String, Problem> {
    let Some(name) = target.text("topic") else { return Err(problem("topic", "`to` names no `topic`")) };
    if !is_name(name) {
        let hint = format!("Letters, digits, `.`, `_` and `-`, {NAME_MAX} of them at most.");
        return Err(problem("topic", format!("`{name}` is no name of a topic")).hint(hint));
    }
    if name == MARKERS {
        return Err(problem("topic", format!("`{MARKERS}` is where deliveries leave their marks")));
    }
    Ok(name.to_owned())
}

fn format(target: &Target) -> Result<Format, Problem> {
    match target.text("format").unwrap_or("json") {
        "json" => Ok(Format::Json),
        "debezium" => Ok(Format::Debezium),
        "maxwell" => Ok(Format::Maxwell),
        "avro" => Ok(Format::Avro),
        unknown => {
            let found = problem("format", format!("unknown `format`: `{unknown}`"));
            Err(found.hint("One of: json, debezium, maxwell, avro."))
        }
    }
}

fn is_exact(target: &Target) -> Result<bool, Problem> {
    match target.text("delivery").unwrap_or("at_least_once") {
        "at_least_once" => Ok(false),
        "exactly_once" => Ok(true),
        unknown => {
            let found = problem("delivery", format!("unknown `delivery`: `{unknown}`"));
            Err(found.hint("One of: at_least_once, exactly_once."))
        }
    }
}

fn made(target: &Target) -> Result<Option<Made>, Problem> {
    let number = |key: &str, max: i64| match target.to.get(key).map(|value| value.as_i64()) {
        None => Ok(CHOSEN),
        Some(Some(number)) if (1..=max).contains(&number) => Ok(i32::try_from(number).unwrap_or(CHOSEN)),
        Some(_) => Err(problem(key, format!("`{key}` should be a number from 1 to {max}"))),
    };
    let made = Made { partitions: number("partitions", 10_000)?, replication: number("replication", 32)? };
    if target.is_on("create") {
        return Ok(Some(made));
    }
    match NUMBERS.iter().find(|key| target.to.contains_key(**key)) {
        None => Ok(None),
        Some(key) => {
            let found = problem(key, format!("`{key}` has no meaning without `create: true`"));
            Err(found.hint("It is of the topic that is made where there is none."))
        }
    }
}

/// The database and table that messages name: `table: database.table`, or the topic.
fn table(target: &Target, topic: &str, format: Format) -> Result<(String, String), Problem> {
    let word = match format {
        Format::Json => Some("json"),
        Format::Avro => Some("avro"),
        Format::Debezium | Format::Maxwell => None,
    };
    if let Some(word) = word.filter(|_| target.to.contains_key("table")) {
        return Err(problem("table", format!("`table` has no meaning with `format: {word}`")));
    }
    match target.text("table") {
        None => Ok(("tidemill".to_owned(), topic.to_owned())),
        Some(_) => {
            let (database, table) = target.table()?;
            Ok((database.unwrap_or("tidemill").to_owned(), table.to_owned()))
        }
    }
}
