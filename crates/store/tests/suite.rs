//! The store's tests: case files through one driver, and trials that no text file can hold (random, killed, full disk).
//!
//! ```text
//! open [option=value …]        opens (again); what the log has is committed again; answers with step and fold
//! step N                       body: put T K V | delete T K | drop T | fill T FROM TO V; appended, then committed
//! append N | commit N          one half of a step
//! hidden N                     a step of a chain; working READ… is what the engine sees
//! prepared N                   a step of portions divided by `--`, all but the last prepared
//! writers N                    a step of writers divided by `--`, each left out alone if it must be refused
//! fold | idle | crash          crash closes without a fold
//! get T K | scan T [PREFIX] | rev T [PREFIX] | range T FROM TO | count T
//! snapshot NAME … at NAME get T K | at NAME scan T [PREFIX]
//! hot T K                      the cache's answer, which must be the snapshot's
//! log [AFTER] | tear BYTES | flip SEGMENT BYTE | lose SEGMENT | segments | stats
//! catalog                      body: add KIND NAME IDENTITY COLUMNS… | rename ID NAME | remove ID | list
//! ```
//! Every answer of a read is compared with a `BTreeMap` that took the same steps, and the whole store at the end.

mod support;

use std::path::Path;

use libtest_mimic::Trial;

fn main() {
    if support::child::is_child() {
        support::child::main();
        return;
    }
    let mut extra: Vec<Trial> = Vec::new();
    extra.extend(support::property::trials());
    extra.extend(support::kill::trials());
    extra.extend(support::damage::trials());
    extra.extend(support::faults::trials());
    extra.extend(support::records::trials());
    extra.extend(support::stages::trials());
    testkit::run_with(env!("CARGO_MANIFEST_DIR"), "tests/cases", driver, extra);
}

fn driver(_: &Path) -> support::driver::StoreDriver {
    support::driver::StoreDriver::new()
}
