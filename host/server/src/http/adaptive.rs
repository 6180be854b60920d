//! Adaptive search: what a request may ask for, within what the configuration allows, and the reply.

use std::{sync::Arc, time::Instant};

use orion_host::{BranchObserver, CancelToken, Degraded, DegradedKind, Limits, Outcome, Request, Services};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    app::App,
    call::{Call, kind_of},
    elsewhere,
    error::ApiError,
    keys::Key,
    search::{Seen, body::SearchBody, compile::Scope, envelope, ranked_hits},
    spans,
};
use crate::{adapters::backends::SplitRetriever, engine::WithoutEncoder, lexical_only::OWN_VECTORS};

/// `ext.adaptive`, or the `adaptive` processor of a pipeline.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// The strategy; the configuration's without one.
    pub strategy: Option<String>,
    /// The policy; the configuration's without one.
    pub policy: Option<String>,
    /// Values of the strategy's parameters.
    pub params: Vec<(String, String)>,
    /// Milliseconds.
    pub ms: Option<u64>,
    /// Tokens of the policy.
    pub tokens: Option<u64>,
    /// Lookups.
    pub retrievals: Option<u64>,
    /// Whether the reply carries the tree.
    pub trace: bool,
    /// Seed of sampling.
    pub seed: u64,
}

fn number(name: &str, value: &Value) -> Result<u64, ApiError> {
    value
        .as_u64()
        .ok_or_else(|| ApiError::illegal(format!("adaptive: [{name}]: expected a whole number, got {value}")))
}

impl Wanted {
    /// Reads and checks the members; whether there is such a strategy is seen when it is used.
    pub fn parse(value: &Value) -> Result<Self, ApiError> {
        let Value::Object(object) = value else {
            return Err(ApiError::parsing(format!("adaptive: expected an object, got {}", kind_of(value))));
        };
        let mut wanted = Self { seed: 1, ..Self::default() };
        let mut auto = false;
        for (key, value) in object {
            match (key.as_str(), value) {
                ("strategy", Value::String(name)) => wanted.strategy = Some(name.clone()),
                ("policy", Value::String(name)) => wanted.policy = Some(name.clone()),
                ("turns" | "beam", value) => {
                    wanted.params.push((key.clone(), number(key, value)?.to_string()))
                }
                ("seed", value) => wanted.seed = number(key, value)?,
                ("params", Value::Object(params)) => {
                    for (name, value) in params {
                        let text = match value {
                            Value::String(text) => text.clone(),
                            Value::Number(number) => number.to_string(),
                            Value::Bool(boolean) => boolean.to_string(),
                            other => {
                                let got = kind_of(other);
                                return Err(ApiError::illegal(format!(
                                    "adaptive: [params.{name}]: expected text, a number or a boolean, got {got}"
                                )));
                            }
                        };
                        wanted.params.retain(|(known, _)| known != name);
                        wanted.params.push((name.clone(), text));
                    }
                }
                ("budget", Value::Object(budget)) => {
                    for (name, value) in budget {
                        let place = match name.as_str() {
                            "ms" => &mut wanted.ms,
                            "tokens" => &mut wanted.tokens,
                            "retrievals" => &mut wanted.retrievals,
                            _ => {
                                return Err(ApiError::illegal(format!(
                                    "adaptive: unknown budget [{name}]: expected ms, tokens or retrievals"
                                )));
                            }
                        };
                        *place = Some(number(&format!("budget.{name}"), value)?);
                    }
                }
                ("trace", Value::Bool(trace)) => wanted.trace = *trace,
                ("mode", Value::String(mode)) if mode == "always" => {}
                ("mode", Value::String(mode)) if mode == "auto" => auto = true,
                ("strategy" | "policy" | "params" | "budget" | "trace" | "mode", value) => {
                    return Err(ApiError::illegal(format!(
                        "adaptive: [{key}]: got {value}, which does not fit"
                    )));
                }
                _ => {
                    return Err(ApiError::illegal(format!(
                        "adaptive: unknown option [{key}]: expected strategy, policy, turns, beam, params, budget, \
                         seed, trace or mode"
                    )));
                }
            }
        }
        if auto {
            // One look first is what the strategy of that name does; another strategy cannot be told to.
            match wanted.strategy.as_deref() {
                None | Some("beam" | "auto") => wanted.strategy = Some("auto".to_owned()),
                Some(other) => {
                    return Err(ApiError::illegal(format!(
                        "adaptive: [mode] auto goes with strategy beam, got [{other}]"
                    )));
                }
            }
        }
        Ok(wanted)
    }

    /// As a request would ask for it.
    pub fn to_json(&self) -> Value {
        let mut shown = json!({});
        let named = [("strategy", &self.strategy), ("policy", &self.policy)];
        for (name, value) in named.into_iter().filter(|(_, value)| value.is_some()) {
            shown[name] = json!(value);
        }
        let mut budget = Map::new();
        for (name, value) in [("ms", self.ms), ("tokens", self.tokens), ("retrievals", self.retrievals)] {
            if let Some(value) = value {
                budget.insert(name.to_owned(), json!(value));
            }
        }
        if !budget.is_empty() {
            shown["budget"] = Value::Object(budget);
        }
        if !self.params.is_empty() {
            let params = self.params.iter().map(|(name, value)| (name.clone(), json!(value)));
            shown["params"] = Value::Object(params.collect());
        }
        shown["seed"] = json!(self.seed);
        shown["trace"] = json!(self.trace);
        shown
    }
}

/// Cancels when it is dropped: the client has gone.
struct CancelOnDrop(CancelToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// An adaptive search to its reply; `observer` watches the tree grow.
pub async fn search(
    app: &Arc<App>,
    call: &Call,
    seen: &Seen,
    search: &SearchBody,
    wanted: &Wanted,
    observer: Option<BranchObserver>,
) -> Result<Value, ApiError> {
    let started = Instant::now();
    refuse_what_has_no_meaning(search)?;
    let (query, filter) = {
        let meta = seen.collection.meta();
        Scope { mapping: &meta.mapping, searcher: &seen.searcher, weights: None }
            .text_and_filter(&search.query)?
    };
    let k = u32::try_from(search.from + search.size).unwrap_or(u32::MAX).max(1);
    let asked =
        Asked { query, filter, k, timeout_ms: search.timeout_ms, parent: spans::parent(&call.headers) };
    let split = elsewhere::retriever(app, seen)?;
    let over = Over { seen, split: split.as_ref() };
    let outcome = answer(app, call.key.as_ref(), over, asked, wanted, observer).await?;
    let (seen, search, trace) = (seen.clone(), search.clone(), wanted.trace);
    app.blocking(move || reply(&seen, &search, &outcome, trace, started, split.as_ref())).await
}

/// What a question is answered from.
#[derive(Clone, Copy)]
pub struct Over<'a> {
    /// The index and its snapshot.
    pub seen: &'a Seen,
    /// Its halves, where they are in other engines.
    pub split: Option<&'a SplitRetriever>,
}

/// One question, in whatever protocol it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The user's words.
    pub query: String,
    /// Filter in the index's syntax.
    pub filter: Option<String>,
    /// Documents wanted.
    pub k: u32,
    /// Milliseconds, beside the budget's.
    pub timeout_ms: Option<u64>,
    /// What the search is part of, elsewhere.
    pub parent: opentelemetry::Context,
}

/// A question to its outcome: within the configuration's budgets, on the account of `key`. Dropping this ends the search.
pub async fn answer(
    app: &Arc<App>,
    key: Option<&Arc<Key>>,
    Over { seen, split }: Over<'_>,
    asked: Asked,
    wanted: &Wanted,
    observer: Option<BranchObserver>,
) -> Result<Outcome, ApiError> {
    let config = app.config();
    if let Some(key) = key {
        key.has_tokens()?;
    }
    let (name, policy_name) = (
        wanted.strategy.clone().unwrap_or_else(|| config.adaptive.strategy.clone()),
        wanted.policy.clone().unwrap_or_else(|| config.adaptive.policy.clone()),
    );
    let mut recorder = app.spans.as_ref().map(|spans| spans.begin(asked.parent.clone(), &name));
    let _place = app.adaptive_place().await?;
    // The first use compiles a strategy and reads a policy: seconds.
    let shared = Arc::clone(app);
    let (strategy, policy) = app
        .blocking(move || {
            let strategy = shared.engine.strategy(&name).map_err(|failure| {
                let known = shared.engine.strategy_names().unwrap_or_default().join(", ");
                ApiError::illegal(format!("adaptive: {failure}; there are [{known}]"))
            })?;
            Ok((strategy, shared.policy(&policy_name)?))
        })
        .await?;
    strategy
        .check_options(&wanted.params)
        .map_err(|error| ApiError::illegal(format!("adaptive: {error}")))?;
    let services = match split {
        None => {
            app.engine.services_over(Arc::clone(&seen.searcher), policy.as_ref(), WithoutEncoder::Substitute)
        }
        Some(split) => Services {
            retrieve: Arc::new(split.clone()),
            generate: policy.map(|policy| policy.generate),
            feedback: None,
        },
    };
    let ceiling = &config.adaptive;
    let lowest = |asked: Option<u64>, most: u64| asked.map_or(most, |asked| asked.min(most));
    let budget_ms = lowest(wanted.ms, ceiling.ms);
    let limits = Limits {
        deadline_ms: asked.timeout_ms.map_or(budget_ms, |timeout| timeout.min(budget_ms)),
        tokens: lowest(wanted.tokens, ceiling.tokens),
        retrievals: lowest(wanted.retrievals, ceiling.retrievals),
        ..Limits::default()
    };
    let Asked { query, filter, k, .. } = asked;
    let request = Request { query, k, filter, seed: wanted.seed, options: wanted.params.clone() };
    let cancel = CancelToken::new();
    let _guard = CancelOnDrop(cancel.clone());
    let host = app.engine.host();
    let observer = match &mut recorder {
        Some(recorder) => Some(recorder.run(observer)),
        None => observer,
    };
    let outcome = host.search(&strategy, request, &services, &limits, cancel, observer).await;
    app.metrics.search(&outcome);
    if let Some(recorder) = recorder {
        recorder.finish(&outcome);
    }
    if let Some(key) = key {
        key.count_tokens(outcome.cost.tokens_prefilled + outcome.cost.tokens_decoded);
    }
    if let Some(Degraded { kind: DegradedKind::BadRequest, reason }) = &outcome.degraded {
        return Err(ApiError::illegal(format!("adaptive: {reason}")));
    }
    Ok(outcome)
}

/// Whether a budget ran out before the strategy was done, or the plain ranking stands in.
pub fn is_partial(outcome: &Outcome) -> bool {
    let mut errors = outcome.trace.calls.iter().filter_map(|call| call.error.as_deref());
    let ran_out = errors.any(|error| error.starts_with("budget exhausted"));
    // A strategy that ends before its budget does says so itself.
    let stopped = outcome.options.iter().find(|option| option.name == "stopped");
    ran_out || stopped.is_some_and(|option| option.value.starts_with("budget")) || outcome.degraded.is_some()
}

/// Whether a search has a text to start from and asks for nothing that an adaptive one cannot give.
pub fn fits(seen: &Seen, search: &SearchBody) -> bool {
    let meta = seen.collection.meta();
    let scope = Scope { mapping: &meta.mapping, searcher: &seen.searcher, weights: None };
    refuse_what_has_no_meaning(search).is_ok() && scope.text_and_filter(&search.query).is_ok()
}

/// Refuses, by name, what a ranking over lookups cannot give.
pub(super) fn refuse_what_has_no_meaning(search: &SearchBody) -> Result<(), ApiError> {
    let refused = if !search.sort.is_empty() || search.after.is_some() {
        Some("sort")
    } else if search.explain {
        Some("explain")
    } else if search.min_score.is_some() {
        Some("min_score")
    } else {
        None
    };
    if let Some(name) = refused {
        return Err(ApiError::illegal(format!("adaptive search: [{name}] is not supported")));
    }
    if (orion_host::MAX_RESULTS as usize) < search.from + search.size {
        let most = orion_host::MAX_RESULTS;
        return Err(ApiError::illegal(format!("adaptive search: from + size: expected at most {most}")));
    }
    Ok(())
}

fn reply(
    seen: &Seen,
    search: &SearchBody,
    outcome: &Outcome,
    trace: bool,
    started: Instant,
    split: Option<&SplitRetriever>,
) -> Result<Value, ApiError> {
    let hits = ranked_hits(seen, search, &outcome.ranking, split)?;
    let max_score = outcome.ranking.first().map(|hit| hit.score);
    let mut reply = envelope(started, outcome.ranking.len() as u64, max_score, hits, search.total);
    let is_late = outcome.degraded.as_ref().is_some_and(|degraded| degraded.kind == DegradedKind::Deadline);
    let out_of_time = outcome
        .trace
        .calls
        .iter()
        .any(|call| call.error.as_deref() == Some("budget exhausted: milliseconds"));
    reply["timed_out"] = json!(is_late || out_of_time);
    let degraded =
        outcome.degraded.as_ref().map(|degraded| json!({ "kind": degraded.kind, "reason": degraded.reason }));
    let mut adaptive = json!({
        "strategy": outcome.trace.strategy,
        "cost": outcome.cost,
        "confidence": outcome.confidence,
        "degraded": degraded,
        "partial": is_partial(outcome),
    });
    if split.is_none() && seen.searcher.client_half().is_some() {
        adaptive["note"] = json!(format!("{OWN_VECTORS}: searched by words"));
    }
    if trace {
        adaptive["tree"] = json!(outcome.trace);
        adaptive["call_ms"] = json!(outcome.call_ms);
    }
    if let Some(split) = split {
        let reasons = split.notes.reasons();
        if !reasons.is_empty() {
            adaptive["partial"] = json!(true);
            adaptive["backends"] = json!(reasons);
        }
        elsewhere::mark(&mut reply, split);
    }
    reply["ext"] = json!({ "adaptive": adaptive });
    Ok(reply)
}
