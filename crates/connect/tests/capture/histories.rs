//! The source as a whole where the log is another one than before, against a server that plays a script.

use std::time::Duration;

use connect::source::mysql::{Load, MysqlConfig, MysqlSource, Tls};
use connect::{Control, Limits, SourceEvent, SourceState};
use libtest_mimic::{Failed, Trial};
use relation::Position;
use tokio::sync::mpsc::Receiver;

use super::fake::{FILE, FakeServer, HEAD, Log, STRANGER, Script};
use super::table;

const PATIENCE: Duration = Duration::from_secs(30);
/// Within which a source must say that it does not go on.
const NOTICE: Duration = Duration::from_secs(5);

type Outcome = Result<(), String>;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("reset_while_down_and_more_than_before", || reset_while_down(1_700_000_500, 5)),
        trial("reset_within_the_same_second", || reset_while_down(1_700_000_000, 5)),
        trial("reset_while_down_and_as_many_as_before", || reset_while_down(1_700_000_500, 3)),
        trial("reset_before_anything_was_read", reset_before_anything),
        trial("reset_while_it_is_read", reset_live),
        trial("another_server_without_numbers", foreign),
        trial("purged_and_put_back", purged),
        trial("a_lost_connection_goes_on", lost_connection),
        trial("all_tables_are_loaded_again_from_now", restarted),
        trial("an_unknown_event", || unreadable("unknown 98", start(), 1, "type 98, which is unknown")),
        trial("a_damaged_event", || unreadable("insert 12345 3,x", start(), 1, "no table map has introduced")),
        trial("a_position_of_another_make", || {
            unreadable("heartbeat binlog.000001", Some(Position("kafka@7".to_owned())), 0, "position cannot be read")
        }),
        trial("a_taken_server_id", || taken_id(1236)),
        trial("a_taken_server_id_as_mariadb_says_it", || taken_id(4052)),
        trial("it_is_stopped_while_the_server_is_not_told_apart", || stopped_while("SELECT @@GLOBAL.server_uuid")),
        trial("it_is_stopped_while_the_end_of_the_log_is_asked_for", || stopped_while("SHOW BINARY LOG STATUS")),
        trial("it_is_stopped_while_log_files_are_listed", || stopped_while("SHOW BINARY LOGS")),
        trial("it_is_stopped_while_the_log_is_opened", || stopped_while("SET @master_binlog_checksum")),
        trial("a_connection_lost_while_tls_is_negotiated", broken_tls),
        trial("the_log_of_another_server_behind_the_address", || stranger(1)),
        trial("answers_of_another_server_behind_the_address", || stranger(2)),
        trial("rows_of_another_server_behind_the_address", || stranger(3)),
    ]
}

fn trial<F: Future<Output = Outcome>>(name: &str, run: impl FnOnce() -> F + Send + 'static) -> Trial {
    Trial::test(format!("histories/{name}"), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let result = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, run()).await.unwrap_or_else(|_| Err("it takes too long".to_owned()))
        });
        result.map_err(Failed::from)
    })
}

/// A log of so many transactions, each of a row with this name.
fn log(count: usize, name: &str) -> Result<Log, String> {
    let mut lines = Vec::new();
    for id in 1..=count {
        lines.push("anonymous 10".to_owned());
        lines.push("begin".to_owned());
        lines.push("map 70 shop.orders".to_owned());
        lines.push(format!("insert 70 {id},{name}"));
        // A server never hands out a number twice.
        lines.push(format!("xid {}", id + 1_000 * usize::from(name == "new")));
    }
    Log::of(&lines)
}

async fn serve(log: Log) -> Result<FakeServer, String> {
    FakeServer::start(Script { log, piece_bytes: 4_096, ..Script::default() }).await
}

/// A source and what it has said.
struct Watched {
    events: Receiver<SourceEvent>,
    control: Control,
    rows: usize,
    reloads: usize,
    position: Option<Position>,
    said: Vec<(SourceState, String)>,
}

impl Watched {
    fn start(server: &FakeServer, resume: Option<Position>) -> Self {
        Self::with_load(server, resume, Load::Complete)
    }

    fn with_load(server: &FakeServer, resume: Option<Position>, load: Load) -> Self {
        Self::with(server.config(), resume, load)
    }

    fn with(config: MysqlConfig, resume: Option<Position>, load: Load) -> Self {
        let tables = vec![table(0, "orders", true, load)];
        let (events, control) = MysqlSource::start(config, tables, resume, Limits::default());
        Self { events, control, rows: 0, reloads: 0, position: None, said: Vec::new() }
    }

    async fn next(&mut self) -> Outcome {
        match self.events.recv().await.ok_or("the source has ended")? {
            SourceEvent::Batch(batch) => {
                self.rows += batch.rows();
                self.position = Some(batch.position);
            }
            SourceEvent::State(state, message) => self.said.push((state, message)),
            SourceEvent::Reload { .. } => self.reloads += 1,
            other => return Err(format!("{other:?}")),
        }
        Ok(())
    }

    async fn until_rows(&mut self, rows: usize) -> Outcome {
        while self.rows < rows {
            self.next().await?;
        }
        Ok(())
    }

    async fn until(&mut self, wanted: SourceState, words: &str) -> Outcome {
        let said = async {
            while !self.said.last().is_some_and(|(state, said)| *state == wanted && said.contains(words)) {
                self.next().await?;
            }
            Ok(())
        };
        let result = tokio::time::timeout(NOTICE, said).await;
        result.unwrap_or_else(|_| Err(format!("it does not say {wanted}, {words}: {:?}", self.said)))
    }

    /// All is loaded again from now: its load comes behind that word, and no batch before it.
    async fn begin_anew(&mut self) -> Outcome {
        if !self.control.restart_from_now() {
            return Err("it cannot begin anew".to_owned());
        }
        let mut chunks = 0;
        while chunks == 0 {
            match self.events.recv().await.ok_or("the source has ended")? {
                SourceEvent::Reload { .. } => self.reloads += 1,
                SourceEvent::Batch(batch) if self.reloads == 0 => return Err(format!("a batch before: {batch:?}")),
                SourceEvent::Batch(batch) => {
                    chunks += batch.chunks.len();
                    self.position = Some(batch.position);
                }
                SourceEvent::State(state, message) => self.said.push((state, message)),
                other => return Err(format!("{other:?}")),
            }
        }
        self.until(SourceState::Streaming, "").await
    }

    async fn stop(self) -> Result<Position, String> {
        let position = self.position.ok_or("no position");
        drop(self.events);
        self.control.stop().await;
        Ok(position?)
    }
}

fn start() -> Option<Position> {
    Some(Position(format!("{FILE}:{HEAD}")))
}

/// Reads three transactions and stops.
async fn read_three(server: &FakeServer) -> Result<Position, String> {
    let mut source = Watched::start(server, start());
    source.until_rows(3).await?;
    source.stop().await
}

async fn reset_while_down(begun: u32, count: usize) -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let position = read_three(&server).await?;
    let other = log(count, "new")?.begun(begun);
    server.change(|script| script.log = other);
    let mut source = Watched::start(&server, Some(position));
    source.until(SourceState::Stalled, "another history").await?;
    source.until(SourceState::Stalled, "tidemill resnapshot --all").await?;
    if source.said.iter().any(|(state, _)| *state == SourceState::Streaming) {
        return Err(format!("it called another log good: {:?}", source.said));
    }
    // It looks again, and still takes nothing.
    while server.script().asked_as.len() < 3 {
        tokio::select! {
            taken = source.next() => taken?,
            () = tokio::task::yield_now() => {}
        }
    }
    if source.rows == 0 { Ok(()) } else { Err("rows of another history were taken".to_owned()) }
}

/// The end of the log was taken as the start, and nothing came before the reset.
async fn reset_before_anything() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let mut source = Watched::start(&server, None);
    while !source.position.as_ref().is_some_and(|position| position.0.contains("begun=")) {
        source.next().await?;
    }
    let position = source.stop().await?;
    let other = log(9, "new")?.begun(1_700_000_500);
    server.change(|script| script.log = other);
    let mut source = Watched::start(&server, Some(position));
    source.until(SourceState::Stalled, "another history").await?;
    if source.rows == 0 { Ok(()) } else { Err("rows of another history were taken".to_owned()) }
}

/// The server goes on sending heartbeats as if nothing had happened.
async fn reset_live() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let mut source = Watched::start(&server, start());
    source.until_rows(3).await?;
    let other = log(1, "new")?.begun(1_700_000_500);
    server.change(|script| script.log = other);
    source.until(SourceState::Stalled, "another history").await?;
    if source.rows == 3 { Ok(()) } else { Err("rows of another history were taken".to_owned()) }
}

async fn foreign() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let position = read_three(&server).await?;
    server.change(|script| script.uuid = "4350f323-7565-4e59-8763-4b1b83a0ce0e".to_owned());
    let mut source = Watched::start(&server, Some(position));
    source.until(SourceState::Stalled, "another server").await
}

/// What is gone may come back: it goes on by itself.
async fn purged() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let position = read_three(&server).await?;
    let longer = log(5, "old")?;
    server.change(|script| (script.log, script.is_purged) = (longer, true));
    let mut source = Watched::start(&server, Some(position));
    source.until(SourceState::Stalled, "no longer has the log").await?;
    server.change(|script| script.is_purged = false);
    source.until_rows(2).await?;
    if source.rows == 2 { Ok(()) } else { Err(format!("{} rows came", source.rows)) }
}

/// The same log is the same log.
async fn lost_connection() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let position = read_three(&server).await?;
    let longer = log(5, "old")?;
    // In the midst of the event that proves the place, before it, and behind it.
    server.change(|script| (script.log, script.cuts) = (longer, vec![100, 90, 150, 300]));
    let mut source = Watched::start(&server, Some(position));
    source.until_rows(2).await?;
    source.until(SourceState::Streaming, "").await?;
    if source.rows == 2 { Ok(()) } else { Err(format!("{} rows came", source.rows)) }
}

/// Stalled by another history, it is told to begin anew: the table comes again, then what the log brings.
async fn restarted() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let position = read_three(&server).await?;
    let other = log(1, "new")?.begun(1_700_000_500);
    server.change(|script| {
        script.log = other;
        script.orders = vec![(1, "new".to_owned())];
    });
    let mut source = Watched::start(&server, Some(position));
    source.until(SourceState::Stalled, "another history").await?;
    source.begin_anew().await?;
    let position = source.stop().await?;
    // The new position is of the new log: a restart goes on there.
    let longer = log(3, "new")?.begun(1_700_000_500);
    server.change(|script| script.log = longer);
    let mut source = Watched::start(&server, Some(position));
    source.until_rows(2).await?;
    Ok(())
}

/// What of the log cannot be read stalls the source behind the rows before it, with the remedy; and the remedy works.
async fn unreadable(line: &str, resume: Option<Position>, rows: usize, words: &str) -> Outcome {
    let lines = ["anonymous 10", "begin", "map 70 shop.orders", "insert 70 1,old", "xid", "anonymous 11", line];
    let server = serve(Log::of(&lines.map(str::to_owned))?).await?;
    server.change(|script| script.orders = vec![(1, "now".to_owned())]);
    let mut source = Watched::start(&server, resume);
    source.until_rows(rows).await?;
    source.until(SourceState::Stalled, words).await?;
    source.until(SourceState::Stalled, "tidemill resnapshot --all").await?;
    source.begin_anew().await?;
    match source.reloads {
        1 => Ok(()),
        other => Err(format!("loaded again {other} times")),
    }
}

/// One of the connections leads to another server: it takes nothing of it, says so, and goes on with the right one.
async fn stranger(number: usize) -> Outcome {
    let server = serve(log(3, "old")?).await?;
    server.change(|script| {
        script.stranger = Some(number);
        script.orders = vec![(1, "old".to_owned()), (2, "old".to_owned()), (3, "old".to_owned())];
    });
    let mut source = Watched::with_load(&server, None, Load::Pending { cursor: None });
    source.until(SourceState::Stalled, "leads to server").await?;
    if !source.said.last().is_some_and(|(_, said)| said.contains(STRANGER)) || source.rows > 0 {
        return Err(format!("{} rows, {:?}", source.rows, source.said));
    }
    source.until(SourceState::Streaming, "").await?;
    if source.rows == 3 { Ok(()) } else { Err(format!("{} rows", source.rows)) }
}

/// A connection that breaks while it is to be encrypted is tried again: it does not end the source.
async fn broken_tls() -> Outcome {
    let server = serve(log(3, "old")?).await?;
    server.change(|script| script.breaks_tls = true);
    let config = MysqlConfig { tls: Tls::Required, ..server.config() };
    let mut source = Watched::with(config, start(), Load::Complete);
    while server.script().connections < 2 {
        tokio::select! {
            taken = source.next() => taken?,
            () = tokio::task::yield_now() => {}
        }
    }
    source.control.stop().await;
    Ok(())
}

/// A server that does not answer keeps nobody from stopping.
async fn stopped_while(mute: &'static str) -> Outcome {
    let server = serve(log(3, "old")?).await?;
    server.change(|script| script.mute = Some(mute));
    let Watched { mut events, control, .. } = Watched::with_load(&server, None, Load::Pending { cursor: None });
    while !server.script().was_mute {
        tokio::select! {
            said = events.recv() => drop(said.ok_or("the source has ended")?),
            () = tokio::task::yield_now() => {}
        }
    }
    let stopped = tokio::time::timeout(NOTICE, control.stop()).await;
    stopped.map_err(|_| "it does not stop".to_owned())
}

async fn taken_id(code: u16) -> Outcome {
    let server = serve(log(3, "old")?).await?;
    let message = "A slave with the same server_uuid/server_id as this slave has connected to the master";
    server.change(|script| script.refusals = vec![(code, message.to_owned())]);
    let mut source = Watched::start(&server, start());
    source.until_rows(3).await?;
    let asked_as = server.script().asked_as.clone();
    let [first, second] = asked_as[..] else { return Err(format!("asked as {asked_as:?}")) };
    let named =
        source.said.iter().any(|(state, said)| *state == SourceState::Stalled && said.contains(&first.to_string()));
    match named && first != second {
        true => Ok(()),
        false => Err(format!("asked as {asked_as:?}, said {:?}", source.said)),
    }
}
