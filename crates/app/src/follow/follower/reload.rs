//! `resnapshot`: tables of a source that a person wants loaded again.
//!
//! The law: what is answered has happened, or outlives a restart. A load is begun when its source has said so behind all that
//! it has sent before ([`SourceEvent::Reload`]); until then whoever asked waits. Where the source does not go on, its tables
//! are held in doubt from now on, which is stored: they are loaded again when it goes on, whoever runs by then.

use std::collections::BTreeMap;

use connect::{Absence, Failure, SourceEvent, TableFacts, TablePlace};
use plan::TableName;
use relation::TableId;
use tokio::sync::oneshot;

use super::{Follower, Running, STOPPING, not_there};
use crate::reason::Reason;

const BY_HAND: &str = "asked for by hand";

/// Who waits for an answer.
pub(super) type Answer = oneshot::Sender<Result<Vec<String>, String>>;

/// Loads that were asked for.
#[derive(Default)]
pub(super) struct Asked {
    /// Those that have not begun.
    waits: BTreeMap<TableId, TableName>,
    /// They are those of all tables, from the present end of the source's log.
    is_of_all: bool,
    done: Vec<String>,
    failed: Vec<String>,
}

impl Asked {
    pub(super) fn is_of_all(&self) -> bool {
        self.is_of_all
    }

    fn answer(self, answer: Answer) {
        let Self { done, failed, .. } = self;
        let told = if failed.is_empty() { Ok(done) } else { Err([failed, done].concat().join("\n")) };
        // Whoever asked may have left.
        answer.send(told).ok();
    }
}

impl Follower {
    /// Has tables loaded again, while what there is of them serves. Errors: nothing was done, and why.
    pub(super) async fn reload(&mut self, names: &[TableName], running: &mut Option<Running>) -> Result<Asked, String> {
        self.refuse_paused(running)?;
        let mut wanted = Vec::new();
        for name in names {
            match self.place_of(name).filter(|_| !self.absent.iter().any(|(_, absent)| absent == name)) {
                Some(place) => wanted.push((name.clone(), place.clone())),
                None => return Err(format!("{name} is not there to be loaded: it is looked for by itself")),
            }
        }
        let places: Vec<TablePlace> = wanted.iter().map(|(_, place)| place.clone()).collect();
        let answers = match self.source.describe(&places).await {
            Ok(answers) => answers,
            Err(unanswered) => return self.put_off(names, &unanswered.failure.text(), running).await,
        };
        let mut there = Vec::new();
        for ((name, place), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(facts) => there.push((name, place, facts)),
                Err(Absence(reason)) => {
                    let reason = Reason::of(&not_there(&place, &reason));
                    let reason = if names.len() > 1 { reason.and("No table is loaded again.") } else { reason };
                    return Err(reason.to_string());
                }
            }
        }
        // What it cannot go on from, a question does not show.
        match self.stall.clone() {
            Some(reason) => self.put_off(names, &reason, running).await,
            None => self.load_again(there, running).await,
        }
    }

    /// Loads tables again that are there, of a source that goes on.
    async fn load_again(
        &mut self,
        there: Vec<(TableName, TablePlace, TableFacts)>,
        running: &mut Option<Running>,
    ) -> Result<Asked, String> {
        let mut asked = Asked::default();
        let mut is_new = false;
        for (name, place, facts) in there {
            let id = self.of.iter().find(|(_, known)| **known == name).map(|(id, _)| *id);
            let followed = self.followed.iter().find(|table| Some(table.id) == id);
            // A person's word takes other columns, whatever the table does where they change.
            let is_other =
                place.columns.declared().is_none() && followed.is_some_and(|of| of.facts.schema != facts.schema);
            if let Some(id) = id.filter(|_| !is_other) {
                asked.waits.insert(id, name);
                continue;
            }
            self.forget(&name);
            is_new |= self.register(place, name.clone(), facts, true).await.ok_or(STOPPING)?;
            asked.done.push(begun(&name));
        }
        if is_new {
            self.start_anew(running).await;
        }
        // All at once, of the source that goes on; nothing is waited for that it has to do.
        let Some((_, control)) = running.as_ref() else { return Err(STOPPING.to_owned()) };
        if !asked.waits.is_empty() && !control.reload(asked.waits.keys().copied(), BY_HAND) {
            return Err(format!("the tables of source \"{}\" cannot be loaded again", self.name));
        }
        Ok(asked)
    }

    /// Has all tables loaded again, from where the log ends now. Errors: nothing was done, and why.
    pub(super) async fn reload_all(&mut self, running: &mut Option<Running>) -> Result<Asked, String> {
        self.refuse_paused(running)?;
        // Where that is, only the source can say.
        if let Err(failure) = self.source.current_position().await {
            let message = format!("no table of source \"{}\" is loaded again: {}", self.name, failure.message);
            return Err(Failure { message, ..failure }.text());
        }
        let mut done = Vec::new();
        let parked: Vec<TableName> = self.parked.iter().map(|(_, name)| name.clone()).collect();
        for name in parked {
            match self.reload(&[name], running).await {
                Ok(asked) => done.extend(asked.done),
                // The others are loaded all the same.
                Err(reason) => done.push(reason),
            }
        }
        let Some((_, control)) = running.as_ref() else { return Err(STOPPING.to_owned()) };
        if !control.restart_from_now() {
            return Err(format!("the tables of source \"{}\" cannot be loaded again", self.name));
        }
        done.insert(0, format!("all tables of source \"{}\" are loaded again from where its log ends now", self.name));
        Ok(Asked { waits: self.of.clone(), is_of_all: true, done, failed: Vec::new() })
    }

    /// Has tables loaded again when the source goes on, which it does not for this reason. Those that are followed are in
    /// doubt from now on; those that are parked are taken up as tables that have come.
    async fn put_off(
        &mut self,
        names: &[TableName],
        reason: &str,
        running: &mut Option<Running>,
    ) -> Result<Asked, String> {
        let mut asked = Asked::default();
        let mut is_marked = false;
        for name in names {
            let id = self.of.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
            match id {
                Some(id) => {
                    self.hold_in_doubt(id, BY_HAND.to_owned()).await.ok_or(STOPPING)?;
                    is_marked = true;
                }
                None => self.look_for(name),
            }
            asked.done.push(self.noted(name));
        }
        if is_marked {
            self.start_anew(running).await;
        }
        asked.done.push(self.does_not_go_on(reason));
        Ok(asked)
    }

    /// A parked table is taken up as soon as the source says what it is.
    pub(super) fn look_for(&mut self, name: &TableName) {
        let Some(at) = self.parked.iter().position(|(_, parked)| parked == name) else { return };
        let table = self.parked.remove(at);
        self.absent.push(table);
        self.looks_for_more = true;
    }

    fn noted(&self, name: &TableName) -> String {
        format!(
            "{name} is noted: it is loaded again as soon as source \"{}\" goes on, and what there is of it serves until then",
            self.name
        )
    }

    fn does_not_go_on(&self, reason: &str) -> String {
        Reason::of(reason).behind(&format!("source \"{}\" is not read now: ", self.name)).line()
    }

    fn refuse_paused(&self, running: &Option<Running>) -> Result<(), String> {
        match running {
            Some(_) => Ok(()),
            None => Err(format!(
                "source \"{0}\" is paused, and nothing of it is loaded\nHint: `tidemill resume {0}` has it read again.",
                self.name
            )),
        }
    }

    /// Who has asked waits until the loads have begun.
    pub(super) fn wait_for(&mut self, asked: Asked, answer: Answer) {
        self.asked.push((asked, answer));
        self.answer_asked();
    }

    /// What a source has said of a table: a load that was asked for has begun, or never will.
    pub(super) fn note_begun(&mut self, event: &SourceEvent) {
        let told = |name: &TableName| match event {
            SourceEvent::Reload { .. } => Ok(begun(name)),
            SourceEvent::Altered { .. } => {
                Ok(format!("{name} has other columns now: `tidemill status` says what becomes of it"))
            }
            SourceEvent::Parked { reason, .. } => Err(format!("{name} is parked: {reason}")),
            _ => Ok(String::new()),
        };
        let (SourceEvent::Reload { table, .. }
        | SourceEvent::Altered { table, .. }
        | SourceEvent::Parked { table, .. }) = event
        else {
            return;
        };
        for (asked, _) in &mut self.asked {
            let Some(name) = asked.waits.remove(table) else { continue };
            match told(&name) {
                Err(reason) => asked.failed.push(reason),
                Ok(_) if asked.is_of_all => {}
                Ok(line) => asked.done.push(line),
            }
        }
        self.answer_asked();
    }

    /// Answers who waits for nothing any more. Tables that are not followed under their numbers any more are not waited for.
    pub(super) fn answer_asked(&mut self) {
        for (asked, answer) in std::mem::take(&mut self.asked) {
            let mut asked = asked;
            let (there, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut asked.waits).into_iter().partition(|(id, _)| self.of.contains_key(id));
            asked.waits = there;
            let taken_up = gone.into_values().filter(|_| !asked.is_of_all);
            asked.done.extend(taken_up.map(|name| format!("{name} was taken up anew meanwhile, or let go")));
            match asked.waits.is_empty() {
                true => asked.answer(answer),
                false => self.asked.push((asked, answer)),
            }
        }
    }

    /// The source is stalled or paused, and loads that were asked for have not begun: they are noted. Answers whether the source
    /// has to be started anew for that.
    pub(super) async fn note_asked(&mut self, reason: &str) -> Option<bool> {
        let mut is_marked = false;
        // What all tables wait for is not forgotten before the source is started anew.
        let is_of_all = self.asked.iter().any(|(asked, _)| asked.is_of_all);
        for (mut asked, answer) in std::mem::take(&mut self.asked) {
            for (id, name) in std::mem::take(&mut asked.waits) {
                if asked.is_of_all {
                    continue;
                }
                if !is_of_all {
                    self.hold_in_doubt(id, BY_HAND.to_owned()).await?;
                    is_marked = true;
                }
                asked.done.push(self.noted(&name));
            }
            if asked.is_of_all {
                asked.done = vec![format!(
                    "all tables of source \"{}\" are loaded again from where its log ends when it goes on, unless the instance is \
                     started anew before",
                    self.name
                )];
            }
            asked.done.push(self.does_not_go_on(reason));
            asked.answer(answer);
        }
        Some(is_marked)
    }

    /// Where the log of a source ends that is paused is not asked for any more.
    pub(super) fn refuse_all(&mut self) {
        let (of_all, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.asked).into_iter().partition(|(asked, _)| asked.is_of_all);
        self.asked = others;
        for (mut asked, answer) in of_all {
            asked.failed.push(format!(
                "source \"{0}\" was paused before its tables were loaded again\nHint: `tidemill resume {0}`, and then \
                 `tidemill resnapshot --all`.",
                self.name
            ));
            asked.done.clear();
            asked.answer(answer);
        }
    }

    /// A source that is started anew knows nothing of what the one before was asked for.
    pub(super) async fn ask_again(&mut self) -> Option<()> {
        let of_some = self.asked.iter().filter(|(asked, _)| !asked.is_of_all);
        let tables: Vec<TableId> = of_some.flat_map(|(asked, _)| asked.waits.keys().copied()).collect();
        for table in tables {
            self.hold_in_doubt(table, BY_HAND.to_owned()).await?;
            self.note_begun(&SourceEvent::Reload { table, reason: BY_HAND.to_owned() });
        }
        Some(())
    }
}

fn begun(name: &TableName) -> String {
    format!("{name} is loaded again; what there is of it serves until then")
}
