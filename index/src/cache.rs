//! Embeddings by content, shared by all indexes that name the same folder: encoding is by far the slowest step of
//! adding documents, and evaluation indexes the same collections again and again.
//!
//! One file for each encoder, `<SHA-256 of its fingerprint>.embeddings`: records of equal size, each the SHA-256 of
//! the text, the vector as little-endian f32, and a CRC-32 of both. Files only grow; writers take a file lock and
//! append whole records, readers skip records that do not verify. A cache may be deleted at any time.

use crate::error::{IndexError, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

type Key = [u8; 32];

/// A folder of embeddings.
#[derive(Debug)]
pub struct EmbeddingCache {
    dir: PathBuf,
    files: Mutex<BTreeMap<String, CacheFile>>,
}

#[derive(Debug)]
struct CacheFile {
    path: PathBuf,
    file: File,
    record_bytes: usize,
    /// How much of the file is in `places`.
    known_bytes: u64,
    places: BTreeMap<Key, u64>,
}

fn key(text: &str) -> Key {
    Sha256::digest(text.as_bytes()).into()
}

impl EmbeddingCache {
    /// Opens the folder, and creates it where it is missing.
    pub fn open(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(IndexError::io("create", dir))?;
        Ok(Self { dir: dir.to_owned(), files: Mutex::new(BTreeMap::new()) })
    }

    /// The vectors that are known, in the order of `texts`.
    pub fn get(&self, fingerprint: &str, dimensions: usize, texts: &[&str]) -> Result<Vec<Option<Vec<f32>>>> {
        self.with_file(fingerprint, dimensions, |file| {
            file.refresh()?;
            texts.iter().map(|text| file.read(&key(text))).collect()
        })
    }

    /// Adds vectors; those known already are left alone.
    pub fn put(&self, fingerprint: &str, dimensions: usize, entries: &[(&str, Vec<f32>)]) -> Result<()> {
        self.with_file(fingerprint, dimensions, |file| {
            file.file.lock().map_err(IndexError::io("lock", &file.path))?;
            let written = file.append(entries);
            let unlocked = file.file.unlock().map_err(IndexError::io("unlock", &file.path));
            written.and(unlocked)
        })
    }

    fn with_file<T>(
        &self,
        fingerprint: &str,
        dimensions: usize,
        action: impl FnOnce(&mut CacheFile) -> Result<T>,
    ) -> Result<T> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}-{dimensions}", hex(&key(fingerprint)));
        if !files.contains_key(&name) {
            let path = self.dir.join(format!("{name}.embeddings"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(IndexError::io("open", &path))?;
            let record_bytes = 32 + dimensions * 4 + 4;
            let opened = CacheFile { path, file, record_bytes, known_bytes: 0, places: BTreeMap::new() };
            files.insert(name.clone(), opened);
        }
        match files.get_mut(&name) {
            Some(file) => action(file),
            None => unreachable!("inserted above"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl CacheFile {
    /// Takes in what was appended since the last look; a partial record at the end is left for later.
    fn refresh(&mut self) -> Result<()> {
        let length = self.file.metadata().map_err(IndexError::io("examine", &self.path))?.len();
        let mut key = [0; 32];
        while self.known_bytes + self.record_bytes as u64 <= length {
            self.file
                .read_exact_at(&mut key, self.known_bytes)
                .map_err(IndexError::io("read", &self.path))?;
            self.places.insert(key, self.known_bytes);
            self.known_bytes += self.record_bytes as u64;
        }
        Ok(())
    }

    /// `None` where the text is unknown or its record does not verify: then it is simply encoded again.
    fn read(&self, key: &Key) -> Result<Option<Vec<f32>>> {
        let Some(&at) = self.places.get(key) else { return Ok(None) };
        let mut bytes = vec![0; self.record_bytes];
        self.file.read_exact_at(&mut bytes, at).map_err(IndexError::io("read", &self.path))?;
        let (content, crc32) = bytes.split_at(self.record_bytes - 4);
        if crc32fast::hash(content).to_le_bytes() != crc32 {
            return Ok(None);
        }
        let (values, _) = content[32..].as_chunks::<4>();
        Ok(Some(values.iter().map(|value| f32::from_le_bytes(*value)).collect()))
    }

    /// Appends under the file lock, over a partial record that a killed writer may have left.
    fn append(&mut self, entries: &[(&str, Vec<f32>)]) -> Result<()> {
        self.refresh()?;
        let mut bytes = Vec::with_capacity(entries.len() * self.record_bytes);
        for (text, vector) in entries {
            let key = key(text);
            if matches!(self.read(&key), Ok(Some(_))) {
                continue;
            }
            let start = bytes.len();
            bytes.extend_from_slice(&key);
            for value in vector {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            let crc32 = crc32fast::hash(&bytes[start..]);
            bytes.extend_from_slice(&crc32.to_le_bytes());
        }
        self.file.write_all_at(&bytes, self.known_bytes).map_err(IndexError::io("write", &self.path))?;
        self.refresh()
    }
}
