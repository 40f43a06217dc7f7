//! What can be set of the demo: the variables of its project.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value as Json;

/// A variable of the demo's project.
pub struct Setting {
    pub name: &'static str,
    pub meaning: &'static str,
    /// As the project has it.
    pub default: f64,
    /// From which to which number.
    pub range: (f64, f64),
    /// Whether it may have a fraction.
    pub is_fraction: bool,
}

const fn whole(name: &'static str, meaning: &'static str, default: u32, range: (u32, u32)) -> Setting {
    Setting { name, meaning, default: default as f64, range: (range.0 as f64, range.1 as f64), is_fraction: false }
}

/// All of them, in the order in which they are told.
pub static SETTINGS: [Setting; 9] = [
    whole("users", "people who visit the shop on a day", 100_000, (1, 100_000_000)),
    whole("orders_per_day", "orders on an average day, no more than users", 3_000, (1, 100_000_000)),
    whole("events_per_user", "page views and clicks of one of them on a day", 3, (3, 30)),
    Setting {
        name: "speed",
        meaning: "how much faster the shop's time runs than life; 0: it is closed",
        default: 1_000.0,
        range: (0.0, 1e6),
        is_fraction: true,
    },
    whole("history_orders", "orders there are at the beginning", 20_000, (0, 1_000_000_000)),
    whole("seed", "of all chance: the same settings are the same shop", 1, (0, u32::MAX)),
    whole("top_products", "places a day in ads_top_products_day", 10, (1, 10_000)),
    whole("minutes_kept", "newest minutes in ads_minutes", 240, (1, 100_000)),
    whole("hours_kept", "newest hours in ads_hours", 72, (1, 10_000)),
];

/// The settings as help shows them.
pub fn help() -> String {
    let mut text = "Settings, as a JSON object of --vars:\n".to_owned();
    for setting in &SETTINGS {
        let Setting { name, meaning, default, range: (from, to), .. } = setting;
        text.push_str(&format!("  {name:<16} {meaning} [{from} to {to}; default: {default}]\n"));
    }
    text.push_str(
        "\nFor instance: tidemill demo --vars '{\"users\": 1000000, \"orders_per_day\": 50000, \"speed\": 200}'",
    );
    text
}

/// Errors: one is not known, is no number, or is out of its range.
pub fn check(vars: &BTreeMap<String, Json>) -> anyhow::Result<()> {
    for (name, value) in vars {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
            let hint = match project::closest(name, names.iter().copied()) {
                Some(meant) => format!("Did you mean `{meant}`?"),
                None => format!("One of: {}.", names.join(", ")),
            };
            bail!("the demo has no setting `{name}`\nHint: {hint}");
        };
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
        let (from, to) = setting.range;
        let is_right = |number: &f64| (from..=to).contains(number) && (setting.is_fraction || number.fract() == 0.0);
        if number.filter(is_right).is_none() {
            let kind = if setting.is_fraction { "a number" } else { "a whole number" };
            bail!("`{name}` should be {kind} from {from} to {to}, not {value}\nHint: It is {}.", setting.meaning);
        }
    }
    let number = |name: &str| {
        let default = SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.default);
        vars.get(name).and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())).or(default)
    };
    if let (Some(users), Some(orders)) = (number("users"), number("orders_per_day"))
        && orders > users
    {
        bail!(
            "{users} users cannot give {orders} orders a day\nHint: Set `users` to {orders} or more, or `orders_per_day` to {users} or fewer."
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_project_and_no_setting_is_missing() {
        let (project, _) = project::load(&crate::demo::files(), &project::Options::default());
        let names: Vec<&str> = project.vars.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        known.sort_unstable();
        assert_eq!(known, names);
        for setting in &SETTINGS {
            assert_eq!(project.vars[setting.name].as_f64(), Some(setting.default), "{}", setting.name);
        }
        check(&project.vars).unwrap();
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_next_move() {
        let said = |json: &str| check(&serde_json::from_str(json).unwrap()).unwrap_err().to_string();
        assert_eq!(said(r#"{"user": 1}"#), "the demo has no setting `user`\nHint: Did you mean `users`?");
        assert!(
            said(r#"{"events_per_user": 2}"#)
                .starts_with("`events_per_user` should be a whole number from 3 to 30, not 2")
        );
        assert!(said(r#"{"users": "many"}"#).starts_with("`users` should be a whole number"));
        assert!(said(r#"{"users": 100}"#).starts_with("100 users cannot give 3000 orders a day"));
    }
}
