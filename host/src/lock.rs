//! The lock file of a plugin directory: the hash of every component and manifest that somebody looked at.
//!
//! It answers another question than a signature: not who made a plugin, but whether it is still the one that was
//! tried. Neighbours: `directory.rs` holds plugins against it, `orion plugin lock` writes it.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Its name in the plugin directory.
pub const LOCK_FILE: &str = "plugins.lock";

/// Opening comment of the file.
const HEADING: &str =
    "# Written by `orion plugin lock`; with --locked, whatever differs from it is not loaded.\n\n";

/// Why a plugin is not what the lock file says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file cannot be read or written.
    #[error("could not {attempted} lock file `{path}`: {source}")]
    Io {
        /// Read or write.
        attempted: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a lock file.
    #[error("lock file `{path}`: expected tables `[plugin.NAME]` with `component` and `manifest`: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// Nothing is written about this plugin.
    #[error("lock file `{path}`: expected plugin `{name}` in it, found none")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The plugin.
        name: String,
    },
    /// Another content.
    #[error("lock file `{path}`: {what} of plugin `{name}`: expected {expected}, got {got}")]
    Differs {
        /// The file.
        path: PathBuf,
        /// The plugin.
        name: String,
        /// Component or manifest.
        what: &'static str,
        /// SHA-256 in the lock file, in hexadecimal.
        expected: String,
        /// SHA-256 of what is there.
        got: String,
    },
}

/// SHA-256 of both files of a plugin, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPlugin {
    /// The component.
    pub component: String,
    /// The manifest.
    pub manifest: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    plugin: BTreeMap<String, LockedPlugin>,
}

/// A lock file, as read or to be written.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    content: Content,
}

impl LockFile {
    /// A lock file at `path` of these plugins.
    pub fn new(path: &Path, plugins: BTreeMap<String, LockedPlugin>) -> Self {
        Self { path: path.to_owned(), content: Content { plugin: plugins } }
    }

    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let text = std::fs::read_to_string(path).map_err(|source| LockError::Io {
            attempted: "read",
            path: path.to_owned(),
            source,
        })?;
        let content = toml::from_str(&text).map_err(|error| LockError::Syntax {
            path: path.to_owned(),
            message: crate::trace::one_line(error.message(), 200),
        })?;
        Ok(Self { path: path.to_owned(), content })
    }

    /// Writes it.
    pub fn write(&self) -> Result<(), LockError> {
        let body = toml::to_string(&self.content)
            .map_err(|error| LockError::Syntax { path: self.path.clone(), message: error.to_string() })?;
        std::fs::write(&self.path, format!("{HEADING}{body}")).map_err(|source| LockError::Io {
            attempted: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// The plugins in it.
    pub fn plugins(&self) -> &BTreeMap<String, LockedPlugin> {
        &self.content.plugin
    }

    /// Whether a plugin is the one that was locked.
    pub fn check(&self, name: &str, got: &LockedPlugin) -> Result<(), LockError> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let Some(locked) = self.content.plugin.get(&name) else {
            return Err(LockError::Unknown { path, name });
        };
        let pairs =
            [("component", &locked.component, &got.component), ("manifest", &locked.manifest, &got.manifest)];
        match pairs.into_iter().find(|(_, expected, got)| expected != got) {
            None => Ok(()),
            Some((what, expected, got)) => {
                let (expected, got) = (expected.clone(), got.clone());
                Err(LockError::Differs { path, name, what, expected, got })
            }
        }
    }

    /// What tells this lock file's content from another's.
    pub(crate) fn fingerprint(&self) -> String {
        toml::to_string(&self.content).unwrap_or_default()
    }
}
