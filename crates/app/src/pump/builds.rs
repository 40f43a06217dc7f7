//! Builds beside the steps, one after the other, and what follows when one has ended.
//!
//! A model is built on a thread of its own ([`engine::Build`]); between two steps the pump puts in place what has been built.
//! When all models of what is coming are there, it takes the place of what serves; one that cannot be built serves on as it was,
//! and the others come without it.
//! What waits for a load that does not get on goes without it, and what reads it comes when it is there.
//! What was parked is begun again by itself: after a second, four, sixteen, … So is what altered tables wait for: they are
//! put in place with the models over them, and where one of these cannot be built they would be loaded for nothing.

use engine::{Build, Coming, Finished};

use super::Pump;
use crate::beside::behind_the_steps;
use crate::clock::Clock as _;
use crate::warehouse::{Proposed, told};

/// How long what has failed waits until it is begun again, at first and at most; four times as long each time.
const AGAIN_FIRST_US: i64 = 1_000_000;
const AGAIN_MAX_US: i64 = 600_000_000;

/// When something that has failed is begun again.
pub(super) struct Again {
    at_us: Option<i64>,
    wait_us: i64,
}

impl Again {
    pub(super) fn new() -> Self {
        Self { at_us: None, wait_us: AGAIN_FIRST_US }
    }

    /// It has failed: it is begun again in a while, or when that was said before.
    pub(super) fn later(&mut self, now_us: i64) {
        self.at_us.get_or_insert(now_us.saturating_add(self.wait_us));
    }

    /// It is begun again at once, however often it has failed: something may have changed.
    pub(super) fn soon(&mut self, now_us: i64) {
        *self = Self { at_us: Some(now_us), ..Self::new() };
    }

    /// Whether its time has come; the next time it waits longer.
    fn is_due(&mut self, now_us: i64) -> bool {
        let is_due = self.at_us.take_if(|at| *at <= now_us).is_some();
        if is_due {
            self.wait_us = self.wait_us.saturating_mul(4).min(AGAIN_MAX_US);
        }
        is_due
    }

    /// It went well.
    fn went_well(&mut self) {
        self.wait_us = AGAIN_FIRST_US;
    }

    /// Nobody wants it any more.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }
}

/// A build that has ended, and how.
pub(super) type Built = (Build, engine::Result<()>);

impl Pump {
    /// Begins to build what can be built, and publishes.
    pub(super) fn build(&mut self) -> anyhow::Result<()> {
        if self.building.is_none() {
            // What is coming and has failed already is given up before more of it is built.
            self.look_at_coming()?;
        }
        if self.building.is_none()
            && let Some(build) = self.warehouse.engine.next_build()?
        {
            tracing::info!(model = %build.name(), "building");
            self.status.facts().building = build.name().to_string();
            self.start(build)?;
        }
        if self.building.is_none() {
            self.look_at_coming()?;
            self.status.facts().building.clear();
        }
        self.publish();
        self.attend_deliveries()?;
        self.release_barriers();
        Ok(())
    }

    fn start(&mut self, mut build: Build) -> anyhow::Result<()> {
        self.building = Some(build.cancel());
        let done = self.built.0.clone();
        std::thread::Builder::new().name("build".to_owned()).stack_size(crate::deep::STACK_BYTES).spawn(move || {
            behind_the_steps();
            let outcome = build.run();
            // The pump takes it, or has ended.
            done.blocking_send((build, outcome)).ok();
        })?;
        Ok(())
    }

    /// Puts in place what was built.
    pub(super) fn finish(&mut self, build: Build, outcome: engine::Result<()>) -> anyhow::Result<()> {
        self.building = None;
        match self.warehouse.engine.finish_build(build, outcome)? {
            Finished::Live(model) => {
                tracing::info!(%model, "live");
                self.heal.went_well();
            }
            Finished::Failed(model, reason) => {
                tracing::error!(%model, %reason, "could not be built");
                self.heal.later(self.uptime.now_us());
            }
            Finished::Dropped => {}
            Finished::Again(build) => return self.start(*build),
        }
        self.build()
    }

    /// Puts the models that are coming in place when they are all there, or gives them up when one cannot be built.
    fn look_at_coming(&mut self) -> anyhow::Result<()> {
        let given_up = self.warehouse.engine.give_up_parked()?;
        if !given_up.is_empty() {
            let names: Vec<String> = given_up.iter().map(ToString::to_string).collect();
            tracing::warn!(tables = ?names, "tables that were to have other columns are parked; the others go on");
            self.propose_again()?;
        }
        match self.warehouse.engine.coming() {
            Coming::Nothing | Coming::Building { .. } => return Ok(()),
            Coming::Ready => {
                self.warehouse.swap()?;
                self.warehouse.engine.store().fold_soon();
                self.note_contents();
                self.status.facts().pending = false;
                self.note_held_back();
                self.drop_unwanted_tables()?;
                self.end_applying(&[])?;
                self.stranded.forget();
                tracing::info!("the project's models are in place");
            }
            Coming::Failed(models) => {
                tracing::error!(models = ?told(&models), "cannot be built in their new texts; those before serve on");
                let proposed = self.warehouse.propose_without(models)?;
                if let Proposed::Refused(_) = proposed {
                    self.warehouse.withdraw();
                }
                self.note_proposed(&proposed);
                match proposed {
                    Proposed::Coming(difference) => self.note_difference(&difference),
                    Proposed::InPlace(difference) => {
                        self.note_difference(&difference);
                        self.drop_unwanted_tables()?;
                        self.end_applying(&[])?;
                    }
                    Proposed::Refused(reasons) => self.end_applying(&reasons)?,
                }
            }
        }
        Ok(())
    }

    /// What is coming does not wait for a load that does not get on, and takes it along when it has come to its end.
    pub(super) fn go_without_delayed(&mut self) -> anyhow::Result<()> {
        if self.delays.is_empty() && !self.warehouse.goes_without() {
            return Ok(());
        }
        self.delays.retain(|table, _| self.warehouse.engine.table(*table).is_some());
        if self.warehouse.go_without(&self.delays) {
            self.give_up_building();
            self.propose_again()?;
            self.build()?;
        }
        Ok(())
    }

    /// Begins again what was parked, and proposes again what altered tables wait for, when its time has come.
    pub(super) fn begin_again(&mut self) -> anyhow::Result<()> {
        let now = self.uptime.now_us();
        if self.building.is_some() {
            return Ok(());
        }
        if self.heal.is_due(now) {
            if self.warehouse.engine.heal()? {
                tracing::info!("models that were parked are built anew");
                self.build()?;
            } else {
                self.heal.went_well();
            }
        }
        if self.stranded.is_due(now) && self.warehouse.is_stranded() {
            tracing::info!("models over tables with other columns are proposed again");
            self.propose_again()?;
            self.build()?;
        }
        Ok(())
    }

    /// Tables that nothing is proposed over are proposed over again in a while: what could not be built may be by then.
    pub(super) fn note_stranded(&mut self) {
        if self.warehouse.is_stranded() {
            self.stranded.later(self.uptime.now_us());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AGAIN_FIRST_US, AGAIN_MAX_US, Again};

    #[test]
    fn waits_longer_each_time() {
        let mut again = Again::new();
        assert!(!again.is_due(i64::MAX), "nothing has failed");
        again.later(0);
        again.later(500_000);
        assert!(!again.is_due(AGAIN_FIRST_US - 1));
        assert!(again.is_due(AGAIN_FIRST_US), "the first failure counts");
        assert!(!again.is_due(i64::MAX), "it is begun once");
        again.later(0);
        assert!(!again.is_due(4 * AGAIN_FIRST_US - 1));
        assert!(again.is_due(4 * AGAIN_FIRST_US));
        again.soon(7);
        assert!(again.is_due(7), "it need not wait");
        again.later(0);
        assert!(again.is_due(4 * AGAIN_FIRST_US), "it has failed once again");
        for _ in 0..20 {
            again.later(0);
            assert!(again.is_due(AGAIN_MAX_US), "it does not wait for ever");
        }
        again.went_well();
        again.later(0);
        assert!(again.is_due(AGAIN_FIRST_US));
        again.later(0);
        again.forget();
        assert!(!again.is_due(i64::MAX));
    }
}
