//! What went wrong, for people and for programs: the same parts, as lines on stderr or as an object on stdout.

use std::fmt;

use serde_json::{Value as Json, json};

use project::Diagnostic;

use crate::reason::Reason;

/// What a server said of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// The statement, and the character of it, from 1, that it is about.
    pub(crate) at: Option<(String, usize)>,
}

impl std::error::Error for Rejected {}

impl Rejected {
    /// Line and column, both from 1, of the place it is about.
    fn place(&self) -> Option<(usize, usize)> {
        let (sql, at) = self.at.as_ref()?;
        let before: String = sql.chars().take(at.saturating_sub(1)).collect();
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((before.matches('\n').count() + 1, column))
    }
}

/// Message, the line with a mark, detail and hint.
impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let (Some((line, column)), Some((sql, _))) = (self.place(), &self.at)
            && let Some(text) = sql.lines().nth(line - 1)
        {
            let before: String = text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
            let margin = " ".repeat(line.to_string().len());
            write!(f, "\n  {line} | {text}\n  {margin} | {before}^")?;
        }
        for (label, text) in [("Detail", &self.detail), ("Hint", &self.hint)] {
            if let Some(text) = text {
                write!(f, "\n{label}: {text}")?;
            }
        }
        Ok(())
    }
}

/// An error with all its causes as people read it: a message, and lines that begin with `Detail: ` and `Hint: `.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many an error says its cause itself.
        if !last.contains(&cause) {
            text.push_str(&format!("\nDetail: {cause}"));
        }
        last = cause;
    }
    store_hint(error).into_iter().for_each(|hint| text.push_str(&format!("\nHint: {hint}")));
    text
}

/// The same for programs.
pub(crate) fn object(error: &anyhow::Error) -> Json {
    if let Some(rejected) = error.downcast_ref::<Rejected>() {
        let (line, column) = rejected.place().unzip();
        return json!({
            "code": rejected.code, "message": rejected.message, "detail": rejected.detail, "hint": rejected.hint,
            "line": line, "column": column,
        });
    }
    parted(&text(error))
}

/// A text of several lines in its parts.
pub(crate) fn parted(text: &str) -> Json {
    let reason = Reason::of(text);
    let mut object = reason.json();
    if let Some((place, rest)) = reason.message.split_once(": error: ") {
        object["message"] = json!(rest);
        let mut parts = place.rsplitn(3, ':');
        let numbers = (parts.next().and_then(number), parts.next().and_then(number));
        match (numbers, parts.next()) {
            ((Some(column), Some(line)), Some(file)) => {
                (object["file"], object["line"], object["column"]) = (json!(file), json!(line), json!(column));
            }
            _ => object["file"] = json!(place),
        }
    }
    object
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok()
}

/// A finding about a project for programs.
pub(crate) fn finding(found: &Diagnostic) -> Json {
    let place = &found.place;
    let known = |at: usize| (at > 0).then_some(at);
    json!({
        "severity": if found.is_error() { "error" } else { "warning" },
        "message": found.message, "detail": found.detail, "hint": found.hint,
        "file": place.file, "line": known(place.line), "column": known(place.column),
    })
}

/// What to do about a store that cannot be read or written.
fn store_hint(error: &anyhow::Error) -> Option<String> {
    let of_store = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<store::Error>().and_then(store::Error::hint).or_else(|| {
            match cause.downcast_ref::<engine::Error>()? {
                engine::Error::Store(error) => error.hint(),
                _ => None,
            }
        })
    };
    error.chain().find_map(of_store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_said_already_is_not_said_again() {
        let refused = std::io::Error::other("connection refused");
        let error = anyhow::Error::new(refused).context("input/output error: connection refused");
        assert_eq!(
            text(&error.context("cannot log in")),
            "cannot log in\nDetail: input/output error: connection refused"
        );
    }

    #[test]
    fn the_parts_of_a_text_are_found_again() {
        let error = anyhow::anyhow!("nothing runs here\nHint: Start it.").context("not applied");
        assert_eq!(
            object(&error),
            json!({"message": "not applied", "detail": "nothing runs here", "hint": "Start it."})
        );
        let text = "models/a.sql:1:8: error: column \"b\" does not exist\n  1 | select b\n    |        ^\n  Hint: Did you mean \"a\"?";
        let wanted = json!({
            "message": "column \"b\" does not exist", "detail": null, "hint": "Did you mean \"a\"?",
            "file": "models/a.sql", "line": 1, "column": 8,
        });
        assert_eq!(parted(text), wanted);
        let rejected = Rejected {
            code: "42703".to_owned(),
            message: "column \"b\" does not exist".to_owned(),
            at: Some(("select a,\n\tb\nfrom t".to_owned(), 12)),
            ..Rejected::default()
        };
        assert_eq!(rejected.to_string(), "column \"b\" does not exist\n  2 | \tb\n    | \t^");
        let said = object(&rejected.into());
        assert_eq!((&said["line"], &said["column"], &said["code"]), (&json!(2), &json!(2), &json!("42703")));
    }
}
