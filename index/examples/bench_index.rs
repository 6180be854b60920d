//! How fast an index is built and searched, ours or tantivy alone, over a made-up collection.
//!
//! ```text
//! cargo run --release -p orion-index --example bench_index -- [ours|codes|tantivy] [DOCUMENTS] [QUERIES]
//! ```
//! The last line of the output is one JSON object. Passages of 60 words are drawn from a vocabulary of 30,000 by Zipf's
//! law, vectors of 384 from a normal distribution; both depend on the document's number alone. Encoding is left out:
//! documents bring their vectors, and a query's vector is made from a hash. Dense search is exact, or by codes of one byte
//! a dimension; `bench_dense` measures what each way finds. The peer for the dense half is `tests/bench/index/peer.py`.

#[path = "support/figures.rs"]
mod figures;

use figures::{Figures, Random, memory_mb, put, put_times};
use orion_index::{
    DenseSearch, DenseSettings, Document, Embedder, Index, IndexSettings, Language, Mode, OpenOptions, Query,
    Searcher,
};
use std::path::Path;
use std::time::Instant;
use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, Occur, Query as TantivyQuery, TermQuery};
use tantivy::schema::{IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::{
    LowerCaser, RemoveLongFilter, SimpleTokenizer, Stemmer, StopWordFilter, TextAnalyzer,
};
use tantivy::{TantivyDocument, Term};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const DIMENSIONS: usize = 384;
const WORDS: usize = 60;
const VOCABULARY: f64 = 30_000.0;

/// A word; the logarithm of its rank is uniform, which is Zipf's law with exponent 1.
fn word(random: &mut Random) -> String {
    let unit = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    format!("w{}", VOCABULARY.powf(unit) as u64)
}

fn passage(random: &mut Random, words: usize) -> String {
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: u64| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (documents, queries) = (number(1, 20_000)?, number(2, 300)?);
    let place = tempfile::tempdir()?;
    let queries: Vec<String> = (0..queries).map(|query| passage(&mut Random(1 << 40 | query), 6)).collect();
    let found = match arguments.first().map(String::as_str) {
        None | Some("ours") => ours(place.path(), DenseSearch::Exact, documents, &queries)?,
        Some("codes") => ours(place.path(), DenseSearch::Quantised, documents, &queries)?,
        Some("tantivy") => tantivy_alone(place.path(), documents, &queries)?,
        Some(other) => {
            return Err(format!("engine: expected `ours`, `codes` or `tantivy`, got `{other}`").into());
        }
    };
    println!("{}", serde_json::Value::Object(found));
    Ok(())
}

/// Runs every query once to warm up and once timed; puts the median and the 99th percentile, in milliseconds.
fn time_queries(
    figures: &mut Figures,
    name: &str,
    queries: &[String],
    mut ask: impl FnMut(&str) -> Outcome<usize>,
) -> Outcome<()> {
    let mut times = Vec::new();
    for timed in [false, true] {
        for query in queries {
            let start = Instant::now();
            ask(query)?;
            if timed {
                times.push(start.elapsed().as_secs_f64() * 1000.0);
            }
        }
    }
    put_times(figures, name, times);
    Ok(())
}

fn ours(place: &Path, search: DenseSearch, documents: u64, queries: &[String]) -> Outcome<Figures> {
    let encoder = Embedder::new("made-up", DIMENSIONS, |texts| {
        Ok(texts
            .iter()
            .map(|text| Random(u64::from(crc32fast::hash(text.as_bytes()))).normals(DIMENSIONS))
            .collect())
    });
    let settings = IndexSettings {
        language: Language::English,
        dense: Some(DenseSettings { dimensions: DIMENSIONS, search, ..DenseSettings::default() }),
        ..IndexSettings::default()
    };
    let options = OpenOptions { encoder: Some(encoder), ..OpenOptions::default() };
    let mut figures = Figures::new();
    let start = Instant::now();
    let index = Index::create(&place.join("index"), &settings, options)?;
    let mut writer = index.writer()?;
    for number in 0..documents {
        let mut random = Random(number);
        let text = passage(&mut random, WORDS);
        let vector = Some(random.normals(DIMENSIONS));
        writer.add(Document { id: number.to_string(), text, vector, ..Document::default() })?;
    }
    writer.commit()?;
    put(&mut figures, "build_documents_per_s", documents as f64 / start.elapsed().as_secs_f64());
    drop(writer);
    put(&mut figures, "disk_mb", index.stats()?.disk_bytes as f64 / 1e6);
    put(&mut figures, "build_peak_mb", memory_mb("VmHWM:"));
    let searcher = index.searcher();
    let ask = |searcher: &Searcher, text: &str, mode: Mode| -> Outcome<usize> {
        Ok(searcher.search(&[Query::new(text, mode)])?[0].len())
    };
    for (name, mode) in
        [("lexical", Mode::Lexical), ("dense", Mode::Dense), ("hybrid", Mode::Hybrid(Default::default()))]
    {
        time_queries(&mut figures, name, queries, |text| ask(&searcher, text, mode))?;
    }
    put(&mut figures, "search_rss_mb", memory_mb("VmRSS:"));
    Ok(figures)
}

/// The same analysis, schema and queries without anything of ours around them.
fn tantivy_alone(place: &Path, documents: u64, queries: &[String]) -> Outcome<Figures> {
    let mut builder = Schema::builder();
    let indexing =
        TextFieldIndexing::default().set_tokenizer("english").set_index_option(IndexRecordOption::WithFreqs);
    let id = builder.add_text_field("id", STRING | STORED);
    let text =
        builder.add_text_field("text", TextOptions::default().set_indexing_options(indexing).set_stored());
    let index = tantivy::Index::create_in_dir(place, builder.build())?;
    let english = tantivy::tokenizer::Language::English;
    let mut analysis = TextAnalyzer::builder(SimpleTokenizer::default())
        .filter(RemoveLongFilter::limit(40))
        .filter(LowerCaser)
        .filter(StopWordFilter::new(english).ok_or("no stop words")?)
        .filter(Stemmer::new(english))
        .build();
    index.tokenizers().register("english", analysis.clone());
    let mut figures = Figures::new();
    let start = Instant::now();
    let mut writer = index.writer_with_num_threads(1, 128 << 20)?;
    for number in 0..documents {
        let mut document = TantivyDocument::default();
        document.add_text(id, number.to_string());
        document.add_text(text, passage(&mut Random(number), WORDS));
        writer.add_document(document)?;
    }
    writer.commit()?;
    put(&mut figures, "build_documents_per_s", documents as f64 / start.elapsed().as_secs_f64());
    put(&mut figures, "build_peak_mb", memory_mb("VmHWM:"));
    let searcher = index.reader()?.searcher();
    time_queries(&mut figures, "lexical", queries, |query| {
        let mut clauses: Vec<(Occur, Box<dyn TantivyQuery>)> = Vec::new();
        let mut words = analysis.token_stream(query);
        while words.advance() {
            let term = Term::from_field_text(text, &words.token().text);
            clauses.push((Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))));
        }
        let found =
            searcher.search(&BooleanQuery::new(clauses), &TopDocs::with_limit(10).order_by_score())?;
        for (_, address) in &found {
            let _: TantivyDocument = searcher.doc(*address)?;
        }
        Ok(found.len())
    })?;
    Ok(figures)
}
