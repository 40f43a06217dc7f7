//! Why something is as it is, in PostgreSQL's three parts: what it is, more about it, and the next move.
//!
//! There is one notation for it as text: each part on lines of its own, behind `Detail: ` and `Hint: `. So errors are printed, and so
//! the engine keeps why something is parked; [`Reason::of`] takes such a text apart again. Where there is one line only, as in a log or
//! a health probe, the parts are sentences of it ([`Reason::line`]). System tables, `--json` and the page have a field for each part.

use std::fmt;

use connect::Failure;
use serde_json::{Value as Json, json};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    pub message: String,
    /// Sentences, or empty.
    pub detail: String,
    /// The next move; or empty.
    pub hint: String,
}

impl Reason {
    /// The parts of a text. The line of a file, and the mark below it, are no part.
    pub fn of(text: &str) -> Self {
        let (mut message, mut detail, mut hint) = (Vec::new(), Vec::new(), Vec::new());
        let mut part = &mut message;
        for line in text.lines() {
            let trimmed = line.trim();
            if is_excerpt(line) {
                continue;
            }
            let said = match (trimmed.strip_prefix("Detail: "), trimmed.strip_prefix("Hint: ")) {
                (Some(said), _) => {
                    part = &mut detail;
                    said
                }
                (None, Some(said)) => {
                    part = &mut hint;
                    said
                }
                (None, None) => trimmed,
            };
            part.push(said);
        }
        Self { message: message.join("\n"), detail: detail.join("\n"), hint: hint.join("\n") }
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.message.is_empty() && self.detail.is_empty() && self.hint.is_empty()
    }

    /// The same of something: what stands before the message says of what.
    pub fn behind(self, what: &str) -> Self {
        Self { message: format!("{what}{}", self.message), ..self }
    }

    /// With one more sentence on it. What is said already is not said again.
    pub fn and(mut self, more: &str) -> Self {
        if !self.detail.contains(more) {
            self.detail = sentences([self.detail.as_str(), more]);
        }
        self
    }

    /// With another next move beside those that there are.
    pub fn hinting(mut self, more: &str) -> Self {
        if !self.hint.contains(more) {
            self.hint = sentences([self.hint.as_str(), more]);
        }
        self
    }

    /// Several of them as one: what each is, one behind the other, and all that there is to say of them.
    pub fn joined(reasons: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for reason in reasons {
            let (before, more) = (all.message.as_str(), reason.message.as_str());
            all.message = match (before.is_empty() || more.is_empty(), is_ended(before)) {
                (true, _) => format!("{before}{more}"),
                (false, true) => format!("{before} {more}"),
                (false, false) => format!("{before}; {more}"),
            };
            all = all.and(&reason.detail).hinting(&reason.hint);
        }
        all
    }

    /// In one line, sentence behind sentence.
    pub fn line(&self) -> String {
        sentences([&self.message, &self.detail, &self.hint].into_iter().flat_map(|part| part.lines()))
    }

    /// For programs: what is not said is null.
    pub fn json(&self) -> Json {
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({"message": self.message, "detail": said(&self.detail), "hint": said(&self.hint)})
    }
}

/// Whether a line shows a line of a file, or the mark below one.
fn is_excerpt(line: &str) -> bool {
    let behind_number = line.trim().trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    line.starts_with("  ") && behind_number.starts_with("| ")
}

/// Whether another sentence may stand behind a text.
fn is_ended(text: &str) -> bool {
    text.ends_with(['.', '?', '!', ':', ';'])
}

/// Texts as sentences one behind the other; empty ones are none.
pub fn sentences<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        if !out.is_empty() {
            out.push_str(if is_ended(&out) { " " } else { ". " });
        }
        out.push_str(text);
    }
    out
}

/// As people read it on a terminal: each part on lines of its own.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for (label, text) in [("Detail", &self.detail), ("Hint", &self.hint)] {
            if !text.is_empty() {
                write!(f, "\n{label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self::of(&text)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl From<&Failure> for Reason {
    fn from(failure: &Failure) -> Self {
        let Failure { message, detail, hint } = failure.clone();
        Self { message, detail, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        let reason = Reason::of("cannot reach the server\nDetail: It closed the connection\nHint: Check the port.");
        assert_eq!(reason.line(), "cannot reach the server. It closed the connection. Check the port.");
        assert_eq!(Reason::of(&reason.to_string()), reason);
        let of_table = reason.clone().behind("table shop.orders is parked: ");
        assert_eq!(of_table.message, "table shop.orders is parked: cannot reach the server");
        assert_eq!((&of_table.detail, &of_table.hint), (&reason.detail, &reason.hint));
        assert_eq!(Reason::of("it is gone").json(), json!({"message": "it is gone", "detail": null, "hint": null}));
    }

    #[test]
    fn the_line_of_a_file_is_no_part() {
        let text = "m.sql:1:8: no such column\n  1 | select b\n    |        ^\n  Hint: Did you mean \"a\"?";
        assert_eq!(Reason::of(text).line(), "m.sql:1:8: no such column. Did you mean \"a\"?");
    }

    /// What several have in common is said once, and no hint stands in the middle of it.
    #[test]
    fn several_are_told_as_one() {
        let away = Reason::of("source shop is stalled: cut\nDetail: It closed the connection.\nHint: Check the port.");
        let parked = Reason::of("table shop.orders is parked: gone\nHint: Check the port.");
        let joined = Reason::joined([parked, Reason::default(), away]);
        let line =
            "table shop.orders is parked: gone; source shop is stalled: cut. It closed the connection. Check the port.";
        assert_eq!(joined.line(), line);
    }
}
