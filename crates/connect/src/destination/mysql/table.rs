//! The table that is delivered to: what it has, what lacks, and what does not fit.
//!
//! The law: what a strict session would take and change is refused here, or row by row where it depends on the value (microseconds
//! of a column that has none, blanks that make a text too long). What a column cannot hold the server refuses row by row, in its own
//! words.

use async_trait::async_trait;
use relation::DataType;

use crate::destination::cells::Room;
use crate::destination::columns::{About, Table};
use crate::destination::kind::At;
use crate::destination::tables::Dialect;
use crate::destination::{Down, Field, Problem, Target};
use crate::source::Check;
use crate::source::mysql::MysqlConfig;
use crate::source::mysql::client::{Wire, WireError};

use super::down;

/// A column over there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Column {
    about: About,
    /// Its type in one word.
    word: String,
    /// Numbered by the server.
    is_numbered: bool,
    /// Digits behind the point, of a decimal.
    scale: Option<i32>,
    /// Digits of fractions of a second.
    fraction: Option<u8>,
    /// Of texts.
    room: Option<Room>,
    collation: String,
}

/// A unique key over there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Unique {
    name: String,
    /// Sorted.
    columns: Vec<String>,
    /// It is of the whole of its columns.
    is_whole: bool,
}

/// A table over there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Described {
    /// Its database and its name, quoted.
    name: String,
    kind: String,
    engine: String,
    has_transactions: bool,
    columns: Vec<Column>,
    unique: Vec<Unique>,
}

/// How a literal of a field is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Literal {
    /// As it is.
    Number,
    /// In quotes.
    Text,
    /// As hexadecimal digits.
    Bytes,
}

pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal of a session without backslashes.
pub(super) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Where a target's table is: its database and its name.
pub(super) struct Place {
    pub(super) database: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(target: &Target, config: &MysqlConfig) -> Result<Self, Down> {
        let ours = |problem: Problem| Down::lasting(problem.failure());
        let (database, name) = target.table().map_err(ours)?;
        let database = database.unwrap_or(&config.database);
        if database.is_empty() {
            let problem = Problem::new(At::To("table".to_owned()), format!("the table `{name}` is in no database"));
            return Err(ours(problem.hint("Give the connection a `database`, or write `table: database.table`.")));
        }
        Ok(Self { database: database.to_owned(), name: name.to_owned() })
    }

    /// Quoted.
    pub(super) fn full_name(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }
}

const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];
const TEXTS: [&str; 6] = ["char", "varchar", "tinytext", "text", "mediumtext", "longtext"];
const BYTES: [&str; 6] = ["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"];
/// Types whose values are no texts.
const OF_VALUES: [&str; 17] = [
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "bigint",
    "decimal",
    "float",
    "double",
    "bit",
    "year",
    "date",
    "time",
    "datetime",
    "timestamp",
    "geometry",
    "point",
    "vector",
];

/// Whether a column holds values of a type as they are. Errors: what would become of them, as a sentence.
fn fits(data_type: DataType, column: &Column) -> Result<(), String> {
    let word = column.word.as_str();
    let when = |is_right: bool| if is_right { Ok(()) } else { Err("Its values are none of the column's.".to_owned()) };
    let rounds = |it_does: bool| if it_does { Err("Its values would be rounded.".to_owned()) } else { Ok(()) };
    let is_integer = INTEGERS.contains(&word);
    match data_type {
        _ if TEXTS.contains(&word) => Ok(()),
        DataType::Bool => when(is_integer),
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt64 => match word {
            "decimal" => Ok(()),
            "double" => rounds(matches!(data_type, DataType::Int64 | DataType::UInt64)),
            "float" => rounds(data_type != DataType::Int16),
            _ => when(is_integer),
        },
        DataType::Float32 | DataType::Float64 => match word {
            "double" => Ok(()),
            "float" => rounds(data_type == DataType::Float64),
            "decimal" => rounds(true),
            _ => when(false),
        },
        DataType::Decimal { scale, .. } => match word {
            "decimal" => rounds(column.scale.is_some_and(|of| of < i32::from(scale))),
            "double" | "float" => rounds(true),
            _ if is_integer => rounds(scale > 0),
            _ => when(false),
        },
        DataType::Text => when(!OF_VALUES.contains(&word) && !BYTES.contains(&word)),
        DataType::Json | DataType::Array(_) => when(word == "json"),
        DataType::Bytes => when(BYTES.contains(&word)),
        DataType::Date => when(matches!(word, "date" | "datetime")),
        DataType::Time => when(word == "time"),
        DataType::Timestamp | DataType::TimestampTz => when(matches!(word, "datetime" | "timestamp")),
        DataType::Interval => when(false),
    }
}

/// The type of a column that is made for values of a type. Errors: there is none, as a clause.
pub(super) fn made(data_type: DataType) -> Result<String, String> {
    Ok(match data_type {
        DataType::Bool => "BOOLEAN".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 | DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal { precision, scale } => {
            let scale_shown = scale.max(0);
            let digits = i16::from(precision) - i16::from(scale.min(0));
            if digits > 65 || scale_shown > 30 {
                return Err(format!(
                    "MySQL has decimals of 65 digits, 30 of them behind the point, and no {data_type}"
                ));
            }
            format!("DECIMAL({digits},{scale_shown})")
        }
        DataType::Text => "LONGTEXT".to_owned(),
        DataType::Json | DataType::Array(_) => "JSON".to_owned(),
        DataType::Bytes => "LONGBLOB".to_owned(),
        DataType::Date => "DATE".to_owned(),
        DataType::Time => "TIME(6)".to_owned(),
        DataType::Timestamp | DataType::TimestampTz => "DATETIME(6)".to_owned(),
        DataType::Interval => "VARCHAR(80)".to_owned(),
    })
}

/// The type of a column that is made for a part of the key: of a length that an index takes, and where bytes alone tell texts apart.
fn made_key(data_type: DataType, parts: usize, is_mariadb: bool) -> Result<String, String> {
    const INDEX_BYTES: usize = 3_072;
    let bytes = INDEX_BYTES / parts.max(1) - 16;
    let collation = if is_mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
    match data_type {
        DataType::Text => Ok(format!("VARCHAR({}) CHARACTER SET utf8mb4 COLLATE {collation}", (bytes / 4).min(512))),
        DataType::Bytes => Ok(format!("VARBINARY({})", bytes.min(1_024))),
        other => made(other),
    }
}

impl Table for Described {
    type Column = Column;

    fn full_name(&self) -> String {
        self.name.clone()
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

    /// Names of columns are the same in any case.
    fn is_same(one: &str, other: &str) -> bool {
        one.to_lowercase() == other.to_lowercase()
    }

    fn fits(data_type: DataType, column: &Column) -> Result<(), String> {
        fits(data_type, column)
    }

    /// Types that it has none for are refused before.
    fn made(data_type: DataType) -> String {
        made(data_type).unwrap_or_default()
    }

    fn change(column: &str, made: &str) -> String {
        format!("MODIFY {column} {made}")
    }
}

impl Described {
    /// How values of a field are written, so that they are compared as the column compares.
    pub(super) fn literal(&self, field: &Field) -> Literal {
        let word = self.column(&field.target).map_or("", |column| column.word.as_str());
        let is_number = INTEGERS.contains(&word) || matches!(word, "decimal" | "double" | "float");
        match field.data_type {
            DataType::Bytes if BYTES.contains(&word) => Literal::Bytes,
            DataType::Bool
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal { .. }
                if is_number =>
            {
                Literal::Number
            }
            _ => Literal::Text,
        }
    }

    /// Digits of fractions of a second that a field's column has; none where it is no time.
    pub(super) fn fraction(&self, field: &Field) -> Option<u8> {
        self.column(&field.target)?.fraction
    }

    /// How long a text a field's column takes; none where it is none of texts.
    pub(super) fn room(&self, field: &Field) -> Option<Room> {
        self.column(&field.target)?.room
    }

    /// What keeps the target's rows out.
    fn problems(&self, target: &Target) -> Vec<Problem> {
        let name = &self.name;
        if !matches!(self.kind.as_str(), "BASE TABLE" | "SYSTEM VERSIONED") {
            let problem = Problem::new(At::To("table".to_owned()), format!("{name} is no table"));
            return vec![problem.hint("Rows are upserted into tables, not into views.")];
        }
        if !self.has_transactions {
            let message = format!("{name} is of the engine {}, which has no transactions", self.engine);
            let problem = Problem::new(At::To("table".to_owned()), message);
            return vec![problem.hint(format!("ALTER TABLE {name} ENGINE = InnoDB"))];
        }
        let mut found = self.column_problems(target);
        let keys: Vec<&str> = target.mapping.key_fields().map(|field| field.target.as_str()).collect();
        found.extend(self.key_problems(&keys, name));
        found
    }

    fn key_problems(&self, keys: &[&str], name: &str) -> Vec<Problem> {
        let mut wanted: Vec<String> = keys.iter().map(|key| key.to_lowercase()).collect();
        wanted.sort_unstable();
        let is_ours = |unique: &&Unique| unique.is_whole && unique.columns == wanted;
        let mut found = Vec::new();
        if !self.unique.iter().any(|unique| is_ours(&unique)) {
            let list = keys.iter().map(|key| quoted(key)).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(At::Sync, format!("{name} has no unique key of ({list})"));
            let hint = format!("ALTER TABLE {name} ADD UNIQUE KEY ({list})");
            found.push(problem.detail("Rows are found by it.").hint(hint));
        }
        let is_filled = |column: &String| self.column(column).is_some_and(|column| column.is_numbered);
        let is_delivered = |column: &String| wanted.contains(column);
        for unique in self.unique.iter().filter(|unique| !is_ours(unique)) {
            // A number that the server gives, and we do not, is in nobody's way.
            if unique.columns.iter().any(|column| is_filled(column) && !is_delivered(column)) {
                continue;
            }
            let message = format!("{name} has a further unique key, {}", quoted(&unique.name));
            let detail = "A row with the same value there would be written over, whatever its key is.";
            let hint = format!("ALTER TABLE {name} DROP KEY {}; or deliver to another table", quoted(&unique.name));
            found.push(Problem::new(At::Sync, message).detail(detail).hint(hint));
        }
        found
    }

    /// What is worth knowing.
    fn notes(&self, target: &Target) -> Vec<Check> {
        let is_loose = |column: &&Column| {
            let collation = &column.collation;
            TEXTS.contains(&column.word.as_str()) && !collation.ends_with("_bin") && collation != "binary"
        };
        let keys = target.mapping.key_fields().filter_map(|field| self.column(&field.target));
        let note = |column: &Column| {
            Check::warning(
                "key",
                format!("keys that {} takes for equal are one row of {}", column.collation, self.name),
                "Texts that differ in case, accents or blanks at their end are told apart here, and not by that collation.",
                format!("ALTER TABLE {} MODIFY {} … COLLATE utf8mb4_bin", self.name, quoted(&column.about.name)),
            )
        };
        keys.filter(is_loose).map(note).collect()
    }
}

/// The table of a target, if there is one.
async fn describe(wire: &mut Wire, place: &Place) -> Result<Option<Described>, WireError> {
    let here = format!("table_schema = {} AND table_name = {}", text(&place.database), text(&place.name));
    let sql = format!(
        "SELECT table_type, COALESCE(t.engine, ''), COALESCE(e.transactions, '') FROM information_schema.tables t \
         LEFT JOIN information_schema.engines e ON e.engine = t.engine WHERE {here}"
    );
    let mut rows = wire.query(&sql).await?.rows.into_iter().map(texts);
    let Some([kind, engine, transactions]) = rows.next().and_then(|row| <[String; 3]>::try_from(row).ok()) else {
        return Ok(None);
    };
    let sql = format!(
        "SELECT column_name, LOWER(data_type), column_type, \
         is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%', extra, \
         COALESCE(numeric_scale, ''), COALESCE(datetime_precision, ''), COALESCE(collation_name, ''), \
         COALESCE(character_maximum_length, '') \
         FROM information_schema.columns WHERE {here} ORDER BY ordinal_position"
    );
    let columns = wire.query(&sql).await?.rows.into_iter().map(texts).filter_map(|row| {
        let [name, word, shown, needed, extra, scale, fraction, collation, length] =
            <[String; 9]>::try_from(row).ok()?;
        let extra = extra.to_ascii_uppercase();
        let is_computed = ["VIRTUAL", "STORED", "PERSISTENT"].iter().any(|of| extra.contains(of));
        // An expression is a default as well, and is not told as one.
        let has_default = extra.contains("DEFAULT_GENERATED");
        let room = length.parse().ok().and_then(|length| match word.as_str() {
            "char" | "varchar" => Some(Room::Chars(length)),
            word => TEXTS.contains(&word).then_some(Room::Bytes(length)),
        });
        let is_needed = needed == "1" && !is_computed && !has_default;
        Some(Column {
            about: About { name, shown, is_needed, is_computed },
            is_numbered: extra.contains("AUTO_INCREMENT"),
            scale: scale.parse().ok().filter(|_| word == "decimal"),
            fraction: fraction.parse().ok(),
            room,
            word,
            collation,
        })
    });
    let columns = columns.collect();
    let sql = format!(
        "SELECT index_name, COALESCE(column_name, ''), sub_part IS NULL AND column_name IS NOT NULL \
         FROM information_schema.statistics WHERE {here} AND non_unique = 0 ORDER BY index_name, seq_in_index"
    );
    let mut unique: Vec<Unique> = Vec::new();
    for row in wire.query(&sql).await?.rows.into_iter().map(texts) {
        let [name, column, is_whole] = <[String; 3]>::try_from(row).unwrap_or_default();
        let (column, is_whole) = (column.to_lowercase(), is_whole == "1");
        match unique.last_mut().filter(|last| last.name == name) {
            Some(last) => {
                last.columns.push(column);
                last.is_whole &= is_whole;
            }
            None => unique.push(Unique { name, columns: vec![column], is_whole }),
        }
    }
    unique.iter_mut().for_each(|unique| unique.columns.sort_unstable());
    let (name, has_transactions) = (place.full_name(), transactions == "YES");
    Ok(Some(Described { name, kind, engine, has_transactions, columns, unique }))
}

fn texts(row: Vec<Option<String>>) -> Vec<String> {
    row.into_iter().map(Option::unwrap_or_default).collect()
}

/// A target's table on a server of MySQL or MariaDB.
pub(super) struct OnServer<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) target: &'a Target,
    pub(super) place: &'a Place,
    pub(super) config: &'a MysqlConfig,
}

#[async_trait]
impl Dialect for OnServer<'_> {
    type Table = Described;

    fn name(&self) -> Result<String, Down> {
        Ok(self.place.full_name())
    }

    async fn describe(&mut self) -> Result<Option<Described>, Down> {
        describe(self.wire, self.place).await.map_err(|error| down(&error, self.config))
    }

    async fn no_home(&mut self) -> Result<Option<Problem>, Down> {
        no_database(self.wire, self.place).await.map_err(|error| down(&error, self.config))
    }

    fn creation(&self) -> Result<String, Down> {
        Ok(creation(self.target, self.place, self.wire.server.mariadb))
    }

    async fn execute(&mut self, statements: Vec<String>) -> Result<(), Down> {
        for sql in statements {
            self.wire.execute(&sql).await.map_err(|error| down(&error, self.config))?;
        }
        Ok(())
    }

    fn problems(&self, table: &Described) -> Vec<Problem> {
        table.problems(self.target)
    }

    fn notes(&self, table: &Described) -> Vec<Check> {
        table.notes(self.target)
    }
}

/// Says that even the database of the table is not there, where it is so. One that the user may not see is told of as well.
async fn no_database(wire: &mut Wire, place: &Place) -> Result<Option<Problem>, WireError> {
    let sql = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {}", text(&place.database));
    let name = quoted(&place.database);
    Ok(wire.query(&sql).await?.rows.is_empty().then(|| {
        Problem::new(At::To("table".to_owned()), format!("database {name} does not exist, or cannot be seen"))
            .detail("A user sees the databases on which it has a privilege.")
            .hint(format!(
                "Correct `table` of the sync or `database` of the connection, or: CREATE DATABASE {name}; \
                 GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER ON {name}.* TO …"
            ))
    }))
}

/// The statement that makes a target's table.
fn creation(target: &Target, place: &Place, is_mariadb: bool) -> String {
    let keys: Vec<&str> = target.mapping.key_fields().map(|field| field.target.as_str()).collect();
    let column = |field: &Field| {
        let name = quoted(&field.target);
        match keys.contains(&field.target.as_str()) {
            true => {
                format!("{name} {} NOT NULL", made_key(field.data_type, keys.len(), is_mariadb).unwrap_or_default())
            }
            false => format!("{name} {}", made(field.data_type).unwrap_or_default()),
        }
    };
    let columns: Vec<String> = target.mapping.fields().iter().map(column).collect();
    let list: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        place.full_name(),
        columns.join(", "),
        list.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(word: &str, scale: Option<i32>) -> Column {
        let about = About { name: "c".to_owned(), ..About::default() };
        Column { about, word: word.to_owned(), scale, ..Column::default() }
    }

    #[test]
    fn what_would_be_rounded_does_not_fit() {
        let money = DataType::Decimal { precision: 12, scale: 4 };
        assert!(fits(money, &column("decimal", Some(2))).is_err());
        assert_eq!(fits(money, &column("decimal", Some(4))), Ok(()));
        assert!(fits(money, &column("double", None)).is_err());
        assert!(fits(money, &column("int", None)).is_err());
        assert!(fits(DataType::Int64, &column("double", None)).is_err());
        assert_eq!(fits(DataType::Int32, &column("double", None)), Ok(()));
        assert!(fits(DataType::Text, &column("int", None)).is_err());
        assert_eq!(fits(DataType::Text, &column("enum", None)), Ok(()));
    }

    #[test]
    fn keys_are_as_long_as_an_index_takes() {
        assert_eq!(
            made_key(DataType::Text, 1, true).as_deref(),
            Ok("VARCHAR(512) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin")
        );
        assert_eq!(
            made_key(DataType::Text, 3, false).as_deref(),
            Ok("VARCHAR(252) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin")
        );
        assert_eq!(made(DataType::Decimal { precision: 20, scale: -5 }).as_deref(), Ok("DECIMAL(25,0)"));
        assert!(made(DataType::Decimal { precision: 66, scale: 0 }).is_err());
    }

    #[test]
    fn further_unique_keys_are_in_the_way_unless_the_server_fills_them() {
        let unique = |name: &str, column: &str| Unique {
            name: name.to_owned(),
            columns: vec![column.to_owned()],
            is_whole: true,
        };
        let mut id = Column { is_numbered: true, ..column("int", None) };
        "id".clone_into(&mut id.about.name);
        let described = Described {
            columns: vec![id],
            unique: vec![unique("PRIMARY", "id"), unique("u", "user_id")],
            ..Described::default()
        };
        assert_eq!(described.key_problems(&["user_id"], "t"), []);
        let messages = |keys: &[&str]| -> Vec<String> {
            described.key_problems(keys, "t").into_iter().map(|problem| problem.message).collect()
        };
        assert_eq!(messages(&["id"]), ["t has a further unique key, `u`"]);
        assert_eq!(messages(&["x"]), ["t has no unique key of (`x`)", "t has a further unique key, `u`"]);
    }
}
