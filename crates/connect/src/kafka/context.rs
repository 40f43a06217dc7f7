//! What the C client calls back: its logs, and what it has to say of its connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::trouble::code_of;

/// A client's ear. It keeps what was said last of the brokers: a call that is not answered says no more than that.
#[derive(Debug, Default)]
pub(crate) struct Context {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    /// The last reason of a connection that ended or could not be made.
    reason: Option<(RDKafkaErrorCode, String)>,
    /// All brokers are away.
    is_alone: bool,
}

/// A word of the client where it guesses that a broker wants to be spoken to in another way.
const GUESS: &str = "security.protocol";

/// Whether a reason of before says more than that a connection has ended, for which the client says this now: it is a refusal, or a
/// guess, and the broker is still there.
fn outweighs((code, before): &(RDKafkaErrorCode, String), now: &str) -> bool {
    *code != RDKafkaErrorCode::BrokerTransportFailure || (before.contains(GUESS) && !now.contains("Connect to "))
}

impl Context {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last reason that was told, in the client's words.
    pub(crate) fn reason(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.heard().reason.clone()
    }

    /// Whether no broker could be connected to, or they hang up for a reason that may be guessed.
    pub(crate) fn is_alone(&self) -> bool {
        let heard = self.heard();
        heard.is_alone || heard.reason.as_ref().is_some_and(|(_, reason)| reason.contains(GUESS))
    }

    /// Whether a broker has answered, and does not let us in.
    pub(crate) fn is_refused(&self) -> bool {
        let is_refusal = |code: &RDKafkaErrorCode| {
            matches!(
                code,
                RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::SaslAuthenticationFailed
                    | RDKafkaErrorCode::UnsupportedSASLMechanism
                    | RDKafkaErrorCode::SSL
            )
        };
        self.heard().reason.as_ref().is_some_and(|(code, _)| is_refusal(code))
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
        // Not each of these comes as an error too. Before the reason stands the thread: `[thrd:…]: `.
        let reason = message.split_once("]: ").map_or(message, |(_, reason)| reason);
        if facility == "FAIL" && reason.contains(GUESS) {
            let mut heard = self.heard();
            if !heard.reason.as_ref().is_some_and(|before| outweighs(before, reason)) {
                heard.reason = Some((RDKafkaErrorCode::BrokerTransportFailure, reason.to_owned()));
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let Some(code) = code_of(&error) else { return };
        let mut heard = self.heard();
        match code {
            RDKafkaErrorCode::AllBrokersDown => heard.is_alone = true,
            RDKafkaErrorCode::BrokerTransportFailure
                if heard.reason.as_ref().is_some_and(|before| outweighs(before, reason)) => {}
            _ => heard.reason = Some((code, reason.to_owned())),
        }
    }
}

impl ConsumerContext for Context {}

/// Contexts with more in them have one of these.
impl AsRef<Self> for Context {
    fn as_ref(&self) -> &Self {
        self
    }
}
