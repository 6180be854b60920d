//! Drafts: strategies whose sources are handed to them when they start, for an author who edits.
//!
//! A component that carries an interpreter takes half a minute to make and to compile. A draft is such a component made
//! once, a shell without a strategy, which reads the strategy's sources through one interface that no built plugin may
//! import. Limits, grants and services are those of any search. `orion plugin test` makes shells
//! (`host/server/src/authoring/draft.rs`); what is shipped is never a draft: [`Host::load_bytes`] and all other ways
//! to load refuse the interface. Neighbours: `load.rs` loads, `check.rs` lets the one import pass.
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::host::Host;
use crate::limits::Limits;
use crate::load::{self, LoadError, Strategy};
use crate::manifest::Manifest;
use crate::record::hexadecimal;
use crate::state::SearchState;

/// What a draft reads: name and content of each piece, as its shell understands them.
pub type Sources = Vec<(String, String)>;

/// The package with the interface, for whoever builds a shell; a shell's world imports it by [`INTERFACE`]'s name.
pub const DRAFT_WIT: &str = "package orion:draft@0.1.0;

/// What a shell runs.
interface sources {
  /// Name and content of each piece.
  read: func() -> list<tuple<string, string>>;
}
";

/// The interface, as components name it.
pub(crate) const INTERFACE: &str = "orion:draft/sources@0.1.0";

impl Host {
    /// Loads a shell with the sources that it is to run, under a plugin's manifest.
    pub fn load_draft(
        &self,
        shell: &[u8],
        sources: Sources,
        manifest: Manifest,
    ) -> Result<Arc<Strategy>, LoadError> {
        let name = manifest.name().to_owned();
        self.load(&name, shell, Some(manifest), Some(sources))
    }
}

/// The strategy's linker with the one interface more.
pub(crate) fn linker(strategy: &Linker<SearchState>) -> wasmtime::Result<Linker<SearchState>> {
    let mut linker = strategy.clone();
    linker.instance(INTERFACE)?.func_wrap(
        "read",
        |store: StoreContextMut<'_, SearchState>, (): ()| -> wasmtime::Result<(Sources,)> {
            Ok((store.data().sources.as_ref().clone(),))
        },
    )?;
    Ok(linker)
}

/// A draft runs its modules before it can describe itself; a built component did so when it was built.
pub(crate) fn describe_limits() -> Limits {
    Limits { deadline_ms: 20_000, fuel: 20_000_000_000, ..load::describe_limits() }
}

/// What tells this draft from another.
pub(crate) fn identity(shell_sha256: &str, sources: &Sources) -> String {
    let mut hash = Sha256::new().chain_update(shell_sha256);
    for (name, content) in sources {
        for part in [name, content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hexadecimal(&hash.finalize())
}
