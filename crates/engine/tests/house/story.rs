//! Stories: what comes about in a house, and how it is written down in a case file.
//!
//! ```text
//! table [loading]       a table definition; `loading`: it loads by the story's own chunks. Of one whose name ends in `_by_key` rows come
//!                       and leave by their keys: what was there is not told, and of one that leaves its key alone
//! model NAME            its SQL
//! rows                  rows that tables hold when they are loaded: `+ table values`
//! step                  what one step takes, in lines:
//!     + table values        a row comes            - table values     a row leaves
//!     truncate table        the table is emptied: of this batch, what comes behind it counts
//!     batch                 a further batch of the same step begins
//!     chunk table           a chunk of the table's load ends the batch; its rows: `* table values` right before
//!     loaded table          the same, the last one
//!     reload table          the table's content is in doubt from here on; what comes behind it is of another batch
//!     sweep table           a portion of the table is swept: two entries     swept table   until there is nothing to sweep
//!     park table            the table is not followed any more
//!     +? table [key]        a row comes that could not be read, of this key; of a table without one, what it is known by
//!     -? table [key]        one goes                     *? table [key]   one is in a chunk of the table's load
//!     part, last part       the batch so far is a part of a transaction
//! chain                 one transaction that comes in parts, of lines as those of a step; `part` begins the next part
//! altered            a table definition: the table has other columns from here on, and is loaded anew by the story's chunks
//! propose            what models are told of by now is proposed: a model told of again in its new words. Put in place when ready
//! rollback              what served before serves again, if there is anything
//! outbox, deliver, portion, tell   what is delivered, and becomes of it ([`super::delivery`])
//! fold                  everything is folded
//! restart [folded]      the engine is dropped and opened again; tables and models told of since the last one come in
//! ```

use relation::Schema;
use testkit::Block;

use super::delivery::Fate;

/// A row that comes (+1) or leaves (−1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) table: String,
    pub(crate) values: Vec<String>,
    pub(crate) weight: i8,
}

/// A part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Row(Change),
    Truncate(String),
    /// Chunks stand at the end of a batch.
    Chunk {
        table: String,
        rows: Vec<Vec<String>>,
        /// Keys of those that could not be read.
        unread: Vec<Vec<String>>,
        complete: bool,
    },
    Reload(String),
    Sweep {
        table: String,
        whole: bool,
    },
    Park(String),
    /// A row that could not be read, with its key's values: it comes (+1) or goes (−1).
    Unread {
        table: String,
        key: Vec<String>,
        weight: i8,
    },
    /// Ends a batch that is a part of a transaction.
    Part {
        is_last: bool,
    },
}

impl Piece {
    /// The table that it is about.
    pub(crate) fn table(&self) -> Option<&str> {
        match self {
            Self::Row(change) => Some(&change.table),
            Self::Truncate(table) | Self::Chunk { table, .. } | Self::Reload(table) | Self::Park(table) => Some(table),
            Self::Sweep { table, .. } | Self::Unread { table, .. } => Some(table),
            Self::Part { .. } => None,
        }
    }
}

/// What a source hands over at once: whole transactions, then chunks.
pub(crate) type Batch = Vec<Piece>;

/// One act of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Table {
        name: String,
        schema: Schema,
        loading: bool,
    },
    Model {
        name: String,
        sql: String,
    },
    Load(Vec<Change>),
    Altered {
        name: String,
        schema: Schema,
    },
    Propose,
    Rollback,
    Step(Vec<Batch>),
    /// The parts of one transaction: rows and truncations.
    Chain(Vec<Batch>),
    Outbox {
        name: String,
        /// The relation, columns, and `mapping=`, `bound=`.
        words: Vec<String>,
    },
    Deliver {
        name: String,
        rows: usize,
    },
    Portion {
        name: String,
        rows: usize,
        fate: Fate,
    },
    Tell {
        name: String,
        word: String,
    },
    Fold,
    Restart {
        folded: bool,
    },
}

impl Act {
    /// The act that a block of a case file tells; none where the block asks for something.
    pub(crate) fn of(block: &Block) -> Result<Option<Self>, String> {
        let argument = block.arguments.first().map(String::as_str);
        Ok(Some(match block.directive.as_str() {
            "table" => {
                let (name, schema) = plan::parse_table_definition(&block.body)?;
                Self::Table { name: name.name, schema, loading: argument == Some("loading") }
            }
            "model" => Self::Model { name: argument.ok_or("a model has a name")?.to_owned(), sql: block.body.clone() },
            "rows" => Self::Load(block.body.lines().map(change).collect::<Result<_, _>>()?),
            "step" => Self::Step(batches(&block.body, "batch")?),
            "chain" => Self::Chain(batches(&block.body, "part")?),
            "altered" => {
                let (name, schema) = plan::parse_table_definition(&block.body)?;
                Self::Altered { name: name.name, schema }
            }
            "propose" => Self::Propose,
            "rollback" => Self::Rollback,
            "outbox" => Self::Outbox {
                name: argument.ok_or("an outbox has a name")?.to_owned(),
                words: block.arguments[1..].to_vec(),
            },
            "deliver" | "portion" | "tell" => Self::of_delivery(block)?,
            "fold" => Self::Fold,
            "restart" => Self::Restart { folded: argument == Some("folded") },
            _ => return Ok(None),
        }))
    }

    fn of_delivery(block: &Block) -> Result<Self, String> {
        let (name, words) = block.arguments.split_first().ok_or("it names its outbox")?;
        let name = name.clone();
        if block.directive == "tell" {
            return Ok(Self::Tell { name, word: words.first().ok_or("an outbox is told something")?.clone() });
        }
        let (mut rows, mut fate) = (ROWS_EACH, Fate::Done);
        for word in words {
            match word.strip_prefix("rows=") {
                Some(number) => rows = number.parse().map_err(|_| format!("no number: {number}"))?,
                None => fate = Fate::of(word)?,
            }
        }
        Ok(if block.directive == "deliver" { Self::Deliver { name, rows } } else { Self::Portion { name, rows, fate } })
    }

    /// The block of a case file that tells it, without an answer.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Table { name, schema, loading } => {
                format!("table{}\n{name}({schema})\n", if *loading { " loading" } else { "" })
            }
            Self::Model { name, sql } => format!("model {name}\n{sql}\n"),
            Self::Load(rows) => {
                let lines: Vec<String> = rows.iter().map(|row| format!("{}\n", change_text(row))).collect();
                format!("rows\n{}", lines.concat())
            }
            Self::Step(batches) => format!("step\n{}", batches_text(batches, "batch")),
            Self::Chain(parts) => format!("chain\n{}", batches_text(parts, "part")),
            Self::Altered { name, schema } => format!("altered\n{name}({schema})\n"),
            Self::Propose => "propose\n".to_owned(),
            Self::Rollback => "rollback\n".to_owned(),
            Self::Outbox { name, words } => format!("outbox {name} {}\n", words.join(" ")),
            Self::Deliver { name, rows } => format!("deliver {name} rows={rows}\n"),
            Self::Portion { name, rows, fate } => format!("portion {name} rows={rows} {}\n", fate.text()),
            Self::Tell { name, word } => format!("tell {name} {word}\n"),
            Self::Fold => "fold\n".to_owned(),
            Self::Restart { folded } => format!("restart{}\n", if *folded { " folded" } else { "" }),
        }
    }
}

/// Items of a portion where nothing else is said.
const ROWS_EACH: usize = 100;

fn change_text(change: &Change) -> String {
    let sign = if change.weight > 0 { '+' } else { '-' };
    format!("{sign} {} {}", change.table, words_text(change.values.iter().cloned()))
}

fn batches_text(batches: &[Batch], next: &str) -> String {
    let mut out = String::new();
    for (i, batch) in batches.iter().enumerate() {
        if i > 0 {
            out.push_str(&format!("{next}\n"));
        }
        for piece in batch {
            match piece {
                Piece::Row(change) => out.push_str(&format!("{}\n", change_text(change))),
                Piece::Truncate(table) => out.push_str(&format!("truncate {table}\n")),
                Piece::Chunk { table, rows, unread, complete } => {
                    for row in rows {
                        out.push_str(&format!("* {table} {}\n", words_text(row.iter().cloned())));
                    }
                    for key in unread {
                        out.push_str(format!("*? {table} {}", words_text(key.iter().cloned())).trim_end());
                        out.push('\n');
                    }
                    out.push_str(&format!("{} {table}\n", if *complete { "loaded" } else { "chunk" }));
                }
                Piece::Reload(table) => out.push_str(&format!("reload {table}\n")),
                Piece::Sweep { table, whole } => {
                    out.push_str(&format!("{} {table}\n", if *whole { "swept" } else { "sweep" }));
                }
                Piece::Park(table) => out.push_str(&format!("park {table}\n")),
                Piece::Unread { table, key, weight } => {
                    let sign = if *weight > 0 { "+?" } else { "-?" };
                    out.push_str(format!("{sign} {table} {}", words_text(key.iter().cloned())).trim_end());
                    out.push('\n');
                }
                Piece::Part { is_last } => out.push_str(if *is_last { "last part\n" } else { "part\n" }),
            }
        }
    }
    out
}

fn batches(body: &str, next: &str) -> Result<Vec<Batch>, String> {
    let mut batches = vec![Batch::new()];
    let (mut chunk_rows, mut chunk_unread) = (Vec::new(), Vec::new());
    for line in body.lines() {
        let mut words = words(line).into_iter();
        let first = words.next().unwrap_or_default();
        let last = batches.len() - 1;
        match first.as_str() {
            word if word == next => batches.push(Batch::new()),
            "truncate" => batches[last].push(Piece::Truncate(words.next().ok_or("truncate names its table")?)),
            "reload" => batches[last].push(Piece::Reload(words.next().ok_or("reload names its table")?)),
            "park" => batches[last].push(Piece::Park(words.next().ok_or("park names its table")?)),
            "sweep" | "swept" => {
                let table = words.next().ok_or("a sweep names its table")?;
                batches[last].push(Piece::Sweep { table, whole: first == "swept" });
            }
            "+?" | "-?" => {
                let table = words.next().ok_or("a row that could not be read names its table")?;
                let weight = if first == "+?" { 1 } else { -1 };
                batches[last].push(Piece::Unread { table, key: words.collect(), weight });
            }
            "*?" => chunk_unread.push(words.skip(1).collect()),
            "part" | "last" => {
                batches[last].push(Piece::Part { is_last: first == "last" });
                batches.push(Batch::new());
            }
            "*" => chunk_rows.push(words.skip(1).collect()),
            "chunk" | "loaded" => batches[last].push(Piece::Chunk {
                table: words.next().ok_or("a chunk names its table")?,
                rows: std::mem::take(&mut chunk_rows),
                unread: std::mem::take(&mut chunk_unread),
                complete: first == "loaded",
            }),
            _ => batches[last].push(Piece::Row(change(line)?)),
        }
    }
    batches.retain(|batch| !batch.is_empty());
    Ok(batches)
}

/// `+ table v v v` and `- table v v v`; a value with spaces stands in single quotes.
fn change(line: &str) -> Result<Change, String> {
    let mut words = words(line).into_iter();
    let weight = match words.next().as_deref() {
        Some("+") => 1,
        Some("-") => -1,
        other => return Err(format!("a change begins with + or -, not {other:?}")),
    };
    let table = words.next().ok_or("a change names its table")?;
    Ok(Change { table, values: words.collect(), weight })
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    words
}

/// Words in a line, those that are empty or have spaces in single quotes.
pub(crate) fn words_text(words: impl Iterator<Item = String>) -> String {
    let quoted = words.map(|word| if word.is_empty() || word.contains(' ') { format!("'{word}'") } else { word });
    quoted.collect::<Vec<_>>().join(" ")
}

/// All steps as one, as far as nothing stands between them. Rows alone are one batch; what a truncation or a chunk is in
/// stays a batch of its own.
pub(crate) fn in_one_step(acts: &[Act]) -> Vec<Act> {
    let mut out: Vec<Act> = Vec::new();
    let only_rows = |batch: &Batch| batch.iter().all(|piece| matches!(piece, Piece::Row(_) | Piece::Unread { .. }));
    let acts = acts.iter().map(|act| match act {
        Act::Chain(parts) => Act::Step(vec![parts.concat()]),
        other => other.clone(),
    });
    for act in acts {
        let (Some(Act::Step(before)), Act::Step(batches)) = (out.last_mut(), &act) else {
            out.push(act);
            continue;
        };
        for batch in batches {
            match before.last_mut() {
                Some(last) if only_rows(last) && only_rows(batch) => last.extend(batch.iter().cloned()),
                _ => before.push(batch.clone()),
            }
        }
    }
    out
}

/// Every change, truncation and chunk as a step of its own; parts of a transaction stay what they are.
pub(crate) fn piece_by_piece(acts: &[Act]) -> Vec<Act> {
    let is_part = |batch: &Batch| matches!(batch.last(), Some(Piece::Part { .. }));
    let apart = |batch: &Batch| match is_part(batch) {
        true => vec![Act::Step(vec![batch.clone()])],
        false => batch.iter().map(|piece| Act::Step(vec![vec![piece.clone()]])).collect(),
    };
    let pieces = acts.iter().flat_map(|act| match act {
        Act::Step(batches) | Act::Chain(batches) => batches.iter().flat_map(apart).collect(),
        other => vec![other.clone()],
    });
    pieces.collect()
}

/// A batch of rows and truncations in the smallest parts that a source sends: an update is not cut in two.
pub(crate) fn in_parts(batch: &Batch) -> Vec<Batch> {
    let mut parts: Vec<Batch> = Vec::new();
    for piece in batch {
        let follows = match (parts.last().and_then(|part| part.last()), piece) {
            (Some(Piece::Row(before)), Piece::Row(after)) => {
                before.weight < 0 && after.weight > 0 && before.table == after.table
            }
            (Some(Piece::Row(before)), Piece::Unread { table, weight, .. }) => {
                before.weight < 0 && *weight > 0 && before.table == *table
            }
            (Some(Piece::Unread { table, weight, .. }), Piece::Row(after)) => {
                *weight < 0 && after.weight > 0 && after.table == *table
            }
            _ => false,
        };
        match parts.last_mut() {
            Some(part) if follows => part.push(piece.clone()),
            _ => parts.push(vec![piece.clone()]),
        }
    }
    parts
}
