//! What a terminal shows of a running instance: bars while tables load and models are built, then a line that lives.
//!
//! Elsewhere (a pipe, a file, `--quiet`) there are no bars and no living line: only lines that stay, and the log.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use plan::TableName;
use tracing_subscriber::fmt::MakeWriter;

use crate::counted::counted;
use crate::status::Facts;

/// A source that is further behind than this is waited for.
const BEHIND_US: i64 = 5_000_000;

/// Tables that are shown loading; a large shop has hundreds.
const TABLES_SHOWN_MAX: usize = 8;

/// The bars at the bottom of stderr, hidden where it is no terminal. One for the process: the log is written around them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Stderr for the log: the bars step aside for each line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLines;

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A closed stderr is no reason to stop: an error here would be said on stderr.
        BARS.suspend(|| io::stderr().write_all(bytes)).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush().ok();
        Ok(())
    }
}

impl MakeWriter<'_> for LogLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Lines on stderr, and below them what lives.
pub(crate) struct Terminal {
    quiet: bool,
    last: String,
    tables: BTreeMap<TableName, ProgressBar>,
    models: Option<ProgressBar>,
    line: Option<ProgressBar>,
}

impl Terminal {
    /// Shows nothing with `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, last: String::new(), tables: BTreeMap::new(), models: None, line: None }
    }

    /// A line that stays, once.
    pub(crate) fn line(&mut self, text: &str) {
        if self.quiet || self.last == text {
            return;
        }
        self.clear();
        // A closed stderr is no reason to stop.
        BARS.suspend(|| writeln!(io::stderr(), "{text}")).ok();
        text.clone_into(&mut self.last);
    }

    /// A line that the next one replaces.
    pub(crate) fn live(&mut self, text: String) {
        if !self.quiet {
            self.line.get_or_insert_with(|| bar("{wide_msg}", false)).set_message(text);
        }
    }

    /// A bar for each table that loads and one for the models; the living line says what else there is to wait for.
    pub(crate) fn starting(&mut self, start: Start) {
        if self.quiet {
            return;
        }
        let gone = self.tables.extract_if(.., |name, _| !start.loading.iter().any(|(shown, ..)| shown == name));
        gone.for_each(|(_, bar)| bar.finish_and_clear());
        for (name, rows, of) in start.loading {
            // Above the models and the line.
            let bar = self.tables.entry(name).or_insert_with_key(|name| {
                bar("{prefix:>24} {wide_bar} {human_pos}/{human_len} rows, {pace}, {eta}", true)
                    .with_prefix(name.to_string())
            });
            bar.set_length(of);
            bar.set_position(rows);
        }
        let (live, models) = start.models;
        if live < models {
            let bar = self
                .models
                .get_or_insert_with(|| bar("{prefix:>24} {wide_bar} {pos}/{len}", true).with_prefix("models"));
            bar.set_length(models);
            bar.set_position(live);
        } else if let Some(bar) = self.models.take() {
            bar.finish_and_clear();
        }
        self.live(start.waiting_for);
    }

    /// Takes away the bars.
    pub(crate) fn started(&mut self) {
        let bars = std::mem::take(&mut self.tables).into_values().chain(self.models.take());
        bars.for_each(|bar| bar.finish_and_clear());
    }

    fn clear(&mut self) {
        self.started();
        if let Some(line) = self.line.take() {
            line.finish_and_clear();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(template: &str, is_first: bool) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let bar = if is_first { BARS.insert(0, bar) } else { BARS.add(bar) };
    // A template that is not understood would be a bug of this file: a plain bar, then.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.with_key("pace", pace));
    bar
}

fn pace(state: &ProgressState, out: &mut dyn std::fmt::Write) {
    // A terminal that takes no more is no reason to stop.
    write!(out, "{:.0}/s", state.per_sec()).ok();
}

/// How far a start has come. Taken out of the facts first and drawn then: a terminal may stand still, the facts must not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// Tables that load, most rows first: rows so far, and of how many.
    loading: Vec<(TableName, u64, u64)>,
    /// Models that are live, and all.
    models: (u64, u64),
    waiting_for: String,
}

impl Start {
    /// The start as it is now.
    pub(crate) fn of(facts: &Facts, now_us: i64) -> Self {
        let in_snapshot = facts.tables.iter().filter(|(_, table)| table.is_loading());
        let mut loading: Vec<_> = in_snapshot
            .map(|(name, table)| {
                (name.clone(), table.snapshot_rows, table.snapshot_rows_total.max(table.snapshot_rows))
            })
            .collect();
        let live = facts.models.values().filter(|model| model.state == "live").count();
        let tables = counted(loading.len(), "table");
        let mut waiting_for = format!("{tables} loading, {live} of {} live", counted(facts.models.len(), "model"));
        for (name, source) in &facts.sources {
            let lag_us = facts.source_lag_us(source, now_us);
            if source.state == "streaming" && lag_us > BEHIND_US {
                waiting_for.push_str(&format!(", {name} {} behind", seconds(lag_us)));
            }
        }
        loading.retain(|(_, _, of)| *of > 0);
        loading.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        loading.truncate(TABLES_SHOWN_MAX);
        Self { loading, models: (live as u64, facts.models.len() as u64), waiting_for }
    }
}

/// The life of a running instance in a line: what is kept, what comes in, how old it is, and what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    changes: Option<u64>,
}

impl Pulse {
    /// The line of the time since the last one; the first knows no pace yet.
    pub(crate) fn line(&mut self, facts: &Facts, since: Duration, now_us: i64) -> String {
        let changes: u64 = facts.tables.values().map(|table| table.changes_total).sum();
        let live = facts.models.values().filter(|model| model.state == "live").count();
        let mut text = format!("{live} of {} live", counted(facts.models.len(), "model"));
        if let Some(before) = self.changes.replace(changes) {
            let rate = changes.saturating_sub(before) as f64 / since.as_secs_f64();
            text.push_str(&format!(" · {rate:.0} changes/s"));
        }
        for (name, source) in &facts.sources {
            let (state, message) = facts.source_state(source, now_us);
            match state {
                "streaming" => {
                    let lag_us = facts.source_lag_us(source, now_us);
                    text.push_str(&format!(" · {name} {} behind", seconds(lag_us)));
                }
                state if message.is_empty() => text.push_str(&format!(" · {name} {state}")),
                state => text.push_str(&format!(" · {name} {state}: {}", message.line())),
            }
        }
        let stopped = facts.models.iter().filter(|(_, model)| matches!(model.state.as_str(), "parked" | "failed"));
        stopped.for_each(|(name, model)| text.push_str(&format!(" · {name} {}", model.state)));
        let parked = facts.tables.iter().filter(|(_, table)| table.state == "parked");
        parked.for_each(|(name, _)| text.push_str(&format!(" · {name} parked")));
        text
    }
}

fn seconds(us: i64) -> String {
    let seconds = us.max(0) as f64 / 1e6;
    if seconds < 10.0 { format!("{seconds:.3} s") } else { format!("{seconds:.0} s") }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Facts, Pulse, Start, TableName};

    fn shop() -> Facts {
        let mut facts = Facts::default();
        let orders = facts.tables.entry(TableName::new("shop", "orders")).or_default();
        orders.state = "streaming".to_owned();
        orders.changes_total = 1_500;
        facts.models.entry(TableName::new("public", "dws_trade_day")).or_default().state = "live".to_owned();
        let source = facts.sources.entry("shop".to_owned()).or_default();
        source.state = "streaming".to_owned();
        source.lag_us = 12_345;
        facts
    }

    #[test]
    fn a_line_tells_the_changes_since_the_last() {
        let (mut facts, mut pulse) = (shop(), Pulse::default());
        let second = Duration::from_secs(1);
        assert_eq!(pulse.line(&facts, second, 0), "1 of 1 model live · shop 0.012 s behind");
        facts.tables.values_mut().for_each(|table| table.changes_total += 250);
        assert_eq!(pulse.line(&facts, second, 0), "1 of 1 model live · 250 changes/s · shop 0.012 s behind");
        assert_eq!(pulse.line(&facts, second, 0), "1 of 1 model live · 0 changes/s · shop 0.012 s behind");
        for source in facts.sources.values_mut() {
            (source.state, source.message) = ("stalled".to_owned(), "binlog purged".into());
        }
        facts.models.values_mut().for_each(|model| model.state = "parked".to_owned());
        let line = "0 of 1 model live · 0 changes/s · shop stalled: binlog purged · public.dws_trade_day parked";
        assert_eq!(pulse.line(&facts, second, 0), line);
    }

    #[test]
    fn a_start_says_what_it_waits_for() {
        let mut facts = shop();
        facts.tables.values_mut().for_each(|table| {
            (table.state, table.snapshot_rows, table.snapshot_rows_total) = ("snapshot".to_owned(), 30, 20);
        });
        let start = Start::of(&facts, 0);
        assert_eq!(start.loading, [(TableName::new("shop", "orders"), 30, 30)]);
        assert_eq!((start.models, start.waiting_for.as_str()), ((1, 1), "1 table loading, 1 of 1 model live"));
        facts.tables.values_mut().for_each(|table| table.state = "streaming".to_owned());
        facts.sources.values_mut().for_each(|source| source.lag_us = 90_000_000);
        assert_eq!(Start::of(&facts, 0).waiting_for, "0 tables loading, 1 of 1 model live, shop 90 s behind");
    }
}
