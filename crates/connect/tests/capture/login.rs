//! Logging in to a server that says what a case wants it to say.

use std::path::Path;

use connect::source::mysql::testing::{LoggedIn, log_in, sealed as sealed_said};
use connect::source::mysql::{MysqlConfig, Tls};

const PASSWORD: &str = "geheim";
/// What a server sends in every greeting: its capabilities without TLS.
const CAPABILITIES: u32 = 1 | 1 << 2 | 1 << 9 | 1 << 13 | 1 << 15 | 1 << 17 | 1 << 19;
const TLS: u32 = 1 << 11;
const NONCE: &[u8; 20] = b"12345678901234567890";

pub(super) fn login(arguments: &[&str], body: &str) -> Result<String, String> {
    let [tls, peer, rest @ ..] = arguments else { return Err("login TLS PEER [KEY]".to_owned()) };
    let server_key = rest.first().map(|path| file(path));
    let config = MysqlConfig {
        host: "db".to_owned(),
        user: "shop".to_owned(),
        password: Some(PASSWORD.to_owned()),
        tls: mode(tls)?,
        server_key,
        ..MysqlConfig::default()
    };
    let says = body.lines().map(said).collect::<Result<Vec<_>, String>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let LoggedIn { heard, ended } = runtime.block_on(log_in(&config, peer, says))?;
    let mut out: Vec<String> = heard.iter().map(|packet| format!("heard {}", shown(packet))).collect();
    out.push(match ended {
        Ok(()) => "logged in".to_owned(),
        Err(reason) => format!("error: {reason}").replace(env!("CARGO_MANIFEST_DIR"), "…"),
    });
    Ok(out.join("\n"))
}

pub(super) fn sealed(arguments: &[&str]) -> Result<String, String> {
    let [tls, place, form] = arguments else { return Err("sealed TLS here|away plain|encrypted".to_owned()) };
    let config = MysqlConfig { tls: mode(tls)?, ..MysqlConfig::default() };
    Ok(sealed_said(&config, *form == "encrypted", *place == "here"))
}

fn mode(word: &str) -> Result<Tls, String> {
    Ok(match word {
        "disabled" => Tls::Disabled,
        "preferred" => Tls::Preferred,
        "required" => Tls::Required,
        "verify" => Tls::Verify,
        other => return Err(format!("no mode of TLS: {other}")),
    })
}

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/login").join(path)
}

/// A packet of the server, and whether it waits for an answer.
fn said(line: &str) -> Result<(Vec<u8>, bool), String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match word {
        "greeting" => (greeting(rest), true),
        "switch" => ([b"\xfe".as_slice(), rest.as_bytes(), b"\0", NONCE, b"\0"].concat(), true),
        "fast" => (vec![1, 3], false),
        "full" => (vec![1, 4], true),
        "key" => ([vec![1], std::fs::read(file(rest)).map_err(|e| e.to_string())?].concat(), true),
        "word" => ([[1].as_slice(), rest.as_bytes()].concat(), true),
        "ok" => (vec![0, 0, 0, 2, 0, 0, 0], false),
        other => return Err(format!("a server says no \"{other}\"")),
    })
}

fn greeting(rest: &str) -> Vec<u8> {
    let (plugin, tls) = rest.split_once(' ').unwrap_or((rest, ""));
    let capabilities = (CAPABILITIES | if tls == "tls" { TLS } else { 0 }).to_le_bytes();
    [
        [10].as_slice(),
        b"8.4.0\0",
        &7_u32.to_le_bytes(),
        &NONCE[..8],
        &[0],
        &capabilities[..2],
        &[45, 2, 0],
        &capabilities[2..],
        &[21],
        &[0; 10],
        &NONCE[8..],
        &[0],
        plugin.as_bytes(),
        &[0],
    ]
    .concat()
}

/// What a packet of somebody who logs in shows to whoever reads it on the way.
fn shown(packet: &[u8]) -> String {
    let holds = |word: &str| packet.windows(word.len()).any(|window| window == word.as_bytes());
    match packet {
        [] => "nothing".to_owned(),
        _ if holds(PASSWORD) => "the password".to_owned(),
        [1] | [2] => "a question for the public key".to_owned(),
        _ if packet.len() == 256 => "the password, encrypted by a public key".to_owned(),
        _ if holds("shop") => "a user's name and a proof".to_owned(),
        _ if packet.len() == 20 || packet.len() == 32 => "a proof".to_owned(),
        _ => format!("{} bytes", packet.len()),
    }
}
