//! Why a model cannot be kept: message, detail, hint, and where in the SQL.

use std::fmt;

use datafusion_common::{Column, DataFusionError, Diagnostic, SchemaError};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::accepted::unknown;
use crate::foreign::{NOT_KEPT, instead_of_syntax, instead_of_text};
use crate::functions::functions;
use crate::instead::{instead_of_types, no_such};
use crate::naming::NAMELESS;
use crate::postgres::quantified::NO_ARRAY;
use crate::postgres::refused::refused_name;
use crate::postgres::types::in_sql;
use crate::settings;
use crate::wording::reworded;

/// The way out of a model that cannot be kept, where a query can answer it all the same.
pub const IN_A_VIEW: &str = "Write it in a view over the model: materialized='view'.";

/// A model that cannot be planned, or that has no incremental form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    pub message: String,
    pub detail: String,
    pub hint: String,
    /// Line and column in the SQL text, both from 1.
    pub line: Option<(usize, usize)>,
}

impl std::error::Error for Refusal {}

/// Message, position, detail and hint, a line each.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some((line, column)) = self.line {
            write!(f, " (line {line}, column {column})")?;
        }
        for (label, text) in [("Detail", &self.detail), ("Hint", &self.hint)] {
            if !text.is_empty() {
                write!(f, "\n{label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        from_planner(&error)
    }
}

impl Refusal {
    /// SQL that is wrong in itself.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// SQL that is right but cannot be maintained.
    pub(crate) fn cannot_keep(detail: impl Into<String>) -> Self {
        Self::new("cannot keep model up to date").with_detail(detail)
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// With the way out that it can stand in a view, and what else there is to be done, if anything.
    pub(crate) fn or_in_a_view(self, hint: &str) -> Self {
        self.with_hint(format!("{IN_A_VIEW} {hint}").trim_end())
    }

    /// Of a model that is kept, where what is written instead of a function of MySQL's is not: that can stand in a view.
    pub(crate) fn of_kept(mut self) -> Self {
        let name = self.hint.split(' ').next().unwrap_or_default().to_lowercase();
        if self.hint.contains(" is MySQL's: write ") && NOT_KEPT.contains(&name.as_str()) {
            self.hint = format!("{} {IN_A_VIEW}", self.hint);
        }
        self
    }

    /// Two columns of one name.
    pub(crate) fn twice(name: &str, sql: &str) -> Self {
        Self::new(format!("column \"{name}\" specified more than once")).with_hint(TWICE).at(sql, name)
    }

    /// With what PostgreSQL has for what only MySQL reads, where that is what is refused.
    pub(crate) fn over(mut self, sql: &str) -> Self {
        let instead = match (self.line, self.message.as_str()) {
            (Some((line, column)), "syntax error") => instead_of_syntax(sql, line, column),
            (Some((line, column)), message)
                if message.starts_with("column \"") && !self.hint.starts_with("Did you") =>
            {
                instead_of_text(sql, line, column)
            }
            _ => None,
        };
        if let Some(instead) = instead {
            self.hint = instead;
        }
        self.line = self.line.or_else(|| place_of_position(sql, &self.message));
        // The planner does not say where a function stands, or an aggregate that must not.
        let called = self.message.strip_prefix("window ").unwrap_or(&self.message);
        let called = called.strip_prefix("function ").map(|rest| rest.trim_start_matches('"').to_owned());
        let called = called.and_then(|rest| rest.split(['(', '"', ' ']).next().map(str::to_owned));
        match called {
            Some(name) if !name.is_empty() => self.at(sql, &name),
            _ if self.message.contains("are not allowed in the WHERE clause") => self.at(sql, "where"),
            _ if self.message.starts_with("columns of HAVING ") => self.at(sql, "having"),
            _ if self.message.ends_with(": REGEXP") => self.at(sql, "regexp").at(sql, "rlike"),
            _ => self,
        }
    }

    /// Where the words stand in the SQL, if nothing better is known.
    ///
    /// Plans do not say where their parts come from; the first place where these words follow each other is where a
    /// reader looks first.
    pub(crate) fn at(mut self, sql: &str, words: &str) -> Self {
        self.line = self.line.or_else(|| locate(sql, words));
        self
    }
}

/// The first place of words that follow each other, letter case apart, outside of strings and comments.
pub fn locate(sql: &str, words: &str) -> Option<(usize, usize)> {
    let tokens = tokens(sql)?;
    let words: Vec<_> = words.split_whitespace().collect();
    let found = tokens
        .windows(words.len().max(1))
        .find(|window| window.iter().zip(&words).all(|(token, word)| is_word(token, word)))?;
    start(found.first()?)
}

/// The tokens of a text that are more than blanks and comments.
fn tokens(sql: &str) -> Option<Vec<TokenWithSpan>> {
    let tokens = Tokenizer::new(&settings::dialect(), sql).tokenize_with_location().ok()?;
    Some(tokens.into_iter().filter(|t| !matches!(t.token, Token::Whitespace(_))).collect())
}

fn is_word(token: &TokenWithSpan, word: &str) -> bool {
    token.token.to_string().trim_matches('"').eq_ignore_ascii_case(word)
}

fn start(token: &TokenWithSpan) -> Option<(usize, usize)> {
    let start = token.span.start;
    Some((usize::try_from(start.line).ok()?, usize::try_from(start.column).ok()?))
}

/// Where in a text stands what a message names: by its number, or by words of SQL, which it has in capitals.
pub fn place_told(sql: &str, message: &str) -> Option<(usize, usize)> {
    let is_capital = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
    let in_words = || {
        let words: Vec<&str> = message.split(|c: char| !c.is_alphanumeric()).collect();
        let runs = words.split(|word| !is_capital(word)).filter(|run| !run.is_empty());
        runs.map(|run| run.join(" ")).find_map(|run| locate(sql, &run))
    };
    place_of_position(sql, message).or_else(in_words)
}

/// Where stands what is named by its number: `GROUP BY position 3 is not in select list`.
fn place_of_position(sql: &str, message: &str) -> Option<(usize, usize)> {
    let (clause, rest) = message.split_once(" position ")?;
    let number = rest.strip_suffix(" is not in select list")?.trim_start_matches('-');
    let (first, second) = clause.split_once(' ')?;
    let tokens = tokens(sql)?;
    let begins = tokens.windows(2).position(|pair| is_word(&pair[0], first) && is_word(&pair[1], second))?;
    let found = tokens.get(begins + 2..)?.iter().find(|token| is_word(token, number));
    found.or_else(|| tokens.get(begins)).and_then(start)
}

/// Where a list of tables goes on behind its first comma, which joins without a word: `from a, b`.
pub(crate) fn second_table(sql: &str) -> Option<(usize, usize)> {
    let tokens = tokens(sql)?;
    let (mut depth, mut lists) = (0_usize, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => {
                lists.retain(|of| *of < depth);
                depth = depth.saturating_sub(1);
            }
            Token::Word(word) if word.keyword == Keyword::FROM => lists.push(depth),
            Token::Word(word) if ENDS_TABLES.contains(&word.keyword) => lists.retain(|of| *of != depth),
            Token::Comma if lists.last() == Some(&depth) => return tokens.get(at + 1).and_then(start),
            _ => {}
        }
    }
    None
}

/// What a list of tables ends at.
const ENDS_TABLES: [Keyword; 10] = [
    Keyword::WHERE,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::WINDOW,
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::UNION,
    Keyword::INTERSECT,
    Keyword::EXCEPT,
    Keyword::SELECT,
];

fn from_planner(error: &DataFusionError) -> Refusal {
    match error {
        DataFusionError::Diagnostic(diagnostic, inner) => with_diagnostic(from_planner(inner), diagnostic),
        DataFusionError::Context(_, inner) => from_planner(inner),
        DataFusionError::Shared(inner) => from_planner(inner),
        DataFusionError::Collection(errors) => {
            errors.first().map_or_else(|| Refusal::new(error.to_string()), from_planner)
        }
        DataFusionError::External(inner) => match inner.downcast_ref::<Refusal>() {
            Some(refusal) => refusal.clone(),
            None => Refusal::new(inner.to_string()),
        },
        DataFusionError::SchemaError(inner, _) => from_schema_error(inner),
        // A constant that was computed.
        DataFusionError::Execution(text) => from_text(text),
        DataFusionError::SQL(inner, _) => from_parser(&inner.to_string()),
        DataFusionError::NotImplemented(text) => from_text(text).with_hint_or("Not supported yet."),
        // What a constant of the statement is not.
        other => from_text(&other.strip_backtrace()),
    }
}

impl Refusal {
    fn with_hint_or(mut self, hint: &str) -> Self {
        if self.hint.is_empty() {
            hint.clone_into(&mut self.hint);
        }
        self
    }
}

fn with_diagnostic(mut refusal: Refusal, diagnostic: &Diagnostic) -> Refusal {
    let position = |span: &datafusion_common::Span| {
        Some((usize::try_from(span.start.line).ok()?, usize::try_from(span.start.column).ok()?))
    };
    if refusal.line.is_none() && !refusal.message.starts_with("view ") {
        refusal.line = diagnostic.span.as_ref().and_then(position);
    }
    refusal
}

/// Behind which the planner puts what a function says of the types that it is called with.
pub const COERCION: &str = "user-defined coercion failed with: Error during planning: ";

/// What a function says of the types that it is called with, where that is more than that it takes others: the planner puts what it
/// knows of such functions behind it, under names that nobody wrote.
pub fn of_types(text: &str) -> Option<&str> {
    let (_, own) = text.split_once(COERCION)?;
    let own = own.split_once(". No function matches the given name").map_or(own, |(own, _)| own);
    let is_own = ["operator does not exist: ", "cannot cast type ", NO_ARRAY].iter().any(|told| own.starts_with(told));
    is_own.then_some(own)
}

/// The way out where two columns have one name.
const TWICE: &str = "Give each column of a model a name of its own: … as name.";

/// A planner's text, in our words where it is a frequent one: else its first line, and the rest as detail.
fn from_text(text: &str) -> Refusal {
    let text = text.strip_prefix("Error during planning: ").unwrap_or(text);
    let text = text.strip_prefix("This feature is not implemented: ").unwrap_or(text);
    // What a function of ours says of its arguments' types.
    let text = of_types(text).or_else(|| text.split_once(COERCION).map(|(_, own)| own)).unwrap_or(text);
    if let Some(name) = between(text, "Invalid function '", "'") {
        if functions().window.contains_key(name) {
            return Refusal::new(format!("window function {name} requires an OVER clause"))
                .with_hint(format!("Write {name}(…) over (order by a)."));
        }
        return unknown(name);
    }
    if let Some(call) = between(text, "No function matches the given name and argument types '", "'") {
        let message = no_such(&in_sql(call));
        let hint = instead_of_types(&message).unwrap_or_else(|| "Cast the arguments.".to_owned());
        return Refusal::new(message).with_hint(hint);
    }
    if let Some(column) = between(text, "Projections require unique expression names but the expression \"", "\" at") {
        let name = column.rsplit_once(" AS ").map_or(column, |(_, alias)| alias);
        return Refusal::new(format!("column \"{name}\" specified more than once")).with_hint(TWICE);
    }
    if let Some(column) = between(text, "column \"", "\" must appear in the GROUP BY clause") {
        let message = "must appear in the GROUP BY clause or be used in an aggregate function";
        return Refusal::new(format!("column \"{column}\" {message}"));
    }
    if let Some(told) = reworded(text) {
        let hint = if told.hint.is_empty() { instead_of_types(&told.message).unwrap_or_default() } else { told.hint };
        return Refusal::new(told.message).with_hint(hint);
    }
    let (message, detail) = text.split_once('\n').unwrap_or((text, ""));
    let refusal = Refusal::new(lowered(&in_sql(message.trim_end_matches('.')))).with_detail(detail.trim());
    match instead_of_types(&refusal.message) {
        Some(instead) => refusal.with_hint(instead),
        None => refusal,
    }
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// Messages begin with a small letter, unless with a name.
fn lowered(message: &str) -> String {
    let mut chars = message.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain([second]).chain(chars).collect()
        }
        _ => message.to_owned(),
    }
}

fn from_schema_error(error: &SchemaError) -> Refusal {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            if let Some(told) = refused_name(&field.name) {
                return Refusal::new(told.message).with_hint(told.hint);
            }
            let refusal = Refusal::new(format!("column \"{}\" does not exist", field.flat_name_unquoted()));
            let names: Vec<_> = valid_fields.iter().map(|f| f.name.as_str()).collect();
            let mut refusal = refusal.with_hint(suggestion(&field.name, &names));
            refusal.line = field.spans.first().and_then(|span| {
                Some((usize::try_from(span.start.line).ok()?, usize::try_from(span.start.column).ok()?))
            });
            refusal
        }
        SchemaError::AmbiguousReference { field } => {
            let refusal = Refusal::new(format!("column reference \"{}\" is ambiguous", field.name));
            let mut refusal = refusal.with_hint("Say which table it is of: t.column.");
            refusal.line = field.spans.first().and_then(|span| {
                Some((usize::try_from(span.start.line).ok()?, usize::try_from(span.start.column).ok()?))
            });
            refusal
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Refusal::new(format!("column \"{name}\" specified more than once"))
        }
    }
}

/// What is said of a part of windows that the parser does not know.
pub const NO_EXCLUDE: &str = "EXCLUDE in the frame of a window is not supported";

/// `sql parser error: Expected: …, found: x at Line: 1, Column: 8`.
fn from_parser(text: &str) -> Refusal {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let (reason, place) = text.rsplit_once(" at Line: ").unwrap_or((text, ""));
    // The parser shows a token as it keeps it.
    let found = between(reason, "No infix parser for token Word(Word { value: \"", "\"");
    let reason = found.map_or_else(|| reason.to_owned(), |found| format!("Expected: an operator, found: {found}"));
    let is_exclude = reason.rsplit(' ').next().is_some_and(|word| word.eq_ignore_ascii_case("exclude"));
    let mut refusal = match is_exclude {
        true => Refusal::new(NO_EXCLUDE),
        false => Refusal::new("syntax error").with_detail(reason),
    };
    refusal.line = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some((line.trim().parse().ok()?, column.trim().parse().ok()?)));
    refusal
}

/// `Did you mean "…"?` if a name is near, else which there are.
pub(crate) fn suggestion(name: &str, names: &[&str]) -> String {
    let nearest = names.iter().map(|candidate| (distance(name, candidate), candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance * 3 <= name.chars().count().max(3) => {
            format!("Did you mean \"{candidate}\"?")
        }
        Some(_) if names.len() <= 12 => {
            // Two tables of a join may have columns of one name.
            let mut known: Vec<&str> = Vec::new();
            for name in names {
                if !known.contains(name) && *name != NAMELESS {
                    known.push(name);
                }
            }
            format!("Known are {}.", known.join(", "))
        }
        _ => String::new(),
    }
}

/// Whether a name was probably meant by another one.
pub(crate) fn is_alike(name: &str, candidate: &str) -> bool {
    distance(&name.to_lowercase(), &candidate.to_lowercase()) * 3 <= name.chars().count().max(3)
}

/// How many letters must be changed, added or dropped (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

trait FlatName {
    fn flat_name_unquoted(&self) -> String;
}

impl FlatName for Column {
    /// `table.column` as a user would write it.
    fn flat_name_unquoted(&self) -> String {
        match &self.relation {
            Some(relation) => format!("{}.{}", relation.table(), self.name),
            None => self.name.clone(),
        }
    }
}
