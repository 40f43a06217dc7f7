//! SQL/JSON paths, lax as PostgreSQL reads them where nothing is said: `$.lines[*] ? (@.price > 10 && @.kind == "book").id`.
//!
//! Members, elements, wildcards and filters are read; arithmetic and methods are refused by name. Lax: a member of an
//! array is one of each of its elements, elements of what is no array are itself, and what is not there is nothing. A
//! comparison of values that cannot be compared is unknown.

use std::cmp::Ordering;

use datafusion_common::{Result, exec_err};
use regex::Regex;

use super::calls::Kind::{Bool, Json as JsonKind, Jsonb, Text, Texts};
use super::calls::{Out, Overload, Row, with_optional};
use super::document::{Json, Node, parse};

/// Bytes of a path: it is read anew for each row.
const PATH_BYTES_MAX: usize = 64 << 10;
/// How deep conditions may nest.
const DEPTH_MAX: usize = 64;
/// Values that a path may find in a document.
const FOUND_MAX: usize = 1 << 20;
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// `document @? path`.
pub(crate) const PATH_EXISTS: &[Overload] = &[with_optional(&[JsonKind, Text, Text, Bool], 2, Bool, |row, out| {
    let exists = found_in(row, |found| !found.is_empty())?;
    out.bool(exists)
})];

/// `document @@ path`: the truth of its predicate; NULL where it has none.
pub(crate) const HOLDS: &[Overload] = &[with_optional(&[JsonKind, Text, Text, Bool], 2, Bool, |row, out| {
    let truth = found_in(row, truth_of)?;
    told(out, truth.flatten())
})];

/// The same, but what has no truth fails.
pub(crate) const PATH_MATCH: &[Overload] =
    &[with_optional(&[JsonKind, Text, Text, Bool], 2, Bool, |row, out| match found_in(row, truth_of)? {
        Some(truth) => told(out, truth),
        None => exec_err!("single boolean result is expected"),
    })];

/// The truth that a path finds, which may be unknown; none where it finds anything else.
fn truth_of(found: &[Node<'_>]) -> Option<Option<bool>> {
    match found {
        [Node { value: Json::Bool(truth), .. }] => Some(Some(*truth)),
        [Node { value: Json::Null, .. }] => Some(None),
        _ => None,
    }
}

fn told(out: &mut Out, truth: Option<bool>) -> Result<()> {
    match truth {
        Some(truth) => out.bool(truth),
        None => {
            out.null();
            Ok(())
        }
    }
}

/// All that a path finds, as an array.
pub(crate) const QUERY_ARRAY: &[Overload] = &[with_optional(&[JsonKind, Text, Text, Bool], 2, Jsonb, |row, out| {
    let text = found_in(row, |found| {
        let values: Vec<String> = found.iter().map(|node| node.written(true)).collect();
        format!("[{}]", values.join(", "))
    })?;
    out.text(&text)
})];

/// The first that a path finds.
pub(crate) const QUERY_FIRST: &[Overload] = &[with_optional(&[JsonKind, Text, Text, Bool], 2, Jsonb, |row, out| {
    let first = found_in(row, |found| found.first().map(|node| node.written(true)))?;
    out.some_text(first.as_deref())
})];

/// What a path finds, one by one.
pub(crate) const QUERY: &[Overload] = &[with_optional(&[JsonKind, Text, Text, Bool], 2, Texts, |row, out| {
    let values = found_in(row, |found| found.iter().map(|node| node.written(true)).collect::<Vec<String>>())?;
    out.texts(&values.iter().map(|value| Some(value.as_str())).collect::<Vec<_>>())
})];

fn found_in<T>(row: &Row<'_>, make: impl FnOnce(&[Node<'_>]) -> T) -> Result<T> {
    let variables = if row.has(2) { row.text(2) } else { "{}" };
    let path = Path::read(row.text(1), &variables_of(variables)?)?;
    let document = parse(row.text(0))?;
    Ok(match &path {
        Path::Values(steps) => make(&steps.find(&document, &document)?),
        Path::Truth(condition) => {
            let value = condition.holds(&document, &document)?.map_or(Json::Null, Json::Bool);
            make(&[Node { text: "", value }])
        }
    })
}

/// What a path may name, by the third argument of its function.
fn variables_of(text: &str) -> Result<Vec<(String, Option<Literal>)>> {
    match parse(text)?.value {
        Json::Object(fields) => Ok(fields.into_iter().map(|(name, node)| (name, literal(&node.value))).collect()),
        _ => exec_err!("\"vars\" argument is not an object"),
    }
}

/// A path that was read.
enum Path {
    Values(Steps),
    Truth(Condition),
}

/// From where, and which way.
struct Steps {
    /// From the value that a filter is asked about, else from the document.
    from_item: bool,
    steps: Vec<Step>,
}

enum Step {
    Member(String),
    AnyMember,
    AnyElement,
    Element(Place),
    Elements(Place, Place),
    Filter(Condition),
}

#[derive(Clone, Copy)]
enum Place {
    At(i64),
    /// So many before the last.
    Last(i64),
}

enum Condition {
    Or(Vec<Condition>),
    And(Vec<Condition>),
    Not(Box<Condition>),
    Compare(Operand, Comparison, Operand),
    Exists(Steps),
    StartsWith(Operand, String),
    Like(Operand, Regex),
    IsUnknown(Box<Condition>),
}

enum Operand {
    Path(Steps),
    Literal(Literal),
}

#[derive(Clone)]
enum Literal {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Steps {
    fn find<'a>(&self, document: &Node<'a>, item: &Node<'a>) -> Result<Vec<Node<'a>>> {
        let mut found = vec![if self.from_item { item.clone() } else { document.clone() }];
        for step in &self.steps {
            let mut next = Vec::new();
            for node in found {
                step.take(document, node, true, &mut next)?;
                if next.len() > FOUND_MAX {
                    return exec_err!("out of memory: a path finds more than {FOUND_MAX} values");
                }
            }
            found = next;
        }
        Ok(found)
    }
}

impl Step {
    /// `unwrap`: an array stands for its elements.
    fn take<'a>(&self, document: &Node<'a>, node: Node<'a>, unwrap: bool, found: &mut Vec<Node<'a>>) -> Result<()> {
        let each = matches!(self, Self::Member(_) | Self::AnyMember | Self::Filter(_));
        match (self, node.value) {
            (_, Json::Array(elements)) if each && unwrap => {
                elements.into_iter().try_for_each(|element| self.take(document, element, false, found))?;
            }
            (Self::Member(key), Json::Object(fields)) => {
                found.extend(fields.into_iter().rev().find(|(name, _)| name == key).map(|(_, value)| value));
            }
            (Self::AnyMember, Json::Object(fields)) => found.extend(fields.into_iter().map(|(_, value)| value)),
            (Self::AnyElement, Json::Array(elements)) => found.extend(elements),
            (Self::Element(place), Json::Array(elements)) => {
                let at = place.among(elements.len()).and_then(|at| usize::try_from(at).ok());
                found.extend(at.and_then(|at| elements.into_iter().nth(at)));
            }
            (Self::Elements(from, to), Json::Array(elements)) => {
                let ends = from.among(elements.len()).zip(to.among(elements.len()));
                if let Some((from, to)) = ends {
                    let from = usize::try_from(from.max(0)).unwrap_or(0);
                    let to = usize::try_from(to.saturating_add(1).max(0)).unwrap_or(0);
                    found.extend(elements.into_iter().take(to).skip(from));
                }
            }
            // What is no array is its own only element.
            (Self::AnyElement, value) => found.push(Node { text: node.text, value }),
            (Self::Element(place), value) => {
                if place.among(1) == Some(0) {
                    found.push(Node { text: node.text, value });
                }
            }
            (Self::Elements(from, to), value) => {
                let inside = from.among(1).zip(to.among(1)).is_some_and(|(from, to)| from <= 0 && to >= 0);
                if inside {
                    found.push(Node { text: node.text, value });
                }
            }
            (Self::Filter(condition), value) => {
                let item = Node { text: node.text, value };
                if condition.holds(document, &item)? == Some(true) {
                    found.push(item);
                }
            }
            (Self::Member(_) | Self::AnyMember, _) => {}
        }
        Ok(())
    }
}

impl Place {
    fn among(self, len: usize) -> Option<i64> {
        match self {
            Self::At(at) => Some(at),
            Self::Last(before) => i64::try_from(len).ok()?.checked_sub(1)?.checked_sub(before),
        }
    }
}

impl Operand {
    /// Its values; those of an array in place of it.
    fn values(&self, document: &Node<'_>, item: &Node<'_>) -> Result<Vec<Option<Literal>>> {
        let steps = match self {
            Self::Literal(literal) => return Ok(vec![Some(literal.clone())]),
            Self::Path(steps) => steps,
        };
        let mut values = Vec::new();
        for node in steps.find(document, item)? {
            match node.value {
                Json::Array(elements) => values.extend(elements.iter().map(|element| literal(&element.value))),
                value => values.push(literal(&value)),
            }
        }
        Ok(values)
    }
}

/// None of what is compared with nothing.
fn literal(value: &Json<'_>) -> Option<Literal> {
    match value {
        Json::Null => Some(Literal::Null),
        Json::Bool(truth) => Some(Literal::Bool(*truth)),
        Json::Number(digits) => digits.parse().ok().map(Literal::Number),
        Json::Text(text) => Some(Literal::Text(text.clone())),
        Json::Array(_) | Json::Object(_) => None,
    }
}

impl Comparison {
    /// None where the values cannot be compared.
    fn holds(self, left: &Literal, right: &Literal) -> Option<bool> {
        let order = match (left, right) {
            (Literal::Null, Literal::Null) => Ordering::Equal,
            // A null is unlike all else, and in no order.
            (Literal::Null, _) | (_, Literal::Null) => return Some(self == Self::Unequal),
            (Literal::Bool(left), Literal::Bool(right)) => left.cmp(right),
            (Literal::Number(left), Literal::Number(right)) => left.partial_cmp(right)?,
            (Literal::Text(left), Literal::Text(right)) => left.cmp(right),
            _ => return None,
        };
        Some(match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        })
    }
}

impl Condition {
    fn truths(parts: &[Self], document: &Node<'_>, item: &Node<'_>) -> Result<Vec<Option<bool>>> {
        parts.iter().map(|part| part.holds(document, item)).collect()
    }

    /// None where it is unknown.
    fn holds(&self, document: &Node<'_>, item: &Node<'_>) -> Result<Option<bool>> {
        Ok(match self {
            Self::Or(parts) => any(Self::truths(parts, document, item)?.into_iter()),
            // One does not hold, or all hold.
            Self::And(parts) => {
                let fails = Self::truths(parts, document, item)?.into_iter().map(|truth| truth.map(|truth| !truth));
                any(fails).map(|fails| !fails)
            }
            Self::Not(inner) => inner.holds(document, item)?.map(|truth| !truth),
            Self::IsUnknown(inner) => Some(inner.holds(document, item)?.is_none()),
            Self::Exists(steps) => Some(!steps.find(document, item)?.is_empty()),
            Self::Compare(left, comparison, right) => {
                let (left, right) = (left.values(document, item)?, right.values(document, item)?);
                any(left
                    .iter()
                    .flat_map(|left| right.iter().map(move |right| comparison.holds(left.as_ref()?, right.as_ref()?))))
            }
            Self::StartsWith(value, prefix) => any(value.values(document, item)?.iter().map(|value| match value {
                Some(Literal::Text(text)) => Some(text.starts_with(prefix)),
                _ => None,
            })),
            Self::Like(value, pattern) => any(value.values(document, item)?.iter().map(|value| match value {
                Some(Literal::Text(text)) => Some(pattern.is_match(text)),
                _ => None,
            })),
        })
    }
}

/// Whether one holds; unknown where none does and one is unknown.
fn any(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    for truth in truths {
        match truth {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    (!unknown).then_some(false)
}

/// Reads a path.
struct Reader<'t> {
    text: &'t str,
    rest: &'t str,
    variables: &'t [(String, Option<Literal>)],
}

impl Path {
    fn read(text: &str, variables: &[(String, Option<Literal>)]) -> Result<Self> {
        if text.len() > PATH_BYTES_MAX {
            return exec_err!("out of range: a path has at most {PATH_BYTES_MAX} bytes");
        }
        let mut reader = Reader { text, rest: text, variables };
        reader.space();
        if reader.word("strict") {
            return exec_err!("strict mode of a path is not supported");
        }
        reader.word("lax");
        let whole = reader.rest;
        // A path alone, else a condition that begins with one.
        if let Ok(steps) = reader.steps(0) {
            reader.space();
            if reader.rest.is_empty() {
                return Ok(Self::Values(steps));
            }
        }
        reader.rest = whole;
        let condition = reader.or(0)?;
        reader.space();
        if reader.rest.is_empty() { Ok(Self::Truth(condition)) } else { reader.wrong() }
    }
}

impl<'t> Reader<'t> {
    fn wrong<T>(&self) -> Result<T> {
        let near: String = self.rest.chars().take(20).collect();
        exec_err!("invalid input syntax for type jsonpath: \"{}\" near \"{near}\"", self.text)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn sign(&mut self, sign: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let behind = self.rest.strip_prefix(word);
        match behind.filter(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, sign: &str) -> Result<()> {
        if self.sign(sign) { Ok(()) } else { self.wrong() }
    }

    fn name(&mut self) -> Result<String> {
        self.space();
        if self.rest.starts_with('"') {
            return self.quoted();
        }
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        if name.is_empty() {
            return self.wrong();
        }
        self.rest = rest;
        Ok(name.to_owned())
    }

    /// A text between double quotes, with the escapes of JSON.
    fn quoted(&mut self) -> Result<String> {
        self.space();
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let parts = end.and_then(|(end, _)| self.rest.split_at_checked(end + 1));
        let Some((literal, rest)) = parts.filter(|(literal, _)| literal.starts_with('"')) else { return self.wrong() };
        let Json::Text(text) = parse(literal)?.value else { return self.wrong() };
        self.rest = rest;
        Ok(text)
    }

    fn steps(&mut self, depth: usize) -> Result<Steps> {
        self.space();
        let from_item = match (self.sign("$"), depth > 0) {
            (true, _) => false,
            (false, true) if self.sign("@") => true,
            _ => return self.wrong(),
        };
        let mut steps = Vec::new();
        loop {
            if self.sign(".") {
                if self.sign("*") {
                    if self.rest.starts_with('*') {
                        return exec_err!("the accessor \".**\" of a path is not supported");
                    }
                    steps.push(Step::AnyMember);
                    continue;
                }
                let name = self.name()?;
                if self.sign("(") {
                    return exec_err!("the method \"{name}\" of a path is not supported");
                }
                steps.push(Step::Member(name));
            } else if self.sign("[") {
                steps.push(self.elements()?);
                self.expect("]")?;
            } else if self.sign("?") {
                self.expect("(")?;
                steps.push(Step::Filter(self.or(depth + 1)?));
                self.expect(")")?;
            } else {
                return Ok(Steps { from_item, steps });
            }
        }
    }

    fn elements(&mut self) -> Result<Step> {
        if self.sign("*") {
            return Ok(Step::AnyElement);
        }
        let from = self.place()?;
        Ok(if self.word("to") { Step::Elements(from, self.place()?) } else { Step::Element(from) })
    }

    fn place(&mut self) -> Result<Place> {
        if !self.word("last") {
            return Ok(Place::At(self.whole()?));
        }
        Ok(Place::Last(if self.sign("-") { self.whole()? } else { 0 }))
    }

    fn whole(&mut self) -> Result<i64> {
        self.space();
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        let Ok(number) = digits.parse() else { return self.wrong() };
        self.rest = rest;
        Ok(number)
    }

    fn or(&mut self, depth: usize) -> Result<Condition> {
        if depth > DEPTH_MAX {
            return exec_err!("a path may nest {DEPTH_MAX} conditions");
        }
        // Side by side, so that many are not deep.
        let mut parts = vec![self.and(depth)?];
        while self.sign("||") {
            parts.push(self.and(depth)?);
        }
        Ok(if parts.len() > 1 { Condition::Or(parts) } else { parts.remove(0) })
    }

    fn and(&mut self, depth: usize) -> Result<Condition> {
        let mut parts = vec![self.test(depth)?];
        while self.sign("&&") {
            parts.push(self.test(depth)?);
        }
        Ok(if parts.len() > 1 { Condition::And(parts) } else { parts.remove(0) })
    }

    fn test(&mut self, depth: usize) -> Result<Condition> {
        if self.sign("!") {
            self.expect("(")?;
            let inner = self.or(depth + 1)?;
            self.expect(")")?;
            return Ok(Condition::Not(Box::new(inner)));
        }
        if self.word("exists") {
            self.expect("(")?;
            let steps = self.steps(depth)?;
            self.expect(")")?;
            return Ok(Condition::Exists(steps));
        }
        if self.sign("(") {
            let inner = self.or(depth + 1)?;
            self.expect(")")?;
            if self.word("is") {
                return if self.word("unknown") { Ok(Condition::IsUnknown(Box::new(inner))) } else { self.wrong() };
            }
            return Ok(inner);
        }
        let left = self.operand(depth)?;
        if self.word("starts") {
            return if self.word("with") { Ok(Condition::StartsWith(left, self.quoted()?)) } else { self.wrong() };
        }
        if self.word("like_regex") {
            return Ok(Condition::Like(left, self.pattern()?));
        }
        let signs = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<>", Comparison::Unequal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let Some((_, comparison)) = signs.into_iter().find(|(sign, _)| self.sign(sign)) else { return self.wrong() };
        Ok(Condition::Compare(left, comparison, self.operand(depth)?))
    }

    fn pattern(&mut self) -> Result<Regex> {
        let written = self.quoted()?;
        let flags = if self.word("flag") { self.quoted()? } else { String::new() };
        if let Some(other) = flags.chars().find(|flag| !matches!(flag, 'i' | 's' | 'm')) {
            return exec_err!("the flag \"{other}\" of LIKE_REGEX is not supported");
        }
        let built = regex::RegexBuilder::new(&written)
            .case_insensitive(flags.contains('i'))
            .dot_matches_new_line(flags.contains('s'))
            .multi_line(flags.contains('m'))
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        built.or_else(|_| exec_err!("invalid regular expression: {written}"))
    }

    /// The value of a name behind `$`.
    fn variable(&mut self) -> Result<Literal> {
        let name = self.name()?;
        match self.variables.iter().find(|(known, _)| *known == name) {
            Some((_, Some(value))) => Ok(value.clone()),
            Some((_, None)) => exec_err!("a path whose variable is an array or an object is not supported"),
            None => exec_err!("could not find jsonpath variable \"{name}\""),
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Operand> {
        self.space();
        let literal = match self.rest.chars().next() {
            Some('$')
                if self.rest.get(1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_alphabetic() || c == '_')) =>
            {
                self.expect("$")?;
                self.variable()?
            }
            Some('$' | '@') => return Ok(Operand::Path(self.steps(depth)?)),
            Some('"') => Literal::Text(self.quoted()?),
            _ if self.word("true") => Literal::Bool(true),
            _ if self.word("false") => Literal::Bool(false),
            _ if self.word("null") => Literal::Null,
            _ => {
                let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
                let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
                let (digits, rest) = self.rest.split_at_checked(end).unwrap_or_default();
                let Ok(number) = digits.parse() else { return self.wrong() };
                self.rest = rest;
                Literal::Number(number)
            }
        };
        Ok(Operand::Literal(literal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL answers.
    #[test]
    fn paths_find_what_postgres_finds() {
        let document = r#"{"a": [1, 2, {"b": "x"}], "c": {"d": null}, "e": "text"}"#;
        let cases = [
            ("$.a[*]", "1;2;{\"b\": \"x\"}"),
            ("$.a[0]", "1"),
            ("$.a[last]", "{\"b\": \"x\"}"),
            ("$.a[0 to 1]", "1;2"),
            ("$.a.b", "\"x\""),
            ("$.c.*", "null"),
            ("$.e[*]", "\"text\""),
            ("$.missing", ""),
            ("$.a[*] ? (@ > 1)", "2"),
            ("$.a ? (@.b == \"x\")", "{\"b\": \"x\"}"),
            ("$.c ? (@.d == null)", "{\"d\": null}"),
            ("lax $.a[*] ? (@ == 1 || @.b starts with \"x\")", "1;{\"b\": \"x\"}"),
            ("$ ? (exists(@.c) && !(@.e == \"other\")).e", "\"text\""),
            ("$.e ? (@ like_regex \"^T\" flag \"i\")", "\"text\""),
        ];
        for (path, wanted) in cases {
            let Path::Values(steps) = Path::read(path, &[]).unwrap() else { panic!("{path} is a condition") };
            let document = parse(document).unwrap();
            let found: Vec<String> =
                steps.find(&document, &document).unwrap().iter().map(|node| node.written(true)).collect();
            assert_eq!(found.join(";"), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_not_read_is_refused() {
        for path in ["", "a", "$.", "$.a[", "$ ? (@.a)", "$.size()", "strict $", "$.a + 1", "@.a", "$.**"] {
            assert!(Path::read(path, &[]).is_err(), "{path}");
        }
        assert!(Path::read(&format!("{}$.a == 1", "$.a == 1 || ".repeat(PATH_BYTES_MAX)), &[]).is_err());
    }

    #[test]
    fn many_conditions_are_not_deep() {
        let document = parse("{\"a\": 2}").unwrap();
        for (sign, first, wanted) in
            [("||", "$.a == 2", Some(true)), ("&&", "$.a == 2", Some(false)), ("||", "$.a == \"x\"", None)]
        {
            let path = format!("{first}{}", format!(" {sign} $.a==1").repeat(5_000));
            let Path::Truth(condition) = Path::read(&path, &[]).unwrap() else { panic!("{sign} makes a condition") };
            assert!(matches!(&condition, Condition::Or(parts) | Condition::And(parts) if parts.len() == 5_001));
            assert_eq!(condition.holds(&document, &document).unwrap(), wanted, "{sign}");
        }
    }
}
