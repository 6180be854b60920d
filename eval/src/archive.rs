//! BEIR sets as they are published: one zip archive with a folder of `corpus.jsonl`, `queries.jsonl` and `qrels/*.tsv`.
//!
//! An archive comes from elsewhere and is not trusted. Only those files are taken, under names of our own making; sizes
//! are counted as bytes are written, whatever the archive claims; links and names that lead out of the folder are
//! refused. A failure leaves nothing half-made (`staged`).

use std::{
    fs::File,
    io::{Read, Write},
    path::{Component, Path, PathBuf},
};

use zip::ZipArchive;

use crate::{dataset::Dataset, error::EvalError, staged::StagedFolder};

/// What an archive may hold; the defaults fit every set of BEIR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Entries of any kind.
    pub entries: usize,
    /// Bytes of all files together, unpacked.
    pub bytes: u64,
    /// Bytes of a file, unpacked, for each byte packed, once it is longer than a megabyte.
    pub ratio: u64,
}

impl Default for ArchiveLimits {
    /// The largest set, MS MARCO, is 3 GB; JSON lines of prose shrink four- to sixfold, tables of ids up to thirtyfold.
    fn default() -> Self {
        Self { entries: 10_000, bytes: 32 << 30, ratio: 200 }
    }
}

/// Below this length no ratio is asked for: a short file of one repeated line may shrink a thousandfold.
const RATIO_FROM_BYTES: u64 = 1 << 20;

/// A file that is taken: its place in the archive and below the new folder.
struct Wanted {
    index: usize,
    name: String,
    to: PathBuf,
}

/// Unpacks an archive into `folder`, which must not be there yet, and opens it.
///
/// # Errors
/// No zip archive; no `corpus.jsonl` or `queries.jsonl`, or several; entries that lead outside, links, encrypted or
/// otherwise packed than by deflate; more than the limits; a folder that is there. Each names archive and entry.
pub fn unpack_beir(archive: &Path, folder: &Path, limits: &ArchiveLimits) -> Result<Dataset, EvalError> {
    let file = File::open(archive).map_err(EvalError::io("opening", archive))?;
    let mut zip =
        ZipArchive::new(file).map_err(|error| refuse(archive, "", "a zip archive", &error.to_string()))?;
    if limits.entries < zip.len() {
        let got = format!("{} entries", zip.len());
        return Err(refuse(archive, "", "fewer entries", &got));
    }
    let wanted = plan(archive, &mut zip)?;
    let staged = StagedFolder::create(folder)?;
    unpack(archive, &mut zip, &wanted, staged.path(), limits)?;
    Dataset::open(staged.path())?;
    Dataset::open(&staged.keep()?)
}

/// Which entries are taken. The folder that holds `corpus.jsonl` is the set.
fn plan(archive: &Path, zip: &mut ZipArchive<File>) -> Result<Vec<Wanted>, EvalError> {
    let mut names = Vec::new();
    for index in 0..zip.len() {
        let entry = zip.by_index(index).map_err(|error| {
            refuse(
                archive,
                &format!("{index}"),
                "an entry packed by deflate or not at all",
                &error.to_string(),
            )
        })?;
        let name = entry
            .name()
            .map_err(|error| refuse(archive, &format!("{index}"), "a readable name", &error.to_string()))?
            .into_owned();
        let is_inside = entry.enclosed_name().is_some()
            && Path::new(&name)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_inside || name.contains('\\') {
            return Err(refuse(
                archive,
                &name,
                "a name inside the archive's folder",
                "one that leads out of it",
            ));
        }
        if entry.is_symlink() {
            return Err(refuse(archive, &name, "a file", "a link"));
        }
        if !entry.is_dir() {
            names.push((index, name));
        }
    }
    let roots: Vec<&str> = names.iter().filter_map(|(_, name)| name.strip_suffix("corpus.jsonl")).collect();
    let root = match roots.as_slice() {
        [root] if root.is_empty() || root.ends_with('/') => (*root).to_owned(),
        other => {
            let got = format!("{}", other.len());
            return Err(refuse(archive, "corpus.jsonl", "exactly one such file", &got));
        }
    };
    let mut wanted = Vec::new();
    for (index, name) in names {
        let Some(inner) = name.strip_prefix(&root) else { continue };
        let is_table = inner
            .strip_prefix("qrels/")
            .is_some_and(|file| file.ends_with(".tsv") && !file.contains('/') && !file.starts_with('.'));
        if is_table || inner == "corpus.jsonl" || inner == "queries.jsonl" {
            let to = PathBuf::from(inner);
            wanted.push(Wanted { index, name, to });
        }
    }
    Ok(wanted)
}

fn unpack(
    archive: &Path,
    zip: &mut ZipArchive<File>,
    wanted: &[Wanted],
    folder: &Path,
    limits: &ArchiveLimits,
) -> Result<(), EvalError> {
    let qrels = folder.join("qrels");
    std::fs::create_dir_all(&qrels).map_err(EvalError::io("creating", &qrels))?;
    let mut left = limits.bytes;
    for Wanted { index, name, to } in wanted {
        let path = folder.join(to);
        let mut entry = zip
            .by_index(*index)
            .map_err(|error| refuse(archive, name, "a readable entry", &error.to_string()))?;
        let packed = entry.compressed_size().max(1);
        let mut file = File::create_new(&path).map_err(EvalError::io("writing", &path))?;
        let mut written = 0u64;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = entry.read(&mut buffer).map_err(|error| {
                refuse(archive, name, "bytes that unpack and match their checksum", &error.to_string())
            })?;
            if read == 0 {
                break;
            }
            written += read as u64;
            if left < written {
                let got = format!("more than {} bytes in all", limits.bytes);
                return Err(refuse(archive, name, "a set within the limit", &got));
            }
            if RATIO_FROM_BYTES < written && limits.ratio < written / packed {
                let got = format!("more than {} bytes for each packed one", limits.ratio);
                return Err(refuse(archive, name, "text that shrinks as text does", &got));
            }
            file.write_all(&buffer[..read]).map_err(EvalError::io("writing", &path))?;
        }
        left -= written;
    }
    Ok(())
}

fn refuse(archive: &Path, entry: &str, expected: &'static str, got: &str) -> EvalError {
    EvalError::Archive {
        path: archive.to_owned(),
        entry: entry.to_owned(),
        expected,
        got: crate::error::shortened(got),
    }
}
