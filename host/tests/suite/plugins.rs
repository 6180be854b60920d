//! A plugin directory: loading, exchange under load, refusals that leave the old version, counters and breakers.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::common::{
    FakeRetrieve, component_from_text, hits, hostile_component, options, services, text_guest,
};
use orion_host::contract::{Document, Query, Retriever};
use orion_host::{
    BoxFuture, BreakerState, CancelToken, Change, DegradedKind, DirectoryOptions, Hit, Host, HostOptions,
    Limits, Outcome, PluginDirectory, Request, Retrieve, ServiceError, Services, Strategy,
};
use tokio::sync::Semaphore;

/// A component that calls itself `name` (of ten letters) and answers with its `version` (of three).
fn versioned(name: &str, version: &str) -> Vec<u8> {
    assert_eq!((name.len(), version.len()), (10, 3));
    // An outcome at 256: no error, empty ranking, confidence NaN, one option at 320: texts at 400 and 420.
    let data = format!(
        r#"(data (i32.const 256) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\c0\7f\40\01\00\00\01\00\00\00")
           (data (i32.const 320) "\90\01\00\00\07\00\00\00\a4\01\00\00\03\00\00\00")
           (data (i32.const 400) "version") (data (i32.const 420) "{version}")"#
    );
    component_from_text(&text_guest(&data, "i32.const 64", "i32.const 256").replace("text-guest", name))
}

fn host() -> Host {
    Host::new(HostOptions { breaker_failures: 2, breaker_ms: 3_600_000, ..options() }).expect("a host")
}

/// A folder of plugins.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as an operator's tools should: whole, then renamed.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let draft = self.path().join(format!(".{name}.draft"));
        std::fs::write(&draft, content).expect("written");
        std::fs::rename(draft, self.path().join(name)).expect("renamed");
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("removed");
    }

    fn put(&self, name: &str, component: &[u8], rest: &str) {
        self.write(&format!("{name}.wasm"), component);
        self.write(&format!("{name}.toml"), manifest(name, rest));
    }

    fn directory(&self) -> PluginDirectory {
        PluginDirectory::new(DirectoryOptions {
            folder: self.path().to_owned(),
            trusted_keys: None,
            locked: false,
        })
    }
}

fn manifest(name: &str, rest: &str) -> String {
    format!("name = \"{name}\"\ncomponent = \"{name}.wasm\"\ncontract = \"0.1\"\n{rest}")
}

fn search(host: &Host, strategy: &Strategy) -> Outcome {
    let (cancel, limits) = (CancelToken::new(), Limits::unhurried());
    host.search_blocking(strategy, Request::new("q", 3), &services(&cancel), &limits, cancel)
}

/// The version that answered.
#[track_caller]
fn answered(outcome: &Outcome) -> &str {
    assert_eq!(outcome.degraded, None);
    let [option] = outcome.options.as_slice() else { panic!("{:?}", outcome.options) };
    assert_eq!(option.name, "version");
    &option.value
}

#[track_caller]
fn refresh(directory: &PluginDirectory, host: &Host) -> Vec<Change> {
    directory.refresh(host).expect("the folder can be read")
}

#[test]
fn a_plugin_is_loaded_replaced_and_retired() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    assert_eq!(refresh(&directory, &host), []);
    folder.put("plugin-one", &versioned("plugin-one", "001"), "");
    let changes = refresh(&directory, &host);
    let [Change::Loaded { name, version: first }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!(name, "plugin-one");
    let old = directory.strategy("plugin-one").expect("it serves");
    assert_eq!((old.version(), answered(&search(&host, &old))), (first.as_str(), "001"));
    // Nothing changed: nothing is said, and the second look settles the stamps.
    assert_eq!((refresh(&directory, &host), refresh(&directory, &host)), (vec![], vec![]));

    folder.put("plugin-one", &versioned("plugin-one", "002"), "");
    let replaced = refresh(&directory, &host);
    let [Change::Replaced { from, to, .. }] = replaced.as_slice() else { panic!("{replaced:?}") };
    assert_eq!((from, to.len()), (first, 64));
    let new = directory.strategy("plugin-one").expect("it serves");
    // Whoever holds the old version keeps it.
    assert_eq!((answered(&search(&host, &new)), answered(&search(&host, &old))), ("002", "001"));

    // A manifest alone makes another version, too.
    folder.write("plugin-one.toml", manifest("plugin-one", "[limits]\nfuel = 5\n"));
    assert!(matches!(refresh(&directory, &host).as_slice(), [Change::Replaced { .. }]));
    let starved = directory.strategy("plugin-one").expect("it serves");
    assert_eq!(search(&host, &starved).degraded.map(|degraded| degraded.kind), Some(DegradedKind::Fuel));

    folder.remove("plugin-one.toml");
    assert_eq!(refresh(&directory, &host), [Change::Retired { name: "plugin-one".to_owned() }]);
    assert!(directory.strategy("plugin-one").is_none());
    assert_eq!(answered(&search(&host, &old)), "001");
}

#[test]
fn a_broken_version_is_refused_and_the_old_one_stays() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    let good = versioned("plugin-one", "001");
    folder.put("plugin-one", &good, "");
    refresh(&directory, &host);
    let serving = directory.strategy("plugin-one").expect("it serves").version().to_owned();

    let foreign = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#);
    let trapping = component_from_text(&text_guest("", "unreachable", "unreachable"));
    let whole = manifest("plugin-one", "");
    let broken: [(&str, Option<Vec<u8>>, String, &str); 8] = [
        (
            "garbage",
            Some(b"no component".to_vec()),
            whole.clone(),
            "component `plugin-one`: expected a valid component: ",
        ),
        (
            "half",
            Some(good[..good.len() / 2].to_vec()),
            whole.clone(),
            "component `plugin-one`: expected a valid component: ",
        ),
        (
            "import",
            Some(foreign.expect("valid text")),
            whole.clone(),
            "component `plugin-one`: import `wasi:clocks/wall-clock@0.2.0` is not allowed",
        ),
        (
            "describe",
            Some(trapping),
            whole.clone(),
            "component `plugin-one`: could not describe itself: trap: ",
        ),
        ("name", Some(versioned("plugin-two", "002")), whole.clone(), "manifest `"),
        (
            "grants",
            Some(hostile_component().to_vec()),
            whole.clone(),
            "component `plugin-one`: import `orion:search/",
        ),
        ("missing", None, whole.clone(), "could not read component `"),
        ("manifest", Some(good.clone()), whole.replace("0.1", "9"), "manifest `"),
    ];
    for (case, component, manifest, expected) in broken {
        match component {
            Some(bytes) => folder.write("plugin-one.wasm", bytes),
            None => folder.remove("plugin-one.wasm"),
        }
        folder.write("plugin-one.toml", manifest);
        let changes = refresh(&directory, &host);
        let [Change::Refused { name, reason, serving: stays }] = changes.as_slice() else {
            panic!("{case}: {changes:?}")
        };
        assert_eq!((name.as_str(), stays.as_deref()), ("plugin-one", Some(serving.as_str())), "{case}");
        assert!(reason.starts_with(expected), "{case}: {reason}");
        // It stays visible and is neither tried nor reported again.
        assert_eq!(refresh(&directory, &host), [], "{case}");
        let plugins = directory.current();
        let shown = plugins["plugin-one"].refusal.as_ref().expect("it is refused").to_string();
        assert_eq!(shown, *reason, "{case}");
        let strategy = plugins["plugin-one"].strategy.clone().expect("the old one serves");
        assert_eq!(answered(&search(&host, &strategy)), "001", "{case}");
    }
    folder.put("plugin-one", &good, "");
    let back = Change::Loaded { name: "plugin-one".to_owned(), version: serving };
    assert_eq!(refresh(&directory, &host), [back]);
    assert!(directory.current()["plugin-one"].refusal.is_none());
}

#[test]
fn a_plugin_that_never_loaded_is_listed_with_its_reason() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    folder.write("other.toml", manifest("plugin-one", ""));
    folder.put("plugin-two", &versioned("plugin-two", "001"), "");
    let changes = refresh(&directory, &host);
    let [Change::Refused { reason, serving: None, .. }, Change::Loaded { .. }] = changes.as_slice() else {
        panic!("{changes:?}")
    };
    assert!(reason.ends_with("name: expected `other`, as its file is called, got `plugin-one`"), "{reason}");
    assert!(directory.strategy("other").is_none());
}

#[test]
fn a_folder_that_vanishes_retires_nothing() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    folder.put("plugin-one", &versioned("plugin-one", "001"), "");
    refresh(&directory, &host);
    std::fs::remove_dir_all(folder.path()).expect("removed");
    let failed = directory.refresh(&host).expect_err("there is no folder").to_string();
    assert!(failed.starts_with("could not list plugin folder `"), "{failed}");
    assert!(directory.strategy("plugin-one").is_some());
}

#[test]
fn under_load_every_answer_is_from_one_version_and_none_fails() {
    const SEARCHERS: usize = 4;
    const SWAPS: usize = 60;
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    let versions: Vec<(String, Vec<u8>)> = (1..=3)
        .map(|number| {
            let version = format!("{number:03}");
            let component = versioned("plugin-one", &version);
            (version, component)
        })
        .collect();
    folder.put("plugin-one", &versions[0].1, "");
    refresh(&directory, &host);
    // Which component each version is, learned while nothing moves.
    let mut components = BTreeMap::new();
    for (version, component) in &versions {
        let strategy = host.load_bytes("plugin-one", component).expect("it loads");
        components.insert(strategy.component_sha256().to_owned(), version.clone());
    }
    let (is_over, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        let searchers: Vec<_> = (0..SEARCHERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let strategy = directory.strategy("plugin-one").expect("one always serves");
                        let outcome = search(&host, &strategy);
                        let version = answered(&outcome).to_owned();
                        assert_eq!(components[&outcome.trace.component], version);
                        seen.insert(version);
                        answers.fetch_add(1, Ordering::Relaxed);
                    }
                    seen
                })
            })
            .collect();
        for swap in 1..=SWAPS {
            let before = answers.load(Ordering::Relaxed);
            folder.write("plugin-one.wasm", &versions[swap % versions.len()].1);
            let changes = refresh(&directory, &host);
            assert!(matches!(changes.as_slice(), [Change::Replaced { .. }]), "{changes:?}");
            // Searches run between any two swaps.
            while answers.load(Ordering::Relaxed) < before + SEARCHERS {
                assert!(!searchers.iter().any(|searcher| searcher.is_finished()), "a searcher gave up");
                std::thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for searcher in searchers {
            seen.extend(searcher.join().expect("every answer was whole"));
        }
    });
    assert_eq!(seen.len(), versions.len());
    let statistics = host.statistics();
    let calls: u64 = statistics.iter().map(|version| version.calls).sum();
    assert_eq!(calls, answers.load(Ordering::Relaxed) as u64);
    assert!(statistics.iter().all(|version| version.degraded.is_empty()));
}

/// Answers once it is allowed to; says when somebody waits.
struct Gate {
    waiting: mpsc::Sender<()>,
    allowed: Arc<Semaphore>,
}

impl Retrieve for Gate {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Box::pin(async move {
            let _ = self.waiting.send(());
            let permit = self.allowed.acquire().await;
            drop(permit);
            FakeRetrieve::default().search(queries).await
        })
    }

    fn documents(
        &self,
        _: Vec<String>,
        _: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn similarity(&self, _: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

/// The same component with one more custom section, so that its hash differs.
fn marked(component: &[u8], mark: u8) -> Vec<u8> {
    [component, &[0, 2, 1, mark]].concat()
}

const ALL: &str = "grants = [\"retrieval\", \"policy\", \"feedback\"]\n";

#[test]
fn a_search_in_flight_ends_with_the_version_it_began_with() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    folder.put("hostile", &marked(hostile_component(), b'a'), ALL);
    refresh(&directory, &host);
    let old = directory.strategy("hostile").expect("it serves");
    let allowed = Arc::new(Semaphore::new(0));
    let (waiting, waits) = mpsc::channel();
    let retrieve = Arc::new(Gate { waiting, allowed: allowed.clone() });
    let gated = Services { retrieve, generate: None, feedback: None };
    std::thread::scope(|scope| {
        let (host, strategy) = (&host, old.clone());
        let in_flight = scope.spawn(move || {
            let (cancel, limits) = (CancelToken::new(), Limits::unhurried());
            host.search_blocking(&strategy, Request::new("q", 3), &gated, &limits, cancel)
        });
        waits.recv().expect("the guest looks something up");
        folder.write("hostile.wasm", marked(hostile_component(), b'b'));
        assert!(matches!(refresh(&directory, host).as_slice(), [Change::Replaced { .. }]));
        let new = directory.strategy("hostile").expect("it serves");
        assert_ne!(new.component_sha256(), old.component_sha256());
        assert_eq!(search(host, &new).trace.component, new.component_sha256());
        allowed.add_permits(1);
        let outcome = in_flight.join().expect("it ends");
        assert_eq!((outcome.degraded, outcome.ranking), (None, hits(Retriever::Hybrid, 3)));
        assert_eq!(outcome.trace.component, old.component_sha256());
    });
}

#[test]
fn counters_outlive_a_reload_and_a_reload_closes_the_breaker() {
    let (host, folder) = (host(), Folder::new());
    let directory = folder.directory();
    let trap = format!("{ALL}[parameters]\nbehaviour = \"unreachable\"\n");
    folder.put("hostile", hostile_component(), &trap);
    refresh(&directory, &host);
    let first = directory.strategy("hostile").expect("it serves");
    let kinds: Vec<_> =
        (0..3).map(|_| search(&host, &first).degraded.map(|degraded| degraded.kind)).collect();
    use DegradedKind::{BreakerOpen, Trap};
    assert_eq!(kinds, [Some(Trap), Some(Trap), Some(BreakerOpen)]);
    assert_eq!(first.breaker_state(), BreakerState::Open);

    folder.write("hostile.toml", manifest("hostile", ALL));
    refresh(&directory, &host);
    let second = directory.strategy("hostile").expect("it serves");
    assert_eq!(search(&host, &second).degraded, None);

    // Back to the first version: its breaker is closed again, its counters go on.
    drop(first);
    folder.write("hostile.toml", manifest("hostile", &trap));
    refresh(&directory, &host);
    let again = directory.strategy("hostile").expect("it serves");
    assert_eq!(again.breaker_state(), BreakerState::Closed);
    assert_eq!(search(&host, &again).degraded.map(|degraded| degraded.kind), Some(Trap));

    let statistics = host.statistics();
    let [trapping, polite] = statistics.as_slice() else { panic!("{statistics:?}") };
    assert_eq!(trapping, &again.statistics());
    assert_eq!((trapping.calls, trapping.traps, trapping.breaker), (4, 3, Some(BreakerState::Closed)));
    assert_eq!(trapping.degraded, BTreeMap::from([(Trap, 3), (BreakerOpen, 1)]));
    assert_eq!((polite.calls, polite.traps, polite.retrievals), (1, 0, 1));
    assert!(polite.fuel > 0 && polite.fuel == polite.most_fuel && polite.peak_memory_bytes > 0);
    assert_eq!((polite.latency.count, polite.degraded.len()), (1, 0));
    drop(second);
    assert_eq!(host.statistics()[1].breaker, None);
    let json = serde_json::to_value(&statistics[0]).expect("it is data");
    assert_eq!((&json["degraded"]["trap"], &json["breaker"]), (&3.into(), &"closed".into()));
}

#[test]
fn a_watcher_reports_what_it_finds() {
    let (host, folder) = (Arc::new(host()), Folder::new());
    folder.put("plugin-one", &versioned("plugin-one", "001"), "");
    let directory = Arc::new(folder.directory());
    let (tell, told) = mpsc::channel();
    let tell = move |news: Result<Vec<Change>, _>| {
        let _ = tell.send(news.map_err(|error: orion_host::DirectoryError| error.to_string()));
    };
    let watcher = directory.clone().watch(host, Duration::from_millis(5), tell).expect("a thread");
    assert!(matches!(told.recv().expect("it looks").as_deref(), Ok([Change::Loaded { .. }])));
    folder.remove("plugin-one.toml");
    assert!(matches!(told.recv().expect("it looks again").as_deref(), Ok([Change::Retired { .. }])));
    drop(watcher);
    assert!(told.recv().is_err(), "a dropped watcher has ended");
}
