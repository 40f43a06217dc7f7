//! The Postgres wire: one task per client, statements one after the other, replies in order.
//!
//! pgwire gives the replies' encodings and the types' numbers. Requests are decoded here (`frame`): pgwire replaces
//! bytes that are no UTF-8 and panics on a message shorter than it says, a server must refuse both.
//! The loop is ours too: a cancel, a timeout and a client that leaves must end a statement also while rows are sent.

mod connection;
mod copy;
mod cursor;
mod extended;
mod frame;
mod login;
pub(crate) mod parameter;
mod prepared;
mod session;
mod settings;
mod simple;
mod startup;
mod statement;
mod types;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use crate::service::Service;
pub(crate) use types::column;
pub use types::wire_type;

/// Sockets that may wait for their login beyond the limit of connections; a cancel request is one of them.
const LOGINS_WAITING: usize = 256;

/// Serves the Postgres wire until `shutdown` is ready, then gives clients [`crate::Limits::shutdown_grace`] to hear of it.
pub async fn serve_pg(listener: TcpListener, service: Arc<Service>, shutdown: impl Future<Output = ()> + Send) {
    let (stop, stopped) = watch::channel(false);
    let listens_on = listener.local_addr().ok().map(|address| address.ip());
    let mut clients = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = clients.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) if clients.len() < service.limits.connections + LOGINS_WAITING => {
                    clients.spawn(accept(socket, listens_on, Arc::clone(&service), stopped.clone()));
                }
                Ok(_) => debug!("too many sockets, one closed before its login"),
                // Out of descriptors: those that end free some.
                Err(error) => {
                    warn!(%error, "cannot accept a client");
                    tokio::task::yield_now().await;
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let all = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(service.limits.shutdown_grace, all).await.is_err() {
        info!("clients cut off after the grace of the shutdown");
    }
}

/// A client, from its first byte to its last.
async fn accept(socket: TcpStream, listener: Option<IpAddr>, service: Arc<Service>, stop: watch::Receiver<bool>) {
    match socket.set_nodelay(true).and_then(|()| startup::Peer::new(&socket, listener)) {
        Ok(peer) => startup::greet(socket, peer, service, stop).await,
        Err(error) => debug!(%error, "client left at once"),
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!(%error, "a client's task failed");
    }
}
