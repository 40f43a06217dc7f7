//! A session: it takes the marker over, and writes portions in transactions of their own.

use async_trait::async_trait;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::destination::bisect::{AllRefused, Bisect};
use crate::destination::cells::{Cells, Room};
use crate::destination::columns::Table as _;
use crate::destination::kind::{Found, token};
use crate::destination::session::Route;
use crate::destination::tables::{self, Dialect as _};
use crate::destination::text::{Words, bytes_of_hex, push_hex};
use crate::destination::{Begun, Down, Item, MARKERS, Outcome, Portion, Refusal, Seal, Target};

use super::client::{self, Connected, Fault, down, fault, is_deferred, is_made_meanwhile};
use super::config::Config;
use super::table::{Described, OnServer, name_of, quoted};

/// A connection that has taken a sync over.
pub(super) struct Session {
    connected: Connected,
    fence: Statement,
    seal: Statement,
    upsert: Statement,
    delete: Statement,
    /// Asks which table is there, whether it is empty, and which columns it has.
    ground: Statement,
    /// Holds the table, so that nobody empties it; nothing where we may not.
    hold: String,
    /// The table that was there when it began.
    oid: String,
    /// A digest of its columns then.
    columns: Option<String>,
    /// Whether it was empty behind the last transaction of ours.
    left_empty: bool,
    /// The table with the markers.
    markers: String,
    /// Schema and name of the target, as its marker has them.
    place: String,
    token: String,
    /// Of each field's column.
    rooms: Vec<Option<Room>>,
}

/// Deliveries of one sync.
pub(super) struct Delivery {
    pub(super) config: Config,
    pub(super) target: Target,
}

#[async_trait]
impl Route for Delivery {
    type Session = Session;

    /// Connects, sees to the table and takes the marker over.
    async fn begin(&self, rows: u64) -> Result<(Session, Begun), Down> {
        let Self { config, target } = self;
        let connected = client::connect(config).await?;
        let client = &connected.client;
        let mut on_server = OnServer { client, target, config };
        let described = tables::prepare(&mut on_server, target).await?;
        let place = described.full_name();
        let markers = format!("{}.{}", described.schema, quoted(MARKERS));
        let token = token();
        let told = |error: Error| down(&error, config);
        let known = client.query_typed(&ground_sql(&place), &[(&place, Type::TEXT)]).await.map_err(told)?;
        let columns = columns_of(&known);
        if on_server.describe().await?.as_ref() != Some(&described) {
            return Err(Down::altered(&place));
        }
        let (begun, left_empty) = take_over(client, config, target, rows, &described, &markers, &token).await?;
        let prepare = async |sql: String, parameters: usize| {
            let types = vec![Type::TEXT; parameters];
            client.prepare_typed(&sql, &types).await.map_err(told)
        };
        let fence = prepare(fence_sql(&markers), 3).await?;
        let seal = prepare(seal_sql(&markers), 5).await?;
        let upsert = prepare(upsert_sql(&described, target), target.mapping.fields().len()).await?;
        let delete = prepare(delete_sql(&described, target), target.mapping.key().len()).await?;
        let ground = prepare(ground_sql(&place), 1).await?;
        let rooms = target.mapping.fields().iter().map(|field| described.room(field)).collect();
        let hold = if described.may_lock { format!("LOCK TABLE {place} IN ROW EXCLUSIVE MODE") } else { String::new() };
        let oid = described.oid;
        let session = Session {
            connected,
            fence,
            seal,
            upsert,
            delete,
            ground,
            hold,
            oid,
            columns,
            left_empty,
            markers,
            place,
            token,
            rooms,
        };
        Ok((session, begun))
    }

    /// Writes a portion and its mark.
    async fn deliver(&self, session: &mut Session, portion: &Portion, seal: &Seal<'_>) -> Result<Vec<Outcome>, Down> {
        let Self { config, target } = self;
        let writer = Writer { session, config, target, portion, seal };
        let (cells, mut known) = Cells::of(portion, &target.mapping, Words::Postgres);
        cells.refuse_what_loses_blanks(portion, &session.rooms, &mut known);
        let mut written = writer.transaction(&cells, &known, Checks::AsDeclared).await?;
        if written.is_none() {
            written = writer.transaction(&cells, &known, Checks::AtOnce).await?;
        }
        let none = || Down::passing("a constraint is violated at the end, and by no row alone", "");
        let Written { outcomes, left_empty } = written.ok_or_else(none)?;
        session.left_empty = left_empty;
        Ok(outcomes)
    }

    /// Whether the table and its marker are there as this session has left them, and nobody else has taken over.
    async fn look(&self, session: &mut Session) -> Result<(), Down> {
        let Self { config, target } = self;
        let told = |error: Error| down(&error, config);
        let client = &session.connected.client;
        let parameters: [&(dyn ToSql + Sync); 1] = [&session.place];
        session.is_as_left(&client.query(&session.ground, &parameters).await.map_err(told)?)?;
        match session.found(&target.sync).await.map_err(told)? {
            Some(token) if token == session.token => Ok(()),
            found => Err(Down::of_session(found.as_deref(), &target.sync)),
        }
    }

    fn table(&self, _: &Down) -> Option<String> {
        name_of(&self.target).ok()
    }

    async fn close(&self, session: Session) {
        session.connected.close().await;
    }
}

/// Leaves our token beside the marker, and says what stood there, and whether the table is empty. Whoever holds it is waited for: what
/// they commit is seen.
async fn take_over(
    client: &Client,
    config: &Config,
    target: &Target,
    rows: u64,
    described: &Described,
    markers: &str,
    token: &str,
) -> Result<(Begun, bool), Down> {
    let told = |error: Error| down(&error, config);
    let there = client.query_typed("SELECT to_regclass($1)::text", &[(&markers, Type::TEXT)]).await.map_err(told)?;
    let is_there = there.first().is_some_and(|row| row.try_get::<_, Option<String>>(0).ok().flatten().is_some());
    if !is_there
        && let Err(error) = client.batch_execute(&marker_sql(markers)).await
        // Of syncs that begin at once one makes it, and the others may be told of it by an error, when it is there.
        && !is_made_meanwhile(&error)
    {
        return Err(told(error));
    }
    let full_name = described.full_name();
    let texts: [&(dyn ToSql + Sync); 4] = [&target.sync, &full_name, &token, &described.oid];
    let parameters: Vec<(&(dyn ToSql + Sync), Type)> = texts.iter().map(|text| (*text, Type::TEXT)).collect();
    client.batch_execute("BEGIN").await.map_err(told)?;
    let made = format!(
        "INSERT INTO {markers} (sync, target, session, relation) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    );
    client.execute_typed(&made, &parameters).await.map_err(told)?;
    let asked = format!(
        "SELECT encode(marker, 'hex'), relation, (NOT EXISTS (SELECT 1 FROM {full_name}))::text FROM {markers} \
         WHERE sync = $1 AND target = $2 FOR UPDATE"
    );
    let found = client.query_typed(&asked, &parameters[..2]).await.map_err(told)?;
    let text = |i: usize| found.first().and_then(|row| row.try_get::<_, Option<String>>(i).ok().flatten());
    let found = Found {
        marker: text(0).as_deref().and_then(bytes_of_hex),
        is_another: text(1).as_deref() != Some(described.oid.as_str()),
        is_empty: text(2).as_deref() == Some("true"),
    };
    let is_empty = found.is_empty;
    let begun = found.judge(rows);
    let forgotten = if begun.lost.is_some() { ", marker = NULL" } else { "" };
    let taken = format!("UPDATE {markers} SET session = $3, relation = $4{forgotten} WHERE sync = $1 AND target = $2");
    client.execute_typed(&taken, &parameters).await.map_err(told)?;
    client.batch_execute("COMMIT").await.map_err(told)?;
    Ok((begun, is_empty))
}

fn ground_sql(place: &str) -> String {
    format!(
        "SELECT to_regclass($1)::oid::text, (NOT EXISTS (SELECT 1 FROM {place}))::text, (SELECT \
         md5(string_agg(concat_ws(' ', attname, atttypid, atttypmod, attcollation, attnotnull), ',' ORDER BY attnum)) \
         FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped)"
    )
}

impl Session {
    /// The token beside the marker; none: it is gone.
    async fn found(&self, sync: &String) -> Result<Option<String>, Error> {
        let texts: [&(dyn ToSql + Sync); 2] = [sync, &self.place];
        let asked = format!("SELECT session FROM {} WHERE sync = $1 AND target = $2", self.markers);
        let rows = self.connected.client.query_typed(&asked, &texts.map(|text| (text, Type::TEXT))).await?;
        rows.first().map(|row| row.try_get(0)).transpose()
    }

    /// Errors: the table is another one, or was altered, or emptied.
    fn is_as_left(&self, found: &[Row]) -> Result<(), Down> {
        let text = |i: usize| found.first().and_then(|row| row.try_get::<_, Option<String>>(i).ok().flatten());
        let Self { oid, place, columns, left_empty, .. } = self;
        if text(0).as_deref() != Some(oid) {
            return Err(Down::not_as_left(&format!("table {place} was made anew")));
        }
        if columns_of(found) != *columns {
            return Err(Down::altered(place));
        }
        match is_empty(found) && !left_empty {
            true => Err(Down::not_as_left(&format!("table {place} was emptied"))),
            false => Ok(()),
        }
    }
}

fn is_empty(found: &[Row]) -> bool {
    found.first().is_some_and(|row| row.try_get::<_, Option<String>>(1).ok().flatten().as_deref() == Some("true"))
}

fn columns_of(found: &[Row]) -> Option<String> {
    found.first().and_then(|row| row.try_get::<_, Option<String>>(2).ok().flatten())
}

fn marker_sql(markers: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {markers} (sync text NOT NULL, target text NOT NULL, session text NOT NULL, \
         relation text NOT NULL, marker bytea, step bigint, refused bigint, delivered_at timestamptz, \
         PRIMARY KEY (sync, target))"
    )
}

/// Holds the marker for the transaction, if nobody else has taken over.
fn fence_sql(markers: &str) -> String {
    format!("UPDATE {markers} SET delivered_at = clock_timestamp() WHERE sync = $1 AND target = $2 AND session = $3")
}

fn seal_sql(markers: &str) -> String {
    format!(
        "UPDATE {markers} SET marker = decode($3, 'hex'), step = $4::text::bigint, refused = $5::text::bigint \
         WHERE sync = $1 AND target = $2"
    )
}

fn upsert_sql(described: &Described, target: &Target) -> String {
    let fields = target.mapping.fields();
    let names: Vec<String> = fields.iter().map(|field| quoted(&field.target)).collect();
    let arrays: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(i, field)| format!("${}::text::{}", i + 1, described.array_of(field)))
        .collect();
    let keys: Vec<&str> = target.mapping.key().iter().map(|&at| names[at].as_str()).collect();
    let others = names.iter().enumerate().filter(|(at, _)| !target.mapping.key().contains(at));
    let sets: Vec<String> = others.map(|(_, name)| format!("{name} = excluded.{name}")).collect();
    let action = match sets.is_empty() {
        true => "NOTHING".to_owned(),
        false => format!("UPDATE SET {}", sets.join(", ")),
    };
    let numbered = if described.numbers_any(target) { " OVERRIDING SYSTEM VALUE" } else { "" };
    format!(
        "INSERT INTO {} ({}){numbered} SELECT * FROM unnest({}) ON CONFLICT ({}) DO {action}",
        described.full_name(),
        names.join(", "),
        arrays.join(", "),
        keys.join(", ")
    )
}

fn delete_sql(described: &Described, target: &Target) -> String {
    let fields: Vec<_> = target.mapping.key_fields().collect();
    let arrays: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(i, field)| format!("${}::text::{}", i + 1, described.array_of(field)))
        .collect();
    let names: Vec<String> = (1..=fields.len()).map(|i| format!("k{i}")).collect();
    let same: Vec<String> =
        fields.iter().zip(&names).map(|(field, name)| format!("t.{} = gone.{name}", quoted(&field.target))).collect();
    format!(
        "DELETE FROM {} AS t USING unnest({}) AS gone ({}) WHERE {}",
        described.full_name(),
        arrays.join(", "),
        names.join(", "),
        same.join(" AND ")
    )
}

/// Arrays as texts, one per column.
struct Arrays(Vec<Vec<u8>>);

impl Arrays {
    fn new(columns: usize) -> Self {
        Self(vec![b"{".to_vec(); columns])
    }

    fn is_empty(&self) -> bool {
        self.0.first().is_none_or(|text| text.len() == 1)
    }

    fn push(&mut self, cells: &Cells, item: usize) {
        for (i, text) in self.0.iter_mut().enumerate() {
            if text.len() > 1 {
                text.push(b',');
            }
            let Some(cell) = cells.get(item, i) else {
                text.extend_from_slice(b"NULL");
                continue;
            };
            text.push(b'"');
            match cell.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
                false => text.extend_from_slice(cell),
                true => {
                    for &byte in cell {
                        if matches!(byte, b'"' | b'\\') {
                            text.push(b'\\');
                        }
                        text.push(byte);
                    }
                }
            }
            text.push(b'"');
        }
    }

    /// The texts as parameters. Errors: a text is none, which would be a mistake of ours.
    fn end(self) -> Result<Vec<String>, Fault> {
        let text = |mut text: Vec<u8>| {
            text.push(b'}');
            String::from_utf8(text).map_err(|_| Fault::Row(Refusal::new("22021", "a text is not UTF-8")))
        };
        self.0.into_iter().map(text).collect()
    }
}

/// Whether constraints that are checked at the end are checked with each range, so that it is known whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checks {
    AsDeclared,
    AtOnce,
}

/// A portion that is there.
struct Written {
    outcomes: Vec<Outcome>,
    left_empty: bool,
}

struct Writer<'a> {
    session: &'a Session,
    config: &'a Config,
    target: &'a Target,
    portion: &'a Portion,
    seal: &'a Seal<'a>,
}

impl Writer<'_> {
    fn client(&self) -> &Client {
        &self.session.connected.client
    }

    fn down(&self, error: &Error) -> Down {
        down(error, self.config)
    }

    /// The portion in one transaction; none where it was rolled back for a constraint that was checked at its end.
    async fn transaction(
        &self,
        cells: &Cells,
        known: &[Option<Outcome>],
        checks: Checks,
    ) -> Result<Option<Written>, Down> {
        self.fence().await?;
        let open: Vec<usize> = (0..self.portion.len()).filter(|&at| known[at].is_none()).collect();
        let mut search = Bisect::new(open.len());
        while let Some(range) = search.next() {
            match self.try_rows(cells, &open[range], checks).await {
                Ok(()) => search.took(),
                Err(Fault::Down(down)) => return Err(down),
                Err(Fault::Row(refusal)) => {
                    search.refused(refusal).map_err(|AllRefused(of)| Down::all_refused(&of.code, &of.reason))?;
                }
            }
        }
        let refused = search.end();
        let mut outcomes: Vec<Outcome> = known
            .iter()
            .enumerate()
            .map(|(at, known)| known.clone().unwrap_or_else(|| self.portion.taken(at)))
            .collect();
        for (at, refusal) in refused {
            outcomes[open[at]] = Outcome::Refused(refusal);
        }
        match self.commit(&outcomes).await {
            Ok(left_empty) => Ok(Some(Written { outcomes, left_empty })),
            Err(error) if is_deferred(&error) && checks == Checks::AsDeclared => Ok(None),
            Err(error) => Err(self.down(&error)),
        }
    }

    /// Begins, and holds the marker and the table: it is as this session has left it, and nobody empties it meanwhile.
    async fn fence(&self) -> Result<(), Down> {
        let Session { place, token, fence, ground, hold, .. } = self.session;
        let parameters: [&(dyn ToSql + Sync); 3] = [&self.target.sync, place, token];
        let of_ground: [&(dyn ToSql + Sync); 1] = [place];
        // Sent at once, in this order.
        let (begun, taken, held, found) = tokio::join!(
            biased;
            self.client().batch_execute("BEGIN"),
            self.client().execute(fence, &parameters),
            self.client().batch_execute(hold),
            self.client().query(ground, &of_ground),
        );
        begun.map_err(|error| self.down(&error))?;
        if taken.map_err(|error| self.down(&error))? == 0 {
            let found = self.session.found(&self.target.sync).await.map_err(|error| self.down(&error))?;
            return Err(Down::of_session(found.as_deref(), &self.target.sync));
        }
        held.map_err(|error| self.down(&error))?;
        self.session.is_as_left(&found.map_err(|error| self.down(&error))?)
    }

    /// Writes the marker, and ends the transaction. Answers whether the table is empty behind it.
    async fn commit(&self, outcomes: &[Outcome]) -> Result<bool, Error> {
        let mut hex = Vec::new();
        push_hex(&mut hex, &(self.seal)(outcomes));
        let hex = String::from_utf8(hex).unwrap_or_default();
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
        let (step, refused) = (self.portion.step().to_string(), refused.to_string());
        let Session { place, seal, ground, .. } = self.session;
        let parameters: [&(dyn ToSql + Sync); 5] = [&self.target.sync, place, &hex, &step, &refused];
        let of_ground: [&(dyn ToSql + Sync); 1] = [place];
        let has = |wanted: &Outcome| outcomes.contains(wanted);
        // A row that is there is there, and where none went nothing is emptier than before.
        let is_asked = has(&Outcome::Removed) && !has(&Outcome::Accepted);
        let asked = async {
            match is_asked {
                true => self.client().query(ground, &of_ground).await.map(Some),
                false => Ok(None),
            }
        };
        // Sent at once, in this order: what cannot be written is not committed.
        let (sealed, found, committed) = tokio::join!(
            biased;
            self.client().execute(seal, &parameters),
            asked,
            self.client().batch_execute("COMMIT"),
        );
        sealed?;
        let found = found?;
        committed?;
        Ok(found.map_or(self.session.left_empty && !has(&Outcome::Accepted), |found| is_empty(&found)))
    }

    /// Some rows, all or none. What leaves goes first: it may free a value that comes.
    async fn try_rows(&self, cells: &Cells, items: &[usize], checks: Checks) -> Result<(), Fault> {
        let mut puts = Arrays::new(self.target.mapping.fields().len());
        let mut gone = Arrays::new(self.target.mapping.key().len());
        for &item in items {
            match self.portion.get(item) {
                Item::Upsert(_) => puts.push(cells, item),
                Item::Delete(_) => gone.push(cells, item),
            }
        }
        let end = match checks {
            Checks::AsDeclared => "RELEASE SAVEPOINT part",
            Checks::AtOnce => "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; RELEASE SAVEPOINT part",
        };
        // Sent at once, in this order: each is carried out only if those before were.
        let (saved, deleted, put, ended) = tokio::join!(
            biased;
            self.client().batch_execute("SAVEPOINT part"),
            self.run(&self.session.delete, gone),
            self.run(&self.session.upsert, puts),
            self.client().batch_execute(end),
        );
        saved.map_err(|error| Fault::Down(self.down(&error)))?;
        let ended = ended.map_err(|error| fault(&error, self.config));
        // The first that failed says why; those behind it were not carried out.
        let done = deleted.and(put).and(ended);
        if let Err(Fault::Row(_)) = done {
            self.client()
                .batch_execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")
                .await
                .map_err(|error| Fault::Down(self.down(&error)))?;
        }
        done
    }

    async fn run(&self, statement: &Statement, arrays: Arrays) -> Result<(), Fault> {
        if arrays.is_empty() {
            return Ok(());
        }
        let texts = arrays.end()?;
        let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
        self.client().execute(statement, &parameters).await.map(drop).map_err(|error| fault(&error, self.config))
    }
}
