//! What a component must look like before anything of it is compiled.
//!
//! The whole binary is parsed and validated, then the names of its imports and exports are held against the contract: a
//! plugin gets the interfaces of its world and nothing else. Neighbours: `load.rs` calls this first, `mismatch.rs` then
//! compares the types, `engine.rs` enables the same WebAssembly features.
use std::path::{Path, PathBuf};

use wasmparser::types::Types;
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures,
};

use crate::grants::{Grant, Grants};
use crate::world::World;

pub(crate) const PACKAGE: &str = "orion:search";
/// Versions that link: the contract's track is 0.1.
const TRACK: &str = "0.1.";

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
    /// An import that no component of this world may have.
    #[error("import `{import}` is not allowed; a {world} may import {}", allowed(*world))]
    Import {
        /// The import as the component names it, version included.
        import: String,
        /// What the component was to be.
        world: World,
    },
    /// An interface of the contract, in a version that does not link.
    #[error(
        "import `{import}` is of another version of the contract: this host speaks {PACKAGE}@{TRACK}x; build the \
         component against this host's `wit/orion.wit`, or take a host that speaks the component's version"
    )]
    Version {
        /// The import as the component names it, version included.
        import: String,
    },
    /// A reward where a strategy is wanted, or the reverse.
    #[error("expected a {wanted}, got a {}: it exports `{}` and no `{}`", wanted.other(), wanted.other().own_export(), wanted.own_export())]
    OtherWorld {
        /// What the component was to be.
        wanted: World,
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
fn allowed(world: World) -> String {
    let interfaces: Vec<String> =
        world.imports().iter().map(|interface| format!("`{PACKAGE}/{interface}@{TRACK}x`")).collect();
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

/// A valid component, its names found in order.
pub(crate) struct Checked {
    /// All its types, as its validator understood them.
    pub(crate) types: Types,
    /// Its imported interfaces, in order.
    pub(crate) imports: Vec<String>,
}

/// What a manifest grants, and which manifest, for messages.
#[derive(Clone, Copy)]
pub(crate) struct Granted<'m> {
    pub(crate) grants: &'m Grants,
    pub(crate) manifest: &'m Path,
}

/// Checks size, validity and the names of imports and exports of `bytes`, which are to be a component of `world`. Without
/// a manifest every import of that world is granted.
pub(crate) fn check(
    bytes: &[u8],
    limit_bytes: u64,
    world: World,
    granted: Option<Granted<'_>>,
) -> Result<Checked, CheckError> {
    check_with(bytes, limit_bytes, world, granted, None)
}

/// [`check`] for a component that may import one interface more, by its full name; that one is not among
/// [`Checked::imports`].
pub(crate) fn check_with(
    bytes: &[u8],
    limit_bytes: u64,
    world: World,
    granted: Option<Granted<'_>>,
    also: Option<&str>,
) -> Result<Checked, CheckError> {
    let got_bytes = bytes.len() as u64;
    if got_bytes > limit_bytes {
        return Err(CheckError::TooLarge { limit_bytes, got_bytes });
    }
    let types = Validator::new_with_features(features()).validate_all(bytes).map_err(invalid)?;
    let mut depth = 0_usize;
    let mut imported = Vec::new();
    let mut exported = Vec::new();
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
                    imported.push((import.name.name, import.ty));
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    let export = export.map_err(invalid)?;
                    if export.kind == ComponentExternalKind::Func {
                        exported.push(export.name.name);
                    }
                }
            }
            _ => {}
        }
    }
    // Said first, because the imports of another world look wrong too.
    if !exported.contains(&world.own_export()) && exported.contains(&world.other().own_export()) {
        return Err(CheckError::OtherWorld { wanted: world });
    }
    imported.retain(|(name, kind)| Some(*name) != also || !matches!(kind, ComponentTypeRef::Instance(_)));
    for (name, kind) in &imported {
        check_import(name, *kind, world, granted)?;
    }
    if let Some(missing) = world.exports().iter().find(|name| !exported.contains(name)) {
        return Err(CheckError::MissingExport(missing));
    }
    let interfaces = imported.iter().filter(|(_, kind)| matches!(kind, ComponentTypeRef::Instance(_)));
    let imports = interfaces.map(|(name, _)| (*name).to_owned()).collect();
    Ok(Checked { types, imports })
}

/// Types carry no power; instances must be the contract's; anything else is a door.
fn check_import(
    name: &str,
    kind: ComponentTypeRef,
    world: World,
    granted: Option<Granted<'_>>,
) -> Result<(), CheckError> {
    let import = || name.to_owned();
    let interface = match kind {
        ComponentTypeRef::Type(_) => return Ok(()),
        ComponentTypeRef::Instance(_) => contract_interface(name),
        _ => None,
    };
    let interface = match interface {
        Some((interface, true)) if world.imports().contains(&interface) => interface,
        Some((interface, false)) if world.imports().contains(&interface) => {
            return Err(CheckError::Version { import: import() });
        }
        _ => return Err(CheckError::Import { import: import(), world }),
    };
    let needed = Grant::ALL.into_iter().find(|grant| grant.name() == interface);
    match (needed, granted) {
        (Some(grant), Some(granted)) if !granted.grants.has(grant) => Err(CheckError::NotGranted {
            import: import(),
            grant: grant.name(),
            manifest: granted.manifest.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// The interface's name, where the import is one of the contract's package, and whether its version links.
pub(crate) fn contract_interface(name: &str) -> Option<(&str, bool)> {
    let (package, rest) = name.split_once('/')?;
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    let patch = version.strip_prefix(TRACK).unwrap_or_default();
    let links = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
    (package == PACKAGE).then_some((interface, links))
}

pub(crate) fn invalid(error: wasmparser::BinaryReaderError) -> CheckError {
    CheckError::Invalid { message: error.message().to_owned(), offset: error.offset() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_contract_may_be_imported() {
        assert_eq!(contract_interface("orion:search/retrieval@0.1.0"), Some(("retrieval", true)));
        assert_eq!(contract_interface("orion:search/log@0.1.7"), Some(("log", true)));
        for other in ["", "@0.2.0", "@0.1", "@0.1.", "@0.1.0-rc", "@1.0.0"] {
            let import = format!("orion:search/retrieval{other}");
            assert_eq!(contract_interface(&import), Some(("retrieval", false)), "{import}");
        }
        assert_eq!(contract_interface("wasi:clocks/wall-clock@0.2.0"), None);
    }

    #[test]
    fn each_world_has_its_own_imports() {
        let instance = ComponentTypeRef::Instance(0);
        let check = |name, world| check_import(name, instance, world, None);
        assert_eq!(check("orion:search/retrieval@0.1.0", World::Strategy), Ok(()));
        assert_eq!(check("orion:search/log@0.1.0", World::Reward), Ok(()));
        for (name, world) in [
            ("orion:search/retrieval@0.1.0", World::Reward),
            ("orion:search/secrets@0.1.0", World::Strategy),
            ("wasi:clocks/wall-clock@0.2.0", World::Strategy),
        ] {
            assert_eq!(check(name, world), Err(CheckError::Import { import: name.to_owned(), world }));
        }
    }
}
