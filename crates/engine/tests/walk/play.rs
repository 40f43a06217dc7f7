//! Plays a story and holds the laws against it.
//!
//! After every act: tables hold what a plain map of them says, and what can be live is. Where it is looked: every model
//! equals the batch engine's answer, and every state, index and count equals its rebuild in a house of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::house::story::{Act, in_one_step, piece_by_piece};
use crate::house::{Host, House, Mode, difference, states};
use crate::ledger::Ledger;
use testkit::Rng;

/// A law that did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// Which, in few words: failures of one kind are taken for the same.
    pub(crate) kind: String,
    pub(crate) text: String,
    /// The act after which it was seen.
    pub(crate) act: usize,
}

/// When models and states are looked at; they always are at the end.
#[derive(Clone, Copy)]
pub(crate) enum Looks {
    /// Nowhere else.
    AtEnd,
    /// After some acts, by a seed: a query costs a hundred times what a step does.
    Some(u64),
    /// After every act the models, and the states too if asked for.
    All { states: bool },
}

/// The same acts, cut otherwise into steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    AsTold,
    InOneStep,
    PieceByPiece,
}

impl Cut {
    pub(crate) fn of(self, acts: &[Act]) -> Vec<Act> {
        match self {
            Self::AsTold => acts.to_vec(),
            Self::InOneStep => in_one_step(acts),
            Self::PieceByPiece => piece_by_piece(acts),
        }
    }
}

/// Plays a mended story; none where all laws hold.
pub(crate) fn play(host: &Host, acts: &[Act], mode: Mode, looks: Looks) -> Option<Failure> {
    let mut at = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| walk(host, acts, mode, looks, &mut at)));
    let (kind, text) = match outcome {
        Ok(Ok(())) => return None,
        Ok(Err(failed)) => failed,
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            (format!("panic: {}", words_of(&said)), said)
        }
    };
    Some(Failure { kind, text, act: at })
}

fn walk(host: &Host, acts: &[Act], mode: Mode, looks: Looks, at: &mut usize) -> Result<(), (String, String)> {
    let mut house = House::new(host, mode).map_err(failed("run"))?;
    let mut ledger = Ledger::default();
    let mut chance = Rng::new(match looks {
        Looks::Some(seed) => seed,
        Looks::All { .. } | Looks::AtEnd => 0,
    });
    for (i, act) in acts.iter().enumerate() {
        *at = i;
        ledger.play(act);
        house.act(act).map_err(failed("run"))?;
        if matches!(act, Act::Table { .. } | Act::Model { .. }) {
            continue;
        }
        ledger.swept(&house.complete_tables());
        tables(&mut house, &ledger)?;
        if mode.beside == 0 {
            house.check_live().map_err(failed("live"))?;
        }
        let (models, all) = match looks {
            Looks::AtEnd => (false, false),
            Looks::Some(_) => (chance.chance(8), chance.chance(2)),
            Looks::All { states } => (true, states),
        };
        if models {
            house.check_stored().map_err(failed("models"))?;
        }
        if all && mode.beside == 0 {
            rebuilt(&mut house, &ledger)?;
        }
    }
    house.finish_builds().map_err(failed("live"))?;
    house.check_stored().map_err(failed("models"))?;
    // Put in place while it ran, nodes stand in another order than in a house of its own.
    if house.is_between_versions() {
        house.restart(true).map_err(failed("run"))?;
    }
    rebuilt(&mut house, &ledger)
}

fn tables(house: &mut House, ledger: &Ledger) -> Result<(), (String, String)> {
    let altered = house.altered_tables();
    let kept = house.table_contents().map_err(failed("tables"))?;
    let wanted = ledger.contents(&kept, &altered);
    if kept != wanted {
        return Err(("tables".to_owned(), format!("stored (+) against told (-):\n{}", difference(&wanted, &kept))));
    }
    let unread = house.unread_rows(&altered).map_err(failed("rejects"))?;
    let told = ledger.unread(&unread, &altered);
    if unread == told {
        return Ok(());
    }
    Err(("rejects".to_owned(), format!("kept (+) against told (-):\n{}", difference(&told, &unread))))
}

/// Every state equals its rebuild over the same rows. Not while models wait for a table that is loaded again, or for their
/// turn to serve: a house of its own would have them already, and in another order.
fn rebuilt(house: &mut House, ledger: &Ledger) -> Result<(), (String, String)> {
    if house.is_between_versions() || !house.altered_tables().is_empty() || ledger.is_in_doubt() && !house.all_live() {
        return Ok(());
    }
    let stored = house.table_contents().map_err(failed("tables"))?;
    let whole = house.whole_tables();
    let mut anew = house.rebuilt(&ledger.rows(&stored, &whole)).map_err(failed("rebuild"))?;
    let kept = states::of(house.engine()).map_err(failed("states"))?;
    let built = states::of(anew.engine()).map_err(failed("states"))?;
    match states::difference(&kept, &built) {
        None => Ok(()),
        Some(text) => {
            let (name, _) = text.split_once('\n').unwrap_or((&text, ""));
            let what = name.split(": ").nth(1).unwrap_or(name);
            Err((format!("states: {}", words_of(what)), text))
        }
    }
}

/// A failure of a kind: for what the engine says in words the words count, without names and numbers.
fn failed(law: &'static str) -> impl Fn(String) -> (String, String) {
    move |text| {
        let said = match law {
            "models" if text.starts_with("kept") => String::new(),
            _ => format!(": {}", words_of(&text)),
        };
        (format!("{law}{said}"), text)
    }
}

/// The first words of a message, without what differs from case to case.
fn words_of(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let words = line.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.take(12).collect::<Vec<_>>().join(" ")
}
