//! A schema: nodes that name one another by number, so that one that names itself is no deeper than it is written.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value as Json};

/// Why a text is no schema, a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoSchema(String);

impl fmt::Display for NoSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A schema that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schema {
    nodes: Vec<Node>,
    root: usize,
}

/// A type in a schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// Avro's own word for what a value means (`logicalType`).
    pub(crate) logical: Option<String>,
    /// Kafka Connect's (`connect.name`), by which Debezium says it.
    pub(crate) connect: Option<String>,
    /// Of decimals.
    pub(crate) scale: i16,
    /// Of decimals, where it is said.
    pub(crate) precision: Option<u64>,
}

/// What a node is; others are named by their numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    /// Its full name, and its fields in their order.
    Record(String, Vec<Field>),
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) node: usize,
}

impl Schema {
    /// Reads a schema; `others` are those that it names types of, each before those that name it.
    pub(crate) fn read(text: &str, others: &[String]) -> Result<Self, NoSchema> {
        let mut reader = Reader { nodes: Vec::new(), names: BTreeMap::new() };
        let mut root = 0;
        for text in others.iter().map(String::as_str).chain([text]) {
            // A schema that is a name alone may come without quotes.
            let json = serde_json::from_str(text).or_else(|error| match is_name(text.trim()) {
                true => Ok(Json::from(text.trim())),
                false => Err(NoSchema(format!("it is no JSON: {error}"))),
            })?;
            root = reader.node(&json, "")?;
        }
        Ok(Self { nodes: reader.nodes, root })
    }

    /// Bytes that its nodes take, without their names.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }

    pub(crate) fn root(&self) -> usize {
        self.root
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// The record of a node: it, or the first one in its union. Its full name and its fields.
    pub(crate) fn record(&self, at: usize) -> Option<(&str, &[Field])> {
        match &self.node(at).kind {
            Kind::Record(name, fields) => Some((name, fields)),
            Kind::Union(branches) => branches.iter().find_map(|at| match &self.node(*at).kind {
                Kind::Record(name, fields) => Some((name.as_str(), fields.as_slice())),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// Whether a text may be the name of a record or a field.
pub(crate) fn is_name(text: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

struct Reader {
    nodes: Vec<Node>,
    /// Full names of types that were defined so far.
    names: BTreeMap<String, usize>,
}

fn bad<T>(what: impl Into<String>) -> Result<T, NoSchema> {
    Err(NoSchema(what.into()))
}

impl Reader {
    fn push(&mut self, kind: Kind) -> usize {
        self.nodes.push(Node { kind, logical: None, connect: None, scale: 0, precision: None });
        self.nodes.len() - 1
    }

    /// Reads a type; names without a namespace are of this one. It is no deeper than what reads JSON allows.
    fn node(&mut self, json: &Json, space: &str) -> Result<usize, NoSchema> {
        match json {
            Json::String(word) => self.named(word, space),
            Json::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, space)).collect::<Result<_, _>>()?;
                Ok(self.push(Kind::Union(branches)))
            }
            Json::Object(object) => self.object(object, space),
            other => bad(format!("{other} is no type")),
        }
    }

    fn named(&mut self, word: &str, space: &str) -> Result<usize, NoSchema> {
        let kind = match word {
            "null" => Kind::Null,
            "boolean" => Kind::Boolean,
            "int" => Kind::Int,
            "long" => Kind::Long,
            "float" => Kind::Float,
            "double" => Kind::Double,
            "bytes" => Kind::Bytes,
            "string" => Kind::Text,
            name => {
                let known = self.names.get(&full(name, space)).or_else(|| self.names.get(name));
                return known.copied().ok_or_else(|| NoSchema(format!("the type \"{name}\" is not defined")));
            }
        };
        Ok(self.push(kind))
    }

    fn object(&mut self, object: &Map<String, Json>, space: &str) -> Result<usize, NoSchema> {
        let Some(of) = object.get("type") else { return bad("a type lacks `type`") };
        let text = |key: &str| object.get(key).and_then(Json::as_str);
        let at = match of.as_str() {
            None => self.node(of, space)?,
            Some("array") => {
                let items = self.node(object.get("items").unwrap_or(&Json::Null), space)?;
                self.push(Kind::Array(items))
            }
            Some("map") => {
                let values = self.node(object.get("values").unwrap_or(&Json::Null), space)?;
                self.push(Kind::Map(values))
            }
            Some(word @ ("record" | "error" | "enum" | "fixed")) => {
                let Some(name) = text("name") else { return bad(format!("a {word} has no name")) };
                let name = full(name, text("namespace").unwrap_or(space));
                let at = self.push(Kind::Null);
                if self.names.insert(name.clone(), at).is_some() {
                    return bad(format!("\"{name}\" is defined twice"));
                }
                // A record may name itself.
                self.nodes[at].kind = match word {
                    "enum" => Kind::Enum(symbols(object, &name)?),
                    "fixed" => {
                        let size = object.get("size").and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
                        Kind::Fixed(size.ok_or_else(|| NoSchema(format!("\"{name}\" has no size")))?)
                    }
                    _ => {
                        let inner = name.rsplit_once('.').map_or("", |(space, _)| space);
                        let fields = self.fields(object, inner, &name)?;
                        Kind::Record(name, fields)
                    }
                };
                at
            }
            Some(word) => self.named(word, space)?,
        };
        // What is said beside a type that was defined elsewhere is not said of that one.
        if !matches!(self.nodes[at].kind, Kind::Record(..) | Kind::Enum(_) | Kind::Fixed(_)) || text("name").is_some() {
            let node = &mut self.nodes[at];
            node.logical = text("logicalType").map(str::to_owned).or(node.logical.take());
            node.connect = text("connect.name").map(str::to_owned).or(node.connect.take());
            node.precision = object.get("precision").and_then(Json::as_u64).or(node.precision);
            if let Some(scale) = object.get("scale").and_then(Json::as_i64) {
                node.scale = i16::try_from(scale).map_err(|_| NoSchema(format!("{scale} is no scale")))?;
            }
        }
        Ok(at)
    }

    fn fields(&mut self, object: &Map<String, Json>, space: &str, name: &str) -> Result<Vec<Field>, NoSchema> {
        let Some(fields) = object.get("fields").and_then(Json::as_array) else {
            return bad(format!("the record \"{name}\" has no fields"));
        };
        let field = |field: &Json| {
            let Some(name) = field.get("name").and_then(Json::as_str) else {
                return bad(format!("a field of \"{name}\" has no name"));
            };
            let Some(of) = field.get("type") else { return bad(format!("the field \"{name}\" has no type")) };
            let node = self.node(of, space)?;
            Ok(Field { name: name.to_owned(), node })
        };
        fields.iter().map(field).collect()
    }
}

/// The full name of a name within a namespace.
fn full(name: &str, space: &str) -> String {
    match (name.contains('.'), space) {
        (true, _) | (false, "") => name.trim_start_matches('.').to_owned(),
        (false, space) => format!("{space}.{name}"),
    }
}

fn symbols(object: &Map<String, Json>, name: &str) -> Result<Vec<String>, NoSchema> {
    let symbols = object.get("symbols").and_then(Json::as_array);
    let symbols = symbols.and_then(|all| all.iter().map(|word| Some(word.as_str()?.to_owned())).collect());
    symbols.ok_or_else(|| NoSchema(format!("the enum \"{name}\" has no symbols")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_schema_says_why() {
        for (text, why) in [
            ("{", "it is no JSON: EOF while parsing an object at line 1 column 1"),
            ("5", "5 is no type"),
            ("\"lnog\"", "the type \"lnog\" is not defined"),
            (r#"{"fields":[]}"#, "a type lacks `type`"),
            (r#"{"type":"array"}"#, "null is no type"),
            (r#"{"type":"record","name":"r"}"#, "the record \"r\" has no fields"),
            (r#"{"type":"record","name":"r","fields":[{"name":"a"}]}"#, "the field \"a\" has no type"),
            (r#"{"type":"fixed","name":"f","size":-1}"#, "\"f\" has no size"),
            (r#"{"type":"enum","name":"e","symbols":[1]}"#, "the enum \"e\" has no symbols"),
            (
                r#"["null",{"type":"fixed","name":"f","size":1},{"type":"fixed","name":"f","size":1}]"#,
                "\"f\" is defined twice",
            ),
        ] {
            assert_eq!(Schema::read(text, &[]).unwrap_err().to_string(), why, "{text}");
        }
        let deep = format!("{}\"int\"{}", "[".repeat(1000), "]".repeat(1000));
        assert!(Schema::read(&deep, &[]).is_err());
    }

    #[test]
    fn names_are_of_their_namespace_and_of_schemas_that_are_named() {
        let other = r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"cents","type":"long"}]}"#;
        let text = r#"{"type":"record","name":"shop.Order","fields":[{"name":"total","type":["null","Money"]},{"name":"next","type":["null","Order"]}]}"#;
        let schema = Schema::read(text, &[other.to_owned()]).unwrap();
        let (name, fields) = schema.record(schema.root()).unwrap();
        assert_eq!((name, fields.len()), ("shop.Order", 2));
        assert_eq!(schema.record(fields[0].node).unwrap().0, "shop.Money");
        assert_eq!(schema.record(fields[1].node).unwrap().0, "shop.Order");
    }
}
