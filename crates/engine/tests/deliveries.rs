//! Random walks over outboxes: steps, versions put in place and taken back, restarts with and without folds, and another side that
//! answers, does not, refuses, and loses what it had. Laws, besides those of [`house::delivery`]: after any walk, when all is
//! delivered, the other side has what the relation has, but for what it refused; a restart leaves each outbox as it was, byte by byte.
//!
//! A walk that fails is printed as a case file, cut down to acts that are needed. `SEEDS=FROM-TO` takes others.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod house;

use std::panic::{AssertUnwindSafe, catch_unwind};

use house::delivery::Fate;
use house::story::{Act, Change, Piece};
use house::{Host, House, Mode};
use testkit::Rng;

const ITEMS: &str = "items(id bigint primary key, shop bigint, n bigint, s text)";

/// Words for one model, all with the key of the table; and of another one.
const PICKED: [&str; 4] = [
    "select id, n, s from items",
    "select id, n, s from items where n > 1",
    "select id, n % 2 as n, s from items",
    "select id, n, s from items where shop = 1",
];
const TOTALS: [&str; 2] = [
    "select shop, count(*) as rows, sum(n) as n from items group by shop",
    "select shop, max(n) as n from items group by shop",
];

/// Items of the walk so far, as the source has them.
type Items = std::collections::BTreeMap<usize, [String; 4]>;

fn row(rng: &mut Rng, id: usize) -> [String; 4] {
    let word = ["a", "b", "a long word that is no one's key"];
    [id.to_string(), rng.between(1, 3).to_string(), rng.below(4).to_string(), (*rng.pick(&word)).to_owned()]
}

fn piece(values: &[String; 4], weight: i8) -> Piece {
    Piece::Row(Change { table: "items".to_owned(), values: values.to_vec(), weight })
}

/// Some changes of items, an update as a pair.
fn changes(rng: &mut Rng, items: &mut Items) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for _ in 0..rng.between(1, 5) {
        let id = rng.below(12);
        let before = items.remove(&id);
        pieces.extend(before.iter().map(|values| piece(values, -1)));
        if before.is_none() || rng.chance(65) {
            let after = row(rng, id);
            pieces.push(piece(&after, 1));
            items.insert(id, after);
        }
    }
    pieces
}

/// `sealed`: the other side has a portion with its marker or not at all.
fn portion(rng: &mut Rng, sealed: bool) -> Act {
    let mut fates = vec![
        Fate::Done,
        Fate::Unanswered,
        Fate::Unsent,
        Fate::Unknown,
        Fate::Later,
        Fate::Half,
        Fate::Refuse(rng.below(12).to_string()),
    ];
    fates.extend((!sealed).then_some(Fate::Unmarked));
    Act::Portion { name: (*rng.pick(&OUTBOXES)).to_owned(), rows: rng.between(1, 4), fate: rng.pick(&fates).clone() }
}

const OUTBOXES: [&str; 3] = ["picked", "totals", "all"];

fn outboxes(rng: &mut Rng) -> Vec<Act> {
    let bound = |rng: &mut Rng| match rng.chance(30) {
        true => format!("bound={}", rng.between(20, 150)),
        false => "bound=1000000".to_owned(),
    };
    let words = |rng: &mut Rng, words: &[&str]| {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.push(bound(rng));
        words
    };
    let outbox = |name: &str, words| Act::Outbox { name: name.to_owned(), words };
    vec![
        outbox("picked", words(rng, &["picked", "id", "n"])),
        outbox("totals", words(rng, &["totals", "shop", "n"])),
        outbox("all", words(rng, &["items", "id", "s"])),
    ]
}

fn tale(seed: u64) -> Vec<Act> {
    let mut rng = Rng::new(seed);
    let rng = &mut rng;
    let (name, schema) = plan::parse_table_definition(ITEMS).unwrap();
    let mut items = Items::new();
    for id in 0..rng.below(8) {
        items.insert(id, row(rng, id));
    }
    let loaded = items.values().map(|values| match piece(values, 1) {
        Piece::Row(change) => change,
        other => panic!("{other:?}"),
    });
    let model = |name: &str, sql: &str| Act::Model { name: name.to_owned(), sql: sql.to_owned() };
    let mut acts = vec![
        Act::Table { name: name.name, schema, loading: false },
        model("picked", PICKED[0]),
        model("totals", TOTALS[0]),
        Act::Load(loaded.collect()),
    ];
    acts.extend(outboxes(rng));
    let tell = |name: &str, word: String| Act::Tell { name: name.to_owned(), word };
    let sealed = rng.chance(50);
    for name in OUTBOXES {
        if sealed {
            acts.push(tell(name, "sealed".to_owned()));
        }
        if rng.chance(50) {
            acts.push(tell(name, (*rng.pick(&["ahead", "ahead=late"])).to_owned()));
        }
        // Most of them have a guard.
        if rng.chance(60) {
            acts.push(tell(name, format!("allow={}", rng.below(3))));
        }
    }
    for _ in 0..rng.between(10, 45) {
        match rng.weighted(&[30, 30, 10, 8, 4, 5, 3, 6, 3, 3, 3, 3]) {
            0 => acts.push(Act::Step(vec![changes(rng, &mut items)])),
            1 => acts.push(portion(rng, sealed)),
            2 => acts.push(Act::Deliver { name: (*rng.pick(&OUTBOXES)).to_owned(), rows: rng.between(1, 5) }),
            3 => acts.push(Act::Restart { folded: rng.chance(40) }),
            4 => acts.push(Act::Fold),
            5 => {
                acts.push(model("picked", rng.pick::<&str>(&PICKED)));
                acts.push(model("totals", rng.pick::<&str>(&TOTALS)));
                acts.push(Act::Propose);
            }
            6 => acts.push(Act::Rollback),
            7 => {
                let word = ["pause", "resume", "refill", "lost", "retry", "resume", "resume", "allow=1", "calm"];
                let (name, word) = (*rng.pick(&OUTBOXES), *rng.pick(&word));
                acts.push(Act::Tell { name: name.to_owned(), word: word.to_owned() });
            }
            8 => {
                let mut parts = vec![changes(rng, &mut items), changes(rng, &mut items)];
                if rng.chance(30) {
                    items.clear();
                    parts.push(vec![Piece::Truncate("items".to_owned())]);
                    parts.push(changes(rng, &mut items));
                }
                acts.push(Act::Chain(parts));
            }
            9 => {
                // The same, with another bound, another mapping, or other columns.
                let mut again = outboxes(rng);
                let mut one = again.swap_remove(rng.below(3));
                if let Act::Outbox { words, .. } = &mut one {
                    match rng.below(3) {
                        0 => words.push(format!("mapping={}", rng.between(1, 3))),
                        1 if words[0] == "picked" => words.push("s".to_owned()),
                        _ => {}
                    }
                }
                acts.push(one);
            }
            10 => {
                // Wanted no more, and wanted again.
                let again = outboxes(rng).swap_remove(rng.below(3));
                if let Act::Outbox { name, .. } = &again {
                    acts.push(Act::Tell { name: name.clone(), word: "retire".to_owned() });
                }
                acts.push(Act::Step(vec![changes(rng, &mut items)]));
                acts.push(again);
            }
            _ => acts.extend([
                Act::Step(vec![vec![Piece::Reload("items".to_owned())]]),
                Act::Step(vec![vec![Piece::Chunk {
                    table: "items".to_owned(),
                    rows: items.values().map(|values| values.to_vec()).collect(),
                    unread: Vec::new(),
                    complete: true,
                }]]),
                Act::Step(vec![vec![Piece::Sweep { table: "items".to_owned(), whole: true }]]),
            ]),
        }
    }
    acts
}

/// Plays a tale; the first law that does not hold.
fn play(host: &Host, acts: &[Act], mode: Mode) -> Result<(), String> {
    let mut house = House::new(host, mode)?;
    for act in acts {
        // A restart takes back what is in no record and not folded: only what has both can be compared.
        let comparable = matches!(act, Act::Restart { .. }) && !house.engine().has_unlogged();
        let before = if comparable { bytes(&mut house)? } else { Vec::new() };
        if comparable && matches!(act, Act::Restart { .. }) {
            house.reopen()?;
            if bytes(&mut house)? != before {
                return Err("a restart has changed an outbox".to_owned());
            }
        }
        house.act(act)?;
        let names: Vec<String> = house.deliveries.keys().cloned().collect();
        names.iter().try_for_each(|name| house.check_counts(name))?;
    }
    house.finish_sweeps()?;
    house.finish_builds()?;
    house.check_all_delivered()?;
    house.restart(false)?;
    house.check_all_delivered()
}

fn bytes(house: &mut House) -> Result<Vec<Vec<(Vec<u8>, Vec<u8>)>>, String> {
    let names: Vec<String> = house.deliveries.keys().cloned().collect();
    names.iter().map(|name| house.outbox_bytes(name)).collect()
}

fn failure(host: &Host, acts: &[Act], mode: Mode) -> Option<String> {
    let played = catch_unwind(AssertUnwindSafe(|| play(host, acts, mode)));
    played.unwrap_or_else(|_| Err("it panics".to_owned())).err()
}

/// Acts without those that are not needed for a failure of the same kind.
fn shrunk(host: &Host, mut acts: Vec<Act>, mode: Mode, failed: &str) -> Vec<Act> {
    let kind = |text: &str| text.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ");
    let mut at = acts.len();
    while at > 0 {
        at -= 1;
        if matches!(acts[at], Act::Table { .. } | Act::Load(_)) {
            continue;
        }
        let mut fewer = acts.clone();
        fewer.remove(at);
        if failure(host, &fewer, mode).is_some_and(|now| kind(&now) == kind(failed)) {
            acts = fewer;
            at = at.min(acts.len());
        }
    }
    acts
}

fn walk(seed: u64, host: &Host) {
    let mode = match seed % 4 {
        0 => Mode { fold_built: true, ..Mode::default() },
        1 => Mode { parts: true, emptied_rows_max: 2, ..Mode::default() },
        2 => Mode { beside: 1, ..Mode::default() },
        _ => Mode::default(),
    };
    let acts = tale(seed);
    if let Some(failed) = failure(host, &acts, mode) {
        let acts = shrunk(host, acts, mode, &failed);
        let why = failure(host, &acts, mode).unwrap_or_default();
        let story: Vec<String> = acts.iter().map(Act::text).collect();
        panic!("seed {seed}: {failed}\nshrunk: {why}\n\n{}", story.join("\n"));
    }
}

#[test]
fn walks_end_with_what_the_relation_has() {
    let seeds = std::env::var("SEEDS").unwrap_or_else(|_| "0-150".to_owned());
    let (from, to) = seeds.split_once('-').unwrap();
    let host = Host::new().unwrap();
    (from.parse().unwrap()..to.parse().unwrap()).for_each(|seed| walk(seed, &host));
}

fn story(text: &str) -> Vec<Act> {
    testkit::blocks(text).iter().map(|block| Act::of(block).unwrap().unwrap()).collect()
}

fn told(host: &Host, text: &str) -> House {
    let mut house = House::new(host, Mode::default()).unwrap();
    story(text).iter().for_each(|act| house.act(act).unwrap());
    house
}

/// A key that is cut where it is stored does not hold its values: they are kept for the deletion.
#[test]
fn a_long_key_is_deleted_too() {
    let long = |end: &str| format!("{}{end}", "k".repeat(2_000));
    let (one, two) = (long("1"), long("2"));
    let begin =
        format!("table\nt(k text primary key, v text)\n\nrows\n+ t {one} a\n+ t {two} b\n\noutbox o t\n\ndeliver o\n");
    let mut house = told(&Host::new().unwrap(), &begin);
    assert_eq!(house.delivery("o").unwrap().target.len(), 2);
    story(&format!("step\n- t {one} a\n")).iter().for_each(|act| house.act(act).unwrap());
    assert_eq!(house.deliver("o", 10).unwrap(), [format!("- {one}")]);
    // Of one whose answer was lost as well: an unknown row of it may be there.
    story(&format!("step\n- t {two} b\n+ t {two} c\n\nportion o unknown\n\nstep\n- t {two} c\n")).iter().for_each(
        |act| {
            house.act(act).unwrap();
        },
    );
    assert_eq!(house.deliver("o", 10).unwrap(), [format!("- {two}")]);
    house.check_all_delivered().unwrap();
}

const SMALL: &str = "table\nt(id bigint primary key, v text)\n\nrows\n+ t 1 a\n\noutbox o t\n";

/// What another folder has given to the other side is told from ours by the marker; so is an older copy of ours.
#[test]
fn markers_tell_whose_they_are() {
    let host = Host::new().unwrap();
    let mut first = told(&host, SMALL);
    first.deliver("o", 10).unwrap();
    let marker = first.delivery("o").unwrap().marker.clone().unwrap();

    let mut second = told(&host, SMALL);
    second.engine().detach_outbox("o").unwrap();
    let definition = House::definition("o", &["t".to_owned(), "id".to_owned(), "v".to_owned()]).unwrap();
    second.attach(definition).unwrap();
    second.delivery("o").unwrap().marker = Some(marker.clone());
    assert_eq!(second.deliver("o", 10).unwrap(), ["+ 1 a"]);
    assert!(second.delivery("o").unwrap().is_foreign);
    let ours = second.delivery("o").unwrap().marker.clone().unwrap();
    assert_ne!(ours, marker);

    // The other side was restored from a copy.
    second.act(&story("step\n+ t 2 b\n")[0]).unwrap();
    assert_eq!(second.deliver("o", 10).unwrap(), ["+ 2 b"]);
    let delivery = second.delivery("o").unwrap();
    delivery.marker = Some(ours);
    delivery.target.remove("2");
    second.restart(true).unwrap();
    assert_eq!(second.deliver("o", 10).unwrap(), ["+ 1 a", "+ 2 b"]);
    assert_eq!(
        second.delivered("o").unwrap().lines().last().unwrap(),
        "4 accepted, 0 removed, 0 refused so far; generation 1"
    );
}
