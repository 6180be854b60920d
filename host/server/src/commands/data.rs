//! `orion data fetch | list`: judged sets from their public homes. Neighbour: `import` brings in other layouts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use md5::Md5;
use orion_eval::{ArchiveLimits, Dataset, unpack_beir};

use super::Session;
use crate::{
    Verdict,
    args::{DataCommand, plain_name},
    download,
    failure::{Explain, Failure},
};

/// Where BEIR (Thakur et al., arXiv:2104.08663) keeps its archives.
const BEIR: &str = "https://public.ukp.informatik.tu-darmstadt.de/thakur/BEIR/datasets";

/// A set that is known by name.
struct Known {
    name: &'static str,
    /// As BEIR's list of data sets publishes it.
    md5: &'static str,
    /// Judged queries of the test split (of MS MARCO: the development split), and documents.
    queries: &'static str,
    documents: &'static str,
}

const fn known(
    name: &'static str,
    md5: &'static str,
    queries: &'static str,
    documents: &'static str,
) -> Known {
    Known { name, md5, queries, documents }
}

const SETS: [Known; 14] = [
    known("arguana", "8ad3e3c2a5867cdced806d6503f29b99", "1,406", "8.67K"),
    known("climate-fever", "8b66f0a9126c521bae2bde127b4dc99d", "1,535", "5.42M"),
    known("dbpedia-entity", "c2a39eb420a3164af735795df012ac2c", "400", "4.63M"),
    known("fever", "5a818580227bfb4b35bb6fa46d9b6c03", "6,666", "5.42M"),
    known("fiqa", "17918ed23cd04fb15047f73e6c3bd9d9", "648", "57K"),
    known("hotpotqa", "f412724f78b0d91183a0e86805e16114", "7,405", "5.23M"),
    known("msmarco", "444067daf65d982533ea17ebd59501e4", "6,980", "8.84M"),
    known("nfcorpus", "a89dba18a62ef92f7d323ec890a0d38d", "323", "3.6K"),
    known("nq", "d4d3d2e48787a744b6f6e691ff534307", "3,452", "2.68M"),
    known("quora", "18fb154900ba42a600f84b839c173167", "10,000", "523K"),
    known("scidocs", "38121350fc3a4d2f48850f6aff52e4a9", "1,000", "25K"),
    known("scifact", "5f7d1de60b170fc8027bb7898e2efca1", "300", "5K"),
    known("trec-covid", "ce62140cb23feb9becf6270d0d1fe6d1", "50", "171K"),
    known("webis-touche2020", "46f650ba5a527fc69e0a6521c5a23563", "49", "382K"),
];

pub(super) fn run(command: &DataCommand, session: &Session) -> Result<Verdict, Failure> {
    match command {
        DataCommand::List => list(session),
        DataCommand::Import(command) => super::import::run(command, session),
        DataCommand::Fetch { name, into, url, archive, md5 } => {
            let order =
                Order { name, into, url: url.as_deref(), archive: archive.as_deref(), md5: md5.as_deref() };
            fetch(&order, session)
        }
    }
}

fn list(session: &Session) -> Result<Verdict, Failure> {
    let terminal = &session.terminal;
    if terminal.json {
        let sets = SETS.iter().map(|set| {
            serde_json::json!({
                "name": set.name, "md5": set.md5, "queries": set.queries, "documents": set.documents,
                "url": format!("{BEIR}/{}.zip", set.name),
            })
        });
        terminal.print_json(&sets.collect::<Vec<_>>())?;
    } else {
        for set in &SETS {
            terminal.print(&format!(
                "{:<18} {:>7} queries {:>6} documents\n",
                set.name, set.queries, set.documents
            ))?;
        }
    }
    Ok(Verdict::Answered)
}

struct Order<'a> {
    name: &'a str,
    into: &'a Path,
    url: Option<&'a str>,
    archive: Option<&'a Path>,
    md5: Option<&'a str>,
}

fn fetch(order: &Order<'_>, session: &Session) -> Result<Verdict, Failure> {
    let set = SETS.iter().find(|set| set.name == order.name);
    plain_name(order.name).map_err(|expected| {
        Failure::new(format!("fetching a judged set: {expected}, got `{}`", order.name))
    })?;
    if set.is_none() && order.url.is_none() && order.archive.is_none() {
        return Err(Failure::new(format!("fetching `{}`: no such set is known", order.name))
            .hint("`orion data list` has the names; --url and --archive take sets from elsewhere"));
    }
    let folder = order.into.join(order.name);
    if folder.exists() {
        let problem = format!("fetching `{}`: `{}` is there already", order.name, folder.display());
        return Err(Failure::new(problem).hint("remove it, or name another folder with --into"));
    }
    fs::create_dir_all(order.into).attempt(format!("creating `{}`", order.into.display()))?;
    let wanted = order.md5.or(set.map(|known| known.md5));
    let (archive, is_ours) = match order.archive {
        Some(file) => (file.to_owned(), false),
        None => (order.into.join(format!("{}.zip.part", order.name)), true),
    };
    if is_ours {
        let url = order.url.map_or_else(|| format!("{BEIR}/{}.zip", order.name), str::to_owned);
        get(&url, &archive, wanted, order.name, session)?;
    }
    if let Some(expected) = wanted {
        let got = md5_of(&archive, session)?;
        if got != expected.to_ascii_lowercase() {
            if is_ours {
                // Going on with wrong bytes would never make right ones.
                let _ = fs::remove_file(&archive);
            }
            return Err(Failure::new(format!(
                "checking the archive of `{}`: expected MD5 {expected}, got {got}",
                order.name
            )));
        }
    } else {
        session
            .terminal
            .warn("no MD5 is known for this archive: it is taken as it came; --md5 would hold it to one");
    }
    let spinner = session.terminal.spinner(&format!("unpacking {}", order.name));
    let unpacked = unpack_beir(&archive, &folder, &ArchiveLimits::default());
    spinner.finish_and_clear();
    let dataset = unpacked.attempt(format!("unpacking `{}`", order.name))?;
    if is_ours {
        let _ = fs::remove_file(&archive);
    }
    report(&dataset, &folder, session)
}

/// Fetches what is missing of the archive. Where a server cannot go on in the middle, the file is fetched anew.
fn get(url: &str, part: &Path, wanted: Option<&str>, name: &str, session: &Session) -> Result<(), Failure> {
    let terminal = &session.terminal;
    let begun = part.exists();
    if begun && wanted.is_some_and(|expected| md5_of(part, session).is_ok_and(|got| got == expected)) {
        return Ok(());
    }
    let what = format!("fetching {name}");
    let mut outcome = download::over_http(url, part, &what, None, terminal);
    if begun && outcome.is_err() {
        let _ = fs::remove_file(part);
        outcome = download::over_http(url, part, &what, None, terminal);
    }
    outcome.map_err(|failure| {
        failure.hint("--url names another address, --archive a file that is here already; what has come is gone on with")
    })
}

fn md5_of(archive: &Path, session: &Session) -> Result<String, Failure> {
    let bar = session.terminal.byte_bar("checking", fs::metadata(archive).ok().map(|found| found.len()));
    let got = download::digest::<Md5>(archive, |bytes| bar.inc(bytes));
    bar.finish_and_clear();
    got.attempt(format!("reading `{}`", archive.display()))
}

fn report(dataset: &Dataset, folder: &Path, session: &Session) -> Result<Verdict, Failure> {
    let (queries, splits) = (dataset.queries()?.len(), dataset.splits()?);
    let folder: PathBuf = folder.to_owned();
    if session.terminal.json {
        let value = serde_json::json!({
            "name": dataset.name(), "folder": folder, "queries": queries, "splits": splits,
        });
        session.terminal.print_json(&value)?;
    } else {
        let line = format!("{}  {queries} queries, judged splits: {}\n", folder.display(), splits.join(", "));
        session.terminal.print(&line)?;
    }
    Ok(Verdict::Answered)
}
