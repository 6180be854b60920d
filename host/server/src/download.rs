//! Files from elsewhere: fetching with progress, and the digests that say whether they are the right ones.
//!
//! HTTP is left to `curl`: a TLS stack of our own would double the build for a few files. Neighbours: `minilm` and
//! `commands::data` say what is fetched and which digest it must have.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sha2::Digest;

use crate::{
    failure::{Explain, Failure},
    terminal::Terminal,
};

/// Long enough for a slow handshake, short enough that a machine behind a wall goes on to the next source.
const CONNECT_SECONDS: &str = "5";

/// Fetches an address into a file; one that is there in part is gone on with where the server can.
pub(crate) fn over_http(
    url: &str,
    to: &Path,
    what: &str,
    bytes: Option<u64>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let child = Command::new("curl")
        .args(["--fail", "--location", "--silent", "--show-error", "--proto", "=http,https"])
        .args(["--connect-timeout", CONNECT_SECONDS, "--speed-limit", "1000", "--speed-time", "15"])
        .args(["--continue-at", "-", "--output"])
        .arg(to)
        .args(["--", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .attempt("starting `curl`")?;
    watch(child, what, bytes, to, terminal)
}

/// Waits for a download, drawing what has arrived under `path` (a file, or a folder's contents together).
pub(crate) fn watch(
    mut child: Child,
    what: &str,
    bytes: Option<u64>,
    path: &Path,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let bar = terminal.byte_bar(what, bytes);
    let status = loop {
        if let Some(status) = child.try_wait().attempt(what)? {
            break status;
        }
        bar.set_position(size_of(path).min(bytes.unwrap_or(u64::MAX)));
        std::thread::sleep(Duration::from_millis(100));
    };
    bar.finish_and_clear();
    if status.success() {
        return Ok(());
    }
    let mut talk = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // The status already says that it failed; its own words are a courtesy.
        let _ = stderr.read_to_string(&mut talk);
    }
    let last = talk.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(Failure::new(format!("{what}: {status}: {}", last.trim())))
}

fn size_of(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size_of(&entry.path())).sum(),
        Err(_) => fs::metadata(path).map_or(0, |found| found.len()),
    }
}

/// The digest of a file in hexadecimal; `each` hears of the bytes as they are read.
pub(crate) fn digest<D: Digest>(path: &Path, mut each: impl FnMut(u64)) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = D::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        each(read as u64);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
