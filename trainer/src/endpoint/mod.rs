//! Models behind an OpenAI-compatible address: `/chat/completions` or `/completions`.
//!
//! [`Endpoint::ask`] blocks its thread; callers bring as many threads as they want requests under way. Answers are kept
//! in a [`Journal`], keyed by what was asked, so that a run that was cut off asks nothing twice. Time decides when a
//! request is sent, never what is in it. Neighbours: `wire` writes and reads bodies, `orion-endpoint`
//! makes one attempt, `pool` and `synth` ask.

mod wire;

use crate::error::{Result, TrainError};
use crate::journal::Journal;
use crate::trajectories::collection::hex;
use orion_endpoint::Attempt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest wait between two attempts, whatever the server asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Which of the two interfaces is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// `/chat/completions`: a system and a user message.
    Chat,
    /// `/completions`: one prompt.
    Completions,
}

/// Where the model is and how it is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointArguments {
    /// Base address of an OpenAI-compatible server, such as `http://127.0.0.1:8000/v1`.
    #[arg(long = "endpoint-url", value_name = "URL")]
    pub url: Option<String>,
    /// The model's name there.
    #[arg(long = "endpoint-model", value_name = "NAME", default_value = "default")]
    pub model: String,
    /// The interface.
    #[arg(long = "endpoint-protocol", value_enum, default_value_t = Protocol::Chat)]
    pub protocol: Protocol,
    /// File with the key that is sent as bearer token.
    #[arg(long = "endpoint-key-file", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Milliseconds that one attempt may take, its answer read.
    #[arg(long = "endpoint-timeout-ms", value_name = "MS", default_value_t = 120_000)]
    pub timeout_ms: u64,
    /// Further attempts after a time-out, a lost connection, 408, 429 or 5xx.
    #[arg(long = "endpoint-retries", value_name = "N", default_value_t = 5)]
    pub retries: u32,
    /// Milliseconds before the first further attempt; twice as long before each next one.
    #[arg(long = "endpoint-back-off-ms", value_name = "MS", default_value_t = 500)]
    pub back_off_ms: u64,
    /// Requests a minute at most; 0 is no limit.
    #[arg(long = "endpoint-rate", value_name = "N", default_value_t = 0)]
    pub requests_per_minute: u32,
    /// Requests under way at once.
    #[arg(long = "endpoint-concurrency", value_name = "N", default_value_t = 4)]
    pub concurrency: usize,
    /// Sampling temperature.
    #[arg(long = "endpoint-temperature", value_name = "T", default_value_t = 0.7)]
    pub temperature: f32,
    /// Tokens of an answer at most.
    #[arg(long = "endpoint-max-tokens", value_name = "N", default_value_t = 160)]
    pub max_tokens: u32,
}

/// One question to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What the model is to do.
    pub system: String,
    /// What it is to do it with.
    pub user: String,
    /// The beginning of the answer: written for the model where the interface is a plain completion.
    pub lead: &'static str,
    /// Texts at which a plain completion ends.
    pub stop: &'static [&'static str],
    /// Sampling seed, as far as the server heeds one.
    pub seed: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No attempt got through; asking again later may help.
    #[error("asking `{url}`: expected an answer in {attempts} attempts, got {last}")]
    Failed {
        /// The address.
        url: String,
        /// Attempts made.
        attempts: u32,
        /// The last failure.
        last: String,
    },
    /// The server will not answer this: a wrong address, model or key, or a question that is too long.
    #[error("asking `{url}`: expected status 200, got {got}")]
    Refused {
        /// The address.
        url: String,
        /// Status and beginning of the body.
        got: String,
    },
    /// The server answered something that is no answer; asking again is not worth while.
    #[error("asking `{url}`: expected {expected}, got `{got}`")]
    Bad {
        /// The address.
        url: String,
        /// The expected form.
        expected: &'static str,
        /// What came, shortened.
        got: String,
    },
    /// The answer could not be kept.
    #[error("{0}")]
    Journal(String),
}

/// What was sent and what came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EndpointCounts {
    /// Requests sent, further attempts included.
    pub requests: u64,
    /// Further attempts among them.
    pub retries: u64,
    /// Answers that came.
    pub answers: u64,
    /// Answers taken from the journal instead of being asked for.
    pub remembered: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    retries: AtomicU64,
    answers: AtomicU64,
    remembered: AtomicU64,
}

#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    key: String,
    answer: String,
}

/// A model behind an address. Shared by threads.
pub struct Endpoint {
    arguments: EndpointArguments,
    url: String,
    agent: orion_endpoint::Agent,
    key: Option<String>,
    /// When the next request may be sent.
    next: Mutex<Instant>,
    kept: Mutex<(Option<Journal>, BTreeMap<String, String>)>,
    counters: Counters,
}

impl Endpoint {
    /// Prepares an endpoint; nothing is sent. `journal` is the file in which answers are kept.
    ///
    /// # Errors
    /// No address, or one that is not HTTP; a key file or journal that cannot be read.
    pub fn new(arguments: &EndpointArguments, journal: Option<&Path>) -> Result<Self> {
        let setting = |got: &str| TrainError::Setting {
            name: "endpoint-url",
            expected: "an address that begins with http:// or https://".to_owned(),
            got: got.to_owned(),
        };
        let given = arguments.url.as_deref().ok_or_else(|| setting("none"))?;
        let base = orion_endpoint::base_address(given).ok_or_else(|| setting(given))?;
        let path = match arguments.protocol {
            Protocol::Chat => "chat/completions",
            Protocol::Completions => "completions",
        };
        let read_key = |file: &PathBuf| {
            let key = std::fs::read_to_string(file).map_err(TrainError::file("read", file))?;
            Ok::<_, TrainError>(key.trim().to_owned())
        };
        let (mut kept_in, mut known) = (None, BTreeMap::new());
        if let Some(path) = journal {
            let (opened, lines) = Journal::open(path)?;
            for (place, line) in lines.iter().enumerate() {
                let kept: KeptAnswer = serde_json::from_str(line).map_err(|error| {
                    TrainError::content(path, format!("a kept answer on line {}", place + 1), error)
                })?;
                known.insert(kept.key, kept.answer);
            }
            kept_in = Some(opened);
        }
        Ok(Self {
            url: format!("{base}/{path}"),
            agent: orion_endpoint::agent(Duration::from_millis(arguments.timeout_ms.max(1)), "orion-train"),
            key: arguments.key_file.as_ref().map(read_key).transpose()?,
            arguments: arguments.clone(),
            next: Mutex::new(Instant::now()),
            kept: Mutex::new((kept_in, known)),
            counters: Counters::default(),
        })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.arguments.model
    }

    /// The address that is asked.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Requests that may be under way at once.
    pub fn concurrency(&self) -> usize {
        self.arguments.concurrency.max(1)
    }

    /// What was sent so far.
    pub fn counts(&self) -> EndpointCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EndpointCounts {
            requests: read(&self.counters.requests),
            retries: read(&self.counters.retries),
            answers: read(&self.counters.answers),
            remembered: read(&self.counters.remembered),
        }
    }

    /// The model's answer, its `lead` included where the interface needed one. Waits for the rate limit and between
    /// attempts.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn ask(&self, ask: &Ask) -> std::result::Result<String, EndpointError> {
        let body = wire::body(&self.arguments, ask);
        let key = hex(&Sha256::digest(&body));
        if let Some(answer) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).1.get(&key) {
            self.counters.remembered.fetch_add(1, Ordering::Relaxed);
            return Ok(answer.clone());
        }
        let mut last = String::new();
        for attempt in 0..=self.arguments.retries {
            self.wait_for_turn();
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            self.counters.retries.fetch_add(u64::from(attempt > 0), Ordering::Relaxed);
            let outcome = orion_endpoint::attempt(&self.agent, &self.url, self.key.as_deref(), &body);
            let after = match outcome {
                Attempt::Answered(text) => {
                    let answer = wire::answer(&text, self.arguments.protocol).map_err(|got| {
                        let (url, expected) = (self.url.clone(), "a JSON answer with a first choice");
                        EndpointError::Bad { url, expected, got }
                    })?;
                    let lead = if self.arguments.protocol == Protocol::Completions { ask.lead } else { "" };
                    return self.keep(key, format!("{lead}{answer}"));
                }
                Attempt::Refused(got) => {
                    return Err(EndpointError::Refused { url: self.url.clone(), got });
                }
                Attempt::Failed { reason, after } => {
                    last = reason;
                    after
                }
            };
            if attempt < self.arguments.retries {
                let doubled = self.arguments.back_off_ms.saturating_mul(1 << attempt.min(20));
                let wait = after.unwrap_or(Duration::from_millis(doubled)).min(LONGEST_WAIT);
                if after.is_some() {
                    // The server said when: that holds for every thread.
                    let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                    *next = (*next).max(Instant::now() + wait);
                } else {
                    std::thread::sleep(wait);
                }
            }
        }
        Err(EndpointError::Failed { url: self.url.clone(), attempts: self.arguments.retries + 1, last })
    }

    fn wait_for_turn(&self) {
        let now = Instant::now();
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(now);
            let gap = match self.arguments.requests_per_minute {
                0 => Duration::ZERO,
                rate => Duration::from_secs(60) / rate,
            };
            *next = turn + gap;
            turn
        };
        std::thread::sleep(turn - now);
    }

    fn keep(&self, key: String, answer: String) -> std::result::Result<String, EndpointError> {
        self.counters.answers.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (journal, known) = &mut *kept;
        if let Some(journal) = journal {
            journal
                .append(&KeptAnswer { key: key.clone(), answer: answer.clone() })
                .map_err(|error| EndpointError::Journal(error.to_string()))?;
            known.insert(key, answer.clone());
        }
        Ok(answer)
    }
}
