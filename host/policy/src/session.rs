//! The policy as its users see it: load once, then one [`Session`] for each search.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use futures_channel::oneshot;

use crate::backend::{Backend, Device};
use crate::checkpoint::Checkpoint;
use crate::counters::{Counters, PolicyCounters};
use crate::embedded::EmbeddedCheckpoint;
use crate::error::PolicyError;
use crate::format::{FormatSpec, Retriever, Segment, TrajectoryFormat};
use crate::generate::Sampling;
use crate::matrices::WeightFormat;
use crate::request::Request;
use crate::scheduler::Scheduler;

/// Where a policy comes from.
#[derive(Clone)]
pub enum Source {
    /// A Hugging Face folder, with or without `orion.json`, or a `.gguf` file.
    Folder(PathBuf),
    /// A checkpoint inside the program.
    Embedded(EmbeddedCheckpoint),
}

/// Limits of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyOptions {
    /// Longest sequence; the model's own limit applies too.
    pub max_context_tokens: usize,
    /// Most nodes of one session.
    pub max_session_nodes: usize,
    /// Most memory of all states of all sessions together. Where it does not do, the states that were not needed for
    /// longest are given up and read again when they are needed.
    pub max_state_bytes: usize,
    /// Most sequences that are worked on at once; more wait for their turn.
    pub max_sequences: usize,
    /// Most tokens of one step; prompts are cut to fit.
    pub max_step_tokens: usize,
    /// Threads of the model; 0 shares the pool of the process.
    pub threads: usize,
    /// What the checkpoint's matrices become.
    pub weights: WeightFormat,
    /// Where it runs.
    pub device: Device,
    /// Whether short steps on a device are recorded once and replayed, which saves most of the time of launching them.
    pub record_steps: bool,
}

impl Default for PolicyOptions {
    fn default() -> Self {
        Self {
            // Room for eight turns of ten snippets; rotary tables for it are a few hundred kilobytes.
            max_context_tokens: 8192,
            max_session_nodes: 4096,
            max_state_bytes: 1 << 30,
            max_sequences: 64,
            // Long enough to use the matrix kernels well, short enough that others join within a few ten ms.
            max_step_tokens: 256,
            threads: 0,
            weights: WeightFormat::AsStored,
            device: Device::Cpu,
            record_steps: true,
        }
    }
}

/// A node of a session: an immutable state of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u64);

/// One proposed action; fields as in the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The state after this think and search query.
    pub node: NodeId,
    /// The thought; empty in a format without thoughts.
    pub think: String,
    /// The query; never empty.
    pub query: String,
    /// The choice, where the policy chooses retrievers.
    pub retriever: Option<Retriever>,
    /// Sum of the natural log-probabilities of the sampled tokens under the unmodified model.
    pub log_probability: f32,
    /// Number of sampled tokens.
    pub tokens: u32,
    /// What was fed for it after its node, token by token; its last tokens are what a trainer has to predict again.
    pub trace: Vec<FedToken>,
}

/// One token of a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FedToken {
    /// Its id.
    pub id: u32,
    /// Natural log-probability under the unmodified model where it was sampled; `None` where the format forced it.
    pub log_probability: Option<f32>,
}

/// Perplexity of one text after a node; fields as in the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgedText {
    /// exp of the mean negative log-probability a token.
    pub perplexity: f32,
    /// Number of tokens of the text.
    pub tokens: u32,
    /// Natural log-probability of each token, in order.
    pub log_probabilities: Vec<f32>,
}

/// What a policy says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInfo {
    /// Folder, or the name of an embedded checkpoint.
    pub source: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of its matrices, in memory or in a mapped file.
    pub weight_bytes: usize,
    /// Where it runs, for people to read.
    pub device: String,
    /// The trajectory format.
    pub format: FormatSpec,
    /// Longest sequence, in tokens.
    pub context_tokens: usize,
    /// What its user should know; for people to read.
    pub warnings: Vec<String>,
}

/// What a session has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens that were read: given segments, markers, judged texts.
    pub prefilled_tokens: u64,
    /// Tokens that were sampled.
    pub decoded_tokens: u64,
    /// Time of the model, shared among the sessions of a step by their rows.
    pub model_nanoseconds: u64,
}

#[derive(Default)]
pub(crate) struct UsageCounters {
    pub(crate) prefilled_tokens: AtomicU64,
    pub(crate) decoded_tokens: AtomicU64,
    pub(crate) model_nanoseconds: AtomicU64,
}

/// A loaded policy. Clones share one model and the one thread that owns it; the thread ends with the last of them.
#[derive(Clone)]
pub struct Policy {
    shared: Arc<Shared>,
}

struct Shared {
    requests: Sender<Request>,
    format: Arc<TrajectoryFormat>,
    info: PolicyInfo,
    next_session: AtomicU64,
    state_bytes: Arc<AtomicUsize>,
    counters: Arc<Counters>,
}

impl Policy {
    /// Loads a checkpoint and starts its thread. Takes as long as reading the weights does.
    pub fn load(source: &Source, options: &PolicyOptions) -> Result<Self, PolicyError> {
        let (name, checkpoint, format) = match source {
            Source::Folder(folder) => {
                let checkpoint = Checkpoint::open(folder)?;
                let format = TrajectoryFormat::load(folder, checkpoint.config())?;
                (folder.display().to_string(), checkpoint, format)
            }
            Source::Embedded(embedded) => {
                let (checkpoint, format) = embedded.open()?;
                (embedded.name().to_owned(), checkpoint, format)
            }
        };
        Self::serve(&name, &checkpoint, format, options)
    }

    /// Starts a checkpoint that is already open, in its format; `name` stands for its folder. A trainer serves the
    /// weights of the moment this way.
    ///
    /// # Errors
    /// Tensors that do not read; a vocabulary in which no token could begin a query; no thread.
    pub fn serve(
        name: &str,
        checkpoint: &Checkpoint,
        format: TrajectoryFormat,
        options: &PolicyOptions,
    ) -> Result<Self, PolicyError> {
        let context = options.max_context_tokens.min(checkpoint.config().max_positions);
        let (model, warnings) = Backend::load(checkpoint, context, options)?;
        Self::start(name, checkpoint, format, options, model, warnings)
    }

    /// [`Policy::serve`] with a model that is already where it runs.
    pub(crate) fn start(
        name: &str,
        checkpoint: &Checkpoint,
        format: TrajectoryFormat,
        options: &PolicyOptions,
        model: Backend,
        mut warnings: Vec<String>,
    ) -> Result<Self, PolicyError> {
        let context = options.max_context_tokens.min(checkpoint.config().max_positions);
        let (weight_bytes, device) = (model.weight_bytes(), model.describe());
        let format = Arc::new(format);
        let (requests, receiver) = channel();
        let (scheduler, more_warnings) =
            Scheduler::new(model, format.clone(), context, options.clone(), receiver)?;
        warnings.extend(more_warnings);
        let (state_bytes, counters) = (scheduler.state_bytes(), scheduler.counters());
        let info = PolicyInfo {
            source: name.to_owned(),
            parameters: checkpoint.config().parameters(),
            weight_bytes,
            device,
            format: format.spec().clone(),
            context_tokens: context,
            warnings,
        };
        std::thread::Builder::new()
            .name("orion-policy".to_owned())
            .spawn(move || scheduler.run())
            .map_err(PolicyError::Start)?;
        let next_session = AtomicU64::new(0);
        Ok(Self { shared: Arc::new(Shared { requests, format, info, next_session, state_bytes, counters }) })
    }

    /// A fresh session without nodes.
    pub fn session(&self) -> Session {
        Session {
            shared: self.shared.clone(),
            id: self.shared.next_session.fetch_add(1, Ordering::Relaxed),
            usage: Arc::default(),
        }
    }

    /// Number of tokens of a text as it stands inside a segment.
    pub fn token_count(&self, text: &str) -> usize {
        self.shared.format.encode_text(text).len()
    }

    /// The trajectory format of the checkpoint.
    pub fn format(&self) -> &TrajectoryFormat {
        &self.shared.format
    }

    /// Memory that the states of all sessions hold now.
    pub fn state_bytes(&self) -> usize {
        self.shared.state_bytes.load(Ordering::Relaxed)
    }

    /// What its thread has done and what waits: a snapshot.
    pub fn counters(&self) -> PolicyCounters {
        self.shared.counters.snapshot(self.state_bytes())
    }

    /// What it is and what to know of it.
    pub fn describe(&self) -> &PolicyInfo {
        &self.shared.info
    }
}

/// The nodes of one search. Dropping it frees them all and gives up what is under way; dropping the future of a call
/// gives up that call at the next step of the model.
pub struct Session {
    shared: Arc<Shared>,
    id: u64,
    usage: Arc<UsageCounters>,
}

impl Session {
    /// The node after some segments follow a parent, for each step; without a parent, a fresh trajectory.
    ///
    /// # Errors
    /// Unknown parents, a full context, too many nodes, a trajectory larger than the memory; then no node is made.
    pub async fn extend(
        &self,
        steps: Vec<(Option<NodeId>, Vec<Segment>)>,
    ) -> Result<Vec<NodeId>, PolicyError> {
        let encoded = steps
            .into_iter()
            .map(|(parent, segments)| {
                let spans = self.shared.format.encode(&segments);
                (parent, spans.into_iter().flat_map(|span| span.tokens).collect())
            })
            .collect();
        self.ask(|reply| Request::Extend {
            session: self.id,
            usage: self.usage.clone(),
            steps: encoded,
            reply,
        })
        .await
    }

    /// `sampling.candidates` candidates for each node.
    ///
    /// # Errors
    /// Unknown nodes, settings out of range, a context that the caps could overflow, too many nodes, a trajectory
    /// larger than the memory; then no node is made.
    pub async fn propose(
        &self,
        nodes: Vec<NodeId>,
        sampling: Sampling,
    ) -> Result<Vec<Vec<Candidate>>, PolicyError> {
        check_sampling(&sampling)?;
        self.ask(|reply| Request::Propose {
            session: self.id,
            usage: self.usage.clone(),
            nodes,
            sampling,
            reply,
        })
        .await
    }

    /// For each node, the perplexity of each text, read as a think span that follows the node. Makes no nodes.
    ///
    /// # Errors
    /// Unknown nodes, a text without tokens, a full context, a trajectory larger than the memory.
    pub async fn perplexity(
        &self,
        requests: Vec<(NodeId, Vec<String>)>,
    ) -> Result<Vec<Vec<JudgedText>>, PolicyError> {
        let mut encoded = Vec::with_capacity(requests.len());
        for (node, texts) in requests {
            let tokens: Vec<Vec<u32>> =
                texts.iter().map(|text| self.shared.format.encode_text(text)).collect();
            if let Some(index) = tokens.iter().position(Vec::is_empty) {
                return Err(PolicyError::InvalidInput {
                    what: "text to judge",
                    expected: "at least one token".to_owned(),
                    got: format!("{:?}", texts[index]),
                });
            }
            encoded.push((node, tokens));
        }
        self.ask(|reply| Request::Perplexity {
            session: self.id,
            usage: self.usage.clone(),
            requests: encoded,
            reply,
        })
        .await
    }

    /// All token ids of a node, from the start of its trajectory.
    pub async fn tokens(&self, node: NodeId) -> Result<Vec<u32>, PolicyError> {
        self.ask(|reply| Request::Tokens { session: self.id, node, reply }).await
    }

    /// What this session has cost; complete for every call that has returned.
    pub fn usage(&self) -> Usage {
        Usage {
            prefilled_tokens: self.usage.prefilled_tokens.load(Ordering::Relaxed),
            decoded_tokens: self.usage.decoded_tokens.load(Ordering::Relaxed),
            model_nanoseconds: self.usage.model_nanoseconds.load(Ordering::Relaxed),
        }
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, PolicyError>>) -> Request,
    ) -> Result<T, PolicyError> {
        let (reply, answer) = oneshot::channel();
        self.shared.requests.send(request(reply)).map_err(|_| PolicyError::Stopped)?;
        answer.await.map_err(|_| PolicyError::Stopped)?
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where the thread has gone, there is nothing left to free.
        let _ = self.shared.requests.send(Request::Close { session: self.id });
    }
}

fn check_sampling(sampling: &Sampling) -> Result<(), PolicyError> {
    let fault = |what, expected: &str, got: String| {
        Err(PolicyError::InvalidInput { what, expected: expected.to_owned(), got })
    };
    if !(1..=64).contains(&sampling.candidates) {
        return fault("candidates", "1 to 64", sampling.candidates.to_string());
    }
    if !(sampling.temperature.is_finite() && 0.0 <= sampling.temperature) {
        return fault("temperature", "a finite number, not negative", sampling.temperature.to_string());
    }
    if !(0.0 < sampling.top_p && sampling.top_p <= 1.0) {
        return fault("top-p", "a number in (0, 1]", sampling.top_p.to_string());
    }
    if sampling.max_query_tokens == 0 {
        return fault("max-query-tokens", "at least 1", "0".to_owned());
    }
    Ok(())
}
