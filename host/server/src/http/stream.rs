//! `POST /INDEX/_search/stream`: the tree as it grows, then the answer, as server-sent events.
//!
//! The search runs as a task of its own and never waits for the client: branches that changed are kept by number, the
//! newest state of each, until the client takes them.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Response, header},
};
use futures_util::stream;
use orion_host::Branch;
use serde_json::Value;
use tokio::{
    sync::Notify,
    task::{AbortHandle, JoinHandle},
};

use super::{
    adaptive,
    app::App,
    call::Call,
    error::ApiError,
    pipelines,
    reply::{Answer, Reply},
    search::{Seen, body::SearchBody},
};

/// A comment is sent this often, so that nothing between client and server gives the connection up.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Parameters of a stream.
pub const PARAMETERS: &[&str] = &["search_pipeline"];

/// What the search has said and the client has not taken yet.
#[derive(Default)]
struct Feed {
    branches: Mutex<BTreeMap<u32, Branch>>,
    news: Notify,
}

impl Feed {
    fn take(&self) -> Option<Branch> {
        self.branches.lock().unwrap_or_else(PoisonError::into_inner).pop_first().map(|(_, branch)| branch)
    }
}

/// The events of one search; dropping it ends the search.
struct Events {
    feed: Arc<Feed>,
    search: Option<JoinHandle<Result<Value, ApiError>>>,
    /// Apart from the handle, which is away while it is waited for.
    abort: AbortHandle,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

fn event(name: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

impl Events {
    /// The next piece of the stream; `None` after the last.
    async fn next(&mut self) -> Option<Bytes> {
        let mut search = self.search.take()?;
        loop {
            if let Some(branch) = self.feed.take() {
                self.search = Some(search);
                return Some(event("branch", &serde_json::json!(branch).to_string()));
            }
            let done = tokio::select! {
                biased;
                () = self.feed.news.notified() => continue,
                done = &mut search => done,
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    self.search = Some(search);
                    return Some(Bytes::from_static(b": still searching\n\n"));
                }
            };
            if let Some(branch) = self.feed.take() {
                // The last branches first; the result is asked for again, so it is put where it is found.
                self.search = Some(tokio::spawn(std::future::ready(flattened(done))));
                return Some(event("branch", &serde_json::json!(branch).to_string()));
            }
            return Some(match flattened(done) {
                Ok(reply) => event("result", &reply.to_string()),
                Err(error) => event("error", &error.body().to_string()),
            });
        }
    }
}

fn flattened(done: Result<Result<Value, ApiError>, tokio::task::JoinError>) -> Result<Value, ApiError> {
    done.unwrap_or_else(|failure| Err(ApiError::fault(format!("the search did not end: {failure}"))))
}

/// The handler; what can be refused beforehand is answered as any other request is.
pub async fn search(app: &Arc<App>, call: Call, index: &str) -> Answer {
    let body = call.needed_object()?;
    let search = SearchBody::parse(&body, &call)?;
    let seen = match &search.pit {
        Some(_) => return Err(ApiError::illegal("[index] cannot be used with point in time")),
        None => Seen::now(app.one_collection(index)?),
    };
    let pipeline = pipelines::chosen(app, call.parameter("search_pipeline"), &seen.collection)?;
    let wanted = search.adaptive.clone().or_else(|| pipeline.and_then(|pipeline| pipeline.adaptive.clone()));
    let Some(mut wanted) = wanted else {
        return Err(ApiError::illegal("expected [ext.adaptive] or a pipeline with an adaptive processor"));
    };
    wanted.trace = true;
    let feed = Arc::new(Feed::default());
    let (told, shared) = (Arc::clone(&feed), Arc::clone(app));
    let observer: orion_host::BranchObserver = Arc::new(move |branch: &Branch| {
        told.branches.lock().unwrap_or_else(PoisonError::into_inner).insert(branch.branch, branch.clone());
        told.news.notify_one();
    });
    let task = tokio::spawn(async move {
        adaptive::search(&shared, &call, &seen, &search, &wanted, Some(observer)).await
    });
    let events = Events { feed, abort: task.abort_handle(), search: Some(task) };
    let pieces = stream::unfold(events, |mut events| async move {
        events.next().await.map(|piece| (Ok::<Bytes, Infallible>(piece), events))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(Reply::Whole(response))
}
