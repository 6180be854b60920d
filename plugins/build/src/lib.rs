//! From a Rust core module to a component: the wasm target, the encoding, the check of its imports.
//!
//! Two builds do this: the bundle's build script for the standard strategies, and `orion plugin build` for an author's
//! crate. Both get the same target, the same encoder and the same refusals from here. Neighbours:
//! `plugins/bundle/build.rs`, `host/server/src/authoring/build.rs`.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use wit_component::{ComponentEncoder, DecodedWasm};
use wit_parser::WorldItem;

/// What plugins are compiled for: no operating system, so that nothing but the contract can be imported.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The compiler does not start.
    #[error("could not ask `{rustc}` for its targets: {source}")]
    Rustc {
        /// The compiler.
        rustc: String,
        /// Why.
        source: std::io::Error,
    },
    /// The target is missing and rustup says no.
    #[error("the Rust target `{TARGET}` is missing, and `rustup target add {TARGET}` failed: {0}")]
    Target(String),
    /// The target is missing and there is no rustup.
    #[error(
        "the Rust target `{TARGET}` is missing, and rustup, which could add it, did not start ({0}): install the \
         target with your distribution's package manager, or install Rust through rustup"
    )]
    NoRustup(std::io::Error),
    /// The encoder refuses the module.
    #[error("`{name}` could not be made a component: {message}")]
    Encode {
        /// The plugin.
        name: String,
        /// What the encoder says.
        message: String,
    },
    /// What came out is not a component.
    #[error("the component `{name}` cannot be read back: {message}")]
    ReadBack {
        /// The plugin.
        name: String,
        /// What the decoder says.
        message: String,
    },
    /// It reaches for something outside the contract.
    #[error("`{name}` imports `{import}`, expected nothing but `orion:search`")]
    Import {
        /// The plugin.
        name: String,
        /// The import.
        import: String,
    },
}

/// Adds the wasm target where it is missing: not every machine installs what `rust-toolchain.toml` lists. `say` is
/// called before the download.
pub fn add_missing_target(rustc: &OsStr, say: impl FnOnce(&str)) -> Result<(), BuildError> {
    let printed = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|source| BuildError::Rustc { rustc: rustc.to_string_lossy().into_owned(), source })?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    if printed.status.success() && libraries.is_dir() {
        return Ok(());
    }
    say(&format!("adding the Rust target {TARGET}"));
    let added =
        Command::new("rustup").args(["target", "add", TARGET]).output().map_err(BuildError::NoRustup)?;
    if added.status.success() {
        return Ok(());
    }
    Err(BuildError::Target(String::from_utf8_lossy(&added.stderr).trim().to_owned()))
}

/// The SDK holds the bindings of every world, and each leaves its types in every module that links the SDK, as a custom
/// section that is named after the world without its exports. Only the exported world's own section is meant; with the
/// others a strategy would seem to import a reward's types. `None`: not a core module.
fn with_its_own_world(module: &[u8]) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 8;
    let mut kept = module.get(..HEADER_BYTES)?.to_vec();
    let mut rest = &module[HEADER_BYTES..];
    while let Some((&id, after_id)) = rest.split_first() {
        let (length, content) = read_length(after_id)?;
        let content_end = after_id.len() - content.len() + length + 1;
        let section = rest.get(..content_end)?;
        // A custom section begins with its name.
        let name =
            if id == 0 { read_length(content).and_then(|(length, name)| name.get(..length)) } else { None };
        let is_of_other_world = name.and_then(|name| std::str::from_utf8(name).ok()).is_some_and(|name| {
            name.starts_with("component-type:") && name.contains("-with-all-of-its-exports-removed:")
        });
        if !is_of_other_world {
            kept.extend_from_slice(section);
        }
        rest = &rest[content_end..];
    }
    Some(kept)
}

/// An unsigned LEB128 number of at most 32 bits, and what follows it.
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_usize;
    for (place, byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((length, &bytes[place + 1..]));
        }
    }
    None
}

/// Makes a component of a core module and refuses one that imports anything outside the contract.
pub fn componentise(name: &str, module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let named = || name.to_owned();
    let module = with_its_own_world(module)
        .ok_or_else(|| BuildError::Encode { name: named(), message: "expected a core module".to_owned() })?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| BuildError::Encode { name: named(), message: format!("{error:#}") })?;
    let unreadable = |message| BuildError::ReadBack { name: named(), message };
    let decoded = wit_component::decode(&component).map_err(|error| unreadable(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(unreadable("it became a WIT package".to_owned()));
    };
    // Types that the world itself names are listed as imports too; they give access to nothing.
    let imports =
        resolve.worlds[world].imports.iter().filter(|(_, item)| !matches!(item, WorldItem::Type { .. }));
    for (key, _) in imports {
        let import = resolve.name_world_key(key);
        if !import.starts_with("orion:search/") {
            return Err(BuildError::Import { name: named(), import });
        }
    }
    Ok(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_module_is_refused_by_name() {
        let error = componentise("broken", b"not wasm").map(|bytes| bytes.len()).unwrap_err();
        assert!(error.to_string().starts_with("`broken` could not be made a component"), "{error}");
    }

    #[test]
    fn a_missing_compiler_is_named() {
        let error = add_missing_target(OsStr::new("no-such-rustc"), |_| ()).unwrap_err();
        assert!(error.to_string().contains("`no-such-rustc`"), "{error}");
    }
}
