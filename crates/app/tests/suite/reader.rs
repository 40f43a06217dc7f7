//! A reader that never stops: one statement after the other over the Postgres wire, whatever happens to the project.
//!
//! What it must never see is an error, or an answer that was never right. While no instance runs it waits.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

pub(crate) struct Reader {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Where the instance is reached; none while none runs.
    address: Option<String>,
    /// How often that has changed: what fails across a change is nobody's fault.
    changes: u64,
    reads: u64,
    answers: Vec<String>,
    is_over: bool,
}

impl Reader {
    /// Begins to read.
    pub(crate) fn start(sql: String, address: Option<String>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.state.lock().unwrap().address = address;
        let theirs = Arc::clone(&shared);
        Self { shared, thread: Some(std::thread::spawn(move || read(&theirs, &sql))) }
    }

    /// The instance is about to end.
    pub(crate) fn pause(&self) {
        self.move_to(None);
    }

    /// The instance runs again.
    pub(crate) fn go_on(&self, address: String) {
        self.move_to(Some(address));
    }

    fn move_to(&self, address: Option<String>) {
        let mut state = self.shared.state.lock().unwrap();
        state.address = address;
        state.changes += 1;
        self.shared.changed.notify_all();
    }

    /// Reads twice more, so that what is there now is among the answers, and ends.
    pub(crate) fn answers(self) -> Result<String, String> {
        self.catch_up()?;
        let state = self.shared.state.lock().unwrap();
        match state.address {
            Some(_) => Ok(state.answers.join("\n")),
            None => Err("no instance runs".to_owned()),
        }
    }

    /// Reads twice more, if an instance runs: what is there now is among the answers before anything else is done, however slow all is.
    pub(crate) fn catch_up(&self) -> Result<(), String> {
        let mut state = self.shared.state.lock().unwrap();
        let enough = state.reads + 2;
        while state.reads < enough && state.address.is_some() {
            let (next, waited) = self.shared.changed.wait_timeout(state, crate::PATIENCE).unwrap();
            if waited.timed_out() {
                return Err("the reader got no answer for two minutes".to_owned());
            }
            state = next;
        }
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().is_over = true;
        self.shared.changed.notify_all();
        self.thread.take().map(JoinHandle::join);
    }
}

fn read(shared: &Shared, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    loop {
        let (address, changes) = {
            let state = shared.state.lock().unwrap();
            let state = shared.changed.wait_while(state, |s| s.address.is_none() && !s.is_over).unwrap();
            let Some(address) = state.address.clone().filter(|_| !state.is_over) else { return };
            (address, state.changes)
        };
        runtime.block_on(read_from(shared, &address, changes, sql));
    }
}

/// Reads from one instance until it has changed, or an error has come.
async fn read_from(shared: &Shared, address: &str, changes: u64, sql: &str) {
    let note = |answer: String| {
        let mut state = shared.state.lock().unwrap();
        if state.changes != changes || state.is_over {
            return false;
        }
        state.reads += 1;
        if state.answers.last() != Some(&answer) {
            state.answers.push(answer);
        }
        shared.changed.notify_all();
        true
    };
    let (host, port) = address.rsplit_once(':').unwrap();
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port.parse().unwrap()).user("tidemill").dbname("tidemill");
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) = match config.connect(tokio_postgres::NoTls).await {
        Ok(connected) => connected,
        Err(error) => {
            note(format!("error: {error}"));
            return;
        }
    };
    let driver = tokio::spawn(connection);
    loop {
        let answer = match client.simple_query(sql).await {
            Ok(messages) => text_of(&messages),
            Err(error) => {
                format!("error: {}", error.as_db_error().map_or(error.to_string(), |e| e.message().to_owned()))
            }
        };
        let is_lost = client.is_closed();
        if !note(answer) || is_lost {
            break;
        }
    }
    driver.abort();
}

pub(crate) fn text_of(messages: &[SimpleQueryMessage]) -> String {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cells: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("null")).collect();
            Some(cells.join(" | "))
        }
        _ => None,
    });
    rows.collect::<Vec<_>>().join("; ")
}
