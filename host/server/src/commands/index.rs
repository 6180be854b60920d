//! `orion index …`: named indexes in the data folder.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
};

use orion_host::index::{
    DenseSearch, DenseSettings, Index, IndexError, IndexSettings, IndexStats, JsonLines, Kind, Language,
    Space, VectorSource, Writer,
};

use super::{Session, doctor::warn_of_slow_processor};
use crate::{
    Verdict,
    args::{DenseSearchChoice, IndexCommand, LanguageChoice},
    engine::Engine,
    failure::{Explain, Failure},
    meant::metadata_field,
    places::{IndexName, Places},
    snapshots,
    terminal::grouped,
    tree::counted,
};

pub(super) fn run(command: IndexCommand, session: &Session) -> Result<Verdict, Failure> {
    match command {
        IndexCommand::Create {
            name,
            lexical_only,
            vectors,
            language,
            metadata,
            dense_search,
            graph_from,
        } => {
            let base = match vectors {
                Some(dimension) => IndexSettings::client_vectors(dimension as usize, Space::Cosine),
                None if lexical_only => IndexSettings::lexical_only(),
                None => IndexSettings::default(),
            };
            let base = dense(base, Some(dense_search), graph_from);
            create(&name, base, language, &metadata, session)
        }
        IndexCommand::Add { name, files, no_commit, dense_search } => {
            add(&name, &files, no_commit, dense_search, session)
        }
        IndexCommand::Delete { name, ids, no_commit } => delete(&name, &ids, no_commit, session),
        IndexCommand::Commit { name } => commit(&name, session),
        IndexCommand::Push { name, to, config, batch, fresh } => {
            super::push::run(&super::push::Order { name, to, config, batch: batch as usize, fresh }, session)
        }
        IndexCommand::Stats { name } => stats(&name, session),
        IndexCommand::List => list(session),
        IndexCommand::Drop { name, yes } => drop_index(&name, yes, session),
        IndexCommand::Snapshot { folder, names } => snapshot(&folder, &names, session),
        IndexCommand::Restore { folder, name, target } => {
            restore(&folder, &name, target.as_ref().unwrap_or(&name), session)
        }
        IndexCommand::Tune { name, data, split } => super::tune::run(&name, &data, &split, session),
    }
}

fn snapshot(folder: &Path, names: &[IndexName], session: &Session) -> Result<Verdict, Failure> {
    let name = folder.file_name().and_then(|name| name.to_str()).filter(|name| snapshots::is_name(name));
    let Some(name) = name else {
        return Err(Failure::new(format!(
            "taking snapshot `{}`: expected a folder named with 1 to 128 of a-z 0-9 - _ .",
            folder.display()
        )));
    };
    let engine = Engine::new(session, &[])?;
    let known = if names.is_empty() {
        let all = session.places.index_names()?;
        all.iter().map(|name| name.parse().map_err(Failure::new)).collect::<Result<Vec<IndexName>, _>>()?
    } else {
        names.to_vec()
    };
    let mut indexes = Vec::new();
    for name in &known {
        indexes.push((name.to_string(), engine.open_index(name)?));
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).attempt(format!("creating `{}`", parent.display()))?;
    let taken = snapshots::take(parent, name, &indexes, None)?;
    let documents: std::collections::BTreeMap<&String, u64> =
        taken.indexes.iter().map(|(name, copied)| (name, copied.documents)).collect();
    session.terminal.say(&format!(
        "took {} with {}",
        folder.display(),
        counted(documents.len(), "index", "indexes")
    ));
    print_done(session, serde_json::json!({ "snapshot": folder, "documents": documents }))
}

fn restore(
    folder: &Path,
    name: &IndexName,
    target: &IndexName,
    session: &Session,
) -> Result<Verdict, Failure> {
    let taken = snapshots::read(folder)?;
    let catalog = session.places.catalog()?;
    snapshots::put_back(folder, &taken, &name.to_string(), &catalog, &target.to_string())?;
    let engine = Engine::new(session, &[])?;
    let documents = engine.open_index(target)?.searcher().len();
    session.terminal.say(&format!(
        "made index {target}: {}",
        counted(documents as usize, "document is searchable", "documents are searchable")
    ));
    print_done(session, serde_json::json!({ "index": target.to_string(), "documents": documents }))
}

fn language(choice: LanguageChoice) -> Language {
    match choice {
        LanguageChoice::Plain => Language::Plain,
        LanguageChoice::Arabic => Language::Arabic,
        LanguageChoice::Danish => Language::Danish,
        LanguageChoice::Dutch => Language::Dutch,
        LanguageChoice::English => Language::English,
        LanguageChoice::Finnish => Language::Finnish,
        LanguageChoice::French => Language::French,
        LanguageChoice::German => Language::German,
        LanguageChoice::Greek => Language::Greek,
        LanguageChoice::Hungarian => Language::Hungarian,
        LanguageChoice::Italian => Language::Italian,
        LanguageChoice::Norwegian => Language::Norwegian,
        LanguageChoice::Portuguese => Language::Portuguese,
        LanguageChoice::Romanian => Language::Romanian,
        LanguageChoice::Russian => Language::Russian,
        LanguageChoice::Spanish => Language::Spanish,
        LanguageChoice::Swedish => Language::Swedish,
        LanguageChoice::Tamil => Language::Tamil,
        LanguageChoice::Turkish => Language::Turkish,
    }
}

fn way(choice: DenseSearchChoice) -> DenseSearch {
    match choice {
        DenseSearchChoice::Exact => DenseSearch::Exact,
        DenseSearchChoice::Quantised => DenseSearch::Quantised,
        DenseSearchChoice::Graph => DenseSearch::Graph,
        DenseSearchChoice::Auto => DenseSearch::Auto,
    }
}

/// `settings` with what was chosen for the dense half, if they have one.
fn dense(
    settings: IndexSettings,
    search: Option<DenseSearchChoice>,
    graph_from: Option<u64>,
) -> IndexSettings {
    let chosen = settings.dense.map(|dense| DenseSettings {
        search: search.map_or(dense.search, way),
        graph_from: graph_from.unwrap_or(dense.graph_from),
        ..dense
    });
    IndexSettings { dense: chosen, ..settings }
}

fn create(
    name: &IndexName,
    base: IndexSettings,
    chosen_language: LanguageChoice,
    metadata: &[String],
    session: &Session,
) -> Result<Verdict, Failure> {
    let folder = session.places.index(name);
    if folder.exists() {
        return Err(Failure::new(format!("creating index `{name}`: it is there already"))
            .hint(format!("`orion index add {name} FILE` fills it, `orion index drop {name}` removes it")));
    }
    let settings = IndexSettings {
        language: language(chosen_language),
        metadata: metadata.iter().map(|text| metadata_field(text)).collect::<Result<_, _>>()?,
        ..base
    };
    let engine = Engine::new(session, &[])?;
    engine.create_index(&folder, &settings)?;
    session.terminal.say(&format!("made index {name}"));
    print_done(session, serde_json::json!({ "index": name.to_string(), "folder": folder }))
}

fn add(
    name: &IndexName,
    files: &[PathBuf],
    no_commit: bool,
    dense_search: Option<DenseSearchChoice>,
    session: &Session,
) -> Result<Verdict, Failure> {
    warn_of_slow_processor(&session.terminal);
    for file in files {
        std::fs::metadata(file).attempt(format!("reading `{}`", file.display()))?;
    }
    let engine = Engine::new(session, &[])?;
    let folder = session.places.index(name);
    let has_encoder = engine.encoder()?.is_some();
    let base = if has_encoder { IndexSettings::default() } else { IndexSettings::lexical_only() };
    let settings = dense(base, dense_search, None);
    if !folder.exists() {
        check_way(&settings, name, dense_search)?;
        engine.warn_without_encoder()?;
    }
    let bar = session.terminal.bar(&format!("adding to {name}"), 0, "documents");
    let index = engine.open_for_writing(&folder, &settings, &bar)?;
    check_way(index.settings(), name, dense_search)?;
    let mut writer = open_writer(&index, name)?;
    let mut added = 0_u64;
    for file in files {
        added += add_file(&mut writer, file, index.settings().client_half().is_some())?;
    }
    let done = finish(&mut writer, no_commit, name)?;
    bar.finish_and_clear();
    session
        .terminal
        .say(&format!("{name}: {} added, {done}", counted(added as usize, "document", "documents")));
    let documents = index.searcher().len();
    print_done(
        session,
        serde_json::json!({ "index": name.to_string(), "added": added, "committed": !no_commit, "documents": documents }),
    )
}

/// What an index was made for it stays.
fn check_way(
    settings: &IndexSettings,
    name: &IndexName,
    choice: Option<DenseSearchChoice>,
) -> Result<(), Failure> {
    let Some(wanted) = choice.map(way) else { return Ok(()) };
    let has = settings.dense.as_ref().map(|dense| dense.search);
    if has == Some(wanted) {
        return Ok(());
    }
    let got = has.map_or("none: it is lexical only", DenseSearch::name);
    let wanted = wanted.name();
    Err(Failure::new(format!("adding to index `{name}`: expected dense search `{wanted}`, got {got}")).hint(
        format!("it is chosen when an index is made: `orion index create NAME --dense-search {wanted}`"),
    ))
}

/// A line that is no document ends the command; what came before it is in the log and stays.
fn add_file(writer: &mut Writer, file: &Path, takes_vectors: bool) -> Result<u64, Failure> {
    let attempted = || format!("adding `{}`", file.display());
    let mut added = 0;
    for read in JsonLines::open(file).attempt(attempted())? {
        let kept = read.and_then(|document| writer.add(document));
        if kept.is_err() {
            writer.sync().attempt(attempted())?;
        }
        let is_foreign_vector = matches!(
            &kept,
            Err(IndexError::Document { expected, got, .. }) if expected.contains("vector") && got != "none"
        );
        kept.attempt(attempted()).map_err(|failure| {
            if is_foreign_vector && !takes_vectors {
                return failure.hint(
                    "`orion index create NAME --vectors DIMENSION` makes an index for vectors that documents bring",
                );
            }
            if failure.causes().iter().any(|cause| cause.contains("encoder")) {
                return failure.hint(Places::models_hint());
            }
            failure.hint("documents before this one are kept; correct the file and add it again")
        })?;
        added += 1;
    }
    Ok(added)
}

fn open_writer(index: &Index, name: &IndexName) -> Result<Writer, Failure> {
    index.writer().attempt(format!("writing to index `{name}`")).map_err(|failure| {
        failure.hint("one process at a time may write to an index; wait for the other one")
    })
}

/// Commits, or only acknowledges; says which.
fn finish(writer: &mut Writer, no_commit: bool, name: &IndexName) -> Result<String, Failure> {
    if no_commit {
        writer.sync().attempt(format!("writing to index `{name}`"))?;
        return Ok(format!("kept in the log until `orion index commit {name}`"));
    }
    let info = writer.commit().attempt(format!("committing index `{name}`"))?;
    Ok(format!("{} searchable", counted(info.documents as usize, "document is", "documents are")))
}

fn delete(name: &IndexName, ids: &[String], no_commit: bool, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let index = engine.open_index(name)?;
    let mut writer = open_writer(&index, name)?;
    let mut deleted = 0_u64;
    for id in ids {
        deleted += u64::from(writer.delete(id).attempt(format!("deleting `{id}`"))?);
    }
    let done = finish(&mut writer, no_commit, name)?;
    session
        .terminal
        .say(&format!("{name}: {} deleted, {done}", counted(deleted as usize, "document", "documents")));
    print_done(
        session,
        serde_json::json!({ "index": name.to_string(), "deleted": deleted, "committed": !no_commit }),
    )
}

fn commit(name: &IndexName, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let index = engine.open_index(name)?;
    let mut writer = open_writer(&index, name)?;
    let done = finish(&mut writer, false, name)?;
    session.terminal.say(&format!("{name}: {done}"));
    print_done(session, serde_json::json!({ "index": name.to_string(), "documents": index.searcher().len() }))
}

fn stats(name: &IndexName, session: &Session) -> Result<Verdict, Failure> {
    let engine = Engine::new(session, &[])?;
    let index = engine.open_index(name)?;
    let stats = index.stats().attempt(format!("looking at index `{name}`"))?;
    if session.terminal.json {
        session.terminal.print_json(&stats_json(name, &index, &stats))?;
    } else {
        session.terminal.print(&stats_text(name, &index, &stats))?;
    }
    Ok(Verdict::Answered)
}

fn stats_json(name: &IndexName, index: &Index, stats: &IndexStats) -> serde_json::Value {
    let metadata: serde_json::Map<String, serde_json::Value> =
        stats.metadata.iter().map(|(field, kind)| (field.clone(), kind.name().into())).collect();
    let dense = index.settings().dense.as_ref();
    serde_json::json!({
        "index": name.to_string(),
        "folder": index.dir(),
        "documents": stats.documents,
        "vectors": stats.vectors,
        "dead_vectors": stats.dead_vectors,
        "dimensions": dense.map(|dense| dense.dimensions),
        "vector_source": dense.map(|dense| dense.source),
        "space": dense.map(|dense| dense.space),
        "lexical_segments": stats.lexical_segments,
        "vector_segments": stats.vector_segments,
        "dense_search": stats.dense_search,
        "quantised_vectors": stats.quantised_vectors,
        "graph_vectors": stats.graph_vectors,
        "damage": stats.damage,
        "pending_changes": stats.pending_changes,
        "disk_bytes": stats.disk_bytes,
        "encoder": stats.encoder,
        "language": index.settings().language,
        "metadata": metadata,
    })
}

fn stats_text(name: &IndexName, index: &Index, stats: &IndexStats) -> String {
    let metadata: Vec<String> = stats
        .metadata
        .iter()
        .map(|(field, kind): (&String, &Kind)| format!("{field} ({})", kind.name()))
        .collect();
    let vectors = match &index.settings().dense {
        Some(dense) => {
            let counts = format!("{}, {} dead", grouped(stats.vectors), grouped(stats.dead_vectors));
            match dense.source {
                VectorSource::Encoder => counts,
                VectorSource::Client => {
                    let (dimensions, space) = (dense.dimensions, dense.space.name());
                    format!("{counts}; of {dimensions} dimensions, brought by documents, compared by {space}")
                }
            }
        }
        None => "none: lexical only".to_owned(),
    };
    let way = stats.dense_search.map_or("none".to_owned(), |search| {
        let (quantised, graph) = (grouped(stats.quantised_vectors), grouped(stats.graph_vectors));
        format!("{}; {quantised} vectors quantised, {graph} in graphs", search.name())
    });
    let lines = [
        ("index", name.to_string()),
        ("documents", grouped(stats.documents)),
        ("vectors", vectors),
        ("searched", way),
        ("segments", format!("{} lexical, {} of vectors", stats.lexical_segments, stats.vector_segments)),
        ("pending", counted(stats.pending_changes as usize, "change in the log", "changes in the log")),
        ("on disk", format!("{} bytes", grouped(stats.disk_bytes))),
        ("language", format!("{:?}", index.settings().language).to_lowercase()),
        ("metadata", if metadata.is_empty() { "none".to_owned() } else { metadata.join(", ") }),
        ("folder", index.dir().display().to_string()),
    ];
    let damage = stats.damage.iter().map(|damage| {
        ("damage", format!("{damage}; searched without it, `orion index commit {name}` makes it anew"))
    });
    lines.into_iter().chain(damage).map(|(label, value)| format!("{label:<10} {value}\n")).collect()
}

fn list(session: &Session) -> Result<Verdict, Failure> {
    let names = session.places.index_names()?;
    if session.terminal.json {
        session.terminal.print_json(&names)?;
    } else if names.is_empty() {
        session.terminal.say("there are no indexes yet; `orion index add NAME FILE` makes one");
    } else {
        session.terminal.print(&(names.join("\n") + "\n"))?;
    }
    Ok(Verdict::Answered)
}

fn drop_index(name: &IndexName, yes: bool, session: &Session) -> Result<Verdict, Failure> {
    if !session.places.index(name).exists() {
        return Err(Failure::new(format!("dropping index `{name}`: there is none of that name"))
            .hint("`orion index list` lists them"));
    }
    if !yes && !asked_back(name)? {
        session.terminal.say("nothing was removed");
        return Ok(Verdict::NoAnswer);
    }
    session.places.catalog()?.delete(&name.to_string()).attempt(format!("dropping index `{name}`"))?;
    session.terminal.say(&format!("removed index {name}"));
    print_done(session, serde_json::json!({ "index": name.to_string(), "dropped": true }))
}

/// Asks on the terminal; without one, removal needs `--yes`.
fn asked_back(name: &IndexName) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(format!("dropping index `{name}`: there is no terminal to ask back on"))
            .hint("--yes removes it without asking"));
    }
    let mut stderr = std::io::stderr().lock();
    // Where the question cannot be written, no answer will come either.
    let _ = write!(stderr, "remove index {name} and everything in it? [y/N] ");
    let _ = stderr.flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).attempt("reading the answer")?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn print_done(session: &Session, value: serde_json::Value) -> Result<Verdict, Failure> {
    if session.terminal.json {
        session.terminal.print_json(&value)?;
    }
    Ok(Verdict::Answered)
}
