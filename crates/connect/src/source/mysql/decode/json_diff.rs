//! Partial JSON updates (`binlog_row_value_options = PARTIAL_JSON`): the row after an update carries only what changed
//! within a document, and the document is rebuilt from the row before.
//!
//! A column's diffs stand behind their length in four bytes: operation, path, and the new value where there is one.

use super::json::{Damaged, Raw, Spelling, separate, write_string};

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// A document in the middle of being changed: parts that no diff touched stay as they were in the log.
#[derive(Debug, Clone)]
enum Node<'a> {
    Raw(Raw<'a>),
    Object(Vec<(Vec<u8>, Self)>),
    Array(Vec<Self>),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leg {
    Member(Vec<u8>),
    Cell(usize),
}

/// Applies the diffs to a document and appends the text of the result.
pub(crate) fn apply(before: &[u8], diffs: &[u8], spelling: Spelling, out: &mut Vec<u8>) -> Result<(), Damaged> {
    let mut document = Node::Raw(Raw::document(before));
    let mut rest = diffs;
    while let Some((&operation, behind)) = rest.split_first() {
        rest = behind;
        let legs = path(sized(&mut rest)?)?;
        let value = match operation {
            REPLACE | INSERT => Some(Node::Raw(Raw::document(sized(&mut rest)?))),
            REMOVE => None,
            _ => return Err(Damaged),
        };
        document.change(&legs, operation == INSERT, value)?;
    }
    document.write(0, spelling, out)
}

impl<'a> Node<'a> {
    /// Sets the value at a path; `insert` shifts array elements; no value removes.
    fn change(&mut self, legs: &[Leg], insert: bool, value: Option<Self>) -> Result<(), Damaged> {
        self.open()?;
        let Some((leg, behind)) = legs.split_first() else {
            *self = value.ok_or(Damaged)?;
            return Ok(());
        };
        match (self, leg) {
            (Node::Object(members), Leg::Member(name)) => {
                let found = members.iter().position(|(key, _)| key == name);
                match (found, behind.is_empty(), value) {
                    (Some(at), false, value) => members[at].1.change(behind, insert, value),
                    (Some(at), true, Some(value)) => {
                        members[at].1 = value;
                        Ok(())
                    }
                    (Some(at), true, None) => {
                        members.remove(at);
                        Ok(())
                    }
                    (None, true, Some(value)) if insert => {
                        let at = members.partition_point(|(key, _)| (key.len(), key) < (name.len(), name));
                        members.insert(at, (name.clone(), value));
                        Ok(())
                    }
                    _ => Err(Damaged),
                }
            }
            (Node::Array(elements), Leg::Cell(at)) => match (behind.is_empty(), value) {
                (false, value) => elements.get_mut(*at).ok_or(Damaged)?.change(behind, insert, value),
                (true, Some(value)) if insert => {
                    elements.insert((*at).min(elements.len()), value);
                    Ok(())
                }
                (true, Some(value)) => {
                    *elements.get_mut(*at).ok_or(Damaged)? = value;
                    Ok(())
                }
                (true, None) if *at < elements.len() => {
                    elements.remove(*at);
                    Ok(())
                }
                (true, None) => Err(Damaged),
            },
            _ => Err(Damaged),
        }
    }

    /// Turns a container of the log into one that can be changed.
    fn open(&mut self) -> Result<(), Damaged> {
        let Node::Raw(raw) = *self else { return Ok(()) };
        if let Some(container) = raw.object()? {
            let members =
                (0..container.count).map(|i| Ok((container.key(i)?.to_vec(), Node::Raw(container.value(i)?))));
            *self = Node::Object(members.collect::<Result<_, Damaged>>()?);
        } else if let Some(container) = raw.array()? {
            let elements = (0..container.count).map(|i| Ok(Node::Raw(container.value(i)?)));
            *self = Node::Array(elements.collect::<Result<_, Damaged>>()?);
        }
        Ok(())
    }

    fn write(&self, depth: usize, spelling: Spelling, out: &mut Vec<u8>) -> Result<(), Damaged> {
        match self {
            Node::Raw(raw) => raw.write_at(depth, spelling, out)?,
            Node::Object(members) => {
                out.push(b'{');
                for (i, (key, value)) in members.iter().enumerate() {
                    separate(i, spelling, out);
                    write_string(key, out);
                    out.extend_from_slice(spelling.colon);
                    value.write(depth + 1, spelling, out)?;
                }
                out.push(b'}');
            }
            Node::Array(elements) => {
                out.push(b'[');
                for (i, value) in elements.iter().enumerate() {
                    separate(i, spelling, out);
                    value.write(depth + 1, spelling, out)?;
                }
                out.push(b']');
            }
        }
        Ok(())
    }
}

/// Takes a field that is preceded by its length.
fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (length, behind) = super::table_map::lenenc(rest).ok_or(Damaged)?;
    let (field, behind) = usize::try_from(length).ok().and_then(|n| behind.split_at_checked(n)).ok_or(Damaged)?;
    *rest = behind;
    Ok(field)
}

/// Reads `$.member."quoted member"[3]`; a `$` in front may be missing.
fn path(text: &[u8]) -> Result<Vec<Leg>, Damaged> {
    let mut rest = text.strip_prefix(b"$").unwrap_or(text);
    let mut legs = Vec::new();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'.' if rest.starts_with(b"\"") => {
                let end = quoted_end(rest).ok_or(Damaged)?;
                // The quoting of a member name is JSON's own.
                let name: String = serde_json::from_slice(&rest[..end]).map_err(|_| Damaged)?;
                legs.push(Leg::Member(name.into_bytes()));
                rest = &rest[end..];
            }
            b'.' => {
                let end = rest.iter().position(|b| matches!(b, b'.' | b'[')).unwrap_or(rest.len());
                legs.push(Leg::Member(rest[..end].to_vec()));
                rest = &rest[end..];
            }
            b'[' => {
                let end = rest.iter().position(|b| *b == b']').ok_or(Damaged)?;
                let digits = std::str::from_utf8(&rest[..end]).map_err(|_| Damaged)?;
                legs.push(Leg::Cell(digits.trim().parse().map_err(|_| Damaged)?));
                rest = &rest[end + 1..];
            }
            _ => return Err(Damaged),
        }
    }
    Ok(legs)
}

/// The end of a string that begins with a quote, behind its closing quote.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (i, byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}
