//! `orion plot`: the tables of earlier evaluations as charts.

use std::path::Path;

use orion_eval::{TableA, plots};

use super::Session;
use crate::{
    Verdict,
    args::PlotArgs,
    evaluation::score::TABLE_FILE,
    failure::{Explain, Failure},
};

pub(super) fn run(args: &PlotArgs, session: &Session) -> Result<Verdict, Failure> {
    let tables = args.runs.iter().map(|folder| read(folder)).collect::<Result<Vec<TableA>, _>>()?;
    let files = plots::draw(&tables, &args.out)?;
    let paths: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if session.terminal.json {
        session.terminal.print_json(&paths)?;
    } else {
        session.terminal.print(&format!("{}\n", paths.join("\n")))?;
    }
    Ok(Verdict::Answered)
}

fn read(folder: &Path) -> Result<TableA, Failure> {
    let path = folder.join(TABLE_FILE);
    let attempted = || format!("reading `{}`", path.display());
    let text = std::fs::read_to_string(&path)
        .attempt(attempted())
        .map_err(|failure| failure.hint("`orion eval --out FOLDER` writes one"))?;
    serde_json::from_str(&text).attempt(attempted())
}
