//! A schema registry, as Confluent's contract has it and others keep to it: schemas by their numbers, and numbers for schemas.
//!
//! ```text
//!   schema_registry: … ──► Config::read (a check) / open (its secret resolved) ──► Registry
//!   GET  /schemas/ids/7                        the writer's schema of a message; what it refers to by /subjects/S/versions/V
//!   GET  /subjects/S/versions/latest           the columns of a table that does not declare its own
//!   POST /subjects/S, /subjects/S/versions     the number of a schema: as it is known already, or is by now
//!   POST /compatibility/subjects/S/versions/latest   whether it would be taken, for who asks before the start
//!   GET  /schemas/types                        whether it answers, for who asks before the start
//! ```
//!
//! - **Two answers of many.** That there is no such schema is a fact about a message, and only the registry's own word for it counts.
//!   Whatever else goes wrong is the registry's trouble: whoever asked waits and asks again.
//! - **Nothing without a bound.** An answer has so many bytes and so much time, and schemas may refer to so many others.

mod config;
mod http;

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use crate::avro::Schema;
use crate::source::Failure;

pub(crate) use config::Config;
use http::{Answer, Client};

/// Schemas that one may refer to, one by the other.
const REFERENCES_MAX: usize = 64;
/// Bytes of a schema with all that it refers to.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// What it says where there is no such subject, version or schema.
const ABSENT: std::ops::RangeInclusive<u64> = 40_400..=40_499;

/// A registry that can be asked. Each question is a connection of its own: they are few, as answers are kept.
#[derive(Debug)]
pub(crate) struct Registry {
    client: Client,
}

/// What is known of a schema's number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// The schema, and the bytes that it takes.
    Schema(Schema, usize),
    /// There is none that could be used, for this reason, a sentence.
    None(String),
}

/// The registry does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) failure: Failure,
    /// It is of our own settings or rights, or of the schema: a person has to do something.
    pub(crate) is_ours: bool,
}

/// What a registry's own error says.
struct Refused {
    status: u16,
    code: u64,
    message: String,
}

impl Registry {
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(config)? })
    }

    /// Where it is, as messages name it.
    pub(crate) fn address(&self) -> &str {
        self.client.address()
    }

    /// The schema of a number. Errors: that could not be asked.
    pub(crate) async fn schema(&self, id: u32) -> Result<Found, Trouble> {
        self.find(&format!("/schemas/ids/{id}"), &format!("schema with the id {id}")).await
    }

    /// The newest schema of a subject. Errors: that could not be asked.
    pub(crate) async fn latest(&self, subject: &str) -> Result<Found, Trouble> {
        let path = format!("/subjects/{}/versions/latest", http::escaped(subject));
        self.find(&path, &format!("schema under \"{subject}\"")).await
    }

    async fn find(&self, path: &str, what: &str) -> Result<Found, Trouble> {
        let answer = match self.ask("GET", path, None).await? {
            Ok(answer) => answer,
            Err(refused) if refused.status == 404 => {
                return Ok(Found::None(format!("The schema registry at {} knows no {what}.", self.address())));
            }
            Err(refused) => return Err(self.trouble(&refused)),
        };
        let kind = answer.get("schemaType").and_then(Json::as_str).unwrap_or("AVRO");
        if kind != "AVRO" {
            return Ok(Found::None(format!("The {what} is of the type {kind}, and not Avro's.")));
        }
        let mut others = Others { texts: Vec::new(), known: BTreeSet::new(), bytes: 0 };
        let text = self.text_of(&answer)?;
        if text.len() > SCHEMA_BYTES_MAX {
            return Ok(Found::None(format!("The {what} is larger than {} MiB.", SCHEMA_BYTES_MAX >> 20)));
        }
        if let Err(reason) = self.gather(&answer, &mut others).await? {
            return Ok(Found::None(format!("The {what} cannot be used: {reason}.")));
        }
        Ok(match Schema::read(&text, &others.texts) {
            Ok(schema) => {
                let bytes = text.len() + others.bytes + schema.bytes();
                Found::Schema(schema, bytes)
            }
            Err(error) => Found::None(format!("The {what} is none: {error}.")),
        })
    }

    /// Gathers what an answer's schema refers to, each behind what it refers to itself. The inner error: a clause.
    async fn gather(&self, answer: &Json, others: &mut Others) -> Result<Result<(), String>, Trouble> {
        // Those that wait, the next one last; a schema is taken when all that it refers to was.
        let mut waiting: Vec<(Reference, Option<Json>)> = references(answer).into_iter().map(|of| (of, None)).collect();
        waiting.reverse();
        while let Some((reference, asked)) = waiting.pop() {
            if let Some(answer) = asked {
                others.texts.push(self.text_of(&answer)?);
                continue;
            }
            if !others.known.insert(reference.clone()) {
                continue;
            }
            if others.known.len() > REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} others")));
            }
            let (subject, version) = &reference;
            let path = format!("/subjects/{}/versions/{version}", http::escaped(subject));
            let answer = match self.ask("GET", &path, None).await? {
                Ok(answer) => answer,
                Err(refused) if refused.status == 404 => {
                    let reason = format!("it refers to version {version} of \"{subject}\", which is not there");
                    return Ok(Err(reason));
                }
                Err(refused) => return Err(self.trouble(&refused)),
            };
            others.bytes += self.text_of(&answer)?.len();
            if others.bytes > SCHEMA_BYTES_MAX {
                return Ok(Err("what it refers to is too large".to_owned()));
            }
            let further = references(&answer);
            waiting.push((reference, Some(answer)));
            waiting.extend(further.into_iter().rev().map(|of| (of, None)));
        }
        Ok(Ok(()))
    }

    fn text_of(&self, answer: &Json) -> Result<String, Trouble> {
        let text = answer.get("schema").and_then(Json::as_str).map(str::to_owned);
        text.ok_or_else(|| self.strange("The answer has no `schema`."))
    }

    /// The number of a schema under a subject: it is registered where it is not known.
    pub(crate) async fn id_of(&self, subject: &str, schema: &str) -> Result<u32, Trouble> {
        let path = format!("/subjects/{}", http::escaped(subject));
        let body = json!({"schema": schema}).to_string();
        // Whoever may only read can still send what is there.
        let known = match self.ask("POST", &path, Some(&body)).await? {
            Ok(answer) => Ok(answer),
            Err(refused) if refused.status == 404 => self.ask("POST", &format!("{path}/versions"), Some(&body)).await?,
            Err(refused) => Err(refused),
        };
        let answer = known.map_err(|refused| self.unregistered(subject, &refused))?;
        let id = answer.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.strange("The answer has no `id`."))
    }

    /// Whether a schema would be taken under a subject, without changing anything. Errors also where it would not.
    pub(crate) async fn would_take(&self, subject: &str, schema: &str) -> Result<(), Trouble> {
        let path = format!("/compatibility/subjects/{}/versions/latest", http::escaped(subject));
        match self.ask("POST", &path, Some(&json!({"schema": schema}).to_string())).await? {
            Ok(answer) if answer.get("is_compatible") == Some(&Json::Bool(false)) => {
                Err(self.unregistered(subject, &Refused { status: 409, code: 409, message: String::new() }))
            }
            Ok(_) => Ok(()),
            // It would be the first one.
            Err(refused) if refused.status == 404 => Ok(()),
            Err(refused) => Err(self.unregistered(subject, &refused)),
        }
    }

    /// Whether it answers.
    pub(crate) async fn look(&self) -> Result<(), Trouble> {
        match self.ask("GET", "/schemas/types", None).await? {
            Ok(_) => Ok(()),
            Err(refused) => Err(self.trouble(&refused)),
        }
    }

    /// The inner error: what the registry itself says of it.
    async fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Result<Json, Refused>, Trouble> {
        let answered = self.client.ask(method, path, body).await;
        let Answer { status, body } = answered.map_err(|detail| self.away(&detail))?;
        let json: Option<Json> = serde_json::from_slice(&body).ok();
        if let (200..=299, Some(json)) = (status, json.as_ref()) {
            return Ok(Ok(json.clone()));
        }
        let code = json.as_ref().and_then(|json| json.get("error_code")).and_then(Json::as_u64);
        let said = json.as_ref().and_then(|json| json.get("message")).and_then(Json::as_str);
        let message = clipped(said.unwrap_or_default());
        match (code, status) {
            // Also what is no registry may say that nothing is there, and some say so in JSON.
            (Some(code), 404) if !ABSENT.contains(&code) => Err(self.strange(&format!("It says {code}: {message}"))),
            (Some(code), 400..) => Ok(Err(Refused { status, code, message })),
            // Whoever stands in front of it may say so in words of their own.
            (None, 401 | 403 | 429 | 500..) => Ok(Err(Refused { status, code: u64::from(status), message })),
            _ => Err(self.strange(&format!("It says {status}, and not as schema registries do."))),
        }
    }

    fn away(&self, detail: &str) -> Trouble {
        let failure = Failure {
            message: format!("the schema registry at {} cannot be reached", self.address()),
            detail: detail.to_owned(),
            hint: "Check `schema_registry` of the connection, and that the registry runs.".to_owned(),
        };
        Trouble { failure, is_ours: false }
    }

    /// What answers there is none, or not at this path.
    fn strange(&self, detail: &str) -> Trouble {
        let failure = Failure {
            message: format!("what answers at {} is no schema registry", self.address()),
            detail: detail.to_owned(),
            hint: "Check `schema_registry` of the connection: some have a path, such as `/apis/ccompat/v7`.".to_owned(),
        };
        Trouble { failure, is_ours: false }
    }

    fn trouble(&self, refused: &Refused) -> Trouble {
        let Refused { status, code, message } = refused;
        let address = self.address();
        let detail = match message.is_empty() {
            true => format!("It says {code}."),
            false => format!("It says {code}: {message}"),
        };
        if let 401 | 403 = status {
            let failure = Failure {
                message: format!("the schema registry at {address} does not let {} in", self.client.who()),
                detail,
                hint: "Check `user` and `password` in `schema_registry` of the connection, and their rights."
                    .to_owned(),
            };
            return Trouble { failure, is_ours: true };
        }
        let message = format!("the schema registry at {address} does not do it for now");
        Trouble { failure: Failure { message, detail, hint: String::new() }, is_ours: false }
    }

    /// Why a schema has no number.
    fn unregistered(&self, subject: &str, refused: &Refused) -> Trouble {
        let ours = |message: String, hint: &str| {
            let failure = Failure { message, detail: refused.message.clone(), hint: hint.to_owned() };
            Trouble { failure, is_ours: true }
        };
        match refused.status {
            409 => ours(
                format!(
                    "the schema registry takes no such schema under \"{subject}\": it is not compatible with those before"
                ),
                "Give columns that have another type another name (`fields`), deliver to another topic, or have the subject's \
                 compatibility allow it, where all who read the topic can.",
            ),
            422 => ours(
                format!("the schema registry takes no such schema under \"{subject}\""),
                "What it says of it is above; names and types of the schema are those of the sync's columns.",
            ),
            _ => self.trouble(refused),
        }
    }
}

/// A subject and one of its versions.
type Reference = (String, u64);

/// What a schema refers to, in the order in which it is read.
struct Others {
    texts: Vec<String>,
    known: BTreeSet<Reference>,
    bytes: usize,
}

fn references(answer: &Json) -> Vec<Reference> {
    let of = |reference: &Json| {
        let subject = reference.get("subject")?.as_str()?.to_owned();
        Some((subject, reference.get("version")?.as_u64()?))
    };
    answer.get("references").and_then(Json::as_array).into_iter().flatten().filter_map(of).collect()
}

/// As much of what a registry says as is shown, on one line.
fn clipped(text: &str) -> String {
    const SHOWN_MAX: usize = 600;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
    }
}
