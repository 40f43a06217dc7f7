//! A way to the server that can be cut, fall silent, and be opened again.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// A way to the server that can be cut.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    gate: Arc<Way>,
}

#[derive(Default)]
struct Way {
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    open: bool,
    /// Nothing passes, and nobody is told.
    silent: bool,
    streams: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn start(target: (String, u16)) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let gate: Arc<Way> = Arc::default();
        let theirs = Arc::clone(&gate);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut gate = theirs.gate.lock().unwrap();
                let Ok(server) = TcpStream::connect((target.0.as_str(), target.1)) else { continue };
                if !gate.open {
                    continue;
                }
                for (from, to) in [(&client, &server), (&server, &client)] {
                    gate.streams.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let way = Arc::clone(&theirs);
                    std::thread::spawn(move || copy(from, to, &way));
                }
            }
        });
        Ok(Self { port, gate })
    }

    /// Opens the way, cuts it, or has it fall silent: `up`, `down`, `silent`.
    pub(crate) fn set(&self, state: &str) {
        let mut gate = self.gate.gate.lock().unwrap();
        (gate.open, gate.silent) = (state != "down", state == "silent");
        if !gate.open {
            for stream in gate.streams.drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
        self.gate.changed.notify_all();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, way: &Way) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n) = from.read(&mut buffer) {
        drop(way.changed.wait_while(way.gate.lock().unwrap(), |gate| gate.silent).unwrap());
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
