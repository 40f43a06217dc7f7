//! Guessing costs time: who fails often waits, and so many may try at once.
//!
//! Failures are counted by address and name together, so that nobody can lock a user out from elsewhere, and by address
//! alone, so that many names are no way around it. All of it is bounded: of [`TRIERS_MAX`] that have failed the one that failed
//! first is forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::reader::SqlError;

/// Failures of a name from an address that cost nothing: people mistype.
const FREE_OF_NAME: u32 = 5;
/// Failures of all names from an address that cost nothing: an office shares one.
const FREE_OF_ADDRESS: u32 = 50;
/// The first pause; each failure more doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After so long without a failure all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Addresses and names that are remembered.
const TRIERS_MAX: usize = 4_096;
/// Bytes of a name that are remembered: a longer one shares its count with those that begin alike.
const NAME_BYTES_MAX: usize = 64;
/// Clients whose login is under way.
const LOGINS_MAX: usize = 256;
/// Those of them from one address, so that one cannot keep all others out.
const LOGINS_OF_ONE_MAX: usize = 128;
/// Passwords that are derived at once, over HTTP: each takes a processor.
const DERIVING_MAX: usize = 2;

/// Counts who fails, and who is about to log in.
pub(crate) struct Throttle {
    triers: Mutex<BTreeMap<(Option<IpAddr>, Option<String>), Trier>>,
    arrivals: Mutex<BTreeMap<IpAddr, usize>>,
    deriving: Semaphore,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { triers: Mutex::default(), arrivals: Mutex::default(), deriving: Semaphore::new(DERIVING_MAX) }
    }
}

/// Someone who has failed.
#[derive(Clone, Copy)]
struct Trier {
    failures: u32,
    last: Instant,
}

impl Trier {
    /// How long it has to wait still.
    fn wait(self, free: u32, now: Instant) -> Duration {
        let Some(over) = self.failures.checked_sub(free) else { return Duration::ZERO };
        let pause = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(over.min(16))).min(PAUSE_MAX);
        pause.saturating_sub(now.duration_since(self.last))
    }
}

/// A login under way; its place is free again when it is dropped.
pub(crate) struct Arrival<'a> {
    throttle: &'a Throttle,
    from: IpAddr,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut arrivals = self.throttle.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = arrivals.get_mut(&self.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                arrivals.remove(&self.from);
            }
        }
    }
}

impl Throttle {
    /// A place for a login; none if too many are under way.
    pub(crate) fn arrive(&self, from: IpAddr) -> Option<Arrival<'_>> {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = arrivals.values().sum();
        let own = arrivals.get(&from).copied().unwrap_or_default();
        if all >= LOGINS_MAX || own >= LOGINS_OF_ONE_MAX {
            return None;
        }
        arrivals.insert(from, own + 1);
        drop(arrivals);
        Some(Arrival { throttle: self, from })
    }

    /// A turn to derive a password.
    pub(super) async fn derives(&self) -> Option<SemaphorePermit<'_>> {
        self.deriving.acquire().await.ok()
    }

    /// Whether somebody may try. Errors: not yet, whatever the password is.
    pub(crate) fn check(&self, from: Option<IpAddr>, name: &str, now: Instant) -> Result<(), SqlError> {
        let triers = self.triers.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = keys(from, name).map(|(key, free)| triers.get(&key).map(|trier| trier.wait(free, now)));
        let wait = keys.into_iter().flatten().max().unwrap_or_default();
        if wait.is_zero() {
            return Ok(());
        }
        Err(SqlError::new("28000", "too many logins have failed")
            .hint(format!("Try again in {} s, with the right password.", wait.as_secs().saturating_add(1))))
    }

    /// Notes a failure.
    pub(crate) fn failed(&self, from: Option<IpAddr>, name: &str, now: Instant) {
        let mut triers = self.triers.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(from, name) {
            if triers.len() >= TRIERS_MAX && !triers.contains_key(&key) {
                triers.retain(|_, trier| now.duration_since(trier.last) < FORGOTTEN_AFTER);
                let oldest = triers.iter().min_by_key(|(_, trier)| trier.last).map(|(key, _)| key.clone());
                if let Some(oldest) = oldest.filter(|_| triers.len() >= TRIERS_MAX) {
                    triers.remove(&oldest);
                }
            }
            let trier = triers.entry(key).or_insert(Trier { failures: 0, last: now });
            if now.duration_since(trier.last) >= FORGOTTEN_AFTER {
                trier.failures = 0;
            }
            *trier = Trier { failures: trier.failures.saturating_add(1), last: now };
        }
    }

    /// Forgets the failures of a name, from where it has just succeeded.
    pub(crate) fn succeeded(&self, from: Option<IpAddr>, name: &str) {
        let [(key, _), _] = keys(from, name);
        self.triers.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// What a failure counts for, each with the failures that are free.
fn keys(from: Option<IpAddr>, name: &str) -> [((Option<IpAddr>, Option<String>), u32); 2] {
    let from = from.map(|from| from.to_canonical());
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    let name = name.get(..end).unwrap_or_default().to_owned();
    [((from, Some(name)), FREE_OF_NAME), ((from, None), FREE_OF_ADDRESS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7)));

    fn after(start: Instant, seconds: u64) -> Instant {
        start.checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn who_fails_often_waits_longer_each_time_and_nobody_else_does() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..FREE_OF_NAME {
            assert!(throttle.check(HERE, "ann", start).is_ok());
            throttle.failed(HERE, "ann", start);
        }
        assert!(throttle.check(HERE, "ann", start).is_err());
        assert!(throttle.check(THERE, "ann", start).is_ok());
        assert!(throttle.check(HERE, "bob", start).is_ok());
        assert!(throttle.check(HERE, "ann", after(start, 1)).is_ok());
        throttle.failed(HERE, "ann", after(start, 1));
        assert!(throttle.check(HERE, "ann", after(start, 2)).is_err());
        assert!(throttle.check(HERE, "ann", after(start, 3)).is_ok());
        throttle.succeeded(HERE, "ann");
        assert!(throttle.check(HERE, "ann", start).is_ok());
    }

    #[test]
    fn many_names_are_no_way_around_it() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        (0..FREE_OF_ADDRESS).for_each(|i| throttle.failed(HERE, &format!("user{i}"), start));
        assert!(throttle.check(HERE, "ann", start).is_err());
        assert!(throttle.check(THERE, "ann", start).is_ok());
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        (0..TRIERS_MAX + 100).for_each(|i| throttle.failed(HERE, &format!("user{i}"), after(start, 1)));
        assert_eq!(throttle.triers.lock().unwrap().len(), TRIERS_MAX);
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let throttle = Throttle::default();
        let taken: Vec<_> = (0..LOGINS_MAX).map_while(|_| throttle.arrive(HERE.unwrap())).collect();
        assert_eq!(taken.len(), LOGINS_OF_ONE_MAX);
        assert!(throttle.arrive(THERE.unwrap()).is_some());
        drop(taken);
        assert!(throttle.arrive(HERE.unwrap()).is_some());
    }
}
