//! As many clients as an instance takes: most of them idle, the others asking without a pause.

use futures::future::{join_all, try_join_all};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Statements of each client that asks: by its key, planned, planned anew each time, and prepared.
const ASKED: usize = 20;
/// Connections that are opened, or woken, at a time.
const TOGETHER: usize = 64;

/// Opens so many idle and so many busy connections. Answers how many answers were right, and what refused the others.
pub(crate) fn crowd(address: &str, idle: &str, busy: &str) -> Result<String, String> {
    app::process::allow_many_files();
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("no number: {text}"));
    let (idle, busy) = (number(idle)?, number(busy)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let idle = connected(address, idle).await?;
        let busy = connected(address, busy).await?;
        let asked = join_all(busy.iter().enumerate().map(|(number, client)| ask(client, number))).await;
        let mut woken = Vec::new();
        // All at once they would be more statements than may wait.
        for some in idle.chunks(TOGETHER) {
            woken.extend(join_all(some.iter().map(|client| right(client, "select 1", "1"))).await);
        }
        let refused: Vec<String> = asked.iter().flatten().chain(&woken).flatten().cloned().collect();
        let right = asked.iter().flatten().chain(&woken).filter(|refused| refused.is_none()).count();
        Ok(format!("{} connections, {right} right answers{}", idle.len() + busy.len(), told(refused)))
    })
}

fn told(mut refused: Vec<String>) -> String {
    refused.sort();
    refused.dedup();
    refused.into_iter().map(|why| format!("\n{why}")).collect()
}

/// Connections, some at a time, as a pool opens them.
async fn connected(address: &str, count: usize) -> Result<Vec<Client>, String> {
    let mut clients = Vec::new();
    while clients.len() < count {
        let some = (count - clients.len()).min(TOGETHER);
        clients.extend(try_join_all((0..some).map(|_| connect(address))).await?);
    }
    Ok(clients)
}

async fn connect(address: &str) -> Result<Client, String> {
    let (host, port) = address.rsplit_once(':').ok_or("no address")?;
    let port = port.parse().map_err(|_| "no port")?;
    let mut config = tokio_postgres::Config::new();
    let connecting = config.host(host).port(port).user("tidemill").dbname("tidemill").connect(NoTls);
    let (client, driver) = connecting.await.map_err(|e| format!("no connection: {e:?}"))?;
    tokio::spawn(driver);
    Ok(client)
}

/// What was wrong with each answer; none where it was right.
async fn ask(client: &Client, number: usize) -> Vec<Option<String>> {
    let mut answers = Vec::new();
    for turn in 0..ASKED {
        let id = 1 + (number + turn) % 12;
        answers.push(match turn % 4 {
            0 => {
                right(client, &format!("select brand_id from shop.brands where brand_id = {id}"), &id.to_string()).await
            }
            1 => {
                right(client, &format!("select count(*) from shop.brands where brand_id <= {id}"), &id.to_string())
                    .await
            }
            2 => {
                right(client, &format!("select {id} + count(*) - 12 from shop.brands -- {number}"), &id.to_string())
                    .await
            }
            _ => prepared(client, id).await,
        });
    }
    answers
}

async fn right(client: &Client, sql: &str, wanted: &str) -> Option<String> {
    match client.simple_query(sql).await {
        Ok(messages) => {
            let found = messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            (found != Some(wanted)).then(|| format!("{sql}: {found:?}"))
        }
        Err(error) => Some(format!("{error:?}")),
    }
}

async fn prepared(client: &Client, id: usize) -> Option<String> {
    let id = i64::try_from(id).unwrap();
    let sql = "select count(*) from shop.brands where brand_id between 1 and $1::bigint";
    match client.query_one(sql, &[&id]).await {
        Ok(row) => (row.get::<_, i64>(0) != id).then(|| format!("{sql}: {row:?}")),
        Err(error) => Some(format!("{error:?}")),
    }
}
