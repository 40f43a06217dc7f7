//! `/console`: SQL by hand. The page's script sends statements to `POST /sql`, and asks there for the names to pick from.

use askama::Template;

use super::{Frame, document};

/// The console.
#[derive(Debug, Clone, Template)]
#[template(path = "console.html")]
pub struct Console {
    /// What stands around it.
    pub frame: Frame,
    /// The statement that the address brings along.
    pub sql: String,
    /// Rows shown at most.
    pub rows_max: usize,
}

impl Console {
    /// The document.
    pub fn html(&self) -> String {
        document(self)
    }

    fn section(&self) -> &'static str {
        "console"
    }

    fn title(&self) -> &'static str {
        "SQL console"
    }

    fn events(&self) -> String {
        String::new()
    }
}
