//! What a component must look like before anything of it is compiled.
//!
//! The whole binary is parsed and validated, then its imports are held against the contract: a strategy gets the
//! interfaces of `orion:search` and nothing else. Neighbours: `load.rs` calls this first, `engine.rs` enables the same
//! WebAssembly features.
use std::path::{Path, PathBuf};

use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures,
};

use crate::grants::{Grant, Grants};

/// Interfaces that a strategy may import.
pub(crate) const ALLOWED: [&str; 8] =
    ["about", "budget", "feedback", "log", "policy", "retrieval", "trace", "types"];
const PACKAGE: &str = "orion:search";
/// Versions that link: the contract's track is 0.1.
const TRACK: &str = "0.1.";
/// Functions that a strategy exports.
const EXPORTS: [&str; 2] = ["describe", "search"];

/// Why a component is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Larger than the host takes.
    #[error("expected a component of at most {limit_bytes} bytes, got {got_bytes}")]
    TooLarge {
        /// The host's limit.
        limit_bytes: u64,
        /// The component's size.
        got_bytes: u64,
    },
    /// Not a valid WebAssembly binary.
    #[error("expected a valid component: {message} (at byte {offset})")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Where.
        offset: u64,
    },
    /// A core module.
    #[error("expected a component, got a core module; wrap it with wit-component or `orion plugin build`")]
    CoreModule,
    /// An import that no strategy may have.
    #[error("import `{import}` is not allowed; a strategy may import {}", allowed())]
    Import {
        /// The import as the component names it, version included.
        import: String,
    },
    /// An import of the contract that the manifest does not grant.
    #[error("import `{import}` needs the grant `{grant}`, which manifest `{}` does not give", manifest.display())]
    NotGranted {
        /// The import as the component names it, version included.
        import: String,
        /// What would have to stand among the manifest's grants.
        grant: &'static str,
        /// The manifest.
        manifest: PathBuf,
    },
    /// A function of the contract is missing.
    #[error("expected an exported function `{0}`, found none")]
    MissingExport(&'static str),
}

/// What may be imported, for messages.
fn allowed() -> String {
    let interfaces: Vec<String> =
        ALLOWED.iter().map(|interface| format!("`{PACKAGE}/{interface}@{TRACK}x`")).collect();
    interfaces.join(", ")
}

/// WebAssembly features of guests. The engine is configured with the same set.
pub(crate) fn features() -> WasmFeatures {
    WasmFeatures::WASM2
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::COMPONENT_MODEL
}

/// What a manifest grants, and which manifest, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Granted<'m> {
    pub(crate) grants: &'m Grants,
    pub(crate) manifest: &'m Path,
}

/// Checks size, validity, imports and exports of `bytes`. Without a manifest every import of the contract is granted.
pub(crate) fn check(bytes: &[u8], limit_bytes: u64, granted: Option<Granted<'_>>) -> Result<(), CheckError> {
    let got_bytes = bytes.len() as u64;
    if got_bytes > limit_bytes {
        return Err(CheckError::TooLarge { limit_bytes, got_bytes });
    }
    Validator::new_with_features(features()).validate_all(bytes).map_err(invalid)?;
    let mut depth = 0_usize;
    let mut missing: Vec<&'static str> = EXPORTS.to_vec();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(CheckError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(invalid)?;
                    check_import(import.name.name, import.ty, granted)?;
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(invalid)?;
                    if export.kind == ComponentExternalKind::Func {
                        missing.retain(|name| *name != export.name.name);
                    }
                }
            }
            _ => {}
        }
    }
    missing.first().map_or(Ok(()), |name| Err(CheckError::MissingExport(name)))
}

/// Types carry no power; instances must be the contract's; anything else is a door.
fn check_import(name: &str, kind: ComponentTypeRef, granted: Option<Granted<'_>>) -> Result<(), CheckError> {
    let interface = match kind {
        ComponentTypeRef::Type(_) => return Ok(()),
        ComponentTypeRef::Instance(_) => contract_interface(name),
        _ => None,
    };
    let Some(interface) = interface else { return Err(CheckError::Import { import: name.to_owned() }) };
    let needed = Grant::ALL.into_iter().find(|grant| grant.name() == interface);
    match (needed, granted) {
        (Some(grant), Some(granted)) if !granted.grants.has(grant) => Err(CheckError::NotGranted {
            import: name.to_owned(),
            grant: grant.name(),
            manifest: granted.manifest.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The interface's name, where the import is one of the contract's.
fn contract_interface(name: &str) -> Option<&str> {
    let (package, rest) = name.split_once('/')?;
    let (interface, version) = rest.split_once('@')?;
    let patch = version.strip_prefix(TRACK)?;
    let is_version = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
    (package == PACKAGE && ALLOWED.contains(&interface) && is_version).then_some(interface)
}

fn invalid(error: wasmparser::BinaryReaderError) -> CheckError {
    CheckError::Invalid { message: error.message().to_owned(), offset: error.offset() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_may_be_imported() {
        assert_eq!(contract_interface("orion:search/retrieval@0.1.0"), Some("retrieval"));
        assert_eq!(contract_interface("orion:search/log@0.1.7"), Some("log"));
        for foreign in [
            "orion:search/retrieval",
            "orion:search/retrieval@0.2.0",
            "orion:search/retrieval@0.1.0-rc",
            "orion:search/secrets@0.1.0",
            "wasi:clocks/wall-clock@0.2.0",
        ] {
            assert_eq!(contract_interface(foreign), None, "{foreign}");
        }
    }
}
