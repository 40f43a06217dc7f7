//! A column in a statement: its name, its type by whatever name, its attributes, and where it goes.
//!
//! The law: what becomes of a type is what `information_schema` would say of the column: one name of each, with its length where rows
//! are read by it.

use crate::source::mysql::SourceColumn;
use crate::source::mysql::log::Token;

use super::super::schema::charset_of;
use super::parse::Reader;

/// A column as a statement defines it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Definition {
    pub(crate) column: SourceColumn,
    /// It is text, whose charset is the table's where it says none.
    pub(crate) is_text: bool,
    pub(crate) is_key: bool,
}

/// Where a column goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Place {
    #[default]
    Unsaid,
    First,
    After(String),
}

impl Reader<'_> {
    /// A column's name and definition, and where it goes.
    pub(super) fn definition(&mut self) -> Option<(Definition, Place)> {
        let name = self.identifier()?;
        let mut definition = self.data_type()?;
        definition.column.name = name;
        let place = self.attributes(&mut definition);
        Some((definition, place))
    }

    fn data_type(&mut self) -> Option<Definition> {
        let mut words = vec![self.identifier()?.to_lowercase()];
        let is_national = matches!(words[0].as_str(), "national" | "nchar" | "nvarchar");
        // Types of several words.
        match words[0].as_str() {
            "double" => drop(self.lexer.accept("PRECISION")),
            "national" => words = vec![self.identifier()?.to_lowercase()],
            "long" => {
                let more = ["VARCHAR", "VARBINARY", "VARCHARACTER", "CHAR", "CHARACTER"];
                words.extend(more.into_iter().find(|word| self.lexer.accept(word)).map(str::to_lowercase));
            }
            _ => {}
        }
        if matches!(words[0].as_str(), "char" | "character" | "nchar") {
            let is_varying =
                self.lexer.accept("VARYING") || words[0] == "nchar" && self.lexer.any_of(&["VARCHAR", "VARCHARACTER"]);
            if words[0] == "char" && self.lexer.accept("BYTE") {
                words = vec!["binary".to_owned()];
            } else if is_varying {
                words = vec!["varchar".to_owned()];
            }
        }
        if words[0] == "long" {
            self.lexer.accept("VARYING");
        }
        let arguments = self.arguments();
        let mut definition = typed(&words.join(" "), &arguments, self.mariadb);
        if is_national {
            definition.column.charset = Some("utf8".to_owned());
        }
        if self.lexer.accept("BYTE") {
            to_binary(&mut definition);
        }
        Some(definition)
    }

    /// What stands in parentheses: numbers, or labels.
    fn arguments(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.lexer.sign('(') {
            return out;
        }
        let mut depth = 1_u32;
        while let Some(token) = self.lexer.next() {
            match token {
                Token::Sign('(') => depth = depth.saturating_add(1),
                Token::Sign(')') => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                Token::Sign(_) => {}
                Token::Word(word) => out.push(word.to_owned()),
                Token::Name(text) | Token::Text(text) => out.push(text.into_owned()),
            }
        }
        out
    }

    /// The attributes of a column, up to the comma or the parenthesis behind them.
    fn attributes(&mut self, definition: &mut Definition) -> Place {
        let mut place = Place::Unsaid;
        let mut is_unique = false;
        while let Some(token) = self.lexer.peek() {
            match token {
                Token::Sign(',' | ')') => break,
                Token::Sign('(') => {
                    self.arguments();
                    continue;
                }
                _ => {}
            }
            let Some(Token::Word(word)) = self.lexer.next() else { continue };
            match word.to_ascii_uppercase().as_str() {
                "UNSIGNED" | "ZEROFILL" if !definition.column.column_type.contains("unsigned") => {
                    definition.column.column_type.push_str(" unsigned");
                }
                "BINARY" | "ASCII" | "UNICODE" if definition.is_text => match word.to_ascii_uppercase().as_str() {
                    "ASCII" => definition.column.charset = Some("latin1".to_owned()),
                    "UNICODE" => definition.column.charset = Some("ucs2".to_owned()),
                    _ => {}
                },
                "CHARSET" => self.charset_of_column(definition),
                "CHARACTER" if self.lexer.accept("SET") => self.charset_of_column(definition),
                "COLLATE" => {
                    let collation = self.word_or_text().unwrap_or_default();
                    if definition.is_text && definition.column.charset.is_none() {
                        definition.column.charset = charset_of(&collation);
                    }
                }
                "NOT" if self.lexer.accept("NULL") => definition.column.nullable = false,
                "PRIMARY" => {
                    self.lexer.accept("KEY");
                    definition.is_key = true;
                }
                "UNIQUE" => {
                    is_unique = true;
                    self.lexer.accept("KEY");
                }
                "KEY" if !is_unique => definition.is_key = true,
                "DEFAULT" => self.default(),
                "COMMENT" => drop(self.lexer.next()),
                "CHECK" => {
                    let arguments = self.arguments();
                    definition.column.is_mariadb_json |=
                        arguments.first().is_some_and(|word| word.eq_ignore_ascii_case("json_valid"));
                }
                "REFERENCES" => drop(self.name()),
                "FIRST" => place = Place::First,
                "AFTER" => place = self.identifier().map_or(Place::Unsaid, Place::After),
                _ => {}
            }
        }
        place
    }

    /// A default's value, which may be a word that means something else elsewhere.
    fn default(&mut self) {
        while self.lexer.sign('-') || self.lexer.sign('+') {}
        match self.lexer.peek() {
            Some(Token::Sign('(')) => drop(self.arguments()),
            Some(Token::Word(_) | Token::Text(_) | Token::Name(_)) => {
                self.lexer.next();
                // `b'0'`, `_utf8'x'`, `1.5`, `now(6)`.
                if matches!(self.lexer.peek(), Some(Token::Text(_))) {
                    self.lexer.next();
                }
                while self.lexer.sign('.') {
                    self.lexer.next();
                }
                self.arguments();
            }
            Some(Token::Sign(_)) | None => {}
        }
    }

    fn charset_of_column(&mut self, definition: &mut Definition) {
        self.lexer.sign('=');
        let charset = self.word_or_text().map(|charset| charset.to_lowercase());
        if definition.is_text {
            definition.column.charset = charset;
        }
    }
}

/// A column of a type, by the type's one name.
fn typed(word: &str, arguments: &[String], mariadb: bool) -> Definition {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
    let mut column = SourceColumn { nullable: true, ..SourceColumn::default() };
    let mut sign = "";
    let name = match word {
        "bool" | "boolean" | "int1" => "tinyint",
        "int2" => "smallint",
        "int3" | "middleint" => "mediumint",
        "int4" | "integer" => "int",
        "int8" => "bigint",
        "serial" => {
            sign = " unsigned";
            column.nullable = false;
            "bigint"
        }
        "float4" => "float",
        "float" if number(0).is_some_and(|bits| bits > 24) && arguments.len() == 1 => "double",
        "real" | "float8" | "double" => "double",
        "numeric" | "fixed" | "dec" => "decimal",
        "character" | "nchar" => "char",
        "nvarchar" | "varying" | "varcharacter" => "varchar",
        "long" | "long varchar" | "long varcharacter" | "long char" | "long character" => "mediumtext",
        "long varbinary" => "mediumblob",
        "geomcollection" => "geometrycollection",
        "text" => sized(number(0), ["tinytext", "text", "mediumtext", "longtext"]),
        "blob" => sized(number(0), ["tinyblob", "blob", "mediumblob", "longblob"]),
        "json" if mariadb => {
            column.is_mariadb_json = true;
            column.charset = Some("utf8mb4".to_owned());
            "longtext"
        }
        other => other,
    };
    let labels = || {
        let quoted: Vec<String> = arguments.iter().map(|label| format!("'{}'", label.replace('\'', "''"))).collect();
        format!("({})", quoted.join(","))
    };
    let arguments = match name {
        "enum" | "set" => labels(),
        "decimal" => format!("({},{})", number(0).unwrap_or(10), number(1).unwrap_or(0)),
        "datetime" | "timestamp" | "time" | "char" | "varchar" | "binary" | "varbinary" | "bit" => {
            number(0).map(|number| format!("({number})")).unwrap_or_default()
        }
        _ => String::new(),
    };
    column.data_type = name.to_owned();
    column.column_type = format!("{name}{arguments}{sign}");
    let is_text = matches!(name, "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "set");
    Definition { column, is_text, is_key: false }
}

/// The smallest of four types that holds so many bytes.
fn sized(bytes: Option<u64>, types: [&str; 4]) -> &str {
    match bytes {
        Some(0) | None => types[1],
        Some(..=255) => types[0],
        Some(..=65_535) => types[1],
        Some(..=16_777_215) => types[2],
        Some(_) => types[3],
    }
}

/// The type of bytes that a type of text has beside it.
pub(crate) fn to_binary(definition: &mut Definition) {
    let column = &mut definition.column;
    let bytes = match column.data_type.as_str() {
        "char" => "binary",
        "varchar" => "varbinary",
        "tinytext" => "tinyblob",
        "text" => "blob",
        "mediumtext" => "mediumblob",
        "longtext" => "longblob",
        _ => return,
    };
    column.column_type = column.column_type.replacen(column.data_type.as_str(), bytes, 1);
    column.data_type = bytes.to_owned();
    column.charset = None;
    definition.is_text = false;
}
