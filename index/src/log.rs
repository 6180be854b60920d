//! The write-ahead log: a change is acknowledged once its record lies before the file's synced mark.
//!
//! One file, `log/<sequence before its first record>.wal`:
//!
//! | offset | content (little-endian) |
//! |---|---|
//! | 0 | `ORIONLOG`, format u32, start sequence u64, CRC-32 of those 20 bytes |
//! | 512 | the mark: end offset u64, last sequence u64, CRC-32 of those 16 bytes |
//! | 1024 | records: payload length u32, CRC-32 of sequence and payload u32, sequence u64, payload |
//!
//! `sync` writes the records, syncs, writes the mark and syncs again. So what lies behind the mark was never
//! acknowledged and is cut off by the next writer, while a fault before the mark is damage and an error. The mark
//! is 20 bytes inside one sector, which disks write whole. A commit starts a new file and removes the old one; where texts
//! still wait to be encoded, files stay until nothing in them is needed, and follow one another without a gap.

use crate::document::Value;
use crate::error::{IndexError, Result};
use crate::files;
use crate::phase::{Hook, Phase};
use crate::settings::FORMAT;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ORIONLOG";
const MARK_AT: u64 = 512;
const RECORDS_AT: u64 = 1024;
const RECORD_HEAD_BYTES: usize = 16;
/// Records are gathered up to this size before they are written; large enough to make system calls rare.
const BUFFER_BYTES: usize = 1 << 18;
/// No document comes near it; a larger length is damage.
const MAX_PAYLOAD_BYTES: usize = 1 << 30;
/// A file with changes that are needed yet is followed by another one from this size on: small enough that little lies
/// there in vain, large enough that there are few.
const SPLIT_BYTES: u64 = 1 << 20;

/// One logged change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Add(Logged),
    Delete(String),
}

/// A document in the log; like [`crate::Document`], checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Logged {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) metadata: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) fields: BTreeMap<u8, String>,
    #[serde(default)]
    pub(crate) source: Option<String>,
    /// Written in binary behind the JSON, so that every bit survives.
    #[serde(skip)]
    pub(crate) vector: Option<Vec<f32>>,
}

impl Change {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Delete(id) => [b"D", id.as_bytes()].concat(),
            Self::Add(document) => {
                let mut json = serde_json::json!({
                    "id": document.id, "title": document.title, "text": document.text,
                    "metadata": document.metadata,
                });
                if !document.fields.is_empty() {
                    json["fields"] = serde_json::json!(document.fields);
                }
                if let Some(source) = &document.source {
                    json["source"] = serde_json::json!(source);
                }
                let json = json.to_string();
                let vector = document.vector.as_deref().unwrap_or_default();
                let mut bytes = Vec::with_capacity(5 + json.len() + vector.len() * 4);
                bytes.push(b'A');
                bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
                bytes.extend_from_slice(json.as_bytes());
                for value in vector {
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                bytes
            }
        }
    }

    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        match bytes.split_first() {
            Some((b'D', id)) => {
                let id = std::str::from_utf8(id).map_err(|error| error.to_string())?;
                Ok(Self::Delete(id.to_owned()))
            }
            Some((b'A', rest)) => {
                let (length, rest) = rest.split_first_chunk::<4>().ok_or("a record without a length")?;
                let length = u32::from_le_bytes(*length) as usize;
                let json = rest.get(..length).ok_or("a record shorter than its document")?;
                let mut document: Logged = serde_json::from_slice(json).map_err(|error| error.to_string())?;
                let (values, left) = rest[length..].as_chunks::<4>();
                if !left.is_empty() {
                    return Err("a vector of broken length".to_owned());
                }
                if !values.is_empty() {
                    document.vector = Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect());
                }
                Ok(Self::Add(document))
            }
            _ => Err("an unknown kind of record".to_owned()),
        }
    }
}

/// The acknowledged end of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    end: u64,
    sequence: u64,
}

impl Mark {
    fn bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        let crc32 = crc32fast::hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc32.to_le_bytes());
        bytes
    }
}

/// The log, open for appending. Exactly one exists per index, under the writer's lock.
#[derive(Debug)]
pub(crate) struct Log {
    dir: PathBuf,
    /// Files before this one, oldest first, with the last change in each.
    older: Vec<(PathBuf, u64)>,
    path: PathBuf,
    file: File,
    mark: Mark,
    /// Where the next buffer goes; at least `mark.end`.
    end: u64,
    /// Sequence of the last record appended.
    sequence: u64,
    buffer: Vec<u8>,
    hook: Hook,
}

fn file_name(start: u64) -> String {
    format!("{start:020}.wal")
}

fn create_file(dir: &Path, start: u64) -> Result<PathBuf> {
    let mut bytes = vec![0_u8; RECORDS_AT as usize];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..20].copy_from_slice(&start.to_le_bytes());
    let crc32 = crc32fast::hash(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc32.to_le_bytes());
    let mark = Mark { end: RECORDS_AT, sequence: start };
    bytes[MARK_AT as usize..][..20].copy_from_slice(&mark.bytes());
    let path = dir.join(file_name(start));
    files::write_atomically(&path, &bytes)?;
    Ok(path)
}

fn open_for_append(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path).map_err(IndexError::io("open", path))
}

/// Reads head and mark of a log file.
fn read_head(path: &Path, file: &File) -> Result<(u64, Mark)> {
    let corrupt = |expected: &str, got: String| IndexError::corrupt(path, expected, got);
    let length = file.metadata().map_err(IndexError::io("examine", path))?.len();
    if length < RECORDS_AT {
        return Err(corrupt("a log head of 1024 bytes", format!("a file of {length} bytes")));
    }
    let mut head = [0; 24];
    file.read_exact_at(&mut head, 0).map_err(IndexError::io("read", path))?;
    if &head[..8] != MAGIC {
        return Err(IndexError::Format {
            path: path.to_owned(),
            expected: "a log file (`ORIONLOG`)".to_owned(),
            got: format!("{:?}", String::from_utf8_lossy(&head[..8])),
        });
    }
    let format = u32_at(&head, 8);
    if u32_at(&head, 20) != crc32fast::hash(&head[..20]) {
        return Err(corrupt("a log head with a valid checksum", "another checksum at offset 20".to_owned()));
    }
    if format != FORMAT {
        return Err(IndexError::Format {
            path: path.to_owned(),
            expected: format!("format {FORMAT}"),
            got: format!("format {format}"),
        });
    }
    let start = u64_at(&head, 12);
    let mut bytes = [0; 20];
    file.read_exact_at(&mut bytes, MARK_AT).map_err(IndexError::io("read", path))?;
    let mark = Mark { end: u64_at(&bytes, 0), sequence: u64_at(&bytes, 8) };
    if mark.bytes() != bytes {
        return Err(corrupt("a mark with a valid checksum at offset 512", "another checksum".to_owned()));
    }
    if length < mark.end {
        return Err(corrupt(
            &format!("{} acknowledged bytes", mark.end),
            format!("a file of {length} bytes"),
        ));
    }
    Ok((start, mark))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Calls `take` with every acknowledged change after `after`, in order; returns how many there were.
/// Reads only: safe beside nobody but the holder of the writer's lock.
pub(crate) fn replay(dir: &Path, after: u64, mut take: impl FnMut(u64, Change) -> Result<()>) -> Result<u64> {
    let mut expected = None;
    let mut count = 0;
    for (path, file, start, mark) in open_all(dir)? {
        let follows = expected.map_or(start <= after, |expected| expected == start);
        if !follows {
            let expected = expected.unwrap_or(after);
            let expected = format!("a log that goes on after change {expected}");
            return Err(IndexError::corrupt(&path, expected, format!("one that starts after {start}")));
        }
        count += replay_file(&path, file, start, mark, after, &mut take)?;
        expected = Some(mark.sequence);
    }
    match expected {
        Some(last) if after <= last => Ok(count),
        Some(last) => Err(IndexError::corrupt(
            dir,
            format!("a log that reaches the committed change {after}"),
            format!("one that ends at {last}"),
        )),
        None => Err(IndexError::corrupt(dir, "a log file", "none")),
    }
}

/// How many acknowledged changes follow `after`; reads heads only.
pub(crate) fn pending(dir: &Path, after: u64) -> Result<u64> {
    let last = open_all(dir)?.last().map_or(after, |(_, _, _, mark)| mark.sequence);
    Ok(last.saturating_sub(after))
}

/// All log files of a folder, oldest first.
fn open_all(dir: &Path) -> Result<Vec<(PathBuf, File, u64, Mark)>> {
    let mut all = Vec::new();
    for name in files::list(dir)? {
        if !name.ends_with(".wal") {
            continue;
        }
        let path = dir.join(&name);
        let file = match File::open(&path) {
            Ok(file) => file,
            // A commit removes the old file once the new one is there.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(IndexError::io("open", &path)(error)),
        };
        let (start, mark) = read_head(&path, &file)?;
        if name != file_name(start) {
            return Err(IndexError::corrupt(&path, format!("the name `{}`", file_name(start)), name));
        }
        all.push((path, file, start, mark));
    }
    Ok(all)
}

fn replay_file(
    path: &Path,
    file: File,
    start: u64,
    mark: Mark,
    after: u64,
    take: &mut impl FnMut(u64, Change) -> Result<()>,
) -> Result<u64> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, file);
    reader.seek(SeekFrom::Start(RECORDS_AT)).map_err(IndexError::io("read", path))?;
    let mut offset = RECORDS_AT;
    let mut sequence = start;
    let mut count = 0;
    let mut payload = Vec::new();
    while offset < mark.end {
        let damaged = |got: &str| {
            IndexError::corrupt(path, format!("an intact record at offset {offset}"), got.to_owned())
        };
        let mut head = [0; RECORD_HEAD_BYTES];
        reader.read_exact(&mut head).map_err(IndexError::io("read", path))?;
        let length = u32_at(&head, 0) as usize;
        let next = offset + (RECORD_HEAD_BYTES + length) as u64;
        if MAX_PAYLOAD_BYTES < length || mark.end < next {
            return Err(damaged(&format!("a length of {length} bytes")));
        }
        payload.resize(length, 0);
        reader.read_exact(&mut payload).map_err(IndexError::io("read", path))?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head[8..]);
        hasher.update(&payload);
        if hasher.finalize() != u32_at(&head, 4) {
            return Err(damaged("another checksum"));
        }
        let record_sequence = u64_at(&head, 8);
        if record_sequence != sequence + 1 {
            return Err(damaged(&format!("change {record_sequence} after {sequence}")));
        }
        sequence = record_sequence;
        if after < sequence {
            let change = Change::decode(&payload).map_err(|got| damaged(&got))?;
            take(sequence, change)?;
            count += 1;
        }
        offset = next;
    }
    if sequence != mark.sequence {
        let expected = format!("records up to change {}", mark.sequence);
        return Err(IndexError::corrupt(path, expected, format!("the last is {sequence}")));
    }
    Ok(count)
}

impl Log {
    /// Starts the log of a new index.
    pub(crate) fn create(dir: &Path) -> Result<()> {
        Self::create_after(dir, 0)
    }

    /// Starts the log of an index whose state contains the changes up to `sequence`.
    pub(crate) fn create_after(dir: &Path, sequence: u64) -> Result<()> {
        create_file(dir, sequence).map(|_| ())
    }

    /// Opens the newest file for appending and cuts off what was never acknowledged.
    /// Older files whose changes are all committed are removed. Call [`replay`] first: it checks everything.
    pub(crate) fn open(dir: &Path, committed: u64, hook: Hook) -> Result<Self> {
        let mut all = open_all(dir)?;
        let Some((path, _, _, mark)) = all.pop() else {
            return Err(IndexError::corrupt(dir, "a log file", "none"));
        };
        let mut older = Vec::new();
        for (path, _, _, older_mark) in all {
            if older_mark.sequence <= committed {
                files::remove(&path)?;
            } else {
                older.push((path, older_mark.sequence));
            }
        }
        let file = open_for_append(&path)?;
        file.set_len(mark.end).map_err(IndexError::io("truncate", &path))?;
        let (end, sequence) = (mark.end, mark.sequence);
        Ok(Self { dir: dir.to_owned(), older, path, file, mark, end, sequence, buffer: Vec::new(), hook })
    }

    /// Sequence of the last change appended.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Appends one change; not acknowledged before [`Log::sync`].
    pub(crate) fn append(&mut self, change: &Change) -> Result<u64> {
        let payload = change.encode();
        if MAX_PAYLOAD_BYTES < payload.len() {
            return Err(IndexError::Invalid {
                what: "document size",
                expected: format!("at most {MAX_PAYLOAD_BYTES} bytes"),
                got: payload.len().to_string(),
            });
        }
        self.sequence += 1;
        let sequence = self.sequence.to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&sequence);
        hasher.update(&payload);
        self.buffer.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&hasher.finalize().to_le_bytes());
        self.buffer.extend_from_slice(&sequence);
        self.buffer.extend_from_slice(&payload);
        if BUFFER_BYTES <= self.buffer.len() {
            self.flush()?;
        }
        Ok(self.sequence)
    }

    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // With a hook, the write is split so that a crash test can stop in its middle.
        let middle = if self.hook.is_set() { self.buffer.len() / 2 } else { 0 };
        let write = |bytes: &[u8], at: u64| {
            self.file.write_all_at(bytes, at).map_err(IndexError::io("write", &self.path))
        };
        write(&self.buffer[..middle], self.end)?;
        self.hook.reached(Phase::LogWrite);
        write(&self.buffer[middle..], self.end + middle as u64)?;
        self.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Acknowledges everything appended so far. When this returns, it survives a crash.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        let mark = Mark { end: self.end, sequence: self.sequence };
        if mark == self.mark {
            return Ok(());
        }
        self.hook.reached(Phase::LogSync);
        self.file.sync_data().map_err(IndexError::io("sync", &self.path))?;
        self.hook.reached(Phase::LogMark);
        self.file
            .write_all_at(&mark.bytes(), MARK_AT)
            .and_then(|()| self.file.sync_data())
            .map_err(IndexError::io("write the mark of", &self.path))?;
        self.mark = mark;
        Ok(())
    }

    /// After a commit that holds the changes up to `committed` for good: starts a new file, where the present one is of no
    /// more use or has grown, and removes those of no more use.
    pub(crate) fn trim(&mut self, committed: u64) -> Result<()> {
        debug_assert!(self.buffer.is_empty() && self.mark.sequence == self.sequence);
        let is_whole = committed == self.sequence;
        if RECORDS_AT < self.mark.end && (is_whole || SPLIT_BYTES <= self.mark.end) {
            let path = create_file(&self.dir, self.sequence)?;
            self.hook.reached(Phase::LogTrim);
            self.file = open_for_append(&path)?;
            self.older.push((std::mem::replace(&mut self.path, path), self.sequence));
            self.mark = Mark { end: RECORDS_AT, sequence: self.sequence };
            self.end = RECORDS_AT;
        }
        // Oldest first: what a crash leaves has no gap.
        while let Some((path, last)) = self.older.first()
            && *last <= committed
        {
            files::remove(path)?;
            self.older.remove(0);
        }
        Ok(())
    }
}
