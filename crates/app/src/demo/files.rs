//! The demo's project, `examples/shop`, built into the binary.

use project::Files;

/// Pairs of a path in the project and the text of the file at that path.
macro_rules! texts {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_str!(concat!("../../../../examples/shop/", $path)))),*]
    };
}

/// The files of the demo's dbt project.
pub fn files() -> Files {
    Files::from_pairs(texts![
        "connections.yml",
        "dbt_project.yml",
        "profiles.yml",
        "dashboards/shop.yml",
        "dashboards/traffic.yml",
        "macros/goods_measures.sql",
        "models/ads/_ads.yml",
        "models/ads/ads_hours.sql",
        "models/ads/ads_minutes.sql",
        "models/ads/ads_today.sql",
        "models/ads/ads_top_products_day.sql",
        "models/dwd/_dwd.yml",
        "models/dwd/dwd_order_items.sql",
        "models/dwd/dwd_user_days.sql",
        "models/dws/_dws.yml",
        "models/dws/dws_active_users.sql",
        "models/dws/dws_carrier.sql",
        "models/dws/dws_funnel_day.sql",
        "models/dws/dws_icon_clicks_day.sql",
        "models/dws/dws_new_users_day.sql",
        "models/dws/dws_refund_day.sql",
        "models/dws/dws_trade_brand_day.sql",
        "models/dws/dws_trade_category_day.sql",
        "models/dws/dws_trade_channel_day.sql",
        "models/dws/dws_trade_day.sql",
        "models/dws/dws_trade_merchant_day.sql",
        "models/ods/_ods.yml",
        "models/ods/_sources.yml",
        "models/ods/ods_brands.sql",
        "models/ods/ods_categories.sql",
        "models/ods/ods_merchants.sql",
        "models/ods/ods_order_items.sql",
        "models/ods/ods_orders.sql",
        "models/ods/ods_page_events.sql",
        "models/ods/ods_payments.sql",
        "models/ods/ods_products.sql",
        "models/ods/ods_red_packets.sql",
        "models/ods/ods_refunds.sql",
        "models/ods/ods_reviews.sql",
        "models/ods/ods_shipments.sql",
        "models/ods/ods_support_tickets.sql",
        "models/ods/ods_users.sql",
    ])
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::files;
    use crate::definition::Definition;
    use crate::demo::Simulator;
    use crate::setup::Setup;
    use crate::warehouse::{findings, keepable};

    /// Models that are tables.
    const KEPT: usize = 17;

    fn setup() -> Setup {
        Setup::from_files(PathBuf::from("demo"), &files(), &project::Options::default(), None)
    }

    #[test]
    fn the_project_loads_without_a_finding() {
        let setup = setup();
        let findings: Vec<String> = setup.findings.iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new());
        assert!(setup.project.parked.is_empty());
        assert_eq!(setup.kept_models().count(), KEPT);
    }

    #[test]
    fn every_table_is_the_shops_and_every_model_plans() {
        let setup = setup();
        let simulator = Simulator::new(&project::SimulatedShop::default());
        let tables: Vec<_> = setup
            .project
            .sources
            .iter()
            .map(|table| {
                (plan::TableName::new(&table.source, &table.name), simulator.schema(&table.identifier).unwrap())
            })
            .collect();
        assert_eq!(tables.len(), 14);
        let keepable = keepable(&Definition::of(&setup), &tables, &[]);
        let findings: Vec<String> = findings(&setup, &keepable.refused).iter().map(ToString::to_string).collect();
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!(keepable.contents.models.len(), KEPT);
    }

    #[test]
    fn the_folder_and_the_binary_hold_the_same_files() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
        let of_folder = project::Files::read(&folder).unwrap();
        // What is for people alone is not in the binary.
        let is_of_project = |(path, _): &(&str, &str)| *path != "README.md";
        let texts = |files: &project::Files| -> Vec<(String, String)> {
            let texts = files.iter().filter(is_of_project);
            texts.map(|(path, text)| (path.to_owned(), text.to_owned())).collect()
        };
        assert_eq!(texts(&of_folder), texts(&files()));
    }
}
