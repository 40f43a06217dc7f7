//! What is wrong with a project, said so that its author knows the next move.
//!
//! A mistake in a user's file is data, not an `Err`: loading collects all of them, each with its place, and goes on with
//! what is left.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The project cannot run as it is.
    Error,
    /// It runs, but probably not as its author thinks.
    Warning,
}

/// A place in a file of the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path relative to the project folder, with `/`.
    pub file: String,
    /// 1-based line; 0 where the file as a whole is meant.
    pub line: usize,
    /// 1-based column in characters; 0 where the file as a whole is meant.
    pub column: usize,
}

impl Place {
    /// A line and column of a file.
    pub fn new(file: &str, line: usize, column: usize) -> Self {
        Self { file: file.to_owned(), line, column }
    }

    /// A file as a whole.
    pub fn file(file: &str) -> Self {
        Self::new(file, 0, 0)
    }

    /// The place of a byte offset in a file's text.
    pub fn at(file: &str, text: &str, offset: usize) -> Self {
        let (line, column) = line_and_column(text, offset);
        Self::new(file, line, column)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            _ => write!(f, "{}:{}:{}", self.file, self.line, self.column),
        }
    }
}

/// One finding about the project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// Whether the project can run.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Why, or what was found.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// It stops what it is about, and nothing else of its file: a connection, a role, a test.
    pub alone: bool,
}

impl Diagnostic {
    /// A finding that stops the project.
    pub fn error(place: Place, message: impl Into<String>) -> Self {
        Self { place, severity: Severity::Error, message: message.into(), detail: None, hint: None, alone: false }
    }

    /// A finding that does not stop it.
    pub fn warning(place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// Adds why.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a hint where there is one.
    #[must_use]
    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Whether this finding stops the project.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.place, self.message)?;
        self.write_rest(f)
    }
}

impl Diagnostic {
    /// The finding with the line that it is about, of the file's text, and a mark under the place.
    pub fn over(&self, text: &str) -> String {
        let plain = self.to_string();
        let Some(line) = self.place.line.checked_sub(1).and_then(|at| text.lines().nth(at)) else { return plain };
        let before: String = line.chars().take(self.place.column.saturating_sub(1)).collect();
        let rest = line.chars().skip(self.place.column.saturating_sub(1));
        let word = rest.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.')).count().max(1);
        // A tab stays one, so that the mark stands under its word at any width of it.
        let indent: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        let number = self.place.line.to_string();
        let margin = " ".repeat(number.len());
        let (first, rest) =
            plain.split_once('\n').map_or((plain.as_str(), String::new()), |(a, b)| (a, format!("\n{b}")));
        format!("{first}\n  {number} | {line}\n  {margin} | {indent}{}{rest}", "^".repeat(word))
    }

    fn write_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(detail) = &self.detail {
            write!(f, "\n  Detail: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  Hint: {hint}")?;
        }
        Ok(())
    }
}

/// These stop what they are about, and nothing else of their file. Answers whether one of them is an error.
pub(crate) fn alone(found: &mut [Diagnostic]) -> bool {
    found.iter_mut().for_each(|finding| finding.alone = true);
    found.iter().any(Diagnostic::is_error)
}

/// Sorts findings by place and drops repetitions.
pub(crate) fn tidy(diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.sort_by(|a, b| (&a.place, a.severity, &a.message).cmp(&(&b.place, b.severity, &b.message)));
    diagnostics.dedup_by(|a, b| a.place == b.place && a.message == b.message);
}

/// 1-based line and column (in characters) of a byte offset.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = before(text, offset);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn before(text: &str, offset: usize) -> &str {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The candidate that a misspelt word most likely meant.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let bound = (word.chars().count() / 3).max(1);
    let distances = candidates.into_iter().map(|c| (distance(&word, &c.to_lowercase()), c));
    let (_, best) = distances.filter(|(d, _)| *d <= bound).min()?;
    Some(best)
}

/// "did you mean" as a hint, where there is something to mean.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|found| format!("Did you mean `{found}`?"))
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Place};

    #[test]
    fn a_finding_shows_its_line_and_marks_the_word() {
        let text = "select\n\to.chanel, 1\nfrom orders as o\n";
        let finding = Diagnostic::error(Place::new("m.sql", 2, 4), "no such column").hint("Did you mean channel?");
        let wanted =
            "m.sql:2:4: error: no such column\n  2 | \to.chanel, 1\n    | \t  ^^^^^^\n  Hint: Did you mean channel?";
        assert_eq!(finding.over(text), wanted);
        let beyond = Diagnostic::error(Place::new("m.sql", 9, 1), "no such column");
        assert_eq!(beyond.over(text), beyond.to_string());
        let whole = Diagnostic::error(Place::file("m.sql"), "empty");
        assert_eq!(whole.over(text), "m.sql: error: empty");
    }
}
