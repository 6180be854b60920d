//! The environment, read once and in this file alone.
//!
//! Everything else takes values as arguments; a flag always wins over its variable. The table below is also
//! what `orion --help` prints, so a variable cannot exist without being documented.
//! Neighbours: [`crate::places`] turns folders into paths, [`crate::terminal`] looks at `NO_COLOR`.

use std::path::PathBuf;

/// Where indexes, caches and runs live; the flag is `--data-dir`.
pub const DATA_DIR: &str = "ORION_DATA_DIR";
/// Where model folders live; the flag is `--models-dir`.
pub const MODELS_DIR: &str = "ORION_MODELS_DIR";
/// The plugin directory; the flag is `--plugins`.
pub const PLUGINS_DIR: &str = "ORION_PLUGINS_DIR";
/// Folder of trusted public keys; the flag is `--trusted-keys`.
pub const TRUSTED_KEYS: &str = "ORION_TRUSTED_KEYS";
/// Key for a policy at an address, sent as bearer token; it has no flag, since command lines are seen by others.
pub const POLICY_KEY: &str = "ORION_POLICY_KEY";
/// Any value but the empty one turns colour off; the flag is `--color`.
pub const NO_COLOR: &str = "NO_COLOR";
/// Base of the default data folder on systems that follow the XDG rules.
pub const XDG_DATA_HOME: &str = "XDG_DATA_HOME";
/// Base of the folders of compiled components and of tool chains.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";
/// Base of both elsewhere.
pub const HOME: &str = "HOME";

/// Every variable that is read, with one line on what it does.
pub const VARIABLES: [(&str, &str); 9] = [
    (DATA_DIR, "folder of indexes, caches and runs"),
    (MODELS_DIR, "folder of model folders"),
    (PLUGINS_DIR, "plugin directory"),
    (TRUSTED_KEYS, "folder of public keys: only plugins that one of them signed are loaded"),
    (POLICY_KEY, "key for a policy at an address"),
    (NO_COLOR, "no colour, when set to anything"),
    (XDG_DATA_HOME, "base of the default data folder"),
    (XDG_CACHE_HOME, "base of the folders of compiled components and tool chains"),
    (HOME, "base of both without the two former"),
];

/// What the environment said when the program started.
#[derive(Debug, Clone, Default)]
pub struct EnvVars {
    /// [`DATA_DIR`].
    pub data_dir: Option<PathBuf>,
    /// [`MODELS_DIR`].
    pub models_dir: Option<PathBuf>,
    /// [`PLUGINS_DIR`].
    pub plugins_dir: Option<PathBuf>,
    /// [`TRUSTED_KEYS`].
    pub trusted_keys: Option<PathBuf>,
    /// [`POLICY_KEY`].
    pub policy_key: Option<String>,
    /// [`NO_COLOR`].
    pub no_color: bool,
    /// [`XDG_DATA_HOME`], or `.local/share` under [`HOME`].
    pub data_home: Option<PathBuf>,
    /// [`XDG_CACHE_HOME`], or `.cache` under [`HOME`].
    pub cache_home: Option<PathBuf>,
}

impl EnvVars {
    /// Reads the variables; empty ones count as unset.
    pub fn read() -> Self {
        let path = |name| read(name).map(PathBuf::from);
        Self {
            data_dir: path(DATA_DIR),
            models_dir: path(MODELS_DIR),
            plugins_dir: path(PLUGINS_DIR),
            trusted_keys: path(TRUSTED_KEYS),
            policy_key: read(POLICY_KEY).and_then(|key| key.into_string().ok()),
            no_color: read(NO_COLOR).is_some(),
            data_home: path(XDG_DATA_HOME).or_else(|| path(HOME).map(|home| home.join(".local/share"))),
            cache_home: path(XDG_CACHE_HOME).or_else(|| path(HOME).map(|home| home.join(".cache"))),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn read(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
