//! Which columns of a table are wanted.
//!
//! The law: a column that is left out is not read. It is in no select list, its bytes of the log are passed over, and no row,
//! reject or comparison has it. What identifies a row cannot be left out.

use std::cmp::Ordering;
use std::fmt;

use relation::Schema;

/// What is read of a table's columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ColumnRule {
    /// Columns with such names are left out, also those that come later.
    pub left_out: Vec<Pattern>,
    pub on_unsupported: OnUnsupported,
    pub on_change: OnChange,
}

/// What becomes of a table whose columns become others at its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnChange {
    /// It is loaded anew with its columns of then.
    #[default]
    Apply,
    /// It is parked, until a person has it loaded again.
    Park,
    /// It keeps its columns: those of these names, or where there are none those that it had at first.
    Map(Vec<String>),
}

impl fmt::Display for OnChange {
    /// As it is written in `meta`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apply => "apply",
            Self::Park => "park",
            Self::Map(_) => "map",
        })
    }
}

/// What becomes of a table with a column that cannot be held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnUnsupported {
    /// It is parked.
    #[default]
    Park,
    /// It is read without that column.
    LeaveOut,
}

impl fmt::Display for OnUnsupported {
    /// As it is written in `meta`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Park => "park",
            Self::LeaveOut => "leave_out",
        })
    }
}

/// Names with `*` for any characters and `?` for one, whatever the case of letters.
///
/// Two are the same that mean the same names, wherever they are written.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// What a column's name is compared with.
    pub column: String,
    /// As it is written.
    pub text: String,
    /// Where, as people find it.
    pub place: String,
}

/// A column that is not read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub column: String,
    /// A clause: `it is …`.
    pub reason: String,
}

impl ColumnRule {
    /// The columns that the table keeps whatever becomes of them at the source; empty: those that it had at first. None: it has
    /// those that it has at the source.
    pub fn declared(&self) -> Option<&[String]> {
        match &self.on_change {
            OnChange::Map(declared) => Some(declared),
            OnChange::Apply | OnChange::Park => None,
        }
    }

    /// Whether the same is read of a table by another rule, as long as its columns stay what they are.
    pub fn reads_as(&self, other: &Self) -> bool {
        let read = |of: &Self| (of.left_out.clone(), of.on_unsupported, of.declared().map(<[String]>::to_vec));
        read(self) == read(other)
    }

    /// Why a column is left out that is none of the key, if it is; `kept` is what a table that keeps its columns has.
    pub fn leaves_out(&self, column: &str, kept: Option<&Schema>) -> Option<String> {
        if let Some(pattern) = self.pattern_of(column) {
            return Some(pattern.reason());
        }
        let declared = self.declared()?;
        let is_declared = declared.is_empty() || declared.iter().any(|name| is_same_column(name, column));
        let is_kept = kept.is_none_or(|schema| schema.columns.iter().any(|known| is_same_column(&known.name, column)));
        (!is_declared || !is_kept).then(|| NOT_DECLARED.to_owned())
    }

    /// Whether a table that has these columns keeps them, with these at the source: they are those that are declared, and its key
    /// is what it was.
    pub fn keeps(&self, known: &Schema, now: &Schema) -> bool {
        let Some(declared) = self.declared() else { return false };
        let key = |schema: &Schema| -> Vec<relation::Column> {
            let of_key = schema.key.iter().filter_map(|&at| schema.columns.get(at).cloned());
            of_key.map(|column| relation::Column { name: column.name.to_lowercase(), ..column }).collect()
        };
        let is_declared = |name: &str| declared.iter().any(|of| is_same_column(of, name));
        let mut others = known.columns.iter().enumerate().filter(|(at, _)| !known.key.contains(at));
        let is_same = |name: &String| known.columns.iter().any(|column| is_same_column(&column.name, name));
        key(known) == key(now)
            && (declared.is_empty()
                || others.all(|(_, column)| is_declared(&column.name)) && declared.iter().all(is_same))
    }

    /// The pattern by which a column is left out.
    pub fn pattern_of(&self, column: &str) -> Option<&Pattern> {
        self.left_out.iter().find(|pattern| is_match(&pattern.column, column))
    }
}

impl Pattern {
    /// Why a column is left out that it names.
    pub fn reason(&self) -> String {
        format!("left out by {self}")
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the filter `{}` ({})", self.text, self.place)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.column.cmp(&other.column)
    }
}

/// Why a column is not read of a table that keeps those that it has.
pub(crate) const NOT_DECLARED: &str = "not declared, and the table keeps its columns (on_change: map)";

/// Patterns that name no column of any of these tables; of tables that are not known nothing is said.
pub fn without_effect<'a>(tables: impl Iterator<Item = (&'a ColumnRule, Option<&'a [LeftOut]>)>) -> Vec<&'a Pattern> {
    let (mut idle, mut others): (Vec<&Pattern>, Vec<&Pattern>) = (Vec::new(), Vec::new());
    for (rule, left_out) in tables {
        for pattern in &rule.left_out {
            let names = |left_out: &[LeftOut]| left_out.iter().any(|of| is_match(&pattern.column, &of.column));
            match left_out.is_none_or(names) {
                true => others.push(pattern),
                false => idle.push(pattern),
            }
        }
    }
    let is_same = |one: &Pattern, other: &Pattern| one.text == other.text && one.place == other.place;
    idle.retain(|pattern| !others.iter().any(|other| is_same(pattern, other)));
    idle.dedup_by(|one, other| is_same(one, other));
    idle
}

/// Whether two names are of one column of a table: to a server their case does not matter.
pub(crate) fn is_same_column(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// Whether a name is one of a pattern's: `*` stands for any characters, `?` for one; case does not matter.
pub fn is_match(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and up to where it has taken the name: it takes one more where the rest does not fit.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::is_match;

    #[test]
    fn a_pattern_is_the_whole_name_with_stars() {
        for (pattern, name) in [
            ("password_hash", "Password_Hash"),
            ("*", ""),
            ("*", "x"),
            ("*_hash", "a_hash_hash"),
            ("raw_*", "raw_"),
            ("a*b*c", "abbbc"),
            ("?d", "id"),
            ("n?*e", "name"),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("password", "password_hash"),
            ("hash", "password_hash"),
            ("?", ""),
            ("a*b", "abc"),
            ("", "a"),
            ("?d", "d"),
        ] {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }
}
