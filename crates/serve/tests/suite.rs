//! Runs the case files: scripted answers behind the real servers, asked over real sockets.
//!
//! `tests/cases` needs nothing installed; `tests/psql` is run where a `psql` is found.

#![allow(clippy::unwrap_used, reason = "a broken case may panic")]
#![allow(clippy::let_underscore_must_use, reason = "writing into a String cannot fail")]

mod driver;

use std::path::PathBuf;

use libtest_mimic::Trial;

fn main() {
    let manifest = env!("CARGO_MANIFEST_DIR");
    let psql = PathBuf::from(manifest).join("tests/psql");
    let found =
        std::process::Command::new("psql").arg("--version").output().is_ok_and(|output| output.status.success());
    let trials = testkit::case_files(&psql).into_iter().map(|path| {
        let name = format!("psql/{}", path.file_stem().unwrap_or_default().display());
        let run = move || testkit::check(&path, &mut driver::Case::new(&path)).map_err(testkit::Failed::from);
        Trial::test(name, run).with_ignored_flag(!found)
    });
    testkit::run_with(manifest, "tests/cases", driver::Case::new, trials.collect())
}
