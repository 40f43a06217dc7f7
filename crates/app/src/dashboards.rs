//! The project's dashboards as the page takes them.

/// Dashboards of a project, in the order of their names.
pub fn of(project: &project::Project) -> Vec<serve::Dashboard> {
    let mut all: Vec<serve::Dashboard> = project.dashboards.iter().map(dashboard).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn dashboard(from: &project::Dashboard) -> serve::Dashboard {
    let filter = |f: &project::DashboardFilter| serve::Filter {
        name: f.name.clone(),
        title: f.title.clone(),
        sql: f.sql.clone(),
    };
    serve::Dashboard {
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
