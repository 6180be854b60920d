//! BEIR folders, splits and TREC run files: what is read, and what each error says.

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use expect_test::{Expect, expect};
use orion_eval::{
    Dataset, Query, RankedDocument, Run,
    run::{read_run, write_run},
    split::{is_hashed_dev, without_leaks},
};

/// A folder with three queries, two documents and a train and a test file.
fn small_set(folder: &Path) {
    fs::create_dir(folder.join("qrels")).unwrap();
    fs::write(
        folder.join("corpus.jsonl"),
        concat!(
            r#"{"_id": "d1", "title": "One", "text": "First text.", "metadata": {"year": 2001}}"#,
            "\r\n\n",
            r#"{"_id": "d2", "text": "Second text."}"#,
            "\n"
        ),
    )
    .unwrap();
    fs::write(
        folder.join("queries.jsonl"),
        concat!(
            r#"{"_id": "1", "text": "One?"}"#,
            "\n",
            r#"{"_id": "2", "text": "one"}"#,
            "\n",
            r#"{"_id": "3", "text": "three"}"#,
            "\n"
        ),
    )
    .unwrap();
    fs::write(folder.join("qrels/train.tsv"), "query-id\tcorpus-id\tscore\n2\td1\t1\n3\td2\t1\n").unwrap();
    fs::write(folder.join("qrels/test.tsv"), "query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t-1\n").unwrap();
}

#[test]
fn reads_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    small_set(folder.path());
    let set = Dataset::open(folder.path()).unwrap();
    let documents: Vec<_> = set.corpus().unwrap().map(Result::unwrap).collect();
    assert_eq!(documents.len(), 2);
    assert_eq!((documents[0].title.as_str(), documents[1].title.as_str()), ("One", ""));
    assert_eq!(documents[0].metadata["year"], 2001);
    assert_eq!(set.splits().unwrap(), ["test", "train"]);
    assert_eq!(set.split_query_ids("test").unwrap(), ["1"]);
    assert_eq!(set.judgements("test").unwrap()["1"]["d2"], -1);
}

#[test]
fn training_leaves_out_leaks_and_the_hashed_dev_fifth() {
    let folder = tempfile::tempdir().unwrap();
    small_set(folder.path());
    let set = Dataset::open(folder.path()).unwrap();
    let dev: BTreeSet<String> = set.split_query_ids("dev").unwrap().into_iter().collect();
    let train: BTreeSet<String> = set.training_queries().unwrap().into_iter().map(|q| q.id).collect();
    // Query 2 reads like test query 1 and is in neither.
    assert_eq!(dev.union(&train).cloned().collect::<Vec<_>>(), ["3"]);
    assert!(dev.is_disjoint(&train));
    assert_eq!(set.judgements("dev").unwrap().into_keys().collect::<BTreeSet<_>>(), dev);
}

#[test]
fn the_hashed_split_is_fixed_for_ever() {
    let members: Vec<u32> = (0..60).filter(|id: &u32| is_hashed_dev(&id.to_string())).collect();
    expect!["[2, 11, 13, 19, 20, 24, 32, 38, 41, 42, 50, 53, 58, 59]"].assert_eq(&format!("{members:?}"));
    let share = (0..10_000).filter(|id: &u32| is_hashed_dev(&format!("train-{id}"))).count();
    assert!((1_900..2_100).contains(&share), "{share}");
}

#[test]
fn leaks_are_found_whatever_their_case_and_punctuation() {
    let query = |id: &str, text: &str| Query { id: id.to_owned(), text: text.to_owned() };
    let train = vec![query("a", "Zinc, in soil."), query("b", "zinc in water")];
    let kept = without_leaks(train, &[query("t", "zinc in  soil")]);
    assert_eq!(kept, [query("b", "zinc in water")]);
}

#[test]
fn every_set_at_hand_loads() {
    let Some(data) = common::shared("data") else { return };
    for entry in fs::read_dir(data).unwrap() {
        let set = Dataset::open(&entry.unwrap().path()).unwrap();
        for split in set.splits().unwrap() {
            let judgements = set.judgements(&split).unwrap();
            let ids = set.split_query_ids(&split).unwrap();
            assert_eq!(ids, judgements.into_keys().collect::<Vec<_>>(), "{} {split}", set.name());
            assert_eq!(set.split_queries(&split).unwrap().len(), ids.len());
        }
    }
}

#[test]
fn scifact_lends_a_fifth_of_its_train_queries_and_drops_two() {
    let Some(folder) = common::shared("data/scifact") else { return };
    let set = Dataset::open(&folder).unwrap();
    let (train, dev) = (set.training_queries().unwrap(), set.split_query_ids("dev").unwrap());
    assert_eq!(set.split_query_ids("train").unwrap().len(), train.len() + dev.len() + 2);
    assert!((130..190).contains(&dev.len()), "{}", dev.len());
}

#[test]
fn run_files_keep_scores_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.trec");
    let scored = |id: &str, score: f32| RankedDocument { id: id.to_owned(), score };
    let run = Run::from([("q".to_owned(), vec![scored("d1", 1.0 / 3.0), scored("d2", -2.5e-9)])]);
    write_run(&path, &run, "beam of two").unwrap();
    assert_eq!(read_run(&path).unwrap(), run);
    expect![[r#"
        q Q0 d1 1 0.33333334 beam_of_two
        q Q0 d2 2 -0.0000000025 beam_of_two
    "#]]
    .assert_eq(&fs::read_to_string(&path).unwrap());
}

/// Writes `text` to a file of a small set, runs `read`, and compares the error without its folder.
fn check_error(file: &str, text: &str, read: impl Fn(&Path) -> String, want: Expect) {
    let folder = tempfile::tempdir().unwrap();
    small_set(folder.path());
    fs::write(folder.path().join(file), text).unwrap();
    let got = read(folder.path()).replace(&format!("{}/", folder.path().display()), "");
    want.assert_eq(&got);
}

#[test]
fn errors_name_file_and_line() {
    let judgements =
        |folder: &Path| Dataset::open(folder).unwrap().judgements("test").unwrap_err().to_string();
    check_error(
        "qrels/test.tsv",
        "query-id\tcorpus-id\tscore\n1\td1\tgood\n",
        judgements,
        expect![
            "reading `qrels/test.tsv` line 2: expected `query-id<TAB>corpus-id<TAB>score` with a whole score, got `1	d1	good`"
        ],
    );
    check_error(
        "qrels/test.tsv",
        "1\td1\t1\n1\td1\t2\n",
        judgements,
        expect!["reading `qrels/test.tsv` line 2: expected one grade a query and document, got `1 and 2`"],
    );
    let queries =
        |folder: &Path| Dataset::open(folder).unwrap().split_queries("test").unwrap_err().to_string();
    check_error(
        "queries.jsonl",
        "{\"_id\": \"1\"}\n",
        queries,
        expect![[
            r#"reading `queries.jsonl` line 1: expected an object with `_id` and `text`, got `{"_id": "1"}`"#
        ]],
    );
    check_error(
        "queries.jsonl",
        "{\"_id\": \"9\", \"text\": \"nine\"}\n",
        queries,
        expect![
            "reading `queries.jsonl`: expected the text of every judged query, got none for `1` and 0 more"
        ],
    );
    let corpus = |folder: &Path| {
        Dataset::open(folder).unwrap().corpus().unwrap().find_map(Result::err).unwrap().to_string()
    };
    check_error(
        "corpus.jsonl",
        "{\"_id\": \"d1\"}\n{\"text\": 3}\n",
        corpus,
        expect![
            "reading `corpus.jsonl` line 2: expected an object with `_id` and, where it has them, `title`, `text`, `metadata`, got `{\"text\": 3}`"
        ],
    );
    let missing = |folder: &Path| Dataset::open(folder).unwrap().judgements("eval").unwrap_err().to_string();
    check_error(
        "qrels/other.tsv",
        "",
        missing,
        expect![
            "looking for split `eval` in `qrels`: expected one of `other`, `test`, `train`, got no such file"
        ],
    );
    let run = |folder: &Path| read_run(&folder.join("a.trec")).unwrap_err().to_string();
    check_error(
        "a.trec",
        "q Q0 d1 1 nan tag\n",
        run,
        expect!["reading `a.trec` line 1: expected a finite score in column 5, got `nan`"],
    );
}
