//! Runs sandboxed search strategies over an index and a policy.
//!
//! A strategy is a WebAssembly component of the world `orion:search/strategy` (see `wit/orion.wit`). [`Host`] loads it
//! ([`Host::load_bytes`]) and runs searches with it ([`Host::search`]) over [`Services`], under [`Limits`]. A strategy
//! that fails, spins, floods or lies cannot do harm: its search is answered by the plain hybrid ranking, and
//! [`Outcome::degraded`] says why. A reward, for training, is a component of the world `orion:search/reward`
//! ([`Host::load_reward`], [`Host::score`]). Wasmtime is named in this crate and in no other.
mod bindings;
mod bounded;
mod breaker;
mod cache;
mod calls;
mod cancel;
mod check;
mod class;
pub mod contract;
mod counters;
mod directory;
mod draft;
mod embedded;
mod engine;
mod failure;
mod fault;
mod grants;
mod host;
mod inspect;
mod limiter;
mod limits;
mod load;
mod local_policy;
mod lock;
mod manifest;
mod measure;
mod mismatch;
mod outcome;
mod places;
mod record;
mod reward;
mod run;
pub mod scripted;
mod self_assessment;
mod services;
mod state;
mod trace;
mod trace_file;
mod trust;
mod watch;
mod world;

pub use orion_index as index;
pub use orion_policy as policy;

pub use breaker::BreakerState;
pub use cache::CacheError;
pub use cancel::CancelToken;
pub use check::CheckError;
pub use class::GuestClass;
pub use contract::Hit;
pub use counters::{LatencySnapshot, PluginStatistics};
pub use directory::{
    Change, DirectoryError, DirectoryOptions, LockingError, Plugin, PluginDirectory, Plugins, Refusal,
};
pub use draft::{DRAFT_WIT, Sources};
pub use embedded::EmbeddedRetriever;
pub use failure::GuestFailure;
pub use grants::{Grant, Grants};
pub use host::{Host, HostError, HostOptions};
pub use inspect::{Import, ImportRefusal, Inspection, inspect};
pub use limits::Limits;
pub use load::{LoadError, OptionError, Strategy};
pub use lock::{LOCK_FILE, LockError, LockFile, LockedPlugin};
pub use manifest::{CONTRACTS, Language, Manifest, ManifestError};
pub use outcome::{Cost, Degraded, DegradedKind, MAX_RESULTS, Outcome, Request};
pub use record::{Divergence, MadeCall, RECORDING_VERSION, RecordedAnswer, RecordedCall, Recording};
pub use reward::{Reward, ScoreError, Scores};
pub use run::ReplayError;
pub use self_assessment::{SelfAssessment, relevance_sentence};
pub use services::{
    BoxFuture, Generate, GenerateSession, Judge, JudgeContext, Metered, Retrieve, ServiceError, Services,
    Usage,
};
pub use trace::{Branch, BranchObserver, CallRecord, LogLine, SearchTrace, TRACE_VERSION};
pub use trace_file::{Replayed, TRACE_FILE_VERSION, TraceFile, TraceFileError};
pub use trust::{Signer, TrustError, TrustStore, generate_key, sign, signature_path};
pub use watch::Watcher;
