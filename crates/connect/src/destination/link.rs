//! A connection to the other side: TCP, alive, and encrypted where it is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls::{Tls, client_config};

/// How long the other side may take until it has let us in.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection, whatever it is made of.
pub(super) type Link = Box<dyn Stream>;

/// Connects to the first address of a host that answers.
pub(super) async fn dial(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Encrypts a connection. Errors: why it cannot be, as a text.
pub(super) async fn encrypt(stream: TcpStream, host: &str, tls: Tls, ca: Option<&Path>) -> Result<Link, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(client_config(tls, ca)?));
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(error.to_string()),
    }
}

/// What has ended a connection, or kept it from being opened, in words of people.
pub(super) fn told(error: &std::io::Error, address: &str) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("connection to {address} refused"),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => format!("{address} closed the connection"),
        ErrorKind::TimedOut => format!("{address} does not answer"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            format!("there is no way to {address} from this machine")
        }
        // The system's resolver has no kind of its own.
        _ if error.to_string().contains("lookup address") => format!("the host of {address} is not known by name"),
        _ => format!("the connection to {address} failed: {error}"),
    }
}
