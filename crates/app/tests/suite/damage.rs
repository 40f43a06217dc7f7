//! `damage TABLE OLD NEW`: a byte that no change has changed, in a row of a stopped instance's store; `spoil HOW FOLDER`: its
//! files, as a disk may leave them.

use std::path::{Path, PathBuf};

use app::setup::{Global, Setup};
use app::warehouse::{Described, Warehouse};
use store::Writes;

/// Puts other bytes in the place of some, in the first row of a table that has them.
pub(crate) fn damage(folder: &Path, arguments: &[String]) -> Result<(), String> {
    let [name, old, new] = arguments else { return Err("damage TABLE OLD NEW".to_owned()) };
    if old.len() != new.len() {
        return Err("the row would have another length".to_owned());
    }
    let setup = Setup::load(&Global { project: Some(folder.to_owned()), ..Global::default() });
    let setup = setup.map_err(|e| e.to_string())?;
    let warehouse = Warehouse::open(&setup, &Described::default());
    let warehouse = warehouse.map_err(|e| e.to_string())?;
    let table = warehouse.engine.tables().find(|table| table.name.to_string() == *name);
    let table = table.ok_or_else(|| format!("no table {name} is kept"))?;
    let stored = warehouse.engine.relation(table.id).ok_or("it is not stored")?;
    let store = warehouse.engine.store();
    for entry in store.snapshot().scan(stored.id, b"") {
        let (key, value) = entry.map_err(|e| e.to_string())?;
        // Rows without a key are keys themselves.
        let damaged = |bytes: &[u8]| {
            let at = bytes.windows(old.len()).position(|part| part == old.as_bytes())?;
            Some([&bytes[..at], new.as_bytes(), &bytes[at + old.len()..]].concat())
        };
        let mut writes = Writes::new();
        match (damaged(&value), damaged(&key)) {
            (Some(value), _) => writes.put(stored.id, &key, &value),
            (None, Some(other)) => {
                writes.delete(stored.id, &key);
                writes.put(stored.id, &other, &value);
            }
            (None, None) => continue,
        }
        store.commit(warehouse.engine.current_step() + 1, writes).map_err(|e| e.to_string())?;
        return store.fold_now().map_err(|e| e.to_string());
    }
    Err(format!("no row of {name} has {old}"))
}

/// Folds what a stopped instance has in its log, so that its tables are in their files.
pub(crate) fn fold(folder: &Path) -> Result<(), String> {
    let setup = Setup::load(&Global { project: Some(folder.to_owned()), ..Global::default() });
    let warehouse = Warehouse::open(&setup.map_err(|e| e.to_string())?, &Described::default());
    warehouse.map_err(|e| e.to_string())?.engine.store().fold_now().map_err(|e| e.to_string())
}

/// Spoils the largest file below a folder.
pub(crate) fn spoil(folder: &Path, how: &str) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut files = Vec::new();
    below(folder, &mut files).map_err(text)?;
    let (bytes, path) = files.into_iter().max().ok_or("there is no file")?;
    if how == "remove" {
        return std::fs::remove_file(path).map_err(text);
    }
    let mut content = std::fs::read(&path).map_err(text)?;
    let middle = usize::try_from(bytes / 2).map_err(|e| e.to_string())?;
    match how {
        "cut" => content.truncate(middle),
        "flip" => *content.get_mut(middle).ok_or("the file is empty")? ^= 0x20,
        other => return Err(format!("nobody knows how to {other} a file")),
    }
    std::fs::write(path, content).map_err(text)
}

fn below(folder: &Path, files: &mut Vec<(u64, PathBuf)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => below(&path, files)?,
            false => files.push((path.metadata()?.len(), path)),
        }
    }
    Ok(())
}
