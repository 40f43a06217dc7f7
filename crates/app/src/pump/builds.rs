//! Builds beside the steps, one after the other, and what follows when one has ended.
//!
//! A model is built on a thread of its own ([`engine::Build`]); between two steps the pump puts in place what has been built.
//! When all models of what is coming are there, it takes the place of what serves; when one cannot be built, it is given up.
//! What was parked is begun again by itself: after a second, four, sixteen, …

use engine::{Build, Coming, Finished};

use super::Pump;
use crate::clock::Clock as _;

/// How long what was parked waits until it is begun again, at first and at most; four times as long each time.
pub(super) const HEAL_FIRST_US: i64 = 1_000_000;
const HEAL_MAX_US: i64 = 600_000_000;

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
        self.release_barriers();
        Ok(())
    }

    fn start(&mut self, mut build: Build) -> anyhow::Result<()> {
        self.building = Some(build.cancel());
        let done = self.built.0.clone();
        std::thread::Builder::new().name("build".to_owned()).spawn(move || {
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
                self.heal_wait_us = HEAL_FIRST_US;
            }
            Finished::Failed(model, reason) => {
                tracing::error!(%model, %reason, "could not be built");
                self.heal_at_us.get_or_insert(self.uptime.now_us() + self.heal_wait_us);
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
                self.end_applying(&[]);
                tracing::info!("the project's models are in place");
            }
            Coming::Failed(models) => {
                self.warehouse.withdraw();
                let failed: Vec<String> = models.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
                tracing::error!(models = ?failed, "the project's models cannot be built; those before serve on");
                {
                    let mut facts = self.status.facts();
                    facts.pending = false;
                    facts.not_applied = failed.join("; ");
                }
                self.note_contents();
                self.end_applying(&failed);
            }
        }
        Ok(())
    }

    /// Begins again what was parked, when its time has come.
    pub(super) fn heal(&mut self) -> anyhow::Result<()> {
        let now = self.uptime.now_us();
        if self.building.is_some() || self.heal_at_us.is_none_or(|at| at > now) {
            return Ok(());
        }
        self.heal_at_us = None;
        self.heal_wait_us = (self.heal_wait_us * 4).min(HEAL_MAX_US);
        if self.warehouse.engine.heal()? {
            tracing::info!("models that were parked are built anew");
            self.build()?;
        }
        Ok(())
    }
}
