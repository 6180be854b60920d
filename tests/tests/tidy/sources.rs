//! What a Rust file looks like: how it opens, how long it is, and which constructs stay out of it.

use crate::tree::{File, expect_none, rust_files};

/// Longest file, in lines, its tests module not counted.
const LONGEST_FILE: usize = 600;
/// Largest allowed median of the same count.
const LARGEST_MEDIAN: usize = 250;
/// Files that are tables and may be longer.
const LONG_BY_NATURE: [&str; 0] = [];

/// The one file that reads the environment.
const READS_ENVIRONMENT: &str = "host/server/src/env_vars.rs";
/// Build scripts are told everything through the environment by cargo.
const BUILD_SCRIPTS: [&str; 2] = ["plugins/bundle/build.rs", "host/policy/build.rs"];

/// The files that may hold `unsafe`, each for the reason its own opening gives.
const UNSAFE_FILES: [&str; 18] = [
    "host/policy/src/checkpoint.rs",
    "host/policy/src/cuda/driver.rs",
    "host/policy/src/cuda/tests/emulated.rs",
    "host/src/load.rs",
    "index/src/encoder/checkpoint.rs",
    "index/src/mapped.rs",
    "kernels/src/activations.rs",
    "kernels/src/attention.rs",
    "kernels/src/block_linear.rs",
    "kernels/src/bytes.rs",
    "kernels/src/cached.rs",
    "kernels/src/dots.rs",
    "kernels/src/eights.rs",
    "kernels/src/interleaved.rs",
    "kernels/src/lanes.rs",
    "kernels/src/linear.rs",
    "kernels/src/threads.rs",
    "kernels/src/tile.rs",
];

/// Public traits in the whole workspace, the seam of each world among them: an enum or a function comes first.
const MOST_PUBLIC_TRAITS: usize = 7;

/// Lines before an inline tests module, which by habit closes the file.
fn lines_without_tests(file: &File) -> usize {
    let lines: Vec<&str> = file.text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].ends_with('{'));
    tests.unwrap_or(lines.len())
}

#[test]
fn files_open_with_what_they_are() {
    let silent = rust_files().into_iter().filter(|file| !file.text.starts_with("//! ")).map(|file| file.path);
    expect_none("a file opens with `//!`: what, why here, neighbours:", &silent.collect::<Vec<_>>());
}

#[test]
fn files_are_short() {
    let files = rust_files();
    let mut lengths: Vec<usize> = files.iter().map(lines_without_tests).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(
        median <= LARGEST_MEDIAN,
        "the median file has {median} lines, at most {LARGEST_MEDIAN} are wanted"
    );
    let long: Vec<String> = files
        .iter()
        .filter(|file| !LONG_BY_NATURE.contains(&file.path.as_str()))
        .map(|file| (lines_without_tests(file), &file.path))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, path)| format!("{path}: {lines}"))
        .collect();
    expect_none(&format!("a file has at most {LONGEST_FILE} lines without its tests:"), &long);
}

#[test]
fn one_file_reads_the_environment() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let is_exempt = file.path == READS_ENVIRONMENT || BUILD_SCRIPTS.contains(&file.path.as_str());
        for (number, line) in file.code_lines() {
            let reads =
                ["var(", "var_os(", "vars(", "vars_os("].iter().any(|f| line.contains(&format!("env::{f}")));
            // Test helpers may ask one thing only: whether a skipped test is a failure.
            let asks_for_ci = file.path.contains("test") && line.contains("(\"CI\")");
            if reads && !is_exempt && !asks_for_ci {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none(&format!("only `{READS_ENVIRONMENT}` reads the environment:"), &findings);
}

#[test]
fn tests_run_and_code_is_finished() {
    // In halves, so that this file does not find itself.
    let forbidden = [
        concat!("#[", "ignore"),
        concat!("should_", "panic"),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!("#[", "allow("),
        concat!("#![", "allow("),
    ];
    let mut findings = Vec::new();
    for file in rust_files() {
        for (number, line) in file.code_lines() {
            if let Some(found) = forbidden.iter().find(|word| line.contains(**word)) {
                findings.push(format!("{}:{number}: {found}", file.path));
            }
        }
    }
    expect_none("unfinished or silenced code:", &findings);
}

#[test]
fn only_the_host_names_the_engine() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let may = ["host/src/", "host/tests/", "host/examples/"].iter().any(|own| file.path.starts_with(own));
        for (number, line) in file.code_lines() {
            if !may && line.contains(concat!("wasm", "time::")) {
                findings.push(format!("{}:{number}: {}", file.path, line.trim()));
            }
        }
    }
    expect_none("the engine's name outside the host library:", &findings);
}

#[test]
fn unsafe_code_stays_in_the_listed_files() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let uses = file.code_lines().any(|(_, line)| {
            ["{", "fn ", "impl ", "extern "].iter().any(|next| line.contains(&format!("{} {next}", "unsafe")))
        });
        let is_listed = UNSAFE_FILES.contains(&file.path.as_str());
        if uses && !is_listed {
            findings.push(format!("{} is not in UNSAFE_FILES", file.path));
        } else if is_listed && !uses {
            findings.push(format!("{} has none left: take it off UNSAFE_FILES", file.path));
        }
    }
    expect_none("unsafe code outside the modules that must have it:", &findings);
}

#[test]
fn public_traits_are_few() {
    let mut found = Vec::new();
    for file in rust_files() {
        for (number, line) in
            file.code_lines().filter(|(_, line)| line.trim_start().starts_with("pub trait "))
        {
            found.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    assert!(
        found.len() <= MOST_PUBLIC_TRAITS,
        "at most {MOST_PUBLIC_TRAITS} public traits:\n  {}",
        found.join("\n  ")
    );
}
