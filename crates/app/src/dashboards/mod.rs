//! The project's dashboards as the page takes them, and what a changed project does to those that are shown.

pub mod check;

use project::{Diagnostic, Project};
use serve::Dashboard;

/// The dashboards that a project puts in the place of those that are shown: where a file of theirs has a mistake, one that it does not
/// name any more stays, since that file may mean it.
pub fn in_place_of(shown: &[Dashboard], project: &Project, findings: &[Diagnostic]) -> Vec<Dashboard> {
    let mut all = of(project);
    if findings.iter().any(|finding| finding.is_error() && project::is_of_dashboards(&finding.place)) {
        let is_named = |old: &&Dashboard| all.iter().any(|new| new.name == old.name);
        let kept: Vec<Dashboard> = shown.iter().filter(|old| !is_named(old)).cloned().collect();
        all.extend(kept);
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    all
}

/// What comes, goes and is another, a line each.
pub fn differences(old: &[Dashboard], new: &[Dashboard]) -> Vec<String> {
    let find = |of: &[Dashboard], name: &str| of.iter().position(|dashboard| dashboard.name == name);
    let mut lines = Vec::new();
    for dashboard in new {
        match find(old, &dashboard.name) {
            None => lines.push(format!("+ dashboard {}", dashboard.name)),
            Some(at) if old[at] != *dashboard => lines.push(format!("~ dashboard {}", dashboard.name)),
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|dashboard| find(new, &dashboard.name).is_none());
    lines.extend(gone.map(|dashboard| format!("- dashboard {}", dashboard.name)));
    lines
}

/// Dashboards of a project, in the order of their names.
pub fn of(project: &Project) -> Vec<Dashboard> {
    let mut all: Vec<Dashboard> = project.dashboards.iter().map(dashboard).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// A filter as the page takes it.
pub fn filter(from: &project::DashboardFilter) -> serve::Filter {
    serve::Filter { name: from.name.clone(), title: from.title.clone(), sql: from.sql.clone() }
}

fn dashboard(from: &project::Dashboard) -> Dashboard {
    Dashboard {
        name: from.name.clone(),
        title: from.title.clone(),
        description: from.description.clone(),
        filters: from.filters.iter().map(filter).collect(),
        tiles: from.tiles.iter().map(tile).collect(),
    }
}

fn tile(from: &project::DashboardTile) -> serve::Tile {
    serve::Tile {
        title: from.title.clone(),
        description: from.description.clone(),
        // Both sides know the same words; a test of this module holds them to it.
        kind: serve::TileKind::from_word(from.kind.word()).unwrap_or_default(),
        sql: from.sql.clone(),
        x: from.x.clone(),
        y: from.y.clone(),
        y2: from.y2.clone(),
        compare: from.compare.clone(),
        compare_title: from.compare_title.clone(),
        good: from.good.and_then(|good| serve::Good::from_word(good.word())).unwrap_or_default(),
        unfinished: from.unfinished,
        format: from.format.and_then(|f| serve::Format::from_word(f.word())).unwrap_or_default(),
        unit: from.unit.clone(),
        currency: from.currency.clone(),
        columns: from.columns.clone(),
    }
}

#[cfg(test)]
mod tests {
    use project::{TileFormat, TileGood, TileKind};

    #[test]
    fn both_sides_know_the_same_words() {
        for kind in [TileKind::Number, TileKind::Line, TileKind::Bar, TileKind::Table, TileKind::Funnel] {
            assert!(serve::TileKind::from_word(kind.word()).is_some(), "{}", kind.word());
        }
        for good in [TileGood::Up, TileGood::Down, TileGood::Neither] {
            assert!(serve::Good::from_word(good.word()).is_some(), "{}", good.word());
        }
        let formats =
            [TileFormat::Number, TileFormat::Integer, TileFormat::Percent, TileFormat::Bytes, TileFormat::Seconds];
        for format in formats {
            assert!(serve::Format::from_word(format.word()).is_some(), "{}", format.word());
        }
    }
}
