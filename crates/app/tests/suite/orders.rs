//! What the port for orders answers to what is no proper order.
//!
//! ```text
//! order line            the body's line, `$WORD` in it being the right word
//! order half            the same without its end; nothing more comes
//! order bytes N         N bytes without an end of line
//! order many N          N connections that say nothing, then the body's line on one more
//! ```

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take: the port's own bounds are shorter.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

pub(crate) fn order(note: &Value, form: &[String], body: &str) -> Result<String, String> {
    let address = note["control"].as_str().ok_or("no port for orders is noted")?;
    let line = body.replace("$WORD", note["word"].as_str().unwrap_or_default());
    let count = || form.get(1).and_then(|n| n.parse::<usize>().ok()).ok_or("how many?");
    let mut others = Vec::new();
    let text = match form.first().map(String::as_str) {
        Some("line") => format!("{line}\n"),
        Some("half") => line,
        Some("bytes") => "x".repeat(count()?),
        Some("many") => {
            for _ in 0..count()? {
                others.push(TcpStream::connect(address).map_err(crate::text_of)?);
            }
            format!("{line}\n")
        }
        _ => return Err("line, half, bytes or many".to_owned()),
    };
    let mut stream = TcpStream::connect(address).map_err(crate::text_of)?;
    stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(crate::text_of)?;
    // A port that has heard enough closes meanwhile: what it said before is what counts.
    stream.write_all(text.as_bytes()).ok();
    let mut answers = Vec::new();
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) => answers.push(line),
            // It closed with what was not read of ours: what it said before is what counts.
            Err(_) if !answers.is_empty() => break,
            Err(error) => {
                answers.push(match error.kind() {
                    std::io::ErrorKind::WouldBlock => "nothing for 20 s".to_owned(),
                    kind => kind.to_string(),
                });
                break;
            }
        }
    }
    drop(others);
    Ok(if answers.is_empty() { "closed".to_owned() } else { answers.join("\n") })
}

/// Something else listens at the port that a note names.
pub(crate) fn impostor(note: &Path, kind: &str) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(crate::text_of)?;
    let text = std::fs::read_to_string(note).map_err(crate::text_of)?;
    let mut noted: Value = serde_json::from_str(&text).map_err(crate::text_of)?;
    noted["control"] = listener.local_addr().map_err(crate::text_of)?.to_string().into();
    std::fs::write(note, noted.to_string()).map_err(crate::text_of)?;
    let greets = kind == "ssh";
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if greets {
                stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").ok();
            }
            kept.push(stream);
        }
    });
    Ok(String::new())
}
