//! The files of a project as values: the loader computes, only [`Files::read`] touches a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Where a `profiles.yml` outside of the folder appears among the files.
pub(crate) const USER_PROFILES: &str = "~/.dbt/profiles.yml";

/// Folders that never hold a project's own text.
const SKIPPED_FOLDERS: [&str; 6] = ["target", "logs", "node_modules", "venv", "dbt_packages", "dbt_modules"];

/// How deep folders may be nested; a bound against folders that contain themselves by a link.
const DEPTH_MAX: usize = 32;

/// Paths (relative to the project folder, with `/`) and their texts.
#[derive(Debug, Clone, Default)]
pub struct Files {
    texts: BTreeMap<String, String>,
    /// Files that are there but whose text plays no part, such as seeds.
    others: BTreeSet<String>,
    /// Files that could not be read, with the reason.
    unreadable: BTreeMap<String, String>,
}

impl Files {
    /// Files given as pairs of path and text.
    pub fn from_pairs<P: Into<String>, T: Into<String>>(pairs: impl IntoIterator<Item = (P, T)>) -> Self {
        let texts = pairs.into_iter().map(|(path, text)| (path.into(), text.into())).collect();
        Self { texts, ..Self::default() }
    }

    /// Reads the SQL and YAML files of a project folder.
    ///
    /// A `profiles.yml` that the folder does not have is taken from where dbt looks for it: `$DBT_PROFILES_DIR`, then `~/.dbt`.
    /// Hidden folders and dbt's own products (`target`, `dbt_packages`, `logs`) are left out.
    ///
    /// # Errors
    /// When the folder itself cannot be listed. A single file that cannot be read is reported by [`crate::load`].
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        files.read_folder(dir, "", 0)?;
        if !files.texts.contains_key("profiles.yml") {
            files.read_user_profiles();
        }
        Ok(files)
    }

    /// The text of a file.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// Adds or replaces a file.
    pub fn insert(&mut self, path: impl Into<String>, text: impl Into<String>) {
        self.texts.insert(path.into(), text.into());
    }

    /// All files with a text, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn others(&self) -> impl Iterator<Item = &str> {
        self.others.iter().map(String::as_str)
    }

    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unreadable.iter().map(|(path, reason)| (path.as_str(), reason.as_str()))
    }

    /// Files below one of the folders, with one of the extensions.
    pub(crate) fn below(&self, folders: &[String], extensions: &[&str]) -> Vec<(&str, &str)> {
        let fits = |path: &str| folder_of(path, folders).is_some() && extensions.iter().any(|e| has_extension(path, e));
        self.iter().filter(|(path, _)| fits(path)).collect()
    }

    fn read_folder(&mut self, dir: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        for entry in std::fs::read_dir(dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let full = entry.path();
            if full.is_dir() {
                if !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                    let listed = self.read_folder(&full, &format!("{path}/"), depth + 1);
                    if let Err(error) = listed {
                        self.unreadable.insert(path, error.to_string());
                    }
                }
            } else {
                self.read_file(&full, path);
            }
        }
        Ok(())
    }

    fn read_file(&mut self, full: &Path, path: String) {
        if !["sql", "yml", "yaml"].iter().any(|e| has_extension(&path, e)) {
            self.others.insert(path);
            return;
        }
        match std::fs::read_to_string(full) {
            Ok(text) => self.texts.insert(path, text),
            Err(error) => self.unreadable.insert(path, error.to_string()),
        };
    }

    fn read_user_profiles(&mut self) {
        let named = std::env::var_os("DBT_PROFILES_DIR").map(|dir| Path::new(&dir).join("profiles.yml"));
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".dbt/profiles.yml"));
        let found = [named, home].into_iter().flatten().find_map(|path| std::fs::read_to_string(path).ok());
        if let Some(text) = found {
            self.texts.insert(USER_PROFILES.to_owned(), text);
        }
    }
}

/// The folder of the list that a path lies in, and the rest of the path.
pub(crate) fn folder_of<'a>(path: &'a str, folders: &[String]) -> Option<&'a str> {
    folders.iter().find_map(|folder| path.strip_prefix(folder.trim_end_matches('/'))?.strip_prefix('/'))
}

pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
}

/// The file's name without folder and extension.
pub(crate) fn stem(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
