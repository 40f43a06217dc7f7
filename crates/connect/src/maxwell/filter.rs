//! Which tables are output, by Maxwell's own rules: `exclude: *.*, include: shop.*, exclude: shop./_log$/, blacklist: tmp.*`.
//!
//! The law: rules are read from left to right and the last one that is about a table decides; without any, all are output. A rule with
//! a column, `exclude: shop.orders.state = test`, is about the rows that have this value. What is blacklisted is excluded, and nothing
//! is said of its definition either. A name is bare or in quotes, `*` is all, and `/…/` an expression that is found in a name.

use regex::Regex;

/// The rules.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    verb: Verb,
    database: Pattern,
    table: Pattern,
    /// The column and its value that the rule is about.
    column: Option<(Pattern, Pattern)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Include,
    Exclude,
    Blacklist,
}

#[derive(Debug, Clone)]
enum Pattern {
    All,
    Name(String),
    /// The word NULL, which is no name.
    Null,
    Expression(Regex),
}

/// What becomes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All its rows.
    All,
    Nothing,
    /// It depends on a row's values.
    ByRow,
}

/// Why a filter cannot be read, with the place in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected} expected at \"{rest}\"")]
pub struct BadFilter {
    expected: String,
    rest: String,
}

impl Filter {
    /// Reads a filter as `maxwell.properties` has it.
    pub fn parse(text: &str) -> Result<Self, BadFilter> {
        let mut reader = Reader { rest: text.trim() };
        let mut rules = Vec::new();
        while !reader.rest.is_empty() {
            rules.push(reader.rule()?);
            if !reader.rest.is_empty() {
                reader.sign(',')?;
            }
        }
        Ok(Self { rules })
    }

    /// What becomes of a table with these columns.
    pub(crate) fn passage<'a>(
        &self,
        database: &str,
        table: &str,
        columns: impl Iterator<Item = &'a str> + Clone,
    ) -> Passage {
        let mut passage = Passage::All;
        for rule in self.rules.iter().filter(|rule| rule.is_of(database, table)) {
            passage = match &rule.column {
                None if rule.verb == Verb::Include => Passage::All,
                None => Passage::Nothing,
                Some((name, _)) if columns.clone().any(|column| name.matches(column)) => Passage::ByRow,
                Some(_) => passage,
            };
        }
        if self.is_blacklisted(database, table) { Passage::Nothing } else { passage }
    }

    /// Whether a row is output; `value` tells a column's value as Java shows it, `Some(None)` being NULL.
    pub(crate) fn passes<'a>(
        &self,
        database: &str,
        table: &str,
        columns: impl Iterator<Item = &'a str> + Clone,
        mut value: impl FnMut(&str) -> Option<Option<String>>,
    ) -> bool {
        let mut passes = true;
        for rule in self.rules.iter().filter(|rule| rule.is_of(database, table)) {
            let applies = match &rule.column {
                None => true,
                Some((name, wanted)) => columns
                    .clone()
                    .filter(|column| name.matches(column))
                    .any(|column| value(column).is_some_and(|value| wanted.is_value(value.as_deref()))),
            };
            if applies {
                passes = rule.verb == Verb::Include;
            }
        }
        passes
    }

    /// Whether rows of an excluded table may pass by their values.
    pub(crate) fn may_pass_rows(&self, database: &str, table: &str) -> bool {
        let by_rows = |rule: &&Rule| rule.column.is_some() && rule.verb == Verb::Include;
        !self.is_blacklisted(database, table)
            && self.rules.iter().filter(by_rows).any(|rule| rule.is_of(database, table))
    }

    /// Whether definitions of a table are told.
    pub(crate) fn tells_definitions(&self, database: &str, table: &str) -> bool {
        self.passage(database, table, std::iter::empty()) != Passage::Nothing
    }

    /// Whether definitions of a database are told: unless all its tables are excluded.
    pub(crate) fn tells_database(&self, database: &str) -> bool {
        let whole = self.rules.iter().filter(|rule| rule.column.is_none() && rule.database.matches(database));
        let mut told = true;
        for rule in whole {
            match (rule.verb, &rule.table) {
                (Verb::Include, _) => told = true,
                (_, Pattern::All) => told = false,
                _ => {}
            }
        }
        told
    }

    fn is_blacklisted(&self, database: &str, table: &str) -> bool {
        self.rules.iter().any(|rule| rule.verb == Verb::Blacklist && rule.is_of(database, table))
    }
}

impl Rule {
    fn is_of(&self, database: &str, table: &str) -> bool {
        self.database.matches(database) && self.table.matches(table)
    }
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted == name,
            Self::Null => name.eq_ignore_ascii_case("null"),
            Self::Expression(expression) => expression.is_match(name),
        }
    }

    fn is_value(&self, value: Option<&str>) -> bool {
        match (self, value) {
            (Self::All, _) | (Self::Null, None) => true,
            (_, None) | (Self::Null, Some(_)) => false,
            (pattern, Some(value)) => pattern.matches(value),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn expected(&self, what: &str) -> BadFilter {
        BadFilter { expected: what.to_owned(), rest: self.rest.chars().take(40).collect() }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(bytes);
        self.rest = tail;
        head
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn sign(&mut self, sign: char) -> Result<(), BadFilter> {
        self.space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                self.space();
                Ok(())
            }
            None => Err(self.expected(&format!("'{sign}'"))),
        }
    }

    fn rule(&mut self) -> Result<Rule, BadFilter> {
        self.space();
        let before = self.rest;
        let end = self.rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest.len());
        let verb = match self.take(end).to_ascii_lowercase().as_str() {
            "include" => Verb::Include,
            "exclude" => Verb::Exclude,
            "blacklist" => Verb::Blacklist,
            _ => {
                self.rest = before;
                return Err(self.expected("include, exclude or blacklist"));
            }
        };
        self.sign(':')?;
        let database = self.pattern(is_of_name)?;
        self.sign('.')?;
        let table = self.pattern(is_of_name)?;
        self.space();
        let mut column = None;
        if self.rest.starts_with('.') {
            self.sign('.')?;
            let name = self.pattern(is_of_name)?;
            self.sign('=')?;
            let wanted = match self.pattern(is_of_value)? {
                Pattern::Name(word) if word.eq_ignore_ascii_case("null") && !self.was_quoted(before) => Pattern::Null,
                pattern => pattern,
            };
            column = Some((name, wanted));
        }
        self.space();
        Ok(Rule { verb, database, table, column })
    }

    /// Whether what was read last ended in a quote.
    fn was_quoted(&self, before: &str) -> bool {
        let read = before.get(..before.len() - self.rest.len()).unwrap_or_default();
        read.ends_with(['"', '\'', '`'])
    }

    fn pattern(&mut self, is_of: fn(char) -> bool) -> Result<Pattern, BadFilter> {
        self.space();
        let Some(first) = self.rest.chars().next() else { return Err(self.expected("a name")) };
        match first {
            '*' => {
                self.take(1);
                Ok(Pattern::All)
            }
            '`' | '"' | '\'' => {
                let (name, rest) = self
                    .rest
                    .get(1..)
                    .and_then(|rest| rest.split_once(first))
                    .ok_or_else(|| self.expected("a name in quotes"))?;
                self.rest = rest;
                Ok(Pattern::Name(name.to_owned()))
            }
            '/' => {
                let end = closing_slash(self.rest).ok_or_else(|| self.expected("an expression between slashes"))?;
                let text = self.rest.get(1..end).unwrap_or_default().replace("\\/", "/");
                let expression = Regex::new(&text).map_err(|_| self.expected("an expression that can be read"))?;
                self.take(end + 1);
                Ok(Pattern::Expression(expression))
            }
            c if is_of(c) => {
                let end = self.rest.find(|c| !is_of(c)).unwrap_or(self.rest.len());
                Ok(Pattern::Name(self.take(end).to_owned()))
            }
            _ => Err(self.expected("a name")),
        }
    }
}

/// The slash that ends an expression: not one behind a backslash.
fn closing_slash(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'/' => return Some(at),
            _ => {}
        }
    }
    None
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '$')
}

fn is_of_value(c: char) -> bool {
    !c.is_whitespace() && c != ','
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(filter: &str, database: &str, table: &str) -> Passage {
        Filter::parse(filter).unwrap().passage(database, table, ["id", "state"].into_iter())
    }

    #[test]
    fn the_last_rule_about_a_table_decides() {
        assert_eq!(passage("", "shop", "orders"), Passage::All);
        assert_eq!(passage("exclude: *.*, include: shop.*", "shop", "orders"), Passage::All);
        assert_eq!(passage("exclude: *.*, include: shop.*", "other", "orders"), Passage::Nothing);
        assert_eq!(passage("include: shop.*, exclude: shop.orders", "shop", "orders"), Passage::Nothing);
        assert_eq!(passage("exclude: /^sh/.`orders`", "shop", "orders"), Passage::Nothing);
        assert_eq!(passage("exclude: /^sh/.\"orders\"", "ash", "orders"), Passage::All);
        assert_eq!(passage("blacklist: shop.*, include: shop.orders", "shop", "orders"), Passage::Nothing);
        assert_eq!(passage("exclude: shop.orders.state = test", "shop", "orders"), Passage::ByRow);
        assert_eq!(passage("exclude: shop.orders.color = red", "shop", "orders"), Passage::All);
    }

    #[test]
    fn a_rule_with_a_column_is_about_rows() {
        let passes = |filter: &str, state: Option<&str>| {
            let filter = Filter::parse(filter).unwrap();
            let columns = ["id", "state"].into_iter();
            filter.passes("shop", "orders", columns, |name| (name == "state").then(|| state.map(str::to_owned)))
        };
        assert!(!passes("exclude: shop.orders.state = test", Some("test")));
        assert!(passes("exclude: shop.orders.state = test", Some("paid")));
        assert!(!passes("exclude: *.*.state = /^t/", Some("test")));
        assert!(!passes("exclude: *.*.state = NULL", None));
        assert!(passes("exclude: *.*.state = 'NULL'", None));
        assert!(!passes("exclude: *.*.state = 'NULL'", Some("NULL")));
        assert!(!passes("exclude: *.*.state = *", None));
        assert!(passes("exclude: *.*, include: shop.orders.state = paid", Some("paid")));
        assert!(!passes("exclude: *.*, include: shop.orders.state = paid", None));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let said = |text: &str| Filter::parse(text).unwrap_err().to_string();
        assert_eq!(said("inclood: a.b"), "include, exclude or blacklist expected at \"inclood: a.b\"");
        assert_eq!(said("include a.b"), "':' expected at \"a.b\"");
        assert_eq!(said("include: a"), "'.' expected at \"\"");
        assert_eq!(said("include: a./b"), "an expression between slashes expected at \"/b\"");
        assert_eq!(said("include: a./(/"), "an expression that can be read expected at \"/(/\"");
    }
}
