//! The index, the host and the policy that all tests of this binary share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use orion_host::index::{
    Embedder, Encoder, Filter, Fusion, Index, IndexSettings, JsonLines, Mode, OpenOptions, Query, Searcher,
};
use orion_host::policy::{EmbeddedCheckpoint, Policy, PolicyOptions, Source, tiny_policy};
use orion_host::{
    CancelToken, EmbeddedRetriever, Hit, Host, HostOptions, Limits, Outcome, Request, Services, Strategy,
};

/// One index and what searches it.
pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) searcher: Arc<Searcher>,
    pub(crate) policy: Policy,
    /// Compiling takes seconds in a dev build, so each strategy is loaded once.
    strategies: Mutex<BTreeMap<String, Arc<Strategy>>>,
}

impl World {
    /// The shared world, or `None` where the sentence encoder is not there.
    pub(crate) fn get() -> Option<&'static Self> {
        static WORLD: OnceLock<Option<World>> = OnceLock::new();
        WORLD.get_or_init(|| Some(Self::build(&orion_tests::minilm()?))).as_ref()
    }

    fn build(encoder: &Path) -> Self {
        let cache_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("components"));
        let host = Host::new(HostOptions { cache_folder, ..HostOptions::default() }).expect("a host");
        let strategies = Mutex::default();
        Self { host, searcher: index_corpus(encoder), policy: policy(), strategies }
    }

    /// A standard strategy.
    pub(crate) fn strategy(&self, name: &str) -> Arc<Strategy> {
        let mut loaded = self.strategies.lock().expect("no test panics while it loads");
        let load = || {
            let component =
                orion_bundle::component(name).unwrap_or_else(|| panic!("`{name}` is not bundled"));
            self.host.load_bytes(name, component.bytes).expect("a bundled strategy loads")
        };
        loaded.entry(name.to_owned()).or_insert_with(load).clone()
    }

    /// Index and policy.
    pub(crate) fn services(&self) -> Services {
        let retrieve = Arc::new(EmbeddedRetriever(self.searcher.clone()));
        Services { generate: Some(Arc::new(self.policy.clone())), ..Services::retrieval_only(retrieve) }
    }

    /// One search with everything there, and time enough.
    pub(crate) fn search(&self, strategy: &str, request: Request) -> Outcome {
        self.search_with(strategy, request, &self.services(), &Limits::unhurried())
    }

    pub(crate) fn search_with(
        &self,
        strategy: &str,
        request: Request,
        services: &Services,
        limits: &Limits,
    ) -> Outcome {
        self.host.search_blocking(&self.strategy(strategy), request, services, limits, CancelToken::new())
    }

    /// The ranking that a failed strategy is replaced by, straight from the index.
    pub(crate) fn plain(&self, query: &str, k: usize, filter: Option<&str>) -> Vec<Hit> {
        let filter = filter.map(|expression| Filter::parse(expression).expect("a filter"));
        let query = Query { text: query.into(), mode: Mode::Hybrid(Fusion::default()), k, filter };
        let mut rankings = self.searcher.search(&[query]).expect("a lookup");
        let hits = rankings.pop().expect("one ranking for one query");
        hits.into_iter().map(|hit| Hit { id: hit.id, score: hit.score }).collect()
    }
}

/// A folder of this test binary's own, emptied.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => panic!("emptying `{}`: {error}", folder.display()),
    }
    folder
}

fn index_corpus(encoder: &Path) -> Arc<Searcher> {
    let encoder = Encoder::load(encoder).expect("the sentence encoder loads");
    let options = OpenOptions { encoder: Some(Embedder::from(Arc::new(encoder))), ..OpenOptions::default() };
    let index = Index::create(&scratch("isles"), &IndexSettings::default(), options).expect("a new index");
    let mut writer = index.writer().expect("the only writer");
    for document in JsonLines::open(&orion_tests::corpus().join("corpus.jsonl")).expect("the bundled corpus")
    {
        writer.add(document.expect("a passage")).expect("a passage goes in");
    }
    writer.commit().expect("a commit");
    index.searcher()
}

/// The policy that ships, or one with random weights in a build without it: the line is the same.
fn policy() -> Policy {
    let source = EmbeddedCheckpoint::nano().map(Source::Embedded).unwrap_or_else(|_| {
        let folder = scratch("tiny-policy");
        std::fs::create_dir_all(&folder).expect("a folder");
        tiny_policy(&folder, 7).expect("random weights");
        Source::Folder(folder)
    });
    Policy::load(&source, &PolicyOptions::default()).expect("the policy loads")
}
