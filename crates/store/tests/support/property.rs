//! Random steps, folds, snapshots, crashes: whatever happens, the store is the `BTreeMap`.

use std::time::Duration;

use libtest_mimic::Trial;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use store::{Options, Prepared, Snapshot, Store, TableId};

use super::model::{Model, Op, compare, from_text, to_text, writes};

const TABLES: [u32; 4] = [16, 17, 18, 300];

#[derive(Debug, Clone)]
enum Event {
    Step(Vec<Op>),
    Hidden(Vec<Op>),
    Prepared(Vec<Vec<Op>>),
    Fold,
    Compact,
    Crash,
    Snapshot,
    Hot(u32, Vec<u8>),
    Range(u32, Vec<u8>, Vec<u8>),
}

pub(crate) fn trials() -> Vec<Trial> {
    let run = |name, count, background: bool| {
        Trial::test(format!("property/{name}"), move || {
            let config = Config { cases: count, failure_persistence: None, ..Config::default() };
            let mut runner = TestRunner::new_with_rng(
                config,
                proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
            );
            let events = prop::collection::vec(event(), 1..60);
            runner
                .run(&events, |events| check(&events, background).map_err(TestCaseError::fail))
                .map_err(|e| e.to_string().into())
        })
    };
    vec![run("steps_folds_crashes", 60, false), run("folds_in_the_background", 60, true)]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0_u32..60).prop_map(|n| format!("k{n:02}").into_bytes()),
        1 => prop::collection::vec(0x61_u8..0x64, 0..4),
        1 => (0_u32..4).prop_map(|n| format!("{}{n}", "long".repeat(60)).into_bytes()),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let table = prop::sample::select(TABLES.to_vec());
    let value = prop::collection::vec(0x41_u8..0x5b, 0..40);
    prop_oneof![
        6 => (table.clone(), key(), value).prop_map(|(t, k, v)| Op::Put(t, k, v)),
        3 => (table, key()).prop_map(|(t, k)| Op::Delete(t, k)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let table = prop::sample::select(TABLES.to_vec());
    prop_oneof![
        12 => prop::collection::vec(op(), 0..30).prop_map(Event::Step),
        6 => prop::collection::vec(op(), 0..30).prop_map(Event::Hidden),
        3 => prop::collection::vec(prop::collection::vec(op(), 0..30), 0..4).prop_map(Event::Prepared),
        1 => prop::sample::select(vec![16_u32, 17]).prop_map(|t| Event::Step(vec![Op::Drop(t)])),
        2 => Just(Event::Fold),
        1 => Just(Event::Compact),
        2 => Just(Event::Crash),
        2 => Just(Event::Snapshot),
        3 => (table.clone(), key()).prop_map(|(t, k)| Event::Hot(t, k)),
        2 => (table, key(), key()).prop_map(|(t, a, b)| Event::Range(t, a, b)),
    ]
}

struct Run {
    dir: tempfile::TempDir,
    background: bool,
    store: Option<Store>,
    model: Model,
    step: u64,
    dropped: Vec<u32>,
    snapshots: Vec<Snapshot>,
}

fn check(events: &[Event], background: bool) -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let mut run = Run {
        dir,
        background,
        store: None,
        model: Model::default(),
        step: 0,
        dropped: Vec::new(),
        snapshots: Vec::new(),
    };
    run.open()?;
    for event in events {
        run.event(event)?;
    }
    run.compare()?;
    run.store()?.compact().map_err(|e| e.to_string())?;
    run.compare()
}

impl Run {
    fn store(&self) -> Result<&Store, String> {
        self.store.as_ref().ok_or_else(|| "closed".to_owned())
    }

    fn open(&mut self) -> Result<(), String> {
        let options = Options {
            cache_bytes: 1 << 20,
            hot_bytes: 64 << 10,
            fold_entries_min: if self.background { 40 } else { usize::MAX },
            fold_interval: Duration::from_millis(if self.background { 1 } else { 1_000_000 }),
            fold_entries_quiet: 1,
            merge_entries_max: 64,
            merge_runs_min: 2,
            segment_bytes: 2_000,
            overlay_bytes: if self.background { 20_000 } else { 1 << 30 },
            ..Options::default()
        };
        let store = Store::open(self.dir.path(), options).map_err(|e| e.to_string())?;
        for item in store.replay().map_err(|e| e.to_string())? {
            let (step, record) = item.map_err(|e| e.to_string())?;
            let ops = from_text(std::str::from_utf8(&record).map_err(|e| e.to_string())?)?;
            store.commit(step, writes(&ops)).map_err(|e| e.to_string())?;
        }
        if store.snapshot().step() != self.step {
            return Err(format!("reopened at step {}, expected {}", store.snapshot().step(), self.step));
        }
        self.store = Some(store);
        self.compare()
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        let text = |e: store::Error| e.to_string();
        match event {
            Event::Step(ops) => {
                let ops = self.allowed(ops);
                self.dropped.extend(ops.iter().filter(|op| matches!(op, Op::Drop(_))).map(table_of));
                self.step += 1;
                let store = self.store()?;
                if self.step.is_multiple_of(2) {
                    store.append_unsynced(self.step, to_text(&ops).as_bytes()).map_err(text)?;
                    store.start_sync().wait().map_err(text)?;
                } else {
                    store.append(self.step, to_text(&ops).as_bytes()).map_err(text)?;
                }
                store.commit(self.step, writes(&ops)).map_err(text)?;
                self.model.apply(self.step, &ops);
            }
            Event::Hidden(ops) => {
                let ops = self.allowed(ops);
                self.step += 1;
                let store = self.store()?;
                store.append(self.step, to_text(&ops).as_bytes()).map_err(text)?;
                store.commit_hidden(self.step, writes(&ops)).map_err(text)?;
                self.model.apply(self.step, &ops);
            }
            Event::Prepared(portions) => {
                let mut portions: Vec<Vec<Op>> = portions.iter().map(|ops| self.allowed(ops)).collect();
                let all = portions.concat();
                let own = portions.pop().unwrap_or_default();
                self.step += 1;
                let store = self.store()?;
                store.append(self.step, to_text(&all).as_bytes()).map_err(text)?;
                let ready = portions.iter().map(|ops| Prepared::new(writes(ops))).collect::<Result<Vec<_>, _>>();
                store.commit_with(self.step, writes(&own), ready.map_err(text)?).map_err(text)?;
                self.model.apply(self.step, &all);
            }
            Event::Fold => self.store()?.fold_now().map_err(text)?,
            Event::Compact => self.store()?.wait_idle().map_err(text)?,
            Event::Crash => {
                self.snapshots.clear();
                self.store = None;
                self.open()?;
            }
            Event::Snapshot => {
                let snapshot = self.store()?.snapshot();
                self.snapshots.push(snapshot);
            }
            Event::Hot(table, key) => {
                let store = self.store()?;
                let got = store.hot().get(&store.working(), TableId(*table), key).map_err(text)?;
                let want = self.model.at(self.step).remove(&(*table, key.clone()));
                if got.as_deref() != want.as_deref() {
                    return Err(format!("hot t{table} {key:?}: {got:?}, expected {want:?}"));
                }
            }
            Event::Range(table, from, to) => self.range(*table, from, to)?,
        }
        Ok(())
    }

    /// A dropped number is never written again.
    fn allowed(&self, ops: &[Op]) -> Vec<Op> {
        ops.iter().filter(|op| !self.dropped.contains(&table_of(op))).cloned().collect()
    }

    fn range(&self, table: u32, from: &[u8], to: &[u8]) -> Result<(), String> {
        use std::ops::Bound::{Excluded, Included};
        let expected = self.model.at(self.step);
        let snapshot = self.store()?.working();
        let bounds = [(Included(from), Included(to)), (Excluded(from), Excluded(to)), (Included(from), Excluded(to))];
        for (from, to) in bounds {
            let inside = |key: &[u8]| {
                (match from {
                    Included(a) => key >= a,
                    Excluded(a) => key > a,
                    _ => true,
                }) && (match to {
                    Included(b) => key <= b,
                    Excluded(b) => key < b,
                    _ => true,
                })
            };
            let want: Vec<&[u8]> =
                expected.keys().filter(|(t, key)| *t == table && inside(key)).map(|(_, key)| &**key).collect();
            let got = snapshot.range(TableId(table), from, to).map(|item| item.map(|(key, _)| key.to_vec()));
            let got = got.collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
            if got != want {
                return Err(format!("t{table} {from:?}..{to:?}: {got:?}, expected {want:?}"));
            }
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), String> {
        let (visible, working) = (self.store()?.snapshot(), self.store()?.working());
        if working.step() != self.step {
            return Err(format!("the newest step is {}, expected {}", working.step(), self.step));
        }
        for snapshot in self.snapshots.iter().chain([&visible, &working]) {
            compare(snapshot, &self.model.at(snapshot.step()), &TABLES)?;
        }
        Ok(())
    }
}

fn table_of(op: &Op) -> u32 {
    let (Op::Put(table, ..) | Op::Delete(table, _) | Op::Drop(table)) = op;
    *table
}
