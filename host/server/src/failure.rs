//! What ends a command early: a chain of causes for `error:`, and at most one `hint:` of what to do.
//!
//! Libraries below say what went wrong with which value; commands add what they were about, with
//! [`Explain::attempt`]. Hints are kept apart from causes, so that neither reads like the other.

use std::{error::Error, fmt};

/// A command could not do its work (exit code 2).
#[derive(Debug)]
pub struct Failure {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    hint: Option<String>,
    is_broken_pipe: bool,
}

impl Failure {
    /// A failure without a deeper cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, hint: None, is_broken_pipe: false }
    }

    /// Says what the user can do about it; an earlier hint, being closer to the cause, stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Writing to standard output failed.
    pub fn output(source: std::io::Error) -> Self {
        let is_broken_pipe = source.kind() == std::io::ErrorKind::BrokenPipe;
        Self {
            message: "writing to standard output".to_owned(),
            source: Some(Box::new(source)),
            hint: None,
            is_broken_pipe,
        }
    }

    /// The reader of standard output has gone, which is no error.
    pub fn is_broken_pipe(&self) -> bool {
        self.is_broken_pipe
    }

    /// The message, then each cause, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = vec![self.message.clone()];
        let mut next: Option<&(dyn Error + 'static)> = self.source.as_deref().map(|source| source as _);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some libraries repeat their source in their own text.
            if causes.last().is_none_or(|last| !last.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }

    /// The hint, where there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The JSON form: `{"error": {"message", "causes", "hint"}}`.
    pub fn to_json(&self) -> serde_json::Value {
        let causes = self.causes();
        serde_json::json!({
            "error": { "message": causes[0], "causes": &causes[1..], "hint": self.hint }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<orion_eval::EvalError> for Failure {
    fn from(error: orion_eval::EvalError) -> Self {
        let hint = match &error {
            orion_eval::EvalError::Io { attempted: "opening", path, .. }
                if path.file_name().is_some_and(|name| name == "corpus.jsonl" || name == "queries.jsonl") =>
            {
                Some(
                    "a data folder holds `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv` (BEIR layout); \
                     `orion data fetch NAME --archive FILE.zip` unpacks one, `orion data import` brings in other layouts",
                )
            }
            orion_eval::EvalError::Set { expected: "a folder that is not there yet", .. } => {
                Some("remove it, or name another folder")
            }
            _ => None,
        };
        let failure = Failure {
            message: error.to_string(),
            source: error.source().map(|source| source.to_string().into()),
            hint: None,
            is_broken_pipe: false,
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Turns a library's error into a [`Failure`] that says what was attempted.
pub(crate) trait Explain<T> {
    /// Adds what was attempted, as a gerund phrase: ``opening index `notes` ``.
    fn attempt(self, attempted: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Error + Send + Sync + 'static> Explain<T> for Result<T, E> {
    fn attempt(self, attempted: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| {
            let source: Box<dyn Error + Send + Sync> = Box::new(error);
            // A failure that is explained further keeps its hint.
            let hint = source.downcast_ref::<Failure>().and_then(|inner| inner.hint.clone());
            Failure { message: attempted.into(), source: Some(source), hint, is_broken_pipe: false }
        })
    }
}
