//! Which statements the session answers itself.

use super::function::{Item, items};
use super::lexer::Token;
use super::words::Words;
use crate::reader::SqlError;

/// What a statement is to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// For the reader.
    Read,
    Begin {
        /// Whether all of the transaction's statements are to be answered at one step; none where it does not say.
        pinned: Option<bool>,
    },
    /// The same for the transaction that is open.
    Isolate {
        pinned: bool,
    },
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
    /// `SET name = value`; without a value its default.
    Set {
        name: String,
        value: Option<String>,
        scope: Scope,
    },
    /// `SET ROLE`, `SET SESSION AUTHORIZATION`: to be somebody else, or whom the client has logged in as.
    Become(Option<String>),
    /// Answered with this tag and nothing done, because nothing here depends on it.
    Accepted(&'static str),
    ResetAll,
    Show(String),
    ShowAll,
    DiscardAll,
    /// A prepared statement to forget, or all.
    Deallocate(Option<String>),
    /// `PREPARE name (types) AS query`.
    Prepare {
        name: String,
        /// As they are written; what stands behind them is left to the query.
        types: Vec<String>,
        query: Inner,
    },
    /// `EXECUTE name (values)`; the values are what a SELECT of them has.
    Execute {
        name: String,
        values: Option<Inner>,
    },
    Declare {
        name: String,
        hold: bool,
        query: Inner,
    },
    Fetch {
        name: String,
        rows: FetchRows,
        show: bool,
    },
    /// A cursor to close, or all.
    Close(Option<String>),
    Copy(Copy),
    /// `SELECT version(), current_schema()` and the like.
    Functions(Vec<Item>),
}

/// How long a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Session,
    /// `SET LOCAL`: to the end of the transaction.
    Transaction,
}

/// How far a FETCH goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchRows {
    Count(usize),
    All,
}

/// A `COPY … TO STDOUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) query: Inner,
    pub(crate) format: CopyFormat,
    pub(crate) header: bool,
    pub(crate) delimiter: u8,
    pub(crate) null: String,
}

/// How the rows of a COPY are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyFormat {
    Text,
    Csv,
    Binary,
}

/// A query inside of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inner {
    pub(crate) text: String,
    /// Characters of the statement before it; none where the client did not write it so.
    pub(crate) offset: Option<usize>,
}

/// Says what a statement is. Errors: a write, or a session command that is malformed.
pub(crate) fn command(text: &str) -> Result<Command, SqlError> {
    let mut words = Words::new(text);
    let Some(verb) = words.keyword() else { return Ok(Command::Read) };
    words.next();
    let syntax = || syntax_error(text);
    match verb.as_str() {
        "begin" => Ok(Command::Begin { pinned: pins(&mut words) }),
        "start" if words.eat("transaction") => Ok(Command::Begin { pinned: pins(&mut words) }),
        "commit" | "end" => Ok(Command::Commit),
        "abort" => Ok(Command::Rollback),
        "rollback" => Ok(rollback(&mut words)),
        "savepoint" => Ok(Command::Savepoint),
        "release" => Ok(Command::Release),
        "set" => set(&mut words).ok_or_else(syntax),
        "reset" if words.eat("all") => Ok(Command::ResetAll),
        "reset" if words.eat("role") || words.eat_all(&["session", "authorization"]) => Ok(Command::Become(None)),
        "reset" => {
            let name = setting_name(&mut words).ok_or_else(syntax)?;
            Ok(Command::Set { name, value: None, scope: Scope::Session })
        }
        "show" => show(&mut words).ok_or_else(syntax),
        "discard" => Ok(if words.eat("all") { Command::DiscardAll } else { Command::Accepted("DISCARD") }),
        "deallocate" => {
            words.eat("prepare");
            let all = words.eat("all");
            Ok(Command::Deallocate(if all { None } else { Some(words.name().ok_or_else(syntax)?) }))
        }
        "listen" => Ok(Command::Accepted("LISTEN")),
        "unlisten" => Ok(Command::Accepted("UNLISTEN")),
        "prepare" => prepare(&mut words).ok_or_else(syntax),
        "execute" => execute(&mut words).ok_or_else(syntax),
        "declare" => declare(&mut words).ok_or_else(syntax),
        "fetch" => fetch(&mut words, true).ok_or_else(syntax)?,
        "move" => fetch(&mut words, false).ok_or_else(syntax)?,
        "close" => Ok(Command::Close(if words.eat("all") { None } else { Some(words.name().ok_or_else(syntax)?) })),
        "copy" => copy(&mut words, text),
        "select" => Ok(items(&mut words).map_or(Command::Read, Command::Functions)),
        _ => refused(&verb).map_or(Ok(Command::Read), Err),
    }
}

/// Whether the modes of a transaction ask for an isolation in which nothing moves; none where they name none.
fn pins(words: &mut Words<'_>) -> Option<bool> {
    while !words.eat_all(&["isolation", "level"]) {
        words.next()?;
    }
    Some(words.eat("repeatable") || words.eat("serializable"))
}

/// Whether a level is one in which nothing moves.
pub(crate) fn is_pinning(level: &str) -> bool {
    ["repeatable read", "serializable"].iter().any(|pinning| level.trim().eq_ignore_ascii_case(pinning))
}

fn syntax_error(text: &str) -> SqlError {
    let near: String = text.chars().take(40).collect();
    SqlError::new("42601", format!("syntax error in \"{near}\""))
}

/// Writes, and what else a server of reads has not.
fn refused(verb: &str) -> Option<SqlError> {
    let upper = verb.to_ascii_uppercase();
    match verb {
        "insert" | "update" | "delete" | "merge" | "truncate" | "create" | "drop" | "alter" | "grant" | "revoke"
        | "comment" | "vacuum" | "analyze" | "reindex" | "cluster" | "refresh" | "lock" | "import" | "reassign"
        | "security" => Some(
            SqlError::new("25006", format!("cannot execute {upper} in a read-only warehouse"))
                .detail("Tables follow their sources, models follow the project.")
                .hint("Change rows in the source database, change models in the project and run `tidemill apply`."),
        ),
        "call" | "do" | "notify" | "load" | "checkpoint" => {
            Some(SqlError::new("0A000", format!("{upper} is not supported")))
        }
        _ => None,
    }
}

fn rollback(words: &mut Words<'_>) -> Command {
    if !words.eat("work") {
        words.eat("transaction");
    }
    if words.eat("to") { Command::RollbackTo } else { Command::Rollback }
}

/// A setting's name, `search_path` or `myapp.user`.
fn setting_name(words: &mut Words<'_>) -> Option<String> {
    if words.eat_all(&["time", "zone"]) {
        return Some("timezone".to_owned());
    }
    if words.eat_all(&["transaction", "isolation", "level"]) {
        return Some("transaction_isolation".to_owned());
    }
    if words.eat_all(&["session", "authorization"]) {
        return Some("session_authorization".to_owned());
    }
    let mut name = words.name()?.to_lowercase();
    while words.symbol('.') {
        name = format!("{name}.{}", words.name()?);
    }
    Some(name)
}

fn set(words: &mut Words<'_>) -> Option<Command> {
    if words.eat_all(&["session", "characteristics"]) {
        let level = pins(words).map(|pinned| if pinned { "repeatable read" } else { "read committed" }.to_owned());
        let name = "default_transaction_isolation".to_owned();
        let set = |level| Command::Set { name, value: Some(level), scope: Scope::Session };
        return Some(level.map_or(Command::Accepted("SET"), set));
    }
    if words.eat_all(&["session", "authorization"]) {
        return somebody(words);
    }
    let scope = if words.eat("local") { Scope::Transaction } else { Scope::Session };
    if scope == Scope::Session {
        words.eat("session");
    }
    if words.eat_all(&["session", "authorization"]) {
        return somebody(words);
    }
    if words.eat("transaction") {
        return Some(pins(words).map_or(Command::Accepted("SET"), |pinned| Command::Isolate { pinned }));
    }
    if words.eat("constraints") {
        return Some(Command::Accepted("SET"));
    }
    if words.eat("role") {
        if !words.symbol('=') {
            words.eat("to");
        }
        return somebody(words);
    }
    if words.eat("names") {
        return Some(Command::Set { name: "client_encoding".to_owned(), value: value(words), scope });
    }
    let zone = words.eat_all(&["time", "zone"]);
    let name = if zone { "timezone".to_owned() } else { setting_name(words)? };
    if !zone && !words.symbol('=') && !words.eat("to") {
        return None;
    }
    if words.is_empty() {
        return None;
    }
    let value = value(words);
    if name == "transaction_isolation" {
        return Some(Command::Isolate { pinned: value.as_deref().is_some_and(is_pinning) });
    }
    Some(Command::Set { name, value, scope })
}

/// Whom a session is to be; `NONE` and `DEFAULT` are whoever has logged in.
fn somebody(words: &mut Words<'_>) -> Option<Command> {
    if words.eat("none") || words.eat("default") {
        return words.is_empty().then_some(Command::Become(None));
    }
    let name = words.name().or_else(|| words.string())?;
    words.is_empty().then_some(Command::Become(Some(name)))
}

/// A value: one or several words, strings or numbers. `DEFAULT` (and `LOCAL` of a time zone) is none.
fn value(words: &mut Words<'_>) -> Option<String> {
    if words.eat("default") || words.eat("local") {
        return None;
    }
    let mut value = String::new();
    while let Some(token) = words.next() {
        match token {
            Token::Symbol(',') => value.push_str(", "),
            Token::Symbol(symbol) => value.push(symbol),
            Token::Word(text) | Token::Number(text) => value.push_str(text),
            Token::Name(text) | Token::Text(text) => value.push_str(&text),
        }
    }
    Some(value)
}

/// What MySQL shows, and no server of PostgreSQL's protocol has as a setting.
const OF_MYSQL: [&str; 15] = [
    "columns",
    "create",
    "databases",
    "fields",
    "full",
    "functions",
    "grants",
    "index",
    "indexes",
    "keys",
    "processlist",
    "schemas",
    "status",
    "tables",
    "variables",
];

fn show(words: &mut Words<'_>) -> Option<Command> {
    if words.eat("all") {
        return Some(Command::ShowAll);
    }
    // The reader says what is asked instead.
    if words.keyword().is_some_and(|word| OF_MYSQL.contains(&word.as_str())) {
        return Some(Command::Read);
    }
    setting_name(words).map(Command::Show)
}

fn prepare(words: &mut Words<'_>) -> Option<Command> {
    let name = words.name()?;
    let types = match words.peek() {
        Some(Token::Symbol('(')) => words.parenthesised()?.split(',').map(|name| name.trim().to_lowercase()).collect(),
        _ => Vec::new(),
    };
    words.eat("as").then(|| Command::Prepare { name, types, query: words.inner(words.rest()) })
}

fn execute(words: &mut Words<'_>) -> Option<Command> {
    let name = words.name()?;
    let values = match words.peek() {
        Some(Token::Symbol('(')) => {
            let values = words.parenthesised()?;
            Some(words.inner(values))
        }
        _ => None,
    };
    words.is_empty().then_some(Command::Execute { name, values })
}

fn declare(words: &mut Words<'_>) -> Option<Command> {
    let name = words.name()?;
    let mut hold = false;
    loop {
        match words.keyword()?.as_str() {
            "for" => break,
            "with" => {
                words.next();
                hold = words.eat("hold");
            }
            _ => {
                words.next();
            }
        }
    }
    words.next();
    let query = words.inner(words.rest());
    Some(Command::Declare { name, hold, query })
}

fn fetch(words: &mut Words<'_>, show: bool) -> Option<Result<Command, SqlError>> {
    let mut rows = FetchRows::Count(1);
    for backward in ["prior", "backward", "first", "last", "absolute", "relative"] {
        if words.eat(backward) {
            return Some(Err(SqlError::new("55000", "a cursor can only move forward")
                .hint("Declare the cursor again to start from the first row.")));
        }
    }
    if !words.eat("next") {
        words.eat("forward");
    }
    if words.eat("all") {
        rows = FetchRows::All;
    } else if let Some(Token::Number(number)) = words.peek() {
        rows = FetchRows::Count(number.parse().ok()?);
        words.next();
    }
    if !words.eat("from") {
        words.eat("in");
    }
    let name = words.name()?;
    Some(Ok(Command::Fetch { name, rows, show }))
}

fn copy(words: &mut Words<'_>, text: &str) -> Result<Command, SqlError> {
    let syntax = || syntax_error(text);
    let query = if words.peek() == Some(&Token::Symbol('(')) {
        let query = words.parenthesised().ok_or_else(syntax)?;
        words.inner(query)
    } else {
        let end = words.rest();
        let table = table(words).ok_or_else(syntax)?;
        let name = end.get(..end.len() - words.rest().len()).unwrap_or_default().trim_end();
        let columns =
            if words.peek() == Some(&Token::Symbol('(')) { words.parenthesised().unwrap_or("*") } else { "*" };
        if table.is_empty() {
            return Err(syntax());
        }
        Inner { text: format!("select {columns} from {name}"), offset: None }
    };
    if words.eat("from") {
        return Err(SqlError::new("25006", "cannot execute COPY FROM in a read-only warehouse")
            .hint("Load rows into the source database."));
    }
    if !words.eat_all(&["to", "stdout"]) {
        return Err(
            SqlError::new("0A000", "COPY goes to STDOUT only").hint("In psql, \\copy writes a file on your side.")
        );
    }
    options(words, query)
}

/// `schema.table`; returns its last part.
fn table(words: &mut Words<'_>) -> Option<String> {
    let mut name = words.name()?;
    while words.symbol('.') {
        name = words.name()?;
    }
    Some(name)
}

/// `WITH (FORMAT csv, HEADER, DELIMITER ';', NULL '-')`, or the older `CSV HEADER` and `BINARY`.
fn options(words: &mut Words<'_>, query: Inner) -> Result<Command, SqlError> {
    let mut copy = Copy { query, format: CopyFormat::Text, header: false, delimiter: 0, null: String::new() };
    let mut null = None;
    while let Some(token) = words.next() {
        let Token::Word(word) = token else { continue };
        match word.to_ascii_lowercase().as_str() {
            "with" | "as" => {}
            "format" => copy.format = format(words)?,
            "csv" => copy.format = CopyFormat::Csv,
            "binary" => copy.format = CopyFormat::Binary,
            "header" => copy.header = switch(words),
            "delimiter" | "delimiters" => copy.delimiter = delimiter(words)?,
            "null" => {
                words.eat("as");
                null = words.string();
            }
            "quote" | "escape" => doubled_quote(word, words)?,
            "encoding" => {
                words.string();
            }
            other => {
                return Err(SqlError::new("0A000", format!("COPY option \"{other}\" is not supported"))
                    .hint("Supported: FORMAT text, csv or binary, HEADER, DELIMITER, NULL."));
            }
        }
    }
    let is_csv = copy.format == CopyFormat::Csv;
    if copy.delimiter == 0 {
        copy.delimiter = if is_csv { b',' } else { b'\t' };
    }
    copy.null = null.unwrap_or_else(|| if is_csv { String::new() } else { "\\N".to_owned() });
    Ok(Command::Copy(copy))
}

/// A format, as a word, a name or a string.
fn format(words: &mut Words<'_>) -> Result<CopyFormat, SqlError> {
    let name = words.name().or_else(|| words.string()).unwrap_or_default();
    match name.to_ascii_lowercase().as_str() {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        _ => Err(SqlError::new("22023", format!("COPY format \"{name}\" not recognized"))
            .hint("The formats are text, csv and binary.")),
    }
}

/// Whether an option is on: it is without a value too.
fn switch(words: &mut Words<'_>) -> bool {
    let word = match words.peek() {
        Some(Token::Word(word) | Token::Number(word)) => (*word).to_owned(),
        Some(Token::Text(word)) => word.clone(),
        _ => return true,
    };
    match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "1" => _ = words.next(),
        "false" | "off" | "0" => {
            words.next();
            return false;
        }
        _ => {}
    }
    true
}

/// A quote in CSV is doubled: other characters for that are refused.
fn doubled_quote(word: &str, words: &mut Words<'_>) -> Result<(), SqlError> {
    words.eat("as");
    if words.string().as_deref() == Some("\"") {
        return Ok(());
    }
    Err(SqlError::new("0A000", format!("COPY {} can only be a double quote", word.to_ascii_uppercase())))
}

fn delimiter(words: &mut Words<'_>) -> Result<u8, SqlError> {
    words.eat("as");
    match words.string().unwrap_or_default().as_bytes() {
        [one] if *one != b'"' && *one != b'\n' && *one != b'\r' => Ok(*one),
        _ => Err(SqlError::new("22023", "COPY delimiter must be a single one-byte character")),
    }
}
