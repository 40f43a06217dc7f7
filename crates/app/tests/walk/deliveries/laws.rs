//! What is counted of all that was written to one place.
//!
//! - No pair of key and version is there twice, where each counts once.
//! - No version of a key is behind a larger one.
//! - A key goes only if it was there, where each counts once.
//! - No step of a key is behind a larger one.

use std::collections::BTreeMap;

/// What was written last under a key.
struct Last {
    version: u64,
    step: Option<u64>,
    is_gone: bool,
}

/// How many places of a law's breach are told.
const TOLD_MAX: usize = 10;

#[derive(Default)]
pub(super) struct Laws {
    last: BTreeMap<String, Last>,
    /// Writes, and keys that went.
    pub(super) written: u64,
    breaches: usize,
    told: Vec<String>,
}

impl Laws {
    /// A row was written.
    pub(super) fn there(&mut self, key: &str, version: u64, step: Option<u64>, is_exact: bool) {
        self.written += 1;
        if let Some(last) = self.last.get(key) {
            let (before, before_step) = (last.version, last.step);
            if version < before {
                self.breach(format!("{key} goes back from version {before} to {version}"));
            }
            if version == before && is_exact {
                self.breach(format!("{key} has version {version} twice (steps {before_step:?} and {step:?})"));
            }
            if step < before_step {
                self.breach(format!("{key} goes back from step {before_step:?} to {step:?}"));
            }
        }
        self.last.insert(key.to_owned(), Last { version, step, is_gone: false });
    }

    /// A row was taken away.
    pub(super) fn gone(&mut self, key: &str, step: Option<u64>, is_exact: bool) {
        self.written += 1;
        let (is_there, before) = match self.last.get_mut(key) {
            Some(last) => {
                let before = std::mem::replace(&mut last.step, step);
                (!std::mem::replace(&mut last.is_gone, true), before)
            }
            None => (false, None),
        };
        if !is_there && is_exact {
            self.breach(format!("{key} goes, and was not there (step {step:?}, and before {before:?})"));
        }
        if step < before {
            self.breach(format!("{key} goes back from step {before:?} to {step:?}"));
        }
    }

    fn breach(&mut self, told: String) {
        self.breaches += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(told);
        }
    }

    /// Everything that is against the laws.
    pub(super) fn trouble(&self, place: &str) -> String {
        let head = match self.breaches {
            0 => return String::new(),
            many => format!("{place}: {many} times against the laws\n"),
        };
        self.told.iter().fold(head, |text, line| format!("{text}  {line}\n"))
    }
}
