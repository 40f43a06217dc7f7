//! Ephemeral models: they become CTEs in front of the text that reads them.

use crate::source_map::SourceMap;

/// A text with its map.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapped {
    pub(crate) text: String,
    pub(crate) map: SourceMap,
}

impl Mapped {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn append(&mut self, text: &str, map: &SourceMap) {
        self.map.append(self.text.len(), map);
        self.text.push_str(text);
    }
}

/// Puts CTEs in front of a text; one that already begins with `with` gets them as its first.
pub(crate) fn inject(reader: &Mapped, ctes: &[(&str, &Mapped)]) -> Mapped {
    if ctes.is_empty() {
        return reader.clone();
    }
    let head = head_end(&reader.text);
    let (before, after) = reader.text.split_at(head.end);
    let mut injected = Mapped::default();
    injected.append(before, &reader.map.piece(0, head.end));
    injected.push(if head.has_with { " " } else { "with " });
    for (at, (name, cte)) in ctes.iter().enumerate() {
        if at > 0 {
            injected.push(", ");
        }
        injected.push(&format!("__dbt__cte__{name} as (\n"));
        injected.append(&cte.text, &cte.map);
        injected.push("\n)");
    }
    injected.push(if head.has_with { "," } else { "\n" });
    injected.append(after, &reader.map.piece(head.end, reader.text.len()));
    injected
}

/// Where CTEs go: behind leading comments, and behind `with [recursive]` where the text has it.
struct Head {
    end: usize,
    has_with: bool,
}

fn head_end(text: &str) -> Head {
    let start = skip_blanks(text, 0);
    let Some(with_end) = word(text, start, "with") else {
        return Head { end: start, has_with: false };
    };
    let next = skip_blanks(text, with_end);
    Head { end: word(text, next, "recursive").unwrap_or(with_end), has_with: true }
}

/// The offset behind a keyword, if it stands there.
fn word(text: &str, at: usize, word: &str) -> Option<usize> {
    let end = at + word.len();
    let found = text.get(at..end)?.eq_ignore_ascii_case(word);
    let ends = !text.get(end..)?.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (found && ends).then_some(end)
}

/// The offset of the first character that is neither blank nor within a comment.
fn skip_blanks(text: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        let blanks = rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        let comment = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else {
            0
        };
        at += blanks + comment;
        if comment == 0 {
            return at;
        }
    }
}
