//! Whole commands: what is printed where, and with which exit code.

#[path = "../common/mod.rs"]
mod common;
mod data;
mod import;

use clap::CommandFactory;
use common::Sandbox;
use expect_test::{Expect, expect};
use orion_server::{args::Cli, env_vars::VARIABLES};

fn check_error(arguments: &[&str], want: Expect) {
    let printed = Sandbox::new().run(arguments);
    assert_eq!(printed.code, 2, "{printed:?}");
    assert_eq!(printed.stdout, "", "errors are talk");
    want.assert_eq(&printed.stderr);
}

#[test]
fn every_command_has_help_and_examples() {
    fn visit(command: &clap::Command, path: &str) {
        let name = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some() || path.is_empty(), "{name} has no help");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {} has no help", argument.get_id());
        }
        if command.get_subcommands().next().is_none() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.starts_with("Examples:\n  orion "), "{name} has no examples: {after}");
        }
        command.get_subcommands().for_each(|inner| visit(inner, &name));
    }
    visit(&Cli::command(), "");
    Cli::command().debug_assert();
}

#[test]
fn examples_in_help_texts_parse() {
    fn visit(command: &clap::Command, lines: &mut Vec<String>) {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        lines.extend(after.lines().filter_map(|line| line.strip_prefix("  ")).map(str::to_owned));
        command.get_subcommands().for_each(|inner| visit(inner, lines));
    }
    let mut lines = Vec::new();
    visit(&Cli::command(), &mut lines);
    assert!(15 <= lines.len(), "{lines:?}");
    for line in lines {
        let words = shell_words(&line);
        assert!(Cli::command().try_get_matches_from(&words).is_ok(), "{line}");
    }
}

/// Splits at blanks outside quotes: all that examples need of a shell.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().expect("a word").push(c),
        }
    }
    words
}

#[test]
fn the_long_help_names_every_variable_and_the_exit_codes() {
    let help = Sandbox::new().answered(&["--help"]);
    for (name, what) in VARIABLES {
        assert!(help.contains(name) && help.contains(what), "{name}");
    }
    assert!(help.contains("Exit status: 0 answered, 1 no answer or a measure below its floor, 2 error."));
}

#[test]
fn the_short_help() {
    expect![[r#"
        Adaptive search: a small language model that searches, reads, and searches again.

        Usage: orion [OPTIONS] <COMMAND>

        Commands:
          demo        Index the bundled corpus and watch an adaptive search at work
          index       Make, fill, look at and remove named indexes
          search      Search an index with a strategy
          eval        Measure strategies on a judged collection: Table A
          plot        Draw the tables of earlier evaluations: quality, behaviour turn by turn
          strategies  List strategies with their parameters
          data        Get judged sets from their public homes, or bring in ones of other layouts
          models      Get and locate the dense encoder
          plugin      Test, run, replay and time strategies from component files
          policy      Hold a policy checkpoint against recorded numbers
          serve       Serve indexes over HTTP, as OpenSearch's clients speak it
          mcp         Offer search to agents as tools of the Model Context Protocol
          doctor      Say what this machine offers and what Orion found on it

        Options:
          -h, --help     Print help (see more with '--help')
          -V, --version  Print version

        Global options:
              --data-dir <FOLDER>        Folder of indexes, caches and runs [default: .orion if it is there,
                                         else the user's data folder]
              --models-dir <FOLDER>      Folder of model folders [default: models if MiniLM is in it, else
                                         models in the data folder]
              --plugins <FOLDER>         Folder of plugins, each a NAME.toml and its component [default:
                                         plugins in the data folder if it is there]
              --trusted-keys <FOLDER>    Load only plugins that a key in this folder (*.pub) signed
              --locked                   Load only plugins that are as the plugin folder's plugins.lock says
              --threads <N>              Threads for encoding and the policy; results are the same for any
                                         number [default: all cores]
              --policy-weights <FORMAT>  Round a policy's matrices at load, for speed and memory: as-stored,
                                         q8_0, q4_0 or q4_k
              --device <DEVICE>          Where a policy runs: auto (a GPU if there is one), cpu or cuda:N
              --json                     Print data as JSON
              --color <WHEN>             When to colour [default: auto] [possible values: auto, always,
                                         never]
          -q, --quiet                    Say nothing but warnings and errors on standard error
    "#]]
    .assert_eq(&Sandbox::new().answered(&["-h"]));
}

#[test]
fn usage_errors_have_code_2() {
    let printed = Sandbox::new().run(&["search"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (2, ""));
    assert!(printed.stderr.starts_with("error: "), "{}", printed.stderr);
    assert_eq!(Sandbox::new().run(&[]).code, 2);
    assert_eq!(Sandbox::new().run(&["--version"]).code, 0);
}

#[test]
fn errors_say_what_and_hint_what_to_do() {
    check_error(
        &["search", "salt", "--index", "notes"],
        expect![[r#"
        error: opening index `notes`: there is none of that name

        hint: there are none yet; `orion index add notes FILE` makes one
    "#]],
    );
    check_error(
        &["search", "salt", "--index", "notes", "--strategy", "magic"],
        expect![[r#"
            error: choosing strategy `magic`: there is none of that name

            hint: there are lexical, dense, hybrid, rm3, perturb, router, blind, rewrite, beam, auto, adaptive-context-learner, random-walk-wanderer, breadth-first-explorer, depth-first-driller, wrong-direction-specialist, early-success-validator, exploitation-heavy-validator, greedy-hill-climber, best-first-hypothesis-selector, multi-beam-parallel, pseudo-document; --plugin FILE adds one
        "#]],
    );
    check_error(
        &["search", "salt", "--index", "notes", "--strategy", "lexical", "--param", "speed=9"],
        expect![[r#"
        error: strategy `lexical` has no parameter `speed`; it has none

        hint: `orion strategies lexical` lists its parameters
    "#]],
    );
    check_error(
        &["search", "salt", "--index", "notes", "--policy", "nowhere"],
        expect![[r#"
        error: choosing policy `nowhere`: expected `nano`, `none`, `untrained`, an address, a checkpoint folder or a .gguf file, got a path without `config.json`

        hint: a checkpoint folder holds config.json, tokenizer.json and model.safetensors; a .gguf file will do too
    "#]],
    );
    check_error(
        &["eval", "--data", "nowhere"],
        expect![[r#"
        error: opening `nowhere/corpus.jsonl`
          caused by: No such file or directory (os error 2)

        hint: a data folder holds `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv` (BEIR layout); `orion data fetch NAME --archive FILE.zip` unpacks one, `orion data import` brings in other layouts
    "#]],
    );
    check_error(
        &["index", "drop", "notes", "--yes"],
        expect![[r#"
        error: dropping index `notes`: there is none of that name

        hint: `orion index list` lists them
    "#]],
    );
    check_error(
        &["index", "tune", "notes", "--data", "nowhere", "--split", "test"],
        expect![[r#"
        error: tuning on split `test`: expected a dev or train split, got a test split

        hint: numbers measured on a split that was tuned on mean nothing; --split dev is the default
    "#]],
    );
    check_error(
        &["models", "fetch", "--from", "nowhere"],
        expect![[r#"
        error: copying `nowhere/config.json`
          caused by: No such file or directory (os error 2)

        hint: --from takes a folder with config.json, tokenizer.json and model.safetensors
    "#]],
    );
    check_error(
        &["plugin", "run", "nowhere.wasm", "--query", "salt", "--index", "notes"],
        expect![[r#"
        error: loading plugin `nowhere.wasm`
          caused by: could not read component `nowhere.wasm`: No such file or directory (os error 2)

        hint: a plugin is a WebAssembly component for the world `orion:search/strategy`
    "#]],
    );
    check_error(
        &["policy", "check", "--model", "nowhere", "--cases", "cases.json"],
        expect![[r#"
        error: checking `nowhere`
          caused by: reading `cases.json` failed: No such file or directory (os error 2)

        hint: --model takes a folder with config.json and safetensors, --cases a file of recorded numbers
    "#]],
    );
}

#[test]
fn errors_are_json_where_data_is() {
    let printed = Sandbox::new().run(&["search", "salt", "--index", "notes", "--json"]);
    assert_eq!(printed.code, 2);
    expect![[r#"
        {
          "error": {
            "causes": [],
            "hint": "there are none yet; `orion index add notes FILE` makes one",
            "message": "opening index `notes`: there is none of that name"
          }
        }
    "#]]
    .assert_eq(&printed.stdout);
    assert!(printed.stderr.starts_with("error: "));
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command(&["strategies", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let printed = sandbox.printed(child.wait_with_output().expect("it ends"));
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
}

#[test]
fn strategies_describe_themselves() {
    let sandbox = Sandbox::new();
    let listed: serde_json::Value =
        serde_json::from_str(&sandbox.answered(&["strategies", "--json"])).expect("JSON");
    let names: Vec<&str> =
        listed.as_array().expect("a list").iter().map(|s| s["name"].as_str().expect("a name")).collect();
    for name in ["lexical", "dense", "hybrid", "beam"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let beam = sandbox.answered(&["strategies", "beam"]);
    for parameter in ["turns <integer> = ", "beam <integer> = ", "width <integer> = "] {
        assert!(beam.contains(parameter), "{beam}");
    }
}

#[test]
fn models_are_found_or_said_to_be_missing() {
    let sandbox = Sandbox::new();
    expect![[r#"
        minilm  all-MiniLM-L6-v2  missing  TMP/models/all-MiniLM-L6-v2
    "#]]
    .assert_eq(&sandbox.answered(&["models", "list"]));
    let path = sandbox.run(&["models", "path"]);
    assert_eq!((path.code, path.stdout.as_str()), (1, ""));
    assert!(path.stderr.contains("`orion models fetch` gets it"), "{}", path.stderr);
}

#[test]
fn a_model_with_other_contents_is_refused() {
    let sandbox = Sandbox::new();
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        sandbox.write(&format!("other/{name}"), "not the model");
    }
    let printed = sandbox.run(&["models", "fetch", "--from", "other"]);
    assert_eq!(printed.code, 2);
    assert!(printed.stderr.contains("expected SHA-256 953f9c0d"), "{}", printed.stderr);
    let left: Vec<_> = std::fs::read_dir(sandbox.path().join("models")).expect("the folder").collect();
    assert!(left.is_empty(), "nothing half fetched stays: {left:?}");
}

#[test]
fn the_doctor_says_what_is_there() {
    let sandbox = Sandbox::new();
    let report: serde_json::Value =
        serde_json::from_str(&sandbox.answered(&["doctor", "--json"])).expect("JSON");
    assert_eq!(report["encoder_present"], false);
    assert_eq!(report["indexes"], serde_json::json!([]));
    assert!(report["vector_instructions"].is_string());
}
