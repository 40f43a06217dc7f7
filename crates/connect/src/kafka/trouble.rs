//! Errors of the C client, in words of people.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::source::Failure;

use super::{Config, Context};

/// Kafka does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) failure: Failure,
    /// It is of our own settings or rights: trying again soon mends nothing, and may lock an account.
    pub(crate) is_ours: bool,
    /// What the client or the broker calls it; none where it is of our own making.
    pub(crate) code: Option<Code>,
}

impl Trouble {
    /// It may be over at the next try.
    pub(crate) fn passing(message: impl Into<String>, detail: impl Into<String>) -> Self {
        let failure = Failure { message: message.into(), detail: detail.into(), hint: String::new() };
        Self { failure, is_ours: false, code: None }
    }

    /// Somebody has to do something.
    pub(crate) fn ours(message: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let failure = Failure { message: message.into(), detail: detail.into(), hint: hint.into() };
        Self { failure, is_ours: true, code: None }
    }

    /// Says of which topic it is, where the words could be of any.
    #[must_use]
    pub(crate) fn about(mut self, topic: &str) -> Self {
        if matches!(
            self.code,
            Some(Code::TopicAuthorizationFailed | Code::UnknownTopicOrPartition | Code::UnknownTopic)
        ) {
            self.failure.message = format!("{} (topic \"{topic}\")", self.failure.message);
        }
        self
    }
}

/// The code of an error, if it has one: the crate's own function leaves out those of administration.
pub(crate) fn code_of(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What a code means, in the client's own words, which are English sentences without a value in them.
pub(crate) fn said_of(code: Code) -> String {
    // Shown as `Name (Broker: What it means)`.
    let shown = code.to_string();
    let words = shown.split_once(" (").map_or(shown.as_str(), |(_, words)| words.strip_suffix(')').unwrap_or(words));
    let words = words.strip_prefix("Broker: ").or_else(|| words.strip_prefix("Local: ")).unwrap_or(words);
    words.to_owned()
}

/// What is wrong, as far as an error and what was said beside it tell. The user and the brokers are named, and no secret.
pub(crate) fn trouble(config: &Config, context: &Context, error: &KafkaError) -> Trouble {
    let code = code_of(error);
    let found = match (error, code) {
        (_, Some(code)) => of_code(config, context, code),
        (KafkaError::ClientCreation(said), None) => creation(config, said),
        (KafkaError::ClientConfig(_, said, key, _), None) => {
            Trouble::ours(format!("the Kafka client does not take `{key}`"), said, "")
        }
        (other, None) => {
            Trouble::passing(format!("{} does not do what it should", config.address()), other.to_string())
        }
    };
    Trouble { code, ..found }
}

fn of_code(config: &Config, context: &Context, code: Code) -> Trouble {
    let (address, said) = (config.address(), said_of(code));
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::MessageTimedOut
        | Code::TimedOutQueue
        | Code::Resolve
        | Code::SSL
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism => match context.reason() {
            Some((code, reason)) => unreachable(config, code, &reason),
            None => {
                let detail = format!("There is no sign of life ({said}).");
                let mut trouble = Trouble::passing(format!("no broker answers at {address}"), detail);
                trouble.failure.hint = REACH.to_owned();
                if !config.is_encrypted() {
                    trouble.failure.hint.push_str(" A broker with TLS says nothing to who does not speak it.");
                }
                trouble
            }
        },
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => {
            let who =
                config.user().map_or_else(|| "who comes without a login".to_owned(), |user| format!("user \"{user}\""));
            Trouble::ours(format!("{who} lacks a right"), said, "Have the cluster's access rules (ACLs) allow it.")
        }
        // It was there: whoever begins anew says what is to be done.
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Trouble::passing("there is no such topic any more", said)
        }
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage | Code::NotImplemented => {
            Trouble::passing(format!("what {address} gives cannot be read"), said)
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            Trouble::ours(format!("{address} is too old for it"), said, "Kafka 2.5 and newer can.")
        }
        _ => Trouble::passing(format!("{address} does not do it for now"), format!("{said} ({code:?})")),
    }
}

const REACH: &str = "Check `brokers` of the connection, and that Kafka runs.";

/// Why there is no connection, by what the client says of it.
fn unreachable(config: &Config, code: Code, reason: &str) -> Trouble {
    let (address, detail) = (config.address(), told(reason));
    match code {
        Code::Authentication | Code::SaslAuthenticationFailed | Code::UnsupportedSASLMechanism => {
            let who = config.user().unwrap_or_default();
            let hint = "Check `mechanism`, `user` and `password` in `sasl` of the connection.";
            Trouble::ours(format!("{address} refuses user \"{who}\""), detail, hint)
        }
        Code::SSL => Trouble::ours(
            format!("cannot open an encrypted connection to {address}"),
            detail,
            "Check `tls` of the connection: `verify` needs a certificate signed by a known authority (or `tls_ca`) for this host name, \
             and a broker without TLS needs `disabled`.",
        ),
        _ => {
            let mut trouble = Trouble::passing(format!("no broker answers at {address}"), detail);
            trouble.failure.hint = REACH.to_owned();
            if reason.contains("security.protocol") {
                trouble.failure.hint =
                    "Check `tls` and `sasl` of the connection: the broker wants to be spoken to in another way, or \
                                        what answers there is no Kafka."
                        .to_owned();
            }
            trouble
        }
    }
}

/// What the client says of a connection, such as `127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused
/// (after 0ms in state CONNECT)`, as a sentence or clause.
fn told(reason: &str) -> String {
    // Some connections are called by what they are for: `TxnCoordinator: 127.0.0.1:1: …`, or without the address behind it.
    let reason = match reason.split_once(": ") {
        Some((role, rest)) if role.ends_with("Coordinator") => rest,
        _ => reason,
    };
    let (place, words) = match reason.split_once(": ") {
        Some((place, words)) if place.contains(':') && !place.contains(' ') => (place, words),
        _ => ("", reason),
    };
    let place = place.rsplit_once("://").map_or(place, |(_, place)| place);
    let place = match place.split('/').next().unwrap_or_default() {
        "" => words.split_once('#').map_or("", |(_, address)| address.split(' ').next().unwrap_or_default()),
        place => place,
    };
    let words = words.split(" (after ").next().unwrap_or_default().trim_end_matches([':', '.', ' ']);
    if words.contains("Connection refused") {
        return format!("connection to {place} refused");
    }
    if words.contains("Failed to resolve") {
        return format!("the host of {place} is not known by name");
    }
    if words.contains("certificate verify failed") {
        return format!("{place}: its certificate is not signed by a known authority, or is not for this host name");
    }
    if words.contains("require SASL") {
        return format!("{place} closed the connection: it may want a login");
    }
    if words.contains("security.protocol") {
        return format!("{place} closed the connection: it may want to be spoken to with TLS, or without");
    }
    match place {
        "" => words.to_owned(),
        place => format!("{place}: {words}"),
    }
}

/// Why there is not even a client: certificates that cannot be used, for the most part.
fn creation(config: &Config, said: &str) -> Trouble {
    let what = if config.is_encrypted() { "`tls` and `tls_ca`" } else { "the settings" };
    Trouble::ours("a Kafka client cannot be made", said.trim(), format!("Check {what} of the connection."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_says_is_a_clause() {
        let refused = "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)";
        assert_eq!(told(refused), "connection to 127.0.0.1:1 refused");
        for called in ["TxnCoordinator: 127.0.0.1:1: ", "GroupCoordinator: ", ""] {
            let refused =
                format!("{called}Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)");
            assert_eq!(told(&refused), "connection to 127.0.0.1:1 refused");
        }
        let unknown = "sasl_ssl://kafka.nowhere:9092/bootstrap: Failed to resolve 'kafka.nowhere:9092': Name or service not known (after 3ms in state CONNECT)";
        assert_eq!(told(unknown), "the host of kafka.nowhere:9092 is not known by name");
        let login = "sasl_plaintext://127.0.0.1:9092/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (after 200ms in state AUTH_REQ)";
        assert_eq!(
            told(login),
            "127.0.0.1:9092: SASL authentication error: Authentication failed: Invalid username or password"
        );
        assert_eq!(told("1/1 brokers are down"), "1/1 brokers are down");
    }

    #[test]
    fn codes_have_words() {
        assert_eq!(said_of(Code::TopicAuthorizationFailed), "Topic authorization failed");
        assert_eq!(said_of(Code::OperationTimedOut), "Timed out");
    }
}
