//! What the host's tests share: fakes of the services, the hostile guest as a component, guests from text.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use orion_host::contract::{Candidate, Document, JudgedText, Node, Query, Retriever, Sampling, Segment};
use orion_host::{
    BoxFuture, CancelToken, Generate, GenerateSession, Hit, HostOptions, Metered, Retrieve, ServiceError,
    Services, Usage,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// Documents `d1` to `d20`; every query finds them in that order. Some query texts do more: `hang` never returns,
/// `cancel` raises the token and then never returns, `broken` is a fault. `dense` is unavailable without an encoder.
pub(crate) struct FakeRetrieve {
    pub(crate) cancel: CancelToken,
    pub(crate) has_encoder: bool,
}

impl Default for FakeRetrieve {
    fn default() -> Self {
        Self { cancel: CancelToken::new(), has_encoder: true }
    }
}

/// Score of the document at a 0-based place; the retriever shows in it.
pub(crate) fn score(retriever: Retriever, place: usize) -> f32 {
    let base = match retriever {
        Retriever::Lexical => 100.0,
        Retriever::Dense => 1.0,
        Retriever::Hybrid => 10.0,
    };
    base - 0.01 * place as f32
}

/// The fake's answer.
pub(crate) fn hits(retriever: Retriever, k: usize) -> Vec<Hit> {
    (0..k.min(20))
        .map(|place| Hit { id: format!("d{}", place + 1), score: score(retriever, place) })
        .collect()
}

impl Retrieve for FakeRetrieve {
    fn search(&self, queries: Vec<Query>) -> BoxFuture<'_, Result<Vec<Vec<Hit>>, ServiceError>> {
        Box::pin(async move {
            let mut rankings = Vec::new();
            for query in queries {
                match query.text.as_str() {
                    "hang" => std::future::pending().await,
                    "cancel" => {
                        self.cancel.cancel();
                        std::future::pending().await
                    }
                    "broken" => {
                        return Err(ServiceError::Fault {
                            code: "broken".into(),
                            message: "disk on fire".into(),
                        });
                    }
                    _ if query.retriever != Retriever::Lexical && !self.has_encoder => {
                        return Err(ServiceError::Unavailable("no encoder".into()));
                    }
                    _ => rankings.push(hits(query.retriever, query.k as usize)),
                }
            }
            Ok(rankings)
        })
    }

    fn documents(
        &self,
        ids: Vec<String>,
        max_chars: u32,
    ) -> BoxFuture<'_, Result<Vec<Option<Document>>, ServiceError>> {
        Box::pin(async move {
            let document = |id: String| {
                let text: String = format!("text of {id}").chars().take(max_chars as usize).collect();
                id.starts_with('d').then(|| Document { title: format!("title of {id}"), id, text })
            };
            Ok(ids.into_iter().map(document).collect())
        })
    }

    fn similarity(&self, pairs: Vec<(String, String)>) -> BoxFuture<'_, Result<Vec<f32>, ServiceError>> {
        Box::pin(async move { Ok(vec![0.5; pairs.len()]) })
    }
}

/// A policy that proposes `proposal 0`, `proposal 1`, … at one token a word, and finds everything equally likely.
pub(crate) struct FakeGenerate;

impl Generate for FakeGenerate {
    fn session(&self) -> Box<dyn GenerateSession> {
        Box::new(FakeSession(AtomicU64::new(1_000)))
    }
}

struct FakeSession(AtomicU64);

impl GenerateSession for FakeSession {
    fn extend(
        &self,
        steps: Vec<(Option<Node>, Vec<Segment>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Node>>, ServiceError>> {
        let value: Vec<Node> = steps.iter().map(|_| self.0.fetch_add(1, Ordering::Relaxed)).collect();
        let usage = Usage { prefilled_tokens: 5 * value.len() as u64, decoded_tokens: 0 };
        Box::pin(async move { Ok(Metered { value, usage }) })
    }

    fn propose(
        &self,
        nodes: Vec<Node>,
        sampling: Sampling,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<Candidate>>>, ServiceError>> {
        let candidate = |number: u32| Candidate {
            node: self.0.fetch_add(1, Ordering::Relaxed),
            think: "a thought".to_owned(),
            query: format!("proposal {number}"),
            retriever: Some(Retriever::Dense),
            log_probability: -1.5,
            tokens: 4,
            options: Vec::new(),
        };
        let value: Vec<Vec<Candidate>> =
            nodes.iter().map(|_| (0..sampling.candidates).map(candidate).collect()).collect();
        let made = value.iter().flatten().count() as u64;
        let usage = Usage { prefilled_tokens: 0, decoded_tokens: 4 * made };
        Box::pin(async move { Ok(Metered { value, usage }) })
    }

    fn perplexity(
        &self,
        requests: Vec<(Node, Vec<String>)>,
    ) -> BoxFuture<'_, Result<Metered<Vec<Vec<JudgedText>>>, ServiceError>> {
        let judged = |_: &String| JudgedText {
            perplexity: 1.0_f32.exp(),
            tokens: 2,
            log_probabilities: vec![-1.0; 2],
        };
        let value: Vec<Vec<JudgedText>> =
            requests.iter().map(|(_, texts)| texts.iter().map(judged).collect()).collect();
        let usage = Usage { prefilled_tokens: 2 * value.iter().flatten().count() as u64, decoded_tokens: 0 };
        Box::pin(async move { Ok(Metered { value, usage }) })
    }
}

/// Fakes of everything; the token is the one that the query `cancel` raises.
pub(crate) fn services(cancel: &CancelToken) -> Services {
    let retrieve = FakeRetrieve { cancel: cancel.clone(), ..FakeRetrieve::default() };
    Services { retrieve: Arc::new(retrieve), generate: Some(Arc::new(FakeGenerate)), feedback: None }
}

/// Options of a host for tests: compiled components are kept between test runs, because an unoptimised compiler takes
/// seconds for each.
pub(crate) fn options() -> HostOptions {
    let cache_folder = Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"));
    HostOptions { cache_folder, concurrent_searches: 8, breaker_failures: 0, ..HostOptions::default() }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The hostile guest as a component, built once for a test run in a target folder of its own.
pub(crate) fn hostile_component() -> &'static [u8] {
    static COMPONENT: OnceLock<Vec<u8>> = OnceLock::new();
    COMPONENT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["build", "--locked", "--package", "orion-hostile-guest"]);
        cargo
            .args(["--profile", "plugin", "--target", "wasm32-unknown-unknown"])
            .arg("--target-dir")
            .arg(&target);
        // What the outer cargo was told is not meant for the guest.
        for variable in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_BUILD_RUSTFLAGS"]
        {
            cargo.env_remove(variable);
        }
        for variable in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR", "CLIPPY_ARGS"] {
            cargo.env_remove(variable);
        }
        let output = cargo.output().expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let module = target.join("wasm32-unknown-unknown/plugin/orion_hostile_guest.wasm");
        encode(&std::fs::read(module).expect("the guest was built"))
    })
}

/// A component of a core module that carries its metadata.
pub(crate) fn encode(module: &[u8]) -> Vec<u8> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).expect("a module with metadata");
    encoder.encode().expect("a component")
}

/// A strategy from the text of a core module that exports `memory`, `cabi_realloc`, `describe` and `search`.
pub(crate) fn component_from_text(text: &str) -> Vec<u8> {
    component_of_world("strategy", text)
}

/// A component of a world of the contract, from the text of a core module.
fn component_of_world(world: &str, text: &str) -> Vec<u8> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(root().join("wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    let mut module = wat::parse_str(text).expect("valid text");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .expect("metadata fits");
    encode(&module)
}

/// A reward that describes itself as `text-guest`, with the given body of `score`: parameters are `$turns $count $options
/// $options-count`, the result is an address.
pub(crate) fn text_reward(score: &str) -> Vec<u8> {
    let parameters = "(param $turns i32) (param $count i32) (param $options i32) (param $options-count i32)";
    let text = text_guest("", "i32.const 64", "unreachable").replace(
        r#"(func (export "search") (param i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) unreachable)"#,
        &format!(r#"(func (export "score") {parameters} (result i32) {score})"#),
    );
    component_of_world("reward", &text)
}

/// A core module that describes itself as `text-guest`, with `extra` definitions and the given function bodies.
pub(crate) fn text_guest(extra: &str, describe: &str, search: &str) -> String {
    format!(
        r#"(module
          (memory (export "memory") 1)
          ;; description: name (16, 10), help (16, 10), no parameters, no options
          (data (i32.const 16) "text-guest")
          (data (i32.const 64) "\10\00\00\00\0a\00\00\00\10\00\00\00\0a\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
          (global $free (mut i32) (i32.const 4096))
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
            global.get $free
            (global.set $free (i32.add (global.get $free) (local.get 3))))
          {extra}
          (func (export "describe") (result i32) {describe})
          (func (export "search") (param i32 i32 i32 i32 i32 i32 i64 i32 i32) (result i32) {search}))"#
    )
}
