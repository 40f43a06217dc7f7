//! A walk: the story that a seed decides.

use std::collections::BTreeMap;

use relation::{Column, Schema};

use crate::Without;
use crate::house::Names;
use crate::house::story::{Act, Batch, Change, Piece, in_parts};
use crate::server::Server;
use crate::sql::{Relation, Writer};
use testkit::Rng;

/// What tells the chance of doubts from that of everything else: half of the walks have none.
const DOUBTS: u64 = 0xd0f2;
/// The same of models that are changed.
const APPLIES: u64 = 0xa991_0000;

/// The story of a seed.
pub(crate) fn told(seed: u64, without: &Without) -> Vec<Act> {
    let mut rng = Rng::new(seed);
    let mut doubts = Rng::new(seed ^ DOUBTS);
    let is_doubtful = doubts.chance(50) && !without.has("reload");
    let mut server = Server::new(&mut rng, is_doubtful.then_some(doubts), without);
    let count = server.tables.len();
    let late_table = rng.chance(20) && !without.has("late");
    let early_tables = if late_table { count - 1 } else { count };
    let mut models = models(&mut rng, &server, without, early_tables);
    let late_models = if without.has("late") { 0 } else { rng.weighted(&[6, 2, 2]) };
    let early_models = models.early.min(models.told.len().saturating_sub(late_models));
    let mut acts: Vec<Act> = (0..early_tables).map(|i| server.told(i)).collect();
    acts.extend(models.told[..early_models].iter().cloned());
    let loaded: Vec<Change> = (0..early_tables).flat_map(|i| server.follow(i)).collect();
    acts.push(Act::Load(loaded));
    let length = rng.between(10, 20);
    let grows = if late_table || early_models < models.told.len() { rng.between(1, length - 1) } else { length };
    for at in 0..length {
        if at == grows {
            // What a late table held before it was followed comes by its load, so it loads by chunks.
            for i in early_tables..count {
                server.tables[i].in_chunks = true;
                acts.push(server.told(i));
                server.follow(i);
            }
            acts.extend(models.told[early_models..].iter().cloned());
            acts.push(Act::Restart { folded: rng.chance(50) });
            acts.extend(server.restarted());
        }
        act(&mut rng, &mut server, without, &mut acts);
        // What is told of for later is planned over columns as they were.
        if (at >= grows || grows == length)
            && !without.has("altered")
            && let Some(altered) = server.alter()
        {
            acts.push(altered);
            acts.extend(told_anew(&mut Rng::new(seed ^ at as u64), &server, without, &mut models, None));
            acts.push(Act::Propose);
        }
        if (at >= grows || grows == length) && !without.has("apply") && !models.told.is_empty() {
            let mut rng = Rng::new(seed ^ APPLIES ^ at as u64);
            match rng.weighted(&[90, 7, 3]) {
                0 => {}
                1 => {
                    let other = rng.below(models.told.len());
                    acts.extend(told_anew(&mut rng, &server, without, &mut models, Some(other)));
                    acts.push(Act::Propose);
                }
                _ => acts.push(Act::Rollback),
            }
        }
    }
    end(&mut rng, &mut server, &mut acts);
    for _ in 0..rng.between(1, 3) {
        act(&mut rng, &mut server, without, &mut acts);
    }
    end(&mut rng, &mut server, &mut acts);
    acts
}

/// The same story, but some of its transactions come in parts.
pub(crate) fn in_chains(rng: &mut Rng, acts: Vec<Act>) -> Vec<Act> {
    let is_of_log = |piece: &Piece| matches!(piece, Piece::Row(_) | Piece::Unread { .. } | Piece::Truncate(_));
    let is_transaction = |batch: &Batch| batch.iter().all(is_of_log);
    let mut out = Vec::new();
    for act in acts {
        match act {
            Act::Step(batches) if rng.chance(25) && batches.iter().all(is_transaction) => {
                for batch in batches {
                    let pieces = in_parts(&batch);
                    out.push(Act::Chain(pieces.chunks(rng.between(1, 3)).map(<[Batch]>::concat).collect()));
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// Whatever is loading comes to its end, and what waits is swept.
fn end(rng: &mut Rng, server: &mut Server, acts: &mut Vec<Act>) {
    acts.extend(server.follow_all().into_iter().map(|batch| Act::Step(vec![batch])));
    while server.is_loading() {
        acts.push(Act::Step(vec![server.chunk(rng)]));
    }
    let swept = server.sweep_all();
    if !swept.is_empty() {
        acts.push(Act::Step(vec![swept]));
    }
}

fn act(rng: &mut Rng, server: &mut Server, without: &Without, acts: &mut Vec<Act>) {
    let restart = if without.has("restart") { 0 } else { 10 };
    match rng.weighted(&[78, restart, 10]) {
        0 => {
            let batches = if without.has("batches") { 1 } else { 1 + rng.weighted(&[6, 3, 1]) };
            let batches = (0..batches).map(|_| server.batch(rng)).filter(|batch| !batch.is_empty());
            let batches: Vec<_> = batches.collect();
            if !batches.is_empty() {
                acts.push(Act::Step(batches));
            }
        }
        1 => {
            acts.push(Act::Restart { folded: rng.chance(50) });
            acts.extend(server.restarted());
        }
        _ => acts.push(Act::Fold),
    }
}

/// The models over tables whose columns have changed: those that cannot be planned any more are others, and those that read a
/// column of another type, since nobody would compare what they compare; and this `other` one, if it is named.
fn told_anew(rng: &mut Rng, server: &Server, without: &Without, models: &mut Models, other: Option<usize>) -> Vec<Act> {
    let tables: Vec<_> = server.tables.iter().map(|table| (table.name.clone(), table.schema.clone())).collect();
    let mut names = Names::new(&tables);
    let mut relations: Vec<Relation> = tables.iter().map(|(name, schema)| Relation::new(name, schema)).collect();
    let mut retyped: Vec<String> = Vec::new();
    for (name, schema) in &tables {
        models.note(name, schema, &mut retyped);
    }
    let mut anew = Vec::new();
    for at in 0..models.told.len() {
        let Act::Model { name, sql } = models.told[at].clone() else { continue };
        let tries = (0..12).map(|_| Writer::new(rng, &relations, without).model());
        let tries: Vec<String> = tries.collect();
        let is_kept = other != Some(at) && !retyped.iter().any(|name| sql.contains(name.as_str()));
        let simplest = format!("select count(*) as c0 from {}", tables[0].0);
        let mut all = is_kept.then(|| sql.clone()).into_iter().chain(tries).chain([simplest]);
        let planned = all.find_map(|sql| Some((plan::plan_model(&sql, &names).ok()?.schema, sql)));
        let Some((schema, said)) = planned else { continue };
        names.add(&name, &schema);
        relations.push(Relation::new(&name, &schema));
        models.note(&name, &schema, &mut retyped);
        if said != sql {
            models.told[at] = Act::Model { name, sql: said };
            anew.push(models.told[at].clone());
        }
    }
    anew
}

struct Models {
    told: Vec<Act>,
    /// The first so many read early tables alone.
    early: usize,
    /// Columns of tables and models.
    schemas: BTreeMap<String, Schema>,
}

impl Models {
    /// Notes the columns of a table or model, and whether one that it had is of another type.
    fn note(&mut self, name: &str, schema: &Schema, retyped: &mut Vec<String>) {
        let before = self.schemas.insert(name.to_owned(), schema.clone());
        let is_retyped = |before: &Schema| {
            let other = |column: &Column| {
                before.columns.iter().any(|old| old.name == column.name && old.data_type != column.data_type)
            };
            schema.columns.iter().any(other)
        };
        if before.is_some_and(|before| is_retyped(&before)) {
            retyped.push(name.to_owned());
        }
    }
}

fn models(rng: &mut Rng, server: &Server, without: &Without, early_tables: usize) -> Models {
    let tables: Vec<_> = server.tables.iter().map(|table| (table.name.clone(), table.schema.clone())).collect();
    let mut names = Names::new(&tables);
    let relation = |i: usize| Relation::new(&tables[i].0, &tables[i].1);
    let mut relations: Vec<Relation> = (0..early_tables).map(relation).collect();
    let mut told = Vec::new();
    let mut schemas: BTreeMap<String, Schema> = tables.iter().cloned().collect();
    let wanted = rng.between(3, 6);
    let turn = if early_tables < tables.len() { rng.between(1, wanted) } else { wanted };
    let mut early = None;
    for i in 0..wanted {
        if i == turn {
            early = Some(told.len());
            relations.extend((early_tables..tables.len()).map(relation));
        }
        for _ in 0..12 {
            let sql = Writer::new(rng, &relations, without).model();
            let name = format!("m{i}");
            let Ok(planned) = plan::plan_model(&sql, &names) else { continue };
            names.add(&name, &planned.schema);
            relations.push(Relation::new(&name, &planned.schema));
            schemas.insert(name.clone(), planned.schema);
            told.push(Act::Model { name, sql });
            break;
        }
    }
    Models { early: early.unwrap_or(told.len()), told, schemas }
}
