//! How large and how nested a statement may be, decided before it is planned.
//!
//! Everything behind the parser walks a statement by recursion. Chains that programs write (`a or b or …`, `a || b || …`,
//! `… union all …`) come out of the parser as deep as they are long, and are made as flat as they are meant: the operators are
//! associative, so a chain of n becomes a tree of depth log n, read in the same order. What is nested after that has a limit.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    BinaryOperator, Expr, Query, Select, SetExpr, SetOperator, SetQuantifier, Statement, TableFactor, Value,
    VisitMut as _, VisitorMut,
};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::PostgreSql;

/// Words, numbers, strings and signs of a text.
const TOKENS_MAX: usize = 250_000;
/// How often an expression may begin in a text: as many times for each of its words and signs, and so many more. A text that is SQL needs
/// less than one for each.
const BEGINNINGS_PER_TOKEN: usize = 4;
const BEGINNINGS_MORE: usize = 4_000;
/// Operators that may follow one another, as the parser nests them.
const CHAIN_MAX: usize = 20_000;
/// Tables and subqueries that a statement may read, those of a WITH query as often as it is named: each name is planned anew.
const RELATIONS_MAX: u64 = 5_000;
/// Columns that a list may have, as PostgreSQL has it.
const COLUMNS_MAX: usize = 1_664;
/// Branches of set operations that are not flattened, one after the other.
const SETS_MAX: usize = 500;

/// Why a text is no statement.
#[derive(Debug)]
pub enum Unparsed {
    /// It is no SQL.
    Syntax(ParserError),
    /// It is too large or too deep; the text says of what it has too much.
    TooComplex(String),
}

/// The statements of a text, their chains made flat. Parentheses and the like may go `nesting_max` deep, operators that are
/// left inside one another `depth_max`.
pub fn parsed(sql: &str, nesting_max: usize, depth_max: usize) -> Result<Vec<Statement>, Unparsed> {
    let (signs, outside) = estimated(sql);
    if signs > TOKENS_MAX && outside > TOKENS_MAX {
        return Err(too_many("words and signs", TOKENS_MAX));
    }
    let tokens = Tokenizer::new(&PostgreSql::default(), sql).tokenize_with_location();
    let tokens = tokens.map_err(|error| Unparsed::Syntax(error.into()))?;
    if tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).count() > TOKENS_MAX {
        return Err(too_many("words and signs", TOKENS_MAX));
    }
    let Nested { chain, levels } = nested(&tokens);
    if chain > CHAIN_MAX {
        return Err(too_many("operators in one expression", CHAIN_MAX));
    }
    // The parser would say so too, but for a word that may be a name: it goes on with that.
    if levels > nesting_max {
        return Err(too_deep(nesting_max));
    }
    let dialect = PostgreSql::reading(tokens.len() * BEGINNINGS_PER_TOKEN + BEGINNINGS_MORE);
    let parser = Parser::new(&dialect).with_recursion_limit(nesting_max);
    let mut parser = parser.with_tokens_with_locations(whole_tables(tokens).map_err(Unparsed::Syntax)?);
    let statements = parser.parse_statements();
    if dialect.is_exhausted() {
        return Err(Unparsed::TooComplex("It can be read in too many ways, of which none is SQL so far.".to_owned()));
    }
    let mut statements = statements.map_err(|error| match error {
        ParserError::RecursionLimitExceeded => too_deep(nesting_max),
        other => Unparsed::Syntax(other),
    })?;
    let mut shape = Shape::default();
    for statement in &mut statements {
        let ControlFlow::Continue(()) = statement.visit(&mut shape);
    }
    if shape.deepest > depth_max {
        return Err(too_many("operators inside one another", depth_max));
    }
    if shape.relations > RELATIONS_MAX {
        return Err(Unparsed::TooComplex(format!(
            "With what its WITH queries stand for written out it has more than {RELATIONS_MAX} tables and subqueries."
        )));
    }
    if shape.columns > COLUMNS_MAX {
        return Err(too_many("columns in one list", COLUMNS_MAX));
    }
    if shape.sets > SETS_MAX {
        return Err(too_many("set operations one after the other", SETS_MAX));
    }
    Ok(statements)
}

fn too_deep(nesting_max: usize) -> Unparsed {
    Unparsed::TooComplex(format!("It nests more than {nesting_max} levels deep."))
}

/// `table orders` as `select * from orders`, wherever a query may stand: the parser knows it in a few places alone.
///
/// Errors: its name has something beside it, which the parser would pass over.
fn whole_tables(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, ParserError> {
    let keyword = |token: &TokenWithSpan| match &token.token {
        Token::Word(word) => word.keyword,
        _ => Keyword::NoKeyword,
    };
    let is_table = |token: &TokenWithSpan| keyword(token) == Keyword::TABLE;
    if !tokens.iter().any(is_table) {
        return Ok(tokens);
    }
    let written: Vec<(usize, &TokenWithSpan)> =
        tokens.iter().enumerate().filter(|(_, token)| !matches!(token.token, Token::Whitespace(_))).collect();
    let mut found = BTreeSet::new();
    for at in (0..written.len()).filter(|&at| is_table(written[at].1)) {
        let before: Vec<_> = written[..at].iter().rev().take(3).map(|(_, token)| *token).collect();
        let behind = &written[at + 1..];
        let is_named = behind.first().is_some_and(|(_, name)| matches!(name.token, Token::Word(_)));
        if !may_begin_query(&before, &keyword) || !is_named {
            continue;
        }
        if !is_name_alone(behind, &keyword) {
            let start = written[at].1.span.start;
            let place = format!("Line: {}, Column: {}", start.line, start.column);
            return Err(ParserError::ParserError(format!("Expected: SELECT, found: {} at {place}", written[at].1)));
        }
        found.insert(written[at].0);
    }
    let mut out = Vec::with_capacity(tokens.len() + 2 * found.len());
    for (at, token) in tokens.into_iter().enumerate() {
        match found.contains(&at) {
            true => {
                let words = [Token::make_keyword("SELECT"), Token::Mul, Token::make_keyword("FROM")];
                out.extend(words.map(|word| TokenWithSpan::new(word, token.span)));
            }
            false => out.push(token),
        }
    }
    Ok(out)
}

/// Whether a query may begin behind these words, of which the last stands first.
fn may_begin_query(before: &[&TokenWithSpan], keyword: &impl Fn(&TokenWithSpan) -> Keyword) -> bool {
    let word = |at: usize| before.get(at).map(|token| keyword(token));
    match before.first().map(|token| &token.token) {
        None | Some(Token::SemiColon | Token::LParen | Token::RParen) => true,
        Some(_) => match word(0) {
            Some(Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT | Keyword::EXPLAIN) => true,
            Some(Keyword::ALL | Keyword::DISTINCT) => {
                matches!(word(1), Some(Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT))
            }
            Some(Keyword::ANALYZE | Keyword::VERBOSE) => {
                word(1) == Some(Keyword::EXPLAIN) || word(2) == Some(Keyword::EXPLAIN)
            }
            Some(Keyword::FOR) => matches!(word(1), Some(Keyword::CURSOR | Keyword::HOLD)),
            _ => false,
        },
    }
}

/// Whether words begin with a name and go on with nothing that would be of a list of tables, or of their rows.
fn is_name_alone(behind: &[(usize, &TokenWithSpan)], keyword: &impl Fn(&TokenWithSpan) -> Keyword) -> bool {
    let mut rest = behind;
    loop {
        let Some(((_, name), more)) = rest.split_first() else { return false };
        if !matches!(name.token, Token::Word(_)) {
            return false;
        }
        match more.split_first() {
            Some(((_, dot), more)) if dot.token == Token::Period => rest = more,
            Some(((_, next), _)) => {
                return matches!(next.token, Token::SemiColon | Token::RParen | Token::EOF)
                    || matches!(
                        keyword(next),
                        Keyword::UNION
                            | Keyword::INTERSECT
                            | Keyword::EXCEPT
                            | Keyword::ORDER
                            | Keyword::LIMIT
                            | Keyword::OFFSET
                            | Keyword::FETCH
                    );
            }
            None => return true,
        }
    }
}

fn too_many(what: &str, max: usize) -> Unparsed {
    Unparsed::TooComplex(format!("It has more than {max} {what}."))
}

/// About how many tokens a text has, at most: all of it taken for SQL, and what is outside of quotes.
fn estimated(sql: &str) -> (usize, usize) {
    let (mut all, mut outside) = (0, 0);
    let (mut in_word, mut quoted) = (false, None);
    for byte in sql.bytes() {
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || !byte.is_ascii();
        let begins = !(byte.is_ascii_whitespace() || is_word && in_word);
        in_word = is_word;
        all += usize::from(begins);
        match quoted {
            None => {
                outside += usize::from(begins);
                quoted = matches!(byte, b'\'' | b'"').then_some(byte);
            }
            Some(quote) if quote == byte => quoted = None,
            Some(_) => {}
        }
    }
    (all, outside)
}

/// What is nested in a text.
struct Nested {
    /// The longest chain of operators with all that is nested in it: how deep the parser's tree may become.
    chain: usize,
    /// Parentheses, and CASEs, inside one another.
    levels: usize,
}

fn nested(tokens: &[TokenWithSpan]) -> Nested {
    /// What is open: parentheses, or a CASE.
    #[derive(Default)]
    struct Level {
        is_case: bool,
        run: usize,
        inside: usize,
        longest: usize,
    }
    impl Level {
        fn cut(&mut self) {
            self.longest = self.longest.max(self.run.saturating_add(self.inside));
            (self.run, self.inside) = (0, 0);
        }
    }
    let mut levels = vec![Level::default()];
    let (mut longest, mut deepest) = (0, 0);
    for token in tokens {
        let is_in_case = levels.last().is_some_and(|level| level.is_case);
        let word = match &token.token {
            Token::Word(word) => Some(word.keyword),
            _ => None,
        };
        let opens_case = word == Some(Keyword::CASE);
        let closes_case = word == Some(Keyword::END) && is_in_case;
        if opens_case || matches!(token.token, Token::LParen | Token::LBracket | Token::LBrace) {
            levels.push(Level { is_case: opens_case, run: 1, ..Level::default() });
            deepest = deepest.max(levels.len() - 1);
            continue;
        }
        if closes_case || matches!(token.token, Token::RParen | Token::RBracket | Token::RBrace) {
            let Some(mut level) = levels.pop() else { break };
            level.cut();
            longest = longest.max(level.longest);
            match levels.last_mut() {
                // An index, a call or a list of what stands before it is one more around that.
                Some(around) => {
                    around.inside = around.inside.max(level.longest);
                    around.run += usize::from(token.token == Token::RBracket);
                }
                None => levels.push(Level { longest: level.longest, ..Level::default() }),
            }
            continue;
        }
        let Some(level) = levels.last_mut() else { break };
        let separates = matches!(word, Some(Keyword::WHEN | Keyword::THEN | Keyword::ELSE)) && is_in_case;
        if separates || matches!(token.token, Token::Comma | Token::SemiColon) {
            level.cut();
        } else if is_operator(&token.token) {
            level.run += 1;
        }
    }
    while let Some(mut level) = levels.pop() {
        level.cut();
        longest = longest.max(level.longest);
        if let Some(around) = levels.last_mut() {
            around.inside = around.inside.max(level.longest);
        }
    }
    Nested { chain: longest, levels: deepest }
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::OVERLAPS
                | Keyword::NOTNULL
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::JOIN
        ),
        Token::EOF
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Whitespace(_)
        | Token::Placeholder(_) => false,
        _ => true,
    }
}

/// Flattens chains on the way down, and measures what is left.
#[derive(Default)]
struct Shape {
    depth: usize,
    deepest: usize,
    sets: usize,
    columns: usize,
    /// Queries that are open, outermost first.
    queries: Vec<Reads>,
    /// What a name of a WITH query stands for.
    known: BTreeMap<String, u64>,
    /// The most that a statement reads.
    relations: u64,
}

/// What a query reads.
#[derive(Default)]
struct Reads {
    relations: u64,
    /// Names of its WITH queries, the last first, as far as they have not been come by.
    names: Vec<String>,
}

impl VisitorMut for Shape {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        flatten_sets(&mut query.body);
        self.sets = self.sets.max(spine(&query.body));
        let tables = query.with.iter().flat_map(|with| with.cte_tables.iter().rev());
        let names = tables.map(|table| table.alias.name.value.to_lowercase()).collect();
        self.queries.push(Reads { relations: 1, names });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Infallible> {
        let Some(done) = self.queries.pop() else { return ControlFlow::Continue(()) };
        match self.queries.last_mut() {
            None => self.relations = self.relations.max(done.relations),
            // WITH queries come before what is made of them.
            Some(around) => match around.names.pop() {
                Some(name) => {
                    let known = self.known.entry(name).or_default();
                    *known = done.relations.max(*known);
                    self.relations = self.relations.max(done.relations);
                }
                None => around.relations = around.relations.saturating_add(done.relations),
            },
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        self.columns = self.columns.max(select.projection.len());
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Infallible> {
        let reads = match factor {
            TableFactor::Table { name, .. } => {
                let name = name.to_string().replace('"', "").to_lowercase();
                self.known.get(&name).copied().unwrap_or(1)
            }
            _ => 1,
        };
        if let Some(query) = self.queries.last_mut() {
            query.relations = query.relations.saturating_add(reads);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        flatten(expr);
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<Infallible> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// Chains shorter than this stay as they are written.
const CHAIN_MIN: usize = 16;
/// So do those of `||`, whose operands need not be of one type: they are taken apart only where they would be refused.
const CONCAT_CHAIN_MIN: usize = 250;

/// A chain of one associative operator, as it is written to the left, becomes a balanced tree in the same order.
fn flatten(expr: &mut Expr) {
    let Expr::BinaryOp { op, .. } = &*expr else { return };
    let op = op.clone();
    let shortest = match op {
        BinaryOperator::And | BinaryOperator::Or => CHAIN_MIN,
        BinaryOperator::StringConcat => CONCAT_CHAIN_MIN,
        _ => return,
    };
    if links(expr, &op) < shortest {
        return;
    }
    let mut parts = Vec::new();
    let mut rest = std::mem::replace(expr, nothing());
    rest = loop {
        match rest {
            Expr::BinaryOp { left, op: other, right } if other == op => {
                parts.push(*right);
                rest = *left;
            }
            first => break first,
        }
    };
    parts.push(rest);
    parts.reverse();
    let joined = |left, right| Expr::BinaryOp { left: Box::new(left), op: op.clone(), right: Box::new(right) };
    if let Some(tree) = balanced(parts, &joined) {
        *expr = tree;
    }
}

/// Operators of a kind that are nested to the left.
fn links(expr: &Expr, op: &BinaryOperator) -> usize {
    let (mut count, mut rest) = (0, expr);
    while let Expr::BinaryOp { left, op: other, .. } = rest
        && other == op
    {
        count += 1;
        rest = left;
    }
    count
}

/// `a UNION ALL b UNION ALL …` likewise.
fn flatten_sets(body: &mut SetExpr) {
    let is_all =
        |op: &SetOperator, quantifier: &SetQuantifier| *op == SetOperator::Union && *quantifier == SetQuantifier::All;
    let (mut count, mut rest) = (0, &*body);
    while let SetExpr::SetOperation { left, op, set_quantifier, .. } = rest
        && is_all(op, set_quantifier)
    {
        count += 1;
        rest = left;
    }
    if count < CHAIN_MIN {
        return;
    }
    let mut parts = Vec::new();
    let empty = SetExpr::Values(datafusion_sql::sqlparser::ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: Vec::new(),
    });
    let mut rest = std::mem::replace(body, empty);
    rest = loop {
        match rest {
            SetExpr::SetOperation { left, op, set_quantifier, right } if is_all(&op, &set_quantifier) => {
                parts.push(*right);
                rest = *left;
            }
            first => break first,
        }
    };
    parts.push(rest);
    parts.reverse();
    let joined = |left, right| SetExpr::SetOperation {
        left: Box::new(left),
        op: SetOperator::Union,
        set_quantifier: SetQuantifier::All,
        right: Box::new(right),
    };
    if let Some(tree) = balanced(parts, &joined) {
        *body = tree;
    }
}

/// Set operations that are nested to the left, whatever they are.
fn spine(body: &SetExpr) -> usize {
    let (mut count, mut rest) = (0, body);
    while let SetExpr::SetOperation { left, .. } = rest {
        count += 1;
        rest = left;
    }
    count
}

/// The parts joined two by two, in their order.
fn balanced<T>(mut parts: Vec<T>, joined: &impl Fn(T, T) -> T) -> Option<T> {
    while parts.len() > 1 {
        let mut next = Vec::with_capacity(parts.len().div_ceil(2));
        let mut each = parts.into_iter();
        while let Some(left) = each.next() {
            next.push(match each.next() {
                Some(right) => joined(left, right),
                None => left,
            });
        }
        parts = next;
    }
    parts.pop()
}

/// Stands where an expression was taken out.
fn nothing() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(sql: &str) -> String {
        shown_at(sql, 100)
    }

    fn shown_at(sql: &str, nesting_max: usize) -> String {
        match parsed(sql, nesting_max, 1_000) {
            Ok(statements) => statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(Unparsed::TooComplex(what)) => what,
            Err(Unparsed::Syntax(error)) => error.to_string(),
        }
    }

    /// `part` as often, with `between` between.
    fn chained(part: &str, between: &str, count: usize) -> String {
        vec![part; count].join(between)
    }

    #[test]
    fn long_chains_are_flat_and_keep_their_order() {
        let parts: Vec<String> = (0..5_000).map(|i| format!("x = {i}")).collect();
        let sql = format!("SELECT {}", parts.join(" OR "));
        let [Statement::Query(query)] = &parsed(&sql, 100, 1_000).unwrap()[..] else { panic!("one query") };
        let text = query.to_string();
        assert_eq!(text, sql);
        let mut shape = Shape::default();
        let mut query = query.clone();
        let ControlFlow::Continue(()) = query.visit(&mut shape);
        assert!(shape.deepest < 30, "{}", shape.deepest);
    }

    #[test]
    fn a_text_that_is_no_sql_is_read_in_few_ways() {
        let ways = "It can be read in too many ways, of which none is SQL so far.";
        for (opens, closes) in [
            ("cast(", " as int)"),
            ("try_cast(", " as int)"),
            ("convert(", ", int)"),
            ("array[", "]"),
            ("any(array[", "])"),
            ("not (", ")"),
            ("ceil(", ")"),
            ("interval (", ")"),
            ("substring(", " from 1)"),
            ("overlay(", " placing 'b' from 1)"),
        ] {
            let sql = format!("select {}1 +{}", opens.repeat(45), closes.repeat(45));
            assert_eq!(shown(&sql), ways, "{opens}");
        }
        // What is left of one that is not deep is told as it is.
        assert!(shown("select cast(cast(cast(1 + as int) as int) as int)").contains("found: int"));
    }

    #[test]
    fn what_is_too_deep_is_not_read_as_names() {
        let deep = "It nests more than 100 levels deep.";
        for (opens, closes) in
            [("case when true then ", " end"), ("not (", ")"), ("array[", "]"), ("cast(", " as int)")]
        {
            let nested = |levels: usize| format!("select {}1{}", opens.repeat(levels), closes.repeat(levels));
            assert_eq!(shown(&nested(120)), deep, "{opens}");
            assert_eq!(shown(&nested(5_000)), deep, "{opens}");
            assert!(shown(&nested(40)).starts_with("SELECT "), "{opens}");
        }
    }

    #[test]
    fn what_cannot_be_flat_has_a_limit() {
        assert_eq!(
            shown(&format!("SELECT {}", chained("1", " + ", 500))),
            format!("SELECT {}", chained("1", " + ", 500))
        );
        let deep = "It has more than 1000 operators inside one another.";
        assert_eq!(shown(&format!("select {}", chained("1", "+", 2_000))), deep);
        assert_eq!(shown(&format!("select 1{}", "::bigint".repeat(3_000))), deep);
        assert_eq!(
            shown(&chained("select 1", " union ", 1_000)),
            "It has more than 500 set operations one after the other."
        );
        let wide = format!("select {}", chained("1", ", ", 2_000));
        assert_eq!(shown(&wide), "It has more than 1664 columns in one list.");
        let chain = "It has more than 20000 operators in one expression.";
        assert_eq!(shown(&format!("select {}", chained("1", "+", 30_000))), chain);
        let nested = format!("select {}1{}", "(1+1+1+".repeat(40), ")".repeat(40));
        assert!(shown(&nested).starts_with("SELECT (1 + 1"), "{}", shown(&nested));
        assert_eq!(
            shown(&format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000))),
            "It nests more than 100 levels deep."
        );
        let cases = format!("select {}", chained("case when a then 1 end", "+", 15_000));
        assert_eq!(shown(&cases), deep, "a CASE does not begin the chain anew");
        let calls = format!("select {}", chained("f(1,2)", "+", 30_000));
        assert_eq!(shown(&calls), chain, "nor does a comma inside of it");
        assert_eq!(
            shown(&format!("select 1 in ({})", chained("1", ",", 300_000))),
            "It has more than 250000 words and signs."
        );
    }

    #[test]
    fn what_a_name_stands_for_counts_each_time() {
        let doubled = |count: usize| {
            let each = (1..count).map(|i| format!(", c{i} as (select x.a from c{0} x, c{0} y)", i - 1));
            format!("with c0 as (select 1 as a){} select a from c{}", each.collect::<String>(), count - 1)
        };
        let much = "With what its WITH queries stand for written out it has more than 5000 tables and subqueries.";
        assert_eq!(shown(&doubled(25)), much);
        assert!(shown(&doubled(8)).starts_with("WITH c0"));
        let hidden = format!("select * from (select 1 from (select * from ({}) q) r) s", doubled(25));
        assert_eq!(shown(&hidden), much, "wherever it stands");
        let chained = (1..300).map(|i| format!(", c{i} as (select a from c{})", i - 1)).collect::<String>();
        assert!(shown(&format!("with c0 as (select 1 as a){chained} select a from c299")).starts_with("WITH c0"));
    }

    /// The parser tried each argument twice, and what was in it four times, and so on.
    #[test]
    fn calls_inside_calls_are_read_once() {
        let nested = format!("SELECT {}1{}", "abs(".repeat(90), ")".repeat(90));
        assert_eq!(shown_at(&nested, 250), nested);
        assert_eq!(shown("SELECT f(a => 1)"), "SELECT f(a => 1)");
    }

    #[test]
    fn a_long_text_in_quotes_is_one_word() {
        let sql = format!("SELECT '{}'", "a, ".repeat(300_000));
        assert_eq!(shown(&sql), sql);
    }
}
