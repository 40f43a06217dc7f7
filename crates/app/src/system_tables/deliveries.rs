//! The system tables of syncs: how each is, what its file says, and what it has delivered last.

use super::{Column, Columns, count, seconds, text};
use crate::delivery::{DeliveryStatus, Tried};
use crate::status::Facts;

/// A sync's name, and how it is.
type Named<'a> = (&'a String, &'a DeliveryStatus);

/// The model or table that a sync follows.
fn model(of: &DeliveryStatus) -> Option<String> {
    of.relation.as_ref().map(ToString::to_string)
}

/// How the project's syncs are.
pub(super) fn deliveries(facts: &Facts, now: i64) -> Columns {
    let rows: Vec<Named<'_>> = facts.deliveries.iter().collect();
    let told: Vec<(&str, String)> = rows.iter().map(|(_, delivery)| delivery.told()).collect();
    let step = |of: &DeliveryStatus| of.delivered_step().and_then(|step| i64::try_from(step).ok());
    let times = |get: fn((f64, f64)) -> f64| {
        Column::Float(rows.iter().map(|r| r.1.log.commit_delivered_ms().map(get)).collect())
    };
    let error = |r: &Named<'_>| r.1.log.last_error().map(|(at_us, message)| (at_us, message.to_owned()));
    vec![
        ("sync", text(&rows, |r| r.0)),
        ("destination", text(&rows, |r| &r.1.destination)),
        ("model", Column::Text(rows.iter().map(|r| model(r.1)).collect())),
        ("state", text(&told, |r| r.0)),
        // Rows that have changed and are not delivered, and those ahead of it while it goes through all of them.
        ("backlog_rows", count(&rows, |r| r.1.backlog_rows())),
        ("backlog_bytes", count(&rows, |r| r.1.backlog_bytes())),
        ("oldest_seconds", Column::Float(rows.iter().map(|r| Some(seconds(r.1.oldest_us(now)))).collect())),
        // Rows and deletes, since the sync was set up.
        ("sent_total", count(&rows, |r| r.1.sent_total())),
        ("rejected_total", count(&rows, |r| r.1.rejected_total())),
        // Up to which all is delivered; NULL while it goes through all rows.
        ("step", Column::Int(rows.iter().map(|r| step(r.1)).collect())),
        ("message", text(&told, |r| &r.1)),
        ("type", text(&rows, |r| &r.1.declared.kind)),
        // Rows and deletes, of late.
        ("sent_per_second", Column::Float(rows.iter().map(|r| Some(r.1.log.per_second(now))).collect())),
        ("deleted_total", count(&rows, |r| r.1.deleted_total())),
        // Rows that the destination refuses now: they are in tidemill.rejects.
        ("refused_rows", count(&rows, |r| r.1.refused_rows())),
        // From the commit at the source until it is there, since the start; NULL where nothing was measured.
        ("p50_ms", times(|(half, _)| half)),
        ("p99_ms", times(|(_, most)| most)),
        // Since when what it follows is out of date; NULL where it is not, or that is not known.
        ("stale_since", Column::Time(rows.iter().map(|r| r.1.stale_since_us).collect())),
        // Why nothing was delivered when that was so last, which may be over; NULL where it was not since the start.
        ("last_error", Column::Text(rows.iter().map(|r| error(r).map(|(_, message)| message)).collect())),
        ("last_error_at", Column::Time(rows.iter().map(|r| error(r).map(|(at_us, _)| at_us)).collect())),
    ]
}

/// What the files of syncs say.
pub(super) fn syncs(facts: &Facts, _now: i64) -> Columns {
    let rows: Vec<Named<'_>> = facts.deliveries.iter().collect();
    vec![
        ("sync", text(&rows, |r| r.0)),
        ("model", Column::Text(rows.iter().map(|r| model(r.1)).collect())),
        ("destination", text(&rows, |r| &r.1.destination)),
        ("type", text(&rows, |r| &r.1.declared.kind)),
        // Where the connection leads, without what is secret.
        ("address", text(&rows, |r| &r.1.declared.address)),
        ("target", text(&rows, |r| &r.1.declared.target)),
        ("mode", text(&rows, |r| r.1.declared.mode)),
        // By what a row is found over there; empty: by its key.
        ("match", text(&rows, |r| &r.1.declared.matched)),
        // What is delivered beside that; empty: all other columns.
        ("fields", text(&rows, |r| &r.1.declared.fields)),
        ("guards", text(&rows, |r| &r.1.declared.guards)),
        ("description", text(&rows, |r| &r.1.declared.description)),
        ("path", text(&rows, |r| &r.1.declared.path)),
    ]
}

/// The last deliveries of each sync, oldest first.
pub(super) fn log(facts: &Facts, _now: i64) -> Columns {
    let all = facts.deliveries.iter().flat_map(|of| of.1.log.tried().map(move |tried| (of, tried)));
    let rows: Vec<(Named<'_>, &Tried)> = all.collect();
    let step = |of: &Tried| of.step.and_then(|step| i64::try_from(step).ok());
    vec![
        ("sync", text(&rows, |r| r.0.0)),
        ("model", Column::Text(rows.iter().map(|r| model(r.0.1)).collect())),
        // When it ended; of several tries the last one.
        ("at", Column::Time(rows.iter().map(|r| Some(r.1.at_us)).collect())),
        // At which the rows are; NULL where nothing was delivered.
        ("step", Column::Int(rows.iter().map(|r| step(r.1)).collect())),
        ("rows", count(&rows, |r| r.1.rows)),
        ("deletes", count(&rows, |r| r.1.deletes)),
        ("refused", count(&rows, |r| r.1.refused)),
        ("took_ms", Column::Float(rows.iter().map(|r| r.1.took_us.map(|us| us as f64 / 1e3)).collect())),
        ("outcome", text(&rows, |r| r.1.ended.word())),
        ("tries", count(&rows, |r| r.1.tries)),
        ("message", text(&rows, |r| &r.1.message)),
    ]
}
