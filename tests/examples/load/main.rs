//! Load on `orion serve`: how quick it is with many at once, and whether it stays as large as it was.
//!
//! `load latency PROGRAM SECONDS` asks lexical, hybrid, adaptive and `auto` searches with 1, 2, 4, 8 and 16 clients, SECONDS
//! each, then far more adaptive ones than there is room for; `load flat PROGRAM SECONDS` keeps a mix of everything going
//! (searches, changes, deletions, indexes made anew, plugins exchanged, searches given up) and looks at the server's memory.
//! PROGRAM is a built `orion`; it is started over a folder that goes away, with the bundled corpus, and `--models-dir`
//! behind it names the encoder's folder (without one, what is hybrid is lexical). Prints one JSON object; exit status 1
//! where an answer was neither an answer nor a refusal for want of room, or memory kept rising. Loopback only.

mod flat;
mod latency;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Whatever went wrong, said once.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mode, program, seconds, models) = match arguments.as_slice() {
        [mode, program, seconds] => (mode.as_str(), program, seconds, None),
        [mode, program, seconds, option, models] if option == "--models-dir" => {
            (mode.as_str(), program, seconds, Some(PathBuf::from(models)))
        }
        _ => return Err("usage: load latency|flat PROGRAM SECONDS [--models-dir FOLDER]".into()),
    };
    let duration = Duration::from_secs(seconds.parse()?);
    let program = Path::new(program).canonicalize()?;
    let models = models.map(|folder| folder.canonicalize()).transpose()?;
    let (report, is_sound) = match mode {
        "latency" => latency::run(&program, models.as_deref(), duration)?,
        "flat" => flat::run(&program, models.as_deref(), duration)?,
        other => return Err(format!("expected latency or flat, got `{other}`").into()),
    };
    println!("{report:#}");
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
