//! A proxy between a destination and its server, which loses connections at a chosen moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// When a connection is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Cut {
    Never = 0,
    /// What ends a transaction does not reach the server.
    Before = 1,
    /// It does, and the answer does not reach us.
    After = 2,
    /// Whatever reaches the server, its answer does not reach us.
    Answers = 3,
}

/// Forwards connections. A cut is done once.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<AtomicU8>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(target: u16, is_postgres: bool) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let cut = Arc::new(AtomicU8::new(Cut::Never as u8));
        let shared = Arc::clone(&cut);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((inside, _)) = listener.accept().await {
                let cut = Arc::clone(&shared);
                connections.spawn(async move { forward(inside, target, is_postgres, &cut).await.ok() });
            }
        });
        Ok(Self { port, cut, task })
    }

    /// From here on.
    pub(crate) fn arm(&self, cut: Cut) {
        self.cut.store(cut as u8, Ordering::SeqCst);
    }
}

/// Whether the answer to what ends a transaction is in these bytes.
fn is_answer(bytes: &[u8], is_postgres: bool) -> bool {
    let ends = [&b"COMMIT\0"[..], b"ROLLBACK\0", b"SERROR\0", b"SFATAL\0"];
    match is_postgres {
        true => ends.iter().any(|end| bytes.windows(end.len()).any(|word| word == *end)),
        false => !bytes.is_empty(),
    }
}

async fn forward(mut inside: TcpStream, target: u16, is_postgres: bool, cut: &AtomicU8) -> std::io::Result<()> {
    let mut outside = TcpStream::connect(("127.0.0.1", target)).await?;
    let (mut from, mut to) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        tokio::select! {
            read = outside.read(&mut from) => match read? {
                0 => return Ok(()),
                count => inside.write_all(&from[..count]).await?,
            },
            read = inside.read(&mut to) => {
                let count = read?;
                let is_end = to[..count].windows(6).any(|word| word == b"COMMIT");
                match cut.load(Ordering::SeqCst) {
                    _ if count == 0 => return Ok(()),
                    cut if cut == Cut::Before as u8 && is_end => break,
                    armed if (armed == Cut::After as u8 && is_end) || armed == Cut::Answers as u8 => {
                        outside.write_all(&to[..count]).await?;
                        // It is carried out when it is answered. PostgreSQL answers what was sent before it first.
                        let mut answer = Vec::new();
                        while !is_answer(&answer, is_postgres) {
                            match outside.read(&mut from).await? {
                                0 => break,
                                count => answer.extend_from_slice(&from[..count]),
                            }
                        }
                        break;
                    }
                    _ => outside.write_all(&to[..count]).await?,
                }
            }
        }
    }
    cut.store(Cut::Never as u8, Ordering::SeqCst);
    Ok(())
}
