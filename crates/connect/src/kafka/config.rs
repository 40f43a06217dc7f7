//! Where brokers are and who we are to them: the settings of a connection.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use serde_json::Value as Json;

use crate::registry;
use crate::secret::Secret;
use crate::source::{Failure, Settings};
use crate::tls::Tls;

const KEYS: [&str; 5] = ["brokers", "tls", "tls_ca", "sasl", "schema_registry"];
const SASL_KEYS: [&str; 3] = ["mechanism", "user", "password"];
/// The names of mechanisms, in settings and on the wire.
const MECHANISMS: [(&str, &str); 3] =
    [("plain", "PLAIN"), ("scram-sha-256", "SCRAM-SHA-256"), ("scram-sha-512", "SCRAM-SHA-512")];
/// Where a broker listens unless it is said.
const PORT: u16 = 9092;
/// More than this is no bundle of certificates.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Brokers, and how to log in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// `host:port`, those of one cluster.
    brokers: Vec<String>,
    tls: Tls,
    tls_ca: Option<PathBuf>,
    /// The text of `tls_ca`, once it was read.
    authorities: Option<String>,
    sasl: Option<Sasl>,
    registry: Option<registry::Config>,
}

#[derive(Clone, PartialEq, Eq)]
struct Sasl {
    /// As it is named on the wire.
    mechanism: &'static str,
    user: String,
    secret: Secret,
    /// Empty until it is resolved.
    password: String,
}

impl Config {
    /// The settings, without their secrets.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Failure> {
        settings.refuse_others(&KEYS)?;
        let tls = match (settings.get("tls").is_some(), Tls::of(settings)?) {
            (false, _) => Tls::Disabled,
            // Its protocol has no word for it.
            (true, Tls::Preferred) => return Err(settings.bad("tls", "disabled, required or verify")),
            (true, tls) => tls,
        };
        Ok(Self {
            brokers: brokers(settings)?,
            tls,
            tls_ca: settings.text("tls_ca")?.map(PathBuf::from),
            authorities: None,
            sasl: sasl(settings)?,
            registry: registry::Config::read(settings)?,
        })
    }

    /// All of them.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut config = Self::read(settings)?;
        if let Some(sasl) = &mut config.sasl {
            sasl.password = sasl.secret.resolve().await?;
        }
        if let Some(registry) = &mut config.registry {
            registry.resolve().await?;
        }
        if let Some(path) = &config.tls_ca {
            let unreadable = |detail: String| Failure {
                message: format!("connection \"{}\": `tls_ca` cannot be read", settings.connection),
                detail: format!("{}: {detail}", path.display()),
                hint: "It should be a file with certificates in PEM.".to_owned(),
            };
            let length = tokio::fs::metadata(path).await.map_err(|error| unreadable(error.to_string()))?.len();
            if length > CA_BYTES_MAX {
                return Err(unreadable(format!("{length} bytes are too many")));
            }
            let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable(error.to_string()))?;
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                return Err(unreadable("there is no certificate in it".to_owned()));
            }
            config.authorities = Some(text);
        }
        Ok(config)
    }

    /// Who has the schemas of Avro, if the connection says it.
    pub(crate) fn registry(&self) -> Option<&registry::Config> {
        self.registry.as_ref()
    }

    /// The brokers, as messages name them.
    pub(crate) fn address(&self) -> String {
        self.brokers.join(", ")
    }

    /// Who logs in.
    pub(crate) fn user(&self) -> Option<&str> {
        self.sasl.as_ref().map(|sasl| sasl.user.as_str())
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.tls != Tls::Disabled
    }

    /// What all clients of it have in common. They make no topic by asking for it.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        // More than that is for who debugs the C client.
        client.set_log_level(RDKafkaLogLevel::Info);
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "tidemill")
            .set("allow.auto.create.topics", "false")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "5000");
        let protocol = match (self.is_encrypted(), &self.sasl) {
            (false, None) => "plaintext",
            (false, Some(_)) => "sasl_plaintext",
            (true, None) => "ssl",
            (true, Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if self.is_encrypted() {
            match (self.tls == Tls::Verify, &self.authorities) {
                (true, Some(authorities)) => client.set("ssl.ca.pem", authorities),
                // Those that the system trusts, wherever it keeps them.
                (true, None) => client.set("ssl.ca.location", "probe"),
                (false, _) => client.set("enable.ssl.certificate.verification", "false"),
            };
            let identification = if self.tls == Tls::Verify { "https" } else { "none" };
            client.set("ssl.endpoint.identification.algorithm", identification);
        }
        if let Some(sasl) = &self.sasl {
            client
                .set("sasl.mechanism", sasl.mechanism)
                .set("sasl.username", &sasl.user)
                .set("sasl.password", &sasl.password);
        }
        client
    }
}

/// `host:port,host:port`, or a list of such.
fn brokers(settings: &Settings) -> Result<Vec<String>, Failure> {
    let bad = || settings.bad("brokers", "`host:port`, or several of them with commas between");
    let texts: Vec<&str> = match settings.get("brokers") {
        Some(Json::String(text)) => text.split(',').collect(),
        Some(Json::Array(items)) => items.iter().map(|item| item.as_str().ok_or_else(bad)).collect::<Result<_, _>>()?,
        _ => return Err(bad()),
    };
    texts.into_iter().map(|text| broker(text.trim()).ok_or_else(bad)).collect()
}

fn broker(text: &str) -> Option<String> {
    let is_bad = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | ',' | '\0');
    if text.is_empty() || text.contains(is_bad) {
        return None;
    }
    // An address of version 6 has colons of its own, between brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.map_or(Some(PORT), |port| port.parse().ok().filter(|port| *port > 0))?;
    (!host.is_empty()).then(|| format!("{host}:{port}"))
}

fn sasl(settings: &Settings) -> Result<Option<Sasl>, Failure> {
    let Some(value) = settings.get("sasl") else { return Ok(None) };
    let bad = |key: &str, wanted: &str| settings.bad(&format!("sasl.{key}"), wanted);
    let Some(found) = value.as_object() else {
        return Err(settings.bad("sasl", "{mechanism: …, user: …, password: …}"));
    };
    if let Some(key) = found.keys().find(|key| !SASL_KEYS.contains(&key.as_str())) {
        return Err(Failure {
            message: format!("connection \"{}\": unknown setting `sasl.{key}`", settings.connection),
            detail: String::new(),
            hint: format!("Known are: {}.", SASL_KEYS.join(", ")),
        });
    }
    let text =
        |key: &str| found.get(key).and_then(Json::as_str).filter(|text| !text.is_empty() && !text.contains('\0'));
    let named = text("mechanism").map(str::to_lowercase);
    let mechanism = MECHANISMS.iter().find(|(name, _)| Some(*name) == named.as_deref());
    let names = "plain, scram-sha-256 or scram-sha-512";
    let (_, mechanism) = mechanism.ok_or_else(|| bad("mechanism", names))?;
    let user = text("user").ok_or_else(|| bad("user", "given"))?.to_owned();
    let of = Settings { values: found.clone().into_iter().collect(), ..settings.clone() };
    let secret = of.secret("password").ok().flatten();
    let secret = secret.ok_or_else(|| bad("password", "{env: VARIABLE}, {file: PATH} or {command: 'COMMAND'}"))?;
    Ok(Some(Sasl { mechanism, user, secret, password: String::new() }))
}

/// Without the password: settings end up in logs.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("brokers", &self.brokers).field("user", &self.user()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_have_a_host_and_a_port() {
        assert_eq!(broker("kafka").as_deref(), Some("kafka:9092"));
        assert_eq!(broker("127.0.0.1:19092").as_deref(), Some("127.0.0.1:19092"));
        assert_eq!(broker("[::1]").as_deref(), Some("[::1]:9092"));
        assert_eq!(broker("[::1]:7").as_deref(), Some("[::1]:7"));
        for bad in ["", ":9092", "kafka:", "kafka:x", "kafka:0", "kafka:70000", "kafka://a:1", "me@a:1", "a b:1"] {
            assert_eq!(broker(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_in_the_client_alone() {
        let values = serde_json::json!({"brokers": ["a:1", "b"], "tls": "required",
            "sasl": {"mechanism": "SCRAM-SHA-512", "user": "me", "password": "geheim"}});
        let Json::Object(values) = values else { panic!("an object") };
        let values = values.into_iter().collect();
        let settings = Settings { connection: "bus".to_owned(), kind: "kafka".to_owned(), values };
        let mut config = Config::read(&settings).expect("a configuration");
        config.sasl.as_mut().expect("a login").password = "geheim".to_owned();
        assert!(!format!("{config:?}").contains("geheim"));
        let client = config.client();
        assert!(!format!("{client:?}").contains("geheim"));
        assert_eq!(client.get("bootstrap.servers"), Some("a:1,b:9092"));
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("enable.ssl.certificate.verification"), Some("false"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(client.get("sasl.password"), Some("geheim"));
    }
}
