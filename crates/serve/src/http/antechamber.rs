//! Before there is anything to ask: how far the start is, for whoever probes.
//!
//! It answers over a second handle of the listener that the server takes over, so nobody is refused in between. Each answer ends its
//! connection: the next one is the server's.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::failure;
use crate::reader::SqlError;

/// How far the start is, in one line.
pub type Starting = Arc<dyn Fn() -> String + Send + Sync>;

/// Answers until it is dropped.
pub struct Antechamber(JoinHandle<()>);

impl Antechamber {
    /// Answers on a listener, which is given back to be served on behind it.
    pub fn open(listener: TcpListener, starting: Starting) -> io::Result<(TcpListener, Self)> {
        let listener = listener.into_std()?;
        let ours = TcpListener::from_std(listener.try_clone()?)?;
        let router = router(starting).into_make_service();
        let task = tokio::spawn(async move {
            // It ends when it is dropped, and not before.
            axum::serve(ours, router).await.ok();
        });
        Ok((TcpListener::from_std(listener)?, Self(task)))
    }
}

impl Drop for Antechamber {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn router(starting: Starting) -> Router {
    let not_yet = move || {
        let line = format!("starting: {}\n", starting());
        std::future::ready(ended((StatusCode::SERVICE_UNAVAILABLE, line).into_response()))
    };
    Router::new()
        .route("/health/livez", get(|| async { ended((StatusCode::OK, "ok\n").into_response()) }))
        .route("/health/startupz", get(not_yet.clone()))
        .route("/health/readyz", get(not_yet))
        .fallback(|| async {
            let error = SqlError::new("57P03", "the warehouse is starting").hint("/health/readyz says how far it is.");
            ended(failure(StatusCode::SERVICE_UNAVAILABLE, &error))
        })
}

fn ended(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn asked(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// It answers, ends each connection, and hands the listener over: who connects meanwhile is not refused.
    #[tokio::test]
    async fn says_how_far_the_start_is_and_lets_the_server_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (listener, antechamber) =
            Antechamber::open(listener, Arc::new(|| "replaying the log, 40 %".to_owned())).unwrap();
        let ready = asked(address, "/health/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("starting: replaying the log, 40 %\n"), "{ready}");
        assert!(asked(address, "/health/livez").await.starts_with("HTTP/1.1 200"));
        assert!(asked(address, "/metrics").await.contains("57P03"));
        drop(antechamber);
        let waiting = TcpStream::connect(address).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(from, waiting.local_addr().unwrap());
    }
}
