//! What messages have and how they look: Maxwell's `output_*` settings and their neighbours, by the defaults that it has.

use regex::Regex;

use super::value::Style;

/// How messages are made.
#[derive(Debug, Clone)]
pub struct Options {
    /// `xid` and `commit`.
    pub commit_info: bool,
    /// `xoffset`.
    pub xoffset: bool,
    /// Members that are null.
    pub nulls: bool,
    pub server_id: bool,
    pub thread_id: bool,
    pub schema_id: bool,
    /// `query`.
    pub row_query: bool,
    /// Characters of it; 0: all.
    pub row_query_max_length: usize,
    pub primary_keys: bool,
    pub primary_key_columns: bool,
    /// Dates with a zero part are null.
    pub null_zerodates: bool,
    /// `position`.
    pub binlog_position: bool,
    /// `gtid`.
    pub gtid_position: bool,
    /// `push_ts`.
    pub push_timestamp: bool,
    /// Messages of definitions.
    pub ddl: bool,
    /// Columns that are left out, by expressions that a whole name must match.
    pub exclude_columns: Vec<Regex>,
    /// Names of fields and columns are in camel case.
    pub camel_case: bool,
    /// Values are printed as Maxwell does, also where it is wrong.
    pub compat: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            commit_info: true,
            xoffset: false,
            nulls: true,
            server_id: false,
            thread_id: false,
            schema_id: false,
            row_query: false,
            row_query_max_length: 0,
            primary_keys: false,
            primary_key_columns: false,
            null_zerodates: false,
            binlog_position: false,
            gtid_position: false,
            push_timestamp: false,
            ddl: false,
            exclude_columns: Vec::new(),
            camel_case: false,
            compat: false,
        }
    }
}

impl Options {
    pub(crate) fn style(&self) -> Style {
        Style { compat: self.compat, null_zero_dates: self.null_zerodates }
    }

    /// Whether a column is left out.
    pub(crate) fn excludes(&self, column: &str) -> bool {
        self.exclude_columns.iter().any(|expression| expression.is_match(column))
    }

    /// A field's or a column's name as it is printed.
    pub(crate) fn named(&self, name: &str) -> String {
        if self.camel_case { camel_case(name) } else { name.to_owned() }
    }

    /// Reads the names and `/expressions/` of `exclude_columns`.
    pub fn parse_columns(text: &str) -> Result<Vec<Regex>, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                let expression = match name.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                    Some(inside) => format!("^(?:{inside})$"),
                    None => format!("^{}$", regex::escape(name)),
                };
                Regex::new(&expression).map_err(|_| format!("\"{name}\" is no expression that can be read"))
            })
            .collect()
    }
}

/// `server_id` as `serverId`. A leading underscore goes, and a name of underscores alone stays.
fn camel_case(name: &str) -> String {
    if name.chars().all(|c| c == '_') {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for word in name.split('_').filter(|word| !word.is_empty()) {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if !out.is_empty() => out.extend(first.to_uppercase()),
            Some(first) => out.push(first),
            None => {}
        }
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_camel_case() {
        for (name, wanted) in [
            ("server_id", "serverId"),
            ("_id", "id"),
            ("___", "___"),
            ("xid", "xid"),
            ("a__b_", "aB"),
            ("SKU_no", "SKUNo"),
        ] {
            assert_eq!(camel_case(name), wanted);
        }
    }

    #[test]
    fn columns_are_left_out_by_whole_names() {
        let options =
            Options { exclude_columns: Options::parse_columns("secret, /pass.*/,a.b").unwrap(), ..Options::default() };
        let excluded = ["secret", "password", "a.b"].map(|name| options.excludes(name));
        assert_eq!(excluded, [true; 3]);
        let kept = ["secrets", "my_password", "aXb"].map(|name| options.excludes(name));
        assert_eq!(kept, [false; 3]);
        assert!(Options::parse_columns("/(/").is_err());
    }
}
