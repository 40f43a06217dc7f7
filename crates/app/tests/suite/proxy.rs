//! A way to the server that can be cut, and opened again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A way to the server that can be cut.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    open: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn start(target: (String, u16)) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let gate: Arc<Mutex<Gate>> = Arc::default();
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut gate = theirs.lock().unwrap();
                let Ok(server) = TcpStream::connect((target.0.as_str(), target.1)) else { continue };
                if !gate.open {
                    continue;
                }
                for (from, to) in [(&client, &server), (&server, &client)] {
                    gate.streams.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || copy(from, to));
                }
            }
        });
        Ok(Self { port, gate })
    }

    pub(crate) fn set(&self, open: bool) {
        let mut gate = self.gate.lock().unwrap();
        gate.open = open;
        if !open {
            for stream in gate.streams.drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
