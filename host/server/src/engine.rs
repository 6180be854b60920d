//! Puts the parts together: strategies from the bundle or files, the encoder, indexes, policies, the host.
//!
//! Everything is opened on first use, so that `orion strategies` needs no index and `orion search --strategy lexical`
//! no policy. Neighbours: [`crate::places`] says where things are, [`crate::commands`] use what this opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use indicatif::ProgressBar;
use orion_host::{
    Change, EmbeddedRetriever, Generate, Host, HostOptions, Manifest, PluginDirectory, Retrieve, Services,
    Strategy, TrustStore,
    index::{Embedder, EmbeddingCache, Encoder, Index, IndexSettings, OpenOptions, Searcher},
    policy::{
        Config, EmbeddedCheckpoint, Policy, PolicyCounters, PolicyError, PolicyOptions, Source, WeightFormat,
        random_checkpoint, tiny_policy,
    },
};

use crate::{
    adapters::{
        backends::{Halves, Notes, SplitRetriever},
        endpoint::EndpointPolicy,
    },
    commands::Session,
    failure::{Explain, Failure},
    lexical_only::LexicalOnly,
    meant::PolicyChoice,
    minilm,
    places::{IndexName, Places},
    tree::{Documents, Shown},
};

/// Characters of a document's text that rankings show; a line of a wide terminal.
const SHOWN_CHARS: usize = 160;
/// Seed of the untrained policy's weights: any number does, as long as it stays the same.
const UNTRAINED_SEED: u64 = 1;

/// A policy ready to be asked.
#[derive(Clone)]
pub struct LoadedPolicy {
    /// Makes sessions.
    pub generate: Arc<dyn Generate>,
    /// Tells one policy from another.
    pub identity: String,
    /// The model itself, where it runs in this process.
    pub local: Option<Policy>,
}

/// What becomes of a dense query where nothing can encode it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutEncoder {
    /// It is answered lexically.
    Substitute,
    /// It is refused: a measurement must be of what it says.
    Refuse,
}

/// Opens and keeps what commands need; shared by reference between threads.
pub struct Engine<'s> {
    session: &'s Session,
    host: Arc<Host>,
    plugins: BTreeMap<String, Arc<Strategy>>,
    directory: OnceLock<Option<Arc<PluginDirectory>>>,
    loaded: Mutex<BTreeMap<String, Arc<Strategy>>>,
    policies: Mutex<BTreeMap<PolicyChoice, Option<LoadedPolicy>>>,
    encoder: OnceLock<Option<Embedder>>,
}

impl<'s> Engine<'s> {
    /// Makes the host and loads the plugin files; each is known by the name it gives itself.
    pub fn new(session: &'s Session, plugin_files: &[PathBuf]) -> Result<Self, Failure> {
        // One user, one strategy at a time: resting a failing strategy would only hide its failures.
        let options = HostOptions { breaker_failures: 0, concurrent_searches: 4, ..HostOptions::default() };
        Self::with_host(session, plugin_files, options)
    }

    /// [`Engine::new`] for the author of the plugin whose sources are in `root`: failures name their lines.
    pub fn for_author(session: &'s Session, plugin_files: &[PathBuf], root: &Path) -> Result<Self, Failure> {
        let source_root = std::fs::canonicalize(root).ok();
        let options = HostOptions {
            breaker_failures: 0,
            concurrent_searches: 4,
            source_root,
            ..HostOptions::default()
        };
        Self::with_host(session, plugin_files, options)
    }

    /// [`Engine::new`] with a host of other size; where compiled components are kept is the session's to say.
    pub fn with_host(
        session: &'s Session,
        plugin_files: &[PathBuf],
        mut options: HostOptions,
    ) -> Result<Self, Failure> {
        options.cache_folder = Some(session.places.component_cache().to_owned());
        let host = Arc::new(Host::new(options).attempt("starting the sandbox")?);
        let mut plugins = BTreeMap::new();
        let trust = session.trusted_keys.as_deref().map(TrustStore::open).transpose();
        let trust = trust.attempt("reading trusted keys")?;
        for file in plugin_files {
            let strategy = match &trust {
                Some(trust) => load_trusted(&host, file, trust)?,
                None => load_file(&host, file)?,
            };
            plugins.insert(strategy.description().name.clone(), strategy);
        }
        Ok(Self {
            session,
            host,
            plugins,
            directory: OnceLock::new(),
            loaded: Mutex::default(),
            policies: Mutex::default(),
            encoder: OnceLock::new(),
        })
    }

    /// Runs searches.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The same, for who outlives a borrow.
    pub fn shared_host(&self) -> Arc<Host> {
        Arc::clone(&self.host)
    }

    /// The plugin directory, loaded on first use; each plugin that is refused is warned of then.
    pub fn directory(&self) -> Result<Option<&Arc<PluginDirectory>>, Failure> {
        if let Some(directory) = self.directory.get() {
            return Ok(directory.as_ref());
        }
        let directory = match &self.session.plugins {
            None => None,
            Some(options) => {
                let directory = Arc::new(PluginDirectory::new(options.clone()));
                let attempted = format!("loading plugins from `{}`", options.folder.display());
                for change in directory.refresh(&self.host).attempt(attempted)? {
                    if let Change::Refused { name, reason, .. } = change {
                        self.session.terminal.warn(&format!("plugin `{name}` is not loaded: {reason}"));
                    }
                }
                Some(directory)
            }
        };
        Ok(self.directory.get_or_init(|| directory).as_ref())
    }

    /// Names of all strategies, standard ones in the bundle's order, then plugins.
    pub fn strategy_names(&self) -> Result<Vec<String>, Failure> {
        let mut names: Vec<String> =
            orion_bundle::components().iter().map(|component| component.name.to_owned()).collect();
        let mut added: BTreeSet<String> = self.plugins.keys().cloned().collect();
        if let Some(directory) = self.directory()? {
            let plugins = directory.current();
            let serving = plugins.iter().filter(|(_, plugin)| plugin.strategy.is_some());
            added.extend(serving.map(|(name, _)| name.clone()));
        }
        names.extend(added.into_iter().filter(|name| orion_bundle::component(name).is_none()));
        Ok(names)
    }

    /// A strategy by name: a component file before the plugin directory before a standard one.
    pub fn strategy(&self, name: &str) -> Result<Arc<Strategy>, Failure> {
        if let Some(strategy) = self.plugins.get(name) {
            return Ok(Arc::clone(strategy));
        }
        if let Some(strategy) = self.directory()?.and_then(|directory| directory.strategy(name)) {
            return Ok(strategy);
        }
        // Held while loading, so that nothing is compiled twice.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(strategy) = loaded.get(name) {
            return Ok(Arc::clone(strategy));
        }
        let Some(component) = orion_bundle::component(name) else {
            return Err(self.no_strategy(name));
        };
        let strategy = self
            .host
            .load_bytes(name, component.bytes)
            .attempt(format!("loading standard strategy `{name}`"))?;
        loaded.insert(name.to_owned(), Arc::clone(&strategy));
        Ok(strategy)
    }

    fn no_strategy(&self, name: &str) -> Failure {
        let plugins = self.directory().ok().flatten().map(|directory| directory.current());
        let refused = plugins.and_then(|plugins| plugins.get(name)?.refusal.clone());
        if let Some(refusal) = refused {
            return Failure::new(format!("choosing strategy `{name}`: its plugin is not loaded: {refusal}"));
        }
        let known = self.strategy_names().unwrap_or_default().join(", ");
        Failure::new(format!("choosing strategy `{name}`: there is none of that name"))
            .hint(format!("there are {known}; --plugin FILE adds one"))
    }

    /// The dense encoder, or `None` where MiniLM is not there.
    pub fn encoder(&self) -> Result<Option<Embedder>, Failure> {
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder.clone());
        }
        let folder = self.session.places.minilm();
        let encoder = if minilm::is_present(&folder) {
            let loaded = Encoder::load(&folder).attempt("loading the dense encoder").map_err(|failure| {
                failure.hint(format!("remove `{}`, then `orion models fetch`", folder.display()))
            })?;
            Some(Embedder::from(Arc::new(loaded)))
        } else {
            None
        };
        Ok(self.encoder.get_or_init(|| encoder).clone())
    }

    /// Says, once a command needs to know, that searches will be lexical.
    pub fn warn_without_encoder(&self) -> Result<(), Failure> {
        if self.encoder()?.is_none() {
            self.session.terminal.warn(&format!(
                "there is no dense encoder in `{}`: searches are lexical only; {}",
                self.session.places.minilm().display(),
                Places::models_hint()
            ));
        }
        Ok(())
    }

    /// Opens a named index for searching.
    pub fn open_index(&self, name: &IndexName) -> Result<Index, Failure> {
        let folder = self.session.places.index(name);
        if !folder.is_dir() {
            let names = self.session.places.index_names()?;
            let known = if names.is_empty() {
                "there are none yet".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            return Err(Failure::new(format!("opening index `{name}`: there is none of that name"))
                .hint(format!("{known}; `orion index add {name} FILE` makes one")));
        }
        self.open_folder(&folder).attempt(format!("opening index `{name}`"))
    }

    /// Opens an index by its folder, for searching: without the embedding cache, so that queries cost what they cost.
    pub fn open_folder(&self, folder: &Path) -> Result<Index, Failure> {
        let options = OpenOptions { encoder: self.encoder()?, ..OpenOptions::default() };
        Index::open(folder, options)
            .attempt(format!("opening index folder `{}`", folder.display()))
            .map_err(index_hint)
    }

    /// Makes an empty index in `folder`.
    pub fn create_index(&self, folder: &Path, settings: &IndexSettings) -> Result<Index, Failure> {
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent).attempt(format!("creating `{}`", parent.display()))?;
        }
        let options = OpenOptions { encoder: self.encoder()?, ..OpenOptions::default() };
        Index::create(folder, settings, options)
            .attempt(format!("creating index folder `{}`", folder.display()))
    }

    /// Opens or creates the index in `folder` for writing, with the embedding cache and a progress bar for encoding.
    pub fn open_for_writing(
        &self,
        folder: &Path,
        settings: &IndexSettings,
        encoding: &ProgressBar,
    ) -> Result<Index, Failure> {
        let cache = self.session.places.embedding_cache();
        let bar = encoding.clone();
        let options = OpenOptions {
            encoder: self.encoder()?,
            cache: Some(Arc::new(EmbeddingCache::open(&cache).attempt("opening the embedding cache")?)),
            progress: Some(Arc::new(move |done, known| {
                bar.set_length(known);
                bar.set_position(done);
            })),
            ..OpenOptions::default()
        };
        let attempted = format!("opening index folder `{}`", folder.display());
        if folder.join("orion.json").exists() {
            Index::open(folder, options).attempt(attempted).map_err(index_hint)
        } else {
            if let Some(parent) = folder.parent() {
                std::fs::create_dir_all(parent).attempt(format!("creating `{}`", parent.display()))?;
            }
            Index::create(folder, settings, options).attempt(attempted).map_err(index_hint)
        }
    }

    /// Retrieval over an index, and a policy if there is to be one. What an index without an encoder does with dense
    /// queries is for `without_encoder` to say.
    pub fn services(
        &self,
        index: &Index,
        policy: Option<&LoadedPolicy>,
        without_encoder: WithoutEncoder,
    ) -> Services {
        self.services_over(index.searcher(), policy, without_encoder)
    }

    /// [`Engine::services`] over one snapshot.
    pub fn services_over(
        &self,
        searcher: Arc<Searcher>,
        policy: Option<&LoadedPolicy>,
        without_encoder: WithoutEncoder,
    ) -> Services {
        let is_lexical = without_encoder == WithoutEncoder::Substitute && !searcher.can_encode();
        let embedded = EmbeddedRetriever(searcher);
        let retrieve: Arc<dyn Retrieve> =
            if is_lexical { Arc::new(LexicalOnly(embedded)) } else { Arc::new(embedded) };
        Services { retrieve, generate: policy.map(|policy| Arc::clone(&policy.generate)), feedback: None }
    }

    /// [`Engine::services`] where halves of the index are in other engines, and what there will be to say of them.
    pub fn services_through(
        &self,
        halves: &Arc<Halves>,
        index: &Index,
        policy: Option<&LoadedPolicy>,
        without_encoder: WithoutEncoder,
    ) -> Result<(Services, Arc<Notes>), Failure> {
        let split = SplitRetriever {
            halves: Arc::clone(halves),
            embedded: index.searcher(),
            encoder: self.encoder()?,
            notes: Arc::default(),
            strict: without_encoder == WithoutEncoder::Refuse,
        };
        let notes = Arc::clone(&split.notes);
        let generate = policy.map(|policy| Arc::clone(&policy.generate));
        Ok((Services { retrieve: Arc::new(split), generate, feedback: None }, notes))
    }

    /// A policy, loaded once; `None` where none is wanted, or none is embedded in this build.
    pub fn policy(&self, choice: &PolicyChoice) -> Result<Option<LoadedPolicy>, Failure> {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = policies.get(choice) {
            return Ok(loaded.clone());
        }
        let loaded = self.load_policy(choice)?;
        policies.insert(choice.clone(), loaded.clone());
        Ok(loaded)
    }

    /// What policies of this process did since they were loaded; nothing while one is being loaded.
    pub fn policy_counters(&self) -> Vec<(PolicyChoice, PolicyCounters)> {
        let Ok(policies) = self.policies.try_lock() else { return Vec::new() };
        let local = |(choice, loaded): (&PolicyChoice, &Option<LoadedPolicy>)| {
            Some((choice.clone(), loaded.as_ref()?.local.as_ref()?.counters()))
        };
        policies.iter().filter_map(local).collect()
    }

    fn load_policy(&self, choice: &PolicyChoice) -> Result<Option<LoadedPolicy>, Failure> {
        let source = match choice {
            PolicyChoice::None => return Ok(None),
            PolicyChoice::Nano => match EmbeddedCheckpoint::nano() {
                Ok(nano) => Source::Embedded(nano),
                Err(_) => {
                    self.session.terminal.warn(
                        "this build carries no policy: adaptive strategies give way to the plain hybrid ranking; \
                         --policy names a checkpoint folder",
                    );
                    return Ok(None);
                }
            },
            PolicyChoice::Untrained => Source::Folder(self.untrained_folder()?),
            PolicyChoice::Folder(folder) => Source::Folder(folder.clone()),
            PolicyChoice::Endpoint(address) => {
                let policy = EndpointPolicy::new(address, self.session.policy_key.clone())?;
                let identity = policy.identity();
                return Ok(Some(LoadedPolicy { generate: Arc::new(policy), identity, local: None }));
            }
        };
        let (weights, device) = (self.session.policy_weights, self.session.device);
        let mut options = PolicyOptions { weights, device, ..PolicyOptions::default() };
        if let Some(threads) = self.session.threads {
            options.threads = usize::from(threads);
        }
        let loaded = Policy::load(&source, &options);
        let is_of_device = matches!(&loaded, Err(PolicyError::Device(_)));
        let policy = loaded.attempt("loading the policy").map_err(|failure| {
            if !is_of_device {
                return failure;
            }
            failure.hint(
                "`--device auto` runs it on the CPU instead; `orion doctor` says which devices there are",
            )
        })?;
        let info = policy.describe();
        for warning in &info.warnings {
            self.session.terminal.warn(warning);
        }
        let mut identity = match choice {
            PolicyChoice::Folder(folder) => format!("{} {}", folder.display(), weights_stamp(folder)),
            _ => format!("{} ({} parameters)", info.source, info.parameters),
        };
        if options.weights != WeightFormat::AsStored {
            identity = format!("{identity} {}", options.weights.name());
        }
        // Numbers of a device differ from the CPU's in the last bits, and after sampling in words.
        if info.device != "CPU" {
            identity = format!("{identity} on {}", info.device);
        }
        Ok(Some(LoadedPolicy { generate: Arc::new(policy.clone()), identity, local: Some(policy) }))
    }

    /// A checkpoint of random weights in nano's shape, made on first use.
    fn untrained_folder(&self) -> Result<PathBuf, Failure> {
        let folder = self.session.places.policies().join(format!("untrained-{UNTRAINED_SEED}"));
        if folder.join("model.safetensors").is_file() {
            return Ok(folder);
        }
        std::fs::create_dir_all(&folder).attempt(format!("creating `{}`", folder.display()))?;
        let attempted = || format!("making an untrained policy in `{}`", folder.display());
        match EmbeddedCheckpoint::nano() {
            Ok(nano) => {
                for (name, bytes) in nano.files() {
                    if name != "model.safetensors" {
                        std::fs::write(folder.join(name), bytes).attempt(attempted())?;
                    }
                }
                let config = Config::load(&folder).attempt(attempted())?;
                random_checkpoint(&config, UNTRAINED_SEED, &folder).attempt(attempted())?;
            }
            // A build without nano still has a policy that learned nothing, only a smaller one.
            Err(_) => tiny_policy(&folder, UNTRAINED_SEED).attempt(attempted())?,
        }
        Ok(folder)
    }

    /// Titles and texts for display.
    pub fn shown(&self, index: &Index, ids: impl IntoIterator<Item = String>) -> Result<Documents, Failure> {
        let ids: std::collections::BTreeSet<String> = ids.into_iter().collect();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = index.searcher().documents(&names).attempt("reading documents")?;
        Ok(found
            .into_iter()
            .flatten()
            .map(|document| {
                let text = document.text.chars().take(SHOWN_CHARS).collect();
                (document.id, Shown { title: document.title, text })
            })
            .collect())
    }
}

/// Loads a component file.
pub fn load_file(host: &Host, file: &Path) -> Result<Arc<Strategy>, Failure> {
    host.load_file(file).attempt(format!("loading plugin `{}`", file.display())).map_err(|failure| {
        failure.hint("a plugin is a WebAssembly component for the world `orion:search/strategy`")
    })
}

/// Loads a component file that has to be signed, with its manifest, by a trusted key.
fn load_trusted(host: &Host, file: &Path, trust: &TrustStore) -> Result<Arc<Strategy>, Failure> {
    let attempted = || format!("loading plugin `{}`", file.display());
    let manifest = Manifest::beside(file).attempt(attempted())?.ok_or_else(|| {
        Failure::new(format!("{}: there is no manifest beside it, so nobody can have signed it", attempted()))
            .hint("`orion plugin sign` signs a component with its manifest; or leave --trusted-keys out")
    })?;
    let (component, _) = trust.verify_files(&manifest).attempt(attempted())?;
    host.load_with(&component, manifest).attempt(attempted())
}

/// Enough to notice that a checkpoint folder was trained further: bytes and time of its weights.
fn weights_stamp(folder: &Path) -> String {
    let weights = if folder.is_file() { folder.to_owned() } else { folder.join("model.safetensors") };
    let Ok(found) = std::fs::metadata(weights) else { return "sharded".to_owned() };
    let changed = found.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{} bytes, {} s", found.len(), changed.map_or(0, |since| since.as_secs()))
}

fn index_hint(failure: Failure) -> Failure {
    let text = failure.causes().join(" ");
    if text.contains("another writer") || text.contains("locked") {
        failure.hint("another process writes to this index; wait for it to end")
    } else if text.contains("format") {
        failure.hint("this index was made by another version of Orion; index the documents again")
    } else {
        failure
    }
}
