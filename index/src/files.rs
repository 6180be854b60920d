//! The few file operations that durability rests on: atomic replacement, syncing a folder, the writer's lock.

use crate::error::{IndexError, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::Path;

/// Ending of files that are being written; any found when a writer starts is left over from a crash.
pub(crate) const TEMPORARY: &str = "tmp";

/// Makes the entries of `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(IndexError::io("sync folder", dir))
}

/// Replaces `path` by `bytes`: afterwards the file holds all of the old or all of the new.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension(TEMPORARY);
    let mut file = File::create(&temporary).map_err(IndexError::io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(IndexError::io("write", &temporary))?;
    rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => sync_dir(dir),
        None => Ok(()),
    }
}

/// Puts a complete and synced file in its place; the folder is synced by the caller.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(IndexError::io("rename into place", to))
}

/// Takes the lock at `path`; it is released when the handle is dropped, or when the process dies.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(IndexError::io("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(IndexError::io("lock", path)(error)),
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IndexError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Names of the plain files in `dir`, sorted.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(IndexError::io("list", dir))? {
        let entry = entry.map_err(IndexError::io("list", dir))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
