//! What the sandbox costs: compiling, loading, starting, calling; beside bare wasmtime calls of the same component.
//!
//! ```text
//! cargo build -p orion-hostile-guest --profile plugin --target wasm32-unknown-unknown
//! cargo run --release -p orion-host --example bench_host -- target/wasm32-unknown-unknown/plugin/orion_hostile_guest.wasm
//! ```
//!
//! Prints one JSON line a measurement: name, median and 99th percentile in microseconds, and the number of repetitions.
//! The guest is the tests' own: polite, it looks one query up; told to flood, it does nothing but call the host, which
//! gives the price of one call.
use std::path::PathBuf;
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

/// Host calls of one flood, so many that starting and stopping the guest do not count.
const CALLS: u64 = 100_000;

fn measure(name: &str, repetitions: usize, work: impl FnMut()) {
    measure_each(name, repetitions, 1.0, work);
}

/// As [`measure`], where one `work` does `parts` of what is measured.
fn measure_each(name: &str, repetitions: usize, parts: f64, mut work: impl FnMut()) {
    let mut micros: Vec<f64> = (0..repetitions)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed().as_secs_f64() * 1e6 / parts
        })
        .collect();
    micros.sort_by(f64::total_cmp);
    let (median, p99) = (micros[repetitions / 2], micros[repetitions * 99 / 100]);
    println!(r#"{{"name":"{name}","median_us":{median:.3},"p99_us":{p99:.3},"repetitions":{repetitions}}}"#);
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("expected the path of the hostile guest's core module".into());
    };
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(&std::fs::read(&path)?)?;
    let component = encoder.encode()?;
    let host = Host::new(HostOptions::default())?;
    measure("compile", 10, || drop(host.load_bytes("bench", &component)));

    let folder = std::env::temp_dir().join(format!("orion-bench-{}", std::process::id()));
    let options =
        HostOptions { cache_folder: Some(folder.clone()), breaker_failures: 0, ..HostOptions::default() };
    let cached = Host::new(options)?;
    let strategy = cached.load_bytes("bench", &component)?;
    measure("load-compiled", 100, || drop(cached.load_bytes("bench", &component)));
    std::fs::remove_dir_all(&folder)?;

    let services = Services::retrieval_only(Arc::new(Instantly));
    let limits = Limits { host_calls: CALLS, ..Limits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let search = |k: u32, behaviour: &str| {
        let options = vec![("behaviour".to_owned(), behaviour.to_owned())];
        let request = Request { options, ..Request::new("a query of some words", k) };
        runtime.block_on(cached.search(&strategy, request, &services, &limits, CancelToken::new(), None))
    };
    measure("search-that-gives-up-at-once", 10_000, || drop(search(10, "give_up")));
    measure("search-with-one-retrieval", 10_000, || assert_eq!(search(10, "polite").degraded, None));
    measure_each("host-call", 20, CALLS as f64, || {
        assert!(search(10, "flood_host_calls").degraded.is_some())
    });
    bare::measure_all(&component)
}

/// The peer: the same component in wasmtime alone; its imports are stubs, nothing is limited, noted or fused.
mod bare {
    use super::{CALLS, measure, measure_each};
    use wasmtime::component::{Component, ComponentType, Linker, Lower, Val};
    use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

    #[derive(ComponentType, Lower, Clone, Copy)]
    #[component(record)]
    struct Remaining {
        retrievals: u64,
        tokens: u64,
        nodes: u64,
        milliseconds: u64,
    }

    pub(crate) fn measure_all(component: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        for is_metered in [false, true] {
            run(component, is_metered).map_err(|error| format!("{error:#}"))?;
        }
        Ok(())
    }

    fn run(bytes: &[u8], is_metered: bool) -> wasmtime::Result<()> {
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(PoolingAllocationConfig::new()));
        config.consume_fuel(is_metered).epoch_interruption(is_metered).concurrency_support(false);
        let engine = Engine::new(&config)?;
        let label = if is_metered { "bare-metered" } else { "bare" };
        measure(&format!("{label}-compile"), 10, || drop(Component::from_binary(&engine, bytes)));
        let component = Component::from_binary(&engine, bytes)?;
        let mut linker = Linker::<u64>::new(&engine);
        linker.define_unknown_imports_as_traps(&component)?;
        linker.allow_shadowing(true);
        linker.instance("orion:search/budget@0.1.0")?.func_wrap("left", |mut store, (): ()| {
            *store.data_mut() += 1;
            if *store.data() >= CALLS {
                return Err(std::fmt::Error.into());
            }
            Ok((Remaining { retrievals: 1, tokens: 1, nodes: 1, milliseconds: 1 },))
        })?;
        let pre = linker.instantiate_pre(&component)?;
        let start = || -> wasmtime::Result<_> {
            let mut store = Store::new(&engine, 0);
            if is_metered {
                store.set_fuel(u64::MAX / 2)?;
                store.set_epoch_deadline(u64::MAX / 2);
            }
            let instance = pre.instantiate(&mut store)?;
            Ok((store, instance))
        };
        let search = |behaviour: &str| -> wasmtime::Result<()> {
            let (mut store, instance) = start()?;
            let Some(function) = instance.get_func(&mut store, "search") else { return Ok(()) };
            let text = |text: &str| Val::String(text.to_owned());
            let option = Val::Record(vec![
                ("name".to_owned(), text("behaviour")),
                ("value".to_owned(), text(behaviour)),
            ]);
            let request = Val::Record(vec![
                ("query".to_owned(), text("a query of some words")),
                ("k".to_owned(), Val::U32(10)),
                ("filter".to_owned(), Val::Option(None)),
                ("seed".to_owned(), Val::U64(0)),
                ("options".to_owned(), Val::List(vec![option])),
            ]);
            function.call(&mut store, &[request], &mut [Val::Bool(false)])
        };
        measure(&format!("{label}-instantiate"), 10_000, || drop(start()));
        measure(&format!("{label}-search-that-gives-up-at-once"), 10_000, || {
            assert!(search("give_up").is_ok())
        });
        measure_each(&format!("{label}-host-call"), 20, CALLS as f64, || {
            assert!(search("flood_host_calls").is_err());
        });
        Ok(())
    }
}
