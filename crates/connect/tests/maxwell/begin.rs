//! Where a capture begins that has kept no position, and what it says of another reader, with `SLOW=1`.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connect::maxwell::{Filter, Job, Options, Routing, Teller, To};
use connect::source::mysql::{MysqlConfig, Start, Tls};
use tokio::sync::watch;

use super::Folder;
use crate::capture::server::Outcome;

const PATIENCE: Duration = Duration::from_secs(60);
/// A number that nothing else in the tests has.
const NUMBER: u32 = 7_340_051;

fn job(port: u16, state: &Path, server_id: Option<u32>) -> Job {
    Job {
        server: MysqlConfig { port, tls: Tls::Disabled, start: Start::Now, server_id, ..MysqlConfig::default() },
        options: Options::default(),
        filter: Filter::default(),
        routing: Routing::default(),
        to: To::Nowhere,
        state: state.to_owned(),
        stop_at: None,
        own_database: "maxwell".to_owned(),
        client_id: "maxwell".to_owned(),
        bootstraps: false,
    }
}

/// The place at which it begins is kept when it is told: another start would begin elsewhere.
pub(super) async fn is_kept_when_it_is_told(port: u16) -> Outcome {
    let folder = Folder::new();
    let state = folder.0.join("state");
    let (stop, stopped) = watch::channel(false);
    let kept = Arc::new(Mutex::new(None));
    let (found, place) = (Arc::clone(&kept), state.join("position.json"));
    let teller = Teller::new(move |_, line| {
        if line.starts_with("beginning at ") {
            *found.lock().unwrap() = Some(place.exists());
            stop.send(true).ok();
        }
    });
    let done = tokio::time::timeout(PATIENCE, connect::maxwell::run(job(port, &state, None), stopped, teller)).await;
    done.map_err(|_| "it does not begin".to_owned())?.map_err(|failure| failure.text())?;
    let kept = *kept.lock().unwrap();
    if kept == Some(true) { Ok(()) } else { Err(format!("kept when it was told: {kept:?}")) }
}

/// Two that read under one number throw each other out, and say what to do.
pub(super) async fn one_number_for_two(port: u16) -> Outcome {
    let (one, other) = (Folder::new(), Folder::new());
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let said = Arc::new(Mutex::new(String::new()));
    let teller = || {
        let (stop, said) = (Arc::clone(&stop), Arc::clone(&said));
        Teller::new(move |_, line| {
            if line.contains(&NUMBER.to_string()) {
                line.clone_into(&mut said.lock().unwrap());
                stop.send(true).ok();
            }
        })
    };
    let run = |folder: &Folder| {
        connect::maxwell::run(job(port, &folder.0.join("state"), Some(NUMBER)), stopped.clone(), teller())
    };
    let both = async { tokio::join!(run(&one), run(&other)) };
    let done = tokio::time::timeout(PATIENCE, both).await.map_err(|_| "nothing is said".to_owned())?;
    done.0.and(done.1).map_err(|failure| failure.text())?;
    let said = said.lock().unwrap().clone();
    match said.contains("Leave `replica_server_id` out") {
        true => Ok(()),
        false => Err(format!("it says: {said}")),
    }
}
