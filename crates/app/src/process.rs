//! What the process uses of the machine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// How long somebody on this machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Resident memory in bytes, now and at most; zero where the system does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub resident: u64,
    pub peak: u64,
}

/// The memory of this process.
pub fn memory() -> Memory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
}

/// Whether a process is there no more, or is about to go whatever it does: it was killed, and the system clears it away.
pub fn is_ending(pid: u32) -> bool {
    /// Of the flags of a process: it ends (`PF_EXITING`).
    const ENDS: u64 = 4;
    /// The signal that nobody survives, in a mask of signals.
    const KILL: u64 = 1 << 8;
    let folder = Path::new("/proc").join(pid.to_string());
    if !Path::new("/proc/self").exists() {
        return false;
    }
    // What waits is looked at first: it is taken before the process ends.
    let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
    let Ok(stat) = std::fs::read_to_string(folder.join("stat")) else { return true };
    // The name in front may have blanks and brackets of its own.
    let facts: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let flags: u64 = facts.get(6).and_then(|flags| flags.parse().ok()).unwrap_or(0);
    let pending = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    };
    let is_killed = (pending("SigPnd:") | pending("ShdPnd:")) & KILL != 0;
    matches!(facts.first(), Some(&("Z" | "X"))) || flags & ENDS != 0 || is_killed
}

/// The body of what HTTP answers at an address of this machine; none where nobody does within a second.
pub fn asked(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().ok()?, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned())
}

/// What is made from now on is its owner's alone, unless it is said otherwise: what the data folder has is a shop's rows and words that
/// let in.
pub fn keep_to_owner() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Free bytes of the file system of a folder, for who is not root.
pub fn disk_free(folder: &Path) -> Option<u64> {
    let facts = rustix::fs::statvfs(folder).ok()?;
    Some(facts.f_bavail * facts.f_frsize)
}

/// Files and sockets that the process may have open, where the system allows so many.
const FILES_MAX: u64 = 65_536;

/// Has the system let this process open as many files as whoever started it allows. Most systems begin with 1,024, which
/// some connections and tables are over.
pub fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.map_or(FILES_MAX, |maximum| maximum.min(FILES_MAX));
    if limit.current.is_none_or(|current| current >= allowed) {
        return;
    }
    limit.current = Some(allowed);
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_killed_process_is_ending_and_no_other_is() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        assert!(!super::is_ending(child.id()) && !super::is_ending(std::process::id()));
        child.kill().unwrap();
        // Between the signal and the end nothing is seen of it for a moment.
        assert!((0..1_000).any(|_| super::is_ending(child.id())));
        child.wait().unwrap();
        assert!(super::is_ending(child.id()));
    }

    #[test]
    fn a_process_has_memory_and_a_disk() {
        let memory = super::memory();
        assert!(memory.resident > 1 << 20 && memory.peak >= memory.resident, "{memory:?}");
        assert!(super::disk_free(std::path::Path::new("/")).is_some());
        assert_eq!(super::disk_free(std::path::Path::new("/no/such/folder")), None);
    }
}
