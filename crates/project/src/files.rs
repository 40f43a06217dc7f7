//! The files of a project as values: the loader computes, only [`Files::read`] touches a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::settings;

/// Where a `profiles.yml` outside of the folder appears among the files.
pub(crate) const USER_PROFILES: &str = "~/.dbt/profiles.yml";

/// Folders that never hold a project's own text.
const SKIPPED_FOLDERS: [&str; 6] = ["target", "logs", "node_modules", "venv", "dbt_packages", "dbt_modules"];

/// How deep folders may be nested.
const DEPTH_MAX: usize = 32;

/// What some editors put before a text to say that it is UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

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

    /// Reads the SQL, YAML and Markdown files of a project folder.
    ///
    /// A `profiles.yml` that the folder does not have is taken from where dbt looks for it: `$DBT_PROFILES_DIR`, then `~/.dbt`.
    /// Hidden folders and dbt's own products (`target`, `dbt_packages`, `logs`) are left out. A folder without
    /// `dbt_project.yml` is no project: nothing of it is read, however much there is below it.
    ///
    /// # Errors
    /// When the folder itself cannot be listed. A single file that cannot be read is reported by [`crate::load`].
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        let about = std::fs::metadata(dir)?;
        // Errors of a folder that cannot be listed are told; what is in one that is no project is not looked at.
        std::fs::read_dir(dir)?;
        if std::fs::symlink_metadata(dir.join(settings::FILE)).is_err() {
            return Ok(files);
        }
        files.read_folder(dir, "", &mut vec![(about.dev(), about.ino())])?;
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

    /// Reads what is in a folder; `inside` are the folders that it lies in, itself the last: a link back to one of them is not
    /// followed.
    fn read_folder(&mut self, dir: &Path, prefix: &str, inside: &mut Vec<(u64, u64)>) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let full = entry.path();
            let about = std::fs::metadata(&full).ok();
            let Some(about) = about.filter(Metadata::is_dir) else {
                self.read_file(&full, path);
                continue;
            };
            let identity = (about.dev(), about.ino());
            let is_skipped = name.starts_with('.') || SKIPPED_FOLDERS.contains(&name.as_str());
            if is_skipped || inside.contains(&identity) || inside.len() > DEPTH_MAX {
                continue;
            }
            inside.push(identity);
            if let Err(error) = self.read_folder(&full, &format!("{path}/"), inside) {
                self.unreadable.insert(path, error.to_string());
            }
            inside.pop();
        }
        Ok(())
    }

    fn read_file(&mut self, full: &Path, path: String) {
        let is_of = |extensions: &[&str]| extensions.iter().any(|extension| has_extension(&path, extension));
        if !is_of(&["sql", "yml", "yaml", "md"]) {
            self.others.insert(path);
            return;
        }
        match text_of(full) {
            Ok(text) => _ = self.texts.insert(path, text),
            // Descriptions may stand in it: nothing else.
            Err(_) if is_of(&["md"]) => _ = self.others.insert(path),
            Err(reason) => _ = self.unreadable.insert(path, reason),
        }
    }

    fn read_user_profiles(&mut self) {
        let named = std::env::var_os("DBT_PROFILES_DIR").map(|dir| Path::new(&dir).join("profiles.yml"));
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".dbt/profiles.yml"));
        let found = [named, home].into_iter().flatten().find_map(|path| text_of(&path).ok());
        if let Some(text) = found {
            self.texts.insert(USER_PROFILES.to_owned(), text);
        }
    }
}

/// The text of a file, without a byte order mark. Errors: why there is none, in words.
fn text_of(path: &Path) -> Result<String, String> {
    // A pipe, or a link to one, would be waited for without end.
    if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err("it is no regular file".to_owned());
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16: save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8: save it as UTF-8")
    })?;
    Ok(match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(text) => text.to_owned(),
        None => text,
    })
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
