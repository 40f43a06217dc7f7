//! What rows become: the words of `to`, and the commands that make a row of them.

use relation::DataType;

use crate::destination::cells::Cells;
use crate::destination::kind::At;
use crate::destination::text::{push_json_column, push_json_text};
use crate::destination::{Field, Item, Mapping, Problem, Refusal, Target};

/// The keys of `to`.
pub(super) const KEYS: [&str; 5] = ["key", "as", "expire", "member", "score"];

/// What a row becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    key: Template,
    kind: Kind,
    /// Milliseconds after which a key goes by itself.
    expire_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// A hash with a field for each column; NULL is no field.
    Hash,
    /// A text that is a JSON document.
    Json,
    Set(Template),
    /// A member, and which of the fields is its score.
    Sorted(Template, usize),
}

/// A text with values of the key in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A column of the relation's key, by its place in it.
    Key(usize),
}

impl Template {
    /// Reads `user:{user_id}`. Only what identifies a row may stand in it: of a row that is gone nothing else is known.
    fn parse(text: &str, at: &str, mapping: &Mapping) -> Result<Self, Problem> {
        let problem = |message: String| Problem::new(At::To(at.to_owned()), message);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, after)) = behind.split_once('}') else {
                return Err(problem(format!("a `{{` of `{at}` is not closed")));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            } else if matches!(parts.last(), Some(Part::Key(_))) {
                let message = format!("two values of `{at}` touch each other");
                return Err(problem(message).hint("Put something between them: `{a}:{b}`."));
            }
            let Some(key) = mapping.key_fields().position(|field| field.column == name) else {
                let known: Vec<&str> = mapping.key_fields().map(|field| field.column.as_str()).collect();
                let message = format!("`{name}` of `{at}` is no column that identifies a row");
                return Err(problem(message).hint(format!("These do: {}.", known.join(", "))));
            };
            parts.push(Part::Key(key));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err(problem(format!("`{at}` is empty")));
        }
        Ok(Self(parts))
    }

    fn has(&self, key: usize) -> bool {
        self.0.contains(&Part::Key(key))
    }

    /// The text for a row.
    fn fill(&self, cells: &Cells, item: usize, place: impl Fn(usize) -> usize) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                // None is NULL: such rows are refused before.
                Part::Key(key) => out.extend_from_slice(cells.get(item, place(*key)).unwrap_or_default()),
            }
        }
        out
    }
}

/// `30s`, `15m`, `12h`, `7d` in milliseconds.
fn expire(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(seconds * 1_000)
}

impl Form {
    /// What a target says. Errors: all problems.
    pub(super) fn of(target: &Target) -> Result<Self, Vec<Problem>> {
        let mut found = Vec::new();
        let mut template = |at: &str| {
            let Some(text) = target.text(at) else {
                found.push(Problem::new(At::To(at.to_owned()), format!("`to` names no `{at}`")));
                return None;
            };
            Template::parse(text, at, &target.mapping).map_err(|problem| found.push(problem)).ok()
        };
        let word = target.text("as").unwrap_or("hash");
        let is_member = matches!(word, "set" | "zset");
        let key = template("key");
        let member = if is_member { template("member") } else { None };
        let score = (word == "zset").then(|| score(target));
        let kind = match (word, member) {
            ("hash", _) => Some(Kind::Hash),
            ("json", _) => Some(Kind::Json),
            ("set", Some(member)) => Some(Kind::Set(member)),
            ("zset", Some(member)) => match score {
                Some(Ok(score)) => Some(Kind::Sorted(member, score)),
                Some(Err(problem)) => {
                    found.push(problem);
                    None
                }
                None => None,
            },
            ("set" | "zset", None) => None,
            (unknown, _) => {
                let message = format!("unknown `as`: `{unknown}`");
                found.push(Problem::new(At::To("as".to_owned()), message).hint("One of: hash, json, set, zset."));
                None
            }
        };
        for (key, words) in [("member", &["set", "zset"][..]), ("score", &["zset"][..])] {
            if target.to.contains_key(key) && !words.contains(&word) {
                let message = format!("`{key}` has no meaning with `as: {word}`");
                found.push(Problem::new(At::To(key.to_owned()), message));
            }
        }
        let text = target.text("expire");
        let expire_ms = text.and_then(expire);
        if let (Some(text), None) = (text, expire_ms) {
            let message = format!("`expire` should be a time such as 7d, not `{text}`");
            found.push(Problem::new(At::To("expire".to_owned()), message).hint("Units: s, m, h, d."));
        }
        if let (Some(key), Some(kind)) = (&key, &kind) {
            found.extend(untold(key, kind, &target.mapping));
        }
        match (key, kind) {
            (Some(key), Some(kind)) if found.is_empty() => Ok(Self { key, kind, expire_ms }),
            _ => Err(found),
        }
    }

    /// The commands for an item, each with its arguments. Errors: there are none for it.
    pub(super) fn commands(
        &self,
        mapping: &Mapping,
        cells: &Cells,
        item: usize,
        of: Item<'_>,
    ) -> Result<Vec<Vec<Vec<u8>>>, Refusal> {
        let place = |key: usize| match of {
            Item::Upsert(_) => mapping.key()[key],
            Item::Delete(_) => key,
        };
        let key = self.key.fill(cells, item, place);
        let member = |template: &Template| template.fill(cells, item, place);
        let word = |word: &str| word.as_bytes().to_vec();
        let mut commands = match (of, &self.kind) {
            (Item::Upsert(_), Kind::Hash) => vec![hash(mapping, cells, item, &key)],
            (Item::Upsert(row), Kind::Json) => {
                let mut command = vec![word("SET"), key, document(mapping, row)];
                if let Some(ms) = self.expire_ms {
                    command.extend([word("PX"), word(&ms.to_string())]);
                }
                return Ok(vec![command]);
            }
            (Item::Upsert(_), Kind::Set(template)) => vec![vec![word("SADD"), key.clone(), member(template)]],
            (Item::Upsert(_), Kind::Sorted(template, score)) => {
                let score = cells.get(item, *score).filter(|score| *score != b"NaN");
                let score = score.ok_or_else(|| Refusal::new("no_score", "its score is NULL or no number"))?;
                // Its word for it is shorter.
                let score = match score {
                    b"Infinity" => b"+inf".to_vec(),
                    b"-Infinity" => b"-inf".to_vec(),
                    score => score.to_vec(),
                };
                vec![vec![word("ZADD"), key.clone(), score, member(template)]]
            }
            (Item::Delete(_), Kind::Hash) => return Ok(vec![vec![word("REMOVE"), key]]),
            (Item::Delete(_), Kind::Json) => return Ok(vec![vec![word("UNLINK"), key]]),
            (Item::Delete(_), Kind::Set(template)) => return Ok(vec![vec![word("SREM"), key, member(template)]]),
            (Item::Delete(_), Kind::Sorted(template, _)) => {
                return Ok(vec![vec![word("ZREM"), key, member(template)]]);
            }
        };
        if let Some(ms) = self.expire_ms {
            commands.push(vec![word("PEXPIRE"), key, word(&ms.to_string())]);
        }
        Ok(commands)
    }
}

/// The command that makes a hash of what is not NULL; what identifies a row never is.
fn hash(mapping: &Mapping, cells: &Cells, item: usize, key: &[u8]) -> Vec<Vec<u8>> {
    let mut command = vec![b"REPLACE".to_vec(), key.to_vec()];
    for (i, field) in mapping.fields().iter().enumerate() {
        if let Some(value) = cells.get(item, i) {
            command.extend([field.target.as_bytes().to_vec(), value.to_vec()]);
        }
    }
    command
}

/// A row as a JSON document.
fn document(mapping: &Mapping, row: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(row.len() * 2);
    for (i, Field { target, at, .. }) in mapping.fields().iter().enumerate() {
        out.push(if i == 0 { b'{' } else { b',' });
        push_json_text(&mut out, target);
        out.push(b':');
        push_json_column(&mut out, mapping.layout(), row, *at);
    }
    out.push(b'}');
    out
}

/// Columns of the key that stand nowhere: rows that differ in them alone would be one.
fn untold(key: &Template, kind: &Kind, mapping: &Mapping) -> Option<Problem> {
    let (member, words, them) = match kind {
        Kind::Hash | Kind::Json => (None, "`key` does", "it"),
        Kind::Set(member) | Kind::Sorted(member, _) => (Some(member), "`key` and `member` do", "them"),
    };
    let is_told = |at: usize| key.has(at) || member.is_some_and(|member| member.has(at));
    let fields = mapping.key_fields().enumerate();
    let lacking: Vec<&str> = fields.filter(|(at, _)| !is_told(*at)).map(|(_, field)| field.column.as_str()).collect();
    (!lacking.is_empty()).then(|| {
        Problem::new(At::To("key".to_owned()), format!("{words} not tell all rows apart"))
            .detail(format!("What identifies a row and is not in {them}: {}.", lacking.join(", ")))
            .hint(format!("Write it as {{{}}}.", lacking[0]))
    })
}

/// The field that is the score.
fn score(target: &Target) -> Result<usize, Problem> {
    let problem = |message: String| Problem::new(At::To("score".to_owned()), message);
    let Some(name) = target.text("score") else {
        return Err(problem("`to` names no `score`".to_owned()).hint("Name a column with numbers."));
    };
    let fields = target.mapping.fields();
    let Some(at) = fields.iter().position(|field| field.column == name) else {
        return Err(problem(format!("there is no column `{name}` among what is delivered")));
    };
    let is_number = matches!(
        fields[at].data_type,
        DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Decimal { .. }
    );
    match is_number {
        true => Ok(at),
        false => Err(problem(format!("`{name}` is no number but of type {}", fields[at].data_type))),
    }
}

/// `user:{}` of `user:{id}`.
pub(super) fn pattern(text: &str) -> String {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |made, part| made + "{}" + part.split_once('}').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use relation::{Column, Schema, Value};
    use serde_json::Value as Json;

    use crate::destination::Portion;
    use crate::destination::text::Words;

    use super::*;

    fn target(to: &[(&str, &str)]) -> Target {
        let columns = vec![
            Column::new("day", DataType::Date),
            Column::new("user_id", DataType::Int64),
            Column::new("name", DataType::Text),
            Column::new("total", DataType::Decimal { precision: 10, scale: 2 }),
        ];
        let mapping = Mapping::of(&Schema::new(columns, vec![1, 0]), &[], None).expect("a mapping");
        let to: BTreeMap<String, Json> = to.iter().map(|(k, v)| ((*k).to_owned(), Json::from(*v))).collect();
        Target { sync: "s".to_owned(), to, mapping, deletes: true }
    }

    fn commands(to: &[(&str, &str)]) -> Vec<String> {
        let target = target(to);
        let form = Form::of(&target).expect("a form");
        let mapping = &target.mapping;
        let mut rows = relation::Rows::new();
        let day = Value::parse(DataType::Date, "2026-03-01").expect("a date");
        let row = [day.clone(), Value::Int(7), Value::Null, Value::Decimal(1_250, 2)];
        rows.push_values(mapping.layout(), &row).expect("a row");
        let mut portion = Portion::new(1);
        portion.upsert(rows.get(0));
        let mut keys = relation::Rows::new();
        keys.push_values(mapping.key_layout(), &[Value::Int(7), day]).expect("a key");
        portion.delete(keys.get(0));
        let (cells, known) = Cells::of(&portion, mapping, Words::Redis);
        assert_eq!(known, [None, None]);
        let shown = |command: Vec<Vec<u8>>| -> String {
            let words: Vec<String> = command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            words.join(" ")
        };
        let of = |item: usize| form.commands(mapping, &cells, item, portion.get(item)).expect("commands");
        (0..2).flat_map(of).map(shown).collect()
    }

    #[test]
    fn a_row_becomes_commands() {
        let key = ("key", "u:{user_id}:{day}");
        assert_eq!(
            commands(&[key, ("expire", "1h")]),
            [
                "REPLACE u:7:2026-03-01 user_id 7 day 2026-03-01 total 12.50",
                "PEXPIRE u:7:2026-03-01 3600000",
                "REMOVE u:7:2026-03-01"
            ]
        );
        assert_eq!(
            commands(&[key, ("as", "json"), ("expire", "30s")]),
            [
                "SET u:7:2026-03-01 {\"user_id\":7,\"day\":\"2026-03-01\",\"name\":null,\"total\":12.50} PX 30000",
                "UNLINK u:7:2026-03-01"
            ]
        );
        let of_day = ("key", "top:{day}");
        assert_eq!(
            commands(&[of_day, ("as", "set"), ("member", "{user_id}")]),
            ["SADD top:2026-03-01 7", "SREM top:2026-03-01 7"]
        );
        assert_eq!(
            commands(&[of_day, ("as", "zset"), ("member", "{user_id}"), ("score", "total")]),
            ["ZADD top:2026-03-01 12.50 7", "ZREM top:2026-03-01 7"]
        );
    }

    #[test]
    fn every_mistake_is_told() {
        let told = |to: &[(&str, &str)]| -> Vec<String> {
            let problems = Form::of(&target(to)).expect_err("problems");
            problems.into_iter().map(|problem| format!("{:?}: {}", problem.at, problem.message)).collect()
        };
        assert_eq!(told(&[]), ["To(\"key\"): `to` names no `key`"]);
        assert_eq!(told(&[("key", "u:{user_id}")]), ["To(\"key\"): `key` does not tell all rows apart"]);
        assert_eq!(told(&[("key", "{user_id}{day}")]), ["To(\"key\"): two values of `key` touch each other"]);
        assert_eq!(told(&[("key", "{name}")]), ["To(\"key\"): `name` of `key` is no column that identifies a row"]);
        assert_eq!(told(&[("key", "{user_id}:{day")]), ["To(\"key\"): a `{` of `key` is not closed"]);
        let key = ("key", "{user_id}:{day}");
        assert_eq!(told(&[key, ("as", "list")]), ["To(\"as\"): unknown `as`: `list`"]);
        assert_eq!(told(&[key, ("as", "set")]), ["To(\"member\"): `to` names no `member`"]);
        assert_eq!(told(&[key, ("member", "x")]), ["To(\"member\"): `member` has no meaning with `as: hash`"]);
        assert_eq!(
            told(&[key, ("expire", "week")]),
            ["To(\"expire\"): `expire` should be a time such as 7d, not `week`"]
        );
        let sorted = [key, ("as", "zset"), ("member", "{day}")];
        assert_eq!(told(&sorted), ["To(\"score\"): `to` names no `score`"]);
        let by = |score| [sorted[0], sorted[1], sorted[2], ("score", score)];
        assert_eq!(told(&by("name")), ["To(\"score\"): `name` is no number but of type text"]);
        assert_eq!(told(&by("x")), ["To(\"score\"): there is no column `x` among what is delivered"]);
    }
}
