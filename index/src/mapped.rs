//! Files that are written once, synced, then mapped and never changed: vectors, their short codes, their graphs.
//!
//! One shape, little-endian: a head of 64 bytes (magic 8 bytes, format u32, width u32, rows u64, CRC-32 of the body
//! u32, zeros, CRC-32 of the 60 bytes before it), then the body. What the body is, its owner says (`vectors.rs`,
//! `codes.rs`, `graph.rs`). The head is written last and compared as a whole with what the manifest leads to expect.
#![expect(unsafe_code, reason = "maps files and reads their bytes as numbers")]

use crate::error::{IndexError, Result};
use crate::settings::FORMAT;
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

#[cfg(target_endian = "big")]
compile_error!("vector segments are mapped as little-endian numbers");

const HEAD_BYTES: usize = 64;

/// What kind of file one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileKind {
    pub(crate) magic: &'static [u8; 8],
    /// With its article, for messages.
    pub(crate) name: &'static str,
}

/// What the head says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: FileKind,
    /// Numbers of one row, as far as rows are of one length.
    pub(crate) width: usize,
    pub(crate) rows: u64,
    pub(crate) crc32: u32,
}

impl Head {
    fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(self.kind.magic);
        head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        head[12..16].copy_from_slice(&(self.width as u32).to_le_bytes());
        head[16..24].copy_from_slice(&self.rows.to_le_bytes());
        head[24..28].copy_from_slice(&self.crc32.to_le_bytes());
        let own = crc32fast::hash(&head[..60]);
        head[60..].copy_from_slice(&own.to_le_bytes());
        head
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: crc32fast::Hasher,
}

impl Draft {
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).map_err(IndexError::io("create", &path))?;
        let mut file = BufWriter::with_capacity(1 << 18, file);
        file.write_all(&[0; HEAD_BYTES]).map_err(IndexError::io("write", &path))?;
        Ok(Self { path, file, hasher: crc32fast::Hasher::new() })
    }

    /// Appends to the body.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(IndexError::io("write", &self.path))
    }

    /// Completes and syncs the file, with `before_sync` called in between; returns the checksum of the body. The
    /// folder is synced by the caller.
    pub(crate) fn finish(
        mut self,
        kind: FileKind,
        width: usize,
        rows: u64,
        before_sync: impl FnOnce(),
    ) -> Result<u32> {
        let crc32 = self.hasher.finalize();
        let head = Head { kind, width, rows, crc32 }.bytes();
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().write_all_at(&head, 0))
            .and_then(|()| {
                before_sync();
                self.file.get_ref().sync_all()
            })
            .map_err(IndexError::io("write", &self.path))?;
        Ok(crc32)
    }
}

/// A mapped file whose head is as expected.
#[derive(Debug)]
pub(crate) struct Mapped {
    path: PathBuf,
    map: Mmap,
}

impl Mapped {
    /// Maps the file at `path`, which must open with `head`; `verify` reads all of it and compares the checksum.
    pub(crate) fn open(path: PathBuf, head: Head, verify: bool) -> Result<Self> {
        let file = File::open(&path).map_err(IndexError::io("open", &path))?;
        // SAFETY: such files are immutable once the manifest names them; this program only ever removes them or
        // renames others into their place, which leaves the mapping intact.
        let map = unsafe { Mmap::map(&file) }.map_err(IndexError::io("map", &path))?;
        let corrupt = |expected: String, got: String| IndexError::corrupt(&path, expected, got);
        if map.len() < HEAD_BYTES {
            return Err(corrupt(format!("a head of {HEAD_BYTES} bytes"), format!("{} bytes", map.len())));
        }
        if &map[..8] != head.kind.magic {
            let magic = String::from_utf8_lossy(head.kind.magic);
            return Err(IndexError::Format {
                expected: format!("{} (`{magic}`)", head.kind.name),
                got: format!("{:?}", String::from_utf8_lossy(&map[..8])),
                path,
            });
        }
        if map[..HEAD_BYTES] != head.bytes() {
            let format = u32::from_le_bytes([map[8], map[9], map[10], map[11]]);
            let intact = crc32fast::hash(&map[..60]).to_le_bytes() == map[60..HEAD_BYTES];
            if intact && format != FORMAT {
                let (expected, got) = (format!("format {FORMAT}"), format!("format {format}"));
                return Err(IndexError::Format { path, expected, got });
            }
            let expected = format!("a head of {} rows of {} as committed", head.rows, head.width);
            return Err(corrupt(expected, "another head".to_owned()));
        }
        if verify {
            let crc32 = crc32fast::hash(&map[HEAD_BYTES..]);
            if crc32 != head.crc32 {
                return Err(corrupt(format!("checksum {:08x}", head.crc32), format!("{crc32:08x}")));
            }
        }
        Ok(Self { path, map })
    }

    /// An error where the body is not of `length` bytes.
    pub(crate) fn check_length(&self, length: usize) -> Result<()> {
        let length = HEAD_BYTES + length;
        if self.map.len() == length {
            return Ok(());
        }
        Err(self.corrupt(format!("{length} bytes"), format!("{} bytes", self.map.len())))
    }

    /// That this file is damaged.
    pub(crate) fn corrupt(&self, expected: impl Into<String>, got: impl Into<String>) -> IndexError {
        IndexError::corrupt(&self.path, expected, got)
    }

    /// The body's length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len() - HEAD_BYTES
    }

    /// A part of the body; panics where it is out of range.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.map[HEAD_BYTES + range.start..HEAD_BYTES + range.end]
    }

    pub(crate) fn signed_bytes(&self, range: Range<usize>) -> &[i8] {
        let bytes = self.bytes(range);
        // SAFETY: every byte is an i8, of the same size and alignment; the lifetime is that of `self`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<i8>(), bytes.len()) }
    }

    /// A part of the body, which starts and ends at multiples of four bytes.
    pub(crate) fn floats(&self, range: Range<usize>) -> &[f32] {
        let bytes = self.words(range);
        // SAFETY: `words` has checked alignment and length; every bit pattern is an f32; the lifetime is that of `self`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<f32>(), bytes.len() / 4) }
    }

    /// A part of the body, which starts and ends at multiples of four bytes.
    pub(crate) fn integers(&self, range: Range<usize>) -> &[u32] {
        let bytes = self.words(range);
        // SAFETY: `words` has checked alignment and length; every bit pattern is a u32; the lifetime is that of `self`.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u32>(), bytes.len() / 4) }
    }

    /// The mapping is page-aligned and the head a multiple of four bytes.
    fn words(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start.is_multiple_of(4) && range.end.is_multiple_of(4), "numbers of four bytes");
        self.bytes(range)
    }
}
