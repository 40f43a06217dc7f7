//! `doctor`: can the sources be read?

use connect::CheckOutcome;

use super::{Context, Outcome, print};

pub(super) async fn run(context: &Context) -> anyhow::Result<Outcome> {
    let Some(setup) = context.setup()? else { return Ok(Outcome::Failed) };
    let mut failed = false;
    let mut answers = Vec::new();
    for feed in setup.feeds()? {
        let checks = feed.source().await?.doctor(&feed.wanted()).await;
        for check in checks {
            failed |= check.outcome == CheckOutcome::Failed;
            let word = match check.outcome {
                CheckOutcome::Ok => "ok",
                CheckOutcome::Warning => "warning",
                CheckOutcome::Failed => "failed",
            };
            if context.json {
                answers.push(serde_json::json!({
                    "connection": feed.connection.name, "check": check.name, "outcome": word,
                    "message": check.message, "detail": check.detail, "hint": check.hint,
                }));
                continue;
            }
            print(&format!("{word:<8} {}: {} — {}", feed.connection.name, check.name, check.message));
            for (label, text) in [("Detail", &check.detail), ("Hint", &check.hint)] {
                if !text.is_empty() {
                    print(&format!("         {label}: {text}"));
                }
            }
        }
    }
    if context.json {
        print(&serde_json::Value::Array(answers).to_string());
    }
    Ok(if failed { Outcome::Failed } else { Outcome::Ok })
}
