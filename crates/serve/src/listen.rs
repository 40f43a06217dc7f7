//! Opening an address: one that the user named is taken or refused, a default moves to the next free port.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// How far a default port moves before we give up.
const PORTS_TRIED: u16 = 100;

/// Why an address could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The text is no address with a port.
    #[error("cannot listen on {spec:?}: it is not an address and port, such as 127.0.0.1:5433")]
    Spec {
        /// As given.
        spec: String,
    },
    /// Another program has the port that the user named.
    #[error(
        "cannot listen on {address}: another program uses this port. Stop it, or choose another port (0 takes a free one)"
    )]
    Taken {
        /// As given.
        address: SocketAddr,
    },
    /// Every port from the default on is taken.
    #[error(
        "cannot listen on {address}: this port and the {PORTS_TRIED} after it are taken. Name another one (0 takes a free one)"
    )]
    NoneFree {
        /// The default.
        address: SocketAddr,
    },
    /// The system refused.
    #[error("cannot listen on {address}: {cause}")]
    System {
        /// As given.
        address: SocketAddr,
        /// In the system's words.
        cause: std::io::Error,
    },
}

/// Listens on `spec` (`address:port`, the address in digits or `localhost`).
///
/// Port 0 is a free one. A taken port is an error where the user named it (`explicit`), else the next free one is
/// taken; ask the listener for its address to print it.
///
/// Errors: [`BindError`].
pub async fn bind(spec: &str, explicit: bool) -> Result<TcpListener, BindError> {
    let address = parse(spec)?;
    let tries = if explicit || address.port() == 0 { 0 } else { PORTS_TRIED };
    for step in 0..=tries {
        let Some(port) = address.port().checked_add(step) else { break };
        match TcpListener::bind(SocketAddr::new(address.ip(), port)).await {
            Ok(listener) => return Ok(listener),
            Err(e) if e.kind() == ErrorKind::AddrInUse && explicit => {
                return Err(BindError::Taken { address });
            }
            Err(e) if e.kind() == ErrorKind::AddrInUse => {}
            Err(cause) => return Err(BindError::System { address, cause }),
        }
    }
    Err(BindError::NoneFree { address })
}

fn parse(spec: &str) -> Result<SocketAddr, BindError> {
    let literal = match spec.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => spec.to_owned(),
    };
    literal.parse().map_err(|_| BindError::Spec { spec: spec.to_owned() })
}
