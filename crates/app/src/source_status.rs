//! How a source is, and how far behind its server's end.
//!
//! The lag of a source is the age of the oldest commit that is not visible here yet. It cannot be seen, only known from two
//! sides: all that was committed before the server's end was asked for is visible once that end is reached, and so is what
//! was committed before the newest transaction that is visible. While the ends asked for are reached soon, the source is
//! caught up, and its lag is none but the delay of the transactions that flow. Otherwise, and whenever nothing is read, it
//! is the time since the last moment at which all was visible, and grows with the clock.

use crate::reason::Reason;
use crate::stale::{BEHIND_US, since};

/// A transaction's delay is told for so long after it: then nothing flows.
const FLOWS_US: i64 = 2_000_000;
/// Of the time that a server keeps its log, from where on it is said to fade.
pub const FADING_PERCENT: u64 = 50;
/// An end that is not reached so long after it was asked for is missed.
const MISSED_US: i64 = 2_000_000;
/// So long after the last end was reached a source that has one is not known to be caught up.
const KNOWN_US: i64 = 15_000_000;

/// A source and how it is.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    pub kind: String,
    pub state: String,
    pub position: String,
    pub message: Reason,
    /// Commit time of the last transaction seen, microseconds since 1970.
    pub last_commit_us: Option<i64>,
    /// How far behind its commit the last transaction was when it became visible.
    pub lag_us: i64,
    /// When that was; none before the first.
    pub visible_us: Option<i64>,
    /// Bytes of its log that were not read when it was last asked.
    pub lag_bytes: Option<i64>,
    /// Commit time of the oldest transaction that was read and is not visible yet.
    pub untaken_us: Option<i64>,
    /// Since when it is stalled; tries to connect again end no stall.
    pub stalled_since_us: Option<i64>,
    /// When it first said something.
    pub followed_us: Option<i64>,
    /// Transactions that are committed from here on flow as they are made, so how long these took is told. None while it catches up
    /// with what was committed when it was not read.
    pub flows_since_us: Option<i64>,
    /// Whether no end of its log was reached yet since it is read.
    pub is_catching_up: bool,
    /// Whether it has been read since the start, be it for a moment.
    pub was_reached: bool,
    /// Whether its log has an end that can be asked for.
    pub has_end: bool,
    /// Whether it has none, as it said itself.
    pub is_endless: bool,
    /// An end that is not reached yet, and when it was asked for.
    pub end: Option<(i64, String)>,
    /// All that was committed up to here is visible, as ends that were reached tell.
    pub reached_us: Option<i64>,
    /// For how long what is not read yet is kept, as its server said last.
    pub retention: Option<connect::Retention>,
    /// What is said of a backlog beyond its bound, for as long as that lasts.
    pub backlog: Option<String>,
    /// Why it stalled when it did so last, and when that was said; it may be over.
    pub last_error: Option<(i64, String)>,
}

impl SourceStatus {
    /// What a source says of itself.
    pub fn go_to(&mut self, state: &str, message: impl Into<Reason>, now_us: i64) {
        let message = message.into();
        let was_read = self.is_read() && !self.state.is_empty();
        self.followed_us = self.followed_us.or(Some(now_us));
        self.was_reached |= matches!(state, "snapshot" | "streaming");
        self.stalled_since_us = match state {
            "stalled" => self.stalled_since_us.or(Some(now_us)),
            "connecting" => self.stalled_since_us,
            _ => None,
        };
        if state == "stalled" && !message.is_empty() {
            self.last_error = Some((now_us, message.line()));
        }
        state.clone_into(&mut self.state);
        if self.is_read() != was_read {
            self.is_catching_up = true;
            self.flows_since_us = self.is_read().then_some(now_us);
        }
        // While it is tried again, the reason is what it was.
        if self.stalled_since_us.is_none() || !message.is_empty() {
            self.message = message;
        }
    }

    /// What is said where half of the time is over for which its server keeps what is not read yet. It is not read any faster for
    /// being paused or stalled, so the clock alone makes it more.
    pub fn fading(&self, now_us: i64) -> Option<String> {
        let retention = self.retention.as_ref()?;
        let percent = retention.used_percent(now_us);
        let (hours, minutes) = (retention.kept_s / 3_600, retention.kept_s / 60);
        let kept = if hours > 1 { format!("{hours} h") } else { format!("{minutes} min") };
        (percent >= FADING_PERCENT).then(|| {
            format!(
                "what is not read yet of its log is dropped after {kept}, of which {percent} % are over: {} keeps it for longer",
                retention.mend
            )
        })
    }

    /// Whether it is read; after a start and a stall not before it goes on.
    pub fn is_read(&self) -> bool {
        self.stalled_since_us.is_none() && !matches!(self.state.as_str(), "paused" | "connecting" | "stopped")
    }

    /// Whether it is so far behind that what is shown of it is out of date: however it is read, and also where nobody knows, since
    /// it is silent.
    pub fn is_behind(&self, now_us: i64) -> bool {
        self.waited_us(None, now_us) > BEHIND_US
    }

    /// What it said last, and since when it has been stalled.
    pub fn said(&self, now_us: i64) -> Option<Reason> {
        let mut said = self.message.clone();
        if let Some(stalled) = self.stalled_since_us {
            let since = since(stalled, now_us);
            said.message = if said.message.is_empty() { since } else { format!("{} ({since})", said.message) };
        }
        Some(said).filter(|said| !said.is_empty())
    }

    /// How it is behind, for people: what is there is being read, or nothing is heard.
    pub fn told_behind(&self, now_us: i64) -> String {
        let seconds = self.waited_us(None, now_us) / 1_000_000;
        let is_heard = self.visible_us.is_some_and(|visible| now_us.saturating_sub(visible) <= BEHIND_US);
        match is_heard || self.untaken_us.is_some() {
            true => format!("{seconds} s behind, and catching up"),
            false => format!("{seconds} s behind: nothing has come, and where its log ends is not known to be reached"),
        }
    }

    /// The server's end, as it was at some time. One that is not reached yet stays the one that is waited for.
    pub fn note_end(&mut self, asked_us: i64, end: String) {
        self.has_end = true;
        if self.end.is_none() {
            self.end = Some((asked_us, end));
        }
    }

    /// The end that was waited for is reached. What is not read any more may have got behind since.
    pub fn note_reached(&mut self) {
        if let Some((asked_us, _)) = self.end.take()
            && self.is_read()
        {
            self.reached_us = self.reached_us.max(Some(asked_us));
            self.is_catching_up = false;
            self.flows_since_us = self.flows_since_us.or(self.visible_us).or(Some(asked_us));
        }
    }

    /// The end that is waited for was not reached yet when it was looked at. Once it is caught up that is how fast it flows; before, what
    /// is visible was waiting while it was not read.
    pub fn note_missed(&mut self) {
        if self.is_catching_up {
            self.flows_since_us = None;
        }
    }

    /// The last moment up to which all that was committed is known to be visible.
    pub fn known_us(&self) -> Option<i64> {
        // A commit is no younger than when it was seen, whatever the server's clock says.
        let committed = self.last_commit_us.map(|commit| self.visible_us.map_or(commit, |visible| commit.min(visible)));
        self.reached_us.max(committed)
    }

    /// The same; before the first, when it was first heard of: it is behind since then at least.
    pub fn complete_us(&self) -> Option<i64> {
        self.known_us().or(self.followed_us)
    }

    /// The same while it is not known to be caught up; none while it is.
    pub fn behind_since_us(&self, now_us: i64) -> Option<i64> {
        let complete = self.complete_us()?;
        let is_missed = self.end.as_ref().is_some_and(|(asked, _)| now_us.saturating_sub(*asked) > MISSED_US);
        let is_unknown = self.has_end && now_us.saturating_sub(complete) > KNOWN_US;
        let is_behind = !self.is_read() || is_missed || is_unknown;
        is_behind.then_some(complete)
    }

    /// How far it is behind. Where nothing is taken for want of room since some time, nobody knows more than that of what is
    /// not even read.
    pub fn lag_us(&self, waits_since_us: Option<i64>, now_us: i64) -> i64 {
        flowing(self.lag_us, self.visible_us, now_us).max(self.waited_us(waits_since_us, now_us))
    }

    /// The same without the delay of what flows.
    pub fn waited_us(&self, waits_since_us: Option<i64>, now_us: i64) -> i64 {
        let unread = waits_since_us.filter(|_| self.state == "streaming");
        let since = [self.untaken_us, unread, self.behind_since_us(now_us)].into_iter().flatten().min();
        since.map_or(0, |since| now_us.saturating_sub(since).max(0))
    }
}

/// A transaction's delay, while transactions flow.
pub fn flowing(delay_us: i64, visible_us: Option<i64>, now_us: i64) -> i64 {
    let flows = visible_us.is_none_or(|visible| now_us.saturating_sub(visible) <= FLOWS_US);
    if flows { delay_us } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::SourceStatus;

    const SECOND: i64 = 1_000_000;

    fn lag(source: &SourceStatus, at: i64) -> i64 {
        source.lag_us(None, at * SECOND)
    }

    /// One whose last transaction took 20 ms to be visible, in second 100, and that was at the server's end in second 101.
    fn streaming() -> SourceStatus {
        let mut source = SourceStatus { lag_us: 20_000, ..SourceStatus::default() };
        source.go_to("streaming", String::new(), 90 * SECOND);
        (source.last_commit_us, source.visible_us) = (Some(100 * SECOND - 20_000), Some(100 * SECOND));
        source.note_end(101 * SECOND, "end".to_owned());
        source.note_reached();
        source
    }

    #[test]
    fn a_caught_up_source_is_not_behind_however_long_nothing_comes() {
        let mut source = streaming();
        assert_eq!(lag(&source, 101), 20_000, "what flows has a delay");
        assert_eq!(lag(&source, 110), 0);
        for at in (105..500).step_by(5) {
            source.note_end(at * SECOND, "end".to_owned());
            assert_eq!(lag(&source, at + 1), 0, "the end was asked for just now");
            source.note_reached();
            assert_eq!(lag(&source, at + 4), 0);
        }
    }

    #[test]
    fn a_source_that_is_cut_off_falls_behind_with_the_clock() {
        let mut source = streaming();
        source.go_to("stalled", "cut".to_owned(), 104 * SECOND);
        assert_eq!([lag(&source, 104), lag(&source, 164)], [3 * SECOND, 63 * SECOND]);
        source.go_to("connecting", String::new(), 165 * SECOND);
        assert_eq!(lag(&source, 165), 64 * SECOND, "a try is no success");
        source.go_to("streaming", String::new(), 166 * SECOND);
        source.note_end(166 * SECOND, "end".to_owned());
        source.note_reached();
        assert_eq!(lag(&source, 167), 0);
    }

    #[test]
    fn a_paused_source_falls_behind_even_where_its_old_end_is_reached() {
        let mut source = streaming();
        source.go_to("paused", String::new(), 102 * SECOND);
        source.note_end(103 * SECOND, "end".to_owned());
        source.note_reached();
        assert_eq!([lag(&source, 104), lag(&source, 161)], [3 * SECOND, 60 * SECOND]);
    }

    #[test]
    fn an_end_that_is_not_reached_is_behind_and_what_becomes_visible_counts() {
        let mut source = streaming();
        source.note_end(105 * SECOND, "far".to_owned());
        assert_eq!([lag(&source, 106), lag(&source, 111)], [0, 10 * SECOND]);
        // Further ends do not move the one that is waited for.
        source.note_end(110 * SECOND, "further".to_owned());
        assert_eq!(source.end, Some((105 * SECOND, "far".to_owned())));
        // A transaction of second 103 becomes visible in second 120.
        (source.last_commit_us, source.visible_us) = (Some(103 * SECOND), Some(120 * SECOND));
        source.lag_us = 17 * SECOND;
        assert_eq!(lag(&source, 123), 20 * SECOND);
    }

    /// What was committed while it was not read, and what was waiting behind that, says nothing of how long changes take.
    #[test]
    fn what_is_caught_up_with_has_not_flowed() {
        let mut source = SourceStatus::default();
        let since = |source: &SourceStatus| source.flows_since_us.map(|us| us / SECOND);
        source.go_to("connecting", String::new(), 9 * SECOND);
        assert_eq!(since(&source), None);
        source.go_to("streaming", String::new(), 10 * SECOND);
        assert_eq!(since(&source), Some(10));
        source.note_end(11 * SECOND, "far".to_owned());
        source.note_missed();
        assert_eq!(since(&source), None);
        source.visible_us = Some(100 * SECOND);
        source.note_reached();
        assert_eq!(since(&source), Some(100));
        // A burst that it does not keep up with is how it flows.
        source.note_end(110 * SECOND, "farther".to_owned());
        source.note_missed();
        assert_eq!(since(&source), Some(100));
        // After a stall it is as after a start; a second word for being read changes nothing.
        source.go_to("stalled", "gone".to_owned(), 120 * SECOND);
        assert_eq!(since(&source), None);
        source.go_to("streaming", String::new(), 130 * SECOND);
        source.go_to("snapshot", String::new(), 140 * SECOND);
        assert_eq!(since(&source), Some(130));
    }

    #[test]
    fn whose_end_is_not_known_any_more_is_behind_and_who_has_none_is_not() {
        let mut source = streaming();
        assert_eq!([lag(&source, 116), lag(&source, 120)], [0, 19 * SECOND]);
        source.has_end = false;
        assert_eq!(lag(&source, 1_000), 0);
    }

    /// A server whose clock is ahead dates commits into the future: they are no older than when they were seen.
    #[test]
    fn a_clock_that_is_ahead_hides_no_lag() {
        let mut source = streaming();
        source.last_commit_us = Some(900 * SECOND);
        source.go_to("stalled", "cut".to_owned(), 104 * SECOND);
        assert_eq!(lag(&source, 164), 63 * SECOND);
    }

    #[test]
    fn half_of_the_retention_is_said_and_grows_with_the_clock() {
        let mut source = streaming();
        assert_eq!(source.fading(1_000 * SECOND), None, "nobody has said");
        let retention =
            |closed_us| Some(connect::Retention { kept_s: 7_200, closed_us, mend: "SET GLOBAL x = 1".to_owned() });
        source.retention = retention(None);
        assert_eq!(source.fading(100_000 * SECOND), None, "it is still written to");
        source.retention = retention(Some(100 * SECOND));
        assert_eq!(source.fading(3_699 * SECOND), None);
        let said = "what is not read yet of its log is dropped after 2 h, of which 50 % are over: SET GLOBAL x = 1 keeps it for longer";
        assert_eq!(source.fading(3_700 * SECOND).as_deref(), Some(said));
        assert!(source.fading(7_400 * SECOND).unwrap().contains("101 %"));
    }

    #[test]
    fn a_source_that_never_answered_is_behind_since_it_is_followed() {
        let mut source = SourceStatus::default();
        source.go_to("connecting", String::new(), 50 * SECOND);
        source.go_to("stalled", "refused".to_owned(), 52 * SECOND);
        assert_eq!(lag(&source, 80), 30 * SECOND);
    }
}
