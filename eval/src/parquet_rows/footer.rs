//! A file's last part, which describes it: read, and looked through before it is decoded.
//!
//! Decoding follows the schema's tree by recursion and makes room for as many children as each node claims. So the tree
//! is walked here first, by its counts alone: few nodes, few levels, no more children than nodes.
//! The footer is a struct of Thrift's compact protocol; of all its fields only the list of nodes is looked at.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::refuse;
use crate::error::EvalError;

/// Every file ends so, after the length of its footer.
const MAGIC: &[u8] = b"PAR1";
const TAIL_BYTES: u64 = 8;
/// A table of a few columns has kilobytes.
const LONGEST_BYTES: u64 = 16 << 20;
const MOST_NODES: usize = 4096;
const MOST_LEVELS: usize = 64;

/// The footer's bytes, whose schema can be decoded.
pub(super) fn read(path: &Path, mut file: &File, bytes: u64) -> Result<Vec<u8>, EvalError> {
    let refuse = |expected, got: &str| Err(refuse(path, "footer", expected, got));
    if bytes < TAIL_BYTES + MAGIC.len() as u64 {
        return refuse("a Parquet file", &format!("{bytes} bytes"));
    }
    let mut tail = [0; TAIL_BYTES as usize];
    let reading = || EvalError::io("reading", path);
    file.seek(SeekFrom::Start(bytes - TAIL_BYTES)).map_err(reading())?;
    file.read_exact(&mut tail).map_err(reading())?;
    let [a, b, c, d, magic @ ..] = tail;
    if magic != MAGIC {
        return refuse("a Parquet file, which ends with `PAR1`", &String::from_utf8_lossy(&magic));
    }
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if bytes - TAIL_BYTES < length || LONGEST_BYTES < length {
        return refuse("a footer inside the file, of at most 16 MiB", &format!("{length} bytes"));
    }
    let mut footer = vec![0; length as usize];
    file.seek(SeekFrom::Start(bytes - TAIL_BYTES - length)).map_err(reading())?;
    file.read_exact(&mut footer).map_err(reading())?;
    match Compact(&footer).schema().is_some_and(|children| is_small_tree(&children)) {
        true => Ok(footer),
        false => refuse("the schema of a table", "none, or one beyond all measure"),
    }
}

/// Whether nodes in depth-first order, each with so many children, are one tree of a sane size.
fn is_small_tree(children: &[u64]) -> bool {
    if MOST_NODES < children.len() {
        return false;
    }
    // How many nodes are still to come on each level.
    let mut open = vec![1];
    for count in children {
        while open.last() == Some(&0) {
            open.pop();
        }
        let Some(siblings) = open.last_mut() else { return false };
        *siblings -= 1;
        open.push(*count);
        if MOST_LEVELS < open.len() || MOST_NODES as u64 <= *count {
            return false;
        }
    }
    open.iter().all(|left| *left == 0)
}

/// The bytes that are left of a struct.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    /// The number of children of each node in the footer's second field.
    fn schema(&mut self) -> Option<Vec<u64>> {
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            if field != 2 {
                self.skip(kind, 0)?;
                continue;
            }
            if kind != LIST {
                return None;
            }
            let (count, kind) = self.list()?;
            if kind != STRUCT || (MOST_NODES as u64) < count {
                return None;
            }
            return (0..count).map(|_| self.node()).collect();
        }
        None
    }

    /// A node's number of children, its fifth field.
    fn node(&mut self) -> Option<u64> {
        let (mut field, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut field)? {
            if field == 5 && kind == I32 {
                // Odd where the number is negative.
                let zigzag = self.varint()?;
                children = (zigzag & 1 == 0).then_some(zigzag >> 1)?;
            } else {
                self.skip(kind, 0)?;
            }
        }
        Some(children)
    }

    /// The kind of the next field, whose id goes into `id`; `None` at the end of the struct.
    fn field(&mut self, id: &mut u64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = match head >> 4 {
            0 => self.varint()? >> 1,
            step => id.checked_add(u64::from(step))?,
        };
        Some(Some(head & 15))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if MOST_LEVELS < depth {
            return None;
        }
        match kind {
            // A boolean field is in its head.
            1 | 2 => Some(()),
            3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.bytes(8),
            8 => {
                let length = self.varint()?;
                self.bytes(usize::try_from(length).ok()?)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| match kind {
                    // In a list each boolean has a byte.
                    1 | 2 => self.byte().map(drop),
                    other => self.skip(other, depth + 1),
                })
            }
            STRUCT => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip(kind, depth + 1)?;
                }
                Some(())
            }
            // Maps and what else there may be: no footer has them.
            _ => None,
        }
    }

    /// How many elements a list has, and of which kind.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            few => u64::from(few),
        };
        Some((count, head & 15))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.get(count..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }
}

const I32: u8 = 5;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_told_from_what_is_none() {
        assert!(is_small_tree(&[2, 0, 1, 0]));
        assert!(!is_small_tree(&[2, 0]), "a child is missing");
        assert!(!is_small_tree(&[0, 0]), "two roots");
        assert!(!is_small_tree(&[]));
        assert!(!is_small_tree(&[u64::from(u32::MAX)]));
        let mut deep = vec![1; MOST_LEVELS];
        deep.push(0);
        assert!(!is_small_tree(&deep));
    }
}
