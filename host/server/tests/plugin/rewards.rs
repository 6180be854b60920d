//! The author's commands on a reward: the standard one, as a component in a folder and in a plugin directory.

use expect_test::{Expect, expect};

use crate::common::{Printed, Sandbox};

/// A folder with the standard reward under its manifest, and one scenario without expectations.
fn folder(manifest: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let reward = orion_bundle::reward("reward").expect("`reward` is bundled");
    std::fs::write(sandbox.path().join("reward.wasm"), reward.bytes).expect("a component");
    sandbox.write("plugin.toml", manifest);
    sandbox.write("tests/ranks.toml", SCENARIO);
    sandbox
}

const MANIFEST: &str =
    "name = \"reward\"\ncomponent = \"reward.wasm\"\ncontract = \"0.1\"\nworld = \"reward\"\n";

const SCENARIO: &str = r#"about = "the best rank is worth most"

[options]
similarity-weight = 0

[[turn]]
cosine = 0.9
rank = 1
corpus_size = 101

[[turn]]
cosine = 0.9
rank = 51
corpus_size = 101
"#;

fn check(printed: &Printed, code: i32, stdout: Expect) {
    assert_eq!(printed.code, code, "{printed:?}");
    stdout.assert_eq(&printed.stdout);
}

#[test]
fn a_scenario_of_a_reward_is_written_then_holds_then_fails_readably() {
    let sandbox = folder(MANIFEST);
    check(
        &sandbox.run(&["plugin", "test", "--update"]),
        0,
        expect![[r#"
            new  ranks  the best rank is worth most
            1 scenario: all hold
        "#]],
    );
    let written = std::fs::read_to_string(sandbox.path().join("tests/ranks.toml")).expect("a scenario");
    assert_eq!(written, format!("{SCENARIO}\n[expect]\nrewards = [0.5, 0.25]\n"));
    assert_eq!(sandbox.run(&["plugin", "test"]).code, 0);
    sandbox.write("tests/ranks.toml", &written.replace("0.25]", "0.75]"));
    check(
        &sandbox.run(&["plugin", "test"]),
        1,
        expect![[r#"
            FAIL ranks  the best rank is worth most
                 rewards (- expected, + came)
                   turn 1 0.5
                 - turn 2 0.75
                 + turn 2 0.25
            1 scenario: 1 failed
        "#]],
    );
    // What it refuses is an expectation too.
    let refused = SCENARIO.replace("rank = 51", "rank = 102");
    sandbox.write(
        "tests/ranks.toml",
        &format!("{refused}\n[expect]\nfails = \"expected 1 to the corpus size 101\"\n"),
    );
    assert_eq!(sandbox.run(&["plugin", "test"]).code, 0);
    sandbox.write("tests/ranks.toml", &SCENARIO.replace("similarity-weight", "similarity"));
    let printed = sandbox.run(&["plugin", "test"]);
    assert_eq!(printed.code, 2, "{printed:?}");
    assert!(printed.stderr.contains("reward `reward` has no parameter `similarity`"), "{}", printed.stderr);
}

#[test]
fn a_reward_scores_and_is_told_from_a_strategy() {
    let sandbox = folder(MANIFEST);
    check(
        &sandbox.run(&["plugin", "run", "reward.wasm", "--scenario", "tests/ranks.toml"]),
        0,
        expect![[r#"
            turn   cosine      rank        of      reward
               1   0.9000         1       101    0.500000
               2   0.9000        51       101    0.250000
        "#]],
    );
    let printed = sandbox.run(&["plugin", "run", "reward.wasm", "--query", "x"]);
    assert_eq!(printed.code, 2);
    assert!(
        printed.stderr.contains("running the reward in `reward.wasm`: expected --scenario FILE"),
        "{}",
        printed.stderr
    );
    let checked = sandbox.run(&["plugin", "check", "reward.wasm"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stdout.contains("exports    describe, score: a reward"), "{}", checked.stdout);
}

#[test]
fn a_manifest_says_which_world_it_is_for() {
    let refused = |manifest: &str, part: &str| {
        let printed = folder(manifest).run(&["plugin", "check"]);
        assert_ne!(printed.code, 0);
        let said = format!("{}{}", printed.stdout, printed.stderr);
        assert!(said.contains(part), "{said}");
    };
    refused(
        &MANIFEST.replace("\"reward\"\n", "\"search\"\n").replace("name = \"search\"", "name = \"reward\""),
        "world: expected one of `strategy`, `reward`, got `search`",
    );
    refused(
        &format!("{MANIFEST}grants = [\"retrieval\"]\n"),
        "grants: expected none, as a reward reaches nothing, got `retrieval`",
    );
    refused(&MANIFEST.replace("world = \"reward\"\n", ""), "does not export `search`");
}

#[test]
fn a_plugin_directory_holds_rewards_beside_strategies() {
    let sandbox = Sandbox::new();
    let reward = orion_bundle::reward("reward").expect("`reward` is bundled");
    std::fs::create_dir(sandbox.path().join("plugins")).expect("a folder");
    std::fs::write(sandbox.path().join("plugins/reward.wasm"), reward.bytes).expect("a component");
    sandbox.write("plugins/reward.toml", &format!("{MANIFEST}[parameters]\nrank = \"logarithmic\"\n"));
    let listed = sandbox.run(&["plugin", "list", "--plugins", "plugins", "--json"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    assert_eq!((&listed[0]["state"], &listed[0]["world"]), (&"a reward".into(), &"reward".into()));
    // The manifest's defaults are the plugin's: rank 11 of 101 is worth more than a linear rank gives it.
    let scenario = SCENARIO.replace("rank = 51", "rank = 11");
    sandbox.write("tests/ranks.toml", &scenario);
    let scored =
        sandbox.run(&["plugin", "run", "plugins/reward.wasm", "--scenario", "tests/ranks.toml", "--json"]);
    let scored: serde_json::Value = serde_json::from_str(&scored.stdout).expect("JSON");
    let expected = 0.5 * (1.0 - 11_f64.ln() / 101_f64.ln());
    assert!((scored["rewards"][1].as_f64().expect("a number") - expected).abs() < 1e-6, "{scored}");
}
