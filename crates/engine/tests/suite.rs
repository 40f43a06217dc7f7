//! Engine cases: tables, models and steps as text; every case runs in several executions that must agree.
//!
//! The acts of a case stand in [`house::story`]; beside them it may ask:
//!
//! ```text
//! step, chain           answers with what changed in each model
//! show NAME             the model's rows
//! state                 what each model is doing
//! load                  how far each table is, with the incarnations that are coming
//! kept                  rows of a table as they are stored, and as many as are counted
//! rejects               what the models could not take
//! reject_keys           by which keys it is known
//! deliver, portion      answers with what was sent ([`house::delivery`])
//! target, delivered, refused   of an outbox
//! ```
//!
//! Executions: as written (each step's answer is compared with the file), then without answers: all in one step, change
//! by change, shuffled within what order allows, with two workers, with a restart after every step, and with the models
//! built after all steps, in large portions and row by row, and built beside the steps, a part of a build
//! with every step or with every third; and with every transaction in the smallest parts, so that it is a chain of steps:
//! alone, with builds beside it, and with restarts within. After each, every model equals the batch engine's answer over
//! the tables, and all executions end with the same rows and rejects.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::collections::BTreeMap;
use std::path::Path;

use engine::Load;
use house::story::{self, Act, Batch, Change, Piece};
use house::{Contents, Host, House, Mode, difference};
use testkit::{Block, Driver};

fn main() {
    testkit::run(env!("CARGO_MANIFEST_DIR"), "tests/cases", |_: &Path| Case::default())
}

#[derive(Default)]
struct Case {
    acts: Vec<Act>,
    host: Option<Host>,
    live: Option<House>,
    /// Acts that the live house has played.
    played: usize,
}

impl Driver for Case {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        if let Some(act) = Act::of(block)? {
            let is_told_only = matches!(act, Act::Table { .. } | Act::Model { .. } | Act::Load(_));
            let is_step = matches!(act, Act::Step(_) | Act::Chain(_) | Act::Propose);
            if is_told_only {
                self.acts.push(act);
                return Ok(String::new());
            }
            if let Act::Deliver { name, rows } = &act {
                let lines = self.house()?.deliver(name, *rows)?;
                return self.sent(act, &lines);
            }
            if let Act::Portion { name, rows, fate } = &act {
                let lines = self.house()?.portion(name, *rows, fate)?;
                return self.sent(act, &lines);
            }
            let before = self.house()?.contents()?;
            self.acts.push(act);
            let house = self.house()?;
            house.check()?;
            return Ok(if is_step { difference(&before, &house.contents()?) } else { String::new() });
        }
        match block.directive.as_str() {
            "show" => {
                let name = block.arguments[0].clone();
                Ok(self.house()?.model_rows(&name)?.join("\n"))
            }
            "load" => {
                let house = self.house()?;
                let tables = house.engine().tables().map(told).collect::<Vec<_>>();
                let coming = house.engine().tables_to_come().filter(|table| table.is_coming).map(told);
                Ok(tables.into_iter().chain(coming.map(|told| format!("coming {told}"))).collect::<Vec<_>>().join("\n"))
            }
            "state" => {
                let house = self.house()?;
                let models = house.engine().models();
                Ok(models.iter().map(|m| format!("{} {:?}", m.name.name, m.state)).collect::<Vec<_>>().join("\n"))
            }
            "kept" => {
                let name = &block.arguments[0];
                let contents = self.house()?.table_contents()?;
                Ok(contents.get(name).ok_or_else(|| format!("no table {name}"))?.join("\n"))
            }
            "target" => {
                let delivery = self.house()?.delivery(&block.arguments[0])?;
                Ok(delivery.target.values().cloned().collect::<Vec<_>>().join("\n"))
            }
            "delivered" => {
                let name = &block.arguments[0];
                self.house()?.delivered(name)
            }
            "refused" => {
                let name = &block.arguments[0];
                self.house()?.refused(name)
            }
            "leaving" => {
                let name = &block.arguments[0];
                self.house()?.leaving(name)
            }
            "rejects" => Ok(rejects(self.house()?)?.join("\n")),
            "reject_keys" => Ok(reject_keys(self.house()?)?.join("\n")),
            other => Err(format!("unknown directive {other}")),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        self.house()?.finish_sweeps()?;
        self.house()?.check_all_delivered()?;
        let mut wanted = self.house()?.contents()?;
        wanted.insert(REJECTS.to_owned(), rejects(self.house()?)?);
        self.live = None;
        let acts = &self.acts;
        let parts = Mode { parts: true, emptied_rows_max: 1, ..Mode::default() };
        let executions: [(&str, Vec<Act>, Mode); 12] = [
            ("in one step", story::in_one_step(acts), Mode::default()),
            ("change by change", story::piece_by_piece(acts), Mode::default()),
            ("built beside the steps", story::piece_by_piece(acts), Mode { beside: 1, ..Mode::default() }),
            ("built slowly beside them", story::piece_by_piece(acts), Mode { beside: 3, ..Mode::default() }),
            ("shuffled", acts.iter().map(shuffled).collect(), Mode::default()),
            ("with two workers", acts.clone(), Mode { workers: 2, ..Mode::default() }),
            ("with a restart after every step", acts.clone(), Mode { restart: true, ..Mode::default() }),
            ("built after all steps", acts.clone(), Mode { build_last: true, ..Mode::default() }),
            ("built row by row", acts.clone(), Mode { build_last: true, in_rows: true, ..Mode::default() }),
            ("in parts", acts.clone(), parts),
            ("in parts, built beside the steps", acts.clone(), Mode { beside: 1, ..parts }),
            ("in parts, with restarts within", acts.clone(), Mode { killed: true, ..parts }),
        ];
        for (name, acts, mode) in executions {
            self.execute(&acts, mode, &wanted).map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }
}

impl Case {
    /// The house in which the case is played as it is written, begun and up to date.
    fn house(&mut self) -> Result<&mut House, String> {
        if self.live.is_none() {
            let host = Host::new()?;
            self.live = Some(House::new(&host, Mode::default())?);
            self.host = Some(host);
        }
        let house = self.live.as_mut().unwrap();
        for act in &self.acts[self.played..] {
            house.act(act)?;
            self.played += 1;
        }
        house.begun()?;
        Ok(house)
    }

    /// An act that has been played by asking what it answers.
    fn sent(&mut self, act: Act, lines: &[String]) -> Result<String, String> {
        self.acts.push(act);
        self.played += 1;
        Ok(lines.join("\n"))
    }

    fn execute(&self, acts: &[Act], mode: Mode, wanted: &Contents) -> Result<(), String> {
        let host = self.host.as_ref().ok_or("no house was begun")?;
        let mut house = House::new(host, mode)?;
        let mut steps = 0;
        for act in acts {
            if matches!(act, Act::Rollback) {
                // What is taken back is in place where the case is played as it is written.
                house.begun()?;
                house.finish_builds()?;
            }
            house.act(act)?;
            if mode.restart && matches!(act, Act::Step(_) | Act::Chain(_)) && !house.is_in_parts() {
                // Every second restart comes after a fold, so that both ways of coming back are walked.
                house.restart(steps % 2 == 1)?;
                house.check()?;
                steps += 1;
            }
        }
        house.begun()?;
        house.finish_sweeps()?;
        house.finish_builds()?;
        house.check()?;
        house.check_all_delivered()?;
        let mut got = house.contents()?;
        got.insert(REJECTS.to_owned(), rejects(&mut house)?);
        if got == *wanted { Ok(()) } else { Err(format!("another answer:\n{}", difference(wanted, &got))) }
    }
}

/// Under which word rejects are compared.
const REJECTS: &str = "(rejects)";

/// What could not be taken, sorted.
fn rejects(house: &mut House) -> Result<Vec<String>, String> {
    let rejects = house.engine().rejects(100).map_err(|e| e.to_string())?;
    let lines = rejects.iter().map(|reject| {
        let row = match &reject.row {
            engine::RejectedRow::Columns(columns) => {
                let columns = columns.iter().map(|(name, value)| format!("{name}={value}"));
                columns.collect::<Vec<_>>().join(" ")
            }
            engine::RejectedRow::Text(text) => text.clone(),
        };
        format!("{} {} {} [{row}]", reject.node, reject.code, reject.reason)
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    Ok(lines)
}

/// By what people know the rows that could not be taken, sorted.
fn reject_keys(house: &mut House) -> Result<Vec<String>, String> {
    let rejects = house.engine().rejects(100).map_err(|e| e.to_string())?;
    let line = |reject: &engine::Reject| {
        let key: Vec<String> = reject.key.iter().map(ToString::to_string).collect();
        format!("{} {}", reject.node, if key.is_empty() { "no key".to_owned() } else { key.join(", ") })
    };
    let mut lines: Vec<String> = rejects.iter().map(line).collect();
    lines.sort();
    Ok(lines)
}

/// How far a table is, in words.
fn told(table: &engine::SourceTable) -> String {
    let load = match &table.load {
        Load::Loading { cursor } => format!("loading{}", if cursor.is_some() { ", begun" } else { "" }),
        Load::Reloading { cursor, again } => {
            format!("reloading{}: {}", if cursor.is_some() { ", begun" } else { "" }, again.reason)
        }
        Load::Sweeping { after, again } => {
            format!("sweeping{}: {}", if after.is_some() { ", begun" } else { "" }, again.reason)
        }
        Load::Complete => "complete".to_owned(),
        Load::Partial => "partial".to_owned(),
        Load::Parked { reason, whole: true } => format!("parked: {reason}"),
        Load::Parked { reason, whole: false } => format!("parked, never loaded: {reason}"),
        Load::Altered { reason, .. } => format!("altered: {reason}"),
    };
    format!("{} {load}", table.name.name)
}

/// Another order of a step's changes: tables in reverse, and the changes of different keys by a fixed shuffle; changes of
/// one row keep their order. Batches with more than rows stay as they are.
fn shuffled(act: &Act) -> Act {
    match act {
        Act::Step(batches) => Act::Step(batches.iter().map(shuffled_batch).collect()),
        other => other.clone(),
    }
}

fn shuffled_batch(batch: &Batch) -> Batch {
    let mut groups: BTreeMap<(std::cmp::Reverse<String>, u64), Vec<Change>> = BTreeMap::new();
    for piece in batch {
        let Piece::Row(change) = piece else { return batch.clone() };
        let key = change.values.first().cloned().unwrap_or_default();
        let hash = key.bytes().fold(17_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
        let place = (std::cmp::Reverse(change.table.clone()), hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        groups.entry(place).or_default().push(change.clone());
    }
    groups.into_values().flatten().map(Piece::Row).collect()
}
