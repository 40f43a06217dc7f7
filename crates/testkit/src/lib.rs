//! Case files and their runner: a test is a text file, an answer is what stands behind `----`.
//!
//! ```text
//! # A comment; comments and empty lines stay as they are.
//! directive argument argument
//! body line
//! ----
//! answer line
//! ```
//!
//! A block ends at the first empty line after `----`; an answer that itself has empty lines is written between two
//! `----` lines (`----`, `----`, answer, `----`, `----`). A block without `----` has no answer to check, its body ends
//! at the empty line. [`run`] finds the files at run time, gives each to the driver as one trial, compares answers, and
//! rewrites them when `UPDATE=1` is set.

mod rng;

use std::path::{Path, PathBuf};

pub use libtest_mimic::Failed;
use libtest_mimic::{Arguments, Trial};
pub use rng::Rng;

/// One directive of a case file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// First word of the directive line.
    pub directive: String,
    /// The other words of that line.
    pub arguments: Vec<String>,
    /// Lines between the directive and `----`, joined with newlines.
    pub body: String,
    /// The expected answer; none where the block has no `----`.
    pub answer: Option<String>,
    /// 1-based line of the directive.
    pub line: usize,
}

/// What a driver does with one case file: it gets the blocks in order and answers each.
///
/// A driver returns the answer of a block as text, without a trailing newline. It reports trouble that is no answer
/// (a broken case, a violated invariant) as `Err`.
pub trait Driver {
    /// Runs one block.
    fn block(&mut self, block: &Block) -> Result<String, String>;

    /// Runs after the last block: checks over the whole case.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Runs all `*.case` files under `dir` (relative to the crate's manifest, recursive), each with a driver of its own,
/// and exits with the result. `make` gets the path of the case.
pub fn run<D: Driver + 'static>(manifest_dir: &str, dir: &str, make: fn(&Path) -> D) -> ! {
    run_with(manifest_dir, dir, make, Vec::new())
}

/// As [`run`], with further trials beside the files.
pub fn run_with<D: Driver + 'static>(manifest_dir: &str, dir: &str, make: fn(&Path) -> D, extra: Vec<Trial>) -> ! {
    let arguments = Arguments::from_args();
    let root = Path::new(manifest_dir).join(dir);
    let mut trials = extra;
    for path in case_files(&root) {
        let name = path.strip_prefix(&root).unwrap_or(&path).with_extension("").display().to_string();
        trials.push(Trial::test(name, move || check(&path, &mut make(&path)).map_err(Failed::from)));
    }
    libtest_mimic::run(&arguments, trials).exit()
}

/// All case files below a folder, sorted.
pub fn case_files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(root) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(case_files(&path));
        } else if path.extension().is_some_and(|e| e == "case") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Runs one file through a driver, compares the answers, or rewrites them with `UPDATE=1`.
pub fn check(path: &Path, driver: &mut dyn Driver) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1");
    let mut rewritten = String::new();
    let mut failures = String::new();
    for piece in pieces(&text) {
        match piece {
            Piece::Verbatim(line) => {
                rewritten.push_str(line);
                rewritten.push('\n');
            }
            Piece::Block(block) => {
                let got = driver.block(&block).map_err(|e| format!("{}:{}: {e}", path.display(), block.line))?;
                let got = got.trim_end_matches('\n');
                print_block(&mut rewritten, &block, got);
                let expected = block.answer.as_deref().unwrap_or("");
                if block.answer.is_none() && !got.is_empty() {
                    failures.push_str(&format!("{}:{}: unexpected answer:\n{got}\n", path.display(), block.line));
                } else if expected != got {
                    failures.push_str(&format!(
                        "{}:{}: {}\n{}--- expected\n{expected}\n--- got\n{got}\n",
                        path.display(),
                        block.line,
                        block.directive,
                        first_difference(expected, got)
                    ));
                }
            }
        }
    }
    driver.finish().map_err(|e| format!("{}: {e}", path.display()))?;
    if update {
        return std::fs::write(path, rewritten).map_err(|e| e.to_string());
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Where two answers part, for whoever sees the beginning of a long failure only.
fn first_difference(expected: &str, got: &str) -> String {
    let (mut expected, mut got) = (expected.lines(), got.lines());
    let mut line = 1;
    loop {
        match (expected.next(), got.next()) {
            (Some(was), Some(is)) if was == is => line += 1,
            (None, None) => return String::new(),
            (was, is) => {
                let [was, is] = [was, is].map(|side| side.unwrap_or("(the end)"));
                return format!("they part at line {line} of the answer:\n- {was}\n+ {is}\n");
            }
        }
    }
}

/// The blocks of a case file, without comments and empty lines.
pub fn blocks(text: &str) -> Vec<Block> {
    let blocks = pieces(text).into_iter().filter_map(|piece| match piece {
        Piece::Block(block) => Some(block),
        Piece::Verbatim(_) => None,
    });
    blocks.collect()
}

enum Piece<'a> {
    Verbatim(&'a str),
    Block(Block),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.trim().is_empty() || line.starts_with('#') {
            out.push(Piece::Verbatim(line));
            at += 1;
            continue;
        }
        let (block, next) = block_at(&lines, at);
        out.push(Piece::Block(block));
        at = next;
    }
    out
}

fn block_at(lines: &[&str], start: usize) -> (Block, usize) {
    let mut words = lines[start].split_whitespace().map(str::to_owned);
    let directive = words.next().unwrap_or_default();
    let mut at = start + 1;
    let body_start = at;
    // A body may hold empty lines only where `----` follows before the next empty line is a new directive: the body
    // of a block that has an answer runs to its `----`, one that has none to the first empty line.
    while at < lines.len() && lines[at] != "----" && !lines[at].is_empty() {
        at += 1;
    }
    let body = lines[body_start..at].join("\n");
    let mut answer = None;
    if at < lines.len() && lines[at] == "----" {
        at += 1;
        let long = at < lines.len() && lines[at] == "----";
        if long {
            at += 1;
        }
        let answer_start = at;
        while at < lines.len() && if long { lines[at] != "----" } else { !lines[at].is_empty() } {
            at += 1;
        }
        answer = Some(lines[answer_start..at].join("\n"));
        if long {
            at += 2;
        }
    }
    (Block { directive, arguments: words.collect(), body, answer, line: start + 1 }, at.min(lines.len()))
}

fn print_block(out: &mut String, block: &Block, answer: &str) {
    let words = std::iter::once(&block.directive).chain(&block.arguments).map(String::as_str);
    out.push_str(&words.collect::<Vec<_>>().join(" "));
    out.push('\n');
    if !block.body.is_empty() {
        out.push_str(&block.body);
        out.push('\n');
    }
    if block.answer.is_some() || !answer.is_empty() {
        out.push_str("----\n");
        let long = answer.split('\n').any(str::is_empty) && !answer.is_empty();
        if long {
            out.push_str("----\n");
        }
        if !answer.is_empty() {
            out.push_str(answer);
            out.push('\n');
        }
        if long {
            out.push_str("----\n----\n");
        }
    }
}
