//! What the sandbox costs: compiling, loading, starting, calling; beside bare wasmtime calls of the same component.
//!
//! `cargo run --release -p orion-host --example bench_host -- COMPONENT`, where COMPONENT is any strategy that answers
//! a query with one retrieval (`lexical`). Prints one JSON line a measurement: name, median and 99th percentile in
//! microseconds, and the number of repetitions.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use orion_host::contract::{Document, Hit, Query};
use orion_host::{
    BoxFuture, CancelToken, Host, HostOptions, Limits, Request, Retrieve, ServiceError, Services,
};

/// Answers at once, so that what is measured is the host.
struct Instantly;

impl Retrieve for Instantly {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        let hit = |place: u32| Hit { id: format!("d{place}"), score: -(place as f32) };
        let rankings = queries.iter().map(|query| (0..query.k).map(hit).collect()).collect();
        Box::pin(std::future::ready(Ok(rankings)))
    }

    fn documents(
        &self,
        ids: Vec<String>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Box::pin(std::future::ready(Ok(vec![None; ids.len()])))
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Box::pin(std::future::ready(Ok(vec![0.0; pairs.len()])))
    }
}

fn measure(name: &str, repetitions: usize, mut work: impl FnMut()) {
    let mut micros: Vec<f64> = (0..repetitions)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    let (median, p99) = (micros[repetitions / 2], micros[repetitions * 99 / 100]);
    println!(r#"{{"name":"{name}","median_us":{median:.2},"p99_us":{p99:.2},"repetitions":{repetitions}}}"#);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("expected the path of a component".into());
    };
    let bytes = std::fs::read(&path)?;
    let host = Host::new(HostOptions::default())?;
    measure("compile", 10, || drop(host.load_bytes("bench", &bytes)));

    let folder = std::env::temp_dir().join(format!("orion-bench-{}", std::process::id()));
    let cached = Host::new(HostOptions { cache_folder: Some(folder.clone()), ..HostOptions::default() })?;
    let strategy = cached.load_bytes("bench", &bytes)?;
    measure("load-compiled", 100, || drop(cached.load_bytes("bench", &bytes)));
    std::fs::remove_dir_all(&folder)?;

    let services = Services::retrieval_only(Arc::new(Instantly));
    let limits = Limits::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    for k in [1, 10, 100] {
        measure(&format!("search-one-retrieval-k{k}"), 10_000, || {
            let request = Request::new("a query of some words", k);
            let search = cached.search(&strategy, request, &services, &limits, CancelToken::new());
            let outcome = runtime.block_on(search);
            assert_eq!(outcome.degraded, None);
        });
    }
    bare(&path)
}

/// The peer: the same component, its imports answered by stubs, with neither limits nor trace.
fn bare(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    use wasmtime::component::{Component, Linker, Val};
    use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
    let failed = |error: wasmtime::Error| format!("{error:#}");
    for metered in [false, true] {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
        config.consume_fuel(metered).epoch_interruption(metered).concurrency_support(false);
        let engine = Engine::new(&config).map_err(failed)?;
        let label = if metered { "bare-metered" } else { "bare" };
        let bytes = std::fs::read(path)?;
        measure(&format!("{label}-compile"), 10, || drop(Component::from_binary(&engine, &bytes)));
        let component = Component::from_binary(&engine, &bytes).map_err(failed)?;
        let mut linker = Linker::<()>::new(&engine);
        linker.define_unknown_imports_as_traps(&component).map_err(failed)?;
        let pre = linker.instantiate_pre(&component).map_err(failed)?;
        let start = || {
            let mut store = Store::new(&engine, ());
            if metered {
                let _ = store.set_fuel(u64::MAX / 2);
                store.set_epoch_deadline(u64::MAX / 2);
            }
            let instance = pre.instantiate(&mut store);
            instance.map(|instance| (store, instance))
        };
        measure(&format!("{label}-instantiate"), 10_000, || drop(start()));
        measure(&format!("{label}-instantiate-describe"), 10_000, || {
            let Ok((mut store, instance)) = start() else { return };
            let Some(describe) = instance.get_func(&mut store, "describe") else { return };
            let mut results = [Val::Bool(false)];
            assert!(describe.call(&mut store, &[], &mut results).is_ok());
        });
    }
    Ok(())
}
