//! Commands that people know from elsewhere, and what is said here instead.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// What a word of dbt's, or of other servers', is here.
const WORDS: [(&[&str], &str); 12] = [
    (
        &["run", "retry"],
        "models are kept up to date by `tidemill up`; `tidemill build` ends when all is caught up and tested",
    ),
    (&["start", "serve", "server"], "`tidemill up` starts it"),
    (
        &["stop", "down"],
        "Ctrl-C stops `tidemill up`, and so does `kill` with its process, which a second `tidemill up` names",
    ),
    (
        &["compile", "parse", "lint"],
        "`tidemill check` reads and plans the project; a model's page shows its SQL as compiled",
    ),
    (&["ls", "list"], "`tidemill status` lists tables, models and syncs"),
    (&["debug", "ping"], "`tidemill doctor` asks sources and destinations"),
    (
        &["show", "sql", "psql", "select"],
        "`tidemill query SQL` asks the instance, and psql does at the address that `tidemill up` prints",
    ),
    (&["source", "freshness"], "`tidemill status` says how far each source and table is behind"),
    (
        &["docs", "ui", "page"],
        "the page shows models with their columns and graph, at the address that `tidemill up` prints",
    ),
    (&["logs", "log"], "`tidemill up` writes its log to stderr; `--log debug` says more"),
    (
        &["seed", "snapshot", "deps", "clone", "run-operation"],
        "this part of dbt is not there yet: see docs/operating.md",
    ),
    (
        &["clean", "reset"],
        "the data folder is made of the sources: stop the instance, remove the folder, and `tidemill up` loads anew",
    ),
];

/// The error of a command line, with what is said instead of a word that is known from elsewhere.
pub(super) fn meant(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return error };
    let Some((_, instead)) = WORDS.iter().find(|(words, _)| words.contains(&word.as_str())) else { return error };
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(*instead)]));
    error
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_word_from_elsewhere_is_a_command() {
        let commands = super::super::Cli::command();
        let mut known = std::collections::BTreeSet::new();
        for word in super::WORDS.iter().flat_map(|(words, _)| *words) {
            assert!(commands.find_subcommand(word).is_none(), "{word}");
            assert!(known.insert(word), "{word} twice");
        }
    }
}
