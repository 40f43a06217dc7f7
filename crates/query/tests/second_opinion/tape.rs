//! Choices as a tape of numbers: a question is a function of its tape, so a shorter tape is a simpler question.

use testkit::Rng;

/// Reads a tape; past its end every choice is the first.
pub(crate) struct Tape<'t> {
    choices: &'t [u16],
    at: usize,
}

impl<'t> Tape<'t> {
    pub(crate) fn new(choices: &'t [u16]) -> Self {
        Self { choices, at: 0 }
    }

    /// One of `0..n`; 0 is the simplest.
    pub(crate) fn pick(&mut self, n: usize) -> usize {
        let choice = self.choices.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(choice) % n
    }

    /// True once in `n` times, and never on an empty tape.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.pick(n) == n - 1
    }

    pub(crate) fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.pick(items.len())]
    }
}

/// A random tape.
pub(crate) fn tape(seed: u64) -> Vec<u16> {
    let mut rng = Rng::new(seed);
    (0..400).map(|_| (rng.bits() >> 48) as u16).collect()
}

/// The shortest tape found for which `holds` still does: parts are left out, then choices made smaller.
pub(crate) fn shrunk(mut tape: Vec<u16>, rounds_max: usize, holds: &mut dyn FnMut(&[u16]) -> bool) -> Vec<u16> {
    let mut rounds = 0;
    let mut trial = |candidate: &[u16]| {
        rounds += 1;
        rounds <= rounds_max && holds(candidate)
    };
    loop {
        let before = tape.clone();
        let mut size = (tape.len() / 2).max(1);
        while size > 0 {
            let mut from = tape.len().saturating_sub(size);
            loop {
                if from < tape.len() {
                    let to = (from + size).min(tape.len());
                    let shorter = [&tape[..from], &tape[to..]].concat();
                    if trial(&shorter) {
                        tape = shorter;
                    }
                }
                if from == 0 {
                    break;
                }
                from = from.saturating_sub(size);
            }
            size /= 2;
        }
        for i in 0..tape.len() {
            for smaller in [0, tape[i] / 2, tape[i].saturating_sub(1)] {
                if smaller < tape[i] {
                    let mut simpler = tape.clone();
                    simpler[i] = smaller;
                    if trial(&simpler) {
                        tape = simpler;
                        break;
                    }
                }
            }
        }
        if tape == before {
            return tape;
        }
    }
}
