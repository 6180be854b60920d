//! `orion plugin new`: the folder of a plugin that works, under the author's own name.
//!
//! The files are those of `plugins/examples`, so that what authors begin with is what this project's tests build and
//! run; the example's name is replaced. The contract, and for Rust the SDK, are written beside them: the folder needs
//! nothing of this repository. Neighbour: `plugins/bundle` carries the texts.

use std::{fs, path::Path};

use orion_bundle::{
    CONTRACT, JS_EXAMPLE, PYTHON_EXAMPLE, RUST_EXAMPLE, RUST_REWARD_EXAMPLE, SDK, SDK_CONTRACT_FOLDERS,
    TextFile,
};
use orion_host::{Language, contract::World};

use crate::failure::{Explain, Failure};

/// The example strategy's name: as plugins, as Rust modules and as Rust types are called.
const STRATEGY: [&str; 3] = ["second-look", "second_look", "SecondLook"];
/// The example reward's.
const REWARD: [&str; 3] = ["near-top", "near_top", "NearTop"];
/// Names that Rust's or cargo's own crates have, and Rust's keywords: a crate cannot have them.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "orion-sdk",
    "orion_sdk",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "unsafe",
    "use",
    "while",
];

/// Writes the folder of a new plugin.
///
/// # Errors
/// A name that no plugin can have, a folder that exists, a reward in a language without an example of one, a disk that
/// refuses.
pub fn write_folder(folder: &Path, name: &str, language: Language, world: World) -> Result<(), Failure> {
    check_name(name)?;
    if folder.exists() {
        return Err(Failure::new(format!("making `{}`: it exists already", folder.display()))
            .hint("choose another name, or remove it first"));
    }
    let (files, example) = match (language, world) {
        (Language::Rust, World::Strategy) => (RUST_EXAMPLE, STRATEGY),
        (Language::Rust, World::Reward) => (RUST_REWARD_EXAMPLE, REWARD),
        (Language::Python, World::Strategy) => (PYTHON_EXAMPLE, STRATEGY),
        (Language::JavaScript, World::Strategy) => (JS_EXAMPLE, STRATEGY),
        (_, World::Reward) => {
            return Err(Failure::new(format!("making reward `{name}`: expected --lang rust, got --lang {}", language.name()))
                .hint("rewards are called for every turn of every episode; an interpreter would take most of the time"));
        }
    };
    for file in files {
        write(folder, &written_path(file.path), &renamed(file.text, example, name))?;
    }
    if language == Language::Rust {
        let (here, there) = SDK_CONTRACT_FOLDERS;
        for TextFile { path, text } in SDK {
            write(folder, &format!("sdk/src/{path}"), &text.replace(here, there))?;
        }
        write(folder, "sdk/wit/orion.wit", CONTRACT)
    } else {
        write(folder, "wit/orion.wit", CONTRACT)
    }
}

/// Whether a new plugin can be called so.
fn check_name(name: &str) -> Result<(), Failure> {
    let is_plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let starts_well = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    if 64 < name.len() || !starts_well || !name.bytes().all(is_plain) {
        return Err(Failure::new(format!(
            "making plugin `{name}`: expected 1 to 64 of a-z, 0-9, `-` and `_`, beginning with a letter"
        ))
        .hint("a name such as `my-search` is also the folder's; change into another folder to make it elsewhere"));
    }
    if orion_bundle::component(name).or(orion_bundle::reward(name)).is_some() {
        return Err(Failure::new(format!("making plugin `{name}`: a standard plugin has that name"))
            .hint("`orion strategies` lists the names that are taken; `reward` is the standard reward's"));
    }
    if RESERVED.contains(&name) {
        return Err(Failure::new(format!("making plugin `{name}`: the name has a meaning in Rust or cargo"))
            .hint(format!("`{name}-search` would do")));
    }
    Ok(())
}

/// The path without the mark that keeps this repository's tools away from the file.
fn written_path(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{}", file.strip_prefix('_').unwrap_or(file)),
        None => path.strip_prefix('_').unwrap_or(path).to_owned(),
    }
}

fn renamed(text: &str, example: [&str; 3], name: &str) -> String {
    let module = name.replace('-', "_");
    let title: String = module.split('_').map(capitalised).collect();
    // A type cannot be called as the trait that it implements.
    let title = if ["Strategy", "Reward"].contains(&title.as_str()) { "Plugin".to_owned() } else { title };
    text.replace(example[0], name).replace(example[1], &module).replace(example[2], &title)
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + characters.as_str())
}

fn write(folder: &Path, path: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).attempt(format!("creating `{}`", parent.display()))?;
    }
    fs::write(&path, text).attempt(format!("writing `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_takes_the_authors_name_in_every_form() {
        assert_eq!(
            renamed("second-look second_look SecondLook", STRATEGY, "my-own2"),
            "my-own2 my_own2 MyOwn2"
        );
        assert_eq!(renamed("SecondLook", STRATEGY, "strategy"), "Plugin");
        assert_eq!(written_path("sdk/_Cargo.toml"), "sdk/Cargo.toml");
        assert_eq!(written_path("plugin.toml"), "plugin.toml");
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_a_hint() {
        for name in
            ["", "2fast", "-x", "My-Search", "a b", "../up", "beam", "fn", "test", "reward", &"x".repeat(65)]
        {
            let failure = check_name(name).unwrap_err();
            assert!(failure.hint_text().is_some(), "{name}");
        }
        check_name("my-search_2").unwrap();
    }

    #[test]
    fn reserved_names_are_sorted_and_once() {
        assert!(RESERVED.is_sorted_by(|left, right| left < right));
    }
}
