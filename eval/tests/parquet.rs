//! BRIGHT as Parquet files: what is read equals what JSON lines give, and what is no such table is an error, no matter how
//! it is broken.

use std::{
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use expect_test::{Expect, expect};
use orion_eval::{BeirWriter, BrightDocuments, BrightTask, EvalError, Imported};
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::parser::parse_message_type,
};

/// A column as it is written.
enum Column<'a> {
    Texts(Vec<Option<&'a str>>),
    Lists(Vec<Option<Vec<&'a str>>>),
    Numbers(Vec<i64>),
}

impl Column<'_> {
    fn declared(&self, name: &str) -> String {
        match self {
            Self::Texts(_) => format!("optional binary {name} (STRING);"),
            Self::Numbers(_) => format!("required int64 {name};"),
            Self::Lists(_) => format!(
                "optional group {name} (LIST) {{ repeated group list {{ optional binary element (STRING); }} }}"
            ),
        }
    }
}

/// Writes a table, its rows in one group for each of `groups`.
fn write(path: &Path, names: &[&str], groups: &[Vec<Column<'_>>], packing: Compression) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let fields: String = names.iter().zip(&groups[0]).map(|(name, column)| column.declared(name)).collect();
    let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(packing)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut own = group.next_column().unwrap().unwrap();
            let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            match column {
                Column::Numbers(numbers) => {
                    own.typed::<Int64Type>().write_batch(numbers, None, None).unwrap();
                }
                Column::Texts(texts) => {
                    values.extend(texts.iter().flatten().map(|text| ByteArray::from(*text)));
                    definitions.extend(texts.iter().map(|text| i16::from(text.is_some())));
                    own.typed::<ByteArrayType>().write_batch(&values, Some(&definitions), None).unwrap();
                }
                Column::Lists(lists) => {
                    for list in lists {
                        let length = list.as_ref().map_or(0, Vec::len);
                        let nothing = i16::from(list.is_some());
                        definitions.extend(if length == 0 { vec![nothing] } else { vec![3; length] });
                        repetitions.extend((0..length.max(1)).map(|place| i16::from(place != 0)));
                        values.extend(list.iter().flatten().map(|text| ByteArray::from(*text)));
                    }
                    let (definitions, repetitions) = (Some(&definitions[..]), Some(&repetitions[..]));
                    own.typed::<ByteArrayType>().write_batch(&values, definitions, repetitions).unwrap();
                }
            }
            own.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const DOCUMENT: [&str; 2] = ["id", "content"];
const EXAMPLE: [&str; 6] = ["query", "reasoning", "id", "excluded_ids", "gold_ids_long", "gold_ids"];

fn documents(ids: &[&'static str]) -> Vec<Column<'static>> {
    let texts = ids.iter().map(|id| if *id == "long" { "long text ".repeat(9_000).leak() } else { "text" });
    vec![Column::Texts(ids.iter().copied().map(Some).collect()), Column::Texts(texts.map(Some).collect())]
}

fn examples() -> Vec<Column<'static>> {
    vec![
        Column::Texts(vec![Some("why"), Some("how"), Some("when")]),
        Column::Texts(vec![None, Some("because"), None]),
        Column::Texts(vec![Some("0"), Some("1"), Some("2")]),
        Column::Lists(vec![Some(vec!["N/A"]), Some(vec!["d0", "d2", "gone"]), None]),
        Column::Lists(vec![Some(vec![]), None, Some(vec!["N/A"])]),
        Column::Lists(vec![Some(vec!["d1", "long"]), Some(vec!["d1"]), Some(vec!["d2", "d1", "d0"])]),
    ]
}

/// The benchmark's folder with a task in `parts` files.
fn benchmark(parts: usize, packing: Compression) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let groups = [documents(&["d0", "d1"]), documents(&["long"]), documents(&["d2"])];
    for (place, group) in groups.into_iter().enumerate().take(parts) {
        let name = format!("documents/islands-{place:05}-of-00003.parquet");
        write(&folder.path().join(name), &DOCUMENT, &[group], packing);
    }
    write(&folder.path().join("examples/islands.parquet"), &EXAMPLE, &[examples()], packing);
    folder
}

fn import(folder: &Path, out: &Path) -> Result<Imported, EvalError> {
    let mut set = BeirWriter::create(out)?;
    let task = BrightTask {
        folder,
        task: Some("islands"),
        documents: BrightDocuments::Passages,
        examples: "examples",
    };
    let judged = task.copy(&mut set, &mut || ())?;
    set.finish("test", &judged)
}

/// Every file of a set, by name.
fn files(set: &Path) -> Vec<(String, String)> {
    let names = ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "excluded/test.tsv"];
    names.map(|name| (name.to_owned(), fs::read_to_string(set.join(name)).unwrap())).to_vec()
}

#[test]
fn parquet_gives_what_json_lines_give() {
    let lines = tempfile::tempdir().unwrap();
    let write_lines = |table: &str, text: String| {
        fs::create_dir(lines.path().join(table)).unwrap();
        fs::write(lines.path().join(table).join("islands.jsonl"), text).unwrap();
    };
    let long = "long text ".repeat(9_000);
    let document = |(id, text): (&str, &str)| format!("{{\"id\": \"{id}\", \"content\": \"{text}\"}}\n");
    write_lines(
        "documents",
        [("d0", "text"), ("d1", "text"), ("long", long.as_str()), ("d2", "text")].map(document).concat(),
    );
    write_lines(
        "examples",
        [
            r#"{"id": "0", "query": "why", "gold_ids": ["d1", "long"], "excluded_ids": ["N/A"]}"#,
            r#"{"id": "1", "query": "how", "gold_ids": ["d1"], "excluded_ids": ["d0", "d2", "gone"]}"#,
            r#"{"id": "2", "query": "when", "gold_ids": ["d2", "d1", "d0"]}"#,
        ]
        .join("\n"),
    );
    let wanted = import(lines.path(), &lines.path().join("set")).unwrap();
    assert_eq!((wanted.documents, wanted.judgements, wanted.excluded), (4, 6, 2));
    for packing in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
        let folder = benchmark(3, packing);
        let out = folder.path().join("set");
        assert_eq!(import(folder.path(), &out).unwrap(), wanted);
        assert_eq!(files(&out), files(&lines.path().join("set")));
        // The same as one file, and as a folder of files.
        fs::remove_dir_all(&out).unwrap();
        fs::remove_dir_all(folder.path().join("documents")).unwrap();
        let groups = [documents(&["d0", "d1"]), documents(&["long"]), documents(&["d2"])];
        write(&folder.path().join("documents/islands/0000.parquet"), &DOCUMENT, &groups[..2], packing);
        write(&folder.path().join("documents/islands/0001.parquet"), &DOCUMENT, &groups[2..], packing);
        assert_eq!(import(folder.path(), &out).unwrap(), wanted);
        assert_eq!(files(&out), files(&lines.path().join("set")));
    }
}

/// More rows than are held at once, in groups of other sizes, some texts repeated and some not.
#[test]
fn rows_keep_their_order_over_batches_and_groups() {
    let folder = tempfile::tempdir().unwrap();
    let ids: Vec<String> = (0..1000).map(|id| format!("d{id}")).collect();
    let texts: Vec<String> = (0..1000).map(|id| format!("text {}", id % 7 * (id % 2))).collect();
    let group = |range: std::ops::Range<usize>| {
        let column = |all: &'static [String]| {
            Column::Texts(all[range.clone()].iter().map(|one| Some(one.as_str())).collect())
        };
        vec![column(ids.clone().leak()), column(texts.clone().leak())]
    };
    let groups = [group(0..1), group(1..34), group(34..990), group(990..1000)];
    write(&folder.path().join("documents/islands.parquet"), &DOCUMENT, &groups, Compression::SNAPPY);
    write(
        &folder.path().join("examples/islands.parquet"),
        &["id", "query", "gold_ids"],
        &[vec![
            Column::Texts(vec![Some("0")]),
            Column::Texts(vec![Some("why")]),
            Column::Lists(vec![Some(ids.iter().map(String::as_str).collect())]),
        ]],
        Compression::SNAPPY,
    );
    let out = folder.path().join("set");
    assert_eq!(import(folder.path(), &out).unwrap().judgements, 1000);
    let set = orion_eval::Dataset::open(&out).unwrap();
    let read: Vec<_> = set.corpus().unwrap().map(Result::unwrap).map(|one| (one.id, one.text)).collect();
    assert_eq!(read, ids.into_iter().zip(texts).collect::<Vec<_>>());
}

fn refused(folder: &Path, want: Expect) {
    let out = folder.join("set");
    let error = import(folder, &out).unwrap_err().to_string();
    want.assert_eq(&error.replace(&format!("{}/", folder.display()), ""));
    assert!(!out.exists() && !folder.join("set.partial").exists(), "nothing is left");
}

#[test]
fn tables_of_another_form_are_refused() {
    let folder = benchmark(2, Compression::SNAPPY);
    refused(
        folder.path(),
        expect!["reading `documents` task `islands`: expected all parts of its table, got 2 of 3"],
    );
    let folder = benchmark(3, Compression::SNAPPY);
    let write_examples = |names: &[&str], columns: Vec<Column<'_>>| {
        write(&folder.path().join("examples/islands.parquet"), names, &[columns], Compression::SNAPPY);
    };
    write_examples(&EXAMPLE[1..], examples().into_iter().skip(1).collect());
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` column `query`: expected such a column, got `only reasoning, id, excluded_ids, gold_ids_long, gold_ids`"
        ],
    );
    write_examples(&["id", "query"], vec![Column::Numbers(vec![1]), Column::Texts(vec![Some("why")])]);
    refused(
        folder.path(),
        expect!["reading `examples/islands.parquet` column `id`: expected text, got `INT64`"],
    );
    write_examples(&["id", "query"], vec![Column::Texts(vec![Some("1")]), Column::Lists(vec![None])]);
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` column `query`: expected text, got `lists of BYTE_ARRAY`"
        ],
    );
    write_examples(
        &["id", "query", "gold_ids"],
        vec![
            Column::Texts(vec![Some("1")]),
            Column::Texts(vec![Some("why")]),
            Column::Texts(vec![Some("d1")]),
        ],
    );
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` column `gold_ids`: expected lists of text, got `BYTE_ARRAY`"
        ],
    );
    write_examples(
        &["id", "query", "gold_ids"],
        vec![
            Column::Texts(vec![Some("1"), None]),
            Column::Texts(vec![Some("why"), Some("how")]),
            Column::Lists(vec![Some(vec!["d1"]), None]),
        ],
    );
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` row 2: expected an object with `id`, `query` and lists of ids, got `missing field id`"
        ],
    );
    let path = folder.path().join("examples/islands.parquet");
    // The codec stands behind the column's path; its number is doubled.
    let mut bytes = fs::read(&path).unwrap();
    let own = b"\x19\x18\x02id\x15\x02";
    let at = bytes.windows(own.len()).position(|window| window == own).unwrap();
    bytes[at + own.len() - 1] = 12;
    fs::write(&path, bytes).unwrap();
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` column `id`: expected pages packed by snappy or not at all, got `ZSTD(ZstdLevel(1))`"
        ],
    );
    fs::write(&path, "PAR1 and no more").unwrap();
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` footer: expected a Parquet file, which ends with `PAR1`, got `more`"
        ],
    );
    fs::remove_dir_all(folder.path().join("examples")).unwrap();
    refused(folder.path(), expect!["listing `examples`"]);
    fs::create_dir(folder.path().join("examples")).unwrap();
    fs::write(folder.path().join("examples/reefs-00000-of-00001.parquet"), "").unwrap();
    fs::write(folder.path().join("examples/caves.jsonl"), "").unwrap();
    refused(
        folder.path(),
        expect![
            "looking for the table of `islands` in `examples`: expected one of `caves`, `reefs`, got no such file"
        ],
    );
}

/// A file that ends with this footer.
fn with_footer(footer: &[u8]) -> Vec<u8> {
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    [b"PAR1", footer, &length, b"PAR1"].concat()
}

/// What a schema claims is not believed: neither two thousand million children nor a tree as deep as it is long.
#[test]
fn schemas_beyond_measure_are_refused() {
    let folder = benchmark(3, Compression::SNAPPY);
    let path = folder.path().join("examples/islands.parquet");
    let version = [0x15, 0x02];
    let claims = [0x19, 0x1c, 0x48, 1, b'a', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    fs::write(&path, with_footer(&[&version[..], &claims].concat())).unwrap();
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` footer: expected the schema of a table, got `none, or one beyond all measure`"
        ],
    );
    let node = [0x48, 1, b'a', 0x15, 2, 0];
    let deep = [&version[..], &[0x19, 0xfc, 0x80, 0x20], &node.repeat(4096), &[0]].concat();
    fs::write(&path, with_footer(&deep)).unwrap();
    refused(
        folder.path(),
        expect![
            "reading `examples/islands.parquet` footer: expected the schema of a table, got `none, or one beyond all measure`"
        ],
    );
}

/// A file cut at each length, and each of its bytes changed: an import, or an error; never a panic that reaches the
/// caller, never an abort.
#[test]
fn broken_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("set");
    fs::create_dir(folder.path().join("documents")).unwrap();
    let document = r#"{"id": "d1", "content": "text"}"#;
    fs::write(folder.path().join("documents/islands.jsonl"), document).unwrap();
    let path = folder.path().join("examples/islands.parquet");
    let columns = vec![
        Column::Texts(vec![Some("0"), Some("1")]),
        Column::Texts(vec![Some("why"), Some("why")]),
        Column::Lists(vec![Some(vec!["d1", "N/A"]), Some(vec!["d1"])]),
    ];
    write(&path, &["id", "query", "gold_ids"], &[columns], Compression::SNAPPY);
    let whole = fs::read(&path).unwrap();
    let mut imported = 0;
    let mut attempt = |bytes: &[u8], must_fail: bool| {
        fs::write(&path, bytes).unwrap();
        let outcome = import(folder.path(), &out);
        assert!(!must_fail || outcome.is_err());
        if outcome.is_ok() {
            imported += 1;
            fs::remove_dir_all(&out).unwrap();
        }
    };
    for length in (0..whole.len()).step_by(3) {
        attempt(&whole[..length], true);
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= [0x01, 0x80, 0xff, 0x10][place % 4];
        attempt(&bytes, false);
    }
    assert!(0 < imported, "some bytes say nothing of importance");
}
