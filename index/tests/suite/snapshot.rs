//! Copies of the committed state: taken while a writer goes on, whole, compared, and never more than what was asked for.

use crate::common::{document, options, settings};
use orion_index::{Copied, CopiedFile, Index, IndexError, Mode, Query, put_back};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Documents of one commit.
const BATCH: usize = 5;
/// Copies that are taken meanwhile.
const COPIES: usize = 6;

fn restored(copy: &Path, copied: &Copied, dir: &Path) -> Index {
    put_back(copy, copied, dir).unwrap();
    Index::open(dir, options()).unwrap()
}

#[test]
fn copies_are_whole_while_commits_and_merges_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("live"), &settings(), options()).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (index, stop) = (&index, &stop);
        scope.spawn(move || {
            let mut writer = index.writer().unwrap();
            for batch in 0.. {
                for number in 0..BATCH {
                    let id = format!("b{batch}-{number}");
                    writer.add(document(&id, &format!("passage {number} of batch {batch}"))).unwrap();
                }
                if 2 < batch {
                    // Every commit replaces something, so that merges have something to drop.
                    writer.delete(&format!("b{}-0", batch - 2)).unwrap();
                }
                writer.commit().unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        for number in 0..COPIES {
            let copy = folder.path().join(format!("copy-{number}"));
            let copied = index.copy_committed(&copy, &[("more.json", b"{}")]).unwrap();
            let back = restored(&copy, &copied, &folder.path().join(format!("back-{number}")));
            let searcher = back.searcher();
            // Whole commits: nothing of a batch without the rest of it.
            let commits = searcher.len().div_ceil(BATCH as u64);
            assert_eq!(searcher.len(), copied.documents);
            assert_eq!(back.stats().unwrap().vectors, searcher.len());
            assert_eq!(back.stats().unwrap().pending_changes, 0);
            for batch in 0..commits {
                let ids: Vec<String> = (1..BATCH).map(|number| format!("b{batch}-{number}")).collect();
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                assert!(
                    searcher.documents(&ids).unwrap().iter().all(Option::is_some),
                    "{batch} of {commits}"
                );
            }
            assert!(back.dir().join("more.json").is_file());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn an_index_from_a_copy_goes_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("live"), &settings(), options()).unwrap();
    let empty = index.copy_committed(&folder.path().join("empty"), &[]).unwrap();
    let back = restored(&folder.path().join("empty"), &empty, &folder.path().join("back-empty"));
    assert_eq!((empty.documents, back.searcher().len()), (0, 0));

    let mut writer = index.writer().unwrap();
    writer.add(document("a", "a lamp on the reef")).unwrap();
    writer.commit().unwrap();
    writer.add(document("later", "not committed")).unwrap();
    writer.sync().unwrap();
    let copied = index.copy_committed(&folder.path().join("copy"), &[]).unwrap();
    let back = restored(&folder.path().join("copy"), &copied, &folder.path().join("back"));
    let mut other = back.writer().unwrap();
    other.add(document("b", "another lamp")).unwrap();
    other.delete("a").unwrap();
    other.commit().unwrap();
    drop(other);
    writer.commit().unwrap();
    drop(writer);
    let ids = |index: &Index| {
        let query = Query::new("lamp", Mode::Lexical);
        let hits = index.refresh().unwrap().search(&[query]).unwrap();
        hits.into_iter().flatten().map(|hit| hit.id).collect::<Vec<_>>()
    };
    assert_eq!((ids(&index), ids(&back)), (vec!["a".to_owned()], vec!["b".to_owned()]));
    // From the same copy once more, and the copy is still what it was.
    let again = restored(&folder.path().join("copy"), &copied, &folder.path().join("again"));
    assert_eq!(ids(&again), ["a"]);
    assert!(matches!(index.copy_committed(&folder.path().join("copy"), &[]), Err(IndexError::Io { .. })));
}

#[test]
fn nothing_damaged_or_foreign_is_put_back() {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::create(&folder.path().join("live"), &settings(), options()).unwrap();
    let mut writer = index.writer().unwrap();
    writer.add(document("a", "a lamp on the reef")).unwrap();
    writer.commit().unwrap();
    drop(writer);
    let copy = folder.path().join("copy");
    let copied = index.copy_committed(&copy, &[]).unwrap();
    for (number, file) in copied.files.iter().enumerate() {
        let place = copy.join(&file.path);
        let intact = std::fs::read(&place).unwrap();
        let mut damaged = intact.clone();
        damaged[0] ^= 1;
        // Replaced, since some of these files are the index's own.
        std::fs::remove_file(&place).unwrap();
        std::fs::write(&place, damaged).unwrap();
        let refused = put_back(&copy, &copied, &folder.path().join(format!("back-{number}")));
        assert!(matches!(refused, Err(IndexError::Corrupt { .. })), "{}: {refused:?}", file.path);
        std::fs::write(&place, intact).unwrap();
    }
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    for path in ["../secret", "lexical/../../secret", "/etc/hostname", "vectors/none"] {
        let mut foreign = copied.clone();
        foreign.files.push(CopiedFile { path: path.to_owned(), bytes: 1, crc32: crc32fast::hash(b"x") });
        let target = folder.path().join(format!("foreign-{}", path.len()));
        assert!(put_back(&copy, &foreign, &target).is_err(), "{path}");
    }
    std::os::unix::fs::symlink(folder.path().join("secret"), copy.join("link")).unwrap();
    let mut linked = copied.clone();
    linked.files.push(CopiedFile { path: "link".to_owned(), bytes: 1, crc32: crc32fast::hash(b"x") });
    assert!(put_back(&copy, &linked, &folder.path().join("linked")).is_err());
    assert_eq!(restored(&copy, &copied, &folder.path().join("sound")).searcher().len(), 1);
}
