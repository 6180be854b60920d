//! Files that grow by whole lines and survive an interruption: the pool, and the answers of an endpoint.
//!
//! A line is written with one call and belongs to the file once its line end is there; what stands behind the last line
//! end was torn and is dropped when the file is opened again. One process writes at a time.

use crate::error::{Result, TrainError};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file of lines, open for appending, locked against other writers.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates the file and gives the lines that it holds, a torn last one dropped.
    ///
    /// # Errors
    /// A file that cannot be opened, that another process writes, or that is not UTF-8.
    pub fn open(path: &Path) -> Result<(Self, Vec<String>)> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(TrainError::file("create", folder))?;
        }
        let options = OpenOptions::new().read(true).append(true).create(true).open(path);
        let mut file = options.map_err(TrainError::file("open", path))?;
        file.try_lock()
            .map_err(|error| TrainError::content(path, "a file that no other process writes", error))?;
        let (lines, whole_bytes) = whole_lines(path, &mut file)?;
        file.set_len(whole_bytes).map_err(TrainError::file("write", path))?;
        Ok((Self { path: path.to_owned(), file }, lines))
    }

    /// Adds one value as a line of JSON, in one write.
    pub fn append(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value)
            .map_err(|error| TrainError::content(&self.path, "a line that is JSON", error))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(TrainError::file("write", &self.path))
    }
}

/// The whole lines of a file that nobody needs to be writing; a torn last one is left out.
pub fn read_lines(path: &Path) -> Result<Vec<String>> {
    let mut file = File::open(path).map_err(TrainError::file("read", path))?;
    Ok(whole_lines(path, &mut file)?.0)
}

/// The whole lines, and how many bytes they take.
fn whole_lines(path: &Path, file: &mut File) -> Result<(Vec<String>, u64)> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(TrainError::file("read", path))?;
    file.read_to_end(&mut bytes).map_err(TrainError::file("read", path))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    let text = std::str::from_utf8(&bytes[..whole])
        .map_err(|error| TrainError::content(path, "UTF-8 text", error))?;
    Ok((text.lines().map(str::to_owned).collect(), whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_dropped_and_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/a.jsonl");
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert!(lines.is_empty());
        journal.append(&1).unwrap();
        journal.append(&"two").unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice("{\"torn\": \"ä".as_bytes());
        // Cut within a character, as a full disk would.
        bytes.pop();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_lines(&path).unwrap(), ["1", "\"two\""]);
        let (mut journal, lines) = Journal::open(&path).unwrap();
        assert_eq!(lines, ["1", "\"two\""]);
        journal.append(&3).unwrap();
        assert_eq!(read_lines(&path).unwrap(), ["1", "\"two\"", "3"]);
    }

    #[test]
    fn two_writers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (_held, _) = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("no other process writes"), "{error}");
    }
}
