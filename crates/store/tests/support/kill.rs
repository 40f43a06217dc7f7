//! A process is killed at random moments while it appends, commits and folds: every acknowledged step is there
//! afterwards, and nothing is there by halves.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use store::Store;

use super::Random;
use super::child::{DIR, LASTING, ROLE, incarnation, ops, options};
use super::model::{Model, compare, to_text, writes};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("kill/at_random_moments", || killed(12, 1)),
        Trial::test("kill/early_and_often", || killed(12, 2)),
        Trial::test("full/log_and_fold", full_disk),
        Trial::test("full/fold_within_a_chain", full_in_a_chain),
        Trial::test("full/whole_file_system", full_file_system),
    ]
}

fn spawn(role: &str, dir: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(ROLE, role).env(DIR, dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn killed(rounds: u64, seed: u64) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mut random = Random::new(seed);
    let mut model = Model::default();
    let mut at = 0;
    for round in 0..rounds {
        let acknowledged = run_and_kill(dir.path(), &mut random, if seed == 2 { 40 } else { 250 })?.max(at);
        at = verify(dir.path(), &mut model, at, round.is_multiple_of(3)).map_err(|e| format!("round {round}: {e}"))?;
        if at < acknowledged {
            return Err(format!("round {round}: step {acknowledged} was acknowledged, the store has {at}").into());
        }
    }
    if at < 50 { Err("the child got nowhere".into()) } else { Ok(()) }
}

/// The newest step that the child acknowledged.
fn run_and_kill(dir: &Path, random: &mut Random, steps: u64) -> Result<u64, Failed> {
    let mut child = spawn("write", dir)?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let (sender, acks) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line.parse::<u64>().unwrap_or(0)).is_err() {
                return;
            }
        }
    });
    let mut newest = 0;
    for _ in 0..1 + random.below(steps) {
        match acks.recv_timeout(Duration::from_secs(60)) {
            Ok(step) => newest = step,
            Err(_) => break,
        }
    }
    // Somewhere within the next steps, or within the fold that they start.
    newest = wait(&acks, Duration::from_micros(random.below(20_000))).unwrap_or(newest);
    child.kill()?;
    let output = child.wait_with_output()?;
    reader.join().map_err(|_| "the reader failed")?;
    newest = acks.try_iter().last().unwrap_or(newest);
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("panicked") { Err(format!("the child failed by itself: {words}").into()) } else { Ok(newest) }
}

/// Listens for a while; the newest step heard.
fn wait(acks: &Receiver<u64>, time: Duration) -> Option<u64> {
    let mut newest = None;
    let mut left = time;
    while !left.is_zero() {
        let slice = left.min(Duration::from_micros(200));
        left -= slice;
        match acks.recv_timeout(slice) {
            Ok(step) => newest = Some(step),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return newest,
        }
    }
    newest
}

/// Opens what the killed process left, and compares all of it. The step it stands at.
fn verify(dir: &Path, model: &mut Model, known: u64, fold: bool) -> Result<u64, String> {
    let text = |e: store::Error| format!("{e} {:?}", e.hint());
    let store = Store::open(dir, options()).map_err(text)?;
    for item in store.replay().map_err(text)? {
        let (step, record) = item.map_err(text)?;
        let ops = ops(step);
        if record != to_text(&ops).as_bytes() {
            return Err(format!("the record of step {step} is not what was appended"));
        }
        store.commit(step, writes(&ops)).map_err(text)?;
    }
    let step = store.snapshot().step();
    for step in known + 1..=step {
        model.apply(step, &ops(step));
    }
    model.states.retain(|s, _| *s == step);
    let mut tables: BTreeSet<u32> = LASTING.into();
    tables.extend(1000..=incarnation(step));
    let tables: Vec<u32> = tables.into_iter().collect();
    let expected = model.at(step);
    compare(&store.snapshot(), &expected, &tables)?;
    if fold {
        store.compact().map_err(text)?;
        compare(&store.snapshot(), &expected, &tables)?;
    }
    Ok(step)
}

/// Runs a role to its end; it must say so.
fn run_to_the_end(role: &str, dir: &Path) -> Result<(), Failed> {
    // A limit on file sizes stands for the full disk; the signal that comes with it must be ignored.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\""])
        .arg(std::env::current_exe()?)
        .env(ROLE, role)
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = child.wait_with_output()?;
    if output.status.success() && output.stdout == b"done\n" {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

fn full_in_a_chain() -> Result<(), Failed> {
    run_to_the_end("chain", tempfile::tempdir()?.path())
}

/// Where this process may mount a small file system; elsewhere it says so and does nothing.
fn full_file_system() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(dir.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        use std::io::Write as _;
        let said = "full/whole_file_system: skipped, this process may not mount a file system";
        writeln!(std::io::stderr(), "{said}")?;
        return Ok(());
    }
    let outcome = run_to_the_end("small", dir.path());
    let unmounted = Command::new("umount").arg(dir.path()).status()?;
    if unmounted.success() { outcome } else { Err("the file system is still in use".into()) }
}

fn full_disk() -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    run_to_the_end("full", dir.path())?;
    // What it left is whole.
    let store = Store::open(dir.path(), options())?;
    let mut steps = Vec::new();
    for item in store.replay()? {
        steps.push(item?.0);
    }
    if steps.last().copied().unwrap_or(store.snapshot().step()) == 6 {
        Ok(())
    } else {
        Err(format!("{steps:?}").into())
    }
}
