//! What a component is made of, read without compiling it: for `orion plugin check`, and to tell which class of guest
//! it is.
//!
//! Unlike `check.rs`, which stops at the first thing that is wrong, this lists everything. Neighbours: `check.rs`
//! decides, `class.rs` tells small guests from large ones.
use wasmparser::{ComponentTypeRef, Encoding, Instance, Parser, Payload};

use crate::check::{self, CheckError};
use crate::world::World;

/// One import of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Package, interface and version, as the component names it: `orion:search/retrieval@0.1.0`.
    pub name: String,
    /// Why no host can satisfy it; `None` where the contract has it.
    pub refusal: Option<ImportRefusal>,
}

/// Why an import is not of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportRefusal {
    /// Something of the operating system, by the name of a WASI package.
    System,
    /// The contract, in a version that does not link.
    Version,
    /// The contract has no interface of this name.
    Interface,
    /// Anything else.
    Foreign,
}

/// A component, as its bytes tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Imports that carry power; types alone are left out.
    pub imports: Vec<Import>,
    /// Exported names.
    pub exports: Vec<String>,
    /// Core modules that are instantiated, in nested components as well.
    pub core_instances: usize,
    /// Initial linear memory of all core modules together, in bytes.
    pub memory_bytes: u64,
}

/// Reads a component. Errors: not a component, or one that cannot be read to its end.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, CheckError> {
    let mut found = Inspection::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(check::invalid)? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(CheckError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.map_err(check::invalid)?;
                    let page_bytes = 1_u64 << memory.page_size_log2.unwrap_or(16).min(16);
                    let bytes = memory.initial.saturating_mul(page_bytes);
                    found.memory_bytes = found.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    let instance = instance.map_err(check::invalid)?;
                    found.core_instances += usize::from(matches!(instance, Instance::Instantiate { .. }));
                }
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    let import = import.map_err(check::invalid)?;
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        let name = import.name.name.to_owned();
                        let is_instance = matches!(import.ty, ComponentTypeRef::Instance(_));
                        let refusal = refusal(&name, is_instance);
                        found.imports.push(Import { name, refusal });
                    }
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    found.exports.push(export.map_err(check::invalid)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn refusal(name: &str, is_instance: bool) -> Option<ImportRefusal> {
    let known = |interface: &str| World::Strategy.imports().contains(&interface);
    if is_instance && matches!(check::contract_interface(name), Some((interface, true)) if known(interface)) {
        return None;
    }
    let (package, rest) = name.split_once('/').unwrap_or((name, ""));
    let (interface, _) = rest.split_once('@').unwrap_or((rest, ""));
    Some(if package.starts_with("wasi:") || package == "wasi_snapshot_preview1" {
        ImportRefusal::System
    } else if package != check::PACKAGE {
        ImportRefusal::Foreign
    } else if known(interface) {
        ImportRefusal::Version
    } else {
        ImportRefusal::Interface
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_kind_of_door_it_is() {
        use ImportRefusal::{Foreign, Interface, System, Version};
        for (name, expected) in [
            ("orion:search/retrieval@0.1.0", None),
            ("orion:search/retrieval@0.2.0", Some(Version)),
            ("orion:search/retrieval", Some(Version)),
            ("orion:search/secrets@0.1.0", Some(Interface)),
            ("wasi:random/random@0.2.6", Some(System)),
            ("acme:tools/hammer@1.0.0", Some(Foreign)),
            ("run", Some(Foreign)),
        ] {
            assert_eq!(refusal(name, true), expected, "{name}");
        }
    }

    #[test]
    fn everything_wrong_is_listed_at_once() {
        let component = wat::parse_str(
            r#"(component
                (import "wasi:clocks/wall-clock@0.2.0" (instance))
                (import "orion:search/log@0.9.0" (instance))
                (core module $m (memory 3))
                (core module (memory 2))
                (core instance (instantiate $m))
                (core instance (instantiate $m)))"#,
        )
        .unwrap();
        let found = inspect(&component).unwrap();
        let refusals: Vec<_> = found.imports.iter().map(|import| import.refusal).collect();
        assert_eq!(refusals, [Some(ImportRefusal::System), Some(ImportRefusal::Version)]);
        assert_eq!((found.core_instances, found.memory_bytes), (2, 5 << 16));
        assert_eq!(inspect(b"\0asm\x01\0\0\0"), Err(CheckError::CoreModule));
    }
}
