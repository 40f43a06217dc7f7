//! The table that is delivered to: what it has, what lacks, and what does not fit.
//!
//! The law: what a column would take and change is refused here. A number beyond a column's range, a text that is too long, a word
//! that an enum does not know: these the server refuses row by row, in its own words.

use async_trait::async_trait;
use relation::DataType;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::destination::cells::Room;
use crate::destination::columns::{About, Table};
use crate::destination::kind::At;
use crate::destination::tables::Dialect;
use crate::destination::{Down, Field, MARKERS, Problem, Target};

use super::client::down;
use super::config::Config;

/// A column over there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    about: About,
    /// The type below domains, quoted and without lengths.
    base: String,
    /// Its name if it is one of the system's own types, else empty.
    word: String,
    /// What goes with the type: a length, or digits and scale.
    modifier: i32,
    /// Numbered by the server, whatever others say.
    is_numbered: bool,
    rights: Rights,
}

/// What we may do with a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    select: bool,
    insert: bool,
    update: bool,
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
    /// We may take rows out of it.
    may_delete: bool,
    /// A privilege on the table as a whole, and not on columns of it, lets us hold it.
    pub(super) may_lock: bool,
    /// It is ours, so that we may add columns.
    is_owned: bool,
    columns: Vec<Column>,
    /// The columns of each unique index by which rows can be found.
    unique: Vec<Vec<String>>,
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Table for Described {
    type Column = Column;

    fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn about(column: &Column) -> &About {
        &column.about
    }

    fn quoted(name: &str) -> String {
        quoted(name)
    }

    fn is_same(one: &str, other: &str) -> bool {
        one == other
    }

    fn fits(data_type: DataType, column: &Column) -> Result<(), String> {
        fits(data_type, column)
    }

    fn made(data_type: DataType) -> String {
        made(data_type)
    }

    fn change(column: &str, made: &str) -> String {
        format!("ALTER COLUMN {column} TYPE {made}")
    }
}

impl Described {
    /// How long a text a field's column takes; none where it takes any, or is none of texts.
    pub(super) fn room(&self, field: &Field) -> Option<Room> {
        let column = self.column(&field.target)?;
        // Four bytes of it are the length's own.
        let chars = usize::try_from(column.modifier.checked_sub(4)?).ok()?;
        matches!(column.word.as_str(), "varchar" | "bpchar").then_some(Room::Chars(chars))
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

    /// What keeps the target's rows out.
    fn problems(&self, target: &Target, user: &str) -> Vec<Problem> {
        let name = self.full_name();
        if !matches!(self.kind.as_str(), "r" | "p") {
            let problem = Problem::new(At::To("table".to_owned()), format!("{name} is no table"));
            return vec![problem.hint("Rows are upserted into tables, not into views.")];
        }
        let mut found = self.column_problems(target);
        let keys: Vec<&str> = target.mapping.key_fields().map(|field| field.target.as_str()).collect();
        let mut wanted = keys.clone();
        wanted.sort_unstable();
        if !self.unique.iter().any(|columns| *columns == wanted) {
            let list = keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(At::Sync, format!("{name} has no unique key of ({list})"));
            let problem = problem.detail("Rows are found by it.");
            found.push(problem.hint(format!("CREATE UNIQUE INDEX ON {name} ({list})")));
        }
        found.extend(self.lacking_rights(target, user));
        found
    }

    /// Privileges on the table without which the first row, or the first delete, would fail.
    fn lacking_rights(&self, target: &Target, user: &str) -> Option<Problem> {
        let of = |field: &Field| self.column(&field.target).map(|column| column.rights);
        let all = |may: fn(&Rights) -> bool| target.mapping.fields().iter().filter_map(of).all(|rights| may(&rights));
        // Rows are found by their keys, and whether there is any is asked as well.
        let may_select = target.mapping.key_fields().filter_map(of).all(|rights| rights.select);
        let has_others = target.mapping.fields().len() > target.mapping.key().len();
        let rights = [
            ("SELECT", may_select),
            ("INSERT", all(|rights| rights.insert)),
            ("UPDATE", !has_others || all(|rights| rights.update)),
            ("DELETE", !target.deletes || self.may_delete),
        ];
        let lacking: Vec<&str> = rights.iter().filter(|(_, may)| !may).map(|(right, _)| *right).collect();
        (!lacking.is_empty()).then(|| {
            let (name, list, user) = (self.full_name(), lacking.join(", "), quoted(user));
            let problem = Problem::new(At::To("table".to_owned()), format!("user {user} may not {list} on {name}"));
            problem.hint(format!("GRANT {list} ON {name} TO {user}"))
        })
    }

    /// Columns lack that are to be made, and the table is not ours.
    fn not_ours(&self, target: &Target, user: &str) -> Option<Problem> {
        let lacking = self.missing(target);
        (!self.is_owned && !lacking.is_empty()).then(|| {
            let (name, user) = (self.full_name(), quoted(user));
            let additions: Vec<String> = lacking.into_iter().map(|field| self.addition(field)).collect();
            let message = format!("user {user} may not add columns to {name}: it is not the owner");
            Problem::new(At::To("create".to_owned()), message).hint(additions.join("; "))
        })
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

const TABLE: &str = "SELECT c.oid::text, quote_ident(n.nspname), quote_ident(c.relname), c.relkind::text, \
                     has_table_privilege(c.oid, 'DELETE')::text, \
                     has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')::text, pg_has_role(c.relowner, 'USAGE')::text \
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
     (a.attidentity = 'a')::text, has_column_privilege(a.attrelid, a.attnum, 'SELECT')::text, \
     has_column_privilege(a.attrelid, a.attnum, 'INSERT')::text, has_column_privilege(a.attrelid, a.attnum, 'UPDATE')::text \
     FROM below b JOIN pg_type t ON t.oid = b.type AND t.typtype <> 'd' JOIN pg_namespace n ON n.oid = t.typnamespace \
     JOIN pg_attribute a ON a.attrelid = $1::text::oid AND a.attnum = b.attnum ORDER BY a.attnum";
const UNIQUE: &str = "SELECT i.indexrelid::text, a.attname::text FROM pg_index i \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
     WHERE i.indrelid = $1::text::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
     AND i.indexprs IS NULL ORDER BY 1, 2";

/// The name of a target's table, quoted.
pub(super) fn name_of(target: &Target) -> Result<String, Down> {
    let (schema, name) = target.table().map_err(|problem| Down::lasting(problem.failure()))?;
    Ok(schema.map(|schema| format!("{}.", quoted(schema))).unwrap_or_default() + &quoted(name))
}

/// Rows of a question with one text as its parameter.
async fn ask(client: &Client, sql: &str, parameter: &str, config: &Config) -> Result<Vec<Vec<String>>, Down> {
    ask_by(client, sql, &[parameter.to_owned()], config).await
}

/// Rows of a question with texts as its parameters.
async fn ask_by(client: &Client, sql: &str, parameters: &[String], config: &Config) -> Result<Vec<Vec<String>>, Down> {
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
        parameters.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
    let rows = client.query_typed(sql, &parameters).await.map_err(|error| down(&error, config))?;
    let row = |row: &tokio_postgres::Row| -> Vec<String> {
        (0..row.len()).map(|i| row.try_get::<_, Option<String>>(i).ok().flatten().unwrap_or_default()).collect()
    };
    Ok(rows.iter().map(row).collect())
}

/// The table of a target, if there is one.
async fn describe(client: &Client, target: &Target, config: &Config) -> Result<Option<Described>, Down> {
    let found = ask(client, TABLE, &name_of(target)?, config).await?;
    let Some([oid, schema, name, kind, deletes, locks, owned]) =
        found.into_iter().next().and_then(|row| <[String; 7]>::try_from(row).ok())
    else {
        return Ok(None);
    };
    let [may_delete, may_lock, is_owned] = [deletes, locks, owned].map(|truth| truth == "true");
    let columns = ask(client, COLUMNS, &oid, config).await?.into_iter().filter_map(|row| {
        let [name, shown, base, word, modifier, needed, generated, numbered, select, insert, update] =
            <[String; 11]>::try_from(row).ok()?;
        let modifier = modifier.parse().unwrap_or(-1);
        let [is_needed, is_computed, is_numbered] = [needed, generated, numbered].map(|truth| truth == "true");
        let [select, insert, update] = [select, insert, update].map(|truth| truth == "true");
        let about = About { name, shown, is_needed, is_computed };
        Some(Column { about, base, word, modifier, is_numbered, rights: Rights { select, insert, update } })
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
    Ok(Some(Described { oid, schema, name, kind, may_delete, may_lock, is_owned, columns, unique }))
}

/// A target's table on a server of PostgreSQL.
pub(super) struct OnServer<'a> {
    pub(super) client: &'a Client,
    pub(super) target: &'a Target,
    pub(super) config: &'a Config,
}

#[async_trait]
impl Dialect for OnServer<'_> {
    type Table = Described;

    fn name(&self) -> Result<String, Down> {
        name_of(self.target)
    }

    async fn describe(&mut self) -> Result<Option<Described>, Down> {
        describe(self.client, self.target, self.config).await
    }

    async fn no_home(&mut self) -> Result<Option<Problem>, Down> {
        no_schema(self.client, self.target, self.config).await
    }

    async fn may_not_make(&mut self, table: Option<&Described>) -> Result<Option<Problem>, Down> {
        no_place(self.client, self.target, table, self.config).await
    }

    fn creation(&self) -> Result<String, Down> {
        creation(self.target)
    }

    /// All of them in one transaction.
    async fn execute(&mut self, statements: Vec<String>) -> Result<(), Down> {
        self.client.batch_execute(&statements.join("; ")).await.map_err(|error| down(&error, self.config))
    }

    fn problems(&self, table: &Described) -> Vec<Problem> {
        table.problems(self.target, &self.config.user)
    }

    fn not_ours(&self, table: &Described) -> Option<Problem> {
        table.not_ours(self.target, &self.config.user)
    }
}

/// Says that the markers' table, or the target's, is to be made and may not be; or that the markers' may not be written.
async fn no_place(
    client: &Client,
    target: &Target,
    described: Option<&Described>,
    config: &Config,
) -> Result<Option<Problem>, Down> {
    const PLACE: &str = "SELECT quote_ident(n.nspname), has_schema_privilege(n.oid, 'CREATE')::text, COALESCE((SELECT \
         (has_table_privilege(m.oid, 'SELECT') AND has_table_privilege(m.oid, 'INSERT') \
         AND has_table_privilege(m.oid, 'UPDATE'))::text \
         FROM pg_class m WHERE m.relnamespace = n.oid AND m.relname = $2), '') \
         FROM pg_namespace n WHERE n.nspname = COALESCE(NULLIF($1, ''), current_schema()::text)";
    let said = target.table().ok().and_then(|(schema, _)| schema.map(str::to_owned));
    // Of a table that is there it is known; else it is where the server would make it.
    let schema = match described {
        Some(described) => {
            const NAME: &str = "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                                WHERE c.oid = $1::text::oid";
            ask(client, NAME, &described.oid, config).await?.into_iter().flatten().next()
        }
        None => said,
    };
    let parameters = [schema.unwrap_or_default(), MARKERS.to_owned()];
    let Some([schema, may_create, may_write]) = ask_by(client, PLACE, &parameters, config)
        .await?
        .into_iter()
        .next()
        .and_then(|row| <[String; 3]>::try_from(row).ok())
    else {
        let problem = Problem::new(At::To("table".to_owned()), "the user has no schema in which a table could be made");
        return Ok(Some(problem.hint("Write `table: schema.table`.")));
    };
    let (user, lacks_markers) = (quoted(&config.user), may_write.is_empty());
    let made: Vec<String> = [
        described.is_none().then(|| name_of(target)).transpose()?,
        lacks_markers.then(|| format!("{schema}.{MARKERS}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !made.is_empty() && may_create != "true" {
        let message = format!("user {user} may not CREATE in schema {schema}");
        let problem = Problem::new(At::To("table".to_owned()), message);
        let problem = problem.detail(format!("To be made there: {}.", made.join(", ")));
        return Ok(Some(problem.hint(format!("GRANT CREATE ON SCHEMA {schema} TO {user}"))));
    }
    Ok((!lacks_markers && may_write != "true").then(|| {
        let message = format!("user {user} may not write {schema}.{MARKERS}");
        let problem = Problem::new(At::To("table".to_owned()), message);
        let problem = problem.detail("The markers of deliveries are kept there, beside the rows.");
        problem.hint(format!("GRANT SELECT, INSERT, UPDATE ON {schema}.{MARKERS} TO {user}"))
    }))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn column(word: &str, modifier: i32) -> Column {
        Column {
            about: About { name: "c".to_owned(), shown: word.to_owned(), ..About::default() },
            base: word.to_owned(),
            word: word.to_owned(),
            modifier,
            is_numbered: false,
            rights: Rights { select: true, insert: true, update: true },
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
