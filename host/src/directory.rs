//! A folder of plugins, loaded and kept current while searches run.
//!
//! Every `NAME.toml` in the folder is a plugin. [`PluginDirectory::refresh`] looks at the folder once: what changed is
//! loaded beside what serves, and all changes become visible in one atomic step; a search that began keeps the version
//! it began with. A version that cannot be loaded is refused, visibly, and the one before it goes on serving. What is
//! deleted retires.
//!
//! Looking again and again, by content hash, was chosen over file-system events: it also works on network mounts and
//! in containers, needs no queue that can overflow, treats half-written files as what they are (a refused version,
//! looked at again when it changes), and makes a test a sequence of calls. Files whose size, times and inode stayed are
//! not read again, once two looks in a row found the same content under them: a write within one clock tick of the
//! first look cannot hide. Neighbours: `trust.rs` and `lock.rs` may refuse, `load.rs` loads, `watch.rs` looks
//! periodically.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::host::Host;
use crate::load::{LoadError, Strategy};
use crate::lock::{LOCK_FILE, LockError, LockFile, LockedPlugin};
use crate::manifest::{Manifest, ManifestError};
use crate::outcome::DegradedKind;
use crate::record::hexadecimal;
use crate::reward::Reward;
use crate::trust::{Signer, TrustError, TrustStore, read_signature, signature_path};
use crate::world::World;

/// Which plugins to load.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// The folder with `NAME.toml` and components.
    pub folder: PathBuf,
    /// Folder of trusted public keys; with it, only signed plugins are loaded.
    pub trusted_keys: Option<PathBuf>,
    /// Whether only what [`LOCK_FILE`] in the folder names, as it names it, is loaded.
    pub locked: bool,
}

/// Why the folder could not be looked at; nothing changes then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The folder cannot be listed.
    #[error("could not list plugin folder `{folder}`: {source}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The trusted keys cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The lock file cannot be read.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Why one version of a plugin is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The manifest's file is named otherwise than its plugin.
    #[error("manifest `{manifest}`: name: expected `{expected}`, as its file is called, got `{got}`")]
    FileName {
        /// The manifest.
        manifest: PathBuf,
        /// The file's name without its ending.
        expected: String,
        /// The name in the manifest.
        got: String,
    },
    /// It is not trusted.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It is not the one that was locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<ManifestError> for Refusal {
    fn from(error: ManifestError) -> Self {
        Self::Load(error.into())
    }
}

/// One plugin of the folder.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Its manifest's file.
    pub manifest: PathBuf,
    /// What answers searches; `None` where nothing could be loaded yet, and for rewards.
    pub strategy: Option<Arc<Strategy>>,
    /// What scores turns, where the plugin is a reward that could be loaded.
    pub reward: Option<Arc<Reward>>,
    /// Who signed what serves, where signatures are asked for.
    pub signer: Option<Signer>,
    /// Why what lies in the folder now is not what serves.
    pub refusal: Option<Arc<Refusal>>,
}

impl Plugin {
    /// The version that serves.
    pub fn version(&self) -> Option<&str> {
        let strategy = self.strategy.as_deref().map(Strategy::version);
        strategy.or_else(|| self.reward.as_deref().map(Reward::version))
    }

    /// The manifest of the version that serves.
    pub fn served_manifest(&self) -> Option<&Manifest> {
        let strategy = self.strategy.as_deref().and_then(Strategy::manifest);
        strategy.or_else(|| self.reward.as_deref().and_then(Reward::manifest))
    }
}

/// What one version of a plugin is, loaded.
enum Served {
    Strategy(Arc<Strategy>),
    Reward(Arc<Reward>),
}

impl Served {
    /// As a [`Plugin`] holds it.
    fn parts(self) -> (Option<Arc<Strategy>>, Option<Arc<Reward>>) {
        match self {
            Self::Strategy(strategy) => (Some(strategy), None),
            Self::Reward(reward) => (None, Some(reward)),
        }
    }
}

/// The plugins at one instant, by name.
pub type Plugins = BTreeMap<String, Plugin>;

/// What one look at the folder changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "change")]
#[non_exhaustive]
pub enum Change {
    /// A plugin serves that did not, or what lies in the folder is again what serves.
    Loaded {
        /// The plugin.
        name: String,
        /// Its version.
        version: String,
    },
    /// Another version serves.
    Replaced {
        /// The plugin.
        name: String,
        /// The version that served.
        from: String,
        /// The version that serves.
        to: String,
    },
    /// What lies in the folder is not served.
    Refused {
        /// The plugin.
        name: String,
        /// Why.
        reason: String,
        /// The version that serves instead.
        serving: Option<String>,
    },
    /// A plugin was deleted.
    Retired {
        /// The plugin.
        name: String,
    },
}

/// A folder of plugins and what of it serves. Shared by reference; reading never waits.
#[derive(Debug)]
pub struct PluginDirectory {
    options: DirectoryOptions,
    current: ArcSwap<Plugins>,
    /// What earlier looks found, by name. Held during a look, so that looks follow one another.
    seen: Mutex<BTreeMap<String, Seen>>,
}

/// What the last look found of one plugin.
#[derive(Debug)]
struct Seen {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    digest: [u8; 32],
    /// Trusted keys and lock file of that look.
    rules: String,
    /// Whether the stamps may be believed.
    is_settled: bool,
    /// Whether another try can end otherwise though nothing changed.
    is_transient: bool,
}

/// What changes of a file when it is written or replaced.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
    /// Inode and time of its last change in seconds and nanoseconds; 0 where there is no such thing.
    inode: [i64; 3],
}

/// What holds for every plugin during one look.
struct Rules {
    trust: Option<TrustStore>,
    lock: Option<LockFile>,
}

/// One plugin's files, read once.
struct Files {
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    digest: [u8; 32],
    candidate: Result<Candidate, Refusal>,
}

struct Candidate {
    manifest: Manifest,
    component: Vec<u8>,
    signature: Option<String>,
}

impl PluginDirectory {
    /// A directory of which nothing is loaded yet: [`PluginDirectory::refresh`] does that.
    pub fn new(options: DirectoryOptions) -> Self {
        Self { options, current: ArcSwap::default(), seen: Mutex::default() }
    }

    /// The plugins now. Whoever keeps this keeps the versions in it.
    pub fn current(&self) -> Arc<Plugins> {
        self.current.load_full()
    }

    /// The strategy that serves under a name now.
    pub fn strategy(&self, name: &str) -> Option<Arc<Strategy>> {
        self.current.load().get(name).and_then(|plugin| plugin.strategy.clone())
    }

    /// Looks at the folder once and loads what changed. Blocks for as long as compiling takes; searches go on
    /// meanwhile. Errors: the folder, the keys or the lock file cannot be read; everything then serves as before.
    pub fn refresh(&self, host: &Host) -> Result<Vec<Change>, DirectoryError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = self.rules()?;
        let names = self.names()?;
        let before = self.current();
        let mut after = Plugins::clone(&before);
        let mut changes = Vec::new();
        for name in before.keys().filter(|name| !names.contains(*name)) {
            after.remove(name);
            seen.remove(name);
            changes.push(Change::Retired { name: name.clone() });
        }
        let mut is_other = !changes.is_empty();
        for name in names {
            let old = before.get(&name);
            if let Some(plugin) = self.look(host, &name, old, &mut seen, &rules) {
                changes.extend(change(&name, old, &plugin));
                after.insert(name, plugin);
                is_other = true;
            }
        }
        if is_other {
            self.current.store(Arc::new(after));
        }
        Ok(changes)
    }

    fn rules(&self) -> Result<Rules, DirectoryError> {
        let trust = self.options.trusted_keys.as_deref().map(TrustStore::open).transpose()?;
        let lock = self.options.folder.join(LOCK_FILE);
        let lock = self.options.locked.then(|| LockFile::read(&lock)).transpose()?;
        Ok(Rules { trust, lock })
    }

    fn names(&self) -> Result<BTreeSet<String>, DirectoryError> {
        let folder = &self.options.folder;
        let failed = |source| DirectoryError::Folder { folder: folder.clone(), source };
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Editors and copying tools write hidden drafts beside the file they are about to replace.
            let name = path.file_stem().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
            if let Some(name) = name.filter(|_| path.extension().is_some_and(|ending| ending == "toml")) {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    }

    /// One plugin as it is now, or `None` where nothing changed.
    fn look(
        &self,
        host: &Host,
        name: &str,
        old: Option<&Plugin>,
        seen: &mut BTreeMap<String, Seen>,
        rules: &Rules,
    ) -> Option<Plugin> {
        let path = self.options.folder.join(format!("{name}.toml"));
        let fingerprint = rules.fingerprint();
        let known = seen.get(name).filter(|known| known.rules == fingerprint && !known.is_transient);
        let has_same_stamps =
            known.is_some_and(|known| known.stamps.iter().all(|(path, before)| stamp(path) == *before));
        if has_same_stamps && known.is_some_and(|known| known.is_settled) {
            return None;
        }
        let files = read(&path);
        let is_same = known.is_some_and(|known| known.digest == files.digest);
        let plugin =
            if is_same { None } else { Some(self.load(host, name, old, rules, path, files.candidate)) };
        let refusal = plugin.as_ref().and_then(|plugin| plugin.refusal.as_deref());
        let now = Seen {
            stamps: files.stamps,
            digest: files.digest,
            rules: fingerprint,
            is_settled: is_same && has_same_stamps,
            is_transient: refusal.is_some_and(is_transient),
        };
        seen.insert(name.to_owned(), now);
        plugin
    }

    fn load(
        &self,
        host: &Host,
        name: &str,
        old: Option<&Plugin>,
        rules: &Rules,
        manifest: PathBuf,
        candidate: Result<Candidate, Refusal>,
    ) -> Plugin {
        let serving = old.and_then(|old| old.strategy.clone());
        match candidate.and_then(|candidate| rules.admit(host, name, serving.as_ref(), candidate)) {
            Ok((served, signer)) => {
                let (strategy, reward) = served.parts();
                Plugin { manifest, strategy, reward, signer, refusal: None }
            }
            Err(refusal) => {
                let signer = old.and_then(|old| old.signer.clone());
                // What nobody vouches for any more is not kept in place of what is refused.
                let is_vouched = match (&rules.trust, &signer) {
                    (Some(trust), Some(signer)) => trust.trusts(signer),
                    _ => true,
                };
                let strategy = serving.filter(|_| is_vouched);
                let reward = old.and_then(|old| old.reward.clone()).filter(|_| is_vouched);
                Plugin { manifest, strategy, reward, signer, refusal: Some(Arc::new(refusal)) }
            }
        }
    }

    /// Writes [`LOCK_FILE`]: the hashes of what lies in the folder now. Errors: a plugin that cannot be read.
    pub fn lock(&self) -> Result<LockFile, LockingError> {
        let mut plugins = BTreeMap::new();
        for name in self.names()? {
            let candidate = read(&self.options.folder.join(format!("{name}.toml"))).candidate?;
            plugins.insert(name, candidate.locked());
        }
        let lock = LockFile::new(&self.options.folder.join(LOCK_FILE), plugins);
        lock.write().map_err(DirectoryError::Lock)?;
        Ok(lock)
    }
}

/// Why no lock file could be written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum LockingError {
    /// The folder or the lock file.
    Directory(#[from] DirectoryError),
    /// One of the plugins.
    Plugin(#[from] Refusal),
}

impl Rules {
    fn fingerprint(&self) -> String {
        let trust = self.trust.as_ref().map(TrustStore::fingerprint);
        let lock = self.lock.as_ref().map(LockFile::fingerprint);
        format!("{trust:?} {lock:?}")
    }

    fn admit(
        &self,
        host: &Host,
        name: &str,
        serving: Option<&Arc<Strategy>>,
        candidate: Candidate,
    ) -> Result<(Served, Option<Signer>), Refusal> {
        let Candidate { manifest, component, signature } = &candidate;
        let verify = |trust: &TrustStore| trust.verify(component, manifest, signature.as_deref());
        let signer = self.trust.as_ref().map(verify).transpose()?;
        let locked = candidate.locked();
        self.lock.as_ref().map_or(Ok(()), |lock| lock.check(name, &locked))?;
        // A new signature is no new version: what serves keeps its breaker.
        let is_same = |serving: &&Arc<Strategy>| {
            serving.component_sha256() == locked.component
                && serving.manifest().is_some_and(|manifest| manifest.sha256() == locked.manifest)
        };
        let served = match (manifest.world(), serving.filter(is_same)) {
            (World::Reward, _) => Served::Reward(host.load_reward_with(component, manifest.clone())?),
            (_, Some(serving)) => Served::Strategy(serving.clone()),
            (_, None) => Served::Strategy(host.load_with(component, manifest.clone())?),
        };
        Ok((served, signer))
    }
}

impl Candidate {
    fn locked(&self) -> LockedPlugin {
        LockedPlugin {
            component: hexadecimal(&Sha256::digest(&self.component)),
            manifest: self.manifest.sha256().to_owned(),
        }
    }
}

/// Whether the machine, and not the plugin, may be the reason.
fn is_transient(refusal: &Refusal) -> bool {
    use DegradedKind::{Deadline, HostFault, Overloaded};
    let Refusal::Load(LoadError::Describe { reason, .. }) = refusal else { return false };
    matches!(reason.kind, Deadline | HostFault | Overloaded)
}

fn change(name: &str, old: Option<&Plugin>, new: &Plugin) -> Option<Change> {
    let version = |plugin: &Plugin| plugin.version().map(str::to_owned);
    let (from, to) = (old.and_then(version), version(new));
    let name = name.to_owned();
    match (&new.refusal, from, to) {
        (Some(refusal), _, serving) => Some(Change::Refused { name, reason: refusal.to_string(), serving }),
        (None, Some(from), Some(to)) if from != to => Some(Change::Replaced { name, from, to }),
        (None, Some(_), Some(_)) if old.is_some_and(|old| old.refusal.is_none()) => None,
        (None, _, Some(version)) => Some(Change::Loaded { name, version }),
        (None, _, None) => None,
    }
}

/// Reads a plugin's three files, each stamped before it is read.
fn read(path: &Path) -> Files {
    let mut stamps = vec![(path.to_owned(), stamp(path))];
    let mut digest = Sha256::new();
    let candidate = read_candidate(path, &mut stamps, &mut digest);
    Files { stamps, digest: digest.finalize().into(), candidate }
}

fn read_candidate(
    path: &Path,
    stamps: &mut Vec<(PathBuf, Option<Stamp>)>,
    digest: &mut Sha256,
) -> Result<Candidate, Refusal> {
    let text =
        fs::read_to_string(path).map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    digest.update(Sha256::digest(&text));
    let manifest = Manifest::parse(&text, path)?;
    // Before its component is looked for, whose name most often follows the plugin's.
    let expected = path.file_stem().unwrap_or_default().to_string_lossy();
    if manifest.name() != expected {
        let (expected, got) = (expected.into_owned(), manifest.name().to_owned());
        return Err(Refusal::FileName { manifest: path.to_owned(), expected, got });
    }
    let component_path = manifest.component();
    for path in [component_path.to_owned(), signature_path(component_path)] {
        let found = stamp(&path);
        stamps.push((path, found));
    }
    let component = fs::read(component_path)
        .map_err(|source| LoadError::Read { path: component_path.to_owned(), source })?;
    digest.update(Sha256::digest(&component));
    let signature = read_signature(component_path)?;
    digest.update(signature.as_deref().unwrap_or_default());
    Ok(Candidate { manifest, component, signature })
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt;
        [found.ino() as i64, found.ctime(), found.ctime_nsec()]
    };
    #[cfg(not(unix))]
    let inode = [0; 3];
    Some(Stamp { bytes: found.len(), modified: found.modified().ok(), inode })
}
