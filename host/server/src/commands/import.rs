//! `orion data import`: judged sets of other layouts, brought into the one that `orion eval` reads.
//!
//! Reading and writing is `orion-eval`'s; here are progress, words for people, and hints. Neighbour: `data` fetches sets
//! that are in that layout already.

use std::path::Path;

use indicatif::ProgressBar;
use orion_eval::{
    BeirWriter, BrightDocuments, BrightTask, EvalError, Imported, Judged, TopicField, copy_corpus, read_trec,
};

use super::Session;
use crate::{
    Verdict,
    args::{BrightArgs, BrightTable, FieldChoice, ImportCommand, ImportTarget, TrecArgs},
    failure::{Explain, Failure},
    terminal::grouped,
    tree::counted,
};

/// The spinner says a new number after so many documents.
const DOCUMENTS_A_WORD: u64 = 1_000;

pub(super) fn run(command: &ImportCommand, session: &Session) -> Result<Verdict, Failure> {
    match command {
        ImportCommand::Bright(args) => bright(args, session),
        ImportCommand::Trec(args) => trec(args, session),
    }
}

fn bright(args: &BrightArgs, session: &Session) -> Result<Verdict, Failure> {
    let task = BrightTask {
        folder: &args.folder,
        task: args.task.as_deref(),
        documents: match args.documents {
            BrightTable::Passages => BrightDocuments::Passages,
            BrightTable::Pages => BrightDocuments::Pages,
        },
        examples: &args.examples,
    };
    let name = args.task.clone().unwrap_or_else(|| args.folder.display().to_string());
    let imported = import(&args.target, &name, session, |set, progress| task.copy(set, progress));
    let imported =
        imported.map_err(|failure| match (&args.task, args.folder.join("documents").is_dir()) {
            (None, true) => {
                failure.hint("--task names a task, where the folder is that of the whole benchmark")
            }
            _ => failure,
        })?;
    report(&imported, &args.target, &[], session)
}

fn trec(args: &TrecArgs, session: &Session) -> Result<Verdict, Failure> {
    let field = match args.field {
        FieldChoice::Title => TopicField::Title,
        FieldChoice::Description => TopicField::Description,
        FieldChoice::Both => TopicField::TitleAndDescription,
    };
    let (judged, strangers) =
        read_trec(&args.topics, field, &args.qrels).attempt("importing TREC topics and judgements")?;
    let name = args.corpus.display().to_string();
    let imported = import(&args.target, &name, session, |set, progress| {
        copy_corpus(&args.corpus, set, progress)?;
        Ok(judged)
    })?;
    let strangers: Vec<String> = strangers.into_iter().collect();
    if let Some(first) = strangers.first() {
        session.terminal.warn(&format!(
            "{} no topic: left out, such as `{first}`",
            counted(strangers.len(), "judged query has", "judged queries have")
        ));
    }
    if imported.absent_documents != 0 {
        session.terminal.warn(&format!(
            "{} not in the collection and will count as missed",
            counted(imported.absent_documents, "judged document is", "judged documents are")
        ));
    }
    report(&imported, &args.target, &strangers, session)
}

/// Writes a set with a sign of life beside it.
fn import(
    target: &ImportTarget,
    name: &str,
    session: &Session,
    read: impl FnOnce(&mut BeirWriter, &mut dyn FnMut()) -> Result<Judged, EvalError>,
) -> Result<Imported, Failure> {
    let what = format!("importing {name}");
    let mut set = BeirWriter::create(&target.out)?;
    let spinner = session.terminal.spinner(&what);
    let mut documents = 0_u64;
    let judged = read(&mut set, &mut || count(&mut documents, &what, &spinner));
    let imported = judged.and_then(|judged| set.finish(&target.split, &judged));
    spinner.finish_and_clear();
    // The error names file and place; what was attempted is said once.
    Ok(imported?)
}

fn count(documents: &mut u64, what: &str, spinner: &ProgressBar) {
    *documents += 1;
    if documents.is_multiple_of(DOCUMENTS_A_WORD) {
        spinner.set_message(format!("{what}: {} documents", grouped(*documents)));
    }
}

fn report(
    imported: &Imported,
    target: &ImportTarget,
    strangers: &[String],
    session: &Session,
) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    let folder: &Path = &target.out;
    if terminal.json {
        let mut value = serde_json::to_value(imported).attempt("writing what was imported as JSON")?;
        value["folder"] = serde_json::json!(folder);
        value["split"] = serde_json::json!(target.split);
        value["queries_without_topic"] = serde_json::json!(strangers);
        terminal.print_json(&value)?;
        return Ok(Verdict::Answered);
    }
    let mut line = format!(
        "{}  {}, {}, {}",
        folder.display(),
        counted(imported.documents, "document", "documents"),
        counted(imported.judged_queries, "judged query", "judged queries"),
        counted(imported.judgements, "judgement", "judgements"),
    );
    if imported.excluded != 0 {
        line.push_str(&format!(", {}", counted(imported.excluded, "exclusion", "exclusions")));
    }
    terminal.print(&format!("{line}\n"))?;
    let split = if target.split == "test" { String::new() } else { format!(" --split {}", target.split) };
    terminal.say(&format!("orion eval --data {}{split} measures on it", folder.display()));
    Ok(Verdict::Answered)
}
