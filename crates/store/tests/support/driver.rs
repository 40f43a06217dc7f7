//! Runs a case file against a store in a folder of its own, with a model at its side.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use relation::{Column, Schema};
use store::{Catalog, Kind, Options, Prepared, Scan, Snapshot, Store, TableId, Writes};
use testkit::{Block, Driver};

use super::model::{Model, Op, compare, from_text, writes};

pub(crate) struct StoreDriver {
    dir: tempfile::TempDir,
    store: Option<Store>,
    model: Model,
    tables: BTreeSet<u32>,
    snapshots: BTreeMap<String, Snapshot>,
    catalog: Catalog,
}

impl StoreDriver {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self {
            dir,
            store: None,
            model: Model::default(),
            tables: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            catalog: Catalog::default(),
        }
    }

    fn store(&self) -> Result<&Store, String> {
        self.store.as_ref().ok_or_else(|| "the store is not open".to_owned())
    }

    fn open(&mut self, arguments: &[&str]) -> Result<String, String> {
        self.snapshots.clear();
        self.store = None;
        let before = files(self.dir.path())?;
        let store = match Store::open(self.dir.path(), options(arguments)?) {
            Ok(store) => store,
            Err(e) => {
                let of_log = |(path, _): &(PathBuf, Vec<u8>)| path.starts_with(self.dir.path().join("log"));
                let mut after = files(self.dir.path())?;
                let mut before = before;
                // The tables are opened before the log is looked at, and are not of our making.
                if matches!(e, store::Error::Newer { .. }) {
                    before.retain(of_log);
                    after.retain(of_log);
                }
                if matches!(e, store::Error::NewerFormat { .. } | store::Error::Newer { .. }) && before != after {
                    return Err(format!("files of a newer folder were touched: {e}"));
                }
                return Ok(self.error(&e));
            }
        };
        let folded = store.snapshot().step();
        let mut replayed = 0;
        for item in store.replay().map_err(|e| e.to_string())? {
            let (step, record) = match item {
                Ok(item) => item,
                Err(e) => return Ok(self.error(&e)),
            };
            let text = String::from_utf8(record).map_err(|e| e.to_string())?;
            let ops = from_text(&text)?;
            self.model.apply(step, &ops);
            store.commit(step, writes(&ops)).map_err(|e| e.to_string())?;
            replayed += 1;
        }
        let step = store.snapshot().step();
        self.model.states.retain(|s, _| *s <= step);
        self.store = Some(store);
        Ok(format!("step {step}, folded {folded}, replayed {replayed}"))
    }

    /// A message as a user sees it, without the folder's random name.
    fn error(&self, error: &store::Error) -> String {
        let mut out = format!("error: {error}");
        if let Some(hint) = error.hint() {
            out += &format!("\nhint: {hint}");
        }
        let pid = std::process::id().to_string();
        out.replace(&self.dir.path().display().to_string(), "DIR").replace(&pid, "PID")
    }

    fn answer<T>(&self, result: store::Result<T>, show: impl FnOnce(T) -> String) -> String {
        match result {
            Ok(value) => show(value),
            Err(e) => self.error(&e),
        }
    }

    fn step(&mut self, step: &str, body: &str, parts: &str) -> Result<String, String> {
        let step: u64 = number(step)?;
        let ops = from_text(body)?;
        let store = self.store()?.clone();
        if parts != "commit"
            && let Err(e) = store.append(step, body.as_bytes())
        {
            return Ok(self.error(&e));
        }
        if parts != "append" {
            let committed = match parts {
                "hidden" => store.commit_hidden(step, writes(&ops)),
                _ => store.commit(step, writes(&ops)),
            };
            if let Err(e) = committed {
                return Ok(self.error(&e));
            }
            self.model.apply(step, &ops);
        }
        self.note_tables(&ops);
        Ok(String::new())
    }

    fn note_tables(&mut self, ops: &[Op]) {
        for op in ops {
            let (Op::Put(t, ..) | Op::Delete(t, ..) | Op::Drop(t)) = op;
            self.tables.insert(*t);
        }
    }

    /// A step of several portions, divided by `--`: all but the last are prepared, the last is the step's own.
    fn prepared(&mut self, step: &str, body: &str) -> Result<String, String> {
        let step: u64 = number(step)?;
        let store = self.store()?.clone();
        let all = from_text(&body.replace("--\n", ""))?;
        if let Err(e) = store.append(step, body.replace("--\n", "").as_bytes()) {
            return Ok(self.error(&e));
        }
        let mut portions = body.split("--\n").map(from_text).collect::<Result<Vec<_>, _>>()?;
        let own = portions.pop().unwrap_or_default();
        let ready = portions.iter().map(|ops| Prepared::new(writes(ops))).collect::<store::Result<Vec<_>>>();
        if let Err(e) = ready.and_then(|ready| store.commit_with(step, writes(&own), ready)) {
            return Ok(self.error(&e));
        }
        self.model.apply(step, &all);
        self.note_tables(&all);
        Ok(String::new())
    }

    /// A step of several writers, divided by `--`: what one of them must not write is left out, the others' is committed.
    fn writers(&mut self, step: &str, body: &str) -> Result<String, String> {
        let step: u64 = number(step)?;
        let store = self.store()?.clone();
        let (mut all, mut taken, mut out) = (Writes::new(), Vec::new(), String::new());
        for (i, writer) in body.split("--\n").enumerate() {
            let ops = from_text(writer)?;
            let one = writes(&ops);
            match store.check(&one).and_then(|()| all.try_append(one)) {
                Ok(()) => taken.extend(ops),
                Err(e) => out += &format!("writer {}: {}\n", i + 1, self.error(&e)),
            }
        }
        store.commit(step, all).map_err(|e| e.to_string())?;
        self.model.apply(step, &taken);
        self.note_tables(&taken);
        Ok(out)
    }

    fn read(&self, snapshot: &Snapshot, words: &[&str]) -> Result<String, String> {
        let table = |t: &str| number(t).map(TableId);
        let all: Vec<u32> = self.tables.iter().copied().collect();
        compare(snapshot, &self.model.at(snapshot.step()), &all)?;
        let lines = |scan: Scan| {
            let mut out = String::new();
            for item in scan {
                match item {
                    Ok((key, value)) => {
                        out += &format!("{} {}\n", key.escape_ascii(), value.escape_ascii());
                    }
                    Err(e) => return self.error(&e),
                }
            }
            out
        };
        Ok(match *words {
            ["get", t, key] => self.answer(snapshot.get(table(t)?, key.as_bytes()), |value| match value {
                Some(value) => value.escape_ascii().to_string(),
                None => "none".to_owned(),
            }),
            ["scan", t] => lines(snapshot.scan(table(t)?, &[])),
            ["scan", t, prefix] => lines(snapshot.scan(table(t)?, prefix.as_bytes())),
            ["rev", t] => lines(snapshot.scan_rev(table(t)?, &[])),
            ["rev", t, prefix] => lines(snapshot.scan_rev(table(t)?, prefix.as_bytes())),
            ["range", t, from, to] => lines(snapshot.range(table(t)?, bound(from), bound(to))),
            ["count", t] => snapshot.scan(table(t)?, &[]).count().to_string(),
            _ => return Err(format!("unknown read {words:?}")),
        })
    }

    fn hot(&self, table: &str, key: &str) -> Result<String, String> {
        let store = self.store()?;
        let snapshot = store.working();
        let table = TableId(number(table)?);
        let want = snapshot.get(table, key.as_bytes()).map_err(|e| e.to_string())?;
        for _ in 0..2 {
            let got = store.hot().get(&snapshot, table, key.as_bytes()).map_err(|e| e.to_string())?;
            if got != want {
                return Err(format!("hot has {got:?}, the snapshot {want:?}"));
            }
        }
        let (hits, misses) = store.hot().hits_and_misses();
        let value = want.map_or("none".to_owned(), |v| v.escape_ascii().to_string());
        Ok(format!("{value} ({hits} hits, {misses} misses)"))
    }

    fn segments(&self) -> Result<Vec<PathBuf>, String> {
        let dir = self.dir.path().join("log");
        let entries = std::fs::read_dir(dir).map_err(|e| e.to_string())?;
        let mut paths: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        paths.sort();
        Ok(paths)
    }

    /// Damage to the log's files, while the store is closed.
    fn damage(&mut self, words: &[&str]) -> Result<String, String> {
        self.snapshots.clear();
        self.store = None;
        let segments = self.segments()?;
        let io = |e: std::io::Error| e.to_string();
        match *words {
            ["tear", bytes] => {
                let path = segments.last().ok_or("no segment")?;
                let file = std::fs::OpenOptions::new().write(true).open(path).map_err(io)?;
                let len = file.metadata().map_err(io)?.len();
                file.set_len(len - number::<u64>(bytes)?).map_err(io)?;
            }
            ["flip", segment, byte] => {
                let path = &segments[number::<usize>(segment)?];
                let mut content = std::fs::read(path).map_err(io)?;
                content[number::<usize>(byte)?] ^= 0x10;
                std::fs::write(path, content).map_err(io)?;
            }
            ["lose", segment] => std::fs::remove_file(&segments[number::<usize>(segment)?]).map_err(io)?,
            ["format", version, ref more @ ..] => {
                let more: String = more.iter().map(|word| format!("{word}\n")).collect();
                let text = format!("tidemill store {version}\n{more}");
                std::fs::write(self.dir.path().join("format"), text).map_err(io)?;
            }
            ["version"] => std::fs::remove_file(self.dir.path().join("version")).map_err(io)?,
            ["version", version] => std::fs::write(self.dir.path().join("version"), version).map_err(io)?,
            ["lock", holder] => std::fs::write(self.dir.path().join("lock"), holder).map_err(io)?,
            // What a later Tidemill may write: other words behind the magic's digit, and checksums that hold.
            ["later", "record"] => {
                let path = segments.last().ok_or("no segment")?;
                let mut content = std::fs::read(path).map_err(io)?;
                let mut head = [b"TMr2".to_vec(), vec![9; 32]].concat();
                head.extend(crc32fast::hash(&head).to_le_bytes());
                content.extend([head, b"in another form".to_vec()].concat());
                std::fs::write(path, content).map_err(io)?;
            }
            ["later", "segment", segment] => {
                let path = &segments[number::<usize>(segment)?];
                let mut content = std::fs::read(path).map_err(io)?;
                content[5] = b'2';
                let check = crc32fast::hash(&content[..24]);
                content[24..28].copy_from_slice(&check.to_le_bytes());
                std::fs::write(path, content).map_err(io)?;
            }
            _ => return Err(format!("unknown damage {words:?}")),
        }
        Ok(String::new())
    }

    /// What the folder says of itself.
    fn folder(&self) -> Result<String, String> {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).map_err(|e| format!("{name}: {e}"));
        let version = read("version")?.replacen(concat!(env!("CARGO_PKG_VERSION"), "\n"), "VERSION\n", 1);
        Ok(format!("{}{version}", read("format")?))
    }

    fn stats(&self) -> Result<String, String> {
        let stats = self.store()?.stats();
        let working = match stats.working_step {
            step if step == stats.step => String::new(),
            step => format!(", hidden steps up to {step}"),
        };
        Ok(format!(
            "step {}{working}, folded {}, {} entries in {} runs, {} log segments",
            stats.step, stats.folded_step, stats.overlay_entries, stats.overlay_runs, stats.log_segments
        ))
    }

    fn log(&self, after: u64) -> Result<String, String> {
        let mut out = String::new();
        for item in self.store()?.replay_from(after, None).map_err(|e| e.to_string())? {
            match item {
                Ok((step, record)) => {
                    let text = String::from_utf8_lossy(&record).trim().replace('\n', "; ");
                    out += &format!("{step}: {text}\n");
                }
                Err(e) => out += &self.error(&e),
            }
        }
        Ok(out)
    }

    fn catalog(&mut self, body: &str) -> Result<String, String> {
        let store = self.store()?.clone();
        self.catalog = Catalog::load(&store.snapshot()).map_err(|e| e.to_string())?;
        let (mut changes, mut dropped) = (Writes::new(), Vec::new());
        let mut out = String::new();
        for line in body.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["add", kind, name, identity, ref columns @ ..] => {
                    let (kind, schema) = (kind_of(kind)?, schema(columns)?);
                    let id = self.catalog.allocate(&mut changes, kind, name, identity, &schema, "made by a case");
                    out += &format!("{id}\n");
                }
                ["rename", id, name] => {
                    let entry = self.catalog.get(TableId(number(id)?)).ok_or("no such entry")?;
                    let entry = store::catalog::Entry { name: name.to_owned(), ..entry.clone() };
                    self.catalog.update(&mut changes, entry);
                }
                ["remove", id] => {
                    self.catalog.remove(&mut changes, TableId(number(id)?));
                    dropped.push(Op::Drop(number(id)?));
                }
                ["find", kind, name] => {
                    let found = self.catalog.by_name(kind_of(kind)?, name).map(|e| e.id.to_string());
                    out += &format!("{}\n", found.unwrap_or("none".to_owned()));
                }
                ["identity", identity] => {
                    let found = self.catalog.by_identity(identity).map(|e| e.id.to_string());
                    out += &format!("{}\n", found.unwrap_or("none".to_owned()));
                }
                ["list"] => {
                    for e in self.catalog.entries() {
                        out += &format!("{} {} {} {} ({}) {}\n", e.id, e.kind, e.name, e.identity, e.schema, e.detail);
                    }
                }
                _ => return Err(format!("cannot read \"{line}\"")),
            }
        }
        if !changes.is_empty() {
            let step = store.snapshot().step() + 1;
            store.append(step, b"").map_err(|e| e.to_string())?;
            store.commit(step, changes).map_err(|e| e.to_string())?;
            self.model.apply(step, &dropped);
            // The record says nothing about the catalog: what replay would bring back is folded instead.
            store.fold_now().map_err(|e| e.to_string())?;
        }
        Ok(out)
    }
}

impl Driver for StoreDriver {
    fn block(&mut self, block: &Block) -> Result<String, String> {
        let words: Vec<&str> = block.arguments.iter().map(String::as_str).collect();
        let line: Vec<&str> = std::iter::once(&*block.directive).chain(words.iter().copied()).collect();
        match (&*block.directive, &words[..]) {
            ("open", arguments) => self.open(arguments),
            ("second", []) => {
                let second = Store::open(self.dir.path(), Options::default());
                Ok(self.answer(second, |_| "opened twice".to_owned()))
            }
            ("step" | "append" | "commit" | "hidden", [step]) => self.step(step, &block.body, &block.directive),
            ("prepared", [step]) => self.prepared(step, &block.body),
            ("writers", [step]) => self.writers(step, &block.body),
            ("working", read) => self.read(&self.store()?.working(), read),
            ("fold", []) => Ok(self.answer(self.store()?.fold_now(), |()| String::new())),
            ("idle", []) => Ok(self.answer(self.store()?.compact(), |()| String::new())),
            ("retain", [step]) => {
                self.store()?.retain_from(number(step)?);
                Ok(String::new())
            }
            ("crash", []) => {
                self.snapshots.clear();
                self.store = None;
                Ok(String::new())
            }
            ("snapshot", [name]) => {
                let snapshot = self.store()?.snapshot();
                self.snapshots.insert((*name).to_owned(), snapshot);
                Ok(String::new())
            }
            ("forget", [name]) => {
                self.snapshots.remove(*name);
                Ok(String::new())
            }
            ("at", [name, read @ ..]) => {
                let snapshot = self.snapshots.get(*name).ok_or("no such snapshot")?;
                self.read(snapshot, read)
            }
            ("hot", [table, key]) => self.hot(table, key),
            ("tear" | "flip" | "lose" | "format" | "version" | "lock" | "later", _) => self.damage(&line),
            ("folder", []) => self.folder(),
            ("segments", []) => {
                let segments = self.segments()?;
                let names = segments.iter().filter_map(|p| p.file_stem()).map(|n| n.display().to_string());
                Ok(names.collect::<Vec<_>>().join("\n"))
            }
            ("log", []) => self.log(0),
            ("log", [from]) => self.log(number(from)?),
            ("stats", []) => self.stats(),
            ("catalog", []) => self.catalog(&block.body),
            _ => {
                let snapshot = self.store()?.snapshot();
                self.read(&snapshot, &line)
            }
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        let tables: Vec<u32> = self.tables.iter().copied().collect();
        let whole = || {
            for snapshot in [store.snapshot(), store.working()] {
                compare(&snapshot, &self.model.at(snapshot.step()), &tables)?;
            }
            Ok::<(), String>(())
        };
        whole()?;
        store.fold_now().map_err(|e| e.to_string())?;
        whole()?;
        store.compact().map_err(|e| e.to_string())?;
        whole()
    }
}

/// All files below a folder, with what is in them.
fn files(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| e.to_string())?.flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push((path.clone(), std::fs::read(&path).map_err(|e| e.to_string())?)),
        }
    }
    found.sort();
    Ok(found)
}

fn number<N: std::str::FromStr<Err: std::fmt::Display>>(word: &str) -> Result<N, String> {
    word.parse().map_err(|e| format!("{word}: {e}"))
}

/// `[a` includes, `(a` excludes, `*` is unbounded.
fn bound(word: &str) -> Bound<&[u8]> {
    match (word.strip_prefix('['), word.strip_prefix('(')) {
        (Some(key), _) => Bound::Included(key.as_bytes()),
        (_, Some(key)) => Bound::Excluded(key.as_bytes()),
        _ => Bound::Unbounded,
    }
}

/// By default nothing folds by itself: a case says when.
pub(crate) fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options {
        cache_bytes: 8 << 20,
        hot_bytes: 1 << 20,
        fold_entries_min: usize::MAX,
        fold_interval: Duration::from_secs(3600),
        merge_runs_min: 2,
        ..Options::default()
    };
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word}: not an option"))?;
        match name {
            "fold_entries_min" => options.fold_entries_min = number(value)?,
            "fold_entries_quiet" => options.fold_entries_quiet = number(value)?,
            "fold_interval_ms" => options.fold_interval = Duration::from_millis(number(value)?),
            "overlay_bytes" => options.overlay_bytes = number(value)?,
            "hot_bytes" => options.hot_bytes = number(value)?,
            "segment_bytes" => options.segment_bytes = number(value)?,
            "merge_runs_min" => options.merge_runs_min = number(value)?,
            "filter_bytes" => options.filter_bytes = number(value)?,
            "merge_entries_max" => options.merge_entries_max = number(value)?,
            _ => return Err(format!("{word}: not an option")),
        }
    }
    Ok(options)
}

fn kind_of(word: &str) -> Result<Kind, String> {
    let all = [Kind::Table, Kind::Index, Kind::State, Kind::Model, Kind::Rejects, Kind::Source];
    all.into_iter().find(|kind| kind.to_string() == word).ok_or_else(|| format!("{word}: no kind"))
}

/// `name:type`, a `!` behind the type for NOT NULL, a `*` before the name for a key column.
fn schema(words: &[&str]) -> Result<Schema, String> {
    let mut schema = Schema::default();
    for (i, word) in words.iter().enumerate() {
        let (name, data_type) = word.split_once(':').ok_or_else(|| format!("{word}: not a column"))?;
        if name.starts_with('*') {
            schema.key.push(i);
        }
        let parsed = data_type.trim_end_matches('!').parse().map_err(|e| format!("{word}: {e}"))?;
        let mut column = Column::new(name.trim_start_matches('*'), parsed);
        column.nullable = !data_type.ends_with('!');
        schema.columns.push(column);
    }
    Ok(schema)
}
