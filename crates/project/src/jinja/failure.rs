//! From an error of the template engine to a finding with a place in the user's own file.

use std::error::Error as _;

use minijinja::{Error, ErrorKind, Value};

use super::macros::Macros;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};

/// A mistake that one of our functions found: raised as an error so that the engine adds the place.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// What a second rendering may overlook, so that the next mistake of the same file is found too.
    pub(crate) overlook: Option<String>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), detail: None, hint: None, overlook: None }
    }

    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(crate) fn overlook(mut self, key: String) -> Self {
        self.overlook = Some(key);
        self
    }

    pub(crate) fn raise<T>(self) -> Result<T, Error> {
        Err(self.into())
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::new(ErrorKind::InvalidOperation, problem.message.clone()).with_source(problem)
    }
}

/// Not an error: `return(value)` on its way out of a macro.
#[derive(Debug, thiserror::Error)]
#[error("return() is only possible within a macro of the macros folder")]
pub(crate) struct Returned(pub(crate) Value);

/// The first error of a kind in a chain of causes.
pub(crate) fn cause<T: std::error::Error + 'static>(error: &Error) -> Option<&T> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

/// All template errors of a chain, the outermost first.
fn frames(error: &Error) -> Vec<&Error> {
    let mut frames = vec![error];
    let mut next = error.source();
    while let Some(cause) = next {
        frames.extend(cause.downcast_ref::<Error>());
        next = cause.source();
    }
    frames
}

/// Turns an error into a finding at the innermost place that is the user's own.
pub(crate) fn diagnose(error: &Error, macros: &Macros, texts: &dyn Fn(&str) -> Option<String>) -> Diagnostic {
    let frames = frames(error);
    let mut places: Vec<Place> = frames.iter().filter_map(|frame| place(frame, macros, texts)).collect();
    places.dedup();
    let innermost = frames.last().copied().unwrap_or(error);
    let mut finding = match cause::<Problem>(error) {
        Some(problem) => Diagnostic {
            detail: problem.detail.clone(),
            hint: problem.hint.clone(),
            ..Diagnostic::error(Place::file(""), problem.message.as_str())
        },
        None => explain(innermost, macros),
    };
    if let Some(place) = places.pop() {
        finding.place = place;
    }
    if let Some(caller) = places.first() {
        let called = format!("Called from {caller}.");
        finding.detail = Some(finding.detail.map_or(called.clone(), |detail| format!("{detail} {called}")));
    }
    finding
}

fn place(error: &Error, macros: &Macros, texts: &dyn Fn(&str) -> Option<String>) -> Option<Place> {
    let template = error.name()?;
    let file = macros.file_of_template(template)?;
    let text = texts(file)?;
    match error.range() {
        Some(range) => Some(Place::at(file, &text, start_of_chain(&text, range.start))),
        None => Some(Place::new(file, error.line()?, 1)),
    }
}

/// The engine places `a.b()` at the dot; people look for it at the `a`.
fn start_of_chain(text: &str, offset: usize) -> usize {
    let Some((before, after)) = text.split_at_checked(offset) else { return offset };
    if !after.starts_with('.') {
        return offset;
    }
    before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_' || c == '.').len()
}

/// Says in the user's words what the engine found.
fn explain(error: &Error, macros: &Macros) -> Diagnostic {
    let place = Place::file("");
    let detail = error.detail().unwrap_or_default();
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    match error.kind() {
        ErrorKind::SyntaxError => Diagnostic::error(place, format!("Jinja syntax error: {detail}")),
        ErrorKind::UnknownFunction => {
            let name = detail.trim_end_matches(" is unknown");
            let hint = did_you_mean(name, macros.callable())
                .unwrap_or_else(|| "Macros are looked for in the project's `macros` folder.".to_owned());
            Diagnostic::error(place, format!("macro `{name}` is not defined")).hint(hint)
        }
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest => {
            let (kind, name) = detail.trim_end_matches(" is unknown").split_once(' ').unwrap_or(("filter", ""));
            Diagnostic::error(place, format!("Jinja {kind} `{name}` is not defined"))
        }
        ErrorKind::UndefinedError | ErrorKind::UnknownMethod | ErrorKind::InvalidOperation
            if detail.contains("is undefined") =>
        {
            let name = quoted(detail).unwrap_or_default();
            let root = name.split(['.', '[']).next().unwrap_or_default();
            let hint = did_you_mean(root, macros.callable());
            Diagnostic::error(place, format!("`{name}` is undefined")).maybe_hint(hint)
        }
        ErrorKind::InvalidOperation | ErrorKind::UnknownMethod if !detail.is_empty() => {
            Diagnostic::error(place, detail.to_owned())
        }
        ErrorKind::UndefinedError if detail.is_empty() => {
            let source = error.template_source().zip(error.range()).and_then(|(source, range)| source.get(range));
            Diagnostic::error(place, format!("`{}` is undefined", source.unwrap_or("this value")))
        }
        kind if detail.is_empty() => Diagnostic::error(place, kind.to_string()),
        kind => Diagnostic::error(place, format!("{kind}: {detail}")),
    }
}
