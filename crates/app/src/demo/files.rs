//! The demo's project, built into the binary.

use project::Files;

/// Pairs of a path in the project and the text of the file at that path.
macro_rules! texts {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../demo/", $path)))),*]
    };
}

/// The files of the demo's dbt project.
pub fn files() -> Files {
    Files::from_pairs(texts![
        "dbt_project.yml",
        "profiles.yml",
        "connections.yml",
        "models/staging/_sources.yml",
        "models/staging/stg_customers.sql",
        "models/staging/stg_order_items.sql",
        "models/staging/stg_orders.sql",
        "models/staging/stg_payments.sql",
        "models/staging/stg_products.sql",
        "models/marts/_marts.yml",
        "models/marts/category_per_day.sql",
        "models/marts/customer_value.sql",
        "models/marts/order_items_wide.sql",
        "models/marts/orders_by_status.sql",
        "models/marts/revenue_per_day.sql",
        "models/marts/revenue_per_minute.sql",
        "models/marts/top_products_per_day.sql",
        "models/marts/unsold_products.sql",
    ])
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::files;
    use crate::demo::Simulator;
    use crate::setup::Setup;
    use crate::warehouse::plan_models;

    fn setup() -> Setup {
        Setup::from_files(PathBuf::from("demo"), &files(), &project::Options::default(), None)
    }

    #[test]
    fn the_project_loads_without_a_finding() {
        let setup = setup();
        let findings: Vec<String> = setup.findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new());
        assert!(setup.project.parked.is_empty());
        assert_eq!(setup.kept_models().count(), 8);
    }

    #[test]
    fn every_table_is_the_shops_and_every_model_plans() {
        let setup = setup();
        let simulator = Simulator::new(1, None);
        let tables: Vec<_> = setup
            .project
            .sources
            .iter()
            .map(|table| {
                (plan::TableName::new(&table.source, &table.name), simulator.schema(&table.identifier).unwrap())
            })
            .collect();
        assert_eq!(tables.len(), 5);
        let (planned, findings) = plan_models(&setup, &tables);
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(planned.len(), 8);
    }

    #[test]
    fn the_folder_and_the_binary_hold_the_same_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let of_folder = project::Files::read(&folder).unwrap();
        let texts = |files: &project::Files| -> Vec<(String, String)> {
            files.iter().map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
        };
        assert_eq!(texts(&of_folder), texts(&files()));
    }
}
