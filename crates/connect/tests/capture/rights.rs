//! Trials against real servers, with `SLOW=1`: what a user may not see is told from what is not there.

use connect::source::mysql::{MysqlConfig, MysqlSource, Tls, current_position, doctor};
use connect::{CheckOutcome, Limits, SourceState};
use libtest_mimic::Trial;
use mysql_async::Conn;

use super::server::{Mirror, Outcome, Shop, run, trial};

pub(crate) fn trials(server: &'static str, port: u16) -> Vec<Trial> {
    let mut out = vec![trial(server, "right_revoked", move || right_revoked(server, port))];
    if server == "mariadb" {
        out.push(trial(server, "parent_unseen", move || parent_unseen(server, port)));
    }
    out
}

/// A user of a trial's own, who may follow the log and read these tables.
async fn user(shop: &Shop, conn: &mut Conn, name: &str, tables: &[&str]) -> Result<MysqlConfig, String> {
    run(conn, &format!("DROP USER IF EXISTS '{name}'@'%'")).await?;
    run(conn, &format!("CREATE USER '{name}'@'%'")).await?;
    run(conn, &format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '{name}'@'%'")).await?;
    for table in tables {
        run(conn, &format!("GRANT SELECT ON {}.{table} TO '{name}'@'%'", shop.database)).await?;
    }
    Ok(MysqlConfig { user: name.to_owned(), ..shop.config(Tls::Disabled) })
}

/// A table whose right is gone was not dropped: what is said has the statement that gives it back, and the table comes back by itself.
async fn right_revoked(server: &str, port: u16) -> Outcome {
    let tables = ["CREATE TABLE t (id INT PRIMARY KEY, a INT)", "CREATE TABLE other (id INT PRIMARY KEY)"];
    let shop = Shop::new(server, port, "revoked", &tables).await?;
    let mut conn = shop.conn().await?;
    run(&mut conn, "INSERT INTO t VALUES (1, 1)").await?;
    let config = user(&shop, &mut conn, "connect_revoked", &["t", "other"]).await?;
    let tables = shop.tables(&["t", "other"]).await?;
    let mut mirror = Mirror::new(&tables);
    let (mut events, control) = MysqlSource::start(config, tables, None, Limits::default());
    mirror.follow(&mut events, None).await?;

    run(&mut conn, &format!("REVOKE SELECT ON {}.t FROM 'connect_revoked'@'%'", shop.database)).await?;
    run(&mut conn, "ALTER TABLE t ADD COLUMN b INT DEFAULT 3").await?;
    while mirror.parked.is_empty() {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }
    let told = mirror.parked[0].1.clone();
    let grant = format!("Hint: GRANT SELECT ON `{}`.`t` TO 'connect_revoked'@'%'", shop.database);
    if !told.contains("may not SELECT from it") || !told.ends_with(&grant) || told.contains("dropped") {
        return Err(format!("it is said: {told}"));
    }
    // Nothing in the log has to tell of it.
    run(&mut conn, "SET sql_log_bin = 0").await?;
    run(&mut conn, &format!("GRANT SELECT ON {}.t TO 'connect_revoked'@'%'", shop.database)).await?;
    while mirror.altered.is_empty() {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }

    run(&mut conn, "SET sql_log_bin = 1").await?;
    run(&mut conn, "DROP TABLE other").await?;
    while mirror.parked.len() < 2 {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }
    drop(events);
    control.stop().await;
    run(&mut conn, "DROP USER 'connect_revoked'@'%'").await?;
    match mirror.parked[1].1.contains("the table was dropped") {
        true => Ok(()),
        false => Err(format!("it is said: {}", mirror.parked[1].1)),
    }
}

/// A foreign key leads to a table that may not be seen: what changes that one nobody can tell, and so it is said.
async fn parent_unseen(server: &str, port: u16) -> Outcome {
    let tables = [
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE c (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        "CREATE TABLE t (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES c (id) ON DELETE CASCADE)",
    ];
    let shop = Shop::new(server, port, "unseen", &tables).await?;
    let mut conn = shop.conn().await?;
    let config = user(&shop, &mut conn, "connect_unseen", &["p", "t"]).await?;
    let grant = format!("GRANT SELECT ON `{}`.`c` TO 'connect_unseen'@'%'", shop.database);
    let wanted: Vec<_> = ["p", "t"].iter().map(|name| (shop.database.clone(), (*name).to_owned())).collect();

    let said = said(&shop, &config).await?;
    if !said.ends_with(&grant) || !said.contains("without a trace") {
        return Err(format!("the source says: {said}"));
    }
    let warned = |checks: &[connect::Check]| -> String {
        let ours = checks.iter().filter(|check| check.name == "foreign_key" && check.outcome == CheckOutcome::Warning);
        ours.map(|check| format!("{} | {} | {}\n", check.message, check.detail, check.hint)).collect()
    };
    let told = warned(&doctor(&config, &wanted).await);
    if !told.contains("without anybody being told") || !told.contains(&grant) {
        return Err(format!("doctor says: {told}"));
    }

    run(&mut conn, &grant).await?;
    let told = warned(&doctor(&config, &wanted).await);
    let said = self::said(&shop, &config).await?;
    run(&mut conn, "DROP USER 'connect_unseen'@'%'").await?;
    match told.contains("without anybody being told") || !said.is_empty() {
        true => Err(format!("with the right, doctor says: {told}, and the source: {said}")),
        false => Ok(()),
    }
}

/// What a source says that has loaded its tables and follows the log.
async fn said(shop: &Shop, config: &MysqlConfig) -> Result<String, String> {
    let tables = shop.tables(&["p", "t"]).await?;
    let mut mirror = Mirror::new(&tables);
    let target = current_position(config).await.map_err(|f| f.detail)?;
    let (mut events, control) = MysqlSource::start(config.clone(), tables, None, Limits::default());
    mirror.follow(&mut events, Some(&target)).await?;
    while mirror.states.last() != Some(&SourceState::Streaming) {
        mirror.take(events.recv().await.ok_or("the source has ended")?)?;
    }
    drop(events);
    control.stop().await;
    Ok(mirror.message)
}
