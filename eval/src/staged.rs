//! A folder that appears whole or not at all: it is made beside its place and takes its name when all is there.
//!
//! Neighbours: [`crate::archive`] and [`crate::import`] write sets through it.

use std::path::{Path, PathBuf};

use crate::error::EvalError;

/// A folder in the making; dropped before [`StagedFolder::keep`], it vanishes.
pub(crate) struct StagedFolder {
    partial: PathBuf,
    folder: PathBuf,
}

impl StagedFolder {
    /// Begins `folder`, which must not be there yet, or be empty. What a stopped attempt left beside it is removed.
    pub(crate) fn create(folder: &Path) -> Result<Self, EvalError> {
        let refuse =
            |expected, got: &str| EvalError::Set { folder: folder.to_owned(), expected, got: got.to_owned() };
        match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(refuse("a folder that is not there yet", "one that holds something")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) => return Err(refuse("a folder that is not there yet", "something else of that name")),
        }
        let Some(name) = folder.file_name() else {
            return Err(refuse("a folder with a name", "none"));
        };
        let mut beside = name.to_owned();
        beside.push(".partial");
        let partial = folder.with_file_name(beside);
        if partial.exists() {
            std::fs::remove_dir_all(&partial).map_err(EvalError::io("removing", &partial))?;
        }
        std::fs::create_dir_all(&partial).map_err(EvalError::io("creating", &partial))?;
        Ok(Self { partial, folder: folder.to_owned() })
    }

    /// Where its files are written.
    pub(crate) fn path(&self) -> &Path {
        &self.partial
    }

    /// Gives the folder its name.
    pub(crate) fn keep(self) -> Result<PathBuf, EvalError> {
        if self.folder.exists() {
            // Empty, as it was at the beginning, or this fails.
            std::fs::remove_dir(&self.folder).map_err(EvalError::io("removing", &self.folder))?;
        }
        std::fs::rename(&self.partial, &self.folder).map_err(EvalError::io("renaming", &self.partial))?;
        Ok(self.folder.clone())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        // After `keep` there is nothing of that name; and where it cannot be removed, the next attempt tries again.
        let _ = std::fs::remove_dir_all(&self.partial);
    }
}
