//! How the contract may grow: kept binaries load for ever, and what breaks them is refused in words that say why.
//!
//! A generation is a folder with components built against one version of the contract, the contract's text where that
//! version is released, and `SHA256SUMS` over all of it: `wit/frozen/VERSION` for released versions, and
//! `tests/golden/draft` for the draft. `wit/README.md` says what the rules are and how a generation is made.
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::common::{encode, hits, options, root, services};
use orion_host::contract::{Mismatch, Observation, Retriever, WIT, World, explain_mismatch};
use orion_host::{CancelToken, CheckError, Host, Limits, LoadError, Request};
use sha2::{Digest, Sha256};
use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

/// The draft's folder.
const DRAFT: &str = "tests/golden/draft";
/// Released versions' folders are in here.
const FROZEN: &str = "wit/frozen";
/// The list of hashes, in the format of `sha256sum`.
const SUMS: &str = "SHA256SUMS";
/// How the draft's binaries are made again; `wit/README.md` says when.
const REMAKE: &str = "cargo run --package orion-tests --example freeze -- draft";

/// Components built against one version of the contract.
struct Generation {
    folder: PathBuf,
    files: BTreeMap<String, Vec<u8>>,
}

impl Generation {
    fn read(folder: PathBuf) -> Self {
        let listed = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let files = listed.map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        });
        Self { files: files.collect(), folder }
    }

    /// Its components, with the world that each is of.
    fn components(&self) -> impl Iterator<Item = (String, World, &[u8])> {
        let components =
            self.files.iter().filter_map(|(name, bytes)| Some((name.strip_suffix(".wasm")?, bytes)));
        components.map(|(name, bytes)| {
            let world = match explain_mismatch(bytes, WIT, World::Strategy) {
                Err(orion_host::contract::MismatchError::Component(CheckError::OtherWorld { .. })) => {
                    World::Reward
                }
                _ => World::Strategy,
            };
            (format!("{}/{name}", self.folder.display()), world, bytes.as_slice())
        })
    }
}

/// Released versions, oldest first.
fn frozen() -> Vec<Generation> {
    let listed = fs::read_dir(root().join(FROZEN)).expect("the folder of frozen versions");
    let mut folders: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.into_iter().map(Generation::read).collect()
}

/// Released versions and the draft.
fn generations() -> Vec<Generation> {
    let mut generations = frozen();
    generations.push(Generation::read(root().join(DRAFT)));
    generations
}

fn draft() -> Generation {
    Generation::read(root().join(DRAFT))
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_generation_is_as_it_was_made() {
    for generation in generations() {
        let folder = generation.folder.display();
        let sums = generation.files.get(SUMS).unwrap_or_else(|| panic!("{folder} has no {SUMS}"));
        let sums = String::from_utf8(sums.clone()).expect("text");
        let listed: BTreeMap<&str, &str> =
            sums.lines().filter_map(|line| line.split_once("  ").map(|(hash, name)| (name, hash))).collect();
        let kept = generation.files.iter().filter(|(name, _)| *name != SUMS);
        let kept: BTreeMap<&str, String> =
            kept.map(|(name, bytes)| (name.as_str(), hexadecimal(bytes))).collect();
        let kept: BTreeMap<&str, &str> = kept.iter().map(|(name, hash)| (*name, hash.as_str())).collect();
        assert_eq!(kept, listed, "{folder}: what is kept is never changed");
        let worlds: Vec<World> = generation.components().map(|(_, world, _)| world).collect();
        assert!(
            worlds.contains(&World::Strategy) && worlds.contains(&World::Reward),
            "{folder} lacks a world"
        );
    }
    for generation in frozen() {
        assert!(generation.files.contains_key("orion.wit"), "{} lacks the text", generation.folder.display());
    }
}

#[test]
fn every_kept_component_loads_and_runs() {
    let host = Host::new(options()).expect("a host");
    for generation in generations() {
        for (name, world, bytes) in generation.components() {
            match world {
                World::Strategy => run_strategy(&host, &name, bytes),
                World::Reward => run_reward(&host, &name, bytes),
            }
        }
    }
}

fn load<T>(name: &str, loaded: Result<T, LoadError>) -> T {
    loaded.unwrap_or_else(|error| {
        panic!(
            "{name}: {error}\nwhile the contract is a draft and this change is meant, make the draft's binaries \
             again: {REMAKE}"
        )
    })
}

fn run_strategy(host: &Host, name: &str, bytes: &[u8]) {
    let strategy = load(name, host.load_bytes("kept", bytes));
    // A later caller names an option that the strategy has never heard of.
    let options = vec![("added-later".to_owned(), "1".to_owned())];
    let request = Request { options, ..Request::new("the user's words", 5) };
    let cancel = CancelToken::new();
    let limits = Limits { deadline_ms: 600_000, ..Limits::default() };
    let outcome = host.search_blocking(&strategy, request, &services(&cancel), &limits, cancel);
    assert_eq!(outcome.degraded, None, "{name}");
    assert_eq!(outcome.ranking, hits(Retriever::Lexical, 5), "{name}");
}

fn run_reward(host: &Host, name: &str, bytes: &[u8]) {
    let reward = load(name, host.load_reward("kept", bytes));
    let later = orion_host::contract::Setting { name: "added-later".into(), value: "1".into() };
    let turn = Observation { cosine: 0.5, rank: 1, corpus_size: 10, options: vec![later] };
    let options = [("added-later".to_owned(), "1".to_owned())];
    let scores = host.score_blocking(&reward, &[turn], &options, &Limits::default());
    assert_eq!(scores.map(|scores| scores.rewards), Ok(vec![0.75]), "{name}");
}

#[test]
fn everything_that_was_released_is_still_there() {
    for generation in frozen() {
        let text = String::from_utf8(generation.files["orion.wit"].clone()).expect("text");
        for world in [World::Strategy, World::Reward] {
            let component = everything(&text, world);
            let found = explain_mismatch(&component, WIT, world).expect("a component");
            assert_eq!(found, [], "{}", generation.folder.display());
        }
    }
}

/// A contract's text, parsed.
fn parse(wit: &str, world: World) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("scratch.wit", wit).expect("a contract");
    let world = resolve.select_world(&[package], Some(world.name())).expect("the world");
    (resolve, world)
}

/// A component that imports and exports all that a contract has.
fn everything(wit: &str, world: World) -> Vec<u8> {
    let (resolve, world) = parse(wit, world);
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .expect("metadata fits");
    encode(&module)
}

/// The contract with one thing changed.
fn changed(old: &str, new: &str) -> String {
    assert_eq!(WIT.matches(old).count(), 1, "`{old}` stands once in the contract");
    WIT.replace(old, new)
}

/// Today's contract, grown in the ways that are allowed: a function, an interface, a meaning of an option.
fn grown() -> String {
    let function = changed(
        "  /// Cosine similarity in [-1, 1] of each pair of texts",
        "  stems: func(words: list<string>) -> result<list<string>, error>;\n\n  /// Cosine similarity in [-1, 1] of each pair of texts",
    );
    let interface = function.replace(
        "/// What every plugin says of itself.",
        "interface clues {\n  use types.{setting};\n  /// Takes the option `depth` now.\n  clues: func(options: list<setting>) -> list<string>;\n}\n\n/// What every plugin says of itself.",
    );
    let imported = interface.replace("  import budget;\n", "  import budget;\n  import clues;\n");
    assert_ne!(imported, interface);
    imported
}

/// Changes that break components, and the type or function that the refusal has to name.
fn breaking() -> Vec<(String, &'static str)> {
    let record = |old: &str, new: &str, named: &'static str| (changed(old, new), named);
    vec![
        record(
            "    filter: option<string>,\n    options: list<setting>,",
            "    filter: option<string>,\n    options: list<setting>,\n    language: string,",
            "record `query` of `retrieval`: the host's contract has field `language`, the component has not",
        ),
        record(
            "    filter: option<string>,\n    options: list<setting>,",
            "    options: list<setting>,\n    filter: option<string>,",
            "record `query` of `retrieval`: the host's contract has the fields in the order",
        ),
        record(
            "Number of hits wanted, 1 to 1000.\n    k: u32,",
            "Number of hits wanted, 1 to 1000.\n    k: u64,",
            "record `query` of `retrieval`, field `k`: the host's contract has u64, the component has u32",
        ),
        record(
            "record hit { id: string, score: f32 }",
            "record hit { id: string, score: f32, text: string }",
            "record `hit` of `types`: the host's contract has field `text`, the component has not",
        ),
        record(
            "record hit { id: string, score: f32 }",
            "record hit { id: string, value: f32 }",
            "record `hit` of `types`: the host's contract has field `value`, the component has not; the component has field `score`, the host's contract has not",
        ),
        record(
            "enum retriever { lexical, dense, hybrid }",
            "enum retriever { lexical, dense, hybrid, graph }",
            "enum `retriever` of `types`: the host's contract has case `graph`, the component has not",
        ),
        record(
            "    cancelled,\n",
            "    cancelled,\n    too-busy,\n",
            "variant `error` of `types`: the host's contract has case `too-busy`, the component has not",
        ),
        record(
            "    cancelled,\n",
            "    cancelled(string),\n",
            "variant `error` of `types`, case `cancelled`: the host's contract has string, the component has nothing",
        ),
        record(
            "    other(tuple<string, string>),",
            "    other(tuple<string, string, u32>),",
            "variant `error` of `types`, case `other`: the host's contract has tuple<string, string, u32>, the component has tuple<string, string>",
        ),
        record(
            "search: func(queries: list<query>)",
            "search: func(questions: list<query>)",
            "the host's contract has parameter `questions`, the component has not",
        ),
        record(
            "search: func(queries: list<query>)",
            "search: func(queries: option<query>)",
            "parameter `queries`: the host's contract has option<record `query` of `retrieval`>, the component has list<a record of `text`, `retriever`, `dense-weight`, `k`, `filter`, `options`>",
        ),
        record(
            "search: func(queries: list<query>)",
            "look-up: func(queries: list<query>)",
            "the host's contract has no function `search` there",
        ),
        record(
            "    seed: u64,\n    /// Values of the strategy's",
            "    seed: u64,\n    user: string,\n    /// Values of the strategy's",
            "record `request` of `strategy`: the host's contract has field `user`, the component has not",
        ),
        record(
            "export search: func(request: request) -> result<outcome, error>;",
            "export search: func(request: request) -> outcome;",
            "the result: the host's contract has record `outcome` of `strategy`, the component has result<",
        ),
        record(
            "    seed: u64,\n    /// Values of the strategy's",
            "    /// Values of the strategy's",
            "record `request` of `strategy`: the component has field `seed`, the host's contract has not",
        ),
        record(
            "  export search: func(",
            "  export explain: func() -> string;\n  export search: func(",
            "export `explain`: the component has no such function",
        ),
        record(
            "record parameter { name: string, kind: kind, default: string, help: string }",
            "record parameter { name: string, default: string, help: string }",
            "record `parameter` of `about`: the component has field `kind`, the host's contract has not",
        ),
    ]
}

/// What the component model's own validator says of a component that is to run where `wit` is spoken: the rule that
/// `explain_mismatch` puts into words, worked out by instantiating.
fn fits(component: &[u8], wit: &str, world: World) -> bool {
    let (resolve, world) = parse(wit, world);
    wit_component::targets(&resolve, world, component, false).is_ok()
}

fn mismatches(component: &[u8], wit: &str, world: World) -> Vec<Mismatch> {
    explain_mismatch(component, wit, world).expect("a component and a contract")
}

#[test]
fn a_component_of_everything_fits_its_own_contract() {
    for world in [World::Strategy, World::Reward] {
        let component = everything(WIT, world);
        assert_eq!(mismatches(&component, WIT, world), []);
        assert!(fits(&component, WIT, world));
    }
}

#[test]
fn growth_keeps_old_components() {
    let grown = grown();
    for (name, world, bytes) in draft().components() {
        assert_eq!(mismatches(bytes, &grown, world), [], "{name}");
        assert!(fits(bytes, &grown, world), "{name}");
    }
    for world in [World::Strategy, World::Reward] {
        let component = everything(WIT, world);
        assert_eq!(mismatches(&component, &grown, world), []);
        assert!(fits(&component, &grown, world));
    }
}

#[test]
fn a_component_of_a_later_contract_is_told_what_this_host_lacks() {
    let later = everything(&grown(), World::Strategy);
    assert!(!fits(&later, WIT, World::Strategy));
    // The new interface is refused by its name, before types are looked at.
    let refused = explain_mismatch(&later, WIT, World::Strategy).expect_err("an unknown interface");
    assert!(refused.to_string().contains("import `orion:search/clues@0.1.0` is not allowed"), "{refused}");
    let later = everything(&grown().replace("  import clues;\n", ""), World::Strategy);
    let found = mismatches(&later, WIT, World::Strategy);
    let [mismatch] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        mismatch.to_string(),
        "import `orion:search/retrieval@0.1.0`: the host's contract has no function `stems` there; the component was \
         built for a later version of the contract; it needs a later host"
    );
}

#[test]
fn a_changed_type_is_refused_in_words_that_name_it_and_say_why() {
    let draft = draft();
    let (_, _, lexical) =
        draft.components().find(|(name, ..)| name.ends_with("lexical")).expect("a strategy");
    for (wit, expected) in breaking() {
        let found = mismatches(lexical, &wit, World::Strategy);
        let said: Vec<String> = found.iter().map(Mismatch::to_string).collect();
        assert!(said.iter().any(|line| line.contains(expected)), "expected `{expected}`, got {said:#?}");
        assert!(!fits(lexical, &wit, World::Strategy), "{expected}");
    }
    // In full, once.
    let (wit, _) = &breaking()[0];
    let found = mismatches(lexical, wit, World::Strategy);
    let [mismatch] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        mismatch.to_string(),
        "import `orion:search/retrieval@0.1.0`, function `search`: record `query` of `retrieval`: the host's contract has \
         field `language`, the component has not; a record crosses the boundary field by field, in order, so no field \
         can be added to it, taken away, renamed, moved or changed once components use it"
    );
}

#[test]
fn the_reward_s_world_is_held_to_the_same_rule() {
    let draft = draft();
    let (_, _, reward) = draft.components().find(|(_, world, _)| *world == World::Reward).expect("a reward");
    let wit = changed("    corpus-size: u64,\n", "    corpus-size: u64,\n    turn: u32,\n");
    let found = mismatches(reward, &wit, World::Reward);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with(
        "export `score`: record `observation` of `reward`: the host's contract has field `turn`, the component has not"
    ));
    assert!(!fits(reward, &wit, World::Reward));
}

#[test]
fn words_and_rule_agree_for_every_change_and_component() {
    let draft = draft();
    let mut components: Vec<(String, World, Vec<u8>)> =
        draft.components().map(|(name, world, bytes)| (name, world, bytes.to_vec())).collect();
    for world in [World::Strategy, World::Reward] {
        components.push((format!("every {world}"), world, everything(WIT, world)));
    }
    let contracts = breaking().into_iter().map(|(wit, _)| wit).chain([WIT.to_owned(), grown()]);
    for wit in contracts {
        for (name, world, bytes) in &components {
            let said = mismatches(bytes, &wit, *world);
            assert_eq!(said.is_empty(), fits(bytes, &wit, *world), "{name}: {said:#?}");
        }
    }
}

#[test]
fn the_loader_refuses_in_the_same_words_before_it_compiles() {
    let host = Host::new(options()).expect("a host");
    let (wit, _) = &breaking()[0];
    let refused = host.load_bytes("other", &everything(wit, World::Strategy)).expect_err("another shape");
    let LoadError::Contract { message, .. } = &refused else { panic!("{refused}") };
    assert!(
        message.contains(
            "record `query` of `retrieval`: the component has field `language`, the host's contract has not"
        ),
        "{message}"
    );
    let elsewhere =
        WIT.replace("package orion:search@0.1.0;", "package orion:search@0.2.0;").replace("0.1.0)", "0.2.0)");
    let refused =
        host.load_bytes("other", &everything(&elsewhere, World::Strategy)).expect_err("another version");
    let message = refused.to_string();
    assert!(
        message
            .contains("@0.2.0` is of another version of the contract: this host speaks orion:search@0.1.x"),
        "{message}"
    );
}
