//! Snapshots on disk: copies of indexes in one folder, with a list of all files and their checksums.
//!
//! ```text
//! NAME/snapshot.json     what is in it, sealed by a SHA-256 of its own
//! NAME/INDEX/…           a whole index (see the index's own `snapshot.rs`)
//! ```
//!
//! A snapshot is made under another name and renamed when all of it is on disk: there is a whole one or none. Used by
//! `http/snapshots.rs` and by `orion index snapshot` and `restore`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use orion_host::index::{Catalog, Copied, Index};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    failure::{Explain, Failure},
    http::{
        collection::{MAPPING_FILE, SETTINGS_FILE},
        now_ms,
        persist::write_whole,
    },
};

const FILE: &str = "snapshot.json";
/// Changes with the layout; others are refused.
const FORMAT: u32 = 1;
/// Beginnings of names that no snapshot has: one that is being made or removed, or was when the power went.
const DRAFT: &str = ".draft-";
const DOOMED: &str = ".doomed-";

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The layout.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// When it was begun and done, in milliseconds since 1970.
    pub began_ms: u64,
    /// When it was done.
    pub done_ms: u64,
    /// The version of the program that made it.
    pub version: String,
    /// The client's own remarks.
    pub metadata: Option<Value>,
    /// Indexes by name.
    pub indexes: BTreeMap<String, Copied>,
}

/// Whether a name can be a snapshot's, a repository's or one folder's of a repository: nothing that leads elsewhere.
pub fn is_name(name: &str) -> bool {
    let inside =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    (1..=128).contains(&name.len())
        && name.bytes().all(inside)
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
}

fn sync(folder: &Path) -> Result<(), Failure> {
    std::fs::File::open(folder)
        .and_then(|handle| handle.sync_all())
        .attempt(format!("syncing `{}`", folder.display()))
}

/// Makes a snapshot of what is committed of each index, in `folder`, under a name that is not taken there. Writers go on.
pub fn take(
    folder: &Path,
    name: &str,
    indexes: &[(String, Index)],
    metadata: Option<Value>,
) -> Result<Snapshot, Failure> {
    let (target, draft) = (folder.join(name), folder.join(format!("{DRAFT}{name}")));
    let attempted = || format!("taking snapshot `{}`", target.display());
    if target.exists() {
        return Err(Failure::new(format!("{}: it is there already", attempted())));
    }
    remove_if_there(&draft)?;
    std::fs::create_dir_all(&draft).attempt(format!("creating `{}`", draft.display()))?;
    let took = copy_all(&draft, name, indexes, metadata).and_then(|snapshot| {
        std::fs::rename(&draft, &target).attempt(attempted())?;
        sync(folder)?;
        Ok(snapshot)
    });
    if took.is_err() {
        // What could not be made is of no use; the failure says why.
        let _ = std::fs::remove_dir_all(&draft);
    }
    took
}

fn copy_all(
    draft: &Path,
    name: &str,
    indexes: &[(String, Index)],
    metadata: Option<Value>,
) -> Result<Snapshot, Failure> {
    let began_ms = now_ms();
    let mut all = BTreeMap::new();
    for (index_name, index) in indexes {
        let attempted = || format!("copying index `{index_name}`");
        let mut kept: Vec<(&str, Vec<u8>)> = Vec::new();
        // One that the server made has the first, one that the command line made may have the second.
        for file in [MAPPING_FILE, SETTINGS_FILE] {
            match std::fs::read(index.dir().join(file)) {
                Ok(text) => kept.push((file, text)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).attempt(attempted()),
            }
        }
        let more: Vec<(&str, &[u8])> = kept.iter().map(|(file, text)| (*file, text.as_slice())).collect();
        let copied = index.copy_committed(&draft.join(index_name), &more).attempt(attempted())?;
        all.insert(index_name.clone(), copied);
    }
    let snapshot = Snapshot {
        format: FORMAT,
        name: name.to_owned(),
        began_ms,
        done_ms: now_ms(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        metadata,
        indexes: all,
    };
    let content = json!(snapshot);
    let sealed = json!({ "sha256": seal(&content), "snapshot": content });
    write_whole(&draft.join(FILE), &format!("{sealed:#}\n"))
        .attempt("writing the snapshot's list of files")?;
    sync(draft)?;
    Ok(snapshot)
}

/// Members are sorted, so the same content has the same text.
fn seal(content: &Value) -> String {
    Sha256::digest(content.to_string()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what a snapshot's folder holds.
pub fn read(folder: &Path) -> Result<Snapshot, Failure> {
    let file = folder.join(FILE);
    let attempted = || format!("reading snapshot `{}`", folder.display());
    let text = std::fs::read_to_string(&file).attempt(attempted())?;
    let sealed: Value = serde_json::from_str(&text).attempt(attempted())?;
    let content = &sealed["snapshot"];
    if sealed["sha256"] != seal(content).as_str() {
        let message = "its list of files is damaged: expected the checksum that it carries, got another";
        return Err(Failure::new(format!("{}: {message}", attempted())));
    }
    if content["format"] != FORMAT {
        let message = format!("expected format {FORMAT}, got {}", content["format"]);
        return Err(Failure::new(format!("{}: {message}", attempted())));
    }
    serde_json::from_value(content.clone()).attempt(attempted())
}

/// Makes an index, which must not exist, from one of a snapshot; every file is compared first.
pub fn put_back(
    folder: &Path,
    snapshot: &Snapshot,
    index: &str,
    catalog: &Catalog,
    name: &str,
) -> Result<(), Failure> {
    let attempted = || format!("restoring index `{index}` from `{}` as `{name}`", folder.display());
    let copied = snapshot
        .indexes
        .get(index)
        .ok_or_else(|| Failure::new(format!("{}: the snapshot does not hold it", attempted())))?;
    // A list of files that was sealed elsewhere names folders as it likes.
    catalog.path(index).attempt(attempted())?;
    catalog.put_back(name, &folder.join(index), copied).attempt(attempted())
}

/// Names of the snapshots in a folder, sorted.
pub fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let attempted = || format!("listing snapshots in `{}`", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).attempt(attempted())? {
        let path = entry.attempt(attempted())?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name))
            && path.join(FILE).is_file()
        {
            found.push(name.to_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a snapshot: at once, as far as others can see.
pub fn remove(folder: &Path, name: &str) -> Result<(), Failure> {
    let doomed = folder.join(format!("{DOOMED}{name}"));
    remove_if_there(&doomed)?;
    let target = folder.join(name);
    std::fs::rename(&target, &doomed).attempt(format!("removing snapshot `{}`", target.display()))?;
    remove_if_there(&doomed)
}

/// Removes what a crash left half made or half removed. Nobody else may be at work in the folder.
pub fn sweep(folder: &Path) -> Result<(), Failure> {
    let attempted = || format!("looking for leftovers in `{}`", folder.display());
    for entry in std::fs::read_dir(folder).attempt(attempted())? {
        let path: PathBuf = entry.attempt(attempted())?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(DRAFT) || name.starts_with(DOOMED) {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).attempt(format!("removing `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["monday", "2026.11.22", "a-b_c", "0"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(129);
        for bad in
            ["", ".", "..", ".hidden", "a/b", "/a", "a\\b", "A", "-a", "_all", "a b", "a\0", "ä", &long]
        {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
