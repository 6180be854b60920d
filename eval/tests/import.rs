//! Sets of other layouts: BRIGHT, TREC topics and judgements, BEIR archives; what is read, and what each error says.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use expect_test::{Expect, expect};
use orion_eval::{
    ArchiveLimits, BeirWriter, BrightDocuments, BrightTask, CorpusDocument, Dataset, EvalError, Imported,
    Judged, RankedDocument, Run, TopicField, copy_corpus, read_topics, read_trec, read_trec_qrels,
    unpack_beir, without_excluded,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

const DOCUMENTS: &str =
    "{\"id\": \"a/1.txt\", \"content\": \"First.\"}\n{\"id\": \"b\", \"content\": \"Second.\"}\n";
const EXAMPLES: &str = concat!(
    r#"{"id": "0", "query": "Why?", "reasoning": "r", "gold_ids": ["b"], "gold_ids_long": ["N/A"], "#,
    r#""excluded_ids": ["a/1.txt", "gone"], "gold_answer": "x"}"#,
    "\n",
    r#"{"id": "1", "query": "How?", "gold_ids": ["a/1.txt", "b"], "excluded_ids": ["N/A"]}"#,
    "\n"
);

fn bright(documents: &str, examples: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("documents.jsonl"), documents).unwrap();
    fs::write(folder.path().join("examples.jsonl"), examples).unwrap();
    folder
}

/// Brings a task into `out`.
fn import(
    folder: &Path,
    task: Option<&str>,
    documents: BrightDocuments,
    out: &Path,
) -> Result<Imported, EvalError> {
    let mut set = BeirWriter::create(out)?;
    let judged = BrightTask { folder, task, documents, examples: "examples" }.copy(&mut set, &mut || ())?;
    set.finish("test", &judged)
}

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn a_bright_task_becomes_a_beir_folder_with_its_exclusions() {
    let folder = bright(DOCUMENTS, EXAMPLES);
    let out = folder.path().join("beir/biology");
    let imported = import(folder.path(), None, BrightDocuments::Passages, &out).unwrap();
    assert_eq!((imported.documents, imported.queries, imported.judgements), (2, 2, 3));
    assert_eq!((imported.judged_queries, imported.excluded, imported.absent_documents), (2, 1, 0));

    let set = Dataset::open(&out).unwrap();
    let judged = set.judgements("test").unwrap();
    assert_eq!(judged["0"], [("b".to_owned(), 1)].into());
    assert_eq!(judged["1"], [("a/1.txt".to_owned(), 1), ("b".to_owned(), 1)].into());
    let texts: Vec<String> = set.split_queries("test").unwrap().into_iter().map(|query| query.text).collect();
    assert_eq!(texts, ["Why?", "How?"]);
    let documents: Vec<_> =
        set.corpus().unwrap().map(Result::unwrap).map(|document| (document.id, document.text)).collect();
    let pair = |id: &str, text: &str| (id.to_owned(), text.to_owned());
    assert_eq!(documents, [pair("a/1.txt", "First."), pair("b", "Second.")]);

    let excluded = set.excluded("test").unwrap();
    assert_eq!(excluded, [("0".to_owned(), ["a/1.txt".to_owned()].into())].into());
    let ranked = |id: &str| RankedDocument { id: id.to_owned(), score: 1.0 };
    let all = vec![ranked("a/1.txt"), ranked("b"), ranked("c")];
    let run = Run::from([("0".to_owned(), all.clone()), ("1".to_owned(), all.clone())]);
    let scored = without_excluded(run, &excluded, 1);
    assert_eq!((&scored["0"], &scored["1"]), (&vec![ranked("b")], &all));
    assert!(set.excluded("dev").unwrap().is_empty());
}

#[test]
fn the_whole_benchmark_has_a_folder_a_table() {
    let folder = tempfile::tempdir().unwrap();
    for (table, text) in [("long_documents", DOCUMENTS), ("examples", EXAMPLES)] {
        fs::create_dir(folder.path().join(table)).unwrap();
        let text = text
            .replace("[\"N/A\"]", "[\"b\"]")
            .replace("\"gold_ids\": [\"a/1.txt\", \"b\"]", "\"gold_ids_long\": [\"b\"]")
            .replace("\"excluded_ids\": [\"b\"]", "\"excluded_ids\": [\"N/A\"]");
        fs::write(folder.path().join(table).join("pony.jsonl"), text).unwrap();
    }
    let out = folder.path().join("out");
    import(folder.path(), Some("pony"), BrightDocuments::Pages, &out).unwrap();
    let judged = Dataset::open(&out).unwrap().judgements("test").unwrap();
    assert_eq!(judged["1"].keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_set_is_written_whole_or_not_at_all_and_over_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    let document = |id: &str| CorpusDocument {
        id: id.to_owned(),
        title: String::new(),
        text: "x".to_owned(),
        metadata: serde_json::Map::new(),
    };
    let refused = |documents: &[&str], judged: &Judged, want: Expect| {
        let mut set = BeirWriter::create(&out).unwrap();
        for id in documents {
            assert!(set.document(document(id)).unwrap());
        }
        check(set.finish("test", judged).unwrap_err(), folder.path(), want);
        assert!(names(folder.path()).is_empty());
    };
    let judged = Judged {
        queries: vec![orion_eval::Query { id: "q 1".to_owned(), text: "why".to_owned() }],
        judgements: [("q 1".to_owned(), [("d 1".to_owned(), 1)].into())].into(),
        ..Judged::default()
    };
    refused(&[], &judged, expect!["writing the set `set`: expected at least one document, got none"]);
    refused(
        &["d"],
        &Judged::default(),
        expect!["writing the set `set`: expected at least one judgement, got none"],
    );
    refused(
        &["d"],
        &judged,
        expect![
            "writing the set `set`: expected judged documents that are in the collection, got none, such as `d 1`"
        ],
    );
    refused(
        &["d 1"],
        &Judged { queries: Vec::new(), ..judged.clone() },
        expect![
            "reading `set.partial/queries.jsonl`: expected the text of every judged query, got none for `q_1` and 0 more"
        ],
    );

    // Blanks would divide the columns of a run file: they are `_` in every file.
    fs::create_dir(&out).unwrap();
    let mut set = BeirWriter::create(&out).unwrap();
    assert!(set.document(document("d 1")).unwrap());
    assert!(!set.document(document("d_1")).unwrap(), "twice");
    assert!(!set.document(document("")).unwrap(), "no id");
    set.finish("test", &judged).unwrap();
    assert_eq!(names(folder.path()), ["set"]);
    let set = Dataset::open(&out).unwrap();
    assert_eq!(set.judgements("test").unwrap()["q_1"]["d_1"], 1);
    assert_eq!(set.corpus().unwrap().next().unwrap().unwrap().id, "d_1");

    let error = |path: &Path| BeirWriter::create(path).err().unwrap();
    let want = expect![
        "writing the set `set`: expected a folder that is not there yet, got one that holds something"
    ];
    check(error(&out), folder.path(), want);
    let want = expect![
        "writing the set `set/corpus.jsonl`: expected a folder that is not there yet, got something else of that name"
    ];
    check(error(&out.join("corpus.jsonl")), folder.path(), want);
    check(
        error(&out.join("..")),
        folder.path(),
        expect![
            "writing the set `set/..`: expected a folder that is not there yet, got one that holds something"
        ],
    );
}

fn check(got: impl std::fmt::Display, folder: &Path, want: Expect) {
    want.assert_eq(&got.to_string().replace(&format!("{}/", folder.display()), ""));
}

#[test]
fn bright_errors_name_file_and_line() {
    let error = |documents: &str, examples: &str, want: Expect| {
        let folder = bright(documents, examples);
        let out = folder.path().join("out");
        let error = import(folder.path(), None, BrightDocuments::Passages, &out).unwrap_err();
        check(error, folder.path(), want);
        assert_eq!(names(folder.path()), ["documents.jsonl", "examples.jsonl"], "nothing is left");
    };
    error(
        "{\"id\": 3}\n",
        "",
        expect![[
            r#"reading `documents.jsonl` line 1: expected an object with `id` and `content`, got `{"id": 3}`"#
        ]],
    );
    error(
        &DOCUMENTS.replace("\"b\"", "\"a/1.txt\""),
        "",
        expect![
            "reading `documents.jsonl` line 2: expected each document id once, and none that is empty, got `a/1.txt`"
        ],
    );
    error(
        DOCUMENTS,
        &EXAMPLES.replace("[\"b\"]", "[\"c\"]"),
        expect!["reading `examples.jsonl` line 1: expected gold ids of documents that are there, got `c`"],
    );
    error(
        DOCUMENTS,
        &EXAMPLES.replace("[\"b\"]", "[\"N/A\"]"),
        expect!["reading `examples.jsonl` line 1: expected at least one gold id, got `0`"],
    );
    error(
        DOCUMENTS,
        &EXAMPLES.replace("\"id\": \"1\"", "\"id\": \"0\""),
        expect!["reading `examples.jsonl` line 2: expected each example id once, got `0`"],
    );
    error(
        DOCUMENTS,
        &EXAMPLES.replace("[\"N/A\"]}", "[\"b\"]}"),
        expect!["reading `examples.jsonl` line 2: expected gold ids that are not excluded, got `b`"],
    );
}

const TOPICS: &str = "\
<!-- head matter -->
<top>
<num> Number: 301
<title> International Organized
Crime

<desc> Description:
Identify organizations that participate
in international crime.
<narr> Narrative:
A relevant document must name one.
</top>

<top>
<num>302</num>
<title>Poliomyelitis</title>
<desc>Is the disease under control?</desc>
<narr>None.</narr>
</top>
";

fn topics(text: &str, field: TopicField) -> Result<Vec<(String, String)>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topics");
    fs::write(&path, text).unwrap();
    let read = read_topics(&path, field).map_err(|error| error.to_string());
    let read = read.map_err(|error| error.replace(&format!("{}/", folder.path().display()), ""));
    read.map(|queries| queries.into_iter().map(|query| (query.id, query.text)).collect())
}

#[test]
fn topics_are_read_in_both_forms() {
    let pairs = |pairs: &[(&str, &str)]| {
        Ok(pairs.iter().map(|(id, text)| ((*id).to_owned(), (*text).to_owned())).collect::<Vec<_>>())
    };
    let titles = pairs(&[("301", "International Organized Crime"), ("302", "Poliomyelitis")]);
    assert_eq!(topics(TOPICS, TopicField::Title), titles);
    let descriptions = pairs(&[
        ("301", "Identify organizations that participate in international crime."),
        ("302", "Is the disease under control?"),
    ]);
    assert_eq!(topics(TOPICS, TopicField::Description), descriptions);
    let both = topics(TOPICS, TopicField::TitleAndDescription).unwrap();
    assert_eq!(both[1].1, "Poliomyelitis Is the disease under control?");
    assert_eq!(
        topics("7\tlens  ray\n8\treef\n", TopicField::Title),
        pairs(&[("7", "lens ray"), ("8", "reef")])
    );
}

#[test]
fn topic_errors_name_the_line() {
    let error =
        |text: &str, field: TopicField, want: Expect| want.assert_eq(&topics(text, field).unwrap_err());
    error(
        "7 lens\n",
        TopicField::Title,
        expect![
            "reading `topics` line 1: expected `id<TAB>text`, or a file that begins with `<top>`, got `7 lens`"
        ],
    );
    error(
        "7\ta\n7\tb\n",
        TopicField::Title,
        expect!["reading `topics` line 2: expected each topic once, got `7`"],
    );
    error(
        "<top>\n<num> 1\n<title> a\n</top>\n",
        TopicField::Description,
        expect![
            "reading `topics` line 4: expected a topic with a number and words in the wanted part, got `1`"
        ],
    );
    error(
        "<top>\n<num> 1\n<title> a\n",
        TopicField::Title,
        expect!["reading `topics` line 4: expected `</top>` at the end of the last topic, got `1`"],
    );
    error(
        "<top>\n<num> 1\n<top>\n",
        TopicField::Title,
        expect!["reading `topics` line 3: expected `</top>` before the next topic, got `<top>`"],
    );
}

#[test]
fn trec_judgements_are_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("qrels");
    fs::write(&path, "301 0 FBIS3-10 1\n301\tQ0  FT911 -2\n").unwrap();
    let judgements = read_trec_qrels(&path).unwrap();
    assert_eq!((judgements["301"]["FBIS3-10"], judgements["301"]["FT911"]), (1, -2));
    fs::write(&path, "301 0 a 1\n301 0 a 2\n").unwrap();
    let want = expect!["reading `qrels` line 2: expected one grade a query and document, got `1 and 2`"];
    check(read_trec_qrels(&path).unwrap_err(), folder.path(), want);
    fs::write(&path, "301 a 1\n").unwrap();
    let want = expect![
        "reading `qrels` line 1: expected `query iteration document grade` with a whole grade, got `301 a 1`"
    ];
    check(read_trec_qrels(&path).unwrap_err(), folder.path(), want);
}

#[test]
fn topics_judgements_and_documents_become_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("topics"), TOPICS).unwrap();
    fs::write(path("qrels"), "301 0 FBIS3-10 1\n301 0 FT911 0\n401 0 FT911 1\n400 0 FT911 1\n").unwrap();
    fs::write(
        path("corpus"),
        concat!(
            r#"{"_id": "FBIS3-10", "title": "A", "text": "x", "metadata": {"year": 1994}}"#,
            "\n",
            r#"{"id": "FT2", "contents": "y"}"#,
            "\n"
        ),
    )
    .unwrap();
    let (judged, strangers) = read_trec(&path("topics"), TopicField::Title, &path("qrels")).unwrap();
    assert_eq!(strangers.into_iter().collect::<Vec<_>>(), ["400", "401"]);
    let mut set = BeirWriter::create(&path("set")).unwrap();
    let mut heard = 0;
    copy_corpus(&path("corpus"), &mut set, &mut || heard += 1).unwrap();
    let imported = set.finish("test", &judged).unwrap();
    assert_eq!((heard, imported.documents, imported.queries, imported.judged_queries), (2, 2, 2, 1));
    assert_eq!((imported.judgements, imported.absent_documents), (2, 1));
    let set = Dataset::open(&path("set")).unwrap();
    assert_eq!(set.split_queries("test").unwrap()[0].text, "International Organized Crime");
    let documents: Vec<_> = set.corpus().unwrap().map(Result::unwrap).collect();
    assert_eq!((documents[0].metadata["year"].as_i64(), documents[1].text.as_str()), (Some(1994), "y"));

    fs::write(path("qrels"), "q7 0 FBIS3-10 1\n").unwrap();
    let error = read_trec(&path("topics"), TopicField::Title, &path("qrels")).unwrap_err();
    let want = expect![
        "reading `qrels`: expected judgements of the topics, whose first is `301`, got those of others, whose first is `q7`"
    ];
    check(error, folder.path(), want);
    fs::write(path("corpus"), "{\"id\": \"a\"}\n{\"id\": \"a\"}\n").unwrap();
    let mut set = BeirWriter::create(&path("other")).unwrap();
    let error = copy_corpus(&path("corpus"), &mut set, &mut || ()).unwrap_err();
    let want =
        expect!["reading `corpus` line 2: expected each document id once, and none that is empty, got `a`"];
    check(error, folder.path(), want);
}

const CORPUS: &str = "{\"_id\": \"d1\", \"title\": \"t\", \"text\": \"x\"}\n";
const QUERIES: &str = "{\"_id\": \"1\", \"text\": \"one\"}\n";
const QRELS: &str = "query-id\tcorpus-id\tscore\n1\td1\t1\n";

fn archive(path: &Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    let packed = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, bytes) in entries {
        match name.strip_suffix("->") {
            Some(link) => zip.add_symlink(link, String::from_utf8_lossy(bytes), packed).unwrap(),
            None => {
                zip.start_file(*name, packed).unwrap();
                zip.write_all(bytes).unwrap();
            }
        }
    }
    zip.finish().unwrap();
}

/// Names and bytes.
type Entries = Vec<(&'static str, &'static [u8])>;

fn whole() -> Entries {
    vec![
        ("tiny/corpus.jsonl", CORPUS.as_bytes()),
        ("tiny/queries.jsonl", QUERIES.as_bytes()),
        ("tiny/qrels/test.tsv", QRELS.as_bytes()),
    ]
}

#[test]
fn a_published_archive_becomes_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (zip, out) = (folder.path().join("tiny.zip"), folder.path().join("set"));
    let mut entries = whole();
    entries.push(("tiny/extra/readme.md", b"not taken"));
    archive(&zip, &entries);
    let set = unpack_beir(&zip, &out, &ArchiveLimits::default()).unwrap();
    assert_eq!(set.judgements("test").unwrap()["1"]["d1"], 1);
    assert_eq!(set.corpus().unwrap().count(), 1);
    assert_eq!(names(&out), ["corpus.jsonl", "qrels", "queries.jsonl"]);
    let again = unpack_beir(&zip, &out, &ArchiveLimits::default()).unwrap_err().to_string();
    assert!(again.contains("expected a folder that is not there yet"), "{again}");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    static BLANKS: [u8; 3 << 20] = [b' '; 3 << 20];
    let refused = |change: &dyn Fn(&mut Entries), limits: ArchiveLimits, want: Expect| {
        let folder = tempfile::tempdir().unwrap();
        let (zip, out) = (folder.path().join("a.zip"), folder.path().join("set"));
        let mut entries = whole();
        change(&mut entries);
        archive(&zip, &entries);
        check(unpack_beir(&zip, &out, &limits).unwrap_err(), folder.path(), want);
        assert_eq!(names(folder.path()), ["a.zip"]);
    };
    let usual = ArchiveLimits::default();
    refused(
        &|entries| entries.push(("../escaped.jsonl", b"x")),
        usual,
        expect![
            "unpacking `a.zip` entry `../escaped.jsonl`: expected a name inside the archive's folder, got `one that leads out of it`"
        ],
    );
    refused(
        &|entries| entries.push(("tiny/qrels/../../../x.tsv", b"x")),
        usual,
        expect![
            "unpacking `a.zip` entry `tiny/qrels/../../../x.tsv`: expected a name inside the archive's folder, got `one that leads out of it`"
        ],
    );
    refused(
        &|entries| entries.push(("tiny/qrels/dev.tsv->", b"/etc/passwd")),
        usual,
        expect!["unpacking `a.zip` entry `tiny/qrels/dev.tsv`: expected a file, got `a link`"],
    );
    refused(
        &|entries| entries.push(("tiny/qrels/dev.tsv", &BLANKS)),
        usual,
        expect![
            "unpacking `a.zip` entry `tiny/qrels/dev.tsv`: expected text that shrinks as text does, got `more than 200 bytes for each packed one`"
        ],
    );
    refused(
        &|entries| entries.push(("tiny/qrels/dev.tsv", &BLANKS)),
        ArchiveLimits { bytes: 1000, ..usual },
        expect![
            "unpacking `a.zip` entry `tiny/qrels/dev.tsv`: expected a set within the limit, got `more than 1000 bytes in all`"
        ],
    );
    refused(
        &|_| (),
        ArchiveLimits { entries: 2, ..usual },
        expect!["unpacking `a.zip` entry ``: expected fewer entries, got `3 entries`"],
    );
    refused(
        &|entries| entries.push(("other/corpus.jsonl", b"x")),
        usual,
        expect!["unpacking `a.zip` entry `corpus.jsonl`: expected exactly one such file, got `2`"],
    );
    refused(
        &|entries| {
            entries.remove(1);
        },
        usual,
        expect!["opening `set.partial/queries.jsonl`"],
    );
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let folder = tempfile::tempdir().unwrap();
    let zip = folder.path().join("a.zip");
    fs::write(&zip, "plain text").unwrap();
    let error =
        unpack_beir(&zip, &folder.path().join("set"), &ArchiveLimits::default()).unwrap_err().to_string();
    assert!(error.contains("expected a zip archive, got "), "{error}");
}
