//! Names in a new project: of files, of columns, and as YAML and Jinja write them.

use std::collections::BTreeSet;

/// Names that were given, so that each is given once.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// A name like this one that nothing else has: small letters, digits and `_`, whatever the alphabet.
    pub fn give(&mut self, wanted: &str) -> String {
        let plain = plain(wanted);
        let name = match self.0.contains(&plain) {
            false => plain,
            true => (2..).map(|n| format!("{plain}_{n}")).find(|name| !self.0.contains(name)).unwrap_or(plain),
        };
        self.0.insert(name.clone());
        name
    }
}

/// A name in small letters, digits and `_`, that begins with no digit.
pub fn plain(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        match c.is_alphanumeric() {
            true => out.push(c),
            false if !out.is_empty() && !out.ends_with('_') => out.push('_'),
            false => {}
        }
    }
    let out = out.trim_end_matches('_');
    match out.chars().next() {
        None => "unnamed".to_owned(),
        Some(first) if first.is_numeric() => format!("n{out}"),
        Some(_) => out.to_owned(),
    }
}

/// Whether a name can be written into files that are rendered: not one that would be read as Jinja.
pub fn is_writable(name: &str) -> bool {
    !["{{", "{%", "{#"].iter().any(|mark| name.contains(mark)) && !name.chars().any(char::is_control)
}

/// Words that YAML does not read as text.
const YAML_WORDS: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];

/// A text as a YAML value.
pub fn yaml(text: &str) -> String {
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !YAML_WORDS.contains(&text.to_lowercase().as_str());
    // What JSON writes between quotes YAML reads.
    if is_word { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A text as an argument in Jinja.
pub fn jinja(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name as a title: `order_items` → `Order items`.
pub fn title(name: &str) -> String {
    let words = name.replace('_', " ");
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awkward_names_become_plain_ones() {
        for (name, wanted) in [
            ("Order Items", "order_items"),
            ("2024-sales", "n2024_sales"),
            ("a\"b'c`d", "a_b_c_d"),
            ("订单", "订单"),
            ("--", "unnamed"),
            ("order", "order"),
        ] {
            assert_eq!(plain(name), wanted, "{name}");
        }
        let mut names = Names::default();
        assert_eq!(["a b", "A_B", "a-b"].map(|name| names.give(name)), ["a_b", "a_b_2", "a_b_3"]);
        assert_eq!(["orders", "no", "a \"b\"", "1"].map(yaml), ["orders", "\"no\"", "\"a \\\"b\\\"\"", "\"1\""]);
        assert_eq!(jinja("it's"), "'it\\'s'");
        assert!(!is_writable("a{{b") && is_writable("a{b"));
    }
}
