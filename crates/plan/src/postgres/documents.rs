//! Functions of json and jsonb.

use datafusion_common::{Result, exec_err};

use super::calls::Kind::{Bool, Int4, Json, Jsonb, Text, Texts};
use super::calls::{Kind, Out, Overload, Row, Run, over, with_optional};
use super::document::{Json as Value, Node, in_order, parse, position, quoted};
use super::forms::list_of;

pub(crate) const JSON: &[Overload] = &[over(&[Text], Json, |row, out| {
    parse(row.text(0))?;
    out.text(row.text(0))
})];

pub(crate) const JSONB: &[Overload] = &[over(&[Text], Jsonb, |row, out| out.text(&parse(row.text(0))?.written(true)))];

/// A document as it is, of which a column does not say that it is one.
pub(crate) const AS_IT_IS: &[Overload] = &[over(&[Json], Json, |row, out| out.text(row.text(0)))];

pub(crate) const AS_IT_IS_B: &[Overload] = &[over(&[Json], Jsonb, |row, out| out.text(row.text(0)))];

pub(crate) const GET: &[Overload] = &[
    over(&[Json, Text], Json, |row, out| found(row, out, parse(row.text(0))?.field(row.text(1)))),
    over(&[Json, Int4], Json, |row, out| found(row, out, element(row, &parse(row.text(0))?))),
];

/// The element at a place. A jsonb that is one value is the only element of itself.
fn element<'n, 'd>(row: &Row<'_>, node: &'n Node<'d>) -> Option<&'n Node<'d>> {
    let is_itself = row.is_jsonb(0) && node.is_scalar() && matches!(row.int(1), 0 | -1);
    if is_itself { Some(node) } else { node.element(row.int(1)) }
}

pub(crate) const GET_TEXT: &[Overload] = &[
    over(&[Json, Text], Text, |row, out| found_text(row, out, parse(row.text(0))?.field(row.text(1)))),
    over(&[Json, Int4], Text, |row, out| found_text(row, out, element(row, &parse(row.text(0))?))),
];

pub(crate) const PATH: &[Overload] = &[over(&[Json, Text], Json, at_path), over(&[Json, Texts], Json, at_path)];

pub(crate) const PATH_TEXT: &[Overload] =
    &[over(&[Json, Text], Text, text_at_path), over(&[Json, Texts], Text, text_at_path)];

fn at_path(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let (node, path) = (parse(row.text(0))?, listed_at(row, 1)?);
    found(row, out, followed(&node, &path))
}

fn text_at_path(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let (node, path) = (parse(row.text(0))?, listed_at(row, 1)?);
    found_text(row, out, followed(&node, &path))
}

/// The texts of an array, which may be written as one.
fn listed_at(row: &Row<'_>, at: usize) -> Result<Vec<Option<String>>> {
    if row.is_list(at) { Ok(row.texts(at)) } else { list_of(row.text(at)) }
}

/// An overload whose path is the arguments behind the document, one a step.
const fn by_steps(gives: Kind, run: Run) -> Overload {
    Overload { takes: &[Json, Text], optional: 1, repeats: true, strict: true, gives, run }
}

pub(crate) const EXTRACT_PATH: &[Overload] = &[by_steps(Json, at_steps)];

pub(crate) const EXTRACT_PATH_B: &[Overload] = &[by_steps(Jsonb, at_steps)];

pub(crate) const EXTRACT_PATH_TEXT: &[Overload] = &[by_steps(Text, |row, out| {
    let (node, path) = (parse(row.text(0))?, steps(row));
    found_text(row, out, followed(&node, &path))
})];

fn at_steps(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let (node, path) = (parse(row.text(0))?, steps(row));
    found(row, out, followed(&node, &path))
}

fn steps(row: &Row<'_>) -> Vec<Option<String>> {
    (1..row.len()).map(|at| Some(row.text(at).to_owned())).collect()
}

fn followed<'n, 'a>(node: &'n Node<'a>, path: &'n [Option<String>]) -> Option<&'n Node<'a>> {
    if path.iter().any(Option::is_none) {
        return None;
    }
    node.at_path(path.iter().flatten().map(String::as_str))
}

fn found(row: &Row<'_>, out: &mut Out, node: Option<&Node<'_>>) -> Result<()> {
    out.some_text(node.map(|node| node.written(row.jsonb)).as_deref())
}

fn found_text(row: &Row<'_>, out: &mut Out, node: Option<&Node<'_>>) -> Result<()> {
    out.some_text(node.and_then(|node| node.as_text(row.is_jsonb(0))).as_deref())
}

pub(crate) const EXISTS: &[Overload] =
    &[over(&[Json, Text], Bool, |row, out| out.bool(has(&parse(row.text(0))?, row.text(1))))];

pub(crate) const EXISTS_ANY: &[Overload] = &[over(&[Json, Texts], Bool, |row, out| {
    let node = parse(row.text(0))?;
    out.bool(row.texts(1).iter().flatten().any(|key| has(&node, key)))
})];

pub(crate) const EXISTS_ALL: &[Overload] = &[over(&[Json, Texts], Bool, |row, out| {
    let node = parse(row.text(0))?;
    out.bool(row.texts(1).iter().flatten().all(|key| has(&node, key)))
})];

/// Whether a document has a key, or a text among its elements.
fn has(node: &Node<'_>, key: &str) -> bool {
    let is_key = |value: &Value<'_>| matches!(value, Value::Text(text) if text == key);
    match &node.value {
        Value::Object(_) => node.field(key).is_some(),
        Value::Array(elements) => elements.iter().any(|element| is_key(&element.value)),
        value => is_key(value),
    }
}

pub(crate) const CONTAINS: &[Overload] =
    &[over(&[Json, Json], Bool, |row, out| out.bool(parse(row.text(0))?.contains(&parse(row.text(1))?)))];

pub(crate) const CONCAT: &[Overload] = &[over(&[Json, Json], Jsonb, |row, out| {
    let (left, right) = (parse(row.text(0))?, parse(row.text(1))?);
    let value = match (left.value, right.value) {
        (Value::Object(mut fields), Value::Object(more)) => {
            fields.extend(more);
            Value::Object(fields)
        }
        (Value::Object(fields), Value::Array(elements)) if elements.is_empty() => Value::Object(fields),
        (left, right) => {
            let mut all = parts(left);
            all.extend(parts(right));
            Value::Array(all)
        }
    };
    out.text(&Node { text: "", value }.written(true))
})];

fn parts<'a>(value: Value<'a>) -> Vec<Node<'a>> {
    match value {
        Value::Array(elements) => elements,
        other => vec![Node { text: "", value: other }],
    }
}

pub(crate) const DELETE: &[Overload] = &[
    over(&[Json, Text], Jsonb, |row, out| deleted(row, out, &[row.text(1)])),
    over(&[Json, Texts], Jsonb, |row, out| {
        let keys = row.texts(1);
        let keys: Vec<&str> = keys.iter().flatten().map(String::as_str).collect();
        deleted(row, out, &keys)
    }),
    over(&[Json, Int4], Jsonb, |row, out| {
        let mut node = parse(row.text(0))?;
        let Value::Array(elements) = &mut node.value else {
            return exec_err!("cannot delete from object using integer index");
        };
        if let Some(at) = position(elements.len(), row.int(1)).filter(|at| *at < elements.len()) {
            elements.remove(at);
        }
        out.text(&node.written(true))
    }),
];

fn deleted(row: &Row<'_>, out: &mut Out, keys: &[&str]) -> Result<()> {
    let mut node = parse(row.text(0))?;
    match &mut node.value {
        Value::Object(fields) => fields.retain(|(key, _)| !keys.contains(&key.as_str())),
        Value::Array(elements) => {
            elements.retain(|element| !matches!(&element.value, Value::Text(text) if keys.contains(&text.as_str())));
        }
        _ => return exec_err!("cannot delete from scalar"),
    }
    out.text(&node.written(true))
}

/// What is done at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The value takes the place of what is there, or is put where nothing is.
    Set {
        create: bool,
    },
    Insert {
        after: bool,
    },
    Delete,
}

pub(crate) const SET: &[Overload] = &[
    with_optional(&[Json, Texts, Json, Bool], 1, Jsonb, |row, out| changed(row, out, set(row))),
    with_optional(&[Json, Text, Json, Bool], 1, Jsonb, |row, out| changed(row, out, set(row))),
];

pub(crate) const INSERT: &[Overload] = &[
    with_optional(&[Json, Texts, Json, Bool], 1, Jsonb, |row, out| changed(row, out, insert(row))),
    with_optional(&[Json, Text, Json, Bool], 1, Jsonb, |row, out| changed(row, out, insert(row))),
];

pub(crate) const DELETE_PATH: &[Overload] = &[
    over(&[Json, Texts], Jsonb, |row, out| changed(row, out, Change::Delete)),
    over(&[Json, Text], Jsonb, |row, out| changed(row, out, Change::Delete)),
];

fn set(row: &Row<'_>) -> Change {
    Change::Set { create: !row.has(3) || row.bool(3) }
}

fn insert(row: &Row<'_>) -> Change {
    Change::Insert { after: row.has(3) && row.bool(3) }
}

/// The document with something else at the end of a path; as it is where nothing leads there.
fn changed(row: &Row<'_>, out: &mut Out, change: Change) -> Result<()> {
    let mut node = parse(row.text(0))?;
    let Some(path) = listed_at(row, 1)?.into_iter().collect::<Option<Vec<String>>>() else {
        return exec_err!("path element is null");
    };
    let value = if change == Change::Delete { None } else { Some(parse(row.text(2))?) };
    if !matches!(node.value, Value::Object(_) | Value::Array(_)) {
        return exec_err!("cannot set path in scalar");
    }
    if let Some((last, way)) = path.split_last()
        && let Some(parent) = led(&mut node, way)?
    {
        match &mut parent.value {
            Value::Object(fields) => change_field(fields, last, change, value)?,
            Value::Array(elements) => change_element(elements, index(last)?, change, value),
            _ => {}
        }
    }
    out.text(&node.written(true))
}

fn led<'n, 'a>(mut node: &'n mut Node<'a>, way: &[String]) -> Result<Option<&'n mut Node<'a>>> {
    for step in way {
        let next = match &mut node.value {
            Value::Object(fields) => fields.iter_mut().rev().find(|(key, _)| key == step).map(|(_, node)| node),
            Value::Array(elements) => match position(elements.len(), index(step)?) {
                Some(at) => elements.get_mut(at),
                None => None,
            },
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return Ok(None),
        }
    }
    Ok(Some(node))
}

fn index(step: &str) -> Result<i64> {
    match step.trim().parse() {
        Ok(at) => Ok(at),
        Err(_) => exec_err!("invalid input syntax: path element is not an integer: \"{step}\""),
    }
}

fn change_field<'a>(
    fields: &mut Vec<(String, Node<'a>)>,
    key: &str,
    change: Change,
    value: Option<Node<'a>>,
) -> Result<()> {
    let is_there = fields.iter().any(|(known, _)| known == key);
    let puts = match change {
        Change::Set { create } => is_there || create,
        Change::Insert { .. } if is_there => return exec_err!("cannot replace existing key"),
        Change::Insert { .. } => true,
        Change::Delete => false,
    };
    if puts || change == Change::Delete {
        fields.retain(|(known, _)| known != key);
    }
    fields.extend(value.filter(|_| puts).map(|value| (key.to_owned(), value)));
    Ok(())
}

fn change_element<'a>(elements: &mut Vec<Node<'a>>, at: i64, change: Change, value: Option<Node<'a>>) {
    let found = position(elements.len(), at).filter(|at| *at < elements.len());
    let end = if at < 0 { 0 } else { elements.len() };
    match (change, found, value) {
        (Change::Set { .. }, Some(at), Some(value)) => elements[at] = value,
        (Change::Set { create: true }, None, Some(value)) => elements.insert(end, value),
        (Change::Insert { after }, Some(at), Some(value)) => elements.insert(at + usize::from(after), value),
        (Change::Insert { .. }, None, Some(value)) => elements.insert(end, value),
        (Change::Delete, Some(at), _) => {
            elements.remove(at);
        }
        _ => {}
    }
}

/// An object of texts: keys and values in turn, or an array of each.
pub(crate) const OBJECT: &[Overload] = &[
    over(&[Texts], Json, object),
    over(&[Text], Json, object),
    over(&[Texts, Texts], Json, object),
    over(&[Text, Text], Json, object),
];

pub(crate) const OBJECT_B: &[Overload] = &[
    over(&[Texts], Jsonb, object),
    over(&[Text], Jsonb, object),
    over(&[Texts, Texts], Jsonb, object),
    over(&[Text, Text], Jsonb, object),
];

fn object(row: &Row<'_>, out: &mut Out) -> Result<()> {
    let first = listed_at(row, 0)?;
    let (keys, values): (Vec<_>, Vec<_>) = if row.len() > 1 {
        (first, listed_at(row, 1)?)
    } else if first.len() % 2 == 0 {
        first.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).unzip()
    } else {
        return exec_err!("array must have even number of elements");
    };
    if keys.len() != values.len() {
        return exec_err!("mismatched array dimensions");
    }
    let mut text = String::from("{");
    for (at, (key, value)) in keys.iter().zip(&values).enumerate() {
        let Some(key) = key else { return exec_err!("null value not allowed for object key") };
        text.push_str(if at == 0 { "" } else { ", " });
        quoted(key, &mut text);
        text.push_str(" : ");
        match value {
            Some(value) => quoted(value, &mut text),
            None => text.push_str("null"),
        }
    }
    text.push('}');
    if row.jsonb {
        return out.text(&parse(&text)?.written(true));
    }
    out.text(&text)
}

pub(crate) const TYPEOF: &[Overload] = &[over(&[Json], Text, |row, out| out.text(parse(row.text(0))?.type_name()))];

pub(crate) const ARRAY_LENGTH: &[Overload] = &[over(&[Json], Int4, |row, out| match parse(row.text(0))?.value {
    Value::Array(elements) => out.int(i64::try_from(elements.len()).unwrap_or(i64::MAX)),
    Value::Object(_) => exec_err!("cannot get array length of a non-array"),
    _ => exec_err!("cannot get array length of a scalar"),
})];

pub(crate) const ELEMENTS: &[Overload] =
    &[over(&[Json], Texts, |row, out| listed(out, elements(&parse(row.text(0))?)?, |node| Some(node.written(false))))];

pub(crate) const ELEMENTS_TEXT: &[Overload] =
    &[over(&[Json], Texts, |row, out| listed(out, elements(&parse(row.text(0))?)?, |node| node.as_text(false)))];

pub(crate) const KEYS: &[Overload] = &[over(&[Json], Texts, |row, out| {
    let node = parse(row.text(0))?;
    let keys: Vec<Option<&str>> = fields(&node)?.into_iter().map(|(key, _)| Some(key)).collect();
    out.texts(&keys)
})];

pub(crate) const VALUES: &[Overload] = &[over(&[Json], Texts, |row, out| {
    let node = parse(row.text(0))?;
    listed(out, fields(&node)?.into_iter().map(|(_, node)| node), |node| Some(node.written(false)))
})];

pub(crate) const VALUES_TEXT: &[Overload] = &[over(&[Json], Texts, |row, out| {
    let node = parse(row.text(0))?;
    listed(out, fields(&node)?.into_iter().map(|(_, node)| node), |node| node.as_text(false))
})];

fn elements<'n, 'a>(node: &'n Node<'a>) -> Result<&'n [Node<'a>]> {
    match &node.value {
        Value::Array(elements) => Ok(elements),
        Value::Object(_) => exec_err!("cannot extract elements from an object"),
        _ => exec_err!("cannot extract elements from a scalar"),
    }
}

/// The fields of an object as they are written.
fn fields<'n, 'a>(node: &'n Node<'a>) -> Result<Vec<(&'n str, &'n Node<'a>)>> {
    let fields = match &node.value {
        Value::Object(fields) => fields,
        Value::Array(_) => return exec_err!("cannot deconstruct an array as an object"),
        _ => return exec_err!("cannot deconstruct a scalar"),
    };
    Ok(fields.iter().map(|(key, node)| (key.as_str(), node)).collect())
}

fn listed<'n, 'a: 'n>(
    out: &mut Out,
    nodes: impl IntoIterator<Item = &'n Node<'a>>,
    text: impl Fn(&Node<'a>) -> Option<String>,
) -> Result<()> {
    let texts: Vec<Option<String>> = nodes.into_iter().map(text).collect();
    out.texts(&texts.iter().map(Option::as_deref).collect::<Vec<_>>())
}

pub(crate) const STRIP_NULLS: &[Overload] = &[over(&[Json], Json, stripped)];

pub(crate) const STRIP_NULLS_B: &[Overload] = &[over(&[Json], Jsonb, stripped)];

fn stripped(row: &Row<'_>, out: &mut Out) -> Result<()> {
    fn strip(node: &mut Node<'_>) {
        match &mut node.value {
            Value::Object(fields) => {
                fields.retain(|(_, node)| node.value != Value::Null);
                fields.iter_mut().for_each(|(_, node)| strip(node));
            }
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut node = parse(row.text(0))?;
    strip(&mut node);
    if row.jsonb {
        return out.text(&node.written(true));
    }
    let mut text = String::new();
    compact(&node, &mut text);
    out.text(&text)
}

/// A json without spaces.
fn compact(node: &Node<'_>, out: &mut String) {
    match &node.value {
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                compact(element, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (key, node)) in fields.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                quoted(key, out);
                out.push(':');
                compact(node, out);
            }
            out.push('}');
        }
        _ => out.push_str(node.text),
    }
}

pub(crate) const PRETTY: &[Overload] = &[over(&[Json], Text, |row, out| {
    let mut text = String::new();
    pretty(&parse(row.text(0))?, 0, &mut text);
    out.text(&text)
})];

fn pretty(node: &Node<'_>, depth: usize, out: &mut String) {
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("    "));
    };
    match &node.value {
        Value::Array(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(out, depth + 1);
                pretty(element, depth + 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (key, node)) in in_order(fields).into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                line(out, depth + 1);
                quoted(key, out);
                out.push_str(": ");
                pretty(node, depth + 1, out);
            }
            line(out, depth);
            out.push('}');
        }
        _ => out.push_str(&node.written(true)),
    }
}
