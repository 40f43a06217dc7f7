//! What `/metrics` says of the instance: the same facts as the system tables, under Prometheus' names.
//!
//! Labels are bounded by the project: sources, tables, models, states and stages.

use serve::metrics::{Histogram, Kind, Metric, Value};

use crate::delivery::STATES as DELIVERY_STATES;
use crate::status::{Facts, Status};

/// States in which a source can be.
const SOURCE_STATES: [&str; 7] = ["connecting", "snapshot", "streaming", "behind", "stalled", "paused", "stopped"];
/// States in which a table can be.
const TABLE_STATES: [&str; 10] = [
    "snapshot",
    "streaming",
    "resnapshot",
    "altered",
    "parked",
    "connecting",
    "behind",
    "stalled",
    "paused",
    "stopped",
];
/// States in which a model can be.
const MODEL_STATES: [&str; 7] = ["building", "live", "stale", "mixed", "held", "parked", "failed"];

/// All metrics of an instance.
pub fn of(status: &Status, now_us: i64) -> Vec<Metric> {
    let mut out = Out::default();
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    out.gauge("tidemill_build_info", "1, with the version that runs.", version, 1.0);
    store(status, &mut out);
    process(status, &mut out);
    let facts = status.facts();
    health(&facts, now_us, &mut out);
    sources(&facts, now_us, &mut out);
    tables(&facts, now_us, &mut out);
    models(&facts, now_us, &mut out);
    reconciled(&facts, now_us, &mut out);
    deliveries(&facts, now_us, &mut out);
    stages(&facts, &mut out);
    out.metrics
}

#[derive(Default)]
struct Out {
    metrics: Vec<Metric>,
}

impl Out {
    fn add(&mut self, name: &str, help: &str, kind: Kind, labels: Vec<(&str, String)>, value: Value) {
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        self.metrics.push(Metric { name: name.to_owned(), help: help.to_owned(), kind, labels, value });
    }

    fn gauge(&mut self, name: &str, help: &str, labels: Vec<(&str, String)>, value: f64) {
        self.add(name, help, Kind::Gauge, labels, Value::Number(value));
    }

    fn counter(&mut self, name: &str, help: &str, labels: Vec<(&str, String)>, value: u64) {
        self.add(name, help, Kind::Counter, labels, Value::Integer(value));
    }

    /// One sample per state that there is, 1 for the present one.
    fn states(&mut self, name: &str, help: &str, label: (&str, &str), states: &[&str], present: &str) {
        for state in states {
            let labels = vec![(label.0, label.1.to_owned()), ("state", (*state).to_owned())];
            self.gauge(name, help, labels, f64::from(u8::from(*state == present)));
        }
    }
}

fn store(status: &Status, out: &mut Out) {
    let stats = status.store().stats();
    out.gauge("tidemill_step", "Number of the newest step.", vec![], stats.step as f64);
    let help = "Newest step that is folded into the tables.";
    out.gauge("tidemill_folded_step", help, vec![], stats.folded_step as f64);
    out.counter("tidemill_folds_total", "Folds since the start.", vec![], stats.folds);
    out.gauge("tidemill_log_bytes", "Bytes of the change log.", vec![], stats.log_bytes as f64);
    out.gauge("tidemill_tables_bytes", "Bytes of the tables on disk.", vec![], stats.disk_bytes as f64);
    let help = "Point reads that the cache answered.";
    out.counter("tidemill_cache_hits_total", help, vec![], stats.hot_hits);
    out.counter("tidemill_cache_misses_total", "Point reads past the cache.", vec![], stats.hot_misses);
    for (component, bytes) in
        [("overlay", stats.overlay_bytes as u64), ("cache", stats.hot_bytes), ("filter", stats.filter_bytes)]
    {
        let labels = vec![("component", component.to_owned())];
        out.gauge("tidemill_memory_bytes", "Memory by what it holds.", labels, bytes as f64);
    }
}

fn process(status: &Status, out: &mut Out) {
    let labels = vec![("component", "process".to_owned())];
    let resident = crate::process::memory().resident;
    out.gauge("tidemill_memory_bytes", "Memory by what it holds.", labels, resident as f64);
    if let Some(free) = crate::process::disk_free(status.store().folder()) {
        out.gauge("tidemill_disk_free_bytes", "Free space where the data lie.", vec![], free as f64);
    }
}

/// Whether there is anything to look at, in two figures that an alarm may stand on.
fn health(facts: &Facts, now_us: i64, out: &mut Out) {
    let help = "1 where queries are answered, old data with its age included.";
    out.gauge("tidemill_ready", help, vec![], f64::from(u8::from(facts.started && facts.ready)));
    let help = "Things that are not as they should be, as /health/readyz names them.";
    out.gauge("tidemill_troubles", help, vec![], facts.troubles(now_us).len() as f64);
}

fn sources(facts: &Facts, now_us: i64, out: &mut Out) {
    for (name, source) in &facts.sources {
        let labels = || vec![("source", name.clone())];
        let help = "1 for the state in which the source is.";
        let state = facts.source_state(source, now_us).0;
        out.states("tidemill_source_state", help, ("source", name), &SOURCE_STATES, state);
        let help = "Age of the oldest commit that is not visible yet, or the delay of the transactions that flow.";
        out.gauge("tidemill_source_lag_seconds", help, labels(), facts.source_lag_us(source, now_us) as f64 / 1e6);
        if let Some(bytes) = source.lag_bytes {
            let help = "Bytes of the source's log that are not read yet.";
            out.gauge("tidemill_source_lag_bytes", help, labels(), bytes as f64);
        }
        let help = "1 while the source is further behind than its bounds allow.";
        let is_over = f64::from(u8::from(source.backlog.is_some()));
        out.gauge("tidemill_source_backlog_exceeded", help, labels(), is_over);
        if let Some(retention) = &source.retention {
            let help = "How much of the time is over for which the source keeps what is not read yet of its log.";
            let used = retention.used_percent(now_us) as f64 / 100.0;
            out.gauge("tidemill_source_retention_used_ratio", help, labels(), used);
        }
        let events = facts.tables.values().filter(|t| t.source == *name).map(|t| t.changes_total).sum();
        out.counter("tidemill_source_events_total", "Changed rows since the start.", labels(), events);
    }
    let of_tables: u64 = facts.tables.values().map(|table| table.rejects).sum();
    let refused = facts.deliveries.values().filter_map(|delivery| delivery.outbox.as_ref());
    let refused: u64 = refused.filter(|outbox| !outbox.is_retired).map(|outbox| outbox.refused_rows).sum();
    let rejects = (of_tables + facts.rejected.of_models + refused) as f64;
    out.gauge("tidemill_rejects", "Rows that a table, model or destination could not take.", vec![], rejects);
}

fn tables(facts: &Facts, now_us: i64, out: &mut Out) {
    for (name, table) in &facts.tables {
        let labels = || vec![("table", name.to_string())];
        let help = "1 for the state in which the table is.";
        let state = facts.table_state(table, now_us).0;
        out.states("tidemill_table_state", help, ("table", &name.to_string()), &TABLE_STATES, state);
        out.gauge("tidemill_table_rows", "Rows of a source table.", labels(), table.rows as f64);
        let help = "Changed rows since the start.";
        out.counter("tidemill_table_changes_total", help, labels(), table.changes_total);
        let help =
            "Age of the oldest commit that may be missing in the table, or the delay of its transactions that flow.";
        out.gauge("tidemill_table_lag_seconds", help, labels(), facts.table_lag_us(table, now_us) as f64 / 1e6);
        let help = "Rows of the table that its source could not decode.";
        out.gauge("tidemill_table_rejects", help, labels(), table.rejects as f64);
        let help = "Bytes of the table's changes that were read and are not visible yet.";
        out.gauge("tidemill_table_lag_bytes", help, labels(), table.untaken_bytes as f64);
        let help = "1 for the table that has brought most of a backlog beyond its bounds.";
        let is_most = f64::from(u8::from(table.backlog.is_some()));
        out.gauge("tidemill_table_backlog_exceeded", help, labels(), is_most);
        let help = "How much of the first load is done.";
        let loaded = match (table.state.as_str(), table.snapshot_rows_total) {
            ("snapshot", 0) => 0.0,
            ("snapshot", total) => (table.snapshot_rows as f64 / total as f64).min(1.0),
            _ => 1.0,
        };
        out.gauge("tidemill_snapshot_progress_ratio", help, labels(), loaded);
    }
}

fn models(facts: &Facts, now_us: i64, out: &mut Out) {
    for (name, view) in &facts.views {
        let help = "1 for the state in which the view is.";
        out.states("tidemill_view_state", help, ("view", &name.to_string()), &MODEL_STATES, view.word());
    }
    for (name, model) in &facts.models {
        let label = name.to_string();
        let labels = || vec![("model", label.clone())];
        let help = "1 for the state in which the model is.";
        out.states("tidemill_model_state", help, ("model", &label), &MODEL_STATES, model.word());
        out.gauge("tidemill_model_rows", "Rows of a model.", labels(), model.rows as f64);
        let help = "Rows that the model lacks, in it or below it, because an expression failed on them.";
        out.gauge("tidemill_model_rejects", help, labels(), model.rejects as f64);
        let help = "Changed rows since the start.";
        out.counter("tidemill_model_changes_total", help, labels(), model.changes_total);
        let help = "Age of the oldest commit that may be missing in the model, or the delay of transactions that flow into it.";
        let lag = facts.model_lag_us(name, model, now_us) as f64 / 1e6;
        out.gauge("tidemill_model_lag_seconds", help, labels(), lag);
        if let Some(age_us) = model.age_us(now_us) {
            let help = "Age of what the model shows.";
            out.gauge("tidemill_model_freshness_seconds", help, labels(), age_us as f64 / 1e6);
        }
        let pace = facts.history.pace(name);
        let help = "Changed rows per second over the last seconds.";
        out.gauge("tidemill_model_changes_per_second", help, labels(), pace);
    }
}

/// How tables compared with their sources.
fn reconciled(facts: &Facts, now_us: i64, out: &mut Out) {
    for (source, of) in &facts.reconciled.sources {
        let help = "1 while the tables of a source are compared with it, or a comparison is to go on.";
        let is_running = f64::from(u8::from(of.unfinished.is_some()));
        out.gauge("tidemill_reconcile_running", help, vec![("source", source.clone())], is_running);
        for (name, compared) in of.tables.iter().filter(|(_, compared)| compared.equal.is_some()) {
            let labels = || vec![("table", name.clone())];
            let help = "1 where the last comparison of a table with its source found a difference.";
            let differs = f64::from(u8::from(compared.equal == Some(false)));
            out.gauge("tidemill_reconcile_differs", help, labels(), differs);
            if let (Some(kept), Some(expected)) = (compared.rows_only_kept, compared.rows_only_expected) {
                let help = "Rows that only one side had in the last comparison of a table with its source.";
                out.gauge("tidemill_reconcile_differing_rows", help, labels(), (kept + expected) as f64);
            }
            if let Some(from_us) = compared.compared_from_us {
                let help = "Age of the oldest part of the last comparison of a table with its source.";
                out.gauge("tidemill_reconcile_age_seconds", help, labels(), (now_us - from_us) as f64 / 1e6);
            }
        }
    }
}

/// How far syncs are.
fn deliveries(facts: &Facts, now_us: i64, out: &mut Out) {
    for (name, delivery) in &facts.deliveries {
        let labels = || vec![("sync", name.clone())];
        let help = "1 for the state in which the sync is.";
        out.states("tidemill_delivery_state", help, ("sync", name), &DELIVERY_STATES, delivery.told().0);
        let help = "Rows that are to be delivered.";
        out.gauge("tidemill_delivery_backlog_rows", help, labels(), delivery.backlog_rows() as f64);
        let help = "Rows that the destination refuses now.";
        out.gauge("tidemill_delivery_refused_rows", help, labels(), delivery.refused_rows() as f64);
        let help = "Bytes of the keys that are to be delivered.";
        out.gauge("tidemill_delivery_backlog_bytes", help, labels(), delivery.backlog_bytes() as f64);
        let help = "Age of the oldest change that is not delivered yet.";
        out.gauge("tidemill_delivery_oldest_seconds", help, labels(), delivery.oldest_us(now_us) as f64 / 1e6);
        let help = "Rows and deletes that were delivered since the sync was set up.";
        out.counter("tidemill_delivery_sent_total", help, labels(), delivery.sent_total());
        let help = "Rows that the destination refused since the sync was set up, each time.";
        out.counter("tidemill_delivery_rejected_total", help, labels(), delivery.rejected_total());
    }
}

/// A histogram per table or model and stage of a change's way.
fn stages(facts: &Facts, out: &mut Out) {
    for ((name, stage), histogram) in &facts.latency {
        let bounds = serve::metrics::SECONDS.to_vec();
        // Counts per bucket, the last one beyond all bounds.
        let upto: Vec<u64> = bounds.iter().map(|b| histogram.count_up_to(*b)).collect();
        let mut counts: Vec<u64> = upto.iter().scan(0, |last, n| Some(n - std::mem::replace(last, *n))).collect();
        counts.push(histogram.count() - upto.last().copied().unwrap_or(0));
        let value = Value::Histogram(Histogram { bounds, counts, sum: histogram.sum_seconds() });
        let labels = vec![("node", name.to_string()), ("stage", stage.word().to_owned())];
        let help = "Time that transactions took for a stage of their way into a table or model; not those that a source caught up with.";
        out.add("tidemill_stage_seconds", help, Kind::Histogram, labels, value);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use plan::TableName;

    use super::*;
    use crate::status::{ModelStatus, SourceStatus, Stage, TableStatus};

    /// What `promtool check metrics` looks for: names, units, types, one head per name, whole histograms.
    fn lint(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
        let mut helped: BTreeSet<&str> = BTreeSet::new();
        let mut series: BTreeSet<&str> = BTreeSet::new();
        let mut last_bucket: Option<(String, f64)> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let name = rest.split(' ').next().unwrap_or_default();
                if !helped.insert(name) {
                    found.push(format!("{name}: a second help text"));
                }
                continue;
            }
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
                if kinds.insert(name, kind).is_some() {
                    found.push(format!("{name}: a second type"));
                }
                if (kind == "counter") != name.ends_with("_total") {
                    found.push(format!("{name}: counters end in _total, and nothing else does"));
                }
                for unit in ["_ms", "_us", "_milliseconds", "_kb", "_mib", "_percent"] {
                    if name.ends_with(unit) {
                        found.push(format!("{name}: not in a base unit"));
                    }
                }
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            let Ok(value) = value.parse::<f64>() else {
                found.push(format!("{line}: no number"));
                continue;
            };
            if !series.insert(key) {
                found.push(format!("{key}: twice"));
            }
            let name = key.split('{').next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let known = kinds.get(name).or_else(|| kinds.get(base).filter(|kind| **kind == "histogram"));
            if known.is_none() || !name.starts_with("tidemill_") {
                found.push(format!("{name}: no type, or not of ours"));
            }
            if name.ends_with("_bucket") {
                let of = key.split("le=").next().unwrap_or_default().to_owned();
                if let Some((before, count)) = &last_bucket
                    && *before == of
                    && value < *count
                {
                    found.push(format!("{key}: fewer than in the bucket below"));
                }
                last_bucket = Some((of, value));
            } else if name.ends_with("_count") && last_bucket.take().is_some_and(|(_, all)| (all - value).abs() > 0.0) {
                found.push(format!("{key}: not what the last bucket says"));
            }
        }
        found
    }

    fn text() -> String {
        let dir = tempfile::tempdir().unwrap();
        let status = Status::new(store::Store::open(dir.path(), store::Options::default()).unwrap());
        {
            let mut facts = status.facts();
            let source = SourceStatus { state: "streaming".to_owned(), lag_bytes: Some(7), ..SourceStatus::default() };
            facts.sources.insert("shop".to_owned(), source);
            for (schema, name) in [("shop", "orders"), ("shop", "items")] {
                let name = TableName::new(schema, name);
                let table = TableStatus { source: "shop".to_owned(), changes_total: 5, ..TableStatus::default() };
                facts.tables.insert(name.clone(), table);
                for stage in [Stage::CommitRead, Stage::ReadDurable, Stage::DurableVisible, Stage::CommitVisible] {
                    let histogram = facts.latency.entry((name.clone(), stage)).or_default();
                    [1, 900, 20_000, 3_000_000, 2_000_000_000].iter().for_each(|us| histogram.record(*us));
                }
            }
            facts.deliveries.insert("site".to_owned(), crate::delivery::DeliveryStatus::default());
            let model = ModelStatus { state: "live".to_owned(), ..ModelStatus::default() };
            facts.models.insert(TableName::new("public", "daily \"orders\""), model);
        }
        serve::metrics::render(&of(&status, 0))
    }

    #[test]
    fn names_units_and_types_are_as_prometheus_wants_them() {
        let text = text();
        assert_eq!(lint(&text), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn states_are_told_by_one_sample_each() {
        let text = text();
        assert!(text.contains("tidemill_source_state{source=\"shop\",state=\"streaming\"} 1\n"), "{text}");
        assert!(text.contains("tidemill_source_state{source=\"shop\",state=\"stalled\"} 0\n"), "{text}");
        assert!(text.contains("tidemill_source_events_total{source=\"shop\"} 10\n"), "{text}");
        assert!(text.contains("tidemill_delivery_state{sync=\"site\",state=\"waiting\"} 1\n"), "{text}");
        assert!(text.contains("tidemill_delivery_state{sync=\"site\",state=\"live\"} 0\n"), "{text}");
    }

    #[test]
    fn a_source_that_is_cut_off_is_told_by_lags_that_grow() {
        let dir = tempfile::tempdir().unwrap();
        let status = Status::new(store::Store::open(dir.path(), store::Options::default()).unwrap());
        {
            let mut facts = status.facts();
            let shop = facts.sources.entry("shop".to_owned()).or_default();
            shop.go_to("streaming", String::new(), 0);
            (shop.last_commit_us, shop.visible_us, shop.lag_us) = (Some(9_990_000), Some(10_000_000), 10_000);
            shop.go_to("stalled", "cut".to_owned(), 12_000_000);
            shop.backlog = Some("backlog: 60 s behind".to_owned());
            let (kept_s, closed_us) = (200, Some(19_990_000));
            shop.retention = Some(connect::Retention { kept_s, closed_us, mend: String::new() });
            facts.tables.entry(TableName::new("shop", "orders")).or_default().source = "shop".to_owned();
        }
        let text = serve::metrics::render(&of(&status, 69_990_000));
        for line in [
            "tidemill_source_lag_seconds{source=\"shop\"} 60\n",
            "tidemill_table_lag_seconds{table=\"shop.orders\"} 60\n",
            "tidemill_source_backlog_exceeded{source=\"shop\"} 1\n",
            "tidemill_source_retention_used_ratio{source=\"shop\"} 0.25\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn the_lint_finds_what_is_wrong() {
        let wrong = "# TYPE tidemill_a_ms gauge\ntidemill_a_ms 1\ntidemill_a_ms 2\n# TYPE tidemill_b counter\ntidemill_b 1\nother 1\n";
        assert_eq!(lint(wrong).len(), 4, "{:?}", lint(wrong));
    }
}
