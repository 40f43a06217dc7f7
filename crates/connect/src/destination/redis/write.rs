//! A session: it takes the marker over, and carries out portions by scripts that look for its token.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use crate::destination::cells::Cells;
use crate::destination::kind::{Found, token};
use crate::destination::link::{self, Link, PATIENCE};
use crate::destination::session::{LOOK_PATIENCE, Route};
use crate::destination::text::Words;
use crate::destination::{Begun, Down, MARKERS, Outcome, Portion, Refusal, Seal, Target};
use crate::source::now_us;
use crate::tls::Tls;

use super::config::Config;
use super::form::Form;
use super::wire::{Reply, Wire, WireError};

const BEGIN: &str = include_str!("begin.lua");
const APPLY: &str = include_str!("apply.lua");
const MARK: &str = include_str!("mark.lua");

/// Commands of one script: Redis does nothing else while it runs.
const COMMANDS_MAX: usize = 500;
/// Bytes behind which a script takes no further command.
const SCRIPT_BYTES: usize = 256 << 10;
/// Redis takes no text with more bytes unless it is told to.
const TEXT_BYTES_MAX: usize = 512 << 20;
/// So many rows refused alike, and none taken, are a mistake of the settings and none of rows.
const ALIKE_MAX: usize = 100;

/// A connection that has taken a sync over.
pub(super) struct Session {
    wire: Wire,
    marker: Vec<u8>,
    token: String,
    /// The digests by which scripts are called.
    apply: Vec<u8>,
    mark: Vec<u8>,
}

/// Connects and logs in.
pub(super) async fn connect(config: &Config) -> Result<Wire, Down> {
    match tokio::time::timeout(PATIENCE, Box::pin(open(config))).await {
        Ok(wire) => wire,
        Err(_) => {
            let mut down = unreachable(config, &format!("no sign of life for {} s", PATIENCE.as_secs()));
            if config.tls != Tls::Disabled {
                down.failure.hint.push_str(" A server without TLS says nothing to who speaks it: `tls: disabled`.");
            }
            Err(down)
        }
    }
}

async fn open(config: &Config) -> Result<Wire, Down> {
    let address = config.address();
    let stream = link::dial(&config.host, config.port).await;
    let stream = stream.map_err(|error| unreachable(config, &link::told(&error, &address)))?;
    let link: Link = match config.tls {
        Tls::Disabled => Box::new(stream),
        tls => {
            let sealed = link::encrypt(stream, &config.host, tls, config.tls_ca.as_deref()).await;
            sealed.map_err(|reason| {
                let hint = "Check `tls` of the connection: `verify` needs a certificate signed by a known authority (or `tls_ca`) \
                            for this host name, and a server without TLS needs `redis://`.";
                Down::ours(format!("cannot open an encrypted connection to {address}"), reason, hint)
            })?
        }
    };
    let mut wire = Wire::new(link);
    if let Some(password) = &config.password {
        let mut words: Vec<&[u8]> = vec![&b"AUTH"[..]];
        words.extend(config.user.as_deref().map(str::as_bytes));
        words.push(password.as_bytes());
        expect(wire.ask(&words).await, config)?;
    }
    // Also where it is the first: a Redis that wants a password says so here.
    expect(wire.ask(&[b"SELECT", config.database.to_string().as_bytes()]).await, config)?;
    // Some users may not; it has no other use than to be seen.
    wire.ask(&[b"CLIENT", b"SETNAME", b"tidemill"]).await.map_err(|error| lost(&error, config))?;
    Ok(wire)
}

/// What it does when its memory is full, if it tells.
pub(super) async fn policy(wire: &mut Wire) -> Option<String> {
    match wire.ask(&[b"CONFIG", b"GET", b"maxmemory-policy"]).await.ok()? {
        Reply::Many(pair) => pair.get(1)?.text(),
        _ => None,
    }
}

/// Deliveries of one sync.
pub(super) struct Delivery {
    pub(super) config: Config,
    pub(super) target: Target,
    pub(super) form: Form,
}

#[async_trait]
impl Route for Delivery {
    type Session = Session;

    /// Connects and takes the marker over.
    async fn begin(&self, rows: u64) -> Result<(Session, Begun), Down> {
        let Self { config, target, .. } = self;
        let mut wire = connect(config).await?;
        // Who may not ask is told by the first script.
        let info = wire.ask(&[b"INFO", b"cluster"]).await.map_err(|error| lost(&error, config))?;
        if info.text().is_some_and(|info| info.contains("cluster_enabled:1")) {
            return Err(Down::ours(
                format!("{} is a Redis Cluster", config.address()),
                "Rows and their marker are written by one script, which needs one server.",
                "Deliver to a Redis that is no cluster.",
            ));
        }
        let mut digests = Vec::new();
        for script in [APPLY, MARK] {
            let reply = expect(wire.ask(&[b"SCRIPT", b"LOAD", script.as_bytes()]).await, config)?;
            digests.push(reply.bytes().unwrap_or_default().to_vec());
        }
        let [apply, mark] = <[Vec<u8>; 2]>::try_from(digests).unwrap_or_default();
        let marker = format!("{MARKERS}:{}", target.sync).into_bytes();
        let token = token();
        let before = wire.ask(&[b"EVAL", BEGIN.as_bytes(), b"1", &marker, token.as_bytes()]).await;
        let before = expect(before, config)?;
        // Keys may go by themselves; that all of them have gone and not the marker is not told.
        let begun = Found { marker: before.bytes().map(<[u8]>::to_vec), ..Found::default() }.judge(rows);
        Ok((Session { wire, marker, token, apply, mark }, begun))
    }

    /// It waits for nobody but a script that runs.
    fn begin_patience(&self) -> Duration {
        LOOK_PATIENCE
    }

    async fn deliver(&self, session: &mut Session, portion: &Portion, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        session.deliver(&self.config, &self.target, &self.form, portion, seal).await
    }

    async fn look(&self, session: &mut Session) -> Result<(), Down> {
        session.look(&self.config, &self.target).await
    }
}

impl Session {
    /// Carries out a portion, and writes its mark when all of it is done.
    async fn deliver(
        &mut self,
        config: &Config,
        target: &Target,
        form: &Form,
        portion: &Portion,
        seal: &Seal<'_>,
    ) -> Result<Vec<Outcome>, Down> {
        let (cells, known) = Cells::of(portion, &target.mapping, Words::Redis);
        let mut outcomes: Vec<Outcome> =
            known.iter().enumerate().map(|(at, known)| known.clone().unwrap_or_else(|| portion.taken(at))).collect();
        let mut scripts = Vec::new();
        let mut script = Script::default();
        for at in (0..portion.len()).filter(|&at| known[at].is_none()) {
            let commands = form.commands(&target.mapping, &cells, at, portion.get(at)).and_then(small);
            match commands {
                Err(refusal) => outcomes[at] = Outcome::Refused(refusal),
                // What belongs to a row is in one script.
                Ok(commands) => {
                    script.push(at, &commands);
                    if script.items.len() >= COMMANDS_MAX || script.words.len() >= SCRIPT_BYTES {
                        scripts.push(self.send(std::mem::take(&mut script)));
                        // It works while we write the next one.
                        self.wire.flush().await.map_err(|error| lost(&error, config))?;
                    }
                }
            }
        }
        if !script.items.is_empty() {
            scripts.push(self.send(script));
        }
        self.wire.flush().await.map_err(|error| lost(&error, config))?;
        let mut refused = BTreeMap::new();
        for items in scripts {
            let reply = expect(self.wire.reply().await, config);
            failures(&reply.map_err(|down| fenced(down, target))?, &items, config, &mut refused)?;
        }
        refuse_alike(&refused, portion.len())?;
        for (at, refusal) in refused {
            outcomes[at] = Outcome::Refused(refusal);
        }
        let marker = seal(&outcomes);
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
        self.write_mark(&marker, portion.step(), refused, config).await.map_err(|down| fenced(down, target))?;
        Ok(outcomes)
    }

    /// Whether the marker is there still, and nobody else has taken over.
    async fn look(&mut self, config: &Config, target: &Target) -> Result<(), Down> {
        let reply = expect(self.wire.ask(&[b"HGET", &self.marker, b"session"]).await, config)?;
        match reply.text() {
            Some(token) if token == self.token => Ok(()),
            found => Err(Down::of_session(found.as_deref(), &target.sync)),
        }
    }

    /// Puts a script on its way; answers the item of each of its commands.
    fn send(&mut self, script: Script) -> Vec<usize> {
        self.wire.command(5 + script.count);
        let words: [&[u8]; 5] = [b"EVALSHA", &self.apply, b"1", &self.marker, self.token.as_bytes()];
        words.iter().for_each(|word| self.wire.word(word));
        self.wire.raw(&script.words);
        script.items
    }

    async fn write_mark(&mut self, marker: &[u8], step: u64, refused: usize, config: &Config) -> Result<(), Down> {
        let [step, refused] = [step.to_string(), refused.to_string()];
        let at_us = now_us().to_string();
        let words: [&[u8]; 13] = [
            b"EVALSHA",
            &self.mark,
            b"1",
            &self.marker,
            self.token.as_bytes(),
            b"marker",
            marker,
            b"step",
            step.as_bytes(),
            b"refused",
            refused.as_bytes(),
            b"delivered_at_us",
            at_us.as_bytes(),
        ];
        expect(self.wire.ask(&words).await, config).map(drop)
    }
}

/// Commands of one call.
#[derive(Debug, Default)]
struct Script {
    /// The item of each command.
    items: Vec<usize>,
    words: Vec<u8>,
    count: usize,
}

impl Script {
    fn push(&mut self, item: usize, commands: &[Vec<Vec<u8>>]) {
        for command in commands {
            self.items.push(item);
            self.count += command.len() + 1;
            Wire::push_word(&mut self.words, command.len().to_string().as_bytes());
            command.iter().for_each(|word| Wire::push_word(&mut self.words, word));
        }
    }
}

/// Refuses a row with a text that Redis does not take.
fn small(commands: Vec<Vec<Vec<u8>>>) -> Result<Vec<Vec<Vec<u8>>>, Refusal> {
    let is_large = |word: &Vec<u8>| word.len() >= TEXT_BYTES_MAX;
    match commands.iter().flatten().any(is_large) {
        true => Err(Refusal::new("too_large", "a text of 512 MiB and more is not taken by Redis")),
        false => Ok(commands),
    }
}

/// Notes the rows whose commands have failed. Errors: it is none of rows.
fn failures(
    reply: &Reply,
    items: &[usize],
    config: &Config,
    refused: &mut BTreeMap<usize, Refusal>,
) -> Result<(), Down> {
    let Reply::Many(pairs) = reply else { return Err(lost(&WireError::Protocol, config)) };
    for pair in pairs.chunks(2) {
        let number = pair.first().and_then(Reply::text).and_then(|text| text.parse::<usize>().ok());
        let item = number.and_then(|number| items.get(number.checked_sub(1)?)).copied();
        let (Some(item), Some(said)) = (item, pair.get(1).and_then(Reply::text)) else {
            return Err(lost(&WireError::Protocol, config));
        };
        let (code, reason) = words_of(&said);
        match code {
            "WRONGTYPE" | "ERR" => refused.insert(item, Refusal::new(code, reason)),
            _ => return Err(down(&said, config)),
        };
    }
    Ok(())
}

fn refuse_alike(refused: &BTreeMap<usize, Refusal>, items: usize) -> Result<(), Down> {
    let Some(first) = refused.values().next() else { return Ok(()) };
    let is_all = refused.len() == items && items >= ALIKE_MAX;
    match is_all && refused.values().all(|other| other.code == first.code) {
        true => Err(Down::all_refused(&first.code, &first.reason)),
        false => Ok(()),
    }
}

/// A reply that is no error.
fn expect(reply: Result<Reply, WireError>, config: &Config) -> Result<Reply, Down> {
    match reply {
        Ok(Reply::Error(said)) => Err(down(&said, config)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(lost(&error, config)),
    }
}

fn lost(error: &WireError, config: &Config) -> Down {
    let address = config.address();
    Down::passing(format!("lost the connection to {address}"), error.told(&address))
}

fn unreachable(config: &Config, detail: &str) -> Down {
    let mut down = Down::passing(format!("cannot reach {}", config.address()), detail);
    down.failure.hint = "Check host and port of the connection, and that Redis runs.".to_owned();
    down
}

/// What scripts answer where another session delivers, and where the marker is gone.
const FENCED: &str = "FENCED";
const UNMARKED: &str = "UNMARKED";

/// Names the sync, where it is not this session any more that delivers it.
fn fenced(down: Down, target: &Target) -> Down {
    match down.failure.message.as_str() {
        FENCED => Down::of_session(Some(FENCED), &target.sync),
        UNMARKED => Down::of_session(None, &target.sync),
        _ => down,
    }
}

/// The code of what Redis says, and its words. Some versions say by which script, too.
fn words_of(said: &str) -> (&str, &str) {
    let said = said.split(" script: ").next().unwrap_or_default().trim_end_matches(',');
    said.split_once(' ').unwrap_or((said, said))
}

/// What Redis says that is none of rows.
fn down(said: &str, config: &Config) -> Down {
    let address = config.address();
    let (code, words) = words_of(said);
    let said = format!("{words} ({code})");
    let user = config.user.as_deref().unwrap_or("default");
    match code {
        FENCED | UNMARKED => Down::passing(code, ""),
        "NOAUTH" | "WRONGPASS" => Down::ours(
            format!("{address} refuses user \"{user}\""),
            said,
            "Check `user` and `password` of the connection.",
        ),
        "ERR" if said.contains("AUTH") => Down::ours(
            format!("{address} refuses user \"{user}\""),
            said,
            "It asks for no password, or has no users: leave out `password` or `user` of the connection.",
        ),
        "NOPERM" => Down::ours(
            format!("user \"{user}\" lacks a privilege"),
            said,
            format!("ACL SETUSER {user} ~* +@read +@write +@scripting +select"),
        ),
        "ERR" if said.contains("DB index") => Down::ours(
            format!("{address} has no database {}", config.database),
            said,
            "Correct the number of the database in the connection.",
        ),
        "READONLY" => Down::passing(format!("{address} takes no writes: it is read-only"), said),
        "OOM" => Down::passing(format!("{address} takes no writes: its memory is full"), said),
        _ => Down::passing(format!("{address} takes no writes for now"), said),
    }
}
