//! The parser's dialect: PostgreSQL's, with operators bound as PostgreSQL binds them.
//!
//! The parser's own PostgreSQL dialect lets `IS DISTINCT FROM` swallow all that follows it, AND and OR too, lets `^` and
//! `AT TIME ZONE` bind closer than a sign, and takes the matches `~` and `~~` for comparisons. Here the law is the table
//! of PostgreSQL's manual, "Operator Precedence", closest first: `.`, `::`, `[]`, signs, COLLATE, AT TIME ZONE, `^`,
//! `* / %`, `+ -`, any other operator, BETWEEN IN LIKE, `< > =`, IS, NOT, AND, OR. What the parser does not know is read here: BETWEEN
//! SYMMETRIC, ISNULL, COLLATE behind any expression, `trim(both from x)`.

use std::any::TypeId;
use std::cell::Cell;

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator};
use datafusion_sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::Token;

/// What a sign binds closer than: everything but `.`, `::` and `[]`.
const SIGN: u8 = 120;

/// PostgreSQL's dialect.
///
/// A word that is both a name and the beginning of an expression (`cast`, `array`, `not`) is read as the one and, where that fails, as
/// the other, with all that is nested in it: each level of a text that is no SQL would double the work. So the places where an
/// expression may begin are counted, each time that one is read.
#[derive(Debug)]
pub struct PostgreSql {
    /// How many beginnings of expressions may still be read.
    beginnings: Cell<usize>,
}

impl Default for PostgreSql {
    fn default() -> Self {
        Self::reading(usize::MAX)
    }
}

const PARSERS: PostgreSqlDialect = PostgreSqlDialect {};

fn is_word(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

/// The parser has no keyword of it.
fn is_isnull(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("isnull"))
}

impl PostgreSql {
    /// The dialect for a parser that reads so many beginnings of expressions, and then no more.
    pub(crate) fn reading(beginnings: usize) -> Self {
        Self { beginnings: Cell::new(beginnings) }
    }

    /// Whether a parser has read as many as it may: what it says of the text then is not to be believed.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.beginnings.get() == 0
    }

    /// `IS [NOT] DISTINCT FROM` and its right side, which ends at IS, NOT, AND and OR.
    fn distinct_from(&self, parser: &mut Parser<'_>, left: &Expr) -> Result<Expr, ParserError> {
        parser.expect_keyword(Keyword::IS)?;
        let negated = parser.parse_keyword(Keyword::NOT);
        parser.expect_keywords(&[Keyword::DISTINCT, Keyword::FROM])?;
        let right = Box::new(parser.parse_subexpr(self.prec_value(Precedence::Is))?);
        let left = Box::new(left.clone());
        Ok(if negated { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) })
    }

    /// `[NOT] BETWEEN SYMMETRIC a AND b`: between them, whichever is the smaller.
    fn between_symmetric(&self, parser: &mut Parser<'_>, value: &Expr) -> Result<Expr, ParserError> {
        let negated = parser.parse_keyword(Keyword::NOT);
        parser.expect_keywords(&[Keyword::BETWEEN, Keyword::SYMMETRIC])?;
        let bound = |parser: &mut Parser<'_>| parser.parse_subexpr(self.prec_value(Precedence::Between));
        let one = bound(parser)?;
        parser.expect_keyword(Keyword::AND)?;
        let other = bound(parser)?;
        let between = |low: &Expr, high: &Expr| {
            let (expr, low, high) = (Box::new(value.clone()), Box::new(low.clone()), Box::new(high.clone()));
            Box::new(Expr::Between { expr, negated: false, low, high })
        };
        let (left, right) = (between(&one, &other), between(&other, &one));
        let either = Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Or, right }));
        Ok(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(either) } } else { either })
    }

    /// `trim([both] from x)`, without what is trimmed.
    fn trim(&self, parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
        parser.advance_token();
        parser.expect_token(&Token::LParen)?;
        let trim_where = match parser.parse_keyword(Keyword::FROM) {
            true => None,
            false => {
                let place = parser.parse_trim_where()?;
                parser.expect_keyword(Keyword::FROM)?;
                Some(place)
            }
        };
        let expr = Box::new(parser.parse_expr()?);
        parser.expect_token(&Token::RParen)?;
        Ok(Expr::Trim { expr, trim_where, trim_what: None, trim_characters: None })
    }
}

/// Methods that answer as the parser's own dialect does.
macro_rules! as_the_parsers_own {
    ($($method:ident),* $(,)?) => {
        $(fn $method(&self) -> bool {
            PARSERS.$method()
        })*
    };
}

impl Dialect for PostgreSql {
    /// The parser asks in places which dialect it speaks: PostgreSQL's.
    fn dialect(&self) -> TypeId {
        PARSERS.dialect()
    }

    fn parse_prefix(&self, parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        let Some(left) = self.beginnings.get().checked_sub(1) else {
            return Some(Err(ParserError::RecursionLimitExceeded));
        };
        self.beginnings.set(left);
        let token = |n| &parser.peek_nth_token_ref(n).token;
        if is_word(token(0), Keyword::TRIM) && *token(1) == Token::LParen {
            let is_place =
                [Keyword::BOTH, Keyword::LEADING, Keyword::TRAILING].iter().any(|word| is_word(token(2), *word));
            if is_word(token(2), Keyword::FROM) || is_place && is_word(token(3), Keyword::FROM) {
                return Some(self.trim(parser));
            }
        }
        let op = match &parser.peek_token_ref().token {
            Token::Minus => UnaryOperator::Minus,
            Token::Plus => UnaryOperator::Plus,
            _ => return None,
        };
        parser.advance_token();
        Some(parser.parse_subexpr(SIGN).map(|expr| Expr::UnaryOp { op, expr: Box::new(expr) }))
    }

    fn parse_infix(&self, parser: &mut Parser<'_>, expr: &Expr, _: u8) -> Option<Result<Expr, ParserError>> {
        let token = |n| &parser.peek_nth_token_ref(n).token;
        if is_isnull(token(0)) {
            parser.advance_token();
            return Some(Ok(Expr::IsNull(Box::new(expr.clone()))));
        }
        if is_word(token(0), Keyword::COLLATE) {
            parser.advance_token();
            let collation = parser.parse_object_name(false);
            return Some(collation.map(|collation| Expr::Collate { expr: Box::new(expr.clone()), collation }));
        }
        let at = if is_word(token(1), Keyword::NOT) { 2 } else { 1 };
        let distinct = is_word(token(0), Keyword::IS)
            && is_word(token(at), Keyword::DISTINCT)
            && is_word(token(at + 1), Keyword::FROM);
        if distinct {
            return Some(self.distinct_from(parser, expr));
        }
        let at = usize::from(is_word(token(0), Keyword::NOT));
        let symmetric = is_word(token(at), Keyword::BETWEEN) && is_word(token(at + 1), Keyword::SYMMETRIC);
        symmetric.then(|| self.between_symmetric(parser, expr))
    }

    fn get_next_precedence(&self, parser: &Parser<'_>) -> Option<Result<u8, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk => Some(Ok(self.prec_value(Precedence::PgOther))),
            word if is_isnull(word) => Some(Ok(self.prec_value(Precedence::Is))),
            _ => PARSERS.get_next_precedence(parser),
        }
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        PARSERS.prec_value(precedence)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        PARSERS.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        PARSERS.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        PARSERS.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        PARSERS.is_identifier_part(ch)
    }

    fn is_custom_operator_part(&self, ch: char) -> bool {
        PARSERS.is_custom_operator_part(ch)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        PARSERS.is_reserved_for_identifier(keyword)
    }

    as_the_parsers_own!(
        supports_unicode_string_literal,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_listen_notify,
        supports_factorial_operator,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_colon_operator,
        supports_empty_projections,
        supports_nested_comments,
        supports_string_escape_constant,
        supports_numeric_literal_underscores,
        supports_array_typedef_with_brackets,
        supports_geometric_types,
        supports_set_names,
        supports_alter_column_type_using,
        supports_notnull_operator,
        supports_interval_options,
        supports_insert_table_alias,
        supports_create_table_like_parenthesized,
        supports_select_wildcard_with_alias,
        supports_comma_separated_trim,
        supports_xml_expressions,
        supports_comment_optimizer_hint,
    );
}
