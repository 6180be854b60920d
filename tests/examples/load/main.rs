//! Load on `orion serve`: how quick it is with many at once, and whether it stays as large as it was.
//!
//! `load latency PROGRAM SECONDS` asks lexical, hybrid, adaptive and `auto` searches with 1, 2, 4, 8 and 16 clients, SECONDS
//! each, then far more adaptive ones than there is room for; `load flat PROGRAM SECONDS` keeps a mix of everything going
//! (searches, changes, deletions, indexes made anew, plugins exchanged, searches given up) and looks at the server's memory.
//! `load postgres PROGRAM SECONDS --models-dir FOLDER --programs BIN` asks lexical and hybrid searches of it and, in turn, of a
//! PostgreSQL with pgvector over the same documents, whose programs are in BIN. `load two` takes the same and asks first one
//! `orion serve` over such a PostgreSQL, then two of them over the same, with the same clients spread over both, and holds their
//! answers against each other. `load kill PROGRAM KILLS` kills the server under bulk load, that many times, and looks after
//! each for every document that it acknowledged.
//! PROGRAM is a built `orion`; it is started over a folder that goes away, with the bundled corpus, and `--models-dir`
//! behind it names the encoder's folder (without one, what is hybrid is lexical). Prints one JSON object; exit status 1
//! where an answer was neither an answer nor a refusal for want of room, memory kept rising, two servers did not answer alike,
//! or a document was lost. Loopback only.

mod flat;
mod kill;
mod kills;
mod latency;
mod postgres;
mod server;
mod two;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Whatever went wrong, said once.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: load latency|flat PROGRAM SECONDS [--models-dir FOLDER]
       load postgres|two PROGRAM SECONDS --models-dir FOLDER --programs POSTGRES_BIN
       load kill PROGRAM KILLS [--models-dir FOLDER]";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, program, number, options @ ..] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (mut models, mut programs) = (None, None);
    for option in options.chunks(2) {
        match option {
            [name, folder] if name == "--models-dir" => models = Some(Path::new(folder).canonicalize()?),
            [name, folder] if name == "--programs" => programs = Some(Path::new(folder).canonicalize()?),
            _ => return Err(USAGE.into()),
        }
    }
    let number: u64 = number.parse().map_err(|error| format!("`{number}`: {error}\n{USAGE}"))?;
    let duration = Duration::from_secs(number);
    let program = Path::new(program).canonicalize()?;
    let (report, is_sound) = match (mode.as_str(), programs) {
        ("latency", None) => latency::run(&program, models.as_deref(), duration)?,
        ("flat", None) => flat::run(&program, models.as_deref(), duration)?,
        ("kill", None) => kill::run(&program, models.as_deref(), usize::try_from(number)?)?,
        ("two", Some(programs)) => two::run(&program, models.as_deref(), &programs, duration)?,
        ("postgres", Some(programs)) => postgres::run(&program, models.as_deref(), &programs, duration)?,
        _ => return Err(USAGE.into()),
    };
    println!("{report:#}");
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
