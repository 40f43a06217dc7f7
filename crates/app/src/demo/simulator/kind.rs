//! The simulated shop as a kind of source: nobody has to be reached, and it never ends.

use std::sync::Arc;

use async_trait::async_trait;
use connect::{
    Absence, Check, Control, Failure, FollowedTable, Limits, OwnFacts, Settings, Source, SourceEvent, SourceKind,
    TableFacts, TablePlace, Unanswered,
};
use project::{ShopProfile, SimulatedShop};
use relation::Position;
use tokio::sync::{mpsc, watch};

use super::Simulator;

const KEYS: [&str; 9] = [
    "database",
    "profile",
    "seed",
    "users",
    "orders_per_day",
    "events_per_user",
    "new_user_share",
    "speed",
    "history_orders",
];

/// Connections of the type `simulator`.
#[derive(Debug, Clone, Copy)]
pub struct SimulatorKind;

#[async_trait]
impl SourceKind for SimulatorKind {
    fn types(&self) -> &'static [&'static str] {
        &["simulator"]
    }

    fn is_described_offline(&self) -> bool {
        true
    }

    async fn open(&self, settings: &Settings) -> Result<Arc<dyn Source>, Failure> {
        settings.refuse_others(&KEYS)?;
        let shop = SimulatedShop {
            profile: match settings.text("profile")? {
                None | Some("standard") => ShopProfile::Standard,
                Some("large") => ShopProfile::Large,
                Some(_) => return Err(settings.bad("profile", "standard or large")),
            },
            seed: settings.number("seed")?.unwrap_or(0),
            users: settings.number("users")?,
            orders_per_day: settings.number("orders_per_day")?,
            events_per_user: settings.number("events_per_user")?,
            new_user_share: settings.decimal("new_user_share")?,
            speed: settings.decimal("speed")?,
            history_orders: settings.number("history_orders")?,
        };
        Ok(Arc::new(Simulator::new(&shop)))
    }
}

#[async_trait]
impl Source for Simulator {
    fn word(&self) -> &'static str {
        "simulator"
    }

    async fn tables(&self, _database: &str) -> Result<Vec<String>, Failure> {
        Ok(::simulate::Table::ALL.iter().map(|table| table.name().to_owned()).collect())
    }

    async fn describe(&self, wanted: &[TablePlace]) -> Result<Vec<Result<TableFacts, Absence>>, Unanswered> {
        let facts = |place: &TablePlace| match self.schema(&place.name) {
            Some(schema) => Ok(TableFacts { schema, left_out: Vec::new(), rows_estimate: 0, own: OwnFacts::new(()) }),
            None => Err(Absence(format!("The simulated shop has no table \"{}\".", place.name))),
        };
        Ok(wanted.iter().map(facts).collect())
    }

    fn start(
        &self,
        tables: Vec<FollowedTable>,
        resume: Option<Position>,
        _limits: Limits,
    ) -> (mpsc::Receiver<SourceEvent>, Control) {
        // One event waits: what is sent too early would be told too early.
        let (events, receiver) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let tables = tables.into_iter().map(|table| (table.place.name, table.id, table.load)).collect();
        let task = tokio::spawn(self.clone().run(tables, resume, events, stopped));
        (receiver, Control::new(stop, task))
    }

    async fn current_position(&self) -> Result<Option<Position>, Failure> {
        Ok(None)
    }

    fn reached(&self, current: &Position, target: &Position) -> Result<bool, Failure> {
        Ok(current == target)
    }

    async fn bytes_behind(&self, _position: &Position) -> Result<Option<u64>, Failure> {
        Ok(None)
    }

    async fn doctor(&self, _wanted: &[TablePlace]) -> Vec<Check> {
        Vec::new()
    }
}
