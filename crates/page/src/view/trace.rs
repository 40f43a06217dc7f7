//! `/trace`: where a value went, step by step.

use askama::Template;

use super::{Frame, document};
use crate::{Panel, number};

/// A row that a step took away or brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touch {
    /// `schema.name` of the table or model.
    pub node: String,
    /// Where its page is.
    pub href: String,
    /// Below zero the row was taken away, above it came.
    pub weight: i64,
    /// Columns and their values; whether the value is the one searched.
    pub fields: Vec<(String, String, bool)>,
}

impl Touch {
    fn sign(&self) -> &'static str {
        if self.weight < 0 { "−" } else { "+" }
    }

    fn tone(&self) -> &'static str {
        if self.weight < 0 { "gone" } else { "came" }
    }

    fn word(&self) -> String {
        let times = if self.weight.abs() > 1 { format!(" {} times", self.weight.abs()) } else { String::new() };
        format!("row {}{times}", if self.weight < 0 { "removed" } else { "added" })
    }
}

/// A step and what it touched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceStep {
    /// Its number.
    pub step: i64,
    /// When.
    pub at: String,
    /// Rows with the value, in the order of the way through the models.
    pub touches: Vec<Touch>,
}

impl TraceStep {
    fn number(&self) -> String {
        number::count(self.step)
    }
}

/// A search over the recent steps.
#[derive(Debug, Clone, Template)]
#[template(path = "trace.html")]
pub struct Trace {
    /// What stands around it.
    pub frame: Frame,
    /// What is searched; empty before the first search.
    pub query: String,
    /// What was found, the newest step first.
    pub steps: Panel<Vec<TraceStep>>,
    /// Whether more was found than is shown.
    pub cut: bool,
}

impl Trace {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    fn section(&self) -> &'static str {
        "trace"
    }

    fn title(&self) -> &'static str {
        "Trace"
    }

    fn events(&self) -> String {
        String::new()
    }
}
