//! The files of the repository as the rules see them: what git would carry, without built or fetched things.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written here; hidden folders but `.ci` are left out too.
const NOT_OURS: [&str; 3] = ["target", "models", "__pycache__"];

/// One text file: its path from the root, with `/` between folders, and what it says.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Numbered lines (from 1) that are code: whole-line comments are left out.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// All text files, in path order. Binary files (not UTF-8) are passed over.
pub(crate) fn files() -> Vec<File> {
    let root = orion_tests::root();
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(&path).ok()?;
            let relative = path.strip_prefix(&root).expect("collected below the root");
            Some(File { path: relative.to_string_lossy().replace('\\', "/"), text })
        })
        .collect()
}

/// The Rust files among them.
pub(crate) fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in
        fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable entry"))
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type().expect("a file type");
        if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) && (!name.starts_with('.') || name == ".ci") {
            collect(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

/// Fails with every finding, one a line, under a sentence that states the rule.
#[track_caller]
pub(crate) fn expect_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}
