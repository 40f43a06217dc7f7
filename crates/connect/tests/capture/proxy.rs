//! A proxy between the source and a server: for faults of the network, and for an address that leads elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections, and does them harm.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

pub(crate) struct State {
    /// The server's port; 0 for none.
    pub(crate) target: AtomicU16,
    /// Connections of before this number are frozen: whatever comes is swallowed.
    pub(crate) frozen: AtomicUsize,
    /// Connections of before this number are closed.
    cut: AtomicUsize,
    /// Connections end after so many bytes from the server.
    pub(crate) bytes_max: AtomicUsize,
    pub(crate) slow: AtomicBool,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Result<Self, String> {
        Self::start_at(target, 0).await
    }

    /// The same at a port; 0 for any.
    pub(crate) async fn start_at(target: u16, port: u16) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let state = Arc::new(State {
            target: target.into(),
            frozen: 0.into(),
            cut: 0.into(),
            bytes_max: usize::MAX.into(),
            slow: false.into(),
        });
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((inside, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                connections.spawn(async move { state.forward(inside).await.ok() });
            }
        });
        Ok(Self { port, state, task })
    }

    /// Nothing listens any more, and all connections are closed.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        // It has ended by the word above.
        (&mut self.task).await.ok();
    }

    /// Closes all connections that there are.
    pub(crate) fn cut(&self) {
        self.state.cut.fetch_add(1, Ordering::Relaxed);
    }
}

impl State {
    async fn forward(&self, mut inside: TcpStream) -> std::io::Result<()> {
        let target = self.target.load(Ordering::Relaxed);
        if target == 0 {
            return Ok(());
        }
        let mut outside = TcpStream::connect(("127.0.0.1", target)).await?;
        let (frozen, cut) = (self.frozen.load(Ordering::Relaxed), self.cut.load(Ordering::Relaxed));
        let (mut from, mut to) = (vec![0; 4_096], vec![0; 4_096]);
        let mut bytes = 0;
        loop {
            let (count, is_answer) = tokio::select! {
                read = outside.read(&mut from) => (read?, true),
                read = inside.read(&mut to) => (read?, false),
                () = tokio::time::sleep(Duration::from_millis(20)) => (usize::MAX, false),
            };
            if count == 0 || self.cut.load(Ordering::Relaxed) != cut {
                return Ok(());
            }
            if count == usize::MAX || self.frozen.load(Ordering::Relaxed) != frozen {
                continue;
            }
            if !is_answer {
                inside_out(&mut outside, &to[..count]).await?;
                continue;
            }
            let left = self.bytes_max.load(Ordering::Relaxed).saturating_sub(bytes);
            bytes += count;
            inside_out(&mut inside, &from[..count.min(left)]).await?;
            if count >= left {
                return Ok(());
            }
            if self.slow.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn inside_out(to: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}
