//! `SELECT version(), current_schema()`: what drivers and tools ask when they connect, about the session and no table.
//!
//! Only a list of exactly these is answered here; with anything else around them the reader gets the statement.

use super::command::Scope;
use super::lexer::Token;
use super::words::Words;

/// A column of such a SELECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) function: Function,
    /// Name of the column.
    pub(crate) label: String,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Function {
    Version,
    Schema,
    Database,
    User,
    Pid,
    InRecovery,
    /// `current_setting('name')`, or none for an unknown name where asked so.
    Setting {
        name: String,
        missing_ok: bool,
    },
    /// `set_config('name', 'value', is_local)`.
    SetConfig {
        name: String,
        value: String,
        scope: Scope,
    },
}

/// Columns of such a SELECT; one of more is the reader's, who refuses what is too much.
const ITEMS_MAX: usize = 100;

/// The items behind SELECT, if all are of this kind.
pub(super) fn items(words: &mut Words<'_>) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    loop {
        items.push(item(words)?);
        if words.is_empty() {
            return Some(items);
        }
        if !words.symbol(',') || items.len() == ITEMS_MAX {
            return None;
        }
    }
}

fn item(words: &mut Words<'_>) -> Option<Item> {
    if words.eat("pg_catalog") && !words.symbol('.') {
        return None;
    }
    let word = words.keyword()?;
    words.next();
    let call = words.symbol('(');
    let function = function(&word, call, words)?;
    if call && !words.symbol(')') {
        return None;
    }
    let label = alias(words).unwrap_or(word);
    Some(Item { function, label })
}

fn function(word: &str, call: bool, words: &mut Words<'_>) -> Option<Function> {
    Some(match (word, call) {
        ("version", true) => Function::Version,
        ("current_schema", _) => Function::Schema,
        ("current_database", true) | ("current_catalog", false) => Function::Database,
        ("current_user" | "session_user" | "user" | "current_role", false) => Function::User,
        ("pg_backend_pid", true) => Function::Pid,
        ("pg_is_in_recovery", true) => Function::InRecovery,
        ("current_setting", true) => {
            let name = words.string()?.to_lowercase();
            let missing_ok = words.symbol(',') && words.eat("true");
            Function::Setting { name, missing_ok }
        }
        ("set_config", true) => {
            let name = words.string()?.to_lowercase();
            let value = words.symbol(',').then(|| words.string()).flatten()?;
            let scope = match words.symbol(',') && words.eat("true") {
                true => Scope::Transaction,
                false => words.eat("false").then_some(Scope::Session)?,
            };
            Function::SetConfig { name, value, scope }
        }
        _ => return None,
    })
}

fn alias(words: &mut Words<'_>) -> Option<String> {
    if words.eat("as") {
        return words.name();
    }
    match words.peek() {
        Some(Token::Name(_)) => words.name(),
        Some(Token::Word(word)) if !["from", "where", "limit", "union", "order"].contains(word) => words.name(),
        _ => None,
    }
}
