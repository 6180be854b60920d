//! Numbered lines of a text file: the one place where a reader counts lines for its error messages.
//!
//! Neighbours: [`crate::dataset`] and [`crate::run`] read through it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use crate::error::{EvalError, shortened};

/// No line of a set is as long; one without an end must not fill the memory. As long as the index takes lines.
const LONGEST_LINE_BYTES: u64 = 64 << 20;

/// Iterates over the non-empty lines of one file with their 1-based numbers.
pub(crate) struct NumberedLines {
    path: PathBuf,
    reader: BufReader<File>,
    line: u64,
}

impl NumberedLines {
    pub(crate) fn open(path: &Path) -> Result<Self, EvalError> {
        let file = File::open(path).map_err(|source| EvalError::Io {
            attempted: "opening",
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { path: path.to_owned(), reader: BufReader::with_capacity(1 << 16, file), line: 0 })
    }

    /// An error at the line that was read last.
    pub(crate) fn malformed(&self, expected: &'static str, got: &str) -> EvalError {
        EvalError::Line { path: self.path.clone(), line: self.line, expected, got: shortened(got) }
    }

    /// The next line that is not blank, without its line end.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>, EvalError> {
        loop {
            let mut text = String::new();
            self.line += 1;
            let limited = &mut (&mut self.reader).take(LONGEST_LINE_BYTES + 1);
            let read = limited.read_line(&mut text).map_err(|source| {
                if source.kind() == std::io::ErrorKind::InvalidData {
                    self.malformed("UTF-8 text", "other bytes")
                } else {
                    EvalError::Io { attempted: "reading", path: self.path.clone(), source }
                }
            })?;
            if read == 0 {
                return Ok(None);
            }
            if LONGEST_LINE_BYTES < read as u64 {
                return Err(self.malformed("a line of at most 64 MiB", "a longer one"));
            }
            let trimmed = text.trim_end_matches(['\n', '\r']).len();
            text.truncate(trimmed);
            if !text.trim().is_empty() {
                return Ok(Some(text));
            }
        }
    }
}
