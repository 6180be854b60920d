//! Copies of the committed state, and indexes made from them.
//!
//! A commit consists of files that never change, named by two small ones that are replaced whole. So a copy needs no
//! writer to stand still: what the small files named is linked, or copied where the file system has no links, and taken
//! again in the rare case that a merge removed some of it meanwhile. What is written later, the log and the small files,
//! is never linked. Where documents still wait for their vectors the copy gets a log of its own, with their changes. The
//! caller keeps the list of files with their checksums; nothing is put back that differs from it.

use crate::error::{IndexError, Result};
use crate::files;
use crate::index::Index;
use crate::log::{self, Log};
use crate::manifest::Manifest;
use crate::phase::Hook;
use crate::settings::SETTINGS_FILE;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

/// Commits that may overtake one copy before it gives up; one is already rare.
const TRIES: usize = 50;
/// tantivy's own list of what it may remove.
const MANAGED: &str = ".managed.json";
const META: &str = "meta.json";

/// One file of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedFile {
    /// Its place below the copy's folder, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Checksum of its content.
    pub crc32: u32,
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copied {
    /// Documents.
    pub documents: u64,
    /// All files, by path.
    pub files: Vec<CopiedFile>,
}

/// Whether a file of a commit was there to be taken.
enum Taken {
    Yes,
    Gone,
}

impl Index {
    /// Copies the committed state into `dir`, which must not exist: a whole index; in its log are only changes that
    /// documents without a vector wait for. `more` are files of
    /// the caller's, by name, that belong to it. Writers go on meanwhile; what they commit after this began is in the copy
    /// or not, as a whole. Everything is synced.
    pub fn copy_committed(&self, dir: &Path, more: &[(&str, &[u8])]) -> Result<Copied> {
        std::fs::create_dir(dir).map_err(IndexError::io("create", dir))?;
        for _ in 0..TRIES {
            if let Some(documents) = self.try_copy(dir)? {
                for (name, content) in more {
                    files::write_atomically(&dir.join(name), content)?;
                }
                let files = listed(dir)?;
                return Ok(Copied { documents, files });
            }
        }
        Err(IndexError::Invalid {
            what: "copy",
            expected: "a pause between commits".to_owned(),
            got: format!("{TRIES} commits, each during a try"),
        })
    }

    /// One try; `None` where a commit came between.
    fn try_copy(&self, dir: &Path) -> Result<Option<u64>> {
        let shared = self.shared();
        let (lexical, vectors, log) = (dir.join("lexical"), dir.join("vectors"), dir.join("log"));
        for folder in [&lexical, &vectors, &log] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).map_err(IndexError::io("remove", folder))?;
            }
            std::fs::create_dir(folder).map_err(IndexError::io("create", folder))?;
        }
        let meta_path = shared.lexical_dir.join(META);
        let read_meta = || std::fs::read(&meta_path).map_err(IndexError::io("read", &meta_path));
        let meta = read_meta()?;
        let failed = IndexError::lexical("read the committed state", &shared.lexical_dir);
        // Kept to the end: while it is there, this process's own writer removes nothing that it names.
        let metas = shared.lexical.load_metas().map_err(failed)?;
        if read_meta()? != meta {
            return Ok(None);
        }
        let manifest = match &metas.payload {
            Some(payload) => Manifest::unseal(payload, &meta_path)?,
            None => Manifest::initial(shared.settings_crc32, shared.settings.metadata.clone()),
        };
        let mut managed: Vec<PathBuf> = vec![META.into()];
        let mut is_whole = true;
        let mut names: Vec<PathBuf> = metas.list_segment_files().into_iter().collect();
        names.sort();
        for name in names {
            match take(&shared.lexical_dir.join(&name), &lexical.join(&name))? {
                Taken::Yes => managed.push(name),
                // Some are named and need not exist; whether this is one shows below.
                Taken::Gone => is_whole = false,
            }
        }
        for name in manifest.vectors.iter().flat_map(|entry| entry.file_names()) {
            if let Taken::Gone = take(&shared.vector_dir.join(&name), &vectors.join(&name))? {
                is_whole = false;
            }
        }
        if !is_whole && read_meta()? != meta {
            return Ok(None);
        }
        let settings = shared.dir.join(SETTINGS_FILE);
        let settings = std::fs::read(&settings).map_err(IndexError::io("read", &settings))?;
        let managed = serde_json::json!(managed).to_string();
        files::write_atomically(&dir.join(SETTINGS_FILE), &settings)?;
        files::write_atomically(&lexical.join(MANAGED), managed.as_bytes())?;
        files::write_atomically(&lexical.join(META), &meta)?;
        Log::create_after(&log, manifest.log_sequence)?;
        let waits = shared.settings.has_encoded_vectors() && 0 < manifest.without_vector;
        if waits && copy_log(&shared.log_dir, manifest.log_sequence, &log).is_err() {
            // A commit came between and removed what it had made needless, or the log was being written just then.
            return Ok(None);
        }
        for folder in [&lexical, &vectors, &log, dir] {
            files::sync_dir(folder)?;
        }
        Ok(Some(manifest.documents))
    }
}

/// Appends what `source` holds after the change `after` to the log in `target`, which begins there.
fn copy_log(source: &Path, after: u64, target: &Path) -> Result<()> {
    let mut copy = Log::open(target, after, Hook::default())?;
    log::replay(source, after, |_, change| copy.append(&change).map(drop))?;
    copy.sync()
}

/// Makes an index at `dir`, which must not exist, from a copy; every file is compared with what `copied` says of it. On an
/// error `dir` may be there in part.
pub fn put_back(copy: &Path, copied: &Copied, dir: &Path) -> Result<()> {
    std::fs::create_dir(dir).map_err(IndexError::io("create", dir))?;
    for folder in ["lexical", "vectors", "log"] {
        let folder = dir.join(folder);
        std::fs::create_dir(&folder).map_err(IndexError::io("create", &folder))?;
    }
    for file in &copied.files {
        let name = below(&file.path).ok_or_else(|| {
            IndexError::corrupt(copy, "names of files below it", format!("`{}`", file.path))
        })?;
        let source = copy.join(name);
        let found = examined(&source)?;
        if found != (file.bytes, file.crc32) {
            let expected = format!("{} bytes with checksum {:08x}", file.bytes, file.crc32);
            let got = format!("{} bytes with checksum {:08x}", found.0, found.1);
            return Err(IndexError::corrupt(&source, expected, got));
        }
        let target = dir.join(name);
        let never_changes =
            name.starts_with("vectors") || (name.starts_with("lexical") && !is_replaced(name));
        if never_changes {
            take(&source, &target)?;
        } else {
            copy_file(&source, &target)?;
        }
    }
    for folder in ["lexical", "vectors", "log", "."] {
        files::sync_dir(&dir.join(folder))?;
    }
    Ok(())
}

fn is_replaced(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name == META || name == MANAGED)
}

/// A file's place, if it is one below: a list that was tampered with reaches nothing else.
fn below(path: &str) -> Option<&Path> {
    let path = Path::new(path);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let folder = path.parent()?;
    let is_known = ["", "lexical", "vectors", "log"].iter().any(|known| Path::new(known) == folder);
    (is_plain && is_known && path.file_name().is_some()).then_some(path)
}

/// Links or copies one file that never changes.
fn take(source: &Path, target: &Path) -> Result<Taken> {
    match std::fs::hard_link(source, target) {
        Ok(()) => Ok(Taken::Yes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Taken::Gone),
        // Another file system, or one without links.
        Err(_) => copy_file(source, target),
    }
}

fn copy_file(source: &Path, target: &Path) -> Result<Taken> {
    match std::fs::copy(source, target) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Taken::Gone),
        Err(error) => return Err(IndexError::io("copy", source)(error)),
    }
    File::open(target).and_then(|file| file.sync_all()).map_err(IndexError::io("sync", target))?;
    Ok(Taken::Yes)
}

/// All files of a copy with length and checksum.
fn listed(dir: &Path) -> Result<Vec<CopiedFile>> {
    let mut found = Vec::new();
    for folder in ["", "lexical", "log", "vectors"] {
        for name in files::list(&dir.join(folder))? {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let file = dir.join(&path);
            if file.is_file() {
                let (bytes, crc32) = examined(&file)?;
                found.push(CopiedFile { path, bytes, crc32 });
            }
        }
    }
    Ok(found)
}

/// Length and checksum of a plain file.
fn examined(path: &Path) -> Result<(u64, u32)> {
    let kind = std::fs::symlink_metadata(path).map_err(IndexError::io("examine", path))?;
    if !kind.is_file() {
        return Err(IndexError::corrupt(path, "a plain file", "something else"));
    }
    let mut file = File::open(path).map_err(IndexError::io("open", path))?;
    let (mut hasher, mut bytes) = (crc32fast::Hasher::new(), 0);
    let mut piece = vec![0; 1 << 18];
    loop {
        match file.read(&mut piece).map_err(IndexError::io("read", path))? {
            0 => return Ok((bytes, hasher.finalize())),
            count => {
                hasher.update(&piece[..count]);
                bytes += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn names_of_files_stay_below() {
        for good in ["orion.json", "lexical/a.store", "lexical/.managed.json", "log/0.wal", "vectors/1.vec"] {
            assert!(below(good).is_some(), "{good}");
        }
        for bad in
            ["", "/etc/passwd", "../x", "lexical/../../x", "lexical/a/b", "elsewhere/x", ".", "lexical/.."]
        {
            assert!(below(bad).is_none(), "{bad}");
        }
    }
}
