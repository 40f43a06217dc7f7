//! What a project declares of a table: its `meta` and the columns with their types.
//!
//! Most sources say themselves what their tables are. One whose messages say too little takes this for it
//! ([`super::SourceKind::declared_keys`]), and it travels with the table's place.

use std::collections::BTreeMap;

use relation::DataType;
use serde_json::Value as Json;

/// What is declared of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Declared {
    /// Values of `meta`, as JSON.
    pub meta: BTreeMap<String, String>,
    /// In their order.
    pub columns: Vec<DeclaredColumn>,
}

/// A column, as it is declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeclaredColumn {
    pub name: String,
    /// None: its `data_type` is not said, or is none.
    pub data_type: Option<DataType>,
    /// The `data_type` as it is written; or empty.
    pub written: String,
}

impl Declared {
    /// A value of `meta`; null is absent.
    pub fn get(&self, key: &str) -> Option<Json> {
        let value = serde_json::from_str(self.meta.get(key)?).ok()?;
        Some(value).filter(|value: &Json| !value.is_null())
    }
}
