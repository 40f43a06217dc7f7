//! House rules: crate edges, ARCHITECTURE.md against what is there, a story on every file.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each crate may use of the workspace. A new edge is a design decision: note it in ARCHITECTURE.md too.
const EDGES: &[(&str, &[&str])] = &[
    ("relation", &[]),
    ("testkit", &[]),
    ("project", &[]),
    ("plan", &["relation"]),
    ("store", &["relation"]),
    ("query", &["relation", "plan", "store"]),
    ("engine", &["relation", "plan", "store", "query"]),
    ("connect", &["relation"]),
    ("page", &[]),
    ("serve", &["page", "relation"]),
    ("simulate", &["relation"]),
    ("app", &["relation", "project", "plan", "store", "query", "engine", "connect", "serve", "simulate"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn crates() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("crates")).unwrap().flatten();
    entries.filter(|e| e.path().join("Cargo.toml").is_file()).map(|e| e.file_name().into_string().unwrap()).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()) {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn edges_are_the_allowed_ones() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(name, edges)| (*name, edges.iter().copied().collect())).collect();
    let names = crates();
    for name in &names {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"));
        let dependencies = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let used: BTreeSet<&str> = dependencies
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|dependency| names.contains(*dependency))
            .collect();
        let allowed = allowed.get(name.as_str()).unwrap_or_else(|| panic!("crate {name} is not in EDGES"));
        assert!(used.is_subset(allowed), "{name} uses {used:?}, allowed are {allowed:?}");
    }
}

#[test]
fn architecture_names_every_crate_and_no_other() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let map = text.split("## The laws").next().unwrap();
    let named: BTreeSet<String> = map
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('`').nth(1))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, crates(), "the table of crates in ARCHITECTURE.md");
}

#[test]
fn functions_named_in_architecture_exist() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let files = crates().into_iter().flat_map(|c| sources(&root().join("crates").join(c).join("src")));
    let all: String = files.map(|path| read(&path)).collect();
    let mut checked = 0;
    for name in text.split('`').skip(1).step_by(2).filter(|code| code.ends_with("()")) {
        let function = name.trim_end_matches("()").rsplit("::").next().unwrap();
        assert!(all.contains(&format!("fn {function}")), "ARCHITECTURE.md names {name}, which is nowhere");
        checked += 1;
    }
    assert!(checked > 5, "the way of an order is followed through named functions");
}

#[test]
fn every_file_tells_its_story() {
    for name in crates() {
        for path in sources(&root().join("crates").join(&name)) {
            let text = read(&path);
            assert!(text.trim_start().starts_with("//!"), "{} begins without //!", path.display());
            assert!(!text.contains(concat!("dbg", "!(")), "{} has a debugging print", path.display());
        }
    }
}

#[test]
fn documents_name_no_machine() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(&root().join(name));
        for word in ["/work/", "/root/", "/home/"] {
            assert!(!text.contains(word), "{name} names the path {word} of some machine");
        }
    }
}

/// The words of the command line, as the enum of commands has them.
fn commands() -> BTreeSet<String> {
    let text = read(&root().join("crates/app/src/cli/mod.rs"));
    let body = text.split("enum Command {").nth(1).unwrap().split("\n}").next().unwrap();
    let variants = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = variants.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let name = |line: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_lowercase();
    names.map(name).collect()
}

/// Words behind `tidemill ` where it is a command: in hints and messages, in comments, in documents. What goes on in the
/// next line of a text is one text.
fn named_commands(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let words = joined.split("tidemill ").collect::<Vec<_>>();
    let mut found = Vec::new();
    for pair in words.windows(2) {
        let before = pair[0].chars().next_back().unwrap_or(' ');
        // The word store with a number is what a data folder says of its format.
        if before.is_alphanumeric()
            || matches!(before, '-' | '_' | '/' | '.')
            || pair[1].trim_start().starts_with("store")
        {
            continue;
        }
        let word: String = pair[1].trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        // An option before the command is none of its name.
        if !word.is_empty() && !word.starts_with('-') {
            found.push(word);
        }
    }
    found
}

#[test]
fn hints_name_commands_that_exist() {
    let commands = commands();
    assert!(commands.contains("up") && commands.contains("doctor"), "the commands are read: {commands:?}");
    let files = crates().into_iter().flat_map(|c| sources(&root().join("crates").join(c).join("src")));
    let documents = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let mut checked = 0;
    for path in files.chain(documents) {
        for word in named_commands(&read(&path)) {
            assert!(commands.contains(&word), "{} names `tidemill {word}`, which is no command", path.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} commands are named");
    assert_eq!(
        named_commands("run \\\n  `tidemill  restore`, or tidemill resnapshot --all"),
        ["restore", "resnapshot"]
    );
}

/// What `docs/troubles.md` begins with.
const TROUBLES: &str = "# What each surface says of a trouble

Made of the cases in `crates/app/tests/cases/trouble`, which run an instance into each trouble and ask every surface; none of them may
say that all is well. Above the trouble stand the model `revenue`, the view `today` over it, and a dashboard's tile over that: what is said of it stands where its line is pointed at. `N` is a number, `$PORT` a port.
What is not affected is not shown, and is as it was: a table that is parked stops what stands on it, and nothing else. In troubles of deliveries there is a sync
`revenue` of the model; a sync stops nothing but itself.

The state is told in the same words everywhere: `tidemill status` (and `--json`), the tables of the schema `tidemill`, `/health/readyz`,
`/metrics`, the line below the page's header, the graph and each node's page, be it a source's, a model's or a sync's. A statement that reads what is out of date is answered, with a warning
(`SET tidemill.on_stale = serve` leaves it out, `= error` has the statement fail); over HTTP the answer has the header `tidemill-stale`.
`/health/readyz` is 200 as long as there is something to answer with, however old, and says what is old; it is 503 until the first load.
";

/// `docs/troubles.md` as the cases say it: a section for each, a line for each surface.
fn troubles() -> String {
    let folder = root().join("crates/app/tests/cases/trouble");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()).collect();
    cases.sort();
    let mut out = TROUBLES.to_owned();
    for case in cases {
        let text = read(&case);
        let title = text.lines().next().unwrap().trim_start_matches("# ").trim_end_matches('.').to_owned();
        let answer = text.split_once("\nsurfaces ").and_then(|(_, rest)| rest.split_once("\n----\n")).unwrap().1;
        if answer.trim_start_matches('\n') != answer || answer.is_empty() {
            // Nobody has seen it yet: the case itself fails until it is answered.
            continue;
        }
        out.push_str(&format!("\n## {title}\n\n| where | what it says |\n| --- | --- |\n"));
        for line in answer.lines().take_while(|line| !line.is_empty()) {
            let (surface, said) = line.split_once(": ").unwrap();
            out.push_str(&format!("| {surface} | {} |\n", said.replace('|', "\\|").replace('<', "&lt;")));
        }
    }
    out
}

#[test]
fn troubles_are_told_as_the_cases_have_seen_them() {
    let path = root().join("docs/troubles.md");
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(&path, troubles()).unwrap();
    }
    assert_eq!(read(&path), troubles(), "UPDATE=1 writes it anew");
}

/// Runs `scripts/failures` over the output of tests.
fn failures(log: &str) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut script = Command::new(root().join("scripts/failures"));
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_failed_is_said_once_more_at_the_end() {
    let log = read(&root().join("crates/app/tests/failures/log.txt"));
    let path = root().join("crates/app/tests/failures/said.txt");
    if std::env::var("UPDATE").is_ok_and(|update| update == "1") {
        std::fs::write(&path, failures(&log)).unwrap();
    }
    assert_eq!(failures(&log), read(&path), "UPDATE=1 writes it anew");
    assert_eq!(
        failures("     Running a\ntest one ... ok\nerror: in passing\n\ntest result: ok. 1 passed; 0 failed\n"),
        ""
    );
    // However much failed, its end can still be seen.
    let test = format!("---- one ----\n{}\n", "a line\n".repeat(60));
    let many = failures(&format!("     Running a\n\nfailures:\n\n{}\nfailures:\n", test.repeat(30)));
    assert!(
        many.lines().count() <= 220 && many.contains("more lines of it") && many.contains("more failures"),
        "{many}"
    );
}
