//! The standard strategies and rewards, built as components and carried as bytes; and what an author of a new one needs:
//! the contract, the SDK, an example in each language.
//!
//! `build.rs` builds and lists them from `plugins/`, so that a built `orion` is one file. Nothing here knows wasmtime:
//! the bytes go to the host's loader like those of any other plugin, the texts into a new plugin's folder.

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

/// One text file, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct TextFile {
    /// Relative, with `/` between folders. A leading `_` of the file name keeps this repository's own tools away from
    /// it, and is dropped where the file is written.
    pub path: &'static str,
    /// What it says.
    pub text: &'static str,
}

/// The contract, `orion:search`.
pub static CONTRACT: &str = include_str!("../../../wit/orion.wit");
/// Sources of the Rust SDK.
pub static SDK: &[TextFile] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
/// Where [`SDK`] expects the contract, and where the SDK of a new plugin has it.
pub const SDK_CONTRACT_FOLDERS: (&str, &str) = ("\"../../wit\"", "\"wit\"");
/// The example plugin in Rust, without the SDK's sources.
pub static RUST_EXAMPLE: &[TextFile] = include!(concat!(env!("OUT_DIR"), "/rust.rs"));
/// The example of a reward in Rust, without the SDK's sources.
pub static RUST_REWARD_EXAMPLE: &[TextFile] = include!(concat!(env!("OUT_DIR"), "/rust-reward.rs"));
/// The example plugin in Python, without the contract.
pub static PYTHON_EXAMPLE: &[TextFile] = include!(concat!(env!("OUT_DIR"), "/python.rs"));
/// The example plugin in JavaScript, without the contract.
pub static JS_EXAMPLE: &[TextFile] = include!(concat!(env!("OUT_DIR"), "/js.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_finds_its_contract_where_it_is_told_to() {
        let bindings = SDK.iter().find(|file| file.path == "bindings.rs").expect("the bindings");
        assert_eq!(bindings.text.matches(SDK_CONTRACT_FOLDERS.0).count(), 1);
    }

    #[test]
    fn a_new_crate_takes_the_bindings_version_of_this_workspace() {
        let of = |files: &'static [TextFile]| {
            files.iter().find(|file| file.path == "sdk/_Cargo.toml").expect("the SDK's manifest")
        };
        let manifest = of(RUST_EXAMPLE);
        assert_eq!(manifest.text, of(RUST_REWARD_EXAMPLE).text, "one SDK for both worlds");
        let lock = include_str!("../../../Cargo.lock");
        let version = lock
            .split("[[package]]")
            .filter(|package| package.contains("name = \"wit-bindgen\"\n"))
            .filter_map(|package| package.split("version = \"").nth(1)?.split('"').next())
            .max()
            .expect("a version");
        assert!(manifest.text.contains(&format!("version = \"={version}\"")), "expected {version}");
    }

    #[test]
    fn examples_differ_in_language_alone() {
        for (language, files) in [("rust", RUST_EXAMPLE), ("python", PYTHON_EXAMPLE), ("js", JS_EXAMPLE)] {
            let manifest = files.iter().find(|file| file.path == "plugin.toml").expect("a manifest");
            assert!(manifest.text.contains(&format!("language = \"{language}\"")), "{language}");
            for needed in ["README.md", ".gitignore"] {
                assert!(files.iter().any(|file| file.path == needed), "{language}: {needed}");
            }
        }
    }

    #[test]
    fn every_standard_strategy_is_there_and_small() {
        let names: Vec<&str> = components().iter().map(|component| component.name).collect();
        let first =
            ["lexical", "dense", "hybrid", "rm3", "perturb", "router", "blind", "rewrite", "beam", "auto"];
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
