//! The Model Context Protocol: search, adaptive search and documents as tools of other people's agents.
//!
//! The protocol itself is the official SDK's; here are the tools. They go through the same bounds, budgets, counters and
//! keys as requests in OpenSearch's conventions, and end as those do: a call that is cancelled, or whose client goes,
//! drops its search, which stops the guest and frees the model. Neighbours: [`tools`] says what arguments and results
//! look like, [`transport`] how calls come in.

pub mod tools;
pub mod transport;

use std::sync::{Arc, atomic::Ordering};

use opentelemetry::Context;
use orion_host::{BranchObserver, index::Filter};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, JsonObject,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities, ServerConfig,
        Tool,
    },
    service::RequestContext,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::watch;

use self::{
    tools::{Adaptive, AdaptiveSearch, Document, FetchDocument, Name, Plain, Search, cut_texts},
    transport::Caller,
};
use crate::http::{
    adaptive::{self, Asked, Over, Wanted},
    app::App,
    collection::Collection,
    elsewhere,
    error::ApiError,
    keys::Key,
    search::Seen,
    spans,
};

/// Indexes that the instructions name; a client with more knows what it looks for.
const NAMED_INDEXES: usize = 50;
/// Most documents of one result: more than an agent can read.
const MOST_DOCUMENTS: u32 = 100;
/// Longest piece of a document's text that is handed out unless asked for more, in characters.
const DOCUMENT_CHARS: usize = 50_000;

/// The tools, over everything that is served.
#[derive(Clone)]
pub struct Tools {
    app: Arc<App>,
}

/// Counts a call at work, however it ends.
struct Running<'a>(&'a App);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.metrics.mcp_running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// On whose account a call is, and what it is part of, elsewhere.
type Who = (Option<Arc<Key>>, Context);

/// How far a search is: branches so far, and what the newest asks.
type Progress = (f64, String);

impl Tools {
    /// Tools over a server's state.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// The index of that name, or the only one, as it is now.
    async fn seen(&self, index: Option<String>) -> Result<Seen, ApiError> {
        let app = Arc::clone(&self.app);
        self.app
            .blocking(move || {
                app.follow(index.as_deref())?;
                Ok(Seen::now(one_collection(&app, index.as_deref())?))
            })
            .await
    }

    async fn call(
        &self,
        name: Name,
        arguments: JsonObject,
        who: &Who,
        told: watch::Sender<Progress>,
    ) -> Result<Value, ApiError> {
        let before = self.app.metrics.mcp_running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(&self.app);
        let most = self.app.config().bounds.requests;
        if most <= before {
            return Err(ApiError::overloaded(format!("rejected execution: {most} calls are at work")));
        }
        match name {
            Name::Search => whole(&self.search(read(name, arguments)?, who).await?),
            Name::AdaptiveSearch => whole(&self.adaptive(read(name, arguments)?, who, told).await?),
            Name::FetchDocument => whole(&self.document(read(name, arguments)?).await?),
        }
    }

    async fn search(&self, search: Search, who: &Who) -> Result<Plain, ApiError> {
        let asked = asked(search.query, search.filter, search.k, who.1.clone())?;
        let seen = self.seen(search.index).await?;
        let strategy = search.mode.strategy();
        let wanted = Wanted {
            strategy: Some(strategy.to_owned()),
            policy: Some("none".to_owned()),
            seed: 1,
            ..Wanted::default()
        };
        let split = elsewhere::retriever(&self.app, &seen)?;
        let over = Over { seen: &seen, split: split.as_ref() };
        let outcome = adaptive::answer(&self.app, who.0.as_ref(), over, asked, &wanted, None).await?;
        self.app.blocking(move || Plain::new(&seen, split.as_ref(), search.mode, &outcome)).await
    }

    async fn adaptive(
        &self,
        search: AdaptiveSearch,
        who: &Who,
        told: watch::Sender<Progress>,
    ) -> Result<Adaptive, ApiError> {
        let asked = asked(search.query, search.filter, search.k, who.1.clone())?;
        let seen = self.seen(search.index).await?;
        let budget = search.budget.unwrap_or_default();
        let numbers = [("turns", search.turns), ("beam", search.beam)];
        let given =
            numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_string())));
        let wanted = Wanted {
            strategy: search.strategy,
            params: given.collect(),
            ms: budget.ms,
            tokens: budget.tokens,
            retrievals: budget.retrievals,
            seed: search.seed.unwrap_or(1),
            ..Wanted::default()
        };
        let observer: BranchObserver = Arc::new(move |branch| {
            told.send_modify(|(steps, message)| {
                *steps += 1.0;
                *message = format!("turn {}: {}", branch.turn, branch.query);
            });
        });
        let split = elsewhere::retriever(&self.app, &seen)?;
        let over = Over { seen: &seen, split: split.as_ref() };
        let outcome =
            adaptive::answer(&self.app, who.0.as_ref(), over, asked, &wanted, Some(observer)).await?;
        self.app.blocking(move || Adaptive::new(&seen, split.as_ref(), &outcome)).await
    }

    async fn document(&self, fetch: FetchDocument) -> Result<Document, ApiError> {
        let seen = self.seen(fetch.index).await?;
        let longest = fetch.max_chars.map_or(DOCUMENT_CHARS, |chars| chars as usize);
        self.app
            .blocking(move || {
                let index = seen.collection.name.clone();
                let kept = seen.collection.get(&fetch.id)?.ok_or_else(|| {
                    ApiError::illegal(format!("index [{index}] has no document [{}]", fetch.id))
                })?;
                let mut document = Value::Object(kept.object());
                let cut = cut_texts(&mut document, longest);
                Ok(Document { index, id: fetch.id, document, cut })
            })
            .await
    }

    fn instructions(&self) -> String {
        let mut text = String::from(
            "Search over indexes of documents. `search` looks once, in milliseconds. `adaptive_search` lets a small \
             model search, read what came back and search again, in about a second; use it where `search` found \
             nothing that fits. Both return ids with snippets; `fetch_document` returns a whole document. Filters \
             look like `year >= 2019 AND lang:en` over an index's metadata.",
        );
        let collections = self.app.all_collections();
        if !collections.is_empty() {
            text.push_str(" Indexes now:");
        }
        for collection in collections.iter().take(NAMED_INDEXES) {
            let searcher = collection.searcher();
            let metadata: Vec<String> =
                searcher.metadata().iter().map(|(name, kind)| format!("{name} ({})", kind.name())).collect();
            text.push_str(&format!("\n- {}: {} documents", collection.name, searcher.len()));
            if !metadata.is_empty() {
                text.push_str(&format!(", metadata {}", metadata.join(", ")));
            }
        }
        text
    }
}

fn one_collection(app: &App, index: Option<&str>) -> Result<Arc<Collection>, ApiError> {
    let all = app.all_collections();
    let known = || {
        let names: Vec<&str> = all.iter().take(NAMED_INDEXES).map(|one| one.name.as_str()).collect();
        names.join(", ")
    };
    match index {
        Some(name) => app
            .find(name)
            .ok_or_else(|| ApiError::illegal(format!("no such index [{name}]; there are [{}]", known()))),
        None if all.len() == 1 => Ok(Arc::clone(&all[0])),
        None => Err(ApiError::illegal(format!("index: expected a name, since there are [{}]", known()))),
    }
}

fn asked(query: String, filter: Option<String>, k: Option<u32>, parent: Context) -> Result<Asked, ApiError> {
    let k = k.unwrap_or(10);
    if !(1..=MOST_DOCUMENTS).contains(&k) {
        return Err(ApiError::illegal(format!("k: expected 1 to {MOST_DOCUMENTS}, got {k}")));
    }
    if query.trim().is_empty() {
        return Err(ApiError::illegal("query: expected some text"));
    }
    if let Some(filter) = &filter {
        Filter::parse(filter)?;
    }
    Ok(Asked { query, filter, k, timeout_ms: None, parent })
}

fn read<T: DeserializeOwned>(name: Name, arguments: JsonObject) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(arguments))
        .map_err(|error| ApiError::illegal(format!("arguments of `{}`: {error}", name.name())))
}

fn whole<T: Serialize>(result: &T) -> Result<Value, ApiError> {
    serde_json::to_value(result).map_err(|error| ApiError::fault(format!("the result is no JSON: {error}")))
}

/// What an agent reads of a failed call: it can correct its arguments, or wait.
fn refusal(error: &ApiError) -> CallToolResult {
    let mut text = error.reason.clone();
    if let Some(seconds) = error.retry_after {
        text.push_str(&format!("; try again in {seconds} s"));
    }
    CallToolResult::error(vec![ContentBlock::text(text)])
}

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("orion", env!("CARGO_PKG_VERSION")))
            .with_instructions(self.instructions())
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        Name::parse(name).map(Name::tool)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(Name::ALL.into_iter().map(Name::tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(name) = Name::parse(&request.name) else {
            return Err(ErrorData::invalid_params(format!("there is no tool `{}`", request.name), None));
        };
        let parts = context.extensions.get::<axum::http::request::Parts>();
        let caller = parts.and_then(|parts| parts.extensions.get::<Caller>());
        let who: Who = (
            caller.and_then(|caller| caller.0.clone()),
            parts.map(|parts| spans::parent(&parts.headers)).unwrap_or_default(),
        );
        let (told, mut heard) = watch::channel((0.0, String::new()));
        let telling = async {
            // Without a token nobody wants to hear of progress.
            if let Some(token) = context.meta.get_progress_token() {
                while heard.changed().await.is_ok() {
                    let (steps, message) = heard.borrow_and_update().clone();
                    let news = ProgressNotificationParam::new(token.clone(), steps).with_message(message);
                    if context.peer.notify_progress(news).await.is_err() {
                        break;
                    }
                }
            }
            std::future::pending().await
        };
        let answer = tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                self.app.metrics.mcp_call(name.name(), "cancelled");
                return Err(ErrorData::internal_error("the call was cancelled", None));
            }
            answer = self.call(name, request.arguments.unwrap_or_default(), &who, told) => answer,
            never = telling => never,
        };
        let result = match answer {
            Ok(result) => {
                self.app.metrics.mcp_call(name.name(), "ok");
                CallToolResult::structured(result)
            }
            Err(error) => {
                self.app.metrics.mcp_call(name.name(), "error");
                refusal(&error)
            }
        };
        Ok(CallToolResponse::from(result))
    }
}
