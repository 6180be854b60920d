//! Rewards in the sandbox: what is refused, what stops a hostile one, and that a good one costs the same every time.
use std::sync::OnceLock;

use crate::common::{component_from_text, options, root, text_guest, text_reward};
use orion_host::contract::{Observation, World};
use orion_host::{CheckError, DegradedKind, Host, Limits, LoadError, OptionError, ScoreError};

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(options()).expect("a host"))
}

fn limits() -> Limits {
    Limits { deadline_ms: 600_000, fuel: 50_000_000, memory_bytes: 8 << 20, ..Limits::default() }
}

fn observation(cosine: f32, rank: u64, corpus_size: u64) -> Observation {
    Observation { cosine, rank, corpus_size, options: Vec::new() }
}

fn turns() -> Vec<Observation> {
    vec![observation(0.8, 1, 1001), observation(0.2, 10, 1001), observation(-0.4, 1001, 1001)]
}

/// Answers `ok` with as many numbers as `length` says, from address 1024.
fn answer(extra: &str, length: &str) -> String {
    format!(
        "{extra}
         (i32.store8 (i32.const 128) (i32.const 0))
         (i32.store (i32.const 132) (i32.const 1024))
         (i32.store (i32.const 136) {length})
         i32.const 128"
    )
}

fn score_with(body: &str, limits: &Limits) -> Result<Vec<f32>, ScoreError> {
    let reward = host().load_reward("guest", &text_reward(body)).expect("it loads");
    host().score_blocking(&reward, &turns(), &[], limits).map(|scores| scores.rewards)
}

/// Kind and reason of a stopped call.
fn stopped(body: &str, limits: &Limits) -> (DegradedKind, String) {
    match score_with(body, limits) {
        Err(ScoreError::Stopped { reward, turns: 3, reason }) if reward == "guest" => {
            (reason.kind, reason.reason)
        }
        other => panic!("expected it to be stopped, got {other:?}"),
    }
}

#[test]
fn the_smallest_reward_scores() {
    let reward =
        host().load_reward("small", &text_reward(&answer("", "(local.get $count)"))).expect("it loads");
    assert_eq!((reward.name(), reward.description().name.as_str()), ("small", "text-guest"));
    let scores = host().score_blocking(&reward, &turns(), &[], &limits()).expect("scores");
    assert_eq!(scores.rewards, [0.0; 3]);
    assert_eq!(scores.peak_memory_bytes, 64 << 10);
    assert!(scores.fuel > 0);
    let none = host().score_blocking(&reward, &[], &[], &limits()).expect("scores");
    assert!(none.rewards.is_empty());
}

#[test]
fn a_wrong_number_of_rewards_is_an_error() {
    for (length, got) in [("(i32.const 0)", 0), ("(i32.const 2)", 2), ("(i32.const 4)", 4)] {
        let error = score_with(&answer("", length), &limits()).expect_err("a wrong length");
        let expected = format!("reward `guest`: expected 3 rewards, one for each turn, got {got}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_reward_that_is_no_number_is_an_error() {
    for (number, got) in [("nan", "NaN"), ("inf", "inf"), ("-inf", "-inf")] {
        let store = format!("(f32.store (i32.const 1028) (f32.const {number}))");
        let error = score_with(&answer(&store, "(local.get $count)"), &limits()).expect_err("no number");
        assert_eq!(error.to_string(), format!("reward `guest`: turn 1: expected a finite number, got {got}"));
    }
}

#[test]
fn a_spinning_reward_runs_out_of_fuel() {
    let (kind, reason) = stopped("(loop $again (br $again)) unreachable", &limits());
    assert_eq!((kind, reason.as_str()), (DegradedKind::Fuel, "all instructions used up"));
}

#[test]
fn a_spinning_reward_with_endless_fuel_meets_its_deadline() {
    let limits = Limits { deadline_ms: 200, grace_ms: 0, fuel: u64::MAX / 2, ..limits() };
    assert_eq!(stopped("(loop $again (br $again)) unreachable", &limits).0, DegradedKind::Deadline);
}

#[test]
fn a_growing_reward_is_stopped() {
    let grow = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    assert_eq!(stopped(grow, &limits()).0, DegradedKind::Memory);
}

#[test]
fn a_trapping_reward_is_an_error() {
    let (kind, reason) = stopped("unreachable", &limits());
    assert_eq!(
        (kind, reason.as_str()),
        (DegradedKind::Trap, "wasm trap: wasm `unreachable` instruction executed")
    );
}

#[test]
fn a_list_outside_memory_or_beyond_reason_is_an_error() {
    assert_eq!(stopped(&answer("", "(i32.const 100000)"), &limits()).0, DegradedKind::Trap);
    assert_eq!(stopped(&answer("", "(i32.const -1)"), &limits()).0, DegradedKind::Trap);
    let narrow = Limits { call_bytes: 1_000, ..limits() };
    let (kind, reason) = stopped(&answer("", "(i32.const 10000)"), &narrow);
    assert_eq!((kind, reason.as_str()), (DegradedKind::Flood, "flood: too many bytes in one call"));
}

#[test]
fn a_refusal_comes_with_its_reason() {
    // `err(invalid-input("text-guest"))`: the result's case, the variant's case, address and length of the text.
    let refuse = "(i32.store8 (i32.const 128) (i32.const 1))
                  (i32.store8 (i32.const 132) (i32.const 2))
                  (i32.store (i32.const 136) (i32.const 16))
                  (i32.store (i32.const 140) (i32.const 10))
                  i32.const 128";
    assert_eq!(stopped(refuse, &limits()), (DegradedKind::Failed, "invalid input: text-guest".to_owned()));
}

#[test]
fn one_kind_is_refused_where_the_other_is_wanted() {
    let reward = text_reward("unreachable");
    let strategy = component_from_text(&text_guest("", "i32.const 64", "unreachable"));
    let refused = host().load_bytes("guest", &reward).expect_err("a reward is no strategy");
    assert!(
        matches!(
            refused,
            LoadError::Check { source: CheckError::OtherWorld { wanted: World::Strategy }, .. }
        ),
        "{refused:?}"
    );
    assert_eq!(
        refused.to_string(),
        "component `guest`: expected a strategy, got a reward: it exports `score` and no `search`"
    );
    let refused = host().load_reward("guest", &strategy).expect_err("a strategy is no reward");
    assert_eq!(
        refused.to_string(),
        "component `guest`: expected a reward, got a strategy: it exports `search` and no `score`"
    );
}

#[test]
fn a_reward_has_nothing_to_look_things_up_with() {
    let text = r#"(component (import "orion:search/retrieval@0.1.0" (instance)))"#;
    let refused = host().load_reward("guest", &wat::parse_str(text).expect("valid text"));
    let message = refused.expect_err("no such import").to_string();
    assert!(
        message.contains("a reward may import `orion:search/about@0.1.x`, `orion:search/log@0.1.x`"),
        "{message}"
    );
}

/// The standard reward as it is kept for later hosts.
fn golden() -> Vec<u8> {
    std::fs::read(root().join("tests/golden/draft/reward.wasm")).expect("the kept reward")
}

#[test]
fn the_standard_reward_costs_the_same_every_time() {
    let golden = golden();
    let score = || {
        // A host of its own each time, as after a restart.
        let host = Host::new(options()).expect("a host");
        let reward = host.load_reward("reward", &golden).expect("it loads");
        let options =
            [("rank".to_owned(), "logarithmic".to_owned()), ("z-score".to_owned(), "true".to_owned())];
        host.score_blocking(&reward, &turns(), &options, &limits()).expect("scores")
    };
    let (first, second) = (score(), score());
    assert_eq!(first.fuel, second.fuel);
    assert_eq!(first.peak_memory_bytes, second.peak_memory_bytes);
    let bits = |rewards: &[f32]| rewards.iter().map(|reward| reward.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&first.rewards), bits(&second.rewards));
}

#[test]
fn the_standard_reward_scores_as_worked_out_by_hand() {
    let reward = host().load_reward("reward", &golden()).expect("it loads");
    let scores = host().score_blocking(&reward, &turns(), &[], &limits()).expect("scores");
    // 0.5·0.8 + 0.5·1; 0.5·0.2 + 0.5·(1 - 9/1000); 0 + 0.
    for (got, expected) in scores.rewards.iter().zip([0.9, 0.5955, 0.0]) {
        assert!((got - expected).abs() < 1e-6, "expected {expected}, got {got}");
    }
    let error =
        host().score_blocking(&reward, &[observation(0.5, 0, 10)], &[], &limits()).expect_err("rank 0");
    assert_eq!(
        error.to_string(),
        "reward `reward`: could not score 1 turns: failed: invalid input: turn 0: rank: expected 1 to the corpus size \
         10, got 0"
    );
    let unknown =
        reward.check_options(&[("speed".to_owned(), "1".to_owned())]).expect_err("no such parameter");
    assert!(matches!(unknown, OptionError::Unknown { world: World::Reward, .. }), "{unknown}");
}
