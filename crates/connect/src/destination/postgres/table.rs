//! The table that is delivered to: what it has, what lacks, and what does not fit.
//!
//! The law: what a column would take and change is refused here. A number beyond a column's range, a text that is too long, a word
//! that an enum does not know: these the server refuses row by row, in its own words.

use relation::DataType;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::destination::cells::Room;
use crate::destination::kind::At;
use crate::destination::{Down, Field, Problem, Target};
use crate::source::Check;

use super::client::down;
use super::config::Config;

/// A column over there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    /// As people write it, with its lengths.
    shown: String,
    /// The type below domains, quoted and without lengths.
    base: String,
    /// Its name if it is one of the system's own types, else empty.
    word: String,
    /// What goes with the type: a length, or digits and scale.
    modifier: i32,
    /// Rows cannot do without a value of it.
    is_needed: bool,
    is_generated: bool,
    /// Numbered by the server, whatever others say.
    is_numbered: bool,
}

/// A table over there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    /// What it is told by from one that was made anew under its name.
    pub(super) oid: String,
    /// Its schema and its name, quoted.
    pub(super) schema: String,
    pub(super) name: String,
    kind: String,
    columns: Vec<Column>,
    /// The columns of each unique index by which rows can be found.
    unique: Vec<Vec<String>>,
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Described {
    /// Schema and name.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// How long a text a field's column takes; none where it takes any, or is none of texts.
    pub(super) fn room(&self, field: &Field) -> Option<Room> {
        let column = self.column(&field.target)?;
        // Four bytes of it are the length's own.
        let chars = usize::try_from(column.modifier.checked_sub(4)?).ok()?;
        matches!(column.word.as_str(), "varchar" | "bpchar").then_some(Room::Chars(chars))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The type of the arrays in which a field's values travel.
    pub(super) fn array_of(&self, field: &Field) -> String {
        self.column(&field.target).map_or_else(|| "text[]".to_owned(), |column| format!("{}[]", column.base))
    }

    /// Whether the server numbers one of the fields unless told otherwise.
    pub(super) fn numbers_any(&self, target: &Target) -> bool {
        let fields = target.mapping.fields().iter();
        fields.filter_map(|field| self.column(&field.target)).any(|column| column.is_numbered)
    }

    /// Fields for which it has no column.
    pub(super) fn missing<'t>(&self, target: &'t Target) -> Vec<&'t Field> {
        target.mapping.fields().iter().filter(|field| self.column(&field.target).is_none()).collect()
    }

    /// What keeps the target's rows out.
    fn problems(&self, target: &Target) -> Vec<Problem> {
        let name = self.full_name();
        if !matches!(self.kind.as_str(), "r" | "p") {
            let problem = Problem::new(At::To("table".to_owned()), format!("{name} is no table"));
            return vec![problem.hint("Rows are upserted into tables, not into views.")];
        }
        let mut found: Vec<Problem> = Vec::new();
        let keys: Vec<&str> = target.mapping.key_fields().map(|field| field.target.as_str()).collect();
        for field in target.mapping.fields() {
            let at = || match keys.contains(&field.target.as_str()) {
                true => At::Match(field.target.clone()),
                false => At::Field(field.target.clone()),
            };
            let Some(column) = self.column(&field.target) else {
                let problem = Problem::new(at(), format!("{name} has no column {}", quoted(&field.target)));
                found.push(problem.hint(format!("{}; or set `create: true`", self.addition(field))));
                continue;
            };
            if column.is_generated {
                let message = format!("column {} of {name} is computed by the server", quoted(&column.name));
                found.push(Problem::new(at(), message).hint("Leave it out of `fields`."));
            } else if let Err(detail) = fits(field.data_type, column) {
                let message = format!(
                    "column {} of {name} is of type {}, and `{}` of type {}",
                    quoted(&column.name),
                    column.shown,
                    field.column,
                    field.data_type
                );
                let hint = format!("Cast it in the model, or change the column: {}", self.change(field));
                found.push(Problem::new(at(), message).detail(detail).hint(hint));
            }
        }
        for column in self.columns.iter().filter(|column| column.is_needed) {
            if !target.mapping.fields().iter().any(|field| field.target == column.name) {
                let message = format!("column {} of {name} needs a value, and gets none", quoted(&column.name));
                found.push(Problem::new(At::Sync, message).hint("Deliver it by `fields`, or give it a default."));
            }
        }
        let mut wanted = keys.clone();
        wanted.sort_unstable();
        if !self.unique.iter().any(|columns| *columns == wanted) {
            let list = keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(At::Sync, format!("{name} has no unique key of ({list})"));
            let problem = problem.detail("Rows are found by it.");
            found.push(problem.hint(format!("CREATE UNIQUE INDEX ON {name} ({list})")));
        }
        found
    }

    fn addition(&self, field: &Field) -> String {
        format!("ALTER TABLE {} ADD COLUMN {} {}", self.full_name(), quoted(&field.target), made(field.data_type))
    }

    fn change(&self, field: &Field) -> String {
        let (name, column) = (self.full_name(), quoted(&field.target));
        format!("ALTER TABLE {name} ALTER COLUMN {column} TYPE {}", made(field.data_type))
    }
}

/// The type of a column that is made for values of a type.
fn made(data_type: DataType) -> String {
    match data_type {
        DataType::Bool => "boolean".to_owned(),
        DataType::Int16 => "smallint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::UInt64 => "numeric(20)".to_owned(),
        DataType::Float32 => "real".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Decimal { precision, scale } if scale >= 0 => format!("numeric({precision},{scale})"),
        DataType::Decimal { precision, scale } => format!("numeric({})", i16::from(precision) - i16::from(scale)),
        DataType::Text => "text".to_owned(),
        DataType::Json | DataType::Array(_) => "jsonb".to_owned(),
        DataType::Bytes => "bytea".to_owned(),
        DataType::Date => "date".to_owned(),
        DataType::Time => "time".to_owned(),
        DataType::Timestamp => "timestamp".to_owned(),
        DataType::TimestampTz => "timestamptz".to_owned(),
        DataType::Interval => "interval".to_owned(),
    }
}

/// Whether a column holds values of a type as they are. Errors: what would become of them, as a sentence.
fn fits(data_type: DataType, column: &Column) -> Result<(), String> {
    let word = column.word.as_str();
    let is_text = matches!(word, "text" | "varchar" | "bpchar");
    let when = |is_right: bool| if is_right { Ok(()) } else { Err("Its values are none of the column's.".to_owned()) };
    match data_type {
        _ if is_text => Ok(()),
        DataType::Bool => when(word == "bool"),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 => match word {
            "int2" | "int4" | "int8" => Ok(()),
            "numeric" => rounds(scale_of(column.modifier) < Some(0)),
            "float8" => rounds(matches!(data_type, DataType::Int64 | DataType::UInt64)),
            "float4" => rounds(data_type != DataType::Int16),
            _ => when(false),
        },
        DataType::Float32 | DataType::Float64 => match word {
            "float8" => Ok(()),
            "float4" => rounds(data_type == DataType::Float64),
            "numeric" => rounds(column.modifier >= 0),
            _ => when(false),
        },
        DataType::Decimal { scale, .. } => match word {
            "numeric" => rounds(scale_of(column.modifier).is_some_and(|of| of < i32::from(scale))),
            "int2" | "int4" | "int8" => rounds(scale > 0),
            "float4" | "float8" => rounds(true),
            _ => when(false),
        },
        // Types with words of their own: enums, uuid, inet, and those of extensions.
        DataType::Text => when(!OF_VALUES.contains(&word)),
        DataType::Json | DataType::Array(_) => when(matches!(word, "json" | "jsonb")),
        DataType::Bytes => when(word == "bytea"),
        DataType::Date => when(matches!(word, "date" | "timestamp")),
        DataType::Time => {
            if word == "time" {
                micros(column.modifier)
            } else {
                when(false)
            }
        }
        // Without a zone it is UTC: so it is read, and so it is written.
        DataType::Timestamp | DataType::TimestampTz => match word {
            "timestamp" | "timestamptz" => micros(column.modifier),
            _ => when(false),
        },
        DataType::Interval => when(word == "interval" && column.modifier < 0),
    }
}

/// Types whose values are no texts.
const OF_VALUES: [&str; 15] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "numeric",
    "float4",
    "float8",
    "bytea",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "oid",
];

fn rounds(it_does: bool) -> Result<(), String> {
    if it_does { Err("Its values would be rounded.".to_owned()) } else { Ok(()) }
}

/// Times have microseconds, if they have none other said.
fn micros(modifier: i32) -> Result<(), String> {
    if modifier < 0 || modifier == 6 { Ok(()) } else { Err("Its microseconds would be rounded.".to_owned()) }
}

/// The scale of a numeric column; none where it takes any.
fn scale_of(modifier: i32) -> Option<i32> {
    // Eleven bits, with a sign, behind the four bytes of a length that it does not have.
    let scale = modifier.checked_sub(4).filter(|bits| *bits >= 0)? & 0x7ff;
    Some(if scale > 1_023 { scale - 2_048 } else { scale })
}

const TABLE: &str = "SELECT c.oid::text, quote_ident(n.nspname), quote_ident(c.relname), c.relkind::text \
                     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";
/// Domains are seen through to what they are made of; the length is the innermost that is said.
const COLUMNS: &str = "WITH RECURSIVE below AS ( \
     SELECT a.attnum, a.atttypid AS type, a.atttypmod AS modifier FROM pg_attribute a \
     WHERE a.attrelid = $1::text::oid AND a.attnum > 0 AND NOT a.attisdropped \
     UNION ALL SELECT b.attnum, t.typbasetype, CASE WHEN b.modifier >= 0 THEN b.modifier ELSE t.typtypmod END \
     FROM below b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd') \
     SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), \
     quote_ident(n.nspname) || '.' || quote_ident(t.typname), \
     CASE WHEN n.nspname = 'pg_catalog' THEN t.typname::text ELSE '' END, b.modifier::text, \
     (a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')::text, (a.attgenerated <> '')::text, \
     (a.attidentity = 'a')::text \
     FROM below b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd' JOIN pg_namespace n ON n.oid = t.typnamespace \
     JOIN pg_attribute a ON a.attrelid = $1::text::oid AND a.attnum = b.attnum ORDER BY a.attnum";
const UNIQUE: &str = "SELECT i.indexrelid::text, a.attname::text FROM pg_index i \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
     WHERE i.indrelid = $1::text::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
     AND i.indexprs IS NULL ORDER BY 1, 2";

/// The name of a target's table, quoted.
pub(super) fn name_of(target: &Target) -> Result<String, Down> {
    let (schema, name) = target.table().map_err(|problem| Down { failure: problem.failure(), is_ours: true })?;
    Ok(schema.map(|schema| format!("{}.", quoted(schema))).unwrap_or_default() + &quoted(name))
}

/// Rows of a question with one text as its parameter.
async fn ask(client: &Client, sql: &str, parameter: &str, config: &Config) -> Result<Vec<Vec<String>>, Down> {
    let rows = client.query_typed(sql, &[(&parameter, Type::TEXT)]).await.map_err(|error| down(&error, config))?;
    let row = |row: &tokio_postgres::Row| -> Vec<String> {
        (0..row.len()).map(|i| row.try_get::<_, Option<String>>(i).ok().flatten().unwrap_or_default()).collect()
    };
    Ok(rows.iter().map(row).collect())
}

/// The table of a target, if there is one.
pub(super) async fn describe(client: &Client, target: &Target, config: &Config) -> Result<Option<Described>, Down> {
    let found = ask(client, TABLE, &name_of(target)?, config).await?;
    let Some([oid, schema, name, kind]) = found.into_iter().next().and_then(|row| <[String; 4]>::try_from(row).ok())
    else {
        return Ok(None);
    };
    let columns = ask(client, COLUMNS, &oid, config).await?.into_iter().filter_map(|row| {
        let [name, shown, base, word, modifier, needed, generated, numbered] = <[String; 8]>::try_from(row).ok()?;
        let modifier = modifier.parse().unwrap_or(-1);
        let [is_needed, is_generated, is_numbered] = [needed, generated, numbered].map(|truth| truth == "true");
        Some(Column { name, shown, base, word, modifier, is_needed, is_generated, is_numbered })
    });
    let columns = columns.collect();
    let mut unique: Vec<(String, Vec<String>)> = Vec::new();
    for row in ask(client, UNIQUE, &oid, config).await? {
        let [index, column] = <[String; 2]>::try_from(row).unwrap_or_default();
        match unique.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => unique.push((index, vec![column])),
        }
    }
    let mut unique: Vec<Vec<String>> = unique.into_iter().map(|(_, columns)| columns).collect();
    unique.iter_mut().for_each(|columns| columns.sort_unstable());
    Ok(Some(Described { oid, schema, name, kind, columns, unique }))
}

/// What keeps a target from being delivered to, and what is worth knowing. Changes nothing.
pub(super) async fn look(
    client: &Client,
    target: &Target,
    config: &Config,
) -> Result<(Vec<Problem>, Vec<Check>), Down> {
    let is_made = target.is_on("create");
    let Some(described) = describe(client, target, config).await? else {
        if let Some(problem) = no_schema(client, target, config).await? {
            return Ok((vec![problem], Vec::new()));
        }
        return Ok(match is_made {
            true => (Vec::new(), vec![Check::ok("create", format!("{} will be made", name_of(target)?))]),
            false => (vec![missing(target)?], Vec::new()),
        });
    };
    let mut problems = described.problems(target);
    if is_made {
        // Those that lack will be made.
        let names: Vec<&str> = described.missing(target).iter().map(|field| field.target.as_str()).collect();
        problems.retain(|problem| match &problem.at {
            At::Field(name) | At::Match(name) => !names.contains(&name.as_str()),
            At::Sync | At::To(_) => true,
        });
    }
    Ok((problems, Vec::new()))
}

/// Says that even the schema of the table is not there, where it is so.
async fn no_schema(client: &Client, target: &Target, config: &Config) -> Result<Option<Problem>, Down> {
    const SCHEMA: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname = $1";
    let Ok((Some(schema), _)) = target.table() else { return Ok(None) };
    let is_there = !ask(client, SCHEMA, schema, config).await?.is_empty();
    Ok((!is_there).then(|| {
        let name = quoted(schema);
        Problem::new(At::To("table".to_owned()), format!("schema {name} does not exist"))
            .hint(format!("Correct `table` of the sync, or: CREATE SCHEMA {name}"))
    }))
}

fn missing(target: &Target) -> Result<Problem, Down> {
    let problem = Problem::new(At::To("table".to_owned()), format!("table {} does not exist", name_of(target)?));
    Ok(problem.hint(format!("Set `create: true`, or: {}", creation(target)?)))
}

/// The statement that makes a target's table.
fn creation(target: &Target) -> Result<String, Down> {
    let keys: Vec<&str> = target.mapping.key_fields().map(|field| field.target.as_str()).collect();
    let column = |field: &Field| {
        let null = if keys.contains(&field.target.as_str()) { " NOT NULL" } else { "" };
        format!("{} {}{null}", quoted(&field.target), made(field.data_type))
    };
    let columns: Vec<String> = target.mapping.fields().iter().map(column).collect();
    let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    let name = name_of(target)?;
    Ok(format!("CREATE TABLE IF NOT EXISTS {name} ({}, PRIMARY KEY ({}))", columns.join(", "), keys.join(", ")))
}

/// The table of a target, made or completed where it may be. Errors: what keeps its rows out.
pub(super) async fn prepare(client: &Client, target: &Target, config: &Config) -> Result<Described, Down> {
    let is_made = target.is_on("create");
    let execute = async |sql: String| client.batch_execute(&sql).await.map_err(|error| down(&error, config));
    let mut found = describe(client, target, config).await?;
    if found.is_none()
        && let Some(problem) = no_schema(client, target, config).await?
    {
        return Err(Down { failure: problem.failure(), is_ours: true });
    }
    if found.is_none() && is_made {
        execute(creation(target)?).await?;
        found = describe(client, target, config).await?;
    }
    let Some(mut described) = found else {
        return Err(Down { failure: missing(target)?.failure(), is_ours: true });
    };
    let additions: Vec<String> = described.missing(target).iter().map(|field| described.addition(field)).collect();
    if is_made && !additions.is_empty() {
        execute(additions.join("; ")).await?;
        described = describe(client, target, config).await?.unwrap_or(described);
    }
    match crate::destination::kind::failure_of(described.problems(target)) {
        Some(failure) => Err(Down { failure, is_ours: true }),
        None => Ok(described),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(word: &str, modifier: i32) -> Column {
        Column {
            name: "c".to_owned(),
            shown: word.to_owned(),
            base: word.to_owned(),
            word: word.to_owned(),
            modifier,
            is_needed: false,
            is_generated: false,
            is_numbered: false,
        }
    }

    fn numeric(precision: i32, scale: i32) -> Column {
        column("numeric", ((precision << 16) | (scale & 0x7ff)) + 4)
    }

    #[test]
    fn what_would_be_rounded_does_not_fit() {
        let money = DataType::Decimal { precision: 12, scale: 4 };
        assert_eq!(fits(money, &numeric(10, 2)), Err("Its values would be rounded.".to_owned()));
        assert_eq!(fits(money, &numeric(6, 4)), Ok(()));
        assert_eq!(fits(money, &column("numeric", -1)), Ok(()));
        assert_eq!(fits(DataType::Int32, &numeric(6, -2)), Err("Its values would be rounded.".to_owned()));
        assert_eq!(fits(DataType::Int32, &numeric(6, 0)), Ok(()));
        assert!(fits(DataType::Int64, &column("float8", -1)).is_err());
        assert!(fits(DataType::Float64, &numeric(30, 10)).is_err());
        assert!(fits(DataType::Timestamp, &column("timestamp", 3)).is_err());
        assert_eq!(fits(DataType::Timestamp, &column("timestamptz", 6)), Ok(()));
    }

    #[test]
    fn texts_go_where_the_server_reads_them() {
        for word in ["text", "uuid", "inet", "", "xml", "jsonb"] {
            assert_eq!(fits(DataType::Text, &column(word, -1)), Ok(()), "{word}");
        }
        for word in ["int4", "date", "bool", "bytea"] {
            assert!(fits(DataType::Text, &column(word, -1)).is_err(), "{word}");
        }
        assert_eq!(fits(DataType::Bytes, &column("varchar", 14)), Ok(()));
        assert!(fits(DataType::Json, &column("hstore", -1)).is_err());
    }
}
