//! What a statement in the log does to tables, as far as we must know.
//!
//! The law: a statement either is read to its end, and then its effects are all that it does to the tables that it names, or
//! it is unread, and then the content of every table that it may have touched is in doubt. What is in doubt is loaded again,
//! so that a doubt too many costs time and one too few costs the truth: clauses and statements that are known to change
//! nothing are listed, and everything else changes something.
//!
//! - `token`: the text as words, by the session's modes. `alter`: the clauses of ALTER TABLE.
//! - The text is in the client's charset and is decoded by it before it is read. A server also writes statements of its own,
//!   in UTF-8 whatever the client speaks: text that could be either is read as both, and both effects hold.
//!
//! This is no parser of SQL, on purpose: columns are learnt from the log's table maps and from `information_schema`.

mod alter;
mod token;

use std::borrow::Cow;
use std::fmt;

pub(crate) use token::{Dialect, Lexer, Token, is_word};

use super::decode;
use super::event::Query;

/// A table's name with the database, if it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) database: Option<String>,
    pub(crate) name: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// To a savepoint: part of what was logged did not happen.
    RollbackTo,
    Xa(Xa),
    /// In order; none where it changes nothing that we know of.
    Effects(Vec<Effect>),
}

/// The steps of a transaction across servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Xa {
    Start,
    End,
    Commit(Xid),
    Rollback(Xid),
}

/// The name of a transaction across servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Xid {
    pub(crate) format: u32,
    pub(crate) transaction: Vec<u8>,
    pub(crate) branch: Vec<u8>,
}

/// What happens to tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Emptied(TableName),
    Dropped(TableName),
    DroppedDatabase(String),
    Renamed {
        from: TableName,
        to: TableName,
    },
    /// A table of this name is there now. With `if_absent` it may have been there before, and is untouched then.
    Created {
        table: TableName,
        if_absent: bool,
    },
    /// Its keys may be others; its rows and columns are the same.
    Keys(TableName),
    /// Its columns may be others; its rows are the same.
    Columns(TableName),
    /// Its rows and columns may be others.
    Altered(TableName),
    /// These of its columns came, went, moved or became others, in this order; all others are what they were, and where they
    /// were among themselves.
    Reshaped(TableName, Vec<ColumnChange>),
    /// Rows of any table in these databases and in those of the event may be others: written by the statement, or by its
    /// triggers and functions.
    Written(Vec<String>),
    /// The statement could not be read: as [`Effect::Written`].
    Unread,
}

impl Effect {
    /// Whether a table that it names may have other columns by it.
    pub(crate) fn changes_columns(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Columns(_) | Self::Altered(_) | Self::Reshaped(..))
    }

    /// The tables that it names.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &TableName> {
        let (first, second) = match self {
            Self::Emptied(table)
            | Self::Dropped(table)
            | Self::Created { table, .. }
            | Self::Keys(table)
            | Self::Columns(table)
            | Self::Altered(table)
            | Self::Reshaped(table, _) => (Some(table), None),
            Self::Renamed { from, to } => (Some(from), Some(to)),
            Self::DroppedDatabase(_) | Self::Written(_) | Self::Unread => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// What becomes of one column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnChange {
    Added {
        name: String,
        at: At,
    },
    Dropped(String),
    /// It has another definition, and maybe another name or place.
    Changed {
        name: String,
        to: String,
        at: At,
    },
}

/// Where a column goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// Where it was; behind all others, if it is new.
    Unsaid,
    First,
    After(String),
}

impl ColumnChange {
    /// The names that it speaks of, but that of a neighbour.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        let (first, second) = match self {
            Self::Added { name, .. } | Self::Dropped(name) => (name, None),
            Self::Changed { name, to, .. } => (name, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Reads a statement of the log.
pub(crate) fn statement(query: &Query<'_>, server: Dialect) -> Statement {
    match query.text {
        b"BEGIN" => return Statement::Begin,
        b"COMMIT" => return Statement::Commit,
        _ => {}
    }
    let status = query.status();
    let dialect = Dialect {
        ansi_quotes: status.sql_mode & ANSI_QUOTES != 0,
        plain_backslashes: status.sql_mode & NO_BACKSLASH_ESCAPES != 0,
        ..server
    };
    let plain = String::from_utf8_lossy(query.text);
    let text = match status.client_collation.filter(|_| !query.text.is_ascii()) {
        Some(collation) => decode::text_of_collation(collation, query.text).map_or(plain.clone(), Cow::Owned),
        None => plain.clone(),
    };
    let mut statement = read(&text, dialect);
    if text != plain
        && matches!(plain, Cow::Borrowed(_))
        && let Statement::Effects(effects) = &mut statement
        && let Statement::Effects(others) = read(&plain, dialect)
    {
        effects.extend(others.into_iter().filter(|effect| *effect != Effect::Unread));
    }
    statement
}

/// The text of a statement as its client wrote it, and how it is to be read.
pub(crate) fn text_and_dialect(query: &Query<'_>, server: Dialect) -> (String, Dialect) {
    let status = query.status();
    let dialect = Dialect {
        ansi_quotes: status.sql_mode & ANSI_QUOTES != 0,
        plain_backslashes: status.sql_mode & NO_BACKSLASH_ESCAPES != 0,
        ..server
    };
    let collation = status.client_collation.filter(|_| !query.text.is_ascii());
    let text = collation.and_then(|collation| decode::text_of_collation(collation, query.text));
    (text.unwrap_or_else(|| String::from_utf8_lossy(query.text).into_owned()), dialect)
}

const ANSI_QUOTES: u64 = 4;
const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

/// Reads a text.
pub(crate) fn read(text: &str, dialect: Dialect) -> Statement {
    let mut reader = Reader { lexer: Lexer::new(text, dialect) };
    let read = reader.statement();
    if reader.lexer.is_broken() {
        return unread();
    }
    read.unwrap_or_else(unread)
}

/// The databases that names in the text of an object may mean; none where it cannot be read.
pub(crate) fn databases(text: &str, dialect: Dialect) -> Option<Vec<String>> {
    let mut reader = Reader { lexer: Lexer::new(text, dialect) };
    let databases = reader.databases();
    (!reader.lexer.is_broken()).then_some(databases)
}

fn unread() -> Statement {
    Statement::Effects(vec![Effect::Unread])
}

fn one(effect: Effect) -> Option<Statement> {
    Some(Statement::Effects(vec![effect]))
}

fn harmless() -> Option<Statement> {
    Some(Statement::Effects(Vec::new()))
}

/// First words of statements that change rows, or run functions that may.
const WRITING: [&str; 13] = [
    "INSERT", "REPLACE", "UPDATE", "DELETE", "LOAD", "CALL", "DO", "SELECT", "WITH", "VALUES", "TABLE", "HANDLER",
    "MERGE",
];
/// First words of statements that touch no table.
const IDLE: [&str; 40] = [
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "USE",
    "GRANT",
    "REVOKE",
    "FLUSH",
    "OPTIMIZE",
    "REPAIR",
    "CHECK",
    "CHECKSUM",
    "CACHE",
    "INSTALL",
    "UNINSTALL",
    "KILL",
    "PURGE",
    "RESET",
    "CHANGE",
    "STOP",
    "LOCK",
    "UNLOCK",
    "SHOW",
    "DESCRIBE",
    "DESC",
    "EXPLAIN",
    "HELP",
    "PREPARE",
    "DEALLOCATE",
    "CLONE",
    "SHUTDOWN",
    "RESTART",
    "SIGNAL",
    "RESIGNAL",
    "GET",
    "BINLOG",
    "BACKUP",
    "CLOSE",
    "OPEN",
    "RECOVER",
    "DENY",
];
/// What is created, altered and dropped beside tables, databases and indexes.
const OTHER_THINGS: [&str; 32] = [
    "VIEW",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "AGGREGATE",
    "EVENT",
    "USER",
    "ROLE",
    "SERVER",
    "TABLESPACE",
    "UNDO",
    "LOGFILE",
    "SEQUENCE",
    "PACKAGE",
    "RESOURCE",
    "LIBRARY",
    "CATALOG",
    "DEFINER",
    "ALGORITHM",
    "SQL",
    "INSTANCE",
    "SPATIAL",
    "INDEX",
    "UNIQUE",
    "FULLTEXT",
    "VECTOR",
    "TEMPORARY",
    "PREPARE",
    "PUBLIC",
    "JSON",
    "MATERIALIZED",
    "MASKING",
];

/// Reads on from word to word. None: it is no statement that we know.
struct Reader<'a> {
    lexer: Lexer<'a>,
}

impl<'a> Reader<'a> {
    fn statement(&mut self) -> Option<Statement> {
        let Some(first) = self.lexer.peek() else { return harmless() };
        if matches!(first, Token::Sign('(')) {
            return self.written();
        }
        if WRITING.iter().any(|word| is_word(&first, word)) {
            return self.written();
        }
        self.lexer.next();
        let Token::Word(first) = first else { return None };
        let first = first.to_ascii_uppercase();
        match first.as_str() {
            "BEGIN" => {
                self.lexer.accept("WORK");
                self.end().then_some(Statement::Begin)
            }
            "START" if self.lexer.accept("TRANSACTION") => Some(Statement::Begin),
            "START" => harmless(),
            "COMMIT" => Some(Statement::Commit),
            "ROLLBACK" => {
                self.lexer.accept("WORK");
                Some(if self.lexer.accept("TO") { Statement::RollbackTo } else { Statement::Rollback })
            }
            "XA" => self.xa(),
            "TRUNCATE" => self.truncate(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "RENAME" => self.rename(),
            "CREATE" => self.create(),
            "ANALYZE" => match self.lexer.any_of(&["TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"]) {
                true => harmless(),
                false => self.written(),
            },
            "SET" if self.lexer.accept("STATEMENT") => self.set_statement(),
            word if IDLE.contains(&word) => harmless(),
            _ => None,
        }
    }

    /// Whether nothing follows.
    fn end(&mut self) -> bool {
        while self.lexer.sign(';') {}
        self.lexer.peek().is_none()
    }

    fn identifier(&mut self) -> Option<String> {
        match self.lexer.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Name(name) => Some(name.into_owned()),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }

    /// `t`, `d.t` or `.t`.
    fn table(&mut self) -> Option<TableName> {
        if self.lexer.sign('.') {
            return Some(TableName { database: None, name: self.identifier()? });
        }
        let first = self.identifier()?;
        Some(match self.lexer.sign('.') {
            true => TableName { database: Some(first), name: self.identifier()? },
            false => TableName { database: None, name: first },
        })
    }

    fn tables(&mut self) -> Option<Vec<TableName>> {
        let mut out = vec![self.table()?];
        while self.lexer.sign(',') {
            out.push(self.table()?);
        }
        Some(out)
    }

    /// `IF [NOT] EXISTS`.
    fn if_exists(&mut self) -> bool {
        if !self.lexer.accept("IF") {
            return false;
        }
        self.lexer.accept("NOT");
        self.lexer.accept("EXISTS")
    }

    /// `WAIT n` or `NOWAIT`.
    fn wait(&mut self) {
        if self.lexer.accept("WAIT") {
            self.lexer.next();
        }
        self.lexer.accept("NOWAIT");
    }

    /// A statement that writes rows, or may. Which tables its triggers and functions write, it does not say: it is said in
    /// which databases to look, which are those that any name in it may mean.
    fn written(&mut self) -> Option<Statement> {
        one(Effect::Written(self.databases()))
    }

    /// All names up to the end that stand before a dot.
    fn databases(&mut self) -> Vec<String> {
        let mut databases: Vec<String> = Vec::new();
        let mut name: Option<String> = None;
        while let Some(token) = self.lexer.next() {
            name = match token {
                Token::Word(word) => Some(word.to_owned()),
                Token::Name(quoted) => Some(quoted.into_owned()),
                Token::Sign('.') => {
                    if let Some(name) = name.take().filter(|name| !databases.contains(name)) {
                        databases.push(name);
                    }
                    None
                }
                Token::Text(_) | Token::Sign(_) => None,
            };
        }
        databases
    }

    /// MariaDB: `SET STATEMENT variable = value, … FOR statement`.
    fn set_statement(&mut self) -> Option<Statement> {
        let mut depth = 0_u32;
        loop {
            match self.lexer.next()? {
                Token::Sign('(') => depth = depth.saturating_add(1),
                Token::Sign(')') => depth = depth.checked_sub(1)?,
                token if depth == 0 && is_word(&token, "FOR") => {
                    self.lexer.peek()?;
                    return self.statement();
                }
                _ => {}
            }
        }
    }

    fn xa(&mut self) -> Option<Statement> {
        let step = self.identifier()?.to_ascii_uppercase();
        match step.as_str() {
            "START" | "BEGIN" => Some(Statement::Xa(Xa::Start)),
            "END" => Some(Statement::Xa(Xa::End)),
            "COMMIT" => Some(Statement::Xa(Xa::Commit(self.xid()?))),
            "ROLLBACK" => Some(Statement::Xa(Xa::Rollback(self.xid()?))),
            "PREPARE" | "RECOVER" => harmless(),
            _ => None,
        }
    }

    /// `X'…'[, X'…'[, format]]`; the server itself always writes all of it.
    fn xid(&mut self) -> Option<Xid> {
        let mut xid = Xid { format: 1, transaction: self.bytes()?, branch: Vec::new() };
        if self.lexer.sign(',') {
            xid.branch = self.bytes()?;
        }
        if self.lexer.sign(',') {
            xid.format = self.identifier()?.parse().ok()?;
        }
        Some(xid)
    }

    /// `'text'`, `X'68'` or `0x68`.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        match self.lexer.next()? {
            Token::Text(text) => Some(text.as_bytes().to_vec()),
            Token::Word("X" | "x") => match self.lexer.next()? {
                Token::Text(digits) => unhex(&digits),
                _ => None,
            },
            Token::Word(word) => unhex(word.strip_prefix("0x")?),
            Token::Name(_) | Token::Sign(_) => None,
        }
    }

    fn truncate(&mut self) -> Option<Statement> {
        self.lexer.accept("TABLE");
        let tables = self.tables()?;
        self.wait();
        self.end().then(|| Statement::Effects(tables.into_iter().map(Effect::Emptied).collect()))
    }

    fn drop(&mut self) -> Option<Statement> {
        if self.lexer.any_of(&["TABLE", "TABLES"]) {
            self.if_exists();
            let tables = self.tables()?;
            self.wait();
            self.lexer.any_of(&["RESTRICT", "CASCADE"]);
            return self.end().then(|| Statement::Effects(tables.into_iter().map(Effect::Dropped).collect()));
        }
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            self.if_exists();
            return one(Effect::DroppedDatabase(self.identifier()?));
        }
        self.lexer.any_of(&["ONLINE", "OFFLINE"]);
        if self.lexer.accept("INDEX") {
            self.if_exists();
            let is_key = self.identifier()?.eq_ignore_ascii_case("PRIMARY");
            let table = if self.lexer.accept("ON") { self.table()? } else { return None };
            return if is_key { one(Effect::Columns(table)) } else { harmless() };
        }
        self.of_other_things()
    }

    fn of_other_things(&mut self) -> Option<Statement> {
        if self.lexer.any_of(&OTHER_THINGS) { harmless() } else { None }
    }

    /// `RENAME TABLE a TO b, c TO d`: one after the other.
    fn rename(&mut self) -> Option<Statement> {
        if self.lexer.accept("USER") {
            return harmless();
        }
        if !self.lexer.any_of(&["TABLE", "TABLES"]) {
            return None;
        }
        self.if_exists();
        let mut effects = Vec::new();
        loop {
            let from = self.table()?;
            self.wait();
            if !self.lexer.accept("TO") {
                return None;
            }
            effects.push(Effect::Renamed { from, to: self.table()? });
            if !self.lexer.sign(',') {
                break;
            }
        }
        self.end().then_some(Statement::Effects(effects))
    }

    fn create(&mut self) -> Option<Statement> {
        let replaces = self.lexer.accept("OR") && self.lexer.accept("REPLACE");
        if self.lexer.accept("TABLE") {
            let if_absent = self.if_exists();
            let table = self.table()?;
            return match replaces {
                true => one(Effect::Dropped(table)),
                false => one(Effect::Created { table, if_absent }),
            };
        }
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            if !replaces {
                return harmless();
            }
            return one(Effect::DroppedDatabase(self.identifier()?));
        }
        self.lexer.any_of(&["ONLINE", "OFFLINE"]);
        self.of_other_things()
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).ok()).collect()
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Some(database) => write!(f, "[{database}].[{}]", self.name),
            None => write!(f, "[{}]", self.name),
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => f.write_str("begin"),
            Self::Commit => f.write_str("commit"),
            Self::Rollback => f.write_str("rollback"),
            Self::RollbackTo => f.write_str("rollback to a savepoint"),
            Self::Xa(Xa::Start) => f.write_str("xa start"),
            Self::Xa(Xa::End) => f.write_str("xa end"),
            Self::Xa(Xa::Commit(xid)) => write!(f, "xa commit {xid}"),
            Self::Xa(Xa::Rollback(xid)) => write!(f, "xa rollback {xid}"),
            Self::Effects(effects) if effects.is_empty() => f.write_str("harmless"),
            Self::Effects(effects) => {
                for (i, effect) in effects.iter().enumerate() {
                    write!(f, "{}{effect}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = super::assemble::hex;
        write!(f, "{}/{}/{}", hex(&self.transaction), hex(&self.branch), self.format)
    }
}

impl fmt::Display for ColumnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = match self {
            Self::Added { name, at } => {
                write!(f, "+[{name}]")?;
                at
            }
            Self::Dropped(name) => return write!(f, "-[{name}]"),
            Self::Changed { name, to, at } => {
                write!(f, "[{name}] to [{to}]")?;
                at
            }
        };
        match at {
            At::Unsaid => Ok(()),
            At::First => f.write_str(" first"),
            At::After(name) => write!(f, " after [{name}]"),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Emptied(table) => write!(f, "emptied {table}"),
            Self::Dropped(table) => write!(f, "dropped {table}"),
            Self::DroppedDatabase(database) => write!(f, "dropped database [{database}]"),
            Self::Renamed { from, to } => write!(f, "renamed {from} to {to}"),
            Self::Created { table, if_absent: false } => write!(f, "created {table}"),
            Self::Created { table, if_absent: true } => write!(f, "created if absent {table}"),
            Self::Keys(table) => write!(f, "keys of {table}"),
            Self::Columns(table) => write!(f, "columns of {table}"),
            Self::Altered(table) => write!(f, "altered {table}"),
            Self::Reshaped(table, changes) => {
                write!(f, "reshaped {table}")?;
                changes.iter().try_for_each(|change| write!(f, ", {change}"))
            }
            Self::Written(databases) => {
                f.write_str("written")?;
                databases.iter().try_for_each(|database| write!(f, " [{database}]"))
            }
            Self::Unread => f.write_str("unread"),
        }
    }
}
