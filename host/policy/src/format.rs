//! The trajectory format: how segments become tokens, and which tokens are learned.
//!
//! Serving and the trainer share this one encoder, so that what a model is trained on is, token by token, what it
//! meets. A checkpoint says in `orion.json` which format it was trained for.
//!
//! Layout of format `full` with retriever choice:
//! `<bos><user_query>U</user_query>`, then for each turn
//! `<think>T</think><search_query><hybrid>Q</search_query><top_k_response>1. Title: text\n2. …</top_k_response>`.
//! `no-think` leaves the think spans out. `no-marker` ends each user query, think, search query and result list
//! with a line break and has no other structure. `prompt` writes the markers as ordinary text after worked
//! examples, for a model that never saw them.
//!
//! The mask follows the paper ("Structural Token Masking"): contents and end markers of think and search query are
//! learned, and the retriever token, which is a choice; start markers, user queries and results are not.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::error::CheckpointError;
use crate::gguf_model;
use crate::prompt;
use crate::tokenizer::PolicyTokenizer;

/// How documents are looked up, where the policy chooses that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retriever {
    /// By words.
    Lexical,
    /// By vectors.
    Dense,
    /// By both.
    Hybrid,
}

impl Retriever {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 3] = [Self::Lexical, Self::Dense, Self::Hybrid];

    /// The name of its special token.
    pub fn marker(self) -> &'static str {
        match self {
            Self::Lexical => "<lexical>",
            Self::Dense => "<dense>",
            Self::Hybrid => "<hybrid>",
        }
    }
}

/// One retrieved document as the policy reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// May be empty.
    pub title: String,
    /// As much of the text as is to be shown.
    pub text: String,
}

/// A span of a trajectory, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Segment {
    /// What the user asked.
    UserQuery(String),
    /// A thought; a format without thoughts leaves it out.
    Think(String),
    /// A query as it was issued.
    SearchQuery {
        /// Its text.
        query: String,
        /// Written only where the format has retriever choice; then `None` is written as hybrid.
        retriever: Option<Retriever>,
    },
    /// What was retrieved, best first.
    TopKResponse(Vec<Snippet>),
}

/// A span of a trajectory, in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Span {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// For each token, whether it is a target of training: whether the model learns to produce it from what
    /// stands before it.
    pub learn: Vec<bool>,
}

impl Span {
    fn push(&mut self, tokens: &[u32], learn: bool) {
        self.tokens.extend_from_slice(tokens);
        self.learn.resize(self.tokens.len(), learn);
    }
}

/// Which format a checkpoint was trained for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FormatKind {
    /// Markers as special tokens, thoughts and queries.
    Full,
    /// Markers as special tokens, queries without thoughts.
    NoThink,
    /// No markers: thoughts and queries in turn, a line each.
    NoMarker,
    /// Markers as ordinary text after worked examples.
    Prompt,
}

impl FormatKind {
    /// Whether its markers are special tokens, so that no text can hold one.
    pub fn has_marker_tokens(self) -> bool {
        matches!(self, Self::Full | Self::NoThink)
    }
}

/// How a policy's perplexity of the relevance sentence says whether what was found is relevant: the chance is a
/// logistic curve over its natural logarithm, 1 / (1 + exp((ln perplexity - middle) / width)), fitted on a dev split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Natural logarithm of the perplexity that means one half.
    pub middle_log_perplexity: f32,
    /// Width of the curve, in the same unit; above 0, larger is flatter.
    pub log_perplexity_width: f32,
}

/// The contents of `orion.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FormatSpec {
    /// Version of this file: 1.
    pub version: u32,
    /// The format.
    pub format: FormatKind,
    /// Whether the policy chooses the retriever of each query.
    #[serde(default)]
    pub retriever_choice: bool,
    /// Whether queries are held to whole words of the question and the results (see `grounding`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub grounded_queries: bool,
    /// What its perplexities mean, where somebody measured it on these weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_assessment: Option<Calibration>,
}

impl FormatSpec {
    /// The version that is read and written.
    pub const VERSION: u32 = 1;

    /// A format whose policy's perplexities nobody has measured.
    pub fn new(format: FormatKind, retriever_choice: bool) -> Self {
        Self {
            version: Self::VERSION,
            format,
            retriever_choice,
            grounded_queries: false,
            self_assessment: None,
        }
    }

    /// The same of other weights, of whose perplexities nothing is known.
    pub fn for_new_weights(&self) -> Self {
        Self { self_assessment: None, ..self.clone() }
    }

    /// Reads the bytes of an `orion.json`; `file` names it in errors.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, CheckpointError> {
        let spec: Self = serde_json::from_slice(bytes).map_err(|error| CheckpointError::Malformed {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        spec.checked(file)
    }

    /// The same, where a host can obey it.
    pub(crate) fn checked(self, file: &str) -> Result<Self, CheckpointError> {
        let fault = |field, expected: String, got: String| {
            Err(CheckpointError::Config { file: file.to_owned(), field, expected, got })
        };
        if self.version != Self::VERSION {
            return fault("version", Self::VERSION.to_string(), self.version.to_string());
        }
        if self.grounded_queries && !self.format.has_marker_tokens() {
            let expected = "false, or a format whose markers are tokens".to_owned();
            return fault("grounded_queries", expected, format!("true in {:?}", self.format));
        }
        if let Some(Calibration { middle_log_perplexity: middle, log_perplexity_width: width }) =
            self.self_assessment
            && !(middle.is_finite() && width.is_finite() && 0.0 < width)
        {
            let expected = "a finite middle and a width above 0".to_owned();
            return fault("self_assessment", expected, format!("{middle} and {width}"));
        }
        Ok(self)
    }

    /// The format of a checkpoint that does not say: `full` where its tokenizer has all markers, else `prompt`.
    pub fn guess(tokenizer: &PolicyTokenizer) -> Self {
        let markers = [USER_QUERY, THINK, SEARCH_QUERY, TOP_K_RESPONSE];
        let has = |name: &str| tokenizer.special(name).is_some();
        if markers.iter().all(|(start, end)| has(start) && has(end)) {
            let retriever_choice = Retriever::ALL.iter().all(|retriever| has(retriever.marker()));
            return Self::new(FormatKind::Full, retriever_choice);
        }
        Self::new(FormatKind::Prompt, false)
    }
}

const USER_QUERY: (&str, &str) = ("<user_query>", "</user_query>");
const THINK: (&str, &str) = ("<think>", "</think>");
const SEARCH_QUERY: (&str, &str) = ("<search_query>", "</search_query>");
const TOP_K_RESPONSE: (&str, &str) = ("<top_k_response>", "</top_k_response>");

/// The special tokens of a tokenizer that is made for this project, in the order of their ids.
pub const SPECIAL_TOKENS: [&str; 14] = [
    "<pad>",
    "<bos>",
    "<eos>",
    USER_QUERY.0,
    USER_QUERY.1,
    THINK.0,
    THINK.1,
    SEARCH_QUERY.0,
    SEARCH_QUERY.1,
    TOP_K_RESPONSE.0,
    TOP_K_RESPONSE.1,
    "<lexical>",
    "<dense>",
    "<hybrid>",
];

/// How one kind of segment begins and ends, in tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Markers {
    pub(crate) start: Vec<u32>,
    pub(crate) end: Vec<u32>,
}

/// A format together with the tokenizer it is written in.
#[derive(Clone)]
pub struct TrajectoryFormat {
    spec: FormatSpec,
    tokenizer: Arc<PolicyTokenizer>,
    begin: Vec<u32>,
    user_query: Markers,
    pub(crate) think: Markers,
    pub(crate) search_query: Markers,
    top_k_response: Markers,
    retrievers: Option<[u32; 3]>,
}

impl TrajectoryFormat {
    /// Reads `orion.json` (or guesses, where there is none) and `tokenizer.json` in `folder`, or the metadata of a
    /// `.gguf` file.
    pub fn load(folder: &Path, config: &Config) -> Result<Self, CheckpointError> {
        if gguf_model::is_gguf(folder) {
            let (gguf, file) = gguf_model::read(folder)?;
            let tokenizer = gguf_model::tokenizer(&gguf, &file)?;
            return Self::new(gguf_model::format_spec(&gguf, &file, &tokenizer)?, tokenizer, config);
        }
        let tokenizer = PolicyTokenizer::load(folder)?;
        let path = folder.join("orion.json");
        let file = path.display().to_string();
        let spec = match std::fs::read(&path) {
            Ok(bytes) => FormatSpec::parse(&bytes, &file)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => FormatSpec::guess(&tokenizer),
            Err(source) => return Err(CheckpointError::Read { file, source }),
        };
        Self::new(spec, tokenizer, config)
    }

    /// Fails where the tokenizer lacks a token that the format needs, or has ids that the model does not.
    pub fn new(
        spec: FormatSpec,
        tokenizer: PolicyTokenizer,
        config: &Config,
    ) -> Result<Self, CheckpointError> {
        let fault = |what: &str, expected: String, got: String| CheckpointError::Tokenizer {
            file: tokenizer.file().to_owned(),
            what: what.to_owned(),
            expected,
            got,
        };
        if config.vocabulary_size < tokenizer.size() {
            return Err(fault(
                "vocabulary",
                format!("at most {} tokens", config.vocabulary_size),
                tokenizer.size().to_string(),
            ));
        }
        let special = |name: &str| {
            tokenizer.special(name).ok_or_else(|| fault(name, "a special token".into(), "none".into()))
        };
        let markers = |(start, end): (&str, &str)| {
            Ok::<_, CheckpointError>(match spec.format {
                FormatKind::Full | FormatKind::NoThink => {
                    Markers { start: vec![special(start)?], end: vec![special(end)?] }
                }
                FormatKind::NoMarker => {
                    let line_break = tokenizer.encode("\n");
                    // Vocabularies that put a space before every first word do so here too: the break is what follows.
                    let Some(end) = line_break.last().filter(|id| tokenizer.decode(&[**id]) == "\n") else {
                        let got = format!("{line_break:?}");
                        return Err(fault("line break", "a token of its own".into(), got));
                    };
                    Markers { start: Vec::new(), end: vec![*end] }
                }
                FormatKind::Prompt => Markers { start: tokenizer.encode(start), end: tokenizer.encode(end) },
            })
        };
        let think = if spec.format == FormatKind::NoThink { Markers::default() } else { markers(THINK)? };
        let retrievers = if spec.retriever_choice {
            let [lexical, dense, hybrid] = Retriever::ALL.map(Retriever::marker);
            Some([special(lexical)?, special(dense)?, special(hybrid)?])
        } else {
            None
        };
        let mut format = Self {
            user_query: markers(USER_QUERY)?,
            think,
            search_query: markers(SEARCH_QUERY)?,
            top_k_response: markers(TOP_K_RESPONSE)?,
            retrievers,
            begin: config.bos_token.or_else(|| tokenizer.special("<bos>")).into_iter().collect(),
            spec,
            tokenizer: Arc::new(tokenizer),
        };
        if format.spec.format == FormatKind::Prompt {
            let shots = format.encode_all(&prompt::examples());
            let preface = format.tokenizer.encode(prompt::PREFACE);
            format.begin.extend(preface);
            format.begin.extend(shots.tokens);
        }
        Ok(format)
    }

    /// What the checkpoint says of its format.
    pub fn spec(&self) -> &FormatSpec {
        &self.spec
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &PolicyTokenizer {
        &self.tokenizer
    }

    /// What stands at the start of every trajectory: the first token and, for `prompt`, the examples. Not learned.
    pub fn begin(&self) -> Span {
        Span { tokens: self.begin.clone(), learn: vec![false; self.begin.len()] }
    }

    /// One span for each segment; a think segment is empty in a format without thoughts.
    pub fn encode(&self, segments: &[Segment]) -> Vec<Span> {
        segments.iter().map(|segment| self.encode_segment(segment)).collect()
    }

    /// A whole trajectory in one span, its start included.
    pub fn encode_trajectory(&self, segments: &[Segment]) -> Span {
        let mut whole = self.begin();
        let rest = self.encode_all(segments);
        whole.tokens.extend(rest.tokens);
        whole.learn.extend(rest.learn);
        whole
    }

    fn encode_all(&self, segments: &[Segment]) -> Span {
        let mut whole = Span::default();
        for span in self.encode(segments) {
            whole.tokens.extend(span.tokens);
            whole.learn.extend(span.learn);
        }
        whole
    }

    fn encode_segment(&self, segment: &Segment) -> Span {
        let mut span = Span::default();
        match segment {
            Segment::UserQuery(text) => {
                span.push(&self.user_query.start, false);
                span.push(&self.encode_text(text), false);
                span.push(&self.user_query.end, false);
            }
            Segment::Think(_) if self.spec.format == FormatKind::NoThink => {}
            Segment::Think(text) => {
                span.push(&self.think.start, false);
                span.push(&self.encode_text(text), true);
                span.push(&self.think.end, true);
            }
            Segment::SearchQuery { query, retriever } => {
                span.push(&self.search_query.start, false);
                if let Some(ids) = self.retrievers {
                    span.push(&[ids[retriever.unwrap_or(Retriever::Hybrid) as usize]], true);
                }
                span.push(&self.encode_text(query), true);
                span.push(&self.search_query.end, true);
            }
            Segment::TopKResponse(snippets) => {
                span.push(&self.top_k_response.start, false);
                let lines: Vec<String> = snippets
                    .iter()
                    .enumerate()
                    .map(|(index, snippet)| {
                        let (title, text) = (self.clean(&snippet.title), self.clean(&snippet.text));
                        let separator = if title.is_empty() || text.is_empty() { "" } else { ": " };
                        format!("{}. {title}{separator}{text}", index + 1)
                    })
                    .collect();
                // The only line breaks are those written here: a document cannot begin another one's line.
                span.push(&self.tokenizer.encode(&lines.join("\n")), false);
                span.push(&self.top_k_response.end, false);
            }
        }
        span
    }

    /// Tokens of a text as it stands inside a segment: never a marker, nor anything that reads like one where
    /// markers are ordinary text.
    pub fn encode_text(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(&self.clean(text))
    }

    /// A text on one line, without control characters, single spaces between words; where markers are ordinary
    /// text, without the bracket that would begin one.
    fn clean(&self, text: &str) -> String {
        let mut words = text
            .split(|c: char| c.is_whitespace() || c.is_control())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
        if self.spec.format == FormatKind::Prompt {
            words = words.replace('<', "‹");
        }
        words
    }

    /// What a branch's tokens say that the policy did not write: user queries and results, without their markers.
    /// Only where markers are tokens.
    pub(crate) fn spans_read<'t>(&self, tokens: &'t [u32]) -> Vec<&'t [u32]> {
        let kinds = [&self.user_query, &self.top_k_response];
        let mut spans = Vec::new();
        let mut begun = None;
        for (index, token) in tokens.iter().enumerate() {
            if kinds.iter().any(|markers| markers.start == [*token]) {
                begun = Some(index + 1);
            } else if kinds.iter().any(|markers| markers.end == [*token])
                && let Some(start) = begun.take()
            {
                spans.push(&tokens[start..index]);
            }
        }
        spans
    }

    /// Ids of the three retriever tokens, where the policy chooses.
    pub(crate) fn retrievers(&self) -> Option<[u32; 3]> {
        self.retrievers
    }

    /// Whether markers are single special tokens (else they are ordinary text or a line break).
    pub(crate) fn markers_are_text(&self) -> bool {
        self.spec.format == FormatKind::Prompt
    }

    /// Whether proposals begin with a thought.
    pub(crate) fn thinks(&self) -> bool {
        self.spec.format != FormatKind::NoThink
    }
}
