//! Definitions in statements: CREATE, ALTER, DROP and RENAME of tables and databases, as far as columns, keys and charsets go.
//!
//! The law: what is not known is passed over, up to the next comma that stands in no parentheses. Only a statement of which not even
//! the table can be read is none.

use crate::source::mysql::SourceColumn;
use crate::source::mysql::log::{Dialect, Lexer, Token};

use super::super::schema::charset_of;

/// A table's name with the database, if it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) database: Option<String>,
    pub(crate) name: String,
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    CreateDatabase {
        name: String,
        charset: Option<String>,
        if_absent: bool,
        replaces: bool,
    },
    /// None: the session's own.
    AlterDatabase {
        name: Option<String>,
        charset: Option<String>,
    },
    DropDatabase {
        name: String,
    },
    CreateTable {
        table: Name,
        if_absent: bool,
        replaces: bool,
        body: Body,
    },
    AlterTable {
        table: Name,
        edits: Vec<Edit>,
    },
    DropTables(Vec<Name>),
    RenameTables(Vec<(Name, Name)>),
}

/// What a table is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Like(Name),
    Columns { columns: Vec<Definition>, key: Vec<String>, charset: Option<String> },
}

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

/// One thing that an ALTER TABLE does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    Add(Definition, Place),
    Drop(String),
    /// It has another definition, and maybe another name.
    Change(String, Definition, Place),
    RenameColumn(String, String),
    Key(Vec<String>),
    DropKey,
    Rename(Name),
    /// Columns that are added later have this charset.
    Charset(String),
    /// All text has.
    Convert(Option<String>),
}

/// Reads a statement; none where it is none of these.
pub(crate) fn parse(text: &str, dialect: Dialect) -> Option<Change> {
    let mut reader = Reader { lexer: Lexer::new(text, dialect), mariadb: dialect.mariadb };
    reader.statement()
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    mariadb: bool,
}

fn is_word(token: &Token<'_>, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.eq_ignore_ascii_case(word))
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        let mut ahead = self.lexer;
        ahead.next()
    }

    fn accept(&mut self, word: &str) -> bool {
        let mut ahead = self.lexer;
        let is_next = ahead.next().is_some_and(|token| is_word(&token, word));
        if is_next {
            self.lexer = ahead;
        }
        is_next
    }

    fn any_of(&mut self, words: &[&str]) -> bool {
        words.iter().any(|word| self.accept(word))
    }

    fn sign(&mut self, sign: char) -> bool {
        let mut ahead = self.lexer;
        let is_next = ahead.next() == Some(Token::Sign(sign));
        if is_next {
            self.lexer = ahead;
        }
        is_next
    }

    fn identifier(&mut self) -> Option<String> {
        match self.lexer.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(name) => Some(name.into_owned()),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }

    /// A name or a string, as charsets are written.
    fn word_or_text(&mut self) -> Option<String> {
        match self.lexer.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(text) | Token::Text(text) => Some(text.into_owned()),
            Token::Sign(_) => None,
        }
    }

    fn name(&mut self) -> Option<Name> {
        if self.sign('.') {
            return Some(Name { database: None, name: self.identifier()? });
        }
        let first = self.identifier()?;
        Some(match self.sign('.') {
            true => Name { database: Some(first), name: self.identifier()? },
            false => Name { database: None, name: first },
        })
    }

    fn if_exists(&mut self) -> bool {
        if !self.accept("IF") {
            return false;
        }
        self.accept("NOT");
        self.accept("EXISTS")
    }

    fn wait(&mut self) {
        if self.accept("WAIT") {
            self.lexer.next();
        }
        self.accept("NOWAIT");
    }

    fn statement(&mut self) -> Option<Change> {
        if self.accept("CREATE") {
            return self.create();
        }
        if self.accept("ALTER") {
            return self.alter();
        }
        if self.accept("DROP") {
            return self.drop();
        }
        if self.accept("RENAME") && self.any_of(&["TABLE", "TABLES"]) {
            return self.rename();
        }
        if self.accept("SET") && self.accept("STATEMENT") {
            // MariaDB: variables for what follows.
            while !is_word(&self.lexer.next()?, "FOR") {}
            return self.statement();
        }
        None
    }

    fn create(&mut self) -> Option<Change> {
        let replaces = self.accept("OR") && self.accept("REPLACE");
        if self.any_of(&["DATABASE", "SCHEMA"]) {
            let if_absent = self.if_exists();
            let name = self.identifier()?;
            return Some(Change::CreateDatabase { name, charset: self.charset_option(), if_absent, replaces });
        }
        if !self.accept("TABLE") {
            return None;
        }
        let if_absent = self.if_exists();
        let table = self.name()?;
        let like = |body| Some(Change::CreateTable { table: table.clone(), if_absent, replaces, body });
        if self.accept("LIKE") {
            return like(Body::Like(self.name()?));
        }
        if !self.sign('(') {
            return None;
        }
        if self.accept("LIKE") {
            return like(Body::Like(self.name()?));
        }
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        loop {
            match self.table_element()? {
                Element::Column(definition) => columns.push(definition),
                Element::Key(names) => key = names,
                Element::Other => {}
            }
            if self.sign(',') {
                continue;
            }
            if self.sign(')') {
                break;
            }
            return None;
        }
        if key.is_empty() {
            key = columns.iter().filter(|column| column.is_key).map(|column| column.column.name.clone()).collect();
        }
        let charset = self.charset_option();
        let body = Body::Columns { columns, key, charset };
        Some(Change::CreateTable { table, if_absent, replaces, body })
    }

    /// What stands between two commas of a table's definition.
    fn table_element(&mut self) -> Option<Element> {
        const OTHERS: [&str; 7] = ["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"];
        const PAIRS: [(&str, [&str; 2]); 2] = [("VECTOR", ["INDEX", "KEY"]), ("PERIOD", ["FOR", "FOR"])];
        let before = self.lexer;
        if self.accept("CONSTRAINT") {
            let named = self.peek().is_some_and(|token| {
                !["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().any(|word| is_word(&token, word))
            });
            if named {
                self.lexer.next();
            }
        }
        if self.accept("PRIMARY") && self.accept("KEY") {
            let key = self.key_columns()?;
            self.pass();
            return Some(Element::Key(key));
        }
        let is_pair = |reader: &mut Self, (first, second): &(&str, [&str; 2])| {
            let before = reader.lexer;
            let is_pair = reader.accept(first) && reader.any_of(second);
            if !is_pair {
                reader.lexer = before;
            }
            is_pair
        };
        if self.any_of(&OTHERS) || PAIRS.iter().any(|pair| is_pair(self, pair)) {
            self.pass();
            return Some(Element::Other);
        }
        self.lexer = before;
        let (definition, _) = self.definition()?;
        Some(Element::Column(definition))
    }

    /// The columns of a key, behind whatever stands before its parentheses.
    fn key_columns(&mut self) -> Option<Vec<String>> {
        while !self.sign('(') {
            if matches!(self.peek()?, Token::Sign(_)) {
                return None;
            }
            self.lexer.next();
        }
        let mut names = Vec::new();
        loop {
            names.push(self.identifier()?);
            // The length of a prefix, an order.
            self.pass();
            if !self.sign(',') {
                break;
            }
        }
        self.sign(')').then_some(names)
    }

    /// Passes over all up to the comma or the parenthesis that ends what stands here.
    fn pass(&mut self) {
        let mut depth = 0_u32;
        loop {
            match self.peek() {
                None => return,
                Some(Token::Sign(',' | ')')) if depth == 0 => return,
                Some(Token::Sign('(')) => depth = depth.saturating_add(1),
                Some(Token::Sign(')')) => depth -= 1,
                Some(_) => {}
            }
            self.lexer.next();
        }
    }

    /// A column's name and definition, and where it goes.
    fn definition(&mut self) -> Option<(Definition, Place)> {
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
            "double" => drop(self.accept("PRECISION")),
            "national" => words = vec![self.identifier()?.to_lowercase()],
            "long" => {
                let more = ["VARCHAR", "VARBINARY", "VARCHARACTER", "CHAR", "CHARACTER"];
                words.extend(more.into_iter().find(|word| self.accept(word)).map(str::to_lowercase));
            }
            _ => {}
        }
        if matches!(words[0].as_str(), "char" | "character" | "nchar") {
            let is_varying = self.accept("VARYING") || words[0] == "nchar" && self.any_of(&["VARCHAR", "VARCHARACTER"]);
            if words[0] == "char" && self.accept("BYTE") {
                words = vec!["binary".to_owned()];
            } else if is_varying {
                words = vec!["varchar".to_owned()];
            }
        }
        if words[0] == "long" {
            self.accept("VARYING");
        }
        let arguments = self.arguments();
        let mut definition = typed(&words.join(" "), &arguments, self.mariadb);
        if is_national {
            definition.column.charset = Some("utf8".to_owned());
        }
        if self.accept("BYTE") {
            to_binary(&mut definition);
        }
        Some(definition)
    }

    /// What stands in parentheses: numbers, or labels.
    fn arguments(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        if !self.sign('(') {
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
        while let Some(token) = self.peek() {
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
                "CHARACTER" if self.accept("SET") => self.charset_of_column(definition),
                "COLLATE" => {
                    let collation = self.word_or_text().unwrap_or_default();
                    if definition.is_text && definition.column.charset.is_none() {
                        definition.column.charset = charset_of(&collation);
                    }
                }
                "NOT" if self.accept("NULL") => definition.column.nullable = false,
                "PRIMARY" => {
                    self.accept("KEY");
                    definition.is_key = true;
                }
                "UNIQUE" => {
                    is_unique = true;
                    self.accept("KEY");
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
        while self.sign('-') || self.sign('+') {}
        match self.peek() {
            Some(Token::Sign('(')) => drop(self.arguments()),
            Some(Token::Word(_) | Token::Text(_) | Token::Name(_)) => {
                self.lexer.next();
                // `b'0'`, `_utf8'x'`, `1.5`, `now(6)`.
                if matches!(self.peek(), Some(Token::Text(_))) {
                    self.lexer.next();
                }
                while self.sign('.') {
                    self.lexer.next();
                }
                self.arguments();
            }
            Some(Token::Sign(_)) | None => {}
        }
    }

    fn charset_of_column(&mut self, definition: &mut Definition) {
        self.sign('=');
        let charset = self.word_or_text().map(|charset| charset.to_lowercase());
        if definition.is_text {
            definition.column.charset = charset;
        }
    }

    /// The charset that the options of a table or a database name, if any.
    fn charset_option(&mut self) -> Option<String> {
        let mut found = None;
        while let Some(token) = self.lexer.next() {
            if is_word(&token, "SELECT") || is_word(&token, "PARTITION") {
                break;
            }
            if let Some(charset) = self.charset_behind(&token) {
                found = match charset {
                    Said::Charset(charset) => Some(charset),
                    Said::Collation(charset) => found.or(charset),
                };
            }
        }
        found
    }

    fn charset_behind(&mut self, token: &Token<'_>) -> Option<Said> {
        if is_word(token, "CHARSET") || is_word(token, "CHARACTER") && self.accept("SET") {
            self.sign('=');
            return self.word_or_text().map(|charset| Said::Charset(charset.to_lowercase()));
        }
        if is_word(token, "COLLATE") {
            self.sign('=');
            return self.word_or_text().map(|collation| Said::Collation(charset_of(&collation)));
        }
        None
    }

    fn drop(&mut self) -> Option<Change> {
        if self.any_of(&["DATABASE", "SCHEMA"]) {
            self.if_exists();
            return Some(Change::DropDatabase { name: self.identifier()? });
        }
        if !self.any_of(&["TABLE", "TABLES"]) {
            return None;
        }
        self.if_exists();
        let mut tables = vec![self.name()?];
        while self.sign(',') {
            tables.push(self.name()?);
        }
        Some(Change::DropTables(tables))
    }

    fn rename(&mut self) -> Option<Change> {
        self.if_exists();
        let mut pairs = Vec::new();
        loop {
            let from = self.name()?;
            self.wait();
            if !self.accept("TO") {
                return None;
            }
            pairs.push((from, self.name()?));
            if !self.sign(',') {
                return Some(Change::RenameTables(pairs));
            }
        }
    }

    fn alter(&mut self) -> Option<Change> {
        self.any_of(&["ONLINE", "OFFLINE"]);
        self.accept("IGNORE");
        if self.any_of(&["DATABASE", "SCHEMA"]) {
            let before = self.lexer;
            let is_option = self.any_of(&["CHARACTER", "CHARSET", "COLLATE", "DEFAULT", "ENCRYPTION", "READ"]);
            self.lexer = before;
            let name = if is_option { None } else { self.identifier() };
            return Some(Change::AlterDatabase { name, charset: self.charset_option() });
        }
        if !self.accept("TABLE") {
            return None;
        }
        self.if_exists();
        let table = self.name()?;
        self.wait();
        let mut edits = Vec::new();
        loop {
            // What cannot be read to its end is passed over.
            let _: Option<()> = self.edit(&mut edits);
            self.pass();
            if self.sign(',') || self.sign(')') {
                continue;
            }
            return Some(Change::AlterTable { table, edits });
        }
    }

    fn edit(&mut self, edits: &mut Vec<Edit>) -> Option<()> {
        if self.accept("ADD") {
            return self.added(edits);
        }
        if self.accept("DROP") {
            const OTHERS: [&str; 6] = ["INDEX", "KEY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION"];
            if self.accept("PRIMARY") {
                edits.push(Edit::DropKey);
                return Some(());
            }
            if self.any_of(&OTHERS) {
                return Some(());
            }
            self.accept("COLUMN");
            self.if_exists();
            edits.push(Edit::Drop(self.identifier()?));
            return Some(());
        }
        if self.accept("MODIFY") {
            self.accept("COLUMN");
            self.if_exists();
            let (definition, place) = self.definition()?;
            edits.push(Edit::Change(definition.column.name.clone(), definition, place));
            return Some(());
        }
        if self.accept("CHANGE") {
            self.accept("COLUMN");
            self.if_exists();
            let name = self.identifier()?;
            let (definition, place) = self.definition()?;
            edits.push(Edit::Change(name, definition, place));
            return Some(());
        }
        if self.accept("RENAME") {
            if self.any_of(&["INDEX", "KEY"]) {
                return Some(());
            }
            if self.accept("COLUMN") {
                self.if_exists();
                let from = self.identifier()?;
                if self.accept("TO") {
                    edits.push(Edit::RenameColumn(from, self.identifier()?));
                }
                return Some(());
            }
            self.any_of(&["TO", "AS"]);
            self.sign('=');
            edits.push(Edit::Rename(self.name()?));
            return Some(());
        }
        if self.accept("CONVERT") && self.accept("TO") {
            let (mut charset, mut collated) = (None, None);
            while let Some(token) = self.peek().filter(|token| !matches!(token, Token::Sign(','))) {
                self.lexer.next();
                match self.charset_behind(&token) {
                    Some(Said::Charset(found)) => charset = Some(found),
                    Some(Said::Collation(found)) => collated = found,
                    None => {}
                }
            }
            let said = charset.filter(|charset| charset != "default");
            edits.push(Edit::Convert(said.or(collated)));
            return Some(());
        }
        // Options, one behind the other.
        const NO_OPTIONS: [&str; 5] = ["ALTER", "PARTITION", "ORDER", "ENABLE", "DISABLE"];
        if self.peek().is_some_and(|token| NO_OPTIONS.iter().any(|word| is_word(&token, word))) {
            return Some(());
        }
        while let Some(token) = self.peek().filter(|token| !matches!(token, Token::Sign(','))) {
            self.lexer.next();
            match self.charset_behind(&token) {
                Some(Said::Charset(charset)) | Some(Said::Collation(Some(charset))) => {
                    edits.push(Edit::Charset(charset));
                }
                _ => {}
            }
        }
        Some(())
    }

    fn added(&mut self, edits: &mut Vec<Edit>) -> Option<()> {
        let before = self.lexer;
        let is_column = self.accept("COLUMN");
        if !is_column {
            if self.accept("PARTITION") || self.accept("SYSTEM") {
                return Some(());
            }
            if let Some(element) = self.key_added() {
                if let Element::Key(key) = element {
                    edits.push(Edit::Key(key));
                }
                return Some(());
            }
            self.lexer = before;
        }
        self.if_exists();
        if self.sign('(') {
            loop {
                match self.table_element()? {
                    Element::Column(definition) => edits.push(Edit::Add(definition, Place::Unsaid)),
                    Element::Key(key) => edits.push(Edit::Key(key)),
                    Element::Other => {}
                }
                if !self.sign(',') {
                    self.sign(')');
                    return Some(());
                }
            }
        }
        let (definition, place) = self.definition()?;
        edits.push(Edit::Add(definition, place));
        Some(())
    }

    /// A key or a check that is added, if it is one.
    fn key_added(&mut self) -> Option<Element> {
        const KEYS: [&str; 9] =
            ["CONSTRAINT", "PRIMARY", "INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK"];
        let token = self.peek()?;
        let mut behind = self.lexer;
        behind.next();
        let is_index = is_word(&token, "VECTOR")
            && behind.next().is_some_and(|token| is_word(&token, "INDEX") || is_word(&token, "KEY"));
        match is_index || KEYS.iter().any(|word| is_word(&token, word)) {
            true => self.table_element(),
            false => None,
        }
    }
}

enum Element {
    Column(Definition),
    Key(Vec<String>),
    Other,
}

/// What says which charset something has.
enum Said {
    Charset(String),
    Collation(Option<String>),
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
