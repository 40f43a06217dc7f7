//! Steps and chains of them where a case file cannot say it: what fails, stops or changes in the middle of a chain, and rows
//! that contradict what is stored.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Error, ErrorKind, Result as IoResult};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use engine::operator::Bounds;
use engine::{Coming, Finished, Input, ModelState};
use house::story::{Act, Batch, Change, Piece};
use house::{Host, House, Mode};
use relation::TableId;
use store::files::Files;

const ITEMS: &str = "items(id bigint primary key, shop bigint, n bigint)";
const NOTES: &str = "notes(id bigint primary key, text text)";
const TOTALS: &str = "select shop, count(*) as rows, sum(n) as n from items group by shop";

/// A house with these tables and models, begun with some rows.
fn begun(mode: Mode, tables: &[&str], models: &[(&str, &str)], rows: &str) -> House {
    let mut house = House::new(&Host::new().unwrap(), mode).unwrap();
    told(&mut house, tables, models);
    house.begin(&changes(rows)).unwrap();
    // What was built is there after a restart.
    house.fold().unwrap();
    house
}

fn told(house: &mut House, tables: &[&str], models: &[(&str, &str)]) {
    for table in tables {
        let (name, schema) = plan::parse_table_definition(table).unwrap();
        house.act(&Act::Table { name: name.name, schema, loading: false }).unwrap();
    }
    for (name, sql) in models {
        house.act(&Act::Model { name: (*name).to_owned(), sql: (*sql).to_owned() }).unwrap();
    }
}

fn changes(lines: &str) -> Vec<Change> {
    let pieces = part(lines).into_iter().map(|piece| match piece {
        Piece::Row(change) => change,
        other => panic!("{other:?} is no row"),
    });
    pieces.collect()
}

/// The pieces of one part, as a case writes them, but with `;` between them.
fn part(lines: &str) -> Batch {
    let body = lines.split(';').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    let block = testkit::blocks(&format!("step\n{body}\n----\n"));
    match Act::of(&block[0]).unwrap() {
        Some(Act::Step(batches)) => batches.concat(),
        other => panic!("{other:?} is no step"),
    }
}

/// The inputs of a transaction in parts.
fn parts(house: &mut House, texts: &[&str]) -> Vec<Input> {
    let parts: Vec<Batch> = texts.iter().map(|text| part(text)).collect();
    (0..parts.len()).map(|at| house.part(&parts, at).unwrap()).collect()
}

/// Takes one step of what is there, which must not be the last of a chain.
fn take_hidden(house: &mut House, inputs: &mut Vec<Input>) {
    house.engine().take(inputs).unwrap().unwrap();
    assert!(house.is_within_chain(), "the chain is over");
}

fn take_all(house: &mut House, inputs: &mut Vec<Input>) {
    while house.engine().take(inputs).unwrap().is_some() {}
    assert!(!house.is_within_chain(), "the chain is not over");
}

fn state(house: &mut House, name: &str) -> ModelState {
    house.engine().models().into_iter().find(|model| model.name.name == name).unwrap().state.clone()
}

/// One of two tables that are to have other columns is dropped before it is loaded: the other does not wait for it.
#[test]
fn parked_while_it_is_coming() {
    let notes = "notes(id bigint primary key, n bigint)";
    let count = ("k", "select count(*) as rows from notes");
    let mut house = begun(Mode::default(), &[ITEMS, notes], &[("m", TOTALS), count], "+ items 1 1 1; + notes 1 1");
    for table in
        ["items(id bigint primary key, shop bigint, n bigint, x bigint)", "notes(id bigint primary key, n text)"]
    {
        let (name, schema) = plan::parse_table_definition(table).unwrap();
        house.act(&Act::Altered { name: name.name, schema }).unwrap();
    }
    house.act(&Act::Propose).unwrap();
    let of_items = |house: &mut House, is_coming: bool| {
        let engine = house.engine();
        let mut tables = engine.tables_to_come().chain(engine.tables());
        tables.find(|table| table.name.name == "items" && table.is_coming == is_coming).map(|table| table.id)
    };
    let coming = of_items(&mut house, true).unwrap();
    let mut park = vec![Input::Park { table: coming, reason: "it was dropped".to_owned() }];
    house.engine().take(&mut park).unwrap();
    assert!(matches!(house.engine().coming(), Coming::Failed(_)));

    let given_up: Vec<String> = house.engine().give_up_parked().unwrap().into_iter().map(|name| name.name).collect();
    assert_eq!(given_up, ["items"]);
    assert_eq!(of_items(&mut house, true), None);
    let serving = of_items(&mut house, false).unwrap();
    assert_eq!(
        house.engine().table(serving).unwrap().load,
        engine::Load::Parked { reason: "it was dropped".to_owned(), whole: true }
    );
    assert!(house.engine().give_up_parked().unwrap().is_empty());
    let models = house.definitions(&[count]).unwrap();
    house.engine().propose(models, b"after".to_vec()).unwrap();
    house.step(&[part("* notes 7 x; * notes 8 y; loaded notes")]).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    house.engine().swap().unwrap();
    assert_eq!(house.engine().coming(), Coming::Nothing);
    assert_eq!(house.model_rows("k").unwrap(), ["2"]);
}

/// One of two tables that are to have other columns cannot be loaded: the other takes its place with the models over it, and a model over
/// both stands on the one as it was and on the other as it is.
#[test]
fn a_load_that_does_not_get_on_is_not_waited_for() {
    let notes = "notes(id bigint primary key, n bigint)";
    let models = [
        ("m", TOTALS),
        ("k", "select count(*) as rows from notes"),
        ("j", "select items.id, notes.n from items join notes on notes.id = items.id"),
    ];
    let mode = Mode { build_last: true, ..Mode::default() };
    let mut house = begun(mode, &[ITEMS, notes], &models, "+ items 1 1 1; + notes 1 1");
    house.engine().build_ready(&mut |_| {}).unwrap();
    for table in
        ["items(id bigint primary key, shop bigint, n bigint, x bigint)", "notes(id bigint primary key, n text)"]
    {
        let (name, schema) = plan::parse_table_definition(table).unwrap();
        house.act(&Act::Altered { name: name.name, schema }).unwrap();
    }
    let coming = |house: &mut House| -> BTreeSet<TableId> {
        let tables = house.engine().tables_to_come().filter(|table| table.is_coming && table.name.name == "items");
        tables.map(|table| table.id).collect()
    };
    let items = coming(&mut house);
    assert_eq!(items.len(), 1);
    let definitions = house.definitions(&models).unwrap();
    house.engine().propose_without(definitions, b"after".to_vec(), items.clone()).unwrap();
    house.step(&[part("* notes 1 x; * notes 8 y; loaded notes")]).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    assert_eq!(house.engine().coming(), Coming::Ready);
    assert!(house.engine().swap().unwrap());
    assert_eq!(coming(&mut house), items, "it goes on to come");
    assert_eq!(house.model_rows("k").unwrap(), ["2"]);
    assert_eq!(house.model_rows("j").unwrap(), ["1 x"]);
    assert_eq!(house.model_rows("m").unwrap(), ["1 1 1"]);
    house.step(&[part("* items 1 1 5 9; * items 8 1 6 9; loaded items; + notes 9 z")]).unwrap();
    let definitions = house.definitions(&models).unwrap();
    house.engine().propose(definitions, b"later".to_vec()).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    assert!(house.engine().swap().unwrap());
    assert_eq!(house.model_rows("j").unwrap(), ["1 x", "8 y"]);
    assert_eq!(house.model_rows("m").unwrap(), ["1 2 11"]);
}

/// Two sources send large transactions at the same time: part by part, in turns.
#[test]
fn sources_in_turns() {
    let mut house = begun(Mode::default(), &[ITEMS, "notes(id bigint primary key, text text)"], &[("m", TOTALS)], "");
    let ours = parts(&mut house, &["+ items 1 1 1", "+ items 2 1 2", "+ items 3 1 3"]);
    let theirs = parts(&mut house, &["+ notes 1 a", "+ notes 2 b", "+ notes 3 c"]);
    let other = house.engine().register_source("other").unwrap();
    let theirs = theirs.into_iter().map(|input| match input {
        Input::Rows(_, batch) => Input::Rows(other, batch),
        input => input,
    });
    let mut inputs: Vec<Input> = ours.into_iter().zip(theirs).flat_map(|(a, b)| [a, b]).collect();
    take_all(&mut house, &mut inputs);
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["1 3 6"]);
    assert_eq!(house.table_contents().unwrap()["notes"], ["1 a", "2 b", "3 c"]);
}

/// Parts without a last one are void once the source sends something else: their file goes.
#[test]
fn void_parts() {
    let mut house = begun(Mode::default(), &[ITEMS], &[("m", TOTALS)], "");
    let mut inputs = parts(&mut house, &["+ items 1 1 1", "+ items 2 1 2"]);
    inputs.pop();
    take_all(&mut house, &mut inputs);
    assert_eq!(staged(&mut house), 1);
    house.step(&[part("+ items 3 1 3")]).unwrap();
    assert_eq!(staged(&mut house), 0);
    let mut inputs = parts(&mut house, &["+ items 4 1 4", "+ items 5 1 5"]);
    take_all(&mut house, &mut inputs);
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["1 3 12"]);
}

/// Files in the folder of stages.
fn staged(house: &mut House) -> usize {
    let folder = house.engine().store().folder().join("staged");
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// A disk without room for files of one kind, while it is told so.
#[derive(Debug)]
struct Full {
    of: &'static str,
    /// It says so when it is to sync what it has taken.
    at_sync: bool,
    is_full: AtomicBool,
}

impl Full {
    fn of(of: &'static str, at_sync: bool) -> Arc<Self> {
        Arc::new(Self { of, at_sync, is_full: AtomicBool::new(false) })
    }

    fn check(&self, path: &Path) -> IoResult<()> {
        let is_full = self.is_full.load(Ordering::Acquire) && path.to_string_lossy().contains(self.of);
        if is_full { Err(Error::from(ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

impl Files for Full {
    fn create(&self, path: &Path) -> IoResult<File> {
        if !self.at_sync {
            self.check(path)?;
        }
        File::options().read(true).write(true).create(true).truncate(true).open(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> IoResult<()> {
        if !self.at_sync {
            self.check(path)?;
        }
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }

    fn sync(&self, file: &File, path: &Path) -> IoResult<()> {
        if self.at_sync {
            self.check(path)?;
        }
        file.sync_data()
    }
}

/// Where the disk is full a large transaction waits, wherever it is: while it is staged, when its stage is sealed, and when the
/// log is to say that its chain begins. Nothing of it is lost then, and nothing is left behind.
#[test]
fn full_disk() {
    for (of, at_sync) in [("/staged/", false), ("/staged/", true), ("/log/", false), ("/log/", true)] {
        let disk = Full::of(of, at_sync);
        let mut house = House::new(&Host::new().unwrap(), Mode::default()).unwrap();
        house.use_files(Arc::clone(&disk) as Arc<dyn Files>);
        told(&mut house, &[ITEMS], &[("m", TOTALS)]);
        house.begin(&[]).unwrap();
        let long = format!("+ items 1 1 1; + items 2 1 {}", "9".repeat(15));
        let mut inputs = parts(&mut house, &[&long, "+ items 3 2 3", "+ items 4 2 4"]);
        let after = house.input(&part("+ items 5 2 5")).unwrap();
        inputs.push(after);
        disk.is_full.store(true, Ordering::Release);
        for _ in 0..3 {
            let error = house.engine().take(&mut inputs).unwrap_err();
            let engine::Error::Store(error) = error else { panic!("{of}: {error}") };
            assert!(error.is_disk_full(), "{of}: {error}");
            assert!(error.hint().is_some(), "{of}: {error}");
        }
        disk.is_full.store(false, Ordering::Release);
        take_all(&mut house, &mut inputs);
        house.check().unwrap();
        assert_eq!(house.model_rows("m").unwrap(), ["1 2 1000000000000000", "2 3 12"], "{of}");
        house.restart(true).unwrap();
        house.check().unwrap();
        house.step(&[part("+ items 6 2 6")]).unwrap();
        assert_eq!(staged(&mut house), 0, "{of}");
    }
}

/// The stages of a build's beginning, run and end, with a chain between any two of them: whole, or its first step before and
/// the others after. The build catches up with it, and does not begin again.
#[test]
fn build_beside_a_chain() {
    let rows = "+ items 1 1 1; + items 2 1 2; + items 3 2 3";
    let chain = ["- items 1 1 1; + items 1 2 5", "truncate items; + items 7 1 7", "+ items 8 2 8", "- items 8 2 8"];
    // After the build's beginning, after its run: how many steps of the chain are taken.
    for (after_begin, after_run) in [(4, 0), (0, 4), (1, 3), (2, 2), (3, 1)] {
        for emptied_rows_max in [1, 50_000] {
            let mode = Mode { build_last: true, emptied_rows_max, ..Mode::default() };
            let mut house = begun(mode, &[ITEMS], &[("m", TOTALS)], rows);
            let mut build = house.engine().next_build().unwrap().unwrap();
            let mut inputs = parts(&mut house, &chain);
            for _ in 0..after_begin {
                house.engine().take(&mut inputs).unwrap();
            }
            let outcome = build.run();
            for _ in 0..after_run {
                house.engine().take(&mut inputs).unwrap();
            }
            take_all(&mut house, &mut inputs);
            // Its stage is kept for the build, whatever is folded.
            house.fold().unwrap();
            house.step(&[part("+ items 9 2 9")]).unwrap();
            assert_eq!(build.begun_again(), 0);
            match house.engine().finish_build(build, outcome).unwrap() {
                Finished::Live(_) => {}
                Finished::Again(_) => panic!("it begins again"),
                Finished::Failed(_, reason) => panic!("{reason}"),
                Finished::Dropped => panic!("it is not wanted"),
            }
            house.check().unwrap();
            assert_eq!(house.model_rows("m").unwrap(), ["1 1 7", "2 1 9"]);
            house.fold().unwrap();
            house.step(&[part("+ items 10 2 1")]).unwrap();
            assert_eq!(staged(&mut house), 0);
        }
    }
}

/// A table contradicts itself while a model over it is built, and is loaded again before that ends: the step has left out rows that
/// stand in the log, so the build begins again.
#[test]
fn contradicted_and_loaded_again_beside_a_build() {
    let joined = ("j", "select items.id, notes.text from items join notes on notes.id = items.shop");
    let mode = Mode { build_last: true, ..Mode::default() };
    let mut house = begun(mode, &[ITEMS, NOTES], &[joined, ("m", TOTALS)], "+ items 1 1 1; + notes 1 a");
    let mut first = house.engine().next_build().unwrap().unwrap();
    let outcome = first.run();
    assert!(matches!(house.engine().finish_build(first, outcome).unwrap(), Finished::Live(_)));
    let mut build = house.engine().next_build().unwrap().unwrap();
    assert_eq!(build.name().name, "m");
    let outcome = build.run();
    // By an index it is seen that row 1 is there.
    house.step(&[part("+ items 1 1 1; + items 7 1 7")]).unwrap();
    let items = house.engine().tables().find(|table| table.name.name == "items").unwrap();
    assert!(!items.load.is_followed(), "{:?}", items.load);
    house.step(&[part("reload items; * items 1 1 1; * items 7 1 7; loaded items")]).unwrap();
    house.step(&[part("swept items")]).unwrap();
    let Finished::Again(mut again) = house.engine().finish_build(build, outcome).unwrap() else {
        panic!("it does not begin again");
    };
    assert_eq!(again.begun_again(), 1);
    let outcome = again.run();
    assert!(matches!(house.engine().finish_build(*again, outcome).unwrap(), Finished::Live(_)));
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["1 2 8"]);
}

/// What comes about of tables that a model does not read is nothing that its build has to know of: not that one is loaded again,
/// nor that a transaction which is a chain brings rows of it.
#[test]
fn build_beside_other_tables() {
    let mode = Mode { build_last: true, ..Mode::default() };
    let mut house = begun(mode, &[ITEMS, NOTES], &[("m", TOTALS)], "+ items 1 1 1; + notes 1 a");
    let mut build = house.engine().next_build().unwrap().unwrap();
    let notes = house.engine().tables().find(|table| table.name.name == "notes").unwrap().id;
    let first = parts(&mut house, &["+ items 2 1 2; + notes 2 b", "+ items 3 2 3"]);
    let second = parts(&mut house, &["truncate notes; + items 4 2 4", "- items 1 1 1"]);
    let doubt = Input::Reload { table: notes, reason: "in doubt".to_owned(), at_us: 1 };
    let mut inputs: Vec<Input> = [first, vec![doubt], second].concat();
    take_all(&mut house, &mut inputs);
    let outcome = build.run();
    assert_eq!(build.begun_again(), 0);
    assert!(matches!(house.engine().finish_build(build, outcome).unwrap(), Finished::Live(_)));
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["1 1 2", "2 2 7"]);
}

/// What came after a build's run and is much, is caught up with beside the steps: the build goes on, and does not begin again.
#[test]
fn build_goes_on() {
    let counted = "select text, count(*) as rows from notes group by text";
    let mut house = begun(Mode { build_last: true, ..Mode::default() }, &[NOTES], &[("m", counted)], "+ notes 1 a");
    let mut build = house.engine().next_build().unwrap().unwrap();
    let outcome = build.run();
    let long = "x".repeat(4 << 20);
    let texts: Vec<String> = (2..8).map(|id| format!("+ notes {id} {long}")).collect();
    let mut inputs = parts(&mut house, &texts.iter().map(String::as_str).collect::<Vec<_>>());
    take_all(&mut house, &mut inputs);
    let Finished::Again(mut build) = house.engine().finish_build(build, outcome).unwrap() else {
        panic!("all of it was done between two steps");
    };
    let outcome = build.run();
    assert_eq!(build.begun_again(), 0);
    assert!(matches!(house.engine().finish_build(*build, outcome).unwrap(), Finished::Live(_)));
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["a 1".to_owned(), format!("{long} 6")]);
}

/// A build that is asked for within a chain begins when that has come to its end, and what the chain did is not lost.
#[test]
fn build_begins_within_a_chain() {
    let mut house = begun(Mode { build_last: true, ..Mode::default() }, &[ITEMS], &[("m", TOTALS)], "+ items 1 1 1");
    let mut inputs = parts(&mut house, &["+ items 2 1 2", "+ items 3 1 3", "+ items 4 1 4"]);
    take_hidden(&mut house, &mut inputs);
    // Who asks for a build has the chain run to its end first.
    let mut build = house.engine().next_build().unwrap().unwrap();
    assert!(!house.is_within_chain());
    let outcome = build.run();
    house.engine().finish_build(build, outcome).unwrap();
    assert!(house.engine().take(&mut inputs).unwrap().is_some(), "what the chain did is told");
    house.check().unwrap();
    assert_eq!(house.model_rows("m").unwrap(), ["1 4 10"]);
}

/// A table goes when no model reads it that serves, and with it the version before, which did.
#[test]
fn a_table_goes_when_nothing_reads_it() {
    let both = [("m", TOTALS), ("k", "select count(*) as rows from notes")];
    let mut house = begun(Mode::default(), &[ITEMS, NOTES], &both, "+ items 1 1 1; + notes 1 a");
    let is_notes = |table: &&engine::SourceTable| table.name.name == "notes";
    let unwanted: BTreeSet<_> = house.engine().tables().filter(is_notes).map(|table| table.name.clone()).collect();
    assert_eq!(house.engine().drop_tables(&unwanted).unwrap(), []);

    let after = house.definitions(&[("m", TOTALS)]).unwrap();
    house.engine().propose(after, b"after".to_vec()).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    assert!(house.engine().swap().unwrap());
    assert!(house.engine().has_before());
    assert!(house.engine().drop_tables(&unwanted).unwrap().into_iter().eq(unwanted));
    assert!(!house.engine().has_before());
    assert!(!house.engine().tables().any(|table| is_notes(&table)));
    assert_eq!(house.model_rows("m").unwrap(), ["1 1 1"]);
}

/// A version is put in place, and taken back, within a chain: the chain is run to its end first.
#[test]
fn versions_within_a_chain() {
    let mut house = begun(Mode::default(), &[ITEMS], &[("m", TOTALS)], "+ items 1 1 1");
    let after = house.definitions(&[("m", "select shop, count(*) as rows from items group by shop")]).unwrap();
    house.engine().propose(after, b"after".to_vec()).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    assert_eq!(house.engine().coming(), Coming::Ready);

    let mut inputs = parts(&mut house, &["+ items 2 1 2", "+ items 3 2 3", "- items 2 1 2"]);
    take_hidden(&mut house, &mut inputs);
    assert!(house.engine().swap().unwrap());
    assert_eq!(house.model_rows("m").unwrap(), ["1 1", "2 1"], "a half transaction is seen");
    take_all(&mut house, &mut inputs);
    assert_eq!(house.model_rows("m").unwrap(), ["1 1", "2 1"]);

    let mut inputs = parts(&mut house, &["+ items 4 1 4", "+ items 5 2 5"]);
    take_hidden(&mut house, &mut inputs);
    assert!(house.engine().rollback().unwrap());
    assert_eq!(house.model_rows("m").unwrap(), ["1 2 5", "2 2 8"], "a half transaction is seen");
    take_all(&mut house, &mut inputs);
    assert_eq!(house.model_rows("m").unwrap(), ["1 2 5", "2 2 8"]);
}

/// A chain that cannot be run to its end lets no version be put in place or taken back: nothing of it has happened then.
#[test]
fn versions_within_a_broken_chain() {
    let mut house = begun(Mode::default(), &[NOTES], &[("m", "select count(*) as rows from notes")], "+ notes 1 a");
    let after = house.definitions(&[("m", "select max(id) as id from notes")]).unwrap();
    house.engine().propose(after, b"after".to_vec()).unwrap();
    house.engine().build_ready(&mut |_| {}).unwrap();
    let mut id = 1;
    for goes_back in [false, true] {
        let served = house.model_rows("m").unwrap();
        let label = house.engine().serving_label().unwrap();
        // More than is read ahead.
        let long = "x".repeat(3 << 20);
        let texts = ["b", &long, &long, "c"].map(|text| {
            id += 1;
            format!("+ notes {id} {text}")
        });
        let mut inputs = parts(&mut house, &texts.each_ref().map(String::as_str));
        take_hidden(&mut house, &mut inputs);
        let folder = house.engine().store().folder().join("staged");
        let stage = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(&stage).unwrap();
        std::fs::write(&stage, &bytes[..1 << 20]).unwrap();
        let put = |house: &mut House| if goes_back { house.engine().rollback() } else { house.engine().swap() };
        put(&mut house).unwrap_err();
        assert_eq!(house.engine().serving_label().unwrap(), label);
        assert_eq!(house.model_rows("m").unwrap(), served);
        std::fs::write(&stage, &bytes).unwrap();
        assert!(put(&mut house).unwrap());
        take_all(&mut house, &mut inputs);
        // As many as the newest one's number.
        assert_eq!(house.model_rows("m").unwrap(), [id.to_string()]);
        house.fold().unwrap();
        id += 1;
        house.step(&[part(&format!("+ notes {id} d"))]).unwrap();
        assert_eq!(staged(&mut house), 0);
    }
}

/// A chain is run again as it was begun, whatever the settings say by then: another number of rows in each of its steps would
/// take numbers that the steps behind it have.
#[test]
fn emptied_as_it_was_begun() {
    for (begun_with, run_with) in [(50_000, 1), (1, 50_000), (2, 3)] {
        let mode = |emptied_rows_max| Mode { emptied_rows_max, ..Mode::default() };
        let rows = (1..=9).map(|id| format!("+ items {id} {} 1", id % 2)).collect::<Vec<_>>().join("; ");
        let mut house = begun(mode(begun_with), &[ITEMS], &[("m", TOTALS)], &rows);
        let mut inputs = parts(&mut house, &["+ items 10 1 1", "truncate items; + items 11 1 7", "+ items 12 2 8"]);
        take_all(&mut house, &mut inputs);
        house.step(&[part("+ items 13 2 9")]).unwrap();
        let step = house.engine().current_step();
        house.set_emptied_rows_max(run_with);
        house.reopen().unwrap();
        house.check().unwrap();
        assert_eq!(house.model_rows("m").unwrap(), ["1 1 7", "2 2 17"]);
        assert!(house.engine().current_step() >= step);
    }
}

/// A key with very many rows on both sides: the model that pairs them is parked by the step that would, and nothing else is. Replayed,
/// the step does the same; built in portions beside the steps, the model is whole again.
#[test]
fn rows_that_multiply_park_their_model_alone() {
    let pairs = "select a.shop, count(*) as n from items a join items b on a.shop = b.shop group by a.shop";
    let chosen =
        "select a.id, count(b.id) as n from items a left join items b on a.shop = b.shop and b.n < a.n group by a.id";
    let within =
        "select a.shop, max(b.n) as most from items a join items b on a.shop = b.shop and b.id <> a.id group by a.shop";
    let looked_up = "select s.town, count(*) as n from shops s join (select a.shop, b.n from items a join items b on a.shop = b.shop) p \
                     on p.shop = s.id group by s.town";
    let padded = "select a.id, count(*) as n from items a left join (select shop, n from items) b on a.shop = b.shop group by a.id";
    let few = Bounds { pairs: 2_000, ..Bounds::NONE };
    let small = Bounds { bytes: 20_000, ..Bounds::NONE };
    let rows = |ids: std::ops::Range<u32>| ids.map(|id| format!("+ items {id} 1 {id}")).collect::<Vec<_>>().join("; ");
    for (sql, bounds) in [(pairs, few), (chosen, few), (within, few), (looked_up, few), (padded, few), (pairs, small)] {
        let models = [("many", sql), ("m", TOTALS)];
        let mode = || Mode { bounds, ..Mode::default() };
        let mut house = begun(mode(), &[ITEMS, SHOPS], &models, "+ items 1 1 1; + items 2 2 2; + shops 1 1");
        house.step(&[part(&rows(10..14))]).unwrap();
        assert_eq!(state(&mut house, "many"), ModelState::Live, "{sql}");
        house.check().unwrap();
        // The house says that a model does not go on.
        assert!(house.step(&[part(&rows(20..120))]).unwrap_err().contains("in one step"), "{sql}");
        for _ in 0..2 {
            let ModelState::Parked { reason } = state(&mut house, "many") else { panic!("{sql}: not parked") };
            assert!(reason.contains("in one step"), "{reason}");
            assert_eq!(state(&mut house, "m"), ModelState::Live);
            house.reopen().unwrap();
        }
        assert!(house.engine().heal().unwrap());
        house.engine().build_ready(&mut |_| {}).unwrap();
        assert_eq!(state(&mut house, "many"), ModelState::Live, "{sql}");
        house.check().unwrap();
        house.step(&[part("+ items 200 2 7")]).unwrap();
        house.check().unwrap();
    }
}

/// A node is parked in the middle of a chain, and begun again within it: the model is what the tables say in the end.
#[test]
fn parked_within_a_chain() {
    for heals_within in [false, true] {
        let mut house = begun(Mode::default(), &[ITEMS], &[("m", TOTALS)], "+ items 1 1 1; + items 2 2 2");
        // A group that was never there cannot lose a row.
        let texts = ["+ items 3 1 3", "- items 9 9 9", "+ items 4 2 4", "- items 2 2 2"];
        let mut inputs = parts(&mut house, &texts);
        take_hidden(&mut house, &mut inputs);
        take_hidden(&mut house, &mut inputs);
        assert!(matches!(state(&mut house, "m"), ModelState::Parked { .. }));
        if heals_within {
            assert!(house.engine().heal().unwrap());
            take_hidden(&mut house, &mut inputs);
            house.engine().build_ready(&mut |_| {}).unwrap();
            assert!(!house.is_within_chain());
        }
        take_all(&mut house, &mut inputs);
        if !heals_within {
            // The parking is a fact of its step: it is there after a restart.
            house.reopen().unwrap();
            assert!(matches!(state(&mut house, "m"), ModelState::Parked { .. }));
            assert!(house.engine().heal().unwrap());
            house.engine().build_ready(&mut |_| {}).unwrap();
        }
        assert_eq!(state(&mut house, "m"), ModelState::Live);
        house.check().unwrap();
        assert_eq!(house.model_rows("m").unwrap(), ["1 2 4", "2 1 4"]);
    }
}

/// A table is parked between the parts of a transaction, and by one of them: its rows are passed over from there on, those of
/// others come.
#[test]
fn table_parked_within_a_chain() {
    let tables = [ITEMS, "notes(id bigint, text text)"];
    for by_part in [false, true] {
        let mut house = begun(Mode::default(), &tables, &[("m", TOTALS)], "+ notes 1 a");
        let bad = if by_part { "- notes 7 nowhere; + items 2 1 2" } else { "+ notes 2 b; + items 2 1 2" };
        let mut inputs = parts(&mut house, &["+ items 1 1 1", bad, "+ notes 3 c; + items 3 1 3"]);
        let notes = house.engine().tables().find(|table| table.name.name == "notes").unwrap().id;
        if !by_part {
            inputs.insert(1, Input::Park { table: notes, reason: "it was dropped".to_owned() });
        }
        take_all(&mut house, &mut inputs);
        for _ in 0..2 {
            let load = house.engine().table(notes).unwrap().load.clone();
            assert!(matches!(load, engine::Load::Parked { .. }), "{load:?}");
            assert_eq!(house.table_contents().unwrap()["notes"], ["1 a"]);
            assert_eq!(house.model_rows("m").unwrap(), ["1 3 6"]);
            house.reopen().unwrap();
        }
    }
}

/// What a step parks: tables, then models; the same again when it is run out of the log.
fn parked_by(tables: &[&str], sql: &str, rows: &str, step: &str) -> (Vec<String>, Vec<String>) {
    let mut house = begun(Mode::default(), tables, &[("m", sql)], rows);
    let input = house.input(&part(step)).unwrap();
    house.take(vec![input]).unwrap();
    let parked = parked(&mut house);
    house.reopen().unwrap();
    assert_eq!(self::parked(&mut house), parked, "a restart finds it otherwise");
    parked
}

fn parked(house: &mut House) -> (Vec<String>, Vec<String>) {
    let tables = house.engine().tables().filter_map(|table| match &table.load {
        engine::Load::Parked { reason, .. } => Some(format!("{}: {reason}", table.name.name)),
        _ => None,
    });
    let tables = tables.collect();
    let models = house.engine().models().into_iter().filter_map(|model| match &model.state {
        ModelState::Parked { reason } => Some(reason.clone()),
        _ => None,
    });
    (tables, models.collect())
}

const SHOPS: &str = "shops(id bigint primary key, town bigint)";

/// A row goes that is not there, or comes that is: an index of its table, which is read anyway, knows.
#[test]
fn indexes_know_their_rows() {
    let joined = "select i.id, s.id as shop from items i join shops s on i.shop = s.town";
    for (step, what) in [
        ("- items 9 1 1", "goes that is not there"),
        ("- items 1 2 1", "goes that is not there"),
        ("+ items 1 1 1", "comes that is there"),
    ] {
        let (tables, models) = parked_by(&[ITEMS, SHOPS], joined, "+ items 1 1 1; + shops 1 1", step);
        assert!(tables.len() == 1 && tables[0].contains(what), "{step}: {tables:?}");
        assert!(models.is_empty(), "{step}: {models:?}");
    }
}

/// The thread that folds waits here for as long as it is shut.
static SHUT: (Mutex<bool>, Condvar) = (Mutex::new(true), Condvar::new());

fn wait_while_shut() {
    // Others are waited for as the store is opened.
    if std::thread::current().name() != Some("store-fold") {
        return;
    }
    let shut = SHUT.0.lock().unwrap();
    drop(SHUT.1.wait_while(shut, |shut| *shut).unwrap());
}

/// Opens it, at the latest where the test ends: a store that is closed waits for its threads.
struct Opens;

impl Drop for Opens {
    fn drop(&mut self) {
        *SHUT.0.lock().unwrap() = false;
        SHUT.1.notify_all();
    }
}

/// What an index knew that was built and is not folded, nobody knows when its step is run out of the log. Of what came of the
/// table from there on the log has nothing: the table is parked all the same, and not taken for whole.
#[test]
fn indexes_that_are_not_folded() {
    let mut house = begun(Mode::default(), &[ITEMS, SHOPS], &[], "+ items 1 1 1; + shops 1 1");
    told(&mut house, &[], &[("j", "select i.id, s.id as shop from items i join shops s on i.shop = s.town")]);
    let opens = Opens;
    house.set_behind(wait_while_shut);
    house.reopen().unwrap();
    house.build().unwrap();
    assert!(house.engine().has_unlogged());
    house.step(&[part("+ items 1 1 1")]).unwrap();
    house.step(&[part("+ items 2 1 2; + shops 2 1")]).unwrap();
    let (tables, _) = parked(&mut house);
    assert!(tables.len() == 1 && tables[0].contains("comes that is there"), "{tables:?}");

    let mut again = house.copied().unwrap();
    drop(opens);
    assert_eq!(parked(&mut again).0, tables);
    again.step(&[part("reload items; * items 1 1 1; * items 2 1 2; loaded items")]).unwrap();
    again.step(&[part("swept items")]).unwrap();
    again.build().unwrap();
    again.check().unwrap();
    assert_eq!(again.model_rows("j").unwrap(), ["1 1", "1 2", "2 1", "2 2"]);
}

/// A row goes that is not there: the counts of its group know where they would be below nothing.
#[test]
fn counts_know_their_rows() {
    for (column, rows) in [("count(n)", "+ items 1 1 NULL"), ("sum(n)", "+ items 1 1 NULL"), ("count(*)", "")] {
        let sql = format!("select shop, {column} as c from items group by shop");
        let (tables, models) = parked_by(&[ITEMS], &sql, rows, "- items 9 1 5");
        assert!(tables.is_empty(), "{column}: {tables:?}");
        assert!(models.len() == 1 && models[0].contains("fewer than no"), "{column}: {models:?}");
    }
}

/// A row goes that is not there: a join that counts what it looks up under its key knows.
#[test]
fn joins_know_their_rows() {
    for kind in ["exists", "not exists"] {
        let sql = format!("select id from items where {kind} (select 1 from shops where shops.id = items.shop)");
        let (tables, models) = parked_by(&[ITEMS, SHOPS], &sql, "+ items 1 1 1", "- shops 1 1");
        assert!(tables.is_empty(), "{kind}: {tables:?}");
        assert!(models.len() == 1 && models[0].contains("fewer than no rows"), "{kind}: {models:?}");
    }
}
