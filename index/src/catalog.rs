//! Named indexes under one root folder: a name is the folder of its index.

use crate::error::{IndexError, Result};
use crate::files;
use crate::index::{Index, OpenOptions};
use crate::settings::{IndexSettings, SETTINGS_FILE};
use crate::snapshot::{self, Copied};
use std::path::{Path, PathBuf};

/// A root folder of named indexes.
#[derive(Debug, Clone)]
pub struct Catalog {
    root: PathBuf,
}

impl Catalog {
    /// Opens the root folder, and creates it where it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(IndexError::io("create", root))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The names of all indexes, ascending.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = files::list(&self.root)?;
        names.retain(|name| is_name(name) && self.root.join(name).join(SETTINGS_FILE).is_file());
        Ok(names)
    }

    /// The folder of an index, whether it exists or not.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        if is_name(name) { Ok(self.root.join(name)) } else { Err(IndexError::Name { name: name.to_owned() }) }
    }

    /// Creates an empty index.
    pub fn create(&self, name: &str, settings: &IndexSettings, options: OpenOptions) -> Result<Index> {
        Index::create(&self.path(name)?, settings, options)
    }

    /// Opens an index.
    pub fn index(&self, name: &str, options: OpenOptions) -> Result<Index> {
        Index::open(&self.path(name)?, options)
    }

    /// Makes an index from a copy of one, whole or not at all; opening it compares what is in it once more.
    pub fn put_back(&self, name: &str, copy: &Path, copied: &Copied) -> Result<()> {
        let path = self.path(name)?;
        if path.exists() {
            return Err(IndexError::AlreadyExists { path });
        }
        // A name that no index can have: a crash leaves no half index behind.
        let draft = self.root.join(format!(".restoring-{name}"));
        if draft.exists() {
            std::fs::remove_dir_all(&draft).map_err(IndexError::io("remove", &draft))?;
        }
        let made = snapshot::put_back(copy, copied, &draft)
            .and_then(|()| std::fs::rename(&draft, &path).map_err(IndexError::io("create", &path)));
        if made.is_err() {
            // What could not be made is of no use; the error says why.
            let _ = std::fs::remove_dir_all(&draft);
        }
        made?;
        files::sync_dir(&self.root)
    }

    /// Deletes an index with all its documents; an error while a writer is at work on it.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        if !path.join(SETTINGS_FILE).is_file() {
            return Err(IndexError::NotFound { path });
        }
        let _lock = files::lock(&path.join("LOCK"))?;
        // Renamed first, to a name that no index can have: a crash leaves no half index behind.
        let doomed = self.root.join(format!(".deleting-{name}"));
        if doomed.exists() {
            std::fs::remove_dir_all(&doomed).map_err(IndexError::io("remove", &doomed))?;
        }
        std::fs::rename(&path, &doomed).map_err(IndexError::io("remove", &path))?;
        std::fs::remove_dir_all(&doomed).map_err(IndexError::io("remove", &doomed))
    }
}

/// Names are safe in paths and URLs, on file systems without case as well.
fn is_name(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&name.len())
        && name.bytes().all(inside)
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names() {
        for good in ["a", "9", "scifact", "a-b_c-1"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", ".", "..", "a/b", "A", "-a", "_a", "ä", "a b", "a\0", long.as_str()] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
