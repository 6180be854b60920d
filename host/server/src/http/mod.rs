//! `orion serve`: the operators' HTTP server, in OpenSearch's conventions.
//!
//! `routes.rs` says which handler answers what; `app.rs` is what they share; `collection.rs` and `writing.rs` own one
//! index each; `search/` is the query language; `adaptive.rs` puts strategies behind it. Work that computes or reads
//! files runs on blocking threads, everything that waits has a bound, and an error has OpenSearch's shape.
//! Neighbours: [`crate::engine`] holds strategies, policies and the encoder.

pub mod adaptive;
pub mod app;
pub mod bulk;
pub mod call;
pub mod collection;
pub mod config;
pub mod cursors;
pub mod documents;
pub mod elsewhere;
pub mod entry;
pub mod error;
pub mod health;
pub mod indices;
pub mod keys;
mod logs;
pub mod mapping;
pub mod metrics;
pub mod openapi;
pub mod persist;
pub mod pipelines;
mod plugins;
pub mod reply;
pub mod repositories;
mod route_table;
pub mod routes;
pub mod search;
mod signals;
pub mod snapshots;
pub mod spans;
pub mod stream;
mod tls;
pub mod ui;
pub mod vectors;
mod writing;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use orion_host::HostOptions;

use crate::{
    Verdict,
    commands::Session,
    engine::Engine,
    failure::{Explain, Failure},
    http::{app::App, config::Config},
    places::Places,
};

pub(crate) use search::is_like as search_fits;

/// Milliseconds since 1970: shown to clients and part of cursors' ids, never of a ranking.
#[expect(clippy::disallowed_methods, reason = "told to clients, in no result")]
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The state to serve from, with no index opened yet.
fn prepared(config: Config, mut session: Session, only_tools: bool) -> Result<Arc<App>, Failure> {
    if let Some(data) = &config.data {
        session.places = session.places.with_data(data.clone());
    }
    // It lives as long as the process, which serves until it ends.
    let session: &'static Session = Box::leak(Box::new(session));
    let data = session.places.data().to_owned();
    std::fs::create_dir_all(&data).attempt(format!("creating `{}`", data.display()))?;
    let options =
        HostOptions { concurrent_searches: config.bounds.adaptive_searches as u32, ..HostOptions::default() };
    let engine = Engine::with_host(session, &[], options)?;
    if engine.encoder()?.is_none() {
        let (place, hint) = (session.places.minilm(), Places::models_hint());
        tracing::warn!(
            "there is no dense encoder in `{}`: searches are lexical only; {hint}",
            place.display()
        );
    }
    let (catalog, cache) = (session.places.catalog()?, session.places.embedding_cache());
    Ok(Arc::new(App::new(engine, config, data, catalog, cache, only_tools)?))
}

fn threads() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().attempt("starting the server's threads")
}

fn acceptor(config: &Config) -> Result<Option<tokio_rustls::TlsAcceptor>, Failure> {
    config.tls.as_ref().map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()
}

/// Reads what TLS needs, as serving would.
pub fn check_tls(config: &Config) -> Result<(), Failure> {
    acceptor(config).map(drop)
}

/// Serves until a signal ends it. `file` is read again on SIGHUP. With `only_tools` nothing but the tools of
/// [`crate::mcp`] and health checks is answered.
pub fn serve(
    config: Config,
    file: Option<PathBuf>,
    session: Session,
    only_tools: bool,
) -> Result<Verdict, Failure> {
    let log = logs::start(&config);
    let tls = acceptor(&config)?;
    let app = prepared(config, session, only_tools)?;
    let runtime = threads()?;
    let served = runtime.block_on(run(&app, tls, file, &log));
    app.stop();
    if let Some(spans) = &app.spans {
        spans.stop();
    }
    // Work that still runs was given its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    served.map(|()| Verdict::Answered)
}

/// Offers the tools of [`crate::mcp`] on standard input and output until the input ends.
pub fn serve_tools(config: Config, session: Session) -> Result<Verdict, Failure> {
    logs::start(&config);
    let app = prepared(config, session, true)?;
    app.open_indexes()?;
    let runtime = threads()?;
    let served = runtime.block_on(crate::mcp::transport::stdio(&app));
    app.stop();
    runtime.shutdown_timeout(Duration::from_millis(100));
    served.map(|()| Verdict::Answered)
}

async fn run(
    app: &Arc<App>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    file: Option<PathBuf>,
    log: &logs::Level,
) -> Result<(), Failure> {
    let config = app.config();
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .attempt(format!("listening on {}", config.listen))?;
    let address = listener.local_addr().attempt("asking for the server's own address")?;
    let router = router(app);
    let (mut signals, ended) = signals::Signals::start()?;
    let listener = tls::Accepting::start(listener, tls, config.bounds.connections as usize);
    let server = axum::serve(listener, router).with_graceful_shutdown(ended);
    let mut server = tokio::spawn(async move { server.await });
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    tracing::info!(address = %address, "listening on {scheme}://{address}");
    let opening = Arc::clone(app);
    let every_ms = config.watch_plugins_ms;
    let opened = tokio::task::spawn_blocking(move || {
        opening.open_indexes()?;
        plugins::Watch::start(&opening, every_ms)
    });
    let watch = Arc::new(Mutex::new(opened.await.attempt("opening indexes")??));
    tracing::info!(indexes = app.all_collections().len(), "ready");
    while let Some(signal) = signals.next().await {
        match signal {
            signals::Signal::Reload => {
                let (app, file, log) = (Arc::clone(app), file.clone(), log.clone());
                let watch = Arc::clone(&watch);
                // It may compile plugins.
                let reloaded = tokio::task::spawn_blocking(move || {
                    reload(&app, file.as_ref(), &log, &watch);
                });
                reloaded.await.attempt("reading the configuration again")?;
            }
            signals::Signal::End => break,
        }
    }
    app.ready.store(false, std::sync::atomic::Ordering::Release);
    tracing::info!("draining");
    let drain = Duration::from_millis(app.config().bounds.drain_ms);
    match tokio::time::timeout(drain, &mut server).await {
        Ok(ended) => ended.attempt("serving")?.attempt("serving"),
        Err(_) => {
            tracing::warn!("requests still ran when their time was over");
            server.abort();
            Ok(())
        }
    }
}

/// Everything that is served; pages of other modules are merged here.
fn router(app: &Arc<App>) -> Router {
    Router::new().merge(ui::routes()).fallback(entry::handle).with_state(Arc::clone(app))
}

fn reload(app: &App, file: Option<&PathBuf>, log: &logs::Level, watch: &Mutex<plugins::Watch>) {
    let Some(file) = file else { return };
    match Config::read(file) {
        Ok(config) => {
            log.set(&config);
            let every_ms = config.watch_plugins_ms;
            app.reconfigure(config);
            plugins::look(app);
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(failure) = watch.adapt(app, every_ms) {
                tracing::error!("{}", failure.causes().join(": "));
            }
            tracing::info!("configuration read again");
        }
        Err(failure) => tracing::error!("configuration stays as it was: {}", failure.causes().join(": ")),
    }
}
