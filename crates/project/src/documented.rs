//! What docs/settings.md, docs/dashboards.md and docs/syncs.md say, held to what is read: every key has its row, and every example loads.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{Files, Options, connection, dashboard, load, profile, sync};

fn text(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)).unwrap()
}

/// The keys of the table whose head begins so: `| key of a tile |`.
fn keys(text: &str, head: &str) -> BTreeSet<String> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = lines.by_ref().take_while(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(1).map(str::to_owned));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn known(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// The YAML of a text: files by the names in their first lines.
fn examples(text: &str) -> Vec<(String, String)> {
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks
        .map(|block| {
            let first = block.lines().next().unwrap_or_default();
            let name = first.strip_prefix("# ").unwrap_or_else(|| panic!("an example without a file's name: {first}"));
            (name.to_owned(), format!("{block}\n"))
        })
        .collect()
}

#[test]
fn every_key_has_its_row() {
    let settings = text("settings.md");
    assert_eq!(keys(&settings, "| key | default"), known(profile::KEYS));
    assert_eq!(keys(&settings, "| key of `mysql`"), known(connection::MYSQL_KEYS));
    assert_eq!(keys(&settings, "| key of `simulator`"), known(connection::SIMULATOR_KEYS));
    let dashboards = text("dashboards.md");
    assert_eq!(keys(&dashboards, "| key | needed"), known(dashboard::KEYS));
    assert_eq!(keys(&dashboards, "| key of a filter"), known(dashboard::FILTER_KEYS));
    assert_eq!(keys(&dashboards, "| key of a tile"), known(dashboard::TILE_KEYS));
    assert_eq!(keys(&text("syncs.md"), "| key of a sync"), known(sync::KEYS));
}

#[test]
fn the_examples_of_syncs_load_without_a_finding() {
    let sources = "sources: [{name: shop, tables: [{name: users}]}]\n";
    let plain = [("dbt_project.yml", "name: shop\n"), ("models/sources.yml", sources)];
    let mut files: Vec<(String, String)> = plain.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec();
    files.extend(examples(&text("syncs.md")));
    let (project, found) = load(&Files::from_pairs(files), &Options::default());
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(
        project.syncs.iter().map(|sync| sync.name.as_str()).collect::<Vec<_>>(),
        ["contacts", "user_cache", "user_topic"]
    );
}

#[test]
fn the_examples_of_settings_load_without_a_finding() {
    let mut files = vec![("dbt_project.yml".to_owned(), "name: shop\nprofile: shop\n".to_owned())];
    files.extend(examples(&text("settings.md")));
    assert_eq!(files.len(), 4);
    let (project, found) = load(&Files::from_pairs(files), &Options::default());
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, Vec::<String>::new());
    assert_eq!((project.connections.len(), project.sources.len()), (2, 2));
    assert_eq!(project.profile.backlog.seconds, 60);
    // What the tables call defaults is what holds without a profile.
    let (plain, _) = load(&Files::from_pairs([("dbt_project.yml", "name: shop\n")]), &Options::default());
    let (said, plain) = (project.profile, plain.profile);
    assert_eq!(
        (said.schema, said.data, said.pg.addr, said.http.addr),
        (plain.schema, plain.data, plain.pg.addr, plain.http.addr)
    );
    assert_eq!(said.backlog, plain.backlog);
}
