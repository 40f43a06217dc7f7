//! Where topics were read up to, as text.
//!
//! ```text
//! {"lanes":[{"topic":"shop","tables":[17,18],"at":{"0":[1042,1041,3735928559],"1":[0]}}]}
//! ```
//!
//! A *lane* is what tables of a topic have in common that were read up to the same messages: for each partition the offset that is
//! next, and the message that was read last, by its offset and a sum over it. By that one the topic is known again: one that was
//! made anew under the name has another message there. A table that is loaded while others of its topic are followed is in a lane of
//! its own. An end of topics, which somebody wants to be reached, is lanes without tables.

use std::collections::BTreeMap;

use relation::{Position, TableId};
use serde_json::{Value as Json, json};

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct At {
    /// The offset that is next.
    pub(super) next: i64,
    /// The message that was read last: its offset, and a sum over it.
    pub(super) last: Option<(i64, u32)>,
}

/// Tables of a topic that were read up to the same messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kept {
    pub(super) topic: String,
    pub(super) tables: Vec<TableId>,
    pub(super) at: BTreeMap<i32, At>,
}

/// Text that is no position in topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no position in topics of Kafka")]
pub(super) struct NoPosition(String);

/// Writes a position.
pub(super) fn write<'a>(lanes: impl Iterator<Item = &'a Kept>) -> Position {
    let at = |at: &At| match at.last {
        Some((last, sum)) => json!([at.next, last, sum]),
        None => json!([at.next]),
    };
    let lane = |lane: &Kept| {
        let ats: serde_json::Map<String, Json> = lane.at.iter().map(|(p, of)| (p.to_string(), at(of))).collect();
        let tables: Vec<u32> = lane.tables.iter().map(|table| table.0).collect();
        json!({"topic": lane.topic, "tables": tables, "at": ats})
    };
    let lanes: Vec<Json> = lanes.map(lane).collect();
    Position(json!({ "lanes": lanes }).to_string())
}

/// The reverse of [`write()`].
pub(super) fn read(position: &Position) -> Result<Vec<Kept>, NoPosition> {
    parsed(&position.0).ok_or_else(|| NoPosition(super::value::shown(&position.0)))
}

fn parsed(text: &str) -> Option<Vec<Kept>> {
    let json: Json = serde_json::from_str(text).ok()?;
    json.get("lanes")?.as_array()?.iter().map(lane).collect()
}

fn lane(json: &Json) -> Option<Kept> {
    let table = |id: &Json| Some(TableId(u32::try_from(id.as_u64()?).ok()?));
    let tables: Option<Vec<TableId>> = json.get("tables")?.as_array()?.iter().map(table).collect();
    let at = |(partition, at): (&String, &Json)| {
        let number = |i: usize| at.get(i).and_then(Json::as_i64).filter(|n| *n >= 0);
        let last = match (number(1), at.get(2)) {
            (Some(offset), Some(sum)) => Some((offset, u32::try_from(sum.as_u64()?).ok()?)),
            _ => None,
        };
        Some((partition.parse().ok()?, At { next: number(0)?, last }))
    };
    let ats: Option<BTreeMap<i32, At>> = json.get("at")?.as_object()?.iter().map(at).collect();
    Some(Kept { topic: json.get("topic")?.as_str()?.to_owned(), tables: tables?, at: ats? })
}

/// Whether a position has seen all that another has: each of its lanes all of the lanes of that topic there. Topics of which nobody
/// reads any more do not matter.
pub(super) fn reached(current: &Position, target: &Position) -> Result<bool, NoPosition> {
    let (current, target) = (read(current)?, read(target)?);
    let is_reached = |wanted: &Kept, lane: &Kept| {
        let is_there = |(partition, wanted): (&i32, &At)| lane.at.get(partition).map_or(0, |at| at.next) >= wanted.next;
        // A lane of tables is compared with what these were read up to.
        let is_asked = wanted.tables.is_empty() || wanted.tables.iter().any(|table| lane.tables.contains(table));
        !is_asked || wanted.at.iter().all(is_there)
    };
    let of_topic =
        |wanted: &Kept| current.iter().filter(|lane| lane.topic == wanted.topic).all(|lane| is_reached(wanted, lane));
    Ok(target.iter().all(of_topic))
}
