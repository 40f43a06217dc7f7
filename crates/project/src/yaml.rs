//! YAML with places: every key and value knows its line and column.
//!
//! A thin layer over `saphyr`'s marked nodes: [`Node`] is what is left when tags and anchors are resolved, [`Reader`]
//! takes values out of mappings and says what is wrong with them.

use saphyr::{LoadableYamlNode, MarkedYamlOwned, ScalarOwned, YamlDataOwned};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Place, Severity, did_you_mean};

/// Line and column (1-based) within the file at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) text: String,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) data: Data,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Null,
    Text(String),
    /// A plain scalar that reads as a boolean or a number, with its spelling.
    Other(Json, String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

impl Node {
    pub(crate) fn new(mark: Mark, data: Data) -> Self {
        Self { mark, data }
    }

    pub(crate) fn place(&self, file: &str) -> Place {
        Place::new(file, self.mark.line, self.mark.column)
    }

    /// The pairs of a mapping; none for anything else.
    pub(crate) fn pairs(&self) -> &[(Key, Self)] {
        match &self.data {
            Data::Map(pairs) => pairs,
            _ => &[],
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.pairs().iter().find(|(k, _)| k.text == key).map(|(_, value)| value)
    }

    pub(crate) fn is_null(&self) -> bool {
        self.data == Data::Null
    }

    /// A scalar as text, numbers and booleans as they are spelt.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Text(text) | Data::Other(_, text) => Some(text),
            _ => None,
        }
    }

    /// The value as JSON, places dropped.
    pub(crate) fn json(&self) -> Json {
        match &self.data {
            Data::Null => Json::Null,
            Data::Text(text) => Json::from(text.as_str()),
            Data::Other(value, _) => value.clone(),
            Data::List(items) => items.iter().map(Self::json).collect(),
            Data::Map(pairs) => pairs.iter().map(|(key, value)| (key.text.clone(), value.json())).collect(),
        }
    }

    fn kind(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Text(_) => "text",
            Data::Other(Json::Bool(_), _) => "a boolean",
            Data::Other(..) => "a number",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }
}

impl Key {
    pub(crate) fn place(&self, file: &str) -> Place {
        Place::new(file, self.mark.line, self.mark.column)
    }
}

/// Parses a file; an empty one is [`Data::Null`].
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, Diagnostic> {
    let documents = MarkedYamlOwned::load_from_str(text).map_err(|error| {
        let place = Place::new(file, error.marker().line(), error.marker().col() + 1);
        let info = in_its_quotes(error.info(), text, &place);
        let found = Diagnostic::error(place, format!("this is not YAML: {info}"));
        found.maybe_hint(next_move(&info).map(str::to_owned))
    })?;
    let mut documents = documents.iter();
    let Some(first) = documents.next() else {
        return Ok(Node::new(Mark { line: 1, column: 1 }, Data::Null));
    };
    if let Some(second) = documents.next() {
        let mark = mark_of(second);
        return Err(Diagnostic::error(Place::new(file, mark.line, mark.column), "a second YAML document in one file")
            .hint("Remove the `---` between them."));
    }
    let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    Source { file, text, offsets }.node(first)
}

/// What the parser says of a text in quotes, which are the double ones to it in any case.
fn in_its_quotes(info: &str, text: &str, at: &Place) -> String {
    let line = at.line.checked_sub(1).and_then(|line| text.lines().nth(line)).unwrap_or_default();
    let before: String = line.chars().take(at.column.saturating_sub(1)).collect();
    match before.trim_end().ends_with('\'') {
        true => info.replace("double-quoted", "single-quoted"),
        false => info.to_owned(),
    }
}

/// What to do about what the parser says, where it does not say so itself.
fn next_move(info: &str) -> Option<&'static str> {
    const MOVES: [(&str, &str); 7] = [
        ("after single-quoted scalar", "Within single quotes a quote is written twice: 'it''s'."),
        ("tab", "Indent by blanks."),
        (
            "expected '-' indicator",
            "What belongs to one entry of a list begins in one column, two blanks behind its `-`.",
        ),
        ("expected <block end>", "What belongs together begins in one column."),
        ("flow sequence", "A bracket `[` before is not closed."),
        ("flow mapping", "A brace `{` before is not closed, or a comma is missing."),
        (
            "mapping values are not allowed",
            "A value with a colon and a blank in it needs quotes; else look at the indentation.",
        ),
    ];
    MOVES.iter().find(|(part, _)| info.contains(part)).map(|(_, hint)| *hint)
}

struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Byte offset of each character: the parser counts in characters.
    offsets: Vec<usize>,
}

impl Source<'_> {
    fn node(&self, yaml: &MarkedYamlOwned) -> Result<Node, Diagnostic> {
        let data = match &yaml.data {
            YamlDataOwned::Value(scalar) => self.scalar(yaml, scalar),
            YamlDataOwned::Sequence(items) => Data::List(items.iter().map(|i| self.node(i)).collect::<Result<_, _>>()?),
            YamlDataOwned::Mapping(map) => {
                let pairs = map.iter().map(|(key, value)| Ok((self.key(key)?, self.node(value)?)));
                Data::Map(pairs.collect::<Result<_, _>>()?)
            }
            YamlDataOwned::Tagged(_, inner) => self.node(inner)?.data,
            YamlDataOwned::Representation(text, ..) => Data::Text(text.clone()),
            YamlDataOwned::Alias(_) | YamlDataOwned::BadValue => Data::Null,
        };
        Ok(Node::new(mark_of(yaml), data))
    }

    fn scalar(&self, yaml: &MarkedYamlOwned, scalar: &ScalarOwned) -> Data {
        let spelt = || self.spelling(yaml).to_owned();
        match scalar {
            ScalarOwned::Null => Data::Null,
            ScalarOwned::Boolean(value) => Data::Other(Json::from(*value), spelt()),
            ScalarOwned::Integer(value) => Data::Other(Json::from(*value), spelt()),
            ScalarOwned::FloatingPoint(value) => Data::Other(Json::from(value.into_inner()), spelt()),
            ScalarOwned::String(text) => Data::Text(text.clone()),
        }
    }

    fn spelling(&self, yaml: &MarkedYamlOwned) -> &str {
        let offset = |index: usize| self.offsets.get(index).copied().unwrap_or(self.text.len());
        let range = offset(yaml.span.start.index())..offset(yaml.span.end.index());
        self.text.get(range).unwrap_or_default().trim()
    }

    fn key(&self, yaml: &MarkedYamlOwned) -> Result<Key, Diagnostic> {
        let node = self.node(yaml)?;
        match node.text() {
            Some(text) => Ok(Key { mark: node.mark, text: text.to_owned() }),
            None if node.is_null() => Ok(Key { mark: node.mark, text: "null".to_owned() }),
            None => Err(Diagnostic::error(node.place(self.file), "the key of a mapping has to be text")
                .hint("A value that begins with `{{` needs quotes: \"{{ … }}\".")),
        }
    }
}

fn mark_of(yaml: &MarkedYamlOwned) -> Mark {
    Mark { line: yaml.span.start.line(), column: yaml.span.start.col() + 1 }
}

/// Takes values out of the mappings of one file and notes what is wrong with them.
pub(crate) struct Reader<'a> {
    pub(crate) file: &'a str,
    pub(crate) found: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    pub(crate) fn error(&mut self, node: &Node, message: impl Into<String>) -> &mut Diagnostic {
        self.found.push(Diagnostic::error(node.place(self.file), message));
        let last = self.found.len() - 1;
        &mut self.found[last]
    }

    /// Reports keys that nobody reads.
    pub(crate) fn check_keys(&mut self, map: &Node, what: &str, known: &[&str], severity: Severity) {
        for (key, _) in map.pairs().iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let message = format!("unknown key `{}` in {what}", key.text);
            let hint = did_you_mean(&key.text, known.iter().copied())
                .unwrap_or_else(|| format!("Known keys: {}.", known.join(", ")));
            let place = key.place(self.file);
            self.found.push(Diagnostic { severity, ..Diagnostic::error(place, message) }.hint(hint));
        }
    }

    /// Whether a value is a mapping; says so if not. An absent value is none.
    pub(crate) fn expect_map(&mut self, node: &Node, what: &str) -> bool {
        self.expect(node, what, "a mapping", matches!(node.data, Data::Map(_)))
    }

    /// The items of a list; says so if it is none. An absent value is an empty list.
    pub(crate) fn items<'n>(&mut self, map: &'n Node, key: &str) -> &'n [Node] {
        let Some(node) = map.get(key) else { return &[] };
        match &node.data {
            Data::List(items) => items,
            Data::Null => &[],
            _ => {
                self.expect(node, &format!("`{key}`"), "a list", false);
                &[]
            }
        }
    }

    pub(crate) fn text(&mut self, map: &Node, key: &str) -> Option<String> {
        let node = map.get(key)?;
        match node.text() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.expect(node, &format!("`{key}`"), "text", node.is_null());
                None
            }
        }
    }

    /// A required text.
    pub(crate) fn name(&mut self, map: &Node, key: &str, what: &str) -> Option<String> {
        let found = self.text(map, key);
        if found.is_none() && map.get(key).is_none_or(Node::is_null) {
            self.error(map, format!("{what} has no `{key}`"));
        }
        found
    }

    /// A boolean; the words that older YAML takes for one are fine too.
    pub(crate) fn boolean(&mut self, map: &Node, key: &str) -> Option<bool> {
        let node = map.get(key)?;
        let value = node.text().and_then(boolean_word);
        self.expect(node, &format!("`{key}`"), "true or false", value.is_some() || node.is_null());
        value
    }

    /// A list of texts, or one text alone.
    pub(crate) fn texts(&mut self, map: &Node, key: &str) -> Vec<String> {
        if let Some(alone) = map.get(key).and_then(Node::text) {
            return vec![alone.to_owned()];
        }
        let mut texts = Vec::new();
        for item in self.items(map, key) {
            match item.text() {
                Some(text) => texts.push(text.to_owned()),
                None => _ = self.expect(item, &format!("an entry of `{key}`"), "text", false),
            }
        }
        texts
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self, map: &Node, key: &str, range: &str) -> Option<T> {
        let node = map.get(key)?;
        let value = node.text().and_then(|text| text.trim().parse::<i64>().ok()).and_then(|n| T::try_from(n).ok());
        self.expect(node, &format!("`{key}`"), range, value.is_some() || node.is_null());
        value
    }

    fn expect(&mut self, node: &Node, what: &str, expected: &str, fine: bool) -> bool {
        if !fine {
            let found = match node.text() {
                Some(text) => format!("`{text}`"),
                None => node.kind().to_owned(),
            };
            // `name:orders` is a text.
            let glued = node.text().and_then(|text| text.split_once(':')).filter(|(_, value)| !value.starts_with(' '));
            let hint = glued.filter(|_| expected == "a mapping").map(|(key, value)| {
                format!("Between a key and its value stand a colon and a blank: `{key}: {value}`.")
            });
            self.error(node, format!("{what} should be {expected}, not {found}")).hint = hint;
        }
        fine
    }
}

/// What a word means as a boolean.
pub(crate) fn boolean_word(word: &str) -> Option<bool> {
    match word.trim().to_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
