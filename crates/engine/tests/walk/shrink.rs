//! Makes a failing story small: whatever can go, while it still fails in the same way, goes.

use std::time::{Duration, Instant};

use crate::house::story::{Act, Batch, Change, Piece};
use crate::house::{Host, Mode};
use crate::ledger::mended;
use crate::play::{Failure, Looks, play};

pub(crate) struct Shrinker<'a> {
    host: &'a Host,
    mode: Mode,
    kind: String,
    states: bool,
    until: Instant,
    /// The smallest story so far, and how it fails.
    best: Vec<Act>,
    failure: Failure,
}

impl<'a> Shrinker<'a> {
    #[expect(clippy::disallowed_methods, reason = "a bound for the time of shrinking; no result depends on it")]
    pub(crate) fn new(host: &'a Host, mode: Mode, acts: Vec<Act>, failure: Failure, limit: Duration) -> Self {
        let states = failure.kind.starts_with("states");
        Self { host, mode, kind: failure.kind.clone(), states, until: Instant::now() + limit, best: acts, failure }
    }

    /// The smallest story that was found, and its failure.
    pub(crate) fn shrunk(mut self) -> (Vec<Act>, Failure) {
        // What comes behind the failure does not matter, and looking everywhere may find it earlier.
        let whole = self.best.clone();
        self.better(whole);
        let end = self.failure.act + 1;
        self.better(self.best.iter().take(end).cloned().collect());
        loop {
            let before = size(&self.best);
            self.without_acts();
            self.without_pieces();
            self.merged();
            self.simpler_models();
            self.without_columns();
            if size(&self.best) >= before || self.is_late() {
                break;
            }
        }
        (self.best, self.failure)
    }

    #[expect(clippy::disallowed_methods, reason = "a bound for the time of shrinking; no result depends on it")]
    fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Takes a story if it fails in the same way.
    fn better(&mut self, acts: Vec<Act>) -> bool {
        if self.is_late() {
            return false;
        }
        let acts = mended(&acts);
        match play(self.host, &acts, self.mode, Looks::All { states: self.states }) {
            Some(failure) if failure.kind == self.kind => {
                self.best = acts;
                self.failure = failure;
                true
            }
            _ => false,
        }
    }

    /// Leaves out acts, many at once at first.
    fn without_acts(&mut self) {
        let mut size = self.best.len() / 2;
        while size > 0 && !self.is_late() {
            let mut at = self.best.len();
            while at > 0 {
                let from = at.saturating_sub(size);
                let mut acts = self.best.clone();
                acts.drain(from..at);
                self.better(acts);
                at = from.min(self.best.len());
            }
            size /= 2;
        }
    }

    /// Leaves out pieces of steps and loaded rows.
    fn without_pieces(&mut self) {
        let mut at = 0;
        while at < self.best.len() && !self.is_late() {
            match self.best[at].clone() {
                Act::Load(rows) => {
                    self.fewer(rows, &|rows| Act::Load(rows), at);
                }
                Act::Step(batches) | Act::Chain(batches) => {
                    let is_chain = matches!(self.best[at], Act::Chain(_));
                    let act = |pieces: Vec<(usize, Piece)>| match is_chain {
                        true => Act::Chain(batches_of(&pieces)),
                        false => Act::Step(batches_of(&pieces)),
                    };
                    let flat: Vec<(usize, Piece)> = batches
                        .iter()
                        .enumerate()
                        .flat_map(|(i, batch)| batch.iter().map(move |piece| (i, piece.clone())))
                        .collect();
                    self.fewer(flat, &act, at);
                    self.chunk_rows(at);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Replaces act `at` by ones of fewer parts.
    fn fewer<T: Clone>(&mut self, mut parts: Vec<T>, act: &dyn Fn(Vec<T>) -> Act, at: usize) {
        let mut size = parts.len();
        while size > 0 && !self.is_late() {
            let mut end = parts.len();
            while end > 0 {
                let from = end.saturating_sub(size);
                let mut fewer = parts.clone();
                fewer.drain(from..end);
                let mut acts = self.best.clone();
                let length = acts.len();
                acts[at] = act(fewer.clone());
                // A story that lost a whole act has its acts at other places.
                if self.better(acts) {
                    if self.best.len() != length {
                        return;
                    }
                    parts = fewer;
                }
                end = from.min(parts.len());
            }
            size /= 2;
        }
    }

    fn chunk_rows(&mut self, at: usize) {
        let Some(Act::Step(batches)) = self.best.get(at).cloned() else { return };
        for (i, batch) in batches.iter().enumerate() {
            for (j, piece) in batch.iter().enumerate() {
                let Piece::Chunk { table, rows, unread, complete } = piece else { continue };
                let act = |rows: Vec<Vec<String>>| {
                    let mut batches = batches.clone();
                    batches[i][j] =
                        Piece::Chunk { table: table.clone(), rows, unread: unread.clone(), complete: *complete };
                    Act::Step(batches)
                };
                self.fewer(rows.clone(), &act, at);
            }
        }
    }

    /// Batches of one step as one, and neighbouring steps as one.
    fn merged(&mut self) {
        for at in 0..self.best.len() {
            let Some(Act::Step(batches)) = self.best.get(at).cloned() else { continue };
            let is_plain = |batch: &Batch| batch.iter().all(|piece| matches!(piece, Piece::Row(_)));
            if batches.len() > 1 && batches.iter().all(is_plain) {
                let mut acts = self.best.clone();
                acts[at] = Act::Step(vec![batches.concat()]);
                self.better(acts);
            }
        }
    }

    /// Leaves out words of the models' SQL, as long as it can be planned.
    fn simpler_models(&mut self) {
        for at in 0..self.best.len() {
            let mut longest = usize::MAX;
            while let Some(Act::Model { name, sql }) = self.best.get(at).cloned() {
                let tokens = tokens(&sql);
                longest = longest.min(tokens.len().saturating_sub(1));
                if longest == 0 || self.is_late() {
                    break;
                }
                let mut found = false;
                for from in 0..=tokens.len() - longest {
                    if !is_balanced(&tokens[from..from + longest]) {
                        continue;
                    }
                    let shorter = [&tokens[..from], &tokens[from + longest..]].concat().join(" ");
                    let mut acts = self.best.clone();
                    acts[at] = Act::Model { name: name.clone(), sql: shorter };
                    if plans(&acts) && self.better(acts) {
                        found = true;
                        break;
                    }
                    if self.is_late() {
                        return;
                    }
                }
                if !found {
                    longest -= 1;
                }
            }
        }
    }

    /// Leaves out columns of tables.
    fn without_columns(&mut self) {
        for at in 0..self.best.len() {
            let Some(Act::Table { name, schema, .. }) = self.best.get(at).cloned() else { continue };
            // Its rows have other columns later.
            if self.best.iter().any(|act| matches!(act, Act::Altered { name: altered, .. } if *altered == name)) {
                continue;
            }
            for column in (0..schema.columns.len()).rev() {
                let Some(Act::Table { schema, .. }) = self.best.get(at) else { break };
                if schema.key.contains(&column) || schema.columns.len() < 2 {
                    continue;
                }
                let acts: Vec<Act> = self.best.iter().map(|act| narrowed(act, &name, column)).collect();
                if plans(&acts) {
                    self.better(acts);
                }
            }
        }
    }
}

fn size(acts: &[Act]) -> usize {
    acts.iter().map(|act| act.text().len()).sum()
}

fn batches_of(pieces: &[(usize, Piece)]) -> Vec<Batch> {
    let batches = pieces.chunk_by(|a, b| a.0 == b.0);
    batches.map(|batch| batch.iter().map(|(_, piece)| piece.clone()).collect()).collect()
}

/// An act without one column of a table.
fn narrowed(act: &Act, table: &str, column: usize) -> Act {
    let cut = |values: &Vec<String>| {
        let mut values = values.clone();
        values.remove(column);
        values
    };
    let change = |change: &Change| match change.table == table {
        true => Change { values: cut(&change.values), ..change.clone() },
        false => change.clone(),
    };
    match act {
        Act::Table { name, schema, loading } if name == table => {
            let mut schema = schema.clone();
            schema.columns.remove(column);
            schema.key.iter_mut().filter(|k| **k > column).for_each(|k| *k -= 1);
            Act::Table { name: name.clone(), schema, loading: *loading }
        }
        Act::Load(rows) => Act::Load(rows.iter().map(change).collect()),
        Act::Step(batches) | Act::Chain(batches) => {
            let piece = |piece: &Piece| match piece {
                Piece::Row(row) => Piece::Row(change(row)),
                Piece::Chunk { table: name, rows, unread, complete } if name == table => {
                    let (table, rows) = (name.clone(), rows.iter().map(cut).collect());
                    Piece::Chunk { table, rows, unread: unread.clone(), complete: *complete }
                }
                other => other.clone(),
            };
            let batches = batches.iter().map(|batch| batch.iter().map(piece).collect()).collect();
            if matches!(act, Act::Chain(_)) { Act::Chain(batches) } else { Act::Step(batches) }
        }
        other => other.clone(),
    }
}

/// Whether all models of a story can be planned.
fn plans(acts: &[Act]) -> bool {
    let tables: Vec<_> = acts
        .iter()
        .filter_map(|act| match act {
            Act::Table { name, schema, .. } => Some((name.clone(), schema.clone())),
            _ => None,
        })
        .collect();
    let mut names = crate::house::Names::new(&tables);
    acts.iter().all(|act| match act {
        Act::Model { name, sql } => match plan::plan_model(sql, &names) {
            Ok(planned) if !planned.schema.columns.is_empty() => {
                names.add(name, &planned.schema);
                true
            }
            _ => false,
        },
        _ => true,
    })
}

/// Words, strings, brackets and signs of SQL.
fn tokens(sql: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut chars = sql.chars().peekable();
    while let Some(c) = chars.next() {
        let mut token = c.to_string();
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
        if c.is_whitespace() {
            continue;
        } else if c == '\'' {
            for c in chars.by_ref() {
                token.push(c);
                if c == '\'' {
                    break;
                }
            }
        } else if is_word(c) {
            while let Some(c) = chars.next_if(|c| is_word(*c)) {
                token.push(c);
            }
        } else if matches!(c, '<' | '>' | '|' | '!') {
            while let Some(c) = chars.next_if(|c| matches!(c, '=' | '>' | '|')) {
                token.push(c);
            }
        }
        out.push(token);
    }
    out
}

fn is_balanced(tokens: &[String]) -> bool {
    let mut depth = 0_i32;
    for token in tokens {
        depth += i32::from(token == "(") - i32::from(token == ")");
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}
