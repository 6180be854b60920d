//! The standard strategies and rewards, built as components and carried as bytes.
//!
//! `build.rs` builds them from `plugins/`, so that a built `orion` is one file. Nothing here knows wasmtime: the bytes
//! go to the host's loader like those of any other plugin.

/// One standard plugin.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// The name by which the plugin describes itself.
    pub name: &'static str,
    /// A WebAssembly component for the world `orion:search/strategy` or, among [`rewards`], `orion:search/reward`.
    pub bytes: &'static [u8],
}

static COMPONENTS: &[Component] = include!(concat!(env!("OUT_DIR"), "/components.rs"));
static REWARDS: &[Component] = include!(concat!(env!("OUT_DIR"), "/rewards.rs"));

/// All standard strategies, plain ones first, archetypes last.
pub fn components() -> &'static [Component] {
    COMPONENTS
}

/// The standard strategy of this name.
pub fn component(name: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|component| component.name == name)
}

/// All standard rewards.
pub fn rewards() -> &'static [Component] {
    REWARDS
}

/// The standard reward of this name.
pub fn reward(name: &str) -> Option<&'static Component> {
    REWARDS.iter().find(|component| component.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_standard_strategy_is_there_and_small() {
        let names: Vec<&str> = components().iter().map(|component| component.name).collect();
        let first = ["lexical", "dense", "hybrid", "rm3", "perturb", "blind", "beam"];
        let archetypes = [
            "adaptive-context-learner",
            "random-walk-wanderer",
            "breadth-first-explorer",
            "depth-first-driller",
            "wrong-direction-specialist",
            "early-success-validator",
            "exploitation-heavy-validator",
            "greedy-hill-climber",
            "best-first-hypothesis-selector",
            "multi-beam-parallel",
            "pseudo-document",
        ];
        assert_eq!(names, [first.as_slice(), &archetypes].concat());
        assert_eq!(rewards().iter().map(|component| component.name).collect::<Vec<_>>(), ["reward"]);
        for component in components().iter().chain(rewards()) {
            // The preamble of a component: magic, version 0x0d, layer 1.
            assert_eq!(component.bytes[..8], *b"\0asm\x0d\0\x01\0", "{}", component.name);
            // A fifth of a megabyte: beyond that something large has crept into the SDK.
            assert!(component.bytes.len() < 200_000, "{}: {} bytes", component.name, component.bytes.len());
        }
    }

    #[test]
    fn components_are_found_by_name() {
        assert_eq!(component("hybrid").map(|found| found.name), Some("hybrid"));
        assert!(component("sorcery").is_none());
        assert_eq!(reward("reward").map(|found| found.name), Some("reward"));
        assert!(component("reward").is_none() && reward("hybrid").is_none());
    }
}
