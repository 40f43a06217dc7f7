//! A connection's settings as they are written: names and values, secrets as references. Each kind reads its own.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::secret::Secret;

use super::Failure;

/// Settings of a connection; see the module's story.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The connection's name, for messages.
    pub connection: String,
    /// Its `type:`.
    pub kind: String,
    /// All other keys. Secrets are `{env: …}`, `{file: …}` or `{command: …}`, or a text.
    pub values: BTreeMap<String, Json>,
}

impl Settings {
    /// Refuses keys that nobody reads: most are misspelled.
    pub fn refuse_others(&self, known: &[&str]) -> Result<(), Failure> {
        match self.values.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Failure {
                message: format!("connection \"{}\": unknown setting `{key}`", self.connection),
                detail: String::new(),
                hint: format!("Known are: {}.", known.join(", ")),
            }),
        }
    }

    /// A value that may be absent; null is absent.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, Failure> {
        self.get(key).map(|value| value.as_str().ok_or_else(|| self.bad(key, "a text"))).transpose()
    }

    /// A text that must be there.
    pub fn required(&self, key: &str) -> Result<&str, Failure> {
        self.text(key)?.ok_or_else(|| self.bad(key, "given"))
    }

    /// A whole number in the range of `T`; also in quotes, as `'{{ env_var('PORT') }}'` is rendered.
    pub fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<Option<T>, Failure> {
        let in_quotes = |value: &Json| value.as_str().and_then(|text| text.parse().ok());
        let number = |value: &Json| value.as_u64().or_else(|| in_quotes(value)).and_then(|n| T::try_from(n).ok());
        self.get(key).map(|value| number(value).ok_or_else(|| self.bad(key, "a number in its range"))).transpose()
    }

    /// A number with a fraction.
    pub fn decimal(&self, key: &str) -> Result<Option<f64>, Failure> {
        self.get(key).map(|value| value.as_f64().ok_or_else(|| self.bad(key, "a number"))).transpose()
    }

    /// A secret, as the reference that it is.
    pub fn secret(&self, key: &str) -> Result<Option<Secret>, Failure> {
        let Some(value) = self.get(key) else { return Ok(None) };
        if let Some(text) = value.as_str() {
            return Ok(Some(Secret::Literal(text.to_owned())));
        }
        let reference = |word: &str| value.get(word).and_then(Json::as_str).map(str::to_owned);
        let found = reference("env").map(Secret::Env);
        let found = found.or_else(|| reference("file").map(|path| Secret::File(path.into())));
        let found = found.or_else(|| reference("command").map(Secret::Command));
        found.map(Some).ok_or_else(|| self.bad(key, "{env: VARIABLE}, {file: PATH} or {command: 'COMMAND'}"))
    }

    /// A setting that is not what it should be. Never shows the value: it may be a secret in the wrong place.
    pub fn bad(&self, key: &str, wanted: &str) -> Failure {
        Failure {
            message: format!("connection \"{}\": `{key}` should be {wanted}", self.connection),
            detail: String::new(),
            hint: "Correct it in connections.yml.".to_owned(),
        }
    }
}
