//! The page that asks for a password. It says nothing of what is behind it.

use askama::Template;

use crate::asset;

/// What a stranger sees.
#[derive(Debug, Clone, Template)]
#[template(path = "login.html")]
pub struct Login {
    /// The page that was asked for.
    pub next: String,
    /// Why the last try failed; nothing at the first.
    pub fault: String,
}

impl Login {
    /// The document.
    pub fn html(&self) -> String {
        super::document(self)
    }

    fn asset(name: &str) -> String {
        asset::href(name)
    }
}
