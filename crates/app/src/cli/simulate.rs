//! `simulate`: the simulated shop into a database.

use ::simulate::Settings;

use super::{Context, Outcome, interrupted, print};
use crate::clock::WallClock;
use crate::shop_database::{Interrupt, ShopDatabase};

#[derive(Debug, clap::Args)]
pub(super) struct SimulateArgs {
    /// The database, made if it is not there: mysql://user:password@host:port/database
    #[arg(long, value_name = "URL", env = "TIDEMILL_SIMULATE_INTO", hide_env_values = true)]
    into: String,
    /// A shop of 1,000,000 daily users and 50,000 orders a day, unless other settings say otherwise
    #[arg(long)]
    large: bool,
    /// Seed of all chance
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// People who visit the shop on a day [default: 100000]
    #[arg(long)]
    users: Option<u32>,
    /// Orders on an average day [default: 3000]
    #[arg(long)]
    orders_per_day: Option<u32>,
    /// Page events of a visitor on an average day [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=30))]
    events_per_user: Option<u32>,
    /// Of a day's visitors, those who come for the first time, from 0 to 1 [default: 0.005]
    #[arg(long, value_parser = share)]
    new_user_share: Option<f64>,
    /// How much faster the shop's time runs than life; 0 writes the history only [default: 1000]
    #[arg(long, value_parser = speed)]
    speed: Option<f64>,
    /// Orders there are at the beginning [default: 100000]
    #[arg(long)]
    history_orders: Option<u32>,
    /// End after so many seconds of live transactions [default: at Ctrl-C]
    #[arg(long)]
    seconds: Option<u64>,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "not a number from 0 to 1".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.0..=1e6).contains(speed));
    speed.ok_or_else(|| "not a number from 0 to 1000000".to_owned())
}

impl SimulateArgs {
    fn settings(&self) -> Settings {
        let profile = if self.large { Settings::large() } else { Settings::default() };
        Settings {
            seed: self.seed,
            users: self.users.unwrap_or(profile.users),
            orders_per_day: self.orders_per_day.unwrap_or(profile.orders_per_day),
            events_per_user: self.events_per_user.unwrap_or(profile.events_per_user),
            new_user_share: self.new_user_share.unwrap_or(profile.new_user_share),
            speed: self.speed.unwrap_or(profile.speed),
            history_orders: self.history_orders.unwrap_or(profile.history_orders),
        }
    }
}

pub(super) async fn run(context: &Context, args: SimulateArgs) -> anyhow::Result<Outcome> {
    let mut interrupt = Interrupt::new(interrupted());
    let mut database = ShopDatabase::create(&args.into, args.settings()).await?;
    let full = |table: ::simulate::Table, rows| context.progress(&format!("{}: {rows} rows", table.name()));
    let is_whole = database.write_history(&mut interrupt, full).await?;
    if is_whole {
        context.progress("the shop is open");
        database.write_on(&WallClock, args.seconds, &mut interrupt).await?;
    }
    let written = database.close().await?;
    if context.json {
        let answer = serde_json::json!({
            "history_rows": written.history, "transactions": written.transactions, "changes": written.changes,
            "waited_ms": written.waited_us / 1_000,
        });
        print(&answer.to_string());
    } else {
        print(&format!(
            "{} rows of history, {} changes in {} transactions; the shop's clock waited {:.1} s",
            written.history,
            written.changes,
            written.transactions,
            std::time::Duration::from_micros(written.waited_us.unsigned_abs()).as_secs_f64()
        ));
    }
    Ok(if is_whole { Outcome::Ok } else { Outcome::Interrupted })
}
