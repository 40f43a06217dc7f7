//! One row that changes once in a while, and how long it takes until each place shows it: a measure of its own, beside what the
//! instance says of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_postgres::SimpleQueryMessage;

use super::targets::There;

/// Looks at one place again and again over one connection.
enum Eye {
    Postgres(tokio_postgres::Client),
    Redis(BufReader<TcpStream>),
}

/// How long it took at one place, in milliseconds.
pub(super) type Times = BTreeMap<&'static str, Vec<f64>>;

pub(super) struct Canary {
    eyes: BTreeMap<&'static str, Eye>,
    key: String,
}

/// What takes longer counts as this long.
const PATIENCE: Duration = Duration::from_secs(60);

impl Canary {
    /// At all places but one.
    pub(super) async fn open(there: &There, without: &str) -> Result<Self, String> {
        let port = |side: &str| there.servers.get(side).map(|server| server.port).ok_or_else(|| format!("no {side}"));
        let mut eyes = BTreeMap::new();
        if without != "postgres" {
            let mut config = tokio_postgres::Config::new();
            config.host("127.0.0.1").port(port("postgres")?).user("postgres").dbname(&there.place);
            let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            eyes.insert("postgres", Eye::Postgres(client));
        }
        if without != "redis" {
            let stream = TcpStream::connect(("127.0.0.1", port("redis")?)).await.map_err(|e| e.to_string())?;
            eyes.insert("redis", Eye::Redis(BufReader::new(stream)));
        }
        Ok(Self { eyes, key: format!("{}:stock:0", there.place) })
    }

    /// Waits until all places show a version.
    pub(super) async fn see(&mut self, version: u64, times: &mut Times) -> Result<(), String> {
        let begun = Instant::now();
        for (place, eye) in &mut self.eyes {
            while eye.version(&self.key).await? < version && begun.elapsed() < PATIENCE {
                crate::pause(5).await;
            }
            times.entry(*place).or_default().push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        Ok(())
    }
}

impl Eye {
    async fn version(&mut self, key: &str) -> Result<u64, String> {
        let text = match self {
            Self::Postgres(client) => {
                let said =
                    client.simple_query("select version from stock where id = 0").await.map_err(|e| e.to_string())?;
                let row = said.iter().find_map(|message| match message {
                    SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                    _ => None,
                });
                row.unwrap_or_default()
            }
            Self::Redis(stream) => {
                let asked = format!("HGET {key} version\r\n");
                stream.get_mut().write_all(asked.as_bytes()).await.map_err(|e| e.to_string())?;
                let mut line = String::new();
                stream.read_line(&mut line).await.map_err(|e| e.to_string())?;
                let length: i64 =
                    line.trim_start_matches('$').trim().parse().map_err(|_| format!("redis says {line}"))?;
                let mut text = vec![0; usize::try_from(length + 2).unwrap_or(0).max(2)];
                if length < 0 {
                    return Ok(0);
                }
                stream.read_exact(&mut text).await.map_err(|e| e.to_string())?;
                String::from_utf8_lossy(&text).trim().to_owned()
            }
        };
        Ok(text.parse().unwrap_or(0))
    }
}

/// The middle, the 99th of a hundred, and the largest.
pub(super) fn told(times: &Times) -> String {
    let one = |(place, times): (&&str, &Vec<f64>)| {
        let mut times = times.clone();
        times.sort_by(f64::total_cmp);
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        let ms = |percent: usize| at(percent).map_or_else(|| "none".to_owned(), |ms| format!("{ms:.0} ms"));
        format!("{place}: {} canaries, p50 {}, p99 {}, most {}", times.len(), ms(50), ms(99), ms(100))
    };
    times.iter().map(one).collect::<Vec<_>>().join("; ")
}
