//! Definitions in statements: CREATE, ALTER, DROP and RENAME of tables and databases, as far as columns, keys and charsets go.
//!
//! The law: what is not known is passed over, up to the next comma that stands in no parentheses. Only a statement of which not even
//! the table can be read is none.

use crate::source::mysql::log::{Dialect, Lexer, Token, is_word};

use super::super::schema::charset_of;
use super::column::{Definition, Place};

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

pub(super) struct Reader<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) mariadb: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn identifier(&mut self) -> Option<String> {
        match self.lexer.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(name) => Some(name.into_owned()),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }

    /// A name or a string, as charsets are written.
    pub(super) fn word_or_text(&mut self) -> Option<String> {
        match self.lexer.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(text) | Token::Text(text) => Some(text.into_owned()),
            Token::Sign(_) => None,
        }
    }

    pub(super) fn name(&mut self) -> Option<Name> {
        if self.lexer.sign('.') {
            return Some(Name { database: None, name: self.identifier()? });
        }
        let first = self.identifier()?;
        Some(match self.lexer.sign('.') {
            true => Name { database: Some(first), name: self.identifier()? },
            false => Name { database: None, name: first },
        })
    }

    fn if_exists(&mut self) -> bool {
        if !self.lexer.accept("IF") {
            return false;
        }
        self.lexer.accept("NOT");
        self.lexer.accept("EXISTS")
    }

    fn wait(&mut self) {
        if self.lexer.accept("WAIT") {
            self.lexer.next();
        }
        self.lexer.accept("NOWAIT");
    }

    fn statement(&mut self) -> Option<Change> {
        if self.lexer.accept("CREATE") {
            return self.create();
        }
        if self.lexer.accept("ALTER") {
            return self.alter();
        }
        if self.lexer.accept("DROP") {
            return self.drop();
        }
        if self.lexer.accept("RENAME") && self.lexer.any_of(&["TABLE", "TABLES"]) {
            return self.rename();
        }
        if self.lexer.accept("SET") && self.lexer.accept("STATEMENT") {
            // MariaDB: variables for what follows.
            while !is_word(&self.lexer.next()?, "FOR") {}
            return self.statement();
        }
        None
    }

    fn create(&mut self) -> Option<Change> {
        let replaces = self.lexer.accept("OR") && self.lexer.accept("REPLACE");
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            let if_absent = self.if_exists();
            let name = self.identifier()?;
            return Some(Change::CreateDatabase { name, charset: self.charset_option(), if_absent, replaces });
        }
        if !self.lexer.accept("TABLE") {
            return None;
        }
        let if_absent = self.if_exists();
        let table = self.name()?;
        let like = |body| Some(Change::CreateTable { table: table.clone(), if_absent, replaces, body });
        if self.lexer.accept("LIKE") {
            return like(Body::Like(self.name()?));
        }
        if !self.lexer.sign('(') {
            return None;
        }
        if self.lexer.accept("LIKE") {
            return like(Body::Like(self.name()?));
        }
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        loop {
            match self.table_element()? {
                Element::Column(definition) => columns.push(definition),
                Element::Key(names) => key = names,
                Element::Other => {}
            }
            if self.lexer.sign(',') {
                continue;
            }
            if self.lexer.sign(')') {
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
        if self.lexer.accept("CONSTRAINT") {
            let named = self.lexer.peek().is_some_and(|token| {
                !["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"].iter().any(|word| is_word(&token, word))
            });
            if named {
                self.lexer.next();
            }
        }
        if self.lexer.accept("PRIMARY") && self.lexer.accept("KEY") {
            let key = self.key_columns()?;
            self.pass();
            return Some(Element::Key(key));
        }
        let is_pair = |reader: &mut Self, (first, second): &(&str, [&str; 2])| {
            let before = reader.lexer;
            let is_pair = reader.lexer.accept(first) && reader.lexer.any_of(second);
            if !is_pair {
                reader.lexer = before;
            }
            is_pair
        };
        if self.lexer.any_of(&OTHERS) || PAIRS.iter().any(|pair| is_pair(self, pair)) {
            self.pass();
            return Some(Element::Other);
        }
        self.lexer = before;
        let (definition, _) = self.definition()?;
        Some(Element::Column(definition))
    }

    /// The columns of a key, behind whatever stands before its parentheses.
    fn key_columns(&mut self) -> Option<Vec<String>> {
        while !self.lexer.sign('(') {
            if matches!(self.lexer.peek()?, Token::Sign(_)) {
                return None;
            }
            self.lexer.next();
        }
        let mut names = Vec::new();
        loop {
            names.push(self.identifier()?);
            // The length of a prefix, an order.
            self.pass();
            if !self.lexer.sign(',') {
                break;
            }
        }
        self.lexer.sign(')').then_some(names)
    }

    /// Passes over all up to the comma or the parenthesis that ends what stands here.
    fn pass(&mut self) {
        let mut depth = 0_u32;
        loop {
            match self.lexer.peek() {
                None => return,
                Some(Token::Sign(',' | ')')) if depth == 0 => return,
                Some(Token::Sign('(')) => depth = depth.saturating_add(1),
                Some(Token::Sign(')')) => depth -= 1,
                Some(_) => {}
            }
            self.lexer.next();
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
        if is_word(token, "CHARSET") || is_word(token, "CHARACTER") && self.lexer.accept("SET") {
            self.lexer.sign('=');
            return self.word_or_text().map(|charset| Said::Charset(charset.to_lowercase()));
        }
        if is_word(token, "COLLATE") {
            self.lexer.sign('=');
            return self.word_or_text().map(|collation| Said::Collation(charset_of(&collation)));
        }
        None
    }

    fn drop(&mut self) -> Option<Change> {
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            self.if_exists();
            return Some(Change::DropDatabase { name: self.identifier()? });
        }
        if !self.lexer.any_of(&["TABLE", "TABLES"]) {
            return None;
        }
        self.if_exists();
        let mut tables = vec![self.name()?];
        while self.lexer.sign(',') {
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
            if !self.lexer.accept("TO") {
                return None;
            }
            pairs.push((from, self.name()?));
            if !self.lexer.sign(',') {
                return Some(Change::RenameTables(pairs));
            }
        }
    }

    fn alter(&mut self) -> Option<Change> {
        self.lexer.any_of(&["ONLINE", "OFFLINE"]);
        self.lexer.accept("IGNORE");
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            let before = self.lexer;
            let is_option = self.lexer.any_of(&["CHARACTER", "CHARSET", "COLLATE", "DEFAULT", "ENCRYPTION", "READ"]);
            self.lexer = before;
            let name = if is_option { None } else { self.identifier() };
            return Some(Change::AlterDatabase { name, charset: self.charset_option() });
        }
        if !self.lexer.accept("TABLE") {
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
            if self.lexer.sign(',') || self.lexer.sign(')') {
                continue;
            }
            return Some(Change::AlterTable { table, edits });
        }
    }

    fn edit(&mut self, edits: &mut Vec<Edit>) -> Option<()> {
        if self.lexer.accept("ADD") {
            return self.added(edits);
        }
        if self.lexer.accept("DROP") {
            const OTHERS: [&str; 6] = ["INDEX", "KEY", "FOREIGN", "CONSTRAINT", "CHECK", "PARTITION"];
            if self.lexer.accept("PRIMARY") {
                edits.push(Edit::DropKey);
                return Some(());
            }
            if self.lexer.any_of(&OTHERS) {
                return Some(());
            }
            self.lexer.accept("COLUMN");
            self.if_exists();
            edits.push(Edit::Drop(self.identifier()?));
            return Some(());
        }
        if self.lexer.accept("MODIFY") {
            self.lexer.accept("COLUMN");
            self.if_exists();
            let (definition, place) = self.definition()?;
            edits.push(Edit::Change(definition.column.name.clone(), definition, place));
            return Some(());
        }
        if self.lexer.accept("CHANGE") {
            self.lexer.accept("COLUMN");
            self.if_exists();
            let name = self.identifier()?;
            let (definition, place) = self.definition()?;
            edits.push(Edit::Change(name, definition, place));
            return Some(());
        }
        if self.lexer.accept("RENAME") {
            if self.lexer.any_of(&["INDEX", "KEY"]) {
                return Some(());
            }
            if self.lexer.accept("COLUMN") {
                self.if_exists();
                let from = self.identifier()?;
                if self.lexer.accept("TO") {
                    edits.push(Edit::RenameColumn(from, self.identifier()?));
                }
                return Some(());
            }
            self.lexer.any_of(&["TO", "AS"]);
            self.lexer.sign('=');
            edits.push(Edit::Rename(self.name()?));
            return Some(());
        }
        if self.lexer.accept("CONVERT") && self.lexer.accept("TO") {
            let (mut charset, mut collated) = (None, None);
            while let Some(token) = self.lexer.peek().filter(|token| !matches!(token, Token::Sign(','))) {
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
        if self.lexer.peek().is_some_and(|token| NO_OPTIONS.iter().any(|word| is_word(&token, word))) {
            return Some(());
        }
        while let Some(token) = self.lexer.peek().filter(|token| !matches!(token, Token::Sign(','))) {
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
        let is_column = self.lexer.accept("COLUMN");
        if !is_column {
            if self.lexer.accept("PARTITION") || self.lexer.accept("SYSTEM") {
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
        if self.lexer.sign('(') {
            loop {
                match self.table_element()? {
                    Element::Column(definition) => edits.push(Edit::Add(definition, Place::Unsaid)),
                    Element::Key(key) => edits.push(Edit::Key(key)),
                    Element::Other => {}
                }
                if !self.lexer.sign(',') {
                    self.lexer.sign(')');
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
        let token = self.lexer.peek()?;
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
