//! Changes that are published before their texts are encoded: who finds what, and that nothing is lost on the way.

use crate::common::{document, embedder, options, settings};
use orion_index::{Index, OpenOptions, Writer, put_back};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

fn deferred() -> OpenOptions {
    OpenOptions { defer_encoding: true, ..options() }
}

fn fill(writer: &mut Writer, ids: std::ops::Range<u32>, words: &str) {
    for number in ids {
        writer.add(document(&format!("d{number:03}"), &format!("number {number} {words}"))).unwrap();
    }
}

fn log_files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("log")).unwrap().count()
}

#[test]
fn words_find_what_vectors_do_not_find_yet() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = Index::create(&dir, &settings(), deferred()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer, 0..50, "lamp");
    writer.encode_some(20).unwrap();
    assert_eq!((writer.waiting_texts(), writer.encoded_through()), (30, 20));
    let info = writer.publish().unwrap();
    assert_eq!((info.documents, info.changes), (50, 50));
    let searcher = index.searcher();
    assert_eq!((searcher.len(), searcher.unencoded(), searcher.vector_ids().len()), (50, 30, 20));
    assert_eq!(searcher.lexical("lamp", 100, None).unwrap().len(), 50);
    assert_eq!(searcher.dense(&["number 7 lamp"], 100, None).unwrap()[0].len(), 20);
    assert_eq!(searcher.vector_of("d049").unwrap(), None);
    // Nothing new: nothing is written.
    assert_eq!(writer.publish().unwrap().changes, 0);

    // Of what waits one is replaced, one deleted and put again, one deleted; of what does not, one replaced, one deleted.
    writer.add(document("d030", "another lens")).unwrap();
    assert!(
        writer.delete("d031").unwrap() && writer.delete("d032").unwrap() && writer.delete("d001").unwrap()
    );
    writer.add(document("d031", "put again")).unwrap();
    writer.add(document("d000", "another rope")).unwrap();
    writer.publish().unwrap();
    let searcher = index.searcher();
    // 30 waited, of which one is gone; one came that had a vector.
    assert_eq!((searcher.len(), searcher.unencoded(), searcher.vector_ids().len()), (48, 30, 18));
    assert_eq!(searcher.lexical("lens", 9, None).unwrap()[0].id, "d030");

    // A vector is found as soon as it is published, and all of them in the end.
    writer.encode_some(10).unwrap();
    writer.publish().unwrap();
    assert!(index.searcher().unencoded() < 30);
    writer.commit().unwrap();
    let searcher = index.searcher();
    assert_eq!((searcher.unencoded(), searcher.vector_ids()), (0, searcher.ids()));
    assert_eq!(searcher.dense(&["another rope"], 1, None).unwrap()[0][0].id, "d000");
    assert_eq!(log_files(&dir), 1);
}

#[test]
fn what_waited_is_encoded_by_whoever_comes_next() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = Index::create(&dir, &settings(), deferred()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer, 0..40, "lamp");
    writer.encode_some(10).unwrap();
    writer.publish().unwrap();
    fill(&mut writer, 40..45, "lens");
    writer.sync().unwrap();
    drop((writer, index));

    // Without an encoder the published state is what there is; opened for a server everything is published at once.
    let reader = Index::open(&dir, OpenOptions { encoder: None, ..options() }).unwrap();
    assert_eq!((reader.searcher().len(), reader.searcher().unencoded()), (40, 30));
    assert_eq!(reader.stats().unwrap().pending_changes, 35);
    drop(reader);
    let server = Index::open(&dir, deferred()).unwrap();
    assert_eq!((server.searcher().len(), server.searcher().unencoded()), (45, 35));
    drop(server);
    let index = Index::open(&dir, options()).unwrap();
    assert_eq!((index.searcher().unencoded(), index.searcher().vector_ids().len()), (0, 45));
    assert_eq!((index.stats().unwrap().pending_changes, log_files(&dir)), (0, 1));
}

#[test]
fn a_copy_takes_along_what_waits() {
    let root = tempfile::tempdir().unwrap();
    let index = Index::create(&root.path().join("index"), &settings(), deferred()).unwrap();
    let mut writer = index.writer().unwrap();
    fill(&mut writer, 0..30, "lamp");
    writer.encode_some(12).unwrap();
    writer.publish().unwrap();
    let (copy, target) = (root.path().join("copy"), root.path().join("target"));
    let copied = index.copy_committed(&copy, &[]).unwrap();
    assert_eq!(copied.documents, 30);
    // What comes later is no business of the copy.
    writer.delete("d000").unwrap();
    writer.commit().unwrap();
    put_back(&copy, &copied, &target).unwrap();
    let restored = Index::open(&target, options()).unwrap();
    let searcher = restored.searcher();
    assert_eq!((searcher.len(), searcher.unencoded(), searcher.vector_ids()), (30, 0, searcher.ids()));
    assert_eq!(
        searcher.vector_of("d000").unwrap().map(|vector| vector.len()),
        Some(crate::common::DIMENSIONS)
    );
}

/// Under load that never pauses, something always waits: what is needed of the log stays, and no more.
#[test]
fn a_log_that_is_never_whole_does_not_grow_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("index");
    let index = Index::create(&dir, &settings(), deferred()).unwrap();
    let mut writer = index.writer().unwrap();
    let long = "word ".repeat(20_000);
    let mut most = 0;
    for round in 0..8_u32 {
        fill(&mut writer, round * 10..(round + 1) * 10, &long);
        writer.sync().unwrap();
        // Twenty wait at the end of each round.
        writer.encode_some(writer.waiting_texts().saturating_sub(20)).unwrap();
        writer.publish().unwrap();
        most = most.max(log_files(&dir));
    }
    // A megabyte a round: those of the last three, and the one that is written to.
    assert!((2..=5).contains(&most), "{most}");
    let stats = index.stats().unwrap();
    assert_eq!((stats.documents, stats.vectors, stats.pending_changes), (80, 60, 20));
    drop((writer, index));
    let index = Index::open(&dir, options()).unwrap();
    assert_eq!((index.searcher().vector_ids().len(), log_files(&dir)), (80, 1));
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8, u16),
    Delete(u8),
    Encode(u8),
    Publish,
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_u8, any::<u16>()).prop_map(|(id, text)| Step::Add(id, text)),
        3 => (0..12_u8).prop_map(Step::Delete),
        3 => (1..5_u8).prop_map(Step::Encode),
        3 => Just(Step::Publish),
        1 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Whatever the order of things: the words are those of a map from ids to texts, the vectors a part of them, and in the
    /// end all of them.
    #[test]
    fn published_states_hold_what_was_put(steps in prop::collection::vec(step(), 1..40)) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("index");
        let mut index = Index::create(&dir, &settings(), deferred()).unwrap();
        let mut writer = index.writer().unwrap();
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let texts = |index: &Index| -> BTreeMap<String, String> {
            let searcher = index.searcher();
            let ids = searcher.ids();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let found = searcher.documents(&ids).unwrap().into_iter().flatten();
            found.map(|document| (document.id, document.text)).collect()
        };
        for step in steps {
            match step {
                Step::Add(id, text) => {
                    let (id, text) = (format!("i{id}"), format!("text {text} of many"));
                    writer.add(document(&id, &text)).unwrap();
                    model.insert(id, text);
                }
                Step::Delete(id) => {
                    let id = format!("i{id}");
                    prop_assert_eq!(writer.delete(&id).unwrap(), model.remove(&id).is_some());
                }
                Step::Encode(most) => writer.encode_some(usize::from(most)).unwrap(),
                Step::Publish => {
                    writer.publish().unwrap();
                    let searcher = index.searcher();
                    prop_assert_eq!(texts(&index), model.clone());
                    let vectors = searcher.vector_ids().len() as u64;
                    prop_assert_eq!(vectors + searcher.unencoded(), searcher.len());
                    if writer.waiting_texts() == 0 {
                        prop_assert_eq!(searcher.unencoded(), 0);
                    }
                }
                Step::Commit => {
                    writer.commit().unwrap();
                    prop_assert_eq!(index.searcher().vector_ids(), index.searcher().ids());
                }
                Step::Reopen => {
                    writer.sync().unwrap();
                    drop((writer, index));
                    index = Index::open(&dir, deferred()).unwrap();
                    prop_assert_eq!(texts(&index), model.clone());
                    writer = index.writer().unwrap();
                }
            }
        }
        writer.commit().unwrap();
        prop_assert_eq!(texts(&index), model.clone());
        let searcher = index.searcher();
        prop_assert_eq!(searcher.vector_ids(), searcher.ids());
        let embed = embedder("test");
        for (id, text) in &model {
            let wanted = embed.embed(&[text], None).unwrap().pop();
            prop_assert_eq!(searcher.vector_of(id).unwrap(), wanted);
        }
    }
}
