//! What a planner must know of tables: names, columns, keys, and the SQL of views.

use relation::Schema;

use crate::flow::TableName;

/// A stored table or a kept model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its full name, whatever name it was asked for by.
    pub name: TableName,
    /// Columns, with the key if rows have one.
    pub schema: Schema,
}

/// Where names lead. A name without schema is looked up along the catalog's own search path.
pub trait Catalog {
    /// A stored table or a kept model.
    fn table(&self, schema: Option<&str>, name: &str) -> Option<TableInfo>;

    /// The SQL of a view, which is inlined where it is used. Asked before [`Catalog::table`].
    fn view(&self, schema: Option<&str>, name: &str) -> Option<String>;

    /// Names of tables and views, to suggest one when a name is unknown.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}
