//! Small files that are there whole or not at all.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

/// Writes `text` to `path` through a draft beside it: after a crash there is the old text or the new one.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
