//! The web page as text: values in, HTML and SVG out.
//!
//! The crate knows how things look: templates, the drawing of graphs, the vendored scripts and styles. It knows no
//! network, no SQL, no Arrow and no project folder: who serves the page fills the values of [`view`] and sends what comes
//! back.
//!
//! The way of a page:
//!
//! 1. [`view`] has one type a page; its fields are what was read, its `html` is the whole document.
//! 2. Numbers that move stand in elements with a `data-live` key. The same type's `live` gives these keys with their
//!    present texts as a [`Live`]; what differs from the last one is sent to the browser, so nothing is laid out again.
//! 3. [`layout`] places the nodes of a graph in layers, [`graph`] draws them as SVG.
//! 4. [`chart`] draws bars and funnels as SVG, and describes lines for the vendored uPlot.
//! 5. [`asset`] has the files that a document names: hashed in their names, so that a browser keeps them for good.
//!
//! Nothing here needs `unsafe-inline` or `unsafe-eval`: there is no `style=`, no inline script and no handler in markup.

#![allow(clippy::let_underscore_must_use, reason = "writing into a String cannot fail")]

pub mod asset;
pub mod chart;
pub mod currency;
pub mod dashboard;
pub mod graph;
pub mod grid;
pub mod layout;
pub mod number;
pub mod view;

use std::collections::BTreeMap;

pub use dashboard::{Dashboard, Filter, Format, Good, Tile, TileKind};
pub use graph::{Graph, Node, NodeKind, Tone};
pub use grid::{Column, Grid};

/// What moves on a page: keys with their present texts.
///
/// The first letter of a key says what is to be done with the text: `t/…` is a text, `s/…` a state (`tone word`), `h/…`
/// escaped HTML, `c/…` the data of a chart.
pub type Live = BTreeMap<String, String>;

/// What cannot be shown, and why; it stands where the panel would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// What went wrong.
    pub message: String,
    /// What to do about it, if that is known.
    pub hint: String,
}

/// A panel, or why it is not there.
pub type Panel<T> = Result<T, Trouble>;

/// A text as a part of a URL's path or query.
pub fn url(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A text within HTML or SVG, also inside of a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
