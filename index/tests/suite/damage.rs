//! Damaged, missing and foreign files: opening either names the file at fault or gives all of the content.
//! It never gives part of it, and never panics.

use crate::common::{self, document, options};
use orion_index::{DenseSearch, DenseSettings, Document, Index, IndexError, IndexSettings, OpenOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What an index holds, and how it ranks.
#[derive(Debug, PartialEq)]
struct Content {
    texts: BTreeMap<String, String>,
    vector_ids: Vec<String>,
    rankings: Vec<String>,
}

fn content(index: &Index) -> Result<Content, IndexError> {
    let searcher = index.searcher();
    let ids = searcher.ids();
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let documents = searcher.documents(&wanted)?.into_iter().flatten();
    let mut rankings = Vec::new();
    for query in ["word1", "common word3 text", "number 7"] {
        rankings.push(format!("{:?}", searcher.lexical(query, 20, None)?));
        rankings.push(format!("{:?}", searcher.dense(&[query], 20, None)?));
    }
    Ok(Content {
        texts: documents.map(|found| (found.id, found.text)).collect(),
        vector_ids: searcher.vector_ids(),
        rankings,
    })
}

/// Two commits with deletes and replacements, and a tail in the log.
fn sample(dir: &Path) {
    // With all that can lie beside the vectors.
    let search = DenseSearch::Graph;
    let dense =
        DenseSettings { dimensions: common::DIMENSIONS, search, graph_from: 1, ..DenseSettings::default() };
    let settings = IndexSettings { dense: Some(dense), ..common::settings() };
    let index = Index::create(dir, &settings, options()).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 0..30 {
        writer
            .add(document(&format!("d{number}"), &format!("common text number {number} word{}", number % 5)))
            .unwrap();
    }
    writer.commit().unwrap();
    for number in 25..35 {
        writer.add(document(&format!("d{number}"), &format!("newer text word{number}"))).unwrap();
    }
    writer.delete("d3").unwrap();
    writer.commit().unwrap();
    writer.add(document("tail", "acknowledged, not committed")).unwrap();
    writer.delete("d7").unwrap();
    writer.sync().unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all.sort();
    all
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn damage_is_named_or_harmless() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    sample(&whole);
    let reference = root.path().join("reference");
    copy(&whole, &reference);
    let expected = content(&Index::open(&reference, options()).unwrap()).unwrap();
    assert_eq!(expected.texts.len(), 34);
    // Files of segments that were never committed are nobody's.
    let committed = std::fs::read_to_string(whole.join("lexical/meta.json")).unwrap().replace('-', "");
    let mut seen = BTreeMap::new();
    let mut harmless = Vec::new();
    for (number, file) in files(&whole).iter().enumerate() {
        let name = file.strip_prefix(&whole).unwrap();
        let bytes = std::fs::read(file).unwrap();
        let stem =
            name.file_name().unwrap().to_string_lossy().split('.').next().unwrap_or_default().to_owned();
        if bytes.is_empty() || (stem.len() == 32 && !committed.contains(&stem)) {
            continue;
        }
        *seen.entry(file.extension().map(|ending| ending.to_owned())).or_insert(0) += 1;
        let mut variants: Vec<(String, Option<Vec<u8>>)> = vec![
            ("removed".to_owned(), None),
            ("emptied".to_owned(), Some(Vec::new())),
            ("halved".to_owned(), Some(bytes[..bytes.len() / 2].to_vec())),
            ("one byte short".to_owned(), Some(bytes[..bytes.len() - 1].to_vec())),
        ];
        for step in 0..8 {
            let at = (step * bytes.len() / 8 + number * 7 + step * 3) % bytes.len();
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (step % 8);
            // Files of tantivy end with a foot (version, checksum; then its length and a magic number) of which not
            // every byte matters.
            let foot =
                bytes.last_chunk::<8>().map_or(0, |end| u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
            let in_foot = stem.len() == 32 && bytes.len() < at + 8 + foot as usize;
            let place = if in_foot { "of the foot" } else { "of the content" };
            variants.push((format!("bit {step} at {at} {place} flipped"), Some(flipped)));
        }
        for (what, variant) in variants {
            let place = tempfile::tempdir().unwrap();
            let dir = place.path().join("index");
            copy(&whole, &dir);
            match variant {
                None => std::fs::remove_file(dir.join(name)).unwrap(),
                Some(bytes) => std::fs::write(dir.join(name), bytes).unwrap(),
            }
            let what = format!("{} {what}", name.display());
            let opened =
                std::panic::catch_unwind(|| Index::open(&dir, options()).and_then(|index| content(&index)));
            match opened.unwrap_or_else(|_| panic!("{what}: a panic")) {
                Ok(held) => {
                    assert_eq!(held, expected, "{what}: opened with other content");
                    harmless.push(what);
                }
                Err(error) => {
                    let text = error.to_string();
                    let file_name = name.file_name().unwrap().to_string_lossy();
                    // A missing log or settings file is reported by its folder.
                    let folder = dir.join(name).parent().unwrap().display().to_string();
                    let named = (!stem.is_empty() && text.contains(&stem))
                        || text.contains(&*file_name)
                        || text.contains(&folder);
                    assert!(named, "{what}: `{text}` names no file");
                }
            }
        }
    }
    // What may be harmless: all that is beside the vectors, which alone decide; white space in the settings, tantivy's list of its files, which only garbage collection reads, and bytes that no
    // value depends on, as in the feet.
    for what in &harmless {
        let covered = what.contains(" of the foot ")
            || what.starts_with("orion.json")
            || what.starts_with("lexical/.managed.json")
            || what.starts_with("lexical/meta.json")
            || what.starts_with("log/")
            || what.contains(".codes ")
            || what.contains(".graph ");
        assert!(covered, "{what} went unnoticed");
    }
    assert!(11 <= seen.len(), "kinds of files: {seen:?}");
}

#[test]
fn a_damaged_log_names_the_offset() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = Index::create(&dir, &common::settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    for number in 0..5 {
        writer.add(document(&format!("d{number}"), "text")).unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    let log = dir.join("log/00000000000000000000.wal");
    let bytes = std::fs::read(&log).unwrap();
    // Records start at 1024 and are of equal length here.
    let record = (bytes.len() - 1024) / 5;
    let mut flipped = bytes.clone();
    flipped[1024 + 2 * record + 20] ^= 4;
    std::fs::write(&log, &flipped).unwrap();
    let error = Index::open(&dir, options()).unwrap_err().to_string();
    let expected = format!("expected an intact record at offset {}, got another checksum", 1024 + 2 * record);
    assert!(error.contains("00000000000000000000.wal` is damaged") && error.ends_with(&expected), "{error}");
    // What lies behind the mark was never acknowledged: it is cut off without a word.
    let mut torn = bytes.clone();
    torn.extend_from_slice(&bytes[1024..1024 + record / 2]);
    std::fs::write(&log, &torn).unwrap();
    assert_eq!(Index::open(&dir, options()).unwrap().searcher().len(), 5);
}

#[test]
fn foreign_formats_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    sample(&whole);
    let check = |name: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, expected: &str| {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("index");
        copy(&whole, &dir);
        let path = files(&dir).into_iter().find(|path| path.to_string_lossy().ends_with(name)).unwrap();
        std::fs::write(&path, change(std::fs::read(&path).unwrap())).unwrap();
        let error = Index::open(&dir, options()).unwrap_err();
        assert!(matches!(error, IndexError::Format { .. }), "{name}: {error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("`{}` has a foreign format", path.display())), "{text}");
        assert!(text.ends_with(expected), "{text}");
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    check(
        "orion.json",
        &|bytes| text(bytes).replace("\"format\": 1", "\"format\": 2").into_bytes(),
        "expected format 1, got format 2",
    );
    let with_format_2 = |mut bytes: Vec<u8>, checked: usize| {
        bytes[8] = 2;
        let crc32 = crc32fast::hash(&bytes[..checked]);
        bytes[checked..checked + 4].copy_from_slice(&crc32.to_le_bytes());
        bytes
    };
    check(".wal", &|bytes| with_format_2(bytes, 20), "expected format 1, got format 2");
    check(".vec", &|bytes| with_format_2(bytes, 60), "expected format 1, got format 2");
    check(".vec", &|_| vec![b'x'; 4096], "expected a vector segment (`ORIONVEC`), got \"xxxxxxxx\"");
    check(".wal", &|_| vec![b'x'; 4096], "expected a log file (`ORIONLOG`), got \"xxxxxxxx\"");
    check(
        "meta.json",
        &|bytes| {
            let mut meta: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let mut sealed: serde_json::Value =
                serde_json::from_str(meta["payload"].as_str().unwrap()).unwrap();
            sealed["manifest"]["format"] = 7.into();
            sealed["crc32"] = crc32fast::hash(sealed["manifest"].to_string().as_bytes()).into();
            meta["payload"] = sealed.to_string().into();
            meta.to_string().into_bytes()
        },
        "expected format 1, got format 7",
    );
}

#[test]
fn leftovers_of_a_crash_are_removed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    sample(&dir);
    for name in ["vectors/0000000099.vec", "vectors/x.tmp", "log/y.tmp", "orion.tmp", "lexical/.tmpAbC"] {
        std::fs::write(dir.join(name), b"left over").unwrap();
    }
    std::fs::write(dir.join("lexical/0123456789abcdef0123456789abcdef.store"), b"left over").unwrap();
    let index = Index::open(&dir, options()).unwrap();
    assert_eq!(index.searcher().len(), 34);
    for file in files(&dir) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes != b"left over", "{} is still there", file.display());
    }
}

#[test]
fn a_failed_writer_says_so_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let encode = |texts: &[&str]| {
        if texts.iter().any(|text| text.contains("poison")) {
            return Err(IndexError::Encode { texts: texts.len(), message: "no".to_owned() });
        }
        Ok(texts.iter().map(|text| common::vector(text)).collect())
    };
    let failing = OpenOptions {
        encoder: Some(orion_index::Embedder::new("test", common::DIMENSIONS, encode)),
        ..options()
    };
    let index = Index::create(&dir, &common::settings(), failing.clone()).unwrap();
    let mut writer = index.writer().unwrap();
    writer.add(document("good", "fine")).unwrap();
    writer.commit().unwrap();
    writer.add(document("bad", "poison")).unwrap();
    assert_eq!(writer.commit().unwrap_err().to_string(), "could not encode 1 texts: no");
    let again = writer.add(document("more", "x")).unwrap_err().to_string();
    assert!(
        again.starts_with("this writer failed earlier: could not encode 1 texts: no; open a new one"),
        "{again}"
    );
    drop(writer);
    assert_eq!(index.searcher().ids(), ["good"]);
    assert_eq!(index.stats().unwrap().pending_changes, 1);
    drop(index);
    // Without an encoder the index opens and keeps the change for later; with a working one it goes in.
    let bare = Index::open(&dir, OpenOptions::default()).unwrap();
    assert_eq!((bare.searcher().len(), bare.stats().unwrap().pending_changes), (1, 1));
    drop(bare);
    let index = Index::open(&dir, options()).unwrap();
    assert_eq!((index.searcher().len(), index.stats().unwrap().pending_changes), (2, 0));
}

#[test]
fn the_frozen_format_keeps_opening() {
    keeps_opening("format-1", 0, None);
    // With what lies beside the vectors.
    keeps_opening("format-1-graph", 41, None);
    // With vectors that documents bring, and documents that bring none.
    keeps_opening("format-1-client", 20, Some("format-1-client.vectors"));
}

/// `with_vectors` lists the documents that have one, where not all have.
fn keeps_opening(name: &str, graph_vectors: u64, with_vectors: Option<&str>) {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    copy(&frozen, &dir);
    // While another holds the lock, the tail of the log waits, and what is open is what was frozen.
    let lock = std::fs::File::create(dir.join("LOCK")).unwrap();
    lock.lock().unwrap();
    let stats = Index::open(&dir, OpenOptions::default()).unwrap().stats().unwrap();
    drop(lock);
    assert_eq!((stats.graph_vectors, stats.quantised_vectors), (graph_vectors, graph_vectors));
    assert!(stats.damage.is_empty(), "{:?}", stats.damage);
    let encoder = orion_index::Embedder::new("crash-test", 8, |texts| Ok(vec![vec![1.0; 8]; texts.len()]));
    let index = Index::open(&dir, OpenOptions { encoder: Some(encoder), ..options() }).unwrap();
    let searcher = index.searcher();
    let ids = searcher.ids();
    let expected = match with_vectors {
        None => ids.clone(),
        Some(list) => {
            let list = std::fs::read_to_string(frozen.with_file_name(list)).unwrap();
            list.lines().map(str::to_owned).collect()
        }
    };
    assert_eq!(searcher.vector_ids(), expected);
    let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    let held: Vec<String> = searcher
        .documents(&wanted)
        .unwrap()
        .into_iter()
        .flatten()
        .map(|found| format!("{} {}\n", found.id, found.text))
        .collect();
    let expected = std::fs::read_to_string(frozen.with_extension("txt")).unwrap();
    assert_eq!(held.concat(), expected);
    let mut writer = index.writer().unwrap();
    writer.add(Document { id: "new".to_owned(), text: "goes on".to_owned(), ..Document::default() }).unwrap();
    assert_eq!(writer.commit().unwrap().documents, ids.len() as u64 + 1);
}
