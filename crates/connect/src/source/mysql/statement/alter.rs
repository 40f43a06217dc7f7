//! ALTER TABLE: which of its clauses leave rows and columns as they are.
//!
//! Clauses that speak of single columns by their names say which ([`ColumnChange`]), unless they may do more.
//!
//! The law: a clause is harmless only if it begins as one of those listed here; any other may change rows and columns.
//! Partitioning may stand behind a clause without a comma, so that a clause that speaks of it is not harmless.

use super::token::Token;
use super::{At, ColumnChange, Effect, OTHER_THINGS, Reader, Statement, TableName, harmless, is_word};

/// What a clause does.
enum Clause {
    Nothing,
    /// To the key, or to a check, which is how MariaDB says that a text is JSON.
    Columns,
    /// To this column alone.
    Column(ColumnChange),
    Everything,
    Renames(TableName),
    /// Rows go to this table and come from it.
    Exchanges(TableName),
}

/// Options of a table that change neither rows nor columns.
const OPTIONS: [&str; 35] = [
    "COMMENT",
    "AUTO_INCREMENT",
    "ROW_FORMAT",
    "KEY_BLOCK_SIZE",
    "AVG_ROW_LENGTH",
    "MAX_ROWS",
    "MIN_ROWS",
    "CHECKSUM",
    "TABLE_CHECKSUM",
    "PAGE_CHECKSUM",
    "DELAY_KEY_WRITE",
    "PACK_KEYS",
    "STATS_PERSISTENT",
    "STATS_AUTO_RECALC",
    "STATS_SAMPLE_PAGES",
    "COMPRESSION",
    "ENCRYPTION",
    "ENCRYPTED",
    "ENCRYPTION_KEY_ID",
    "PAGE_COMPRESSED",
    "PAGE_COMPRESSION_LEVEL",
    "TRANSACTIONAL",
    "TABLESPACE",
    "STORAGE",
    "CHARSET",
    "COLLATE",
    "ENGINE_ATTRIBUTE",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "AUTOEXTEND_SIZE",
    "CONNECTION",
    "PASSWORD",
    "ALGORITHM",
    "LOCK",
    "IETF_QUOTES",
];
/// Engines that keep what a table holds.
const KEEPING: [&str; 13] = [
    "INNODB",
    "MYISAM",
    "ARIA",
    "MARIA",
    "ROCKSDB",
    "TOKUDB",
    "NDB",
    "NDBCLUSTER",
    "MEMORY",
    "HEAP",
    "ARCHIVE",
    "CSV",
    "COLUMNSTORE",
];

impl<'a> Reader<'a> {
    pub(super) fn alter(&mut self) -> Option<Statement> {
        self.lexer.any_of(&["ONLINE", "OFFLINE"]);
        // Rows that break a new key are dropped.
        let ignores = self.lexer.accept("IGNORE");
        if self.lexer.any_of(&["DATABASE", "SCHEMA"]) {
            // Of old: it renamed a database.
            return if self.tokens().iter().any(|token| is_word(token, "UPGRADE")) { None } else { harmless() };
        }
        if !self.lexer.accept("TABLE") {
            return if self.lexer.any_of(&OTHER_THINGS) { harmless() } else { None };
        }
        self.if_exists();
        let table = self.table()?;
        self.wait();
        let mut effects = Vec::new();
        let mut renamed = None;
        let mut changes = Vec::new();
        for clause in self.clauses() {
            match clause_of(&clause) {
                Clause::Nothing if ignores => push(&mut effects, Effect::Altered(table.clone())),
                Clause::Nothing => {}
                Clause::Columns => push(&mut effects, Effect::Columns(table.clone())),
                Clause::Column(change) => changes.push(change),
                Clause::Everything => push(&mut effects, Effect::Altered(table.clone())),
                Clause::Exchanges(other) => {
                    push(&mut effects, Effect::Altered(table.clone()));
                    push(&mut effects, Effect::Altered(other));
                }
                Clause::Renames(to) => renamed = Some(to),
            }
        }
        if !changes.is_empty() {
            let is_alone = effects.is_empty() && renamed.is_none() && !ignores;
            let altered =
                if is_alone { Effect::Reshaped(table.clone(), changes) } else { Effect::Altered(table.clone()) };
            push(&mut effects, altered);
        }
        if effects.is_empty() && renamed.is_none() {
            effects.push(Effect::Keys(table.clone()));
        }
        effects.extend(renamed.map(|to| Effect::Renamed { from: table, to }));
        Some(Statement::Effects(effects))
    }

    fn tokens(&mut self) -> Vec<Token<'a>> {
        std::iter::from_fn(|| self.lexer.next()).collect()
    }

    /// The clauses, without what stands in parentheses.
    fn clauses(&mut self) -> Vec<Vec<Token<'a>>> {
        let mut out = vec![Vec::new()];
        let mut depth = 0_u32;
        for token in self.tokens() {
            match token {
                Token::Sign('(') => {
                    if depth == 0 {
                        out.last_mut().into_iter().for_each(|clause| clause.push(Token::Sign('(')));
                    }
                    depth = depth.saturating_add(1);
                }
                Token::Sign(')') => depth = depth.saturating_sub(1),
                Token::Sign(',') if depth == 0 => out.push(Vec::new()),
                Token::Sign(';') if depth == 0 => {}
                token if depth == 0 => out.last_mut().into_iter().for_each(|clause| clause.push(token.clone())),
                _ => {}
            }
        }
        out.retain(|clause| !clause.is_empty());
        out
    }
}

fn push(effects: &mut Vec<Effect>, effect: Effect) {
    if !effects.contains(&effect) {
        effects.push(effect);
    }
}

/// The words of a clause, read from its head.
struct Words<'c, 'a>(&'c [Token<'a>]);

impl Words<'_, '_> {
    fn accept(&mut self, words: &[&str]) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let is_next = words.iter().any(|word| is_word(first, word));
        if is_next {
            self.0 = rest;
        }
        is_next
    }

    fn sign(&mut self, sign: char) -> bool {
        match self.0.split_first() {
            Some((Token::Sign(found), rest)) if *found == sign => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn skip(&mut self) {
        self.0 = self.0.get(1..).unwrap_or_default();
    }

    fn identifier(&mut self) -> Option<String> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        match first {
            Token::Word(word) => Some((*word).to_owned()),
            Token::Name(name) => Some(name.clone().into_owned()),
            Token::Text(_) | Token::Sign(_) => None,
        }
    }

    fn table(&mut self) -> Option<TableName> {
        let first = self.identifier()?;
        Some(match self.sign('.') {
            true => TableName { database: Some(first), name: self.identifier()? },
            false => TableName { database: None, name: first },
        })
    }
}

/// Whether a column that is changed has a name of its own for what it becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Kept,
    New,
}

/// What of a table is added, dropped or changed that is no column, where no quotes say that it is one.
const NO_COLUMNS: [&str; 3] = ["SYSTEM", "PERIOD", "TABLESPACE"];
/// Words in a column's definition by which the table's keys become others.
const OF_KEYS: [&str; 5] = ["PRIMARY", "KEY", "UNIQUE", "REFERENCES", "AUTO_INCREMENT"];

/// Of columns: none where a clause may be about more than one.
impl Words<'_, '_> {
    fn column(&mut self) -> Option<String> {
        self.accept(&["COLUMN"]);
        if self.accept(&["IF"]) {
            self.accept(&["NOT"]);
            self.accept(&["EXISTS"]);
        }
        let is_other = self.0.first().is_some_and(|first| NO_COLUMNS.iter().any(|word| is_word(first, word)));
        if is_other { None } else { self.identifier() }
    }

    fn column_added(mut self) -> Option<ColumnChange> {
        let name = self.column()?;
        Some(ColumnChange::Added { name, at: self.definition()? })
    }

    fn column_dropped(mut self) -> Option<ColumnChange> {
        let name = self.column()?;
        self.accept(&["RESTRICT", "CASCADE"]);
        self.0.is_empty().then_some(ColumnChange::Dropped(name))
    }

    fn changed(mut self, names: Name) -> Option<ColumnChange> {
        let name = self.column()?;
        let to = if names == Name::New { self.identifier()? } else { name.clone() };
        Some(ColumnChange::Changed { name, to, at: self.definition()? })
    }

    fn renamed(mut self) -> Option<ColumnChange> {
        let name = self.column()?;
        if !self.accept(&["TO"]) {
            return None;
        }
        let to = self.identifier()?;
        self.0.is_empty().then_some(ColumnChange::Changed { name, to, at: At::Unsaid })
    }

    /// A definition to its end, which says where the column goes.
    fn definition(self) -> Option<At> {
        if self.0.is_empty() || self.0.iter().any(|token| OF_KEYS.iter().any(|word| is_word(token, word))) {
            return None;
        }
        Some(match self.0 {
            [.., last] if is_word(last, "FIRST") => At::First,
            [.., after, _] if is_word(after, "AFTER") => At::After(Words(&self.0[self.0.len() - 1..]).identifier()?),
            _ => At::Unsaid,
        })
    }
}

fn clause_of(clause: &[Token<'_>]) -> Clause {
    let mut words = Words(clause);
    if words.accept(&["EXCHANGE"]) {
        let at = clause.iter().position(|token| is_word(token, "TABLE"));
        let table = at.and_then(|at| Words(clause.get(at + 1..).unwrap_or_default()).table());
        return table.map_or(Clause::Everything, Clause::Exchanges);
    }
    if words.accept(&["ANALYZE", "CHECK", "OPTIMIZE"]) && words.accept(&["PARTITION"]) {
        return Clause::Nothing;
    }
    words = Words(clause);
    if clause.iter().any(|token| is_word(token, "PARTITION") || is_word(token, "REMOVE")) {
        return Clause::Everything;
    }
    if words.accept(&["RENAME"]) {
        return match () {
            () if words.accept(&["INDEX", "KEY"]) => Clause::Nothing,
            () if words.accept(&["COLUMN"]) => words.renamed().map_or(Clause::Everything, Clause::Column),
            () => {
                words.accept(&["TO", "AS"]);
                words.sign('=');
                words.table().map_or(Clause::Everything, Clause::Renames)
            }
        };
    }
    if words.accept(&["ADD"]) {
        return added(words);
    }
    if words.accept(&["DROP"]) {
        return dropped(words);
    }
    if words.accept(&["MODIFY"]) {
        return words.changed(Name::Kept).map_or(Clause::Everything, Clause::Column);
    }
    if words.accept(&["CHANGE"]) {
        return words.changed(Name::New).map_or(Clause::Everything, Clause::Column);
    }
    if words.accept(&["ALTER"]) {
        return altered(words);
    }
    if words.accept(&["FORCE"]) || words.accept(&["ORDER"]) {
        return Clause::Nothing;
    }
    if words.accept(&["ENABLE", "DISABLE"]) {
        return if words.accept(&["KEYS"]) { Clause::Nothing } else { Clause::Everything };
    }
    if words.accept(&["WITH", "WITHOUT"]) {
        return if words.accept(&["VALIDATION"]) { Clause::Nothing } else { Clause::Everything };
    }
    options(words)
}

/// `ADD INDEX …`, `ADD CONSTRAINT c FOREIGN KEY …`, …
fn added(mut words: Words<'_, '_>) -> Clause {
    const KINDS: [&str; 4] = ["FOREIGN", "CHECK", "UNIQUE", "PRIMARY"];
    if words.accept(&["CONSTRAINT"]) {
        let is_named = words.0.first().is_some_and(|token| !KINDS.iter().any(|kind| is_word(token, kind)));
        if is_named {
            words.accept(&["IF"]);
            words.accept(&["NOT"]);
            words.accept(&["EXISTS"]);
            words.skip();
        }
    }
    match () {
        () if words.accept(&["INDEX", "KEY", "UNIQUE", "FULLTEXT", "SPATIAL", "FOREIGN"]) => Clause::Nothing,
        () if words.accept(&["VECTOR"]) && words.accept(&["INDEX", "KEY"]) => Clause::Nothing,
        () if words.accept(&["PRIMARY", "CHECK"]) => Clause::Columns,
        () => words.column_added().map_or(Clause::Everything, Clause::Column),
    }
}

fn dropped(mut words: Words<'_, '_>) -> Clause {
    if words.accept(&["FOREIGN"]) {
        return Clause::Nothing;
    }
    if words.accept(&["PRIMARY", "CONSTRAINT", "CHECK"]) {
        return Clause::Columns;
    }
    if words.accept(&["INDEX", "KEY"]) {
        words.accept(&["IF"]);
        words.accept(&["EXISTS"]);
        let is_key = words.identifier().is_none_or(|name| name.eq_ignore_ascii_case("PRIMARY"));
        return if is_key { Clause::Columns } else { Clause::Nothing };
    }
    words.column_dropped().map_or(Clause::Everything, Clause::Column)
}

/// `ALTER INDEX i INVISIBLE`, `ALTER CHECK c NOT ENFORCED`, `ALTER [COLUMN] c SET DEFAULT …`.
fn altered(mut words: Words<'_, '_>) -> Clause {
    if words.accept(&["INDEX", "KEY", "CHECK", "CONSTRAINT"]) {
        return Clause::Nothing;
    }
    words.accept(&["COLUMN"]);
    words.accept(&["IF"]);
    words.accept(&["EXISTS"]);
    words.skip();
    let is_of_default = words.accept(&["SET", "DROP"]) && words.accept(&["DEFAULT", "VISIBLE", "INVISIBLE"]);
    if is_of_default { Clause::Nothing } else { Clause::Everything }
}

/// `NAME [=] value`, one behind the other.
fn options(mut words: Words<'_, '_>) -> Clause {
    while !words.0.is_empty() {
        words.accept(&["DEFAULT"]);
        if words.accept(&["ENGINE", "TYPE"]) {
            words.sign('=');
            let engine = match words.0.first() {
                Some(Token::Text(text)) => Some(text.clone().into_owned()),
                _ => Words(words.0).identifier(),
            };
            if !engine.is_some_and(|engine| KEEPING.iter().any(|kept| engine.eq_ignore_ascii_case(kept))) {
                return Clause::Everything;
            }
        } else if words.accept(&["CHARACTER"]) {
            if !words.accept(&["SET"]) {
                return Clause::Everything;
            }
            words.sign('=');
        } else if words.accept(&["DATA", "INDEX"]) {
            if !words.accept(&["DIRECTORY"]) {
                return Clause::Everything;
            }
            words.sign('=');
        } else if words.accept(&OPTIONS) {
            words.sign('=');
        } else {
            return Clause::Everything;
        }
        if words.0.is_empty() {
            return Clause::Everything;
        }
        words.skip();
    }
    Clause::Nothing
}
