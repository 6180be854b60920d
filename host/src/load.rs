//! From a component's bytes to a strategy that can be started in microseconds.
//!
//! Check, then compile or take from the cache, then link once, then let it describe itself under small limits. The steps
//! that strategies and rewards share are here too. Neighbours: `check.rs`, `mismatch.rs`, `cache.rs`, `bounded.rs`;
//! `run.rs` runs what this makes; `reward.rs` is the same for rewards.
#![expect(
    unsafe_code,
    reason = "loading compiled components: native code that this host wrote and authenticated"
)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use wasmtime::Store;
use wasmtime::component::Component;

use crate::bindings::StrategyPre;
use crate::breaker::{Breaker, BreakerSettings, BreakerState};
use crate::check::{self, CheckError, Granted};
use crate::class::GuestClass;
use crate::contract::{Description, Kind, Mismatch};
use crate::counters::{Counters, PluginStatistics};
use crate::draft::{self, Sources};
use crate::host::Host;
use crate::inspect::inspect;
use crate::limits::Limits;
use crate::manifest::{Manifest, ManifestError};
use crate::mismatch::Contract;
use crate::outcome::{Degraded, Request};
use crate::places::SourcePlaces;
use crate::record::hexadecimal;
use crate::services::BoxFuture;
use crate::state::SearchState;
use crate::world::World;

/// Why a component could not become a strategy or a reward.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file cannot be read.
    #[error("could not read component `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Refused before compilation.
    #[error("component `{name}`: {source}")]
    Check {
        /// The name it was to be loaded under.
        name: String,
        /// What is wrong.
        source: CheckError,
    },
    /// Valid, but not compilable within the host's limits.
    #[error("component `{name}`: could not compile: {message}")]
    Compile {
        /// The name it was to be loaded under.
        name: String,
        /// What the compiler says.
        message: String,
    },
    /// Its functions do not have the contract's types.
    #[error("component `{name}`: does not fit the contract orion:search@0.1: {message}")]
    Contract {
        /// The name it was to be loaded under.
        name: String,
        /// Which function, and how it differs.
        message: String,
    },
    /// It failed while it started or described itself.
    #[error("component `{name}`: could not describe itself: {reason}")]
    Describe {
        /// The name it was to be loaded under.
        name: String,
        /// What stopped it.
        reason: Degraded,
    },
    /// It described itself badly.
    #[error("component `{name}`: description: {message}")]
    Description {
        /// The name it was to be loaded under.
        name: String,
        /// What was expected and what came.
        message: String,
    },
    /// Its manifest is not acceptable, or does not fit what it says of itself.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// An option that a plugin does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// No parameter has this name.
    #[error("{world} `{plugin}` has no parameter `{name}`; it has {known}")]
    Unknown {
        /// What the plugin is.
        world: World,
        /// The plugin.
        plugin: String,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// The value is not of the parameter's kind.
    #[error("parameter `{name}` of {world} `{plugin}`: expected {expected}, got `{got}`")]
    Value {
        /// What the plugin is.
        world: World,
        /// The plugin.
        plugin: String,
        /// The parameter.
        name: String,
        /// Its kind.
        expected: &'static str,
        /// The value.
        got: String,
    },
}

/// A loaded strategy: checked, compiled, linked. Shared by any number of searches at once.
pub struct Strategy {
    pub(crate) name: String,
    pub(crate) description: Description,
    pub(crate) component: String,
    pub(crate) pre: StrategyPre<SearchState>,
    pub(crate) breaker: Breaker,
    pub(crate) counters: Arc<Counters>,
    pub(crate) version: String,
    /// What a draft reads at its start; empty for what was built.
    pub(crate) sources: Arc<Sources>,
    /// Where its code comes from, for its author.
    pub(crate) places: Option<SourcePlaces>,
    manifest: Option<Manifest>,
    class: GuestClass,
    from_cache: bool,
}

impl std::fmt::Debug for Strategy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Strategy")
            .field("name", &self.name)
            .field("component", &self.component)
            .finish()
    }
}

impl Strategy {
    /// The name it was loaded under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its manifest; `None` for standard strategies and components without one.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// What one search may use: `ceiling`, lowered where the manifest says so.
    pub fn limits(&self, ceiling: &Limits) -> Limits {
        self.manifest.as_ref().map_or_else(|| ceiling.clone(), |manifest| manifest.limits(ceiling))
    }

    /// The request, with the manifest's defaults for parameters that it leaves open.
    pub(crate) fn complete(&self, mut request: Request) -> Request {
        for (name, value) in self.manifest.iter().flat_map(Manifest::parameters) {
            if !request.options.iter().any(|(named, _)| named == name) {
                request.options.push((name.to_owned(), value.to_owned()));
            }
        }
        request
    }

    /// What it says of itself, with the manifest's defaults.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// SHA-256 of its component, in hexadecimal.
    pub fn component_sha256(&self) -> &str {
        &self.component
    }

    /// What tells this version of the plugin from another: a SHA-256 over component and manifest, or the component's
    /// own where it has no manifest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What this version did since the host started.
    pub fn statistics(&self) -> PluginStatistics {
        self.counters.snapshot(&self.name, &self.version, Some(self.breaker_state()))
    }

    /// What its breaker lets through now.
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker.state(Instant::now())
    }

    /// Which places of the pool its guests take.
    pub fn class(&self) -> GuestClass {
        self.class
    }

    /// Whether its compiled form came from the cache.
    pub fn is_from_cache(&self) -> bool {
        self.from_cache
    }

    /// Whether every option names a parameter and has a value of its kind.
    pub fn check_options(&self, options: &[(String, String)]) -> Result<(), OptionError> {
        check_options(World::Strategy, &self.name, &self.description, options)
    }
}

/// Whether every option names a parameter of the plugin and has a value of its kind.
pub(crate) fn check_options(
    world: World,
    plugin: &str,
    description: &Description,
    options: &[(String, String)],
) -> Result<(), OptionError> {
    let plugin = || plugin.to_owned();
    for (name, value) in options {
        let Some(parameter) = description.parameters.iter().find(|known| known.name == *name) else {
            let names: Vec<String> =
                description.parameters.iter().map(|known| format!("`{}`", known.name)).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(OptionError::Unknown { world, plugin: plugin(), name: name.clone(), known });
        };
        if let Err(expected) = check_value(parameter.kind, value) {
            let (name, got) = (name.clone(), value.clone());
            return Err(OptionError::Value { world, plugin: plugin(), name, expected, got });
        }
    }
    Ok(())
}

/// Whether a value is of a parameter's kind. Errors: what was expected.
pub(crate) fn check_value(kind: Kind, value: &str) -> Result<(), &'static str> {
    let (is_valid, expected) = match kind {
        Kind::Boolean => (matches!(value, "true" | "false"), "`true` or `false`"),
        Kind::Integer => (value.parse::<i64>().is_ok(), "an integer"),
        Kind::Number => (value.parse::<f64>().is_ok_and(f64::is_finite), "a finite number"),
        Kind::Text => (true, "text"),
    };
    if is_valid { Ok(()) } else { Err(expected) }
}

/// What tells a version of a plugin from another.
pub(crate) fn version(component_sha256: &str, manifest: Option<&Manifest>) -> String {
    match manifest {
        Some(manifest) => hexadecimal(&Sha256::digest(format!("{component_sha256} {}", manifest.sha256()))),
        None => component_sha256.to_owned(),
    }
}

/// A plugin that describes itself needs nothing but some computing.
pub(crate) fn describe_limits() -> Limits {
    Limits {
        deadline_ms: 2_000,
        grace_ms: 0,
        fuel: 1_000_000_000,
        host_calls: 100,
        log_lines: 100,
        trace_events: 0,
        call_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// A component file's bytes, and its name without its ending.
pub(crate) fn read_component(path: &Path) -> Result<(String, Vec<u8>), LoadError> {
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let name = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy());
    Ok((name.into_owned(), bytes))
}

/// A component that passed every check and is compiled.
pub(crate) struct Prepared {
    pub(crate) component: Component,
    /// Of its bytes, in hexadecimal.
    pub(crate) sha256: String,
    /// Which places of the pool its guests take.
    pub(crate) class: GuestClass,
    /// Whether its compiled form came from the cache.
    pub(crate) from_cache: bool,
}

/// Differences that a refusal spells out; the first says what kind of thing went wrong, the tenth nothing new.
const SHOWN_MISMATCHES: usize = 3;

fn describe_mismatches(mismatches: &[Mismatch]) -> String {
    let mut parts: Vec<String> = mismatches.iter().take(SHOWN_MISMATCHES).map(Mismatch::to_string).collect();
    let more = mismatches.len().saturating_sub(SHOWN_MISMATCHES);
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}

impl Host {
    /// Loads the component in a file: under the name and the rules of the manifest beside it
    /// ([`Manifest::beside`]), or, without one, under the file's name without its ending and with everything granted.
    pub fn load_file(&self, path: &Path) -> Result<Arc<Strategy>, LoadError> {
        let (name, bytes) = read_component(path)?;
        match Manifest::beside(path)? {
            Some(manifest) => self.load_with(&bytes, manifest),
            None => self.load_bytes(&name, &bytes),
        }
    }

    /// Loads the component that a manifest names.
    pub fn load_manifest(&self, manifest: Manifest) -> Result<Arc<Strategy>, LoadError> {
        let (_, bytes) = read_component(manifest.component())?;
        self.load_with(&bytes, manifest)
    }

    /// Loads a component under its manifest: imports that are not granted are refused before anything is compiled.
    pub fn load_with(&self, bytes: &[u8], manifest: Manifest) -> Result<Arc<Strategy>, LoadError> {
        let name = manifest.name().to_owned();
        self.load(&name, bytes, Some(manifest), None)
    }

    /// Loads a component with everything granted. Nothing is compiled before the whole of it is checked; a
    /// reward is refused.
    pub fn load_bytes(&self, name: &str, bytes: &[u8]) -> Result<Arc<Strategy>, LoadError> {
        self.load(name, bytes, None, None)
    }

    /// Where every strategy is loaded; `sources` are a draft's.
    pub(crate) fn load(
        &self,
        name: &str,
        bytes: &[u8],
        manifest: Option<Manifest>,
        sources: Option<Sources>,
    ) -> Result<Arc<Strategy>, LoadError> {
        let owned = || name.to_owned();
        manifest.as_ref().map_or(Ok(()), |manifest| manifest.expect_world(World::Strategy))?;
        let granted = manifest
            .as_ref()
            .map(|manifest| Granted { grants: manifest.grants(), manifest: manifest.path() });
        let is_draft = sources.is_some();
        let prepared =
            self.prepare(name, bytes, World::Strategy, granted, is_draft.then_some(draft::INTERFACE))?;
        let linked = if is_draft {
            draft::linker(self.linker()).and_then(|linker| linker.instantiate_pre(&prepared.component))
        } else {
            self.linker().instantiate_pre(&prepared.component)
        };
        let pre = linked
            .and_then(StrategyPre::new)
            .map_err(|error| LoadError::Contract { name: owned(), message: format!("{error:#}") })?;
        let ceiling = if is_draft { draft::describe_limits() } else { describe_limits() };
        let limits = manifest.as_ref().map_or_else(|| ceiling.clone(), |own| own.limits(&ceiling));
        let sources = Arc::new(sources.unwrap_or_default());
        let (guest, read) = (pre.clone(), sources.clone());
        let described = self.describe(name, prepared.class, limits, move |store| {
            Box::pin(async move {
                store.data_mut().sources = read;
                let strategy = guest.instantiate_async(&mut *store).await?;
                strategy.call_describe(store).await
            })
        })?;
        let description = match &manifest {
            Some(manifest) => manifest.describe(described)?,
            None => described,
        };
        let options = self.options();
        let breaker = Breaker::new(BreakerSettings {
            failures_to_open: options.breaker_failures,
            first_rest: Duration::from_millis(options.breaker_ms),
            longest_rest: Duration::from_millis(options.breaker_longest_ms),
        });
        let (name, from_cache, class) = (owned(), prepared.from_cache, prepared.class);
        let component = if is_draft { draft::identity(&prepared.sha256, &sources) } else { prepared.sha256 };
        let places = options.source_root.as_deref().and_then(|root| SourcePlaces::of(bytes, root));
        let version = version(&component, manifest.as_ref());
        let counters = self.counters().of(&name, &version);
        let strategy = Strategy {
            name,
            description,
            component,
            pre,
            breaker,
            counters,
            version,
            sources,
            places,
            manifest,
            class,
            from_cache,
        };
        let strategy = Arc::new(strategy);
        self.counters().set_loaded(&strategy);
        Ok(strategy)
    }

    /// Checks a component's names and types, then compiles it or takes its compiled form from the cache.
    pub(crate) fn prepare(
        &self,
        name: &str,
        bytes: &[u8],
        world: World,
        granted: Option<Granted<'_>>,
        also: Option<&str>,
    ) -> Result<Prepared, LoadError> {
        let owned = || name.to_owned();
        let checked = check::check_with(bytes, self.options().max_component_bytes, world, granted, also)
            .map_err(|source| LoadError::Check { name: owned(), source })?;
        let contract = Contract::own().map_err(|message| LoadError::Contract { name: owned(), message })?;
        let mismatches = contract.compare(&checked, world);
        if !mismatches.is_empty() {
            let message = describe_mismatches(&mismatches);
            return Err(LoadError::Contract { name: owned(), message });
        }
        let inspection = inspect(bytes).map_err(|source| LoadError::Check { name: owned(), source })?;
        let class = GuestClass::of(&inspection);
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        let (component, from_cache) = self
            .compiled(&hash, bytes)
            .map_err(|error| LoadError::Compile { name: owned(), message: format!("{error:#}") })?;
        Ok(Prepared { component, sha256: hexadecimal(&hash), class, from_cache })
    }

    /// The compiled component, and whether it came from the cache.
    fn compiled(&self, hash: &[u8; 32], bytes: &[u8]) -> wasmtime::Result<(Component, bool)> {
        if let Some(compiled) = self.cache().and_then(|cache| cache.get(hash)) {
            // SAFETY: `Cache::get` returns only bytes whose HMAC under this user's private key is right, so they are
            // what `Component::serialize` gave to `Cache::put` in a process of this user for an engine of the same
            // compatibility hash.
            match unsafe { Component::deserialize(self.engine(), &compiled) } {
                Ok(component) => return Ok((component, true)),
                Err(error) => {
                    tracing::warn!("a compiled component does not load and is compiled again: {error:#}")
                }
            }
        }
        let component = Component::from_binary(self.engine(), bytes)?;
        if let Some(cache) = self.cache() {
            cache.put(hash, &component.serialize()?);
        }
        Ok((component, false))
    }

    /// Lets a guest describe itself; `call` instantiates it and asks.
    pub(crate) fn describe(
        &self,
        name: &str,
        class: GuestClass,
        limits: Limits,
        call: impl for<'s> FnOnce(&'s mut Store<SearchState>) -> BoxFuture<'s, wasmtime::Result<Description>>
        + Send,
    ) -> Result<Description, LoadError> {
        let owned = || name.to_owned();
        let called = self.block_on(self.call_bounded(class, limits, call));
        let description = called.map_err(|reason| LoadError::Describe { name: owned(), reason })?.value;
        check_description(&description)
            .map_err(|message| LoadError::Description { name: owned(), message })?;
        Ok(description)
    }
}

/// Whether a text can name a plugin or a parameter: 1 to 64 of a-z, 0-9, `-` and `_`.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(is_plain)
}

/// Bounds what listings and help pages have to show.
fn check_description(description: &Description) -> Result<(), String> {
    let name = &description.name;
    if !is_name(name) {
        let got = crate::trace::one_line(name, 80);
        return Err(format!("name: expected 1 to 64 of a-z, 0-9, `-` and `_`, got `{got}`"));
    }
    if description.help.len() > 1_000 {
        return Err(format!("help: expected at most 1000 bytes, got {}", description.help.len()));
    }
    if description.parameters.len() > 100 {
        return Err(format!("parameters: expected at most 100, got {}", description.parameters.len()));
    }
    for parameter in &description.parameters {
        let shown = crate::trace::one_line(&parameter.name, 80);
        if !is_name(&parameter.name) {
            return Err(format!("parameter name: expected 1 to 64 of a-z, 0-9, `-` and `_`, got `{shown}`"));
        }
        if parameter.help.len() > 1_000 || parameter.default.len() > 1_000 {
            return Err(format!("parameter `{shown}`: expected at most 1000 bytes of help and of default"));
        }
        if let Err(expected) = check_value(parameter.kind, &parameter.default) {
            let default = crate::trace::one_line(&parameter.default, 80);
            return Err(format!("parameter `{shown}`: expected {expected} as default, got `{default}`"));
        }
    }
    Ok(())
}
