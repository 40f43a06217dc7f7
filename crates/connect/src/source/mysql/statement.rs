//! What a statement in the log does to tables, as far as we must know.
//!
//! This is no parser of MySQL's DDL, on purpose: schemas are learnt from the log's table maps and `information_schema`.
//! The text only says that a table was emptied, dropped or altered, or that rows were written as a statement. What it
//! cannot make out is [`Statement::Other`], and nothing stops.

/// A table's name with the database, if it was said.
pub(crate) type TableName = (Option<String>, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Begin,
    Commit,
    Rollback,
    /// To a savepoint: part of what was logged did not happen.
    RollbackTo,
    Xa(Xa),
    Truncate(Vec<TableName>),
    Drop(Vec<TableName>),
    DropDatabase(String),
    /// May change columns of these tables.
    Alter(Vec<TableName>),
    /// Changes rows of the tables without saying which rows: statement format.
    Rows(Vec<TableName>),
    Other,
}

/// The steps of a transaction across servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Xa {
    Start,
    End,
    Commit,
    Rollback,
}

/// Reads a statement.
pub(crate) fn statement(text: &[u8]) -> Statement {
    match text {
        b"BEGIN" => return Statement::Begin,
        b"COMMIT" => return Statement::Commit,
        _ => {}
    }
    let text = String::from_utf8_lossy(text);
    let mut tokens = Tokens { rest: &text };
    let Some(first) = tokens.word() else { return Statement::Other };
    match first.as_str() {
        "BEGIN" => Statement::Begin,
        "START" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "ROLLBACK" if tokens.word().as_deref() == Some("TO") => Statement::RollbackTo,
        "ROLLBACK" => Statement::Rollback,
        "XA" => xa(&mut tokens),
        "TRUNCATE" => {
            tokens.skip(&["TABLE"]);
            Statement::Truncate(tokens.names())
        }
        "DROP" => drop_statement(&mut tokens),
        "ALTER" => {
            tokens.skip(&["ONLINE", "OFFLINE", "IGNORE"]);
            if tokens.word().as_deref() != Some("TABLE") {
                return Statement::Other;
            }
            tokens.skip(&["IF", "EXISTS"]);
            let mut names = tokens.names();
            names.extend(tokens.renamed_to());
            Statement::Alter(names)
        }
        "RENAME" => rename(&mut tokens),
        "CREATE" => create(&mut tokens),
        // MariaDB writes `SET STATEMENT … FOR statement`; it is none of ours unless it changes rows, which it then says.
        "INSERT" | "REPLACE" => {
            tokens.skip(&["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"]);
            Statement::Rows(tokens.names())
        }
        "UPDATE" => {
            tokens.skip(&["LOW_PRIORITY", "IGNORE"]);
            Statement::Rows(tokens.names())
        }
        "DELETE" => {
            tokens.skip(&["LOW_PRIORITY", "QUICK", "IGNORE", "FROM"]);
            Statement::Rows(tokens.names())
        }
        "LOAD" => tokens.after("INTO").map_or(Statement::Other, |mut rest| {
            rest.skip(&["TABLE"]);
            Statement::Rows(rest.names())
        }),
        _ => Statement::Other,
    }
}

fn xa(tokens: &mut Tokens<'_>) -> Statement {
    match tokens.word().as_deref() {
        Some("START" | "BEGIN") => Statement::Xa(Xa::Start),
        Some("END") => Statement::Xa(Xa::End),
        Some("COMMIT") => Statement::Xa(Xa::Commit),
        Some("ROLLBACK") => Statement::Xa(Xa::Rollback),
        _ => Statement::Other,
    }
}

fn drop_statement(tokens: &mut Tokens<'_>) -> Statement {
    match tokens.word().as_deref() {
        Some("TABLE") => {
            tokens.skip(&["IF", "EXISTS"]);
            Statement::Drop(tokens.names())
        }
        Some("DATABASE" | "SCHEMA") => {
            tokens.skip(&["IF", "EXISTS"]);
            tokens.name().map_or(Statement::Other, |(_, name)| Statement::DropDatabase(name))
        }
        _ => Statement::Other,
    }
}

/// `RENAME TABLE a TO b, c TO d`: all of the names may now mean another table.
fn rename(tokens: &mut Tokens<'_>) -> Statement {
    if !matches!(tokens.word().as_deref(), Some("TABLE" | "TABLES")) {
        return Statement::Other;
    }
    tokens.skip(&["IF", "EXISTS"]);
    let mut names = Vec::new();
    while let Some(from) = tokens.name() {
        names.push(from);
        tokens.skip(&["TO"]);
        names.extend(tokens.name());
        if !tokens.symbol(',') {
            break;
        }
    }
    Statement::Alter(names)
}

/// `CREATE OR REPLACE TABLE` drops a table first; a plain CREATE may bring one back in another shape.
fn create(tokens: &mut Tokens<'_>) -> Statement {
    let replaces = tokens.skip(&["OR", "REPLACE"]);
    if tokens.word().as_deref() != Some("TABLE") {
        return Statement::Other;
    }
    tokens.skip(&["IF", "NOT", "EXISTS"]);
    let names = tokens.name().into_iter().collect();
    if replaces { Statement::Drop(names) } else { Statement::Alter(names) }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    /// Passes over white space and comments; the text inside `/*! … */` counts, its frame does not.
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            let r = self.rest;
            if let Some(inside) = r.strip_prefix("/*!").or_else(|| r.strip_prefix("/*M!")) {
                self.rest = inside.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if let Some(comment) = r.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
            } else if let Some(rest) = r.strip_prefix("*/") {
                self.rest = rest;
            } else if r.starts_with('#') || r.starts_with("-- ") {
                self.rest = r.split_once('\n').map_or("", |(_, rest)| rest);
            } else {
                return;
            }
        }
    }

    /// The next unquoted word, in capitals.
    fn word(&mut self) -> Option<String> {
        self.space();
        let end = self.rest.find(|c: char| !is_name(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then(|| word.to_ascii_uppercase())
    }

    /// Passes over any of these words; returns whether there was one.
    fn skip(&mut self, words: &[&str]) -> bool {
        let mut found = false;
        loop {
            let before = self.rest;
            match self.word() {
                Some(word) if words.contains(&word.as_str()) => found = true,
                _ => {
                    self.rest = before;
                    return found;
                }
            }
        }
    }

    fn symbol(&mut self, symbol: char) -> bool {
        self.space();
        match self.rest.strip_prefix(symbol) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A name, quoted or not.
    fn identifier(&mut self) -> Option<String> {
        self.space();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '`' | '"'));
        let Some(quote) = quote else {
            let end = self.rest.find(|c: char| !is_name(c)).unwrap_or(self.rest.len());
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            return (!name.is_empty()).then(|| name.to_owned());
        };
        let mut name = String::new();
        let mut rest = self.rest.strip_prefix(quote)?;
        loop {
            let (part, behind) = rest.split_once(quote)?;
            name.push_str(part);
            rest = behind;
            // A doubled quote stands for itself.
            match rest.strip_prefix(quote) {
                Some(behind) => {
                    name.push(quote);
                    rest = behind;
                }
                None => break,
            }
        }
        self.rest = rest;
        Some(name)
    }

    /// A table's name: `t` or `d.t`.
    fn name(&mut self) -> Option<TableName> {
        let first = self.identifier()?;
        if self.symbol('.') {
            return Some((Some(first), self.identifier()?));
        }
        Some((None, first))
    }

    /// Names parted by commas.
    fn names(&mut self) -> Vec<TableName> {
        let mut out = Vec::new();
        while let Some(name) = self.name() {
            out.push(name);
            if !self.symbol(',') {
                break;
            }
        }
        out
    }

    /// The new name in `ALTER TABLE … RENAME [TO|AS] name`, where it is said first.
    fn renamed_to(&mut self) -> Option<TableName> {
        self.skip(&["WAIT", "NOWAIT"]);
        if self.word().as_deref() != Some("RENAME") {
            return None;
        }
        self.skip(&["TO", "AS"]);
        self.name()
    }

    /// What follows a word, wherever it stands.
    fn after(&mut self, word: &str) -> Option<Tokens<'a>> {
        loop {
            match self.word() {
                Some(found) if found == word => return Some(Tokens { rest: self.rest }),
                Some(_) => {}
                // A string or a symbol: pass over one character.
                None => self.rest = self.rest.strip_prefix(|_| true).filter(|r| !r.is_empty())?,
            }
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}
