//! Where things are: the data folder, named indexes in it, model folders.
//!
//! A flag wins over an environment variable, which wins over what is found in the current folder, which wins
//! over the user's own data folder. Neighbours: [`crate::env_vars`] and the global arguments feed this.

use std::path::{Path, PathBuf};

use orion_host::{DirectoryOptions, index::Catalog};

use crate::{
    args::PluginFolderArgs,
    env_vars::{DATA_DIR, EnvVars, MODELS_DIR},
    failure::{Explain, Failure},
    minilm,
};

/// A data folder of this name in the current folder is used without being asked for.
const LOCAL_DATA: &str = ".orion";
/// So is a model folder of this name, if MiniLM is in it.
const LOCAL_MODELS: &str = "models";

/// Resolved folders; nothing is created until something is written.
#[derive(Debug, Clone)]
pub struct Places {
    data: PathBuf,
    models: PathBuf,
    components: PathBuf,
    toolchains: PathBuf,
}

impl Places {
    /// Decides both folders.
    pub fn new(
        data_dir: Option<PathBuf>,
        models_dir: Option<PathBuf>,
        env: &EnvVars,
    ) -> Result<Self, Failure> {
        let local_data = Path::new(LOCAL_DATA);
        let data = data_dir
            .or_else(|| env.data_dir.clone())
            .or_else(|| local_data.is_dir().then(|| local_data.to_owned()))
            .or_else(|| env.data_home.as_ref().map(|home| home.join("orion")));
        let Some(data) = data else {
            return Err(Failure::new("looking for a data folder: there is no home folder")
                .hint(format!("name one with --data-dir or {DATA_DIR}")));
        };
        let local_models = Path::new(LOCAL_MODELS);
        let models = models_dir
            .or_else(|| env.models_dir.clone())
            .or_else(|| local_models.join(minilm::FOLDER).is_dir().then(|| local_models.to_owned()))
            .unwrap_or_else(|| data.join("models"));
        let cache = env.cache_home.as_ref().map_or_else(|| data.clone(), |home| home.join("orion"));
        let (components, toolchains) = (cache.join("components"), cache.join("toolchains"));
        Ok(Self { data, models, components, toolchains })
    }

    /// The same with another data folder; models and compiled components are looked for where they were.
    #[must_use]
    pub fn with_data(&self, data: PathBuf) -> Self {
        Self { data, ..self.clone() }
    }

    /// Where everything that Orion makes is kept.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where model folders are; set by `--models-dir` or `ORION_MODELS_DIR`.
    pub fn models(&self) -> &Path {
        &self.models
    }

    /// The folder that MiniLM is, or would be, in.
    pub fn minilm(&self) -> PathBuf {
        self.models.join(minilm::FOLDER)
    }

    /// Embeddings by content, shared by all indexes.
    pub fn embedding_cache(&self) -> PathBuf {
        self.data.join("cache")
    }

    /// Compiled components: worth nothing to anyone but this machine, so not among the data.
    pub fn component_cache(&self) -> &Path {
        &self.components
    }

    /// What plugins are built with, where it is not an author's own: to be fetched again at any time.
    pub fn toolchains(&self) -> &Path {
        &self.toolchains
    }

    /// What drafts of plugins run in: made once, to be made again at any time.
    pub fn shells(&self) -> PathBuf {
        self.toolchains.with_file_name("shells")
    }

    /// Runs of evaluations, unless told otherwise.
    pub fn runs(&self, dataset: &str, split: &str) -> PathBuf {
        self.data.join("runs").join(format!("{dataset}-{split}"))
    }

    /// Untrained policies, made on demand.
    pub fn policies(&self) -> PathBuf {
        self.data.join("policies")
    }

    /// The folder of a named index, whether it exists or not.
    pub fn index(&self, name: &IndexName) -> PathBuf {
        self.indexes().join(&name.0)
    }

    /// Names of the indexes that exist, sorted.
    pub fn index_names(&self) -> Result<Vec<String>, Failure> {
        if !self.indexes().is_dir() {
            return Ok(Vec::new());
        }
        self.catalog()?.names().attempt("listing indexes")
    }

    /// All named indexes.
    pub fn catalog(&self) -> Result<Catalog, Failure> {
        let folder = self.indexes();
        Catalog::open(&folder).attempt(format!("opening `{}`", folder.display()))
    }

    fn indexes(&self) -> PathBuf {
        self.data.join("indexes")
    }

    /// The plugins to load: of the folder that a flag, a variable or the data folder names, if there is one.
    pub fn plugins(&self, args: &PluginFolderArgs, env: &EnvVars) -> Option<DirectoryOptions> {
        let own = self.data.join("plugins");
        let folder = args
            .plugins
            .clone()
            .or_else(|| env.plugins_dir.clone())
            .or_else(|| own.is_dir().then_some(own))?;
        Some(DirectoryOptions { folder, trusted_keys: trusted_keys(args, env), locked: args.locked })
    }

    /// How to say, in a hint, where models are looked for.
    pub fn models_hint() -> String {
        format!("`orion models fetch` gets it; --models-dir or {MODELS_DIR} names another folder")
    }
}

/// A name that the catalog takes: 1 to 64 lower-case letters, digits, `-` or `_`, beginning with a letter or digit.
/// Checked here already, so that a slip is a usage error and not one of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexName(String);

impl std::fmt::Display for IndexName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for IndexName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let starts_well = name.bytes().next().is_some_and(|first| first != b'-' && first != b'_');
        if 64 < name.len() || !starts_well || !name.bytes().all(is_plain) {
            return Err(
                "expected 1 to 64 of a-z, 0-9, `-` and `_`, beginning with a letter or digit".to_owned()
            );
        }
        Ok(Self(name.to_owned()))
    }
}

/// The folder of trusted keys that a flag or a variable names: without one, no signature is asked for.
pub fn trusted_keys(args: &PluginFolderArgs, env: &EnvVars) -> Option<PathBuf> {
    args.trusted_keys.clone().or_else(|| env.trusted_keys.clone())
}
