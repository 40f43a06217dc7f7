//! What PostgreSQL refuses of a statement before it looks at types, where the planner would find an answer.
//!
//! A rewriting of the statement has no error to give. It puts a name that nobody has in the place of what is refused: the planner
//! finds no such column, and whoever words its errors reads the refusal out of the name ([`refused_name`]).

use datafusion_sql::sqlparser::ast::{Expr, Ident};

use crate::wording::Reworded;

/// Stands before each part of such a name.
const SIGN: char = '\u{3}';

/// Why something is refused, with PostgreSQL's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Syntax,
    AmbiguousColumn,
    UnknownColumn,
    AmbiguousFunction,
    Escape,
}

impl Why {
    const ALL: [Self; 5] =
        [Self::Syntax, Self::AmbiguousColumn, Self::UnknownColumn, Self::AmbiguousFunction, Self::Escape];

    fn code(self) -> &'static str {
        match self {
            Self::Syntax => "42601",
            Self::AmbiguousColumn => "42702",
            Self::UnknownColumn => "42703",
            Self::AmbiguousFunction => "42725",
            Self::Escape => "22025",
        }
    }
}

/// What is put in the place of an expression that is refused.
pub(crate) fn refused(why: Why, message: &str, hint: &str) -> Expr {
    Expr::Identifier(Ident::with_quote('"', format!("{SIGN}{}{SIGN}{message}{SIGN}{hint}", why.code())))
}

/// The refusal that a name of a column stands for; none of any other name.
pub fn refused_name(name: &str) -> Option<Reworded> {
    let mut parts = name.strip_prefix(SIGN)?.split(SIGN);
    let (code, message, hint) = (parts.next()?, parts.next()?, parts.next()?);
    let why = Why::ALL.into_iter().find(|why| why.code() == code)?;
    Some(Reworded { code: why.code(), message: message.to_owned(), hint: hint.to_owned() })
}

#[cfg(test)]
mod tests {
    use datafusion_sql::sqlparser::ast::Expr;

    use super::{Why, refused, refused_name};

    #[test]
    fn a_name_says_why() {
        let Expr::Identifier(name) = refused(Why::UnknownColumn, "column \"c\" does not exist", "Write it.") else {
            panic!("a refusal is a name")
        };
        let told = refused_name(&name.value).unwrap();
        assert_eq!((told.code, told.message.as_str()), ("42703", "column \"c\" does not exist"));
        assert_eq!(refused_name("c"), None);
    }
}
